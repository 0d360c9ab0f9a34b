"""Autograd as PyTorch's users know it: leaves, accumulation, modes, hooks, custom functions, higher derivatives."""
from __future__ import annotations

import numpy as np
import pytest

import jtorch as torch


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_backward_accumulates():
    x = leaf(1.0, 2.0, 3.0)
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert x.grad.tolist() == [4.0, 8.0, 12.0]


def test_backward_after_the_value_was_read():
    x = leaf(1.0, 2.0, 3.0)
    loss = (x.exp() * x).sum()
    assert loss.item() == pytest.approx(sum(v * np.exp(v) for v in (1, 2, 3)))
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy(), [(1 + v) * np.exp(v) for v in (1, 2, 3)])


def test_backward_twice_is_refused():
    for read in (False, True):
        x = leaf(1.0, 2.0)
        loss = (x * x).sum()
        if read:
            loss.item()
        loss.backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            loss.backward()


def test_retain_graph_allows_it():
    x = leaf(1.0, 2.0)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.item()
    loss.backward()
    assert x.grad.tolist() == [4.0, 8.0]


def test_linear_graph_keeps_nothing_and_may_run_twice():
    x = leaf(1.0, 2.0)
    loss = (x + x).sum()
    loss.backward()
    loss.backward()
    assert x.grad.tolist() == [4.0, 4.0]


def test_backward_through_several_flushes():
    x = leaf(0.5, 1.5)
    y = x * x
    y.sum().item()
    z = y * x
    z.sum().item()
    z.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * np.array([0.5, 1.5]) ** 2)


def test_grad_of_an_intermediate():
    x = leaf(1.0, 2.0)
    y = x * 3
    for flush in (False, True):
        loss = (y * y).sum()
        if flush:
            loss.item()
        g, = torch.autograd.grad(loss, y, retain_graph=True)
        assert g.tolist() == [6.0, 12.0]


def test_unused_input():
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(RuntimeError, match="appears to not have been used"):
        torch.autograd.grad((x * 2).sum(), y)
    assert torch.autograd.grad((x * 2).sum(), y, allow_unused=True) == (None,)
    g, = torch.autograd.grad((x * 2).sum(), y, allow_unused=True, materialize_grads=True)
    assert g.tolist() == [0.0]


def test_double_backward_matches_by_hand():
    x = leaf(0.3, -0.7, 1.1)
    for read in (False, True):
        y = (x ** 3).sum()
        if read:
            y.item()
        g, = torch.autograd.grad(y, x, create_graph=True)
        if read:
            g.sum().item()
        h, = torch.autograd.grad(g.sum(), x)
        np.testing.assert_allclose(h.numpy(), 6 * x.detach().numpy())


def test_non_scalar_needs_a_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        (x * 2).backward()
    (x * 2).backward(torch.tensor([1.0, 10.0], dtype=torch.float64))
    assert x.grad.tolist() == [2.0, 20.0]


def test_no_requires_grad_no_backward():
    with pytest.raises(RuntimeError, match="element 0 of tensors does not require grad"):
        torch.ones(3).sum().backward()


def test_modes():
    x = leaf(1.0)
    with torch.no_grad():
        assert not (x * 2).requires_grad
        with torch.enable_grad():
            assert (x * 2).requires_grad
    with torch.inference_mode():
        assert not (x * 2).requires_grad and torch.is_inference_mode_enabled()
    with torch.set_grad_enabled(False):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()

    @torch.no_grad()
    def f(x):
        return x * 2
    assert not f(x).requires_grad and (x * 2).requires_grad


def test_no_grad_value_is_not_confused_with_the_same_computation_under_grad():
    x = leaf(2.0)
    with torch.no_grad():
        a = x * 3
    b = x * 3
    (a * b).sum().backward()
    assert x.grad.tolist() == [18.0]  # only through b: a * db/dx


def test_detach_shares_memory_and_stops_gradients():
    x = leaf(1.0, 2.0)
    d = x.detach()
    assert not d.requires_grad
    d[0] = 5
    assert x.tolist() == [5.0, 2.0]
    (x * x.detach()).sum().backward()
    assert x.grad.tolist() == [5.0, 2.0]


def test_leaf_rules():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        x += 1
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        x[0] = 3
    with pytest.raises(RuntimeError, match="only Tensors of floating point dtype can require gradients"):
        torch.ones(2, dtype=torch.int64).requires_grad_()
    y = x * 2
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
        y.requires_grad = False
    assert x.is_leaf and not y.is_leaf and y.grad_fn is not None and x.grad_fn is None


def test_in_place_keeps_saved_values():
    x = leaf(1.0, 2.0)
    y = x * 1
    z = y * y
    y += 10  # z's derivative still sees the old y
    (z + y).sum().backward()
    assert x.grad.tolist() == [3.0, 5.0]


