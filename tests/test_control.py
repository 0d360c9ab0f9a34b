"""Control flow: regions are interned, gradients of loops keep the work of weights outside."""
from __future__ import annotations

import numpy as np
import pytest

from jtorch import dtypes
from jtorch.driver import compile_graph
from jtorch.ir.graph import Builder, Graph, Type, Value
from jtorch.ir.interpret import interpret
from jtorch.ir.passes.autodiff import gradients
from jtorch.ir.primitive import op
from jtorch.ir.prims.control import cond, scan, trace, while_loop
from jtorch.ir.prims.create import constant, make_leaf, variable
from jtorch.ir.text import print_graph
from jtorch.ir.verify import verify

VECTOR = Type(dtypes.float32, (3,))


def params(b: Builder, *types: Type) -> list[Value]:
    return [variable(make_leaf(b, i, t), number=i) for i, t in enumerate(types)]


def doubled(x: Value) -> list[Value]:
    return [x * 2.0]


def test_equal_regions_are_one() -> None:
    first, second = (trace(doubled, [VECTOR], name) for name in ("one", "other"))
    assert first is second and first is not trace(lambda x: [x * 3.0], [VECTOR], "one")
    b = Builder()
    x, = params(b, VECTOR)
    p = constant(b, True, dtypes.bool_)
    assert cond(p, x, then_branch=first, else_branch=second) is cond(p, x, then_branch=second, else_branch=first)


def rnn(b: Builder, keep: bool) -> tuple[list[Value], tuple[Value, ...]]:
    """h = tanh(x @ w.T + h @ u + c); `keep`: the body also returns h as a row."""
    square, row, rows = (Type(dtypes.float32, s) for s in ((3, 3), (2, 3), (5, 2, 3)))

    def step(w: Value, u: Value, c: Value, h: Value, x: Value) -> list[Value]:
        new = op("tanh")(op("linear")(x, w, c) + op("matmul")(h, u))
        return [new, new if keep else new * 1.5]
    operands = params(b, square, square, VECTOR, row, rows)
    body = trace(step, [square, square, VECTOR, row, row], "step")
    return operands, scan(*operands, body=body, n_carry=1, length=5, n_consts=3)


@pytest.mark.parametrize("keep", [True, False])
def test_gradients_of_weights_leave_the_loop(keep: bool) -> None:
    b = Builder()
    operands, (_, ys) = rnn(b, keep)
    g = make_leaf(b, 9, ys.type)
    found = gradients([ys], [g], operands)
    graph = verify(Graph([*[v.inputs[0] for v in operands], g], [ys, *[found[v] for v in operands]]))
    loops = [n for n in graph.nodes if n.op is scan]
    assert len(loops) == (2 if keep else 3), "the carry is among the rows, or the loop runs once more to have it"
    assert loops[-1].attr("n_carry") == 1 and loops[-1].attr("reverse"), "only the state is carried backwards"
    products = [n for n in graph.nodes if n.op.name == "matmul"]
    assert [n.inputs[0].shape[1] for n in products] == [10, 10], "one product for each weight, over all steps"


@pytest.mark.parametrize("length, reverse", [(5, False), (5, True), (1, False), (0, False)])
def test_steps_of_a_scan_are_compiled(length: int, reverse: bool) -> None:
    b = Builder()
    row, rows = Type(dtypes.float32, (2, 3)), Type(dtypes.float32, (3, length, 2))
    c, h, x = (make_leaf(b, i, t) for i, t in enumerate((VECTOR, row, rows)))

    def step(c: Value, h: Value, n: Value, x: Value) -> list[Value]:
        h = op("tanh")(h + x) * c
        return [h, n + 1, h * 2.0]
    body = trace(step, [VECTOR, row, Type(dtypes.int64, ()), row], "step")
    turned = op("permute")(x, perm=(1, 2, 0))  # rows that are not contiguous
    results = scan(c, h, constant(b, 3, dtypes.int64), turned, body=body, n_carry=2, length=length, n_consts=1,
                   reverse=reverse)
    graph = Graph([c, h, x], list(results))
    arrays = [np.random.default_rng(i).standard_normal(v.shape).astype(np.float32) for i, v in enumerate((c, h, x))]
    found = [np.empty(v.shape, v.dtype.numpy) for v in results]
    executable = compile_graph(graph)
    executable.run([a.ctypes.data for a in (*arrays, *found)])
    for got, expected in zip(found, interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_nested_regions_print_as_functions() -> None:
    b = Builder()
    operands, (_, ys) = rnn(b, True)
    text = print_graph(Graph([v.inputs[0] for v in operands], [ys], "net"))
    assert "    def step(x0: float32[3, 3]" in text and "body=step, n_carry=1, length=5, n_consts=3)" in text


def test_regions_must_fit() -> None:
    b = Builder()
    x, = params(b, VECTOR)
    p = constant(b, True, dtypes.bool_)
    with pytest.raises(RuntimeError, match="both branches must return the same shapes"):
        cond(p, x, then_branch=trace(doubled, [VECTOR], "a"), else_branch=trace(lambda x: [x, x], [VECTOR], "b"))
    with pytest.raises(RuntimeError, match="must return one bool scalar"):
        while_loop(x, condition=trace(doubled, [VECTOR], "a"), body=trace(doubled, [VECTOR], "a"))
    with pytest.raises(RuntimeError, match="must have 4 rows"):
        scan(x, x, body=trace(doubled, [VECTOR], "a"), n_carry=1, length=4)
