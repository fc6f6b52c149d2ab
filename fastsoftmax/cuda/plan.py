"""Which kernels compute a call on a device, and with how many threads: every threshold is here."""

from __future__ import annotations

import functools
from typing import NamedTuple

from fastsoftmax.arithmetic.formulas import Formula
from fastsoftmax.cuda.batch import Kind
from fastsoftmax.cuda.device import VECTOR, WARP
from fastsoftmax.cuda.shape import Hardware, Shape
from fastsoftmax.cuda.view import View

# The longest rows that float32 counts on two grids, on the CPU, too.
BLOCK = 4096
# Threads of a block, where rows need no more of them.
THREADS = 128
# The longest rows of which a block makes tiles, where vectors do not fit them.
SHORT = 256
# Blocks of a cluster at most: more are not possible on every device.
CLUSTER = 8
# Blocks for each multiprocessor, which then do tile after tile.
WAVES = 32
# Cuts of a row at most, and blocks for each multiprocessor that rows are cut for.
CUTS, CUT_WAVES = 1024, 4

Triple = tuple[int, int, int]
Strides = tuple[int, ...]


class Layout(NamedTuple):
    """Rows (outer, length, inner) in memory, as far as it decides about kernels."""

    outer: int
    length: int
    inner: int
    # Whether the elements of a row lie side by side; whether rows begin and end where vectors do;
    # and whether they follow each other without a gap, the first with a vector.
    along: bool
    exact: bool
    packed: bool
    # How many columns side by side a thread can read and write at once.
    columns: int


# --- how threads are laid out -------------------------------------------------------------------


class Held(NamedTuple):
    """How many logits a thread holds at most: of a warp's, or of a block of 512."""

    warp: int
    block: int


def held(element_size: int, roomy: bool) -> Held:
    """Without spills, at 128 registers a thread (`tests/test_cuda_code.py`); see `Kind.roomy`."""
    if element_size == 8:
        return Held(16, 20) if roomy else Held(8, 8)
    return Held(32, 48) if roomy else Held(24, 24)


def _power(n: int) -> int:
    """The least power of two that is not below."""
    return 1 << max(0, n - 1).bit_length()


