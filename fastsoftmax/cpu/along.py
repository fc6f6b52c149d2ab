"""Kernels for rows that are contiguous and no longer than a block: lanes run along the row.

A few rows are a tile: their maxima, then their sums, then their results are computed, so that one
row's work fills the time that another's needs to add up its lanes, and what there is to compute
once for a row is computed for many at a time.

Arguments, here and in the other files of kernels: x (rows, length); out of the same shape;
temperature None or (rows,); mask None or like x; rows from ``first`` to ``last`` are computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastsoftmax.cpu.arithmetic import constants_for, counts_of, not_finite
from fastsoftmax.cpu.formulas import FORMULAS
from fastsoftmax.cpu.jit import chosen, inlined, kernel
from fastsoftmax.cpu.lanes import (
    any_of,
    bits_of,
    folded,
    from_bits,
    in_64_bits,
    narrowed,
    select,
    spread_like,
    sum_of,
    two_largest,
    wide,
)
from fastsoftmax.cpu.memory import load, prefetch, scratch, store, unit_of, width_of
from fastsoftmax.cpu.normalizer import INFINITY, NAN, add_logits, larger, row_of, term_of, times_of
from fastsoftmax.cpu.sizes import BLOCK, VECTORS

# Exponentials that a tile keeps: 8 KiB of float32, and as much again for what is read and written.
_TILE = 2048
_ROWS = 16

# What is noted of each row of a tile, or of each column of a panel: lines of float64.
TOP, SECOND, INVALID, INVERSE, INVERSE_REST, TIMES_SCALE, A = range(7)
NOTES = 7
# Lines of int64: what was counted, and the terms that are apart.
COUNTS = 5
ONES = 4
# What a row's terms are computed with, in the type of its lanes.
OFF, LOWEST, POWER, ROW_INVERSE, ROW_INVERSE_REST, ROW_SCALE, ROW_TOP, ROW_A, ROW_A_REST = range(9)
ROW = 9


@inlined
def present(x: Any, at: Any, count: Any, mask: Any, unit: Any) -> Any:
    """Logits as lanes, -inf for what is absent: past ``count``, or masked."""
    value = load(x, at, count, -INFINITY, unit)
    if mask is not None:
        value = select(load(mask, at, count, 0, unit), value, -INFINITY)
    return value


@inlined
def unmasked(value: Any, mask: Any, at: Any, count: Any, absent: Any, unit: Any) -> Any:
    """``value`` where the mask lets it through, else ``absent``."""
    if mask is None:
        return value
    else:
        return select(load(mask, at, count, 0, unit), value, absent)


# --- what is noted --------------------------------------------------------------------------------


@inlined
def _spread(rows: Any, line: Any, k: Any, unit: Any) -> Any:
    return spread_like(rows[line, k], unit)


@inlined
def _second(notes: Any, j: Any, apart: Any, unit: Any) -> Any:
    if apart is None:
        return None
    else:
        return narrowed(load(notes, (SECOND, j), None, 0, unit), unit)


@chosen
def _times_beside(rows: Any, j: Any, timed: Any, unit: Any) -> Any:
    if timed is types.none:
        return lambda rows, j, timed, unit: None
    return lambda rows, j, timed, unit: (
        load(rows, (ROW_INVERSE, j), None, 0, unit),
        load(rows, (ROW_INVERSE_REST, j), None, 0, unit),
        load(rows, (ROW_SCALE, j), None, 0, unit),
    )


@chosen
def _times_spread(rows: Any, k: Any, timed: Any, unit: Any) -> Any:
    if timed is types.none:
        return lambda rows, k, timed, unit: None
    return lambda rows, k, timed, unit: (
        _spread(rows, ROW_INVERSE, k, unit),
        _spread(rows, ROW_INVERSE_REST, k, unit),
        _spread(rows, ROW_SCALE, k, unit),
    )


@inlined
def note_times(columns: Any, notes: Any) -> None:
    """Put what divides by noted temperatures in their place; see `times_of`."""
    unit = unit_of(notes, None, 1)
    for j in range(0, columns, width_of(unit)):
        inverse, rest, scale = times_of(load(notes, (INVERSE, j), None, 0, unit))
        store(notes, (INVERSE, j), None, inverse)
        store(notes, (INVERSE_REST, j), None, rest)
        store(notes, (TIMES_SCALE, j), None, scale)


@inlined
def in_two(value: Any, rest: Any, unit: Any) -> Any:
    """A float64 number and its rest as two of a unit's element."""
    high = narrowed(value, unit)
    return high, narrowed((value - wide(high)) + rest, unit)


