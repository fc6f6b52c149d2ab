"""Which kernel computes a call on a device, and with how many threads: every threshold is here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from fastsoftmax.arithmetic.formulas import Formula
from fastsoftmax.cuda.view import View

# A row on the CPU's kernels up to this length is counted on two grids, in float32.
BLOCK = 4096
# Threads of a block: as many as a row needs, else these.
_THREADS = 128
# The longest rows of which a block makes tiles, where vectors do not fit them.
_SHORT = 256
# Blocks for each multiprocessor, which then do tile after tile.
WAVES = 32
# Cuts of a row at most, and blocks for each multiprocessor that rows are cut for.
_CUTS, _CUT_WAVES = 1024, 4


class Unavailable(RuntimeError):
    """There is no device for a call, or what runs code on it is missing."""


class Layout(NamedTuple):
    """Rows (outer, length, inner) in memory, as far as it decides about kernels."""

    outer: int
    length: int
    inner: int
    # Whether the elements of a row lie side by side; whether rows begin and end with vectors; and
    # whether they follow each other without a gap, the first with a vector.
    along: bool
    exact: bool
    packed: bool
    # How many columns side by side fit a vector in all arrays.
    columns: int


class Device(NamedTuple):
    """What of a device decides about kernels."""

    multiprocessors: int
    capability: tuple[int, int]


def compute(
    formula: Formula, x: View, out: View, temperature: float | View | None, mask: View | None,
    stream: int,
) -> None:  # fmt: skip
    """Compute a formula of the rows of ``x`` (rows, length) or (outer, length, inner).

    In order on a stream of the current device, without waiting for it.
    """
    if x.size == 0:
        return
    from fastsoftmax.cuda import launch

    launch.run(formula, x, out, temperature, mask, stream)


# --- shapes -----------------------------------------------------------------------------------


@functools.cache
def _items(itemsize: int) -> tuple[int, int, int]:
    """Of a type: elements of a vector, vectors that a thread of a warp holds, and of a block."""
    return 16 // itemsize, {8: 8, 4: 8, 2: 4}[itemsize], {8: 16, 4: 16, 2: 8}[itemsize]


def _power(n: int) -> int:
    """The least power of two that is not below."""
    return 1 << max(0, n - 1).bit_length()


def shapes(
    shape: Callable[..., Any], itemsize: int, layout: Layout, device: Device
) -> tuple[list[Any], int]:
    """The kernels of a call, one after the other, and into how many cuts rows fall."""
    if not layout.along:
        return [_columns(shape, itemsize, layout)], 1
    width, few, many = _items(itemsize)
    length, exact = layout.length, layout.exact
    vectors = -(-length // width) + (not exact)
    if not exact and layout.packed and length <= _SHORT:
        return [_short(shape, length)], 1
    if vectors <= 32 * few:
        size = _power(-(-vectors // few))
        return [shape("rows", _THREADS, size, -(-vectors // size), exact=exact)], 1
    if layout.outer < device.multiprocessors and vectors > 512 * many // 4:
        cuts = min(-(-_CUT_WAVES * device.multiprocessors // layout.outer), _CUTS)
        cuts = min(cuts, -(-vectors // 512))
        names = "maxima", "counts", "results"
        return [shape(name, 256, 256, exact=exact) for name in names], cuts
    if vectors <= 512 * many:
        threads = max(64, _power(-(-vectors // many)))
        return [shape("rows", threads, threads, -(-vectors // threads), exact=exact)], 1
    clusters = _power(-(-vectors // (512 * many)))
    if device.capability >= (9, 0) and clusters <= 8:
        pieces = -(-vectors // (512 * clusters))
        return [shape("rows", 512, 512, pieces, clusters=clusters, exact=exact)], 1
    return [shape("long_rows", 512, 512, exact=exact)], 1


def _short(shape: Callable[..., Any], length: int) -> Any:
    """Tiles of short rows: threads of a row so many that each has 16 logits, or a few more."""
    size = _power(-(-length // 16))
    return shape("short_rows", _THREADS, size)


def _columns(shape: Callable[..., Any], itemsize: int, layout: Layout) -> Any:
    """Of short rows, vectors across them; of longer ones, so many lines that a block holds them."""
    held = 32 if itemsize == 8 else 64
    for items in (layout.columns, 1):
        warps = _power(-(-layout.length * items // held))
        if warps <= (2 if items > 1 else 16):
            pieces = -(-layout.length // warps)
            threads = 32 * warps
            return shape("columns", threads, warps, pieces, items)
    return shape("columns_long", 256, 8, 0, 1)
