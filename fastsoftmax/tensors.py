"""Arrays of other libraries on the host, whose memory NumPy shares: torch's and pyarrow's."""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastsoftmax.container import Array, Axes, Container, unreadable
from fastsoftmax.cuda.elements import numpy_type
from fastsoftmax.loaded import is_a, torch_type

# The types of which torch has tensors of real or complex numbers, and Arrow arrays.
_TORCH_TYPES = {"float16", "bfloat16", "float32", "float64", "complex64", "complex128"}
_ARROW_TYPES = {"float16", "float32", "float64"}


class Torch(Container):
    """torch's tensors in the host's memory, which NumPy shares."""

    def holds(self, x: Any) -> bool:
        return is_a(x, "torch", "Tensor")

    def values(self, name: str, x: Any) -> Array:
        if x.requires_grad:
            raise TypeError(f"{name} requires gradients, of which none come: pass {name}.detach()")
        if x.layout is not sys.modules["torch"].strided:
            raise unreadable(name, x, f"of layout {x.layout}: pass {name}.to_dense()")
        # What is negated or conjugated where it is read has other bits in memory.
        return self._shared(name, x.resolve_conj().resolve_neg())

    def axis(self, name: str, x: Any, axis: Any, dim: Any) -> Any:
        """As `Container.axis`; torch calls the number of an axis ``dim``, here and on a GPU."""
        if dim is None:
            return axis
        try:
            numbers = [
                operator.index(each) for each in (dim if isinstance(dim, tuple | list) else [dim])
            ]
        except TypeError:
            raise TypeError(
                f"dim must be an int or several where {name} is a tensor, got {dim!r}"
            ) from None
        count = max(x.ndim, 1)  # as of axes: a scalar has one
        for number in numbers:
            if not -count <= number < count:
                raise np.exceptions.AxisError(number, x.ndim, "dim")
        if len({number % count for number in numbers}) != len(numbers):
            raise ValueError(f"dim must not name a dimension twice, got {dim!r}")
        return tuple(numbers)

    def memory(self, x: Any) -> Any:
        if x.requires_grad:
            raise TypeError("out requires gradients, of which none come: pass out.detach()")
        return self._shared("out", x)

    def written(self, x: Any) -> None:
        """As `Container.written`: gradients through what was there before are refused by torch."""
        sys.modules["torch"].autograd.graph.increment_version(x)

    def _shared(self, name: str, x: Any) -> Array:
        """The memory of a tensor as an array."""
        try:
            if torch_type(x.dtype) == "bfloat16":
                return _bits(x).numpy().view(numpy_type("bfloat16"))  # type: ignore[no-any-return]
            return x.numpy()  # type: ignore[no-any-return]
        except (TypeError, RuntimeError) as error:  # on no device that NumPy can read
            raise unreadable(name, x, error) from error

    def check_result(self, dtype: np.dtype[Any]) -> None:
        if dtype.name not in _TORCH_TYPES:
            raise TypeError(f"dtype must be one of torch's, got {dtype!r}")

    def rewrapped_reduced(
        self, x: Any, result: Any, axes: Axes, keepdims: bool, present: Array | None
    ) -> Any:
        torch, array = sys.modules["torch"], np.asarray(result)
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    def resized(self, x: Any, result: Array, axis: int) -> Any:
        return self.rewrapped(x, result)

    def single(self, x: Any, result: Any) -> Any:
        return self.rewrapped(x, result)


def _bits(x: Any) -> Any:
    """A tensor of 16-bit elements as one of integers, which NumPy knows."""
    return x.view(sys.modules["torch"].int16)


