"""DLPack and the array interface: memory is shared both ways, with NumPy and with PyTorch, and lives long enough."""
from __future__ import annotations

import gc
import importlib.util
from typing import Any

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch") if importlib.util.find_spec("torch") else None
needs_torch = pytest.mark.skipif(torch is None, reason="exchanges memory with PyTorch, which is not installed")
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64",
          "complex128"]


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.T, lambda x: x[1:, ::2], lambda x: x[:0], lambda x: x[1, 1]],
                         ids=["whole", "transposed", "sliced", "empty", "0-d"])
def test_numpy_sees_the_tensor(view: Any) -> None:
    x = jtorch.arange(12.0).reshape(3, 4)
    a = np.from_dlpack(view(x))
    np.testing.assert_array_equal(a, view(np.arange(12.0, dtype=np.float32).reshape(3, 4)))
    if a.size:
        a[...] = -1
        assert (view(x) == -1).all()
        view(x).fill_(5)
        assert (a == 5).all()


def test_tensor_sees_the_array() -> None:
    a = np.arange(12.0).reshape(3, 4)
    x = jtorch.from_dlpack(a[:, 1::2])
    assert x.stride() == (4, 2)
    x.mul_(10)
    assert a[0, 1] == 10 and a[0, 0] == 0
    a[0, 1] = 3
    assert (x + 1)[0, 0] == 4
    y = jtorch.from_dlpack(a, copy=True)
    y.zero_()
    assert a[0, 1] == 3


@needs_torch
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_both_ways(dtype: str) -> None:
    theirs = torch.ones(2, 3, dtype=getattr(torch, dtype))
    ours = jtorch.from_dlpack(theirs.t())
    assert str(ours.dtype) == str(theirs.dtype) and ours.stride() == (1, 3)
    ours[0, 1] = 0
    assert theirs[1, 0] == 0
    back = torch.from_dlpack(jtorch.ones(2, 3, dtype=getattr(jtorch, dtype)).t())
    assert back.dtype == theirs.dtype and back.stride() == (1, 3)


@needs_torch
def test_capsules() -> None:
    x = jtorch.arange(3.0)
    y = torch.utils.dlpack.from_dlpack(jtorch.utils.dlpack.to_dlpack(x))
    y.add_(1)
    assert x.tolist() == [1, 2, 3]
    z = jtorch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(y))
    z.mul_(2)
    assert y.tolist() == [2, 4, 6] and x.tolist() == [2, 4, 6]


def test_memory_outlives_its_maker() -> None:
    a = np.from_dlpack(jtorch.full((1000,), 3.0))
    x = jtorch.from_dlpack(np.full(1000, 4.0))
    b = np.asarray(jtorch.full((1000,), 5.0))
    gc.collect()
    garbage = [jtorch.zeros(1000) + i for i in range(4)]
    assert (a == 3).all() and (x == 4).all() and (b == 5).all() and len(garbage) == 4


def test_array_interface() -> None:
    x = jtorch.arange(6).reshape(2, 3).t()
    interface = x.__array_interface__
    assert interface["shape"] == (3, 2) and interface["data"][0] == x.data_ptr()
    a = np.asarray(x)
    a[0, 0] = 7
    assert x[0, 0] == 7 and a.__array_interface__["data"] == interface["data"]


def test_what_is_refused() -> None:
    with pytest.raises(BufferError, match="Can't export tensors that require gradient, use tensor.detach()"):
        np.from_dlpack(jtorch.ones(2, requires_grad=True))
    with pytest.raises(BufferError, match="bfloat16"):
        jtorch.ones(2, dtype=jtorch.bfloat16).__dlpack__()
    with pytest.raises(BufferError, match="no stream"):
        jtorch.ones(2).__dlpack__(stream=7)
    with pytest.raises(BufferError, match="device"):
        jtorch.ones(2).__dlpack__(dl_device=(2, 0))
    with pytest.raises(AttributeError, match="__dlpack__"):
        jtorch.from_dlpack(3)
    assert jtorch.ones(2).__dlpack_device__() == (1, 0)
    assert not hasattr(jtorch.ones(2, dtype=jtorch.bfloat16), "__array_interface__")


def test_a_write_to_shared_memory_ends_the_values_before_it() -> None:
    array = np.ones(3, np.float32)
    x = jtorch.from_numpy(array)
    x.add_(1)
    np.testing.assert_array_equal((x * 2).numpy(), 4.0)
    np.testing.assert_array_equal(array, 2.0)
