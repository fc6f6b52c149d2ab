"""Kernels for rows that are contiguous and longer than a block.

A row is cut, mostly into blocks, whose totals are added from left to right; so several threads can
share one row, cut by cut, and its bits are the same as when one thread does it all. All cuts have
the row's maximum as their shift: with one of its own for each, which would save a reading and 12 %
of the time, equal logits could have results that differ in the last place. Where the result's type
can hold them, exponentials are left in the result until the row's total is known.
"""

from __future__ import annotations

from typing import Any

from numba import types

from fastsoftmax.cpu.exponential import constants_for, exponential
from fastsoftmax.cpu.jit import chosen, inlined, kernel
from fastsoftmax.cpu.lanes import spread, wide
from fastsoftmax.cpu.memory import load_part, load_wide, store, store_part
from fastsoftmax.cpu.normalizer import (
    INFINITY,
    add_normal,
    distance,
    log_probability,
    logsumexp_of,
    probability,
    reciprocal,
    unit_exponent,
    wants_ones,
)
from fastsoftmax.cpu.rows import (
    WIDE,
    larger,
    largest_of,
    logarithms_of_totals,
    magnitude_and_sign,
    reciprocals_of_totals,
    total_of,
    unmasked,
    unmasked_wide,
)
from fastsoftmax.cpu.sizes import BLOCK, WIDTH, cut_length

length_of_cut = inlined(cut_length)


@inlined
def number_of_cuts(length: int) -> int:
    """Into how many cuts a row falls."""
    size: int = length_of_cut(length)
    return (length + size - 1) // size


@chosen
def keeper(out: Any) -> Any:
    """Where exponentials are kept: the result itself, or None, to compute them again."""
    if out.dtype in (types.float32, types.float64):
        return lambda out: out
    return lambda out: None


@inlined
def _ends(x: Any, cut: Any) -> Any:
    """The first logit of a cut, and the first after it."""
    size = length_of_cut(x.shape[1])
    return cut * size, min(cut * size + size, x.shape[1])


@inlined
def _total_of_cut(
    x: Any, row: Any, cut: Any, shift: Any, mask: Any, weight: Any, inverse: Any,
    inverse_error: Any, apart: Any, keep: Any,
) -> Any:  # fmt: skip
    """The total (ones, high, low) of a cut; its exponentials may go to ``keep``."""
    first, last = _ends(x, cut)
    total = 0.0, 0.0, 0.0
    constants = constants_for(x)
    for start in range(first, last, BLOCK):
        block = total_of(
            x, row, start, min(start + BLOCK, last), shift, mask, weight, inverse, inverse_error,
            constants, apart, keep, row, start, keep, 0, last - first,
        )  # fmt: skip
        total = add_normal(total, block, inverse_error)
    return total


@inlined
def _largest(x: Any, row: Any, cuts: Any, mask: Any, weight: Any) -> Any:
    """The shift of a whole row: equal logits shall have equal results, in whichever cut."""
    shift = -INFINITY
    for cut in range(cuts):
        first, last = _ends(x, cut)
        shift = larger(largest_of(x, row, first, last, mask, weight), shift)
    return shift


@inlined
def _total_of_row(
    x: Any, row: Any, cuts: Any, shift: Any, mask: Any, weight: Any, inverse: Any,
    inverse_error: Any, apart: Any, keep: Any,
) -> Any:  # fmt: skip
    """The total of all cuts, from left to right."""
    total = 0.0, 0.0, 0.0
    for cut in range(cuts):
        here = _total_of_cut(x, row, cut, shift, mask, weight, inverse, inverse_error, apart, keep)
        total = add_normal(total, here, inverse_error)
    return total


@inlined
def _again(value: Any, base: Any, inverse: Any, inverse_error: Any, constants: Any) -> Any:
    t, t_error = distance(value, base, inverse, inverse_error)
    e, _ = exponential(t, t_error, inverse, constants)
    return e


