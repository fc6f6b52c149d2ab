"""Lanes: every operator and function of values against NumPy, on each CPU."""

import platform
from fractions import Fraction

import numpy as np
import pytest
from generated import generated
from llvmlite import ir
from numba.core.codegen import get_host_cpu_features
from placed import in_a_process
from test_same_bits import AVX2

from fastsoftmax.arithmetic import lanes
from fastsoftmax.arithmetic.lanes import FLOAT, INT32, INT64, Variables, loop, number, select, when

REALS = {"float32": [None, 1, 2, 4, 16, 32, 64], "float64": [None, 1, 2, 4, 8, 16, 32]}
REAL_WIDTHS = [(element, width) for element, widths in REALS.items() for width in widths]


def stored(value, operand):
    """What an array of float32, float64 or int64 can hold of what is made of an operand."""
    if value.element == ir.IntType(1):
        value = select(value, lanes.like(1, operand), 0)
    return lanes.from_bits(value) if value.element == INT32 else value


def mapped(functions, width, loaded=lambda value: value):
    """What computes these functions of arrays' elements into lines of ``out``."""

    @generated
    def run(x, y, out):
        for i in loop(0, x.shape[0], width or 1):
            a, b = loaded(x.load((i,), width)), loaded(y.load((i,), width))
            for line, function in enumerate(functions):
                out.store((line, i), stored(function(a, b), a))

    return run


def check(functions, x, y, width, loaded=lambda value: value, models=None):
    """The functions give of values what they, or their models, give of arrays."""
    out = np.empty((len(functions), x.size), x.dtype)
    kept = x.view(np.float32) if x.dtype == np.int32 else x
    mapped(functions, width, loaded)(kept, y.view(kept.dtype), out.view(kept.dtype))
    with np.errstate(all="ignore"):
        for line, model in enumerate(models or functions):
            np.testing.assert_array_equal(out[line], model(x, y).astype(x.dtype), str(line))


def all_pairs(values, dtype, multiple=64):
    values = np.array(values, dtype)
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    size = -(-x.size // multiple) * multiple
    return np.resize(x, size), np.resize(y, size)


ORDINARY = [0.1, -2.5, 3.0, 0.0, -0.0, 1e-40, 1e38, -3e38, np.inf, -np.inf, np.nan, 7.0]
ARITHMETIC = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / b,
    lambda a, b: -a,
    lambda a, b: a + 0.1,
    lambda a, b: 0.1 + a,
    lambda a, b: a - 0.1,
    lambda a, b: 0.1 - a,
    lambda a, b: a * 3.0,
    lambda a, b: 3.0 * a,
    lambda a, b: a / 3.0,
    lambda a, b: 1.0 / a,
    lambda a, b: a < b,
    lambda a, b: a > b,
    lambda a, b: a >= b,
    lambda a, b: a <= b,
    lambda a, b: a == b,
    lambda a, b: a != b,
    lambda a, b: a < 3.0,
    lambda a, b: a != 3.0,
    lambda a, b: (a < b) | (a > 2.0),
    lambda a, b: (a < b) & (a > 0.0),
]
INTEGERS = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: -a,
    lambda a, b: 5 - a,
    lambda a, b: a << 5,
    lambda a, b: a >> 5,
    lambda a, b: a & b,
    lambda a, b: a | b,
    lambda a, b: a & -8,
    lambda a, b: a < b,
    lambda a, b: a > b,
    lambda a, b: a >= b,
    lambda a, b: a == b,
    lambda a, b: a != b,
]


@pytest.mark.parametrize(("element", "width"), REAL_WIDTHS)
def test_operators_of_real_numbers_are_numpys(element, width):
    check(ARITHMETIC, *all_pairs(ORDINARY, element), width)


@pytest.mark.parametrize(("element", "width"), [("float32", 16), ("float64", 8)])
def test_zeros_have_numpys_signs(element, width):
    functions = [lambda a, b, f=f: 1.0 / f(a, b) for f in ARITHMETIC[:7]]
    check(functions, *all_pairs([0.0, -0.0, 1.0, -1.0], element), width)


