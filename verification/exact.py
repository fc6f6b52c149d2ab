"""Exact numbers: what the references return and the errors are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

Array = np.ndarray[Any, Any]

# An exponent below which a number is 0 in every format, and beyond every sum of logits.
_FAR = 1 << 20


@dataclass(frozen=True)
class Exact:
    """(high + low) * 2**exponent, elementwise: abs(high + low) in [1, 2), or 0, infinite or NaN.

    The exponent stands apart, so that results far below the smallest number of any format keep
    all their bits.
    """

    high: Array
    low: Array
    exponent: Array

    @classmethod
    def of(cls, high: Any, low: Any = 0.0, exponent: Any = 0) -> Exact:
        """Normalise pairs of finite, infinite or NaN parts."""
        high, low, exponent = np.broadcast_arrays(
            np.asarray(high, np.float64), np.asarray(low, np.float64), np.asarray(exponent)
        )
        finite = np.isfinite(high)
        mantissa, power = np.frexp(np.where(finite, high, 0.0))
        # Just below a power of 2 the exponent is the smaller one, and high is 2.
        below = (np.abs(mantissa) == 0.5) & (low * mantissa < 0)
        power = power - 1 - below
        return cls(
            np.where(finite, np.where(below, 4, 2) * mantissa, high),
            np.where(finite, np.ldexp(low, -power), 0.0),
            np.where(finite & (high != 0), exponent + power, 0).astype(np.int64),
        )

    @classmethod
    def of_mpmath(cls, numbers: list[mpmath.mpf]) -> Exact:
        """From mpmath's numbers, of which 106 bits are kept."""
        parts = []
        for number in numbers:
            power = mpmath.frexp(number)[1] if mpmath.isfinite(number) and number != 0 else None
            if power is not None and abs(power) < _FAR:
                scaled = mpmath.ldexp(number, 1 - int(power))
                high = float(scaled)
                parts.append((high, float(scaled - high), int(power) - 1))
            else:
                parts.append((0.0 if power is not None else float(number), 0.0, 0))
        return cls.of(
            np.array([high for high, _, _ in parts], np.float64),
            np.array([low for _, low, _ in parts], np.float64),
            np.array([exponent for _, _, exponent in parts], np.int64),
        )

    @classmethod
    def joined(cls, parts: list[Exact]) -> Exact:
        """One after the other along the first axis."""
        return cls(
            np.concatenate([p.high for p in parts]),
            np.concatenate([p.low for p in parts]),
            np.concatenate([p.exponent for p in parts]),
        )

    def reshape(self, *shape: int) -> Exact:
        """The same numbers in another shape."""
        return Exact(
            self.high.reshape(shape), self.low.reshape(shape), self.exponent.reshape(shape)
        )

    def __getitem__(self, index: Any) -> Exact:
        return Exact(self.high[index], self.low[index], self.exponent[index])

    def mpf(self, index: Any) -> mpmath.mpf:
        """One of the numbers, for mpmath."""
        high, low = float(self.high[index]), float(self.low[index])
        with mpmath.workprec(200):
            return mpmath.ldexp(mpmath.mpf(high) + mpmath.mpf(low), int(self.exponent[index]))
