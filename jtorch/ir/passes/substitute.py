"""Values rebuilt with others in the place of some that they depend on, in the same builder."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from jtorch.ir.graph import Value, operands_first


def substitute(values: Sequence[Value], replacement: Callable[[Value], Value | None], env: dict[Value, Value],
               live: bool = True) -> list[Value]:
    """`values` with each node for which `replacement(node)` is a Value replaced by that.

    With `live`, values that do not require grad are left as they are. `env` remembers what has been rebuilt.
    """
    def step(v: Value) -> list[Value]:
        new = v if live and not v.requires_grad else replacement(v)
        if new is not None:
            env[v] = new
            return []
        missing = [i for i in v.inputs if i not in env]
        if not missing:
            inputs = tuple([env[i] for i in v.inputs])
            if inputs == v.inputs:
                env.update(zip(v.siblings, v.siblings))
            else:
                result = v.builder.intern(v.op, inputs, v.attrs, v.loc)
                env.update(zip(v.siblings, result if isinstance(result, tuple) else (result,)))
        return missing

    operands_first(values, env, step)
    return [env[v] for v in values]
