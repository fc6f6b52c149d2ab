"""What is computed of rows: the only list."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from fastsoftmax.arithmetic.lanes import FLOAT
from fastsoftmax.arithmetic.normalizer import (
    INFINITY,
    NAN,
    entropy,
    exponentials,
    log_normalizer,
    log_probability,
    logsumexp,
    probability,
    reciprocal,
    scaled_probability,
    surprisals,
)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Formula:
    """A function of rows; see normalizer.py for what its parts take and give."""

    name: str
    # Whether one of the largest terms is kept apart from the totals, for a logarithm.
    apart: bool = False
    # What is added up of each logit, its exponential first, and how many totals that makes.
    terms: Callable[..., list[Any]] = exponentials
    totals: int = 1
    # What is made of a row's totals: the result, or what results are made with.
    finish: Callable[..., Any]
    # What a result is made of, for each logit; None where a row has one.
    result: Callable[..., Any] | None = None
    # Whether it is made of the logit's exponential, not the logit.
    of_term: bool = False
    # What is made of the logits at a row's labels; None where it takes no labels.
    at_label: Callable[..., Any] | None = None
    # Whether kernels choose the labels, those of the largest logits.
    chooses: bool = False
    # Whether logits may be divided by temperatures.
    tempered: bool = True
    # Whether it has no meaning for complex numbers.
    real: bool = False
    # The result for a logit that is masked; where there is one a row, of a row without any.
    absent: float
    # Bounds on the error in ULP, of float32 and float64: the docstrings give their arithmetic.
    bounds: tuple[float, float]

    @property
    def mapped(self) -> bool:
        """Whether there is a result for each logit, else one a row or one for each label."""
        return self.result is not None

    @property
    def operands(self) -> tuple[str, ...]:
        """What kernels take beside logits, results, temperatures and a mask."""
        if self.at_label is None:
            return ()
        return ("labels", "scale", "losses") if self.mapped else ("labels",)

    def grids(self, element: ir.Type, long: bool) -> tuple[int, ...]:
        """On how many grids each total is counted: in float32 on one more beyond a block."""
        single = element == FLOAT
        return 3 if single and long else 2, *[3 if single else 2] * (self.totals - 1)


SOFTMAX = Formula(
    name="softmax", finish=reciprocal, result=probability, of_term=True, absent=0.0,
    bounds=(1.75, 1.6),
)  # fmt: skip
LOG_SOFTMAX = Formula(
    name="log_softmax", apart=True, finish=log_normalizer, result=log_probability,
    absent=-INFINITY, bounds=(1.1, 1.1),
)  # fmt: skip
LOGSUMEXP = Formula(
    name="logsumexp", apart=True, finish=logsumexp, tempered=False, absent=-INFINITY,
    bounds=(1.1, 1.1),
)  # fmt: skip
ENTROPY = Formula(
    name="entropy", apart=True, terms=surprisals, totals=2, finish=entropy, real=True, absent=NAN,
    bounds=(1.8, 1.8),
)  # fmt: skip
LABEL_LOG_PROBABILITIES = Formula(
    name="label_log_probabilities", apart=True, finish=log_normalizer, at_label=log_probability,
    real=True, absent=-INFINITY, bounds=(1.1, 1.1),
)  # fmt: skip
LABEL_PROBABILITIES = Formula(
    name="label_probabilities", finish=reciprocal, at_label=probability, of_term=True, real=True,
    absent=0.0, bounds=(1.75, 1.6),
)  # fmt: skip
TOP_K = dataclasses.replace(LABEL_PROBABILITIES, name="top_k", chooses=True)
# The gradient of a cross-entropy, with the log-probability at the label beside it.
GRADIENT = Formula(
    name="cross_entropy_and_gradient", apart=True, finish=log_normalizer, result=scaled_probability,
    at_label=log_probability, real=True, absent=0.0, bounds=(3.3, 5.0),
)  # fmt: skip
# Of logits alone, and at labels.
FORMULAS = SOFTMAX, LOG_SOFTMAX, LOGSUMEXP, ENTROPY
AT_LABELS = LABEL_LOG_PROBABILITIES, LABEL_PROBABILITIES, TOP_K, GRADIENT


class Sigmoid(NamedTuple):
    """What a formula makes of a logit in a row of two, of which the other is 0."""

    name: str
    formula: Formula
    # The result for +inf, where a row has none.
    limit: float
    mapped: bool = True
    real: bool = True

    @property
    def absent(self) -> float:
        """The result for a logit that is masked."""
        return self.formula.absent


SIGMOID = Sigmoid("sigmoid", SOFTMAX, 1.0)
LOG_SIGMOID = Sigmoid("log_sigmoid", LOG_SOFTMAX, 0.0)
SIGMOIDS = SIGMOID, LOG_SIGMOID

#: The bound on the error in ULP of each function and type that kernels compute. What is computed in
#: float32 and rounded to 16 bits is off by half an ULP and what float32 is.
ERROR_BOUNDS: dict[str, dict[str, float]] = {
    name: {"float16": 0.51, "bfloat16": 0.51, "float32": single, "float64": double}
    for name, (single, double) in (
        *((formula.name, formula.bounds) for formula in FORMULAS),
        *((function.name, function.formula.bounds) for function in SIGMOIDS),
        *((formula.name, formula.bounds) for formula in (LABEL_LOG_PROBABILITIES, TOP_K, GRADIENT)),
        ("cross_entropy", (2.8, 2.8)),
        ("kl_divergence", (0.51, 1.3)),
        ("logsumexp_vjp", (0.51, 0.8)),
        ("softmax_jacobian", (0.51, 3.6)),
    )
}
