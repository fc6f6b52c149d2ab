"""The logits that ship with the package: 1,797 handwritten digits, and what is made of them."""

from __future__ import annotations

import dataclasses
import decimal
import importlib.resources
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


def load() -> tuple[Array, Array]:
    """The logits, of a logistic regression, and the digits' labels."""
    shipped = importlib.resources.files("fastsoftmax") / "data" / "digits.npz"
    with shipped.open("rb") as file, np.load(file) as data:
        return data["logits"], data["labels"]


@dataclasses.dataclass(frozen=True)
class Worth:
    """How exact the probabilities are, and which are the most and the least certain."""

    most_certain: Row
    least_certain: Row
    # How many probabilities were compared with 40 exact digits, how many of these are within 2 ULP,
    # and the largest error in ULP: none at the limits 0 and infinity of the temperature.
    checked: int
    within: int
    largest: float

    @property
    def exact(self) -> bool:
        """Whether all that was compared is as exact as promised."""
        return self.within == self.checked


class Row(NamedTuple):
    """One of the digits: the class that was chosen, how certainly, and the right one."""

    row: int
    chosen: int
    certainty: float
    label: int


def worth(probabilities: Array, logits: Array, labels: Array, temperature: float) -> Worth:
    """What the probabilities of the logits are worth."""
    chosen = probabilities.argmax(axis=-1)
    certainty = probabilities.max(axis=-1)

    def row(index: int) -> Row:
        return Row(index, int(chosen[index]), float(certainty[index]), int(labels[index]))

    errors = np.empty(0)
    if 0 < temperature < float("inf"):
        errors = _ulp_errors(probabilities, logits, temperature)
    return Worth(
        most_certain=row(int(certainty.argmax())),
        least_certain=row(int(certainty.argmin())),
        checked=errors.size,
        within=int(np.sum(errors <= 2)),
        largest=float(errors.max(initial=0.0)),
    )


def _ulp_errors(probabilities: Array, logits: Array, temperature: float) -> Array:
    """Each probability's distance from 40 exact digits, in units of its last place."""
    errors = np.empty(probabilities.shape)
    with decimal.localcontext() as context:
        context.prec = 40
        divisor = decimal.Decimal(temperature)
        for row in range(len(logits)):
            top = decimal.Decimal(float(logits[row].max()))
            shifted = [(decimal.Decimal(float(x)) - top) / divisor for x in logits[row]]
            terms = [x.exp() for x in shifted]
            total = sum(terms)
            for column, term in enumerate(terms):
                true = term / total
                unit = decimal.Decimal(float(np.spacing(np.float32(true))))
                got = decimal.Decimal(float(probabilities[row, column]))
                errors[row, column] = abs(got - true) / unit
    return errors
