"""The names of the kernel language that library kernels use, with their meaning in plain Python.

They let the kernels of this package be read, linted and, with NumPy arrays as pointers, run as ordinary functions. The
compiler never imports this module: it has its own definition of each name.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

Pointer = Any

f32, f64 = np.float32, np.float64
i8, i16, i32, i64 = np.int8, np.int16, np.int32, np.int64
u8, u16, u32, u64 = np.uint8, np.uint16, np.uint32, np.uint64
b8 = np.bool_


def index_div(a: int, b: int) -> int:
    return a // b


def index_mod(a: int, b: int) -> int:
    return a % b


exp, log, log1p, sin, cos, isinf = np.exp, np.log, np.log1p, np.sin, np.cos, np.isinf
expm1, erfc = np.expm1, math.erfc
sqrt, floor, ceil, lgamma = np.sqrt, np.floor, np.ceil, math.lgamma


def select(condition: bool, a: Any, b: Any) -> Any:
    return a if condition else b


def fma(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


def max_number(a: Any, b: Any) -> Any:
    return max(a, b)


def maximum(a: Any, b: Any) -> Any:
    return np.maximum(a, b)


def reassoc_add(a: Any, b: Any) -> Any:
    return a + b


def reassoc_mul(a: Any, b: Any) -> Any:
    return a * b


def addr_of(pointer: Pointer, index: int) -> int:
    return pointer.ctypes.data + int(index) * pointer.itemsize


def store_error(pointer: Pointer, code: int) -> None:
    if not pointer[0]:
        pointer[0] = code


def call_gemm(address: Any, ta: int, tb: int, m: int, n: int, k: int, alpha: Any, a: int, lda: int, b: int, ldb: int,
              beta: Any, c: int, ldc: int) -> None:
    raise NotImplementedError("only compiled kernels call BLAS")


def call_routine(address: int, *args: int) -> None:
    raise NotImplementedError("only compiled kernels call LAPACK")


def shifted(pointer: Pointer, index: int) -> Pointer:
    return pointer[index:]


def tile_rows(pointer: Pointer) -> int:
    return 8


def tile_columns(pointer: Pointer) -> int:
    return 48


def product_tile(a: Pointer, lda: int, b: Pointer, offsets: Pointer, k: int, c: Pointer, ldc: int, rows: int,
                 columns: int, accumulate: bool) -> None:
    """c[rows, columns] (+)= a times rows of b that begin at the offsets; see `jtorch/runtime/tiles.py`."""
    for i in range(rows):
        for j in range(columns):
            total = c[i * ldc + j] if accumulate else 0
            c[i * ldc + j] = total + sum(a[i * lda + p] * b[offsets[p] + j] for p in range(k))


def matrix_tile(a: Pointer, a_row: int, a_col: int, b: Pointer, ldb: int, k: int, c: Pointer, ldc: int, rows: int,
                columns: int, accumulate: bool) -> None:
    """c[rows, columns] (+)= a times b; see `jtorch/runtime/tiles.py`."""
    for i in range(rows):
        for j in range(columns):
            total = c[i * ldc + j] if accumulate else 0
            c[i * ldc + j] = total + sum(a[i * a_row + p * a_col] * b[p * ldb + j] for p in range(k))


def _bfloat(bits: Any) -> Any:
    return (np.asarray(bits, np.uint32) << np.uint32(16)).view(np.float32)


def pair_tile(a: Pointer, lda: int, b: Pointer, k: int, c: Pointer, ldc: int, rows: int, columns: int,
              accumulate: bool) -> None:
    """c[rows, columns] (+)= a times pairs of rows of b, in bfloat16; see `jtorch/runtime/pair_tiles.py`."""
    for i in range(rows):
        for j in range(columns):
            total = c[i * ldc + j] if accumulate else 0
            pairs = [b[p // 2 * tile_columns(c) + j] >> 16 * (p % 2) & 0xFFFF for p in range(k)]
            c[i * ldc + j] = total + sum(_bfloat(a[i * lda + p]) * _bfloat(pairs[p]) for p in range(k))


def transpose_pairs(x: Pointer, ldx: int, y: Pointer, ldy: int, rows: int, columns: int) -> None:
    """y[columns, rows] = pairs of neighbours in the rows of x"""
    for i in range(rows):
        for j in range(columns):
            y[j * ldy + i] = x[i * ldx + 2 * j] | u32(x[i * ldx + 2 * j + 1]) << u32(16)


def transpose(x: Pointer, ldx: int, y: Pointer, ldy: int, rows: int, columns: int) -> None:
    """y[columns, rows] = x.T"""
    for i in range(rows):
        for j in range(columns):
            y[j * ldy + i] = x[i * ldx + j]


def copy_rows(x: Pointer, ldx: int, y: Pointer, ldy: int, rows: int, columns: int) -> None:
    """y[rows, columns] = x"""
    for i in range(rows):
        for j in range(columns):
            y[i * ldy + j] = x[i * ldx + j]


# Holes: a type, an expression or lines that `kernel_text.text` fills in. What is here serves plain Python runs.
T = S = L = f32
U = u64
call_gemm_T = call_gemm
load = store = f32
AVERAGE = BEST = BITS = BOUNDS = COLUMN = COMBINE = DC = DIVISOR = EDGE = EPILOGUE = EVERY = FOLD = FOUR = 0
INDEX_EDGE = INDEX_INSIDE = INPUTS = OUTPUTS = 0
TOGETHER = 4
STORES = ZEROS = LINES = PADDED_ROW = 0
INPUT_DATA = INPUT_TERMS = INPUT_VALUES = OUTPUT_DATA = OUTPUT_TERMS = OUTPUT_VALUES = 0
ALPHA = ELEMENT = FIRST = KEY = LAST = NAN = PASSES = WORD = WORST = 0
LOWEST = OFFSETS = PITCH = PLACE = ROW = ROWS = SC = SIZE = STRIPS = SUMS = SX = 0
TERMS = TILES = TRANSPOSED = VALUE = WEIGHTS = WINS = 0
EXPANSION = FACTOR = LOG_GAMMA = STEPS = TOLERANCE = 0
TAIL_COUNT = TAIL_FOUND = TAIL_MODE = TAIL_REST = UNIFORM = uniform = 0.0
