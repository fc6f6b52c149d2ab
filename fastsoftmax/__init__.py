"""softmax, log_softmax and logsumexp: right, the same everywhere, and as fast as copying."""

from typing import TYPE_CHECKING

__all__ = ["__version__", "log_softmax", "logsumexp", "set_threading", "softmax"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fastsoftmax.functions import log_softmax, logsumexp, set_threading, softmax
else:

    def __getattr__(name: str) -> object:
        """NumPy and Numba are loaded when a function is first asked for.

        So the command line, of which this is imported first, has Ctrl-C in hand by then.
        """
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from fastsoftmax import functions

        globals()[name] = getattr(functions, name)
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
