"""What is computed of the blocks of one input: a function, its best classes, or draws."""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax import checks, functions, sampling, scoring
from fastsoftmax.arithmetic.formulas import FORMULAS, Formula
from fastsoftmax.command.refused import Refused
from fastsoftmax.command.report import Classes, Drawn, Request, Shown, Value
from fastsoftmax.files.reading import LogitsFile

Array = np.ndarray[Any, Any]
Cut = tuple[slice, ...]
Shape = tuple[int, ...]

# How many classes are shown of a row, and how many draws.
_SHOWN_CLASSES = 3
_SHOWN_DRAWS = 10


class Result(NamedTuple):
    """An array that comes of it."""

    shape: Shape
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize


class Task(abc.ABC):
    """What is asked for of one array of logits; what is wrong with it is refused at once."""

    results: tuple[Result, ...]

    def __init__(
        self, request: Request, name: str, logits: Array | LogitsFile, rows_before: int
    ) -> None:
        shape, axis = logits.shape, request.axis
        if not -len(shape) <= axis < len(shape):
            raise Refused(f"--axis {axis} is out of bounds for {name} of shape {shape}")
        self._request = request
        self._name = name
        self._shape = shape
        self._rows_before = rows_before  # those of other inputs
        self.axis = axis % len(shape)
        self.classes = shape[self.axis]
        self.rows = shape[: self.axis] + shape[self.axis + 1 :]
        self._computed = checks.floating(name, np.empty(0, logits.dtype))

    @abc.abstractmethod
    def done(self, block: Array, cut: Cut, places: Sequence[Array] | None) -> tuple[Array, ...]:
        """The results of a block, in their places where they have such."""

    @abc.abstractmethod
    def shown(self, row: Sequence[Array]) -> Shown:
        """The results of one row, for the report."""

    def nan_rows(self, results: Sequence[Array]) -> int:
        """How many rows of a block's results are NaN, in one place or in all."""
        return 0

    def _several(self, count: int) -> Shape:
        """The shape of a result that has so many values a row."""
        return *self.rows[: self.axis], count, *self.rows[self.axis :]

    def _result_type(self, function: str) -> np.dtype[Any]:
        return checks.result_type(function, self._computed, self._request.dtype)

    def refuse_without_classes(self, option: str) -> None:
        """Refuse an option that is for classes."""
        if not self.classes:
            raise Refused(f"{option}: {self._name} has no classes")


def asked(request: Request) -> type[Task]:
    """The kind of task that a request is."""
    if request.sample is not None:
        return Draws
    # Where logits are judged, and nothing is written, nobody wants the other probabilities.
    judged = request.labels is not None and request.out is None
    if request.top is not None or (judged and request.function == "softmax"):
        return Top
    return Whole


class Whole(Task):
    """A function of rows, and all of its results."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        request, name = self._request, self._name
        formula = _formula(request.function)
        dtype = self._result_type(formula.name)
        wide = checks.wider(self._computed, dtype)
        if request.target == "cuda" and not checks.has_kernel(wide):
            raise Refused(f"--target cuda: a GPU computes no {wide}, which {name} holds")
        self._mapped = formula.mapped
        self.results = (Result(self._shape if formula.mapped else self.rows, dtype),)
        self._function = _function(formula, request)

    def done(self, block: Array, cut: Cut, places: Sequence[Array] | None) -> tuple[Array, ...]:
        out = places[0] if places else None
        dtype = self.results[0].dtype
        return (np.asarray(self._function(block, axis=self.axis, dtype=dtype, out=out)),)

    def shown(self, row: Sequence[Array]) -> Shown:
        (result,) = row
        if not self._mapped:
            return Value(result[()])
        best = np.argsort(-result, kind="stable")[:_SHOWN_CLASSES]
        return Classes([(int(place), result[place]) for place in best])

    def nan_rows(self, results: Sequence[Array]) -> int:
        (result,) = results
        if not self._mapped:
            return int(np.count_nonzero(np.isnan(result)))
        # Where anything is NaN, the first is not finite: only such rows are read again. (Of one
        # with +inf, log_softmax is NaN there and -inf elsewhere.) So it costs 3 ns a row: of 10
        # logits 15% of all the time that a file takes, of 1000 nothing that can be measured.
        rows = np.moveaxis(result, self.axis, -1)
        suspects = rows[~np.isfinite(rows[..., :1]).all(axis=-1)]
        return int(np.count_nonzero(np.isnan(suspects).any(axis=-1)))


class Top(Task):
    """The most likely classes of each row: what they have of a function, and which they are."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        request, name = self._request, self._name
        wanted = request.top
        if wanted is not None and wanted > self.classes:
            raise Refused(f"--top {wanted}: {name} has {self.classes} classes")
        self._k = min(_SHOWN_CLASSES, self.classes) if wanted is None else wanted
        shape, dtype = self._several(self._k), self._result_type(request.function)
        self.results = Result(shape, dtype), Result(shape, np.dtype(np.int64))

    def done(self, block: Array, cut: Cut, places: Sequence[Array] | None) -> tuple[Array, ...]:
        how: dict[str, Any] = {
            "axis": self.axis, "temperature": self._request.temperature,
            "dtype": self.results[0].dtype,
        }  # fmt: skip
        values, indices = scoring.top_k(block, self._k, **how)
        if self._request.function == "log_softmax":
            values = scoring.label_log_probabilities(block, indices, **how)
        results = values, indices
        if places:
            for place, result in zip(places, results, strict=True):
                place[...] = result
        return results

    def shown(self, row: Sequence[Array]) -> Shown:
        values, indices = row
        return Classes(list(zip(indices.tolist(), values, strict=True)))

    def nan_rows(self, results: Sequence[Array]) -> int:
        # Of a row that has NaN, it comes first.
        return int(np.count_nonzero(np.isnan(results[0].take(0, axis=self.axis))))


