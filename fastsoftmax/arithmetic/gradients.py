"""What is computed of rows for gradients: a sum of signed terms, then a result for each element.

    softmax_vjp      p (g - sum p g)        a is p, b is g
    log_softmax_vjp  g - exp(log p) sum g   a is log p, b is g
    logsumexp_vjp    g exp(x) / sum exp x   a is x, of g there is one a row

Everything is computed in float64, whatever is stored: there a product of two float32 is exact, and
that of two float64 is a pair. Terms are counted on grids below the power of the largest one, so
their sum has no order. It is a pair, and so is what is left of a difference however much of it
cancels: a result is rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastsoftmax.arithmetic.lanes import (
    Value,
    bits_of,
    fma,
    from_bits,
    larger,
    select,
    smaller,
    to_integer,
    to_real,
)
from fastsoftmax.arithmetic.normalizer import INFINITY, Row, quotient, row_of, term_of
from fastsoftmax.arithmetic.pairs import (
    Constants,
    Pair,
    Term,
    exponential,
    in_powers,
    product,
    shift_by,
    two_sum,
)


class Gradient(NamedTuple):
    """What is added up of a row, and what is made of the sum."""

    #: What stands in ``a`` for an element that is masked; in ``b`` it is 0.
    absent: float
    #: Below the largest of these lie the grids, and what it is of no element.
    size: Callable[[Value, Value], Value]
    none: float
    #: What terms are computed with, from the largest size; and a term.
    prepared: Callable[[Value, Constants], Any]
    term: Callable[[Value, Value, Any, Constants], Term]
    #: What results are made with, from the total (NaN added to its value where the row holds what
    #: is not finite) and the row's own number; and a result.
    finish: Callable[[Pair, Any, Value | None, Constants], Any]
    result: Callable[[Value, Value, Any, Any, Constants], Value]
    #: Whether there is one number of ``b`` for each row.
    by_row: bool = False


# Logarithms beyond are of what is 0 or infinite, whatever float64 it is multiplied by.
_FARTHEST = 1600.0


def _power(n: Value) -> Value:
    """2**n of integers in float64, from -1022 to 1023."""
    return from_bits((to_integer(n) + 1023) << 52)


def _halves(n: Value) -> tuple[Value, Value]:
    """2**n in two factors, as it need not be a float64."""
    half = to_real(to_integer(n * 0.5))
    return _power(half), _power(n - half)


def _scaled(pair: Pair, n: Value) -> Pair:
    """A pair times 2**n, 0 or infinite where that is beyond float64.

    The pair may have the scale of grids, and 2**-1400 is nothing of it.
    """
    first, second = _halves(smaller(larger(n, -1400.0), 1400.0))
    return Pair(pair.value * first * second, pair.rest * first * second)


def _finite(rest: Value) -> Value:
    """The rest of a difference, of which an infinite one has none."""
    return select(rest == rest, rest, 0.0)


class _Scaling(NamedTuple):
    """The power of the largest term, and two factors that bring it to the scale of the grids."""

    power: Value
    first: Value
    second: Value


def _scaling(largest: Value, c: Constants) -> _Scaling:
    power = larger(to_real((bits_of(largest) >> 52) - 1023), -1022.0)
    return _Scaling(power, *_halves(float(c.scale) - power))


def _counted(value: Value, rest: Value, by: _Scaling) -> Term:
    value = value * by.first * by.second
    return Term(value, value, rest * by.first * by.second)


def _magnitude(x: Value) -> Value:
    return from_bits(bits_of(x) & 0x7FFFFFFFFFFFFFFF)


# --- softmax -------------------------------------------------------------------------------------


def _product(p: Value, g: Value, by: _Scaling, c: Constants) -> Term:
    value = p * g
    return _counted(value, fma(p, g, -value), by)


def _mean(total: Pair, by: _Scaling, _: Value | None, c: Constants) -> Pair:
    power = _power(by.power)
    return Pair(total.value * power, total.rest * power)


def _times_difference(p: Value, g: Value, s: Pair, _: _Scaling, c: Constants) -> Value:
    """p (g - s)."""
    high, low = two_sum(g, -s.value)
    low = _finite(low - s.rest)
    value = high + low
    return fma(p, value, p * _finite(low - (value - high)))


SOFTMAX = Gradient(
    absent=0.0, size=lambda p, g: _magnitude(p * g), none=0.0, prepared=_scaling, term=_product,
    finish=_mean, result=_times_difference,
)  # fmt: skip


# --- log_softmax ---------------------------------------------------------------------------------


class _Share(NamedTuple):
    """What exponentials are multiplied by: a pair, and a power of two."""

    value: Value
    rest: Value
    power: Value


def _of_share(z: Value, share: _Share, c: Constants) -> Pair:
    """exp(z) times a share, each over a power of its own, so that none leaves the range early."""
    z = select(z < -_FARTHEST, -_FARTHEST, z)  # NaN stays
    z = select(z > _FARTHEST, _FARTHEST, z)
    n = _rounded_power(z, c)
    term = product(exponential(z, None, shift_by(n, c), c), share.value, share.rest)
    return _scaled(Pair(term.e, term.lo), n + (share.power - float(c.scale)))


def _rounded_power(z: Value, c: Constants) -> Value:
    """The integer n of which 2**n is next to exp(z)."""
    return fma(z, c.to_power, c.to_integer) - c.to_integer


def _less_share(log_p: Value, g: Value, s: _Share, _: _Scaling, c: Constants) -> Value:
    """g - exp(log_p) s."""
    taken = _of_share(log_p, s, c)
    value, rest = two_sum(g, -taken.value)
    return value + _finite(rest - taken.rest)


LOG_SOFTMAX = Gradient(
    absent=0.0, size=lambda log_p, g: _magnitude(g), none=0.0, prepared=_scaling,
    term=lambda log_p, g, by, c: _counted(g, g * 0.0, by),
    finish=lambda total, by, _, c: _Share(*total, by.power), result=_less_share,
)  # fmt: skip


# --- logsumexp -----------------------------------------------------------------------------------


def _row_share(total: Pair, row: Row, g: Value | None, c: Constants) -> _Share:
    """g over the row's total; NaN where either is not finite."""
    assert g is not None
    mantissa, power = in_powers(g)
    value, rest = quotient(Pair(select(g == 0.0, 0.0, mantissa), g * 0.0), total)
    value = value + (row.top - row.top) + (g - g)
    return _Share(value, rest, to_real(power) - _rounded_power(row.top - row.off, c))


def _of_row(x: Value, _: Value, share: _Share, row: Row, c: Constants) -> Value:
    value, rest = _of_share(x - row.off, share, c)
    return value + rest


LOGSUMEXP = Gradient(
    absent=-INFINITY, size=lambda x, _: x, none=-INFINITY,
    prepared=lambda top, c: row_of(top, None, None, c),
    term=lambda x, _, row, c: term_of(x, row, c), finish=_row_share, result=_of_row, by_row=True,
)  # fmt: skip

#: Each by the name of its function.
GRADIENTS = {
    "softmax_vjp": SOFTMAX,
    "log_softmax_vjp": LOG_SOFTMAX,
    "logsumexp_vjp": LOGSUMEXP,
}
