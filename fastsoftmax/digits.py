"""The logits that ship with the package: 1,797 handwritten digits, and what is made of them."""

from __future__ import annotations

import decimal
import importlib.resources
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console

Array = np.ndarray[Any, Any]
Function = Callable[..., Array]


def load() -> tuple[Array, Array]:
    """The logits, of a logistic regression, and the digits' labels."""
    shipped = importlib.resources.files("fastsoftmax") / "data" / "digits.npz"
    with shipped.open("rb") as file, np.load(file) as data:
        return data["logits"], data["labels"]


def report(
    console: Console,
    softmax: Function,
    log_softmax: Function,
    logits: Array,
    labels: Array,
    temperature: float,
) -> bool:
    """Print what the logits are worth and how exact each probability is; whether all are."""
    probabilities = softmax(logits, axis=-1, temperature=temperature)
    logs = log_softmax(logits, axis=-1, temperature=temperature)
    everyone = np.arange(len(labels))
    chosen = probabilities.argmax(axis=-1)
    certainty = probabilities.max(axis=-1)
    console.print(f"accuracy      {np.mean(chosen == labels):.4f}")
    console.print(f"mean log-loss {-np.mean(logs[everyone, labels], dtype=np.float64):.6f} nats")
    for word, row in ("most certain ", certainty.argmax()), ("least certain", certainty.argmin()):
        console.print(
            f"{word} row {row}: class {chosen[row]} at {certainty[row]:.7g}, label {labels[row]}"
        )
    if not 0 < temperature < float("inf"):
        console.print(f"high-precision check: none at the limit {temperature}")
        return True
    errors = _ulp_errors(probabilities, logits, temperature)
    within = int(np.sum(errors <= 2))
    console.print(
        f"high-precision check: {within:,} of {errors.size:,} probabilities within 2 ULP "
        f"(largest error {errors.max():.3f} ULP)"
    )
    return within == errors.size


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
