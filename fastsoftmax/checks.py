"""Every check of an argument as an array, and what is made of it: types, axes, temperatures, out.

What a caller can get wrong is refused here and, of lists and labels, in containers.py, before
anything is computed or written.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

from fastsoftmax.cpu.sizes import COLDEST, COLDEST_SINGLE, HOTTEST
from fastsoftmax.cuda.view import View

Array = np.ndarray[Any, Any]
Type = np.dtype[Any]
Shape = tuple[int, ...]

_KERNEL_TYPES = {"float16", "bfloat16", "float32", "float64"}
_NUMPY_TYPES = {np.longdouble, np.complex64, np.complex128, np.clongdouble}


# --- types ---------------------------------------------------------------------------------


@functools.cache
def has_kernel(dtype: Type) -> bool:
    """Whether kernels compute in this type; long double and complex numbers go through NumPy."""
    return dtype.name in _KERNEL_TYPES


@functools.cache
def is_floating(dtype: Type) -> bool:
    """Whether this is a type of results; other packages' 8-bit floats, for one, are not."""
    return has_kernel(dtype) or dtype.type in _NUMPY_TYPES


@functools.cache
def _floating(dtype: Type) -> Type | None:
    if dtype.kind in "biu":
        return np.dtype(np.float64)
    return dtype.newbyteorder("=") if is_floating(dtype) else None


def floating(name: str, array: Array) -> Type:
    """The type that an array is computed in: its own, float64 for integers and booleans.

    ``name``: of the argument that it is.
    """
    computed = _floating(array.dtype)
    if computed is None:
        raise TypeError(
            f"{name} must hold real or complex numbers, got an array of {array.dtype!r}"
        )
    return computed


@functools.cache
def wider(a: Type, b: Type) -> Type:
    """NumPy's type for values of both, as a type of results; the widest where it knows none."""
    if {a.name, b.name} == {"float16", "bfloat16"}:
        return np.dtype(np.float32)
    widest: Type = np.dtype(np.complex128 if "c" in (a.kind, b.kind) else np.float64)
    try:
        return _floating(np.promote_types(a, b)) or widest
    except TypeError:
        return widest


def weighted_type(computed: Type, logits: Array, b: Any, weight: Array) -> Type:
    """The type that a sum is computed in, as the caller gave ``b`` and as an array."""
    floating("b", weight)  # refuses what holds no numbers
    # A Python number takes the array's type, as everywhere in NumPy.
    if type(b) is complex:
        return np.result_type(computed, np.complex64)
    return computed if type(b) in (bool, int, float) else wider(logits.dtype, weight.dtype)


def result_type(function: str, computed: Type, dtype: Any) -> Type:
    """The result's type: ``dtype`` where it was given, which must be able to hold the result."""
    if dtype is None:
        return computed
    try:
        wanted: Type = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be a floating-point type, got {dtype!r}") from None
    if not is_floating(wanted):
        raise TypeError(f"dtype must be a floating-point type, got {wanted!r}")
    if computed.kind == "c" and wanted.kind != "c":
        raise TypeError(f"dtype must be complex where {function}'s input is, got {wanted!r}")
    return wanted.newbyteorder("=")


def cast(array: Array, dtype: Type) -> Array:
    """The array in another type; what is beyond its range becomes infinite."""
    array = np.asarray(array)
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return array.astype(dtype)


def check_real(function: str, name: str, given: Type, result: Type) -> None:
    """Refuse complex numbers."""
    if given.kind == "c":
        raise TypeError(f"{name} must hold real numbers for {function}, got an array of {given!r}")
    if result.kind == "c":
        raise TypeError(f"dtype must be real for {function}, got {result!r}")


# --- axes, masks, temperatures, out ---------------------------------------------------------------


def normalized_axes(ndim: int, axis: Any) -> Shape:
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


def reduced_shape(shape: Shape, axes: Shape, keepdims: Any = True) -> Shape:
    """``shape`` without the reduced axes, or with these at length 1."""
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def broadcast(name: str, array: Array, shape: Shape) -> Array:
    """``array`` in ``shape``, or an error that names the argument."""
    if array.shape == shape:
        return array
    check_broadcast(name, array.shape, shape)
    return np.broadcast_to(array, shape)


def check_broadcast(name: str, given: Shape, shape: Shape) -> None:
    """Refuse an argument whose shape does not broadcast to another one."""
    lead = len(shape) - len(given)
    if lead < 0 or any(n not in (1, m) for n, m in zip(given, shape[lead:], strict=True)):
        raise ValueError(f"{name} of shape {given} does not broadcast to shape {shape}")


