"""The module ``fastsoftmax_numba``, which Numba loads by the entry point ``numba_extensions``.

It is installed beside the package (pyproject.toml), which to import takes 60 ms, and reads one file
of it: numba_entry.py, which says why.
"""

from __future__ import annotations

import importlib.util
import os


def init() -> None:
    """What Numba calls before it compiles anything."""
    package = importlib.util.find_spec("fastsoftmax")  # which does not import it
    if package is None or package.origin is None:
        return
    path = os.path.join(os.path.dirname(package.origin), "numba_entry.py")
    found = importlib.util.spec_from_file_location("fastsoftmax_numba_entry", path)
    if found is None or found.loader is None:
        return
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    module.init()