def test_gradient_through_view_write():
    x, w = leaf(1.0, 2.0, 3.0), leaf(5.0)
    y = x * 1
    y[1:2] = w
    (y * y).sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 6.0] and w.grad.tolist() == [10.0]


def test_hooks():
    x = leaf(1.0, 2.0)
    seen = []
    handle = x.register_hook(lambda g: seen.append(g.tolist()) or g * 10)
    y = x * 2
    y.register_hook(lambda g: g + 1)
    y.retain_grad()
    (y * 3).sum().backward()
    assert seen == [[8.0, 8.0]] and x.grad.tolist() == [80.0, 80.0] and y.grad.tolist() == [4.0, 4.0]
    handle.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_retain_grad_after_use():
    x = leaf(1.0, 2.0)
    y = x * 2
    loss = (y * y).sum()
    y.retain_grad()
    loss.backward()
    assert y.grad.tolist() == [4.0, 8.0]


def test_post_accumulate_hook():
    x = leaf(1.0)
    seen = []
    x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.item()))
    (x * 4).sum().backward()
    assert seen == [4.0]


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * 2 * x


def test_custom_function_first_and_second_order():
    x = leaf(1.0, 3.0)
    for read in (False, True):
        y = Square.apply(x).sum()
        if read:
            y.item()
        g, = torch.autograd.grad(y, x, create_graph=True)
        assert g.tolist() == [2.0, 6.0]
        h, = torch.autograd.grad((g * g).sum(), x)
        assert h.tolist() == [8.0, 24.0]


def test_custom_function_need_not_be_the_true_derivative():
    class Straight(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, g):
            return g

    x = leaf(1.4, 2.6)
    (Straight.apply(x) * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_gradcheck():
    x, y = leaf(0.4, -1.2), leaf(2.0, 0.7)
    assert torch.autograd.gradcheck(lambda a, b: (a.sin() * b).exp(), (x, y))
    assert torch.autograd.gradgradcheck(lambda a, b: (a.sin() * b).exp(), (x, y))

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * x

        @staticmethod
        def backward(ctx, g):
            return g

    with pytest.raises(torch.autograd.GradcheckError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(Wrong.apply, (x,))


def test_backward_is_generated_once():
    x = leaf(1.0, 2.0)
    from jtorch.capture.record import current
    for i in range(4):
        (x.exp() * x).sum().backward()
        x.grad.tolist()
        if i == 1:
            before = len(current.recorder.builder.table)
    assert len(current.recorder.builder.table) == before


def test_deep_graph():
    x = leaf(1.0)
    y = x
    for _ in range(12_000):
        y = y + 0.001
    y.sum().backward()
    assert x.grad.tolist() == [1.0]


def test_grad_setter_checks():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="different size"):
        x.grad = torch.ones(3, dtype=torch.float64)
    with pytest.raises(TypeError):
        x.grad = 3


def test_gradients_survive_a_flush_within_backward():
    """A hook that looks at a value, or a gradient that NumPy shares, flushes between two leaves."""
    parameters = [leaf(1.0, 1.0) for _ in range(3)]
    seen = []
    for k, p in enumerate(parameters):
        p.register_hook(lambda g: (seen.append(g), float(g.sum()), 2 * g)[2])
        p.register_post_accumulate_grad_hook(lambda p: p.grad.tolist())
        if k == 1:
            (p * 5).sum().backward()
            shared = p.grad.numpy()
    seen.clear()
    for _ in range(2):
        sum((p * (k + 1)).sum() for k, p in enumerate(parameters)).backward()
    assert [p.grad.tolist() for p in parameters] == [[4.0, 4.0], [18.0, 18.0], [12.0, 12.0]]
    assert shared.tolist() == [18.0, 18.0]
    assert sorted(g.tolist()[0] for g in seen) == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]


def test_freezing_what_was_used():
    weight = torch.ones(2, requires_grad=True)
    (weight * 2).sum().backward()
    assert weight.requires_grad
    for _ in range(2):
        weight.requires_grad_(False)
        assert not weight.requires_grad
    assert not (weight * 2).requires_grad
    assert weight.requires_grad_().requires_grad


def test_detach_in_place_cuts_the_history_of_what_was_computed():
    """Of the tensor itself: what was made of it before keeps its gradient, and later writes bring theirs."""
    x, w = (torch.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [3.0, 4.0]))
    h = torch.zeros(2)
    for _ in range(3):
        h = h * w + x
        h.sum().backward()  # only this step's: RuntimeError otherwise, as the graph of the last one is gone
        assert h.detach_() is h
        assert not h.requires_grad and h.is_leaf and h.grad_fn is None
    assert x.grad.tolist() == [3.0, 3.0] and w.grad.tolist() == [1.0 + 4.0, 2.0 + 10.0]
    w.grad = None
    y = x * 2
    z = y * 3
    y.detach_().mul_(w)
    (y + z).sum().backward()
    assert w.grad.tolist() == [2.0, 4.0] and x.grad.tolist() == [3.0 + 6.0, 3.0 + 6.0]


