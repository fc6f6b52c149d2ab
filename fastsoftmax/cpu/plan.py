"""Which kernel computes a batch, serial or parallel; every threshold, with its measurement.

Two dimensions mean contiguous rows (rows.py), three mean columns (columns.py). Small work stays on
the calling thread, which keeps Python's lock; larger work is shared (threads.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types

from fastsoftmax.cpu import compiler, source, threads
from fastsoftmax.cpu.launch import Entry, caller, compiled
from fastsoftmax.cpu.sizes import (
    BLOCK,
    PACKED,
    SHORT,
    SHORT_DOUBLE,
    WIDTH,
    cuts_of,
    panel_width,
    scratch_lines,
)

Array = np.ndarray[Any, Any]

# `python -m pytest tests/benchmarks/test_thresholds.py --benchmark-enable` measures these again.
#
# Logits from which a second thread pays. float32 rows of 128 on 2 cores, in us, one thread and
# two: 32768 logits 22, 24; 65536: 42, 34; 131072: 81, 55; 262144: 159, 95, where calls follow each
# other; else waking a thread takes 20 more on this virtual machine.
PARALLEL_FROM = 1 << 17
# Logits from which a kernel for one length pays: a million in rows of 2, 3 and 4 take 0.6, 0.5 and
# 0.5 ms instead of 1.0, 0.8 and 0.7, so the 0.4 s of compiling come back after 900 to 3000 calls,
# which are kept for later processes.
PACKED_FROM = 1 << 20

# Logits that are computed at one go, in 20 to 90 ms on 2 cores. Python runs in between: Ctrl-C is
# noticed, and other threads have their turn.
AT_ONCE = 1 << 25


def normalized(function: str, x: Array, out: Array, temperature: Array, mask: Array | None) -> None:
    """softmax or log_softmax, by name, of x into out; see rows.py and columns.py."""
    arguments = x, out, temperature, mask
    if _shared(x):
        kept, apart = (out, None) if function == "softmax" else (None, True)
        notes = _reduced(x, kept, temperature, mask, None, apart)
        _run(f"{function}_cuts", (*arguments, notes), len(notes), x.size)
        return
    packed = _packed_rows(function, *arguments)
    if packed:
        _run(f"softmax_packed_{x.shape[1]}", arguments, packed // WIDTH)
        arguments = x[packed:], out[packed:], temperature[packed:], mask
    _run(f"{function}_{_kind_of_rows(x)}", arguments, _items(arguments[0].shape))


def small(
    function: str, x: Array, out: Array, temperature: Array
) -> Callable[[Array, Array], None]:
    """What computes softmax or log_softmax of arrays like x into ones like out.

    Everything is decided: arrays of this size are never shared among threads.
    """
    count = _items(x.shape)
    arguments = x, out, temperature, None, *_memory(x, 1)
    call, address = _variant(f"{function}_{_kind_of_rows(x)}", _kinds_of(arguments), True)
    rows = x.ndim == 2

    def run(x: Array, out: Array) -> None:
        memory = () if rows else _memory(x, 1)
        call((x, out, temperature, None, *memory), address, 0, count)

    return run


def logsumexp(
    x: Array, out: Array, sign: Array | None, mask: Array | None, weight: Array | None
) -> None:
    """log|sum(weight * exp(x))| of x into out, and the sum's sign where there are weights."""
    if _shared(x):
        temperature = np.ndarray((len(x),), np.float64, np.ones(1), strides=(0,))
        apart = True if weight is None else None
        notes = _reduced(x, None, temperature, mask, weight, apart)
        _run("logsumexp_cuts", (x, out, sign, weight, notes), len(x), 0)
        return
    kind = _kind_of_rows(x)
    if kind == "short" and weight is None:
        _run("logsumexp_short", (x, out, mask), len(x))
    else:
        kind = "rows" if kind == "short" else kind
        _run(f"logsumexp_{kind}", (x, out, sign, mask, weight), _items(x.shape))


