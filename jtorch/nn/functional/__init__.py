"""`torch.nn.functional`: layers as functions, with PyTorch's signatures and defaults.

Most are value functions: they validate and apply one operation of `ir`, and their Python runs once per distinct call.
"""
from jtorch.nn.functional import (
    activation,
    affine,
    attention,
    convolution,
    distance,
    dropouts,
    embeddings,
    fractional,
    loss,
    normalization,
    pooling,
    rearranging,
    resampling,
)
from jtorch.nn.functional.activation import *  # noqa: F403
from jtorch.nn.functional.affine import *  # noqa: F403
from jtorch.nn.functional.attention import *  # noqa: F403
from jtorch.nn.functional.convolution import *  # noqa: F403
from jtorch.nn.functional.distance import *  # noqa: F403
from jtorch.nn.functional.dropouts import *  # noqa: F403
from jtorch.nn.functional.embeddings import *  # noqa: F403
from jtorch.nn.functional.fractional import *  # noqa: F403
from jtorch.nn.functional.loss import *  # noqa: F403
from jtorch.nn.functional.normalization import *  # noqa: F403
from jtorch.nn.functional.pooling import *  # noqa: F403
from jtorch.nn.functional.rearranging import *  # noqa: F403
from jtorch.nn.functional.resampling import *  # noqa: F403
from jtorch.ops import padding
from jtorch.ops.padding import *  # noqa: F403

__all__ = [*activation.__all__, *affine.__all__, *attention.__all__, *convolution.__all__, *distance.__all__,
           *dropouts.__all__, *embeddings.__all__, *fractional.__all__, *loss.__all__, *normalization.__all__,
           *padding.__all__, *pooling.__all__, *rearranging.__all__, *resampling.__all__]
