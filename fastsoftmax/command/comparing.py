"""`fastsoftmax compare`: softmax and its alternatives side by side.

The JSON object has "rows", one object for each row, in order: "logits", and "results", by the name
of each function the row's results, or null where there is none (standard_normalize of a row that
sums to 0). Numbers that JSON has not are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from fastsoftmax import alternatives, softmax
from fastsoftmax.command import printing
from fastsoftmax.command.library import refusals

#: What is compared, by the name that is shown.
COMPARED: dict[str, Callable[..., Any]] = {
    "softmax": functools.partial(softmax, axis=-1),
    "standard_normalize": functools.partial(alternatives.standard_normalize, zero_sum="nan"),
    "spherical_softmax": alternatives.spherical_softmax,
    "taylor_softmax": alternatives.taylor_softmax,
    "entmax15": alternatives.entmax15,
    "sparsemax": alternatives.sparsemax,
}


def compare(rows: Sequence[list[float]], as_json: bool) -> None:
    """Print what each function makes of each row."""
    with refusals():
        found = [{name: _results(name, row) for name in COMPARED} for row in rows]
    if as_json:
        pairs = zip(rows, found, strict=True)
        fields = [{"logits": row, "results": results} for row, results in pairs]
        printing.print_json({"rows": fields})
        return
    headings = ["logits", *(_in_words(row) for row in rows)]
    lines = [[name, *(_in_words(results[name]) for results in found)] for name in COMPARED]
    printing.print_table(printing.console(), headings, lines)


def _results(name: str, row: list[float]) -> list[float] | None:
    """A row's results; None where it has none, as the sum that it would be divided by is 0."""
    results = [float(p) for p in COMPARED[name](row)]
    none = name == "standard_normalize" and all(map(math.isfinite, row)) and math.isnan(results[0])
    return None if none else results


def _in_words(numbers: list[float] | None) -> str:
    return "none: they sum to 0" if numbers is None else "  ".join(map(_number, numbers))


def _number(value: float) -> str:
    return f"{value:.6g}"
