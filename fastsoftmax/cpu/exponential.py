"""exp and log, on lanes and on scalars alike.

Both are correct to far less than the last place of their result: a float64 one comes with the
part that rounding left out, and for narrower types float64 arithmetic is that reserve.
`tests/test_exponential.py` derives the polynomials again and measures the bounds given here.
"""

from __future__ import annotations

from typing import Any

from numba import types

from fastsoftmax.cpu.jit import chosen, inlined
from fastsoftmax.cpu.lanes import bits_of, fma, from_bits, select, table

# Exponentials of float64 and all sums of them are carried times 2**128, so that none is ever
# subnormal: a lane whose result is subnormal costs some 60 cycles and, in a sum, loses its low
# bits. Those of narrower types, computed in float64 too, stay far from that range.
SCALE_EXPONENT = 128

# Below these the exponential is 0. Even 2**32 terms of exp(-770) = 2**-1110.9 sum to less than
# half of the smallest float64, 2**-1075; of 2**-189 to less than half the smallest float32.
LOWEST = -770.0
LOWEST_POWER_NARROW = -189

_LOG2_E = float.fromhex("0x1.71547652b82fep+0")
_LN2 = float.fromhex("0x1.62e42fefa39efp-1")
# 42 bits, so that a product with an integer of 11 bits is exact; and the rest.
_LN2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")
_LN2_LOW = float.fromhex("0x1.ef35793c76730p-45")
# Added and taken away, it rounds to an integer n, and leaves n in its low bits; with the rest of
# _TO_POWER, the exponent field of the scaled 2**n.
_TO_INTEGER = 1.5 * 2.0**52
_TO_POWER = _TO_INTEGER + 1023 + SCALE_EXPONENT
_LOWEST_INTEGER_NARROW = _TO_INTEGER + LOWEST_POWER_NARROW


def _numbers(hexadecimal: str) -> tuple[float, ...]:
    return tuple(map(float.fromhex, hexadecimal.split()))


# Polynomials for |r| <= 0.3467, interpolated in the Chebyshev nodes:
# (exp(r) - 1 - r) / r**2, which gives exp to 2**-61;
EXP_COEFFICIENTS = _numbers(
    "0x1.0000000000000p-1 0x1.5555555555557p-3 0x1.5555555555556p-5 0x1.11111111100d3p-7 "
    "0x1.6c16c16c162cfp-10 0x1.a01a01abeccc3p-13 0x1.a01a01a6db488p-16 0x1.71de02225a2f3p-19 "
    "0x1.27e4db5bb725ap-22 0x1.af4e092e1705bp-26 0x1.1f7315649f2d7p-29"
)
# (2**r - 1) / r for |r| <= 0.5001, which gives 2**r to 2**-27.5, 0.09 ULP of float32.
EXP2_COEFFICIENTS = _numbers(
    "0x1.62e4302fd9e16p-1 0x1.ebfbe00e6a902p-3 0x1.c6af6ca08d189p-5 0x1.3b2a52efd1be0p-7 "
    "0x1.5f08b78b59e8ep-10 0x1.4413a4c275e59p-13"
)
# (2 atanh(s) - 2 s) / s**3 as a polynomial in s**2 <= 0.0295, in the same way: log to 2**-60.
LOG_COEFFICIENTS = _numbers(
    "0x1.5555555555555p-1 0x1.9999999999998p-2 0x1.249249249296cp-2 0x1.c71c71c649d29p-3 "
    "0x1.745d17d4e023ep-3 0x1.3b137abacbd15p-3 0x1.111d3bc7f927ap-3 0x1.debb4432155e1p-4 "
    "0x1.e6d04c9e3c20ep-4"
)
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10 = EXP_COEFFICIENTS
_narrow_constants = table(
    "exp2", (*EXP2_COEFFICIENTS, 1.0, _TO_INTEGER, _LOWEST_INTEGER_NARROW, _LOG2_E)
)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = LOG_COEFFICIENTS

_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_INFINITY = float("inf")


@inlined
def two_sum(a: Any, b: Any) -> Any:
    """a + b rounded, and what rounding left out, exactly (Knuth)."""
    total = a + b
    shifted = total - a
    return total, (a - (total - shifted)) + (b - shifted)


@chosen
def constants_for(x: Any) -> Any:
    """What `exponential` wants read before a loop: its constants, if x is of a narrow type."""
    if x.dtype == types.float64:
        return lambda x: None
    return lambda x: _narrow_constants()


