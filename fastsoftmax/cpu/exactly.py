"""Exact sums of float64 in plain Numba code: one integer of 2176 bits, which has no order.

It is an array of digits of 32 bits in 64, so that carries can wait. Digit 0 counts 2**-1074, the
smallest subnormal number: whatever cancels, nothing is lost.

Source: U. W. Kulisch, Computer arithmetic and validity (2008), chapter 8,
doi:10.1515/9783110203196.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastsoftmax.cpu.doubles import added, plain
from fastsoftmax.cpu.sizes import DIGITS

#: How many numbers can be added before `carry`.
MANY = 1 << 28

_LAST = DIGITS - 1
_DIGIT = 0xFFFFFFFF


@plain
def clear(digits: Any) -> None:
    """Make it 0."""
    for i in range(DIGITS):
        digits[i] = 0


@plain
def add(digits: Any, value: float) -> None:
    """Add a finite number."""
    bits = np.float64(value).view(np.int64)
    place = (bits >> 52) & 0x7FF
    size = bits & 0xFFFFFFFFFFFFF
    if place > 0:
        size |= 0x10000000000000
        place -= 1
    digit, shift = place >> 5, place & 31
    low = (size & _DIGIT) << shift
    high = ((size >> 32) << shift) + (low >> 32)
    sign = 1 - 2 * (bits < 0)
    digits[digit] += sign * (low & _DIGIT)
    digits[digit + 1] += sign * (high & _DIGIT)
    digits[digit + 2] += sign * (high >> 32)


@plain
def carry(digits: Any) -> None:
    """Have every digit but the last one from 0 to 2**32 - 1."""
    for i in range(_LAST):
        digits[i + 1] += digits[i] >> 32
        digits[i] &= _DIGIT


@plain
def total(digits: Any) -> tuple[float, float, int]:
    """The sum as a pair and a power of two: (value + rest) * 2**power, to 2**-103 of it.

    The value is from 1 to 2 in size, or 0; the digits are those of the sum's size, afterwards.
    """
    carry(digits)
    sign = 1.0
    if digits[_LAST] < 0:
        sign = -1.0
        for i in range(DIGITS):
            digits[i] = -digits[i]
        carry(digits)
    top = _LAST
    while top > 0 and digits[top] == 0:
        top -= 1
    value, rest = sign * digits[top], 0.0
    for i in range(1, min(top, 5) + 1):
        value, rest = added(value, rest, sign * digits[top - i] * 2.0 ** (-32 * i), 0.0)
    n = math.frexp(value)[1] - 1 if value != 0.0 else 0
    return math.ldexp(value, -n), math.ldexp(rest, -n), 32 * top - 1074 + n
