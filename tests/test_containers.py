"""Masked arrays, pandas and xarray objects: what goes in, and what comes out."""

import itertools
import sys
import types

import ml_dtypes
import numpy as np
import pandas
import polars
import pyarrow
import pytest
import scipy.sparse
import xarray

from fastsoftmax import entropy, log_softmax, logsumexp, softmax
from fastsoftmax.cpu import plan

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
    with pytest.raises(TypeError, match=r"x must hold numbers, got (str|object) in column 'd'"):
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
    if isinstance(got, xarray.DataArray | xarray.Dataset):
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


def test_a_masked_array_keeps_what_it_is_filled_with_where_that_can_be():
    data = [[1.0, 2.0], [3.0, 4.0]]
    x = np.ma.MaskedArray(data, mask=[[0, 1], [1, 1]], fill_value=-1.0)
    np.testing.assert_array_equal(softmax(x, axis=1).filled(), [[1, -1], [-1, -1]])
    for got in (logsumexp(x, axis=1), entropy(x, axis=1), logsumexp(x, axis=1, b=[1.0, 2.0])):
        assert got.fill_value == -1
    assert softmax(x.astype(np.int8), axis=1).fill_value == -1
    x.fill_value = np.nan
    assert np.isnan(softmax(x, axis=1, dtype=np.float16).fill_value)
    x.fill_value = 1e300  # no float16 can say that
    plain = np.ma.MaskedArray(data, dtype=np.float16)
    assert softmax(x, axis=1, dtype=np.float16).fill_value == plain.fill_value
    assert softmax(np.ma.MaskedArray([1, 2])).fill_value == np.ma.MaskedArray([1.0]).fill_value


# --- pandas -------------------------------------------------------------------------------


def test_reduced_dimensions_that_are_kept_keep_pandas_labels():
    frame = pandas.DataFrame([[1.0, 2.0], [3.0, 5.0], [0.0, 0.0]], list("xyz"), ["a", "b"])
    frame.attrs["unit"] = "nat"
    rows, columns = logsumexp(frame, axis=1), logsumexp(frame, axis=0)
    same(logsumexp(frame, axis=1, keepdims=True), rows.to_frame())
    same(logsumexp(frame, axis=0, keepdims=True), columns.to_frame().T)
    for got in (rows, logsumexp(frame, axis=1, keepdims=True)):
        assert got.attrs == {"unit": "nat"}
    whole = logsumexp(frame, keepdims=True)
    same(whole, pandas.DataFrame([[logsumexp(frame)]]))
    series = frame["a"]
    same(logsumexp(series, keepdims=True), pandas.Series([logsumexp(series)], name="a"))
    same(logsumexp(series, axis=()), series)
    value, sign = logsumexp(frame, axis=1, keepdims=True, b=-1.0, return_sign=True)
    same(value, rows.to_frame())
    same(sign, pandas.DataFrame(-1.0, list("xyz"), [0]))


@pytest.mark.parametrize("function", [*FUNCTIONS, entropy])
def test_axes_by_pandas_names(function):
    for name, axis in (("columns", 1), ("index", 0), ("rows", 0), (("index", "columns"), None)):
        same(function(FRAME, axis=name), function(FRAME, axis=axis))
    same(function(FRAME[1], axis="index"), function(FRAME[1], axis=0))
    words = "axis must be a number or one of pandas's names, 'index', 'rows'{}: got '{}'$"
    with pytest.raises(ValueError, match=words.format(", 'columns'", "column")):
        function(FRAME, axis="column")
    with pytest.raises(ValueError, match=words.format("", "columns")):
        function(FRAME[1], axis="columns")


