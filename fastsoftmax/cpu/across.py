"""Kernels whose lanes lie across rows, and those of short rows, transposed in registers.

Logits of as many rows as lanes hold are brought side by side into scratch memory, a panel: line i
holds element i of each. There they are summed up, and mapped.

Where a row fills only a few lanes, adding up its lanes takes longer than its exponentials.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types

from fastsoftmax.arithmetic.lanes import (
    INT64,
    State,
    Value,
    Variables,
    any_of,
    joined,
    loop,
    number,
    part,
    select,
    shuffled,
    smaller,
    when,
    wide,
)
from fastsoftmax.arithmetic.normalizer import NAN, Row, Total, in_two, row_of, term_of, with_next
from fastsoftmax.arithmetic.pairs import (
    CAPACITY,
    Constants,
    Pair,
    Sums,
    add_terms,
    added,
    counts_of,
    not_finite,
)
from fastsoftmax.cpu.batch import Batch, kernel
from fastsoftmax.cpu.choice import choose_across
from fastsoftmax.cpu.memory import Array, columns_of, computed_in, rows_of, scratch
from fastsoftmax.cpu.sizes import PACKED, SHORT, vectors


class Lines(NamedTuple):
    """Rows side by side: how line i is read, where its exponentials are kept, if so, and what is
    fetched meanwhile."""

    length: Any
    load: Callable[[Any], Value]
    keep: Callable[[Any, Value], None] | None = None
    fetch: Callable[[Any], None] = lambda i: None

    def over(self, state: State, body: Callable[[Any, State], State]) -> State:
        """Code for each line; of a length that is known, one after the other."""
        return over(0, self.length, state, body)


def over(start: Any, stop: Any, state: State, body: Callable[[Any, State], State]) -> State:
    """The state after ``body(i, state)`` for each i."""
    if isinstance(stop, int):
        for i in range(start, stop):
            state = body(i, state)
        return state
    variables = Variables(*state)
    for line in loop(start, stop):
        variables.set(*body(line, variables.get()))
    return variables.get()


def largest_of(batch: Batch, lines: Lines, width: int) -> State:
    """The largest logits of rows side by side."""
    return lines.over(batch.nothing(width), lambda i, state: with_next(lines.load(i), state))


def summed(
    batch: Batch, lines: Lines, largest: State, temperature: Value | None, c: Constants,
    scale: Value | None = None,
) -> tuple[Row, Pair]:  # fmt: skip
    """What results of rows side by side are made with."""
    top, *second = largest
    row = row_of(top, second[0] if second else None, batch.times(temperature), c)
    row = row._replace(scale=scale)
    width, bounded = top.width or 1, top - top == 0.0
    invalid = Variables(number(0.0, batch.element, width))
    if batch.formula.apart:  # before exponentials take the place of logits
        for _ in when(any_of(top - top != 0.0)):
            seen = lines.over(
                [invalid.get()[0]],
                lambda i, state: [select((v := lines.load(i)) == v, state[0], NAN)],
            )
            invalid.set(*seen)

    def body(i: Any, state: State) -> State:
        lines.fetch(i)
        terms = batch.formula.terms(lines.load(i), row, c)
        if lines.keep and batch.formula.of_term:
            lines.keep(i, terms[0].e)
        sums = add_terms(Sums(state[:-1], state[-1], batch.grids), terms, c)
        return [*sums.counts, sums.seen]

    def counted(start: Any, stop: Any) -> State:
        none = Sums.none(batch.element, width, batch.grids)
        *counts, seen = over(start, stop, [*none.counts, none.seen], body)
        return [*counts_of(Sums(counts, seen, batch.grids), stop - start, c), seen]

    if isinstance(lines.length, int):
        totals = counted(0, lines.length)
    else:
        nothing = [number(0, INT64, width)] * batch.counts
        gathered = Variables(*nothing, Sums.none(batch.element, width, ()).seen)
        for start in loop(0, lines.length, CAPACITY):
            stop = smaller(start + CAPACITY, lines.length)
            gathered.set(*added(gathered.get(), counted(start, stop)))
        totals = gathered.get()
    found = select(not_finite(totals[-1], c), number(NAN, batch.element, width), 0.0)
    found = select(bounded, found, invalid.get()[0])
    total = Total(totals[:-1], batch.grids, wide(found))
    return row, batch.formula.finish(total, row, c)


def results(
    batch: Batch, lines: Lines, row: Row, made: Pair, put: Callable[[Any, Value], None],
    c: Constants,
) -> None:  # fmt: skip
    """Each line's results, put in their place."""
    formula, pair = batch.formula, in_two(made, batch.element)
    result_of = formula.result
    assert result_of is not None

    def body(i: Any, state: State) -> State:
        value = lines.load(i)
        if formula.of_term and not lines.keep:
            value = term_of(value, row, c).e
        put(i, result_of(value, row, pair, c))
        return []

    lines.over([], body)


def finish_across(
    batch: Batch, at: tuple[Any, ...], row: Row, made: Pair, count: Any, put: Callable[[], None]
) -> None:
    """The results of rows side by side: ``put()`` has those of each logit in their place."""
    if batch.labels or not batch.formula.mapped:
        batch.put_of_rows(at, row, made, count)
    less = batch.less_at_label(at, row, made, count) if batch.scale else None
    if batch.formula.mapped:
        put()
    if less is None:
        return
    width, (*before, last) = less.width or 1, at
    beside = scratch(types.float64, 1, width)
    beside.store((0, 0), less)
    for k in loop(0, width if count is None else smaller(count, width)):
        label = batch.labels.load((0, *before, last + k), None)
        place = (*before, label, last + k) if before else (last + k, label)
        batch.out.store(place, beside.load((0, k), None))


