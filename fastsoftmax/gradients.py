"""Gradients of softmax, log_softmax and logsumexp: products with their Jacobians, never these.

A product takes what the forward pass left behind (probabilities, their logarithms, or logits) and
the gradient of what was made of it, and gives the gradient by the logits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastsoftmax import arguments, call, checks
from fastsoftmax.functions import Axis
from fastsoftmax.gradient_calls import (
    LOG_SOFTMAX_VJP,
    LOGSUMEXP_VJP,
    SOFTMAX_JVP,
    SOFTMAX_VJP,
    Product,
    RowProduct,
)

Array = np.ndarray[Any, Any]


def softmax_vjp(
    p: Any,
    g: Any,
    axis: Axis = -1,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""The gradient by the logits of what depends on their softmax.

    .. math:: r_i = p_i \Bigl(g_i - \sum_j p_j g_j\Bigr)

    Parameters
    ----------
    p : array_like
        Probabilities, as `softmax` returned them, of any shape and any type that it takes but
        complex numbers. They are taken as they are: nothing asks whether rows add up to 1.
    g : array_like
        The gradient by ``p``, of its shape or what broadcasts to it. Labels are matched as for
        ``where`` of `softmax`. What is computed is the wider of both types; a Python number takes
        that of ``p``.
    axis, dim
        What is one row, as for `softmax`; the last axis where none is given.
    out : array, optional
        Where the result is written; it is returned. It may be ``p`` or ``g`` itself.
    where : array_like of bool, optional
        Elements left out of the softmax, as for `softmax`: they do not count, whatever they hold,
        and their result is 0.
    dtype : dtype, optional
        The result's type; the arithmetic is done in the widest of it, p's and g's.

    Returns
    -------
    ndarray, scalar, or what ``p`` was
        Of the shape of ``p``. NaN or an infinity anywhere in a row of p or g makes the row NaN. A
        float64 result is infinite where g_i and the sum differ by more than the largest number.

    Raises
    ------
    TypeError
        As for `softmax`; also for complex numbers.
    ValueError
        As for `softmax`; also for a ``g`` that does not broadcast to ``p``, and arrays on a GPU.

    Notes
    -----
    Of logits that were divided by a temperature T, the gradient is ``softmax_vjp(p, g / T)``: it is
    linear in g. The Jacobian is symmetric, so this is `softmax_jvp`, too.

    Error, against the exact result for these p and g, of n elements a row: at most

    - half an ULP of the result (float64 0.51, a subnormal one 1; float16 and bfloat16 0.51), as it
      is rounded once: the sum and its difference to g are pairs of float64;
    - and n 2**-100 p_i max|p_j g_j|: the sum's grid is 2**-100 of its largest term, and each term
      is rounded to it, 2**-101 (float64: and n 2**-1074, where products are that small).

    So where g_i and the sum cancel, what is left keeps its digits. A sum rounded to the arrays' own
    type alone would be off by p_i times half an ULP of the sum, 2**-24 of it (float64: 2**-53),
    where this is 2**-80 for a million elements. (That p was rounded itself is not part of this:
    half an ULP in each p_j moves the exact result by p_i times 2**-24 of sum p_j |g_j|.)

    Computed in float64 by kernels for all types (long double by NumPy). Bits as for `softmax`.

    Source: B. A. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6
    (1994), doi:10.1162/neco.1994.6.1.147, of products without the matrix.

    Examples
    --------
    The gradient of the first of three probabilities:

    >>> import fastsoftmax
    >>> p = [0.2732, 0.3780, 0.3489]
    >>> fastsoftmax.softmax_vjp(p, [1.0, 0.0, 0.0]).round(4)
    array([ 0.1986, -0.1033, -0.0953])
    """
    return call.on_host(
        Product, SOFTMAX_VJP, "p", p, axis, dim=dim, out=out, g=g, where=where, dtype=dtype
    )


