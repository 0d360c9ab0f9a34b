"""`torch.functional`: functions of the namespace that PyTorch writes in Python, under their second address."""
from jtorch.ops import FUNCTIONS

__all__: list[str] = []
for _name in ("atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_shapes", "broadcast_tensors",
              "cartesian_prod", "cdist", "chain_matmul", "einsum", "meshgrid", "norm", "split", "tensordot", "unique",
              "unique_consecutive", "unravel_index"):
    globals()[_name] = FUNCTIONS[_name]
    __all__.append(_name)
