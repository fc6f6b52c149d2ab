"""Kernels for short rows: eight rows side by side, transposed in registers.

Where a row fills only a few lanes, adding up its lanes takes longer than its exponentials. So
lanes are rows here, and each step of the eight rows is one vector. Element i of each row belongs
to class i modulo 8, and the classes are added as a tree: the same sums as in rows.py.

A few such groups of eight rows are brought into scratch memory, then summed up, then mapped, so
that one group's work fills the time that another's waits: 7.4 ns for eight logits in rows of 10,
where one group at a time takes 9.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastsoftmax.cpu.exponential import constants_for
from fastsoftmax.cpu.jit import chosen, inlined, kernel
from fastsoftmax.cpu.lanes import narrowed, spread, transposed, wide
from fastsoftmax.cpu.memory import (
    lanes_like,
    load,
    load_packed,
    load_part,
    prefetch,
    scratch,
    store,
    store_packed,
    store_part,
)
from fastsoftmax.cpu.normalizer import (
    INFINITY,
    distance,
    log_probability,
    logsumexp_of,
    probability,
    reciprocal,
    unit_exponent,
)
from fastsoftmax.cpu.panels import clear, reduce_panel
from fastsoftmax.cpu.rows import (
    INVERSE,
    NOTES,
    SHIFT,
    WIDE,
    inverses_of,
    larger,
    logarithms_of_totals,
    note_inverses,
    note_totals,
    present,
    reciprocals_of_totals,
    totals_of,
    unmasked,
)
from fastsoftmax.cpu.sizes import PACKED, SUMS, WIDTH

# Lines of scratch memory, of eight logits each, and the most rows that they are for. More of either
# is not faster: the scratch memory leaves the first cache to what is read and written. For float64
# more than eight rows at a time are slower: 23 ns for eight logits in rows of 16, and not 19.
_LINES = 80
_STEP = 4 * WIDTH


@inlined
def _fill(
    x: Any, row: Any, last: Any, mask: Any, logits: Any, line: Any, out: Any, ahead: Any
) -> Any:
    """Eight rows of logits side by side into scratch memory, and their maxima.

    Past the last row it is repeated. What comes next is fetched: the rows ``ahead`` of these, and
    what will be written to ``out``, unless it is None.
    """
    length = x.shape[1]
    r1, r2, r3 = min(row + 1, last - 1), min(row + 2, last - 1), min(row + 3, last - 1)
    r4, r5, r6 = min(row + 4, last - 1), min(row + 5, last - 1), min(row + 6, last - 1)
    r7 = min(row + 7, last - 1)
    for at in range(0, length * WIDTH, WIDE):  # as if rows lay one behind the other
        prefetch(x, (row + ahead, at))
        if out is not None:
            prefetch(out, (row, at))
    top = lanes_like(x, WIDTH, -INFINITY)
    for at in range(0, length, WIDTH):
        count = min(WIDTH, length - at)
        a, b, c, d, e, f, g, h = transposed(
            present(x, (row, at), count, mask, None),
            present(x, (r1, at), count, mask, None),
            present(x, (r2, at), count, mask, None),
            present(x, (r3, at), count, mask, None),
            present(x, (r4, at), count, mask, None),
            present(x, (r5, at), count, mask, None),
            present(x, (r6, at), count, mask, None),
            present(x, (r7, at), count, mask, None),
        )
        store(logits, (line + at, 0), a)
        store(logits, (line + at + 1, 0), b)
        store(logits, (line + at + 2, 0), c)
        store(logits, (line + at + 3, 0), d)
        store(logits, (line + at + 4, 0), e)
        store(logits, (line + at + 5, 0), f)
        store(logits, (line + at + 6, 0), g)
        store(logits, (line + at + 7, 0), h)
        most = larger(larger(larger(a, b), larger(c, d)), larger(larger(e, f), larger(g, h)))
        top = larger(most, top)
    return wide(top)


@chosen
def _rounded_for(out: Any, value: Any) -> Any:
    """Results in the type in which they are best transposed: 16-bit ones are rounded once only."""
    if out.dtype == types.float32:
        return lambda out, value: narrowed(value)
    return lambda out, value: value


@inlined
def _kept_probability(
    out: Any, logits: Any, terms: Any, line: Any, shift: Any, a: Any, a_low: Any, inverse: Any,
    inverse_error: Any,
) -> Any:  # fmt: skip
    return _rounded_for(out, probability(load(terms, (line, 0)), a, a_low, inverse_error))


@inlined
def _log_probability(
    out: Any, logits: Any, terms: Any, line: Any, shift: Any, a: Any, a_low: Any, inverse: Any,
    inverse_error: Any,
) -> Any:  # fmt: skip
    t, t_error = distance(load(logits, (line, 0)), shift, inverse, inverse_error)
    return _rounded_for(out, log_probability(t, t_error, inverse, a, a_low))


@inlined
def _put(out: Any, row: Any, at: Any, count: Any, value: Any, mask: Any, absent: Any) -> None:
    store_part(out, (row, at), count, unmasked(value, mask, (row, at), count, absent))


@inlined
def _drain(
    formula: Any,
    logits: Any,
    terms: Any,
    line: Any,
    out: Any,
    row: Any,
    height: Any,
    mask: Any,
    absent: float,
    shift: Any,
    a: Any,
    a_low: Any,
    inverse: Any,
    inverse_error: Any,
) -> None:
    """The results of ``height`` rows, from side by side to their places."""
    length = out.shape[1]
    for at in range(0, length, WIDTH):
        count = min(WIDTH, length - at)
        r0, r1, r2, r3, r4, r5, r6, r7 = transposed(
            formula(out, logits, terms, line + at, shift, a, a_low, inverse, inverse_error),
            formula(out, logits, terms, line + at + 1, shift, a, a_low, inverse, inverse_error),
            formula(out, logits, terms, line + at + 2, shift, a, a_low, inverse, inverse_error),
            formula(out, logits, terms, line + at + 3, shift, a, a_low, inverse, inverse_error),
            formula(out, logits, terms, line + at + 4, shift, a, a_low, inverse, inverse_error),
            formula(out, logits, terms, line + at + 5, shift, a, a_low, inverse, inverse_error),
            formula(out, logits, terms, line + at + 6, shift, a, a_low, inverse, inverse_error),
            formula(out, logits, terms, line + at + 7, shift, a, a_low, inverse, inverse_error),
        )
        _put(out, row, at, count, r0, mask, absent)
        if height > 1:
            _put(out, row + 1, at, count, r1, mask, absent)
        if height > 2:
            _put(out, row + 2, at, count, r2, mask, absent)
        if height > 3:
            _put(out, row + 3, at, count, r3, mask, absent)
        if height > 4:
            _put(out, row + 4, at, count, r4, mask, absent)
        if height > 5:
            _put(out, row + 5, at, count, r5, mask, absent)
        if height > 6:
            _put(out, row + 6, at, count, r6, mask, absent)
        if height > 7:
            _put(out, row + 7, at, count, r7, mask, absent)


@inlined
def _note_temperatures(x: Any, temperature: Any, row: Any, rows: Any, notes: Any) -> None:
    """Those of the rows of a step; None: 1."""
    for k in range(0, rows, WIDTH):
        if temperature is None:
            store(notes, (INVERSE, k), spread(1.0))
        elif temperature.strides[0] == temperature.itemsize:
            value = load_part(temperature, (row + k,), min(WIDTH, rows - k), 1.0)
            store(notes, (INVERSE, k), value)
        else:
            for j in range(WIDTH):
                notes[INVERSE, k + j] = temperature[row + min(k + j, rows - 1)]
        note_inverses(x, notes, k)


@inlined
def _reduce_short(
    x: Any, start: Any, stop: Any, lines: Any, mask: Any, constants: Any, apart: Any, logits: Any,
    keep: Any, sums: Any, notes: Any, out: Any,
) -> None:  # fmt: skip
    """Note (shift, ones, high, low) of the rows of a step; see `reduce_panel`."""
    rows = stop - start
    for k in range(0, rows, WIDTH):
        shift = _fill(x, start + k, stop, mask, logits, k // WIDTH * lines, out, rows)
        store(notes, (SHIFT, k), shift)
    for k in range(0, rows, WIDTH):
        inverse, inverse_error = inverses_of(x, notes, k)
        total = reduce_panel(
            logits, k // WIDTH * lines, 1, x.shape[1], load(notes, (SHIFT, k)), inverse,
            inverse_error, constants, apart, keep, sums, None, (0, 0, 0), WIDTH,
        )  # fmt: skip
        note_totals(notes, k, total)


@chosen
def _place_of_terms(logits: Any, terms: Any) -> Any:
    """Where exponentials are kept, if they are: float64 ones take the place of the logits."""
    if terms is types.none or logits.dtype != types.float64:
        return lambda logits, terms: terms
    return lambda logits, terms: logits


@inlined
def _map_short(
    finish: Any,
    formula: Any,
    absent: float,
    apart: Any,
    terms: Any,
    x: Any,
    out: Any,
    temperature: Any,
    mask: Any,
    first: int,
    last: int,
) -> None:
    """Rows of results: ``finish`` makes of each total what ``formula`` then uses."""
    logits = scratch(x, _LINES, WIDTH)
    terms = _place_of_terms(logits, terms)
    sums = scratch(np.float64, SUMS, WIDTH)
    notes = scratch(np.float64, NOTES, _STEP)
    clear(sums)
    constants = constants_for(x)
    lines = (x.shape[1] + WIDTH - 1) // WIDTH * WIDTH
    step = WIDTH if x.itemsize == 8 else min(_STEP, _LINES // lines * WIDTH)
    for start in range(first, last, step):
        stop = min(start + step, last)
        if start == first or temperature.strides[0] != 0:
            _note_temperatures(x, temperature, start, stop - start, notes)
        _reduce_short(
            x, start, stop, lines, mask, constants, apart, logits, terms, sums, notes, out
        )
        for k in range(0, stop - start, WIDTH):
            inverse, inverse_error = inverses_of(x, notes, k)
            a, a_low = finish(totals_of(notes, k), inverse_error)
            _drain(
                formula, logits, terms, k // WIDTH * lines, out, start + k,
                min(WIDTH, stop - start - k), mask, absent,
                load(notes, (SHIFT, k)), a, a_low, inverse, inverse_error,
            )  # fmt: skip


@kernel
def softmax_short(
    x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
) -> None:
    """softmax of each row."""
    terms = scratch(np.float64, _LINES, WIDTH)
    _map_short(
        reciprocals_of_totals, _kept_probability, 0.0, None, terms,
        x, out, temperature, mask, first, last,
    )  # fmt: skip


@kernel
def log_softmax_short(
    x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
) -> None:
    """log_softmax of each row."""
    _map_short(
        logarithms_of_totals, _log_probability, -INFINITY, True, None,
        x, out, temperature, mask, first, last,
    )  # fmt: skip


@kernel
def logsumexp_short(x: Any, out: Any, mask: Any, slot: int, first: int, last: int) -> None:
    """log(sum(exp(x))) of each row."""
    logits = scratch(x, _LINES, WIDTH)
    sums = scratch(np.float64, SUMS, WIDTH)
    notes = scratch(np.float64, NOTES, _STEP)
    clear(sums)
    _note_temperatures(x, None, first, _STEP, notes)
    constants = constants_for(x)
    lines = (x.shape[1] + WIDTH - 1) // WIDTH * WIDTH
    step = WIDTH if x.itemsize == 8 else min(_STEP, _LINES // lines * WIDTH)
    for start in range(first, last, step):
        stop = min(start + step, last)
        _reduce_short(x, start, stop, lines, mask, constants, True, logits, None, sums, notes, None)
        for k in range(0, stop - start, WIDTH):
            _, inverse_error = inverses_of(x, notes, k)
            scale = unit_exponent(None, inverse_error)
            value = logsumexp_of(load(notes, (SHIFT, k)), totals_of(notes, k), scale)
            store_part(out, (start + k,), min(WIDTH, stop - start - k), value)


def _packed(length: int) -> None:
    """Make the kernel of softmax for rows of a length that is known as it is compiled.

    Rows that lie one behind the other are taken apart by a few shuffles: 5.6 ms for 5 million
    rows of 2, where softmax_short takes 10.
    """

    def softmax_packed(
        x: Any, out: Any, temperature: Any, mask: Any, slot: int, first: int, last: int
    ) -> None:
        panel = scratch(np.float64, _LINES, WIDTH)
        sums = scratch(np.float64, SUMS, WIDTH)
        notes = scratch(np.float64, NOTES, _STEP)
        clear(sums)
        inverse, inverse_error = reciprocal(x, spread(temperature[0]))
        constants = constants_for(x)
        for start in range(first * WIDTH, last * WIDTH, _STEP):
            count = min(_STEP, last * WIDTH - start)
            for k in range(0, count, WIDTH):
                line = k // WIDTH * length
                load_packed(x, (start + k, 0), length, panel, line)
                shift = load(panel, (line, 0))
                for i in range(1, length):
                    shift = larger(load(panel, (line + i, 0)), shift)
                total = reduce_panel(
                    panel, line, 1, length, shift, inverse, inverse_error, constants, None, panel,
                    sums, None, (0, 0, 0), WIDTH,
                )  # fmt: skip
                note_totals(notes, k, total)
            for k in range(0, count, WIDTH):
                line = k // WIDTH * length
                a, a_low = reciprocals_of_totals(totals_of(notes, k), inverse_error)
                for i in range(line, line + length):
                    store(panel, (i, 0), probability(load(panel, (i, 0)), a, a_low, inverse_error))
                store_packed(out, (start + k, 0), length, panel, line)

    softmax_packed.__name__ = f"softmax_packed_{length}"
    softmax_packed.__doc__ = (
        f"softmax of rows of {length}, all at one temperature; eight at a time."
    )
    kernel(softmax_packed)


for _length in PACKED:
    _packed(_length)
