"""Views against PyTorch: shapes, strides, offsets, values, and what writing through them changes."""

import random
import re

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch")


def pair(shape, dtype=np.float32):
    array = np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)
    return jtorch.tensor(array), torch.tensor(array)


def module_of(x):
    return jtorch if isinstance(x, jtorch.Tensor) else torch


def same(a, b, context=""):
    assert tuple(a.shape) == tuple(b.shape), context
    assert str(a.dtype) == str(b.dtype), context
    a, b = [x.detach().resolve_conj().resolve_neg().numpy() for x in (a, b)]
    np.testing.assert_array_equal(a, b, err_msg=str(context))


def same_place(a, b, context=""):
    same(a, b, context)
    if a.numel():
        assert tuple(a.stride()) == tuple(b.stride()), context
        assert a.storage_offset() == b.storage_offset(), context
    assert a.is_contiguous() == b.is_contiguous(), context


VIEWS = {
    "view": lambda x: x.view(4, 6),
    "view -1": lambda x: x.view(-1, 2),
    "view_as": lambda x: x.view_as(x.reshape(6, 4)),
    "reshape": lambda x: x.reshape(3, 8),
    "transpose": lambda x: x.transpose(0, 2),
    "permute": lambda x: x.permute(2, 0, 1),
    "movedim": lambda x: x.movedim(0, -1),
    "movedim two": lambda x: x.movedim((0, 1), (1, 2)),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "unsqueeze 0": lambda x: x.unsqueeze(0),
    "unsqueeze 1": lambda x: x.transpose(0, 2).unsqueeze(1),
    "unsqueeze -1": lambda x: x.unsqueeze(-1),
    "squeeze": lambda x: x.unsqueeze(1).unsqueeze(0).squeeze(),
    "squeeze dim": lambda x: x.unsqueeze(1).squeeze(1),
    "squeeze kept": lambda x: x.squeeze(0),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(1, -1),
    "index": lambda x: x[1],
    "index two": lambda x: x[1, :, 2],
    "index none": lambda x: x[:, None, 1:],
    "index ellipsis": lambda x: x[..., 0],
    "slice step": lambda x: x[:, ::2, 1::2],
    "slice all": lambda x: x[:],
    "expand": lambda x: x[:, :1].expand(2, 3, 4),
    "expand new": lambda x: x.expand(2, 2, 3, 4),
    "expand keep": lambda x: x[:1].expand(5, -1, -1),
    "diagonal": lambda x: x.diagonal(0, 1, 2),
    "diagonal up": lambda x: x.diagonal(1, 1, 2),
    "diagonal down": lambda x: x.diagonal(-1, 2, 1),
    "diagonal of transposed": lambda x: x.transpose(0, 2).diagonal(1),
    "unfold": lambda x: x.unfold(2, 2, 1),
    "unfold 1": lambda x: x.unfold(1, 2, 1),
    "as_strided": lambda x: x.as_strided((2, 3), (5, 2), 1),
    "as_strided of slice": lambda x: x[1].as_strided((2, 2), (3, 1)),
    "flatten": lambda x: x.flatten(1),
    "flatten all": lambda x: x.flatten(),
    "unflatten": lambda x: x.unflatten(2, (2, 2)),
    "unflatten -1": lambda x: x.unflatten(-1, (-1, 2)),
    "T": lambda x: x[0].T,
    "mT": lambda x: x.mT,
    "t": lambda x: x[:, 0].t(),
    "chunk": lambda x: x.chunk(2, 2)[1],
    "split": lambda x: x.split(2, 1)[1],
    "split sizes": lambda x: x.split([1, 3], -1)[1],
    "tensor_split": lambda x: x.tensor_split(3, 2)[0],
    "unbind": lambda x: x.unbind(1)[2],
    "detach": lambda x: x[1].detach(),
    "hsplit": lambda x: x.hsplit(3)[1],
    "ravel": lambda x: x.ravel(),
    "reshape of transposed": lambda x: x.transpose(1, 2).reshape(2, 2, 2, 3),
    "view of narrow": lambda x: x.narrow(0, 1, 1).view(12),
}


