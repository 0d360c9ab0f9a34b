"""What `Tensor.grad_fn` shows: the operations behind a tensor, named as PyTorch names them."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.autograd.names import is_number, name_of
from jtorch.capture.cell import Epoch
from jtorch.capture.record import current
from jtorch.ir.graph import Value
from jtorch.ir.prims.create import variable


class Node:
    """An operation in the graph behind a tensor; its class has the operation's name. Two are equal where they stand for
    the same one."""

    def __init__(self, value: Value, epoch: Epoch) -> None:
        self._value, self._epoch = value, epoch
        self.metadata: dict[Any, Any] = {}

    def name(self) -> str:
        return name_of(self._value, self._epoch)

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The operations that made the operands, and which of their results it was; (None, 0) without a gradient."""
        operands = self._value.inputs
        if self._value.op.name in ("add", "mul") and is_number(operands[0]):
            operands = operands[::-1]  # 2 * x is x * 2
        return tuple([(node_of(i, self._epoch), i.index) if i.requires_grad else (None, 0) for i in operands])

    def register_prehook(self, fn: Callable[[tuple[Tensor, ...]], Any]) -> Any:
        """Call `fn((gradient,))` before the operation's derivative runs; it may return a tuple with a replacement."""
        def hook(g: Tensor) -> Any:
            found = fn((g,))
            return found[0] if isinstance(found, tuple) else found
        return ValueHook(self._epoch.hooks.setdefault(self._value, []), hook)

    def register_hook(self, fn: Callable[..., Any]) -> Any:
        raise NotImplementedError("hooks on the gradients of an operation's inputs are not implemented; register_hook "
                                  "of the tensors themselves is")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and other._value is self._value and other._epoch is self._epoch

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self._value):#x}>"


class AccumulateGrad(Node):
    """The end of a graph: where a gradient is added to a leaf's `.grad`."""

    def __init__(self, value: Value, epoch: Epoch, leaf: Tensor) -> None:
        super().__init__(value, epoch)
        self.variable = leaf

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        return ()

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self._value):#x}>"


class CloneBackward0(Node):
    """A copy of a leaf, which is the same Value."""

    def name(self) -> str:
        return "CloneBackward0"

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        return ((node_of(self._value, self._epoch), 0),)


class RetainGrad:
    """The hook of `Tensor.retain_grad`, which sees what the others have made of the gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __call__(self, g: Tensor) -> None:
        self.tensor._grad = g


class ValueHook:
    """A hook in a list, until it is removed."""

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        self.hooks, self.hook = hooks, hook
        hooks.append(hook)

    def remove(self) -> None:
        if self.hook in self.hooks:
            self.hooks.remove(self.hook)

    def __enter__(self) -> ValueHook:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


def node_of(v: Value, epoch: Epoch) -> Node:
    """The node behind a value: a leaf's end, or, for what an earlier epoch computed, the operation there."""
    if v.op is variable:
        owner = epoch.variables[v.attrs[0]] if v.attrs[0] < len(epoch.variables) else None
        if isinstance(owner, Tensor):
            return AccumulateGrad(v, epoch, owner)
        if owner is not None and owner.value is not None:  # computed by an earlier epoch, perhaps one that is given up
            return node_of(owner.value, owner.epoch if isinstance(owner.epoch, Epoch) else epoch)
    return _class(name_of(v, epoch))(v, epoch)


@functools.cache
def _class(name: str) -> type[Node]:
    return type(name, (Node,), {"__module__": __name__})


def grad_fn(t: Tensor) -> Node | None:
    """The operation that made a tensor; None for a leaf."""
    if t._requires_grad or not t.requires_grad:
        return None
    recorder = current.recorder
    v = recorder.value(t)
    node = node_of(v, recorder.epoch)
    return CloneBackward0(v, recorder.epoch) if type(node) is AccumulateGrad else node


def gradient_edge(t: Tensor) -> tuple[Node, int]:
    """The node that a tensor's gradient arrives at."""
    recorder = current.recorder
    v = recorder.value(t)
    return node_of(v, recorder.epoch), v.index


def tensor_of(node: Node) -> Tensor:
    """A tensor whose gradient is the node's."""
    recorder = current.recorder
    if isinstance(node, AccumulateGrad):
        return node.variable
    if node._epoch is recorder.epoch:
        return wrap(recorder, node._value)
    raise RuntimeError("the graph of this node has been computed; ask for its edge again")
