"""How the machine code of kernels is made, and started.

Numba writes PTX, the linker of NVIDIA's toolkit makes machine code of it, with a device or without:
what tests read is what runs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from cuda import core
from numba import config, cuda, types

from fastsoftmax.arithmetic.formulas import Formula
from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.cuda import plan
from fastsoftmax.cuda.batch import PARAMETERS, Kind
from fastsoftmax.cuda.cuts import LINES
from fastsoftmax.cuda.kernels import Shape, written
from fastsoftmax.cuda.target import WARP, Threads
from fastsoftmax.cuda.view import View

_SIGNATURE = types.void(*[types.int64] * (len(PARAMETERS) - 1), types.float64)


class Code(NamedTuple):
    """A kernel for devices of a compute capability."""

    name: str
    ptx: str
    machine: bytes
    report: str  # the linker's: registers, spills


@functools.cache
def code(kind: Kind, shape: Shape, capability: tuple[int, int]) -> Code:
    """The code of a kernel."""
    body = generated(written(kind, shape), PARAMETERS, Threads())

    def kernel(
        x, x_outer, x_line, x_inner, out, out_outer, out_line, out_inner,
        mask, mask_outer, mask_line, mask_inner,
        temperatures, temperatures_outer, temperatures_line, temperatures_inner,
        notes, outer, length, inner, cuts, temperature,
    ):  # fmt: skip
        body(
            x, x_outer, x_line, x_inner, out, out_outer, out_line, out_inner,
            mask, mask_outer, mask_line, mask_inner,
            temperatures, temperatures_outer, temperatures_line, temperatures_inner,
            notes, outer, length, inner, cuts, temperature,
        )  # fmt: skip

    ptx, _ = cuda.compile(
        kernel, _SIGNATURE, device=False, abi="numba", cc=capability, output="ptx",
        launch_bounds=shape.threads,
    )  # fmt: skip
    found = re.search(r"\.entry (\w+)", ptx)
    assert found, "PTX without a kernel"
    options = core.LinkerOptions(
        arch=f"sm_{capability[0]}{capability[1]}", fma=False, ptxas_options="-v"
    )
    linker = core.Linker(core.ObjectCode.from_ptx(ptx.encode()), options=options)
    machine = linker.link("cubin")
    return Code(found[1], ptx, bytes(machine.code), linker.get_info_log())


# --- calls ----------------------------------------------------------------------------------------


class Steps(NamedTuple):
    """An array's steps in bytes along (outer, length, inner)."""

    outer: int
    line: int
    inner: int


def _steps(view: View, mapped: bool = True) -> Steps:
    """Those of rows or columns, or of what there is once for each."""
    strides = view.strides if mapped else (view.strides[0], 0, *view.strides[1:])
    return Steps(*strides, *(0,) * (3 - len(strides)))