@chosen
def exponential(t: Any, t_error: Any, inverse: Any, constants: Any) -> Any:
    """An exponential for t <= 0 or NaN: a rounded value and what it left out.

    Without ``t_error`` (None) it is exp(t * inverse), the value alone and not scaled, to
    2**-27.5, for types narrower than float64. With it, exp(t + t_error), scaled, value and rest
    together right to 2**-55.2 (0.22 ULP): the tail of the series, below 0.07, is rounded three
    times.
    """

    def narrow(t: Any, t_error: Any, inverse: Any, constants: Any) -> Any:
        c0, c1, c2, c3, c4, c5, one, to_integer, lowest, log2_e = constants
        binary = t * (inverse * log2_e)  # its rounding, at most 2**-46, does not count here
        z = binary + to_integer
        r = binary - (z - to_integer)
        p = fma(fma(fma(fma(fma(fma(c5, r, c4), r, c3), r, c2), r, c1), r, c0), r, one)
        # n is added to the exponent, which spares the multiplier: it has the most to do. A NaN
        # that was float32 ends in zeros, and stays one.
        value = from_bits(bits_of(p) + (bits_of(z) << 52))
        return select(z < lowest, 0.0, value), None

    def double(t: Any, t_error: Any, inverse: Any, constants: Any) -> Any:
        z = fma(t, _LOG2_E, _TO_POWER)
        power = from_bits(bits_of(z) << 52)
        n = z - _TO_POWER
        below = t < LOWEST
        exact = fma(n, -_LN2_HIGH, t)
        small = fma(n, -_LN2_LOW, t_error)
        r = exact + small
        s = (exact - r) + small
        p = fma(fma(fma(fma(fma(_E10, r, _E9), r, _E8), r, _E7), r, _E6), r, _E5)
        p = fma(fma(fma(fma(fma(p, r, _E4), r, _E3), r, _E2), r, _E1), r, _E0)
        # exp(r + s) = 1 + (r + tail), s < 2**-54 being too small for its square to count
        tail = fma(r * r, p, fma(s, r, s))
        high = r + tail
        low = (r - high) + tail  # exact, as |r| >= |tail|
        value = 1.0 + high
        rest = ((1.0 - value) + high) + low
        return select(below, 0.0, value * power), select(below, 0.0, rest * power)

    return narrow if t_error is types.none else double


@inlined
def logarithm(high: Any, low: Any, scale_exponent: int) -> Any:
    """log((high + low) / 2**scale_exponent) as a rounded value and the rest, to 2**-56 together.

    Where ``high`` is the scale itself, ``low`` keeps its own relative precision: the logarithm
    of 1 + 1e-300 is 1e-300. Zero gives -inf, infinity and NaN themselves.
    """
    # A subnormal total (of tiny weights) is first made normal.
    lift = select(high < 2.0**-1000, 2.0**200, 1.0)
    lifted = select(high < 2.0**-1000, 200, 0)
    number = high * lift
    exponent = (bits_of(number) - _SQRT_HALF_BITS) >> 52
    m = from_bits(bits_of(number) - (exponent << 52))  # sqrt(1/2) <= m < sqrt(2)
    # An integer near 2**52 under the float's exponent: the usual way to float64, on lanes too.
    k = from_bits((exponent - lifted - scale_exponent) + 0x4338000000000000) - _TO_INTEGER

    # log(m) = 2 atanh(s), s = (m - 1) / (m + 1), here with what its rounding left out
    f = m - 1.0  # exact
    divisor = m + 1.0
    divisor_low = m - (divisor - 1.0)
    s = f / divisor
    rest = 2.0 * (fma(-s, divisor, f) - s * divisor_low)
    w = s * s
    p = fma(fma(fma(fma(_L8, w, _L7), w, _L6), w, _L5), w, _L4)
    p = fma(fma(fma(fma(p, w, _L3), w, _L2), w, _L1), w, _L0)
    small = fma(s * w, p, rest / divisor) + low / high  # log(1 + low / high)
    value, error = two_sum(k * _LN2_HIGH, 2.0 * s)
    error = error + fma(k, _LN2_LOW, small)
    result = value + error
    result_error = (value - result) + error

    special = select(high == 0.0, -_INFINITY, high)
    result = select(high > 0.0, select(high < _INFINITY, result, special), special)
    return result, select(high > 0.0, select(high < _INFINITY, result_error, 0.0), 0.0)
