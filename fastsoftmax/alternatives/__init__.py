"""Other ways from numbers to probabilities than the exponential, with their gradients.

`standard_normalize` divides by the sum, `spherical_softmax` squares first, `taylor_softmax` takes a
polynomial in the place of the exponential; `sparsemax` and `entmax` give 0 to all that is far below
the largest. `fastsoftmax compare` shows them side by side.

They are computed on the CPU, of whatever `fastsoftmax.softmax` takes on the host. A row's bits
depend on its values alone, as for softmax.

>>> from fastsoftmax import alternatives
>>> alternatives.standard_normalize([[1.0, 2.0], [10.0, 20.0]])
array([[0.33333333, 0.66666667],
       [0.33333333, 0.66666667]])
>>> alternatives.sparsemax([[1.0, 1.2], [10.0, 20.0]])
array([[0.4, 0.6],
       [0. , 1. ]])
"""

from fastsoftmax.alternatives.quotients import (
    spherical_softmax,
    spherical_softmax_vjp,
    standard_normalize,
    standard_normalize_vjp,
    taylor_softmax,
    taylor_softmax_vjp,
)
from fastsoftmax.alternatives.thresholds import (
    entmax,
    entmax15,
    entmax15_vjp,
    entmax_vjp,
    sparsemax,
    sparsemax_vjp,
)

__all__ = [
    "entmax",
    "entmax15",
    "entmax15_vjp",
    "entmax_vjp",
    "sparsemax",
    "sparsemax_vjp",
    "spherical_softmax",
    "spherical_softmax_vjp",
    "standard_normalize",
    "standard_normalize_vjp",
    "taylor_softmax",
    "taylor_softmax_vjp",
]
