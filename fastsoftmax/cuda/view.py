"""What a kernel is told of an array in a device's memory, which nobody reads here."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]

# Steps of a search for an element of two arrays, some 0.1 ms, after which they count as sharing it.
_WORK = 10_000


class View(NamedTuple):
    """An array by its address, the name of its dtype, its shape, and its strides in bytes."""

    pointer: int
    dtype: str
    shape: Shape
    strides: Shape
    itemsize: int

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    def transpose(self, order: Sequence[int]) -> View:
        """Its axes in another order."""
        shape, strides = (tuple(axes[i] for i in order) for axes in (self.shape, self.strides))
        return self._replace(shape=shape, strides=strides)

    def broadcast(self, shape: Shape) -> View:
        """In a shape that it broadcasts to; nobody asks whether it does."""
        lead = len(shape) - len(self.shape)
        own = (0,) * lead + tuple(
            0 if n == 1 else s for n, s in zip(self.shape, self.strides, strict=True)
        )
        return self._replace(shape=shape, strides=own)

    def same_memory(self, other: View) -> bool:
        """Whether two arrays are element by element the same memory."""
        mine, theirs = (
            (view.pointer, view.dtype, view.shape, view._steps()) for view in (self, other)
        )
        return mine == theirs

    def _steps(self) -> tuple[int | None, ...]:
        """The strides that mean something: those of axes longer than 1."""
        return tuple(s if n > 1 else None for n, s in zip(self.shape, self.strides, strict=True))

    def overlaps(self, other: View) -> bool:
        """Whether two arrays share memory."""
        if not (self.size and other.size):
            return False
        mine, theirs = self._placed(), other._placed()
        try:
            return np.shares_memory(mine, theirs, max_work=_WORK)  # type: ignore[arg-type]
        except np.exceptions.TooHardError:
            return True

    def _placed(self) -> Any:
        """An array of NumPy's at the same address, to be asked where it lies and never read."""
        exported = {
            "data": (self.pointer, True),
            "shape": self.shape,
            "strides": self.strides,
            "typestr": f"|V{self.itemsize}",
            "version": 3,
        }
        return np.asarray(SimpleNamespace(__array_interface__=exported))

    def reshape(self, shape: Shape) -> View | None:
        """In another shape of as many elements; None where that takes a copy.

        Groups of axes that hold as many elements in both shapes: an old one is a single axis where
        each stride is the next one's times its length.
        """
        old = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        strides, at = [0] * len(shape), 0
        new = [(i, n) for i, n in enumerate(shape) if n != 1]
        if 0 in shape:
            return self._replace(shape=shape, strides=tuple(strides))
        while new:
            group, held = [new.pop(0)], old[at][0]
            taken = at + 1
            while (wanted := math.prod(n for _, n in group)) != held:
                if wanted < held:
                    group.append(new.pop(0))
                else:
                    held *= old[taken][0]
                    taken += 1
            for (_, step), (size, inner) in zip(old[at:taken], old[at + 1 : taken], strict=False):
                if step != size * inner:
                    return None
            step = old[taken - 1][1]
            for i, size in reversed(group):
                strides[i] = step
                step *= size
            at = taken
        return self._replace(shape=shape, strides=tuple(strides))


@functools.lru_cache(maxsize=1024)
def contiguous(shape: Shape, itemsize: int) -> Shape:
    """The strides of an array in C order."""
    strides = []
    for size in reversed(shape):
        strides.append(itemsize)
        itemsize *= max(size, 1)
    return tuple(reversed(strides))
