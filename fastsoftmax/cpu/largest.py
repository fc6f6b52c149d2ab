"""The largest probabilities of any rows: by kernels, or in NumPy where these cannot choose.

Kernels choose up to `MOST_CHOSEN` of contiguous rows. Columns are turned into rows, so many at a
time as stay in a cache; more are chosen by a partition.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastsoftmax.arithmetic.formulas import LABEL_PROBABILITIES, TOP_K
from fastsoftmax.cpu import plan
from fastsoftmax.cpu.sizes import MOST_CHOSEN

Array = np.ndarray[Any, Any]

# Logits at a time: 1 MiB of float32, which stays in the second cache.
_AT_ONCE = 1 << 18


def compute(
    x: Array, out: Array, temperature: Array | None, mask: Array | None, labels: Array
) -> None:
    """The probabilities of the largest logits, and their labels; see batch.py for arguments."""
    if x.ndim == 3:
        _of_columns(x, out, temperature, mask, labels)
    elif len(labels) <= MOST_CHOSEN:
        plan.compute(TOP_K, x, out, temperature, mask, labels)
    else:
        for part in _slices(len(x), x.shape[1]):
            values = plan.numbers_of(x[part])
            if mask is not None:
                values = np.where(mask[part], values, -np.inf)
            labels[:, part] = places(values, len(labels)).T
        plan.compute(LABEL_PROBABILITIES, x, out, temperature, mask, labels)


def _of_columns(
    x: Array, out: Array, temperature: Array | None, mask: Array | None, labels: Array
) -> None:
    for o in range(len(x)):
        for part in _slices(x.shape[2], x.shape[1]):
            seen, counted = (
                None if each is None else np.ascontiguousarray(each[o, :, part].T)
                for each in (x, mask)
            )
            assert seen is not None
            made = np.empty((len(labels), len(seen)), x.dtype)
            found = np.empty(made.shape, np.int64)
            numbers = None if temperature is None else temperature[o, part]
            compute(seen, made, numbers, counted, found)
            out[:, o, part], labels[:, o, part] = made, found


def _slices(count: int, length: int) -> list[slice]:
    step = max(_AT_ONCE // length, 1)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def places(x: Array, several: int) -> Array:
    """Where each row's largest are, in order, of equal ones the first first; NaN is largest."""
    x = np.where(np.isnan(x), np.inf, x)
    bound = np.partition(x, -several, axis=-1)[:, -several, None]
    more, equal = x > bound, x == bound
    left = several - more.sum(axis=-1, keepdims=True)
    taken = more | (equal & (np.cumsum(equal, axis=-1) <= left))
    found = np.nonzero(taken)[1].reshape(len(x), several)
    order = np.argsort(-np.take_along_axis(x, found, -1), axis=-1, kind="stable")
    return np.take_along_axis(found, order, -1)
