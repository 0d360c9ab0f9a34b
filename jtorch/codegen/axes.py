"""Iteration axes of a fusion group, and the index forms in which its values see them.

A group iterates over a set of axes. A value of the group reads each of its dimensions as an affine form of them:

    Form = (offset, ((axis, coefficient), ...))       index = offset + sum(axis * coefficient), larger coefficients
    first

A row-major matrix over axes r and c has the forms (0, ((r, 1),)), (0, ((c, 1),)); flattened it has the one form
(0, ((r, C), (c, 1))). A dimension of size 1, or one that was broadcast, has `ZERO`. Splitting an axis into two is
always allowed, so forms are read through `Axes.normal`, which replaces split axes by their parts.
"""
from __future__ import annotations

from collections.abc import Sequence

Term = tuple[int, int]
Form = tuple[int, tuple[Term, ...]]
ZERO: Form = (0, ())


class Axes:
    """The axes of one group: extents, and which of them have been split."""

    __slots__ = ("extents", "parts")

    def __init__(self) -> None:
        self.extents: list[int] = []
        self.parts: dict[int, tuple[int, int]] = {}  # axis -> (outer, inner)

    def new(self, extent: int) -> Form:
        """A form that is a new axis (ZERO for extent 1)."""
        if extent == 1:
            return ZERO
        self.extents.append(extent)
        return (0, ((len(self.extents) - 1, 1),))

    def split(self, axis: int, inner: int) -> tuple[int, int]:
        """axis = outer * inner + inner axis."""
        n = len(self.extents)
        self.extents += [self.extents[axis] // inner, inner]
        self.parts[axis] = (n, n + 1)
        return n, n + 1

    def normal(self, form: Form) -> Form:
        if not self.parts:
            return form
        parts = self.parts
        if not any(a in parts for a, _ in form[1]):
            return form
        terms: list[Term] = []
        stack = list(reversed(form[1]))
        while stack:
            axis, coefficient = stack.pop()
            if axis in parts:
                outer, inner = parts[axis]
                stack.append((inner, coefficient))
                stack.append((outer, coefficient * self.extents[inner]))
            else:
                terms.append((axis, coefficient))
        terms.sort(key=lambda t: -abs(t[1]))
        return form[0], tuple(terms)

    def normals(self, forms: Sequence[Form]) -> tuple[Form, ...]:
        return tuple([self.normal(f) for f in forms]) if self.parts else tuple(forms)

    def of(self, forms: Sequence[Form]) -> set[int]:
        """The (unsplit) axes that occur in the forms."""
        return {axis for f in forms for axis, _ in self.normal(f)[1]}

    def within(self, form: Form, size: int) -> tuple[bool, bool]:
        """Is the index never below 0; is it always below `size`?"""
        first, terms = self.normal(form)
        reach = [c * (self.extents[a] - 1) for a, c in terms]
        return first + sum(r for r in reach if r < 0) >= 0, first + sum(r for r in reach if r > 0) < size

    def reshape(self, forms: Sequence[Form], old: Sequence[int], new: Sequence[int]) -> tuple[Form, ...] | None:
        """Forms of the same elements seen with shape `new`; splits axes where it must; None if not affine.

        (r: 6)(c: 4) seen as (24,) is one form r*4 + c; (24: x) seen as (6, 4) splits x.
        """
        if not all(all(self.within(f, n)) for f, n in zip(forms, old)):
            return None
        offset, terms = linear(self.normals(forms), row_major(old))
        strides = row_major(new)
        offsets, found = [], [[] for _ in new]
        for s in strides:
            offsets.append(offset // s)
            offset %= s
        stack = list(reversed(terms))
        while stack:
            axis, coefficient = stack.pop()
            extent = self.extents[axis]
            if coefficient <= 0:
                return None
            dim = next((d for d, s in enumerate(strides) if coefficient >= s), None)
            if dim is None or coefficient % strides[dim]:
                return None
            above = strides[dim] * new[dim]
            if coefficient * extent > above:
                if above % coefficient or extent % (above // coefficient):
                    return None
                outer, inner = self.split(axis, above // coefficient)
                stack.append((outer, above))
                stack.append((inner, coefficient))
                continue
            found[dim].append((axis, coefficient // strides[dim]))
        result = []
        for size, first, dim_terms in zip(new, offsets, found):
            if first + sum(c * (self.extents[a] - 1) for a, c in dim_terms) >= size:
                return None
            result.append((first, tuple(sorted(dim_terms, key=lambda t: -t[1]))))
        return self.normals(result)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of contiguous data.

    >>> row_major((2, 3, 4))
    (12, 4, 1)
    """
    strides, n = [], 1
    for s in reversed(shape):
        strides.append(n)
        n *= s
    return tuple(reversed(strides))


def linear(forms: Sequence[Form], strides: Sequence[int]) -> Form:
    """The one form sum(form * stride): an address."""
    offset, found = 0, {}
    for (first, terms), stride in zip(forms, strides):
        offset += first * stride
        for axis, coefficient in terms:
            found[axis] = found.get(axis, 0) + coefficient * stride
    return offset, tuple(sorted(((a, c) for a, c in found.items() if c), key=lambda t: -abs(t[1])))
