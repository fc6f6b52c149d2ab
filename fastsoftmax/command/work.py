"""One input: what is asked for of its logits is checked, then done."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastsoftmax.command import printing, tasks
from fastsoftmax.command.judged import Judge, Judgement, Labels
from fastsoftmax.command.report import Index, Request, Scored
from fastsoftmax.files import by_block
from fastsoftmax.files.reading import LogitsFile

Array = np.ndarray[Any, Any]

_SHOWN_ROWS = 3


class Work:
    """What is asked for of one array of logits, checked; then done."""

    def __init__(
        self,
        request: Request,
        name: str,
        logits: Array | LogitsFile,
        labels: tuple[str, Array | LogitsFile] | None = None,
        rows_before: int = 0,
    ) -> None:
        self._request = request
        self._name = name
        self._logits = logits
        self._task = task = tasks.asked(request)(request, name, logits, rows_before)
        #: The arrays that come of it.
        self.results = task.results
        self._judge = None
        if labels:
            task.refuse_without_classes("--labels")
            checked = Labels(*labels, of=name, rows=task.rows, classes=task.classes)
            self._judge = Judge(checked, task.axis, request.temperature)

    def done(self, outs: Sequence[Array] | None) -> Scored:
        """Compute it, into ``outs`` where there are such, one for each result."""
        logits, task = self._logits, self._task
        shown: dict[Index, Any] = dict.fromkeys(self._first_rows())
        made = sum(each.nbytes for each in self.results)
        nan_rows, judgement = 0, Judgement()
        start = time.perf_counter()
        # A bar would take longer than a single block.
        quiet = self._request.quiet or logits.nbytes <= by_block.BLOCK_BYTES
        doing = f"scoring {os.path.basename(self._name)}"
        with printing.progress(doing, logits.nbytes, quiet) as advance:
            first = next(by_block.blocks(logits, task.axis, made))
            if by_block.nbytes(logits, first) <= 2 * by_block.BLOCK_BYTES:  # not one huge row
                # Compiles what the blocks need.
                block = logits[first]
                task.done(block, first, None)
                if self._judge:
                    self._judge.of(block, first)
            prepared = time.perf_counter()

            def done(block: Array, cut: tuple[slice, ...], places: Sequence[Array] | None) -> None:
                nonlocal nan_rows, judgement
                results = task.done(block, cut, places)
                nan_rows += task.nan_rows(results)
                if self._judge:
                    judgement += self._judge.of(block, cut)
                self._keep(shown, cut, results)
                advance(by_block.nbytes(logits, cut))

            by_block.score(logits, task.axis, done, outs, made)
        ended = time.perf_counter()
        return Scored(
            name=self._name,
            outs=self._request.outs,
            shape=logits.shape,
            dtype=logits.dtype,
            result_dtype=self.results[0].dtype,
            rows=logits.size // task.classes if task.classes else 0,
            classes=task.classes,
            nan_rows=nan_rows,
            seconds=ended - prepared,
            preparation=prepared - start,
            moved=logits.nbytes + made,
            labels=self._judge.name if self._judge else None,
            judgement=judgement,
            shown=shown if task.classes else {},
        )

    def _first_rows(self) -> list[Index]:
        others = self._task.rows
        numbers = range(min(_SHOWN_ROWS, math.prod(others)))
        indices = (np.unravel_index(number, others) if others else () for number in numbers)
        return [tuple(int(i) for i in index) for index in indices]

    def _keep(
        self, rows: dict[Index, Any], cut: tuple[slice, ...], results: Sequence[Array]
    ) -> None:
        """Keep what is shown of those of the rows that are in a block."""
        axis, ndim = self._task.axis, len(cut)
        places = [range(n)[part] for n, part in zip(self._logits.shape, cut, strict=True)]
        del places[axis]
        for index in rows:
            if all(i in part for i, part in zip(index, places, strict=True)):
                at = tuple(part.index(i) for i, part in zip(index, places, strict=True))
                rows[index] = self._task.shown(
                    [
                        (np.moveaxis(each, axis, -1) if each.ndim == ndim else each)[at].copy()
                        for each in results
                    ]
                )
