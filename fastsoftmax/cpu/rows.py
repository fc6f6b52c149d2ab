"""Kernels for rows that are contiguous: lanes run along the row.

A row is cut into blocks of ``BLOCK`` logits. A block's maximum and then its sum are taken while
it is in the first cache; lane k sums the elements k, k + 8, k + 16 ... and the eight lanes are
added as a tree. The blocks' pairs are merged from left to right. That order is the same for
every kernel in this package, so a row's bits depend on its values and its length alone.

Arguments, here and in columns.py: x (rows, length); out of the same shape; temperature (rows,);
mask None or like x; weight None or like x; rows from ``first`` to ``last`` are computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastsoftmax.cpu.cache import chosen, inlined, kernel
from fastsoftmax.cpu.exponential import exponential, logarithm
from fastsoftmax.cpu.lanes import (
    WIDTH,
    lane,
    largest,
    load,
    load_mask,
    load_part,
    prefetch,
    scratch,
    select,
    spread,
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

# Logits in a block: 16 KiB of float32, which stays in the first cache for its second reading.
BLOCK = 4096


@inlined
def present(x: Any, at: Any, count: Any, mask: Any, weight: Any) -> Any:
    """Eight logits as lanes, -inf for what is absent: past ``count``, masked, of weight 0."""
    if count is None:
        value = load(x, at)
        counted = WIDTH
    else:
        value = load_part(x, at, count, -INFINITY)
        counted = count
    if mask is not None:
        value = select(load_mask(mask, at, counted), value, -INFINITY)
    if weight is not None:
        value = select(load_part(weight, at, counted, 0.0) == 0.0, -INFINITY, value)
    return value


@chosen
def weight_of(weight: Any, at: Any, count: Any) -> Any:
    """The weights of eight logits, or None."""
    if weight is types.none:
        return lambda weight, at, count: None
    if count is types.none:
        return lambda weight, at, count: load(weight, at)
    return lambda weight, at, count: load_part(weight, at, count, 0.0)


@chosen
def _kept_type(x: Any) -> Any:
    """The element type of kept exponentials."""
    if x.dtype == types.float64:
        return lambda x: np.float64
    return lambda x: np.float32


@inlined
def _of_lane(sums: Any, index: int) -> Any:
    return lane(sums[0], index), lane(sums[1], index), lane(sums[2], index)


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
def _larger(a: Any, b: Any) -> Any:
    return select(a > b, a, b)  # not NaN, which shows in the sum


@inlined
def _largest(x: Any, row: Any, start: Any, stop: Any, mask: Any, weight: Any) -> Any:
    """The maximum of a block, as float64; of a block with NaN any number, or NaN.

    Then the sum is NaN whatever was subtracted.
    """
    whole = start + (stop - start) // WIDTH * WIDTH
    top = present(x, (row, whole), stop - whole, mask, weight)
    # Four maxima at once, since each waits four cycles for the one before it: 1.1x on rows of 1000.
    fours = start + (whole - start) // (4 * WIDTH) * (4 * WIDTH)
    a = b = c = d = top
    for at in range(start, fours, 4 * WIDTH):
        a = _larger(present(x, (row, at), None, mask, weight), a)
        b = _larger(present(x, (row, at + WIDTH), None, mask, weight), b)
        c = _larger(present(x, (row, at + 2 * WIDTH), None, mask, weight), c)
        d = _larger(present(x, (row, at + 3 * WIDTH), None, mask, weight), d)
    for at in range(fours, whole, WIDTH):
        a = _larger(present(x, (row, at), None, mask, weight), a)
    return largest(_larger(_larger(a, b), _larger(c, d)))


@inlined
def _add(
    sums: Any,
    x: Any,
    row: Any,
    at: Any,
    count: Any,
    base: Any,
    mask: Any,
    weight: Any,
    inverse: Any,
    inverse_error: Any,
    apart: Any,
    memory: Any,
    place: Any,
) -> Any:
    """The sums with eight logits' exponentials, which are also kept in ``memory``."""
    value = present(x, (row, at), count, mask, weight)
    t, t_error = distance(value, base, inverse, inverse_error)
    e, e_error = exponential(t, t_error, inverse)
    if memory is not None:
        store(memory, (0, place), kept(e, e_error))
    here = weight_of(weight, (row, at), count)
    return add_term(sums, e, e_error, is_one(t, apart), here, inverse_error)


