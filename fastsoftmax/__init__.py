"""softmax and its kin: right, the same everywhere, and as fast as copying."""

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
