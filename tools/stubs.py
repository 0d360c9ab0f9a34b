"""Declarations for type checkers and editors: `python -m tools.stubs` writes them, `--check` compares.

Operators are attached to `Tensor` and to the namespace of `jtorch` when it is imported, where no checker sees them. The
stubs list them: jtorch/_methods.pyi (a base class of `Tensor` that exists for checkers only) and jtorch/_functions.pyi.
"""
from __future__ import annotations

import ast
import inspect
import keyword
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jtorch
from jtorch import Tensor
from jtorch.ops import FUNCTIONS
from jtorch.ops.settings import CONSTRUCTORS

PACKAGE = Path(jtorch.__file__).parent
METHODS, NAMESPACE = PACKAGE / "_methods.pyi", PACKAGE / "_functions.pyi"
WIDTH = 120

IMPORTS = {
    "_b": "import builtins as _b",
    "_Callable": "from collections.abc import Callable as _Callable",
    "_Iterator": "from collections.abc import Iterator as _Iterator",
    "_Sequence": "from collections.abc import Sequence as _Sequence",
    "_Any": "from typing import Any as _Any",
    "_TypeAlias": "from typing import TypeAlias as _TypeAlias",
    "": "",
    "_np": "import numpy as _np",
    " ": "",
    "_Tensor": "from jtorch._tensor import Tensor as _Tensor",
    "_RemovableHandle": "from jtorch.autograd.hooks import RemovableHandle as _RemovableHandle",
    "_Generator": "from jtorch.ops.random import Generator as _Generator",
}
OPERAND = "_Operand: _TypeAlias = _Tensor | _b.bool | _b.int | _b.float | _b.complex"
BUILTINS = {"bool", "int", "float", "complex", "str", "bytes", "dict", "list", "tuple", "set", "object"}
NAMES = {"Any": "_Any", "Value": "_Tensor", "Tensor": "_Tensor", "Operand": "_Operand", "Generator": "_Generator",
         "RemovableHandle": "_RemovableHandle", "Callable": "_Callable", "Iterator": "_Iterator",
         "Sequence": "_Sequence", "None": "None", **{name: f"_b.{name}" for name in BUILTINS}}

# Special methods whose functions have no signature to read.
OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift", "matmul")
SPECIAL = {
    **{f"__{prefix}{name}__": "(self, other: _Any) -> _Tensor" for name in OPERATORS for prefix in ("", "r", "i")},
    **{f"__{name}__": "(self, other: _Any) -> _Tensor" for name in ("lt", "le", "gt", "ge")},
    **{f"__{name}__": "(self) -> _Tensor" for name in ("neg", "pos", "abs", "invert")},
    **{f"__{name}__": "(self, other: _Any) -> _Tensor: ...  # type: ignore[override]" for name in ("eq", "ne")},
    "__bool__": "(self) -> _b.bool", "__len__": "(self) -> _b.int", "__int__": "(self) -> _b.int",
    "__index__": "(self) -> _b.int", "__float__": "(self) -> _b.float", "__complex__": "(self) -> _b.complex",
    "__iter__": "(self) -> _Iterator[_Tensor]", "__contains__": "(self, element: _Any) -> _b.bool",
    "__getitem__": "(self, index: _Any) -> _Tensor", "__setitem__": "(self, index: _Any, value: _Any) -> None",
    "__array__": "(self, dtype: _Any = ..., copy: _Any = ...) -> _np.ndarray",
}


def translate(annotation: Any, result: bool = False) -> str:
    """An annotation of ours as users see it: Values are tensors, tuples are taken from any sequence."""
    if annotation is inspect.Parameter.empty:
        return "_Any"
    if not isinstance(annotation, str):
        annotation = getattr(annotation, "__name__", str(annotation))
    return _translate(ast.parse(annotation, mode="eval").body, result)


def _translate(node: ast.expr, result: bool) -> str:
    if isinstance(node, ast.Constant):
        return "None" if node.value is None else "..." if node.value is Ellipsis else "_Any"
    if isinstance(node, ast.Name):
        return NAMES.get(node.id, "_Any")
    if isinstance(node, ast.Attribute):
        return "_np.ndarray" if ast.unparse(node) == "np.ndarray" else "_Any"
    if isinstance(node, ast.BinOp):
        sides = [_translate(side, result) for side in (node.left, node.right)]
        return "_Any" if "_Any" in sides else " | ".join(sides)
    if isinstance(node, ast.List):
        return f"[{', '.join(_translate(item, result) for item in node.elts)}]"
    if isinstance(node, ast.Subscript):
        outer = _translate(node.value, result)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        inner = [_translate(item, result) for item in items]
        if outer == "_b.tuple" and inner[-1] == "..." and not result:
            return f"_Sequence[{inner[0]}]"
        return outer if outer == "_Any" else f"{outer}[{', '.join(inner)}]"
    return "_Any"


