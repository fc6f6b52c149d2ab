"""From what a caller passes to what a kernel takes, and back.

Everything that a caller can get wrong is refused here, before anything is computed or written.
A kernel takes rows (rows, length) whose elements are side by side, or columns (outer, length,
inner) whose neighbours are; `Rows` finds such a view of any array, and copies only where there
is none.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_KERNEL_TYPES = {"float16", "bfloat16", "float32", "float64"}
_NUMPY_TYPES = {np.longdouble, np.complex64, np.complex128, np.clongdouble}
# What kernels are handed instead of the two types that Numba does not know: their bits.
_STORED_AS = {"float16": np.uint16, "bfloat16": np.int16}


# --- types ---------------------------------------------------------------------------------


@functools.cache
def has_kernel(dtype: np.dtype[Any]) -> bool:
    """Whether kernels compute in this type; long double and complex numbers go through NumPy."""
    return dtype.name in _KERNEL_TYPES


@functools.cache
def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether this is a type of results; other packages' 8-bit floats, for one, are not."""
    return has_kernel(dtype) or dtype.type in _NUMPY_TYPES


@functools.cache
def _floating(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    if dtype.kind in "biu":
        return np.dtype(np.float64)
    return dtype.newbyteorder("=") if is_floating(dtype) else None


def floating(name: str, array: Array) -> np.dtype[Any]:
    """The type that an array is computed in: its own, float64 for integers and booleans.

    ``name``: of the function or argument that wants it.
    """
    computed = _floating(array.dtype)
    if computed is None:
        raise TypeError(f"{name} needs real or complex numbers, got an array of {array.dtype!r}")
    return computed


@functools.cache
def wider(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """NumPy's type for values of both, as a type of results; the widest where it knows none."""
    if {a.name, b.name} == {"float16", "bfloat16"}:
        return np.dtype(np.float32)
    widest: np.dtype[Any] = np.dtype(np.complex128 if "c" in (a.kind, b.kind) else np.float64)
    try:
        return _floating(np.promote_types(a, b)) or widest
    except TypeError:
        return widest


def result_type(function: str, computed: np.dtype[Any], dtype: Any) -> np.dtype[Any]:
    """The result's type: ``dtype`` where it was given, which must be able to hold the result."""
    if dtype is None:
        return computed
    try:
        wanted: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be a floating-point type, got {dtype!r}") from None
    if not is_floating(wanted):
        raise TypeError(f"dtype must be a floating-point type, got {wanted!r}")
    if computed.kind == "c" and wanted.kind != "c":
        raise TypeError(f"dtype must be complex where {function}'s input is, got {wanted!r}")
    return wanted.newbyteorder("=")


# --- axes, masks, temperatures, out ---------------------------------------------------------------


def normalized_axes(ndim: int, axis: Any) -> tuple[int, ...]:
    """``axis`` (an int, a tuple or None for all) as a sorted tuple of non-negative ints."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    given = axis if isinstance(axis, tuple) else (axis,)
    # NumPy reduces a scalar along axis 0 and -1 as if it had one dimension, and so does SciPy.
    dimensions = max(ndim, 1)
    axes = []
    for each in given:
        try:
            index = operator.index(each)
        except TypeError:
            raise TypeError(f"axis must be an int, a tuple of ints or None, got {axis!r}") from None
        if not -dimensions <= index < dimensions:
            raise np.exceptions.AxisError(index, ndim)
        axes.append(index % dimensions)
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis must not name a dimension twice, got {axis!r}")
    return tuple(sorted(axes)) if ndim else ()


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with the reduced axes kept at length 1."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


def broadcast(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """``array`` in ``shape``, or an error that names the argument."""
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name} of shape {array.shape} does not broadcast to shape {shape}"
        ) from None


def present(where: Array | None, own: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Which elements count, in the input's shape: ``where`` and the input's own mask."""
    if where is None:
        return own
    if where.dtype != np.bool_:
        raise TypeError(f"where must be boolean, got an array of {where.dtype!r}")
    where = broadcast("where", where, shape)
    return where if own is None else where & own


def temperatures(temperature: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """The temperature of each row as float64: one number, or what broadcasts over the rows."""
    if temperature.dtype.kind not in "biuf" and not has_kernel(temperature.dtype):
        got = f"an array of {temperature.dtype!r}" if temperature.ndim else repr(temperature.item())
        raise TypeError(f"temperature must be real, got {got}")
    array = np.require(cast(temperature, np.dtype(np.float64)), requirements="A")
    coldest = array.min(initial=np.inf) if array.ndim else array.item()
    if not coldest >= 0:  # one reading of a million temperatures, not three
        value = array[~(array >= 0)].flat[0]
        raise ValueError(f"temperature must not be negative or NaN, got {value}")
    return broadcast("temperature", array, reduced_shape(shape, axes)) if array.ndim else array


def check_out(out: Any, shape: tuple[int, ...], result: np.dtype[Any], dtype: Any) -> None:
    """Refuse an ``out`` that cannot take a result of this shape and type."""
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"out must be a plain NumPy array, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    # Values outside a narrower float type's range round to infinity, as in NumPy's ufuncs.
    if not is_floating(out.dtype) or (result.kind == "c" and out.dtype.kind != "c"):
        raise TypeError(f"out of {out.dtype!r} cannot hold a result of {result!r}")
    if dtype is not None and out.dtype.newbyteorder("=") != result:
        raise TypeError(f"out is of {out.dtype!r} and dtype says {result!r}: give one of them")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if not out.flags.forc and _overlaps_itself(out):
        raise ValueError(f"out must not overlap itself, got strides {out.strides}")


def _overlaps_itself(array: Array) -> bool:
    """Whether two elements share memory, as in broadcast arrays and sliding windows."""
    reach = array.itemsize
    axes = sorted((abs(s), n) for n, s in zip(array.shape, array.strides, strict=True) if n > 1)
    for stride, size in axes:
        if stride < reach:
            break
        reach += stride * (size - 1)
    else:
        return False
    # Hardly ever: strides of neither slices nor transpositions. Then every place is looked at.
    places = functools.reduce(np.add.outer, [stride * np.arange(size) for stride, size in axes])
    return bool(np.any(np.diff(np.sort(places, axis=None)) < array.itemsize))


# Temperatures below this are taken as the limit 0: their reciprocals leave the range of float64.
# Only float64 rows whose logits differ by less than 2**-990 show it.
_COLDEST = 2.0**-1000
# Of temperatures above this the reciprocals' rests are subnormal: logits and temperature are
# scaled down together, exactly.
_HOTTEST = 2.0**900


def at_limits(
    x: Array, temperature: Array, mask: Array | None, axes: tuple[int, ...]
) -> tuple[Array, Array]:
    """Rows at temperature 0 or infinity, or near them, as rows at one that kernels can take."""
    single = temperature.ndim == 0
    coldest = temperature.item() if single else temperature.min()
    hottest = coldest if single else temperature.max()
    if coldest >= _COLDEST and hottest <= _HOTTEST:
        return x, temperature
    frozen = temperature < _COLDEST
    molten = np.isinf(temperature)
    hot = (temperature > _HOTTEST) & ~molten
    if x.dtype.kind == "c":
        raise ValueError("temperature 0 and infinity have no limit for complex numbers")
    logits = x.astype(np.promote_types(x.dtype, np.float64))
    with np.errstate(invalid="ignore"):
        counted: Any = True if mask is None else mask
        top = np.max(logits, axis=axes, keepdims=True, initial=-np.inf, where=counted)
        # Infinities and NaN are at any temperature what they are.
        finite = np.isfinite(logits)
        ties = np.where(finite, np.where(logits == top, 0.0, -np.inf), logits)
        level = np.where(finite, 0.0, logits)
    # Only float64 is large enough for a hot row to be anything but uniform.
    cooled = np.ldexp(logits, -200) if x.dtype.itemsize >= 8 else level
    limit = np.where(frozen, ties, np.where(molten, level, np.where(hot, cooled, logits)))
    temperature = np.where(hot, np.ldexp(temperature, -200), temperature)
    return limit.astype(x.dtype), np.where(frozen | molten, 1.0, temperature)


# --- layout ---------------------------------------------------------------------------------------


class Rows:
    """How arrays of one shape are seen as rows along ``axes``: a transposition and a reshape.

    Axes are ordered by the strides of the input, so that most layouts need no copy: a Fortran
    array reduced along its last axis is columns of a C one. Where the reduced axes are not
    neighbours in memory, they are moved to the end, and a copy is made.
    """

    def __init__(
        self, shape: tuple[int, ...], strides: tuple[int, ...], axes: tuple[int, ...]
    ) -> None:
        long = [axis for axis, size in enumerate(shape) if size > 1]
        short = [axis for axis, size in enumerate(shape) if size <= 1]
        # A broadcast axis (stride 0) goes first: whatever is inside it is what moves.
        long.sort(key=lambda axis: -abs(strides[axis]) if strides[axis] else -math.inf)
        places = [place for place, axis in enumerate(long) if axis in axes]
        if places and places[-1] - places[0] != len(places) - 1:
            kept = [axis for axis in long if axis not in axes]
            long = kept + [axis for axis in axes if shape[axis] > 1]
            places = list(range(len(kept), len(long)))
        first, last = (places[0], places[-1] + 1) if places else (len(long), len(long))
        self.outer = math.prod(shape[axis] for axis in long[:first])
        self.length = math.prod(shape[axis] for axis in long[first:last])
        self.inner = math.prod(shape[axis] for axis in long[last:])

        self._order = short + long
        self._reduced_shape = reduced_shape(shape, axes)
        self._sizes = [shape[axis] for axis in self._order]
        self._back = sorted(range(len(shape)), key=self._order.__getitem__)
        kept = [axis for axis in self._order if axis not in axes]
        self._kept_sizes = [shape[axis] for axis in kept]
        self._kept_back = sorted(range(len(kept)), key=kept.__getitem__)

    def view(self, array: Array) -> Array:
        """``array`` as (rows, length) or (outer, length, inner): itself, or a copy."""
        shape = self._seen_shape(self.outer, self.length)
        seen = array.transpose(self._order).reshape(shape)
        if shape[-1] > 1 and seen.strides[-1] != seen.itemsize:
            seen = np.ascontiguousarray(seen)
        return seen

    def view_rows(self, numbers: Array) -> Array:
        """One number, or an array of the reduced shape, as (rows,) or (outer, inner)."""
        shape = self._seen_shape(self.outer)
        if numbers.ndim == 0:  # what broadcast_to would give, ten times faster
            return np.ndarray(shape, numbers.dtype, numbers, strides=(0,) * len(shape))
        numbers = np.broadcast_to(numbers, self._reduced_shape)
        return numbers.transpose(self._order).reshape(shape)

    def _seen_shape(self, *sizes: int) -> tuple[int, ...]:
        return sizes if self.inner == 1 else (*sizes, self.inner)

    def back(self, seen: Array) -> Array:
        """What ``view`` gave of an array, as that array's shape again."""
        return seen.reshape(self._sizes).transpose(self._back)

    def empty(self, dtype: np.dtype[Any]) -> Array:
        """A new array, as kernels take it; its axes lie in memory as those of the input."""
        return np.empty(self._seen_shape(self.outer, self.length), dtype)

    def empty_rows(self, dtype: np.dtype[Any]) -> Array:
        """A new array for one number a row, as kernels take it."""
        return np.empty(self._seen_shape(self.outer), dtype)

    def back_rows(self, numbers: Array) -> Array:
        """One number a row in the input's order of axes, the reduced ones at length 1."""
        return (
            numbers.reshape(self._kept_sizes)
            .transpose(self._kept_back)
            .reshape(self._reduced_shape)
        )


@functools.lru_cache(maxsize=1024)
def _rows(shape: tuple[int, ...], strides: tuple[int, ...], axes: tuple[int, ...]) -> Rows:
    return Rows(shape, strides, axes)


def rows_of(x: Array, axes: tuple[int, ...]) -> Rows:
    """How arrays of the shape of ``x`` are seen as rows along ``axes``."""
    return _rows(x.shape, x.strides, axes)


@functools.cache
def _stored_as(dtype: np.dtype[Any]) -> Any:
    return _STORED_AS.get(dtype.name)


def stored(array: Array) -> Array:
    """The array as kernels know it: the two 16-bit types as integers of their bits."""
    kind = _stored_as(array.dtype)
    return array if kind is None else array.view(kind)


def same_memory(a: Array, b: Array) -> bool:
    """Whether two arrays are element by element the same memory."""
    return a is b or (
        a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
        and a.shape == b.shape
        and a.dtype == b.dtype
        # A length of 1 has a stride that means nothing.
        and all(s == t for n, s, t in zip(a.shape, a.strides, b.strides, strict=True) if n > 1)
    )


def cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array in another type; what is beyond its range becomes infinite."""
    array = np.asarray(array)
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return array.astype(dtype)


def into(out: Array, result: Array) -> Array:
    """``out`` with the result in it."""
    if not same_memory(out, result):
        np.copyto(out, cast(result, out.dtype))
    return out


def place_for(rows: Rows, out: Array | None, x: Array, *others: Array | None) -> Array:
    """Where a kernel is to write its result for ``x``: a view of ``out``, or a new array.

    A new one where there is no ``out``, where it has another type or no such view, and where it
    shares memory with what the kernel reads: with ``x`` other than by being it, or with others.
    """
    if out is not None and out.dtype == x.dtype:
        out = out.view(np.ndarray)  # a matrix would stay one
        view = rows.view(out)
        read = [array for array in (x, *others) if array is not None]
        if same_memory(view, x):
            del read[0]
        shared = any(np.may_share_memory(view, array) for array in read)
        if not shared and np.may_share_memory(view, out):
            return view
    return rows.empty(x.dtype)
