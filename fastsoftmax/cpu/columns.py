"""Kernels for rows that are not contiguous, such as axis=0 of a C array: lanes are columns.

x is (outer, length, inner), the reduced axis in the middle, the last one contiguous. Columns are
worked on in panels as wide as several cache lines. Those no longer than a block are copied into
scratch memory, so that x is read once; their groups of eight are summed as in panels.py. Longer
ones are swept as they lie, cut by cut as in long.py. A row has the same bits in every layout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastsoftmax.cpu.exponential import constants_for, exponential
from fastsoftmax.cpu.jit import inlined, kernel
from fastsoftmax.cpu.lanes import any_of, spread, wide
from fastsoftmax.cpu.long import (
    keeper,
    length_of_cut,
    number_of_cuts,
)
from fastsoftmax.cpu.memory import (
    load,
    load_part,
    part_of,
    prefetch,
    scratch,
    store,
    store_part,
)
from fastsoftmax.cpu.normalizer import (
    INFINITY,
    add_normal,
    add_term,
    anchor,
    distance,
    infinite_term,
    is_one,
    log_probability,
    logsumexp_of,
    probability,
    unit_exponent,
    wants_ones,
)
from fastsoftmax.cpu.panels import clear, reduce_panel, total_of_classes, where_infinite
from fastsoftmax.cpu.rows import (
    HIGH,
    INVERSE,
    LOW,
    NOTES,
    SHIFT,
    inverses_of,
    larger,
    logarithms_of_totals,
    magnitude_and_sign,
    note_inverses,
    note_totals,
    present,
    reciprocals_of_totals,
    totals_of,
    unmasked,
    weight_of,
)
from fastsoftmax.cpu.sizes import (
    BLOCK,
    SUMS,
    SUMS_OF_PANEL,
    WIDEST,
    WIDTH,
    panel_width,
)

# Steps of the reduced axis that are fetched ahead.
_AHEAD = 12


_panel_width = inlined(panel_width)


@inlined
def _place_of(x: Any, panel: Any) -> Any:
    """Of the panel of a number: its place on the outer axis, its first column and its width."""
    inner = x.shape[2]
    width = _panel_width(x.shape[1])
    panels = (inner + width - 1) // width
    left = panel % panels * width
    return panel // panels, left, min(width, inner - left)


@inlined
def _note_temperatures(x: Any, temperature: Any, o: Any, left: Any, width: Any, notes: Any) -> None:
    """Those of a panel's columns, of any strides; past the last column it is repeated. None: 1."""
    for j in range(0, width, WIDTH):
        for k in range(j, j + WIDTH):
            if temperature is None:
                notes[INVERSE, k] = 1.0
            else:
                notes[INVERSE, k] = temperature[o, left + min(k, width - 1)]
        note_inverses(x, notes, j)


