"""Linear and bilinear maps."""
from __future__ import annotations

from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import operator
from jtorch.ir import arith
from jtorch.ir.composites import attention
from jtorch.ir.graph import Value
from jtorch.ir.prims.reduce import sum_
from jtorch.ops.attach import with_out

__all__ = ["bilinear", "linear"]


@with_out
@operator
def linear(input: Value, weight: Value, bias: Value | None = None) -> Value:
    dtypes.require(input.dtype, dtypes.INT, "addmm_impl_cpu_")
    if weight.ndim == 1:
        product = arith.mul(input, weight)
        y = sum_(product, axes=(product.ndim - 1,))
        return y if bias is None else arith.add(y, bias)
    return attention.linear(input, weight) if bias is None else attention.linear(input, weight, bias)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1 @ W[k] @ x2 + b[k] for every output k."""
    out, n1, n2 = weight.shape
    lead = tuple(input1.shape[:-1])
    a, b = input1.reshape(-1, n1), input2.reshape(-1, n2)
    left = (a @ weight.permute(1, 0, 2).reshape(n1, out * n2)).reshape(-1, out, n2)
    y = (left * b.unsqueeze(1)).sum(-1, dtype=input1.dtype)
    y = y.reshape(*lead, out)
    return y if bias is None else y + bias
