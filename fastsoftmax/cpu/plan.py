"""Which kernel computes a batch, serial or parallel; every threshold, with its measurement.

Two dimensions mean contiguous rows (rows.py), three mean columns (columns.py). Small work stays
serial: it never touches Numba's threads, whose start may take milliseconds.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numba
import numpy as np
from numba import types

from fastsoftmax.cpu import columns, rows
from fastsoftmax.cpu.cache import Entry, compiled, on_all_threads

Array = np.ndarray[Any, Any]

# Logits from which a second thread pays. float32 rows of 128 on 2 cores, in us, with Python:
# 16384 logits 34 serial, 33 parallel; 32768: 47, 40; 65536: 75, 53; 262144: 232, 136. A launch
# takes milliseconds on a busy machine, so not before it saves 20 us.
PARALLEL_FROM = 1 << 16


# Whether this process was forked from one whose threads it does not have: OpenMP kills a child
# that uses them. (TBB starts new ones.)
_forked = False


def _after_fork_in_child() -> None:
    global _forked
    try:
        _forked = numba.threading_layer() != "tbb"
    except ValueError:  # no thread was started
        return


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def normalized(function: str, x: Array, out: Array, temperature: Array, mask: Array | None) -> None:
    """softmax or log_softmax, by name, of x into out; see rows.py and columns.py."""
    entry = functools.partial(_normalized_entry, function)
    _run(entry, x, (x, out, temperature, mask), mask is not None)


def logsumexp(
    x: Array, out: Array, sign: Array | None, mask: Array | None, weight: Array | None
) -> None:
    """log|sum(weight * exp(x))| of x into out, and the sum's sign where there are weights."""
    _run(_logsumexp_entry, x, (x, out, sign, mask, weight), mask is not None, weight is not None)


def _run(entry_for: Any, x: Array, arguments: tuple[Any, ...], *variant: bool) -> None:
    # A row, or a panel of columns, is the least that a thread does.
    count = x.shape[0] if x.ndim == 2 else x.shape[0] * -(-x.shape[2] // columns.PANEL)
    if x.size >= PARALLEL_FROM and count > 1 and not _forked:
        threads = numba.get_num_threads()
        if threads > 1:
            entry_for(x.dtype.char, x.ndim, True, *variant)(arguments, count, min(threads, count))
            return
    entry_for(x.dtype.char, x.ndim, False, *variant)(*arguments, 0, count)


def _array(dtype: str, ndim: int) -> types.Array:
    """Any strides: one compiled variant serves them all (the kernels look at strides alone)."""
    return types.Array(numba.from_dtype(np.dtype(dtype)), ndim, "A")


def _compiled(kernel: Any, kinds: tuple[types.Type, ...], parallel: bool) -> Entry:
    if parallel:
        return compiled(on_all_threads(kernel), (types.Tuple(kinds), types.int64, types.int64))
    return compiled(kernel, (*kinds, types.int64, types.int64))


@functools.cache
def _normalized_entry(function: str, dtype: str, ndim: int, parallel: bool, masked: bool) -> Entry:
    kernel = {
        ("softmax", 2): rows.softmax_rows,
        ("softmax", 3): columns.softmax_columns,
        ("log_softmax", 2): rows.log_softmax_rows,
        ("log_softmax", 3): columns.log_softmax_columns,
    }[function, ndim]
    array = _array(dtype, ndim)
    mask = _array("?", ndim) if masked else types.none
    return _compiled(kernel, (array, array, _array("d", ndim - 1), mask), parallel)


@functools.cache
def _logsumexp_entry(dtype: str, ndim: int, parallel: bool, masked: bool, weighted: bool) -> Entry:
    kernel = {2: rows.logsumexp_rows, 3: columns.logsumexp_columns}[ndim]
    sign = _array("d", ndim - 1) if weighted else types.none
    mask = _array("?", ndim) if masked else types.none
    weight = _array("d", ndim) if weighted else types.none
    kinds = (_array(dtype, ndim), _array(dtype, ndim - 1), sign, mask, weight)
    return _compiled(kernel, kinds, parallel)


def all_variants() -> list[functools.partial[Entry]]:
    """Every variant that can be compiled."""
    flags = (False, True)
    shapes = [(t, ndim, parallel) for t in "dfHh" for ndim in (2, 3) for parallel in flags]
    normalized = [
        functools.partial(_normalized_entry, function, *shape, masked=masked)
        for function in ("softmax", "log_softmax")
        for shape in shapes
        for masked in flags
    ]
    # With weights, a mask is folded into them.
    logsumexps = [
        functools.partial(_logsumexp_entry, *shape, masked=masked, weighted=weighted)
        for shape in shapes
        for masked, weighted in ((False, False), (True, False), (False, True))
    ]
    return normalized + logsumexps


def common_variants() -> list[functools.partial[Entry]]:
    """The variants of plain calls on float32 and float64."""
    plain = (v for v in all_variants() if not any(v.keywords.values()))
    return [v for v in plain if {"d", "f"} & set(v.args)]


def cpu() -> tuple[str, int]:
    """The CPU that code is generated for, and the bits of its widest vector."""
    _, name, features = numba.core.registry.cpu_target.target_context.codegen().magic_tuple()
    enabled = set(features.split(","))
    for feature, width in (("+avx512f", 512), ("+avx", 256)):
        if feature in enabled:
            return name, width
    return name, 128
