"""softmax, log_softmax and logsumexp: SciPy's signatures and results, and more."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastsoftmax import arrays, containers, extended
from fastsoftmax.cpu import plan

Axis = int | tuple[int, ...] | None


def softmax(
    x: Any,
    axis: Axis = None,
    *,
    out: Any = None,
    where: Any = None,
    temperature: Any = 1.0,
    dtype: Any = None,
) -> Any:
    r"""Probabilities proportional to exp(x / temperature).

    .. math:: p_i = e^{x_i / T} / \sum_j e^{x_j / T}

    Parameters
    ----------
    x : array_like
        Logits of any shape, layout and byte order. float16, bfloat16 (ml_dtypes), float32 and
        float64 are computed by kernels; long double and complex numbers by NumPy; integers and
        booleans as float64. A pandas or xarray object, or a masked array, comes back as one.
    axis : int, tuple of ints or None
        What is normalised: along these axes together, or over the whole array (None).
    out : ndarray, optional
        Where the result is written; it is returned. ``out is x`` works in place.
    where : array_like of bool, optional
        Broadcasts to ``x``. Elements left out count as absent, and their result is 0. Beside
        a pandas or xarray ``x``, a mask with labels is matched by label, as in arithmetic (a
        Series with a DataFrame's columns); both have the same labels, in any order.
    temperature : float or array_like
        The logits are divided by it. An array broadcasts over the rows, that is to the shape
        of ``logsumexp(x, axis, keepdims=True)``. 0 is the limit, where the largest logits
        share; infinity gives the uniform distribution over those that are not -inf. Labels are
        matched as for ``where``; a Series has those of the DataFrame's rows for ``axis=1``.
    dtype : dtype, optional
        The result's type; the arithmetic is done in the wider of it and x's.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        Of the shape of ``x``; of its type unless ``dtype`` says otherwise. NaN anywhere makes
        the row NaN, and so does +inf; a row of -inf alone is NaN.

    Raises
    ------
    TypeError
        For arrays of objects, strings or dates; sparse arrays, and tensors that are not on the
        host or require gradients; a ``where`` that is not boolean; an ``out`` or a ``dtype``
        that cannot hold the result.
    ValueError
        For an ``axis`` out of bounds (`numpy.exceptions.AxisError`) or given twice; a shape
        or labels that do not fit; a read-only ``out``; a ``temperature`` that is negative or NaN.

    Notes
    -----
    Error against the exact result, at any spread, offset and length, subnormal results included:

    - float32: at most 0.7 ULP for rows of up to 4096 logits: 0.5 for the one rounding, and twice
      0.09 for exp (2**-27.5) in the result and in the total, which are computed in float64; at
      most 1.7 for longer rows, whose exponentials are rounded to float32 in between: 1 more;
    - float64: at most 1.95 ULP: 0.5, 1, and twice 0.22 for the tail of exp (2**-55.2 of its
      value), with totals in twice the precision;
    - float16 and bfloat16: at most 0.51 ULP: the float64 result, rounded once.

    A row's bits depend on its values and its length: not on the batch around it, the number of
    threads, the alignment, the layout or the CPU. (Over several axes at once, elements are
    added in the order of memory, so that a C and a Fortran array may differ in the last bit.)

    Source: P. Blanchard, D. J. Higham, N. J. Higham, Accurately computing the log-sum-exp and
    softmax functions, IMA J. Numer. Anal. 41 (2021), doi:10.1093/imanum/draa038.

    Examples
    --------
    >>> import fastsoftmax
    >>> fastsoftmax.softmax([3.0, 1.0, 0.2])
    array([0.8360188 , 0.11314284, 0.05083836])
    >>> fastsoftmax.softmax([[1.0, 2.0], [10.0, 20.0]], axis=-1, temperature=[[1.0], [10.0]])
    array([[0.26894142, 0.73105858],
           [0.26894142, 0.73105858]])
    """
    return _normalized("softmax", x, axis, out, where, temperature, dtype)


def log_softmax(
    x: Any,
    axis: Axis = None,
    *,
    out: Any = None,
    where: Any = None,
    temperature: Any = 1.0,
    dtype: Any = None,
) -> Any:
    r"""The logarithm of softmax, exact where softmax itself rounds to 0 or 1.

    .. math:: \log p_i = x_i / T - \log \sum_j e^{x_j / T}

    Parameters
    ----------
    x : array_like
        Logits of any shape, layout and byte order. float16, bfloat16 (ml_dtypes), float32 and
        float64 are computed by kernels; long double and complex numbers by NumPy; integers and
        booleans as float64. A pandas or xarray object, or a masked array, comes back as one.
    axis : int, tuple of ints or None
        What is normalised: along these axes together, or over the whole array (None).
    out : ndarray, optional
        Where the result is written; it is returned. ``out is x`` works in place.
    where : array_like of bool, optional
        Broadcasts to ``x``. Elements left out count as absent, and their result is -inf. Beside
        a pandas or xarray ``x``, a mask with labels is matched by label, as in arithmetic (a
        Series with a DataFrame's columns); both have the same labels, in any order.
    temperature : float or array_like
        The logits are divided by it. An array broadcasts over the rows, that is to the shape
        of ``logsumexp(x, axis, keepdims=True)``. 0 is the limit, where the largest logits
        share; infinity gives the uniform distribution over those that are not -inf. Labels are
        matched as for ``where``; a Series has those of the DataFrame's rows for ``axis=1``.
    dtype : dtype, optional
        The result's type; the arithmetic is done in the wider of it and x's.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        Of the shape of ``x``; of its type unless ``dtype`` says otherwise. NaN anywhere makes
        the row NaN; beside +inf, finite logits give -inf; a row of -inf alone is NaN.

    Raises
    ------
    TypeError
        For arrays of objects, strings or dates; sparse arrays, and tensors that are not on the
        host or require gradients; a ``where`` that is not boolean; an ``out`` or a ``dtype``
        that cannot hold the result.
    ValueError
        For an ``axis`` out of bounds (`numpy.exceptions.AxisError`) or given twice; a shape
        or labels that do not fit; a read-only ``out``; a ``temperature`` that is negative or NaN.

    Notes
    -----
    Error: at most 0.6 ULP for float32 (0.5, and 2**-27.5 of the total), 0.51 for float16 and
    bfloat16, 1.1 for float64 (0.5 for adding the logarithm of the total to its correction, 0.5
    for the last subtraction; neither cancels). The total is kept as 1 + rest, so the result next
    to 0 is as exact as any other.
    Bits and source as for `softmax`.

    Examples
    --------
    >>> import fastsoftmax
    >>> import numpy as np
    >>> fastsoftmax.log_softmax(np.array([20, 0], np.float32))
    array([-2.0611537e-09, -2.0000000e+01], dtype=float32)
    """
    return _normalized("log_softmax", x, axis, out, where, temperature, dtype)


def logsumexp(
    a: Any,
    axis: Axis = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    out: Any = None,
    where: Any = None,
    dtype: Any = None,
) -> Any:
    r"""The logarithm of a (weighted) sum of exponentials.

    .. math:: \log \sum_j b_j e^{a_j}

    Parameters
    ----------
    a : array_like
        Logits, as for `softmax`.
    axis : int, tuple of ints or None
        What is summed: along these axes together, or the whole array (None).
    b : array_like, optional
        Weights, which broadcast with ``a``; they may be negative. Where one is 0, the element
        is absent, whatever it is. Labels are matched as for ``where``.
    keepdims : bool
        Keep the summed axes, with length 1.
    return_sign : bool
        Return the logarithm of the sum's absolute value, and the sum's sign. Without it, a
        negative sum gives NaN.
    out : ndarray, optional
        Where the (first) result is written; it is returned.
    where : array_like of bool, optional
        Broadcasts to ``a``. Elements left out count as absent. Beside a pandas or xarray ``a``,
        a mask with labels is matched by label, as in arithmetic (a Series with a DataFrame's
        columns); both have the same labels, in any order.
    dtype : dtype, optional
        The result's type; the arithmetic is done in the wider of it and a's.

    Returns
    -------
    ndarray, scalar, or what ``a`` was; with ``return_sign`` a pair
        Nothing to sum gives -inf. NaN anywhere makes the row NaN; else +inf makes it inf. The
        sign is 1, 0 or -1; for complex numbers, sum / abs(sum).

    Raises
    ------
    TypeError, ValueError
        As for `softmax`; also for shapes of ``a`` and ``b`` that do not broadcast.

    Notes
    -----
    Error: at most 0.6 ULP for float32, 0.51 for float16 and bfloat16, 1.1 for float64 where the
    sum is well conditioned (0.5 for the last rounding; the total's error, 2**-27.5 or 0.3 *
    2**-53, over a result that is at least log 2 or as large as the shift), and times the
    condition number max|a_i| / abs(result) where shift and log(total) cancel. Weights of both
    signs cancel in the total, too; and where the total is next to 1, as of weights that sum to 1
    and logits next to 0, its logarithm has an absolute error of 2**-27 (float64: 2**-53). The
    shift is the largest a whose weight is not 0, as in SciPy: beside it, terms with a smaller by
    700 or more (131 for float32 and narrower) are lost, however large their weights; and sums
    beyond 1.8e308 are infinite.
    Bits and source as for `softmax`.

    Examples
    --------
    >>> import fastsoftmax
    >>> float(fastsoftmax.logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    >>> value, sign = fastsoftmax.logsumexp([1.0, 2.0], b=[1.0, -1.0], return_sign=True)
    >>> float(value), float(sign)
    (1.5413248546129181, -1.0)
    """
    source = containers.unwrap("a", a)
    computed = arrays.floating("logsumexp", source.values)
    counted = containers.mask(where, source)
    weight = None
    if b is not None:
        weight = containers.operand("b", b, source)
        arrays.floating("b", weight)  # refuses what holds no numbers
        # A Python number takes the array's type, as everywhere in NumPy.
        if type(b) is complex:
            computed = np.result_type(computed, np.complex64)
        elif type(b) not in (bool, int, float):
            computed = arrays.wider(source.values.dtype, weight.dtype)
        source = containers.broadcast_source(source, weight)
    result = arrays.result_type("logsumexp", computed, dtype)
    computed = arrays.wider(computed, result)
    shape = source.values.shape
    axes = arrays.normalized_axes(len(shape), axis)
    mask = arrays.present(counted, source.present, shape)
    kept = arrays.reduced_shape(shape, axes)
    final = kept if keepdims else tuple(n for i, n in enumerate(shape) if i not in axes)
    if out is not None:
        arrays.check_out(out, final, result, dtype)

    values = source.values.astype(computed, copy=False)
    sign = None
    if values.size == 0:
        value = np.full(kept, -np.inf, computed)
    elif arrays.has_kernel(computed):
        value, sign = _logsumexp_by_kernel(values, axes, mask, weight)
    else:
        value, sign = extended.logsumexp(values, axes, mask, weight)
    if sign is None and return_sign:
        # exp is positive: the sum is 0 or NaN where its logarithm is -inf or NaN
        sign = np.where(value == -np.inf, 0.0, np.where(np.isnan(value), np.nan, 1.0))

    log_type = result
    if return_sign:
        value, log_type = value.real, np.empty(0, result).real.dtype
    elif sign is not None and computed.kind != "c":
        value = np.where(sign < 0, value.dtype.type(np.nan), value)
    value = arrays.cast(value.reshape(final), log_type)
    if out is not None:
        logarithm = arrays.into(out, value)
    else:
        logarithm = containers.rewrap_reduced(source, value[()], axes, keepdims, mask)
    if not return_sign:
        return logarithm
    sign = arrays.cast(np.asarray(sign).reshape(final), result)
    return logarithm, containers.rewrap_reduced(source, sign[()], axes, keepdims, mask)


def _normalized(
    function: str, x: Any, axis: Axis, out: Any, where: Any, temperature: Any, dtype: Any
) -> Any:
    """softmax or log_softmax, from the caller's arguments to the caller's result."""
    if (
        type(x) is np.ndarray
        and where is None
        and dtype is None
        and type(temperature) is float
        and temperature == 1.0
        and (axis is None or type(axis) is int)
        and x.flags.c_contiguous
    ):
        small = _small(function, x.dtype, x.shape, axis)
        if small is not None and (out is None or _takes_all(out, x)):
            return small(x, out)
    source = containers.unwrap("x", x)
    computed = arrays.floating(function, source.values)
    result = arrays.result_type(function, computed, dtype)
    computed = arrays.wider(computed, result)
    shape = source.values.shape
    axes = arrays.normalized_axes(len(shape), axis)
    mask = arrays.present(containers.mask(where, source), source.present, shape)
    temperature = containers.operand("temperature", temperature, source, axes)
    temperature = arrays.temperatures(temperature, shape, axes)
    if out is not None:
        arrays.check_out(out, shape, result, dtype)

    values = source.values.astype(computed, copy=False)
    if values.size == 0:
        answer = values
    else:
        values, temperature = arrays.at_limits(values, temperature, mask, axes)
        if arrays.has_kernel(computed):
            answer = _normalized_by_kernel(function, values, axes, temperature, mask, out)
        else:
            answer = extended.normalized(function, values, axes, temperature, mask)
    if out is not None:
        return arrays.into(out, answer)
    if answer.dtype != result:
        answer = arrays.cast(answer, result)
    return containers.rewrap(source, answer[()])


@functools.lru_cache(maxsize=1024)
def _small(
    function: str, dtype: np.dtype[Any], shape: tuple[int, ...], axis: int | None
) -> Callable[[arrays.Array, arrays.Array | None], arrays.Array] | None:
    """What computes plain calls on small arrays in C order; None for others.

    As `_normalized`, with all that depends on type, shape and axis done once: 1.2 us for (1, 10)
    where that takes 7.
    """
    size = math.prod(shape)
    if not (
        0 < size < plan.PARALLEL_FROM and shape and dtype.isnative and arrays.has_kernel(dtype)
    ):
        return None
    example = np.zeros(shape, dtype)
    rows = arrays.rows_of(example, arrays.normalized_axes(len(shape), axis))
    seen = arrays.stored(rows.view(example))
    if not np.may_share_memory(seen, example):
        return None  # axes that are not neighbours
    run = plan.small(function, seen, seen, rows.view_rows(np.array(1.0)))
    seen_shape, stored = seen.shape, seen.dtype

    def compute(x: arrays.Array, out: arrays.Array | None) -> arrays.Array:
        if out is None:
            out = np.empty(shape, dtype)
        if stored != dtype:
            run(x.view(stored).reshape(seen_shape), out.view(stored).reshape(seen_shape))
        elif shape != seen_shape:
            run(x.reshape(seen_shape), out.reshape(seen_shape))
        else:
            run(x, out)
        return out

    return compute


def _takes_all(out: Any, x: arrays.Array) -> bool:
    """Whether a kernel can write its result for x right there."""
    return (
        type(out) is np.ndarray
        and out.dtype == x.dtype
        and out.shape == x.shape
        and out.flags.c_contiguous
        and out.flags.writeable
        and (out is x or not np.may_share_memory(out, x))
    )


def _normalized_by_kernel(
    function: str,
    values: arrays.Array,
    axes: tuple[int, ...],
    temperature: arrays.Array,
    mask: arrays.Array | None,
    out: arrays.Array | None,
) -> arrays.Array:
    """The result in an array of its own, or in ``out`` where a kernel can write there."""
    rows = arrays.rows_of(values, axes)
    seen = rows.view(values)
    numbers = rows.view_rows(temperature)
    counted = None if mask is None else rows.view(mask)
    place = arrays.place_for(rows, out, seen, numbers, counted)
    plan.normalized(function, arrays.stored(seen), arrays.stored(place), numbers, counted)
    return rows.back(place)


def _logsumexp_by_kernel(
    values: arrays.Array,
    axes: tuple[int, ...],
    mask: arrays.Array | None,
    weight: arrays.Array | None,
) -> tuple[arrays.Array, arrays.Array | None]:
    """log|sum| and, of a weighted sum, its sign, with the reduced axes at length 1."""
    rows = arrays.rows_of(values, axes)
    value = rows.empty_rows(values.dtype)
    sign = None
    if weight is not None:
        # cast before it is spread: a weight for each class is no array as large as the logits
        weight = np.broadcast_to(arrays.cast(weight, np.dtype(np.float64)), values.shape)
        if mask is not None:
            weight, mask = np.where(mask, weight, 0.0), None
        weight = rows.view(weight)
        sign = rows.empty_rows(np.dtype(np.float64))
    plan.logsumexp(
        arrays.stored(rows.view(values)),
        arrays.stored(value),
        sign,
        None if mask is None else rows.view(mask),
        weight,
    )
    return rows.back_rows(value), None if sign is None else rows.back_rows(sign)