@inlined
def _map_probabilities(
    x: Any, out: Any, row: Any, cut: Any, shift: Any, total: Any, inverse: Any,
    inverse_error: Any, mask: Any, keep: Any,
) -> None:  # fmt: skip
    """The probabilities of a cut of a row whose shift and total are known."""
    constants = constants_for(x)
    a, a_low = reciprocals_of_totals(total, inverse_error)
    first, last = _ends(x, cut)
    wides = first + (last - first) // WIDE * WIDE
    for at in range(first, wides, WIDE):
        if keep is None:
            e = _again(load_wide(x, (row, at), WIDE), shift, inverse, inverse_error, constants)
        else:
            e = wide(load_wide(keep, (row, at), WIDE))
        value = probability(e, a, a_low, inverse_error)
        store(out, (row, at), unmasked_wide(value, mask, (row, at), 0.0))
    for at in range(wides, last, WIDTH):
        count = min(WIDTH, last - at)
        if keep is None:
            value = load_part(x, (row, at), count, 0.0)
            e = _again(value, shift, inverse, inverse_error, constants)
        else:
            e = wide(load_part(keep, (row, at), count, 0.0))
        value = probability(e, a, a_low, inverse_error)
        store_part(out, (row, at), count, unmasked(value, mask, (row, at), count, 0.0))


@inlined
def _map_logarithms(
    x: Any, out: Any, row: Any, cut: Any, shift: Any, total: Any, inverse: Any,
    inverse_error: Any, mask: Any,
) -> None:  # fmt: skip
    """Their logarithms."""
    a, a_low = logarithms_of_totals(total, inverse_error)
    first, last = _ends(x, cut)
    wides = first + (last - first) // WIDE * WIDE
    for at in range(first, wides, WIDE):
        t, t_error = distance(load_wide(x, (row, at), WIDE), shift, inverse, inverse_error)
        value = log_probability(t, t_error, inverse, a, a_low)
        store(out, (row, at), unmasked_wide(value, mask, (row, at), -INFINITY))
    for at in range(wides, last, WIDTH):
        count = min(WIDTH, last - at)
        value = load_part(x, (row, at), count, 0.0)
        t, t_error = distance(value, shift, inverse, inverse_error)
        value = log_probability(t, t_error, inverse, a, a_low)
        store_part(out, (row, at), count, unmasked(value, mask, (row, at), count, -INFINITY))


@inlined
def _write_sum(
    x: Any, out: Any, sign: Any, weight: Any, row: Any, shift: Any, total: Any, inverse_error: Any
) -> None:
    """The logarithm of a row's sum, and its sign."""
    ones, high, low = total
    total = magnitude_and_sign(sign, (row,), 1, (spread(ones), spread(high), spread(low)))
    value = logsumexp_of(shift, total, unit_exponent(weight, inverse_error))
    store_part(out, (row,), 1, value)


@kernel
def softmax_long(
    x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
) -> None:
    """softmax of each row."""
    cuts = number_of_cuts(x.shape[1])
    keep = keeper(out)
    for row in range(first, last):
        inverse, inverse_error = reciprocal(x, temperature[row])
        shift = _largest(x, row, cuts, mask, None)
        total = _total_of_row(x, row, cuts, shift, mask, None, inverse, inverse_error, None, keep)
        for cut in range(cuts):
            _map_probabilities(x, out, row, cut, shift, total, inverse, inverse_error, mask, keep)


@kernel
def log_softmax_long(
    x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
) -> None:
    """log_softmax of each row."""
    cuts = number_of_cuts(x.shape[1])
    for row in range(first, last):
        inverse, inverse_error = reciprocal(x, temperature[row])
        shift = _largest(x, row, cuts, mask, None)
        total = _total_of_row(x, row, cuts, shift, mask, None, inverse, inverse_error, True, None)
        for cut in range(cuts):
            _map_logarithms(x, out, row, cut, shift, total, inverse, inverse_error, mask)


@kernel
def logsumexp_long(
    x: Any, out: Any, sign: Any, mask: Any, weight: Any, slot: int, first: int, last: int
) -> None:
    """log|sum(weight * exp(x))| of each row, and the sum's sign."""
    cuts = number_of_cuts(x.shape[1])
    inverse, inverse_error = reciprocal(x, 1.0)
    for row in range(first, last):
        shift = _largest(x, row, cuts, mask, weight)
        total = _total_of_row(
            x, row, cuts, shift, mask, weight, inverse, inverse_error, wants_ones(weight), None
        )
        _write_sum(x, out, sign, weight, row, shift, total, inverse_error)


