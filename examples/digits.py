"""Train a small CNN on the UCI handwritten digits, once eagerly and once with the training step under `jit.trace`.

`python examples/digits.py` (or `make demo`) prints both accuracies and step times, shows the graph that the traced
step was compiled to and one of its generated kernels, and writes the loss curves and the misclassified digits as PNG
into examples/out.
"""

import argparse
import statistics
import sys
import textwrap
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import jtorch as torch
from jtorch import jit, nn
from jtorch.nn import functional as F

BATCH = 64
TEST_IMAGES = 360
TARGET_ACCURACY = 0.97
SHOWN_LINES = 50


def load_data():
    """Shuffled training and test images (N, 1, 8, 8) in 0..1 and their labels."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = torch.from_numpy((images[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8))
    labels = torch.from_numpy(labels[order].astype(np.int64))
    return (images[TEST_IMAGES:], labels[TEST_IMAGES:]), (images[:TEST_IMAGES], labels[:TEST_IMAGES])


def make_model():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.4),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Dropout(0.4),
        nn.Linear(64, 10),
    )


def make_step(model):
    """One training step with Adam, an ordinary PyTorch one."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def step(images, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def train(step, images, labels, epochs, title):
    """Run the epochs; the loss and the seconds of every step."""
    losses, seconds = [], []
    steps = len(images) // BATCH
    with tqdm(total=epochs * steps, desc=title, disable=None) as bar:
        for _ in range(epochs):
            order = torch.randperm(len(images))
            for batch in order[: steps * BATCH].view(steps, BATCH):
                start = time.perf_counter()
                losses.append(step(images[batch], labels[batch]).item())
                seconds.append(time.perf_counter() - start)
                bar.update()
            bar.set_postfix(loss=f"{losses[-1]:.4f}")
    return losses, seconds


@torch.no_grad()
def predict(model, images):
    model.eval()
    predictions = model(images).argmax(1)
    model.train()
    return predictions


def accuracy(model, images, labels):
    return (predict(model, images) == labels).float().mean().item()


def train_twice(train_data, test_data, epochs):
    """Train from the same seed eagerly and traced.

    Gives the model, losses and steady step time of each, by title, and the traced step.
    """
    runs = {}
    for title in ("eager", "traced"):
        torch.manual_seed(0)
        model = make_model()
        step = make_step(model)
        if title == "traced":
            step = jit.trace(step)
        losses, seconds = train(step, *train_data, epochs, title)
        steady = statistics.median(seconds[len(seconds) // 2 :])
        runs[title] = model, losses, steady
        print(
            f"{title:6} test accuracy {accuracy(model, *test_data):.1%}, "
            f"first step {seconds[0]:.2f} s, later steps {steady * 1e6:,.0f} µs"
        )
    return runs, step


def show_compiled(step):
    """Print the graph of the traced step, what was fused into which kernel, and the source of one kernel."""
    lines = str(step.graph).splitlines()
    print(f"\nThe traced step as a graph ({len(lines)} lines):\n")
    print("\n".join(lines[:SHOWN_LINES]))
    if len(lines) > SHOWN_LINES:
        print(f"... and {len(lines) - SHOWN_LINES} more lines")
    print(f"\nFused into {len(step.kernels)} kernels:\n")
    for kernel in step.kernels:
        print(textwrap.fill(f"{kernel.name}: {', '.join(kernel.ops)}", 120, subsequent_indent=" " * 10))
    largest = max(step.kernels, key=lambda kernel: len(kernel.ops))
    print(f"\n{largest.name}, with the lines of this file that it computes:\n")
    print(largest.annotated)


def plot_losses(runs, epochs, path):
    """Both loss curves: every step faintly, and the mean of an epoch as a line."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for (title, (_, losses, steady)), color, style in zip(runs.items(), ("tab:blue", "tab:orange"), ("-", "--")):
        steps = len(losses) // epochs
        means = np.reshape(losses, (epochs, steps)).mean(1)
        axes.semilogy(losses, color=color, alpha=0.25, linewidth=0.8)
        axes.semilogy((np.arange(epochs) + 0.5) * steps, means, style, color=color, linewidth=2,
                      label=f"{title}, {steady * 1e6:,.0f} µs a step")
    axes.set(xlabel="step", ylabel="cross entropy", title="Training on UCI handwritten digits")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def plot_mistakes(model, images, labels, path):
    """A picture of every test digit that the model gets wrong (at most 16 of them)."""
    predictions = predict(model, images)
    wrong = (predictions != labels).nonzero().flatten().tolist()
    shown = wrong[:16]
    rows = max(1, -(-len(shown) // 8))
    figure, grid = plt.subplots(rows, 8, figsize=(10, 0.7 + 1.45 * rows), layout="constrained")
    figure.suptitle(f"{len(wrong)} of {len(images)} test digits are misclassified")
    for axes in grid.flat:
        axes.axis("off")
    for axes, index in zip(grid.flat, shown, strict=False):
        axes.imshow(images[index, 0].numpy(), cmap="gray_r")
        axes.set_title(f"{labels[index].item()} taken for {predictions[index].item()}", fontsize=8)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description="Train a small CNN on handwritten digits, eagerly and traced.")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the pictures go")
    options = parser.parse_args()

    train_data, test_data = load_data()
    runs, step = train_twice(train_data, test_data, options.epochs)
    show_compiled(step)

    options.out.mkdir(parents=True, exist_ok=True)
    model = runs["traced"][0]
    plot_losses(runs, options.epochs, options.out / "loss.png")
    plot_mistakes(model, *test_data, options.out / "misclassified.png")
    print(f"\nPictures: {options.out / 'loss.png'}, {options.out / 'misclassified.png'}")
    print(f"A traced step takes {runs['traced'][2] / runs['eager'][2]:.0%} of the time of an eager one.")
    if options.epochs >= parser.get_default("epochs") and accuracy(model, *test_data) < TARGET_ACCURACY:
        sys.exit(f"test accuracy is below {TARGET_ACCURACY:.0%}")


if __name__ == "__main__":
    main()
