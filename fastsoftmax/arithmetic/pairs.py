"""Exponentials and their sums as pairs: a value, and the rest that its rounding left out.

One arithmetic for float32 and float64, each in lanes of its own; what differs is in `Constants`.

exp(x) = 2**(k/8) * exp(r) with k = round(8 x / ln 2), r = (x - k L1) - k L2, the first difference
exact. 2**(j/8) = h + l comes from a table of eight, in a register. With lo = h * (exp(r) - 1) + l,
h + lo is right to 2**-27 (float64: 2**-56), and e = h + lo, rounded once, is what a result keeps.

Terms are added as integers: e + M1 rounds a term to a fixed grid, and its bits are a count of that
grid's steps; what it left out goes to a second grid, M2, and in float32's long rows to a third.
Sums of integers have no order. Everything is carried times 2**scale, so that nothing is subnormal.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from fastsoftmax.arithmetic.lanes import (
    FLOAT,
    State,
    Value,
    bits_of,
    fma,
    folded,
    from_bits,
    in_64_bits,
    like,
    lookup,
    number,
    same_integer,
    select,
    stored_table,
    to_real,
)

# Terms that a lane can add before its integers are emptied into wider ones: a count of the second
# grid's steps is below 2**19 + 2**17 (float64: 2**49 + 2**47), of either sign.
CAPACITY = 2048


def _hexadecimal(numbers: str) -> tuple[float, ...]:
    return tuple(map(float.fromhex, numbers.split()))


# 2**(j/8) for j = 0 ... 7 in two parts.
_STEPS = _hexadecimal(
    "0x1.0000000000000p+0 0x1.172b83c7d517bp+0 0x1.306fe0a31b715p+0 0x1.4bfdad5362a27p+0 "
    "0x1.6a09e667f3bcdp+0 0x1.8ace5422aa0dbp+0 0x1.ae89f995ad3adp+0 0x1.d5818dcfba487p+0"
)
_STEPS_REST = _hexadecimal(
    "0x0.0p+0 -0x1.19041b9d78a76p-55 0x1.6f46ad23182e4p-55 0x1.d4397afec42e2p-56 "
    "-0x1.bdd3413b26456p-54 0x1.6e9f156864b27p-54 0x1.7a1cd345dcc81p-54 0x1.2ed02d75b3707p-55"
)
_LN2, _LN2_REST = math.log(2), float.fromhex("0x1.abc9e3b39803fp-56")


class Constants:
    """What an element is computed with: numbers, read into registers here and now, and Python's."""

    def __init__(self, element: ir.Type) -> None:
        single = element == FLOAT
        kind: Any = np.float32 if single else np.float64
        self.mantissa, self.scale = (23, 60) if single else (52, 128)

        def in_two(value: float, rest: float) -> tuple[float, float]:
            high = float(kind(value))
            return high, float(kind((value - high) + rest))

        grids = (4, -16, -36) if single else (2, -48, -98)
        #: One count of each grid, relative to the power.
        self.worth = tuple(2.0 ** (n - self.mantissa) for n in grids)
        numbers = (
            8 / _LN2, 1.5 * 2.0**self.mantissa, *in_two(_LN2 / 8, _LN2_REST / 8), 1 / _LN2,
            *((2.0**15, 105.0) if single else (2.0**20, 750.0)), 2.0**-self.scale,
            *(1.5 * 2.0 ** (self.scale + n) for n in grids),
            *(1 / math.factorial(n) for n in range(2, 5 if single else 9)),
        )  # fmt: skip
        values = stored_table(element, tuple(float(kind(n)) for n in numbers))
        # ``to_integer``, added, rounds to an integer and leaves it in the lowest bits. Logits
        # beyond ``far`` have the largest of them taken off; what is lower than it by ``reach`` is
        # as good as nothing.
        self.to_steps, self.to_integer, self.step, self.step_rest, self.to_power = values[:5]
        self.far, self.reach, self.unscale = values[5:8]
        self.grids, self.tail = values[8:11], values[11:]

        # Times 2**(-j/8) in the exponent's field and below: steps, added there, bring j/8 along.
        # They are added to both parts, so the second must be normal: what is too small to count
        # stands for 0.
        pairs = [in_two(*pair) for pair in zip(_STEPS, _STEPS_REST, strict=True)]
        pairs[0] = 1.0, 2.0 ** -(self.mantissa + 9)
        integer: Any = np.int32 if single else np.int64
        bits: Any = np.array(pairs, kind).T.copy().view(integer)
        bits = bits - np.arange(8, dtype=integer) * (1 << (self.mantissa - 3))
        #: The table of both parts.
        self.steps = tuple(tuple(map(float, part)) for part in bits.astype(integer).view(kind))


