"""How the machine code of kernels is made and started.

Numba writes PTX, and the linker of NVIDIA's toolkit makes machine code of it, with a device or
without: what tests read is what runs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from cuda import core
from numba import config, cuda, types

from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.cuda.batch import PARAMETERS, Kind
from fastsoftmax.cuda.cuts import LINES
from fastsoftmax.cuda.driver import Unavailable, driver
from fastsoftmax.cuda.kernels import written
from fastsoftmax.cuda.shape import Hardware, Shape
from fastsoftmax.cuda.target import Threads

_SIGNATURE = types.void(*[types.int64] * (len(PARAMETERS) - 1), types.float64)
# Threads of a multiprocessor that a kernel leaves room for: with 128 registers each, or 255.
_RESIDENT = {True: 512, False: 256}


class Code(NamedTuple):
    """A kernel for devices of a compute capability."""

    name: str
    ptx: str
    machine: bytes
    report: str  # the linker's: registers, spills


@functools.cache
def code(kind: Kind, shape: Shape, capability: tuple[int, int]) -> Code:
    """The code of a kernel."""
    resident = max(1, _RESIDENT[kind.roomy] // shape.threads)
    return compiled(written(kind, shape), (shape.threads, resident), capability)


def compiled(
    write: Callable[..., None], bounds: tuple[int, int], capability: tuple[int, int]
) -> Code:
    """The code of what ``write`` writes of `PARAMETERS`, for blocks of so many threads.

    ``bounds``: these, and how many such blocks a multiprocessor is to have room for.
    """
    ptx, _ = cuda.compile(
        _function(generated(write, PARAMETERS, Threads())),
        _SIGNATURE, device=False, abi="numba", cc=capability, output="ptx", launch_bounds=bounds,
    )  # fmt: skip
    name = re.search(r"\.entry (\w+)", ptx)
    assert name, "PTX without a kernel"
    arch = f"sm_{capability[0]}{capability[1]}"
    options = core.LinkerOptions(arch=arch, fma=False, ptxas_options="-v")
    linker = core.Linker(core.ObjectCode.from_ptx(ptx.encode()), options=options)
    machine = bytes(linker.link("cubin").code)
    return Code(name[1], ptx, machine, linker.get_info_log())


def _function(body: Any) -> Callable[..., None]:
    """A kernel as Numba takes it: with the names of its parameters, all of `PARAMETERS`."""

    def fastsoftmax(  # type: ignore[no-untyped-def]
        x, x_outer, x_line, x_inner, out, out_outer, out_line, out_inner,
        mask, mask_outer, mask_line, mask_inner,
        temperatures, temperatures_outer, temperatures_line, temperatures_inner,
        labels, labels_outer, labels_line, labels_inner,
        notes, outer, length, inner, cuts, several, temperature,
    ) -> None:  # fmt: skip
        body(
            x, x_outer, x_line, x_inner, out, out_outer, out_line, out_inner,
            mask, mask_outer, mask_line, mask_inner,
            temperatures, temperatures_outer, temperatures_line, temperatures_inner,
            labels, labels_outer, labels_line, labels_inner,
            notes, outer, length, inner, cuts, several, temperature,
        )  # fmt: skip

    return fastsoftmax


def noted(cuts: int) -> int:
    """Bytes of notes for a row of so many cuts."""
    return 8 * LINES * cuts if cuts > 1 else 0


class _Simulator:
    """What stands for a device in Numba's simulator."""

    hardware = Hardware(2, (9, 0))

    def launch(
        self, kind: Kind, shape: Shape, blocks: int, arguments: tuple[Any, ...], stream: int
    ) -> None:
        """Carry out a kernel."""
        from fastsoftmax.cuda import simulated

        simulated.launch(kind, shape, blocks, arguments)


class _Device:
    """A device of this machine."""

    def __init__(self, number: int) -> None:
        device = core.Device(number)
        major, minor = device.compute_capability
        if major < 8:
            raise Unavailable(
                f"GPU {number} has compute capability {major}.{minor}, and kernels need 8.0 or more"
            )
        self.hardware = Hardware(device.properties.multiprocessor_count, (major, minor))
        self._kernels: dict[Any, Any] = {}
        self._stream = functools.lru_cache(maxsize=64)(core.Stream.from_handle)  # 6 us

    def launch(
        self, kind: Kind, shape: Shape, blocks: int, arguments: tuple[Any, ...], stream: int
    ) -> None:
        """Start a kernel: so many blocks, or clusters."""
        kernel = self._kernels.get((kind, shape))
        if kernel is None:
            made = code(kind, shape, self.hardware.capability)
            loaded = core.ObjectCode.from_cubin(made.machine)
            kernel = self._kernels[kind, shape] = loaded.get_kernel(made.name)
        core.launch(self._stream(stream), _layout(shape, blocks), kernel, *arguments)


@functools.lru_cache(maxsize=1024)
def _layout(shape: Shape, blocks: int) -> Any:
    cluster = {"cluster": shape.clusters} if shape.clusters > 1 else {}
    return core.LaunchConfig(grid=blocks, block=shape.threads, **cluster)


_device = functools.cache(_Device)
_SIMULATOR = _Simulator()


def current() -> Any:
    """The device that calls go to: this thread's current one."""
    number = driver().current_device()
    return _SIMULATOR if config.ENABLE_CUDASIM else _device(number)


@contextmanager
def notes(size: int, stream: int) -> Iterator[int]:
    """Memory while a call's kernels run, taken and given back in the order of the stream."""
    if not size:
        yield 0
        return
    memory = driver().allocate(size, stream)
    try:
        yield memory
    finally:
        driver().free(memory, stream)
