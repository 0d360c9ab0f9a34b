"""The types of a kernel's variables: what Numba's inference finds, without its network of constraints.

A kernel is read from top to bottom, and nearly every variable has its type before it is used. Where one does not (a
loop reads what its end writes), or gets a wider one later, the kernel is read again.

This module imports Numba; import it only when a kernel must be compiled.
"""
from __future__ import annotations

import operator
from typing import Any

from numba.core import ir, types
from numba.core.errors import TypingError


class KernelTypes:
    """`typemap`: variable -> type; `calltypes`: expression or store -> signature. Raises Numba's TypingError."""

    def __init__(self, context: Any, function_ir: ir.FunctionIR, arguments: tuple[types.Type, ...]):
        self.context, self.arguments = context, arguments
        self.typemap: dict[str, types.Type] = {f"arg.{n}": t for n, t in zip(function_ir.arg_names, arguments)}
        self.calltypes: dict[Any, Any] = {}
        statements = [s for _, block in sorted(function_ir.blocks.items()) for s in block.body]
        missing, again = len(statements), True
        while again:
            before, missing, again = missing, 0, False
            for s in statements:
                try:
                    if isinstance(s, ir.Assign):
                        again |= self.assign(s.target.name, self.type_of(s.value))
                    elif isinstance(s, ir.SetItem):
                        self.call(s, operator.setitem, (s.target, s.index, s.value))
                except KeyError as name:  # of a variable without a type as yet
                    missing, waits = missing + 1, (name.args[0], s.loc)
                except TypingError as error:
                    raise TypingError(f"line {s.loc.line}: {error}") from None
            again |= 0 < missing < before
        if missing:
            raise TypingError(f"line {waits[1].line}: the type of {waits[0]} depends on itself")

    def assign(self, name: str, found: types.Type) -> bool:
        """Whether the variable has another type than before now."""
        known = self.typemap.setdefault(name, found)
        if known == found:
            return False
        joined = self.context.unify_pairs(known, found)
        if joined is None:
            raise TypingError(f"cannot unify {known} and {found} for {name!r}")
        self.typemap[name] = joined
        return joined != known

    def type_of(self, value: Any) -> types.Type:
        if isinstance(value, ir.Expr):
            if value.op == "call":
                return self.call(value, self.typemap[value.func.name], value.args)
            if value.op == "binop":
                return self.call(value, value.fn, (value.lhs, value.rhs))
            if value.op == "unary":
                return self.call(value, value.fn, (value.value,))
            return self.call(value, operator.getitem, (value.value, value.index))
        if isinstance(value, ir.Var):
            return self.typemap[value.name]
        if isinstance(value, ir.Arg):
            return self.arguments[value.index]
        return self.context.resolve_value_type(value.value)

    def call(self, node: Any, function: Any, operands: Any) -> types.Type:
        operands = tuple([self.typemap[v.name] for v in operands])
        signature = self.calltypes[node] = self.context.resolve_function_type(function, operands, {})
        return signature.return_type
