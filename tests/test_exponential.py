"""exp and log: their polynomials derived again, their bounds measured."""

import mpmath
import numpy as np
import pytest
from numba import njit

from fastsoftmax.cpu import exponential

mpmath.mp.prec = 160
EDGE = mpmath.mpf("0.3467")


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


def series(ratio, first):
    """The sum of a power series by its coefficients ``ratio(k)`` from ``first``."""
    return lambda r: mpmath.fsum(ratio(k + first) * r**k for k in range(70))


LOG2 = mpmath.log(2)
POLYNOMIALS = {
    "exp": (
        exponential.EXP_COEFFICIENTS,
        series(lambda k: 1 / mpmath.factorial(k), 2),
        -EDGE,
        EDGE,
    ),
    "exp2": (
        exponential.EXP2_COEFFICIENTS,
        series(lambda k: mpmath.log(2) ** k / mpmath.factorial(k), 1),
        mpmath.mpf("-0.5001"),
        mpmath.mpf("0.5001"),
    ),
    "log": (
        exponential.LOG_COEFFICIENTS,
        series(lambda k: mpmath.mpf(2) / (2 * k + 1), 1),
        mpmath.mpf(0),
        mpmath.mpf("0.0295"),
    ),
}


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_coefficients_are_those_of_the_interpolation(name):
    coefficients, function, low, high = POLYNOMIALS[name]
    with mpmath.workprec(300):
        derived = chebyshev(function, len(coefficients) - 1, low, high)
    assert coefficients == tuple(map(float, derived))


@njit(error_model="numpy")
def exp_pair(t, t_error, out):
    for i in range(len(t)):
        out[i] = exponential.exponential(t[i], t_error[i], 1.0, None)


@njit(error_model="numpy")
def exp_narrow(t, out):
    constants = exponential._narrow_constants()
    for i in range(len(t)):
        out[i], _ = exponential.exponential(t[i], None, 1.0, constants)


@njit(error_model="numpy")
def log_pair(high, low, scale, out):
    for i in range(len(high)):
        out[i] = exponential.logarithm(high[i], low[i], scale)


def worst(pairs, true):
    return max(
        float(abs((mpmath.mpf(a) + mpmath.mpf(b)) / exact - 1))
        for (a, b), exact in zip(pairs, true, strict=True)
    )


def test_exp_of_two_numbers_is_right_to_0_22_ulp():
    rng = np.random.default_rng(0)
    t = -np.concatenate([rng.uniform(0, 1, 3000), rng.uniform(0, 740, 3000), [0.0, 1e-300]])
    t_error = t * rng.uniform(-1, 1, len(t)) * 2**-53
    out = np.empty((len(t), 2))
    exp_pair(t, t_error, out)
    scale = mpmath.mpf(2) ** exponential.SCALE_EXPONENT
    true = [
        mpmath.exp(mpmath.mpf(a) + mpmath.mpf(b)) * scale for a, b in zip(t, t_error, strict=True)
    ]
    assert worst(out, true) < 2**-55.2


def test_exp_for_narrow_types_is_right_to_27_bits():
    t = -np.concatenate([np.linspace(0, 1, 3000), np.linspace(0, 130, 3000)])
    out = np.empty(len(t))
    exp_narrow(t, out)
    assert worst(((v, 0.0) for v in out), [mpmath.exp(mpmath.mpf(v)) for v in t]) < 2**-27.5


def test_exp_at_its_ends():
    t = np.array([0.0, -769.9, -770.1, -1e300, -np.inf, np.nan])
    out = np.empty((len(t), 2))
    exp_pair(t, np.zeros(len(t)), out)
    assert out[0, 0] == 2.0**exponential.SCALE_EXPONENT
    assert out[1, 0] > 0
    np.testing.assert_array_equal(out[2:, 0], [0, 0, 0, np.nan])
    narrow = np.empty(len(t))
    exp_narrow(np.array([0.0, -130.9, -131.5, -1e300, -np.inf, np.nan]), narrow)
    assert narrow[0] == 1
    assert narrow[1] > 0
    np.testing.assert_array_equal(narrow[2:], [0, 0, 0, np.nan])


def test_log_of_two_numbers_is_right_to_56_bits():
    rng = np.random.default_rng(0)
    high = np.concatenate(
        [rng.uniform(1, 3, 3000), 2 ** rng.uniform(-1000, 1000, 2000), [5e-324, 1e-310]]
    )
    low = high * rng.uniform(-1, 1, len(high)) * 2**-53
    out = np.empty((len(high), 2))
    log_pair(high, low, 0, out)
    true = [mpmath.log(mpmath.mpf(a) + mpmath.mpf(b)) for a, b in zip(high, low, strict=True)]
    assert worst(out, true) < 2**-56


def test_log_next_to_one_keeps_what_is_left_of_one():
    low = np.array([1e-17, 1e-100, 1e-300, 5e-324])
    out = np.empty((4, 2))
    log_pair(np.ones(4), low, 0, out)
    np.testing.assert_array_equal(out[:, 0], low)
    scale = 2.0**exponential.SCALE_EXPONENT
    log_pair(np.full(4, scale), low * scale, exponential.SCALE_EXPONENT, out)
    np.testing.assert_array_equal(out[:, 0], low)


def test_log_at_its_ends():
    out = np.empty((3, 2))
    log_pair(np.array([0.0, np.inf, np.nan]), np.zeros(3), 0, out)
    np.testing.assert_array_equal(out[:, 0], [-np.inf, np.inf, np.nan])


@njit
def two_sum(a, b):
    return exponential.two_sum(a, b)


def test_two_sum_leaves_nothing_out():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        a, b = (float(v) for v in rng.standard_normal(2) * 2.0 ** rng.integers(-60, 60, 2))
        total, error = two_sum(a, b)
        assert total == a + b
        assert mpmath.mpf(a) + mpmath.mpf(b) == mpmath.mpf(total) + mpmath.mpf(error)
