"""What is computed of rows: the only list."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastsoftmax.cpu.normalizer import (
    INFINITY,
    log_normalizer_of,
    log_probability,
    logsumexp_of,
    probability,
    reciprocal_of,
)


class Formula(NamedTuple):
    """A function of rows, in inlined functions and flags that are True or None."""

    name: str
    # Whether the terms that are the largest are counted apart from the total, for a logarithm.
    apart: Any
    # What is made of a row's normalizer: see normalizer.py.
    finish: Any
    # Whether there is a result for each logit; else a row has one, what ``finish`` made.
    mapped: Any
    # What a result is made of: that and the logit, or its exponential where these are kept.
    result: Any
    kept: Any
    # The result for a logit that is masked.
    absent: float


SOFTMAX = Formula("softmax", None, reciprocal_of, True, probability, True, 0.0)
LOG_SOFTMAX = Formula(
    "log_softmax", True, log_normalizer_of, True, log_probability, None, -INFINITY
)
LOGSUMEXP = Formula("logsumexp", True, logsumexp_of, None, log_probability, None, -INFINITY)
FORMULAS = SOFTMAX, LOG_SOFTMAX, LOGSUMEXP
