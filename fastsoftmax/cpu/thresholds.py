"""The kernels for sparsemax and entmax: a row's threshold, and what is above it.

With a = alpha - 1 and beta = 1 / a, p_i = max(a x_i - tau, 0)**beta, and tau is such that the sum
is 1. Only what is less than 1 / a below the largest element can be above the threshold. These few
are sorted, so that nothing that is added up has an order but that of its values.

x_k is above the threshold where F(k) = sum_j max(a (x_j - x_k), 0)**beta is below 1, and F grows
with k: the last such one, the reference, is found by bisection. Then v = a x_k - tau is the root of
F(v) = sum_j (v + a (x_j - x_k))**beta = 1, where differences are exact pairs and none is negative.
For beta >= 1 F is convex in v, and for beta < 1 in y = v**beta: Newton's steps come from the right,
each nearer, in float64 until it says no more, then in pairs.
"""

from __future__ import annotations

import math
from typing import Any

from fastsoftmax.cpu.batch import KERNELS
from fastsoftmax.cpu.doubles import added, over, plain, power, quick_power, times, two_sum
from fastsoftmax.cpu.exactly import MANY, add, carry, clear, total
from fastsoftmax.cpu.lines import gather, read_line, scatter, write_line

# More than Newton's method takes: log(n) steps to be near, and a few more.
_STEPS = 200


@plain
def _sink(x: Any, start: int, count: int) -> None:
    """Have the smaller ones above, in the part of a heap that begins at ``start``."""
    value, place = x[start], start
    while True:
        below = 2 * place + 1
        if below >= count:
            break
        if below + 1 < count and x[below + 1] < x[below]:
            below += 1
        if x[below] >= value:
            break
        x[place] = x[below]
        place = below
    x[place] = value


