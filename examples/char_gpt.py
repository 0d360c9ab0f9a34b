"""A character-level GPT that learns to write like Shakespeare's sonnets.

    python -m jtorch examples/char_gpt.py          (or, with PyTorch, python examples/char_gpt.py)

The text is examples/data/sonnets.txt; `--text FILE` takes another. Prints training and validation loss and, at the
end, a sample; writes the loss curves and an attention map as examples/out/char_gpt.png.
"""

import argparse
import math
from pathlib import Path

import matplotlib
import torch
import torch.nn as nn
from torch.nn import functional as F
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent


class CausalSelfAttention(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def split(self, x):
        batch, length, width = x.shape
        return (part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
                for part in self.qkv(x).split(width, dim=2))

    def forward(self, x):
        q, k, v = self.split(x)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0, is_causal=True)
        return self.projection(y.transpose(1, 2).contiguous().view(x.shape))

    def scores(self, x):
        """The attention weights themselves, for looking at."""
        q, k, _ = self.split(x)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
        above = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        return scores.masked_fill(above, float("-inf")).softmax(-1)


class Block(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), CausalSelfAttention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width),
                                 nn.Dropout(dropout))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary, length, width, heads, layers, dropout):
        super().__init__()
        self.length = length
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.tokens.weight = self.head.weight  # tied
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, index, targets=None):
        x = self.drop(self.tokens(index) + self.positions(torch.arange(index.size(1), device=index.device)))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        loss = None if targets is None else F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
        return logits, loss

    @torch.no_grad()
    def generate(self, index, count, temperature=1.0, top_k=None):
        for _ in range(count):
            logits, _ = self(index[:, -self.length:])
            logits = logits[:, -1, :] / temperature
            if top_k is not None:
                kth = torch.topk(logits, top_k).values[:, [-1]]
                logits[logits < kth] = -float("inf")
            index = torch.cat([index, torch.multinomial(F.softmax(logits, dim=-1), num_samples=1)], dim=1)
        return index


def get_batch(data, batch, length):
    places = torch.randint(len(data) - length, (batch,))
    return (torch.stack([data[i:i + length] for i in places]),
            torch.stack([data[i + 1:i + 1 + length] for i in places]))


def configure_optimizer(model, lr):
    """AdamW with weight decay on matrices only."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
              {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99))


@torch.no_grad()
def validate(model, data, options):
    model.eval()
    losses = torch.zeros(5)
    for k in range(5):
        losses[k] = model(*get_batch(data, options.batch, options.length))[1].item()
    model.train()
    return losses.mean().item()


def plot(curves, model, index, alphabet, path):
    model.eval()
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 6), layout="constrained")
    for title, points in curves.items():
        left.plot(*zip(*points), label=title)
    left.set(xlabel="step", ylabel="cross entropy", title="Loss")
    left.legend()
    with torch.no_grad():
        x = model.tokens(index) + model.positions(torch.arange(index.size(1)))
        scores = model.blocks[0].attention.scores(model.blocks[0].norm1(x))[0].mean(0)
    right.imshow(scores.sqrt(), cmap="magma")
    labels = [repr(alphabet[i])[1:-1] for i in index[0].tolist()]
    right.set_xticks(range(len(labels)), labels, fontfamily="monospace", fontsize=8)
    right.set_yticks(range(len(labels)), labels, fontfamily="monospace", fontsize=8)
    right.set_title("Attention of the first block, mean of its heads (root)")
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path, default=FOLDER / "data" / "sonnets.txt")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=48)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--sample", type=int, default=400, help="characters to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=FOLDER / "out", help="where the picture goes")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    text = options.text.read_text()
    alphabet = sorted(set(text))
    data = torch.tensor([alphabet.index(c) for c in text], dtype=torch.long)
    train_data, validation_data = data[:int(0.9 * len(data))], data[int(0.9 * len(data)):]
    model = GPT(len(alphabet), options.length, options.width, options.heads, options.layers, options.dropout)
    optimizer = configure_optimizer(model, options.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.steps)
    print(f"{len(text)} characters, {len(alphabet)} different; "
          f"{sum(p.numel() for p in model.parameters())} parameters")

    curves = {"training": [], "validation": []}
    bar = tqdm(range(1, options.steps + 1), disable=None)
    for step in bar:
        _, loss = model(*get_batch(train_data, options.batch, options.length))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        curves["training"].append((step, loss.item()))
        bar.set_postfix(loss=f"{loss.item():.3f}")
        if step <= 3 or step % 50 == 0:
            curves["validation"].append((step, validate(model, validation_data, options)))
            tqdm.write(f"step {step:4}  training loss {loss.item():.5f}  "
                       f"validation loss {curves['validation'][-1][1]:.5f}")

    model.eval()
    written = model.generate(torch.tensor([[alphabet.index("\n")]]), options.sample, temperature=0.8, top_k=10)
    print("\n" + "".join(alphabet[i] for i in written[0].tolist()) + "\n")
    options.out.mkdir(parents=True, exist_ok=True)
    plot(curves, model, data[None, :min(40, options.length)], alphabet, options.out / "char_gpt.png")


if __name__ == "__main__":
    main()
