"""Kernels for contiguous rows: lanes run along the row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types

from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    FLOAT,
    INT64,
    State,
    Value,
    Variables,
    any_of,
    folded,
    larger,
    loop,
    narrowed,
    number,
    smaller,
    sum_of,
    when,
)
from fastsoftmax.arithmetic.normalizer import (
    NAN,
    Row,
    Total,
    in_two,
    largest_of_both,
    row_of,
    term_of,
    with_next,
)
from fastsoftmax.arithmetic.pairs import (
    Constants,
    Pair,
    Sums,
    add_terms,
    counts_of,
    not_finite,
)
from fastsoftmax.cpu.batch import Batch, kernel
from fastsoftmax.cpu.choice import Candidates, bound_of
from fastsoftmax.cpu.memory import Array, computed_in, scratch
from fastsoftmax.cpu.sizes import BLOCK, CHUNK, vectors

# Rows of a tile: what there is to compute once for a row is computed for many at a time, and one
# row's work fills the time that another's needs to add up its lanes.
_ROWS = 16
# Exponentials that a tile keeps: 8 KiB of float32, and as much again for what is read and written;
# and logits of a tile that keeps none.
_TILE, _TILE_READ = 2048, 8192

# What is noted of each row: floats, and integers for what was counted.
TOP, SECOND, INVALID, TEMPERATURE, VALUE, REST, SCALE, LESS = range(8)
# Of rows whose largest logits are wanted, see choice.py; these have no other value.
BOUND = VALUE
COUNTS = range(8, 16)


class Notes(NamedTuple):
    """What is noted of rows, a column each."""

    floats: Array
    counts: Array

    @classmethod
    def of(cls, rows: int) -> Notes:
        """Of so many rows, on the stack."""
        return cls(
            scratch(types.float64, COUNTS.start, rows), scratch(types.int64, len(COUNTS), rows)
        )

    def get(self, line: int, k: Any, width: int | None = None) -> Value:
        """What is noted of row k, or of rows side by side from it on."""
        if line in COUNTS:
            return self.counts.load((line - COUNTS.start, k), width)
        return self.floats.load((line, k), width)

    def put(self, line: int, k: Any, value: Value | float) -> None:
        """Note it."""
        if line in COUNTS:
            self.counts.store((line - COUNTS.start, k), number(value, INT64))
        else:
            self.floats.store((line, k), number(value, DOUBLE))


def noted_row(batch: Batch, notes: Notes, k: Any, width: int | None, c: Constants) -> Row:
    """What terms of a noted row are computed with; of rows side by side for a width."""
    top, second = (narrowed(notes.get(line, k, width), batch.element) for line in (TOP, SECOND))
    temperature = notes.get(TEMPERATURE, k, width) if batch.temperature else None
    row = row_of(top, second if batch.formula.apart else None, batch.times(temperature), c)
    return row._replace(scale=notes.get(SCALE, k, width)) if batch.scale else row


def finish(batch: Batch, notes: Notes, first: Any, rows: Any) -> None:
    """Note what results of so many rows are made with; put those that are not of each logit."""
    c, width = Constants(batch.element), batch.width
    for k in loop(0, rows, width):
        counts = [notes.get(line, k, width) for line in COUNTS[: batch.counts]]
        total = Total(counts, batch.grids, notes.get(INVALID, k, width))
        row = noted_row(batch, notes, k, width, c)
        pair = batch.formula.finish(total, row, c)
        at, count = (first + k,), rows - k
        if batch.formula.mapped:
            notes.put(VALUE, k, pair.value)
            notes.put(REST, k, pair.rest)
        if batch.scale:
            notes.put(LESS, k, batch.less_at_label(at, row, pair, count))
        if batch.labels or not batch.formula.mapped:
            batch.put_of_rows(at, row, pair, count)


class Kept(NamedTuple):
    """Where a row's exponentials are kept, if anywhere, and how far ahead rows are fetched."""

    terms: Array | None = None
    line: Any = 0
    start: Any = 0
    ahead: Any = None


