"""Lanes: elements side by side, as a Numba type with operators.

A kernel written on lanes reads like its formula, and the order of every operation is the kernel's
own: LLVM is never asked to vectorise anything. It splits a vector that the CPU lacks (16 float32
are one AVX-512 register, two of AVX2, four of SSE2), so any width computes the same bits. Scalars
beside lanes adopt their type.
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
    constant,
    features,
    instruction,
    shuffled,
    spread_value,
    suffix_of,
)

_LLVM_ELEMENT = {
    types.float64: DOUBLE,
    types.float32: FLOAT,
    types.int64: INT64,
    types.int32: INT32,
    types.boolean: ir.IntType(1),
}
_BITS_OF = {types.float64: types.int64, types.float32: types.int32}
_REAL_OF = {integer: real for real, integer in _BITS_OF.items()}


class Lanes(types.Type):
    """The Numba type of ``width`` elements of one scalar type."""

    def __init__(self, element: types.Type, width: int) -> None:
        self.element = element
        self.width = width
        super().__init__(name=f"Lanes({element}, {width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(_LLVM_ELEMENT[lanes.element], lanes.width))


def _common(kinds: Any) -> Lanes | None:
    """The type of all lanes among these, or None where they differ or there are none."""
    lanes = {kind for kind in kinds if isinstance(kind, Lanes)}
    return lanes.pop() if len(lanes) == 1 else None


def _operands(
    context: Any, builder: ir.IRBuilder, kinds: Any, args: Any, lanes: Lanes
) -> list[ir.Value]:
    """The arguments as values of one shape: scalars are cast and spread."""
    values = []
    for kind, value in zip(kinds, args, strict=True):
        if not isinstance(kind, Lanes):
            value = spread_value(
                builder, context.cast(builder, value, kind, lanes.element), lanes.width
            )
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
            lanes = _common(args)
            if lanes is None:
                return None
            return signature(Lanes(result or lanes.element, lanes.width), *args)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        lanes = _common(sig.args)
        assert lanes is not None
        values = _operands(context, builder, sig.args, args, lanes)
        return emit(builder, values, lanes.element in _BITS_OF)

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
_arithmetic(operator.and_, "and_", "and_")
_arithmetic(operator.or_, "or_", "or_")
_operator(operator.neg, lambda b, v, real: b.fneg(*v) if real else b.neg(*v))
_comparison(operator.lt, "<")
_comparison(operator.gt, ">")
_comparison(operator.eq, "==")
_comparison(operator.ne, "!=")


# --- functions of lanes -----------------------------------------------------------------------


@instruction
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    lanes: Any = _common((a, b, c))

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        values = _operands(context, builder, sig.args, args, lanes)
        kind = values[0].type
        return call(builder, f"llvm.fma.{suffix_of(kind)}", kind, *values)

    return signature(lanes, a, b, c), emit


@instruction
def select(typing: Any, condition: Any, chosen: Any, otherwise: Any) -> Any:
    """``chosen`` where the condition holds, else ``otherwise``; both are computed."""
    element = chosen if isinstance(chosen, Lanes) else otherwise
    lanes = Lanes(getattr(element, "element", element), condition.width)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        values = _operands(context, builder, sig.args[1:], args[1:], lanes)
        return builder.select(args[0], *values)

    return signature(lanes, condition, chosen, otherwise), emit


def _cast(x: Lanes, element: types.Type, emit: Callable[[ir.IRBuilder, Any, Any], Any]) -> Any:
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        target = context.get_value_type(sig.return_type)
        return args[0] if args[0].type == target else emit(builder, args[0], target)

    return signature(Lanes(element, x.width), x), lower


@instruction
def bits_of(typing: Any, x: Any) -> Any:
    """The bits of floating-point lanes, as integers of their size."""
    return _cast(x, _BITS_OF[x.element], lambda b, v, t: b.bitcast(v, t))


@instruction
def from_bits(typing: Any, bits: Any) -> Any:
    """The floating-point lanes with these bits."""
    return _cast(bits, _REAL_OF[bits.element], lambda b, v, t: b.bitcast(v, t))


@instruction
def wide(typing: Any, x: Any) -> Any:
    """The same values as float64."""
    return _cast(x, types.float64, lambda b, v, t: b.fpext(v, t))


@instruction
def narrowed(typing: Any, x: Any, like: Any) -> Any:
    """float64 values rounded to the element type of other lanes, or of a unit."""
    element = getattr(like, "lanes", like).element
    made, lower = _cast(x, element, lambda b, v, t: b.fptrunc(v, t))
    return signature(made.return_type, x, like), lambda c, b, s, a: lower(c, b, s, a[:1])


@instruction
def to_real(typing: Any, x: Any) -> Any:
    """Integers as float64, rounded."""
    return _cast(x, types.float64, lambda b, v, t: b.sitofp(v, t))


@instruction
def any_of(typing: Any, mask: Any) -> Any:
    """Whether a comparison of lanes holds anywhere."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        bits = builder.bitcast(args[0], ir.IntType(mask.width))
        return builder.icmp_unsigned("!=", bits, ir.IntType(mask.width)(0))

    return signature(types.boolean, mask), emit


