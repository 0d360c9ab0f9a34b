"""The parts of a DataLoader: reading samples, making batches of them, worker processes."""
from jtorch.utils.data._utils import collate, fetch, worker

__all__ = ["collate", "fetch", "worker"]
