"""The runtime: the pool, programs, the allocator, BLAS. Its kernels come from `runtime_kernels`."""

import ctypes
import gc
import itertools
import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from runtime_kernels import addresses

from jtorch.errors import OutOfMemoryError
from jtorch.runtime import blas
from jtorch.runtime.heap import Heap
from jtorch.runtime.memory import ALIGNMENT, LARGE, Allocator, Buffer, class_size
from jtorch.runtime.program import ARENA, ERROR, SCRATCH, HostCall, KernelError, Launch, Program
from jtorch.runtime.threads import Pool, get_num_threads, pool, set_num_threads


@pytest.fixture
def kernels():
    return addresses()


@pytest.fixture(params=[1, 2, 4])
def threads(request):
    before = get_num_threads()
    set_num_threads(request.param)
    yield request.param
    set_num_threads(before)


def address(array):
    return array.ctypes.data


def buf(index, offset=0):
    return ("buf", index, offset)


# ---- launches ----


def test_arguments_offsets_and_floats(kernels, threads):
    x, y = np.arange(1000.0), np.zeros(1000)
    program = Program([Launch(kernels["axpb"], [buf(0, 80), buf(1, 160), 2.5, -3], 900, 7)], 2)
    program.run([address(x), address(y)])
    assert (y[20:920] == x[10:910] * 2.5 - 3).all()
    assert not y[:20].any() and not y[920:].any()


def test_slot_carries_a_scalar(kernels):
    x, y = np.arange(10.0), np.zeros(10)
    program = Program([Launch(kernels["axpb"], [buf(0), buf(1), buf(2), 1], 10, 10)], 3)
    for scale in (0.5, -4.0):
        program.run((address(x), address(y), np.float64(scale).view(np.int64)))
        assert (y == x * scale + 1).all()


@pytest.mark.parametrize("grain", [1, 3, 100, 5000])
def test_every_item_once(kernels, threads, grain):
    count, owner = np.zeros(4096, np.int64), np.zeros(4096, np.int64)
    program = Program([Launch(kernels["visit"], [buf(0), buf(1), 0, 0], 4096, grain)], 2)
    for repeat in range(1, 50):
        program.run((address(count), address(owner)))
        assert (count == repeat).all()
    assert owner.max() < threads


def test_idle_thread_takes_over_a_slow_range(kernels):
    """The first half of the items is slow: whoever has the other half must help."""
    if get_num_threads() < 2:
        pytest.skip("needs two threads")
    count, owner = np.zeros(64, np.int64), np.zeros(64, np.int64)
    program = Program([Launch(kernels["visit"], [buf(0), buf(1), 200_000, 32], 64, 1)], 2)
    helped = False
    for repeat in range(1, 20):
        program.run((address(count), address(owner)))
        assert (count == repeat).all()
        helped = helped or len(set(owner[:32])) > 1
    assert helped


def test_side_by_side_launches_and_barriers(kernels, threads):
    x = np.arange(500.0)
    a, b, c, d = (np.zeros(500) for _ in range(4))
    launches = [
        Launch(kernels["axpb"], [buf(0), buf(1), 2.0, 0], 500, 11),
        Launch(kernels["axpb"], [buf(0), buf(2), 3.0, 1], 500, 13, barrier=False),
        Launch(kernels["nothing"], [], 0, 1, barrier=False),
        Launch(kernels["axpb"], [buf(1), buf(3), 1.0, 0], 500, 17),
        Launch(kernels["axpb"], [buf(2), buf(4), 1.0, 0], 500, 1000, barrier=False),
    ]
    program = Program(launches, 5)
    for _ in range(100):
        for output in (a, b, c, d):
            output[:] = 0
        program.run([address(v) for v in (x, a, b, c, d)])
        assert (c == 2 * x).all() and (b == 3 * x + 1).all() and (d == b).all()