def present(where: Array | None, own: Array | None, shape: Shape) -> Array | None:
    """Which elements count, in the input's shape: ``where`` and the input's own mask."""
    if where is None:
        return own
    if where.dtype != np.bool_:
        raise TypeError(f"where must be boolean, got an array of {where.dtype!r}")
    where = broadcast("where", where, shape)
    return where if own is None else where & own


def one_axis(function: str, axes: Shape) -> int:
    """The axis of classes, of which there is one."""
    if len(axes) != 1:
        raise ValueError(
            f"axis must be one axis for {function}, along which classes are counted, "
            f"got {len(axes)}"
        )
    return axes[0]


def labels(name: str, given: Array, shape: Shape, axis: int) -> Array:
    """Labels along an axis of logits as int64, with that axis: one for each row, or several.

    Refused by position and value are those of no class.
    """
    several = given.ndim == len(shape)
    given = _with_axis(name, given, shape, axis)
    _check_classes(name, given, None, shape[axis], None if several else axis)
    return given.astype(np.int64, copy=False)


def indices(
    name: str, given: Array, shape: Shape, axis: int, ignore: int
) -> tuple[Array, Array | None]:
    """Class indices as `labels`, one a row, and which rows are ignored, if some are.

    These have the first class.
    """
    if given.ndim == len(shape) and given.shape[axis] != 1:
        raise ValueError(
            f"{name} of class indices must have shape "
            f"{reduced_shape(shape, (axis,), keepdims=False)}, got {given.shape}"
        )
    given = _with_axis(name, given, shape, axis)
    ignored = given == ignore
    if not ignored.any():
        _check_classes(name, given, None, shape[axis], axis)
        return given.astype(np.int64, copy=False), None
    _check_classes(name, given, ignored, shape[axis], axis)
    return np.where(ignored, 0, given).astype(np.int64), ignored


def _with_axis(name: str, given: Array, shape: Shape, axis: int) -> Array:
    """Integers that belong to rows, in the shape of these, with the axis."""
    if given.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got an array of {given.dtype!r}")
    several = given.ndim == len(shape)
    rows = *shape[:axis], given.shape[axis] if several else 1, *shape[axis + 1 :]
    if not several:
        check_broadcast(name, given.shape, reduced_shape(shape, (axis,), keepdims=False))
        lead = len(shape) - 1 - given.ndim
        given = np.expand_dims(given.reshape((1,) * lead + given.shape), axis)
    return broadcast(name, given, rows)


def _check_classes(
    name: str, given: Array, ignored: Array | None, length: int, left_out: int | None
) -> None:
    """Refuse what is no class; ``left_out``: the axis that the caller's array does not have."""
    counted = given if ignored is None else given[~ignored]
    # Unsigned, negative ones are large.
    if not counted.size or counted.astype(np.int64, copy=False).view(np.uint64).max() < length:
        return
    wrong = (given < 0) | (given >= length)
    if ignored is not None:
        wrong &= ~ignored
    place = tuple(map(int, np.argwhere(wrong)[0]))
    shown = [n for axis, n in enumerate(place) if axis != left_out]
    index = f"[{', '.join(map(str, shown))}]" if shown else ""
    raise ValueError(f"{name}{index} is {given[place]}, and classes are from 0 to {length - 1}")


def probabilities(name: str, given: Array, shape: Shape) -> Array:
    """Probabilities of classes in the shape of the logits; they need not sum to 1."""
    if floating(name, given).kind == "c":
        raise TypeError(f"{name} must be real, got an array of {given.dtype!r}")
    check_not_negative(name, given)
    return broadcast(name, given, shape)


def weights(name: str, given: Array) -> Array:
    """Weights as float64."""
    if floating(name, given).kind == "c":
        raise TypeError(f"{name} must be real, got an array of {given.dtype!r}")
    given = cast(given, np.dtype(np.float64))
    check_not_negative(name, given)
    return given


def check_not_negative(name: str, array: Array) -> None:
    """Refuse what is negative or not finite, by position and value."""
    wrong = ~((array >= 0) & (array < np.inf))
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        index = f"[{', '.join(map(str, place))}]" if place else ""
        raise ValueError(f"{name}{index} must be finite and not negative, got {array[place]}")


