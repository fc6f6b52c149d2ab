"""What must hold of any softmax, whatever it computes: each property measured in ULP.

Where two results are compared, each may be off by the subject's bound B, so that their difference
may be 2 B; where a property is exact for exact results, B is what it may be off. Equalities of
bits have the bound 0 and count the elements that differ.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from verification import names, references
from verification.calls import CallFailed, call
from verification.cases import dtype_of
from verification.checks import Check, Task
from verification.errors import FORMATS, Bound, ulp_errors
from verification.exact import Array
from verification.names import TIME_LIMIT
from verification.results import FAILED, HELD, SKIPPED, Finding, Result
from verification.shown import repeat_line
from verification.subjects import Subject, load

Random = np.random.Generator
BITS = Bound(0.0, "equal bits")


@dataclass(frozen=True)
class Measured:
    """How far a property is from holding, and where."""

    worst: float
    bound: Bound
    elements: int
    what: str = ""  # the worst place, in words


@dataclass(frozen=True)
class Context:
    """What a property is measured on."""

    subject: Subject
    function: str
    dtype: str  # of the logits
    returned: str  # of the results, in whose ULP they are measured
    random: Random

    def __call__(self, x: Array, axis: int = -1) -> Array:
        """The subject's answer."""
        return call(self.subject, self.function, x, axis)

    @property
    def bound(self) -> Bound:
        """The subject's bound B for this function and the type of its results."""
        return self.subject.bound(self.function, self.returned)

    def times(self, factor: float, why: str) -> Bound:
        """A multiple of the bound, and why."""
        return Bound(factor * self.bound.ulp, f"{why}, B from {self.bound.source}")

    def draw(self, *shape: int, spread: float = 3.0) -> Array:
        """Random logits."""
        return (self.random.standard_normal(shape) * spread).astype(dtype_of(self.dtype))


class NotApplicable(Exception):
    """Why a property does not apply to a subject."""


@dataclass(frozen=True)
class Property:
    """A property, the functions that have it, and its measurement."""

    name: str
    reason: str
    functions: tuple[str, ...]
    measure: Callable[[Context], Measured]


NORMALIZED = names.MAPPED
ALL = names.FUNCTIONS


def ulps(x: Array, dtype: str) -> Array:
    """The unit in the last place at each number."""
    kind = FORMATS[dtype]
    _, exponent = np.frexp(np.asarray(x).astype(np.float64))
    exponent = np.where(np.asarray(x) == 0, kind.smallest, exponent - 1)
    power = np.maximum(exponent, kind.smallest) - kind.precision + 1
    return np.asarray(np.ldexp(1.0, power.astype(np.int32)))


def _wide(x: Array) -> Array:
    return np.asarray(x).astype(np.float64)


def _apart(a: Array, b: Array, dtype: str) -> float:
    """The largest distance of two results, in ULP of the larger."""
    a, b = _wide(a), _wide(b)
    with np.errstate(invalid="ignore"):
        unit = ulps(np.maximum(np.abs(a), np.abs(b)), dtype)
        errors = np.where(a == b, 0.0, np.abs(a - b) / unit)
    errors = np.where(np.isnan(a) & np.isnan(b), 0.0, errors)
    return float(np.where(np.isnan(errors), np.inf, errors).max(initial=0.0))


def unequal(a: Array, b: Array) -> float:
    """How many elements differ in any bit."""
    size = a.dtype.itemsize
    left = np.ascontiguousarray(a).view(f"u{size}")
    right = np.ascontiguousarray(b).view(f"u{size}")
    return float(np.sum(left != right))


def sums_to_one(context: Context) -> Measured:
    """abs(sum p - 1) is at most B ULP of each p."""
    worst, elements = 0.0, 0
    for length in (1, 2, 5, 33, 1000, 20_000):
        for p in _wide(context(context.draw(5, length))):
            off = abs(math.fsum([*p, -1.0]))
            unit = math.fsum(ulps(p, context.returned))
            worst, elements = max(worst, off / unit), elements + length
    return Measured(worst, context.times(1, "B ULP of each probability"), elements)