# --- exponentials and their sums ------------------------------------------------------------------


def shift_of(z: Value, c: Constants) -> Value:
    """N = round(z / ln 2), as `exponential` takes it: what rounds to steps, and brings 2**-N along.

    The integer that rounding leaves in the lowest bits then counts from -N too, and the scale.
    """
    power = fma(z, c.to_power, c.to_integer) - c.to_integer
    return shift_by(power, c)


def shift_by(power: Value, c: Constants) -> Value:
    """The same of an integer N."""
    return fma(power, -8.0, c.to_integer + 8.0 * c.scale)


class Term(NamedTuple):
    """An exponential over 2**N, scaled: rounded to ``e``, which is in parts ``h`` and ``lo``."""

    e: Value
    h: Value
    lo: Value


def exponential(
    z: Value, rest: Value | None, shift: Value, c: Constants, exact: bool = False
) -> Term:
    """exp(z + rest) over 2**N of a `shift_of`; ``exact``: exp(0) is a power of two alone.

    z + rest is at most ``far`` in magnitude (or clamped to what is as good as nothing), or NaN, and
    N no more than ``reach`` above its power or a few below: else exponents would wrap around.
    """
    t = fma(z, c.to_steps, shift)
    k = t - shift
    r = fma(-k, c.step_rest, fma(-k, c.step, z))
    if rest is not None:
        r = r + rest
    tail = like(c.tail[-1], r)
    for coefficient in c.tail[-2::-1]:
        tail = fma(tail, r, coefficient)
    steps = bits_of(t)
    bits = steps << (c.mantissa - 3)
    h, low = (from_bits(bits_of(one) + bits) for one in lookup(steps, c.steps))
    if exact:
        low = select((steps & 7) == 0, 0.0, low)
    lo = fma(h, fma(r * r, tail, r), low)
    return Term(h + lo, h, lo)


def product(term: Term, factor: Value, rest: Value | float = 0.0) -> Term:
    """A term times a factor and its rest."""
    high = term.e * factor
    left = ((term.h - term.e) + term.lo) * factor + term.e * rest
    return Term(high, high, fma(term.e, factor, -high) + left)


class Sums(NamedTuple):
    """Integers of lanes: counts of each grid's steps, and the bits of all that was counted.

    Of one total or several, each on so many ``grids``. In ``seen``, an infinity or NaN leaves all
    bits of an exponent set: integers do not carry them. It may have fewer lanes, each for several.
    """

    counts: list[Value]
    seen: Value
    grids: tuple[int, ...]

    @classmethod
    def none(cls, element: ir.Type, width: int | None, grids: tuple[int, ...]) -> Sums:
        """Those of no term."""
        zero = bits_of(number(0.0, element, width))
        return cls([zero] * sum(grids), zero, grids)


def add_terms(sums: Sums, terms: list[Term], c: Constants) -> Sums:
    """The sums with one more term in each total."""
    counts, seen = [], sums.seen
    for term, grids in zip(terms, sums.grids, strict=True):
        a = term.e + c.grids[0]
        left = (term.h - (a - c.grids[0])) + term.lo
        counts.append(bits_of(a))
        for grid in c.grids[1:grids]:
            b = left + grid
            counts.append(bits_of(b))
            left = left - (b - grid)
        seen = seen | folded([bits_of(a)], lambda a, b: [a[0] | b[0]], seen.width)[0]
    return Sums([a + b for a, b in zip(sums.counts, counts, strict=True)], seen, sums.grids)


def added(a: State, b: State) -> State:
    """The integers of both, of which the last ones are ``seen``."""
    return [*(one + other for one, other in zip(a[:-1], b[:-1], strict=True)), a[-1] | b[-1]]


def not_finite(seen: Value, c: Constants) -> Value:
    """Which lanes met an infinity or NaN; see `Sums`."""
    exponent = 0x7F800000 if c.mantissa == 23 else 0x7FF0000000000000
    return (seen & exponent) == exponent


def counts_of(sums: Sums, terms: Any, c: Constants) -> list[Value]:
    """What was counted by lanes that added so many terms, as integers of 64 bits: see `totals_of`.

    float32's two grids give one integer, which float64 holds exactly up to 4096 terms; float64's
    give two each, so that the counts of many rows' parts can be added.
    """
    counts: list[Value] = []
    for given, grids in _split(sums.counts, sums.grids):
        each = [
            count - like(bits_of(grid), count) * same_integer(terms, count)
            for count, grid in zip(given, c.grids[:grids], strict=True)
        ]
        if c.mantissa == 52:
            counts += [half for count in each for half in (count >> 32, count & 0xFFFFFFFF)]
        else:
            first, *others = in_64_bits(each[0], signed=False), *map(in_64_bits, each[1:])
            counts += [(first << 20) + others[0]] if grids == 2 else [first, *others]
    return counts


