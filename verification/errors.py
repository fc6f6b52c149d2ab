"""The error of a result in ULP of the exact one, and the bounds that it is held to.

One ULP at an exact number t, in a format of p bits whose smallest normal exponent is e, is
2**(max(floor(log2(abs(t))), e) - p + 1): the distance between neighbouring numbers of the format
around t. At 0 it is the smallest subnormal number.

- NaN against NaN is an error of 0, NaN against a number is infinite.
- An infinity is right (0) where the exact number is that infinity or rounds to it, and an
  infinite error elsewhere. Where the exact result is infinite, any number is infinitely wrong.
- The sign of zero is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verification.exact import Array, Exact


@dataclass(frozen=True)
class Format:
    """A binary floating-point format."""

    precision: int  # bits of the significand, the hidden one among them
    smallest: int  # exponent of the smallest normal number
    largest: int  # exponent of the largest number

    @property
    def unit(self) -> float:
        """The unit roundoff: half the distance from 1 to the next number."""
        return 2.0**-self.precision


FORMATS = {
    "float16": Format(11, -14, 15),
    "bfloat16": Format(8, -126, 127),
    "float32": Format(24, -126, 127),
    "float64": Format(53, -1022, 1023),
}


@dataclass(frozen=True)
class Bound:
    """What an error is held to, and where that comes from."""

    ulp: float
    source: str
    # Where numbers cancel: the ULP are those of this share of them, if it is more than the result.
    share: float = 1.0


PROMISE = Bound(2.0, "this project's promise: within 2 ULP of the exact result")


def exponent_of_ulp(true: Exact, kind: Format, size: Array | float = 0.0) -> Array:
    """The power of two that is one ULP of the larger of the exact numbers and ``size``."""
    exponent = np.where(true.high == 0, kind.smallest, true.exponent)
    _, power = np.frexp(size)
    exponent = np.maximum(exponent, np.where(np.asarray(size) > 0, power - 1, kind.smallest))
    return np.asarray(np.maximum(exponent, kind.smallest) - kind.precision + 1)


def in_ulps(true: Exact, kind: Format) -> tuple[Array, Array]:
    """The exact numbers as pairs, in units of their own last place."""
    return _in_units(true, exponent_of_ulp(true, kind))


def _in_units(true: Exact, exponent: Array) -> tuple[Array, Array]:
    """The exact numbers as pairs, in units of these powers of two."""
    shift = np.clip(true.exponent - exponent, -2000, 2000).astype(np.int32)
    with np.errstate(under="ignore"):
        return np.ldexp(true.high, shift), np.ldexp(true.low, shift)


def rounded(true: Exact, dtype: str) -> Array:
    """The exact numbers rounded once, to nearest and ties to even, in float64."""
    kind = FORMATS[dtype]
    high, low = in_ulps(true, kind)
    exponent = np.clip(exponent_of_ulp(true, kind), -2000, 2000).astype(np.int32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        # Where high lies halfway between integers, low decides; elsewhere it is less than half.
        whole = np.rint(high)
        half = np.abs(high - np.floor(high)) == 0.5
        whole = np.where(half & (low > 0), np.ceil(high), whole)
        whole = np.where(half & (low < 0), np.floor(high), whole)
        value = np.ldexp(whole, exponent)
        largest = np.ldexp(2.0 - 2.0 ** (1 - kind.precision), kind.largest)
        value = np.where(np.abs(value) > largest, np.copysign(np.inf, value), value)
    return np.where(np.isfinite(true.high), value, true.high)


def ulp_errors(got: Array, true: Exact, dtype: str, size: Array | float = 0.0) -> Array:
    """The distance of each result from the exact one in ULP of the latter.

    In ULP of ``size`` where that is larger: of the numbers that cancel in a result, say.
    """
    kind = FORMATS[dtype]
    got = np.asarray(got).astype(np.float64)
    unit = exponent_of_ulp(true, kind, size)
    high, low = _in_units(true, unit)
    exponent = np.clip(-unit, -2000, 2000).astype(np.int32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        errors = np.abs((np.ldexp(got, exponent) - high) - low)
        # A number is no infinite distance from another, however many steps that is.
        errors = np.minimum(errors, np.finfo(np.float64).max)
        overflows = ~np.isfinite(rounded(true, dtype)) & (got == np.sign(true.high) * np.inf)
    errors = np.where(np.isinf(got), np.where(overflows, 0.0, np.inf), errors)
    errors = np.where(np.isinf(true.high), np.where(got == true.high, 0.0, np.inf), errors)
    nan, true_nan = np.isnan(got), np.isnan(true.high)
    errors = np.where(nan | true_nan, np.where(nan & true_nan, 0.0, np.inf), errors)
    return np.asarray(errors)
