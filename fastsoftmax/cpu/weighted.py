"""The kernel for weighted sums: rows of logits and of float64 weights, of any length.

Everything is computed in float64, whatever the logits' type. The power of a term is that of its
exponential and of its weight together, so weights of any magnitude count, and a total of almost 1,
as of weights that sum to 1, keeps what is next to 1.
"""

from __future__ import annotations

from typing import Any

from fastsoftmax.cpu.arithmetic import (
    LN2_HIGH,
    LN2_LOW,
    SCALE,
    add_term,
    constants_for,
    counts_of,
    exponential,
    logarithm,
    not_finite,
    pair_of,
    steps_of,
    two_sum,
)
from fastsoftmax.cpu.jit import inlined, kernel
from fastsoftmax.cpu.lanes import (
    any_of,
    bits_of,
    fma,
    from_bits,
    lane,
    select,
    spread_like,
    sum_of,
    to_real,
    two_largest,
)
from fastsoftmax.cpu.memory import load, store, unit_of, width_of
from fastsoftmax.cpu.normalizer import INFINITY, larger
from fastsoftmax.cpu.sizes import BLOCK

_LOG2_E = 1.4426950408889634
# Terms are signed, and those of the largest power below 4 of its steps.
_SCALE = SCALE - 3
# Logits beyond this have the largest of them taken off.
_FAR = 2.0**20
# What is less than the largest term by so many powers of two is less than a grid's step.
_NOTHING = 300.0


@inlined
def _loaded(x: Any, weight: Any, at: Any, count: Any, unit: Any) -> Any:
    """Logits, -inf where the weight is 0; weights as mantissas and powers of two."""
    w = load(weight, at, count, 0.0, unit)
    value = select(w == 0.0, -INFINITY, load(x, at, count, -INFINITY, unit))
    size = from_bits(bits_of(w) & 0x7FFFFFFFFFFFFFFF)
    tiny = size < 2.0**-1000
    lifted = select(tiny, w * 2.0**200, w)
    power = ((bits_of(lifted) >> 52) & 0x7FF) - select(tiny, 1223, bits_of(w) * 0 + 1023)
    mantissa = from_bits((bits_of(lifted) & (-0x7FF0000000000001)) | 0x3FF0000000000000)
    return value, w, mantissa, power


@inlined
def _extremes(x: Any, row: Any, weight: Any, off: Any, unit: Any) -> Any:
    """The largest logit of a row, and the largest power of its terms, relative to ``off``."""
    length = x.shape[1]
    top, most = spread_like(-INFINITY, unit), spread_like(-INFINITY, unit)
    for at in range(0, length, width_of(unit)):
        value, _, _, power = _loaded(x, weight, (row, at), length - at, unit)
        top = larger(value, top)
        most = larger(fma(value - off, _LOG2_E, to_real(power)), most)
    a, _ = two_largest(top, None)
    b, _ = two_largest(most, None)
    return a, b


@inlined
def _sign(x: Any) -> Any:
    return select(x > 0.0, 1.0, select(x < 0.0, -1.0, x))


@inlined
def _beyond_numbers(x: Any, row: Any, weight: Any, unit: Any) -> Any:
    """The sum of a row that holds infinities or NaN: one of them, or 0."""
    length = x.shape[1]
    total = 0.0
    for at in range(0, length, width_of(unit)):
        value, w, _, _ = _loaded(x, weight, (row, at), length - at, unit)
        value = select(
            value == value,
            select(value == INFINITY, INFINITY, select(value > -INFINITY, 1.0, w * 0.0)),
            value,
        )
        term = select(w == 0.0, 0.0, w * value)
        term = select(term - term == 0.0, 0.0, term)
        for k in range(width_of(unit)):
            total += lane(term, k)
    return total


@inlined
def _sum_of_row(x: Any, row: Any, weight: Any, off: Any, most: Any, unit: Any) -> Any:
    """What a row counts, relative to the power ``most``, and whether NaN or infinity was met."""
    length = x.shape[1]
    c = constants_for(weight)
    a, b, d, e = 0, 0, 0, 0
    found = False
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        zero = bits_of(spread_like(0.0, unit))
        sums = zero, zero, zero, zero
        terms = 0
        for at in range(start, stop, width_of(unit)):
            value, w, mantissa, power = _loaded(x, weight, (row, at), stop - at, unit)
            z = value - off
            less = _NOTHING + fma(z, _LOG2_E, to_real(power)) < most
            z = select(less, 0.0, z)
            value, h, lo = exponential(z, None, (power + (_SCALE - int(most))) << 52, c)
            rest = (h - value) + lo
            high = value * mantissa
            low = fma(value, mantissa, -high) + rest * mantissa
            high, low = select(less, 0.0, high), select(less, 0.0, low)
            sums = add_term(sums, high, high, low, None, c)
            found = found or any_of(w - w != 0.0)
            terms += 1
        found = found or any_of(not_finite(sums[3]))
        n0, n1, n2, n3 = counts_of(sums, terms, None, c)
        a, b, d, e = a + sum_of(n0), b + sum_of(n1), d + sum_of(n2), e + sum_of(n3)
    return a, b, d, e, found


def _weighted(x: Any, out: Any, sign: Any, weight: Any, slot: int, first: int, last: int) -> None:
    """log|sum(weight * exp(x))| of each row, and the sum's sign."""
    unit = unit_of(x, weight, 1)
    steps = steps_of(weight)
    for row in range(first, last):
        top, most = _extremes(x, row, weight, 0.0, unit)
        off = 0.0
        if top > _FAR or top < -_FAR:
            off = top
            _, most = _extremes(x, row, weight, off, unit)
        a, b, d, e, found = 0, 0, 0, 0, True
        if most - most == 0.0 and top - top == 0.0:
            most = (most + 1.5 * 2.0**52) - 1.5 * 2.0**52
            a, b, d, e, found = _sum_of_row(x, row, weight, off, most, unit)
        if found:
            total = spread_like(_beyond_numbers(x, row, weight, unit), unit)
            store(sign, (row,), 1, _sign(total))
            store(out, (row,), 1, select(total == 0.0, -INFINITY, total * total))
        else:
            zero = bits_of(spread_like(0.0, unit))
            high, low = pair_of((zero + a, zero + b, zero + d, zero + e), steps)
            high, low = high * 8.0, low * 8.0
            # where it is near, the power is part of what the logarithm is taken of
            near = -400.0 < most < 400.0
            power = from_bits((zero + int(most if near else 0.0) + 1023) << 52)
            left = spread_like(0.0 if near else most, unit)
            one = _sign(high)
            value, rest = logarithm(high * one * power, low * one * power)
            product = left * LN2_HIGH
            s, s_rest = two_sum(product, value)
            s_rest = s_rest + fma(left, LN2_LOW, rest)
            t, t_rest = two_sum(spread_like(off, unit), s)
            result = t + (t_rest + s_rest)
            result = select(value > -INFINITY, result, -INFINITY)
            store(sign, (row,), 1, one)
            store(out, (row,), 1, result)


kernel("weighted", _weighted)
