"""The kernels' exponential of float32 as a function of an array, for the exhaustive suite."""

import numpy as np
from generated import generated

from fastsoftmax.arithmetic import pairs
from fastsoftmax.arithmetic.lanes import from_bits, larger, loop, select, smaller, to_integer, wide

_WIDTH = 16


@generated
def _exponentials(x, out):
    c = pairs.Constants(x.element)
    for i in loop(0, x.shape[0], _WIDTH):
        count = x.shape[0] - i
        # Beyond these, results are 0 and infinity; NaN stays.
        z = larger(-c.reach, smaller(c.reach, x.load((i,), _WIDTH, count)))
        # As in a row whose largest logit is 0; what is larger is its row's largest.
        shift = pairs.shift_of(select(z > 0.0, z, 0.0), c)
        e = pairs.exponential(z, None, shift, c).e
        power = wide(c.to_integer + 8.0 * c.scale - shift) * 0.125
        scale = from_bits((to_integer(power) + 1023 - c.scale) << 52)
        out.store((i,), wide(e) * scale, count)


def exp(x):
    """exp(x), as kernels compute it of a logit, relative to the largest of its row."""
    out = np.empty_like(x)
    _exponentials(x, out)
    return out
