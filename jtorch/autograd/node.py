"""What `Tensor.grad_fn` shows: the operations behind a tensor, named as PyTorch names them."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.capture.cell import Epoch
from jtorch.capture.record import current
from jtorch.ir.graph import Value
from jtorch.ir.prims.create import variable
from jtorch.ir.prims.function import custom_function

_NAMES = {
    "reshape": "View", "concatenate": "Cat", "layer_norm": "NativeLayerNorm", "batch_norm_train": "NativeBatchNorm",
    "batch_norm": "NativeBatchNorm", "group_norm": "NativeGroupNorm", "cross_entropy": "NllLoss",
    "max_pool": "MaxPool2DWithIndices", "avg_pool": "AvgPool2D", "vector_norm": "LinalgVectorNorm", "take": "Index",
    "cast": "ToCopy", "max": "Amax", "min": "Amin", "attention": "ScaledDotProductAttention",
    "bce_with_logits": "BinaryCrossEntropyWithLogits", "graft": "CopySlices", "slice_update": "SliceScatter",
}
"""Operations whose name is not PyTorch's in capitals."""


def name_of(v: Value, epoch: Epoch | None) -> str:
    """PyTorch's name of the derivative of the operation that made a value."""
    name = v.op.name
    if v.op is custom_function:
        number = v.attr("number")
        owner = number if epoch is None or not isinstance(number, int) else epoch.functions[number]
        return f"{owner.name}Backward"
    if name in ("sum", "mean"):
        return f"{name.capitalize()}Backward{int(len(v.attr('axes')) < v.inputs[0].ndim)}"
    if name == "matmul":
        word = "Mm" if v.ndim == 2 else "Bmm"
    elif name == "linear":
        word = "Addmm" if len(v.inputs) == 3 else "Mm"
    elif name == "permute" and v.ndim == 2:
        word = "T"
    else:
        word = _NAMES.get(name) or "".join([part.capitalize() for part in name.split("_")])
    return f"{word}Backward0"


class Node:
    """An operation in the graph behind a tensor. Two are equal where they stand for the same operation."""

    def __init__(self, value: Value, epoch: Epoch) -> None:
        self._value, self._epoch = value, epoch
        self.metadata: dict[Any, Any] = {}

    def name(self) -> str:
        return name_of(self._value, self._epoch)

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The operations that made the operands, and which of their results it was; (None, 0) without a gradient."""
        return tuple([(node_of(i, self._epoch), i.index) if i.requires_grad else (None, 0) for i in self._value.inputs])

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
        if owner is not None and owner.value is not None and isinstance(owner.epoch, Epoch):
            return node_of(owner.value, owner.epoch)
    return Node(v, epoch)


def grad_fn(t: Tensor) -> Node | None:
    """The operation that made a tensor; None for a leaf."""
    if t._requires_grad or not t.requires_grad:
        return None
    recorder = current.recorder
    return node_of(recorder.value(t), recorder.epoch)


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
