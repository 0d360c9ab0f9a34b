"""Activation functions, as in `torch.nn.functional`. Those whose body would differentiate poorly bring a derivative."""
from __future__ import annotations

import math

from jtorch.ir.arith import maximum, minimum, where
from jtorch.ir.composites.define import REQUIRED, along, composite, pointwise, same_type
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.prims.elementwise import abs_ as absolute
from jtorch.ir.prims.elementwise import erf, exp, expand, expm1, log1p, sigmoid, tanh, zeros_like
from jtorch.ir.prims.movement import reshape_to, slice_axis

SQRT_HALF = math.sqrt(0.5)
NORMAL_DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)
GELU_SCALE = math.sqrt(2 / math.pi)
GELU_CUBE = 0.044715


# --- smooth ----------------------------------------------------------------------------------------------------------

def _gelu(x: Value) -> Value:
    return x * 0.5 * (1 + erf(x * SQRT_HALF))


def _gelu_vjp(g: Value, y: Value, x: Value) -> tuple:
    cdf = (1 + erf(x * SQRT_HALF)) * 0.5
    density = exp(x * x * -0.5) * NORMAL_DENSITY_AT_0
    return (g * (cdf + x * density),)


gelu = pointwise("gelu", _gelu, _gelu_vjp, kernel="GeluKernelImpl")
"""x * Phi(x), Phi the distribution function of the normal law."""


def _inner(x: Value) -> Value:
    return tanh((x + x * x * x * GELU_CUBE) * GELU_SCALE)


def _gelu_tanh_vjp(g: Value, y: Value, x: Value) -> tuple:
    t = _inner(x)
    slope = (1 + x * x * (3 * GELU_CUBE)) * GELU_SCALE
    return (g * ((1 + t) * 0.5 + x * 0.5 * (1 - t * t) * slope),)


gelu_tanh = pointwise("gelu_tanh", lambda x: x * 0.5 * (1 + _inner(x)), _gelu_tanh_vjp,
                      kernel="GeluKernelImpl")
"""`gelu(x, approximate='tanh')`."""


def _silu_vjp(g: Value, y: Value, x: Value) -> tuple:
    s = sigmoid(x)
    return (g * (s * (1 + x * (1 - s))),)


silu = pointwise("silu", lambda x: x / (1 + exp(-x)), _silu_vjp)
"""x * sigmoid(x)"""


def softplus_of(x: Value) -> Value:
    """log(1 + exp(x)) without overflow."""
    return maximum(x, 0.0) + log1p(exp(-absolute(x)))


def _softplus_vjp(g: Value, y: Value, x: Value, beta: float, threshold: float) -> tuple:
    return (where(x * beta > threshold, g, g * sigmoid(x * beta)),)


def _softplus(x: Value, beta: float, threshold: float) -> Value:
    return where(x * beta > threshold, x, softplus_of(x * beta) / beta)


softplus = pointwise("softplus", _softplus, _softplus_vjp, attrs={"beta": 1.0, "threshold": 20.0})

logsigmoid = pointwise("logsigmoid", lambda x: minimum(x, 0.0) - log1p(exp(-absolute(x))),
                       lambda g, y, x: (g * sigmoid(-x),), kernel="log_sigmoid_cpu")


def _mish_vjp(g: Value, y: Value, x: Value) -> tuple:
    t = tanh(softplus_of(x))
    return (g * (t + x * (1 - t * t) * sigmoid(x)),)


mish = pointwise("mish", lambda x: x * tanh(softplus_of(x)), _mish_vjp)
"""x * tanh(softplus(x))"""

tanhshrink = pointwise("tanhshrink", lambda x: x - tanh(x), lambda g, y, x: (g * (tanh(x) * tanh(x)),))
softsign = pointwise("softsign", lambda x: x / (1 + absolute(x)), lambda g, y, x: (_softsign_slope(g, x),))


def _softsign_slope(g: Value, x: Value) -> Value:
    d = 1 + absolute(x)
    return g / (d * d)


# --- exponential on the negative side --------------------------------------------------------------------------------

def _elu(x: Value, alpha: float) -> Value:
    return where(x > 0, x, expm1(minimum(x, 0.0)) * alpha)


elu = pointwise("elu", _elu, lambda g, y, x, alpha: (where(x > 0, g, g * (exp(minimum(x, 0.0)) * alpha)),),
                attrs={"alpha": 1.0})

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
SELU_BOTH = SELU_ALPHA * SELU_SCALE
selu = pointwise("selu", lambda x: _elu(x, SELU_ALPHA) * SELU_SCALE,
                 lambda g, y, x: (where(x > 0, g * SELU_SCALE, g * (exp(minimum(x, 0.0)) * SELU_BOTH)),),
                 kernel="elu_cpu")
