"""Lanes: eight elements side by side, as a Numba type with operators.

A kernel written on lanes reads like its formula, and the order of every addition is the
kernel's own: LLVM is never asked to vectorise anything. It splits a vector that the CPU lacks
(eight float64 are one AVX-512 register, two of AVX2, four of SSE2), so only its generic
operations are used here and every CPU computes the same bits.

Arithmetic works on lanes, on scalars and on a mixture, which spreads the scalar; so a formula
is written once and serves rows (lanes against one shift) and columns (lanes against lanes).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from fastsoftmax.cpu.llvm import (
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    call,
    instruction,
    instruction_of_constants,
    shuffled,
    spread_value,
    suffix_of,
)
from fastsoftmax.cpu.sizes import WIDTH

_LLVM_ELEMENT = {
    types.float64: DOUBLE,
    types.float32: FLOAT,
    types.int64: INT64,
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


def _operands(
    context: Any, builder: ir.IRBuilder, sig: Any, args: Any, element: Any = None
) -> list[ir.Value]:
    """The arguments as values of one shape: scalars are spread where any argument is lanes."""
    width = _width(sig.args)
    values = []
    for kind, value in zip(sig.args, args, strict=True):
        if not isinstance(kind, Lanes):
            value = context.cast(builder, value, kind, element or _element(kind))
            value = spread_value(builder, value, width) if width else value
        values.append(value)
    return values


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


@instruction
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once, in the element type of ``a``."""
    element = _element(a)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        values = _operands(context, builder, sig, args, element)
        kind = values[0].type
        return call(builder, f"llvm.fma.{suffix_of(kind)}", kind, *values)

    return signature(_like((a, b, c), element), a, b, c), emit


@instruction
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
                v if isinstance(v.type, ir.VectorType) else spread_value(builder, v, width)
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


@instruction
def bits_of(typing: Any, x: Any) -> Any:
    """The 64 bits of a float64, as int64."""
    return _reinterpret(x, types.float64, types.int64)


@instruction
def from_bits(typing: Any, bits: Any) -> Any:
    """The float64 with these 64 bits."""
    return _reinterpret(bits, types.int64, types.float64)


@instruction
def wide(typing: Any, x: Any) -> Any:
    """The same values as float64."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        target = context.get_value_type(sig.return_type)
        return args[0] if args[0].type == target else builder.fpext(args[0], target)

    return signature(_like((x,), types.float64), x), emit


@instruction
def narrowed(typing: Any, x: Any) -> Any:
    """Float64 values rounded to float32."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.fptrunc(args[0], context.get_value_type(sig.return_type))

    return signature(_like((x,), types.float32), x), emit


@instruction
def spread(typing: Any, x: Any) -> Any:
    """Lanes that all hold the scalar ``x``."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return spread_value(builder, args[0])

    return signature(Lanes(_element(x)), x), emit


@instruction
def halves(typing: Any, x: Any) -> Any:
    """The first and the second half of lanes."""
    half = x.width // 2
    kind = Lanes(x.element, half)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        numbers = list(range(x.width))
        parts = [shuffled(builder, args[0], args[0], n) for n in (numbers[:half], numbers[half:])]
        return context.make_tuple(builder, sig.return_type, parts)

    return signature(types.UniTuple(kind, 2), x), emit


@instruction
def lane(typing: Any, x: Any, index: Any) -> Any:
    """One element of lanes."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.extract_element(args[0], builder.trunc(args[1], INT32))

    return signature(x.element, x, types.int64), emit


@instruction
def any_of(typing: Any, mask: Any) -> Any:
    """Whether a comparison of lanes holds anywhere."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        bits = builder.bitcast(args[0], ir.IntType(mask.width))
        return builder.icmp_unsigned("!=", bits, ir.IntType(mask.width)(0))

    return signature(types.boolean, mask), emit


@instruction_of_constants
def rotated(typing: Any, x: Any, by: Any) -> Any:
    """The lanes in another order: lane k holds what lane k + ``by`` held."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        order = [(index + by.literal_value) % WIDTH for index in range(WIDTH)]
        return shuffled(builder, args[0], args[0], order)

    return signature(x, x, by), emit


@instruction
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
                values[k] = shuffled(builder, *pair, low)
                values[k + size] = shuffled(builder, *pair, high)
        return context.make_tuple(builder, sig.return_type, values)

    return signature(types.UniTuple(a, WIDTH), a, b, c, d, e, f, g, h), emit


@instruction
def largest(typing: Any, x: Any) -> Any:
    """The largest of the lanes, as float64; any of them where there is NaN."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = args[0]
        half = x.width // 2
        while half:
            other = shuffled(builder, value, value, list(range(half, 2 * half)))
            value = shuffled(builder, value, value, list(range(half)))
            value = builder.select(builder.fcmp_ordered(">", other, value), other, value)
            half //= 2
        first = builder.extract_element(value, INT32(0))
        return first if first.type == DOUBLE else builder.fpext(first, DOUBLE)

    return signature(types.float64, x), emit


def table(name: str, numbers: tuple[float, ...]) -> Any:
    """A function without arguments that returns these numbers, as values unknown to LLVM.

    It would otherwise load each constant again wherever it is used: 15 cycles instead of 11.6
    for eight exponentials. Read once before a loop, they stay in registers.
    """

    @instruction
    def get(typing: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            kind = ir.ArrayType(DOUBLE, len(numbers))
            symbol = f"fastsoftmax.{name}"
            memory = builder.module.globals.get(symbol)
            if memory is None:
                memory = ir.GlobalVariable(builder.module, kind, symbol)
                memory.linkage = "linkonce_odr"  # not constant: anyone might write to it
                memory.initializer = ir.Constant(kind, list(numbers))
            places = [builder.gep(memory, [INT32(0), INT32(i)]) for i in range(len(numbers))]
            return context.make_tuple(builder, sig.return_type, list(map(builder.load, places)))

        return signature(types.UniTuple(types.float64, len(numbers))), emit

    return get
