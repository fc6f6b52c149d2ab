"""Lanes: each operation against NumPy, each access in part against its neighbours."""

import functools

import ml_dtypes
import mpmath
import numpy as np
import pytest
from numba.core.errors import TypingError
from placed import in_a_process
from units import compiled, unit_with

from fastsoftmax.cpu import lanes, llvm, memory
from fastsoftmax.cpu.sizes import PACKED

WIDTHS = 8, 16, 32, 64
REALS = "float32", "float64"
INTEGERS = "int32", "int64"
# The types of arrays that are loaded, by what they mean: what NumPy sees, what kernels see.
STORED = {
    "float64": (np.dtype(np.float64), np.dtype(np.float64)),
    "float32": (np.dtype(np.float32), np.dtype(np.float32)),
    "float16": (np.dtype(np.float16), np.dtype(np.uint16)),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.dtype(np.int16)),
}
# Set and not: what code for CPUs without AVX-512, or without any of these, is written with.
FEATURES = {
    "all": None,
    "avx2": frozenset({"+avx", "+avx2", "+fma", "+f16c"}),
    "none": frozenset(),
}


def same(got, expected):
    """The same numbers, and the same signs of zeros."""
    np.testing.assert_array_equal(got, expected)
    if got.dtype.kind == "f":
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(expected[number]))


@pytest.fixture(params=FEATURES)
def features(request, monkeypatch):
    """Code is written as for a CPU that has these, where this one has them."""
    chosen, here = FEATURES[request.param], llvm.features()
    if chosen is not None:
        monkeypatch.setattr(lanes, "features", lambda: chosen & here)
        monkeypatch.setattr(llvm, "features", lambda: chosen & here)
    return chosen & here if chosen is not None else here


# --- operators ------------------------------------------------------------------------------------


def operators_of_reals(width):
    @compiled
    def run(x, y, out):
        unit = unit_with(x, width)
        for i in range(0, x.size, width):
            a, b = memory.load(x, (i,), None, 0, unit), memory.load(y, (i,), None, 0, unit)
            memory.store(out, (0, i), None, a + b)
            memory.store(out, (1, i), None, a - b)
            memory.store(out, (2, i), None, a * b)
            memory.store(out, (3, i), None, a / b)
            memory.store(out, (4, i), None, -a)
            memory.store(out, (5, i), None, lanes.select(a < b, a, b))
            memory.store(out, (6, i), None, lanes.select(a > b, a, b))
            memory.store(out, (7, i), None, lanes.select(a == b, 1.0, a))
            memory.store(out, (8, i), None, lanes.select(a != b, a, 2))
            memory.store(out, (9, i), None, lanes.from_bits((lanes.bits_of(a) << 1) >> 1))
            memory.store(out, (10, i), None, a + 0.1)
            memory.store(out, (11, i), None, 0.1 - a)
            memory.store(out, (12, i), None, a * 3)
            memory.store(out, (13, i), None, 1 / a)
            memory.store(out, (14, i), None, lanes.select(a < 0.1, 0.1, 0.7))
            memory.store(out, (15, i), None, lanes.select(0.1 < a, 0.1, a))  # noqa: SIM300

    return run


def expected_of_reals(x, y):
    bits = x.view(f"int{8 * x.itemsize}")
    tenth = x.dtype.type(0.1)
    return [
        x + y,
        x - y,
        x * y,
        x / y,
        -x,
        np.where(x < y, x, y),
        np.where(x > y, x, y),
        np.where(x == y, 1, x),
        np.where(x != y, x, 2),
        ((bits << 1) >> 1).view(x.dtype),
        x + tenth,
        tenth - x,
        x * 3,
        1 / x,
        np.where(x < tenth, tenth, x.dtype.type(0.7)),
        np.where(tenth < x, tenth, x),
    ]