def softmax_jvp(
    p: Any,
    v: Any,
    axis: Axis = -1,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""How softmax changes where its logits change along v: its Jacobian times v.

    .. math:: r_i = p_i \Bigl(v_i - \sum_j p_j v_j\Bigr)

    Parameters
    ----------
    p, axis, out, where, dtype, dim
        As for `softmax_vjp`: the Jacobian is symmetric.
    v : array_like
        The change of the logits, of the shape of ``p`` or what broadcasts to it. (Logits divided by
        a temperature T change by v / T.)

    Returns
    -------
    ndarray, scalar, or what ``p`` was
        As of `softmax_vjp`.

    Raises
    ------
    TypeError, ValueError
        As for `softmax_vjp`.

    Notes
    -----
    Error, bits and source as for `softmax_vjp`, whose bits these are.

    Examples
    --------
    >>> import fastsoftmax
    >>> fastsoftmax.softmax_jvp([0.25, 0.75], [1.0, 0.0])
    array([ 0.1875, -0.1875])
    """
    return call.on_host(
        Product, SOFTMAX_JVP, "p", p, axis, dim=dim, out=out, v=v, where=where, dtype=dtype
    )


def log_softmax_vjp(
    log_p: Any,
    g: Any,
    axis: Axis = -1,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""The gradient by the logits of what depends on their log_softmax.

    .. math:: r_i = g_i - e^{\log p_i} \sum_j g_j

    Parameters
    ----------
    log_p : array_like
        Log-probabilities, as `log_softmax` returned them.
    g : array_like
        The gradient by ``log_p``, as ``g`` of `softmax_vjp`.
    axis, out, where, dtype, dim
        As for `softmax_vjp`; ``out`` may be ``log_p`` or ``g`` itself. Without ``where``, an
        element whose log_p is -inf has the result g_i, and its g_i counts.

    Returns
    -------
    ndarray, scalar, or what ``log_p`` was
        Of the shape of ``log_p``. NaN or an infinity anywhere in a row of g makes the row NaN, and
        NaN in log_p its own element.

    Raises
    ------
    TypeError, ValueError
        As for `softmax_vjp`.

    Notes
    -----
    Of logits that were divided by a temperature T, the gradient is ``log_softmax_vjp(log_p, g /
    T)``.

    Error, against the exact result for these log_p and g, with s the sum of g: at most

    - half an ULP of the result (float16 and bfloat16 0.51), as it is rounded once;
    - and p_i (2**-55.8 |s| + n 2**-100 max|g_j|): the exponential is right to 2**-55.8, the sum
      as for `softmax_vjp`.

    Where g_i and p_i s cancel, that is at most 0.65 ULP of the larger of them for float64 (0.5, and
    2**-2.8), and 0.51 for narrower types. Bits as for `softmax`.

    Examples
    --------
    >>> import fastsoftmax
    >>> log_p = fastsoftmax.log_softmax([0.0, 0.0])
    >>> fastsoftmax.log_softmax_vjp(log_p, [1.0, 0.0])
    array([ 0.5, -0.5])
    """
    return call.on_host(
        Product, LOG_SOFTMAX_VJP, "log_p", log_p, axis, dim=dim, out=out, g=g, where=where,
        dtype=dtype,
    )  # fmt: skip


def logsumexp_vjp(
    x: Any,
    g: Any,
    axis: Axis = None,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""The gradient by the logits of what depends on their logsumexp.

    .. math:: r_i = g \, e^{x_i} / \sum_j e^{x_j}

    Parameters
    ----------
    x : array_like
        Logits, as for `logsumexp`, but no complex numbers.
    g : array_like
        The gradient by ``logsumexp(x, axis)``: of its shape, with or without the reduced axes, or
        what broadcasts to it with them kept; a number for all rows. Labels are matched as those of
        a temperature of `softmax`; a Python number takes the type of ``x``.
    axis, dim
        What is one row, as for `logsumexp`: the whole array where none is given.
    out : array, optional
        Where the result is written; it is returned. It may be ``x`` itself.
    where, dtype
        As for `softmax_vjp`.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        Of the shape of ``x``: g times its softmax. NaN where softmax is, and where g is not
        finite.

    Raises
    ------
    TypeError, ValueError
        As for `softmax_vjp`; also for a ``g`` that does not fit the rows.

    Notes
    -----
    Error: at most 0.8 ULP for float64 (0.5 for the one rounding, and twice 2**-55.8, of the
    exponential and of the total, which is up to 0.29), 0.51 for all narrower types; subnormal
    results 1.1. They are as exact where the probability alone would underflow, and g is large. With
    g = 1 this is a softmax that is more exact than `softmax`, and slower. Bits as for `softmax`.

    Examples
    --------
    >>> import fastsoftmax
    >>> fastsoftmax.logsumexp_vjp([[0.0, 0.0], [7.0, 7.0]], [1.0, 3.0], axis=1)
    array([[0.5, 0.5],
           [1.5, 1.5]])
    """
    return call.on_host(
        RowProduct, LOGSUMEXP_VJP, "x", x, axis, dim=dim, out=out, g=g, where=where, dtype=dtype
    )


def softmax_jacobian(x: Any, *, dtype: Any = None) -> Array:
    r"""The Jacobian of softmax at a vector of logits: all derivatives of all probabilities.

    .. math:: J_{ij} = \partial p_i / \partial x_j = p_i (\delta_{ij} - p_j)

    Parameters
    ----------
    x : array_like, of shape (n,)
        Logits of one row: real numbers, of any type that `softmax` takes but long double. It needs
        8 n**2 bytes: what is wanted of a Jacobian is mostly a product, `softmax_vjp`.
    dtype : dtype, optional
        The result's type.

    Returns
    -------
    ndarray of shape (n, n)
        Symmetric, to the bit. Of the type of ``x`` unless ``dtype`` says otherwise. NaN everywhere
        where softmax is NaN.

    Raises
    ------
    TypeError
        For complex numbers and long double, masked arrays, and what makes no array of numbers.
    ValueError
        For what is not a vector, and arrays on a GPU.

    Notes
    -----
    Of logits that are divided by a temperature T it is ``softmax_jacobian(x / T) / T``.

    Error: for float32 and narrower at most 0.51 ULP, as all is computed in float64. For float64 at
    most 2.6 ULP beside the diagonal (two probabilities of 0.79, `logsumexp_vjp`; their product,
    0.5) and 3.6 on it. There p_i (1 - p_i) is as exact where p_i is next to 1 as anywhere: 1 - p_i
    is then the sum of the other probabilities, rounded once, so its bits do not depend on their
    order.

    Source: J. S. Bridle, Probabilistic interpretation of feedforward classification network
    outputs, NATO ASI Series 68 (1990), doi:10.1007/978-3-642-76153-9_28.

    Examples
    --------
    >>> import fastsoftmax
    >>> fastsoftmax.softmax_jacobian([40.0, 0.0])
    array([[ 4.24835426e-18, -4.24835426e-18],
           [-4.24835426e-18,  4.24835426e-18]])
    """
    if arguments.library_of(x) is not None:
        raise ValueError("softmax_jacobian is computed on the CPU: copy x to the host first")
    values = arguments.array("x", x)
    computed = checks.floating("x", values)
    result = checks.result_type("softmax_jacobian", computed, arguments.element_type(dtype))
    checks.check_real("softmax_jacobian", "x", values.dtype, result)
    for given in (computed, result):
        if not checks.has_kernel(given):
            raise TypeError(f"softmax_jacobian computes no {given}: pass x as float64")
    if values.ndim != 1:
        raise ValueError(f"x must be a vector for softmax_jacobian, got shape {values.shape}")
    p = logsumexp_vjp(values.astype(np.float64), 1.0)
    others = 1.0 - p
    for i in np.flatnonzero(p > 0.5):  # one at most, whose difference to 1 rounding would spoil
        others[i] = math.fsum(np.delete(p, i))
    jacobian = np.multiply.outer(-p, p)
    np.fill_diagonal(jacobian, p * others)
    return checks.cast(jacobian, result)
