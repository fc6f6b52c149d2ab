"""top_k and label_log_probabilities: the bits of softmax and log_softmax, and what is refused."""

import functools
import itertools
import os
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import STORED, bits
from placed import How, in_a_process, placed

from fastsoftmax import label_log_probabilities, log_softmax, softmax, top_k
from fastsoftmax.arithmetic.formulas import LABEL_LOG_PROBABILITIES
from fastsoftmax.cpu import plan
from fastsoftmax.cpu.sizes import BLOCK, CHUNK, MOST_CHOSEN, PACKED, SHORT

INF, NAN = np.inf, np.nan
TYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
# Next to each edge of the kernels' loops, and enough rows for each of them.
SHAPES = [
    *((70, n) for n in (1, 2, 3, 4, 15, 16, 17, SHORT, SHORT + 1, 63, 64, 65, 129, 1000)),
    *((3, n) for n in (BLOCK - 1, BLOCK, BLOCK + 1, CHUNK + 1)),
    (1, 40 * BLOCK + 7),  # cuts
]


def in_order(x, k):
    """The k largest of each row by NumPy's stable sort."""
    wide = x.astype(np.float64)
    return np.argsort(-np.where(np.isnan(wide), INF, wide), axis=-1, kind="stable")[:, :k]


def check_top(x, k, **options):
    probabilities, indices = top_k(x, k, **options)
    counted = np.where(options.get("where", True), x, -INF).astype(x.dtype)
    np.testing.assert_array_equal(indices, in_order(counted, k))
    expected = np.take_along_axis(softmax(x, axis=-1, **options), indices, -1)
    assert probabilities.dtype == x.dtype
    np.testing.assert_array_equal(bits(np.ascontiguousarray(probabilities)), bits(expected))


@pytest.mark.parametrize("dtype", [np.float32, *(
    pytest.param(each, marks=pytest.mark.thorough) for each in TYPES if each is not np.float32
)])  # fmt: skip
def test_the_largest_of_rows_of_every_length_with_the_bits_of_softmax(dtype):
    rng = np.random.default_rng(1)
    with mock.patch.multiple(plan, PARALLEL_FROM=1 << 14, PACKED_FROM=1):
        for shape in SHAPES:
            drawn = rng.standard_normal(shape).astype(dtype)
            cases = [drawn, np.round(drawn), np.zeros(shape, dtype), np.sort(drawn, axis=-1)]
            cases[1][:, ::2] = -INF
            cases[1][:, -1] = 0.0
            for x, k in itertools.product(cases, (1, 2, 7, MOST_CHOSEN, MOST_CHOSEN + 1)):
                if k <= shape[1]:
                    check_top(x, k)


def test_the_largest_of_masked_rows_at_temperatures():
    rng = np.random.default_rng(2)
    for shape in ((70, 7), (9, 300), (3, BLOCK + 3), (1, 40 * BLOCK)):
        x = rng.standard_normal(shape).astype(np.float32)
        where = rng.random(shape) < 0.5
        where[:, 0] = True
        for k, temperature in itertools.product((2, 5), (1.0, 0.5, rng.random((shape[0], 1)) + 1)):
            check_top(x, k, where=where, temperature=temperature)


def test_more_are_wanted_than_there_are_with_a_probability():
    probabilities, indices = top_k([0.0, -INF, 1.0, -INF], 4, where=[True, True, True, False])
    np.testing.assert_array_equal(indices, [2, 0, 1, 3])
    np.testing.assert_array_equal(probabilities[2:], 0)
    # at temperature 0 all but the largest have none
    probabilities, indices = top_k([2.0, 1.0, 3.0], 2, temperature=0.0)
    np.testing.assert_array_equal(probabilities, [1, 0])
    np.testing.assert_array_equal(indices, [2, 0])


@pytest.mark.parametrize("length", [5, 100, 5000])
def test_rows_without_probabilities_have_nan_and_what_makes_them_so_first(length):
    x = np.zeros((3, length), np.float32)
    x[0, 3], x[1, 4], x[1, 2] = NAN, INF, NAN
    x[2] = -INF
    probabilities, indices = top_k(x, 2)
    assert np.isnan(probabilities).all()
    np.testing.assert_array_equal(indices, [[3, 0], [2, 4], [0, 1]])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_rows_of_few_values(data):
    shape = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 200))
    k = data.draw(st.integers(1, min(shape[1], MOST_CHOSEN)))
    seed = data.draw(st.integers(0, 2**32))
    values = data.draw(st.sampled_from([[0.0, -0.0], [1.0, 2.0, -INF], [-5.0, 0.5, 3.0, 4.0]]))
    x = np.random.default_rng(seed).choice(values, shape).astype(np.float32)
    x[:, 0] = values[0]
    check_top(x, k)


