"""The three functions: known numbers, exactness, special values, and what must always hold."""

import itertools
import math
import re
import warnings
from decimal import Decimal

import exact
import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastsoftmax
from fastsoftmax import ERROR_BOUNDS, log_softmax, logsumexp, softmax

INF, NAN = np.inf, np.nan
BFLOAT16 = ml_dtypes.bfloat16
FLOATS = [np.float16, BFLOAT16, np.float32, np.float64]
SOFTMAX, LOG_SOFTMAX = ERROR_BOUNDS["softmax"], ERROR_BOUNDS["log_softmax"]


@pytest.mark.parametrize("name", ERROR_BOUNDS)
def test_docstrings_state_the_bounds(name):
    for ulp in ERROR_BOUNDS[name].values():
        assert re.search(rf"\b{ulp:g}\b", getattr(fastsoftmax, name).__doc__), ulp


# --- the numbers that people ask about (the project's starting questions) ---------------------


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([3.0, 1.0, 0.2], [0.8360188, 0.11314284, 0.05083836]),
        ([2.0, 1.0, 0.1], [0.65900114, 0.24243297, 0.09856589]),
        ([13, 31, 5], [1.52299795e-08, 9.99999985e-01, 5.10908895e-12]),
        ([1, 2, 3, 4, 5], [0.01165623, 0.03168492, 0.08612854, 0.23412166, 0.63640865]),
        ([12345, 67890, 99999999], [0, 0, 1]),
        ([1, 2], [0.26894142, 0.73105858]),
        ([10, 20], [0.0000453978687, 0.999954602]),
    ],
)
def test_published_numbers(logits, expected):
    # to the last digit that was printed
    half = [0.5 * 10.0 ** Decimal(repr(v)).as_tuple().exponent for v in expected]
    for given_as in (logits, np.array(logits), tuple(logits)):
        assert (np.abs(softmax(given_as) - expected) <= np.multiply(half, 1.0001)).all()


def test_published_numbers_in_two_dimensions():
    x = [[12345, 67890, 99999999], [123, 678, 88888888]]
    np.testing.assert_array_equal(softmax(x, axis=-1), [[0, 0, 1], [0, 0, 1]])
    rows = softmax([[3, 2, 4], [4, 5, 6]], axis=1)
    np.testing.assert_allclose(
        rows,
        [[0.24472847, 0.09003057, 0.66524096], [0.09003057, 0.24472847, 0.66524096]],
        rtol=5e-8,
    )


def test_the_axis_says_whether_rows_columns_or_everything():
    x = np.array([[3.0, 2.0, 4.0], [4.0, 5.0, 6.0]])
    np.testing.assert_allclose(softmax(x, axis=-1).sum(axis=-1), 1)
    np.testing.assert_allclose(softmax(x, axis=0).sum(axis=0), 1)
    np.testing.assert_allclose(softmax(x).sum(), 1)
    np.testing.assert_array_equal(softmax(x, axis=0), softmax(x.T, axis=-1).T)
    np.testing.assert_array_equal(softmax(x), softmax(x.ravel()).reshape(2, 3))


def test_an_added_constant_changes_nothing():
    x = np.array([1.0, 2.0, 5.0])
    # x + 1024 is exact; each result is within its bound of the same exact number
    np.testing.assert_allclose(softmax(x), softmax(x + 1024), rtol=3.2 * 2.0**-52)


def test_two_classes_are_a_sigmoid():
    x = np.linspace(-3, 3, 101)
    p = softmax(np.stack([x, -x], axis=-1), axis=-1)
    np.testing.assert_allclose(p[:, 0], 1 / (1 + np.exp(-2 * x)), rtol=1e-15)


def test_log_softmax_next_to_zero():
    got = log_softmax(np.array([20, 0], np.float32))
    assert got[0] == np.float32(-2.0611537e-09)
    assert log_softmax([40.0, 0.0])[0] == -math.exp(-40.0)
    assert log_softmax([700.0, 0.0])[0] == pytest.approx(-math.exp(-700), rel=1e-15)