@pytest.mark.parametrize(
    ("narrow", "wide"), [("Float32", "Float64"), ("float[pyarrow]", "double[pyarrow]")]
)
def test_results_are_nullable_or_arrows_where_all_columns_are(narrow, wide):
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": [1.5, 2.5, 3.5]}, list("xyz")).astype(narrow)
    frame.loc["y", "a"] = pandas.NA
    got = softmax(frame, axis=1)
    assert list(map(str, got.dtypes)) == [narrow, narrow]
    assert got.loc["y"].isna().all()
    right = softmax(frame.loc["x"].to_numpy(np.float32))
    assert (got.loc["x"].to_numpy(np.float32) == right).all()
    left = softmax(frame, axis=1, where=~frame.isna())
    assert left.loc["y"].tolist() == [0, 1]
    total = logsumexp(frame, axis=1)
    assert (str(total.dtype), list(total.index)) == (narrow, list("xyz"))
    assert str(logsumexp(frame, axis="index").dtype) == narrow
    assert str(softmax(frame["b"]).dtype) == narrow
    assert list(map(str, softmax(frame, axis=1, dtype=np.float64).dtypes)) == [wide, wide]
    assert softmax(frame, axis=1, dtype=np.float16).dtypes.tolist() == [np.float16] * 2
    mixed = softmax(frame.assign(c=np.float32(1)), axis=1)
    assert mixed.dtypes.tolist() == [np.float32] * 3


def test_whole_numbers_and_booleans_that_may_be_missing_are_numbers():
    frame = pandas.DataFrame({"a": [1, None], "b": [True, False]})
    for backend, kind in (("numpy_nullable", "Float64"), ("pyarrow", "double[pyarrow]")):
        x = frame.convert_dtypes(dtype_backend=backend)
        got = softmax(x, axis=1)
        assert list(map(str, got.dtypes)) == [kind, kind]
        assert got.iloc[0].tolist() == [0.5, 0.5]
        assert got.iloc[1].isna().all()
        assert logsumexp(x, axis=1, where=~x.isna()).iloc[1] == 0


def test_columns_that_hold_no_numbers_are_refused_by_name_and_type():
    frame = pandas.DataFrame({"a": [1.0], ("b", 1): [pandas.Timestamp(0)]})
    with pytest.raises(
        TypeError, match=r"^x must hold numbers, got datetime64.* in column \('b', 1\)"
    ):
        softmax(frame, axis=1)
    with pytest.raises(TypeError, match=r"^a must hold numbers, got category$"):
        logsumexp(pandas.Series(["a"], dtype="category"))
    weight = pandas.Series([1], dtype=pandas.ArrowDtype(pyarrow.decimal128(3, 1)))
    with pytest.raises(
        TypeError, match=r"^b must hold numbers, got decimal128\(3, 1\)\[pyarrow\]$"
    ):
        logsumexp([1.0], b=weight)


@pytest.mark.parametrize("x", [FRAME, FRAME[1]], ids=["frame", "series"])
def test_a_type_that_pandas_does_not_have_is_refused(x):
    with pytest.raises(TypeError, match=r"^dtype must be one of pandas's, got dtype\(bfloat16\)$"):
        softmax(x, dtype=ml_dtypes.bfloat16)
    out = np.empty(x.shape, ml_dtypes.bfloat16)
    assert softmax(x, dtype=ml_dtypes.bfloat16, out=out) is out


def test_sparse_columns_are_refused():
    thin = pandas.Series([0.0, 1.0]).astype("Sparse[float64]")
    with pytest.raises(
        TypeError, match=r"got Sparse\[float64, .*\]: pass x\.sparse\.to_dense\(\)$"
    ):
        softmax(thin)
    with pytest.raises(TypeError, match=r"in column 'b': pass x\.astype\('float64'\)$"):
        softmax(pandas.DataFrame({"a": [1.0, 2.0], "b": thin}))


def test_what_pandas_holds_as_one_array_is_not_copied(monkeypatch):
    x = np.random.default_rng(0).standard_normal((5, 3))
    seen = []
    compute = plan.compute
    monkeypatch.setattr(plan, "compute", lambda f, x, *rest: (seen.append(x), compute(f, x, *rest)))
    nullable = pandas.Series(x[0]).astype("Float64")
    arrow = pandas.Series(x[0], dtype="double[pyarrow]")
    polars_frame = polars.DataFrame(np.asfortranarray(x), orient="row")
    polars_series = polars.Series(x[0])
    for made, memory in (
        (pandas.DataFrame(x, copy=False), x),
        (pandas.DataFrame(x.T, copy=False), x),
        (pandas.Series(x[0], copy=False), x),
        (nullable, nullable.to_numpy()),
        (arrow, pyarrow.array(arrow).to_numpy()),
        (polars_frame, polars_frame.to_numpy()),
        (polars_series, polars_series.to_numpy()),
        (pyarrow.array(x[0]), x),
        (pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(x.ravel()), 3)[1:], x),
        (pyarrow.FixedShapeTensorArray.from_numpy_ndarray(x), x),
    ):
        softmax(made, -1)
        assert np.shares_memory(seen[-1], memory), made


