"""A caller's arguments as NumPy arrays, and results as what the input was.

Operands with labels are matched with the input's by label, so that all that follows goes by
position.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastsoftmax import checks
from fastsoftmax.container import Container
from fastsoftmax.containers import PLAIN, container_of
from fastsoftmax.cuda.elements import numpy_type
from fastsoftmax.frames import Series
from fastsoftmax.labels import Labelled, aligned, shown
from fastsoftmax.loaded import is_a, torch_type, type_name

Array = np.ndarray[Any, Any]
Axes = tuple[int, ...]


class Source(NamedTuple):
    """A caller's input: the argument's name, its values, which count (None: all), what it was."""

    name: str
    values: Array
    present: Array | None
    original: Any
    container: Container


_HOST = (np.ndarray, np.generic, float, int, list, tuple)


def library_of(x: Any) -> Any:
    """The library of an array in a GPU's memory; None for what is on the host."""
    if x is None or isinstance(x, _HOST):
        return None
    from fastsoftmax.cuda import libraries  # here: an eighth of what importing this package takes

    return libraries.library_of(x)


def unwrap(name: str, x: Any) -> Source:
    """The values of an array, a list, or any other container on the host."""
    if type(x) is np.ndarray:
        return Source(name, x, None, x, PLAIN)
    container = container_of(x)
    return Source(name, container.values(name, x), container.present(x), x, container)


def array(name: str, argument: Any, or_else: str = "") -> Array:
    """An argument beside the input as an array, whatever its labels.

    ``or_else``: what a caller may do with a mask, beside filling it.
    """
    if type(argument) is np.ndarray:
        return argument
    if type(argument) is float:
        return np.array(argument)
    if isinstance(argument, np.ma.MaskedArray):  # its mask would be lost
        raise TypeError(f"{name} must not be a masked array: fill it{or_else}")
    if type(argument) is int and not -(2**63) <= argument < 2**64:  # NumPy would make an object
        try:
            argument = float(argument)
        except OverflowError:
            bits = argument.bit_length()
            raise ValueError(f"{name} must be a float64, got an integer of {bits} bits") from None
    return container_of(argument).values(name, argument)


def operand(name: str, argument: Any, source: Source, reduced: Axes = ()) -> Array:
    """An argument beside the input as an array, its elements where their labels are in the input.

    Along the axes in ``reduced`` there is one element for all, whatever its label.
    """
    if type(argument) is np.ndarray:
        return argument
    if type(argument) is float:
        return np.array(argument)
    _refuse_device(name, argument, source.name)
    values = array(name, argument, f", or mask {source.name}")
    ours = source.container.labels(source.original)
    if ours is None:
        return values
    container = container_of(argument)
    theirs = container.labels(argument)
    if theirs is None:
        return values
    return aligned(
        Labelled(name, argument, values, container.package, theirs, _is_series(container)),
        Labelled(
            source.name, source.original, source.values, source.container.package, ours,
            _is_series(source.container),
        ),
        reduced,
    )  # fmt: skip


def mask(where: Any, source: Source) -> Array | None:
    """``where`` as an array; None where it leaves out nothing."""
    return None if where is None or where is True else operand("where", where, source)


def how_many(k: Any, length: int) -> int:
    """How many classes are wanted, of so many that there are."""
    number = checks.integer("k", k)
    if not 1 <= number <= length:
        raise ValueError(f"k must be from 1 to the {length} classes that there are, got {number}")
    return number


def place(out: Any, source: Source) -> Any:
    """``out`` as an array that shares its memory, where it is of a kind that has one."""
    if type(out) is np.ndarray:
        return out
    _refuse_device("out", out, source.name)
    return container_of(out).memory(out)


def element_type(dtype: Any) -> Any:
    """What NumPy calls a type that may be one of torch's."""
    if dtype is None or not is_a(dtype, "torch", "dtype"):
        return dtype
    name = torch_type(dtype)
    return numpy_type(name) if name == "bfloat16" else name


def broadcast_source(source: Source, other: Array) -> Source:
    """The input in the shape that it and ``b`` have together."""
    try:
        shape = np.broadcast_shapes(source.values.shape, other.shape)
    except ValueError:
        raise ValueError(
            f"b of shape {other.shape} does not broadcast with {source.name} of shape "
            f"{source.values.shape}"
        ) from None
    if shape == source.values.shape:
        return source
    values = np.broadcast_to(source.values, shape)
    present = None if source.present is None else np.broadcast_to(source.present, shape)
    # Labels are those of the shape that it had.
    container = PLAIN if source.container.package else source.container
    return Source(source.name, values, present, source.original, container)


def of_parts(name: str, argument: Any, of: str, parts: dict[Any, Any]) -> dict[Any, Any]:
    """An argument beside an input that has parts: for each its own by name, or one for all."""
    theirs = container_of(argument).parts(name, argument, None, None)
    if theirs is None:
        return dict.fromkeys(parts, argument)
    for owner, has, other, wanted in ((name, theirs, of, parts), (of, parts, name, theirs)):
        lacked = [part for part in wanted if part not in has]
        if lacked:
            raise ValueError(f"{owner} lacks variables that {other} has: {shown(lacked)}")
    return theirs


def _refuse_device(name: str, argument: Any, of: str) -> None:
    if library_of(argument) is not None:
        raise TypeError(
            f"{name} is a {type_name(argument)} on a GPU, and {of} on the host: "
            f"copy {name} to the host first, or {of} to the GPU"
        )


def _is_series(container: Container) -> bool:
    return isinstance(container, Series)
