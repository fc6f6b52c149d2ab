"""What a kernel is given, and the list of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from fastsoftmax.arithmetic.formulas import FORMULAS, Formula
from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.arithmetic.lanes import FLOAT, Value, number, select
from fastsoftmax.arithmetic.normalizer import INFINITY, Times, times_of
from fastsoftmax.arithmetic.pairs import counts_on
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.target import CPU


class Batch(NamedTuple):
    """Rows and what is computed of them.

    x (rows, length), or columns (outer, length, inner), the reduced axis in the middle; the last
    axis is contiguous. out like x, or without the reduced axis where a row has one result;
    temperature None or without that axis, too; mask None or like x.
    """

    formula: Formula
    x: Array
    out: Array
    temperature: Array | None
    mask: Array | None
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
        for formula in FORMULAS:

            def code(*given: Any, formula: Formula = formula) -> None:
                x, out, temperature, mask, *rest = given
                write(Batch(formula, x, out, temperature, mask, long), *rest)

            names = "x", "out", "temperature", "mask", *others, "slot", "first", "last"
            KERNELS[f"{formula.name}_{write.__name__}"] = generated(code, names, CPU)

    return make
