"""Subject x case -> results: the call, and what is compared."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verification import cases, references
from verification.calls import CallFailed, broken, call, refused_axis, result_shape
from verification.cases import Case
from verification.errors import rounded
from verification.exact import Array
from verification.judged import by_rows, errors_of, kind_of, missed, ordinary, rows_of
from verification.names import FUNCTIONS, OPTIONS
from verification.results import FAILED, HELD, SKIPPED, Finding, Result
from verification.shown import described, number, repeat_line, shortened
from verification.subjects import Missing, Subject, load

CASE_SUITES = ("extremes", "edges", "random", "hard")
_BINS = (0.5, 1.0, 1.5, 2.0, *(2.0**k for k in range(2, 25, 2)), np.inf)


@dataclass(frozen=True)
class Task:
    """What a check is asked to do besides the subject."""

    functions: tuple[str, ...]
    seed: int = 0
    beside: bool = False  # measure SciPy on the same input
    shorten: bool = False  # look for the shortest input that fails
    progress: Callable[[float], None] = lambda share: None  # of a long check


@dataclass(frozen=True)
class Check:
    """One unit of work: a case, a property, a search, in one dtype."""

    suite: str
    name: str
    dtype: str
    run: Callable[[Subject, Task], list[Result]]
    functions: tuple[str, ...] = FUNCTIONS  # that it may be about


def case_checks(suite: str, dtypes: Sequence[str]) -> Iterator[Check]:
    """The checks of a suite of cases."""
    for case in cases.all_cases(suite):
        for dtype in dtypes:
            if dtype in case.dtypes:
                run = functools.partial(check_case, case, dtype)
                yield Check(suite, case.name, dtype, run)


def truth_of(case: Case, x: Array) -> references.Truth:
    """The exact results of a case."""
    temperature: Any = 1.0
    present = None
    if case.temperature is not None:
        temperature = np.asarray(case.temperature(x), np.float64)
    if case.where is not None:
        present = rows_of(np.broadcast_to(case.where(x), x.shape), case.axis) != 0
    return references.truth(rows_of(x, case.axis), temperature, present)


# --- a case ----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _made(case: Case, dtype: str, seed: int) -> tuple[Array, references.Truth]:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = case.values(dtype, seed)
        return x, truth_of(case, x)


def inapplicable(subject: Subject, case: Case, function: str) -> str:
    """Why a case does not apply to a subject; '' where it does."""
    if not subject.takes_arrays:
        if case.layout or case.out:
            return f"{subject.name} copies the array into one of its own"
        if case.integers:
            return f"{subject.name} takes no integers"
    has = subject.options.get(function, frozenset())
    for option in OPTIONS:
        if getattr(case, option) and option not in has:
            return f"{function} has no {option}="
    return refused_axis(subject, function, case.axis)


def check_case(case: Case, dtype: str, subject: Subject, task: Task) -> list[Result]:
    """One case in one dtype: a result for each function."""
    results = []
    for function in task.functions:
        if function in case.functions and function in subject.functions:
            why = inapplicable(subject, case, function)
            if why:
                results.append(Result(case.suite, case.name, function, dtype, SKIPPED, note=why))
            else:
                results.append(_check_function(case, dtype, function, subject, task))
    return results


def _options(case: Case, function: str, x: Array) -> tuple[Array, dict[str, Any], Array | None]:
    """The array to pass, the options, and the memory around ``out``, which must not change."""
    options: dict[str, Any] = {}
    if case.temperature is not None:
        options["temperature"] = case.temperature(x)
    if case.where is not None:
        options["where"] = case.where(x)
    if not case.out:
        return x, options, None
    if case.out == "fresh":
        shape = result_shape(function, x.shape, case.axis)
        memory = np.full((shape[0] + 2, *shape[1:]), 7, x.dtype)
        options["out"] = memory[1:-1]
        return x, options, memory
    memory = np.full((x.shape[0] + 3, *x.shape[1:]), 7, x.dtype)
    first = 1 if case.out == "in place" else 2
    passed = memory[first : first + x.shape[0]]
    passed[...] = x
    options["out"] = memory[1 : 1 + x.shape[0]]
    return passed, options, memory


def _check_function(case: Case, dtype: str, function: str, subject: Subject, task: Task) -> Result:
    x, found = _made(case, dtype, task.seed)
    about: dict[str, Any] = {
        "suite": case.suite,
        "case": case.name,
        "function": function,
        "dtype": dtype,
    }
    common: dict[str, Any] = {**about, "place": case.place}
    repeat = repeat_line(subject, about, task.seed)
    passed, options, memory = _options(case, function, x)
    try:
        result = call(subject, function, passed, case.axis, **options)
        if memory is not None and not _only_out_changed(memory, case, options["out"], result):
            raise broken("out= does not hold the result, or memory beside it was written")
    except CallFailed as failure:
        refused = failure.finding.message.startswith("raises ValueError")
        if case.may_raise and refused:
            return Result(**common, status=HELD, note="raises ValueError, as SciPy does")
        bound = subject.bound(function, dtype)
        common |= {"bound": bound.ulp, "source": bound.source}
        finding = _described(failure.finding, case, function, x, repeat)
        return Result(**common, status=FAILED, finding=finding)

    kind = result.dtype.name
    bound = subject.bound(function, kind)
    if kind != x.dtype.name and not case.integers:
        common |= {"returned": kind, "note": f"measured in {kind}, the type that was returned"}
    errors, allowance = errors_of(function, result, found, case.axis, kind)
    measured = errors / allowance
    ulp = float(measured.max(initial=0.0))
    source = bound.source
    if allowance.max(initial=1.0) > 1:
        source += "; times the condition number where shift and log(total) cancel (draa038)"
    common |= {"ulp": ulp, "bound": bound.ulp, "source": source, "elements": int(errors.size)}
    if case.suite == "random":
        counts, _ = np.histogram(measured, bins=[0, *_BINS])
        common["histogram"] = {
            f"{edge:g}": int(n) for edge, n in zip(_BINS, counts, strict=True) if n
        }
    if task.beside:
        common["scipy"] = _scipy_beside(case, function, dtype, x, found)
    if ulp <= bound.ulp:
        return Result(**common, status=HELD)
    rows, exact = by_rows(function, result, case.axis), found.of(function)
    explained = ordinary(function, found, kind)
    named, at = kind_of(measured, bound, explained, rows, exact, kind)
    finding = Finding(
        kind=named,
        message=missed(float(measured[at]), bound, named),
        got=number(rows[at]),
        expected=number(rounded(exact[at], kind)),
    )
    finding = _described(finding, case, function, x, repeat)
    if task.shorten and not case.where and case.temperature is None and not case.integers:
        row = rows_of(x, case.axis)[at[0]].astype(x.dtype.newbyteorder("="))
        finding = shortened(subject, function, row, finding)
    return Result(**common, status=FAILED, finding=finding)


def _described(finding: Finding, case: Case, function: str, x: Array, repeat: str) -> Finding:
    """The finding with the case's call."""
    options = "".join(f", {name}=..." for name in OPTIONS if getattr(case, name))
    return described(finding, function, x, case.axis, options, repeat)


def _only_out_changed(memory: Array, case: Case, out: Array, result: Array) -> bool:
    if not np.shares_memory(out, result) or out.tobytes() != result.tobytes():
        return False
    around = [memory[:1], memory[-1:]] if case.out != "overlapping" else [memory[:1]]
    return all(bool(np.all(part == 7)) for part in around)


@functools.cache
def _scipy() -> Subject | None:
    try:
        return load("scipy")
    except Missing:
        return None


def _scipy_beside(
    case: Case, function: str, dtype: str, x: Array, found: references.Truth
) -> dict[str, float]:
    """SciPy's worst error on the same input: in its type, and in float64 rounded to it."""
    scipy = _scipy()
    if scipy is None or case.where or case.temperature is not None or case.out:
        return {}
    worst = {}
    inputs = {"float64": x.astype(np.float64)}
    if dtype in scipy.dtypes:
        inputs["same type"] = x
    for name, given in inputs.items():
        try:
            result = call(scipy, function, given, case.axis)
        except CallFailed:
            continue
        with np.errstate(all="ignore"):
            result = result.astype(cases.dtype_of(dtype))
        errors, allowance = errors_of(function, result, found, case.axis, dtype)
        worst[name] = float((errors / allowance).max(initial=0.0))
    return worst
