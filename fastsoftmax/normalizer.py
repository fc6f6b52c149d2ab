"""The normalizer as an object: a sum of exponentials that more can be added to."""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax import call, checks, containers, layout
from fastsoftmax.cpu import streams
from fastsoftmax.loaded import type_name

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

# The largest logit whose power of two is an integer that float64 holds exactly, with a weight's.
_HIGHEST = 2.0**50


class Normalizer:
    r"""The logarithm of a sum of exponentials that is never there as a whole.

    .. math:: \log \sum_j b_j e^{x_j}

    Over a data set in files or a stream, over the chunks of long rows, over what many processes
    have. `update` adds logits, `merge` another normalizer, `logsumexp` tells the result so far:
    ``exp(x - normalizer.logsumexp())`` are then the probabilities of all x that were added.

    A new normalizer is of nothing, whose logarithm is -inf. Its first update decides its shape:
    that of `logsumexp` of the chunk, without the axes that are summed. All others have that shape.
    It may be used by several threads at once, pickled, and copied.

    Attributes
    ----------
    shape : tuple of ints or None
        How many sums there are, each on its own; None before the first update.
    count : int or ndarray of int64
        How many logits have been added to each: not those that were masked or had a weight of 0.

    Notes
    -----
    The result depends on what was added alone: not on how it was cut into chunks, on their order,
    the tree by which normalizers were merged, the layout, threads, processes or the CPU. Terms are
    counted, as integers, on grids at absolute places, of which the three that the largest term
    reaches are kept: of each term at most 2**-97 of the largest one is left out. The largest that
    has no weight is kept apart, as in rows. So the bounds of the error are those of `logsumexp` in
    float64: 1.1 ULP, times its condition number where shift and logarithm cancel.

    The bits are those of one go, ``fastsoftmax.logsumexp`` of all n logits in float64,

    - without weights, the largest logit within 2**20 of 0: but where the result, or the sum of all
      others over the largest term, lies within n 2**-96 of itself from the middle between two
      float64 numbers, which is a case in 2**42 / n;
    - with weights throughout: but where the sum of n terms lies within n 2**-96 of the largest from
      such a middle, as it may where weights of both signs cancel.

    Otherwise they may differ in the last bit where the logarithm is as near to a middle as this:
    2**-55 where the largest logit is beyond 2**20, as one go takes it off before anything else (a
    step of the result is 2**-32 or more there); 2**-34 beyond 2**40 (2**-12); and 2**-60 of all
    terms' sizes where some updates have weights and others have none.

    An update takes up to twice as long as `logsumexp` of the chunk in float64, or with its weights;
    of rows of a few logits 0.1 us for each. A sum takes 88 bytes.

    Source: J. Demmel, H. D. Nguyen, Parallel reproducible summation, IEEE Transactions on Computers
    64 (2015), doi:10.1109/TC.2014.2345391.

    Examples
    --------
    >>> import fastsoftmax
    >>> total = fastsoftmax.Normalizer()
    >>> for chunk in ([1.0, 2.0], [1000.0], [999.0, -5.0]):
    ...     total.update(chunk)
    >>> total
    Normalizer(logsumexp=1000.3132616875182, count=5)
    >>> rows, more = fastsoftmax.Normalizer(), fastsoftmax.Normalizer()
    >>> rows.update([[0.0, 1.0], [2.0, 3.0]], axis=-1)
    >>> more.update([[0.5], [3.5]], axis=-1)
    >>> rows.merge(more).logsumexp()
    array([1.68026967, 4.10413061])
    """

    def __init__(self) -> None:
        self._state: _State | None = None
        self._lock = threading.Lock()

    @property
    def shape(self) -> Shape | None:
        """How many sums there are, each on its own; None before the first update."""
        state = self._state
        return None if state is None else state.shape

    @property
    def count(self) -> Any:
        """How many logits have been added to each sum."""
        state = self._state
        if state is None:
            return 0
        counts = state.counts.reshape(state.shape)
        return counts.copy() if state.shape else int(counts)

    def update(
        self, x: Any, axis: Any = None, b: Any = None, where: Any = None, *, dim: Any = None
    ) -> None:
        """Add the exponentials of logits.

        Parameters
        ----------
        x : array_like
            Logits of any shape, layout and real type up to float64, in whatever `softmax` takes on
            the host. They are summed in float64.
        axis : int, tuple of ints or None
            What is added up, as for `logsumexp`: these axes together, or the whole array (None).
            What is left is the normalizer's shape.
        b : array_like, optional
            Weights, which broadcast with ``x``; they may be negative. Where one is 0, the logit is
            absent, whatever it is. Sums with weights take logits up to 2**50 (1.1e15), and what is
            below -2**59 counts as nothing.
        where : array_like of bool, optional
            Broadcasts to ``x``: elements left out count as absent.
        dim : name, several names, or ...
            Instead of ``axis``: the dimensions of xarray's objects, by name.

        Raises
        ------
        TypeError, ValueError
            As for `logsumexp`; also for complex numbers, long double, an xarray.Dataset and arrays
            on a GPU, and for chunks of another shape than the normalizer's. Nothing is added then.
        """
        if containers.container_of(x).parts("x", x, None, None) is not None:
            raise TypeError(f"x must be one array, got {type_name(x)}: update with each of its own")
        state: _State = call.on_host(
            _Chunk, _UPDATE, "x", x, axis, dim=dim, b=b, where=where, dtype=None
        )
        self._join(state, "x")

    def merge(self, other: Normalizer) -> Normalizer:
        """Add all that another normalizer has, which stays as it is; return this one.

        Raises
        ------
        TypeError
            For what is no normalizer.
        ValueError
            For one of another shape, or one with weights where logits are beyond 2**50.
        """
        if not isinstance(other, Normalizer):
            raise TypeError(f"other must be a Normalizer, got {type_name(other)}")
        state = other._state
        if state is not None:
            self._join(state, "other")
        return self

    def logsumexp(self, *, return_sign: bool = False) -> Any:
        """The logarithm of the sum so far.

        Parameters
        ----------
        return_sign : bool
            Return the logarithm of the sum's absolute value, and the sum's sign: 1, 0 or -1.
            Without it, a negative sum gives NaN.

        Returns
        -------
        float64 or ndarray of float64; with ``return_sign`` a pair
            -inf for nothing, NaN where NaN was added, else inf where inf was.
        """
        state = self._state
        if state is None:
            state = _State.of_nothing(())
        value, sign = streams.logarithms(state.sums, state.weighted)
        if sign is None:
            sign = np.where(value == -np.inf, 0.0, np.where(np.isnan(value), np.nan, 1.0))
        elif not return_sign:
            value = np.where(sign < 0, np.nan, value)
        value, sign = (each.reshape(state.shape)[()] for each in (value, sign))
        return (value, sign) if return_sign else value

    def _join(self, more: _State, name: str) -> None:
        with self._lock:
            self._state = more if self._state is None else self._state.joined(more, name)

    def __repr__(self) -> str:
        state = self._state
        if state is None or not state.shape:
            return f"Normalizer(logsumexp={float(self.logsumexp())!r}, count={self.count})"
        return f"Normalizer(shape={state.shape}, count={int(state.counts.sum())})"

    def __getstate__(self) -> _State | None:
        return self._state

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._state and tuple(self._state),)


