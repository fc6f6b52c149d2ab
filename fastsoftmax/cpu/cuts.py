"""Kernels for rows longer than a block: contiguous ones, and columns.

A row is read for its largest logit, then cut: each cut is counted (arithmetic.py), on a third grid
too, so that the errors of ten million terms stay nothing. Counts of cuts are integers, which are
added in any order; so threads can share a row. Exponentials wait in the result where its type can
hold them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastsoftmax.cpu.across import fetch, put_beside, times_at
from fastsoftmax.cpu.along import (
    COUNTS,
    INVALID,
    INVERSE,
    NOTES,
    ONES,
    ROW,
    SECOND,
    TOP,
    A,
    finish_rows,
    holds_nan,
    in_two,
    larger_two,
    largest_of,
    map_row,
    note_rows,
    note_times,
    present,
    sum_of_row,
    unmasked,
    value_of,
    where,
)
from fastsoftmax.cpu.arithmetic import CAPACITY, constants_for, counts_of
from fastsoftmax.cpu.formulas import FORMULAS
from fastsoftmax.cpu.jit import chosen, inlined, kernel
from fastsoftmax.cpu.lanes import bits_of, in_64_bits, select, spread_like, wide
from fastsoftmax.cpu.memory import load, scratch, store, unit_of, width_of
from fastsoftmax.cpu.normalizer import INFINITY, NAN, add_logits, row_of
from fastsoftmax.cpu.sizes import BLOCK, VECTORS, cut_length

_cut_length = inlined(cut_length)
# Lines of notes are as long as a unit of the narrower element is wide.
_LANES = 16
# Where it is noted in a cut's counts that it holds NaN.
FOUND = COUNTS


@chosen
def _keeper(kept: Any, out: Any) -> Any:
    """Where exponentials are kept: the result itself, or None, to compute them again."""
    if kept is types.none or out.dtype not in (types.float32, types.float64):
        return lambda kept, out: None
    return lambda kept, out: out


@inlined
def _count(
    x: Any, row: Any, start: Any, stop: Any, mask: Any, temperature: Any, apart: Any, keep: Any,
    notes: Any, counts: Any, rows: Any, unit: Any, several: Any,
) -> Any:  # fmt: skip
    """Note the counts of a part of a row whose largest logit is noted; whether it holds NaN."""
    for line in range(COUNTS):
        counts[line, 0] = 0
    bounded = notes[TOP, 0] - notes[TOP, 0] == 0.0
    nan = False
    if not bounded:
        nan = holds_nan(x, row, start, stop, mask, unit)
    for first in range(start, stop, BLOCK):
        a, b, c, d, ones, found = sum_of_row(
            x, row, first, min(first + BLOCK, stop), mask, rows, 0, temperature, apart, True, keep,
            row, 0, keep, 0, BLOCK, unit, several,
        )  # fmt: skip
        counts[0, 0] += a
        counts[1, 0] += b
        counts[2, 0] += c
        counts[3, 0] += d
        counts[ONES, 0] += ones
        nan = nan or (bounded and found)
    return nan


@inlined
def _long(
    formula: Any, apart: Any, kept: Any, mapped: Any, x: Any, out: Any, temperature: Any,
    mask: Any, first: Any, last: Any,
) -> None:  # fmt: skip
    unit, several = unit_of(x, None, 1), unit_of(x, None, VECTORS)
    notes, counts = scratch(np.float64, NOTES, _LANES), scratch(np.int64, COUNTS, _LANES)
    rows = scratch(unit, ROW, None)
    keep = _keeper(kept, out)
    length = x.shape[1]
    for row in range(first, last):
        notes[TOP, 0], notes[SECOND, 0] = largest_of(x, row, 0, length, mask, apart, unit, several)
        _note_row(x, row, temperature, apart, notes, rows, unit)
        nan = _count(
            x, row, 0, length, mask, temperature, apart, keep, notes, counts, rows, unit, several
        )
        notes[INVALID, 0] = NAN if nan else 0.0
        finish_rows(formula.finish, x, 1, temperature, notes, counts, rows, unit)
        if mapped is None:
            store(out, (row,), 1, load(notes, (A, 0), None, 0, unit))
        else:
            map_row(
                formula, kept, x, row, 0, length, temperature, mask, keep, row, 0, rows, 0, out,
                unit,
            )  # fmt: skip


@inlined
def _note_row(
    x: Any, row: Any, temperature: Any, apart: Any, notes: Any, rows: Any, unit: Any
) -> None:
    if temperature is not None:
        notes[INVERSE, 0] = temperature[row]
        note_times(1, notes)
    note_rows(x, 1, temperature, apart, notes, rows, unit)


# --- a row shared by threads ------------------------------------------------------------------
#
# All cuts' maxima are found, then all cuts are counted, then all are mapped. In between, lines of
# ``tops`` (rows * cuts, 2) hold a cut's two largest logits, lines of ``counted`` (rows * cuts,
# COUNTS + 1) what it counts and whether it holds NaN.


@inlined
def _ends(x: Any, cut: Any) -> Any:
    """The first logit of a cut, and the first after it."""
    size = _cut_length(x.shape[1])
    return cut * size, min(cut * size + size, x.shape[1])


@inlined
def _cuts_of(x: Any) -> Any:
    size = _cut_length(x.shape[1])
    return (x.shape[1] + size - 1) // size


@inlined
def _note_shared(
    x: Any, row: Any, temperature: Any, apart: Any, tops: Any, notes: Any, rows: Any, unit: Any
) -> None:
    """What terms of a row are computed with, from all its cuts' maxima."""
    cuts = _cuts_of(x)
    top, second = -INFINITY, -INFINITY
    for line in range(row * cuts, row * cuts + cuts):
        a, b = tops[line, 0], tops[line, 1]
        if a > top:
            second = top if top > b else b
            top = a
        elif a > second:
            second = a
    notes[TOP, 0], notes[SECOND, 0] = top, second
    _note_row(x, row, temperature, apart, notes, rows, unit)


