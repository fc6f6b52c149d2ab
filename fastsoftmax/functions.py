"""softmax, log_softmax, logsumexp and entropy: SciPy's signatures and results, and more."""

from __future__ import annotations

from typing import Any, Literal

from fastsoftmax import call
from fastsoftmax.arithmetic.formulas import ENTROPY, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX

Axis = int | str | tuple[int | str, ...] | None
Target = Literal["cpu", "cuda"] | None


def softmax(
    x: Any,
    axis: Axis = None,
    *,
    out: Any = None,
    where: Any = None,
    temperature: Any = 1.0,
    dtype: Any = None,
    dim: Any = None,
    target: Target = None,
    stream: Any = None,
) -> Any:
    r"""Probabilities proportional to exp(x / temperature).

    .. math:: p_i = e^{x_i / T} / \sum_j e^{x_j / T}

    Parameters
    ----------
    x : array_like
        Logits of any shape, layout and byte order. float16, bfloat16 (ml_dtypes), float32 and
        float64 are computed by kernels; long double and complex numbers by NumPy; integers and
        booleans as float64. What goes in comes out, with its labels, names and attributes: masked
        arrays; pandas's Series and DataFrames, also of nullable and of Arrow-backed columns;
        xarray's DataArrays and Datasets (each variable by itself); polars's Series and DataFrames;
        pyarrow's arrays of numbers, of lists of one length and of tensors; torch's tensors. What is
        missing there is NaN, and so is its row, but where ``where`` leaves it out. Arrays on an
        NVIDIA GPU (CuPy's, torch's, Numba's, and others that can be written to by
        ``__cuda_array_interface__`` or DLPack) are computed there, and come back as such.
    axis : int, tuple of ints or None
        What is normalised: along these axes together, or over the whole array (None). For pandas's
        objects also its names, "columns" and "index" (or "rows").
    out : array, optional
        Where the result is written; it is returned. ``out is x`` works in place. On a GPU it must
        not overlap x otherwise.
    where : array_like of bool, optional
        Broadcasts to ``x``. Elements left out count as absent, and their result is 0. Beside
        a pandas or xarray ``x``, a mask with labels is matched by label, as in arithmetic (a
        Series with a DataFrame's columns); both have the same labels, in any order. Columns of
        polars's DataFrames are matched by name, and its Series go along the rows. Beside a Dataset,
        a Dataset has a mask for each variable, by name; anything else is for all of them.
    temperature : float or array_like
        The logits are divided by it. An array broadcasts over the rows, that is to the shape
        of ``logsumexp(x, axis, keepdims=True)``. 0 is the limit, where the largest logits
        share (in float32 and narrower so is whatever is below 2**-249); infinity gives the uniform
        distribution over those that are not -inf. Labels are matched as for ``where``; a Series
        has those of the DataFrame's rows for ``axis=1``. One on a GPU is not read before, so that
        rows of a temperature that is negative or NaN are NaN.
    dtype : dtype, optional
        The result's type; the arithmetic is done in the wider of it and x's.
    dim : name, several names, or ...
        Instead of ``axis``: the dimensions of xarray's objects, by name (``...``: all); each
        variable of a Dataset must have them. torch calls an axis ``dim``, so for its tensors this
        is another name of ``axis``.
    target : "cpu", "cuda" or None
        Where it is computed. None: where ``x`` is. "cuda" computes what is on the host on the
        current GPU, to the same bits: x is copied there and the result back, in pieces, while
        others are computed, and the call returns when the result is there.
    stream : object or int, optional
        The CUDA stream on which a call on a GPU's arrays is queued: torch's, CuPy's, Numba's or
        any with ``__cuda_stream__``, or a handle. None: the current one of x's library, else the
        one that x names, else the default one. Such a call does not wait for the result; whatever
        is queued on the stream later finds it.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        Of the shape of ``x``; of its type unless ``dtype`` says otherwise. NaN anywhere makes
        the row NaN, and so does +inf; a row of -inf alone is NaN.

    Raises
    ------
    TypeError
        For arrays and columns of objects, strings or dates; sparse and lazy arrays and frames,
        tables of Arrow's, and tensors that require gradients; ``dim`` where dimensions have no
        names, and ``axis`` for a Dataset, whose variables have each their own; a ``where`` that is
        not boolean; an ``out`` or a ``dtype`` that cannot hold the result; an array ``where`` or
        ``out`` on the host beside x on a GPU, and the other way round.
    ValueError
        For an ``axis`` out of bounds (`numpy.exceptions.AxisError`) or given twice, a ``dim`` that
        is not there, or both given; a shape or labels that do not fit; a read-only ``out``;
        a ``temperature`` that is negative or NaN; arrays and streams of several GPUs.
    RuntimeError
        For a GPU's arrays, or ``target="cuda"``, where numba-cuda, a driver or a GPU is missing;
        and for what CUDA's driver reports.

    Notes
    -----
    Error against the exact result, at any spread, offset and length, subnormal results included
    (also in `fastsoftmax.ERROR_BOUNDS`):

    - float32: at most 1.75 ULP. The exponential is rounded, 2**-24 of it, which is up to 1 ULP of
      the result, and so is the result, 0.5. Exponentials are right to 2**-26.9 before that, 0.13
      in the result and in the total, and the total's grid and the quotient leave out 0.1. (All
      that at its worst at once would be 1.86; the largest error found is 1.50.)
    - float64: at most 1.6 ULP: 1, 0.5, and twice 2**-55.8 of the exponential (1.77; 1.48 found);
    - float16 and bfloat16: at most 0.51 ULP: the float32 result, rounded once more.

    A row's bits depend on its values alone: not on their order, the batch around it, the axes, the
    layout, the alignment, the number of threads or the CPU. Totals are sums of integers, which have
    no order. (float32 rows beyond 4096 logits are counted on a third grid, wherever they lie.)

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
    return call.rows(
        SOFTMAX, x, axis, dim=dim, where=where, temperature=temperature, dtype=dtype, out=out,
        target=target, stream=stream,
    )  # fmt: skip


def log_softmax(
    x: Any,
    axis: Axis = None,
    *,
    out: Any = None,
    where: Any = None,
    temperature: Any = 1.0,
    dtype: Any = None,
    dim: Any = None,
    target: Target = None,
    stream: Any = None,
) -> Any:
    r"""The logarithm of softmax, exact where softmax itself rounds to 0 or 1.

    .. math:: \log p_i = x_i / T - \log \sum_j e^{x_j / T}

    Parameters
    ----------
    x, axis, out, where, temperature, dtype, dim, target, stream
        As for `softmax`; elements that ``where`` leaves out have the result -inf.

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        Of the shape of ``x``; of its type unless ``dtype`` says otherwise. NaN anywhere makes
        the row NaN; beside +inf, finite logits give -inf; a row of -inf alone is NaN.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `softmax`.

    Notes
    -----
    Error: at most 1.1 ULP for float32 and float64 (0.5 for each of two subtractions, of which
    neither cancels, and up to 2**-26.9 or 2**-55.8 of the total), 0.51 for float16 and bfloat16.
    One of the largest terms is kept out of the total, so the result next to 0 is as exact as any
    other.
    Bits and source as for `softmax`.

    Examples
    --------
    >>> import fastsoftmax
    >>> import numpy as np
    >>> fastsoftmax.log_softmax(np.array([20, 0], np.float32))
    array([-2.0611537e-09, -2.0000000e+01], dtype=float32)
    """
    return call.rows(
        LOG_SOFTMAX, x, axis, dim=dim, where=where, temperature=temperature, dtype=dtype, out=out,
        target=target, stream=stream,
    )  # fmt: skip


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
    dim: Any = None,
    target: Target = None,
    stream: Any = None,
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
        is absent, whatever it is. Labels are matched as for ``where``. Weighted sums, and the
        sign, are computed on the CPU only: for ``a`` on a GPU they are a ValueError.
    keepdims : bool
        Keep the summed axes, with length 1.
    return_sign : bool
        Return the logarithm of the sum's absolute value, and the sum's sign. Without it, a
        negative sum gives NaN.
    out : array, optional
        Where the (first) result is written; it is returned. On a GPU it must not overlap ``a``.
    where, dim, target, stream
        As for `softmax`.
    dtype : dtype, optional
        The result's type; the arithmetic is done in the wider of it and a's.

    Returns
    -------
    ndarray, scalar, or what ``a`` was; with ``return_sign`` a pair
        Nothing to sum gives -inf. NaN anywhere makes the row NaN; else +inf makes it inf. The
        sign is 1, 0 or -1; for complex numbers, sum / abs(sum).

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `softmax`; also for shapes of ``a`` and ``b`` that do not broadcast.

    Notes
    -----
    Error: at most 1.1 ULP for float32 and float64, 0.51 for float16 and bfloat16 where the sum is
    well conditioned (0.5 for the one rounding; the total's error, 2**-26.9 or 2**-55.8 of it, over
    a result that is at least log 2 or as large as the shift), and times the condition number
    max|a_i| / abs(result) where shift and log(total) cancel. Weighted sums are computed in float64,
    whatever the types. Weights of both signs cancel in the total, too; and where the total is next
    to 1, as of weights that sum to 1 and logits next to 0, its logarithm has an absolute error of
    2**-53 (float32: and half an ULP). Terms below 2**-140 of the largest are lost. (Complex numbers
    and long double are summed relative to the largest a, whatever its weight.)
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
    keepdims = bool(keepdims)
    if b is None and not return_sign:
        return call.rows(
            LOGSUMEXP, a, axis, dim=dim, where=where, dtype=dtype, out=out, keepdims=keepdims,
            target=target, stream=stream,
        )  # fmt: skip
    return call.weighted(
        a, axis, b, keepdims, return_sign, dim=dim, out=out, where=where, dtype=dtype,
        target=target, stream=stream,
    )  # fmt: skip


def entropy(
    x: Any,
    axis: Axis = -1,
    *,
    where: Any = None,
    temperature: Any = 1.0,
    dtype: Any = None,
    dim: Any = None,
    target: Target = None,
    stream: Any = None,
) -> Any:
    r"""The entropy of each row's softmax, in nats.

    .. math:: H = -\sum_i p_i \log p_i = \log \sum_j e^{-d_j} + \sum_i p_i d_i,
        \quad d_i = (\max_j x_j - x_i) / T

    Parameters
    ----------
    x, where, temperature, dtype, dim, target, stream
        As for `softmax`.
    axis : int, tuple of ints or None
        What is one distribution: along these axes together, or the whole array (None).

    Returns
    -------
    ndarray, scalar, or what ``x`` was
        Without the reduced axes; from 0, where one class has it all, to log n. NaN where softmax
        is: NaN or +inf anywhere, and rows without a class that is possible.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `softmax`; also for complex numbers.

    Notes
    -----
    Error: at most 1.8 ULP for float32 and float64 (0.5 for the result's rounding, 1 for that of
    each d, and at most 2**-25.9 or 2**-54.8 of each of the two summands, of which none is
    negative), 0.51 for float16 and bfloat16: as exact next to 0 as anywhere, where p log p loses
    all. Bits as for `softmax`.

    Source: C. E. Shannon, A mathematical theory of communication, Bell System Technical Journal 27
    (1948), doi:10.1002/j.1538-7305.1948.tb01338.x.

    Examples
    --------
    >>> import fastsoftmax
    >>> float(fastsoftmax.entropy([1.0, 1.0, 1.0, 1.0]))
    1.3862943611198906
    >>> float(fastsoftmax.entropy([40.0, 0.0]))
    1.7418252446695514e-16
    """
    return call.rows(
        ENTROPY, x, axis, dim=dim, where=where, temperature=temperature, dtype=dtype, target=target,
        stream=stream,
    )  # fmt: skip
