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

from fastsoftmax.cpu.compiler import populate_array
from fastsoftmax.cpu.lanes import Lanes, float32_lanes, float64_lanes, mask_lanes
from fastsoftmax.cpu.llvm import (
    BYTE_POINTER,
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    bfloat_to_float,
    call,
    constant,
    double_to_bfloat,
    double_to_float,
    double_to_half,
    half_to_float,
    instruction,
    instruction_of_constants,
    shuffled,
    spread_value,
    stores_by_mask,
    suffix_of,
    vector,
)
from fastsoftmax.cpu.sizes import WIDTH

# array dtype -> (how it is stored, lanes it loads as, after loading, before storing)
_STORAGE: dict[types.Type, Any] = {
    types.float64: (DOUBLE, float64_lanes, lambda b, v: v, lambda b, v: v),
    types.float32: (FLOAT, float32_lanes, lambda b, v: v, double_to_float),
    types.uint16: (ir.IntType(16), float32_lanes, half_to_float, double_to_half),
    types.int16: (ir.IntType(16), float32_lanes, bfloat_to_float, double_to_bfloat),
}


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
    return address


def _vector_pointer(
    context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value, indices: ir.Value
) -> tuple[ir.Value, ir.Type]:
    stored = ir.VectorType(_STORAGE[kind.dtype][0], WIDTH)
    address = _pointer(context, builder, kind, array, indices)
    return builder.inttoptr(address, stored.as_pointer()), stored


