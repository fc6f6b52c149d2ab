"""Sums that never end, by the kernels of streamed.py: of rows, of other sums, their logarithms."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastsoftmax.cpu import plan
from fastsoftmax.cpu.sizes import CHUNK

Array = np.ndarray[Any, Any]


class Sums(NamedTuple):
    """A column for each sum; see streamed.py for the lines."""

    floats: Array  # (3, sums)
    integers: Array  # (7, sums)

    @classmethod
    def empty(cls, several: int) -> Sums:
        """So many, of which none is there yet."""
        return cls(np.empty((3, several)), np.empty((7, several), np.int64))


def summed(x: Array, mask: Array | None, weight: Array | None) -> Sums:
    """The sums of (weight *) exp(x) of the rows of x."""
    cuts = -(-x.shape[1] // CHUNK)
    made = Sums.empty(len(x) * cuts)
    if weight is None:
        plan.run("sums", (x, *made, mask), len(x) * cuts)
    else:
        plan.run("weighted_sums", (x, *made, weight), len(x) * cuts)
    return _gathered(made, len(x), cuts)


def _gathered(sums: Sums, several: int, cuts: int) -> Sums:
    """The sums of so many rows, from those of all their cuts, which lie side by side."""
    parts = [each.reshape(len(each), several, cuts) for each in sums]
    while (cuts := parts[0].shape[2]) > 1:
        half = cuts // 2
        first, second = (
            Sums(*(part[..., k].reshape(len(part), -1).copy() for part in parts))
            for k in (slice(half), slice(half, 2 * half))
        )
        add(first, second)
        parts = [
            np.concatenate([each.reshape(len(each), several, half), part[..., 2 * half :]], axis=2)
            for each, part in zip(first, parts, strict=True)
        ]
    return Sums(*(part[..., 0] for part in parts))


def add(sums: Sums, more: Sums) -> None:
    """Add others to sums, column by column."""
    plan.run("added_sums", (*sums, *more), -(-sums.floats.shape[1] // CHUNK))


def logarithms(sums: Sums, weighted: bool) -> tuple[Array, Array | None]:
    """The logarithms of sums; of weighted ones of their size, and their signs."""
    several = sums.floats.shape[1]
    out, sign = np.empty(several), np.empty(several) if weighted else None
    if sign is None:
        plan.run("log_sums", (*sums, out), -(-several // CHUNK))
    else:
        plan.run("signed_log_sums", (*sums, out, sign), -(-several // CHUNK))
    return out, sign
