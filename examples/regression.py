"""Fit a noisy parabola with four optimizers and compare them: SGD, SGD with momentum, RMSprop, Adam.

    python -m jtorch examples/regression.py        (or, with PyTorch, python examples/regression.py)

Prints the loss of each optimizer after every epoch; writes the loss curves and the fitted curves as
examples/out/regression.png.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OPTIMIZERS = {
    "SGD": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),
    "momentum": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.8),
    "RMSprop": lambda parameters, lr: torch.optim.RMSprop(parameters, lr=lr, alpha=0.9),
    "Adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.99)),
}


class Net(nn.Module):
    def __init__(self, hidden=20):
        super().__init__()
        self.hidden = nn.Linear(1, hidden)
        self.predict = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.predict(torch.relu(self.hidden(x)))


def make_data(points):
    x = torch.unsqueeze(torch.linspace(-1, 1, points), dim=1)
    return x, x.pow(2) + 0.1 * torch.randn(x.size())


def train(title, x, y, options):
    """One model with one optimizer; the model and the loss of each step."""
    torch.manual_seed(options.seed)
    loader = DataLoader(TensorDataset(x, y), batch_size=options.batch, shuffle=True)
    model, loss_function = Net(), nn.MSELoss()
    optimizer = OPTIMIZERS[title](model.parameters(), options.lr)
    losses = []
    for epoch in tqdm(range(1, options.epochs + 1), desc=title, disable=None):
        for inputs, targets in loader:
            loss = loss_function(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        mean = sum(losses[-len(loader):]) / len(loader)
        tqdm.write(f"{title:8} epoch {epoch:2}  loss {mean:.6f}")
    return model, losses


def plot(runs, x, y, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    right.scatter(x.flatten(), y.flatten(), s=4, color="lightgray")
    for title, (model, losses) in runs.items():
        left.semilogy(losses, linewidth=0.9, alpha=0.9, label=title)
        with torch.no_grad():
            right.plot(x.flatten(), model(x).flatten(), linewidth=2, label=title)
    left.set(xlabel="step", ylabel="mean squared error", title="Loss")
    right.set(xlabel="x", ylabel="y", title="Fitted curves")
    left.legend()
    right.legend()
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the picture goes")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    x, y = make_data(options.points)
    runs = {title: train(title, x, y, options) for title in OPTIMIZERS}
    options.out.mkdir(parents=True, exist_ok=True)
    plot(runs, x, y, options.out / "regression.png")


if __name__ == "__main__":
    main()