def between_zero_and_one(context: Context) -> Measured:
    """0 <= p <= 1, and log p <= 0, without exception."""
    outside, elements = 0, 0
    for spread in (0.01, 1, 30, 300):
        result = _wide(context(context.draw(20, 257, spread=spread)))
        low, high = (0.0, 1.0) if context.function == "softmax" else (-np.inf, 0.0)
        outside += int(np.sum(~((result >= low) & (result <= high))))
        elements += result.size
    bound = Bound(0.0, "exact: no rounding of a result within the range leaves it")
    return Measured(float(outside), bound, elements, "results outside the range")


def monotone(context: Context) -> Measured:
    """A larger logit has no smaller result."""
    x = np.sort(context.draw(20, 500, spread=5.0), axis=-1)
    result = _wide(context(x))
    drop = np.maximum(0.0, result[:, :-1] - result[:, 1:])
    worst = float((drop / ulps(result[:, :-1], context.returned)).max())
    return Measured(worst, context.times(2, "2 B, for two results"), result.size)


def shift_invariant(context: Context) -> Measured:
    """f(x + c) = f(x), but logsumexp(x + c) = logsumexp(x) + c, where x + c is exact."""
    bits = FORMATS[context.dtype].precision
    grid = 2.0 ** (4 - bits)  # integers below 2**(bits - 2) times a power of 2
    whole = context.random.integers(0, 2 ** (bits - 3), (20, 100)) * grid * 2.0**4
    dtype = dtype_of(context.dtype)
    worst = 0.0
    shift = 2 ** (bits - 3) * grid * 2.0**4
    plain, moved = (whole - shift / 2).astype(dtype), (whole + shift / 2).astype(dtype)
    first, second = _wide(context(plain)), _wide(context(moved))
    if context.function == "logsumexp":
        first = first + shift
        worst = float(
            (
                np.abs(first - second)
                / ulps(np.maximum(np.abs(first), np.abs(second)), context.returned)
            ).max()
        )
        # the first is rounded where it is smaller, and shifted without rounding in float64
        bound = (
            context.times(2, "2 B, for two results")
            if context.returned != "float64"
            else Bound(2 * context.bound.ulp + 0.5, "2 B, and half for the sum in float64")
        )
        return Measured(worst, bound, first.size)
    worst = _apart(first, second, context.returned)
    return Measured(worst, context.times(2, "2 B, for two results"), first.size)


def permutation_equivariant(context: Context) -> Measured:
    """The order of the logits is the order of the results, and changes nothing else."""
    worst, elements = 0.0, 0
    for length in (2, 9, 100, 5000):
        x = context.draw(3, length)
        order = context.random.permutation(length)
        first, second = context(x), context(np.ascontiguousarray(x[:, order]))
        if context.function not in names.REDUCED:
            first = first[:, order]
        worst, elements = max(worst, _apart(first, second, context.returned)), elements + first.size
    return Measured(worst, context.times(2, "2 B, for two results"), elements)


def exp_of_log_softmax(context: Context) -> Measured:
    """exp(log_softmax(x)) = softmax(x)."""
    if "log_softmax" not in context.subject.functions:
        raise NotApplicable(f"{context.subject.name} has no log_softmax")
    x = context.draw(30, 100, spread=4.0)
    p = _wide(context(x))
    answer = call(context.subject, "log_softmax", x, -1)
    log, returned = _wide(answer), answer.dtype.name
    allowed_log = context.subject.bound("log_softmax", returned).ulp
    worst = 0.0
    # exp of a float64 is right to 2**-52 of its value, less than an ULP in every type
    with np.errstate(under="ignore"):
        again = np.exp(log)
    unit = ulps(p, context.returned)
    allowed = context.bound.ulp * unit + p * (allowed_log * ulps(log, returned) + 2.0**-52)
    worst = float((np.abs(again - p) / allowed).max())
    return Measured(
        worst * context.bound.ulp,
        context.times(1, "B, and p times the bound of log p"),
        p.size,
    )


