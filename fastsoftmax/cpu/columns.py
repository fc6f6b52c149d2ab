"""Kernels for rows that are not contiguous, such as axis=0 of a C array: lanes are columns.

x is (outer, length, inner), the reduced axis in the middle, the last one contiguous. A panel of
``PANEL`` columns is worked on at once, so that each step of the reduced axis reads whole cache
lines. Its sums are kept in eight classes by the element's number modulo 8 and added as the same
tree, block by block, as in rows.py: so a row has the same bits in either layout.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastsoftmax.cpu.cache import chosen, inlined, kernel
from fastsoftmax.cpu.exponential import exponential, logarithm
from fastsoftmax.cpu.lanes import (
    WIDTH,
    largest,
    load,
    load_mask,
    load_part,
    narrowed,
    scratch,
    select,
    spread,
    store,
    store_part,
    wide,
)
from fastsoftmax.cpu.normalizer import (
    INFINITY,
    add_term,
    anchor,
    distance,
    in_two_parts,
    infinite_term,
    is_one,
    kept,
    log_probability,
    logsumexp_of,
    merge,
    probability,
    reciprocal,
    reciprocal_total,
    tree_total,
    unit_exponent,
    wants_ones,
)
from fastsoftmax.cpu.rows import BLOCK, present, weight_of

# Columns in a panel: a cache line of float32 twice over, and 512 KiB of a block of float32.
PANEL = 32

# What a panel remembers for each of its columns: the lines of a scratch array.
_INVERSE, _INVERSE_ERROR = 0, 1
_SHIFT, _ONES, _HIGH, _LOW = 2, 3, 4, 5  # of the whole column so far
_TOP, _BASE = 6, 7  # of the block: its maximum, and what is subtracted
_SUMS = 8  # of the block: ones, high and low, each of them by class
_LINES = _SUMS + 3 * WIDTH


@chosen
def _keep_reciprocal(x: Any, temperature: Any, memory: Any, column: Any) -> Any:
    def narrow(x: Any, temperature: Any, memory: Any, column: Any) -> None:
        memory[_INVERSE, column], _ = reciprocal(x, temperature)

    def double(x: Any, temperature: Any, memory: Any, column: Any) -> None:
        memory[_INVERSE, column], memory[_INVERSE_ERROR, column] = reciprocal(x, temperature)

    return double if x.dtype == types.float64 else narrow


@chosen
def _reciprocal_at(x: Any, memory: Any, j: Any) -> Any:
    """The kept reciprocals of eight columns' temperatures."""

    def narrow(x: Any, memory: Any, j: Any) -> Any:
        return load(memory, (_INVERSE, j)), None

    def double(x: Any, memory: Any, j: Any) -> Any:
        return load(memory, (_INVERSE, j)), load(memory, (_INVERSE_ERROR, j))

    return double if x.dtype == types.float64 else narrow


@chosen
def _kept_total(memory: Any, j: Any, inverse_error: Any) -> Any:
    """The kept 1 / total of eight columns, in two parts of the result's type."""
    if inverse_error is types.none:
        return lambda memory, j, inverse_error: (
            narrowed(load(memory, (_HIGH, j))),
            narrowed(load(memory, (_LOW, j))),
        )
    return lambda memory, j, inverse_error: (load(memory, (_HIGH, j)), load(memory, (_LOW, j)))


@inlined
def _of_class(memory: Any, index: int, j: Any) -> Any:
    line = _SUMS + index
    ones = load(memory, (line, j))
    return ones, load(memory, (line + WIDTH, j)), load(memory, (line + 2 * WIDTH, j))


@inlined
def _total_at(memory: Any, j: Any) -> Any:
    return load(memory, (_ONES, j)), load(memory, (_HIGH, j)), load(memory, (_LOW, j))


@inlined
def _infinite_total(
    x: Any, o: Any, start: Any, stop: Any, at: Any, count: Any, mask: Any, weight: Any
) -> Any:
    """The totals of eight columns of a block as if each held +inf: infinite or NaN."""
    total = spread(0.0)
    for i in range(start, stop):
        value = present(x, (o, i, at), count, mask, weight)
        total = total + infinite_term(value, weight_of(weight, (o, i, at), count))
    return total


