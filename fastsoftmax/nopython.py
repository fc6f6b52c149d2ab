"""softmax, log_softmax, logsumexp and entropy inside functions that Numba compiles.

Importing the package makes them, and SciPy's of these names, known to Numba; numba_entry.py
does where SciPy alone is imported. What is here says what a call means, and refuses what is not for
compiled code; cpu/inside.py computes.

>>> import numba, numpy, fastsoftmax
>>> @numba.njit
... def largest(x):
...     return fastsoftmax.softmax(x, axis=-1).max()
>>> largest(numpy.array([[1.0, 2.0], [10.0, 20.0]]))
0.9999546021312976

Arrays of float32, float64, integers and booleans, lists and tuples of numbers. ``axis`` and
``keepdims`` are constants where the call is written; a temperature is one number. Results have the
bits of calls from Python, in loops of threads, too; the thread that calls computes. What compiled
code cannot have, ``where`` for one, is a TypingError that names it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import TypingError, njit, types
from numba.extending import overload

from fastsoftmax import checks, functions
from fastsoftmax.arithmetic.formulas import ENTROPY, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX, Formula
from fastsoftmax.cpu import compiler

Implementation = Callable[..., Any]

# Axes are constants, which Numba shows first where they are preferred.
OVERLOAD: dict[str, Any] = {"prefer_literal": True, "target": "cpu"}


def constant(name: str, argument: str, kind: Any) -> Any:
    """The value of an argument that is a constant where the call is written."""
    if isinstance(kind, types.Omitted):
        return kind.value
    if isinstance(kind, types.NoneType):
        return None
    if isinstance(kind, types.Literal):
        return kind.literal_value
    if isinstance(kind, types.BaseTuple):
        return tuple(constant(name, argument, each) for each in kind)
    if isinstance(kind, types.Type):
        raise TypingError(f"{name}: {argument} must be a constant in compiled code, got {kind}")
    return kind  # what it is where it is not given


def refuse(name: str, **given: Any) -> None:
    """Refuse arguments that only calls from Python take, where they are given."""
    for argument, kind in given.items():
        if kind not in (None, False) and not isinstance(kind, types.NoneType):
            raise TypingError(f"{name}: {argument}= is not for compiled code: leave it out")


def axes_of(name: str, ndim: int, axis: Any) -> tuple[int, ...]:
    """Its axes, from a constant."""
    try:
        return checks.normalized_axes(ndim, constant(name, "axis", axis))
    except (TypeError, ValueError) as error:
        raise TypingError(f"{name}: {error}") from None


def logits_of(name: str, argument: str, x: Any) -> types.Array:
    """Numba's type of the logits as an array, which those of lists become."""
    # Not before something is compiled.
    from fastsoftmax.cpu import inside

    listed = isinstance(x, types.Sequence)
    if not listed and (not isinstance(x, types.Array) or x.ndim == 0):
        raise TypingError(f"{name}: {argument} must be an array, a list or a tuple, got {x}")
    whole = isinstance(x.dtype, (types.Integer, types.Boolean))
    if not whole and x.dtype not in inside.FLOATING:
        raise TypingError(
            f"{name}: {argument} must hold float32, float64, integers or booleans, got {x}"
        )
    return types.Array(x.dtype, 1, "C") if listed else x


def is_tempered(name: str, temperature: Any) -> bool:
    """Whether a temperature is given."""
    given = isinstance(temperature, types.Type)
    if given and not isinstance(temperature, (types.Float, types.Integer)):
        raise TypingError(f"{name}: temperature must be one number, got {temperature}")
    return given


def of_any(x: Any, compute: Implementation) -> Implementation:
    """What computes of an array, computing of what the caller has."""
    from fastsoftmax.cpu import inside

    if not isinstance(x, types.Sequence):
        return compute

    @njit(**inside.OPTIONS)
    def compute_list(x: Any, *others: Any) -> Any:
        return compute(np.asarray(x), *others)

    return compute_list  # type: ignore[no-any-return]


def _computed(
    formula: Formula, argument: str, x: Any, axis: Any, keepdims: Any = False,
    temperature: Any = 1.0,
) -> Implementation:  # fmt: skip
    """``compute(x, temperature)`` for what Numba knows of a call's arguments."""
    from fastsoftmax.cpu import inside

    name = formula.name
    array = logits_of(name, argument, x)
    keep = constant(name, "keepdims", keepdims)
    tempered = is_tempered(name, temperature)
    axes = axes_of(name, array.ndim, axis)
    return of_any(x, inside.computed(formula, array, axes, keep, tempered))


# --- this package's functions: their signatures, of which compiled code knows a part --------------