def between_maximum_and_log_n(context: Context) -> Measured:
    """max <= logsumexp <= max + log n."""
    worst, elements = 0.0, 0
    for length, spread in ((1, 1.0), (2, 0.1), (2, 100.0), (1000, 1e-3), (1000, 5.0)):
        x = context.draw(30, length, spread=spread)
        result, top = _wide(context(x)), _wide(x).max(axis=-1)
        below, above = top - result, result - (top + math.log(length))
        off = np.maximum(0.0, np.maximum(below, above))
        found = references.truth(_wide(x))
        unit = ulps(result, context.returned) * references.cancellation("logsumexp", found)
        worst, elements = max(worst, float((off / unit).max())), elements + result.size
    return Measured(worst, context.times(1, "B"), elements)


def between_zero_and_log_n(context: Context) -> Measured:
    """0 <= entropy, without exception, and entropy <= log n, which equal logits have."""
    worst, elements = 0.0, 0
    for length, spread in ((1, 1.0), (2, 0.0), (7, 0.0), (1000, 0.0), (1000, 1e-3), (9, 300.0)):
        result = context(context.draw(30, length, spread=spread))
        equal = references.truth(np.zeros((1, length))).of("entropy")
        off = ulp_errors(result, equal, context.returned)
        if spread:
            off = np.where(_wide(result) > equal.mpf(0), off, 0.0)
        off = np.where(_wide(result) >= 0, off, np.inf)
        worst, elements = max(worst, float(off.max())), elements + result.size
    return Measured(worst, context.times(1, "B"), elements)


def same_along_any_axis(context: Context) -> Measured:
    """Rows, columns and middle axes give the same results."""
    x = context.draw(3, 50, 17)
    first = context(x, -1)
    worst = 0.0
    for axis in (0, 1):
        moved = np.ascontiguousarray(np.moveaxis(x, -1, axis))
        second = context(moved, axis)
        if context.function not in names.REDUCED:
            second = np.moveaxis(second, axis, -1)
        worst = max(worst, _apart(first, second, context.returned))
    return Measured(worst, context.times(2, "2 B, for two results"), first.size)


def same_in_any_layout(context: Context) -> Measured:
    """Strides, order and alignment of memory give the same results."""
    if not context.subject.takes_arrays:
        raise NotApplicable(f"{context.subject.name} copies the array into one of its own")
    x = context.draw(20, 301)
    first = context(x)
    worst = 0.0
    for other in (
        np.asfortranarray(x),
        np.repeat(x, 2, axis=1)[:, ::2],
        x[::-1, ::-1].copy()[::-1, ::-1],
    ):
        worst = max(worst, _apart(first, context(other), context.returned))
    return Measured(worst, context.times(2, "2 B, for two results"), first.size)


def same_bits_twice(context: Context) -> Measured:
    """The same call, the same bits."""
    x = context.draw(300, 500)
    first = context(x)
    different = max(unequal(first, context(x)) for _ in range(3))
    return Measured(different, BITS, first.size, "elements that differ")


def same_bits_alone_and_in_a_batch(context: Context) -> Measured:
    """A row has the same bits alone, in a part of the batch, and in the whole."""
    different, elements = 0.0, 0
    for length in (3, 33, 1000):
        x = context.draw(200, length)
        whole = context(x)
        for part in (np.s_[17:18], np.s_[199:200], np.s_[3:80]):
            different += unequal(whole[part], context(x[part].copy()))
            elements += x[part].size
    return Measured(different, BITS, elements, "elements that differ")


