"""The innermost block of matrix products, held in vector registers: names of the kernel language.

    from jtorch.runtime.tiles import copy_rows, matrix_tile, product_tile, tile_columns, tile_rows      # in a kernel

    product_tile(a, lda, b, offsets, k, c, ldc, rows, columns, accumulate)

        c[i, j] (+)= sum over p < k of a[i * lda + p] * b[offsets[p] + j]       i < rows, j < columns

    matrix_tile(a, a_row, a_col, b, ldb, k, c, ldc, rows, columns, accumulate)

        c[i, j] (+)= sum over p < k of a[i * a_row + p * a_col] * b[p * ldb + j]

    transpose(x, ldx, y, ldy, rows, columns)

        y[j * ldy + i] = x[i * ldx + j]                                         i < rows, j < columns

    copy_rows(x, ldx, y, ldy, rows, columns)

        y[i * ldy + j] = x[i * ldx + j]                                         i < rows, j < columns

`a`, `b`, `c` are pointers moved with `shifted(pointer, index)`; `offsets` is a pointer to int64, in elements. Rows of b
may lie anywhere and overlap, so `product_tile` takes the windows of a convolution where they are; nothing is packed.
At most `tile_rows(c)` rows and `tile_columns(c)` columns, which depend on the CPU's registers; sums are taken in the
order of p whatever these are. b is read up to the end of the last vector: there has to be memory for `tile_columns(c)`
elements. `transpose` goes through registers, in squares as wide as a vector, and writes whole squares: up to
`tile_columns(y) - 1` rows and columns more than it was asked for. `copy_rows` takes at most `tile_columns(y)` columns
and writes whole vectors.

This module imports Numba; only kernel text imports it.
"""
from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir
from numba.core import types

from jtorch.codegen.irmath import F32, F64, I1, I32, I64
from jtorch.runtime.intrinsics import NAMES, intrinsic

BYTES = {F32: 4, F64: 8}
VOID = ir.VoidType()

PREFETCH_STEPS = 64
"""Terms of the sums from which a tile asks for the memory of its results before it begins: fewer take no longer than
the asking is worth."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Registers of a tile: `rows` x `vectors` sums, of `width` bytes each."""

    rows: int
    vectors: int
    width: int

    def lanes(self, scalar: ir.Type) -> int:
        return self.width // BYTES[scalar]


def shape_of(module: ir.Module) -> Shape:
    """What fits into the registers, with some left for the operands: 32 of 64, 32 of 16, or 16 of 32 bytes."""
    if getattr(module, "has_scalef", False):
        return Shape(8, 3, 64)
    return Shape(8, 3, 16) if platform.machine() in ("aarch64", "arm64") else Shape(4, 3, 32)


def scalar_of(pointer: types.Type) -> types.Type:
    if not isinstance(pointer, types.CPointer) or pointer.dtype not in (types.float32, types.float64):
        raise TypeError
    return pointer.dtype


def _size_rule(pointer: types.Type) -> tuple:
    scalar_of(pointer)
    return types.int64, (pointer,)


@intrinsic(_size_rule, "tile_rows")
def tile_rows(builder, sig, pointer):
    """Rows of a tile for elements of this pointer's type."""
    return ir.Constant(I64, shape_of(builder.module).rows)


@intrinsic(_size_rule, "tile_columns")
def tile_columns(builder, sig, pointer):
    """Columns of a tile for elements of this pointer's type."""
    shape = shape_of(builder.module)
    return ir.Constant(I64, shape.vectors * shape.lanes(pointer.type.pointee))


@intrinsic(lambda pointer, index: (pointer, (pointer, types.int64)), "shifted")
def shifted(builder, sig, pointer, index):
    """The pointer moved by `index` elements."""
    return builder.gep(pointer, [index])


def _tile_rule(a, lda, b, offsets, k, c, ldc, rows, columns, accumulate):
    scalar_of(a)
    if a != b or a != c or offsets != types.CPointer(types.int64):
        raise TypeError
    i = types.int64
    return types.none, (a, i, b, offsets, i, c, i, i, i, types.boolean)


