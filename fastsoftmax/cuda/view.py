"""What a kernel is told of an array in a device's memory, which nobody reads here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Shape = tuple[int, ...]


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
        """In a shape that it broadcasts to."""
        lead = len(shape) - len(self.shape)
        own = (0,) * lead + tuple(
            0 if n == 1 else s for n, s in zip(self.shape, self.strides, strict=True)
        )
        return self._replace(shape=shape, strides=own)

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
