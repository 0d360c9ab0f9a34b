"""Iterators over a DataLoader: the one that reads in the calling process, and what it shares with the other."""
from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import jtorch
from jtorch.utils.data._utils.fetch import fetcher_of
from jtorch.utils.data.sampler import draw_seed

if TYPE_CHECKING:
    from jtorch.utils.data.dataloader import DataLoader


class BaseIterator:
    """One epoch of a loader. Subclasses define `_next_data`."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader
        if loader.pin_memory and not jtorch.accelerator.is_available():
            warnings.warn("'pin_memory' argument is set as true but no accelerator is found, then device pinned memory "
                          "won't be used.", stacklevel=4)
        self._indices = iter(loader._index_sampler)
        # drawn also where there are no workers; samplers draw after that
        self._base_seed = draw_seed(loader.generator)
        self._begin()

    def _begin(self) -> None:
        """The start of an epoch."""
        self._num_yielded = 0
        self._expected = self._loader._IterableDataset_len_called

    def __iter__(self) -> BaseIterator:
        return self

    def __len__(self) -> int:
        return len(self._loader._index_sampler)

    def __next__(self) -> Any:
        data = self._next_data()
        self._num_yielded += 1
        if self._expected is not None and self._num_yielded > self._expected:
            self._warn_of_length()
        return data

    def _next_data(self) -> Any:
        raise NotImplementedError

    def _warn_of_length(self) -> None:
        text = (f"Length of IterableDataset {self._loader.dataset} was reported to be {self._expected}"
                f"(when accessing len(dataloader)), but {self._num_yielded} samples have been fetched. ")
        if self._loader.num_workers > 0:
            text += ("For multiprocessing data-loading, this could be caused by not properly configuring the "
                     "IterableDataset replica at each worker. Please see "
                     "https://pytorch.org/docs/stable/data.html#torch.utils.data.IterableDataset for examples.")
        warnings.warn(text, stacklevel=3)

    def __getstate__(self) -> Any:
        raise NotImplementedError("{} cannot be pickled", type(self).__name__)


class SingleProcessIterator(BaseIterator):
    """Reads the dataset in the calling process."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        if loader.timeout != 0:
            raise AssertionError("_SingleProcessDataLoaderIter requires timeout == 0")
        self._fetch = fetcher_of(loader.dataset, *loader._fetch_options).fetch

    def _next_data(self) -> Any:
        return self._fetch(next(self._indices))
