"""Values rebuilt with others in the place of some that they depend on, in the same builder."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from jtorch.ir.graph import Value


def substitute(values: Sequence[Value], replacement: Callable[[Value], Value | None], env: dict[Value, Value],
               live: bool = True) -> list[Value]:
    """`values` with each node for which `replacement(node)` is a Value replaced by that; it is asked once per node.

    With `live`, values that do not require grad are left as they are. `env` remembers what has been rebuilt.
    """
    stack = [v for v in values if v not in env]
    while stack:
        v = stack[-1]
        if v in env:
            stack.pop()
            continue
        if live and not v.requires_grad:
            env[v] = v
            continue
        new = replacement(v)
        if new is not None:
            env[v] = new
            continue
        missing = [i for i in v.inputs if i not in env]
        if missing:
            stack += missing
            continue
        stack.pop()
        inputs = tuple([env[i] for i in v.inputs])
        if inputs == v.inputs:
            env.update(zip(v.siblings, v.siblings))
        else:
            result = v.builder.intern(v.op, inputs, v.attrs, v.loc)
            env.update(zip(v.siblings, result if isinstance(result, tuple) else (result,)))
    return [env[v] for v in values]
