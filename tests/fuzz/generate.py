"""Random programs as text, written against the torch API.

A program defines `make(torch)` (the leaves) and `run(torch, *leaves)` (statements, then a scalar loss of every floating
result). The text is what is kept of a failure: it runs anywhere.
"""
from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.fuzz import menu

FLOATS = ("float32", "float64")
INTS = ("int64", "int32", "uint8")


@dataclass
class Var:
    name: str
    shape: tuple[int, ...]
    dtype: str
    writable: bool = True  # not a leaf that requires grad, not a view of one, not expanded
    final: bool = False  # only a result: not used in further statements

    @property
    def floating(self) -> bool:
        return self.dtype in FLOATS


@dataclass
class Program:
    """Source text of a random program and the names of its results."""

    seed: int
    leaves: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    loss: str = ""

    def source(self) -> str:
        lines = [f"# fuzz seed {self.seed}", "def make(torch):"]
        lines += [f"    {s}" for s in self.leaves]
        lines += [f"    return [{', '.join(self.arguments)}]", "", "", f"def run(torch, {', '.join(self.arguments)}):"]
        lines += [f"    {s}" for s in self.statements]
        lines += [f"    loss = {self.loss}", f"    return loss, [{', '.join(self.results)}]", ""]
        return "\n".join(lines)


def _product(sizes: Iterable[int]) -> int:
    n = 1
    for s in sizes:
        n *= s
    return n


def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    n = max(len(a), len(b))
    a, b = (1,) * (n - len(a)) + a, (1,) * (n - len(b)) + b
    out = []
    for x, y in zip(a, b):
        if x != y and 1 not in (x, y):
            return None
        out.append(y if x == 1 else x)
    return tuple(out)


