"""Where compiled code is kept between processes.

One file for each kernel and signature, in a directory named by everything that the code depends
on: every source file of the package, the versions of Python, Numba, llvmlite and NumPy, the CPU
and its features. So an entry is never stale and processes never share a file that changes. A
file is written beside its place and renamed when whole, and carries its checksum: a damaged one
is compiled afresh. Where nothing can be written, code is compiled in memory, with one warning.

Numba's own `cache=True` looks at the defining file alone and, where nothing is writable, raises
as the package is imported.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import llvmlite
import numba
import numpy as np
from numba.core import serialize
from numba.core.compiler import CompileResult
from numba.extending import intrinsic

Entry = Callable[..., Any]
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_instruction: _Decorator = intrinsic


def cache_directory() -> Path:
    """The directory for compiled code: NUMBA_CACHE_DIR, else the user's own."""
    base = os.environ.get("NUMBA_CACHE_DIR")
    if not base:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(
            os.path.expanduser("~"), "AppData/Local" if os.name == "nt" else ".cache"
        )
    return Path(base) / "fastsoftmax" / _fingerprint()


@functools.cache
def _fingerprint() -> str:
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for source in sorted(package.rglob("*.py")):
        digest.update(source.relative_to(package).as_posix().encode() + b"\0")
        digest.update(source.read_bytes())
    codegen = numba.core.registry.cpu_target.target_context.codegen()
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    digest.update(repr((versions, platform.machine(), codegen.magic_tuple())).encode())
    return digest.hexdigest()[:24]


def short_hash(kinds: Any) -> str:
    """A part of a file's name that differs where the types of arguments do."""
    return hashlib.sha256(repr(kinds).encode()).hexdigest()[:16]


class Store:
    """What a Numba dispatcher asks of its cache: to load and to save a compiled signature."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def cache_path(self) -> str:
        """Where the files are, for Numba's statistics."""
        return str(cache_directory())

    def _file(self, signature: Any) -> Path:
        return cache_directory() / f"{self.name}.{short_hash(signature)}.bin"

    def load(self, signature: Any) -> CompileResult | None:
        """What was kept for a signature.

        All that Numba can compile is not loaded for that, which would take 0.2 s.
        """
        try:
            content = self._file(signature).read_bytes()
        except OSError:
            return None
        checksum, payload = content[:32], content[32:]
        if hashlib.sha256(payload).digest() != checksum:
            return None
        context = numba.core.registry.cpu_target.target_context
        return CompileResult._rebuild(context, *pickle.loads(payload))

    def load_overload(self, signature: Any, target_context: Any) -> CompileResult | None:
        """As ``load``, for Numba."""
        return self.load(signature)

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a file of it, where there is room for one."""
        # Not the environments, which are for raising exceptions: to load them would load kernels.
        *code, _environments = result._reduce()
        payload = serialize.dumps((*code, ()))
        content = hashlib.sha256(payload).digest() + payload
        target = self._file(signature)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as file:
                file.write(content)
        except OSError as error:
            _warn_once(f"{target.parent}: {error.strerror or error}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that is written beside its place and takes its name when the block ends well.

    So nobody ever sees half of it, and an old one stays as it is until then.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "r+b") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"fastsoftmax keeps its compiled code in memory only ({reason}): every process will "
        "compile again. Point NUMBA_CACHE_DIR to a writable directory to keep it.",
        RuntimeWarning,
        stacklevel=2,
    )
