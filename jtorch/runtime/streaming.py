"""Stores that go past the caches, inside vectorised loops.

    past = past | store_past(x, p, n, i)    # p[n + i] = x
    drain(past)                             # at the kernel's end

A line that is only written is first read from memory, and then pushes another one out of the cache. Where results are
larger than the cache, a non-temporal store spares both. It has to be aligned, which the vector forms (`variants.py`)
look at; what is not aligned is stored as usual. LLVM does not vectorise non-temporal stores whose alignment it cannot
know, nor calls that write. So `store_past` is pure as far as LLVM knows, with a result (0) that `drain` needs: other
threads see what was stored once `drain` has run, and no load of the kernel may read it.
"""
from __future__ import annotations

BYTES = {"float": 4, "double": 8, "i16": 2, "i32": 4, "i64": 8}
ALIGNMENT = 32
"""Bytes: half a cache line. Two stores in a row make a whole one; a row of any multiple of 8 floats is aligned."""

METADATA = "!1 = !{i32 1}"  # !0 is of far_angles


def symbol(scalar: str) -> str:
    """The function for the LLVM type `scalar`."""
    return f"jt.past.{scalar}"


def body(scalar: str, lanes: int) -> list[str]:
    """What it does with a vector of `lanes`; 0 is one number, which is stored as usual."""
    type_, result = (f"<{lanes} x {scalar}>", f"<{lanes} x i32> zeroinitializer") if lanes else (scalar, "i32 0")
    lines = [f"%q = getelementptr {scalar}, ptr %p, i64 %i"]
    size = BYTES[scalar]
    if lanes * size < ALIGNMENT:
        return [*lines, f"store {type_} %x, ptr %q, align {size}", f"ret {result}"]
    return [*lines, "%a = ptrtoint ptr %q to i64", f"%b = and i64 %a, {ALIGNMENT - 1}", "%c = icmp eq i64 %b, 0",
            "br i1 %c, label %past, label %usual",
            "past:", f"store {type_} %x, ptr %q, align {ALIGNMENT}, !nontemporal !1", f"ret {result}",
            "usual:", f"store {type_} %x, ptr %q, align {size}", f"ret {result}"]
