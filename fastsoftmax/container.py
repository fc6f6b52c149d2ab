"""What every kind of object that holds logits on the host can be asked, and NumPy's own kinds."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from fastsoftmax.loaded import is_a, type_name

Array = np.ndarray[Any, Any]
Axes = tuple[int, ...]


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
            raise unreadable(name, x, error) from error
        if array.dtype.kind == "O" and hasattr(x, "toarray"):
            raise unreadable(name, x, f"pass {name}.toarray()")
        return array

    def parts(self, name: str, x: Any, axis: Any, dim: Any) -> dict[Any, Any] | None:
        """The arrays, by name, that an object has in itself; None for one that is an array."""
        return None

    def together(self, x: Any, results: dict[Any, Any]) -> Any:
        """The results for an object's `parts` as what it was."""
        raise NotImplementedError  # only objects with parts are asked

    def axis(self, name: str, x: Any, axis: Any, dim: Any) -> Any:
        """What the caller gave as ``axis``, or as ``dim``, by number."""
        if dim is not None:
            raise TypeError(
                f"dim is for what has named dimensions, and {name} is a {type_name(x)}: pass axis"
            )
        return axis

    def present(self, x: Any) -> Array | None:
        """Which elements count, by the object's own mask."""
        return None

    def labels(self, x: Any) -> dict[Any, Any] | None:
        """The labels of each dimension by its name; None where the object has none.

        They are an index of pandas's, a tuple of names, or None for a dimension without labels.
        """
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
        return self.rewrapped_reduced(x, result, (), False, None)

    def resized(self, x: Any, result: Array, axis: int) -> Any:
        """A result that counts something else along an axis, as goes with the input."""
        return result

    def single(self, x: Any, result: Any) -> Any:
        """One number of a whole input, as goes with the input."""
        return result

    def rewrapped_reduced(
        self, x: Any, result: Any, axes: Axes, keepdims: bool, present: Array | None
    ) -> Any:
        """A result that lost ``axes``, or has them at length 1, as what the input was.

        ``present``: which elements counted, where some did not.
        """
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
        if x is np.ma.masked:  # the one number that is masked, which others compare with by `is`
            return x
        return _masked(x, result, np.ma.getmaskarray(x).copy())

    def rewrapped_reduced(
        self, x: Any, result: Any, axes: Axes, keepdims: bool, present: Array | None
    ) -> Any:
        assert present is not None  # it has a mask of its own
        absent: Any = ~present.any(axis=axes, keepdims=keepdims)
        if np.ndim(result) == 0:
            return np.ma.masked if absent else result
        return _masked(x, result, absent)


class Refused(Container):
    """Objects of classes that hold logits as no array: refused by name, with what to pass."""

    def __init__(self, module: str, names: tuple[str, ...], advice: str) -> None:
        self.module, self._names, self._advice = module, names, advice

    def holds(self, x: Any) -> bool:
        return is_a(x, self.module, *self._names)

    def values(self, name: str, x: Any) -> NoReturn:
        raise unreadable(name, x, "pass " + self._advice.format(name))

    def axis(self, name: str, x: Any, axis: Any, dim: Any) -> NoReturn:
        self.values(name, x)


def unreadable(name: str, x: Any, why: object) -> TypeError:
    """The error for an object of which no array can be made."""
    return TypeError(f"{name} must be an array or make one, got {type_name(x)}: {why}")


def _masked(x: Any, result: Array, mask: Array) -> Any:
    """A masked array, with the number that another one is filled with, if a caller chose it."""
    made: Any = np.ma.MaskedArray(result, mask)
    if x.dtype.kind not in "biufc" or not np.can_cast(x.dtype, result.dtype, "same_kind"):
        return made
    chosen = x.fill_value
    if chosen != np.ma.default_fill_value(x.dtype):  # NaN, too, is another than the default
        with np.errstate(over="ignore"):
            fill = np.asarray(chosen).astype(result.dtype)
        if np.isfinite(fill) or not np.isfinite(chosen):  # else it is beyond the result's range
            made.fill_value = fill
    return made
