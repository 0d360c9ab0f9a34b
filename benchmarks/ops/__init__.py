"""Operators one by one against PyTorch's eager ones, on about a million elements: `python -m benchmarks.ops`."""
