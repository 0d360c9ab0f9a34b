"""The innermost block of products of bfloat16 matrices: names of the kernel language, see `tiles.py`.

    from jtorch.runtime.pair_tiles import pair_tile, transpose_pairs            # in the text of a kernel

    pair_tile(a, lda, b, k, c, ldc, rows, columns, accumulate)

        c[i, j] (+)= sum over p < k of a[i * lda + p] * b[p // 2 * tile_columns(c) + j][p % 2]

    transpose_pairs(x, ldx, y, ldy, rows, columns)

        y[j * ldy + i] = x[i * ldx + 2 * j], x[i * ldx + 2 * j + 1]             i < rows, j < columns

a is uint16, the bits of bfloat16. b is uint32: two of them, one below the other in a column of the matrix, the upper
one in the low half; where k is odd, the high half of the last ones is 0. c is float32. Every product is exact in
float32, and the sums are float32's.

Where the CPU has AVX512_BF16, its `vdpbf16ps` multiplies 32 pairs at a time and adds the two products of each to a sum.
It takes denormal operands for 0 and gives 0 for denormal results, whatever the CPU's setting; in a program all kernels
do. Elsewhere the halves are widened by a shift and multiplied as float32, at the speed of float32.

This module imports Numba; only kernel text imports it.
"""
from __future__ import annotations

from llvmlite import ir
from numba.core import types

from jtorch.codegen.irmath import F32, I32, I64
from jtorch.runtime.intrinsics import I16, NAMES, intrinsic
from jtorch.runtime.tiles import Square, Tile, call_narrowest, shape_of

VECTOR_BYTES = 64
"""Of the instruction that is used."""


class BFloat(ir.Type):
    """LLVM's `bfloat`, for which llvmlite has no name."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


def _tile_rule(a, lda, b, k, c, ldc, rows, columns, accumulate):
    if (a, b, c) != tuple(types.CPointer(t) for t in (types.uint16, types.uint32, types.float32)):
        raise TypeError
    i = types.int64
    return types.none, (a, i, b, i, c, i, i, i, types.boolean)


@intrinsic(_tile_rule, "pair_tile")
def pair_tile(builder, sig, *args):
    """See the head of this module."""
    return call_narrowest(builder, lambda *of: PairTile(builder.module, *of, table=False).function, args,
                          args[-5], args[-2])


class PairTile(Tile):
    """Builds the function of one variant of `pair_tile`, once in a module."""

    kind = "pair"

    def _operands(self) -> list[ir.Type]:
        return [I16.as_pointer(), I64, I32.as_pointer()]

    def _loop(self, k, left, right, start):
        """The sums after the loop over pairs of p, and the p that is left over."""
        (b,), builder = right, self.builder
        whole, pitch = builder.lshr(k, self._word(1)), self._word(self.shape.vectors * self.lanes)
        entry = builder.block
        head, body, rest, odd, done = (builder.append_basic_block(n) for n in ("head", "body", "rest", "odd", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        p, line = builder.phi(I64), builder.phi(b.type)
        sums = [builder.phi(self.vector) for _ in start]
        builder.cbranch(builder.icmp_signed("<", p, whole), body, rest)
        builder.position_at_end(body)
        at = builder.shl(p, self._word(1))
        further = self._step(line, left, sums, lambda row: builder.load(
            builder.bitcast(builder.gep(row, [at]), I32.as_pointer()), align=2))
        for phi, first, after in ((p, self._word(0), builder.add(p, self._word(1), flags=("nsw",))),
                                  (line, b, builder.gep(line, [pitch])), *zip(sums, start, further)):
            phi.add_incoming(first, entry)
            phi.add_incoming(after, builder.block)
        builder.branch(head)
        builder.position_at_end(rest)
        builder.cbranch(builder.icmp_signed("<", builder.shl(whole, self._word(1)), k), odd, done)
        builder.position_at_end(odd)
        last = builder.sub(k, self._word(1))
        further = self._step(line, left, sums, lambda row: builder.zext(builder.load(builder.gep(row, [last])), I32))
        builder.branch(done)
        builder.position_at_end(done)
        result = []
        for value, more in zip(sums, further):
            phi = builder.phi(self.vector)
            phi.add_incoming(value, rest)
            phi.add_incoming(more, odd)
            result.append(phi)
        return result

    def _step(self, line, left, sums, pair_of):
        """The sums with the products of one pair of each row of a with one row of pairs of b."""
        words = ir.VectorType(I32, self.lanes)
        columns = [self.builder.load(self.builder.bitcast(self.builder.gep(line, [self._word(v * self.lanes)]),
                                                          words.as_pointer()), align=4)
                   for v in range(self.vectors)]
        dot = getattr(self.module, "has_bfloat_dot", False) and self.shape.width == VECTOR_BYTES
        combine = self._dotted if dot else self._widened
        result = []
        for i, row in enumerate(left):  # one after the other, as there are no registers for all the factors
            factor = self._splat(pair_of(row), words)
            result += combine(columns, factor, sums[i * self.vectors:(i + 1) * self.vectors])
        return result

    def _dotted(self, columns, factor, sums):
        halves = ir.VectorType(BFloat(), 2 * self.lanes)
        factor = self.builder.bitcast(factor, halves)
        sums = [self._call("llvm.x86.avx512bf16.dpbf16ps.512", self.vector, s, factor, self.builder.bitcast(c, halves))
                for c, s in zip(columns, sums)]
        for s in sums:
            s.attributes.add("convergent")  # so that the loop is not unrolled, for which there are no registers left
        return sums

    def _widened(self, columns, factor, sums):
        for half in (self._low, self._high):
            sums = [self._call(f"llvm.fma.{self._suffix}", self.vector, half(factor), half(c), s)
                    for c, s in zip(columns, sums)]
        return sums

    def _low(self, words):
        shift = ir.Constant(words.type, [ir.Constant(I32, 16)] * self.lanes)
        return self.builder.bitcast(self.builder.shl(words, shift), self.vector)

    def _high(self, words):
        mask = ir.Constant(words.type, [ir.Constant(I32, 0xFFFF0000)] * self.lanes)
        return self.builder.bitcast(self.builder.and_(words, mask), self.vector)


def _transpose_rule(x, ldx, y, ldy, rows, columns):
    if x != types.CPointer(types.uint16) or y != types.CPointer(types.uint32):
        raise TypeError
    i = types.int64
    return types.none, (x, i, y, i, i, i)


@intrinsic(_transpose_rule, "transpose_pairs")
def transpose_pairs(builder, sig, x, ldx, y, ldy, rows, columns):
    """See the head of this module."""
    square = Square(builder.module, shape_of(builder.module), F32, I16, 2)
    builder.call(square.function, [x, ldx, builder.bitcast(y, F32.as_pointer()), ldy, rows, columns])
    return ir.Constant(ir.LiteralStructType([]), None)


for _name in ("pair_tile", "transpose_pairs"):
    globals()[_name] = NAMES[_name]  # the decorator leaves the emitters; kernels import the names of the language
