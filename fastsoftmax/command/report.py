"""What `fastsoftmax score` reports: words and tables, or one JSON object.

The fields of the JSON object:

"function", "axis", "temperature", "target", "top", "sample", "seed"
    As they were asked for; null where they were not. A seed that was not is the one that was taken.
"files"
    One object for each input, in the order in which they were scored: "input" ("stdin", or "the
    shipped digits", where it is no file), "output" and, for --top, "indices" (the files; null where
    nothing is written), "shape", "dtype" (of the logits), "result_dtype", "rows", "classes",
    "nan_rows" (rows of the result that are NaN), "seconds", "preparation_seconds" (compiling,
    before these), "bytes" (read and written), "labels", "first_rows".
"labels"
    Of each input, and of all together; null without labels: "input" (of each: the file), "rows"
    (those that count), "ignored" (those of label -100), "accuracy", "mean_log_loss" (nats),
    "expected_calibration_error". A class is chosen as the most likely one; of equal ones it is the
    lower. A row of NaN is wrong, and so the other two are NaN; all three are where no row counts.
    The last is that of C. Guo et al., On calibration of modern neural networks, ICML 2017,
    arXiv:1706.04599: the rows are divided into 15 bins by the probability p of the class that was
    chosen, (0, 1/15], (1/15, 2/15] to (14/15, 1]; of each bin the difference of its accuracy and
    its mean p counts by its part of the rows.
"first_rows"
    One object for each of the first rows: "row" (its index along the other axes), and "classes",
    the most likely ones as pairs of a class and its result, or "value" where a row has one, or
    "draws", the first of them.
"digits"
    For the logits that ship with the package alone: "most_certain" and "least_certain" ("row",
    "class", "probability", "label"), "checked" (probabilities that were compared with 40 exact
    digits), "within_2_ulp", "largest_ulp".

Numbers that JSON has not are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import os
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from rich.console import Console

from fastsoftmax.command import printing
from fastsoftmax.command.judged import BINS, IGNORED, Judgement
from fastsoftmax.digits import Row, Worth

Index = tuple[int, ...]

# Bytes from which a rate says something of the library, and not of what begins a call.
_MEASURED_FROM = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What the options say."""

    source: str | None
    out: str | None
    overwrite: bool
    function: str
    axis: int
    temperature: float
    dtype: str | None
    target: str
    top: int | None
    sample: int | None
    seed: int | None
    labels: str | None
    as_json: bool
    quiet: bool

    def named(self, out: str) -> tuple[str, ...]:
        """The name of each result's file, where the first has that one."""
        stem, end = os.path.splitext(out)
        return (out,) if self.top is None else (out, f"{stem}.indices{end}")

    @property
    def outs(self) -> tuple[str, ...]:
        """The files that results are written to."""
        return self.named(self.out) if self.out and self.out != "-" else ()

    @property
    def title(self) -> str:
        """What is computed, in words."""
        if self.sample is not None:
            return f"{self.sample:,} draws a row"
        return self.function if self.top is None else f"top {self.top:,} ({self.function})"

    @property
    def seeded(self) -> str:
        """What to repeat it needs beside that."""
        return "" if self.sample is None else f", seed {self.seed}"


class Shown(Protocol):
    """The results of one row."""

    #: What they are, where {} is the function.
    heading: ClassVar[str]

    def words(self) -> str:
        """For a table."""

    def fields(self) -> dict[str, Any]:
        """For JSON."""


@dataclasses.dataclass(frozen=True)
class Value:
    """Its only result."""

    value: Any
    heading: ClassVar[str] = "{}"

    def words(self) -> str:
        return printing.number(self.value)

    def fields(self) -> dict[str, Any]:
        return {"value": float(self.value)}


