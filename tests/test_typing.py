"""What type checkers are told agrees with what is there."""
from __future__ import annotations

import ast

from tools import stubs


def test_stubs_are_up_to_date() -> None:
    assert not stubs.outdated(), "operators have changed: run `make stubs`"


def test_stubs_are_python() -> None:
    for text in stubs.stubs().values():
        ast.parse(text)


def test_declarations() -> None:
    methods, functions = stubs.methods(), stubs.functions()
    assert "    def matmul(self, other: _Tensor) -> _Tensor: ...\n" in methods
    assert "    grad: _Tensor | None\n" in methods
    assert "def sum(" in functions and "def zeros(" in functions


def test_signatures() -> None:
    def function(input, dims: tuple[int, ...], *, scale: float = 1.0) -> tuple[int, str]:
        raise NotImplementedError

    assert stubs.signature(function, method=True) == (
        "(self, dims: _Sequence[_b.int], *, scale: _b.float = ...) -> _b.tuple[_b.int, _b.str]")
    assert list(stubs.split("a: _b.dict[_b.str, _b.int], b")) == ["a: _b.dict[_b.str, _b.int]", "b"]
