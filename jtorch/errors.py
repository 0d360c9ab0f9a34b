"""Exceptions that are ours; everything a PyTorch user would catch is of PyTorch's (built-in) type."""
from __future__ import annotations


class TraceError(RuntimeError):
    """A traced function did something that a trace cannot hold, such as branching on a tensor's value."""


class OutOfMemoryError(RuntimeError):
    """`torch.OutOfMemoryError`: an allocation larger than what the machine has."""


class IndexOutOfBoundsError(IndexError, RuntimeError):
    """A kernel met an index that no element has. Operators of PyTorch raise IndexError (`x[i]`, `take`, `embedding`,
    `nll_loss`) or RuntimeError (`gather`, `scatter`, `index_add`) for it; a kernel serves them all."""


class LinAlgError(RuntimeError):
    """`torch.linalg.LinAlgError`: a matrix is singular or not definite, or an iteration did not converge."""


class CompileError(RuntimeError):
    """A kernel could not be compiled. `source` is its text."""

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(message)
        self.source = source