def _strided_rule(a, a_row, a_col, b, ldb, k, c, ldc, rows, columns, accumulate):
    scalar_of(a)
    if a != b or a != c:
        raise TypeError
    i = types.int64
    return types.none, (a, i, i, b, i, i, c, i, i, i, types.boolean)


@intrinsic(_tile_rule, "product_tile")
def product_tile(builder, sig, *args):
    """See the head of this module."""
    return call_narrowest(builder, lambda *of: Tile(builder.module, *of, table=True).function, args, args[-5],
                          args[-2])


@intrinsic(_strided_rule, "matrix_tile")
def matrix_tile(builder, sig, *args):
    """See the head of this module."""
    return call_narrowest(builder, lambda *of: Tile(builder.module, *of, table=False).function, args, args[-5],
                          args[-2])


def call_narrowest(builder: ir.IRBuilder, make: Callable[[Shape, ir.Type, int], ir.Function], args: tuple,
                   result: ir.Value, columns: ir.Value) -> ir.Value:
    """Call the narrowest variant of a tile that holds the columns of `result`; `make` builds one of a number of
    vectors."""
    shape = shape_of(builder.module)
    scalar = result.type.pointee
    after = builder.append_basic_block("tiled")
    for vectors in range(1, shape.vectors + 1):
        function = make(shape, scalar, vectors)
        if vectors == shape.vectors:
            builder.call(function, args)
            break
        fits, wider = builder.append_basic_block("fits"), builder.append_basic_block("wider")
        limit = ir.Constant(I64, vectors * shape.lanes(scalar))
        builder.cbranch(builder.icmp_signed("<=", columns, limit), fits, wider)
        builder.position_at_end(fits)
        builder.call(function, args)
        builder.branch(after)
        builder.position_at_end(wider)
    builder.branch(after)
    builder.position_at_end(after)
    return ir.Constant(ir.LiteralStructType([]), None)


