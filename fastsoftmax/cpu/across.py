"""Kernels whose lanes lie across rows: short rows, transposed in registers, and columns.

Columns are (outer, length, inner), the reduced axis in the middle, the last one contiguous. Logits
of as many rows as lanes hold are brought side by side into scratch memory, a panel: line i holds
element i of each. There they are summed up, and mapped.

Where a row fills only a few lanes, adding up its lanes takes longer than its exponentials. Where
rows are columns, a panel is read from memory once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastsoftmax.cpu.along import in_two, larger_two, present, unmasked, where
from fastsoftmax.cpu.arithmetic import CAPACITY, constants_for, counts_of, not_finite
from fastsoftmax.cpu.formulas import FORMULAS
from fastsoftmax.cpu.jit import chosen, inlined, kernel
from fastsoftmax.cpu.lanes import any_of, bits_of, in_64_bits, narrowed, select, spread_like, wide
from fastsoftmax.cpu.memory import (
    load,
    pack,
    part_of,
    prefetch,
    scratch,
    store,
    turn,
    unit_of,
    unpack,
    width_of,
)
from fastsoftmax.cpu.normalizer import INFINITY, NAN, add_logits, row_of, times_of
from fastsoftmax.cpu.sizes import PACKED, PANEL_LINES, SHORT_LINES, VECTORS

# Lines of columns that are fetched ahead: no hardware foresees the next page.
_AHEAD = 12


@chosen
def times_at(temperature: Any, beside: Any, unit: Any) -> Any:
    """What divides by the temperatures that were put side by side, or None; see `times_of`."""
    if temperature is types.none:
        return lambda temperature, beside, unit: None

    def divided(temperature: Any, beside: Any, unit: Any) -> Any:
        inverse, rest, scale = times_of(load(beside, (0, 0), None, 0, unit))
        inverse, rest = in_two(inverse, rest, unit)
        return inverse, rest, narrowed(scale, unit)

    return divided


@inlined
def put_beside(temperature: Any, o: Any, left: Any, count: Any, beside: Any, unit: Any) -> None:
    """The temperatures of columns, which may have any strides; past ``count`` the last again."""
    if temperature is not None:
        for k in range(width_of(unit)):
            beside[0, k] = temperature[o, left + min(k, count - 1)]


@inlined
def _summed(
    formula: Any, x: Any, panel: Any, length: Any, top: Any, second: Any, times: Any,
    apart: Any, kept: Any, unit: Any,
) -> Any:  # fmt: skip
    """What results are made with, of rows side by side: (row, a, a_rest)."""
    c = constants_for(x)
    row = row_of(top, second, times, c)
    # before exponentials take the place of logits
    bounded = top - top == 0.0
    valid = spread_like(0.0, unit)
    invalid = valid
    if any_of(top - top != 0.0):
        for i in range(length):
            value = load(panel, (i, 0), None, 0, unit)
            invalid = select(value == value, invalid, NAN)
    zero = bits_of(valid)
    ones, found = zero, zero
    n0 = in_64_bits(zero, None)
    n1, n2, n3 = n0, n0, n0
    for start in range(0, length, CAPACITY):
        stop = min(start + CAPACITY, length)
        sums = zero, zero, zero, zero
        for i in range(start, stop):
            value = load(panel, (i, 0), None, 0, unit)
            sums, ones, e = add_logits(value, row, sums, ones, apart, None, c)
            if kept is not None:
                store(panel, (i, 0), None, e)
        m0, m1, m2, m3 = counts_of(sums, stop - start, None, c)
        n0, n1, n2, n3 = n0 + m0, n1 + m1, n2 + m2, n3 + m3
        found = found | sums[3]
    invalid = select(bounded, select(not_finite(found), NAN, valid), invalid)
    counts = n0, n1, n2, n3
    a, rest = formula.finish(counts, in_64_bits(ones, None), second, row, wide(invalid), x)
    return row, a, rest


@inlined
def _largest(panel: Any, length: Any, apart: Any, unit: Any) -> Any:
    """The largest logits of rows side by side and, ``apart``, the second largest."""
    top = spread_like(-INFINITY, unit)
    second = where(apart, top)
    for i in range(length):
        top, second = larger_two(load(panel, (i, 0), None, 0, unit), top, second)
    return top, second


# --- short rows ---------------------------------------------------------------------------------


@inlined
def _fill(
    x: Any, first: Any, last: Any, mask: Any, panel: Any, rows: Any, unit: Any, several: Any
) -> None:
    """As many rows as ``several`` has lanes, side by side; past the last one it is repeated."""
    length, width = x.shape[1], width_of(unit)
    for g in range(0, width_of(several), width):
        for at in range(0, length, 8):
            for k in range(width):
                row = min(first + g + k, last - 1)
                value = present(x, (row, at), length - at, mask, unit)
                store(rows, (k, 0), None, value)
            if length - at > 4:
                turn(rows, panel, at, g, 8, None, unit)
            else:
                turn(rows, panel, at, g, 4, None, unit)


@inlined
def _drain(
    panel: Any, out: Any, first: Any, last: Any, mask: Any, absent: Any, rows: Any, unit: Any,
    several: Any,
) -> None:  # fmt: skip
    """Results from side by side to their places."""
    length, width = out.shape[1], width_of(unit)
    for g in range(0, min(width_of(several), last - first), width):
        for at in range(0, length, 8):
            if length - at > 4:
                turn(rows, panel, at, g, 8, True, unit)
            else:
                turn(rows, panel, at, g, 4, True, unit)
            count = min(8, length - at)
            for k in range(min(width, last - first - g)):
                place = first + g + k, at
                value = load(rows, (k, 0), None, 0, unit)
                store(out, place, count, unmasked(value, mask, place, count, absent, unit))


@inlined
def _fetch_rows(x: Any, out: Any, start: Any, count: Any, unit: Any) -> None:
    """Ask for the rows after these, and for these results, as if rows lay one behind the other."""
    for at in range(0, count * x.shape[1], width_of(unit)):
        prefetch(x, (start + count, at))
        if out is not None:
            prefetch(out, (start, at))


@inlined
def _short(
    formula: Any,
    apart: Any,
    kept: Any,
    mapped: Any,
    x: Any,
    out: Any,
    temperature: Any,
    mask: Any,
    first: Any,
    last: Any,
) -> None:
    unit, several = unit_of(x, None, 1), unit_of(x, None, VECTORS)
    panel = scratch(several, SHORT_LINES, None)
    square = scratch(unit, 16, None)
    beside = scratch(np.float64, 1, 64)
    length, c = x.shape[1], constants_for(x)
    for start in range(first, last, width_of(several)):
        stop = min(start + width_of(several), last)
        _fetch_rows(x, where(mapped, out), start, stop - start, unit)
        _fill(x, start, stop, mask, panel, square, unit, several)
        if temperature is not None:
            for k in range(width_of(several)):
                beside[0, k] = temperature[min(start + k, last - 1)]
        top, second = _largest(panel, length, apart, several)
        row, a, rest = _summed(
            formula,
            x,
            panel,
            length,
            top,
            second,
            times_at(temperature, beside, several),
            apart,
            kept,
            several,
        )
        if mapped is None:
            store(out, (start,), stop - start, a)
        else:
            a, rest = in_two(a, rest, several)
            for i in range(length):
                value = load(panel, (i, 0), None, 0, several)
                store(panel, (i, 0), None, formula.result(value, row, a, rest, c))
            _drain(panel, out, start, stop, mask, formula.absent, square, unit, several)


def _packed(formula: Any, length: int) -> None:
    """Make the kernel for rows of a length that is known as it is compiled, one behind the other.

    They are taken apart by a few shuffles.
    """
    apart, kept, mapped = formula.apart, formula.kept, formula.mapped

    def packed(
        x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
    ) -> None:
        unit, several = unit_of(x, None, 1), unit_of(x, None, VECTORS)
        panel = scratch(several, length, None)
        c = constants_for(x)
        width = width_of(several)
        for start in range(first * width, last * width, width):
            for g in range(0, width, width_of(unit)):
                unpack(x, start + g, length, panel, g, unit)
            top, second = _largest(panel, length, apart, several)
            row, a, rest = _summed(
                formula, x, panel, length, top, second, None, apart, kept, several
            )
            if mapped is None:
                store(out, (start,), None, a)
            else:
                a, rest = in_two(a, rest, several)
                for i in range(length):
                    value = load(panel, (i, 0), None, 0, several)
                    store(panel, (i, 0), None, formula.result(value, row, a, rest, c))
                for g in range(0, width, width_of(unit)):
                    pack(out, start + g, length, panel, g, unit)

    kernel(f"{formula.name}_packed_{length}", packed)


# --- columns --------------------------------------------------------------------------------------


@inlined
def _group(
    formula: Any, apart: Any, kept: Any, mapped: Any, x: Any, out: Any, temperature: Any, mask: Any,
    memory: Any, slot: Any, o: Any, left: Any, count: Any, unit: Any,
) -> None:  # fmt: skip
    """As many columns as the unit has lanes; ``count``: None, or fewer."""
    panel = part_of(memory, slot, unit, width_of(unit))
    length, c = x.shape[1], constants_for(x)
    top = spread_like(-INFINITY, unit)
    second = where(apart, top)
    for i in range(length):
        fetch(x, o, i, left, unit)
        value = present(x, (o, i, left), count, mask, unit)
        store(panel, (i, 0), None, value)
        top, second = larger_two(value, top, second)
    beside = scratch(np.float64, 1, 64)
    put_beside(temperature, o, left, x.shape[2] - left, beside, unit)
    times = times_at(temperature, beside, unit)
    row, a, rest = _summed(formula, x, panel, length, top, second, times, apart, kept, unit)
    if mapped is None:
        store(out, (o, left), count, a)
    else:
        a, rest = in_two(a, rest, unit)
        for i in range(length):
            fetch(out, o, i, left, unit)
            value = formula.result(load(panel, (i, 0), None, 0, unit), row, a, rest, c)
            value = unmasked(value, mask, (o, i, left), count, formula.absent, unit)
            store(out, (o, i, left), count, value)


@inlined
def fetch(array: Any, o: Any, i: Any, left: Any, unit: Any) -> None:
    """Ask for the columns' elements some lines ahead."""
    line = min(i + _AHEAD, array.shape[1] - 1)
    for j in range(0, width_of(unit), 64 // array.itemsize):
        prefetch(array, (o, line, left + j))


@inlined
def _columns(
    formula: Any, apart: Any, kept: Any, mapped: Any, x: Any, out: Any, temperature: Any, mask: Any,
    memory: Any, slot: Any, first: Any, last: Any,
) -> None:  # fmt: skip
    unit, several = unit_of(x, None, 1), unit_of(x, None, VECTORS)
    width, inner = width_of(several), x.shape[2]
    panels = (inner + width - 1) // width
    for number in range(first, last):
        o, left = number // panels, number % panels * width
        if left + width <= inner and x.shape[1] <= PANEL_LINES:
            _group(
                formula, apart, kept, mapped, x, out, temperature, mask, memory, slot, o, left,
                None, several,
            )  # fmt: skip
        else:
            for j in range(left, min(left + width, inner), width_of(unit)):
                _group(
                    formula, apart, kept, mapped, x, out, temperature, mask, memory, slot, o, j,
                    inner - j, unit,
                )  # fmt: skip


def _kernels(formula: Any) -> None:
    apart, kept, mapped = formula.apart, formula.kept, formula.mapped

    def short(
        x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
    ) -> None:
        _short(formula, apart, kept, mapped, x, out, temperature, mask, first, last)

    def columns(
        x: Any, out: Any, temperature: Any, mask: Any, memory: Any, slot: int, first: int, last: int
    ) -> None:
        _columns(formula, apart, kept, mapped, x, out, temperature, mask, memory, slot, first, last)

    kernel(f"{formula.name}_short", short)
    kernel(f"{formula.name}_columns", columns)


for _formula in FORMULAS:
    _kernels(_formula)
    for _length in PACKED:
        _packed(_formula, _length)
