"""The alternatives to softmax by their definitions, in high precision.

Of one row of finite numbers, as mpmath's numbers: each by another way than a library would take.
sparsemax is found in exact fractions, the threshold of entmax by bisection and Newton's steps until
the sum of the results is 1 to 300 bits. A gradient is the quotient of differences of the definition
itself, steps of 2**-200 wide, so that nobody's derivation is trusted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction

import mpmath

Numbers = list[mpmath.mpf]
Function = Callable[[Numbers], Numbers]

PRECISION = 700  # bits
_STEP = -200  # power of two of a gradient's step


def standard_normalize(row: Numbers) -> Numbers:
    """x_i / sum_j x_j.

    Examples
    --------
    >>> [float(p) for p in standard_normalize([mpmath.mpf(1), mpmath.mpf(3)])]
    [0.25, 0.75]
    """
    total = mpmath.fsum(row)
    return [x / total for x in row]


def spherical_softmax(row: Numbers) -> Numbers:
    """x_i**2 / sum_j x_j**2."""
    return standard_normalize([x * x for x in row])


def taylor_softmax(row: Numbers, order: int = 2) -> Numbers:
    """t(x_i) / sum_j t(x_j), with the Taylor polynomial t of exp."""
    terms = [mpmath.fsum(x**k / mpmath.factorial(k) for k in range(order + 1)) for x in row]
    return standard_normalize(terms)


def entmax(row: Numbers, alpha: float) -> Numbers:
    """((alpha - 1) x_i - tau)_+ ** (1 / (alpha - 1)), of the tau for which they sum to 1."""
    if alpha == 2:
        return _sparsemax(row)
    a = mpmath.mpf(alpha) - 1
    scaled = [a * x for x in row]
    low, high = max(scaled) - 1, max(scaled)  # the sum is at least 1, and 0

    def powers(tau: mpmath.mpf) -> Numbers:
        return [mpmath.mpf(0) if x <= tau else (x - tau) ** (1 / a) for x in scaled]

    def narrowed(low: mpmath.mpf, high: mpmath.mpf, steps: int) -> tuple[mpmath.mpf, mpmath.mpf]:
        for _ in range(steps):
            middle = (low + high) / 2
            low, high = (middle, high) if mpmath.fsum(powers(middle)) >= 1 else (low, middle)
        return low, high

    # Newton's steps are many bits each, where they help: not at the end of a steep power.
    low, high = narrowed(low, high, 40)
    tau = low
    for _ in range(8):
        parts = powers(tau)
        slope = mpmath.fsum(p / (x - tau) for p, x in zip(parts, scaled, strict=True) if p)
        tau += a * (mpmath.fsum(parts) - 1) / slope
        if not low <= tau <= high:
            break
    if not low <= tau <= high or abs(mpmath.fsum(powers(tau)) - 1) > mpmath.mpf(2) ** -300:
        tau = narrowed(low, high, PRECISION - 50)[0]
    return powers(tau)


def _sparsemax(row: Numbers) -> Numbers:
    """The nearest point of the simplex, in fractions: every support is tried, the largest first."""
    exact = [_fraction(x) for x in row]
    order = sorted(exact, reverse=True)
    for count in range(len(order), 0, -1):
        threshold = (sum(order[:count]) - 1) / count
        if order[count - 1] > threshold:
            break
    parts = [Fraction(max(x - threshold, 0)) for x in exact]
    return [mpmath.mpf(p.numerator) / p.denominator for p in parts]


def _fraction(x: mpmath.mpf) -> Fraction:
    sign, mantissa, exponent, _ = x._mpf_
    return Fraction((-1) ** sign * int(mantissa)) * Fraction(2) ** int(exponent)


def softmax(row: Numbers) -> Numbers:
    """exp(x_i) / sum_j exp(x_j), which the others are compared with."""
    return standard_normalize([mpmath.exp(x) for x in row])


#: What is drawn side by side.
COMPARED: dict[str, Function] = {
    "softmax": softmax,
    "standard_normalize": standard_normalize,
    "spherical_softmax": spherical_softmax,
    "taylor_softmax": taylor_softmax,
    "entmax15": functools.partial(entmax, alpha=1.5),
    "sparsemax": functools.partial(entmax, alpha=2.0),
}


def exactly(function: Function, row: Sequence[float]) -> Numbers:
    """One of these functions of a row of float64, in full precision."""
    with mpmath.workprec(PRECISION):
        return function([mpmath.mpf(float(x)) for x in row])


def vjp(function: Function, row: Sequence[float], g: Sequence[float]) -> Numbers:
    """sum_i g_i dp_i / dx_j for each j, by central differences of 2**-200.

    Their error is some 2**-400 where the function is smooth. Where elements lie on the threshold,
    within that step, there is no gradient to compare with.
    """
    with mpmath.workprec(PRECISION):
        x, step = [mpmath.mpf(float(v)) for v in row], mpmath.mpf(2) ** _STEP
        weights = [mpmath.mpf(float(v)) for v in g]
        results = []
        for j in range(len(x)):
            ends = (function([*x[:j], x[j] + sign * step, *x[j + 1 :]]) for sign in (1, -1))
            above, below = (mpmath.fdot(weights, end) for end in ends)
            results.append((above - below) / (2 * step))
        return results