@pytest.mark.parametrize("width", [None, 8, 16, 32, 64])
@pytest.mark.parametrize("element", ["int32", "int64"])
def test_operators_of_integers_are_numpys(element, width):
    info = np.iinfo(element)
    values = [0, 1, -1, 7, -1000, 123456789, info.max, info.min, info.max - 7]
    loaded = lanes.bits_of if element == "int32" else lambda value: value
    check(INTEGERS, *all_pairs(values, element), width, loaded)
    # indices are divided, and are not below 0
    divided = [lambda a, b: a // b, lambda a, b: a % b, lambda a, b: a // 7, lambda a, b: a % 7]
    check(divided, *all_pairs([1, 2, 7, 64, 100, info.max], element), width, loaded)


@pytest.mark.parametrize(("element", "width"), REAL_WIDTHS)
def test_selections_are_numpys(element, width):
    functions = [
        lanes.larger,
        lanes.smaller,
        lambda a, b: lanes.larger(0.5, a),
        lambda a, b: select(a < b, a, b),
        lambda a, b: select(a < b, 2.0, b),
        lambda a, b: select(a < b, number(2.0, a.element), 3.0),
        lambda a, b: lanes.like(0.1, a),
    ]
    models = [
        lambda a, b: np.where(a > b, a, b),  # b beside NaN
        lambda a, b: np.where(a < b, a, b),
        lambda a, b: np.where(a < 0.5, a.dtype.type(0.5), a),
        lambda a, b: np.where(a < b, a, b),
        lambda a, b: np.where(a < b, 2, b),
        lambda a, b: np.where(a < b, 2, 3),
        lambda a, b: np.full_like(a, 0.1),
    ]
    check(functions, *all_pairs(ORDINARY, element), width, models=models)


@pytest.mark.parametrize(("element", "width"), REAL_WIDTHS)
def test_fma_rounds_once(element, width):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(192) * 2.0 ** rng.integers(-20, 20, 192)).astype(element)
    functions = [lambda a, b: lanes.fma(a, b, -1.0), lambda a, b: lanes.fma(-a, b, a * b)]
    exact = [Fraction(float(a)) ** 2 for a in x]
    rounded = [Fraction(float(a)) for a in x * x]
    once = [np.array([float(a - 1) for a in exact]) for _ in range(1)]  # float32: far from ties
    once.append(np.array([float(b - a) for a, b in zip(exact, rounded, strict=True)]))
    check(functions, x, x, width, models=[lambda a, b, i=i: once[i] for i in range(2)])


def test_what_a_comparison_is_cannot_be_asked_while_code_is_written():
    @generated
    def run(x):
        assert x.load((0,), 8) > 0.0

    with pytest.raises(TypeError, match="use select or when"):
        run(np.zeros(8))


# --- lanes between themselves --------------------------------------------------------------------


