"""How kernels are compiled, and where the compiled code is kept between processes.

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
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils, serialize
from numba.core.compiler import CompileResult
from numba.extending import intrinsic, overload

Entry = Callable[..., Any]
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_instruction: _Decorator = intrinsic

# "numpy": a division by zero gives infinity or NaN and costs no check. Without "_nrt", Numba
# would count references to the arrays of a kernel for each row: 1.1x on rows of 1000.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}

# For what runs inside kernels alone; wrappers for calls from Python and C would take another half
# of the time to compile.
_INSIDE = _OPTIONS | {"forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

inlined: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(**_INSIDE)


def chosen(choose: Callable[..., Any]) -> Callable[..., Any]:
    """A formula whose body ``choose`` picks by the Numba types of the arguments.

    For what is one thing in two arithmetics and returns other types in each; where the types
    agree, an ``if ... is None`` inside an inlined function does.
    """

    def formula(*args: Any) -> Any:
        raise NotImplementedError(f"{choose.__name__} runs inside compiled code only")

    overload(formula, strict=False, jit_options=_INSIDE)(choose)
    return formula


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


def _short_hash(kinds: Any) -> str:
    return hashlib.sha256(repr(kinds).encode()).hexdigest()[:16]


class _Store:
    """What a Numba dispatcher asks of its cache: to load and to save a compiled signature."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def cache_path(self) -> str:
        return str(cache_directory())

    def _file(self, signature: Any) -> Path:
        return cache_directory() / f"{self.name}.{_short_hash(signature)}.bin"

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        target_context.refresh()
        try:
            content = self._file(signature).read_bytes()
        except OSError:
            return None
        checksum, payload = content[:32], content[32:]
        if hashlib.sha256(payload).digest() != checksum:
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(payload))

    def save_overload(self, signature: Any, result: Any) -> None:
        payload = serialize.dumps(result._reduce())
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


def kernel(function: Callable[..., None]) -> Any:
    """A kernel, compiled by `compiled` for the types of its arguments when they are first met.

    Its last two arguments are the first and the last of the items (rows, panels) that it does.
    """
    dispatcher = inlined(function)
    module = function.__module__.rpartition(".")[2]
    dispatcher.cache_name = f"{module}.{function.__name__}"  # type: ignore[attr-defined]
    return dispatcher


# A kernel's machine code is called through an address, with the address of its arguments and the
# items to do: so there is one way to share work among threads, compiled once for all kernels.


@_instruction
def _call(typing: Any, address: Any, arguments: Any) -> Any:
    """Call a compiled function, which returns nothing, with integers as arguments."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kinds = tuple(sig.args[1])
        convention = context.call_conv
        kind = convention.get_function_type(types.none, kinds)
        callee = builder.inttoptr(args[0], kind.as_pointer())
        values = cgutils.unpack_tuple(builder, args[1])
        convention.call_function(builder, callee, types.none, kinds, values)
        return context.get_dummy_value()

    return types.void(address, arguments), emit


@_instruction
def _address_of(typing: Any, arguments: Any) -> Any:
    """The address of a copy of a tuple on the stack."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        memory = cgutils.alloca_once_value(builder, args[0])
        return builder.ptrtoint(memory, ir.IntType(64))

    return types.int64(arguments), emit


def _reader(kind: types.Type) -> Any:
    """What reads a tuple of this type from an address."""

    @_instruction
    def read(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            pointer = context.get_value_type(kind).as_pointer()
            return builder.load(builder.inttoptr(args[0], pointer))

        return kind(address), emit

    return read


def _address(dispatcher: Any, signature: Any) -> int:
    """The address of the machine code for a signature."""
    dispatcher.compile(signature)
    result = dispatcher.overloads[signature.args]
    address: int = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    return address


@functools.cache
def on_all_threads() -> int:
    """The address of what shares the items of any kernel among Numba's threads, in equal chunks."""

    @njit(parallel=True, no_cfunc_wrapper=True, no_cpython_wrapper=True, **_OPTIONS)
    def launch(address: int, arguments: int, count: int, chunks: int) -> None:
        for chunk in prange(chunks):
            first, last = count * chunk // chunks, count * (chunk + 1) // chunks
            _call(address, (arguments, first, last))

    launch._cache = _Store("cache.on_all_threads")
    return _address(launch, types.void(*[types.int64] * 4))


@functools.cache
def caller(kinds: tuple[types.Type, ...]) -> Entry:
    """What calls kernels that take arguments of these types.

    ``call(arguments, address, launcher, count, chunks)``: the kernel at ``address`` does ``count``
    items, at once or, where chunks > 1, on all threads by ``launcher``. Calling this spares
    Numba's inspection of each argument, and lets one signature, of any strides, serve contiguous
    and read-only arrays too instead of a variant for each.
    """

    @njit(no_cfunc_wrapper=True, **_OPTIONS)
    def call(arguments: Any, address: int, launcher: int, count: int, chunks: int) -> None:
        place = _address_of(arguments)
        if chunks > 1:
            _call(launcher, (address, place, count, chunks))
        else:
            _call(address, (place, 0, count))

    call._cache = _Store("cache.caller")
    entry: Entry = call.compile(types.void(types.Tuple(kinds), *[types.int64] * 4))
    return entry


def compiled(kernel: Any, kinds: tuple[types.Type, ...]) -> int:
    """The address of a kernel's machine code for arguments of these types."""
    read = _reader(types.Tuple(kinds))

    @njit(no_cfunc_wrapper=True, no_cpython_wrapper=True, **_OPTIONS)
    def body(arguments: int, first: int, last: int) -> None:
        kernel(*read(arguments), first, last)

    body._cache = _Store(f"{kernel.cache_name}.{_short_hash(kinds)}")
    return _address(body, types.void(*[types.int64] * 3))
