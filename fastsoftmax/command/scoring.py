"""`fastsoftmax score`: inputs, one after the other, into outputs that are whole or not there."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastsoftmax import checks, digits, functions
from fastsoftmax.arithmetic.formulas import FORMULAS, Formula
from fastsoftmax.command import printing, report
from fastsoftmax.command.library import refusals
from fastsoftmax.command.refused import Refused
from fastsoftmax.command.report import Index, Request, Scored
from fastsoftmax.files import by_block, writing
from fastsoftmax.files.reading import LogitsFile

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

# What opens the output of a work: an array, or None where the results are not kept.
Output = Callable[["_Work"], contextlib.AbstractContextManager[Array | None]]

_SHOWN_ROWS = 3


def score(request: Request) -> None:
    """Score what the request names, and report it."""
    with refusals(request.target):
        if request.source and request.source != "-" and os.path.isdir(request.source):
            _score_folder(request, Path(request.source))
            return
        output = _output(request)
        if request.source is None:
            _score_digits(request, output)
            return
        if request.source == "-":
            name, file = "stdin", LogitsFile.of_stdin()
        else:
            name, file = request.source, LogitsFile.at(_path("read", request.source))
        with contextlib.closing(file):
            scored = _score_one(request, name, file, output)
        report.of_one(request, scored)


def _score_digits(request: Request, output: Output) -> None:
    logits, labels = digits.load()
    scored = _score_one(request, "the shipped digits", logits, output)
    temperature = request.temperature
    options: dict[str, Any] = {"axis": -1, "temperature": temperature, "target": request.target}
    probabilities = functions.softmax(logits, **options)
    logs = functions.log_softmax(logits, **options)
    worth = digits.worth(probabilities, logs, logits, labels, temperature)
    report.of_one(request, scored, worth)
    if not worth.exact:
        raise Refused("the probabilities disagree with the high-precision check")


def _score_one(request: Request, name: str, logits: Array | LogitsFile, output: Output) -> Scored:
    work = _Work(request, name, logits)
    with output(work) as out:
        scored = work.done(out)
    if scored.nan_rows:
        printing.warn(
            f"{scored.nan_rows:,} of {scored.rows:,} rows of the result are NaN: look for NaN, "
            f"+inf, or rows of -inf alone in {name}"
        )
    return scored


def _score_folder(request: Request, folder: Path) -> None:
    """Score every file in a folder, once all of them, and all outputs, are known to be right.

    What fails later, as a full disk does, ends the command: what was written before stays.
    """
    try:
        found = sorted(path for path in folder.iterdir() if _is_input(path))
    except OSError as error:
        raise Refused(f"cannot read {str(folder)!r}: {error.strerror}") from None
    if not found:
        raise Refused(f"cannot read {str(folder)!r}: no .npy file in it")
    for path in found:
        with contextlib.closing(LogitsFile.at(path)) as logits:
            _Work(request, str(path), logits)  # refuses what is wrong with it
    with _folder(request, [path.name for path in found]) as outputs:
        every = []
        for path in found:
            one = dataclasses.replace(request, out=str(outputs / path.name) if outputs else None)
            with contextlib.closing(LogitsFile.at(path)) as logits:
                every.append(_score_one(one, str(path), logits, _output(one)))
            report.of_one_of_many(request, every[-1])
    report.of_many(request, every)


def _is_input(path: Path) -> bool:
    # As a shell's *.npy; some systems leave hidden files of notes beside others.
    return path.suffix.lower() == ".npy" and path.name[0] != "." and not path.is_dir()


# --- one input -----------------------------------------------------------------------------


class _Work:
    """What is asked for of one array of logits, checked; then done."""

    def __init__(self, request: Request, name: str, logits: Array | LogitsFile) -> None:
        shape, axis = logits.shape, request.axis
        if not -len(shape) <= axis < len(shape):
            raise Refused(f"--axis {axis} is out of bounds for {name} of shape {shape}")
        self._request = request
        self._name = name
        self._logits = logits
        self._axis = axis % len(shape)
        formula = _formula(request.function)
        self._reduces = not formula.mapped
        computed = checks.floating(formula.name, np.empty(0, logits.dtype))
        self.dtype = checks.result_type(formula.name, computed, request.dtype)
        self.shape = tuple(
            n for i, n in enumerate(shape) if not (self._reduces and i == self._axis)
        )
        self._function = _function(formula, request)

    def done(self, out: Array | None) -> Scored:
        """Compute it, into ``out`` where there is one."""
        logits, axis, dtype = self._logits, self._axis, self.dtype
        shown: dict[Index, Any] = dict.fromkeys(self._first_rows())
        nan_rows = 0
        start = time.perf_counter()
        # A bar would take longer than a single block.
        quiet = self._request.quiet or logits.nbytes <= by_block.BLOCK_BYTES
        doing = f"scoring {os.path.basename(self._name)}"
        with printing.progress(doing, logits.nbytes, quiet) as advance:
            first = next(by_block.blocks(logits, axis))
            if by_block.nbytes(logits, first) <= 2 * by_block.BLOCK_BYTES:  # not one huge row
                # Compiles what the blocks need.
                self._function(logits[first], axis=axis, dtype=dtype, out=None)
            prepared = time.perf_counter()

            def scored(cut: tuple[slice, ...], result: Array) -> None:
                nonlocal nan_rows
                nan_rows += self._nan_rows(result)
                self._keep(shown, cut, result)
                advance(by_block.nbytes(logits, cut))

            by_block.score(logits, axis, self._reduces, self._function, out, dtype, scored)
        done = time.perf_counter()
        classes = logits.shape[axis]
        return Scored(
            name=self._name,
            out=self._request.out,
            shape=logits.shape,
            dtype=logits.dtype,
            result_dtype=dtype,
            rows=logits.size // classes if classes else 0,
            classes=classes,
            nan_rows=nan_rows,
            seconds=done - prepared,
            preparation=prepared - start,
            moved=logits.nbytes + math.prod(self.shape) * dtype.itemsize,
            shown=shown if classes else {},
        )

    def _others(self) -> Shape:
        """The shape of the rows' places."""
        shape = self._logits.shape
        return shape[: self._axis] + shape[self._axis + 1 :]

    def _first_rows(self) -> list[Index]:
        others = self._others()
        numbers = range(min(_SHOWN_ROWS, math.prod(others)))
        indices = (np.unravel_index(number, others) if others else () for number in numbers)
        return [tuple(int(i) for i in index) for index in indices]

    def _nan_rows(self, result: Array) -> int:
        """How many rows of a block's results are NaN, in one place or in all."""
        if self._reduces:
            return int(np.count_nonzero(np.isnan(result)))
        # Where anything is NaN, the first is not finite: only such rows are read again. (Of one
        # with +inf, log_softmax is NaN there and -inf elsewhere.) So it costs 3 ns a row: of 10
        # logits 15% of all the time that a file takes, of 1000 nothing that can be measured.
        rows = np.moveaxis(result, self._axis, -1)
        suspects = rows[~np.isfinite(rows[..., :1]).all(axis=-1)]
        return int(np.count_nonzero(np.isnan(suspects).any(axis=-1)))

    def _keep(self, rows: dict[Index, Any], cut: tuple[slice, ...], result: Array) -> None:
        """Copy the results of those of the rows that are in a block."""
        places = [range(n)[part] for n, part in zip(self._logits.shape, cut, strict=True)]
        del places[self._axis]
        by_row = np.asarray(result) if self._reduces else np.moveaxis(result, self._axis, -1)
        for index in rows:
            if all(i in part for i, part in zip(index, places, strict=True)):
                at = tuple(part.index(i) for i, part in zip(index, places, strict=True))
                rows[index] = by_row[at].copy()


