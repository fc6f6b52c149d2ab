"""What is made of a softmax, by its definition, in mpmath: the truth of the suite ``scoring``.

Operands are rows: logits of shape (rows, length), a label or a loss for each. Losses are PyTorch's:
of a row with the coefficients a (weight times target, smoothed),

    loss = -sum a_c log p_c,    d loss / d x_i = (p_i sum a_c - a_i) / T.

Where numbers cancel that no arithmetic can keep apart, because one of them is given rounded or
is a sum itself, an error is measured in ULP of what cancels (`Numbers.size`): in the gradient of
a target that is more than one class, and in products with a Jacobian, p_i (g_i - sum p g). With one
class nothing has to cancel, as p_y - 1 is minus the others' sum.

Sources: the documentation of torch.nn.functional.cross_entropy and kl_div (PyTorch 2.13);
S. Kullback, R. A. Leibler, On information and sufficiency, Ann. Math. Stat. 22 (1951),
doi:10.1214/aoms/1177729694.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from verification.exact import Array, Exact

Number = Any  # mpmath's
Summand = tuple[Number, Number, Number]  # of `Numbers`: exact, size and ordinary

_BITS = 300
# Of two distributions that are a subnormal logit apart, the divergence is 2**-2149.
_BITS_APART = 2600
_APART = mpmath.mpf(2) ** -100

ZERO, NAN, INF = mpmath.mpf(0), mpmath.mpf("nan"), mpmath.mpf("inf")


@dataclass(frozen=True)
class Numbers:
    """Exact results, and what their errors are measured and judged by."""

    exact: Exact
    size: Array  # errors are in ULP of this where it is larger than the result
    ordinary: Array  # the error of the ordinary formula, in unit roundoffs of 1

    @classmethod
    def of(cls, summands: Iterable[Summand], shape: tuple[int, ...]) -> Numbers:
        """From mpmath's numbers, one for each result."""
        exact, size, ordinary = zip(*summands, strict=True)
        sizes, ordinaries = (np.array([float(v) for v in part]) for part in (size, ordinary))
        return cls(
            Exact.of_mpmath(list(exact)).reshape(*shape),
            sizes.reshape(shape),
            ordinaries.reshape(shape),
        )


def defined(function: str, operands: Sequence[Any], options: Mapping[str, Any]) -> tuple[Any, ...]:
    """The results of a function: `Numbers`, or the indices of classes.

    Raises
    ------
    KeyError
        Where the function is not one of `DEFINITIONS`.
    """
    with mpmath.workprec(_BITS):
        return DEFINITIONS[function](*operands, **options)


class Row:
    """The softmax of one row: p, log p, and how many roundings the ordinary formula has."""

    def __init__(self, logits: Array, temperature: Any = 1.0, present: Array | None = None) -> None:
        there = np.ones(len(logits), bool) if present is None else present
        divisor = mpmath.mpf(float(temperature))
        self.x = [
            mpmath.mpf(float(v)) / divisor if here else -INF
            for v, here in zip(logits, there, strict=True)
        ]
        n = len(self.x)
        # NaN, +inf, or no class that is possible: there is no softmax
        if any(mpmath.isnan(v) or v == INF for v in self.x) or all(v == -INF for v in self.x):
            self.p = [NAN if here else ZERO for here in there]
            self.log_p = [NAN if here else -INF for here in there]
            self.roundings = [ZERO] * n
            return
        first = max(range(n), key=self.x.__getitem__)
        distance = [self.x[first] - v for v in self.x]
        terms = [mpmath.exp(-d) for d in distance]
        rest = mpmath.fsum(t for i, t in enumerate(terms) if i != first)
        log_total = mpmath.log1p(rest)
        self.p = [t / (1 + rest) for t in terms]
        self.log_p = [-d - log_total for d in distance]
        # Blanchard, Higham and Higham, as in `references.ordinary_ulps`.
        mean = mpmath.fsum(p * d for p, d in zip(self.p, distance, strict=True) if p)
        self.roundings = [n + 8 + d + mean + log_total for d in distance]

    def others(self, i: int) -> Number:
        """1 - p_i, as the sum of the others."""
        if mpmath.isnan(self.p[i]):
            return NAN
        return mpmath.fsum(p for j, p in enumerate(self.p) if j != i)

    def probability(self, i: int) -> Summand:
        """p_i."""
        return self.p[i], ZERO, self.p[i] * self.roundings[i] if self.p[i] else ZERO

    def log_probability(self, i: int) -> Summand:
        """The logarithm of p_i."""
        return self.log_p[i], ZERO, self.roundings[i]


def _rows(logits: Array, temperature: Any = 1.0, where: Array | None = None) -> list[Row]:
    present = np.ones(logits.shape, bool) if where is None else where
    return [Row(x, temperature, there) for x, there in zip(logits, present, strict=True)]


def _list(values: Array) -> list[Number]:
    return [mpmath.mpf(float(v)) for v in values]


