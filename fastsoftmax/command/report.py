"""What `fastsoftmax score` reports: words and tables, or one JSON object.

The fields of the JSON object:

"function", "axis", "temperature", "target"
    As they were asked for.
"files"
    One object for each input, in the order in which they were scored: "input" ("stdin", or "the
    shipped digits", where it is no file), "output" (null where nothing is written), "shape",
    "dtype" (of the logits), "result_dtype", "rows", "classes", "nan_rows" (rows of the result that
    are NaN), "seconds", "preparation_seconds" (compiling, before these), "bytes" (read and
    written), "first_rows".
"first_rows"
    One object for each of the first rows: "row" (its index along the other axes), and "classes",
    the most likely ones as pairs of a class and its result, or "value" where a row has one.
"digits"
    For the logits that ship with the package alone: "accuracy", "mean_log_loss" (nats),
    "most_certain" and "least_certain" ("row", "class", "probability", "label"), "checked"
    (probabilities that were compared with 40 exact digits), "within_2_ulp", "largest_ulp".

Numbers that JSON has not are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console

from fastsoftmax.command import printing
from fastsoftmax.digits import Row, Worth

Array = np.ndarray[Any, Any]
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
    top: int
    as_json: bool
    quiet: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """What came of one input."""

    name: str
    out: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    result_dtype: np.dtype[Any]
    rows: int
    classes: int
    nan_rows: int
    seconds: float
    preparation: float
    moved: int  # bytes read and written
    shown: dict[Index, Array]  # the results of the first rows

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
    written = f", written to {scored.out}" if scored.out and scored.out != "-" else ""
    console.print(
        f"{request.function} of {scored.name}: {scored.size}, {scored.dtype}, in {scored.speed} "
        f"(after {before} of preparation){written}",
        soft_wrap=True,
    )
    if scored.shown:
        _show_rows(console, request, scored.shown)
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
        _console(request).print(
            f"{request.function} of {files}: {rows:,} rows, in {took}{written}", soft_wrap=True
        )


def _console(request: Request) -> Console:
    """Where a report goes: not to stdout where the results go there."""
    return printing.console(stderr=request.out == "-")


# --- in words ------------------------------------------------------------------------------


def _show_rows(console: Console, request: Request, rows: dict[Index, Array]) -> None:
    """A table of the first rows: their most likely classes, or their one result."""
    reduced = all(row.ndim == 0 for row in rows.values())
    heading = request.function if reduced else f"most likely classes ({request.function})"
    shown = [
        (", ".join(map(str, index)) or "0", _in_words(row, request.top))
        for index, row in rows.items()
    ]
    printing.print_table(console, ("row", heading), shown)


def _in_words(row: Array, top: int) -> str:
    if row.ndim == 0:
        return printing.number(row[()])
    best = _most_likely(row, top)
    return "   ".join(f"{place}: {printing.number(row[place])}" for place in best)


def _most_likely(row: Array, top: int) -> list[int]:
    return [int(place) for place in np.argsort(-row, kind="stable")[:top]]


def _show_worth(console: Console, request: Request, worth: Worth) -> None:
    console.print(f"accuracy      {worth.accuracy:.4f}")
    console.print(f"mean log-loss {worth.log_loss:.6f} nats")
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
        "files": [_fields_of_one(request, scored) for scored in every],
    }
    if worth:
        fields["digits"] = {
            "accuracy": worth.accuracy,
            "mean_log_loss": worth.log_loss,
            "most_certain": _fields_of_row(worth.most_certain),
            "least_certain": _fields_of_row(worth.least_certain),
            "checked": worth.checked,
            "within_2_ulp": worth.within,
            "largest_ulp": worth.largest,
        }
    return fields


def _fields_of_one(request: Request, scored: Scored) -> dict[str, Any]:
    first_rows: list[dict[str, Any]] = []
    for index, row in scored.shown.items():
        if row.ndim == 0:
            first_rows.append({"row": index, "value": float(row)})
        else:
            best = _most_likely(row, request.top)
            first_rows.append({"row": index, "classes": [(i, float(row[i])) for i in best]})
    return {
        "input": scored.name,
        "output": scored.out,
        "shape": scored.shape,
        "dtype": str(scored.dtype),
        "result_dtype": str(scored.result_dtype),
        "rows": scored.rows,
        "classes": scored.classes,
        "nan_rows": scored.nan_rows,
        "seconds": scored.seconds,
        "preparation_seconds": scored.preparation,
        "bytes": scored.moved,
        "first_rows": first_rows,
    }


def _fields_of_row(row: Row) -> dict[str, Any]:
    return {
        "row": row.row, "class": row.chosen, "probability": row.certainty, "label": row.label,
    }  # fmt: skip
