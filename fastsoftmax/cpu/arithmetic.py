"""Exponentials and their sums as pairs (a value, and the rest that its rounding left out).

One arithmetic for both elements, each in lanes of its own type (Lanes.element); what differs is in
the tables of constants.

exp(x) = 2**(k/8) * exp(r) with k = round(8 x / ln 2), r = (x - k L1) - k L2, the first difference
exact. 2**(j/8) = h + l comes from a table of eight, in a register. With lo = h * (exp(r) - 1) + l,
h + lo is right to 2**-29 (float64: 2**-59), and e = h + lo, rounded once, is what a result keeps.

Terms are added as integers: e + M1 rounds a term to a fixed grid, and its bits are a count of that
grid's steps; what it left out goes to a second grid, M2, and of long rows to a third. Sums of
integers have no order. Everything is carried times 2**SCALE, so that nothing is subnormal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from fastsoftmax.cpu.jit import chosen, inlined
from fastsoftmax.cpu.lanes import (
    bits_of,
    fma,
    from_bits,
    in_64_bits,
    lookup,
    select,
    spread_like,
    table,
    to_real,
)

# Terms a lane can add before its integers must be emptied into wider ones: a count of the second
# grid's steps is below 2**19 + 2**15 (float64: 2**49 + 2**46), of either sign.
CAPACITY = 2048


def _hexadecimal(numbers: str) -> tuple[float, ...]:
    return tuple(map(float.fromhex, numbers.split()))


# 2**(j/8) for j = 0 ... 7 in two parts, right to 2**-48 and 2**-106. The powers are added to the
# bits of both parts, so the second must be normal: 2**-60 in the place of 0 is too small to count.
_STEPS = _hexadecimal(
    "0x1.0000000000000p+0 0x1.172b83c7d517bp+0 0x1.306fe0a31b715p+0 0x1.4bfdad5362a27p+0 "
    "0x1.6a09e667f3bcdp+0 0x1.8ace5422aa0dbp+0 0x1.ae89f995ad3adp+0 0x1.d5818dcfba487p+0"
)
_STEPS_REST = _hexadecimal(
    "0x1.0p-60 -0x1.19041b9d78a76p-55 0x1.6f46ad23182e4p-55 0x1.d4397afec42e2p-56 "
    "-0x1.bdd3413b26456p-54 0x1.6e9f156864b27p-54 0x1.7a1cd345dcc81p-54 0x1.2ed02d75b3707p-55"
)


def _single(x: float) -> float:
    """Rounded to float32."""
    return float(np.float32(x))


_STEPS_SINGLE = tuple(map(_single, _STEPS))
_STEPS_SINGLE_REST = tuple(
    _single(exact - rounded) or 2.0**-32
    for exact, rounded in zip(_STEPS, _STEPS_SINGLE, strict=True)
)


def _without_steps(values: tuple[float, ...], bits: int) -> tuple[float, ...]:
    """Times 2**(-j/8) in the exponent's field and below: k, added there, brings j/8 along."""
    kind, integer = (np.float32, np.int32) if bits == 23 else (np.float64, np.int64)
    steps: Any = np.arange(8, dtype=integer) * (1 << (bits - 3))
    taken: Any = np.array(values, kind).view(integer) - steps
    return tuple(map(float, taken.astype(integer).view(kind)))


_high_step = lookup(_without_steps(_STEPS_SINGLE, 23), _without_steps(_STEPS, 52))
_low_step = lookup(_without_steps(_STEPS_SINGLE_REST, 23), _without_steps(_STEPS_REST, 52))

_LN2 = math.log(2)
_LN2_REST = float.fromhex("0x1.abc9e3b39803fp-56")
_LN2_SINGLE = _single(_LN2)
_LOG2_E = 1 / _LN2
# Added, it rounds to an integer and leaves it in the lowest bits.
_INTEGER_SINGLE, _INTEGER = 1.5 * 2.0**23, 1.5 * 2.0**52
SCALE_SINGLE, SCALE = 60, 128
_GRIDS_SINGLE = tuple(1.5 * 2.0 ** (SCALE_SINGLE + n) for n in (4, -16, -36))
_GRIDS = tuple(1.5 * 2.0 ** (SCALE + n) for n in (2, -48, -48))

