"""xarray's objects, whose dimensions have names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from fastsoftmax.container import Array, Axes, Container
from fastsoftmax.loaded import is_a, type_name


class DataArray(Container):
    """xarray's DataArray."""

    package = "xarray"

    def holds(self, x: Any) -> bool:
        return is_a(x, "xarray", "DataArray")

    def values(self, name: str, x: Any) -> Array:
        if x.chunks is not None:
            raise TypeError(f"{name} is lazy, of a {type_name(x.data)}: pass {name}.compute()")
        array = super().values(name, x)
        if array.dtype.kind in "OSUMm":
            raise TypeError(f"{name} must hold numbers, got an array of {array.dtype!r}")
        return array

    def axis(self, name: str, x: Any, axis: Any, dim: Any) -> Any:
        """As `Container.axis`, of dimensions by name; ``...`` is all of them, as in xarray."""
        if dim is None:
            return axis
        if dim is ...:
            return None
        wanted = _names(dim)
        for each in wanted:
            if each not in x.dims:
                there = ", ".join(map(repr, x.dims)) or "none"
                raise ValueError(
                    f"dim must name dimensions of {name}, got {each!r}: it has {there}"
                )
        # From the end: b= may broadcast the array to more dimensions, which come first.
        return tuple(axis - x.ndim for axis, dimension in enumerate(x.dims) if dimension in wanted)

    def labels(self, x: Any) -> dict[Any, Any] | None:
        return {dimension: x.indexes.get(dimension) for dimension in x.dims}

    def rewrapped_reduced(
        self, x: Any, result: Any, axes: Axes, keepdims: bool, present: Array | None
    ) -> Any:
        if not axes:
            return x.copy(data=result)
        lost = [dimension for axis, dimension in enumerate(x.dims) if axis in axes]
        kept = [dimension for axis, dimension in enumerate(x.dims) if keepdims or axis not in axes]
        coordinates = x.coords.to_dataset().drop_dims(lost, errors="ignore").coords
        return type(x)(result, coordinates, kept, x.name, x.attrs)

    def single(self, x: Any, result: Any) -> Any:
        return self.rewrapped_reduced(x, result, tuple(range(x.ndim)), False, None)

    def resized(self, x: Any, result: Any, axis: int) -> Any:
        return self.rewrapped_reduced(x, result, (axis,), True, None)


class Dataset(Container):
    """xarray's Dataset: each of its variables by itself."""

    package = "xarray"

    def holds(self, x: Any) -> bool:
        return is_a(x, "xarray", "Dataset")

    def values(self, name: str, x: Any) -> Array:
        raise TypeError(f"{name} is an xarray.Dataset beside what is none: pass one variable of it")

    def parts(self, name: str, x: Any, axis: Any, dim: Any) -> dict[Any, Any] | None:
        if axis is not None and dim is None:
            raise TypeError(
                f"axis counts dimensions, of which each variable of {name}, an xarray.Dataset, "
                f"has its own: pass dim instead of axis={axis!r}"
            )
        return dict(x.data_vars)

    def together(self, x: Any, results: dict[Any, Any]) -> Any:
        changed, gone = set(), set(results)
        for name, array in results.items():
            sizes = x[name].sizes.items()
            changed |= {
                dimension for dimension, size in sizes if array.sizes.get(dimension) != size
            }
            gone |= set(x[name].coords) - set(array.coords)
        # What labels a dimension that is gone goes with it; all other coordinates stay.
        rest = x.drop_vars(gone).drop_dims(changed, errors="ignore")
        return rest.assign(results)


def _names(dim: Any) -> list[Any]:
    """One name, or several: what can be iterated and is no string, as in xarray."""
    several = isinstance(dim, Iterable) and not isinstance(dim, str)
    names = list(dim) if several else [dim]
    for each in names:
        if not isinstance(each, Hashable):
            raise TypeError(f"dim must be a name or several, got {dim!r}")
    if len(set(names)) != len(names):
        raise ValueError(f"dim must not name a dimension twice, got {dim!r}")
    return names
