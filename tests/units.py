"""Units of any element and width, and kernels' ways to compile, for tests of lanes."""

import functools

from numba import njit, types
from numba.core.typing.templates import signature

from fastsoftmax.cpu import lanes, memory
from fastsoftmax.cpu.jit import OPTIONS
from fastsoftmax.cpu.llvm import instruction_of_constants

compiled = functools.partial(njit, error_model=OPTIONS["error_model"])


@instruction_of_constants
def unit_with(typing, array, width):
    """A unit of so many lanes, of the type in which an array's elements are computed."""
    whole = array.dtype in (types.int32, types.int64)
    element = array.dtype if whole else lanes.computed_in(array.dtype)
    unit = memory.Unit(element, width.literal_value)

    def emit(context, builder, sig, args):
        return context.get_dummy_value()

    return signature(unit, array, width), emit
