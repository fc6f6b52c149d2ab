"""Sums of exponentials that can be added to for ever: counts of grids at absolute places.

pairs.py counts the steps of grids that a row's largest term decides, so a row must be there as a
whole. Here the grids of all sums that ever are lie at multiples of 2**50 from each other, and a sum
keeps the three that its largest term reaches (J. Demmel, H. D. Nguyen, Parallel reproducible
summation, IEEE Transactions on Computers 64 (2015), doi:10.1109/TC.2014.2345391). What a term
counts on a grid depends on the term alone, whichever grids are kept. So sums of parts are added up
in any order, and finer grids that no longer matter are dropped, without a trace of when.

Everything is float64. A term is exp(x) in two parts, the same that `pairs.exponential` gives any
row, times a weight; its power of two is an integer of 64 bits, so x may be anything up to 2**59.
"""

from __future__ import annotations

from typing import NamedTuple

from fastsoftmax.arithmetic.lanes import (
    INT64,
    State,
    Value,
    bits_of,
    fma,
    larger,
    like,
    number,
    select,
    smaller,
    to_integer,
    to_real,
)
from fastsoftmax.arithmetic.pairs import (
    Constants,
    Pair,
    Term,
    exponential,
    product,
    shift_by,
    two_sum,
)

# Powers of two from one grid to the next.
_APART = 50
# A term is below a quarter of 2**50 steps of the first grid, whose count is relative to the power.
ROOM = 3
# The power of a sum of nothing; and where powers are counted from to be positive.
NOTHING = -(2**62)
_ORIGIN = _APART * 2**54
# Up to here an exponential's steps are exact integers beside those of its power.
_NEAR = 2.0**40
# Beyond it no other term shows beside the largest, whose steps are 64 and more.
FAR = 2.0**59
# What is as much below the largest term as this, in nats or powers, counts on none of its grids.
_REACH = 300.0

# 2**20 / log(2): an integer, and the rest in two parts.
_PERIODS = 1512775
_PERIODS_HIGH = float.fromhex("0x1.94ae0bf85ddf4p-2")
_PERIODS_LOW = float.fromhex("0x1.ffb41a474fa24p-57")
_LN2 = float.fromhex("0x1.62e42fefa39efp-1")


class Place(NamedTuple):
    """exp(x) as exp(z) * 2**power."""

    z: Value
    power: Value


def place_of(x: Value) -> Place:
    """Where an exponential lies, of x that is no further than ``FAR``.

    Near numbers are themselves. Of others a multiple of 2**20 is taken off, exactly, and what that
    leaves beside a power of two is added to the rest, to 2**-34: a step of x is 2**-12 at least.
    """
    integer = 1.5 * 2.0**52
    size = select(x < 0.0, -x, x)
    multiple = select(size > _NEAR, (x * 2.0**-20 + integer) - integer, 0.0)
    powers = multiple * _PERIODS_HIGH
    rest = fma(multiple, _PERIODS_LOW, fma(multiple, _PERIODS_HIGH, -powers))
    whole = (powers + integer) - integer
    z = fma((powers - whole) + rest, _LN2, x - multiple * 2.0**20)
    return Place(z, to_integer(multiple) * _PERIODS + to_integer(whole))


def within(x: Value) -> Value:
    """x, or the nearest to it that has a place; infinities have none, nor NaN."""
    return smaller(larger(x, -FAR), FAR)


def power_of(z: Value, c: Constants) -> Value:
    """round(z / ln 2)."""
    return to_integer(fma(z, c.to_power, c.to_integer) - c.to_integer)


def aligned(power: Value) -> Value:
    """The power that a sum is counted relative to, of its largest term's."""
    return (power + (_ORIGIN + ROOM + _APART - 1)) // _APART * _APART - _ORIGIN


def is_near(largest: Value) -> Value:
    """Whether all that counts beside a largest x is near."""
    return (largest > _REACH * 2 - _NEAR) & (largest <= _NEAR)


def near_term(x: Value, largest: Value, power: Value, c: Constants) -> Term:
    """exp(x) relative to a sum's power, where its largest x is near."""
    z = larger(x, largest - _REACH)
    return exponential(z, None, shift_by(to_real(power), c), c)


