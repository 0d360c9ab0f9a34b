"""torch.func against PyTorch: the values, and the structure in which they come."""
from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest

import jtorch

X = np.random.default_rng(0).standard_normal((4, 3))


def plain(x: Any) -> Any:
    """A result with its containers, the tensors as arrays."""
    if isinstance(x, (tuple, list)):
        return type(x)(plain(i) for i in x)
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return x.detach().numpy() if hasattr(x, "detach") else x


def agree(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, (tuple, list)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            agree(a, b)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for k in ours:
            agree(ours[k], theirs[k])
    elif isinstance(ours, np.ndarray):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, 1e-9, 1e-12)
    else:
        assert ours == theirs


def cubes(t: Any, p: dict) -> Any:
    return (p["a"] ** 3 * p["b"]).sum()


CALLS: dict[str, Any] = {
    "grad": lambda t, f, x: f.grad(lambda a: (a ** 3).sum())(x),
    "grad of a dictionary": lambda t, f, x: f.grad(lambda p: cubes(t, p))({"a": x, "b": x + 1}),
    "grad, argnums": lambda t, f, x: f.grad(lambda a, b: (a * b ** 2).sum(), argnums=1)(x, x + 1),
    "grad, several argnums": lambda t, f, x: f.grad(lambda a, b: (a * b ** 2).sum(), argnums=(0, 1))(x, x + 1),
    "grad, one argnum in a tuple": lambda t, f, x: f.grad(lambda a, b: (a * b ** 2).sum(), argnums=(0,))(x, x + 1),
    "grad, aux": lambda t, f, x: f.grad(lambda a: ((a ** 3).sum(), {"twice": a * 2}), has_aux=True)(x),
    "grad_and_value": lambda t, f, x: f.grad_and_value(lambda a: (a ** 3).sum())(x),
    "grad_and_value, aux": lambda t, f, x: f.grad_and_value(lambda a: ((a ** 3).sum(), a * 2), has_aux=True)(x),
    "grad of grad": lambda t, f, x: f.grad(f.grad(lambda a: a.sin()))(x[0, 0]),
    "vjp of one": lambda t, f, x: f.vjp(t.tanh, x)[1](t.ones_like(x)),
    "vjp of two": lambda t, f, x: f.vjp(lambda a, b: a * b, x, x + 1)[1](t.ones_like(x)),
    "vjp of a dictionary": lambda t, f, x: f.vjp(lambda p: cubes(t, p), {"a": x, "b": x})[1](x[0, 0]),
    "vjp, several outputs": lambda t, f, x: f.vjp(lambda a: (a.sin(), {"c": a * 2}), x)[1]((x, {"c": x})),
    "vjp, output": lambda t, f, x: f.vjp(lambda a: [a.sin(), a.cos()], x)[0],
    "vjp, aux": lambda t, f, x: f.vjp(lambda a: (a.sin(), a * 3), x, has_aux=True)[2],
    "jvp": lambda t, f, x: f.jvp(t.sin, (x,), (x + 1,)),
    "jvp of two, several outputs": lambda t, f, x: f.jvp(lambda a, b: (a * b, a), (x, x + 1), (x, x)),
    "jvp, aux": lambda t, f, x: f.jvp(lambda a: (a * a, a + 1), (x,), (x,), has_aux=True),
    "linearize": lambda t, f, x: f.linearize(t.sin, x)[1](x + 1),
    "jacrev": lambda t, f, x: f.jacrev(lambda a: a @ a.T)(x),
    "jacrev, argnums": lambda t, f, x: f.jacrev(lambda a, b: a * b, argnums=(0, 1))(x, x + 1),
    "jacrev, several outputs": lambda t, f, x: f.jacrev(lambda a: (a.sum(), a.sin()))(x[0]),
    "jacrev of a dictionary": lambda t, f, x: f.jacrev(lambda p: p["a"] * p["b"])({"a": x[0], "b": x[1]}),
    "jacrev, aux": lambda t, f, x: f.jacrev(lambda a: (a * a, a), has_aux=True)(x[0]),
    "jacrev, chunks": lambda t, f, x: f.jacrev(lambda a: a.sin(), chunk_size=2)(x),
    "jacfwd": lambda t, f, x: f.jacfwd(lambda a: a @ a.T)(x),
    "jacfwd, argnums": lambda t, f, x: f.jacfwd(lambda a, b: a * b, argnums=1)(x, x + 1),
    "jacfwd, aux": lambda t, f, x: f.jacfwd(lambda a: (a * a, a), has_aux=True)(x[0]),
    "hessian": lambda t, f, x: f.hessian(lambda a: (a ** 3).prod())(x[0]),
    "hessian of a dictionary": lambda t, f, x: f.hessian(lambda p: cubes(t, p))({"a": x[0], "b": x[1]}),
    "vmap": lambda t, f, x: f.vmap(lambda a: a.softmax(0))(x),
    "vmap, in_dims": lambda t, f, x: f.vmap(t.dot, in_dims=(0, 1))(x, x.T),
    "vmap, one in_dim for all": lambda t, f, x: f.vmap(t.dot, in_dims=1)(x, x),
    "vmap, out_dims": lambda t, f, x: f.vmap(lambda a: (a, a.outer(a)), out_dims=(1, 2))(x),
    "vmap, a constant": lambda t, f, x: f.vmap(lambda a, b: a * b, in_dims=(0, None))(x, x[0]),
    "vmap of containers": lambda t, f, x: f.vmap(lambda p: {"s": p["a"].sum(), "d": [p["b"]]})({"a": x, "b": x}),
    "vmap, nested in_dims": lambda t, f, x: f.vmap(lambda p, q: p["a"] @ q, in_dims=({"a": 0}, None))({"a": x}, x[0]),
    "vmap, negative dims": lambda t, f, x: f.vmap(lambda a: a * 2, in_dims=-1, out_dims=-1)(x),
    "vmap, chunks": lambda t, f, x: f.vmap(lambda a: a.cumsum(0), chunk_size=3)(x),
    "vmap of vmap": lambda t, f, x: f.vmap(f.vmap(lambda a, b: a * b, (0, None)), (None, 0))(x[0], x[:, 0]),
    "vmap of grad": lambda t, f, x: f.vmap(f.grad(lambda a: (a ** 3).sum()))(x),
    "grad of vmap": lambda t, f, x: f.grad(lambda a: f.vmap(lambda r: r.norm())(a).sum())(x),
    "jacfwd of jacrev": lambda t, f, x: f.jacfwd(f.jacrev(lambda a: a.sin().sum()))(x[0]),
    "vmap of jvp": lambda t, f, x: f.vmap(lambda a: f.jvp(t.sin, (a,), (a,)))(x),
    "vmap of vjp": lambda t, f, x: f.vmap(lambda a: f.vjp(t.sin, a)[1](a))(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_as_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = (plain(CALLS[name](t, importlib.import_module(f"{t.__name__}.func"), t.from_numpy(X.copy())))
                        for t in (jtorch, torch))
    agree(ours, theirs)


@pytest.mark.parametrize("ask", [lambda x: x.item(), float, bool, lambda x: x.numpy(), str, lambda x: (x + 1).item()])
def test_an_example_has_no_value(ask: Any) -> None:
    with pytest.raises(RuntimeError, match="vmap"):
        jtorch.func.vmap(ask)(jtorch.ones(3))


def of_modules(t: Any) -> dict[str, Any]:
    f = importlib.import_module(f"{t.__name__}.func")
    t.manual_seed(0)
    layers = [t.nn.Sequential(t.nn.Linear(3, 3), t.nn.BatchNorm1d(3), t.nn.Linear(3, 2)).eval() for _ in range(3)]
    x = t.from_numpy(X.astype(np.float32))
    params, buffers = f.stack_module_state(layers)
    each = f.vmap(f.grad(lambda p, x: f.functional_call(layers[0], p, (x[None],)).sum()), (None, 0))
    return {
        "every": f.vmap(lambda p, b, x: f.functional_call(layers[0], (p, b), (x,)), (0, 0, None))(params, buffers, x),
        "own": f.functional_call(layers[0], {"0.weight": t.eye(3)}, (x,)),
        **each(dict(layers[0].named_parameters()), x),
    }


def test_modules() -> None:
    """`functional_call` with some of the names, `stack_module_state` under vmap, gradients of each sample."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    ours, theirs = of_modules(jtorch), of_modules(torch)
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_allclose(ours[name].detach().numpy(), theirs[name].detach().numpy(), 1e-5, 1e-6, err_msg=name)
