"""Connectionist temporal classification (Graves et al., 2006): the loss over all alignments of targets with steps."""
from __future__ import annotations

from jtorch import dtypes
from jtorch.ir.arith import maximum, where
from jtorch.ir.composites.define import REQUIRED, composite, numbers
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.prims.control import scan, trace
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.elementwise import exp, expand, log, ne, zeros_like
from jtorch.ir.prims.indexing import gather
from jtorch.ir.prims.movement import concatenate, pad, reshape_to, slice_axis

NEVER = -1e30
"""The logarithm of probability 0; finite, so that it has derivatives."""


def _log_sum(*terms: Value) -> Value:
    top = terms[0]
    for t in terms[1:]:
        top = maximum(top, t)
    return log(sum([exp(t - top) for t in terms[1:]], exp(terms[0] - top))) + top


def _shifted(v: Value, k: int, fill: float) -> Value:
    """v[:, s - k], and `fill` in front."""
    n, length = v.shape
    if length <= k:
        return constant(v.builder, fill, v.dtype, (n, length))
    return pad(slice_axis(v, 1, 0, length - k), constant(v.builder, fill, v.dtype), widths=((0, 0, 0), (k, 0, 0)))


def _step(skips: Value, ends: Value, alpha: Value, emitted: Value, t: Value) -> list[Value]:
    """The forward variable after one more step, as carry and, for the derivative, as row; that of an example that is
    over stays."""
    skipped = where(skips, _shifted(alpha, 2, NEVER), NEVER)
    after = maximum(_log_sum(alpha, _shifted(alpha, 1, NEVER), skipped) + emitted, NEVER)
    after = where(expand(t, ends.shape) < ends, after, alpha)
    return [after, after]


def _ctc(b: Builder, x: Value, targets: Value, steps: Value, sizes: Value, blank: int) -> Value:
    """Labels are interleaved with blanks: blank, l1, blank, l2, ..., blank."""
    (length, n, _), s = x.shape, targets.shape[1]
    width = 2 * s + 1
    gaps = constant(b, blank, dtypes.int64, (n, s + 1, 1))
    labels = gaps
    if s:
        pairs = concatenate(slice_axis(gaps, 1, 0, s), reshape_to(targets, (n, s, 1)), axis=2)
        labels = concatenate(reshape_to(pairs, (n, 2 * s)), reshape_to(slice_axis(gaps, 1, s, s + 1), (n, 1)), axis=1)
    labels = reshape_to(labels, (n, width))
    emitted = gather(x, expand(reshape_to(labels, (1, n, width)), (length, n, width)), axis=2)
    skips = ne(labels, _shifted(labels, 2, blank)) & ne(labels, constant(b, blank, dtypes.int64, labels.shape))
    place = numbers(b, labels.shape, 1)
    ends = expand(reshape_to(steps, (n, 1)), labels.shape)
    last = expand(reshape_to(sizes, (n, 1)), labels.shape) * 2  # the blank behind the last label
    start = where((place < 2) & (place <= last), zeros_like(emitted_at(emitted, 0)), NEVER) + emitted_at(emitted, 0)
    operands = (skips, ends, maximum(start, NEVER), slice_axis(emitted, 0, 1, length),
                slice_axis(numbers(b, (length,), 0), 0, 1, length))
    types = [*[v.type for v in operands[:3]], *[Type(v.dtype, v.shape[1:]) for v in operands[3:]]]
    alpha = scan(*operands, body=trace(_step, types, "ctc_step"), n_carry=1, length=length - 1, n_consts=2,
                 reverse=False)[0]
    chosen = where((place <= last) & (place >= last - 1), alpha, NEVER)
    at = reshape_to(sizes, (n, 1)) * 2
    final = gather(chosen, at, axis=1)
    before = gather(chosen, maximum(at - 1, 0), axis=1)
    before = where(at > 0, before, NEVER)
    total = reshape_to(_log_sum(final, before), (n,))
    return where(total < NEVER / 2, float("inf"), -total)


def emitted_at(v: Value, t: int) -> Value:
    return reshape_to(slice_axis(v, 0, t, t + 1), v.shape[1:])


ctc_loss = composite("ctc_loss", _ctc, attrs={"blank": REQUIRED}, domain="ctc",
                     infer=lambda x, targets, steps, sizes, blank: Type(x.dtype, (x.shape[1],)))
"""ctc_loss(log-probabilities[T, N, C], targets[N, S], input lengths[N], target lengths[N]) -> losses[N], infinite where
the target does not fit into the steps. Integers are int64."""


def counted_steps(x: Value, steps: Value) -> Value:
    """x[T, N, C], and 0 at the steps that are past the end of their example."""
    t = numbers(x.builder, x.shape, 0)
    return where(t < expand(reshape_to(steps, (1, x.shape[1], 1)), x.shape), x, zeros_like(x))


