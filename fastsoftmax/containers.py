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
# Types of which it need not be asked.
_PLAIN_TYPES = {np.ndarray, bool, int, float, complex, list, tuple}


def container_of(x: Any) -> Container:
    """Of which kind an object is."""
    if type(x) in _PLAIN_TYPES or isinstance(x, np.generic):
        return PLAIN
    return next(container for container in CONTAINERS if container.holds(x))
