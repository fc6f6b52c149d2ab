"""The suite ``scoring``, continued: the same bits in any batch and on any threads."""

from __future__ import annotations

import functools
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from verification.calls import CallFailed
from verification.cases import dtype_of
from verification.checks import Check, Task
from verification.exact import Array
from verification.names import ELEMENTWISE
from verification.properties import digests_on, unequal
from verification.results import FAILED, HELD, SKIPPED, Finding, Result
from verification.scoring import SUITE, asked, inapplicable
from verification.scoring_cases import Draw, Operands
from verification.shown import repeat_line
from verification.subjects import Subject, load

_UNREDUCED = {"reduction": "none"}
# Of rows of logits, the operands of each function that gives a result for each row.
_OPERANDS: Mapping[str, Callable[[Draw, Array], Operands]] = {
    "top_k": lambda d, x: (x, 5),
    "label_log_probabilities": lambda d, x: (x, d.labels(*x.shape)),
    "cross_entropy": lambda d, x: (x, d.labels(*x.shape)),
    "cross_entropy_and_gradient": lambda d, x: (x, d.labels(*x.shape)),
    "sample": lambda d, x: (x, 3),
    "kl_divergence": lambda d, x: (x, d.normal(*x.shape)),
    "softmax_vjp": lambda d, x: (d.probabilities(*x.shape), x),
    "log_softmax_vjp": lambda d, x: (d.of(-np.abs(x.astype(np.float64))), x),
    "logsumexp_vjp": lambda d, x: (x, d.normal(len(x))),
    "softmax_jvp": lambda d, x: (d.probabilities(*x.shape), x),
    **dict.fromkeys(ELEMENTWISE, lambda d, x: (x,)),
}
_OPTIONS = {"cross_entropy": _UNREDUCED, "cross_entropy_and_gradient": _UNREDUCED}


def _made(function: str, dtype: str, seed: int, *shape: int) -> tuple[Operands, dict[str, Any]]:
    random = np.random.default_rng([seed, zlib.crc32(function.encode())])
    draw = Draw(dtype_of(dtype), random)
    return _OPERANDS[function](draw, draw.normal(*shape)), dict(_OPTIONS.get(function, {}))


def _answers(
    subject: Subject, function: str, operands: Operands, options: Mapping[str, Any]
) -> list[Array]:
    """The arrays that a subject answers with."""
    answer = asked(subject, function, operands, options, -1)
    return [np.asarray(a) for a in (answer if isinstance(answer, (tuple, list)) else (answer,))]


def _off(whole: Sequence[Array], other: Sequence[Array]) -> float:
    """How many results are not the same, to the bit."""
    if [(a.shape, a.dtype) for a in whole] != [(a.shape, a.dtype) for a in other]:
        return float("inf")
    return sum(unequal(a, b) for a, b in zip(whole, other, strict=True))


def any_batch(subject: Subject, function: str, dtype: str, seed: int) -> tuple[float, int]:
    """A row has the same bits alone, in a part of the batch, and in the whole."""
    off, elements = 0.0, 0
    for length in (7, 300):
        operands, options = _made(function, dtype, seed, 120, length)
        whole = _answers(subject, function, operands, options)
        for part in (np.s_[17:18], np.s_[119:120], np.s_[3:80]):
            some = tuple(v[part].copy() if isinstance(v, np.ndarray) else v for v in operands)
            rows = [a[part] for a in whole]
            off += _off(rows, _answers(subject, function, some, options))
            elements += sum(a.size for a in rows)
    return off, elements


def any_threads(subject: Subject, function: str, dtype: str, seed: int) -> tuple[float, int]:
    """The same bits on 1, 2, 3 and all threads, each in a process of its own."""
    counts = sorted({1, 2, 3, os.cpu_count() or 1})
    there = tuple(name for name in _OPERANDS if name in subject.functions)
    name, convention, _, target = subject.again(function)
    found = []
    for count in counts:
        digest = digests_on(count, __name__, name, convention, target, dtype, there)[function]
        if "message" in digest:
            message = f"on {count} threads: {digest['message']}"
            raise CallFailed(Finding(digest["kind"], message))
        found.append(digest)
    return float(sum(digest != found[0] for digest in found)), len(counts)


def digests(
    name: str, convention: str, target: str, dtype: str, functions: str
) -> dict[str, dict[str, str]]:
    """By function, a hash of results that are large enough for several threads, or a finding."""
    found = {}
    for function in functions.split(","):
        subject = load(name, convention, function, target)
        hashed = hashlib.sha256()
        seeded = {"rng": 3} if function == "sample" else {}
        try:
            for shape in ((2000, 250), (2, 40_000)):
                operands, options = _made(function, dtype, 0, *shape)
                for answer in _answers(subject, function, operands, options | seeded):
                    hashed.update(np.ascontiguousarray(answer).tobytes())
        except CallFailed as failure:
            kind, message = failure.finding.kind, failure.finding.message
            found[function] = {"kind": kind, "message": message}
        else:
            found[function] = {"hash": hashed.hexdigest()}
    return found


Measure = Callable[[Subject, str, str, int], tuple[float, int]]
_CHECKS: Mapping[str, tuple[Measure, tuple[str, ...]]] = {
    # Of draws, a generator that goes on has a say: `draws.batch_splits`.
    "same_bits_in_any_batch": (any_batch, tuple(f for f in _OPERANDS if f != "sample")),
    "same_bits_on_any_threads": (any_threads, tuple(_OPERANDS)),
}


def bit_checks(dtypes: Sequence[str]) -> Iterator[Check]:
    """A check of all functions for each property; of threads in one type, as it takes processes."""
    for name, (measure, functions) in _CHECKS.items():
        once = [d for d in dtypes if d == "float32"] or list(dtypes[:1])
        for dtype in once if measure is any_threads else dtypes:
            run = functools.partial(check_bits, name, measure, functions, dtype)
            yield Check(SUITE, name, dtype, run, functions)


def check_bits(
    name: str,
    measure: Measure,
    functions: tuple[str, ...],
    dtype: str,
    subject: Subject,
    task: Task,
) -> list[Result]:
    """A result for each function that a subject is asked for."""
    return [
        _checked(name, measure, function, dtype, subject, task.seed)
        for function in functions
        if function in task.functions and function in subject.functions
    ]


def _checked(
    name: str, measure: Measure, function: str, dtype: str, subject: Subject, seed: int
) -> Result:
    about: dict[str, Any] = {"suite": SUITE, "case": name, "function": function, "dtype": dtype}
    if why := inapplicable(subject, function, _OPTIONS.get(function, {})):
        return Result(**about, status=SKIPPED, note=why)
    note = (measure.__doc__ or "").strip()
    try:
        off, elements = measure(subject, function, dtype, seed)
    except CallFailed as failure:
        return Result(**about, status=FAILED, finding=failure.finding)
    if not off:
        return Result(**about, status=HELD, elements=elements, note=note)
    finding = Finding(
        kind="property",
        message=f"{note} {off:,.0f} of {elements:,} do not",
        call=f"{function}(...) of {dtype}",
        python=repeat_line(subject, about, seed),
    )
    return Result(**about, status=FAILED, elements=elements, note=note, finding=finding)
