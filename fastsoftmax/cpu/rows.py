"""Kernels for rows that are contiguous and no longer than a block: lanes run along the row.

Up to eight rows are a tile: their maxima, then their sums, then their results are computed, so
that one row's work fills the time that another's needs to add up its lanes, and what there is to
compute once for a row is computed for eight at a time. Lane k sums the elements k, k + 8, k + 16
... and the eight lanes are added as a tree. That order is the same for every kernel in this
package, so a row's bits depend on its values and its length alone.

Arguments, here and in the other files of kernels: x (rows, length); out of the same shape;
temperature (rows,); mask None or like x; weight None or like x; rows from ``first`` to ``last``
are computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastsoftmax.cpu.exponential import constants_for, exponential
from fastsoftmax.cpu.jit import chosen, inlined, kernel
from fastsoftmax.cpu.lanes import halves, lane, largest, select, spread
from fastsoftmax.cpu.memory import (
    lanes_like,
    load,
    load_mask,
    load_mask_wide,
    load_part,
    load_wide,
    prefetch,
    scratch,
    store,
    store_part,
)
from fastsoftmax.cpu.normalizer import (
    INFINITY,
    add_term,
    anchor,
    distance,
    in_two_parts,
    infinite_term,
    is_one,
    log_probability,
    logarithm_of,
    logsumexp_of,
    probability,
    reciprocal,
    reciprocal_total,
    total_of_lanes,
    unit_exponent,
    wants_ones,
)
from fastsoftmax.cpu.sizes import BLOCK, WIDTH

# Logits at once where there are enough of them: LLVM makes as many instructions of each operation
# as it takes, side by side, so that none waits for the one before it.
WIDE = 2 * WIDTH
# Exponentials that a tile keeps: 8 KiB, and as much again for what is read and written.
_TILE = 2048

# What is noted of each row of a tile, or of each column of a panel: the lines of an array.
INVERSE, INVERSE_ERROR, SHIFT, ONES, HIGH, LOW = range(6)
NOTES = 6


@inlined
def present(x: Any, at: Any, count: Any, mask: Any, weight: Any) -> Any:
    """Eight logits as lanes, -inf for what is absent: past ``count``, masked, of weight 0."""
    value = load_part(x, at, count, -INFINITY)
    if mask is not None:
        value = select(load_mask(mask, at, count), value, -INFINITY)
    if weight is not None:
        value = select(load_part(weight, at, count, 0.0) == 0.0, -INFINITY, value)
    return value


@inlined
def _present_wide(x: Any, at: Any, mask: Any, weight: Any) -> Any:
    """``WIDE`` logits."""
    value = load_wide(x, at, WIDE)
    if mask is not None:
        value = select(load_mask_wide(mask, at, WIDE), value, -INFINITY)
    if weight is not None:
        value = select(load_wide(weight, at, WIDE) == 0.0, -INFINITY, value)
    return value


@chosen
def weight_of(weight: Any, at: Any, count: Any) -> Any:
    """The weights of eight logits, or None."""
    if weight is types.none:
        return lambda weight, at, count: None
    return lambda weight, at, count: load_part(weight, at, count, 0.0)


@chosen
def _weight_of_wide(weight: Any, at: Any) -> Any:
    if weight is types.none:
        return lambda weight, at: None
    return lambda weight, at: load_wide(weight, at, WIDE)


@chosen
def in_halves(x: Any) -> Any:
    """Both halves of lanes, or of None."""
    if x is types.none:
        return lambda x: (None, None)
    return lambda x: halves(x)


@inlined
def _infinite_total(x: Any, row: Any, start: Any, stop: Any, mask: Any, weight: Any) -> Any:
    """The total of a block that holds +inf: infinite, or NaN if it holds NaN too."""
    total = 0.0
    for at in range(start, stop, WIDTH):
        count = min(WIDTH, stop - at)
        value = present(x, (row, at), count, mask, weight)
        term = infinite_term(value, weight_of(weight, (row, at), count))
        for index in range(WIDTH):
            total += lane(term, index)
    return total


@inlined
def larger(a: Any, b: Any) -> Any:
    return select(a > b, a, b)  # not NaN, which shows in the sum


@inlined
def largest_of(x: Any, row: Any, start: Any, stop: Any, mask: Any, weight: Any) -> Any:
    """The maximum of a block, as float64; of a block with NaN any number, or NaN.

    Then the sum is NaN whatever was subtracted.
    """
    wides = start + (stop - start) // WIDE * WIDE
    rest = lanes_like(x, WIDTH, -INFINITY)
    for at in range(wides, stop, WIDTH):
        rest = larger(present(x, (row, at), min(WIDTH, stop - at), mask, weight), rest)
    top = lanes_like(x, WIDE, -INFINITY)
    for at in range(start, wides, WIDE):
        top = larger(_present_wide(x, (row, at), mask, weight), top)
    return max(largest(rest), largest(top))


@inlined
def _add_wide(sums: Any, e: Any, e_error: Any, one: Any, weight: Any, inverse_error: Any) -> Any:
    """The sums with eight exponentials, and then the next eight."""
    e, e_next = halves(e)
    e_error, error_next = in_halves(e_error)
    one, one_next = in_halves(one)
    weight, weight_next = in_halves(weight)
    sums = add_term(sums, e, e_error, one, weight, inverse_error)
    return add_term(sums, e_next, error_next, one_next, weight_next, inverse_error)


@inlined
def total_of(
    x: Any,
    row: Any,
    start: Any,
    stop: Any,
    shift: Any,
    mask: Any,
    weight: Any,
    inverse: Any,
    inverse_error: Any,
    constants: Any,
    apart: Any,
    memory: Any,
    line: Any,
    place: Any,
    out: Any,
    ahead: Any,
    beyond: Any,
) -> Any:
    """The total (ones, high, low) of a block.

    ``apart``: whether the logarithm of the total is wanted, so that the terms that are 1 are
    summed apart from the others. ``memory``: None, or where the exponentials are kept, in a
    ``line`` from ``place`` on. Memory works while the exponentials are computed: the row
    ``ahead`` of this one is fetched, or what is ``beyond``, and what will be written to ``out``,
    unless it is None. That takes 16384 rows of 1000 from 5.5 to 4.7 ms.
    """
    wides = start + (stop - start) // WIDE * WIDE
    base = anchor(shift)
    place = place - start

    # Before anything is written: the exponentials may go where the logits are.
    infinite = 0.0
    if shift == INFINITY:
        infinite = _infinite_total(x, row, start, stop, mask, weight)
    sums = spread(0.0), spread(0.0), spread(0.0)
    for at in range(start, wides, WIDE):
        prefetch(x, (row + ahead, at + beyond))
        if out is not None:
            prefetch(out, (row, at + beyond))
        value = _present_wide(x, (row, at), mask, weight)
        t, t_error = distance(value, base, inverse, inverse_error)
        e, e_error = exponential(t, t_error, inverse, constants)
        if memory is not None:
            store(memory, (line, place + at), e)
        here = _weight_of_wide(weight, (row, at))
        sums = _add_wide(sums, e, e_error, is_one(t, apart), here, inverse_error)
    for at in range(wides, stop, WIDTH):
        count = min(WIDTH, stop - at)
        value = present(x, (row, at), count, mask, weight)
        t, t_error = distance(value, base, inverse, inverse_error)
        e, e_error = exponential(t, t_error, inverse, constants)
        if memory is not None:
            store_part(memory, (line, place + at), count, e)
        here = weight_of(weight, (row, at), count)
        sums = add_term(sums, e, e_error, is_one(t, apart), here, inverse_error)
    ones, high, low = total_of_lanes(sums, inverse_error)
    if shift == INFINITY:
        ones, high, low = 0.0, infinite, 0.0
    return ones, high, low


@chosen
def inverse_of(x: Any, notes: Any, k: Any) -> Any:
    """The noted reciprocal of one row's temperature, and its error."""
    if x.dtype == types.float64:
        return lambda x, notes, k: (notes[INVERSE, k], notes[INVERSE_ERROR, k])
    return lambda x, notes, k: (notes[INVERSE, k], None)