# Few rows, shared by all threads: all cuts' maxima are found, then all cuts are summed up, then
# all are mapped. What is found is noted in between in lines of ``notes`` (rows * cuts, 4): a cut's
# maximum, and its total (ones, high, low).


@inlined
def _shift_of(notes: Any, row: Any, cuts: Any) -> Any:
    shift = -INFINITY
    for line in range(row * cuts, row * cuts + cuts):
        shift = larger(notes[line, 0], shift)
    return shift


@inlined
def _noted_total(notes: Any, row: Any, cuts: Any, inverse_error: Any) -> Any:
    total = 0.0, 0.0, 0.0
    for line in range(row * cuts, row * cuts + cuts):
        here = notes[line, 1], notes[line, 2], notes[line, 3]
        total = add_normal(total, here, inverse_error)
    return total


@kernel
def maxima_of_cuts(
    x: Any, mask: Any, weight: Any, notes: Any, slot: int, first: int, last: int
) -> None:
    """The maxima of cuts first to last, counted through all rows."""
    cuts = number_of_cuts(x.shape[1])
    for item in range(first, last):
        start, stop = _ends(x, item % cuts)
        notes[item, 0] = largest_of(x, item // cuts, start, stop, mask, weight)


@kernel
def totals_of_cuts(
    x: Any, out: Any, temperature: Any, mask: Any, weight: Any, apart: Any, notes: Any,
    slot: int, first: int, last: int,
) -> None:  # fmt: skip
    """The totals of cuts first to last, counted through all rows.

    ``apart`` as in rows.py; ``out``: None, or where exponentials may be kept.
    """
    cuts = number_of_cuts(x.shape[1])
    shift = -INFINITY
    for item in range(first, last):
        row, cut = item // cuts, item % cuts
        inverse, inverse_error = reciprocal(x, temperature[row])
        if item == first or cut == 0:
            shift = _shift_of(notes, row, cuts)
        if out is None:
            total = _total_of_cut(
                x, row, cut, shift, mask, weight, inverse, inverse_error, apart, None
            )
        else:
            total = _total_of_cut(
                x, row, cut, shift, mask, weight, inverse, inverse_error, apart, keeper(out)
            )
        notes[item, 1], notes[item, 2], notes[item, 3] = total


@kernel
def softmax_cuts(
    x: Any, out: Any, temperature: Any, mask: Any, notes: Any, slot: int, first: int, last: int
) -> None:
    """softmax of cuts first to last, counted through all rows."""
    cuts = number_of_cuts(x.shape[1])
    shift, total = -INFINITY, (0.0, 0.0, 0.0)
    for item in range(first, last):
        row, cut = item // cuts, item % cuts
        inverse, inverse_error = reciprocal(x, temperature[row])
        if item == first or cut == 0:
            shift = _shift_of(notes, row, cuts)
            total = _noted_total(notes, row, cuts, inverse_error)
        _map_probabilities(
            x, out, row, cut, shift, total, inverse, inverse_error, mask, keeper(out)
        )


@kernel
def log_softmax_cuts(
    x: Any, out: Any, temperature: Any, mask: Any, notes: Any, slot: int, first: int, last: int
) -> None:
    """log_softmax of cuts first to last, counted through all rows."""
    cuts = number_of_cuts(x.shape[1])
    shift, total = -INFINITY, (0.0, 0.0, 0.0)
    for item in range(first, last):
        row, cut = item // cuts, item % cuts
        inverse, inverse_error = reciprocal(x, temperature[row])
        if item == first or cut == 0:
            shift = _shift_of(notes, row, cuts)
            total = _noted_total(notes, row, cuts, inverse_error)
        _map_logarithms(x, out, row, cut, shift, total, inverse, inverse_error, mask)


@kernel
def logsumexp_cuts(
    x: Any, out: Any, sign: Any, weight: Any, notes: Any, slot: int, first: int, last: int
) -> None:
    """log|sum(weight * exp(x))| of each row, and the sum's sign, from what is noted of its cuts."""
    cuts = number_of_cuts(x.shape[1])
    _, inverse_error = reciprocal(x, 1.0)
    for row in range(first, last):
        shift = _shift_of(notes, row, cuts)
        total = _noted_total(notes, row, cuts, inverse_error)
        _write_sum(x, out, sign, weight, row, shift, total, inverse_error)
