"""What quotients are made of, on lanes: weights, their sums, and the quotients themselves.

They work on lines of float64 (lines.py): line 0 has elements, then results; lines 1 and 2 weights
and their rests. A sum of up to 2**20 weights is counted on three grids, 32 bits apart, below the
largest one: integers, which have no order. They leave out less than 2**-86 of the largest for each.
"""

from __future__ import annotations

from typing import Any

from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    State,
    Value,
    Variables,
    fma,
    folded,
    larger,
    loop,
    number,
    select,
    smaller,
)
from fastsoftmax.arithmetic.normalizer import INFINITY
from fastsoftmax.arithmetic.pairs import Pair, two_sum
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.target import CPU

_WIDTH = 8
#: The longest row whose counts are exact in float64.
COUNTED = 1 << 20

_MAGIC = 1.5 * 2.0**52


def _normal(high: Value, low: Value) -> Pair:
    total = high + low
    return Pair(total, low - (total - high))


def _times(a: Pair, b: Value) -> Pair:
    high = a.value * b
    return _normal(high, fma(a.value, b, -high) + a.rest * b)


def _plus(a: Pair, b: Pair) -> Pair:
    high, low = two_sum(a.value, b.value)
    return _normal(high, low + (a.rest + b.rest))


def _weigh(terms: Array, unit: Value, memory: Array, slot: Value, length: Value) -> None:
    """sum_k terms[k] y**k unit**(order - k), y = unit * x; 0 for what is absent, which is -inf.

    Behind the weights is their largest size.
    """
    order = terms.shape[0] - 1
    step = smaller(unit, 1.0)  # above 1 it is that of a polynomial of one term
    zero = number(0.0, DOUBLE, _WIDTH)
    largest = Variables(zero)
    for at in loop(0, length, _WIDTH):
        count = length - at
        x = memory.load((slot, 0, at), _WIDTH, count, -INFINITY)
        y = x * unit
        first = number(terms.one(order, 0), DOUBLE, _WIDTH)
        state = Variables(first, zero, number(1.0, DOUBLE))
        for k in loop(0, order):
            value, rest, power = state.get()
            power = power * step
            term = Pair(*(terms.one(order - 1 - k, part) * power for part in (0, 1)))
            term = Pair(*(number(part, DOUBLE, _WIDTH) for part in term))
            state.set(*_plus(_times(Pair(value, rest), y), term), power)
        value, rest, _ = state.get()
        there = x > -INFINITY
        value, rest = select(there, value, 0.0), select(there, rest, 0.0)
        memory.store((slot, 1, at), value, count)
        memory.store((slot, 2, at), rest, count)
        (most,) = largest.get()
        largest.set(larger(select(value < 0.0, -value, value), most))
    (most,) = largest.get()
    most = folded([most], lambda a, b: [larger(a[0], b[0])], None)[0]
    memory.store((slot, 1, length), most)


def _count(up: Value, back: Value, memory: Array, slot: Value, length: Value) -> None:
    """The counts of weights times ``up``, at most 2**33 each, on three grids.

    Behind the rests: the counts of 1, 2**-32 and 2**-64, and whether anything was left out.
    """
    zero = number(0.0, DOUBLE, _WIDTH)
    state = Variables(zero, zero, zero, zero)
    for at in loop(0, length, _WIDTH):
        count = length - at
        value = memory.load((slot, 1, at), _WIDTH, count)
        scaled = value * up
        left, counts = scaled, []
        rests = memory.load((slot, 2, at), _WIDTH, count) * up
        for more in (0.0, rests * 2.0**32, 0.0):
            left = left + more
            whole = (left + _MAGIC) - _MAGIC
            counts.append(whole)
            left = (left - whole) * 2.0**32
        exact = (left == 0.0) & (scaled * back == value)
        *totals, lost = state.get()
        totals = [total + each for total, each in zip(totals, counts, strict=True)]
        state.set(*totals, select(exact, lost, 1.0))

    def added(a: State, b: State) -> State:
        return [one + other for one, other in zip(a, b, strict=True)]

    for place, total in enumerate(folded(state.get(), added, None)):
        memory.store((slot, 2, length + place), total)


def _divide(
    scale: Value, value: Value, rest: Value, memory: Array, slot: Value, length: Value
) -> None:
    """Weights times ``scale`` over value + rest, rounded once."""
    for at in loop(0, length, _WIDTH):
        count = length - at
        high = memory.load((slot, 1, at), _WIDTH, count) * scale
        low = memory.load((slot, 2, at), _WIDTH, count) * scale
        quotient = high / value
        left = fma(-quotient, value, high) + (low - quotient * rest)
        memory.store((slot, 0, at), quotient + left / value, count)


def _piece(write: Any, *names: str) -> Any:
    return generated(write, (*names, "memory", "slot", "length"), CPU)


weigh = _piece(_weigh, "terms", "unit")
count = _piece(_count, "up", "back")
divide = _piece(_divide, "scale", "value", "rest")