@chosen
def inverses_of(x: Any, notes: Any, k: Any) -> Any:
    """As ``inverse_of``, of eight rows."""
    if x.dtype == types.float64:
        return lambda x, notes, k: (load(notes, (INVERSE, k)), load(notes, (INVERSE_ERROR, k)))
    return lambda x, notes, k: (load(notes, (INVERSE, k)), None)


@chosen
def note_inverses(x: Any, notes: Any, k: Any) -> Any:
    """Put the reciprocals of eight temperatures, noted as such, in their place."""

    def narrow(x: Any, notes: Any, k: Any) -> None:
        inverse, _ = reciprocal(x, load(notes, (INVERSE, k)))
        store(notes, (INVERSE, k), inverse)

    def double(x: Any, notes: Any, k: Any) -> None:
        inverse, error = reciprocal(x, load(notes, (INVERSE, k)))
        store(notes, (INVERSE, k), inverse)
        store(notes, (INVERSE_ERROR, k), error)

    return double if x.dtype == types.float64 else narrow


@inlined
def totals_of(notes: Any, k: Any) -> Any:
    """The noted totals of eight rows."""
    return load(notes, (ONES, k)), load(notes, (HIGH, k)), load(notes, (LOW, k))


@inlined
def note_totals(notes: Any, j: Any, total: Any) -> None:
    store(notes, (ONES, j), total[0])
    store(notes, (HIGH, j), total[1])
    store(notes, (LOW, j), total[2])


