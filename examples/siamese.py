"""A siamese network learns which handwritten digits are alike: one network, two images, one contrastive loss.

    python -m jtorch examples/siamese.py           (or, with PyTorch, python examples/siamese.py)

The images are the 1797 of 8x8 pixels that come with scikit-learn. Prints the loss and how often the nearest of ten
labelled examples has the right label; writes the embedded test digits as examples/out/siamese.png.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

matplotlib.use("Agg")
import matplotlib.pyplot as plt


class Pairs(Dataset):
    """Pairs of images, every other one of the same digit, drawn anew whenever they are asked for."""

    def __init__(self, images, labels, count):
        self.images, self.count = images, count
        self.of_digit = [torch.nonzero(labels == digit).flatten() for digit in range(10)]

    def __len__(self):
        return self.count

    def draw(self, digit):
        places = self.of_digit[digit]
        return self.images[places[torch.randint(len(places), (1,)).item()]]

    def __getitem__(self, index):
        same = index % 2
        first = torch.randint(10, (1,)).item()
        second = first if same else (first + torch.randint(1, 10, (1,)).item()) % 10
        return self.draw(first), self.draw(second), float(same)


class Siamese(nn.Module):
    def __init__(self, embedding=2):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.PReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.PReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.embed = nn.Sequential(nn.Linear(128, 64), nn.PReLU(), nn.Linear(64, embedding))

    def forward_once(self, x):
        return self.embed(self.features(x))

    def forward(self, first, second):
        return self.forward_once(first), self.forward_once(second)


class ContrastiveLoss(nn.Module):
    """Hadsell, Chopra, LeCun (2006): the same close together, others at least a margin apart."""

    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, first, second, same):
        distance = F.pairwise_distance(first, second)
        return (same * distance.pow(2) + (1 - same) * (self.margin - distance).clamp(min=0).pow(2)).mean()


def accuracy(model, images, labels, known, known_labels):
    """How often the nearest of the known images has the right label."""
    model.eval()
    with torch.no_grad():
        found, examples = model.forward_once(images), model.forward_once(known)
        nearest = torch.cdist(found, examples).topk(10, largest=False).indices
        right = known_labels[nearest].mode(dim=1).values == labels
    model.train()
    return right.float().mean().item(), found


def plot(points, labels, path):
    figure, place = plt.subplots(figsize=(7, 6), layout="constrained")
    picture = place.scatter(points[:, 0], points[:, 1], c=labels, cmap="tab10", s=14)
    figure.colorbar(picture, ticks=range(10))
    place.set_title("Test digits where the network puts them")
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=4000, help="pairs in an epoch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the picture goes")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16, torch.from_numpy(labels).long()
    train_images, train_labels, test_images, test_labels = images[:1400], labels[:1400], images[1400:], labels[1400:]
    loader = DataLoader(Pairs(train_images, train_labels, options.pairs), batch_size=options.batch, shuffle=True)
    model, loss_function = Siamese(), ContrastiveLoss()
    optimizer = torch.optim.NAdam(model.parameters(), lr=options.lr)
    for epoch in range(1, options.epochs + 1):
        losses = []
        for first, second, same in loader:
            optimizer.zero_grad()
            loss = loss_function(*model(first, second), same.float())
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        right, points = accuracy(model, test_images, test_labels, train_images[:200], train_labels[:200])
        print(f"epoch {epoch:2}  loss {sum(losses) / len(losses):.5f}  accuracy {right:.1%}")
    options.out.mkdir(parents=True, exist_ok=True)
    plot(points, test_labels, options.out / "siamese.png")


if __name__ == "__main__":
    main()
