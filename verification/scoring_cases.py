"""The inputs of the suite ``scoring``: operands by rows, and the options that go with them.

As in `cases`, each says why it is there and is always the same for a type and a seed. What a
function is called with lies along the case's axis; the definitions are given the rows. Here are
top classes, labels, losses and divergences; `gradient_cases` has the others, `draws` the samples.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verification.cases import INF, NAN, Random, dtype_of, largest, steps, tiniest
from verification.exact import Array
from verification.names import DTYPES


@dataclass(frozen=True)
class Draw:
    """What operands are made with: a type and random numbers."""

    dtype: np.dtype[Any]
    random: Random

    def of(self, values: Any) -> Array:
        """These numbers in the type."""
        return np.array(values, np.float64).astype(self.dtype)

    def normal(self, *shape: int, spread: float = 3.0) -> Array:
        """Ordinary logits."""
        return self.of(self.random.standard_normal(shape) * spread)

    def whole(self, *shape: int) -> Array:
        """Logits of three values, so that most of them are ties."""
        return self.of(self.random.integers(0, 3, shape))

    def labels(self, count: int, length: int) -> Array:
        """Classes, the first and the last among them."""
        ends = (0, length - 1)[:count]
        return np.array([*ends, *self.random.integers(0, length, count - len(ends))])

    def probabilities(self, *shape: int) -> Array:
        """Probabilities as a softmax gives them: rounded."""
        terms = np.exp(self.random.standard_normal(shape) * 2)
        return self.of(terms / terms.sum(axis=-1, keepdims=True))

    def sure(self, count: int, length: int) -> Array:
        """Rows from even to one sure class, the last, with probabilities down to the smallest."""
        lowest = math.log(tiniest(self.dtype))
        distance = np.linspace(0, lowest * 1.02, count)[:, None] * np.linspace(1, 0.8, length)
        distance[:, -1] = 0
        return self.of(distance)


Operands = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class ScoringCase:
    """One call of one function, for each dtype that it names."""

    function: str
    name: str  # begins with the function's
    reason: str
    make: Callable[[Draw], Operands]
    options: Mapping[str, Any] = field(default_factory=dict)
    axis: int = -1
    dtypes: tuple[str, ...] = DTYPES
    refused: bool = False  # there is no answer

    def values(self, dtype: str, seed: int) -> tuple[Operands, dict[str, Any]]:
        """Operands and options by rows, the same for the same dtype and seed."""
        random = np.random.default_rng([seed, zlib.crc32(f"scoring {self.name}".encode())])
        draw = Draw(dtype_of(dtype), random)
        options = dict(self.options)
        if "weight" in options:
            options["weight"] = draw.of(options["weight"])
        with np.errstate(over="ignore"):  # beyond a small type's range is +-inf, or the largest
            return self.make(draw), options


def cases() -> Iterator[ScoringCase]:
    """Of top classes, labels, losses and divergences."""
    yield from _top_k()
    yield from _label_log_probabilities()
    for function in ("cross_entropy", "cross_entropy_and_gradient"):
        yield from _losses(function)
    yield from _kl_divergence()


def cases_of(function: str) -> Callable[..., ScoringCase]:
    """A case of one function, whose name its own begins with."""

    def case(name: str, reason: str, make: Callable[[Draw], Operands], **more: Any) -> ScoringCase:
        options = {k: more.pop(k) for k in tuple(more) if k not in ("axis", "dtypes", "refused")}
        return ScoringCase(function, f"{function}_{name}", reason, make, options, **more)

    return case


def _some(rows: int, length: int) -> Array:
    """A mask that leaves out another two thirds of each row's classes, and never all of them."""
    return np.asarray((np.arange(length) + np.arange(rows)[:, None]) % 3 == 1)


# --- top classes and labels ------------------------------------------------------------------


def _top_k() -> Iterator[ScoringCase]:
    case = cases_of("top_k")
    yield case("ordinary", "five of 33", lambda d: (d.normal(20, 33), 5))
    yield case("k_1", "argmax and its probability", lambda d: (d.normal(20, 33), 1))
    yield case("k_all", "k is the length", lambda d: (d.normal(6, 9), 9))
    yield case("one_class", "which is sure", lambda d: (d.normal(3, 1), 1))
    yield case(
        "ties", "of equal classes the lower index comes first", lambda d: (d.whole(30, 9), 5)
    )
    yield case("all_equal", "nothing but ties", lambda d: (np.zeros((2, 70), d.dtype), 4))
    yield case("nearly_sure", "the others' probabilities are tiny", lambda d: (d.sure(12, 5), 3))
    yield case(
        "minus_infinity",
        "impossible classes have the probability 0 and come last",
        lambda d: (d.of([[-INF, 1, -INF, 2], [0, -INF, -INF, -INF]]), 4),
    )
    yield case(
        "huge",
        "the largest numbers, whose differences overflow",
        lambda d: (d.of([[-1, 1, 1], [0, -1, -1]]) * d.of(largest(d.dtype) * 0.9), 2),
    )
    yield case("long", "a row of several blocks", lambda d: (d.normal(1, 2500), 9))
    yield case(
        "long_ties", "a tie in every block", lambda d: (d.whole(1, 5000), 9), dtypes=("float32",)
    )
    yield case(
        "masked",
        "left out, though they are the largest",
        lambda d: (d.normal(9, 12), 3),
        where=_some(9, 12),
    )
    for temperature in (0.25, 3.0):
        yield case(
            f"temperature_{temperature:g}",
            "probabilities at another temperature, in the same order",
            lambda d: (d.normal(9, 12), 3),
            temperature=temperature,
        )
    yield case("columns", "along the first axis", lambda d: (d.normal(8, 11), 3), axis=0)
    yield case("middle_axis", "between two others", lambda d: (d.normal(8, 11), 3), axis=1)
    yield case("k_too_large", "there are not so many", lambda d: (d.normal(2, 5), 6), refused=True)


