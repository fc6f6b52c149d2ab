"""The largest logits of rows, and where they are: in order, of equal ones the first first.

Along a row a bound is known before it is scanned: of the two largest logits that each lane has met,
so many as are wanted are not below it, and hardly any others of the row. What is not below goes to
scratch memory and is ranked there. Nothing that depends on the logits is a branch but whether that
memory is full: a branch that is foreseen wrongly costs as much as 30 logits.

NaN counts as infinity: rows that hold either have no probabilities.
"""

from __future__ import annotations

from typing import Any

from numba import types

from fastsoftmax.arithmetic.lanes import (
    INT64,
    State,
    Value,
    Variables,
    any_of,
    bits_of,
    count_of,
    folded,
    from_bits,
    in_64_bits,
    joined,
    lane,
    larger,
    like,
    loop,
    narrowed,
    number,
    part,
    select,
    shuffled,
    to_integer,
    to_real,
    when,
    wide,
)
from fastsoftmax.arithmetic.normalizer import INFINITY, NAN, largest_of_both
from fastsoftmax.cpu.batch import Batch
from fastsoftmax.cpu.memory import Array, computed_in, numbered, scratch
from fastsoftmax.cpu.sizes import CHUNK, MOST_CHOSEN, VECTOR
from fastsoftmax.cpu.target import compressed

# Lanes of whose two largest logits a bound is made: of 1000 normal logits 12 to 15 are above it for
# ten that are wanted, and twice as many lanes take longer than the two that are spared.
_LANES = 8
# Candidates that are kept before they are ranked, and only as many as are wanted stay.
_CANDIDATES = 128


def bound_of(largest: State, several: Value) -> Value:
    """A number that so many logits exceed, of the largest and second largest of lanes.

    NaN, which all logits count as exceeding, where that many are not known.
    """
    values = joined(folded(largest, largest_of_both, _LANES))
    reached = bits_of(like(0.0, values))
    for k in range(2 * _LANES):
        reached = select(shuffled(values, values, [k] * 2 * _LANES) >= values, reached + 1, reached)
    # Of those that enough others reach, the largest.
    known = select(in_64_bits(reached) >= several, values, -INFINITY)
    (bound,) = folded([known], lambda a, b: [larger(a[0], b[0])], None)
    return select(bound > -INFINITY, _below(bound), NAN)


def _below(x: Value) -> Value:
    """The next smaller number."""
    bits = bits_of(x)
    smallest = bits_of(number(-0.0, x.element)) + 1
    return from_bits(select(x > 0.0, bits - 1, select(x < 0.0, bits + 1, smallest)))


def _append(array: Array, count: Value, values: Value, condition: Value) -> Value:
    """Store the lanes for which a condition holds from a place on, and return what follows them.

    Beyond that the array has room for as many lanes.
    """
    size = VECTOR // array.itemsize
    for start in range(0, values.width or 1, size):
        held, taken = part(values, start, size), part(condition, start, size)
        first = compressed(held, taken)
        if first is not None:
            array.store((0, count), first)
            count = count + count_of(taken)
            continue
        for k in range(size):
            array.store((0, count), lane(held, k))
            count = count + in_64_bits(lane(taken, k), signed=False)
    return count


