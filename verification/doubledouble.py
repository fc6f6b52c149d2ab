"""Arithmetic on unevaluated sums of two float64, on whole arrays: 106 bits, of which 75 are used.

A number is a pair (high, low) with abs(low) <= ulp(high) / 2. The long double of NumPy is not
used: it has 64 bits on x86, which is not enough for a float64 result within a hundredth of an
ULP, and 53 elsewhere.

Sources: T. J. Dekker, A floating-point technique for extending the available precision, Numer.
Math. 18 (1971); J.-M. Muller et al., Handbook of Floating-Point Arithmetic, 2nd ed. (2018),
chapters 4 and 14.
"""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np

Array = np.ndarray[Any, Any]
Double = tuple[Any, Any]  # of arrays, or of numbers that broadcast

_TABLE = 1024  # exp of k / 1024 * log(2), k from 0 to 1023
_SPLIT = 134217729.0  # 2**27 + 1


def split(value: mpmath.mpf) -> tuple[float, float]:
    """An mpmath number as a pair."""
    high = float(value)
    return high, float(value - high)


with mpmath.workprec(200):
    _powers = [split(mpmath.exp(mpmath.log(2) * k / _TABLE)) for k in range(_TABLE)]
    _POWER_HIGH = np.array([high for high, _ in _powers])
    _POWER_LOW = np.array([low for _, low in _powers])
    _step = mpmath.log(2) / _TABLE
    # log(2) / 1024 in three parts; the first has 32 bits, so that its product with an integer
    # below 2**21 is exact.
    _STEP_1 = float(mpmath.mpf(round(_step * 2**42)) / 2**42)
    _STEP_2, _STEP_3 = split(_step - _STEP_1)
    _ONE_OVER = {odd: split(mpmath.mpf(1) / odd) for odd in range(1, 50, 2)}


def two_sum(a: Any, b: Any) -> Double:
    """a + b exactly (Knuth)."""
    high = a + b
    part = high - a
    return high, (a - (high - part)) + (b - part)


def quick_two_sum(a: Any, b: Any) -> Double:
    """a + b exactly, where abs(a) >= abs(b) (Dekker)."""
    high = a + b
    return high, b - (high - a)


def two_product(a: Any, b: Any) -> Double:
    """a * b exactly, for numbers below 2**970 whose product is not tiny (Dekker)."""
    high = a * b
    scaled = _SPLIT * a
    a_high = scaled - (scaled - a)
    a_low = a - a_high
    scaled = _SPLIT * b
    b_high = scaled - (scaled - b)
    b_low = b - b_high
    return high, ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low


def add(a: Double, b: Double) -> Double:
    """a + b, within 2**-104 of the sum where both have one sign, and of the larger otherwise."""
    high, low = two_sum(a[0], b[0])
    return quick_two_sum(high, low + (a[1] + b[1]))


def multiply(a: Double, b: Double) -> Double:
    """a * b, within 2**-102."""
    high, low = two_product(a[0], b[0])
    return quick_two_sum(high, low + (a[0] * b[1] + a[1] * b[0]))


def divide(a: Double, b: Double) -> Double:
    """a / b, within 2**-101."""
    first = a[0] / b[0]
    high, low = two_product(first, b[0])
    rest = ((a[0] - high) - low) + (a[1] - first * b[1])
    return quick_two_sum(first, rest / b[0])


def total(terms: Double) -> Double:
    """The sum along the last axis, added in pairs: within 2**-98 for 64 million terms."""
    high, low = terms
    while high.shape[-1] > 1:
        length = high.shape[-1]
        half = length // 2
        sums = add(
            (high[..., :half], low[..., :half]),
            (high[..., half : 2 * half], low[..., half : 2 * half]),
        )
        if length % 2:
            last = add((sums[0][..., -1:], sums[1][..., -1:]), (high[..., -1:], low[..., -1:]))
            sums[0][..., -1:], sums[1][..., -1:] = last
        high, low = sums
    return high, low


def exponential(x: Double) -> tuple[Double, Array]:
    """exp of x in [-1400, 1400] as a pair in [0.999, 2.001] and a power of 2; within 2**-74.

    exp(x) = 2**(k / 1024) * exp(r), abs(r) <= log(2) / 2048 = 3.4e-4. The table and the product
    with 1 + r are pairs; r**2 / 2 and all after it are below 2**-24, rounded to float64: 2**-76.
    """
    steps = np.rint(x[0] * (1 / (_STEP_1 + _STEP_2)))
    # steps * _STEP_1 is exact, and so is the subtraction: both are near each other
    high, low = two_sum(x[0] - steps * _STEP_1, -steps * _STEP_2)
    low = low + (x[1] - steps * _STEP_3)
    # the low part of steps * _STEP_2: the product is below 2**-21, its rounding below 2**-75
    high, low = quick_two_sum(high, low)
    index = steps.astype(np.int64)
    place, exponent = index & (_TABLE - 1), index >> 10
    power = _POWER_HIGH[place], _POWER_LOW[place]
    tail = low + high * high * (
        0.5 + high * (1 / 6 + high * (1 / 24 + high * (1 / 120 + high / 720)))
    )
    product, product_low = two_product(power[0], high)
    small = product_low + (power[0] * tail + power[1] * (1 + high))
    first, rest = two_sum(power[0], product)
    return quick_two_sum(first, rest + small), exponent


def log1p(rest: Double) -> Double:
    """log(1 + rest) of rest >= 0, within 2**-73 of the result, however small."""
    high, low = rest
    small = high <= 1
    result = np.zeros_like(high), np.zeros_like(high)
    if small.any():
        # 2 atanh(s) = 2 (s + s**3 / 3 + ...), s = rest / (2 + rest) <= 1/3: 1/9 ** 24 < 2**-76
        here = high[small], low[small]
        s = divide(here, add((np.full_like(here[0], 2.0), np.zeros_like(here[0])), here))
        square = multiply(s, s)
        series = np.zeros_like(s[0]), np.zeros_like(s[0])
        for odd in range(49, 0, -2):
            series = add(multiply(series, square), _ONE_OVER[odd])
        log = multiply(s, series)
        result[0][small], result[1][small] = 2 * log[0], 2 * log[1]
    large = ~small
    if large.any():
        # Newton: y + (t exp(-y) - 1), and what is left of second order; the result is over 0.69
        t = add((high[large], low[large]), (np.ones(large.sum()), np.zeros(large.sum())))
        first = np.log(t[0])
        inverse, exponent = exponential((-first, np.zeros_like(first)))
        _, scale = np.frexp(t[0])
        scaled = np.ldexp(t[0], -scale), np.ldexp(t[1], -scale)
        near = multiply(scaled, inverse)
        near = np.ldexp(near[0], exponent + scale), np.ldexp(near[1], exponent + scale)
        change = (near[0] - 1) + near[1]
        log = two_sum(first, change - change * change / 2)
        result[0][large], result[1][large] = log
    return result
