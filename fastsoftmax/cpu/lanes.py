"""Lanes: eight elements side by side, as a Numba type with operators.

A kernel written on lanes reads like its formula, and the order of every addition is the
kernel's own: LLVM is never asked to vectorise anything. It splits a vector that the CPU lacks
(eight float64 are one AVX-512 register, two of AVX2, four of SSE2), so only its generic
operations are used here and every CPU computes the same bits.

Arithmetic works on lanes, on scalars and on a mixture, which spreads the scalar; so a formula
is written once and serves rows (lanes against one shift) and columns (lanes against lanes).

Four kinds of array are loaded, told apart by their dtype: float64 and float32 as they are,
uint16 as the bits of float16, int16 as the bits of bfloat16. The last two become float32 lanes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model
from numba.np.arrayobj import populate_array

WIDTH = 8

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_instruction: _Decorator = intrinsic
_instruction_of_constants: _Decorator = intrinsic(prefer_literal=True)

_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_FLOAT = ir.FloatType()
_DOUBLE = ir.DoubleType()
_LLVM_ELEMENT = {
    types.float64: _DOUBLE,
    types.float32: _FLOAT,
    types.int64: _INT64,
    types.boolean: ir.IntType(1),
}


class Lanes(types.Type):
    """The Numba type of ``WIDTH`` elements of one scalar type, or a multiple of that."""

    def __init__(self, element: types.Type, width: int = WIDTH) -> None:
        self.element = element
        self.width = width
        super().__init__(name=f"Lanes({element}, {width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(_LLVM_ELEMENT[lanes.element], lanes.width))


float64_lanes = Lanes(types.float64)
float32_lanes = Lanes(types.float32)
mask_lanes = Lanes(types.boolean)


def _element(kind: types.Type) -> types.Type:
    """The element type of lanes, or the scalar type itself with literals and widths unified."""
    if isinstance(kind, Lanes):
        return kind.element
    if isinstance(kind, types.Integer):
        return types.int64
    return types.unliteral(kind)


def _width(kinds: tuple[types.Type, ...]) -> int:
    """How many elements the widest of the arguments holds; 0 where all are scalars."""
    return max((kind.width for kind in kinds if isinstance(kind, Lanes)), default=0)


def _like(kinds: tuple[types.Type, ...], element: types.Type) -> types.Type:
    """``element`` itself where every argument is a scalar, else lanes of it."""
    width = _width(kinds)
    return Lanes(element, width) if width else element


def _shuffled(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
    """Lanes of ``a`` (counted from 0) and ``b`` (counted on) in this order."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(order)), order))


def _spread(builder: ir.IRBuilder, scalar: ir.Value, width: int = WIDTH) -> ir.Value:
    undefined = ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined)
    first = builder.insert_element(undefined, scalar, _INT32(0))
    return _shuffled(builder, first, undefined, [0] * width)


def _operands(
    context: Any, builder: ir.IRBuilder, sig: Any, args: Any, element: Any = None
) -> list[ir.Value]:
    """The arguments as values of one shape: scalars are spread where any argument is lanes."""
    width = _width(sig.args)
    values = []
    for kind, value in zip(sig.args, args, strict=True):
        if not isinstance(kind, Lanes):
            value = context.cast(builder, value, kind, element or _element(kind))
            value = _spread(builder, value, width) if width else value
        values.append(value)
    return values


def _llvm_suffix(kind: ir.Type) -> str:
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_llvm_suffix(kind.element)}"
    return {"double": "f64", "float": "f32"}.get(str(kind), str(kind))


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


# --- operators ---------------------------------------------------------------------------