def test_many_tiny_launches_in_one_region(kernels, threads):
    count, owner = np.zeros(300, np.int64), np.zeros(300, np.int64)
    launches = [Launch(kernels["visit"], [buf(0, 8 * i), buf(1, 8 * i), 0, 0], 1, 1, barrier=False) for i in range(300)]
    Program(launches, 2).run((address(count), address(owner)))
    assert (count == 1).all()


def test_arena_and_scratch(kernels, threads):
    x, y = np.arange(256.0), np.zeros(256)
    launches = [
        Launch(kernels["axpb"], [buf(0), buf(ARENA, 64), 2.0, 0], 256, 16),
        Launch(kernels["axpb"], [buf(ARENA, 64), buf(SCRATCH), 1.0, 5], 256, 16),
        Launch(kernels["axpb"], [buf(SCRATCH), buf(1), 1.0, 0], 256, 16),
    ]
    program = Program(launches, 2, arena_size=256 * 8 + 64, scratch_size=256 * 8)
    program.run((address(x), address(y)))
    assert (y == 2 * x + 5).all()


@pytest.mark.parametrize("elements", [100, 100_000])
def test_arena_alone(kernels, elements):
    x, y = np.arange(float(elements)), np.zeros(elements)
    launches = [
        Launch(kernels["axpb"], [buf(0), buf(ARENA), 2.0, 0], elements, 16),
        Launch(kernels["axpb"], [buf(ARENA), buf(1), 1.0, 5], elements, 16),
    ]
    program = Program(launches, 2, arena_size=elements * 8)
    program.run((address(x), address(y)))
    assert (y == 2 * x + 5).all()


def test_kernel_error_stops_the_program_and_is_forgotten(kernels, threads):
    x, y = np.arange(100.0), np.zeros(100)
    launches = [
        Launch(kernels["fail"], [buf(ERROR), buf(2)], 8, 1),
        Launch(kernels["axpb"], [buf(0), buf(1), 1.0, 0], 100, 10),
    ]
    program = Program(launches, 3)
    with pytest.raises(KernelError) as caught:
        program.run((address(x), address(y), 42))
    assert caught.value.code == 42 and not y.any()
    program.run((address(x), address(y), 0))
    assert (y == x).all()


def test_rows_of_addresses_are_run_one_after_the_other(kernels, threads):
    values = np.zeros((7, 3000))
    values[0] = np.arange(3000)
    launches = [
        Launch(kernels["fail"], [buf(ERROR), buf(2)], 8, 1),
        Launch(kernels["axpb"], [buf(0), buf(ARENA), 2.0, 0], 3000, 100),
        Launch(kernels["axpb"], [buf(ARENA), buf(1), 1.0, 1], 3000, 100),
    ]
    program = Program(launches, 3, arena_size=100_000)
    rows = np.array([[address(a), address(b), 0] for a, b in itertools.pairwise(values)])
    program.run_rows(rows)
    expected = np.arange(3000.0)
    for row in values[1:]:
        expected = 2 * expected + 1
        np.testing.assert_array_equal(row, expected)
    values[1:], rows[3, 2] = 0, 42
    with pytest.raises(KernelError) as caught:
        program.run_rows(rows)
    assert caught.value.code == 42 and values[3].any() and not values[4].any()
    program.run_rows(rows[:0])
    with pytest.raises(ValueError, match="3 buffers, got 2"):
        program.run_rows(rows[:, :2])


def test_host_calls(kernels, threads):
    x, y, z = np.arange(100.0), np.zeros(100), np.zeros(100)
    seen = []

    def negate(at, label, factor):
        seen.append((at, label, factor))
        np.negative(y, out=y)

    launches = [
        Launch(kernels["axpb"], [buf(0), buf(1), 1.0, 1], 100, 10),
        HostCall(negate, [buf(1, 16), "label", 0.5]),
        Launch(kernels["axpb"], [buf(1), buf(2), 1.0, 0], 100, 10),
        HostCall(negate, [buf(0), 1, 2.0]),
    ]
    program = Program(launches, 3)
    assert program.host_calls == 2
    program.run([address(v) for v in (x, y, z)])
    assert seen == [(address(y) + 16, "label", 0.5), (address(x), 1, 2.0)]
    assert (z == -(x + 1)).all() and (y == x + 1).all()


