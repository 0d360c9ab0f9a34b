"""`torch.utils.tensorboard`: logs for TensorBoard, written through the `tensorboard` package (an extra)."""
try:
    import tensorboard as _tensorboard  # noqa: F401
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError("torch.utils.tensorboard needs the package tensorboard: pip install tensorboard",
                              name=_error.name) from None

from jtorch.utils.tensorboard.writer import FileWriter, SummaryWriter

__all__ = ["FileWriter", "SummaryWriter"]
