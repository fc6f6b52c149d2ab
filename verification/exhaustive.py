"""Every one of the 2**32 float32 inputs: the two-class softmax, and exp where a subject has one.

softmax([x, 0]) is (1 / (1 + exp(-x)), 1 / (1 + exp(x))). For x below -17.33 its first element is
exp(x) but for a relative 2**-25, so that the exponential alone is seen there, down to results
that are subnormal and then 0; it is counted apart.

The reference is float64, wrong by less than 2**-50 of its value. Where that leaves the rounding
open (about one result in ten million) mpmath decides. The input is cut into pieces for one
process a core; a piece's counts depend on nothing else, so the sum is always the same.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import mpmath
import numpy as np

from verification.calls import CallFailed, call
from verification.checks import Check, Task
from verification.errors import Bound
from verification.exact import Array, Exact
from verification.judged import kind_of, missed, row_error
from verification.names import FUNCTIONS
from verification.results import FAILED, HELD, SKIPPED, Finding, Result
from verification.shown import decimals, hexadecimal, hexadecimals, value_line
from verification.subjects import Subject, load

PIECE = 1 << 15  # inputs at once, whose arrays stay in the second cache: 1.7x of 2**20
PIECES = 1 << 17
BATCH = 1 << 6  # pieces that a process counts before it reports
EXP_ALONE = -17.33
_ERROR = 2.0**-50  # of the reference, relative: exp and three roundings
_WORDS = ("0", "1", "2", "more")
_ROUNDING = 8.0  # ULP of an exponential that rounding explains


@dataclass
class Counts:
    """Results by their distance from the correctly rounded one, and the worst."""

    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    worst: float = 0.0
    at: int = 0  # the bits of the worst input

    def merge(self, other: Counts) -> None:
        """Add another piece's counts."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        if other.worst > self.worst:
            self.worst, self.at = other.worst, other.at


def exhaustive_checks(dtypes: Sequence[str]) -> Iterator[Check]:
    """The suite ``exhaustive``, in float32."""
    if "float32" in dtypes:
        yield Check("exhaustive", "two_class_softmax", "float32", two_class)
        functions = (*FUNCTIONS, "exp")
        yield Check("exhaustive", "exponential", "float32", exponential, functions)


def inputs(piece: int) -> Array:
    """One piece of the 2**32 float32 numbers, by their bits."""
    first = piece * PIECE
    return np.arange(first, first + PIECE, dtype=np.uint32).view(np.float32)


def count(got: Array, true: Array, decide: str, x: Array) -> Counts:
    """Compare float32 results with float64 truth; ``decide`` names what mpmath computes."""
    with np.errstate(all="ignore"):
        best = true.astype(np.float32)
        # Open where the truth, moved by its error, rounds to another float32.
        undecided = (true * (1 - _ERROR)).astype(np.float32) != (true * (1 + _ERROR)).astype(
            np.float32
        )
    for i in np.flatnonzero(undecided & ~np.isnan(true)):
        exact = _exact(decide, float(x[i]))
        near = [np.nextafter(best[i], np.float32(s)) for s in (-np.inf, np.inf)]
        best[i] = min([best[i], *near], key=lambda v: abs(mpmath.mpf(float(v)) - exact))

    off = np.flatnonzero(got.view(np.int32) != best.view(np.int32))
    off = off[~(np.isnan(got[off]) & np.isnan(best[off]))]
    # One NaN, or infinity for a number: their bits are far from any number's.
    bits = [v[off].view(np.int32).astype(np.int64) for v in (got, best)]
    away = np.minimum(np.abs(bits[0] - bits[1]), 3)
    counts = np.bincount(away, minlength=4)
    found = Counts([int(n) for n in counts])
    found.counts[0] += int(got.size - off.size)
    # A correctly rounded result is off by half an ULP at most.
    found.worst, found.at = 0.5, int(x[0].view(np.uint32))
    if off.size:
        with np.errstate(all="ignore"):
            unit = np.ldexp(1.0, np.maximum(np.frexp(true[off])[1] - 1, -126) - 23)
            errors = np.abs(got[off].astype(np.float64) - true[off]) / unit
        errors = np.where(np.isnan(errors), np.inf, errors)
        place = int(np.argmax(errors))
        if errors[place] > found.worst:
            found.worst, found.at = float(errors[place]), int(x[off[place]].view(np.uint32))
    return found


def _exact(decide: str, x: float) -> mpmath.mpf:
    with mpmath.workprec(200):
        if decide == "exp":
            return mpmath.exp(x)
        return 1 / (1 + mpmath.exp(-x if decide == "first" else x))


def _two_class_piece(subject: Subject, piece: int) -> dict[str, Counts]:
    x = inputs(piece)
    rows = np.zeros((PIECE, 2), np.float32)
    rows[:, 0] = x
    got = call(subject, "softmax", rows, -1)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)  # signalling NaN among them
        small = np.exp(-np.abs(wide))
        large = 1 / (1 + small)
        small = small * large
        negative = wide < 0
        first = np.where(negative, small, large)
        second = np.where(negative, large, small)
        # beside +inf SciPy's softmax is NaN
        first[wide == np.inf] = second[wide == np.inf] = np.nan
    found = {"second": count(np.ascontiguousarray(got[:, 1]), second, "second", x)}
    column = np.ascontiguousarray(got[:, 0])
    alone = x < EXP_ALONE
    for name, some in (("exp alone", alone), ("first", ~alone)):
        if some.any():
            found[name] = count(column[some], first[some], "first", x[some])
    return found