class Part(NamedTuple):
    """A part of a row, and the column of notes that is its own."""

    batch: Batch
    row: Any
    start: Any
    stop: Any
    notes: Notes
    k: Any

    def sweep(
        self,
        begin: Callable[[int], State],
        body: Callable[[Value, int, Any, State], State],
        merge: Callable[[State, State], State],
    ) -> State:
        """Code for all of it, ``body(at, width, count, state)``, and the state afterwards.

        Of several vectors side by side, so that none waits for the one before it; of what is left
        one by one, of which the last may be a part, ``count``.
        """
        width, several = self.batch.width, self.batch.width * vectors()
        wides = self.start + (self.stop - self.start) // several * several
        state = Variables(*begin(several))
        for at in loop(self.start, wides, several):
            state.set(*body(at, several, None, state.get()))
        state = Variables(*folded(state.get(), merge, width))
        for at in loop(wides, self.stop, width):
            state.set(*body(at, width, self.stop - at, state.get()))
        return state.get()

    def note_largest(self) -> None:
        """Note the largest logits, and whether there is NaN beside infinities.

        Elsewhere NaN shows in the sum, whatever is subtracted.
        """

        def body(at: Value, width: int, count: Any, state: State) -> State:
            return with_next(self.batch.present((self.row, at), width, count), state)

        def begin(width: int) -> State:
            nothing = self.batch.nothing(width)
            return nothing * 2 if self.batch.formula.chooses else nothing

        largest = self.sweep(begin, body, largest_of_both)
        if self.batch.formula.chooses:
            self.notes.put(BOUND, self.k, bound_of(largest, self.batch.labels.shape[0]))
        for line, value in enumerate(folded(largest, largest_of_both, None)):
            self.notes.put(line, self.k, value)
        for line in (INVALID, *COUNTS[: self.batch.counts]):
            self.notes.put(line, self.k, 0)
        if self.batch.temperature:
            self.notes.put(TEMPERATURE, self.k, self.batch.temperature.one(self.row))
        if self.batch.scale:
            self.notes.put(SCALE, self.k, self.batch.scale.one(self.row))
        self.note_nan()

    def note_nan(self) -> None:
        """Note NaN, if it is here and the row's largest logit is infinite."""
        top = self.notes.get(TOP, self.k)
        for _ in when(top - top != 0.0):
            for at in loop(self.start, self.stop, self.batch.width):
                value = self.batch.present((self.row, at), self.batch.width, self.stop - at)
                for _ in when(any_of(value != value)):
                    self.notes.put(INVALID, self.k, NAN)

    def note_sum(self, kept: Kept) -> None:
        """Add what is counted, relative to the largest logits that are noted."""
        batch, c = self.batch, Constants(self.batch.element)
        row = noted_row(batch, self.notes, self.k, None, c)
        # of one vector, so that there are registers for all else: 1.05x
        seen = Variables(Sums.none(batch.element, batch.width, ()).seen)

        def begin(width: int) -> State:
            return Sums.none(batch.element, width, batch.grids).counts

        def body(at: Value, width: int, count: Any, state: State) -> State:
            for line in range(0, 0 if kept.ahead is None else width, 64 // batch.x.itemsize):
                batch.x.fetch(self.row + kept.ahead, at + line)
                if batch.formula.mapped:
                    batch.out.fetch(self.row, at + line)
            value = batch.present((self.row, at), width, count)
            terms = batch.formula.terms(value, spread(row, width), c)
            if kept.terms:
                kept.terms.store((kept.line, kept.start + at), terms[0].e, count)
            sums = add_terms(Sums(state, seen.get()[0], batch.grids), terms, c)
            seen.set(sums.seen)
            return sums.counts

        def merge(a: State, b: State) -> State:
            return [one + other for one, other in zip(a, b, strict=True)]

        sums = Sums(self.sweep(begin, body, merge), seen.get()[0], batch.grids)
        terms = (self.stop - self.start + (batch.width - 1)) // batch.width
        for line, count in zip(COUNTS, counts_of(sums, terms, c), strict=False):
            self.notes.put(line, self.k, self.notes.get(line, self.k) + sum_of(count))
        top = self.notes.get(TOP, self.k)
        for _ in when((top - top == 0.0) & any_of(not_finite(sums.seen, c))):
            self.notes.put(INVALID, self.k, NAN)

    def put_results(self, kept: Kept) -> None:
        """The results of logits, if they have some, to their place."""
        formula, c = self.batch.formula, Constants(self.batch.element)
        if not formula.result:
            return
        made = Pair(self.notes.get(VALUE, self.k), self.notes.get(REST, self.k))
        result_of, made = formula.result, in_two(made, self.batch.element)
        row = noted_row(self.batch, self.notes, self.k, None, c)

        def body(at: Value, width: int, count: Any, state: State) -> State:
            if kept.terms:
                value = kept.terms.load((kept.line, kept.start + at), width, count)
            else:
                value = self.batch.x.load((self.row, at), width, count)
                if formula.of_term:
                    value = term_of(value, spread(row, width), c).e
            result = result_of(value, spread(row, width), spread(made, width), c)
            self.batch.put((self.row, at), result, count)
            return state

        self.sweep(lambda width: [], body, lambda a, b: a)
        if self.batch.scale:
            label = self.batch.labels.load((0, self.row), None)
            for _ in when((label >= self.start) & (label < self.stop)):
                self.batch.out.store((self.row, label), self.notes.get(LESS, self.k))


def spread(given: Any, width: int) -> Any:
    """Single numbers, in tuples or not, as lanes."""
    if isinstance(given, tuple):
        return type(given)(*(spread(each, width) for each in given))
    return None if given is None else number(given, given.element, width)


@kernel()
def rows(batch: Batch, slot: Value, first: Value, last: Value) -> None:
    """Rows of up to a block, whose exponentials wait in scratch memory."""
    keeps = batch.formula.mapped and batch.formula.of_term
    terms = scratch(computed_in(batch.x), 1, BLOCK) if keeps else None
    candidates = Candidates(batch) if batch.formula.chooses else None
    notes, length = Notes.of(_ROWS), batch.x.shape[1]
    stride = (length + (batch.width - 1)) // batch.width * batch.width
    height = smaller(larger((_TILE if keeps else _TILE_READ) // stride, 1), _ROWS)
    for start in loop(first, last, height):
        count = smaller(height, last - start)
        for k in loop(0, count):
            Part(batch, start + k, 0, length, notes, k).note_largest()
        for k in loop(0, count):
            kept = Kept(terms, 0, k * stride, height)
            Part(batch, start + k, 0, length, notes, k).note_sum(kept)
            if candidates:
                candidates.begin(notes.get(BOUND, k))
                candidates.scan(start + k, number(0, INT64), length)
                candidates.put(start + k)
        finish(batch, notes, start, count)
        for k in loop(0, count):
            Part(batch, start + k, 0, length, notes, k).put_results(Kept(terms, 0, k * stride))


@kernel(long=True)
def long(batch: Batch, slot: Value, first: Value, last: Value) -> None:
    """Rows beyond a block, whose exponentials wait in the result where its type can hold them."""
    notes, length = Notes.of(batch.width), batch.x.shape[1]
    candidates = Candidates(batch) if batch.formula.chooses else None
    keeps = batch.formula.mapped and batch.formula.of_term
    holds = keeps and batch.out.storage.stored in (FLOAT, DOUBLE)
    for row in loop(first, last):
        kept, whole = Kept(batch.out if holds else None, row), Part(batch, row, 0, length, notes, 0)
        whole.note_largest()
        if candidates:
            candidates.begin(notes.get(BOUND, 0))
        for start in loop(0, length, CHUNK):
            part = whole._replace(start=start, stop=smaller(start + CHUNK, length))
            part.note_sum(kept)
            if candidates:
                candidates.scan(row, part.start, part.stop)
        if candidates:
            candidates.put(row)
        finish(batch, notes, row, 1)
        whole.put_results(kept)
