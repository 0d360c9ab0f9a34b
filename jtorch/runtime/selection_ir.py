"""Functions for what has a size that depends on the data, as LLVM IR: where the set elements of a mask are, and what
they select. Whoever calls them has counted, and has memory for just so many.

    jt_places(mask, shape, ndim, count, out, between, step)  the k-th place's coordinate d, at word d*between + k*step
    jt_select(mask, length, count, source, out, size)        the items of `size` bytes where the mask is set

`mask` is bytes, C-contiguous. Eight that are zero are skipped as a word; in others nothing branches on a single byte,
as random bits would mispredict every other time: what may be selected is written first, and counted if it was.
"""
from llvmlite import ir

from .native_ir import I8, I64, VOID, WORD, Emitter, Module

ITEM_TYPES = {1: I8, 2: ir.IntType(16), 4: ir.IntType(32), 8: I64}
"""Items that fit into a register, by their bytes."""


def add_selection(module: Module) -> None:
    """Add them to the native loop's module."""
    memcpy = ir.Function(module.module, ir.FunctionType(I64, [I64] * 3), "memcpy")
    module.function("jt_places", VOID, [I64] * 7, _places, exported=True)
    module.function("jt_select", VOID, [I64] * 6, lambda b, *args: _select(b, memcpy, *args), exported=True)


def _scan(b: Emitter, mask, length, count, found, take):
    """`take(i, k, flag)` for bytes i < length up to the last that is set: k have been found before it, and flag is 1 if
    it is set, else 0. Bytes that are not set may be left out. `found` is a variable that goes on counting."""
    done = b.append_basic_block("done")
    i = b.variable(b.const(0))

    def byte(at):
        k = b.value(found)
        b.leave_if(b.icmp_signed(">=", k, count), done)
        value = b.load(b.inttoptr(b.add(mask, at), I8.as_pointer()), typ=I8)
        flag = b.zext(b.icmp_unsigned("!=", value, ir.Constant(I8, 0)), I64)
        take(at, k, flag)
        b.bump(found, flag)

    with b.loop() as (words_done, _):
        at = b.value(i)
        b.leave_if(b.icmp_signed(">", b.add(at, b.const(WORD)), length), words_done)
        word = b.load(b.inttoptr(b.add(mask, at), I64.as_pointer()), align=1, typ=I64)
        with b.if_then(b.icmp_unsigned("!=", word, b.const(0))):
            for j in range(WORD):
                byte(b.add(at, b.const(j)))
        b.bump(i, WORD)
    with b.loop() as (finished, _):
        at = b.value(i)
        b.leave_if(b.icmp_signed(">=", at, length), finished)
        byte(at)
        b.bump(i)
    b.branch(done)
    b.position_at_end(done)


def _places(b, mask, shape, ndim, count, out, between, step):
    """Row by row of the last axis: its last coordinates first; then it is known how many there are of the others."""
    axes = b.sub(ndim, b.const(1))
    width = b.get(shape, axes)
    last = _column(b, out, axes, between)
    rows = b.variable(b.const(1))
    with b.count(axes) as (d, _):
        b.store(b.mul(b.value(rows), b.get(shape, d)), rows)
    found, row = b.variable(b.const(0)), b.variable(b.const(0))
    with b.loop() as (finished, _):
        before = b.value(found)
        b.leave_if(b.icmp_signed(">=", before, count), finished)
        b.leave_if(b.icmp_signed(">=", b.value(row), b.value(rows)), finished)  # another thread has unset some
        _scan(b, b.add(mask, b.mul(b.value(row), width)), width, count, found,
              lambda i, k, flag: b.put(last, b.mul(k, step), i))
        rest = b.variable(b.value(row))
        with b.count(axes) as (i, _):
            d = b.sub(b.sub(axes, b.const(1)), i)
            n = b.get(shape, d)
            coordinate = b.urem(b.value(rest), n)
            b.store(b.udiv(b.value(rest), n), rest)
            column = _column(b, out, d, between)
            with b.count(b.sub(b.value(found), before)) as (k, _):
                b.put(column, b.mul(b.add(before, k), step), coordinate)
        b.bump(row)
    b.ret_void()


def _column(b, out, d, between):
    return b.add(out, b.mul(b.mul(d, between), b.const(WORD)))


def _select(b, memcpy, mask, length, count, source, out, size):
    def in_register(kind):
        def copy(i, k, flag):
            b.store(b.load(item(source, i, kind), typ=kind), item(out, k, kind))

        def item(base, index, kind):
            return b.inttoptr(b.add(base, b.mul(index, b.const(kind.width // 8))), kind.as_pointer())

        return copy

    def in_memory(i, k, flag):
        with b.if_then(b.icmp_signed("!=", flag, b.const(0))):
            b.call(memcpy, [b.add(out, b.mul(k, size)), b.add(source, b.mul(i, size)), size])

    other = b.append_basic_block("other")
    kinds = b.switch(size, other)
    copies = [(other, in_memory)]
    for n, kind in ITEM_TYPES.items():
        block = b.append_basic_block(f"items_of_{n}")
        kinds.add_case(b.const(n), block)
        copies.append((block, in_register(kind)))
    for block, copy in copies:
        b.position_at_end(block)
        _scan(b, mask, length, count, b.variable(b.const(0)), copy)
        b.ret_void()
