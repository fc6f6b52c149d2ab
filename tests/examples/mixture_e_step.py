"""A mixture of normal distributions, fitted by a loop that Numba compiles and runs on all CPUs.

Prints:
    means   -2.01  1.00
    weights  0.30  0.70
"""

import math

import numba
import numpy as np

from fastsoftmax import logsumexp, softmax


@numba.njit(parallel=True)
def e_step(x, log_weights, means, responsibilities):
    """How far each point belongs to each component, and its log-likelihood."""
    likelihoods = np.empty(len(x))
    for i in numba.prange(len(x)):
        scores = log_weights - (x[i] - means) ** 2 / 2 - 0.5 * math.log(2 * math.pi)
        responsibilities[i] = softmax(scores)
        likelihoods[i] = logsumexp(scores)
    return likelihoods


random = np.random.default_rng(0)
x = np.where(random.random(200_000) < 0.3, -2.0, 1.0) + random.normal(size=200_000)

means, weights = np.array([-1.0, 0.5]), np.array([0.5, 0.5])
responsibilities, before = np.empty((len(x), 2)), -math.inf
while True:
    likelihood = e_step(x, np.log(weights), means, responsibilities).sum()
    if likelihood - before < 1e-6 * len(x):
        break
    before, weights = likelihood, responsibilities.mean(axis=0)
    means = (responsibilities * x[:, None]).sum(axis=0) / responsibilities.sum(axis=0)

print(f"means   {means[0]:5.2f} {means[1]:5.2f}")
print(f"weights {weights[0]:5.2f} {weights[1]:5.2f}")
