"""A search for bad inputs: hill-climbing on the error in ULP, from seeded starts.

A population of short rows is measured; the worst half is kept, and its copies are changed: one
logit by a few places of its last digit, or by a random step, or replaced. The number of rounds is
fixed, so that the same seed finds the same inputs; ``LIMIT`` seconds end a search of a slow
subject early, and the result says so. What it finds is a lower bound on the largest error.
"""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from verification import references
from verification.calls import CallFailed, call
from verification.cases import dtype_of, largest
from verification.checks import Check, Task
from verification.exact import Array
from verification.judged import errors_of, missed, row_error
from verification.names import FUNCTIONS, REDUCED
from verification.results import FAILED, HELD, Finding, Result
from verification.shown import reproduced, shortened
from verification.subjects import Subject

ROUNDS = 24
ROWS = 400
LIMIT = 10.0
LENGTHS = (2, 3, 9)
_SPREADS = (1e-3, 0.1, 1.0, 10.0, 100.0)


def search_checks(dtypes: Sequence[str]) -> Iterator[Check]:
    """The searches of the suite ``hard``: one for each length and type."""
    for length in LENGTHS:
        for dtype in dtypes:
            run = functools.partial(search, length, dtype)
            yield Check("hard", f"search_of_{length}_logits", dtype, run)


def search(length: int, dtype: str, subject: Subject, task: Task) -> list[Result]:
    """The worst input found for each function."""
    return [
        _climb(length, dtype, function, subject, task)
        for function in task.functions
        if function in subject.functions and function in FUNCTIONS
    ]


def _errors(subject: Subject, function: str, rows: Array) -> tuple[Array, str]:
    """The worst error of each row, over its allowance, and the type that it is measured in."""
    found = references.by_pairs(
        rows.astype(np.float64), np.ones((len(rows), 1)), np.ones(rows.shape, bool)
    )
    result = call(subject, function, rows, -1)
    errors, allowance = errors_of(function, result, found, -1, result.dtype.name)
    return np.asarray((errors / allowance).reshape(len(rows), -1).max(axis=-1)), result.dtype.name


def _changed(rows: Array, random: np.random.Generator) -> Array:
    """Copies with one logit changed each."""
    rows = rows.copy()
    count = len(rows)
    row, column = np.arange(count), random.integers(0, rows.shape[1], count)
    old = rows[row, column]
    bits = old.view(np.dtype(f"i{old.itemsize}"))
    nudged = (bits + random.integers(-9, 10, count).astype(bits.dtype)).view(old.dtype)
    wide = old.astype(np.float64)
    step = wide + random.standard_normal(count) * 10.0 ** random.uniform(-4, 1.5, count)
    scaled = wide * (1 + random.standard_normal(count) / 20)
    kind = random.integers(0, 3, count)
    with np.errstate(all="ignore"):
        new = np.where(kind == 1, step, scaled).astype(old.dtype)
    new = np.where(kind == 0, nudged, new)
    usable = np.isfinite(new.astype(np.float64))
    usable &= np.abs(new.astype(np.float64)) < largest(old.dtype) / 4
    rows[row, column] = np.where(usable, new, old)
    return rows


def _climb(length: int, dtype: str, function: str, subject: Subject, task: Task) -> Result:
    name = f"search_of_{length}_logits"
    seed = zlib.crc32(f"{name} {function} {dtype}".encode())
    random = np.random.default_rng([task.seed, seed])
    spreads = random.choice(_SPREADS, (ROWS, 1)) * 10.0 ** random.uniform(-0.5, 0.5, (ROWS, 1))
    rows = (random.standard_normal((ROWS, length)) * spreads).astype(dtype_of(dtype))
    common: dict[str, Any] = {
        "suite": "hard",
        "case": name,
        "function": function,
        "dtype": dtype,
        "note": f"the worst of {ROUNDS} rounds of {ROWS} rows",
    }
    measured = ROWS  # rows in all: later rounds measure the changed half only
    start = time.monotonic()
    try:
        errors, returned = _errors(subject, function, rows)
        for done in range(1, ROUNDS):
            if time.monotonic() - start > LIMIT:
                common["note"] = f"ended by time after {done} of {ROUNDS} rounds of {ROWS} rows"
                break
            best = np.argsort(-errors, kind="stable")[: ROWS // 2]
            rows, errors = rows[best], errors[best]
            tried = _changed(rows, random)
            rows = np.concatenate([rows, tried])
            errors = np.concatenate([errors, _errors(subject, function, tried)[0]])
            measured += len(tried)
    except CallFailed as failure:
        bound = subject.bound(function, dtype)
        common |= {"bound": bound.ulp, "source": bound.source}
        return Result(**common, status=FAILED, finding=failure.finding)
    bound = subject.bound(function, returned)
    at = int(np.argmax(errors))
    worst, row = float(errors[at]), rows[at]
    common |= {"ulp": worst, "bound": bound.ulp, "source": bound.source}
    common |= {"elements": measured * (1 if function in REDUCED else length)}
    if returned != dtype:
        common["returned"] = returned
    if worst <= bound.ulp:
        return Result(**common, status=HELD)
    # mpmath may see a hair less than the pairs did, and then the bound holds
    kind = row_error(subject, function, row).kind or "rounding"
    finding = Finding(kind, missed(worst, bound, kind))
    finding = reproduced(subject, function, row, finding)
    if task.shorten:
        finding = shortened(subject, function, row, finding)
    return Result(**common, status=FAILED, finding=finding)
