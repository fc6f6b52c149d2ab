"""Scoring a .npy file of any size, block by block, into a file that is whole or not there."""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastsoftmax.cpu.cache import whole_file

Array = np.ndarray[Any, Any]

# Bytes of logits in a block: long enough for full speed, little beside any machine's memory.
BLOCK_BYTES = 1 << 25
_PAGE = 4096


def read_logits(path: Path) -> Array:
    """The array in a .npy file, memory-mapped; ValueError or OSError says what is wrong."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
        except ValueError:
            raise ValueError("not a .npy file") from None
        if version not in {(1, 0), (2, 0), (3, 0)}:
            raise ValueError(f"version {version[0]}.{version[1]} of .npy is unknown")
        # The header's version decides how it is read; 3.0 differs from 2.0 in its encoding alone.
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that Python 2 wrote it
                shape, fortran, dtype = read(file)
        except Exception as error:  # its parser raises whatever a damaged header makes of it
            raise ValueError(f"damaged .npy header ({error})".replace("\n", " ")) from None
        if dtype.hasobject:
            raise ValueError("holds Python objects, which are never unpickled")
        if dtype.kind not in "biuf":
            raise ValueError(f"holds {dtype}, not real numbers")
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(f"damaged .npy header (shape {shape})")
        offset = file.tell()
        size = os.fstat(file.fileno()).st_size - offset
    wanted = math.prod(shape) * dtype.itemsize
    if size < wanted:
        raise ValueError(f"truncated: {shape} of {dtype} are {wanted} bytes, {size} are there")
    order: Any = "F" if fortran else "C"
    if wanted == 0:
        return np.empty(shape, dtype, order)
    return np.memmap(path, dtype, "r", offset, shape, order)


@contextlib.contextmanager
def new_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Array]:
    """A .npy file to be filled, which takes its name when the block ends without an error.

    A link is followed; what is not a file is refused. Its space is reserved first: a full disk
    is an OSError here, not a crash while writing.
    """
    with contextlib.suppress(FileNotFoundError):  # but not a link that leads to itself
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with whole_file(path.resolve()) as file:
        np.lib.format.write_array_header_2_0(file, header)
        offset = file.tell()
        total = offset + math.prod(shape) * dtype.itemsize
        file.flush()
        _reserve(file.fileno(), offset, total)
        if total > offset:
            mapped = np.memmap(file, dtype, "r+", offset, shape)
            yield mapped
            mapped.flush()
        else:
            yield np.empty(shape, dtype)
        if hasattr(os, "fchmod"):  # as any new file, where mkstemp made it private
            os.fchmod(file.fileno(), 0o666 & ~_umask())
        os.fsync(file.fileno())


def _reserve(descriptor: int, start: int, stop: int) -> None:
    if hasattr(os, "posix_fallocate") and stop > start:
        os.posix_fallocate(descriptor, start, stop - start)
    else:
        zeros = bytes(1 << 20)
        os.lseek(descriptor, start, os.SEEK_SET)
        for at in range(start, stop, len(zeros)):
            os.write(descriptor, zeros[: stop - at])


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def blocks(x: Array, axis: int) -> Iterator[tuple[slice, ...]]:
    """Slices that cut an array into blocks of whole rows along ``axis``.

    They are cut across the other axes, from the one that is outermost in memory inwards, until
    they are small enough; but never to pieces of less than a page of memory.
    """
    others = [i for i in range(x.ndim) if i != axis and x.shape[i] > 1]
    others.sort(key=lambda i: -x.strides[i])

    def cut(before: tuple[slice, ...], nbytes: int, inwards: list[int]) -> Iterator[Any]:
        if nbytes <= BLOCK_BYTES or not inwards:
            yield before
            return
        across = inwards[0]
        slab = nbytes // x.shape[across]
        step = max(1, BLOCK_BYTES // slab, _PAGE // x.strides[across])
        for start in range(0, x.shape[across], step):
            stop = min(start + step, x.shape[across])
            part = (*before[:across], slice(start, stop), *before[across + 1 :])
            yield from cut(part, slab * (stop - start), inwards[1:])

    yield from cut((slice(None),) * x.ndim, x.nbytes, others)


def release(array: Array) -> None:
    """Let go of a mapped file's pages, which stay in the file and the system's cache."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def score(
    x: Array,
    axis: int,
    reduces: bool,
    function: Callable[..., Any],
    out: Array | None,
    dtype: np.dtype[Any],
    advance: Callable[[int], None],
) -> None:
    """function(block, axis, out=...) for each block of x; ``reduces`` where it drops the axis.

    Without ``out`` the results are computed and forgotten.
    """
    for cut in blocks(x, axis):
        block = x[cut]
        left: Any = tuple(part for i, part in enumerate(cut) if not (reduces and i == axis))
        # A single row is reduced to no dimension: an array of none, not a number.
        target = None if out is None else out[left or ...]
        function(block, axis=axis, dtype=dtype, out=target)
        if out is not None:
            release(out)
        release(x)
        advance(block.nbytes)