def test_out_of_a_kind_that_does_not_change_is_refused_and_numpys_is_written():
    out = np.empty((5, 3))
    assert softmax(FRAME, 1, out=out) is out
    np.testing.assert_array_equal(out, softmax(FRAME, 1))
    for wrong in (FRAME, FRAME[1], polars.DataFrame(FRAME.to_numpy()), pyarrow.array([1.0])):
        with pytest.raises(
            TypeError, match=f"^out must be a plain NumPy array, got {type(wrong).__name__}"
        ):
            softmax(FRAME, 1, out=wrong)


# --- xarray -------------------------------------------------------------------------------

CUBE = xarray.DataArray(
    np.random.default_rng(0).standard_normal((2, 3, 4)),
    {"row": ["a", "b"], "class": [3, 1, 2], "size": ("row", [5, 6]), "at": 7},
    ("row", "class", "draw"),
    "logits",
    {"unit": "nat"},
)


@pytest.mark.parametrize("function", [*FUNCTIONS, entropy])
def test_dimensions_by_name(function):
    for dim, axis in (
        ("class", 1),
        (["class", "row"], (0, 1)),
        (("draw",), 2),
        (..., None),
        ([], ()),
    ):
        same(function(CUBE, dim=dim), function(CUBE, axis=axis))
    assert function(CUBE, dim="class").name == "logits"
    assert function(CUBE, dim="class").attrs == {"unit": "nat"}
    if function not in MAPS:
        right = CUBE.sum(["row", "draw"], keep_attrs=True)
        got = function(CUBE, dim=["row", "draw"])
        same(got, right.copy(data=got.values))
        every = function(CUBE, dim=...)
        same(every, CUBE.sum(keep_attrs=True).copy(data=every.values))
    same(function(CUBE, dim="class", where=(CUBE > 0).isel(row=[1, 0])),
         function(CUBE, axis=1, where=(CUBE > 0).to_numpy()))  # fmt: skip


def test_kept_dimensions_of_an_xarray_are_xarrays():
    got = logsumexp(CUBE, dim=["class", "draw"], keepdims=True)
    same(got, CUBE.sum(["class", "draw"], keepdims=True, keep_attrs=True).copy(data=got.values))
    np.testing.assert_array_equal(got.values, logsumexp(CUBE.values, (1, 2), keepdims=True))


@pytest.mark.parametrize("function", [*FUNCTIONS, entropy])
def test_a_wrong_dim(function):
    name = "a" if function is logsumexp else "x"
    refusals = [
        (CUBE, {"dim": "clas"}, ValueError,
         f"dim must name dimensions of {name}, got 'clas': it has 'row', 'class', 'draw'$"),
        (CUBE, {"dim": ["row", "row"]}, ValueError, "dim must not name a dimension twice, got"),
        (CUBE, {"dim": 1}, ValueError, f"dim must name dimensions of {name}, got 1: it has 'row'"),
        (CUBE, {"dim": [["row"]]}, TypeError, "dim must be a name or several, got"),
        (CUBE[0, 0, 0], {"dim": "row"}, ValueError, "got 'row': it has none$"),
        (CUBE, {"dim": "row", "axis": 1}, ValueError,
         "give axis or dim, not both: got axis=1 and dim='row'$"),
        (CUBE.values, {"dim": "row"}, TypeError,
         f"dim is for what has named dimensions, and {name} is a numpy.ndarray: pass axis$"),
        ([1.0], {"dim": 0}, TypeError, f"{name} is a list: pass axis$"),
        (FRAME, {"dim": "columns"}, TypeError, "DataFrame: pass axis$"),
        (polars.Series([1.0]), {"dim": 0}, TypeError, "Series: pass axis$"),
    ]  # fmt: skip
    for x, given, error, words in refusals:
        with pytest.raises(error, match=words):
            function(x, **given)


