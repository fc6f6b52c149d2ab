"""Calls of losses: logits against targets, which are class indices or probabilities of classes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax import arguments, checks, extended, layout
from fastsoftmax.arithmetic.formulas import GRADIENT, LOG_SOFTMAX, SOFTMAX, Formula
from fastsoftmax.at_labels import AtLabels
from fastsoftmax.call import Call
from fastsoftmax.cpu import plan, totals

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class _Function:
    """What a call has to know of a loss."""

    name: str
    mapped: bool
    absent: float = 0.0
    real: bool = True


LOSS, WITH_GRADIENT = (
    _Function("cross_entropy", False), _Function("cross_entropy_and_gradient", True)
)  # fmt: skip

_REDUCTIONS = "mean", "sum", "none"
# Logits at a time where targets are made for each class: 2 MiB of float64.
_AT_ONCE = 1 << 18


class Settings(NamedTuple):
    """What a loss is besides its target, checked: PyTorch's arguments."""

    weight: Array | None
    ignore_index: int
    label_smoothing: float
    reduction: str

    @classmethod
    def checked(
        cls, weight: Any, ignore_index: Any, label_smoothing: Any, reduction: Any
    ) -> Settings:
        """From a caller's arguments."""
        if reduction not in _REDUCTIONS:
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
        smoothing = checks.number("label_smoothing", label_smoothing)
        if not 0 <= smoothing <= 1:
            raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing!r}")
        ignored = checks.integer("ignore_index", ignore_index)
        weights = None if weight is None else arguments.array("weight", weight)
        if weights is not None:
            weights = checks.weights("weight", weights)
        return cls(weights, ignored, smoothing, reduction)

    def of_classes(self, count: int) -> Array | None:
        """The weight of each class, refused where there are others than classes."""
        if self.weight is not None and self.weight.shape != (count,):
            raise ValueError(
                f"weight must have shape ({count},), one for each class, got {self.weight.shape}"
            )
        return self.weight


class _Loss(Call):
    """What losses of both kinds of target have in common.

    A subclass sets, as it is made: the axis of classes, the weight of each row (with the axis at
    length 1), and what a mean is divided by.
    """

    _settings: Settings
    _given: Any
    _axis: int
    _row_weight: Array
    _divisor: float

    def _take_axis(self) -> None:
        self._axis = checks.one_axis(self._formula.name, self._axes)
        self._weight = self._settings.of_classes(self._shape[self._axis])

    def _take_indices(self) -> Array:
        """The caller's class indices, with the axis; sets the weights of rows."""
        given = arguments.operand("target", self._given, self._source, self._axes)
        ignore = self._settings.ignore_index
        target, ignored = checks.indices("target", given, self._shape, self._axis, ignore)
        weight = np.broadcast_to(1.0, target.shape)
        if self._weight is not None:
            weight = self._weight[target]
        if ignored is not None:
            weight = np.where(ignored, 0.0, weight)
        self._row_weight = weight
        plain = self._weight is None and ignored is None
        self._divisor = float(target.size) if plain else totals.total(weight)
        self._ignored = ignored
        return target

    def _scale(self) -> Array:
        """What the gradient of each row's unweighted loss by its logits is multiplied by."""
        scale = np.ones(self._row_weight.shape)
        if self._settings.reduction == "mean":
            scale = scale / self._divisor if self._divisor else scale * math.nan
        t = self._temperature
        if t is None:
            return scale
        if not np.all((t > 0) & np.isfinite(t)):
            wrong = t[~((t > 0) & np.isfinite(t))].flat[0]
            raise ValueError(f"temperature must be above 0 and finite for gradients, got {wrong}")
        return scale / t

    def _reduced(self, losses: Array) -> Any:
        """The losses of rows, as the caller wants them."""
        source = self._source
        if self._settings.reduction == "none":
            kept = checks.reduced_shape(self._shape, self._axes, False)
            value = checks.cast(losses.reshape(kept), self._result)[()]
            original, container = source.original, source.container
            return container.rewrapped_reduced(original, value, self._axes, False, self._mask)
        total = totals.total(losses)
        if self._settings.reduction == "mean":
            total = total / self._divisor if self._divisor else math.nan
        value = checks.cast(np.asarray(total), self._result)[()]
        return source.container.single(source.original, value)


