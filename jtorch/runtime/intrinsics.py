"""The names that kernel source may use: their types, and the LLVM they become.

Every operator and function of a kernel is an `Intrinsic`: a typing rule (argument types -> result type and the types
that the arguments are converted to) and an emitter. The rules are true to dtype: an operation on two float32 is
float32, on two uint8 is uint8. Of two different types the wider wins, a float wins over an integer (which makes
float64, as a float32 cannot hold it), and of two integers of one width the unsigned wins. Literals are int64 and
float64, so write `f32(0.5)` and `i32(1)` where the neighbours are narrower.

This module imports Numba; import it only to compile a kernel. The table of names is in `docs/kernels.md`.
"""
from __future__ import annotations

import operator
from collections.abc import Callable

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models, register_default
from numba.core.errors import TypingError
from numba.core.typing import signature

from jtorch.codegen import vecmath, vecmath_inverse  # noqa: F401  the second adds to the first's functions
from jtorch.codegen.irmath import F32, F64, I1, I32, I64, call_llvm
from jtorch.runtime import prefetch, streaming

I8, I16 = ir.IntType(8), ir.IntType(16)
HALF = ir.HalfType()

DTYPES = {"float32": types.float32, "float64": types.float64, "bool": types.boolean,
          "int8": types.int8, "int16": types.int16, "int32": types.int32, "int64": types.int64,
          "uint8": types.uint8, "uint16": types.uint16, "uint32": types.uint32, "uint64": types.uint64}

LLVM_TYPES = {t: ir.IntType(t.bitwidth) for t in types.integer_domain}
LLVM_TYPES |= {types.float32: F32, types.float64: F64, types.boolean: I1}


class Intrinsic(types.Callable):
    """One function or operator of the kernel language."""

    def __init__(self, name: str, rule: Callable, emitter: Callable):
        self.rule, self.emitter, self.signatures = rule, emitter, {}
        super().__init__(f"jtorch.{name}")

    def get_call_type(self, context, args, kws):
        sig = self.signatures.get(args)
        if sig is None:
            try:
                result, parameters = self.rule(*map(types.unliteral, args))
            except (TypeError, KeyError):
                got = ", ".join(str(types.unliteral(a)) for a in args)
                raise TypingError(f"{self.name.removeprefix('jtorch.')} does not take ({got})") from None
            sig = self.signatures[args] = signature(result, *parameters)
        return sig

    def get_call_signatures(self):
        return list(self.signatures.values()), True

    def get_impl_key(self, sig):
        return self

    def emit(self, builder: ir.IRBuilder, sig, args):
        return self.emitter(builder, sig, *args)


register_default(Intrinsic)(models.OpaqueModel)  # a function's name may be held in a variable across blocks

NAMES: dict[str, Intrinsic] = {}
OPERATORS: dict[object, Intrinsic] = {}


def find(value) -> Intrinsic:
    """The intrinsic that a name or operator of a kernel stands for; KeyError if there is none."""
    return value if isinstance(value, Intrinsic) else OPERATORS[value]


def intrinsic(rule: Callable, *names: str, operators: tuple = ()) -> Callable:
    """Decorator: the emitter below it is what these names and Python operators become."""
    def register(emitter):
        name = names[0] if names else f"operator {operators[0].__name__}"  # Numba identifies a type by its name
        function = Intrinsic(name, rule, emitter)
        NAMES.update(dict.fromkeys(names, function))
        OPERATORS.update(dict.fromkeys(operators, function))
        return emitter
    return register


# ---------------------------------------------------------------- typing rules

def common(*args):
    """The type in which an operation on these types is done."""
    result = args[0]
    for t in args[1:]:
        if t == result:
            continue
        if not isinstance(t, types.Number | types.Boolean) or not isinstance(result, types.Number | types.Boolean):
            raise TypeError
        if isinstance(t, types.Boolean):
            continue
        if isinstance(result, types.Boolean):
            result = t
        elif isinstance(t, types.Float) or isinstance(result, types.Float):
            result = types.float64
        elif t.bitwidth != result.bitwidth:
            result = max(t, result, key=lambda x: x.bitwidth)
        else:
            result = result if not result.signed else t
    if not isinstance(result, types.Number | types.Boolean):
        raise TypeError
    return result


def floating(*args):
    """Like `common`, but integers and booleans become float64."""
    result = common(*args)
    return result if isinstance(result, types.Float) else types.float64


