"""The arithmetic of all targets: what is computed of rows, as Python that writes code."""

# First, so that it has seen every other module before that is imported.
from fastsoftmax import source  # noqa: F401
