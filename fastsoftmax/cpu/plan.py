"""Which kernel computes a batch, serial or parallel; every threshold, with its measurement.

Two dimensions mean contiguous rows, three mean columns. Small work stays on the calling thread,
which keeps Python's lock; larger work is shared (threads.py).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types

from fastsoftmax import source
from fastsoftmax.arithmetic.formulas import FORMULAS, SIGMOIDS, Formula
from fastsoftmax.cpu import compiler, threads
from fastsoftmax.cpu.launch import Entry, caller, compiled
from fastsoftmax.cpu.sizes import BLOCK, PACKED, PANEL_LINES, SHORT, VECTOR, cuts_of, vectors

Array = np.ndarray[Any, Any]

# `python -m pytest tests/benchmarks/test_thresholds.py --benchmark-enable` measures these again.

# Logits from which a second thread pays. float32 rows of 128 on 2 cores, in us, one thread and
# two: 32768 logits 16, 16; 65536: 30, 23; 131072: 57, 37; 262144: 117, 66, where calls follow each
# other; else waking a thread takes 20 more on this virtual machine.
PARALLEL_FROM = 1 << 17
# Logits from which a kernel for one length pays: a million in rows of 2 take 0.2 ms less, so the
# 0.15 s of compiling come back after 800 calls, which are kept for later processes.
PACKED_FROM = 1 << 20

# Logits that are computed at one go, in 20 to 90 ms on 2 cores. Python runs in between: Ctrl-C is
# noticed, and other threads have their turn.
AT_ONCE = 1 << 25


def compute(
    formula: Formula, x: Array, out: Array, temperature: Array | None, mask: Array | None
) -> None:
    """What a formula makes of x into out; see batch.py for the arguments."""
    arguments = x, out, temperature, mask
    if _shared(x):
        _run_shared(formula, *arguments)
        return
    packed = _packed_rows(*arguments)
    if packed:
        _run(f"{formula.name}_packed_{x.shape[1]}", arguments, packed // _together(x))
        arguments = x[packed:], out[packed:], temperature, mask
    _run(f"{formula.name}_{_kind_of_rows(x)}", arguments, _items(arguments[0]))


def small(formula: Formula, x: Array, out: Array) -> Callable[[Array, Array], None]:
    """What computes a formula of arrays like x into ones like out.

    Everything is decided: arrays of this size are never shared among threads.
    """
    count = _items(x)
    arguments = x, out, None, None, *_memory(x, 1)
    call, address = _variant(f"{formula.name}_{_kind_of_rows(x)}", _kinds_of(arguments), True)
    without = len(arguments) == 4

    def run(x: Array, out: Array) -> None:
        memory = () if without else _memory(x, 1)
        call((x, out, None, None, *memory), address, 0, count)

    return run


def weighted(x: Array, out: Array, sign: Array, weight: Array) -> None:
    """log|sum(weight * exp(x))| of rows of x into out, and the sum's sign."""
    _run("weighted", (x, out, sign, weight), len(x))


def do(name: str, arguments: tuple[Array | None, ...], count: int) -> None:
    """Have a kernel that is of no formula do so many items."""
    _run(name, arguments, count)


