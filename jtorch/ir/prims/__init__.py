"""The closed set of primitives, one block each, and the arithmetic of Values that derivative rules are written in."""
from jtorch.ir.prims import contract, create, elementwise, movement, reduce  # noqa: F401  registers them
