"""The truth: softmax, log_softmax, logsumexp and entropy in high precision, by two methods.

``by_mpmath`` computes a few logits with mpmath's 300 bits. ``by_pairs`` computes any number with
pairs of float64 (doubledouble.py) and an exponent beside them: relative error below 2**-70, that
is a hundred-thousandth of an ULP of float64; tests hold it to mpmath. ``truth`` takes the first
up to ``SMALL`` logits.

What the exact result is where there is no number: NaN anywhere makes a row NaN. A row of -inf
alone has the logsumexp -inf, and NaN for all else. +inf makes softmax and entropy NaN and
logsumexp +inf; in log_softmax the finite logits beside it are -inf and +inf itself is NaN. That
is SciPy's way; for the finite logits of such a row both NaN and the limit (0, and -inf) are
accepted of anyone, as there is no number to be right or wrong.

Source: P. Blanchard, D. J. Higham, N. J. Higham, Accurately computing the log-sum-exp and
softmax functions, IMA J. Numer. Anal. 41 (2021), doi:10.1093/imanum/draa038.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import mpmath
import numpy as np

from verification import doubledouble as dd
from verification.exact import Array, Exact
from verification.names import FUNCTIONS, MAPPED, REDUCED

SMALL = 64  # logits; one costs mpmath 50 us, and a pair of float64 0.2
_BLOCK = 1 << 14  # logits whose arrays stay in the second cache
_FAR = -1400.0  # exp of less is 0 in every format, and beside every total


@dataclass(frozen=True)
class Truth:
    """The exact results for rows, and the quantities that error bounds are made of."""

    results: Mapping[str, Exact]  # by function: (rows, length), or (rows,) where it is reduced
    shift: Array  # (rows,): the largest logit, over temperature
    distance: Array  # (rows, length): the logits' distance from it, >= 0
    log_total: Array  # (rows,)
    has_infinity: Array  # (rows,): whether +inf is among the logits

    def of(self, function: str) -> Exact:
        """The exact results of one function."""
        return self.results[function]


def truth(rows: Array, temperature: Any = 1.0, present: Array | None = None) -> Truth:
    """The exact results for ``rows`` (2-d), whose logits are divided by ``temperature``.

    The temperature is one number, or one for each row, of shape (rows, 1). ``present`` is true
    where a logit counts; elsewhere softmax is 0 and log_softmax -inf.
    """
    rows = np.asarray(rows).astype(np.float64)
    if present is None:
        present = np.ones(rows.shape, bool)
    temperature = np.broadcast_to(np.asarray(temperature, np.float64), (len(rows), 1))
    method = by_mpmath if rows.size <= SMALL else by_pairs
    with np.errstate(all="ignore"):
        return _without_numbers(method(rows, temperature, present), rows, present)


def _without_numbers(found: Truth, rows: Array, present: Array) -> Truth:
    """The conventions for rows with NaN, +inf, or nothing but -inf; both methods skip them."""
    nan: Array = np.asarray((np.isnan(rows) & present).any(axis=-1))
    infinite = ((rows == np.inf) & present).any(axis=-1) & ~nan
    nothing = ~((rows > -np.inf) & present).any(axis=-1) & ~nan
    inside = rows == np.inf
    wrong = np.asarray(nan | infinite | nothing)
    softmax = np.where(wrong[:, None], np.nan, found.of("softmax").high)
    log = np.where((nan | nothing)[:, None], np.nan, found.of("log_softmax").high)
    log = np.where(infinite[:, None], np.where(inside, np.nan, -np.inf), log)
    softmax = np.where(present, softmax, 0.0)
    log = np.where(present, log, -np.inf)
    total = np.where(nan, np.nan, found.of("logsumexp").high)
    total = np.where(infinite, np.inf, np.where(nothing, -np.inf, total))
    high = {
        "softmax": softmax,
        "log_softmax": log,
        "logsumexp": total,
        "entropy": np.where(wrong, np.nan, found.of("entropy").high),
    }
    results = {name: _replaced(found.of(name), high[name]) for name in FUNCTIONS}
    return replace(found, results=results, has_infinity=infinite)


def _replaced(exact: Exact, high: Array) -> Exact:
    """The same numbers, but where ``high`` is another: that alone."""
    same = high == exact.high
    return Exact(high, np.where(same, exact.low, 0.0), np.where(same, exact.exponent, 0))


def _countable(rows: Array, present: Array) -> Array:
    """Rows with finite logits, at least one: -inf where a logit is absent, 0 in other rows."""
    x = np.where(present, rows, -np.inf)
    usable = ~(np.isnan(x) | (x == np.inf)).any(axis=-1) & (x > -np.inf).any(axis=-1)
    return np.where(usable[:, None], x, 0.0)


def by_mpmath(rows: Array, temperature: Array, present: Array) -> Truth:
    """One logit after the other, with 300 bits."""
    results: dict[str, list[mpmath.mpf]] = {name: [] for name in FUNCTIONS}
    shifts, distances, log_totals = [], [], []
    with mpmath.workprec(300):
        for row, divisor in zip(_countable(rows, present), temperature[:, 0], strict=True):
            if not len(row):
                for name in REDUCED:  # there is no number, see above
                    results[name].append(mpmath.mpf(0))
                shifts.append(-np.inf)
                log_totals.append(0.0)
                continue
            x = [mpmath.mpf(float(v)) / float(divisor) for v in row]
            place = max(range(len(x)), key=x.__getitem__)
            top = x[place]
            terms = [mpmath.exp(v - top) if v > mpmath.mpf("-inf") else mpmath.mpf(0) for v in x]
            rest = mpmath.fsum(t for i, t in enumerate(terms) if i != place)
            # 300 bits of 1 + rest are not enough for a rest below 2**-300
            log = mpmath.log1p(rest) if rest > mpmath.mpf(2) ** -150 else rest - rest**2 / 2
            results["softmax"] += [t / (1 + rest) for t in terms]
            results["log_softmax"] += [v - top - log for v in x]
            results["logsumexp"].append(top + log)
            weighted = mpmath.fsum(t * (top - v) for t, v in zip(terms, x, strict=True) if t)
            results["entropy"].append(log + weighted / (1 + rest))
            shifts.append(float(top))
            distances += [float(top - v) for v in x]
            log_totals.append(float(log))
        found = {name: Exact.of_mpmath(numbers) for name, numbers in results.items()}
    shape = rows.shape
    return Truth(
        found | {name: found[name].reshape(*shape) for name in MAPPED},
        np.array(shifts, np.float64),
        np.array(distances, np.float64).reshape(shape),
        np.array(log_totals, np.float64),
        np.zeros(len(rows), bool),
    )


def by_pairs(rows: Array, temperature: Array, present: Array) -> Truth:
    """All logits at once, as pairs of float64; in pieces of rows that fit the cache."""
    step = max(1, _BLOCK // max(1, rows.shape[-1]))
    pieces = [
        _piece(_countable(rows[i : i + step], present[i : i + step]), temperature[i : i + step])
        for i in range(0, len(rows), step)
    ]
    if len(pieces) == 1:
        return pieces[0]
    return Truth(
        results={name: Exact.joined([p.of(name) for p in pieces]) for name in FUNCTIONS},
        shift=np.concatenate([p.shift for p in pieces]),
        distance=np.concatenate([p.distance for p in pieces]),
        log_total=np.concatenate([p.log_total for p in pieces]),
        has_infinity=np.concatenate([p.has_infinity for p in pieces]),
    )


def _over(x: dd.Double, temperature: Array) -> dd.Double:
    if np.all(temperature == 1):
        return x
    return dd.divide(x, (temperature, np.zeros_like(temperature)))


def _piece(x: Array, temperature: Array) -> Truth:
    """Rows of finite numbers and -inf, with at least one of the former."""
    top = x.max(axis=-1, keepdims=True)
    # A difference of numbers near the largest overflows, and so does a product: scale them.
    spread = np.abs(np.where(np.isfinite(x), x, 0.0)).max(axis=-1, keepdims=True)
    scale = np.where(spread > 2.0**900, 2.0**-100, 1.0)

    def terms(x: Array) -> tuple[Array, ...]:
        finite = np.isfinite(x)
        d = dd.two_sum(np.where(finite, x, top) * scale, -top * scale)
        d = _over(d, temperature)
        near = d[0] > _FAR * scale
        term, power = dd.exponential(
            (np.where(near, d[0] / scale, _FAR), np.where(near, d[1] / scale, 0.0))
        )
        return (
            np.where(finite, d[0], -np.inf),
            np.where(finite, d[1], 0.0),
            np.where(finite, term[0], 0.0),
            np.where(finite, term[1], 0.0),
            power.astype(np.int32),
        )

    d_high, d_low, term_high, term_low, power = _in_blocks(terms, x)

    # The largest term, 1, is kept out of the sum; the others are summed relative to the largest
    # of them, so that a sum far below the smallest float64 keeps its bits.
    first = x.argmax(axis=-1)[:, None]
    np.put_along_axis(term_high, first, 0.0, axis=-1)
    np.put_along_axis(term_low, first, 0.0, axis=-1)
    nothing = np.iinfo(np.int32).min
    level = np.where(term_high != 0, power, nothing).max(axis=-1)
    level = np.where(level == nothing, 0, level)

    def scaled(d_high: Array, d_low: Array, *parts: Array) -> tuple[Array, ...]:
        high, low, power = parts
        term = _scaled_by((high, low), power - level[:, None])
        near = d_high > _FAR * scale
        d = np.where(near, d_high / scale, _FAR), np.where(near, d_low / scale, 0.0)
        return *term, *dd.multiply(term, (-d[0], -d[1]))

    summands = _in_blocks(scaled, d_high, d_low, term_high, term_low, power)
    (high, low), (d_sum, d_sum_low) = dd.total(summands[:2]), dd.total(summands[2:])  # type: ignore[arg-type]
    rest = high[:, 0], low[:, 0]
    plain = _scaled_by(rest, level)
    total = dd.add((np.ones(len(x)), np.zeros(len(x))), plain)
    np.put_along_axis(term_high, first, 1.0, axis=-1)

    # log(1 + rest) is rest itself where that is below 2**-200.
    tiny = level < -200
    log = dd.log1p((np.where(tiny, 0.0, plain[0]), np.where(tiny, 0.0, plain[1])))
    log = np.where(tiny, rest[0], log[0]), np.where(tiny, rest[1], log[1])
    base = np.where(tiny, level, 0)
    log_exact = Exact.of(log[0], log[1], base)
    # Both summands of the entropy are positive: nothing cancels.
    mean = dd.divide(_scaled_by((d_sum[:, 0], d_sum_low[:, 0]), level - base), total)
    entropy = Exact.of(*dd.add(log, mean), base)
    log = _scaled_by(log, base)
    log_row = log_exact.high[:, None], log_exact.low[:, None], log_exact.exponent[:, None]

    def finish(d_high: Array, d_low: Array, term: Array, low: Array, power: Array) -> Any:
        probability = dd.divide((term, low), (total[0][:, None], total[1][:, None]))
        softmax = Exact.of(probability[0], probability[1], power)
        value = dd.add((d_high, d_low), (-log[0][:, None] * scale, -log[1][:, None] * scale))
        finite = np.isfinite(d_high)
        below = Exact.of(
            np.where(finite, value[0], -np.inf),
            np.where(finite, value[1], 0.0),
            np.where(scale == 1, 0, 100),
        )
        # The largest logit's distance is 0, and its log-probability minus log(total) itself.
        at_top = d_high == 0
        return (
            *(softmax.high, softmax.low, softmax.exponent),
            np.where(at_top, -log_row[0], below.high),
            np.where(at_top, -log_row[1], below.low),
            np.where(at_top, log_row[2], below.exponent),
            -d_high / scale,
        )

    found = _in_blocks(finish, d_high, d_low, term_high, term_low, power)

    # The same for logsumexp where the largest logit is 0; tiny ones are scaled up before adding,
    # and huge ones down.
    top_row = top[:, 0] * scale[:, 0]
    lift = np.where(np.abs(top_row) < 2.0**-700, 300, 0)
    shift = _over((np.ldexp(top_row, lift), np.zeros(len(x))), temperature[:, 0])
    raised = _scaled_by((log_exact.high, log_exact.low), log_exact.exponent + lift)
    raised = raised[0] * scale[:, 0], raised[1] * scale[:, 0]
    summed = dd.add(shift, raised)
    at_zero = shift[0] == 0
    above = Exact.of(summed[0], summed[1], np.where(scale[:, 0] == 1, 0, 100) - lift)
    logsumexp = Exact(
        np.where(at_zero, log_exact.high, above.high),
        np.where(at_zero, log_exact.low, above.low),
        np.where(at_zero, log_exact.exponent, above.exponent),
    )
    return Truth(
        results={
            "softmax": Exact(*found[:3]),
            "log_softmax": Exact(*found[3:6]),
            "logsumexp": logsumexp,
            "entropy": entropy,
        },
        shift=np.ldexp(shift[0], -lift) / scale[:, 0],
        distance=found[6],
        log_total=log[0],
        has_infinity=np.zeros(len(x), bool),
    )


def _in_blocks(function: Any, *arrays: Array) -> tuple[Array, ...]:
    """An elementwise function of long rows, in pieces that fit the cache: 2.5x at 10 million."""
    length = arrays[0].shape[-1]
    if length <= 2 * _BLOCK:
        return tuple(function(*arrays))
    results: tuple[Array, ...] = ()
    for start in range(0, length, _BLOCK):
        place = np.s_[:, start : start + _BLOCK]
        pieces = function(*(array[place] for array in arrays))
        if not results:
            results = tuple(np.empty(arrays[0].shape, piece.dtype) for piece in pieces)
        for result, piece in zip(results, pieces, strict=True):
            result[place] = piece
    return results


def _scaled_by(pair: dd.Double, exponent: Any) -> dd.Double:
    exponent = np.clip(exponent, -3000, 3000).astype(np.int32)
    return np.ldexp(pair[0], exponent), np.ldexp(pair[1], exponent)


def ordinary_ulps(function: str, found: Truth, unit: float, smallest: int) -> Array:
    """The error in ULP that rounding explains in the ordinary shifted formula.

    An a-priori bound in the manner of Blanchard, Higham and Higham, section 4: each difference,
    exponential, sum, logarithm and quotient rounded to the result's type, the sum one term after
    the other. A larger error is not rounding: something is wrong. ``unit`` is the unit roundoff,
    ``smallest`` the exponent of the smallest normal number.

    softmax: (n + 3 + d_i + D) u p_i, where d_i is the distance from the largest logit and
    D = sum p_j d_j; log_softmax: (d_i + n + 2 + D + log total) u; logsumexp the same with the
    largest logit for d_i; and one rounding of the result. entropy, as -sum p_i log p_i: those
    errors of p_i times abs(log p_i) = d_i + log total, those of log p_i times p_i, and those of
    products and sum, (n + 1) u H. Added up: (2 n + 4 + D) H + sum p_j d_j**2 + D log total
    + n + 2 + 2 D + log total, which does not vanish where H does.
    """
    length = found.distance.shape[-1]
    with np.errstate(all="ignore"):
        softmax = found.of("softmax")
        p = np.ldexp(softmax.high, np.clip(softmax.exponent, -1074, 0).astype(np.int32))
        mean = np.where(p > 0, p * found.distance, 0.0).sum(axis=-1)
        if function == "softmax":
            # u p_i is less than an ULP; subnormal exponentials and results lose half of one
            # more. A bound of a quarter of the result is none: sums that overflow are wrong.
            ulp = 2 * unit * 2.0 ** np.maximum(softmax.exponent, smallest)
            quarter = np.where(p > 0, np.maximum(4.0, p / ulp / 4), np.inf)
            return np.asarray(np.minimum(length + 4 + found.distance + mean[:, None], quarter))
        absolute = length + 2 + mean + found.log_total
        if function == "log_softmax":
            absolute = found.distance + absolute[:, None]
        elif function == "logsumexp":
            absolute = np.abs(found.shift) + absolute
        else:
            squares = np.where(p > 0, p * found.distance**2, 0.0).sum(axis=-1)
            entropy = found.log_total + mean
            absolute = absolute + mean + (2 * length + 4 + mean) * entropy
            absolute = absolute + squares + found.log_total * mean
        exponent = found.of(function).exponent
        ulp = np.ldexp(2 * unit, np.clip(exponent, -1000, 1000).astype(np.int32))
        return np.asarray(2 + absolute * unit / ulp)


def cancellation(function: str, found: Truth) -> Array:
    """By what logsumexp's allowance grows where its shift and the log of its total cancel; or 1.

    The condition number of Blanchard, Higham and Higham, max|x_j| / |logsumexp|, taken for the
    largest logit alone: a rounding of the shift moves the result by that many roundings of its
    own. At least 1. In the other functions nothing has to cancel.
    """
    if function != "logsumexp":
        return np.ones(1)
    with np.errstate(all="ignore"):
        total = found.of(function)
        result = np.ldexp(total.high, np.clip(total.exponent, -1074, 1023).astype(np.int32))
        ratio = np.abs(found.shift) / np.abs(result)
    return np.where(np.isfinite(ratio), np.maximum(1.0, ratio), 1.0)