class Indexed(_Loss, AtLabels):
    """Losses of class indices: one logarithm a row, and nothing of other classes."""

    def __init__(self, *given: Any, target: Any, settings: Settings, **beside: Any) -> None:
        self._settings = settings
        super().__init__(*given, labels=target, **beside)

    def _take_labels(self) -> None:
        self._take_axis()
        self._labels, self._one = self._take_indices(), True

    def loss(self) -> Any:
        """The loss, for the caller."""
        return self._of_logarithms(self._computed_rows())

    def _of_logarithms(self, logarithms: Array) -> Any:
        losses, weight = -logarithms.reshape(self._labels.shape), self._row_weight
        if any(weight.strides):  # else each is 1
            # an ignored row may be one without numbers
            losses = np.where(weight == 0, 0.0, losses.astype(np.float64) * weight)
        return self._reduced(losses)

    def _kernel_place(self, rows: layout.Rows, x: Array, *others: Array | None) -> Array:
        place = super()._kernel_place(rows, x, *others)
        return place if x.itemsize > 2 else np.empty(place.shape, np.float32)


class IndexedGradient(Indexed):
    """Those losses, and the gradient by the logits."""

    def _take_labels(self) -> None:
        super()._take_labels()
        self._seen_by_rows = self._row_weight * self._scale()

    def _result_shape(self, keepdims: bool) -> checks.Shape:
        return self._shape

    def loss(self) -> tuple[Any, Any]:
        """The loss and the gradient, for the caller."""
        self._logarithms = np.zeros(self._labels.shape)
        gradient = Call._delivered(self, self._computed_rows())
        return self._of_logarithms(self._logarithms), gradient

    def _without_kernel(self, values: Array, temperature: Array | None) -> Array:
        whole = extended.computed(LOG_SOFTMAX, values, self._axes, temperature, self._mask)
        self._logarithms = np.take_along_axis(whole, self._labels, self._axis)
        made = np.exp(whole)
        np.put_along_axis(made, self._labels, np.expm1(self._logarithms), self._axis)
        result: Array = made * self._seen_by_rows
        return result

    def _kernel_place(self, rows: layout.Rows, x: Array, *others: Array | None) -> Array:
        self._losses = super()._kernel_place(rows, x, *others)
        self._seen_scale = rows.view_rows(self._seen_by_rows)
        # Threads that share a row read its label's logit at any time: never in place.
        return rows.place(self._place, True, x, x, *others)

    def _compute(self, x: Array, out: Array, temperature: Array | None, mask: Array | None) -> None:
        operands = self._seen_labels, self._seen_scale, self._losses
        plan.compute(GRADIENT, x, out, temperature, mask, *operands)

    def _back(self, rows: layout.Rows, made: Array) -> Array:
        self._logarithms = rows.back_several(self._losses, self._axis)
        return rows.back(made, True)