VIEWS |= {
    "positive": lambda x: x.positive(),
    "atleast_3d": lambda x: module_of(x).atleast_3d(x[0]),
    "adjoint": lambda x: x.adjoint(),
    "H": lambda x: x[0].H,
    "mH": lambda x: x.mH,
    "expand_as": lambda x: x[:, :1].expand_as(x),
    "broadcast_to": lambda x: x.broadcast_to((2, 2, 3, 4)),
    "swapdims": lambda x: x.swapdims(0, 2),
    "moveaxis": lambda x: x.moveaxis(0, -1),
    "dsplit": lambda x: x.dsplit(2)[1],
    "vsplit": lambda x: x.vsplit(2)[1],
    "hsplit at": lambda x: x.hsplit((1,))[1],
    "split_with_sizes": lambda x: x.split_with_sizes([1, 2], 1)[1],
    "tensor_split at": lambda x: x.tensor_split((1, 2), 1)[1],
    "unsafe_chunk": lambda x: x.unsafe_chunk(2, 0)[1],
    "squeeze dims": lambda x: x[:, :1].unsqueeze(0).squeeze((0, 2)),
    "view_as itself": lambda x: x.view_as(x),
    "data": lambda x: x.data,
    "contiguous": lambda x: x.contiguous(),
    "real": lambda x: x.real,
    "float": lambda x: x.float(),
    "iterated": lambda x: list(x)[1],
    "index mixed": lambda x: x[1:2, ..., None, ::3],
    "unfold of unbind": lambda x: x.unbind(1)[1].unfold(1, 2, 2),
    "as_strided_": lambda x: x.detach().as_strided_((2, 2), (2, 1)),
    "swapaxes_": lambda x: x.detach().swapaxes_(0, 1),
}
COMPLEX_VIEWS = {
    "real": lambda m, x: x.real,
    "imag": lambda m, x: x.imag,
    "view_as_real": lambda m, x: m.view_as_real(x),
    "view_as_complex": lambda m, x: m.view_as_complex(m.view_as_real(x)),
    "real of transposed": lambda m, x: x.mT.real,
    "imag of slice": lambda m, x: x[1:].imag[..., ::2],
    "unfold of imag": lambda m, x: x.imag.unfold(2, 2, 2),
    "as_strided of real": lambda m, x: x.real.as_strided((2, 2), (4, 2), 1),
    "conj": lambda m, x: x.conj(),
    "conj of conj": lambda m, x: x.conj().mT.conj(),
    "slice of conj": lambda m, x: x.conj()[1, :, ::2],
    "as_strided of conj": lambda m, x: x.conj().as_strided((2, 3), (4, 1), 1),
    "real of conj": lambda m, x: x.conj().real,
    "imag of conj": lambda m, x: x.conj().imag,
    "adjoint": lambda m, x: x.adjoint(),
    "mH": lambda m, x: x.mH,
    "H": lambda m, x: x[0].H,
}
DTYPE_VIEWS = {
    "same size": lambda m, x: x.view(m.int32),
    "and back": lambda m, x: x.view(m.int32)[1].view(m.float32),
    "smaller": lambda m, x: x.view(m.uint8),
    "larger": lambda m, x: x.view(m.complex64),
    "larger int": lambda m, x: x.view(dtype=m.int64)[:1],
    "slice of smaller": lambda m, x: x.view(m.int16)[..., 1::2],
    "as_strided of larger": lambda m, x: x.view(m.int64).as_strided((2, 2), (3, 1), 1),
}
LAYOUTS = {
    "contiguous": lambda base: base[:24].view(2, 3, 4),
    "transposed": lambda base: base[:24].view(4, 3, 2).transpose(0, 2),
    "stepped": lambda base: base.view(2, 3, 8)[..., ::2],
    "offset": lambda base: base.view(4, 3, 4)[1:3],
}


def laid(layout, dtype=np.float32):
    """For jtorch and for PyTorch: a base, and a tensor of shape (2, 3, 4) in it."""
    for base in pair((48,), dtype):
        yield base, LAYOUTS[layout](base)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", VIEWS)
