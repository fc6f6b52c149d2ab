"""How the functions of the kernels are compiled: each is inlined into what calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.extending import overload

from fastsoftmax.cpu.compiler import INSIDE

inlined: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(**INSIDE)


def chosen(choose: Callable[..., Any]) -> Callable[..., Any]:
    """A formula whose body ``choose`` picks by the Numba types of the arguments.

    For what is one thing in two arithmetics and returns other types in each; where the types
    agree, an ``if ... is None`` inside an inlined function does.
    """

    def formula(*args: Any) -> Any:
        raise NotImplementedError(f"{choose.__name__} runs inside compiled code only")

    overload(formula, strict=False, jit_options=INSIDE)(choose)
    return formula


# Every kernel by its name.
KERNELS: dict[str, Any] = {}


def kernel(function: Callable[..., None]) -> Any:
    """A kernel, compiled by launch.py for the types of its arguments when they are first met.

    Its last arguments are the thread's slot of scratch memory, and the first and the last of the
    items (rows, panels) that it does.
    """
    KERNELS[function.__name__] = inlined(function)
    return KERNELS[function.__name__]
