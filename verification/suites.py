"""The suites by name, and one check of them by name."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from verification import (
    draws,
    exhaustive,
    properties,
    scipy_suite,
    scoring,
    scoring_bits,
    search,
)
from verification.checks import CASE_SUITES, Check, Task, case_checks
from verification.names import DTYPES
from verification.results import Result
from verification.subjects import Subject

# About how long one check of fastsoftmax takes, all functions together, where two cores share the
# checks: for an estimate, from runs of each suite alone. Most of it is the truth; other libraries
# take up to three times as long.
_SECONDS = {
    "extremes": 0.03,
    "edges": 0.02,
    "random": 0.02,
    "properties": 0.04,
    "hard": 0.1,
    "scipy": 4.0,
    "scoring": 0.02,
    "exhaustive": 60.0,
}
_STARTING = 2.0  # of a subject's processes


def seconds(suite: Sequence[str], dtypes: Sequence[str]) -> float:
    """About how long the suites take for one subject in these dtypes."""
    count = {name: sum(1 for _ in checks_of(name, dtypes)) for name in suite}
    return _STARTING + sum(_SECONDS[name] * n for name, n in count.items())


def checks_of(suite: str, dtypes: Sequence[str]) -> Iterator[Check]:
    """The checks of one suite in these dtypes, in their order."""
    if suite in CASE_SUITES:
        yield from case_checks(suite, dtypes)
    if suite == "properties":
        yield from properties.property_checks(dtypes)
    if suite == "hard":
        yield from search.search_checks(dtypes)
    if suite == "scoring":
        yield from scoring.case_checks(dtypes)
        yield from draws.draw_checks(dtypes)
        yield from scoring_bits.bit_checks(dtypes)
    if suite == "scipy":
        yield from scipy_suite.scipy_checks()
    if suite == "exhaustive":
        yield from exhaustive.exhaustive_checks(dtypes)


@functools.cache
def _by_name(suite: str) -> dict[tuple[str, str], Check]:
    return {(check.name, check.dtype): check for check in checks_of(suite, DTYPES)}


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
