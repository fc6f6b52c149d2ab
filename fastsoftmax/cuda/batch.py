"""What a kernel is given: rows in a device's memory, and what is computed of them."""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import ir

from fastsoftmax.arithmetic.formulas import Formula
from fastsoftmax.arithmetic.lanes import DOUBLE, Value, narrowed, number, select
from fastsoftmax.arithmetic.normalizer import INFINITY, NAN, Times, times_of
from fastsoftmax.arithmetic.pairs import counts_on
from fastsoftmax.cuda.device import STORAGE, Index

# What every kernel takes: addresses and, in bytes, steps from one place to the next; sizes; and
# the temperature of all rows, the one number that is no integer.
PARAMETERS = (
    "x", "x_outer", "x_line", "x_inner",
    "out", "out_outer", "out_line", "out_inner",
    "mask", "mask_outer", "mask_line", "mask_inner",
    "temperatures", "temperatures_outer", "temperatures_line", "temperatures_inner",
    "labels", "labels_outer", "labels_line", "labels_inner",
    "notes", "outer", "length", "inner", "cuts", "several",
    "temperature",
)  # fmt: skip


class Kind(NamedTuple):
    """What is known of a batch while its kernel is written."""

    formula: Formula
    storage: str
    #: None, "one" temperature for all rows, or "each" its own.
    temperature: str | None = None
    masked: bool = False
    #: Whether rows are beyond a block of the CPU's, which takes one more grid.
    long: bool = False

    @property
    def roomy(self) -> bool:
        """Whether there is one total and nothing else, which leaves registers for logits."""
        alone = self.formula.totals == 1 and self.formula.at_label is None
        return alone and self.temperature is None and not self.masked

    @property
    def element(self) -> ir.Type:
        """What is computed in."""
        return STORAGE[self.storage].element

    @property
    def itemsize(self) -> int:
        """Bytes of a logit in memory."""
        return STORAGE[self.storage].itemsize

    @property
    def grids(self) -> tuple[int, ...]:
        """On how many grids each total is counted."""
        return self.formula.grids(self.element, self.long)

    @property
    def counts(self) -> int:
        """How many integers that makes."""
        return sum(counts_on(grids, self.element) for grids in self.grids)


class Array(NamedTuple):
    """An array (outer, line, inner) in global memory: an address, and steps."""

    address: Value
    outer: Value
    line: Value
    inner: Value

    def at(self, outer: Index, inner: Index, line: Index = 0) -> Value:
        """The address of a number."""
        return self.address + self.outer * outer + self.inner * inner + self.line * line


class Batch(NamedTuple):
    """Rows (outer, length, inner) and what is computed of them.

    Of labels, given or chosen, there are several a row: these lie at (outer, several, inner), and
    so do the results at them.
    """

    kind: Kind
    x: Array
    out: Array
    mask: Array
    temperatures: Array
    labels: Array
    notes: Value
    outer: Value
    length: Value
    inner: Value
    cuts: Value
    several: Value
    temperature: Value

    @classmethod
    def of(cls, kind: Kind, values: tuple[Value, ...]) -> Batch:
        """What a kernel's arguments say: see `PARAMETERS`."""
        x, out, mask, temperatures, labels = (Array(*values[i : i + 4]) for i in range(0, 20, 4))
        return cls(kind, x, out, mask, temperatures, labels, *values[20:])


# --- temperatures -------------------------------------------------------------------------------

# What divides by temperatures takes those between; `checks.at_limits` is the CPU's way.
_COLDEST, _COLDEST_SINGLE, _HOTTEST = 2.0**-1000, 2.0**-249, 2.0**900


class Tempered(NamedTuple):
    """A row's temperature, and what becomes of logits where it is 0, infinite, or next to that.

    Logits are changed where a number is given: to 0 and -inf by whether they are the largest, to
    one level, or by a power of two that the temperature is multiplied by, too.
    """

    times: Times
    invalid: Value  # NaN for a temperature that is negative or NaN, else 0
    top: Value
    ties: Value
    level: Value
    factor: Value

    def of(self, x: Value) -> Value:
        """A logit, or what it becomes. That keeps their order."""
        tied = select(x == self.top, number(0.0, x.element), -INFINITY)
        changed = select(self.ties, tied, select(self.level, 0.0, x * self.factor))
        return select(x - x == 0.0, changed, x)


def tempered(temperature: Value, top: Value) -> Tempered:
    """What a temperature makes of a row with this largest logit."""
    element, fine = top.element, top.element == DOUBLE
    valid = temperature >= 0.0
    given = select(valid, temperature, 1.0)
    frozen = given == 0.0 if fine else given < _COLDEST_SINGLE
    level = given == INFINITY if fine else given > _HOTTEST
    ties, factor = frozen, number(1.0, DOUBLE)
    if fine:
        cold, hot = given < _COLDEST, given > _HOTTEST
        # Whatever differs from a top this large differs by 2**747.
        ties = frozen | (cold & ((top >= 2.0**800) | (top <= -(2.0**800))))
        factor = select(cold, 2.0**200, select(hot, 2.0**-200, factor))
    divisor = select(frozen | level, 1.0, given * factor)
    return Tempered(
        times_of(divisor, element), select(valid, number(0.0, DOUBLE), NAN), top, ties, level,
        narrowed(factor, element),
    )  # fmt: skip
