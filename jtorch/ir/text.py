"""Graphs as text: short Python that a reader understands and that `parse_graph` builds the graph from again.

    text      = ["@default_float(" dtype ")"] "def" name "(" [param {"," param}] "):" {statement} return
    param     = name ":" type ["@" number]            number: of the leaf, where it is not its place
    type      = dtype "[" size {"," size} "]" | dtype "[()]"
    statement = name {"," name} "=" op "(" {value ","} {attribute "=" literal ","} ")"
              | text                                   a region: a graph that an attribute names
    literal   = number | string | True | False | None | inf | nan | dtype | type | region name | "(" {literal ","} ")"
    return    = "return" (value {"," value} | "()")

Attributes with their default values are left out. Comments say types, the user's lines and, on request, the bodies of
composites; they mean nothing. Every name stands for one value, and ids and the order of independent nodes are not part
of the text's meaning: `same_graph(graph, parse_graph(print_graph(graph)))`.
"""
from __future__ import annotations

import ast
import keyword
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.ir.graph import Builder, Graph, Type, Value
from jtorch.ir.passes.decompose import body_graph
from jtorch.ir.primitive import REGISTRY
from jtorch.ir.prims.control import region
from jtorch.ir.prims.create import leaf, make_leaf

INDENT = "    "
WIDTH = 110
COMMENT_COLUMN = 56


# --- printing --------------------------------------------------------------------------------------------------------

def print_graph(graph: Graph, types: bool = True, locations: bool = True, bodies: bool = False) -> str:
    """The graph as text. `types`, `locations` and `bodies` (of composites) are comments."""
    return "\n".join(_Printer(graph, types, locations, bodies).lines()) + "\n"


class _Printer:
    def __init__(self, graph: Graph, types: bool, locations: bool, bodies: bool, name: str | None = None,
                 prefix: str = "v") -> None:
        self.graph, self.types, self.locations, self.bodies, self.prefix = graph, types, locations, bodies, prefix
        self.name = name or _identifier(graph.name)
        self.names: dict[Value, str] = {p: f"x{i}" for i, p in enumerate(graph.params)}
        self.regions: dict[Graph, str] = {}
        self.count = 0

    def lines(self) -> Iterable[str]:
        values = (*self.graph.outputs, *self.graph.params)
        default = values[0].builder.default_float if values else dtypes.float32
        if default is not dtypes.float32:
            yield f"@default_float({default.name})"
        yield from _wrapped(f"def {self.name}(", [self.param(i, p) for i, p in enumerate(self.graph.params)], "):")
        for node in self.graph.nodes:
            for line in self.statement(node):
                yield INDENT + line if line else line
        yield from _wrapped(INDENT + "return ", [self.names[o] for o in self.graph.outputs] or ["()"], "")

    def param(self, place: int, p: Value) -> str:
        number = p.attrs[0]
        return f"{self.names[p]}: {type_text(p.type)}" + ("" if number == place else f" @ {number}")

    def statement(self, node: Value) -> Iterable[str]:
        for a in node.attrs:
            if isinstance(a, Graph) and a not in self.regions:
                self.regions[a] = self.unused(_identifier(a.name))
                yield from _Printer(a, self.types, self.locations, self.bodies, self.regions[a]).lines()
        for s in node.siblings:
            self.names[s] = f"{self.prefix}{self.count}"
            self.count += 1
        results = ", ".join(self.names[s] for s in node.siblings)
        comment = self.comment(node)
        lines = list(_wrapped(f"{results} = {node.op.name}(", list(self.arguments(node)), ")"))
        lines[-1] = f"{lines[-1]:<{COMMENT_COLUMN}}  # {comment}" if comment else lines[-1]
        yield from lines
        if self.bodies and node.op.kind == "composite":
            yield from self.body(node)

    def arguments(self, node: Value) -> Iterable[str]:
        for v in node.inputs:
            yield self.names[v]
        defaults = node.op.attr_defaults
        for name, value in node.kwargs.items():
            if name in defaults and type(defaults[name]) is type(value) and defaults[name] == value:
                continue
            yield f"{name}={self.regions[value] if isinstance(value, Graph) else literal(value)}"

    def comment(self, node: Value) -> str:
        parts = []
        if self.types:
            parts.append(", ".join(type_text(s.type) for s in node.siblings))
        if self.locations and node.loc is not None:
            parts.append(f"{os.path.basename(node.loc[0])}:{node.loc[1]}")
        return "  ".join(parts)

    def body(self, node: Value) -> Iterable[str]:
        """The composite's decomposition, indented below it, its operands under their own names."""
        inner = _Printer(body_graph(node), self.types, False, self.bodies, prefix=f"{self.names[node]}_")
        inner.names = {p: self.names[v] for p, v in zip(inner.graph.params, node.inputs)}
        for n in inner.graph.nodes:
            for line in inner.statement(n):
                yield f"#   {line}"
        yield f"#   {', '.join(inner.names[o] for o in inner.graph.outputs)}"

    def unused(self, name: str) -> str:
        taken, n, candidate = set(self.regions.values()), 1, name
        while candidate in taken:
            n += 1
            candidate = f"{name}_{n}"
        return candidate


def type_text(t: Type) -> str:
    return f"{t.dtype.name}[{', '.join(map(str, t.shape)) or '()'}]"


