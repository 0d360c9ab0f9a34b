"""From a call with tensors to Values, and back.

A *value function* is written on Values: `def softmax(input: Value, dim, dtype=None) -> Value`. It validates, promotes,
and applies operations. `operator` makes the public function of it: tensors become Values, Python numbers in
parameters annotated `Operand` become run-time scalars, everything else is static. The result is interned by
(function, arguments), so the value function's Python runs once per distinct call, not once per call.
"""
from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jtorch._tensor import Tensor, wrap
from jtorch.capture import autocast
from jtorch.capture.record import Recorder, current
from jtorch.ir.graph import Value, kind_of
from jtorch.ir.prims.create import leaf
from jtorch.ir.prims.movement import reshape
from jtorch.runtime.memory import allocator

ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "<absent>", "__slots__": ()})()
NUMBERS = (bool, int, float, complex)
CONSTANTS = frozenset([(t, x) for t in (int, float) for x in (-2, -1, 0, 1, 2, 3)] +
                       [(float, 0.5), (float, -0.5), (bool, True), (bool, False)])
"""Numbers that are worth a constant: the compiler simplifies with them. The others do not enter cache keys."""
OPERAND = "o"
"""The kind of a parameter that takes tensors or numbers. (This object is in `Function.kinds`: the built-in functions
compare it by identity.)"""
LARGE = 1 << 30
"""Results of so many bytes are refused at the user's line if there is no room for them."""


class Function:
    """A value function, and which of its parameters are tensors ('v'), numbers or tensors ('o'), static ('s')."""

    __slots__ = ("body", "kinds", "name", "names", "positional", "wants_builder", "sequences", "gaps", "optional")

    def __init__(self, body: Callable[..., Any]) -> None:
        self.body = body
        self.name = body.__name__.rstrip("_")
        names = parameter_names(body)
        self.wants_builder = names[:1] == ("builder",)
        self.names = names[1:] if self.wants_builder else names
        self.positional = body.__code__.co_argcount - self.wants_builder
        written = [str(body.__annotations__.get(n, "")) for n in self.names]
        self.sequences = tuple(["..." in w for w in written])
        self.gaps = tuple(["None, ..." in w for w in written])  # sequences that may hold None
        self.optional = tuple(["| None" in w for w in written])
        self.kinds = tuple([OPERAND if "Operand" in w else "v" if "Value" in w else "s" for w in written])

    def apply(self, recorder: Recorder, values: list[Any]) -> Any:
        n = self.positional
        first = (recorder.builder,) if self.wants_builder else ()
        return self.body(*first, *values[:n], **dict(zip(self.names[n:], values[n:])))


def parameter_names(body: Callable[..., Any]) -> tuple[str, ...]:
    code = body.__code__
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        raise TypeError("an operator has named parameters only")
    return code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]


def evaluate(function: Function, args: tuple[Any, ...]) -> Any:
    """Values of the function on tensors and other arguments."""
    recorder = current.recorder
    found = recorder.look_up(recorder, function, *args)
    if found is not None:
        return found
    epoch = recorder.epoch
    key: list[Any] = [function]
    values: list[Any] = []
    for kind, a in zip(function.kinds, args):
        if isinstance(a, Tensor):
            a = a._value if a._epoch is epoch and a._version == a._storage.version else recorder.enter(a)
            key.append(a)
        elif a is None or type(a) is str:
            key.append(a)
        elif kind == "o" and type(a) in NUMBERS:
            number = (type(a), a)
            if number in CONSTANTS:
                key.append(number if a else (type(a), str(a)))  # 0.0 == -0.0
            else:
                a = recorder.scalar(a)
                key.append(a)
        elif type(a) is int or type(a) is bool:
            key.append((type(a), a))
        elif type(a) is tuple or type(a) is list:
            a, of_values = entered(recorder, a)
            key.append(a if of_values else (kind_of(a), a))
        else:
            a = static(recorder, a)
            key.append((kind_of(a), a))
        values.append(a)
    packed = tuple(key)
    found = recorder.calls.get(packed)
    if found is None:
        check_tensors(function, values)
        if recorder.autocast is not None:
            values = autocast.arguments(function.name, values, recorder.autocast)
        try:
            found = function.apply(recorder, values)
        except AssertionError:
            raise
        except Exception as error:
            error.__traceback__ = None  # show the user's line and this one, not our inside
            raise
        if type(found) is Value and found.op is leaf and found.attrs[0] < 0:
            found = recorder.builder.intern(reshape, (found,), ((),))  # contents of a tensor are not a Python number
        for v in found if isinstance(found, tuple | list) else (found,):
            if isinstance(v, Value) and v.type.nbytes >= LARGE:
                allocator.ensure(v.type.nbytes)
        recorder.calls[packed] = found
    return found