def test_types_that_scipy_gets_wrong():
    np.testing.assert_array_equal(softmax(np.uint8([1, 2])), softmax([1.0, 2.0]))
    extremes = np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max])
    np.testing.assert_array_equal(softmax(extremes), [0, 1])
    np.testing.assert_array_equal(log_softmax(extremes), [-(2.0**64), 0])
    np.testing.assert_array_equal(softmax([True, False]), softmax([1.0, 0.0]))
    assert logsumexp(np.uint8([255, 0])) == 255.0


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 2**-27), (np.float64, 2**-53)])
def test_weights_that_sum_to_one_leave_an_absolute_error(dtype, bound):
    rng = np.random.default_rng(0)
    weights = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 32], dtype)
    for spread in (1e-12, 1e-6, 1e-3, 0.1, 1.0):
        for row in (rng.standard_normal((50, 6)) * spread).astype(dtype):
            terms = [
                mpmath.mpf(float(b)) * mpmath.exp(mpmath.mpf(float(a)))
                for a, b in zip(row, weights, strict=True)
            ]
            true = mpmath.log(mpmath.fsum(terms))
            got = logsumexp(row, b=weights)
            assert got.dtype == dtype
            # and the one rounding of the result
            rounding = exact.unit(true, dtype) / 2
            assert abs(mpmath.mpf(float(got)) - true) <= bound + rounding, spread


def test_logarithms_of_totals_just_above_one():
    rng = np.random.default_rng(0)
    worst = 0.0
    for low in [-36.51379981677781, *rng.uniform(-38, -34, 500), *rng.uniform(-700, -10, 200)]:
        row = np.array([0.0, low])
        true = [-exact.log_total(row)]
        worst = max(worst, exact.ulp_error(log_softmax(row)[:1], true))
        worst = max(worst, exact.ulp_error(logsumexp(row), [-true[0]], np.float64))
    assert 0.4 < worst <= 0.75  # 0.5 for the last rounding, 0.22 for the exponential


# --- exactness --------------------------------------------------------------------------------


def rows_of_every_kind(dtype):
    rng = np.random.default_rng(0)
    name = np.dtype(dtype).name
    largest = float(ml_dtypes.finfo(dtype).max)
    far = {"float16": 17, "bfloat16": 95, "float32": 104, "float64": 745}[name]
    for length in (1, 2, 3, 5, 10, 33, 200):
        for spread in (1e-3, 1, 10, far / 2, 3 * far):
            for offset in (0, -7.3, 1e4, largest / 3):
                if spread + abs(offset) < largest:
                    row = rng.standard_normal(length) * spread + offset
                    yield np.clip(row, -largest, largest).astype(dtype)
    for low in np.linspace(0.9 * far, 1.01 * far, 12):  # results around the subnormal range
        yield np.array([0, -low, -low / 2, -1], dtype)
    yield np.array([largest, -largest, 0], dtype)
    yield np.array([0, -0.0, 0], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_and_log_softmax_are_exact_to_their_bounds(dtype):
    name = np.dtype(dtype).name
    largest = float(ml_dtypes.finfo(dtype).max)
    worst = {"softmax": 0.0, "log_softmax": 0.0}
    for row in rows_of_every_kind(dtype):
        got = softmax(row)
        assert got.dtype == row.dtype
        worst["softmax"] = max(worst["softmax"], exact.ulp_error(got, exact.softmax(row)))
        true = exact.log_softmax(row)
        held = np.array([abs(v) <= largest for v in true])
        got = log_softmax(row)
        assert (got[~held].astype(float) == -INF).all()
        error = exact.ulp_error(got[held], [v for v, h in zip(true, held, strict=True) if h])
        worst["log_softmax"] = max(worst["log_softmax"], error)
    assert worst["softmax"] <= SOFTMAX[name]
    assert worst["log_softmax"] <= LOG_SOFTMAX[name]


def test_results_just_above_the_subnormal_range():
    for row in (
        np.float32([0, -4.443592548370361, -86.63288116455078]),
        np.float32([0, -5.678887367248535, -86.64181518554688]),
        np.array([0, -5.628643605423369, -707.7028002817075]),
    ):
        assert exact.ulp_error(softmax(row), exact.softmax(row)) <= SOFTMAX[row.dtype.name]
    rng = np.random.default_rng(0)
    for dtype, edge in ((np.float32, 87.3), (np.float64, 708.4)):
        for _ in range(1000):
            row = np.array([0, -rng.uniform(0, 6), -edge + rng.uniform(-1, 4)], dtype)
            error = exact.ulp_error(softmax(row), exact.softmax(row))
            assert error <= SOFTMAX[np.dtype(dtype).name]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [7, 4096, 20_000])
