"""Code that Python functions write while Numba compiles the kernel that they are.

What is `generated` runs once for each kernel and types of arguments, on values that stand for what
will be computed (lanes.py). Its ``if`` and ``for`` decide what code there is; ``for`` over `loop`
and `when` is the code's own. So a formula is written once, for lanes of any element and width on
any target, and costs the compiler nothing but its instructions: 0.2 s for a kernel, where functions
that Numba inlines took 1.3 s for the first edition's, and 4 s for these.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


class Target:
    """What code is written for: instructions that not every processor has, or has otherwise."""

    #: What makes an intrinsic of the function that types and writes it.
    intrinsic: Callable[..., Any] = staticmethod(intrinsic(prefer_literal=True))

    def table(self, element: ir.Type, numbers: tuple[float, ...]) -> list[ir.Value]:
        """Numbers, where code that uses them again and again has them at hand."""
        raise NotImplementedError

    def lookup(self, index: Any, tables: tuple[tuple[float, ...], ...]) -> list[Any]:
        """Of each table of eight numbers one for each lane, by the lowest bits of its integer."""
        raise NotImplementedError

    def call(self, name: str, result: ir.Type, values: list[ir.Value]) -> ir.Value:
        """A call of one of LLVM's intrinsics."""
        kind = ir.FunctionType(result, [value.type for value in values])
        function = cgutils.get_or_insert_function(builder().module, kind, name)
        return builder().call(function, values)

    def instructions(self, builder: Any) -> Any:
        """What writes single instructions."""
        return builder

    def variable(self, kind: ir.Type) -> Any:
        """A place for what a loop's turns change."""
        return cgutils.alloca_once(builder(), kind)

    def loop(self, start: ir.Value, stop: ir.Value, step: ir.Value) -> Iterator[ir.Value]:
        """``for index in range(start, stop, step)``."""
        with cgutils.for_range_slice(builder(), start, stop, step) as (index, _):
            yield index

    def when(self, condition: ir.Value) -> Iterator[None]:
        """``if condition:``."""
        with builder().if_then(condition):
            yield


class _Writing(NamedTuple):
    """Where code is being written. Numba compiles one function at a time, under a lock."""

    target: Target
    context: Any
    builder: Any


_writing: list[_Writing] = []


@contextmanager
def writing(target: Target, context: Any, builder: Any) -> Iterator[None]:
    """Have what is done with values in here written to ``builder``."""
    _writing.append(_Writing(target, context, target.instructions(builder)))
    try:
        yield
    finally:
        _writing.pop()


def target() -> Target:
    """What code is being written for."""
    return _writing[-1].target


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


def generated(write: Callable[..., None], names: tuple[str, ...], target: Target) -> Any:
    """A function of so many arguments whose code ``write`` writes. It returns nothing."""

    def define(typing: Any, *kinds: types.Type) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            with writing(target, context, builder):
                write(*map(_argument, sig.args, args))
            return context.get_dummy_value()

        return types.void(*kinds), emit

    # Numba takes arguments by the names that it finds here.
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, plain) for name in ("typing", *names)]
    define.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return target.intrinsic(define)
