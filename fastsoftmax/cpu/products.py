"""Kernels of gradients, whose formulas are in arithmetic/gradients.py.

A row is read three times: for its largest term, for the sum, for the results. It comes from memory
once; then it is in a cache. All is written once, for lanes along a row and for lanes across rows
(`_Lines`). Rows that threads share are in product_cuts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.arithmetic.gradients import GRADIENTS, Gradient
from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    INT64,
    State,
    Value,
    Variables,
    folded,
    larger,
    like,
    loop,
    number,
    select,
    smaller,
    sum_of,
    wide,
)
from fastsoftmax.arithmetic.normalizer import NAN
from fastsoftmax.arithmetic.pairs import (
    CAPACITY,
    Constants,
    Pair,
    Sums,
    add_terms,
    added,
    counts_of,
    counts_on,
    not_finite,
    totals_of,
)
from fastsoftmax.cpu.along import spread
from fastsoftmax.cpu.batch import KERNELS
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.sizes import CHUNK, vectors
from fastsoftmax.cpu.target import CPU

# float64 in a vector of 64 bytes.
WIDTH = 8
_GRIDS = (2,)
# What is counted of a row: the steps of grids, and how many lanes met NaN or an infinity.
COUNTED = counts_on(*_GRIDS, DOUBLE) + 1


class At(NamedTuple):
    """Lanes of both operands, and where their results go."""

    width: int
    a: Value
    b: Value
    put: Callable[[Value], None]


class Given(NamedTuple):
    """A kernel's arguments: rows (rows, length), or columns (outer, length, inner).

    The last axis is contiguous. b is like a, or has none of the axis of length where a row has one
    number of it, float64 then; out is like a, mask None or like a.
    """

    gradient: Gradient
    a: Array
    b: Array
    out: Array
    mask: Array | None

    def _counted(self, indices: tuple[Any, ...], width: int, count: Any) -> Value | None:
        return None if self.mask is None else self.mask.load(indices, width, count) != 0

    def load(self, indices: tuple[Any, ...], width: int, count: Any = None) -> list[Value]:
        """Both operands from there along the last axis, absent past ``count``; or the only one."""
        counted = self._counted(indices, width, count)
        arrays = [(self.a, self.gradient.absent), (self.b, 0.0)]
        values = []
        for array, absent in arrays[: 1 if self.gradient.by_row else 2]:
            value = wide(array.load(indices, width, count, absent))
            values.append(value if counted is None else select(counted, value, absent))
        return values

    def put(self, value: Value, indices: tuple[Any, ...], count: Any = None) -> None:
        """Results to their place, 0 where they are masked."""
        counted = self._counted(indices, value.width or 1, count)
        self.out.store(indices, value if counted is None else select(counted, value, 0.0), count)

    def at(self, indices: tuple[Any, ...], width: int, count: Any = None) -> At:
        """Lanes from there along the last axis, up to ``count`` of them."""
        values = self.load(indices, width, count)
        return At(width, values[0], values[-1], lambda value: self.put(value, indices, count))

    @property
    def numbers(self) -> Array | None:
        """The rows' own numbers, where they have some."""
        return self.b if self.gradient.by_row else None

    def own(self, row: Value) -> Value | None:
        """A row's own number, where it has one."""
        return self.b.one(row) if self.gradient.by_row else None


# --- rows as lanes go through them ----------------------------------------------------------------

_Begin = Callable[[int], State]
_Body = Callable[[At, State], State]
_Merge = Callable[[State, State], State]


class Along(NamedTuple):
    """A row, or a part of one: lanes run along it."""

    given: Given
    row: Any
    start: Any
    stop: Any

    @property
    def rows(self) -> None:
        """Lanes of what there is one of for each row: a single number."""

    def over(self, begin: _Begin, body: _Body, merge: _Merge) -> State:
        """The state of a vector of lanes after all elements: it begins with so many lanes.

        Several vectors side by side, so that none waits for the one before it.
        """
        several = WIDTH * vectors()
        wides = self.start + (self.stop - self.start) // several * several
        state = Variables(*begin(several))
        for at in loop(self.start, wides, several):
            state.set(*body(self.given.at((self.row, at), several), state.get()))
        state = Variables(*folded(state.get(), merge, WIDTH))
        for at in loop(wides, self.stop, WIDTH):
            here = self.given.at((self.row, at), WIDTH, self.stop - at)
            state.set(*body(here, state.get()))
        return state.get()

    def chunks(self) -> Iterator[tuple[Along, Value]]:
        """Parts that lanes can count at one go, and how many terms each lane counts there."""
        for start in loop(self.start, self.stop, CHUNK):
            stop = smaller(start + CHUNK, self.stop)
            yield self._replace(start=start, stop=stop), (stop - start + (WIDTH - 1)) // WIDTH

    def largest(self, values: Value) -> Value:
        """The row's of lanes' largest."""
        return folded([values], _larger, None)[0]

    def total(self, counts: Value) -> Value:
        """The row's of lanes' integers."""
        return sum_of(counts)


