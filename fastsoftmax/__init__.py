"""softmax, log_softmax, logsumexp and entropy of millions of rows, for NumPy.

Results are within the bounds of `ERROR_BOUNDS`, a table of ULP by function and type. They have the
same bits in any batch, layout and order and on any number of threads, and are what the input was:
arrays, frames and tensors come back as such.

>>> import fastsoftmax
>>> fastsoftmax.softmax([[1.0, 2.0], [10.0, 20.0]], axis=-1)
array([[2.68941421e-01, 7.31058579e-01],
       [4.53978687e-05, 9.99954602e-01]])
>>> fastsoftmax.ERROR_BOUNDS["softmax"]["float32"]
1.75
"""

try:
    from fastsoftmax.arithmetic.formulas import ERROR_BOUNDS
    from fastsoftmax.cpu.threads import set_threading
    from fastsoftmax.functions import entropy, log_softmax, logsumexp, softmax
except KeyboardInterrupt:
    # Python imports the package before a command line in it can begin: there, it is one line.
    import sys
    from pathlib import Path

    arguments = getattr(sys, "argv", None) or [""]
    of = sys.orig_argv[-len(arguments)] if arguments[0] == "-m" else Path(arguments[0]).stem
    if of not in ("fastsoftmax", "-mfastsoftmax"):
        raise
    print("fastsoftmax: interrupted", file=sys.stderr)
    raise SystemExit(130) from None

__all__ = [
    "ERROR_BOUNDS",
    "__version__",
    "entropy",
    "log_softmax",
    "logsumexp",
    "set_threading",
    "softmax",
]

__version__ = "0.1.0"