@inlined
def _sum_block(
    x: Any,
    o: Any,
    start: Any,
    stop: Any,
    left: Any,
    width: Any,
    mask: Any,
    weight: Any,
    apart: Any,
    memory: Any,
) -> None:
    """The maximum and the eight classes' sums of a block of each column, into ``memory``."""
    for j in range(0, width, WIDTH):
        store(memory, (_TOP, j), spread(-INFINITY))
        for line in range(_SUMS, _LINES):
            store(memory, (line, j), spread(0.0))
    for i in range(start, stop):
        for j in range(0, width, WIDTH):
            value = wide(present(x, (o, i, left + j), min(WIDTH, width - j), mask, weight))
            top = load(memory, (_TOP, j))
            store(memory, (_TOP, j), select(value > top, value, top))
    for j in range(0, width, WIDTH):
        store(memory, (_BASE, j), anchor(load(memory, (_TOP, j))))
    for i in range(start, stop):
        index = (i - start) % WIDTH
        for j in range(0, width, WIDTH):
            count = min(WIDTH, width - j)
            value = present(x, (o, i, left + j), count, mask, weight)
            here = weight_of(weight, (o, i, left + j), count)
            inverse, inverse_error = _reciprocal_at(x, memory, j)
            t, t_error = distance(value, load(memory, (_BASE, j)), inverse, inverse_error)
            e, e_error = exponential(t, t_error, inverse)
            sums = _of_class(memory, index, j)
            ones, high, low = add_term(sums, e, e_error, is_one(t, apart), here, inverse_error)
            store(memory, (_SUMS + index, j), ones)
            store(memory, (_SUMS + WIDTH + index, j), high)
            store(memory, (_SUMS + 2 * WIDTH + index, j), low)


@inlined
def _reduce_panel(
    x: Any,
    o: Any,
    left: Any,
    width: Any,
    mask: Any,
    weight: Any,
    apart: Any,
    memory: Any,
) -> None:
    """(shift, ones, high, low) of each column of a panel, into ``memory``."""
    length = x.shape[1]
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        _sum_block(x, o, start, stop, left, width, mask, weight, apart, memory)
        for j in range(0, width, WIDTH):
            inverse, inverse_error = _reciprocal_at(x, memory, j)
            shift = load(memory, (_TOP, j))
            ones, high, low = tree_total(
                _of_class(memory, 0, j),
                _of_class(memory, 1, j),
                _of_class(memory, 2, j),
                _of_class(memory, 3, j),
                _of_class(memory, 4, j),
                _of_class(memory, 5, j),
                _of_class(memory, 6, j),
                _of_class(memory, 7, j),
                inverse_error,
            )
            if largest(shift) == INFINITY:
                count = min(WIDTH, width - j)
                infinite = _infinite_total(x, o, start, stop, left + j, count, mask, weight)
                ones = select(shift == INFINITY, 0.0, ones)
                high = select(shift == INFINITY, infinite, high)
                low = select(shift == INFINITY, 0.0, low)
            if start > 0:
                total = _total_at(memory, j)
                before = load(memory, (_SHIFT, j)), total[0], total[1], total[2]
                block = shift, ones, high, low
                shift, ones, high, low = merge(before, block, weight, inverse, inverse_error)
            store(memory, (_SHIFT, j), shift)
            store(memory, (_ONES, j), ones)
            store(memory, (_HIGH, j), high)
            store(memory, (_LOW, j), low)


@inlined
def _place_of(x: Any, panel: Any) -> Any:
    """Of the panel of a number: its place on the outer axis, its first column and its width."""
    inner = x.shape[2]
    panels = (inner + PANEL - 1) // PANEL
    left = panel % panels * PANEL
    return panel // panels, left, min(PANEL, inner - left)


@inlined
def _reciprocal_of(total: Any, inverse_error: Any) -> Any:
    return reciprocal_total(total, inverse_error)


