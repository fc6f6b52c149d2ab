"""How gradients are called: on an array, and another one or a number for each row beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastsoftmax import arguments, call, checks, layout
from fastsoftmax.cpu import calls

Array = np.ndarray[Any, Any]


def _softmax_formula(p: Array, g: Array, axes: tuple[int, ...]) -> Array:
    result: Array = p * (g - (p * g).sum(axis=axes, keepdims=True))
    return result


def _log_softmax_formula(log_p: Array, g: Array, axes: tuple[int, ...]) -> Array:
    result: Array = g - np.exp(log_p) * g.sum(axis=axes, keepdims=True)
    return result


def _logsumexp_formula(x: Array, g: Array, axes: tuple[int, ...]) -> Array:
    terms = np.exp(x - x.max(axis=axes, keepdims=True, initial=-np.inf))
    result: Array = g * (terms / terms.sum(axis=axes, keepdims=True))
    return result


@dataclasses.dataclass(frozen=True)
class Gradient:
    """A product as a call sees it, with the same in NumPy for long double."""

    name: str
    kernels: str
    formula: Callable[[Array, Array, tuple[int, ...]], Array]
    #: What a masked element counts as, whose result is 0.
    masked: float = 0.0
    mapped: bool = True
    absent: float = 0.0
    real: bool = True


SOFTMAX_VJP = Gradient("softmax_vjp", "softmax_vjp", _softmax_formula)
SOFTMAX_JVP = Gradient("softmax_jvp", "softmax_vjp", _softmax_formula)
LOG_SOFTMAX_VJP = Gradient("log_softmax_vjp", "log_softmax_vjp", _log_softmax_formula)
LOGSUMEXP_VJP = Gradient("logsumexp_vjp", "logsumexp_vjp", _logsumexp_formula, -math.inf)


class Product(call.Call):
    """A call on two arrays of one shape."""

    def __init__(
        self, function: Gradient, name: str, x: Any, axis: Any, dim: Any, out: Any,
        keepdims: bool, *, where: Any, dtype: Any, **beside: Any,
    ) -> None:  # fmt: skip
        super().__init__(function, name, x, axis, dim, out, keepdims, where=where, dtype=dtype)
        ((other, given),) = beside.items()
        values = self._matched(other, given)
        computed = checks.floating(other, values)
        checks.check_real(function.name, other, values.dtype, self._result)
        if type(given) not in (bool, int, float):  # which take the array's type
            computed = checks.wider(computed, checks.floating(name, self._source.values))
            self._result = checks.result_type(function.name, computed, self._dtype)
            self._computed = checks.wider(computed, self._result)
            self._values = self._source.values.astype(self._computed, copy=False)
        self._beside = self._fitted(other, values)
        if out is None:
            self._source.container.check_result(self._result)

    def _matched(self, name: str, given: Any) -> Array:
        """The other operand as an array, its elements where their labels are in the first."""
        return arguments.operand(name, given, self._source)

    def _fitted(self, name: str, values: Array) -> Array:
        """The other operand as kernels take it, in the shape of the first."""
        return checks.broadcast(name, checks.cast(values, self._computed), self._shape)

    def _seen(self, rows: layout.Rows) -> Array:
        """The other operand as rows or columns."""
        return rows.view(self._beside)

    def _computed_rows(self) -> Array:
        if not checks.has_kernel(self._computed) or self._values.size == 0:
            return self._in_numpy()
        rows = layout.rows_of(self._values, self._axes)
        x, other = rows.view(self._values), self._seen(rows)
        counted = None if self._mask is None else rows.view(self._mask)
        place = rows.place(self._place, True, x, other, counted)
        a, b, out = map(layout.stored, (x, other, place))
        calls.product(self._formula.kernels, a, b, out, counted)
        return rows.back(place, True)

    def _in_numpy(self) -> Array:
        """The formula in long double, which has no kernel."""
        x, other = self._values, self._beside.astype(self._computed, copy=False)
        with np.errstate(all="ignore"):
            if self._mask is None:
                return self._formula.formula(x, other, self._axes)  # type: ignore[no-any-return]
            x = np.where(self._mask, x, self._formula.masked)
            other = np.where(self._mask, other, 0) if other.shape == x.shape else other
            return np.where(self._mask, self._formula.formula(x, other, self._axes), 0)


class RowProduct(Product):
    """A call on an array and one number for each of its rows."""

    def _matched(self, name: str, given: Any) -> Array:
        return arguments.operand(name, given, self._source, self._axes)

    def _fitted(self, name: str, values: Array) -> Array:
        """The numbers in float64 (or long double): one, or what broadcasts over the rows."""
        wide = np.dtype(np.float64) if checks.has_kernel(self._computed) else self._computed
        values = checks.cast(values, wide)
        if values.ndim == 0:
            return values
        kept = checks.reduced_shape(self._shape, self._axes)
        if values.shape == checks.reduced_shape(self._shape, self._axes, keepdims=False):
            return values.reshape(kept)
        checks.check_broadcast(name, values.shape, kept)
        return values

    def _seen(self, rows: layout.Rows) -> Array:
        return rows.view_rows(self._beside)
