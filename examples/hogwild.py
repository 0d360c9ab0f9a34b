"""Hogwild: several processes train one model in shared memory, without waiting for each other.

    python -m jtorch examples/hogwild.py [--processes 2] [--epochs 3]

The parameters lie in memory that all processes have. Each one reads them, computes a gradient on batches of its own,
and writes its update in place; now and then one overwrites a little of another's work, which does no harm.
"""
import argparse

import torch
import torch.multiprocessing as mp
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def spirals(samples=900, classes=3):
    """Points of the plane on the arms of a spiral, and which arm."""
    generator = torch.Generator().manual_seed(0)
    radius = torch.rand(samples, generator=generator)
    arm = torch.arange(samples) % classes
    angle = 4 * radius + arm * (6.2832 / classes) + 0.2 * torch.randn(samples, generator=generator)
    return torch.stack([radius * torch.sin(angle), radius * torch.cos(angle)], 1), arm


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))


def train(rank, model, epochs):
    """The work of one process: it has the model's memory, and an order of the samples of its own."""
    torch.manual_seed(1 + rank)
    torch.set_num_threads(1)
    loader = DataLoader(TensorDataset(*spirals()), batch_size=30, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for points, arm in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(points), arm).backward()
            optimizer.step()


def evaluate(model):
    points, arm = spirals()
    with torch.no_grad():
        logits = model(points)
    return nn.functional.cross_entropy(logits, arm).item(), (logits.argmax(1) == arm).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    model = build()
    model.share_memory()
    print("before: loss {:.3f}, accuracy {:.3f}".format(*evaluate(model)))
    mp.spawn(train, args=(model, options.epochs), nprocs=options.processes)
    print("after:  loss {:.3f}, accuracy {:.3f}".format(*evaluate(model)))


if __name__ == "__main__":
    main()