def test_a_failing_host_call_leaves_the_program_usable(kernels):
    def fail():
        raise KeyError("host")

    program = Program([Launch(kernels["nothing"], [], 10, 1), HostCall(fail)], 0, arena_size=100)
    for _ in range(3):
        with pytest.raises(KeyError):
            program.run(())


def test_profile(kernels):
    count, owner = np.zeros(64, np.int64), np.zeros(64, np.int64)
    slow = Launch(kernels["visit"], [buf(0), buf(1), 100_000, 64], 64, 64)
    quick = Launch(kernels["nothing"], [], 1, 1, barrier=False)
    program = Program([slow, quick, HostCall(lambda: None), slow], 2)
    times = program.profile((address(count), address(owner)))
    assert len(times) == 4 and times[0] > times[1] >= 0 and times[3] > times[2] > 0


def test_bad_programs():
    with pytest.raises(ValueError, match="buffer"):
        Program([Launch(1, [buf(2)], 1)], 2)
    with pytest.raises(ValueError, match="grain"):
        Program([Launch(1, [], 1, 0)], 0)
    with pytest.raises(ValueError, match="chunks"):
        Program([Launch(1, [], 2**40, 1)], 0)


def test_wrong_buffers(kernels):
    launch = Launch(kernels["nothing"], [], 1)
    for launches in ([], [launch], [launch, HostCall(int)]):
        program = Program(launches, 2)
        with pytest.raises(ValueError, match="2 buffers"):
            program.run((1,))
        program.run((1, -1))
    for bad in ((1, "x"), (1, None), (1, 2**70)):
        with pytest.raises((TypeError, OverflowError)):
            Program([launch], 2).run(bad)


# ---- threads ----