def literal(value: Any) -> str:
    """An attribute's value as Python."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return repr(value)
    if isinstance(value, float):
        return repr(value)  # inf and nan are names of the grammar
    if isinstance(value, complex):
        return f"complex({literal(value.real)}, {literal(value.imag)})"
    if isinstance(value, dtypes.dtype):
        return value.name
    if isinstance(value, Type):
        return type_text(value)
    if isinstance(value, tuple):
        return "(" + "".join(literal(v) + ", " for v in value)[:-1 if len(value) == 1 else -2] + ")"
    raise TypeError(f"attribute {value!r} has no text")


def _identifier(name: str) -> str:
    cleaned = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
    taken = cleaned in REGISTRY or cleaned in _Reader.CONSTANTS or keyword.iskeyword(cleaned)
    return cleaned if cleaned.isidentifier() and not taken and cleaned[0] not in "vx" else f"graph_{cleaned}"


def _wrapped(head: str, parts: list[str], tail: str) -> Iterable[str]:
    """head + parts + tail on one line, or on several where that is too long and Python allows it."""
    line = head + ", ".join(parts) + tail
    if len(line) <= WIDTH or not tail:
        yield line
        return
    margin = " " * (len(head) - len(head.lstrip())) + INDENT * 2
    yield head
    current = margin
    for i, part in enumerate(parts):
        piece = part + (", " if i < len(parts) - 1 else "")
        if len(current) + len(piece) > WIDTH and current.strip():
            yield current.rstrip()
            current = margin
        current += piece
    yield current + tail


# --- parsing ---------------------------------------------------------------------------------------------------------

def parse_graph(text: str) -> Graph:
    """The graph that a text says. The text is read, never executed."""
    module = ast.parse(text)
    functions = [n for n in module.body if isinstance(n, ast.FunctionDef)]
    if len(functions) != 1 or len(module.body) != 1:
        raise SyntaxError("a graph's text is one function")
    return _parse_function(functions[0])


def _parse_function(function: ast.FunctionDef) -> Graph:
    b = Builder()
    for d in function.decorator_list:
        b.default_float = _Reader({}).read(d.args[0])  # type: ignore[attr-defined]
    values: dict[str, Value] = {}
    reader = _Reader({})
    for place, arg in enumerate(function.args.args):
        annotation, number = arg.annotation, place
        if isinstance(annotation, ast.BinOp):
            annotation, number = annotation.left, reader.read(annotation.right)
        values[arg.arg] = make_leaf(b, number, reader.read(annotation))
    params = list(values.values())
    outputs: list[Value] | None = None
    for statement in function.body:
        if isinstance(statement, ast.FunctionDef):
            reader.regions[statement.name] = region(_parse_function(statement))
        elif isinstance(statement, ast.Return):
            outputs = [_value(values, n) for n in _elements(statement.value)]
        elif isinstance(statement, ast.Assign):
            _parse_assignment(b, statement, values, reader)
        else:
            raise SyntaxError(f"line {statement.lineno}: neither an assignment, a region nor a return")
    if outputs is None:
        raise SyntaxError(f"{function.name} returns nothing")
    return Graph(params, outputs, function.name)


def _parse_assignment(b: Builder, statement: ast.Assign, values: dict[str, Value], reader: _Reader) -> None:
    call = statement.value
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in REGISTRY:
        raise SyntaxError(f"line {statement.lineno}: not a call of an operation: {ast.unparse(call)}")
    operation = REGISTRY[call.func.id]
    if operation is leaf:
        raise SyntaxError(f"line {statement.lineno}: leaves are parameters")
    attrs = {k.arg: reader.read(k.value) for k in call.keywords if k.arg is not None}
    result = b.apply(operation, *[_value(values, a) for a in call.args], **attrs)
    names = _elements(statement.targets[0])
    results = result if isinstance(result, tuple) else (result,)
    if len(names) != len(results):
        raise SyntaxError(f"line {statement.lineno}: {operation.name} has {len(results)} results")
    for name, v in zip(names, results):
        if not isinstance(name, ast.Name):
            raise SyntaxError(f"line {statement.lineno}: results are given names")
        values[name.id] = v


def _elements(node: ast.expr | None) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [] if node is None else [node]


def _value(values: dict[str, Value], node: ast.expr) -> Value:
    if not isinstance(node, ast.Name) or node.id not in values:
        raise SyntaxError(f"line {node.lineno}: {ast.unparse(node)} is not defined")
    return values[node.id]


class _Reader:
    """Literals of the grammar. `regions` are the functions defined so far."""

    CONSTANTS = {"inf": float("inf"), "nan": float("nan"), **{d.name: d for d in dtypes.ALL}}

    def __init__(self, regions: dict[str, Graph]) -> None:
        self.regions = regions

    def read(self, node: ast.expr | None) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Tuple(elts=elements):
                return tuple([self.read(e) for e in elements])
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.read(operand)
            case ast.Name(id=name) if name in self.regions:
                return self.regions[name]
            case ast.Name(id=name) if name in self.CONSTANTS:
                return self.CONSTANTS[name]
            case ast.Call(func=ast.Name(id="complex"), args=[real, imag]):
                return complex(self.read(real), self.read(imag))
            case ast.Subscript(value=ast.Name(id=name), slice=sizes) if name in self.CONSTANTS:
                shape = self.read(sizes)
                return Type(dtypes.by_name(name), shape if isinstance(shape, tuple) else (shape,))
        raise SyntaxError(f"not a literal: {ast.unparse(node) if node is not None else node}")
