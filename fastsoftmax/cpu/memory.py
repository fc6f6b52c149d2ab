"""Between values and memory: arrays, whole or in part, and scratch memory.

Four kinds of array hold logits, told apart by their dtype: float64 and float32 as they are, uint16
as the bits of float16, int16 as the bits of bfloat16. The last two become float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastsoftmax.arithmetic.generated import builder, context, seen
from fastsoftmax.arithmetic.lanes import (
    BYTE_POINTER,
    DOUBLE,
    FLOAT,
    HALF,
    INT8,
    INT16,
    INT32,
    INT64,
    Value,
    bits_of,
    call,
    from_bits,
    joined,
    kind_of,
    narrowed,
    number,
    part,
    select,
    shuffled,
    smaller,
    when,
    wide,
)
from fastsoftmax.cpu import compiler


class _Storage(NamedTuple):
    """How an array's elements lie in memory, and in lanes."""

    stored: ir.Type
    element: ir.Type
    loaded: Callable[[Value], Value]
    stored_from: Callable[[Value], Value]


def _same(x: Value) -> Value:
    return x


def _converts_halves() -> bool:
    """Whether the CPU has instructions for float16; then they give the bits that ours give."""
    return "+f16c" in compiler.features()


def _float_from_half(x: Value) -> Value:
    if not _converts_halves():
        bits = Value(builder().zext(x.ir, kind_of(INT32, x.width)))
        # The exponent's bias grows by 112: the product rescales subnormal numbers, too.
        finite = from_bits((bits & 0x7FFF) << 13) * 2.0**112
        special = ((bits & 0x7FFF) << 13) | 0x7F800000
        size = select((bits & 0x7C00) == 0x7C00, special, bits_of(finite))
        return from_bits(size | ((bits & 0x8000) << 16))
    halves = builder().bitcast(x.ir, kind_of(HALF, x.width))
    return Value(builder().fpext(halves, kind_of(FLOAT, x.width)))


def _half_from_float(x: Value) -> Value:
    if not _converts_halves():
        bits = bits_of(x)
        size = bits & 0x7FFFFFFF
        normal = (size - (112 << 23) + ((size >> 13) & 1) + 0xFFF) >> 13
        subnormal = bits_of(from_bits(size) + 0.5) - (126 << 23)
        half = select(size < (113 << 23), subnormal, normal)
        half = select(half > 0x7C00, 0x7C00, half)
        nan = ((size >> 13) & 0x3FF) | 0x7E00
        half = select(x == x, half, nan) | ((bits >> 16) & 0x8000)
        return Value(builder().trunc(half.ir, kind_of(INT16, x.width)))
    halves = builder().fptrunc(x.ir, kind_of(HALF, x.width))
    return Value(builder().bitcast(halves, kind_of(INT16, x.width)))


def _float_from_bfloat(x: Value) -> Value:
    bits = Value(builder().zext(x.ir, kind_of(INT32, x.width))) << 16
    return Value(builder().bitcast(bits.ir, kind_of(FLOAT, x.width)))


def _bfloat_from_float(x: Value) -> Value:
    """Rounded to nearest, ties to even."""
    bits = Value(builder().bitcast(x.ir, kind_of(INT32, x.width)))
    rounded = (bits + ((bits >> 16) & 1) + 0x7FFF) >> 16
    kept = select(x == x, rounded, 0x7FC0)
    return Value(builder().trunc(kept.ir, kind_of(INT16, x.width)))


_STORAGE = {
    types.float64: _Storage(DOUBLE, DOUBLE, _same, _same),
    types.float32: _Storage(FLOAT, FLOAT, _same, _same),
    types.uint16: _Storage(INT16, FLOAT, _float_from_half, _half_from_float),
    types.int16: _Storage(INT16, FLOAT, _float_from_bfloat, _bfloat_from_float),
    types.int64: _Storage(INT64, INT64, _same, _same),
    types.uint8: _Storage(INT8, INT8, _same, _same),
    types.boolean: _Storage(INT8, INT8, lambda x: x != 0, _same),
}


