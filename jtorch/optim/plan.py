"""The plan of a step: what an optimizer does as long as neither its parameters nor its state change places."""
from __future__ import annotations

from itertools import chain
from operator import is_
from typing import TYPE_CHECKING, Any

from jtorch._tensor import Tensor
from jtorch.capture.update import Item, Update

if TYPE_CHECKING:
    from jtorch.optim.rule import RuleOptimizer


class Plan:
    """An `Update` of the parameters `params`, which have a gradient, and the facts on which it rests."""

    def __init__(self, optimizer: RuleOptimizer, params: list[Tensor], items: list[Item],
                 scalars: list[tuple[int, str, int | None]]) -> None:
        self.params, self.scalars = params, scalars
        self.facts = optimizer.static_facts()
        self.every = list(all_params(optimizer))
        self.state = optimizer.state
        self.states = list(map(self.state.get, params))
        self.kept = list(self.kept_now())
        self.update = Update(items, len(scalars), optimizer.elementwise)

    @classmethod
    def of(cls, optimizer: RuleOptimizer) -> Plan | None:
        """The plan of an optimizer as it is; None if its step makes state first, or reads `lr` from a tensor."""
        params, items = [], []
        scalars: list[tuple[int, str, int | None]] = []
        for index, group in enumerate(optimizer.param_groups):
            found = [(p, p._grad, optimizer.state.get(p, {})) for p in group["params"] if p._grad is not None]
            if isinstance(group["lr"], Tensor) or not all(optimizer.has_state(group, s) for _, _, s in found):
                return None
            first = len(scalars)
            for s in optimizer.scalars_of(group):
                scalars.append((index, s, None) if isinstance(s, str) else (index, *s))
            numbers = tuple(range(first, len(scalars)))
            for targets, g, attrs in optimizer.targets(group, found):
                items.append(Item(optimizer.rule, attrs, targets, g, numbers))
            params += [p for p, _, _ in found]
        return cls(optimizer, params, items, scalars) if items else None

    def holds(self, optimizer: RuleOptimizer) -> bool:
        """Is everything still where it was when the plan was made? (The gradients may be others.)"""
        return (optimizer.state is self.state and optimizer.static_facts() == self.facts
                and all(map(is_, all_params(optimizer), self.every))
                and all(map(is_, map(self.state.get, self.params), self.states))
                and all(map(is_, self.kept_now(), self.kept)))

    def kept_now(self) -> Any:
        return chain.from_iterable([s.values() for s in self.states if s is not None])

    def run(self, optimizer: RuleOptimizer) -> bool:
        """Do the step. False: it was not done, because something about the tensors needs a recorded one."""
        groups = optimizer.param_groups
        numbers = [groups[i][name] if place is None else groups[i][name][place] for i, name, place in self.scalars]
        return self.update.run([p._grad for p in self.params], numbers)  # type: ignore[misc]


def all_params(optimizer: RuleOptimizer) -> Any:
    return chain.from_iterable([group["params"] for group in optimizer.param_groups])
