"""What is refused, and how: exception types and texts against PyTorch's."""

import warnings

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch")

CASES = [
    lambda m: m.ones(2, 3) + m.ones(4),
    lambda m: m.ones(2, 3) @ m.ones(2, 3),
    lambda m: m.mm(m.ones(2, 3), m.ones(2, 3)),
    lambda m: m.bmm(m.ones(1, 2, 3), m.ones(1, 2, 3)),
    lambda m: m.ones(2, 3).view(4),
    lambda m: m.ones(2, 3).t().view(6),
    lambda m: m.ones(2, 3).reshape(-1, 4),
    lambda m: m.ones(2, 3).reshape(-1, -1),
    lambda m: m.ones(3)[5],
    lambda m: m.ones(3)[-4],
    lambda m: m.ones(2, 3)[0, 0, 0],
    lambda m: m.tensor(1.0)[0],
    lambda m: m.ones(3)[m.tensor([3])],
    lambda m: m.ones(3)[::-1],
    lambda m: m.ones(3)[m.ones(2, dtype=m.bool)],
    lambda m: m.ones(3)[m.ones(3)],
    lambda m: m.ones(3).sum(1),
    lambda m: m.ones(2, 3).transpose(0, 2),
    lambda m: m.ones(2, 3).squeeze(4),
    lambda m: m.ones(2, 3).sum((0, 0)),
    lambda m: m.ones(3).item(),
    lambda m: bool(m.ones(3)),
    lambda m: bool(m.ones(0)),
    lambda m: len(m.tensor(1)),
    lambda m: iter(m.tensor(1)),
    lambda m: int(m.ones(2)),
    lambda m: m.ones(2, requires_grad=True).numpy(),
    lambda m: m.ones(3, dtype=m.int64).add_(1.5),
    lambda m: m.ones(3).add_(m.ones(2, 3)),
    lambda m: m.ones(1).mul_(m.ones(3)),
    lambda m: m.ones(2, dtype=m.bool) - m.ones(2, dtype=m.bool),
    lambda m: -m.ones(2, dtype=m.bool),
    lambda m: m.ones(3, dtype=m.int64).mean(),
    lambda m: m.ones(2, requires_grad=True).add_(1),
    lambda m: m.ones(2, dtype=m.int64, requires_grad=True),
    lambda m: m.tensor([[1, 2], [3]]),
    lambda m: m.tensor("a"),
    lambda m: m.cat([]),
    lambda m: m.cat([m.ones(2), m.ones(2, 2)]),
    lambda m: m.cat([m.ones(2, 2), m.ones(3, 3)]),
    lambda m: m.stack([m.ones(2), m.ones(3)]),
    lambda m: m.stack([]),
    lambda m: m.zeros(-1),
    lambda m: m.ones(0).max(),
    lambda m: m.ones(0, 2).max(0),
    lambda m: m.ones(0).argmax(),
    lambda m: m.ones(2, 3).expand(3, 3),
    lambda m: m.ones(2, 3).expand(3),
    lambda m: m.ones(4).narrow(0, 3, 2),
    lambda m: m.ones(4).select(0, 4),
    lambda m: m.ones(4).split([1, 2]),
    lambda m: m.ones(2, 2).permute(0, 0),
    lambda m: m.ones(2, 2).permute(0),
    lambda m: m.ones(2, 2, 2).t(),
    lambda m: m.exp(2.0),
    lambda m: m.cat(m.ones(2)),
    lambda m: m.cat([m.ones(2), 3]),
    lambda m: m.arange(0, 5, 0),
    lambda m: m.arange(5, 0),
    lambda m: m.ones(3).topk(4),
    lambda m: m.dot(m.ones(2), m.ones(3)),
    lambda m: m.mv(m.ones(2, 3), m.ones(2)),
    lambda m: m.dot(m.ones(2, 2), m.ones(2)),
    lambda m: m.ones(2, dtype=m.int64) @ m.ones(2),
    lambda m: m.addmm(m.ones(3), m.ones(2, 3), m.ones(2, 3)),
    lambda m: m.ones(3).gather(0, m.tensor([[0]])),
    lambda m: m.ones(3).gather(0, m.tensor([0.0])),
    lambda m: m.ones(3).index_select(0, m.tensor([5])),
    lambda m: m.ones(3).masked_fill(m.ones(3), 1),
    lambda m: m.from_numpy([1, 2]),
    lambda m: m.from_numpy(np.arange(3)[::-1]),
    lambda m: m.from_numpy(np.array(["a"])),
    lambda m: m.tensor([1, 2]).pow(-1),
    lambda m: m.tensor([1]) // m.tensor([0]),
    lambda m: m.ones(3) == "a" or 1 / 0,
    lambda m: m.einsum("ij,jk->ik", m.ones(2, 3)),
    lambda m: m.einsum("ij->k", m.ones(2, 3)),
    lambda m: m.ones(2).__getitem__("a"),
    lambda m: m.where(m.ones(2), m.ones(2), m.ones(2)),
    lambda m: m.ones(2).unflatten(0, (3, 2)),
    lambda m: m.ones(2).copy_(m.ones(3)),
    lambda m: m.ones(3).chunk(0),
    lambda m: m.ones(3).flip(1),
    lambda m: m.ones(3).diagonal(),
    lambda m: m.randperm(-1),
    lambda m: m.randint(5, 5, (2,)),
    lambda m: m.multinomial(m.ones(2), 3),
    lambda m: m.ones(2).uniform_(1, 0),
    lambda m: m.ones(2).normal_(0, -1),
    lambda m: m.bernoulli(m.ones(2), 2.0),
    lambda m: m.allclose(m.ones(2), m.ones(2, dtype=m.float64)),
    lambda m: m.ones(3).expand(2, 3).add_(1),
    lambda m: m.broadcast_tensors(m.ones(2), m.ones(3)),
    lambda m: m.ones(2).clamp(),
    lambda m: m.ones(2, 2).unsqueeze(4),
    lambda m: m.softmax(m.ones(2, dtype=m.int64), 0),
    lambda m: m.ones(3).mT,
    lambda m: m.ones(2, 3).as_strided((9,), (1,)),
    lambda m: m.ones(3).__setitem__(slice(0, 2), m.ones(3)),
    lambda m: m.ones(3).__setitem__(0, m.ones(2)),
    lambda m: m.ones(3).__setitem__(m.tensor([0, 1]), m.ones(3)),
    lambda m: m.iinfo(m.float32),
    lambda m: m.finfo(m.int32),
    lambda m: m.set_default_dtype(m.int32),
    lambda m: m.device("tpu"),
    lambda m: 1 + m.ones(2) + "a",
    lambda m: m.ones(2).to("nothing"),
    lambda m: m.zeros(2, dtype=m.uint8).fill_(300),
    lambda m: m.zeros(2, dtype=m.uint8).__setitem__(0, 256),
    lambda m: m.full((2,), 1 << 40, dtype=m.int32),
    lambda m: m.full((2,), 1e40),
    lambda m: m.zeros(2, dtype=m.uint8).__setitem__(m.tensor([1]), 300),
    lambda m: m.zeros(2).fill_(1 << 70),
    lambda m: m.zeros(2, dtype=m.int64).masked_fill(m.tensor([True, False]), -float("inf")),
    lambda m: m.zeros(2, dtype=m.float16).masked_fill_(m.tensor([True, False]), value=-1e9),
    lambda m: m.zeros(2).masked_fill(m.tensor([True, False]), m.tensor(2j)),
    lambda m: m.zeros(2, dtype=m.int8).index_fill_(0, m.tensor([0]), 128),
    lambda m: m.nn.functional.pad(m.zeros(2, dtype=m.int16), (1, 1), value=1e5),
    lambda m: m.zeros(2).fill_(2j),
    lambda m: m.ones(2, dtype=m.complex64).bernoulli_(0.5),
    lambda m: m.ones(2, dtype=m.complex128).bernoulli_(m.tensor([0.5, 0.5])),
]