@plain
def _sort(x: Any, count: int) -> None:
    """Sort numbers, the largest first."""
    for start in range(count // 2 - 1, -1, -1):
        _sink(x, start, count)
    for last in range(count - 1, 0, -1):
        x[0], x[last] = x[last], x[0]
        _sink(x, 0, last)


@plain
def _above(one: float, reference: float, a: float, v: float, rest: float) -> tuple[float, float]:
    """v + a (one - reference)."""
    high, low = two_sum(one, -reference)
    high, low = times(high, low, a, 0.0)
    return added(high, low, v, rest)


@plain
def _sum(
    x: Any, count: int, reference: float, v: float, rest: float, alpha: Any, fine: bool
) -> tuple[float, float, float]:
    """F(v) of the first ``count`` elements as a pair, and sum_j p_j v / u_j; see above."""
    a, beta, beta_rest = alpha[0], alpha[1], alpha[2]
    value, low, slope = 0.0, 0.0, 0.0
    for j in range(count):
        if fine:
            u, u_rest = _above(x[j], reference, a, v, rest)
            p, p_rest = power(u, u_rest, beta, beta_rest)
            value, low = added(value, low, p, p_rest)
        else:
            u = (x[j] - reference) * a + v
            p = quick_power(u, beta)
            value += p
        if u > 0.0:
            slope += p * (v / u)
    return value, low, slope


@plain
def _unsure(alpha: Any) -> float:
    """What a sum in float64 may be off by, where it is about 1, and more."""
    beta: float = alpha[1]
    return 2.0**-40 + beta * 2.0**-46


@plain
def _inside(x: Any, k: int, alpha: Any) -> bool:
    """Whether the k-th largest element is above the threshold."""
    value, low, _ = _sum(x, k, x[k], 0.0, 0.0, alpha, False)
    if abs(value - 1.0) > _unsure(alpha):
        return value < 1.0
    value, low, _ = _sum(x, k, x[k], 0.0, 0.0, alpha, True)
    value, low = added(value, low, -1.0, 0.0)
    return value < 0.0


@plain
def _threshold(x: Any, count: int, alpha: Any) -> tuple[int, float, float]:
    """The last of the sorted elements that is above the threshold, and how far, times a."""
    a, beta = alpha[0], alpha[1]
    k, high = 0, count - 1
    while k < high:
        middle = (k + high + 1) // 2
        if _inside(x, middle, alpha):
            k = middle
        else:
            high = middle - 1
    # v is at most what is left of 1 above the reference, and less than the next one's distance.
    v, rest = _above(x[k], x[0], a, 1.0, 0.0)
    if k + 1 < count:
        next_one, next_rest = _above(x[k], x[k + 1], a, 0.0, 0.0)
        if next_one < v:
            v, rest = next_one, next_rest
    y, y_rest = v, rest
    if beta < 1.0:
        y, y_rest = power(v, rest, beta, alpha[2])
    fine, done = False, False
    for _ in range(_STEPS):
        value, low, slope = _sum(x, k + 1, x[k], v, rest, alpha, fine)
        value, low = added(value, low, -1.0, 0.0)
        if not fine and value <= _unsure(alpha):
            fine = True
            continue
        step, step_rest = over(value, low, slope * max(beta, 1.0), 0.0)
        # The sum changes by beta times as much; rounding alone may change it by 2**-98 beta.
        done = fine and abs(step) * max(beta, 1.0) <= 2.0**-50 + beta * 2.0**-94
        step, step_rest = times(y, y_rest, step, step_rest)
        y, y_rest = added(y, y_rest, -step, -step_rest)
        v, rest = y, y_rest
        if beta < 1.0:
            v, rest = power(y, y_rest, a, 0.0)
        if done:
            break
    return k, v, rest


@plain
def _entmax(
    x: Any, out: Any, mask: Any, alpha: Any, memory: Any, slot: int, first: int, last: int
) -> None:
    length = x.shape[1]
    for row in range(first, last):
        gather(x, mask, alpha[3], memory, slot, row)
        found, ordered = memory[slot, 0], memory[slot, 2]
        count = int(found[length])
        if count > 0:
            for j in range(count):
                ordered[j] = found[j]
            _sort(ordered, count)
            k, v, rest = _threshold(ordered, count, alpha)
            for j in range(count):
                p = 0.0
                if found[j] >= ordered[k]:
                    u, u_rest = _above(found[j], ordered[k], alpha[0], v, rest)
                    p, _ = power(u, u_rest, alpha[1], alpha[2])
                found[j] = p
        scatter(out, mask, memory, slot, row)


@plain
def _sum_of(
    line: Any, along: Any, length: int, alpha: Any, most: float, m: int, weighted: bool, digits: Any
) -> tuple[float, float, int]:
    """The sum of s, relative to that of ``most``, or of s g / 2**m."""
    clear(digits)
    for i in range(length):
        if line[i] > 0.0:
            s, rest = over(line[i], 0.0, most, 0.0)
            s, rest = power(s, rest, alpha[0], 0.0)
            if weighted:
                s, rest = times(s, rest, math.ldexp(along[i], -m), 0.0)
            add(digits, s)
            add(digits, rest)
        if i % MANY == MANY - 1:
            carry(digits)
    return total(digits)


@plain
def _gradient(
    line: Any, along: Any, length: int, alpha: Any, most: float, m: int, digits: Any
) -> None:
    """s_i (g_i - m) in the place of p_i, where s is p**(2 - alpha) and m the mean of g by s."""
    low, low_rest, exponent = _sum_of(line, along, length, alpha, most, m, False, digits)
    mean, rest, n = _sum_of(line, along, length, alpha, most, m, True, digits)
    mean, rest = over(mean, rest, low, low_rest)
    mean, rest = math.ldexp(mean, n - exponent), math.ldexp(rest, n - exponent)
    for i in range(length):
        result = 0.0
        if line[i] > 0.0:
            high, low = added(math.ldexp(along[i], -m), 0.0, -mean, -rest)
            s, s_rest = power(line[i], 0.0, alpha[0], 0.0)
            high, low = times(s, s_rest, high, low)
            result = math.ldexp(high, m)
        line[i] = result


@plain
def _entmax_vjp(
    p: Any, out: Any, mask: Any, g: Any, alpha: Any, digits: Any, memory: Any, slot: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """The gradient of each row's entmax along g, from its results; ``alpha`` holds 2 - alpha."""
    length = p.shape[1]
    for row in range(first, last):
        read_line(p, mask, memory, slot, 0, row)
        read_line(g, mask, memory, slot, 1, row)
        line, along = memory[slot, 0], memory[slot, 1]
        least, top, strange = line[length], 0.0, line[length + 1] != 0.0
        for i in range(length):
            if line[i] > 0.0:
                least, top = min(least, line[i]), max(top, abs(along[i]))
                strange |= along[i] - along[i] != 0.0
        if strange:
            line[:length] = math.nan
        else:
            # The largest s is that of the largest p, or of the least: none is infinite beside it.
            most = least if alpha[0] < 0.0 else line[length]
            _gradient(line, along, length, alpha, most, math.frexp(top)[1], digits[slot])
        write_line(out, mask, memory, slot, row)


KERNELS["entmax"] = _entmax
KERNELS["entmax_vjp"] = _entmax_vjp
