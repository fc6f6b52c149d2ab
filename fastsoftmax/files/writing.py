"""A file that is there when it is whole, or not at all; and files without a name."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastsoftmax.cpu.cache import beside, prefix_of_parts

if sys.platform != "win32":
    import fcntl

Array = np.ndarray[Any, Any]

# Neither follow a link nor wait for a pipe's other end.
_NO_SURPRISE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def check_free(path: Path, overwrite: bool) -> int | None:
    """The permissions of a file that may be replaced, None where there is none.

    FileExistsError where it may not; another OSError where what is there is not a file, or no
    folder to put it into.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:  # but not a link that leads to itself
        path.resolve().parent.stat()
        return None
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    return mode & 0o777


@contextlib.contextmanager
def new_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], overwrite: bool
) -> Iterator[Array]:
    """A .npy file to be filled, which takes its name when the block ends without an error.

    A link is followed; what is not a file is refused. A file that is there, or that appears
    meanwhile, is a FileExistsError; with ``overwrite`` it is replaced, and its mode kept. The
    space is reserved first: a full disk is an OSError here, not a crash while writing.
    """
    mode = check_free(path, overwrite)
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


def temporary(nbytes: int) -> io.BufferedRandom:
    """A file without a name that has room for so many bytes, for what memory may not have."""
    try:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(tempfile.TemporaryFile())
            _reserve(file.fileno(), 0, nbytes)
            opened.pop_all()
            return file
    except OSError as error:
        what = f"a temporary file of {nbytes} bytes (TMPDIR says where)"
        raise MemoryError(f"{what}: {error.strerror}") from None
