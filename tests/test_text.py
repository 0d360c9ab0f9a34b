"""Printing and parsing: the round trip of every operation's samples, of random graphs, of regions; and what text looks
like."""
from __future__ import annotations

import math

import numpy as np
import pytest
from op_samples import applied, samples
from random_graphs import random_graph

from jtorch import dtypes
from jtorch.ir.graph import Builder, Graph, Type
from jtorch.ir.interpret import interpret
from jtorch.ir.primitive import REGISTRY, op
from jtorch.ir.prims.create import constant, make_leaf, variable
from jtorch.ir.text import parse_graph, print_graph
from jtorch.ir.verify import Malformed, same_graph, verify


def round_trip(graph: Graph) -> Graph:
    text = print_graph(graph)
    again = parse_graph(text)
    assert same_graph(graph, again), text
    assert print_graph(again) == print_graph(parse_graph(print_graph(again)))
    return again


@pytest.mark.parametrize("name", [n for n, o in REGISTRY.items() if samples(o)])
def test_round_trip_of_each_operation(name: str) -> None:
    for s in samples(REGISTRY[name])[:6]:
        leaves, _, results = applied(REGISTRY[name], s.arrays, s.attrs, mark=True)
        graph = Graph(leaves, results, name)
        round_trip(graph)
        assert print_graph(graph, types=False, bodies=True)  # prints


@pytest.mark.parametrize("seed", range(30))
def test_round_trip_of_random_graphs(seed: int) -> None:
    graph, arrays = random_graph(np.random.default_rng(seed), 25)
    verify(graph)
    for a, b in zip(interpret(graph, arrays), interpret(round_trip(graph), arrays)):
        np.testing.assert_array_equal(a, b)


def test_what_it_looks_like() -> None:
    b = Builder()
    x = make_leaf(b, 0, Type(dtypes.float32, (2, 3)))
    lr = make_leaf(b, -1, Type(dtypes.float64, ()))
    y = op("softmax")(x, axis=1) * lr
    assert print_graph(Graph([x, lr], [y], "step"), locations=False) == """\
def step(x0: float32[2, 3], x1: float64[()] @ -1):
    v0 = softmax(x0, axis=1)                                  # float32[2, 3]
    v1 = cast(x1, dtype=float32)                              # float32[()]
    v2 = expand(v1, shape=(2, 3))                             # float32[2, 3]
    v3 = mul(v0, v2)                                          # float32[2, 3]
    return v3
"""
    text = print_graph(Graph([x], [op("softmax")(x, axis=1)]), locations=False, bodies=True)
    assert "    #   v0_0 = max_number(x0, axes=(1,))" in text and text.rstrip().endswith("return v0")
    assert same_graph(parse_graph(text), Graph([x], [op("softmax")(x, axis=1)]))


def test_constants_keep_their_type_and_sign() -> None:
    b = Builder()
    for value in (1, 1.0, True, math.inf, -math.inf, math.nan, 1e-300, 3 + 4j):
        d = dtypes.of_scalar(value, dtypes.float64)
        round_trip(Graph([], [constant(b, value, d, (2,))]))


def test_other_default_float() -> None:
    b = Builder()
    b.default_float = dtypes.float64
    graph = Graph([], [constant(b, 1, dtypes.int64) / 2])
    assert parse_graph(print_graph(graph)).outputs[0].dtype is dtypes.float64


def test_long_lines_wrap() -> None:
    b = Builder()
    xs = [make_leaf(b, i, Type(dtypes.float32, (1,))) for i in range(60)]
    graph = Graph(xs, [op("concatenate")(*xs, axis=0)])
    round_trip(graph)
    assert max(map(len, print_graph(graph).splitlines())) < 130


def test_equality_is_structural() -> None:
    def build(swap: bool, number: float) -> Graph:
        b = Builder()
        x, y = (make_leaf(b, i, Type(dtypes.float32, (3,))) for i in range(2))
        parts = [op("exp")(x), op("tanh")(y)] if not swap else [op("tanh")(y), op("exp")(x)][::-1]
        return Graph([x, y], [parts[0] * parts[1] + number], "one" if swap else "other")
    assert same_graph(build(False, 1.0), build(True, 1.0))
    assert not same_graph(build(False, 1.0), build(False, 2.0))
    assert not same_graph(build(False, 0.5), Graph([], []))


@pytest.mark.parametrize("text,fault", [
    ("def f(x0: float32[3]):\n    return x1", "x1 is not defined"),
    ("def f(x0: float32[3]):\n    v0 = frobnicate(x0)\n    return v0", "not a call of an operation"),
    ("def f(x0: float32[3]):\n    v0, v1 = exp(x0)\n    return v0", "exp has 1 results"),
    ("def f(x0: float32[3]):\n    v0 = sum(x0, axes=__import__('os'))\n    return v0", "not a literal"),
    ("import os", "a graph's text is one function"),
])
def test_faults_of_text(text: str, fault: str) -> None:
    with pytest.raises(SyntaxError, match=fault):
        parse_graph(text)


def test_verify_shows_the_neighbourhood() -> None:
    b = Builder()
    x = variable(make_leaf(b, 0, Type(dtypes.float32, (3,))), number=0)
    y = op("exp")(op("tanh")(op("sin")(x)))
    verify(Graph([x.inputs[0]], [y]))
    y.inputs[0].type = Type(dtypes.float32, (4,))
    with pytest.raises(Malformed, match="tanh has types") as caught:
        verify(Graph([x.inputs[0]], [y]))
    assert ">>" in str(caught.value) and "sin" in str(caught.value)
    with pytest.raises(Malformed, match="a leaf that is no parameter"):
        verify(Graph([], [op("sin")(x)]))