class Arrow(Container):
    """pyarrow's arrays of numbers, of lists of one length, and of tensors; nulls count as NaN.

    Several dimensions are lists in lists. One number is NumPy's.
    """

    def holds(self, x: Any) -> bool:
        return is_a(x, "pyarrow", "Array", "ChunkedArray")

    def values(self, name: str, x: Any) -> Array:
        whole = x.combine_chunks() if _is_chunked(x) else x
        if _is_chunked(whole):  # what one array cannot hold
            return np.concatenate([self._array(name, chunk) for chunk in whole.chunks])
        return self._array(name, whole)

    def _array(self, name: str, x: Any) -> Array:
        pyarrow = sys.modules["pyarrow"]
        kinds = pyarrow.types
        if _has_tensors(x):
            whole = self._lists(name, x.storage).reshape(len(x), *x.type.shape)
            return whole.transpose(0, *(1 + place for place in _order(x)))
        if kinds.is_fixed_size_list(x.type):
            return self._lists(name, x)
        if kinds.is_list(x.type) or kinds.is_large_list(x.type):
            as_one = f"{name}.cast(pyarrow.list_({name}.type.value_type, length))"
            raise TypeError(f"{name} has lists that may differ in length, {x.type}: pass {as_one}")
        is_bool = kinds.is_boolean(x.type)
        if not (is_bool or kinds.is_integer(x.type) or kinds.is_floating(x.type)):
            raise TypeError(f"{name} must hold numbers, got an array of pyarrow's {x.type}")
        if x.null_count and name == "where":
            raise ValueError(f"where must not have missing values, got {x.null_count}")
        if is_bool and x.null_count:
            x = x.cast(pyarrow.int8()).cast(pyarrow.float64())
        # Bits, and nulls as NaN, take a copy.
        copied = is_bool or x.null_count > 0
        return x.to_numpy(zero_copy_only=not copied)  # type: ignore[no-any-return]

    def _lists(self, name: str, x: Any) -> Array:
        """Lists of one length as rows; where a list is null, the row is NaN."""
        size = x.type.list_size
        # All that lies there, null or not; `flatten` would leave out lists that are null.
        values = x.values[x.offset * size : (x.offset + len(x)) * size]
        missing = x.is_null().to_numpy(zero_copy_only=False) if x.null_count else None
        if missing is not None and name == "where":
            raise ValueError(f"where must not have missing values, got {x.null_count}")
        array = self._array(name, values)
        rows = array.reshape(len(x), size, *array.shape[1:])
        if missing is None:
            return rows
        return np.where(missing.reshape(-1, *[1] * (rows.ndim - 1)), _nan_for(rows.dtype), rows)

    def check_result(self, dtype: np.dtype[Any]) -> None:
        if dtype.name not in _ARROW_TYPES:
            raise TypeError(f"dtype must be one of pyarrow's, got {dtype!r}")

    def rewrapped_reduced(
        self, x: Any, result: Any, axes: Axes, keepdims: bool, present: Array | None
    ) -> Any:
        pyarrow = sys.modules["pyarrow"]
        if np.ndim(result) == 0:
            return result
        if _has_tensors(x) and result.ndim > 1:
            made = _tensors_of(result, _names(x, axes, keepdims))
        else:
            made = _lists_of(result)
        return pyarrow.chunked_array([made]) if _is_chunked(x) else made


def _is_chunked(x: Any) -> bool:
    return is_a(x, "pyarrow", "ChunkedArray")


def _has_tensors(x: Any) -> bool:
    return is_a(x.type, "pyarrow", "FixedShapeTensorType")


def _nan_for(dtype: np.dtype[Any]) -> Any:
    """NaN that leaves a type of numbers its own where it has one."""
    return dtype.type(np.nan) if dtype.kind == "f" else np.float64(np.nan)


def _names(x: Any, axes: Axes, keepdims: bool) -> list[str] | None:
    """The names of the dimensions that a result for an array of tensors has, beside its first."""
    names = x.type.dim_names
    if names is None:
        return None
    whole = ["", *(names[place] for place in _order(x))]
    return [name for axis, name in enumerate(whole) if keepdims or axis not in axes][1:]


def _order(x: Any) -> Sequence[int]:
    """Where each dimension of the tensors in an array is among those of their memory."""
    order = x.type.permutation
    return range(len(x.type.shape)) if order is None else order


def _tensors_of(result: Array, names: list[str] | None) -> Any:
    """An array as one of Arrow's, of tensors, without a copy."""
    pyarrow = sys.modules["pyarrow"]
    storage = _lists_of(result.reshape(len(result), -1))
    kind = pyarrow.fixed_shape_tensor(storage.type.value_type, result.shape[1:], names)
    return pyarrow.ExtensionArray.from_storage(kind, storage)


def _lists_of(result: Array) -> Any:
    """An array as Arrow's, of lists of lists where it has several dimensions, without a copy."""
    pyarrow = sys.modules["pyarrow"]
    made = pyarrow.array(np.ravel(result))
    for axis in range(result.ndim - 1, 0, -1):
        kind = pyarrow.list_(made.type, result.shape[axis])
        length = int(np.prod(result.shape[:axis]))
        made = pyarrow.Array.from_buffers(kind, length, [None], children=[made])
    return made
