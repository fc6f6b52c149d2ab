"""What divides by a sum: elements themselves, their squares, a polynomial of them."""

from __future__ import annotations

import functools
import math
import operator
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from fastsoftmax.alternatives.calls import Alternative, Gradient, Refusing, Rows
from fastsoftmax.call import on_host

Axis = int | str | tuple[int | str, ...] | None

# Beyond it, terms of both signs cancel more than twice float64's precision takes.
_LARGEST_ORDER = 40


def _quotient(name: str, coefficients: list[int]) -> Alternative:
    """The function that divides this polynomial, of which the last coefficient is 1, by its sum."""
    pairs = [(float(c), float(Fraction(c) - Fraction(float(c)))) for c in coefficients]
    vjp = name.endswith("_vjp")
    kernel = "quotient_vjp" if vjp else "quotient"
    return Alternative(name, kernel, np.array(pairs), lines=3 + vjp, exact=True)


_STANDARD = _quotient("standard_normalize", [0, 1])
_STANDARD_VJP = _quotient("standard_normalize_vjp", [0, 1])
_SPHERICAL = _quotient("spherical_softmax", [0, 0, 1])
_SPHERICAL_VJP = _quotient("spherical_softmax_vjp", [0, 0, 1])


@functools.cache
def _taylor(name: str, order: int) -> Alternative:
    # times order!, so that the largest element has a weight of 1 or more
    whole = math.factorial(order)
    return _quotient(name, [whole // math.factorial(k) for k in range(order + 1)])


def _checked_order(order: Any) -> int:
    try:
        number = operator.index(order)
    except TypeError:
        raise TypeError(f"order must be an even integer, got {order!r}") from None
    if number % 2:
        raise ValueError(f"order must be even, got {number}: odd polynomials can be negative")
    if not 2 <= number <= _LARGEST_ORDER:
        raise ValueError(f"order must be from 2 to {_LARGEST_ORDER}, got {number}")
    return number


def standard_normalize(
    x: Any,
    axis: Axis = -1,
    *,
    zero_sum: Literal["raise", "nan"] = "raise",
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""Each element divided by the sum.

    .. math:: p_i = x_i / \sum_j x_j

    What softmax is not: it is the same for [1, 2] and [10, 20], keeps signs, and there is none
    where the sum is 0.

    Parameters
    ----------
    x : array_like
        Real numbers, in any container on the host that `fastsoftmax.softmax` takes.
    axis : int, tuple of ints or None
        What is divided by one sum: along these axes together, or the whole array (None).
    zero_sum : "raise" or "nan"
        What becomes of a row that sums to 0, exactly: a ValueError that names the row, before
        anything is written; or NaN.
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
        NaN or an infinity anywhere makes the row NaN; without an element it is empty or masked.

    Raises
    ------
    TypeError, ValueError
        As for `fastsoftmax.softmax`; also for complex numbers and long double, for arrays on a GPU,
        and for rows that sum to 0 (``zero_sum="raise"``).

    Notes
    -----
    Error: at most 0.51 ULP in every type, 1 ULP where the result is subnormal, whatever cancels.
    The sum is exact, one integer of 2176 bits, and kept to 2**-103 of it; the quotient is rounded
    once (0.5), for float32 and narrower types by way of float64 (2**-29 or less). So the bits
    depend on a row's values alone.

    Source: R. D. Luce, Individual choice behavior (1959): the choice axiom, for weights x.

    Examples
    --------
    >>> from fastsoftmax.alternatives import standard_normalize
    >>> standard_normalize([10.0, 20.0])
    array([0.33333333, 0.66666667])
    >>> standard_normalize([-2.0, -1.0, 1.0, 2.0], zero_sum="nan")
    array([nan, nan, nan, nan])
    """
    if zero_sum not in ("raise", "nan"):
        raise ValueError(f"zero_sum must be 'raise' or 'nan', got {zero_sum!r}")
    kind = Refusing if zero_sum == "raise" else Rows
    return on_host(kind, _STANDARD, "x", x, axis, dim=dim, out=out, where=where, dtype=dtype)


def standard_normalize_vjp(
    x: Any,
    g: Any,
    axis: Axis = -1,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""The gradient of ``sum(g * standard_normalize(x))`` by x.

    .. math:: \partial / \partial x_j = (g_j - \sum_i p_i g_i) / \sum_i x_i

    Parameters
    ----------
    x : array_like
        What was normalised. (Its results do not suffice: they do not tell the sum.)
    g : array_like
        The gradient by the results, of real numbers; it broadcasts to ``x``. Labels are matched as
        for a mask of `fastsoftmax.softmax`.
    axis, where, dtype, dim
        As for `standard_normalize`. Elements left out have the gradient 0.
    out : array, optional
        Where the result is written; it is returned. It may be ``x`` or ``g``.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        Of the shape and type of ``x``, unless ``dtype`` says otherwise. A row is NaN where it sums
        to 0, and where NaN or an infinity is in it or in its ``g``.

    Raises
    ------
    TypeError, ValueError
        As for `standard_normalize`; also for a ``g`` that does not broadcast to ``x``.

    Notes
    -----
    Error: at most 0.52 ULP of the result (1 where it is subnormal), where g_j and the mean
    of g cancel in no more than 40 bits; in any case 2**-94 of abs(g_j / sum x), and that of the
    mean. All is computed to 2**-100, by pairs of float64 and exact sums, and rounded once.

    Examples
    --------
    >>> from fastsoftmax.alternatives import standard_normalize_vjp
    >>> standard_normalize_vjp([1.0, 3.0], [1.0, 0.0])
    array([ 0.1875, -0.0625])
    """
    return on_host(
        Gradient, _STANDARD_VJP, "x", x, axis, dim=dim, out=out, where=where, dtype=dtype, g=g
    )


def spherical_softmax(
    x: Any,
    axis: Axis = -1,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""Each square divided by the sum of squares.

    .. math:: p_i = x_i^2 / \sum_j x_j^2

    Parameters
    ----------
    x : array_like
        Real numbers, in any container on the host that `fastsoftmax.softmax` takes.
    axis, out, where, dtype, dim
        As for `standard_normalize`.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        Of the shape of ``x``; of its type (float64 for integers) unless ``dtype`` says otherwise.
        NaN or an infinity anywhere makes the row NaN; so is a row of zeros.

    Raises
    ------
    TypeError, ValueError
        As for `fastsoftmax.softmax`; also for complex numbers and long double, and for arrays on a
        GPU.

    Notes
    -----
    Error: at most 0.51 ULP in every type, 1 ULP where the result is subnormal, at any magnitude of
    x: squares are exact pairs, of x divided by a power of two, their sum, of integers on fixed
    grids, is right to 2**-66, and the quotient is rounded once, as for `standard_normalize`.

    Source: A. de Brebisson, P. Vincent, An exploration of softmax alternatives belonging to the
    spherical loss family, arXiv:1511.05042.

    Examples
    --------
    >>> from fastsoftmax.alternatives import spherical_softmax
    >>> spherical_softmax([[1.0, 2.0], [1e200, -2e200]])
    array([[0.2, 0.8],
           [0.2, 0.8]])
    """
    return on_host(Rows, _SPHERICAL, "x", x, axis, dim=dim, out=out, where=where, dtype=dtype)


def spherical_softmax_vjp(
    x: Any,
    g: Any,
    axis: Axis = -1,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""The gradient of ``sum(g * spherical_softmax(x))`` by x.

    .. math:: \partial / \partial x_j = 2 x_j (g_j - \sum_i p_i g_i) / \sum_i x_i^2

    Parameters
    ----------
    x : array_like
        What `spherical_softmax` was computed of. (Its results do not suffice: they have no sign.)
    g, axis, out, where, dtype, dim
        As for `standard_normalize_vjp`.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        As of `standard_normalize_vjp`; NaN for a row of zeros.

    Raises
    ------
    TypeError, ValueError
        As for `standard_normalize_vjp`.

    Notes
    -----
    Error as for `standard_normalize_vjp`, with the factor 2 x_j / sum x**2. Source as for
    `spherical_softmax`.

    Examples
    --------
    >>> from fastsoftmax.alternatives import spherical_softmax_vjp
    >>> spherical_softmax_vjp([1.0, 1.0], [1.0, 0.0])
    array([ 0.5, -0.5])
    """
    return on_host(
        Gradient, _SPHERICAL_VJP, "x", x, axis, dim=dim, out=out, where=where, dtype=dtype, g=g
    )


def taylor_softmax(
    x: Any,
    axis: Axis = -1,
    *,
    order: int = 2,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""softmax with the Taylor polynomial of the exponential in its place.

    .. math:: p_i = t(x_i) / \sum_j t(x_j), \quad t(x) = \sum_{k=0}^n x^k / k!

    It is not invariant to shifts, and grows on both sides: t of order 2 is least at -1.

    Parameters
    ----------
    x : array_like
        Real numbers, in any container on the host that `fastsoftmax.softmax` takes.
    order : int
        The polynomial's order n: even, from 2 to 40. (Polynomials of odd order can be negative. At
        40, t(x) is exp(x) to 2**-50 for x from -6 to 8.)
    axis, out, where, dtype, dim
        As for `standard_normalize`.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        Of the shape of ``x``; of its type (float64 for integers) unless ``dtype`` says otherwise.
        NaN or an infinity anywhere makes the row NaN.

    Raises
    ------
    TypeError, ValueError
        As for `fastsoftmax.softmax`; also for another ``order``, for complex numbers and long
        double, and for arrays on a GPU.

    Notes
    -----
    Error: at most 0.51 ULP in every type, 1 ULP where the result is subnormal, at any magnitude of
    x. Polynomials are pairs, right to 2**-98 of the sum of their terms' sizes, which is at most
    2**34 times the polynomial; their sum, of integers on fixed grids, is right to 2**-66, and the
    quotient is rounded once, as for `standard_normalize`.

    Source: A. de Brebisson, P. Vincent, An exploration of softmax alternatives belonging to the
    spherical loss family, arXiv:1511.05042.

    Examples
    --------
    >>> from fastsoftmax.alternatives import taylor_softmax
    >>> taylor_softmax([1.0, 2.0])
    array([0.33333333, 0.66666667])
    >>> taylor_softmax([1.0, 2.0], order=20)
    array([0.26894142, 0.73105858])
    """
    function = _taylor("taylor_softmax", _checked_order(order))
    return on_host(Rows, function, "x", x, axis, dim=dim, out=out, where=where, dtype=dtype)


def taylor_softmax_vjp(
    x: Any,
    g: Any,
    axis: Axis = -1,
    *,
    order: int = 2,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""The gradient of ``sum(g * taylor_softmax(x))`` by x.

    .. math:: \partial / \partial x_j = t'(x_j) (g_j - \sum_i p_i g_i) / \sum_i t(x_i)

    Parameters
    ----------
    x : array_like
        What `taylor_softmax` was computed of. (Its results do not suffice: two x have the same.)
    order : int
        As for `taylor_softmax`.
    g, axis, out, where, dtype, dim
        As for `standard_normalize_vjp`.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        As of `standard_normalize_vjp`.

    Raises
    ------
    TypeError, ValueError
        As for `standard_normalize_vjp`; also for another ``order``.

    Notes
    -----
    Error as for `standard_normalize_vjp`, with the factor t'(x_j) / sum t, but where t' cancels, as
    it does next to its one zero (-1 for order 2): 2**-98 of the sum of its terms' sizes. Source as
    for `taylor_softmax`.

    Examples
    --------
    >>> from fastsoftmax.alternatives import taylor_softmax_vjp
    >>> taylor_softmax_vjp([0.0, 0.0], [1.0, 0.0])
    array([ 0.25, -0.25])
    """
    function = _taylor("taylor_softmax_vjp", _checked_order(order))
    return on_host(
        Gradient, function, "x", x, axis, dim=dim, out=out, where=where, dtype=dtype, g=g
    )