def same_bits_on_any_threads(context: Context) -> Measured:
    """The same bits on 1, 2, 3 and all threads, each in a process of its own."""
    counts = sorted({1, 2, 3, os.cpu_count() or 1})
    subject, functions = context.subject, tuple(context.subject.functions)
    name, convention, _, target = subject.again("")
    digests = [
        digests_on(count, __name__, name, convention, target, context.dtype, functions)
        for count in counts
    ]
    found = [digest[context.function] for digest in digests]
    for count, digest in zip(counts, found, strict=True):
        if "message" in digest:
            raise CallFailed(Finding(digest["kind"], f"on {count} threads: {digest['message']}"))
    different = sum(digest != found[0] for digest in found)
    what = f"thread counts of {counts} whose results differ from those of 1"
    return Measured(float(different), BITS, len(counts), what)


_THREAD_VARIABLES = (
    *("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
)


@functools.cache
def digests_on(
    threads: int,
    module: str,
    name: str,
    convention: str,
    target: str,
    dtype: str,
    functions: tuple[str, ...],
) -> dict[str, dict[str, str]]:
    """What a module's `digests` gives in a process with so many threads."""
    program = (
        f"import json, sys; sys.path[:0] = sys.argv[6:]; from {module} import digests;"
        "print(json.dumps(digests(*sys.argv[1:6])))"
    )
    arguments = [name, convention, target, dtype, ",".join(functions)]
    try:
        run = subprocess.run(
            [sys.executable, "-c", program, *arguments, *(p for p in sys.path if p)],
            env=os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads)),
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        what = f"on {threads} threads: nothing came back within {TIME_LIMIT:g} s"
        raise CallFailed(Finding("timed out", what)) from None
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:] or [f"exit status {run.returncode}"]
        raise CallFailed(Finding("crashed", f"on {threads} threads: {last[0]}"))
    return dict(json.loads(run.stdout.splitlines()[-1]))


def digests(
    name: str, convention: str, target: str, dtype: str, functions: str
) -> dict[str, dict[str, str]]:
    """By function, a hash of results that are large enough for several threads, or a finding.

    It is run in other processes.
    """
    found = {}
    for function in set(functions.split(",")) & set(ALL):
        subject = load(name, convention, function, target)
        random = np.random.default_rng(5)
        hashed = hashlib.sha256()
        try:
            for shape in ((400, 1000), (1, 300_000), (20_000, 7)):
                x = (random.standard_normal(shape) * 3).astype(dtype_of(dtype))
                hashed.update(np.ascontiguousarray(call(subject, function, x, -1)).tobytes())
        except CallFailed as failure:
            kind, message = failure.finding.kind, failure.finding.message
            found[function] = {"kind": kind, "message": message}
        else:
            found[function] = {"hash": hashed.hexdigest()}
    return found


def gradient(context: Context) -> Measured:
    """The gradient of sum(w f(x)) against a difference quotient with 60 digits."""
    subject, n = context.subject, 6
    if subject.gradient is None:
        raise NotApplicable(f"{subject.name} has no gradient")
    if context.dtype not in ("float32", "float64"):
        raise NotApplicable("measured in float32 and float64")
    x = context.draw(1, n, spread=2.0)
    shape = (1,) if context.function in names.REDUCED else (1, n)
    weights = context.random.standard_normal(shape).astype(x.dtype)
    got = subject.gradient(context.function, x, weights)
    values = [float(v) for v in x[0]]
    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -20

        def weighted(at: list[mpmath.mpf]) -> mpmath.mpf:
            terms = [mpmath.exp(v) for v in at]
            total = mpmath.fsum(terms)
            results = {
                "softmax": [t / total for t in terms],
                "log_softmax": [v - mpmath.log(total) for v in at],
                "logsumexp": [mpmath.log(total)],
            }[context.function]
            return mpmath.fsum(
                float(w) * r for w, r in zip(weights[0:1].ravel(), results, strict=True)
            )

        true = []
        for k in range(n):
            up = [mpmath.mpf(v) + (step if i == k else 0) for i, v in enumerate(values)]
            down = [mpmath.mpf(v) - (step if i == k else 0) for i, v in enumerate(values)]
            true.append(float((weighted(up) - weighted(down)) / (2 * step)))
    p = _wide(call(subject, "softmax", x, -1))[0]
    size = float(np.abs(weights).sum())
    scale = p * size if context.function != "log_softmax" else np.abs(weights[0]) + p * size
    unit = FORMATS[context.dtype].unit
    worst = float((np.abs(_wide(got)[0] - true) / (scale * unit)).max())
    bound = Bound(
        n + 8.0,
        "n + 8 roundings of p_i sum|w_j|: each product, sum and probability rounded once or twice",
    )
    return Measured(worst, bound, n)