def _dot(a: Sequence[Number], b: Sequence[Number]) -> Number:
    return mpmath.fsum(x * y for x, y in zip(a, b, strict=True) if x)


# --- probabilities and losses ----------------------------------------------------------------


def top_k(logits: Array, k: int, **options: Any) -> tuple[Numbers, Array]:
    """The k most probable classes, of equal ones the first: probabilities of all, and indices."""
    rows = _rows(logits, **options)
    # a sort that keeps the order of equals: the lower index first
    order = [sorted(range(len(row.x)), key=row.x.__getitem__, reverse=True)[:k] for row in rows]
    summands = [row.probability(i) for row, at in zip(rows, order, strict=True) for i in at]
    return Numbers.of(summands, (len(rows), k)), np.array(order)


def label_log_probabilities(logits: Array, labels: Array, **options: Any) -> tuple[Numbers]:
    """log p of a label, or of several, of each row."""
    rows = _rows(logits, **options)
    several = labels.reshape(len(rows), -1)
    summands = [row.log_probability(i) for row, at in zip(rows, several, strict=True) for i in at]
    return (Numbers.of(summands, labels.shape),)


def _coefficients(
    target: Array, length: int, weight: Array | None, ignore_index: int, smoothing: float
) -> tuple[list[list[Number]], Number]:
    """Each row's coefficients a of -log p, and what a mean divides the losses' sum by."""
    weights = [mpmath.mpf(1)] * length if weight is None else _list(weight)
    kept, share = 1 - mpmath.mpf(smoothing), mpmath.mpf(smoothing) / length
    if target.ndim == 2:  # probabilities: a mean is over all rows, whatever they weigh
        return [
            [w * (kept * t + share) for w, t in zip(weights, _list(row), strict=True)]
            for row in target
        ], mpmath.mpf(len(target))
    rows = [
        [
            ZERO if label == ignore_index else w * (kept * (c == label) + share)
            for c, w in enumerate(weights)
        ]
        for label in target
    ]
    return rows, mpmath.fsum(weights[label] for label in target if label != ignore_index)


def cross_entropy_and_gradient(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    temperature: float = 1.0,
    where: Array | None = None,
) -> tuple[Numbers, Numbers]:
    """The loss, and its derivatives by the logits; of losses that are not reduced, by their sum."""
    count, length = logits.shape
    coefficients, weights = _coefficients(target, length, weight, ignore_index, label_smoothing)
    divisor = weights if reduction == "mean" else mpmath.mpf(1)
    losses: list[Summand] = []
    gradients: list[Summand] = []
    for row, a in zip(_rows(logits, temperature, where), coefficients, strict=True):
        used = [i for i in range(length) if a[i]]
        loss = mpmath.fsum(-a[i] * row.log_p[i] for i in used)
        ordinary = mpmath.fsum(a[i] * row.roundings[i] for i in used)
        losses.append((loss, ZERO, ordinary + (length + 8) * loss))
        scale = 1 / (divisor * mpmath.mpf(temperature)) if divisor else NAN
        for i in range(length):
            else_a = mpmath.fsum(a[j] for j in used if j != i)
            down = a[i] * row.others(i) if a[i] else ZERO
            up = row.p[i] * else_a if else_a else ZERO
            parts = max(row.p[i] * (else_a + a[i]), a[i])
            size = parts if up and down else ZERO
            rounded = 2 * parts * (row.roundings[i] + length) if parts else ZERO
            gradients.append(((up - down) * scale, size * scale, rounded * scale))
    gradient = Numbers.of(gradients, logits.shape)
    if reduction == "none":
        return Numbers.of(losses, (count,)), gradient
    if not divisor:  # the mean of no row
        return Numbers.of([(NAN, ZERO, ZERO)], ()), gradient
    loss, ordinary = (mpmath.fsum(part[i] for part in losses) / divisor for i in (0, 2))
    return Numbers.of([(loss, ZERO, ordinary + (count + 2) * loss)], ()), gradient


def cross_entropy(logits: Array, target: Array, **options: Any) -> tuple[Numbers]:
    """The loss of each row, or their sum or mean."""
    return cross_entropy_and_gradient(logits, target, **options)[:1]


def kl_divergence(p_logits: Array, q_logits: Array, **options: Any) -> tuple[Numbers]:
    """sum p (log p - log q), of which a class that p does not have is no part."""
    summands = []
    for i in range(len(p_logits)):
        mask = options.get("where")
        apart = {**options, "where": None if mask is None else mask[i : i + 1]}
        with np.errstate(invalid="ignore"):
            change = [
                mpmath.mpf(float(a)) - float(b)
                for a, b in zip(p_logits[i], q_logits[i], strict=True)
            ]
        near = all(abs(c - change[0]) < _APART for c in change if mpmath.isfinite(c))
        with mpmath.workprec(_BITS_APART if near else _BITS):
            (p,) = _rows(p_logits[i : i + 1], **apart)
            (q,) = _rows(q_logits[i : i + 1], **apart)
            used = [j for j in range(len(p.p)) if p.p[j]]
            value = mpmath.fsum(p.p[j] * (p.log_p[j] - q.log_p[j]) for j in used)
            ordinary = mpmath.fsum(
                p.p[j] * (p.roundings[j] * (1 + abs(p.log_p[j]) + abs(q.log_p[j])) + q.roundings[j])
                for j in used
            )
            summands.append((value, ZERO, ordinary))
    return (Numbers.of(summands, (len(p_logits),)),)