@inlined
def _reduce_tile(
    x: Any,
    row: Any,
    height: Any,
    step: Any,
    stride: Any,
    temperature: Any,
    mask: Any,
    weight: Any,
    apart: Any,
    memory: Any,
    notes: Any,
    out: Any,
) -> None:
    """Note (shift, ones, high, low) of ``height`` rows; their exponentials may go to memory."""
    length = x.shape[1]
    for k in range(height):
        notes[SHIFT, k] = largest_of(x, row + k, 0, length, mask, weight)
        if temperature is None:
            notes[INVERSE, k] = 1.0
        else:
            notes[INVERSE, k] = temperature[row + k]
    note_inverses(x, notes, 0)
    constants = constants_for(x)
    for k in range(height):
        inverse, inverse_error = inverse_of(x, notes, k)
        notes[ONES, k], notes[HIGH, k], notes[LOW, k] = total_of(
            x, row + k, 0, length, notes[SHIFT, k], mask, weight, inverse, inverse_error,
            constants, apart, memory, 0, k * stride, out, step, 0,
        )  # fmt: skip


@inlined
def reciprocals_of_totals(total: Any, inverse_error: Any) -> Any:
    """What probabilities need of a total."""
    return reciprocal_total(total, inverse_error)


@inlined
def logarithms_of_totals(total: Any, inverse_error: Any) -> Any:
    """What their logarithms need of it."""
    return logarithm_of(total, unit_exponent(None, inverse_error))


@inlined
def unmasked(value: Any, mask: Any, at: Any, count: Any, absent: float) -> Any:
    """``value`` where the mask lets it through, else ``absent``."""
    if mask is None:
        return value
    else:
        return select(load_mask(mask, at, count), value, absent)


@inlined
def unmasked_wide(value: Any, mask: Any, at: Any, absent: float) -> Any:
    """As ``unmasked``, of ``WIDE`` values."""
    if mask is None:
        return value
    else:
        return select(load_mask_wide(mask, at, WIDE), value, absent)


# What a result is made of: ``a`` and ``a_low`` are 1 / total or log(total). ``count`` is None for
# a whole vector of ``width``.


@inlined
def _kept_probability(
    x: Any, at: Any, count: Any, width: Any, memory: Any, place: Any,
    shift: Any, a: Any, a_low: Any, inverse: Any, inverse_error: Any,
) -> Any:  # fmt: skip
    """From the exponentials that the sum left in memory."""
    return probability(load_wide(memory, (0, place), width), a, a_low, inverse_error)


@inlined
def _log_probability(
    x: Any, at: Any, count: Any, width: Any, memory: Any, place: Any,
    shift: Any, a: Any, a_low: Any, inverse: Any, inverse_error: Any,
) -> Any:  # fmt: skip
    value = load_wide(x, at, width) if count is None else load_part(x, at, count, 0.0)
    t, t_error = distance(value, shift, inverse, inverse_error)
    return log_probability(t, t_error, inverse, a, a_low)


