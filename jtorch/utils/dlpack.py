"""`torch.utils.dlpack`: tensors as DLPack capsules and back."""
from jtorch.ops.interchange import DLDeviceType, from_dlpack, to_dlpack

__all__ = ["DLDeviceType", "from_dlpack", "to_dlpack"]