def _operator(
    symbol: Any,
    emit: Callable[[ir.IRBuilder, list[ir.Value], bool], ir.Value],
    result: types.Type | None = None,
) -> None:
    """Teach Numba ``symbol`` on lanes; ``result`` where it is not the operands' own element."""

    @infer_global(symbol)
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            elements = {_element(kind) for kind in args}
            if kws or len(elements) != 1 or not any(isinstance(kind, Lanes) for kind in args):
                return None
            return signature(Lanes(result or elements.pop(), _width(args)), *args)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        real = _element(sig.args[0]) in (types.float32, types.float64)
        return emit(builder, _operands(context, builder, sig, args), real)

    kinds = (
        [(Lanes,)]
        if symbol is operator.neg
        else [(Lanes, Lanes), (Lanes, types.Any), (types.Any, Lanes)]
    )
    for each in kinds:
        lower_builtin(symbol, *each)(lower)


def _arithmetic(symbol: Any, real: str, integer: str) -> None:
    _operator(symbol, lambda b, v, is_real: getattr(b, real if is_real else integer)(*v))


def _comparison(symbol: Any, sign: str) -> None:
    # A comparison with NaN is false, but for !=, as in C and NumPy.
    ordered = "fcmp_unordered" if sign == "!=" else "fcmp_ordered"
    _operator(
        symbol,
        lambda b, v, real: getattr(b, ordered if real else "icmp_signed")(sign, *v),
        types.boolean,
    )


_arithmetic(operator.add, "fadd", "add")
_arithmetic(operator.sub, "fsub", "sub")
_arithmetic(operator.mul, "fmul", "mul")
_arithmetic(operator.truediv, "fdiv", "sdiv")
_arithmetic(operator.lshift, "shl", "shl")
_arithmetic(operator.rshift, "ashr", "ashr")
_operator(operator.neg, lambda b, v, real: b.fneg(*v) if real else b.neg(*v))
_comparison(operator.lt, "<")
_comparison(operator.gt, ">")
_comparison(operator.eq, "==")
_comparison(operator.ne, "!=")


# --- functions of lanes or scalars ----------------------------------------------------------


@_instruction
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once, in the element type of ``a``."""
    element = _element(a)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        values = _operands(context, builder, sig, args, element)
        kind = values[0].type
        return _call(builder, f"llvm.fma.{_llvm_suffix(kind)}", kind, *values)

    return signature(_like((a, b, c), element), a, b, c), emit


@_instruction
def select(typing: Any, condition: Any, chosen: Any, otherwise: Any) -> Any:
    """``chosen`` where the condition holds, else ``otherwise``; both are computed.

    A scalar beside lanes takes their element type.
    """
    element = _element(otherwise if isinstance(otherwise, Lanes) else chosen)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        values = [args[0]]
        for kind, value in zip(sig.args[1:], args[1:], strict=True):
            scalar = not isinstance(kind, Lanes)
            values.append(context.cast(builder, value, kind, element) if scalar else value)
        if isinstance(sig.return_type, Lanes):
            width = sig.return_type.width
            lanes = [
                v if isinstance(v.type, ir.VectorType) else _spread(builder, v, width)
                for v in values
            ]
            return builder.select(*lanes)
        return builder.select(*values)

    kinds = (condition, chosen, otherwise)
    return signature(_like(kinds, element), *kinds), emit


def _reinterpret(kind: Any, source: types.Type, target: types.Type) -> Any:
    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.bitcast(args[0], context.get_value_type(sig.return_type))

    return (signature(_like((kind,), target), kind), emit) if _element(kind) == source else None


@_instruction
def bits_of(typing: Any, x: Any) -> Any:
    """The 64 bits of a float64, as int64."""
    return _reinterpret(x, types.float64, types.int64)


@_instruction
def from_bits(typing: Any, bits: Any) -> Any:
    """The float64 with these 64 bits."""
    return _reinterpret(bits, types.int64, types.float64)


@_instruction
def wide(typing: Any, x: Any) -> Any:
    """The same values as float64."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        target = context.get_value_type(sig.return_type)
        return args[0] if args[0].type == target else builder.fpext(args[0], target)

    return signature(_like((x,), types.float64), x), emit


@_instruction
def narrowed(typing: Any, x: Any) -> Any:
    """Float64 values rounded to float32."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.fptrunc(args[0], context.get_value_type(sig.return_type))

    return signature(_like((x,), types.float32), x), emit


@_instruction
def spread(typing: Any, x: Any) -> Any:
    """Lanes that all hold the scalar ``x``."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _spread(builder, args[0])

    return signature(Lanes(_element(x)), x), emit