def test_results_next_to_zero_of_many_small_terms(dtype, length):
    rows = np.full((3, length), -60.3, dtype)
    rows[1] = -1000 if dtype == np.float64 else -80
    rows[1, 5::8] = -60.3
    rows[2] = np.random.default_rng(0).uniform(-46, -45, length)
    rows[:, 0] = 0
    for row in rows:
        true = [-exact.log_total(row)]
        bound = LOG_SOFTMAX[np.dtype(dtype).name]
        assert exact.ulp_error(log_softmax(row)[:1], true) <= bound
        assert exact.ulp_error(logsumexp(row), [-true[0]], dtype) <= bound
        down = log_softmax(np.stack([row, row], axis=1), axis=0)
        assert exact.ulp_error(down[:1, 1], true) <= bound


@pytest.mark.parametrize("dtype", FLOATS)
def test_logsumexp_is_exact_to_its_condition(dtype):
    name = np.dtype(dtype).name
    for row in rows_of_every_kind(dtype):
        true = exact.logsumexp(row)
        if abs(true) > float(ml_dtypes.finfo(dtype).max):
            continue
        got = logsumexp(row)
        assert got.dtype == row.dtype
        condition = max(1.0, float(np.max(np.abs(row.astype(float))) / abs(true)) if true else 1.0)
        assert exact.ulp_error(got, [true], row.dtype) <= LOG_SOFTMAX[name] * condition


