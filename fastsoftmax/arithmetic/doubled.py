"""Pairs of float64 as numbers of twice its precision, for differences that nearly cancel.

M. Joldes, J.-M. Muller, V. Popescu, Tight and rigorous error bounds for basic building blocks of
double-word arithmetic, ACM Transactions on Mathematical Software 44 (2017), doi:10.1145/3121432.
"""

from __future__ import annotations

from fastsoftmax.arithmetic.lanes import Value, fma, from_bits, larger
from fastsoftmax.arithmetic.pairs import Pair, in_powers, two_sum


def normal(value: Value, rest: Value) -> Pair:
    """The sum of two, of which the first is the larger, as a pair."""
    total = value + rest
    return Pair(total, rest - (total - value))


def plus(a: Pair, b: Pair) -> Pair:
    """a + b, to 2**-104 of the sum, however much of it cancels."""
    total, left = two_sum(a.value, b.value)
    rest, least = two_sum(a.rest, b.rest)
    total, left = normal(total, left + rest)
    return normal(total, least + left)


def minus(a: Pair, b: Pair) -> Pair:
    """a - b, to 2**-104 of the difference."""
    return plus(a, Pair(-b.value, -b.rest))


def times(a: Pair, b: Pair) -> Pair:
    """a * b, to 2**-103."""
    value = a.value * b.value
    rest = fma(a.value, b.value, -value) + fma(a.value, b.rest, a.rest * b.value)
    return normal(value, rest)


def scaled(a: Pair, factor: Value) -> Pair:
    """A pair times a power of two."""
    return Pair(a.value * factor, a.rest * factor)


def inverse_power(k: Value) -> Value:
    """2**-k of integers from -1022 to 1022."""
    return from_bits((1023 - k) << 52)


def in_two_powers(a: Pair) -> tuple[Pair, Value]:
    """A pair as one whose value is 1 to 2, with its sign, and a power of two; see `in_powers`."""
    value, power = in_powers(a.value)
    # a subnormal number has no rest
    return Pair(value, a.rest * inverse_power(larger(power, -1022))), power
