"""Kernels for rows that are contiguous and longer than a block.

A row is cut, mostly into blocks. Each cut has its own maximum as its shift, and its pair is noted;
then all pairs are taken together. So a cut's second reading comes from a near cache, and several
threads can share one row, cut by cut: its bits are the same as when one thread does it all. Where
the result's type can hold them, a cut's exponentials are left in the result until the row's total
is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastsoftmax.cpu.exponential import SCALE_EXPONENT, constants_of, exponential
from fastsoftmax.cpu.jit import chosen, inlined, kernel
from fastsoftmax.cpu.lanes import fma, select, spread, wide
from fastsoftmax.cpu.memory import borrow, give_back, load_part, load_wide, store, store_part
from fastsoftmax.cpu.normalizer import (
    INFINITY,
    add_normal,
    distance,
    in_two_parts,
    log_probability,
    logsumexp_of,
    probability,
    reciprocal,
    rescaled_total,
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
def _reduce_cut(
    x: Any, row: Any, cut: Any, shift: Any, mask: Any, weight: Any, inverse: Any,
    inverse_error: Any, apart: Any, keep: Any, pairs: Any, line: Any,
) -> None:  # fmt: skip
    """The pair (shift, ones, high, low) of a cut, into a line of ``pairs``."""
    first, last = _ends(x, cut)
    total = 0.0, 0.0, 0.0
    for start in range(first, last, BLOCK):
        block = total_of(
            x, row, start, min(start + BLOCK, last), shift, mask, weight, inverse, inverse_error,
            apart, keep, row, start, keep, 0, last - first,
        )  # fmt: skip
        total = add_normal(total, block, inverse_error)
    pairs[line, 0] = shift
    pairs[line, 1], pairs[line, 2], pairs[line, 3] = total


@inlined
def _largest(x: Any, row: Any, cuts: Any, mask: Any, weight: Any) -> Any:
    """The shift of a whole row: equal logits shall have equal results, in whichever cut."""
    shift = -INFINITY
    for cut in range(cuts):
        first, last = _ends(x, cut)
        shift = larger(largest_of(x, row, first, last, mask, weight), shift)
    return shift


@inlined
def together(
    pair_at: Any, pairs: Any, first: Any, cuts: Any, weight: Any, inverse: Any, inverse_error: Any
) -> Any:
    """The pair of all cuts, which are ``pair_at(pairs, cut, first)``.

    Each is rescaled once, to the largest shift: errors of rescaling do not add up.
    """
    shift, _, _, _ = pair_at(pairs, 0, first)
    for cut in range(1, cuts):
        own, _, _, _ = pair_at(pairs, cut, first)
        shift = larger(own, shift)
    total = rescaled_total(pair_at(pairs, 0, first), shift, weight, inverse, inverse_error)
    for cut in range(1, cuts):
        here = rescaled_total(pair_at(pairs, cut, first), shift, weight, inverse, inverse_error)
        total = add_normal(total, here, inverse_error)
    return shift, total[0], total[1], total[2]


@inlined
def _pair_at(pairs: Any, cut: Any, first: Any) -> Any:
    line = first + cut
    return pairs[line, 0], pairs[line, 1], pairs[line, 2], pairs[line, 3]


@chosen
def rescaling(
    own: Any, shift: Any, a: Any, a_low: Any, inverse: Any, inverse_error: Any, constants: Any
) -> Any:
    """1 / total in two parts, for exponentials relative to a cut's own shift, and a power of two
    that is to be multiplied last."""

    def narrow(
        own: Any, shift: Any, a: Any, a_low: Any, inverse: Any, inverse_error: Any, constants: Any
    ) -> Any:
        same = own == shift
        t, _ = distance(own, shift, inverse, inverse_error)
        e, _ = exponential(select(same, 0.0, t), None, inverse, constants)
        return a * e, a_low, 1.0

    def double(
        own: Any, shift: Any, a: Any, a_low: Any, inverse: Any, inverse_error: Any, constants: Any
    ) -> Any:
        same = own == shift
        t, t_error = distance(own, shift, inverse, inverse_error)
        e, e_error = exponential(
            select(same, 0.0, t), select(same, 0.0, t_error), inverse, constants
        )
        product = a * e
        rest = fma(a, e, -product) + fma(a, e_error, a_low * e)
        down = select(same, 1.0, 2.0**-SCALE_EXPONENT)
        return select(same, a, product), select(same, a_low, rest), down

    return narrow if inverse_error is types.none else double


@chosen
def rescaled(e: Any, a: Any, a_low: Any, down: Any, inverse_error: Any) -> Any:
    """A probability from what ``rescaling`` gave."""
    if inverse_error is types.none:
        return lambda e, a, a_low, down, inverse_error: e * a
    return lambda e, a, a_low, down, inverse_error: probability(e, a, a_low, inverse_error) * down


@inlined
def _again(value: Any, base: Any, inverse: Any, inverse_error: Any, constants: Any) -> Any:
    t, t_error = distance(value, base, inverse, inverse_error)
    e, _ = exponential(t, t_error, inverse, constants)
    return e


@inlined
def _map_probabilities(
    x: Any, out: Any, row: Any, cut: Any, pair: Any, own: Any, inverse: Any, inverse_error: Any,
    mask: Any, keep: Any,
) -> None:  # fmt: skip
    """The probabilities of a cut of a row whose pair is known."""
    shift, ones, high, low = pair
    constants = constants_of(inverse_error)
    a, a_low = reciprocals_of_totals((ones, high, low), inverse_error)
    a, a_low, down = rescaling(own, shift, a, a_low, inverse, inverse_error, constants)
    first, last = _ends(x, cut)
    wides = first + (last - first) // WIDE * WIDE
    for at in range(first, wides, WIDE):
        if keep is None:
            e = _again(load_wide(x, (row, at), WIDE), own, inverse, inverse_error, constants)
        else:
            e = wide(load_wide(keep, (row, at), WIDE))
        value = rescaled(e, a, a_low, down, inverse_error)
        store(out, (row, at), unmasked_wide(value, mask, (row, at), 0.0))
    for at in range(wides, last, WIDTH):
        count = min(WIDTH, last - at)
        if keep is None:
            value = load_part(x, (row, at), count, 0.0)
            e = _again(value, own, inverse, inverse_error, constants)
        else:
            e = wide(load_part(keep, (row, at), count, 0.0))
        value = rescaled(e, a, a_low, down, inverse_error)
        store_part(out, (row, at), count, unmasked(value, mask, (row, at), count, 0.0))


@inlined
def _map_logarithms(
    x: Any, out: Any, row: Any, cut: Any, pair: Any, inverse: Any, inverse_error: Any, mask: Any
) -> None:
    """Their logarithms."""
    shift, ones, high, low = pair
    a, a_low = logarithms_of_totals((ones, high, low), inverse_error)
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
    x: Any, out: Any, sign: Any, weight: Any, row: Any, pair: Any, inverse_error: Any
) -> None:
    """The logarithm of a row's sum, and its sign."""
    shift, ones, high, low = pair
    high, low = in_two_parts((spread(ones), spread(high), spread(low)))
    high, low = magnitude_and_sign(sign, (row,), 1, high, low)
    value = logsumexp_of(shift, high, low, unit_exponent(weight, inverse_error))
    store_part(out, (row,), 1, value)


