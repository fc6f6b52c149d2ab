"""The one table of what holds logits on the host: a new kind is a class, and an entry here.

Objects are known by their classes where a program has imported these; nothing is imported here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastsoftmax.container import Container, Masked, Refused
from fastsoftmax.frames import DataFrame, PolarsDataFrame, PolarsSeries, Series
from fastsoftmax.named import DataArray, Dataset
from fastsoftmax.tensors import Arrow, Torch

# The first that holds an object has it.
CONTAINERS: tuple[Container, ...] = (
    Masked(),
    Series(),
    DataFrame(),
    DataArray(),
    Dataset(),
    PolarsSeries(),
    PolarsDataFrame(),
    Torch(),
    Arrow(),
    Refused("polars", ("LazyFrame",), "{}.collect()"),
    Refused("dask.array", ("Array",), "{}.compute()"),
    Refused("dask.dataframe", ("DataFrame", "Series"), "{}.compute()"),
    Refused("pyarrow", ("Table", "RecordBatch"), "polars.from_arrow({0}), or {0}.to_pandas()"),
    Refused("scipy.sparse", ("spmatrix", "sparray"), "{}.toarray()"),
    Refused("sparse", ("SparseArray",), "{}.todense()"),
    Container(),
)  # fmt: skip
PLAIN = CONTAINERS[-1]
# Of which kind the objects of a class were found to be.
_FOUND: dict[type, Container] = dict.fromkeys(
    (np.ndarray, np.memmap, bool, int, float, complex, list, tuple), PLAIN
)


def container_of(x: Any) -> Container:
    """Of which kind an object is."""
    found = _FOUND.get(type(x))
    if found is not None:
        return found
    if isinstance(x, np.generic):
        return PLAIN
    container = next(container for container in CONTAINERS if container.holds(x))
    # Not of what is PLAIN as long as its package is being imported, nor of proxies for any class.
    if container is not PLAIN and x.__class__ is type(x):
        _FOUND[type(x)] = container
    return container
