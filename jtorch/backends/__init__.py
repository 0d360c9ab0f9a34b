"""`torch.backends`: which libraries are behind the operators, and their switches.

Behind jtorch's are its own kernels and OpenBLAS, so MKL, oneDNN, OpenMP, cuDNN and the like are not available. The
switches of those that are absent can be set and read, as in a CPU build of PyTorch, and change nothing.
"""
from jtorch.backends import cpu, cuda, cudnn, mha, mkl, mkldnn, mps, nnpack, openmp, opt_einsum

__all__ = ["cpu", "cuda", "cudnn", "mha", "mkl", "mkldnn", "mps", "nnpack", "openmp", "opt_einsum"]
