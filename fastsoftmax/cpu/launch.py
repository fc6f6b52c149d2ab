"""How the machine code of kernels is called.

Through an address, with the address of its arguments and the items to do: so a kernel whose code
was kept from an earlier process is called without being loaded itself, and knows nothing of
threads.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastsoftmax.arithmetic.lanes import BYTE_POINTER
from fastsoftmax.cpu import compiler
from fastsoftmax.cpu.cache import Store, short_hash
from fastsoftmax.cpu.compiler import ADDRESSED, CALLED

Entry = Callable[..., Any]


@intrinsic
def _call(typing: Any, address: Any, arguments: Any) -> Any:
    """Call a compiled function, which returns nothing, with integers as arguments."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        values = cgutils.unpack_tuple(builder, args[1])
        compiler.emit_call(context, builder, args[0], tuple(sig.args[1]), values)
        return context.get_dummy_value()

    return types.void(address, arguments), emit


@intrinsic
def _address_of(typing: Any, arguments: Any) -> Any:
    """The address of a copy of a tuple on the stack."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        memory = cgutils.alloca_once_value(builder, args[0])
        return builder.ptrtoint(memory, ir.IntType(64))

    return types.int64(arguments), emit


def _reader(kind: types.Type) -> Any:
    """What reads a tuple of this type from an address."""

    @intrinsic
    def read(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            pointer = context.get_value_type(kind).as_pointer()
            return builder.load(builder.inttoptr(args[0], pointer))

        return kind(address), emit

    return read


@compiler.compiling  # also while code is loaded, or its modules are imported: see threads.py
def compiled(
    name: str, kinds: tuple[types.Type, ...], kernels: Callable[[], dict[str, Any]]
) -> int:
    """The address of a kernel's machine code for arguments of these types.

    ``kernels`` gives every kernel by its name, where there is no code of this one yet.
    """

    def make() -> Any:
        kernel, read = kernels()[name], _reader(types.Tuple(kinds))

        @njit(**ADDRESSED)
        def body(arguments: int, slot: int, first: int, last: int) -> None:
            kernel(*read(arguments), slot, first, last)

        return body

    store = Store(f"{name}.{short_hash(kinds)}")
    return compiler.address(types.void(*[types.int64] * 4), store, make)


@intrinsic
def _next_of(typing: Any, address: Any) -> Any:
    """The integer at an address, which becomes larger by 1: no two threads get the same."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.IntType(64)(1), "seq_cst")

    return types.int64(types.int64), emit