def signature(function: Callable[..., Any], method: bool) -> str:
    """`(self, dim: int, *, keepdim: bool = ...) -> Tensor` of a public function."""
    extra = {}
    while True:
        found = inspect.signature(function, follow_wrapped=False)
        kinds = {p.kind for p in found.parameters.values()}
        inner = getattr(function, "__wrapped__", None)
        if inner is None or not {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds:
            break
        if "out" in found.parameters:
            extra["out"] = "_Any"
        function = inner
    body = function.function.body if hasattr(function, "function") else function
    notes = getattr(body, "__annotations__", {})
    parts: list[str] = []
    star = False
    for i, p in enumerate(found.parameters.values()):
        if i == 0 and method and p.kind is not inspect.Parameter.VAR_POSITIONAL:
            parts.append("self")
            continue
        if i == 0 and method:
            parts.append("self")
        if p.kind is inspect.Parameter.VAR_POSITIONAL:
            star = True
        if p.kind is inspect.Parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        prefix = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        note = translate(notes.get({"axis": "dim", "keepdims": "keepdim"}.get(p.name, p.name), inspect.Parameter.empty))
        given = "" if p.default is inspect.Parameter.empty else " = ..."
        if p.default is None and note != "_Any" and "None" not in note:
            note += " | None"
        if p.kind is inspect.Parameter.VAR_KEYWORD:
            parts += with_extra(extra, star)
            extra = {}
        parts.append(f"{prefix}{p.name}: {note}{given}")
    parts += with_extra(extra, star)
    return f"({', '.join(parts)}) -> {translate(notes.get('return', inspect.Parameter.empty), result=True)}"


def with_extra(extra: dict[str, str], star: bool) -> list[str]:
    return ([] if star or not extra else ["*"]) + [f"{name}: {note} = ..." for name, note in extra.items()]


def declare(name: str, signature: str, indent: str) -> list[str]:
    """One `def`, broken after its parameters where it is long."""
    line = f"{indent}def {name}{signature}" + ("" if ": ..." in signature else ": ...")
    if len(line) <= WIDTH:
        return [line]
    head, _, tail = line.partition("(")
    parameters, _, result = tail.rpartition(") -> ")
    lines, current = [head + "("], ""
    for part in split(parameters):
        if current and len(indent) + 4 + len(current) + len(part) + 2 > WIDTH:
            lines.append(f"{indent}    {current}")
            current = ""
        current += (" " if current else "") + part + ","
    return [*lines, f"{indent}    {current}", f"{indent}) -> {result}"]


def split(parameters: str) -> Iterable[str]:
    """Parts between the commas that are in no bracket."""
    depth, part = 0, ""
    for c in parameters:
        depth += (c == "[") - (c == "]")
        if c == "," and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += c
    yield part.strip()


def stub(title: str, lines: list[str]) -> str:
    """The file: its title, what it imports, its declarations."""
    text = "\n".join([OPERAND, "", *lines]) + "\n"
    used = set(re.findall(r"\b_\w+", text))
    imports = [line for name, line in IMPORTS.items() if not name.strip() or name in used]
    imports = [line for before, line in zip(["", *imports], imports) if line or before]  # no two blank lines
    return "\n".join([f'"""{title} Written by tools/stubs.py."""', *imports, "", text])


def methods() -> str:
    tree = ast.parse((PACKAGE / "_tensor.py").read_text())
    tensor = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Tensor")
    own = {node.name for node in tensor.body if isinstance(node, ast.FunctionDef)}
    lines = ["class TensorMethods:"]
    for name, attribute in sorted(vars(Tensor).items()):
        if name in own or name.startswith("_") and name not in SPECIAL:
            continue
        if name in SPECIAL:
            lines += declare(name, SPECIAL[name], "    ")
        elif isinstance(attribute, property) and attribute.fget is not None:
            kind = translate(inspect.signature(attribute.fget).return_annotation, result=True)
            kind = "_b.bool" if kind == "_Any" and name.startswith("is_") else kind
            plain, read_only = [f"    {name}: {kind}"], ["    @property", f"    def {name}(self) -> {kind}: ..."]
            lines += plain if attribute.fset else read_only
        elif inspect.isfunction(attribute) and not keyword.iskeyword(name):
            lines += declare(name, signature(attribute, method=True), "    ")
    return stub("What `jtorch.ops` and `jtorch.autograd` attach to `Tensor`.", lines)


def functions() -> str:
    lines = [f"{name}: _b.type[_Tensor]" for name in sorted(CONSTRUCTORS)]
    for name, function in sorted(FUNCTIONS.items()):
        if inspect.isfunction(function):
            lines += declare(name, signature(function, method=False), "")
        else:
            lines.append(f"{name}: _Any")
    return stub("The functions of `jtorch` that `jtorch.ops` defines.", lines)


def outdated() -> list[Path]:
    """The stubs that do not say what they should."""
    return [path for path, text in stubs().items() if not path.exists() or path.read_text() != text]


def stubs() -> dict[Path, str]:
    return {METHODS: methods(), NAMESPACE: functions()}


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(f"run `make stubs`: {', '.join(path.name for path in outdated())}" if outdated() else 0)
    for path, text in stubs().items():
        path.write_text(text)