def test_logsumexp_that_cancels():
    x = np.log(np.array([0.3, 0.7]))
    true = exact.logsumexp(x)
    got = logsumexp(x)
    # the logits' own rounding leaves log(0.3) + log(0.7) not quite 0: that remainder is found
    assert abs(float(got - true)) <= 1.1 * 2.0**-53 * float(np.abs(x).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_temperature_is_as_exact_as_division(dtype):
    rng = np.random.default_rng(1)
    for temperature in (0.01, 0.3, 1 / 3, 0.9999999, 2, 7.7, 1e3, 1e-3):
        for spread in (1, 30):
            row = (rng.standard_normal(20) * spread).astype(dtype)
            true = exact.softmax(row, exact.mpmath.mpf(temperature))
            bound = SOFTMAX[np.dtype(dtype).name]
            assert exact.ulp_error(softmax(row, temperature=temperature), true) <= bound
            true = exact.log_softmax(row, exact.mpmath.mpf(temperature))
            bound = LOG_SOFTMAX[np.dtype(dtype).name]
            assert exact.ulp_error(log_softmax(row, temperature=temperature), true) <= bound


def test_spreads_beyond_the_largest_number():
    x = np.array([1.7e308, -1.7e308])
    np.testing.assert_array_equal(softmax(x), [1, 0])
    np.testing.assert_array_equal(log_softmax(x), [0, -INF])
    np.testing.assert_allclose(softmax(x, temperature=1e308), softmax([1.7, -1.7]), rtol=1e-15)
    assert log_softmax(x, temperature=4.0)[1] == -0.85e308
    assert logsumexp(x) == 1.7e308
    x = np.float32([3e38, -3e38, 3e38])
    np.testing.assert_array_equal(softmax(x), np.float32([0.5, 0, 0.5]))


# --- special values ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*FLOATS, np.longdouble])
@pytest.mark.parametrize("axis", [0, 1])
def test_special_values(dtype, axis):
    rows = np.array(
        [
            [NAN, 1, 2],
            [1, 2, NAN],
            [NAN, NAN, NAN],
            [-INF, -INF, -INF],
            [INF, 0, -INF],
            [INF, INF, 0],
            [INF, NAN, 0],
            [-INF, 0, 0],
        ]
    ).astype(dtype)
    n = [NAN, NAN, NAN]
    expected = {
        softmax: [n, n, n, n, n, n, n, [0, 0.5, 0.5]],
        log_softmax: [
            *[n, n, n, n],
            [NAN, -INF, -INF],
            [NAN, NAN, -INF],
            n,
            [-INF, -math.log(2), -math.log(2)],
        ],
        logsumexp: [NAN, NAN, NAN, -INF, INF, INF, NAN, math.log(2)],
    }
    x = rows if axis == 1 else np.ascontiguousarray(rows.T)
    for function, right in expected.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = function(x, axis=axis)
        got = got.T if axis == 0 and function is not logsumexp else got
        np.testing.assert_array_equal(
            got.astype(float), np.array(right).astype(dtype).astype(float)
        )


def test_nan_poisons_its_own_row_alone():
    x = np.random.default_rng(0).standard_normal((50, 37)).astype(np.float32)
    clean = softmax(x, axis=-1)
    x[17, 5] = NAN
    got = softmax(x, axis=-1)
    assert np.isnan(got[17]).all()
    np.testing.assert_array_equal(np.delete(got, 17, 0), np.delete(clean, 17, 0))


def test_negative_zero_and_ties():
    np.testing.assert_array_equal(softmax([0.0, -0.0]), [0.5, 0.5])
    np.testing.assert_array_equal(softmax(np.full(1000, -3.3)), np.full(1000, 1e-3))
    assert logsumexp([-0.0]) == 0


def test_one_element_and_nothing():
    np.testing.assert_array_equal(softmax([5.0]), [1.0])
    np.testing.assert_array_equal(log_softmax([[5.0]], axis=0), [[0.0]])
    for shape, axis in [((0,), None), ((0, 5), 1), ((5, 0), 1), ((2, 0, 3), (0, 1))]:
        for function in (softmax, log_softmax):
            got = function(np.empty(shape, np.float32), axis=axis)
            assert got.shape == shape
            assert got.dtype == np.float32
    assert logsumexp([]) == -INF
    np.testing.assert_array_equal(logsumexp(np.empty((3, 0)), axis=1), [-INF] * 3)
    assert logsumexp(np.empty((0, 3)), axis=1).shape == (0,)
    assert logsumexp(np.empty((3, 0)), axis=1, keepdims=True).shape == (3, 1)


def test_scalars_come_back_as_scalars():
    for x in (3, 3.0, np.float32(3), np.array(3.0)):
        for axis in (None, (), 0, -1):
            assert softmax(x, axis=axis) == 1.0
            assert log_softmax(x, axis=axis) == 0.0
            assert logsumexp(x, axis=axis) == 3.0
            assert np.ndim(softmax(x, axis=axis)) == 0
    assert isinstance(softmax(np.float32(3)), np.float32)
    assert isinstance(logsumexp([1.0, 2.0]), np.float64)


def test_an_empty_tuple_of_axes_leaves_every_element_alone():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(softmax(x, axis=()), np.ones((2, 2)))
    np.testing.assert_array_equal(logsumexp(x, axis=()), x)


# --- temperature at its limits -------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_temperature_zero_shares_between_the_largest(dtype):
    x = np.array([[1, 3, 3, -INF], [0, 0, 0, 0], [NAN, 1, 2, 3]], dtype)
    got = softmax(x, axis=-1, temperature=0)
    np.testing.assert_array_equal(got.astype(float), [[0, 0.5, 0.5, 0], [0.25] * 4, [NAN] * 4])
    got = log_softmax(x, axis=-1, temperature=0.0).astype(float)
    half, quarter = (float(np.array(math.log(v)).astype(dtype)) for v in (0.5, 0.25))
    np.testing.assert_array_equal(got[:2], [[-INF, half, half, -INF], [quarter] * 4])


@pytest.mark.parametrize("dtype", FLOATS)
def test_temperature_infinity_is_uniform_over_what_is_possible(dtype):
    x = np.array([[1, 3, 300, -INF], [5, 5, 6, 7]], dtype)
    third = float(np.array(1 / 3).astype(dtype))
    got = softmax(x, axis=-1, temperature=INF)
    np.testing.assert_array_equal(got.astype(float), [[third] * 3 + [0], [0.25] * 4])


def test_temperature_of_each_row():
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    t = np.array([0.5, 1.0, 0.0, INF]).reshape(1, 4, 1)
    got = softmax(x, axis=(0, 2), temperature=t)
    for i in range(4):
        alone = softmax(np.ascontiguousarray(x[:, i]), temperature=t[0, i, 0])
        np.testing.assert_array_equal(got[:, i], alone)


def test_temperatures_approach_their_limits():
    x = np.array([1.0, 1.5, -2.0])
    np.testing.assert_array_equal(softmax(x, temperature=1e-300), [0, 1, 0])
    np.testing.assert_array_equal(softmax(x, temperature=1e-320), [0, 1, 0])
    np.testing.assert_array_equal(softmax(x, temperature=1e300), [1 / 3] * 3)
    huge = np.array([1.7e308, -1.7e308, 1e308])
    other = np.array([-1.287461436693562e308, -1.7556420929713207e308, 1.5417404760217226e308])
    for x, temperature in itertools.product(
        (huge, other), (1e270, 1e300, 5e305, 8e307, 1e308, 1.7e308)
    ):
        true = exact.softmax(x, exact.mpmath.mpf(temperature))
        assert exact.ulp_error(softmax(x, temperature=temperature), true) <= SOFTMAX["float64"]
    np.testing.assert_array_equal(softmax([1.0, 2.0], temperature=2**70), [0.5, 0.5])
    got = softmax(np.float32([[1, 2], [3, 9]]), axis=1, temperature=[[1e308], [2.0]])
    np.testing.assert_array_equal(got[0], [0.5, 0.5])
    np.testing.assert_array_equal(got[1], softmax(np.float32([3, 9]), temperature=2.0))
    np.testing.assert_allclose(softmax([1e10 + 0j, 0], temperature=1e-300), [1, 0])
    np.testing.assert_array_equal(softmax(np.complex64([1, 2]), temperature=1e-46), [0, 1])


def test_temperatures_next_to_zero_are_not_zero():
    np.testing.assert_array_equal(log_softmax([0.0, -1.0], temperature=1e-305), [0, -1e305])
    tiny = exact.mpmath.mpf(1e-310), exact.mpmath.mpf(5e-324), exact.mpmath.mpf(2.0**-1001)
    rows = [[1e-310, 0], [0, -1e-323, 5e-324], [2.0**-960, 2.0**-960 - 2.0**-999, -1e300]]
    for x, temperature in zip(rows, tiny, strict=True):
        x = np.array(x)
        got = softmax(x, temperature=float(temperature))
        assert exact.ulp_error(got, exact.softmax(x, temperature)) <= SOFTMAX["float64"]
    # Beside others of every temperature, and where scaled logits would be infinite.
    x = np.array([[0.0, -1.0]] * 4 + [[1.7e308, 1.7e308], [NAN, 1.0], [INF, 1.0]])
    temperature = np.array([0, 1e-305, 1.0, 1e305, 1e-305, 1e-305, 1e-305]).reshape(-1, 1)
    got = log_softmax(x, axis=1, temperature=temperature)
    for row, t, alone in zip(x, temperature[:, 0], got, strict=True):
        np.testing.assert_array_equal(alone, log_softmax(row, temperature=t))
    half = np.log(0.5)
    np.testing.assert_array_equal(
        got, [[0, -INF], [0, -1e305], got[2], [half] * 2, [half] * 2, [NAN] * 2, [NAN, -INF]]
    )
    for dtype, right in ((None, -INF), (np.float64, -1e305)):
        logits = np.float32([0, -1])
        assert log_softmax(logits, temperature=1e-305, dtype=dtype)[1] == right
    got = log_softmax(np.longdouble([0, -1]), temperature=1e-310)[1]
    assert got == -1 / np.longdouble(1e-310)
    with pytest.raises(ValueError, match="complex numbers"):
        softmax([1j, 2], temperature=1e-310)


# --- masks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, None, (0, 1)])
def test_what_where_leaves_out_is_absent(axis):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 9))
    mask = rng.random((6, 9)) < 0.6
    removed = np.where(mask, x, -INF)
    np.testing.assert_array_equal(softmax(x, axis=axis, where=mask), softmax(removed, axis=axis))
    np.testing.assert_array_equal(
        log_softmax(x, axis=axis, where=mask), log_softmax(removed, axis=axis)
    )
    np.testing.assert_array_equal(
        logsumexp(x, axis=axis, where=mask), logsumexp(removed, axis=axis)
    )


