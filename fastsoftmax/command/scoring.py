"""`fastsoftmax score`: inputs, one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fastsoftmax import digits, functions
from fastsoftmax.command import outputs, printing, report
from fastsoftmax.command.library import refusals
from fastsoftmax.command.refused import Refused
from fastsoftmax.command.report import Request, Scored
from fastsoftmax.command.work import Work
from fastsoftmax.files.reading import LogitsFile

Array = np.ndarray[Any, Any]
#: Labels, and what they are called.
NamedLabels: TypeAlias = tuple[str, Array | LogitsFile]


def score(request: Request) -> None:
    """Score what the request names, and report it."""
    with refusals(request.target):
        if request.source and request.source != "-" and os.path.isdir(request.source):
            _score_folder(request, Path(request.source))
            return
        output = outputs.opener(request)
        with contextlib.ExitStack() as opened:
            labels = None
            if request.labels is not None:
                labels = opened.enter_context(_labels(request.labels))
            if request.source is None:
                _score_digits(request, output, labels)
                return
            if request.source == "-":
                progress = functools.partial(
                    printing.progress, "reading stdin", quiet=request.quiet
                )
                name, file = "stdin", LogitsFile.of_stdin(progress)
            else:
                name, file = request.source, LogitsFile.at(outputs.path_of("read", request.source))
            with contextlib.closing(file):
                scored = _score_one(request, Work(request, name, file, labels), output)
        report.of_one(request, scored)


@contextlib.contextmanager
def _labels(name: str) -> Iterator[NamedLabels]:
    with contextlib.closing(LogitsFile.at(outputs.path_of("read", name))) as file:
        yield name, file


def _score_digits(request: Request, output: outputs.Output, labels: NamedLabels | None) -> None:
    logits, shipped = digits.load()
    if labels is None and request.axis in (-1, 1):  # along which the classes are
        labels = "the shipped labels", shipped
    scored = _score_one(request, Work(request, "the shipped digits", logits, labels), output)
    temperature = request.temperature
    options: dict[str, Any] = {"temperature": temperature, "target": request.target}
    probabilities = functions.softmax(logits, axis=-1, **options)
    worth = digits.worth(probabilities, logits, shipped, temperature)
    report.of_one(request, scored, worth)
    if not worth.exact:
        raise Refused("the probabilities disagree with the high-precision check")


def _score_one(request: Request, work: Work, output: outputs.Output) -> Scored:
    with output(work) as outs:
        scored = work.done(outs)
    if scored.nan_rows:
        printing.warn(
            f"{scored.nan_rows:,} of {scored.rows:,} rows of the result are NaN: look for NaN, "
            f"+inf, or rows of -inf alone in {scored.name!r}"
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
    labels = None if request.labels is None else _labels_folder(request.labels)
    for path in found:
        with _opened(request, path, labels):
            pass  # what is wrong with it is refused
    with outputs.folder(request, [path.name for path in found]) as into:
        every: list[Scored] = []
        for path in found:
            one = dataclasses.replace(request, out=str(into / path.name) if into else None)
            before = sum(scored.rows for scored in every)
            with _opened(one, path, labels, before) as work:
                every.append(_score_one(one, work, outputs.opener(one)))
            report.of_one_of_many(request, every[-1])
    report.of_many(request, every)


@contextlib.contextmanager
def _opened(
    request: Request, path: Path, labels: Path | None, rows_before: int = 0
) -> Iterator[Work]:
    """The work on one file of a folder."""
    with contextlib.ExitStack() as files:
        logits = files.enter_context(contextlib.closing(LogitsFile.at(path)))
        right = files.enter_context(_labels(str(labels / path.name))) if labels else None
        yield Work(request, str(path), logits, right, rows_before)


def _labels_folder(name: str) -> Path:
    if not name or not os.path.isdir(name):
        raise Refused(f"cannot read {name!r}: INPUT is a folder, and so is FILE of --labels then")
    return Path(name)


def _is_input(path: Path) -> bool:
    # As a shell's *.npy; some systems leave hidden files of notes beside others.
    return path.suffix.lower() == ".npy" and path.name[0] != "." and not path.is_dir()
