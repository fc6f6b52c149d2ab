"""What is 0 below a threshold: sparsemax, entmax of order 1.5, and entmax of any order."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import numpy as np

from fastsoftmax.alternatives.calls import Alternative, Gradient, Rows, Softmax
from fastsoftmax.call import on_host

Axis = int | str | tuple[int | str, ...] | None

# Above it, powers of alpha - 1 of the least results would leave float64's range.
_LARGEST_ALPHA = 16


@functools.lru_cache(maxsize=64)
def _entmax(name: str, alpha: float) -> Alternative:
    a = alpha - 1  # exactly, as is 2 - alpha
    if a == 0:
        return Alternative(name, "softmax", np.zeros(1), lines=0, exact=False)
    beta = 1 / Fraction(a)
    rest = float(beta - Fraction(float(beta)))
    return Alternative(name, "entmax", np.array([a, beta, rest, 1 / a], float), 3, exact=False)


@functools.lru_cache(maxsize=64)
def _entmax_vjp(name: str, alpha: float) -> Alternative:
    return Alternative(name, "entmax_vjp", np.array([2 - alpha]), lines=2, exact=True)


def _checked_alpha(alpha: Any) -> float:
    try:
        number = float(alpha)
    except (TypeError, ValueError):
        raise TypeError(f"alpha must be a number, got {alpha!r}") from None
    if not 1 <= number <= _LARGEST_ALPHA:
        raise ValueError(f"alpha must be from 1 to {_LARGEST_ALPHA}, got {alpha!r}")
    return number


def sparsemax(
    x: Any,
    axis: Axis = -1,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""The nearest probabilities to x: what is far below the largest element is 0.

    .. math:: p_i = \max(x_i - \tau, 0), \quad \tau \text{ such that } \sum_i p_i = 1

    Parameters
    ----------
    x : array_like
        Logits, in any container on the host that `fastsoftmax.softmax` takes.
    axis : int, tuple of ints or None
        What is one distribution: along these axes together, or the whole array (None).
    out : array, optional
        Where the result is written; it is returned. ``out is x`` works in place.
    where : array_like of bool, optional
        Broadcasts to ``x``. Elements left out count as absent, and their result is 0.
    dtype : dtype, optional
        The result's type; the arithmetic is done in the wider of it and x's.
    dim : name, several names, or ...
        Instead of ``axis``: the dimensions of xarray's objects, by name. For torch's tensors this
        is another name of ``axis``.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        Of the shape of ``x``; of its type (float64 for integers) unless ``dtype`` says otherwise.
        -inf gives 0. NaN anywhere makes the row NaN, and so does +inf; a row of -inf alone is NaN.

    Raises
    ------
    TypeError, ValueError
        As for `fastsoftmax.softmax`; also for complex numbers and long double, and for arrays on a
        GPU.

    Notes
    -----
    Error: at most 0.51 ULP in every type, 1 ULP where the result is subnormal; and 2**-96, which
    is more where an element is all but on the threshold. Elements less than 1 below the largest,
    the only ones above any threshold, are sorted; differences are exact pairs of float64, sums of
    them right to 2**-100; so is the threshold, and each result is rounded once (0.5), for float32
    and narrower types by way of float64 (2**-29 or less). So bits depend on a row's values alone.

    Source: A. F. T. Martins, R. F. Astudillo, From softmax to sparsemax: a sparse model of
    attention and multi-label classification, ICML 2016, arXiv:1602.02068.

    Examples
    --------
    >>> from fastsoftmax.alternatives import sparsemax
    >>> sparsemax([1.0, 0.8, 0.1])
    array([0.6, 0.4, 0. ])
    """
    function = _entmax("sparsemax", 2.0)
    return on_host(Rows, function, "x", x, axis, dim=dim, out=out, where=where, dtype=dtype)


