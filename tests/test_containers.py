"""Masked arrays, pandas and xarray objects: what goes in, and what comes out."""

import itertools
import sys
import types

import numpy as np
import pandas
import pytest
import scipy.sparse
import xarray

from fastsoftmax import log_softmax, logsumexp, softmax

FUNCTIONS = [softmax, log_softmax, logsumexp]
MAPS = [softmax, log_softmax]


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


def nullable(kind):
    plain = pandas.DataFrame({"a": [1, 2], "b": [3.5, np.nan], "c": [True, False]}, list("xy"))
    if kind == "pyarrow":
        pytest.importorskip("pyarrow")
        return plain.convert_dtypes(dtype_backend="pyarrow")
    return plain if kind == "of several types" else plain.convert_dtypes()


@pytest.mark.parametrize("kind", ["nullable", "pyarrow", "of several types"])
def test_columns_of_several_types_are_numbers_and_what_is_missing_is_nan(kind):
    frame = nullable(kind)
    got = softmax(frame, axis=1)
    assert (list(got.index), list(got.columns)) == (["x", "y"], ["a", "b", "c"])
    np.testing.assert_array_equal(got.loc["x"], softmax([1.0, 3.5, 1.0]))
    assert np.isnan(got.loc["y"]).all()
    absent = frame.notna().convert_dtypes()
    np.testing.assert_array_equal(
        logsumexp(frame, axis=1, where=absent), [logsumexp([1.0, 3.5, 1.0]), logsumexp([2.0, 0.0])]
    )
    narrow = frame[["b"]].astype("Float32").assign(d=np.float32(1))
    assert softmax(narrow, axis=1).to_numpy().dtype == np.float32
    words = frame.assign(d="five")
    with pytest.raises(TypeError, match="needs real or complex numbers"):
        softmax(words, axis=1)


def test_a_mask_in_which_values_are_missing_is_refused():
    mask = pandas.DataFrame({"a": pandas.array([True, None], "boolean"), "b": [True, False]})
    with pytest.raises(ValueError, match="where must not have missing values, got 1"):
        softmax(pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}), axis=1, where=mask)
    missing = pandas.Series(pandas.array([True, None], "boolean"), list("ab"))
    with pytest.raises(ValueError, match="where must not have missing values, got 1"):
        softmax(pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}), axis=1, where=missing)


def test_an_empty_axis_of_an_xarray_is_reduced():
    labels = {"r": list("vwxy"), "size": ("r", [1, 2, 3, 4]), "of": (("r", "c"), np.zeros((4, 0)))}
    x = xarray.DataArray(np.zeros((4, 0)), labels, ("r", "c"), "logits", {"unit": "nat"})
    total = logsumexp(x, axis=1)
    xarray.testing.assert_identical(total, x.sum("c", keep_attrs=True).copy(data=[-np.inf] * 4))
    bare = xarray.DataArray(np.zeros((4, 0)), dims=("r", "c"))
    assert logsumexp(bare, axis=1).dims == ("r",)
    paired = ARRAY.stack(place=["r", "c"]).expand_dims(n=2)
    xarray.testing.assert_allclose(logsumexp(paired, axis=0), paired[0] + np.log(2.0))


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


# --- labels of operands -------------------------------------------------------------------

ROWS, COLUMNS = list("vwxyz"), [3, 1, 2]
RNG = np.random.default_rng(0)
FRAME = pandas.DataFrame(RNG.standard_normal((5, 3)), ROWS, COLUMNS)
ARRAY = xarray.DataArray(FRAME, dims=("r", "c"))


def shuffled(labelled):
    """The same with its labels in another order."""
    if isinstance(labelled, xarray.DataArray):
        return labelled.isel({d: slice(None, None, -1) for d in labelled.dims}).transpose()
    return labelled.iloc[::-1] if labelled.ndim == 1 else labelled.iloc[::-1, ::-1]


def same(got, right):
    assert type(got) is type(right)
    if isinstance(got, xarray.DataArray):
        xarray.testing.assert_identical(got, right)
    elif isinstance(got, pandas.DataFrame):
        pandas.testing.assert_frame_equal(got, right)
    elif isinstance(got, pandas.Series):
        pandas.testing.assert_series_equal(got, right)
    else:
        assert got == right


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("axis", [0, 1, None, ()])
@pytest.mark.parametrize("x", [FRAME, ARRAY], ids=["pandas", "xarray"])
def test_masks_are_matched_by_label(function, axis, x):
    mask = x > -0.5
    same(function(x, axis, where=shuffled(mask)), function(x, axis, where=mask.to_numpy()))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("axis", [0, 1, None])