def data_set():
    return xarray.Dataset(
        {"a": CUBE, "b": CUBE.isel(draw=0, drop=True).astype(np.float32)},
        {"of": (("class", "row"), np.ones((3, 2))), "run": ("run", [1, 2])},
        {"by": "me"},
    )


@pytest.mark.parametrize("function", [*FUNCTIONS, entropy])
def test_each_variable_of_a_dataset_by_itself(function):
    x = data_set()
    for dim in ("class", ["row", "class"], ...):
        got = function(x, dim=dim)
        assert isinstance(got, xarray.Dataset)
        assert got.attrs == {"by": "me"}
        for name in x:
            same(got[name], function(x[name], dim=dim))
        like = x if function in MAPS else x.sum(["row", "class", "draw"] if dim is ... else dim)
        assert (set(got.coords), dict(got.sizes)) == (set(like.coords), dict(like.sizes))
    masked = function(x, dim="class", where=x > 0)
    same(masked["b"], function(x["b"], dim="class", where=x["b"] > 0))
    same(function(x, dim="class", where=x["b"] > 0)["a"],
         function(x["a"], dim="class", where=x["b"] > 0))  # fmt: skip


def test_sums_of_a_dataset_with_signs_weights_and_kept_dimensions():
    x = data_set()
    weights = -x
    value, sign = logsumexp(x, dim="class", b=weights, return_sign=True)
    for name in x:
        right = logsumexp(x[name], dim="class", b=weights[name], return_sign=True)
        same(value[name], right[0])
        same(sign[name], right[1])
    kept = logsumexp(x, dim="class", keepdims=True)
    assert (kept.sizes["class"], "class" in kept.coords, "of" in kept.coords) == (1, False, False)
    single = logsumexp(x.isel({"class": [0]}), dim="class", keepdims=True)
    assert "class" not in single.coords
    hot = xarray.Dataset({"a": 2.0, "b": 1.0})
    got = softmax(x, dim="class", temperature=hot)
    same(got["a"], softmax(x["a"], dim="class", temperature=2.0))
    same(got["b"], softmax(x["b"], dim="class"))
    same(softmax(xarray.Dataset(attrs={"by": "me"})), xarray.Dataset(attrs={"by": "me"}))


def test_a_dataset_is_refused_before_anything_is_computed(monkeypatch):
    x = data_set()
    monkeypatch.setattr(plan, "compute", lambda *arguments: pytest.fail("computed"))
    monkeypatch.setattr(plan, "small", lambda *arguments: pytest.fail("computed"))
    refusals = [
        (x, {"dim": "draw"}, ValueError,
         r"dim must name dimensions of x\['b'\], got 'draw': it has 'row', 'class'$"),
        (x, {"axis": 0}, TypeError, "each variable of x, an xarray.Dataset, .* instead of axis=0"),
        (x, {"dim": "class", "out": np.zeros(3)}, TypeError, "out must not be given where x is"),
        (x.assign(c=("class", list("pqr"))), {"dim": "class"}, TypeError,
         r"x\['c'\] must hold numbers, got an array of dtype"),
        (x, {"dim": "class", "where": (x > 0)[["a"]]}, ValueError,
         "where lacks variables that x has: 'b'$"),
        (x[["b"]], {"dim": "class", "where": x > 0}, ValueError,
         "x lacks variables that where has: 'a'$"),
        (x["a"], {"dim": "class", "where": x > 0}, TypeError, "where is an xarray.Dataset beside"),
        (x, {"dim": "class", "where": x["a"] > 0}, ValueError,
         r"where has a dimension that x\['b'\] lacks: 'draw'"),
    ]  # fmt: skip
    for given, options, error, words in refusals:
        with pytest.raises(error, match=words):
            softmax(given, **options)
    with pytest.raises(TypeError, match="pass dim instead of axis=-1"):
        entropy(x)


def test_lazy_xarray_objects_are_refused():
    with pytest.raises(
        TypeError, match=r"x is lazy, of a dask\.array\.core\.Array: pass x\.compute"
    ):
        softmax(CUBE.chunk(), dim="class")
    with pytest.raises(TypeError, match=r"x\['a'\] is lazy, .*: pass x\['a'\]\.compute\(\)"):
        softmax(data_set().chunk(), dim="class")


# --- polars -------------------------------------------------------------------------------


