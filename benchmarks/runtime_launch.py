"""What the runtime itself costs: a call, a launch, a hand-over to the workers, a buffer.

    python -m benchmarks.runtime_launch
"""

import functools
import time

import llvmlite.binding as llvm
import numpy as np

from jtorch.runtime import native
from jtorch.runtime.memory import Buffer, allocator
from jtorch.runtime.program import ARENA, Launch, Program
from jtorch.runtime.threads import pool

from .runtime_timing import least_ns

EMPTY_KERNEL = "define void @empty(ptr %args, i64 %begin, i64 %end, i64 %worker) { ret void }"
LAUNCHES = 10_000
BUFFERS = [("buf", i, 0) for i in range(5)]


def empty_kernel():
    """(engine, address) of a kernel that does nothing."""
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(EMPTY_KERNEL), machine)
    engine.finalize_object()
    return engine, engine.get_function_address("empty")


def report(label, ns):
    print(f"{label:60} {ns:10.1f} ns", flush=True)


def launches(kernel, ptrs):
    """The cost of calls, launches and regions."""

    def program(chunks, count=1, **memory):
        args = [*BUFFERS[:-1], ("buf", ARENA, 0)] if memory else BUFFERS
        return functools.partial(Program([Launch(kernel, args, chunks, 1)] * count, 5, **memory).run, ptrs)

    call = least_ns(program(1), repeats=1000)
    report("run: 5 buffers, 1 serial launch", call)
    report("run: the same with an arena", least_ns(program(1, arena_size=4096), repeats=1000))
    report("run: 5 buffers, 1 parallel launch of 100 chunks", least_ns(program(100), repeats=1000))
    report("one more serial launch", (least_ns(program(1, LAUNCHES)) - call) / LAUNCHES)
    for chunks in (2, 16, 100):
        ns = least_ns(program(chunks, LAUNCHES), budget_s=2.0)
        report(f"one more parallel launch of {chunks} chunks", (ns - call) / LAUNCHES)
    times = []
    asleep = program(100)
    for _ in range(300):
        time.sleep(0.001)
        start = time.perf_counter_ns()
        asleep()
        times.append(time.perf_counter_ns() - start)
    report("run: 1 parallel launch, workers asleep, median", sorted(times)[len(times) // 2])


def buffers():
    """The cost of the allocator and of array views."""
    for nbytes in (64, 4096, 1 << 20, 100 << 20):
        report(f"alloc and free {nbytes} bytes", least_ns(functools.partial(allocator.alloc, nbytes), repeats=1000))
    array = np.zeros(16)
    report("Buffer.from_numpy", least_ns(functools.partial(Buffer.from_numpy, array), repeats=1000))
    report("Buffer.numpy", least_ns(functools.partial(allocator.alloc(64).numpy, np.float32, (4, 4)), repeats=1000))


def main():
    start = time.perf_counter_ns()
    native.load()
    report("loading the native loop, once", time.perf_counter_ns() - start)
    engine, kernel = empty_kernel()
    print("threads", pool.num_threads)
    launches(kernel, [0] * 5)
    buffers()
    del engine


if __name__ == "__main__":
    main()
