"""Calling a subject: an answer that can be compared, or what is wrong with the call."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from verification.exact import Array
from verification.names import DTYPES, REDUCED
from verification.results import Finding
from verification.subjects import Axis, Function, Subject


class CallFailed(Exception):
    """A call whose answer cannot be compared: the finding says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def broken(message: str, got: str = "") -> CallFailed:
    """A call that did something else than to answer with an array of the right shape."""
    return CallFailed(Finding("broken", message, got=got))


def result_shape(function: str, shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The shape of a function's result."""
    if function not in REDUCED:
        return shape
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    gone = {a % len(shape) for a in axes}
    return tuple(n for i, n in enumerate(shape) if i not in gone)


def call(subject: Subject, function: str, x: Array, axis: Axis, **options: Any) -> Array:
    """The subject's answer: an array of the right shape, of a floating type, in native bytes.

    The type may be another than that of ``x``: errors are measured in the type that was returned,
    and that it is another is one finding about the whole subject (`runs.types_returned`).

    Raises
    ------
    CallFailed
        Where it is not that, or ``x`` was written to.
    """
    in_place = options.get("out") is not None and np.shares_memory(options["out"], x)
    kept = () if in_place else (x,)
    answer = answered(subject.functions[function], (x, axis), options, kept)
    result = of_shape(answer, result_shape(function, x.shape, axis))
    return floating(result, x.dtype.name if x.dtype.name in DTYPES else "a floating type")


def answered(
    function: Function, arguments: tuple[Any, ...], options: dict[str, Any], kept: tuple[Array, ...]
) -> Any:
    """What a function answers.

    Raises
    ------
    CallFailed
        Where it raises, or one of the arrays ``kept`` was written to.
    """
    before = [array.tobytes() for array in kept]
    failure = None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            answer = function(*arguments, **options)
        except Exception as error:
            said = str(error).splitlines()[0] if str(error) else ""
            failure = broken(f"raises {type(error).__name__}: {said}")
    for array, bytes_before in zip(kept, before, strict=True):
        if array.tobytes() != bytes_before:
            # others are given it next
            array[...] = np.frombuffer(bytes_before, array.dtype).reshape(array.shape)
            failure = broken("writes into its argument")
    if failure is not None:
        raise failure
    return answer


def of_shape(answer: Any, shape: tuple[int, ...]) -> Array:
    """An answer as an array, which must have this shape."""
    try:
        result = np.asarray(answer)
    except Exception as error:
        raise broken(f"returns a {type(answer).__name__}: {error}") from None
    if result.shape != shape:
        raise broken(f"returns the shape {result.shape}, not {shape}", _short(result))
    return result


def floating(result: Array, expected: str) -> Array:
    """A result of a floating type, in native bytes."""
    native = result.dtype.newbyteorder("=")
    if native.name not in DTYPES:
        raise broken(f"returns {native.name}, not {expected}", _short(result))
    return result.astype(native, copy=False)


def _short(x: Array) -> str:
    return np.array2string(np.asarray(x), threshold=8, edgeitems=3).replace("\n", "")


def refused_axis(subject: Subject, function: str, axis: Axis) -> str:
    """Why a subject cannot be asked about this axis; '' where it can.

    Many functions take one axis, and no several of them, or none for all: that is no fault. Who
    takes which is found by trying.
    """
    if isinstance(axis, int) or _takes(subject, function, None if axis is None else (0, 1)):
        return ""
    if axis is None and _takes(subject, function, (0, 1)):
        return f"{subject.name} takes no axis=None"
    return f"{subject.name} takes one axis"


@functools.cache
def _takes(subject: Subject, function: str, axis: Axis) -> bool:
    """Whether a small array comes back in its right shape."""
    try:
        call(subject, function, np.zeros((2, 3, 4), subject.dtypes[0]), axis)
    except CallFailed as failure:
        return failure.finding.message == "writes into its argument"
    return True