class Distributed(_Loss):
    """Losses of probabilities of classes, also of those that smoothing makes of indices.

    They are computed by blocks of rows, for which targets are made: of each class its part.
    """

    def __init__(
        self, *given: Any, target: Any, indexed: bool, settings: Settings, gradient: bool,
        **beside: Any,
    ) -> None:  # fmt: skip
        self._given, self._indexed, self._settings = target, indexed, settings
        self._wants_gradient = gradient
        super().__init__(*given, **beside)

    def _write_to(self, out: Any, keepdims: bool) -> None:
        self._take_axis()
        if self._indexed:
            self._target = self._take_indices()
        else:
            target = arguments.operand("target", self._given, self._source)
            self._target, self._ignored = checks.probabilities("target", target, self._shape), None
            self._row_weight = np.ones(checks.reduced_shape(self._shape, self._axes))
            self._divisor = float(self._row_weight.size)
        self._row_scale = self._scale() if self._wants_gradient else None
        super()._write_to(out, keepdims)

    def _result_shape(self, keepdims: bool) -> checks.Shape:
        if self._wants_gradient:
            return self._shape
        return checks.reduced_shape(self._shape, self._axes, keepdims)

    def loss(self) -> Any:
        """The loss, and its gradient where it is wanted, for the caller."""
        self._losses = np.zeros(self._row_weight.shape)
        gradient = self._computed_rows()
        loss = self._reduced(self._losses)
        return (loss, self._delivered(gradient)) if self._wants_gradient else loss

    def _computed_rows(self) -> Array:
        """The gradient, if it is wanted; sets the losses."""
        values, temperature = self._values, self._temperature
        if values.size == 0:
            return np.zeros(self._final)
        if temperature is not None:
            values, temperature = checks.at_limits(values, temperature, self._mask, self._axes)
        rows = layout.rows_of(values, self._axes, last=True)

        def of_rows(array: Array | None) -> Array | None:
            return None if array is None else rows.view_rows(array)

        def of_classes(array: Array | None) -> Array | None:
            return None if array is None else rows.view(array)

        block = _Block(
            x=rows.view(values),
            mask=of_classes(self._mask),
            target=(of_rows if self._indexed else of_classes)(self._target),
            temperature=of_rows(temperature),
            ignored=of_rows(self._ignored),
            scale=of_rows(self._row_scale),
        )
        losses, gradient = rows.empty(np.dtype(np.float64), False), np.empty(0)
        if self._wants_gradient:
            gradient = rows.empty(self._computed, True)
        step = max(_AT_ONCE // block.x.shape[1], 1)
        for start in range(0, len(block.x), step):
            part = slice(start, start + step)
            piece = block.taken(part)
            wanted = piece.wanted(self._settings)
            losses[part] = piece.losses(wanted)
            if self._wants_gradient:
                gradient[part] = piece.gradient(wanted)
        self._losses = rows.back(losses, False)
        return rows.back(gradient, True) if self._wants_gradient else self._losses


class _Block(NamedTuple):
    """Rows of logits, and of each row or logit what belongs to it, if anything does."""

    x: Array
    mask: Array | None
    target: Any  # probabilities (rows, classes), or indices (rows,)
    temperature: Any
    ignored: Any
    scale: Any

    def taken(self, part: slice) -> _Block:
        """Some of the rows."""
        parts: Any = (None if each is None else each[part] for each in self)
        return _Block(*parts)

    def wanted(self, settings: Settings) -> Array:
        """What the logarithm of each class is multiplied by."""
        counted = True if self.mask is None else self.mask
        if self.target.ndim == 1:
            target: Array = np.zeros(self.x.shape)
            np.put_along_axis(target, self.target[:, None], 1.0, -1)
        else:
            target = self.target.astype(np.float64, copy=False)
        if settings.label_smoothing:
            classes = np.broadcast_to(counted, target.shape).sum(axis=-1, keepdims=True)
            spread = np.where(counted, settings.label_smoothing / np.maximum(classes, 1), 0.0)
            target = (1 - settings.label_smoothing) * target + spread
        if settings.weight is not None:
            target = target * settings.weight
        return target if self.ignored is None else np.where(self.ignored[:, None], 0.0, target)

    def losses(self, wanted: Array) -> Array:
        """-sum(wanted * log p) of each row, in float64."""
        logarithms = self._computed(LOG_SOFTMAX, self.x)
        if not checks.has_kernel(self.x.dtype):
            logarithms = logarithms.astype(np.float64)
        return -totals.products(logarithms, wanted)

    def gradient(self, wanted: Array) -> Array:
        """scale * (p * sum(wanted) - wanted), in float64 at least, as the two cancel."""
        x = self.x.astype(np.promote_types(self.x.dtype, np.float64))
        whole = totals.products(wanted, None)[:, None]
        result: Array = self._computed(SOFTMAX, x) * whole - wanted
        result *= self.scale[:, None]
        result[whole[:, 0] == 0] = 0.0
        return result

    def _computed(self, formula: Formula, x: Array) -> Array:
        """A formula of the rows; of 16-bit types in float32, of what the kernels compute in."""
        if not checks.has_kernel(x.dtype):
            temperature = None if self.temperature is None else self.temperature[:, None]
            return extended.computed(formula, x, (1,), temperature, self.mask)
        out = np.empty(x.shape, np.float32 if x.itemsize == 2 else x.dtype)
        plan.compute(formula, layout.stored(x), out, self.temperature, self.mask)
        return out
