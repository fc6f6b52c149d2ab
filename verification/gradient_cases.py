"""The inputs of the suite ``scoring``, continued: products with a Jacobian, and sigmoids."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from verification.cases import INF, NAN, largest, steps, tiniest
from verification.errors import FORMATS
from verification.exact import Array
from verification.names import ELEMENTWISE
from verification.scoring_cases import Draw, Operands, ScoringCase, cases_of


def cases() -> Iterator[ScoringCase]:
    """Of products with a Jacobian, and of sigmoids."""
    for function in ("softmax_vjp", "softmax_jvp"):
        yield from _softmax_products(function)
    yield from _other_products()
    for function in ELEMENTWISE:
        yield from _sigmoids(function)


def _softmax_products(function: str) -> Iterator[ScoringCase]:
    case = cases_of(function)

    def drawn(d: Draw, rows: int, length: int) -> Operands:
        return d.probabilities(rows, length), d.normal(rows, length)

    yield case("ordinary", "probabilities and a gradient", lambda d: drawn(d, 9, 33))
    yield case(
        "first",
        "the gradient of p[0], as PyTorch's example has it",
        lambda d: (d.of([[0.2732, 0.3780, 0.3489]]), d.of([[1, 0, 0]])),
    )
    yield case("sure", "one class has all: 0", lambda d: (d.of(np.eye(4)), d.normal(4, 4)))
    yield case(
        "even",
        "all is taken off again",
        lambda d: (d.probabilities(9, 8), d.of(np.full((9, 8), 3))),
    )
    small = np.array([1, 7, 300])
    yield case(
        "small",
        "subnormal probabilities",
        lambda d: (d.of([[1, *(tiniest(d.dtype) * small)]]), d.of([[1, 2, 3, 4]])),
    )
    yield case("long", "a row of several blocks", lambda d: drawn(d, 1, 2500))
    yield case("columns", "along the first axis", lambda d: drawn(d, 8, 7), axis=0)
    yield case("middle_axis", "between two others", lambda d: drawn(d, 8, 7), axis=1)


def _other_products() -> Iterator[ScoringCase]:
    case = cases_of("log_softmax_vjp")

    def logs(d: Draw, rows: int, length: int) -> Array:
        return d.of(np.log(d.probabilities(rows, length).astype(np.float64) + 1e-9))

    def drawn(d: Draw, rows: int, length: int) -> Operands:
        return logs(d, rows, length), d.normal(rows, length)

    yield case("ordinary", "log-probabilities and a gradient", lambda d: drawn(d, 9, 33))
    yield case(
        "label",
        "the gradient of a loss: p minus one at the label",
        lambda d: (logs(d, 9, 5), d.of(-np.eye(5)[d.labels(9, 5)])),
    )
    yield case(
        "impossible",
        "-inf has no part in the sum",
        lambda d: (d.of([[-INF, 0, -30]]), d.of([[1, 2, 3]])),
    )
    yield case(
        "balanced", "a gradient that sums to 0", lambda d: (logs(d, 1, 4), d.of([[1, -1, 2, -2]]))
    )
    yield case("long", "a row of several blocks", lambda d: drawn(d, 1, 2500))
    yield case("columns", "along the first axis", lambda d: drawn(d, 8, 7), axis=0)

    case = cases_of("logsumexp_vjp")
    yield case(
        "ordinary", "a softmax, times a number a row", lambda d: (d.normal(9, 33), d.normal(9))
    )
    yield case(
        "sure",
        "down to subnormal probabilities",
        lambda d: (d.sure(12, 5), d.of(np.linspace(-1, 1, 12))),
    )
    yield case("zero", "nothing flows back", lambda d: (d.normal(3, 5), d.of([0, 1, 0])))
    yield case("columns", "along the first axis", lambda d: (d.normal(9, 7), d.normal(9)), axis=0)

    case = cases_of("softmax_jacobian")
    for length in (1, 3, 17):
        yield case(f"of_{length}", "diag(p) - p p'", lambda d, n=length: (d.normal(n),))

    def nearly_sure(d: Draw) -> Operands:
        most = (FORMATS[d.dtype.name].precision + 6) * math.log(2)
        return (d.of(np.array([0, -0.6, -0.9]) * most),)

    yield case("nearly_sure", "1 - p next to p = 1, as the sum of the others", nearly_sure)


def _sigmoids(function: str) -> Iterator[ScoringCase]:
    case = cases_of(function)

    def tails(d: Draw) -> Operands:
        end = 12 - math.log(tiniest(d.dtype))
        return (d.of(np.linspace(-end, end, 400).reshape(20, 20)),)

    def around(exponent: str) -> Callable[[Draw], Operands]:
        def make(d: Draw) -> Operands:
            near = d.of([getattr(FORMATS[d.dtype.name], exponent) * math.log(2)])
            return (np.stack([steps(s, k) for s in (near, -near) for k in (-1, 0, 1)]),)

        return make

    yield case("ordinary", "about 0", lambda d: (d.normal(20, 20),))
    yield case("tails", "until the smallest number, and beyond", tails)
    yield case(
        "near_zero", "1/2, and its logarithm", lambda d: (d.of(10.0 ** np.linspace(-30, 0, 40)),)
    )
    yield case("log_of_largest", "where exp overflows", around("largest"))
    yield case("log_of_smallest", "where exp turns subnormal", around("smallest"))
    yield case(
        "infinite", "the limits are values here", lambda d: (d.of([INF, -INF, 0.0, -0.0, NAN]),)
    )
    yield case("huge", "the largest numbers", lambda d: (d.of([1, -1]) * d.of(largest(d.dtype)),))
    yield case("temperature_0.25", "sharper", lambda d: (d.normal(30),), temperature=0.25)
