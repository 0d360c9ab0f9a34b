"""Steps of recurrent layers, and whole sequences of them: a sequence is recorded by one call, so that an eager loop
pays Python for a layer and not for each of its steps."""
from __future__ import annotations

from collections.abc import Callable

from jtorch.capture import autocast
from jtorch.capture.dispatch import operator
from jtorch.capture.record import current
from jtorch.ir.arith import add, mul, sub
from jtorch.ir.composites import attention
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims.movement import reshape_to, slice_axis
from jtorch.ops.joining import joined

__all__: list[str] = []


def _linear(x: Value, w: Value, b: Value | None) -> Value:
    """`linear` as autocast sees it where the operator that it belongs to is not on its lists."""
    lower = current.recorder.autocast
    if lower is not None:
        x, w, b = autocast.arguments("linear", [x, w, b], lower)
    return attention.linear(x, w) if b is None else attention.linear(x, w, b)


def _parts(v: Value, n: int) -> list[Value]:
    size = v.shape[1] // n
    return [slice_axis(v, 1, k * size, (k + 1) * size) for k in range(n)]


@operator
def lstm_step(x: Value, h: Value, c: Value, w_hh: Value, b_hh: Value | None,
              w_hr: Value | None = None) -> tuple[Value, Value]:
    """One step from the projected input `x` [N, 4H]: (h, c), h projected where there is `w_hr`."""
    i, f, g, o = _parts(add(x, _linear(h, w_hh, b_hh)), 4)
    c = add(mul(ew.sigmoid(f), c), mul(ew.sigmoid(i), ew.tanh(g)))
    h = mul(ew.sigmoid(o), ew.tanh(c))
    return h if w_hr is None else _linear(h, w_hr, None), c


@operator
def gru_step(x: Value, h: Value, w_hh: Value, b_hh: Value | None) -> Value:
    """One step from the projected input `x` [N, 3H]."""
    (x_r, x_z, x_n), (h_r, h_z, h_n) = _parts(x, 3), _parts(_linear(h, w_hh, b_hh), 3)
    z = ew.sigmoid(add(x_z, h_z))
    n = ew.tanh(add(x_n, mul(ew.sigmoid(add(x_r, h_r)), h_n)))
    return add(n, mul(z, sub(h, n)))


@operator
def rnn_tanh_step(x: Value, h: Value, w_hh: Value, b_hh: Value | None) -> Value:
    """One step from the projected input `x` [N, H]."""
    return ew.tanh(add(x, _linear(h, w_hh, b_hh)))


@operator
def rnn_relu_step(x: Value, h: Value, w_hh: Value, b_hh: Value | None) -> Value:
    """One step from the projected input `x` [N, H]."""
    return ew.relu(add(x, _linear(h, w_hh, b_hh)))


def _sequence(step: Callable[..., tuple[Value, ...]], x: Value, state: tuple[Value, ...],
              backward: bool) -> tuple[Value, ...]:
    """All steps from the projected input [T, N, G]: (outputs [T, N, H], *last state)."""
    steps = x.shape[0]
    outputs: list[Value] = [x] * steps
    for t in reversed(range(steps)) if backward else range(steps):
        state = step(reshape_to(slice_axis(x, 0, t, t + 1), x.shape[1:]), *state)
        outputs[t] = state[0]
    return joined([reshape_to(h, (1, *h.shape)) for h in outputs], 0), *state


@operator
def lstm(input: Value, h: Value, c: Value, w_ih: Value, w_hh: Value, b_ih: Value | None, b_hh: Value | None,
         w_hr: Value | None, backward: bool) -> tuple[Value, ...]:
    """A sequence [T, N, width] in one direction: (outputs, h, c)."""
    run = lstm_step.__wrapped__  # type: ignore[attr-defined]
    return _sequence(lambda x, h, c: run(x, h, c, w_hh, b_hh, w_hr), _linear(input, w_ih, b_ih), (h, c), backward)


def _simple(name: str, step: Callable[..., Value]) -> Callable[..., tuple[Value, ...]]:
    """The sequence of a step whose state is its output."""
    run = step.__wrapped__  # type: ignore[attr-defined]

    def sequence(input: Value, h: Value, w_ih: Value, w_hh: Value, b_ih: Value | None, b_hh: Value | None,
                 backward: bool) -> tuple[Value, ...]:
        return _sequence(lambda x, h: (run(x, h, w_hh, b_hh),), _linear(input, w_ih, b_ih), (h,), backward)
    sequence.__name__ = sequence.__qualname__ = name  # what autocast knows it by
    return operator(sequence)


gru = _simple("gru", gru_step)
rnn_tanh = _simple("rnn_tanh", rnn_tanh_step)
rnn_relu = _simple("rnn_relu", rnn_relu_step)
