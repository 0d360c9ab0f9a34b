"""Random programs as text, written against the torch API.

A program defines `make(torch)` (the leaves) and `run(torch, *leaves)` (statements, then a scalar loss of every floating
result). The text is what is kept of a failure: it runs anywhere.
"""
from __future__ import annotations

import random
from dataclasses import dataclass, field

FLOATS = ("float32", "float64")
INTS = ("int64", "int32", "uint8")


@dataclass
class Var:
    name: str
    shape: tuple[int, ...]
    dtype: str
    writable: bool = True  # not a leaf that requires grad, not a view of one, not expanded

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
        found = [v for v in self.vars if test(v)]
        return self.r.choice(found) if found else None

    def add(self, text: str, shape: tuple[int, ...], dtype: str, writable: bool = True) -> None:
        name = self.name()
        self.program.statements.append(f"{name} = {text}")
        self.vars.append(Var(name, shape, dtype, writable))

    def statement(self) -> None:
        rules = [self.unary] * 4 + [self.binary] * 5 + [self.view] * 5 + [self.reduce] * 3 + [self.in_place] * 4 + [
            self.write_slice] * 3 + [self.cast] * 2 + [self.compare, self.matmul, self.join, self.pick_rows, self.rowwise,
                                     self.select, self.masked, self.no_grad]
        for _ in range(20):
            if self.r.choice(rules)():
                return

    # --- rules: each returns whether it applied --------------------------------------------------------------------

    def unary(self) -> bool:
        a = self.pick(lambda v: v.floating)
        if a is None:
            return False
        form = self.r.choice(["{a}.tanh()", "{a}.sin()", "{a}.sigmoid()", "torch.relu({a})", "-{a}", "{a}.abs()",
                              "{a}.clamp(-1.5, 1.5).exp()", "({a}.abs() + 0.5).sqrt()", "({a} * {a} + 1).log()", "{a}.cos()",
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
                              "torch.minimum({b}, {a})", "torch.where({a} > {b}, {a}, {b})", "torch.add({a}, {b}, alpha=0.3)",
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
            self.add(f"{a.name}.select({d}, {r.randrange(-size, size)})", a.shape[:d] + a.shape[d + 1:], a.dtype, a.writable)
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
        form = self.r.choice(["{a}.mul_(0.5)", "{a}.add_(1.25)", "{a}.tanh_()", "{a}.clamp_(-1, 1)", "{a}.fill_(0.3)", "{a}.zero_()",
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

    def finish(self) -> None:
        floats = [v for v in self.vars if v.floating]
        self.program.loss = " + ".join(f"({v.name} * {round(0.3 + 0.1 * i, 2)}).sum().to(torch.float64)"
                                       for i, v in enumerate(floats))
        self.program.results = [v.name for v in self.vars]


def generate(seed: int, length: int = 12) -> str:
    """The source text of the program with this seed."""
    return Generator(seed, length).program.source()
