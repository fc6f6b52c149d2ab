"""What is asked of a softmax instead of all its probabilities: the best classes, and labels'."""

from __future__ import annotations

from typing import Any, Literal

from fastsoftmax import at_labels

Target = Literal["cpu", "cuda"] | None


def top_k(
    logits: Any,
    k: int,
    axis: int | str = -1,
    *,
    where: Any = None,
    temperature: Any = 1.0,
    dtype: Any = None,
    dim: Any = None,
    target: Target = None,
    stream: Any = None,
) -> Any:
    r"""The k most probable classes of each row: their probabilities, and which they are.

    .. math:: p_{i_1} \ge \dots \ge p_{i_k}, \quad p_i = e^{x_i / T} / \sum_j e^{x_j / T}

    The probabilities are those of the whole softmax, not of the k classes alone. ``k=1`` gives the
    argmax and its probability. The probabilities of other classes are not formed.

    Parameters
    ----------
    logits : array_like
        As for `softmax`, and not complex.
    k : int
        How many classes, from 1 to all.
    axis : int or name
        The axis of the classes.
    where, temperature, dtype, dim, target, stream
        As for `softmax`. Classes that ``where`` leaves out have probability 0, like logits of
        -inf.

    Returns
    -------
    probabilities, indices : ndarray
        In descending order of the logits along ``axis``, which has length k; of equal logits the
        lower index comes first. (At the temperatures 0 and infinity logits are equal where their
        probabilities are, at 0 all but the largest.) Indices are int64, and for
        `numpy.take_along_axis`. Torch's tensors and a GPU's arrays come back as such; frames and
        xarray's arrays give arrays, as their labels along the axis are not the classes' any more.
        A row that holds NaN or +inf has NaN for probabilities, and these first.

    Raises
    ------
    TypeError, ValueError
        As for `softmax`; also for a ``k`` that is no integer, below 1 or above the number of
        classes, for several axes, and for a GPU's arrays of libraries that make no new ones (JAX's,
        and what only exports its memory).
    RuntimeError
        As for `softmax`.

    Notes
    -----
    Error bounds and bits are those of `softmax`: at most 1.75 ULP for float32, 1.6 for float64 and
    0.51 for float16 and bfloat16, and each probability has the bits that `softmax` gives it.

    Up to 16 classes are chosen while the row is in a cache: a bound is known from its maxima, and
    what exceeds that is ranked. More are chosen by `numpy.partition`, in blocks. A GPU looks for
    them one after the other, by a row's own block, so that its time grows with k.

    Examples
    --------
    >>> import fastsoftmax
    >>> probabilities, indices = fastsoftmax.top_k([1.0, 3.0, 2.0, 3.0], 2)
    >>> indices
    array([1, 3])
    >>> probabilities
    array([0.3994863, 0.3994863])
    """
    return at_labels.largest_probabilities(
        logits, k, axis, dim=dim, where=where, temperature=temperature, dtype=dtype,
        target=target, stream=stream,
    )  # fmt: skip


def label_log_probabilities(
    logits: Any,
    labels: Any,
    axis: int | str = -1,
    *,
    out: Any = None,
    where: Any = None,
    temperature: Any = 1.0,
    dtype: Any = None,
    dim: Any = None,
    target: Target = None,
    stream: Any = None,
) -> Any:
    r"""The log-probability of one label a row, or of several.

    .. math:: \log p_y = x_y / T - \log \sum_j e^{x_j / T}

    Parameters
    ----------
    logits : array_like
        As for `softmax`, and not complex.
    labels : array_like of int
        Which classes, from 0 on. One a row: of the shape of the logits without ``axis``, or what
        broadcasts to it. Several: with as many dimensions as the logits, and their number at
        ``axis``, as for `numpy.take_along_axis`. Beside logits with labels of their own (pandas,
        xarray) a Series or DataArray is matched by label. Beside logits on a GPU they may be there
        or on the host. Those that are there are not read before the kernel reads them: the result
        is NaN for one that is no class.
    axis : int or name
        The axis of the classes.
    out : array, optional
        Where the result is written; it is returned.
    where, temperature, dtype, dim, target, stream
        As for `softmax`; the result for a class that ``where`` leaves out is -inf.

    Returns
    -------
    ndarray, scalar, or what ``logits`` was
        Of the shape of the labels. For several a row, frames and xarray's arrays give arrays. NaN
        and infinities as in `log_softmax`.

    Raises
    ------
    TypeError
        As for `softmax`; also for labels that are not integers.
    ValueError
        As for `softmax`; also for labels of a wrong shape, for several axes and, by position and
        value, for labels on the host that are no class.
    RuntimeError
        As for `softmax`.

    Notes
    -----
    Error: at most 1.1 ULP for float32 and float64, 0.51 for float16 and bfloat16; the bits are
    those of `log_softmax`, of which nothing else is computed, on a GPU, too.

    Examples
    --------
    >>> import fastsoftmax
    >>> fastsoftmax.label_log_probabilities([[3.0, 1.0, 0.2], [1.0, 2.0, 3.0]], [0, 2])
    array([-0.17910417, -0.40760596])
    """
    return at_labels.log_probabilities(
        logits, labels, axis, dim=dim, out=out, where=where, temperature=temperature, dtype=dtype,
        target=target, stream=stream,
    )  # fmt: skip
