"""Values, the intern table, and graphs.

A `Value` is one result of one operation, typed, immutable, assigned once. Values live in a `Builder`, which interns
them: equal operation, inputs and attributes give the identical object. So common subexpressions exist once by
construction, and `id`/`is` of a Value can key anything derived from it.

A `Graph` is a list of parameters and a list of outputs in one builder; its nodes are whatever the outputs reach.
"""
from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jtorch import dtypes
from jtorch.dtypes import dtype

if TYPE_CHECKING:
    from jtorch.ir.primitive import Op

Shape = tuple[int, ...]
_ids = itertools.count()


class Type:
    """dtype and shape of a Value. Interned, so types compare with `is`."""

    __slots__ = ("dtype", "shape", "ndim", "numel", "nbytes", "strides", "_hash", "__weakref__")
    _table: dict[tuple[dtype, Shape], Type] = {}
    dtype: dtype
    shape: Shape
    ndim: int
    numel: int
    nbytes: int
    strides: tuple[int, ...]  # of contiguous data
    _hash: int

    def __new__(cls, dt: dtype, shape: Sequence[int]) -> Type:
        key = (dt, tuple(shape))
        found = cls._table.get(key)
        if found is None:
            if len(cls._table) > 200_000:
                cls._table.clear()
            found = object.__new__(cls)
            found.dtype, found.shape = key
            found.ndim, found.numel = len(found.shape), math.prod(found.shape)
            found.nbytes, found.strides = found.numel * dt.itemsize, contiguous_strides(found.shape)
            found._hash = hash((dt.name, found.shape))
            cls._table[key] = found
        return found

    def __eq__(self, other: object) -> bool:  # interning is bounded, so equality must not rely on it
        return self is other or (isinstance(other, Type) and self.dtype is other.dtype and self.shape == other.shape)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple:
        return (Type, (self.dtype, self.shape))

    def __repr__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


known_type: Callable[[tuple[dtype, Shape]], Type | None] = Type._table.get
"""The Type of (dtype, shape) where there is one already, in half the time of `Type(dtype, shape)`."""


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Elements from one index to the next along each axis, where the last one varies fastest."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


class Value:
    """One result of one operation.

    `node` is the tuple of sibling results (the operation's outputs); `index` is this value's place in it.
    `attrs` is a tuple of hashables in the order of the operation's attribute names. `loc` is the user's (file, line)
    that first recorded it.
    """

    __slots__ = ("op", "inputs", "attrs", "type", "index", "siblings", "builder", "id", "requires_grad", "loc",
                 "__weakref__")
    op: Op
    inputs: tuple[Value, ...]
    attrs: tuple
    type: Type
    index: int
    siblings: tuple[Value, ...]
    builder: Builder
    id: int
    requires_grad: bool
    loc: tuple[str, int] | None

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> dtype:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    @property
    def kwargs(self) -> dict[str, Any]:
        return dict(zip(self.op.attr_names, self.attrs))

    def attr(self, name: str) -> Any:
        return self.attrs[self.op.attr_names.index(name)]

    def __repr__(self) -> str:
        return f"%{self.id}: {self.type!r} = {self.op.name}"

    # Arithmetic on values, so that derivative rules and composites read as formulas. The operands broadcast and
    # promote as in PyTorch; `arith` is filled in by `ir.prims` (the formulas need the operations to exist).
    arith: dict[str, Callable[..., Value]] = {}

    def __add__(self, o: Any) -> Value: return self.arith["add"](self, o)
    def __radd__(self, o: Any) -> Value: return self.arith["add"](o, self)
    def __sub__(self, o: Any) -> Value: return self.arith["sub"](self, o)
    def __rsub__(self, o: Any) -> Value: return self.arith["sub"](o, self)
    def __mul__(self, o: Any) -> Value: return self.arith["mul"](self, o)
    def __rmul__(self, o: Any) -> Value: return self.arith["mul"](o, self)
    def __truediv__(self, o: Any) -> Value: return self.arith["div"](self, o)
    def __rtruediv__(self, o: Any) -> Value: return self.arith["div"](o, self)
    def __pow__(self, o: Any) -> Value: return self.arith["pow"](self, o)
    def __neg__(self) -> Value: return self.arith["neg"](self)
    def __invert__(self) -> Value: return self.arith["logical_not"](self)
    def __and__(self, o: Any) -> Value: return self.arith["bitwise_and"](self, o)
    def __or__(self, o: Any) -> Value: return self.arith["bitwise_or"](self, o)
    def __lt__(self, o: Any) -> Value: return self.arith["lt"](self, o)
    def __le__(self, o: Any) -> Value: return self.arith["le"](self, o)
    def __gt__(self, o: Any) -> Value: return self.arith["gt"](self, o)
    def __ge__(self, o: Any) -> Value: return self.arith["ge"](self, o)