def test_masks_of_one_dimension_are_matched_by_label(function, axis):
    by_column = pandas.Series([True, False, True], COLUMNS)
    same(
        function(FRAME, axis, where=shuffled(by_column)),
        function(FRAME, axis, where=by_column.to_numpy()),
    )
    same(
        function(FRAME[1], where=shuffled(FRAME[2] > 0)),
        function(FRAME[1], where=(FRAME[2] > 0).to_numpy()),
    )
    for dimension, index in (("r", np.s_[:, None]), ("c", np.s_[None, :])):
        mask = ARRAY.isel({"r": 0, "c": 0} | {dimension: slice(None)}, drop=True) > 0
        same(
            function(ARRAY, axis, where=shuffled(mask)),
            function(ARRAY, axis, where=mask.to_numpy()[index]),
        )


@pytest.mark.parametrize("axis", [0, 1])
def test_weights_are_matched_as_in_arithmetic(axis):
    weights = FRAME + 4
    for b in (weights, weights.iloc[0], weights.iloc[0].astype(int)):
        right = np.log((np.exp(FRAME) * shuffled(b)).reindex(columns=COLUMNS).sum(axis=axis))
        got = logsumexp(FRAME, axis, shuffled(b))
        pandas.testing.assert_series_equal(got, right.reindex(got.index), rtol=1e-14)
    weights = ARRAY + 4
    for b in (weights, weights[0].drop_vars("r"), weights[:, 0].drop_vars("c"), weights[2, 1]):
        right = np.log((np.exp(ARRAY) * shuffled(b)).sum(ARRAY.dims[axis]))
        got = logsumexp(ARRAY, axis, shuffled(b)).drop_vars(["r", "c"], errors="ignore")
        xarray.testing.assert_allclose(
            got, right.reindex_like(got).drop_vars(["r", "c"], errors="ignore")
        )
    column = FRAME[1]
    assert logsumexp(column, b=shuffled(column + 4)) == logsumexp(column, b=(column + 4).to_numpy())


@pytest.mark.parametrize("function", MAPS)
@pytest.mark.parametrize("axis", [0, 1])
def test_temperatures_are_matched_as_in_division(function, axis):
    labels = COLUMNS if axis == 0 else ROWS
    hot = pandas.Series(np.linspace(0.5, 2, len(labels)), labels)
    divided = FRAME.div(shuffled(hot), axis=1 - axis).reindex(index=ROWS, columns=COLUMNS)
    right = function(divided, axis)
    pandas.testing.assert_frame_equal(
        function(FRAME, axis, temperature=shuffled(hot)), right, rtol=1e-13
    )
    named = hot.to_frame("T") if axis == 1 else hot.to_frame("T").T  # one for all, by any name
    same(
        function(FRAME, axis, temperature=shuffled(named)),
        function(FRAME, axis, temperature=named.to_numpy()),
    )
    by_row = xarray.DataArray(hot, dims="c" if axis == 0 else "r")
    divided = (ARRAY / shuffled(by_row)).reindex_like(ARRAY)
    got = function(ARRAY, axis, temperature=shuffled(by_row))
    xarray.testing.assert_allclose(got, function(divided, axis), rtol=1e-13)
    kept = by_row.expand_dims(ARRAY.dims[axis])
    same(function(ARRAY, axis, temperature=shuffled(kept)), got)


@pytest.mark.parametrize("function", MAPS)
def test_a_temperature_for_each_element_or_for_all(function):
    by_column = pandas.Series([0.5, 1.0, 2.0], COLUMNS)
    same(
        function(FRAME, (), temperature=shuffled(by_column)),
        function(FRAME, (), temperature=by_column.to_numpy()),
    )
    one = pandas.Series([2.0], ["T"])
    same(function(FRAME, temperature=one), function(FRAME, temperature=2.0))
    same(function(FRAME[1], temperature=one), function(FRAME[1], temperature=2.0))
    with pytest.raises(
        ValueError, match=r"temperature of shape .* does not broadcast to .*\(1, 1\)"
    ):
        function(FRAME, temperature=by_column)
    with pytest.raises(ValueError, match="temperature must not be negative or NaN"):
        function(FRAME, 1, temperature=pandas.Series(-1.0, ROWS))