def test_place(name, layout):
    (_, a), (_, b) = laid(layout)
    try:
        wanted = VIEWS[name](b)
    except RuntimeError:
        with pytest.raises(RuntimeError):
            VIEWS[name](a)
    else:
        same_place(VIEWS[name](a), wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", VIEWS)
def test_write_through_view_is_seen_by_base(name, layout):
    """Or refused, where one element of the memory is several of the view."""
    if "unfold" in name:
        return  # written twice in one place, in an order that PyTorch does not define
    (base, a), (reference, b) = laid(layout)
    outcomes = []
    for x in (a, b):
        try:
            outcomes.append(VIEWS[name](x).mul_(-2))
        except RuntimeError as error:
            outcomes.append(type(error))
    if isinstance(outcomes[1], torch.Tensor):
        same(outcomes[0], outcomes[1])
    else:
        assert outcomes[0] is outcomes[1]
    same(base, reference)
    same(a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", COMPLEX_VIEWS)
def test_views_of_complex_tensors(name, layout):
    (base, a), (reference, b) = laid(layout, np.complex64)
    va, vb = COMPLEX_VIEWS[name](jtorch, a), COMPLEX_VIEWS[name](torch, b)
    same_place(va, vb)
    va.mul_(-2)
    vb.mul_(-2)
    same(base, reference)
    base.add_(1)
    reference.add_(1)
    same(va, vb)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", DTYPE_VIEWS)
def test_views_as_another_dtype(name, layout):
    """Or the same refusal."""
    (base, a), (reference, b) = laid(layout)
    try:
        vb = DTYPE_VIEWS[name](torch, b)
    except RuntimeError as error:
        with pytest.raises(RuntimeError, match=re.escape(str(error).splitlines()[0])):
            DTYPE_VIEWS[name](jtorch, a)
        return
    va = DTYPE_VIEWS[name](jtorch, a)
    same_place(va, vb)
    for v in (va, vb):
        v.copy_(v * 3 if v.dtype.itemsize > 1 else v ^ 5)
    same(base, reference)
    for x in (base, reference):
        x.add_(1)
    same(va, vb)
    assert va.data_ptr() - base.data_ptr() == vb.data_ptr() - reference.data_ptr()


def test_marked_views():
    """What PyTorch says of a conjugate's bits, and what it refuses."""
    for T in (jtorch, torch):
        z = T.tensor([[1 + 2j, 3 - 1j]])
        w = z.conj()
        assert [w.is_conj(), z.is_conj(), w.conj().is_conj(), w.resolve_conj().is_conj(), w.real.is_neg()] == [
            True, False, False, False, False]
        assert w.imag.is_neg() and not w.imag.resolve_neg().is_neg()
        assert w.data_ptr() == z.data_ptr() == w.conj().data_ptr() != w.resolve_conj().data_ptr()
        with pytest.raises(RuntimeError, match=r"conjugate bit set. Use tensor.resolve_conj\(\).numpy\(\)"):
            w.numpy()
        with pytest.raises(RuntimeError, match=r"negative bit set. Use tensor.resolve_neg\(\).numpy\(\)"):
            w.imag.numpy()
        with pytest.raises(RuntimeError, match="doesn't work on unresolved conjugated tensors"):
            T.view_as_real(w)
        w.mul_(1j)
        assert z.tolist() == [[2 - 1j, -1 - 3j]]
        w.imag.add_(1)
        assert z.tolist() == [[2 - 2j, -1 - 4j]] and w.tolist() == [[2 + 2j, -1 + 4j]]
        parts = z.real.numpy()
        z.mul_(2)
        assert parts.tolist() == [[4, -2]]


def test_conjugated_arguments_of_traces():
    step = jtorch.jit.trace(lambda z: z * 2)
    z = jtorch.tensor([1 + 2j, 3 - 1j])
    for _ in range(3):
        assert step(z.conj()).tolist() == [2 - 4j, 6 + 2j]
    assert step(z).tolist() == [2 + 4j, 6 - 2j]


OVERLAPPING = {n for n in VIEWS if "expand" in n or "broadcast" in n or "unfold" in n}
NOT_DIFFERENTIATED = {"data", "detach", "as_strided_", "swapaxes_"}


@pytest.mark.parametrize("name", [n for n in VIEWS if n not in NOT_DIFFERENTIATED and n != "float"])
def test_double_backward(name):
    """Of a view, and of a write through it, against finite differences along a direction."""
    rng = np.random.default_rng(1)
    start, direction, weights = rng.standard_normal((3, 2, 3, 4))

    def plain(x):
        return VIEWS[name](x).sin().sum()

    def written(x):
        y = x * x
        view = VIEWS[name](y)
        view.mul_(view)
        return (y * jtorch.tensor(weights)).sum()

    def slope(f, at):
        """The derivative of f along the direction, and its own gradient."""
        x = jtorch.tensor(at, requires_grad=True)
        (g,) = jtorch.autograd.grad(f(x), x, create_graph=True)
        along = (g * jtorch.tensor(direction)).sum()
        return along.item(), jtorch.autograd.grad(along, x)[0].numpy()

    for f in (plain,) if name in OVERLAPPING else (plain, written):
        difference = (slope(f, start + 1e-5 * direction)[0] - slope(f, start - 1e-5 * direction)[0]) / 2e-5
        assert (slope(f, start)[1] * direction).sum() == pytest.approx(difference, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", VIEWS)
def test_write_to_base_is_seen_by_view(name):
    a, b = pair((2, 3, 4))
    va, vb = VIEWS[name](a), VIEWS[name](b)
    for x in (a, b):
        x[0, 1] = 100
        x.add_(1)
    same(a, b)
    same(va, vb)


@pytest.mark.parametrize("name", VIEWS)
def test_gradient(name):
    a, b = pair((2, 3, 4))
    for x in (a, b):
        x.requires_grad_()
        y = VIEWS[name](x)
        if y.requires_grad:
            (y * y).sum().backward()
    if b.grad is not None:
        same(a.grad, b.grad)


def _outside(m):
    p = m.arange(12.).requires_grad_()
    y = (p * 2)[3:8].as_strided((4,), (2,), 1)
    return p, (y * m.tensor([1., 2, 3, 4])).sum()


def _view_that_is_a_leaf(m):
    x = m.arange(12.)[3:8].requires_grad_()
    return x, x.as_strided((2, 2), (1, 1), 4).sum()


def _turned_leaf(m):
    x = m.arange(12.).view(3, 4).t()[1:].requires_grad_()
    return x, (x.as_strided((2, 2), (4, 1), 1) ** 2).sum()


def _with_gaps(m):
    p = m.arange(12.).requires_grad_()
    return p, ((p * 2).view(3, 4)[:, 1:3].as_strided((3, 4), (4, 1), 0) ** 2).sum()


def _whole(m):
    p = m.arange(12.).requires_grad_()
    return p, ((p * 2).view(3, 4).t().as_strided((3, 3), (1, 2), 2) ** 2).sum()


def _expanded(m):
    p = m.arange(3.).requires_grad_()
    return p, (p.expand(2, 3).as_strided((2, 3), (0, 1), 0) ** 2).sum()


def _strided_twice(m):
    p = m.arange(12.).requires_grad_()
    return p, ((p * 2)[3:8].as_strided((2, 3), (2, 1), 4).as_strided((2, 2), (1, 2), 5) ** 2).sum()


@pytest.mark.parametrize("case", [_outside, _view_that_is_a_leaf, _turned_leaf, _with_gaps, _whole, _expanded,
                                  _strided_twice])
def test_gradient_of_as_strided_is_of_its_input(case):
    """Not of what lies beside it in memory."""
    grads = []
    for m in (torch, jtorch):
        x, y = case(m)
        y.backward()
        grads.append(x.grad.tolist())
    assert grads[0] == grads[1]


def test_a_trace_returns_views_of_views():
    """Of an argument that is itself differentiated: what the chain names as such is not replayed."""
    @jtorch.jit.trace
    def f(p):
        return (p * 2).sum(), p[3:8].as_strided((2, 2), (1, 2), 4)

    p = jtorch.arange(12.).requires_grad_()
    for _ in range(3):
        total, view = f(p)
        assert total.item() == 132 and view.tolist() == [[4, 6], [5, 7]] and view.data_ptr() == p[4:].data_ptr()


def test_random_chains_of_views():
    rng = random.Random(0)
    steps = [
        lambda x, r: x.transpose(r.randrange(x.ndim), r.randrange(x.ndim)) if x.ndim else x,
        lambda x, r: x.unsqueeze(r.randint(0, x.ndim)),
        lambda x, r: x.squeeze(),
        lambda x, r: x.narrow(0, r.randint(0, x.shape[0] - 1), 1) if x.ndim and x.shape[0] else x,
        lambda x, r: x[..., ::2] if x.ndim else x,
        lambda x, r: x[1:] if x.ndim and x.shape[0] > 1 else x,
        lambda x, r: x.flatten() if r.random() < 0.3 else x,
        lambda x, r: x.permute(*r.sample(range(x.ndim), x.ndim)) if x.ndim else x,
        lambda x, r: x.reshape(-1, 2) if x.numel() % 2 == 0 and x.numel() else x,
        lambda x, r: x.diagonal() if x.ndim > 1 else x,
        lambda x, r: x.select(0, 0) if x.ndim > 2 else x,
    ]
    for trial in range(200):
        a, b = pair((2, 3, 4, 2))
        for k in range(rng.randint(1, 6)):
            step, seed = rng.choice(steps), rng.random()
            a2, b2 = step(a, random.Random(seed)), step(b, random.Random(seed))
            if rng.random() < 0.4:
                for x in (a2, b2):
                    x.add_(k + 1)
            same(a, b, trial)
            a, b = a2, b2
            same_place(a, b, trial)
        assert (a._storage is not None) and a.is_contiguous() == b.is_contiguous()


def test_view_shares_and_reshape_copies_only_where_it_must():
    x = jtorch.arange(6.0).reshape(2, 3)
    y = x.t().reshape(6)
    y.zero_()
    assert x.sum().item() == 15
    z = x.reshape(3, 2)
    z.zero_()
    assert x.sum().item() == 0
    assert x.view(6).data_ptr() == x.data_ptr()
    assert x[1].data_ptr() == x.data_ptr() + 3 * 4


def test_views_of_views_write_back():
    x, y = pair((4, 4))
    for t in (x, y):
        t[1:][:, 1:].t()[0] = 7.0
        t.diagonal().fill_(-1)
        t[0].view(2, 2)[1] += 5
    same(x, y)


def test_in_place_view_changes():
    for name, args in (("t_", ()), ("unsqueeze_", (0,)), ("transpose_", (0, 1)), ("squeeze_", ())):
        a, b = pair((2, 3))
        same_place(getattr(a, name)(*args), getattr(b, name)(*args))
        same_place(a, b)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.flip(x, (0, 2)),
        lambda m, x: m.roll(x, 1),
        lambda m, x: m.roll(x, (1, -1), (0, 2)),
        lambda m, x: x.repeat(2, 1, 3),
        lambda m, x: x.repeat(2, 1, 1, 1),
        lambda m, x: m.tile(x, (2,)),
        lambda m, x: m.cat([x, x + 1], 1),
        lambda m, x: m.stack([x, x], -1),
        lambda m, x: m.hstack([x, x]),
        lambda m, x: m.vstack([x[0], x[1]]),
        lambda m, x: m.dstack([x[0], x[0]]),
        lambda m, x: m.rot90(x, 3, (1, 2)),
        lambda m, x: m.fliplr(x),
        lambda m, x: m.repeat_interleave(x, 2, 1),
        lambda m, x: m.diag_embed(x[0], 1),
        lambda m, x: m.diag(x[0, 0]),
        lambda m, x: m.diag(x[0], 1),
        lambda m, x: m.tril(x, -1),
        lambda m, x: m.triu(x, 1),
        lambda m, x: m.meshgrid(x[0, 0], x[0, :, 0], indexing="xy")[0],
        lambda m, x: m.block_diag(x[0], x[1]),
        lambda m, x: m.column_stack([x[0, 0], x[0, 1]]),
        lambda m, x: m.atleast_3d(x[0]),
        lambda m, x: m.broadcast_to(x, (2, 2, 3, 4)),
        lambda m, x: m.select_scatter(x, x[0] * 0, 0, 1),
        lambda m, x: m.diagonal_scatter(x[0], x[0, :, 0] * 0),
        lambda m, x: m.cartesian_prod(x[0, 0], x[0, 1]),
        lambda m, x: m.combinations(x[0, 0], 2),
    ],
)
def test_rearrangements(function):
    a, b = pair((2, 3, 4))
    same(function(jtorch, a), function(torch, b))


def test_empty_and_zero_sizes():
    for shape in ((0,), (0, 3), (2, 0, 3)):
        a, b = pair(shape)
        for f in (
            lambda x: x.reshape(-1),
            lambda x: x.unsqueeze(0),
            lambda x: x.transpose(0, -1),
            lambda x: x[..., :1],
            lambda x: x.sum(),
            lambda x: x.sum(0),
            lambda x: x + 1,
            lambda x: x.flip(0),
            lambda x: x.repeat(2, *x.shape),
        ):
            same(f(a), f(b), shape)


def test_writes_that_begin_a_new_epoch() -> None:
    """A write may flush (many wait, or NumPy sees the memory): the tensor's note of its value is of the old epoch."""
    x, reference = jtorch.ones(3), np.ones(3, np.float32)
    for i in range(5000):
        scale = np.float32(1 + (i % 7) * 1e-3 - 3e-3)
        x.mul_(float(scale))
        reference *= scale
    np.testing.assert_allclose(x.numpy(), reference, rtol=1e-4)
    a = np.arange(12.0)
    shared = jtorch.from_numpy(a)[1::2]
    for scale in (3.0, 5.0):
        shared.mul_(scale)
        np.testing.assert_array_equal((shared + scale).numpy(), a[1::2] + scale)


def test_complex_numbers_begin_at_even_places():
    for x in pair(6):
        assert x[2:].view(2, 2).shape == (2, 2)
        with pytest.raises(RuntimeError, match="storage_offset divisible by 2"):
            module_of(x).view_as_complex(x[1:5].view(2, 2))


def test_views_that_are_remembered():
    """The same view asked for again, of a tensor with another storage, of a view, and of a leaf that requires grad."""
    x, y = jtorch.arange(24.0).reshape(2, 3, 4).clone(), jtorch.arange(24.0, 48.0).reshape(2, 3, 4).clone()
    w = jtorch.arange(24.0).reshape(2, 3, 4).clone().requires_grad_()
    part = jtorch.arange(72.0).reshape(3, 2, 3, 4)[1]
    makers = [lambda t: t[:, 1], lambda t: t[..., None, 1:3], lambda t: t.diagonal(0, 1, 2),
              lambda t: t.unfold(2, 2, 1), lambda t: t.split(2, 1)[1], lambda t: t.chunk(2, 2)[1],
              lambda t: t.unbind(1)[2], lambda t: t.transpose(0, 2), lambda t: t.select(2, -1),
              lambda t: t.narrow(1, 1, 2)]
    for make in makers:
        for _ in range(2):
            for t in (x, y, w, part):
                found, wanted = make(t), make(torch.tensor(t.detach().numpy()))
                np.testing.assert_array_equal(found.detach().numpy(), wanted.numpy())
                assert found.stride() == wanted.stride() and found._storage is t._storage
            make(y).mul_(2.0)
        gradient, = jtorch.autograd.grad((make(w) * make(x)).sum(), w)
        mirror = torch.zeros(2, 3, 4, requires_grad=True)
        (make(mirror) * make(torch.tensor(x.numpy()))).sum().backward()
        np.testing.assert_array_equal(gradient.numpy(), mirror.grad.numpy())
    with pytest.raises(RuntimeError):
        make(w).zero_()
    with jtorch.no_grad():
        assert not x[:, 1].requires_grad and not w[:, 1].requires_grad
        w[:, 1] = 0.0
    assert w[0, 1].sum().item() == 0


def test_writes_through_expanded_tensors():
    """A number may be put into all of an expanded tensor, anything into a part whose elements have places of their own;
    what would write one place twice is refused."""
    writes = [lambda m, e: e.fill_(1), lambda m, e: e.zero_(), lambda m, e: e[1:3].zero_(),
              lambda m, e: e[0:1].fill_(3), lambda m, e: e[:, 1].fill_(9), lambda m, e: e.__setitem__(0, 1),
              lambda m, e: e[1].add_(5), lambda m, e: e[2].mul_(m.arange(4.0)), lambda m, e: e.t()[:, 1].add_(7),
              lambda m, e: e.__setitem__(slice(None), 1), lambda m, e: e.add_(1), lambda m, e: e.fill_(m.tensor(2.0)),
              lambda m, e: e.copy_(m.ones(3, 4)), lambda m, e: e[:, 1:3][2].sub_(1)]
    for write in writes:
        results = []
        for m in (jtorch, torch):
            x = m.arange(4.0).reshape(1, 4).clone()
            e = x.expand(3, 4)
            try:
                write(m, e)
                results.append((x.tolist(), e.tolist()))
            except RuntimeError as error:
                results.append(str(error)[:40])
        assert results[0] == results[1]
    gradients = []
    for m in (jtorch, torch):
        w = m.arange(4.0).requires_grad_()
        e = (w * 2).reshape(1, 4).expand(3, 4)
        e[1].mul_(w)
        (e * m.arange(12.0).reshape(3, 4)).sum().backward()
        gradients.append(w.grad.tolist())
    assert gradients[0] == gradients[1]
