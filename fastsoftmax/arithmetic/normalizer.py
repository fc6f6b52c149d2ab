"""The normalizer of a row: (shift, total), how it is gathered and used.

shift is a power of two, that of the row's largest term, so that taking it off is exact; total is
the sum of the terms as counts of fixed grids' steps (pairs.py). Logarithms need what is next
to 1 in a total of almost 1, all that [40, 0] leaves behind. For them one of the largest terms is
kept apart: no logit counts as more than the second largest, whose power is the shift, and one such
term is taken from the total.

Everything here works on lanes: a row's numbers spread, or those of rows side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir

from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    FLOAT,
    State,
    Value,
    bits_of,
    fma,
    from_bits,
    larger,
    like,
    narrowed,
    select,
    smaller,
    wide,
)
from fastsoftmax.arithmetic.pairs import (
    Constants,
    Pair,
    Sums,
    Term,
    add_terms,
    counts_of,
    exponential,
    logarithm,
    product,
    shift_of,
    totals_of,
    two_sum,
)

INFINITY = math.inf
NAN = math.nan
# Differences beyond are infinite, or next to it: then there is no rest.
_LARGEST = {FLOAT: 3e38, DOUBLE: 1.7e308}


class Times(NamedTuple):
    """What differences are multiplied by to be divided by a temperature.

    Its own power of two, taken off first, and what is left of its inverse, 1 to 2, in two parts:
    a product overflows where the quotient does.
    """

    inverse: Value
    rest: Value
    scale: Value
    # Halves cannot overflow when they are subtracted. Below 1 the quotient would overflow, too, and
    # halves of subnormal numbers are rounded.
    half: Value

    @property
    def one(self) -> Value:
        """Whether the temperature is 1."""
        return (self.inverse == 2.0) & (self.rest == 0.0) & (self.scale * self.half == 0.5)


class Row(NamedTuple):
    """What a row's terms are computed with."""

    off: Value  # what is taken off each logit, exactly
    lowest: Value  # below it a difference is as good as nothing
    shift: Value  # see `shift_of`
    top: Value  # the largest logit
    second: Value | None  # the second largest, where one of the largest terms is apart
    times: Times | None
    scale: Value | None = None  # what results are multiplied by, where they are


def in_two(pair: Pair, element: ir.Type) -> Pair:
    """A pair of float64 as one of another element."""
    high = narrowed(pair.value, element)
    left = pair.value - wide(high)
    return Pair(high, narrowed(select(left == left, left, 0.0) + pair.rest, element))


def times_of(temperature: Value, element: ir.Type) -> Times:
    """What divides by temperatures of float64, from 2**-1000 (float32: 2**-249) to 2**900."""
    power = from_bits((2046 << 52) - (bits_of(temperature) & 0x7FF0000000000000))
    if element == FLOAT:
        power = smaller(larger(power, 2.0**-126), 2.0**126)
    divisor = temperature * power
    inverse = 2.0 / divisor
    rest = fma(-inverse, divisor, 2.0) * (inverse * 0.5)
    half = select(temperature < 1.0, like(1.0, power), 0.5)
    scale = power * 0.5 / half
    return Times(
        *in_two(Pair(inverse, rest), element), *(narrowed(v, element) for v in (scale, half))
    )


def difference(x: Value, base: Value, times: Times | None) -> Pair:
    """(x - base) / temperature."""
    if times is None:
        t = x - base
        shifted = t - x
        rest = (x - (t - shifted)) - (base + shifted)
    else:
        a, b = x * times.half, base * times.half
        d = a - b
        shifted = d - a
        error = ((a - (d - shifted)) - (b + shifted)) * times.scale
        d = d * times.scale
        t = d * times.inverse
        rest = fma(d, times.inverse, -t) + fma(d, times.rest, error * times.inverse)
    return Pair(t, select(t > -_LARGEST[t.element], rest, 0.0))


def _scaled(x: Value, off: Value, times: Times | None) -> tuple[Value, Value | None]:
    """(x - off) / temperature; without a temperature x - off is exact, or far too low to count."""
    return (x - off, None) if times is None else difference(x, off, times)


def with_next(value: Value, state: State) -> State:
    """The largest and, where it is asked for, the second largest with one more."""
    top, *second = state
    return [larger(value, top), *(larger(smaller(value, top), s) for s in second)]


def largest_of_both(a: State, b: State) -> State:
    """The largest and, where it is asked for, the second largest of both."""
    top, *second = with_next(b[0], a)
    return [top, *(larger(s, t) for s, t in zip(second, b[1:], strict=True))]


def row_of(top: Value, second: Value | None, times: Times | None, c: Constants) -> Row:
    """What the terms of a row are computed with, from its largest logits."""
    z, _ = _scaled(top, like(0.0, top), times)
    far = select((z > c.far) | (z < -c.far), top, 0.0)
    off = select(z == z, far, top)
    z = _shifted(top, second, off, times, c)
    return Row(off, z - c.reach, shift_of(z, c), top, second, times)


