"""What is made of a softmax, with one fault each, for the verification to find.

Right ones (correct_scoring.py) compute in long double and round once, so that the planted fault is
the only one.
"""

import inspect

import correct_scoring
import numpy as np
from correct_scoring import (
    WIDE,
    by_rows,
    cross_entropy,
    cross_entropy_and_gradient,
    inverted,
    kl_divergence,
    label_log_probabilities,
    log_sigmoid,
    log_softmax,
    logsumexp_vjp,
    sample,
    sigmoid,
    softmax,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
    top_k,
)

from verification.names import SCORING, SCORING_OPTIONS
from verification.subjects import Subject


def ties_by_higher_index(x, k, *, axis):
    p, order = top_k(np.flip(x, axis), k, axis=axis)
    return p, x.shape[axis] - 1 - order


def probabilities_of_the_k_alone(x, k, *, axis):
    p, order = top_k(x, k, axis=axis)
    with np.errstate(all="ignore"):
        return (p / p.astype(WIDE).sum(axis=axis, keepdims=True)).astype(x.dtype), order


def ascending(x, k, *, axis):
    return tuple(np.flip(part, axis) for part in top_k(x, k, axis=axis))


def k_that_is_cut(x, k, *, axis):
    return top_k(x, min(k, x.shape[axis]), axis=axis)


def largest_of_all_in_spite_of_a_mask(x, k, *, axis, where=None):
    return top_k(x, k, axis=axis)


def top_k_at_temperature_1(x, k, *, axis, temperature=1.0):
    return top_k(x, k, axis=axis)


def label_off_by_one(x, labels, *, axis):
    return label_log_probabilities(x, (labels + 1) % x.shape[axis], axis=axis)


def labels_that_are_cut(x, labels, *, axis):
    return label_log_probabilities(x, np.clip(labels, 0, x.shape[axis] - 1), axis=axis)


def log_of_the_probability(x, labels, *, axis):
    rows, back = by_rows(x, axis)
    p = np.stack([softmax(row) for row in rows]).astype(x.dtype)
    with np.errstate(all="ignore"):
        log = np.log(p.astype(WIDE))
    return back(log[np.arange(len(log)), labels.ravel()])


def ignored_rows_in_the_mean(x, target, *, axis, reduction="mean"):
    loss = cross_entropy(
        x, target, axis=axis, reduction="sum" if reduction == "mean" else reduction
    )
    return loss if reduction != "mean" else (loss / WIDE(target.size)).astype(x.dtype)


def weights_not_in_the_denominator(x, target, *, axis, weight=None, reduction="mean"):
    if reduction != "mean":
        return cross_entropy(x, target, axis=axis, weight=weight, reduction=reduction)
    total = cross_entropy(x.astype(WIDE), target, axis=axis, weight=weight, reduction="sum")
    return (total / max(1, (target != -100).sum())).astype(x.dtype)


def smoothing_over_the_other_classes(x, target, *, axis, label_smoothing=0.0, reduction="mean"):
    n = x.shape[axis]  # 1 - s + s / n is to be 1 - label_smoothing
    smoothing = label_smoothing * n / (n - 1)
    return cross_entropy(x, target, axis=axis, label_smoothing=smoothing, reduction=reduction)


def smoothing_that_weighs_all_classes_alike(
    x, target, *, axis, weight=None, label_smoothing=0.0, reduction="mean"
):
    options = {"axis": axis, "reduction": reduction}
    wide = x.astype(WIDE)
    own = cross_entropy(wide, target, weight=weight, **options)
    alike = cross_entropy(wide, target, label_smoothing=1.0, **options)
    return ((1 - label_smoothing) * own + label_smoothing * alike).astype(x.dtype)


def ignored_class_not_ignored(x, target, *, axis, ignore_index=-100):
    return cross_entropy(x, target, axis=axis)


def nothing_for_the_mean_of_no_row(x, target, *, axis, reduction="mean"):
    loss = cross_entropy(x, target, axis=axis, reduction=reduction)
    return np.nan_to_num(loss)


