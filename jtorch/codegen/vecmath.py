"""Vectorisable math functions."""
from __future__ import annotations

from llvmlite import ir

from jtorch.codegen.irmath import F32, F64, Expr

FUNCTIONS: dict = {}


def define(name: str, *types: ir.Type):
    def register(function):
        for t in types:
            FUNCTIONS[name, t] = function
        return function
    return register


def call(builder: ir.IRBuilder, name: str, *args: ir.Value) -> ir.Value:
    """Call math function `name` on float or double values, adding its definition to the module when it is new."""
    type_ = args[0].type
    module = builder.module
    symbol = f"jt.{name}.{'f32' if type_ == F32 else 'f64'}"
    function = module.globals.get(symbol)
    if function is None:
        function = ir.Function(module, ir.FunctionType(type_, [type_] * len(args)), symbol)
        function.linkage = "internal"
        function.attributes.add("alwaysinline")
        body = ir.IRBuilder(function.append_basic_block())
        body.ret(FUNCTIONS[name, type_](*[Expr(body, a) for a in function.args]).value)
    return builder.call(function, args)

ARITY = {"exp": 1}

from jtorch.codegen.irmath import *
@define("exp", F32)
def exp(x):
    return x
