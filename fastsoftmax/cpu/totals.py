"""Sums that have no order, by the kernels of sums.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastsoftmax.cpu import calls, plan

Array = np.ndarray[Any, Any]

# Numbers whose counts are added by one thread at one go.
PIECE = 1 << 14
# Counts of 2**14 numbers are then below 2**63.
BITS = 48
# Smaller ones are not scaled up without overflow; nor are they worth a way of their own.
SMALLEST = 2.0**-900


def total(x: Array) -> float:
    """The sum of an array in float64, the same in any order.

    It is exact, but for 2**-96 of the largest number of each, and rounded once.
    """
    x = np.ascontiguousarray(x, np.float32 if x.dtype == np.float32 else np.float64).reshape(-1)
    whole = x.size // PIECE * PIECE
    parts = [part for part in (x[:whole].reshape(-1, PIECE), x[whole:].reshape(1, -1)) if part.size]
    tops = [calls.largest_products(part, None) for part in parts]
    top = max((float(each.max()) for each in tops), default=0.0)
    if not (SMALLEST < top < math.inf) or any(np.isnan(each).any() for each in tops):
        return _odd_total(x)
    power = BITS - math.frexp(top)[1]
    high = low = 0
    for part in parts:
        counts = calls.counted_products(part, None, np.full(len(part), math.ldexp(1.0, power)))
        high, low = high + sum(counts[:, 0].tolist()), low + sum(counts[:, 1].tolist())
    return math.ldexp((high << BITS) + low, -power - BITS)


def _odd_total(x: Array) -> float:
    """Of infinities, NaN, and what is next to nothing."""
    if np.isfinite(x).all():
        return math.fsum(x.tolist())
    with np.errstate(invalid="ignore"):
        return float(np.sum(x[~np.isfinite(x)], dtype=np.float64))


def products(x: Array, weight: Array | None) -> Array:
    """sum(weight * x) of each row in float64, the same in any order; 0 * infinity is 0."""
    tops = calls.largest_products(x, weight)
    odd = ~((tops > SMALLEST) & (tops < math.inf))
    bits = min(BITS, 61 - x.shape[1].bit_length())
    power = bits - np.frexp(np.where(odd, 1.0, tops))[1]
    counts = calls.counted_products(x, weight, np.ldexp(1.0, power))
    high, low = counts[:, 0], counts[:, 1]
    left = (high & 0xFFFFFFFF) + np.ldexp(low.astype(np.float64), -BITS)
    sums: Array = np.ldexp((high >> 32).astype(np.float64) * 2.0**32 + left, -power)
    for row in np.flatnonzero(odd):
        numbers = plan.numbers_of(x[row])
        if weight is not None:
            counted = weight[row] != 0
            numbers = numbers[counted] * weight[row][counted].astype(np.float64)
        sums[row] = _odd_total(numbers)
    return sums
