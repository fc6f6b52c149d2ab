"""What is made of a softmax, in long double (64 bits), rounded once: to be let pass.

Rows are computed one after the other: it is clearness that counts here.
"""

import numpy as np

WIDE = np.longdouble


def by_rows(x, axis):
    """Rows along an axis in long double, and how an array of them is brought back."""
    moved = np.moveaxis(np.asarray(x), axis, -1)
    kept = moved.shape[:-1]

    def back(rows, like=x):
        with np.errstate(all="ignore"):
            rows = np.asarray(rows)
            if rows.dtype == WIDE:
                rows = rows.astype(like.dtype)
        rows = rows.reshape(*kept, *rows.shape[1:])
        return np.moveaxis(rows, -1, axis) if rows.ndim > len(kept) else rows[()]

    # millions of classes need no more than float64, and half the time
    return moved.reshape(-1, moved.shape[-1]).astype(WIDE if x.size < 1e6 else np.float64), back


def _logits(x, axis, where=None, temperature=1.0):
    """The same of logits over temperature, -inf where they are left out."""
    rows, back = by_rows(x, axis)
    rows = rows / rows.dtype.type(temperature)
    if where is not None:
        mask, _ = by_rows(where, axis)
        rows = np.where(mask != 0, rows, -np.inf)
    return rows, back


def log_softmax(row):
    """log p, exact next to 0, too: one of the largest terms stays out of the sum."""
    first = row.argmax()
    with np.errstate(all="ignore"):
        shifted = row - row[first]
        return shifted - np.log1p(np.exp(np.delete(shifted, first)).sum())


def softmax(row):
    with np.errstate(all="ignore"):
        return np.exp(log_softmax(row))


# --- top classes and labels ------------------------------------------------------------------


def top_k(x, k, *, axis, where=None, temperature=1.0):
    rows, back = _logits(x, axis, where, temperature)
    if k > rows.shape[1]:
        raise ValueError(f"k must be at most {rows.shape[1]}, got {k}")
    order = np.argsort(-rows, axis=1, kind="stable")[:, :k]
    p = np.stack([softmax(row) for row in rows])
    return back(np.take_along_axis(p, order, 1)), back(order)


def label_log_probabilities(x, labels, *, axis, where=None, temperature=1.0):
    rows, back = _logits(x, axis, where, temperature)
    _check(labels, rows.shape[1])
    log = np.stack([log_softmax(row) for row in rows])
    if labels.ndim == x.ndim:
        return back(np.take_along_axis(log, by_rows(labels, axis)[0].astype(int), 1))
    return back(log[np.arange(len(log)), labels.ravel()])


def _check(labels, length):
    wrong = (labels < 0) | (labels >= length)
    if wrong.any():
        raise ValueError(f"labels must be from 0 to {length - 1}, got {labels[wrong][0]}")


# --- losses ----------------------------------------------------------------------------------


def _coefficients(target, length, weight, ignore_index, smoothing, axis, dimensions):
    """Each row's coefficients of -log p, and what a mean divides by."""
    weight = np.ones(length, WIDE) if weight is None else weight.astype(WIDE)
    kept, share = 1 - WIDE(smoothing), WIDE(smoothing) / length
    if target.ndim == dimensions:
        rows = by_rows(target, axis)[0]
        return weight * (kept * rows + share), len(rows)
    labels = target.ravel()
    there = labels != ignore_index
    _check(labels[there], length)
    hot = np.arange(length) == labels[:, None]
    return there[:, None] * weight * (kept * hot + share), weight[labels[there]].sum()


def cross_entropy_and_gradient(
    x,
    target,
    *,
    axis,
    weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    reduction="mean",
    where=None,
    temperature=1.0,
):
    rows, back = _logits(x, axis, where, temperature)
    a, divisor = _coefficients(
        *(target, rows.shape[1], weight, ignore_index, label_smoothing, axis, x.ndim)
    )
    with np.errstate(all="ignore"):
        log = np.stack([log_softmax(row) for row in rows])
        losses = np.where(a != 0, -a * log, 0).sum(axis=1)
        scale = WIDE(1) / WIDE(temperature) / (divisor if reduction == "mean" else 1)
        p = np.exp(log)
        gradient = p * (a.sum(axis=1, keepdims=True) - a) - a * others(p)
        if reduction == "none":
            return back(losses), back(gradient * scale)
        loss = losses.sum() / (divisor if reduction == "mean" else 1)
        return loss.astype(x.dtype), back(gradient * scale)


def others(p):
    """1 - p, as the sum of the others where it is small."""
    rest = 1 - p
    for i, j in np.argwhere(p > 0.5):
        rest[i, j] = np.delete(p[i], j).sum()
    return rest


