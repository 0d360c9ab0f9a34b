"""Passes, one file of cases each: titled pairs of graphs, before and after, equal to the interpreter."""
from pathlib import Path

import numpy as np
import pytest

from jtorch.ir.interpret import interpret
from jtorch.ir.passes.fold import fold
from jtorch.ir.passes.hoist import hoist
from jtorch.ir.passes.simplify import simplify
from jtorch.ir.text import parse_graph, print_graph
from jtorch.ir.verify import same_graph

PASSES = {"simplify": simplify, "fold": fold, "hoist": hoist}
HERE = Path(__file__).parent


def cases():
    for name in PASSES:
        text = (HERE / "cases" / f"{name}.txt").read_text()
        for case in text.strip().split("\n\n"):
            title, _, pair = case.partition("\n")
            before, after = pair.split("# ->\n")
            yield pytest.param(name, before, after, id=f"{name}: {title.lstrip('# ')}")


def arrays(graph):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(p.shape) * 3).astype(p.dtype.numpy) for p in graph.params]


@pytest.mark.parametrize("name,before,after", list(cases()))
def test_case(name, before, after):
    graph, wanted = parse_graph(before), parse_graph(after)
    found = PASSES[name](graph)
    assert same_graph(found, wanted), f"found\n{print_graph(found)}\nwanted\n{print_graph(wanted)}"
    if "floor_divide" in before:
        return
    given = arrays(graph)
    for a, b in zip(interpret(graph, given), interpret(found, given)):
        np.testing.assert_array_equal(a, b)
