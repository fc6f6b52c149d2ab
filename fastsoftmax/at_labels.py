"""Calls whose results are at labels: those of the caller, or those of the largest logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastsoftmax import arguments, call, checks, extended, layout
from fastsoftmax.arithmetic.formulas import LABEL_LOG_PROBABILITIES, LOG_SOFTMAX, SOFTMAX, TOP_K
from fastsoftmax.call import Call
from fastsoftmax.cpu import largest, plan

Array = np.ndarray[Any, Any]


def log_probabilities(
    logits: Any, labels: Any, axis: Any, *, dim: Any, out: Any, where: Any, temperature: Any,
    dtype: Any, target: Any, stream: Any,
) -> Any:  # fmt: skip
    """The log-probabilities of labels, as the caller wants them, wherever the logits are."""
    formula, name = LABEL_LOG_PROBABILITIES, "logits"
    library, axis = call.on_gpu(formula, name, logits, axis, dim, target, stream)
    if library is None:
        return call.on_host(
            AtLabels, formula, name, logits, axis, dim=dim, out=out, labels=labels, where=where,
            temperature=temperature, dtype=dtype, target=target,
        )  # fmt: skip
    # Where there is no GPU, nobody waits for the import of this.
    from fastsoftmax.device_labels import DeviceAtLabels

    there = DeviceAtLabels(formula, name, library, logits, axis, dtype, stream)
    there.leave_out(where)
    there.divide_by(temperature)
    there.take_labels(labels)
    there.write_to(out, keepdims=False)
    return there.run()


def largest_probabilities(
    logits: Any, k: Any, axis: Any, *, dim: Any, where: Any, temperature: Any, dtype: Any,
    target: Any, stream: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """The largest probabilities and their places, for the caller, wherever the logits are."""
    library, axis = call.on_gpu(TOP_K, "logits", logits, axis, dim, target, stream)
    if library is None:
        pair: tuple[Any, Any] = call.on_host(
            Top, TOP_K, "logits", logits, axis, dim=dim, act=Top.with_places, labels=k,
            where=where, temperature=temperature, dtype=dtype, target=target,
        )  # fmt: skip
        return pair
    from fastsoftmax.device_labels import DeviceTop

    there = DeviceTop(TOP_K, "logits", library, logits, axis, dtype, stream)
    there.leave_out(where)
    there.divide_by(temperature)
    there.take_number(k)
    there.write_to(None, keepdims=False)
    return there.with_places()


class AtLabels(Call):
    """A function of rows at labels: one result a row, or several."""

    _kernels = LABEL_LOG_PROBABILITIES
    # What it is a part of, for types without kernels.
    _whole = LOG_SOFTMAX

    def __init__(self, *given: Any, labels: Any, **beside: Any) -> None:
        self._given = labels
        super().__init__(*given, **beside)

    def _write_to(self, out: Any, keepdims: bool) -> None:
        self._axis = checks.one_axis(self._formula.name, self._axes)
        self._take_labels()
        super()._write_to(out, keepdims)

    def _take_labels(self) -> None:
        """Check the caller's labels, and have them as an array that has the axis, too."""
        labels = arguments.operand("labels", self._given, self._source, self._axes)
        self._one = labels.ndim < len(self._shape) or np.ndim(self._given) < len(self._shape)
        self._labels = checks.labels("labels", labels, self._shape, self._axis)

    def _result_shape(self, keepdims: bool) -> checks.Shape:
        if self._one:
            return checks.reduced_shape(self._shape, self._axes, keepdims)
        several = self._labels.shape[self._axis]
        return *self._shape[: self._axis], several, *self._shape[self._axis + 1 :]

    def _without_kernel(self, values: Array, temperature: Array | None) -> Array:
        whole = extended.computed(self._whole, values, self._axes, temperature, self._mask)
        return np.take_along_axis(whole, self._labels, self._axis)

    def _kernel_place(self, rows: layout.Rows, x: Array, *others: Array | None) -> Array:
        self._seen_labels = rows.view_several(self._labels, self._axis)
        return np.empty(self._seen_labels.shape, x.dtype)

    def _compute(self, x: Array, out: Array, temperature: Array | None, mask: Array | None) -> None:
        plan.compute(self._kernels, x, out, temperature, mask, self._seen_labels)

    def _compute_there(
        self, x: Array, out: Array, temperature: Array | None, mask: Array | None
    ) -> None:
        from fastsoftmax.cuda import staged

        places, labels = (np.moveaxis(each, 0, 1) for each in (out, self._seen_labels))
        staged.compute(self._formula, x, places, temperature, mask, labels)

    def _back(self, rows: layout.Rows, made: Array) -> Array:
        return rows.back_several(made, self._axis)

    def _delivered(self, value: Array, beside: bool = False) -> Any:
        if self._one or self._place is not None:
            return super()._delivered(value, beside)
        result = checks.cast(value, self._result)
        return self._source.container.resized(self._source.original, result, self._axis)


class Top(AtLabels):
    """The largest probabilities of rows, and where they are."""

    _whole = SOFTMAX
    _one = False

    def _take_labels(self) -> None:
        """Check how many are wanted; where they are is not known yet."""
        k = arguments.how_many(self._given, self._shape[self._axis])
        shape = *self._shape[: self._axis], k, *self._shape[self._axis + 1 :]
        self._labels = np.empty(shape, np.int64)

    def with_places(self) -> tuple[Any, Any]:
        """The probabilities, and where they are, for the caller."""
        probabilities = self.plain()
        container, original = self._source.container, self._source.original
        return probabilities, container.resized(original, self._labels, self._axis)

    def _without_kernel(self, values: Array, temperature: Array | None) -> Array:
        counted = values if self._mask is None else np.where(self._mask, values, -np.inf)
        last = np.moveaxis(counted, self._axis, -1)
        found = largest.places(last.reshape(-1, last.shape[-1]), self._labels.shape[self._axis])
        self._labels = np.moveaxis(found.reshape(*last.shape[:-1], -1), -1, self._axis)
        return super()._without_kernel(values, temperature)

    def _kernel_place(self, rows: layout.Rows, x: Array, *others: Array | None) -> Array:
        shape = self._labels.shape[self._axis], *rows.seen[False]
        self._seen_labels = np.empty(shape, np.int64)
        return np.empty(shape, x.dtype)

    def _compute(self, x: Array, out: Array, temperature: Array | None, mask: Array | None) -> None:
        largest.compute(x, out, temperature, mask, self._seen_labels)

    def _back(self, rows: layout.Rows, made: Array) -> Array:
        self._labels = rows.back_several(self._seen_labels, self._axis)
        return super()._back(rows, made)
