"""Arrays seen otherwise in code that Numba compiles: written as LLVM's, which compiles at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_INTEGER = ir.IntType(64)


@functools.cache
def picked(picks: tuple[int | None, ...]) -> Any:
    """``sizes(shape)``: of each axis that is picked its size, 1 for None."""

    @intrinsic
    def sizes(typing: Any, shape: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            one = _INTEGER(1)
            each = [one if n is None else builder.extract_value(args[0], n) for n in picks]
            return context.make_tuple(builder, sig.return_type, each)

        return types.UniTuple(types.intp, len(picks))(shape), emit

    return sizes


def _view(ndim: int, lie: Callable[..., tuple[Any, Any]]) -> Any:
    """``view(x)``: an array's memory seen as ``lie(builder, itemsize, shape, strides)`` says."""

    @intrinsic
    def view(typing: Any, x: Any) -> Any:
        kind = x.copy(ndim=ndim, layout="A")

        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            given = cgutils.create_struct_proxy(x)(context, builder, args[0])
            lies = (cgutils.unpack_tuple(builder, axes) for axes in (given.shape, given.strides))
            shape, strides = (
                cgutils.pack_array(builder, axes, _INTEGER)
                for axes in lie(builder, given.itemsize, *lies)
            )
            made = cgutils.create_struct_proxy(kind)(context, builder)
            made.data, made.shape, made.strides = given.data, shape, strides
            made.itemsize, made.nitems, made.meminfo = given.itemsize, given.nitems, given.meminfo
            seen = made._getvalue()
            context.nrt.incref(builder, kind, seen)
            return seen

        return kind(x), emit

    return view


@functools.cache
def turned(order: tuple[int, ...]) -> Any:
    """``turn(x)``: its axes in this order. (x.transpose(order) takes 5 s to compile.)"""

    def lie(builder: Any, itemsize: Any, shape: Any, strides: Any) -> Any:
        return [shape[axis] for axis in order], [strides[axis] for axis in order]

    return _view(len(order), lie)


@functools.cache
def grouped(first: int, stop: int) -> Any:
    """``columns(x)``: an array in C order as (outer, length, inner), its axes in three groups."""

    def lie(builder: Any, itemsize: Any, shape: Any, strides: Any) -> Any:
        groups = shape[:first], shape[first:stop], shape[stop:]
        outer, length, inner = (functools.reduce(builder.mul, each, _INTEGER(1)) for each in groups)
        step = builder.mul(inner, itemsize)
        return [outer, length, inner], [builder.mul(length, step), step, itemsize]

    return _view(3, lie)


@intrinsic
def fill(typing: Any, copy: Any, x: Any) -> Any:
    """Copy to an array of this shape. (``copy[:] = x`` takes 3 s to compile.)"""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        there, here = (
            cgutils.create_struct_proxy(kind)(context, builder, value)
            for kind, value in zip(sig.args, args, strict=True)
        )
        sizes = cgutils.unpack_tuple(builder, here.shape)
        with cgutils.loop_nest(builder, sizes, _INTEGER) as indices:
            source = cgutils.get_item_pointer(context, builder, x, here, indices)
            value = context.unpack_value(builder, x.dtype, source)
            value = context.cast(builder, value, x.dtype, copy.dtype)
            place = cgutils.get_item_pointer(context, builder, copy, there, indices)
            context.pack_value(builder, copy.dtype, value, place)
        return context.get_dummy_value()

    return types.void(copy, x), emit
