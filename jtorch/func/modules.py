"""Modules as functions of their parameters and buffers."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jtorch._tensor import Tensor
from jtorch.ops import FUNCTIONS


def functional_call(module: Any, parameter_and_buffer_dicts: Any, args: Any = None,
                    kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True, strict: bool = False) -> Any:
    """`module(*args, **kwargs)` with tensors of a dictionary (or of several with different keys) in the place of the
    parameters and buffers of these names.

    What the module writes to its buffers shows in the dictionaries. With `tie_weights`, a tensor that the module has
    under several names is replaced under all of them. With `strict`, the dictionaries have to name all parameters and
    buffers and nothing else. Raises ValueError for names given twice, RuntimeError where `strict` is not met.
    """
    if isinstance(parameter_and_buffer_dicts, dict):
        tensors = parameter_and_buffer_dicts
    elif isinstance(parameter_and_buffer_dicts, Sequence):
        if not all(isinstance(d, dict) for d in parameter_and_buffer_dicts):
            raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
        names = [k for d in parameter_and_buffer_dicts for k in d]
        repeated = sorted({k for k in names if names.count(k) > 1})
        if repeated:
            raise ValueError(f"{repeated} appeared in multiple dictionaries; behavior of functional call is ambiguous")
        tensors = {k: v for d in parameter_and_buffer_dicts for k, v in d.items()}
    else:
        raise ValueError("Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got "
                         f"{type(parameter_and_buffer_dicts)}")
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    with replaced_tensors(module, tensors, tie_weights, strict):
        return module(*arguments, **(kwargs or {}))


def _all_tensors(module: Any) -> dict[str, Tensor]:
    return {**dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False))}


@contextmanager
def replaced_tensors(module: Any, tensors: dict[str, Tensor], tie_weights: bool, strict: bool) -> Iterator[None]:
    """The module with other tensors in it; at the end, what it assigned to these names is written to `tensors`."""
    present = _all_tensors(module)
    if strict:
        missing, unexpected = sorted(set(present) - set(tensors)), sorted(set(tensors) - set(present))
        if missing or unexpected:
            reasons = ([f"Unexpected key(s): {', '.join(map(repr, unexpected))}."] if unexpected else []) + (
                [f"Missing key(s): {', '.join(map(repr, missing))}."] if missing else [])
            raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}:\n\t" + "\n\t".join(reasons))
    wanted = {name: t for name, t in tensors.items() if name in present}
    if tie_weights:
        ties: dict[int, list[str]] = {}
        for name, t in present.items():
            ties.setdefault(id(t), []).append(name)
        for names in ties.values():
            given = [n for n in names if n in wanted]
            if len({id(wanted[n]) for n in given}) > 1:
                raise ValueError(f"functional_call got multiple values for keys {sorted(given)}, which are tied. "
                                 "Consider using tie_weights=False")
            wanted.update((n, wanted[given[0]]) for n in names if given)
    homes = []  # (table, name in it, what was there, name from the root)
    for path, t in wanted.items():
        prefix, _, name = path.rpartition(".")
        owner = module.get_submodule(prefix)
        table = owner._parameters if name in owner._parameters else owner._buffers
        homes.append((table, name, table[name], path))
        table[name] = t
    try:
        yield
    finally:
        for table, name, before, path in homes:
            if path in tensors:
                tensors[path] = table[name]
            table[name] = before


def stack_module_state(models: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(parameters, buffers) of models of one class, stacked by name: what `vmap` maps over for an ensemble.

    The stacked parameters are new leaves. Raises RuntimeError where the models differ in class, mode or
    `requires_grad`.
    """
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if len({type(m) for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    tables = ([dict(m.named_parameters()) for m in models], [dict(m.named_buffers()) for m in models])
    parameters, buffers = ({name: _stacked([t[name] for t in table], name) for name in table[0]} for table in tables)
    return parameters, buffers


def _stacked(tensors: Sequence[Tensor], name: str) -> Tensor:
    flags = {t.requires_grad for t in tensors}
    if len(flags) > 1:
        raise RuntimeError(f"Expected {name} from each model to have the same .requires_grad")
    result = FUNCTIONS["stack"]([t.detach() for t in tensors])
    return result.requires_grad_(flags.pop())


def replace_all_batch_norm_modules_(root: Any) -> Any:
    """Let every batch norm under `root` use the statistics of its batch and keep no running ones, in place."""
    for m in root.modules():
        if hasattr(m, "track_running_stats") and hasattr(m, "running_mean"):
            m.running_mean = m.running_var = m.num_batches_tracked = None
            m.track_running_stats = False
    return root


def functionalize(func: Any, *, remove: str = "mutations") -> Any:
    """`func` as it is: what is recorded of it holds no mutation and no view that aliases."""
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(f"functionalize(f, remove='mutations'): received invalid argument for remove={remove}. "
                           "Valid options are 'mutations' and 'mutations_and_views'")
    return func
