"""Lanes: numbers side by side in vectors, and what is done with them in generated code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba import types

from fastsoftmax.arithmetic.generated import builder, seen, target

INT8, INT16, INT32, INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
BYTE_POINTER = INT8.as_pointer()
_BITS = {FLOAT: INT32, DOUBLE: INT64, HALF: INT16}
# The floating-point type of so many bits.
REAL = {INT32: FLOAT, INT64: DOUBLE, INT16: HALF}


_Operator = Callable[[Any, Any], "Value"]


def _operator(real: str, integer: str, *sign: str, swapped: bool = False) -> _Operator:
    """An operator of values, by the names of LLVM's instructions."""

    def apply(a: Any, b: Any) -> Value:
        if swapped:
            b, a = matched(a, b)
        elif not isinstance(b, Value) or a.ir.type != b.ir.type:
            a, b = matched(a, b)
        method = getattr(builder(), real if a.element in _BITS else integer)
        return Value(method(*sign, a.ir, b.ir))

    return apply


class Value:
    """A number in generated code, or lanes of them, with Python's operators.

    A Python number beside it takes its type, and a single number is spread beside lanes. Shifts to
    the right keep the sign; comparisons with NaN are false, but for !=.
    """

    __slots__ = ("element", "ir", "width")

    def __init__(self, value: ir.Value) -> None:
        self.ir, kind = value, value.type
        #: How many lanes there are, None for a single number; and LLVM's type of one.
        self.width: int | None = None
        self.element: ir.Type = kind
        if isinstance(kind, ir.VectorType):
            self.width, self.element = kind.count, kind.element

    __add__ = _operator("fadd", "add")
    __sub__ = _operator("fsub", "sub")
    __mul__ = _operator("fmul", "mul")
    __truediv__ = _operator("fdiv", "sdiv")
    __floordiv__ = _operator("fdiv", "sdiv")
    __mod__ = _operator("frem", "srem")
    __radd__ = _operator("fadd", "add", swapped=True)
    __rsub__ = _operator("fsub", "sub", swapped=True)
    __rmul__ = _operator("fmul", "mul", swapped=True)
    __rtruediv__ = _operator("fdiv", "sdiv", swapped=True)
    __rfloordiv__ = _operator("fdiv", "sdiv", swapped=True)
    __lshift__ = _operator("shl", "shl")
    __rshift__ = _operator("ashr", "ashr")
    __and__ = _operator("and_", "and_")
    __or__ = _operator("or_", "or_")
    __lt__ = _operator("fcmp_ordered", "icmp_signed", "<")
    __gt__ = _operator("fcmp_ordered", "icmp_signed", ">")
    __le__ = _operator("fcmp_ordered", "icmp_signed", "<=")
    __ge__ = _operator("fcmp_ordered", "icmp_signed", ">=")
    __eq__ = _operator("fcmp_ordered", "icmp_signed", "==")  # type: ignore[assignment]
    __ne__ = _operator("fcmp_unordered", "icmp_signed", "!=")  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> Value:
        real = self.element in _BITS
        return Value(builder().fneg(self.ir) if real else builder().neg(self.ir))

    def __bool__(self) -> bool:
        raise TypeError("what this is will be known when the code runs: use select or when")


def kind_of(element: ir.Type, width: int | None) -> ir.Type:
    """LLVM's type of a number, or of lanes of it."""
    return element if width is None else ir.VectorType(element, width)


def _constant(kind: ir.Type, number: Any) -> ir.Constant:
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def number(value: Any, element: ir.Type, width: int | None = None) -> Value:
    """A Python number, or a single number, as lanes of this type."""
    if not isinstance(value, Value):
        return Value(_constant(kind_of(element, width), value))
    if width is None or value.width:
        return value
    undefined = ir.Constant(ir.VectorType(value.element, width), ir.Undefined)
    first = builder().insert_element(undefined, value.ir, INT32(0))
    return shuffled(Value(first), Value(undefined), [0] * width)


def like(value: Any, other: Value) -> Value:
    """A number as lanes like others."""
    return number(value, other.element, other.width)


def matched(*values: Any) -> list[Value]:
    """Values of one type: numbers take the lanes'."""
    given = [v for v in values if isinstance(v, Value)]
    model = next((v for v in given if v.width), given[0])
    return [like(v, model) for v in values]


# --- functions of values ---------------------------------------------------------------------


def _suffix(kind: ir.Type) -> str:
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_suffix(kind.element)}"
    if isinstance(kind, ir.PointerType):
        return "p0"
    return {"double": "f64", "float": "f32", "half": "f16"}.get(str(kind), str(kind))


def call(name: str, result: ir.Type, *args: Any) -> Value:
    """A call of one of LLVM's intrinsics; ``{}`` in its name stands for the first type.

    ``{result}`` stands for the result's.
    """
    values = [arg.ir if isinstance(arg, Value) else arg for arg in args]
    name = name.format(_suffix(values[0].type), result=_suffix(result))
    return Value(target().call(name, result, values))


def fma(a: Any, b: Any, c: Any) -> Value:
    """a * b + c, rounded once."""
    a, b, c = matched(a, b, c)
    return call("llvm.fma.{}", a.ir.type, a, b, c)


def select(condition: Value, chosen: Any, otherwise: Any) -> Value:
    """``chosen`` where the condition holds, else ``otherwise``."""
    a, b = matched(chosen, otherwise)
    if condition.width and not a.width:
        a, b = (number(v, a.element, condition.width) for v in (a, b))
    return Value(builder().select(condition.ir, a.ir, b.ir))


