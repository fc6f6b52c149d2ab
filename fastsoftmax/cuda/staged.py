"""Arrays of the host, computed on a GPU piece by piece, while others are on their way.

Each piece goes through a `Slot`: memory of the host from which a device copies by itself, memory
of the device, and a stream. While one piece is copied to the device, another is computed, a third
copied back, and a fourth is read from or written to the caller's arrays. Slots are kept for later
calls, three for each device that was used, with at most 60 MiB of the host's memory.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastsoftmax.arithmetic.formulas import Formula
from fastsoftmax.cuda import plan
from fastsoftmax.cuda.driver import Driver, Simulated, driver
from fastsoftmax.cuda.view import View, contiguous

Array = np.ndarray[Any, Any]
Index = tuple[slice, ...]

# Bytes of logits in a piece: long enough that what is paid for each piece (some 10 us for two
# copies and a launch) is nothing beside its copy (160 us at 50 GB/s), short enough that little is
# copied while nothing is computed, at the start and the end.
PIECE = 8 << 20
# One on its way there, one computed, one on its way back.
SLOTS = 3
# Columns side by side in a piece, whatever their length: a cache line of the narrowest type.
NARROWEST = 64
# Bytes of the host's memory that a slot may have when it is kept: logits, results, and a mask of
# float16 logits.
KEPT = PIECE * 5 // 2


class Buffer:
    """Memory of the host and of a device, of the same size, between which is copied."""

    def __init__(self, cuda: Driver | Simulated, size: int, stream: int) -> None:
        self._cuda, self.size, self._stream = cuda, size, stream
        self._host = cuda.pinned(max(size, 1))
        self._device = cuda.allocate(size, stream)

    def viewed(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[Array, View]:
        """An array of the host's memory, and what kernels see of the device's."""
        host = self._host[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        steps = contiguous(shape, dtype.itemsize)
        return host, View(self._device, dtype.name, shape, steps, dtype.itemsize)

    def sent(self, array: Array) -> View:
        """What kernels see of an array's elements, which are copied to the device."""
        host, seen = self.viewed(array.dtype, array.shape)
        np.copyto(host, array)
        self._cuda.to_device(seen.pointer, host, self._stream)
        return seen

    def free(self) -> None:
        """Give both back, when nothing is copied any more."""
        self._cuda.free(self._device, self._stream)
        self._cuda.free_pinned(self._host)


class Slot:
    """What the computation of a piece needs: a stream, and memory for each of the arrays."""

    def __init__(self, cuda: Driver | Simulated) -> None:
        self._cuda, self._stream = cuda, cuda.new_stream()
        self._buffers: dict[str, Buffer] = {}
        # What is copied back, from where, and where it is wanted.
        self._waiting: list[tuple[Array, View, Array]] = []

    @property
    def size(self) -> int:
        """The bytes that it has of the host's memory."""
        return sum(buffer.size for buffer in self._buffers.values())

    def _buffer(self, name: str, size: int) -> Buffer:
        """Memory for an array, of at least so many bytes, kept for later pieces."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            if buffer is not None:
                buffer.free()
            buffer = self._buffers[name] = Buffer(self._cuda, size, self._stream)
        return buffer

    def compute(
        self, formula: Formula, x: Array, out: Array, temperature: Array | None,
        mask: Array | None, labels: Array | None,
    ) -> None:  # fmt: skip
        """Queue a piece; its results are there after `finish`."""
        numbers: float | View | None = None
        if temperature is not None and not any(temperature.strides):
            numbers = float(temperature.flat[0])  # one for all rows
        elif temperature is not None:
            numbers = self._buffer("temperature", temperature.nbytes).sent(temperature)
        counted = None if mask is None else self._buffer("mask", mask.size).sent(mask)
        seen = self._buffer("x", x.nbytes).sent(x)
        place, at = self._wanted("out", out), None
        if labels is not None and formula.chooses:
            at = self._wanted("labels", labels)
        elif labels is not None:
            at = self._buffer("labels", labels.nbytes).sent(labels)
        plan.compute(formula, seen, place, numbers, counted, self._stream, at)
        for host, written, _ in self._waiting:
            self._cuda.to_host(host, written.pointer, self._stream)

    def _wanted(self, name: str, array: Array) -> View:
        """What kernels see of the memory for what `finish` writes to an array."""
        host, seen = self._buffer(name, array.nbytes).viewed(array.dtype, array.shape)
        self._waiting.append((host, seen, array))
        return seen

    def finish(self) -> None:
        """Wait for the piece that was queued last, and write its results where they are wanted."""
        if self._waiting:
            self._cuda.synchronize(self._stream)
            for host, _, array in self._waiting:
                np.copyto(array, host)
            self._waiting.clear()

    def free(self) -> None:
        """Give all memory back, after whatever is still queued."""
        self._cuda.synchronize(self._stream)
        for buffer in self._buffers.values():
            buffer.free()
        self._cuda.free_stream(self._stream)


# Slots that no call has, of each device. Taking and giving are one step of Python's each, so that
# threads need no lock.
_idle: dict[int, list[Slot]] = {}


def compute(
    formula: Formula, x: Array, out: Array, temperature: Array | None, mask: Array | None,
    labels: Array | None = None,
) -> None:  # fmt: skip
    """What a formula makes of x into out, on the current device; arguments as of the CPU's plan.

    Arrays are of the types that they show, not of integers; labels and what is at them are several
    along the reduced axis, as a GPU's kernels have them. No result is written before memory for
    all slots is there.
    """
    cuda, by_logits = driver(), formula.mapped or labels is not None
    device, pieces = cuda.current_device(), list(_pieces(x))
    with cuda.current(device):
        slots = [_taken(cuda, device) for _ in pieces[:SLOTS]]
        try:
            for slot, (whole, row) in zip(itertools.cycle(slots), pieces, strict=False):
                slot.finish()
                slot.compute(
                    formula,
                    x[whole],
                    out[whole if by_logits else row],
                    None if temperature is None else temperature[row],
                    None if mask is None else mask[whole],
                    None if labels is None else labels[whole],
                )
            for slot in slots:
                slot.finish()
        except BaseException:
            for slot in slots:
                with contextlib.suppress(RuntimeError):  # what went wrong is raised already
                    slot.free()
            raise
        for slot in slots:
            _given_back(slot, device)


def _taken(cuda: Driver | Simulated, device: int) -> Slot:
    """A slot of a device that nobody else has."""
    try:
        return _idle[device].pop()
    except LookupError:
        return Slot(cuda)


def _given_back(slot: Slot, device: int) -> None:
    """Keep a slot for later calls, unless it is an unusually large one or there are enough."""
    idle = _idle.setdefault(device, [])
    if slot.size <= KEPT and len(idle) < SLOTS:
        idle.append(slot)
    else:
        slot.free()


def _pieces(x: Array) -> Iterator[tuple[Index, Index]]:
    """Parts of whole rows, or of whole columns: of the logits, and of what has one a row."""
    outer, length = x.shape[:2]
    bytes_of_one = length * x.itemsize
    inner = x.shape[2] if x.ndim == 3 else 1
    several = PIECE // (bytes_of_one * inner)
    if several or x.ndim == 2:
        for rows in _slices(outer, max(several, 1)):
            yield (rows,), (rows,)
        return
    width = max(PIECE // bytes_of_one, NARROWEST)
    for row, columns in itertools.product(_slices(outer, 1), _slices(inner, width)):
        yield (row, slice(None), columns), (row, columns)


def _slices(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]
