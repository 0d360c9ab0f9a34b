"""The text of a tensor, as PyTorch prints it, from its data as a NumPy array."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass
class PrintOptions:
    """What `set_printoptions` sets."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None

    def shortens(self, array: np.ndarray) -> bool:
        """Whether the array is printed with `...` in it."""
        return array.size > self.threshold


_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}

_current = PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors print. What is not given stays, except `sci_mode`: None lets the values decide.

    Args:
        precision: digits after the point of a float.
        threshold: number of elements above which the middle of every long dimension is left out.
        edgeitems: elements kept at either end of such a dimension.
        linewidth: characters after which lines are broken.
        profile: "default", "short" or "full"; the other arguments override it.
        sci_mode: always (True) or never (False) use scientific notation.
    """
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    changes = _PROFILES.get(profile, {}) if profile is not None else {}
    changes = changes | {name: value for name, value in given.items() if value is not None}
    for name, value in changes.items():
        setattr(_current, name, value)
    _current.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The present options, as keyword arguments of `set_printoptions`."""
    return dataclasses.asdict(_current)


@contextlib.contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Print with other options inside a `with` block; takes the arguments of `set_printoptions`."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


def format_tensor(
    array: np.ndarray,
    *,
    dtype_name: str,
    default_dtype: str = "float32",
    device: str | None = None,
    requires_grad: bool = False,
    grad_fn: str | None = None,
    class_name: str = "tensor",
    options: PrintOptions | None = None,
) -> str:
    """The `repr` of a tensor.

    Args:
        array: its data.
        dtype_name: its dtype without the module, as in "float32".
        default_dtype: the dtype of `get_default_dtype()`, which is not printed.
        device: the device to print, None for the default device.
        requires_grad: whether it is a leaf that requires grad (ignored where there is a `grad_fn`).
        grad_fn: the class name of its `grad_fn`.
        class_name: what stands before the parenthesis; the class's name for subclasses of Tensor.
        options: in place of what `set_printoptions` has set.
    """
    options = options or _current
    prefix = class_name + "("
    suffixes = []
    if device is not None:
        suffixes.append(f"device='{device}'")
    default_complex = "complex128" if default_dtype == "float64" else "complex64"
    if array.size == 0:
        contents = "[]"
        if array.ndim != 1:
            suffixes.append(f"size={array.shape}")
        if dtype_name != default_dtype:
            suffixes.append(f"dtype=torch.{dtype_name}")
    else:
        contents = _format_contents(array, len(prefix), options)
        if not options.edgeitems:
            suffixes.append(f"size={array.shape}")
        if dtype_name not in (default_dtype, default_complex, "int64", "bool"):
            suffixes.append(f"dtype=torch.{dtype_name}")
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    return _add_suffixes(prefix + contents, suffixes, len(prefix), options.linewidth)


def _add_suffixes(text: str, suffixes: Sequence[str], indent: int, linewidth: int) -> str:
    """Append ", suffix" for each, on a line of its own where the line would become too long, and close."""
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if column + len(suffix) + 2 > linewidth:
            text += ",\n" + " " * indent + suffix
            column = indent + len(suffix)
        else:
            text += ", " + suffix
            column += len(suffix) + 2
    return text + ")"


def _format_contents(array: np.ndarray, indent: int, options: PrintOptions) -> str:
    """The brackets and numbers of a tensor that is not empty."""
    summarize = options.shortens(array)
    shown = _edges(array, options.edgeitems) if summarize else array
    elements: _Elements
    if np.iscomplexobj(array):
        elements = _ComplexElements(shown, options)
    elif array.dtype.kind in "biu":
        elements = _Elements(max(len(str(value)) for value in shown.ravel().tolist()) if shown.size else 1)
    else:
        elements = _FloatElements(shown, options)
        array = array.astype(np.float64)
    return _format_nested(array, indent, summarize, elements, options)


def _edges(array: np.ndarray, edgeitems: int) -> np.ndarray:
    """The elements that are printed of an array whose middle is left out."""
    if edgeitems == 0:
        return array[:0]
    for axis, size in enumerate(array.shape):
        if size > 2 * edgeitems:
            array = array.take([*range(edgeitems), *range(size - edgeitems, size)], axis)
    return array


def _format_nested(
    array: np.ndarray, indent: int, summarize: bool, elements: "_Elements", options: PrintOptions
) -> str:
    if array.ndim == 0:
        return elements.text(array.item())
    edge = options.edgeitems
    has_gap = summarize and len(array) > 2 * edge
    if array.ndim > 1:
        kept = [*array[:edge], *array[len(array) - edge :]] if has_gap else array
        parts = [_format_nested(part, indent + 1, summarize, elements, options) for part in kept]
        if has_gap:
            parts.insert(edge, "...")
        return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"
    if has_gap and edge:
        head, tail = array[:edge].tolist(), array[-edge:].tolist()
        parts = [*map(elements.text, head), " ...", *map(elements.text, tail)]
    else:
        parts = ["..."] if summarize and not edge else [elements.text(value) for value in array.tolist()]
    per_line = max(1, (options.linewidth - indent) // (elements.width + 2))
    lines = [", ".join(parts[start : start + per_line]) for start in range(0, len(parts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


class _Elements:
    """How one element is written: integers and booleans, aligned to the right."""

    def __init__(self, width: int):
        self.width = width

    def text(self, value: Any) -> str:
        return str(value).rjust(self.width)


class _FloatElements(_Elements):
    """Floats: all integral ("1."), fixed point or scientific, decided by the finite nonzero values."""

    def __init__(self, shown: np.ndarray, options: PrintOptions):
        super().__init__(1)
        self.integral = True
        self.scientific = False
        self.precision = options.precision
        values = shown.astype(np.float64).ravel()
        values = values[np.isfinite(values) & (values != 0)]
        if values.size == 0:
            return
        magnitudes = np.abs(values)
        smallest, largest = float(magnitudes.min()), float(magnitudes.max())
        self.integral = bool(np.all(values == np.ceil(values)))
        self.scientific = largest / smallest > 1000.0 or largest > 1.0e8 or smallest < 1.0e-4
        if options.sci_mode is not None:
            self.scientific = options.sci_mode
        self.width = max(1, *(len(self._finite(value)) for value in values.tolist()))

    def text(self, value: float) -> str:
        text = self._finite(value) if math.isfinite(value) else str(value)
        return text.rjust(self.width)

    def _finite(self, value: float) -> str:
        if self.scientific:
            return f"{value:.{self.precision}e}"
        return f"{value:.0f}." if self.integral else f"{value:.{self.precision}f}"


class _ComplexElements(_Elements):
    """Complex numbers: two independent formats, the imaginary part not padded."""

    def __init__(self, shown: np.ndarray, options: PrintOptions):
        self.real = _FloatElements(shown.real, options)
        self.imag = _FloatElements(shown.imag, options)
        super().__init__(self.real.width + self.imag.width + 1)

    def text(self, value: complex) -> str:
        imag = self.imag.text(value.imag).lstrip() + "j"
        return self.real.text(value.real) + (imag if imag[0] in "+-" else "+" + imag)