def larger(a: Any, b: Any) -> Value:
    """The larger one; ``b`` where one of them is NaN."""
    a, b = matched(a, b)
    return select(a > b, a, b)


def smaller(a: Any, b: Any) -> Value:
    """The smaller one; ``b`` where one of them is NaN."""
    a, b = matched(a, b)
    return select(a < b, a, b)


def shuffled(a: Value, b: Value, order: list[int]) -> Value:
    """Lanes of ``a`` (counted from 0) and ``b`` (counted on) in this order."""
    places = ir.Constant(ir.VectorType(INT32, len(order)), order)
    return Value(builder().shuffle_vector(a.ir, b.ir, places))


def part(x: Value, start: int, width: int) -> Value:
    """So many lanes from the ``start``-th on."""
    return shuffled(x, x, list(range(start, start + width)))


def joined(pieces: list[Value]) -> Value:
    """Lanes side by side: a power of two of pieces."""
    while len(pieces) > 1:
        order = list(range(2 * (pieces[0].width or 1)))
        pairs = zip(pieces[::2], pieces[1::2], strict=True)
        pieces = [shuffled(low, high, order) for low, high in pairs]
    return pieces[0]


State = list[Value]


def folded(state: State, merge: Callable[[State, State], State], width: int | None) -> State:
    """Halves of all lanes merged until so many are left; for None, single numbers."""
    if not state or state[0].width is None:
        return state
    while (size := state[0].width or 1) > (width or 1):
        half = size // 2
        state = merge([part(x, 0, half) for x in state], [part(x, half, half) for x in state])
    return state if width else [lane(x, 0) for x in state]


def lane(x: Value, index: int) -> Value:
    """One of the lanes."""
    return Value(builder().extract_element(x.ir, INT32(index)))


def sum_of(x: Value) -> Value:
    """The sum of integer lanes."""
    return call("llvm.vector.reduce.add.{}", x.element, x)


def count_of(condition: Value) -> Value:
    """In how many lanes a comparison holds."""
    bits = builder().bitcast(condition.ir, ir.IntType(condition.width))
    return in_64_bits(call("llvm.ctpop.{}", bits.type, bits), signed=False)


def any_of(condition: Value) -> Value:
    """Whether a comparison of lanes holds anywhere."""
    bits = builder().bitcast(condition.ir, ir.IntType(condition.width))
    return Value(bits) != 0


def _cast(x: Value, element: ir.Type, name: str) -> Value:
    kind = kind_of(element, x.width)
    return x if x.ir.type == kind else Value(getattr(builder(), name)(x.ir, kind))


def bits_of(x: Value) -> Value:
    """The bits of floating-point numbers, as integers of their size."""
    return _cast(x, _BITS[x.element], "bitcast")


def from_bits(x: Value) -> Value:
    """The floating-point numbers with these bits."""
    return _cast(x, REAL[x.element], "bitcast")


def wide(x: Value) -> Value:
    """The same numbers in float64."""
    return _cast(x, DOUBLE, "fpext")


def narrowed(x: Value, element: ir.Type) -> Value:
    """float64 rounded to another element."""
    return _cast(x, element, "fptrunc")


def in_64_bits(x: Value, signed: bool = True) -> Value:
    """Integers in 64 bits."""
    return _cast(x, INT64, "sext" if signed else "zext")


def same_integer(x: Any, other: Value) -> Value:
    """An integer of 64 bits as one of another's size, cut."""
    x = number(x, INT64)
    return x if other.element == INT64 else Value(builder().trunc(x.ir, other.element))


def to_real(x: Value) -> Value:
    """Integers in float64, rounded."""
    return _cast(x, DOUBLE, "sitofp")


def to_integer(x: Value) -> Value:
    """float64 cut to integers of 64 bits."""
    return _cast(x, INT64, "fptosi")


# --- the code's own branches -------------------------------------------------------------------


class Variables:
    """What a loop's turns change: a few values."""

    def __init__(self, *values: Value) -> None:
        self._places = [target().variable(value.ir.type) for value in values]
        self.set(*values)

    def get(self) -> list[Value]:
        """What they are now."""
        return [Value(builder().load(place)) for place in self._places]

    def set(self, *values: Value) -> None:
        """What they are from now on."""
        for place, value in zip(self._places, values, strict=True):
            builder().store(value.ir, place)


def loop(start: Any, stop: Any, step: Any = 1) -> Iterator[Value]:
    """``for index in range(start, stop, step)``, of integers of 64 bits."""
    return map(Value, target().loop(*(number(n, INT64).ir for n in (start, stop, step))))


def when(condition: Value) -> Iterator[None]:
    """``if condition:``, as ``for _ in when(condition):``."""
    return target().when(condition.ir)


# --- tables -------------------------------------------------------------------------------------


def stored_table(element: ir.Type, numbers: tuple[float, ...]) -> list[Value]:
    """Numbers that are used again and again, read here and now."""
    return [Value(n) for n in target().table(element, numbers)]


def lookup(index: Value, tables: tuple[tuple[float, ...], ...]) -> list[Value]:
    """Of each table of eight numbers one for each lane, by the lowest bits of its integer."""
    return target().lookup(index, tables)


# --- arguments of kernels ----------------------------------------------------------------------


@seen(types.Number)
@seen(types.Boolean)
def _single(kind: Any, value: ir.Value) -> Value:
    return Value(value)


@seen(types.Literal)
def _known(kind: Any, value: ir.Value) -> Any:
    return kind.literal_value


@seen(types.NoneType)
def _nothing(kind: Any, value: ir.Value) -> None:
    return None