class Array:
    """An argument of a kernel, in generated code."""

    def __init__(
        self, dtype: types.Type, data: ir.Value, shape: list[Value], strides: list[Value]
    ) -> None:
        self.storage = _STORAGE[dtype]
        self.itemsize = np.dtype(dtype.name if dtype != types.boolean else "?").itemsize
        self.shape = shape
        self._data = builder().bitcast(data, BYTE_POINTER)
        self._strides = strides

    @property
    def element(self) -> ir.Type:
        """The type of lanes that its elements are loaded as."""
        return self.storage.element

    def address(self, *indices: Any, contiguous: bool = True) -> ir.Value:
        """Where an element is; the last axis is contiguous whatever its stride says, or not."""
        place = number(0, INT64)
        steps = [*self._strides[:-1], self.itemsize] if contiguous else self._strides
        for index, step in zip(indices, steps, strict=True):
            place = place + number(index, INT64) * step
        return builder().gep(self._data, [place.ir])

    def one(self, *indices: Any) -> Value:
        """An element of an array of any strides."""
        kind = self.storage.stored
        return self.storage.loaded(_read(self.address(*indices, contiguous=False), kind, None))

    def load(self, indices: Any, width: int | None, count: Any = None, fill: Any = 0) -> Value:
        """Elements from ``indices`` along the last axis, at any alignment; one for no width.

        ``count``: None, or how many are read; the other lanes are ``fill``.
        """
        kind = kind_of(self.storage.stored, width)
        value = self.storage.loaded(_read(self.address(*indices), kind, count))
        return value if count is None else select(_first(count, width), value, fill)

    def gather(self, indices: Any, count: Any = None, fill: Any = 0) -> Value:
        """Elements from anywhere, one for each lane of indices; ``count`` as for `load`."""
        place = number(0, INT64)
        for index, step in zip(indices, [*self._strides[:-1], self.itemsize], strict=True):
            place = place + index * step
        b, width, stored = builder(), place.width, self.storage.stored
        places = place + Value(b.ptrtoint(self._data, INT64))
        pointers = b.inttoptr(places.ir, ir.VectorType(stored.as_pointer(), width))
        kind, mask = kind_of(stored, width), _first(width if count is None else count, width)
        zero = ir.Constant(kind, None)
        value = call("llvm.masked.gather.{result}.{}", kind, pointers, INT32(1), mask, zero)
        value = self.storage.loaded(value)
        return value if count is None else select(mask, value, fill)

    def store(self, indices: Any, value: Value, count: Any = None) -> None:
        """Store lanes, rounded to the array's type, or the first ``count`` of them."""
        if value.element == DOUBLE and self.element == FLOAT:
            value = narrowed(value, FLOAT)
        elif value.element == FLOAT and self.element == DOUBLE:
            value = wide(value)
        _write(self.storage.stored_from(value), self.address(*indices), count)

    def fetch(self, *indices: Any) -> None:
        """Ask for the cache line of an element, which need not exist."""
        call("llvm.prefetch.p0", ir.VoidType(), self.address(*indices), *map(INT32, (0, 3, 1)))


@seen(types.Array)
def _array(kind: Any, value: ir.Value) -> Array:
    proxy = cgutils.create_struct_proxy(kind)(context(), builder(), value)
    shape, strides = (
        [Value(n) for n in cgutils.unpack_tuple(builder(), axes)]
        for axes in (proxy.shape, proxy.strides)
    )
    return Array(kind.dtype, proxy.data, shape, strides)


def numbered(start: Any, width: int) -> Value:
    """``start``, ``start`` + 1 and so on, as integers of 64 bits."""
    numbers = Value(ir.Constant(ir.VectorType(INT64, width), list(range(width))))
    return numbers + number(start, INT64, width)


def _first(count: Any, width: int | None) -> Value:
    """The mask of the first ``count`` lanes."""
    numbers = Value(ir.Constant(ir.VectorType(INT32, width), list(range(width or 1))))
    count = smaller(number(count, INT64), width or 1)  # which may not fit in 32 bits
    return numbers < Value(builder().trunc(count.ir, INT32))


def _masked() -> bool:
    """Whether the CPU moves some lanes of a vector as fast as all of them."""
    return "+avx512vl" in compiler.features()


def _move_part(source: ir.Value, target: ir.Value, kind: Any, count: Value) -> None:
    """Copy the first ``count`` elements, fewer than the kind has, in pieces of 8, 4, 2 and 1.

    A masked store of AVX2 takes AMD's processors 12 cycles or more, 19 ns for eight logits in rows
    of 5, where this takes 12. Of masked operations on elements of 16 bits, LLVM 22 turns a store
    of one lane into a store of 32 bits, and AVX2 has none.
    """
    b, pointer = builder(), kind.element.as_pointer()
    source, target = b.bitcast(source, pointer), b.bitcast(target, pointer)
    size = kind.count // 2
    while size:
        for _ in when((count & size) != 0):
            at = (count & (-2 * size)).ir
            piece = ir.VectorType(kind.element, size).as_pointer()
            value = b.load(b.bitcast(b.gep(source, [at]), piece), align=1)
            b.store(value, b.bitcast(b.gep(target, [at]), piece), align=1)
        size //= 2