def counts_on(grids: int, element: ir.Type) -> int:
    """How many integers `counts_of` gives for a total."""
    return 2 * grids - 3 if element == FLOAT else 2 * grids


def _split(values: list[Value], sizes: tuple[int, ...]) -> list[tuple[list[Value], int]]:
    """So many values each."""
    left = iter(values)
    return [(list(itertools.islice(left, size)), size) for size in sizes]


def in_powers(w: Value) -> tuple[Value, Value]:
    """A weight as a mantissa with its sign, 1 to 2, and a power of two."""
    tiny = from_bits(bits_of(w) & 0x7FFFFFFFFFFFFFFF) < 2.0**-1000
    lifted = bits_of(select(tiny, w * 2.0**200, w))
    power = ((lifted >> 52) & 0x7FF) - select(tiny, like(1223, lifted), like(1023, lifted))
    return from_bits((lifted & -0x7FF0000000000001) | 0x3FF0000000000000), power


class Pair(NamedTuple):
    """A value, and the rest that its rounding left out."""

    value: Value
    rest: Value


def two_sum(a: Value, b: Value) -> Pair:
    """a + b, exactly (Knuth)."""
    total = a + b
    shifted = total - a
    return Pair(total, (a - (total - shifted)) + (b - shifted))


def totals_of(counts: list[Value], grids: tuple[int, ...], c: Constants) -> list[Pair]:
    """The sums that were counted, in float64."""
    sizes = tuple(counts_on(n, c.grids[0].element) for n in grids)
    return [_total(each, c) for each, _ in _split(counts, sizes)]


def _total(counts: list[Value], c: Constants) -> Pair:
    if len(counts) == 1:
        total = to_real(counts[0]) * c.worth[1]
        return Pair(total, total * 0.0)
    worth = c.worth
    if c.mantissa == 52:
        worth = tuple(step * half for step in worth for half in (2.0**32, 1.0))
    parts = [to_real(count) * step for count, step in zip(counts, worth, strict=False)]
    value, rest = two_sum(parts[0], parts[1])
    for more in parts[2:]:
        rest = rest + more
    return two_sum(value, rest)


# --- the logarithm ----------------------------------------------------------------------------

# (2 atanh(s) - 2 s) / s**3 as a polynomial in s**2 <= 0.0295: log to 2**-60.
LOG_COEFFICIENTS = _hexadecimal(
    "0x1.5555555555555p-1 0x1.9999999999998p-2 0x1.249249249296cp-2 0x1.c71c71c649d29p-3 "
    "0x1.745d17d4e023ep-3 0x1.3b137abacbd15p-3 0x1.111d3bc7f927ap-3 0x1.debb4432155e1p-4 "
    "0x1.e6d04c9e3c20ep-4"
)
# 42 bits, so that a product with an integer of 11 bits is exact; and the rest.
LN2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")
LN2_LOW = float.fromhex("0x1.ef35793c76730p-45")
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD


def logarithm(high: Value, low: Value) -> Pair:
    """log(high + low) of float64 as a rounded value and the rest, to 2**-56 together.

    Zero gives -inf, infinity and NaN themselves. Subnormal numbers are not asked for.
    """
    exponent = (bits_of(high) - _SQRT_HALF_BITS) >> 52
    m = from_bits(bits_of(high) - (exponent << 52))  # sqrt(1/2) <= m < sqrt(2)
    k = to_real(exponent)

    # log(m) = 2 atanh(s), s = (m - 1) / (m + 1), here with what its rounding left out
    f = m - 1.0  # exact
    divisor = m + 1.0
    divisor_low = m - (divisor - 1.0)
    s = f / divisor
    rest = (fma(-s, divisor, f) - s * divisor_low) * 2.0
    w = s * s
    p = like(LOG_COEFFICIENTS[-1], w)
    for coefficient in LOG_COEFFICIENTS[-2::-1]:
        p = fma(p, w, coefficient)
    small = fma(s * w, p, rest / divisor) + low / high  # log(1 + low / high)
    value, error = two_sum(k * LN2_HIGH, s * 2.0)
    error = error + fma(k, LN2_LOW, small)
    result = value + error
    ordinary = (high > 0.0) & (high < math.inf)
    special = select(high == 0.0, -math.inf, high)
    rest = select(ordinary, (value - result) + error, 0.0)
    return Pair(select(ordinary, result, special), rest)