@pytest.mark.parametrize(("element", "width"), [p for p in REAL_WIDTHS if p[1]])
def test_lanes_are_taken_joined_and_folded(element, width):
    def add(a, b):
        return [one + other for one, other in zip(a, b, strict=True)]

    @generated
    def run(x, out, single):
        value = x.load((0,), width)
        half = max(width // 2, 1)
        halves = [lanes.part(value, 0, half), lanes.part(value, width - half, half)]
        out.store((0, 0), lanes.joined(halves[: 2 if width > 1 else 1]))
        out.store((1, 0), lanes.shuffled(value, -value, [*range(width, 2 * width)][::-1]))
        out.store((2, 0), lanes.joined([lanes.part(value, k, 1) for k in range(width)][::-1]))
        out.store((3, 0), lanes.folded([value, value], add, half)[1])
        for k in range(width):
            out.store((4, k), lanes.lane(value, k))
        single.store((0,), lanes.folded([value], add, None)[0])
        single.store((1,), lanes.folded([value], lambda a, b: [lanes.larger(*a, *b)], None)[0])
        assert lanes.folded([], add, None) == []

    x = np.arange(1, width + 1).astype(element)[np.random.default_rng(0).permutation(width)]
    out, single = np.zeros((5, width), element), np.empty(2, element)
    run(x, out, single)
    half = max(width // 2, 1)
    np.testing.assert_array_equal(out[0], x)
    np.testing.assert_array_equal(out[1], -x[::-1])
    np.testing.assert_array_equal(out[2], x[::-1])
    np.testing.assert_array_equal(out[3, :half], x[:half] + x[half:] if width > 1 else x)
    np.testing.assert_array_equal(out[4], x)
    np.testing.assert_array_equal(single, [x.sum(), width])


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_integers_are_added_and_conditions_met_anywhere(width):
    @generated
    def run(x, out):
        value = x.load((0,), width)
        out.store((0,), lanes.sum_of(value))
        out.store((1,), select(lanes.any_of(value == 77), number(1, INT64), 0))
        out.store((2,), select(lanes.any_of(value > 0), number(1, INT64), 0))

    for place in range(width):
        x, out = -np.arange(1, width + 1) << 40, np.empty(3, np.int64)
        run(x, out)
        np.testing.assert_array_equal(out, [x.sum(), 0, 0])
        x[place] = 77
        run(x, out)
        np.testing.assert_array_equal(out, [x.sum(), 1, 1])


@pytest.mark.parametrize("width", [None, 8, 16, 32, 64])
def test_conversions_are_numpys(width):
    @generated
    def run(single, double, whole, out, numbers):
        for i in loop(0, single.shape[0], width or 1):
            s, d, n = (array.load((i,), width) for array in (single, double, whole))
            out.store((0, i), lanes.wide(s))
            out.store((1, i), lanes.wide(lanes.narrowed(d, FLOAT)))
            out.store((2, i), lanes.narrowed(d, d.element))
            out.store((3, i), lanes.to_real(n))
            out.store((4, i), lanes.from_bits(lanes.bits_of(d)))
            numbers.store((0, i), lanes.to_integer(d))
            numbers.store((1, i), lanes.bits_of(d))
            numbers.store((2, i), lanes.in_64_bits(lanes.bits_of(s)))
            numbers.store((3, i), lanes.in_64_bits(lanes.bits_of(s), signed=False))
        for i in loop(0, single.shape[0]):
            n, s = whole.load((i,), None), single.load((i,), None)
            numbers.store((4, i), lanes.in_64_bits(lanes.same_integer(n, lanes.bits_of(s))))
            numbers.store((5, i), lanes.same_integer(n, n))

    rng = np.random.default_rng(0)
    d = np.concatenate([rng.standard_normal(120) * 2.0 ** rng.integers(-40, 40, 120),
                        [0.5, -0.5, 1.5, -1.5, 2.0**53, -(2.0**53), 0.0, -0.0]])  # fmt: skip
    s, n = d.astype(np.float32), rng.integers(-(2**62), 2**62, 128)
    out, numbers = np.empty((5, 128)), np.empty((6, 128), np.int64)
    run(s, d, n, out, numbers)
    np.testing.assert_array_equal(out, [s, s, d, n.astype(float), d])
    bits = s.view(np.int32)
    np.testing.assert_array_equal(
        numbers,
        [d.astype(np.int64), d.view(np.int64), bits, bits.view(np.uint32), n.astype(np.int32), n],
    )


@pytest.mark.parametrize(("element", "width"), [p for p in REAL_WIDTHS if p[1]])
def test_tables_are_looked_up_by_the_lowest_three_bits(element, width):
    table = tuple(float(np.float32(0.1) + k) for k in range(8))

    @generated
    def run(x, out):
        index = lanes.bits_of(x.load((0,), width))
        out.store((0,), lanes.lookup(index, (table,))[0])

    rng = np.random.default_rng(0)
    for _ in range(4):
        index = rng.integers(-(2**31), 2**31, width).astype(f"int{element[5:]}")
        out = np.empty(width, element)
        run(index.view(element), out)
        np.testing.assert_array_equal(out, np.array(table, element)[index & 7])


# --- the code's own branches ---------------------------------------------------------------------


@generated
def _steps(limits, out):
    """How often loops turn, and what they change."""
    start, stop, step = (limits.load((k,), None) for k in range(3))
    state = Variables(number(0, INT64), number(1, INT64))
    for i in loop(start, stop, step):
        count, last = state.get()
        for _ in when(i != 4):
            state.set(count + 1, i)
        for _ in loop(0, 2):
            for _ in when((i == 4) & (last >= 0)):
                state.set(state.get()[0] + 100, last)
    for k, value in enumerate(state.get()):
        out.store((k,), value)


@pytest.mark.parametrize("limits", [(0, 3, 1), (0, 10, 2), (3, 11, 4), (5, 5, 1), (7, 2, 1)])
def test_loops_branches_and_variables_are_pythons(limits):
    count, last = 0, 1
    for i in range(*limits):
        if i != 4:
            count, last = count + 1, i
        for _ in range(2):
            if i == 4 and last >= 0:
                count += 100
    out = np.empty(2, np.int64)
    _steps(np.array(limits), out)
    assert list(out) == [count, last]


OTHERS = [("haswell", AVX2), ("generic", "")]


def of_another_cpu(file, cpu, features):
    """Have a file's tests pass in a process whose code is for another CPU."""
    if not set(filter(None, features.split(","))) <= set(get_host_cpu_features().split(",")):
        pytest.skip(f"this CPU cannot run code for {cpu}")
    options = [file, "-q", "-n", "0", "-k", "not another_cpu", "-p", "no:cacheprovider"]
    program = f"import sys, pytest; sys.exit(pytest.main({options!r}))"
    said = in_a_process(program, NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES=features)
    assert " passed" in said


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of x86-64")
@pytest.mark.thorough
@pytest.mark.parametrize(("cpu", "features"), OTHERS)
def test_all_of_this_holds_for_another_cpu(cpu, features):
    of_another_cpu(__file__, cpu, features)