def check_tensors(function: Function, values: list[Any]) -> None:
    """TypeError where a parameter that takes tensors or numbers was given something else, or no operand is a tensor."""
    if function.kinds[:1] == ("o",) and not function.wants_builder and not any(
            type(a) is Value and not (a.op.kind == "leaf" and a.attrs[0] < 0) for a in values):
        raise TypeError(f"{function.name}(): argument '{function.names[0]}' (position 1) must be Tensor, not "
                        f"{'float' if type(values[0]) is Value else type(values[0]).__name__}")
    for i, (kind, a) in enumerate(zip(function.kinds, values)):
        if kind == "o" and type(a) is not Value and not isinstance(a, NUMBERS) and not (
                a is None and function.optional[i]):
            raise TypeError(f"{function.name}(): argument '{function.names[i]}' (position {i + 1}) must be Tensor or "
                            f"Number, not {type(a).__name__}")
        if kind != "v" or (a is None and function.optional[i]) or (type(a) is Value and not function.sequences[i]):
            continue
        wanted = "tuple of Tensors" if function.sequences[i] else "Tensor"
        if not function.sequences[i] or type(a) is not tuple:
            raise TypeError(f"{function.name}(): argument '{function.names[i]}' (position {i + 1}) must be {wanted}, "
                            "not "
                            f"{'Tensor' if type(a) is Value else type(a).__name__}")
        for j, item in enumerate(a):
            if type(item) is not Value and not (item is None and function.gaps[i]):
                raise TypeError(f"expected Tensor as element {j} in argument {i}, but got {type(item).__name__}")


def entered(recorder: Recorder, items: Sequence[Any]) -> tuple[tuple[Any, ...], bool]:
    """`static` of a sequence, and whether it holds nothing but Values and None, which are their own keys."""
    epoch = recorder.epoch
    found: list[Any] = []
    of_values = True
    for a in items:
        if isinstance(a, Tensor):
            a = a._value if a._epoch is epoch and a._version == a._storage.version else recorder.enter(a)
        elif a is not None:
            a = static(recorder, a)
            of_values = False
        found.append(a)
    return tuple(found), of_values


def static(recorder: Recorder, a: Any) -> Any:
    """A static argument, hashable: lists become tuples, tensors inside them Values, NumPy numbers Python's."""
    if isinstance(a, (tuple, list)):
        return tuple([static(recorder, x) for x in a])
    if isinstance(a, Tensor):
        return recorder.value(a)
    if isinstance(a, np.generic):
        return a.item()
    return a


def wrap_result(result: Any) -> Any:
    """Values in a result, at any depth of tuples, as tensors."""
    if type(result) is Value:
        return wrap(current.recorder, result)
    if isinstance(result, (tuple, list)):
        recorder = current.recorder
        recorder.holding += 1  # a flush would leave the later values behind in the old epoch
        try:
            items = [wrap_result(r) for r in result]
        finally:
            recorder.holding -= 1
        if recorder.epoch.flush_now:
            recorder.after_record()
        return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)
    return result