def _first(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """The mask of the first ``count`` lanes."""
    numbers = ir.Constant(ir.VectorType(INT64, WIDTH), list(range(WIDTH)))
    return builder.icmp_signed("<", numbers, spread_value(builder, count))


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
        with builder.if_then(builder.icmp_signed(">", count, INT64(index))):
            value = builder.load(builder.gep(source, [INT64(index)]), align=1)
            builder.store(value, builder.gep(target, [INT64(index)]), align=1)


def _read_part(
    builder: ir.IRBuilder, pointer: ir.Value, stored: ir.Type, count: ir.Value
) -> ir.Value:
    """The first ``count`` lanes from memory, zero in the others; nothing else is read."""
    zero = constant(stored, 0)
    if stored.element in (FLOAT, DOUBLE):
        name = f"llvm.masked.load.{suffix_of(stored)}.p0"
        return call(builder, name, stored, pointer, INT32(1), _first(builder, count), zero)
    slot = cgutils.alloca_once(builder, stored)
    whole = builder.icmp_signed(">=", count, INT64(WIDTH))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            builder.store(builder.load(pointer, align=1), slot)
        with otherwise:
            builder.store(zero, slot)
            _move_part(builder, pointer, slot, stored, count)
    return builder.load(slot)


def _write_pieces(
    builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, count: ir.Value
) -> None:
    """Fewer than eight lanes to memory, in pieces of 4, 2 and 1.

    A masked store of AVX2 takes AMD's processors 12 cycles or more: 19 ns for eight logits in rows
    of 5, where this takes 12; one of AVX-512 is like any other.
    """
    target = builder.bitcast(pointer, value.type.element.as_pointer())
    for size in (4, 2, 1):
        low = shuffled(builder, value, value, list(range(size)))
        high = shuffled(builder, value, value, list(range(size, 2 * size)))
        wanted = builder.icmp_unsigned("!=", builder.and_(count, INT64(size)), INT64(0))
        with builder.if_then(wanted):
            at = builder.gep(target, [builder.and_(count, INT64(8 - 2 * size))])
            builder.store(low, builder.bitcast(at, low.type.as_pointer()), align=1)
        value = builder.select(wanted, high, low)


def _write_part(
    builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, stored: ir.Type, count: ir.Value
) -> None:
    """The first ``count`` lanes to memory; nothing else is written."""
    real = stored.element in (FLOAT, DOUBLE)
    if real and stores_by_mask():
        name = f"llvm.masked.store.{suffix_of(stored)}.p0"
        mask = _first(builder, count)
        call(builder, name, ir.VoidType(), value, pointer, INT32(1), mask)
        return
    whole = builder.icmp_signed(">=", count, INT64(WIDTH))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            builder.store(value, pointer, align=1)
        with otherwise:
            if real:
                _write_pieces(builder, value, pointer, count)
            else:
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


@instruction_of_constants
def lanes_like(typing: Any, array: Any, width: Any, x: Any) -> Any:
    """``width`` lanes, of the type that the array's elements load as, that all hold ``x``."""
    lanes = Lanes(_STORAGE[array.dtype][1].element, width.literal_value)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = context.cast(builder, args[2], sig.args[2], lanes.element)
        return spread_value(builder, value, lanes.width)

    return signature(lanes, array, width, types.unliteral(x)), emit


@instruction
def load(typing: Any, array: Any, indices: Any) -> Any:
    """``WIDTH`` elements from ``indices`` along the last axis, at any alignment."""
    lanes, emit = _load(typing, array, indices, WIDTH)
    return signature(lanes, array, indices), emit


@instruction_of_constants
def load_wide(typing: Any, array: Any, indices: Any, width: Any) -> Any:
    """As ``load``, of ``width`` elements, which is a constant."""
    lanes, emit = _load(typing, array, indices, width.literal_value)
    return signature(lanes, array, indices, width), emit


@instruction_of_constants
def load_mask_wide(typing: Any, array: Any, indices: Any, width: Any) -> Any:
    """``width`` booleans, a constant number, from ``indices`` along the last axis."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        stored = ir.VectorType(ir.IntType(8), width.literal_value)
        address = _pointer(context, builder, sig.args[0], *args[:2])
        value = builder.load(builder.inttoptr(address, stored.as_pointer()), align=1)
        return builder.icmp_unsigned("!=", value, constant(stored, 0))

    return signature(Lanes(types.boolean, width.literal_value), array, indices, width), emit


@instruction
def load_part(typing: Any, array: Any, indices: Any, count: Any, fill: Any) -> Any:
    """As ``load``, with ``fill`` in the lanes from ``count`` on, where nothing is read."""
    _, lanes, after, _ = _STORAGE[array.dtype]

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer, stored = _vector_pointer(context, builder, sig.args[0], *args[:2])
        value = after(builder, _read_part(builder, pointer, stored, args[2]))
        element = context.get_value_type(lanes.element)
        filler = args[3] if element == DOUBLE else builder.fptrunc(args[3], element)
        return builder.select(_first(builder, args[2]), value, spread_value(builder, filler))

    return signature(lanes, array, indices, types.int64, types.float64), emit


@instruction
def load_mask(typing: Any, array: Any, indices: Any, count: Any) -> Any:
    """``count`` booleans from ``indices`` along the last axis; the other lanes are false."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        stored = ir.VectorType(ir.IntType(8), WIDTH)
        address = _pointer(context, builder, sig.args[0], *args[:2])
        pointer = builder.inttoptr(address, stored.as_pointer())
        value = _read_part(builder, pointer, stored, args[2])
        return builder.icmp_unsigned("!=", value, constant(stored, 0))

    return signature(mask_lanes, array, indices, types.int64), emit


@instruction_of_constants
def scratch(typing: Any, element: Any, lines: Any, columns: Any) -> Any:
    """An array (lines, columns) on the stack; its content is undefined.

    ``element``: its type, or an array, for lanes as they are loaded from it. No allocation, and
    nothing for Numba to count references of.
    """
    size = lines.literal_value, columns.literal_value
    number = element.dtype
    if isinstance(element, types.Array):
        number = _STORAGE[number][1].element
    kind = types.Array(types.unliteral(number), 2, "C")

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        stored = context.get_data_type(kind.dtype)
        itemsize = context.get_abi_sizeof(stored)
        memory = cgutils.alloca_once(builder, ir.ArrayType(stored, size[0] * size[1]))
        memory.align = 64  # a cache line, so that no lanes lie across two
        array = cgutils.create_struct_proxy(kind)(context, builder)
        populate_array(
            array,
            data=builder.bitcast(memory, stored.as_pointer()),
            shape=tuple(map(INT64, size)),
            strides=(INT64(size[1] * itemsize), INT64(itemsize)),
            itemsize=itemsize,
            meminfo=None,
        )
        return array._getvalue()

    return signature(kind, element, lines, columns), emit


def _as_stored(builder: ir.IRBuilder, kind: Any, lanes: Any, value: ir.Value) -> ir.Value:
    """Lanes, or a scalar spread, as elements of an array, rounded where they are wider."""
    if not isinstance(lanes, Lanes):
        lanes, value = Lanes(lanes), spread_value(builder, value)
    if lanes.element == kind.dtype:
        return value
    if lanes.element == types.float32:
        value = builder.fpext(value, vector(DOUBLE, value))
    return _STORAGE[kind.dtype][3](builder, value)


@instruction
def store(typing: Any, array: Any, indices: Any, value: Any) -> Any:
    """Lanes, rounded to the array's type, to ``indices`` along the last axis."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        stored = _as_stored(builder, array, value, args[2])
        address = _pointer(context, builder, sig.args[0], *args[:2])
        builder.store(stored, builder.inttoptr(address, stored.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature(types.void, array, indices, value), emit


@instruction
def prefetch(typing: Any, array: Any, indices: Any) -> Any:
    """Ask for the cache line of an element, which need not exist."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        address = _pointer(context, builder, sig.args[0], *args[:2])
        pointer = builder.inttoptr(address, BYTE_POINTER)
        kind = ir.FunctionType(ir.VoidType(), [BYTE_POINTER, INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, INT32(0), INT32(3), INT32(1)])
        return context.get_dummy_value()

    return signature(types.void, array, indices), emit


@instruction
def store_part(typing: Any, array: Any, indices: Any, count: Any, value: Any) -> Any:
    """As ``store``, of the first ``count`` lanes alone."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer, stored = _vector_pointer(context, builder, sig.args[0], *args[:2])
        narrow = _as_stored(builder, array, value, args[3])
        _write_part(builder, narrow, pointer, stored, args[2])
        return context.get_dummy_value()

    return signature(types.void, array, indices, types.int64, value), emit


def _line(
    context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value, number: ir.Value
) -> ir.Value:
    """The address of a line of a scratch array."""
    pair = types.UniTuple(types.int64, 2)
    indices = context.make_tuple(builder, pair, [number, INT64(0)])
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
            result = shuffled(builder, sources[which], sources[which], order)
        else:
            order = [lane if index < 0 else WIDTH + index for lane, index in enumerate(order)]
            result = shuffled(builder, result, sources[which], order)
    return result


@instruction_of_constants
def load_packed(typing: Any, array: Any, indices: Any, length: Any, target: Any, first: Any) -> Any:
    """Eight rows that lie one behind the other, of a constant length, into lines of float64.

    Line ``first`` + i holds element i of each.
    """
    element, _, after, _ = _STORAGE[array.dtype]
    size = length.literal_value

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        address = _pointer(context, builder, sig.args[0], *args[:2])
        pointer = builder.inttoptr(address, ir.VectorType(element, WIDTH).as_pointer())
        sources = [
            after(builder, builder.load(builder.gep(pointer, [INT64(k)]), align=1))
            for k in range(size)
        ]
        for i in range(size):
            column = _picked(builder, sources, [divmod(r * size + i, WIDTH) for r in range(WIDTH)])
            if column.type.element == FLOAT:
                column = builder.fpext(column, ir.VectorType(DOUBLE, WIDTH))
            number = builder.add(args[4], INT64(i))
            line = _line(context, builder, sig.args[3], args[3], number)
            builder.store(column, builder.inttoptr(line, column.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature(types.void, array, indices, length, target, types.int64), emit


@instruction_of_constants
def store_packed(
    typing: Any, array: Any, indices: Any, length: Any, source: Any, first: Any
) -> Any:
    """The other way, from lines of float64."""
    size = length.literal_value

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        columns = []
        for i in range(size):
            number = builder.add(args[4], INT64(i))
            line = _line(context, builder, sig.args[3], args[3], number)
            column = builder.load(
                builder.inttoptr(line, ir.VectorType(DOUBLE, WIDTH).as_pointer()), align=1
            )
            # float32 is moved as such; 16-bit results are rounded once only, at the end
            narrow = array.dtype == types.float32
            columns.append(double_to_float(builder, column) if narrow else column)
        address = _pointer(context, builder, sig.args[0], *args[:2])
        for k in range(size):
            places = [divmod(WIDTH * k + lane, size) for lane in range(WIDTH)]
            value = _picked(builder, columns, [(column, row) for row, column in places])
            if array.dtype != types.float32:
                value = _STORAGE[array.dtype][3](builder, value)
            target = builder.inttoptr(address, value.type.as_pointer())
            builder.store(value, builder.gep(target, [INT64(k)]), align=1)
        return context.get_dummy_value()

    return signature(types.void, array, indices, length, source, types.int64), emit


@instruction
def part_of(typing: Any, memory: Any, slot: Any) -> Any:
    """The array (lines, WIDTH) of a thread's slot in scratch memory (slots, lines, WIDTH).

    For what is too large for the stacks of threads, which on some systems are half a megabyte.
    """
    kind = types.Array(memory.dtype, 2, "C")

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        whole = cgutils.create_struct_proxy(memory)(context, builder, args[0])
        _, lines, width = cgutils.unpack_tuple(builder, whole.shape)
        first = builder.mul(builder.mul(args[1], lines), width)
        array = cgutils.create_struct_proxy(kind)(context, builder)
        populate_array(
            array,
            data=builder.gep(whole.data, [first]),
            shape=(lines, width),
            strides=(INT64(WIDTH * itemsize), INT64(itemsize)),
            itemsize=itemsize,
            meminfo=None,
        )
        return array._getvalue()

    return signature(kind, memory, types.int64), emit
