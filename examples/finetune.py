"""Fine-tune from a checkpoint: a network that knows the digits 0 to 4 learns 5 to 9, most of it frozen.

    python -m jtorch examples/finetune.py          (or, with PyTorch, python examples/finetune.py)

Pretrains and saves examples/out/digits_0_to_4.pt, or takes it from there with --checkpoint FILE: PyTorch loads what
jtorch saved, and the other way around. The images are the 1797 of 8x8 pixels that come with scikit-learn. Prints loss
and test accuracy; writes them as examples/out/finetune.png.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

matplotlib.use("Agg")
import matplotlib.pyplot as plt


class Net(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.fc = nn.Linear(128, classes)

    def forward(self, x):
        return self.fc(self.features(x))


def load_data(digits, batch):
    """Training and test batches of these digits only, numbered from 0."""
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16, torch.from_numpy(labels).long()
    wanted = torch.isin(labels, torch.tensor(digits))
    images, labels = images[wanted], labels[wanted] - digits[0]
    data, test = TensorDataset(images[:-200], labels[:-200]), TensorDataset(images[-200:], labels[-200:])
    return DataLoader(data, batch_size=batch, shuffle=True), DataLoader(test, batch_size=200)


def accuracy(model, loader):
    model.eval()
    with torch.no_grad():
        right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in loader)
    return right / len(loader.dataset)


def train(title, model, optimizer, loaders, epochs, first_epoch=1):
    """Losses and accuracies, an epoch each."""
    curve = []
    for epoch in range(first_epoch, first_epoch + epochs):
        model.train()
        losses = []
        for images, labels in loaders[0]:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curve.append((sum(losses) / len(losses), accuracy(model, loaders[1])))
        print(f"{title}: epoch {epoch:2}  loss {curve[-1][0]:.5f}  accuracy {curve[-1][1]:.1%}")
    return curve


def pretrain(path, options):
    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    curve = train("digits 0 to 4", model, optimizer, load_data(range(5), options.batch), options.epochs)
    torch.save({"epoch": options.epochs, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                "curve": curve}, path)
    print(f"checkpoint: {path}")


def finetune(path, options):
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = Net()
    model.load_state_dict(checkpoint["model"])
    print(f"loaded: {accuracy(model, load_data(range(5), options.batch)[1]):.1%} of the digits 0 to 4 are right, "
          f"after epoch {checkpoint['epoch']}  loss {checkpoint['curve'][-1][0]:.5f}")
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, 5)
    loaders = load_data(range(5, 10), options.batch)
    head = optim.Adam(model.fc.parameters(), lr=0.01)
    curve = train("new head", model, head, loaders, options.epochs)
    for parameter in model.parameters():
        parameter.requires_grad = True
    whole = optim.AdamW([{"params": model.features.parameters(), "lr": 1e-3},
                         {"params": model.fc.parameters(), "lr": 5e-3}])
    return checkpoint["curve"], curve + train("everything", model, whole, loaders, options.epochs, options.epochs + 1)


def plot(curves, path):
    figure, places = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for place, title, values in zip(places, ("loss", "accuracy"), range(2)):
        for name, curve in zip(("digits 0 to 4, from nothing", "digits 5 to 9, from the checkpoint"), curves):
            place.plot(range(1, len(curve) + 1), [point[values] for point in curve], marker=".", label=name)
        place.set(xlabel="epoch", title=title)
        place.legend()
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="fine-tune from this file")
    parser.add_argument("--epochs", type=int, default=5, help="of each of the three trainings")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where files go")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    path = options.checkpoint
    if path is None:
        path = options.out / "digits_0_to_4.pt"
        pretrain(path, options)
    torch.manual_seed(options.seed + 1)
    plot(finetune(path, options), options.out / "finetune.png")


if __name__ == "__main__":
    main()
