"""What a program is. Importing any part of this package registers every operation, in one order."""
from jtorch.ir import arith, composites, prims  # noqa: F401
