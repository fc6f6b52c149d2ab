"""Lanes: each operation against NumPy, each partial access against its neighbours."""

import ml_dtypes
import numpy as np
import pytest
from numba import njit

from fastsoftmax.cpu import lanes, llvm, memory
from fastsoftmax.cpu.sizes import WIDTH

STORED = {
    "float64": (np.dtype(np.float64), np.float64),
    "float32": (np.dtype(np.float32), np.float32),
    "float16": (np.dtype(np.float16), np.uint16),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.int16),
}


@njit
def copy(x, out):
    for i in range(0, x.shape[0], WIDTH):
        memory.store(out, (i,), lanes.wide(memory.load(x, (i,))))


@njit
def narrow(x, out):
    for i in range(0, x.shape[0], WIDTH):
        memory.store(out, (i,), memory.load(x, (i,)))


@njit
def copy_part(x, out, at, count, fill):
    memory.store(out, (0,), lanes.wide(memory.load_part(x, (at,), count, fill)))


@njit
def write_part(x, out, at, count):
    memory.store_part(out, (at,), count, memory.load(x, (0,)))


@njit
def write_one(x, out, at):
    memory.store_part(out, (at,), 1, memory.load(x, (0,)))


@njit
def combine(x, y, out):
    a, b = memory.load(x, (0,)), memory.load(y, (0,))
    memory.store(out, (0, 0), a + b)
    memory.store(out, (1, 0), a - b)
    memory.store(out, (2, 0), a * b)
    memory.store(out, (3, 0), a / b)
    memory.store(out, (4, 0), -a)
    memory.store(out, (5, 0), lanes.fma(a, b, 3.0))
    memory.store(out, (6, 0), lanes.select(a < b, a, b))
    memory.store(out, (7, 0), lanes.select(a > 0.5, a, 2.0))
    memory.store(out, (8, 0), lanes.select(a == b, 1.0, a))
    memory.store(out, (9, 0), lanes.select(a != b, 1.0, a))
    memory.store(out, (10, 0), lanes.from_bits((lanes.bits_of(a) << 1) >> 1))
    memory.store(out, (11, 0), 1.0 / a)


def test_operators_are_numpys():
    x = np.array([0.1, -2.5, 3.0, 0.0, 1e300, np.inf, np.nan, 7.0])
    y = np.array([0.3, 2.5, 3.0, -1.0, 1e300, 2.0, 1.0, np.nan])
    out = np.empty((12, WIDTH))
    combine(x, y, out)
    with np.errstate(all="ignore"):
        expected = [
            x + y,
            x - y,
            x * y,
            x / y,
            -x,
            np.array([float(np.longdouble(a) * b + 3) for a, b in zip(x, y, strict=True)]),
            np.where(x < y, x, y),
            np.where(x > 0.5, x, 2.0),
            np.where(x == y, 1.0, x),
            np.where(x != y, 1.0, x),
            ((x.view(np.int64) << 1) >> 1).view(np.float64),
            1 / x,
        ]
    np.testing.assert_array_equal(out, expected)


@njit
def reduce(x, out):
    value = memory.load(x, (0,))
    out[0] = lanes.largest(value)
    for i in range(WIDTH):
        out[1 + i] = lanes.lane(value, i)


def test_largest_and_single_lanes():
    for place in range(WIDTH):
        x = np.full(WIDTH, -np.inf, np.float32)
        x[place] = -3.5
        out = np.empty(1 + WIDTH)
        reduce(x, out)
        np.testing.assert_array_equal(out, [-3.5, *x])


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_number_is_read(name):
    dtype, stored = STORED[name]
    bits = np.arange(1 << 16).astype(np.uint16).view(stored)
    got = np.empty(1 << 16)
    copy(bits, got)
    with np.errstate(invalid="ignore"):  # NumPy's word for a signalling NaN
        expected = bits.view(dtype).astype(np.float64)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_number_and_every_tie_is_written(name):
    dtype, stored = STORED[name]
    with np.errstate(invalid="ignore"):
        numbers = np.sort(np.arange(1 << 15).astype(np.uint16).view(dtype).astype(np.float64))
    finite = numbers[np.isfinite(numbers)]
    between = (finite[:-1] + finite[1:]) / 2
    beyond = finite[-1] + (finite[-1] - finite[-2]) / 2 * np.array([0.999, 1.0, 1.001, 1e30])
    x = np.concatenate([finite, between, between * (1 + 2**-40), between * (1 - 2**-40), beyond])
    x = np.concatenate([x, -x, [np.inf, -np.inf, np.nan, 1e-300, -0.0]])
    x = np.concatenate([x, np.zeros(-len(x) % WIDTH)])
    out = np.empty(len(x), stored)
    narrow(x, out)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(np.float16) if name == "float16" else _to_bfloat16(x)
    np.testing.assert_array_equal(out.view(dtype).astype(np.float64), expected.astype(np.float64))
    zeros = x == 0
    assert (np.signbit(out.view(dtype)[zeros]) == np.signbit(x[zeros])).all()


