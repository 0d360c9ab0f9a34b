"""Steps of recurrent layers, and whole sequences of them: a sequence is recorded by one call, so that an eager loop
pays Python for a layer and not for each of its steps."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch.capture import autocast
from jtorch.capture.dispatch import operator
from jtorch.capture.record import current
from jtorch.ir.arith import add, mul, sub, where
from jtorch.ir.composites import attention
from jtorch.ir.graph import Type, Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims.control import scan, trace
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


# --- cells: (input's part, state's part, *state) -> what the derivative needs of the parts, and the new state ---------

State = tuple[Value, ...]
Cell = Callable[..., tuple[Value, State]]


def _lstm_cell(x: Value, part: Value, h: Value, c: Value) -> tuple[Value, State]:
    gates = add(x, part)
    i, f, g, o = _parts(gates, 4)
    c = add(mul(ew.sigmoid(f), c), mul(ew.sigmoid(i), ew.tanh(g)))
    return gates, (mul(ew.sigmoid(o), ew.tanh(c)), c)


def _gru_cell(x: Value, part: Value, h: Value) -> tuple[Value, State]:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = _parts(x, 3), _parts(part, 3)
    z = ew.sigmoid(add(x_z, h_z))
    n = ew.tanh(add(x_n, mul(ew.sigmoid(add(x_r, h_r)), h_n)))
    return part, (add(n, mul(z, sub(h, n))),)


def _tanh_cell(x: Value, part: Value, h: Value) -> tuple[Value, State]:
    gate = add(x, part)
    return gate, (ew.tanh(gate),)


def _relu_cell(x: Value, part: Value, h: Value) -> tuple[Value, State]:
    gate = add(x, part)
    return gate, (ew.relu(gate),)


def _step(cell: Cell, x: Value, state: State, w_hh: Any, b_hh: Value | None, w_hr: Value | None = None
          ) -> tuple[Value, State]:
    """What the cell gives, from the state's part [N, gates]; h is projected where there is `w_hr`."""
    kept, (h, *rest) = cell(x, _linear(state[0], w_hh, b_hh), *state)
    return kept, (h if w_hr is None else _linear(h, w_hr, None), *rest)


# --- one step, from the projected input `x` [N, gates] ---------------------------------------------------------------

@operator
def lstm_step(x: Value, h: Value, c: Value, w_hh: Value, b_hh: Value | None,
              w_hr: Value | None = None) -> tuple[Value, Value]:
    """(h, c)"""
    h, c = _step(_lstm_cell, x, (h, c), w_hh, b_hh, w_hr)[1]
    return h, c


@operator
def gru_step(x: Value, h: Value, w_hh: Value, b_hh: Value | None) -> Value:
    return _step(_gru_cell, x, (h,), w_hh, b_hh)[1][0]


@operator
def rnn_tanh_step(x: Value, h: Value, w_hh: Value, b_hh: Value | None) -> Value:
    return _step(_tanh_cell, x, (h,), w_hh, b_hh)[1][0]


@operator
def rnn_relu_step(x: Value, h: Value, w_hh: Value, b_hh: Value | None) -> Value:
    return _step(_relu_cell, x, (h,), w_hh, b_hh)[1][0]


# --- sequences -------------------------------------------------------------------------------------------------------

FEW = 4
"""Steps up to which a sequence is no loop."""


def _masked_step(cell: Cell, x: Value, alive: Value | None, state: State, weights: tuple[Value | None, ...]
                 ) -> tuple[Value, State]:
    """A step after which sequences that are not `alive` [N, 1] have the state that they had."""
    kept, new = _step(cell, x, state, *weights)
    return kept, new if alive is None else tuple([where(alive, a, b) for a, b in zip(new, state)])


def _sequence(cell: Cell, x: Value, alive: Value | None, state: State, weights: tuple[Value | None, ...],
              backward: bool) -> State:
    """All steps from the projected input [T, N, gates]: (outputs [T, N, H], *last state). `alive` [T, N, 1] says which
    sequences have a step t; the others keep their state.

    Eager code records a loop: the same few operations for every number of steps, so that batches of other lengths are
    not other programs. A trace has one length, and writes the steps out: no Python between its kernels.
    """
    steps, recorder = x.shape[0], current.recorder
    if steps > FEW and recorder.tracing is None and not recorder.levels:
        return _loop(cell, x, alive, state, weights, backward)
    outputs: list[Value] = [x] * steps
    for t in reversed(range(steps)) if backward else range(steps):
        row, mask = [None if v is None else reshape_to(slice_axis(v, 0, t, t + 1), v.shape[1:]) for v in (x, alive)]
        _, state = _masked_step(cell, row, mask, state, weights)  # type: ignore[arg-type]
        outputs[t] = state[0]
    return joined([reshape_to(h, (1, *h.shape)) for h in outputs], 0), *state


def _loop(cell: Cell, x: Value, alive: Value | None, state: State, weights: tuple[Value | None, ...], backward: bool
          ) -> State:
    """The steps as a scan. For the derivative each keeps its state and what the cell made it from."""
    given = [w for w in weights if w is not None]
    rows = [x] if alive is None else [x, alive]
    n = len(given)
    head = n + len(state)
    keep = any(v.requires_grad for v in (x, *state, *given))

    def body(*values: Value) -> list[Value]:
        own = iter(values[:n])
        there = [None if w is None else next(own) for w in weights]
        mask = None if alive is None else values[head + 1]
        kept, new = _masked_step(cell, values[head], mask, values[n:head], tuple(there))
        return [*new, *new, kept] if keep else [*new, new[0]]

    types = [v.type for v in (*given, *state)] + [Type(v.dtype, v.shape[1:]) for v in rows]
    found = scan(*given, *state, *rows, body=trace(body, types, cell.__name__.strip("_"), x.builder.default_float),
                 n_carry=len(state), length=x.shape[0], n_consts=n, reverse=backward)
    return found[len(state)], *found[:len(state)]


@operator
def lstm(input: Value, h: Value, c: Value, w_ih: Value, w_hh: Value, b_ih: Value | None, b_hh: Value | None,
         w_hr: Value | None, backward: bool, alive: Value | None) -> tuple[Value, ...]:
    """A sequence [T, N, width] in one direction: (outputs, h, c)."""
    return _sequence(_lstm_cell, _linear(input, w_ih, b_ih), alive, (h, c), (w_hh, b_hh, w_hr), backward)


def _simple(name: str, cell: Cell) -> Callable[..., tuple[Value, ...]]:
    """The sequence of a cell whose state is its output."""

    def sequence(input: Value, h: Value, w_ih: Value, w_hh: Value, b_ih: Value | None, b_hh: Value | None,
                 backward: bool, alive: Value | None) -> tuple[Value, ...]:
        return _sequence(cell, _linear(input, w_ih, b_ih), alive, (h,), (w_hh, b_hh), backward)
    sequence.__name__ = sequence.__qualname__ = name  # what autocast knows it by
    return operator(sequence)


gru = _simple("gru", _gru_cell)
rnn_tanh = _simple("rnn_tanh", _tanh_cell)
rnn_relu = _simple("rnn_relu", _relu_cell)
