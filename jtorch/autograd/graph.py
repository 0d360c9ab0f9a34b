"""`torch.autograd.graph`: looking at a graph, and hooks on what it saves and what flows through it."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from jtorch._tensor import Tensor
from jtorch.autograd.node import Node, ValueHook, gradient_edge
from jtorch.autograd.saved import hooks
from jtorch.capture.record import current

__all__ = ["GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks",
           "get_gradient_edge", "increment_version", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks"]


class GradientEdge(NamedTuple):
    """Where a gradient arrives: a node, and which of its results it belongs to."""

    node: Node
    output_nr: int


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge of a tensor that requires grad."""
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    return GradientEdge(*gradient_edge(tensor))


class saved_tensors_hooks:
    """Within it, tensors that a custom function saves are kept as `pack_hook(tensor)`; `unpack_hook` makes a tensor of
    that again when the backward needs it.

    The derivatives of operators save no tensors here (what a backward needs is part of the graph), so the hooks are
    not called for those, other than in PyTorch.
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        if hooks.refused:
            raise RuntimeError(hooks.refused[-1])
        hooks.stack.append((self.pack_hook, self.unpack_hook))

    def __exit__(self, *exc: Any) -> None:
        hooks.stack.pop()


class save_on_cpu(saved_tensors_hooks):
    """Keep saved tensors in the CPU's memory, which is where they are."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda t: t.detach(), lambda t: t)


@contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Within it, using `saved_tensors_hooks` is a RuntimeError with this message."""
    hooks.refused.append(error_message)
    try:
        yield
    finally:
        hooks.refused.pop()


@contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[None]:
    """Saved tensors may always be written to: the graph holds values, not memory."""
    yield


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Let tensors count as written to."""
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        t._storage.version += 1


class _Handles:
    def __init__(self, handles: Sequence[Any]) -> None:
        self.handles = handles

    def remove(self) -> None:
        for h in self.handles:
            h.remove()

    def __enter__(self) -> _Handles:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable[..., None], *, mode: str = "all"
                             ) -> _Handles | ValueHook:
    """Call `fn(gradients)` when those of all `tensors` have been computed, or with mode 'any' `fn(gradient)` for the
    first of them. The handle's `remove()` takes the hook away."""
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    found: dict[int, Tensor] = {}
    latest = -1

    def hook_of(i: int) -> Callable[[Tensor], None]:
        def hook(g: Tensor) -> None:
            nonlocal latest
            if latest != current.recorder.walks:  # another backward
                latest = current.recorder.walks
                found.clear()
            first = not found
            found[i] = g
            if mode == "any":
                if first:
                    fn(g)
            elif len(found) == len(tensors):
                fn([found[j] for j in range(len(tensors))])
        return hook
    return _Handles([t.register_hook(hook_of(i)) for i, t in enumerate(tensors)])