def far_term(place: Place, power: Value, c: Constants, factor: Value | None = None) -> Term:
    """An exponential anywhere relative to a sum's power, with a factor from 1 to 2, or -2 to -1."""
    away = to_real(power - place.power)
    nothing = away - _REACH > place.z * c.to_power
    shift = shift_by(select(nothing, 0.0, away), c)
    term = exponential(select(nothing, 0.0, place.z), None, shift, c, exact=factor is not None)
    if factor is not None:
        return product(term, select(nothing, 0.0, factor))
    return Term(*(select(nothing, 0.0, part) for part in term))


def none(width: int | None) -> State:
    """The counts of no term."""
    return [number(0, INT64, width)] * 3


def counted(counts: State, term: Term, c: Constants) -> State:
    """Counts with one more term, which is exactly e and a rest: each part alone on every grid.

    The rest is too small for the first grid, and comes second on the others: see `halves`.
    """
    rest = (term.h - term.e) + term.lo
    a = term.e + c.grids[0]
    left = term.e - (a - c.grids[0])
    counts = [counts[0] + bits_of(a), *counts[1:]]
    for line, grid in enumerate(c.grids[1:], 1):
        a, b = left + grid, rest + grid
        counts[line] = counts[line] + (bits_of(a) + bits_of(b))
        left, rest = left - (a - grid), rest - (b - grid)
    return counts


def halves(counts: State, terms: Value | int, c: Constants) -> State:
    """What lanes counted of so many terms: of each count its high half, then its low one."""
    found: State = []
    for line, (count, grid) in enumerate(zip(counts, c.grids, strict=True)):
        each = number(terms, INT64) * (2 if line else 1)
        steps = count - like(bits_of(grid), count) * like(each, count)
        found += [steps >> 32, steps & 0xFFFFFFFF]
    return found


def carried(counts: State) -> State:
    """Halves with what is too much for the low ones in the high ones."""
    found: State = []
    for high, low in zip(counts[::2], counts[1::2], strict=True):
        found += [high + (low >> 32), low & 0xFFFFFFFF]
    return found


class Bins(NamedTuple):
    """A sum: the halves of three counts, relative to a power."""

    power: Value
    counts: State

    def at(self, power: Value) -> State:
        """The counts relative to a power that is no lower: what is too fine is dropped."""
        away = power - self.power
        found: State = []
        for line in range(6):
            count = select(away == 0, self.counts[line], 0)
            for moved in (1, 2):
                if line >= 2 * moved:
                    here = away == moved * _APART
                    count = select(here, self.counts[line - 2 * moved], count)
            found.append(count)
        return found


def total_of(counts: State, c: Constants) -> Pair:
    """The sum that is counted, relative to its power, to 2**-104.

    The first grid may have next to nothing, so no part can be left to a rest before it is added.
    """
    worth = [step * half for step in c.worth for half in (2.0**32, 1.0)]
    value, *others = (to_real(count) * step for count, step in zip(counts, worth, strict=True))
    rest = value * 0.0
    for part in others:
        value, error = two_sum(value, part)
        rest = rest + error
    return two_sum(value, rest)


def of_one(x: Value, c: Constants) -> tuple[Value, Place]:
    """The power of a sum of exp(x) alone, nothing where x is too low; and the place of the term."""
    place = place_of(within(x))
    power = aligned(place.power + power_of(place.z, c))
    return select(x > -FAR, power, NOTHING), place


def added(sums: list[Bins], x: Value, c: Constants) -> Bins:
    """All sums and exp(x), which is not there where x is below ``-FAR``."""
    power, place = of_one(x, c)
    for each in sums:
        power = larger(power, each.power)
    term = far_term(place, power, c)
    term = Term(*(select(x > -FAR, part, 0.0) for part in term))
    counts = halves(counted(none(x.width), term, c), 1, c)
    for each in sums:
        counts = [a + b for a, b in zip(counts, each.at(power), strict=True)]
    return Bins(power, carried(counts))
