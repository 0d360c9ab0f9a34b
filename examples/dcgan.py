"""A deep convolutional generative adversarial network that draws handwritten digits.

    python -m jtorch examples/dcgan.py             (or, with PyTorch, python examples/dcgan.py)

The real images are the 1797 of scikit-learn, enlarged to 16x16 pixels. Prints the losses of discriminator and generator
of every epoch; writes drawn digits and the loss curves as examples/out/dcgan.png.

After A. Radford, L. Metz and S. Chintala, Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks, 2016.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LATENT = 32


def init_weights(module):
    name = module.__class__.__name__
    if "Conv" in name:
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif "BatchNorm" in name:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def make_generator(width):
    return nn.Sequential(
        nn.ConvTranspose2d(LATENT, 4 * width, 4, 1, 0, bias=False),  # 4x4
        nn.BatchNorm2d(4 * width),
        nn.ReLU(True),
        nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False),  # 8x8
        nn.BatchNorm2d(2 * width),
        nn.ReLU(True),
        nn.ConvTranspose2d(2 * width, 1, 4, 2, 1, bias=False),  # 16x16
        nn.Tanh(),
    )


def make_discriminator(width):
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1, bias=False),  # 8x8
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),  # 4x4
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(2 * width, 1, 4, 1, 0, bias=False),
        nn.Flatten(0),
    )


def load_images():
    images = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 8 - 1  # -1..1
    return F.interpolate(images, size=(16, 16), mode="bilinear", align_corners=False)


def train(generator, discriminator, images, options):
    """Adversarial training; the mean losses of each epoch."""
    loader = DataLoader(TensorDataset(images), batch_size=options.batch, shuffle=True, drop_last=True)
    criterion = nn.BCEWithLogitsLoss()
    optimizer_g = optim.Adam(generator.parameters(), lr=options.lr, betas=(0.5, 0.999))
    optimizer_d = optim.Adam(discriminator.parameters(), lr=options.lr, betas=(0.5, 0.999))
    real_label, fake_label = torch.full((options.batch,), 0.9), torch.zeros(options.batch)
    curves = []
    for epoch in range(1, options.epochs + 1):
        total_d = total_g = 0.0
        for (real,) in tqdm(loader, desc=f"epoch {epoch}", leave=False, disable=None):
            # The discriminator learns to tell real images from drawn ones ...
            discriminator.zero_grad()
            loss_real = criterion(discriminator(real), real_label)
            loss_real.backward()
            fake = generator(torch.randn(options.batch, LATENT, 1, 1))
            loss_fake = criterion(discriminator(fake.detach()), fake_label)
            loss_fake.backward()
            optimizer_d.step()
            # ... and the generator to draw what it takes for real.
            generator.zero_grad()
            loss_g = criterion(discriminator(fake), torch.ones(options.batch))
            loss_g.backward()
            optimizer_g.step()
            total_d += loss_real.item() + loss_fake.item()
            total_g += loss_g.item()
        curves.append((total_d / len(loader), total_g / len(loader)))
        tqdm.write(f"epoch {epoch:3}  discriminator {curves[-1][0]:.4f}  generator {curves[-1][1]:.4f}")
    return curves


def plot(generator, noise, real, curves, path):
    generator.eval()
    with torch.no_grad():
        drawn = generator(noise)
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    for place, images, title in ((axes[0], real, "real"), (axes[1], drawn, "drawn by the generator")):
        place.imshow(images[:64].view(8, 8, 16, 16).permute(0, 2, 1, 3).reshape(128, 128), cmap="gray_r")
        place.set_title(title)
        place.axis("off")
    axes[2].plot(curves, label=["discriminator", "generator"])
    axes[2].set(xlabel="epoch", title="binary cross entropy")
    axes[2].legend()
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=32, help="channels")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--images", type=int, default=1797, help="how many images to train on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the picture goes")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    images = load_images()[:options.images]
    generator = make_generator(options.width).apply(init_weights)
    discriminator = make_discriminator(options.width).apply(init_weights)
    noise = torch.randn(64, LATENT, 1, 1)
    curves = train(generator, discriminator, images, options)
    options.out.mkdir(parents=True, exist_ok=True)
    plot(generator, noise, images, curves, options.out / "dcgan.png")


if __name__ == "__main__":
    main()