def _to_bfloat16(x):
    """float64 to bfloat16, rounded once: by exact arithmetic on the unit in the last place."""
    _, exponent = np.frexp(x)
    unit = np.ldexp(1.0, np.maximum(exponent - 1, -126) - 7)
    with np.errstate(invalid="ignore"):
        rounded = np.where(np.isfinite(x), np.rint(x / unit) * unit, x)
    return rounded.astype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_part_of_lanes_touches_nothing_else(name, offset):
    dtype, stored = STORED[name]
    values = np.arange(1, 33).astype(dtype).view(stored)
    for count in range(WIDTH + 1):
        got = np.empty(WIDTH)
        copy_part(values, got, offset, count, -np.inf)
        expected = [offset + 1 + i if i < count else -np.inf for i in range(WIDTH)]
        np.testing.assert_array_equal(got, expected)

        out = np.full(32, 77).astype(dtype)
        write_part(np.arange(1.0, 9.0), out.view(stored), offset, count)
        expected = np.full(32, 77)
        expected[offset : offset + count] = np.arange(1, count + 1)
        np.testing.assert_array_equal(out.astype(np.float64), expected)


@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize("masked", [True, False])
def test_parts_are_written_by_mask_and_in_pieces(name, masked, monkeypatch):
    monkeypatch.setattr(memory, "stores_by_mask", lambda: masked)

    @njit
    def write(x, out, at, count):
        memory.store_part(out, (at,), count, memory.load(x, (0,)))

    for offset in (0, 3):
        for count in range(WIDTH + 1):
            out = np.full(20, 77, name)
            write(np.arange(1.0, 9.0), out, offset, count)
            expected = np.full(20, 77)
            expected[offset : offset + count] = np.arange(1, count + 1)
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("name", STORED)
def test_a_single_lane_known_when_compiling_touches_nothing_else(name):
    # LLVM 22 turns a masked store of one lane of 16 bits into a store of 32.
    dtype, stored = STORED[name]
    out = np.full(16, 77).astype(dtype)
    write_one(np.arange(1.0, 9.0), out.view(stored), 3)
    np.testing.assert_array_equal(out.astype(np.float64), [77] * 3 + [1] + [77] * 12)


def test_lanes_are_read_and_written_at_any_alignment():
    memory = np.zeros(8 * 40 + 8, np.uint8)
    for shift in range(8):
        x = memory[shift : shift + 8 * 16].view(np.float64)
        x[:] = np.arange(16)
        out = np.empty(16)
        copy(x, out)
        np.testing.assert_array_equal(out, np.arange(16))
        target = memory[160 + shift : 160 + shift + 8 * 16].view(np.float64)
        copy(out, target)
        np.testing.assert_array_equal(target, np.arange(16))


@njit
def masked(mask, out, at, count):
    memory.store(out, (0,), lanes.select(memory.load_mask(mask, (at,), count), 1.0, 0.0))


def test_masks_are_read_up_to_count():
    mask = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1], bool)
    for at in (0, 1, 5):
        for count in range(WIDTH + 1):
            out = np.empty(WIDTH)
            masked(mask, out, at, count)
            np.testing.assert_array_equal(out, mask[at : at + WIDTH] & (np.arange(8) < count))


@pytest.mark.parametrize("instructions", [True, False])
def test_float16_with_and_without_the_cpus_instructions(instructions, monkeypatch):
    if instructions and not llvm.converts_halves():
        pytest.skip("this CPU has none")
    monkeypatch.setattr(llvm, "converts_halves", lambda: instructions)

    @njit
    def convert(x, out):
        for i in range(0, x.shape[0], WIDTH):
            memory.store(out, (i,), lanes.wide(memory.load(x, (i,))))

    halves = np.arange(2**16, dtype=np.uint16)
    wide = np.empty(halves.shape)
    convert(halves, wide)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(wide, halves.view(np.float16).astype(np.float64))
    # every number, every tie and what is next to one, and what float32 would round to a tie
    finite = np.sort(np.unique(wide[np.isfinite(wide)]))
    ties = (finite[1:] + finite[:-1]) / 2
    near = [ties * (1 + step) for step in (0, 2.0**-52, -(2.0**-52), 2.0**-26, -(2.0**-26))]
    rng = np.random.default_rng(0)
    anything = np.ldexp(rng.standard_normal(40_000), rng.integers(-150, 150, 40_000))
    edges = [65519.99, 65520, 1e300, 5e-324, 2.0**-25, 2.0**-24, np.inf, 0.0, np.nan]
    numbers = np.concatenate([finite, *near, anything, edges, np.negative(edges)])
    numbers = np.resize(numbers, -(-numbers.size // WIDTH) * WIDTH)
    out = np.empty(numbers.shape, np.uint16)
    convert(numbers, out)
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16)
    nan = np.isnan(numbers)
    np.testing.assert_array_equal(out[~nan], expected.view(np.uint16)[~nan])
    assert set(out[nan]) == {0x7E00}