def test_polars_frames_keep_their_names():
    x = polars.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0], "c": [0.0, 0.0]})
    array = x.to_numpy()
    got = softmax(x, axis=1)
    assert got.columns == ["a", "b", "c"]
    np.testing.assert_array_equal(got.to_numpy(), softmax(array, 1))
    rows = logsumexp(x, axis=1)
    assert isinstance(rows, polars.Series)
    np.testing.assert_array_equal(rows.to_numpy(), logsumexp(array, 1))
    for options in ({}, {"keepdims": True}):
        columns = logsumexp(x, axis=0, **options)
        assert (columns.columns, columns.shape) == (["a", "b", "c"], (1, 3))
        np.testing.assert_array_equal(columns.to_numpy()[0], logsumexp(array, 0))
    assert logsumexp(x, axis=1, keepdims=True).equals(rows.to_frame())
    assert logsumexp(x, keepdims=True).shape == (1, 1)
    assert logsumexp(x) == logsumexp(array)
    assert softmax(x.clear(), axis=1).schema == x.schema
    empty = polars.DataFrame()
    assert softmax(empty, axis=1).shape == empty.shape
    with pytest.raises(TypeError, match=r"^dtype must be one of polars's, got"):
        softmax(x, dtype=np.longdouble)


def test_polars_nulls_count_as_nan_or_are_left_out():
    x = polars.DataFrame({"a": [1, None], "b": [1.5, 2.5], "c": [True, False]})
    got = softmax(x, axis=1)
    np.testing.assert_array_equal(got.to_numpy()[0], softmax([1.0, 1.5, 1.0]))
    assert np.isnan(got.to_numpy()[1]).all()
    there = x.select(polars.all().is_not_null())
    np.testing.assert_array_equal(
        logsumexp(x, axis=1, where=there), [logsumexp([1.0, 1.5, 1.0]), logsumexp([2.5, 0.0])]
    )
    single = polars.Series("logits", [1.0, None, 2.0], polars.Float32)
    got = softmax(single, where=single.is_not_null())
    assert (got.name, got.dtype, got[1]) == ("logits", polars.Float32, 0)
    assert np.isnan(softmax(polars.Series([True, None])).to_numpy()).all()
    pair = polars.Series("p", [[1, 2], None, [None, 3]], polars.Array(polars.Int64, 2))
    got = softmax(pair, axis=1)
    assert (got.name, got.dtype) == ("p", polars.Array(polars.Float64, 2))
    np.testing.assert_array_equal(np.isnan(got.to_numpy()), [[0, 0], [1, 1], [1, 1]])
    for where in (polars.DataFrame({"a": [True, None], "b": [True, True], "c": [True, True]}),
                  polars.Series([True, None])):  # fmt: skip
        with pytest.raises(ValueError, match=r"^where must not have missing values, got 1"):
            softmax(x, where=where)


def test_polars_columns_are_matched_by_name_and_rows_by_position():
    x = polars.DataFrame(FRAME.to_numpy(), list("abc"), orient="row")
    mask = x.select(polars.all() > 0)
    for function in FUNCTIONS:
        got = function(x, 1, where=mask.select("c", "a", "b"))
        assert got.equals(function(x, 1, where=mask.to_numpy()))
        by_row = function(x, 1, where=mask["b"])
        assert by_row.equals(function(x, 1, where=mask["b"].to_numpy()[:, None]))
    hot = polars.Series(np.linspace(1, 2, 5))
    assert softmax(x, 1, temperature=hot).equals(softmax(x, 1, temperature=hot.to_numpy()[:, None]))
    with pytest.raises(
        ValueError, match=r"^where lacks labels that x has along 'columns': 'b', 'c'$"
    ):
        softmax(x, where=mask.select("a"))
    with pytest.raises(
        ValueError, match=r"^x lacks labels that where has along 'columns': 'b', 'c'$"
    ):
        softmax(x.select("a"), where=mask)
    with pytest.raises(
        TypeError, match=r"^where is a polars.*DataFrame and x a pandas.*DataFrame,"
    ):
        softmax(FRAME, where=mask)


@pytest.mark.skipif(not hasattr(polars, "Int128"), reason="this polars has no Int128")
def test_integers_that_numpy_does_not_have():
    with pytest.raises(TypeError, match=r"^x must hold numbers that NumPy has, got Int128$"):
        softmax(polars.Series([1], dtype=polars.Int128))


