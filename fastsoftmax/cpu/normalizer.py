"""The normalizer of a row: (shift, total), how it is gathered and used.

shift is the largest logit and total the sum of exp((x - shift) / temperature), carried as
``ones + high + low`` and scaled as the exponentials are. ``ones`` are the terms that are exactly
1, where log(total) is wanted: it needs total - 1, which is all that [40, 0] leaves behind in
float64. The others' sum has two parts, because ten million float64 must not drift.

Everything works on scalars (a row against its one shift) and on lanes (eight columns against
their eight shifts). The reciprocal's ``inverse_error`` says which arithmetic is meant: None
means float64 arithmetic for a narrower type, a number means float64 with its rounding errors.
"""

from __future__ import annotations

from typing import Any

from numba import types

from fastsoftmax.cpu.exponential import (
    SCALE_EXPONENT,
    logarithm,
    two_sum,
)
from fastsoftmax.cpu.jit import chosen, inlined
from fastsoftmax.cpu.lanes import fma, from_bits, lane, rotated, select, wide

INFINITY = float("inf")
_NAN = float("nan")
_LARGEST = 1.7976931348623157e308


@chosen
def reciprocal(array: Any, temperature: Any) -> Any:
    """What a difference of logits is multiplied by to divide it by the temperature."""

    def narrow(array: Any, temperature: Any) -> Any:
        return 1.0 / temperature, None

    def double(array: Any, temperature: Any) -> Any:
        # Differences are taken of halves, which cannot overflow: hence 2 / temperature.
        inverse = 2.0 / temperature
        return inverse, fma(-inverse, temperature, 2.0) * (inverse * 0.5)

    return double if array.dtype == types.float64 else narrow


@chosen
def distance(x: Any, shift: Any, inverse: Any, inverse_error: Any) -> Any:
    """(x - shift) / temperature, and what its rounding left out.

    The subtraction alone would cost 40 ULP of the exponential at -40. For narrower types, whose
    difference float64 holds well enough, it is x - shift: what uses it divides as it goes.
    """

    def narrow(x: Any, shift: Any, inverse: Any, inverse_error: Any) -> Any:
        return wide(x) - shift, None

    def double(x: Any, shift: Any, inverse: Any, inverse_error: Any) -> Any:
        a = x * 0.5
        b = shift * 0.5
        difference = a - b
        shifted = difference - a
        error = (a - (difference - shifted)) - (b + shifted)
        t = difference * inverse
        rest = fma(difference, inverse, -t) + fma(difference, inverse_error, error * inverse)
        return t, select(t < -_LARGEST, 0.0, rest)

    return narrow if inverse_error is types.none else double


@inlined
def anchor(shift: Any) -> Any:
    """The shift itself, or 0 where it is infinite: then x - shift is no NaN for finite x."""
    return select(shift < INFINITY, select(shift > -INFINITY, shift, 0.0), 0.0)


@inlined
def unit_exponent(weight: Any, inverse_error: Any) -> Any:
    """log2 of what a total of 1 is carried as. Weights may be huge: theirs is not scaled."""
    if weight is not None or inverse_error is None:
        return 0
    else:
        return SCALE_EXPONENT


@chosen
def is_one(t: Any, apart: Any) -> Any:
    """Which exponentials are exactly 1, where these are wanted apart; else None."""
    if apart is types.none:
        return lambda t, apart: None
    return lambda t, apart: t == 0.0


@inlined
def add_term(sums: Any, e: Any, e_error: Any, one: Any, weight: Any, inverse_error: Any) -> Any:
    """Sums (ones, high, low) with one more exponential in them.

    ``one`` says which are exactly 1; None: not wanted apart. Only float64 needs ``low``, what
    its additions left out.
    """
    ones, high, low = sums
    if inverse_error is None:
        term = e if weight is None else weight * e
        if one is None:
            return ones, high + term, low
        else:
            # sums that are kept, not terms that are 0: with AVX-512 that is part of the addition
            return select(one, ones + term, ones), select(one, high, high + term), low
    else:
        if weight is None:
            term, rest = e, e_error
        else:
            e = e * 2.0**-SCALE_EXPONENT
            term = weight * e
            rest = fma(weight, e, -term) + weight * (e_error * 2.0**-SCALE_EXPONENT)
        if one is None:
            total, error = two_sum(high, term)
            return ones, total, low + (error + rest)
        else:
            # the rest of an exponential that is exactly 1 is 0
            total, error = two_sum(high, select(one, 0.0, term))
            return ones + select(one, term, 0.0), total, low + (error + rest)


@inlined
def add_sums(a: Any, b: Any, inverse_error: Any) -> Any:
    """Two sums as one."""
    if inverse_error is None:
        return a[0] + b[0], a[1] + b[1], a[2]
    else:
        total, error = two_sum(a[1], b[1])
        return a[0] + b[0], total, (a[2] + b[2]) + error


