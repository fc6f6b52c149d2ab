"""The types of elements on a device, by NumPy's names: there, bfloat16 needs no package."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastsoftmax.loaded import is_a, torch_type

# The types that kernels know, with the bytes of an element.
SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
# Minus infinity in each of them.
ABSENT = {
    "float16": np.uint16(0xFC00),
    "bfloat16": np.uint16(0xFF80),
    "float32": np.float32(-np.inf),
    "float64": np.float64(-np.inf),
}


def is_integer(dtype: str) -> bool:
    """Whether numbers of this type are computed as float64."""
    return dtype == "bool" or dtype.startswith(("int", "uint"))


def floating(name: str, dtype: str) -> str:
    """The type that logits are computed in: their own, float64 for integers and booleans."""
    if dtype in SIZES:
        return dtype
    if is_integer(dtype):
        return "float64"
    raise TypeError(f"{name} must hold {', '.join(SIZES)} or integers on a GPU, got {dtype}")


def result_type(computed: str, dtype: Any) -> str:
    """The result's type: ``dtype`` where it was given."""
    if dtype is None:
        return computed
    if is_a(dtype, "torch", "dtype"):
        name = torch_type(dtype)
    elif isinstance(dtype, str) and dtype in SIZES:
        name = dtype
    else:
        try:
            name = np.dtype(dtype).newbyteorder("=").name
        except TypeError:
            name = ""
    if name not in SIZES:
        raise TypeError(f"dtype must be {', '.join(SIZES)} or None on a GPU, got {dtype!r}")
    return name


def wider(a: str, b: str) -> str:
    """The type for values of both."""
    if {a, b} == {"float16", "bfloat16"}:
        return "float32"
    return max(a, b, key=SIZES.__getitem__)


def numpy_type(name: str) -> np.dtype[Any]:
    """NumPy's type of a name; bfloat16 is one with ml_dtypes."""
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise TypeError("bfloat16 needs ml_dtypes here: pip install ml_dtypes") from None
        name = ml_dtypes.bfloat16
    return np.dtype(name)