def _exp_piece(subject: Subject, piece: int) -> dict[str, Counts]:
    x = inputs(piece)
    got = np.ascontiguousarray(call(subject, "exp", x, -1))
    with np.errstate(all="ignore"):
        true = np.exp(x.astype(np.float64))
    return {"exp": count(got, true, "exp", x)}


_WORK = {"two_class_softmax": _two_class_piece, "exponential": _exp_piece}


_subjects: list[Subject] = []  # of a process of the pool: the one that it calls


def _start(again: tuple[str, str, str, str], path: list[str]) -> None:
    sys.path[:] = path
    _subjects[:] = [load(*again)]


def _run_batch(work: tuple[str, int]) -> dict[str, Counts] | str:
    name, batch = work
    total: dict[str, Counts] = {}
    try:
        for piece in range(batch * BATCH, (batch + 1) * BATCH):
            _merge(total, _WORK[name](_subjects[0], piece))
    except CallFailed as failure:
        return failure.finding.message
    return total


def _merge(total: dict[str, Counts], found: dict[str, Counts]) -> None:
    for key, counts in found.items():
        total.setdefault(key, Counts()).merge(counts)


def _all_pieces(name: str, subject: Subject, task: Task) -> dict[str, Counts] | str:
    processes = os.cpu_count() or 1
    before = {key: os.environ.get(key) for key in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))  # the processes are the parallelism
    try:
        context = multiprocessing.get_context("spawn")
        function = "exp" if name == "exponential" else "softmax"
        start = (subject.again(function), sys.path)
        total: dict[str, Counts] = {}
        with context.Pool(processes, _start, start) as pool:
            # in the order of inputs, so that the first of equally bad ones is always the same
            work = [(name, batch) for batch in range(PIECES // BATCH)]
            for done, found in enumerate(pool.imap(_run_batch, work)):
                if isinstance(found, str):
                    return found
                _merge(total, found)
                task.progress((done + 1) / len(work))
        return total
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def two_class(subject: Subject, task: Task) -> list[Result]:
    """softmax([x, 0]) of every float32 x: both elements."""
    if "softmax" not in task.functions or "softmax" not in subject.functions:
        return []
    return _results("two_class_softmax", "softmax", subject, task)


def exponential(subject: Subject, task: Task) -> list[Result]:
    """exp(x) of every float32 x, of a subject that has a public exponential."""
    if "exp" not in subject.functions:
        return [
            Result(
                *("exhaustive", "exponential", "exp", "float32", SKIPPED),
                note=f"{subject.name} has no public exponential: it is seen in "
                "two_class_softmax, alone where x < -17.33",
            )
        ]
    return _results("exponential", "exp", subject, task)


def _results(name: str, function: str, subject: Subject, task: Task) -> list[Result]:
    bound = subject.bound(function, "float32")
    common = Result(
        suite="exhaustive",
        case=name,
        function=function,
        dtype="float32",
        status=FAILED,
        bound=bound.ulp,
        source=bound.source,
        evidence="exhaustive: an upper bound on the error",
    )
    try:
        returned = call(subject, function, np.zeros((1, 2), np.float32), -1).dtype.name
    except CallFailed as failure:
        return [dataclasses.replace(common, finding=failure.finding)]
    if returned != "float32":
        why = f"{subject.name} returns {returned}, and every float32 result is what is counted"
        return [dataclasses.replace(common, status=SKIPPED, returned=returned, note=why)]
    found = _all_pieces(name, subject, task)
    if isinstance(found, str):
        return [dataclasses.replace(common, finding=Finding("broken", found))]
    return [_result(common, key, found[key], subject, bound) for key in sorted(found)]


def _result(common: Result, key: str, counts: Counts, subject: Subject, bound: Bound) -> Result:
    """What was counted of one of the functions."""
    shown = ", ".join(f"{n:,} off by {w}" for n, w in zip(counts.counts, _WORDS, strict=True))
    x = np.uint32(counts.at).view(np.float32)
    result = dataclasses.replace(
        common,
        case=f"{common.case}: {key}",
        ulp=counts.worst,
        elements=sum(counts.counts),
        note=f"{shown}; worst {counts.worst:.4f} ULP at x = {hexadecimal(float(x))}",
        histogram=dict(zip(_WORDS, counts.counts, strict=True)),
    )
    if counts.worst <= bound.ulp:
        return dataclasses.replace(result, status=HELD)
    function = common.function
    row = np.array([x] if function == "exp" else [x, 0], np.float32)
    kind = _kind(subject, function, row, counts.worst, bound)
    finding = Finding(
        kind=kind,
        message=f"{missed(counts.worst, bound, kind)}; {shown}",
        values=hexadecimals(row),
        decimals=decimals(row),
        call=f"{function}({row!r})",
        python="" if function == "exp" else value_line(subject, function, row),
    )
    return dataclasses.replace(result, finding=finding)


def _kind(subject: Subject, function: str, row: Array, worst: float, bound: Bound) -> str:
    """The kind of the worst error, which is shown on a row."""
    if function != "exp":
        return row_error(subject, function, row).kind or "rounding"
    got = call(subject, function, row, -1)
    with np.errstate(all="ignore"):
        exact = Exact.of(np.exp(row.astype(np.float64)))
    return kind_of(np.full(1, worst), bound, _ROUNDING, got, exact, "float32")[0]
