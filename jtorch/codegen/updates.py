"""Updates in place: an operation that renews places of its first operand (`put`, `slice_update`, ...) writes in that
operand's memory where nobody reads the old contents any more, and copies nothing.

The operand is a parameter whose memory the result is to have, or a value that the program computes. So a chain of
updates lies in one place. Before an update writes to a parameter its index is checked by a launch of its own, for which
`plan.order_entries` makes it wait: a program that is stopped by a bad index has overwritten nothing.
"""
from __future__ import annotations

from collections.abc import Callable

from jtorch.codegen.partition import Group
from jtorch.codegen.place import Placed
from jtorch.codegen.plan import Entry, substitute
from jtorch.ir.graph import Value


def update_in_place(entries: list[Entry], placed: Placed, outputs: dict[int, Value], in_place: dict[int, int],
                    lower: Callable[[Group], list[Entry] | None]) -> list[Entry]:
    """`entries`, with what `lower` gives for the groups of updates that write in place."""
    readers: dict[int, list[int]] = {}
    updates: dict[Value, list[int]] = {}
    for i, e in enumerate(entries):
        node = e.group.library if e.group is not None and e.host is None else None
        if node is not None and node.op.updates:
            updates.setdefault(node, []).append(i)
        for v in e.reads:
            readers.setdefault(id(v), []).append(i)
    if not updates:
        return entries
    params = placed.graph.params
    goal = {id(outputs[k]): params[p] for k, p in in_place.items()}
    taken = {id(v) for v in (*params, *outputs.values())}
    homes: dict[int, Value] = {}  # id of a value -> the last of the chain of updates that it begins
    chained: list[Value] = []
    renewed: dict[int, list[Entry]] = {}
    dropped: set[int] = set()
    for node, places in reversed(updates.items()):  # where a chain lies is known at its end
        view, home = placed.view(node.inputs[0]), homes.get(id(node), node)
        old = view.root
        given = goal.get(id(home)) is old
        others = [i for i in readers[id(old)] if i not in places] if id(old) in readers else []
        if not view.is_whole or id(old) in taken and not given or others and others[-1] > places[0] or not _pays(node):
            continue
        found = lower(entries[places[0]].group)  # type: ignore[arg-type]
        if found is None or any(old in e.reads and node in e.writes for e in found):  # written before it is read?
            continue
        renewed[places[0]] = found
        dropped.update(places)
        taken.add(id(old))
        if not given:
            homes[id(old)] = home
            chained.append(old)
    result = [e for i, old in enumerate(entries) for e in renewed.get(i, [] if i in dropped else [old])]
    for e in result if chained else ():
        for v in (*e.reads, *e.writes):
            if id(v) in homes:
                substitute(e, v, homes[id(v)])
    return result


def _pays(node: Value) -> bool:
    """Checking the index first takes a pass over it, which is less than the copy unless there is much of it."""
    return len(node.inputs) == 2 or node.inputs[1].type.nbytes <= 2 * node.type.nbytes
