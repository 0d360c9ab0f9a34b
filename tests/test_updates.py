"""Updates (`put`, `slice_update`, ...) write in place where nobody needs the old contents, and only there."""
import random

import numpy as np
import pytest
from test_compiler import build, check, floats

import jtorch
from jtorch import driver, dtypes
from jtorch.ir.interpret import interpret
from jtorch.ir.prims.elementwise import tanh
from jtorch.ir.prims.indexing import put, put_add, scatter, take
from jtorch.ir.prims.movement import as_strided_scatter, permute_to, reshape_to, slice_axis, slice_update

F = dtypes.float32
N = 6


def into(x, src, i, j):
    """Rows i..j of x replaced."""
    return slice_update(x, src, starts=(i, 0), stops=(j, N), steps=(1, 1))


def ops_of(exe):
    return [kernel.name.split()[-1] for kernel in exe.kernels]


def test_a_chain_of_updates_lies_in_one_place():
    def f(x, a, b):
        return into(into(into(x, a, 0, 1), b, 3, 4), a + b, 5, 6)
    types = [(F, (N, N)), (F, (1, N)), (F, (1, N))]
    arrays = floats((N, N), (1, N), (1, N))
    exe = check(build(types, f), arrays, in_place={0: 0})
    assert exe.arena_size <= 64  # for a + b
    assert ops_of(exe).count("copy_blocks") == 3
    exe = check(build(types, f), arrays)  # the parameter stays: one copy of it
    assert ops_of(exe).count("copy_blocks") == 4
    computed = check(build(types, lambda x, a, b: tanh(f(tanh(x), a, b))), arrays, in_place={0: 0})
    assert ops_of(computed).count("copy_blocks") == 3


def test_what_is_read_later_or_beside_is_kept():
    types = [(F, (N, N)), (F, (1, N))]
    arrays = floats((N, N), (1, N))
    check(build(types, lambda x, a: [into(x, a, 0, 1), tanh(x)]), arrays, in_place={0: 0})
    check(build(types, lambda x, a: [tanh(into(x, a, 0, 1)), permute_to(x, (1, 0)) + x]), arrays, in_place={0: 0})
    check(build(types, lambda x, a: [into(x, a, 0, 1), into(x, a, 2, 3)]), arrays, in_place={0: 0})
    check(build(types, lambda x, a: [into(tanh(x), a, 0, 1), into(tanh(x), a, 2, 3), tanh(x)]), arrays)
    for shift in (1, 2, -1):  # the source overlaps with what is written
        def f(x, a, shift=shift):
            i, j = (shift, N) if shift > 0 else (0, N + shift)
            return into(x, slice_axis(x, 0, i - shift, j - shift), i, j)
        exe = check(build(types, f), arrays, in_place={0: 0})
        assert len(exe.kernels) == 2  # the source aside, and into its place
    check(build(types, lambda x, a: into(permute_to(into(x, a, 0, 1), (1, 0)), a, 2, 3)), arrays, in_place={0: 0})


@pytest.mark.parametrize("name", ["put", "put_add", "scatter", "as_strided_scatter"])
@pytest.mark.parametrize("dtype", [F, dtypes.bfloat16], ids=str)
def test_each_update_in_place(name, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (40, N)).astype(dtype.numpy)
    index = rng.integers(0, 40, (7,))
    src = rng.integers(-9, 9, (7, N)).astype(dtype.numpy)

    def f(x, index, src):
        if name == "scatter":
            rows = reshape_to(index, (7, 1))
            return scatter(x, rows, slice_axis(src, 1, 2, 3), axis=0, mode="add")
        if name == "as_strided_scatter":
            return as_strided_scatter(x, src, shape=(7, N), strides=(1, 7), offset=3, accumulate=False)
        return {"put": put, "put_add": put_add}[name](x, index, src, axis=0)
    graph = build([(dtype, (40, N)), (dtypes.int64, (7,)), (dtype, (7, N))], f)
    exe = check(graph, [x, index, src], in_place={0: 0})
    assert exe.may_stop is False
    if name != "as_strided_scatter":
        index[3] = 40
        before = x.copy()
        with pytest.raises(IndexError):
            exe.run([a.ctypes.data for a in (x, index, src, x)])
        np.testing.assert_array_equal(x, before)
        with pytest.raises(IndexError):
            interpret(graph, [x, index, src], spare=graph.params)
        np.testing.assert_array_equal(x, before)


def test_a_check_behind_a_write_is_noticed():
    """Such a program is compiled again without memory that it writes over."""
    def f(x, a, index):
        y = into(x, a, 0, 1)
        return [y, take(tanh(y), index, axis=0)]
    exe = driver.compile_graph(build([(F, (N, N)), (F, (1, N)), (dtypes.int64, (2,))], f), {0: 0})
    assert exe.may_stop


