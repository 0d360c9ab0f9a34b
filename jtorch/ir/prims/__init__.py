"""The closed set of primitives, one block each, and the arithmetic of Values that derivative rules are written in."""
from jtorch.ir.prims import (  # noqa: F401  importing registers them
    complex,
    contract,
    control,
    create,
    elementwise,
    factor,
    fourier,
    function,
    indexing,
    library,
    movement,
    random,
    reduce,
    solve,
    special,
    window,
)
