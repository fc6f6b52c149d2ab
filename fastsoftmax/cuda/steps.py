"""What kernels do with rows, wherever these lie: three steps, over logits that are held or reread.

The largest logits, then the counts of exponentials over their power, then the results. In between,
a row's threads put together what each of them found (group.py). Every step is the arithmetic of all
targets, so that results have the bits of the CPU's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    INT64,
    State,
    Value,
    Variables,
    like,
    loop,
    narrowed,
    number,
    select,
    smaller,
    wide,
)
from fastsoftmax.arithmetic.normalizer import (
    INFINITY,
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
    CAPACITY,
    Constants,
    Pair,
    Sums,
    add_terms,
    added,
    counts_of,
    not_finite,
)
from fastsoftmax.cuda.batch import Batch, Tempered, tempered
from fastsoftmax.cuda.device import device
from fastsoftmax.cuda.group import Group
from fastsoftmax.cuda.places import BEYOND, Place, Tile
from fastsoftmax.cuda.shape import Shape

States = list[State]
# What is done with a piece: its number, its logits, and the state of each row before and after.
Body = Callable[[Any, list[Value], States], States]


class Held:
    """Logits that are read once, and stay in registers: so many pieces."""

    def __init__(self, place: Place, pieces: int) -> None:
        self.place = place
        place.begin()
        self._pieces = [place.read(k) for k in range(pieces)]

    def over(self, states: States, body: Body) -> States:
        """The states after all pieces."""
        self.place.begin()
        for k, values in enumerate(self._pieces):
            states = body(k, values, states)
        return states

    def counted(self, body: Body, start: Callable[[], State], finish: Any) -> States:
        """What was counted of all pieces; see `Reread.counted`."""
        states = self.over([start() for _ in range(self.place.rows)], body)
        terms = len(self._pieces) * self.place.items // self.place.rows
        return [finish(state, terms) for state in states]

    def keep(self, k: Any, values: list[Value]) -> None:
        """Hold these from now on."""
        self._pieces[k] = values


class _Kept:
    """The states of rows, which a loop's turns change."""

    def __init__(self, states: States) -> None:
        self._sizes = [len(state) for state in states]
        self._variables = Variables(*itertools.chain(*states))

    def get(self) -> States:
        """What they are now."""
        values = iter(self._variables.get())
        return [list(itertools.islice(values, size)) for size in self._sizes]

    def set(self, states: States) -> None:
        """What they are from now on."""
        self._variables.set(*itertools.chain(*states))


