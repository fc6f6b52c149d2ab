"""How far off libraries are on plain rows: ten normal logits, by their standard deviation.

Worst cases are easy to look for and say little of a library's everyday; this is the everyday. What
is measured is kept in a file, from which the README's table and picture are made.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from verification import references
from verification.calls import call
from verification.judged import errors_of
from verification.report import ulps
from verification.subjects import load

KEPT = "errors.json"
MARKER = "errors"
FUNCTIONS = ("softmax", "log_softmax")
SPREADS = (0.3, 1.0, 3.0, 10.0, 30.0)
ROWS, CLASSES = 100_000, 10


@dataclasses.dataclass(frozen=True)
class Errors:
    """The errors of one function of one library on all rows of one spread, in ULP."""

    library: str
    version: str
    function: str
    spread: float
    worst: float
    mean: float
    beyond_two: float  # the share of results that are off by more than 2 ULP


def measured(libraries: Sequence[str]) -> Iterator[Errors]:
    """The errors of each library in float32, the same draws for all."""
    for spread in SPREADS:
        random = np.random.default_rng(0)
        rows = (random.standard_normal((ROWS, CLASSES)) * spread).astype(np.float32)
        truth = references.truth(rows.astype(np.float64))
        for name in libraries:
            subject = load(name)
            for function in FUNCTIONS:
                result = call(subject, function, rows, -1)
                errors, _ = errors_of(function, result, truth, -1, "float32")
                yield Errors(
                    name,
                    subject.version,
                    function,
                    spread,
                    worst=float(errors.max()),
                    mean=float(errors.mean()),
                    beyond_two=float(np.mean(errors > 2)),
                )


def kept(path: Path) -> list[Errors]:
    """What was measured and kept.

    Raises
    ------
    ValueError
        Where the file holds something else.
    """
    try:
        return [Errors(**each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except TypeError as error:
        raise ValueError(f"{path} holds no errors by spread: {error}") from None


def to_json(errors: Sequence[Errors]) -> str:
    """What `kept` reads."""
    lines = (json.dumps(dataclasses.asdict(each)) for each in errors)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def table_of(errors: Sequence[Errors]) -> str:
    """Markdown: the worst error, the mean, and the share beyond 2 ULP, by function and spread."""
    versions = {each.library: each.version for each in errors}
    heads = " | ".join(f"{name} {version}" for name, version in versions.items())
    lines = [f"| worst error; mean; beyond 2 ULP | {heads} |", "|---|" + "---|" * len(versions)]
    found = {(each.function, each.spread, each.library): each for each in errors}
    for function in FUNCTIONS:
        for spread in SPREADS:
            cells = (_cell(found.get((function, spread, name))) for name in versions)
            lines.append(f"| {function}, deviation {spread:g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(errors: Errors | None) -> str:
    if errors is None:
        return "-"
    return f"{ulps(errors.worst)}; {ulps(errors.mean)}; {_share(errors.beyond_two)}"


def _share(share: float) -> str:
    """A share in percent, which is 0 where it is nothing only."""
    return "0" if share == 0 else f"{100 * share:.2g} %" if share >= 1e-4 else "< 0.01 %"