@overload(functions.softmax, **OVERLOAD)
def _softmax(
    x: Any, axis: Any = None, out: Any = None, where: Any = None, temperature: Any = 1.0,
    dtype: Any = None, dim: Any = None, target: Any = None, stream: Any = None,
) -> Implementation:  # fmt: skip
    refuse("softmax", out=out, where=where, dtype=dtype, dim=dim, target=target, stream=stream)
    compute = _computed(SOFTMAX, "x", x, axis, temperature=temperature)

    def implementation(
        x: Any, axis: Any = None, out: Any = None, where: Any = None, temperature: Any = 1.0,
        dtype: Any = None, dim: Any = None, target: Any = None, stream: Any = None,
    ) -> Any:  # fmt: skip
        return compute(x, temperature)

    return implementation


@overload(functions.log_softmax, **OVERLOAD)
def _log_softmax(
    x: Any, axis: Any = None, out: Any = None, where: Any = None, temperature: Any = 1.0,
    dtype: Any = None, dim: Any = None, target: Any = None, stream: Any = None,
) -> Implementation:  # fmt: skip
    refuse("log_softmax", out=out, where=where, dtype=dtype, dim=dim, target=target, stream=stream)
    compute = _computed(LOG_SOFTMAX, "x", x, axis, temperature=temperature)

    def implementation(
        x: Any, axis: Any = None, out: Any = None, where: Any = None, temperature: Any = 1.0,
        dtype: Any = None, dim: Any = None, target: Any = None, stream: Any = None,
    ) -> Any:  # fmt: skip
        return compute(x, temperature)

    return implementation


@overload(functions.logsumexp, **OVERLOAD)
def _logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: Any = False, return_sign: Any = False,
    out: Any = None, where: Any = None, dtype: Any = None, dim: Any = None, target: Any = None,
    stream: Any = None,
) -> Implementation:  # fmt: skip
    refuse("logsumexp", out=out, where=where, dtype=dtype, dim=dim, target=target, stream=stream)
    refuse("logsumexp", b=b, return_sign=return_sign)
    compute = _computed(LOGSUMEXP, "a", a, axis, keepdims)

    def implementation(
        a: Any, axis: Any = None, b: Any = None, keepdims: Any = False, return_sign: Any = False,
        out: Any = None, where: Any = None, dtype: Any = None, dim: Any = None, target: Any = None,
        stream: Any = None,
    ) -> Any:  # fmt: skip
        return compute(a, 1.0)

    return implementation


@overload(functions.entropy, **OVERLOAD)
def _entropy(
    x: Any, axis: Any = -1, where: Any = None, temperature: Any = 1.0, dtype: Any = None,
    dim: Any = None, target: Any = None, stream: Any = None,
) -> Implementation:  # fmt: skip
    refuse("entropy", where=where, dtype=dtype, dim=dim, target=target, stream=stream)
    compute = _computed(ENTROPY, "x", x, axis, temperature=temperature)

    def implementation(
        x: Any, axis: Any = -1, where: Any = None, temperature: Any = 1.0, dtype: Any = None,
        dim: Any = None, target: Any = None, stream: Any = None,
    ) -> Any:  # fmt: skip
        return compute(x, temperature)

    return implementation


# --- SciPy's --------------------------------------------------------------------------------------


def _scipy_softmax(x: Any, axis: Any = None) -> Implementation:
    compute = _computed(SOFTMAX, "x", x, axis)

    def implementation(x: Any, axis: Any = None) -> Any:
        return compute(x, 1.0)

    return implementation


def _scipy_log_softmax(x: Any, axis: Any = None) -> Implementation:
    compute = _computed(LOG_SOFTMAX, "x", x, axis)

    def implementation(x: Any, axis: Any = None) -> Any:
        return compute(x, 1.0)

    return implementation


def _scipy_logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: Any = False, return_sign: Any = False
) -> Implementation:
    refuse("logsumexp", b=b, return_sign=return_sign)
    compute = _computed(LOGSUMEXP, "a", a, axis, keepdims)

    def implementation(
        a: Any, axis: Any = None, b: Any = None, keepdims: Any = False, return_sign: Any = False
    ) -> Any:
        return compute(a, 1.0)

    return implementation


_SCIPY = {
    "softmax": _scipy_softmax, "log_softmax": _scipy_log_softmax, "logsumexp": _scipy_logsumexp
}  # fmt: skip


@functools.cache
def know(function: Callable[..., Any]) -> None:
    """Have Numba know one of SciPy's functions, which it is about to look up."""
    overload(function, **OVERLOAD)(_SCIPY[function.__name__])
    compiler.know_what_is_new()