@inlined
def _finish_shared(
    formula: Any, x: Any, row: Any, temperature: Any, counted: Any, notes: Any, counts: Any,
    rows: Any, unit: Any,
) -> None:  # fmt: skip
    """What results of a row are made with, from all its cuts' counts."""
    cuts = _cuts_of(x)
    for place in range(COUNTS):
        counts[place, 0] = 0
    found = 0
    for line in range(row * cuts, row * cuts + cuts):
        for place in range(COUNTS):
            counts[place, 0] += counted[line, place]
        found += counted[line, FOUND]
    notes[INVALID, 0] = NAN if found > 0 else 0.0
    finish_rows(formula.finish, x, 1, temperature, notes, counts, rows, unit)


def _maxima_of_cuts(x: Any, mask: Any, tops: Any, slot: int, first: int, last: int) -> None:
    """The maxima of cuts first to last, counted through all rows."""
    unit, several = unit_of(x, None, 1), unit_of(x, None, VECTORS)
    for item in range(first, last):
        start, stop = _ends(x, item % _cuts_of(x))
        tops[item, 0], tops[item, 1] = largest_of(
            x, item // _cuts_of(x), start, stop, mask, True, unit, several
        )


kernel("maxima_of_cuts", _maxima_of_cuts)


@inlined
def _count_cuts(
    apart: Any, kept: Any, x: Any, out: Any, temperature: Any, mask: Any, tops: Any, counted: Any,
    first: Any, last: Any,
) -> None:  # fmt: skip
    unit, several = unit_of(x, None, 1), unit_of(x, None, VECTORS)
    notes, counts = scratch(np.float64, NOTES, _LANES), scratch(np.int64, COUNTS, _LANES)
    rows = scratch(unit, ROW, None)
    keep = _keeper(kept, out)
    for item in range(first, last):
        row, cut = item // _cuts_of(x), item % _cuts_of(x)
        if item == first or cut == 0:
            _note_shared(x, row, temperature, apart, tops, notes, rows, unit)
        start, stop = _ends(x, cut)
        nan = _count(
            x, row, start, stop, mask, temperature, apart, keep, notes, counts, rows, unit, several
        )
        for place in range(COUNTS):
            counted[item, place] = counts[place, 0]
        counted[item, FOUND] = 1 if nan else 0


@inlined
def _map_cuts(
    formula: Any, apart: Any, kept: Any, mapped: Any, x: Any, out: Any, temperature: Any,
    mask: Any, tops: Any, counted: Any, first: Any, last: Any,
) -> None:  # fmt: skip
    unit = unit_of(x, None, 1)
    notes, counts = scratch(np.float64, NOTES, _LANES), scratch(np.int64, COUNTS, _LANES)
    rows = scratch(unit, ROW, None)
    keep = _keeper(kept, out)
    cuts = 1 if mapped is None else _cuts_of(x)
    for item in range(first, last):
        row, cut = item // cuts, item % cuts
        if item == first or cut == 0:
            _note_shared(x, row, temperature, apart, tops, notes, rows, unit)
            _finish_shared(formula, x, row, temperature, counted, notes, counts, rows, unit)
        if mapped is None:
            store(out, (row,), 1, load(notes, (A, 0), None, 0, unit))
        else:
            start, stop = _ends(x, cut)
            map_row(
                formula, kept, x, row, start, stop, temperature, mask, keep, row, 0, rows, 0, out,
                unit,
            )  # fmt: skip


