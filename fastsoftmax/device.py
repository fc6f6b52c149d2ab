"""One call on arrays that live on a GPU: checked on the host, computed there, in order.

What is known here of an array is its `View`; its values stay where they are. Whatever can be
wrong is refused before anything is queued on a stream.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax import arguments, checks, layout
from fastsoftmax.arithmetic.formulas import Formula
from fastsoftmax.cuda import elements, libraries, plan
from fastsoftmax.cuda.driver import driver, uploaded
from fastsoftmax.cuda.libraries import Exporter, Held
from fastsoftmax.cuda.view import Shape, View
from fastsoftmax.loaded import type_name


class Destination(NamedTuple):
    """Where a kernel writes: the array, and what the kernel sees of it."""

    held: Held
    seen: View


class DeviceCall:
    """A caller's arguments, of which the logits are on a GPU, and what is made of them there."""

    def __init__(
        self, formula: Formula, name: str, library: Exporter, x: Any, axis: Any, dtype: Any,
        stream: Any,
    ) -> None:  # fmt: skip
        given = None if stream is None else libraries.stream_handle(stream)
        self._formula = formula
        self._x = _aligned(library.hold(name, x, given))
        self._given = given is not None
        self._stream = library.current_stream(self._x) if given is None else given
        self._check_stream()
        computed = elements.floating(name, self._x.view.dtype)
        self._result = elements.result_type(computed, dtype)
        self._dtype = dtype
        self._computed = elements.wider(computed, self._result)
        self._shape = self._x.view.shape
        self._axes = checks.normalized_axes(len(self._shape), axis)
        self._reduced = checks.reduced_shape(self._shape, self._axes)
        self._mask: Held | None = None
        self._nothing_counts = False
        self._temperature: float | checks.Array | Held | None = None
        # Copies that kernels read, until these are queued.
        self._copies: list[Any] = []

    # --- checks -------------------------------------------------------------------------------

    def _check_stream(self) -> None:
        if not self._given:
            return
        device = driver().device_of_stream(self._stream)
        if device is not None and device != self._x.device:
            raise ValueError(f"stream is of cuda:{device}, and {self._x.name} on {self._x.place}")

    def _beside(self, name: str, argument: Any) -> Held:
        """An argument beside the logits, on their device."""
        library = libraries.library_of(argument)
        if library is None:
            what, advice = "", "copy it there first"
            if name == "out" and not isinstance(argument, np.ndarray):
                what, advice = f"a {type_name(argument)} ", "pass an array there"
            raise TypeError(
                f"{name} is {what}on the host, and {self._x.name} on {self._x.place}: {advice}"
            )
        held = _aligned(library.hold(name, argument, self._stream))
        if held.device != self._x.device:
            raise ValueError(f"{name} is on {held.place}, and {self._x.name} on {self._x.place}")
        return held

    def leave_out(self, where: Any) -> None:
        """Take the mask of what counts."""
        if where is None or isinstance(where, (bool, np.bool_)):
            self._nothing_counts = where is not None and not where
            return
        self._mask = self._beside("where", where)
        if self._mask.view.dtype != "bool":
            raise TypeError(f"where must be boolean, got an array of {self._mask.view.dtype}")
        checks.check_broadcast("where", self._mask.view.shape, self._shape)

    def divide_by(self, temperature: Any) -> None:
        """Take the temperatures: those of the host are checked, a device's are not read."""
        if type(temperature) is float and temperature == 1.0:
            return
        if libraries.library_of(temperature) is None:
            array = arguments.array("temperature", temperature)
            array = checks.temperatures(array, self._shape, self._axes)
            self._temperature = array
            if array.ndim == 0:
                self._temperature = None if array == 1 else float(array)
            return
        held = self._temperature = self._beside("temperature", temperature)
        if held.view.dtype not in elements.SIZES and not elements.is_integer(held.view.dtype):
            raise TypeError(f"temperature must be real, got an array of {held.view.dtype}")
        checks.check_temperatures(held.view.shape, self._shape, self._axes)
        if held.view.dtype != "float64" and not held.library.converts:
            held.library.refuse(held, "pass an array of float64")

    def write_to(self, out: Any, keepdims: bool) -> None:
        """Take the array for the result, None for a new one, and whether reduced axes are kept."""
        self._kept, sizes = self._axes_of_results(keepdims)
        self._final = tuple(sizes[axis] for axis in self._kept)
        self._out = None if out is None else self._beside("out", out)
        if self._out is not None:
            self._check_out(self._out)
        elif self._computed != self._result and not self._x.library.converts:
            self._x.library.refuse(self._x, "leave out dtype=")

    def _axes_of_results(self, keepdims: bool) -> tuple[list[int], Shape]:
        """Which of the logits' axes results have, and the sizes of all of them."""
        mapped, axes = self._formula.mapped, range(len(self._shape))
        kept = [axis for axis in axes if mapped or keepdims or axis not in self._axes]
        return kept, self._shape if mapped else self._reduced

    def _check_out(self, out: Held) -> None:
        view = out.view
        if view.shape != self._final:
            raise ValueError(f"out must have shape {self._final}, got {view.shape}")
        if view.dtype not in elements.SIZES:
            raise TypeError(f"out of {view.dtype} cannot hold a result of {self._result}")
        if self._dtype is not None and view.dtype != self._result:
            raise TypeError(
                f"out is of {view.dtype} and dtype says {self._result}: give one of them"
            )
        if out.read_only:
            raise ValueError("out is read-only")
        if checks.overlaps_itself(view):
            raise ValueError(f"out must not overlap itself, got strides {view.strides}")
        if view.dtype != self._computed and not out.library.converts:
            advice = "" if self._computed == self._result else ", without dtype="
            out.library.refuse(out, f"pass an out of {self._computed}{advice}")
        for other in self._read():
            in_place = self._formula.mapped and other is self._x
            if in_place and view.same_memory(other.view):
                continue
            if view.overlaps(other.view):
                raise ValueError(
                    f"out must not overlap {other.name}" + (", but may be it" if in_place else "")
                    + f": at {view.pointer:#x} with strides {view.strides}, {other.name} at "
                    f"{other.view.pointer:#x} with {other.view.strides}"
                )  # fmt: skip

    # --- the stream -----------------------------------------------------------------------------

    def _read(self) -> list[Held]:
        """The arrays that kernels read and that live on the device of this call."""
        given = self._x, self._mask, self._temperature
        return [each for each in given if isinstance(each, Held)]

    def _held(self) -> list[Held]:
        """All arrays of this call that live on its device."""
        return self._read() if self._out is None else [*self._read(), self._out]

    def _other_streams(self) -> set[int]:
        """The streams, beside that of the call, on which its arrays' values are in order."""
        streams = set()
        for each in self._held():
            if each.stream is not None:
                streams.add(each.stream)
            elif not self._given and each.library is not self._x.library:
                streams.add(each.library.current_stream(each))
        return streams - {self._stream}

    @contextlib.contextmanager
    def _in_order(self) -> Iterator[None]:
        """Have all that is queued, by libraries too, be in order on the stream of this call."""
        cuda, others, device = driver(), self._other_streams(), self._x.device
        involved = {each.library for each in self._held()}
        if not self._given:  # its own library's work is in order
            involved.remove(self._x.library)
        with contextlib.ExitStack() as stack:
            stack.enter_context(cuda.current(device))
            for stream in others:
                cuda.wait(self._stream, stream)
            for library in involved:
                stack.enter_context(library.on(self._stream, device))
            yield
            for stream in others:
                cuda.wait(stream, self._stream)

    # --- launching --------------------------------------------------------------------------------

    def run(self) -> Any:
        """Queue the computation, and return the array that its result will be in."""
        with self._in_order():
            nothing = 0 in self._shape or 0 in self._final
            made = self._destination_without_logits() if nothing else self._computed_rows()
            return self._delivered(made)

    def _computed_rows(self) -> Held:
        x = self._converted(self._x, self._computed)
        rows = layout.rows_of(x.view, self._axes)
        self._check_layouts(x, rows)
        place = self._destination(rows)
        seen = self._seen(x, rows)
        with self._seen_mask(rows) as mask, self._seen_temperature(rows) as temperature:
            self._compute(rows, seen, place.seen, temperature, mask)
        return place.held

    def _check_layouts(self, x: Held, rows: layout.Rows) -> None:
        """Refuse what has no view as rows, and no library that copies it."""
        for each, mapped in ((x, True), (self._mask, True), (self._temperature, False)):
            if isinstance(each, Held) and not each.library.converts:
                self._seen(each, rows, mapped)

    def _destination_without_logits(self) -> Held:
        """Rows of nothing are what rows of one logit at minus infinity are."""
        if self._formula.mapped or 0 in self._final:
            return self._out or self._new(self._x, self._final, list(range(len(self._final))))
        size = elements.SIZES[self._computed]
        with self._uploaded(
            "the result of no logits", np.array(elements.ABSENT[self._computed])
        ) as pointer:
            steps = (0,) * len(self._reduced)
            x = View(pointer, self._computed, self._reduced, steps, size)
            rows = layout.rows_of(x, self._axes)
            place = self._destination(rows)
            seen = x.transpose(rows.order).reshape(rows.seen[True])
            assert seen is not None
            self._compute(rows, seen, place.seen, None, None)
        return place.held

    def _compute(
        self, rows: layout.Rows, x: View, out: View, temperature: float | View | None,
        mask: View | None,
    ) -> None:  # fmt: skip
        """Queue the kernels for rows, of arrays as these see them."""
        plan.compute(self._formula, x, out, temperature, mask, self._stream)

    def _new(self, like: Held, shape: Shape, order: list[int]) -> Held:
        """A new array of the kind of another, whose axes lie in memory in this order."""
        made = like.library.empty(like, shape, self._computed, order)
        return like.library.hold("out", made, self._stream)

    def _destination(self, rows: layout.Rows) -> Destination:
        """The array for the result where a kernel can write to it, else a new one."""
        out = self._out
        if out is not None and out.view.dtype == self._computed:
            seen = self._result_seen(out.view, rows)
            if seen is not None:
                return Destination(out, seen)
        if out is not None and not out.library.converts:
            out.library.refuse(out, "pass one that lies in memory as x, or in C order")
        made = self._new(out or self._x, self._final, self._order(rows))
        seen = self._result_seen(made.view, rows)
        assert seen is not None  # it lies in memory as it is seen
        return Destination(made, seen)

    def _result_seen(self, view: View, rows: layout.Rows) -> View | None:
        """What a kernel sees of an array for results."""
        return view.transpose(self._order(rows)).reshape(self._results_seen_as(rows))

    def _order(self, rows: layout.Rows) -> list[int]:
        """The results' axes in the order in which kernels see them."""
        return [self._kept.index(axis) for axis in rows.order if axis in self._kept]

    def _results_seen_as(self, rows: layout.Rows) -> Shape:
        """The shape in which kernels see results."""
        return rows.seen[self._formula.mapped]

    def _converted(self, held: Held, dtype: str) -> Held:
        """An array in another type, if it is of one."""
        if held.view.dtype == dtype:
            return held
        array = held.library.converted(held, dtype)
        self._copies.append(array)
        return held.library.hold(held.name, array, self._stream)

    def _seen(self, held: Held, rows: layout.Rows, mapped: bool = True) -> View:
        """What a kernel sees of an array: itself, or a copy where its layout has no such view."""
        shape = self._shape if mapped else self._reduced
        return self._seen_as(held, shape, rows.order, rows.seen[mapped])

    def _seen_as(self, held: Held, shape: Shape, order: list[int], wanted: Shape) -> View:
        """An array broadcast to a shape, its axes in another order, and in another shape then."""
        seen = held.view.broadcast(shape).transpose(order).reshape(wanted)
        if seen is None:
            array = held.library.rows(held, shape, order, wanted)
            self._copies.append(array)
            seen = held.library.hold(held.name, array, self._stream).view
        return seen

    @contextlib.contextmanager
    def _uploaded(self, what: str, numbers: checks.Array) -> Iterator[int]:
        """The address of numbers of the host's, copied on the stream."""
        if driver().is_recorded(self._stream):
            raise ValueError(
                f"{what} is on the host, where a CUDA graph that runs later would not find "
                f"it: copy it to {self._x.place} first"
            )
        with uploaded(numbers, self._stream) as pointer:
            yield pointer

    @contextlib.contextmanager
    def _seen_mask(self, rows: layout.Rows) -> Iterator[View | None]:
        """What a kernel is told of what counts: one element for all where nothing does."""
        if self._mask is not None:
            yield self._seen(self._mask, rows)
        elif self._nothing_counts:
            with self._uploaded("where", np.zeros(1, bool)) as pointer:
                shape = rows.seen[True]
                yield View(pointer, "bool", shape, (0,) * len(shape), 1)
        else:
            yield None

    @contextlib.contextmanager
    def _seen_temperature(self, rows: layout.Rows) -> Iterator[float | View | None]:
        """What a kernel is told of temperatures; those of the host are copied, on the stream."""
        temperature = self._temperature
        if isinstance(temperature, Held):
            yield self._seen(self._converted(temperature, "float64"), rows, mapped=False)
        elif isinstance(temperature, np.ndarray):
            numbers = np.ascontiguousarray(rows.view_rows(temperature))
            with self._uploaded("temperature", numbers) as pointer:
                yield View(pointer, "float64", numbers.shape, numbers.strides, 8)
        else:
            yield temperature

    def _delivered(self, made: Held) -> Any:
        """The array that a kernel wrote, as what the caller wants."""
        if self._out is not None:
            if made is not self._out:
                self._out.library.assign(self._out, made.array)
            self._out.library.written(self._out.array)
            return self._out.array
        if self._computed != self._result:
            return made.library.converted(made, self._result)
        return made.array


def _aligned(held: Held) -> Held:
    """The array, whose elements lie where a device can read them."""
    view = held.view
    if any(place % view.itemsize for place in (view.pointer, *view.strides)):
        raise ValueError(
            f"{held.name} must lie at multiples of its elements' {view.itemsize} bytes, got "
            f"{view.pointer:#x} with strides {view.strides}: copy it"
        )
    return held