def pairs_of(numbers, width):
    """All pairs, as two arrays whose size lanes divide."""
    x, y = (v.ravel() for v in np.meshgrid(numbers, numbers))
    size = -(-x.size // width) * width
    return np.resize(x, size), np.resize(y, size)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("element", REALS)
def test_operators_on_reals_are_numpys(element, width):
    info = np.finfo(element)
    some = [0.1, -2.5, 3, 0, 1, 7, info.max, info.tiny, info.smallest_subnormal, np.inf, np.nan]
    numbers = np.array([*some, *np.negative(some)], element)
    x, y = pairs_of(numbers, width)
    out = np.empty((16, x.size), element)
    operators_of_reals(width)(x, y, out)
    with np.errstate(all="ignore"):
        expected = np.array(expected_of_reals(x, y))
    assert expected.dtype == element
    same(out, expected)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("element", INTEGERS)
def test_operators_on_integers_are_numpys(element, width):
    @compiled
    def run(x, y, out):
        unit = unit_with(x, width)
        for i in range(0, x.size, width):
            a, b = memory.load(x, (i,), None, 0, unit), memory.load(y, (i,), None, 0, unit)
            memory.store(out, (0, i), None, a + b)
            memory.store(out, (1, i), None, a - b)
            memory.store(out, (2, i), None, a * b)
            memory.store(out, (3, i), None, a & b)
            memory.store(out, (4, i), None, a | b)
            memory.store(out, (5, i), None, -a)
            memory.store(out, (6, i), None, a << 3)
            memory.store(out, (7, i), None, a >> 3)
            memory.store(out, (8, i), None, 5 - a)
            memory.store(out, (9, i), None, lanes.select(a < b, a, b))
            memory.store(out, (10, i), None, lanes.select(a > b, a, b))
            memory.store(out, (11, i), None, lanes.select(a == b, 1, a & 0))
            memory.store(out, (12, i), None, lanes.select(a != 7, a, b))
            memory.store(out, (13, i), None, (a & 0xFFFF) / 7)

    info = np.iinfo(element)
    numbers = [0, 1, -1, 7, -7, 12345, info.max, info.min, info.max // 3, 1 << 30, -(1 << 30)]
    x, y = pairs_of(np.array(numbers, element), width)
    out = np.empty((14, x.size), element)
    run(x, y, out)
    with np.errstate(over="ignore"):
        expected = [
            x + y,
            x - y,
            x * y,
            x & y,
            x | y,
            -x,
            x << 3,
            x >> 3,
            5 - x,
            np.where(x < y, x, y),
            np.where(x > y, x, y),
            x == y,
            np.where(x != 7, x, y),
            (x & 0xFFFF) // 7,
        ]
    same(out, np.array(expected))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("element", REALS)
def test_fma_is_rounded_once(element, width):
    @compiled
    def run(x, y, z, out):
        unit = unit_with(x, width)
        for i in range(0, x.size, width):
            a, b = memory.load(x, (i,), None, 0, unit), memory.load(y, (i,), None, 0, unit)
            c = memory.load(z, (i,), None, 0, unit)
            memory.store(out, (0, i), None, lanes.fma(a, b, c))
            memory.store(out, (1, i), None, lanes.fma(a, b, -(a * b)))
            memory.store(out, (2, i), None, lanes.fma(a, 0.1, 3))

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 512)).astype(element)
    # sums of numbers of all sizes, among them those that cancel but for a few bits
    z = (-x * y * (1 + 2.0 ** rng.integers(-60, 60, 512))).astype(element)
    out = np.empty((3, x.size), element)
    run(x, y, z, out)
    bits = np.finfo(element).nmant + 1

    def rows(a, b, c):
        with mpmath.workprec(2000):
            exact = [
                mpmath.mpf(float(p)) * float(q) + float(r) for p, q, r in zip(a, b, c, strict=True)
            ]
        with mpmath.workprec(bits):
            return [float(+v) for v in exact]

    tenth, three = np.full((2, 512), [[0.1], [3]], element)
    expected = [rows(x, y, z), rows(x, y, -(x * y)), rows(x, tenth, three)]
    same(out, np.array(expected, element))


