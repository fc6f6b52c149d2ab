"""The kernels for what divides by a sum that is exact: of elements, of squares, of polynomials.

Results are w_i / sum_j w_j, where the weight w is a polynomial of x, computed as a pair and added
up without an order (exactly.py). Where it could overflow it is that of y = x / 2**n: all weights of
a row are then divided by the same power of two. The gradient of such a quotient is, with the slopes
w' and any g, w'_i (g_i - m) / sum_j w_j, where m is the mean of g by the weights.
"""

from __future__ import annotations

import math
from typing import Any

from fastsoftmax.cpu.batch import KERNELS
from fastsoftmax.cpu.doubles import added, over, plain, times
from fastsoftmax.cpu.exactly import MANY, add, carry, clear, total
from fastsoftmax.cpu.lines import read_line, write_line


@plain
def _weight(y: float, unit: float, terms: Any) -> tuple[float, float]:
    """sum_k terms[k] y**k unit**(order - k): 0 for what is absent, which is -inf."""
    if y == -math.inf:
        return 0.0, 0.0
    last = len(terms) - 1
    value, rest, power = terms[last, 0], 0.0, 1.0
    for k in range(last - 1, -1, -1):
        value, rest = times(value, rest, y, 0.0)
        power *= unit
        if terms[k, 0] != 0.0:
            value, rest = added(value, rest, terms[k, 0] * power, terms[k, 1] * power)
    return value, rest


@plain
def _slope(y: float, unit: float, terms: Any) -> tuple[float, float]:
    """The derivative of that by y."""
    last = len(terms) - 1
    value, rest, power = last * terms[last, 0], 0.0, 1.0
    for k in range(last - 1, 0, -1):
        value, rest = times(value, rest, y, 0.0)
        power *= unit
        if terms[k, 0] != 0.0:
            term, term_rest = times(terms[k, 0], terms[k, 1], float(k), 0.0)
            value, rest = added(value, rest, term * power, term_rest * power)
    return value, rest


@plain
def _exponent(size: float) -> int:
    """n, where size is from 2**n to 2**(n + 1); 0 for 0."""
    return math.frexp(size)[1] - 1 if size > 0.0 else 0


@plain
def _scale(line: Any, length: int, terms: Any) -> int:
    """The n by whose power of two elements are divided, of a line with its largest size behind."""
    last = len(terms) - 1
    if last == 1:  # elements themselves, which may cancel: each bit of theirs counts
        return 0
    exponent = _exponent(line[length])
    # A polynomial of what is small has its constant term.
    return exponent if terms[0, 0] == 0.0 else max(exponent, 0)


@plain
def _divide(line: Any, length: int, n: int) -> None:
    for i in range(length):
        line[i] = math.ldexp(line[i], -n)


@plain
def _add_weights(line: Any, length: int, unit: float, terms: Any, digits: Any) -> None:
    clear(digits)
    for i in range(length):
        value, rest = _weight(line[i], unit, terms)
        add(digits, value)
        add(digits, rest)
        if i % MANY == MANY - 1:
            carry(digits)


@plain
def _quotient(
    x: Any, out: Any, mask: Any, terms: Any, digits: Any, memory: Any, slot: int, first: int,
    last: int,
) -> None:  # fmt: skip
    """Each row's quotients; NaN where NaN or an infinity is in the row, and where the sum is 0."""
    length = x.shape[1]
    for row in range(first, last):
        read_line(x, mask, memory, slot, 0, row)
        line = memory[slot, 0]
        n = _scale(line, length, terms)
        unit = math.ldexp(1.0, -n)
        value, rest, power = 0.0, 0.0, 0
        if line[length + 1] == 0.0:
            if n != 0:
                _divide(line, length, n)
            _add_weights(line, length, unit, terms, digits[slot])
            value, rest, power = total(digits[slot])
        before = power + 1 if power < 0 else power  # so that what is between does not overflow
        for i in range(length):
            result = math.nan
            if value != 0.0:
                high, low = _weight(line[i], unit, terms)
                high, low = math.ldexp(high, -before), math.ldexp(low, -before)
                result, _ = over(high, low, value, rest)
                result = math.ldexp(result, before - power)
            line[i] = result
        write_line(out, mask, memory, slot, row)


@plain
def _quotient_vjp(
    x: Any, out: Any, mask: Any, g: Any, terms: Any, digits: Any, memory: Any, slot: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """The gradient of each row's quotients by its elements, along g."""
    length = x.shape[1]
    for row in range(first, last):
        read_line(x, mask, memory, slot, 0, row)
        read_line(g, mask, memory, slot, 1, row)
        line, along = memory[slot, 0], memory[slot, 1]
        n, m = _scale(line, length, terms), _exponent(along[length])
        unit = math.ldexp(1.0, -n)
        value, rest, power = 0.0, 0.0, 0
        mean, mean_rest = 0.0, 0.0
        if line[length + 1] == 0.0 and along[length + 1] == 0.0:
            if n != 0:
                _divide(line, length, n)
            _divide(along, length, m)
            _add_weights(line, length, unit, terms, digits[slot])
            value, rest, power = total(digits[slot])
        if value != 0.0:
            _add_products(line, along, length, unit, terms, digits[slot])
            top, top_rest, top_power = total(digits[slot])
            mean, mean_rest = over(top, top_rest, value, rest)
            mean = math.ldexp(mean, top_power - power)
            mean_rest = math.ldexp(mean_rest, top_power - power)
        for i in range(length):
            result = math.nan
            if value != 0.0:
                high, low = added(along[i], 0.0, -mean, -mean_rest)
                slope, slope_rest = _slope(line[i], unit, terms)
                high, low = times(high, low, slope, slope_rest)
                high, low = over(high, low, value, rest)
                result = math.ldexp(high, m - n - power)
            line[i] = result
        write_line(out, mask, memory, slot, row)


@plain
def _add_products(line: Any, along: Any, length: int, unit: float, terms: Any, digits: Any) -> None:
    """The sum of g by the weights; what is absent has the weight 0."""
    clear(digits)
    for i in range(length):
        value, rest = _weight(line[i], unit, terms)
        if value != 0.0:
            value, rest = times(value, rest, along[i], 0.0)
            add(digits, value)
            add(digits, rest)
        if i % MANY == MANY - 1:
            carry(digits)


KERNELS["quotient"] = _quotient
KERNELS["quotient_vjp"] = _quotient_vjp
