"""All public functions, from where they live; importing them has Numba know them, too."""

from fastsoftmax import numba_entry
from fastsoftmax.arithmetic.formulas import ERROR_BOUNDS
from fastsoftmax.cpu.threads import set_threading
from fastsoftmax.divergence import kl_divergence
from fastsoftmax.functions import entropy, log_softmax, logsumexp, softmax
from fastsoftmax.gradients import (
    log_softmax_vjp,
    logsumexp_vjp,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
)
from fastsoftmax.losses import cross_entropy, cross_entropy_and_gradient
from fastsoftmax.normalizer import Normalizer
from fastsoftmax.sampling import sample
from fastsoftmax.scoring import label_log_probabilities, top_k
from fastsoftmax.sigmoids import log_sigmoid, sigmoid

__all__ = [
    "ERROR_BOUNDS",
    "Normalizer",
    "cross_entropy",
    "cross_entropy_and_gradient",
    "entropy",
    "kl_divergence",
    "label_log_probabilities",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "sample",
    "set_threading",
    "sigmoid",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "top_k",
]

numba_entry.begin()
