"""Where compiled code is kept between processes.

One file for each kernel and signature, in a directory named by everything that the code depends
on: the modules of this package, the versions of Python, Numba, llvmlite and NumPy, Numba's
settings, the CPU and its features. So an entry is never stale and processes never share a file
that changes. A file is written beside its place and renamed when whole, and carries its checksum:
a damaged one is compiled afresh. Where nothing can be kept, code is compiled in memory, with one
warning.

A file is unpickled and its machine code is run: so it must belong to this user, like the
directories that are made for it, and nobody else may write to them. (The directory around these
may be anyone's: whoever puts another in their place does not own it as this user.)
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import secrets
import shlex
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import llvmlite
import numba
import numpy as np

from fastsoftmax import source
from fastsoftmax.cpu import compiler

# What of Numba's configuration changes code, beside the CPU's name and features.
_SETTINGS = (
    "BOUNDSCHECK",
    "DEBUG_JIT",
    "DEBUG_NRT",
    "DEBUGINFO_DEFAULT",
    "DISABLE_INTEL_SVML",
    "EXTEND_VARIABLE_LIFETIMES",
    "LLVM_REFPRUNE_FLAGS",
    "LLVM_REFPRUNE_PASS",
    "LOOP_VECTORIZE",
    "OPT",
    "SLP_VECTORIZE",
)

# Seconds without use after which a directory is removed. Nothing depends on one that is there:
# a process whose code was removed compiles it again. So this weighs disk against seconds alone.
_UNUSED = 30 * 86400


def cache_directory() -> Path:
    """The directory for compiled code, in NUMBA_CACHE_DIR, else in the user's own cache.

    FileNotFoundError says why there is none.
    """
    return _base() / "fastsoftmax" / _fingerprint()


def _base() -> Path:
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        return Path(given)
    own = Path("~", "AppData/Local" if os.name == "nt" else ".cache")
    # The specification of XDG has a relative path ignored; "~" stays where nobody's home is known.
    for path in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser(own)):
        if os.path.isabs(path):
            return Path(path)
    raise FileNotFoundError(errno.ENOENT, "this user has no home directory")


def _fingerprint() -> str:
    if source.IMPORTED is None:
        raise FileNotFoundError(errno.ENOENT, "the package's modules cannot be read as files")
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    settings = [getattr(numba.config, name, None) for name in _SETTINGS]
    machine = (platform.machine(), compiler.target())
    everything = (source.IMPORTED, sys.flags.optimize, versions, settings, machine)
    return hashlib.sha256(repr(everything).encode()).hexdigest()[:24]


def short_hash(kinds: Any) -> str:
    """A part of a file's name that differs where the types of arguments do."""
    return hashlib.sha256(repr(kinds).encode()).hexdigest()[:16]


class Store:
    """The files of one function's code: one for each signature."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _file(self, signature: Any) -> Path:
        return cache_directory() / f"{self.name}.{short_hash(signature)}.bin"

    def load(self, signature: Any) -> bytes | None:
        """What was kept for a signature, None where it is to be compiled.

        Where that cannot be kept, saving it says so.
        """
        try:
            content = _own_content(self._file(signature))
        except OSError:
            return None
        checksum, code = content[:32], content[32:]
        return code if hashlib.sha256(code).digest() == checksum else None

    def save(self, signature: Any, code: bytes) -> None:
        """Keep a file of it, where there is room for one."""
        try:
            if source.changed():  # this process may have imported some of both
                return
            target = self._file(signature)
            _make(target.parent)
            with beside(target) as (name, file):
                file.write(hashlib.sha256(code).digest() + code)
                file.close()  # written without an error, by now
                os.replace(name, target)
        except OSError as error:
            _warn_once(error)


def _make(directory: Path) -> None:
    """Have a directory for code, of this user's own."""
    new = False
    for place in (*reversed(directory.parents), directory):
        new = not place.is_dir()
        if new:
            place.mkdir(0o700, exist_ok=True)
    _check_own(directory.parent)
    _check_own(directory)
    if new:
        _remove_unused(directory.parent)


def _remove_unused(parent: Path) -> None:
    """Remove what other versions left, and no process has used for long."""
    for place in parent.iterdir():
        with contextlib.suppress(OSError):  # another process does the same, or uses it
            status = place.lstat()
            unused = time.time() - status.st_mtime > _UNUSED
            if stat.S_ISDIR(status.st_mode) and unused and re.fullmatch("[0-9a-f]{24}", place.name):
                for file in (*place.glob("*.bin"), *place.glob(".*.part")):
                    file.unlink()
                place.rmdir()


def _own_content(file: Path) -> bytes:
    """What is in a file of code that nobody else can have written."""
    _check_own(file.parent.parent)
    _check_own(file.parent)
    # Whatever is in its place, it is not waited for, as a pipe's other end would be.
    at_once = getattr(os, "O_NONBLOCK", 0)
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | at_once)) as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(file))
        _check_status(file, status)
        content = opened.read()
    _stamp(file.parent)
    return content


def _check_own(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(directory))
    _check_status(directory, status)


class _Open(PermissionError):
    """Others may write to this user's own file or directory."""


def _check_status(path: Path, status: os.stat_result) -> None:
    if not hasattr(os, "geteuid"):  # Windows, where a user's directories are the user's alone
        return
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    if status.st_mode & 0o022:
        raise _Open(errno.EPERM, "others may write to it", str(path))


@functools.cache
def _stamp(directory: Path) -> None:
    """Note in a directory's time that it is used."""
    with contextlib.suppress(OSError):  # a file system that is read-only
        os.utime(directory)


def prefix_of_parts(path: Path) -> str:
    """How the names of new files beside a path begin: short, however long its own is."""
    return f".fastsoftmax.{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}"


@contextlib.contextmanager
def beside(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file beside a path, which may take its name; it is gone when the block ends.

    So nobody ever sees half of what is written, and an old file stays as it is until then.
    """
    name = path.with_name(f"{prefix_of_parts(path)}.{secrets.token_hex(8)}.part")
    try:
        with open(name, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield name, file
    finally:
        with contextlib.suppress(FileNotFoundError):  # it has the other name
            os.unlink(name)


# Why nothing is kept, where it is so.
failure: str | None = None


def _warn_once(error: OSError) -> None:
    """Say why nothing is kept."""
    global failure
    if failure is not None:
        return
    failure = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    mend = "Point NUMBA_CACHE_DIR to a writable directory of your own"
    if isinstance(error, _Open):
        mend = f"Run `chmod go-w {shlex.quote(error.filename)}`"
    text = (
        f"fastsoftmax keeps its compiled code in memory only ({failure}): every process will "
        f"compile again. {mend} to keep it."
    )
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:  # where warnings are errors: this is none, the result is right
        if sys.stderr is not None:
            print(f"RuntimeWarning: {text}", file=sys.stderr)
