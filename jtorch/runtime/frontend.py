"""Kernel text -> LLVM IR, with Numba as front end.

Numba's ordinary pipeline loads some thousands of typing templates, types every operator by trying them in turn,
wraps each function for Python and C callers, and runs LLVM twice. A kernel needs none of that: its values are
numbers and raw pointers, it never raises, and only our runtime calls it. So we take three pieces of Numba as they
are (bytecode to IR, type inference, lowering) and give them two small contexts in which every name is one of
`intrinsics.py`. Numba's own registries are never loaded.

This module imports Numba; import it only when a kernel must be compiled.
"""
from __future__ import annotations

import ast
import builtins

from llvmlite import ir as llvm
from numba.core import compiler, types, typing
from numba.core.base import BaseContext
from numba.core.callconv import BaseCallConv
from numba.core.compiler_lock import global_compiler_lock
from numba.core.funcdesc import PythonFunctionDescriptor
from numba.core.lowering import Lower
from numba.core.targetconfig import ConfigStack
from numba.core.typed_passes import type_inference_stage

from jtorch.runtime import intrinsics
from jtorch.runtime.compile import filename

I64 = llvm.IntType(64)

PARAMETER_TYPES = {f"p:{name}": types.CPointer(t) for name, t in intrinsics.DTYPES.items()}
PARAMETER_TYPES |= {"p:complex128": types.CPointer(types.complex128)}  # to be moved only
PARAMETER_TYPES |= {"i": types.int64, "f": types.float64}


class RangeLoops(ast.NodeTransformer):
    """`for i in range(...)` as a `while` loop on a hidden counter, which types and lowers in a few steps.

        for i in range(a, b, s):        _range0 = a; _range0_end = b; _range0_step = s
            body                   ->   while _range0 < _range0_end:
                                            i = _range0; _range0 = next_index(_range0, _range0_step); body

    The step must be positive, or a negative literal.
    """

    def __init__(self):
        self.count = 0

    def visit_For(self, node):
        self.generic_visit(node)
        call = node.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"):
            raise SyntaxError(f"a kernel can only loop over range(): line {node.lineno}")
        args = call.args
        start = args[0] if len(args) > 1 else ast.Constant(0)
        stop = args[1] if len(args) > 1 else args[0]
        step = args[2] if len(args) > 2 else ast.Constant(1)
        descending = isinstance(step, ast.UnaryOp)
        n, self.count = self.count, self.count + 1
        counter, end, stride = f"_range{n}", f"_range{n}_end", f"_range{n}_step"

        def load(name):
            return ast.Name(name, ast.Load())

        def assign(name, value):
            return ast.Assign([ast.Name(name, ast.Store())], value)

        setup = [assign(counter, start), assign(end, stop)]
        if isinstance(step, ast.Constant) or descending:
            next_step = step
        else:
            setup.append(assign(stride, step))
            next_step = load(stride)
        advance = ast.Call(load("next_index"), [load(counter), next_step], [])
        test = ast.Compare(load(counter), [ast.Gt() if descending else ast.Lt()], [load(end)])
        body = [ast.Assign([node.target], load(counter)), assign(counter, advance), *node.body]
        loop = [*setup, ast.While(test, body, [])]
        for statement in loop:
            ast.copy_location(statement, node)
            ast.fix_missing_locations(statement)
        return loop


class KernelTyping(typing.BaseContext):
    """Types every call and operator by asking its intrinsic."""

    def resolve_function_type(self, func, args, kws):
        return intrinsics.find(func).get_call_type(self, args, kws)

    def resolve_value_type(self, val):
        try:
            return intrinsics.find(val)
        except (KeyError, TypeError):
            return super().resolve_value_type(val)


class KernelCallConvention(BaseCallConv):
    """A plain C function that returns nothing: kernels have no error channel."""

    def _make_call_helper(self, builder):
        return None

    def get_function_type(self, restype, argtypes):
        return llvm.FunctionType(llvm.VoidType(), [self.context.get_value_type(t) for t in argtypes])

    def decorate_function(self, fn, args, fe_argtypes, noalias=False):
        for arg, name in zip(fn.args, args, strict=True):
            arg.name = name

    def get_arguments(self, func):
        return func.args

    def decode_arguments(self, builder, argtypes, func):
        return func.args

    def return_value(self, builder, retval):
        builder.ret_void()