def test_same_program_from_several_threads(kernels):
    x = np.arange(2000.0)
    program = Program([Launch(kernels["axpb"], [buf(0), buf(1), buf(2), 0], 2000, 50)] * 20, 3)
    wrong = []

    def work(scale):
        y = np.zeros(2000)
        bits = np.float64(scale).view(np.int64)
        for _ in range(300):
            y[:] = 0
            program.run((address(x), address(y), bits))
            if not (y == x * scale).all():
                wrong.append(scale)

    callers = [threading.Thread(target=work, args=(scale,)) for scale in range(1, 5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_program_inside_a_host_call(kernels):
    x, y = np.arange(100.0), np.zeros(100)
    inner = Program([Launch(kernels["axpb"], [buf(0), buf(1), 2.0, 0], 100, 5)], 2)
    program = Program([HostCall(lambda a, b: inner.run((a, b)), [buf(0), buf(1)])], 2)
    program.run((address(x), address(y)))
    assert (y == 2 * x).all()


def test_resizing_while_programs_run(kernels):
    before = get_num_threads()
    count, owner = np.zeros(100, np.int64), np.zeros(100, np.int64)
    program = Program([Launch(kernels["visit"], [buf(0), buf(1), 0, 0], 100, 1)] * 50, 2)
    runs = 0
    stop = threading.Event()

    def work():
        nonlocal runs
        while not stop.is_set():
            program.run((address(count), address(owner)))
            runs += 1

    caller = threading.Thread(target=work)
    caller.start()
    for n in [1, 3, 2, 4] * 10:
        set_num_threads(n)
    stop.set()
    caller.join()
    set_num_threads(before)
    assert (count == runs * 50).all()


def test_scratch_memory_is_enough_for_threads_that_come_back(kernels):
    """A program that is made while one thread is to be used, as a timer does, has more of them later."""
    before = get_num_threads()
    count, owner = np.zeros(1000, np.int64), np.zeros(1000, np.int64)
    try:
        set_num_threads(2)
        set_num_threads(1)
        program = Program([Launch(kernels["visit"], [buf(0), buf(1), 2000, 1000], 1000, 1)], 2, scratch_size=64)
        set_num_threads(2)
        for _ in range(100):
            program.run((address(count), address(owner)))
            if owner.any():
                break
        assert owner.any(), "the second thread had nothing to do"
    finally:
        set_num_threads(before)


def test_set_num_threads_refuses_nonsense():
    for bad in (0, -1, True, 1.5):
        with pytest.raises(RuntimeError, match="positive"):
            set_num_threads(bad)


def test_workers_sleep_and_wake(kernels):
    count, owner = np.zeros(1000, np.int64), np.zeros(1000, np.int64)
    program = Program([Launch(kernels["visit"], [buf(0), buf(1), 0, 0], 1000, 1)], 2)
    pause = threading.Event()
    for repeat in range(1, 30):
        program.run((address(count), address(owner)))
        assert (count == repeat).all()
        pause.wait(0.002)


def test_own_pool_starts_and_stops():
    own = Pool(3)
    own.start()
    own.start()
    assert own.num_threads == 3
    own.stop()
    own.stop()


def _run_in_child(program, arrays, queue):
    program.run([address(a) for a in arrays])
    queue.put((bool((arrays[0] == 2).all()), pool.epoch))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_another_thread_runs(kernels):
    count, owner = np.zeros(1000, np.int64), np.zeros(1000, np.int64)
    program = Program([Launch(kernels["visit"], [buf(0), buf(1), 0, 0], 1000, 1)], 2)
    program.run((address(count), address(owner)))
    busy = Program([Launch(kernels["nothing"], [], 1000, 1)] * 1000, 0)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            busy.run(())

    caller = threading.Thread(target=work)
    caller.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(5):
            queue = context.SimpleQueue()
            child = context.Process(target=_run_in_child, args=(program, (count, owner), queue))
            child.start()
            child.join(20)
            assert child.exitcode == 0
            right, epoch = queue.get()
            assert right and epoch == (1 if get_num_threads() > 1 else 0)
    finally:
        stop.set()
        caller.join()


def test_exits_while_workers_sleep_and_never_imports_numba():
    code = (
        "import sys, time; sys.path.insert(0, 'tests')\n"
        "from runtime_kernels import addresses\n"
        "from jtorch.runtime.program import Launch, Program\n"
        "Program([Launch(addresses()['nothing'], [], 100, 1)], 0).run(())\n"
        "assert 'numba' not in sys.modules\n"
    )
    root = os.path.dirname(os.path.dirname(__file__))
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=20)


def test_denormals_are_flushed_in_kernels_and_kept_outside(kernels, threads):
    if os.uname().machine != "x86_64":
        pytest.skip("x86 only")
    x, y = np.full(100, 1e-310), np.ones(100)
    Program([Launch(kernels["axpb"], [buf(0), buf(1), 1.0, 0], 100, 1)], 2).run((address(x), address(y)))
    assert not y.any()
    assert (x * 0.5 > 0).all()


# ---- memory ----


def test_blocks_are_aligned_and_reused():
    memory = Allocator()
    for nbytes in (0, 1, 64, 1000, 70_000, LARGE - 1, LARGE, 5 * LARGE + 3):
        buffer = memory.alloc(nbytes)
        assert buffer.ptr % ALIGNMENT == 0 and buffer.nbytes == nbytes
        ptr = buffer.ptr
        del buffer
        assert memory.alloc(nbytes).ptr == ptr
    assert memory.stats()["allocated"] == 0
    memory.trim()
    assert memory.stats()["reserved"] == 0


def test_class_sizes():
    for nbytes in [*range(5000), *(2**k + d for k in range(12, 40) for d in (-1, 0, 1))]:
        size = class_size(nbytes)
        assert size >= max(nbytes, 1) and size % ALIGNMENT == 0
        assert size <= max(nbytes * 1.26, nbytes + ALIGNMENT)
        assert class_size(size) == size
        assert size < LARGE or size % 4096 == 0


def test_cache_is_bounded():
    memory = Allocator(cache_limit=8 << 20)
    buffers = [memory.alloc(3 << 20) for _ in range(10)]
    assert memory.stats()["allocated"] >= 30 << 20
    del buffers
    stats = memory.stats()
    assert stats["cached"] <= 8 << 20 and stats["allocated"] == 0 and stats["peak"] >= 30 << 20
    buffers = [memory.alloc(100_000) for _ in range(1000)]
    del buffers
    assert memory.stats()["cached"] <= 17 << 20
    memory.cache_limit = 0
    memory.reset_peak()
    assert memory.stats()["peak"] <= 9 << 20


@pytest.mark.parametrize("nbytes", [1 << 40, 1 << 62, 1 << 70])
def test_absurd_sizes_raise(nbytes):
    with pytest.raises(OutOfMemoryError, match=rf"not enough memory: you tried to allocate {nbytes} bytes"):
        Allocator().alloc(nbytes)
    with pytest.raises(ValueError):
        Allocator().alloc(-1)


def test_blocks_of_changing_sizes_take_what_the_largest_takes():
    memory, random = Allocator(), np.random.default_rng(0)
    for megabytes in random.permutation(np.linspace(1, 30, 200)):
        held = [memory.alloc(int(share * megabytes * 2**20)) for share in (1, 0.3, 0.7)]
        del held
    assert memory.stats()["peak"] < 1.3 * 60 * 2**20  # 200 sizes; 8 classes an octave would have kept some 800 MiB
    memory.trim()
    assert memory.stats() | {"peak": 0} == {"allocated": 0, "cached": 0, "reserved": 0, "peak": 0}


def test_heap_never_gives_what_is_in_use():
    heap, random = Heap(), np.random.default_rng(0)
    held: list[tuple[int, int]] = []
    for number in range(3000):
        if held and random.random() < 0.5:
            heap.put(*held.pop(int(random.integers(len(held)))))
        else:
            size = int(random.integers(1, 60)) << 20
            start = heap.take(size)
            assert all(start + size <= other or start >= other + length for other, length in held)
            assert any(low <= start and start + size <= high for low, high in heap.mappings)
            held.append((start, size))
        while len(held) > 20 or number == 2999 and held:
            heap.put(*held.pop())
        if random.random() < 0.1 and heap.free:
            heap.give_back(heap.free.largest())
        for ranges in (heap.free, heap.fresh):
            assert all(start < end for start, end in ranges)
            assert all(a[1] < b[0] or b[0] in [m[0] for m in heap.mappings] for a, b in itertools.pairwise(ranges))
    while heap.free:
        heap.give_back(heap.free.largest())
    assert not heap.mappings and not heap.fresh


def test_memory_asked_for_while_the_heap_is_changed():
    """The garbage collector may run in the middle, and what it frees may free or ask for memory."""
    memory = Allocator()
    first = memory.alloc(5 << 20)
    with memory._heap_held():
        second = memory.alloc(3 << 20)
        del first
        memory.cache_limit = 0  # nothing can be given back now
    second.numpy(np.uint8, 3 << 20)[:] = 1
    assert memory.stats()["allocated"] == 3 << 20
    del second
    third = memory.alloc(4 << 20)
    assert memory.stats()["allocated"] == 4 << 20
    del third
    memory.trim()
    assert memory.stats()["reserved"] == 0


def test_numpy_views_keep_memory_alive():
    memory = Allocator()
    view = memory.alloc(4 << 20).numpy(np.float32, (1024, 1024))
    view[:] = 3
    gc.collect()
    assert memory.stats()["allocated"] > 0 and view.sum() == 3 * 1024 * 1024
    del view
    assert memory.stats()["allocated"] == 0


def test_borrowed_arrays():
    """They lie over the buffer's memory, do not keep it alive, and are made anew for another key."""
    buffer = Allocator().alloc(64)
    array = buffer.borrowed("floats", np.float32, (16,))
    array[:] = np.arange(16)
    assert buffer.borrowed("floats", np.float32, (16,)) is array
    other = buffer.borrowed("columns", np.float32, (4, 2), 4, [16, 8])
    assert other.tolist() == [[1, 3], [5, 7], [9, 11], [13, 15]]
    assert sys.getrefcount(buffer) == 2


def test_buffer_from_numpy():
    array = np.arange(12.0).reshape(3, 4)
    buffer = Buffer.from_numpy(array)
    assert buffer.ptr == address(array) and buffer.nbytes == 96
    del array
    assert buffer.numpy(np.float64, (12,))[11] == 11
    with pytest.raises(ValueError, match="contiguous"):
        Buffer.from_numpy(np.zeros((4, 4)).T[1:])


def test_allocation_from_many_threads():
    memory = Allocator(cache_limit=4 << 20)

    def work(seed):
        random = np.random.default_rng(seed)
        held = []
        for nbytes in random.integers(0, 3 << 20, 1000):
            held.append(memory.alloc(int(nbytes)))
            if len(held) > 5:
                held.pop(int(random.integers(5)))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert memory.stats()["allocated"] == 0
    memory.trim()
    assert memory.stats()["reserved"] == 0


# ---- BLAS ----


def sgemm(a, b, c):
    """c = a @ b through the address that kernels use."""
    i, f, p = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    function = ctypes.CFUNCTYPE(None, i, i, i, i, i, i, f, p, i, p, i, f, p, i)(blas.load().address["sgemm"])
    (m, k), n = a.shape, b.shape[1]
    order, plain = 101, 111  # CBLAS: row-major, not transposed
    function(order, plain, plain, m, n, k, 1.0, address(a), k, address(b), n, 0.0, address(c), n)


def test_blas_by_address_from_several_threads():
    random = np.random.default_rng(0)
    wrong = []

    def work(size):
        a, b = random.random((size, 70), np.float32), random.random((70, 33), np.float32)
        c = np.zeros((size, 33), np.float32)
        for _ in range(100):
            c[:] = 0
            sgemm(a, b, c)
            if not np.allclose(c, a @ b, rtol=1e-4):
                wrong.append(size)

    workers = [threading.Thread(target=work, args=(size,)) for size in (1, 64, 200)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert all(blas.load().address.values())


def test_blas_core_type(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    flags = " ".join(blas.AVX512)
    for vendor, family, expected in (
        ("GenuineIntel", "6", "SkylakeX"), ("AuthenticAMD", "26", "SkylakeX"), ("AuthenticAMD", "25", "Zen")
    ):  # fmt: skip
        cpu = {"vendor_id": vendor, "cpu family": family, "flags": flags}
        monkeypatch.setattr(blas, "cpu_info", lambda cpu=cpu: cpu)
        assert blas.core_type() == expected
    monkeypatch.setattr(blas, "cpu_info", dict)
    assert blas.core_type() is None
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    assert blas.core_type() == "Nehalem"


def test_environment_is_restored(monkeypatch):
    monkeypatch.setenv("JTORCH_TEST_A", "1")
    monkeypatch.delenv("JTORCH_TEST_B", raising=False)
    with blas.environment(JTORCH_TEST_A="2", JTORCH_TEST_B="3", JTORCH_TEST_C=None):
        assert os.environ["JTORCH_TEST_A"] == "2" and os.environ["JTORCH_TEST_B"] == "3"
    assert os.environ["JTORCH_TEST_A"] == "1" and "JTORCH_TEST_B" not in os.environ
