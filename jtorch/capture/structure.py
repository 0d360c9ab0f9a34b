"""What is known of programs that differ in sizes only.

Kernels hold no sizes. So where work comes back with other sizes (a batch of another length), a program's kernels are
there before it has run once: only its plan is to be made. That costs less than to interpret a large graph, but more
than to interpret a small one; both are measured.
"""
from __future__ import annotations

from jtorch.ir.graph import Graph, Value, postorder

PLANNING = 1e-4
"""Seconds for a node that planning is taken to cost as long as no plan was made."""

UNMEASURED = 4
"""So many programs of one structure may be planned before one is interpreted to see which is cheaper."""

REMEMBERED = 32
"""Later processes are told of programs that come back as long as there are so few of one structure: beyond that it is
seen anew what is cheaper, and a file for each costs more than its plan."""


class Structure:
    """All programs of the same operations on the same types but for sizes."""

    __slots__ = ("programs", "interpreting", "planning", "was_planned")

    def __init__(self, nodes: int) -> None:
        self.programs = 0  # how many there are
        self.interpreting = 0.0  # seconds that an interpreted run takes
        self.planning = nodes * PLANNING  # seconds of the quickest plan, or a guess
        self.was_planned = False

    @property
    def plan_at_once(self) -> bool:
        """Is a further program better planned than interpreted when it is run for the first time?"""
        return self.interpreting > self.planning

    def interpreted(self, seconds: float) -> None:
        """A run took so long. One that was held up says little: what is known at most doubles."""
        self.interpreting = min(seconds, 2 * self.interpreting) if self.interpreting else seconds

    def planned(self, seconds: float) -> None:
        self.planning = min(self.planning, seconds) if self.was_planned else seconds
        self.was_planned = True


def structure_key(graph: Graph) -> int:
    """Equal for graphs that differ in sizes and numbers only. The order of a graph's nodes says nothing (some of them
    were recorded for other graphs before), so they are numbered by a walk from the outputs."""
    places: dict[Value, int] = {}
    rows: list[object] = []
    for v in postorder(graph.outputs):
        rows.append((v.op, tuple([places[i] for i in v.inputs]), v.type.dtype, len(v.type.shape)))
        for s in v.siblings:
            places[s] = len(places)
    rows.append(tuple([places[o] for o in graph.outputs]))
    return hash(tuple(rows))


class Structures:
    """The structures that a recorder has seen."""

    LIMIT = 10_000

    def __init__(self) -> None:
        self.table: dict[int, Structure] = {}

    def find(self, graph: Graph) -> Structure:
        """The structure of a new program."""
        key = structure_key(graph)
        found = self.table.get(key)
        if found is None:
            if len(self.table) >= self.LIMIT:
                self.table.clear()
            found = self.table[key] = Structure(len(graph))
        found.programs += 1
        return found