class KernelTarget(BaseContext):
    """Lowers numbers and pointers; functions are intrinsics, so there is nothing to look up."""

    def init(self):
        self.call_conv = KernelCallConvention(self)

    def codegen(self):
        return None

    def declare_env_global(self, module, envname):
        pass

    def post_lowering(self, mod, library):
        pass

    def get_abi_sizeof(self, ty):
        return 8  # asked for debug information only, which we do not emit

    def get_function(self, fn, sig, _firstcall=True):
        def emit(builder, args, loc=None):
            return fn.emit(builder, sig, args)
        return emit

    def cast(self, builder, val, fromty, toty):
        return intrinsics.convert(builder, val, types.unliteral(fromty), types.unliteral(toty))

    def get_constant_generic(self, builder, ty, val):
        if isinstance(ty, types.Literal):
            ty = ty.literal_type
        if isinstance(ty, types.Number | types.Boolean):
            return llvm.Constant(self.get_value_type(ty), val.item() if hasattr(val, "item") else val)
        return self.get_dummy_value()


class _Library:
    """Where Numba's lowering takes its module from and puts it."""

    def __init__(self, features: str):
        self.features = features

    def create_ir_module(self, name):
        self.module = llvm.Module(name)
        self.module.has_scalef = "+avx512f" in self.features  # for vecmath
        self.module.has_bfloat_dot = "+avx512bf16" in self.features  # for tiles
        self.module.has_wide = self.module.has_scalef and "+avx512dq" in self.features and "+avx512vl" in self.features
        return self.module

    def add_ir_module(self, module):
        pass


_typing = KernelTyping()
_target = KernelTarget(_typing, "cpu")
_flags = compiler.Flags()
_flags.error_model = "numpy"
_flags.no_cpython_wrapper = True
_flags.no_cfunc_wrapper = True
_namespace = {**intrinsics.NAMES, "__builtins__": builtins, "__name__": "jtorch.kernel"}


def to_function(source: str, name: str):
    """Execute kernel text and return its Python function."""
    file = filename(name)
    tree = RangeLoops().visit(ast.parse(source, file))
    namespace = dict(_namespace)
    exec(compile(tree, file, "exec"), namespace)
    return namespace["kernel"]


@global_compiler_lock
def to_llvm(source: str, params: tuple[str, ...], name: str, features: str) -> llvm.Module:
    """Type and lower a kernel; the module's function `name` has the uniform ABI."""
    function = to_function(source, name)
    argtypes = tuple(PARAMETER_TYPES[p] for p in params) + (types.int64,) * 3
    function_ir = compiler.run_frontend(function)
    with ConfigStack().enter(_flags.copy()):
        typed = type_inference_stage(_typing, _target, function_ir, argtypes, types.none)
        descriptor = PythonFunctionDescriptor.from_specialized_function(
            function_ir, typed.typemap, typed.return_type, typed.calltypes,
            mangler=lambda *args, **kws: "kernel", inline=False, noalias=True, abi_tags=())
        library = _Library(features)
        Lower(_target, library, descriptor, function_ir).lower()
    add_entry(library.module, library.module.get_global("kernel"), name)
    return library.module


def add_entry(module: llvm.Module, kernel: llvm.Function, name: str) -> None:
    """Add `void name(i64 *args, i64 begin, i64 end, i64 worker)`, which unpacks the table and calls `kernel`."""
    kernel.linkage = "internal"
    kernel.attributes.add("noinline")  # so that noalias stays on parameters, where LLVM reads it best
    kernel.attributes.add("nounwind")
    for arg in kernel.args:
        if isinstance(arg.type, llvm.PointerType):
            arg.add_attribute("noalias")
    entry = llvm.Function(module, llvm.FunctionType(llvm.VoidType(), [I64.as_pointer(), I64, I64, I64]), name)
    builder = llvm.IRBuilder(entry.append_basic_block())
    table, *rest = entry.args
    values = []
    for i, arg in enumerate(kernel.args[:-3]):
        slot = builder.load(builder.gep(table, [llvm.Constant(I64, i)]))
        if isinstance(arg.type, llvm.PointerType):
            slot = builder.inttoptr(slot, arg.type)
        elif arg.type != I64:
            slot = builder.bitcast(slot, arg.type)
        values.append(slot)
    builder.call(kernel, values + rest)
    builder.ret_void()