def unary(a):
    t = common(a)
    return t, (t,)


def binary(a, b):
    t = common(a, b)
    return t, (t, t)


def comparison(a, b):
    return types.boolean, binary(a, b)[1]


def integral(a, b):
    t = common(a, b)
    if isinstance(t, types.Float):
        raise TypeError
    return t, (t, t)


def float_function(arity):
    def rule(*args):
        if len(args) != arity:
            raise TypeError
        t = floating(*args)
        return t, (t,) * arity
    return rule


def float_predicate(a):
    return types.boolean, (floating(a),)


def fixed(result, *parameters):
    """A function of exactly these types; arguments are converted."""
    def rule(*args):
        if len(args) != len(parameters):
            raise TypeError
        common(*args)
        return result, parameters
    return rule


# ---------------------------------------------------------------- conversion

def convert(builder, value, source, target):
    """`value` of type `source` as `target`.

    A float becomes an integer by truncation, in 32 bits (64 for wide targets), then wraps, as NumPy does on x86.
    """
    if source == target or target == types.none:
        return value
    if isinstance(source, types.CPointer):
        return builder.ptrtoint(value, I64)
    to = LLVM_TYPES[target]
    if isinstance(target, types.Boolean):
        zero = ir.Constant(value.type, 0)
        if isinstance(source, types.Float):
            return builder.fcmp_unordered("!=", value, zero)
        return builder.icmp_unsigned("!=", value, zero)
    signed = isinstance(source, types.Integer) and source.signed
    if isinstance(target, types.Float):
        if isinstance(value, ir.Constant) and isinstance(value.constant, int | float):
            return ir.Constant(to, float(value.constant))
        if isinstance(source, types.Boolean) and value.type == I1:
            return builder.select(value, ir.Constant(to, 1.0), ir.Constant(to, 0.0))
        if isinstance(source, types.Float):
            return builder.fpext(value, to) if target.bitwidth > source.bitwidth else builder.fptrunc(value, to)
        return builder.sitofp(value, to) if signed else builder.uitofp(value, to)
    if isinstance(source, types.Float):
        return _float_to_integer(builder, value, target, to)
    if value.type.width == to.width:
        return value
    if value.type.width > to.width:
        return builder.trunc(value, to)
    return builder.sext(value, to) if signed else builder.zext(value, to)


def _float_to_integer(builder, value, target, to):
    if target == types.uint64:
        top = ir.Constant(value.type, 2.0**63)
        big = builder.fcmp_ordered(">=", value, top)
        low = builder.fptosi(builder.select(big, builder.fsub(value, top), value), I64)
        return builder.select(big, builder.xor(low, ir.Constant(I64, -(2**63))), low)
    wide = I64 if target.bitwidth == 64 or target == types.uint32 else I32
    result = builder.fptosi(value, wide)
    return result if wide == to else builder.trunc(result, to)


def _conversion(target):
    def rule(a):
        return target, (a if isinstance(a, types.CPointer) else common(a),)

    def emitter(builder, sig, value):
        return convert(builder, value, sig.args[0], target)
    return rule, emitter


def _register_conversions():
    aliases = {"float32": "f32", "float64": "f64", "bool": "b8"}
    for name, target in DTYPES.items():
        short = aliases.get(name) or name.replace("uint", "u").replace("int", "i")
        extra = {"float64": (float,), "int64": (int,), "bool": (bool,)}.get(name, ())
        rule, emitter = _conversion(target)
        intrinsic(rule, short, operators=extra)(emitter)


_register_conversions()


# ---------------------------------------------------------------- memory

def _load_rule(pointer, index):
    if not isinstance(pointer, types.CPointer):
        raise TypeError
    return pointer.dtype, (pointer, types.int64)


def _store_rule(pointer, index, value):
    common(value)
    return types.none, (pointer, types.int64, pointer.dtype)


@intrinsic(_load_rule, operators=(operator.getitem,))
def load(builder, sig, pointer, index):
    value = builder.load(builder.gep(pointer, [index], inbounds=True))
    return convert(builder, value, types.uint8, types.boolean) if sig.return_type == types.boolean else value


@intrinsic(lambda pointer, start, index: (pointer.dtype, (pointer, types.int64, types.int64)), "load_from")
def load_from(builder, sig, pointer, start, index):
    """pointer[start + index], where a loop counts in `index`. LLVM sees that its steps do not wrap around, which it
    cannot know of the sum: so it reads whole vectors and takes every other element, where it would gather."""
    return load(builder, sig, builder.gep(pointer, [start]), index)


