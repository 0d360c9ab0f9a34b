"""Classify handwritten digits with a convolutional network, in the manner of PyTorch's MNIST example.

    python -m jtorch examples/cnn.py               (or, with PyTorch, python examples/cnn.py)

The images are the 1797 of 8x8 pixels that come with scikit-learn. Prints training loss and test accuracy of every
epoch; writes the misclassified test digits as examples/out/cnn.png.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset, random_split
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1, padding=1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(1024, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.max_pool2d(x, 2)
        x = torch.flatten(self.dropout1(x), 1)
        x = self.dropout2(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def load_data():
    images, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    images = (images - images.mean()) / images.std()
    data = TensorDataset(images, torch.from_numpy(labels).long())
    return random_split(data, [1437, 360], generator=torch.Generator().manual_seed(0))


def train(model, device, loader, optimizer, epoch):
    model.train()
    total = 0.0
    for images, labels in tqdm(loader, desc=f"epoch {epoch}", leave=False, disable=None):
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.nll_loss(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
    return total / len(loader.dataset)


def test(model, device, loader):
    """Mean loss, accuracy, and the (image, label, prediction) of every mistake."""
    model.eval()
    loss, correct, mistakes = 0.0, 0, []
    with torch.no_grad():
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            output = model(images)
            loss += F.nll_loss(output, labels, reduction="sum").item()
            predicted = output.argmax(dim=1)
            right = predicted.eq(labels)
            correct += right.sum().item()
            mistakes += list(zip(images[~right], labels[~right].tolist(), predicted[~right].tolist()))
    return loss / len(loader.dataset), correct / len(loader.dataset), mistakes


def plot(mistakes, count, path):
    shown = mistakes[:16]
    rows = 1 + (len(shown) > 8)
    figure, axes = plt.subplots(rows, 8, figsize=(11, 0.6 + 1.5 * rows), squeeze=False, layout="constrained")
    figure.suptitle(f"{len(mistakes)} of {count} test digits are misclassified")
    for place in axes.flat:
        place.axis("off")
    for place, (image, label, predicted) in zip(axes.flat, shown):
        place.imshow(image[0].cpu(), cmap="gray_r")
        place.set_title(f"{label} taken for {predicted}", fontsize=9)
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--gamma", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the picture goes")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_data, test_data = load_data()
    train_loader = DataLoader(train_data, batch_size=options.batch_size, shuffle=True)
    test_loader = DataLoader(test_data, batch_size=360)
    model = Net().to(device)
    optimizer = optim.Adadelta(model.parameters(), lr=options.lr)
    scheduler = StepLR(optimizer, step_size=1, gamma=options.gamma)
    for epoch in range(1, options.epochs + 1):
        train_loss = train(model, device, train_loader, optimizer, epoch)
        test_loss, accuracy, mistakes = test(model, device, test_loader)
        tqdm.write(f"epoch {epoch:2}  training loss {train_loss:.5f}  test loss {test_loss:.5f}  "
                   f"accuracy {accuracy:.1%}")
        scheduler.step()
    options.out.mkdir(parents=True, exist_ok=True)
    plot(mistakes, len(test_data), options.out / "cnn.png")


if __name__ == "__main__":
    main()
