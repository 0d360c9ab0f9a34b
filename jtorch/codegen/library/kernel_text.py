"""Kernel text taken from Python functions.

A library kernel is an ordinary Python function of this package, written in the kernel language. Names in capitals are
holes: `text(function, names, holes)` gives its source with the holes filled in, under the name `kernel`. Sizes and
strides are never filled in, they are arguments; a hole is for a dtype, a rank, an expression or a block of lines.

What several kernels share is a function marked `inline`. A kernel calls it in a statement of its own, `work(a, b)` or
`x, y = work(a, b)`, and its text has the part's lines in the place of the call: kernels call nothing.
"""
from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TypeVar

TILES = ("from jtorch.runtime.tiles import copy_rows, matrix_tile, product_tile, shifted, tile_columns, tile_rows, "
         "transpose  # version 5")
"""The line that kernels begin with which multiply in registers. Another version makes another kernel."""

PAIR_TILES = "from jtorch.runtime.pair_tiles import pair_tile, transpose_pairs  # version 4"
"""And those that multiply bfloat16."""


F = TypeVar("F", bound=Callable)


def inline(function: F) -> F:
    """Mark a function whose lines are put in the place of its calls in kernels.

    Its variables become the kernel's, so their names have to differ from those that the kernel uses, but for those that
    the call assigns to, and those of loops that are not around it. Parameters are not assigned to; `return` stands at
    the end, and what it returns is assigned in turn.
    """
    function.is_inline = True  # type: ignore[attr-defined]
    return function


def signature_of(function: Callable) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


@functools.cache
def body_of(function: Callable) -> str:
    """A kernel function's lines after its signature and docstring, without indentation, with those of its parts."""
    source = textwrap.dedent(inspect.getsource(function))
    body = source[re.search(r"\)(?: -> [^\n]+)?:\n", source).end():]  # type: ignore[union-attr]
    body = textwrap.dedent(body)
    body = re.sub(r'\A""".*?"""\n', "", body, flags=re.DOTALL)
    parts = {name: f for name, f in function.__globals__.items() if getattr(f, "is_inline", False)}
    tree = ast.parse(body)
    calls = [s for s in ast.walk(tree) if isinstance(s, ast.Expr | ast.Assign) and isinstance(s.value, ast.Call)
             and isinstance(s.value.func, ast.Name) and s.value.func.id in parts]
    if not calls:
        return body
    own = set(signature_of(function)) | _names(tree, calls)
    lines = body.splitlines()
    for statement in sorted(calls, key=lambda s: -s.lineno):
        found = _expanded(statement, parts[statement.value.func.id], own)  # type: ignore[attr-defined]
        found = textwrap.indent(found, " " * statement.col_offset)
        lines[statement.lineno - 1:statement.end_lineno] = found.splitlines()
    return "\n".join(lines) + "\n"


def _expanded(statement: ast.Expr | ast.Assign, function: Callable, own: set[str]) -> str:
    """The lines of a part for one of its calls, in a kernel that uses the names `own`."""
    call = statement.value
    assert isinstance(call, ast.Call) and not call.keywords
    body, names = body_of(function), signature_of(function)
    given = dict(zip(names, call.args, strict=True))
    plain = {name: a for name, a in given.items() if isinstance(a, ast.Name | ast.Constant)}
    first = [f"{name} = {ast.unparse(a)}\n" for name, a in given.items() if name not in plain]
    tree = ast.parse(body)
    variables = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    assert variables.isdisjoint(names), f"{function.__name__} assigns to its parameters"
    variables |= {name for name in given if name not in plain}
    targets = set() if isinstance(statement, ast.Expr) else _names(statement.targets[0])
    clash = variables & (own - targets | _names(call))
    assert not clash, f"{function.__name__} and the kernel that calls it both have {sorted(clash)}"
    values = {name: ast.unparse(a) for name, a in plain.items()}

    def filled(lines: str) -> str:
        return re.sub(rf"\b(?:{'|'.join(values)})\b", lambda m: values[m[0]], lines) if values else lines

    if isinstance(statement, ast.Expr):
        return "".join(first) + filled(body)
    last = tree.body[-1]
    assert isinstance(last, ast.Return) and last.value is not None, f"{function.__name__} does not end with return"
    left, right = _items(statement.targets[0]), [filled(x) for x in _items(last.value)]
    work = filled("".join(body.splitlines(keepends=True)[:last.lineno - 1]))
    results = [f"{target} = {x}\n" for target, x in zip(left, right, strict=True) if target != x]
    return "".join(first) + work + "".join(results)


def _items(expression: ast.expr) -> list[str]:
    """The text of what a tuple holds, or of a single expression."""
    return [ast.unparse(x) for x in (expression.elts if isinstance(expression, ast.Tuple) else [expression])]


def _names(tree: ast.AST, calls: Sequence[ast.stmt] = (), loops: frozenset[str] = frozenset()) -> set[str]:
    """The names in a tree apart from its calls of parts. A loop's variable counts where it is used behind the loop, or
    the loop is around a call."""
    if tree in calls:
        return set(loops)
    if isinstance(tree, ast.Name):
        return {tree.id} - loops
    if isinstance(tree, ast.For):
        inside = loops | _names(tree.target)
        return _names(tree.iter, calls, loops).union(*[_names(s, calls, inside) for s in tree.body])
    return set().union(*[_names(child, calls, loops) for child in ast.iter_child_nodes(tree)])


@functools.lru_cache(maxsize=4096)
def text(function: Callable, names: tuple[str, ...], holes: tuple[tuple[str, str], ...] = ()) -> str:
    """Kernel source of `function` with its holes filled. `names` are its parameters, then those of the filled-in lines.

    A hole that stands alone on a line takes several lines, which are indented like it.
    """
    expected = signature_of(function)
    assert (*names[:len(expected) - 3], "begin", "end", "worker") == expected, (function.__name__, names, expected)
    body = body_of(function)
    for hole, value in (*holes, *holes):  # twice, as lines that are filled in may have holes themselves
        pattern = re.compile(rf"^([ ]*){hole}$", re.MULTILINE)
        body = pattern.sub(lambda m, value=value: textwrap.indent(value, m[1]), body)
        body = re.sub(rf"\b{hole}\b", lambda m, value=value: value, body)
    body = re.sub(r"[ ]+# (?:noqa|type:).*$", "", body, flags=re.MULTILINE)
    lines = [TILES] if re.search(r"_tile\(|\btranspose\(", body) else []
    lines += [PAIR_TILES] if "pair_tile(" in body else []
    imports = "\n".join([*lines, "\n"]) if lines else ""
    return imports + f"def kernel({', '.join((*names, 'begin', 'end', 'worker'))}):\n" + textwrap.indent(body, "    ")