@intrinsic(lambda condition, pointer, index: (pointer.dtype, (types.boolean, pointer, types.int64)), "load_if")
def load_if(builder, sig, condition, pointer, index):
    """pointer[index] where `condition` holds, else 0: a masked load in a vectorised loop."""
    before = builder.block
    with builder.if_then(condition):
        value = builder.load(builder.gep(pointer, [index]))
        inside = builder.block
    result = builder.phi(value.type)
    result.add_incoming(ir.Constant(value.type, 0), before)
    result.add_incoming(value, inside)
    return convert(builder, result, types.uint8, types.boolean) if sig.return_type == types.boolean else result


@intrinsic(_store_rule, operators=(operator.setitem,))
def store(builder, sig, pointer, index, value):
    if value.type == I1:
        value = builder.zext(value, I8)
    builder.store(value, builder.gep(pointer, [index], inbounds=True))
    return ir.Constant(ir.LiteralStructType([]), None)


def _address_rule(pointer, index):
    _load_rule(pointer, index)
    return types.int64, (pointer, types.int64)


@intrinsic(_address_rule, "addr_of")
def addr_of(builder, sig, pointer, index):
    """The address of pointer[index], an int64."""
    return builder.ptrtoint(builder.gep(pointer, [index]), I64)


def _ahead_rule(value, pointer, start, index):
    if value != pointer.dtype:
        raise TypeError
    return value, (value, pointer, types.int64, types.int64)


@intrinsic(_ahead_rule, "load_ahead")
def load_ahead(builder, sig, value, pointer, start, index):
    """value; pointer[start + index] will soon be read."""
    name = prefetch.symbol(str(value.type))
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(value.type, [value.type, pointer.type, I64]), name)
    return builder.call(function, [value, builder.gep(pointer, [start]), index])


def _past_rule(value, pointer, start, index):
    common(value)
    return types.int32, (pointer.dtype, pointer, types.int64, types.int64)


@intrinsic(_past_rule, "store_past")
def store_past(builder, sig, value, pointer, start, index):
    """pointer[start + index] = value, past the caches. The result is for `drain`."""
    name = streaming.symbol(str(value.type))
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(I32, [value.type, pointer.type, I64]), name)
    return builder.call(function, [value, builder.gep(pointer, [start]), index])


@intrinsic(lambda past: (types.none, (types.int32,)), "drain")
def drain(builder, sig, past):
    """What `store_past` stored is seen by other threads from here on."""
    def fence():
        if builder.module.has_sfence:
            name = "llvm.x86.sse.sfence"
            builder.call(builder.module.globals.get(name) or ir.Function(
                builder.module, ir.FunctionType(ir.VoidType(), []), name), [])
        else:
            builder.fence("seq_cst")

    with builder.if_then(builder.icmp_unsigned("!=", past, ir.Constant(I32, 0)), likely=False):
        fence()  # never; but LLVM has to know `past` before it comes to the next line
    fence()


def _store_error_rule(pointer, code):
    return types.none, (pointer, pointer.dtype)


@intrinsic(_store_error_rule, "store_error")
def store_error(builder, sig, pointer, code):
    """pointer[0] = code, if it is 0."""
    old = builder.load(pointer)
    first = builder.icmp_signed("==", old, ir.Constant(old.type, 0))
    builder.store(builder.select(first, code, old), pointer)


# ---------------------------------------------------------------- arithmetic

def _arithmetic(float_op, int_op, *operators, names=(), flags=(), rule=binary):
    @intrinsic(rule, *names, operators=operators)
    def emitter(builder, sig, a, b):
        if isinstance(sig.return_type, types.Float):
            return getattr(builder, float_op)(a, b, flags=flags)
        return getattr(builder, int_op)(a, b)


REASSOCIATE = ("reassoc", "contract", "nsz")

_arithmetic("fadd", "add", operator.add, operator.iadd)
_arithmetic("fsub", "sub", operator.sub, operator.isub)
_arithmetic("fmul", "mul", operator.mul, operator.imul)
_arithmetic("fadd", "add", names=("reassoc_add",), flags=REASSOCIATE)
_arithmetic("fmul", "mul", names=("reassoc_mul",), flags=REASSOCIATE)
_arithmetic("", "and_", operator.and_, operator.iand, rule=integral)
_arithmetic("", "or_", operator.or_, operator.ior, rule=integral)
_arithmetic("", "xor", operator.xor, operator.ixor, rule=integral)


