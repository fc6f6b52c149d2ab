"""How the machine code of kernels is called, on one thread or on all.

Through an address, with the address of its arguments and the items to do: so there is one way to
share work among threads, compiled once for all kernels, and a kernel whose code was kept from an
earlier process is called without being loaded itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.core.compiler import CompileResult

from fastsoftmax.cpu.cache import Store, short_hash
from fastsoftmax.cpu.jit import OPTIONS
from fastsoftmax.cpu.llvm import instruction

Entry = Callable[..., Any]


@instruction
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


@instruction
def _address_of(typing: Any, arguments: Any) -> Any:
    """The address of a copy of a tuple on the stack."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        memory = cgutils.alloca_once_value(builder, args[0])
        return builder.ptrtoint(memory, ir.IntType(64))

    return types.int64(arguments), emit


def _reader(kind: types.Type) -> Any:
    """What reads a tuple of this type from an address."""

    @instruction
    def read(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            pointer = context.get_value_type(kind).as_pointer()
            return builder.load(builder.inttoptr(args[0], pointer))

        return kind(address), emit

    return read


def _address(result: CompileResult) -> int:
    address: int = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    return address


def compiled(name: str, kinds: tuple[types.Type, ...], find: Callable[[str], Any]) -> int:
    """The address of a kernel's machine code for arguments of these types.

    ``find`` gives the kernel of a name, where there is no code of it yet.
    """
    store = Store(f"{name}.{short_hash(kinds)}")
    signature = types.void(*[types.int64] * 3)
    result = store.load(signature)
    if result is None:
        kernel, read = find(name), _reader(types.Tuple(kinds))

        @njit(no_cfunc_wrapper=True, no_cpython_wrapper=True, **OPTIONS)
        def body(arguments: int, first: int, last: int) -> None:
            kernel(*read(arguments), first, last)

        body._cache = store
        body.compile(signature)
        result = body.overloads[signature.args]
    return _address(result)


@functools.cache
def on_all_threads() -> int:
    """The address of what shares the items of any kernel among Numba's threads, in equal chunks."""

    @njit(parallel=True, no_cfunc_wrapper=True, no_cpython_wrapper=True, **OPTIONS)
    def launch(address: int, arguments: int, count: int, chunks: int) -> None:
        for chunk in prange(chunks):
            first, last = count * chunk // chunks, count * (chunk + 1) // chunks
            _call(address, (arguments, first, last))

    launch._cache = Store("on_all_threads")
    signature = types.void(*[types.int64] * 4)
    launch.compile(signature)
    return _address(launch.overloads[signature.args])


@functools.cache
def caller(kinds: tuple[types.Type, ...]) -> Entry:
    """What calls kernels that take arguments of these types.

    ``call(arguments, address, launcher, count, chunks)``: the kernel at ``address`` does ``count``
    items, at once or, where chunks > 1, on all threads by ``launcher``. Calling this spares
    Numba's inspection of each argument, and lets one signature, of any strides, serve contiguous
    and read-only arrays too instead of a variant for each.
    """

    @njit(no_cfunc_wrapper=True, **OPTIONS)
    def call(arguments: Any, address: int, launcher: int, count: int, chunks: int) -> None:
        place = _address_of(arguments)
        if chunks > 1:
            _call(launcher, (address, place, count, chunks))
        else:
            _call(address, (place, 0, count))

    call._cache = Store("caller")
    entry: Entry = call.compile(types.void(types.Tuple(kinds), *[types.int64] * 4))
    return entry