def test_a_row_with_nothing_left():
    x = np.array([[1.0, 2.0], [NAN, INF]])
    for mask in (False, [[False], [False]], np.zeros((2, 2), bool)):
        np.testing.assert_array_equal(softmax(x, axis=1, where=mask), np.zeros((2, 2)))
        np.testing.assert_array_equal(log_softmax(x, axis=1, where=mask), np.full((2, 2), -INF))
        np.testing.assert_array_equal(logsumexp(x, axis=1, where=mask), [-INF, -INF])


def test_a_nan_that_is_left_out_poisons_nothing():
    x = np.array([1.0, NAN, 2.0])
    got = softmax(x, where=[True, False, True], temperature=[0.5])
    np.testing.assert_array_equal(got, [*softmax([1.0, 2.0], temperature=0.5)[:1], 0, got[2]])
    assert got.sum() == pytest.approx(1)


def test_a_mask_that_broadcasts():
    x = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(np.float32)
    mask = np.array([True, False, True, True, False, True])
    got = softmax(x, axis=-1, where=mask)
    assert (got[..., ~mask] == 0).all()
    part = softmax(np.ascontiguousarray(x[..., mask]), axis=-1)
    np.testing.assert_allclose(got[..., mask], part, rtol=1e-6)


# --- weights, signs ------------------------------------------------------------------------