def _read(pointer: ir.Value, kind: Any, count: Any) -> Value:
    """Elements from memory; past ``count``, unless it is None, they are 0 and nothing is read."""
    b = builder()
    whole = b.bitcast(pointer, kind.as_pointer())
    if count is None:
        return Value(b.load(whole, align=1))
    zero = ir.Constant(kind, None)
    if kind.element in (FLOAT, DOUBLE):
        name = f"llvm.masked.load.v{kind.count}{'f32' if kind.element == FLOAT else 'f64'}.p0"
        return call(name, kind, whole, INT32(1), _first(count, kind.count), zero)
    slot = cgutils.alloca_once(b, kind)
    with b.if_else((count >= kind.count).ir) as (then, otherwise):
        with then:
            b.store(b.load(whole, align=1), slot)
        with otherwise:
            b.store(zero, slot)
            _move_part(pointer, slot, kind, count)
    return Value(b.load(slot))


def _write(value: Value, pointer: ir.Value, count: Any) -> None:
    """Lanes to memory; past ``count``, unless it is None, nothing is written."""
    b, kind = builder(), value.ir.type
    whole = b.bitcast(pointer, kind.as_pointer())
    if count is None:
        b.store(value.ir, whole, align=1)
    elif kind.element in (FLOAT, DOUBLE) and _masked():
        mask = _first(count, kind.count)
        call("llvm.masked.store.{}.p0", ir.VoidType(), value, whole, INT32(1), mask)
    else:
        with b.if_else((count >= kind.count).ir) as (then, otherwise):
            with then:
                b.store(value.ir, whole, align=1)
            with otherwise:
                slot = cgutils.alloca_once_value(b, value.ir)
                _move_part(slot, pointer, kind, count)


# --- scratch memory --------------------------------------------------------------------------


def _made(dtype: types.Type, data: ir.Value, lines: Any, columns: int) -> Array:
    array = Array(dtype, data, [], [number(0, INT64)] * 2)
    step = number(columns * array.itemsize, INT64)
    return Array(dtype, data, [number(lines, INT64), number(columns, INT64)], [step, step])


def scratch(dtype: types.Type, lines: int, columns: int) -> Array:
    """An array (lines, columns) on the stack, whose content is undefined."""
    stored = _STORAGE[dtype].stored
    with builder().goto_entry_block():  # alloca_once would write zeros: 1.3 s of compiling
        memory = builder().alloca(ir.ArrayType(stored, lines * columns))
    memory.align = 64  # a cache line, so that no lanes lie across two
    return _made(dtype, memory, lines, columns)


def computed_in(array: Array) -> types.Type:
    """The type in which an array's elements are computed."""
    return types.float64 if array.element == DOUBLE else types.float32


def part_of(memory: Array, slot: Value, dtype: types.Type, columns: int) -> Array:
    """A thread's slot of scratch memory (slots, bytes), as an array (lines, columns).

    For what is too large for the stacks of threads, which on some systems are half a megabyte.
    """
    return _made(dtype, memory.address(slot, 0), 0, columns)


# --- squares that are transposed ------------------------------------------------------------------


def _crossed(values: list[Value]) -> list[Value]:
    """Squares of lanes transposed, as many as lie side by side in the values."""
    values, step, size, width = list(values), 1, len(values), values[0].width or 1
    # Squares of one, two and four elements change places across the diagonal.
    while step < size:
        low = [n if n & step == 0 else n - step + width for n in range(width)]
        high = [n + step if n & step == 0 else n + width for n in range(width)]
        for k in (n for n in range(size) if n & step == 0):
            pair = values[k], values[k + step]
            values[k], values[k + step] = shuffled(*pair, low), shuffled(*pair, high)
        step *= 2
    return values


def columns_of(rows: list[Value]) -> list[Value]:
    """Rows of a few lanes as columns, each of as many lanes as there are rows."""
    size = rows[0].width or 1
    return _crossed([joined(rows[first::size]) for first in range(size)])


def rows_of(columns: list[Value]) -> list[Value]:
    """Columns as rows again, each of as many lanes as there are columns."""
    size, crossed = len(columns), _crossed(columns)
    return [part(crossed[k % size], k // size * size, size) for k in range(columns[0].width or 1)]