# --- columns --------------------------------------------------------------------------------------


@inlined
def _keep(keep: Any, at: Any, count: Any, e: Any) -> None:
    if keep is not None:
        store(keep, at, count, e)


@inlined
def _sweep(
    formula: Any, apart: Any, kept: Any, mapped: Any, x: Any, out: Any, temperature: Any,
    mask: Any, o: Any, left: Any, count: Any, unit: Any,
) -> None:  # fmt: skip
    """As many columns as the unit has lanes, swept three times; ``count``: None, or fewer."""
    length, c = x.shape[1], constants_for(x)
    keep = _keeper(kept, out)
    zero = spread_like(0.0, unit)
    top = spread_like(-INFINITY, unit)
    second, invalid = where(apart, top), zero
    for i in range(length):
        fetch(x, o, i, left, unit)
        value = present(x, (o, i, left), count, mask, unit)
        top, second = larger_two(value, top, second)
        invalid = select(value == value, invalid, NAN)
    beside = scratch(np.float64, 1, 64)
    put_beside(temperature, o, left, x.shape[2] - left, beside, unit)
    times = times_at(temperature, beside, unit)
    row = row_of(top, second, times, c)
    bits = bits_of(zero)
    whole = in_64_bits(bits, None)
    n0, n1, n2, n3, ones = whole, whole, whole, whole, bits
    for start in range(0, length, CAPACITY):
        stop = min(start + CAPACITY, length)
        sums = bits, bits, bits, bits
        for i in range(start, stop):
            fetch(x, o, i, left, unit)
            value = present(x, (o, i, left), count, mask, unit)
            sums, ones, e = add_logits(value, row, sums, ones, apart, True, c)
            _keep(keep, (o, i, left), count, e)
        m0, m1, m2, m3 = counts_of(sums, stop - start, True, c)
        n0, n1, n2, n3 = n0 + m0, n1 + m1, n2 + m2, n3 + m3
    a, rest = formula.finish(
        (n0, n1, n2, n3), in_64_bits(ones, None), second, row, wide(invalid), x
    )
    if mapped is None:
        store(out, (o, left), count, a)
    else:
        a, rest = in_two(a, rest, unit)
        for i in range(length):
            fetch(out, o, i, left, unit)
            at = o, i, left
            value = value_of(kept, keep, x, at, at, count, row, c, unit)
            value = formula.result(value, row, a, rest, c)
            store(out, at, count, unmasked(value, mask, at, count, formula.absent, unit))


@inlined
def _long_columns(
    formula: Any, apart: Any, kept: Any, mapped: Any, x: Any, out: Any, temperature: Any,
    mask: Any, first: Any, last: Any,
) -> None:  # fmt: skip
    unit, several = unit_of(x, None, 1), unit_of(x, None, VECTORS)
    width, inner = width_of(several), x.shape[2]
    panels = (inner + width - 1) // width
    for number in range(first, last):
        o, left = number // panels, number % panels * width
        if left + width <= inner:
            _sweep(formula, apart, kept, mapped, x, out, temperature, mask, o, left, None, several)
        else:
            for j in range(left, min(left + width, inner), width_of(unit)):
                _sweep(
                    formula, apart, kept, mapped, x, out, temperature, mask, o, j, inner - j, unit
                )


def _kernels(formula: Any) -> None:
    apart, kept, mapped = formula.apart, formula.kept, formula.mapped

    def long(
        x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
    ) -> None:
        _long(formula, apart, kept, mapped, x, out, temperature, mask, first, last)

    def long_columns(
        x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
    ) -> None:
        _long_columns(formula, apart, kept, mapped, x, out, temperature, mask, first, last)

    def counts(
        x: Any, out: Any, temperature: Any, mask: Any, tops: Any, counted: Any, slot: int,
        first: int, last: int,
    ) -> None:  # fmt: skip
        _count_cuts(apart, kept, x, out, temperature, mask, tops, counted, first, last)

    def cuts(
        x: Any, out: Any, temperature: Any, mask: Any, tops: Any, counted: Any, slot: int,
        first: int, last: int,
    ) -> None:  # fmt: skip
        _map_cuts(
            formula, apart, kept, mapped, x, out, temperature, mask, tops, counted, first, last
        )

    kernel(f"{formula.name}_long", long)
    kernel(f"{formula.name}_long_columns", long_columns)
    kernel(f"{formula.name}_counts", counts)
    kernel(f"{formula.name}_cuts", cuts)


for _formula in FORMULAS:
    _kernels(_formula)
