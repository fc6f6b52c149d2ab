"""The kernel for Kullback-Leibler divergences: rows of two arrays of logits, of any length.

With d_i how far a class's logits x_i and y_i are apart, over the temperature, and c the mean of d
under p,

    KL = sum p_i d_i + log(sum p_i exp(-d_i)) = log(1 + sum p_i phi(d_i - c)),

phi(t) = exp(-t) - 1 + t >= 0: nothing cancels, however near the two are. Errors of p_i alone change
KL by twice as much of it, as c is the mean, to 2**-90, under these very p_i.

Differences are relative to those of a likeliest class of p, which takes off exactly what all d
share, and are pairs of float64, whatever the logits' type. Where -2 <= t <= 1, phi is t**2 times a
polynomial. Beyond, p_i exp(-t) is an exponential of y_i, as it may count where p_i is as good as
nothing. Where one of these is beyond exp(500), nothing else counts: KL is its exponent, and the
logarithm of their sum relative to it.

Each sum is counted relative to its own largest term, whatever the power of that, so that KL may be
subnormal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from fastsoftmax.arithmetic.doubled import (
    in_two_powers,
    inverse_power,
    minus,
    normal,
    plus,
    scaled,
    times,
)
from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    INT64,
    State,
    Value,
    Variables,
    bits_of,
    fma,
    folded,
    from_bits,
    larger,
    loop,
    number,
    select,
    smaller,
    sum_of,
    to_real,
    when,
    wide,
)
from fastsoftmax.arithmetic.normalizer import (
    INFINITY,
    NAN,
    log_of_one_and,
    quotient,
    times_power,
)
from fastsoftmax.arithmetic.pairs import (
    Constants,
    Pair,
    Sums,
    Term,
    add_terms,
    counts_of,
    counts_on,
    exponential,
    in_powers,
    logarithm,
    product,
    shift_by,
    totals_of,
    two_sum,
)
from fastsoftmax.cpu.batch import KERNELS
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.sizes import CHUNK
from fastsoftmax.cpu.target import CPU

# Two vectors of AVX-512, so that neither waits for its own results: 1.3x one, on AVX2, too.
_WIDTH = 16
# Two sums at a time, on two grids each, whose steps are 2**-97 of the largest term.
_GRIDS = (2, 2)
_LOG2_E = 1.4426950408889634
# Factors are below 4.4, and terms are below 6.2 times their powers, which are rounded.
_ROOM = 3.0
# What is less than the largest term by so many powers of two is less than a grid's step.
_NOTHING = 300.0
# Powers of terms that are too small for any result.
_LEAST = -3000.0
# The largest exponent of a term that is added to 1.
_FAR = 500.0
# phi(t) / t**2 = 1/2 - t/6 + t**2/24 - ...: to 2**-60 where -2 <= t <= 1. The last that are added
# are pairs.
_SERIES = tuple(1 / math.factorial(n) for n in range(4, 25))
_FIRST = (1 / 6, 1 / 6 / 2.0**54), (1 / 2, 0.0)


# --- two rows of logits -------------------------------------------------------------------------


class _Logits(NamedTuple):
    """A row of p's logits, x, and of q's, y."""

    p: Array
    q: Array
    mask: Array | None
    row: Value

    @property
    def length(self) -> Value:
        """How many classes there are."""
        return self.p.shape[1]

    def over(
        self, start: Value | int, stop: Value, state: State,
        body: Callable[[Value, Value, State], State],
    ) -> State:  # fmt: skip
        """The state after all lanes, ``body(x, y, state)``; both are -inf where a class is not."""
        variables = Variables(*state)
        for at in loop(start, stop, _WIDTH):
            place, count = (self.row, at), stop - at
            x, y = (wide(v.load(place, _WIDTH, count, -INFINITY)) for v in (self.p, self.q))
            if self.mask is not None:
                there = self.mask.load(place, _WIDTH, count) != 0
                x, y = (select(there, v, -INFINITY) for v in (x, y))
            variables.set(*body(x, y, variables.get()))
        return variables.get()


class _Extremes(NamedTuple):
    """What has to be known of two rows first."""

    top: Value  # the largest x
    beside: Value  # the largest y that is beside such an x
    highest: Value  # the largest y
    size: Value  # the largest magnitude of those that are not -inf
    flaw: Value  # 2 where there is NaN, 1 where p is possible and q is not, else 0


def _higher(a: State, b: State) -> State:
    """The `_Extremes` of both."""
    first, second = _Extremes(*a), _Extremes(*b)
    beside = select(second.top == first.top, larger(second.beside, first.beside), first.beside)
    return [
        larger(second.top, first.top),
        select(second.top > first.top, second.beside, beside),
        *(larger(new, old) for new, old in zip(second[2:], first[2:], strict=True)),
    ]


def _extremes(logits: _Logits) -> _Extremes:
    one, zero = (number(n, DOUBLE, _WIDTH) for n in (1.0, 0.0))

    def size(x: Value) -> Value:
        return select(x > -INFINITY, from_bits(bits_of(x) & 0x7FFFFFFFFFFFFFFF), 0.0)

    def body(x: Value, y: Value, state: State) -> State:
        flaw = select((x > -INFINITY) & (y == -INFINITY), one, zero)
        flaw = select((x != x) | (y != y), 2.0, flaw)
        return _higher(state, [x, y, y, larger(size(x), size(y)), flaw])

    none = number(-INFINITY, DOUBLE, _WIDTH)
    state = logits.over(0, logits.length, [none, none, none, zero, zero], body)
    return _Extremes(*folded(state, _higher, None))


class _Base(NamedTuple):
    """What differences are relative to and divided by: they come out over ``unit``.

    That is a power of two, so that neither they nor what is added to them overflows, and the
    rests even of subnormal logits are exact.
    """

    factor: Value
    x: Value
    y: Value
    inverse: Pair
    unit: Value
    power: Value

    def differences(self, x: Value, y: Value) -> tuple[Pair, Pair, Pair]:
        """Of x, of y, and of how far these are apart. Where one is -inf, its value is NaN."""
        a, b = two_sum(x * self.factor, -self.x), two_sum(y * self.factor, -self.y)
        a, b, apart = (times(v, self.inverse) for v in (a, b, minus(a, b)))
        return a, b, apart


def _base(of: _Extremes, temperature: Value) -> _Base:
    mantissa, power = in_powers(temperature)
    inverse = 1.0 / mantissa
    rest = fma(-inverse, mantissa, 1.0) * inverse
    huge = of.size > 2.0**900
    lift = select(huge, number(-2, INT64), 100)
    factor, power = inverse_power(-lift), -power - lift
    unit = inverse_power(-power)
    return _Base(factor, of.top * factor, of.beside * factor, Pair(inverse, rest), unit, power)


# --- sums -----------------------------------------------------------------------------------------


class _Product(NamedTuple):
    """exp(exponent) * 2**power * factor; nothing where the exponent is -inf or NaN."""

    exponent: Pair
    power: Value
    factor: Pair

    def size(self) -> Value:
        """About its logarithm to base 2, or -inf."""
        size = fma(self.exponent.value, _LOG2_E, self.power)
        return select(size > _LEAST, size, -INFINITY)

    def term(self, most: Value, c: Constants) -> Term:
        """It over 2**(most + _ROOM), to be counted."""
        counts = self.size() > most - _NOTHING
        z, rest, factor, factor_rest = (
            select(counts, v, 0.0) for v in (*self.exponent, *self.factor)
        )
        shift = shift_by(most + _ROOM - select(counts, self.power, most), c)
        return product(exponential(z, rest, shift, c), factor, factor_rest)


class _Scaled(NamedTuple):
    """A pair times a power of two."""

    pair: Pair
    power: Value

    def plus(self, other: _Scaled) -> _Scaled:
        """A sum."""
        power = larger(self.power, other.power)
        a, b = (times_power(v.pair, v.power - power) for v in (self, other))
        return _Scaled(plus(a, b), power)

    def over(self, other: _Scaled) -> Pair:
        """A quotient. Where its value is subnormal, that is right, and the rest says nothing."""
        pair = normal(*quotient(self.pair, other.pair))
        return times_power(pair, self.power - other.power)

    def logarithm(self) -> Pair:
        """Of one that is positive, of a power next to 0."""
        return logarithm(*times_power(self.pair, self.power))


def _sums(
    logits: _Logits, of: Callable[[Value, Value], tuple[_Product, _Product]], c: Constants
) -> list[_Scaled]:
    """The two sums of what is made of all x and y."""

    def sizes(x: Value, y: Value, state: State) -> State:
        return [larger(each.size(), s) for each, s in zip(of(x, y), state, strict=True)]

    def largest(a: State, b: State) -> State:
        return [larger(s, t) for s, t in zip(a, b, strict=True)]

    nothing = [number(-INFINITY, DOUBLE, _WIDTH)] * len(_GRIDS)
    most = [
        (larger(size, _LEAST) + 1.5 * 2.0**52) - 1.5 * 2.0**52
        for size in folded(logits.over(0, logits.length, nothing, sizes), largest, None)
    ]
    none = Sums.none(DOUBLE, _WIDTH, _GRIDS)
    totals = Variables(*[number(0, INT64)] * sum(counts_on(n, DOUBLE) for n in _GRIDS))

    def count(x: Value, y: Value, state: State) -> State:
        terms = [each.term(m, c) for each, m in zip(of(x, y), most, strict=True)]
        return add_terms(Sums(state, none.seen, _GRIDS), terms, c).counts

    for start in loop(0, logits.length, CHUNK):
        stop = smaller(start + CHUNK, logits.length)
        counts = logits.over(start, stop, none.counts, count)
        turns = (stop - start + (_WIDTH - 1)) // _WIDTH
        more = counts_of(Sums(counts, none.seen, _GRIDS), turns, c)
        totals.set(*(a + sum_of(b) for a, b in zip(totals.get(), more, strict=True)))
    pairs = totals_of(totals.get(), _GRIDS, c)
    return [_Scaled(pair, m + _ROOM) for pair, m in zip(pairs, most, strict=True)]


def _with_factor(exponent: Pair, factor: Pair) -> _Product:
    """An exponential times any pair."""
    mantissa, power = in_two_powers(factor)
    return _Product(exponent, select(factor.value == 0.0, -INFINITY, to_real(power)), mantissa)


def _alone(exponent: Pair) -> _Product:
    """An exponential."""
    one, zero = (number(n, DOUBLE, _WIDTH) for n in (1.0, 0.0))
    return _Product(exponent, zero, Pair(one, zero))


# --- the divergence ---------------------------------------------------------------------------


def _phi_over_square(t: Pair) -> Pair:
    """phi(t) / t**2 where -2 <= t <= 1, to 2**-54.4."""
    tail = number(_SERIES[-1], DOUBLE, _WIDTH)
    for coefficient in _SERIES[-2::-1]:
        tail = fma(-t.value, tail, coefficient)
    value = Pair(tail, number(0.0, DOUBLE, _WIDTH))
    for first in _FIRST:
        value = minus(Pair(*(number(n, DOUBLE, _WIDTH) for n in first)), times(t, value))
    return value


def _beside_p(t: Pair, base: _Base) -> tuple[Value, Value, Pair]:
    """What p_i is times: phi(t) if t is near 0, else t - 1; whether it is, a power and a factor."""
    real = scaled(t, base.unit)
    near = (real.value <= 1.0) & (real.value >= -2.0)
    mantissa, power = in_two_powers(t)
    power = power + base.power
    phi = times(times(mantissa, mantissa), _phi_over_square(real))
    value, left = two_sum(mantissa.value, -inverse_power(smaller(power, 1000)))
    value, rest = select(near, phi.value, value), select(near, phi.rest, left + mantissa.rest)
    return near, select(near, power + power, power), Pair(value, rest)


def _divergence_of(logits: _Logits, of: _Extremes, temperature: Value) -> Value:
    """The divergence of rows that are finite, but for classes that p has not."""
    c, base = Constants(DOUBLE), _base(of, temperature)

    def moments(x: Value, y: Value) -> tuple[_Product, _Product]:
        a, _, apart = base.differences(x, y)
        exponent = scaled(a, base.unit)
        return _alone(exponent), _with_factor(exponent, apart)

    total, moment = _sums(logits, moments, c)
    mean = moment.over(total)
    # p_i exp(-t) is exp((y_i - base.y) / T + mean), which these are the largest of
    _, highest, _ = base.differences(of.top, of.highest)
    largest = plus(highest, mean)
    far = largest.value * base.unit > _FAR
    beside = Pair(select(far, -highest.value, mean.value), select(far, -highest.rest, mean.rest))

    def parts(x: Value, y: Value) -> tuple[_Product, _Product]:
        a, b, apart = base.differences(x, y)
        t = minus(apart, mean)
        near, power, factor = _beside_p(t, base)
        value, rest = scaled(a, base.unit)
        value = select(far | (t.value == 0.0), -INFINITY, value)
        of_p = _Product(Pair(value, rest), to_real(power), factor)
        value, rest = scaled(plus(b, beside), base.unit)
        return of_p, _alone(Pair(select(near & (far == 0), -INFINITY, value), rest))

    of_p, of_q = _sums(logits, parts, c)
    value, rest = log_of_one_and(of_p.plus(of_q).over(total))
    # of a value that is subnormal, or nearly so, the rest is rounded, too
    value = select(value > 2.0**-900, value + rest, value)
    return select(far, _log_of(of_q, total, scaled(largest, base.unit)), value)


def _log_of(part: _Scaled, total: _Scaled, exponent: Pair) -> Value:
    """The logarithm of exp(exponent) * part / total; the exponent is large."""
    a, b = part.logarithm(), total.logarithm()
    value, left = two_sum(a.value, -b.value)
    result = exponent.value + (value + (left + (a.rest - b.rest) + exponent.rest))
    return select(exponent.value < INFINITY, result, INFINITY)


def _divergence(
    p: Array, q: Array, out: Array, temperature: Array, mask: Array | None,
    slot: Value, first: Value, last: Value,
) -> None:  # fmt: skip
    """sum p_i log(p_i / q_i) of each row, with p and q the softmax of logits over temperatures."""
    for row in loop(first, last):
        logits = _Logits(p, q, mask, row)
        of = _extremes(logits)
        bounded = (of.top - of.top == 0.0) & (of.highest - of.highest == 0.0) & (of.flaw < 2.0)
        out.store((row,), select(bounded, number(INFINITY, DOUBLE), NAN))
        for _ in when(bounded & (of.flaw == 0.0)):
            out.store((row,), _divergence_of(logits, of, temperature.one(row)))


_NAMES = "p", "q", "out", "temperature", "mask", "slot", "first", "last"
KERNELS["divergence"] = generated(_divergence, _NAMES, CPU)