def _formula(name: str) -> Formula:
    return next(formula for formula in FORMULAS if formula.name == name)


def _function(formula: Formula, request: Request) -> Callable[..., Any]:
    """The library's function as it is asked for, which takes ``out``."""
    function = functools.partial(getattr(functions, formula.name), target=request.target)
    if formula.tempered:
        function = functools.partial(function, temperature=request.temperature)
    return _into(function) if formula.name == "entropy" else function


def _into(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of rows that has no ``out`` with one, to which its numbers are copied."""

    def called(x: Array, *, out: Array | None, **options: Any) -> Any:
        result = function(x, **options)
        if out is None:
            return result
        out[...] = result
        return out

    return called


# --- outputs -------------------------------------------------------------------------------


def _path(what: str, name: str) -> Path:
    """A name as a path, where it is one of a file: Path itself would drop an end like `/.`."""
    if os.path.basename(name) in ("", os.curdir, os.pardir):
        raise Refused(f"cannot {what} {name!r}: not the name of a file")
    return Path(name)


def _output(request: Request) -> Output:
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
    path = _path("write", name)
    with _writing(name):
        writing.check_free(path, request.overwrite)
    if path.suffix.lower() != ".npy":
        raise Refused(f"cannot write {name!r}: OUT is .npy, or - for stdout")
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
def _new_array(path: Path, overwrite: bool, work: _Work) -> Iterator[Array]:
    """The array that becomes a .npy file."""
    with _writing(str(path)), writing.new_array(path, work.shape, work.dtype, overwrite) as out:
        yield out


@contextlib.contextmanager
def _stdout_array(work: _Work) -> Iterator[Array]:
    """The array that goes to stdout as a .npy file, once it is whole."""
    with _writing("-"):
        folder = tempfile.TemporaryDirectory(prefix="fastsoftmax-")
    with folder as name:
        path = Path(name, "stdout.npy")
        with _new_array(path, False, work) as out:
            yield out
        with path.open("rb") as whole:
            shutil.copyfileobj(whole, sys.stdout.buffer, 1 << 20)


@contextlib.contextmanager
def _folder(request: Request, names: list[str]) -> Iterator[Path | None]:
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