def test_grad_of_what_is_no_leaf_warns():
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    with pytest.warns(UserWarning, match="not a leaf Tensor"):
        assert y.grad is None
    y.retain_grad()
    y.sum().backward()
    assert y.grad.tolist() == [1.0, 1.0] and x.grad.tolist() == [2.0, 2.0]


def test_hooks_come_before_what_keeps_the_gradient():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    (y * y).sum().backward()
    assert y.grad.tolist() == [40.0, 80.0] and x.grad.tolist() == [80.0, 160.0]
    x.register_hook(lambda g: g + 1)
    assert torch.autograd.grad((x * x).sum(), [x])[0].tolist() == [3.0, 5.0]


NAMED = """x + 1; 1 - x; x * 2; x / 2; x ** 2; x ** x; 2 ** x; x @ x; w @ x; w @ w.t(); x.exp(); x.log2(); x.expm1()
    x.relu(); x.clamp(0, 1); w.sum(1); w.sum(); w.prod(1); w.max(); w.max(1)[0]; w.median(); x.norm()
    F.softmax(w, 1); x.clone(); x.view(2, 2); w.t().reshape(-1); w.t(); t.transpose(1, 2); t.permute(2, 0, 1)
    x.unsqueeze(0); w[:, None]; w[0]; w[0, 1]; w[:, 0]; w[:, 1:]; t[0, :, 1]; t[..., 0]; t[0, :, 1:]
    x[[0, 1]]; x.repeat(2); torch.stack([x, x]); torch.cat([x, x]); x.roll(1); w.tril(); x.index_select(0, i)
    w.masked_fill(w > 0.5, 0.0); x.topk(2)[0]; torch.zeros(4).index_add(0, i, b); torch.dot(x, x)
    torch.addmm(b, w, w.t()); F.linear(w, w, b); F.linear(t, w, b); F.linear(t, w)
    F.adaptive_avg_pool2d(t[None], 1); F.embedding(i, w)
    F.interpolate(t[None], scale_factor=2, mode='bilinear'); F.pad(x, (1, 1)); F.normalize(w, dim=1)
    F.l1_loss(x, x.detach()); F.mse_loss(x, x.detach()); F.cross_entropy(w, i)
    F.cross_entropy(w, i, label_smoothing=0.1); F.kl_div(w.log_softmax(1), w.detach(), reduction='batchmean')
    torch.linalg.inv(w[:, :3]); torch.fft.rfft(x); F.dropout(x, 0.5); torch.linalg.svd(w)[1]; (x * 2).add_(1)
    (x * 2).relu_(); F.layer_norm(w, (4,)); torch.lerp(x, x * 2, 0.5); x.sigmoid().clone()
"""


@pytest.mark.parametrize("flushed", [False, True])
def test_operations_have_pytorchs_names(flushed):
    theirs = pytest.importorskip("torch", reason="PyTorch is the oracle here")

    def names(torch):
        torch.manual_seed(0)
        given = {"torch": torch, "F": torch.nn.functional, "i": torch.tensor([0, 1, 2])}
        for name, shape in (("x", (4,)), ("w", (3, 4)), ("b", (3,)), ("t", (2, 3, 4))):
            given[name] = torch.rand(shape, requires_grad=True)
        found = {}
        for text in NAMED.replace("\n", ";").split(";"):
            if text.strip():
                result = eval(text, given)
                if flushed:
                    result.sum().item()
                found[text.strip()] = result.grad_fn.name(), type(result.grad_fn).__name__
        return found
    ours = names(torch)
    assert ours == {**names(theirs), "x.sigmoid().clone()": ("SigmoidBackward0",) * 2}  # a copy is the same value


def test_operands_of_a_node_are_in_pytorchs_order():
    x = torch.ones(3, requires_grad=True)
    node = (2 * x.sin() + 1).grad_fn
    assert [type(f).__name__ for f, _ in node.next_functions] == ["MulBackward0", "NoneType"]
    node = node.next_functions[0][0]
    assert [type(f).__name__ for f, _ in node.next_functions] == ["SinBackward0", "NoneType"]
    assert type(x.clone().grad_fn.next_functions[0][0]).__name__ == "AccumulateGrad"
    loss = (x * 3).sum().sqrt()
    loss.backward()
    assert repr(loss).endswith("grad_fn=<SqrtBackward0>)")  # also where the graph is given up
