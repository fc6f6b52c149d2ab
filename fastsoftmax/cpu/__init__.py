"""The CPU target: kernels on lanes, and what compiles, keeps and chooses them."""

# First, so that it has seen every other module before that is imported.
from fastsoftmax import source  # noqa: F401
