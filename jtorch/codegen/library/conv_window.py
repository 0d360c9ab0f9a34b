"""The geometry of a convolution, and what all of its kernels need."""
from __future__ import annotations

from dataclasses import dataclass
from math import prod

from jtorch import dtypes
from jtorch.codegen.library.call import Arg, Operand

DIRECT_CHANNELS = 4
"""Input channels times output channels of a group up to which plain loops are used."""


@dataclass(frozen=True, slots=True)
class Window:
    """The geometry of a convolution, with three spatial axes. `before` is the padding in front."""

    n: int
    groups: int
    cg: int
    og: int
    spatial: tuple[int, int, int]
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    before: tuple[int, int, int]
    dilation: tuple[int, int, int]
    out: tuple[int, int, int]

    @property
    def window(self) -> int:
        return prod(self.kernel)

    @property
    def plane(self) -> int:
        return prod(self.out)

    @property
    def depth(self) -> int:
        """Rows of the columns."""
        return self.cg * self.window

    @property
    def flops(self) -> float:
        """Of one image and one group."""
        return 2.0 * self.og * self.depth * self.plane

    @property
    def is_pointwise(self) -> bool:
        return self.window == 1 and self.stride == (1, 1, 1) and self.before == (0, 0, 0) and self.out == self.spatial

    @property
    def is_direct(self) -> bool:
        return self.cg * self.og <= DIRECT_CHANNELS

    def turned(self) -> Window:
        """The same with height and width exchanged."""
        def turn(a: tuple[int, int, int]) -> tuple[int, int, int]:
            return a[0], a[2], a[1]
        return Window(self.n, self.groups, self.cg, self.og, turn(self.spatial), turn(self.kernel), turn(self.stride),
                      turn(self.before), turn(self.dilation), turn(self.out))

    def integers(self, with_og: bool = True) -> list[tuple[str, str, Arg]]:
        names = ["groups", "cg", *(["og"] if with_og else []), "depth", "height", "width", "kd", "kh", "kw", "sd", "sh",
                 "sw", "pd", "ph", "pw", "dd", "dh", "dw", "od", "oh", "ow"]
        values = [self.groups, self.cg, *([self.og] if with_og else []), *self.spatial, *self.kernel, *self.stride,
                  *self.before, *self.dilation, *self.out]
        return [(name, "i", value) for name, value in zip(names, values)]


def three(values: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    return (*[fill] * (3 - len(values)), *values)  # type: ignore[return-value]


def window_of(x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], attrs: dict) -> Window:
    groups = attrs["groups"]
    return Window(x[0], groups, w[1], w[0] // groups, three(x[2:], 1), three(w[2:], 1), three(attrs["stride"], 1),
                  three(tuple(lo for lo, _ in attrs["padding"]), 0), three(attrs["dilation"], 1), three(y[2:], 1))


def five(x: Operand) -> Operand:
    """[N, C, *S] with three spatial axes."""
    lead = 5 - len(x.shape)
    return Operand(x.place, x.dtype, (*x.shape[:2], *[1] * lead, *x.shape[2:]), (*x.strides[:2], *[0] * lead,
                                                                                 *x.strides[2:]),
                   x.offset)


def strides_of(x: Operand) -> list[tuple[str, str, Arg]]:
    return [(name, "i", value) for name, value in zip(("xn", "xc", "xd", "xh", "xw"), five(x).strides)]


def stride_text(step: int) -> str:
    """j steps. Small ones are part of the kernel, so that loads can be shuffles."""
    return "j" if step == 1 else f"j * {step}" if step <= 4 else "j * sw"


def step(x: Operand, v: Window) -> str:
    """The text of x's index along an output row."""
    return stride_text(v.stride[2]) + ("" if x.strides[-1] == 1 else " * xw")


def holes_of(d: object, **more: str) -> dict[str, str]:
    wide = d is dtypes.float64
    return {"call_gemm_T": "call_gemm_f64" if wide else "call_gemm_f32", "T": "f64" if wide else "f32",
            "SIZE": "8" if wide else "4", **more}
