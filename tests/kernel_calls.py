"""Calling kernels from tests, without jtorch's runtime: NumPy arrays in, one thread."""
import ctypes

import numpy as np

from jtorch.runtime import kernels

ENTRY = ctypes.CFUNCTYPE(None, *(ctypes.c_int64,) * 4)


def kinds(args) -> tuple[str, ...]:
    """The parameter kinds of Python arguments."""
    def kind(a):
        if isinstance(a, np.ndarray):
            return f"p:{a.dtype.name}"
        return "f" if isinstance(a, float) else "i"
    return tuple(map(kind, args))


def call(address: int, *args, begin=0, end=0, worker=0) -> None:
    """Run the kernel at an address on arrays, ints and floats."""
    table = np.empty(len(args), np.int64)
    for i, a in enumerate(args):
        if isinstance(a, np.ndarray):
            table[i] = a.ctypes.data
        elif isinstance(a, float):
            table[i:i + 1].view(np.float64)[0] = a
        else:
            table[i] = a
    ENTRY(address)(table.ctypes.data, begin, end, worker)


def run(source: str, *args, end: int, begin=0) -> None:
    """Compile a kernel for these arguments and run it over begin..end."""
    call(kernels.load(source, kinds(args)).address, *args, begin=begin, end=end)


def elementwise(expression: str, dtype, *arrays) -> np.ndarray:
    """The array of `expression` over the elements x, y, z of arrays."""
    names = "xyz"[:len(arrays)]
    loads = "".join(f"        {n} = p{n}[i]\n" for n in names)
    source = (f"def kernel({', '.join('p' + n for n in names)}, out, begin, end, worker):\n"
              f"    for i in range(begin, end):\n{loads}        out[i] = {expression}\n")
    out = np.empty(len(arrays[0]), dtype)
    run(source, *arrays, out, end=len(out))
    return out
