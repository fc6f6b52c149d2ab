"""Scoring a .npy file of any size, block by block, into a file that is whole or not there."""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import mmap
import os
import re
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastsoftmax.cpu.cache import beside, prefix_of_parts

if sys.platform != "win32":
    import fcntl

Array = np.ndarray[Any, Any]

# Bytes of logits in a block: long enough for full speed, little beside any machine's memory.
BLOCK_BYTES = 1 << 25
# A row that is longer is a block of its own. Beyond this, it is read into a temporary file.
_MEMORY_BYTES = 1 << 30
_PAGE = 4096
# Neither follow a link nor wait for a pipe's other end.
_NO_SURPRISE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Unreadable(Exception):
    """A file that cannot be read, or no longer; says which and why."""


class LogitsFile:
    """The array in a .npy file, of which a part is read by slicing it, as of an array.

    It is not mapped: the process is killed where a mapped file becomes shorter.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._unreadable())
            if not stat.S_ISREG(path.stat().st_mode):
                raise ValueError("not a regular file")
            self._file = stack.enter_context(path.open("rb", buffering=0))
            self.shape, fortran, self.dtype = _header(self._file)
            self.ndim = len(self.shape)
            self.size = math.prod(self.shape)
            self.nbytes = self.size * self.dtype.itemsize
            self._offset = self._file.tell()
            there = os.fstat(self._file.fileno()).st_size - self._offset
            if there < self.nbytes:
                raise ValueError(
                    f"truncated: {self.shape} of {self.dtype} are {self.nbytes} bytes, "
                    f"{there} are there"
                )
            np.broadcast_to(np.empty((), self.dtype), self.shape)  # NumPy can have such an array
            stack.pop_all()
        self._outermost_first = range(self.ndim)[:: -1 if fortran else 1]
        self.strides = tuple(
            math.prod(self.shape[:i] if fortran else self.shape[i + 1 :]) * self.dtype.itemsize
            for i in range(self.ndim)
        )
        self._memory = np.empty(0, np.uint8)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextlib.contextmanager
    def _unreadable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unreadable(f"cannot read {str(self._path)!r}: {error.strerror}") from None
        except ValueError as error:
            raise Unreadable(f"cannot read {str(self._path)!r}: {error}") from None

    def __getitem__(self, cut: tuple[slice, ...]) -> Array:
        """A part of the array, in memory that the next part is read into, too."""
        order = self._outermost_first
        indices = [range(self.shape[i])[cut[i]] for i in order]
        lengths = [len(r) for r in indices]
        # What is cut from axis ``split``, with all of the axes in it, lies in one piece.
        split = self.ndim - 1
        while split > 0 and lengths[split] == self.shape[order[split]]:
            split -= 1
        nbytes = math.prod(lengths) * self.dtype.itemsize
        if nbytes > self._memory.nbytes:
            self._memory = _memory(nbytes)
        memory = self._memory[:nbytes]
        if nbytes:
            steps = [
                range(r.start * self.strides[i], r.stop * self.strides[i], self.strides[i])
                for i, r in zip(order, indices, strict=True)
            ]
            steps[split:] = [places[:1] for places in steps[split:]]
            pieces = memory.reshape(math.prod(lengths[:split]), -1)
            with self._unreadable():
                for piece, at in zip(pieces, itertools.product(*steps), strict=True):
                    self._fill(piece.data, self._offset + sum(at))
        # Swapping the axes back is the same as swapping them.
        return memory.view(self.dtype).reshape(lengths).transpose(order)

    def _fill(self, memory: memoryview, at: int) -> None:
        self._file.seek(at)
        while len(memory):
            count = self._file.readinto(memory)
            if not count:
                raise ValueError("truncated while it was read")
            memory = memory[count:]


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and type; ValueError says what is wrong."""
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
    if not shape:
        raise ValueError("holds a single number, not rows of logits")
    return shape, fortran, dtype