def _halves(builder: ir.IRBuilder, value: ir.Value) -> list[ir.Value]:
    half = value.type.count // 2
    return [
        shuffled(builder, value, value, list(range(start, start + half))) for start in (0, half)
    ]


@instruction
def two_largest(typing: Any, top: Any, second: Any) -> Any:
    """The largest of the lanes, and the second largest of those and of other lanes.

    ``second`` may be None: then the largest, twice. Where there is NaN, any numbers.
    """

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        def larger(a: ir.Value, b: ir.Value) -> ir.Value:
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        def smaller(a: ir.Value, b: ir.Value) -> ir.Value:
            return builder.select(builder.fcmp_ordered(">", a, b), b, a)

        most, next_one = args[0], args[0] if second is types.none else args[1]
        while most.type.count > 1:
            a, b = _halves(builder, most)
            if second is not types.none:
                next_one = larger(smaller(a, b), larger(*_halves(builder, next_one)))
            most = larger(a, b)
        if second is types.none:
            next_one = most
        values = [builder.extract_element(v, INT32(0)) for v in (most, next_one)]
        return context.make_tuple(builder, sig.return_type, values)

    return signature(types.UniTuple(top.element, 2), top, second), emit


@instruction
def folded(typing: Any, x: Any, like: Any) -> Any:
    """The sums of as many lanes as a unit has, of integer lanes that are a multiple as wide."""
    width = like.lanes.width

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = args[0]
        while value.type.count > width:
            value = builder.add(*_halves(builder, value))
        return value

    return signature(Lanes(x.element, width), x, like), emit


@instruction
def lane(typing: Any, x: Any, index: Any) -> Any:
    """One element of lanes."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.extract_element(args[0], builder.trunc(args[1], INT32))

    return signature(x.element, x, types.int64), emit


@instruction
def sum_of(typing: Any, x: Any) -> Any:
    """The sum of integer lanes."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        name = f"llvm.vector.reduce.add.{suffix_of(args[0].type)}"
        return call(builder, name, args[0].type.element, args[0])

    return signature(x.element, x), emit


@instruction
def in_64_bits(typing: Any, x: Any, signed: Any) -> Any:
    """Integer lanes as int64; those of 32 bits count as unsigned where ``signed`` is None."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        target = context.get_value_type(sig.return_type)
        if args[0].type == target:
            return args[0]
        return (builder.zext if signed is types.none else builder.sext)(args[0], target)

    return signature(Lanes(types.int64, x.width), x, signed), emit


@instruction
def spread_like(typing: Any, x: Any, like: Any) -> Any:
    """Lanes of another's type, or of a unit's, that all hold the scalar ``x``."""
    lanes = getattr(like, "lanes", like)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _operands(context, builder, sig.args[:1], args[:1], lanes)[0]

    return signature(lanes, x, like), emit


# --- tables ---------------------------------------------------------------------------------


def computed_in(element: types.Type) -> types.Type:
    """The type of lanes in which an array's elements are computed."""
    return types.float64 if element == types.float64 else types.float32


