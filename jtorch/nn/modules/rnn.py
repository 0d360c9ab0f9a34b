"""Recurrent layers. The input projections of all steps are one product, and all steps are recorded by one call."""
from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn import functional as F
from jtorch.nn import init
from jtorch.nn.functional import recurrent
from jtorch.nn.modules.module import Module
from jtorch.nn.parameter import Parameter
from jtorch.nn.utils.rnn import PackedSequence, Steps

_SEQUENCES = {"GRU": recurrent.gru, "RNN_TANH": recurrent.rnn_tanh, "RNN_RELU": recurrent.rnn_relu}
_STEPS = {"GRU": recurrent.gru_step, "RNN_TANH": recurrent.rnn_tanh_step, "RNN_RELU": recurrent.rnn_relu_step}
_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


class RNNBase(Module):
    """What RNN, LSTM and GRU have in common."""

    __constants__ = [
        "mode",
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "proj_size",
    ]

    def __init__(self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=2,
            )
        for name, value, kind in (
            ("bias", bias, bool),
            ("batch_first", batch_first, bool),
            ("input_size", input_size, int),
            ("hidden_size", hidden_size, int),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if mode not in _GATES:
            raise ValueError("Unrecognized RNN mode: " + mode)
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        gates = _GATES[mode] * hidden_size
        out = proj_size or hidden_size
        self._all_weights: list[list[str]] = []
        for layer in range(num_layers):
            width = input_size if layer == 0 else out * (1 + bidirectional)
            for suffix in ("", "_reverse")[:1 + bidirectional]:
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, width), "weight_hh": (gates, out)}
                if bias:
                    shapes.update(bias_ih=(gates,), bias_hh=(gates,))
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    setattr(
                        self, f"{name}_l{layer}{suffix}", Parameter(jtorch.empty(shape, device=device, dtype=dtype))
                    )
                self._all_weights.append([f"{name}_l{layer}{suffix}" for name in shapes])
        self.reset_parameters()

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, layer by layer and direction by direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights(self) -> list[Parameter]:
        return [w for weights in self.all_weights for w in weights]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    def flatten_parameters(self) -> None:
        """Nothing to do: there is one memory layout."""

    def reset_parameters(self) -> None:
        """Draw new initial weights."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0),
                            ("bidirectional", False)):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        return text

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Errors of PyTorch's text where the input does not fit."""
        dtype = self.weight_ih_l0.dtype
        if input.dtype is not dtype:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({dtype}). Convert input: "
                             f"input.to({dtype}), or convert model: model.to({input.dtype})")
        expected = 2 if batch_sizes is not None else 3
        if input.ndim != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.ndim}")
        if self.input_size != input.shape[-1]:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got "
                               f"{input.shape[-1]}")

    def check_hidden_size(
        self, hx: Tensor, expected: tuple[int, ...], msg: str = "Expected hidden size {}, got {}"
    ) -> None:
        """Error of PyTorch's text where the initial state does not fit."""
        if tuple(hx.shape) != tuple(expected):
            raise RuntimeError(msg.format(tuple(expected), list(hx.shape)))

    def _initial(self, n: int, size: int, like: Tensor) -> Tensor:
        return jtorch.zeros(self.num_layers * (1 + self.bidirectional), n, size, dtype=like.dtype)

    def _states(self, hx: Any, n: int, like: Tensor, single: bool) -> tuple[Tensor, ...]:
        """The initial state as a tuple of [layers * directions, N, size]."""
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[:2 if self.mode == "LSTM" else 1]
        if hx is None:
            return tuple(self._initial(n, s, like) for s in sizes)
        given = tuple(hx) if self.mode == "LSTM" else (hx,)
        ndim = 2 if single else 3
        for t in given:
            if t.ndim != ndim:
                kind = "unbatched 2-D" if single else "batched 3-D"
                what = "hx and cx" if self.mode == "LSTM" else "hx"
                got = tuple(g.ndim for g in given) if self.mode == "LSTM" else t.ndim
                raise RuntimeError(
                    f"For {kind} input, {what} should also be {ndim}-D but got "
                    + (f"({got[0]}-D, {got[1]}-D) tensors" if isinstance(got, tuple) else f"{got}-D tensor")
                )
        if single:
            given = tuple(t.unsqueeze(1) for t in given)
        for place, (t, size) in enumerate(zip(given, sizes)):
            name = f"hidden[{place}]" if self.mode == "LSTM" else "hidden"
            self.check_hidden_size(t, (self.num_layers * (1 + self.bidirectional), n, size),
                                   f"Expected {name} size {{}}, got {{}}")
        return given

    def forward(self, input: Any, hx: Any = None) -> Any:
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.ndim not in (2, 3):
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.ndim}D tensor instead")
        single = input.ndim == 2
        x = input.unsqueeze(1) if single else input.transpose(0, 1) if self.batch_first else input
        self.check_input(x, None)
        states = self._states(hx, x.shape[1], x, single)
        y, last = self._run(x, states, None)
        if single:
            y, last = y.squeeze(1), tuple(t.squeeze(1) for t in last)
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, last if self.mode == "LSTM" else last[0]

    def _forward_packed(self, packed: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        """Runs over the padded batch, in its own order; a sequence that has ended keeps its state."""
        x = packed.padded()
        self.check_input(x[0], packed.batch_sizes)
        y, last = self._run(x, self._states(hx, x.shape[1], x, False), packed.steps)
        return packed.rows_like(y), last if self.mode == "LSTM" else last[0]

    def _run(
        self, x: Tensor, states: tuple[Tensor, ...], steps: Steps | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All layers over [T, N, width]: (outputs, last states)."""
        finals: list[list[Tensor]] = [[] for _ in states]
        weights = self.all_weights
        directions = 1 + self.bidirectional
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = self._drop(x, steps)
            outputs = []
            for d in range(directions):
                index = layer * directions + d
                y, last = self._direction(x, tuple(s[index] for s in states), weights[index], bool(d), steps)
                outputs.append(y)
                for collected, t in zip(finals, last):
                    collected.append(t)
            x = outputs[0] if directions == 1 else jtorch.cat(outputs, 2)
        return x, tuple(jtorch.stack(f, 0) for f in finals)

    def _drop(self, x: Tensor, steps: Steps | None) -> Tensor:
        """Dropout; of a packed batch as it is packed, so that the same random numbers are drawn as in PyTorch."""
        return F.dropout(x, self.dropout) if steps is None else steps.pad(F.dropout(steps.pack(x), self.dropout))

    def _direction(self, x: Tensor, state: tuple[Tensor, ...], weights: list[Parameter], backward: bool,
                   steps: Steps | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        w_ih, w_hh = weights[:2]
        b_ih, b_hh = weights[2:4] if self.bias else (None, None)
        w_hr = weights[-1] if self.proj_size else None
        alive = None if steps is None else steps.alive.unsqueeze(2)
        if self.mode == "LSTM":
            y, *last = recurrent.lstm(x, *state, w_ih, w_hh, b_ih, b_hh, w_hr, backward, alive)
        else:
            y, *last = _SEQUENCES[self.mode](x, *state, w_ih, w_hh, b_ih, b_hh, backward, alive)
        return y, tuple(last)


class RNN(RNNBase):
    """Elman's recurrent network."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if len(args) > 3:
            self_nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            self_nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if self_nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{self_nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__("RNN_" + self_nonlinearity.upper(), *args, **kwargs)
        self.nonlinearity = self_nonlinearity


class LSTM(RNNBase):
    """Long short-term memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)


class GRU(RNNBase):
    """Gated recurrent unit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", *args, **kwargs)


class RNNCellBase(Module):
    """One step of a recurrent layer."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        options = {"device": device, "dtype": dtype}
        self.weight_ih = Parameter(jtorch.empty((num_chunks * hidden_size, input_size), **options))
        self.weight_hh = Parameter(jtorch.empty((num_chunks * hidden_size, hidden_size), **options))
        for name in ("bias_ih", "bias_hh"):
            if bias:
                setattr(self, name, Parameter(jtorch.empty(num_chunks * hidden_size, **options)))
            else:
                self.register_parameter(name, None)
        self.reset_parameters()

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text

    def reset_parameters(self) -> None:
        """Draw new initial weights."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _check(self, input: Tensor) -> None:
        if input.ndim not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected input to be 1D or 2D, got {input.ndim}D instead")

    def _batch(self, input: Tensor, hx: Tensor | None) -> tuple[Tensor, Tensor]:
        x = input.unsqueeze(0) if input.ndim == 1 else input
        if hx is None:
            return x, jtorch.zeros(x.shape[0], self.hidden_size, dtype=x.dtype)
        return x, hx.unsqueeze(0) if hx.ndim == 1 else hx


class RNNCell(RNNCellBase):
    """One step of Elman's recurrent network."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        self._check(input)
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        x, h = self._batch(input, hx)
        step = _STEPS["RNN_" + self.nonlinearity.upper()]
        y = step(F.linear(x, self.weight_ih, self.bias_ih), h, self.weight_hh, self.bias_hh)
        return y.squeeze(0) if input.ndim == 1 else y


class LSTMCell(RNNCellBase):
    """One step of an LSTM."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Tensor]:
        self._check(input)
        x, h = self._batch(input, None if hx is None else hx[0])
        _, c = self._batch(input, None if hx is None else hx[1])
        h, c = recurrent.lstm_step(F.linear(x, self.weight_ih, self.bias_ih), h, c, self.weight_hh, self.bias_hh)
        return (h.squeeze(0), c.squeeze(0)) if input.ndim == 1 else (h, c)


class GRUCell(RNNCellBase):
    """One step of a GRU."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        self._check(input)
        x, h = self._batch(input, hx)
        y = recurrent.gru_step(F.linear(x, self.weight_ih, self.bias_ih), h, self.weight_hh, self.bias_hh)
        return y.squeeze(0) if input.ndim == 1 else y
