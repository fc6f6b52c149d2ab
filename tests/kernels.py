"""Runs one kernel, whichever the plan would choose, on rows of any type."""

import functools
from typing import NamedTuple

import ml_dtypes
import numpy as np

from fastsoftmax.arithmetic.formulas import FORMULAS
from fastsoftmax.cpu import plan
from fastsoftmax.cpu.sizes import BLOCK, PACKED, SHORT, cuts_of

FORMULA = {formula.name: formula for formula in FORMULAS}
STORED = {
    "float64": (np.dtype(np.float64), np.float64),
    "float32": (np.dtype(np.float32), np.float32),
    "float16": (np.dtype(np.float16), np.uint16),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.int16),
}
# Kernels that give a row the same bits: of float32, those beyond a block count on one grid more.
BRIEF = ["short", "rows", "packed", "columns"]
LONG = ["long", "long_columns", "cuts"]


class Rows(NamedTuple):
    """Logits (rows, length), and what else kernels are given of them."""

    x: np.ndarray
    temperature: np.ndarray | None = None
    mask: np.ndarray | None = None

    def taken(self, order, axis):
        """Some rows or logits of each, in another order."""
        rows = order if axis == 0 else slice(None)
        return Rows(
            self.x.take(order, axis),
            None if self.temperature is None else self.temperature[rows],
            None if self.mask is None else self.mask.take(order, axis),
        )


def stored(array):
    return array.view(STORED[array.dtype.name][1])


@functools.cache
def _variant(name, kinds):
    return plan._variant(name, kinds, True)


def _run(name, arguments, count):
    arguments = tuple(
        stored(a) if a is not None and a.dtype.name in STORED else a for a in arguments
    )
    call, address = _variant(name, plan._kinds_of(arguments))
    call(arguments, address, 0, count)


def takes(kind, given):
    """Whether a kernel can compute these rows."""
    count, length = given.x.shape
    if kind == "packed":
        plain = given.mask is None and given.temperature is None
        return plain and length in PACKED and count >= plan._together(stored(given.x))
    if kind == "short":
        return length <= SHORT
    return length <= BLOCK or kind in LONG


def computed(kind, name, given):
    """What a kernel makes of rows."""
    x, temperature, mask = given
    count, length = x.shape
    out = np.full(x.shape if FORMULA[name].mapped else count, 77).astype(x.dtype)
    if kind in ("columns", "long_columns"):
        beside = np.ascontiguousarray(x.T)[None]
        temperature = None if temperature is None else temperature[None]
        mask = None if mask is None else np.ascontiguousarray(mask.T)[None]
        below = out[None] if out.ndim == 1 else np.ascontiguousarray(out.T)[None]
        memory = plan._memory(stored(beside), 1) if kind == "columns" else ()
        arguments = beside, below, temperature, mask, *memory
        _run(f"{name}_{kind}", arguments, plan.items_of(stored(beside)))
        return below[0] if out.ndim == 1 else np.ascontiguousarray(below[0].T)
    if kind == "cuts":
        several = count * cuts_of(length)
        noted = np.full((8, several), np.nan), np.full((8, several), -77, np.int64)
        arguments = x, out, temperature, mask, *noted
        _run(f"{name}_maxima", arguments, several)
        _run(f"{name}_counts", arguments, several)
        _run(f"{name}_cuts", arguments, count if out.ndim == 1 else several)
        return out
    if kind == "packed":
        together = plan._together(stored(x))
        done = count // together * together
        _run(f"{name}_packed_{length}", (x, out, None, None), done // together)
        rest = computed("short", name, given.taken(np.arange(done, count), 0))
        return np.concatenate([out[:done], rest])
    _run(f"{name}_{kind}", (x, out, temperature, mask), count)
    return out


def computed_weighted(x, weight):
    """log|sum(weight * exp(x))| of rows, and the sum's sign."""
    out, sign = np.full(len(x), 77).astype(x.dtype), np.empty(len(x))
    _run("weighted", (x, out, sign, weight), len(x))
    return out, sign


def planned(name, given):
    """What the plan's choice of kernels makes of rows."""
    x, temperature, mask = given
    out = np.empty(x.shape if FORMULA[name].mapped else len(x), x.dtype)
    plan.compute(FORMULA[name], stored(x), stored(out), temperature, mask)
    return out


def bits(array):
    return array.view(f"u{array.itemsize}")
