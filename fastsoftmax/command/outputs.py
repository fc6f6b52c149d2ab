"""Where results go: into a .npy file, a folder of such, stdout, or nowhere."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from fastsoftmax.command.refused import Refused
from fastsoftmax.command.report import Request
from fastsoftmax.command.work import Work
from fastsoftmax.files import writing

Array = np.ndarray[Any, Any]

#: What opens the output of a work: an array, or None where the results are not kept.
Output = Callable[[Work], AbstractContextManager[Array | None]]


def path_of(what: str, name: str) -> Path:
    """A name as a path, where it is one of a file: Path itself would drop an end like `/.`."""
    if os.path.basename(name) in ("", os.curdir, os.pardir):
        raise Refused(f"cannot {what} {name!r}: not the name of a file")
    return Path(name)


def opener(request: Request) -> Output:
    """What opens the output, which is known to be possible; its kind follows its name."""
    name = request.out
    if name is None:
        return lambda work: contextlib.nullcontext()
    if name == "-":
        if request.as_json:
            raise Refused("--json and -o -: both are for stdout")
        if sys.stdout.isatty():
            raise Refused("cannot write '-': stdout is a terminal, and .npy is no text")
        return _stdout_array
    path = path_of("write", name)
    if path.suffix.lower() != ".npy":
        raise Refused(f"cannot write {name!r}: OUT is .npy, or - for stdout")
    with _writing(name):
        writing.check_free(path, request.overwrite)
    return functools.partial(_new_array, path, request.overwrite)


@contextlib.contextmanager
def _writing(name: str) -> Iterator[None]:
    """What keeps a file from being written, as one line."""
    try:
        yield
    except FileExistsError:
        raise Refused(f"cannot write {name!r}: it exists; --overwrite replaces it") from None
    except OSError as error:
        raise Refused(f"cannot write {name!r}: {error.strerror}") from None


@contextlib.contextmanager
def _new_array(path: Path, overwrite: bool, work: Work) -> Iterator[Array]:
    """The array that becomes a .npy file."""
    with _writing(str(path)), writing.new_array(path, work.shape, work.dtype, overwrite) as out:
        yield out


@contextlib.contextmanager
def _stdout_array(work: Work) -> Iterator[Array]:
    """The array that goes to stdout as a .npy file, once it is whole."""
    with _writing("-"):
        made = tempfile.TemporaryDirectory(prefix="fastsoftmax-")
    with made as name:
        path = Path(name, "stdout.npy")
        with _new_array(path, False, work) as out:
            yield out
        with path.open("rb") as whole:
            shutil.copyfileobj(whole, sys.stdout.buffer, 1 << 20)


@contextlib.contextmanager
def folder(request: Request, names: list[str]) -> Iterator[Path | None]:
    """The folder of the outputs, into which all of them can be written; None where none is wanted.

    It is made where it is not there, and removed where nothing came into it.
    """
    if request.out is None:
        yield None
        return
    name, path = request.out, Path(request.out)
    if name in ("", "-"):
        raise Refused(f"cannot write {name!r}: INPUT is a folder, and so is OUT then")
    with _writing(name):
        there = path.exists() or path.is_symlink()
        if (there and not path.is_dir()) or (not there and path.suffix.lower() == ".npy"):
            raise Refused(f"cannot write {name!r}: INPUT is a folder, and so is OUT then")
        for each in names if there else ():
            with _writing(str(path / each)):
                writing.check_free(path / each, request.overwrite)
        path.mkdir(exist_ok=True)
    try:
        yield path
    finally:
        if not there:
            with contextlib.suppress(OSError):  # results are in it
                path.rmdir()