def test_polars_columns_that_hold_no_numbers():
    x = polars.DataFrame({"a": [1.0], "b": ["one"]})
    with pytest.raises(TypeError, match=r"^x must hold numbers, got String in column 'b'$"):
        softmax(x, axis=1)
    with pytest.raises(TypeError, match=r"^a must hold numbers, got Decimal"):
        logsumexp(polars.Series([1], dtype=polars.Decimal(10, 2)))
    with pytest.raises(TypeError, match=r"^x has lists .*: pass x\.list\.to_array\(length\)$"):
        softmax(polars.Series([[1.0, 2.0]]))
    with pytest.raises(TypeError, match=r"^x must hold numbers, got Array\(.* in column 'p'$"):
        softmax(polars.DataFrame({"p": polars.Series(np.zeros((2, 2)))}))


# --- pyarrow ------------------------------------------------------------------------------


def test_arrow_arrays_come_back_with_nulls_as_nan():
    x = pyarrow.array([1.0, 2.0, None, 0.5], pyarrow.float32())
    assert np.isnan(softmax(x).to_numpy()).all()
    got = softmax(x, where=x.is_valid())
    assert got.type == pyarrow.float32()
    np.testing.assert_array_equal(got.to_numpy()[[0, 1, 3]], softmax(np.float32([1, 2, 0.5])))
    assert softmax(pyarrow.array([1, None, 3])).type == pyarrow.float64()
    assert np.isnan(logsumexp(pyarrow.array([True, None])))
    pair = pyarrow.array(
        [[9, 9], [1, 2], None, [None, 4], [0, 0]], pyarrow.list_(pyarrow.int64(), 2)
    )
    got = softmax(pair[1:], axis=1)
    assert got.type == pyarrow.list_(pyarrow.float64(), 2)
    rows = np.array(got.to_pylist())
    np.testing.assert_array_equal(rows[[0, 3]], softmax([[1, 2], [0, 0]], axis=1))
    assert np.isnan(rows[1:3]).all()
    total = logsumexp(pyarrow.chunked_array([pair[:1], pair[4:]]), axis=1)
    assert isinstance(total, pyarrow.ChunkedArray)
    np.testing.assert_array_equal(total.to_numpy(), [9 + np.log(2), np.log(2)])
    none = softmax(pair[:0], axis=1)
    assert (len(none), none.type) == (0, got.type)
    assert softmax(pyarrow.chunked_array([], pyarrow.float64())).length() == 0
    with pytest.raises(TypeError, match=r"^dtype must be one of pyarrow's, got"):
        softmax(x, dtype=np.longdouble)


def test_arrow_arrays_that_hold_no_numbers():
    for x, words in (
        (pyarrow.array(["a"]), "^x must hold numbers, got an array of pyarrow's string$"),
        (pyarrow.array([[1.0], [1.0, 2.0]]),
         r"^x has lists .*, list<.*>: pass x.cast\(pyarrow.list_\(x.type.value_type, length\)\)$"),
        (pyarrow.array([["a"]], pyarrow.list_(pyarrow.string(), 1)), "pyarrow's string$"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=words):
            softmax(x)
    lists = pyarrow.array([[True], None], pyarrow.list_(pyarrow.bool_(), 1))
    for where in (lists, pyarrow.array([True, None])):
        with pytest.raises(ValueError, match=r"^where must not have missing values, got 1"):
            softmax([[1.0, 2.0], [1.0, 2.0]], where=where)


def test_tensors_of_arrow_in_any_order_and_with_nulls():
    kind = pyarrow.fixed_shape_tensor(
        pyarrow.float64(), [2, 3], dim_names=["a", "b"], permutation=[1, 0]
    )
    numbers = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], None, [0.0, 0.0, 0.0, 0.0, 0.0, None]]
    x = pyarrow.ExtensionArray.from_storage(
        kind, pyarrow.array(numbers, pyarrow.list_(pyarrow.float64(), 6))
    )
    got = softmax(x, axis=2)
    assert (got.type.shape, got.type.dim_names) == ([3, 2], ["b", "a"])
    array = got.to_numpy_ndarray()
    np.testing.assert_array_equal(array[0], softmax([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], axis=1))
    assert np.isnan(array[1]).all()
    np.testing.assert_array_equal(array[2], [[0.5, 0.5], [0.5, 0.5], [np.nan, np.nan]])
    assert logsumexp(x, axis=2).type.dim_names == ["b"]
    assert logsumexp(x, axis=0).type.dim_names == ["a"]
    assert logsumexp(x, axis=(1, 2)).type == pyarrow.float64()
    chunks = softmax(pyarrow.chunked_array([x, x]), axis=2)
    np.testing.assert_array_equal(chunks.combine_chunks().to_numpy_ndarray()[3], array[0])


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
    with pytest.raises(TypeError, match=r"^[xa] must hold real or .*'n', '<i4'"):
        function(x)
    with pytest.raises(TypeError, match="where must not be a masked array: fill it, or mask"):
        function(np.ones(1), where=x)


