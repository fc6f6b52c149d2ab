"""Kernels for columns: lanes lie across them.

Columns are (outer, length, inner), the reduced axis in the middle, the last one contiguous. A panel
of them is read from memory once (across.py); columns beyond a block are read three times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastsoftmax.arithmetic.lanes import Value, loop, select, smaller, when
from fastsoftmax.arithmetic.pairs import Constants
from fastsoftmax.cpu.across import Lines, beside, finish_across, largest_of, results, summed
from fastsoftmax.cpu.batch import Batch, kernel
from fastsoftmax.cpu.memory import Array, computed_in, part_of
from fastsoftmax.cpu.sizes import PANEL_LINES, vectors

# Lines of columns that are fetched ahead: no hardware foresees the next page.
AHEAD = 12


def _group(
    batch: Batch, o: Value, left: Value, width: int, count: Any, panel: Array | None
) -> None:
    """As many columns as lanes of this width, or ``count`` of them."""
    c, length = Constants(batch.element), batch.x.shape[1]

    def fetch(array: Array, i: Any) -> None:
        line = i + smaller(AHEAD, length)
        next_panel = line >= length
        line = select(next_panel, line - length, line)
        column = select(next_panel, left + width, left)
        for j in range(0, width, 64 // array.itemsize):
            array.fetch(o, line, column + j)

    def read(i: Any) -> Value:
        fetch(batch.x, i)
        return batch.present((o, i, left), width, count)

    def first_read(i: Any) -> Value:
        value = read(i)
        if panel is not None:
            panel.store((i, 0), value)
        return value

    def put(i: Any, value: Value) -> None:
        fetch(batch.out, i)
        batch.put((o, i, left), value, count)

    largest = largest_of(batch, Lines(length, first_read), width)
    if panel is None:
        lines = Lines(length, read)
    else:
        lines = Lines(
            length,
            lambda i: panel.load((i, 0), width),
            lambda i, value: panel.store((i, 0), value),
        )
    columns = batch.x.shape[2]
    temperature, scale = (
        beside(each, width, lambda k: (o, smaller(left + k, columns - 1)))
        for each in (batch.temperature, batch.scale)
    )
    row, made = summed(batch, lines, largest, temperature, c, scale)
    finish_across(
        batch, (o, left), row, made, count, lambda: results(batch, lines, row, made, put, c)
    )  # fmt: skip


def _panels(
    batch: Batch, first: Value, last: Value, body: Callable[[Value, Value, int, Any], None]
) -> None:
    """Code for panels of columns, ``body(o, left, width, count)``: wide ones, and what is left."""
    width, inner = batch.width * vectors(), batch.x.shape[2]
    panels = (inner + (width - 1)) // width
    for item in loop(first, last):
        o, left = item // panels, item % panels * width
        whole = inner >= left + width
        if not batch.long:
            whole = whole & (batch.x.shape[1] <= PANEL_LINES)
        for _ in when(whole):
            body(o, left, width, None)
        for _ in when(whole == 0):
            for j in loop(left, smaller(left + width, inner), batch.width):
                body(o, j, batch.width, inner - j)


@kernel("memory")
def columns(batch: Batch, memory: Array, slot: Value, first: Value, last: Value) -> None:
    """Columns of up to a block."""

    def body(o: Value, left: Value, width: int, count: Any) -> None:
        panel = part_of(memory, slot, computed_in(batch.x), width)
        _group(batch, o, left, width, count, panel)

    _panels(batch, first, last, body)


@kernel(long=True)
def long_columns(batch: Batch, slot: Value, first: Value, last: Value) -> None:
    """Columns beyond a block."""

    def body(o: Value, left: Value, width: int, count: Any) -> None:
        _group(batch, o, left, width, count, None)

    _panels(batch, first, last, body)