# --- short rows ---------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Rows that are taken together, from ``first`` on; past ``last`` the last one is repeated."""

    first: Value
    last: Value
    width: int

    def row(self, k: Any) -> Value:
        """The k-th of them."""
        return smaller(self.first + k, self.last - 1)


def blocks(length: Value, body: Callable[[Value, int], None]) -> None:
    """Code for a row's elements in fours, or pairs or one by one; the last ones may come twice."""
    for size, condition in (
        (4, length >= 4),
        (2, (length >= 2) & (length < 4)),
        (1, length < 2),
    ):
        for _ in when(condition):
            for at in loop(0, length, size):
                body(smaller(at, length - size), size)


def _fill(batch: Batch, group: _Group, panel: Array) -> None:
    width = batch.width
    for g in loop(0, group.width, width):

        def block(at: Value, size: int) -> None:
            rows = [batch.present((group.row(g + k), at), size) for k in range(width)]
            for i, column in enumerate(columns_of(rows)):
                panel.store((at + i, g), column)

        blocks(batch.x.shape[1], block)


def _drain(batch: Batch, group: _Group, panel: Array) -> None:
    width = batch.width
    for g in loop(0, smaller(group.width, group.last - group.first), width):

        def block(at: Value, size: int) -> None:
            columns = [panel.load((at + i, g), width) for i in range(size)]
            for k, values in enumerate(rows_of(columns)):
                batch.put((group.row(g + k), at), values)

        blocks(batch.x.shape[1], block)


def beside(array: Array | None, width: int, at: Callable[[Any], tuple[Any, ...]]) -> Value | None:
    """Temperatures of rows side by side, or other numbers, which may have any strides."""
    if array is None:
        return None
    numbers = scratch(types.float64, 1, width)
    for k in loop(0, width):
        numbers.store((0, k), array.one(*at(k)))
    return numbers.load((0, 0), width)


@kernel()
def short(batch: Batch, slot: Value, first: Value, last: Value) -> None:
    """Rows of few logits."""
    x, out, formula = batch.x, batch.out, batch.formula
    width, c = batch.width * vectors(), Constants(batch.element)
    panel = scratch(computed_in(x), SHORT, width)
    for start in loop(first, last, width):
        group = _Group(start, smaller(start + width, last), width)
        count = group.last - start

        def fetch(i: Any) -> None:
            """Ask for a part of the next rows, and of these results, as if rows lay packed."""
            for at in range(0, width, 64 // x.itemsize):
                x.fetch(start + count, i * width + at)
                if formula.mapped:
                    out.fetch(start, i * width + at)

        lines = Lines(
            x.shape[1],
            lambda i: panel.load((i, 0), width),
            (lambda i, value: panel.store((i, 0), value)) if formula.mapped else None,
            fetch,
        )
        _fill(batch, group, panel)
        temperature, scale = (
            beside(each, width, lambda k: (group.row(k),))
            for each in (batch.temperature, batch.scale)
        )
        if formula.chooses:
            choose_across(batch, lines, start, width, count)
        largest = largest_of(batch, lines, width)
        row, made = summed(batch, lines, largest, temperature, c, scale)

        def put() -> None:
            assert lines.keep
            results(batch, lines, row, made, lines.keep, c)
            _drain(batch, group, panel)

        finish_across(batch, (start,), row, made, count, put)


# --- rows that lie one behind the other --------------------------------------------------------


def _picked(sources: list[Value], picks: list[tuple[int, int]]) -> Value:
    """Lanes of which each is picked from one of the sources: (which, index)."""
    result = None
    width = len(picks)
    for which in sorted({source for source, _ in picks}):
        order = [index if source == which else -1 for source, index in picks]
        if result is None:
            result = shuffled(sources[which], sources[which], [max(index, 0) for index in order])
        else:
            order = [lane if index < 0 else width + index for lane, index in enumerate(order)]
            result = shuffled(result, sources[which], order)
    assert result is not None
    return result


def _packed(length: int) -> Callable[..., None]:
    """Rows of a length that is known while the kernel is compiled: a few shuffles part them."""

    def packed(batch: Batch, slot: Value, first: Value, last: Value) -> None:
        x, out, formula = batch.x, batch.out, batch.formula
        each, width, c = batch.width, batch.width * vectors(), Constants(batch.element)
        parts = range(0, width, each)
        for start in loop(first * width, last * width, width):
            columns: list[list[Value]] = []
            for g in parts:
                sources = [x.load((start + g, k * each), each) for k in range(length)]
                columns.append([
                    _picked(sources, [divmod(r * length + i, each) for r in range(each)])
                    for i in range(length)
                ])  # fmt: skip
            values = [joined(list(column)) for column in zip(*columns, strict=True)]
            lines = Lines(length, values.__getitem__, values.__setitem__)
            if formula.chooses:
                choose_across(batch, lines, start, width, None)
            row, made = summed(batch, lines, largest_of(batch, lines, width), None, c)

            def put() -> None:
                results(batch, lines, row, made, values.__setitem__, c)
                for g in parts:
                    sources = [part(value, g, each) for value in values]
                    for k in range(length):
                        picks = [divmod(each * k + lane, length)[::-1] for lane in range(each)]
                        out.store((start + g, each * k), _picked(sources, picks))

            finish_across(batch, (start,), row, made, None, put)

    packed.__name__ = f"packed_{length}"
    return packed


for _length in PACKED:
    kernel()(_packed(_length))
