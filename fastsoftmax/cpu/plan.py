"""Which kernel computes a batch, serial or parallel; every threshold, with its measurement.

Two dimensions mean contiguous rows, three mean columns. Small work stays on the calling thread,
which keeps Python's lock; larger work is shared (threads.py).
"""

from __future__ import annotations

import functools
import importlib
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
from fastsoftmax.cpu.sizes import (
    BLOCK,
    PACKED,
    PANEL_LINES,
    SHORT,
    VECTOR,
    cuts_of,
    vectors,
)

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
    formula: Formula, x: Array, out: Array, temperature: Array | None, mask: Array | None,
    *operands: Array,
) -> None:  # fmt: skip
    """What a formula makes of x into out; see batch.py for the arguments."""
    if shared(x):
        _run_shared(formula, x, out, temperature, mask, *operands)
        return
    plain = temperature is None and mask is None and "scale" not in formula.operands
    packed = _packed_rows(x, out) if plain else 0
    if packed:
        arguments = x, out, None, None, *operands
        run(f"{formula.name}_packed_{x.shape[1]}", arguments, packed // _together(x))
        # labels, and their results, are several for a row
        operands = tuple(labels[:, packed:] for labels in operands)
        x, out = x[packed:], out[:, packed:] if operands else out[packed:]
    kind = kind_of_rows(x)
    run(f"{formula.name}_{kind}", (x, out, temperature, mask, *operands), items_of(x))


def small(formula: Formula, x: Array, out: Array) -> Callable[[Array, Array], None]:
    """What computes a formula of arrays like x into ones like out.

    Everything is decided: arrays of this size are never shared among threads.
    """
    count = items_of(x)
    arguments = x, out, None, None, *_memory(x, 1)
    call, address = _variant(f"{formula.name}_{kind_of_rows(x)}", _kinds_of(arguments), True)
    without = len(arguments) == 4

    def run(x: Array, out: Array) -> None:
        memory = () if without else _memory(x, 1)
        call((x, out, None, None, *memory), address, 0, count)

    return run


def kind_of_rows(x: Array) -> str:
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


def items_of(x: Array) -> int:
    """How many items a kernel does: rows, or panels of columns."""
    return len(x) if x.ndim == 2 else len(x) * -(-x.shape[2] // _together(x))


def _memory(x: Array, several: int, panels: int = 1) -> tuple[Array, ...]:
    """The scratch memory of so many threads, which columns want, on a cache line's edge.

    Each has so many panels. Where there is none, this is a MemoryError, and nothing has been
    written yet.
    """
    if x.ndim == 2 or x.shape[1] > BLOCK:
        return ()
    each = panels * x.shape[1] * VECTOR * (vectors() if x.shape[1] <= PANEL_LINES else 1)
    memory = np.empty(several * each + VECTOR, np.uint8)
    start = -memory.ctypes.data % VECTOR
    return (memory[start : start + several * each].reshape(several, each),)


def _packed_rows(x: Array, out: Array) -> int:
    """How many rows can be done by a kernel for rows of exactly this length."""
    fits = (
        x.ndim == 2
        and x.shape[1] in PACKED
        and x.size >= PACKED_FROM
        and x.strides[0] == x.shape[1] * x.itemsize
        and (out.shape != x.shape or out.strides[0] == x.strides[0])
    )
    return len(x) // _together(x) * _together(x) if fits else 0


def shared(x: Array) -> bool:
    """Whether rows are so few and so long that all threads share each of them."""
    if x.ndim == 3 or x.shape[1] <= BLOCK:
        return False
    count, length = x.shape
    several = threads_for(x.size, 2)
    return length > AT_ONCE or (several > 1 and count < 4 * several)


def _run_shared(
    formula: Formula, x: Array, out: Array, temperature: Array | None, mask: Array | None,
    *operands: Array,
) -> None:  # fmt: skip
    """All cuts' maxima, then all cuts' counts, then all results; see cuts.py."""
    each = cuts_of(x.shape[1])
    cuts = len(x) * each
    noted = np.empty((8, cuts)), np.empty((8, cuts), np.int64)
    of_cuts = operands
    if formula.chooses:
        of_cuts = (np.empty((len(operands[0]), cuts), np.int64),)
    for kind in "maxima", "counts":
        run(f"{formula.name}_{kind}", (x, out, temperature, mask, *of_cuts, *noted), cuts)
    if formula.chooses:
        operands[0][:] = _first_of(of_cuts[0].reshape(-1, len(x), each), x, mask)
    items = cuts if formula.mapped else len(x)
    run(f"{formula.name}_cuts", (x, out, temperature, mask, *operands, *noted), items)


def _first_of(labels: Array, x: Array, mask: Array | None) -> Array:
    """The labels of rows, of those of their cuts (several, rows, cuts), -1 where there is none."""
    several, count = labels.shape[:2]
    places = np.sort(labels.swapaxes(0, 1).reshape(count, -1), axis=-1)
    rows = np.arange(count)[:, None]
    values = numbers_of(x[rows, places])
    values = np.where(np.isnan(values), np.inf, values)
    if mask is not None:
        values = np.where(mask[rows, places], values, -np.inf)
    # What is there before what is not, then by the logits; of equal ones the first first.
    order = np.lexsort((-values, places < 0), axis=-1)[:, :several]
    return np.take_along_axis(places, order, axis=-1).T


def numbers_of(stored: Array) -> Array:
    """Elements as kernels know them, see `layout.stored`, as float64."""
    if stored.dtype == np.int16:
        return (stored.astype(np.int32) << 16).view(np.float32).astype(np.float64)
    halves = stored.dtype == np.uint16
    return (stored.view(np.float16) if halves else stored).astype(np.float64)


def threads_for(size: int, count: int) -> int:
    """How many threads share ``count`` items that have ``size`` logits together."""
    if size < PARALLEL_FROM or count < 2:
        return 1
    return min(threads.number(), count)


def run(
    name: str, arguments: tuple[Any, ...], count: int, panels: int = 1, most: int | None = None
) -> None:
    """Have a kernel do all its ``count`` items; of columns with so many panels for each thread.

    ``most``: of how many threads there is memory among the arguments.
    """
    if count == 0:
        return
    size = arguments[0].size
    several = min(threads_for(size, count), most or count)
    arguments = (*arguments, *_memory(arguments[0], several, panels))
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


def types_of(kinds: tuple[Any, ...]) -> tuple[types.Type, ...]:
    """Numba's types of a kernel's arguments."""
    return tuple(map(_type_of, kinds))


class Unavailable(RuntimeError):
    """There is no code for a call, and none can be compiled in this process."""


# Those that have kernels.
_MODULES = (
    "across",
    "columns",
    "cuts",
    "divergence",
    "elementwise",
    "product_across",
    "product_cuts",
    "quotients",
    "sampling",
    "streamed",
    "sums",
    "thresholds",
    "weighted",
)


@functools.cache
def _kernels() -> dict[str, Any]:
    """Every kernel by its name, of which code is to be compiled."""
    if source.changed():
        raise Unavailable(
            "fastsoftmax has been changed on disk since this process imported it, and has no code "
            "yet for this call: start the process again"
        )
    # Here, as a process that finds its code in the cache needs none of these: 60 ms.
    for module in _MODULES:
        importlib.import_module(f"fastsoftmax.cpu.{module}")
    from fastsoftmax.cpu import batch

    return batch.KERNELS


@functools.cache
def _variant(name: str, kinds: tuple[Any, ...], alone: bool) -> tuple[Entry, int]:
    """What calls a kernel for arguments of these kinds, and the address of its code."""
    if numba.config.DISABLE_JIT:
        raise Unavailable(
            "NUMBA_DISABLE_JIT is set, and fastsoftmax computes by compiled code alone: unset it"
        )
    return caller(types_of(kinds), alone), address(name, kinds)


def address(name: str, kinds: tuple[Any, ...]) -> int:
    """The address of a kernel's code for arguments of these kinds, (dtype.char, ndim) or None."""
    place: int = compiled(name, types_of(kinds), _kernels)
    return place


Variant = tuple[str, tuple[Any, ...]]


def all_variants() -> list[Variant]:
    """Every kernel and kinds of arguments for which code can be compiled."""
    sums, results = (("d", 2), ("l", 2)), (("d", 1),) * 2
    others: list[Variant] = [
        ("picked", (("d", 2), ("l", 2), ("l", 2))),
        ("added_sums", sums * 2), ("log_sums", sums + results[:1]),
        ("signed_log_sums", sums + results),
    ]  # fmt: skip
    return others + [variant for dtype in "dfHh" for variant in _variants_of(dtype)]


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
    for mask in (None, ("?", 2)):
        variants.append(("divergence", ((dtype, 2), (dtype, 2), (dtype, 1), ("d", 1), mask)))
    for formula, (kind, others) in itertools.product(FORMULAS, _OTHERS.items()):
        ndim = 3 if kind.endswith("columns") else 2
        x, row = (dtype, ndim), ("d", ndim - 1)
        operands = _operands_of(formula, dtype, ndim)
        out = dtype, ndim if formula.mapped or operands else ndim - 1
        for mask in (None, ("?", ndim)):
            for temperature in (None, row) if formula.tempered else (None,):
                kinds = x, out, temperature, mask, *operands, *others
                variants.append((f"{formula.name}_{kind}", kinds))
    sums = ("d", 2), ("l", 2)
    variants.append(("weighted_sums", ((dtype, 2), *sums, ("d", 2))))
    variants += [("sums", ((dtype, 2), *sums, mask)) for mask in (None, ("?", 2))]
    for mask, temperature in itertools.product((None, ("?", 2)), (None, ("d", 1))):
        kinds = (dtype, 2), ("l", 2), temperature, mask
        variants += [("sample", (*kinds, ("d", 2))), ("class_counts", kinds)]
        both = (dtype, 2), (dtype, 2), temperature, mask
        variants += [(function.name, both) for function in SIGMOIDS]
    for formula, length in itertools.product(FORMULAS, PACKED):
        operands = _operands_of(formula, dtype, 2)
        out = dtype, 2 if formula.mapped or operands else 1
        kinds = (dtype, 2), out, None, None, *operands
        variants.append((f"{formula.name}_packed_{length}", kinds))
    return variants


def _operands_of(formula: Formula, dtype: str, ndim: int) -> tuple[tuple[str, int], ...]:
    kinds = {"labels": ("l", ndim), "scale": ("d", ndim - 1), "losses": (dtype, ndim)}
    return tuple(kinds[name] for name in formula.operands)


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
