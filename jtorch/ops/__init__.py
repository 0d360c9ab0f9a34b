"""The public operators: value functions turned into functions and methods of tensors, one file per family."""
from jtorch.ops import (  # noqa: F401  importing attaches them
    conversion,
    creation,
    indexing,
    joining,
    linalg,
    matmul,
    pointwise,
    random,
    rearranging,
    reduction,
    sampling,
    settings,
    shape,
    sorting,
)
from jtorch.ops.attach import FUNCTIONS

__all__ = ["FUNCTIONS"]
