"""The suites by name, and one check of them by name."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from verification import exhaustive, properties, scipy_suite, search
from verification.checks import CASE_SUITES, Check, Task, case_checks
from verification.errors import FORMATS
from verification.results import Result
from verification.subjects import Subject

SUITES = {
    "extremes": "overflow, underflow, offsets, spreads, results next to 0 and 1, integers",
    "edges": "ties, infinities, NaN, every length, axis and layout, out=, where=, temperature=",
    "random": "seeded draws, and sweeps of spread, offset and length",
    "properties": "what must hold of any softmax, reproducible bits among it",
    "hard": "inputs that broke libraries before, and a search for new ones",
    "scipy": "SciPy's own tests",
    "exhaustive": "every float32 input of the two-class softmax and of exp (by name only)",
}
DEFAULT = tuple(name for name in SUITES if name != "exhaustive")


def checks_of(suite: str, dtypes: Sequence[str]) -> Iterator[Check]:
    """The checks of one suite in these dtypes, in their order."""
    if suite in CASE_SUITES:
        yield from case_checks(suite, dtypes)
    if suite == "properties":
        yield from properties.property_checks(dtypes)
    if suite == "hard":
        yield from search.search_checks(dtypes)
    if suite == "scipy":
        yield from scipy_suite.scipy_checks()
    if suite == "exhaustive":
        yield from exhaustive.exhaustive_checks(dtypes)


@functools.cache
def _by_name(suite: str) -> dict[tuple[str, str], Check]:
    return {(check.name, check.dtype): check for check in checks_of(suite, tuple(FORMATS))}


def run(
    subject: Subject, request: dict[str, Any], progress: Callable[[float], None]
) -> list[Result]:
    """Run one check by name: ``suite``, ``case``, ``dtype`` and what else `Task` takes.

    Raises
    ------
    KeyError
        Where there is no such check.
    """
    check = _by_name(request["suite"])[request["case"], request["dtype"]]
    task = Task(
        functions=tuple(request["functions"]),
        seed=request.get("seed", 0),
        beside=request.get("beside", False),
        shorten=request.get("shorten", False),
        progress=progress,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a subject's warnings are not about its results
        return check.run(subject, task)