def table(name: str, floats: tuple[float, ...], doubles: tuple[float, ...]) -> Any:
    """A function of an array that returns these numbers, in the type of lanes that it loads as.

    LLVM does not know their values: it would load each constant again wherever it is used, 15
    cycles instead of 11.6 for eight exponentials. Read once before a loop, they stay in registers.
    """

    @instruction
    def get(typing: Any, array: Any) -> Any:
        element = computed_in(array.dtype)
        numbers = doubles if element == types.float64 else floats

        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            kind = ir.ArrayType(_LLVM_ELEMENT[element], len(numbers))
            symbol = f"fastsoftmax.{name}.{element}"
            memory = builder.module.globals.get(symbol)
            if memory is None:
                memory = ir.GlobalVariable(builder.module, kind, symbol)
                memory.linkage = "linkonce_odr"  # not constant: anyone might write to it
                memory.initializer = ir.Constant(kind, list(numbers))
            places = [builder.gep(memory, [INT32(0), INT32(i)]) for i in range(len(numbers))]
            return context.make_tuple(builder, sig.return_type, list(map(builder.load, places)))

        return signature(types.UniTuple(element, len(numbers)), array), emit

    return get


def lookup(floats: tuple[float, ...], doubles: tuple[float, ...]) -> Any:
    """A function of lanes that picks one of eight numbers by the lowest three bits of each.

    From a register where the CPU can: AVX-512 permutes lanes by lanes, AVX2 eight of 32 bits.
    """

    def permuted(b: ir.IRBuilder, bits: ir.Value, numbers: tuple[float, ...]) -> ir.Value:
        element = FLOAT if bits.type.element == INT32 else DOUBLE
        enabled = features()
        if "+avx512f" in enabled:
            count, name = (16, "sf") if element == FLOAT else (8, "df")
            kind = ir.VectorType(element, count)
            held = ir.Constant(kind, list(numbers) * (count // 8))
            name = f"llvm.x86.avx512.permvar.{name}.512"
            return in_pieces(b, bits, count, lambda piece: call(b, name, kind, held, piece))
        if "+avx2" in enabled and element == FLOAT:
            kind = ir.VectorType(FLOAT, 8)
            held = ir.Constant(kind, list(numbers))
            name = "llvm.x86.avx2.permps"
            return in_pieces(b, bits, 8, lambda piece: call(b, name, kind, held, piece))
        result = ir.Constant(ir.VectorType(element, bits.type.count), ir.Undefined)
        kind = ir.ArrayType(element, 8)
        held = ir.GlobalVariable(b.module, kind, b.module.get_unique_name("fastsoftmax.steps"))
        held.linkage, held.global_constant = "private", True
        held.initializer = ir.Constant(kind, list(numbers))
        masked = b.and_(bits, constant(bits.type, 7))
        for index in range(bits.type.count):
            place = b.gep(held, [INT32(0), b.extract_element(masked, INT32(index))])
            result = b.insert_element(result, b.load(place), INT32(index))
        return result

    def in_pieces(
        b: ir.IRBuilder, bits: ir.Value, count: int, emit: Callable[[ir.Value], ir.Value]
    ) -> ir.Value:
        pieces = [
            emit(shuffled(b, bits, bits, [min(k + i, bits.type.count - 1) for i in range(count)]))
            for k in range(0, bits.type.count, count)
        ]
        while len(pieces) > 1:
            size = 2 * pieces[0].type.count
            pieces = [
                shuffled(b, low, high, list(range(size)))
                for low, high in zip(pieces[::2], pieces[1::2], strict=True)
            ]
        if pieces[0].type.count != bits.type.count:
            return shuffled(b, pieces[0], pieces[0], list(range(bits.type.count)))
        return pieces[0]

    @instruction
    def look_up(typing: Any, bits: Any) -> Any:
        numbers = floats if bits.element == types.int32 else doubles

        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            return permuted(builder, args[0], numbers)

        return signature(Lanes(_REAL_OF[bits.element], bits.width), bits), emit

    return look_up