def each_axis(x):
    return range(-x.ndim, x.ndim)


@pytest.mark.parametrize("dtype", [np.float32, *(
    pytest.param(each, marks=pytest.mark.thorough) for each in TYPES if each is not np.float32
)])  # fmt: skip
def test_labels_of_rows_and_columns_of_every_length_have_the_bits_of_log_softmax(dtype):
    rng = np.random.default_rng(3)
    shapes = [(*shape, 1) for shape in SHAPES]
    shapes += [(3, 7, 70), (2, 130, 40), (2, BLOCK + 1, 17), (1, 2500, 70)]
    with mock.patch.multiple(plan, PARALLEL_FROM=1 << 14, PACKED_FROM=1):
        for shape in shapes:
            x = (rng.standard_normal(shape) * 5).astype(dtype)
            for several, extras in itertools.product((1, 3), (False, True)):
                options = {}
                if extras:
                    options["where"] = rng.random(shape) < 0.7
                    options["temperature"] = rng.random((shape[0], 1, shape[2])) + 0.2
                labels = rng.integers(0, shape[1], (shape[0], several, shape[2]))
                got = label_log_probabilities(x, labels, 1, **options)
                expected = np.take_along_axis(log_softmax(x, 1, **options), labels, 1)
                nan = np.isnan(expected.astype(np.float64))
                np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
                got, expected = np.ascontiguousarray(got), np.ascontiguousarray(expected)
                np.testing.assert_array_equal(bits(got)[~nan], bits(expected)[~nan])


def test_any_axis_layout_and_shape_of_labels():
    rng = np.random.default_rng(4)
    base = rng.standard_normal((4, 6, 5))
    for x in (base, np.asfortranarray(base), base[:, ::2], base.swapaxes(0, 2), base[::-1]):
        for axis in each_axis(x):
            rows = [n for i, n in enumerate(x.shape) if i != axis % x.ndim]
            whole = log_softmax(x, axis)
            for shape in (rows, rows[1:], [1, rows[1]], []):
                labels = rng.integers(0, x.shape[axis], shape)
                wide = np.expand_dims(np.broadcast_to(labels, rows), axis)
                expected = np.take_along_axis(whole, wide, axis).squeeze(axis)
                np.testing.assert_array_equal(label_log_probabilities(x, labels, axis), expected)
            p, i = top_k(x, 2, axis)
            expected = np.argsort(-x, axis=axis, kind="stable").take(range(2), axis)
            np.testing.assert_array_equal(i, expected)
            np.testing.assert_array_equal(p, np.take_along_axis(softmax(x, axis), i, axis))


def test_other_types_and_places():
    x = np.array([[3, 1, 2], [0, 5, 5]])
    expected = log_softmax(x, -1)[[0, 1], [2, 1]]
    assert label_log_probabilities(x, [2, 1]).dtype == np.float64
    for kind in (np.int8, np.uint64, ">i4", np.int64):
        np.testing.assert_array_equal(label_log_probabilities(x, np.array([2, 1], kind)), expected)
    for kind in (np.float32, ">f8", np.longdouble):
        given = x.astype(kind)
        got = label_log_probabilities(given, [2, 1])
        np.testing.assert_array_equal(got, log_softmax(given, -1)[[0, 1], [2, 1]])
        p, i = top_k(given, 2)
        np.testing.assert_array_equal(i, [[0, 2], [1, 2]])
        np.testing.assert_array_equal(p, np.take_along_axis(softmax(given, -1), i, -1))
    out = np.zeros(2, np.float32)
    assert label_log_probabilities(x, [2, 1], out=out) is out
    np.testing.assert_array_equal(out, expected.astype(np.float32))
    assert label_log_probabilities(x, [2, 1], dtype=np.float32).dtype == np.float32
    assert label_log_probabilities([1.0, 2.0], 1) == log_softmax([1.0, 2.0])[1]
    assert label_log_probabilities(np.zeros((0, 3)), np.zeros(0, int)).shape == (0,)
    assert [a.shape for a in top_k(np.zeros((0, 3)), 2)] == [(0, 2)] * 2


def test_containers_come_back():
    import pandas
    import xarray

    x = np.random.default_rng(5).standard_normal((3, 4))
    frame = pandas.DataFrame(x, index=list("abc"))
    labels = pandas.Series([1, 2, 3], index=list("cba"))  # matched by label
    expected = log_softmax(x, -1)[[0, 1, 2], [3, 2, 1]]
    pandas.testing.assert_series_equal(
        label_log_probabilities(frame, labels), pandas.Series(expected, index=list("abc"))
    )
    array = xarray.DataArray(x, dims=("row", "class"), coords={"row": list("abc")})
    p, i = top_k(array, 2, dim="class")
    assert p.dims == i.dims == ("row", "class")
    assert list(p.row) == list("abc")
    p, i = top_k(array.to_dataset(name="a"), 2, dim="class")
    assert p["a"].shape == i["a"].shape == (3, 2)
    p, i = top_k(np.ma.masked_array(x, x < 0), 1)
    np.testing.assert_array_equal(i[:, 0], x.argmax(axis=1))


