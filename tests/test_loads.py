"""Arrays in generated code: every type, parts to the edges of memory, scratch memory, squares."""

import functools
import platform

import ml_dtypes
import numba
import numpy as np
import pytest
from generated import generated
from placed import in_a_process
from test_lanes import OTHERS, of_another_cpu

from fastsoftmax.arithmetic import lanes
from fastsoftmax.arithmetic.lanes import FLOAT, INT64, loop, number, select, when
from fastsoftmax.cpu.memory import columns_of, part_of, rows_of, scratch

STORED = {
    "float64": (np.dtype(np.float64), np.float64),
    "float32": (np.dtype(np.float32), np.float32),
    "float16": (np.dtype(np.float16), np.uint16),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.int16),
}


def test_arguments_are_seen_as_what_they_are():
    @generated
    def run(x, nothing, whole, real, flag, out):
        assert nothing is None
        out.store((0,), x.one(1, 2))
        out.store((1,), lanes.to_real(whole) + real)
        for _ in when(flag):
            out.store((2,), number(1.0, lanes.DOUBLE))

    whole, out = np.arange(60.0).reshape(6, 10), np.zeros(3)
    for x in (whole, whole[::2, ::3], whole[::-1, ::-1], np.asfortranarray(whole)):
        run(x, None, 3, 0.25, True, out)
        np.testing.assert_array_equal(out, [x[1, 2], 3.25, 1])


def test_scratch_memory_is_aligned_and_each_threads_own():
    @generated
    def run(whole, slot, like, out):
        part = part_of(whole, slot, numba.float32, 16)
        own = scratch(numba.float64, 2, 8)
        for line in loop(0, 10):
            part.store((line, 0), number(1.0, FLOAT, 16) * like.load((slot,), None))
        own.store((1, 0), like.load((0,), None) + number(0.5, FLOAT, 8))
        own.store((0, 0), number(7.0, FLOAT, 8))
        out.store((0,), own.load((1, 0), 8))
        place = lanes.builder().ptrtoint(own.address(0, 0), INT64)
        out.store((0,), lanes.to_real(lanes.Value(place) % 64))

    whole, out = np.zeros((3, 640), np.uint8), np.empty(8)
    for slot in (2, 0, 1):
        run(whole, slot, np.array([1, 2, 3], np.float32), out)
        np.testing.assert_array_equal(out, [0] + [1.5] * 7)
    np.testing.assert_array_equal(whole.view(np.float32), np.repeat([[1], [2], [3]], 160, axis=1))


# --- 16-bit types --------------------------------------------------------------------------------


@functools.cache
def _copying(width):
    @generated
    def run(x, out):
        for i in loop(0, x.shape[0], width):
            out.store((i,), x.load((i,), width))

    return run


