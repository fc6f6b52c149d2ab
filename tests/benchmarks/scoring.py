"""What is made of a softmax, who computes it, and what its time is held to.

Each function of this module takes what is `Given` and returns calls without arguments: ours, the
one whose time ours is measured by, and others' by the library's name. Ours and theirs compute the
same, which is checked before they are measured. ``out=`` is reused where there is one.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

import fastsoftmax
from benchmarks import peers, regimes, yardstick
from fastsoftmax import alternatives

try:
    import torch
except ModuleNotFoundError:  # reported at the end
    torch = None

OURS, BESIDE = "fastsoftmax", "beside"
SIZES = [
    (1_000_000, 10), (200_000, 50), (100_000, 100), (16384, 1000), (8192, 4096), (64, 256_000),
]  # fmt: skip
SHAPES = [shape for shape in regimes.SHAPES if shape.shape in SIZES and shape.axis == -1]

Calls = dict[str, Callable[[], Any]]


class Given:
    """Arrays of one shape, made when they are first asked for."""

    def __init__(self, shape):
        self._shape = shape
        if torch:
            torch.set_num_threads(peers.THREADS)

    def _normal(self, seed):
        return np.random.default_rng(seed).standard_normal(self._shape, dtype=np.float32)

    @functools.cached_property
    def logits(self):
        """Of a deviation of 3."""
        return self._normal(0) * np.float32(3)

    @functools.cached_property
    def others(self):
        """Logits beside these, or a gradient."""
        return self._normal(1)

    @functools.cached_property
    def labels(self):
        """A class for each row."""
        return np.random.default_rng(2).integers(self._shape[1], size=self._shape[0])

    @functools.cached_property
    def probabilities(self):
        """The logits' softmax."""
        return fastsoftmax.softmax(self.logits, axis=-1)

    @functools.cached_property
    def out(self):
        """For results of ours and of NumPy."""
        return np.zeros(self._shape, np.float32)

    @functools.cached_property
    def out_of_torch(self):
        """For results of torch, which are compared with ours."""
        return torch.zeros(self._shape)

    def tensors(self, *arrays):
        """The same memory as torch's; None for each where torch is not there."""
        return [torch.from_numpy(array) if torch else None for array in arrays]

    def logsumexp(self):
        """Reads the logits, and writes a number for each row."""
        return fastsoftmax.logsumexp(self.logits, axis=-1)

    def softmax(self):
        """Reads the logits, and writes as many numbers."""
        return fastsoftmax.softmax(self.logits, axis=-1, out=self.out)

    def at_labels(self, x):
        """One number of each row."""
        return x[np.arange(len(x)), self.labels]


def cross_entropy(given: Given) -> Calls:
    """The mean loss of class indices."""
    x, labels = given.logits, given.labels
    a, b = given.tensors(x, labels)
    return {
        OURS: lambda: fastsoftmax.cross_entropy(x, labels),
        BESIDE: given.logsumexp,
        "torch": lambda: torch.nn.functional.cross_entropy(a, b),
        "scipy": lambda: (scipy.special.logsumexp(x, axis=-1) - given.at_labels(x)).mean(),
    }


def label_log_probabilities(given: Given) -> Calls:
    """One label a row."""
    x, labels = given.logits, given.labels
    a, b = given.tensors(x, labels)
    return {
        OURS: lambda: fastsoftmax.label_log_probabilities(x, labels),
        BESIDE: given.logsumexp,
        "torch": lambda: torch.log_softmax(a, -1).gather(1, b[:, None])[:, 0],
        "scipy": lambda: given.at_labels(x) - scipy.special.logsumexp(x, axis=-1),
    }


def top_k(given: Given, k: int) -> Calls:
    """The best classes with their probabilities."""
    x = given.logits
    (a,) = given.tensors(x)

    def chosen_by_numpy():
        best = np.argpartition(x, -k, axis=-1)[:, -k:]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(x, best, -1)), -1)
        top = np.take_along_axis(x, best, -1)
        return np.exp(top - scipy.special.logsumexp(x, axis=-1, keepdims=True)), best

    return {
        OURS: lambda: fastsoftmax.top_k(x, k),
        BESIDE: given.logsumexp,
        "torch": lambda: torch.topk(torch.softmax(a, -1), k),
        "scipy": chosen_by_numpy,
    }


def entropy(given: Given) -> Calls:
    """In nats."""
    x = given.logits
    (a,) = given.tensors(x)
    return {
        OURS: lambda: fastsoftmax.entropy(x, axis=-1),
        BESIDE: given.logsumexp,
        "torch": lambda: torch.special.entr(torch.softmax(a, -1)).sum(-1),
        "scipy": lambda: scipy.special.entr(scipy.special.softmax(x, axis=-1)).sum(-1),
    }


def sample(given: Given) -> Calls:
    """One draw a row."""
    x, rng = given.logits, np.random.default_rng(3)
    (a,) = given.tensors(x)

    def race():
        noise = rng.random(x.shape, np.float32)
        np.log1p(-noise, out=noise)
        return np.argmin(-noise / np.exp(x), axis=-1)

    return {
        OURS: lambda: fastsoftmax.sample(x, rng=rng),
        BESIDE: given.logsumexp,
        "torch": lambda: torch.multinomial(torch.softmax(a, -1), 1)[:, 0],
        "numpy": race,
    }


