"""`torch.__config__`: what this installation is made of."""
from __future__ import annotations

from jtorch import report


def show() -> str:
    """Versions, CPU features, BLAS kernels, threads and cache, a line each."""
    return report.info()


def parallel_info() -> str:
    """The threads that kernels run on."""
    return report.parallel_info()
