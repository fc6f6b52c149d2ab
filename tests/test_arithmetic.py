"""Exponentials, their sums and logarithms: constants derived again, bounds measured, sums exact."""

import functools
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from generated import generated

from fastsoftmax.arithmetic import lanes, pairs
from fastsoftmax.arithmetic.lanes import loop
from fastsoftmax.arithmetic.pairs import Constants

mpmath.mp.prec = 160
LOG2 = mpmath.log(2)
SCALES = {"float32": 60, "float64": 128}
# What |z| may be, and how far below its row's largest a term counts.
FAR = {"float32": 2.0**15, "float64": 2.0**20}
REACH = {"float32": 105.0, "float64": 750.0}
# The steps of the grids, with the scale on.
GRIDS = {
    "float32": tuple(2.0 ** (60 + n) for n in (-19, -39, -59)),
    "float64": tuple(2.0 ** (128 + n) for n in (-50, -100, -150)),
}
ELEMENTS = list(SCALES)


def exactly(x):
    return mpmath.mpf(float(x))


def nearest(element, x):
    return float(np.dtype(element).type(float(x)))


# --- constants -----------------------------------------------------------------------------------


@functools.cache
def constants(element):
    """What an element is computed with, as numbers."""
    found = {}

    @generated
    def tables(like, out):
        c, line = Constants(like.element), 0
        for name, value in vars(c).items():
            values = value if isinstance(value, list) else [value]
            if isinstance(values[0], lanes.Value):
                for one in values:
                    out.store((line,), one)
                    found.setdefault(name, []).append(line)
                    line += 1
            else:
                found[name] = value

    out = np.zeros(40)
    tables(np.zeros(1, element), out)
    return {n: out[v].tolist() if isinstance(v, list) else v for n, v in found.items()}


@pytest.mark.parametrize("element", ELEMENTS)
def test_constants_are_those_of_the_formulas(element):
    c, bits = constants(element), np.finfo(element).nmant
    assert c["to_steps"] == [nearest(element, 8 / LOG2)]
    assert c["to_power"] == [nearest(element, 1 / LOG2)]
    assert c["step"] == [nearest(element, LOG2 / 8)]
    rest = LOG2 / 8 - exactly(c["step"][0])
    assert abs(exactly(c["step_rest"][0]) / rest - 1) < 2.0 ** -(bits + 1)
    factorials = [nearest(element, 1 / mpmath.factorial(n)) for n in range(2, 9)]
    assert c["tail"] == factorials[: 3 if element == "float32" else 7]
    assert (c["scale"], c["unscale"]) == (SCALES[element], [2.0 ** -SCALES[element]])
    assert (c["far"], c["reach"], c["mantissa"]) == ([FAR[element]], [REACH[element]], bits)
    # Adding one rounds to its last place, on either side of it.
    assert c["to_integer"] == [1.5 * 2.0**bits]
    assert c["grids"] == [1.5 * 2.0**bits * step for step in GRIDS[element]]
    assert c["worth"] == tuple(step * c["unscale"][0] for step in GRIDS[element])


@pytest.mark.parametrize("element", ELEMENTS)
def test_steps_of_the_power_are_in_two_parts(element):
    bits = np.finfo(element).nmant
    for j in range(8):
        exact = mpmath.mpf(2) ** (mpmath.mpf(j) / 8)
        # with j/8 taken from the exponent's field and below it
        brought = [
            (np.array(table[j], element).view(f"int{element[5:]}") + (j << (bits - 3))).view(
                element
            )
            for table in constants(element)["steps"]
        ]
        assert brought[0] == nearest(element, exact)
        rest = nearest(element, exact - exactly(brought[0]))
        # a normal number too small to count, in the place of 0
        assert brought[1] == (rest if j else 2.0 ** (-32 if element == "float32" else -61))


