"""Batches of sequences of different lengths."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import jtorch
from jtorch._tensor import Tensor

IDLE = 8
"""A batch keeps the steps that none of its sequences has if they are one in so many at most: to run them costs less
than a program for every pair of a batch's width and its longest sequence."""


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Steps of sequences, longest first: `batch_sizes[t]` of them have a step t.

    What `pack_padded_sequence` and the recurrent layers give stays padded until somebody looks at `data`: how many rows
    there are in all is another number for almost each batch, and the same work on a padded one is the same program.
    """

    _padded: Tensor | None = None  # [T, N, ...] in the batch's own order, while nobody has looked at the rows
    _packed: Tensor | None = None
    _steps: Steps | None = None

    def __new__(cls, data: Tensor, batch_sizes: Tensor | None = None, sorted_indices: Tensor | None = None,
                unsorted_indices: Tensor | None = None) -> PackedSequence:
        if batch_sizes is None:
            data, batch_sizes = data
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    @classmethod
    def of_padded(cls, padded: Tensor, steps: Steps, batch_sizes: Tensor, sorted_indices: Tensor | None,
                  unsorted_indices: Tensor | None) -> PackedSequence:
        """The steps of a batch [T, N, ...] that are there."""
        made = super().__new__(cls, None, batch_sizes, sorted_indices, unsorted_indices)  # type: ignore[arg-type]
        made._padded, made._steps = padded, steps
        return made

    @property
    def data(self) -> Tensor:
        """The rows, step after step. They are what counts from now on: they may be written, or have hooks."""
        if self._padded is not None:
            with jtorch.set_grad_enabled(self._padded.requires_grad):  # as it was where the batch was packed
                self._packed, self._padded = self.steps.pack(self._padded), None
        return super().__getitem__(0) if self._packed is None else self._packed  # type: ignore[return-value]

    @property
    def steps(self) -> Steps:
        """Which sequences have which steps, in the batch's own order."""
        if self._steps is None:
            order = self.sorted_indices
            self._steps = Steps(self.batch_sizes.tolist(), None if order is None else order.tolist())
        return self._steps

    def padded(self, value: float = 0.0) -> Tensor:
        """[T, N, ...] in the batch's own order, with `value` where a sequence has ended."""
        return self.steps.pad(self.data, value) if self._padded is None else self.steps.masked(self._padded, value)

    def rows_like(self, padded: Tensor) -> PackedSequence:
        """The same steps of another batch."""
        return self.of_padded(padded, self.steps, self.batch_sizes, self.sorted_indices, self.unsorted_indices)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.data, *tuple.__getitem__(self, slice(1, None))))

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]

    def __repr__(self) -> str:
        return f"PackedSequence({', '.join(f'{name}={value!r}' for name, value in zip(self._fields, self))})"

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Move or cast the data."""
        return type(self)(self.data.to(*args, **kwargs), self.batch_sizes, self.sorted_indices, self.unsorted_indices)

    def cpu(self) -> PackedSequence:
        """The sequences on the CPU."""
        return self

    def float(self) -> PackedSequence:
        """The data as float32."""
        return self.to(jtorch.float32)

    def double(self) -> PackedSequence:
        """The data as float64."""
        return self.to(jtorch.float64)

    @property
    def is_cuda(self) -> bool:
        """Are the data on a GPU?"""
        return False


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes another."""
    if permutation is None:
        return None
    out = jtorch.empty_like(permutation)
    out.scatter_(0, permutation, jtorch.arange(0, permutation.numel()))
    return out