def _memory(nbytes: int) -> Array:
    """Memory for a block; that of a huge one is in a file, which the system may write to disk."""
    if nbytes <= _MEMORY_BYTES:
        return np.empty(nbytes, np.uint8)
    try:
        with tempfile.TemporaryFile() as file:
            _reserve(file.fileno(), 0, nbytes)
            return np.memmap(file, np.uint8, "r+", shape=(nbytes,))
    except OSError as error:
        what = f"a temporary file of {nbytes} bytes (TMPDIR says where)"
        raise MemoryError(f"{what}: {error.strerror}") from None


@contextlib.contextmanager
def new_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], overwrite: bool
) -> Iterator[Array]:
    """A .npy file to be filled, which takes its name when the block ends without an error.

    A link is followed; what is not a file is refused. A file that is there, or that appears
    meanwhile, is a FileExistsError; with ``overwrite`` it is replaced, and its mode kept. The
    space is reserved first: a full disk is an OSError here, not a crash while writing.
    """
    mode = _mode(path)
    if mode is not None and not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    path = path.resolve()
    with _part(path) as (name, file):
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
        if hasattr(os, "fchmod"):  # a part is private
            os.fchmod(file.fileno(), 0o666 & ~_umask() if mode is None else mode)
        os.fsync(file.fileno())
        if overwrite:
            os.replace(name, path)
        else:
            _link(name, path)


def _mode(path: Path) -> int | None:
    """The permissions of a file, None where there is none."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:  # but not a link that leads to itself
        return None
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return mode & 0o777


@contextlib.contextmanager
def _part(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """As ``beside``, but locked; what killed processes have left, unlocked, is removed."""
    _remove_stale_parts(path)
    while True:
        with beside(path) as (name, file):
            with contextlib.suppress(OSError):  # a file system without locks: none is stale
                _lock(file.fileno(), wait=True)
            if os.fstat(file.fileno()).st_nlink:  # not taken for stale before it was locked
                yield name, file
                return


def _remove_stale_parts(path: Path) -> None:
    """Remove the parts of a path that no process has locked: theirs were killed."""
    pattern = re.compile(rf"{re.escape(prefix_of_parts(path))}\.[0-9a-f]{{16}}\.part")
    try:
        parts = [part for part in path.parent.iterdir() if pattern.fullmatch(part.name)]
    except PermissionError:  # a directory may be written to and not be listed
        return
    for part in parts:
        with contextlib.suppress(OSError):  # it is locked, or another user's, or gone
            descriptor = os.open(part, os.O_RDWR | _NO_SURPRISE)
            try:
                _lock(descriptor, wait=False)
                os.unlink(part)
            finally:
                os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> None:
    """Lock a file while it is open, or OSError. (Windows removes no file that is open.)"""
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _link(name: Path, path: Path) -> None:
    """Give a file a second name, unless the name is taken: FileExistsError."""
    try:
        os.link(name, path)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        # A file system without links, as FAT: the name is claimed by an empty file.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        os.replace(name, path)


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


def blocks(x: Array | LogitsFile, axis: int) -> Iterator[tuple[slice, ...]]:
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


def nbytes(x: Array | LogitsFile, cut: tuple[slice, ...]) -> int:
    """The size of a part of an array."""
    lengths = (len(range(n)[part]) for n, part in zip(x.shape, cut, strict=True))
    return math.prod(lengths) * x.dtype.itemsize


def release(array: Array) -> None:
    """Let go of a mapped file's pages, which stay in the file and the system's cache."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def score(
    x: Array | LogitsFile,
    axis: int,
    reduces: bool,
    function: Callable[..., Any],
    out: Array | None,
    dtype: np.dtype[Any],
    scored: Callable[[tuple[slice, ...], Array], None],
) -> None:
    """function(block, axis, out=...) for each block of x; ``reduces`` where it drops the axis.

    Without ``out`` the results are computed and forgotten. ``scored`` is called with each block
    when its results are there.
    """
    for cut in blocks(x, axis):
        block = x[cut]
        left: Any = tuple(part for i, part in enumerate(cut) if not (reduces and i == axis))
        # A single row is reduced to no dimension: an array of none, not a number.
        target = None if out is None else out[left or ...]
        function(block, axis=axis, dtype=dtype, out=target)
        if out is not None:
            release(out)
        scored(cut, block)