@inlined
def _map_tile(
    formula: Any,
    x: Any,
    row: Any,
    height: Any,
    stride: Any,
    mask: Any,
    absent: float,
    memory: Any,
    notes: Any,
    out: Any,
) -> None:
    """The results of ``height`` rows."""
    length = x.shape[1]
    wides = length // WIDTH * WIDTH
    for k in range(height):
        place = k * stride
        inverse, inverse_error = inverse_of(x, notes, k)
        shift, a, a_low = notes[SHIFT, k], notes[HIGH, k], notes[LOW, k]
        for at in range(0, wides, WIDTH):
            value = formula(
                x, (row + k, at), None, WIDTH, memory, place + at,
                shift, a, a_low, inverse, inverse_error,
            )  # fmt: skip
            store(out, (row + k, at), unmasked(value, mask, (row + k, at), WIDTH, absent))
        for at in range(wides, length, WIDTH):
            count = min(WIDTH, length - at)
            value = formula(
                x, (row + k, at), count, WIDTH, memory, place + at,
                shift, a, a_low, inverse, inverse_error,
            )  # fmt: skip
            value = unmasked(value, mask, (row + k, at), count, absent)
            store_part(out, (row + k, at), count, value)


@inlined
def _map_tiles(
    finish: Any,
    formula: Any,
    absent: float,
    apart: Any,
    x: Any,
    out: Any,
    temperature: Any,
    mask: Any,
    memory: Any,
    first: int,
    last: int,
) -> None:
    """Rows of results: ``finish`` makes of each total what ``formula`` then uses."""
    length = x.shape[1]
    stride = (length + WIDTH - 1) // WIDTH * WIDTH
    step = max(1, min(WIDTH, _TILE // stride))
    notes = scratch(np.float64, NOTES, WIDTH)
    for row in range(first, last, step):
        height = min(step, last - row)
        _reduce_tile(
            x, row, height, step, stride, temperature, mask, None, apart, memory, notes, out
        )
        _, inverse_error = inverses_of(x, notes, 0)
        a, a_low = finish(totals_of(notes, 0), inverse_error)
        store(notes, (HIGH, 0), a)
        store(notes, (LOW, 0), a_low)
        _map_tile(formula, x, row, height, stride, mask, absent, memory, notes, out)


@kernel
def softmax_rows(
    x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
) -> None:
    """softmax of each row."""
    memory = scratch(np.float64, 1, BLOCK)
    _map_tiles(
        reciprocals_of_totals, _kept_probability, 0.0, None,
        x, out, temperature, mask, memory, first, last,
    )  # fmt: skip


@kernel
def log_softmax_rows(
    x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
) -> None:
    """log_softmax of each row."""
    _map_tiles(
        logarithms_of_totals, _log_probability, -INFINITY, True,
        x, out, temperature, mask, None, first, last,
    )  # fmt: skip


@kernel
def logsumexp_rows(
    x: Any, out: Any, sign: Any, mask: Any, weight: Any, slot: int, first: int, last: int
) -> None:
    """log|sum(weight * exp(x))| of each row, and the sum's sign."""
    notes = scratch(np.float64, NOTES, WIDTH)
    for row in range(first, last, WIDTH):
        count = min(WIDTH, last - row)
        _reduce_tile(
            x, row, count, WIDTH, 0, None, mask, weight, wants_ones(weight), None, notes, None
        )
        _, inverse_error = inverses_of(x, notes, 0)
        total = magnitude_and_sign(sign, (row,), count, totals_of(notes, 0))
        scale = unit_exponent(weight, inverse_error)
        value = logsumexp_of(load(notes, (SHIFT, 0)), total, scale)
        store_part(out, (row,), count, value)


@inlined
def magnitude_and_sign(sign: Any, at: Any, count: Any, total: Any) -> Any:
    """The absolute values of eight weighted sums, whose signs are written; others as they are."""
    if sign is None:
        return total
    else:
        high, low = in_two_parts(total)
        one = select(high > 0.0, 1.0, select(high < 0.0, -1.0, high))
        store_part(sign, at, count, one)
        return total[0], select(high < 0.0, -high, high), select(high < 0.0, -low, low)