def _restored(state: tuple[Any, ...] | None) -> Normalizer:
    """A normalizer from what was pickled of one."""
    normalizer = Normalizer()
    normalizer._state = None if state is None else _State(*state)
    return normalizer


class _State(NamedTuple):
    """Sums, of which none is ever written to again: whoever has one may read it at any time."""

    shape: Shape
    sums: streams.Sums
    counts: Array
    weighted: bool

    @classmethod
    def of_nothing(cls, shape: Shape) -> _State:
        """Sums of no logit."""
        several = math.prod(shape)
        nothing = streams.summed(np.full((several, 1), -np.inf), None, None)
        return cls(shape, nothing, np.zeros(several, np.int64), False)

    def joined(self, more: _State, name: str) -> _State:
        """The sums of both, of which ``name`` is the argument that the second came as."""
        if more.shape != self.shape:
            raise ValueError(f"{name} makes sums of shape {more.shape}, and there are {self.shape}")
        weighted = self.weighted or more.weighted
        if weighted:
            self.check_weights("the normalizer")
            more.check_weights(name)
        sums = streams.Sums(*(each.copy() for each in self.sums))
        streams.add(sums, more.sums)
        return _State(self.shape, sums, self.counts + more.counts, weighted)

    def check_weights(self, name: str) -> None:
        """Refuse logits that are too large beside weights."""
        highest = self.sums.floats[[0, 2]].max(initial=-np.inf)
        if highest > _HIGHEST:
            raise ValueError(f"sums with weights take logits up to 2**50, {name} has {highest}")


class _Update(NamedTuple):
    """What a call has to know of an update."""

    name: str = "Normalizer"
    mapped: bool = False
    absent: float = -np.inf
    real: bool = True


_UPDATE = _Update()


class _Chunk(call.Call):
    """A chunk of logits, and its sums."""

    def plain(self) -> _State:
        """The sums, one for each row."""
        if not checks.has_kernel(self._computed):
            raise TypeError(f"x and b must be of float64 or narrower, got {self._computed}")
        shape = checks.reduced_shape(self._shape, self._axes, keepdims=False)
        if self._values.size == 0:
            return _State.of_nothing(shape)._replace(weighted=self._weight is not None)
        rows = layout.rows_of(self._values, self._axes, last=True)
        seen = layout.stored(rows.view(self._values))
        mask, weight = self._mask, self._weight
        if weight is not None:
            weight = np.broadcast_to(checks.cast(weight, np.dtype(np.float64)), self._shape)
            weight = weight if mask is None else np.where(mask, weight, 0.0)
            mask = weight != 0
            sums = streams.summed(seen, None, rows.view(weight))
        else:
            sums = streams.summed(seen, None if mask is None else rows.view(mask), None)
        # a column for each place of the normalizer's shape, in its order
        sums = streams.Sums(*(
            np.stack([rows.back(line, False).reshape(-1) for line in each])
            for each in sums
        ))  # fmt: skip
        counts = np.full(shape, seen.shape[1], np.int64)
        if mask is not None:
            counts = np.count_nonzero(mask, axis=self._axes)
        state = _State(shape, sums, np.asarray(counts, np.int64).reshape(-1), weight is not None)
        if state.weighted:
            state.check_weights("x")
        return state