class Tile:
    """Builds the function of one variant, once in a module. `table`: of `product_tile`, else of `matrix_tile`."""

    def __init__(self, module: ir.Module, shape: Shape, scalar: ir.Type, vectors: int, table: bool) -> None:
        self.module, self.shape, self.scalar, self.vectors, self.table = module, shape, scalar, vectors, table
        self.lanes = shape.lanes(scalar)
        self.vector, self.mask = ir.VectorType(scalar, self.lanes), ir.VectorType(I1, self.lanes)
        name = f"jt.{self.kind}_tile.f{BYTES[scalar] * 8}.{shape.rows}x{vectors}"
        self.function = module.globals.get(name) or self._build(name)

    @property
    def kind(self) -> str:
        return "product" if self.table else "matrix"

    def _build(self, name: str) -> ir.Function:
        p = self.scalar.as_pointer()
        types_ = [*self._operands(), I64, p, I64, I64, I64, I1]
        function = ir.Function(self.module, ir.FunctionType(VOID, types_), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        a, lda, *right, k, c, ldc, rows, columns, accumulate = function.args
        builder = self.builder = ir.IRBuilder(function.append_basic_block())
        live = [builder.icmp_signed("<", self._word(i), rows) for i in range(self.shape.rows)]
        row = [builder.select(there, self._word(i), self._word(0)) for i, there in enumerate(live)]
        left = [builder.gep(a, [builder.mul(r, lda)]) for r in row]  # rows that are not there repeat the first
        start = self._start(accumulate, k, c, ldc, live, columns)
        sums = self._loop(k, left, right, start)
        places = self._places(c, ldc)
        whole = builder.and_(builder.icmp_signed("==", rows, self._word(self.shape.rows)),
                             builder.icmp_signed("==", columns, self._word(self.vectors * self.lanes)))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                for value, place in zip(sums, places):
                    builder.store(value, builder.bitcast(place, self.vector.as_pointer()), align=BYTES[self.scalar])
            with otherwise:
                for value, place, mask in zip(sums, places, self._masks(live, columns)):
                    self._store(value, place, mask)
        builder.ret_void()
        return function

    def _operands(self) -> list[ir.Type]:
        """Types of a, its step from row to row, and what the loop reads besides."""
        p = self.scalar.as_pointer()
        return [p, I64, p, I64.as_pointer()] if self.table else [p, I64, I64, p, I64]

    def _places(self, c, ldc):
        """The addresses of the sums, row by row."""
        builder = self.builder
        return [builder.gep(c, [builder.add(builder.mul(self._word(i), ldc), self._word(v * self.lanes))])
                for i in range(self.shape.rows) for v in range(self.vectors)]

    def _masks(self, live, columns):
        masks = [self._mask(columns, v) for v in range(self.vectors)]
        return [self._both(there, mask) for there in live for mask in masks]

    def _start(self, accumulate, k, c, ldc, live, columns):
        """Zeros, or what the result holds."""
        builder = self.builder
        add, begin = builder.append_basic_block("add"), builder.append_basic_block("begin")
        with builder.if_then(builder.icmp_signed(">=", k, self._word(PREFETCH_STEPS))):
            self._prefetch_places(c, ldc)
        entry = builder.block
        builder.cbranch(accumulate, add, begin)
        builder.position_at_end(add)
        loaded = [self._load(place, mask) for place, mask in zip(self._places(c, ldc), self._masks(live, columns))]
        builder.branch(begin)
        builder.position_at_end(begin)
        start = []
        for value in loaded:
            phi = builder.phi(self.vector)
            phi.add_incoming(ir.Constant(self.vector, [ir.Constant(self.scalar, 0.0)] * self.lanes), entry)
            phi.add_incoming(value, add)
            start.append(phi)
        return start

    def _prefetch_places(self, c, ldc):
        """Ask for the lines of the result, to write them: their stores all come at once, at the end."""
        builder, byte = self.builder, ir.IntType(8).as_pointer()
        for place in self._places(c, ldc):
            self._call("llvm.prefetch.p0", VOID, builder.bitcast(place, byte),
                       *[ir.Constant(I32, n) for n in (1, 3, 1)])

    def _loop(self, k, left, right, start):
        """The sums after the loop over p; k may be 0."""
        builder = self.builder
        entry = builder.block
        head, body, done = (builder.append_basic_block(n) for n in ("head", "body", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        p = builder.phi(I64)
        along = p if self.table else builder.phi(I64)  # p * a_col
        sums = [builder.phi(self.vector) for _ in start]
        line = None if self.table else builder.phi(self.scalar.as_pointer())  # the row of b
        p.add_incoming(self._word(0), entry)
        for s, value in zip(sums, start):
            s.add_incoming(value, entry)
        builder.cbranch(builder.icmp_signed("<", p, k), body, done)
        builder.position_at_end(body)
        if self.table:
            b, offsets = right
            place = builder.gep(b, [builder.load(builder.gep(offsets, [p]))])
        else:
            step, b, ldb = right
            place = line
            along.add_incoming(self._word(0), entry)
            along.add_incoming(builder.add(along, step, flags=("nsw",)), body)
            line.add_incoming(b, entry)
            line.add_incoming(builder.gep(line, [ldb]), body)
        columns = [builder.load(builder.bitcast(builder.gep(place, [self._word(v * self.lanes)]),
                                                self.vector.as_pointer()),
                                align=BYTES[self.scalar]) for v in range(self.vectors)]
        for i, row in enumerate(left):
            factor = self._splat(builder.load(builder.gep(row, [along])), self.vector)
            for v in range(self.vectors):
                s = sums[i * self.vectors + v]
                s.add_incoming(self._call(f"llvm.fma.{self._suffix}", self.vector, factor, columns[v], s), body)
        p.add_incoming(builder.add(p, self._word(1), flags=("nsw",)), body)
        builder.branch(head)
        builder.position_at_end(done)
        return sums

    @property
    def _suffix(self) -> str:
        return f"v{self.lanes}f{BYTES[self.scalar] * 8}"

    @staticmethod
    def _word(value: int) -> ir.Constant:
        return ir.Constant(I64, value)

    def _splat(self, value, type_):
        builder, undefined = self.builder, ir.Constant(type_, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [ir.Constant(I32, 0)] * self.lanes)
        return builder.shuffle_vector(builder.insert_element(undefined, value, ir.Constant(I32, 0)), undefined, zeros)

    def _mask(self, columns, vector: int):
        """Which lanes of a vector are columns."""
        type_ = ir.VectorType(I64, self.lanes)
        lane = ir.Constant(type_, [self._word(vector * self.lanes + j) for j in range(self.lanes)])
        return self.builder.icmp_signed("<", lane, self._splat(columns, type_))

    def _both(self, condition, mask):
        none = ir.Constant(self.mask, [ir.Constant(I1, 0)] * self.lanes)
        return self.builder.select(condition, mask, none)

    def _call(self, name: str, result: ir.Type, *args):
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, ir.FunctionType(result, [x.type for x in args]), name)
        return self.builder.call(function, args)

    def _load(self, place, mask):
        place = self.builder.bitcast(place, self.vector.as_pointer())
        zero = ir.Constant(self.vector, [ir.Constant(self.scalar, 0.0)] * self.lanes)
        align = ir.Constant(I32, BYTES[self.scalar])
        return self._call(f"llvm.masked.load.{self._suffix}.p0", self.vector, place, align, mask, zero)

    def _store(self, value, place, mask):
        place = self.builder.bitcast(place, self.vector.as_pointer())
        align = ir.Constant(I32, BYTES[self.scalar])
        self._call(f"llvm.masked.store.{self._suffix}.p0", VOID, value, place, align, mask)


def _transpose_rule(x, ldx, y, ldy, rows, columns):
    scalar_of(x)
    if x != y:
        raise TypeError
    i = types.int64
    return types.none, (x, i, y, i, i, i)


@intrinsic(_transpose_rule, "transpose")
def transpose(builder, sig, *args):
    """See the head of this module."""
    builder.call(Square(builder.module, shape_of(builder.module), args[0].type.pointee).function, args)
    return ir.Constant(ir.LiteralStructType([]), None)


class Square:
    """Builds the function of `transpose`, once in a module: a loop over squares of a vector's width. An element of x
    may be made of `parts` of another type, which its steps are counted in."""

    def __init__(self, module: ir.Module, shape: Shape, scalar: ir.Type, part: ir.Type | None = None,
                 parts: int = 1) -> None:
        self.module, self.scalar, self.lanes = module, scalar, shape.lanes(scalar)
        self.part, self.parts = part or scalar, parts
        self.vector = ir.VectorType(scalar, self.lanes)
        name = f"jt.transpose.f{BYTES[scalar] * 8}.{self.lanes}.{parts}"
        self.function = module.globals.get(name) or self._build(name)

    def _build(self, name: str) -> ir.Function:
        p = self.scalar.as_pointer()
        signature = [self.part.as_pointer(), I64, p, I64, I64, I64]
        function = ir.Function(self.module, ir.FunctionType(VOID, signature), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        x, ldx, y, ldy, rows, columns = function.args
        builder = ir.IRBuilder(function.append_basic_block())
        with loop(builder, rows, self.lanes) as i:
            here = [builder.add(i, ir.Constant(I64, r)) for r in range(self.lanes)]
            here = [builder.select(builder.icmp_signed("<", r, rows), r, i) for r in here]  # or the first one again
            lines = [builder.gep(x, [builder.mul(r, ldx)]) for r in here]
            with loop(builder, columns, self.lanes) as j:
                left = builder.sub(columns, j)
                at = builder.mul(j, ir.Constant(I64, self.parts))
                align = BYTES[self.scalar] // self.parts
                found = [load_part(builder, self.vector, builder.gep(line, [at]), left, align) for line in lines]
                for r, vector in enumerate(self._transposed(builder, found)):
                    row = builder.mul(builder.add(j, ir.Constant(I64, r)), ldy)
                    target = builder.bitcast(builder.gep(y, [builder.add(row, i)]), self.vector.as_pointer())
                    builder.store(vector, target, align=BYTES[self.scalar])
        builder.ret_void()
        return function

    def _transposed(self, builder, rows):
        """Quarters of ever larger squares change places, the ones off the diagonal."""
        half, n = 1, self.lanes
        while half < n:
            low = [j if not j & half else n + j - half for j in range(n)]
            high = [j + half if not j & half else n + j for j in range(n)]
            masks = [ir.Constant(ir.VectorType(I32, n), [ir.Constant(I32, j) for j in mask]) for mask in (low, high)]
            for r in range(n):
                if not r & half:
                    pair = rows[r], rows[r + half]
                    rows[r], rows[r + half] = (builder.shuffle_vector(*pair, mask) for mask in masks)
            half *= 2
        return rows


def load_part(builder: ir.IRBuilder, vector: ir.VectorType, place: ir.Value, left: ir.Value, align: int) -> ir.Value:
    """A vector of which no more than the first `left` elements are read."""
    module, lanes = builder.module, vector.count
    type_, undefined = ir.VectorType(I64, lanes), ir.Constant(ir.VectorType(I64, lanes), ir.Undefined)
    first = builder.insert_element(undefined, left, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [ir.Constant(I32, 0)] * lanes)
    numbers = ir.Constant(type_, [ir.Constant(I64, j) for j in range(lanes)])
    mask = builder.icmp_signed("<", numbers, builder.shuffle_vector(first, undefined, zeros))
    name = f"llvm.masked.load.v{lanes}f{BYTES[vector.element] * 8}.p0"
    pointer = vector.as_pointer()
    function = module.globals.get(name) or ir.Function(
        module, ir.FunctionType(vector, [pointer, I32, ir.VectorType(I1, lanes), vector]), name)
    nothing = ir.Constant(vector, [ir.Constant(vector.element, 0.0)] * lanes)
    return builder.call(function, [builder.bitcast(place, pointer), ir.Constant(I32, align), mask, nothing])


@intrinsic(_transpose_rule, "copy_rows")
def copy_rows(builder, sig, *args):
    """See the head of this module."""
    return call_narrowest(builder, lambda *of: rows_copier(builder.module, *of), args, args[2], args[5])


def rows_copier(module: ir.Module, shape: Shape, scalar: ir.Type, vectors: int) -> ir.Function:
    """`copy_rows` for rows of so many vectors, of which only the last one may not be full."""
    lanes, size = shape.lanes(scalar), BYTES[scalar]
    name = f"jt.rows.f{size * 8}.{lanes}x{vectors}"
    if name in module.globals:
        return module.globals[name]
    p, vector = scalar.as_pointer(), ir.VectorType(scalar, lanes)
    function = ir.Function(module, ir.FunctionType(VOID, [p, I64, p, I64, I64, I64]), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    x, ldx, y, ldy, rows, columns = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    left = builder.sub(columns, ir.Constant(I64, (vectors - 1) * lanes))
    with loop(builder, rows, 1) as i:
        here = [[builder.gep(pointer, [builder.add(builder.mul(i, ld), ir.Constant(I64, v * lanes))])
                 for v in range(vectors)] for pointer, ld in ((x, ldx), (y, ldy))]
        found = [builder.load(builder.bitcast(place, vector.as_pointer()), align=size) for place in here[0][:-1]]
        found.append(load_part(builder, vector, here[0][-1], left, size))
        for value, place in zip(found, here[1]):
            builder.store(value, builder.bitcast(place, vector.as_pointer()), align=size)
    builder.ret_void()
    return function


@contextmanager
def loop(builder: ir.IRBuilder, end: ir.Value, step: int) -> Iterator[ir.Value]:
    """for i in range(0, end, step)."""
    entry = builder.block
    head, body, done = (builder.append_basic_block(n) for n in ("head", "body", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(ir.Constant(I64, 0), entry)
    builder.cbranch(builder.icmp_signed("<", i, end), body, done)
    builder.position_at_end(body)
    yield i
    i.add_incoming(builder.add(i, ir.Constant(I64, step), flags=("nsw",)), builder.block)
    builder.branch(head)
    builder.position_at_end(done)


for _name in ("copy_rows", "matrix_tile", "product_tile", "shifted", "tile_columns", "tile_rows", "transpose"):
    globals()[_name] = NAMES[_name]  # the decorator leaves the emitters; kernels import the names of the language