class Reread:
    """Logits that are read again by each step.

    Several pieces at once: with one, 8 KiB a multiprocessor would be under way, of 25 that an H200
    needs. What is past the end is counted as what is as good as nothing, as always.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def over(self, states: States, body: Body, first: Any = 0, last: Any = None) -> States:
        """The states after all pieces, or some."""
        self.place.begin()
        kept, several = _Kept(states), self.place.at_once
        for k in loop(first, self.place.pieces if last is None else last, several):
            now = kept.get()
            for i, values in enumerate([self.place.read(k + i) for i in range(several)]):
                now = body(k + i, values, now)
            kept.set(now)
        return kept.get()

    def counted(self, body: Body, start: Callable[[], State], finish: Any) -> States:
        """What was counted of all pieces, of so many at a time as integers can take.

        ``finish(state, terms)`` makes of a state of so many terms what can be added on and on.
        """
        place, several = self.place, self.place.at_once
        each = place.items // place.rows * several
        pieces, most = place.pieces, CAPACITY // each * several
        sums = _Kept([finish(start(), 0) for _ in range(place.rows)])
        for first in loop(0, pieces, most):
            last = smaller(first + most, pieces)
            done = self.over([start() for _ in range(place.rows)], body, first, last)
            turns = (last - first + (several - 1)) // several
            found = [finish(state, turns * each) for state in done]
            sums.set([added(a, b) for a, b in zip(sums.get(), found, strict=True)])
        return sums.get()

    def keep(self, k: Any, values: list[Value]) -> None:
        """Put these in their place, if it takes what is not final."""
        if isinstance(self.place, Tile):
            self.place.write(k, values)


class Seen(NamedTuple):
    """A row, once its largest logits are known: what its terms are computed with."""

    row: Row
    tempered: Tempered | None
    nan: Value | None  # NaN where a logit is, else 0; None where no logarithm wants it

    def of(self, x: Value) -> Value:
        """A logit as its term is computed of it."""
        return x if self.tempered is None else self.tempered.of(x)


class Steps:
    """The steps of a kernel for the rows of one place."""

    def __init__(self, batch: Batch, group: Group, reading: Any) -> None:
        self.batch, self.group, self.reading = batch, group, reading
        self.place: Place = reading.place
        self.formula, self.c = batch.kind.formula, Constants(batch.kind.element)

    # --- the largest logits --------------------------------------------------------------------

    def nothing(self) -> State:
        """The largest of no logits and, where a logarithm wants them, the second, and no NaN."""
        none = number(-INFINITY, self.batch.kind.element)
        return [none, none, like(0.0, none)] if self.formula.apart else [none]

    def largest(self) -> States:
        """Those of each row, as all its threads know them."""

        def body(k: Any, values: list[Value], states: States) -> States:
            after = list(states)
            for j, value in enumerate(values):
                after[j % len(after)] = _with_next(value, after[j % len(after)])
            return after

        found = self.reading.over([self.nothing() for _ in range(self.place.rows)], body)
        return [self.group.together("largest", state, largest_and_nan) for state in found]

    def seen(self, largest: States) -> list[Seen]:
        """What the terms of rows with these largest logits are computed with."""
        return [self._seen(j, *state) for j, state in enumerate(largest)]

    def _seen(self, j: int, top: Value, second: Any = None, nan: Any = None) -> Seen:
        if not self.batch.kind.temperature:
            return Seen(row_of(top, second, None, self.c), None, nan)
        limits = tempered(self.place.temperature(j), top)
        top, second = limits.of(top), None if second is None else limits.of(second)
        return Seen(row_of(top, second, limits.times, self.c), limits, nan)

    # --- counts of their exponentials ----------------------------------------------------------

    def counted(self, seen: list[Seen]) -> States:
        """The counts of each row, of its exponentials and all else that its formula adds up."""
        kind, c, formula = self.batch.kind, self.c, self.formula

        def start() -> State:
            none = Sums.none(kind.element, None, kind.grids)
            return [*none.counts, none.seen]

        def body(k: Any, values: list[Value], states: States) -> States:
            after, exponentials = list(states), []
            for j, value in enumerate(values):
                of, state = seen[j % len(seen)], after[j % len(after)]
                terms = formula.terms(of.of(value), of.row, c)
                sums = add_terms(Sums(state[:-1], state[-1], kind.grids), terms, c)
                after[j % len(after)] = [*sums.counts, sums.seen]
                exponentials.append(terms[0].e)
            if formula.of_term and formula.mapped:
                self.reading.keep(k, exponentials)
            return after

        def finish(state: State, terms: Any) -> State:
            return [*counts_of(Sums(state[:-1], state[-1], kind.grids), terms, c), state[-1]]

        found = self.reading.counted(body, start, finish)
        return [self.group.together("counts", state, added) for state in found]

    # --- results -------------------------------------------------------------------------------

    def finished(self, seen: list[Seen], counted: States) -> list[Pair]:
        """What the results of rows are made with."""
        return [self._finished(of, state) for of, state in zip(seen, counted, strict=True)]

    def _finished(self, seen: Seen, state: State) -> Pair:
        top, zero = seen.row.top, number(0.0, DOUBLE)
        # NaN beside infinities shows in no sum, and nothing else does.
        beside = zero if seen.nan is None else wide(seen.nan)
        found = select(not_finite(state[-1], self.c), number(NAN, DOUBLE), zero)
        invalid = select(top - top == 0.0, found, beside)
        if seen.tempered is not None:
            invalid = invalid + seen.tempered.invalid
        total = Total(state[:-1], self.batch.kind.grids, invalid)
        made: Pair = self.formula.finish(total, seen.row, self.c)
        return made

    def results(self, seen: list[Seen], made: list[Pair]) -> None:
        """All results, to their places."""
        result_of, element = self.formula.result, self.batch.kind.element
        if self.formula.at_label is not None:
            (self._largest_in_order if self.formula.chooses else self._at_labels)(seen, made)
            return
        if result_of is None:
            for j, pair in enumerate(made):
                value = pair.value if element == DOUBLE else narrowed(pair.value, element)
                self.place.put(j, value)
            return
        pairs = [in_two(pair, element) for pair in made]

        def body(k: Any, values: list[Value], states: States) -> States:
            found = []
            for j, value in enumerate(values):
                of, pair = seen[j % len(seen)], pairs[j % len(pairs)]
                found.append(result_of(self.made_of(of, value), of.row, pair, self.c))
            self.place.write(k, found)
            return states

        self.reading.over([], body)

    def _at_labels(self, seen: list[Seen], made: list[Pair]) -> None:
        """The results of rows that have one for each label, to their places."""
        for j, (of, pair) in enumerate(zip(seen, made, strict=True)):
            self.place.put_at_labels(j, self._result_at_label(of, pair))

    def _result_at_label(self, seen: Seen, made: Pair) -> Callable[[Value], Value]:
        """What makes the result of a logit at a label of a row."""
        at_label, pair = self.formula.at_label, in_two(made, self.batch.kind.element)
        assert at_label is not None

        def result(x: Value) -> Value:
            value = seen.of(x)
            if self.formula.of_term:
                value = term_of(value, seen.row, self.c).e
            found: Value = at_label(value, seen.row, pair, self.c)
            return found

        return result

    def _largest_in_order(self, seen: list[Seen], made: list[Pair]) -> None:
        """The results of rows' largest logits and which these are, to their places.

        One after the other: the largest of what comes after the one before, of equal ones the first
        first. NaN counts as infinity, as a row that holds it has no other result.
        """
        results = [self._result_at_label(*each) for each in zip(seen, made, strict=True)]
        ranked = [self._ranked(j, *each) for j, each in enumerate(zip(seen, made, strict=True))]
        element = self.batch.kind.element
        first = [number(INFINITY, element), number(-1, INT64)]
        none = [number(-INFINITY, element), number(BEYOND, INT64)]
        before = _Kept([first for _ in seen])
        for i in loop(0, self.batch.several):
            given = before.get()

            def body(k: Any, values: list[Value], states: States, given: States = given) -> States:
                after = list(states)
                for j, value in enumerate(values):
                    row = j % len(after)
                    value = ranked[row].of(value)
                    found = [select(value == value, value, INFINITY), self.place.number(k, j)]
                    left = _comes_before(given[row], found)
                    better = left & _comes_before(found, after[row])
                    after[row] = _selected(better, found, after[row])
                return after

            states = self.reading.over([none for _ in seen], body)
            states = [self.group.together("chosen", state, _first_of_both) for state in states]
            before.set(states)
            for j, (_, label) in enumerate(states):
                self.place.put_label(j, i, label, results[j])
            self.group.leave()  # before the next are put together under the same name

    def _ranked(self, j: int, seen: Seen, made: Pair) -> Seen:
        """What a row's logits are ranked by: the CPU's logits, which some temperatures change.

        At a temperature of 0 all but the largest are alike, beside NaN or infinity all others.
        """
        if seen.tempered is None:
            return seen
        top = select(made.value == made.value, seen.tempered.top, INFINITY)
        return seen._replace(tempered=tempered(self.place.temperature(j), top))

    def made_of(self, seen: Seen, value: Value) -> Value:
        """What a result is made of: the logit, or its exponential, which may have been kept."""
        if not self.formula.of_term:
            return seen.of(value)
        if isinstance(self.reading, Held) or isinstance(self.place, Tile):
            return value
        return term_of(seen.of(value), seen.row, self.c).e

    def all(self) -> None:
        """One after the other."""
        seen = self.seen(self.largest())
        self.results(seen, self.finished(seen, self.counted(seen)))


def _comes_before(a: State, b: State) -> Value:
    """Whether a logit and its number come before another's: it is larger, or the first of equal."""
    return (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))


def _selected(condition: Value, a: State, b: State) -> State:
    return [select(condition, one, other) for one, other in zip(a, b, strict=True)]


def _first_of_both(a: State, b: State) -> State:
    return _selected(_comes_before(a, b), a, b)


def _with_next(value: Value, state: State) -> State:
    if len(state) == 1:
        return with_next(value, state)
    return [*with_next(value, state[:-1]), select(value == value, state[-1], NAN)]


def largest_and_nan(a: State, b: State) -> State:
    """The largest logits of both, and whether one holds NaN."""
    if len(a) == 1:
        return largest_of_both(a, b)
    return [*largest_of_both(a[:-1], b[:-1]), a[-1] + b[-1]]


def group_of(shape: Shape) -> Group:
    """The threads of a row."""
    return Group(shape.threads, shape.size, shape.clusters, shape.name.startswith("columns"))


def numbers(count: Any, shape: Shape) -> Iterator[Value]:
    """The tiles of rows, or others' numbers, that a block does, with its cluster if it has one."""
    block, blocks = device().block(), device().blocks()
    if shape.clusters > 1:
        block, blocks = block // shape.clusters, blocks // shape.clusters
    return loop(block, count, blocks)