# What `constants_for` gives, by name.
(
    TO_STEPS, TO_INTEGER, STEP, STEP_REST, M1, M2, M3, TO_POWER, FAR, REACH, UNSCALE, C2, C3, C4,
    C5, C6, C7, C8,
) = range(18)  # fmt: skip
constants_for = table(
    "constants",
    (
        _single(8 * _LOG2_E), _INTEGER_SINGLE, _LN2_SINGLE / 8, _single((_LN2 - _LN2_SINGLE) / 8),
        *_GRIDS_SINGLE, _single(_LOG2_E), 2.0**15, 105.0, 2.0**-SCALE_SINGLE,
        0.5, _single(1 / 6), _single(1 / 24), 0.0, 0.0, 0.0, 0.0,
    ),
    (
        8 * _LOG2_E, _INTEGER, _LN2 / 8, _LN2_REST / 8,
        *_GRIDS, _LOG2_E, 2.0**20, 750.0, 2.0**-SCALE,
        *(1 / math.factorial(n) for n in range(2, 9)),
    ),
)  # fmt: skip


@chosen
def _to_exponent(bits: Any) -> Any:
    """Steps of an eighth of a power -> where the exponent is, less what the table took off."""
    if bits.element == types.int32:
        return lambda bits: bits << 20
    return lambda bits: bits << 49


@chosen
def _tail(r: Any, c: Any) -> Any:
    """(exp(r) - 1 - r) / r**2 for |r| <= 0.0434: the series, to 2**-27 or 2**-56."""
    if r.element == types.float32:
        return lambda r, c: fma(fma(c[C4], r, c[C3]), r, c[C2])
    return lambda r, c: fma(
        fma(fma(fma(fma(fma(c[C8], r, c[C7]), r, c[C6]), r, c[C5]), r, c[C4]), r, c[C3]), r, c[C2]
    )


@chosen
def power_of(z: Any, c: Any) -> Any:
    """The bits that take 2**N off an exponential and put the scale on, N being round(z / ln 2)."""
    if z.element == types.float32:
        return lambda z, c: (SCALE_SINGLE - bits_of(fma(z, c[TO_POWER], c[TO_INTEGER]))) << 23
    return lambda z, c: (SCALE - bits_of(fma(z, c[TO_POWER], c[TO_INTEGER]))) << 52


@inlined
def exponential(z: Any, rest: Any, power: Any, c: Any) -> Any:
    """exp(z + rest) / 2**N, scaled, as e and its parts (h, lo); ``rest`` may be None.

    z + rest is at most FAR in magnitude (or clamped to what is as good as nothing), or NaN.
    """
    t = fma(z, c[TO_STEPS], c[TO_INTEGER])
    k = t - c[TO_INTEGER]
    r = fma(-k, c[STEP], z) - k * c[STEP_REST]
    if rest is not None:
        r = r + rest
    steps = bits_of(t)
    bits = _to_exponent(steps) + power
    h = from_bits(bits_of(_high_step(steps)) + bits)
    low = from_bits(bits_of(_low_step(steps)) + bits)
    lo = fma(h, fma(r * r, _tail(r, c), r), low)
    return h + lo, h, lo


@inlined
def add_term(sums: Any, e: Any, h: Any, lo: Any, third: Any, c: Any) -> Any:
    """Counts of the grids' steps (first, second, third, seen) with one more term in them.

    ``third``: None, or True for rows beyond a block. ``seen`` has the exponent's bits of infinity
    and NaN set as soon as one term is either: integers do not carry them.
    """
    first, second, last, seen = sums
    a = e + c[M1]
    left = (h - (a - c[M1])) + lo
    b = left + c[M2]
    bits = bits_of(a)
    if third is not None:
        last = last + bits_of((left - (b - c[M2])) + c[M3])
    return first + bits, second + bits_of(b), last, seen | bits