def operator(body: Callable[..., Any]) -> Callable[..., Any]:
    """The public function of a value function, with the same signature (less `builder`), which also takes NumPy's names
    `axis` and `keepdims`."""
    function = Function(body)
    names, positional = function.names, function.positional
    defaults = dict(zip(reversed(names[:positional]), reversed(body.__defaults__ or ())))
    keyword_defaults = dict(body.__kwdefaults__ or {})
    renamed = [(theirs, ours) for theirs, ours in (("axis", "dim"), ("keepdims", "keepdim"))
               if ours in names and theirs not in names]
    required = []
    for theirs, ours in renamed:
        keyword_defaults[theirs] = ABSENT
        place = names.index(ours)
        if place < positional and ours not in defaults and all(n in defaults for n in names[place + 1:positional]):
            defaults[ours] = ABSENT
            required.append(ours)
    shape = (positional, len(names) - positional, tuple([(names.index(ours), ours in required) for _, ours in renamed]))
    code = _template(*shape)
    code = code.replace(co_varnames=(*names, *[theirs for theirs, _ in renamed], _RESULT), co_name=function.name,
                        co_filename=f"<operator {function.name}>")
    scope: dict[str, Any] = {"wrap_result": wrap_result, "evaluate": evaluate, "function": function, "absent": ABSENT,
                             "__name__": __name__, "missing": functools.partial(_missing, function.name),
                             "wrap": wrap, "current": current, "Value": Value}
    ordered = tuple([defaults[n] for n in names[:positional] if n in defaults])
    public = types.FunctionType(code, scope, function.name, ordered)
    public.__kwdefaults__ = keyword_defaults
    functools.update_wrapper(public, body)
    public.__name__ = function.name
    public.function, public.shape = function, shape  # type: ignore[attr-defined]
    return public


def with_keyword(public: Callable[..., Any], name: str, handle: Callable[[Any, tuple[Any, ...]], Any]
                 ) -> Callable[..., Any]:
    """An operator with one more keyword: where that is given, the call is `handle(what was given, the arguments)`."""
    old = public.__code__
    code = _template(*public.shape, "handle").replace(  # type: ignore[attr-defined]
        co_varnames=(*old.co_varnames[:-1], name, _RESULT), co_name=old.co_name, co_filename=old.co_filename)
    called = types.FunctionType(code, {**public.__globals__, "handle": handle}, old.co_name, public.__defaults__)
    called.__kwdefaults__ = {**(public.__kwdefaults__ or {}), name: None}
    return functools.update_wrapper(called, public)


def packer(public: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    """A function with an operator's signature that gives its arguments as `evaluate` takes them."""
    old = public.__code__
    code = _template(*public.shape, "pack").replace(  # type: ignore[attr-defined]
        co_varnames=old.co_varnames[:-1], co_name=old.co_name, co_filename=old.co_filename)
    packed = types.FunctionType(code, public.__globals__, old.co_name, public.__defaults__)
    packed.__kwdefaults__ = public.__kwdefaults__
    return packed


def _missing(function: str, name: str) -> None:
    raise TypeError(f'{function}() missing 1 required positional arguments: "{name}"')


_RESULT = "found"  # the local variable of an operator's code


@functools.cache
def _template(positional: int, keywords: int, renamed: tuple[tuple[int, bool], ...], end: str = "") -> types.CodeType:
    """The code of an operator with so many parameters. Compiling is slow, and operators differ in names only.
    `end`: 'handle' where there is one more keyword, 'pack' where the arguments are the result."""
    names = [f"a{i}" for i in range(positional + keywords)]
    extra = [f"r{i}" for i in range(len(renamed))]
    more = ["x"] if end == "handle" else []
    declared = names[:positional] + (["*"] if keywords or extra or more else []) + names[positional:] + extra + more
    lines = [f"def f({', '.join(declared)}):\n"]
    for r, (place, required) in zip(extra, renamed):
        lines.append(f"    if {r} is not absent: a{place} = {r}\n")
        if required:
            lines.append(f"    elif a{place} is absent: missing('dim')\n")
    packed = f"({''.join(n + ', ' for n in names)})"
    if end == "handle":
        lines.append(f"    if x is not None: return handle(x, {packed})\n")
    if end == "pack":
        lines.append(f"    return {packed}\n")
    else:
        lines += [f"    {_RESULT} = current.recorder\n",
                  f"    {_RESULT} = {_RESULT}.record({_RESULT}, function, {', '.join(names)})\n",
                  f"    if {_RESULT} is not None: return {_RESULT}\n",
                  f"    {_RESULT} = evaluate(function, {packed})\n",
                  f"    if type({_RESULT}) is Value: return wrap(current.recorder, {_RESULT})\n",
                  f"    return wrap_result({_RESULT})\n"]
    scope: dict[str, Any] = {}
    exec(compile("".join(lines), "<operator>", "exec"), scope)
    return scope["f"].__code__
