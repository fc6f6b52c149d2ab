"""Every kind of container: the bits of its numbers, and out comes what went in."""

from collections.abc import Callable
from typing import Any, NamedTuple

import dask.array
import dask.dataframe
import numpy as np
import pandas
import polars
import pyarrow
import pytest
import scipy.sparse
import xarray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastsoftmax import entropy, log_softmax, logsumexp, softmax
from fastsoftmax.container import Refused
from fastsoftmax.containers import CONTAINERS, container_of

try:
    import sparse
except ImportError:  # which few have
    sparse = None

MAPS = [softmax, log_softmax]
FUNCTIONS = [softmax, log_softmax, logsumexp, entropy]


class Example(NamedTuple):
    """How numbers become such an object, and it numbers; what it has beside them."""

    make: Callable[[Any], Any]
    numbers: Callable[[Any], Any] = np.asarray
    labels: Callable[[Any], Any] = type
    ndims: tuple[int, ...] = (1, 2, 3)
    types: tuple[str, ...] = ("float32", "float64", "int32")


FLOATS = ("float32", "float64")
ROWS = list("zyxwvut")


def names(count):
    return [f"class {place}" for place in range(count)]


def series(values, dtype=None):
    made = pandas.Series(values, ROWS[: len(values)], dtype, "logits")
    made.attrs["unit"] = "nat"
    return made


def frame(values, dtype=None):
    made = pandas.DataFrame(values, ROWS[: len(values)], names(values.shape[1]), dtype)
    made.attrs["unit"] = "nat"
    return made


def of_pandas(x):
    labels = [list(x.index), x.attrs]
    if x.ndim == 2:
        return [*labels, list(x.columns), [type(dtype) for dtype in x.dtypes]]
    return [*labels, x.name, type(x.dtype)]


def of_an_extension(kind):
    def make(values):
        name = {"int32": "Int32", "float32": "Float32", "float64": "Float64"}[values.dtype.name]
        arrow = pandas.ArrowDtype(pyarrow.from_numpy_dtype(values.dtype))
        return (series if values.ndim == 1 else frame)(values, arrow if kind == "arrow" else name)

    return make


def data_array(values):
    dims = ["row", "class", "draw"][: values.ndim]
    coordinates = {"row": ROWS[: len(values)], "size": ("row", np.arange(len(values))), "at": 3}
    return xarray.DataArray(values, coordinates, dims, "logits", {"unit": "nat"})


def data_set(values):
    return xarray.Dataset({"a": data_array(values), "b": data_array(values)}, attrs={"by": "me"})


def of_data_array(x):
    return x.dims, x.name, x.attrs, {name: x[name].values.tolist() for name in x.coords}


def of_data_set(x):
    return x.attrs, sorted(x.data_vars), {name: x[name].values.tolist() for name in x.coords}


def numbers_of_lists(x):
    return np.array(x.to_pylist(), dtype=float)


def list_array(values):
    if values.ndim == 1:
        return pyarrow.array(values)
    kind = pyarrow.from_numpy_dtype(values.dtype)
    for size in values.shape[:0:-1]:
        kind = pyarrow.list_(kind, size)
    return pyarrow.array(values.tolist(), kind)


def later_slice(values):
    return list_array(np.concatenate([values, values]))[len(values) :]


def chunks(values):
    return pyarrow.chunked_array([list_array(values[:1]), list_array(values[1:])])


def of_lists(x):
    kind, sizes = x.type, []
    while pyarrow.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size)
        kind = kind.value_type
    return isinstance(x, pyarrow.ChunkedArray), sizes


def named_tensors(values):
    storage = list_array(values.reshape(len(values), -1))
    number = storage.type.value_type
    kind = pyarrow.fixed_shape_tensor(number, values.shape[1:], ["row", "class"])
    return pyarrow.ExtensionArray.from_storage(kind, storage)


def from_ndarray(values):
    return pyarrow.FixedShapeTensorArray.from_numpy_ndarray(values)


def to_ndarray(x):
    return x.to_numpy_ndarray()


def of_tensors(x):
    return x.type.shape, x.type.dim_names


def tensor(values):
    return pytest.importorskip("torch").from_numpy(values.copy())


EXAMPLES = {
    "Masked": [Example(lambda values: np.ma.MaskedArray(values, fill_value=-7), np.ma.getdata,
                       lambda x: (np.ma.getmaskarray(x).tolist(), x.fill_value))],
    "Series": [
        Example(series, labels=lambda x: (list(x.index), x.name, x.attrs), ndims=(1,)),
        Example(of_an_extension("nullable"), labels=of_pandas, ndims=(1,), types=FLOATS),
        Example(of_an_extension("arrow"), labels=of_pandas, ndims=(1,), types=FLOATS),
    ],
    "DataFrame": [
        Example(frame, labels=lambda x: (list(x.index), list(x.columns), x.attrs), ndims=(2,)),
        Example(of_an_extension("nullable"), labels=of_pandas, ndims=(2,), types=FLOATS),
        Example(of_an_extension("arrow"), labels=of_pandas, ndims=(2,), types=FLOATS),
    ],
    "DataArray": [Example(data_array, labels=of_data_array)],
    "Dataset": [Example(data_set, lambda x: np.asarray(x["a"]), of_data_set)],
    "PolarsSeries": [
        Example(lambda values: polars.Series("logits", values), lambda x: x.to_numpy(),
                lambda x: (type(x), x.name)),
    ],
    "PolarsDataFrame": [
        Example(lambda values: polars.DataFrame(values, names(values.shape[1]), orient="row"),
                lambda x: x.to_numpy(), lambda x: (type(x), x.columns), ndims=(2,)),
    ],
    "Torch": [Example(tensor)],
    "Arrow": [
        Example(list_array, numbers_of_lists, of_lists),
        Example(later_slice, numbers_of_lists, of_lists),
        Example(chunks, numbers_of_lists, of_lists),
        Example(from_ndarray, to_ndarray, of_tensors, ndims=(2, 3)),
        Example(named_tensors, to_ndarray, of_tensors, ndims=(3,)),
    ],
    "Container": [Example(np.asarray), Example(np.ndarray.tolist, labels=lambda x: None,
                                               types=("float64",))],
}  # fmt: skip
CASES = [
    pytest.param(kind, example, id=f"{kind}-{place}")
    for kind, examples in EXAMPLES.items()
    for place, example in enumerate(examples)
]