@chosen
def counts_of(sums: Any, terms: Any, third: Any, c: Any) -> Any:
    """What lanes that added so many terms counted, as int64: see `steps_of`.

    A part of 64 bits is given in two, so that the counts of all blocks can be added.
    """
    if sums[0].element == types.int32:

        def single(sums: Any, terms: Any, third: Any, c: Any) -> Any:
            first, second, last, _ = sums
            one = from_bits(first)
            of_last = terms if third is not None else 0
            return (
                in_64_bits(first - terms * bits_of(spread_like(c[M1], one)), None),
                in_64_bits(second - terms * bits_of(spread_like(c[M2], one)), True),
                in_64_bits(last - of_last * bits_of(spread_like(c[M3], one)), True),
                in_64_bits(first & 0, None),
            )

        return single

    def double(sums: Any, terms: Any, third: Any, c: Any) -> Any:
        first, second, _, _ = sums
        one = from_bits(first)
        first = first - terms * bits_of(spread_like(c[M1], one))
        second = second - terms * bits_of(spread_like(c[M2], one))
        low = (1 << 32) - 1
        return first >> 32, first & low, second >> 32, second & low

    return double


# What one count is worth, relative to the power.
steps_of = table(
    "grids",
    (2.0**-19, 2.0**-39, 2.0**-59, 0.0),
    (2.0**-18, 2.0**-50, 2.0**-68, 2.0**-100),
)


@inlined
def two_sum(a: Any, b: Any) -> Any:
    """a + b rounded, and what rounding left out, exactly (Knuth)."""
    total = a + b
    shifted = total - a
    return total, (a - (total - shifted)) + (b - shifted)


@inlined
def pair_of(counts: Any, steps: Any) -> Any:
    """The sum that was counted, in float64, as a value and its rest."""
    a, b, c, d = counts
    high, low = two_sum(to_real(a) * steps[0], to_real(b) * steps[1])
    return two_sum(high, low + (to_real(c) * steps[2] + to_real(d) * steps[3]))


@chosen
def not_finite(seen: Any) -> Any:
    """Which lanes met an infinity or NaN; see `add_term`."""
    if seen.element == types.int32:
        return lambda seen: (seen & 0x7F800000) == 0x7F800000
    return lambda seen: (seen & 0x7FF0000000000000) == 0x7FF0000000000000


# --- the logarithm ----------------------------------------------------------------------------

# (2 atanh(s) - 2 s) / s**3 as a polynomial in s**2 <= 0.0295: log to 2**-60.
LOG_COEFFICIENTS = _hexadecimal(
    "0x1.5555555555555p-1 0x1.9999999999998p-2 0x1.249249249296cp-2 0x1.c71c71c649d29p-3 "
    "0x1.745d17d4e023ep-3 0x1.3b137abacbd15p-3 0x1.111d3bc7f927ap-3 0x1.debb4432155e1p-4 "
    "0x1.e6d04c9e3c20ep-4"
)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = LOG_COEFFICIENTS
# 42 bits, so that a product with an integer of 11 bits is exact; and the rest.
LN2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")
LN2_LOW = float.fromhex("0x1.ef35793c76730p-45")
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_INFINITY = float("inf")


@inlined
def logarithm(high: Any, low: Any) -> Any:
    """log(high + low) of float64 as a rounded value and the rest, to 2**-56 together.

    Zero gives -inf, infinity and NaN themselves.
    """
    exponent = (bits_of(high) - _SQRT_HALF_BITS) >> 52
    m = from_bits(bits_of(high) - (exponent << 52))  # sqrt(1/2) <= m < sqrt(2)
    k = to_real(exponent)

    # log(m) = 2 atanh(s), s = (m - 1) / (m + 1), here with what its rounding left out
    f = m - 1.0  # exact
    divisor = m + 1.0
    divisor_low = m - (divisor - 1.0)
    s = f / divisor
    rest = 2.0 * (fma(-s, divisor, f) - s * divisor_low)
    w = s * s
    p = fma(fma(fma(fma(_L8, w, _L7), w, _L6), w, _L5), w, _L4)
    p = fma(fma(fma(fma(p, w, _L3), w, _L2), w, _L1), w, _L0)
    small = fma(s * w, p, rest / divisor) + low / high  # log(1 + low / high)
    value, error = two_sum(k * LN2_HIGH, 2.0 * s)
    error = error + fma(k, LN2_LOW, small)
    result = value + error
    result_error = (value - result) + error

    special = select(high == 0.0, -_INFINITY, high)
    result = select(high > 0.0, select(high < _INFINITY, result, special), special)
    return result, select(high > 0.0, select(high < _INFINITY, result_error, 0.0), 0.0)
