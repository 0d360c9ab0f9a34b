"""Keys: unsigned numbers whose order is that of elements, as kernel text. NaN is the largest, and 0 and -0 are equal.

They are made of the bits of an element, as arithmetic may take subnormal numbers for 0.
"""
from __future__ import annotations

from dataclasses import dataclass

from jtorch import dtypes

_FRACTION = {dtypes.float16: 10, dtypes.bfloat16: 7, dtypes.float32: 23, dtypes.float64: 52}


@dataclass(frozen=True, slots=True)
class Key:
    """`text` is the key of x[row + i], of `bits` bits, and `element` is x[row + i] where `key` is its key as an uint64.

    The element is read again only where its key does not tell it: zeros, and NaNs, which differ in payload.
    """

    text: str
    bits: int
    element: str


def key_of(d: dtypes.dtype, descending: bool) -> Key:
    if d.is_complex:
        raise NotImplementedError("complex numbers have no order")
    bits = 64 if d.itemsize == 8 else 32
    u = f"u{bits}"
    whole = f"~{u}(0)" if bits == 8 * d.itemsize else f"{u}({(1 << 8 * d.itemsize) - 1})"
    sign = f"({u}(1) << {u}({8 * d.itemsize - 1}))"
    number = f"{u}(~key)" if descending else f"{u}(key)"
    if d.is_floating_point:
        half = d.itemsize == 2
        word = f"{u}(x[row + i])" if half else f"{u}(float_to_bits(x[row + i]))"
        size = f"({word} & ~{sign})"
        infinity = f"(({whole} >> {u}({_FRACTION[d] + 1})) << {u}({_FRACTION[d]}))"
        text = f"select({word} < {sign}, {word} | {sign}, {word} ^ {whole})"
        text = f"select({size} > {infinity}, {whole}, select({size} == {u}(0), {sign}, {text}))"
        back = f"select({number} < {sign}, {number} ^ {whole}, {number} ^ {sign})"
        back = f"u16({back})" if half else f"bits_to_float(i{bits}({back}))"
        unclear = f"(({number} == {sign}) | ({number} == {whole}))"
        element = f"select({unclear}, load_if({unclear}, x, row + i), {back})"
    elif d.is_signed:
        flip = f"({u}(1) << {u}({bits - 1}))"
        text = f"{u}(x[row + i]) ^ {flip}"
        element = f"i{bits}({number} ^ {flip})"
    else:
        text = f"{u}(x[row + i])"
        element = f"{number} != {u}(0)" if d is dtypes.bool_ else number
    return Key(f"(~({text}))" if descending else f"({text})", bits, element)
