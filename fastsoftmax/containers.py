"""What a caller hands over, as NumPy arrays, and results as what the input was.

Lists, masked arrays, and pandas and xarray objects are known here and nowhere else.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Source(NamedTuple):
    """A caller's input: its values, which of them count (None: all), and what it was."""

    values: Array
    present: Array | None
    original: Any


def unwrap(x: Any) -> Source:
    """The values of an array, a list, a masked array, or a pandas or xarray object."""
    if type(x) is np.ndarray:
        return Source(x, None, x)
    if isinstance(x, np.ma.MaskedArray):
        return Source(x.data.view(np.ndarray), ~np.ma.getmaskarray(x), x)
    return Source(_array("the logits", x), None, x)


def _array(name: str, argument: Any) -> Array:
    try:
        return np.asarray(argument)
    except ValueError as error:  # lists of different lengths, mostly
        raise ValueError(f"{name} must be an array or make one: {error}") from error


def _is(x: Any, module: str, *names: str) -> bool:
    """Whether x is of one of these classes, without importing their module."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(x, tuple(getattr(loaded, name) for name in names))


def plain(name: str, argument: Any) -> Array:
    """An argument as an array; a mask of its own, which would be lost, is refused."""
    if isinstance(argument, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: fill it, or mask the logits")
    if type(argument) is int and not -(2**63) <= argument < 2**64:  # NumPy would make an object
        try:
            argument = float(argument)
        except OverflowError:
            bits = argument.bit_length()
            raise ValueError(f"{name} must be a float64, got an integer of {bits} bits") from None
    return _array(name, argument)


def broadcast_source(source: Source, other: Array) -> Source:
    """The input in the shape that it and ``b`` have together."""
    try:
        shape = np.broadcast_shapes(source.values.shape, other.shape)
    except ValueError:
        raise ValueError(
            f"b of shape {other.shape} does not broadcast with a of shape {source.values.shape}"
        ) from None
    if shape == source.values.shape:
        return source
    values = np.broadcast_to(source.values, shape)
    mask = None if source.present is None else np.broadcast_to(source.present, shape)
    return Source(values, mask, values if mask is None else np.ma.MaskedArray(values, ~mask))


def rewrap(source: Source, result: Any) -> Any:
    """A result of the input's shape, as what the input was."""
    x = source.original
    if type(x) is np.ndarray:
        return result
    if isinstance(x, np.ma.MaskedArray):
        return np.ma.MaskedArray(result, mask=np.ma.getmaskarray(x).copy())
    if _is(x, "pandas", "Series"):
        return type(x)(result, index=x.index, name=x.name)
    if _is(x, "pandas", "DataFrame"):
        return type(x)(result, index=x.index, columns=x.columns)
    if _is(x, "xarray", "DataArray"):
        return x.copy(data=result)
    return result


def rewrap_reduced(
    source: Source, result: Any, axes: tuple[int, ...], keepdims: bool, present: Array | None
) -> Any:
    """A result that lost ``axes``, as what the input was; a masked row had nothing present."""
    x = source.original
    if isinstance(x, np.ma.MaskedArray) and present is not None:
        absent = ~present.any(axis=axes, keepdims=keepdims)
        if np.ndim(result) == 0:
            return np.ma.masked if absent else result
        return np.ma.MaskedArray(result, mask=absent)
    if keepdims or np.ndim(result) == 0:
        return result
    if _is(x, "pandas", "DataFrame"):
        if result.ndim == 2:
            return type(x)(result, index=x.index, columns=x.columns)
        index = x.columns if axes == (0,) else x.index
        return sys.modules["pandas"].Series(result, index=index)
    if _is(x, "xarray", "DataArray"):
        return x.isel({x.dims[axis]: 0 for axis in axes}, drop=True).copy(data=result)
    return result
