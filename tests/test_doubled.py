"""Pairs of float64 as numbers of twice its precision: against fractions."""

from fractions import Fraction

import numpy as np
from generated import generated

from fastsoftmax.arithmetic import doubled
from fastsoftmax.arithmetic.doubled import in_two_powers, scaled
from fastsoftmax.arithmetic.lanes import DOUBLE, number, to_real
from fastsoftmax.arithmetic.pairs import Pair


def drawn(count):
    """Pairs of any powers, of which many nearly cancel: values and rests, and as fractions."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, count)) * 2.0 ** rng.integers(-200, 200, (2, count))
    b = np.where(
        np.arange(count) % 2 == 0, np.nextafter(a, rng.choice([-np.inf, np.inf], count)), b
    )
    b = np.where(np.arange(count) % 4 == 0, a, b)
    rests = rng.uniform(-1, 1, (2, count)) * np.spacing(np.abs([a, b])) / 2
    rests *= 2.0 ** -rng.integers(0, 30, (2, count))
    return np.array([a, rests[0], b, rests[1]])


def exactly(value, rest):
    return [Fraction(float(v)) + Fraction(float(r)) for v, r in zip(value, rest, strict=True)]


def computed(of, given):
    """A pair of what is made of two pairs, eight at a time."""

    @generated
    def run(given, out):
        for at in range(0, width, 8):
            a, a_rest, b, b_rest = (given.load((line, at), 8) for line in range(4))
            for line, value in enumerate(of(Pair(a, a_rest), Pair(b, b_rest))):
                out.store((line, at), value)

    width = given.shape[1]
    out = np.empty((2, width))
    run(given, out)
    return out


def test_sums_differences_and_products_to_twice_the_precision():
    given = drawn(160)
    a, b = exactly(*given[:2]), exactly(*given[2:])
    for of, true in (
        (doubled.plus, [x + y for x, y in zip(a, b, strict=True)]),
        (doubled.minus, [x - y for x, y in zip(a, b, strict=True)]),
        (doubled.times, [x * y for x, y in zip(a, b, strict=True)]),
    ):
        got = computed(of, given)
        for value, right in zip(exactly(*got), true, strict=True):
            assert abs(value - right) <= abs(right) / 2**103, of.__name__
        assert (got[0] == got[0] + got[1]).all()


def test_pairs_times_powers_and_in_powers():
    given = drawn(64)
    given[:, 0] = [2.0**-1060 * 3, 0, 0, 0]  # subnormal

    def parts(a, b):
        mantissa, power = in_two_powers(a)
        return Pair(mantissa.value + mantissa.rest * 0.0, to_real(power))

    value, power = computed(parts, given)
    assert ((np.abs(value) >= 1) & (np.abs(value) < 2)).all()
    np.testing.assert_array_equal(np.ldexp(value, power.astype(int)), given[0])
    value, rest = computed(lambda a, b: in_two_powers(a)[0], given)
    np.testing.assert_array_equal(np.ldexp(rest, power.astype(int)), given[1])
    eighth = computed(lambda a, b: scaled(a, number(0.125, DOUBLE, 8)), given)
    np.testing.assert_array_equal(eighth, given[:2] / 8)
