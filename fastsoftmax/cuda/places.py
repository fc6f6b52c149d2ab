"""Where the logits of a thread lie: along a row, across rows side by side, or in a tile of rows.

A place gives them in pieces, `read`, and takes their results, `write`. A piece holds ``items``
logits: of one row, or of as many rows one each.
"""

from __future__ import annotations

from collections.abc import Callable

from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    INT8,
    Value,
    Variables,
    loop,
    number,
    select,
    when,
)
from fastsoftmax.arithmetic.normalizer import INFINITY, NAN
from fastsoftmax.cuda.batch import Array, Batch
from fastsoftmax.cuda.device import VECTOR, WARP, Index, device
from fastsoftmax.cuda.group import Group

_X, _OUT, _MASK = range(3)
# The number of a logit that is not there.
BEYOND = (1 << 63) - 1


class Place:
    """What all places have in common: rows from ``start`` to ``stop``, of which each thread has
    pieces from ``first`` on, ``step`` elements apart.

    ``exact``: no piece is partly outside, so that all are read and written at once.
    """

    items = 1  # logits of a piece
    rows = 1  # rows that they are of
    at_once = 1  # pieces that are read before the first is used, where they are not held
    exact = True

    def __init__(self, batch: Batch, group: Group, start: Index, stop: Value) -> None:
        self.batch, self.group, self.start, self.stop = batch, group, start, stop
        self.outer: Index = 0
        self.inner: Index = 0
        self.inside: Value  # whether there is a row for this thread
        self.first: Value
        self.step: int

    @property
    def pieces(self) -> Value:
        """How many pieces a thread has; some may be outside."""
        return (self.step - 1 + self.stop - self.start) // self.step

    def begin(self) -> None:
        """Compute again, for the step that begins, what addresses are made of.

        Else the compiler would hold the addresses of all pieces from one step to the next: 255
        registers and spills instead of 128 for rows of 8192.
        """
        first, self._left = device().again(self.first), device().again(self.stop - self.first)
        batch = self.batch
        self._bases = [
            array.at(self.outer, self.inner, first) for array in (batch.x, batch.out, batch.mask)
        ]

    def has(self, k: Index, i: int) -> Value:
        """Whether there is such a logit."""
        return self._left > k * self.step

    def whole(self, k: Index) -> Value:
        """Whether a piece is inside with all its logits."""
        return self.has(k, 0)

    def _address(self, which: int, k: Index, i: int) -> Value:
        """Of a logit in x (0), out (1) or mask (2)."""
        batch = self.batch
        array = (batch.x, batch.out, batch.mask)[which]
        return self._bases[which] + array.line * (k * self.step) + array.inner * i

    def number(self, k: Index, i: int) -> Value:
        """Which logit of its row it is; `BEYOND` all where there is none."""
        return select(self.has(k, i), self._number(k, i), BEYOND)

    def _number(self, k: Index, i: int) -> Value:
        return self.first + k * self.step

    # --- logits and results --------------------------------------------------------------------

    def read(self, k: Index) -> list[Value]:
        """The logits of a piece; -inf for what is absent: outside, or masked."""
        batch, whole = self.batch, self.whole(k)
        none = number(-INFINITY, batch.kind.element)
        found = [Variables(none) for _ in range(self.items)]
        for _ in when(whole):
            address = self._address(_X, k, 0)
            values = device().load(address, batch.kind.storage, self.items)
            for each, value in zip(found, values, strict=True):
                each.set(value)
        for i, each in enumerate([] if self.exact else found):
            for _ in when(self.has(k, i) & (whole == False)):  # noqa: E712
                each.set(*device().load(self._address(_X, k, i), batch.kind.storage))
        values = [each.get()[0] for each in found]
        if not batch.kind.masked:
            return values
        return [select(self._counts(k, i), value, none) for i, value in enumerate(values)]

    def write(self, k: Index, values: list[Value]) -> None:
        """The results of a piece; where logits are masked, what the formula says."""
        batch = self.batch
        if batch.kind.masked:
            absent = batch.kind.formula.absent
            values = [select(self._counts(k, i), value, absent) for i, value in enumerate(values)]
        whole = self.whole(k) & self.alike() if not self.exact else self.whole(k)
        for _ in when(whole):
            device().store(self._address(_OUT, k, 0), batch.kind.storage, values)
        for i, value in enumerate([] if self.exact else values):
            for _ in when(self.has(k, i) & (whole == False)):  # noqa: E712
                device().store(self._address(_OUT, k, i), batch.kind.storage, [value])

    def alike(self) -> Value:
        """Whether results lie as the logits do, so that pieces of both begin where vectors do."""
        raise NotImplementedError

    def _counts(self, k: Index, i: int) -> Value:
        mask = Variables(number(0, INT8))
        for _ in when(self.has(k, i)):
            mask.set(*device().load(self._address(_MASK, k, i), "bool"))
        return mask.get()[0] != 0

    # --- what there is once for a row ------------------------------------------------------------

    def temperature(self, j: int) -> Value:
        """That of a row."""
        if self.batch.kind.temperature == "one":
            return self.batch.temperature
        found = Variables(number(1.0, DOUBLE))
        for _ in when(self.inside):
            address = self.batch.temperatures.at(self.outer, self.inner + j)
            found.set(*device().load(address, "float64"))
        return found.get()[0]

    def put(self, j: int, value: Value) -> None:
        """The one result of a row."""
        for _ in when(self.inside & (self.group.member() == 0)):
            address = self.batch.out.at(self.outer, self.inner + j)
            device().store(address, self.batch.kind.storage, [value])

    def put_at_labels(self, j: int, result: Callable[[Value], Value]) -> None:
        """What ``result`` makes of a row's logits at its labels, of which each thread has some."""
        group, labels = self.group, self.batch.labels
        several = select(self.inside, self.batch.several, 0)
        for i in loop(group.member(), several, group.size * group.clusters):
            (label,) = device().load(labels.at(self.outer, self.inner + j, i), "int64")
            self._put_at(j, i, label, result)

    def put_label(self, j: int, i: Value, label: Value, result: Callable[[Value], Value]) -> None:
        """A label of a row, and what ``result`` makes of the logit there."""
        for _ in when(self.inside & (self.group.member() == 0)):
            place = self.batch.labels.at(self.outer, self.inner + j, i)
            device().store(place, "int64", [label])
            self._put_at(j, i, label, result)

    def _put_at(self, j: int, i: Value, label: Value, result: Callable[[Value], Value]) -> None:
        """The result at a label; NaN where that is none: nobody has read a device's before."""
        batch, kind, inner = self.batch, self.batch.kind, self.inner + j
        known = (label >= 0) & (label < batch.length)
        logit, counted = Variables(number(0.0, kind.element)), Variables(number(1, INT8))
        for _ in when(known):
            logit.set(*device().load(batch.x.at(self.outer, inner, label), kind.storage))
            if kind.masked:
                counted.set(*device().load(batch.mask.at(self.outer, inner, label), "bool"))
        value = result(logit.get()[0])
        if kind.masked:
            value = select(counted.get()[0] != 0, value, kind.formula.absent)
        value = select(known, value, NAN)
        device().store(batch.out.at(self.outer, inner, i), kind.storage, [value])