def sparsemax_vjp(
    p: Any, g: Any, axis: Axis = -1, *, out: Any = None, dtype: Any = None, dim: Any = None
) -> Any:
    r"""The gradient of ``sum(g * sparsemax(x))`` by x, from ``p = sparsemax(x)``.

    .. math:: \partial / \partial x_j = g_j - \frac{1}{|S|} \sum_{i \in S} g_i
        \text{ for } j \in S = \{i: p_i > 0\}, \text{ else } 0

    Parameters
    ----------
    p : array_like
        The results: they suffice. (On the threshold itself, where there is no gradient, this is one
        of those from its sides.)
    g : array_like
        The gradient by the results, of real numbers; it broadcasts to ``p``. Labels are matched as
        for a mask of `fastsoftmax.softmax`.
    axis, dtype, dim
        As for `sparsemax`.
    out : array, optional
        Where the result is written; it is returned. It may be ``p`` or ``g``.

    Returns
    -------
    ndarray, scalar, or what ``p`` was
        Of the shape and type of ``p``, unless ``dtype`` says otherwise. A row is NaN where NaN or
        an infinity is in it, or in its ``g`` where p is not 0.

    Raises
    ------
    TypeError, ValueError
        As for `sparsemax`; also for a ``g`` that does not broadcast to ``p``.

    Notes
    -----
    Error: at most 0.51 ULP of the result (1 where it is subnormal), where g_j and the mean of g
    cancel in no more than 40 bits; in any case 2**-94 of the largest abs(g). The mean is that of an
    exact sum, all is computed to 2**-100, and rounded once.

    Source as for `sparsemax`.

    Examples
    --------
    >>> from fastsoftmax.alternatives import sparsemax_vjp
    >>> sparsemax_vjp([0.6, 0.4, 0.0], [1.0, 0.0, 5.0])
    array([ 0.5, -0.5,  0. ])
    """
    function = _entmax_vjp("sparsemax_vjp", 2.0)
    return on_host(Gradient, function, "p", p, axis, dim=dim, out=out, where=None, dtype=dtype, g=g)