class Call:
    """A call's arrays as kernels see them, and what decides which kernels these are."""

    def __init__(
        self, formula: Formula, x: View, out: View, temperature: float | View | None,
        mask: View | None,
    ) -> None:  # fmt: skip
        self.sizes = (*x.shape, 1)[:3]
        given = x, out, mask, temperature if isinstance(temperature, View) else None
        mapped = True, formula.mapped, True, False
        self._steps = [
            Steps(0, 0, 0) if view is None else _steps(view, each)
            for view, each in zip(given, mapped, strict=True)
        ]
        self._pointers = [0 if view is None else view.pointer for view in given]
        self._number = temperature if isinstance(temperature, float) else 1.0
        self._itemsize, self._mapped = x.itemsize, formula.mapped
        if self.sizes[2] == 1 and not self._along():
            # rows with gaps between elements: columns of one array, across which threads lie
            outer, length, _ = self.sizes
            self.sizes = (1, length, outer)
            self._steps = [Steps(0, steps.line, steps.outer) for steps in self._steps]
        which = None if temperature is None else "one"
        which = "each" if isinstance(temperature, View) else which
        self.kind = Kind(formula, x.dtype, which, mask is not None, self.sizes[1] > plan.BLOCK)

    def _along(self) -> bool:
        """Whether the elements of a row lie side by side, in the result, too."""
        arrays = self._steps[: 2 if self._mapped else 1]
        return self.sizes[2] == 1 and (
            self.sizes[1] == 1 or all(steps.line == self._itemsize for steps in arrays)
        )

    def layout(self) -> plan.Layout:
        """What decides about kernels."""
        outer, length, inner = self.sizes
        size, arrays = self._itemsize, list(zip(self._pointers, self._steps, strict=True))
        arrays = arrays[: 2 if self._mapped else 1]
        begins = all(pointer % 16 == 0 for pointer, _ in arrays)
        exact = (
            begins
            and length * size % 16 == 0
            and (outer == 1 or all(steps.outer % 16 == 0 for _, steps in arrays))
        )
        packed = begins and all(steps.outer == length * size for _, steps in arrays)
        return plan.Layout(
            outer, length, inner, self._along(), exact, packed, self._columns(arrays)
        )

    def _columns(self, arrays: list[tuple[int, Steps]]) -> int:
        """How many columns side by side fit a vector of 16 bytes, or of 8, in all arrays."""
        for items in (16 // self._itemsize, 2):
            bytes_ = items * self._itemsize
            if (
                items <= 4
                and self.sizes[2] % items == 0
                and all(
                    pointer % bytes_ == 0
                    and steps.inner == self._itemsize
                    and steps.outer % bytes_ == 0
                    and steps.line % bytes_ == 0
                    for pointer, steps in arrays
                )
            ):
                return items
        return 1

    def arguments(self, notes: int, cuts: int) -> tuple[Any, ...]:
        """What kernels take: see `batch.PARAMETERS`."""
        arrays = zip(self._pointers, self._steps, strict=True)
        flat = [n for pointer, steps in arrays for n in (pointer, *steps)]
        outer, length, inner = self.sizes
        return (*flat, notes, outer, length, inner, cuts, self._number)


def tiles(shape: Shape, sizes: tuple[int, int, int], cuts: int) -> int:
    """How many tiles a kernel's blocks or clusters have to do together."""
    outer, _, inner = sizes
    if shape.name.startswith("columns"):
        return outer * -(-inner // (WARP * shape.items))
    return -(-outer // shape.group.rows) * cuts


def run(
    formula: Formula, x: View, out: View, temperature: float | View | None, mask: View | None,
    stream: int,
) -> None:  # fmt: skip
    """Have the kernels of a call started."""
    call, device = Call(formula, x, out, temperature, mask), current()
    shapes, cuts = plan.shapes(Shape, x.itemsize, call.layout(), device.plan)
    with device.memory(8 * LINES * cuts * call.sizes[0] if cuts > 1 else 0, stream) as notes:
        arguments = call.arguments(notes, cuts)
        for shape in shapes:
            count = min(tiles(shape, call.sizes, cuts), device.plan.multiprocessors * plan.WAVES)
            device.launch(call.kind, shape, count, arguments, stream)


# --- devices --------------------------------------------------------------------------------------


class _Simulator:
    """What stands for a device where there is none."""

    plan = plan.Device(2, (9, 0))

    @contextmanager
    def memory(self, size: int, stream: int) -> Iterator[int]:
        held = np.empty(size, np.uint8)
        yield held.ctypes.data

    def launch(
        self, kind: Kind, shape: Shape, blocks: int, arguments: tuple[Any, ...], stream: int
    ) -> None:
        from fastsoftmax.cuda import simulated

        simulated.launch(kind, shape, blocks, arguments)


class _Device:
    """A device of this machine."""

    def __init__(self, number: int) -> None:
        self._device = core.Device(number)
        self._device.set_current()
        found = self._device.properties
        self.plan = plan.Device(found.multiprocessor_count, tuple(self._device.compute_capability))
        self._kernels: dict[Any, Any] = {}

    @contextmanager
    def memory(self, size: int, stream: int) -> Iterator[int]:
        """Memory of the device for what a stream does meanwhile."""
        if not size:
            yield 0
            return
        on = core.Stream.from_handle(stream)
        buffer = self._device.allocate(size, stream=on)
        try:
            yield int(buffer.handle)
        finally:
            buffer.close(on)

    def launch(
        self, kind: Kind, shape: Shape, blocks: int, arguments: tuple[Any, ...], stream: int
    ) -> None:
        """Start a kernel."""
        found = self._kernels.get((kind, shape, blocks))
        if found is None:
            made = code(kind, shape, self.plan.capability)
            kernel = core.ObjectCode.from_cubin(made.machine).get_kernel(made.name)
            cluster = {"cluster": shape.clusters} if shape.clusters > 1 else {}
            config = core.LaunchConfig(grid=blocks, block=shape.threads, **cluster)
            found = self._kernels[kind, shape, blocks] = config, kernel
        core.launch(core.Stream.from_handle(stream), *found, *arguments)


_device = functools.cache(_Device)


def current() -> Any:
    """The device that calls go to: the current one of this thread."""
    if config.ENABLE_CUDASIM:
        return _SIMULATOR
    return _device(core.Device().device_id)


_SIMULATOR = _Simulator()
