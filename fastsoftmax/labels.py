"""Labels: an operand's elements put where the input has their labels, as pandas and xarray do.

polars's frames have names of columns for labels, and its rows go by position.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastsoftmax.loaded import type_name

Array = np.ndarray[Any, Any]


class Labelled(NamedTuple):
    """An argument with labels: its name, the object, its values, and of each dimension the index.

    An index is pandas's, a tuple of names, or None for a dimension that has no labels; ``package``
    is whose rules hold. A Series of pandas's goes along either of a DataFrame's dimensions.
    """

    name: str
    original: Any
    values: Array
    package: str
    labels: dict[Any, Any]
    is_series: bool = False


def aligned(theirs: Labelled, ours: Labelled, reduced: tuple[int, ...]) -> Array:
    """The values of an operand, as its package would put them beside the input.

    They have the input's dimensions, of length 1 where the operand lacks them; along the axes in
    ``reduced`` there is one element for all, whatever its label.
    """
    if theirs.package != ours.package:
        raise TypeError(
            f"{theirs.name} is a {type_name(theirs.original)} and {ours.name} a "
            f"{type_name(ours.original)}, whose labels cannot be matched: "
            f"pass {theirs.name}.to_numpy()"
        )
    for each in (theirs, ours):
        if len(each.labels) != each.values.ndim:
            raise ValueError(f"{each.name} must not have a dimension twice beside labels")
    found, wanted, array = theirs.labels, ours.labels, theirs.values
    if theirs.is_series and not ours.is_series:
        # It goes along the columns, as in arithmetic, but where only rows are left.
        found = {"index" if reduced == (1,) else "columns": found["index"]}
    for dimension in found:
        if dimension not in wanted:
            raise ValueError(f"{theirs.name} has a dimension that {ours.name} lacks: {dimension!r}")
    shared = [dimension for dimension in wanted if dimension in found]
    array = array.transpose([list(found).index(dimension) for dimension in shared])
    for axis, dimension in enumerate(wanted):
        if dimension not in found:
            array = np.expand_dims(array, axis)
        elif axis not in reduced:
            places = _places(theirs.name, found[dimension], ours.name, wanted[dimension], dimension)
            if places is not None:
                array = array.take(places, axis)
    return array


def _places(name: str, theirs: Any, of: str, ours: Any, dimension: Any) -> Array | None:
    """Where an operand has each of the input's labels; None where they need no matching."""
    if theirs is None or ours is None or _equal(theirs, ours):
        return None
    for owner, index in ((name, theirs), (of, ours)):
        if not (isinstance(index, tuple) or index.is_unique):  # polars has no name twice
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


def _equal(theirs: Any, ours: Any) -> bool:
    return theirs == ours if isinstance(ours, tuple) else theirs.equals(ours)  # type: ignore[no-any-return]


def _found(wanted: Any, index: Any) -> Array:
    """Where ``index`` has each label that is wanted, or -1; what is equal is what pandas joins."""
    if isinstance(wanted, tuple):
        at = {label: place for place, label in enumerate(index)}
        return np.array([at.get(label, -1) for label in wanted], np.intp)
    if wanted.nlevels != index.nlevels:
        return np.full(len(wanted), -1)
    places = wanted.join(index, how="left", return_indexers=True)[2]
    return np.arange(len(wanted)) if places is None else np.asarray(places)


def _refuse_missing(name: str, of: str, dimension: Any, wanted: Any, places: Array) -> None:
    if (places < 0).any():
        missing = [label for label, place in zip(wanted, places, strict=True) if place < 0]
        raise ValueError(f"{name} lacks labels that {of} has along {dimension!r}: {shown(missing)}")


def shown(labels: list[Any]) -> str:
    """Some labels, and how many more there are."""
    more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
    return ", ".join(map(repr, labels[:3])) + more
