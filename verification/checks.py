"""Subject x case -> results: the call, what is compared, and the line that repeats a failure."""

from __future__ import annotations

import dataclasses
import functools
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verification import cases, references
from verification.cases import Case
from verification.errors import FORMATS, Bound, rounded, ulp_errors
from verification.exact import Array, Exact
from verification.results import FAILED, HELD, SKIPPED, Finding, Result
from verification.subjects import Missing, Subject, load

CASE_SUITES = ("extremes", "edges", "random", "hard")
_BINS = (0.5, 1.0, 1.5, 2.0, *(2.0**k for k in range(2, 25, 2)), np.inf)
_SHOWN = 16  # logits of a reproduction that is written out
_TRIALS = 120  # calls that shortening a failure may take


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


def case_checks(suite: str, dtypes: Sequence[str]) -> Iterator[Check]:
    """The checks of a suite of cases."""
    for case in cases.all_cases(suite):
        for dtype in dtypes:
            if dtype in case.dtypes:
                run = functools.partial(check_case, case, dtype)
                yield Check(suite, case.name, dtype, run)


# --- calling a subject -----------------------------------------------------------------------


class CallFailed(Exception):
    """A call whose answer cannot be compared: the finding says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def result_shape(function: str, shape: tuple[int, ...], axis: cases.Axis) -> tuple[int, ...]:
    """The shape of a function's result."""
    if function not in references.REDUCED:
        return shape
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    gone = {a % len(shape) for a in axes}
    return tuple(n for i, n in enumerate(shape) if i not in gone)


def call(subject: Subject, function: str, x: Array, axis: cases.Axis, **options: Any) -> Array:
    """The subject's answer, an array of the right shape and type that left ``x`` as it was.

    Raises
    ------
    CallFailed
        Where it is not that.
    """
    in_place = options.get("out") is not None and np.shares_memory(options["out"], x)
    before = None if in_place else x.tobytes()
    failure = None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            answer = subject.functions[function](x, axis, **options)
        except Exception as error:
            message = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            failure = CallFailed(Finding("raises", message))
    if before is not None and x.tobytes() != before:
        x[...] = np.frombuffer(before, x.dtype).reshape(x.shape)  # others are given it next
        failure = CallFailed(Finding("changed input", "the argument was written to"))
    if failure is not None:
        raise failure
    try:
        result = np.asarray(answer)
    except Exception as error:
        message = f"returned a {type(answer).__name__}: {error}"
        raise CallFailed(Finding("type", message)) from None
    shape = result_shape(function, x.shape, axis)
    if result.shape != shape:
        raise CallFailed(Finding("shape", f"shape {result.shape}, not {shape}", got=_short(result)))
    # What type integers give is a library's own choice; that it has a fraction is not.
    expected = x.dtype.newbyteorder("=") if x.dtype.name in FORMATS else "a floating type"
    if result.dtype != expected and (x.dtype.name in FORMATS or result.dtype.name not in FORMATS):
        raise CallFailed(Finding("type", f"{result.dtype}, not {expected}", got=_short(result)))
    return result


def rows_of(x: Array, axis: cases.Axis) -> Array:
    """The rows along the reduced axes, as a matrix in float64."""
    x = np.asarray(x).astype(np.float64)
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    moved = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    length = int(np.prod(moved.shape[x.ndim - len(axes) :]))
    count = int(np.prod(moved.shape[: x.ndim - len(axes)]))
    return np.ascontiguousarray(moved).reshape(count, length)


def truth_of(case: Case, x: Array) -> references.Truth:
    """The exact results of a case."""
    temperature: Any = 1.0
    present = None
    if case.temperature is not None:
        temperature = np.asarray(case.temperature(x), np.float64)
    if case.where is not None:
        present = rows_of(np.broadcast_to(case.where(x), x.shape), case.axis) != 0
    return references.truth(rows_of(x, case.axis), temperature, present)


def _by_rows(function: str, result: Array, axis: cases.Axis) -> Array:
    """A function's results by rows, as those of its `Truth`."""
    return result.reshape(-1) if function in references.REDUCED else rows_of(result, axis)


def errors_of(
    function: str, result: Array, found: references.Truth, axis: cases.Axis, dtype: str
) -> tuple[Array, Array]:
    """The errors of a result in ULP, by rows, and their allowance for cancellation."""
    rows = _by_rows(function, result, axis)
    errors = ulp_errors(rows, found.of(function), dtype)
    if function in references.REDUCED:
        return errors, references.cancellation(function, found)
    # Beside +inf, NaN and the limit are both accepted (references.py).
    limit = {"softmax": 0.0, "log_softmax": -np.inf}[function]
    finite = found.of("log_softmax").high == -np.inf
    accepted = np.isnan(rows) | (finite & (rows == limit))
    return np.where(found.has_infinity[:, None] & accepted, 0.0, errors), np.ones(1)


