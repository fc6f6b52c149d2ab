"""The normalizer of a row: (shift, total), how it is gathered and used.

shift is a power of two, that of the row's largest term, so that taking it off is exact; total is
the sum of the terms as counts of fixed grids' steps (arithmetic.py). Logarithms need what is next
to 1 in a total of almost 1, all that [40, 0] leaves behind: for them (``apart``) the terms that
are the largest are counted, and the power is that of the largest among the others.

Everything here works on lanes: a row's numbers spread, or those of rows side by side. A row is a
tuple (off, lowest, power, times, top).
"""

from __future__ import annotations

from typing import Any

from numba import types

from fastsoftmax.cpu.arithmetic import (
    FAR,
    REACH,
    TO_INTEGER,
    TO_POWER,
    UNSCALE,
    add_term,
    constants_for,
    exponential,
    logarithm,
    pair_of,
    power_of,
    steps_of,
    two_sum,
)
from fastsoftmax.cpu.jit import chosen, inlined
from fastsoftmax.cpu.lanes import (
    bits_of,
    fma,
    from_bits,
    select,
    spread_like,
    to_real,
    wide,
)

INFINITY = float("inf")
NAN = float("nan")
_LARGEST = 3e38


@inlined
def larger(a: Any, b: Any) -> Any:
    """The larger one; of NaN and a number any, or NaN, which shows in the sum."""
    return select(a > b, a, b)


@chosen
def difference(x: Any, base: Any, times: Any) -> Any:
    """(x - base) / temperature, and what its rounding left out; ``times``: see `times_of`."""

    def plain(x: Any, base: Any, times: Any) -> Any:
        t = x - base
        shifted = t - x
        rest = (x - (t - shifted)) - (base + shifted)
        return t, select(t > -_LARGEST, rest, 0.0)

    def divided(x: Any, base: Any, times: Any) -> Any:
        inverse, inverse_rest, scale = times
        # halves, which cannot overflow when they are subtracted
        a, b = x * 0.5, base * 0.5
        d = a - b
        shifted = d - a
        error = ((a - (d - shifted)) - (b + shifted)) * scale
        d = d * scale
        t = d * inverse
        rest = fma(d, inverse, -t) + fma(d, inverse_rest, error * inverse)
        return t, select(t > -_LARGEST, rest, 0.0)

    return plain if times is types.none else divided


@inlined
def times_of(temperature: Any) -> Any:
    """What a difference of halves is multiplied by: 2 / temperature in two parts, and a scale.

    All in float64, but in the range of float32, which differences of float32 leave to the scale.
    """
    low, high = temperature < 2.0**-100, temperature > 2.0**100
    scale = select(low, 2.0**60, select(high, 2.0**-60, temperature * 0.0 + 1.0))
    divisor = temperature * scale
    inverse = 2.0 / divisor
    rest = fma(-inverse, divisor, 2.0) * (inverse * 0.5)
    # What divides by less is as good as infinite for all differences but 0.
    return (
        select(inverse < 2.0**120, inverse, 2.0**120),
        select(inverse < 2.0**120, rest, 0.0),
        scale,
    )


@chosen
def _scaled(x: Any, off: Any, times: Any) -> Any:
    """(x - off) / temperature; without a temperature x - off is exact, or far too low to count."""
    if times is types.none:
        return lambda x, off, times: (x - off, None)
    return lambda x, off, times: difference(x, off, times)


@inlined
def row_of(top: Any, second: Any, times: Any, c: Any) -> Any:
    """What the terms of a row are computed with, from its largest logit.

    ``second``: None, or the largest of the others where the terms that are the largest are apart.
    """
    z, _ = _scaled(top, top * 0.0, times)
    far = select(z > c[FAR], top, select(z < -c[FAR], top, 0.0))
    off = select(z == z, far, top)
    z, _ = _scaled(top, off, times)
    if second is not None:
        z = _second(second, z, off, times, c)
    return off, z - c[REACH], power_of(z, c), times, top


@inlined
def _second(second: Any, z: Any, off: Any, times: Any, c: Any) -> Any:
    """The second largest logit like the largest, z; as low as counts where it is lower."""
    lower, _ = _scaled(second, off, times)
    least = z - 2.0 * c[REACH]
    return select(lower > least, lower, least)


@inlined
def term_of(x: Any, row: Any, c: Any) -> Any:
    """A logit's exponential, relative to the row's power and scaled: e and its parts (h, lo)."""
    off, lowest, power, times, _ = row
    z, rest = _scaled(x, off, times)
    below = lowest > z  # not NaN
    return exponential(select(below, lowest, z), _unless(below, rest), power, c)


@chosen
def _unless(below: Any, rest: Any) -> Any:
    if rest is types.none:
        return lambda below, rest: None
    return lambda below, rest: select(below, 0.0, rest)


@inlined
def add_logits(x: Any, row: Any, sums: Any, ones: Any, apart: Any, third: Any, c: Any) -> Any:
    """The sums and the number of terms apart with a row's next logits in them; their terms."""
    if apart is not None:
        largest = x == row[4]
        ones = ones + select(largest, 1, ones & 0)
        x = select(largest, -INFINITY, x)
    e, h, lo = term_of(x, row, c)
    return add_term(sums, e, h, lo, third, c), ones, e


