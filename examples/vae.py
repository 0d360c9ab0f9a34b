"""A variational autoencoder on handwritten digits.

    python -m jtorch examples/vae.py               (or, with PyTorch, python examples/vae.py)

The images are the 1797 of 8x8 pixels that come with scikit-learn. Prints the loss (negative evidence lower bound per
image) of every epoch; writes reconstructions, samples and the latent plane as examples/out/vae.png.

After D. Kingma and M. Welling, Auto-Encoding Variational Bayes, 2014.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt


class VAE(nn.Module):
    def __init__(self, hidden=128, latent=2):
        super().__init__()
        self.encode1 = nn.Linear(64, hidden)
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decode1 = nn.Linear(latent, hidden)
        self.decode2 = nn.Linear(hidden, 64)

    def encode(self, x):
        h = F.relu(self.encode1(x))
        return self.mean(h), self.log_variance(h)

    def decode(self, z):
        return torch.sigmoid(self.decode2(F.relu(self.decode1(z))))

    def forward(self, x):
        mean, log_variance = self.encode(x)
        std = torch.exp(0.5 * log_variance)
        z = mean + torch.randn_like(std) * std
        return self.decode(z), mean, log_variance


def negative_elbo(reconstruction, x, mean, log_variance):
    likelihood = F.binary_cross_entropy(reconstruction, x, reduction="sum")
    divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
    return likelihood + divergence


def plot(model, images, labels, path):
    model.eval()
    with torch.no_grad():
        reconstruction, mean, _ = model(images)
        steps = 2**0.5 * torch.erfinv(torch.linspace(-0.94, 0.94, 12))  # quantiles of the normal distribution
        plane = model.decode(torch.cartesian_prod(steps.flip(0), steps)).view(12, 12, 8, 8)
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained", width_ratios=(1, 1, 1.25))
    pairs = torch.stack([images[:36], reconstruction[:36]], 1).view(6, 6, 2, 8, 8)  # row, column, which, y, x
    axes[0].imshow(pairs.permute(0, 3, 1, 2, 4).reshape(48, 96), cmap="gray_r", aspect="auto")
    axes[0].set_title("digits and, right of each, their reconstruction")
    axes[1].imshow(plane.permute(0, 2, 1, 3).reshape(96, 96), cmap="gray_r")
    axes[1].set_title("decoded from a grid over the latent plane")
    points = axes[2].scatter(mean[:, 0], mean[:, 1], c=labels, cmap="tab10", s=8)
    axes[2].set_title("where the digits lie in the latent plane")
    figure.colorbar(points, ax=axes[2], ticks=range(10))
    for place in axes[:2]:
        place.axis("off")
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the picture goes")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32) / 16
    loader = DataLoader(images, batch_size=options.batch, shuffle=True)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    bar = tqdm(range(1, options.epochs + 1), disable=None)
    for epoch in bar:
        model.train()
        total = 0.0
        for x in loader:
            optimizer.zero_grad()
            reconstruction, mean, log_variance = model(x)
            loss = negative_elbo(reconstruction, x, mean, log_variance)
            loss.backward()
            optimizer.step()
            total += loss.item()
        bar.set_postfix(loss=f"{total / len(images):.3f}")
        if epoch <= 3 or epoch % 10 == 0:
            tqdm.write(f"epoch {epoch:3}  loss {total / len(images):.4f}")
    options.out.mkdir(parents=True, exist_ok=True)
    plot(model, images, labels, options.out / "vae.png")


if __name__ == "__main__":
    main()
