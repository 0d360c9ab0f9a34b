"""How a batch's samples are read."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch._tensor import from_array
from jtorch.utils.data._utils.collate import default_collate
from jtorch.utils.data.dataset import IterableDataset, Subset, TensorDataset


class MapFetcher:
    """Reads a dataset by index. `fetch` takes an index, or with `auto_collation` a list of them."""

    def __init__(self, dataset: Any, auto_collation: bool, collate_fn: Callable[[Any], Any], drop_last: bool) -> None:
        self.dataset, self.auto_collation, self.collate_fn = dataset, auto_collation, collate_fn
        self.rows = rows_of(dataset) if auto_collation and collate_fn is default_collate else None
        self.many = getattr(dataset, "__getitems__", None)

    def fetch(self, index: Any) -> Any:
        dataset = self.dataset
        if not self.auto_collation:
            return self.collate_fn(dataset[index])
        if self.rows is not None:
            return self.rows(index)
        return self.collate_fn(self.many(index) if self.many else [dataset[i] for i in index])


class IterableFetcher:
    """Reads a dataset from its start on, as many samples as `fetch` is given indices. StopIteration at its end."""

    def __init__(self, dataset: Any, auto_collation: bool, collate_fn: Callable[[Any], Any], drop_last: bool) -> None:
        self.samples, self.auto_collation, self.collate_fn = iter(dataset), auto_collation, collate_fn
        self.drop_last, self.ended = drop_last, False

    def fetch(self, index: Any) -> Any:
        if self.ended:
            raise StopIteration
        if not self.auto_collation:
            return self.collate_fn(next(self.samples))
        batch = []
        for _ in index:
            try:
                batch.append(next(self.samples))
            except StopIteration:
                self.ended = True
                break
        if not batch or self.drop_last and len(batch) < len(index):
            raise StopIteration
        return self.collate_fn(batch)


def fetcher_of(dataset: Any, *options: Any) -> MapFetcher | IterableFetcher:
    """What reads this dataset. A stream is begun anew."""
    return (IterableFetcher if isinstance(dataset, IterableDataset) else MapFetcher)(dataset, *options)


def rows_of(dataset: Any) -> Callable[[list[int]], list[Any]] | None:
    """For a TensorDataset, or a subset of one: the batch at a list of indices, taken from each tensor at once."""
    subsets: list[Any] = []
    while type(dataset) is Subset:
        subsets.append(dataset.indices)
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or any(t.requires_grad for t in dataset.tensors):
        return None
    tensors = dataset.tensors

    def batch(indices: list[int]) -> list[Any]:
        for chosen in subsets:
            indices = [chosen[i] for i in indices]
        return [from_array(t._array()[indices]) for t in tensors]
    return batch
