"""Kernels of gradients for rows that threads share: each is cut, as in cuts.py.

The largest terms of all cuts are found, then all cuts are counted, then all have their results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    INT64,
    Value,
    Variables,
    larger,
    loop,
    number,
    smaller,
)
from fastsoftmax.arithmetic.pairs import Constants
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.products import (
    COUNTED,
    Along,
    Given,
    counts_of_rows,
    kernel,
    largest_of,
    put_results,
)
from fastsoftmax.cpu.sizes import cut_length


class _Cuts(NamedTuple):
    """The cuts of rows, counted through all of them, and what is noted of each.

    The largest size of a cut (cuts,), and what is counted of it (COUNTED, cuts).
    """

    given: Given
    noted: Array
    counted: Array

    @property
    def each(self) -> Value:
        """How many a row has."""
        size = cut_length(self.given.a.shape[1])
        number_of: Value = (self.given.a.shape[1] + (size - 1)) // size
        return number_of

    def beside(self, cut: Value) -> Iterator[Value]:
        """All cuts of the row that a cut is of."""
        row = cut // self.each
        return loop(row * self.each, (row + 1) * self.each)

    def part(self, cut: Value) -> Along:
        """The part of a row that a cut is."""
        length = self.given.a.shape[1]
        size = cut_length(length)
        start = cut % self.each * size
        return Along(self.given, cut // self.each, start, smaller(start + size, length))

    def prepared(self, cut: Value, c: Constants) -> Any:
        """What terms of a cut's row are computed with."""
        top = Variables(number(self.given.gradient.none, DOUBLE))
        for each in self.beside(cut):
            top.set(larger(self.noted.load((each,), None), top.get()[0]))
        return self.given.gradient.prepared(top.get()[0], c)


@kernel("noted", "counted")
def maxima(
    given: Given, noted: Array, counted: Array, slot: Value, first: Value, last: Value
) -> None:
    """Note the largest sizes."""
    cuts = _Cuts(given, noted, counted)
    for cut in loop(first, last):
        noted.store((cut,), largest_of(given.gradient, cuts.part(cut)))


@kernel("noted", "counted")
def counts(
    given: Given, noted: Array, counted: Array, slot: Value, first: Value, last: Value
) -> None:
    """Note what is counted."""
    cuts, c = _Cuts(given, noted, counted), Constants(DOUBLE)
    for cut in loop(first, last):
        values = counts_of_rows(given.gradient, cuts.part(cut), cuts.prepared(cut, c), c)
        for line, value in enumerate(values):
            counted.store((line, cut), value)


@kernel("noted", "counted")
def cuts(
    given: Given, noted: Array, counted: Array, slot: Value, first: Value, last: Value
) -> None:
    """The results of cuts."""
    cuts, c = _Cuts(given, noted, counted), Constants(DOUBLE)
    for cut in loop(first, last):
        part, totals = cuts.part(cut), Variables(*[number(0, INT64)] * COUNTED)
        for each in cuts.beside(cut):
            more = [counted.load((line, each), None) for line in range(COUNTED)]
            totals.set(*(a + b for a, b in zip(totals.get(), more, strict=True)))
        prepared = cuts.prepared(cut, c)
        put_results(given.gradient, part, prepared, totals.get(), given.own(part.row), c)
