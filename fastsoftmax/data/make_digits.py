"""Make digits.npz: real logits with their labels, for `fastsoftmax score` without a file.

    python -m pip install scikit-learn && python fastsoftmax/data/make_digits.py

Multinomial logistic regression on scikit-learn's bundled handwritten digits (1,797 images of
8 x 8 pixels; E. Alpaydin, C. Kaynak, UCI repository, 1998). Each row's logits come from a model
that was fitted on the other four fifths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def make() -> tuple[Array, Array]:
    """Logits (1797, 10) as float32, and labels as uint8."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    pixels, labels = load_digits(return_X_y=True)
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=0)
    model = LogisticRegression(max_iter=5000)
    logits = cross_val_predict(model, pixels / 16, labels, cv=folds, method="decision_function")
    return logits.astype(np.float32), labels.astype(np.uint8)


if __name__ == "__main__":
    logits, labels = make()
    np.savez(Path(__file__).with_name("digits.npz"), logits=logits, labels=labels)
