"""The log-density of a mixture of normal distributions, by weights, far out in its tails too.

Prints:
    log p(0)   = -1.4189
    log p(100) = -4901.7756
"""

import numpy as np

from fastsoftmax import logsumexp

weights = np.array([0.3, 0.7])
means = np.array([-1.0, 1.0])


def log_density(x: np.ndarray) -> np.ndarray:
    """The log of sum_k w_k exp(-(x - m_k)^2 / 2) / sqrt(2 pi) for each x."""
    exponents = -((x[:, None] - means) ** 2) / 2 - np.log(2 * np.pi) / 2
    return logsumexp(exponents, axis=1, b=weights)


at = np.array([0.0, 100.0])
for x, value in zip(at, log_density(at), strict=True):
    print(f"log p({x:g})".ljust(10), f"= {value:.4f}")
