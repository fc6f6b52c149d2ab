"""What logits are worth: accuracy, log-loss and calibration against labels, block by block.

Every number is a quotient of sums that are added up exactly, as integers, so that it depends on the
rows alone: not on their order, on blocks, on files or on threads.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from fastsoftmax import checks, losses, scoring
from fastsoftmax.command.refused import Refused
from fastsoftmax.files import by_block
from fastsoftmax.files.reading import LogitsFile

Array = np.ndarray[Any, Any]
Cut = tuple[slice, ...]

#: The label of a row that does not count, as in PyTorch and `cross_entropy`.
IGNORED = -100
#: How many bins the expected calibration error has, as in the paper; and where each ends.
BINS = 15
_ENDS = np.arange(1, BINS + 1) / BINS

# Steps of this grid are float64's smallest numbers and less: 53 bits of any number are a whole
# number of them, shifted left by its power of two and ...
_STEPS = 1 << 1127
_SHIFT = 1127 - 53
# ... which is less than this.
_SHIFTS = _SHIFT + 1025


class Labels:
    """The right class of each row, checked: one for each row of the logits, each of them a class.

    A part is read by slicing them, as the rows' places are.
    """

    def __init__(
        self, name: str, labels: Array | LogitsFile, of: str, rows: tuple[int, ...], classes: int
    ) -> None:
        self.name = name
        self._labels = labels
        self._alone = not rows  # a single row, whose label is a file of one
        if labels.dtype.kind not in "iu":
            raise Refused(f"--labels: {name} holds {labels.dtype}, not integers")
        if labels.shape != (rows or (1,)):
            raise Refused(
                f"--labels: {name} has shape {labels.shape}, and one label for each row of {of} "
                f"is {rows or (1,)}"
            )
        for cut in by_block.blocks(labels, axis=-1):
            part = labels[cut]
            # Unsigned, negative ones are large.
            if part.size and part.astype(np.int64).view(np.uint64).max() >= classes:
                self._check(part, cut, classes)

    def _check(self, part: Array, cut: Cut, classes: int) -> None:
        """Refuse the first that is no class."""
        wrong = ((part < 0) | (part >= classes)) & (part != IGNORED)
        if not wrong.any():
            return
        place = tuple(np.argwhere(wrong)[0])
        starts = (each.start or 0 for each in cut)
        index = ", ".join(str(start + int(i)) for start, i in zip(starts, place, strict=True))
        raise Refused(
            f"--labels: {self.name}[{index}] is {part[place]}, and classes are from 0 to "
            f"{classes - 1} ({IGNORED}: not counted)"
        )

    def __getitem__(self, rows: Cut) -> Array:
        """Those of some rows."""
        return self._labels[(slice(None),)].reshape(()) if self._alone else self._labels[rows]


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The sums that some rows come to; those of others can be added."""

    rows: int = 0
    ignored: int = 0
    # The losses' sum in steps of the grid, and that of those that are no finite numbers.
    losses: int = 0
    odd: float = 0.0
    # Of each bin: how many rows are right, and the sum of the probabilities of what they chose.
    right: tuple[int, ...] = (0,) * BINS
    certainty: tuple[int, ...] = (0,) * BINS

    def __add__(self, other: Judgement) -> Judgement:
        return Judgement(
            self.rows + other.rows,
            self.ignored + other.ignored,
            self.losses + other.losses,
            self.odd + other.odd,
            tuple(a + b for a, b in zip(self.right, other.right, strict=True)),
            tuple(a + b for a, b in zip(self.certainty, other.certainty, strict=True)),
        )

    @property
    def mean_log_loss(self) -> float:
        """The mean of -log p of the label, in nats; NaN where no row counts."""
        if not self.rows:
            return math.nan
        return (self.odd or self.losses / _STEPS) / self.rows

    @property
    def accuracy(self) -> float:
        """How many rows have their label for the most likely class; NaN where no row counts."""
        return sum(self.right) / self.rows if self.rows else math.nan

    @property
    def calibration_error(self) -> float:
        """The expected calibration error; NaN where no row counts, or one is NaN."""
        if not self.rows or math.isnan(self.odd):
            return math.nan
        pairs = zip(self.right, self.certainty, strict=True)
        return sum(abs(right * _STEPS - sure) for right, sure in pairs) / (_STEPS * self.rows)


class Judge:
    """What judges blocks of logits by their labels."""

    def __init__(self, labels: Labels, axis: int, temperature: float) -> None:
        self.name = labels.name
        self._labels = labels
        self._axis = axis
        self._temperature = temperature

    def of(self, block: Array, cut: Cut) -> Judgement:
        """What a block comes to."""
        labels = self._labels[cut[: self._axis] + cut[self._axis + 1 :]]
        computed = checks.floating("logits", np.empty(0, block.dtype))
        wide = np.promote_types(computed, np.float32)  # float16 would round what is added up
        how: dict[str, Any] = {
            "axis": self._axis, "temperature": self._temperature, "dtype": wide,
        }  # fmt: skip
        loss = losses.cross_entropy(block, labels, reduction="none", ignore_index=IGNORED, **how)
        certainty, chosen = scoring.top_k(block, 1, **how)
        counted = labels != IGNORED
        loss = np.asarray(loss, np.float64)[counted]
        certainty = certainty.squeeze(self._axis)[counted].astype(np.float64)
        right = chosen.squeeze(self._axis)[counted] == labels[counted]
        # A row of NaN is in no bin, and not right: none of its classes is the most likely one.
        sure = ~np.isnan(certainty)
        bins = np.searchsorted(_ENDS, certainty[sure])
        finite = np.isfinite(loss)
        return Judgement(
            rows=int(np.count_nonzero(counted)),
            ignored=int(counted.size - np.count_nonzero(counted)),
            losses=_steps(loss[finite], np.zeros(np.count_nonzero(finite), np.intp), 1)[0],
            odd=float(loss[~finite].sum()),
            right=tuple(np.bincount(bins[right[sure]], minlength=BINS).tolist()),
            certainty=_steps(certainty[sure], bins, BINS),
        )


def _steps(numbers: Array, places: Array, count: int) -> tuple[int, ...]:
    """The exact sums, in steps of the grid, of the numbers at each of so many places.

    For up to 2**26 numbers: of those with one power of two, the upper 26 bits and the lower 27 are
    added up in float64, whose 53 bits hold that.
    """
    part, power = np.frexp(numbers)
    whole = np.ldexp(part, 53).astype(np.int64)
    keys = places * _SHIFTS + (power + _SHIFT)
    size = count * _SHIFTS
    high = np.bincount(keys, weights=whole >> 27, minlength=size)
    low = np.bincount(keys, weights=whole & ((1 << 27) - 1), minlength=size)
    sums = [0] * count
    for key in np.flatnonzero((high != 0) | (low != 0)).tolist():
        sums[key // _SHIFTS] += ((int(high[key]) << 27) + int(low[key])) << (key % _SHIFTS)
    return tuple(sums)