class Candidates:
    """Logits of one row that may be among the largest, and their places."""

    def __init__(self, batch: Batch) -> None:
        kind, size = computed_in(batch.x), _CANDIDATES + batch.width
        self._batch, self._several = batch, batch.labels.shape[0]
        self._values, self._places = scratch(kind, 1, size), scratch(types.int64, 1, size)
        self._sorted = scratch(kind, 1, size), scratch(types.int64, 1, size)
        self._hits = scratch(types.int64, 1, CHUNK // batch.width + 8)
        self._count = Variables(number(0, INT64))
        self._bound = Variables(number(NAN, batch.element))

    def begin(self, bound: Value) -> None:
        """Forget all, and take what exceeds a bound."""
        self._count.set(number(0, INT64))
        self._bound.set(narrowed(bound, self._batch.element))

    def scan(self, row: Value, start: Value, stop: Value) -> None:
        """Take what exceeds the bound of a part of the row, of no more logits than are counted."""
        width, batch = self._batch.width, self._batch
        (bound,) = self._bound.get()
        hits = Variables(number(0, INT64))
        for at in loop(start, stop, width):
            value = batch.present((row, at), width, stop - at)
            (count,) = hits.get()
            self._hits.store((0, count), at)
            hits.set(select(any_of(exceeds(value, bound)), count + 1, count))
        for k in loop(0, hits.get()[0]):
            at = self._hits.load((0, k), None)
            value = batch.present((row, at), width, stop - at)
            (bound,), (count,) = self._bound.get(), self._count.get()
            taken = exceeds(value, bound) & (numbered(at, width) < stop)
            value = select(value == value, value, INFINITY)
            _append(self._values, count, value, taken)
            self._count.set(_append(self._places, count, numbered(at, width), taken))
            for _ in when(self._count.get()[0] > _CANDIDATES):
                self._rank()
                values, places = self._sorted
                for j in loop(0, self._several):
                    self._values.store((0, j), values.load((0, j), None))
                    self._places.store((0, j), places.load((0, j), None))
                self._count.set(self._several)
                self._bound.set(values.load((0, self._several - 1), None))

    def _rank(self) -> None:
        """Put the candidates in their order."""
        (count,), width = self._count.get(), self._batch.width
        values, places = self._sorted
        for i in loop(0, count):
            value, rank = self._values.load((0, i), None), Variables(number(0, INT64))
            for j in loop(0, count, width):
                others = self._values.load((0, j), width, count - j, -INFINITY)
                first = (others == value) & (numbered(j, width) < i)
                rank.set(rank.get()[0] + count_of((others > value) | first))
            values.store((0, rank.get()[0]), value)
            places.store((0, rank.get()[0]), self._places.load((0, i), None))

    def put(self, row: Value) -> None:
        """The places of the largest, as the row's labels."""
        self._rank()
        for j in loop(0, self._several):
            place = self._sorted[1].load((0, j), None)
            place = select(self._count.get()[0] > j, place, -1)  # in a cut of fewer
            self._batch.labels.store((j, row), place)


def exceeds(value: Value, bound: Value) -> Value:
    """Whether logits exceed a bound, or one of both is NaN."""
    return (bound >= value) == 0


def choose_across(batch: Batch, lines: Any, start: Value, width: int, count: Any) -> None:
    """The labels of rows side by side: each logit goes down the list of the largest so far."""
    several, kind = batch.labels.shape[0], computed_in(batch.x)
    values, places = scratch(kind, MOST_CHOSEN, width), scratch(kind, MOST_CHOSEN, width)
    for j in loop(0, several):
        values.store((j, 0), number(-INFINITY, batch.element, width))
        places.store((j, 0), number(INFINITY, batch.element, width))

    def body(i: Any, state: State) -> State:
        value = lines.load(i)
        if isinstance(i, Value):
            i = narrowed(to_real(i), batch.element)
        left = Variables(select(value == value, value, INFINITY), number(i, batch.element, width))
        for j in loop(0, several):
            value, place = left.get()
            other, its = values.load((j, 0), width), places.load((j, 0), width)
            before = (value > other) | ((value == other) & (place < its))
            values.store((j, 0), select(before, value, other))
            places.store((j, 0), select(before, place, its))
            left.set(select(before, other, value), select(before, its, place))
        return state

    lines.over([], body)
    for j in loop(0, several):
        for k in range(0, width, 8):
            place = to_integer(wide(part(places.load((j, 0), width), k, 8)))
            left = None if count is None else larger(count - k, 0)
            batch.labels.store((j, start + k), place, left)
