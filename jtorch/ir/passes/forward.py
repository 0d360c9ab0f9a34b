"""Forward-mode differentiation: the tangents of values as more Values in the same builder.

>>> # y = exp(x) * w;  tangents([y], {x: t})
>>> # -> [t * exp(x) * w]
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from jtorch.ir.graph import Value, operands_first
from jtorch.ir.passes.autodiff import gradients, input_cotangents
from jtorch.ir.passes.decompose import expand_body
from jtorch.ir.prims.create import variable
from jtorch.ir.prims.elementwise import batch_elementwise, zeros_like

Tangent = Value | None


def tangents(outputs: Sequence[Value], seeds: Mapping[Value, Value]) -> list[Tangent]:
    """The tangent of each output, given those of the values in `seeds`; None where there is none.

    The seeds have to require grad: tangents flow along the values that do.
    """
    env: dict[Value, Tangent] = dict(seeds)

    def step(v: Value) -> list[Value]:
        if not v.requires_grad or v.op is variable:  # says nothing of the other results of its operation
            env[v] = None
            return []
        missing = [i for i in v.inputs if i not in env]
        if not missing:
            found = node_tangents(v.siblings, [env[i] for i in v.inputs])
            env.update((s, t) for s, t in zip(v.siblings, found) if s not in env)
        return missing

    operands_first(outputs, env, step)
    return [env[v] for v in outputs]


def node_tangents(results: tuple[Value, ...], given: Sequence[Tangent]) -> Sequence[Tangent]:
    """Tangents of the results of one operation, given those of its operands."""
    node = results[0]
    if all(t is None for t in given):
        return [None] * len(results)
    op, inputs, attrs = node.op, node.inputs, node.kwargs
    if op.jvp is not None:
        found = op.jvp(tuple(given), node if len(results) == 1 else results, *inputs, **attrs)
    elif op.linear:
        found = node.builder.intern(op, tuple([zeros_like(v) if t is None else t for t, v in zip(given, inputs)]),
                                    node.attrs)
    elif op.vjp is not None and is_pointwise(node):
        found = pointwise_tangent(node, given)
    elif op.vjp is not None:
        found = transposed(results, given)
    elif op.body is not None:
        return body_tangents(results, given)
    else:
        raise NotImplementedError(f"Trying to use forward AD with {op.name} that does not support it because it has "
                                  "not been implemented yet.")
    listed = found if isinstance(found, tuple | list) else (found,)
    return [t if r.requires_grad else None for t, r in zip(listed, results)]


def is_pointwise(node: Value) -> bool:
    """Is the Jacobian with respect to each operand diagonal, and the rule a formula of real calculus?"""
    op = node.op
    return (len(node.siblings) == 1 and not op.wirtinger
            and (op.kind == "elementwise" or op.batch is batch_elementwise))


def pointwise_tangent(node: Value, given: Sequence[Tangent]) -> Tangent:
    """A diagonal Jacobian is its own transpose, so the VJP maps tangents too."""
    total: Tangent = None
    assert node.op.vjp is not None
    for i, t in enumerate(given):
        if t is None:
            continue
        part = node.op.vjp(t, node, *node.inputs, **node.kwargs)[i]
        if part is not None:
            total = part if total is None else total + part
    return total


def transposed(results: tuple[Value, ...], given: Sequence[Tangent]) -> list[Tangent]:
    """The operation's VJP, which is linear in its cotangents u, transposed: <vjp(u), t> has the gradient J t in u."""
    node = results[0]
    seeds = {r: variable(zeros_like(r), number=-1 - i) for i, r in enumerate(results) if r.requires_grad}
    pulled = input_cotangents(node, seeds)
    pairs = [(c, t) for c, t in zip(pulled, given) if c is not None and t is not None and c.requires_grad]
    found = gradients([c for c, _ in pairs], [t for _, t in pairs], [*seeds.values(), *node.inputs, *results],
                      stop_at_wrt=True)
    return [found.get(seeds[r]) if r in seeds else None for r in results]


def body_tangents(results: tuple[Value, ...], given: Sequence[Tangent]) -> list[Tangent]:
    """A composite without a rule of its own is differentiated through its body."""
    node = results[0]
    body = expand_body(node.builder, node, node.inputs)
    seeds: dict[Value, Value | None] = {}
    for v, t in zip(node.inputs, given):
        seeds.setdefault(v, t)
    return tangents(body if isinstance(body, tuple) else (body,), seeds)  # type: ignore[arg-type]
