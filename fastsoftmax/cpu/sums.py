"""Sums of products in float64 that have no order: rows of x times rows of weights, and all of x.

The largest product fixes a grid, and what it leaves out a finer one; counts of steps are integers,
as in arithmetic/pairs.py, but relative to a power that the caller chooses, so that the counts of
many rows can be added, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    INT64,
    State,
    Value,
    Variables,
    bits_of,
    fma,
    folded,
    from_bits,
    larger,
    loop,
    number,
    select,
    smaller,
    sum_of,
    wide,
)
from fastsoftmax.cpu.batch import KERNELS
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.sizes import CHUNK
from fastsoftmax.cpu.target import CPU

# Lanes of two vectors.
_WIDTH = 16
# Added, it rounds to an integer and leaves it in the lowest bits.
_TO_INTEGER = 1.5 * 2.0**52
_BITS = int(np.float64(_TO_INTEGER).view(np.int64))
# Steps of a grid below the next coarser one's.
_FINER = 48
FINER = 2.0**_FINER


class _Products(NamedTuple):
    """A row's numbers times its weights, in float64; 0 where a weight is."""

    x: Array
    weight: Array | None
    row: Any

    def over(
        self, start: Any, stop: Any, state: State, body: Callable[[Value, State], State]
    ) -> State:
        """The state after all lanes, of which past ``stop`` all are 0."""
        variables, whole = Variables(*state), start + (stop - start) // _WIDTH * _WIDTH
        for first, last, partial in (start, whole, False), (whole, stop, True):
            for at in loop(first, last, _WIDTH):
                value = self._load(at, stop - at if partial else None)
                variables.set(*body(value, variables.get()))
        return variables.get()

    def _load(self, at: Value, count: Any) -> Value:
        value = wide(self.x.load((self.row, at), _WIDTH, count))
        if self.weight is None:
            return value
        factor = wide(self.weight.load((self.row, at), _WIDTH, count))
        return select(factor == 0.0, 0.0, value * factor)


def _largest(
    x: Array, weight: Array | None, out: Array, slot: Value, first: Value, last: Value
) -> None:
    """The largest product's size of each row; NaN where one is not finite."""

    def body(value: Value, state: State) -> State:
        size = from_bits(bits_of(value) & 0x7FFFFFFFFFFFFFFF)
        return [larger(size, state[0]), state[1] + (value - value)]

    def merge(a: State, b: State) -> State:
        return [larger(a[0], b[0]), a[1] + b[1]]

    for row in loop(first, last):
        nothing = [number(0.0, DOUBLE, _WIDTH)] * 2
        found = _Products(x, weight, row).over(0, x.shape[1], nothing, body)
        top, wrong = folded(found, merge, None)
        out.store((row,), top + wrong)


def _counts(
    x: Array, weight: Array | None, scale: Array, out: Array, slot: Value, first: Value, last: Value
) -> None:
    """What each row's products times its scale count on the grid of integers and the finer one."""
    for row in loop(first, last):
        factor, totals = scale.one(row), Variables(*[number(0, INT64)] * 2)

        def body(value: Value, state: State, factor: Value = factor) -> State:
            value = value * factor
            a = value + _TO_INTEGER
            b = fma(value - (a - _TO_INTEGER), FINER, _TO_INTEGER)
            return [state[0] + bits_of(a), state[1] + bits_of(b)]

        for start in loop(0, x.shape[1], CHUNK):
            stop = smaller(start + CHUNK, x.shape[1])
            nothing = [number(0, INT64, _WIDTH)] * 2
            found = _Products(x, weight, row).over(start, stop, nothing, body)
            # Integers wrap around, and back.
            steps = (stop - start + (_WIDTH - 1)) // _WIDTH * _WIDTH * _BITS
            high, low = (
                total + (sum_of(n) - steps) for total, n in zip(totals.get(), found, strict=True)
            )
            # What the finer grid has of the coarser one's steps: else it holds 2**16 numbers.
            carried = low >> _FINER
            totals.set(high + carried, low - (carried << _FINER))
        for k, count in enumerate(totals.get()):
            out.store((row, k), count)


_ENDS = "slot", "first", "last"
KERNELS["largest_products"] = generated(_largest, ("x", "weight", "out", *_ENDS), CPU)
KERNELS["counted_products"] = generated(_counts, ("x", "weight", "scale", "out", *_ENDS), CPU)