def test_three_dimensions_of_an_xarray():
    x = xarray.DataArray(
        np.random.default_rng(0).standard_normal((2, 3, 4)),
        coords={"i": [0, 1], "k": list("abcd")},
        dims=("i", "j", "k"),
    )
    t = np.abs(x.isel(j=0, drop=True)) + 0.5
    for dims in itertools.permutations("ik"):
        got = softmax(x, 1, temperature=t.transpose(*dims)[::-1, ::-1])
        xarray.testing.assert_allclose(got, softmax(x / t, 1).transpose(*x.dims))
    mask = x > 0
    for dims in itertools.permutations("ijk"):
        where = mask.transpose(*dims).sel(i=[1, 0], k=list("dcba"))
        same(softmax(x, (0, 2), where=where), softmax(x, (0, 2), where=mask.to_numpy()))


def test_what_has_no_labels_goes_by_position():
    mask = FRAME > 0
    right = softmax(FRAME.to_numpy(), 1, where=mask.to_numpy())
    for where in (mask.iloc[:, ::-1].iloc[:, ::-1], mask.to_numpy(), mask.to_numpy().tolist()):
        np.testing.assert_array_equal(softmax(FRAME, 1, where=where), right)
    other = mask.set_axis(list("abcde")).set_axis(list("ABC"), axis=1)
    for x in (FRAME.to_numpy(), FRAME.to_numpy().tolist(), np.ma.array(FRAME)):
        np.testing.assert_array_equal(softmax(x, 1, where=other), right)
    bare = xarray.DataArray(mask.to_numpy().T, dims=("c", "r"))
    np.testing.assert_array_equal(softmax(ARRAY, 1, where=bare), right)
    np.testing.assert_array_equal(
        softmax(FRAME, 1, temperature=[[1.0], [2.0], [3.0], [4.0], [5.0]]),
        softmax(FRAME.to_numpy(), 1, temperature=np.arange(1.0, 6)[:, None]),
    )


@pytest.mark.parametrize(
    ("x", "where", "words"),
    [
        (FRAME, FRAME.iloc[1:], "{where} lacks labels that {x} has along 'index': 'v'$"),
        (FRAME, FRAME[[1]], "{where} lacks labels that {x} has along 'columns': 3, 2$"),
        (FRAME, FRAME[1], "{where} lacks labels that {x} has along 'columns': 3, 1, 2$"),
        (FRAME[[1]], FRAME, "{x} lacks labels that {where} has along 'columns': 3, 2$"),
        (
            FRAME.T,
            FRAME.T[["v"]],
            "{where} lacks labels that {x} has along 'columns': 'w', 'x', 'y' and 1 more$",
        ),
        (FRAME, FRAME.iloc[[0, 0, 1, 2, 3]], "{where} has 'v' more than once"),
        (FRAME[[1, 1, 2]], FRAME, "{x} has 1 more than once"),
        (FRAME[1], FRAME, "{where} has a dimension that {x} lacks: 'columns'"),
        (ARRAY, ARRAY[1:], "{where} lacks labels that {x} has along 'r': 'v'$"),
        (ARRAY, ARRAY.rename(c="d"), "{where} has a dimension that {x} lacks: 'd'"),
        (ARRAY[0], ARRAY, "{where} has a dimension that {x} lacks: 'r'"),
        (ARRAY.drop_vars("r"), ARRAY[1:], r"{where} of shape \(4, 3\) does not broadcast"),
        (
            FRAME,
            FRAME.set_axis(pandas.MultiIndex.from_product([ROWS, [0]])),
            "{where} lacks labels that {x} has along 'index': 'v', 'w', 'x' and 2 more$",
        ),
    ],
)
def test_labels_that_cannot_be_matched(x, where, words):
    for function in MAPS:
        with pytest.raises(ValueError, match=words.format(where="where", x="x")):
            function(x, where=where > 0)
        with pytest.raises(ValueError, match=words.format(where="temperature", x="x")):
            function(x, (), temperature=abs(where))
    with pytest.raises(ValueError, match=words.format(where="where", x="a")):
        logsumexp(x, where=where > 0)
    if "broadcast" not in words:
        with pytest.raises(ValueError, match=words.format(where="b", x="a")):
            logsumexp(x, b=where)