def _shifted(
    top: Value, second: Value | None, off: Value, times: Times | None, c: Constants
) -> Value:
    """What the shift is the power of: the largest logit or the second, if that is high enough."""
    z, _ = _scaled(top, off, times)
    if second is None:
        return z
    lower, _ = _scaled(second, off, times)
    least = z - c.reach * 2.0
    return select(lower > least, lower, least)


def term_of(x: Value, row: Row, c: Constants) -> Term:
    """A logit's exponential over the shift; of all above the second largest, that one's."""
    z, rest = _scaled(_lowered(x, row), row.off, row.times)
    below = row.lowest > z  # not NaN
    if rest is not None:
        rest = select(below, 0.0, rest)
    return exponential(select(below, row.lowest, z), rest, row.shift, c)


def _lowered(x: Value, row: Row) -> Value:
    return x if row.second is None else smaller(row.second, x)  # NaN stays


def exponentials(x: Value, row: Row, c: Constants) -> list[Term]:
    """What most formulas add up."""
    return [term_of(x, row, c)]


# Surprisals are added up over a power of two, so that none is beyond the grids.
_SURPRISAL = {FLOAT: 2.0**-9, DOUBLE: 2.0**-12}


def surprisals(x: Value, row: Row, c: Constants) -> list[Term]:
    """A logit's exponential, and that times how far it is below the largest: (top - x) / T."""
    term, scale = term_of(x, row, c), _SURPRISAL[x.element]
    value, rest = difference(_lowered(x, row), row.top, row.times)
    below = c.reach * -3.0 > value  # nothing, whatever it is multiplied by
    value, rest = select(below, c.reach * -3.0, value), select(below, 0.0, rest)
    return [term, product(term, value * -scale, rest * -scale)]


# --- what is made of totals ----------------------------------------------------------------------


class Total(NamedTuple):
    """What was counted of rows on so many grids, and NaN where a row holds NaN, else 0."""

    counts: list[Value]
    grids: tuple[int, ...]
    invalid: Value


def reciprocal(total: Total, row: Row, c: Constants) -> Pair:
    """1 / total; NaN where the row holds an infinity, or nothing else."""
    ((high, low),) = totals_of(total.counts, total.grids, c)
    a = 1.0 / high
    return Pair(_of_bounded(a, total, row), a * (fma(-a, high, 1.0) - a * low))


def _of_bounded(value: Value, total: Total, row: Row) -> Value:
    top = wide(row.top)
    return select(top - top == 0.0, value + total.invalid, NAN)


def _power(n: Value) -> Value:
    """2**n of float64 integers."""
    return from_bits(bits_of(n + (1.5 * 2.0**52 + 1023)) << 52)


def times_power(pair: Pair, n: Value) -> Pair:
    """A pair times 2**n, of float64 integers; as good as 0 below -1200.

    In two factors: 2**n may be beyond what the product is, and that may be subnormal.
    """
    n = larger(n, -1200.0)
    first = larger(smaller(n, 600.0), -600.0)
    a, b = _power(first), _power(n - first)
    return Pair(pair.value * a * b, pair.rest * a * b)


def _others(
    total: Total, row: Row, terms: Callable[..., list[Term]], worth: list[float], c: Constants
) -> list[Pair]:
    """The totals without one of the largest terms, relative to it; what each is worth."""
    assert row.second is not None
    none = Sums.none(row.top.element, row.top.width, total.grids)
    once = counts_of(add_terms(none, terms(row.second, row, c), c), 1, c)
    counts = [count - one for count, one in zip(total.counts, once, strict=True)]
    # The largest term over its own power, and how far from that the shift is.
    z, rest = _scaled(row.top, row.off, row.times)
    largest = exponential(z, rest, shift_of(z, c), c)
    away = _shifted(row.top, row.second, row.off, row.times, c)
    n = wide(fma(away, c.to_power, c.to_integer) - fma(z, c.to_power, c.to_integer))
    results = []
    for each, scale in zip(totals_of(counts, total.grids, c), worth, strict=True):
        results.append(over_term(Pair(*(part * scale for part in each)), largest, n, c))
    return results


def over_term(total: Pair, term: Term, n: Value, c: Constants) -> Pair:
    """A total, relative to 2**n times the power of a term, over that term."""
    unscale = wide(c.unscale)
    divisor = two_sum(wide(term.h) * unscale, wide(term.lo) * unscale)
    return times_power(quotient(total, divisor), n)


def quotient(a: Pair, b: Pair) -> Pair:
    """a / b."""
    value = a.value / b.value
    return Pair(value, (fma(-value, b.value, a.value) + (a.rest - value * b.rest)) / b.value)


def log_of_one_and(others: Pair) -> Pair:
    """log(1 + others), where what is next to 1 is never added to it."""
    high, low = two_sum(like(1.0, others.value), others.value)
    value, rest = logarithm(high, low + others.rest)
    alone = others.value < 2.0**-30
    value = select(alone, others.value, value)
    return Pair(value, select(alone, fma(others.value * -0.5, others.value, others.rest), rest))