_PLAIN = frozenset({"elementwise", "movement", "reduce", "contract", "create", "index", "marker"})
"""Kinds whose operations give a Value, or several; others may give a tuple of one."""


class Builder:
    """The intern table. `apply` is the only way a Value comes into being."""

    __slots__ = ("table", "locate", "default_float", "__weakref__")

    def __init__(self, locate: Callable[[], tuple[str, int] | None] | None = None) -> None:
        self.table: dict[tuple, Any] = {}
        self.locate = locate
        self.default_float: dtype = dtypes.float32  # what int -> float promotion gives; set by set_default_dtype

    def apply(self, op: Op, *inputs: Value, **attrs: Any) -> Any:
        """The result of `op` on `inputs`: a Value, or a tuple of them for an operation with several results.

        Attributes are keywords; missing ones take the op's defaults.
        """
        if attrs or op.attr_names:
            names, defaults = op.attr_names, op.attr_defaults
            packed = tuple([attrs[n] if n in attrs else defaults[n] for n in names])
            if len(attrs) > len(names) or any(n not in names for n in attrs):
                raise TypeError(f"{op.name}: unexpected attributes {sorted(set(attrs) - set(names))}")
        else:
            packed = ()
        return self.intern(op, inputs, packed)

    def intern(self, op: Op, inputs: tuple[Value, ...], attrs: tuple, loc: tuple[str, int] | None = None) -> Any:
        key = (op, inputs, attrs, tuple([kind_of(a) for a in attrs])) if attrs else (op, inputs)
        found = self.table.get(key)
        if found is not None:
            return found
        for v in inputs:
            if v.builder is not self:
                raise AssertionError(f"{op.name}: input {v!r} belongs to another builder")
        types = op.infer(*[v.type for v in inputs], **dict(zip(op.attr_names, attrs)))
        result = self._make(op, inputs, attrs, types, loc)
        self.table[key] = result
        return result

    def again(self, node: Value, inputs: tuple[Value, ...]) -> Any:
        """The operation of `node` on other inputs of the same types: there is nothing to infer."""
        op, attrs = node.op, node.attrs
        if op.kind not in _PLAIN or len(node.siblings) > 1:
            return self.intern(op, inputs, attrs, node.loc)
        key = (op, inputs, attrs, tuple([kind_of(a) for a in attrs])) if attrs else (op, inputs)
        found = self.table.get(key)
        if found is None:
            found = self.table[key] = self._make(op, inputs, attrs, node.type, node.loc)
        return found

    def _make(self, op: Op, inputs: tuple[Value, ...], attrs: tuple, types: Any, loc: tuple[str, int] | None) -> Any:
        single = isinstance(types, Type)
        if loc is None and self.locate is not None:
            loc = self.locate()
        grad = op.grad_of_output(inputs)
        values = []
        for index, t in enumerate((types,) if single else types):
            v = object.__new__(Value)
            v.op, v.inputs, v.attrs, v.type, v.index = op, inputs, attrs, t, index
            v.builder, v.id, v.loc = self, next(_ids), loc
            v.requires_grad = grad and (t.dtype.is_floating_point or t.dtype.is_complex)
            values.append(v)
        siblings = tuple(values)
        for v in values:
            v.siblings = siblings
        return values[0] if single else siblings


def kind_of(a: Any) -> Any:
    """What an attribute's key needs besides its value: True == 1 == 1.0 and 0.0 == -0.0, and they hash alike."""
    if type(a) is float and a == 0:
        return str(a)
    return tuple([kind_of(x) for x in a]) if type(a) is tuple else type(a)


