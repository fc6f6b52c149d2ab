"""The names that a run is asked for by. They need no other package: --help works without."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MAPPED = ("softmax", "log_softmax")  # a result for each logit
REDUCED = ("logsumexp", "entropy")  # one result a row
FUNCTIONS = MAPPED + REDUCED
USUAL = ("softmax", "log_softmax", "logsumexp")  # by these names in SciPy and most libraries
ELEMENTWISE = ("sigmoid", "log_sigmoid")
# What is made of a softmax without the probabilities: the functions of the suite ``scoring``.
SCORING = (
    "top_k",
    "label_log_probabilities",
    "cross_entropy",
    "cross_entropy_and_gradient",
    "sample",
    "kl_divergence",
    "softmax_vjp",
    "log_softmax_vjp",
    "logsumexp_vjp",
    "softmax_jvp",
    "softmax_jacobian",
    *ELEMENTWISE,
)

DTYPES = ("float16", "bfloat16", "float32", "float64")
OPTIONS = ("out", "where", "temperature")
# Of the functions of the suite ``scoring``. Who has ``rng=`` takes a NumPy Generator in it.
SCORING_OPTIONS = (
    *("where", "temperature", "weight", "ignore_index", "label_smoothing", "reduction"),
    *("rng", "top_k", "top_p"),
)
TARGETS = ("cpu", "cuda")
# How a callable is told which axis the classes are on. ``axis`` and ``dim`` are keywords;
# ``last``, ``first`` and ``rows`` move the axis there, ``rows`` in a matrix; ``whole`` passes the
# array as it is.
CONVENTIONS = ("axis", "dim", "last", "first", "rows", "whole")

SUITES = {
    "extremes": "overflow, underflow, offsets, spreads, results next to 0 and 1, integers",
    "edges": "ties, infinities, NaN, every length, axis and layout, out=, where=, temperature=",
    "random": "seeded draws, and sweeps of spread, offset and length",
    "properties": "what must hold of any softmax, reproducible bits among it",
    "hard": "inputs that broke libraries before, and a search for new ones",
    "scoring": "what is made of a softmax: top classes, losses, gradients, draws, sigmoids",
    "scipy": "SciPy's own tests",
    "exhaustive": "every float32 input of the two-class softmax and of exp (by name only)",
}
DEFAULT = tuple(name for name in SUITES if name != "exhaustive")
# Suites whose results are errors of single results; the others count.
MEASURED = ("extremes", "edges", "random", "hard", "scoring", "exhaustive")

# Seconds without a sign of life. The slowest check of fastsoftmax takes 6, and a first call
# that compiles four variants 12.
TIME_LIMIT = 120.0


def unknown(what: str, word: str, there: Sequence[str]) -> str:
    """That a word is not known, which are, and which may have been meant."""
    return f"unknown {what} {word!r}{meant(word, there)}; there is: {', '.join(there)}"


def meant(word: str, there: Iterable[str]) -> str:
    """Which of the words that are there may have been meant; nothing where none is near."""
    bare = {name.lstrip("-"): name for name in there}  # or all options would be near each other
    near = difflib.get_close_matches(word.lstrip("-"), bare, n=1)
    return f" (did you mean {bare[near[0]]!r}?)" if near else ""
