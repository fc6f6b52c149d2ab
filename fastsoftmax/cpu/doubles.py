"""Pairs of float64 in plain Numba code: a value and the rest that its rounding left out.

What reads one row's few numbers one after the other, and needs twice float64's precision: 2**-100
and better, relative to the result, for all that is here (beyond float64's range, what float64 has).
Nothing is taken from a system's library of mathematics: bits are the same everywhere.

Source: T. J. Dekker, A floating-point technique for extending the available precision, Numerische
Mathematik 18 (1971), doi:10.1007/BF01397083.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from fastsoftmax.arithmetic.pairs import LOG_COEFFICIENTS
from fastsoftmax.cpu import compiler

Pair = tuple[float, float]

_Code = TypeVar("_Code", bound=Callable[..., Any])


def plain(function: _Code) -> _Code:
    """What Numba compiles for the kernels that call it."""
    compiled: _Code = njit(**compiler.OPTIONS)(function)
    return compiled


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), emit


@plain
def two_sum(a: float, b: float) -> Pair:
    """a + b, exactly."""
    total = a + b
    shifted = total - a
    return total, (a - (total - shifted)) + (b - shifted)


@plain
def normal(high: float, low: float) -> Pair:
    """The same pair with the sum as its value; ``high`` is the larger one, or 0."""
    total = high + low
    return total, low - (total - high)


@plain
def added(a: float, a_rest: float, b: float, b_rest: float) -> Pair:
    """a + b. What cancels is exact: only the rests' sum is rounded."""
    high, low = two_sum(a, b)
    rest, left = two_sum(a_rest, b_rest)
    high, low = normal(high, low + rest)
    return normal(high, low + left)


@plain
def times(a: float, a_rest: float, b: float, b_rest: float) -> Pair:
    """a * b."""
    high = a * b
    return normal(high, fma(a, b, -high) + (a * b_rest + a_rest * b))


@plain
def over(a: float, a_rest: float, b: float, b_rest: float) -> Pair:
    """a / b."""
    high = a / b
    if high - high != 0.0:
        return high, 0.0
    product, low = times(high, 0.0, b, b_rest)
    left, rest = added(a, a_rest, -product, -low)
    second = left / b
    return normal(high, second + (fma(-second, b, left) + rest) / b)


@plain
def power_of_two(n: int) -> float:
    """2**n, for n from -1022 to 1023."""
    return np.int64((n + 1023) << 52).view(np.float64)


_LN2 = 0.6931471805599453
_LN2_REST = 2.3190468138462996e-17
_LN2_LEFT = 5.707708438416212e-34
# 1 / k! from k = 14 down: to 2**-53 of exp(r) - 1 for r up to log(2) / 2.
_QUICK = tuple(1 / math.factorial(k) for k in range(14, 1, -1))
# exp(r) - 1 - r for r up to log(2) / 128: terms beyond the fifth need 53 bits, and those before it
# are pairs, of 1 / k!, the thirds of which are no numbers of float64.
_TAIL = tuple(1 / math.factorial(k) for k in range(11, 5, -1))
_SERIES = tuple(
    (1 / n, float.fromhex(rest))
    for n, rest in (
        (120, "0x1.1111111111111p-63"),
        (24, "0x1.5555555555555p-59"),
        (6, "0x1.5555555555555p-57"),
        (2, "0x0p+0"),
    )
)


@plain
def quick_exp(x: float) -> float:
    """exp(x) to 2**-51 of it; 0 below its range."""
    if x < -745.0:
        return 0.0
    n = np.rint(x / _LN2)
    r = fma(-n, _LN2_REST, fma(-n, _LN2, x))
    total = 0.0
    for coefficient in _QUICK:
        total = fma(total, r, coefficient)
    return math.ldexp(1.0 + fma(total * r, r, r), int(n))


@plain
def exp(x: float, rest: float) -> Pair:
    """exp(x + rest); 0 below float64's range, infinity beyond it."""
    if not x < 710.0:
        return (math.inf, 0.0) if x >= 710.0 else (x, 0.0)
    if x < -760.0:
        return 0.0, 0.0
    n = np.rint(x / _LN2)
    high, low = times(n, 0.0, _LN2, _LN2_REST)
    r, r_rest = added(x, rest, -high, -low - n * _LN2_LEFT)
    r, r_rest = r * 0.015625, r_rest * 0.015625
    tail = 0.0
    for coefficient in _TAIL:
        tail = fma(tail, r, coefficient)
    high, low = tail, 0.0
    for value, value_rest in _SERIES:
        high, low = times(high, low, r, r_rest)
        high, low = added(value, value_rest, high, low)
    square, square_rest = times(r, r_rest, r, r_rest)
    high, low = times(high, low, square, square_rest)
    high, low = added(r, r_rest, high, low)
    for _ in range(6):  # exp(2 r) - 1 = (exp(r) - 1) (2 + (exp(r) - 1))
        square, square_rest = times(high, low, high, low)
        high, low = added(2.0 * high, 2.0 * low, square, square_rest)
    high, low = added(1.0, 0.0, high, low)
    return math.ldexp(high, int(n)), math.ldexp(low, int(n))


@plain
def quick_log(x: float) -> float:
    """log(x) of a positive number to 2**-51 of it or so, absolute next to 1."""
    shift = 0
    if x < 2.2250738585072014e-308:  # the smallest normal number
        x, shift = x * 2.0**54, 54
    bits = np.float64(x).view(np.int64)
    n = (bits - 0x3FE6A09E667F3BCD) >> 52
    m = np.int64(bits - (n << 52)).view(np.float64)  # sqrt(1/2) <= m < sqrt(2)
    s = (m - 1.0) / (m + 1.0)
    w = s * s
    total = 0.0
    for coefficient in LOG_COEFFICIENTS[::-1]:
        total = fma(total, w, coefficient)
    result: float = (n - shift) * _LN2 + fma(s * w, total, 2.0 * s)
    return result


@plain
def log(x: float, rest: float) -> Pair:
    """log(x + rest) of a positive number below 2**900, to 2**-97: a quick one and Newton's step."""
    near = quick_log(x)
    if x < 1e-280:  # whose rest may be none, and whose reciprocal is infinite
        value, low = log_near(x * 2.0**200, rest * 2.0**200, near + 200 * _LN2)
        high, left = times(-200.0, 0.0, _LN2, _LN2_REST)
        return added(value, low, high, left)
    return log_near(x, rest, near)


@plain
def log_near(x: float, rest: float, near: float) -> Pair:
    """log(x + rest) from a number next to it."""
    high, low = exp(-near, 0.0)
    high, low = times(x, rest, high, low)
    high, low = added(high, low, -1.0, 0.0)
    return added(near, 0.0, high, low - 0.5 * high * high)


@plain
def quick_power(x: float, exponent: float) -> float:
    """x**exponent of what is not negative, to 2**-50 and the exponent's 2**-52 of it or so."""
    if exponent == 1.0:
        return x
    if exponent == 2.0:
        return x * x
    return 0.0 if x == 0.0 else quick_exp(exponent * quick_log(x))


@plain
def power(x: float, rest: float, exponent: float, exponent_rest: float) -> Pair:
    """(x + rest)**exponent of what is not negative; 0 of 0."""
    if exponent_rest == 0.0:
        if exponent == 1.0:
            return x, rest
        if exponent == 2.0:
            return times(x, rest, x, rest)
        if exponent == 0.0:
            return 1.0, 0.0
    if x == 0.0:
        return 0.0, 0.0
    high, low = log(x, rest)
    high, low = times(high, low, exponent, exponent_rest)
    return exp(high, low)