@inlined
def _logarithm_of(total: Any, inverse_error: Any) -> Any:
    high, low = in_two_parts(total)
    return logarithm(high, low, unit_exponent(None, inverse_error))


@inlined
def _probability_at(t: Any, t_error: Any, inverse: Any, memory: Any, j: Any) -> Any:
    e, e_error = exponential(t, t_error, inverse)
    c, c_low = _kept_total(memory, j, t_error)
    return probability(kept(e, e_error), c, c_low)


@inlined
def _log_probability_at(t: Any, t_error: Any, inverse: Any, memory: Any, j: Any) -> Any:
    log_total, error = load(memory, (_HIGH, j)), load(memory, (_LOW, j))
    return log_probability(t, t_error, inverse, log_total, error)


@inlined
def _map_panels(
    finish: Any,
    formula: Any,
    absent: float,
    apart: Any,
    x: Any,
    out: Any,
    temperature: Any,
    mask: Any,
    first: int,
    last: int,
) -> None:
    """Panels of results: ``finish`` makes of each total what ``formula`` then uses."""
    memory = scratch(np.float64, _LINES, PANEL)
    for panel in range(first, last):
        o, left, width = _place_of(x, panel)
        for column in range(width):
            _keep_reciprocal(x, temperature[o, left + column], memory, column)
        _reduce_panel(x, o, left, width, mask, None, apart, memory)
        for j in range(0, width, WIDTH):
            _, inverse_error = _reciprocal_at(x, memory, j)
            a, a_low = finish(_total_at(memory, j), inverse_error)
            store(memory, (_HIGH, j), a)
            store(memory, (_LOW, j), a_low)
        for i in range(x.shape[1]):
            for j in range(0, width, WIDTH):
                count = min(WIDTH, width - j)
                at = (o, i, left + j)
                inverse, inverse_error = _reciprocal_at(x, memory, j)
                shift = load(memory, (_SHIFT, j))
                t, t_error = distance(load_part(x, at, count, 0.0), shift, inverse, inverse_error)
                value = formula(t, t_error, inverse, memory, j)
                if mask is not None:
                    value = select(load_mask(mask, at, count), value, absent)
                store_part(out, at, count, value)


@kernel
def softmax_columns(x: Any, out: Any, temperature: Any, mask: Any, first: int, last: int) -> None:
    """softmax of the columns of panels first to last."""
    _map_panels(_reciprocal_of, _probability_at, 0.0, None, x, out, temperature, mask, first, last)


@kernel
def log_softmax_columns(
    x: Any, out: Any, temperature: Any, mask: Any, first: int, last: int
) -> None:
    """log_softmax of the columns of panels first to last."""
    _map_panels(
        _logarithm_of, _log_probability_at, -INFINITY, True, x, out, temperature, mask, first, last
    )


@kernel
def logsumexp_columns(
    x: Any, out: Any, sign: Any, mask: Any, weight: Any, first: int, last: int
) -> None:
    """log|sum(weight * exp(x))| of the columns of panels first to last, and the sum's sign."""
    memory = scratch(np.float64, _LINES, PANEL)
    for column in range(PANEL):
        _keep_reciprocal(x, 1.0, memory, column)
    for panel in range(first, last):
        o, left, width = _place_of(x, panel)
        _reduce_panel(x, o, left, width, mask, weight, wants_ones(weight), memory)
        for j in range(0, width, WIDTH):
            count = min(WIDTH, width - j)
            high, low = in_two_parts(_total_at(memory, j))
            if weight is not None:
                one = select(high > 0.0, 1.0, select(high < 0.0, -1.0, high))
                store_part(sign, (o, left + j), count, one)
                low = select(high < 0.0, -low, low)
                high = select(high < 0.0, -high, high)
            shift = load(memory, (_SHIFT, j))
            _, inverse_error = _reciprocal_at(x, memory, j)
            value = logsumexp_of(shift, high, low, unit_exponent(weight, inverse_error))
            store_part(out, (o, left + j), count, value)
