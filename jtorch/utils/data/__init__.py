"""Datasets, samplers and loaders."""
from jtorch.utils.data import _utils, dataloader, dataset, distributed, sampler
from jtorch.utils.data.dataloader import DataLoader, default_collate, default_convert, get_worker_info
from jtorch.utils.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from jtorch.utils.data.distributed import DistributedSampler
from jtorch.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = ["BatchSampler", "ChainDataset", "ConcatDataset", "DataLoader", "Dataset", "DistributedSampler",
           "IterableDataset", "RandomSampler", "Sampler", "SequentialSampler", "StackDataset", "Subset",
           "SubsetRandomSampler", "TensorDataset", "WeightedRandomSampler", "_utils", "dataloader", "dataset",
           "default_collate", "default_convert", "distributed", "get_worker_info", "random_split", "sampler"]
