"""Composites: operations that are recorded under their own names and carry a decomposition into primitives."""
from jtorch.ir.composites import (  # noqa: F401  importing registers them
    activations,
    attention,
    classification,
    ctc,
    distances,
    losses,
    normalization,
    optimizer,
    optimizer_matrix,
    pointwise,
    pooling,
    random,
    sampling,
    softmax,
    statistics,
    systems,
)
