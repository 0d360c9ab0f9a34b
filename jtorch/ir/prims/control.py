"""Control flow: operations whose attributes are graphs.

A region is a closed `Graph`: what it reads from outside are operands. Equal regions are one object (`region`), so that
control operations are interned like all others. Results are always tuples, even of one.

    cond(pred, *operands)                   then_branch(operands) or else_branch(operands)
    while_loop(*carry)                      carry = body(carry) while condition(carry)
    scan(*consts, *carry, *xs)              for i: carry, y_i = body(consts, carry, xs[i]);  -> carry, stacked ys
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import jtorch.ir.interpret as interpreter  # a module that imports this one: only its name is needed here
import jtorch.ir.passes.autodiff as autodiff
from jtorch import dtypes
from jtorch.ir.graph import Builder, Graph, Type, Value, rewrite
from jtorch.ir.passes.substitute import substitute
from jtorch.ir.primitive import Op
from jtorch.ir.prims.accumulate import factors, separable, total
from jtorch.ir.prims.create import constant, make_leaf, variable
from jtorch.ir.prims.elementwise import expand, zeros_like
from jtorch.ir.prims.movement import concatenate, reshape_to, slice_axis
from jtorch.ir.verify import structure

_regions: dict[tuple, Graph] = {}


def region(graph: Graph) -> Graph:
    """The one Graph that stands for all that are structurally equal to this one."""
    if len(_regions) > 10_000:
        _regions.clear()
    return _regions.setdefault(structure(graph), graph)


def trace(function: Callable[..., Sequence[Value]], types: Sequence[Type], name: str,
          default_float: dtypes.dtype = dtypes.float32) -> Graph:
    """The region of a function of Values."""
    b = Builder()
    b.default_float = default_float
    params = [make_leaf(b, i, t) for i, t in enumerate(types)]
    return region(Graph(params, function(*params), name))


def inline(graph: Graph, b: Builder, inputs: Sequence[Value]) -> list[Value]:
    """The graph's outputs, computed in `b` from `inputs`."""
    new: dict[Value, Value] = dict(zip(graph.params, inputs))
    for node in graph.nodes:
        result = b.intern(node.op, tuple([new[i] for i in node.inputs]), node.attrs, node.loc)
        new.update(zip(node.siblings, (result,) if isinstance(result, Value) else result))
    return [new[o] for o in graph.outputs]


def types_of(values: Sequence[Value]) -> list[Type]:
    return [v.type for v in values]


def _check(name: str, graph: Graph, types: Sequence[Type]) -> tuple[Type, ...]:
    if types_of(graph.params) != list(types):
        raise AssertionError(f"{name}: region takes {types_of(graph.params)}, operands are {list(types)}")
    return tuple(types_of(graph.outputs))


def _listed(v: Any) -> tuple:
    return v if isinstance(v, tuple) else (v,)


def pullback(graph: Graph, b: Builder, inputs: Sequence[Value], wrt: Sequence[int],
             cotangents: Sequence[Value | None], known: dict[int, Value] | None = None) -> list[Value]:
    """Cotangents of `inputs[i] for i in wrt` through a region that is inlined at `inputs`; zeros where none arrives.
    `known[i]` is what there is of output i: it is not computed again."""
    marked = list(inputs)
    for i in wrt:
        marked[i] = variable(inputs[i], number=i)
    outputs = inline(graph, b, marked)
    pairs = [(o, c) for o, c in zip(outputs, cotangents) if c is not None]
    found = autodiff.gradients([o for o, _ in pairs], [c for _, c in pairs], [marked[i] for i in wrt])
    results = [found.get(marked[i], zeros_like(inputs[i])) for i in wrt]
    there = {outputs[i]: v for i, v in (known or {}).items()}
    return substitute(results, there.get, {}, live=False) if there else results


def unmarked(graph: Graph) -> Graph:
    """Without `variable` markers, which were there for the differentiation only."""
    return region(rewrite(graph, lambda b, node, inputs: inputs[0] if node.op is variable else None))


# --- cond ------------------------------------------------------------------------------------------------------------

def _cond_infer(pred: Type, *operands: Type, then_branch: Graph, else_branch: Graph) -> tuple[Type, ...]:
    if pred != Type(dtypes.bool_, ()):
        raise RuntimeError(f"cond: the predicate must be a bool scalar, not {pred}")
    then, other = _check("cond", then_branch, operands), _check("cond", else_branch, operands)
    if then != other:
        raise RuntimeError(f"cond: both branches must return the same shapes and dtypes, got {then} and {other}")
    return then


