"""Kernels that draw classes: a row's law as integers, and the class of each uniform number.

A class counts the steps of one grid that its exponential has, rounded once. A uniform number picks
one of all steps of the row, and the class that it belongs to is drawn: integers, so that nothing
depends on who adds them up, and no probability is ever formed. Sums of the counts are noted along
the row, so that a draw looks again at one piece of it; or, for many draws, the sums up to each
class are there.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from fastsoftmax.arithmetic.formulas import SOFTMAX
from fastsoftmax.arithmetic.generated import builder, generated
from fastsoftmax.arithmetic.lanes import (
    FLOAT,
    INT64,
    State,
    Value,
    Variables,
    any_of,
    bits_of,
    call,
    folded,
    from_bits,
    in_64_bits,
    larger,
    loop,
    narrowed,
    number,
    select,
    smaller,
    sum_of,
    to_integer,
    when,
)
from fastsoftmax.arithmetic.normalizer import term_of
from fastsoftmax.arithmetic.pairs import Constants, Term, not_finite
from fastsoftmax.cpu.along import TOP, Notes, Part, noted_row, spread
from fastsoftmax.cpu.batch import KERNELS, Batch
from fastsoftmax.cpu.memory import Array, scratch
from fastsoftmax.cpu.target import CPU

# Logits that are counted together: a draw computes one such piece again, lane by lane.
_PIECE = 128
# Sums that are noted along a row, 8 KiB; in longer rows each is that of several pieces.
_NOTED = 1024
_INT128 = ir.IntType(128)


class _Steps:
    """The steps that classes count: 2**-39 of the row's power, or 2**-50 in float64.

    From 2**23 (float64: 2**12) classes on they are twice as large, and again at each power of two:
    a class has up to 2**0.5 of the power, and the counts of a row must sum to less than 2**63.
    """

    def __init__(self, length: Value, c: Constants) -> None:
        single = c.grids[0].element == FLOAT
        coarser = larger(_bits(length) - (23 if single else 12), 0)
        scale = narrowed(from_bits((coarser + 1023) << 52), c.grids[0].element)
        # Two grids in float32, whose mantissa has no room for both ends.
        self._grids = [c.grids[0], c.grids[1] * scale] if single else [c.grids[0] * scale]
        self._apart = 20 - coarser

    def none(self, width: int) -> State:
        """The counts of nothing."""
        zero = bits_of(number(0.0, self._grids[0].element, width))
        return [zero] * len(self._grids)

    def of(self, term: Term) -> tuple[State, Value]:
        """How many steps of each grid a term has, and bits in which NaN shows; see `Sums`."""
        first = term.e + self._grids[0]
        counts = [bits_of(first) - bits_of(self._grids[0])]
        for grid in self._grids[1:]:
            left = (term.h - (first - self._grids[0])) + term.lo
            counts.append(bits_of(left + grid) - bits_of(grid))
        return counts, bits_of(first)

    def whole(self, counts: State) -> Value:
        """The counts of all grids as one, in 64 bits."""
        first, *second = map(in_64_bits, counts)
        return (first << self._apart) + second[0] if second else first


class _Classes:
    """The classes of a row, as integers."""

    def __init__(self, batch: Batch, row: Value, notes: Notes) -> None:
        self._batch, self._c = batch, Constants(batch.element)
        self.length = batch.x.shape[1]
        self._whole = Part(batch, row, 0, self.length, notes, 0)
        self._whole.note_largest()
        self._row = noted_row(batch, notes, 0, None, self._c)
        self._steps = _Steps(self.length, self._c)
        self._top = notes.get(TOP, 0)
        pieces = (self.length + (_PIECE - 1)) // _PIECE
        # The classes of each sum that is noted.
        self._each = (pieces + (_NOTED - 1)) // _NOTED * _PIECE

    def _counted(self, at: Value, width: int, count: Any) -> tuple[State, Value]:
        value = self._batch.present((self._whole.row, at), width, count)
        return self._steps.of(term_of(value, spread(self._row, width), self._c))

    def counts(self, at: Value) -> Value:
        """The counts of a vector of classes from a place on; absent ones count nothing."""
        counts, _ = self._counted(at, self._batch.width, self.length - at)
        return self._steps.whole(counts)

    def add_up(self, noted: Array) -> tuple[Value, Value]:
        """Note the sums along the row; return the last, and whether there is a law to draw from.

        There is none beside NaN or +inf, nor where all classes are -inf or masked.
        """
        lanes = self._batch.width
        zero = bits_of(number(0.0, self._batch.element, lanes))
        total, seen = Variables(number(0, INT64)), Variables(zero)

        def body(at: Value, width: int, count: Any, state: State) -> State:
            counts, bits = self._counted(at, width, count)
            seen.set(seen.get()[0] | folded([bits], lambda a, b: [a[0] | b[0]], lanes)[0])
            return merge(state, counts)

        def merge(a: State, b: State) -> State:
            return [one + other for one, other in zip(a, b, strict=True)]

        for start in loop(0, self.length, _PIECE):
            piece = self._whole._replace(start=start, stop=smaller(start + _PIECE, self.length))
            more = sum_of(self._steps.whole(piece.sweep(self._steps.none, body, merge)))
            total.set(total.get()[0] + more)
            noted.store((0, start // self._each), total.get()[0])
        numbers = any_of(not_finite(seen.get()[0], self._c)) == 0
        return total.get()[0], numbers & (self._top - self._top == 0.0)

    def holding(self, step: Value, noted: Array, lanes: Array) -> Value:
        """The class that one of the row's steps belongs to: the first that has all up to it."""
        width, sums = self._batch.width, (self.length + (self._each - 1)) // self._each
        passed = _passed(noted, 0, sums, step)
        start, below = passed * self._each, noted.load((0, larger(passed - 1, 0)), None)
        below = select(passed > 0, below, 0)
        # Of the classes of the next sum, the vector; what was counted before it, and so far.
        state = Variables(start, below, below)
        for at in loop(start, smaller(start + self._each, self.length), width):
            vector, below, upto = state.get()
            upto = upto + sum_of(self.counts(at))
            more = upto <= step
            state.set(select(more, at + width, vector), select(more, upto, below), upto)
        vector, below, _ = state.get()
        lanes.store((0, 0), self.counts(vector))
        # Of that the lane.
        state = Variables(vector, below)
        for lane in loop(0, width):
            found, upto = state.get()
            upto = upto + lanes.load((0, lane), None)
            state.set(found + select(upto <= step, number(1, INT64), 0), upto)
        return state.get()[0]