def cross_entropy_and_gradient(given: Given) -> Calls:
    """The mean loss of class indices, and its gradient."""
    x, labels, out = given.logits, given.labels, given.out
    a, b = given.tensors(x, labels)
    if torch:
        a = a.requires_grad_()

    def backward():
        a.grad = None
        loss = torch.nn.functional.cross_entropy(a, b)
        loss.backward()
        return loss, a.grad

    def composed():
        p = scipy.special.softmax(x, axis=-1)
        loss = -np.log(given.at_labels(p)).mean()
        p[np.arange(len(x)), labels] -= 1
        p /= len(x)
        return loss, p

    return {
        OURS: lambda: fastsoftmax.cross_entropy_and_gradient(x, labels, out=out),
        BESIDE: given.softmax,
        "torch": backward,
        "scipy": composed,
    }


def softmax_vjp(given: Given) -> Calls:
    """Of a gradient by every probability."""
    p, g, out = given.probabilities, given.others, given.out
    a, b = given.tensors(p, g)
    copies = yardstick.copying(p), yardstick.copying(g)
    if torch:  # what autograd calls
        backward = torch.ops.aten._softmax_backward_data.out
        into = given.out_of_torch

    def of_both():
        for copy in copies:
            copy()

    def composed():
        t = p * g
        return np.subtract(t, p * t.sum(axis=-1, keepdims=True), out=t)

    return {
        OURS: lambda: fastsoftmax.softmax_vjp(p, g, out=out),
        BESIDE: of_both,
        "torch": lambda: backward(b, a, -1, torch.float32, grad_input=into),
        "numpy": composed,
    }


def kl_divergence(given: Given) -> Calls:
    """Between the softmax of two arrays of logits."""
    x, y = given.logits, given.others
    a, b = given.tensors(x, y)

    def of_both():
        fastsoftmax.logsumexp(x, axis=-1)
        fastsoftmax.logsumexp(y, axis=-1)

    def of_tensors():
        p, q = torch.log_softmax(a, -1), torch.log_softmax(b, -1)
        return torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)

    def composed():
        p, q = scipy.special.softmax(x, axis=-1), scipy.special.softmax(y, axis=-1)
        return scipy.special.rel_entr(p, q).sum(-1)

    return {
        OURS: lambda: fastsoftmax.kl_divergence(x, y),
        BESIDE: of_both,
        "torch": of_tensors,
        "scipy": composed,
    }


def sigmoid(given: Given) -> Calls:
    """Of every number by itself."""
    x, out = given.logits, given.out
    (a,) = given.tensors(x)
    into = given.out_of_torch if torch else None
    return {
        OURS: lambda: fastsoftmax.sigmoid(x, out=out),
        BESIDE: yardstick.copying(x),
        "torch": lambda: torch.sigmoid(a, out=into),
        "scipy": lambda: scipy.special.expit(x),
    }


def sparsemax(given: Given) -> Calls:
    """Beside the usual one, which sorts."""
    x, out = given.logits, given.out

    def sorting():
        z = np.sort(x, axis=-1)[:, ::-1]
        total = np.cumsum(z, axis=-1) - 1
        place = np.arange(1, x.shape[1] + 1, dtype=np.float32)
        support = (place * z > total).sum(axis=-1, keepdims=True)
        tau = np.take_along_axis(total, support - 1, -1) / support.astype(np.float32)
        return np.maximum(x - tau, 0)

    return {
        OURS: lambda: alternatives.sparsemax(x, out=out),
        BESIDE: given.softmax,
        "numpy": sorting,
    }


@dataclass(frozen=True)
class Question:
    """A function, what its time is measured by, and how the two may compare."""

    name: str
    beside: str
    calls: Callable[[Given], Calls]
    wanted: float | None = None  # at most: our time over that one's
    wanted_from: int = 1  # at rows of this many logits and more
    wanted_of_peers: float = 1.0  # at least: the best other's time over ours
    shapes: tuple[tuple[int, int], ...] = tuple(SIZES)


QUESTIONS = [
    Question("cross_entropy", "logsumexp", cross_entropy, 1.15),
    Question("label_log_probabilities", "logsumexp", label_log_probabilities, 1.15),
    *(
        Question(f"top_k, k = {k}", "logsumexp", functools.partial(top_k, k=k), 1.3)
        for k in (1, 5, 10)
    ),
    Question("entropy", "logsumexp", entropy, 1.5),
    Question("sample, one draw a row", "logsumexp", sample, 3, wanted_from=1000),
    Question("cross_entropy_and_gradient", "softmax", cross_entropy_and_gradient, 1.3),
    Question("softmax_vjp", "a copy of both", softmax_vjp, 1.3),
    Question("kl_divergence", "two logsumexp", kl_divergence),
    Question("sigmoid", "a copy", sigmoid),
    Question("sparsemax", "softmax", sparsemax, wanted_of_peers=10, shapes=((16384, 1000),)),
]
