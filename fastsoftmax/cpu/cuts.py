"""Kernels for rows that threads share: each is cut.

All cuts' maxima are found, then all cuts are counted, then all are mapped. Counts are integers,
which are added in any order. In between, what is noted of a cut is a column of ``floats`` (8, rows
* cuts) and ``counts`` (8, rows * cuts); see along.py.
"""

from __future__ import annotations

from fastsoftmax.arithmetic.lanes import DOUBLE, INT64, Value, Variables, loop, number, smaller
from fastsoftmax.arithmetic.normalizer import INFINITY, largest_of_both
from fastsoftmax.cpu.along import (
    BOUND,
    COUNTS,
    INVALID,
    SCALE,
    SECOND,
    TEMPERATURE,
    TOP,
    Kept,
    Notes,
    Part,
    finish,
)
from fastsoftmax.cpu.batch import Batch, kernel
from fastsoftmax.cpu.choice import Candidates
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.sizes import CHUNK, cut_length


class _Cuts:
    """The cuts of a batch's rows, counted through all of them, and what is noted of each."""

    def __init__(self, batch: Batch, floats: Array, counts: Array) -> None:
        self.batch, self.noted, self.row = batch, Notes(floats, counts), Notes.of(batch.width)
        self.size = cut_length(batch.x.shape[1])
        self.each = (batch.x.shape[1] + (self.size - 1)) // self.size

    def part(self, row: Value, cut: Value, notes: Notes, k: Value | int) -> Part:
        """A cut, and where it is noted."""
        start = cut % self.each * self.size
        stop = smaller(start + self.size, self.batch.x.shape[1])
        return Part(self.batch, row, start, stop, notes, k)

    def gather(self, row: Value) -> None:
        """Note of a row what was noted of all its cuts."""
        top = Variables(*[number(-INFINITY, DOUBLE)] * 2)
        lines = INVALID, *COUNTS[: self.batch.counts]
        sums = Variables(number(0.0, DOUBLE), *[number(0, INT64)] * self.batch.counts)
        for cut in loop(row * self.each, (row + 1) * self.each):
            noted = [self.noted.get(line, cut) for line in lines]
            sums.set(*(a + b for a, b in zip(sums.get(), noted, strict=True)))
            both = [self.noted.get(line, cut) for line in (TOP, SECOND)]
            top.set(*largest_of_both(top.get(), both))
        values = [*top.get(), *sums.get()]
        for line, value in zip((TOP, SECOND, *lines), values, strict=True):
            self.row.put(line, 0, value)
        if self.batch.temperature:
            self.row.put(TEMPERATURE, 0, self.batch.temperature.one(row))
        if self.batch.scale:
            self.row.put(SCALE, 0, self.batch.scale.one(row))


@kernel("floats", "counts", long=True)
def maxima(
    batch: Batch, floats: Array, counts: Array, slot: Value, first: Value, last: Value
) -> None:
    """Note the largest logits of cuts."""
    cuts = _Cuts(batch, floats, counts)
    for item in loop(first, last):
        cuts.part(item // cuts.each, item, cuts.noted, item).note_largest()


@kernel("floats", "counts", long=True)
def counts(
    batch: Batch, floats: Array, counts: Array, slot: Value, first: Value, last: Value
) -> None:
    """Note what cuts count, and whether they hold NaN."""
    cuts = _Cuts(batch, floats, counts)
    candidates = Candidates(batch) if batch.formula.chooses else None
    for item in loop(first, last):
        row = item // cuts.each
        cuts.gather(row)
        for line in COUNTS[: batch.counts]:
            cuts.row.put(line, 0, 0)
        part = cuts.part(row, item, cuts.row, 0)
        part.note_nan()  # the infinity may be in another cut
        if candidates:
            candidates.begin(cuts.noted.get(BOUND, item))
        for at in loop(part.start, part.stop, CHUNK):
            chunk = part._replace(start=at, stop=smaller(at + CHUNK, part.stop))
            chunk.note_sum(Kept())
            if candidates:
                candidates.scan(row, chunk.start, chunk.stop)
        if candidates:  # labels of cuts, of which the plan makes those of rows
            candidates.put(item)
        for line in (INVALID, *COUNTS[: batch.counts]):
            cuts.noted.put(line, item, cuts.row.get(line, 0))


@kernel("floats", "counts", long=True)
def cuts(
    batch: Batch, floats: Array, counts: Array, slot: Value, first: Value, last: Value
) -> None:
    """The results of cuts, or of whole rows where a row has one."""
    cuts = _Cuts(batch, floats, counts)
    for item in loop(first, last):
        row = item // cuts.each if batch.formula.mapped else item
        cuts.gather(row)
        finish(batch, cuts.row, row, 1)
        cuts.part(row, item, cuts.row, 0).put_results(Kept())
