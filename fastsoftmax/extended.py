"""Complex numbers and long double: the same formulas in NumPy, for which there is no kernel.

The largest term (by real part) is kept out of the sum of the others, so that the logarithm of
1 + tiny is tiny.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastsoftmax.arithmetic.formulas import Formula

Array = np.ndarray[Any, Any]
Axes = tuple[int, ...]


class _Parts(NamedTuple):
    """Rows less ``offset``, and their total: leading + others is its ratio to exp(shift)."""

    rows: Array
    offset: Array | float
    shift: Array
    leading: Array
    others: Array


def _reduce(rows: Array, axes: Axes, weight: Array | None, offset: Array | float) -> _Parts:
    """The leading term and the sum of the others along ``axes``, which are kept at length 1."""
    # One axis at the end holds a row: a maximum's place is then a single index.
    kept = [axis for axis in range(rows.ndim) if axis not in axes]
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(rows.shape))
    flat = rows.transpose([*kept, *axes]).reshape(*(rows.shape[axis] for axis in kept), -1)
    place = np.argmax(np.nan_to_num(flat.real, nan=np.inf), axis=-1, keepdims=True)
    shift = np.take_along_axis(flat, place, axis=-1)
    # An infinite shift would leave only NaN: such rows are summed as they are.
    shift = np.where(np.isfinite(shift), shift, 0)
    terms = np.exp(flat - shift)
    if weight is not None:
        terms = terms * weight.transpose([*kept, *axes]).reshape(flat.shape)
    leading = np.take_along_axis(terms, place, axis=-1)
    np.put_along_axis(terms, place, 0, axis=-1)
    others = terms.sum(axis=-1, keepdims=True)
    return _Parts(rows, offset, *(part.reshape(shape) for part in (shift, leading, others)))


def _log_total(part: _Parts) -> Array:
    """log(leading + others), which are not added where one is all but lost in the other."""
    ratio: Array = part.others / part.leading
    small = np.isfinite(ratio) & (np.abs(ratio) < 0.5)
    log_of_parts = np.log(part.leading) + np.log1p(np.where(small, ratio, 0))
    return np.where(small, log_of_parts, np.log(part.leading + part.others))


def _softmax(part: _Parts) -> Any:
    total = part.leading + part.others
    return np.exp(part.rows - part.shift) / np.where(np.isfinite(total), total, np.nan)


def _log_softmax(part: _Parts) -> Any:
    return (part.rows - part.shift) - _log_total(part)


def _logsumexp(part: _Parts) -> Any:
    result = part.offset + (part.shift + _log_total(part))
    if result.dtype.kind != "c":
        return result
    # The same angle in (-pi, pi], untouched where it is there already.
    angle = result.imag
    wrapped = np.pi - (np.pi - angle) % (2 * np.pi)
    return result.real + 1j * np.where(np.abs(angle) < np.pi, angle, wrapped)


def _entropy(part: _Parts) -> Any:
    p = _softmax(part)
    reduced = tuple(axis for axis, size in enumerate(part.leading.shape) if size == 1)
    means = np.where(p == 0, 0, p * (part.shift - part.rows)).sum(axis=reduced, keepdims=True)
    return _log_total(part) + means


_FORMULAS = {
    "softmax": _softmax, "log_softmax": _log_softmax, "logsumexp": _logsumexp, "entropy": _entropy
}  # fmt: skip


def computed(
    formula: Formula, x: Array, axes: Axes, temperature: Array | None, mask: Array | None
) -> Array:
    """A formula of x / temperature along ``axes``; one number a row has these at length 1."""
    with np.errstate(all="ignore"):
        rows = x if mask is None else np.where(mask, x, -np.inf)
        # In twice single precision at least: a temperature may be out of complex64's range.
        rows = rows.astype(np.promote_types(x.dtype, np.float64))
        offset: Array | float = 0.0
        if temperature is not None:
            # Differences first: a small temperature would make infinities of the logits.
            top = rows.real.max(axis=axes, keepdims=True)
            top = np.where(np.isfinite(top), top, 0)
            rows, offset = _divided(rows - top, temperature), top / temperature
        result = _FORMULAS[formula.name](_reduce(rows, axes, None, offset))
        if formula.mapped and mask is not None:
            result = np.where(mask, result, formula.absent)
        return np.asarray(result, x.dtype)


def _divided(x: Array, temperature: Array) -> Any:
    # Part by part: a complex quotient has NaN beside an infinite part.
    real = x.real / temperature
    return real + 1j * (x.imag / temperature) if x.dtype.kind == "c" else real


def weighted(x: Array, axes: Axes, mask: Array | None, weight: Array | None) -> tuple[Array, Array]:
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
        part = _reduce(x, axes, weight, 0.0)
        total = part.leading + part.others
        if x.dtype.kind != "c":
            sign = np.sign(total)
            # Only a leading term that is positive once signed leaves log1p its argument above -1.
            signed = part._replace(leading=sign * part.leading, others=sign * part.others)
            return _logsumexp(signed), sign
        result = _logsumexp(part)
        sign = np.exp(1j * result.imag)
        sign = np.where(total == 0, 0, np.where(np.isnan(total), np.nan, sign))
        return result, sign.astype(x.dtype)