def converted(x, dtype, width):
    """x, as kernels convert it."""
    size = x.size
    x = np.resize(x, -(-size // width) * width)
    out = np.empty(x.size, dtype)
    _copying(width)(x, out)
    return out[:size]


@functools.cache
def _sizes(name):
    """Every magnitude of a 16-bit type by its bits, and where infinity would be, in float64."""
    dtype, _ = STORED[name]
    numbers = np.arange(1 << 15).astype(np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):  # NumPy's word for a signalling NaN
        numbers = numbers.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    return np.append(finite, 2 * finite[-1] - finite[-2])


def _rounded(name, x):
    """The bits of the nearest number, of two the even one, of float32 that are not NaN."""
    sizes, size = _sizes(name), np.abs(x.astype(np.float64))
    below = np.clip(np.searchsorted(sizes, size, "right") - 1, 0, sizes.size - 2)
    middle = (sizes[below] + sizes[below + 1]) / 2
    up = (size > middle) | ((size == middle) & (below % 2 == 1))
    return ((below + up) | (np.signbit(x) << 15)).astype(np.uint16)


@pytest.mark.parametrize("width", [1, 4, 16, 64])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_number_is_read_exactly_and_written_back(name, width):
    dtype, kind = STORED[name]
    bits = np.arange(1 << 16).astype(np.uint16)
    with np.errstate(invalid="ignore"):
        expected = bits.view(dtype).astype(np.float32)
    got = converted(bits.view(kind), np.float32, width)
    np.testing.assert_array_equal(got, expected)
    zeros = expected == 0
    np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(expected[zeros]))
    back = converted(got, kind, width).view(np.uint16)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(back[~nan], bits[~nan])
    assert np.isnan(back[nan].view(dtype).astype(np.float32)).all()


@pytest.mark.parametrize("width", [1, 16, 64])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_float32_is_rounded_to_the_nearest_16_bit_number(name, width):
    sizes = _sizes(name)
    with np.errstate(over="ignore"):
        numbers, ties = sizes.astype(np.float32), ((sizes[:-1] + sizes[1:]) / 2).astype(np.float32)
    numbers = np.concatenate([numbers, ties])
    up, down = np.nextafter(numbers, np.float32(np.inf)), np.nextafter(numbers, np.float32(-1))
    anything = np.random.default_rng(0).integers(0, 2**31, 1 << 16, np.uint32).view(np.float32)
    edges = np.float32([0, 1e-45, 2.0**-25, 2.0**-24, 65519.996, 65520, 3.4028235e38, np.inf])
    x = np.concatenate([numbers, up, down, anything[~np.isnan(anything)], edges])
    x = np.concatenate([x, -x])
    got = converted(x, STORED[name][1], width).view(np.uint16)
    np.testing.assert_array_equal(got, _rounded(name, x))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_nan_has_the_same_bits_in_16_bits_on_every_cpu(name):
    plain = np.array([0x7FC00000, 0xFFC00000], np.uint32).view(np.float32)
    got = converted(plain, STORED[name][1], 16).view(np.uint16)
    assert list(got) == ([0x7E00, 0xFE00] if name == "float16" else [0x7FC0, 0x7FC0])
    payloads = np.random.default_rng(0).integers(1, 1 << 23, 4096, np.uint32) | 0x7F800000
    payloads[:3] = 0x7F800001, 0x7FFFFFFF, 0x7F801000
    got = converted(payloads.view(np.float32), STORED[name][1], 16).view(STORED[name][0])
    assert np.isnan(got.astype(np.float32)).all()


# --- memory --------------------------------------------------------------------------------------


# Counts beyond any width, and None: all lanes.
WHOLE = 64, 1 << 31, 1 << 32, None


def whole(count, width):
    return None if count is None else number(count + width, INT64)


@functools.cache
def parts(width, fill):
    """Reads and writes of every count: lines of arrays are those counts."""

    @generated
    def read(x, at, out):
        for count in loop(0, width + 9):
            out.store((count, 0), x.load((at,), width, count, fill))
        # what a kernel asks for in the midst of a row, however long
        for line, count in enumerate(WHOLE):
            out.store((width + 9 + line, 0), x.load((at,), width, whole(count, width), fill))

    @generated
    def write(x, out, at):
        value = x.load((0,), width)
        for count in loop(0, width + 9):
            out.store((count, at), value, count)
        for line, count in enumerate(WHOLE):
            out.store((width + 9 + line, at), value, whole(count, width))

    return read, write


def at_byte(shift, values):
    """A copy that begins so many bytes after a cache line does."""
    memory = np.empty(values.nbytes + 128, np.uint8)
    shift += -memory.ctypes.data % 64
    array = np.ndarray(values.shape, values.dtype, memory, shift)
    array[...] = values
    return array


PARTS = {
    "float64": [1, 2, 4, 8, 32],
    "float32": [1, 2, 4, 16, 64],
    "float16": [1, 2, 4, 16, 64],
    "bfloat16": [1, 2, 4, 16, 64],
}


@pytest.mark.parametrize(("name", "width"), [(n, w) for n, widths in PARTS.items() for w in widths])
def test_parts_of_lanes_touch_nothing_else_at_any_alignment(name, width):
    dtype, kind = STORED[name]
    element = np.float64 if name == "float64" else np.float32
    read, write = parts(width, -np.inf)
    source = np.arange(1, width + 1).astype(element)
    lane = np.arange(width)
    counts = np.array([*range(width + 9), *[width] * 4])[:, None]
    for shift in range(0, 64, 3):
        at = shift % 5
        x = at_byte(shift, np.arange(1, width + 9).astype(dtype).view(kind))
        out = np.empty((len(counts), width), element)
        read(x, at, out)
        np.testing.assert_array_equal(out, np.where(lane < counts, at + 1 + lane, -np.inf))

        expected = np.full((len(counts), width + 9), 77)
        expected[:, at : at + width] = np.where(lane < counts, lane + 1, 77)
        target = at_byte(shift, np.full(expected.shape, 77).astype(dtype).view(kind))
        write(source, target, at)
        np.testing.assert_array_equal(target.view(dtype).astype(np.float64), expected)


@pytest.mark.parametrize("width", [8, 16, 64])
def test_masks_are_read_up_to_count_at_any_alignment(width):
    @generated
    def read(mask, at, out):
        for count in loop(0, width + 9):
            chosen = mask.load((at,), width, count) != 0
            out.store((count, 0), select(chosen, number(1.0, FLOAT), 0.0))

    mask = np.random.default_rng(0).random(width + 8) < 0.6
    counts = np.arange(width + 9)[:, None]
    for shift in range(0, 64, 3):
        at = shift % 5
        out = np.zeros((width + 9, width), np.float32)
        read(at_byte(shift, mask), at, out)
        np.testing.assert_array_equal(out, mask[at : at + width] & (np.arange(width) < counts))


@pytest.mark.parametrize("name", STORED)
def test_other_types_are_widened_beside_float64(name):
    dtype, kind = STORED[name]

    @generated
    def run(x, back, like):
        value = lanes.wide(x.load((0,), 8, number(7, INT64), -1.0))
        like.store((0,), value)
        back.store((0,), value, number(7, INT64))

    x = np.arange(1, 9).astype(dtype) / dtype.type(8)
    back, like = np.full(8, 77).astype(dtype), np.empty(8)
    run(x.view(kind), back.view(kind), like)
    np.testing.assert_array_equal(like, [*x[:7].astype(np.float64), -1])
    np.testing.assert_array_equal(back.astype(np.float64), [*x[:7].astype(np.float64), 77])


AT_THE_EDGE = """
import numpy as np
from generated import generated
from placed import How, memory_of, placed
from test_loads import FLOAT, STORED, loop, number, select


def accesses(width):
    @generated
    def copy(x, out, count):
        out.store((0,), x.load((0,), width, count), count)
        for far in (1 << 20, -(1 << 20)):
            x.fetch(far)
            out.fetch(far)

    @generated
    def masked(x, out, count):
        out.store((0,), select(x.load((0,), width, count) != 0, number(1.0, FLOAT), 0.0), count)

    return copy, masked


for width in (1, 4, 8, 16, 64):
    copy, masked = accesses(width)
    for stored in [*(stored for _, stored in STORED.values()), np.bool_]:
        function, result = (masked, np.float32) if stored is np.bool_ else (copy, stored)
        for edge in ("start", "end"):
            for count in range(width + 1):
                values = np.arange(1, count + 1) % 2 if stored is np.bool_ else range(1, count + 1)
                x = placed(np.array(values, stored), How(edge=edge, read_only=True))
                out = placed(np.zeros(count, result), How(edge=edge))
                around = memory_of(out).copy()
                function(x, out, count)
                assert (out == x).all(), (width, stored, edge, count)
                around.setflags(write=True)
                begins = out.ctypes.data - memory_of(out).ctypes.data
                around[begins : begins + out.nbytes] = out.view(np.uint8)
                assert (memory_of(out) == around).all(), (width, stored, edge, count)
print("whole")
"""


def test_nothing_beyond_count_is_read_or_written_where_memory_ends():
    assert in_a_process(AT_THE_EDGE) == "whole\n"


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(("name", "width"), [("float64", 8), ("float32", 16), ("float16", 16)])
def test_rows_become_columns_and_rows_again(name, width, size):
    dtype, kind = STORED[name]

    @generated
    def run(x, columns, back):
        found = columns_of([x.load((k, 0), size) for k in range(width)])
        for i, column in enumerate(found):
            columns.store((i, 0), column)
        for k, row in enumerate(rows_of(found)):
            back.store((k, 0), row)

    x = np.arange(width * size).reshape(width, size).astype(dtype)
    columns = np.empty((size, width), np.float64 if name == "float64" else np.float32)
    back = np.empty_like(x)
    run(x.view(kind), columns, back.view(kind))
    np.testing.assert_array_equal(columns, x.T.astype(np.float64))
    np.testing.assert_array_equal(back, x)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of x86-64")
@pytest.mark.thorough
@pytest.mark.parametrize(("cpu", "features"), OTHERS)
def test_all_of_this_holds_for_another_cpu(cpu, features):
    of_another_cpu(__file__, cpu, features)
