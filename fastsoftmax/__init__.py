"""softmax and its kin: right, the same everywhere, and as fast as copying."""

import os
import sys
from typing import TYPE_CHECKING

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


def _begins_the_command_line() -> bool:
    """Whether Python imports the package for `fastsoftmax` or `python -m fastsoftmax`."""
    arguments = getattr(sys, "argv", None) or [""]
    if arguments[0] == "-m":
        return sys.orig_argv[-len(arguments)] in ("fastsoftmax", "-mfastsoftmax")
    return os.path.basename(arguments[0]) in ("fastsoftmax", "fastsoftmax.exe")


if TYPE_CHECKING or not _begins_the_command_line():
    from fastsoftmax.arithmetic.formulas import ERROR_BOUNDS
    from fastsoftmax.cpu.threads import set_threading
    from fastsoftmax.functions import entropy, log_softmax, logsumexp, softmax
else:
    # It answers a wrong option or `--help` without NumPy and Numba, which take 0.4 s to import.
    # Whatever else has that name finds the library's names as it asks for them.
    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from fastsoftmax import functions
        from fastsoftmax.arithmetic import formulas
        from fastsoftmax.cpu import threads

        homes = functions, formulas, threads
        return next(getattr(home, name) for home in homes if hasattr(home, name))
