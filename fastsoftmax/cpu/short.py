"""Kernels for short rows: eight rows side by side, transposed in registers.

Where a row fills only a few lanes, adding up its lanes takes longer than its exponentials. So
lanes are rows here, and each step of the eight rows is one vector. Element i of each row belongs
to class i modulo 8, and the classes are added as a tree: the same sums as in rows.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastsoftmax.cpu.jit import chosen, inlined, kernel
from fastsoftmax.cpu.lanes import narrowed, spread, transposed, wide
from fastsoftmax.cpu.memory import (
    load,
    load_packed,
    load_part,
    scratch,
    store,
    store_packed,
    store_part,
)
from fastsoftmax.cpu.normalizer import (
    INFINITY,
    distance,
    in_two_parts,
    log_probability,
    logsumexp_of,
    probability,
    reciprocal,
    unit_exponent,
)
from fastsoftmax.cpu.panels import SUMS, clear, reduce_panel
from fastsoftmax.cpu.rows import (
    larger,
    logarithms_of_totals,
    present,
    reciprocals_of_totals,
    unmasked,
)
from fastsoftmax.cpu.sizes import PACKED, SHORT, WIDTH


@inlined
def _fill(x: Any, row: Any, last: Any, mask: Any, panel: Any) -> Any:
    """Eight rows of logits side by side into scratch memory, and their maxima.

    Past the last row it is repeated.
    """
    length = x.shape[1]
    r1, r2, r3 = min(row + 1, last - 1), min(row + 2, last - 1), min(row + 3, last - 1)
    r4, r5, r6 = min(row + 4, last - 1), min(row + 5, last - 1), min(row + 6, last - 1)
    r7 = min(row + 7, last - 1)
    top = spread(-INFINITY)
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
        store(panel, (at, 0), a)
        store(panel, (at + 1, 0), b)
        store(panel, (at + 2, 0), c)
        store(panel, (at + 3, 0), d)
        store(panel, (at + 4, 0), e)
        store(panel, (at + 5, 0), f)
        store(panel, (at + 6, 0), g)
        store(panel, (at + 7, 0), h)
        most = larger(larger(larger(a, b), larger(c, d)), larger(larger(e, f), larger(g, h)))
        top = larger(wide(most), top)
    return top


@chosen
def _rounded_for(out: Any, value: Any) -> Any:
    """Results in the type in which they are best transposed: 16-bit ones are rounded once only."""
    if out.dtype == types.float32:
        return lambda out, value: narrowed(value)
    return lambda out, value: value


@inlined
def _kept_probability(
    out: Any, panel: Any, i: Any, shift: Any, a: Any, a_low: Any, inverse: Any,
    inverse_error: Any,
) -> Any:  # fmt: skip
    return _rounded_for(out, probability(load(panel, (i, 0)), a, a_low, inverse_error))


@inlined
def _log_probability(
    out: Any, panel: Any, i: Any, shift: Any, a: Any, a_low: Any, inverse: Any,
    inverse_error: Any,
) -> Any:  # fmt: skip
    t, t_error = distance(load(panel, (i, 0)), shift, inverse, inverse_error)
    return _rounded_for(out, log_probability(t, t_error, inverse, a, a_low))


@inlined
def _put(out: Any, row: Any, at: Any, count: Any, value: Any, mask: Any, absent: Any) -> None:
    store_part(out, (row, at), count, unmasked(value, mask, (row, at), count, absent))


@inlined
def _drain(
    formula: Any,
    panel: Any,
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
            formula(out, panel, at, shift, a, a_low, inverse, inverse_error),
            formula(out, panel, at + 1, shift, a, a_low, inverse, inverse_error),
            formula(out, panel, at + 2, shift, a, a_low, inverse, inverse_error),
            formula(out, panel, at + 3, shift, a, a_low, inverse, inverse_error),
            formula(out, panel, at + 4, shift, a, a_low, inverse, inverse_error),
            formula(out, panel, at + 5, shift, a, a_low, inverse, inverse_error),
            formula(out, panel, at + 6, shift, a, a_low, inverse, inverse_error),
            formula(out, panel, at + 7, shift, a, a_low, inverse, inverse_error),
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
def _temperatures_of(temperature: Any, row: Any, last: Any, notes: Any) -> Any:
    """Those of eight rows."""
    if temperature.strides[0] == temperature.itemsize:
        return load_part(temperature, (row,), min(WIDTH, last - row), 1.0)
    for k in range(WIDTH):
        notes[0, k] = temperature[min(row + k, last - 1)]
    return load(notes, (0, 0))


@inlined
def _map_short(
    finish: Any,
    formula: Any,
    absent: float,
    apart: Any,
    keep: Any,
    x: Any,
    out: Any,
    temperature: Any,
    mask: Any,
    first: int,
    last: int,
) -> None:
    """Rows of results: ``finish`` makes of each total what ``formula`` then uses."""
    panel = scratch(np.float64, SHORT, WIDTH)
    sums = scratch(np.float64, SUMS, WIDTH)
    notes = scratch(np.float64, 1, WIDTH)
    clear(sums)
    inverse, inverse_error = reciprocal(x, spread(temperature[first]))
    varied = temperature.strides[0] != 0
    for row in range(first, last, WIDTH):
        if varied:
            temperatures = _temperatures_of(temperature, row, last, notes)
            inverse, inverse_error = reciprocal(x, temperatures)
        shift = _fill(x, row, last, mask, panel)
        total = reduce_panel(
            panel, 0, 1, x.shape[1], shift, inverse, inverse_error, apart, keep, sums,
            None, (0, 0, 0), WIDTH,
        )  # fmt: skip
        a, a_low = finish(total, inverse_error)
        _drain(
            formula, panel, out, row, min(WIDTH, last - row), mask, absent,
            shift, a, a_low, inverse, inverse_error,
        )  # fmt: skip


@kernel
def softmax_short(x: Any, out: Any, temperature: Any, mask: Any, first: int, last: int) -> None:
    """softmax of each row."""
    _map_short(
        reciprocals_of_totals, _kept_probability, 0.0, None, True,
        x, out, temperature, mask, first, last,
    )  # fmt: skip


@kernel
def log_softmax_short(x: Any, out: Any, temperature: Any, mask: Any, first: int, last: int) -> None:
    """log_softmax of each row."""
    _map_short(
        logarithms_of_totals, _log_probability, -INFINITY, True, None,
        x, out, temperature, mask, first, last,
    )  # fmt: skip


@kernel
def logsumexp_short(x: Any, out: Any, mask: Any, first: int, last: int) -> None:
    """log(sum(exp(x))) of each row."""
    panel = scratch(np.float64, SHORT, WIDTH)
    sums = scratch(np.float64, SUMS, WIDTH)
    clear(sums)
    inverse, inverse_error = reciprocal(x, 1.0)
    for row in range(first, last, WIDTH):
        shift = _fill(x, row, last, mask, panel)
        total = reduce_panel(
            panel, 0, 1, x.shape[1], shift, inverse, inverse_error, True, None, sums,
            None, (0, 0, 0), WIDTH,
        )  # fmt: skip
        high, low = in_two_parts(total)
        value = logsumexp_of(shift, high, low, unit_exponent(None, inverse_error))
        store_part(out, (row,), min(WIDTH, last - row), value)


def _packed(length: int) -> None:
    """Make the kernel of softmax for rows of a length that is known as it is compiled.

    Rows that lie one behind the other are taken apart by a few shuffles, and LLVM keeps all of
    them in registers: 6.4 ms for 5 million rows of 2, where softmax_short takes 15.
    """

    def softmax_packed(
        x: Any, out: Any, temperature: Any, mask: Any, first: int, last: int
    ) -> None:
        panel = scratch(np.float64, WIDTH, WIDTH)
        sums = scratch(np.float64, SUMS, WIDTH)
        clear(sums)
        inverse, inverse_error = reciprocal(x, spread(temperature[0]))
        for row in range(first * WIDTH, last * WIDTH, WIDTH):
            load_packed(x, (row, 0), length, panel)
            shift = load(panel, (0, 0))
            for i in range(1, length):
                shift = larger(load(panel, (i, 0)), shift)
            total = reduce_panel(
                panel, 0, 1, length, shift, inverse, inverse_error, None, True, sums,
                None, (0, 0, 0), WIDTH,
            )  # fmt: skip
            a, a_low = reciprocals_of_totals(total, inverse_error)
            for i in range(length):
                value = probability(load(panel, (i, 0)), a, a_low, inverse_error)
                store(panel, (i, 0), value)
            store_packed(out, (row, 0), length, panel)

    softmax_packed.__name__ = f"softmax_packed_{length}"
    softmax_packed.__doc__ = (
        f"softmax of rows of {length}, all at one temperature; eight at a time."
    )
    kernel(softmax_packed)


for _length in PACKED:
    _packed(_length)
