"""The kernels' exponential of float32 as a function of an array, for the exhaustive suite."""

import numpy as np
from units import compiled

from fastsoftmax.cpu import arithmetic, lanes, memory


@compiled
def _exponentials(x, out):
    c = arithmetic.constants_for(x)
    unit = memory.unit_of(x, None, 1)
    for i in range(0, x.size, memory.width_of(unit)):
        z = memory.load(x, (i,), x.size - i, 0.0, unit)
        # Beyond these, results are 0 and infinity.
        z = lanes.select(z < -c[arithmetic.REACH], -c[arithmetic.REACH], z)
        z = lanes.select(z > c[arithmetic.REACH], c[arithmetic.REACH], z)
        # As in a row whose largest logit is 0; what is larger is its row's largest.
        power = arithmetic.power_of(lanes.select(z > 0.0, z, 0.0), c)
        e, _, _ = arithmetic.exponential(z, None, power, c)
        unscaled = (arithmetic.SCALE_SINGLE << 23) - power
        halves = lanes.from_bits((unscaled >> 1 & -0x800000) + 0x3F800000)
        others = lanes.from_bits(unscaled - (unscaled >> 1 & -0x800000) + 0x3F800000)
        e = e * c[arithmetic.UNSCALE] * halves * others
        memory.store(out, (i,), x.size - i, e)


def exp(x):
    """exp(x), as kernels compute it of a logit, relative to the largest of its row."""
    out = np.empty_like(x)
    _exponentials(x, out)
    return out