def log_total(total: Total, row: Row, c: Constants) -> Pair:
    """log(total) where the largest term is 1."""
    (others,) = _others(total, row, exponentials, [1.0], c)
    log = log_of_one_and(others)
    return Pair(select(wide(row.top) < INFINITY, log.value, 0.0) + total.invalid, log.rest)


def logsumexp(total: Total, row: Row, c: Constants) -> Pair:
    """The largest logit + log(total), however much of it cancels."""
    return _beside_top(log_total(total, row, c), total, row)


def _beside_top(log: Pair, total: Total, row: Row) -> Pair:
    top = wide(row.top)
    value, error = two_sum(top, log.value)
    value, rest = two_sum(value, error + log.rest)
    bounded = top - top == 0.0
    return Pair(select(bounded, value, top + total.invalid), select(bounded, rest, 0.0))


def entropy(total: Total, row: Row, c: Constants) -> Pair:
    """log(total), and the mean of how far logits are below the largest."""
    worth = [1.0, 1 / _SURPRISAL[row.top.element]]
    others, surprisal = _others(total, row, surprisals, worth, c)
    one, rest = two_sum(like(1.0, others.value), others.value)
    whole = Pair(one, rest + others.rest)
    mean = quotient(surprisal, whole)
    log = log_of_one_and(others)
    value, rest = two_sum(log.value, mean.value)
    value, rest = two_sum(value, rest + (log.rest + mean.rest))
    return Pair(_of_bounded(value, total, row), rest)


def log_normalizer(total: Total, row: Row, c: Constants) -> Pair:
    """What `log_probability` takes off: the logarithm of the row's sum.

    With a temperature relative to the largest logit, which divided would no longer be exact; but
    a temperature of 1 has the bits of none.
    """
    log = log_total(total, row, c)
    whole = _beside_top(log, total, row)
    if row.times is None:
        return whole
    plain = wide(_base(row)) == 0.0
    return Pair(*(select(plain, a, b) for a, b in zip(whole, log, strict=True)))


def _base(row: Row) -> Value:
    """What logits are taken relative to where temperatures are given: 0 at a temperature of 1."""
    assert row.times is not None
    return select(row.times.one, 0.0, row.top)


# --- results ------------------------------------------------------------------------------------


def probability(e: Value, row: Row, a: Pair, c: Constants) -> Value:
    """An exponential over the total. The scale is taken off last: e * a.rest may be subnormal."""
    return fma(e, a.value, e * a.rest) * c.unscale


def scaled_probability(x: Value, row: Row, a: Pair, c: Constants) -> Value:
    """A probability from its logarithm, times the row's scale; ``a`` is `log_normalizer`.

    So a row's total is the one that its logarithms want, and no other is needed.
    """
    z, rest = log_as_pair(x, row, a)
    below = -c.reach > z  # not NaN
    z, rest = select(below, -c.reach, z), select(below, 0.0, rest)
    term = exponential(z, rest, shift_of(like(0.0, z), c), c)
    assert row.scale is not None
    return scaled(term.e * narrowed(row.scale, z.element) * c.unscale, row.scale)


def scaled(value: Value, scale: Value) -> Value:
    """A result that was multiplied by a scale: where that is 0 there may have been no number."""
    return select(scale == 0.0, 0.0, value)


def log_as_pair(x: Value, row: Row, a: Pair) -> Pair:
    """The logarithm of a probability and what its rounding leaves out, in the type of both."""
    t, rest = x, like(0.0, x)
    if row.times is not None:
        t, rest = difference(x, _base(row), row.times)
    if a.value.element == DOUBLE:
        t, rest = wide(t), wide(rest)
    value, error = two_sum(t, -a.value)
    return Pair(value, select(error == error, (error - a.rest) + rest, 0.0))


def complement(log: Pair) -> Value:
    """1 - exp(log) of a logarithm of float64, at most 0, exact next to 0."""
    (z, rest), c = two_sum(log.value, log.rest), Constants(DOUBLE)  # the rest may be all of it
    tail = like(1 / math.factorial(_EXPM1), z)
    for n in range(_EXPM1 - 1, 1, -1):
        tail = fma(tail, z, 1 / math.factorial(n))
    near = -(z + fma(z * z, tail, rest))
    clamped = select(-c.reach > z, -c.reach, z)
    far = 1.0 - exponential(clamped, None, shift_of(like(0.0, z), c), c).e * c.unscale
    return select(z > -0.5, near, far)


# Terms of the series of exp - 1 where it is at most 1/2: the next is below 2**-60 of the first.
_EXPM1 = 15


def log_probability(x: Value, row: Row, a: Pair, c: Constants) -> Value:
    """The logit less the logarithm of the row's sum, `log_normalizer`.

    The rest is small beside a first difference that is rounded; next to 0 that is exact.
    """
    if row.times is None:
        return (x - a.value) - a.rest
    t, rest = difference(x, _base(row), row.times)
    return (t - a.value) - (a.rest - rest)
