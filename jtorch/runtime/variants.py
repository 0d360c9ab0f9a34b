"""Functions whose vector forms are ours, called from loops that LLVM vectorises.

LLVM does not vectorise a loop that contains a prefetch, a non-temporal store or a branch to a rare path. A kernel that
needs one calls a function which is pure as far as LLVM knows and has vector variants (`vector-function-abi-variant`)
for the loop vectoriser to call. What the variants do is linked and inlined when the loops are vectors.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jtorch.codegen import far_angles, far_quotients, vecmath_wide
from jtorch.runtime import prefetch, streaming

LANES = (2, 4, 8, 16, 32)
PURE = "nounwind willreturn memory(none)"
SLOW = "jt.far_angle"  # functions of this name that are called, not inlined


@dataclass(frozen=True)
class Function:
    """A function whose first operand is of type `scalar` or a vector of it, and its result likewise of `result`, or the
    same.

    `others`: types of further operands, as (in declarations, in definitions); `kinds`: v, u, l1 for each operand, as
    LLVM's vector function ABI names them: those with v are vectors too. `body(lanes)`: the lines after the entry label,
    on %x, %p, %i.
    """

    name: str
    scalar: str
    others: tuple[tuple[str, str], ...]
    kinds: str
    body: Callable[[int], list[str]]
    result: str = ""

    def type(self, lanes: int) -> str:
        """Of its result."""
        scalar = self.result or self.scalar
        return f"<{lanes} x {scalar}>" if lanes else scalar

    @property
    def head(self) -> str:
        """The declaration as llvmlite prints it."""
        types = (self.scalar, *[declared for declared, _ in self.others])
        operands = ", ".join([f'{t} %".{i}"' for i, t in enumerate(types, 1)])
        return f'declare {self.type(0)} @"{self.name}"({operands})'

    def types(self, others: Sequence[str], lanes: int) -> list[str]:
        """Of the operands, in the form for so many lanes; 0 is that for one number."""
        kinds = re.findall(r"v|u|l1", self.kinds)
        return [f"<{lanes} x {t}>" if lanes and kind == "v" else t for t, kind in zip((self.scalar, *others), kinds)]

    def definition(self, lanes: int) -> str:
        name = f"{self.name}.{lanes}" if lanes else self.name
        types = self.types([t for _, t in self.others], lanes)
        operands = ", ".join([f"{t} %{p}" for t, p in zip(types, "xpi")])
        head = f'define available_externally {self.type(lanes)} @"{name}"({operands}) alwaysinline {{'
        return "\n".join([head, "entry:", *self.body(lanes), "}"])


FUNCTIONS = [
    *[Function(prefetch.symbol(scalar), scalar, ((f"{scalar}*", "ptr"), ("i64", "i64")), "vul1",
               lambda lanes, scalar=scalar: prefetch.body(scalar, lanes))  # type: ignore[misc]
      for scalar in prefetch.BYTES],
    *[Function(streaming.symbol(scalar), scalar, ((f"{scalar}*", "ptr"), ("i64", "i64")), "vul1",
               lambda lanes, scalar=scalar: streaming.body(scalar, lanes), "i32")  # type: ignore[misc]
      for scalar in streaming.BYTES],
    *[Function(name, "double", (), "v", lambda lanes, name=name: far_angles.body(name, lanes))  # type: ignore[misc]
      for name in (far_angles.HIGH, far_angles.LOW)],
    Function(far_quotients.NAME, "double", (("double", "double"),), "vv", far_quotients.body),
    *[Function(vecmath_wide.symbol(name), "float", (), "v",
               lambda lanes, name=name: vecmath_wide.body(name, lanes))  # type: ignore[misc]
      for name in vecmath_wide.FUNCTIONS],
]


def declare(text: str) -> tuple[str, list[Function]]:
    """A kernel's LLVM IR with the variants of those functions that it calls, and these."""
    added, kept, used = [], [], []
    for f in FUNCTIONS:
        if f.head not in text:
            continue
        used.append(f)
        variants = {lanes: f"{f.name}.{lanes}" for lanes in LANES}
        mapping = ",".join([f"_ZGV_LLVM_N{lanes}{f.kinds}_{f.name}({v})" for lanes, v in variants.items()])
        text = text.replace(f.head, f'{f.head} {PURE} "vector-function-abi-variant"="{mapping}"')
        for lanes, v in variants.items():
            operands = ", ".join(f.types([t for _, t in f.others], lanes))
            added.append(f'declare {f.type(lanes)} @"{v}"({operands}) {PURE}')
            kept.append(f'ptr @"{v}"')
    if added:
        all_kept = f"@llvm.compiler.used = appending global [{len(kept)} x ptr] [{', '.join(kept)}]"
        text = "\n".join([text, *added, f'{all_kept}, section "llvm.metadata"'])
    return text, used


def definitions(used: list[Function]) -> str:
    """What the functions do, as LLVM IR."""
    lines = [f.definition(lanes) for f in used for lanes in (0, *LANES)]
    names = {f.name for f in used}
    if any(name.startswith(SLOW) for name in names):
        lines.append(far_angles.support(LANES))
    if far_quotients.NAME in names:
        lines.append(far_quotients.support(LANES))
    lines.append(vecmath_wide.support([n for n in vecmath_wide.FUNCTIONS if vecmath_wide.symbol(n) in names]))
    return "\n".join([prefetch.DECLARATION, *lines, streaming.METADATA])
