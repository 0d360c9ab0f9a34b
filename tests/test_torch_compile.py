"""`torch.compile`, `Module.compile` and `torch.compiler`: traced where it can be, run as it is where it cannot."""
from __future__ import annotations

import copy

import pytest

import jtorch
from jtorch import nn
from jtorch.errors import TraceError


def branches(x):
    return x * 2 if x.sum() > 0 else x


def plain(x):
    return (x * 3 + 1).tanh()


def test_a_function_is_traced() -> None:
    seen = []

    @jtorch.compile
    def f(x):
        seen.append(jtorch.compiler.is_compiling())
        return plain(x)

    for n in (3, 5):  # another size is the same program
        x = jtorch.randn(n)
        assert (f(x) - plain(x)).abs().max() < 1e-6
        assert (f(x) - plain(x)).abs().max() < 1e-6
    assert seen and all(seen) and not jtorch.compiler.is_compiling()


def test_what_cannot_be_traced_runs_eagerly_or_says_why() -> None:
    f = jtorch.compile(branches)
    assert f(jtorch.ones(2)).tolist() == [2, 2] and f(-jtorch.ones(2)).tolist() == [-1, -1]
    assert "runs eagerly" in f.explain()
    with pytest.raises(TraceError, match="test_torch_compile.py"):
        jtorch.compile(branches, fullgraph=True)(jtorch.ones(2))


def test_gradients_go_through() -> None:
    x = jtorch.randn(6, requires_grad=True)
    expected, = jtorch.autograd.grad(plain(x).sum(), x)
    f = jtorch.compile(plain)
    for _ in range(2):
        x.grad = None
        f(x).sum().backward()
        assert (x.grad - expected).abs().max() < 1e-6


def test_a_compiled_module_shares_its_parameters() -> None:
    model = nn.Linear(3, 2)
    compiled = jtorch.compile(model)
    x = jtorch.randn(4, 3)
    assert list(compiled.state_dict()) == list(model.state_dict())
    assert (compiled(x) - model(x)).abs().max() < 1e-6
    with jtorch.no_grad():
        model.weight.zero_()
        model.bias.fill_(7)
    assert (compiled(x) == 7).all()


def test_a_module_compiles_its_calls() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 2)).eval()
    x = jtorch.randn(3, 4)
    expected = model(x)
    seen = []
    model.register_forward_pre_hook(lambda m, args: seen.append(jtorch.compiler.is_compiling()))
    model.compile(fullgraph=True)
    assert (model(x) - expected).abs().max() < 1e-6 and seen == [True]
    model.train()
    assert (model(x) != model(x)).any()  # the mode is seen, and so is the generator
    copied = copy.deepcopy(model.eval())
    del seen[:]
    assert (copied(x) - expected).abs().max() < 1e-6 and seen == [False]  # a copy is compiled when it is asked to be
    assert list(model.state_dict()) == ["0.weight", "0.bias", "3.weight", "3.bias"]


def test_a_module_that_branches_on_values_runs_eagerly() -> None:
    class Branches(nn.Module):
        def forward(self, x):
            return branches(x)

    model = Branches()
    model.compile()
    assert model(jtorch.ones(2)).tolist() == [2, 2] and model(-jtorch.ones(2)).tolist() == [-1, -1]


def test_stances_and_disabling() -> None:
    seen = []

    def f(x):
        seen.append(jtorch.compiler.is_compiling())
        return x + 1

    compiled = jtorch.compile(f)
    with jtorch.compiler.set_stance("force_eager"):
        compiled(jtorch.ones(2))
    assert seen == [False]
    compiled(jtorch.ones(2))
    assert seen[-1]
    with jtorch.compiler.set_stance("fail_on_recompile"), pytest.raises(RuntimeError, match="recompile"):
        compiled(jtorch.ones(2, 2))
    assert jtorch.compiler.disable(compiled) is f


@pytest.mark.parametrize("wrong", [{"backend": "nonsense"}, {"mode": "fastest"},
                                   {"mode": "default", "options": {"a": 1}}])
def test_wrong_options(wrong) -> None:
    with pytest.raises(RuntimeError):
        jtorch.compile(plain, **wrong)