@intrinsic
def _now_at(typing: Any, address: Any) -> Any:
    """The integer at an address, as other threads left it."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(types.int64), emit


@intrinsic
def _set_at(typing: Any, address: Any, value: Any) -> Any:
    """Store an integer at an address, for other threads to see after all that was stored before."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        builder.store_atomic(args[1], pointer, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def _pause(typing: Any) -> Any:
    """Leave the core to its other thread for a moment, some 20 ns, while another is waited for."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        if _X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause")
            builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def _sleep(typing: Any) -> Any:
    """Sleep for some 100 us, or 1 ms."""
    name, time = ("Sleep", 1) if os.name == "nt" else ("usleep", 50)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32)])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        builder.call(function, [ir.IntType(32)(time)])
        return context.get_dummy_value()

    return types.void(), emit


# How often a thread looks for what it waits for, some 200 us, before it sleeps: to be woken takes
# 20 us here. So calls that follow each other find the helpers awake.
_PATIENCE = 10_000


@functools.cache
def watcher() -> Entry:
    """``watch(bell, before)``: look for a while whether the counter is still what it was before."""

    @njit(nogil=True, **CALLED)
    def watch(bell: Any, before: int) -> None:
        place = types.int64(bell.ctypes.data)
        for _ in range(_PATIENCE):
            if _now_at(place) != before:
                return
            _pause()

    return compiler.entry(watch, types.void(types.int64[::1], types.int64), Store("watch"))


_X86 = platform.machine() in ("x86_64", "AMD64")
# The control word of x86-64's vector arithmetic at a process's start: to the nearest, subnormal
# numbers kept, no traps.
ORDINARY = 0x1F80


@intrinsic
def exchange_mode(typing: Any, mode: Any) -> Any:
    """Set the mode of this thread's arithmetic, and return what it was.

    Another library may have set it, as by torch.set_flush_denormal, for some threads and not for
    others: then a row's bits would depend on the thread. 5 ns. Elsewhere than on x86-64 the mode
    is left alone.
    """

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        if not _X86:
            return args[0]
        word = ir.IntType(32)
        memory = cgutils.alloca_once(builder, word)
        place = builder.bitcast(memory, BYTE_POINTER)
        kind = ir.FunctionType(ir.VoidType(), [BYTE_POINTER])
        module = builder.module
        save = cgutils.get_or_insert_function(module, kind, "llvm.x86.sse.stmxcsr")
        load = cgutils.get_or_insert_function(module, kind, "llvm.x86.sse.ldmxcsr")
        builder.call(save, [place])
        before = builder.load(memory)
        builder.store(builder.trunc(args[0], word), memory)
        builder.call(load, [place])
        return builder.zext(before, ir.IntType(64))

    return types.int64(types.int64), emit


# What threads share of a call: integers, so that no helper holds on to an array. Each counter has
# a cache line of its own.
SHARED = 24
_TAKEN, _DONE = 0, 64  # chunks; offsets in bytes
_CHUNKS, _ADDRESS, _ARGUMENTS, _FIRST, _LAST, _SLOTS, _REFUSED = range(128, 184, 8)


def refused(shared: Any) -> bool:
    """Whether a call of Numba's threads did nothing, as another one had its gate."""
    return bool(shared[_REFUSED // 8])


@njit(forceinline=True, **ADDRESSED)
def _take_turns(shared: int) -> None:
    """Do chunks of a call until none is left to take."""
    chunks, address = _now_at(shared + _CHUNKS), _now_at(shared + _ADDRESS)
    arguments = _now_at(shared + _ARGUMENTS)
    first, last = _now_at(shared + _FIRST), _now_at(shared + _LAST)
    items = last - first
    slot = _next_of(shared + _SLOTS)  # of scratch memory: one for each thread
    mode = exchange_mode(ORDINARY)
    chunk = _next_of(shared + _TAKEN)
    while chunk < chunks:
        start, stop = items * chunk // chunks, items * (chunk + 1) // chunks
        _call(address, (arguments, slot, first + start, first + stop))
        _next_of(shared + _DONE)
        chunk = _next_of(shared + _TAKEN)
    exchange_mode(mode)


@functools.cache
def helper() -> Entry:
    """``help(shared)``: take part in the call whose shared integers are in this array.

    They outlive the call; its arguments do not, and are touched for a chunk that was taken only.
    """

    @njit(nogil=True, **CALLED)
    def help_out(shared: Any) -> None:
        place = types.int64(shared.ctypes.data)
        for _ in range(_PATIENCE):
            if _now_at(place + _CHUNKS) > 0:
                _take_turns(place)
                return
            _pause()

    return compiler.entry(help_out, types.void(types.int64[::1]), Store("helper"))


@functools.cache
def team() -> int:
    """The address of code that has Numba's threads take part in a call, and waits for them.

    Compiling or loading it starts them.
    """

    def make() -> Any:
        @njit(parallel=True, **ADDRESSED)
        def take_part(shared: int, threads: int) -> None:
            for _ in prange(threads):
                _take_turns(shared)

        return take_part

    return compiler.address(types.void(types.int64, types.int64), Store("team"), make)


@functools.cache
def caller(kinds: tuple[types.Type, ...], alone: bool) -> Entry:
    """What calls kernels that take arguments of these types.

    ``call(arguments, address, first, last)``, of which there is one at a time (it keeps Python's
    lock), has the kernel at ``address`` do its items ``first`` to ``last``. Not ``alone``, it is
    ``call(arguments, address, first, last, chunks, shared, bell, team, threads)``: it shares the
    items as chunks with helpers that have the array ``shared``, rings the bell, and returns when
    all is done. With the address of a ``team`` (else 0), so many of Numba's threads do them; the
    bell is then the team's gate, which counts who came since one went in: only the first may.

    No thread begins before it, and none computes after it. So no signal's handler, which Python
    runs between its instructions, can raise while others write.

    Calling this spares Numba's inspection of each argument, and lets one signature, of any
    strides, serve contiguous and read-only arrays too instead of a variant for each.
    """

    @njit(**CALLED)
    def call(arguments: Any, address: int, first: int, last: int) -> None:
        mode = exchange_mode(ORDINARY)
        _call(address, (_address_of(arguments), 0, first, last))
        exchange_mode(mode)

    @njit(nogil=True, **CALLED)
    def call_shared(
        arguments: Any, address: int, first: int, last: int, chunks: int, shared: Any, bell: Any,
        team: int, threads: int,
    ) -> None:  # fmt: skip
        place, counter = types.int64(shared.ctypes.data), types.int64(bell.ctypes.data)
        _set_at(place + _ADDRESS, address)
        _set_at(place + _ARGUMENTS, _address_of(arguments))
        _set_at(place + _FIRST, first)
        _set_at(place + _LAST, last)
        _set_at(place + _CHUNKS, chunks)  # from now on helpers take some
        before = _next_of(counter)
        if team != 0:
            if before == 0:
                _call(team, (place, threads))
                _set_at(counter, 0)
            else:
                _set_at(place + _REFUSED, 1)
            return
        _take_turns(place)
        for _ in range(_PATIENCE):
            if _now_at(place + _DONE) == chunks:
                return
            _pause()
        while _now_at(place + _DONE) < chunks:
            _sleep()

    number = types.int64
    function, more = call, ()
    if not alone:
        function, more = call_shared, (number, *[number[::1]] * 2, number, number)
    signature = types.void(types.Tuple(kinds), number, number, number, *more)
    return compiler.entry(function, signature, Store("caller_alone" if alone else "caller"))