def losses_in_half_precision(x, target, *, axis):
    losses = cross_entropy(x, target, axis=axis, reduction="none")
    return np.mean(losses, dtype=np.float16).astype(x.dtype)


def gradient_not_scaled(x, target, *, axis, reduction="mean"):
    loss, _ = cross_entropy_and_gradient(x, target, axis=axis, reduction=reduction)
    return loss, cross_entropy_and_gradient(x, target, axis=axis, reduction="sum")[1]


def gradient_that_cancels(x, target, *, axis, reduction="mean"):
    loss, gradient = cross_entropy_and_gradient(x, target, axis=axis, reduction=reduction)
    if reduction == "none":
        rows, back = by_rows(x, axis)
        p = np.stack([softmax(row) for row in rows]).astype(x.dtype)
        gradient = back(p.astype(WIDE) - (np.arange(rows.shape[1]) == target.reshape(-1, 1)))
    return loss, gradient


def gradient_by_the_divided_logits(x, target, *, axis, temperature=1.0):
    loss, gradient = cross_entropy_and_gradient(
        x.astype(WIDE), target, axis=axis, temperature=temperature
    )
    return loss.astype(x.dtype), (gradient * WIDE(temperature)).astype(x.dtype)


def gradient_of_ignored_rows(x, target, *, axis, reduction="mean"):
    loss, gradient = cross_entropy_and_gradient(x, target, axis=axis, reduction=reduction)
    return loss, np.where(gradient == 0, np.asarray(0.25, x.dtype), gradient)


def draws_masked_classes(x, size, *, axis, rng, where=None):
    return sample(x, size, axis=axis, rng=rng)


def draws_at_temperature_1(x, size, *, axis, rng, temperature=1.0):
    return sample(x, size, axis=axis, rng=rng)


def draws_of_all_classes(x, size, *, axis, rng, top_k=None, top_p=None):
    return sample(x, size, axis=axis, rng=rng)


def top_p_without_the_class_that_reaches_it(x, size, *, axis, rng, top_p=None):
    if top_p is None:
        return sample(x, size, axis=axis, rng=rng)
    return sample(x, size, axis=axis, rng=rng, top_p=top_p * 0.8)


def uniforms_of_24_bits(x, size, *, axis, rng):
    rows, back = by_rows(x, axis)
    shape = (len(rows), 1 if size is None else size)
    uniforms = np.random.default_rng(rng).random(shape, np.float32)
    totals = (np.cumsum(softmax(row)) for row in rows)
    drawn = np.stack([inverted(total, u) for total, u in zip(totals, uniforms, strict=True)])
    return back(drawn if size is not None else drawn[:, 0])


def rest_on_the_last_class(x, size, *, axis, rng):
    rows, back = by_rows(x, axis)
    uniforms = np.random.default_rng(rng).random((len(rows), 1 if size is None else size))
    totals = (np.cumsum(softmax(row) * WIDE(0.999)) for row in rows)
    last = rows.shape[1] - 1
    drawn = [
        np.minimum(np.searchsorted(total, u, side="right"), last)
        for total, u in zip(totals, uniforms, strict=True)
    ]
    return back(np.stack(drawn) if size is not None else np.stack(drawn)[:, 0])