@intrinsic(float_function(2), operators=(operator.truediv, operator.itruediv))
def divide(builder, sig, a, b):
    return builder.fdiv(a, b)


@intrinsic(unary, operators=(operator.neg,))
def negative(builder, sig, a):
    return builder.fneg(a) if isinstance(sig.return_type, types.Float) else builder.neg(a)


@intrinsic(unary, operators=(operator.pos,))
def positive(builder, sig, a):
    return a


@intrinsic(unary, operators=(operator.invert,))
def invert(builder, sig, a):
    return builder.not_(a)


@intrinsic(lambda a: (types.boolean, (types.boolean,)), operators=(operator.not_,))
def logical_not(builder, sig, a):
    return builder.not_(a)


def _comparison(symbol, op):
    @intrinsic(comparison, operators=(op,))
    def emitter(builder, sig, a, b):
        if isinstance(sig.args[0], types.Float):
            ordered = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
            return ordered(symbol, a, b)
        signed = isinstance(sig.args[0], types.Integer) and sig.args[0].signed
        return (builder.icmp_signed if signed else builder.icmp_unsigned)(symbol, a, b)


for _symbol, _op in (("<", operator.lt), ("<=", operator.le), (">", operator.gt), (">=", operator.ge),
                     ("==", operator.eq), ("!=", operator.ne)):
    _comparison(_symbol, _op)


@intrinsic(fixed(types.int64, types.int64, types.int64), "next_index")
def next_index(builder, sig, index, step):
    """A loop counter's next value. It does not wrap, which LLVM has to know to compute trip counts."""
    return builder.add(index, step, flags=("nsw",))


def _select_rule(condition, a, b):
    t = common(a, b)
    return t, (types.boolean, t, t)


@intrinsic(_select_rule, "select")
def select(builder, sig, condition, a, b):
    """a where condition, else b; both are computed, nothing branches."""
    return builder.select(condition, a, b)


# ---------------------------------------------------------------- integer division and shifts

def _signed(sig):
    return isinstance(sig.return_type, types.Integer) and sig.return_type.signed


def _zero(value):
    return ir.Constant(value.type, 0)


def _safe_divisor(builder, sig, a, b):
    """b, with 1 in place of what would trap: 0, and -1 under the smallest integer (where a // 1 is also right)."""
    one = ir.Constant(b.type, 1)
    bad = builder.icmp_unsigned("==", b, _zero(b))
    if _signed(sig):
        smallest = ir.Constant(a.type, -(2 ** (a.type.width - 1)))
        overflow = builder.and_(builder.icmp_signed("==", a, smallest),
                                builder.icmp_signed("==", b, ir.Constant(b.type, -1)))
        bad = builder.or_(bad, overflow)
    return builder.select(bad, one, b)


def _quotient(builder, sig, a, b):
    """a / b rounded towards zero, for b that does not trap.

    Up to 32 bits through float64, which is exact (a quotient that is no integer is at least 2**-31 of its value away
    from one) and, unlike integer division, vectorises.
    """
    signed = _signed(sig)
    if a.type.width == 64:
        if signed and getattr(builder.module, "has_wide", False):
            return _long_quotient(builder, a, b)
        return (builder.sdiv if signed else builder.udiv)(a, b)
    widen, narrow = (builder.sitofp, builder.fptosi) if signed else (builder.uitofp, builder.fptoui)
    return narrow(builder.fdiv(widen(a, F64), widen(b, F64)), a.type)


def _long_quotient(builder, a, b):
    """The same for int64 where processors convert them to float64 in vectors.

    The first quotient is good to 3 * 2**-53 of itself, so what it leaves is less than |b| + 3072. A second one of that
    is right, or one too far where less than 3 * 2**-53 of it is missing to the next integer: then the rest has not a's
    sign.
    """
    divisor, largest = builder.sitofp(b, F64), ir.Constant(F64, 2.0**63 - 1024)
    quotient, rest = ir.Constant(a.type, 0), a
    for _ in range(2):
        part = builder.fdiv(builder.sitofp(rest, F64), divisor)
        part = builder.select(builder.fcmp_ordered(">", part, largest), largest, part)
        whole = builder.fptosi(part, a.type)
        quotient, rest = builder.add(quotient, whole), _rest(builder, rest, b, whole)
    zero, bits = _zero(a), ir.Constant(a.type, 63)
    beyond = builder.and_(builder.icmp_signed("!=", rest, zero),
                          builder.icmp_signed("<", builder.xor(rest, a), zero))
    back = builder.or_(builder.ashr(builder.xor(a, b), bits), ir.Constant(a.type, 1))  # the sign of a / b
    return builder.select(beyond, builder.sub(quotient, back), quotient)