@inlined
def _reduce_block(
    x: Any,
    row: Any,
    start: Any,
    stop: Any,
    shift: Any,
    mask: Any,
    weight: Any,
    inverse: Any,
    inverse_error: Any,
    apart: Any,
    memory: Any,
    out: Any,
) -> Any:
    """The total (ones, high, low) of a block, and its exponentials in ``memory``.

    ``apart``: whether the logarithm of the total is wanted, so that the terms that are 1 are
    summed apart from the others. ``memory``: None, or where the exponentials are kept.
    ``out``: None, or what will be written next.
    """
    whole = start + (stop - start) // WIDTH * WIDTH
    rest = stop - whole
    base = anchor(shift)

    sums = spread(0.0), spread(0.0), spread(0.0)
    pairs = start + (whole - start) // (2 * WIDTH) * (2 * WIDTH)
    for at in range(start, pairs, 2 * WIDTH):
        if out is not None:
            # Memory works while the exponentials are computed: 1.05x on 16384 rows of 1000.
            prefetch(out, (row, at), True)
            prefetch(x, (row + 1, at), False)
        sums = _add(
            sums, x, row, at, None, base, mask, weight, inverse, inverse_error,
            apart, memory, at - start,
        )  # fmt: skip
        sums = _add(
            sums, x, row, at + WIDTH, None, base, mask, weight, inverse, inverse_error,
            apart, memory, at + WIDTH - start,
        )  # fmt: skip
    if pairs < whole:
        sums = _add(
            sums, x, row, pairs, None, base, mask, weight, inverse, inverse_error,
            apart, memory, pairs - start,
        )  # fmt: skip
    if rest > 0:
        sums = _add(
            sums, x, row, whole, rest, base, mask, weight, inverse, inverse_error,
            apart, memory, whole - start,
        )  # fmt: skip
    ones, high, low = tree_total(
        _of_lane(sums, 0),
        _of_lane(sums, 1),
        _of_lane(sums, 2),
        _of_lane(sums, 3),
        _of_lane(sums, 4),
        _of_lane(sums, 5),
        _of_lane(sums, 6),
        _of_lane(sums, 7),
        inverse_error,
    )
    if shift == INFINITY:
        high = _infinite_total(x, row, start, stop, mask, weight)
        ones = low = 0.0
    return ones, high, low


@inlined
def _reduce_row(
    x: Any,
    row: Any,
    mask: Any,
    weight: Any,
    inverse: Any,
    inverse_error: Any,
    apart: Any,
) -> Any:
    """(shift, ones, high, low) of a row: its blocks' pairs, merged from left to right."""
    length = x.shape[1]
    pair = -INFINITY, 0.0, 0.0, 0.0
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        shift = _largest(x, row, start, stop, mask, weight)
        ones, high, low = _reduce_block(
            x, row, start, stop, shift, mask, weight, inverse, inverse_error, apart, None, None
        )
        block = shift, ones, high, low
        if start == 0:
            pair = block
        else:
            pair = merge(pair, block, weight, inverse, inverse_error)
    return pair


# What a result is made of: (x, memory, row, at, count, shift, a, a_low, inverse, inverse_error),
# where ``a`` is 1 / total or log(total). ``count`` is None for eight results.


@inlined
def _kept_probability(
    x: Any,
    memory: Any,
    row: Any,
    at: Any,
    count: Any,
    shift: Any,
    c: Any,
    c_low: Any,
    inverse: Any,
    inverse_error: Any,
) -> Any:
    """From the exponentials that the sum left in memory: rows of one block."""
    return probability(load(memory, (0, at)), c, c_low)


@inlined
def _new_probability(
    x: Any,
    memory: Any,
    row: Any,
    at: Any,
    count: Any,
    shift: Any,
    c: Any,
    c_low: Any,
    inverse: Any,
    inverse_error: Any,
) -> Any:
    """From the logits: longer rows, for which memory would be as slow as computing again."""
    value = present(x, (row, at), count, None, None)
    t, t_error = distance(value, shift, inverse, inverse_error)
    e, e_error = exponential(t, t_error, inverse)
    return probability(kept(e, e_error), c, c_low)


@inlined
def _log_probability(
    x: Any,
    memory: Any,
    row: Any,
    at: Any,
    count: Any,
    shift: Any,
    log_total: Any,
    error: Any,
    inverse: Any,
    inverse_error: Any,
) -> Any:
    value = present(x, (row, at), count, None, None)
    t, t_error = distance(value, shift, inverse, inverse_error)
    return log_probability(t, t_error, inverse, log_total, error)