def _cond_numpy(pred: np.ndarray, *operands: np.ndarray, then_branch: Graph, else_branch: Graph) -> tuple:
    return tuple(interpreter.interpret(then_branch if pred else else_branch, operands))


def _cond_vjp(g: Any, y: Any, pred: Value, *operands: Value, then_branch: Graph, else_branch: Graph) -> tuple:
    wrt = [i for i, v in enumerate(operands) if v.requires_grad]
    places = [i for i, c in enumerate(_listed(g)) if c is not None]
    cotangents = [_listed(g)[i] for i in places]
    n = len(operands)

    def branch(graph: Graph) -> Graph:
        def run(*values: Value) -> list[Value]:
            given: list[Value | None] = [None] * len(graph.outputs)
            for i, c in zip(places, values[n:]):
                given[i] = c
            return pullback(graph, values[0].builder, values[:n], wrt, given)
        return unmarked(trace(run, types_of((*operands, *cotangents)), f"{graph.name}_vjp"))

    if not wrt or not places:
        return (None,) * (n + 1)
    found = cond(pred, *operands, *cotangents, then_branch=branch(then_branch), else_branch=branch(else_branch))
    by_place = dict(zip(wrt, found))
    return (None, *[by_place.get(i) for i in range(n)])


cond = Op("cond", "control", _cond_infer, _cond_numpy, _cond_vjp, attr_names=("then_branch", "else_branch"),
          wirtinger=True, domain="region")
"""Only the branch that is taken is run."""


# --- while_loop ------------------------------------------------------------------------------------------------------

def _while_infer(*carry: Type, condition: Graph, body: Graph) -> tuple[Type, ...]:
    if _check("while_loop", condition, carry) != (Type(dtypes.bool_, ()),):
        raise RuntimeError("while_loop: the condition must return one bool scalar")
    after = _check("while_loop", body, carry)
    if after != carry:
        raise RuntimeError(f"while_loop: the body must return what it takes, {list(carry)}, not {list(after)}")
    return after


def _while_numpy(*carry: np.ndarray, condition: Graph, body: Graph) -> tuple:
    while interpreter.interpret(condition, carry)[0]:
        carry = tuple(interpreter.interpret(body, carry))
    return carry


def _while_vjp(g: Any, y: Any, *carry: Value, condition: Graph, body: Graph) -> tuple:
    """Nobody knows how many steps there will be, so nothing is kept: going backwards, the carry in front of each step
    is computed again from the start. Steps cost their square; `scan` is the loop with a cheap derivative."""
    n = len(carry)
    wrt = [i for i, v in enumerate(carry) if v.dtype.is_floating_point or v.dtype.is_complex]
    b = carry[0].builder
    number = Type(dtypes.int64, ())
    types = types_of(carry)

    def counted(limit: bool) -> tuple[Graph, Graph]:
        """(i, stop, *carry): steps until the condition fails, or `stop` of them."""
        def go_on(i: Value, stop: Value, *c: Value) -> list[Value]:
            return [i < stop] if limit else inline(condition, i.builder, c)

        def step(i: Value, stop: Value, *c: Value) -> list[Value]:
            return [i + 1, stop, *inline(body, i.builder, c)]
        return (trace(go_on, [number, number, *types], "go_on"), trace(step, [number, number, *types], "step"))

    def go_on(i: Value, *rest: Value) -> list[Value]:
        return [i > 0]

    def step_back(i: Value, *rest: Value) -> list[Value]:
        start, cotangents = rest[:n], rest[n:]
        go, step = counted(limit=True)
        before = while_loop(constant(i.builder, 0, dtypes.int64), i - 1, *start, condition=go, body=step)[2:]
        given: list[Value | None] = [None] * n
        for k, c in zip(wrt, cotangents):
            given[k] = c
        return [i - 1, *start, *pullback(body, i.builder, before, wrt, given)]

    go, step = counted(limit=False)
    zero = constant(b, 0, dtypes.int64)
    steps = while_loop(zero, zero, *carry, condition=go, body=step)[0]
    cotangents = [c if c is not None else zeros_like(carry[k])
                  for k, c in ((k, _listed(g)[k]) for k in wrt)]
    back_types = [number, *types, *types_of(cotangents)]
    found = while_loop(steps, *carry, *cotangents, condition=trace(go_on, back_types, "go_on"),
                       body=unmarked(trace(step_back, back_types, "step_back")))[1 + n:]
    by_place = dict(zip(wrt, found))
    return tuple([by_place.get(i) for i in range(n)])


