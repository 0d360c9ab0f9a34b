"""What is measured: a call of one operator on named inputs (`inputs.py`), forward alone or with its gradient."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Operator:
    """One row of the table.

    Attributes:
        name: what `--ops` matches: PyTorch's name without `torch.`, what is special about the call, "backward".
        call: the work; takes the torch-like module and the inputs.
        inputs: names of the inputs.
        backward: the gradients with respect to all floating inputs are taken too.
    """

    name: str
    call: Callable[..., Any]
    inputs: tuple[str, ...]
    backward: bool = False

    @property
    def covers(self) -> str:
        """The public name this is a case of."""
        return self.name.split()[0]

    def prepare(self, torch: Any, tensors: Iterable[Any]) -> Callable[[], Any]:
        """A step to be called over and over."""
        tensors = list(tensors)
        if not self.backward:
            return functools.partial(self.call, torch, *tensors)
        tensors = [t.clone().requires_grad_() if t.is_floating_point() else t for t in tensors]
        leaves = [t for t in tensors if t.requires_grad]
        cotangents: list[Any] = []

        def step() -> Any:
            out = self.call(torch, *tensors)
            out = out[0] if isinstance(out, (tuple, list)) else out
            if not cotangents:
                cotangents.append(torch.ones_like(out).detach())
            return torch.autograd.grad(out, leaves, cotangents[0])

        return step


def resolve(torch: Any, path: str) -> Any:
    """`nn.functional.gelu` -> that function of this module."""
    return functools.reduce(getattr, path.split("."), torch)


def op(path: str, inputs: str, *args: Any, label: str = "", backward: bool = True, **kwargs: Any) -> list[Operator]:
    """`torch.<path>(*inputs, *args, **kwargs)`, and again with its gradient if it has one."""

    def call(torch: Any, *tensors: Any) -> Any:
        return resolve(torch, path)(*tensors, *args, **kwargs)

    return work(path, inputs, call, label=label, backward=backward)


def work(path: str, inputs: str, call: Callable[..., Any], *, label: str = "", backward: bool = True) -> list[Operator]:
    """The same for a call that is written out: `call(torch, *inputs)`."""
    name, names = f"{path} {label}".strip(), tuple(inputs.split())
    forward = Operator(name, call, names)
    return [forward, Operator(f"{name} backward", call, names, backward=True)] if backward else [forward]


def each(paths: str, inputs: str, *args: Any, label: str = "", backward: bool = True, **kwargs: Any) -> list[Operator]:
    """`op` for several names that are called alike."""
    return [o for path in paths.split() for o in op(path, inputs, *args, label=label, backward=backward, **kwargs)]
