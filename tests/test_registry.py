"""Totality: every operation has every rule, or stands in a table here with the reason why not."""
from __future__ import annotations

import keyword

import pytest
from op_samples import NO_SAMPLES, samples

from jtorch.ir.primitive import KINDS, REGISTRY, Op

NO_BATCH = {
    "leaf": "mapping replaces parameters", "placeholder": "mapping replaces it",
    "variable": "ends what is differentiated, not what is mapped",
    "detach": "a marker: mapping passes it on", "graft": "likewise",
    "full": "has no operands", "iota": "has no operands",
    "custom_function": "its mapping belongs to the user",
    "mt19937": "examples would need generators of their own", "scalar_normals": "likewise", "wide_integers": "likewise",
    "shuffle": "likewise", "gamma_draws": "likewise", "poisson_draws": "likewise", "binomial_draws": "likewise",
    "cond": "regions are mapped by the pass that maps graphs", "while_loop": "likewise", "scan": "likewise",
    "copy": "exists in compiled graphs only", "row_places": "made from sizes, which do not vary along a mapped axis",
}
NO_JVP = {
    "custom_function": "its derivative belongs to the user",
    "cond": "regions are differentiated forwards by the pass that does graphs", "while_loop": "likewise",
    "scan": "likewise",
}
BY_BODY = "a composite without the rule is opened, and its body has it"


@pytest.fixture(params=list(REGISTRY.values()), ids=lambda op: op.name)
def op(request: pytest.FixtureRequest) -> Op:
    return request.param


def test_meaning(op: Op) -> None:
    assert op.kind in KINDS and op.infer is not None
    if op.kind == "composite":
        assert op.body is not None and op.numpy is None, "a composite means its body"
    elif op.kind != "leaf":
        assert op.numpy is not None and op.body is None, "a primitive means a NumPy function"


def test_derivative(op: Op) -> None:
    if op.no_grad is not None:
        assert op.vjp is None and len(op.no_grad) > 5, "a reason, and no rule beside it"
    else:
        assert op.vjp is not None or op.kind == "composite", BY_BODY
        forwards = op.jvp is not None or op.linear or op.vjp is not None or op.kind == "composite"
        assert forwards or op.name in NO_JVP, f"{op.name} has no JVP, and no VJP to transpose"


def test_batching(op: Op) -> None:
    assert op.batch is not None or op.kind == "composite" or op.name in NO_BATCH, f"{op.name} has no batching rule"


def test_kernel(op: Op) -> None:
    if op.kind == "elementwise":
        assert op.expr is not None
    if op.kind == "reduce":
        assert op.reduction is not None
    assert (op.fails is None) == (op.error is None)


def test_attributes(op: Op) -> None:
    assert set(op.attr_defaults) <= set(op.attr_names)
    assert len(set(op.attr_names)) == len(op.attr_names)
    hash(tuple(op.attr_defaults.values()))


def test_name(op: Op) -> None:
    assert op.name.isidentifier() and not keyword.iskeyword(op.name), "names are Python in a graph's text"
    assert op.name == op.name.lower()


def test_samples(op: Op) -> None:
    assert samples(op) or op.name in NO_SAMPLES, f"{op.name} has no samples in tests/op_samples.py"


def test_reasons_are_about_operations_that_exist() -> None:
    later = {"copy", "call"}  # registered by the compiler, by capture
    assert not (set(NO_BATCH) | set(NO_JVP) | set(NO_SAMPLES)) - set(REGISTRY) - later