@_instruction_of_constants
def lanes_like(typing: Any, array: Any, width: Any, x: Any) -> Any:
    """``width`` lanes, of the type that the array's elements load as, that all hold ``x``."""
    lanes = Lanes(_STORAGE[array.dtype][1].element, width.literal_value)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = context.cast(builder, args[2], sig.args[2], lanes.element)
        return _spread(builder, value, lanes.width)

    return signature(lanes, array, width, types.unliteral(x)), emit


@_instruction
def halves(typing: Any, x: Any) -> Any:
    """The first and the second half of lanes."""
    half = x.width // 2
    kind = Lanes(x.element, half)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        numbers = list(range(x.width))
        parts = [_shuffled(builder, args[0], args[0], n) for n in (numbers[:half], numbers[half:])]
        return context.make_tuple(builder, sig.return_type, parts)

    return signature(types.UniTuple(kind, 2), x), emit


@_instruction
def lane(typing: Any, x: Any, index: Any) -> Any:
    """One element of lanes."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.extract_element(args[0], builder.trunc(args[1], _INT32))

    return signature(x.element, x, types.int64), emit


@_instruction
def any_of(typing: Any, mask: Any) -> Any:
    """Whether a comparison of lanes holds anywhere."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        bits = builder.bitcast(args[0], ir.IntType(mask.width))
        return builder.icmp_unsigned("!=", bits, ir.IntType(mask.width)(0))

    return signature(types.boolean, mask), emit


@_instruction_of_constants
def rotated(typing: Any, x: Any, by: Any) -> Any:
    """The lanes in another order: lane k holds what lane k + ``by`` held."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        order = [(index + by.literal_value) % WIDTH for index in range(WIDTH)]
        return _shuffled(builder, args[0], args[0], order)

    return signature(x, x, by), emit


@_instruction
def transposed(typing: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Eight lanes of eight as the rows of a matrix -> the lanes of its columns."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        values = list(args)
        # Squares of one, two and four elements change places across the diagonal.
        for size in (1, 2, 4):
            numbers = range(WIDTH)
            low = [n if n & size == 0 else n - size + WIDTH for n in numbers]
            high = [n + size if n & size == 0 else n + WIDTH for n in numbers]
            for k in (n for n in numbers if n & size == 0):
                pair = values[k], values[k + size]
                values[k] = _shuffled(builder, *pair, low)
                values[k + size] = _shuffled(builder, *pair, high)
        return context.make_tuple(builder, sig.return_type, values)

    return signature(types.UniTuple(a, WIDTH), a, b, c, d, e, f, g, h), emit


@_instruction
def largest(typing: Any, x: Any) -> Any:
    """The largest of the lanes, as float64; any of them where there is NaN."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = args[0]
        half = x.width // 2
        while half:
            other = _shuffled(builder, value, value, list(range(half, 2 * half)))
            value = _shuffled(builder, value, value, list(range(half)))
            value = builder.select(builder.fcmp_ordered(">", other, value), other, value)
            half //= 2
        first = builder.extract_element(value, _INT32(0))
        return first if first.type == _DOUBLE else builder.fpext(first, _DOUBLE)

    return signature(types.float64, x), emit


