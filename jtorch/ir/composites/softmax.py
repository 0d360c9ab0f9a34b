"""softmax and its relatives. Stable against overflow; -inf rows give NaN, as in PyTorch."""
from __future__ import annotations

from jtorch.ir.arith import where
from jtorch.ir.composites.define import REQUIRED, composite, same_type, sum_over
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.elementwise import cast_to, exp, isinf, log, zeros_like
from jtorch.ir.prims.reduce import keep_axes, max_number, reduced_shape


def _batch(self: Op, b: Builder, n: int, m: tuple, x: Value, axis: int) -> Value:
    return self(x, axis=axis + 1)


def row_max(x: Value, axis: int) -> Value:
    """Kept out of the derivative: a softmax does not depend on what is subtracted from its rows. If a row has a NaN, so
    has its sum, whatever the maximum is."""
    return max_number(x, axes=(axis,))


def _shifted(x: Value, axis: int) -> Value:
    return x - keep_axes(row_max(x, axis), x, (axis,)) if x.shape[axis] else x


def _softmax(b: Builder, x: Value, axis: int) -> Value:
    e = exp(_shifted(x, axis))
    return e / sum_over(e, (axis,), keep=True)


softmax = composite("softmax", _softmax,
                    lambda g, y, x, axis: (y * (g - sum_over(g * y, (axis,), keep=True)),),
                    infer=same_type, attrs={"axis": REQUIRED}, batch=_batch, domain="axis float")


def _log_softmax(b: Builder, x: Value, axis: int) -> Value:
    z = _shifted(x, axis)
    return z - keep_axes(log(sum_over(exp(z), (axis,))), x, (axis,))


log_softmax = composite("log_softmax", _log_softmax,
                        lambda g, y, x, axis: (g - exp(y) * sum_over(g, (axis,), keep=True),),
                        infer=same_type, attrs={"axis": REQUIRED}, batch=_batch, domain="axis float")


def _logsumexp_infer(x: Type, axes: tuple[int, ...]) -> Type:
    return Type(x.dtype, reduced_shape(x.shape, axes))


def _logsumexp(b: Builder, x: Value, axes: tuple[int, ...]) -> Value:
    if not x.type.numel or not axes:
        return log(sum_over(exp(x), axes))
    top = max_number(cast_to(x, x.dtype.to_real()), axes=axes)
    top = cast_to(where(isinf(top), zeros_like(top), top), x.dtype)  # a row of -inf gives -inf, one with inf gives inf
    return log(sum_over(exp(x - keep_axes(top, x, axes)), axes)) + top


logsumexp = composite("logsumexp", _logsumexp,
                      lambda g, y, x, axes: (keep_axes(g, x, axes) * exp(x - keep_axes(y, x, axes)),),
                      infer=_logsumexp_infer, attrs={"axes": REQUIRED}, domain="axes float",
                      batch=lambda self, b, n, m, x, axes: self(x, axes=tuple(a + 1 for a in axes)))
