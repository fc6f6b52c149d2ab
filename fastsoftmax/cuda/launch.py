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

from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.cuda import plan
from fastsoftmax.cuda.batch import PARAMETERS, Kind
from fastsoftmax.cuda.cuts import LINES
from fastsoftmax.cuda.kernels import written
from fastsoftmax.cuda.shape import Shape
from fastsoftmax.cuda.target import Threads

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
        launch_bounds=(shape.threads, max(1, 512 // shape.threads)),
    )  # fmt: skip
    found = re.search(r"\.entry (\w+)", ptx)
    assert found, "PTX without a kernel"
    options = core.LinkerOptions(
        arch=f"sm_{capability[0]}{capability[1]}", fma=False, ptxas_options="-v"
    )
    linker = core.Linker(core.ObjectCode.from_ptx(ptx.encode()), options=options)
    machine = linker.link("cubin")
    return Code(found[1], ptx, bytes(machine.code), linker.get_info_log())


def noted(cuts: int) -> int:
    """Bytes of notes for a row of so many cuts."""
    return 8 * LINES * cuts if cuts > 1 else 0


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
            layout = core.LaunchConfig(grid=blocks, block=shape.threads, **cluster)
            found = self._kernels[kind, shape, blocks] = layout, kernel
        core.launch(core.Stream.from_handle(stream), *found, *arguments)


_device = functools.cache(_Device)


def current() -> Any:
    """The device that calls go to: the current one of this thread."""
    if config.ENABLE_CUDASIM:
        return _SIMULATOR
    return _device(core.Device().device_id)


_SIMULATOR = _Simulator()