def test_repeated_labels_that_are_the_same_need_no_matching():
    x = FRAME.set_axis(["v", "v", "w", "w", np.nan])
    mask = x > 0
    same(softmax(x, 1, where=mask), softmax(x, 1, where=mask.to_numpy()))


def test_labels_of_every_kind():
    days = pandas.date_range("2026-01-01", periods=5)
    for index in (
        pandas.MultiIndex.from_product([["a"], range(5)]),
        pandas.Index([1.5, np.nan, -1.0, np.inf, 0.0]),
        pandas.Index([1, "a", None, (2, 3), 4.5], tupleize_cols=False),
        pandas.CategoricalIndex(ROWS),
        pandas.IntervalIndex.from_tuples([(i, i + 2) for i in range(5)]),
        days,
        days.tz_localize("UTC"),
    ):
        x = FRAME.set_axis(index)
        mask = x > 0
        same(softmax(x, 1, where=mask.iloc[::-1]), softmax(x, 1, where=mask.to_numpy()))
    with pytest.raises(ValueError, match="where lacks labels"):
        softmax(FRAME.set_axis(days), where=(FRAME > 0).set_axis(days.astype(str)))


@pytest.mark.filterwarnings("ignore:Duplicate dimension names")
def test_a_dimension_that_is_there_twice():
    twice = xarray.DataArray(np.eye(3), dims=("r", "r"))
    once = xarray.DataArray(np.ones(3), dims="r")
    for x, where, name in ((twice, once, "x"), (once, twice, "where"), (twice, twice, "where")):
        with pytest.raises(ValueError, match=f"{name} must not have a dimension twice"):
            softmax(x, where=where > 0)


@pytest.mark.parametrize("package", ["pandas", "xarray"])
def test_packages_that_another_thread_is_importing(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    np.testing.assert_array_equal(softmax([1.0, 1.0], where=[True, True]), [0.5, 0.5])


def test_labels_of_two_kinds():
    with pytest.raises(TypeError, match=r"where is a xarray.*DataArray and x a pandas.*DataFrame,"):
        softmax(FRAME, where=ARRAY > 0)
    with pytest.raises(TypeError, match=r"whose labels cannot be matched: pass b.to_numpy\(\)"):
        logsumexp(ARRAY, b=FRAME)


# --- what NumPy cannot read --------------------------------------------------------------


class NeedsGradient:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Use tensor.detach().numpy() instead.")


@pytest.mark.parametrize(
    ("unread", "words"),
    [
        (scipy.sparse.csr_matrix(np.eye(3)), r"scipy\.sparse\S*\.csr_matrix: pass {}\.toarray\(\)"),
        (scipy.sparse.csr_array(np.eye(3)), r"scipy\.sparse\S*\.csr_array: pass {}\.toarray\(\)"),
        (scipy.sparse.coo_array(np.eye(3)), r"scipy\.sparse\S*\.coo_array: pass {}\.toarray\(\)"),
        (NeedsGradient(), r"\S*\.NeedsGradient: Use tensor\.detach\(\)"),
    ],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_numpy_cannot_read_is_refused_by_name(function, unread, words):
    x = np.ones((3, 3))
    first, extra = ("a", "b") if function is logsumexp else ("x", "temperature")
    for name, call in (
        (first, lambda: function(unread)),
        ("where", lambda: function(x, where=unread)),
        (extra, lambda: function(x, **{extra: unread})),
    ):
        refusal = f"^{name} must be an array or make one, got {words.format(name)}"
        with pytest.raises(TypeError, match=refusal):
            call()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_masked_structured_array_is_refused(function):
    x = np.ma.array([(1, 2.0)], dtype=[("n", "i4"), ("v", "f8")])
    with pytest.raises(TypeError, match=f"{function.__name__} needs real or .*'n', '<i4'"):
        function(x)
    with pytest.raises(TypeError, match="where must not be a masked array: fill it, or mask"):
        function(np.ones(1), where=x)
