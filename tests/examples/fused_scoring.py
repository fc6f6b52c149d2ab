"""The next word, without all words' probabilities: the best, the loss of what came, and draws.

Prints:
    best  [['mat' 'rug']
     ['moon' 'rug']]
    p     [[0.59 0.24]
     [0.92 0.03]]
    log p [-1.43 -0.08]
    loss  0.76, its gradient [ 0.29 -0.38  0.08  0.01]
    drawn [['mat' 'mat' 'mat' 'mat' 'rug']
     ['moon' 'moon' 'moon' 'moon' 'moon']]
"""

import numpy as np

from fastsoftmax import cross_entropy_and_gradient, label_log_probabilities, sample, top_k

np.set_printoptions(precision=2, suppress=True)
words = np.array(["mat", "rug", "sofa", "moon"])
logits = np.array([[4.1, 3.2, 2.8, 0.3], [0.1, 0.4, 0.2, 3.8]])  # two sentences, four words
came = np.array([1, 3])  # rug, moon

probabilities, best = top_k(logits, 2)
print("best ", words[best])
print("p    ", probabilities)
print("log p", label_log_probabilities(logits, came))
loss, gradient = cross_entropy_and_gradient(logits, came)
print(f"loss  {loss:.2f}, its gradient", gradient[0])
print("drawn", words[sample(logits, 5, rng=0, temperature=0.7)])
