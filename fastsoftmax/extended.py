"""Complex numbers and long double: the same formulas in NumPy, for which there is no kernel.

The largest term (by real part) is kept out of the sum of the others, so that the logarithm of
1 + tiny is tiny.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Axes = tuple[int, ...]


class _Normalizer(NamedTuple):
    """log(total) is log(leading) + log1p(others / leading), relative to ``shift``."""

    shift: Array
    leading: Array
    others: Array


def _largest(x: Array, axes: Axes) -> Array:
    """The largest real part along ``axes``, kept at length 1; 0 where that is infinite or NaN."""
    top = x.real.max(axis=axes, keepdims=True)
    return np.where(np.isfinite(top), top, 0)


def _reduce(x: Array, axes: Axes, weight: Array | None) -> _Normalizer:
    """The leading term and the sum of the others along ``axes``, which are kept at length 1."""
    # One axis at the end holds a row: a maximum's place is then a single index.
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    rows = x.transpose([*kept, *axes]).reshape(*(x.shape[axis] for axis in kept), -1)
    place = np.argmax(np.nan_to_num(rows.real, nan=np.inf), axis=-1, keepdims=True)
    shift = np.take_along_axis(rows, place, axis=-1)
    # An infinite shift would leave only NaN: such rows are summed as they are.
    shift = np.where(np.isfinite(shift), shift, 0)
    terms = np.exp(rows - shift)
    if weight is not None:
        terms = terms * weight.transpose([*kept, *axes]).reshape(rows.shape)
    leading = np.take_along_axis(terms, place, axis=-1)
    np.put_along_axis(terms, place, 0, axis=-1)
    others = terms.sum(axis=-1, keepdims=True)
    return _Normalizer(*(part.reshape(shape) for part in (shift, leading, others)))


def _log_total(leading: Array, others: Array) -> Array:
    """log(leading + others); the two parts are not added where one is all but lost in the other."""
    total = leading + others
    ratio: Array = others / leading
    small = np.isfinite(ratio) & (np.abs(ratio) < 0.5)
    return np.where(small, np.log(leading) + np.log1p(np.where(small, ratio, 0)), np.log(total))


def _principal(angle: Array) -> Array:
    """The same angle in (-pi, pi], untouched where it is there already."""
    wrapped: Array = np.pi - (np.pi - angle) % (2 * np.pi)
    return np.where(np.abs(angle) < np.pi, angle, wrapped)


def normalized(
    function: str, x: Array, axes: Axes, temperature: Array, mask: Array | None
) -> Array:
    """softmax or log_softmax, by name, of x / temperature along ``axes``."""
    log = function == "log_softmax"
    with np.errstate(all="ignore"):
        if mask is not None:
            x = np.where(mask, x, -np.inf)
        # Differences first: a small temperature would make infinities of the logits.
        # In twice single precision at least: a temperature may be out of complex64's range.
        shifted = x - _largest(x, axes)
        scaled = shifted.astype(np.promote_types(x.dtype, np.float64)) / temperature
        shift, leading, others = _reduce(scaled, axes, None)
        result: Array
        if log:
            result = (scaled - shift) - _log_total(leading, others)
        else:
            total = leading + others
            result = np.exp(scaled - shift) / np.where(np.isfinite(total), total, np.nan)
        if mask is not None:
            result = np.where(mask, result, -np.inf if log else 0)
    return result.astype(x.dtype, copy=False)


def logsumexp(
    x: Array, axes: Axes, mask: Array | None, weight: Array | None
) -> tuple[Array, Array]:
    """log|sum(weight * exp(x))| and the sum's sign along ``axes``, kept at length 1.

    For complex numbers the sign is sum / |sum|.
    """
    with np.errstate(all="ignore"):
        if mask is not None:
            x = np.where(mask, x, -np.inf)
            weight = None if weight is None else np.where(mask, weight, 0)
        if weight is not None:
            weight = np.broadcast_to(weight, x.shape)
            x = np.where(weight == 0, -np.inf, x)
        shift, leading, others = _reduce(x, axes, weight)
        if x.dtype.kind == "c":
            log_total = _log_total(leading, others) + shift
            log_total = log_total.real + 1j * _principal(log_total.imag)
            sign = np.exp(1j * log_total.imag)
            total = leading + others
            sign = np.where(total == 0, 0, np.where(np.isnan(total), np.nan, sign))
            return log_total, sign.astype(x.dtype)
        total = leading + others
        sign = np.sign(total)
        # Only a leading term that is positive once signed leaves log1p its argument above -1.
        return shift + _log_total(sign * leading, sign * others), sign
