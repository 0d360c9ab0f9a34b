"""The CPU's vector instructions."""
from jtorch.runtime.blas import AVX512, cpu_info


def get_cpu_capability() -> str:
    """'AVX512', 'AVX2' or 'DEFAULT': PyTorch's names of what kernels are compiled for."""
    present = set(cpu_info().get("flags", "").split())
    if AVX512 <= present:
        return "AVX512"
    return "AVX2" if {"avx2", "fma"} <= present else "DEFAULT"
