"""Predict sine waves with LSTM cells and LBFGS, in the manner of PyTorch's time series example.

    python -m jtorch examples/time_series.py       (or, with PyTorch, python examples/time_series.py)

Each step of the optimizer sees all waves at once. Prints training and test loss; writes the waves and how the network
continues them as examples/out/time_series.png.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
from torch import nn

matplotlib.use("Agg")
import matplotlib.pyplot as plt


class Sequence(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.hidden = hidden
        self.lstm1 = nn.LSTMCell(1, hidden)
        self.lstm2 = nn.LSTMCell(hidden, hidden)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, waves, future=0):
        """The next value after each one of [N, T], and `future` more: [N, T + future]."""
        outputs = []
        h1, c1, h2, c2 = (torch.zeros(waves.size(0), self.hidden, dtype=waves.dtype) for _ in range(4))
        for x in waves.split(1, dim=1):
            h1, c1 = self.lstm1(x, (h1, c1))
            h2, c2 = self.lstm2(h1, (h2, c2))
            output = self.linear(h2)
            outputs.append(output)
        for _ in range(future):
            h1, c1 = self.lstm1(output, (h1, c1))
            h2, c2 = self.lstm2(h1, (h2, c2))
            output = self.linear(h2)
            outputs.append(output)
        return torch.cat(outputs, dim=1)


def make_waves(count, length, period):
    start = torch.randint(-4 * period, 4 * period, (count, 1))
    return torch.sin((torch.arange(length) + start) / period).double()


def plot(curve, targets, predicted, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 4.5), layout="constrained")
    left.semilogy(curve)
    left.set(xlabel="evaluation", ylabel="mean squared error", title="Loss")
    length = targets.size(1)
    for wave, color in zip(predicted, ("C0", "C1", "C2")):
        right.plot(range(length), wave[:length], color=color, linewidth=2)
        right.plot(range(length, len(wave)), wave[length:], color=color, linewidth=2, linestyle=":")
    right.set(title="Predicted values: dotted, from its own predictions", xlabel="time")
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--waves", type=int, default=24)
    parser.add_argument("--length", type=int, default=120)
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--max-iter", type=int, default=10, help="evaluations in a step of LBFGS, about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the picture goes")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    data = make_waves(options.waves, options.length, period=12)
    inputs, targets = data[3:, :-1], data[3:, 1:]
    test_inputs, test_targets = data[:3, :-1], data[:3, 1:]
    model = Sequence(options.hidden).double()
    criterion = nn.MSELoss()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.8, max_iter=options.max_iter)
    curve = []

    def closure():
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        curve.append(loss.item())
        return loss

    for step in range(1, options.steps + 1):
        first = optimizer.step(closure)
        with torch.no_grad():
            predicted = model(test_inputs, future=options.length)
            test_loss = criterion(predicted[:, :test_targets.size(1)], test_targets)
        print(f"step {step:2}  training loss {first.item():.6f}  test loss {test_loss.item():.6f}")
    options.out.mkdir(parents=True, exist_ok=True)
    plot(curve, test_targets, predicted, options.out / "time_series.png")


if __name__ == "__main__":
    main()