PROPERTIES = (
    Property("sums_to_one", "probabilities", ("softmax",), sums_to_one),
    Property("between_0_and_1", "probabilities", NORMALIZED, between_zero_and_one),
    Property("monotone", "order is kept", NORMALIZED, monotone),
    Property("shift_invariant", "only differences count", ALL, shift_invariant),
    Property("permutation_equivariant", "order does not count", ALL, permutation_equivariant),
    Property("exp_of_log_softmax", "the two agree", ("softmax",), exp_of_log_softmax),
    Property("max_to_max_plus_log_n", "bounds", ("logsumexp",), between_maximum_and_log_n),
    Property("0_to_log_n", "bounds", ("entropy",), between_zero_and_log_n),
    Property("same_along_any_axis", "axes agree", ALL, same_along_any_axis),
    Property("same_in_any_layout", "layouts agree", ALL, same_in_any_layout),
    Property("same_bits_twice", "reproducible", ALL, same_bits_twice),
    Property("same_bits_in_any_batch", "reproducible", ALL, same_bits_alone_and_in_a_batch),
    Property("same_bits_on_any_threads", "reproducible", ALL, same_bits_on_any_threads),
    Property("gradient", "derivatives", names.USUAL, gradient),
)
# Processes are started for each: one type is enough.
_ONCE = {"same_bits_on_any_threads": "float32"}


def property_checks(dtypes: Sequence[str]) -> Iterator[Check]:
    """The checks of the suite ``properties``."""
    for item in PROPERTIES:
        once = [d for d in dtypes if d == _ONCE.get(item.name)] or dtypes[:1]
        for dtype in once if item.name in _ONCE else dtypes:

            def run(
                subject: Subject, task: Task, item: Property = item, dtype: str = dtype
            ) -> list[Result]:
                return [
                    check_property(item, subject, function, dtype, task)
                    for function in item.functions
                    if function in task.functions and function in subject.functions
                ]

            yield Check("properties", item.name, dtype, run)


def check_property(
    item: Property, subject: Subject, function: str, dtype: str, task: Task
) -> Result:
    """One property of one function in one dtype."""
    random = np.random.default_rng([task.seed, zlib.crc32(item.name.encode())])
    about: dict[str, Any] = {
        "suite": "properties",
        "case": item.name,
        "function": function,
        "dtype": dtype,
    }
    try:
        x = np.zeros((1, 2), dtype_of(dtype))
        returned = call(subject, function, x, -1).dtype.name
        found = item.measure(Context(subject, function, dtype, returned, random))
    except NotApplicable as why:
        return Result(**about, status=SKIPPED, note=str(why))
    except CallFailed as failure:
        return Result(**about, status=FAILED, finding=failure.finding)
    common: dict[str, Any] = {
        **about,
        "returned": returned if returned != dtype else "",
        "ulp": found.worst,
        "bound": found.bound.ulp,
        "source": found.bound.source,
        "elements": found.elements,
        "note": (item.measure.__doc__ or "").strip(),
    }
    if found.worst <= found.bound.ulp:
        return Result(**common, status=HELD)
    unit = found.what or "ULP"
    finding = Finding(
        kind="property",
        message=f"{common['note']} Off by {found.worst:.4g} {unit}, may be {found.bound.ulp:.4g}",
        call=f"{function}(...) of {dtype}",
        python=repeat_line(subject, about, task.seed),
    )
    return Result(**common, status=FAILED, finding=finding)
