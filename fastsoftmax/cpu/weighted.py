"""The kernel for weighted sums: rows of logits and of float64 weights, of any length.

Everything is computed in float64, whatever the logits' type. The power of a term is that of its
exponential and of its weight together, so weights of any magnitude count, and a total of almost 1,
as of weights that sum to 1, keeps what is next to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    INT64,
    State,
    Value,
    Variables,
    any_of,
    bits_of,
    fma,
    folded,
    from_bits,
    larger,
    loop,
    number,
    select,
    smaller,
    sum_of,
    to_integer,
    to_real,
    when,
    wide,
)
from fastsoftmax.arithmetic.normalizer import INFINITY
from fastsoftmax.arithmetic.pairs import (
    LN2_HIGH,
    LN2_LOW,
    Constants,
    Pair,
    Sums,
    add_terms,
    added,
    counts_of,
    counts_on,
    exponential,
    in_powers,
    logarithm,
    not_finite,
    product,
    shift_by,
    totals_of,
    two_sum,
)
from fastsoftmax.cpu.batch import KERNELS
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.sizes import CHUNK
from fastsoftmax.cpu.target import CPU

_WIDTH = 8
_GRIDS = (3,)
_LOG2_E = 1.4426950408889634
# Terms are signed, and those of the largest power below 4 of its steps.
_ROOM = 3
# Logits beyond this have the largest of them taken off.
_FAR = 2.0**20
# What is less than the largest term by so many powers of two is less than a grid's step.
_NOTHING = 300.0


class _Weighted:
    """A row of logits and weights."""

    def __init__(self, x: Array, weight: Array, row: Value) -> None:
        self._x, self._weight, self._row = x, weight, row
        self.length = x.shape[1]

    def load(self, at: Value, stop: Value) -> tuple[Value, Value]:
        """Logits, -inf where the weight is 0, and weights."""
        w = self._weight.load((self._row, at), _WIDTH, stop - at)
        x = wide(self._x.load((self._row, at), _WIDTH, stop - at, -INFINITY))
        return select(w == 0.0, -INFINITY, x), w

    def over(self, start: Any, stop: Any, state: State, body: Any) -> State:
        """The state after all lanes: ``body(x, weight, state)``."""
        variables = Variables(*state)
        for at in loop(start, stop, _WIDTH):
            variables.set(*body(*self.load(at, stop), variables.get()))
        return variables.get()


def sign_of(x: Value) -> Value:
    """1, 0 or -1."""
    return select(x > 0.0, 1.0, select(x < 0.0, -1.0, x))


def _largest(row: _Weighted, of: Callable[[Value, Value], Value]) -> Value:
    """The largest of what is made of each logit and weight."""

    def body(x: Value, w: Value, state: State) -> State:
        return [larger(of(x, w), state[0])]

    largest = row.over(0, row.length, [number(-INFINITY, DOUBLE, _WIDTH)], body)
    return folded(largest, lambda a, b: [larger(a[0], b[0])], None)[0]


def _power_of(x: Value, w: Value, off: Value) -> Value:
    """A term's power of two, not rounded."""
    return fma(x - off, _LOG2_E, to_real(in_powers(w)[1]))


def _beyond_numbers(row: _Weighted) -> Value:
    """The sum of a row that holds infinities or NaN: one of them, or 0."""

    def body(x: Value, w: Value, state: State) -> State:
        known = select(x == INFINITY, INFINITY, select(x > -INFINITY, 1.0, w * 0.0))
        term = select(w == 0.0, 0.0, w * select(x == x, known, x))
        return [state[0] + select(term - term == 0.0, 0.0, term)]

    total = row.over(0, row.length, [number(0.0, DOUBLE, _WIDTH)], body)
    return folded(total, lambda a, b: [a[0] + b[0]], None)[0]


def _counted(row: _Weighted, off: Value, most: Value, c: Constants) -> tuple[State, Value]:
    """What the row counts, relative to the power ``most``, and whether it holds NaN or infinity."""
    none = Sums.none(DOUBLE, _WIDTH, _GRIDS)
    totals = Variables(*[number(0, INT64)] * counts_on(*_GRIDS, DOUBLE), number(0, INT64))
    for start in loop(0, row.length, CHUNK):
        stop = smaller(start + CHUNK, row.length)

        def body(x: Value, w: Value, state: State) -> State:
            mantissa, power = in_powers(w)
            nothing = most > _power_of(x, w, off) + _NOTHING
            # within the range that `exponential` wants where the term is nothing, too
            shift = shift_by(most + _ROOM - select(nothing, most, to_real(power)), c)
            term = exponential(select(nothing, 0.0, x - off), None, shift, c, exact=True)
            term = product(term, select(nothing, 0.0, mantissa))
            *counts, seen = state
            sums = add_terms(Sums(counts, seen, _GRIDS), [term], c)
            return [*sums.counts, sums.seen | bits_of(w - w)]

        *counts, seen = row.over(start, stop, [*none.counts, none.seen], body)
        more = counts_of(Sums(counts, seen, _GRIDS), (stop - start + (_WIDTH - 1)) // _WIDTH, c)
        found = select(any_of(not_finite(seen, c)), number(1, INT64), 0)
        totals.set(*added(totals.get(), [*map(sum_of, more), found]))
    *counts, found = totals.get()
    return counts, found != 0


def _weighted(
    x: Array, out: Array, sign: Array, weight: Array, slot: Value, first: Value, last: Value
) -> None:
    """log|sum(weight * exp(x))| of each row, and the sum's sign."""
    c = Constants(DOUBLE)
    for line in loop(first, last):
        row = _Weighted(x, weight, line)
        top = _largest(row, lambda x, w: x)
        off = select((top > _FAR) | (top < -_FAR), top, 0.0)
        most = _largest(row, lambda x, w: _power_of(x, w, off))
        most = (most + 1.5 * 2.0**52) - 1.5 * 2.0**52
        counts, found = _counted(row, off, most, c)
        (whole,) = totals_of(counts, _GRIDS, c)
        value, one = logarithm_of_total(whole, off, most)
        out.store((line,), value)
        sign.store((line,), one)
        for _ in when(found | (most - most != 0.0) | (top - top != 0.0)):
            total = _beyond_numbers(row)
            sign.store((line,), sign_of(total))
            out.store((line,), select(total == 0.0, -INFINITY, total * total))


def logarithm_of_total(total: Pair, off: Value, most: Value) -> tuple[Value, Value]:
    """The logarithm of a total's absolute value, relative to a power and exp(off), and its sign."""
    high, low = total
    one = sign_of(high)
    # where it is near, the power is part of what the logarithm is taken of
    near = (most > -400.0) & (most < 400.0)
    power = from_bits((to_integer(select(near, most, 0.0)) + 1023) << 52) * (one * 2.0**_ROOM)
    left = select(near, 0.0, most)
    value, rest = logarithm(high * power, low * power)
    whole = left * LN2_HIGH  # exact of integers of 11 bits, with a rest of others
    s, s_rest = two_sum(whole, value)
    t, t_rest = two_sum(off, s)
    small = fma(left, LN2_LOW, rest) + fma(left, LN2_HIGH, -whole)
    result = t + (t_rest + (s_rest + small))
    return select(value > -INFINITY, result, -INFINITY), one


_NAMES = "x", "out", "sign", "weight", "slot", "first", "last"
KERNELS["weighted"] = generated(_weighted, _NAMES, CPU)