def ordinary(function: str, found: references.Truth, dtype: str) -> Array:
    """The error that rounding explains in the ordinary formula of this type, in ULP."""
    kind = FORMATS[dtype]
    return references.ordinary_ulps(function, found, kind.unit, kind.smallest)


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
    if not subject.any_axis and (case.axis is None or isinstance(case.axis, tuple)):
        return f"{subject.name} takes one axis"
    has = subject.options.get(function, frozenset())
    for option, wanted in (
        ("out", case.out),
        ("where", case.where),
        ("temperature", case.temperature),
    ):
        if wanted and option not in has:
            return f"{function} has no {option}="
    return ""


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
    bound = subject.bound(function, dtype)
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
            raise CallFailed(
                Finding("out", "out does not hold the result, or memory beside it was written")
            )
    except CallFailed as failure:
        refused = failure.finding.message.startswith("ValueError")
        if failure.finding.kind == "raises" and case.may_raise and refused:
            return Result(**common, status=HELD, note="raises ValueError, as SciPy does")
        finding = _described(failure.finding, case, function, x, repeat)
        return Result(
            **common, status=FAILED, bound=bound.ulp, source=bound.source, finding=finding
        )

    kind = result.dtype.name  # dtype itself, but where integers were passed
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
    at = np.unravel_index(int(np.argmax(measured)), measured.shape)
    explained = bool(np.all(measured <= ordinary(function, found, kind)))
    rows = _by_rows(function, result, case.axis)
    finding = Finding(
        kind="rounding" if explained else "wrong",
        message=missed(ulp, bound) + ("; the ordinary formula's rounding" if explained else ""),
        got=_number(rows[at]),
        expected=_number(rounded(found.of(function)[at], kind)),
    )
    finding = _described(finding, case, function, x, repeat)
    if task.shorten and not case.where and case.temperature is None and not case.integers:
        row = rows_of(x, case.axis)[at[0]].astype(x.dtype.newbyteorder("="))
        finding = shortened(subject, function, row, bound, finding)
    return Result(**common, status=FAILED, finding=finding)


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


# --- showing a failure -----------------------------------------------------------------------


def repeat_line(subject: Subject, about: dict[str, Any], seed: int) -> str:
    """A line of Python that runs one check again."""
    which = ", ".join(f"{key}={value!r}" for key, value in (about | _how(subject)).items())
    return f"import verification; verification.repeat({subject.name!r}, {which}, seed={seed})"


def _how(subject: Subject) -> dict[str, str]:
    """What `subjects.load` has to be told beside the name."""
    convention = {"convention": subject.convention} if subject.convention else {}
    return convention | ({"target": subject.target} if subject.target != "cpu" else {})


def _number(value: Any) -> str:
    number = float(value)
    return f"{number!r} ({hexadecimal(number)})" if np.isfinite(number) else repr(number)


def hexadecimal(number: float) -> str:
    """A number in hexadecimal without its last zeros; ``float.fromhex`` reads it."""
    return re.sub(r"\.?0*p", "p", number.hex())


def _short(x: Array) -> str:
    return np.array2string(np.asarray(x), threshold=8, edgeitems=3).replace("\n", "")


def _hex(x: Array) -> tuple[str, ...]:
    return tuple(hexadecimal(float(v)) for v in x.ravel()[:_SHOWN])


def _described(finding: Finding, case: Case, function: str, x: Array, repeat: str) -> Finding:
    options = "".join(
        f", {name}=..."
        for name, given in (
            ("out", case.out),
            ("where", case.where),
            ("temperature", case.temperature),
        )
        if given
    )
    more = "" if x.size <= _SHOWN else f" and {x.size - _SHOWN:,} more"
    return dataclasses.replace(
        finding,
        values=(*_hex(x), more.strip()) if more else _hex(x),
        call=f"{function}(<{x.dtype} array of shape {x.shape}>, axis={case.axis}{options})",
        python=repeat,
    )


def missed(ulp: float, bound: Bound) -> str:
    """By how much a bound is missed, in words."""
    if np.isinf(ulp):
        return "infinite or NaN where it should not be, or the other way round"
    return f"{ulp:.4g} ULP, may be {bound.ulp:g}"


def row_error(
    subject: Subject, function: str, row: Array
) -> tuple[float, tuple[int, ...], Array, Exact]:
    """A row's worst error over its allowance, its place, the result and the exact one."""
    found = references.truth(row[None].astype(np.float64))
    result = call(subject, function, row[None], -1)
    errors, allowance = errors_of(function, result, found, -1, row.dtype.name)
    measured = errors / allowance
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(measured)), measured.shape))
    return float(measured[at]), at, result, found.of(function)


def shortened(
    subject: Subject, function: str, row: Array, bound: Bound, finding: Finding
) -> Finding:
    """The finding about the shortest part of the row that fails, where one is found."""
    trials = 0

    def fails(part: Array) -> bool:
        nonlocal trials
        trials += 1
        try:
            return row_error(subject, function, part)[0] > bound.ulp
        except CallFailed:
            return False

    if row.size > 100_000 or not fails(row):
        return finding
    piece = row.size // 2
    while piece and trials < _TRIALS:
        start = 0
        while start < row.size and trials < _TRIALS:
            part = np.delete(row, np.s_[start : start + piece])
            if part.size and fails(part):
                row = part
            else:
                start += piece
        piece //= 2
    return finding if row.size > _SHOWN else reproduced(subject, function, row, finding)


def reproduced(subject: Subject, function: str, row: Array, finding: Finding) -> Finding:
    """The finding with a row of logits, written out, that shows it."""
    ulp, at, result, exact = row_error(subject, function, row)
    return dataclasses.replace(
        finding,
        message=f"{finding.message}; shown on {row.size} logits, {ulp:.4g} ULP",
        values=_hex(row),
        call=f"{function}(x, axis=-1), x of type {row.dtype} and shape {row[None].shape}",
        got=_number(result[at]),
        expected=_number(rounded(exact[at], row.dtype.name)),
        python=value_line(subject, function, row),
    )


def value_line(subject: Subject, function: str, row: Array) -> str:
    """A line of Python that calls a subject with a row and shows its error."""
    values = ", ".join(repr(v) for v in _hex(row))
    more = "".join(f", {k}={v!r}" for k, v in _how(subject).items())
    return (
        f"import verification; verification.measure({subject.name!r}, {function!r}, "
        f"[{values}], {row.dtype.name!r}{more})"
    )
