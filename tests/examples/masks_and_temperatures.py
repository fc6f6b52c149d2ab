"""Classes that are not allowed, and a temperature for each row.

Prints:
    allowed only    [0.     0.2689 0.7311]
    by temperature  [[0.     0.0025 0.9975]
     [0.1863 0.3072 0.5065]]
    greedy          [0. 0. 1.]
    nothing allowed [0. 0. 0.]
"""

import numpy as np

from fastsoftmax import softmax

np.set_printoptions(precision=4, suppress=True)
logits = np.array([1.0, 2.0, 3.0])

print("allowed only   ", softmax(logits, where=[False, True, True]))

rows = np.stack([logits * 3, logits])
temperatures = np.array([[0.5], [2.0]])  # one a row: of shape (rows, 1)
print("by temperature ", softmax(rows, axis=-1, temperature=temperatures))

print("greedy         ", softmax(logits, temperature=0))
print("nothing allowed", softmax(logits, where=False))