# --- what is made of totals ----------------------------------------------------------------------
#
# Of what is noted of rows, the numbers that their results are made with, in float64: a value and
# its rest. ``counts``: see `pair_of`; ``ones``: how many terms are apart; ``invalid``: NaN where
# the row holds NaN, else 0.


@inlined
def reciprocal_of(counts: Any, ones: Any, second: Any, row: Any, invalid: Any, x: Any) -> Any:
    """1 / total; NaN where the row holds an infinity, or nothing else."""
    high, low = pair_of(counts, steps_of(x))
    a = 1.0 / high
    top = wide(row[4])
    return select(top - top == 0.0, a + invalid, NAN), a * (fma(-a, high, 1.0) - a * low)


@inlined
def _power(n: Any) -> Any:
    """2**n of float64 integers."""
    return from_bits(bits_of(n + (1.5 * 2.0**52 + 1023)) << 52)


@inlined
def logarithm_of(counts: Any, ones: Any, second: Any, row: Any, invalid: Any, x: Any) -> Any:
    """log(total) where the largest term is 1.

    Where there is one such term and the others are next to nothing, they are never added to it.
    """
    c = constants_for(x)
    off, _, _, times, top = row
    # The largest term beside its own power, and how far from that the power of the others is.
    z, rest = _scaled(top, off, times)
    _, h, lo = exponential(z, rest, power_of(z, c), c)
    lower = _second(second, z, off, times, c)
    n = wide(fma(lower, c[TO_POWER], c[TO_INTEGER]) - fma(z, c[TO_POWER], c[TO_INTEGER]))
    unscale = spread_like(c[UNSCALE], n)
    f, f_low = two_sum(wide(h) * unscale, wide(lo) * unscale)
    high, low = pair_of(counts, steps_of(x))
    others = high / f
    others_low = (fma(-others, f, high) + (low - others * f_low)) / f
    # in two factors: the product may be subnormal
    n = select(n > -1200.0, n, -1200.0)
    first = select(n > -600.0, n, -600.0)
    a, b = _power(first), _power(n - first)
    others, others_low = others * a * b, others_low * a * b

    count = to_real(ones)
    high, low = two_sum(count, others)
    value, rest = logarithm(high, low + others_low)
    alone = select(count == 1.0, others, 1.0) < 2.0**-30
    value = select(alone, others, value)
    rest = select(alone, fma(others * -0.5, others, others_low), rest)
    return select(wide(top) < INFINITY, value, 0.0) + invalid, rest


@inlined
def logsumexp_of(counts: Any, ones: Any, second: Any, row: Any, invalid: Any, x: Any) -> Any:
    """The largest logit + log(total), and the rest, however much of it cancels."""
    log_total, rest = logarithm_of(counts, ones, second, row, invalid, x)
    top = wide(row[4])
    value, error = two_sum(top, log_total)
    value, rest = two_sum(value, error + rest)
    bounded = top - top == 0.0
    return select(bounded, value, top + invalid), select(bounded, rest, 0.0)


@chosen
def _log_normalizer_of(counts: Any, ones: Any, second: Any, row: Any, invalid: Any, x: Any) -> Any:
    """What `log_probability` takes off: the logarithm of the row's sum.

    With a temperature relative to the largest logit, which divided would no longer be exact; but
    a temperature of 1 has the bits of none.
    """
    if row[3] is types.none:
        return lambda counts, ones, second, row, invalid, x: logsumexp_of(
            counts, ones, second, row, invalid, x
        )

    def divided(counts: Any, ones: Any, second: Any, row: Any, invalid: Any, x: Any) -> Any:
        a, a_rest = logarithm_of(counts, ones, second, row, invalid, x)
        b, b_rest = logsumexp_of(counts, ones, second, row, invalid, x)
        away = base_of(row)
        return select(away == 0.0, b, a), select(away == 0.0, b_rest, a_rest)

    return divided


@inlined
def log_normalizer_of(counts: Any, ones: Any, second: Any, row: Any, invalid: Any, x: Any) -> Any:
    """See `_log_normalizer_of`: a formula takes inlined functions."""
    return _log_normalizer_of(counts, ones, second, row, invalid, x)


@inlined
def base_of(row: Any) -> Any:
    """What logits are taken relative to where temperatures are given: 0 at a temperature of 1."""
    _, _, _, times, top = row
    return select(times[0] == 2.0, select(times[1] == 0.0, 0.0, top), top)


# --- results ------------------------------------------------------------------------------------


@inlined
def probability(e: Any, row: Any, a: Any, a_rest: Any, c: Any) -> Any:
    """An exponential over the total. The scale is taken off last: e * a_rest may be subnormal."""
    return fma(e, a, e * a_rest) * c[UNSCALE]


@chosen
def _log_probability(x: Any, row: Any, a: Any, a_rest: Any) -> Any:
    if row[3] is types.none:
        return lambda x, row, a, a_rest: (x - a) - a_rest

    def divided(x: Any, row: Any, a: Any, a_rest: Any) -> Any:
        t, rest = difference(x, base_of(row), row[3])
        return (t - a) - (a_rest - rest)

    return divided


@inlined
def log_probability(x: Any, row: Any, a: Any, a_rest: Any, c: Any) -> Any:
    """The logit less the logarithm of the row's sum, `log_normalizer_of`.

    The rest is small beside a first difference that is rounded; next to 0 that is exact.
    """
    return _log_probability(x, row, a, a_rest)
