"""What a kernel is given, and the list of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from fastsoftmax.arithmetic.formulas import AT_LABELS, FORMULAS, Formula
from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.arithmetic.lanes import FLOAT, Value, loop, number, select
from fastsoftmax.arithmetic.normalizer import (
    INFINITY,
    Row,
    Times,
    complement,
    in_two,
    log_as_pair,
    scaled,
    term_of,
    times_of,
)
from fastsoftmax.arithmetic.pairs import Constants, Pair, counts_on
from fastsoftmax.cpu.memory import Array, numbered
from fastsoftmax.cpu.target import CPU


class Batch(NamedTuple):
    """Rows and what is computed of them.

    x (rows, length), or columns (outer, length, inner), the reduced axis in the middle; the last
    axis is contiguous. out like x, or without the reduced axis where a row has one result;
    temperature None or without that axis, too; mask None or like x. Labels are several for a row:
    these come first (several, rows) or (several, outer, inner), and so do their results. Where
    there are results for logits, too, these are multiplied by the row's scale (like temperatures),
    and the label's (one a row) is less by that; those at labels are losses.
    """

    formula: Formula
    x: Array
    out: Array
    temperature: Array | None
    mask: Array | None
    labels: Any = None
    scale: Array | None = None
    losses: Array | None = None
    long: bool = False

    @property
    def grids(self) -> tuple[int, ...]:
        """On how many grids each total is counted."""
        return self.formula.grids(self.element, self.long)

    @property
    def counts(self) -> int:
        """How many integers that makes."""
        return sum(counts_on(grids, self.element) for grids in self.grids)

    @property
    def element(self) -> ir.Type:
        """What is computed in."""
        return self.x.element

    @property
    def width(self) -> int:
        """Elements in a vector of 64 bytes."""
        return 16 if self.x.element == FLOAT else 8

    def present(self, at: Any, width: int, count: Any = None) -> Value:
        """Logits as lanes, -inf for what is absent: past ``count``, or masked."""
        value = self.x.load(at, width, count, -INFINITY)
        if self.mask is None:
            return value
        return select(self.mask.load(at, width, count) != 0, value, -INFINITY)

    def put(self, at: Any, value: Value, count: Any = None) -> None:
        """Results to their place, where they are masked what the formula says."""
        if self.mask is not None:
            counted = self.mask.load(at, value.width, count) != 0
            value = select(counted, value, self.formula.absent)
        self.out.store(at, value, count)

    def put_of_rows(self, at: tuple[Any, ...], row: Row, made: Pair, count: Any = None) -> None:
        """The results of rows side by side that have one, or one for each label.

        ``at``: where the first of them is, without the reduced axis.
        """
        if self.labels is None:
            self.out.store(at, made.value, count)
            return
        at_label, pair, width = self.formula.at_label, in_two(made, self.element), made.value.width
        place = self.out if self.losses is None else self.losses
        assert at_label is not None
        c = Constants(self.element)
        for j in loop(0, self.labels.shape[0]):
            value, counted = self.labelled(j, at, width or 1, count)
            if self.formula.of_term:
                value = term_of(value, row, c).e
            result = at_label(value, row, pair, c)
            if counted is not None:
                result = select(counted, result, self.formula.absent)
            place.store((j, *at), result, count)

    def labelled(
        self, j: Any, at: tuple[Any, ...], width: int, count: Any
    ) -> tuple[Value, Value | None]:
        """The logits of rows side by side at their labels, and whether they count."""
        label, (*before, last) = self.labels.load((j, *at), width, count), at
        beside = numbered(last, width)
        place = (*before, label, beside) if before else (beside, label)
        value = self.x.gather(place, count)
        if self.mask is None:
            return value, None
        counted = self.mask.gather(place, count) != 0
        return select(counted, value, -INFINITY), counted

    def less_at_label(self, at: tuple[Any, ...], row: Row, made: Pair, count: Any = None) -> Value:
        """The gradient at the labels of rows side by side: -scale * (1 - p), exact next to 0."""
        value, counted = self.labelled(0, at, made.value.width or 1, count)
        assert row.scale is not None
        less = scaled(complement(log_as_pair(value, row, made)) * -row.scale, row.scale)
        return less if counted is None else select(counted, less, self.formula.absent)

    def nothing(self, width: int) -> list[Value]:
        """The largest of no logits and, where one of the largest terms is apart, the second."""
        return [number(-INFINITY, self.element, width)] * (2 if self.formula.apart else 1)

    def times(self, temperature: Value | None) -> Times | None:
        """What divides by temperatures."""
        return None if temperature is None else times_of(temperature, self.element)


# Every kernel by its name.
KERNELS: dict[str, Any] = {}


def kernel(*others: str, long: bool = False) -> Callable[[Callable[..., None]], None]:
    """Make kernels of what writes their code, one for each formula.

    ``write(batch, *others, slot, first, last)``: other arrays, the thread's slot of scratch memory,
    and the first and the last of the items (rows, panels) that a call does. They are compiled by
    launch.py for the types of their arguments when they are first met.
    """

    def make(write: Callable[..., None]) -> None:
        for formula in FORMULAS + AT_LABELS:

            def code(*given: Any, formula: Formula = formula) -> None:
                own = 4 + len(formula.operands)
                batch = Batch(formula, *given[:own])._replace(long=long)
                write(batch, *given[own:])

            names = (
                "x", "out", "temperature", "mask", *formula.operands, *others,
                "slot", "first", "last",
            )  # fmt: skip
            KERNELS[f"{formula.name}_{write.__name__}"] = generated(code, names, CPU)

    return make
