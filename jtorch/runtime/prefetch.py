"""Prefetches inside vectorised loops.

LLVM does not vectorise a loop that contains a prefetch. So a kernel says

    x = load_ahead(p[i], p, n, i)       # p[i]; p[n + i] will be read soon
    y = store_ahead(y, q, n, i)         # y; q[n + i] will be written soon

which become calls of functions that are pure as far as LLVM knows, return their first argument, and have vector
variants (`vector-function-abi-variant`) for the loop vectoriser to call. What these do, a prefetch of every cache line
that the vector covers, is linked and inlined when the loops are vectors. A loop that stays scalar has no prefetch.
"""
from __future__ import annotations

BYTES = {"float": 4, "double": 8}
KINDS = {"load": 0, "store": 1}  # as llvm.prefetch counts them
LANES = (2, 4, 8, 16, 32)
CACHE_LINE = 64
PURE = "nounwind willreturn memory(none)"


def symbol(kind: str, scalar: str) -> str:
    """The function of `load_ahead` or `store_ahead` for the LLVM type `scalar`."""
    return f"jt.ahead.{kind}.{scalar}"


def declare(text: str) -> str:
    """A kernel's LLVM IR with the variants of the functions that it calls; `text` itself if it calls none."""
    added, kept = [], []
    for name, scalar in [(symbol(kind, scalar), scalar) for kind in KINDS for scalar in BYTES]:
        head = f'declare {scalar} @"{name}"({scalar} %".1", {scalar}* %".2", i64 %".3")'
        if head in text:
            variants = {lanes: f"{name}.{lanes}" for lanes in LANES}
            mapping = ",".join([f"_ZGV_LLVM_N{lanes}vul1_{name}({v})" for lanes, v in variants.items()])
            text = text.replace(head, f'{head} {PURE} "vector-function-abi-variant"="{mapping}"')
            added += [f'declare <{lanes} x {scalar}> @"{v}"(<{lanes} x {scalar}>, ptr, i64) {PURE}'
                      for lanes, v in variants.items()]
            kept += [f'ptr @"{v}"' for v in variants.values()]
    if added:
        used = f"@llvm.compiler.used = appending global [{len(kept)} x ptr] [{', '.join(kept)}]"
        text = "\n".join([text, *added, f'{used}, section "llvm.metadata"'])
    return text


def definitions() -> str:
    """What the functions do, as LLVM IR."""
    lines = ["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"]
    for kind, written in KINDS.items():
        for scalar, size in BYTES.items():
            name = symbol(kind, scalar)
            lines += _define(name, scalar, [])
            for lanes in LANES:
                body = [f"%q = getelementptr {scalar}, ptr %p, i64 %i"]
                for at in range(0, lanes * size, CACHE_LINE):
                    body += [f"%q{at} = getelementptr i8, ptr %q, i64 {at}",
                             f"call void @llvm.prefetch.p0(ptr %q{at}, i32 {written}, i32 3, i32 1)"]
                lines += _define(f"{name}.{lanes}", f"<{lanes} x {scalar}>", body)
    return "\n".join(lines)


def _define(name: str, result: str, body: list[str]) -> list[str]:
    """A function that is there to be inlined and leaves no code of its own."""
    return [f'define available_externally {result} @"{name}"({result} %x, ptr %p, i64 %i) alwaysinline {{', *body,
            f"ret {result} %x", "}"]
