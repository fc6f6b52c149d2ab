"""Rows of any type as lines of float64 in a thread's memory, for plain Numba code, and back.

``memory`` is (slots, lines, length + 4), one slot for each thread; what is noted of a line is
behind its numbers.
"""

from __future__ import annotations

from typing import Any

from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    INT64,
    Value,
    Variables,
    any_of,
    folded,
    larger,
    loop,
    narrowed,
    number,
    select,
    to_integer,
    to_real,
    when,
    wide,
)
from fastsoftmax.arithmetic.normalizer import INFINITY, NAN
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.target import CPU

_WIDTH = 8
# Lanes that are looked at together for what is near the largest.
_MANY = 64


def _present(x: Array, mask: Array | None, at: Any, width: int, count: Any) -> Value:
    """Elements as lanes, -inf for what is absent."""
    value = x.load(at, width, count, -INFINITY)
    if mask is None:
        return value
    return select(mask.load(at, width, count) != 0, value, -INFINITY)


def _kept(mask: Array | None, value: Value, at: Any, count: Any) -> Value:
    """Results as lanes, 0 for what is absent."""
    if mask is None:
        return value
    return select(mask.load(at, value.width, count) != 0, value, 0.0)


def _largest(lanes: Value) -> Value:
    return folded([lanes], lambda a, b: [larger(a[0], b[0])], None)[0]


def _read_line(
    x: Array, mask: Array | None, memory: Array, slot: Value, line: Value, row: Value
) -> None:
    """A row as a line, -inf where it is absent; behind it the largest size, and what is no number.

    The latter is 1 where NaN or an infinity is present, else 0.
    """
    length = x.shape[1]
    zero = number(0.0, DOUBLE, _WIDTH)
    state = Variables(zero, zero)
    for at in loop(0, length, _WIDTH):
        count = length - at
        value = wide(_present(x, mask, (row, at), _WIDTH, count))
        memory.store((slot, line, at), value, count)
        # what is absent, by the mask or past the end, does not count
        given = wide(x.load((row, at), _WIDTH, count))
        given = _kept(mask, given, (row, at), count)
        size, found = state.get()
        found = select(given - given == 0.0, found, 1.0)
        state.set(larger(select(given < 0.0, -given, given), size), found)
    for place, lanes in enumerate(state.get()):
        memory.store((slot, line, length + place), _largest(lanes))


def _write_line(out: Array, mask: Array | None, memory: Array, slot: Value, row: Value) -> None:
    """The first line, rounded to a row's type, as that row; 0 where it is absent."""
    length = out.shape[1]
    for at in loop(0, length, _WIDTH):
        count = length - at
        value = memory.load((slot, 0, at), _WIDTH, count)
        out.store((row, at), _kept(mask, value, (row, at), count), count)


def _gather(
    x: Array, mask: Array | None, reach: Value, memory: Array, slot: Value, row: Value
) -> None:
    """A row's elements less than ``reach`` below the largest, or a bit more, as two lines.

    The first has the elements, the second their places, and behind the first is how many there are;
    -1 for a row of NaN, of +inf, or without a finite number.
    """
    length, width = x.shape[1], _MANY
    start = number(-INFINITY, x.element, width), number(0.0, x.element, width)
    state = Variables(*start)
    whole = length // width * width

    def seen(at: Value, count: Any) -> None:
        value = _present(x, mask, (row, at), width, count)
        top, strange = state.get()
        state.set(larger(value, top), select(value == value, strange, 1.0))

    def found(at: Value, count: Any) -> None:
        value = _present(x, mask, (row, at), width, count)
        for _ in when(any_of(value > limit)):
            stop = at + width if count is None else length
            for place in loop(at, stop):
                one = x.load((row, place), None)
                if mask is not None:
                    one = select(mask.load((row, place), None) != 0, one, -INFINITY)
                for _ in when(one > limit):
                    (many,) = counted.get()
                    memory.store((slot, 0, many), wide(one))
                    memory.store((slot, 1, many), to_real(place))
                    counted.set(many + 1)

    def over(look: Any) -> None:
        for at in loop(0, whole, width):
            look(at, None)
        for _ in when(whole < length):
            look(whole, length - whole)

    over(seen)
    top, strange = map(_largest, state.get())
    limit = _below(wide(top), reach, x)
    counted = Variables(number(0, INT64))
    ordinary = (strange == 0.0) & (top - top == 0.0)
    for _ in when(ordinary):
        over(found)
    (many,) = counted.get()
    memory.store((slot, 0, length), select(ordinary, to_real(many), -1.0))


def _below(top: Value, reach: Value, x: Array) -> Value:
    """A number of the row's type, at or below top - reach."""
    size = select(top < 0.0, -top, top)
    if x.element == DOUBLE:
        return (top - reach) - (size + reach) * 2.0**-51
    return narrowed((top - reach) - (size + reach) * 2.0**-22, x.element)


def _scatter(out: Array, mask: Array | None, memory: Array, slot: Value, row: Value) -> None:
    """The first line's results to their places in a row of zeros; NaN where none were found."""
    length, width = out.shape[1], _MANY
    many = to_integer(memory.load((slot, 0, length), None))
    rest = number(select(many < 0, number(NAN, out.element), 0.0), out.element, width)
    whole = length // width * width

    def fill(at: Value, count: Any) -> None:
        out.store((row, at), _kept(mask, rest, (row, at), count), count)

    for at in loop(0, whole, width):
        fill(at, None)
    for _ in when(whole < length):
        fill(whole, length - whole)
    for found in loop(0, many):
        place = to_integer(memory.load((slot, 1, found), None))
        out.store((row, place), memory.load((slot, 0, found), None))


read_line = generated(_read_line, ("x", "mask", "memory", "slot", "line", "row"), CPU)
write_line = generated(_write_line, ("out", "mask", "memory", "slot", "row"), CPU)
gather = generated(_gather, ("x", "mask", "reach", "memory", "slot", "row"), CPU)
scatter = generated(_scatter, ("out", "mask", "memory", "slot", "row"), CPU)
