"""How the alternatives are called: what a call has to know of each, and its kinds of calls."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fastsoftmax import arguments, checks, layout
from fastsoftmax.arithmetic.formulas import SOFTMAX
from fastsoftmax.call import Call
from fastsoftmax.cpu import calls, plan

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Alternative:
    """One of the functions, and the kernel that computes its rows."""

    name: str
    kernel: str
    # What the kernel is told beside a row: numbers, one or several.
    numbers: Array
    # Lines of float64 that it works on, and whether it adds up exactly.
    lines: int
    exact: bool
    # There is a result for each element, 0 where it is masked, and none for complex numbers.
    mapped = True
    absent = 0.0
    real = True


class Rows(Call):
    """A call of an alternative."""

    _rows_alone = True

    def __init__(
        self, function: Alternative, name: str, x: Any, axis: Any, dim: Any, out: Any,
        keepdims: bool, *, where: Any, dtype: Any,
    ) -> None:  # fmt: skip
        self._function, self._name = function, name
        super().__init__(function, name, x, axis, dim, out, keepdims, where=where, dtype=dtype)
        if not checks.has_kernel(self._computed):
            raise TypeError(f"{function.name} is computed in float64 at most, not {self._computed}")

    def _compute(self, x: Array, out: Array, temperature: Array | None, mask: Array | None) -> None:
        self._in_lines(x, out, mask)

    def _in_lines(self, x: Array, out: Array, mask: Array | None, *beside: Array) -> None:
        function = self._function
        others = *beside, function.numbers
        calls.in_lines(function.kernel, x, out, mask, others, function.lines, function.exact)


class Gradient(Rows):
    """A call with ``g``, what is propagated back, for each element."""

    def __init__(
        self, function: Alternative, name: str, x: Any, axis: Any, dim: Any, out: Any,
        keepdims: bool, *, g: Any, **beside: Any,
    ) -> None:  # fmt: skip
        super().__init__(function, name, x, axis, dim, out, keepdims, **beside)
        along = arguments.operand("g", g, self._source)
        kind = checks.floating("g", along)
        checks.check_real(function.name, "g", kind, self._result)
        if not checks.has_kernel(kind):
            raise TypeError(f"{function.name} is computed in float64 at most, and g is {kind}")
        self._along = checks.broadcast("g", along.astype(kind, copy=False), self._shape)

    def _compute(self, x: Array, out: Array, temperature: Array | None, mask: Array | None) -> None:
        along = layout.rows_of(self._values, self._axes, self._rows_alone).view(self._along)
        along = layout.stored(along)
        place = out
        if np.may_share_memory(out, along) and not layout.same_memory(out, along):
            place = np.empty_like(out)
        self._in_lines(x, place, mask, along)
        if place is not out:
            np.copyto(out, place)


class Refusing(Rows):
    """A call that refuses rows of which the sum is 0, before it writes."""

    def _computed_rows(self) -> Array:
        place, self._place = self._place, None  # until it is known that none is
        results = super()._computed_rows()
        self._place = place
        nothing = np.isnan(results).any(self._axes)
        if nothing.any():
            finite: Any = np.isfinite(self._values)
            if self._mask is not None:
                finite |= ~self._mask
            self._refuse(np.argwhere(nothing & finite.all(self._axes)))
        return results

    def _refuse(self, rows: Array) -> None:
        if len(rows):
            index = tuple(map(int, rows[0]))
            which = f"the row {index} of {self._name}" if index else self._name
            more = f", one of {len(rows):,} such rows" if len(rows) > 1 else ""
            raise ValueError(
                f"{self._function.name} divides by the sum, and {which} sums to 0{more}: leave it "
                'out by where=, or pass zero_sum="nan"'
            )


class Softmax(Rows):
    """A call of what is softmax, as entmax with alpha = 1."""

    def _compute(self, x: Array, out: Array, temperature: Array | None, mask: Array | None) -> None:
        plan.compute(SOFTMAX, x, out, temperature, mask)
