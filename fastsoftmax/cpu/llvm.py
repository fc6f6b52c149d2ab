"""What lanes and memory are written with: LLVM's vectors, and conversions of 16-bit types."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from fastsoftmax.cpu import compiler
from fastsoftmax.cpu.sizes import WIDTH

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
instruction: _Decorator = intrinsic
instruction_of_constants: _Decorator = intrinsic(prefer_literal=True)


INT32 = ir.IntType(32)
INT64 = ir.IntType(64)
FLOAT = ir.FloatType()
DOUBLE = ir.DoubleType()


def shuffled(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
    """Lanes of ``a`` (counted from 0) and ``b`` (counted on) in this order."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(order)), order))


def spread_value(builder: ir.IRBuilder, scalar: ir.Value, width: int = WIDTH) -> ir.Value:
    undefined = ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined)
    first = builder.insert_element(undefined, scalar, INT32(0))
    return shuffled(builder, first, undefined, [0] * width)


def suffix_of(kind: ir.Type) -> str:
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{suffix_of(kind.element)}"
    return {"double": "f64", "float": "f32"}.get(str(kind), str(kind))


def call(builder: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


BYTE_POINTER = ir.IntType(8).as_pointer()


def vector(element: ir.Type, like: ir.Value) -> ir.VectorType:
    return ir.VectorType(element, like.type.count)


def constant(kind: ir.VectorType, number: float) -> ir.Constant:
    return ir.Constant(kind, [number] * kind.count)


@functools.cache
def _features() -> frozenset[str]:
    _, _, features = compiler.target()
    return frozenset(features.split(","))


def converts_halves() -> bool:
    """Whether the CPU has instructions for float16; then they give the bits that ours give."""
    return "+f16c" in _features()


def stores_by_mask() -> bool:
    """Whether the CPU stores some lanes of a vector as fast as all of them."""
    return "+avx512vl" in _features()


def half_to_float(b: ir.IRBuilder, stored: ir.Value) -> ir.Value:
    """float16 bits -> float32, exactly."""
    if converts_halves():
        halves = b.bitcast(stored, vector(ir.HalfType(), stored))
        return b.fpext(halves, vector(FLOAT, stored))
    ints, floats = vector(INT32, stored), vector(FLOAT, stored)
    bits = b.zext(stored, ints)
    magnitude = b.and_(bits, constant(ints, 0x7FFF))
    sign = b.shl(b.and_(bits, constant(ints, 0x8000)), constant(ints, 16))
    # The exponent field moves up by 13 bits and its bias grows by 112: the product rescales
    # normal and subnormal numbers alike, exactly.
    finite = b.fmul(
        b.bitcast(b.shl(magnitude, constant(ints, 13)), floats), constant(floats, 2.0**112)
    )
    special = b.or_(b.shl(magnitude, constant(ints, 13)), constant(ints, 0x7F800000))
    is_special = b.icmp_signed(">", magnitude, constant(ints, 0x7BFF))
    value = b.select(is_special, special, b.bitcast(finite, ints))
    return b.bitcast(b.or_(value, sign), floats)


def _float_to_half(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """float32 that some float16 equals -> its bits."""
    ints, floats = vector(INT32, value), vector(FLOAT, value)
    bits = b.bitcast(value, ints)
    sign = b.lshr(b.and_(bits, constant(ints, -0x80000000)), constant(ints, 16))
    magnitude = b.and_(bits, constant(ints, 0x7FFFFFFF))
    scaled = b.fmul(b.bitcast(magnitude, floats), constant(floats, 2.0**-112))
    finite = b.lshr(b.bitcast(scaled, ints), constant(ints, 13))
    is_nan = b.icmp_signed(">", magnitude, constant(ints, 0x7F800000))
    is_infinite = b.icmp_signed("==", magnitude, constant(ints, 0x7F800000))
    value = b.or_(b.select(is_infinite, constant(ints, 0x7C00), finite), sign)
    value = b.select(is_nan, constant(ints, 0x7E00), value)
    return b.trunc(value, vector(ir.IntType(16), value))


def bfloat_to_float(b: ir.IRBuilder, stored: ir.Value) -> ir.Value:
    ints = vector(INT32, stored)
    return b.bitcast(b.shl(b.zext(stored, ints), constant(ints, 16)), vector(FLOAT, stored))


def _float_to_bfloat(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """float32 that some bfloat16 equals, or NaN -> its bits."""
    ints = vector(INT32, value)
    bits = b.lshr(b.bitcast(value, ints), constant(ints, 16))
    is_nan = b.fcmp_unordered("uno", value, value)
    return b.trunc(b.select(is_nan, constant(ints, 0x7FC0), bits), vector(ir.IntType(16), value))


def _rounded(b: ir.IRBuilder, value: ir.Value, precision: int, smallest: int) -> ir.Value:
    """float64 -> the nearest number of ``precision`` bits, ties to even.

    ``smallest`` is the exponent of the type's smallest normal number. Adding and taking away
    1.5 * 2**52 units of the last place lets the hardware round once, subnormals included.
    """
    longs = vector(INT64, value)
    exponent = b.and_(b.bitcast(value, longs), constant(longs, 0x7FF << 52))
    floor = constant(longs, (smallest + 1023) << 52)
    exponent = b.select(b.icmp_signed("<", exponent, floor), floor, exponent)
    step = b.add(exponent, constant(longs, ((53 - precision) << 52) | (1 << 51)))
    magic = b.bitcast(step, value.type)
    rounded = b.fsub(b.fadd(value, magic), magic)
    # Keeps the sign of zero, and lets infinities and NaN through.
    ordinary = b.icmp_signed("<", exponent, constant(longs, (200 + 1023) << 52))
    name = f"llvm.copysign.{suffix_of(value.type)}"
    return b.select(ordinary, call(b, name, value.type, rounded, value), value)


def double_to_float(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return b.fptrunc(value, vector(FLOAT, value))


def double_to_half(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """float64 -> float16 bits, rounded once. 16384 x 1000: 6.4 ms, 17 by integers alone."""
    if converts_halves():
        # Through float32 rounded to odd, which no tie of float16 is: the last bit that is kept
        # is set where any bit is dropped.
        longs, shorts = vector(INT64, value), vector(ir.IntType(16), value)
        dropped = constant(longs, (1 << 29) - 1)
        bits = b.bitcast(value, longs)
        odd = b.or_(bits, b.add(b.and_(bits, dropped), dropped))
        kept = b.bitcast(b.and_(odd, constant(longs, -1 << 29)), value.type)
        halves = b.fptrunc(double_to_float(b, kept), vector(ir.HalfType(), value))
        is_nan = b.fcmp_unordered("uno", value, value)
        return b.select(is_nan, constant(shorts, 0x7E00), b.bitcast(halves, shorts))
    kind, suffix = value.type, suffix_of(value.type)
    rounded = _rounded(b, value, precision=11, smallest=-14)
    magnitude = call(b, f"llvm.fabs.{suffix}", kind, rounded)
    too_large = b.fcmp_ordered(">", magnitude, constant(kind, 65504.0))
    infinity = call(b, f"llvm.copysign.{suffix}", kind, constant(kind, float("inf")), rounded)
    return _float_to_half(b, double_to_float(b, b.select(too_large, infinity, rounded)))


def double_to_bfloat(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return _float_to_bfloat(b, double_to_float(b, _rounded(b, value, 8, -126)))
