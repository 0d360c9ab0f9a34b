"""`assert_close`: tensors, numbers and nested containers of them are near each other, or an error says where not."""
from __future__ import annotations

import cmath
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import jtorch as torch
from jtorch import Tensor

TOLERANCES = {"float16": (0.001, 1e-5), "bfloat16": (0.016, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7),
              "complex64": (1.3e-6, 1e-5), "complex128": (1e-7, 1e-7)}
NUMBERS = {int: torch.int64, float: torch.float64, complex: torch.complex128}


def default_tolerances(*inputs: Any, dtype_precisions: Mapping[Any, tuple[float, float]] | None = None
                       ) -> tuple[float, float]:
    """(rtol, atol) for tensors or dtypes: the loosest ones of their dtypes, 0 for integers."""
    found = []
    for x in inputs:
        if not isinstance(x, (Tensor, torch.dtype)):
            raise TypeError(f"Expected a torch.Tensor or a torch.dtype, but got {type(x)} instead.")
        dtype = x.dtype if isinstance(x, Tensor) else x
        found.append(dtype_precisions.get(dtype, (0.0, 0.0)) if dtype_precisions
                     else TOLERANCES.get(dtype.name, (0.0, 0.0)))
    return max(r for r, _ in found), max(a for _, a in found)


@dataclass(frozen=True)
class Rules:
    """What `assert_close` was asked to check."""

    allow_subclasses: bool
    rtol: float | None
    atol: float | None
    equal_nan: bool
    check_device: bool
    check_dtype: bool
    check_layout: bool
    check_stride: bool

    def tolerances(self, *inputs: Any) -> tuple[float, float]:
        if self.rtol is not None and self.atol is not None:
            return self.rtol, self.atol
        if self.rtol is None and self.atol is None:
            return default_tolerances(*inputs)
        missing = "rtol" if self.rtol is None else "atol"
        raise ValueError(f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {missing}.")


def assert_close(actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None,
                 atol: float | None = None, equal_nan: bool = False, check_device: bool = True,
                 check_dtype: bool = True, check_layout: bool = True, check_stride: bool = False,
                 msg: str | Callable[[str], str] | None = None) -> None:
    """AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere, in sequences and mappings too.

    Infinities have to be equal; NaN equals NaN with `equal_nan`. Dtypes, shapes, layouts and devices are compared as
    well, strides on request. Without tolerances (both or none are given) those of the dtype are taken. `msg` replaces
    the text of the error, or is a function of it. TypeError for inputs that cannot be compared.
    """
    __tracebackhide__ = True
    rules = Rules(allow_subclasses, rtol, atol, equal_nan, check_device, check_dtype, check_layout, check_stride)
    path: tuple[Any, ...] = ()
    try:
        checks = []
        for path, a, e in leaves(actual, expected, ()):
            checks.append((path, check_of(a, e, rules)))
        for place, check in checks:  # structure and types of everything come first
            path = place
            check()
    except Mismatch as error:
        path = error.path
        raise _reported(AssertionError, str(error), path, msg) from None
    except (AssertionError, ValueError, TypeError) as error:
        raise _reported(type(error), str(error), path, msg) from None


class Mismatch(Exception):
    """Containers of different structure."""

    def __init__(self, text: str, path: tuple[Any, ...]) -> None:
        super().__init__(text)
        self.path = path


def _reported(kind: type[Exception], text: str, path: tuple[Any, ...], msg: Any) -> Exception:
    if isinstance(msg, str):
        return kind(msg)
    if path:
        text += f"\n\nThe failure occurred for item {''.join(f'[{p!r}]' for p in path)}"
    return kind(msg(text) if callable(msg) else text)


def leaves(actual: Any, expected: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """(path, actual, expected) of what stands in two containers of one structure."""
    pair = (actual, expected)
    if all(isinstance(x, Sequence) and not isinstance(x, str) for x in pair):
        if len(actual) != len(expected):
            raise Mismatch(f"The length of the sequences mismatch: {len(actual)} != {len(expected)}", path)
        for i, (a, e) in enumerate(zip(actual, expected)):
            yield from leaves(a, e, (*path, i))
    elif all(isinstance(x, Mapping) for x in pair):
        if set(actual) != set(expected):
            raise Mismatch("The keys of the mappings do not match:\n"
                           f"Missing keys in the actual mapping: {sorted(set(expected) - set(actual))}\n"
                           f"Additional keys in the actual mapping: {sorted(set(actual) - set(expected))}", path)
        keys = list(actual)
        with contextlib.suppress(TypeError):
            keys.sort()
        for key in keys:
            yield from leaves(actual[key], expected[key], (*path, key))
    else:
        yield path, actual, expected


def check_of(a: Any, e: Any, rules: Rules) -> Callable[[], None]:
    """The comparison of two leaves; TypeError where there is none."""
    if a is None or e is None:
        return lambda: _same("None mismatch", a, e)
    if isinstance(a, (bool, np.bool_)) and isinstance(e, (bool, np.bool_)):
        return lambda: _same("Booleans mismatch", bool(a), bool(e))
    if isinstance(a, (*NUMBERS, np.number)) and isinstance(e, (*NUMBERS, np.number)):
        x, y = (v.item() if isinstance(v, np.number) else v for v in (a, e))
        rtol, atol = rules.tolerances(*[NUMBERS[complex if isinstance(v, complex) else type(v)] for v in (x, y)])
        return lambda: _numbers(x, y, rtol, atol, rules)
    related = isinstance(a, type(e)) or isinstance(e, type(a))
    if related and (rules.allow_subclasses or type(a) is type(e)):
        try:
            t, u = (v if isinstance(v, Tensor) else torch.as_tensor(v) for v in (a, e))
        except Exception:  # whatever it is, it is no tensor
            pass
        else:
            rtol, atol = rules.tolerances(t, u)
            return lambda: _tensors(t, u, rtol, atol, rules)
    raise TypeError(f"No comparison pair was able to handle inputs of type {type(a)} and {type(e)}.")


def _same(what: str, a: Any, e: Any) -> None:
    if a is not e:
        raise AssertionError(f"{what}: {a} is not {e}")


def _numbers(a: Any, e: Any, rtol: float, atol: float, rules: Rules) -> None:
    if rules.check_dtype and type(a) is not type(e):
        raise AssertionError(f"The (d)types do not match: {type(a)} != {type(e)}.")
    if a == e or (rules.equal_nan and cmath.isnan(a) and cmath.isnan(e)):
        return
    gap = abs(a - e)
    if not (cmath.isfinite(gap) and gap <= atol + rtol * abs(e)):
        raise AssertionError(_scalar_text(a, e, rtol, atol))


def _tensors(a: Tensor, e: Tensor, rtol: float, atol: float, rules: Rules) -> None:
    for name, checked, x, y in (
            ("shape", True, a.shape, e.shape), ("layout", rules.check_layout, a.layout, e.layout),
            ("stride()", rules.check_stride, a.stride(), e.stride()),
            ("device", rules.check_device, a.device, e.device), ("dtype", rules.check_dtype, a.dtype, e.dtype)):
        if checked and x != y:
            raise AssertionError(f"The values for attribute '{name}' do not match: {x} != {y}.")
    if a.dtype is not e.dtype:
        dtype = torch.promote_types(a.dtype, e.dtype)
        a, e = a.to(dtype), e.to(dtype)
    a, e = a.detach(), e.detach()
    matches = torch.isclose(a, e, rtol=rtol, atol=atol, equal_nan=rules.equal_nan)
    if not bool(matches.all()):
        if a.dim() == 0:
            raise AssertionError(_scalar_text(a.item(), e.item(), rtol, atol))
        raise AssertionError(_tensor_text(a, e, matches.numpy(), rtol, atol))


# --- texts -----------------------------------------------------------------------------------------------------------

def _scalar_text(a: Any, e: Any, rtol: float, atol: float) -> str:
    gap = abs(a - e)
    ratio = float("inf") if e == 0 else gap / abs(e)
    return _text("Scalars", f"Expected {e} but got {a}.", (f"Absolute difference: {gap}", atol),
                 (f"Relative difference: {ratio}", rtol))


def _tensor_text(a: Tensor, e: Tensor, matches: np.ndarray, rtol: float, atol: float) -> str:
    if a.dtype.is_floating_point or a.dtype.is_complex:
        gaps = (a - e).abs()
        ratios = gaps / e.abs()
    else:
        gaps = (a.to(torch.int64) - e.to(torch.int64)).abs()
        ratios = gaps / e.to(torch.int64).abs()
    wrong = matches.size - int(matches.sum())

    def greatest(name: str, values: Tensor) -> str:
        """Among the mismatches; NaN counts as the greatest."""
        masked = values.masked_fill(torch.tensor(matches), 0)
        flat = int(masked.flatten().max(0).indices)
        place = tuple(int(i) for i in np.unravel_index(flat, matches.shape))
        return f"Greatest {name} difference: {masked.flatten()[flat].item()} at index {place}"
    return _text("Tensor-likes", f"Mismatched elements: {wrong} / {matches.size} ({wrong / matches.size:.1%})",
                 (greatest("absolute", gaps), atol), (greatest("relative", ratios), rtol))


def _text(what: str, first: str, *differences: tuple[str, float]) -> str:
    exact = all(allowed == 0 for _, allowed in differences)
    lines = [f"{what} are not {'equal' if exact else 'close'}!", "", first]
    lines += [text if exact else f"{text} (up to {allowed} allowed)" for text, allowed in differences]
    return "\n".join(lines)


def assert_allclose(actual: Any, expected: Any, rtol: float | None = None, atol: float | None = None,
                    equal_nan: bool = True, msg: str = "") -> None:
    """The older name: without comparing dtypes and devices; NaN equals NaN."""
    tensors = [x if isinstance(x, Tensor) else torch.tensor(x) for x in (actual, expected)]
    if rtol is None and atol is None:
        rtol, atol = default_tolerances(*tensors, dtype_precisions={
            torch.float16: (1e-3, 1e-3), torch.float32: (1e-4, 1e-5), torch.float64: (1e-5, 1e-8)})
    assert_close(*tensors, rtol=rtol, atol=atol, equal_nan=equal_nan, check_device=True, check_dtype=False,
                 check_stride=False, msg=msg or None)