def _rest(builder, a, b, quotient):
    return builder.sub(a, builder.mul(quotient, b))


def _zero_where_divisor_is(builder, b, result):
    return builder.select(builder.icmp_unsigned("==", b, _zero(b)), _zero(result), result)


def _fmod_float(builder, a, b):
    return vecmath.call(builder, "fmod", a, b) if a.type == F32 else builder.frem(a, b)


def _floor_divide_float(builder, a, b):
    """As PyTorch's div_floor: from fmod, so that (a // b) * b + a % b is a."""
    zero, one = _zero(a), ir.Constant(a.type, 1.0)
    remainder = _fmod_float(builder, a, b)
    quotient = builder.fdiv(builder.fsub(a, remainder), b)
    quotient = builder.select(_signs_differ(builder, remainder, b), builder.fsub(quotient, one), quotient)
    floored = call_llvm(builder, "floor", quotient)
    short = builder.fcmp_ordered(">", builder.fsub(quotient, floored), ir.Constant(a.type, 0.5))
    floored = builder.select(short, builder.fadd(floored, one), floored)
    exact = builder.fdiv(a, b)
    floored = builder.select(builder.fcmp_ordered("==", quotient, zero), call_llvm(builder, "copysign", zero, exact),
                             floored)
    return builder.select(builder.fcmp_ordered("==", b, zero), exact, floored)


def _signs_differ(builder, remainder, b):
    """A nonzero remainder whose sign is not the divisor's."""
    zero = _zero(b)
    if isinstance(b.type, ir.IntType):
        nonzero = builder.icmp_signed("!=", remainder, zero)
        opposite = builder.icmp_signed("<", builder.xor(remainder, b), zero)
    else:
        nonzero = builder.fcmp_unordered("!=", remainder, zero)
        opposite = builder.xor(builder.fcmp_ordered("<", remainder, zero), builder.fcmp_ordered("<", b, zero))
    return builder.and_(nonzero, opposite)


@intrinsic(binary, "floor_divide", operators=(operator.floordiv, operator.ifloordiv))
def floor_divide(builder, sig, a, b):
    """Python's a // b; 0 for an integer divided by zero."""
    if isinstance(sig.return_type, types.Float):
        return _floor_divide_float(builder, a, b)
    divisor = _safe_divisor(builder, sig, a, b)
    quotient = _quotient(builder, sig, a, divisor)
    if _signed(sig):
        rest = _rest(builder, a, divisor, quotient)
        quotient = builder.add(quotient, builder.sext(_signs_differ(builder, rest, divisor), a.type))
    return _zero_where_divisor_is(builder, b, quotient)


@intrinsic(binary, "remainder", operators=(operator.mod, operator.imod))
def remainder(builder, sig, a, b):
    """Python's a % b; 0 for an integer divided by zero."""
    if isinstance(sig.return_type, types.Float):
        rest = _fmod_float(builder, a, b)
        return builder.select(_signs_differ(builder, rest, b), builder.fadd(rest, b), rest)
    divisor = _safe_divisor(builder, sig, a, b)
    rest = _rest(builder, a, divisor, _quotient(builder, sig, a, divisor))
    if _signed(sig):
        rest = builder.select(_signs_differ(builder, rest, divisor), builder.add(rest, divisor), rest)
    return _zero_where_divisor_is(builder, b, rest)


@intrinsic(binary, "trunc_divide")
def trunc_divide(builder, sig, a, b):
    """C's a / b, rounded towards zero; 0 for an integer divided by zero."""
    if isinstance(sig.return_type, types.Float):
        return call_llvm(builder, "trunc", builder.fdiv(a, b))
    divisor = _safe_divisor(builder, sig, a, b)
    return _zero_where_divisor_is(builder, b, _quotient(builder, sig, a, divisor))


