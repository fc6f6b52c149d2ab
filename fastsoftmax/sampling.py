"""sample: classes drawn from the softmax of each row, whose probabilities nobody computes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from fastsoftmax import call, checks, containers, layout
from fastsoftmax.cpu import calls
from fastsoftmax.cuda.view import contiguous
from fastsoftmax.functions import Axis
from fastsoftmax.tensors import Torch

Array = np.ndarray[Any, Any]

# Draws, and logits that are sorted, at a time: 8 MiB of uniform numbers, 0.1 s on one thread.
_AT_ONCE = 1 << 20
# Draws of a row from which on, and classes for each of them, what the classes count is kept: a draw
# of 3 to 50,000 classes takes 13 to 93 ns then, not 57 to 150, and each class 1 ns once.
_MANY = 16


def sample(
    logits: Any,
    size: int | tuple[int, ...] | None = None,
    axis: Axis = -1,
    *,
    rng: Any = None,
    temperature: Any = 1.0,
    where: Any = None,
    top_k: int | None = None,
    top_p: float | None = None,
    dim: Any = None,
) -> Any:
    r"""Classes drawn from each row's softmax, by their indices.

    .. math:: P(i) = e^{x_i / T} / \sum_j e^{x_j / T}

    Parameters
    ----------
    logits : array_like
        As x of `softmax`, but no long double; at least one class of each row must be possible.
    size : int, tuple of ints or None
        How many classes are drawn of each row, each from all of its classes. None: one, without a
        dimension for it.
    axis : int, tuple of ints or None
        What is one distribution. Of several axes, and of the whole array (None), the indices are
        those into the row that they make, flattened in C order, as of ``numpy.argmax(x)``.
    rng : seed or numpy.random.Generator, optional
        What ``numpy.random.default_rng`` takes: an integer, a SeedSequence, a BitGenerator, a
        Generator, or None for a seed from the operating system (SPEC 7).
    temperature, where, dim
        As for `softmax`. Elements that ``where`` leaves out are never drawn.
    top_k : int, optional
        Draw from each row's so many largest logits only; of equal ones those of lower index.
    top_p : float, optional
        Draw from each row's most probable classes only: as few of them as have at least this
        probability together; of equal logits those of lower index. With ``top_k``, it is a part of
        what these k have.

    Returns
    -------
    int64 ndarray, integer, or what ``logits`` was
        Without the reduced axes, or for a ``size`` with the draws where ``axis`` was (of several
        axes: last), so that ``numpy.take_along_axis`` finds what was drawn by a ``size`` that is
        a number. Without a ``size`` it has the labels of what it is drawn from, as `logsumexp`
        has. With one it is an array of NumPy's, or of torch's where the logits are.

    Raises
    ------
    TypeError, ValueError
        As for `softmax`; also for complex numbers, long double, and arrays on a GPU; a ``size``
        that is negative, or given beside a Dataset; a ``top_k`` that is below 1 or more than there
        are classes; a ``top_p`` that is not above 0 and at most 1; an ``rng`` that is no seed, or
        a RandomState; all before a number is taken from ``rng``.
        ValueError, too, for a row that holds NaN or +inf, or of which no class is possible, by its
        place; numbers have been taken then, and nothing is returned.

    Notes
    -----
    Numbers: each draw takes one float64 of ``rng.random``, in C order of the rows, all draws of a
    row together. A draw is made of that number and the row's values alone. So a seed gives the
    same draws on any number of threads, in any layout and on any CPU; and calls with one Generator
    for one batch of rows after the other draw what one call for all of them does. A worker that
    begins at row r, of n draws each, has
    ``np.random.Generator(np.random.PCG64(seed).advance(r * n))``.

    Law: a class counts the steps of a grid that its exponential has, to the nearest; the total C of
    a row's counts is exact, and a number u, of 53 bits, draws the first class whose count with all
    before it is more than floor(u C). So a class is drawn with its count over C, to 2**-53. That is
    within 2**-25.9 p + (1 + n p) s of its probability p (float64: 2**-51.8 p), where n is the
    number of classes and s, the rounding of a count, 2**-39 of the largest probability (float64:
    2**-50); s doubles at 2**23 classes (float64: 2**12) and at each power of two from there. The
    exponential is off by 2**-26.9 of itself, or 2**-52.8, and so is the total. Never drawn are
    classes at -inf, and those less than 2**-41 (float64: 2**-52) as probable as the largest.
    float16 and bfloat16 are as float32. ``top_p`` is compared with sums of these counts, exactly.

    Nothing as large as the logits is allocated where rows are contiguous; else they are copied.
    ``top_k`` and ``top_p`` sort rows, and many draws of a row keep what its classes count: for a
    million logits at a time, or one row.

    In a function that Numba compiles ``rng`` is a Generator, which is no thread's but one's: in a
    loop of `prange` each thread takes one of its own, of ``rng.spawn``.

    Source: the inversion of a distribution, L. Devroye, Non-Uniform Random Variate Generation
    (1986), III.2, doi:10.1007/978-1-4613-8643-8. ``top_p``: A. Holtzman et al., The curious case
    of neural text degeneration, ICLR 2020, arXiv:1904.09751.

    Examples
    --------
    >>> import fastsoftmax
    >>> import numpy as np
    >>> x = np.log([[0.2, 0.3, 0.5], [0.9, 0.1, 1e-9], [0.1, 0.1, 0.8]])
    >>> fastsoftmax.sample(x, 5, rng=0)
    array([[2, 1, 0, 0, 2],
           [1, 0, 0, 0, 1],
           [2, 0, 2, 0, 2]])

    Batch by batch, and by a worker for the last row:

    >>> rng = np.random.default_rng(0)
    >>> [fastsoftmax.sample(rows, 5, rng=rng).tolist() for rows in (x[:1], x[1:])]
    [[[2, 1, 0, 0, 2]], [[1, 0, 0, 0, 1], [2, 0, 2, 0, 2]]]
    >>> rng = np.random.Generator(np.random.PCG64(0).advance(2 * 5))
    >>> fastsoftmax.sample(x[2], 5, rng=rng)
    array([2, 0, 2, 0, 2])
    """
    if (
        size is not None
        and containers.container_of(logits).parts("logits", logits, axis, dim) is not None
    ):
        raise TypeError(f"size must not be given where logits is several arrays, got {size!r}")
    return call.on_host(
        _Sampling, _Sample(), "logits", logits, axis, dim=dim, where=where, dtype=None,
        temperature=temperature, size=size, rng=_generator(rng), top_k=top_k, top_p=top_p,
    )  # fmt: skip


class _Sample:
    """What a call has to know of `sample`; see `call.Function`."""

    name, mapped, absent, real = "sample", False, math.nan, True


class _Sampling(call.Call):
    """A call that draws."""

    def __init__(
        self, *given: Any, size: Any, rng: np.random.Generator, top_k: Any, top_p: Any,
        **beside: Any,
    ) -> None:  # fmt: skip
        super().__init__(*given, **beside)
        if not checks.has_kernel(self._computed):
            name = self._source.name
            raise TypeError(
                f"{name} must be float64 or narrower for sample, got {self._computed!r}: "
                f"pass {name}.astype(float)"
            )
        length = math.prod(self._shape[axis] for axis in self._axes)
        self._rng, self._size, self._length = rng, _size(size), length
        self._top_k, self._top_p = _top_k(top_k, length), _top_p(top_p)

    def plain(self) -> Any:
        """As `Call.plain`: the indices, for the caller."""
        kept = checks.reduced_shape(self._shape, self._axes, keepdims=False)
        count, draws = math.prod(kept), math.prod(self._size or ())
        indices = np.empty((count, draws), np.int64)
        if indices.size:
            self._draw(indices)
        container, original = self._source.container, self._source.original
        if self._size is None:
            result = indices.reshape(kept)[()]
            return container.rewrapped_reduced(original, result, self._axes, False, self._mask)
        result = indices.reshape(kept + self._size)
        if len(self._axes) == 1:
            place, several = self._axes[0], len(self._size)
            result = np.moveaxis(
                result, range(len(kept), len(kept) + several), range(place, place + several)
            )
        return container.rewrapped(original, result) if isinstance(container, Torch) else result

    def _draw(self, indices: Array) -> None:
        """The indices (rows, draws) of what is drawn, a few rows at a time."""
        if not self._length:
            self._refuse(0, np.empty(0))
        values, temperature = self._values, self._temperature
        if temperature is not None:
            values, temperature = checks.at_limits(values, temperature, self._mask, self._axes)
        # Rows, and their elements, in C order whatever that of the memory is: indices count so.
        steps = contiguous(self._shape, values.itemsize)
        rows = layout.Rows(self._shape, steps, self._axes, last=True)
        x, mask = rows.view(values), None if self._mask is None else rows.view(self._mask)
        numbers = None if temperature is None else rows.view_rows(temperature)
        for some, these in self._parts(*indices.shape):
            drawn = indices[some, these]
            seen, counted = x[some], None if mask is None else mask[some]
            divisors = None if numbers is None else numbers[some]
            uniforms = self._rng.random(drawn.shape)
            if self._counted(indices.shape[1]):
                calls.picked(uniforms, self._sums(seen, divisors, counted), drawn)
            else:
                calls.sample(layout.stored(seen), drawn, divisors, counted, uniforms)
            if (drawn[:, 0] < 0).any():
                first = int(np.argmax(drawn[:, 0] < 0))
                row = seen[first]
                self._refuse(some.start + first, row if counted is None else row[counted[first]])

    def _counted(self, draws: int) -> bool:
        """Whether what each class counts is kept: for its choice, or as there are many draws."""
        return (
            self._top_k is not None
            or self._top_p is not None
            or (draws >= _MANY and draws * _MANY >= self._length)
        )

    def _parts(self, count: int, draws: int) -> Iterator[tuple[slice, slice]]:
        """The rows and the draws of each go, one after the other in the numbers' order."""
        rows = max(1, _AT_ONCE // (max(draws, self._length) if self._counted(draws) else draws))
        for row in range(0, count, rows):
            for draw in range(0, draws, _AT_ONCE):
                yield slice(row, row + rows), slice(draw, draw + _AT_ONCE)

    def _sums(self, x: Array, temperature: Array | None, mask: Array | None) -> Array:
        """What the classes of some rows count, all up to each together; 0 for those left out."""
        counts = np.empty(x.shape, np.int64)
        calls.class_counts(layout.stored(x), counts, temperature, mask)
        if self._top_k is not None or self._top_p is not None:
            self._leave_most_probable(counts, x, mask)
        return np.cumsum(counts, axis=1, out=counts)

    def _leave_most_probable(self, counts: Array, x: Array, mask: Array | None) -> None:
        """Have classes count nothing that are beyond ``top_k`` or ``top_p``."""
        values = x.astype(np.promote_types(x.dtype, np.float32), copy=False)
        if mask is not None:
            values = np.where(mask, values, -np.inf)
        order = np.argsort(-values, axis=1, kind="stable")
        chosen = np.take_along_axis(counts, order, axis=1)
        if self._top_k is not None:
            chosen[:, self._top_k :] = 0
        if self._top_p is not None:
            sums = np.cumsum(chosen, axis=1)
            part, whole = self._top_p.numerator, self._top_p.denominator
            enough = [-(-int(total) * part // whole) for total in sums[:, -1]]  # rounded up
            chosen[:, 1:][sums[:, :-1] >= np.array(enough)[:, None]] = 0
        np.put_along_axis(counts, order, chosen, axis=1)

    def _refuse(self, row: int, values: Array) -> None:
        """Refuse a row, of which these values count."""
        kept = checks.reduced_shape(self._shape, self._axes, keepdims=False)
        places = iter(np.unravel_index(row, kept))
        index = ", ".join(
            ":" if axis in self._axes else str(next(places)) for axis in range(len(self._shape))
        )
        name = f"{self._source.name}[{index}]" if kept else self._source.name
        if np.isnan(values).any():
            reason = "it holds NaN"
        elif (values == np.inf).any():
            reason = "it holds inf"
        else:
            reason = "none of its classes is possible"
        raise ValueError(f"nothing can be drawn from {name}: {reason}")


def _generator(rng: Any) -> np.random.Generator:
    """The generator of a seed, or of what else NumPy makes one."""
    if isinstance(rng, np.random.RandomState):
        raise TypeError(
            "rng must be a seed or a numpy.random.Generator, got a RandomState: "
            "pass numpy.random.default_rng(seed)"
        )
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"rng must be a seed or a numpy.random.Generator, got {rng!r}: {error}"
        ) from None


def _size(size: Any) -> tuple[int, ...] | None:
    """The shape of a row's draws; None for one without a dimension."""
    if size is None:
        return None
    try:
        shape = tuple(map(operator.index, size if isinstance(size, tuple | list) else (size,)))
    except TypeError:
        raise TypeError(f"size must be an int, a tuple of ints or None, got {size!r}") from None
    if any(each < 0 for each in shape):
        raise ValueError(f"size must not be negative, got {size!r}")
    return shape


def _top_k(top_k: Any, length: int) -> int | None:
    """How many classes of each row are left."""
    if top_k is None:
        return None
    try:
        count = operator.index(top_k)
    except TypeError:
        raise TypeError(f"top_k must be an int or None, got {top_k!r}") from None
    if not 1 <= count <= length:
        raise ValueError(f"top_k must be from 1 to the number of classes, {length}, got {top_k}")
    return count


def _top_p(top_p: Any) -> Fraction | None:
    """What part of the probability is left, as it is."""
    if top_p is None:
        return None
    try:
        part = float(top_p)
    except (TypeError, ValueError):
        raise TypeError(f"top_p must be a number or None, got {top_p!r}") from None
    if not 0 < part <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
    return Fraction(part)