@inlined
def add_normal(a: Any, b: Any, inverse_error: Any) -> Any:
    """Two sums as one total, whose ``low`` is what ``high`` left out."""
    ones, high, low = add_sums(a, b, inverse_error)
    if inverse_error is None:
        return ones, high, low
    else:
        high, low = _normal(high, low)
        return ones, high, low


@inlined
def _halves(sums: Any, half: int) -> Any:
    return rotated(sums[0], half), rotated(sums[1], half), rotated(sums[2], half)


@inlined
def total_of_lanes(sums: Any, inverse_error: Any) -> Any:
    """The eight sums of lanes as one total (ones, high, low), always in the order of a tree."""
    sums = add_sums(sums, _halves(sums, 4), inverse_error)
    sums = add_sums(sums, _halves(sums, 2), inverse_error)
    ones, high, low = add_normal(sums, _halves(sums, 1), inverse_error)
    return lane(ones, 0), lane(high, 0), lane(low, 0)


@inlined
def _normal(high: Any, low: Any) -> Any:
    """The same sum, ``low`` being what ``high`` left out; where weights cancel it is all."""
    total, rest = two_sum(high, finite_rest(high, low))
    return total, finite_rest(total, rest)


@inlined
def in_two_parts(total: Any) -> Any:
    """A total (ones, high, low) in two parts."""
    ones, high, low = total
    value, error = two_sum(ones, high)
    return value, finite_rest(value, error + low)


@inlined
def logarithm_of(total: Any, scale: Any) -> Any:
    """log(total / 2**scale) as a rounded value and the rest.

    Where one term is 1 and the others are next to nothing, they are never added to it: that would
    round log(1 + 2**-52.7) four times more, 1.15 ULP in all instead of 0.75.
    """
    ones, high, low = total
    value, rest = logarithm(*in_two_parts(total), scale)
    one, unit = from_bits((1023 + scale) << 52), from_bits((1023 - scale) << 52)
    others, left = high * unit, low * unit
    alone = select(ones == one, others, 1.0) < 2.0**-30
    return select(alone, others, value), select(alone, fma(others * -0.5, others, left), rest)


@inlined
def finite_rest(high: Any, low: Any) -> Any:
    """The rest of a total; an infinite one has none."""
    return select(high < INFINITY, select(high > -INFINITY, low, 0.0), 0.0)


@inlined
def infinite_term(x: Any, weight: Any) -> Any:
    """What a logit adds to the total of a block whose shift is infinite: inf, NaN or nothing."""
    value = wide(x)
    term = select(value == INFINITY, INFINITY, select(value == value, 0.0, _NAN))
    if weight is None:
        return term
    else:
        return select(weight == 0.0, 0.0, term * weight)


@chosen
def reciprocal_total(total: Any, inverse_error: Any) -> Any:
    """1 / total, unscaled, in one or two numbers; NaN where it is 0, infinite or NaN."""

    def narrow(total: Any, inverse_error: Any) -> Any:
        c = 1.0 / total[1]
        return select(c > 0.0, select(c < INFINITY, c, _NAN), _NAN), 0.0

    def double(total: Any, inverse_error: Any) -> Any:
        high, low = total[1] * 2.0**-SCALE_EXPONENT, total[2] * 2.0**-SCALE_EXPONENT
        c = 1.0 / high
        c_low = c * (fma(-c, high, 1.0) - c * low)
        return select(c > 0.0, select(c < INFINITY, c, _NAN), _NAN), c_low

    return narrow if inverse_error is types.none else double


@inlined
def probability(e: Any, c: Any, c_low: Any, inverse_error: Any) -> Any:
    """An exponential times 1 / total."""
    if inverse_error is None:
        return e * c
    else:
        # The scale is taken off last, exactly, or with the one rounding of a subnormal result.
        # Were it in c, e * c_low would be subnormal for results just above that range, and
        # 0.5 ULP off.
        return fma(fma(e, c, e * c_low), 2.0**-SCALE_EXPONENT, 0.0)


@chosen
def wants_ones(weight: Any) -> Any:
    """Whether the terms that are 1 are summed apart for a logarithm: not where terms cancel."""
    if weight is types.none:
        return lambda weight: True
    return lambda weight: None


@inlined
def log_probability(t: Any, t_error: Any, inverse: Any, log_total: Any, error: Any) -> Any:
    """t - log(total); neither is positive once negated, so nothing cancels."""
    if t_error is None:
        return fma(t, inverse, -log_total)
    else:
        return t - (log_total + (error - t_error))


@inlined
def logsumexp_of(shift: Any, total: Any, scale: Any) -> Any:
    """shift + log(total / 2**scale), rounded once however much of it cancels."""
    log_total, log_total_error = logarithm_of(total, scale)
    value, error = two_sum(shift, log_total)
    exact = value + (error + log_total_error)
    return select(value < INFINITY, select(value > -INFINITY, exact, value), value)