def shapes(
    itemsize: int, roomy: bool, layout: Layout, hardware: Hardware, cut: bool = True
) -> tuple[list[Shape], int]:
    """The kernels of a call, one after the other, and into how many cuts rows fall, if they may."""
    most = held(itemsize, roomy)
    if not layout.along:
        return [_columns(most, layout)], 1
    if not layout.exact and layout.packed and layout.length <= SHORT:
        # so many threads a row that each has 16 logits, or a few less
        return [Shape("short_rows", THREADS, _power(-(-layout.length // 16)))], 1
    width, exact = VECTOR // itemsize, layout.exact
    vectors = -(-layout.length // width) + (not exact)
    few, many = most.warp // width, most.block // width
    if vectors <= 32 * few:
        # of two vectors or more by two threads, so that whole sectors of 32 bytes are moved at once
        size = max(_power(-(-vectors // few)), min(2, _power(vectors)))
        return [Shape("rows", THREADS, size, -(-vectors // size), exact=exact)], 1
    if cut and layout.outer < hardware.multiprocessors and vectors > 4096:
        cuts = min(-(-CUT_WAVES * hardware.multiprocessors // layout.outer), CUTS)
        names = "maxima", "counts", "results"
        shapes = [Shape(name, 256, 256, exact=exact) for name in names]
        return shapes, min(cuts, -(-vectors // 512))
    if vectors <= 512 * many:
        threads = max(64, _power(-(-vectors // many)))
        return [Shape("rows", threads, threads, -(-vectors // threads), exact=exact)], 1
    clusters = _power(-(-vectors // (512 * many)))
    if hardware.capability >= (9, 0) and clusters <= CLUSTER:
        pieces = -(-vectors // (512 * clusters))
        return [Shape("rows", 512, 512, pieces, clusters=clusters, exact=exact)], 1
    return [Shape("long_rows", 512, 512, exact=exact)], 1


def _columns(most: Held, layout: Layout) -> Shape:
    """Of short rows vectors across them; of longer ones so many lines that a block holds them."""
    for items in (layout.columns, 1):
        warps = _power(-(-layout.length * items // (most.warp if items > 1 else most.block)))
        if warps <= (2 if items > 1 else 16):
            return Shape("columns", 32 * warps, warps, -(-layout.length // warps), items)
    return Shape("columns_long", 256, 8)


# --- calls ----------------------------------------------------------------------------------------


class Work(NamedTuple):
    """The kernels of a call: what all calls have in common whose arrays lie alike."""

    sizes: Triple
    #: The steps in bytes of x, out, mask, temperatures and labels along (outer, length, inner).
    steps: tuple[Triple, ...]
    #: Each kernel with its number of blocks, or of clusters.
    launches: tuple[tuple[Shape, int], ...]
    cuts: int


@functools.lru_cache(maxsize=1024)
def work(
    kind: Kind, shape: Strides, strides: tuple[Strides, ...], offsets: Strides, hardware: Hardware
) -> Work:
    """What there is to do for x of a shape (rows, length) or (outer, length, inner).

    ``strides``: of x, out, mask, temperatures and labels, of which the last three may be empty.
    ``offsets``: of x and out from where vectors may begin.
    """
    (outer, length, inner), size = (*shape, 1)[:3], kind.itemsize
    formula = kind.formula
    full = True, formula.mapped or formula.at_label is not None, True, False, True
    steps = [_steps(each, line) for each, line in zip(strides, full, strict=True)]
    written = 2 if formula.mapped else 1
    if length == 1:  # its step means nothing, and vectors are counted from before a row
        steps = [(step[0], size, step[2]) for step in steps[:written]] + steps[written:]
    along = inner == 1 and all(step[1] == size for step in steps[:written])
    if inner == 1 and not along:
        # rows with gaps between elements: columns of one array, across which threads lie
        outer, inner = 1, outer
        steps = [(0, line, each) for each, line, _ in steps]
    arrays, begins = steps[:written], not any(offsets[:written])
    even = outer == 1 or not any(step[0] % VECTOR for step in arrays)
    layout = Layout(
        outer, length, inner, along,
        exact=begins and even and length * size % VECTOR == 0,
        packed=begins and (outer == 1 or all(step[0] == length * size for step in arrays)),
        columns=_columns_of(size, inner, arrays, offsets[:written]),
    )  # fmt: skip
    chosen, cuts = shapes(size, kind.roomy, layout, hardware, cut=not formula.chooses)
    launches = [(shape, _blocks(shape, layout, cuts, hardware)) for shape in chosen]
    return Work((outer, length, inner), tuple(steps), tuple(launches), cuts)


def _steps(strides: Strides, full: bool) -> Triple:
    if strides and not full:
        strides = strides[0], 0, *strides[1:]
    return (*strides, 0, 0, 0)[:3]  # type: ignore[return-value]


def _columns_of(size: int, inner: int, arrays: list[Triple], offsets: Strides) -> int:
    for items in (4, 2):
        reach = items * size
        places = *offsets, *(n for step in arrays for n in step[:2])
        beside = all(step[2] == size for step in arrays)
        if reach <= VECTOR and beside and not (inner % items or any(n % reach for n in places)):
            return items
    return 1


def _blocks(shape: Shape, layout: Layout, cuts: int, hardware: Hardware) -> int:
    """As many blocks, or clusters, as there are tiles to do, but not many more than fit."""
    if layout.along:
        tiles = -(-layout.outer // max(1, shape.threads // shape.size)) * cuts
    else:
        tiles = layout.outer * -(-layout.inner // (WARP * shape.items))
    return min(tiles, WAVES * hardware.multiprocessors)


def compute(
    formula: Formula, x: View, out: View, temperature: float | View | None, mask: View | None,
    stream: int, labels: View | None = None,
) -> None:  # fmt: skip
    """Compute a formula of the rows of ``x``, (rows, length) or (outer, length, inner).

    On a stream of the current device, in its order and without waiting for it. ``out`` is like
    ``x``, or without the reduced axis where a row has one result; temperatures are float64 without
    it; ``mask`` is like ``x``. Labels are int64 and have several a row along the reduced axis, and
    so has ``out`` then; a formula that chooses them writes them. All may have any strides.
    """
    if x.size == 0:
        return
    # Here, as this wants numba-cuda; who gave a device's arrays has asked for that.
    from fastsoftmax.cuda import launch

    which, each = None, None
    if isinstance(temperature, View):
        which, each = "each", temperature
    elif temperature is not None and temperature != 1.0:
        which = "one"
    kind = Kind(formula, x.dtype, which, mask is not None, x.shape[1] > BLOCK)
    given = x, out, mask, each, labels
    device = launch.current()
    todo = work(
        kind, x.shape, tuple(() if view is None else view.strides for view in given),
        (x.pointer % VECTOR, out.pointer % VECTOR), device.hardware,
    )  # fmt: skip
    places = [0 if view is None else view.pointer for view in given]
    flat = [n for place, step in zip(places, todo.steps, strict=True) for n in (place, *step)]
    several = 0 if labels is None else labels.shape[1]
    number = temperature if which == "one" else 1.0
    with launch.notes(launch.noted(todo.cuts) * todo.sizes[0], stream) as notes:
        for shape, blocks in todo.launches:
            arguments = *flat, notes, *todo.sizes, todo.cuts, several, number
            device.launch(kind, shape, blocks, arguments, stream)
