"""One call at labels, of logits on a GPU: at the caller's, or at those of the largest logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastsoftmax import arguments, checks, layout
from fastsoftmax.cuda import elements, libraries, plan
from fastsoftmax.cuda.libraries import Exporter, Held
from fastsoftmax.cuda.view import Shape, View
from fastsoftmax.device import DeviceCall


class _AtLabels(DeviceCall):
    """A function of rows at labels: one result a row, or several.

    A subclass says where the labels are, for its kernels. Before `write_to` it has taken what there
    is to know of them.
    """

    _several: int
    _one = False  # whether results lack the axis of the classes

    def _take_axis(self) -> None:
        self._axis = checks.one_axis(self._formula.name, self._axes)

    def _axes_of_results(self, keepdims: bool) -> tuple[list[int], Shape]:
        kept = [axis for axis in range(len(self._shape)) if not (self._one and axis == self._axis)]
        sizes = *self._shape[: self._axis], self._several, *self._shape[self._axis + 1 :]
        return kept, sizes

    def _order(self, rows: layout.Rows) -> list[int]:
        order = list(rows.order)
        if self._shape[self._axis] == 1:  # one class has no place among axes, its labels the last
            order.remove(self._axis)
            order.append(self._axis)
        return [self._kept.index(axis) for axis in order if axis in self._kept]

    def _results_seen_as(self, rows: layout.Rows) -> Shape:
        outer, _, *inner = rows.seen[True]
        return outer, self._several, *inner

    def _seen_labels(self, rows: layout.Rows) -> contextlib.AbstractContextManager[View]:
        """What a kernel is told of labels."""
        raise NotImplementedError

    def _compute(
        self, rows: layout.Rows, x: View, out: View, temperature: float | View | None,
        mask: View | None,
    ) -> None:  # fmt: skip
        with self._seen_labels(rows) as labels:
            plan.compute(self._formula, x, out, temperature, mask, self._stream, labels)


class DeviceAtLabels(_AtLabels):
    """A function of rows at the caller's labels.

    Those of the host are checked. Those of a device are not read before the kernel reads them,
    which has NaN for what is no class.
    """

    _labels: checks.Array | Held

    def take_labels(self, labels: Any) -> None:
        """Take the labels: with as many axes as the logits, or without that of the classes."""
        self._take_axis()
        if libraries.library_of(labels) is None:
            given = arguments.array("labels", labels)
            self._one = given.ndim < len(self._shape)
            array = checks.labels("labels", given, self._shape, self._axis)
            self._several = array.shape[self._axis]
            self._labels = np.squeeze(array, self._axis) if self._one else array
            return
        held = self._labels = self._beside("labels", labels)
        dtype, shape = held.view.dtype, held.view.shape
        if dtype == "bool" or not elements.is_integer(dtype):
            raise TypeError(f"labels must be integers, got an array of {dtype}")
        if dtype != "int64" and not held.library.converts:
            held.library.refuse(held, "pass an array of int64")
        self._one = len(shape) < len(self._shape)
        self._several = 1 if self._one else shape[self._axis]
        kept, sizes = self._axes_of_results(keepdims=False)
        wanted = tuple(sizes[axis] for axis in kept)
        checks.check_broadcast("labels", shape, wanted)
        if self._shape[self._axis] == 0 and 0 not in wanted:
            raise ValueError(
                f"labels are of no class: {self._x.name} has none along axis {self._axis}"
            )

    def _read(self) -> list[Held]:
        labels = [self._labels] if isinstance(self._labels, Held) else []
        return [*super()._read(), *labels]

    def _check_layouts(self, x: Held, rows: layout.Rows) -> None:
        super()._check_layouts(x, rows)
        if isinstance(self._labels, Held) and not self._labels.library.converts:
            self._labels_there(self._labels, rows)

    def _labels_there(self, held: Held, rows: layout.Rows) -> View:
        wanted = self._results_seen_as(rows)
        return self._seen_as(held, self._final, self._order(rows), wanted)

    @contextlib.contextmanager
    def _seen_labels(self, rows: layout.Rows) -> Iterator[View]:
        """What a kernel is told of labels; those of the host are copied, on the stream."""
        labels = self._labels
        if isinstance(labels, Held):
            yield self._labels_there(self._converted(labels, "int64"), rows)
            return
        ordered = np.broadcast_to(labels, self._final).transpose(self._order(rows))
        numbers = np.ascontiguousarray(ordered.reshape(self._results_seen_as(rows)))
        with self._uploaded("labels", numbers) as pointer:
            yield View(pointer, "int64", numbers.shape, numbers.strides, numbers.itemsize)


class DeviceTop(_AtLabels):
    """A function of rows at their largest logits, and where these are."""

    def take_number(self, k: Any) -> None:
        """Take how many are wanted."""
        self._take_axis()
        self._several = arguments.how_many(k, self._shape[self._axis])
        if type(self._x.library).empty is Exporter.empty:
            self._x.library.refuse(self._x, "pass an array of torch, CuPy or Numba")

    def with_places(self) -> tuple[Any, Any]:
        """The results, and where they are, for the caller."""
        results = self.run()
        return results, self._places.array

    def _destination_without_logits(self) -> Held:
        self._make_places(list(range(len(self._final))))
        return super()._destination_without_logits()

    def _make_places(self, order: list[int]) -> None:
        """A new array for places, whose axes lie in memory in this order."""
        library = self._x.library
        made = library.empty(self._x, self._final, "int64", order)
        self._places = library.hold("indices", made, self._stream)

    @contextlib.contextmanager
    def _seen_labels(self, rows: layout.Rows) -> Iterator[View]:
        self._make_places(self._order(rows))
        seen = self._result_seen(self._places.view, rows)
        assert seen is not None  # it lies in memory as it is seen
        yield seen
