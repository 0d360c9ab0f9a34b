"""Kernel text -> LLVM IR, with Numba as front end.

Numba's ordinary pipeline loads some thousands of typing templates, types every operator by trying them in turn,
wraps each function for Python and C callers, and runs LLVM twice. A kernel needs none of that: its values are
numbers and raw pointers, it never raises, and only our runtime calls it. So we take Numba's IR (which `kernel_ir` makes
from the text), its types (which `kernel_types` finds) and its lowering, and give them two small contexts in which every
name is one of `intrinsics.py`. Numba's own registries are never loaded.

This module imports Numba; import it only when a kernel must be compiled.
"""
from __future__ import annotations

import operator

from llvmlite import ir as llvm
from numba.core import compiler, ir, types, typing
from numba.core.base import BaseContext
from numba.core.callconv import BaseCallConv
from numba.core.compiler_lock import global_compiler_lock
from numba.core.funcdesc import PythonFunctionDescriptor
from numba.core.lowering import Lower
from numba.core.targetconfig import ConfigStack

from jtorch.runtime import intrinsics
from jtorch.runtime.compile import filename
from jtorch.runtime.kernel_ir import KernelReader
from jtorch.runtime.kernel_types import KernelTypes

I64 = llvm.IntType(64)

PARAMETER_TYPES = {f"p:{name}": types.CPointer(t) for name, t in intrinsics.DTYPES.items()}
PARAMETER_TYPES |= {"p:complex128": types.CPointer(types.complex128)}  # to be moved only
PARAMETER_TYPES |= {"i": types.int64, "f": types.float64}


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


class KernelLowering(Lower):
    """Lowers statements without the error texts that Numba prepares for each, and loads and stores only the variables
    that are not in `values`."""

    def __init__(self, values: set[str], *args):
        self._singly_assigned_vars, self._blk_local_varmap = values, {}
        super().__init__(*args)

    def _find_singly_assigned_variable(self):
        pass  # `values` it is

    def pre_block(self, block):
        pass

    def lower_block(self, block):
        for inst in block.body:
            self.loc = inst.loc
            if isinstance(inst, ir.Assign):
                self.storevar(self.lower_assign(self.typeof(inst.target.name), inst), inst.target.name)
            else:
                self.lower_inst(inst)

    def storevar(self, value, name, argidx=None):
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self._alloca_var(name, self.typeof(name))
            self.builder.store(value, self.varmap[name])

    def lower_expr(self, resty, expr):
        if expr.op == "call":
            function, operands = self.typeof(expr.func.name), expr.args
        elif expr.op == "binop":
            function, operands = intrinsics.find(expr.fn), (expr.lhs, expr.rhs)
        elif expr.op == "unary":
            function, operands = intrinsics.find(expr.fn), (expr.value,)
        else:
            function, operands = intrinsics.find(operator.getitem), (expr.value, expr.index)
        signature = self.fndesc.calltypes[expr]
        values = [self.context.cast(self.builder, self.loadvar(v.name), self.typeof(v.name), t)
                  for v, t in zip(operands, signature.args, strict=True)]
        result = function.emit(self.builder, signature, values)
        if result is None:
            result = self.context.get_dummy_value()
        return self.context.cast(self.builder, result, signature.return_type, resty)


class _Library:
    """Where Numba's lowering takes its module from and puts it."""

    def __init__(self, features: str):
        self.features = features

    def create_ir_module(self, name):
        self.module = llvm.Module(name)
        self.module.has_scalef = "+avx512f" in self.features  # for vecmath
        self.module.has_sfence = "+sse2" in self.features
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


@global_compiler_lock
def to_llvm(source: str, params: tuple[str, ...], name: str, features: str) -> llvm.Module:
    """Type and lower a kernel; the module's function `name` has the uniform ABI."""
    kernel = KernelReader(source, filename(name))
    function_ir = kernel.function_ir
    argtypes = tuple(PARAMETER_TYPES[p] for p in params) + (types.int64,) * 3
    with ConfigStack().enter(_flags.copy()):
        typed = KernelTypes(_typing, function_ir, argtypes)
        descriptor = PythonFunctionDescriptor.from_specialized_function(
            function_ir, typed.typemap, types.none, typed.calltypes,
            mangler=lambda *args, **kws: "kernel", inline=False, noalias=True, abi_tags=())
        library = _Library(features)
        KernelLowering(kernel.values, _target, library, descriptor, function_ir).lower()
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
