"""`fastsoftmax score`: inputs, one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from fastsoftmax import digits, functions
from fastsoftmax.command import outputs, printing, report
from fastsoftmax.command.library import refusals
from fastsoftmax.command.refused import Refused
from fastsoftmax.command.report import Request, Scored
from fastsoftmax.command.work import Work
from fastsoftmax.files.reading import LogitsFile

Array = np.ndarray[Any, Any]


def score(request: Request) -> None:
    """Score what the request names, and report it."""
    with refusals(request.target):
        if request.source and request.source != "-" and os.path.isdir(request.source):
            _score_folder(request, Path(request.source))
            return
        output = outputs.opener(request)
        if request.source is None:
            _score_digits(request, output)
            return
        if request.source == "-":
            progress = functools.partial(printing.progress, "reading stdin", quiet=request.quiet)
            name, file = "stdin", LogitsFile.of_stdin(progress)
        else:
            name, file = request.source, LogitsFile.at(outputs.path_of("read", request.source))
        with contextlib.closing(file):
            scored = _score_one(request, name, file, output)
        report.of_one(request, scored)


def _score_digits(request: Request, output: outputs.Output) -> None:
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


def _score_one(
    request: Request, name: str, logits: Array | LogitsFile, output: outputs.Output
) -> Scored:
    work = Work(request, name, logits)
    with output(work) as out:
        scored = work.done(out)
    if scored.nan_rows:
        printing.warn(
            f"{scored.nan_rows:,} of {scored.rows:,} rows of the result are NaN: look for NaN, "
            f"+inf, or rows of -inf alone in {name!r}"
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
            Work(request, str(path), logits)  # refuses what is wrong with it
    with outputs.folder(request, [path.name for path in found]) as into:
        every = []
        for path in found:
            one = dataclasses.replace(request, out=str(into / path.name) if into else None)
            with contextlib.closing(LogitsFile.at(path)) as logits:
                every.append(_score_one(one, str(path), logits, outputs.opener(one)))
            report.of_one_of_many(request, every[-1])
    report.of_many(request, every)


def _is_input(path: Path) -> bool:
    # As a shell's *.npy; some systems leave hidden files of notes beside others.
    return path.suffix.lower() == ".npy" and path.name[0] != "." and not path.is_dir()