celu = pointwise("celu", lambda x, alpha: where(x > 0, x, expm1(minimum(x / alpha, 0.0)) * alpha),
                 lambda g, y, x, alpha: (where(x > 0, g, g * exp(minimum(x / alpha, 0.0))),), attrs={"alpha": 1.0},
                 kernel="elu_cpu")


# --- piecewise linear ------------------------------------------------------------------------------------------------

def _inside(g: Value, x: Value, low: float, high: float) -> Value:
    return where((x > low) & (x < high), g, zeros_like(g))


leaky_relu = pointwise("leaky_relu", lambda x, slope: where(x > 0, x, x * slope),
                       lambda g, y, x, slope: (where(x > 0, g, g * slope),), attrs={"slope": 0.01}, domain="real")
hardtanh = pointwise("hardtanh", lambda x, low, high: minimum(maximum(x, low), high),
                     lambda g, y, x, low, high: (_inside(g, x, low, high),), attrs={"low": -1.0, "high": 1.0},
                     domain="real")
relu6 = pointwise("relu6", lambda x: minimum(maximum(x, 0.0), 6.0), lambda g, y, x: (_inside(g, x, 0.0, 6.0),),
                  domain="real")
hardsigmoid = pointwise("hardsigmoid", lambda x: minimum(maximum(x + 3.0, 0.0), 6.0) / 6.0,
                        lambda g, y, x: (_inside(g, x, -3.0, 3.0) / 6.0,))
hardswish = pointwise("hardswish", lambda x: x * minimum(maximum(x + 3.0, 0.0), 6.0) / 6.0,
                      lambda g, y, x: (where(x < -3.0, zeros_like(g), where(x <= 3.0, g * (x / 3.0 + 0.5), g)),))
threshold = pointwise("threshold", lambda x, bound, value: where(x > bound, x, value),
                      lambda g, y, x, bound, value: (where(x > bound, g, zeros_like(g)),),
                      attrs={"bound": REQUIRED, "value": REQUIRED}, domain="real")


def _softshrink(x: Value, bound: float) -> Value:
    return where(x > bound, x - bound, where(x < -bound, x + bound, x * 0.0))


softshrink = pointwise("softshrink", _softshrink,
                       lambda g, y, x, bound: (where(absolute(x) > bound, g, zeros_like(g)),), attrs={"bound": 0.5},
                       domain="real")
hardshrink = pointwise("hardshrink", lambda x, bound: where(absolute(x) > bound, x, zeros_like(x)),
                       lambda g, y, x, bound: (where(absolute(x) > bound, g, zeros_like(g)),), attrs={"bound": 0.5},
                       domain="real")


# --- with a second operand -------------------------------------------------------------------------------------------

def _slope_of(x: Value, w: Value) -> Value:
    """The slopes, one for all or one for each channel (axis 1), over x's shape."""
    single = w.type.numel == 1
    return expand(reshape_to(w, ()) if single else along(w, 1, x.ndim), x.shape)


def _prelu_infer(x: Type, w: Type) -> Type:
    channels = x.shape[1] if x.ndim > 1 else 1
    if w.numel not in (1, channels):
        raise RuntimeError("Mismatch of parameter numbers and input channel size. Found parameter numbers = "
                           f"{w.numel} and channel size = {channels}.")
    return x


prelu = composite("prelu", lambda b, x, w: where(x > 0, x, x * _slope_of(x, w)), infer=_prelu_infer, domain="prelu")
"""x, or x * w where x is negative."""


def _glu(b: Builder, x: Value, axis: int) -> Value:
    n = x.shape[axis]
    return slice_axis(x, axis, 0, n // 2) * sigmoid(slice_axis(x, axis, n // 2, n))


def _glu_infer(x: Type, axis: int) -> Type:
    if x.shape[axis] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {axis} is size {x.shape[axis]}")
    return Type(x.dtype, tuple(n // 2 if a == axis else n for a, n in enumerate(x.shape)))


glu = composite("glu", _glu, infer=_glu_infer, attrs={"axis": REQUIRED}, domain="even axis",
                batch=lambda self, b, n, m, x, axis: self(x, axis=axis + 1))
"""The first half along `axis` times the sigmoid of the second."""


def _rrelu(b: Builder, x: Value, slope: Value) -> Value:
    return where(x > 0, x, x * slope)


rrelu = composite("rrelu", _rrelu, infer=same_type, domain="pair")
"""A leaky relu whose slopes (random ones, drawn outside) are given element by element."""
