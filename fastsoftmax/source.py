"""What identifies the code of kernels: a digest of the modules that write and compile it.

It is taken as the import of those begins, before any of them is read. So where it is the same
later, what was imported in between, at once or when it was first needed, is what it says.
"""

from __future__ import annotations

import hashlib
import pkgutil
from importlib.util import find_spec
from typing import Any

_PACKAGES = "fastsoftmax.arithmetic", "fastsoftmax.cpu"


def _digest() -> str | None:
    """None where an importer does not show its modules' bytes, as in some frozen programs."""
    digest, count = hashlib.sha256(), 0
    try:
        for package in _PACKAGES:
            places: Any = find_spec(package).submodule_search_locations  # type: ignore[union-attr]
            for module in sorted(pkgutil.iter_modules(places), key=lambda module: module.name):
                finder: Any = module.module_finder
                spec = finder.find_spec(f"{package}.{module.name}")
                # Source, or .pyc where there is no other, from a directory or from a zip.
                content = spec.loader.get_data(spec.origin)
                digest.update(f"{package}.{module.name} {len(content)}\n".encode() + content)
                count += 1
    except Exception:  # whatever an importer raises where a file is gone, or replaced
        return None
    return digest.hexdigest() if count else None


IMPORTED = _digest()


def changed() -> bool:
    """Whether the modules are other ones than when this process began to import them."""
    return _digest() != IMPORTED
