"""How far a subject's results are from the truth, and which kind of error that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verification import references
from verification.calls import call
from verification.errors import FORMATS, Bound, in_ulps, ulp_errors
from verification.exact import Array, Exact
from verification.names import REDUCED
from verification.subjects import Axis, Subject


def rows_of(x: Array, axis: Axis) -> Array:
    """The rows along the reduced axes, as a matrix in float64."""
    x = np.asarray(x).astype(np.float64)
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    moved = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    length = int(np.prod(moved.shape[x.ndim - len(axes) :]))
    count = int(np.prod(moved.shape[: x.ndim - len(axes)]))
    return np.ascontiguousarray(moved).reshape(count, length)


def by_rows(function: str, result: Array, axis: Axis) -> Array:
    """A function's results by rows, as those of its `Truth`."""
    return result.reshape(-1) if function in REDUCED else rows_of(result, axis)


def errors_of(
    function: str, result: Array, found: references.Truth, axis: Axis, dtype: str
) -> tuple[Array, Array]:
    """The errors of a result in ULP, by rows, and their allowance for cancellation."""
    rows = by_rows(function, result, axis)
    errors = ulp_errors(rows, found.of(function), dtype)
    if function in REDUCED:
        return errors, references.cancellation(function, found)
    # Beside +inf, NaN and the limit are both accepted (references.py).
    limit = {"softmax": 0.0, "log_softmax": -np.inf}[function]
    finite = found.of("log_softmax").high == -np.inf
    accepted = np.isnan(rows) | (finite & (rows == limit))
    return np.where(found.has_infinity[:, None] & accepted, 0.0, errors), np.ones(1)


def ordinary(function: str, found: references.Truth, dtype: str) -> Array:
    """The error that rounding explains in the ordinary formula of this type, in ULP."""
    kind = FORMATS[dtype]
    return references.ordinary_ulps(function, found, kind.unit, kind.smallest)


def kind_of(
    measured: Array, bound: Bound, explained: Array | float, got: Array, exact: Exact, dtype: str
) -> tuple[str, tuple[int, ...]]:
    """The gravest kind of error beyond a bound (`results.KINDS`), and the place of its worst."""
    beyond = ~(measured <= np.maximum(explained, bound.ulp))
    flushed = beyond & (got == 0) & _subnormal(exact, dtype, explained)
    kinds = {
        "infinite": ~np.isfinite(measured),
        "unexplained": beyond & ~flushed,
        "flushed": flushed,
        "rounding": ~(measured <= bound.ulp),
    }
    kind = next(name for name, there in kinds.items() if there.any())
    worst = int(np.argmax(np.where(kinds[kind], measured, -1.0)))
    return kind, tuple(int(i) for i in np.unravel_index(worst, measured.shape))


def _subnormal(exact: Exact, dtype: str, slack: Array | float) -> Array:
    """Where an exact result is no normal number, or may be none in spite of rounding."""
    kind = FORMATS[dtype]
    high, _ = in_ulps(exact, kind)
    return np.asarray((high != 0) & (np.abs(high) <= 2.0 ** (kind.precision - 1) + slack))


def missed(ulp: float, bound: Bound, kind: str) -> str:
    """By how much a bound is missed, in words."""
    if kind == "infinite":
        return "NaN or infinity where a number should be, or a number for them"
    said = f"{ulp:.4g} ULP, may be {bound.ulp:g}"
    return f"0 for a subnormal result: {said}" if kind == "flushed" else said


@dataclass(frozen=True)
class RowError:
    """The worst error of one row over its allowance, and its kind, '' where the bound holds."""

    ulp: float
    kind: str
    place: tuple[int, ...]
    result: Array
    exact: Exact


def row_error(subject: Subject, function: str, row: Array) -> RowError:
    """A subject's error on one row."""
    found = references.truth(row[None].astype(np.float64))
    result = call(subject, function, row[None], -1)
    exact, dtype = found.of(function), result.dtype.name
    errors, allowance = errors_of(function, result, found, -1, dtype)
    measured = errors / allowance
    bound = subject.bound(function, dtype)
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(measured)), measured.shape))
    kind = ""
    if not measured[place] <= bound.ulp:
        explained = ordinary(function, found, dtype)
        rows = by_rows(function, result, -1)
        kind, place = kind_of(measured, bound, explained, rows, exact, dtype)
    return RowError(float(measured[place]), kind, place, result, exact)