class Generator:
    """Draws one program. Rules know shapes and dtypes, so that most programs are valid."""

    def __init__(self, seed: int, length: int = 12) -> None:
        self.r = random.Random(seed)
        self.program = Program(seed)
        self.vars: list[Var] = []
        self.count = 0
        self.dtype = self.r.choice(FLOATS)
        for _ in range(self.r.randint(2, 3)):
            self.leaf()
        for _ in range(self.r.randint(3, length)):
            self.statement()
        self.finish()

    # --- pieces --------------------------------------------------------------------------------------------------

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def shape(self) -> tuple[int, ...]:
        r = self.r
        sizes = [1, 2, 3, 4, 5] if r.random() < 0.9 else [0, 1, 3]
        return tuple(r.choice(sizes) for _ in range(r.choice([0, 1, 2, 2, 2, 3, 3])))

    def leaf(self) -> None:
        name, shape, r = self.name(), self.shape(), self.r
        seed = r.randint(0, 10**6)
        kind = r.random()
        if kind < 0.75 or not self.vars:
            grad = r.random() < 0.7
            call = f"_random(torch, {shape}, {seed}, torch.{self.dtype})" + (".requires_grad_()" if grad else "")
            self.vars.append(Var(name, shape, self.dtype, not grad))
        else:
            d = r.choice(INTS)
            call = f"_integers(torch, {shape}, {seed}, torch.{d})"
            self.vars.append(Var(name, shape, d))
        self.program.leaves.append(f"{name} = {call}")
        self.program.arguments.append(name)

    def pick(self, test=lambda v: True) -> Var | None:
        found = [v for v in self.vars if not v.final and test(v)]
        return self.r.choice(found) if found else None

    def add(self, text: str, shape: tuple[int, ...], dtype: str, writable: bool = True, final: bool = False) -> None:
        name = self.name()
        self.program.statements.append(f"{name} = {text}")
        self.vars.append(Var(name, shape, dtype, writable, final))

    def do(self, text: str) -> bool:
        self.program.statements.append(text)
        return True

    def number(self) -> float:
        """A constant that no other statement of the program has."""
        self.count += 1
        return round(self.r.uniform(0.4, 1.4), 2) + self.count / 10000

    def indices(self, size: int, n: int, negative: bool = True) -> list[int]:
        return [self.r.randrange(-size if negative else 0, size) for _ in range(n)]

    def statement(self) -> None:
        rules = [self.unary] * 4 + [self.binary] * 5 + [self.view] * 5 + [self.reduce] * 3 + [self.in_place] * 4 + [
            self.write_slice] * 3 + [self.cast] * 2 + [self.compare, self.matmul, self.join, self.pick_rows,
                                                       self.rowwise,
                                     self.select, self.masked, self.no_grad]
        rules += [self.more_views, self.write_view, self.rearrange, self.scan] * 2 + [
            self.index, self.gather, self.scatter, self.write_index, self.order, self.integers, self.clamp_tensors,
            self.contraction, self.window, self.create, self.half, self.grad_tricks, self.loop, self.out,
            self.broadcast_write,
            self.statistics, self.alias]
        if not self.program.seed % 4:  # those without operations of the registry compile in half the time
            rules += [self.applied] * 4 + [self.sampled] * 8
        for _ in range(20):
            if self.r.choice(rules)():
                return

    # --- rules: each returns whether it applied --------------------------------------------------------------------

    def unary(self) -> bool:
        a = self.pick(lambda v: v.floating)
        if a is None:
            return False
        form = self.r.choice(["{a}.tanh()", "{a}.sin()", "{a}.sigmoid()", "torch.relu({a})", "-{a}", "{a}.abs()",
                              "{a}.clamp(-1.5, 1.5).exp()", "({a}.abs() + 0.5).sqrt()", "({a} * {a} + 1).log()",
                              "{a}.cos()",
                              "{a} ** 2", "torch.nn.functional.gelu({a})", "{a}.clone()", "{a}.square()", "{a}.erf()"])
        self.add(form.format(a=a.name), a.shape, a.dtype)
        return True

    def binary(self) -> bool:
        a = self.pick(lambda v: v.floating)
        b = self.pick(lambda v: v.dtype != "bool")
        if a is None or b is None:
            return False
        out = broadcast(a.shape, b.shape)
        dtype = a.dtype
        if out is None or self.r.random() < 0.25:
            c = round(self.r.uniform(-2, 2), 2) if self.r.random() < 0.7 else self.r.randint(-2, 3)
            form = self.r.choice(["{a} + {c}", "{a} * {c}", "{c} - {a}", "{a} / 1.7", "{c} / ({a} * {a} + 1)"])
            self.add(form.format(a=a.name, c=c), a.shape, dtype)
            return True
        form = self.r.choice(["{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / ({b}.abs() + 1)", "torch.maximum({a}, {b})",
                              "torch.minimum({b}, {a})", "torch.where({a} > {b}, {a}, {b})",
                              "torch.add({a}, {b}, alpha=0.3)",
                              "torch.lerp({a}, {a} + {b}, 0.3)"])
        if "where" in form or "m" == form[6]:
            if b.dtype != a.dtype:
                return False
        if "uint8" == b.dtype and "abs" in form:
            return False
        self.add(form.format(a=a.name, b=b.name), out, dtype)
        return True

    def view(self) -> bool:
        a = self.pick()
        if a is None:
            return False
        r, n = self.r, len(a.shape)
        if n == 0:
            self.add(f"{a.name}.unsqueeze(0)", (1,), a.dtype, a.writable)
            return True
        d = r.randrange(n)
        size = a.shape[d]
        kind = r.randrange(10)
        if kind == 0 and n > 1:
            e = r.randrange(n)
            shape = list(a.shape)
            shape[d], shape[e] = shape[e], shape[d]
            self.add(f"{a.name}.transpose({d}, {e})", tuple(shape), a.dtype, a.writable)
        elif kind == 1:
            numel = 1
            for s in a.shape:
                numel *= s
            options = [(numel,), (1, numel)] + [(k, numel // k) for k in (2, 3, 4) if numel and numel % k == 0]
            shape = r.choice(options)
            self.add(f"{a.name}.reshape({shape})", shape, a.dtype, False)
        elif kind == 2:
            self.add(f"{a.name}.unsqueeze({d})", (*a.shape[:d], 1, *a.shape[d:]), a.dtype, a.writable)
        elif kind == 3 and size > 1:
            lo = r.randrange(size)
            step = r.choice([1, 1, 2])
            shape = list(a.shape)
            shape[d] = len(range(lo, size, step))
            index = ", ".join(":" if i != d else f"{lo}::{step}" for i in range(n))
            self.add(f"{a.name}[{index}]", tuple(shape), a.dtype, a.writable)
        elif kind == 4 and size > 0:
            self.add(f"{a.name}.select({d}, {r.randrange(-size, size)})", a.shape[:d] + a.shape[d + 1:], a.dtype,
                     a.writable)
        elif kind == 5:
            self.add(f"{a.name}.expand({(2, *a.shape)})", (2, *a.shape), a.dtype, False)
        elif kind == 6:
            perm = list(range(n))
            r.shuffle(perm)
            self.add(f"{a.name}.permute({tuple(perm)})", tuple(a.shape[p] for p in perm), a.dtype, a.writable)
        elif kind == 7:
            self.add(f"{a.name}.flip({d})", a.shape, a.dtype)
        elif kind == 8 and size > 1:
            k = r.randint(1, size)
            shape = list(a.shape)
            shape[d] = k
            self.add(f"{a.name}.narrow({d}, {r.randint(0, size - k)}, {k})", tuple(shape), a.dtype, a.writable)
        elif kind == 9:
            self.add(f"{a.name}.contiguous()", a.shape, a.dtype, False)
        else:
            return False
        return True

    def reduce(self) -> bool:
        a = self.pick(lambda v: v.floating and 0 not in v.shape)
        if a is None:
            return False
        if not a.shape or self.r.random() < 0.15:
            self.add(f"{a.name}.{self.r.choice(['sum()', 'mean()'])}", (), a.dtype)
            return True
        d = self.r.randrange(len(a.shape))
        keep = self.r.random() < 0.4
        shape = a.shape[:d] + ((1,) if keep else ()) + a.shape[d + 1:]
        form = self.r.choice(["{a}.sum({d}, keepdim={k})", "{a}.mean({d}, keepdim={k})", "{a}.amax({d}, keepdim={k})",
                              "{a}.amin({d}, keepdim={k})", "torch.logsumexp({a}, {d}, keepdim={k})",
                              "{a}.max({d}, keepdim={k})[0]", "{a}.prod({d}, keepdim={k})",
                              "{a}.var({d}, correction=0, keepdim={k})"])
        self.add(form.format(a=a.name, d=d, k=keep), shape, a.dtype)
        return True

    def in_place(self) -> bool:
        a = self.pick(lambda v: v.floating and v.writable)
        if a is None:
            return False
        b = self.pick(lambda v: v.dtype == a.dtype and broadcast(a.shape, v.shape) == a.shape)
        form = self.r.choice(["{a}.mul_(0.5)", "{a}.add_(1.25)", "{a}.tanh_()", "{a}.clamp_(-1, 1)", "{a}.fill_(0.3)",
                              "{a}.zero_()",
                              "{a} += {b}", "{a}.mul_({b})", "{a}.sub_({b}, alpha=0.5)", "{a}.copy_({b})"])
        if "{b}" in form and b is None:
            return False
        self.program.statements.append(form.format(a=a.name, b=b.name if b else ""))
        return True

    def write_slice(self) -> bool:
        a = self.pick(lambda v: v.floating and v.writable and v.shape and 0 not in v.shape)
        if a is None:
            return False
        d = self.r.randrange(len(a.shape))
        index = ", ".join(":" if i != d else self.r.choice(["0", "-1", "::2", "1:"]) for i in range(len(a.shape)))
        value = self.r.choice([str(round(self.r.uniform(-1, 1), 2)), f"{a.name}[{index}] * 0.5"])
        op = self.r.choice(["=", "+=", "*="])
        self.program.statements.append(f"{a.name}[{index}] {op} {value}")
        return True

    def cast(self) -> bool:
        a = self.pick()
        if a is None:
            return False
        if not a.floating:
            self.add(f"{a.name}.to(torch.{self.dtype})", a.shape, self.dtype)
        elif self.r.random() < 0.4:
            other = "float64" if a.dtype == "float32" else "float32"
            self.add(f"{a.name}.to(torch.{other})", a.shape, other)
        else:
            self.add(f"({a.name}.clamp(-3, 3) * 2).to(torch.int64)", a.shape, "int64")
        return True

    def compare(self) -> bool:
        a = self.pick(lambda v: v.dtype != "bool")
        if a is None:
            return False
        self.add(f"{a.name} {self.r.choice(['>', '<=', '!='])} {self.r.choice([0, 0.5])}", a.shape, "bool")
        return True

    def matmul(self) -> bool:
        a = self.pick(lambda v: v.floating and len(v.shape) in (2, 3))
        if a is None:
            return False
        b = self.pick(lambda v: v.dtype == a.dtype and len(v.shape) == 2 and v.shape[0] == a.shape[-1])
        if b is None:
            self.add(f"{a.name} @ {a.name}.transpose(-1, -2)", (*a.shape[:-1], a.shape[-2]), a.dtype)
        else:
            self.add(f"{a.name} @ {b.name}", (*a.shape[:-1], b.shape[1]), a.dtype)
        return True

    def join(self) -> bool:
        a = self.pick(lambda v: len(v.shape) > 0)
        if a is None:
            return False
        b = self.pick(lambda v: v.shape == a.shape and v.dtype == a.dtype)
        assert b is not None
        d = self.r.randrange(len(a.shape))
        if self.r.random() < 0.5:
            shape = tuple(2 * s if i == d else s for i, s in enumerate(a.shape))
            self.add(f"torch.cat([{a.name}, {b.name}], {d})", shape, a.dtype)
        else:
            self.add(f"torch.stack([{a.name}, {b.name}], {d})", (*a.shape[:d], 2, *a.shape[d:]), a.dtype)
        return True

    def pick_rows(self) -> bool:
        a = self.pick(lambda v: len(v.shape) > 0 and v.shape[0] > 0)
        if a is None:
            return False
        n = self.r.randint(1, 4)
        rows = [self.r.randrange(-a.shape[0], a.shape[0]) for _ in range(n)]
        if self.r.random() < 0.5:
            self.add(f"{a.name}[torch.tensor({rows})]", (n, *a.shape[1:]), a.dtype)
        else:
            rows = [i % a.shape[0] for i in rows]
            self.add(f"torch.index_select({a.name}, 0, torch.tensor({rows}))", (n, *a.shape[1:]), a.dtype)
        return True

    def rowwise(self) -> bool:
        a = self.pick(lambda v: v.floating and v.shape and 0 not in v.shape)
        if a is None:
            return False
        form = self.r.choice(["torch.softmax({a}, -1)", "torch.log_softmax({a}, 0)", "torch.cumsum({a}, 0)",
                              "torch.nn.functional.layer_norm({a}, {last})"])
        self.add(form.format(a=a.name, last=a.shape[-1:]), a.shape, a.dtype)
        return True

    def select(self) -> bool:
        c = self.pick(lambda v: v.dtype == "bool")
        a = self.pick(lambda v: v.floating)
        if c is None or a is None:
            return False
        out = broadcast(c.shape, a.shape)
        if out is None:
            return False
        self.add(f"torch.where({c.name}, {a.name}, {self.r.choice(['0.0', '-1.5', a.name + ' * 2'])})", out, a.dtype)
        return True

    def masked(self) -> bool:
        a = self.pick(lambda v: v.floating)
        if a is None:
            return False
        self.add(f"{a.name}.masked_fill({a.name} > 0.2, -0.5)", a.shape, a.dtype)
        return True

    def no_grad(self) -> bool:
        a = self.pick(lambda v: v.floating)
        if a is None:
            return False
        name = self.name()
        self.program.statements += ["with torch.no_grad():", f"    {name} = {a.name} * 0.5 + 1"]
        self.vars.append(Var(name, a.shape, a.dtype))
        return True

    def more_views(self) -> bool:
        a = self.pick(lambda v: len(v.shape) > 0)
        if a is None:
            return False
        r, n = self.r, len(a.shape)
        d = r.randrange(n)
        size = a.shape[d]
        kind = r.randrange(9)
        if kind == 0 and n >= 2:
            i, j = r.sample(range(n), 2)
            rest = [s for k, s in enumerate(a.shape) if k not in (i, j)]
            self.add(f"{a.name}.diagonal(0, {i}, {j})", (*rest, min(a.shape[i], a.shape[j])), a.dtype, a.writable)
        elif kind == 1 and size > 0:
            k, step = r.randint(1, size), r.choice([1, 2])
            shape = (*a.shape[:d], (size - k) // step + 1, *a.shape[d + 1:], k)
            self.add(f"{a.name}.unfold({d}, {k}, {step})", shape, a.dtype, False)
        elif kind == 2:
            e = r.randrange(n)
            order = [i for i in range(n) if i != d]
            order.insert(e, d)
            self.add(f"{a.name}.movedim({d}, {e})", tuple(a.shape[i] for i in order), a.dtype, a.writable)
        elif kind == 3 and size > 1:
            k = r.randint(1, size - 1)
            pick = r.randrange(2)
            shape = list(a.shape)
            shape[d] = (k, size - k)[pick]
            self.add(f"{a.name}.split([{k}, {size - k}], {d})[{pick}]", tuple(shape), a.dtype, a.writable)
        elif kind == 4 and size > 0:
            self.add(f"{a.name}.unbind({d})[{r.randrange(size)}]", a.shape[:d] + a.shape[d + 1:], a.dtype, a.writable)
        elif kind == 5 and size == 1:
            self.add(f"{a.name}.squeeze({d})", a.shape[:d] + a.shape[d + 1:], a.dtype, a.writable)
        elif kind == 6 and size > 0:
            i = r.randrange(size)
            index = ", ".join(":" if k != d else str(i) for k in range(n))
            shape = (1, *a.shape[:d], *a.shape[d + 1:], 1)
            self.add(f"{a.name}[None, {index}, ..., None]", shape, a.dtype, a.writable)
        elif kind == 7 and n >= 2 and 0 not in a.shape:
            self.add(f"{a.name}.flatten({d})" if d < n - 1 else f"{a.name}.flatten()",
                     (*a.shape[:d], _product(a.shape[d:])) if d < n - 1 else (_product(a.shape),), a.dtype, False)
        elif kind == 8:
            shape = (r.choice([1, 2]), *a.shape[:d], *[1 if s == 1 else s for s in a.shape[d:]])
            self.add(f"{a.name}.broadcast_to({shape})", shape, a.dtype, False)
        else:
            return False
        return True

    def write_view(self) -> bool:
        """Write through a chain of views."""
        a = self.pick(lambda v: v.floating and v.writable and len(v.shape) >= 2 and 0 not in v.shape)
        if a is None:
            return False
        r = self.r
        chain = r.choice([".transpose(0, 1)[0]", "[0].unsqueeze(0)", ".diagonal()", ".permute({perm})[..., 0]",
                          "[-1][None]",
                          ".transpose(0, -1)[..., :1]", ".unbind(0)[0]", ".select(-1, -1)", ".movedim(0, -1)[0]",
                          ".narrow(0, 0, 1).squeeze(0)", ".split(1, 1)[0]", ".unfold(0, 1, 1)[0]",
                          ".T[0]" if len(a.shape) == 2
                          else "[0]"])
        perm = list(range(len(a.shape)))
        r.shuffle(perm)
        chain = chain.replace("{perm}", str(tuple(perm)))
        write = r.choice([".mul_(0.7)", ".add_(1)", ".fill_(0.25)", ".zero_()", ".sin_()", ".clamp_(-0.5, 0.5)",
                          ".neg_()",
                          ".sub_(0.5, alpha=2)", ".div_(1.5)", ".copy_({self} * 2)"])
        return self.do(f"{a.name}{chain}{write.replace('{self}', a.name + chain)}")

    def rearrange(self) -> bool:
        a = self.pick(lambda v: len(v.shape) > 0)
        if a is None:
            return False
        r, n = self.r, len(a.shape)
        d = r.randrange(n)
        size = a.shape[d]
        kind = r.randrange(8)
        if kind == 0:
            self.add(f"{a.name}.roll({r.randint(-3, 3)}, {d})", a.shape, a.dtype)
        elif kind == 1:
            times = [r.choice([1, 1, 2]) for _ in a.shape]
            self.add(f"{a.name}.repeat({tuple(times)})", tuple(s * k for s, k in zip(a.shape, times)), a.dtype)
        elif kind == 2:
            shape = list(a.shape)
            shape[d] *= 2
            self.add(f"{a.name}.repeat_interleave(2, {d})", tuple(shape), a.dtype)
        elif kind == 3 and a.dtype != "bool":
            lo, hi = r.randint(-1 if a.shape[-1] > 2 else 0, 2), r.randint(0, 2)
            self.add(
                f"torch.nn.functional.pad({a.name}, ({lo}, {hi}), value={r.choice([0, 1.5]) if a.floating else 1})",
                (*a.shape[:-1], a.shape[-1] + lo + hi),
                a.dtype,
            )
        elif kind == 4 and n >= 2:
            self.add(f"{a.name}.{r.choice(['tril', 'triu'])}({r.randint(-1, 1)})", a.shape, a.dtype)
        elif kind == 5 and n == 1 and size:
            self.add(f"torch.diag_embed({a.name})", (size, size), a.dtype)
        elif kind == 6 and n in (2, 3) and a.shape[-1] > 2 and a.floating and 0 not in a.shape:
            self.add(f"torch.nn.functional.pad({a.name}, (1, 2), mode={r.choice(['reflect', 'replicate'])!r})",
                     (*a.shape[:-1], a.shape[-1] + 3), a.dtype)
        elif kind == 7:
            self.add(f"torch.rot90({a.name}, 1, [0, 1])" if n >= 2 else f"torch.flipud({a.name})",
                     (a.shape[1], a.shape[0], *a.shape[2:]) if n >= 2 else a.shape, a.dtype)
        else:
            return False
        return True

    def scan(self) -> bool:
        a = self.pick(lambda v: v.floating and v.shape and 0 not in v.shape)
        if a is None:
            return False
        d = self.r.randrange(len(a.shape))
        form = self.r.choice(["{a}.cumsum({d})", "{a}.cumprod({d})", "torch.cummax({a}, {d})[0]",
                              "torch.cummin({a}, {d})[0]",
                              "torch.logcumsumexp({a}, {d})", "torch.softmax({a}, {d})", "torch.log_softmax({a}, {d})",
                              "{a}.flip({d}).cumsum({d})", "torch.diff({a}, dim={d}, prepend={a})"])
        shape = a.shape
        if "diff" in form:
            shape = (*a.shape[:d], 2 * a.shape[d] - 1, *a.shape[d + 1:])
        self.add(form.format(a=a.name, d=d), shape, a.dtype)
        return True

    def statistics(self) -> bool:
        a = self.pick(lambda v: v.floating and v.shape and 0 not in v.shape)
        if a is None:
            return False
        n = len(a.shape)
        d = self.r.randrange(n)
        keep = self.r.random() < 0.4
        axes = tuple(sorted(self.r.sample(range(n), self.r.randint(1, n))))
        kept = tuple(1 if i in axes else s for i, s in enumerate(a.shape))
        shape = kept if keep else tuple(s for i, s in enumerate(a.shape) if i not in axes)
        one = tuple(1 if i == d else s for i, s in enumerate(a.shape)) if keep else a.shape[:d] + a.shape[d + 1:]
        form, out, dtype = self.r.choice([
            ("{a}.sum({axes}, keepdim={k})", shape, a.dtype), ("{a}.mean({axes}, keepdim={k})", shape, a.dtype),
            ("{a}.var({axes}, correction=0, keepdim={k})", shape, a.dtype),
            ("({a}.std({axes}, correction=0, keepdim={k}) * 1)", shape, a.dtype),
            ("{a}.amax({axes}, keepdim={k})", shape, a.dtype), ("{a}.argmax({d}, keepdim={k})", one, "int64"),
            ("{a}.argmin({d}, keepdim={k})", one, "int64"), ("({a} > 0).any({d}, keepdim={k})", one, "bool"),
            ("({a} > 0.1).all({d}, keepdim={k})", one, "bool"),
            ("{a}.count_nonzero({d})", a.shape[:d] + a.shape[d + 1:], "int64"),
            ("({a} + 3).norm(2, {d}, keepdim={k})", one, a.dtype),
            ("{a}.abs().sum({d}, keepdim={k}, dtype=torch.float64)", one,
                                                                   "float64"),
            ("{a}.min({d}, keepdim={k}).values", one, a.dtype), ("{a}.nansum({axes}, keepdim={k})", shape, a.dtype)])
        if "std" in form and 1 in (_product(a.shape), _product(a.shape[i] for i in axes)):
            return False  # its derivative at 0
        self.add(form.format(a=a.name, d=d, k=keep, axes=axes), out, dtype)
        return True

    def index(self) -> bool:
        """Advanced indexing, mixed with the basic kind."""
        a = self.pick(lambda v: len(v.shape) > 0 and 0 not in v.shape)
        if a is None:
            return False
        r, n, s = self.r, len(a.shape), a.shape
        k = r.randint(1, 3)
        kind = r.randrange(6)
        rows = f"torch.tensor({self.indices(s[0], k)})"
        if kind == 0 and n >= 2:
            self.add(f"{a.name}[{rows}, torch.tensor({self.indices(s[1], k)})]", (k, *s[2:]), a.dtype)
        elif kind == 1 and n >= 2:
            self.add(f"{a.name}[:, torch.tensor({self.indices(s[1], k)})]", (s[0], k, *s[2:]), a.dtype)
        elif kind == 2 and n >= 2:
            self.add(
                f"{a.name}[torch.tensor({[[i] for i in self.indices(s[0], k)]}), "
                f"torch.tensor({self.indices(s[1], 2)})]",
                (k, 2, *s[2:]),
                a.dtype,
            )
        elif kind == 3 and n == 3:
            self.add(f"{a.name}[{rows}, :, torch.tensor({self.indices(s[2], k)})]", (k, s[1]), a.dtype)
        elif kind == 4 and n >= 2:
            self.add(f"{a.name}[{r.randrange(s[0])}, torch.tensor({self.indices(s[1], k)})]", (k, *s[2:]), a.dtype)
        elif kind == 5:
            mask = [r.random() < 0.6 for _ in range(s[0])]
            self.add(f"{a.name}[torch.tensor({mask})]", (sum(mask), *s[1:]), a.dtype)
        else:
            self.add(f"{a.name}[{rows}]", (k, *s[1:]), a.dtype)
        return True

    def index_literal(self, shape: tuple[int, ...], size: int) -> str:
        """A tensor of indices below `size`, as text."""
        def nest(shape: tuple[int, ...]) -> object:
            return self.r.randrange(size) if not shape else [nest(shape[1:]) for _ in range(shape[0])]
        return f"torch.tensor({nest(shape)})"

    def gather(self) -> bool:
        a = self.pick(lambda v: v.floating and v.shape and 0 not in v.shape)
        if a is None:
            return False
        d = self.r.randrange(len(a.shape))
        shape = tuple(self.r.randint(1, 3) if i == d else self.r.randint(1, s) for i, s in enumerate(a.shape))
        if self.r.random() < 0.7:
            self.add(f"{a.name}.gather({d}, {self.index_literal(shape, a.shape[d])})", shape, a.dtype)
        else:
            self.add(f"torch.take({a.name}, {self.index_literal((2, 2), _product(a.shape))})", (2, 2), a.dtype)
        return True

    def scatter(self) -> bool:
        a = self.pick(lambda v: v.floating and v.shape and 0 not in v.shape)
        if a is None:
            return False
        r, d = self.r, self.r.randrange(len(a.shape))
        size, k = a.shape[d], self.r.randint(1, 3)
        src = self.pick(lambda v: v.dtype == a.dtype and v.shape == a.shape)
        assert src is not None
        distinct = r.sample(range(size), size)
        rows = self.indices(size, k, False)
        shape = tuple(k if i == d else s for i, s in enumerate(a.shape))
        part = f"{a.name}.index_select({d}, torch.tensor({self.indices(size, k, False)}))"
        full = self.index_literal(a.shape, size)
        form = r.choice(
            [
                f"{a.name}.scatter_add({d}, {full}, {src.name})",
                f"{a.name}.scatter({d}, {full}, 0.5)",
                f"{a.name}.index_add({d}, torch.tensor({rows}), {part})",
                f"{a.name}.index_copy({d}, torch.tensor({distinct}), {src.name})",
                f"{a.name}.index_fill({d}, torch.tensor({rows}), 0.75)",
                f"{a.name}.index_put((torch.tensor({self.indices(a.shape[0], 2)}),), torch.tensor(0.5, dtype=torch."
                f"{a.dtype}), accumulate=True)",
                f"torch.scatter_reduce({a.name}, {d}, {full}, {src.name}, 'sum')",
                f"{a.name}.masked_scatter({a.name} > 0, {src.name}.abs())",
                f"torch.slice_scatter({a.name}, {part}, {d}, 0, {k})" if k <= size else f"{a.name} * 1",
            ]
        )
        del shape
        self.add(form, a.shape, a.dtype)
        return True

    def write_index(self) -> bool:
        a = self.pick(lambda v: v.floating and v.writable and v.shape and 0 not in v.shape)
        if a is None:
            return False
        r, s = self.r, a.shape
        rows = r.sample(range(s[0]), r.randint(1, s[0]))
        value = r.choice(["0.5", f"{a.name}[torch.tensor({rows})] * 0.5"])
        choices = [
            f"{a.name}[torch.tensor({rows})] = {value}",
            f"{a.name}[torch.tensor({rows})] += 0.5",
            f"{a.name}[{a.name} > 0.3] = -0.25",
            f"{a.name}[{a.name} < 0] *= 0.5",
            f"{a.name}.index_add_(0, torch.tensor({rows}), {a.name}[torch.tensor({rows})])",
            f"{a.name}.index_fill_(0, torch.tensor({rows}), 1.5)",
            f"{a.name}.masked_fill_({a.name} > 0.9, 0.1)",
            f"{a.name}.scatter_add_(0, {self.index_literal(s, s[0])}, {a.name}.tanh())",
            f"{a.name}.index_put_((torch.tensor({rows}),), torch.tensor(0.3, dtype=torch.{a.dtype}), accumulate=True)",
            f"{a.name}[..., None, 0] = 0.125",
            f"{a.name}[[{r.randrange(s[0])}]] -= 1",
        ]
        if len(s) >= 2:
            choices.append(f"{a.name}[:, torch.tensor({r.sample(range(s[1]), 1)})] = 0.5")
            choices.append(f"{a.name}[torch.tensor({self.indices(s[0], 1)}), ::2] *= 2")
        return self.do(r.choice(choices))

    def order(self) -> bool:
        a = self.pick(lambda v: v.floating and v.shape and 0 not in v.shape)
        if a is None:
            return False
        d = self.r.randrange(len(a.shape))
        k = self.r.randint(1, a.shape[d])
        form, size, dtype = self.r.choice([
            ("{a}.sort({d})[0]", None, a.dtype), ("{a}.sort({d}, descending=True).values", None, a.dtype),
            ("torch.argsort({a}, dim={d}, stable=True)", None, "int64"), ("{a}.topk({k}, {d})[0]", k, a.dtype),
            ("{a}.kthvalue({k}, {d})[0]", 0, a.dtype), ("{a}.sort(dim={d}, stable=True).indices", None, "int64"),
            ("{a}.median({d})[0]", 0, a.dtype)])
        shape = a.shape if size is None else (*a.shape[:d], *((size,) if size else ()), *a.shape[d + 1:])
        self.add(form.format(a=a.name, d=d, k=k), shape, dtype)
        return True

    def integers(self) -> bool:
        a = self.pick(lambda v: v.dtype in INTS)
        if a is None:
            return False
        b = self.pick(lambda v: v.dtype == a.dtype and broadcast(a.shape, v.shape) is not None)
        assert b is not None
        form = self.r.choice(["{a} + {b}", "{a} * {b}", "{a} // ({b} + 7)", "{a} % ({b} + 7)", "({a} & {b})",
                              "({a} | 3) ^ {b}",
                              "torch.maximum({a}, {b})", "{a} << 2", "{a} >> 1", "torch.where({a} > {b}, {a}, {b})",
                              "torch.fmod({a}, {b} + 7)", "torch.div({a}, {b} + 7, rounding_mode='trunc')", "{a} ** 2"])
        out = broadcast(a.shape, b.shape) if "{b}" in form else a.shape
        kind = self.r.random()
        if kind < 0.7:
            self.add(form.format(a=a.name, b=b.name), out, a.dtype)
        elif a.shape and 0 not in a.shape:
            d = self.r.randrange(len(a.shape))
            op, dtype = self.r.choice([("sum", "int64"), ("prod", "int64"), ("amax", a.dtype), ("argmax", "int64")])
            self.add(f"{a.name}.{op}({d})", a.shape[:d] + a.shape[d + 1:], dtype)
        else:
            self.add(f"({a.name} / 2)", a.shape, "float32")
        return True

    def clamp_tensors(self) -> bool:
        a = self.pick(lambda v: v.floating)
        b = self.pick(lambda v: a is not None and v.dtype == a.dtype and broadcast(a.shape, v.shape) is not None)
        if a is None or b is None:
            return False
        form = self.r.choice(["{a}.clamp({b} - 1, {b} + 1)", "torch.clamp({a}, min={b})",
                              "torch.where({a} > 0, 0.5, {b})",
                              "torch.where({b} > {a}, 1.0, -1.0)", "torch.addcmul({a}, {a}, {b}, value=0.5)",
                              "torch.addcdiv({a}, {b}, {b}.abs() + 1, value=0.5)", "torch.hypot({a}, {b})",
                              "torch.atan2({a}, {b}.abs() + 0.5)", "torch.lerp({a}, {a} * 2, {b}.sigmoid())",
                              "torch.fmax({a}, {b})", "({a}.abs() + 0.5) ** {b}", "torch.logaddexp({a}, {b})",
                              "torch.heaviside({a}, {b})", "torch.special.xlogy({a}, {b}.abs() + 0.5)"])
        out = broadcast(a.shape, b.shape)
        dtype = a.dtype
        if "1.0, -1.0" in form:
            dtype = "float32"
        self.add(form.format(a=a.name, b=b.name), out, dtype)
        return True

    def contraction(self) -> bool:
        a = self.pick(lambda v: v.floating and 1 <= len(v.shape) <= 3 and 0 not in v.shape)
        if a is None:
            return False
        r, s = self.r, a.shape
        seed = r.randint(0, 10**6)
        weight = f"_random(torch, {{}}, {seed}, torch.{a.dtype})"
        if len(s) == 1:
            form, out = r.choice([("torch.outer({a}, {a})", (s[0], s[0])), ("torch.dot({a}, {a} * 0.5)", ()),
                                  ("torch.einsum('i,i->i', {a}, {a})", s),
                                  (f"{weight.format((2, s[0]))} @ {{a}}", (2,))])
        elif len(s) == 2:
            form, out = r.choice(
                [
                    ("torch.einsum('ij,kj->ik', {a}, {a})", (s[0], s[0])),
                    ("torch.einsum('ij->ji', {a}) * 1", s[::-1]),
                    ("torch.einsum('ij->j', {a})", s[1:]),
                    (f"torch.nn.functional.linear({{a}}, {weight.format((3, s[1]))})", (s[0], 3)),
                    (
                        f"torch.addmm({weight.format((s[0], 2))}, {{a}}, {weight.format((s[1], 2))}, beta=0.5)",
                        (s[0], 2),
                    ),
                    (f"{{a}}.T @ {weight.format((s[0],))}", (s[1],)),
                    (f"torch.einsum('ij,jk->i', {{a}}, {weight.format((s[1], 2))})", s[:1]),
                ]
            )
        else:
            form, out = r.choice(
                [
                    ("torch.bmm({a}, {a}.transpose(1, 2))", (s[0], s[1], s[1])),
                    ("torch.einsum('bij,bkj->bik', {a}, {a})", (s[0], s[1], s[1])),
                    ("torch.einsum('bij->ib', {a})", (s[1], s[0])),
                    (f"{{a}} @ {weight.format((s[2], 2))}", (s[0], s[1], 2)),
                    (f"torch.tensordot({{a}}, {weight.format((s[2], 3))}, 1)", (s[0], s[1], 3)),
                    (
                        f"torch.baddbmm({weight.format((s[0], s[1], 2))}, {{a}}, {weight.format((s[0], s[2], 2))})",
                        (s[0], s[1], 2),
                    ),
                ]
            )
        self.add(form.replace("{a}", a.name), out, a.dtype)
        return True

    def window(self) -> bool:
        a = self.pick(lambda v: v.floating and 2 <= len(v.shape) <= 3 and 0 not in v.shape)
        if a is None:
            return False
        r, s = self.r, a.shape
        seed = r.randint(0, 10**6)
        text, (n, c, length) = (f"{a.name}.unsqueeze(0)", (1, *s)) if len(s) == 2 else (a.name, s)
        k = r.randint(1, min(3, length))
        kind = r.randrange(6)
        if kind == 0:
            pad, stride = r.randint(0, 1), r.randint(1, 2)
            out = (length + 2 * pad - k) // stride + 1
            self.add(
                f"torch.nn.functional.conv1d({text}, _random(torch, {(2, c, k)}, {seed}, torch.{a.dtype}), "
                f"stride={stride}, padding={pad})",
                (n, 2, out),
                a.dtype,
            )
        elif kind == 1:
            self.add(f"torch.nn.functional.max_pool1d({text}, {k}, 1)", (n, c, length - k + 1), a.dtype)
        elif kind == 2:
            self.add(f"torch.nn.functional.avg_pool1d({text}, {k})", (n, c, (length - k) // k + 1), a.dtype)
        elif kind == 3:
            j = r.randint(1, min(2, c))
            self.add(
                f"torch.nn.functional.conv2d({text}.unsqueeze(1), "
                f"_random(torch, {(2, 1, j, k)}, {seed}, torch.{a.dtype}), "
                f"_random(torch, (2,), {seed}, torch.{a.dtype}))",
                (n, 2, c - j + 1, length - k + 1),
                a.dtype,
            )
        elif kind == 4:
            j = r.randint(1, min(2, c))
            self.add(f"torch.nn.functional.max_pool2d({text}.unsqueeze(1), ({j}, {k}))", (n, 1, c // j, length // k),
                     a.dtype)
        else:
            self.add(
                f"torch.nn.functional.conv_transpose1d({text}, _random(torch, {(c, 2, k)}, {seed}, torch.{a.dtype}))",
                (n, 2, length + k - 1),
                a.dtype,
            )
        return True

    def create(self) -> bool:
        a = self.pick(lambda v: v.floating)
        if a is None:
            return False
        n = self.r.randint(1, 4)
        form, shape, dtype = self.r.choice([
            ("torch.zeros_like({a})", a.shape, a.dtype), ("torch.full({s}, 0.5, dtype=torch.{d})", a.shape, a.dtype),
            ("{a}.new_ones({s})", a.shape, a.dtype), ("torch.arange({n})", (n,), "int64"),
            ("torch.arange({n}, dtype=torch.{d}) * 0.5", (n,), a.dtype),
            ("torch.eye({n}, dtype=torch.{d})", (n, n), a.dtype),
            ("torch.linspace(0, 1, {n}, dtype=torch.{d})", (n,), a.dtype),
            ("torch.ones_like({a}, dtype=torch.int32)", a.shape, "int32")])
        self.add(form.format(a=a.name, s=a.shape, d=a.dtype, n=n), shape, dtype)
        return True

    def half(self) -> bool:
        """Storage types that compute in single precision. Rounding differs with fusion: nothing builds on it."""
        a = self.pick(lambda v: v.floating)
        if a is None:
            return False
        d = self.r.choice(["float16", "bfloat16"])
        form = self.r.choice(["({a}.clamp(-2, 2).to(torch.{d}) * 1.5).to(torch.{f})",
                              "{a}.clamp(-2, 2).to(torch.{d}).sigmoid().to(torch.{f})",
                              "({a}.clamp(-2, 2).to(torch.{d}) + {a}.clamp(-2, 2).to(torch.{d})).to(torch.{f})"])
        self.add(form.format(a=a.name, d=d, f=self.dtype), a.shape, self.dtype, True, True)
        return True

    def grad_tricks(self) -> bool:
        a = self.pick(lambda v: v.floating)
        b = self.pick(lambda v: v.floating and v.name in self.program.arguments)
        if a is None or b is None:
            return False
        kind = self.r.randrange(6)
        if kind == 0:
            self.add(f"{a.name}.detach()", a.shape, a.dtype, False)
        elif kind == 1:
            self.add(f"_second(torch, {a.name} * {self.number()}, {b.name})", (), "float64")
        elif kind == 2:
            self.add(f"_hooked({a.name} * {self.number()})", a.shape, a.dtype)
        elif kind == 3:
            self.add(f"_early(torch, {a.name} * {self.number()})", a.shape, a.dtype)
        elif kind == 4:
            self.add(f"{a.name}.detach() * {b.name}.sum()", a.shape, self.join_dtype(a, b))
        else:
            self.add(f"{a.name}.detach().clone().requires_grad_()", a.shape, a.dtype, False)
        return True

    @staticmethod
    def join_dtype(a: Var, b: Var) -> str:
        """dtype of a (any shape) with a 0-d b."""
        return a.dtype if a.shape else max(a.dtype, b.dtype, key=lambda d: int(d[5:]))

    def loop(self) -> bool:
        a = self.pick(lambda v: v.floating)
        if a is None:
            return False
        name, steps = self.name(), self.r.randint(2, 3)
        body = self.r.choice(["{v} = {v} * 0.9 + i", "{v} = torch.tanh({v} + 0.1 * i)", "{v} = {v} - {v}.mean() * 0.1",
                              "{v} += {v} * 0.25", "{v}[...] = {v} * 0.5 + i"])
        self.program.statements += [f"{name} = {a.name} * {self.number()}", f"for i in range({steps}):",
                                    "    " + body.format(v=name)]
        self.vars.append(Var(name, a.shape, a.dtype))
        return True

    def out(self) -> bool:
        a = self.pick(lambda v: v.floating)
        if a is None:
            return False
        name = self.name()
        c = self.pick(lambda v: v.floating and v.writable and v.shape == a.shape and v.dtype == a.dtype)
        form = self.r.choice(["torch.add({a}, 1.5, out={c})", "torch.mul({a}, {a}, out={c})",
                              "torch.exp({a}.clamp(-1, 1), out={c})"])
        if c is not None and self.r.random() < 0.5:
            self.program.statements += ["with torch.no_grad():", f"    {form.format(a=a.name, c=c.name)}"]
            return True
        self.program.statements += ["with torch.no_grad():", f"    {name} = torch.empty_like({a.name})",
                                    f"    {form.format(a=a.name, c=name)}"]
        self.vars.append(Var(name, a.shape, a.dtype))
        return True

    def broadcast_write(self) -> bool:
        a = self.pick(lambda v: v.floating and v.writable)
        b = self.pick(
            lambda v: (
                a is not None
                and v.dtype != "bool"
                and (v.dtype == a.dtype or not v.floating or a.dtype == "float64")
                and broadcast(a.shape, v.shape) == a.shape
            )
        )
        if a is None or b is None:
            return False
        return self.do(self.r.choice([f"{a.name} += {b.name}", f"{a.name} *= {b.name}", f"{a.name}.sub_({b.name})",
                                      f"{a.name}.copy_({b.name})", f"{a.name}[...] = {b.name}",
                                      f"{a.name}.add_({b.name}, alpha=2)"]))

    def alias(self) -> bool:
        """Read a base after a write through its view, and the other way."""
        a = self.pick(lambda v: v.floating and v.writable and len(v.shape) >= 1 and 0 not in v.shape)
        if a is None:
            return False
        view, name = self.name(), self.name()
        chain, shape = self.r.choice([("[0]", a.shape[1:]), ("[::2]", ((a.shape[0] + 1) // 2, *a.shape[1:])),
                                      (".unsqueeze(-1)", (*a.shape, 1))])
        self.program.statements += [f"{view} = {a.name}{chain}", f"{a.name}.mul_(0.5)",
                                    f"{name} = {view} + {a.name}{chain} * 2",
                                    f"{view}.add_(1)"]
        self.vars += [Var(view, shape, a.dtype), Var(name, shape, a.dtype)]
        return True

    def applied(self) -> bool:
        """An elementwise operation of the registry."""
        name = self.r.choice(menu.elementwise())
        a = self.pick(lambda v: v.floating)
        b = self.pick(lambda v: a is not None and v.dtype == a.dtype and broadcast(a.shape, v.shape) is not None)
        if a is None or b is None:
            return False
        given = (a, b)[:menu.arity(name)]
        shape = a.shape if len(given) == 1 else broadcast(a.shape, b.shape)
        self.add(f"_applied(torch, {name!r}, {', '.join(v.name for v in given)})", shape, a.dtype, False)
        return True

    def sampled(self) -> bool:
        """An operation of the registry on one of its samples, moved by values of the program."""
        name = self.r.choice(menu.menu())
        entry = self.r.choice(menu.entries(name))
        results = menu.results(name, entry.number)
        a = self.pick(lambda v: v.floating)
        if a is None or not results:
            return False
        given = [a, *[self.pick(lambda v: v.floating) for _ in entry.free[1:]]]
        made = [self.name() for _ in results]
        self.program.statements.append(
            f"{', '.join(made)}, = _sampled(torch, {name!r}, {entry.number}, {', '.join(v.name for v in given)}, "
            f"layout={self.r.randrange(4)})")
        for v, (shape, dtype) in zip(made, results):
            dtype = a.dtype if dtype == "float64" else dtype
            self.vars.append(Var(v, shape, dtype, False, dtype not in (*FLOATS, *INTS, "bool")))
        return True

    def finish(self) -> None:
        floats = [v for v in self.vars if v.floating]
        floats = [v for v in floats if v.name in self.program.arguments[:1]] + sorted(
            self.r.sample(floats, min(len(floats), 6)), key=lambda v: v.name)
        terms = [f"{v.name} - {v.name}.detach()" if v.final else v.name for v in floats]  # rounding of halves adds up
        self.program.loss = f"_loss(torch, {', '.join(terms)})"
        self.program.results = [v.name for v in self.vars]


def generate(seed: int, length: int = 12) -> str:
    """The source text of the program with this seed."""
    return Generator(seed, length).program.source()
