"""From a call with tensors to Values, and back.

A *value function* is written on Values: `def softmax(input: Value, dim, dtype=None) -> Value`. It validates, promotes,
and applies operations. `operator` makes the public function of it: tensors become Values, Python numbers in
parameters annotated `Operand` become run-time scalars, everything else is static. The result is interned by
(function, arguments), so the value function's Python runs once per distinct call, not once per call.
"""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch._tensor import Tensor, wrap
from jtorch.capture.record import Recorder, current
from jtorch.ir.graph import Value

ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "<absent>", "__slots__": ()})()
NUMBERS = (bool, int, float, complex)
_CONSTANTS = frozenset([(t, x) for t in (int, float) for x in (-1, 0, 1, 2)] + [(float, 0.5), (bool, True), (bool, False)])
"""Numbers that are worth a constant: the compiler simplifies with them. The others do not enter cache keys."""


class Function:
    """A value function, and which of its parameters are tensors ('v'), numbers or tensors ('o'), static ('s')."""

    __slots__ = ("body", "kinds", "name", "names", "positional", "wants_builder", "sequences")

    def __init__(self, body: Callable[..., Any]) -> None:
        self.body = body
        self.name = body.__name__.rstrip("_")
        parameters = list(inspect.signature(body).parameters.values())
        self.wants_builder = bool(parameters) and parameters[0].name == "builder"
        if self.wants_builder:
            parameters = parameters[1:]
        self.names = tuple([p.name for p in parameters])
        self.positional = sum(p.kind is not p.KEYWORD_ONLY for p in parameters)
        self.sequences = tuple(["..." in str(p.annotation) for p in parameters])
        self.kinds = tuple(["o" if "Operand" in str(p.annotation) else "v" if "Value" in str(p.annotation) else "s"
                            for p in parameters])

    def apply(self, recorder: Recorder, values: list[Any]) -> Any:
        n = self.positional
        first = (recorder.builder,) if self.wants_builder else ()
        return self.body(*first, *values[:n], **dict(zip(self.names[n:], values[n:])))


def evaluate(function: Function, args: tuple[Any, ...]) -> Any:
    """Values of the function on tensors and other arguments."""
    recorder = current.recorder
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
            if (type(a), a) in _CONSTANTS:
                key.append((type(a), a))
            else:
                a = recorder.scalar(a)
                key.append(a)
        else:
            a = static(recorder, a)
            key.append((kinds_of(a), a))
        values.append(a)
    packed = tuple(key)
    found = recorder.calls.get(packed)
    if found is None:
        check_tensors(function, values)
        try:
            found = function.apply(recorder, values)
        except AssertionError:
            raise
        except Exception as error:
            error.__traceback__ = None  # show the user's line and this one, not our inside
            raise
        recorder.calls[packed] = found
    return found


def check_tensors(function: Function, values: list[Any]) -> None:
    """TypeError where a parameter that takes tensors was given something else, or no operand is a tensor."""
    if function.kinds[:1] == ("o",) and not function.wants_builder and not any(
            type(a) is Value and not (a.op.kind == "leaf" and a.attrs[0] < 0) for a in values):
        raise TypeError(f"{function.name}(): argument '{function.names[0]}' (position 1) must be Tensor, not "
                        f"{'float' if type(values[0]) is Value else type(values[0]).__name__}")
    for i, (kind, a) in enumerate(zip(function.kinds, values)):
        if kind != "v" or a is None or (type(a) is Value and not function.sequences[i]):
            continue
        wanted = "tuple of Tensors" if function.sequences[i] else "Tensor"
        if not function.sequences[i] or type(a) is not tuple:
            raise TypeError(f"{function.name}(): argument '{function.names[i]}' (position {i + 1}) must be {wanted}, not "
                            f"{'Tensor' if type(a) is Value else type(a).__name__}")
        for j, item in enumerate(a):
            if item is not None and type(item) is not Value:
                raise TypeError(f"expected Tensor as element {j} in argument {i}, but got {type(item).__name__}")


def static(recorder: Recorder, a: Any) -> Any:
    """A static argument, hashable: lists become tuples, tensors inside them Values, NumPy numbers Python's."""
    if isinstance(a, (tuple, list)):
        return tuple([static(recorder, x) for x in a])
    if isinstance(a, Tensor):
        return recorder.value(a)
    if isinstance(a, np.generic):
        return a.item()
    return a


def kinds_of(a: Any) -> Any:
    """Types of a static argument: 1, 1.0 and True are equal as keys but not the same argument."""
    return tuple([kinds_of(x) for x in a]) if type(a) is tuple else type(a)


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
    """The public function of a value function, with the same signature (less `builder`)."""
    function = Function(body)
    parameters = list(inspect.signature(body).parameters.values())[1 if function.wants_builder else 0:]
    names = [p.name for p in parameters]
    declared = [_declaration(p, i, parameters) for i, p in enumerate(parameters)]
    renamed = []
    for numpy_name, name in (("axis", "dim"), ("keepdims", "keepdim")):  # NumPy's names are taken too
        if name not in names or numpy_name in names:
            continue
        if "*, " not in " ".join(declared) and "*" not in declared:
            declared.append("*")
        declared.append(f"{numpy_name}=_absent")
        place = names.index(name)
        if declared[place] == name and all("=" in d for d in declared[place + 1:] if d != "*"):
            declared[place] = f"{name}=_absent"
        renamed.append(f"    if {numpy_name} is not _absent: {name} = {numpy_name}\n")
        if declared[place] == f"{name}=_absent":
            renamed.append(f"    elif {name} is _absent: raise TypeError('{function.name}() missing 1 required positional "
                           f"arguments: \"{name}\"')\n")
    text = (f"def {function.name}({', '.join(declared)}):\n{''.join(renamed)}"
            f"    return wrap_result(evaluate(function, ({' '.join(n + ',' for n in names)})))\n")
    scope: dict[str, Any] = {"wrap_result": wrap_result, "evaluate": evaluate, "function": function,
                             "_d": [p.default for p in parameters], "_absent": ABSENT}
    exec(compile(text, f"<operator {function.name}>", "exec"), scope)
    public = scope[function.name]
    functools.update_wrapper(public, body)
    public.__name__ = function.name
    public.function = function
    return public


def _declaration(p: inspect.Parameter, i: int, parameters: list[inspect.Parameter]) -> str:
    text = p.name if p.default is p.empty else f"{p.name}=_d[{i}]"
    if p.kind is p.KEYWORD_ONLY and not any(q.kind is q.KEYWORD_ONLY for q in parameters[:i]):
        return "*, " + text
    if p.kind is p.VAR_POSITIONAL:
        raise TypeError("an operator has named parameters only")
    return text
