"""Where results go: into a .npy file, a folder of such, stdout, or nowhere."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from fastsoftmax.command.refused import Refused
from fastsoftmax.command.report import Request
from fastsoftmax.command.work import Work
from fastsoftmax.files import writing

Array = np.ndarray[Any, Any]

#: What opens the outputs of a work: an array for each result, or None where none is kept.
Output = Callable[[Work], AbstractContextManager[list[Array] | None]]


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
        return _stdout_arrays
    path = path_of("write", name)
    if path.suffix.lower() != ".npy":
        raise Refused(f"cannot write {name!r}: OUT is .npy, or - for stdout")
    for each in request.outs:
        with _writing(each):
            writing.check_free(Path(each), request.overwrite)
    return functools.partial(_new_arrays, request.outs, request.overwrite)


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
def _new_arrays(names: Sequence[str], overwrite: bool, work: Work) -> Iterator[list[Array]]:
    """The arrays that become .npy files; the first of them last, so that the others are there."""
    with contextlib.ExitStack() as opened:
        outs = []
        for name, result in zip(names, work.results, strict=True):
            opened.enter_context(_writing(name))
            new = writing.new_array(Path(name), result.shape, result.dtype, overwrite)
            outs.append(opened.enter_context(new))
        yield outs


@contextlib.contextmanager
def _stdout_arrays(work: Work) -> Iterator[list[Array]]:
    """The arrays that go to stdout as .npy files, one after the other, once they are whole."""
    with _writing("-"):
        made = tempfile.TemporaryDirectory(prefix="fastsoftmax-")
    with made as folder:
        names = [os.path.join(folder, f"{number}.npy") for number in range(len(work.results))]
        with _new_arrays(names, False, work) as outs:
            yield outs
        for name in names:
            with open(name, "rb") as whole:
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
        written = [each for name in names for each in request.named(str(path / name))]
        for each in written if there else ():
            with _writing(each):
                writing.check_free(Path(each), request.overwrite)
        twice = [each for each, count in collections.Counter(written).items() if count > 1]
        if twice:
            raise Refused(f"cannot write {twice[0]!r}: results of two inputs have that name")
        path.mkdir(exist_ok=True)
    try:
        yield path
    finally:
        if not there:
            with contextlib.suppress(OSError):  # results are in it
                path.rmdir()
