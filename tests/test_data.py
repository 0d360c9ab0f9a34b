"""Datasets, samplers and loaders against PyTorch's, with the same seed."""
from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

import jtorch
from jtorch.utils import data

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
import torch.utils.data as torch_data  # noqa: E402

PAIRS = ((jtorch, data), (torch, torch_data))


def both(run) -> None:
    ours, theirs = (run(t, d) for t, d in PAIRS)
    assert ours == theirs


def tensors(t, n=23):
    return t.arange(n), t.arange(2 * n, dtype=t.float32).reshape(n, 2)


@pytest.mark.parametrize("options", [
    {"shuffle": True, "batch_size": 4}, {"shuffle": False, "batch_size": 5, "drop_last": True},
    {"shuffle": True, "batch_size": 7, "drop_last": True}, {"batch_size": None}])
def test_loader(options) -> None:
    def run(t, d):
        t.manual_seed(7)
        loader = d.DataLoader(d.TensorDataset(*tensors(t)), **options)
        epochs = [[[part.tolist() for part in batch] for batch in loader] for _ in range(3)]
        return len(loader), epochs, t.rand(2).tolist()
    both(run)


def test_loader_with_a_generator() -> None:
    def run(t, d):
        g = t.Generator()
        g.manual_seed(3)
        loader = d.DataLoader(d.TensorDataset(*tensors(t)), batch_size=6, shuffle=True, generator=g)
        return [b[0].tolist() for b in loader] + [b[0].tolist() for b in loader]
    both(run)


def test_samplers() -> None:
    def run(t, d):
        t.manual_seed(1)
        source = range(50)
        return [list(d.RandomSampler(source)), list(d.RandomSampler(source, replacement=True, num_samples=70)),
                list(d.RandomSampler(source, num_samples=120)), list(d.SubsetRandomSampler([3, 1, 4, 1, 5])),
                list(d.WeightedRandomSampler([0.1, 0.6, 0.3], 12)),
                list(d.WeightedRandomSampler([0.1, 0.6, 0.3, 0.5], 3, replacement=False)),
                list(d.BatchSampler(d.SequentialSampler(source), 8, True)), len(d.BatchSampler(source, 8, False))]
    both(run)

@pytest.mark.parametrize("options", [{"shuffle": False}, {}, {"seed": 5}, {"drop_last": True}])
@pytest.mark.parametrize("size", [0, 1, 10, 23])
def test_distributed_sampler(size, options) -> None:
    def run(t, d):
        found = []
        for rank in range(4):
            sampler = d.distributed.DistributedSampler(range(size), num_replicas=4, rank=rank, **options)
            for epoch in range(2):
                sampler.set_epoch(epoch)
                found.append((len(sampler), list(sampler)))
        return found
    both(run)
    for d in (data, torch_data):
        with pytest.raises(ValueError, match="Invalid rank 4, rank should be in the interval"):
            d.distributed.DistributedSampler(range(9), num_replicas=4, rank=4)


@pytest.mark.parametrize("lengths", [[10, 13], [0.5, 0.3, 0.2]])
def test_random_split(lengths) -> None:
    def run(t, d):
        parts = d.random_split(d.TensorDataset(*tensors(t)), lengths, generator=t.Generator().manual_seed(5))
        loaders = [d.DataLoader(p, batch_size=4) for p in parts]
        return [list(p.indices) for p in parts], [[b[1].tolist() for b in loader] for loader in loaders]
    both(run)


def test_datasets() -> None:
    def run(t, d):
        a, b = d.TensorDataset(t.arange(3)), d.TensorDataset(t.arange(5))
        joined = a + b
        stacked = d.StackDataset(x=a, y=d.Subset(b, [4, 2, 0]))
        return [int(joined[i][0]) for i in range(len(joined))], int(joined[-1][0]), [
            (int(s["x"][0]), int(s["y"][0])) for s in (stacked[i] for i in range(3))]
    both(run)


Point = namedtuple("Point", ["x", "y"])


def test_collate() -> None:
    def plain(x):
        if hasattr(x, "tolist"):
            return x.tolist(), str(x.dtype), list(x.shape)
        if isinstance(x, dict):
            return {k: plain(v) for k, v in x.items()}
        return type(x).__name__, [plain(v) for v in x] if isinstance(x, (list, tuple)) else x

    def run(t, d):
        batches = [[t.ones(2), t.zeros(2)], [1, 2], [1.5, 2.5], ["a", "b"], [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
                   [(1, t.ones(1)), (2, t.ones(1))], [Point(1, 2.0), Point(3, 4.0)], [np.ones(2), np.zeros(2)],
                   [np.float32(1), np.float32(2)], [[1, 2], [3, 4]],
                   [t.arange(6.0).reshape(2, 3).t(), t.arange(6.0).reshape(3, 2)],
                   [t.arange(6)[2:4], t.arange(6)[::3]], [t.ones(2), t.ones(2, dtype=t.float64)]]
        return [plain(d.default_collate(b)) for b in batches]
    both(run)
    for d in (data, torch_data):
        with pytest.raises(TypeError, match="default_collate: batch must contain tensors"):
            d.default_collate([object()])
        with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size, but got"):
            d.default_collate([(jtorch if d is data else torch).ones(2), (jtorch if d is data else torch).ones(3)])


def test_iterable_dataset() -> None:
    def run(t, d):
        class Stream(d.IterableDataset):
            def __iter__(self):
                yield from range(10)
        return [[b.tolist() for b in d.DataLoader(Stream(), batch_size=4, drop_last=drop)] for drop in (False, True)]
    both(run)


def test_collate_fn_and_batch_sampler() -> None:
    def run(t, d):
        t.manual_seed(0)
        loader = d.DataLoader(list(range(10)), batch_sampler=d.BatchSampler(d.RandomSampler(range(10)), 3, False),
                              collate_fn=lambda b: sum(b))
        return list(loader), len(loader)
    both(run)


@pytest.mark.parametrize("options", [
    {"batch_size": 0}, {"batch_size": 2, "shuffle": True, "sampler": range(3)}, {"num_workers": -1}, {"timeout": -1},
    {"batch_size": None, "drop_last": True}, {"batch_size": 3, "batch_sampler": [[1]]}, {"prefetch_factor": 2},
    {"persistent_workers": True}])
def test_errors(options) -> None:
    texts = []
    for _, d in PAIRS:
        with pytest.raises(ValueError) as error:
            d.DataLoader(list(range(5)), **options)
        texts.append(str(error.value))
    assert texts[0] == texts[1]
