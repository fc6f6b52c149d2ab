"""One input: what is asked for of its logits is checked, then done."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastsoftmax import checks, functions
from fastsoftmax.arithmetic.formulas import FORMULAS, Formula
from fastsoftmax.command import printing
from fastsoftmax.command.refused import Refused
from fastsoftmax.command.report import Index, Request, Scored
from fastsoftmax.files import by_block
from fastsoftmax.files.reading import LogitsFile

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

_SHOWN_ROWS = 3


class Work:
    """What is asked for of one array of logits, checked; then done."""

    def __init__(self, request: Request, name: str, logits: Array | LogitsFile) -> None:
        shape, axis = logits.shape, request.axis
        if not -len(shape) <= axis < len(shape):
            raise Refused(f"--axis {axis} is out of bounds for {name} of shape {shape}")
        self._request = request
        self._name = name
        self._logits = logits
        self._axis = axis % len(shape)
        formula = _formula(request.function)
        self._reduces = not formula.mapped
        computed = checks.floating(name, np.empty(0, logits.dtype))
        self.dtype = checks.result_type(formula.name, computed, request.dtype)
        wide = checks.wider(computed, self.dtype)
        if request.target == "cuda" and not checks.has_kernel(wide):
            raise Refused(f"--target cuda: a GPU computes no {wide}, which {name} holds")
        self.shape = tuple(
            n for i, n in enumerate(shape) if not (self._reduces and i == self._axis)
        )
        self._function = _function(formula, request)

    def done(self, out: Array | None) -> Scored:
        """Compute it, into ``out`` where there is one."""
        logits, axis, dtype = self._logits, self._axis, self.dtype
        shown: dict[Index, Any] = dict.fromkeys(self._first_rows())
        nan_rows = 0
        start = time.perf_counter()
        # A bar would take longer than a single block.
        quiet = self._request.quiet or logits.nbytes <= by_block.BLOCK_BYTES
        doing = f"scoring {os.path.basename(self._name)}"
        with printing.progress(doing, logits.nbytes, quiet) as advance:
            first = next(by_block.blocks(logits, axis))
            if by_block.nbytes(logits, first) <= 2 * by_block.BLOCK_BYTES:  # not one huge row
                # Compiles what the blocks need.
                self._function(logits[first], axis=axis, dtype=dtype, out=None)
            prepared = time.perf_counter()

            def scored(cut: tuple[slice, ...], result: Array) -> None:
                nonlocal nan_rows
                nan_rows += self._nan_rows(result)
                self._keep(shown, cut, result)
                advance(by_block.nbytes(logits, cut))

            by_block.score(logits, axis, self._reduces, self._function, out, dtype, scored)
        done = time.perf_counter()
        classes = logits.shape[axis]
        return Scored(
            name=self._name,
            out=self._request.out,
            shape=logits.shape,
            dtype=logits.dtype,
            result_dtype=dtype,
            rows=logits.size // classes if classes else 0,
            classes=classes,
            nan_rows=nan_rows,
            seconds=done - prepared,
            preparation=prepared - start,
            moved=logits.nbytes + math.prod(self.shape) * dtype.itemsize,
            shown=shown if classes else {},
        )

    def _others(self) -> Shape:
        """The shape of the rows' places."""
        shape = self._logits.shape
        return shape[: self._axis] + shape[self._axis + 1 :]

    def _first_rows(self) -> list[Index]:
        others = self._others()
        numbers = range(min(_SHOWN_ROWS, math.prod(others)))
        indices = (np.unravel_index(number, others) if others else () for number in numbers)
        return [tuple(int(i) for i in index) for index in indices]

    def _nan_rows(self, result: Array) -> int:
        """How many rows of a block's results are NaN, in one place or in all."""
        if self._reduces:
            return int(np.count_nonzero(np.isnan(result)))
        # Where anything is NaN, the first is not finite: only such rows are read again. (Of one
        # with +inf, log_softmax is NaN there and -inf elsewhere.) So it costs 3 ns a row: of 10
        # logits 15% of all the time that a file takes, of 1000 nothing that can be measured.
        rows = np.moveaxis(result, self._axis, -1)
        suspects = rows[~np.isfinite(rows[..., :1]).all(axis=-1)]
        return int(np.count_nonzero(np.isnan(suspects).any(axis=-1)))

    def _keep(self, rows: dict[Index, Any], cut: tuple[slice, ...], result: Array) -> None:
        """Copy the results of those of the rows that are in a block."""
        places = [range(n)[part] for n, part in zip(self._logits.shape, cut, strict=True)]
        del places[self._axis]
        by_row = np.asarray(result) if self._reduces else np.moveaxis(result, self._axis, -1)
        for index in rows:
            if all(i in part for i, part in zip(index, places, strict=True)):
                at = tuple(part.index(i) for i, part in zip(index, places, strict=True))
                rows[index] = by_row[at].copy()


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
