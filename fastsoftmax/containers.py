"""What a caller hands over, as NumPy arrays, and results as what the input was.

Lists, masked arrays, and pandas and xarray objects are known here and nowhere else. Operands
with labels are matched with the input's by label, so that all that follows goes by position.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

# What to do with an object that NumPy cannot read, by an attribute that tells its kind.
_ADVICE = {
    "toarray": "pass {}.toarray()",
    "__cuda_array_interface__": "copy {} to the host first",
}


class Source(NamedTuple):
    """A caller's input: the argument's name, its values, which count (None: all), what it was."""

    name: str
    values: Array
    present: Array | None
    original: Any


def unwrap(name: str, x: Any) -> Source:
    """The values of an array, a list, a masked array, or a pandas or xarray object."""
    if type(x) is np.ndarray:
        return Source(name, x, None, x)
    if isinstance(x, np.ma.MaskedArray):
        values = x.data.view(np.ndarray)
        # Each field of a structured array has a mask of its own; such an array is refused later.
        present = None if values.dtype.names else ~np.ma.getmaskarray(x)
        return Source(name, values, present, x)
    return Source(name, _array(name, x), None, x)


def operand(name: str, argument: Any, source: Source, reduced: tuple[int, ...] = ()) -> Array:
    """An argument beside the input as an array, its elements where their labels are in the input.

    Along the axes in ``reduced`` there is one element for all, whatever its label.
    """
    if type(argument) is np.ndarray:
        return argument
    if type(argument) is float:
        return np.array(argument)
    if isinstance(argument, np.ma.MaskedArray):  # its mask would be lost
        raise TypeError(f"{name} must not be a masked array: fill it, or mask {source.name}")
    if type(argument) is int and not -(2**63) <= argument < 2**64:  # NumPy would make an object
        try:
            argument = float(argument)
        except OverflowError:
            bits = argument.bit_length()
            raise ValueError(f"{name} must be a float64, got an integer of {bits} bits") from None
    array = _array(name, argument)
    if type(source.original) is np.ndarray:
        return array
    return _aligned(name, argument, array, source, reduced)


def mask(where: Any, source: Source) -> Array | None:
    """``where`` as an array; None where it leaves out nothing."""
    return None if where is None or where is True else operand("where", where, source)


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
    return Source(
        source.name, values, mask, values if mask is None else np.ma.MaskedArray(values, ~mask)
    )


def _array(name: str, argument: Any) -> Array:
    try:
        array = np.asarray(argument)
    except ValueError as error:  # lists of different lengths, mostly
        raise ValueError(f"{name} must be an array or make one: {error}") from error
    except (TypeError, RuntimeError) as error:  # a tensor's, for one, which says what to do
        raise TypeError(
            f"{name} must be an array or make one, got {_type(argument)}: {error}"
        ) from error
    if array.dtype.kind == "O":
        if _is(argument, "pandas", "Series", "DataFrame"):
            return _numbers(name, argument, array)
        for attribute, advice in _ADVICE.items():
            if hasattr(argument, attribute):
                raise TypeError(
                    f"{name} must be an array or make one, got {_type(argument)}: "
                    + advice.format(name)
                )
    return array


def _numbers(name: str, argument: Any, objects: Array) -> Array:
    """What pandas gives as objects, as numbers where they are some: of several types, or NA."""
    pandas = sys.modules["pandas"]
    frame = argument.to_frame() if objects.ndim == 1 else argument
    columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    kinds = pandas.api.types
    if not columns or not all(map(kinds.is_numeric_dtype, columns)):  # booleans are numeric
        return objects
    numbers = []
    for column in columns:
        dtype = getattr(column.dtype, "numpy_dtype", None) or np.asarray(column).dtype
        if not column.hasnans:
            numbers.append(column.to_numpy(dtype))
            continue
        if name == "where":
            raise ValueError(f"where must not have missing values, got {column.isna().sum()}")
        dtype = dtype if dtype.kind in "fc" else np.dtype(np.float64)
        numbers.append(column.to_numpy(dtype, na_value=np.nan))
    return np.column_stack(numbers).reshape(objects.shape)


def _type(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")


def _is(x: Any, module: str, *names: str) -> bool:
    """Whether x is of one of these classes, without importing their module."""
    loaded = sys.modules.get(module)  # another thread may be importing it
    return isinstance(x, tuple(getattr(loaded, name, ()) for name in names))


# --- labels -----------------------------------------------------------------------------------


def _labels(x: Any) -> dict[Any, Any] | None:
    """Of what has labels, the pandas index of each dimension by name; None where it has none."""
    if _is(x, "pandas", "Series"):
        return {"index": x.index}
    if _is(x, "pandas", "DataFrame"):
        return {"index": x.index, "columns": x.columns}
    if _is(x, "xarray", "DataArray"):
        return {dimension: x.indexes.get(dimension) for dimension in x.dims}
    return None


def _aligned(
    name: str, argument: Any, array: Array, source: Source, reduced: tuple[int, ...]
) -> Array:
    """``array``, the values of an argument, as pandas or xarray would put it beside the input.

    It has the input's dimensions, of length 1 where the argument lacks them.
    """
    theirs, ours = _labels(argument), _labels(source.original)
    if theirs is None or ours is None:
        return array
    if _is(argument, "xarray", "DataArray") != _is(source.original, "xarray", "DataArray"):
        raise TypeError(
            f"{name} is a {_type(argument)} and {source.name} a {_type(source.original)}, whose "
            f"labels cannot be matched: pass {name}.to_numpy()"
        )
    for each, labels, values in ((name, theirs, array), (source.name, ours, source.values)):
        if len(labels) != values.ndim:
            raise ValueError(f"{each} must not have a dimension twice beside labels")
    if _is(argument, "pandas", "Series") and _is(source.original, "pandas", "DataFrame"):
        # It goes along the columns, as in arithmetic, but where only rows are left.
        theirs = {"index" if reduced == (1,) else "columns": argument.index}
    for dimension in theirs:
        if dimension not in ours:
            raise ValueError(f"{name} has a dimension that {source.name} lacks: {dimension!r}")
    shared = [dimension for dimension in ours if dimension in theirs]
    array = array.transpose([list(theirs).index(dimension) for dimension in shared])
    for axis, dimension in enumerate(ours):
        if dimension not in theirs:
            array = np.expand_dims(array, axis)
        elif axis not in reduced:
            places = _places(name, theirs[dimension], source.name, ours[dimension], dimension)
            if places is not None:
                array = array.take(places, axis)
    return array


def _places(name: str, theirs: Any, of: str, ours: Any, dimension: Any) -> Array | None:
    """Where an operand has each of the input's labels; None where they need no matching."""
    if theirs is None or ours is None or theirs.equals(ours):
        return None
    for owner, index in ((name, theirs), (of, ours)):
        if not index.is_unique:
            twice = index[index.duplicated()][:1].tolist()[0]
            raise ValueError(
                f"{name} and {of} cannot be matched by label along {dimension!r}: "
                f"{owner} has {twice!r} more than once"
            )
    places = _found(ours, theirs)
    _refuse_missing(name, of, dimension, ours, places)
    if len(theirs) != len(ours):
        _refuse_missing(of, name, dimension, theirs, _found(theirs, ours))
    return places


def _found(wanted: Any, index: Any) -> Array:
    """Where ``index`` has each label that is wanted, or -1; what is equal is what pandas joins."""
    if wanted.nlevels != index.nlevels:
        return np.full(len(wanted), -1)
    places = wanted.join(index, how="left", return_indexers=True)[2]
    return np.arange(len(wanted)) if places is None else np.asarray(places)


def _refuse_missing(name: str, of: str, dimension: Any, wanted: Any, places: Array) -> None:
    missing = wanted[places < 0].tolist()
    if missing:
        shown = ", ".join(map(repr, missing[:3]))
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"{name} lacks labels that {of} has along {dimension!r}: {shown}{more}")


# --- back -------------------------------------------------------------------------------------


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
        kept = [dimension for axis, dimension in enumerate(x.dims) if axis not in axes]
        lost = [dimension for axis, dimension in enumerate(x.dims) if axis in axes]
        coordinates = x.coords.to_dataset().drop_dims(lost, errors="ignore").coords
        return type(x)(result, coordinates, kept, x.name, x.attrs)
    return result