@inlined
def _fetch(array: Any, o: Any, i: Any, last: Any, left: Any, width: Any) -> None:
    """Ask for a panel's elements of one step: no hardware foresees the next page."""
    if i < last:
        for j in range(0, width, 64 // array.itemsize):
            prefetch(array, (o, i, left + j))


@inlined
def _note_maxima(
    x: Any, o: Any, first: Any, last: Any, left: Any, width: Any, mask: Any, weight: Any,
    panel: Any, notes: Any,
) -> None:  # fmt: skip
    """The maxima of a part of each column; the logits are copied to ``panel``, unless None."""
    groups = (width + WIDTH - 1) // WIDTH
    for j in range(0, width, WIDTH):
        store(notes, (SHIFT, j), spread(-INFINITY))
    for i in range(first, last):
        _fetch(x, o, i + _AHEAD, last, left, width)
        for j in range(0, width, WIDTH):
            value = wide(present(x, (o, i, left + j), min(WIDTH, width - j), mask, weight))
            if panel is not None:
                store(panel, (i * groups + j // WIDTH, 0), value)
            store(notes, (SHIFT, j), larger(value, load(notes, (SHIFT, j))))


@inlined
def _reduce_panel(
    x: Any, o: Any, left: Any, width: Any, mask: Any, weight: Any, apart: Any, keep: Any,
    panel: Any, sums: Any, notes: Any,
) -> None:  # fmt: skip
    """Note (shift, ones, high, low) of each column of a panel, no longer than a block.

    With ``keep``, None or True, exponentials take the place of the logits.
    """
    length = x.shape[1]
    if keep is None:
        place = None
    else:
        place = panel
    groups = (width + WIDTH - 1) // WIDTH
    constants = constants_for(x)
    _note_maxima(x, o, 0, length, left, width, mask, weight, panel, notes)
    for j in range(0, width, WIDTH):
        inverse, inverse_error = inverses_of(x, notes, j)
        total = reduce_panel(
            panel, j // WIDTH, groups, length, load(notes, (SHIFT, j)), inverse, inverse_error,
            constants, apart, place, sums, weight, (o, 0, left + j), min(WIDTH, width - j),
        )  # fmt: skip
        note_totals(notes, j, total)


@inlined
def _finish_totals(finish: Any, x: Any, width: Any, notes: Any) -> None:
    """Put what ``finish`` makes of the noted totals in their place."""
    for j in range(0, width, WIDTH):
        _, inverse_error = inverses_of(x, notes, j)
        a, a_low = finish(totals_of(notes, j), inverse_error)
        store(notes, (HIGH, j), a)
        store(notes, (LOW, j), a_low)


@inlined
def _map_panels(
    finish: Any, formula: Any, absent: float, apart: Any, keep: Any,
    x: Any, out: Any, temperature: Any, mask: Any, memory: Any, slot: int, first: int, last: int,
) -> None:  # fmt: skip
    """Panels of results: ``finish`` makes of each total what ``formula`` then uses."""
    length = x.shape[1]
    panel = part_of(memory, slot)
    sums = scratch(np.float64, SUMS, WIDTH)
    notes = scratch(np.float64, NOTES, WIDEST)
    clear(sums)
    for number in range(first, last):
        o, left, width = _place_of(x, number)
        groups = (width + WIDTH - 1) // WIDTH
        _note_temperatures(x, temperature, o, left, width, notes)
        _reduce_panel(x, o, left, width, mask, None, apart, keep, panel, sums, notes)
        _finish_totals(finish, x, width, notes)
        for i in range(length):
            _fetch(out, o, i + _AHEAD, length, left, width)
            for j in range(0, width, WIDTH):
                value = load(panel, (i * groups + j // WIDTH, 0))
                value = formula(x, value, notes, j)
                at = (o, i, left + j)
                count = min(WIDTH, width - j)
                store_part(out, at, count, unmasked(value, mask, at, count, absent))


@inlined
def _probability(x: Any, e: Any, notes: Any, j: Any) -> Any:
    _, inverse_error = inverses_of(x, notes, j)
    return probability(e, load(notes, (HIGH, j)), load(notes, (LOW, j)), inverse_error)


@inlined
def _log_probability(x: Any, value: Any, notes: Any, j: Any) -> Any:
    inverse, inverse_error = inverses_of(x, notes, j)
    t, t_error = distance(value, load(notes, (SHIFT, j)), inverse, inverse_error)
    return log_probability(t, t_error, inverse, load(notes, (HIGH, j)), load(notes, (LOW, j)))


@kernel
def softmax_columns(
    x: Any, out: Any, temperature: Any, mask: Any, memory: Any, slot: int, first: int, last: int
) -> None:
    """softmax of the columns of panels first to last, no longer than a block."""
    _map_panels(
        reciprocals_of_totals, _probability, 0.0, None, True,
        x, out, temperature, mask, memory, slot, first, last,
    )  # fmt: skip


@kernel
def log_softmax_columns(
    x: Any, out: Any, temperature: Any, mask: Any, memory: Any, slot: int, first: int, last: int
) -> None:
    """log_softmax of the columns of panels first to last, no longer than a block."""
    _map_panels(
        logarithms_of_totals, _log_probability, -INFINITY, True, None,
        x, out, temperature, mask, memory, slot, first, last,
    )  # fmt: skip


@inlined
def _write_sums(
    x: Any, out: Any, sign: Any, weight: Any, o: Any, left: Any, width: Any, notes: Any
) -> None:
    """The logarithms of the noted sums, and their signs."""
    for j in range(0, width, WIDTH):
        count = min(WIDTH, width - j)
        _, inverse_error = inverses_of(x, notes, j)
        total = magnitude_and_sign(sign, (o, left + j), count, totals_of(notes, j))
        shift = load(notes, (SHIFT, j))
        value = logsumexp_of(shift, total, unit_exponent(weight, inverse_error))
        store_part(out, (o, left + j), count, value)


@kernel
def logsumexp_columns(
    x: Any, out: Any, sign: Any, mask: Any, weight: Any, memory: Any, slot: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """log|sum(weight * exp(x))| of the columns of panels first to last, and the sum's sign."""
    panel = part_of(memory, slot)
    sums = scratch(np.float64, SUMS, WIDTH)
    notes = scratch(np.float64, NOTES, WIDEST)
    clear(sums)
    for number in range(first, last):
        o, left, width = _place_of(x, number)
        _note_temperatures(x, None, o, left, width, notes)
        _reduce_panel(x, o, left, width, mask, weight, wants_ones(weight), None, panel, sums, notes)
        _write_sums(x, out, sign, weight, o, left, width, notes)


# --- columns longer than a block ------------------------------------------------------------


@inlined
def _infinite_total(
    x: Any, o: Any, first: Any, last: Any, at: Any, count: Any, mask: Any, weight: Any
) -> Any:
    """The totals of eight columns as if each held +inf: infinite or NaN."""
    total = spread(0.0)
    for i in range(first, last):
        value = present(x, (o, i, at), count, mask, weight)
        total = total + infinite_term(value, weight_of(weight, (o, i, at), count))
    return total


@inlined
def _reduce_cut(
    x: Any, o: Any, cut: Any, left: Any, width: Any, mask: Any, weight: Any, apart: Any,
    keep: Any, sums: Any, infinite: Any, notes: Any,
) -> None:  # fmt: skip
    """Note (ones, high, low) of a cut of each column, whose shift is noted; ``keep`` as in long.py.

    ``sums`` holds the classes of one group of eight behind those of another.
    """
    size = length_of_cut(x.shape[1])
    first = cut * size
    last = min(first + size, x.shape[1])
    constants = constants_for(x)
    for j in range(0, width, WIDTH):
        zero = spread(0.0)
        note_totals(notes, j, (zero, zero, zero))
        store(infinite, (0, j), zero)
        if any_of(load(notes, (SHIFT, j)) == INFINITY):
            total = _infinite_total(
                x, o, first, last, left + j, min(WIDTH, width - j), mask, weight
            )
            store(infinite, (0, j), total)
    for start in range(first, last, BLOCK):
        for line in range(SUMS_OF_PANEL):
            store(sums, (line, 0), spread(0.0))
        for i in range(start, min(start + BLOCK, last)):
            _fetch(x, o, i + _AHEAD, last, left, width)
            if keep is not None:
                _fetch(keep, o, i + _AHEAD, last, left, width)
            for j in range(0, width, WIDTH):
                count = min(WIDTH, width - j)
                at = (o, i, left + j)
                inverse, inverse_error = inverses_of(x, notes, j)
                base = anchor(load(notes, (SHIFT, j)))
                value = present(x, at, count, mask, weight)
                t, t_error = distance(value, base, inverse, inverse_error)
                e, e_error = exponential(t, t_error, inverse, constants)
                if keep is not None:
                    store_part(keep, at, count, e)
                line = j // WIDTH * SUMS + (i - start) % WIDTH
                before = (
                    load(sums, (line, 0)),
                    load(sums, (line + WIDTH, 0)),
                    load(sums, (line + 2 * WIDTH, 0)),
                )
                here = weight_of(weight, at, count)
                ones, high, low = add_term(
                    before, e, e_error, is_one(t, apart), here, inverse_error
                )
                if apart is not None:
                    store(sums, (line, 0), ones)
                store(sums, (line + WIDTH, 0), high)
                if inverse_error is not None:
                    store(sums, (line + 2 * WIDTH, 0), low)
        for j in range(0, width, WIDTH):
            _, inverse_error = inverses_of(x, notes, j)
            block = total_of_classes(sums, j // WIDTH * SUMS, apart, inverse_error)
            note_totals(notes, j, add_normal(totals_of(notes, j), block, inverse_error))
    for j in range(0, width, WIDTH):
        ones, high, low = totals_of(notes, j)
        note_totals(
            notes,
            j,
            where_infinite(
                load(notes, (SHIFT, j)) == INFINITY, load(infinite, (0, j)), ones, high, low
            ),
        )


@inlined
def _reduce_long(
    x: Any, o: Any, left: Any, width: Any, mask: Any, weight: Any, apart: Any, keep: Any,
    sums: Any, notes: Any,
) -> None:  # fmt: skip
    """Note (shift, ones, high, low) of long columns."""
    infinite = scratch(np.float64, 1, WIDEST)
    totals = scratch(np.float64, NOTES, WIDEST)
    zero = spread(0.0)
    for j in range(0, width, WIDTH):
        note_totals(totals, j, (zero, zero, zero))
    _note_maxima(x, o, 0, x.shape[1], left, width, mask, weight, None, notes)
    for cut in range(number_of_cuts(x.shape[1])):
        _reduce_cut(x, o, cut, left, width, mask, weight, apart, keep, sums, infinite, notes)
        for j in range(0, width, WIDTH):
            _, inverse_error = inverses_of(x, notes, j)
            total = add_normal(totals_of(totals, j), totals_of(notes, j), inverse_error)
            note_totals(totals, j, total)
    for j in range(0, width, WIDTH):
        note_totals(notes, j, totals_of(totals, j))


@inlined
def _kept_or_new(x: Any, keep: Any, at: Any, count: Any, notes: Any, j: Any, constants: Any) -> Any:
    """Exponentials relative to the noted shift."""
    if keep is None:
        inverse, inverse_error = inverses_of(x, notes, j)
        value = load_part(x, at, count, 0.0)
        t, t_error = distance(value, load(notes, (SHIFT, j)), inverse, inverse_error)
        e, _ = exponential(t, t_error, inverse, constants)
        return e
    else:
        return wide(load_part(keep, at, count, 0.0))


@kernel
def softmax_long_columns(
    x: Any, out: Any, temperature: Any, mask: Any, memory: Any, slot: int, first: int, last: int
) -> None:
    """softmax of the columns of panels first to last."""
    length = x.shape[1]
    sums = part_of(memory, slot)
    notes = scratch(np.float64, NOTES, WIDEST)
    keep = keeper(out)
    constants = constants_for(x)
    for number in range(first, last):
        o, left, width = _place_of(x, number)
        _note_temperatures(x, temperature, o, left, width, notes)
        _reduce_long(x, o, left, width, mask, None, None, keep, sums, notes)
        _finish_totals(reciprocals_of_totals, x, width, notes)
        for i in range(length):
            _fetch(out, o, i + _AHEAD, length, left, width)
            for j in range(0, width, WIDTH):
                count = min(WIDTH, width - j)
                at = (o, i, left + j)
                e = _kept_or_new(x, keep, at, count, notes, j, constants)
                value = _probability(x, e, notes, j)
                store_part(out, at, count, unmasked(value, mask, at, count, 0.0))


@kernel
def log_softmax_long_columns(
    x: Any, out: Any, temperature: Any, mask: Any, memory: Any, slot: int, first: int, last: int
) -> None:
    """log_softmax of the columns of panels first to last."""
    length = x.shape[1]
    sums = part_of(memory, slot)
    notes = scratch(np.float64, NOTES, WIDEST)
    for number in range(first, last):
        o, left, width = _place_of(x, number)
        _note_temperatures(x, temperature, o, left, width, notes)
        _reduce_long(x, o, left, width, mask, None, True, None, sums, notes)
        _finish_totals(logarithms_of_totals, x, width, notes)
        for i in range(length):
            _fetch(x, o, i + _AHEAD, length, left, width)
            _fetch(out, o, i + _AHEAD, length, left, width)
            for j in range(0, width, WIDTH):
                count = min(WIDTH, width - j)
                at = (o, i, left + j)
                value = _log_probability(x, load_part(x, at, count, 0.0), notes, j)
                store_part(out, at, count, unmasked(value, mask, at, count, -INFINITY))


@kernel
def logsumexp_long_columns(
    x: Any, out: Any, sign: Any, mask: Any, weight: Any, memory: Any, slot: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """log|sum(weight * exp(x))| of the columns of panels first to last, and the sum's sign."""
    sums = part_of(memory, slot)
    notes = scratch(np.float64, NOTES, WIDEST)
    for number in range(first, last):
        o, left, width = _place_of(x, number)
        _note_temperatures(x, None, o, left, width, notes)
        _reduce_long(x, o, left, width, mask, weight, wants_ones(weight), None, sums, notes)
        _write_sums(x, out, sign, weight, o, left, width, notes)