@intrinsic(binary, "fmod")
def fmod(builder, sig, a, b):
    """C's remainder, with the sign of a; 0 for an integer divided by zero."""
    if isinstance(sig.return_type, types.Float):
        return _fmod_float(builder, a, b)
    divisor = _safe_divisor(builder, sig, a, b)
    return _zero_where_divisor_is(builder, b, _rest(builder, a, divisor, _quotient(builder, sig, a, divisor)))


@intrinsic(fixed(types.int64, types.int64, types.int64), "index_div")
def index_div(builder, sig, a, b):
    """a // b for an index a >= 0 and an extent b > 0, without checks."""
    return builder.udiv(a, b)


@intrinsic(fixed(types.int64, types.int64, types.int64), "index_mod")
def index_mod(builder, sig, a, b):
    """a % b for an index a >= 0 and an extent b > 0, without checks."""
    return builder.urem(a, b)


def _too_far(builder, b):
    return builder.icmp_unsigned(">=", b, ir.Constant(b.type, b.type.width))


@intrinsic(integral, operators=(operator.lshift, operator.ilshift))
def shift_left(builder, sig, a, b):
    """a << b; 0 when b is negative or not less than the width."""
    return builder.select(_too_far(builder, b), _zero(a), builder.shl(a, b))


@intrinsic(integral, operators=(operator.rshift, operator.irshift))
def shift_right(builder, sig, a, b):
    """a >> b; when b is negative or not less than the width, all bits are the sign's."""
    if not _signed(sig):
        return builder.select(_too_far(builder, b), _zero(a), builder.lshr(a, b))
    last = ir.Constant(b.type, b.type.width - 1)
    return builder.ashr(a, builder.select(_too_far(builder, b), last, b))


# ---------------------------------------------------------------- floating point

def _llvm_function(llvm_name, arity, *names, operators=()):
    @intrinsic(float_function(arity), *names, operators=operators)
    def emitter(builder, sig, *args):
        return call_llvm(builder, llvm_name, *args)


for _name in ("sqrt", "floor", "ceil", "trunc", "rint"):
    _llvm_function(_name, 1, _name)
_llvm_function("copysign", 2, "copysign")
_llvm_function("fma", 3, "fma")


@intrinsic(float_function(1), "rsqrt")
def rsqrt(builder, sig, a):
    return builder.fdiv(ir.Constant(a.type, 1.0), call_llvm(builder, "sqrt", a))


@intrinsic(unary, "fabs", operators=(abs,))
def absolute(builder, sig, a):
    """|a|, also for integers."""
    if isinstance(sig.return_type, types.Float):
        return call_llvm(builder, "fabs", a)
    if not _signed(sig):
        return a
    return builder.select(builder.icmp_signed("<", a, _zero(a)), builder.neg(a), a)


def is_number(value: ir.Value) -> bool:
    """Is this a constant, and not NaN?"""
    return isinstance(value, ir.Constant) and value.constant == value.constant


def _extremum(symbol, llvm_number, name_nan, name_number, builtin):
    """Maximum or minimum: one that propagates NaN as torch.maximum does, and one that prefers numbers as fmax does."""
    @intrinsic(binary, name_nan, operators=(builtin,))
    def propagating(builder, sig, a, b):
        if isinstance(sig.return_type, types.Float):
            if is_number(b):
                a, b = b, a
            if is_number(a):  # then NaN loses the comparison: one instruction
                return builder.select(builder.fcmp_ordered(symbol, a, b), a, b)
            wins = builder.or_(builder.fcmp_ordered(symbol, a, b), builder.fcmp_unordered("uno", a, a))
        else:
            wins = (builder.icmp_signed if _signed(sig) else builder.icmp_unsigned)(symbol, a, b)
        return builder.select(wins, a, b)

    @intrinsic(binary, name_number)
    def preferring(builder, sig, a, b):
        return call_llvm(builder, llvm_number, a, b) if isinstance(sig.return_type, types.Float) \
            else propagating(builder, sig, a, b)


_extremum(">", "maxnum", "maximum", "fmax", max)
_extremum("<", "minnum", "minimum", "fmin", min)


def _extremum_reduction(name, propagating, llvm_name):
    @intrinsic(binary, name)
    def emitter(builder, sig, accumulator, x):
        if isinstance(sig.return_type, types.Float):
            call = call_llvm(builder, llvm_name, accumulator, x)
            call.fastmath.add("nsz")  # which of 0.0 and -0.0 is larger would cost half of the loop
            return call
        return NAMES[propagating].emit(builder, sig, (accumulator, x))


