"""Batches of sequences of different lengths."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

import jtorch
from jtorch._tensor import Tensor


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Steps of sequences, longest first: `batch_sizes[t]` of them have a step t."""

    def __new__(cls, data: Tensor, batch_sizes: Tensor | None = None, sorted_indices: Tensor | None = None,
                unsorted_indices: Tensor | None = None) -> PackedSequence:
        if batch_sizes is None:
            data, batch_sizes = data
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

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
    lengths are other data and not other programs."""

    def __init__(self, batches: Sequence[int], total: int | None = None) -> None:
        sizes = np.zeros(len(batches) if total is None else total, np.int64)
        sizes[:len(batches)] = batches
        alive = np.arange(batches[0]) < sizes[:, None]
        places = np.where(alive, alive.ravel().cumsum().reshape(alive.shape) - 1, 0)
        self.lengths = jtorch.tensor(alive.sum(0))
        self.alive = jtorch.tensor(alive)  # [T, N]
        self._kept, self._places = jtorch.tensor(np.flatnonzero(alive)), jtorch.tensor(places.ravel())

    def pack(self, x: Tensor) -> Tensor:
        """[T, N, ...] -> the rows of sequences that still run, step after step."""
        return x.flatten(0, 1).index_select(0, self._kept)

    def pad(self, data: Tensor, value: float = 0.0) -> Tensor:
        """What `pack` makes -> [T, N, ...], with `value` where a sequence has ended."""
        rest = data.shape[1:]
        there = self.alive.reshape((*self.alive.shape, *[1] * len(rest)))
        rows = data.index_select(0, self._places).reshape((*self.alive.shape, *rest))
        return jtorch.where(there, rows, jtorch.full((), value, dtype=data.dtype))


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
        places = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        order = jtorch.tensor(places, dtype=jtorch.int64)
        input = input.index_select(1, order)
        sizes = [sizes[i] for i in places]
    elif any(a < b for a, b in zip(sizes, sizes[1:])):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
            "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement "
            "if you do not need ONNX exportability."
        )
    batches = [sum(n > t for n in sizes) for t in range(sizes[0])]
    data = Steps(batches).pack(input[:len(batches)])
    return PackedSequence(data, jtorch.tensor(batches, dtype=jtorch.int64), order)


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """The padded batch and the lengths."""
    batches = sequence.batch_sizes.tolist()
    if total_length is not None and total_length < len(batches):
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {len(batches)}"
        )
    steps = Steps(batches, total_length)
    padded, lengths = steps.pad(sequence.data, padding_value), steps.lengths
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(1, sequence.unsorted_indices)
        lengths = lengths[sequence.unsorted_indices]
    return (padded.transpose(0, 1) if batch_first else padded), lengths


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
