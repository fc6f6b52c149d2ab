"""Kernels of gradients whose lanes lie across rows: short rows and columns, as in across.py.

Columns of up to a block are copied side by side into scratch memory as they are read: where they
are a power of two apart, they share few sets of a cache, and none would be there the next time.
Longer ones are read three times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from numba import types

from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    FLOAT,
    Value,
    loop,
    select,
    smaller,
    when,
    wide,
)
from fastsoftmax.arithmetic.pairs import Constants
from fastsoftmax.cpu.across import beside, blocks
from fastsoftmax.cpu.columns import AHEAD
from fastsoftmax.cpu.memory import Array, columns_of, computed_in, part_of, rows_of, scratch
from fastsoftmax.cpu.products import WIDTH, Across, At, Given, kernel, put_all
from fastsoftmax.cpu.sizes import PANEL_LINES, SHORT, VECTOR, vectors


@kernel()
def short(given: Given, slot: Value, first: Value, last: Value) -> None:
    """Contiguous rows of few elements, side by side in scratch memory."""
    c, width, length = Constants(DOUBLE), WIDTH * vectors(), given.a.shape[1]
    panels = [scratch(types.float64, SHORT, width) for _ in range(2 - given.gradient.by_row)]
    for start in loop(first, last, width):
        count = last - start

        def row(k: Any, start: Value = start) -> Value:
            """The k-th of them; past the last one there is that one again."""
            return smaller(start + k, last - 1)

        def of_rows(left: Value) -> list[Value]:
            return [row(left + k) for k in range(WIDTH)]

        def line(i: Value) -> At:
            values = [panel.load((i, 0), width) for panel in panels]
            return At(width, values[0], values[-1], lambda v: panels[0].store((i, 0), v))

        for left in loop(0, width, WIDTH):

            def fill(at: Value, size: int, left: Value = left) -> None:
                read = [given.load((row, at), size) for row in of_rows(left)]
                for panel, values in zip(panels, zip(*read, strict=True), strict=True):
                    for i, column in enumerate(columns_of(list(values))):
                        panel.store((at + i, left), column)

            blocks(length, fill)
        own = beside(given.numbers, width, lambda k: (row(k),))
        put_all(given.gradient, Across(width, 0, length, line), own, c)
        for left in loop(0, smaller(width, count), WIDTH):

            def drain(at: Value, size: int, left: Value = left) -> None:
                columns = [panels[0].load((at + i, left), WIDTH) for i in range(size)]
                for row, values in zip(of_rows(left), rows_of(columns), strict=True):
                    given.put(values, (row, at))

            blocks(length, drain)


# --- columns --------------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Columns that are taken together, and how many there are, None for all of so many lanes."""

    given: Given
    outer: Value
    left: Value
    width: int
    count: Any

    @property
    def numbers(self) -> int:
        """How many numbers are kept of each line: of both operands, or the only one."""
        return self.width * (1 if self.given.gradient.by_row else 2)

    def fetch(self, i: Value, *arrays: Array) -> None:
        """Ask for a line that is wanted soon: no hardware foresees the next page."""
        _, length, _ = self.given.a.shape
        line = i + smaller(AHEAD, length)
        beyond = line >= length
        line = select(beyond, line - length, line)
        column = select(beyond, self.left + self.width, self.left)
        for array in arrays:
            for j in range(0, self.width, VECTOR // array.itemsize):
                array.fetch(self.outer, line, column + j)

    def load(self, i: Value, start: int, width: int) -> list[Value]:
        """A part of a line of the operands."""
        if start == 0:
            arrays = self.given.a, self.given.b
            self.fetch(i, *arrays[: 1 if self.given.gradient.by_row else 2])
        return self.given.load((self.outer, i, self.left + start), width, self.count)

    def put(self, i: Value, start: int, value: Value) -> None:
        """A part of a line of results, to its place."""
        if start == 0:
            self.fetch(i, self.given.out)
        self.given.put(value, (self.outer, i, self.left + start), self.count)

    def put_all(self, load: Callable[[Value, int, int], list[Value]], c: Constants) -> None:
        """All readings, of as many columns at a time as there are registers for."""
        _, length, inner = self.given.a.shape
        width = min(self.width, WIDTH * vectors())
        for start in range(0, self.width, width):

            def line(i: Value, start: int = start) -> At:
                values = load(i, start, width)
                return At(width, values[0], values[-1], lambda v: self.put(i, start, v))

            def place(k: Value, start: int = start) -> tuple[Value, Value]:
                return self.outer, smaller(self.left + start + k, inner - 1)

            own = beside(self.given.numbers, width, place)
            put_all(self.given.gradient, Across(width, 0, length, line), own, c)


def _groups(given: Given, first: Value, last: Value, most: Any) -> Iterator[_Group]:
    """The groups of panels, as the plan counts these: wide ones, and what is left, a vector each.

    A vector each, too, where columns are longer than ``most``.
    """
    _, length, inner = given.a.shape
    each = 16 if given.a.element == FLOAT else 8
    width = each * vectors()
    panels = (inner + (width - 1)) // width
    for item in loop(first, last):
        outer, left = item // panels, item % panels * width
        whole = inner >= left + width
        if most is not None:
            whole = whole & (length <= most)
        for _ in when(whole):
            yield _Group(given, outer, left, width, None)
        for _ in when(whole == 0):
            for j in loop(left, smaller(left + width, inner), each):
                yield _Group(given, outer, j, each, inner - j)


@kernel("memory")
def columns(given: Given, memory: Array, slot: Value, first: Value, last: Value) -> None:
    """Columns of up to a block."""
    c = Constants(DOUBLE)
    for group in _groups(given, first, last, PANEL_LINES):
        panel = part_of(memory, slot, computed_in(given.a), group.numbers)
        for i in loop(0, given.a.shape[1]):
            for k, values in enumerate(group.load(i, 0, group.width)):
                panel.store((i, k * group.width), values)

        def load(
            i: Value, start: int, width: int, panel: Array = panel, group: _Group = group
        ) -> list[Value]:
            places = range(start, group.numbers, group.width)
            return [wide(panel.load((i, place), width)) for place in places]

        group.put_all(load, c)


@kernel()
def long_columns(given: Given, slot: Value, first: Value, last: Value) -> None:
    """Columns beyond a block."""
    c = Constants(DOUBLE)
    for group in _groups(given, first, last, None):
        group.put_all(group.load, c)