@inlined
def _unmasked(value: Any, mask: Any, row: Any, at: Any, count: Any, absent: float) -> Any:
    """``value`` where the mask lets it through, else ``absent``."""
    if mask is None:
        return value
    else:
        return select(load_mask(mask, (row, at), count), value, absent)


@inlined
def _map_row(
    formula: Any,
    x: Any,
    memory: Any,
    out: Any,
    row: Any,
    shift: Any,
    a: Any,
    a_low: Any,
    inverse: Any,
    inverse_error: Any,
    mask: Any,
    absent: float,
) -> None:
    """A row of results by ``formula``; ``absent`` where the mask leaves out."""
    # Stores past the cache lost here: 6.0 ms against 5.1 for 16384 rows of 1000, even with each
    # row's ragged end kept for the next one. The exponentials, not the stores, take the time.
    whole = x.shape[1] // WIDTH * WIDTH
    for at in range(0, whole, WIDTH):
        value = formula(x, memory, row, at, None, shift, a, a_low, inverse, inverse_error)
        store(out, (row, at), _unmasked(value, mask, row, at, WIDTH, absent))
    rest = x.shape[1] - whole
    if rest > 0:
        value = formula(x, memory, row, whole, rest, shift, a, a_low, inverse, inverse_error)
        store_part(out, (row, whole), rest, _unmasked(value, mask, row, whole, rest, absent))


@kernel
def softmax_rows(x: Any, out: Any, temperature: Any, mask: Any, first: int, last: int) -> None:
    """softmax of each row."""
    length = x.shape[1]
    if length <= BLOCK:
        memory = scratch(_kept_type(x), 1, BLOCK)
        following = _largest(x, first, 0, length, mask, None)
        for row in range(first, last):
            inverse, inverse_error = reciprocal(x, temperature[row])
            shift = following
            total = _reduce_block(
                x, row, 0, length, shift, mask, None, inverse, inverse_error, None, memory, out
            )
            c, c_low = reciprocal_total(total, inverse_error)
            # The next row's maximum is found while this row's total is on its way: 1.1x.
            if row + 1 < last:
                following = _largest(x, row + 1, 0, length, mask, None)
            _map_row(
                _kept_probability,
                x, memory, out, row, shift, c, c_low, inverse, inverse_error, mask, 0.0,
            )  # fmt: skip
    else:
        for row in range(first, last):
            inverse, inverse_error = reciprocal(x, temperature[row])
            shift, ones, high, low = _reduce_row(x, row, mask, None, inverse, inverse_error, None)
            c, c_low = reciprocal_total((ones, high, low), inverse_error)
            _map_row(
                _new_probability,
                x, None, out, row, shift, c, c_low, inverse, inverse_error, mask, 0.0,
            )  # fmt: skip


@kernel
def log_softmax_rows(x: Any, out: Any, temperature: Any, mask: Any, first: int, last: int) -> None:
    """log_softmax of each row."""
    for row in range(first, last):
        inverse, inverse_error = reciprocal(x, temperature[row])
        shift, ones, high, low = _reduce_row(
            x, row, mask, None, inverse, inverse_error, wants_ones(None)
        )
        high, low = in_two_parts((ones, high, low))
        log_total, error = logarithm(high, low, unit_exponent(None, inverse_error))
        _map_row(
            _log_probability,
            x, None, out, row, shift, log_total, error, inverse, inverse_error, mask, -INFINITY,
        )  # fmt: skip


@kernel
def logsumexp_rows(
    x: Any, out: Any, sign: Any, mask: Any, weight: Any, first: int, last: int
) -> None:
    """log|sum(weight * exp(x))| of each row, and the sum's sign."""
    inverse, inverse_error = reciprocal(x, 1.0)
    for row in range(first, last):
        shift, ones, high, low = _reduce_row(
            x, row, mask, weight, inverse, inverse_error, wants_ones(weight)
        )
        high, low = in_two_parts((ones, high, low))
        if weight is not None:
            sign[row] = np.sign(high)
            if high < 0.0:
                high, low = -high, -low
        value = logsumexp_of(shift, high, low, unit_exponent(weight, inverse_error))
        store_part(out, (row,), 1, spread(value))
