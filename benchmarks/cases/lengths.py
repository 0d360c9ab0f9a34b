"""Training classifiers of token sequences, eagerly, where each batch has a width of its own: 32 sequences padded to a
length that is drawn anew, from 8 to 64 tokens. A call is ten steps, after fifty that are not measured."""

import functools

import numpy as np

from benchmarks.case import Case, Program

VOCABULARY, WIDTH, HIDDEN, CLASSES, BATCH, SHORTEST, LONGEST = 1000, 64, 128, 4, 32, 8, 64
STEPS, WARM_UP = 10, 50


def classifier(torch, kind):
    nn = torch.nn

    class Classifier(nn.Module):
        """An embedding, something that reads a sequence, and a linear head."""

        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            if kind == "attention":
                self.reader = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, 0.0, batch_first=True)
            elif kind != "mean":
                self.reader = getattr(nn, kind.removeprefix("packed "))(WIDTH, HIDDEN, batch_first=True)
            self.head = nn.Linear(WIDTH if kind in ("attention", "mean") else HIDDEN, CLASSES)

        def forward(self, tokens, lengths):
            x = self.tokens(tokens)
            if kind == "packed LSTM":
                packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
                return self.head(self.reader(packed)[1][0][-1])
            if kind in ("LSTM", "GRU"):
                x = self.reader(x)[0][torch.arange(len(lengths)), lengths - 1]  # each one's last
                return self.head(x)
            there = torch.arange(tokens.shape[1]) < lengths[:, None]
            if kind == "attention":
                x = self.reader(x, src_key_padding_mask=~there)
            return self.head((x * there[..., None]).sum(1) / lengths[:, None])

    torch.manual_seed(0)
    return Classifier()


def build(torch, kind):
    chooser = np.random.default_rng(0)
    model = classifier(torch, kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        longest = int(chooser.integers(SHORTEST, LONGEST + 1))
        lengths = torch.from_numpy(chooser.integers(1, longest + 1, BATCH))
        tokens = torch.from_numpy(chooser.integers(0, VOCABULARY, (BATCH, longest)))
        target = torch.from_numpy(chooser.integers(0, CLASSES, BATCH))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(tokens, lengths), target)
        loss.backward()
        optimizer.step()
        return loss

    def steps():
        for _ in range(STEPS - 1):
            step()
        return step()

    for _ in range(WARM_UP // STEPS):
        steps().item()
    return Program(steps)


CASES = [
    Case(f"train {name}, lengths drawn", functools.partial(build, kind=kind), eager_only=True, operations=STEPS)
    for kind, name in (("LSTM", "LSTM"), ("packed LSTM", "packed LSTM"), ("GRU", "GRU"), ("mean", "mean of embeddings"),
                       ("attention", "attention"))
]
