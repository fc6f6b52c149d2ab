"""What identifies the code of this package: a digest of its modules as their importer reads them.

It is taken as the package's import begins, before any other module of it is read. So where it is
the same later, what was imported in between, at once or when it was first needed, is what it says.
"""

from __future__ import annotations

import hashlib
import pkgutil
import sys
from typing import Any

_PACKAGE: Any = sys.modules[__name__.rpartition(".")[0]]


def _digest() -> str | None:
    """None where an importer does not show its modules' bytes, as in some frozen programs."""
    digest = hashlib.sha256()
    modules = sorted(pkgutil.iter_modules(_PACKAGE.__path__), key=lambda module: module.name)
    try:
        for module in modules:
            finder: Any = module.module_finder
            spec = finder.find_spec(f"{_PACKAGE.__name__}.{module.name}")
            # Source, or .pyc where there is no other, from a directory or from a zip.
            content = spec.loader.get_data(spec.origin)
            digest.update(f"{module.name} {len(content)}\n".encode() + content)
    except Exception:  # whatever an importer raises where a file is gone, or replaced
        return None
    return digest.hexdigest() if modules else None


IMPORTED = _digest()


def changed() -> bool:
    """Whether the modules are other ones than when this process began to import them."""
    return _digest() != IMPORTED