def table(name: str, numbers: tuple[float, ...]) -> Any:
    """A function without arguments that returns these numbers, as values unknown to LLVM.

    It would otherwise load each constant again wherever it is used: 15 cycles instead of 11.6
    for eight exponentials. Read once before a loop, they stay in registers.
    """

    @_instruction
    def get(typing: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            kind = ir.ArrayType(_DOUBLE, len(numbers))
            symbol = f"fastsoftmax.{name}"
            memory = builder.module.globals.get(symbol)
            if memory is None:
                memory = ir.GlobalVariable(builder.module, kind, symbol)
                memory.linkage = "linkonce_odr"  # not constant: anyone might write to it
                memory.initializer = ir.Constant(kind, list(numbers))
            places = [builder.gep(memory, [_INT32(0), _INT32(i)]) for i in range(len(numbers))]
            return context.make_tuple(builder, sig.return_type, list(map(builder.load, places)))

        return signature(types.UniTuple(types.float64, len(numbers))), emit

    return get


# --- memory ---------------------------------------------------------------------------------

_BYTE_POINTER = ir.IntType(8).as_pointer()


def _vector(element: ir.Type, like: ir.Value) -> ir.VectorType:
    return ir.VectorType(element, like.type.count)


def _all(kind: ir.VectorType, number: float) -> ir.Constant:
    return ir.Constant(kind, [number] * kind.count)


def _half_to_float(b: ir.IRBuilder, stored: ir.Value) -> ir.Value:
    """float16 bits -> float32, exactly; as integers, since not every CPU converts halves."""
    ints, floats = _vector(_INT32, stored), _vector(_FLOAT, stored)
    bits = b.zext(stored, ints)
    magnitude = b.and_(bits, _all(ints, 0x7FFF))
    sign = b.shl(b.and_(bits, _all(ints, 0x8000)), _all(ints, 16))
    # The exponent field moves up by 13 bits and its bias grows by 112: the product rescales
    # normal and subnormal numbers alike, exactly.
    finite = b.fmul(b.bitcast(b.shl(magnitude, _all(ints, 13)), floats), _all(floats, 2.0**112))
    special = b.or_(b.shl(magnitude, _all(ints, 13)), _all(ints, 0x7F800000))
    is_special = b.icmp_signed(">", magnitude, _all(ints, 0x7BFF))
    value = b.select(is_special, special, b.bitcast(finite, ints))
    return b.bitcast(b.or_(value, sign), floats)


def _float_to_half(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """float32 that some float16 equals -> its bits."""
    ints, floats = _vector(_INT32, value), _vector(_FLOAT, value)
    bits = b.bitcast(value, ints)
    sign = b.lshr(b.and_(bits, _all(ints, -0x80000000)), _all(ints, 16))
    magnitude = b.and_(bits, _all(ints, 0x7FFFFFFF))
    scaled = b.fmul(b.bitcast(magnitude, floats), _all(floats, 2.0**-112))
    finite = b.lshr(b.bitcast(scaled, ints), _all(ints, 13))
    is_nan = b.icmp_signed(">", magnitude, _all(ints, 0x7F800000))
    is_infinite = b.icmp_signed("==", magnitude, _all(ints, 0x7F800000))
    special = b.select(is_nan, _all(ints, 0x7E00), _all(ints, 0x7C00))
    value = b.select(b.or_(is_nan, is_infinite), special, finite)
    return b.trunc(b.or_(value, sign), _vector(ir.IntType(16), value))


def _bfloat_to_float(b: ir.IRBuilder, stored: ir.Value) -> ir.Value:
    ints = _vector(_INT32, stored)
    return b.bitcast(b.shl(b.zext(stored, ints), _all(ints, 16)), _vector(_FLOAT, stored))


def _float_to_bfloat(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """float32 that some bfloat16 equals, or NaN -> its bits."""
    ints = _vector(_INT32, value)
    bits = b.lshr(b.bitcast(value, ints), _all(ints, 16))
    is_nan = b.fcmp_unordered("uno", value, value)
    return b.trunc(b.select(is_nan, _all(ints, 0x7FC0), bits), _vector(ir.IntType(16), value))


def _rounded(b: ir.IRBuilder, value: ir.Value, precision: int, smallest: int) -> ir.Value:
    """float64 -> the nearest number of ``precision`` bits, ties to even.

    ``smallest`` is the exponent of the type's smallest normal number. Adding and taking away
    1.5 * 2**52 units of the last place lets the hardware round once, subnormals included.
    """
    longs = _vector(_INT64, value)
    exponent = b.and_(b.bitcast(value, longs), _all(longs, 0x7FF << 52))
    floor = _all(longs, (smallest + 1023) << 52)
    exponent = b.select(b.icmp_signed("<", exponent, floor), floor, exponent)
    step = b.add(exponent, _all(longs, ((53 - precision) << 52) | (1 << 51)))
    magic = b.bitcast(step, value.type)
    rounded = b.fsub(b.fadd(value, magic), magic)
    # Keeps the sign of zero, and lets infinities and NaN through.
    ordinary = b.icmp_signed("<", exponent, _all(longs, (200 + 1023) << 52))
    name = f"llvm.copysign.{_llvm_suffix(value.type)}"
    return b.select(ordinary, _call(b, name, value.type, rounded, value), value)


def _double_to_float(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return b.fptrunc(value, _vector(_FLOAT, value))


def _double_to_half(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    kind, suffix = value.type, _llvm_suffix(value.type)
    rounded = _rounded(b, value, precision=11, smallest=-14)
    magnitude = _call(b, f"llvm.fabs.{suffix}", kind, rounded)
    too_large = b.fcmp_ordered(">", magnitude, _all(kind, 65504.0))
    infinity = _call(b, f"llvm.copysign.{suffix}", kind, _all(kind, float("inf")), rounded)
    return _float_to_half(b, _double_to_float(b, b.select(too_large, infinity, rounded)))


def _double_to_bfloat(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return _float_to_bfloat(b, _double_to_float(b, _rounded(b, value, 8, -126)))


# array dtype -> (how it is stored, lanes it loads as, after loading, before storing)
_STORAGE: dict[types.Type, Any] = {
    types.float64: (_DOUBLE, float64_lanes, lambda b, v: v, lambda b, v: v),
    types.float32: (_FLOAT, float32_lanes, lambda b, v: v, _double_to_float),
    types.uint16: (ir.IntType(16), float32_lanes, _half_to_float, _double_to_half),
    types.int16: (ir.IntType(16), float32_lanes, _bfloat_to_float, _double_to_bfloat),
}


def _pointer(
    context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value, indices: ir.Value
) -> ir.Value:
    """The address of an element; the last axis is contiguous whatever its stride says."""
    proxy = cgutils.create_struct_proxy(kind)(context, builder, array)
    strides = cgutils.unpack_tuple(builder, proxy.strides)
    itemsize = _INT64(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    steps = [*strides[:-1], itemsize]
    address = builder.ptrtoint(proxy.data, _INT64)
    for index, step in zip(cgutils.unpack_tuple(builder, indices), steps, strict=True):
        address = builder.add(address, builder.mul(index, step))
    return address


def _vector_pointer(
    context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value, indices: ir.Value
) -> tuple[ir.Value, ir.Type]:
    stored = ir.VectorType(_STORAGE[kind.dtype][0], WIDTH)
    address = _pointer(context, builder, kind, array, indices)
    return builder.inttoptr(address, stored.as_pointer()), stored


def _first(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """The mask of the first ``count`` lanes."""
    numbers = ir.Constant(ir.VectorType(_INT64, WIDTH), list(range(WIDTH)))
    return builder.icmp_signed("<", numbers, _spread(builder, count))


def _move_part(
    builder: ir.IRBuilder, source: ir.Value, target: ir.Value, stored: ir.Type, count: ir.Value
) -> None:
    """Copy the first ``count`` elements between two addresses of lanes narrower than 32 bits.

    One at a time: of masked operations on such elements, LLVM 22 turns a store of one lane of 16
    bits into a store of 32, and AVX2 has none.
    """
    element = stored.element.as_pointer()
    source = builder.bitcast(source, element)
    target = builder.bitcast(target, element)
    for index in range(WIDTH):
        with builder.if_then(builder.icmp_signed(">", count, _INT64(index))):
            value = builder.load(builder.gep(source, [_INT64(index)]), align=1)
            builder.store(value, builder.gep(target, [_INT64(index)]), align=1)


def _read_part(
    builder: ir.IRBuilder, pointer: ir.Value, stored: ir.Type, count: ir.Value
) -> ir.Value:
    """The first ``count`` lanes from memory, zero in the others; nothing else is read."""
    zero = _all(stored, 0)
    if stored.element in (_FLOAT, _DOUBLE):
        name = f"llvm.masked.load.{_llvm_suffix(stored)}.p0"
        return _call(builder, name, stored, pointer, _INT32(1), _first(builder, count), zero)
    slot = cgutils.alloca_once(builder, stored)
    whole = builder.icmp_signed(">=", count, _INT64(WIDTH))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            builder.store(builder.load(pointer, align=1), slot)
        with otherwise:
            builder.store(zero, slot)
            _move_part(builder, pointer, slot, stored, count)
    return builder.load(slot)


def _write_part(
    builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, stored: ir.Type, count: ir.Value
) -> None:
    """The first ``count`` lanes to memory; nothing else is written."""
    if stored.element in (_FLOAT, _DOUBLE):
        name = f"llvm.masked.store.{_llvm_suffix(stored)}.p0"
        mask = _first(builder, count)
        _call(builder, name, ir.VoidType(), value, pointer, _INT32(1), mask)
        return
    whole = builder.icmp_signed(">=", count, _INT64(WIDTH))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            builder.store(value, pointer, align=1)
        with otherwise:
            slot = cgutils.alloca_once(builder, stored)
            builder.store(value, slot)
            _move_part(builder, slot, pointer, stored, count)


def _load(typing: Any, array: Any, indices: Any, width: int) -> Any:
    element, lanes, after, _ = _STORAGE[array.dtype]

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        address = _pointer(context, builder, sig.args[0], *args[:2])
        pointer = builder.inttoptr(address, ir.VectorType(element, width).as_pointer())
        return after(builder, builder.load(pointer, align=1))

    return Lanes(lanes.element, width), emit


@_instruction
def load(typing: Any, array: Any, indices: Any) -> Any:
    """``WIDTH`` elements from ``indices`` along the last axis, at any alignment."""
    lanes, emit = _load(typing, array, indices, WIDTH)
    return signature(lanes, array, indices), emit


@_instruction_of_constants
def load_wide(typing: Any, array: Any, indices: Any, width: Any) -> Any:
    """As ``load``, of ``width`` elements, which is a constant."""
    lanes, emit = _load(typing, array, indices, width.literal_value)
    return signature(lanes, array, indices, width), emit


@_instruction_of_constants
def load_mask_wide(typing: Any, array: Any, indices: Any, width: Any) -> Any:
    """``width`` booleans, a constant number, from ``indices`` along the last axis."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        stored = ir.VectorType(ir.IntType(8), width.literal_value)
        address = _pointer(context, builder, sig.args[0], *args[:2])
        value = builder.load(builder.inttoptr(address, stored.as_pointer()), align=1)
        return builder.icmp_unsigned("!=", value, _all(stored, 0))

    return signature(Lanes(types.boolean, width.literal_value), array, indices, width), emit


@_instruction
def load_part(typing: Any, array: Any, indices: Any, count: Any, fill: Any) -> Any:
    """As ``load``, with ``fill`` in the lanes from ``count`` on, where nothing is read."""
    _, lanes, after, _ = _STORAGE[array.dtype]

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer, stored = _vector_pointer(context, builder, sig.args[0], *args[:2])
        value = after(builder, _read_part(builder, pointer, stored, args[2]))
        element = context.get_value_type(lanes.element)
        filler = args[3] if element == _DOUBLE else builder.fptrunc(args[3], element)
        return builder.select(_first(builder, args[2]), value, _spread(builder, filler))

    return signature(lanes, array, indices, types.int64, types.float64), emit


@_instruction
def load_mask(typing: Any, array: Any, indices: Any, count: Any) -> Any:
    """``count`` booleans from ``indices`` along the last axis; the other lanes are false."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        stored = ir.VectorType(ir.IntType(8), WIDTH)
        address = _pointer(context, builder, sig.args[0], *args[:2])
        pointer = builder.inttoptr(address, stored.as_pointer())
        value = _read_part(builder, pointer, stored, args[2])
        return builder.icmp_unsigned("!=", value, _all(stored, 0))

    return signature(mask_lanes, array, indices, types.int64), emit


@_instruction_of_constants
def scratch(typing: Any, element: Any, lines: Any, columns: Any) -> Any:
    """An array (lines, columns) on the stack, of ``element``'s type; its content is undefined.

    No allocation, and nothing for Numba to count references of.
    """
    size = lines.literal_value, columns.literal_value
    kind = types.Array(types.unliteral(element.dtype), 2, "C")

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        stored = context.get_data_type(kind.dtype)
        itemsize = context.get_abi_sizeof(stored)
        memory = cgutils.alloca_once(builder, ir.ArrayType(stored, size[0] * size[1]))
        memory.align = 64  # a cache line, so that no lanes lie across two
        array = cgutils.create_struct_proxy(kind)(context, builder)
        populate_array(
            array,
            data=builder.bitcast(memory, stored.as_pointer()),
            shape=tuple(map(_INT64, size)),
            strides=(_INT64(size[1] * itemsize), _INT64(itemsize)),
            itemsize=itemsize,
            meminfo=None,
        )
        return array._getvalue()

    return signature(kind, element, lines, columns), emit


def _as_stored(builder: ir.IRBuilder, kind: Any, lanes: Any, value: ir.Value) -> ir.Value:
    """Lanes, or a scalar spread, as elements of an array, rounded where they are wider."""
    if not isinstance(lanes, Lanes):
        lanes, value = Lanes(lanes), _spread(builder, value)
    if lanes.element == kind.dtype:
        return value
    if lanes.element == types.float32:
        value = builder.fpext(value, _vector(_DOUBLE, value))
    return _STORAGE[kind.dtype][3](builder, value)


@_instruction
def store(typing: Any, array: Any, indices: Any, value: Any) -> Any:
    """Lanes, rounded to the array's type, to ``indices`` along the last axis."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        stored = _as_stored(builder, array, value, args[2])
        address = _pointer(context, builder, sig.args[0], *args[:2])
        builder.store(stored, builder.inttoptr(address, stored.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature(types.void, array, indices, value), emit


@_instruction
def prefetch(typing: Any, array: Any, indices: Any) -> Any:
    """Ask for the cache line of an element, which need not exist."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        address = _pointer(context, builder, sig.args[0], *args[:2])
        pointer = builder.inttoptr(address, _BYTE_POINTER)
        kind = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, _INT32(0), _INT32(3), _INT32(1)])
        return context.get_dummy_value()

    return signature(types.void, array, indices), emit


@_instruction
def store_part(typing: Any, array: Any, indices: Any, count: Any, value: Any) -> Any:
    """As ``store``, of the first ``count`` lanes alone."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer, stored = _vector_pointer(context, builder, sig.args[0], *args[:2])
        narrow = _as_stored(builder, array, value, args[3])
        _write_part(builder, narrow, pointer, stored, args[2])
        return context.get_dummy_value()

    return signature(types.void, array, indices, types.int64, value), emit


def _line(context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value, number: int) -> ir.Value:
    """The address of a line of a scratch array."""
    pair = types.UniTuple(types.int64, 2)
    indices = context.make_tuple(builder, pair, [_INT64(number), _INT64(0)])
    return _pointer(context, builder, kind, array, indices)


def _picked(
    builder: ir.IRBuilder, sources: list[ir.Value], picks: list[tuple[int, int]]
) -> ir.Value:
    """Lanes of which each is picked from one of the sources: (which, index)."""
    result = None
    for which in sorted({source for source, _ in picks}):
        order = [index if source == which else -1 for source, index in picks]
        if result is None:
            order = [max(index, 0) for index in order]
            result = _shuffled(builder, sources[which], sources[which], order)
        else:
            order = [lane if index < 0 else WIDTH + index for lane, index in enumerate(order)]
            result = _shuffled(builder, result, sources[which], order)
    return result


@_instruction_of_constants
def load_packed(typing: Any, array: Any, indices: Any, length: Any, target: Any) -> Any:
    """Eight rows that lie one behind the other, of a constant length, into lines of float64.

    Line i holds element i of each.
    """
    element, _, after, _ = _STORAGE[array.dtype]
    size = length.literal_value

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        address = _pointer(context, builder, sig.args[0], *args[:2])
        pointer = builder.inttoptr(address, ir.VectorType(element, WIDTH).as_pointer())
        sources = [
            after(builder, builder.load(builder.gep(pointer, [_INT64(k)]), align=1))
            for k in range(size)
        ]
        for i in range(size):
            column = _picked(builder, sources, [divmod(r * size + i, WIDTH) for r in range(WIDTH)])
            if column.type.element == _FLOAT:
                column = builder.fpext(column, ir.VectorType(_DOUBLE, WIDTH))
            line = _line(context, builder, sig.args[3], args[3], i)
            builder.store(column, builder.inttoptr(line, column.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature(types.void, array, indices, length, target), emit


@_instruction_of_constants
def store_packed(typing: Any, array: Any, indices: Any, length: Any, source: Any) -> Any:
    """The other way, from lines of float64."""
    size = length.literal_value

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        columns = []
        for i in range(size):
            line = _line(context, builder, sig.args[3], args[3], i)
            column = builder.load(
                builder.inttoptr(line, ir.VectorType(_DOUBLE, WIDTH).as_pointer()), align=1
            )
            # float32 is moved as such; 16-bit results are rounded once only, at the end
            narrow = array.dtype == types.float32
            columns.append(_double_to_float(builder, column) if narrow else column)
        address = _pointer(context, builder, sig.args[0], *args[:2])
        for k in range(size):
            places = [divmod(WIDTH * k + lane, size) for lane in range(WIDTH)]
            value = _picked(builder, columns, [(column, row) for row, column in places])
            if array.dtype != types.float32:
                value = _STORAGE[array.dtype][3](builder, value)
            target = builder.inttoptr(address, value.type.as_pointer())
            builder.store(value, builder.gep(target, [_INT64(k)]), align=1)
        return context.get_dummy_value()

    return signature(types.void, array, indices, length, source), emit


_malloc = ir.FunctionType(_BYTE_POINTER, [_INT64])
_free = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER])


@_instruction
def borrow(typing: Any, element: Any, lines: Any) -> Any:
    """As ``scratch``, an array (lines, WIDTH) from the heap, and what `give_back` wants of it.

    For what is too large for the stacks of threads, which on some systems are half a megabyte.
    """
    kind = types.Array(types.unliteral(element.dtype), 2, "C")

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        stored = context.get_data_type(kind.dtype)
        itemsize = context.get_abi_sizeof(stored)
        size = builder.mul(args[1], _INT64(WIDTH * itemsize))
        function = cgutils.get_or_insert_function(builder.module, _malloc, "malloc")
        start = builder.ptrtoint(builder.call(function, [builder.add(size, _INT64(64))]), _INT64)
        aligned = builder.and_(builder.add(start, _INT64(63)), _INT64(-64))
        array = cgutils.create_struct_proxy(kind)(context, builder)
        populate_array(
            array,
            data=builder.inttoptr(aligned, stored.as_pointer()),
            shape=(args[1], _INT64(WIDTH)),
            strides=(_INT64(WIDTH * itemsize), _INT64(itemsize)),
            itemsize=itemsize,
            meminfo=None,
        )
        return context.make_tuple(builder, sig.return_type, [array._getvalue(), start])

    return signature(types.Tuple((kind, types.int64)), element, types.int64), emit


@_instruction
def give_back(typing: Any, loan: Any) -> Any:
    """Free what was borrowed."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        function = cgutils.get_or_insert_function(builder.module, _free, "free")
        builder.call(function, [builder.inttoptr(args[0], _BYTE_POINTER)])
        return context.get_dummy_value()

    return signature(types.void, types.int64), emit