def _bits(n: Value) -> Value:
    """How many bits an integer has."""
    return 64 - call("llvm.ctlz.{}", INT64, n, ir.Constant(ir.IntType(1), 0))


def _passed(sums: Array, row: Any, count: Value, step: Value) -> Value:
    """How many of a row's first sums, of which the last is more than the step, are not."""
    passed, bits = Variables(number(0, INT64)), _bits(count)
    for bit in loop(1, bits + 1):
        upto = smaller(passed.get()[0] + (number(1, INT64) << (bits - bit)), count)
        passed.set(select(sums.load((row, upto - 1), None) <= step, upto, passed.get()[0]))
    return passed.get()[0]


def _part_of(total: Value, uniform: Value) -> Value:
    """floor(uniform * total), exactly: a number from 0 to 1, which is in 53 bits, of an integer."""
    b = builder()
    a, all_steps = (Value(b.zext(n.ir, _INT128)) for n in (to_integer(uniform * 2.0**53), total))
    return Value(b.trunc(((a * all_steps) >> 53).ir, INT64))


def _sample(
    x: Array, out: Array, temperature: Any, mask: Any, uniforms: Array, slot: Value, first: Value,
    last: Value,
) -> None:  # fmt: skip
    """The classes of each row's uniform numbers; -1 in rows that nothing can be drawn from."""
    batch = Batch(SOFTMAX, x, out, temperature, mask)
    notes = Notes.of(1)
    noted, lanes = scratch(types.int64, 1, _NOTED), scratch(types.int64, 1, batch.width)
    for row in loop(first, last):
        classes = _Classes(batch, row, notes)
        total, sound = classes.add_up(noted)
        for draw in loop(0, out.shape[1]):
            out.store((row, draw), number(-1, INT64))
            for _ in when(sound):
                step = _part_of(total, uniforms.load((row, draw), None))
                out.store((row, draw), classes.holding(step, noted, lanes))


def _class_counts(
    x: Array, out: Array, temperature: Any, mask: Any, slot: Value, first: Value, last: Value
) -> None:
    """What each class of each row counts; 0 in rows that nothing can be drawn from."""
    batch = Batch(SOFTMAX, x, out, temperature, mask)
    notes, noted = Notes.of(1), scratch(types.int64, 1, _NOTED)
    for row in loop(first, last):
        classes = _Classes(batch, row, notes)
        _, sound = classes.add_up(noted)
        for at in loop(0, classes.length, batch.width):
            out.store((row, at), select(sound, classes.counts(at), 0), classes.length - at)


def _picked(
    uniforms: Array, sums: Array, out: Array, slot: Value, first: Value, last: Value
) -> None:
    """What `_sample` draws, of what rows count up to each class; numbers are the items."""
    length, draws = sums.shape[1], out.shape[1]
    for item in loop(first, last):
        row, draw = item // draws, item % draws
        total = sums.load((row, length - 1), None)
        step = _part_of(total, uniforms.load((row, draw), None))
        out.store((row, draw), number(-1, INT64))
        for _ in when(total > 0):
            out.store((row, draw), _passed(sums, row, length, step))


_BATCH = "x", "out", "temperature", "mask"
_ITEMS = "slot", "first", "last"
KERNELS["sample"] = generated(_sample, (*_BATCH, "uniforms", *_ITEMS), CPU)
KERNELS["picked"] = generated(_picked, ("uniforms", "sums", "out", *_ITEMS), CPU)
KERNELS["class_counts"] = generated(_class_counts, (*_BATCH, *_ITEMS), CPU)
