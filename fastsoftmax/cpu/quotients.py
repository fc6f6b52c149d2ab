"""The kernels for what divides by a sum: of elements, of squares, of polynomials.

Results are w_i / sum_j w_j, where the weight w is a polynomial of x, computed as a pair. Where it
could overflow it is that of y = x / 2**n: all weights of a row are then divided by the same power
of two. Weights are counted on grids (weights.py), on lanes; where some of both signs differ too
much for these, they are added exactly (exactly.py), one by one. Either has no order, and which of
them it is depends on a row's values alone.

The gradient of such a quotient is, with the slopes w' and any g, w'_i (g_i - m) / sum_j w_j, where
m is the mean of g by the weights.
"""

from __future__ import annotations

import math
from typing import Any

from fastsoftmax.cpu.batch import KERNELS
from fastsoftmax.cpu.doubles import added, over, plain, times
from fastsoftmax.cpu.exactly import MANY, add, carry, clear, total
from fastsoftmax.cpu.lines import read_line, write_line
from fastsoftmax.cpu.weights import COUNTED, count, divide, weigh

# Powers of two of weights that can be scaled by such powers, and back.
_MODERATE = 900


@plain
def _slope(y: float, unit: float, terms: Any) -> tuple[float, float]:
    """The derivative by y of the polynomial that `weigh` computes."""
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
    exponent = max(_exponent(line[length]), -1000)  # so that the reciprocal is a number
    # A polynomial of what is small has its constant term.
    return exponent if terms[0, 0] == 0.0 else max(exponent, 0)


@plain
def _exact_total(memory: Any, slot: int, length: int, digits: Any) -> tuple[float, float, int]:
    """The sum of all weights, as of `total`."""
    weights, rests = memory[slot, 1], memory[slot, 2]
    clear(digits)
    for i in range(length):
        add(digits, weights[i])
        if rests[i] != 0.0:
            add(digits, rests[i])
        if i % MANY == MANY - 1:
            carry(digits)
    return total(digits)


@plain
def _counted(memory: Any, slot: int, length: int, m: int, signed: bool) -> tuple[float, float]:
    """The sum of all weights over 2**m, above the largest one's power, as a pair; NaN if unknown.

    Weights of both signs may cancel: of these, nothing may be left out.
    """
    count(math.ldexp(1.0, 32 - m), math.ldexp(1.0, m - 32), memory, slot, length)
    first, second, third, lost = memory[slot, 2, length:]
    if signed and lost != 0.0:
        return math.nan, 0.0
    value, rest = added(first * 2.0**-32, 0.0, second * 2.0**-64, 0.0)
    return added(value, rest, third * 2.0**-96, 0.0)


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
        value, rest = 0.0, 0.0
        if line[length + 1] == 0.0:
            unit = math.ldexp(1.0, -_scale(line, length, terms))
            weigh(terms, unit, memory, slot, length)
            m = _exponent(memory[slot, 1, length])
            value = math.nan
            if abs(m) < _MODERATE and length <= COUNTED:
                value, rest = _counted(memory, slot, length, m, len(terms) == 2)
                if value != 0.0 and value == value:
                    divide(math.ldexp(1.0, -m), value, rest, memory, slot, length)
            if value != value:
                value = _divide_exactly(memory, slot, length, digits[slot])
        if value == 0.0:
            for i in range(length):
                line[i] = math.nan
        write_line(out, mask, memory, slot, row)


@plain
def _divide_exactly(memory: Any, slot: int, length: int, digits: Any) -> float:
    """Have quotients in line 0 where weights differ too much for `count`; their sum, not scaled."""
    line, weights, rests = memory[slot, 0], memory[slot, 1], memory[slot, 2]
    value, rest, power = _exact_total(memory, slot, length, digits)
    before = power + 1 if power < 0 else power  # so that what is between does not overflow
    if value != 0.0:
        for i in range(length):
            high, low = math.ldexp(weights[i], -before), math.ldexp(rests[i], -before)
            result, _ = over(high, low, value, rest)
            line[i] = math.ldexp(result, before - power)
    return value


@plain
def _quotient_vjp(
    x: Any, out: Any, mask: Any, g: Any, terms: Any, digits: Any, memory: Any, slot: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """The gradient of each row's quotients by its elements, along g."""
    length = x.shape[1]
    for row in range(first, last):
        read_line(x, mask, memory, slot, 0, row)
        read_line(g, mask, memory, slot, 3, row)
        line, along = memory[slot, 0], memory[slot, 3]
        n, m = _scale(line, length, terms), _exponent(along[length])
        unit = math.ldexp(1.0, -n)
        value, rest, power = 0.0, 0.0, 0
        mean, mean_rest = 0.0, 0.0
        if line[length + 1] == 0.0 and along[length + 1] == 0.0:
            weigh(terms, unit, memory, slot, length)
            value, rest, power = _exact_total(memory, slot, length, digits[slot])
        if value != 0.0:
            _add_products(memory, slot, length, m, digits[slot])
            mean, mean_rest, n_mean = total(digits[slot])
            mean, mean_rest = over(mean, mean_rest, value, rest)
            mean, mean_rest = (
                math.ldexp(mean, n_mean - power),
                math.ldexp(mean_rest, n_mean - power),
            )
        for i in range(length):
            result = math.nan
            if value != 0.0:
                high, low = added(math.ldexp(along[i], -m), 0.0, -mean, -mean_rest)
                slope, slope_rest = _slope(line[i] * unit, unit, terms)
                high, low = times(high, low, slope, slope_rest)
                high, low = over(high, low, value, rest)
                result = math.ldexp(high, m - n - power)
            line[i] = result
        write_line(out, mask, memory, slot, row)


@plain
def _add_products(memory: Any, slot: int, length: int, m: int, digits: Any) -> None:
    """The sum of g / 2**m by the weights; what is absent has the weight 0."""
    weights, rests, along = memory[slot, 1], memory[slot, 2], memory[slot, 3]
    clear(digits)
    for i in range(length):
        if weights[i] != 0.0:
            value, rest = times(weights[i], rests[i], math.ldexp(along[i], -m), 0.0)
            add(digits, value)
            add(digits, rest)
        if i % MANY == MANY - 1:
            carry(digits)


KERNELS["quotient"] = _quotient
KERNELS["quotient_vjp"] = _quotient_vjp
