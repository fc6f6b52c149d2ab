"""Other packages' classes, known where a program has imported these, and never imported here."""

from __future__ import annotations

import sys
from typing import Any


def is_a(x: Any, module: str, *names: str) -> bool:
    """Whether ``x`` is of one of these classes of a module."""
    loaded = sys.modules.get(module)
    if loaded is None:
        return False
    for name in names:
        known = getattr(loaded, name, None)  # another thread may be importing the module
        if known is not None and isinstance(x, known):
            return True
    return False


def type_name(x: Any) -> str:
    """The name of an object's class, with its module."""
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")


def torch_type(dtype: Any) -> str:
    """What NumPy calls one of torch's types."""
    return str(dtype).removeprefix("torch.")