def _label_log_probabilities() -> Iterator[ScoringCase]:
    case = cases_of("label_log_probabilities")

    def ordinary(d: Draw, rows: int = 20, length: int = 33) -> Operands:
        return d.normal(rows, length), d.labels(rows, length)

    yield case("ordinary", "a label a row, at both ends, too", ordinary)
    yield case(
        "several",
        "three labels a row, one of them twice",
        lambda d: (d.normal(9, 12), np.stack([d.labels(9, 12) for _ in range(2)] * 2, -1)[:, :3]),
    )
    yield case("sure", "log p next to 0", lambda d: (d.sure(20, 4), np.full(20, 3)))
    yield case("unlikely", "log p far from 0", lambda d: (d.sure(20, 4), np.zeros(20, int)))
    yield case(
        "impossible",
        "-inf is a label's probability of 0",
        lambda d: (d.of([[-INF, 1, 2], [0, -INF, -INF]]), np.array([0, 1])),
    )
    yield case(
        "nan",
        "no number has a logarithm",
        lambda d: (d.of([[NAN, 1, 2], [0, 1, NAN]]), np.array([1, 2])),
    )
    yield case("long", "a row of several blocks", lambda d: (d.normal(1, 2500), np.array([2499])))
    yield case(
        "masked",
        "the others are left out of the total",
        lambda d: (d.normal(9, 12), (1 - np.arange(9)) % 3),
        where=_some(9, 12),
    )
    yield case("temperature_0.25", "sharper", lambda d: ordinary(d, 9, 12), temperature=0.25)
    yield case("columns", "along the first axis", lambda d: ordinary(d, 8, 11), axis=0)
    yield case("middle_axis", "between two others", lambda d: ordinary(d, 8, 11), axis=1)
    for label in (5, -6):
        yield case(
            f"label_{label}",
            "which is no class of five",
            lambda d, label=label: (d.normal(2, 5), np.array([0, label])),
            refused=True,
        )


# --- losses ----------------------------------------------------------------------------------

_WEIGHT = (1.0, 0.5, 0.0, 2.0, 1.25)


def _losses(function: str) -> Iterator[ScoringCase]:
    case = cases_of(function)

    def labelled(d: Draw, rows: int = 12, length: int = 5) -> Operands:
        return d.normal(rows, length), d.labels(rows, length)

    def ignored(label: int) -> Callable[[Draw], Operands]:
        def make(d: Draw) -> Operands:
            x, labels = labelled(d)
            labels[1::3] = label
            return x, labels

        return make

    def distributed(d: Draw) -> Operands:
        return d.normal(12, 5), d.probabilities(12, 5)

    for reduction in ("none", "sum", "mean"):
        yield case(f"{reduction}", "a label a row", labelled, reduction=reduction)
        yield case(
            f"ignored_{reduction}",
            "rows that do not count, not in the mean either",
            ignored(-100),
            reduction=reduction,
        )
        yield case(
            f"weighted_{reduction}",
            "a mean is over the weights; a class weighs nothing",
            ignored(-100),
            reduction=reduction,
            weight=_WEIGHT,
        )
        yield case(
            f"smoothed_{reduction}",
            "1/8 of a target is for all classes, the label among them",
            ignored(-100),
            reduction=reduction,
            label_smoothing=0.125,
        )
        yield case(
            f"smoothed_weighted_{reduction}",
            "each class by its weight, the mean by the labels'",
            ignored(-100),
            reduction=reduction,
            label_smoothing=0.125,
            weight=_WEIGHT,
        )
        yield case(
            f"probabilities_{reduction}",
            "a target is a distribution, a mean over all rows",
            distributed,
            reduction=reduction,
            weight=_WEIGHT,
        )
        yield case(
            f"probabilities_smoothed_{reduction}",
            "a distribution, smoothed",
            distributed,
            reduction=reduction,
            label_smoothing=0.1,
        )
    yield case("ignored_class", "a class of its own may be ignored", ignored(1), ignore_index=1)
    yield case(
        "sure", "losses next to 0", lambda d: (d.sure(20, 4), np.full(20, 3)), reduction="none"
    )
    yield case(
        "unlikely", "large losses", lambda d: (d.sure(20, 4), np.zeros(20, int)), reduction="none"
    )
    yield case(
        "impossible",
        "a label of the probability 0 costs +inf; other classes may have it",
        lambda d: (d.of([[-INF, 1, 2], [0, -INF, 1]]), np.array([0, 2])),
        reduction="none",
    )
    yield case(
        "nan",
        "of no distribution; the other row is one",
        lambda d: (d.of([[NAN, 1, 2], [0, 1, 2]]), np.array([1, 1])),
        reduction="none",
    )
    yield case("temperature_4", "the gradient is by the logits", labelled, temperature=4.0)
    yield case(
        "masked",
        "the others are left out of the total",
        lambda d: (d.normal(9, 12), (1 - np.arange(9)) % 3),
        where=_some(9, 12),
        reduction="none",
    )
    yield case("columns", "along the first axis", lambda d: labelled(d, 8), axis=0)
    yield case(
        "middle_axis", "as PyTorch has the classes of pixels", lambda d: labelled(d, 8), axis=1
    )
    yield case(
        "many", "a sum of many rows", lambda d: labelled(d, 800, 3), dtypes=("float32", "float64")
    )
    yield case(
        "long",
        "rows of several blocks",
        lambda d: labelled(d, 2, 1500),
        dtypes=("float32", "float64"),
    )
    for label in (5, -6):
        yield case(
            f"label_{label}",
            "which is no class of five, nor ignored",
            lambda d, label=label: (d.normal(2, 5), np.array([0, label])),
            refused=True,
        )
    if function == "cross_entropy":
        for reduction in ("none", "sum", "mean"):
            yield case(
                f"all_ignored_{reduction}",
                "the sum of no row is 0, their mean NaN",
                lambda d: (d.normal(3, 4), np.full(3, -100)),
                reduction=reduction,
            )


