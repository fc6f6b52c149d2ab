"""softmax, log_softmax and logsumexp: right, the same everywhere, and as fast as copying."""

from fastsoftmax.functions import log_softmax, logsumexp, softmax

__all__ = ["__version__", "log_softmax", "logsumexp", "softmax"]

__version__ = "0.1.0"