@dataclasses.dataclass(frozen=True)
class Classes:
    """Some of its classes and their results."""

    pairs: list[tuple[int, Any]]
    heading: ClassVar[str] = "most likely classes ({})"

    def words(self) -> str:
        return "   ".join(f"{place}: {printing.number(value)}" for place, value in self.pairs)

    def fields(self) -> dict[str, Any]:
        return {"classes": [(place, float(value)) for place, value in self.pairs]}


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Classes drawn from it, and whether there are more."""

    classes: list[int]
    more: bool
    heading: ClassVar[str] = "classes drawn"

    def words(self) -> str:
        return " ".join([*map(str, self.classes), *["..."] * self.more])

    def fields(self) -> dict[str, Any]:
        return {"draws": self.classes}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """What came of one input."""

    name: str
    outs: tuple[str, ...]  # the files that were written
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    result_dtype: np.dtype[Any]
    rows: int
    classes: int
    nan_rows: int
    seconds: float
    preparation: float
    moved: int  # bytes read and written
    labels: str | None  # what they are called, where it was judged by labels
    judgement: Judgement
    shown: dict[Index, Shown]  # the results of the first rows

    @property
    def speed(self) -> str:
        """How fast it was, in words."""
        took = printing.duration(self.seconds)
        if self.moved < _MEASURED_FROM:
            return took
        return f"{took}, {printing.two_digits(self.moved / self.seconds / 1e9)} GB/s"

    @property
    def size(self) -> str:
        """How much it was, in words."""
        return f"{self.rows:,} rows x {self.classes:,} classes"


def of_one(request: Request, scored: Scored, worth: Worth | None = None) -> None:
    """Report a single input, and what the shipped digits are worth where they were it."""
    if request.as_json:
        printing.print_json(_fields(request, [scored], worth))
        return
    if request.quiet:
        return
    console = _console(request)
    before = printing.duration(scored.preparation)
    written = f", written to {' and '.join(scored.outs)}" if scored.outs else ""
    console.print(
        f"{request.title} of {scored.name}: {scored.size}, {scored.dtype}, in {scored.speed} "
        f"(after {before} of preparation){request.seeded}{written}",
        soft_wrap=True,
    )
    if scored.shown:
        _show_rows(console, request, scored.shown)
    _show_judgement(console, [scored])
    if worth:
        _show_worth(console, request, worth)


def of_one_of_many(request: Request, scored: Scored) -> None:
    """Report one file of a folder, as soon as it is done."""
    if not (request.as_json or request.quiet):
        _console(request).print(f"{scored.name}: {scored.size}, {scored.speed}", soft_wrap=True)


def of_many(request: Request, every: Sequence[Scored]) -> None:
    """Report a folder."""
    if request.as_json:
        printing.print_json(_fields(request, every))
    elif not request.quiet:
        rows = sum(scored.rows for scored in every)
        took = printing.duration(sum(scored.seconds + scored.preparation for scored in every))
        files = f"{len(every):,} file{'s' * (len(every) != 1)}"
        written = f", written to {request.out}" if request.out else ""
        console = _console(request)
        console.print(
            f"{request.title} of {files}: {rows:,} rows, in {took}{request.seeded}{written}",
            soft_wrap=True,
        )
        _show_judgement(console, every)


def _console(request: Request) -> Console:
    """Where a report goes: not to stdout where the results go there."""
    return printing.console(stderr=request.out == "-")


# --- in words ------------------------------------------------------------------------------


def _show_rows(console: Console, request: Request, rows: dict[Index, Shown]) -> None:
    """A table of the first rows: their most likely classes, their draws, or their one result."""
    heading = next(iter(rows.values())).heading.format(request.function)
    shown = [(", ".join(map(str, index)) or "0", row.words()) for index, row in rows.items()]
    printing.print_table(console, ("row", heading), shown)


def _judgement(every: Sequence[Scored]) -> Judgement | None:
    """What all of them come to together, if they were judged."""
    if not any(scored.labels for scored in every):
        return None
    return functools.reduce(operator.add, (scored.judgement for scored in every))


def _show_judgement(console: Console, every: Sequence[Scored]) -> None:
    judged = _judgement(every)
    if judged is None:
        return
    if judged.ignored:
        console.print(f"labels        {judged.rows:,} count, {judged.ignored:,} do not ({IGNORED})")
    console.print(f"accuracy      {judged.accuracy:.4f}")
    console.print(f"mean log-loss {judged.mean_log_loss:.6f} nats")
    console.print(f"expected calibration error {judged.calibration_error:.6f} ({BINS} bins)")


def _show_worth(console: Console, request: Request, worth: Worth) -> None:
    for word, row in ("most certain ", worth.most_certain), ("least certain", worth.least_certain):
        console.print(
            f"{word} row {row.row}: class {row.chosen} at {row.certainty:.7g}, label {row.label}"
        )
    if not worth.checked:
        console.print(f"high-precision check of softmax: none at the limit {request.temperature}")
        return
    console.print(
        f"high-precision check of softmax, float32: {worth.within:,} of {worth.checked:,} "
        f"within 2 ULP (largest error {worth.largest:.3f} ULP)"
    )


# --- as JSON -------------------------------------------------------------------------------


def _fields(
    request: Request, every: Sequence[Scored], worth: Worth | None = None
) -> dict[str, Any]:
    fields = {
        "function": request.function,
        "axis": request.axis,
        "temperature": request.temperature,
        "target": request.target,
        "top": request.top,
        "sample": request.sample,
        "seed": request.seed,
        "labels": _fields_of_judgement(_judgement(every)),
        "files": [_fields_of_one(request, scored) for scored in every],
    }
    if worth:
        fields["digits"] = {
            "most_certain": _fields_of_row(worth.most_certain),
            "least_certain": _fields_of_row(worth.least_certain),
            "checked": worth.checked,
            "within_2_ulp": worth.within,
            "largest_ulp": worth.largest,
        }
    return fields


def _fields_of_one(request: Request, scored: Scored) -> dict[str, Any]:
    out, indices = (*scored.outs, None, None)[:2]
    labels = _fields_of_judgement(_judgement([scored]))
    return {
        "input": scored.name,
        "output": out,
        "indices": indices,
        "shape": scored.shape,
        "dtype": str(scored.dtype),
        "result_dtype": str(scored.result_dtype),
        "rows": scored.rows,
        "classes": scored.classes,
        "nan_rows": scored.nan_rows,
        "seconds": scored.seconds,
        "preparation_seconds": scored.preparation,
        "bytes": scored.moved,
        "labels": {"input": scored.labels, **labels} if labels else None,
        "first_rows": [{"row": index, **row.fields()} for index, row in scored.shown.items()],
    }


def _fields_of_judgement(judged: Judgement | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    return {
        "rows": judged.rows,
        "ignored": judged.ignored,
        "accuracy": judged.accuracy,
        "mean_log_loss": judged.mean_log_loss,
        "expected_calibration_error": judged.calibration_error,
    }


def _fields_of_row(row: Row) -> dict[str, Any]:
    return {
        "row": row.row, "class": row.chosen, "probability": row.certainty, "label": row.label,
    }  # fmt: skip