def _kl_divergence() -> Iterator[ScoringCase]:
    case = cases_of("kl_divergence")

    def beside(change: Callable[[Draw, Array], Array], rows: int = 9, length: int = 7) -> Any:
        def make(d: Draw) -> Operands:
            x = d.normal(rows, length)
            return x, change(d, x)

        return make

    yield case("ordinary", "two draws", beside(lambda d, x: d.normal(*x.shape)))
    yield case("equal", "0, exactly", beside(lambda d, x: x.copy()))
    yield case(
        "shifted", "the same distribution: 0", lambda d: (d.whole(5, 6), d.whole(5, 6) * 0 + 2)
    )
    yield case(
        "last_bits",
        "logits a few last places apart, where all else cancels",
        beside(lambda d, x: steps(x, 1) if d.random.integers(2) else steps(x, 2)),
    )
    yield case(
        "one_bit",
        "a single logit of each row in its last place",
        beside(lambda d, x: np.where(np.arange(x.shape[1]) == 2, steps(x, 1), x)),
    )
    for share in (1e-2, 1e-5):

        def scaled(d: Draw, x: Array, share: float = share) -> Array:
            return d.of(x.astype(np.float64) * (1 + share))

        yield case(
            f"apart_{share:g}",
            "the divergence is the square of what they are apart",
            beside(scaled),
            dtypes=("float32", "float64"),
        )
    yield case(
        "tiny_logits",
        "a divergence that is subnormal, or 0",
        lambda d: (d.of([[1, 0, 0]]) * d.of(math.sqrt(tiniest(d.dtype)) * 40), d.of([[0, 0, 0]])),
    )
    yield case("permuted", "the same numbers elsewhere", beside(lambda d, x: x[:, ::-1].copy()))
    yield case("sure", "one class has all", lambda d: (d.sure(12, 4), d.sure(12, 4)[::-1].copy()))
    yield case(
        "nearly_sure", "both know the class", lambda d: (d.sure(12, 4), d.sure(12, 4) * d.of(0.75))
    )
    yield case(
        "huge",
        "logits whose differences overflow",
        lambda d: (
            d.of([[1, -1, 1]]) * d.of(largest(d.dtype) * 0.9),
            d.of([[1, 1, -1]]) * d.of(largest(d.dtype) * 0.2),
        ),
        dtypes=("float32", "float64"),
    )
    yield case(
        "impossible",
        "0 log 0 is 0; a class that only the first has is +inf",
        lambda d: (d.of([[-INF, 1, 2], [0, 1, 2]]), d.of([[-INF, 2, 1], [-INF, 2, 1]])),
    )
    yield case("nan", "of no distribution", lambda d: (d.of([[NAN, 1]]), d.of([[0, 1]])))
    yield case(
        "long",
        "a row of several blocks",
        lambda d: (d.normal(1, 1500), d.normal(1, 1500)),
        dtypes=("float32", "float64"),
    )
    yield case(
        "masked",
        "of the classes that are there",
        beside(lambda d, x: d.normal(*x.shape), 9, 12),
        where=_some(9, 12),
    )
    yield case(
        "temperature_0.5", "sharper", beside(lambda d, x: d.normal(*x.shape)), temperature=0.5
    )
    yield case("columns", "along the first axis", beside(lambda d, x: d.normal(*x.shape)), axis=0)
