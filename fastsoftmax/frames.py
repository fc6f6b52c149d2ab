"""Columns and frames of pandas and polars, without a copy where these lie in memory as an array."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fastsoftmax.container import Array, Axes, Container
from fastsoftmax.loaded import is_a

# pandas's types of numbers of which any may be missing.
_NULLABLE = (
    "BooleanDtype", "Float32Dtype", "Float64Dtype",
    "Int8Dtype", "Int16Dtype", "Int32Dtype", "Int64Dtype",
    "UInt8Dtype", "UInt16Dtype", "UInt32Dtype", "UInt64Dtype",
)  # fmt: skip


class _Pandas(Container):
    """What pandas's objects have in common."""

    package = "pandas"
    # Axes by name. From the end: b= may broadcast to more dimensions, which come first.
    names: ClassVar[Mapping[str, int]]

    def axis(self, name: str, x: Any, axis: Any, dim: Any) -> Any:
        return _numbered(super().axis(name, x, axis, dim), self.names)

    def check_result(self, dtype: np.dtype[Any]) -> None:
        if dtype.kind not in "fc":  # bfloat16
            raise TypeError(f"dtype must be one of pandas's, got {dtype!r}")


class Series(_Pandas):
    """pandas's Series."""

    names: ClassVar = {"index": -1, "rows": -1}

    def holds(self, x: Any) -> bool:
        return is_a(x, "pandas", "Series")

    def values(self, name: str, x: Any) -> Array:
        return _pandas_numbers(name, x, "")

    def labels(self, x: Any) -> dict[Any, Any] | None:
        return {"index": x.index}

    def rewrapped_reduced(
        self, x: Any, result: Any, axes: Axes, keepdims: bool, present: Array | None
    ) -> Any:
        if np.ndim(result) == 0:
            return result
        dtype = _result_dtype([x.dtype], result.dtype)
        made = type(x)(result, None if axes else x.index, dtype, x.name, copy=False)
        return made.__finalize__(x)  # attributes, copied, and flags


class DataFrame(_Pandas):
    """pandas's DataFrame."""

    names: ClassVar = {"index": -2, "rows": -2, "columns": -1}

    def holds(self, x: Any) -> bool:
        return is_a(x, "pandas", "DataFrame")

    def values(self, name: str, x: Any) -> Array:
        kinds = {dtype.kind if isinstance(dtype, np.dtype) else "" for dtype in x.dtypes}
        if kinds and (kinds <= set("fciu") or kinds == {"b"}):
            return x.to_numpy()  # type: ignore[no-any-return]
        return _beside(
            [
                _pandas_numbers(name, x.iloc[:, place], f" in column {label!r}")
                for place, label in enumerate(x.columns)
            ],
            len(x),
        )

    def labels(self, x: Any) -> dict[Any, Any] | None:
        return {"index": x.index, "columns": x.columns}

    def rewrapped_reduced(
        self, x: Any, result: Any, axes: Axes, keepdims: bool, present: Array | None
    ) -> Any:
        if np.ndim(result) == 0:
            return result
        dtype = _result_dtype(list(x.dtypes), result.dtype)
        labels = [None if axis in axes else x.axes[axis] for axis in range(2)]
        if result.ndim == 2:
            made = type(x)(result, labels[0], labels[1], dtype, copy=False)
        else:
            made = sys.modules["pandas"].Series(result, labels[axes == (0,)], dtype, copy=False)
        return made.__finalize__(x)


def _numbered(axis: Any, names: Mapping[str, int]) -> Any:
    """An axis, or several, some of which may be given by pandas's names."""
    if isinstance(axis, tuple):
        return tuple(_numbered(each, names) for each in axis)
    if not isinstance(axis, str):
        return axis
    if axis not in names:
        known = ", ".join(map(repr, names))
        raise ValueError(f"axis must be a number or one of pandas's names, {known}: got {axis!r}")
    return names[axis]


def _pandas_numbers(name: str, column: Any, place: str) -> Array:
    """A column as numbers, of which those that are missing are NaN; ``place``: which it is."""
    dtype = column.dtype
    if is_a(dtype, "pandas", "SparseDtype"):
        raise TypeError(
            f"{name} must be an array or make one, got {dtype}{place}: pass "
            + (f"{name}.astype({str(dtype.subtype)!r})" if place else f"{name}.sparse.to_dense()")
        )
    numbers = getattr(dtype, "numpy_dtype", dtype)
    if not isinstance(numbers, np.dtype) or numbers.kind not in "biufc":
        wanted = "booleans" if name == "where" else "numbers"
        raise TypeError(f"{name} must hold {wanted}, got {dtype}{place}")
    if isinstance(dtype, np.dtype) or not column.hasnans:
        return column.to_numpy(numbers)  # type: ignore[no-any-return]
    _refuse_missing(name, column.isna().sum(), place)
    numbers = numbers if numbers.kind == "f" else np.dtype(np.float64)
    return column.to_numpy(numbers, na_value=np.nan)  # type: ignore[no-any-return]


