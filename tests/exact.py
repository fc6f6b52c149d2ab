"""The truth for the tests: mpmath for small rows, long double for large ones, and ULP."""

import math

import mpmath
import numpy as np

# Bits of the significand, and the exponent of the smallest normal number.
FORMATS = {
    "float16": (11, -14),
    "bfloat16": (8, -126),
    "float32": (24, -126),
    "float64": (53, -1022),
}

mpmath.mp.prec = 160


def softmax(row, temperature=1):
    """The exact probabilities of a row of finite numbers, as mpmath numbers."""
    x = [mpmath.mpf(float(v)) / temperature for v in row]
    top = max(x)
    terms = [mpmath.exp(v - top) for v in x]
    total = mpmath.fsum(terms)
    return [term / total for term in terms]


def log_total(row, temperature=1):
    """log of the sum of exp((x - max) / temperature), exact however near to 0."""
    x = [mpmath.mpf(float(v)) / temperature for v in row]
    place = max(range(len(x)), key=x.__getitem__)
    others = mpmath.fsum(mpmath.exp(v - x[place]) for i, v in enumerate(x) if i != place)
    return mpmath.log1p(others)


def log_softmax(row, temperature=1):
    """The exact log-probabilities of a row of finite numbers."""
    x = [mpmath.mpf(float(v)) / temperature for v in row]
    top, log = max(x), log_total(row, temperature)
    return [(v - top) - log for v in x]


def logsumexp(row):
    """The exact logarithm of a sum of exponentials."""
    x = [mpmath.mpf(float(v)) for v in row]
    return max(x) + log_total(row)


def entropy(row, temperature=1):
    """The exact entropy of the softmax, in nats: -sum p log p, of which no term cancels."""
    terms = zip(softmax(row, temperature), log_softmax(row, temperature), strict=True)
    return -mpmath.fsum(p * log for p, log in terms)


def kl_divergence(p, q, temperature=1, counts=None):
    """The exact divergence of q's softmax from p's; each class may be there several times.

    Terms cancel, to the square of how far logits are apart: in bits enough for 2**-600.
    """
    with mpmath.workprec(1400):
        several = [1] * len(p) if counts is None else counts
        known = [(x, y, n) for x, y, n in zip(p, q, several, strict=True) if x > -math.inf]
        log_p, log_q = (
            mpmath.log(
                mpmath.fsum(
                    int(n) * mpmath.exp(mpmath.mpf(float(v)) / temperature)
                    for v, n in zip(row, several, strict=True)
                )
            )
            for row in (p, q)
        )
        terms = []
        for x, y, n in known:
            log = mpmath.mpf(float(x)) / temperature - log_p
            apart = log - (mpmath.mpf(float(y)) / temperature - log_q)
            terms.append(int(n) * mpmath.exp(log) * apart)
        return mpmath.fsum(terms)


def unit(true, dtype):
    """The unit in the last place at the exact number ``true``."""
    precision, smallest = FORMATS[np.dtype(dtype).name]
    if true == 0:
        return mpmath.mpf(2) ** (smallest - precision + 1)
    _, exponent = mpmath.frexp(abs(true))
    return mpmath.mpf(2) ** (max(int(exponent) - 1, smallest) - precision + 1)


def ulp_error(got, true, dtype=None):
    """The largest distance of results from exact numbers, in units in the last place."""
    got = np.asarray(got)
    dtype = dtype or got.dtype
    worst = 0.0
    for value, exact in zip(got.astype(np.float64).ravel(), true, strict=True):
        if not math.isfinite(value):
            return math.inf
        worst = max(worst, float(abs(mpmath.mpf(float(value)) - exact) / unit(exact, dtype)))
    return worst


# For large rows: 64 bits, of which a sum of 10 million terms, added in pairs, loses a few.
assert np.finfo(np.longdouble).nmant >= 63, "these tests need an x86 long double"


def wide_softmax(x, axis=-1):
    """softmax in long double, its relative error below 2**-58."""
    x = np.asarray(x).astype(np.longdouble)
    with np.errstate(under="ignore"):
        terms = np.exp(x - x.max(axis=axis, keepdims=True))
        return terms / terms.sum(axis=axis, keepdims=True)


def wide_log_softmax(x, axis=-1):
    """log_softmax in long double; the largest term is kept out of the sum, for totals near 1."""
    x = np.asarray(x).astype(np.longdouble)
    shifted = x - x.max(axis=axis, keepdims=True)
    with np.errstate(under="ignore"):
        terms = np.exp(shifted)
        np.put_along_axis(terms, x.argmax(axis=axis, keepdims=True), 0, axis)
        return shifted - np.log1p(terms.sum(axis=axis, keepdims=True))


def wide_ulp_error(got, true):
    """As ``ulp_error``, of arrays against long double."""
    dtype = got.dtype
    precision, smallest = FORMATS[dtype.name]
    _, exponent = np.frexp(true)
    exponent = np.maximum(exponent - 1, smallest) - precision + 1
    exponent = np.where(true == 0, smallest - precision + 1, exponent)
    errors = np.ldexp(np.abs(got.astype(np.longdouble) - true), -exponent)
    return float(np.max(errors, initial=0))