class Across(NamedTuple):
    """Rows side by side: lanes run across them, line by line."""

    rows: int
    start: Any
    stop: Any
    at: Callable[[Value], At]

    def over(self, begin: _Begin, body: _Body, merge: _Merge) -> State:
        """The state of lanes after all lines."""
        state = Variables(*begin(self.rows))
        for line in loop(self.start, self.stop):
            state.set(*body(self.at(line), state.get()))
        return state.get()

    def chunks(self) -> Iterator[tuple[Across, Value]]:
        """Lines that lanes can count at one go, and how many these are."""
        for start in loop(self.start, self.stop, CAPACITY):
            stop = smaller(start + CAPACITY, self.stop)
            yield self._replace(start=start, stop=stop), stop - start

    def largest(self, values: Value) -> Value:
        """A lane is a row."""
        return values

    def total(self, counts: Value) -> Value:
        """A lane is a row."""
        return counts


_Lines = Along | Across


def _larger(a: State, b: State) -> State:
    return [larger(a[0], b[0])]


# --- the three readings ---------------------------------------------------------------------------


def largest_of(gradient: Gradient, lines: _Lines) -> Value:
    """The largest size in each row, of which NaN has none."""

    def begin(width: int) -> State:
        return [number(gradient.none, DOUBLE, width)]

    def body(at: At, state: State) -> State:
        return [larger(gradient.size(at.a, at.b), state[0])]

    return lines.largest(*lines.over(begin, body, _larger))


def counts_of_rows(gradient: Gradient, lines: _Lines, prepared: Any, c: Constants) -> State:
    """What is counted of each row."""
    gathered = Variables(*[number(0, INT64, lines.rows)] * COUNTED)

    def begin(width: int) -> State:
        none = Sums.none(DOUBLE, width, _GRIDS)
        return [*none.counts, none.seen]

    def body(at: At, state: State) -> State:
        *counts, seen = state
        term = gradient.term(at.a, at.b, spread(prepared, at.width), c)
        sums = add_terms(Sums(counts, seen, _GRIDS), [term], c)
        return [*sums.counts, sums.seen]

    for part, terms in lines.chunks():
        *counts, seen = part.over(begin, body, added)
        more = counts_of(Sums(counts, seen, _GRIDS), terms, c)
        more.append(select(not_finite(seen, c), like(1, seen), 0))
        both = zip(gathered.get(), map(lines.total, more), strict=True)
        gathered.set(*(a + b for a, b in both))
    return gathered.get()


def put_results(
    gradient: Gradient, lines: _Lines, prepared: Any, counted: State, own: Value | None,
    c: Constants,
) -> None:  # fmt: skip
    """The results, made with what was counted."""
    *counts, found = counted
    (total,) = totals_of(counts, _GRIDS, c)
    value = total.value + select(found != 0, like(NAN, total.value), 0.0)
    made = gradient.finish(Pair(value, total.rest), prepared, own, c)

    def body(at: At, state: State) -> State:
        given = spread(made, at.width), spread(prepared, at.width)
        at.put(gradient.result(at.a, at.b, *given, c))
        return state

    lines.over(lambda width: [], body, lambda a, b: a)


def put_all(gradient: Gradient, lines: _Lines, own: Value | None, c: Constants) -> None:
    """All three, of rows that no other thread works on."""
    prepared = gradient.prepared(largest_of(gradient, lines), c)
    put_results(gradient, lines, prepared, counts_of_rows(gradient, lines, prepared, c), own, c)


# --- kernels --------------------------------------------------------------------------------------


def kernel(*others: str) -> Callable[[Callable[..., None]], None]:
    """Make kernels of what writes their code, one for each gradient.

    ``write(given, *others, slot, first, last)``, as those of batch.py.
    """

    def make(write: Callable[..., None]) -> None:
        for name, gradient in GRADIENTS.items():

            def code(*arguments: Any, gradient: Gradient = gradient) -> None:
                a, b, out, mask, *rest = arguments
                write(Given(gradient, a, b, out, mask), *rest)

            names = "a", "b", "out", "mask", *others, "slot", "first", "last"
            KERNELS[f"{name}_{write.__name__}"] = generated(code, names, CPU)

    return make


@kernel()
def rows(given: Given, slot: Value, first: Value, last: Value) -> None:
    """Contiguous rows of any length."""
    c = Constants(DOUBLE)
    for row in loop(first, last):
        put_all(given.gradient, Along(given, row, 0, given.a.shape[1]), given.own(row), c)
