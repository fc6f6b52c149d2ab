"""Any array as the rows or columns that a kernel takes, and back.

A kernel takes rows (rows, length) whose elements are side by side, or columns (outer, length,
inner) whose neighbours are; `Rows` finds such a view of any array, and copies only where there
is none.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from fastsoftmax.cuda.view import View

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


class Rows:
    """How arrays of one shape are seen as rows along ``axes``: a transposition and a reshape.

    Axes are ordered by the strides of the input, so that most layouts need no copy: a Fortran
    array reduced along its last axis is columns of a C one. Where the reduced axes are not
    neighbours in memory, or are wanted ``last``, they are moved to the end, and a copy is made.
    """

    def __init__(self, shape: Shape, strides: Shape, axes: Shape, last: bool) -> None:
        long = [axis for axis, size in enumerate(shape) if size > 1]
        short = [axis for axis, size in enumerate(shape) if size <= 1]
        # A broadcast axis (stride 0) goes first: whatever is inside it is what moves.
        long.sort(key=lambda axis: -abs(strides[axis]) if strides[axis] else -math.inf)
        places = [place for place, axis in enumerate(long) if axis in axes]
        start, stop = (places[0], places[-1] + 1) if places else (len(long), len(long))
        if stop - start != len(places) or (last and stop < len(long)):
            kept = [axis for axis in long if axis not in axes]
            long = kept + [axis for axis in axes if shape[axis] > 1]
            start, stop = len(kept), len(long)

        parts = long[:start], long[start:stop], long[stop:]
        outer, length, inner = (math.prod(shape[axis] for axis in part) for part in parts)
        columns = () if inner == 1 else (inner,)
        order = self.order = short + long
        self._reduced = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        # With a result for each logit and with one a row: as kernels see it, and in this order.
        self.seen = {True: (outer, length, *columns), False: (outer, *columns)}
        self._sizes = {True: [shape[i] for i in order], False: [self._reduced[i] for i in order]}
        self._back = sorted(range(len(shape)), key=order.__getitem__)

    def view(self, array: Array) -> Array:
        """``array`` as (rows, length) or (outer, length, inner): itself, or a copy."""
        shape = self.seen[True]
        seen = array.transpose(self.order).reshape(shape)
        if shape[-1] > 1 and seen.strides[-1] != seen.itemsize:
            seen = np.ascontiguousarray(seen)
        return seen

    def view_rows(self, numbers: Array) -> Array:
        """One number, or an array of the reduced shape, as (rows,) or (outer, inner)."""
        shape = self.seen[False]
        if numbers.ndim == 0:  # what broadcast_to would give, ten times faster
            return np.ndarray(shape, numbers.dtype, numbers, strides=(0,) * len(shape))
        numbers = np.broadcast_to(numbers, self._reduced)
        return numbers.transpose(self.order).reshape(shape)

    def view_several(self, numbers: Array, axis: int) -> Array:
        """Several numbers for each row, along an axis: (several, rows) or (several, outer, inner).

        The last axis is contiguous: itself, or a copy.
        """
        several = numbers.shape[axis]
        numbers = np.expand_dims(np.moveaxis(numbers, axis, 0), axis + 1)
        numbers = np.broadcast_to(numbers, (several, *self._reduced))
        order = (0, *(1 + place for place in self.order))
        return np.ascontiguousarray(numbers.transpose(order).reshape(several, *self.seen[False]))

    def back_several(self, seen: Array, axis: int) -> Array:
        """What `view_several` makes of it, as it was."""
        sizes, back = self._sizes[False], (0, *(1 + place for place in self._back))
        numbers = seen.reshape(len(seen), *sizes).transpose(back)
        return np.moveaxis(np.squeeze(numbers, axis + 1), 0, axis)

    def empty(self, dtype: np.dtype[Any], mapped: bool) -> Array:
        """A new array, as kernels take it; its axes lie in memory as those of the input.

        It has a place for each logit where results are ``mapped``, else one a row.
        """
        return np.empty(self.seen[mapped], dtype)

    def place(self, out: Array | None, mapped: bool, x: Array, *others: Array | None) -> Array:
        """Where a kernel is to write its result for ``x``: a view of ``out``, or a new array.

        A new one where there is no ``out``, where it has another type or no such view, and where
        it shares memory with what the kernel reads, ``x`` or others, other than by being it.
        """
        if out is not None and out.dtype == x.dtype:
            out = out.view(np.ndarray)  # a matrix would stay one
            view = self.view(out)
            shared = any(
                np.may_share_memory(view, array) and not same_memory(view, array)
                for array in (x, *others)
                if array is not None
            )
            if not shared and np.may_share_memory(view, out):
                return view
        return self.empty(x.dtype, mapped)

    def back(self, seen: Array, mapped: bool) -> Array:
        """A kernel's result in the input's order of axes, the reduced ones at length 1."""
        return seen.reshape(self._sizes[mapped]).transpose(self._back)


_rows = functools.lru_cache(maxsize=1024)(Rows)


def rows_of(x: Array | View, axes: Shape, last: bool = False) -> Rows:
    """How arrays of the shape of ``x`` are seen as rows along ``axes``; ``last``: never columns."""
    return _rows(x.shape, x.strides, axes, last)


def stored(array: Array) -> Array:
    """The array as kernels know it: the two 16-bit types, unknown to Numba, as their bits."""
    if array.itemsize != 2:
        return array
    return array.view(np.uint16 if array.dtype == np.float16 else np.int16)


def same_memory(a: Array, b: Array) -> bool:
    """Whether two arrays are element by element the same memory."""
    return a is b or (
        a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
        and a.shape == b.shape
        and a.dtype == b.dtype
        # A length of 1 has a stride that means nothing.
        and all(s == t for n, s, t in zip(a.shape, a.strides, b.strides, strict=True) if n > 1)
    )
