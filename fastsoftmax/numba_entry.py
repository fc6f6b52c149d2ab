"""What Numba loads before it compiles anything, by the entry point ``numba_extensions``.

So that `scipy.special.softmax`, `log_softmax` and `logsumexp` are known in compiled code where only
SciPy was imported. A module beside the package reads this file alone (data/numba_extension.py),
as every program that uses Numba pays for it: 1 ms, where the library takes 60, and SciPy 200.
Either is needed when such a function is first met.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

from numba.extending import typeof_impl

_NAMES = "softmax", "log_softmax", "logsumexp"

# What Numba asked before.
_before: Any = None


def init() -> None:
    """Have Numba ask here what a function is; called again, this changes nothing."""
    global _before
    before = typeof_impl.dispatch(FunctionType)
    if before.__name__ != _type_of_ours.__name__:  # which this module may be twice
        _before = before
        typeof_impl.register(FunctionType, _type_of_ours)


def begin() -> None:
    """Have Numba know this package's functions, too, which is what imports it."""
    from fastsoftmax import nopython_scoring  # noqa: F401

    init()


def _type_of_ours(value: FunctionType, context: Any) -> Any:
    """Numba's type of a function: it has none for plain ones, and then looks for what it knows."""
    if _is_scipys(value):
        from fastsoftmax import nopython

        nopython.know(value)
    return _before(value, context)


def _is_scipys(value: FunctionType) -> bool:
    """Whether it is one of SciPy's, which somebody has imported."""
    name = value.__name__
    return name in _NAMES and value is getattr(sys.modules.get("scipy.special"), name, None)
