"""Softmax over many classes of which few are frequent."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn import functional as F
from jtorch.nn.modules.container import ModuleList, Sequential
from jtorch.nn.modules.linear import Linear
from jtorch.nn.modules.module import Module


class _ASMoutput(NamedTuple):
    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-probabilities of `n_classes`, numbered from the most frequent on (Grave et al., Efficient softmax
    approximation for GPUs, 2017). The head decides between the classes below `cutoffs[0]` and the clusters between the
    cutoffs; a cluster's own layer, `div_value` times narrower from one to the next, is computed for the examples whose
    target lies in it.

    `forward(input[N, in_features], target[N])` gives the targets' log-probabilities and minus their mean, also for one
    example without N. It looks at the targets, so it cannot be traced. ValueError for cutoffs that are not unique,
    positive integers in ascending order below `n_classes`, RuntimeError for operands whose shapes do not fit and for
    targets out of range.
    """

    def __init__(self, in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float = 4.0,
                 head_bias: bool = False, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if (cutoffs != sorted(cutoffs) or min(cutoffs) <= 0 or max(cutoffs) > n_classes - 1
                or len(set(cutoffs)) != len(cutoffs) or any(int(c) != c for c in cutoffs)):
            raise ValueError("cutoffs should be a sequence of unique, positive integers sorted in an increasing order, "
                             "where each value is between 1 and n_classes-1")
        options = {"device": device, "dtype": dtype}
        self.in_features, self.n_classes, self.div_value, self.head_bias = in_features, n_classes, div_value, head_bias
        self.cutoffs = [*cutoffs, n_classes]
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, **options)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            width = int(in_features // div_value ** (i + 1))
            self.tail.append(Sequential(Linear(in_features, width, bias=False, **options),
                                        Linear(width, self.cutoffs[i + 1] - self.cutoffs[i], bias=False, **options)))

    def reset_parameters(self) -> None:
        """Draw all weights again."""
        self.head.reset_parameters()
        for cluster in self.tail:
            for layer in cluster:
                layer.reset_parameters()

    def forward(self, input: Tensor, target: Tensor) -> _ASMoutput:
        x, classes = self._batched(input, target)
        number, local = classes, []
        for i, (low, high) in enumerate(zip(self.cutoffs, self.cutoffs[1:])):
            rows = ((classes >= low) & (classes < high)).nonzero().squeeze(1)
            if rows.numel():
                inside = F.log_softmax(self.tail[i](x.index_select(0, rows)), dim=1)
                places = (classes.index_select(0, rows) - low).unsqueeze(1)
                local.append((rows, inside.gather(1, places).squeeze(1)))
                number = number.index_fill(0, rows, self.shortlist_size + i)
        output = F.log_softmax(self.head(x), dim=1).gather(1, number.unsqueeze(1)).squeeze(1)
        for rows, found in local:
            output = output.index_add(0, rows, found)
        loss = -output.mean()
        return _ASMoutput(output if target.ndim else output.squeeze(0), loss)

    def _batched(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if target.ndim == 1:
            if input.shape[0] != target.shape[0]:
                raise RuntimeError("Input and target should have the same size in the batch dimension.")
            if input.ndim != 2:
                raise RuntimeError("1D target tensor expects 2D input tensors, but found inputs with size "
                                   f"{input.size()}")
        elif target.ndim == 0:
            if input.ndim != 1:
                raise RuntimeError("0D target tensor expects 1D input tensors, but found inputs with size "
                                   f"{input.size()}")
        else:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        x, classes = (input, target) if target.ndim else (input.unsqueeze(0), target.unsqueeze(0))
        if classes.numel():
            least, most = int(classes.min()), int(classes.max())
            if least < 0 or most >= self.n_classes:
                raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                                   f"[{least}, {most}] were found. ")
        return x, classes

    def log_prob(self, input: Tensor) -> Tensor:
        """[N, n_classes]: the log-probabilities of all classes."""
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, :self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            parts.append(F.log_softmax(cluster(input), dim=1) + head[:, self.shortlist_size + i].unsqueeze(1))
        return jtorch.cat(parts, dim=1)

    def predict(self, input: Tensor) -> Tensor:
        """[N]: the most probable class. The clusters are computed for the examples that the head sends there."""
        best = self.head(input).argmax(dim=1)
        rows = (best >= self.shortlist_size).nonzero().squeeze(1)
        if not rows.numel():
            return best
        return best.index_copy(0, rows, self.log_prob(input.index_select(0, rows)).argmax(dim=1))
