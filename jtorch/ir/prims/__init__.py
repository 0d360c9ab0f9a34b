"""The closed set of primitives, one block each, and the arithmetic of Values that derivative rules are written in."""
from jtorch.ir.prims import (  # noqa: F401  importing registers them
    contract,
    create,
    elementwise,
    function,
    indexing,
    movement,
    random,
    reduce,
    window,
)
