"""All that reaches into Numba's private parts: what would break with another version is here.

Each part says what it needs, and the public way, where there is one. (`numba.core.cgutils`,
`numba.core.typing` and an intrinsic's context and builder, which other modules use, are what
Numba's documentation writes extensions with. Numba's threads are asked for by public names.)
"""

from __future__ import annotations

import functools
import pickle
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils, serialize
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock

# Needs the lock in which Numba compiles, as a decorator, and what it is made of, to be held at a
# fork. Without it, a child that was forked while another thread compiled waits for ever. No public
# way.
compiling: Any = global_compiler_lock
lock: Any = getattr(global_compiler_lock, "_lock", None) or threading.RLock()

# Needs four options of njit that are not documented: without them, code is right and slower.
# "_nrt": else Numba would count references to the arrays of a kernel for each row: 1.1x on rows of
# 1000. (Public: "error_model". "numpy": a division by zero gives infinity or NaN, with no check.)
# "fastmath": else what is compiled while a user's function is would have that one's.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False, "fastmath": False}
# For what Python calls: one wrapper less.
CALLED: dict[str, Any] = OPTIONS | {"no_cfunc_wrapper": True}
# For what is called by its address alone: no wrapper, each of which takes as long to compile.
ADDRESSED: dict[str, Any] = CALLED | {"no_cpython_wrapper": True}


def target() -> tuple[str, str, str]:
    """The triple, CPU and features that code is generated for.

    Needs ``magic_tuple``, which Numba's own cache is keyed by. `llvmlite.binding` tells the host's
    publicly, but not what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES make of it.
    """
    triple, name, features = _context().codegen().magic_tuple()
    return triple, name, features


@functools.cache
def features() -> frozenset[str]:
    """What the CPU that code is generated for can do."""
    return frozenset(target()[2].split(","))


def _context() -> Any:
    """Numba's CPU target. No public way."""
    return numba.core.registry.cpu_target.target_context


def know_what_is_new() -> None:
    """Have Numba find overloads that are made while it types the function that calls them.

    Otherwise it looks for new ones before. No public way.
    """
    numba.core.registry.cpu_target.typing_context.refresh()


class Store(Protocol):
    """Where the compiled code of signatures is kept; see cache.py."""

    def load(self, signature: Any) -> bytes | None:
        """What was kept for a signature."""

    def save(self, signature: Any, code: bytes) -> None:
        """Keep it."""


class _Cache:
    """What a dispatcher asks of its private attribute ``_cache``, from a store.

    Needs the names of the two methods, and the order of what ``_reduce`` gives and ``_rebuild``
    takes: the environments are the last. The public way, njit(cache=True), looks at the defining
    file alone and, where nothing is writable, raises as the package is imported.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def load_overload(self, signature: Any, context: Any) -> Any:
        code = self._store.load(signature)
        return None if code is None else CompileResult._rebuild(context, *pickle.loads(code))

    def save_overload(self, signature: Any, result: Any) -> None:
        # Not the environments, which are for raising exceptions: to load them would load kernels.
        *code, _environments = result._reduce()
        self._store.save(signature, serialize.dumps((*code, ())))


def entry(function: Any, signature: Any, store: Store) -> Callable[..., Any]:
    """What Python calls, compiled or kept.

    Needs that ``compile`` returns the builtin for one signature: calling it spares Numba's
    inspection of each argument. The public way is to call the dispatcher.
    """
    function._cache = _Cache(store)
    made: Callable[..., Any] = function.compile(signature)
    return made


def address(signature: Any, store: Store, make: Callable[[], Any]) -> int:
    """The address of machine code, kept or compiled, of the dispatcher that ``make`` returns.

    What was kept is loaded without a dispatcher: all that Numba can compile is not loaded for
    that, which would take 0.2 s. The public way to an address is `numba.cfunc`, whose code is
    kept by cache=True alone.
    """
    result = _Cache(store).load_overload(signature, _context())
    if result is None:
        function = make()
        entry(function, signature, store)
        result = function.overloads[signature.args]
    _libraries.append(result.library)
    place: int = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    return place


# The owners of code that is called by its address. Numba keeps the code without them, but with
# references to nothing, at which gevent's monkey.patch_all() fails.
_libraries: list[Any] = []


def emit_call(
    context: Any, builder: ir.IRBuilder, place: ir.Value, kinds: tuple[Any, ...], values: Any
) -> None:
    """LLVM's code for a call of what is at such an address, and returns nothing.

    Needs Numba's own calling convention. The public way, C's, is `numba.cfunc`'s.
    """
    convention = context.call_conv
    pointer = convention.get_function_type(types.none, kinds).as_pointer()
    callee = builder.inttoptr(place, pointer)
    convention.call_function(builder, callee, types.none, kinds, values)


def emit_named_address(context: Any, builder: ir.IRBuilder, name: str, kept: Any) -> ir.Value:
    """LLVM's code for the address of machine code that each process has somewhere else.

    The code that is written knows its name, of which `binding.add_symbol` tells LLVM the address in
    this process. ``kept`` is pickled with the code of all that this becomes part of: unpickled
    before that is loaded, it tells LLVM there.

    Needs the constants of the function's environment, where Numba keeps the exceptions that it
    raises. The public ways put an address into the code (ctypes), or all of the callee's code.
    """
    constants = context.environment.consts
    if kept not in constants:
        constants.append(kept)
    kind = ir.FunctionType(ir.VoidType(), [])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.ptrtoint(function, ir.IntType(64))