@inlined
def note_rows(
    x: Any, columns: Any, timed: Any, apart: Any, notes: Any, rows: Any, unit: Any
) -> None:
    """From what is noted of maxima and temperatures, what terms are computed with."""
    c = constants_for(x)
    for j in range(0, columns, width_of(unit)):
        top = narrowed(load(notes, (TOP, j), None, 0, unit), unit)
        if timed is not None:
            inverse, inverse_rest = in_two(
                load(notes, (INVERSE, j), None, 0, unit),
                load(notes, (INVERSE_REST, j), None, 0, unit),
                unit,
            )
            store(rows, (ROW_INVERSE, j), None, inverse)
            store(rows, (ROW_INVERSE_REST, j), None, inverse_rest)
            scale = narrowed(load(notes, (TIMES_SCALE, j), None, 0, unit), unit)
            store(rows, (ROW_SCALE, j), None, scale)
        times = _times_beside(rows, j, timed, unit)
        row = row_of(top, _second(notes, j, apart, unit), times, c)
        store(rows, (OFF, j), None, row[0])
        store(rows, (LOWEST, j), None, row[1])
        store(rows, (POWER, j), None, from_bits(row[2]))
        store(rows, (ROW_TOP, j), None, top)


@inlined
def row_spread(rows: Any, k: Any, timed: Any, unit: Any) -> Any:
    """What is noted of one row, spread over lanes; see `row_of`."""
    return (
        _spread(rows, OFF, k, unit),
        _spread(rows, LOWEST, k, unit),
        bits_of(_spread(rows, POWER, k, unit)),
        _times_spread(rows, k, timed, unit),
        _spread(rows, ROW_TOP, k, unit),
    )


@inlined
def rows_side_by_side(rows: Any, j: Any, timed: Any, unit: Any) -> Any:
    """What is noted of rows from the ``j``-th on, each in its lane; see `row_of`."""
    return (
        load(rows, (OFF, j), None, 0, unit),
        load(rows, (LOWEST, j), None, 0, unit),
        bits_of(load(rows, (POWER, j), None, 0, unit)),
        _times_beside(rows, j, timed, unit),
        load(rows, (ROW_TOP, j), None, 0, unit),
    )


@inlined
def finish_rows(
    finish: Any, x: Any, columns: Any, timed: Any, notes: Any, counts: Any, rows: Any, unit: Any
) -> None:
    """Note what ``finish`` makes of totals, in float64 and, in two parts, in the unit's type."""
    for j in range(0, columns, width_of(unit)):
        a, rest = finish(
            (
                load(counts, (0, j), None, 0, unit),
                load(counts, (1, j), None, 0, unit),
                load(counts, (2, j), None, 0, unit),
                load(counts, (3, j), None, 0, unit),
            ),
            load(counts, (ONES, j), None, 0, unit),
            narrowed(load(notes, (SECOND, j), None, 0, unit), unit),
            rows_side_by_side(rows, j, timed, unit),
            load(notes, (INVALID, j), None, 0, unit),
            x,
        )
        store(notes, (A, j), None, a)
        a, rest = in_two(a, rest, unit)
        store(rows, (ROW_A, j), None, a)
        store(rows, (ROW_A_REST, j), None, rest)


@chosen
def larger_two(value: Any, top: Any, second: Any) -> Any:
    """The largest and, unless None, the second largest with one more."""
    if second is types.none:
        return lambda value, top, second: (larger(value, top), None)
    return lambda value, top, second: (
        larger(value, top),
        larger(second, select(value > top, top, value)),
    )


@chosen
def where(flag: Any, value: Any) -> Any:
    """``value``, or None where the flag is None."""
    if flag is types.none:
        return lambda flag, value: None
    return lambda flag, value: value


# --- one row --------------------------------------------------------------------------------------