def test_weighted_sums():
    value, sign = logsumexp([1.0, 2.0], b=[1.0, -1.0], return_sign=True)
    assert (value, sign) == (pytest.approx(math.log(math.e**2 - math.e)), -1)
    assert np.isnan(logsumexp([1.0, 2.0], b=[1.0, -1.0]))
    assert logsumexp([1.0, NAN, INF], b=[1.0, 0.0, 0.0]) == 1.0
    value, sign = logsumexp([0.0, 0.0], b=[1.0, -1.0], return_sign=True)
    assert (value, sign) == (-INF, 0)
    assert logsumexp([0.0], b=[1e-310]) == pytest.approx(math.log(1e-310), rel=1e-15)
    assert logsumexp([0.0, 0.0], b=[1e300, 2e300]) == pytest.approx(
        math.log(3) + 300 * math.log(10)
    )
    assert logsumexp(np.float32([0, 1]), b=2).dtype == np.float32
    assert logsumexp(np.float32([0, 1]), b=np.array([2.0, 2.0])).dtype == np.float64
    assert logsumexp(np.float32([0, 1]), b=np.float64(2)).dtype == np.float64
    assert logsumexp(np.float32([0, 1]), b=np.int8([1, 2])).dtype == np.float32
    assert logsumexp(np.float32([0, 1]), b=2j).dtype == np.complex64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinite_weights(dtype):
    for axis in (0, -1):
        a = np.array([0, 1], dtype).reshape((2, 1) if axis == 0 else (1, 2))
        for b, right in (([INF, 1], (INF, 1)), ([-INF, 1], (INF, -1)), ([INF, -INF], (NAN, NAN))):
            got = logsumexp(a, axis=axis, b=np.reshape(b, a.shape), return_sign=True)
            np.testing.assert_array_equal(np.ravel(got), right)
    # a sum beyond the largest number has a logarithm
    assert logsumexp([0.0, 0.0], b=[1.7e308, 1.7e308]) == pytest.approx(
        math.log(1.7e308) + math.log(2)
    )


def test_absent_and_negligible_terms_leave_a_weighted_sum_of_any_power():
    for shift in np.arange(-1500, 1500, 0.63):
        x = np.array([shift, shift - 3])
        right = pytest.approx(logsumexp(x), rel=1e-15)
        assert logsumexp(x, b=[1.0, 1.0]) == right  # what fills up a vector
        assert logsumexp([*x, 3.0], b=[1.0, 1.0, 0.0]) == right
        assert logsumexp([*x] * 4 + [shift - 5000] * 8, b=[0.25] * 8 + [1e-150] * 8) == right


def test_float32_divided_by_next_to_nothing_is_infinite():
    for temperature in (1e-77, 1e-120):
        np.testing.assert_array_equal(
            log_softmax(np.float32([1, 0]), temperature=temperature), [0, -INF]
        )
    assert log_softmax(np.float32([1e-37, 0]), temperature=1.2e-75)[1] == pytest.approx(
        -1e-37 / 1.2e-75
    )


def test_weights_that_cancel_across_blocks():
    for place in (2, 5000):
        b = np.zeros(8192)
        b[0], b[1], b[place] = 1, 1e-20, -1
        value, sign = logsumexp(np.zeros(8192), b=b, return_sign=True)
        assert (value, sign) == (pytest.approx(math.log(1e-20), rel=1e-15), 1)


def test_weights_broadcast_and_masks_hold():
    a = np.random.default_rng(0).standard_normal((4, 5))
    b = np.array([1.0, 2.0, 0.0, -1.0, 3.0])
    got = logsumexp(a, axis=1, b=b, where=[True, True, True, False, True], keepdims=True)
    b = np.array([1.0, 2.0, 0.0, 0.0, 3.0])
    np.testing.assert_allclose(got, np.log((np.exp(a) * b).sum(axis=1, keepdims=True)))
    np.testing.assert_allclose(
        logsumexp(np.float64(0.5), b=np.array([[1.0], [2.0]]), axis=0), [0.5 + math.log(3)]
    )


