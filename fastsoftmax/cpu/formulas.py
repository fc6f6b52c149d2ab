"""What is computed of rows: the only list."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from fastsoftmax.cpu.normalizer import (
    INFINITY,
    log_normalizer,
    log_probability,
    logsumexp,
    probability,
    reciprocal,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Formula:
    """A function of rows; see normalizer.py for what its parts take and give."""

    name: str
    # Whether one of the largest terms is kept apart from the total, for a logarithm.
    apart: bool
    # What is made of a row's total: the result, or what results are made with.
    finish: Callable[..., Any]
    # What a result is made of, for each logit; None where a row has one.
    result: Callable[..., Any] | None
    # Whether it is made of the logit's exponential, not the logit.
    of_term: bool
    # Whether logits may be divided by temperatures.
    tempered: bool
    # The result for a logit that is masked; where there is one a row, of a row without any.
    absent: float
    # Bounds on the error in ULP, of float32 and float64: the docstrings give their arithmetic.
    bounds: tuple[float, float]

    @property
    def mapped(self) -> bool:
        """Whether there is a result for each logit, else one a row."""
        return self.result is not None


SOFTMAX = Formula("softmax", False, reciprocal, probability, True, True, 0.0, (1.75, 1.6))
LOG_SOFTMAX = Formula(
    "log_softmax", True, log_normalizer, log_probability, False, True, -INFINITY, (1.1, 1.1)
)
LOGSUMEXP = Formula("logsumexp", True, logsumexp, None, False, False, -INFINITY, (1.1, 1.1))
FORMULAS = SOFTMAX, LOG_SOFTMAX, LOGSUMEXP

#: The bound on the error in ULP of each function and type that kernels compute. What is computed in
#: float32 and rounded to 16 bits is off by half an ULP and what float32 is.
ERROR_BOUNDS: dict[str, dict[str, float]] = {
    formula.name: {
        "float16": 0.51,
        "bfloat16": 0.51,
        "float32": formula.bounds[0],
        "float64": formula.bounds[1],
    }
    for formula in FORMULAS
}
