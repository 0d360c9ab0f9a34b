"""Fusion: which nodes share a kernel.

Groups are numbered as they are opened, and values flow only from a lower or equal number to a higher: that one
invariant keeps the order of groups a valid order of execution, without any search for cycles. Nodes are visited in the
graph's order. A node may join an open group whose number is not below any of its producers', if its elements fit the
group's iteration axes (`Group.join`). Where a node could not join the group of its producers, the reason is kept: it is
where a kernel ends.

A group's axes are outer (parallel) and, once a reduction joined, inner (reduced). A value is at *point* level (it spans
all axes) or at *row* level (the outer ones). After a reduction, values of both levels can go on in the same group.

A cheap value of an earlier group is not loaded but computed again from what that group loaded (`Group.recompute`).
Scalars that depend on scalar parameters alone (an optimizer's step counter and what follows from it) are computed
again wherever they are read, so they hold no group back (`free_scalars`).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from jtorch.codegen.axes import ZERO, Axes, Form
from jtorch.codegen.pairs import parts_of
from jtorch.codegen.place import Placed
from jtorch.codegen.views import is_move
from jtorch.ir.graph import Shape, Value
from jtorch.ir.prims.movement import inverse_permutation

MAX_BUFFERS = 48
MAX_NODES = 200
RECOMPUTE_COST = 40  # an erf and some; a store and a load of the element cost about as much
RECOMPUTE_ROOTS = 3
RECOMPUTE_NODES = 24
SPLIT_ELEMENTS = 1 << 15  # below this, one thread reduces it all
MIN_ITEMS = 8  # with fewer parallel items, a large reduction is split into chunks
LONGEST_COLUMN = 4096  # a column's sum is taken in order: longer ones are split, to keep rounding errors small
SIBLING_NODES = 12  # how far to look for what a node that only reads parameters will meet
NEAR = 16  # groups before the one that refused a reduction, of which one may take it
FREE_NODES = 40  # of one free scalar, which every work item computes
COLUMNS = 128  # about what one item of a reduction over rows takes, see schedule.COLUMN_BLOCK

Forms = tuple[Form, ...]


def is_constant(v: Value) -> bool:
    return v.op.name == "full"


def is_fusible(node: Value) -> bool:
    kind = node.op.kind
    if any(t.type.dtype.is_complex for t in (*node.inputs, *node.siblings)):
        return node.op.name in ("full", "sum") or parts_of(node) is not None
    return (kind == "elementwise" and node.op.expr is not None) or kind == "reduce" or node.op.name in ("full", "iota")


def fusible_pads(placed: Placed) -> set[Value]:
    """Constants around a value that only loops read: these read the value, where there is one."""
    pads = {node for node in placed.graph.nodes if node.op.name == "pad" and is_constant(node.inputs[1])
            and not node.dtype.is_complex and node.type.numel and node.inputs[0].type.numel
            and not any(between for _, _, between in node.attrs[0])}
    for node in placed.graph.nodes if pads else ():
        if not is_fusible(node):
            pads.difference_update(node.inputs)
    return pads.difference(map(placed.root, placed.graph.outputs))


def inside_pad(node: Value, forms: Forms) -> Forms:
    """The forms in which a pad, seen in `forms`, sees its operand: they leave it where the constant stands."""
    return tuple([(first - before, terms) for (first, terms), (before, _, _) in zip(forms, node.attrs[0])])


def reduced_axes(node: Value) -> tuple[int, ...]:
    return node.attrs[0] if isinstance(node.attrs[0], tuple) else (node.attrs[0],)


class Group:
    """Nodes that become one loop nest (or two: see `split`), or one library call (`library` is its node)."""

    __slots__ = ("number", "placed", "axes", "forms", "nodes", "phase", "point", "shape", "reduced", "row_shape", "row",
                 "loads", "library", "split", "reason", "home", "sources", "free",
                 "pads", "padded")

    def __init__(self, number: int, placed: Placed, free: dict[Value, frozenset[Value]], pads: set[Value],
                 library: Value | None = None) -> None:
        self.number, self.placed, self.free, self.pads, self.library = number, placed, free, pads, library
        self.axes = Axes()
        self.forms: dict[Value, Forms] = {}  # of every value computed here
        self.nodes: list[Value] = []  # in order of computation, recomputed ones included
        self.home: dict[Value, None] = {}  # nodes first computed here, in order
        self.phase: dict[Value, int] = {}
        self.shape: Shape | None = None  # of the reference value at point level, and its forms
        self.point: Forms = ()
        self.reduced: Forms | None = None
        self.row_shape: Shape | None = None  # the same at row level
        self.row: Forms = ()
        self.sources: dict[Value, Forms] = {}  # reduction or pad -> forms of its operand
        self.padded = False  # are some values seen in forms that leave them, and computed only where they do not?
        self.loads: dict[Value, None] = {}
        self.split = False
        self.reason = "the graph ends"

    # --- levels ------------------------------------------------------------------------------------------------------

    def point_axes(self) -> set[int]:
        return self.axes.of(self.point)

    def reduced_axes(self) -> set[int]:
        return self.axes.of(self.reduced) if self.reduced is not None else set()

    def extent(self, axes: Iterable[int]) -> int:
        n = 1
        for a in axes:
            n *= self.axes.extents[a]
        return n

    # --- forms of operands -------------------------------------------------------------------------------------------

    def seen(self, v: Value) -> list[Form | None] | None:
        """Forms of `v`, a view of a value computed here; None per dimension that was expanded; None if not affine."""
        chain = []
        while v not in self.forms:
            if not is_move(v):
                return None
            chain.append(v)
            v = v.inputs[0]
        forms: list[Form | None] = list(self.axes.normals(self.forms[v]))
        for node in reversed(chain):
            moved = self._forward(node, forms)
            if moved is None:
                return None
            forms = moved
        return forms

    def _forward(self, node: Value, forms: list[Form | None]) -> list[Form | None] | None:
        name, old = node.op.name, node.inputs[0].shape
        if name == "permute":
            return [forms[p] for p in node.attrs[0]]
        if name == "expand":
            lead = node.ndim - len(old)
            return [None] * lead + [None if n == 1 and m != 1 else f
                                    for n, m, f in zip(old, node.shape[lead:], forms)]
        if name == "reshape":
            if any(f is None for f in forms):
                return _reshape_with_holes(forms, old, node.shape)
            found = self.axes.reshape(forms, old, node.shape)  # type: ignore[arg-type]
            return None if found is None else list(found)
        return None

    def backward(self, v: Value, forms: Forms) -> tuple[Value, Forms] | None:
        """The root of view `v`, and the forms in which it is seen when v is seen in `forms`; None if not affine."""
        while is_move(v):
            name, source = v.op.name, v.inputs[0]
            found: Forms | None = None
            if name == "permute":
                inverse = inverse_permutation(v.attrs[0])
                found = tuple([forms[p] for p in inverse])
            elif name == "expand":
                lead = v.ndim - source.ndim
                found = tuple([ZERO if n == 1 else f for n, f in zip(source.shape, forms[lead:])])
            elif name == "reshape":
                found = self.axes.reshape(forms, v.shape, source.shape)
            if found is None:
                return None
            v, forms = source, found
        return v, forms

    def computes(self, v: Value, forms: Forms) -> bool:
        """Is `v`, seen in `forms`, a value of this group as it is computed here? (Else it is loaded.)"""
        root = self.placed.root(v)
        mine = self.forms.get(root)
        if mine is None:
            return False
        if v is root:
            return forms is mine or self.axes.normals(forms) == self.axes.normals(mine)
        below = self.backward(v, self.axes.normals(forms))
        return below is not None and self.axes.normals(below[1]) == self.axes.normals(mine)

    # --- joining -----------------------------------------------------------------------------------------------------

    def join(self, node: Value, materialised: set[Value]) -> str | None:
        """Add `node`; or say why not, leaving the group as it was."""
        if len(self.nodes) >= MAX_NODES:
            return f"a kernel holds at most {MAX_NODES} operations"
        reduces, pads = node.op.kind == "reduce", node.op.name == "pad"
        operands = [v for v in node.inputs if not is_constant(self.placed.root(v))]
        if pads:
            if self.placed.root(node.inputs[0]) in self.forms:
                return "it reads a value of this loop at other places"
            operands = []
        shape = node.inputs[0].shape if reduces else node.shape
        forms = self._domain(shape, operands)
        if isinstance(forms, str):
            return forms
        axes, point = self.axes.of(forms), self.point_axes()
        reduced = self.reduced_axes()
        if axes != point and (self.reduced is None or axes != point - reduced):
            return "its elements are not those of the loop"
        is_point = axes == point
        phase = max([self.phase[r] for r in map(self.placed.root, operands) if r in self.phase], default=0)
        if reduces:
            if not is_point:
                return "it reduces what is already reduced"
            refusal = self._check_reduction(node, forms, phase)
            if refusal:
                return refusal
        elif self.split and is_point and phase and reduced:
            return "few rows: the reduction is split over chunks, and its result comes from a second kernel"
        refusal = self._take_operands(node, inside_pad(node, forms) if pads else forms, materialised)
        if refusal:
            return refusal
        if reduces:
            over = set(reduced_axes(node))
            self.sources[node] = forms
            inner = tuple([f for i, f in enumerate(forms) if i in over])
            if self.reduced is None:
                self._set_reduced(inner)
            forms = tuple([f for i, f in enumerate(forms) if i not in over])
            if self.row_shape is None:
                self.row_shape, self.row = node.shape, forms
            phase += 1
        elif not is_point and self.row_shape is None:
            self.row_shape, self.row = node.shape, forms
        self._append(node, forms, phase)
        return None

    def _append(self, node: Value, forms: Forms, phase: int) -> None:
        self.forms[node], self.phase[node] = forms, phase
        if node.op.name == "pad":
            self.sources[node] = inside_pad(node, self.axes.normals(forms))
            self.padded = True
        self.nodes.append(node)

    def open(self, node: Value, materialised: set[Value]) -> None:
        """The first node."""
        shape = node.inputs[0].shape if node.op.kind == "reduce" else node.shape
        self.shape, self.point = shape, tuple([self.axes.new(n) for n in shape])
        refusal = self.join(node, materialised)
        assert refusal is None, f"{node!r} cannot even open a group: {refusal}"

    def _domain(self, shape: Shape, operands: Sequence[Value]) -> Forms | str:
        """Forms for a new value of this shape, agreeing with all operands that are computed here."""
        found: list[Form | None] = [ZERO if n == 1 else None for n in shape]
        for v in operands:
            if self.placed.root(v) not in self.forms:
                continue
            seen = self.seen(v)
            if seen is None:
                return "it reads a value of this loop at other places"
            for i, f in enumerate(seen):
                if f is None or shape[i] == 1:
                    continue
                if self.padded and not all(self.axes.within(f, shape[i])):
                    return "it reads a value of this loop at other places"
                present = found[i]
                if present is None:
                    found[i] = f
                elif self.axes.normal(present) != self.axes.normal(f):
                    return "it reads two values of this loop at different places"
        if None in found:
            reference = self._reference(shape)
            if reference is None:
                return "its elements are not those of the loop"
            used = self.axes.of([f for f in found if f is not None])
            for i, f in enumerate(found):
                if f is None:
                    if used & self.axes.of((reference[i],)):
                        return "its elements are not those of the loop"
                    found[i] = reference[i]
        forms = self.axes.normals(found)  # type: ignore[arg-type]
        used_axes = [axis for _, terms in forms for axis, _ in terms]
        if len(set(used_axes)) < len(used_axes):  # x[:, None] + x[None, :] is no diagonal
            return "it reads two values of this loop at different places"
        return forms

    def _reference(self, shape: Shape) -> Forms | None:
        if shape == self.shape:
            return self.axes.normals(self.point)
        if shape == self.row_shape:
            return self.axes.normals(self.row)
        for there, forms in ((self.shape, self.point), (self.row_shape, self.row)):
            if there is not None and _numel(there) == _numel(shape):
                return self.axes.reshape(forms, there, shape)
        return None

    def _check_reduction(self, node: Value, forms: Forms, phase: int) -> str | None:
        over = set(reduced_axes(node))
        inner = self.axes.of([f for i, f in enumerate(forms) if i in over])
        outer = self.axes.of([f for i, f in enumerate(forms) if i not in over])
        if inner & outer:
            return "it reduces a part of an axis"
        if self.reduced is not None:
            if inner != self.reduced_axes():
                return "it reduces other axes"
            if self.split and (phase or node.op.reduction.arg):
                return "few rows: the reduction is split over chunks, and its result comes from a second kernel"
        return None

    def _set_reduced(self, inner: Forms) -> None:
        self.reduced = inner
        axes = self.reduced_axes()
        rows = self.extent(self.point_axes() - axes)
        items = rows
        terms = [t for f in self.axes.normals(self.point) for t in f[1]]
        if terms and terms[-1][0] not in axes:  # the contiguous axis stays: an item is a block of it
            contiguous = self.axes.extents[terms[-1][0]]
            items = rows // contiguous * -(-contiguous // COLUMNS)
            if self.extent(axes) > LONGEST_COLUMN:
                items = 0
        self.split = rows * self.extent(axes) >= SPLIT_ELEMENTS and items < MIN_ITEMS

    # --- operands from elsewhere -------------------------------------------------------------------------------------

    def _take_operands(self, node: Value, forms: Forms, materialised: set[Value]) -> str | None:
        loads: list[Value] = []
        again: dict[Value, Forms] = {}
        for v in node.inputs:
            root = self.placed.root(v)
            if root in self.forms or is_constant(root):
                continue
            if root not in self.free and (root in materialised or root.op.kind == "leaf" or root in self.loads):
                loads.append(root)
                continue
            tree = self._recompute(v, forms, materialised, loads, again)
            if tree is None:
                materialised.add(root)
                loads.append(root)
        new = [r for r in dict.fromkeys(loads) if r not in self.loads]
        crowded = len(self.loads) + len(new) > MAX_BUFFERS
        if crowded and self.nodes and any(r in self.free for r in again):
            return f"a kernel reads at most {MAX_BUFFERS} arrays"
        if crowded and again:  # too many arrays to compute from: load the results
            again, new = {}, [r for r in dict.fromkeys(map(self.placed.root, node.inputs))
                              if not is_constant(r) and r not in self.forms and r not in self.loads]
            materialised.update([r for r in new if r.op.kind != "leaf"])
        if len(self.loads) + len(new) > MAX_BUFFERS and self.nodes:
            return f"a kernel reads at most {MAX_BUFFERS} arrays"
        for r in new:
            self.loads[r] = None
        for r in sorted(again, key=lambda r: r.id):
            phase = max([self.phase.get(self.placed.root(v), 0) for v in r.inputs], default=0)
            self._append(r, again[r], phase)
        return None

    def may_reduce(self, node: Value, materialised: set[Value], home: dict[Value, Group]) -> bool:
        """Could this group, though an operand's group came later, hold a reduction as well? If it can compute the
        operand again, from what it has or from arrays of which it reads one anyway."""
        v = node.inputs[0]
        forms = self._domain(v.shape, [v]) if self.reduced is not None else ""
        if isinstance(forms, str):
            return False
        loads: list[Value] = []
        if not self._recompute(v, forms, materialised, loads, {}):
            return False
        arrays = [r for r in loads if r.type.numel > 1]
        return (not arrays or any(r in self.loads for r in arrays)) and all(
            r not in home or home[r].number < self.number for r in loads)

    def _recompute(self, v: Value, forms: Forms, materialised: set[Value], loads: list[Value],
                   again: dict[Value, Forms]) -> bool | None:
        """Plan to compute the root of `v` here again, from at most a few arrays, if that is cheap."""
        start = self.backward(v, self.axes.normals(forms))
        if start is None:
            return None
        found: dict[Value, Forms] = {}
        roots: list[Value] = []
        cost = nodes = 0
        stack = [start]
        while stack:
            r, seen = stack.pop()
            present = found.get(r) or again.get(r) or self.forms.get(r)
            if present is not None:
                if self.axes.normals(present) != self.axes.normals(seen):
                    return None
                continue
            if is_constant(r):
                continue
            if r.op.kind == "leaf" or (r in materialised and r not in self.free):
                if r not in self.loads and r not in roots and r.type.numel > 1:
                    roots.append(r)
                elif r not in roots:
                    loads.append(r)
                continue
            if r.op.kind == "reduce" or not (is_fusible(r) or r in self.pads) or r.op.fails is not None:
                return None
            if r.type.numel > 1:
                cost += r.op.cost
            nodes += r not in self.free
            found[r] = seen
            if r in self.pads:
                seen = inside_pad(r, self.axes.normals(seen))
            if cost > RECOMPUTE_COST or len(roots) > RECOMPUTE_ROOTS or nodes > RECOMPUTE_NODES:
                return None
            for i in r.inputs:
                if is_constant(self.placed.root(i)):
                    continue
                below = self.backward(i, seen)
                if below is None:
                    root = self.placed.root(i)  # only a load takes any view
                    if root in self.forms or (root not in materialised and root.op.kind != "leaf"):
                        return None
                    (roots if root not in self.loads and root not in roots else loads).append(root)
                else:
                    stack.append(below)
        if len(roots) > RECOMPUTE_ROOTS:
            return None
        loads.extend(roots)
        again.update(found)
        return True


def _reshape_with_holes(forms: list[Form | None], old: Shape, new: Shape) -> list[Form | None] | None:
    """Only dimensions of size 1 may come and go around an expanded one."""
    kept = [f for f, n in zip(forms, old) if n != 1]
    if [n for n in old if n != 1] != [n for n in new if n != 1]:
        return None
    it = iter(kept)
    return [ZERO if n == 1 else next(it) for n in new]


def _numel(shape: Shape) -> int:
    n = 1
    for s in shape:
        n *= s
    return n


def free_scalars(placed: Placed) -> dict[Value, frozenset[Value]]:
    """Single elements that are computed from single parameters by at most `FREE_NODES` operations; with these."""
    free: dict[Value, frozenset[Value]] = {}
    for node in placed.graph.nodes:
        if node.type.numel != 1 or is_move(node) or not is_fusible(node) or node.op.kind != "elementwise" \
                or node.op.fails is not None:
            continue
        roots = [scalar_root(placed, v) for v in node.inputs]
        if all(r is not None and (r in free or r.op.kind == "leaf" or is_constant(r)) for r in roots):
            below = frozenset([node]).union(*[free.get(r, ()) for r in roots])  # type: ignore[arg-type]
            if len(below) <= FREE_NODES:
                free[node] = below
    return free


def scalar_root(placed: Placed, v: Value) -> Value | None:
    """The root of `v` if that is a single element which `v` repeats or reshapes."""
    while is_move(v):
        if v.op.name not in ("permute", "expand", "reshape"):
            return None
        v = v.inputs[0]
    return v if v.type.numel == 1 and placed.root(v) is v else None


def siblings(placed: Placed, node: Value, users: dict[Value, list[Value]], home: dict[Value, Group],
             readers: dict[Value, Group]) -> Iterator[Group]:
    """Groups that compute, or read, what the first users of `node` will be computed from besides."""
    seen, queue = {node}, list(users.get(node, ())[:2])
    for _ in range(SIBLING_NODES):
        if not queue:
            return
        u = queue.pop(0)
        for r in map(placed.root, u.inputs):
            if r in seen or r.type.numel == 1 or is_constant(r):
                continue
            seen.add(r)
            group = home.get(r) or readers.get(r)
            if group is not None and group.library is None:
                yield group
            elif group is None:
                queue.append(r)
        queue += users.get(u, ())[:1]


def partition(placed: Placed) -> list[Group]:
    """Groups in order of execution, without those whose values nobody needs."""
    graph, root = placed.graph, placed.root
    materialised: set[Value] = {root(o) for o in graph.outputs}
    pads = fusible_pads(placed)
    for node in graph.nodes:
        if not is_move(node) and not is_fusible(node) and node not in pads:
            materialised.update([root(v) for v in node.inputs])
    groups: list[Group] = []
    free = free_scalars(placed)
    users: dict[Value, list[Value]] = {}
    for node in graph.nodes:
        for v in node.inputs:
            users.setdefault(root(v), []).append(node)
    home: dict[Value, Group] = {}
    readers: dict[Value, Group] = {}  # the last group that loads a value

    for node in graph.nodes:
        if is_move(node) or (is_constant(node) and node not in materialised):
            continue
        if not is_fusible(node) and node not in pads:
            group = Group(len(groups), placed, free, pads, node)
            groups.append(group)
            for v in node.siblings:
                home[v] = group
                materialised.add(v)
            for v in node.inputs:
                group.loads[root(v)] = None
            continue
        roots = [root(v) for v in node.inputs]
        producers = [home[r] for r, v in zip(roots, node.inputs) if r in home and not (
            r in free and node not in free and scalar_root(placed, v) is r)]
        latest = max(producers, key=lambda g: g.number, default=None)
        lowest = latest.number if latest is not None else 0
        candidates = [latest] if latest is not None and latest.library is None else []
        for r in roots:
            reader = readers.get(r)
            if reader is not None and r.type.numel > 1 and reader.number >= lowest and reader not in candidates:
                candidates.append(reader)
        if not candidates and latest is None and node.type.numel > 1:  # what it will be taken together with
            beside = next(siblings(placed, node, users, home, readers), None)
            candidates = [] if beside is None else [beside]
        if node.op.kind == "reduce" and latest is not None:  # asked for only if the others refuse
            before = islice(reversed(groups[:latest.number]), NEAR)
            again = (g for g in before if g.library is None and g.may_reduce(node, materialised, home))
            places: Iterable[Group] = chain(candidates, islice(again, 1))
        else:
            places = candidates
        for group in places:
            refusal = group.join(node, materialised)
            if refusal is None:
                if group.number < lowest:  # what it computes again is there from now on
                    for r in [r for r in group.forms if r in home and home[r].number > group.number]:
                        del home[r].home[r]
                        group.home[r] = None
                        home[r] = group
                break
            if group is latest:
                group.reason = f"{node.op.name} is not fused: {refusal}"
        else:
            if latest is not None and latest.library is not None:
                latest.reason = f"{latest.library.op.name} is a library kernel"
            group = Group(len(groups), placed, free, pads)
            groups.append(group)
            group.open(node, materialised)
        group.home[node] = None
        home[node] = group
        for r in group.loads:
            readers[r] = group
    return live_groups(placed, groups)


def live_groups(placed: Placed, groups: list[Group]) -> list[Group]:
    """Drop nodes and groups whose values nobody needs any more (they were computed again elsewhere)."""
    needed = {placed.root(o) for o in placed.graph.outputs}
    live = []
    for group in reversed(groups):
        if group.library is not None:
            if any(v in needed for v in group.library.siblings):
                needed.update(group.loads)
                live.append(group)
            continue
        stored = [v for v in group.home if v in needed]
        if not stored:
            continue
        wanted, stack = set(stored), list(stored)
        group.loads = {}
        while stack:
            node = stack.pop()
            forms = group.sources.get(node) or group.forms[node]
            for v in node.inputs:
                r = placed.root(v)
                if group.computes(v, forms):
                    if r not in wanted:
                        wanted.add(r)
                        stack.append(r)
                elif not is_constant(r):
                    group.loads[r] = None
        group.nodes = [v for v in group.nodes if v in wanted]
        group.home = dict.fromkeys(stored)  # from here on: what the group stores
        needed.update(group.loads)
        live.append(group)
    live.reverse()
    return live