@kernel
def softmax_long(x: Any, out: Any, temperature: Any, mask: Any, first: int, last: int) -> None:
    """softmax of each row."""
    cuts = number_of_cuts(x.shape[1])
    pairs, loan = borrow(np.float64, cuts)
    keep = keeper(out)
    for row in range(first, last):
        inverse, inverse_error = reciprocal(x, temperature[row])
        shift = _largest(x, row, cuts, mask, None)
        for cut in range(cuts):
            _reduce_cut(
                x, row, cut, shift, mask, None, inverse, inverse_error, None, keep, pairs, cut
            )
        pair = together(_pair_at, pairs, 0, cuts, None, inverse, inverse_error)
        for cut in range(cuts):
            _map_probabilities(
                x, out, row, cut, pair, pairs[cut, 0], inverse, inverse_error, mask, keep
            )
    give_back(loan)


@kernel
def log_softmax_long(x: Any, out: Any, temperature: Any, mask: Any, first: int, last: int) -> None:
    """log_softmax of each row."""
    cuts = number_of_cuts(x.shape[1])
    pairs, loan = borrow(np.float64, cuts)
    for row in range(first, last):
        inverse, inverse_error = reciprocal(x, temperature[row])
        shift = _largest(x, row, cuts, mask, None)
        for cut in range(cuts):
            _reduce_cut(
                x, row, cut, shift, mask, None, inverse, inverse_error, True, None, pairs, cut
            )
        pair = together(_pair_at, pairs, 0, cuts, None, inverse, inverse_error)
        for cut in range(cuts):
            _map_logarithms(x, out, row, cut, pair, inverse, inverse_error, mask)
    give_back(loan)


