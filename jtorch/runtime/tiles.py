"""The innermost block of matrix products, held in vector registers: a name of the kernel language.

    from jtorch.runtime.tiles import product_tile, tile_columns, tile_rows      # in the text of a kernel

    product_tile(a, lda, b, offsets, k, c, ldc, rows, columns, accumulate)

        c[i, j] (+)= sum over p < k of a[i * lda + p] * b[offsets[p] + j]       i < rows, j < columns

`a`, `b`, `c` are pointers moved with `shifted(pointer, index)`; `offsets` is a pointer to int64, in elements. Rows of b
may lie anywhere and overlap, so it takes the windows of a convolution where they are, and nothing is packed. At most
`tile_rows(c)` rows and `tile_columns(c)` columns, which depend on the CPU's registers; sums are taken in the order of p
whatever these are. It reads b up to the end of the last vector: there has to be memory for `tile_columns(c)` elements.

This module imports Numba; only kernel text imports it.
"""
from __future__ import annotations

import platform
from dataclasses import dataclass

from llvmlite import ir
from numba.core import types

from jtorch.codegen.irmath import F32, F64, I1, I32, I64
from jtorch.runtime.intrinsics import NAMES, intrinsic

BYTES = {F32: 4, F64: 8}
VOID = ir.VoidType()


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


@intrinsic(_tile_rule, "product_tile")
def product_tile(builder, sig, *args):
    """See the head of this module. The narrowest variant that holds the columns is called."""
    shape = shape_of(builder.module)
    scalar, columns = args[0].type.pointee, args[8]
    after = builder.append_basic_block("tiled")
    for vectors in range(1, shape.vectors + 1):
        function = Tile(builder.module, shape, scalar, vectors).function
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
    """Builds the function of one variant, once in a module."""

    def __init__(self, module: ir.Module, shape: Shape, scalar: ir.Type, vectors: int) -> None:
        self.module, self.shape, self.scalar, self.vectors = module, shape, scalar, vectors
        self.lanes = shape.lanes(scalar)
        self.vector, self.mask = ir.VectorType(scalar, self.lanes), ir.VectorType(I1, self.lanes)
        name = f"jt.tile.f{BYTES[scalar] * 8}.{shape.rows}x{vectors}"
        self.function = module.globals.get(name) or self._build(name)

    def _build(self, name: str) -> ir.Function:
        p = self.scalar.as_pointer()
        function = ir.Function(self.module, ir.FunctionType(VOID, [p, I64, p, I64.as_pointer(), I64, p, I64, I64, I64,
                                                                   I1]),
                               name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        a, lda, b, offsets, k, c, ldc, rows, columns, accumulate = function.args
        builder = self.builder = ir.IRBuilder(function.append_basic_block())
        live = [builder.icmp_signed("<", self._word(i), rows) for i in range(self.shape.rows)]
        row = [builder.select(there, self._word(i), self._word(0)) for i, there in enumerate(live)]
        left = [builder.gep(a, [builder.mul(r, lda)]) for r in row]  # rows that are not there repeat the first
        masks = [self._mask(columns, v) for v in range(self.vectors)]
        places = [[builder.gep(c, [builder.add(builder.mul(self._word(i), ldc), self._word(v * self.lanes))])
                   for v in range(self.vectors)] for i in range(self.shape.rows)]
        start = [self._load(places[i][v], self._both(builder.and_(live[i], accumulate), masks[v]))
                 for i in range(self.shape.rows) for v in range(self.vectors)]
        sums = self._loop(k, left, b, offsets, start)
        for i in range(self.shape.rows):
            for v in range(self.vectors):
                self._store(sums[i * self.vectors + v], places[i][v], self._both(live[i], masks[v]))
        builder.ret_void()
        return function

    def _loop(self, k, left, b, offsets, start):
        """The sums after the loop over p; k may be 0."""
        builder = self.builder
        entry = builder.block
        head, body, done = (builder.append_basic_block(n) for n in ("head", "body", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        p = builder.phi(I64)
        sums = [builder.phi(self.vector) for _ in start]
        p.add_incoming(self._word(0), entry)
        for s, value in zip(sums, start):
            s.add_incoming(value, entry)
        builder.cbranch(builder.icmp_signed("<", p, k), body, done)
        builder.position_at_end(body)
        right = builder.gep(b, [builder.load(builder.gep(offsets, [p]))])
        columns = [builder.load(builder.bitcast(builder.gep(right, [self._word(v * self.lanes)]),
                                                self.vector.as_pointer()),
                                align=BYTES[self.scalar]) for v in range(self.vectors)]
        for i, row in enumerate(left):
            factor = self._splat(builder.load(builder.gep(row, [p])), self.vector)
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


for _name in ("product_tile", "tile_columns", "tile_rows", "shifted"):
    globals()[_name] = NAMES[_name]  # the decorator leaves the emitters; kernels import the names of the language
