"""Differences divided by temperatures, as pairs, against fractions."""

import functools
from fractions import Fraction

import numpy as np
import pytest
from generated import generated

from fastsoftmax.arithmetic import normalizer
from fastsoftmax.arithmetic.lanes import loop

ELEMENTS = ["float32", "float64"]


@functools.cache
def _differences(tempered):
    @generated
    def run(x, base, temperature, out):
        for i in loop(0, x.shape[0], 8):
            times = None
            if tempered:
                times = normalizer.times_of(temperature.load((i,), 8), x.element)
            pair = normalizer.difference(x.load((i,), 8), base.load((i,), 8), times)
            for line, value in enumerate(pair):
                out.store((line, i), value)

    return run


def difference(x, base, temperature=None):
    """(x - base) / temperature as a value and a rest."""
    size, padded = x.size, -(-x.size // 8) * 8
    given = np.ones(1) if temperature is None else np.asarray(temperature, np.float64)
    x, base = np.resize(x, padded), np.resize(base, padded)
    out = np.empty((2, padded), x.dtype)
    _differences(temperature is not None)(x, base, np.resize(given, padded), out)
    return out[:, :size]


def logits(element, count, spread=None):
    rng = np.random.default_rng(0)
    sizes = 2.0 ** rng.uniform(-30, 30, (2, count)) if spread is None else spread
    return (rng.standard_normal((2, count)) * sizes).astype(element)


def worst(got, x, base, temperature):
    """The largest error of pairs, relative to exact quotients of 2**-20 to 2**20."""
    found = Fraction(0)
    for value, rest, a, b, t in zip(*got, x, base, temperature, strict=True):
        exact = (Fraction(float(a)) - Fraction(float(b))) / Fraction(float(t))
        if 2.0**-20 < abs(exact) < 2.0**20:
            error = abs((Fraction(float(value)) + Fraction(float(rest))) / exact - 1)
            found = max(found, error)
    return float(found)


@pytest.mark.parametrize("element", ELEMENTS)
def test_differences_are_exact_as_pairs(element):
    x, base = logits(element, 2000)
    value, rest = difference(x, base)
    np.testing.assert_array_equal(value, x - base)
    assert worst((value, rest), x, base, np.ones(x.size)) == 0


# The rest's own rounding, and that of 2 / temperature's rest: measured are 2**-46.7 and 2**-104.2.
BOUNDS = {"float32": 2.0**-46, "float64": 2.0**-103}


@pytest.mark.parametrize("element", ELEMENTS)
def test_quotients_are_right_to_twice_the_bits(element):
    x, base = logits(element, 2000)
    rng = np.random.default_rng(1)
    temperature = 2.0 ** rng.uniform(-20, 20, x.size)
    got = difference(x, base, temperature)
    assert worst(got, x, base, temperature) < BOUNDS[element]


@pytest.mark.parametrize("element", ELEMENTS)
def test_a_temperature_of_1_changes_no_bit(element):
    x, base = logits(element, 2000)
    np.testing.assert_array_equal(difference(x, base), difference(x, base, [1.0]))


RANGES = {"float32": (2.0**-250, 2.0**250), "float64": (2.0**-1000, 2.0**900)}


@pytest.mark.parametrize("element", ELEMENTS)
def test_quotients_by_temperatures_of_any_size(element):
    info = np.finfo(element)
    low, high = np.log2(RANGES[element])
    rng = np.random.default_rng(2)
    temperature = 2.0 ** rng.uniform(low, high, 4000)
    # logits of which the quotient is in the range, subnormal ones among them
    least, most = np.log2(float(info.smallest_subnormal)) + 1, np.log2(float(info.max)) - 2
    size = np.clip(np.log2(temperature) + rng.uniform(-20, 20, 4000), least, most)
    x = (rng.uniform(1, 2, 4000) * 2.0**size).astype(element)
    base = (x * rng.uniform(-2, 2, 4000)).astype(element)
    got = difference(x, base, temperature)
    assert np.isfinite(got[1][got[0] < np.inf]).all()
    assert worst(got, x, base, temperature) < BOUNDS[element]


@pytest.mark.parametrize("element", ELEMENTS)
def test_quotients_are_finite_as_far_as_the_type_reaches(element):
    most = float(np.finfo(element).max)
    low, high = np.log2(RANGES[element])
    temperature = 2.0 ** np.arange(low, high, 0.3)
    size = np.minimum(most, temperature * (most / 1.3 if element == "float32" else 2.0**100))
    x, base = np.zeros(size.size, element), size.astype(element)
    kept = base > 0
    value, rest = difference(x, base, temperature)
    quotient = -base.astype(np.longdouble) / temperature
    np.testing.assert_allclose(value[kept], quotient[kept], rtol=4 * np.finfo(element).eps)
    assert np.isfinite(rest).all()


@pytest.mark.parametrize("element", ELEMENTS)
def test_infinities_and_nan_have_no_rest(element):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -np.inf, np.inf, 1.0, -1.0], element)
    base = np.array([0.0, 0.0, 0.0, np.nan, np.inf, -np.inf, np.inf, -np.inf], element)
    expected = [np.inf, -np.inf, np.nan, np.nan, -np.inf, np.inf, -np.inf, np.inf]
    for temperature in (None, 0.3, 1.0, 1e-30, 1e30, *RANGES[element]):
        value, rest = difference(x, base, temperature)
        np.testing.assert_array_equal(value, expected)
        low = np.isfinite(x) | (x < 0)
        assert not rest[low & ~np.isnan(value) & (value < 0)].any()
    # what overflows is infinite, below; the largest is never above
    most = np.finfo(element).max
    value, rest = difference(np.array([-most, -most], element), np.array([most, 0], element), 1e-3)
    np.testing.assert_array_equal(value, -np.inf)
    np.testing.assert_array_equal(rest, 0)
