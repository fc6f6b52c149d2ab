"""The softmaxes that people post, as they are posted: what "numpy_*" among the subjects means."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def numpy_naive(x: Array) -> Array:
    """Without a shift; the classes run down the columns."""
    return np.asarray(np.exp(x) / np.sum(np.exp(x), axis=0))


def numpy_global_max(x: Array) -> Array:
    """Maximum and sum over the whole array, whatever its shape."""
    exponentials = np.exp(x - np.max(x))
    return np.asarray(exponentials / exponentials.sum())


def numpy_stable(x: Array, axis: int = -1) -> Array:
    """Maximum and sum along the axis."""
    exponentials = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return np.asarray(exponentials / np.sum(exponentials, axis=axis, keepdims=True))


def numpy_rows(x: Array) -> Array:
    """The same for rows only: a vector has no axis 1."""
    exponentials = np.exp(x - np.max(x, axis=1, keepdims=True))
    return np.asarray(exponentials / np.sum(exponentials, axis=1, keepdims=True))


def numpy_overwriting(x: Array) -> Array:
    """A branch for matrices and one for vectors; the shift is written into the argument."""
    if len(x.shape) > 1:
        x -= np.max(x, axis=1, keepdims=True)
        x = np.exp(x)
        x /= np.sum(x, axis=1, keepdims=True)
    else:
        x -= np.max(x)
        x = np.exp(x)
        x /= np.sum(x)
    return x
