"""Calls of a module with other parameters and buffers than its own."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jtorch._tensor import Tensor
from jtorch.nn.modules.module import Module


def _tied_names(module: Module, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under all names that the module has for what `names` replace."""
    aliases: dict[int, list[str]] = {}
    own: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    own.update(module.named_buffers(remove_duplicate=False))
    for name, t in own.items():
        aliases.setdefault(id(t), []).append(name)
    result = dict(names)
    for name, t in names.items():
        tied = aliases.get(id(own.get(name)), ())
        given = {id(names[other]) for other in tied if other in names}
        if len(given) > 1:
            raise ValueError(f"functional_call got multiple values for keys {sorted(tied)}, which are tied. Consider "
                             "using tie_weights=False")
        result.update(dict.fromkeys(tied, t))
    return result


def _table_of(module: Module, name: str) -> dict[str, Any] | None:
    for table in (module._parameters, module._buffers):
        if name in table:
            return table
    return None


@contextmanager
def _replaced(module: Module, tensors: Mapping[str, Tensor], strict: bool) -> Iterator[None]:
    places = []
    unexpected = []
    for path, t in tensors.items():
        prefix, _, name = path.rpartition(".")
        try:
            owner = module.get_submodule(prefix)
        except AttributeError:
            unexpected.append(path)
            continue
        table = _table_of(owner, name)
        if table is None:
            unexpected.append(path)
        else:
            places.append((table, name, t))
    if strict:
        own = {*dict(module.named_parameters()), *dict(module.named_buffers())}
        missing = sorted(own - set(tensors))
        errors = [f"{kind} key(s): {', '.join(map(repr, keys))}."
                  for kind, keys in (("Unexpected", unexpected), ("Missing", missing)) if keys]
        if errors:
            raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}:\n\t" + "\n\t".join(errors))
    elif unexpected:
        raise AttributeError(f"{type(module).__name__} has no parameter or buffer `{unexpected[0]}`")
    before = [(table, name, table[name]) for table, name, _ in places]
    try:
        for table, name, t in places:
            table[name] = t
        yield
    finally:
        for table, name, t in before:
            table[name] = t


def functional_call(module: Module, parameters_and_buffers: Mapping[str, Tensor], args: Any = None,
                    kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True, strict: bool = False) -> Any:
    """`module(*args, **kwargs)` with the tensors of `parameters_and_buffers` (by dotted path) in place of its own.

    With `tie_weights`, a tensor also stands in where the module uses the replaced one under another name; with
    `strict`, every parameter and buffer has to be given. Raises AttributeError (strict: RuntimeError) for unknown
    names.
    """
    tensors = _tied_names(module, parameters_and_buffers) if tie_weights else dict(parameters_and_buffers)
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    with _replaced(module, tensors, strict):
        return module(*arguments, **(kwargs or {}))
