"""Datasets, samplers and loaders."""
from jtorch.utils.data import collate, dataloader, dataset, sampler
from jtorch.utils.data.collate import default_collate, default_convert
from jtorch.utils.data.dataloader import DataLoader, get_worker_info
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
from jtorch.utils.data.sampler import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = ["BatchSampler", "ChainDataset", "ConcatDataset", "DataLoader", "Dataset", "DistributedSampler",
           "IterableDataset", "RandomSampler", "Sampler", "SequentialSampler", "StackDataset", "Subset",
           "SubsetRandomSampler", "TensorDataset", "WeightedRandomSampler", "collate", "dataloader", "dataset",
           "default_collate", "default_convert", "get_worker_info", "random_split", "sampler"]
