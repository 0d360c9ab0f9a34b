"""`torch.utils.benchmark`: timing of statements, with what is pending computed inside of the time."""
from jtorch.utils.benchmark.compare import Compare
from jtorch.utils.benchmark.timer import Measurement, TaskSpec, Timer, timer

__all__ = ["Compare", "Measurement", "TaskSpec", "Timer", "timer"]
