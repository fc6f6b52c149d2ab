"""Rows computed from within code that a user has Numba compile: by the caller's thread alone.

The same kernels as a call from Python finds, by the same files of code (launch.py). A user's code
knows them by name: compiled, it is as small as a call, and kept by ``cache=True`` it finds them in
each process that loads it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.lib.stride_tricks import as_strided

from fastsoftmax import source
from fastsoftmax.arithmetic.formulas import Formula
from fastsoftmax.cpu import compiler, plan, views
from fastsoftmax.cpu.cache import short_hash
from fastsoftmax.cpu.launch import ORDINARY, exchange_mode
from fastsoftmax.cpu.sizes import (
    BLOCK,
    COLDEST,
    COLDEST_SINGLE,
    HOTTEST,
    PANEL_LINES,
    SHORT,
    VECTOR,
    vectors,
)
from fastsoftmax.cpu.views import fill

# Whatever the function is compiled with that calls these. They make arrays, which Numba counts.
OPTIONS = compiler.ADDRESSED | {"_nrt": True, "boundscheck": False, "forceinline": False}

_INTEGER = ir.IntType(64)

# Element types that are computed in as they are.
FLOATING = types.float32, types.float64


@dataclasses.dataclass(frozen=True)
class _Place:
    """A kernel, the kinds of its arguments, and the symbol that its code has in this process."""

    kernel: str
    kinds: tuple[Any, ...]

    @property
    def signature(self) -> tuple[types.Type, ...]:
        """Numba's types of its arguments."""
        return plan.types_of(self.kinds)

    @property
    def symbol(self) -> str:
        """What code calls it by."""
        return f"fastsoftmax.{self.kernel}.{short_hash(self.kinds)}"

    def announced(self) -> _Place:
        """Itself, after LLVM knows where its code is in this process."""
        binding.add_symbol(self.symbol, plan.address(self.kernel, self.kinds))
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _announced_again, (source.IMPORTED, self.kernel, self.kinds)


def _announced_again(written_for: str | None, kernel: str, kinds: tuple[Any, ...]) -> _Place:
    """A kernel that kept code calls; where this is an OSError, Numba compiles that code anew."""
    if written_for != source.IMPORTED:
        raise OSError("compiled with another version of fastsoftmax")
    return _Place(kernel, kinds).announced()


class _Writer(NamedTuple):
    """What writes arguments of kernels, arrays that see the memory of others."""

    context: Any
    builder: ir.IRBuilder

    def array(self, dtype: types.Type, data: ir.Value, shape: Any, strides: Any) -> ir.Value:
        """An array, which owns nothing."""
        kind = types.Array(dtype, len(shape), "A")
        made = cgutils.create_struct_proxy(kind)(self.context, self.builder)
        made.data, made.shape, made.strides = data, self._packed(shape), self._packed(strides)
        return made._getvalue()

    def _packed(self, numbers: Any) -> ir.Value:
        return cgutils.pack_array(self.builder, numbers, _INTEGER)

    def seen(self, kind: types.Array, array: ir.Value, ndim: int) -> ir.Value:
        """An array's first axes, at 0 of the others."""
        given = cgutils.create_struct_proxy(kind)(self.context, self.builder, array)
        axes = (cgutils.unpack_tuple(self.builder, of) for of in (given.shape, given.strides))
        return self.array(kind.dtype, given.data, *(of[:ndim] for of in axes))

    def behind(self, dtype: types.Type, data: ir.Value, shape: Any) -> ir.Value:
        """An array without gaps."""
        strides = [_INTEGER(np.dtype(dtype.name).itemsize)]
        for size in shape[:0:-1]:
            strides.insert(0, self.builder.mul(strides[0], size))
        return self.array(dtype, data, shape, strides)


def _kind(array: types.Array, ndim: int) -> tuple[str, int]:
    """What plan.py calls the kind of an array of this type with so many axes."""
    return np.dtype(array.dtype.name).char, ndim