class Steps:
    """Which of N sequences still run in each of T steps: the structure of a packed batch, as data. So batches of other
    lengths are other data and not other programs. `order` lists the sequences, longest first; without it they are in
    that order. There may be more steps, in which none runs."""

    def __init__(self, batches: Sequence[int], order: Sequence[int] | None = None, steps: int | None = None) -> None:
        self._order = np.arange(batches[0]) if order is None else np.asarray(order)
        self._runs = np.zeros((steps or len(batches), batches[0]), bool)  # in the batch's own order
        self._runs[:len(batches), self._order] = np.arange(batches[0]) < np.asarray(batches)[:, None]
        self.alive = jtorch.tensor(self._runs)  # [T, N]

    @property
    def lengths(self) -> Tensor:
        """How many steps each sequence has."""
        return jtorch.tensor(self._runs.sum(0))

    def pack(self, x: Tensor) -> Tensor:
        """[T, N, ...] -> the rows of sequences that still run, step after step."""
        steps, places = np.nonzero(self._runs[:, self._order])
        return x.flatten(0, 1).index_select(0, jtorch.tensor(steps * len(self._order) + self._order[places]))

    def pad(self, data: Tensor, value: float = 0.0) -> Tensor:
        """What `pack` makes -> [T, N, ...], with `value` where a sequence has ended."""
        places = np.zeros(self._runs.shape, np.int64)
        ordered = self._runs[:, self._order]
        places[:, self._order] = np.where(ordered, ordered.ravel().cumsum().reshape(ordered.shape) - 1, 0)
        rows = data.index_select(0, jtorch.tensor(places.ravel()))
        return self.masked(rows.reshape((*places.shape, *data.shape[1:])), value)

    def masked(self, x: Tensor, value: float = 0.0) -> Tensor:
        """[T, N, ...], with `value` where a sequence has ended."""
        there = self.alive.reshape((*self.alive.shape, *[1] * (x.ndim - 2)))
        return jtorch.where(there, x, jtorch.full((), value, dtype=x.dtype))


def pack_padded_sequence(input: Tensor, lengths: Any, batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """[T, N, ...] with the length of each sequence, packed."""
    sizes = [int(n) for n in (lengths.tolist() if isinstance(lengths, Tensor) else lengths)]
    if batch_first:
        input = input.transpose(0, 1)
    if len(sizes) != input.shape[1]:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(sizes)} (batch_size="
                           f"{input.shape[1]})")
    if any(n <= 0 for n in sizes):
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"
        )
    order = None
    if not enforce_sorted:
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    elif any(a < b for a, b in zip(sizes, sizes[1:])):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
            "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement "
            "if you do not need ONNX exportability."
        )
    longest = max(sizes)
    if longest > input.shape[0]:
        raise RuntimeError(f"Expected lengths of at most {input.shape[0]}, the steps of the input, but got {longest}")
    counts = np.bincount(sizes, minlength=longest + 1)
    batches = (len(sizes) - counts.cumsum())[:longest].tolist()
    if longest + longest // IDLE >= input.shape[0]:
        longest = input.shape[0]
    steps = Steps(batches, order, longest)
    return PackedSequence.of_padded(steps.masked(input[:longest]), steps, jtorch.tensor(batches), *permutations(order))


def permutations(order: Sequence[int] | None) -> tuple[Tensor | None, Tensor | None]:
    """An order as `sorted_indices` and `unsorted_indices`."""
    return (None, None) if order is None else (jtorch.tensor(order), jtorch.tensor(np.argsort(order)))


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """The padded batch and the lengths."""
    steps = sequence.batch_sizes.numel()
    if total_length is not None and total_length < steps:
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {steps}"
        )
    padded = sequence.padded(padding_value)[:steps]
    if total_length is not None and total_length > steps:
        rest = jtorch.full((total_length - steps, *padded.shape[1:]), padding_value, dtype=padded.dtype)
        padded = jtorch.cat([padded, rest])
    return (padded.transpose(0, 1) if batch_first else padded), sequence.steps.lengths


def pad_sequence(sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Tensor:
    """Sequences of different lengths as one batch."""
    if not isinstance(sequences, Iterable):
        raise RuntimeError(
            f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}"
        )
    sequences = list(sequences)
    longest = max(s.shape[0] for s in sequences)
    rows = []
    for s in sequences:
        fill = jtorch.full((longest - s.shape[0], *s.shape[1:]), padding_value, dtype=s.dtype)
        if longest > s.shape[0]:
            s = jtorch.cat([s, fill] if padding_side == "right" else [fill, s], 0)
        rows.append(s)
    return jtorch.stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded batch."""
    batch = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:int(n)] for row, n in zip(batch, lengths)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences of different lengths, packed."""
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed one."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