def cross_entropy(
    x,
    target,
    *,
    axis,
    weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    reduction="mean",
    where=None,
    temperature=1.0,
):
    return cross_entropy_and_gradient(
        x,
        target,
        axis=axis,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        where=where,
        temperature=temperature,
    )[0]


# --- draws -----------------------------------------------------------------------------------


def _kept(p, top_k, top_p):
    """The probabilities of the most probable classes alone."""
    if top_k is None and top_p is None:
        return p
    order = np.argsort(-p, kind="stable")[:top_k]
    if top_p is not None:
        total = np.cumsum(p[order]) / p[order].sum()
        order = order[: int(np.argmax(total >= top_p)) + 1]
    return np.where(np.isin(np.arange(len(p)), order), p, 0)


def sample(x, size, *, axis, rng, where=None, temperature=1.0, top_k=None, top_p=None):
    rows, back = _logits(x, axis, where, temperature)
    if (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("top_k or top_p leaves no class")
    if np.isnan(rows).any() or (rows == -np.inf).all(axis=1).any():
        raise ValueError("a row has no class that can be drawn")
    uniforms = np.random.default_rng(rng).random((len(rows), 1 if size is None else size))
    p = [_kept(softmax(row), top_k, top_p) for row in rows]
    drawn = np.stack([inverted(np.cumsum(row), u) for row, u in zip(p, uniforms, strict=True)])
    return back(drawn if size is not None else drawn[:, 0])


def inverted(total, uniforms):
    """The first class whose probability, with all before it, is beyond a share of the total."""
    return np.searchsorted(total, uniforms * total[-1], side="right")


# --- divergences, products and sigmoids ------------------------------------------------------


def kl_divergence(p_logits, q_logits, *, axis, where=None, temperature=1.0):
    p_rows, back = _logits(p_logits, axis, where, temperature)
    q_rows, _ = _logits(q_logits, axis, where, temperature)
    return back(np.array([_divergence(*rows) for rows in zip(p_rows, q_rows, strict=True)]))


def _divergence(x, y):
    """log(1 + sum p phi(d - mean d)), phi(t) = exp(-t) - 1 + t: no term cancels."""
    log_p, log_q = log_softmax(x), log_softmax(y)
    if np.isnan(log_p).any() or np.isnan(log_q).any():
        return WIDE(np.nan)
    there = log_p > -np.inf
    if (log_q[there] == -np.inf).any():
        return WIDE(np.inf)
    p, d = np.exp(log_p[there]), (x - y)[there]
    t = d - d[p.argmax()]
    t = t - (p * t).sum()
    if (t < -11000).any():  # exp overflows; the divergence is large
        return (p * (log_p - log_q)[there]).sum()
    phi = t * t / 2 * (1 - t / 3 * (1 - t / 4 * (1 - t / 5 * (1 - t / 6 * (1 - t / 7)))))
    far = np.abs(t) > 1e-3
    phi[far] = (np.expm1(-t) + t)[far]
    rest = (p * phi).sum()
    mass = p * np.exp(-t)  # of q, relative to its total
    if not there.all():  # what q has where p has nothing
        rest += np.exp(log_q[~there]).sum() / np.exp(log_q[there]).sum() * mass.sum()
    return np.log1p(rest)


def softmax_vjp(p, g, *, axis):
    rows, back = by_rows(p, axis)
    gs, _ = by_rows(g, axis)
    return back(rows * (gs - (rows * gs).sum(axis=1, keepdims=True)))


def softmax_jvp(p, v, *, axis):
    return softmax_vjp(p, v, axis=axis)


def log_softmax_vjp(log_p, g, *, axis):
    rows, back = by_rows(log_p, axis)
    gs, _ = by_rows(g, axis)
    return back(gs - np.exp(rows) * gs.sum(axis=1, keepdims=True))


def logsumexp_vjp(x, g, *, axis):
    rows, back = by_rows(x, axis)
    p = np.stack([softmax(row) for row in rows])
    return back(p * g.astype(WIDE).reshape(-1, 1))


def softmax_jacobian(x):
    p = softmax(x.astype(WIDE))
    jacobian = -np.outer(p, p)
    np.fill_diagonal(jacobian, p * others(p[None])[0])
    return jacobian.astype(x.dtype)


def sigmoid(x, *, temperature=1.0):
    wide = x.astype(WIDE) / WIDE(temperature)
    small = np.exp(-np.abs(wide))
    return (np.where(wide < 0, small, 1) / (1 + small)).astype(x.dtype)


def log_sigmoid(x, *, temperature=1.0):
    wide = x.astype(WIDE) / WIDE(temperature)
    return (np.minimum(wide, 0) - np.log1p(np.exp(-np.abs(wide)))).astype(x.dtype)