def entmax15(
    x: Any,
    axis: Axis = -1,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""Halfway from softmax to sparsemax: `entmax` with alpha = 1.5.

    .. math:: p_i = \max(x_i / 2 - \tau, 0)^2, \quad \tau \text{ such that } \sum_i p_i = 1

    Parameters
    ----------
    x, axis, out, where, dtype, dim
        As for `sparsemax`.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        As of `sparsemax`.

    Raises
    ------
    TypeError, ValueError
        As for `sparsemax`.

    Notes
    -----
    Error and source as for `entmax`.

    Examples
    --------
    >>> from fastsoftmax.alternatives import entmax15
    >>> entmax15([1.0, 0.0, -3.0])
    array([0.83071891, 0.16928109, 0.        ])
    """
    function = _entmax("entmax15", 1.5)
    return on_host(Rows, function, "x", x, axis, dim=dim, out=out, where=where, dtype=dtype)


def entmax15_vjp(
    p: Any, g: Any, axis: Axis = -1, *, out: Any = None, dtype: Any = None, dim: Any = None
) -> Any:
    r"""The gradient of ``sum(g * entmax15(x))`` by x, from ``p = entmax15(x)``.

    .. math:: \partial / \partial x_j = \sqrt{p_j} (g_j - \sum_i \sqrt{p_i} g_i / \sum_i \sqrt{p_i})

    Parameters
    ----------
    p, g, axis, out, dtype, dim
        As for `sparsemax_vjp`.

    Returns
    -------
    ndarray, scalar, or what ``p`` was
        As of `sparsemax_vjp`.

    Raises
    ------
    TypeError, ValueError
        As for `sparsemax_vjp`.

    Notes
    -----
    Error and source as for `entmax_vjp`.

    Examples
    --------
    >>> from fastsoftmax.alternatives import entmax15_vjp
    >>> entmax15_vjp([0.5, 0.5, 0.0], [1.0, 0.0, 5.0])
    array([ 0.35355339, -0.35355339,  0.        ])
    """
    function = _entmax_vjp("entmax15_vjp", 1.5)
    return on_host(Gradient, function, "p", p, axis, dim=dim, out=out, where=None, dtype=dtype, g=g)


def entmax(
    x: Any,
    alpha: float,
    axis: Axis = -1,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""What lies between softmax (alpha = 1) and sparsemax (alpha = 2), and beyond.

    .. math:: p_i = \max((\alpha - 1) x_i - \tau, 0)^{1 / (\alpha - 1)},
        \quad \tau \text{ such that } \sum_i p_i = 1

    Parameters
    ----------
    x : array_like
        Logits, as for `sparsemax`.
    alpha : float
        From 1, which is `fastsoftmax.softmax`, to 16. The larger, the more results are 0: those of
        elements 1 / (alpha - 1) or more below the largest, and of some others.
    axis, out, where, dtype, dim
        As for `sparsemax`.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        As of `sparsemax`.

    Raises
    ------
    TypeError, ValueError
        As for `sparsemax`; also for another ``alpha``. (Below 1 nothing would be 0, and the largest
        elements no larger than a power of the number of classes.)

    Notes
    -----
    Error: at most 0.51 ULP in every type, 1 ULP where the result is subnormal; and 2**-94, which
    is more where an element is all but on the threshold; and 2**-92 / (alpha - 1) of the result,
    which is more where alpha is next to 1. (For alpha = 1, that of softmax.) The threshold is the
    root of the sum, found by Newton's method in pairs of float64, of which logarithms and
    exponentials are right to 2**-96; whether an element is above it is decided by what the sum
    would be if it were the threshold. All else as for `sparsemax`.

    Source: B. Peters, V. Niculae, A. F. T. Martins, Sparse sequence-to-sequence models, ACL 2019,
    arXiv:1905.05702.

    Examples
    --------
    >>> from fastsoftmax.alternatives import entmax
    >>> entmax([1.0, 0.0, -3.0], 1.25)
    array([0.77543041, 0.22456959, 0.        ])
    """
    number = _checked_alpha(alpha)
    kind = Softmax if number == 1 else Rows
    function = _entmax("entmax", number)
    return on_host(kind, function, "x", x, axis, dim=dim, out=out, where=where, dtype=dtype)


def entmax_vjp(
    p: Any, g: Any, alpha: float, axis: Axis = -1, *, out: Any = None, dtype: Any = None,
    dim: Any = None,
) -> Any:  # fmt: skip
    r"""The gradient of ``sum(g * entmax(x, alpha))`` by x, from ``p = entmax(x, alpha)``.

    .. math:: \partial / \partial x_j = s_j (g_j - \sum_i s_i g_i / \sum_i s_i),
        \quad s_i = p_i^{2 - \alpha} \text{ where } p_i > 0, \text{ else } 0

    Parameters
    ----------
    p : array_like
        The results: they suffice. Where alpha is above 2, a rounding of a small one is a large
        one of its s.
    alpha : float
        As for `entmax`.
    g, axis, out, dtype, dim
        As for `sparsemax_vjp`.

    Returns
    -------
    ndarray, scalar, or what ``p`` was
        As of `sparsemax_vjp`.

    Raises
    ------
    TypeError, ValueError
        As for `sparsemax_vjp`; also for another ``alpha``.

    Notes
    -----
    Error, for p as it is given: at most 0.51 ULP of the result (1 where it is subnormal), where g_j
    and the mean cancel in no more than 35 bits; in any case 2**-88 of s_j and the largest abs(g).
    Powers are right to 2**-90, sums are exact, and the result is rounded once.

    Source as for `entmax`.

    Examples
    --------
    >>> from fastsoftmax.alternatives import entmax_vjp
    >>> entmax_vjp([0.5, 0.25, 0.25], [1.0, 0.0, 0.0], 1.0)
    array([ 0.25 , -0.125, -0.125])
    """
    function = _entmax_vjp("entmax_vjp", _checked_alpha(alpha))
    return on_host(Gradient, function, "p", p, axis, dim=dim, out=out, where=None, dtype=dtype, g=g)
