"""The best classes, losses and draws, computed from within code that a user has Numba compile.

As in inside.py; rows are always along memory, and copied where they are not: bits do not depend on
that.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types

from fastsoftmax.arithmetic.formulas import LABEL_LOG_PROBABILITIES, TOP_K
from fastsoftmax.cpu import inside, views
from fastsoftmax.cpu.inside import OPTIONS
from fastsoftmax.cpu.launch import ORDINARY, exchange_mode
from fastsoftmax.cpu.sizes import MOST_CHOSEN
from fastsoftmax.cpu.totals import BITS, PIECE, SMALLEST
from fastsoftmax.cpu.views import fill


class _Rows(NamedTuple):
    """How arrays of one type are seen as rows along axes."""

    dtype: Any
    # Axes that the rows do not have, in order.
    kept: tuple[int, ...]
    # ``see(x)``: as (rows, length, 1); ``sizes(shape)``: those of the kept axes, (1,) if none is.
    see: Any
    sizes: Any

    @classmethod
    def of(cls, x: types.Array, axes: tuple[int, ...]) -> _Rows:
        """Of arrays like x along these axes (sorted), together."""
        dtype, ndim = inside.computed_type(x), x.ndim
        kept = tuple(axis for axis in range(ndim) if axis not in axes)
        see = inside.seen(x, dtype, kept + axes, len(kept), ndim)
        return cls(dtype, kept, see, views.picked(kept or (None,)))


@njit(**OPTIONS)
def _check_temperature(temperature: float) -> None:
    """Refuse what is no temperature."""
    if not temperature >= 0:
        raise ValueError("temperature must not be negative or NaN")


def _with_several(rows: _Rows, first: bool) -> Any:
    """``shape_of(x, several)``: the shape of so many results for each row, first or last."""
    sizes = rows.sizes

    def before(x: Any, several: int) -> Any:
        return (np.intp(several), *sizes(x.shape))

    def behind(x: Any, several: int) -> Any:
        return (*sizes(x.shape), np.intp(several))

    def alone(x: Any, several: int) -> Any:
        return (np.intp(several),)

    return njit(**OPTIONS)(alone if not rows.kept else before if first else behind)


def _in_order(order: tuple[int, ...]) -> Any:
    """``arrange(x)``: an array in C order, with its axes in another one."""
    turn = views.turned(order)

    @njit(**OPTIONS)
    def arrange(x: Any) -> Any:
        seen = turn(x)
        copy = np.empty(seen.shape, x.dtype)
        fill(copy, seen)
        return copy

    def itself(x: Any) -> Any:
        return x

    return njit(**OPTIONS)(itself) if order == tuple(range(len(order))) else arrange


@functools.cache
def top_k(x: types.Array, axis: int, tempered: bool) -> Any:
    """``compute(x, k, temperature)``: what `fastsoftmax.top_k` makes of arrays like x."""
    rows = _Rows.of(x, (axis,))
    see, dtype = rows.see, rows.dtype
    run = inside.runner(inside.by_rows(TOP_K), dtype, tempered)
    columns = views.grouped(1, x.ndim)
    arrange = _in_order((*range(1, axis + 1), 0, *range(axis + 1, x.ndim)))
    too_many = f"top_k: k must be at most {MOST_CHOSEN} in compiled code"
    shape_of = _with_several(rows, first=True)

    @njit(**OPTIONS)
    def compute(x: Any, k: int, temperature: float) -> Any:
        if tempered:
            _check_temperature(temperature)
        if k < 1 or k > x.shape[axis]:
            raise ValueError("top_k: k must be from 1 to the number of classes")
        if k > MOST_CHOSEN:
            raise ValueError(too_many)
        seen, shape = see(x), shape_of(x, k)
        probabilities, indices = np.empty(shape, dtype), np.empty(shape, np.int64)
        if seen.size != 0:
            run(seen, columns(probabilities), columns(indices), np.float64(temperature))
        return arrange(probabilities), arrange(indices)

    return compute


@functools.cache
def cross_entropy(x: types.Array, axis: int, reduction: str, tempered: bool) -> Any:
    """``compute(x, target, ignore_index, temperature)``: as `fastsoftmax.cross_entropy` of indices.

    The target is an integer for one row, else an array of them.
    """
    rows = _Rows.of(x, (axis,))
    see, sizes, dtype, single = rows.see, rows.sizes, rows.dtype, not rows.kept
    run = inside.runner(inside.by_rows(LABEL_LOG_PROBABILITIES), dtype, tempered)
    row, number = views.grouped(0, max(x.ndim - 1, 1)), dtype.type

    @njit(**OPTIONS)
    def check(label: int, length: int, ignore_index: int) -> None:
        if label != ignore_index and (label < 0 or label >= length):
            raise ValueError(
                "cross_entropy: target must be classes, from 0 to one below their number"
            )

    # All is checked before arrays are made: Numba does not free those of a function that raises.
    def labels_of_rows(x: Any, target: Any, ignore_index: int) -> Any:
        if target.shape != sizes(x.shape):
            raise ValueError("cross_entropy: target must have the shape of the logits without axis")
        for label in target.flat:
            check(label, x.shape[axis], ignore_index)
        labels = np.empty(target.shape, np.int64)
        fill(labels, target)
        return labels

    def label_of_row(x: Any, target: Any, ignore_index: int) -> Any:
        check(target, x.shape[axis], ignore_index)
        labels = np.empty(1, np.int64)
        labels[0] = target
        return labels

    labels_of = njit(**OPTIONS)(label_of_row if single else labels_of_rows)

    @njit(**OPTIONS)
    def compute(x: Any, target: Any, ignore_index: int, temperature: float) -> Any:
        """The losses, also as (1, rows, 1), and how many are not ignored."""
        if tempered:
            _check_temperature(temperature)
        given = row(labels_of(x, target, ignore_index))
        labels, counted = np.zeros(given.shape, np.int64), 0
        for r in range(given.shape[1]):
            if given[0, r, 0] != ignore_index:
                labels[0, r, 0], counted = given[0, r, 0], counted + 1
        seen, losses = see(x), np.zeros(sizes(x.shape), dtype)
        made = row(losses)
        if seen.size != 0:
            run(seen, made, labels, np.float64(temperature))
        for r in range(given.shape[1]):
            made[0, r, 0] = -made[0, r, 0] if given[0, r, 0] != ignore_index else number(0.0)
        return losses, made, counted

    def losses(x: Any, target: Any, ignore_index: int, temperature: float) -> Any:
        return compute(x, target, ignore_index, temperature)[0]

    def loss(x: Any, target: Any, ignore_index: int, temperature: float) -> Any:
        return compute(x, target, ignore_index, temperature)[0][0]

    def summed(x: Any, target: Any, ignore_index: int, temperature: float) -> Any:
        _, made, _ = compute(x, target, ignore_index, temperature)
        return number(total(made))

    def averaged(x: Any, target: Any, ignore_index: int, temperature: float) -> Any:
        _, made, counted = compute(x, target, ignore_index, temperature)
        return number(total(made) / counted if counted else math.nan)

    none = loss if single else losses
    return njit(**OPTIONS)({"none": none, "sum": summed, "mean": averaged}[reduction])


# Added, it rounds to an integer.
_TO_INTEGER = 1.5 * 2.0**52
_MASK = (1 << BITS) - 1
_FINER = 2.0**BITS
# What is next to nothing is added up exactly: with this power it is below the first digit's range,
# and the fourth digit is finer than the smallest number.
_POWER_OF_SMALLEST = BITS - math.frexp(SMALLEST)[1] + 1


@njit(**OPTIONS)
def total(x: Any) -> float:
    """As `totals.total`, of numbers (1, n, 1)."""
    top = wrong = 0.0
    for r in range(x.shape[1]):
        value = np.float64(x[0, r, 0])
        if value - value != 0:
            wrong += value
        top = max(top, abs(value))
    if wrong != 0:
        return wrong  # infinities and NaN
    power, digits = BITS - math.frexp(top)[1], 2
    if not top > SMALLEST:
        power, digits = _POWER_OF_SMALLEST, 4
    mode = exchange_mode(ORDINARY)
    # Digits of BITS bits, the highest first; that takes what is above the first grid.
    counts, scale = np.zeros(5, np.int64), math.ldexp(1.0, power)
    for r in range(x.shape[1]):
        left = np.float64(x[0, r, 0]) * scale
        for k in range(digits):
            whole = (left + _TO_INTEGER) - _TO_INTEGER
            counts[k + 1] += np.int64(whole)
            left = (left - whole) * _FINER
        if r % PIECE == PIECE - 1:
            _carry(counts, digits)
    _carry(counts, digits)
    # Its first 62 bits, of which the last says whether there are others, round as all would.
    exponent = BITS - power
    for _ in range(BITS * digits + 62):
        if counts[0] >= 1 << 61 or counts[0] < -(1 << 61):
            break
        for k in range(digits + 1):
            counts[k] *= 2
        _carry(counts, digits)
        exponent -= 1
    if counts[1:].any():
        counts[0] |= 1
    result = math.ldexp(np.float64(counts[0]), exponent)
    exchange_mode(mode)
    return result


@njit(**OPTIONS)
def _carry(counts: Any, digits: int) -> None:
    """Have all digits but the first one within 0 and 2**BITS."""
    for k in range(digits, 0, -1):
        counts[k - 1] += counts[k] >> BITS
        counts[k] &= _MASK


@functools.cache
def _draw() -> Any:
    """As `inside.by_rows`, of the kernel that draws: into out, by uniform numbers."""
    kernel = inside.kernel("sample", mapped=False)

    @njit(**OPTIONS)
    def compute(x: Any, out: Any, uniforms: Any, temperature: Any) -> None:
        kernel(x, out, temperature, uniforms, x.shape[0])

    return compute


@functools.cache
def sample(x: types.Array, axes: tuple[int, ...], several: bool, tempered: bool) -> Any:
    """``compute(x, size, rng, temperature)``: what `fastsoftmax.sample` draws of arrays like x.

    Of each row so many if ``several`` are wanted, else one, whatever the size.
    """
    rows = _Rows.of(x, axes)
    see, sizes, kept = rows.see, rows.sizes, len(rows.kept)
    run = inside.runner(_draw(), rows.dtype, tempered)
    columns = views.grouped(kept, kept + several)
    order = tuple(range(kept + several))
    if several and len(axes) == 1:
        order = (*order[: axes[0]], kept, *order[axes[0] : kept])
    arrange = _in_order(order)

    def shape_of_one(x: Any, size: Any) -> Any:
        return sizes(x.shape)

    shape_of = _with_several(rows, first=False) if several else njit(**OPTIONS)(shape_of_one)

    def compute(x: Any, size: Any, rng: Any, temperature: float) -> Any:
        if tempered:
            _check_temperature(temperature)
        if several and size < 0:
            raise ValueError("sample: size must not be negative")
        seen, drawn = see(x), np.empty(shape_of(x, size), np.int64)
        out = columns(drawn)
        if out.size != 0:
            if seen.shape[1] == 0:
                raise ValueError("sample: there are no classes to draw from")
            uniforms = rng.random(out.shape)
            run(seen, out, uniforms, np.float64(temperature))
            for r in range(out.shape[0]):
                if out[r, 0, 0] < 0:
                    raise ValueError(
                        "sample: nothing can be drawn from a row that holds NaN or inf, "
                        "or of which no class is possible"
                    )
        return arrange(drawn)

    def single(x: Any, size: Any, rng: Any, temperature: float) -> Any:
        return many(x, size, rng, temperature)[0]

    many = njit(**OPTIONS)(compute)
    return many if several or kept else njit(**OPTIONS)(single)