@pytest.mark.parametrize("shape", [(2, 3), (4, 2, 3)])
def test_named_axes_are_the_inputs_own_where_b_has_more_dimensions(shape):
    b = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    row, frame = np.array([0.0, 1.0, 2.0]), np.arange(6.0).reshape(2, 3)
    expected = logsumexp(row, axis=-1, b=b)
    assert expected.shape == shape[:-1]
    for got in (
        logsumexp(xarray.DataArray(row, dims=["c"]), dim="c", b=b),
        logsumexp(pandas.Series(row), axis="index", b=b),
    ):
        np.testing.assert_array_equal(got, expected)
    columns = logsumexp(pandas.DataFrame(frame), axis="columns", b=b)
    np.testing.assert_array_equal(columns, logsumexp(frame, axis=-1, b=b))
    rows = logsumexp(pandas.DataFrame(frame), axis="index", b=b)
    np.testing.assert_array_equal(rows, logsumexp(frame, axis=-2, b=b))


@pytest.mark.parametrize(
    ("x", "advice"),
    [
        (pyarrow.array([[1.0], [2.0]]), "x.cast(pyarrow.list_(x.type.value_type, 1))"),
        (polars.Series([[1.0], [2.0]]), "x.list.to_array(1)"),
    ],
)
def test_what_lists_are_refused_with_can_be_passed(x, advice):
    with pytest.raises(TypeError) as refusal:
        softmax(x, axis=-1)
    assert advice.replace("1)", "length)") in str(refusal.value)
    as_one = eval(advice, {"x": x, "pyarrow": pyarrow})
    result = softmax(as_one, axis=-1)
    assert type(result) is type(as_one)
    rows = result.to_pylist() if isinstance(x, pyarrow.Array) else result.to_list()
    assert [list(row) for row in rows] == [[1.0], [1.0]]


def test_columns_of_a_polars_frame_are_refused_with_what_helps():
    with pytest.raises(TypeError, match=r"may differ in length in column 'a'$"):
        softmax(polars.DataFrame({"a": [[1.0], [2.0]]}))
    with pytest.raises(TypeError, match=r"cast it to polars\.Float64"):
        softmax(polars.DataFrame({"a": polars.Series([1]).cast(polars.Decimal(10, 1))}))


def test_the_number_that_is_masked_stays_it():
    assert softmax(np.ma.masked) is np.ma.masked
    assert log_softmax(logsumexp(np.ma.masked_all(3))) is np.ma.masked


def test_pandas_attributes_are_copied_and_flags_kept():
    frame = pandas.DataFrame(np.eye(2), columns=["a", "b"])
    frame.attrs["history"] = [1]
    frame = frame.set_flags(allows_duplicate_labels=False)
    for x, got in (
        (frame, softmax(frame, axis=1)),
        (frame, logsumexp(frame, axis=1)),
        (frame["a"], softmax(frame["a"])),
    ):
        assert got.attrs == x.attrs
        assert not got.flags.allows_duplicate_labels
        got.attrs["history"].append(2)
        assert frame.attrs["history"] == [1]


def test_a_mask_of_objects_is_refused_for_want_of_booleans():
    where = pandas.Series([True, False], dtype=object)
    with pytest.raises(TypeError, match=r"^where must hold booleans, got object$"):
        softmax(pandas.Series([1.0, 2.0]), where=where)
