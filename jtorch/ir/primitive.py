"""The record that describes an operation, and the registry of all of them.

Everything that is known of an operation stands in its one `Op`: shape and dtype rule, NumPy meaning, derivative,
batching rule, kernel expression, and for a composite its body. Passes and code generation ask for properties of the
record, never for a list of names kept elsewhere.

Rules are functions of Values and return Values, so transformations compose:

- `infer(*types, **attrs) -> Type | tuple[Type, ...]`: raises RuntimeError / TypeError / IndexError as PyTorch does.
- `numpy(*arrays, **attrs) -> array | tuple`: the meaning, and the oracle. Half types are computed in float32. Where
  `updates` is set it writes into the first array and returns it, once nothing can fail any more.
- `vjp(g, out, *inputs, **attrs) -> tuple[Value | None, ...]`: one cotangent per input; for several results `g` and
  `out` are tuples, with None in `g` where a result has no cotangent. `None` in place of the function needs `no_grad`,
  a reason.
  The rule is read as one for real numbers. For complex ones, where the operation is holomorphic, the walk turns it into
  PyTorch's convention, conj(vjp(conj(g))); a rule that follows the convention itself says `wirtinger=True`.
- `jvp(tangents, out, *inputs, **attrs) -> tangent(s)`: tangents may be None. Elementwise operations need none: their
  Jacobian is diagonal, so the VJP serves. `linear=True` says the tangent is the operation applied to the tangent.
- `batch(builder, size, batched, *inputs, **attrs) -> result`: inputs carry the mapped axis in front where `batched[i]`;
  every result has it in front.
- `expr`: scalar kernel text over operands `a, b, c, ...`; `T(x)` is a literal of the operands' compute dtype, `O(x)` of
  the result's. Says nothing of loops or devices. Callable `(in_dtypes, out_dtype, attrs) -> str` where the text varies.
- `body(builder, *inputs, **attrs) -> Value(s)`: the decomposition of a composite.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jtorch.ir.graph import Value

KINDS = (
    "leaf", "elementwise", "movement", "reduce", "create", "index", "contract", "window", "random", "scan",
    "library", "control", "marker", "composite",
)

REGISTRY: dict[str, Op] = {}


@dataclass(eq=False, slots=True)
class Op:
    """One operation. Identity is equality; `name` is unique in the registry."""

    name: str
    kind: str
    infer: Callable[..., Any]
    numpy: Callable[..., Any] | None = None
    vjp: Callable[..., Any] | None = None
    no_grad: str | None = None  # why there is no derivative
    jvp: Callable[..., Any] | None = None
    linear: bool = False  # linear in all its tensor inputs jointly
    wirtinger: bool = False  # the VJP conjugates by itself, as an operation that is not holomorphic has to
    batch: Callable[..., Any] | None = None
    expr: str | Callable[..., str] | None = None
    body: Callable[..., Any] | None = None
    attr_names: tuple[str, ...] = ()
    attr_defaults: dict[str, Any] = field(default_factory=dict)
    commutative: bool = False
    cost: int = 1  # scalar work per element, in rough additions: exp is about 10
    fails: str | None = None  # scalar condition over the operands under which the kernel reports `error`
    error: tuple[type[Exception], str] | None = None
    ambiguous: bool = False  # results hold up to signs and order only: all runs of a program must be of one tier
    updates: bool = False  # the first operand with some places renewed: see `run_op`, codegen.updates
    reduction: Any = None  # for kind 'reduce': a `Reduction`
    domain: Any = None  # for tests: which inputs make sense, see tests/op_samples.py

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}")
        if self.name in REGISTRY:
            raise ValueError(f"operation {self.name!r} is defined twice")
        REGISTRY[self.name] = self

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple:
        return (REGISTRY.__getitem__, (self.name,))

    def grad_of_output(self, inputs: Sequence[Value]) -> bool:
        """Does a floating result of this operation require grad?"""
        if self.no_grad is not None:
            return self.name == "variable"
        for v in inputs:
            if v.requires_grad:
                return True
        return False

    def __call__(self, *inputs: Value, **attrs: Any) -> Any:
        """Apply to Values (at least one): `op(x, y, axis=0)`."""
        return inputs[0].builder.apply(self, *inputs, **attrs)


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a reduction folds: `combine` over `acc` and `a`, starting from `identity`.

    `identity` is a number, or 'lowest'/'highest' of the dtype. `combine` is scalar kernel text. A reduction that keeps
    the position too (argmax) has `arg=True`: `combine` is then the condition under which `a` replaces `acc`.
    """

    identity: Any
    combine: str
    arg: bool = False


def op(name: str) -> Op:
    return REGISTRY[name]