def integer(name: str, given: Any) -> int:
    """An integer."""
    try:
        return operator.index(given)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {given!r}") from None


def number(name: str, given: Any) -> float:
    """A real number."""
    try:
        return float(given)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {given!r}") from None


def temperatures(temperature: Array, shape: Shape, axes: Shape) -> Array:
    """The temperature of each row as float64: one number, or what broadcasts over the rows."""
    if temperature.dtype.kind not in "biuf" and not has_kernel(temperature.dtype):
        got = f"an array of {temperature.dtype!r}" if temperature.ndim else repr(temperature.item())
        raise TypeError(f"temperature must be real, got {got}")
    array = cast(temperature, np.dtype(np.float64))
    if not array.flags.aligned:  # kernels read one as a number in its place
        array = array.copy()
    coldest = array.min(initial=np.inf) if array.ndim else array.item()
    if not coldest >= 0:  # one reading of a million temperatures, not three
        value = array[~(array >= 0)].flat[0]
        raise ValueError(f"temperature must not be negative or NaN, got {value}")
    if not array.ndim:
        return array
    check_temperatures(array.shape, shape, axes)
    return broadcast("temperature", array, reduced_shape(shape, axes))


def check_temperatures(given: Shape, shape: Shape, axes: Shape) -> None:
    """Refuse temperatures that do not broadcast over the rows; if they are one a row, say how."""
    try:
        check_broadcast("temperature", given, reduced_shape(shape, axes))
    except ValueError as error:
        if given != reduced_shape(shape, axes, keepdims=False):
            raise
        index = ", ".join("None" if axis in axes else ":" for axis in range(len(shape)))
        raise ValueError(
            f"{error}: for one a row, pass temperature[{index}], "
            f"of shape {reduced_shape(shape, axes)}"
        ) from None


def check_out(out: Any, shape: Shape, result: Type, dtype: Any) -> None:
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
    if not out.flags.forc and overlaps_itself(out):
        raise ValueError(f"out must not overlap itself, got strides {out.strides}")


def overlaps_itself(array: Array | View) -> bool:
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


def within_limits(dtype: Type, temperature: Array) -> bool:
    """Whether kernels can take all these temperatures of logits of this type."""
    single = temperature.ndim == 0
    coldest = temperature.item() if single else temperature.min()
    hottest = coldest if single else temperature.max()
    # Only float64 is fine enough for a cold row, and large enough for a hot one, to be anything
    # but the limit; long double has the range for either.
    cold_limit = COLDEST if dtype.itemsize >= 8 else COLDEST_SINGLE
    return bool(coldest >= cold_limit and hottest <= HOTTEST)


def at_limits(x: Array, temperature: Array, mask: Array | None, axes: Shape) -> tuple[Array, Array]:
    """Rows at temperature 0 or infinity, or near them, as rows at one that kernels can take."""
    if within_limits(x.dtype, temperature):
        return x, temperature
    if x.dtype.kind == "c":
        raise ValueError(
            "temperature 0 and infinity have no limit for complex numbers, nor are these divided "
            f"by less than {COLDEST:.2g} or more than {HOTTEST:.2g}"
        )
    fine = x.dtype.itemsize >= 8
    frozen = temperature == 0 if fine else temperature < COLDEST_SINGLE
    molten = np.isinf(temperature) if fine else temperature > HOTTEST
    scaled = has_kernel(x.dtype) & ~(frozen | molten)
    cold = scaled & (temperature < COLDEST)
    hot = scaled & (temperature > HOTTEST)
    logits = x.astype(np.promote_types(x.dtype, np.float64))
    with np.errstate(invalid="ignore", over="ignore"):
        counted: Any = True if mask is None else mask
        top = np.max(logits, axis=axes, keepdims=True, initial=-np.inf, where=counted)
        # Infinities and NaN are at any temperature what they are.
        finite = np.isfinite(logits)
        ties = np.where(finite, np.where(logits == top, 0.0, -np.inf), logits)
        level = np.where(finite, 0.0, logits)
        # Whatever differs from a top this large differs by 2**747.
        warmed = np.where(np.abs(top) < 2.0**800, np.ldexp(logits, 200), ties)
        cooled = np.ldexp(logits, -200)
    limit = np.select([frozen, molten, cold, hot], [ties, level, warmed, cooled], logits)
    temperature = np.ldexp(temperature, 200 * cold.astype(int) - 200 * hot.astype(int))
    return limit.astype(x.dtype), np.where(frozen | molten, 1.0, temperature)
