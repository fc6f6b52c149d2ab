"""Masked arrays, pandas and xarray objects: what goes in, and what comes out."""

import numpy as np
import pandas
import xarray

from fastsoftmax import log_softmax, logsumexp, softmax


def test_masked_arrays_come_back_masked():
    data = np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0], [1.0, 1.0, 1.0]])
    x = np.ma.MaskedArray(data, mask=[[0, 0, 1], [0, 1, 0], [1, 1, 1]])
    got = softmax(x, axis=1)
    assert isinstance(got, np.ma.MaskedArray)
    np.testing.assert_array_equal(got.mask, x.mask)
    np.testing.assert_array_equal(got.data, softmax(data, axis=1, where=~x.mask))
    total = logsumexp(x, axis=1)
    np.testing.assert_array_equal(total.mask, [False, False, True])
    np.testing.assert_array_equal(total.compressed(), logsumexp(data, axis=1, where=~x.mask)[:2])
    assert logsumexp(x) == logsumexp(data, where=~x.mask)
    assert logsumexp(x[2]) is np.ma.masked
    both = softmax(x, axis=1, where=[True, False, True])
    np.testing.assert_array_equal(both.data[1], [*softmax([4.0, 6.0])[:1], 0, both.data[1, 2]])


def test_pandas_objects_keep_their_labels():
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0], "c": [0.0, 0.0]}, index=["x", "y"])
    got = softmax(frame, axis=1)
    assert list(got.columns) == ["a", "b", "c"]
    assert list(got.index) == ["x", "y"]
    np.testing.assert_array_equal(got.to_numpy(), softmax(frame.to_numpy(), axis=1))
    assert list(logsumexp(frame, axis=1).index) == ["x", "y"]
    assert list(logsumexp(frame, axis=0).index) == ["a", "b", "c"]
    assert logsumexp(frame) == logsumexp(frame.to_numpy())
    assert list(logsumexp(frame, axis=()).columns) == ["a", "b", "c"]
    series = pandas.Series([1, 2, 3], index=list("pqr"), name="logits")
    got = log_softmax(series)
    assert got.name == "logits"
    assert list(got.index) == list("pqr")
    mask = pandas.Series([True, False, True], index=list("pqr"))
    assert softmax(series, where=mask)["q"] == 0


def test_xarray_objects_keep_their_labels():
    x = xarray.DataArray(
        np.random.default_rng(0).standard_normal((2, 3)),
        dims=("row", "class"),
        coords={"class": ["a", "b", "c"]},
        attrs={"unit": "nat"},
    )
    got = softmax(x, axis=1)
    assert got.dims == x.dims
    assert list(got["class"].values) == ["a", "b", "c"]
    np.testing.assert_array_equal(got.values, softmax(x.values, axis=1))
    total = logsumexp(x, axis=0)
    assert total.dims == ("class",)
    np.testing.assert_array_equal(total.values, logsumexp(x.values, axis=0))
