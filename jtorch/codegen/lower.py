"""Fusion group -> body -> kernels."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

from jtorch.codegen.axes import linear, row_major
from jtorch.codegen.body import Body, Compute, Number, Position, Read, Reduce, Temporary, Write
from jtorch.codegen.pairs import COSTS, parts_of
from jtorch.codegen.partition import Group, is_constant, reduced_axes
from jtorch.codegen.scalar import CONVERSIONS, expression, failure
from jtorch.codegen.schedule import Step, chunk_length, schedule
from jtorch.dtypes import bool_, dtype, float32, float64, int32, int64
from jtorch.ir.graph import Value
from jtorch.ir.primitive import Op
from jtorch.ir.primitive import op as operation


def lower(group: Group, tiles: bool = False) -> list[Step]:
    """The kernels of a group, in order: one, or two if its reduction is split. `tiles`: see `schedule`."""
    body = body_of(group)
    if not group.split or any(v.op.kind == "reduce" and v.op.reduction.arg for v in group.nodes):
        return [schedule(body, tiles=tiles)]
    length = chunk_length(body)
    if not length:
        return [schedule(body)]
    partial, final = split(body, length)
    steps = [schedule(partial, length)]
    if final.writes:
        steps.append(schedule(final))
    return steps


def body_of(group: Group) -> Body:
    axes, placed = group.axes, group.placed
    inner = sorted(group.reduced_axes())
    body = Body({}, sorted(group.point_axes() - set(inner)), inner)
    body.extents = {a: axes.extents[a] for a in body.outer + body.inner}
    place: dict = {}  # value or (root, access) -> statement

    def add(key, statement) -> int:
        place[key] = len(body.statements)
        body.statements.append(statement)
        return place[key]

    def add_fold(op: Op, d: dtype, arg: int, node: Value | None = None) -> int:
        key = (op.name, d, arg)
        return place[key] if key in place else add(key, Reduce(d, op, arg, node))

    def guard(v: Value, forms) -> int | None:
        """Where do the forms stay within `v`? None if everywhere."""
        every: int | None = None
        for form, size in zip(axes.normals(forms), v.shape):
            above, below = axes.within(form, size)
            if above and below:
                continue
            first, terms = form
            key = ("guard", form, size)
            if key not in place:
                d = int32 if sum(abs(c) * axes.extents[a] for a, c in terms) + abs(first) + size < 2**31 else int64
                bounds = [add(("position", terms), Position(d, 0, dict(terms)))]
                bounds += [add(None, Number(d, -first))] if not above else []
                bounds += [add(None, Number(d, size - first))] if not below else []
                text = "({0} >= {1}) & ({0} < {2})" if len(bounds) == 3 else \
                    "{0} < {1}" if above else "{0} >= {1}"
                add(key, Compute(bool_, text, tuple(bounds), 1))
            every = place[key] if every is None else add(None, Compute(bool_, "{0} & {1}", (every, place[key]), 1))
        return every

    def operands(v: Value, forms) -> tuple[int, ...]:
        """The statements that are the parts of an operand: one, or two of a complex one."""
        root = placed.root(v)
        if not v.dtype.is_complex:
            return (operand(v, forms),)
        if is_constant(root):  # also the one that this group writes
            if root not in place:
                number, real = complex(root.attr("value")), root.dtype.to_real()
                place[root] = add(None, Number(real, number.real)), add(None, Number(real, number.imag))
            return place[root]
        if group.computes(v, forms):
            return place[root]
        view = placed.view(v)
        offset, terms = linear(axes.normals(forms), view.strides)
        key = (root, offset + view.offset, terms)
        if key not in place:
            place[key] = tuple([add(None, Read(root.dtype.to_real(), root, offset + view.offset, dict(terms), None, c))
                                for c in (0, 1)])
        return place[key]

    def operand(v: Value, forms) -> int:
        root = placed.root(v)
        if group.computes(v, forms):
            return place[root]
        if is_constant(root):
            return place[root] if root in place else add(root, Number(root.dtype, root.attr("value")))
        view = placed.view(v)
        offset, terms = linear(axes.normals(forms), view.strides)
        offset += view.offset
        where = guard(v, forms) if group.padded else None
        key = (root, offset, terms, where)
        if key in place:
            return place[key]
        return add(key, Read(root.dtype, root, offset, dict(terms), where))

    def pair(node: Value) -> Any:
        """What has to do with complex numbers, part by part."""
        op, real = node.op, node.dtype.to_real() if node.dtype.is_complex else node.dtype
        if op.kind == "reduce":
            found = [add_fold(op, real, arg, node) for arg in operands(node.inputs[0], group.sources[node])]
        elif is_constant(node):
            found = list(operands(node, group.forms[node]))
        else:
            args = tuple([i for v in node.inputs for i in operands(v, group.forms[node])])
            cost = COSTS.get(op.name, 1)
            found = [add(None, Compute(real, text, args, cost, None, node)) for text in parts_of(node) or ()]
        return tuple(found) if node.dtype.is_complex else found[0]

    for node in group.nodes:
        op = node.op
        forms = group.forms[node]
        if any(v.dtype.is_complex for v in (node, *node.inputs)):
            place[node] = pair(node)
        elif op.kind == "reduce":
            source = node.inputs[0]
            dims = reduced_axes(node)
            seen = group.sources[node]
            arg = operand(source, seen)
            if op.reduction.arg:
                extremum = add_fold(operation("max" if op.name == "argmax" else "min"), source.dtype, arg, node)
                place[node] = add_position(body, extremum, arg, dict(axes.normal(seen[dims[0]])[1]))
            else:
                place[node] = add_fold(op, node.dtype, arg, node)
        elif op.name == "iota":
            offset, terms = axes.normal(forms[0])
            add(node, Position(node.dtype, offset, dict(terms)))
        elif op.name == "full":
            add(node, Number(node.dtype, node.attr("value")))
        elif op.name == "pad":
            x, number = node.inputs
            arg, where = operand(x, group.sources[node]), guard(x, group.sources[node])
            add(node, Compute(node.dtype, "select({0}, {1}, {2})", (where, arg, operand(number, ())), 1, None, node))
        else:
            args = tuple([operand(v, forms) for v in node.inputs])
            if op.name == "div" and node.dtype.is_floating_point and _is_row_divisor(group, node):
                # one division per row: x / s -> x * (1 / s), at most one rounding more
                if ("reciprocal", args[1]) not in place:
                    add(("reciprocal", args[1]), Compute(node.dtype, RECIPROCAL[node.dtype.compute], (args[1],), 4))
                factors = args[0], place["reciprocal", args[1]]
                add(node, Compute(node.dtype, "{0} * {1}", factors, 1, None, node))
                continue
            ins = tuple([v.dtype for v in node.inputs])
            add(node, Compute(node.dtype, expression(op, ins, node.dtype, node.attrs), args, op.cost,
                              failure(op, ins), node))
    for node in group.nodes:
        if node in group.home:
            offset, terms = linear(axes.normals(group.forms[node]), row_major(node.shape))
            if node.dtype.is_complex:
                body.writes += [Write(i, node, offset, dict(terms), c) for c, i in enumerate(place[node])]
            else:
                body.writes.append(Write(place[node], node, offset, dict(terms)))
    return body


def add_position(body: Body, extremum: int, arg: int, strides: dict[int, int]) -> int:
    """Statements of argmax: of the extremum m, the first position where a == m (or, m being nan, where a is).

    Two folds that vectorise, in place of one that carries a value and its position from element to element.
    """
    def add(statement: Any) -> int:
        body.statements.append(statement)
        return len(body.statements) - 1

    found = add(Compute(bool_, "({0} == {1}) | ({0} != {0})", (arg, extremum), 2))
    position = add(Position(int32, 0, strides))
    candidate = add(Compute(int32, f"select({{0}}, {{1}}, i32({2**31 - 1}))", (found, position), 1))
    first = add(Reduce(int32, operation("min"), candidate))
    return add(Compute(int64, "i64({0})", (first,), 1))


RECIPROCAL = {d: f"{CONVERSIONS[d.name]}(1) / {{0}}" for d in (float32, float64)}


def _is_row_divisor(group: Group, node: Value) -> bool:
    """Does every element of a row divide by one and the same folded value?"""
    divisor = group.placed.root(node.inputs[1])
    if not group.phase.get(divisor) or divisor not in group.forms:
        return False
    return len(group.axes.of(group.forms[divisor])) < len(group.axes.of(group.forms[node]))


def split(body: Body, length: int) -> tuple[Body, Body]:
    """Two bodies for a reduction cut into chunks: the first folds each chunk, the second the partial results.

    What depends on the folds, and what is at row level, goes to the second. The chunk number is a new outer axis, the
    first (see `schedule`).
    """
    phases, axes = body.phases(), body.axes_of()
    chunk_axis = -1
    first_inner = body.inner[0]
    chunks = -(-body.extents[first_inner] // length)
    first = Body(body.extents | {chunk_axis: chunks}, [chunk_axis, *body.outer], body.inner)
    second = Body({chunk_axis: chunks} | {a: body.extents[a] for a in body.outer}, list(body.outer), [chunk_axis])
    outer_strides: dict[int, int] = {}
    rows = 1
    for a in reversed(body.outer):
        outer_strides[a] = rows
        rows *= body.extents[a]
    moved: dict[int, int] = {}  # statement -> its place in the first body
    final: dict[int, int] = {}

    def into(target: Body, table: dict[int, int], index: int) -> int:
        stack = [index]
        while stack:
            i = stack[-1]
            if i in table:
                stack.pop()
                continue
            s = body.statements[i]
            if isinstance(s, Reduce) and target is second:
                partial = Temporary(s.dtype, chunks * rows)
                arg = into(first, moved, s.arg)
                folded = len(first.statements)
                first.statements.append(Reduce(s.dtype, s.op, arg, s.node))
                strides = outer_strides | {chunk_axis: rows}
                first.writes.append(Write(folded, partial, 0, dict(strides)))
                target.statements.append(Read(s.dtype, partial, 0, dict(strides)))
                target.statements.append(Reduce(s.dtype, s.op, len(target.statements) - 1, s.node))
                table[i] = len(target.statements) - 1
                stack.pop()
                continue
            args = body.operands(s)
            missing = [a for a in args if a not in table]
            if missing:
                stack.extend(missing)
                continue
            if isinstance(s, Compute):
                s = Compute(s.dtype, s.text, tuple([table[a] for a in args]), s.cost, s.fails, s.node)
            elif args:
                s = replace(s, guard=table[args[0]])
            table[i] = len(target.statements)
            target.statements.append(s)
            stack.pop()
        return table[index]

    inner = set(body.inner)
    for w in body.writes:
        if axes[w.value] & inner or (set(w.strides) & inner):
            assert phases[w.value] == 0
            first.writes.append(replace(w, value=into(first, moved, w.value)))
        else:
            second.writes.append(replace(w, value=into(second, final, w.value)))
    return first, second