@inlined
def largest_of(
    x: Any, row: Any, start: Any, stop: Any, mask: Any, apart: Any, unit: Any, several: Any
) -> Any:
    """The maximum of a part of a row and, ``apart``, the second largest logit, else the same.

    Of a part with NaN any numbers, or NaN: then the sum is NaN whatever was subtracted.
    """
    wides = start + (stop - start) // width_of(several) * width_of(several)
    top, most = spread_like(-INFINITY, several), spread_like(-INFINITY, unit)
    second, next_one = where(apart, top), where(apart, most)
    for at in range(start, wides, width_of(several)):
        value = present(x, (row, at), None, mask, several)
        top, second = larger_two(value, top, second)
    for at in range(wides, stop, width_of(unit)):
        value = present(x, (row, at), stop - at, mask, unit)
        most, next_one = larger_two(value, most, next_one)
    a, b = two_largest(top, second)
    c, d = two_largest(most, next_one)
    if b < d:
        b = d
    if a < c:
        a, c = c, a
    if b < c:
        b = c
    return a, b


@inlined
def holds_nan(x: Any, row: Any, start: Any, stop: Any, mask: Any, unit: Any) -> Any:
    """Whether a part of a row holds NaN."""
    found = False
    for at in range(start, stop, width_of(unit)):
        value = present(x, (row, at), stop - at, mask, unit)
        found = found or any_of(value != value)
    return found


@inlined
def sum_of_row(
    x: Any, row: Any, start: Any, stop: Any, mask: Any, rows: Any, k: Any, timed: Any, apart: Any,
    third: Any, memory: Any, line: Any, place: Any, out: Any, ahead: Any, beyond: Any, unit: Any,
    several: Any,
) -> Any:  # fmt: skip
    """What a part of a row counts: four counts, the terms apart, and whether NaN was met.

    ``memory``: None, or where the exponentials are kept, in a ``line`` from ``place`` on. The row
    ``ahead`` of this one, or what is ``beyond``, is fetched meanwhile, and what will be written to
    ``out``, unless None.
    """
    c = constants_for(x)
    zero = bits_of(spread_like(0.0, several))
    sums, ones = (zero, zero, zero, zero), zero
    numbers = row_spread(rows, k, timed, several)
    wides = start + (stop - start) // width_of(several) * width_of(several)
    for at in range(start, wides, width_of(several)):
        for line_of_cache in range(0, width_of(several), width_of(unit)):
            prefetch(x, (row + ahead, at + beyond + line_of_cache))
            if out is not None:
                prefetch(out, (row, at + beyond + line_of_cache))
        value = present(x, (row, at), None, mask, several)
        sums, ones, e = add_logits(value, numbers, sums, ones, apart, third, c)
        if memory is not None:
            store(memory, (line, place + at), None, e)
    found = any_of(not_finite(sums[3]))
    terms = (wides - start) // width_of(unit)
    zero = bits_of(spread_like(0.0, unit))
    sums = folded(sums[0], unit), folded(sums[1], unit), folded(sums[2], unit), zero
    ones = folded(ones, unit)
    numbers = row_spread(rows, k, timed, unit)
    for at in range(wides, stop, width_of(unit)):
        value = present(x, (row, at), stop - at, mask, unit)
        sums, ones, e = add_logits(value, numbers, sums, ones, apart, third, c)
        if memory is not None:
            store(memory, (line, place + at), stop - at, e)
        terms += 1
    found = found or any_of(not_finite(sums[3]))
    a, b, d, e = counts_of(sums, terms, third, c)
    return sum_of(a), sum_of(b), sum_of(d), sum_of(e), sum_of(in_64_bits(ones, None)), found


# --- tiles ----------------------------------------------------------------------------------------


@inlined
def _reduce_tile(
    x: Any, row: Any, height: Any, step: Any, stride: Any, temperature: Any, mask: Any, apart: Any,
    memory: Any, notes: Any, counts: Any, rows: Any, out: Any, mapped: Any, unit: Any, several: Any,
) -> None:  # fmt: skip
    length = x.shape[1]
    for k in range(height):
        notes[TOP, k], notes[SECOND, k] = largest_of(
            x, row + k, 0, length, mask, apart, unit, several
        )
        if temperature is not None:
            notes[INVERSE, k] = temperature[row + k]
    if temperature is not None:
        note_times(height, notes)
    note_rows(x, height, temperature, apart, notes, rows, unit)
    for k in range(height):
        # before exponentials may take the place of logits
        nan = False
        if notes[TOP, k] - notes[TOP, k] != 0.0:
            nan = holds_nan(x, row + k, 0, length, mask, unit)
        counts[0, k], counts[1, k], counts[2, k], counts[3, k], counts[ONES, k], found = sum_of_row(
            x, row + k, 0, length, mask, rows, k, temperature, apart, None, memory, 0, k * stride,
            where(mapped, out), step, 0, unit, several,
        )  # fmt: skip
        if notes[TOP, k] - notes[TOP, k] == 0.0:
            nan = found
        notes[INVALID, k] = NAN if nan else 0.0