def _kind_of_rows(x: Array) -> str:
    """Which kernels compute the rows of an array, as kernels see it."""
    length = x.shape[1]
    if x.ndim == 3:
        return "columns" if length <= BLOCK else "long_columns"
    if length > BLOCK:
        return "long"
    return "rows" if length > (SHORT_DOUBLE if x.itemsize == 8 else SHORT) else "short"


def _items(shape: tuple[int, ...]) -> int:
    """How many items a kernel does: rows, or panels of columns."""
    if len(shape) == 2:
        return shape[0]
    outer, length, inner = shape
    return outer * -(-inner // panel_width(length))


def _memory(x: Array, several: int) -> tuple[Array, ...]:
    """The scratch memory of so many threads, which columns want, on a cache line's edge.

    Where there is none, this is a MemoryError, and nothing has been written yet.
    """
    if x.ndim == 2:
        return ()
    lines = scratch_lines(x.shape[1])
    memory = np.empty(several * lines * WIDTH + 7)
    start = -memory.ctypes.data % 64 // 8
    return (memory[start : memory.size - 7 + start].reshape(several, lines, WIDTH),)


def _packed_rows(
    function: str, x: Array, out: Array, temperature: Array, mask: Array | None
) -> int:
    """How many rows can be done by a kernel for rows of exactly this length."""
    count, length = x.shape[:2]
    fits = (
        function == "softmax"
        and x.ndim == 2
        and length in PACKED
        and x.size >= PACKED_FROM
        and mask is None
        and x.strides[0] == out.strides[0] == length * x.itemsize
        and temperature.strides[0] == 0
    )
    return count // WIDTH * WIDTH if fits else 0


def _shared(x: Array) -> bool:
    """Whether rows are so few and so long that all threads share each of them."""
    if x.ndim == 3 or x.shape[1] <= BLOCK:
        return False
    count, length = x.shape
    several = _threads(x.size, 2)
    return length > AT_ONCE or (several > 1 and count < 4 * several)


def _reduced(
    x: Array, kept: Array | None, temperature: Array, mask: Array | None, weight: Array | None,
    apart: Any,
) -> Array:  # fmt: skip
    """What is noted of all cuts of rows that threads share; see long.py."""
    count, length = x.shape
    notes = np.empty((count * cuts_of(length), 4))
    _run("maxima_of_cuts", (x, mask, weight, notes), len(notes), x.size)
    _run("totals_of_cuts", (x, kept, temperature, mask, weight, apart, notes), len(notes), x.size)
    return notes


def _threads(size: int, count: int) -> int:
    """How many threads share ``count`` items that have ``size`` logits together."""
    if size < PARALLEL_FROM or count < 2:
        return 1
    return min(threads.number(), count)


def _run(name: str, arguments: tuple[Any, ...], count: int, size: int | None = None) -> None:
    """Have a kernel do all its ``count`` items, which have ``size`` logits together."""
    if count == 0:
        return
    size = arguments[0].size if size is None else size
    several = _threads(size, count)
    arguments = (*arguments, *_memory(arguments[0], several))
    alone = size < PARALLEL_FROM
    call, address = _variant(name, _kinds_of(arguments), alone)
    if alone:
        call(arguments, address, 0, count)
        return
    items = max(1, count * AT_ONCE // size)
    for first in range(0, count, items):
        last = min(first + items, count)
        threads.run(call, arguments, address, first, last, min(several, last - first))


def _kind_of(argument: Any) -> tuple[str, int] | bool | None:
    """What decides which code takes an argument."""
    if argument is None or argument is True:
        return argument
    return argument.dtype.char, argument.ndim


def _kinds_of(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(map(_kind_of, arguments))


def _type_of(kind: Any) -> types.Type:
    if kind is None:
        return types.none
    if kind is True:
        return types.boolean
    # Any strides: one compiled variant serves them all (the kernels look at strides alone).
    return types.Array(numba.from_dtype(np.dtype(kind[0])), kind[1], "A")


class Unavailable(RuntimeError):
    """There is no code for a call, and none can be compiled in this process."""


@functools.cache
def _kernels() -> dict[str, Any]:
    """Every kernel by its name, of which code is to be compiled."""
    if source.changed():
        raise Unavailable(
            "fastsoftmax has been changed on disk since this process imported it, and has no code "
            "yet for this call: start the process again"
        )
    # Here, as a process that finds its code in the cache needs none of these: 60 ms.
    from fastsoftmax.cpu import columns, jit, long, rows, short  # noqa: F401

    return jit.KERNELS


@functools.cache
def _variant(name: str, kinds: tuple[Any, ...], alone: bool) -> tuple[Entry, int]:
    """What calls a kernel for arguments of these kinds, and the address of its code."""
    if numba.config.DISABLE_JIT:
        raise Unavailable(
            "NUMBA_DISABLE_JIT is set, and fastsoftmax computes by compiled code alone: unset it"
        )
    signature = tuple(map(_type_of, kinds))
    return caller(signature, alone), compiled(name, signature, _kernels)


Variant = tuple[str, tuple[Any, ...]]


def all_variants() -> list[Variant]:
    """Every kernel and kinds of arguments for which code can be compiled."""
    return [variant for dtype in "dfHh" for variant in _variants_of(dtype)]


def common_variants() -> list[Variant]:
    """Those of plain calls on float32 and float64, but for few rows that are very long."""
    rare = {("?", 2), ("?", 3)}
    return [
        (name, kinds)
        for dtype in "df"
        for name, kinds in _variants_of(dtype)
        if "cuts" not in name and "packed" not in name
        # neither masks nor weights
        if not rare & set(kinds) and not (name.startswith("logsumexp") and kinds[2] is not None)
    ]


def _variants_of(dtype: str) -> list[Variant]:
    variants: list[Variant] = []
    number, notes = ("d", 1), ("d", 2)
    for ndim, kinds_of_rows in ((2, ("short", "rows", "long")), (3, ("columns", "long_columns"))):
        x, row, flags, weights = (dtype, ndim), ("d", ndim - 1), ("?", ndim), ("d", ndim)
        sums = (dtype, ndim - 1)
        memory = () if ndim == 2 else (("d", 3),)
        for kind in kinds_of_rows:
            for mask in (None, flags):
                for function in ("softmax", "log_softmax"):
                    variants.append((f"{function}_{kind}", (x, x, row, mask, *memory)))
                if kind == "short":
                    variants.append(("logsumexp_short", (x, sums, mask)))
                else:
                    variants.append((f"logsumexp_{kind}", (x, sums, None, mask, None, *memory)))
            if kind != "short":
                variants.append((f"logsumexp_{kind}", (x, sums, row, None, weights, *memory)))
    x, sums, flags, weights = (dtype, 2), (dtype, 1), ("?", 2), ("d", 2)
    variants += [(f"softmax_packed_{n}", (x, x, number, None)) for n in PACKED]
    for mask, weight in ((None, None), (flags, None), (None, weights)):
        variants.append(("maxima_of_cuts", (x, mask, weight, notes)))
    for mask in (None, flags):
        variants += [(f"{f}_cuts", (x, x, number, mask, notes)) for f in ("softmax", "log_softmax")]
        variants.append(("totals_of_cuts", (x, x, number, mask, None, None, notes)))
        variants.append(("totals_of_cuts", (x, None, number, mask, None, True, notes)))
    variants.append(("totals_of_cuts", (x, None, number, None, weights, None, notes)))
    variants.append(("logsumexp_cuts", (x, sums, None, None, notes)))
    variants.append(("logsumexp_cuts", (x, sums, number, weights, notes)))
    return variants


def compile_variant(variant: Variant) -> None:
    """Have its code ready, in this process and for later ones."""
    _variant(*variant, True)
    _variant(*variant, False)


def cpu() -> tuple[str, int]:
    """The CPU that code is generated for, and the bits of its widest vector."""
    _, name, features = compiler.target()
    enabled = set(features.split(","))
    for feature, width in (("+avx512f", 512), ("+avx", 256)):
        if feature in enabled:
            return name, width
    return name, 128