def caught(module, case):
    try:
        result = case(module)
        if hasattr(result, "tolist"):
            result.tolist()
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("index", range(len(CASES)))
def test_refused_as_pytorch_does(index):
    expected, found = caught(torch, CASES[index]), caught(jtorch, CASES[index])
    assert expected is not None, "the case is wrong: PyTorch takes it"
    assert found is not None, f"not refused; PyTorch: {type(expected).__name__}: {expected}"
    assert isinstance(found, type(expected)) or isinstance(expected, type(found)), (found, expected)
    first = str(expected).strip().splitlines()[0]
    if "invalid combination of arguments" in first or "unsupported operand" in first:
        return
    assert str(found).strip().splitlines()[0][:60] == first[:60], f"\n{found}\n{expected}"


SPREADS = [((1,), {}), ((3, 1), {"dim": 1}), ((0, 3), {"dim": 0}), ((0, 3), {"dim": 1}), ((4,), {"correction": 4}),
           ((), {}), ((4,), {"correction": 3}), ((1,), {"correction": 0}), ((2, 3), {})]


@pytest.mark.parametrize("name", ["std", "var", "std_mean", "var_mean"])
@pytest.mark.parametrize("shape, keywords", SPREADS, ids=str)
def test_spread_without_degrees_of_freedom_warns(name, shape, keywords):
    texts = []
    for module in (torch, jtorch):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            getattr(module, name)(module.zeros(shape, dtype=module.float64), **keywords)
        texts.append([str(w.message).partition(" (Triggered")[0] for w in seen])
        assert module is torch or all(w.filename == __file__ and w.category is UserWarning for w in seen)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("m", [jtorch, torch], ids=["jtorch", "torch"])
