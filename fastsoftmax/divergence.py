"""kl_divergence: how far one softmax is from another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastsoftmax import arguments, call, checks, layout
from fastsoftmax.cpu import calls
from fastsoftmax.functions import Axis

Array = np.ndarray[Any, Any]


def kl_divergence(
    p_logits: Any,
    q_logits: Any,
    axis: Axis = -1,
    *,
    where: Any = None,
    temperature: Any = 1.0,
    dtype: Any = None,
    dim: Any = None,
) -> Any:
    r"""The Kullback-Leibler divergence of one softmax from another, in nats.

    .. math:: \sum_i p_i (\log p_i - \log q_i), \quad p = \mathrm{softmax}(x / T),
        \quad q = \mathrm{softmax}(y / T)

    Parameters
    ----------
    p_logits : array_like
        The logits x of p, as for `softmax`.
    q_logits : array_like
        The logits y of q. They broadcast to the shape of ``p_logits``: one q for many p. Labels
        are matched as for ``where``.
    axis : int, tuple of ints or None
        What is one distribution: along these axes together, or the whole array (None).
    where, temperature, dim
        As for `softmax`, for both: classes that ``where`` leaves out are in neither.
    dtype : dtype, optional
        The result's type; without it, the wider of both logits'.

    Returns
    -------
    ndarray, scalar, or what ``p_logits`` was
        Without the reduced axes; never negative, and 0 where the logits are equal, or differ by
        the same number in each class. A class that p has not (a logit of -inf) contributes 0; inf
        where q lacks one that p has, however unlikely there. NaN where softmax of either is: NaN
        or +inf anywhere, and rows without a class that is possible.

    Raises
    ------
    TypeError, ValueError
        As for `softmax`; also for complex numbers, long double, ``q_logits`` of a shape that does
        not broadcast, and for arrays on a GPU.

    Notes
    -----
    With d_i = (x_i - y_i) / T and m its mean under p, this is

    .. math:: \log \Big( 1 + \sum_i p_i \, \varphi(d_i - m) \Big),
        \quad \varphi(t) = e^{-t} - 1 + t \ge 0,

    of which no term cancels, however near the two are, where p (log p - log q) loses all.

    Error: at most 1.3 ULP for float64, 0.51 for float32, float16 and bfloat16, which are computed
    in float64; at any closeness, spread, offset and length, subnormal results included. 0.5 is for
    the one rounding. The rest is relative to the result: 2**-54.8 for p's exponentials, each right
    to 2**-55.8 (errors e_i of them change the divergence by sum p_i e_i f_i, where the f_i = d_i -
    m - 1 + q_i / p_i have the mean 0, and none is less than minus the divergence); 2**-54.4 for
    phi, next to 0 a polynomial (beyond, 2**-55.2 for subtracting less than 0.41 of its exponential
    from it); 2**-56 for the logarithm. (The largest error found is 0.74.)
    Bits as for `softmax`.

    Source: S. Kullback, R. A. Leibler, On information and sufficiency, Annals of Mathematical
    Statistics 22 (1951), doi:10.1214/aoms/1177729694.

    Examples
    --------
    >>> import fastsoftmax
    >>> float(fastsoftmax.kl_divergence([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]))
    1.150420765208883
    >>> float(fastsoftmax.kl_divergence([1.0, 2.0], [1.0, 2.0 + 1e-12]))
    9.832344631302901e-26
    """
    return call.on_host(
        _Divergence, _Function(), "p_logits", p_logits, axis, dim=dim, q_logits=q_logits,
        where=where, temperature=temperature, dtype=dtype,
    )  # fmt: skip


class _Function:
    """What a call has to know of it; see `call.Function`."""

    name, mapped, absent, real = "kl_divergence", False, math.nan, True


class _Divergence(call.Call):
    """A call with two arrays of logits."""

    def __init__(
        self, function: call.Function, name: str, x: Any, *others: Any, q_logits: Any, dtype: Any,
        **beside: Any,
    ) -> None:  # fmt: skip
        given = arguments.unwrap(name, x)
        q = arguments.operand("q_logits", q_logits, given)
        both = checks.floating(name, given.values), checks.floating("q_logits", q)
        checks.check_real(function.name, "q_logits", *[both[1]] * 2)
        computed = checks.wider(*both)
        dtype = computed if dtype is None else dtype
        super().__init__(function, name, x, *others, dtype=dtype, **beside)
        for what, kind in ((name, both[0]), ("q_logits", both[1]), ("dtype", self._result)):
            if not checks.has_kernel(kind):
                raise TypeError(
                    f"{what} must be float64 or narrower for {function.name}, got {kind!r}"
                )
        self._computed = checks.wider(self._computed, computed)
        self._values = self._values.astype(self._computed, copy=False)
        # cast before it is spread: one q for many p is no array as large as these
        q = q.astype(self._computed, copy=False)
        self._q = checks.broadcast("q_logits", q, self._shape)

    def _computed_rows(self) -> Array:
        """The divergences, with the reduced axes at length 1."""
        p, q, mask = self._values, self._q, self._mask
        if p.size == 0:
            return super()._computed_rows()
        temperature = np.array(1.0)
        if self._temperature is not None:
            (p, temperature), (q, _) = (
                checks.at_limits(each, self._temperature, mask, self._axes) for each in (p, q)
            )
        rows = layout.rows_of(p, self._axes, last=True)
        out = rows.empty(self._computed, False)
        x, y, results = (layout.stored(each) for each in (rows.view(p), rows.view(q), out))
        counted = None if mask is None else rows.view(mask)
        calls.divergence(x, y, results, rows.view_rows(temperature), counted)
        return rows.back(out, False)