def draws_in_pairs(x, size, *, axis, rng):
    if size is None or size < 2:
        return sample(x, size, axis=axis, rng=rng)
    return np.repeat(sample(x, size // 2, axis=axis, rng=rng), 2, axis=axis)


def seed_ignored(x, size, *, axis, rng):
    return sample(x, size, axis=axis, rng=None)


def one_seed_for_all(x, size, *, axis, rng):
    return sample(x, size, axis=axis, rng=7)


def column_by_column(x, size, *, axis, rng):
    """All rows' first draws before their second ones."""
    if size is None:
        return sample(x, size, axis=axis, rng=rng)
    generator = np.random.default_rng(rng)
    drawn = [sample(x, 1, axis=axis, rng=generator) for _ in range(min(size, 30))]
    drawn += [sample(x, size - 30, axis=axis, rng=generator)] if size > 30 else []
    return np.concatenate(drawn, axis=axis)


def draws_of_nan(x, size, *, axis, rng):
    return sample(np.nan_to_num(x), size, axis=axis, rng=rng)


def divergence_the_other_way(p_logits, q_logits, *, axis):
    return kl_divergence(q_logits, p_logits, axis=axis)


def divergence_of_logarithms(p_logits, q_logits, *, axis):
    (xs, back), (ys, _) = by_rows(p_logits, axis), by_rows(q_logits, axis)
    pairs = [(log_softmax(x), log_softmax(y)) for x, y in zip(xs, ys, strict=True)]
    with np.errstate(all="ignore"):
        return back(
            np.array([(np.exp(a) * np.where(a > -np.inf, a - b, 0)).sum() for a, b in pairs])
        )


def divergence_where_0_log_0_is_nan(p_logits, q_logits, *, axis):
    impossible = (p_logits == -np.inf).any(axis=axis)
    value = kl_divergence(p_logits, q_logits, axis=axis)
    return np.where(impossible, np.asarray(np.nan, value.dtype), value)


def product_of_the_other_sign(p, g, *, axis):
    return -softmax_vjp(p, g, axis=axis)


def product_without_the_sum(p, g, *, axis):
    return (p.astype(WIDE) * g).astype(p.dtype)


def product_of_what_cancels(p, g, *, axis):
    wide = p.astype(WIDE)
    mean = (wide * g).sum(axis=axis, keepdims=True)
    return ((wide * g).astype(p.dtype) - (wide * mean).astype(p.dtype)).astype(p.dtype)


def product_along_rows(p, v, *, axis):
    return softmax_jvp(p, v, axis=-1)


def product_of_probabilities(log_p, g, *, axis):
    gs = g.astype(WIDE)
    return (gs - log_p * gs.sum(axis=axis, keepdims=True)).astype(log_p.dtype)


def product_without_the_gradient(x, g, *, axis):
    return logsumexp_vjp(x, np.ones_like(g), axis=axis)


def jacobian_that_cancels(x):
    jacobian = softmax_jacobian(x)
    p = softmax(x.astype(WIDE)).astype(x.dtype)
    np.fill_diagonal(jacobian, p * (1 - p))
    return jacobian


def jacobian_without_the_diagonal(x):
    p = softmax(x.astype(WIDE))
    return (-np.outer(p, p)).astype(x.dtype)


def sigmoid_that_overflows(x):
    with np.errstate(all="ignore"):
        e = np.exp(x)
        return e / (1 + e)


def sigmoid_that_flushes(x):
    with np.errstate(all="ignore"):
        return 1 / (1 + np.exp(-x))


def sigmoid_by_tanh(x):
    return ((np.tanh(x / 2) + 1) / 2).astype(x.dtype)


def log_of_the_sigmoid(x):
    with np.errstate(all="ignore"):
        return np.log(sigmoid(x))


def log_sigmoid_by_log(x):
    """Exact far below 0 alone."""
    wide = x.astype(WIDE)
    small = np.exp(-np.abs(wide))
    return (np.minimum(wide, 0) - np.log((1 + small).astype(np.float64))).astype(x.dtype)


# --- the bits of more than a row, and all functions together --------------------------------


def _described(**others):
    """All correct functions, but for these."""
    functions = {name: getattr(correct_scoring, name) for name in SCORING} | others
    options = {
        name: frozenset(inspect.signature(call).parameters) & set(SCORING_OPTIONS)
        for name, call in functions.items()
    }
    return Subject(name="", version="", functions=functions, options=options)


def bits_of_the_batch(x, *, temperature=1.0):
    """The last bit is another where there are many."""
    result = sigmoid(x, temperature=temperature)
    return np.nextafter(result, np.asarray(1, x.dtype)) if x.size > 99 * x.shape[-1] else result


def bits_of_the_threads(x, *, temperature=1.0):
    import numba

    result = log_sigmoid(x, temperature=temperature)
    return np.nextafter(result, np.asarray(1, x.dtype)) if numba.get_num_threads() > 2 else result


correct = _described()
other_bits = _described(sigmoid=bits_of_the_batch, log_sigmoid=bits_of_the_threads)
