"""Between lanes and memory: arrays, whole or in part, and scratch memory.

Four kinds of array are loaded, told apart by their dtype: float64 and float32 as they are,
uint16 as the bits of float16, int16 as the bits of bfloat16. The last two become float32 lanes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import models, register_model
from numba.np.arrayobj import populate_array

from fastsoftmax.cpu.lanes import Lanes, computed_in
from fastsoftmax.cpu.llvm import (
    BYTE_POINTER,
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    bfloat_to_float,
    call,
    constant,
    float_to_bfloat,
    float_to_half,
    half_to_float,
    instruction,
    instruction_of_constants,
    shuffled,
    spread_value,
    stores_by_mask,
    suffix_of,
    vector,
)

_INT8, _INT16 = ir.IntType(8), ir.IntType(16)
# array dtype -> (how it is stored, after loading, before storing)
_STORAGE: dict[types.Type, Any] = {
    types.float64: (DOUBLE, lambda b, v: v, lambda b, v: v),
    types.float32: (FLOAT, lambda b, v: v, lambda b, v: v),
    types.int64: (INT64, lambda b, v: v, lambda b, v: v),
    types.int32: (INT32, lambda b, v: v, lambda b, v: v),
    types.uint16: (_INT16, half_to_float, float_to_half),
    types.int16: (_INT16, bfloat_to_float, float_to_bfloat),
    types.boolean: (_INT8, lambda b, v: b.icmp_unsigned("!=", v, constant(v.type, 0)), None),
}


class Unit(types.Dummy):
    """The type of lanes that a kernel works on, as an argument that takes no room."""

    def __init__(self, element: types.Type, width: int) -> None:
        self.lanes = Lanes(element, width)
        super().__init__(f"Unit({self.lanes})")


register_model(Unit)(models.OpaqueModel)


@instruction_of_constants
def unit_of(typing: Any, x: Any, weight: Any, vectors: Any) -> Any:
    """Lanes of so many vectors of 64 bytes, of the type in which an array's elements are computed.

    Weights, which may have any magnitude, are float64, and so is what is computed with them.
    """
    element = computed_in(x.dtype if weight is types.none else types.float64)
    unit = Unit(element, vectors.literal_value * 512 // element.bitwidth)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return context.get_dummy_value()

    return signature(unit, x, weight, vectors), emit


@instruction
def width_of(typing: Any, unit: Any) -> Any:
    """How many elements a unit's lanes hold."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return INT64(unit.lanes.width)

    return signature(types.int64, unit), emit


