"""Tools around training: `utils.data`."""
from jtorch.utils import data

__all__ = ["data"]
