"""Probabilities of a million rows, into memory that is reused.

Prints:
    1,000,000 rows in 4 batches, each summing to 1
"""

import numpy as np

from fastsoftmax import softmax

random = np.random.default_rng(0)
batches = (random.normal(size=(250_000, 10)).astype(np.float32) for _ in range(4))

probabilities = np.empty((250_000, 10), np.float32)
rows = count = 0
for logits in batches:
    softmax(logits, axis=-1, out=probabilities)
    assert np.allclose(probabilities.sum(axis=-1), 1)
    rows, count = rows + len(logits), count + 1

print(f"{rows:,} rows in {count} batches, each summing to 1")