@intrinsic(binary, "max_number")
def max_number(builder, sig, accumulator, x):
    """The larger one; NaN may or may not win."""
    flags = ("nnan", "nsz")
    return builder.select(builder.fcmp_ordered(">", x, accumulator, flags=flags), x, accumulator, flags=flags)


_extremum_reduction("max_nan", "maximum", "maximum")
_extremum_reduction("min_nan", "minimum", "minimum")


@intrinsic(float_predicate, "isnan")
def isnan(builder, sig, a):
    return builder.fcmp_unordered("uno", a, a)


@intrinsic(float_predicate, "isinf")
def isinf(builder, sig, a):
    return builder.fcmp_ordered("==", call_llvm(builder, "fabs", a), ir.Constant(a.type, float("inf")))


@intrinsic(float_predicate, "isfinite")
def isfinite(builder, sig, a):
    return builder.fcmp_ordered("<", call_llvm(builder, "fabs", a), ir.Constant(a.type, float("inf")))


@intrinsic(float_predicate, "signbit")
def signbit(builder, sig, a):
    pattern = builder.bitcast(a, I32 if a.type == F32 else I64)
    return builder.icmp_signed("<", pattern, _zero(pattern))


def _vector_function(name, arity, operators=()):
    @intrinsic(float_function(arity), name, operators=operators)
    def emitter(builder, sig, *args):
        return vecmath.call(builder, name, *args)


_LIBRARY = {"asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "cbrt": "cbrt", "lgamma": "lgamma", "hypot": "hypot",
            "gamma": "tgamma"}
"""Functions of the C library, where `vecmath` has none for the type."""


def _register_vecmath():
    for name, arity in vecmath.ARITY.items():
        if name not in ("pow", "fmod", *_LIBRARY):
            _vector_function(name, arity)


_register_vecmath()


def _libm_function(name, arity, symbol):
    """A vector function, or a scalar call to the C library: correct, and a loop with it does not vectorise."""
    @intrinsic(float_function(arity), name)
    def emitter(builder, sig, *args):
        type_ = args[0].type
        if (name, type_) in vecmath.FUNCTIONS:
            return vecmath.call(builder, name, *args)
        c_name = symbol + "f" if type_ == F32 else symbol
        function = builder.module.globals.get(c_name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(type_, [type_] * arity), c_name)
            function.attributes.add("nounwind")
        return builder.call(function, args)


for _name, _symbol in _LIBRARY.items():
    _libm_function(_name, 2 if _name == "hypot" else 1, _symbol)


@intrinsic(binary, "pow", operators=(operator.pow, operator.ipow))
def power(builder, sig, a, b):
    """a ** b. For integers by squaring, wrapping; a negative exponent gives 0 except for bases 1 and -1."""
    if isinstance(sig.return_type, types.Float):
        return vecmath.call(builder, "pow", a, b)
    return builder.call(_integer_power(builder.module, a.type, _signed(sig)), [a, b])


def _integer_power(module, type_, signed):
    name = f"jt.ipow.{'i' if signed else 'u'}{type_.width}"
    function = module.globals.get(name)
    if function is not None:
        return function
    function = ir.Function(module, ir.FunctionType(type_, [type_, type_]), name)
    function.linkage = "internal"
    base, exponent = function.args
    entry, loop, done = (function.append_basic_block(n) for n in ("entry", "loop", "done"))
    one, zero = ir.Constant(type_, 1), ir.Constant(type_, 0)
    b = ir.IRBuilder(entry)
    minus_one = ir.Constant(type_, -1)
    if signed:
        negative_exponent = b.icmp_signed("<", exponent, zero)
        unit = b.or_(b.icmp_signed("==", base, one), b.icmp_signed("==", base, minus_one))
        start_base = b.select(b.or_(b.not_(negative_exponent), unit), base, zero)
        start_exponent = b.select(negative_exponent, b.or_(b.and_(exponent, one), ir.Constant(type_, 2)), exponent)
    else:
        start_base, start_exponent = base, exponent
    b.branch(loop)
    b.position_at_end(loop)
    result, square, left = b.phi(type_), b.phi(type_), b.phi(type_)
    odd = b.trunc(left, I1)
    next_result = b.select(odd, b.mul(result, square), result)
    next_square = b.mul(square, square)
    next_left = b.lshr(left, one)
    for phi, start, following in ((result, one, next_result), (square, start_base, next_square),
                                  (left, start_exponent, next_left)):
        phi.add_incoming(start, entry)
        phi.add_incoming(following, loop)
    b.cbranch(b.icmp_unsigned("==", next_left, zero), done, loop)
    b.position_at_end(done)
    b.ret(next_result)
    return function