def test_numbers_that_are_written_lose_their_fraction_and_keep_their_sign(m):
    t, some = m.arange(4), m.tensor([True, False, False, True])
    assert t.masked_fill(some, 2.5).tolist() == [2, 1, 2, 2]
    assert t.masked_fill(some, m.tensor(-2.5)).tolist() == [-2, 1, 2, -2]
    assert t.to(m.uint8).masked_fill_(some, -1).tolist() == [255, 1, 2, 255]
    assert m.full((1,), 1e6, dtype=m.float16).tolist() == [np.inf]
    zeros = m.nn.functional.pad(m.zeros(1), (0, 1), value=-0.0), m.tensor([np.nan]).nan_to_num(-0.0)
    assert [bool(m.signbit(z)[-1]) for z in zeros] == [True, True]


DROPOUTS = ["dropout", "alpha_dropout", "feature_alpha_dropout", "dropout2d"]


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "complex64", "float16"])
@pytest.mark.parametrize("p, training", [(0.0, True), (0.5, True), (0.5, False), (1.0, True)])
def test_dropout_of_every_dtype(dtype, p, training):
    def outcome(m, name, shape, inplace):
        x = m.ones(shape, dtype=getattr(m, dtype))
        try:
            y = getattr(m.nn.functional, name)(x, p, training, inplace)
        except Exception as error:
            return type(error).__name__, str(error).splitlines()[0]
        return str(y.dtype), tuple(y.shape), y is x, (y * 0).tolist()

    for name in DROPOUTS:
        for shape in ((2, 3, 4, 5), (0, 3, 2, 2)):
            for inplace in (False, True):
                expected, found = (outcome(m, name, shape, inplace) for m in (torch, jtorch))
                assert found == expected, (name, shape, inplace)


@pytest.mark.parametrize("m", [jtorch, torch], ids=["jtorch", "torch"])
def test_classes_and_rows_out_of_range_are_refused_where_they_are_asked_for(m):
    F = m.nn.functional
    scores, table, classes = m.zeros(3, 4), m.zeros(4, 2), m.tensor([0, 3, 1, 2, 0, 3])
    for part in (classes[:3], classes[3:], classes[::2], classes[:3]):
        F.cross_entropy(scores, part)
        F.embedding(part, table)
    classes.view(2, 3)[0, 1] = 4  # what was seen before does not count any more
    classes.tolist()
    for call in (lambda: F.cross_entropy(scores, classes[:3]), lambda: F.nll_loss(scores, classes[:3]),
                 lambda: F.embedding(classes[1], table), lambda: F.embedding(classes[:2], table)):
        with pytest.raises(IndexError):
            call()
    F.cross_entropy(scores, classes[3:])  # nothing is wrong with these
    F.embedding(classes[3:], table)
    classes[1] = -1
    classes.tolist()
    with pytest.raises(IndexError, match="Target -1 is out of bounds"):
        F.cross_entropy(scores, classes[:3])
    assert F.cross_entropy(scores, classes[:3], ignore_index=-1).item() == pytest.approx(np.log(4))


@pytest.mark.parametrize("m", [jtorch, torch], ids=["jtorch", "torch"])
def test_sampling_without_align_corners_warns_at_the_users_line(m):
    for call in (lambda: m.nn.functional.grid_sample(m.zeros(1, 1, 2, 2), m.zeros(1, 2, 2, 2)),
                 lambda: m.nn.functional.affine_grid(m.zeros(1, 2, 3), (1, 1, 2, 2))):
        with pytest.warns(UserWarning, match="align_corners=False since 1.3.0") as caught:
            call()
        if m is jtorch:
            assert [w.filename for w in caught] == [__file__]