@functools.cache
def kernel(name: str, mapped: bool) -> Any:
    """``run(x, out, temperature, beside, count)``: have a kernel do its items 0 to count.

    x (outer, length, inner), of which kernels for rows see no inner; ``out`` all results, one
    behind the other, one for each logit where they are ``mapped``; temperature a number or None;
    beside None, or bytes of memory for columns. Where it is an operand of rows that have several
    results each, kernels see it and ``out`` without their last axis, too.
    """
    ndim = 3 if name.endswith("columns") else 2

    @intrinsic
    def run(typing: Any, x: Any, out: Any, temperature: Any, beside: Any, count: Any) -> Any:
        several = beside != types.none and beside.ndim == 3

        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            write, zero = _Writer(context, builder), _INTEGER(0)
            logits, results = (
                cgutils.create_struct_proxy(sig.args[n])(context, builder, args[n]) for n in (0, 1)
            )
            shape = cgutils.unpack_tuple(builder, logits.shape)[:ndim]
            reduced = [shape[0], *shape[2:]]
            seen, dummy = write.seen(x, args[0], ndim), context.get_dummy_value()
            values, kinds = [seen, dummy, dummy, dummy], [_kind(x, ndim), None, None, None]
            if several:
                values[1], kinds[1] = write.seen(out, args[1], 2), _kind(out, 2)
                values.append(write.seen(beside, args[3], 2))
                kinds.append(_kind(beside, 2))
            else:
                values[1] = write.behind(x.dtype, results.data, shape if mapped else reduced)
                kinds[1] = _kind(x, ndim if mapped else ndim - 1)
            if temperature != types.none:
                number = cgutils.alloca_once_value(builder, args[2])
                everywhere = [zero] * (ndim - 1)
                values[2] = write.array(types.float64, number, reduced, everywhere)
                kinds[2] = "d", ndim - 1
            if beside != types.none and not several:
                given = cgutils.create_struct_proxy(sig.args[3])(context, builder, args[3])
                slots = [_INTEGER(1), *cgutils.unpack_tuple(builder, given.shape)]
                values.append(write.behind(types.uint8, given.data, slots))
                kinds.append(("B", 2))
            place = _Place(name, tuple(kinds)).announced()
            arguments = context.make_tuple(builder, types.Tuple(place.signature), values)
            there = builder.ptrtoint(cgutils.alloca_once_value(builder, arguments), zero.type)
            code = compiler.emit_named_address(context, builder, place.symbol, place)
            numbers = there, zero, zero, args[4]
            compiler.emit_call(context, builder, code, (types.int64,) * 4, numbers)
            return context.get_dummy_value()

        number = temperature if temperature == types.none else types.float64
        return types.void(x, out, number, beside, types.int64), emit

    return run


@functools.cache
def by_rows(formula: Formula) -> Any:
    """``compute(x, out, operand, temperature)`` for rows, by the kernels that plan.py has for them.

    The operand is None where a row, or each of its logits, has one result.
    """
    short, rows, long = (
        kernel(f"{formula.name}_{kind}", formula.mapped) for kind in ("short", "rows", "long")
    )

    @njit(**OPTIONS)
    def compute(x: Any, out: Any, operand: Any, temperature: Any) -> None:
        count, length, _ = x.shape
        if length > BLOCK:
            long(x, out, temperature, operand, count)
        elif length > SHORT:
            rows(x, out, temperature, operand, count)
        else:
            short(x, out, temperature, operand, count)

    return compute


