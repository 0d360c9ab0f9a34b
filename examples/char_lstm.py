"""A character-level LSTM that learns to write like Shakespeare's sonnets.

    python -m jtorch examples/char_lstm.py         (or, with PyTorch, python examples/char_lstm.py)

The text is examples/data/sonnets.txt; `--text FILE` takes another. Prints the loss and, at the end, a sample; writes
the loss curve and the hidden states over the sample as examples/out/char_lstm.png.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent


class CharLSTM(nn.Module):
    def __init__(self, vocabulary, hidden, layers):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True, dropout=0.2)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, characters, state=None):
        out, state = self.lstm(self.embedding(characters), state)
        return self.head(out), state


def batches(data, batch, length):
    """Consecutive windows of `batch` parallel streams through the text: (inputs, targets), endlessly."""
    steps = (len(data) - 1) // batch
    inputs = data[:batch * steps].view(batch, steps)
    targets = data[1:batch * steps + 1].view(batch, steps)
    while True:
        for start in range(0, steps - length + 1, length):
            yield start == 0, inputs[:, start:start + length], targets[:, start:start + length]


@torch.no_grad()
def sample(model, first, length, temperature):
    """Indices of written characters, and the hidden states of the last layer on the way."""
    model.eval()
    index, state, written, hidden = torch.tensor([[first]]), None, [], []
    for _ in range(length):
        logits, state = model(index, state)
        index = torch.multinomial(F.softmax(logits[0, -1] / temperature, dim=0), 1).view(1, 1)
        written.append(index.item())
        hidden.append(state[0][-1, 0])
    return written, torch.stack(hidden)


def plot(losses, text, hidden, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 5), layout="constrained", width_ratios=(1, 2))
    left.plot(losses)
    left.set(xlabel="step", ylabel="cross entropy", title="Loss")
    shown = min(len(text), 60)
    spread = hidden.std(0).argsort(descending=True)[:24]
    image = right.imshow(hidden[:shown, spread].T, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    right.set_xticks(range(shown), [repr(c)[1:-1] for c in text[:shown]], fontfamily="monospace", fontsize=8)
    right.set(ylabel="unit", title="The liveliest hidden units while the sample was written")
    figure.colorbar(image, ax=right)
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path, default=FOLDER / "data" / "sonnets.txt")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=48, help="characters that gradients go back through")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--sample", type=int, default=400, help="characters to write")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=FOLDER / "out", help="where the picture goes")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    text = options.text.read_text()
    alphabet = sorted(set(text))
    data = torch.tensor([alphabet.index(c) for c in text])
    model = CharLSTM(len(alphabet), options.hidden, options.layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    print(f"{len(text)} characters, {len(alphabet)} different; "
          f"{sum(p.numel() for p in model.parameters())} parameters")

    losses, state = [], None
    source = batches(data, options.batch, options.length)
    bar = tqdm(range(1, options.steps + 1), disable=None)
    for step in bar:
        fresh, inputs, targets = next(source)
        state = None if fresh else tuple(s.detach() for s in state)
        logits, state = model(inputs, state)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
        if step <= 5 or step % 50 == 0:
            tqdm.write(f"step {step:4}  loss {losses[-1]:.5f}")

    written, hidden = sample(model, alphabet.index("\n"), options.sample, options.temperature)
    written = "".join(alphabet[i] for i in written)
    print(f"\n{written}\n")
    options.out.mkdir(parents=True, exist_ok=True)
    plot(losses, written, hidden, options.out / "char_lstm.png")


if __name__ == "__main__":
    main()