# --- products with a Jacobian ----------------------------------------------------------------


def softmax_vjp(p: Array, g: Array) -> tuple[Numbers]:
    """p_i (g_i - sum p g), of the probabilities that are given: they need not sum to 1."""
    summands = []
    for row in zip(p, g, strict=True):
        ps, gs = map(_list, row)
        total, spread = _dot(ps, gs), _dot(ps, [abs(v) for v in gs])
        for pi, gi in zip(ps, gs, strict=True):
            ordinary = (len(ps) + 8) * pi * (abs(gi) + spread)
            summands.append((pi * (gi - total), pi * max(abs(gi), spread), ordinary))
    return (Numbers.of(summands, p.shape),)


def log_softmax_vjp(log_p: Array, g: Array) -> tuple[Numbers]:
    """g_i - p_i sum g, of the log-probabilities that are given."""
    summands = []
    for row in zip(log_p, g, strict=True):
        logs, gs = map(_list, row)
        total, spread = mpmath.fsum(gs), mpmath.fsum(abs(v) for v in gs)
        for log, gi in zip(logs, gs, strict=True):
            pi = mpmath.exp(log)
            roundings = (len(gs) + 8 + abs(log)) * pi * spread if pi else ZERO
            size = max(abs(gi), pi * spread)
            summands.append((gi - pi * total, size, abs(gi) * 8 + roundings))
    return (Numbers.of(summands, log_p.shape),)


def logsumexp_vjp(x: Array, g: Array) -> tuple[Numbers]:
    """g p_i."""
    summands = [
        tuple(
            part * abs_g
            for part, abs_g in zip(row.probability(i), (gi, ZERO, abs(gi)), strict=True)
        )
        for row, gi in zip(_rows(x), _list(g), strict=True)
        for i in range(x.shape[1])
    ]
    return (Numbers.of(summands, x.shape),)


def softmax_jacobian(x: Array) -> tuple[Numbers]:
    """p_i (1 - p_i) on the diagonal, and -p_i p_j beside it."""
    row, n = Row(x), len(x)
    summands = []
    for i in range(n):
        for j in range(n):
            value = row.p[i] * (row.others(i) if i == j else -row.p[j])
            roundings = row.roundings[i] + row.roundings[j] if value else ZERO
            size = row.p[i] if i == j else abs(value)
            summands.append((value, ZERO, roundings * size))
    return (Numbers.of(summands, (n, n)),)


# --- two classes, of which one has the logit 0 -----------------------------------------------


def _each(x: Array, temperature: float, of: Callable[[Number], Summand]) -> tuple[Numbers]:
    divided = [mpmath.mpf(float(v)) / mpmath.mpf(temperature) for v in x.ravel()]
    summands = [(v, ZERO, ZERO) if mpmath.isnan(v) else of(v) for v in divided]
    return (Numbers.of(summands, x.shape),)


def sigmoid(x: Array, *, temperature: float = 1.0) -> tuple[Numbers]:
    """1 / (1 + exp(-x)), whose limits 0 and 1 are its values at infinity."""

    def of(v: Number) -> Summand:
        value = 1 / (1 + mpmath.exp(-v)) if v >= 0 else mpmath.exp(v) / (1 + mpmath.exp(v))
        return value, ZERO, value * (8 + abs(v)) if value else ZERO

    return _each(x, temperature, of)


def log_sigmoid(x: Array, *, temperature: float = 1.0) -> tuple[Numbers]:
    """-log(1 + exp(-x))."""

    def of(v: Number) -> Summand:
        return min(v, ZERO) - mpmath.log1p(mpmath.exp(-abs(v))), ZERO, 8 + abs(v)

    return _each(x, temperature, of)


DEFINITIONS: Mapping[str, Callable[..., tuple[Any, ...]]] = {
    "top_k": top_k,
    "label_log_probabilities": label_log_probabilities,
    "cross_entropy": cross_entropy,
    "cross_entropy_and_gradient": cross_entropy_and_gradient,
    "kl_divergence": kl_divergence,
    "softmax_vjp": softmax_vjp,
    "log_softmax_vjp": log_softmax_vjp,
    "logsumexp_vjp": logsumexp_vjp,
    "softmax_jvp": softmax_vjp,  # a Jacobian that is symmetric
    "softmax_jacobian": softmax_jacobian,
    "sigmoid": sigmoid,
    "log_sigmoid": log_sigmoid,
}
