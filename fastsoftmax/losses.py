"""Cross-entropy: PyTorch's definitions, for NumPy."""

from __future__ import annotations

from typing import Any, Literal

from fastsoftmax import arguments, call
from fastsoftmax.targets import LOSS, WITH_GRADIENT, Distributed, Indexed, IndexedGradient, Settings

Reduction = Literal["mean", "sum", "none"]


def cross_entropy(
    logits: Any,
    target: Any,
    axis: int | str = -1,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    where: Any = None,
    temperature: Any = 1.0,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""The cross-entropy of the rows' softmax against targets, as `torch.nn.functional` defines it.

    .. math:: \ell = -\sum_c w_c \, q_c \log p_c, \quad p_c = e^{x_c / T} / \sum_j e^{x_j / T}

    where q is 1 for the target's class (:math:`\ell = -w_y \log p_y`) or the target's
    probabilities, smoothed: :math:`(1 - \epsilon) q_c + \epsilon / C`.

    Parameters
    ----------
    logits : array_like
        As for `softmax`, on the host, and not complex.
    target : array_like
        Integers are class indices, one a row: of the shape of the logits without ``axis``, or what
        broadcasts to it. Real numbers are probabilities of the classes, in the shape of the logits
        or what broadcasts to it; they need not sum to 1. Labels are matched as for `softmax`'s
        ``where``.
    axis : int or name
        The axis of the classes.
    weight : array_like, optional
        A weight for each class, finite and not negative.
    ignore_index : int
        Rows of this index have the loss 0 and do not count in the mean.
    label_smoothing : float
        From 0 to 1, how much of the target is spread over all classes (those that ``where`` does
        not leave out).
    reduction : "mean", "sum" or "none"
        "mean" divides the sum by the weights of the rows' classes; where targets are probabilities
        by the number of rows. Where all rows are ignored the mean is NaN, the sum 0.
    where, temperature, dtype, dim
        As for `softmax`. A class that ``where`` leaves out has the loss infinity.

    Returns
    -------
    scalar, or for "none" what `logsumexp` gives
        Of the type of the logits unless ``dtype`` says otherwise.

    Raises
    ------
    TypeError
        As for `softmax`; also for a target that holds neither integers nor real numbers.
    ValueError
        As for `softmax`; also for an index of no class, and for a probability or a weight that is
        negative or not finite, by position and value; a shape that does not fit; a
        ``label_smoothing`` or a ``reduction`` that is not one of the above; several axes; logits on
        a GPU.

    Notes
    -----
    Error: of "none" and class indices at most 1.1 ULP for float32 and float64, 0.51 for float16
    and bfloat16, as of `label_log_probabilities`, times the weight, rounded once more. Of sums and
    means, and of sums over classes, at most 2.8 ULP: each term is off by 1.1 ULP at most, none is
    negative, and as the ULP of a term may be twice as large beside it as that of the sum, this is
    up to 2.2 of the latter; the sum is exact to 2**-96 of its largest term for each, and rounded
    once; 0.51 for float16 and bfloat16.

    Losses are summed as integers on a fixed grid in float64: the bits of a sum do not depend on the
    order of rows, nor on threads.

    Source: C. Szegedy et al., Rethinking the Inception architecture for computer vision,
    arXiv:1512.00567 (label smoothing).

    Examples
    --------
    >>> import fastsoftmax
    >>> logits = [[3.0, 1.0, 0.2], [1.0, 2.0, 3.0]]
    >>> float(fastsoftmax.cross_entropy(logits, [0, 1]))
    0.7933550696146915
    >>> fastsoftmax.cross_entropy(logits, [0, -100], reduction="none")
    array([0.17910417, 0.        ])
    """
    settings = Settings.checked(weight, ignore_index, label_smoothing, reduction)
    given = {"where": where, "temperature": temperature, "dtype": dtype, "target": target}
    indexed = _is_indexed(target)
    if indexed and not settings.label_smoothing:
        return call.on_host(
            Indexed, LOSS, "logits", logits, axis, dim=dim, act=Indexed.loss,
            settings=settings, **given,
        )  # fmt: skip
    return call.on_host(
        Distributed, LOSS, "logits", logits, axis, dim=dim, act=Distributed.loss,
        settings=settings, indexed=indexed, gradient=False, **given,
    )  # fmt: skip


def cross_entropy_and_gradient(
    logits: Any,
    target: Any,
    axis: int | str = -1,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    out: Any = None,
    where: Any = None,
    temperature: Any = 1.0,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""`cross_entropy`, and its gradient by the logits in one go.

    .. math:: \partial \ell / \partial x_c = (p_c \sum_j w_j q_j - w_c q_c) / T

    for each row, divided as the mean is.

    Parameters
    ----------
    logits, target, axis, weight, ignore_index, label_smoothing, reduction, where, dtype, dim
        As for `cross_entropy`. With ``reduction="none"`` each row has the gradient of its own loss.
    temperature
        As for `softmax`, but finite and above 0.
    out : array, optional
        Where the gradient is written; it may be ``logits``.

    Returns
    -------
    loss
        As of `cross_entropy`, with the same bits.
    gradient : ndarray, or what ``logits`` was
        Of the shape of the logits; 0 for ignored rows and for classes that ``where`` leaves out.

    Raises
    ------
    TypeError, ValueError
        As for `cross_entropy`; also for a ``temperature`` that has no gradient.

    Notes
    -----
    Error of the gradient for class indices: at most 3.3 ULP for float32 (the exponential of a
    logarithm, the scale and their product are rounded, each 1 ULP at most, and the logarithm is
    right to a quarter), 5 for float64, where a scale that weight, mean and temperature make is
    itself rounded up to three times; 0.51 for float16 and bfloat16. At the target's class, where it
    is p - 1, too, however near p is to 1. For probabilities and smoothed targets p and q are
    subtracted in float64: for float64 the error is at most 5 ULP of the larger of them, for
    narrower types half an ULP of the result beside that.

    Examples
    --------
    >>> import fastsoftmax
    >>> loss, gradient = fastsoftmax.cross_entropy_and_gradient([[3.0, 1.0, 0.2]], [0])
    >>> float(loss)
    0.17910417478500268
    >>> gradient
    array([[-0.1639812 ,  0.11314284,  0.05083836]])
    """
    settings = Settings.checked(weight, ignore_index, label_smoothing, reduction)
    given = {"where": where, "temperature": temperature, "dtype": dtype, "target": target}
    indexed = _is_indexed(target)
    if indexed and not settings.label_smoothing:
        return call.on_host(
            IndexedGradient, WITH_GRADIENT, "logits", logits, axis, dim=dim, out=out,
            act=IndexedGradient.loss, settings=settings, **given,
        )  # fmt: skip
    return call.on_host(
        Distributed, WITH_GRADIENT, "logits", logits, axis, dim=dim, out=out, act=Distributed.loss,
        settings=settings, indexed=indexed, gradient=True, **given,
    )  # fmt: skip


def _is_indexed(target: Any) -> bool:
    """Whether targets are class indices, else probabilities."""
    array = arguments.array("target", target)
    if array.dtype.kind == "b":
        raise TypeError("target must be class indices or probabilities, got an array of booleans")
    return array.dtype.kind in "iu"
