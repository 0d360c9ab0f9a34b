"""Tools around training: `utils.data`; around memory: `utils.dlpack`."""
from jtorch.utils import data, dlpack

__all__ = ["data", "dlpack"]
