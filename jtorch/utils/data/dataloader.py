"""DataLoader: batches of a dataset. Batches are made in the calling process."""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

from jtorch._tensor import from_array
from jtorch.utils.data.collate import default_collate, default_convert
from jtorch.utils.data.dataset import IterableDataset, Subset, TensorDataset
from jtorch.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler, draw_seed

_warned = False


class _InfiniteConstantSampler:
    """The sampler of an iterable dataset."""

    def __iter__(self) -> Iterator[None]:
        while True:
            yield None


class DataLoader:
    """Iterates over a dataset in batches."""

    def __init__(self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None, sampler: Any = None,
                 batch_sampler: Any = None, num_workers: int = 0, collate_fn: Callable[[list], Any] | None = None,
                 pin_memory: bool = False, drop_last: bool = False, timeout: float = 0,
                 worker_init_fn: Callable[[int], None] | None = None, multiprocessing_context: Any = None,
                 generator: Any = None, *, prefetch_factor: int | None = None, persistent_workers: bool = False,
                 pin_memory_device: str = "", in_order: bool = True) -> None:
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError(
                "prefetch_factor option could only be specified in multiprocessing.let num_workers > 0 to enable "
                "multiprocessing, otherwise set prefetch_factor to None."
            )
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        self.dataset, self.num_workers, self.prefetch_factor = dataset, num_workers, prefetch_factor
        self.pin_memory, self.pin_memory_device, self.timeout = pin_memory, pin_memory_device, timeout
        self.worker_init_fn, self.multiprocessing_context = worker_init_fn, multiprocessing_context
        self.persistent_workers, self.in_order, self.generator = persistent_workers, in_order, generator
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable:
            if shuffle:
                raise ValueError("DataLoader with IterableDataset: expected unspecified shuffle option, but got "
                                 f"shuffle={shuffle}")
            if sampler is not None:
                raise ValueError("DataLoader with IterableDataset: expected unspecified sampler option, but got "
                                 f"sampler={sampler}")
            if batch_sampler is not None:
                raise ValueError("DataLoader with IterableDataset: expected unspecified batch_sampler option, but got "
                                 f"batch_sampler={batch_sampler}")
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
                )
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None:
            if self._iterable:
                sampler = _InfiniteConstantSampler()
            else:
                sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size, self.drop_last, self.sampler, self.batch_sampler = (
            batch_size,
            drop_last,
            sampler,
            batch_sampler,
        )
        if collate_fn is None:
            collate_fn = default_convert if batch_sampler is None else default_collate
        self.collate_fn = collate_fn
        if num_workers:
            _warn_workers()

    def __len__(self) -> int:
        if self._iterable:
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        # PyTorch draws a base seed for workers when an iterator is made, also without any; its sampler draws after that
        draw_seed(self.generator)
        if self._iterable:
            return self._iterate_stream()
        return self._iterate()

    def _iterate(self) -> Iterator[Any]:
        dataset, collate = self.dataset, self.collate_fn
        if self.batch_sampler is None:
            for index in self.sampler:
                yield collate(dataset[index])
            return
        rows = _rows_of(dataset) if collate is default_collate else None
        many = getattr(dataset, "__getitems__", None)
        for indices in self.batch_sampler:
            if rows is not None:
                yield rows(indices)
            else:
                yield collate(many(indices) if many else [dataset[i] for i in indices])

    def _iterate_stream(self) -> Iterator[Any]:
        samples = iter(self.dataset)
        if self.batch_sampler is None:
            for sample in samples:
                yield self.collate_fn(sample)
            return
        for places in self.batch_sampler:
            batch = []
            for _ in places:
                try:
                    batch.append(next(samples))
                except StopIteration:
                    break
            if not batch or (self.drop_last and len(batch) < len(places)):
                return
            yield self.collate_fn(batch)
            if len(batch) < len(places):
                return


def _rows_of(dataset: Any) -> Callable[[list[int]], list[Any]] | None:
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


def _warn_workers() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            "DataLoader: worker processes are not available; batches are made in the calling process", stacklevel=3
        )


def get_worker_info() -> None:
    """None: the calling process is no worker."""
    return None
