"""What a thread of a GPU has: its place, others to exchange values with, and memory.

`Device` has two twins: the one of target.py, whose code Numba compiles, and that of simulated.py,
which carries it out. Kernels ask `device()` for the one that they are being written for.
"""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import ir

from fastsoftmax.arithmetic import generated
from fastsoftmax.arithmetic.generated import Target
from fastsoftmax.arithmetic.lanes import DOUBLE, FLOAT, INT8, INT64, Value

WARP = 32  # threads
VECTOR = 16  # bytes that a thread reads or writes at once


class Storage(NamedTuple):
    """How numbers of a type lie in memory, and as what they are computed."""

    itemsize: int
    element: ir.Type


STORAGE = {
    "float64": Storage(8, DOUBLE),
    "float32": Storage(4, FLOAT),
    "float16": Storage(2, FLOAT),
    "bfloat16": Storage(2, FLOAT),
    "int64": Storage(8, INT64),
    "bool": Storage(1, INT8),
}

Index = Value | int
Tables = tuple[tuple[float, ...], ...]


class Shared:
    """Memory that the threads of a block share: an array."""

    def load(self, index: Index) -> Value:
        """One of its numbers."""
        raise NotImplementedError

    def store(self, index: Index, value: Value) -> None:
        """Write one of them."""
        raise NotImplementedError

    def of(self, rank: Value, index: Index) -> Value:
        """One of the numbers of another block of the cluster."""
        raise NotImplementedError


class Device(Target):
    """A thread of a GPU, of compute capability 8.0 or later."""

    def prepare(self, tables: Tables, element: ir.Type) -> None:
        """Have tables of eight where all threads of a block can look numbers up."""
        raise NotImplementedError

    def again(self, x: Value) -> Value:
        """An integer, of which the compiler does not know that it is the same."""
        raise NotImplementedError

    # --- threads ----------------------------------------------------------------------------

    def thread(self) -> Value:
        """This thread's number in its block."""
        raise NotImplementedError

    def block(self) -> Value:
        """Its block's number."""
        raise NotImplementedError

    def blocks(self) -> Value:
        """How many blocks there are."""
        raise NotImplementedError

    def rank(self) -> Value:
        """Its block's number in the cluster."""
        raise NotImplementedError

    def barrier(self) -> None:
        """Wait for all threads of the block."""
        raise NotImplementedError

    def cluster_barrier(self) -> None:
        """Wait for all threads of the cluster."""
        raise NotImplementedError

    def exchanged(self, x: Value, distance: int) -> Value:
        """The value of the warp's thread whose number differs in this one bit."""
        raise NotImplementedError

    # --- memory -----------------------------------------------------------------------------

    def load(self, address: Value, storage: str, count: int = 1) -> list[Value]:
        """Numbers side by side in global memory, aligned as a whole."""
        raise NotImplementedError

    def store(self, address: Value, storage: str, values: list[Value]) -> None:
        """Numbers to places side by side in global memory, aligned as a whole."""
        raise NotImplementedError

    def shared(self, name: str, element: ir.Type, count: int) -> Shared:
        """Memory that a block's threads share; the same at each call with the same name."""
        raise NotImplementedError


def device() -> Device:
    """What the kernel is being written for."""
    target = generated.target()
    assert isinstance(target, Device)
    return target