# ---------------------------------------------------------------- half precision and bit patterns

@intrinsic(fixed(types.float32, types.uint16), "f16_to_f32")
def f16_to_f32(builder, sig, a):
    return builder.fpext(builder.bitcast(a, HALF), F32)


@intrinsic(fixed(types.uint16, types.float32), "f32_to_f16")
def f32_to_f16(builder, sig, a):
    return builder.bitcast(builder.fptrunc(a, HALF), I16)


@intrinsic(fixed(types.float32, types.uint16), "bf16_to_f32")
def bf16_to_f32(builder, sig, a):
    return builder.bitcast(builder.shl(builder.zext(a, I32), ir.Constant(I32, 16)), F32)


@intrinsic(fixed(types.uint16, types.float32), "f32_to_bf16")
def f32_to_bf16(builder, sig, a):
    """Round to nearest even; a NaN stays one."""
    pattern = builder.bitcast(a, I32)
    top = builder.lshr(pattern, ir.Constant(I32, 16))
    odd = builder.and_(top, ir.Constant(I32, 1))
    rounded = builder.lshr(builder.add(pattern, builder.add(odd, ir.Constant(I32, 0x7FFF))), ir.Constant(I32, 16))
    quiet = builder.or_(top, ir.Constant(I32, 0x40))
    return builder.trunc(builder.select(builder.fcmp_unordered("uno", a, a), quiet, rounded), I16)


_BITS = {types.float32: types.int32, types.float64: types.int64}


@intrinsic(lambda a: (_BITS[a], (a,)), "float_to_bits")
def float_to_bits(builder, sig, a):
    """The bit pattern of a float as int32 or int64."""
    return builder.bitcast(a, LLVM_TYPES[sig.return_type])


_FLOATS = {types.int32: types.float32, types.uint32: types.float32, types.int64: types.float64,
           types.uint64: types.float64}


@intrinsic(lambda a: (_FLOATS[a], (a,)), "bits_to_float")
def bits_to_float(builder, sig, a):
    """The float with this pattern, as wide as the integer."""
    return builder.bitcast(a, LLVM_TYPES[sig.return_type])


# ---------------------------------------------------------------- calls by address

def _call_address(builder, address, type_, args):
    return builder.call(builder.inttoptr(address, type_.as_pointer()), args)


def _register_gemm(name, scalar):
    i, addr = types.int64, types.int64
    # address, transa, transb, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc
    rule = fixed(types.none, addr, i, i, i, i, i, scalar, addr, i, addr, i, scalar, addr, i)
    real = LLVM_TYPES[scalar]
    row_major, no_transpose = 101, 111

    @intrinsic(rule, name)
    def gemm(builder, sig, address, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        """C = alpha * op(A) @ op(B) + beta * C by the cblas function at `address`; row-major, 32-bit integers."""
        def narrow(x):
            return builder.trunc(x, I32)

        def transposition(flag):
            return builder.add(narrow(flag), ir.Constant(I32, no_transpose))

        def pointer(x):
            return builder.inttoptr(x, real.as_pointer())

        args = [ir.Constant(I32, row_major), transposition(ta), transposition(tb), narrow(m), narrow(n), narrow(k),
                alpha, pointer(a), narrow(lda), pointer(b), narrow(ldb), beta, pointer(c), narrow(ldc)]
        _call_address(builder, address, ir.FunctionType(ir.VoidType(), [x.type for x in args]), args)


_register_gemm("call_gemm_f32", types.float32)
_register_gemm("call_gemm_f64", types.float64)


@intrinsic(lambda *args: (types.none, (types.int64,) * len(args)), "call_routine")
def call_routine(builder, sig, address, *args):
    """A routine that takes addresses, as Fortran's do."""
    _call_address(builder, address, ir.FunctionType(ir.VoidType(), [x.type for x in args]), args)


@intrinsic(fixed(types.none, *(types.int64,) * 5), "call_kernel")
def call_kernel(builder, sig, address, table, begin, end, worker):
    """Run another kernel by its entry address."""
    table = builder.inttoptr(table, I64.as_pointer())
    args = [table, begin, end, worker]
    _call_address(builder, address, ir.FunctionType(ir.VoidType(), [x.type for x in args]), args)
