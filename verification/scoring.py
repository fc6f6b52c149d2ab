"""The suite ``scoring``: what is made of a softmax, held to its definition.

A function is called as fastsoftmax has it: operands first, ``axis`` and options by name. A subject
is asked for those that it has, with the options that it has. `draws` has the checks of samples.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from verification import gradient_cases, scoring_cases
from verification.calls import CallFailed, answered, broken, floating, of_shape
from verification.checks import Check, Task
from verification.definitions import Numbers, defined
from verification.errors import FORMATS, Bound, exponent_of_ulp, rounded, ulp_errors
from verification.exact import Array
from verification.judged import kind_of, missed
from verification.names import ELEMENTWISE
from verification.results import FAILED, HELD, KINDS, SKIPPED, Finding, Result
from verification.scoring_cases import ScoringCase
from verification.shown import decimals, hexadecimals, number, repeat_line
from verification.subjects import Subject

SUITE = "scoring"
_WITHOUT_AXIS = ("softmax_jacobian", *ELEMENTWISE)


@functools.cache
def all_cases() -> tuple[ScoringCase, ...]:
    """The cases, function by function."""
    return (*scoring_cases.cases(), *gradient_cases.cases())


def case_checks(dtypes: Sequence[str]) -> Iterator[Check]:
    """The checks of the cases."""
    for case in all_cases():
        for dtype in dtypes:
            if dtype in case.dtypes:
                run = functools.partial(check_case, case, dtype)
                yield Check(SUITE, case.name, dtype, run, (case.function,))


# --- the call --------------------------------------------------------------------------------


def placed(rows: Array, axis: int) -> Array:
    """Rows with their classes along an axis, as a view; what is one number a row has no such axis.

    The axis is the last, the first, or the one between two others.
    """
    if rows.ndim == 0:
        return rows
    count = (len(rows) // 2, 2) if axis == 1 else (len(rows),)
    array = rows.reshape(*count, *rows.shape[1:])
    return np.moveaxis(array, -1, axis) if rows.ndim == 2 else array


def by_rows(array: Array, rows: tuple[int, ...], axis: int) -> Array:
    """What was `placed`, as rows again."""
    return (np.moveaxis(array, axis, -1) if len(rows) == 2 else array).reshape(rows)


def asked(
    subject: Subject, function: str, operands: Sequence[Any], options: Mapping[str, Any], axis: int
) -> Any:
    """What a subject answers to operands and a mask that are rows.

    Raises
    ------
    CallFailed
        Where it raises, or writes into its arguments.
    """
    given, named = list(operands), dict(options)
    if function not in _WITHOUT_AXIS:
        given = [placed(v, axis) if isinstance(v, np.ndarray) else v for v in operands]
        named["axis"] = axis
        if "where" in named:
            named["where"] = placed(named["where"], axis)
    arrays = tuple(v for v in (*given, *named.values()) if isinstance(v, np.ndarray))
    return answered(subject.functions[function], tuple(given), named, arrays)


def inapplicable(subject: Subject, function: str, options: Mapping[str, Any]) -> str:
    """Why a call does not apply to a subject; '' where it does."""
    has = subject.options.get(function, frozenset())
    lacking = [name for name in options if name not in has]
    return f"{function} has no {lacking[0]}=" if lacking else ""


@functools.lru_cache(maxsize=1024)
def _made(
    case: ScoringCase, dtype: str, seed: int
) -> tuple[tuple[Any, ...], dict[str, Any], tuple[Any, ...]]:
    """Operands, options, and what is right."""
    operands, options = case.values(dtype, seed)
    return operands, options, () if case.refused else defined(case.function, operands, options)


# --- what is compared ------------------------------------------------------------------------


def check_case(case: ScoringCase, dtype: str, subject: Subject, task: Task) -> list[Result]:
    """One case in one dtype: one result, or none where the subject is not asked."""
    function = case.function
    if function not in task.functions or function not in subject.functions:
        return []
    about: dict[str, Any] = {
        "suite": SUITE,
        "case": case.name,
        "function": function,
        "dtype": dtype,
    }
    if why := inapplicable(subject, function, case.options):
        return [Result(**about, status=SKIPPED, note=why)]
    operands, options, right = _made(case, dtype, task.seed)
    common = dict(about)
    try:
        answer = asked(subject, function, operands, options, case.axis)
        if case.refused:
            message = f"answers where there is no answer: {case.reason}"
            raise CallFailed(Finding("wrong", message, got=_short(answer)))
        measured, findings = _compared(case, answer, right, subject, dtype)
        common |= measured
    except CallFailed as failure:
        if case.refused and failure.finding.message.startswith("raises "):
            return [Result(**about, status=HELD, note=f"{failure.finding.message}, as it must")]
        findings = [(failure.finding, 0)]
    if not findings:
        return [Result(**common, status=HELD)]
    gravest, row = min(findings, key=lambda found: list(KINDS).index(found[0].kind))
    repeat = repeat_line(subject, about, task.seed)
    finding = _described(gravest, function, operands, options, case.axis, row, repeat)
    return [Result(**common, status=FAILED, finding=finding)]


def _short(answer: Any) -> str:
    return str(answer).replace("\n", " ")[:80]


def _compared(
    case: ScoringCase, answer: Any, right: tuple[Any, ...], subject: Subject, dtype: str
) -> tuple[dict[str, Any], list[tuple[Finding, int]]]:
    """What was measured of an answer, and what is wrong with it, each with the row that shows it.

    Raises
    ------
    CallFailed
        Where it cannot be compared.
    """
    answers = [answer]
    if len(right) > 1:
        if not isinstance(answer, (tuple, list)) or len(answer) != len(right):
            raise broken(f"returns a {type(answer).__name__}, not {len(right)} arrays")
        answers = list(answer)
    axis = -1 if case.function in _WITHOUT_AXIS else case.axis
    measured: dict[str, Any] = {"ulp": 0.0, "elements": 0}
    findings: list[tuple[Finding, int]] = []
    for given, true in zip(answers, right, strict=True):
        shape = true.exact.high.shape if isinstance(true, Numbers) else true.shape
        result = of_shape(given, placed(np.empty(shape), axis).shape)
        measured["elements"] += result.size
        if isinstance(true, Numbers):
            result = floating(result, dtype)
            kind, rows = result.dtype.name, by_rows(result, shape, axis)
            bound = subject.bound(case.function, kind)
            # A sum of losses may well have a wider type than they.
            if kind != dtype and shape:
                note = f"measured in {kind}, the type that was returned"
                measured |= {"returned": kind, "note": note}
            ulp, found = _judged(rows.astype(np.float64), true, kind, bound)
            measured["ulp"] = max(measured["ulp"], ulp)
            measured |= {"bound": bound.ulp, "source": bound.source + _of_what(true, bound)}
        else:
            found = _other_classes(by_rows(_whole(result), shape, axis), true)
        findings += found
    return measured, findings


def _of_what(true: Numbers, bound: Bound) -> str:
    exact = rounded(true.exact, "float64")
    if not np.any(true.size * bound.share > np.abs(exact)):
        return ""
    share = "" if bound.share == 1 else f"{bound.share:g} of "
    return f"; in ULP of {share}the numbers that cancel, where they do"


def _whole(result: Array) -> Array:
    if result.dtype.kind not in "iu":
        raise broken(f"returns indices of type {result.dtype.name}")
    return result.astype(np.int64)


def _judged(
    rows: Array, true: Numbers, dtype: str, bound: Bound
) -> tuple[float, list[tuple[Finding, int]]]:
    """The worst error in ULP, and what is beyond the bound."""
    kind, size = FORMATS[dtype], true.size * bound.share
    errors = ulp_errors(rows, true.exact, dtype, size)
    worst = float(errors.max(initial=0.0))
    if worst <= bound.ulp:
        return worst, []
    unit = exponent_of_ulp(true.exact, kind, size).astype(np.int32)
    with np.errstate(over="ignore"):
        explained = np.ldexp(true.ordinary * kind.unit, -unit) + 2
    named, at = kind_of(errors, bound, explained, rows, true.exact, dtype)
    finding = Finding(
        kind=named,
        message=missed(float(errors[at]), bound, named),
        got=number(rows[at]),
        expected=number(rounded(true.exact[at], dtype)),
    )
    return worst, [(finding, at[0] if at else 0)]


def _other_classes(got: Array, right: Array) -> list[tuple[Finding, int]]:
    """Classes that are others than the right ones."""
    off = np.argwhere(got != right)
    if not len(off):
        return []
    at = tuple(int(i) for i in off[0])
    message = (
        f"class {got[at]} at place {at[-1]}, not {right[at]}; {len(off):,} of {got.size:,} are"
    )
    return [(Finding("wrong", f"{message} others"), at[0])]


def _described(
    finding: Finding,
    function: str,
    operands: Sequence[Any],
    options: Mapping[str, Any],
    axis: int,
    row: int,
    repeat: str,
) -> Finding:
    """The finding with the call that shows it, and the row of the first operand that does."""
    x = np.asarray(operands[0])
    shown = x[row] if x.ndim == 2 and row < len(x) else x
    axes = {} if function in _WITHOUT_AXIS else {"axis": axis}
    listed = [
        f"<{v.dtype} array of shape {v.shape}>" if isinstance(v, np.ndarray) else repr(v)
        for v in operands
    ]
    listed += [
        f"{name}={'...' if isinstance(v, np.ndarray) else repr(v)}"
        for name, v in (axes | dict(options)).items()
    ]
    return Finding(
        kind=finding.kind,
        message=finding.message,
        values=hexadecimals(shown),
        decimals=decimals(shown),
        call=f"{function}({', '.join(listed)})",
        got=finding.got,
        expected=finding.expected,
        python=repeat,
    )
