"""Recommend films by matrix factorisation: a rating is the product of two embeddings, and two biases.

    python -m jtorch examples/matrix_factorization.py    (or, with PyTorch, python examples/matrix_factorization.py)

The ratings are made up, from hidden tastes. They go into an HDF5 file and are read from there in batches through h5py,
as one reads what does not fit into memory. Prints training and test error; writes error curves, the learned
tastes beside the hidden ones, as examples/out/matrix_factorization.png.
"""

import argparse
from pathlib import Path

import h5py
import matplotlib
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TASTES = 3


def write_ratings(path, users, films, ratings, seed):
    """Ratings from 1 to 5 of random films by random users, who like films by what is in them."""
    rng = np.random.default_rng(seed)
    likes, contents = rng.normal(0, 0.8, (users, TASTES)), rng.normal(0, 0.8, (films, TASTES))
    user, film = rng.integers(0, users, ratings), rng.integers(0, films, ratings)
    generous, good = rng.normal(0, 0.4, users), rng.normal(0, 0.4, films)
    score = 3 + (likes[user] * contents[film]).sum(1) + generous[user] + good[film] + rng.normal(0, 0.2, ratings)
    split = int(0.9 * ratings)
    with h5py.File(path, "w") as file:
        file.attrs.update(users=users, films=films)
        for name, part in (("train", slice(split)), ("test", slice(split, None))):
            group = file.create_group(name)
            group.create_dataset("pairs", data=np.stack([user, film], 1)[part], chunks=True)
            group.create_dataset("rating", data=score.clip(1, 5).astype(np.float32)[part], chunks=True)
        file.create_dataset("contents", data=contents.astype(np.float32))


class Ratings(Dataset):
    """One part of the file. Given a list of indices, it reads them in one go."""

    def __init__(self, path, part):
        self.file = h5py.File(path, "r")
        self.pairs, self.rating = self.file[part]["pairs"], self.file[part]["rating"]

    def __len__(self):
        return len(self.rating)

    def __getitem__(self, index):
        return self.pairs[index], self.rating[index]

    def __getitems__(self, indices):
        order = np.argsort(indices)  # HDF5 wants them increasing
        rows = np.asarray(indices)[order]
        pairs, rating = self.pairs[rows], self.rating[rows]
        back = np.argsort(order)
        return list(zip(pairs[back], rating[back]))


class Factorization(nn.Module):
    def __init__(self, users, films, factors):
        super().__init__()
        self.user, self.film = nn.Embedding(users, factors), nn.Embedding(films, factors)
        self.user_bias, self.film_bias = nn.Embedding(users, 1), nn.Embedding(films, 1)
        self.mean = nn.Parameter(torch.tensor(3.0))
        for table in (self.user, self.film):
            nn.init.normal_(table.weight, std=0.1)
        for table in (self.user_bias, self.film_bias):
            nn.init.zeros_(table.weight)

    def forward(self, pairs):
        user, film = pairs.unbind(1)
        product = (self.user(user) * self.film(film)).sum(1)
        return product + self.user_bias(user).squeeze(1) + self.film_bias(film).squeeze(1) + self.mean


def error(model, loader):
    """Root of the mean squared error."""
    with torch.no_grad():
        squares = sum(nn.functional.mse_loss(model(pairs), rating, reduction="sum") for pairs, rating in loader)
    return (squares / len(loader.dataset)).sqrt().item()


def aligned(learned, hidden):
    """The learned factors, turned so that they lie as near to the hidden ones as they can."""
    solution = torch.linalg.lstsq(learned - learned.mean(0), hidden - hidden.mean(0)).solution
    return (learned - learned.mean(0)) @ solution


def plot(curves, model, path, data):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for title, points in curves.items():
        left.plot(range(1, len(points) + 1), points, label=title)
    left.set(xlabel="epoch", ylabel="root mean squared error", title="Error of a rating")
    left.legend()
    with h5py.File(data) as file:
        hidden = torch.from_numpy(file["contents"][:])
    found = aligned(model.film.weight.detach(), hidden)
    for k in range(TASTES):
        right.scatter(hidden[:, k], found[:, k], s=9, label=f"taste {k + 1}")
    right.set(xlabel="hidden", ylabel="learned", title="What is in the films")
    right.legend()
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--ratings", type=int, default=30_000)
    parser.add_argument("--factors", type=int, default=4)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where data and picture go")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    data = options.out / "ratings.h5"
    write_ratings(data, options.users, options.films, options.ratings, options.seed)
    torch.manual_seed(options.seed)
    loaders = {part: DataLoader(Ratings(data, part), batch_size=options.batch, shuffle=part == "train")
               for part in ("train", "test")}
    model = Factorization(options.users, options.films, options.factors)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    curves = {"training": [], "test": []}
    for epoch in range(1, options.epochs + 1):
        total = 0.0
        for pairs, rating in loaders["train"]:
            loss = nn.functional.mse_loss(model(pairs), rating)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rating)
        scheduler.step()
        curves["training"].append((total / len(loaders["train"].dataset)) ** 0.5)
        curves["test"].append(error(model, loaders["test"]))
        print(f"epoch {epoch:2}  training error {curves['training'][-1]:.5f}  test error {curves['test'][-1]:.5f}")
    plot(curves, model, options.out / "matrix_factorization.png", data)


if __name__ == "__main__":
    main()
