"""Each kind of object that holds logits on the host: as a NumPy array, and a result as one again.

Lists, masked arrays, pandas and xarray objects and torch's tensors are known here and nowhere
else. A new kind is a class here, beside `Container`, and an entry in `CONTAINERS`.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fastsoftmax.cuda.elements import numpy_type
from fastsoftmax.loaded import is_a, torch_type, type_name

Array = np.ndarray[Any, Any]
Axes = tuple[int, ...]

# The types of which torch has tensors of real or complex numbers.
_TORCH_TYPES = {"float16", "bfloat16", "float32", "float64", "complex64", "complex128"}


class Container:
    """Arrays, lists, numbers, and whatever else NumPy reads; results are NumPy's."""

    # Whose labels these are, if they have some.
    package = ""

    def holds(self, x: Any) -> bool:
        """Whether an object is one of these."""
        return True

    def values(self, name: str, x: Any) -> Array:
        """The object as an array."""
        try:
            array = np.asarray(x)
        except ValueError as error:  # lists of different lengths, mostly
            raise ValueError(f"{name} must be an array or make one: {error}") from error
        except (TypeError, RuntimeError) as error:
            raise TypeError(
                f"{name} must be an array or make one, got {type_name(x)}: {error}"
            ) from error
        if array.dtype.kind == "O" and hasattr(x, "toarray"):
            raise TypeError(
                f"{name} must be an array or make one, got {type_name(x)}: pass {name}.toarray()"
            )
        return array

    def present(self, x: Any) -> Array | None:
        """Which elements count, by the object's own mask."""
        return None

    def labels(self, x: Any) -> dict[Any, Any] | None:
        """The pandas index of each dimension by name; None where it has none."""
        return None

    def memory(self, x: Any) -> Any:
        """An array that shares the object's memory, for ``out``; else the object itself."""
        return x

    def written(self, x: Any) -> None:
        """Tell the object that its memory was written to."""

    def check_result(self, dtype: np.dtype[Any]) -> None:
        """Refuse a type of results of which none can be made."""

    def rewrapped(self, x: Any, result: Any) -> Any:
        """A result of the input's shape, as what the input was."""
        return result

    def rewrapped_reduced(self, x: Any, result: Any, axes: Axes, keepdims: bool) -> Any:
        """A result that lost ``axes``, as what the input was."""
        return result


class Masked(Container):
    """NumPy's masked arrays."""

    def holds(self, x: Any) -> bool:
        return isinstance(x, np.ma.MaskedArray)

    def values(self, name: str, x: Any) -> Array:
        values: Array = x.data.view(np.ndarray)
        return values

    def present(self, x: Any) -> Array | None:
        # Each field of a structured array has a mask of its own; such an array is refused later.
        return None if x.dtype.names else ~np.ma.getmaskarray(x)

    def rewrapped(self, x: Any, result: Any) -> Any:
        return np.ma.MaskedArray(result, mask=np.ma.getmaskarray(x).copy())


class Pandas(Container):
    """What pandas's objects have in common."""

    package = "pandas"

    def values(self, name: str, x: Any) -> Array:
        """As `Container.values`: of several types, or NA, as numbers where they are some."""
        array = super().values(name, x)
        return _numbers(name, x, array) if array.dtype.kind == "O" else array


class Series(Pandas):
    """pandas's Series."""

    def holds(self, x: Any) -> bool:
        return is_a(x, "pandas", "Series")

    def labels(self, x: Any) -> dict[Any, Any] | None:
        return {"index": x.index}

    def rewrapped(self, x: Any, result: Any) -> Any:
        return type(x)(result, index=x.index, name=x.name)


class DataFrame(Pandas):
    """pandas's DataFrame."""

    def holds(self, x: Any) -> bool:
        return is_a(x, "pandas", "DataFrame")

    def labels(self, x: Any) -> dict[Any, Any] | None:
        return {"index": x.index, "columns": x.columns}

    def rewrapped(self, x: Any, result: Any) -> Any:
        return type(x)(result, index=x.index, columns=x.columns)

    def rewrapped_reduced(self, x: Any, result: Any, axes: Axes, keepdims: bool) -> Any:
        if keepdims or np.ndim(result) == 0:
            return result
        if result.ndim == 2:
            return self.rewrapped(x, result)
        index = x.columns if axes == (0,) else x.index
        return sys.modules["pandas"].Series(result, index=index)


class Xarray(Container):
    """xarray's DataArray."""

    package = "xarray"

    def holds(self, x: Any) -> bool:
        return is_a(x, "xarray", "DataArray")

    def labels(self, x: Any) -> dict[Any, Any] | None:
        return {dimension: x.indexes.get(dimension) for dimension in x.dims}

    def rewrapped(self, x: Any, result: Any) -> Any:
        return x.copy(data=result)

    def rewrapped_reduced(self, x: Any, result: Any, axes: Axes, keepdims: bool) -> Any:
        if keepdims or np.ndim(result) == 0:
            return result
        kept = [dimension for axis, dimension in enumerate(x.dims) if axis not in axes]
        lost = [dimension for axis, dimension in enumerate(x.dims) if axis in axes]
        coordinates = x.coords.to_dataset().drop_dims(lost, errors="ignore").coords
        return type(x)(result, coordinates, kept, x.name, x.attrs)


class Torch(Container):
    """torch's tensors in the host's memory, which NumPy shares."""

    def holds(self, x: Any) -> bool:
        return is_a(x, "torch", "Tensor")

    def values(self, name: str, x: Any) -> Array:
        if x.requires_grad:
            raise TypeError(f"{name} requires gradients, of which none come: pass {name}.detach()")
        # What is negated or conjugated where it is read has other bits in memory.
        return self._shared(name, x.resolve_conj().resolve_neg())

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
        except (TypeError, RuntimeError) as error:  # sparse, or on no device that NumPy can read
            raise TypeError(
                f"{name} must be an array or make one, got {type_name(x)}: {error}"
            ) from error

    def check_result(self, dtype: np.dtype[Any]) -> None:
        if dtype.name not in _TORCH_TYPES:
            raise TypeError(f"dtype must be one of torch's, got {dtype!r}")

    def rewrapped(self, x: Any, result: Any) -> Any:
        torch, array = sys.modules["torch"], np.asarray(result)
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    def rewrapped_reduced(self, x: Any, result: Any, axes: Axes, keepdims: bool) -> Any:
        return self.rewrapped(x, result)


# The first that holds an object has it.
CONTAINERS: tuple[Container, ...] = (
    Masked(), Series(), DataFrame(), Xarray(), Torch(), Container(),
)  # fmt: skip
PLAIN = CONTAINERS[-1]
# Types of which it need not be asked.
_PLAIN_TYPES = {np.ndarray, bool, int, float, complex, list, tuple}


def container_of(x: Any) -> Container:
    """Of which kind an object is."""
    if type(x) in _PLAIN_TYPES or isinstance(x, np.generic):
        return PLAIN
    return next(container for container in CONTAINERS if container.holds(x))


def _bits(x: Any) -> Any:
    """A tensor of 16-bit elements as one of integers, which NumPy knows."""
    return x.view(sys.modules["torch"].int16)


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
