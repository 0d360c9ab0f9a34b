"""The operators that nearly every program uses, on the samples of PyTorch's own operator database: float32 results and
gradients against PyTorch's in float64. The operators' names stand in opinfo_operators.txt."""
from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jtorch

T = pytest.importorskip("torch", reason="PyTorch's operator database needs PyTorch")
pytest.importorskip("expecttest", reason="PyTorch's operator database needs expecttest")

NAMES = Path(__file__).with_name("opinfo_operators.txt").read_text().split()
SAMPLES = 3  # spread over what the database has
UNDEFINED = {"empty", "empty_like"}  # values are whatever the memory holds
METHODS = {"bool", "byte", "double", "float", "half", "int", "long", "bfloat16"}  # dtypes have the same names


@functools.cache
def database() -> dict[str, Any]:
    from torch.testing._internal.common_methods_invocations import op_db
    found: dict[str, Any] = {}
    for info in op_db:
        found.setdefault(info.name + (f"[{info.variant_test_name}]" if info.variant_test_name else ""), info)
    return found


def samples(info: Any, requires_grad: bool) -> list[Any]:
    T.manual_seed(7)
    dtype = T.float32 if T.float32 in info.dtypes else T.int64
    every = list(info.sample_inputs("cpu", dtype, requires_grad=requires_grad))
    step = max((len(every) - 1) / max(SAMPLES - 1, 1), 1)
    return [every[round(i * step)] for i in range(min(SAMPLES, len(every)))]


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, (tuple, list)) and not isinstance(tree, T.Size):
        items = [mapped(function, x) for x in tree]
        return tuple(items) if isinstance(tree, tuple) else items
    if isinstance(tree, dict):
        return {k: mapped(function, x) for k, x in tree.items()}
    return function(tree)


def leaves(tree: Any) -> list[Any]:
    found: list[Any] = []
    mapped(found.append, tree)
    return found


def widened(x: Any) -> Any:
    """The oracle's arguments: float64."""
    if isinstance(x, T.Tensor):
        wide = x.detach().double() if x.dtype is T.float32 else x.detach()
        return wide.requires_grad_(x.requires_grad)
    return T.float64 if x is T.float32 else x


def converted(x: Any) -> Any:
    """The same for jtorch, as float32."""
    if isinstance(x, T.Tensor):
        return jtorch.tensor(x.detach().numpy()).requires_grad_(x.requires_grad)
    if isinstance(x, T.Size):
        return jtorch.Size(x)
    if isinstance(x, (T.dtype, T.layout, T.memory_format)):
        return getattr(jtorch, str(x).removeprefix("torch."))
    return jtorch.device(str(x)) if isinstance(x, T.device) else x


def subject(info: Any) -> Callable[..., Any]:
    """What jtorch has for an entry: the function of that name, or the database's own lines with `torch` replaced."""
    op = info.op
    if isinstance(op, types.FunctionType) and op.__module__.startswith("torch.testing"):
        scope = dict(op.__globals__, torch=jtorch, wrapper_set_seed=lambda f, *args, **kwargs: f(*args, **kwargs))
        return types.FunctionType(op.__code__, scope, op.__name__, op.__defaults__, op.__closure__)
    if info.name == "slice":
        return lambda x, dim=0, start=None, end=None, step=1: jtorch.Tensor.__getitem__(
            x, (slice(None),) * (dim % x.ndim) + (slice(start, end, step),))
    space, _, name = info.name.rpartition(".")
    found: Any = jtorch
    for part in space.split(".") if space else ():
        found = getattr(found, part)
    return getattr(jtorch.Tensor if name in METHODS or not hasattr(found, name) else found, name)


def to_numpy(x: Any) -> np.ndarray:
    x = x.detach()
    return (x.float() if "bfloat16" in str(x.dtype) else x).numpy()


def check(got: Any, expected: Any, what: str) -> None:
    """Shapes and dtypes equal (the oracle's float64 standing for float32), values as near as float32 can be."""
    if not isinstance(expected, T.Tensor):
        assert got == pytest.approx(expected, rel=1e-5) if isinstance(expected, float) else got == expected, what
        return
    a, b = to_numpy(got), to_numpy(expected)
    assert a.shape == b.shape, what
    assert a.dtype == b.dtype or (a.dtype, b.dtype) == (np.float32, np.float64), what
    if a.dtype.kind != "f":
        np.testing.assert_array_equal(a, b, what)
        return
    scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
    narrow = {"bfloat16": 1e-2, "float16": 2e-3}.get(str(got.dtype).removeprefix("torch."), 2e-5)
    np.testing.assert_allclose(a, b, narrow, narrow * scale, err_msg=what)


def tensors(tree: Any, cls: type) -> Iterator[Any]:
    return (x for x in leaves(tree) if isinstance(x, cls) and x.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_operator(name: str) -> None:
    info = database()[name]
    ours = subject(info)
    differentiable = info.supports_autograd and T.float32 in info.backward_dtypes
    for i, sample in enumerate(samples(info, differentiable)):
        what = f"{name}, sample {i}: {sample.summary()}"
        arguments = ((sample.input, *sample.args), sample.kwargs)
        (args, kwargs), (our_args, our_kwargs) = mapped(widened, arguments), mapped(converted, arguments)
        expected, got = info.op(*args, **kwargs), ours(*our_args, **our_kwargs)
        assert isinstance(got, (tuple, list)) == isinstance(expected, (tuple, list)), what
        expected, got = leaves(expected), leaves(got)
        assert len(got) == len(expected), what
        if name not in UNDEFINED:
            for g, e in zip(got, expected):
                check(g, e, what)
        results = [(e, g) for e, g in zip(expected, got) if isinstance(e, T.Tensor) and e.requires_grad]
        if not differentiable or not results:
            continue
        random = np.random.default_rng(i)
        weights = [random.standard_normal(e.shape) for e, _ in results]
        T.autograd.backward([e for e, _ in results], [T.tensor(w, dtype=e.dtype)
                                                      for w, (e, _) in zip(weights, results)])
        jtorch.autograd.backward([g for _, g in results], [jtorch.tensor(w, dtype=g.dtype)
                                                           for w, (_, g) in zip(weights, results)])
        for theirs, own in zip(tensors((args, kwargs), T.Tensor), tensors((our_args, our_kwargs), jtorch.Tensor)):
            assert (own.grad is None) == (theirs.grad is None), f"{what}: gradient"
            if theirs.grad is not None:
                check(own.grad, theirs.grad, f"{what}: gradient")
