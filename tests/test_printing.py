"""Tensor text against examples recorded from PyTorch and, where it is installed, against PyTorch itself."""

import importlib.util
import itertools

import ml_dtypes
import numpy as np
import pytest

import jtorch
from jtorch import printing
from jtorch.printing import format_tensor

HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="compares with PyTorch, which is not installed")


@pytest.fixture(autouse=True)
def default_options():
    yield
    printing.set_printoptions(profile="default")


def text(array, **arguments):
    array = np.asarray(array)
    return format_tensor(array, dtype_name=arguments.pop("dtype_name", array.dtype.name), **arguments)


f32 = np.float32
RECORDED = [
    (f32(1.5), {}, "tensor(1.5000)"),
    (f32([1, -2, 3]), {}, "tensor([ 1., -2.,  3.])"),
    (f32([0.1, 1e5]), {}, "tensor([1.0000e-01, 1.0000e+05])"),
    (f32([np.nan, 1, -np.inf]), {}, "tensor([nan, 1., -inf])"),
    (np.array([[True], [False]]), {}, "tensor([[ True],\n        [False]])"),
    (np.arange(3), {}, "tensor([0, 1, 2])"),
    (np.arange(3, dtype=np.int8), {}, "tensor([0, 1, 2], dtype=torch.int8)"),
    (np.zeros((0,), np.float32), {}, "tensor([])"),
    (np.zeros((2, 0), np.int64), {}, "tensor([], size=(2, 0), dtype=torch.int64)"),
    (np.array([1 + 2j, -0.5j]), {}, "tensor([1.+2.0000j, -0.-0.5000j], dtype=torch.complex128)"),
    (f32([1, 2]), {"grad_fn": "AddBackward0"}, "tensor([1., 2.], grad_fn=<AddBackward0>)"),
    (f32([1]), {"requires_grad": True}, "tensor([1.], requires_grad=True)"),
    (f32([1]), {"device": "cuda:0"}, "tensor([1.], device='cuda:0')"),
    (np.arange(1001), {}, "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
]


@pytest.mark.parametrize(("array", "arguments", "expected"), RECORDED)
def test_recorded_text(array, arguments, expected):
    assert text(array, **arguments) == expected


def test_options_are_restored():
    before = printing.get_printoptions()
    with printing.printoptions(precision=2, sci_mode=True):
        assert text(f32([1.25])) == "tensor([1.25e+00])"
    assert printing.get_printoptions() == before
    printing.set_printoptions(profile="short", linewidth=40)
    assert printing.get_printoptions() == {
        "precision": 2,
        "threshold": 1000,
        "edgeitems": 2,
        "linewidth": 40,
        "sci_mode": None,
    }


FLOATS = [np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
INTEGERS = [np.dtype(t) for t in (np.uint8, np.int8, np.int16, np.int32, np.int64)]
DTYPES = [*FLOATS, *INTEGERS, np.dtype(bool), np.dtype(np.complex64), np.dtype(np.complex128)]
SHAPES = [(), (1,), (7,), (40,), (0,), (3, 0), (0, 4), (5, 4), (2, 3, 4), (1, 2, 1, 3), (2001,), (60, 50), (3, 500),
          (500, 3), (4, 20, 30), (1, 1, 1100)]  # fmt: skip
KINDS = ["integral", "fractions", "wide", "tiny", "zeros", "special", "huge"]


def values(kind, shape, dtype, seed=0):
    """An array of one kind of numbers."""
    chooser = np.random.default_rng(seed)
    if dtype.kind in "biu":
        limit = 2 if dtype.kind == "b" else min(int(np.iinfo(dtype).max), 10**9)
        return chooser.integers(-limit if dtype.kind == "i" else 0, limit, shape, dtype=np.int64).astype(dtype)
    if dtype.kind == "c":
        real = np.dtype(f"f{dtype.itemsize // 2}")
        with np.errstate(invalid="ignore"):
            return np.asarray(values(kind, shape, real, seed) + 1j * values(kind, shape, real, seed + 1), dtype)
    made = {
        "integral": lambda: chooser.integers(-100, 100, shape).astype(float),
        "fractions": lambda: chooser.standard_normal(shape),
        "wide": lambda: np.exp(chooser.standard_normal(shape) * 4),
        "tiny": lambda: chooser.standard_normal(shape) * 1e-5,
        "zeros": lambda: np.zeros(shape) * chooser.choice([1.0, -1.0], shape),
        "special": lambda: chooser.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2.5], shape),
        "huge": lambda: chooser.integers(1, 9, shape) * 3e7,
    }
    with np.errstate(over="ignore"):
        return np.asarray(made[kind]()).astype(dtype)


def to_torch(array):
    import torch

    if array.dtype == np.dtype(ml_dtypes.bfloat16):
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(array)


@pytest.fixture
def torch_options():
    import torch

    def set_both(**options):
        torch.set_printoptions(**options)
        printing.set_printoptions(**options)

    yield set_both
    set_both(profile="default")


@needs_torch
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_equals_pytorch(dtype, kind):
    for shape in SHAPES:
        array = values(kind, shape, dtype)
        assert text(array) == repr(to_torch(array))


OPTIONS = [
    {"precision": 2},
    {"precision": 8, "linewidth": 60},
    {"threshold": 5, "edgeitems": 2},
    {"threshold": 5, "edgeitems": 0},
    {"linewidth": 20},
    {"linewidth": 200},
    {"sci_mode": True},
    {"sci_mode": False},
    {"profile": "short"},
    {"profile": "full"},
]


@needs_torch
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_equal_pytorch(options, torch_options):
    torch_options(**options)
    dtypes = [np.dtype(t) for t in (np.float32, np.int64, np.complex64)]
    for kind, dtype, shape in itertools.product(KINDS, dtypes, [(), (7,), (40,), (5, 4), (2, 3, 4), (1200,)]):
        array = values(kind, shape, dtype)
        assert text(array) == repr(to_torch(array))


@needs_torch
def test_suffixes_equal_pytorch():
    import torch

    for shape in [(2,), (11,), (13,), (3, 12), (0,), (2, 0)]:
        for dtype in (np.float32, np.float64):
            array = np.ones(shape, dtype)
            leaf = torch.from_numpy(array).requires_grad_()
            assert text(array, requires_grad=True) == repr(leaf)
            assert text(array, grad_fn="MulBackward0") == repr(leaf * 1)
            assert repr(jtorch.nn.Parameter(jtorch.from_numpy(array))) == repr(torch.nn.Parameter(leaf))
            assert repr(jtorch.nn.Buffer(jtorch.from_numpy(array))) == repr(torch.nn.Buffer(torch.from_numpy(array)))


@needs_torch
def test_default_dtype_equals_pytorch():
    import torch

    torch.set_default_dtype(torch.float64)
    try:
        for dtype in DTYPES:
            for shape in [(2,), (0,)]:
                array = np.ones(shape, dtype)
                assert text(array, default_dtype="float64") == repr(to_torch(array))
    finally:
        torch.set_default_dtype(torch.float32)
