"""What lanes and memory are written with: LLVM's vectors, and conversions of 16-bit types."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, registry
from numba.extending import intrinsic

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


def spread_value(builder: ir.IRBuilder, scalar: ir.Value, width: int) -> ir.Value:
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
def features() -> frozenset[str]:
    """What the CPU that code is generated for can do."""
    _, _, features = registry.cpu_target.target_context.codegen().magic_tuple()
    return frozenset(features.split(","))


def converts_halves() -> bool:
    """Whether the CPU has instructions for float16; then they give the bits that ours give."""
    return "+f16c" in features()


def stores_by_mask() -> bool:
    """Whether the CPU stores some lanes of a vector as fast as all of them."""
    return "+avx512vl" in features()


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


def float_to_half(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """float32 -> float16 bits, rounded to nearest."""
    shorts = vector(ir.IntType(16), value)
    if converts_halves():
        return b.bitcast(b.fptrunc(value, vector(ir.HalfType(), value)), shorts)
    ints, floats = vector(INT32, value), vector(FLOAT, value)
    bits = b.bitcast(value, ints)
    sign = b.lshr(b.and_(bits, constant(ints, -0x80000000)), constant(ints, 16))
    magnitude = b.and_(bits, constant(ints, 0x7FFFFFFF))
    # Adding 1.5 * 2**23 units of the last place that is kept rounds to it, subnormals included.
    exponent = b.and_(magnitude, constant(ints, 0x7F800000))
    least = constant(ints, (127 - 14) << 23)
    exponent = b.select(b.icmp_signed("<", exponent, least), least, exponent)
    unit = b.bitcast(b.add(exponent, constant(ints, (13 << 23) | (1 << 22))), floats)
    rounded = b.fsub(b.fadd(b.bitcast(magnitude, floats), unit), unit)
    # The exponent's bias is less by 112; the product makes subnormals of what is below it.
    scaled = b.fmul(rounded, constant(floats, 2.0**-112))
    finite = b.lshr(b.bitcast(scaled, ints), constant(ints, 13))
    large = b.icmp_signed(">", magnitude, constant(ints, 0x477FEFFF))
    result = b.select(large, constant(ints, 0x7C00), finite)
    is_nan = b.icmp_signed(">", magnitude, constant(ints, 0x7F800000))
    result = b.select(is_nan, constant(ints, 0x7E00), result)
    return b.trunc(b.or_(result, sign), shorts)


def bfloat_to_float(b: ir.IRBuilder, stored: ir.Value) -> ir.Value:
    """bfloat16 bits -> float32, exactly."""
    ints = vector(INT32, stored)
    return b.bitcast(b.shl(b.zext(stored, ints), constant(ints, 16)), vector(FLOAT, stored))


def float_to_bfloat(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """float32 -> bfloat16 bits, rounded to nearest, ties to even."""
    ints = vector(INT32, value)
    bits = b.bitcast(value, ints)
    odd = b.and_(b.lshr(bits, constant(ints, 16)), constant(ints, 1))
    rounded = b.lshr(b.add(b.add(bits, constant(ints, 0x7FFF)), odd), constant(ints, 16))
    is_nan = b.fcmp_unordered("uno", value, value)
    return b.trunc(b.select(is_nan, constant(ints, 0x7FC0), rounded), vector(ir.IntType(16), value))