def test_signs_without_weights():
    value, sign = logsumexp([[1.0, 2.0], [-INF, -INF], [NAN, 0]], axis=1, return_sign=True)
    np.testing.assert_array_equal(sign, [1, 0, NAN])
    np.testing.assert_array_equal(value, logsumexp([[1.0, 2.0], [-INF, -INF], [NAN, 0]], axis=1))


# --- complex numbers and long double --------------------------------------------------------


def test_complex_numbers():
    z = np.array([1 + 2j, 0.5 - 1j, -3 + 0.1j])
    np.testing.assert_allclose(softmax(z), np.exp(z) / np.exp(z).sum(), rtol=1e-14)
    np.testing.assert_allclose(log_softmax(z), z - np.log(np.exp(z).sum()), rtol=1e-14)
    np.testing.assert_allclose(logsumexp(z), np.log(np.exp(z).sum()), rtol=1e-14)
    value, sign = logsumexp(z, return_sign=True)
    np.testing.assert_allclose(np.exp(value) * sign, np.exp(z).sum(), rtol=1e-14)
    assert softmax(z.astype(np.complex64)).dtype == np.complex64
    got = softmax(z, where=[True, False, True], temperature=2.0)
    np.testing.assert_allclose(got[[0, 2]], softmax(z[[0, 2]] / 2), rtol=1e-14)
    assert got[1] == 0


def test_complex_numbers_beside_an_infinite_real_part_keep_their_imaginary_part():
    z = np.array([complex(-INF, 1), 0.0])
    for temperature in (1.0, 2.0):
        got = log_softmax(z, temperature=temperature)
        np.testing.assert_array_equal(got, [complex(-INF, 1 / temperature), 0.0])


def test_long_double():
    x = np.array([1, 2, 12000, 0], np.longdouble)
    for function in (softmax, log_softmax, logsumexp):
        assert function(x).dtype == np.longdouble
    assert log_softmax(np.array([100, 0], np.longdouble))[0] == -np.exp(np.longdouble(-100))
    np.testing.assert_array_equal(softmax(x, temperature=0), [0, 0, 1, 0])


# --- what must always hold ------------------------------------------------------------------

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=40)
MATRICES = st.sampled_from([np.float32, np.float64]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        SHAPES,
        elements=st.floats(-300, 300, width=np.dtype(dtype).itemsize * 8) | st.just(-INF),
    )
)


@settings(deadline=None, derandomize=True)
@given(MATRICES, st.integers(-1, 0))
def test_probabilities_add_up(x, axis):
    p = softmax(x, axis=axis)
    possible = np.isfinite(x).any(axis=axis, keepdims=True)
    assert ((p >= 0) & (p <= 1) | ~possible).all()
    # each term within 2 ULP, and NumPy's sum of n of them within n
    room = (2 + x.shape[axis]) * np.finfo(x.dtype).eps
    total = np.where(possible, p, 0).sum(axis=axis, keepdims=True, dtype=np.float64)
    assert (np.abs(total - possible) <= room).all()
    assert np.isnan(p).all(axis=axis, keepdims=True)[~possible].all()


@settings(deadline=None, derandomize=True)
@given(MATRICES)
def test_order_is_kept_and_the_logarithm_agrees(x):
    p, log = softmax(x), log_softmax(x)
    if not np.isfinite(x).any():
        return
    order = np.argsort(x, axis=None, kind="stable")
    assert (np.diff(p.ravel()[order]) >= 0).all()
    with np.errstate(invalid="ignore"):
        steps = np.diff(log.ravel()[order])
    assert (steps[~np.isnan(steps)] >= 0).all()
    np.testing.assert_allclose(
        np.exp(log.astype(np.float64)),
        p,
        rtol=np.finfo(x.dtype).eps * 400,  # of a logarithm down to -600, half an ULP
        atol=2 * float(np.finfo(x.dtype).smallest_subnormal),
    )
    top = float(x.max())
    size = float(logsumexp(x.astype(np.float64)))
    assert top <= size <= top + math.log(x.size) * (1 + 1e-15) + 1e-12


@settings(deadline=None, derandomize=True)
@given(MATRICES)
def test_the_input_is_never_written_to(x):
    before = x.tobytes()
    x.flags.writeable = False
    softmax(x), log_softmax(x, axis=0), logsumexp(x, axis=-1)
    assert x.tobytes() == before
