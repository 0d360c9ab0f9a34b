"""Training a small GPT on characters: 4 layers of 128, 4 heads, batch 12 of 64 tokens, AdamW."""

import numpy as np

from benchmarks.case import Case

from .training import training_program

LAYERS, WIDTH, HEADS, BATCH, TIME, VOCABULARY = 4, 128, 4, 12, 64, 65


def _tokens():
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, TIME + 1))
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


def make_model(torch):
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        """Attention and a two-layer network, each behind a layer norm and beside a shortcut."""

        def __init__(self):
            super().__init__()
            self.ln1, self.ln2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

        def forward(self, x):
            batch, time, width = x.shape
            q, k, v = self.qkv(self.ln1(x)).view(batch, time, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):
        """Token and position embeddings, blocks, a head."""

        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TIME, WIDTH)
            self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

        def forward(self, tokens):
            x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
            return self.head(self.norm(self.blocks(x)))

    torch.manual_seed(0)
    return GPT()


def build(torch):
    model = make_model(torch)

    def loss(logits, target):
        return torch.nn.functional.cross_entropy(logits.view(-1, VOCABULARY), target.view(-1))

    x, y = (torch.from_numpy(tokens).clone() for tokens in _tokens())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return training_program(model, loss, optimizer, x, y)


def build_jax():
    import jax
    import jax.numpy as jnp

    from . import jax_tools as tools

    chooser = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(chooser.standard_normal(shape, np.float32))

    def norm():
        return {"w": jnp.ones(WIDTH), "b": jnp.zeros(WIDTH)}

    def block():
        sizes = {"qkv": (WIDTH, 3 * WIDTH), "out": (WIDTH, WIDTH), "up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
        linears = {name: tools.linear(chooser, *size) for name, size in sizes.items()}
        return linears | {"ln1": norm(), "ln2": norm()}

    parameters = {
        "tokens": normal(VOCABULARY, WIDTH),
        "positions": normal(TIME, WIDTH),
        "blocks": [block() for _ in range(LAYERS)],
        "norm": norm(),
        "head": tools.uniform(chooser, WIDTH, VOCABULARY, fan_in=WIDTH),
    }

    def linear(x, layer):
        return x @ layer["w"] + layer["b"]

    def normed(x, layer):
        return tools.layer_norm(x, layer["w"], layer["b"])

    def apply(x, layer):
        qkv = linear(normed(x, layer["ln1"]), layer["qkv"]).reshape(BATCH, TIME, 3, HEADS, WIDTH // HEADS)
        q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        scores = q @ k.transpose(0, 1, 3, 2) * (WIDTH // HEADS) ** -0.5
        weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((TIME, TIME), bool)), scores, -jnp.inf))
        x = x + linear((weights @ v).transpose(0, 2, 1, 3).reshape(BATCH, TIME, WIDTH), layer["out"])
        hidden = jax.nn.gelu(linear(normed(x, layer["ln2"]), layer["up"]), approximate=False)
        return x + linear(hidden, layer["down"])

    def loss(parameters, x, y):
        x = parameters["tokens"][x] + parameters["positions"]
        for layer in parameters["blocks"]:
            x = apply(x, layer)
        return tools.cross_entropy(normed(x, parameters["norm"]) @ parameters["head"], y)

    return tools.trainer(loss, parameters, tools.adam(1e-3, decay=0.01), *map(jnp.asarray, _tokens()))


CASES = [Case("train GPT 4x128, b12, T64, AdamW", build, build_jax)]