def test_every_kind_that_is_known_has_an_example():
    kinds = {type(each).__name__ for each in CONTAINERS if not isinstance(each, Refused)}
    assert kinds == set(EXAMPLES)
    refused = [each for each in CONTAINERS if isinstance(each, Refused)]
    untried = [each.module for each in refused if each not in [container_of(x) for x, _ in REFUSED]]
    assert untried == ([] if sparse else ["sparse"])


@pytest.mark.parametrize(("kind", "example"), CASES)
def test_the_bits_are_those_of_the_numbers_and_the_labels_come_back(kind, example):
    settings_ = settings(
        max_examples=15, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip

    @settings_
    @given(st.data())
    def run(data):
        ndim = data.draw(st.sampled_from(example.ndims))
        shape = tuple(data.draw(st.integers(1, 6)) for _ in range(ndim))
        dtype = data.draw(st.sampled_from(example.types))
        seed = data.draw(st.integers(0, 2**32 - 1))
        axis = data.draw(st.sampled_from([None, *range(-ndim, ndim)]))
        values = (np.random.default_rng(seed).standard_normal(shape) * 5).astype(dtype)
        x = example.make(values)
        assert type(container_of(x)).__name__ == kind
        along = {"axis": axis}
        if kind == "Dataset":
            along = {"dim": ... if axis is None else x["a"].dims[axis]}
        for function in MAPS:
            right, got = function(values, axis), function(x, **along)
            assert example.labels(got) == example.labels(x)
            assert_same(example.numbers(got), right)
        for function, options in ((logsumexp, {}), (logsumexp, {"keepdims": True}), (entropy, {})):
            right, got = function(values, axis, **options), function(x, **along, **options)
            if np.ndim(right) == 0 and kind in ("Dataset", "DataArray"):
                assert type(got) is type(x)
            assert_same(numbers_of(example, got), right)

    run()


def numbers_of(example, got):
    """The numbers of a result that lost an axis, which may be of another class."""
    if isinstance(got, xarray.Dataset):
        return np.asarray(got["a"])
    if isinstance(got, pyarrow.Array | pyarrow.ChunkedArray):
        return numbers_of_lists(got)
    return got.to_numpy() if isinstance(got, polars.DataFrame) else np.asarray(got)


def assert_same(got, right):
    np.testing.assert_array_equal(np.reshape(got, np.shape(right)), right)


class Proxy:
    """As packages have that load or lock what they stand for: of its class, in name."""

    def __init__(self, of):
        self.of = of

    @property
    def __class__(self):
        return type(self.of)

    def __getattr__(self, name):
        return getattr(self.of, name)


def test_a_proxy_is_what_it_stands_for():
    masked, frame = np.ma.MaskedArray([1.0]), pandas.DataFrame([[1.0]])
    for x in (masked, frame, masked):
        assert container_of(Proxy(x)) is container_of(x)


# --- what is refused ----------------------------------------------------------------------

FRAME = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
REFUSED = [
    (polars.LazyFrame({"a": [1.0]}), "{}.collect()"),
    (dask.array.ones(3), "{}.compute()"),
    (dask.dataframe.from_pandas(FRAME, 1), "{}.compute()"),
    (dask.dataframe.from_pandas(FRAME, 1).a, "{}.compute()"),
    (pyarrow.table({"a": [1.0]}), "polars.from_arrow({0}), or {0}.to_pandas()"),
    (pyarrow.record_batch({"a": [1.0]}), "polars.from_arrow({0}), or {0}.to_pandas()"),
    (scipy.sparse.csr_matrix(np.eye(2)), "{}.toarray()"),
    (scipy.sparse.coo_array(np.eye(2)), "{}.toarray()"),
]
if sparse:
    REFUSED.append((sparse.COO(np.eye(2)), "{}.todense()"))


@pytest.mark.parametrize(("x", "advice"), REFUSED, ids=lambda x: type(x).__qualname__)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_lazy_or_sparse_is_refused_by_name_with_what_to_pass(function, x, advice):
    name = "a" if function is logsumexp else "x"
    for options in ({}, {"dim": "c"}):
        with pytest.raises(TypeError) as raised:
            function(x, **options)
        assert str(raised.value).startswith(f"{name} must be an array or make one, got ")
        assert str(raised.value).endswith(f"{type(x).__qualname__}: pass {advice.format(name)}")
    with pytest.raises(TypeError, match=r"^where must be an array or make one, got .*: pass "):
        function(np.zeros((2, 2)), where=x)
    with pytest.raises(TypeError, match=r"^out must be a plain NumPy array, got "):
        softmax(np.zeros((2, 2)), out=x)
