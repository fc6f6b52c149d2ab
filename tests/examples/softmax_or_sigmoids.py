"""One softmax, or a sigmoid for each class: where classes exclude each other, and where not.

Softmax asks which class it is: its scores share what is 1 in all. k sigmoids ask of each class
whether it is there, trained one against the rest: their scores sum to anything.

Prints:
    two classes: softmax([a, b])[0] is sigmoid(a - b): True

    which digit it is, of ten       right    log-loss   scores sum to
        softmax                     94.9 %   0.21       1.00 to 1.00
        sigmoids, over their sum    94.4 %   0.26       0.13 to 1.62

    even? has loops? 3 divides it?  right    scores of a 6, all three   of a 7, none
        softmax, best threshold     76.8 %   sum to 1.00                1.00
        sigmoids, above 1/2         90.9 %   sum to 2.51                0.18
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_digits

from fastsoftmax import cross_entropy_and_gradient, log_sigmoid, sigmoid, softmax, softmax_jvp

Array = np.ndarray

a, b = np.random.default_rng(0).normal(size=(2, 1000))
first = softmax(np.stack([a, b], axis=-1), axis=-1)[:, 0]
same = np.allclose(first, sigmoid(a - b), rtol=1e-14, atol=0)
print("two classes: softmax([a, b])[0] is sigmoid(a - b):", same)

pixels, digits = load_digits(return_X_y=True)
x = np.column_stack([pixels / 16, np.ones(len(pixels))])  # the last weight is the intercept
penalty = np.ones((x.shape[1], 1))
penalty[-1] = 0
trained, tested = slice(0, None, 2), slice(1, None, 2)
label = digits[tested]


def softmax_loss(logits: Array, target: Array) -> tuple[float, Array]:
    """The loss of all rows, and its gradient."""
    return cross_entropy_and_gradient(logits, target, reduction="sum")


def softmax_change(logits: Array, change: Array) -> Array:
    """How that gradient changes where the logits do."""
    return softmax_jvp(softmax(logits, axis=-1), change)


def sigmoid_loss(logits: Array, target: Array) -> tuple[float, Array]:
    """The same of k questions of yes or no, whose losses are added."""
    signed = np.where(target, logits, -logits)
    return -log_sigmoid(signed).sum(), sigmoid(logits) - target


def sigmoid_change(logits: Array, change: Array) -> Array:
    """How that gradient changes where the logits do."""
    return sigmoid(logits) * sigmoid(-logits) * change


def logits_of(loss: Callable, gradient_change: Callable, target: Array) -> Array:
    """The tested digits' logits, of a model trained on the others by Newton's method."""
    shape = x.shape[1], target.shape[1]

    def objective(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(shape)
        value, gradient = loss(x[trained] @ weights, target[trained])
        value += (penalty * weights**2).sum() / 2
        return value, (x[trained].T @ gradient + penalty * weights).ravel()

    def hessian_times(flat: Array, direction: Array) -> Array:
        change = direction.reshape(shape)
        by_logits = gradient_change(x[trained] @ flat.reshape(shape), x[trained] @ change)
        return (x[trained].T @ by_logits + penalty * change).ravel()

    start, options = np.zeros(shape).ravel(), {"gtol": 1e-6}
    found = minimize(
        objective, start, jac=True, hessp=hessian_times, method="trust-ncg", options=options
    )
    return x[tested] @ found.x.reshape(shape)


def percent(right: Array) -> str:
    return f"{np.mean(right):.1%}".replace("%", " %")


print("\nwhich digit it is, of ten       right    log-loss   scores sum to")
ten = np.eye(10)[digits]
shares = softmax(logits_of(softmax_loss, softmax_change, ten), axis=-1)
answers = sigmoid(logits_of(sigmoid_loss, sigmoid_change, ten))
for name, p in {"softmax": shares, "sigmoids, over their sum": answers}.items():
    sums = p.sum(axis=-1)
    log_loss = -np.log(p[np.arange(len(p)), label] / sums).mean()
    print(f"    {name:28}{percent(p.argmax(axis=-1) == label)}", end="   ")
    print(f"{log_loss:<11.2f}{sums.min():.2f} to {sums.max():.2f}")

print("\neven? has loops? 3 divides it?  right    scores of a 6, all three   of a 7, none")
so = np.stack([digits % 2 == 0, np.isin(digits, [0, 6, 8, 9]), digits % 3 == 0], axis=-1)
shared = so / np.maximum(so.sum(axis=-1, keepdims=True), 1)  # softmax has 1 to give, at most
shares = softmax(logits_of(softmax_loss, softmax_change, shared), axis=-1)
answers = sigmoid(logits_of(sigmoid_loss, sigmoid_change, so))
best = max(np.linspace(0, 1, 101), key=lambda cut: np.mean((shares > cut) == so[tested]))
cuts = {"softmax, best threshold": (shares, best), "sigmoids, above 1/2": (answers, 0.5)}
for name, (p, cut) in cuts.items():
    six, seven = (p[label == digit].sum(axis=-1).mean() for digit in (6, 7))
    print(f"    {name:28}{percent((p > cut) == so[tested])}   sum to {six:<20.2f}{seven:.2f}")