def elementwise(
    name: str, x: Array, out: Array, temperature: Array | None, mask: Array | None
) -> None:
    """What a function of single logits makes of one contiguous row of them."""
    _run(name, (x, out, temperature, mask), -(-x.shape[1] // BLOCK))


def _kind_of_rows(x: Array) -> str:
    """Which kernels compute the rows of an array, as kernels see it."""
    length = x.shape[1]
    if x.ndim == 3:
        return "columns" if length <= BLOCK else "long_columns"
    if length > BLOCK:
        return "long"
    return "rows" if length > SHORT else "short"


def _computed_size(x: Array) -> int:
    """Bytes of the type in which an array's elements are computed."""
    return max(x.itemsize, 4)


def _together(x: Array) -> int:
    """Rows or columns that are computed side by side."""
    return VECTOR * vectors() // _computed_size(x)


def _items(x: Array) -> int:
    """How many items a kernel does: rows, or panels of columns."""
    return len(x) if x.ndim == 2 else len(x) * -(-x.shape[2] // _together(x))


def _memory(x: Array, several: int) -> tuple[Array, ...]:
    """The scratch memory of so many threads, which columns want, on a cache line's edge.

    Where there is none, this is a MemoryError, and nothing has been written yet.
    """
    if x.ndim == 2 or x.shape[1] > BLOCK:
        return ()
    each = x.shape[1] * VECTOR * (vectors() if x.shape[1] <= PANEL_LINES else 1)
    memory = np.empty(several * each + VECTOR, np.uint8)
    start = -memory.ctypes.data % VECTOR
    return (memory[start : start + several * each].reshape(several, each),)


def _packed_rows(x: Array, out: Array, temperature: Array | None, mask: Array | None) -> int:
    """How many rows can be done by a kernel for rows of exactly this length."""
    fits = (
        x.ndim == 2
        and x.shape[1] in PACKED
        and x.size >= PACKED_FROM
        and mask is None
        and temperature is None
        and x.strides[0] == x.shape[1] * x.itemsize
        and (out.ndim == 1 or out.strides[0] == x.strides[0])
    )
    return len(x) // _together(x) * _together(x) if fits else 0


def _shared(x: Array) -> bool:
    """Whether rows are so few and so long that all threads share each of them."""
    if x.ndim == 3 or x.shape[1] <= BLOCK:
        return False
    count, length = x.shape
    several = _threads(x.size, 2)
    return length > AT_ONCE or (several > 1 and count < 4 * several)


def _run_shared(
    formula: Formula, x: Array, out: Array, temperature: Array | None, mask: Array | None
) -> None:
    """All cuts' maxima, then all cuts' counts, then all results; see cuts.py."""
    cuts = len(x) * cuts_of(x.shape[1])
    noted = np.empty((6, cuts)), np.empty((8, cuts), np.int64)
    arguments = x, out, temperature, mask, *noted
    for kind, items in (
        ("maxima", cuts), ("counts", cuts), ("cuts", cuts if formula.mapped else len(x))
    ):  # fmt: skip
        _run(f"{formula.name}_{kind}", arguments, items)


def _threads(size: int, count: int) -> int:
    """How many threads share ``count`` items that have ``size`` logits together."""
    if size < PARALLEL_FROM or count < 2:
        return 1
    return min(threads.number(), count)


def _run(name: str, arguments: tuple[Any, ...], count: int) -> None:
    """Have a kernel do all its ``count`` items."""
    if count == 0:
        return
    size = arguments[0].size
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


def _kind_of(argument: Array | None) -> tuple[str, int] | None:
    """What decides which code takes an argument."""
    return None if argument is None else (argument.dtype.char, argument.ndim)


def _kinds_of(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(map(_kind_of, arguments))


def _type_of(kind: Any) -> types.Type:
    if kind is None:
        return types.none
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
    from fastsoftmax.cpu import across, batch, cuts, elementwise, streamed  # noqa: F401

    return batch.KERNELS


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
    sums, results = (("d", 2), ("l", 2)), (("d", 1),) * 2
    of_sums: list[Variant] = [
        ("added_sums", sums * 2), ("log_sums", sums + results[:1]),
        ("signed_log_sums", sums + results),
    ]  # fmt: skip
    return of_sums + [variant for dtype in "dfHh" for variant in _variants_of(dtype)]


def common_variants() -> list[Variant]:
    """Those of plain calls on float32 and float64, but for few rows that are very long."""
    return [
        (name, kinds)
        for dtype in "df"
        for name, kinds in _variants_of(dtype)
        if name.endswith(("_short", "_rows", "_long", "_columns")) and kinds[2:4] == (None, None)
    ]


# What kernels take beside a batch: the thread's memory, or what is noted of cuts.
_OTHERS: dict[str, tuple[Any, ...]] = dict.fromkeys(("short", "rows", "long", "long_columns"), ())
_OTHERS |= dict.fromkeys(("maxima", "counts", "cuts"), (("d", 2), ("l", 2)))
_OTHERS |= {"columns": (("B", 2),)}


def _variants_of(dtype: str) -> list[Variant]:
    variants: list[Variant] = [("weighted", ((dtype, 2), (dtype, 1), ("d", 1), ("d", 2)))]
    for formula, (kind, others) in itertools.product(FORMULAS, _OTHERS.items()):
        ndim = 3 if kind.endswith("columns") else 2
        x, row, out = (dtype, ndim), ("d", ndim - 1), (dtype, ndim - (not formula.mapped))
        for mask in (None, ("?", ndim)):
            for temperature in (None, row) if formula.tempered else (None,):
                variants.append((f"{formula.name}_{kind}", (x, out, temperature, mask, *others)))
    sums = ("d", 2), ("l", 2)
    variants += [("sums", ((dtype, 2), *sums, mask)) for mask in (None, ("?", 2))]
    variants.append(("weighted_sums", ((dtype, 2), *sums, ("d", 2))))
    for function, temperature, mask in itertools.product(
        SIGMOIDS, (None, ("d", 1)), (None, ("?", 2))
    ):
        variants.append((function.name, ((dtype, 2), (dtype, 2), temperature, mask)))
    for formula, length in itertools.product(FORMULAS, PACKED):
        kinds = (dtype, 2), (dtype, 1 + formula.mapped), None, None
        variants.append((f"{formula.name}_packed_{length}", kinds))
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