def _pointer(
    context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value, indices: ir.Value
) -> ir.Value:
    """The address of an element; the last axis is contiguous whatever its stride says."""
    proxy = cgutils.create_struct_proxy(kind)(context, builder, array)
    strides = cgutils.unpack_tuple(builder, proxy.strides)
    itemsize = INT64(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    steps = [*strides[:-1], itemsize]
    address = builder.ptrtoint(proxy.data, INT64)
    for index, step in zip(cgutils.unpack_tuple(builder, indices), steps, strict=True):
        address = builder.add(address, builder.mul(index, step))
    return builder.inttoptr(address, BYTE_POINTER)


def _first(builder: ir.IRBuilder, count: ir.Value, width: int) -> ir.Value:
    """The mask of the first ``count`` lanes."""
    numbers = ir.Constant(ir.VectorType(INT32, width), list(range(width)))
    return builder.icmp_signed(
        "<", numbers, spread_value(builder, builder.trunc(count, INT32), width)
    )


def _move_part(
    builder: ir.IRBuilder, source: ir.Value, target: ir.Value, kind: ir.VectorType, count: ir.Value
) -> None:
    """Copy the first ``count`` elements, fewer than the kind has, in pieces of 8, 4, 2 and 1.

    A masked store of AVX2 takes AMD's processors 12 cycles or more, 19 ns for eight logits in rows
    of 5, where this takes 12. Of masked operations on elements of 16 bits, LLVM 22 turns a store
    of one lane into a store of 32 bits, and AVX2 has none.
    """
    pointer = kind.element.as_pointer()
    source, target = builder.bitcast(source, pointer), builder.bitcast(target, pointer)
    size = kind.count // 2
    while size:
        with builder.if_then(
            builder.icmp_unsigned("!=", builder.and_(count, INT64(size)), INT64(0))
        ):
            at = builder.and_(count, INT64(-2 * size))
            piece = ir.VectorType(kind.element, size).as_pointer()
            value = builder.load(builder.bitcast(builder.gep(source, [at]), piece), align=1)
            builder.store(value, builder.bitcast(builder.gep(target, [at]), piece), align=1)
        size //= 2


def _read(builder: ir.IRBuilder, pointer: ir.Value, kind: ir.Type, count: ir.Value | None) -> Any:
    """Elements from memory; past ``count``, unless it is None, they are 0 and nothing is read."""
    whole = builder.bitcast(pointer, kind.as_pointer())
    if count is None:
        return builder.load(whole, align=1)
    if kind.element in (FLOAT, DOUBLE):
        name = f"llvm.masked.load.{suffix_of(kind)}.p0"
        mask = _first(builder, count, kind.count)
        return call(builder, name, kind, pointer, INT32(1), mask, constant(kind, 0))
    slot = cgutils.alloca_once(builder, kind)
    with builder.if_else(builder.icmp_signed(">=", count, INT64(kind.count))) as (then, otherwise):
        with then:
            builder.store(builder.load(whole, align=1), slot)
        with otherwise:
            builder.store(constant(kind, 0), slot)
            _move_part(builder, pointer, slot, kind, count)
    return builder.load(slot)


def _write(
    builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, count: ir.Value | None
) -> None:
    """Lanes to memory; past ``count``, unless it is None, nothing is written."""
    kind = value.type
    whole = builder.bitcast(pointer, kind.as_pointer())
    if count is None:
        builder.store(value, whole, align=1)
    elif kind.element in (FLOAT, DOUBLE) and stores_by_mask():
        name = f"llvm.masked.store.{suffix_of(kind)}.p0"
        mask = _first(builder, count, kind.count)
        call(builder, name, ir.VoidType(), value, pointer, INT32(1), mask)
    else:
        is_whole = builder.icmp_signed(">=", count, INT64(kind.count))
        with builder.if_else(is_whole) as (then, otherwise):
            with then:
                builder.store(value, whole, align=1)
            with otherwise:
                slot = cgutils.alloca_once(builder, kind)
                builder.store(value, slot)
                _move_part(builder, slot, pointer, kind, count)


@instruction
def load(typing: Any, array: Any, indices: Any, count: Any, fill: Any, unit: Any) -> Any:
    """As many elements as a unit has from ``indices`` along the last axis, at any alignment.

    In the type in which they are computed, or the unit's where that is wider; of an array of
    booleans, a mask. ``count``: None, or how many are read; ``fill`` is in the others.
    """
    stored, after, _ = _STORAGE[array.dtype]
    real = array.dtype not in (types.boolean, types.int32, types.int64)
    element = computed_in(array.dtype) if real else array.dtype
    if real and types.float64 in (element, unit.lanes.element):
        element = types.float64
    lanes = Lanes(element, unit.lanes.width)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = ir.VectorType(stored, lanes.width)
        pointer = _pointer(context, builder, array, *args[:2])
        value = after(builder, _read(builder, pointer, kind, args[2] if some else None))
        target = context.get_value_type(lanes)
        if value.type != target:
            value = builder.fpext(value, target)
        if some and real:
            filler = context.cast(builder, args[3], fill, element)
            first = _first(builder, args[2], lanes.width)
            value = builder.select(first, value, spread_value(builder, filler, lanes.width))
        return value

    some = count is not types.none
    return signature(lanes, array, indices, types.int64 if some else count, fill, unit), emit


@instruction
def store(typing: Any, array: Any, indices: Any, count: Any, value: Any) -> Any:
    """Lanes, rounded to the array's type, to ``indices`` along the last axis.

    ``count``: None, or how many are written.
    """
    stored, _, before = _STORAGE[array.dtype]
    some = count is not types.none

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        lanes = args[3]
        if lanes.type.element == DOUBLE and stored != DOUBLE:
            lanes = builder.fptrunc(lanes, vector(FLOAT, lanes))
        elif lanes.type.element == FLOAT and stored == DOUBLE:
            lanes = builder.fpext(lanes, vector(DOUBLE, lanes))
        pointer = _pointer(context, builder, array, *args[:2])
        _write(builder, before(builder, lanes), pointer, args[2] if some else None)
        return context.get_dummy_value()

    return signature(types.void, array, indices, types.int64 if some else count, value), emit


@instruction
def prefetch(typing: Any, array: Any, indices: Any) -> Any:
    """Ask for the cache line of an element, which need not exist."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = _pointer(context, builder, sig.args[0], *args[:2])
        name = "llvm.prefetch.p0"
        call(builder, name, ir.VoidType(), pointer, INT32(0), INT32(3), INT32(1))
        return context.get_dummy_value()

    return signature(types.void, array, indices), emit


def _array(
    context: Any, builder: ir.IRBuilder, kind: Any, data: ir.Value, lines: Any, columns: Any
) -> ir.Value:
    """An array (lines, columns) at an address."""
    stored = context.get_data_type(kind.dtype)
    itemsize = context.get_abi_sizeof(stored)
    array = cgutils.create_struct_proxy(kind)(context, builder)
    populate_array(
        array,
        data=builder.bitcast(data, stored.as_pointer()),
        shape=(lines, columns),
        strides=(builder.mul(columns, INT64(itemsize)), INT64(itemsize)),
        itemsize=itemsize,
        meminfo=None,
    )
    return array._getvalue()


@instruction_of_constants
def scratch(typing: Any, unit: Any, lines: Any, columns: Any) -> Any:
    """An array (lines, columns) on the stack, of a unit's element; its content is undefined.

    ``columns``: None, for as many as the unit has. No allocation, and nothing for Numba to count
    references of.
    """
    whole = unit.lanes.width if columns is types.none else columns.literal_value
    size = lines.literal_value, whole
    kind = types.Array(unit.lanes.element if isinstance(unit, Unit) else unit.dtype, 2, "C")

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        stored = context.get_data_type(kind.dtype)
        memory = cgutils.alloca_once(builder, ir.ArrayType(stored, size[0] * size[1]))
        memory.align = 64  # a cache line, so that no lanes lie across two
        return _array(context, builder, kind, memory, INT64(size[0]), INT64(size[1]))

    return signature(kind, unit, lines, columns), emit


@instruction
def part_of(typing: Any, memory: Any, slot: Any, unit: Any, columns: Any) -> Any:
    """A thread's slot of scratch memory (slots, bytes), as an array (lines, columns).

    For what is too large for the stacks of threads, which on some systems are half a megabyte.
    """
    kind = types.Array(unit.lanes.element, 2, "C")

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        whole = cgutils.create_struct_proxy(memory)(context, builder, args[0])
        _, size = cgutils.unpack_tuple(builder, whole.shape)
        data = builder.gep(whole.data, [builder.mul(args[1], size)])
        itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        lines = builder.udiv(size, builder.mul(args[3], INT64(itemsize)))
        return _array(context, builder, kind, data, lines, args[3])

    return signature(kind, memory, types.int64, unit, types.int64), emit


def _crossed(builder: ir.IRBuilder, values: list[ir.Value]) -> list[ir.Value]:
    """Squares of lanes transposed: as many vectors as the squares, side by side, are wide."""
    values, size, width = list(values), 1, values[0].type.count
    # Squares of one, two and four elements change places across the diagonal.
    while size < len(values):
        numbers = range(width)
        low = [n if n & size == 0 else n - size + width for n in numbers]
        high = [n + size if n & size == 0 else n + width for n in numbers]
        for k in (n for n in range(len(values)) if n & size == 0):
            pair = values[k], values[k + size]
            values[k] = shuffled(builder, *pair, low)
            values[k + size] = shuffled(builder, *pair, high)
        size *= 2
    return values


def _joined(builder: ir.IRBuilder, pieces: list[ir.Value]) -> ir.Value:
    while len(pieces) > 1:
        order = list(range(2 * pieces[0].type.count))
        pieces = [
            shuffled(builder, low, high, order)
            for low, high in zip(pieces[::2], pieces[1::2], strict=True)
        ]
    return pieces[0]


@instruction_of_constants
def turn(
    typing: Any, rows: Any, panel: Any, line: Any, column: Any, size: Any, back: Any, unit: Any
) -> Any:
    """Turn the first ``size`` elements, a constant, of rows into lines of a panel.

    ``rows``: scratch memory of as many lines as a unit has lanes. ``back``: None, or True for the
    other way.
    """
    width, count = unit.lanes.width, size.literal_value
    pair = types.UniTuple(types.int64, 2)
    some = back is types.none

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        whole = context.get_value_type(unit.lanes)
        piece = ir.VectorType(whole.element, count)

        def place(array: Any, value: ir.Value, at: ir.Value, side: ir.Value, kind: Any) -> Any:
            indices = context.make_tuple(builder, pair, [at, side])
            address = _pointer(context, builder, array, value, indices)
            return builder.bitcast(address, kind.as_pointer())

        def row(number: int) -> Any:
            return place(rows, args[0], INT64(number), INT64(0), piece)

        def element(number: int) -> Any:
            return place(panel, args[1], builder.add(args[2], INT64(number)), args[3], whole)

        if some:
            values = [
                _joined(
                    builder,
                    [builder.load(row(k), align=1) for k in range(first, width, count)],
                )
                for first in range(count)
            ]
            for number, value in enumerate(_crossed(builder, values)):
                builder.store(value, element(number), align=1)
        else:
            values = [builder.load(element(number), align=1) for number in range(count)]
            for first, value in enumerate(_crossed(builder, values)):
                for start in range(0, width, count):
                    part = shuffled(builder, value, value, list(range(start, start + count)))
                    builder.store(part, row(first + start), align=1)
        return context.get_dummy_value()

    arguments = rows, panel, types.int64, types.int64, size, back, unit
    return signature(types.void, *arguments), emit


# --- rows that lie one behind the other ----------------------------------------------------------


def _picked(
    builder: ir.IRBuilder, sources: list[ir.Value], picks: list[tuple[int, int]]
) -> ir.Value:
    """Lanes of which each is picked from one of the sources: (which, index)."""
    result = None
    width = len(picks)
    for which in sorted({source for source, _ in picks}):
        order = [index if source == which else -1 for source, index in picks]
        if result is None:
            order = [max(index, 0) for index in order]
            result = shuffled(builder, sources[which], sources[which], order)
        else:
            order = [lane if index < 0 else width + index for lane, index in enumerate(order)]
            result = shuffled(builder, result, sources[which], order)
    return result


def _packed_pointer(
    context: Any, builder: ir.IRBuilder, array: Any, value: ir.Value, row: ir.Value
) -> ir.Value:
    indices = context.make_tuple(builder, types.UniTuple(types.int64, 2), [row, INT64(0)])
    return _pointer(context, builder, array, value, indices)


def _line(
    context: Any, builder: ir.IRBuilder, panel: Any, value: ir.Value, line: int, column: ir.Value
) -> ir.Value:
    indices = context.make_tuple(builder, types.UniTuple(types.int64, 2), [INT64(line), column])
    return _pointer(context, builder, panel, value, indices)


@instruction_of_constants
def unpack(
    typing: Any, array: Any, row: Any, length: Any, panel: Any, column: Any, unit: Any
) -> Any:
    """As many rows as a unit has lanes, which lie one behind the other, into lines of a panel."""
    stored, after, _ = _STORAGE[array.dtype]
    size, width = length.literal_value, unit.lanes.width

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = ir.VectorType(stored, width).as_pointer()
        start = builder.bitcast(_packed_pointer(context, builder, array, args[0], args[1]), kind)
        sources = [
            after(builder, builder.load(builder.gep(start, [INT64(k)]), align=1))
            for k in range(size)
        ]
        for i in range(size):
            value = _picked(builder, sources, [divmod(r * size + i, width) for r in range(width)])
            place = _line(context, builder, panel, args[3], i, args[4])
            builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature(types.void, array, types.int64, length, panel, types.int64, unit), emit


@instruction_of_constants
def pack(typing: Any, array: Any, row: Any, length: Any, panel: Any, column: Any, unit: Any) -> Any:
    """The other way."""
    before = _STORAGE[array.dtype][2]
    size, width = length.literal_value, unit.lanes.width

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = context.get_value_type(unit.lanes).as_pointer()
        columns = [
            builder.load(
                builder.bitcast(_line(context, builder, panel, args[3], i, args[4]), kind), align=1
            )
            for i in range(size)
        ]
        start = _packed_pointer(context, builder, array, args[0], args[1])
        for k in range(size):
            places = [divmod(width * k + lane, size) for lane in range(width)]
            value = before(builder, _picked(builder, columns, [(i, r) for r, i in places]))
            target = builder.bitcast(start, value.type.as_pointer())
            builder.store(value, builder.gep(target, [INT64(k)]), align=1)
        return context.get_dummy_value()

    return signature(types.void, array, types.int64, length, panel, types.int64, unit), emit
