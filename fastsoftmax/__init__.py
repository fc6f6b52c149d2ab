"""softmax, log_softmax, logsumexp and entropy of millions of rows, for NumPy.

Results are within the bounds of `ERROR_BOUNDS`, a table of ULP by function and type. They have the
same bits in any batch, layout and order and on any number of threads, and are what the input was:
arrays, frames and tensors come back as such.

>>> import fastsoftmax
>>> fastsoftmax.softmax([[1.0, 2.0], [10.0, 20.0]], axis=-1)
array([[2.68941421e-01, 7.31058579e-01],
       [4.53978687e-05, 9.99954602e-01]])
>>> fastsoftmax.ERROR_BOUNDS["softmax"]["float32"]
1.75
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING

__all__ = [
    "ERROR_BOUNDS",
    "Normalizer",
    "__version__",
    "alternatives",
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

__version__ = "0.1.0"


def _begins_the_command_line() -> bool:
    """Whether Python imports the package for `fastsoftmax` or `python -m fastsoftmax`."""
    arguments = getattr(sys, "argv", None) or [""]
    if arguments[0] == "-m":
        return sys.orig_argv[-len(arguments)] in ("fastsoftmax", "-mfastsoftmax")
    return os.path.basename(arguments[0]) in ("fastsoftmax", "fastsoftmax.exe")


if TYPE_CHECKING:
    from fastsoftmax import alternatives
if TYPE_CHECKING or not _begins_the_command_line():
    from fastsoftmax.public import (
        ERROR_BOUNDS,
        Normalizer,
        cross_entropy,
        cross_entropy_and_gradient,
        entropy,
        kl_divergence,
        label_log_probabilities,
        log_sigmoid,
        log_softmax,
        log_softmax_vjp,
        logsumexp,
        logsumexp_vjp,
        sample,
        set_threading,
        sigmoid,
        softmax,
        softmax_jacobian,
        softmax_jvp,
        softmax_vjp,
        top_k,
    )
if not TYPE_CHECKING:
    # The command answers a wrong option or `--help` without NumPy and Numba, which take 0.4 s to
    # import. Whatever else has its name finds the library's names as it asks for them; and
    # everybody `alternatives`.
    def __getattr__(name: str) -> object:
        if name == "alternatives":
            return importlib.import_module(f"{__name__}.alternatives")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.public"), name)