def user_location() -> tuple[str, int] | None:
    """(file, line) of the nearest frame outside jtorch."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not (name == "jtorch" or name.startswith("jtorch.")):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return None


def topological(outputs: Iterable[Value]) -> list[Value]:
    """One Value per node (the first sibling) for all nodes that `outputs` reach, inputs before users.

    Nodes come in the order in which they were recorded: ids grow along edges, so sorting by id is a topological
    order, and it keeps the program's own order among independent nodes. Iterative: depth is no limit.
    """
    seen: set[int] = set()
    nodes: list[Value] = []
    stack = [v.siblings[0] for v in outputs]
    while stack:
        v = stack.pop()
        if v.id in seen:
            continue
        seen.add(v.id)
        nodes.append(v)
        for i in v.inputs:
            first = i.siblings[0]
            if first.id not in seen:
                stack.append(first)
    nodes.sort(key=lambda v: v.id)
    return nodes


def operands_first(values: Iterable[Value], known: Container[Value], step: Callable[[Value], Sequence[Value]]) -> None:
    """Have `step(v)` make all of `values` known, in the order of a walk from them. Where it cannot yet, it does nothing
    and returns what has to be known before; it is called again then. Iterative: depth is no limit."""
    stack = list(values)
    while stack:
        v = stack[-1]
        missing = () if v in known else step(v)
        if missing:
            stack += missing
        else:
            stack.pop()


def postorder(outputs: Iterable[Value]) -> list[Value]:
    """`topological`, in the order in which a walk from the outputs finishes nodes, operands from left to right: a
    function of the graph alone, whatever was recorded when."""
    done: set[Value] = set()
    nodes: list[Value] = []

    def step(v: Value) -> list[Value]:
        missing = [first for i in v.inputs if (first := i.siblings[0]) not in done]
        if not missing:
            done.add(v)
            nodes.append(v)
        return missing[::-1]

    for output in outputs:
        operands_first([output.siblings[0]], done, step)
    return nodes


class Graph:
    """A function: `params -> outputs`, all in one builder. Parameters are `leaf` values."""

    __slots__ = ("params", "outputs", "name", "_nodes")

    def __init__(self, params: Sequence[Value], outputs: Sequence[Value], name: str = "graph") -> None:
        self.params, self.outputs, self.name = tuple(params), tuple(outputs), name
        self._nodes: list[Value] | None = None

    @property
    def nodes(self) -> list[Value]:
        """Operation nodes (first siblings) in order, parameters left out."""
        if self._nodes is None:
            self._nodes = [v for v in topological(self.outputs) if v.op.name != "leaf"]
        return self._nodes

    def __iter__(self) -> Iterator[Value]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def uses(self) -> dict[Value, list[Value]]:
        """value -> nodes that read it (once per occurrence)."""
        found: dict[Value, list[Value]] = {}
        for node in self.nodes:
            for i in node.inputs:
                found.setdefault(i, []).append(node)
        return found

    def __str__(self) -> str:
        from jtorch.ir.text import print_graph  # printing depends on graphs, not the reverse
        return print_graph(self)


def rewrite(graph: Graph, rule: Callable[[Builder, Value, tuple[Value, ...]], Any],
            builder: Builder | None = None) -> Graph:
    """A new graph, each node rebuilt by `rule(builder, node, new_inputs)`.

    The rule returns the replacement (a Value, or a tuple for a node with several results) or None to keep the node.
    Dead nodes vanish and equal ones merge, since the result lives in a fresh builder.
    """
    line: tuple[str, int] | None = None
    b = builder or Builder(lambda: line)
    if builder is None and graph.outputs:
        b.default_float = graph.outputs[0].builder.default_float
    new: dict[Value, Value] = {}
    for p in graph.params:
        new[p] = b.intern(p.op, (), p.attrs, p.loc)
    for node in graph.nodes:
        line = node.loc  # what the rule makes of the node was caused by the same line
        inputs = tuple([new[i] for i in node.inputs])
        result = rule(b, node, inputs)
        if result is None:
            result = b.again(node, inputs)
        if isinstance(result, Value):
            result = (result,)
        for old, replacement in zip(node.siblings, result):
            if replacement.type != old.type:
                raise AssertionError(f"rewrite of {old!r} changed its type to {replacement.type!r}")
            new[old] = replacement
    return Graph([new[p] for p in graph.params], [new[o] for o in graph.outputs], graph.name)