def wrong(function, *given, **options):
    return functools.partial(function, *given, **options)


X = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (wrong(top_k, X, 0), ValueError, "k must be from 1 to the 3 classes that there are, got 0"),
        (wrong(top_k, X, 4), ValueError, "got 4"),
        (wrong(top_k, X, 2.0), TypeError, "k must be an integer, got 2.0"),
        (wrong(top_k, X, 1, axis=None), ValueError, "axis must be one axis for top_k"),
        (wrong(top_k, X, 1, axis=(0, 1)), ValueError, "got 2"),
        (wrong(top_k, X, 1, axis=2), np.exceptions.AxisError, "axis 2"),
        (wrong(top_k, X + 0j, 1), TypeError, "logits must hold real numbers for top_k"),
        (wrong(top_k, X, 1, temperature=-1), ValueError, "temperature must not be negative"),
        (wrong(top_k, X, 1, where=[1, 0, 1]), TypeError, "where must be boolean"),
        (wrong(label_log_probabilities, X, [0, 3]), ValueError,
         r"labels\[1\] is 3, and classes are from 0 to 2"),
        (wrong(label_log_probabilities, X, [[0, 1], [2, -1]]), ValueError, r"labels\[1, 1\] is -1"),
        (wrong(label_log_probabilities, X, [0, 1, 2]), ValueError, r"labels of shape \(3,\)"),
        (wrong(label_log_probabilities, X, [0.0, 1.0]), TypeError, "labels must be integers"),
        (wrong(label_log_probabilities, X, [True, False]), TypeError, "labels must be integers"),
        (wrong(label_log_probabilities, X, np.uint64(2**63)), ValueError, "is 9223372036854775808"),
        (wrong(label_log_probabilities, 1.0, 0), ValueError, "axis must be one axis"),
        (wrong(label_log_probabilities, X, [0, 1], out=np.zeros(3)), ValueError, "out must have"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_name_and_value(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_nothing_is_written_where_a_label_is_wrong():
    out = np.full(2, 7.0)
    with pytest.raises(ValueError, match="labels"):
        label_log_probabilities(X, [0, 5], out=out)
    assert (out == 7).all()


def check_at_the_edges_of_memory():
    """Fail where a kernel for labels reads or writes beyond its arguments: it would crash."""
    rng = np.random.default_rng(0)
    shapes = (9, 7), (70, 3), (9, 131), (9, BLOCK + 13), (2, 2 * BLOCK + 13), (2, 9, 11)
    shapes += ((2, BLOCK + 3, 11),)
    assert all(length in (7, 131, 3, BLOCK + 13, 2 * BLOCK + 13, 9, BLOCK + 3)
               for _, length, *_ in shapes)  # fmt: skip
    for shape, edge, dtype in itertools.product(shapes, ("start", "end"), ("float32", "float16")):
        how = How(edge=edge, read_only=True)
        x = placed((rng.standard_normal(shape) * 3).astype(dtype), how)
        labels = placed(rng.integers(0, shape[1], (shape[0], 2, *shape[2:])), how)
        where = placed(rng.random(shape) < 0.7, how)
        with mock.patch.multiple(plan, PARALLEL_FROM=1, PACKED_FROM=1):
            for mask in (None, where):
                got = label_log_probabilities(x, labels, 1, where=mask)
                expected = np.take_along_axis(log_softmax(x, 1, where=mask), labels, 1)
                np.testing.assert_array_equal(got, expected)
            if x.ndim == 2:
                check_top(np.asarray(x), 3)


@pytest.mark.thorough
@pytest.mark.skipif(os.name != "posix", reason="pages are unmapped by POSIX's mprotect")
def test_kernels_keep_to_their_arguments_at_both_edges_of_memory():
    program = "import test_scoring; test_scoring.check_at_the_edges_of_memory()"
    in_a_process(program, NUMBA_NUM_THREADS="2")


def test_packed_rows_are_tried():
    x = np.zeros((200, PACKED[0]), np.float32)
    seen = []
    run = plan.run
    with (
        mock.patch.object(plan, "PACKED_FROM", 1),
        mock.patch.object(plan, "run", lambda name, *rest: (seen.append(name), run(name, *rest))),
    ):
        label_log_probabilities(x, np.ones(200, int))
    assert f"{LABEL_LOG_PROBABILITIES.name}_packed_{PACKED[0]}" in seen
    assert set(STORED) == {np.dtype(each).name for each in TYPES}
