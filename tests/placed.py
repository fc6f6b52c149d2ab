"""Arrays in every layout and place: strided, misaligned, between pages that are not mapped."""

import ctypes
import functools
import mmap
import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np

UNTOUCHED = 0xA5  # what memory holds between the elements of an array
NO_ACCESS, READ = 0, 1


class How(NamedTuple):
    """How an array lies in memory.

    ``order``: its axes from the slowest to the fastest; None: as in C. ``steps``: for each axis 1
    where neighbours touch, 2 for a gap, -1 for backwards, 0 for one element all along; None: 1 for
    each. ``edge``: "start" or "end", where nothing is mapped before or after it; None: the heap.
    """

    order: tuple[int, ...] | None = None
    steps: tuple[int, ...] | None = None
    swapped: bool = False
    misaligned: bool = False
    read_only: bool = False
    edge: str | None = None


def placed(values, how):
    """An array of these values that lies as ``how`` says; along a step of 0, the first of them."""
    values = np.asarray(values)
    order = how.order or tuple(range(values.ndim))
    steps = how.steps or (1,) * values.ndim
    dtype = values.dtype.newbyteorder() if how.swapped else values.dtype
    strides, reach = [0] * values.ndim, values.itemsize
    for axis in reversed(order):
        strides[axis] = steps[axis] * reach
        reach = max(reach, abs(strides[axis]) * values.shape[axis])
        if steps[axis] == 0 and values.shape[axis] > 1:
            values = np.broadcast_to(values.take([0], axis), values.shape)
    ends = [stride * (n - 1) for stride, n in zip(strides, values.shape, strict=True)]
    size = sum(map(abs, ends)) + values.itemsize if values.size else 0
    memory = _memory(size + how.misaligned, how.edge)
    memory[...] = UNTOUCHED
    # A misaligned array is a byte away from the edge.
    first = -sum(end for end in ends if end < 0) if values.size else 0
    first += how.misaligned and how.edge != "end"
    array = np.ndarray(values.shape, dtype, memory, first, strides)
    array[...] = values
    if how.read_only:
        array.flags.writeable = False
        if how.edge is not None:
            _protect(memory_of(array), READ)
    return array


def _memory(size, edge):
    if edge is None:
        return np.empty(size, np.uint8)
    pages = max(1, -(-size // mmap.PAGESIZE))
    region = np.frombuffer(mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE), np.uint8)
    _protect(region[: mmap.PAGESIZE], NO_ACCESS)
    _protect(region[-mmap.PAGESIZE :], NO_ACCESS)
    memory = region[mmap.PAGESIZE : -mmap.PAGESIZE]
    return memory[:size] if edge == "start" else memory[memory.size - size :]


@functools.cache
def _mprotect():
    function = ctypes.CDLL(None, use_errno=True).mprotect
    function.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return function


def _protect(pages, access):
    if _mprotect()(pages.ctypes.data, pages.size, access):
        raise OSError(ctypes.get_errno(), "mprotect")


def _root(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def memory_of(array):
    """All the bytes among which ``placed`` put an array."""
    root = _root(array)
    return root if root.flags.owndata else root[mmap.PAGESIZE : -mmap.PAGESIZE]


def edges_of(array):
    """The edges of memory at which a view of what was placed begins or ends."""
    if _root(array).flags.owndata:
        return set()
    memory = memory_of(array)
    ends = [stride * (n - 1) for stride, n in zip(array.strides, array.shape, strict=True)]
    before = array.ctypes.data + sum(end for end in ends if end < 0) - memory.ctypes.data
    after = memory.size - before - sum(map(abs, ends)) - array.itemsize
    return {edge for edge, distance in (("start", before), ("end", after)) if distance == 0}


def plain(array):
    """A copy in C order, aligned and in this machine's byte order."""
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def in_a_process(program, **environment):
    """What a program prints; the test fails where the program fails or dies, as by SIGSEGV."""
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program],
        env=os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)} | environment,
        capture_output=True,
        text=True,
    )
    said = f"exit status {run.returncode}\n{run.stdout[-1000:]}\n{run.stderr[-6000:]}"
    assert run.returncode == 0, said
    return run.stdout
