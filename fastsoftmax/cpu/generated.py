"""Code that Python functions write while Numba compiles the kernel that they are.

What is `generated` runs once for each kernel and types of arguments, on values that stand for what
will be computed (lanes.py). Its ``if`` and ``for`` decide what code there is; `loop` and `when` are
the code's own. So a formula is written once, for lanes of any element and width, and costs the
compiler nothing but its instructions: 0.2 s for a kernel, where functions that Numba inlines took
1.3 s for the first edition's, and 4 s for these.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


class _Writing(NamedTuple):
    """Where code is being written. Numba compiles one function at a time, under a lock."""

    context: Any
    builder: ir.IRBuilder


_writing: list[_Writing] = []


def builder() -> ir.IRBuilder:
    """What writes the code of the function that is being compiled."""
    return _writing[-1].builder


def context() -> Any:
    """Numba's context of the function that is being compiled."""
    return _writing[-1].context


_See = Callable[[Any, ir.Value], Any]
_seen_as: dict[type, _See] = {}


def seen(kind: type) -> Callable[[_See], _See]:
    """Mark a function as what makes arguments of a Numba type what generated code sees."""

    def note(see: _See) -> _See:
        _seen_as[kind] = see
        return see

    return note


def _argument(kind: types.Type, value: ir.Value) -> Any:
    for known, see in _seen_as.items():
        if isinstance(kind, known):
            return see(kind, value)
    raise TypeError(f"generated code knows no arguments of {kind}")


def generated(write: Callable[..., None], names: tuple[str, ...]) -> Any:
    """A function of so many arguments whose code ``write`` writes. It returns nothing."""

    def define(typing: Any, *kinds: types.Type) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            _writing.append(_Writing(context, builder))
            try:
                write(*map(_argument, sig.args, args))
            finally:
                _writing.pop()
            return context.get_dummy_value()

        return types.void(*kinds), emit

    # Numba takes arguments by the names that it finds here.
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, plain) for name in ("typing", *names)]
    define.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(prefer_literal=True)(define)
