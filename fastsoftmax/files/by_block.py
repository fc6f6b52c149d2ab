"""An array or a file of any size, scored block by block."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastsoftmax.files.reading import LogitsFile

Array = np.ndarray[Any, Any]

# Bytes of logits in a block: long enough for full speed, little beside any machine's memory.
# A row that is longer is a block of its own.
BLOCK_BYTES = 1 << 25
_PAGE = 4096


def blocks(x: Array | LogitsFile, axis: int, results: int = 0) -> Iterator[tuple[slice, ...]]:
    """Slices that cut an array into blocks of whole rows along ``axis``.

    They are cut across the other axes, from the one that is outermost in memory inwards, until
    they are small enough; but never to pieces of less than a page of memory. ``results`` are the
    bytes of what is made of all of them: where these are more, a block of them is that small.
    """
    most = BLOCK_BYTES * x.nbytes // max(x.nbytes, results, 1)
    others = [i for i in range(x.ndim) if i != axis and x.shape[i] > 1]
    others.sort(key=lambda i: -x.strides[i])

    def cut(before: tuple[slice, ...], nbytes: int, inwards: list[int]) -> Iterator[Any]:
        if nbytes <= most or not inwards:
            yield before
            return
        across = inwards[0]
        slab = nbytes // x.shape[across]
        step = max(1, most // slab, _PAGE // x.strides[across])
        for start in range(0, x.shape[across], step):
            stop = min(start + step, x.shape[across])
            part = (*before[:across], slice(start, stop), *before[across + 1 :])
            yield from cut(part, slab * (stop - start), inwards[1:])

    yield from cut((slice(None),) * x.ndim, x.nbytes, others)


def nbytes(x: Array | LogitsFile, cut: tuple[slice, ...]) -> int:
    """The size of a part of an array."""
    lengths = (len(range(n)[part]) for n, part in zip(x.shape, cut, strict=True))
    return math.prod(lengths) * x.dtype.itemsize


def release(array: Array) -> None:
    """Let go of a mapped file's pages, which stay in the file and the system's cache."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def score(
    x: Array | LogitsFile,
    axis: int,
    done: Callable[[Array, tuple[slice, ...], Sequence[Array] | None], None],
    outs: Sequence[Array] | None,
    results: int = 0,
) -> None:
    """done(block, cut, places) for each block of x, of which ``cut`` says where it is.

    ``places`` are the parts of ``outs`` that its results belong into: outs have the axes of x, but
    for ``axis``, which may have another length, or not be there; None where there are no outs.
    ``results`` as for `blocks`.
    """
    for cut in blocks(x, axis, results):
        done(x[cut], cut, None if outs is None else [_place(out, cut, axis) for out in outs])
        for out in outs or ():
            release(out)


def _place(out: Array, cut: tuple[slice, ...], axis: int) -> Array:
    kept = cut if out.ndim == len(cut) else cut[:axis] + cut[axis + 1 :]
    # A single row is reduced to no dimension: an array of none, not a number.
    place: Array = out[kept or ...]
    return place