@functools.cache
def _by_columns(formula: Formula) -> Any:
    """As `by_rows`, for columns; there is no operand."""
    columns, long = (
        kernel(f"{formula.name}_{kind}", formula.mapped) for kind in ("columns", "long_columns")
    )
    rows, several = by_rows(formula), vectors()

    @njit(**OPTIONS)
    def compute(x: Any, out: Any, operand: Any, temperature: Any) -> None:
        outer, length, inner = x.shape
        together = VECTOR * several // x.itemsize
        items = outer * ((inner + together - 1) // together)
        if inner == 1:
            rows(x, out, operand, temperature)
        elif length > BLOCK:
            long(x, out, temperature, None, items)
        else:
            each = length * VECTOR * (several if length <= PANEL_LINES else 1)
            memory = np.empty(each + VECTOR, np.uint8)
            start = -memory.ctypes.data % VECTOR
            columns(x, out, temperature, memory[start : start + each], items)

    return compute


def seen(x: types.Array, dtype: Any, order: tuple[int, ...], first: int, stop: int) -> Any:
    """``see(x)``: as columns (outer, length, inner), themselves or copied, of this type.

    Axes are in this order; those from ``first`` to ``stop`` are columns together.
    """
    ndim, size, straight = x.ndim, dtype.itemsize, order == tuple(range(x.ndim))
    columns, turn = views.grouped(first, stop), views.turned(order)

    def copied(x: Any) -> Any:
        copy = np.empty(x.shape, dtype)
        fill(copy, x)
        return columns(copy)

    def moved(x: Any) -> Any:
        return copied_from(turn(x))

    def row(x: Any) -> Any:
        if x.strides[0] == size:
            return as_strided(x, (1, x.shape[0], 1), (0, size, size))
        return copied_from(x)

    def rows(x: Any) -> Any:
        if x.strides[1] == size:
            return as_strided(x, (x.shape[0], x.shape[1], 1), (x.strides[0], size, size))
        return copied_from(x)

    alike, last = x.dtype.name == dtype.name and straight, (first, stop) == (ndim - 1, ndim)
    if alike and x.layout == "C":
        return columns
    copied_from = njit(**OPTIONS)(copied)
    if alike and last and ndim <= 2 and x.mutable:
        return njit(**OPTIONS)(row if ndim == 1 else rows)
    return copied_from if straight else njit(**OPTIONS)(moved)


@functools.cache
def _at_limits(dtype: Any) -> Any:
    """``limits(x, temperature)``: as `checks.at_limits`, of columns that have one temperature."""
    fine = dtype == np.float64
    coldest = COLDEST if fine else COLDEST_SINGLE
    infinity, up, down = np.inf, 2.0**200, 2.0**-200

    @njit(**OPTIONS)
    def limits(x: Any, temperature: float) -> Any:
        frozen = temperature == 0 if fine else temperature < coldest
        molten = temperature == infinity if fine else temperature > HOTTEST
        made = np.empty(x.shape, dtype)
        for o in range(x.shape[0]):
            for i in range(x.shape[2]):
                top = -infinity
                for k in range(x.shape[1]):
                    top = max(top, x[o, k, i])
                for k in range(x.shape[1]):
                    value = x[o, k, i]
                    if value - value != 0:  # infinities and NaN are what they are
                        made[o, k, i] = value
                    elif molten:
                        made[o, k, i] = 0.0
                    elif temperature > HOTTEST:
                        made[o, k, i] = value * down
                    elif not frozen and abs(top) < 2.0**800:  # else all that differs is nothing
                        made[o, k, i] = value * up
                    else:
                        made[o, k, i] = 0.0 if value == top else -infinity
        if frozen or molten:
            return made, 1.0
        return made, temperature * (down if temperature > HOTTEST else up)

    return limits


@functools.cache
def runner(compute: Any, dtype: Any, tempered: bool) -> Any:
    """``run(x, out, operand, temperature)`` for columns (outer, length, inner), in one mode.

    By ``compute``, which takes temperatures within their limits, and None where not ``tempered``.
    """
    limits = _at_limits(dtype)
    coldest = COLDEST if dtype == np.float64 else COLDEST_SINGLE

    def plain(x: Any, out: Any, operand: Any, temperature: float) -> None:
        mode = exchange_mode(ORDINARY)
        compute(x, out, operand, None)
        exchange_mode(mode)

    def divided(x: Any, out: Any, operand: Any, temperature: float) -> None:
        mode = exchange_mode(ORDINARY)
        if coldest <= temperature <= HOTTEST:
            compute(x, out, operand, temperature)
        else:
            scaled, scaled_temperature = limits(x, temperature)
            compute(scaled, out, operand, scaled_temperature)
        exchange_mode(mode)

    return njit(**OPTIONS)(divided if tempered else plain)


def computed_type(x: types.Array) -> np.dtype[Any]:
    """The type in which the elements of arrays like x are computed."""
    return np.dtype(x.dtype.name if x.dtype in FLOATING else "float64")


@functools.cache
def computed(
    formula: Formula, x: types.Array, axes: tuple[int, ...], keepdims: bool, tempered: bool
) -> Any:
    """``compute(x, temperature)``: what a formula makes of arrays like x, for Numba to call.

    Along these axes (sorted), together; ``keepdims`` says whether those that are summed are kept.
    Where it is not ``tempered``, the temperature is not looked at.
    """
    ndim = x.ndim
    if x.layout == "F" and ndim > 1:
        mirror = tuple(ndim - 1 - axis for axis in reversed(axes))
        same = computed(formula, x.copy(layout="C"), mirror, keepdims, tempered)

        def mirrored(x: Any, temperature: float) -> Any:
            return same(x.T, temperature).T

        def number(x: Any, temperature: float) -> Any:
            return same(x.T, temperature)

        array = formula.mapped or keepdims or len(axes) < ndim
        return njit(**OPTIONS)(mirrored if array else number)

    order = tuple(range(ndim))
    first, stop = (axes[0], axes[-1] + 1) if axes else (ndim, ndim)
    if stop - first != len(axes):
        order = (*(axis for axis in order if axis not in axes), *axes)
        first, stop = ndim - len(axes), ndim
    dtype = computed_type(x)
    see = seen(x, dtype, order, first, stop)
    run = runner((_by_columns if stop < ndim else by_rows)(formula), dtype, tempered)
    kept = [None if axis in axes else axis for axis in range(ndim) if keepdims or axis not in axes]
    sizes = views.picked(order if formula.mapped else tuple(kept) or (None,))
    absent = formula.absent

    @njit(**OPTIONS)
    def compute(x: Any, temperature: float) -> Any:
        if tempered and not temperature >= 0:
            raise ValueError("temperature must not be negative or NaN")
        columns, out = see(x), np.empty(sizes(x.shape), dtype)
        if columns.size == 0:
            out.fill(absent)
        else:
            run(columns, out, None, np.float64(temperature))
        return out

    def moved_back(x: Any, temperature: float) -> Any:
        return turn_back(compute(x, temperature))

    def single(x: Any, temperature: float) -> Any:
        return compute(x, temperature)[0]

    turn_back = views.turned(tuple(np.argsort(order).tolist()))
    if formula.mapped:
        return compute if order == tuple(range(ndim)) else njit(**OPTIONS)(moved_back)
    return compute if kept else njit(**OPTIONS)(single)