class Along(Place):
    """A row whose elements lie side by side. Neighbours of a group read neighbouring vectors."""

    def __init__(
        self, batch: Batch, group: Group, row: Value, start: Index, stop: Value, exact: bool
    ) -> None:
        super().__init__(batch, group, start, stop)
        self.items, self.exact = VECTOR // batch.kind.itemsize, exact
        self.at_once = min(4, 16 // self.items)
        self.inside = row < batch.outer
        self.outer = select(self.inside, row, 0)
        self.step = group.size * group.clusters * self.items
        if not exact:  # vectors begin before the row does
            self.start = self.start - self._offset(batch.x)
        self._from = start
        self.stop = select(self.inside, stop, self.start)
        self.first = self.start + group.member() * self.items

    def _offset(self, array: Array) -> Value:
        """How many elements before the row's first one the vector begins that it lies in."""
        address = array.at(self.outer, 0, self.start)
        return address % VECTOR // self.batch.kind.itemsize

    def alike(self) -> Value:
        """Whether results lie as the logits do."""
        out, x = (array.at(self.outer, 0) % VECTOR for array in (self.batch.out, self.batch.x))
        return out == x

    def begin(self) -> None:
        """Compute again, for the step that begins, what addresses are made of."""
        super().begin()
        if not self.exact:
            self._before = device().again(self._from - self.first)

    def has(self, k: Index, i: int) -> Value:
        """Whether there is such a logit."""
        inside = self._left > k * self.step + i
        if self.exact or (isinstance(k, int) and k > 0):
            return inside
        return inside & (self._before <= k * self.step + i)

    def _number(self, k: Index, i: int) -> Value:
        return self.first + (k * self.step + i)

    def whole(self, k: Index) -> Value:
        """Whether a piece is inside with all its logits."""
        return self.has(k, 0) if self.exact else self.has(k, 0) & self.has(k, self.items - 1)

    def _address(self, which: int, k: Index, i: int) -> Value:
        if which == _MASK:
            return self._bases[which] + self.batch.mask.line * (k * self.step + i)
        return self._bases[which] + (k * self.step + i) * self.batch.kind.itemsize


class Across(Place):
    """Rows side by side, as columns are: a warp's threads have one each, or a few."""

    at_once = 8

    def __init__(self, batch: Batch, group: Group, tile: Value, items: int) -> None:
        super().__init__(batch, group, 0, batch.length)
        self.items = self.rows = items
        tiles = self._tiles(batch, items)
        self.outer = tile // tiles
        self.inner = tile % tiles * (WARP * items) + group.row() * items
        self.inside = (self.inner < batch.inner) & (self.outer < batch.outer)
        self.stop = select(self.inside, batch.length, 0)
        self.first, self.step = group.member(), group.size

    @staticmethod
    def _tiles(batch: Batch, items: int) -> Value:
        width = WARP * items
        return (batch.inner + (width - 1)) // width

    @classmethod
    def tiles(cls, batch: Batch, items: int) -> Value:
        """How many tiles there are, each as wide as a warp."""
        return batch.outer * cls._tiles(batch, items)


class Tile(Place):
    """A row of many short ones that lie side by side, in shared memory, where results go, too."""

    def __init__(self, batch: Batch, group: Group, tile: Value, capacity: int) -> None:
        super().__init__(batch, group, 0, batch.length)
        self._memory = device().shared("tile", batch.kind.element, capacity)
        self._before = tile * group.rows
        self.outer = self._before + group.row()
        self.inside = self.outer < batch.outer
        self.stop = select(self.inside, batch.length, 0)
        self.first, self.step = group.member(), group.size
        self._start = group.row() * batch.length + self.first
        self._elements = select(
            self._before + group.rows <= batch.outer,
            batch.length * group.rows,
            (batch.outer - self._before) * batch.length,
        )

    def read(self, k: Index) -> list[Value]:
        """A logit, from the tile."""
        value, here = Variables(number(-INFINITY, self.batch.kind.element)), self.has(k, 0)
        if self.batch.kind.masked:
            here = here & self._counts(k, 0)
        for _ in when(here):
            value.set(self._memory.load(self._spot(k)))
        return value.get()

    def write(self, k: Index, values: list[Value]) -> None:
        """A result, or what results are made of, to the place of its logit."""
        if self.batch.kind.masked:
            absent = self.batch.kind.formula.absent
            values = [select(self._counts(k, 0), value, absent) for value in values]
        for _ in when(self.has(k, 0)):
            self._memory.store(self._spot(k), values[0])

    def _spot(self, k: Index) -> Value:
        return self._start + k * self.step

    def fill(self) -> None:
        """All the tile's logits from global memory, by vectors across its rows."""
        self._copy(self.batch.x, self._in)
        device().barrier()

    def drain(self) -> None:
        """All the tile's results to global memory."""
        device().barrier()
        self._copy(self.batch.out, self._out)
        device().barrier()

    def _in(self, address: Value, place: Value, count: int) -> None:
        values = device().load(address, self.batch.kind.storage, count)
        for i, value in enumerate(values):
            self._memory.store(place + i, value)

    def _out(self, address: Value, place: Value, count: int) -> None:
        values = [self._memory.load(place + i) for i in range(count)]
        device().store(address, self.batch.kind.storage, values)

    def _copy(self, array: Array, move: Callable[[Value, Value, int], None]) -> None:
        """Have each vector of the tile moved, and what is left by single elements."""
        width, threads = VECTOR // self.batch.kind.itemsize, self.group.threads
        base = array.at(self._before, 0)
        whole = self._elements // width * width
        for at in loop(device().thread() * width, whole, threads * width):
            move(base + at * self.batch.kind.itemsize, at, width)
        for at in loop(whole + device().thread(), self._elements, threads):
            move(base + at * self.batch.kind.itemsize, at, 1)