@pytest.mark.parametrize("seed", range(30))
def test_random_updates(seed):
    """Reads, views and updates of a few tensors in any order: compiled in place, and interpreted in spare memory."""
    pick = random.Random(seed)

    def f(*params):
        live = list(params)
        for _ in range(8):
            k = pick.randrange(len(live))
            x, y = live[k], pick.choice(live)
            kind = pick.randrange(6)
            if kind == 0:
                live.append(tanh(x))
            elif kind == 1:
                live[k] = x + permute_to(y, (1, 0))
            else:
                i = pick.randrange(N - 1)
                part = slice_axis(y, 0, i, i + 2)
                part = tanh(part) if pick.random() < 0.3 else part
                j = pick.randrange(N - 1)
                live[k] = into(x, part, j, j + 2)
        return live[:4]
    types = [(F, (N, N))] * 3
    arrays = floats(*[(N, N)] * 3, seed=seed)
    graph = build(types, f)
    over = {0: 0, 1: 1} if pick.random() < 0.7 else {}
    expected = interpret(graph, [a.copy() for a in arrays])
    check(graph, [a.copy() for a in arrays], in_place=over)
    for found, wanted in zip(interpret(graph, [a.copy() for a in arrays], spare=graph.params), expected):
        np.testing.assert_array_equal(found, wanted)


# --- tensors ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tier", ["never", "sync"])
def test_assignments_keep_the_memory(monkeypatch, tier):
    monkeypatch.setattr(jtorch.config.config, "eager_compile", tier)
    x, y = jtorch.zeros(50, 4), jtorch.arange(4.0)
    index = jtorch.tensor([1, -2])
    want = np.zeros((50, 4), np.float32)
    addresses = set()
    for step in range(8):
        i = step if tier == "never" else 3  # another row is another program, which is interpreted first
        x[i] = y + i
        want[i] = np.arange(4) + i
        if tier == "sync":  # the interpreter finds a bad index only when it has begun to write
            x.index_put_((index,), y)
            want[[1, -2]] = np.arange(4)
            x[:, 1] = x[:, 2]  # NumPy writes no memory that is looked at
            want[:, 1] = want[:, 2]
        jtorch.synchronize()
        if step > 2:
            addresses.add(x._storage.cell.buffer.ptr)
    np.testing.assert_array_equal(x.numpy(), want)
    assert len(addresses) == 1


@pytest.mark.parametrize("tier", ["never", "sync"])
def test_a_bad_index_writes_nothing(monkeypatch, tier):
    """Also where it is known only to the kernel, and what was there is still held by somebody else."""
    monkeypatch.setattr(jtorch.config.config, "eager_compile", tier)
    for write in (lambda x, i, y: x.index_put_((i,), y), lambda x, i, y: x.scatter_(0, i[:, None], y[:, :1]),
                  lambda x, i, y: x.index_add_(0, i, y)):
        x, y = jtorch.arange(20.0).reshape(5, 4), jtorch.ones(2, 4)
        for i in (0, 1, 2):
            write(x, jtorch.tensor([i, 4]) + 0, y)
            jtorch.synchronize()
        before, view = x.clone().numpy(), x.detach().clone()
        jtorch.synchronize()
        with pytest.raises(IndexError):
            write(x, jtorch.tensor([1, 5]) + 0, y)
            jtorch.synchronize()
        np.testing.assert_array_equal(view.numpy(), before)


def test_a_tensor_is_as_it_was_after_a_bad_write():
    """Whether its contents existed or were pending; and what else was written in between is computed."""
    bad = jtorch.tensor([1, 5])
    for settled in (True, False):
        x, y = jtorch.arange(5.0), jtorch.zeros(3)
        if settled:
            jtorch.synchronize()
        y.add_(1.0)
        x[bad + 0] = 7.0
        x.mul_(2.0)
        with pytest.raises(IndexError):
            jtorch.synchronize()
        np.testing.assert_array_equal(x.numpy(), np.arange(5))
        np.testing.assert_array_equal(y.numpy(), np.ones(3))
        x.add_(1.0)
        np.testing.assert_array_equal(x.numpy(), np.arange(5) + 1)
    w = jtorch.ones(5, requires_grad=True)
    v = w * 3
    v[bad + 0] = 1.0
    with pytest.raises(IndexError):
        v.sum().item()
    assert v.tolist() == [3.0] * 5
    v.sum().backward()
    assert w.grad.tolist() == [3.0] * 5


def test_a_clone_outlives_what_it_was_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clone is the old contents' memory, so the new contents need some of their own."""
    monkeypatch.setattr(jtorch.config.config, "eager_compile", "sync")
    for _ in range(4):
        x = jtorch.tensor(np.arange(15.0))
        y = x.clone()
        x.mul_(0.5)
        z = x + y
        assert (z.tolist(), x.tolist(), y.tolist()) == (
            [1.5 * i for i in range(15)], [0.5 * i for i in range(15)], list(range(15)))
