"""The short way of plain calls on arrays that live on a GPU; `DeviceCall` is that of all others."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from fastsoftmax import checks, layout
from fastsoftmax.arithmetic.formulas import Formula
from fastsoftmax.cuda import elements, libraries, plan
from fastsoftmax.cuda.driver import driver
from fastsoftmax.cuda.libraries import Exporter, Held
from fastsoftmax.cuda.view import Shape, View, contiguous


class Plain(NamedTuple):
    """What plain calls have in common whose logits lie alike."""

    # Of what kernels see: the shape and the steps of the logits, and those of the result.
    shape: Shape
    strides: Shape
    out_shape: Shape
    out_strides: Shape
    # The result's own shape, and how its axes lie in memory.
    final: Shape
    order: tuple[int, ...]
    # The bytes of an array without gaps that lies as the logits do; 0 where these have gaps.
    reach: int


@functools.lru_cache(maxsize=1024)
def _plain(
    formula: Formula, shape: Shape, strides: Shape, itemsize: int, axis: int | None, keepdims: bool
) -> Plain | None:
    """What a plain call does; None where something must be copied, or is wrong."""
    axes = checks.normalized_axes(len(shape), axis)
    x = View(0, "", shape, strides, itemsize)
    if not x.size or any(step % itemsize for step in strides):
        return None
    rows, mapped = layout.rows_of(x, axes), formula.mapped
    moved = x.transpose(rows.order)
    seen = moved.reshape(rows.seen[True])
    if seen is None:
        return None
    final = shape if mapped else checks.reduced_shape(shape, axes, keepdims)
    kept = [axis for axis in range(len(shape)) if mapped or keepdims or axis not in axes]
    order = tuple(kept.index(axis) for axis in rows.order if axis in kept)
    whole = moved.strides == contiguous(moved.shape, itemsize)
    return Plain(
        seen.shape, seen.strides, rows.seen[mapped], contiguous(rows.seen[mapped], itemsize),
        final, order, x.size * itemsize if whole else 0,
    )  # fmt: skip


def compute(
    formula: Formula, name: str, library: Exporter, x: Any, axis: int | None, temperature: float,
    out: Any, keepdims: bool,
) -> Any:  # fmt: skip
    """A call without masks or other types and streams, all of which is decided by the layout.

    As a `DeviceCall`, with all that depends on shapes and steps done once: 12 us where that takes
    80. None where there is more to do.
    """
    held = library.hold(name, x, None)
    view, place = held.view, None
    if view.dtype not in elements.SIZES or view.pointer % view.itemsize:
        return None
    todo = _plain(formula, view.shape, view.strides, view.itemsize, axis, keepdims)
    if todo is None:
        return None
    if out is not None:
        place = _plain_out(library, held, out, todo.reach if formula.mapped else 0)
        if place is None:
            return None
    with driver().current(held.device):
        stream = library.current_stream(held)
        steps = todo.strides if place else todo.out_strides
        made = out if place else library.empty(held, todo.final, view.dtype, todo.order)
        pointer = place or library.pointer(made)
        plan.compute(
            formula,
            View(view.pointer, view.dtype, todo.shape, todo.strides, view.itemsize),
            View(pointer, view.dtype, todo.out_shape, steps, view.itemsize),
            None if temperature == 1.0 else temperature,
            None,
            stream,
        )
    if place:
        library.written(out)
    return made


def _plain_out(library: Exporter, x: Held, out: Any, reach: int) -> int | None:
    """The address of an ``out`` that lies as the logits, and is them or apart from them."""
    if not reach or libraries.library_of(out) is not library:
        return None
    held = library.hold("out", out, None)
    view, other = held.view, x.view
    apart = view.pointer == other.pointer or abs(view.pointer - other.pointer) >= reach
    alike = view[1:] == other[1:]
    same = held.device == x.device and held.stream == x.stream
    fit = not (held.read_only or view.pointer % view.itemsize)
    return view.pointer if apart and alike and same and fit else None
