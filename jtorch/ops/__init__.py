"""The public operators: value functions turned into functions and methods of tensors, one file per family."""
from jtorch.ops import (  # noqa: F401  importing attaches them
    calculus,
    complex_parts,
    conversion,
    creation,
    decompositions,
    distances,
    foreach,
    fourier,
    indexing,
    interchange,
    joining,
    linalg,
    matmul,
    padding,
    pickling,
    pointwise,
    random,
    rearranging,
    reduction,
    sampling,
    scatter,
    settings,
    shape,
    solvers,
    sorting,
    special,
    spectrogram,
    windows,
)
from jtorch.ops.attach import FUNCTIONS

__all__ = ["FUNCTIONS"]