while_loop = Op("while_loop", "control", _while_infer, _while_numpy, _while_vjp, attr_names=("condition", "body"),
                wirtinger=True, domain="region")


# --- scan ------------------------------------------------------------------------------------------------------------

def _row(t: Type) -> Type:
    return Type(t.dtype, t.shape[1:])


def _scan_infer(*operands: Type, body: Graph, n_carry: int, length: int, n_consts: int, reverse: bool) -> tuple:
    head, xs = operands[:n_consts + n_carry], operands[n_consts + n_carry:]
    if any(t.ndim == 0 or t.shape[0] != length for t in xs):
        raise RuntimeError(f"scan: operands {list(xs)} must have {length} rows")
    after = _check("scan", body, [*head, *map(_row, xs)])
    if after[:n_carry] != head[n_consts:]:
        raise RuntimeError(f"scan: the body must return the carry it takes, {list(head[n_consts:])}, not "
                           f"{list(after[:n_carry])}")
    return (*after[:n_carry], *[Type(t.dtype, (length, *t.shape)) for t in after[n_carry:]])


def _scan_numpy(*operands: np.ndarray, body: Graph, n_carry: int, length: int, n_consts: int, reverse: bool) -> tuple:
    consts, carry = operands[:n_consts], list(operands[n_consts:n_consts + n_carry])
    xs = operands[n_consts + n_carry:]
    ys = [np.empty((length, *o.shape), o.dtype.numpy) for o in body.outputs[n_carry:]]
    for i in reversed(range(length)) if reverse else range(length):
        results = interpreter.interpret(body, [*consts, *carry, *[x[i] for x in xs]])
        carry = results[:n_carry]
        for y, row in zip(ys, results[n_carry:]):
            y[i] = row
    return (*carry, *ys)


def _carries_before(y: tuple, operands: Sequence[Value], body: Graph, n_carry: int, length: int, n_consts: int,
                    reverse: bool) -> list[Value]:
    """The carry in front of each step, stacked. A carry that the body also returns as a row is there already, one step
    on; for others the loop is run again, with the carry among its rows."""
    start = operands[n_consts:n_consts + n_carry]
    outputs = body.outputs
    rows = {o: y[n_carry + j] for j, o in reversed(list(enumerate(outputs[n_carry:])))}
    params = body.params[n_consts:n_consts + n_carry]
    again = [i for i in range(n_carry) if outputs[i] not in rows and outputs[i] is not params[i]]
    found: dict[int, Value] = {}
    if again:
        def emit(*values: Value) -> list[Value]:
            return [*inline(body, values[0].builder, values)[:n_carry], *[values[n_consts + i] for i in again]]
        wider = trace(emit, types_of(body.params), f"{body.name}_kept")
        result = scan(*operands, body=wider, n_carry=n_carry, length=length, n_consts=n_consts, reverse=reverse)
        found = dict(zip(again, result[n_carry:]))
    before = []
    for i, first in enumerate(start):
        if i in found:
            before.append(found[i])
        elif outputs[i] is params[i]:  # never changed
            before.append(expand(first, (length, *first.shape)))
        else:
            row, head = rows[outputs[i]], reshape_to(first, (1, *first.shape))
            kept = slice_axis(row, 0, 1, length) if reverse else slice_axis(row, 0, 0, length - 1)
            before.append(concatenate(*((kept, head) if reverse else (head, kept)), axis=0))
    return before


_CHEAP = frozenset({"elementwise", "movement", "create", "leaf"})  # computed again in the derivative


def _is_dear(v: Value, at_hand: set[Value]) -> bool:
    """Does `v` take more than cheap operations to compute from what is at hand?"""
    stack, seen = [v], set(at_hand)
    while stack:
        node = stack.pop()
        if node.op.kind not in _CHEAP:
            return True
        fresh = [i for i in node.inputs if i not in seen]
        seen.update(fresh)
        stack += fresh
    return False


