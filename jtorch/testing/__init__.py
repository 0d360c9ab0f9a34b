"""`torch.testing`: comparing results and making inputs."""
from jtorch.testing.comparison import assert_allclose, assert_close, default_tolerances
from jtorch.testing.creation import make_tensor

__all__ = ["assert_allclose", "assert_close", "default_tolerances", "make_tensor"]
