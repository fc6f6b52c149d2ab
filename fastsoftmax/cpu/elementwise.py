"""The kernels of functions of single logits: each is a row of two, of which the other is 0.

Lanes lie across these rows, by the code of all short rows (across.py), so they have its bits.
"""

from __future__ import annotations

from typing import Any

from fastsoftmax.arithmetic.formulas import SIGMOIDS, Sigmoid
from fastsoftmax.arithmetic.generated import generated
from fastsoftmax.arithmetic.lanes import Value, like, loop, select, smaller
from fastsoftmax.arithmetic.normalizer import INFINITY, in_two
from fastsoftmax.arithmetic.pairs import Constants
from fastsoftmax.cpu.across import Lines, beside, largest_of, summed
from fastsoftmax.cpu.batch import KERNELS, Batch
from fastsoftmax.cpu.memory import Array
from fastsoftmax.cpu.sizes import BLOCK, vectors
from fastsoftmax.cpu.target import CPU


def _kernel(function: Sigmoid) -> Any:
    """The kernel of blocks of one row, of any length, whose logits are contiguous."""
    formula = function.formula
    assert formula.result is not None
    result_of = formula.result

    def write(
        x: Array, out: Array, temperature: Array | None, mask: Array | None, slot: Value,
        first: Value, last: Value,
    ) -> None:  # fmt: skip
        batch, c = Batch(formula, x, out, temperature, mask), Constants(x.element)
        end = x.shape[1]

        def put(at: Value, width: int, count: Any) -> None:
            given = x.load((0, at), width, count)
            values = [given, like(0.0, given)]
            lines = Lines(2, values.__getitem__, values.__setitem__)
            numbers = beside(batch.temperature, width, lambda k: (smaller(at + k, end - 1),))
            row, made = summed(batch, lines, largest_of(batch, lines, width), numbers, c)
            # of an exponential, the place of the logit has it by now
            result = result_of(values[0], row, in_two(made, x.element), c)
            batch.put((0, at), select(given == INFINITY, function.limit, result), count)

        start, stop, width = first * BLOCK, smaller(last * BLOCK, end), batch.width * vectors()
        whole = start + (stop - start) // width * width
        for at in loop(start, whole, width):
            put(at, width, None)
        for at in loop(whole, stop, batch.width):
            put(at, batch.width, stop - at)

    names = "x", "out", "temperature", "mask", "slot", "first", "last"
    return generated(write, names, CPU)


KERNELS.update({function.name: _kernel(function) for function in SIGMOIDS})
