"""GEMM over the runtime's pool: how to cut a product into tiles, one single-threaded OpenBLAS call per tile.

    python -m benchmarks.runtime_gemm

Prints, per size and cut, the least time of many runs and GFLOP/s. Its findings are in docs/runtime.md.
"""

import functools

import llvmlite.binding as llvm
import numpy as np

from jtorch.runtime import blas
from jtorch.runtime.program import Launch, Program
from jtorch.runtime.threads import set_num_threads

from .runtime_timing import least_ns

TILE_KERNEL = """
declare i64 @llvm.smin.i64(i64, i64)

; args: 0 sgemm, 1 a, 2 b, 3 c, 4 m, 5 n, 6 k, 7 tile rows, 8 tile columns, 9 tiles in a row; an item is a tile
define void @tiles(ptr %args, i64 %begin, i64 %end, i64 %worker) {
entry:
  br label %head
head:
  %t = phi i64 [ %begin, %entry ], [ %next, %body ]
  %more = icmp slt i64 %t, %end
  br i1 %more, label %body, label %exit
body:
LOADS
  %ti = sdiv i64 %t, %x9
  %tj = srem i64 %t, %x9
  %i = mul i64 %ti, %x7
  %j = mul i64 %tj, %x8
  %mleft = sub i64 %x4, %i
  %nleft = sub i64 %x5, %j
  %rows = call i64 @llvm.smin.i64(i64 %mleft, i64 %x7)
  %cols = call i64 @llvm.smin.i64(i64 %nleft, i64 %x8)
  %ik = mul i64 %i, %x6
  %in = mul i64 %i, %x5
  %inj = add i64 %in, %j
  %f = inttoptr i64 %x0 to ptr
  %pa = inttoptr i64 %x1 to ptr
  %pb = inttoptr i64 %x2 to ptr
  %pc = inttoptr i64 %x3 to ptr
  %a = getelementptr float, ptr %pa, i64 %ik
  %b = getelementptr float, ptr %pb, i64 %j
  %c = getelementptr float, ptr %pc, i64 %inj
  %m32 = trunc i64 %rows to i32
  %n32 = trunc i64 %cols to i32
  %k32 = trunc i64 %x6 to i32
  %ldn = trunc i64 %x5 to i32
  call void %f(i32 101, i32 111, i32 111, i32 %m32, i32 %n32, i32 %k32, float 1.0, ptr %a, i32 %k32,
               ptr %b, i32 %ldn, float 0.0, ptr %c, i32 %ldn)
  %next = add i64 %t, 1
  br label %head
exit:
  ret void
}
"""
LOADS = "\n".join(
    f"  %p{i} = getelementptr i64, ptr %args, i64 {i}\n  %x{i} = load i64, ptr %p{i}" for i in range(10)
)


def compile_tile_kernel():
    """(engine, address) of the tile kernel."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(TILE_KERNEL.replace("LOADS", LOADS)), machine)
    engine.finalize_object()
    return engine, engine.get_function_address("tiles")


def gemm_program(kernel, m, n, k, tile_m, tile_n, copies=1):
    """A program that multiplies (m, k) by (k, n), `copies` times."""
    down, across = -(-m // tile_m), -(-n // tile_n)
    args = [blas.load().address["sgemm"], *(("buf", i, 0) for i in range(3)), m, n, k, tile_m, tile_n, across]
    return Program([Launch(kernel, args, down * across, 1)] * copies, 3)


def cuts(m, n):
    """(name, tile rows, tile columns) to try."""
    yield "whole", m, n
    for parts in (2, 4, 8):
        if m // parts >= 8:
            yield f"rows/{parts}", -(-m // parts), n
        if n // parts >= 8:
            yield f"cols/{parts}", m, -(-n // parts)
    if m >= 32 and n >= 32:
        yield "2x2", -(-m // 2), -(-n // 2)


SIZES = [
    (1, 1, 1), (32, 20, 1), (32, 1, 20), (64, 10, 256), (32, 32, 32), (64, 64, 64), (128, 128, 64), (128, 128, 128),
    (64, 256, 784), (768, 128, 128), (256, 256, 256), (64, 3136, 576), (512, 512, 512), (1024, 1024, 1024),
    (2048, 2048, 2048),
]  # fmt: skip


def main():
    engine, kernel = compile_tile_kernel()
    set_num_threads(2)
    print("core type", blas.load().core)
    for m, n, k in SIZES:
        a, b, c = np.random.rand(m, k).astype("f"), np.random.rand(k, n).astype("f"), np.zeros((m, n), "f")
        ptrs = [x.ctypes.data for x in (a, b, c)]
        flops = 2 * m * n * k
        copies = max(1, int(2e7 // (flops + 1e4)))
        line = []
        for name, tile_m, tile_n in cuts(m, n):
            program = gemm_program(kernel, m, n, k, tile_m, tile_n, copies)
            ns = least_ns(functools.partial(program.run, ptrs), budget_s=1.0) / copies
            assert np.allclose(c, a @ b, rtol=1e-3)
            line.append(f"{name} {ns / 1e3:.2f} µs ({flops / ns:.0f})")
        print(f"{m}x{n}x{k}: " + ", ".join(line), flush=True)
    del engine


if __name__ == "__main__":
    main()
