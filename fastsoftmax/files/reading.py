"""A .npy file, of which parts are read; it may come through a pipe."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
import shlex
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax.files.writing import temporary

Array = np.ndarray[Any, Any]
Progress = Callable[[float], AbstractContextManager[Callable[[float], None]]]

# A part that is larger is read into a temporary file.
_MEMORY_BYTES = 1 << 30


class Unreadable(Exception):
    """A file that cannot be read, or no longer; says which and why."""


class _Header(NamedTuple):
    """What a .npy file says of its array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """The size of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class LogitsFile:
    """The array in a .npy file, of which a part is read by slicing it, as of an array.

    It is not mapped: the process is killed where a mapped file becomes shorter.
    """

    def __init__(self, name: str, header: _Header, file: io.FileIO | io.BufferedRandom) -> None:
        self._name = name
        self._file = file  # which stands at the first logit
        self.shape, fortran, self.dtype = header
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = header.nbytes
        self._offset = file.tell()
        there = os.fstat(file.fileno()).st_size - self._offset
        if there < self.nbytes:
            whole = f"{self.shape} of {self.dtype} are {self.nbytes} bytes"
            raise ValueError(f"truncated: {whole}, {there} are there")
        self._outermost_first = range(self.ndim)[:: -1 if fortran else 1]
        self.strides = tuple(
            math.prod(self.shape[:i] if fortran else self.shape[i + 1 :]) * self.dtype.itemsize
            for i in range(self.ndim)
        )
        self._memory = np.empty(0, np.uint8)

    @classmethod
    def at(cls, path: Path) -> LogitsFile:
        """Open the file of that name; Unreadable where there is none, or it is another kind."""
        name = repr(str(path))
        with _unreadable(name), contextlib.ExitStack() as opened:
            if not stat.S_ISREG(path.stat().st_mode):
                raise ValueError("not a regular file")
            file = opened.enter_context(path.open("rb", buffering=0))
            made = cls(name, _header(file, path), file)
            opened.pop_all()
            return made

    @classmethod
    def of_stdin(cls, progress: Progress) -> LogitsFile:
        """Open what stdin holds from where it stands: a file, or a copy of what a pipe brings.

        ``progress`` is told how many bytes will be copied, then of each piece.
        """
        with _unreadable("stdin"), contextlib.ExitStack() as opened:
            if sys.stdin is None:
                raise ValueError("it is closed")
            if sys.stdin.isatty():
                raise ValueError("it is a terminal: `fastsoftmax score - < FILE.npy` reads a file")
            stream = opened.enter_context(open(sys.stdin.fileno(), "rb", 0, closefd=False))
            header = _header(stream)
            if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                made = cls("stdin", header, stream)
            else:
                with progress(header.nbytes) as advance:
                    copy = opened.enter_context(_copied(stream, header.nbytes, advance))
                made = cls("stdin", header, copy)
            opened.pop_all()
            return made

    def close(self) -> None:
        """Close the file."""
        self._file.close()

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
            with _unreadable(self._name):
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


@contextlib.contextmanager
def _unreadable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unreadable(f"cannot read {name}: {error.strerror}") from None
    except ValueError as error:
        raise Unreadable(f"cannot read {name}: {error}") from None


# What reads an array from a file of another kind, whose name it is given.
_READERS = {
    ".csv": 'import numpy; x = numpy.loadtxt({}, delimiter=",")',
    ".npz": "import numpy; x = next(iter(numpy.load({}).values()))",
    ".parquet": "import numpy, pandas; x = pandas.read_parquet({}).to_numpy()",
    ".pt": 'import numpy, torch; x = torch.load({}, map_location="cpu").numpy()',
    ".tsv": 'import numpy; x = numpy.loadtxt({}, delimiter="\\t")',
    ".txt": "import numpy; x = numpy.loadtxt({})",
}


def _conversion(path: Path) -> str:
    """The line for a shell that makes a .npy file of a file, by the kind that its name tells."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        return ""
    # As Python's own literals are, but with the quotes that a shell leaves as they are in others.
    given, made = (json.dumps(str(p), ensure_ascii=False) for p in (path, path.with_suffix(".npy")))
    program = f"{reader.format(given)}; numpy.save({made}, x)"
    return f"; this makes one: python -c {shlex.quote(program)}"


def _header(file: io.FileIO, path: Path = Path()) -> _Header:
    """What a .npy file begins with; ValueError says what is wrong."""
    try:
        version = np.lib.format.read_magic(file)
    except ValueError:
        raise ValueError(f"not a .npy file{_conversion(path)}") from None
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
    np.broadcast_to(np.empty((), dtype), shape)  # NumPy can have such an array
    return _Header(shape, fortran, dtype)


def _copied(stream: io.FileIO, nbytes: int, advance: Callable[[float], None]) -> io.BufferedRandom:
    """A temporary file of so many bytes of a stream, or of what there is of it."""
    file = temporary(nbytes)
    while piece := stream.read(min(nbytes - file.tell(), 1 << 20)):
        file.write(piece)
        advance(len(piece))
    file.truncate()
    file.seek(0)
    return file


def _memory(nbytes: int) -> Array:
    """Memory for a block; that of a huge one is in a file, which the system may write to disk."""
    if nbytes <= _MEMORY_BYTES:
        return np.empty(nbytes, np.uint8)
    with temporary(nbytes) as file:
        return np.memmap(file, np.uint8, "r+", shape=(nbytes,))
