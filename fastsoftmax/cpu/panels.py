"""A panel: logits of several rows side by side in scratch memory, for kernels whose lanes are rows.

Lines of eight float64 hold element i of eight rows each. Element i belongs to class i modulo 8,
and the classes are added as a tree: the same sums, in the same order, as those of lanes along a
row.
"""

from __future__ import annotations

from typing import Any

from fastsoftmax.cpu.exponential import exponential
from fastsoftmax.cpu.jit import inlined
from fastsoftmax.cpu.lanes import any_of, select, spread
from fastsoftmax.cpu.memory import load, store
from fastsoftmax.cpu.normalizer import (
    INFINITY,
    add_normal,
    add_sums,
    add_term,
    anchor,
    distance,
    infinite_term,
    is_one,
)
from fastsoftmax.cpu.rows import weight_of
from fastsoftmax.cpu.sizes import SUMS, WIDTH


@inlined
def _class_of(sums: Any, index: int, apart: Any) -> Any:
    high, low = load(sums, (index + WIDTH, 0)), load(sums, (index + 2 * WIDTH, 0))
    if apart is None:
        return spread(0.0), high, low
    else:
        return load(sums, (index, 0)), high, low


@inlined
def clear(sums: Any) -> None:
    """Let every class be zero: those beyond the length stay so."""
    for line in range(SUMS):
        store(sums, (line, 0), spread(0.0))


@inlined
def total_of_classes(sums: Any, first: Any, apart: Any, inverse_error: Any) -> Any:
    """The classes' sums, from a line on, as totals (ones, high, low) of eight rows."""
    c0, c4 = _class_of(sums, first, apart), _class_of(sums, first + 4, apart)
    c1, c5 = _class_of(sums, first + 1, apart), _class_of(sums, first + 5, apart)
    c2, c6 = _class_of(sums, first + 2, apart), _class_of(sums, first + 6, apart)
    c3, c7 = _class_of(sums, first + 3, apart), _class_of(sums, first + 7, apart)
    s04, s26 = add_sums(c0, c4, inverse_error), add_sums(c2, c6, inverse_error)
    s15, s37 = add_sums(c1, c5, inverse_error), add_sums(c3, c7, inverse_error)
    even, odd = add_sums(s04, s26, inverse_error), add_sums(s15, s37, inverse_error)
    return add_normal(even, odd, inverse_error)


@inlined
def where_infinite(infinite: Any, total: Any, ones: Any, high: Any, low: Any) -> Any:
    """Totals, but ``total`` where the shift is infinite."""
    return (
        select(infinite, 0.0, ones),
        select(infinite, total, high),
        select(infinite, 0.0, low),
    )


@inlined
def _add_line(
    panel: Any, line: Any, base: Any, inverse: Any, inverse_error: Any, constants: Any, apart: Any,
    keep: Any, weight: Any, sums: Any, index: Any, before: Any,
) -> None:  # fmt: skip
    """Let the sums of a class be those ``before`` and a line's exponentials."""
    t, t_error = distance(load(panel, (line, 0)), base, inverse, inverse_error)
    e, e_error = exponential(t, t_error, inverse, constants)
    if keep is not None:
        store(keep, (line, 0), e)
    ones, high, low = add_term(before, e, e_error, is_one(t, apart), weight, inverse_error)
    if apart is not None:
        store(sums, (index, 0), ones)
    store(sums, (index + WIDTH, 0), high)
    if inverse_error is not None:
        store(sums, (index + 2 * WIDTH, 0), low)


@inlined
def reduce_panel(
    panel: Any,
    first: Any,
    step: Any,
    length: Any,
    shift: Any,
    inverse: Any,
    inverse_error: Any,
    constants: Any,
    apart: Any,
    keep: Any,
    sums: Any,
    weight: Any,
    at: Any,
    count: Any,
) -> Any:
    """The totals (ones, high, low) of eight rows whose lines are ``first``, ``first + step`` ...

    ``keep``: None, or where their exponentials go, to lines of the same numbers. ``sums`` is
    clear, or was used for as many lines before. ``weight``: None, or an array (outer, length,
    inner) of which the rows' first ``count`` weights are ``at``.
    """
    base = anchor(shift)
    zero = spread(0.0)
    infinite = shift == INFINITY
    infinite_total = zero
    if any_of(infinite):
        for i in range(length):
            here = weight_of(weight, (at[0], at[1] + i, at[2]), count)
            logit = load(panel, (first + i * step, 0))
            infinite_total = infinite_total + infinite_term(logit, here)
    # Two loops: a branch in one loop, taken from the ninth line on, is mispredicted at length 10.
    for i in range(min(length, WIDTH)):
        here = weight_of(weight, (at[0], at[1] + i, at[2]), count)
        _add_line(
            panel, first + i * step, base, inverse, inverse_error, constants, apart, keep, here,
            sums, i, (zero, zero, zero),
        )  # fmt: skip
    for i in range(WIDTH, length):
        here = weight_of(weight, (at[0], at[1] + i, at[2]), count)
        _add_line(
            panel, first + i * step, base, inverse, inverse_error, constants, apart, keep, here,
            sums, i % WIDTH, _class_of(sums, i % WIDTH, apart),
        )  # fmt: skip
    ones, high, low = total_of_classes(sums, 0, apart, inverse_error)
    return where_infinite(infinite, infinite_total, ones, high, low)