def test_lanes_of_two_types_or_widths_are_not_mixed():
    @compiled
    def types_mixed(x, y):
        memory.load(x, (0,), None, 0, unit_with(x, 8)) + memory.load(
            y, (0,), None, 0, unit_with(y, 8)
        )

    @compiled
    def widths_mixed(x, y):
        memory.load(x, (0,), None, 0, unit_with(x, 8)) + memory.load(
            y, (0,), None, 0, unit_with(y, 16)
        )

    for function, other in ((types_mixed, np.float64), (widths_mixed, np.float32)):
        with pytest.raises(TypingError, match="No implementation of function"):
            function(np.zeros(16, np.float32), np.zeros(16, other))


# --- functions of lanes ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_conversions_are_numpys(width):
    @compiled
    def run(single, double, short, long, singles, doubles, longs):
        unit = unit_with(single, width)
        a = memory.load(single, (0,), None, 0, unit)
        b = memory.load(double, (0,), None, 0, unit_with(double, width))
        i = memory.load(short, (0,), None, 0, unit)
        j = memory.load(long, (0,), None, 0, unit)
        memory.store(singles, (0, 0), None, lanes.narrowed(b, a))
        memory.store(singles, (1, 0), None, lanes.narrowed(b, unit))
        memory.store(singles, (2, 0), None, lanes.spread_like(0.1, unit))
        memory.store(singles, (3, 0), None, lanes.from_bits(i))
        memory.store(doubles, (0, 0), None, lanes.wide(a))
        memory.store(doubles, (1, 0), None, lanes.wide(b))
        memory.store(doubles, (2, 0), None, lanes.narrowed(b, b))
        memory.store(doubles, (3, 0), None, lanes.to_real(i))
        memory.store(doubles, (4, 0), None, lanes.to_real(j))
        memory.store(doubles, (5, 0), None, lanes.spread_like(0.1, b))
        memory.store(doubles, (6, 0), None, lanes.from_bits(j))
        memory.store(longs, (0, 0), None, lanes.in_64_bits(i, None))
        memory.store(longs, (1, 0), None, lanes.in_64_bits(i, True))
        memory.store(longs, (2, 0), None, lanes.in_64_bits(j, None))
        memory.store(longs, (3, 0), None, lanes.in_64_bits(lanes.bits_of(a), None))
        memory.store(longs, (4, 0), None, lanes.bits_of(b))

    rng = np.random.default_rng(width)
    # what lies half way between two float32, and next to that
    double = rng.standard_normal(width).astype(np.float32).astype(np.float64)
    double *= 1 + rng.choice([0, 2.0**-24, 2.0**-24 + 2.0**-50, -(2.0**-25)], width)
    single = rng.standard_normal(width).astype(np.float32)
    short = rng.integers(-(2**31), 2**31, width).astype(np.int32)
    long = rng.integers(-(2**63), 2**63, width)
    singles, doubles = np.empty((4, width), np.float32), np.empty((7, width))
    longs = np.empty((5, width), np.int64)
    run(single, double, short, long, singles, doubles, longs)
    tenth = np.full(width, 0.1)
    same(
        singles,
        np.array([double, double, tenth, short.view(np.float32)], np.float32),
    )
    same(
        doubles,
        np.array([single, double, double, short, long, tenth, long.view(np.float64)]),
    )
    unsigned = short.view(np.uint32)
    same(
        longs,
        np.array([unsigned, short, long, single.view(np.uint32), double.view(np.int64)], np.int64),
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("element", [*REALS, *INTEGERS])
def test_single_lanes_and_any_of_them(element, width):
    @compiled
    def run(x, out):
        value = memory.load(x, (0,), None, 0, unit_with(x, width))
        for i in range(width):
            out[i] = lanes.lane(value, i)
        return lanes.any_of(value == 3)

    for place in range(width):
        x = (np.arange(width) + 100).astype(element)
        out = np.empty_like(x)
        assert not run(x, out)
        np.testing.assert_array_equal(out, x)
        x[place] = 3
        assert run(x, out)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("element", REALS)
def test_two_largest(element, width):
    @compiled
    def run(x, y, out):
        unit = unit_with(x, width)
        top, second = memory.load(x, (0,), None, 0, unit), memory.load(y, (0,), None, 0, unit)
        out[0], out[1] = lanes.two_largest(top, second)
        out[2], out[3] = lanes.two_largest(top, None)

    def check(top, second):
        out = np.empty(4, element)
        run(top.astype(element), second.astype(element), out)
        most, next_one = np.sort(np.concatenate([top, second]).astype(element))[:-3:-1]
        np.testing.assert_array_equal(out, [most, next_one, most, most])

    rng = np.random.default_rng(0)
    low = np.full(width, -np.inf)
    for first in range(width):
        x = low.copy()
        x[first] = -3.5
        check(x, low)
        y = low.copy()
        y[first] = -4
        check(x, y)  # in the same lane
        for other in range(width):
            x = low.copy()
            x[[first, other]] = -3.5, -3.75
            check(x, low)
    for _ in range(300):
        # few different numbers, so that many are equal
        pair = np.sort(rng.choice([-np.inf, -2.0, 0.0, 1.0, 3.0, np.inf], (2, width)), axis=0)
        check(pair[1], pair[0])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("element", INTEGERS)
def test_sums_of_integer_lanes(element, width):
    def folding(narrow):
        @compiled
        def run(x, like, out):
            value = memory.load(x, (0,), None, 0, unit_with(x, width))
            folded = lanes.folded(value, unit_with(like, narrow))
            memory.store(out, (0,), None, folded)
            return lanes.sum_of(value)

        return run

    x = np.random.default_rng(0).integers(np.iinfo(element).min, np.iinfo(element).max, width)
    x = x.astype(element)
    for narrow in (w for w in WIDTHS if w <= width):
        out = np.empty(narrow, element)
        total = folding(narrow)(x, np.zeros(1, f"float{8 * x.itemsize}"), out)
        np.testing.assert_array_equal(out, x.reshape(-1, narrow).sum(0, dtype=element))
        assert total == x.sum(dtype=element)


_FLOATS = tuple(map(float, np.float32([1, -2.5, 3e30, 4e-30, 0, -6, 7, np.inf])))
_DOUBLES = 1.0, -2.5, 3e300, 4e-300, 0.1, -6.0, 7.0, float("inf")
_look_up = lanes.lookup(_FLOATS, _DOUBLES)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("element", INTEGERS)
def test_lookup_picks_by_the_lowest_three_bits(element, width, features):
    @compiled
    def run(x, out):
        for i in range(0, x.size, width):
            bits = memory.load(x, (i,), None, 0, unit_with(x, width))
            memory.store(out, (i,), None, _look_up(bits))

    info = np.iinfo(element)
    rng = np.random.default_rng(0)
    x = rng.integers(info.min, info.max, 4096, element)
    x[:16] = range(16)
    numbers = np.array(_FLOATS if element == "int32" else _DOUBLES, f"float{8 * x.itemsize}")
    out = np.empty(x.size, numbers.dtype)
    run(x, out)
    same(out, numbers[x & 7])
    # each way was taken
    code = "".join(run.inspect_llvm().values())
    single = element == "int32"
    assert ("llvm.x86.avx512.permvar" in code) == ("+avx512f" in features)
    assert ("llvm.x86.avx2.permps" in code) == (
        single and "+avx2" in features and "+avx512f" not in features
    )


_numbers = lanes.table("test_numbers", (1.0, 0.5, 3.0), (0.1, 0.2, 3e300))


@pytest.mark.parametrize("name", STORED)
def test_tables_are_in_the_type_that_an_array_is_computed_in(name):
    @compiled
    def run(x):
        return _numbers(x)

    got = run(np.zeros(1, STORED[name][1]))
    assert got == ((0.1, 0.2, 3e300) if name == "float64" else (1.0, 0.5, 3.0))


# --- 16-bit types ---------------------------------------------------------------------------------


def copying(width):
    @compiled
    def run(x, out):
        unit = unit_with(x, width)
        for i in range(0, x.size, width):
            memory.store(out, (i,), None, memory.load(x, (i,), None, 0, unit))

    return run


def converted(x, dtype, width):
    """x, as kernels convert it."""
    size = x.size
    x = np.resize(x, -(-size // width) * width)
    out = np.empty(x.size, dtype)
    copying(width)(x, out)
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


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_number_is_read_exactly(name, width, features):
    dtype, stored = STORED[name]
    bits = np.arange(1 << 16).astype(np.uint16).view(stored)
    with np.errstate(invalid="ignore"):
        expected = bits.view(dtype).astype(np.float32)
    same(converted(bits, np.float32, width), expected)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_float32_is_rounded_to_the_nearest_16_bit_number(name, width, features):
    stored = STORED[name][1]
    sizes = _sizes(name)
    with np.errstate(over="ignore"):
        numbers, ties = sizes.astype(np.float32), ((sizes[:-1] + sizes[1:]) / 2).astype(np.float32)
    numbers = np.concatenate([numbers, ties])
    up, down = np.nextafter(numbers, np.float32(np.inf)), np.nextafter(numbers, np.float32(-1))
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**31, 1 << 17, np.uint32).view(np.float32)
    anything = anything[~np.isnan(anything)]
    edges = np.float32([0, 1e-45, 2.0**-25, 2.0**-24, 65519.996, 65520, 3.4028235e38, np.inf])
    x = np.concatenate([numbers, up, down, anything, edges])
    x = np.concatenate([x, -x])
    got = converted(x, stored, width).view(np.uint16)
    np.testing.assert_array_equal(got, _rounded(name, x))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_nan_stays_nan_in_16_bits(name, width, features):
    dtype, stored = STORED[name]
    plain = np.array([0x7FC00000, 0xFFC00000], np.uint32).view(np.float32)
    got = converted(plain, stored, width).view(np.uint16)
    # the bits of NumPy's NaN, whatever the CPU; float16 keeps the sign
    assert list(got) == ([0x7E00, 0xFE00] if name == "float16" else [0x7FC0, 0x7FC0])
    rng = np.random.default_rng(0)
    payloads = (rng.integers(1, 1 << 23, 4096, np.uint32) | 0x7F800000).view(np.float32)
    payloads[:3] = np.array([0x7F800001, 0x7FFFFFFF, 0x7F801000], np.uint32).view(np.float32)
    got = converted(payloads, stored, width).view(dtype)
    assert np.isnan(got.astype(np.float32)).all()


# --- memory ---------------------------------------------------------------------------------------


def parts(width, fill):
    """Reads and writes of every count: lines of arrays are those counts."""

    @compiled
    def read(x, at, out):
        unit = unit_with(x, width)
        for count in range(width + 1):
            memory.store(out, (count, 0), None, memory.load(x, (at,), count, fill, unit))
        # what a kernel asks for in the midst of a row
        memory.store(out, (width + 1, 0), None, memory.load(x, (at,), 5 * width, fill, unit))
        memory.store(out, (width + 2, 0), None, memory.load(x, (at,), None, fill, unit))

    @compiled
    def write(x, out, at):
        value = memory.load(x, (0,), None, 0, unit_with(out, width))
        for count in range(width + 1):
            memory.store(out, (count, at), count, value)
        memory.store(out, (width + 1, at), 5 * width, value)
        memory.store(out, (width + 2, at), None, value)

    return read, write


def at_byte(shift, values):
    """A copy that begins so many bytes after a cache line does."""
    memory = np.empty(values.nbytes + 128, np.uint8)
    shift += -memory.ctypes.data % 64
    array = np.ndarray(values.shape, values.dtype, memory, shift)
    array[...] = values
    return array


def counts_of(width):
    return np.array([*range(width + 1), width, width])[:, None]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", STORED)
def test_parts_of_lanes_touch_nothing_else_at_any_alignment(name, width, features):
    dtype, stored = STORED[name]
    element = np.float64 if name == "float64" else np.float32
    read, write = parts(width, -np.inf)
    numbers = np.arange(1, width + 9)
    source = np.arange(1, width + 1).astype(element)
    lane, counts = np.arange(width), counts_of(width)
    for shift in range(64):
        at = shift % 5
        x = at_byte(shift, numbers.astype(dtype).view(stored))
        out = np.empty((width + 3, width), element)
        read(x, at, out)
        np.testing.assert_array_equal(out, np.where(lane < counts, at + 1 + lane, -np.inf))

        expected = np.full((width + 3, width + 9), 77)
        expected[:, at : at + width] = np.where(lane < counts, lane + 1, 77)
        target = at_byte(shift, np.full(expected.shape, 77).astype(dtype).view(stored))
        write(source, target, at)
        np.testing.assert_array_equal(target.view(dtype).astype(np.float64), expected)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("element", INTEGERS)
def test_parts_of_integers_touch_nothing_else_at_any_alignment(element, width):
    read, write = parts(width, 0)
    numbers = np.arange(1, width + 9).astype(element)
    lane, counts = np.arange(width), counts_of(width)
    for shift in range(64):
        at = shift % 5
        x, out = at_byte(shift, numbers), np.empty((width + 3, width), element)
        read(x, at, out)
        np.testing.assert_array_equal(out, np.where(lane < counts, at + 1 + lane, 0))
        expected = np.full((width + 3, width + 9), 77)
        expected[:, at : at + width] = np.where(lane < counts, lane + 1, 77)
        target = at_byte(shift, np.full(expected.shape, 77, element))
        write(numbers, target, at)
        np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("element", REALS)
def test_masks_are_read_up_to_count_at_any_alignment(element, width):
    @compiled
    def read(mask, at, out):
        unit = unit_with(out, width)
        for count in range(width + 1):
            value = lanes.select(
                memory.load(mask, (at,), count, 0, unit), lanes.spread_like(1.0, unit), 0.0
            )
            memory.store(out, (count, 0), None, value)
        value = lanes.select(
            memory.load(mask, (at,), None, 0, unit), 1.0, lanes.spread_like(0.0, unit)
        )
        memory.store(out, (width + 1, 0), None, value)

    mask = np.random.default_rng(0).random(width + 8) < 0.6
    lane, counts = np.arange(width), counts_of(width)[:-1]
    for shift in range(64):
        at = shift % 5
        out = np.zeros((width + 2, width), element)
        read(at_byte(shift, mask), at, out)
        np.testing.assert_array_equal(out, mask[at : at + width] & (lane < counts))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", STORED)
def test_a_single_lane_known_when_compiling_touches_nothing_else(name, width):
    # LLVM 22 turns a masked store of one lane of 16 bits into a store of 32.
    @compiled
    def write_one(x, out, at):
        memory.store(out, (at,), 1, memory.load(x, (0,), None, 0, unit_with(out, width)))

    dtype, stored = STORED[name]
    element = np.float64 if name == "float64" else np.float32
    out = np.full(16, 77).astype(dtype)
    write_one(np.arange(1, width + 1).astype(element), out.view(stored), 3)
    np.testing.assert_array_equal(out.astype(np.float64), [77] * 3 + [1] + [77] * 12)


@pytest.mark.parametrize("name", STORED)
def test_other_types_are_widened_beside_float64(name):
    dtype, stored = STORED[name]

    @compiled
    def run(x, like, out, back):
        value = memory.load(x, (0,), 7, -1.0, unit_with(like, 8))
        memory.store(out, (0,), None, value)
        memory.store(back, (0,), 7, value)

    x = np.arange(1, 9).astype(dtype) / dtype.type(8)
    out, back = np.empty(8), np.full(8, 77).astype(dtype)
    run(x.view(stored), out, out, back.view(stored))
    np.testing.assert_array_equal(out, [*x[:7].astype(np.float64), -1])
    np.testing.assert_array_equal(back.astype(np.float64), [*x[:7].astype(np.float64), 77])


AT_THE_EDGE = """
import numpy as np
from placed import How, memory_of, placed
from test_lanes import STORED, WIDTHS, compiled, lanes, memory, unit_with


def accesses(width):
    @compiled
    def copy(x, out, count):
        memory.store(out, (0,), count, memory.load(x, (0,), count, 0, unit_with(x, width)))

    @compiled
    def masked(x, out, count):
        unit = unit_with(out, width)
        value = lanes.spread_like(1.0, unit)
        value = lanes.select(memory.load(x, (0,), count, 0, unit), value, 0.0)
        memory.store(out, (0,), count, value)
        memory.prefetch(x, (1 << 20,))
        memory.prefetch(out, (-(1 << 20),))

    return copy, masked


for width in {widths}:
    copy, masked = accesses(width)
    for stored in [*(stored for _, stored in STORED.values()), np.bool_, np.int32, np.int64]:
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


AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+lzcnt",
}


@pytest.mark.parametrize("cpu", [{}, AVX2], ids=["this", "avx2"])
@pytest.mark.parametrize("widths", [(8, 16), (32,), (64,)])
def test_nothing_beyond_count_is_read_or_written_where_memory_ends(widths, cpu):
    program = AT_THE_EDGE.replace("{widths}", str(widths))
    assert in_a_process(program, **cpu) == "whole\n"


# --- squares, and rows one behind the other ------------------------------------------------------


@pytest.mark.parametrize("width", [8, 16, 32])
@pytest.mark.parametrize("element", REALS)
def test_squares_are_turned(element, width):
    @compiled
    def run(x, out, line, column, to_line, to_column):
        memory.turn(x, (line, column), out, (to_line, to_column), unit_with(x, width))

    x = np.arange((width + 3) * (width + 11)).reshape(width + 3, width + 11).astype(element)
    for (line, column), (to_line, to_column) in (((0, 0), (0, 0)), ((3, 5), (7, 2))):
        out = np.full((width + 7, width + 5), -1, element)
        expected = out.copy()
        square = x[line : line + width, column : column + width]
        expected[to_line : to_line + width, to_column : to_column + width] = square.T
        run(x, out, line, column, to_line, to_column)
        np.testing.assert_array_equal(out, expected)
    square = np.ascontiguousarray(x[:width, :width])
    expected = square.T.copy()
    run(square, square, 0, 0, 0, 0)
    np.testing.assert_array_equal(square, expected)


@pytest.mark.parametrize("length", PACKED)
@pytest.mark.parametrize("name", STORED)
def test_rows_one_behind_the_other_are_taken_apart_and_put_together(name, length, features):
    dtype, stored = STORED[name]

    @compiled
    def run(x, panel, out, row, column):
        unit = memory.unit_of(x, None, 1)
        memory.unpack(x, row, length, panel, column, unit)
        memory.pack(out, row, length, panel, column, unit)

    element = np.float64 if name == "float64" else np.float32
    width = 64 // np.dtype(element).itemsize
    x = (np.arange((2 * width + 3) * length) % 251).astype(dtype).reshape(-1, length)
    for row, column in ((0, 0), (1, width), (width + 3, 2 * width)):
        panel = np.full((length, 3 * width), -1, element)
        out = np.full_like(x, 77)
        expected_panel, expected = panel.copy(), out.copy()
        expected_panel[:, column : column + width] = x[row : row + width].astype(element).T
        expected[row : row + width] = x[row : row + width]
        run(x.view(stored), panel, out.view(stored), row, column)
        np.testing.assert_array_equal(panel, expected_panel)
        np.testing.assert_array_equal(out.view(stored), expected.view(stored))


@pytest.mark.parametrize("element", REALS)
def test_threads_have_their_own_parts_of_scratch_memory(element):
    @compiled
    def run(whole, like, slot, value):
        unit = memory.unit_of(like, None, 1)
        part = memory.part_of(whole, slot, unit, 16)
        for line in range(part.shape[0]):
            for column in range(part.shape[1]):
                part[line, column] = value
        return part.shape

    whole = np.zeros((3, 16 * 10 * np.dtype(element).itemsize), np.uint8)
    for slot in (2, 0, 1):
        assert run(whole, np.zeros(1, element), slot, slot + 1) == (10, 16)
    np.testing.assert_array_equal(whole.view(element), np.repeat([[1], [2], [3]], 160, axis=1))


@pytest.mark.parametrize("vectors", [1, 2, 4])
@pytest.mark.parametrize("name", STORED)
def test_units_are_vectors_of_64_bytes_of_what_is_computed_in(name, vectors):
    @compiled
    def run(x, weight):
        one, other = memory.unit_of(x, None, vectors), memory.unit_of(x, weight, vectors)
        return memory.width_of(one), memory.width_of(other)

    size = 8 if name == "float64" else 4
    got = run(np.zeros(1, STORED[name][1]), np.zeros(1))
    assert got == (64 * vectors // size, 8 * vectors)