def test_the_logarithm_of_2_is_in_two_parts_and_products_of_the_first_are_exact():
    assert Fraction(pairs.LN2_HIGH) * 2**42 % 1 == 0
    assert float(LOG2 - exactly(pairs.LN2_HIGH)) == pairs.LN2_LOW


def chebyshev(function, degree, low, high):
    """The polynomial that interpolates ``function`` in the Chebyshev nodes, lowest power first."""
    middle, half = (low + high) / 2, (high - low) / 2
    count = degree + 1
    nodes = [
        middle + half * mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * count)) for k in range(count)
    ]
    powers = mpmath.matrix(count, count)
    for i, node in enumerate(nodes):
        for j in range(count):
            powers[i, j] = node**j
    return list(mpmath.lu_solve(powers, mpmath.matrix([function(node) for node in nodes])))


def test_coefficients_of_the_logarithm_are_those_of_the_interpolation():
    def series(w):
        return mpmath.fsum(mpmath.mpf(2) / (2 * k + 3) * w**k for k in range(70))

    degree = len(pairs.LOG_COEFFICIENTS) - 1
    with mpmath.workprec(300):
        derived = chebyshev(series, degree, mpmath.mpf(0), mpmath.mpf("0.0295"))
    assert tuple(map(float, derived)) == pairs.LOG_COEFFICIENTS


@pytest.mark.parametrize(("element", "bits"), [("float32", 29), ("float64", 59)])
def test_the_series_of_exp_is_long_enough(element, bits):
    last = len(constants(element)["tail"]) + 1
    for r in (-LOG2 / 16, LOG2 / 16):
        series = mpmath.fsum(r**n / mpmath.factorial(n) for n in range(last + 1))
        assert abs(series / mpmath.exp(r) - 1) < mpmath.mpf(2) ** -bits


# --- exponentials --------------------------------------------------------------------------------


@functools.cache
def _exponentials(with_rest, exact):
    @generated
    def run(x, rests, tops, out):
        c = Constants(x.element)
        for i in loop(0, x.shape[0], 16):
            rest = rests.load((i,), 16) if with_rest else None
            shift = pairs.shift_of(tops.load((i,), 16), c)
            term = pairs.exponential(x.load((i,), 16), rest, shift, c, exact)
            for line, value in enumerate((*term, shift)):
                out.store((line, i), value)

    return run