class Draws(Task):
    """Classes drawn from each row, as one call for all rows draws them, whatever the blocks."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        request, name = self._request, self._name
        count = request.sample
        assert count is not None  # it was asked for
        self.refuse_without_classes(f"--sample {count}")
        if not checks.has_kernel(self._computed):
            raise Refused(f"--sample: none are drawn by {self._computed}, which {name} holds")
        self._count = count
        self.results = (Result(self._several(count), np.dtype(np.int64)),)
        self._numbers = np.random.PCG64(request.seed)
        self._taken = 0

    def done(self, block: Array, cut: Cut, places: Sequence[Array] | None) -> tuple[Array, ...]:
        rows = block.shape[: self.axis] + block.shape[self.axis + 1 :]
        shape = *rows[: self.axis], self._count, *rows[self.axis :]
        drawn = places[0] if places else np.empty(shape, np.int64)
        for part, first in self._runs(cut):
            # Each draw takes one number, those of one row after those of another.
            start = (self._rows_before + first) * self._count
            self._numbers.advance((start - self._taken) % (1 << 128))
            self._taken = start + drawn[part].size
            drawn[part] = self._drawn(block[part], part, cut)
        return (drawn,)

    def _runs(self, cut: Cut) -> Iterator[tuple[Cut, int]]:
        """Parts of a block whose rows follow each other in C order, and the number of each's first.

        Most blocks are one such part.
        """
        rows = cut[: self.axis] + cut[self.axis + 1 :]
        places = [range(n)[part] for n, part in zip(self.rows, rows, strict=True)]
        if 0 in self.rows:
            return
        # The axis from which inwards what is cut lies in one piece.
        split = max(len(places) - 1, 0)
        while split > 0 and len(places[split]) == self.rows[split]:
            split -= 1
        for before in np.ndindex(*map(len, places[:split])):
            inwards = [slice(None)] * (len(places) - split)
            part = [*(slice(i, i + 1) for i in before), *inwards]
            first = [each[one][0] for each, one in zip(places, part, strict=True)]
            part.insert(self.axis, slice(None))
            yield tuple(part), int(np.ravel_multi_index(first, self.rows)) if first else 0

    def _drawn(self, logits: Array, part: Cut, cut: Cut) -> Array:
        """What is drawn from a part of a block."""
        how: dict[str, Any] = {"axis": self.axis, "temperature": self._request.temperature}
        try:
            drawn: Array = sampling.sample(
                logits, self._count, rng=np.random.Generator(self._numbers), **how
            )
        except ValueError:
            largest = logits.max(axis=self.axis, keepdims=True)
            if np.isfinite(largest).all():  # then it is not what a row holds
                raise
            self._refuse(largest, part, cut)
        return drawn

    def _refuse(self, largest: Array, part: Cut, cut: Cut) -> None:
        """Refuse the first row from which nothing can be drawn, as its largest logit tells."""
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(largest))[0])
        starts = ((a.start or 0) + (b.start or 0) for a, b in zip(cut, part, strict=True))
        index = [str(start + i) for start, i in zip(starts, place, strict=True)]
        index[self.axis] = ":"
        wrong = float(largest[place])
        reason = "it holds NaN" if math.isnan(wrong) else f"it holds {wrong}"
        if wrong < 0:
            reason = "none of its classes is possible"
        raise Refused(
            f"--sample: nothing can be drawn from {self._name}[{', '.join(index)}]: {reason}"
        )

    def shown(self, row: Sequence[Array]) -> Shown:
        (drawn,) = row
        return Drawn(drawn[:_SHOWN_DRAWS].tolist(), len(drawn) > _SHOWN_DRAWS)


def _formula(name: str) -> Formula:
    return next(formula for formula in FORMULAS if formula.name == name)


def _function(formula: Formula, request: Request) -> Callable[..., Any]:
    """The library's function as it is asked for, which takes ``out``."""
    function = functools.partial(getattr(functions, formula.name), target=request.target)
    if formula.tempered:
        function = functools.partial(function, temperature=request.temperature)
    return _into(function) if formula.name == "entropy" else function


def _into(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of rows that has no ``out`` with one, to which its numbers are copied."""

    def called(x: Array, *, out: Array | None, **options: Any) -> Any:
        result = function(x, **options)
        if out is None:
            return result
        out[...] = result
        return out

    return called