def _scan_vjp(g: Any, y: Any, *operands: Value, body: Graph, n_carry: int, length: int, n_consts: int,
              reverse: bool) -> tuple:
    """A scan the other way. It carries the cotangents of the carry, and the sums for constants that cannot be taken out
    of the loop."""
    g, y = _listed(g), _listed(y)
    floating = [i for i, v in enumerate(operands) if v.dtype.is_floating_point or v.dtype.is_complex]
    head = n_consts + n_carry
    consts = [i for i in floating if i < n_consts and operands[i].requires_grad]
    carries = [i for i in floating if n_consts <= i < head]
    xs = [i for i in floating if i >= head and operands[i].requires_grad]
    if length == 0:
        given = {n_consts + i: c for i, c in enumerate(g[:n_carry])}
        return tuple([given.get(i) for i in range(len(operands))])
    before = _carries_before(y, operands, body, n_carry, length, n_consts, reverse)
    rows = [i for i in range(n_carry, len(g)) if g[i] is not None]
    stacked_rows = set(body.outputs[n_carry:])
    dear = [i for i in range(n_carry, len(g)) if _is_dear(body.outputs[i], stacked_rows)]
    fixed = operands[:n_consts]
    start = [zeros_like(operands[i]) if g[i - n_consts] is None else g[i - n_consts] for i in carries]
    stacked = [*before, *operands[head:], *[g[i] for i in rows], *[y[i] for i in dear]]
    wrt = [*consts, *carries, *xs]

    def step(*values: Value) -> list[Value]:
        """(constants, cotangents of the carry, rows) -> cotangents of constants, carry and rows in this step."""
        carry, given_rows = values[n_consts:n_consts + len(carries)], values[n_consts + len(carries):]
        given: list[Value | None] = [None] * len(body.outputs)
        for i, v in zip(carries, carry):
            given[i - n_consts] = v
        at = len(operands) - n_consts
        for i, v in zip(rows, given_rows[at:]):
            given[i] = v
        known = dict(zip(dear, given_rows[at + len(rows):]))
        return pullback(body, values[0].builder, [*values[:n_consts], *given_rows[:at]], wrt, given, known)

    types = types_of((*fixed, *start)) + [_row(v.type) for v in stacked]
    name = f"{body.name}_vjp"
    plain = unmarked(trace(step, types, name))
    parts = plain.outputs[:len(consts)]
    wanted = factors(parts)
    outside = [separable(p, wanted) for p in parts]
    at_hand = plain.params[n_consts + len(carries):]  # rows of operands
    of_rows = plain.outputs[len(consts) + len(carries):]
    read = sorted((v for v in wanted if v not in at_hand and v not in of_rows), key=lambda v: v.id)
    summed = [k for k, out in enumerate(outside) if not out]

    def step_with_sums(*values: Value) -> list[Value]:
        inputs = [*values[:n_consts], *values[n_consts + len(summed):]]
        found = inline(Graph(plain.params, (*plain.outputs, *read)), values[0].builder, inputs)
        sums = [values[n_consts + k] + found[i] for k, i in enumerate(summed)]
        return [*sums, *found[len(consts):]]

    zeros = [zeros_like(operands[consts[k]]) for k in summed]
    types = types_of((*fixed, *zeros, *start)) + [_row(v.type) for v in stacked]
    found = scan(*fixed, *zeros, *start, *stacked, body=trace(step_with_sums, types, name),
                 n_carry=len(zeros) + len(start), length=length, n_consts=n_consts, reverse=not reverse)
    in_all_steps = dict(zip(at_hand, stacked))
    in_all_steps.update(zip((*of_rows, *read), found[len(summed) + len(carries):]))

    def stack(v: Value) -> Value:
        if v in in_all_steps:
            return in_all_steps[v]
        return constant(operands[0].builder, 0, v.dtype, v.shape)  # of a part that is zero

    sums = iter(found[:len(summed)])
    of_consts = [total(p, stack) if out else next(sums) for p, out in zip(parts, outside)]
    by_place = dict(zip(wrt, [*of_consts, *found[len(summed):]]))
    return tuple([by_place.get(i) for i in range(len(operands))])


scan = Op("scan", "control", _scan_infer, _scan_numpy, _scan_vjp,
          attr_names=("body", "n_carry", "length", "n_consts", "reverse"),
          attr_defaults={"n_consts": 0, "reverse": False}, wirtinger=True, domain="region")
"""Operands: `n_consts` constants, `n_carry` carried values, and stacked rows. Results: the carry, and the stacked rows
of the body's other outputs. With `reverse` the last row comes first (rows stay in their places)."""