def _result_dtype(columns: Sequence[Any], dtype: np.dtype[Any]) -> Any:
    """The type of results as columns: nullable or Arrow's where all of the input's are so.

    What is NaN is missing there.
    """
    pandas, name = sys.modules["pandas"], dtype.name
    if columns and name in ("float32", "float64"):
        if all(is_a(each, "pandas", *_NULLABLE) for each in columns):
            return getattr(pandas, f"{name.title()}Dtype")()
        if all(is_a(each, "pandas", "ArrowDtype") for each in columns):
            return pandas.ArrowDtype(sys.modules["pyarrow"].from_numpy_dtype(dtype))
    return dtype


class _Polars(Container):
    """What polars's objects have in common."""

    package = "polars"

    def check_result(self, dtype: np.dtype[Any]) -> None:
        if dtype.name not in ("float16", "float32", "float64") or not hasattr(
            sys.modules["polars"], dtype.name.title()
        ):
            raise TypeError(f"dtype must be one of polars's, got {dtype!r}")


class PolarsSeries(_Polars):
    """polars's Series, of numbers or of its Array type; nulls count as NaN."""

    def holds(self, x: Any) -> bool:
        return is_a(x, "polars", "Series")

    def values(self, name: str, x: Any) -> Array:
        return _polars_numbers(name, x, "")

    def labels(self, x: Any) -> dict[Any, Any] | None:
        shape = getattr(x.dtype, "shape", ())
        return dict.fromkeys(["rows", *range(1, 1 + len(shape))])

    def rewrapped_reduced(
        self, x: Any, result: Any, axes: Axes, keepdims: bool, present: Array | None
    ) -> Any:
        return result if np.ndim(result) == 0 else type(x)(x.name, result)


class PolarsDataFrame(_Polars):
    """polars's DataFrame, whose columns are classes; nulls count as NaN."""

    def holds(self, x: Any) -> bool:
        return is_a(x, "polars", "DataFrame")

    def values(self, name: str, x: Any) -> Array:
        columns = list(x.iter_columns())
        if columns and all(column.dtype.is_float() for column in columns):
            return x.to_numpy()  # type: ignore[no-any-return]
        return _beside(
            [_polars_numbers(name, column, f" in column {column.name!r}") for column in columns],
            x.height,
        )

    def labels(self, x: Any) -> dict[Any, Any] | None:
        return {"rows": None, "columns": tuple(x.columns)}

    def rewrapped_reduced(
        self, x: Any, result: Any, axes: Axes, keepdims: bool, present: Array | None
    ) -> Any:
        """As `Container.rewrapped_reduced`: a row for a result of each column, a Series of rows."""
        if np.ndim(result) == 0:
            return result
        if 1 in axes:
            rows = sys.modules["polars"].Series("", result.ravel())
            return rows.to_frame() if keepdims else rows
        return type(x)(np.atleast_2d(result), x.columns, orient="row")


def _polars_numbers(name: str, column: Any, place: str) -> Array:
    """A column as numbers, of which those that are missing are NaN; ``place``: which it is."""
    polars, dtype = sys.modules["polars"], column.dtype
    element, shape = dtype, getattr(dtype, "shape", ())
    while isinstance(element, polars.Array):
        element = element.inner
    if isinstance(dtype, polars.List):
        as_one = place or f": pass {name}.list.to_array(length)"
        raise TypeError(f"{name} has lists that may differ in length{as_one}")
    is_bool = element == polars.Boolean
    is_number = is_bool or element.is_float() or element.is_integer()
    if not is_number or (place and shape):  # in a frame there is one number for each name
        cast = ": cast it to polars.Float64" if element.is_decimal() else ""
        raise TypeError(f"{name} must hold numbers, got {dtype}{place}{cast}")
    if str(element).endswith("128"):
        raise TypeError(f"{name} must hold numbers that NumPy has, got {dtype}{place}")
    array = column.to_numpy()
    if is_bool and array.dtype != np.bool_:  # some are missing
        _refuse_missing(name, sum(each is None for each in array.flat), place)
        array = array.astype(np.float64)
    return array  # type: ignore[no-any-return]


def _refuse_missing(name: str, count: int, place: str) -> None:
    """Refuse a mask of which it is not known what some elements say."""
    if name == "where":
        raise ValueError(f"where must not have missing values, got {count}{place}")


def _beside(columns: Sequence[Array], length: int) -> Array:
    """Columns side by side, in the type that holds all of them."""
    if not columns:
        return np.empty((length, 0), bool)
    return columns[0][:, None] if len(columns) == 1 else np.column_stack(columns)