@kernel
def logsumexp_long(
    x: Any, out: Any, sign: Any, mask: Any, weight: Any, first: int, last: int
) -> None:
    """log|sum(weight * exp(x))| of each row, and the sum's sign."""
    cuts = number_of_cuts(x.shape[1])
    pairs, loan = borrow(np.float64, cuts)
    inverse, inverse_error = reciprocal(x, 1.0)
    for row in range(first, last):
        shift = _largest(x, row, cuts, mask, weight)
        for cut in range(cuts):
            _reduce_cut(
                x, row, cut, shift, mask, weight, inverse, inverse_error, wants_ones(weight), None,
                pairs, cut,
            )  # fmt: skip
        pair = together(_pair_at, pairs, 0, cuts, weight, inverse, inverse_error)
        _write_sum(x, out, sign, weight, row, pair, inverse_error)
    give_back(loan)


# Few rows, shared by all threads: all cuts' maxima are found, then all cuts are reduced, then all
# are mapped. Their pairs are lines of ``pairs`` (rows * cuts, 5) in between, whose last column are
# the maxima.


@kernel
def maxima_of_cuts(x: Any, mask: Any, weight: Any, pairs: Any, first: int, last: int) -> None:
    """The maxima of cuts first to last, counted through all rows."""
    cuts = number_of_cuts(x.shape[1])
    for item in range(first, last):
        start, stop = _ends(x, item % cuts)
        pairs[item, 4] = largest_of(x, item // cuts, start, stop, mask, weight)


@kernel
def reduce_cuts(
    x: Any, out: Any, temperature: Any, mask: Any, weight: Any, apart: Any, pairs: Any,
    first: int, last: int,
) -> None:  # fmt: skip
    """The pairs of cuts first to last, counted through all rows.

    ``apart`` as in rows.py; ``out``: None, or where exponentials may be kept.
    """
    cuts = number_of_cuts(x.shape[1])
    shift = -INFINITY
    for item in range(first, last):
        row, cut = item // cuts, item % cuts
        inverse, inverse_error = reciprocal(x, temperature[row])
        if item == first or cut == 0:
            shift = -INFINITY
            for line in range(row * cuts, row * cuts + cuts):
                shift = larger(pairs[line, 4], shift)
        if out is None:
            _reduce_cut(
                x, row, cut, shift, mask, weight, inverse, inverse_error, apart, None, pairs, item
            )
        else:
            _reduce_cut(
                x, row, cut, shift, mask, weight, inverse, inverse_error, apart, keeper(out),
                pairs, item,
            )  # fmt: skip


@kernel
def softmax_cuts(
    x: Any, out: Any, temperature: Any, mask: Any, pairs: Any, first: int, last: int
) -> None:
    """softmax of cuts first to last, counted through all rows."""
    cuts = number_of_cuts(x.shape[1])
    pair = 0.0, 0.0, 0.0, 0.0
    for item in range(first, last):
        row, cut = item // cuts, item % cuts
        inverse, inverse_error = reciprocal(x, temperature[row])
        if item == first or cut == 0:
            pair = together(_pair_at, pairs, row * cuts, cuts, None, inverse, inverse_error)
        _map_probabilities(
            x, out, row, cut, pair, pairs[item, 0], inverse, inverse_error, mask, keeper(out)
        )


@kernel
def log_softmax_cuts(
    x: Any, out: Any, temperature: Any, mask: Any, pairs: Any, first: int, last: int
) -> None:
    """log_softmax of cuts first to last, counted through all rows."""
    cuts = number_of_cuts(x.shape[1])
    pair = 0.0, 0.0, 0.0, 0.0
    for item in range(first, last):
        row, cut = item // cuts, item % cuts
        inverse, inverse_error = reciprocal(x, temperature[row])
        if item == first or cut == 0:
            pair = together(_pair_at, pairs, row * cuts, cuts, None, inverse, inverse_error)
        _map_logarithms(x, out, row, cut, pair, inverse, inverse_error, mask)


@kernel
def logsumexp_cuts(
    x: Any, out: Any, sign: Any, weight: Any, pairs: Any, first: int, last: int
) -> None:
    """log|sum(weight * exp(x))| of each row, and the sum's sign, from its cuts' pairs."""
    cuts = number_of_cuts(x.shape[1])
    inverse, inverse_error = reciprocal(x, 1.0)
    for row in range(first, last):
        pair = together(_pair_at, pairs, row * cuts, cuts, weight, inverse, inverse_error)
        _write_sum(x, out, sign, weight, row, pair, inverse_error)
