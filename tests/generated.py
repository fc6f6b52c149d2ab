"""Runs generated code on NumPy arrays: what is written with Values, compiled as kernels are."""

import inspect

from numba import njit

from fastsoftmax.arithmetic import generated as writing
from fastsoftmax.cpu import compiler, memory  # noqa: F401  memory.py knows arrays
from fastsoftmax.cpu.target import CPU


def generated(write):
    """A function of arrays and numbers whose code ``write`` writes, by what kernels see of them."""
    code = writing.generated(write, tuple(inspect.signature(write).parameters), CPU)

    @njit(**compiler.OPTIONS)
    def run(arguments):
        code(*arguments)

    return lambda *arguments: run(arguments)