def exponential(z, rest=None, top=0.0, exact=False):
    """(e, h, lo), scaled, and N, that of the largest."""
    size, element = z.size, z.dtype.name
    z, rests, tops = (
        np.resize(np.broadcast_to(v, size).astype(element), -(-size // 16) * 16)
        for v in (z, 0.0 if rest is None else rest, top)
    )
    out = np.empty((4, z.size), element)
    _exponentials(rest is not None, exact)(z, rests, tops, out)
    integer = 1.5 * 2.0 ** np.finfo(element).nmant + 8.0 * SCALES[element]
    return out[:3, :size], ((integer - out[3, :size].astype(np.float64)) / 8).astype(np.int64)


def below(element, count):
    """z of all sizes that a term can have which counts, relative to 1."""
    rng = np.random.default_rng(0)
    z = np.concatenate(
        [
            -rng.uniform(0, REACH[element], count),
            -rng.uniform(0, 1, count),
            -np.exp(rng.uniform(-80, np.log(REACH[element]), count)),
            # where one step ends and the next begins
            -(rng.integers(0, int(REACH[element] * 11.5), count) + 0.5) * np.log(2) / 8,
            rng.uniform(0, np.log(2) / 2, count),
            [0.0, -0.0, -REACH[element]],
        ]
    )
    return z.astype(element)


def tops_of(element, size):
    """The largest logits of rows, of all sizes."""
    rng = np.random.default_rng(1)
    sizes = np.exp(rng.uniform(-80, np.log(FAR[element]), size))
    return (sizes * rng.choice([-1, 1], size)).astype(element)


def error_of_singles(z, rest, parts, powers):
    """The largest relative error of h + lo; the truth in float64 by way of long double."""
    log2 = np.longdouble(float(LOG2)) + np.longdouble(float(LOG2 - float(LOG2)))
    exact = np.exp((z.astype(np.longdouble) + rest - powers * log2).astype(np.float64))
    got = (parts[1].astype(np.float64) + parts[2]) * 2.0**-60
    return np.max(np.abs(got / exact - 1))


def error_of_doubles(z, rest, parts, powers):
    worst = mpmath.mpf(0)
    scale = mpmath.mpf(2) ** -SCALES["float64"]
    for a, b, h, lo, n in zip(z, rest, parts[1], parts[2], powers, strict=True):
        exact = mpmath.exp(exactly(a) + exactly(b) - int(n) * LOG2)
        worst = max(worst, abs((exactly(h) + exactly(lo)) * scale / exact - 1))
    return float(worst)


# Without a rest and with one, whose sum with the reduced logit is rounded again. In float32, half
# a unit of r (2**-29), of exp(r) - 1 (2**-29) and of lo (2**-28, where h is 2**0.5 and more), and
# what the series leaves out (2**-29.5), are 4.1 * 2**-29 = 2**-26.96 (so measured), and with
# a rest 5.1 * 2**-29 = 2**-26.65 (2**-26.65). In float64 the same with 2**-58, and 2**-59.2:
# measured on 200,000 are 2**-55.94 and 2**-55.74.
BOUNDS = {"float32": (2.0**-26.9, 2.0**-26.6), "float64": (2.0**-55.8, 2.0**-55.6)}


@pytest.mark.parametrize("anywhere", [False, True])
@pytest.mark.parametrize("with_rest", [False, True])
@pytest.mark.parametrize("element", ELEMENTS)
def test_the_parts_of_an_exponential_are_right_together(element, with_rest, anywhere):
    z = below(element, 200_000 if element == "float32" else 600)
    top = tops_of(element, z.size) if anywhere else np.zeros_like(z)
    z = np.clip(z + top, -FAR[element], FAR[element])
    rest = np.zeros_like(z)
    if with_rest:  # what rounding may have left out of a difference
        rest = z * np.random.default_rng(2).uniform(-1, 1, z.size) * np.finfo(element).epsneg
        rest = rest.astype(element)
    parts, powers = exponential(z, rest if with_rest else None, top)
    measure = error_of_singles if element == "float32" else error_of_doubles
    worst = measure(z, rest, parts, powers)
    assert worst <= BOUNDS[element][with_rest]
    # What results are made of is their sum, rounded once: half a unit, and of what is below 2
    # at most 2 * 2**-26.9 (2 * 2**-55.8), of which a unit is 2**-23 (2**-52): 0.64 (0.65) units.
    np.testing.assert_array_equal(parts[0], parts[1] + parts[2])


@pytest.mark.parametrize("element", ELEMENTS)
def test_the_power_is_the_nearest_integer_and_leaves_about_1(element):
    z = tops_of(element, 100_000)
    (e, _, _), powers = exponential(z, None, z)
    exact = z.astype(np.longdouble) / np.log(np.longdouble(2))
    assert np.max(np.abs(exact - powers)) <= 0.5 + FAR[element] * np.finfo(element).eps
    size = e * 2.0 ** -SCALES[element]
    assert 0.5**0.5 * 0.99 < size.min() < size.max() < 2**0.5 * 1.01


@pytest.mark.parametrize("element", ELEMENTS)
def test_exp_of_0_is_1_and_of_nan_nan(element):
    z = np.array([0.0, -0.0, np.nan, -np.nan], element)
    one = 2.0 ** SCALES[element]
    for exact in (False, True):
        (e, h, lo), _ = exponential(z, exact=exact)
        np.testing.assert_array_equal(e, [one, one, np.nan, np.nan])
        np.testing.assert_array_equal(h[:2], one)
        # what is in the place of 0 in a table, but for an exact one
        least = 2.0**-32 if element == "float32" else 2.0**-61
        np.testing.assert_array_equal(lo[:2], 0 if exact else one * least)
    z = below(element, 1000)
    plain, exact = exponential(z)[0], exponential(z, exact=True)[0]
    np.testing.assert_array_equal(plain[1], exact[1])
    assert np.max(np.abs(plain[2] - exact[2]) / plain[1]) <= 2 * least  # rounded


@pytest.mark.parametrize("element", ELEMENTS)
def test_exponentials_never_fall_where_logits_rise(element):
    (e, _, _), _ = exponential(np.sort(below(element, 20_000)))
    assert (np.diff(e) >= 0).all()
    # across the edge of a step, one number at a time
    for k in (-1, -7, -64, -800):
        edge = np.array((k + 0.5) * np.log(2) / 8, element)
        bits = edge.view(f"int{8 * edge.itemsize}")
        z = (bits + np.arange(-500, 500).astype(bits.dtype)).view(element)[::-1]
        (e, _, _), _ = exponential(np.ascontiguousarray(z))
        assert (np.diff(e) >= 0).all()


# --- the logarithm -------------------------------------------------------------------------------


@generated
def _logarithms(high, low, out):
    for i in loop(0, high.shape[0], 8):
        pair = pairs.logarithm(high.load((i,), 8), low.load((i,), 8))
        for line, value in enumerate(pair):
            out.store((line, i), value)


def logarithm(high, low):
    high = np.array(high, float)
    size = high.size
    high, low = (np.resize(v, -(-size // 8) * 8).astype(float) for v in (high, low))
    out = np.empty((2, high.size))
    _logarithms(high, low, out)
    return out[:, :size]


def worst_of_log(high, low):
    """The largest relative error of what is made of pairs."""
    value, rest = logarithm(high, low)
    np.testing.assert_array_equal(value, value + rest)
    exact = [mpmath.log(exactly(a) + exactly(b)) for a, b in zip(high, low, strict=True)]
    got = [exactly(a) + exactly(b) for a, b in zip(value, rest, strict=True)]
    return float(max(abs(a / b - 1) for a, b in zip(got, exact, strict=True)))


def test_log_of_two_numbers_is_right_to_56_bits():
    rng = np.random.default_rng(0)
    high = np.concatenate(
        [
            rng.uniform(1, 3, 3000),
            1 + rng.choice([-1, 1], 2000) * 2.0 ** rng.uniform(-30, -1, 2000),
            2 ** rng.uniform(-0.51, 0.51, 2000),
            2 ** rng.uniform(-1021, 1023, 3000),
            np.nextafter(0.5**0.5, [0, 1]),
            np.nextafter(2**0.5, [0, 2]),
            [np.finfo(float).tiny, 1.7e308, 2.0, 0.5],
        ]
    )
    low = rng.uniform(-0.5, 0.5, high.size) * np.spacing(high)
    assert worst_of_log(high, low) < 2.0**-56


def test_log_next_to_one_keeps_what_is_left_of_one():
    low = np.array([1e-17, 1e-100, 1e-300, 5e-324, -1e-17, -1e-100, 0.0])
    value, _ = logarithm(np.ones(7), low)
    np.testing.assert_array_equal(value, low)


def test_log_of_pairs_next_to_one_is_right_to_an_ulp():
    # Half of what the first number is away from 1 may be taken back by the second.
    rng = np.random.default_rng(0)
    high = 1 + rng.choice([-1, 1], 3000) * 2.0 ** rng.uniform(-53, -30, 3000)
    high = high[high != 1]
    low = rng.uniform(-0.5, 0.5, high.size) * np.spacing(np.minimum(high, 1 - 2.0**-53))
    assert worst_of_log(high, low) < 2.0**-52


def test_log_at_its_ends():
    value, rest = logarithm([0.0, np.inf, np.nan], [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(value, [-np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(rest, 0)