@chosen
def value_of(
    kept: Any, memory: Any, x: Any, at: Any, place: Any, count: Any, row: Any, c: Any, unit: Any
) -> Any:
    """What a result is made of: the logit, its exponential kept in memory, or computed again."""
    if kept is types.none:
        return lambda kept, memory, x, at, place, count, row, c, unit: load(x, at, count, 0.0, unit)
    if memory is not types.none:
        return lambda kept, memory, x, at, place, count, row, c, unit: load(
            memory, place, count, 0.0, unit
        )

    def again(
        kept: Any, memory: Any, x: Any, at: Any, place: Any, count: Any, row: Any, c: Any, unit: Any
    ) -> Any:
        e, _, _ = term_of(load(x, at, count, 0.0, unit), row, c)
        return e

    return again


@inlined
def map_row(
    formula: Any, kept: Any, x: Any, row: Any, start: Any, stop: Any, temperature: Any, mask: Any,
    memory: Any, line: Any, place: Any, rows: Any, k: Any, out: Any, unit: Any,
) -> None:  # fmt: skip
    """The results of a part of a row, of whose exponentials may be kept as in `sum_of_row`."""
    c = constants_for(x)
    numbers = row_spread(rows, k, temperature, unit)
    a, rest = _spread(rows, ROW_A, k, unit), _spread(rows, ROW_A_REST, k, unit)
    wides = start + (stop - start) // width_of(unit) * width_of(unit)
    for at in range(start, wides, width_of(unit)):
        value = value_of(kept, memory, x, (row, at), (line, place + at), None, numbers, c, unit)
        value = formula.result(value, numbers, a, rest, c)
        store(out, (row, at), None, unmasked(value, mask, (row, at), None, formula.absent, unit))
    if wides < stop:
        count = stop - wides
        value = value_of(
            kept, memory, x, (row, wides), (line, place + wides), count, numbers, c, unit
        )
        value = formula.result(value, numbers, a, rest, c)
        value = unmasked(value, mask, (row, wides), count, formula.absent, unit)
        store(out, (row, wides), count, value)


@inlined
def _map_rows(
    formula: Any, apart: Any, kept: Any, mapped: Any, x: Any, out: Any, temperature: Any,
    mask: Any, first: Any, last: Any,
) -> None:  # fmt: skip
    unit, several = unit_of(x, None, 1), unit_of(x, None, VECTORS)
    notes, counts = scratch(np.float64, NOTES, _ROWS), scratch(np.int64, COUNTS, _ROWS)
    rows = scratch(unit, ROW, _ROWS)
    memory = where(kept, scratch(unit, 1, BLOCK))
    length = x.shape[1]
    stride = (length + width_of(unit) - 1) // width_of(unit) * width_of(unit)
    step = max(1, min(_ROWS, _TILE // stride))
    for row in range(first, last, step):
        height = min(step, last - row)
        _reduce_tile(
            x, row, height, step, stride, temperature, mask, apart, memory, notes, counts, rows,
            out, mapped, unit, several,
        )  # fmt: skip
        finish_rows(formula.finish, x, height, temperature, notes, counts, rows, unit)
        if mapped is None:
            for j in range(0, height, width_of(unit)):
                store(out, (row + j,), height - j, load(notes, (A, j), None, 0, unit))
        else:
            for k in range(height):
                map_row(
                    formula, kept, x, row + k, 0, length, temperature, mask, memory, 0, k * stride,
                    rows, k, out, unit,
                )  # fmt: skip


def _kernels(formula: Any) -> None:
    apart, kept, mapped = formula.apart, formula.kept, formula.mapped

    def rows(
        x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
    ) -> None:
        _map_rows(formula, apart, kept, mapped, x, out, temperature, mask, first, last)

    kernel(f"{formula.name}_rows", rows)


for _formula in FORMULAS:
    _kernels(_formula)
