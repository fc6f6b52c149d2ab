"""The kernels of sums that never end: of parts of rows, of two sums, and their logarithms.

A sum is a column of ``floats`` (3, sums) and ``integers`` (7, sums); see `bins` for the integers.
The largest of its terms without a weight is kept apart as its logarithm, so that what is next to 1
in a total of almost 1 is not lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastsoftmax.arithmetic import bins
from fastsoftmax.arithmetic.bins import NOTHING, Bins
from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    INT64,
    State,
    Value,
    Variables,
    folded,
    lane,
    larger,
    loop,
    number,
    select,
    smaller,
    sum_of,
    to_real,
    when,
    wide,
)
from fastsoftmax.arithmetic.normalizer import (
    INFINITY,
    largest_of_both,
    log_of_one_and,
    over_term,
    with_next,
)
from fastsoftmax.arithmetic.pairs import (
    Constants,
    Pair,
    Term,
    exponential,
    in_powers,
    shift_of,
    two_sum,
)
from fastsoftmax.cpu.batch import KERNELS
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.sizes import CHUNK, vectors
from fastsoftmax.cpu.target import CPU
from fastsoftmax.cpu.weighted import logarithm_of_total, sign_of

_WIDTH = 8
# The lines of floats: the largest logit, which is apart; the sum of what is not finite; and the
# largest of those with a weight.
TOP, SPECIAL, WEIGHTED = range(3)


class _Sums(NamedTuple):
    """Sums that lie side by side in memory."""

    floats: Array
    integers: Array

    def get(self, at: Value, count: Any) -> tuple[list[Value], Bins]:
        """The floats and the integers of sums from one on."""
        floats = [self.floats.load((line, at), _WIDTH, count) for line in range(3)]
        power, *counts = (self.integers.load((line, at), _WIDTH, count) for line in range(7))
        return floats, Bins(power, counts)

    def put(self, at: Value, count: Any, floats: list[Value], sums: Bins) -> None:
        """Store them; of single numbers one sum."""
        for line, value in enumerate(floats):
            self.floats.store((line, at), value, count)
        for line, value in enumerate([sums.power, *sums.counts]):
            self.integers.store((line, at), value, count)


class _Cut(NamedTuple):
    """A part of a row that is summed by itself, masked or weighted or neither."""

    x: Array
    beside: Array | None
    row: Value
    start: Value
    stop: Value

    @classmethod
    def of(cls, x: Array, beside: Array | None, item: Value) -> _Cut:
        """The item-th of all rows' cuts."""
        length = x.shape[1]
        cuts = (length + (CHUNK - 1)) // CHUNK
        start = item % cuts * CHUNK
        return cls(x, beside, item // cuts, start, smaller(start + CHUNK, length))

    def load(self, at: Value, width: int, count: Any) -> Value:
        """Logits in float64, -inf past ``count``."""
        return wide(self.x.load((self.row, at), width, count, -INFINITY))

    def present(self, at: Value, width: int, count: Any) -> Value:
        """Logits, -inf where they are masked, too."""
        x = self.load(at, width, count)
        if self.beside is None:
            return x
        return select(self.beside.load((self.row, at), width, count) != 0, x, -INFINITY)

    def weighted(self, at: Value, width: int, count: Any) -> tuple[Value, Value]:
        """Logits and weights."""
        assert self.beside is not None
        return self.load(at, width, count), self.beside.load((self.row, at), width, count)

    def over(
        self, begin: Callable[[int], State], body: Callable[[Value, int, Any, State], State],
        merge: Callable[[State, State], State], several: int,
    ) -> State:  # fmt: skip
        """The state of eight lanes after all of it: so many at once first, then what is left."""
        whole = self.start + (self.stop - self.start) // several * several
        state = Variables(*begin(several))
        for at in loop(self.start, whole, several):
            state.set(*body(at, several, None, state.get()))
        state = Variables(*folded(state.get(), merge, _WIDTH))
        for at in loop(whole, self.stop, _WIDTH):
            state.set(*body(at, _WIDTH, self.stop - at, state.get()))
        return state.get()

    def counted(
        self, body: Callable[[Value, int, Any, State], State], c: Constants, several: int
    ) -> State:
        """The halves of what is counted."""
        counts = self.over(bins.none, body, _both, several)
        terms = (self.stop - self.start + (_WIDTH - 1)) // _WIDTH
        return [sum_of(each) for each in bins.halves(counts, terms, c)]


def _both(a: State, b: State) -> State:
    return [one + other for one, other in zip(a, b, strict=True)]


def _spread(x: Value, width: int) -> Value:
    return number(x, x.element, width)


def _summed(
    x: Array, floats: Array, integers: Array, mask: Array | None, slot: Value, first: Value,
    last: Value,
) -> None:  # fmt: skip
    """The sums of exp(x) of cuts of rows."""
    c, wide_lanes = Constants(DOUBLE), _WIDTH * vectors()
    for item in loop(first, last):
        cut = _Cut.of(x, mask, item)

        def noted(at: Value, width: int, count: Any, state: State) -> State:
            value = cut.present(at, width, count)
            # NaN, too, is not below infinity
            special = select(value < INFINITY, state[2], state[2] + value)
            return [*with_next(value, state[:2]), special]

        def none(width: int) -> State:
            return [*(number(-INFINITY, DOUBLE, width) for _ in range(2)),
                    number(0.0, DOUBLE, width)]  # fmt: skip

        def merged(a: State, b: State) -> State:
            return [*largest_of_both(a[:2], b[:2]), a[2] + b[2]]

        top, second, special = folded(cut.over(none, noted, merged, wide_lanes), merged, None)
        finite = special == 0.0
        top = select(finite, top, -INFINITY)
        power, _ = bins.of_one(select(finite, second, -INFINITY), c)
        sums = Variables(*[number(0, INT64)] * 6)
        near, cap = bins.is_near(second), smaller(second, bins.FAR)

        def add(several: int, term_of: Callable[[Value, Value, Value], Term]) -> None:
            def counted(x: Value, state: State) -> State:
                """The largest counts as the second, and one such term is taken off."""
                most, relative = (_spread(each, x.width or 1) for each in (cap, power))
                return bins.counted(state, term_of(smaller(x, most), most, relative), c)

            def body(at: Value, width: int, count: Any, state: State) -> State:
                return counted(cut.present(at, width, count), state)

            halves = cut.counted(body, c, several)
            once = bins.halves(counted(_spread(cap, _WIDTH), bins.none(_WIDTH)), 1, c)
            sums.set(*(a - lane(b, 0) for a, b in zip(halves, once, strict=True)))

        def near_term(x: Value, most: Value, relative: Value) -> Term:
            return bins.near_term(x, most, relative, c)

        def far_term(x: Value, most: Value, relative: Value) -> Term:
            return bins.far_term(bins.place_of(bins.within(x)), relative, c)

        there = power != NOTHING
        for _ in when(there & near):
            add(wide_lanes, near_term)
        for _ in when(there & (near == 0)):
            add(_WIDTH, far_term)
        state = [top, special, number(-INFINITY, DOUBLE)]
        _Sums(floats, integers).put(item, None, state, Bins(power, bins.carried(sums.get())))


class _Weighted(NamedTuple):
    """weight * exp(x) as mantissa * exp(z) * 2**power, and whether it counts as a finite term."""

    place: bins.Place
    mantissa: Value
    counts: Value

    @classmethod
    def of(cls, x: Value, weight: Value) -> _Weighted:
        """A logit and its weight."""
        place, (mantissa, power) = bins.place_of(bins.within(x)), in_powers(weight)
        counts = (weight != 0.0) & (x > -bins.FAR) & (x < INFINITY)
        return cls(place._replace(power=place.power + power), mantissa, counts)


def _summed_weighted(
    x: Array, floats: Array, integers: Array, weight: Array, slot: Value, first: Value,
    last: Value,
) -> None:  # fmt: skip
    """The sums of weight * exp(x) of cuts of rows."""
    c = Constants(DOUBLE)
    for item in loop(first, last):
        cut = _Cut.of(x, weight, item)

        def noted(at: Value, width: int, count: Any, state: State) -> State:
            x, w = cut.weighted(at, width, count)
            term = _Weighted.of(x, w)
            power = term.place.power + bins.power_of(term.place.z, c)
            # what is infinite, or NaN, whatever a finite exponential is
            known = select(x == INFINITY, INFINITY, select(x > -INFINITY, 1.0, w * 0.0))
            product = w * select(x == x, known, x)
            special = (w != 0.0) & ((product - product == 0.0) == 0)
            return [
                larger(select(term.counts, power, NOTHING), state[0]),
                larger(select(term.counts, x, -INFINITY), state[1]),
                state[2] + select(special, product, 0.0),
            ]

        def none(width: int) -> State:
            return [number(NOTHING, INT64, width), number(-INFINITY, DOUBLE, width),
                    number(0.0, DOUBLE, width)]  # fmt: skip

        def merged(a: State, b: State) -> State:
            return [larger(a[0], b[0]), larger(a[1], b[1]), a[2] + b[2]]

        power, top, special = folded(cut.over(none, noted, merged, _WIDTH), merged, None)
        power = select((special == 0.0) & (power != NOTHING), bins.aligned(power), NOTHING)
        sums = Variables(*[number(0, INT64)] * 6)

        def body(at: Value, width: int, count: Any, state: State) -> State:
            place, mantissa, counts = _Weighted.of(*cut.weighted(at, width, count))
            factor = select(counts, mantissa, 0.0)
            return bins.counted(state, bins.far_term(place, _spread(power, width), c, factor), c)

        for _ in when(power != NOTHING):
            sums.set(*cut.counted(body, c, _WIDTH))
        state = [number(-INFINITY, DOUBLE), special, top]
        _Sums(floats, integers).put(item, None, state, Bins(power, bins.carried(sums.get())))


def _added(
    floats: Array, integers: Array, more_floats: Array, more_integers: Array, slot: Value,
    first: Value, last: Value,
) -> None:  # fmt: skip
    """Add sums to others, side by side: the lower of both tops joins the counts."""
    c, here, there = Constants(DOUBLE), _Sums(floats, integers), _Sums(more_floats, more_integers)
    for at in loop(first * CHUNK, smaller(last * CHUNK, floats.shape[1]), _WIDTH):
        count = floats.shape[1] - at
        (a, sums), (b, more) = here.get(at, count), there.get(at, count)
        made = bins.added([sums, more], smaller(a[TOP], b[TOP]), c)
        state = [larger(a[TOP], b[TOP]), a[SPECIAL] + b[SPECIAL]]
        here.put(at, count, [*state, larger(a[WEIGHTED], b[WEIGHTED])], made)


def _logarithm(
    floats: Array, integers: Array, out: Array, slot: Value, first: Value, last: Value
) -> None:
    """The logarithms of sums without weights: the largest, and what the others add."""
    c = Constants(DOUBLE)
    for at in loop(first * CHUNK, smaller(last * CHUNK, floats.shape[1]), _WIDTH):
        count = floats.shape[1] - at
        (top, special, _), sums = _Sums(floats, integers).get(at, count)
        z, power = bins.place_of(bins.within(top))
        largest = exponential(z, None, shift_of(z, c), c)
        away = to_real(sums.power - (power + bins.power_of(z, c)))
        others = over_term(bins.total_of(sums.counts, c), largest, away, c)
        shown = (sums.power != NOTHING) & (top < bins.FAR)
        log = log_of_one_and(Pair(*(select(shown, part, 0.0) for part in others)))
        value, error = two_sum(top, log.value)
        value = select(top > -INFINITY, value + (error + log.rest), top)
        out.store((at,), select(special == 0.0, value, special * special), count)


def _signed_logarithm(
    floats: Array, integers: Array, out: Array, sign: Array, slot: Value, first: Value, last: Value
) -> None:
    """The logarithms of sums with weights, and their signs."""
    c = Constants(DOUBLE)
    for at in loop(first * CHUNK, smaller(last * CHUNK, floats.shape[1]), _WIDTH):
        count = floats.shape[1] - at
        (top, special, _), sums = _Sums(floats, integers).get(at, count)
        power, counts = bins.added([sums], top, c)
        away = to_real(select(power == NOTHING, 0, power)) - float(bins.ROOM)
        value, one = logarithm_of_total(bins.total_of(counts, c), number(0.0, DOUBLE, _WIDTH), away)
        out.store((at,), select(special == 0.0, value, special * special), count)
        sign.store((at,), select(special == 0.0, one, sign_of(special)), count)


_SUMS, _ITEMS = ("floats", "integers"), ("slot", "first", "last")
KERNELS["sums"] = generated(_summed, ("x", *_SUMS, "mask", *_ITEMS), CPU)
KERNELS["weighted_sums"] = generated(_summed_weighted, ("x", *_SUMS, "weight", *_ITEMS), CPU)
KERNELS["added_sums"] = generated(_added, (*_SUMS, "more_floats", "more_integers", *_ITEMS), CPU)
KERNELS["log_sums"] = generated(_logarithm, (*_SUMS, "out", *_ITEMS), CPU)
KERNELS["signed_log_sums"] = generated(_signed_logarithm, (*_SUMS, "out", "sign", *_ITEMS), CPU)
