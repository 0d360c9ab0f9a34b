"""How each implementation is imported and given a case: `load` imports it, `prepare` returns a step to call.

A step returns when its result is there. Nothing is imported before `load`, so that its time can be taken.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .case import Case

Step = Callable[[], Any]
THREADS = 2


class Unavailable(Exception):
    """This implementation takes no part in this case; the message says why."""


class Implementation:
    """What all of them have."""

    def compiling(self) -> int:
        """How many kernels are compiled in the background: as long as there are, calls are not what they will be."""
        return 0


class Torch(Implementation):
    """PyTorch, op by op."""

    compiled = False
    measured_module = "torch"

    def load(self) -> None:
        import torch

        torch.set_num_threads(THREADS)
        self.torch: Any = torch

    def prepare(self, case: Case, model_path: Path) -> Step:
        program = case.build(self.torch)
        fn, inputs = program.fn, program.inputs
        if case.exportable and case.measure == "call":
            fn = self.torch.no_grad()(fn)
        return self.step(fn, inputs)

    def step(self, fn: Callable[..., Any], inputs: tuple[Any, ...]) -> Step:
        return lambda: fn(*inputs)


class TorchCompile(Torch):
    """PyTorch with the whole step under `torch.compile`."""

    compiled = True

    def step(self, fn: Callable[..., Any], inputs: tuple[Any, ...]) -> Step:
        return super().step(self.torch.compile(fn), inputs)


class Jtorch(Torch):
    """jtorch, eagerly: every call ends with `synchronize()`."""

    measured_module = "jtorch"

    def load(self) -> None:
        import jtorch
        from jtorch.runtime import kernels

        self.torch: Any = jtorch
        self.kernels = kernels

    def compiling(self) -> int:
        return self.kernels.compiling()

    def step(self, fn: Callable[..., Any], inputs: tuple[Any, ...]) -> Step:
        synchronize = self.torch.synchronize

        def step() -> Any:
            result = fn(*inputs)
            synchronize()
            return result

        return step


class JtorchTrace(Jtorch):
    """jtorch with the whole step under `jit.trace`."""

    compiled = True

    def step(self, fn: Callable[..., Any], inputs: tuple[Any, ...]) -> Step:
        traced = self.torch.jit.trace(fn)
        return lambda: traced(*inputs)


class Jax(Implementation):
    """JAX, jitted by hand."""

    compiled = True
    measured_module = "jax"

    def load(self) -> None:
        import jax

        jax.devices()

    def prepare(self, case: Case, model_path: Path) -> Step:
        if case.build_jax is None:
            raise Unavailable("no JAX version of this case is written")
        return case.build_jax()


class OnnxRuntime(Implementation):
    """ONNX Runtime on a model exported by PyTorch beforehand (see `export_onnx`)."""

    compiled = True
    measured_module = "onnxruntime"

    def load(self) -> None:
        import onnxruntime

        self.runtime: Any = onnxruntime

    def prepare(self, case: Case, model_path: Path) -> Step:
        import numpy as np

        if not case.exportable:
            raise Unavailable("ONNX Runtime does inference only")
        if not model_path.exists():
            raise Unavailable("the model could not be exported")
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = self.runtime.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])
        with np.load(model_path.with_suffix(".npz")) as saved:
            feeds = {given.name: saved[given.name] for given in session.get_inputs()}
        return lambda: session.run(None, feeds)


IMPLEMENTATIONS: dict[str, Callable[[], Any]] = {
    "torch": Torch,
    "torch.compile": TorchCompile,
    "jax": Jax,
    "onnxruntime": OnnxRuntime,
    "jtorch": Jtorch,
    "jtorch.trace": JtorchTrace,
}


def prepare_environment() -> None:
    """Two threads for every library, whatever the machine has; to be called before anything is imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(THREADS))


def export_onnx(case: Case, model_path: Path) -> None:
    """Write the case as an ONNX model, and its inputs beside it as `.npz`."""
    import numpy as np
    import torch

    program = case.build(torch)

    class Module(torch.nn.Module):
        """Holds the function, and the parameters if it is a module itself."""

        def __init__(self) -> None:
            super().__init__()
            self.fn = program.fn

        def forward(self, *inputs: Any) -> Any:
            return self.fn(*inputs)

    names = [f"input{index}" for index in range(len(program.inputs))]
    torch.onnx.export(Module().eval(), program.inputs, str(model_path), input_names=names, dynamo=False)
    np.savez(model_path.with_suffix(".npz"), **dict(zip(names, (x.numpy() for x in program.inputs), strict=True)))
