"""Every kernel: where its rows lie, and how its threads read them."""

from __future__ import annotations

from collections.abc import Callable

from fastsoftmax.arithmetic.lanes import Value
from fastsoftmax.arithmetic.pairs import Constants
from fastsoftmax.cuda.batch import Batch, Kind
from fastsoftmax.cuda.cuts import counts, maxima, results
from fastsoftmax.cuda.device import device
from fastsoftmax.cuda.places import Across, Along, Tile
from fastsoftmax.cuda.shape import Shape
from fastsoftmax.cuda.steps import Held, Reread, Steps, group_of, numbers

# The elements of a tile in shared memory: 16 for each of 128 threads.
TILE = 2048


def _along(batch: Batch, shape: Shape, tile: Value) -> Along:
    group = group_of(shape)
    row = tile * group.rows + group.row()
    return Along(batch, group, row, 0, batch.length, shape.exact)


def _rows(batch: Batch, shape: Shape) -> None:
    """Rows along which their threads hold all logits."""
    group = group_of(shape)
    for tile in numbers((batch.outer + (group.rows - 1)) // group.rows, shape):
        Steps(batch, group, Held(_along(batch, shape, tile), shape.pieces)).all()
    group.leave()


def _long_rows(batch: Batch, shape: Shape) -> None:
    """Rows that are read again for each step."""
    for tile in numbers(batch.outer, shape):
        Steps(batch, group_of(shape), Reread(_along(batch, shape, tile))).all()


def _short_rows(batch: Batch, shape: Shape) -> None:
    """Short rows side by side in memory, by tiles, so that vectors may lie across rows."""
    group = group_of(shape)
    for tile in numbers((batch.outer + (group.rows - 1)) // group.rows, shape):
        place = Tile(batch, group, tile, TILE)
        place.fill()
        Steps(batch, group, Reread(place)).all()
        if batch.kind.formula.mapped:
            place.drain()
        else:
            device().barrier()


def _columns(batch: Batch, shape: Shape) -> None:
    """Rows side by side, of which threads hold all logits."""
    group = group_of(shape)
    for tile in numbers(Across.tiles(batch, shape.items), shape):
        place = Across(batch, group, tile, shape.items)
        Steps(batch, group, Held(place, shape.pieces)).all()


def _columns_long(batch: Batch, shape: Shape) -> None:
    """Rows side by side that are read again for each step."""
    group = group_of(shape)
    for tile in numbers(Across.tiles(batch, shape.items), shape):
        place = Across(batch, group, tile, shape.items)
        Steps(batch, group, Reread(place)).all()


KERNELS: dict[str, Callable[[Batch, Shape], None]] = {
    "rows": _rows,
    "long_rows": _long_rows,
    "short_rows": _short_rows,
    "columns": _columns,
    "columns_long": _columns_long,
    "maxima": maxima,
    "counts": counts,
    "results": results,
}


def written(kind: Kind, shape: Shape) -> Callable[..., None]:
    """What writes the code of a kernel for these, of arguments in the order of `PARAMETERS`."""

    def write(*values: Value) -> None:
        batch = Batch.of(kind, values)
        device().prepare(Constants(kind.element).steps, kind.element)
        KERNELS[shape.name](batch, shape)

    return write
