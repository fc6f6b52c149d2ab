"""Kernels for few rows: each is cut, and every block does a part.

All cuts' largest logits are found, then all cuts are counted, then all are mapped, by a kernel
each. In between, what a cut found is noted in global memory, 64 bits a value; integers may be added
in any order, so that nobody waits for anybody.
"""

from __future__ import annotations

from collections.abc import Callable

from fastsoftmax.arithmetic.lanes import INT64, State, Value, Variables, loop, number, smaller, when
from fastsoftmax.arithmetic.pairs import Sums, added
from fastsoftmax.cuda.batch import Batch
from fastsoftmax.cuda.device import VECTOR, Index, device
from fastsoftmax.cuda.group import Merge, from_slots, to_slot
from fastsoftmax.cuda.places import Along
from fastsoftmax.cuda.shape import Shape
from fastsoftmax.cuda.steps import (
    Reread,
    States,
    Steps,
    group_of,
    largest_and_nan,
    numbers,
)

# Values that are noted of a cut: the largest logits and NaN, then counts and what was seen.
LARGEST, COUNTS, LINES = 0, 3, 12


class _Cut:
    """One cut of a row, and what is noted of all of the row's."""

    def __init__(self, batch: Batch, shape: Shape, item: Value) -> None:
        self.batch, self.group = batch, group_of(shape)
        self.row, self.number = item // batch.cuts, item % batch.cuts
        size = cut_length(batch, shape)
        start = self.number * size
        stop = smaller(start + size, batch.length)
        place = Along(batch, group_of(shape), self.row, start, stop, shape.exact)
        self.steps = Steps(batch, group_of(shape), Reread(place))

    def _address(self, cut: Index, line: int) -> Value:
        return self.batch.notes + ((self.row * self.batch.cuts + cut) * LINES + line) * 8

    def note(self, line: int, state: State) -> None:
        """Note what was found of this cut."""
        for _ in when(self.group.member() == 0):
            for i, value in enumerate(state):
                device().store(self._address(self.number, line + i), "int64", [to_slot(value)])

    def noted(self, line: int, none: State, merge: Merge) -> State:
        """What was noted of all cuts together."""
        found = Variables(*none)
        for cut in loop(self.group.member(), self.batch.cuts, self.group.size):
            slots = [
                device().load(self._address(cut, line + i), "int64")[0] for i in range(len(none))
            ]
            found.set(*merge(found.get(), from_slots(slots, none)))
        return self.group.together("noted", found.get(), merge)

    def largest(self) -> States:
        """The row's largest logits."""
        return [self.noted(LARGEST, self.steps.nothing(), largest_and_nan)]

    def counted(self) -> States:
        """What was counted of the row."""
        kind = self.batch.kind
        seen = Sums.none(kind.element, None, ()).seen
        return [self.noted(COUNTS, [*[number(0, INT64)] * kind.counts, seen], added)]


def cut_length(batch: Batch, shape: Shape) -> Value:
    """Elements in each cut but the last: whole steps of a block."""
    step = shape.threads * (VECTOR // batch.kind.itemsize)
    return (batch.length + (batch.cuts * step - 1)) // (batch.cuts * step) * step


def _cuts(batch: Batch, shape: Shape, body: Callable[[_Cut], None]) -> None:
    for item in numbers(batch.outer * batch.cuts, shape):
        body(_Cut(batch, shape, item))


def _rows(batch: Batch, shape: Shape, body: Callable[[_Cut], None]) -> None:
    for row in numbers(batch.outer, shape):
        body(_Cut(batch, shape, row * batch.cuts))


def maxima(batch: Batch, shape: Shape) -> None:
    """Note the largest logits of cuts."""

    def body(cut: _Cut) -> None:
        (largest,) = cut.steps.largest()
        cut.note(LARGEST, largest)

    _cuts(batch, shape, body)


def counts(batch: Batch, shape: Shape) -> None:
    """Note what cuts count."""

    def body(cut: _Cut) -> None:
        (counted,) = cut.steps.counted(cut.steps.seen(cut.largest()))
        cut.note(COUNTS, counted)

    _cuts(batch, shape, body)


def results(batch: Batch, shape: Shape) -> None:
    """The results of cuts, or of whole rows where a row has one."""

    def body(cut: _Cut) -> None:
        seen = cut.steps.seen(cut.largest())
        made = cut.steps.finished(seen, cut.counted())
        cut.steps.results(seen, made)

    (_cuts if batch.kind.formula.mapped else _rows)(batch, shape, body)
