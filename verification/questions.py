"""The posted implementations, judged: which is right on what, and how fast is each.

People post several softmaxes and ask which is wrong, as all give the same output for a vector
(https://stackoverflow.com/questions/34968722). Here each is called as it stands.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from verification import implementations, references
from verification.errors import ulp_errors
from verification.exact import Array

# What may be called right here: ten times what rounding does to a few logits in float64.
_RIGHT = 100.0
_REPEATS = 25


def _posted() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    import scipy.special

    import fastsoftmax

    return {
        "`numpy_naive`: exp(x) / sum(exp(x), axis=0)": (implementations.numpy_naive, {}),
        "`numpy_global_max`: max and sum of the whole array": (
            implementations.numpy_global_max,
            {},
        ),
        "`numpy_rows`: max and sum with axis=1": (implementations.numpy_rows, {}),
        "`numpy_overwriting`: the same, into its argument": (
            implementations.numpy_overwriting,
            {},
        ),
        "`numpy_stable`: max and sum along axis=": (implementations.numpy_stable, {"axis": None}),
        "`scipy.special.softmax`": (scipy.special.softmax, {"axis": None}),
        "`fastsoftmax.softmax`": (fastsoftmax.softmax, {"axis": None}),
    }


VECTOR = np.array([3.0, 1.0, 0.2])
MATRIX = np.array([[3.0, 2.0, 4.0], [4.0, 5.0, 6.0]])
LARGE = np.array([1000.0, 1001.0, 1002.0])
QUESTIONS: dict[str, tuple[Array, int]] = {
    "a vector": (VECTOR, 0),
    "columns of a matrix": (MATRIX, 0),
    "rows of a matrix": (MATRIX, 1),
    "[1000, 1001, 1002]": (LARGE, 0),
}


def _call(posted: Callable[..., Any], options: dict[str, Any], x: Array, axis: int) -> Any:
    given = {"axis": axis} if "axis" in options else {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return posted(x, **given)


def verdict(posted: Callable[..., Any], options: dict[str, Any], x: Array, axis: int) -> str:
    """right, wrong, or the error that is raised."""
    try:
        result = np.asarray(_call(posted, options, x.copy(), axis))
    except Exception as error:
        return type(error).__name__
    if result.shape != x.shape:
        return "wrong"
    rows, got = np.moveaxis(x, axis, -1), np.moveaxis(result, axis, -1)
    found = references.truth(np.atleast_2d(rows))
    errors = ulp_errors(np.atleast_2d(got), found.of("softmax"), "float64")
    return "right" if errors.max() <= _RIGHT else "wrong"


def keeps_its_argument(posted: Callable[..., Any], options: dict[str, Any]) -> bool:
    """Whether a matrix is the same after the call."""
    x = MATRIX.copy()
    _call(posted, options, x, 1)
    return bool(np.array_equal(x, MATRIX))


def seconds(calls: list[Callable[[], Any]]) -> list[float]:
    """The least time of each, taken in turns."""
    best = [np.inf] * len(calls)
    for _ in range(_REPEATS):
        for index, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def _timed(shape: tuple[int, ...]) -> dict[str, float]:
    """Times relative to fastsoftmax's: of each posted softmax along the axis that is its own."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    posted = _posted()
    calls: dict[str, Callable[[], Any]] = {}
    for name, (call, options) in posted.items():
        if "numpy_rows" in name and len(shape) == 1:
            continue
        own = {"axis": len(shape) - 1} if "axis" in options else {}
        calls[name] = functools.partial(call, x.copy(), **own)
    found = dict(zip(calls, seconds(list(calls.values())), strict=True))
    ours = found["`fastsoftmax.softmax`"]
    return {name: value / ours for name, value in found.items()}


def to_markdown() -> str:
    """The table of answers."""
    small, large = _timed((10,)), _timed((2000, 1000))
    head = ["as posted", *QUESTIONS, "leaves its argument alone"]
    head += ["time, 10 logits", "time, 2,000 x 1,000"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, (call, options) in _posted().items():
        cells = [name]
        cells += [verdict(call, options, x, axis) for x, axis in QUESTIONS.values()]
        cells.append("yes" if keeps_its_argument(call, options) else "no")
        cells += [f"{t[name]:.2g}" if name in t else "-" for t in (small, large)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
