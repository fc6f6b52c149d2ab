"""The verifier's truth: pairs of float64 against mpmath, and the error in ULP."""

import math

import exact as high_precision
import mpmath
import numpy as np
import pytest

from verification import doubledouble as dd
from verification import references
from verification.cases import dtype_of, fixed
from verification.errors import FORMATS, rounded, ulp_errors
from verification.exact import Exact


def relative_error(pair, exponent, exact):
    with mpmath.workprec(300):
        got = mpmath.ldexp(mpmath.mpf(float(pair[0])) + mpmath.mpf(float(pair[1])), int(exponent))
        return float(abs(got / exact - 1)) if exact else float(abs(got))


def test_exponential_of_pairs_is_right_to_74_bits():
    random = np.random.default_rng(1)
    high = np.concatenate([random.uniform(-1400, 1, 400), random.standard_normal(400) / 1e3])
    low = high * random.uniform(-1, 1, 800) * 2.0**-54
    high, low = dd.quick_two_sum(high, low)
    value, exponent = dd.exponential((high, low))
    with mpmath.workprec(300):
        worst = max(
            relative_error((a, b), k, mpmath.exp(mpmath.mpf(x) + mpmath.mpf(y)))
            for a, b, k, x, y in zip(*value, exponent, high, low, strict=True)
        )
    assert worst < 2.0**-74


def test_log1p_of_pairs_is_right_to_73_bits():
    random = np.random.default_rng(2)
    high = 10.0 ** np.concatenate([random.uniform(-50, 8, 800), random.uniform(-0.1, 0.1, 200)])
    low = high * random.uniform(-1, 1, 1000) * 2.0**-54
    high, low = dd.quick_two_sum(high, low)
    value = dd.log1p((high, low))
    with mpmath.workprec(400):
        worst = max(
            relative_error((a, b), 0, mpmath.log1p(mpmath.mpf(x) + mpmath.mpf(y)))
            for a, b, x, y in zip(*value, high, low, strict=True)
        )
    assert worst < 2.0**-73


ROWS = {
    "ordinary": np.random.default_rng(3).standard_normal((20, 9)) * 5,
    "far from 0": np.random.default_rng(4).standard_normal((20, 9)) + 1e8,
    "close together": np.random.default_rng(5).standard_normal((20, 9)) * 1e-12 - 5,
    "spread out": np.random.default_rng(6).standard_normal((20, 9)) * 1000,
    "huge": np.array([[1.7e308, -1.7e308, 0], [1e300, 1e300, -1e300], [1e308, 5e-324, -1e308]]),
    "tiny": np.array([[5e-324, -740.0], [1e-310, -720.0], [0.0, 5e-324], [3e-310, 1e-310]]),
    "nearly sure": np.array([[0, -40.0], [0, -740.0], [0, -800.0], [0, -1e-3], [-5.0, -745.0]]),
}


@pytest.mark.parametrize("temperature", [1.0, 0.75])
@pytest.mark.parametrize("name", ROWS)
def test_pairs_agree_with_mpmath_to_73_bits(name, temperature):
    rows = ROWS[name]
    present = np.ones(rows.shape, bool)
    each = np.full((len(rows), 1), temperature)
    with np.errstate(all="ignore"):
        exact = references.by_mpmath(rows, each, present)
        pairs = references.by_pairs(rows, each, present)
    for function in references.FUNCTIONS:
        a, b = exact.of(function), pairs.of(function)
        for index in np.ndindex(a.high.shape):
            if a.high[index] == b.high[index] == 0 or a.exponent[index] < -1500:
                assert b.high[index] == 0 or b.exponent[index] < -1400  # 0 in every format
                continue
            got = b.high[index], b.low[index]
            assert relative_error(got, b.exponent[index], a.mpf(index)) < 2.0**-73


@pytest.mark.parametrize("temperature", [1.0, 0.75])
@pytest.mark.parametrize("name", ["ordinary", "close together", "huge", "nearly sure"])
def test_the_entropy_is_that_of_the_definition(name, temperature):
    rows = ROWS[name]
    each = np.full((len(rows), 1), temperature)
    with np.errstate(all="ignore"):
        found = references.by_pairs(rows, each, np.ones(rows.shape, bool)).of("entropy")
    for index, row in enumerate(rows):
        exact = high_precision.entropy(row, mpmath.mpf(temperature))
        pair = found.high[index], found.low[index]
        if exact and mpmath.log(exact, 2) > -1300:
            assert relative_error(pair, found.exponent[index], exact) < 2.0**-73
        else:
            assert pair[0] == 0 or found.exponent[index] < -1200  # 0 in every format


def test_the_cut_into_blocks_changes_nothing():
    row = np.random.default_rng(7).standard_normal((1, 70_000)) * 4
    whole = references.truth(row)
    present, each = np.ones((1, 70_000), bool), np.ones((1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(references, "_BLOCK", 1 << 20)
        again = references.by_pairs(row, each, present)
    for function in references.FUNCTIONS:
        a, b = whole.of(function), again.of(function)
        assert np.array_equal(a.high, b.high)
        assert np.array_equal(a.low, b.low)


def test_rows_without_numbers():
    inf, nan = math.inf, math.nan
    found = references.truth([[nan, inf], [inf, 0], [-inf, -inf], [0, -inf]])
    expected = {
        "softmax": [[nan, nan], [nan, nan], [nan, nan], [1, 0]],
        "log_softmax": [[nan, nan], [nan, -inf], [nan, nan], [0, -inf]],
        "logsumexp": [nan, inf, -inf, 0],
        "entropy": [nan, nan, nan, 0],
    }
    for function, values in expected.items():
        np.testing.assert_array_equal(rounded(found.of(function), "float64"), values)
    masked = references.truth([[nan, 1.0, 1.0]], present=np.array([[False, True, True]]))
    np.testing.assert_array_equal(rounded(masked.of("softmax"), "float64"), [[0, 0.5, 0.5]])
    assert rounded(masked.of("entropy"), "float64") == [np.log(2)]
    assert np.isnan(references.truth(np.zeros((1, 0))).of("entropy").high)


# --- the error -------------------------------------------------------------------------------


def one_error(got, high, low=0.0, exponent=0, dtype="float32"):
    value = np.array([got]).astype(dtype_of(dtype))
    return float(ulp_errors(value, Exact.of([high], [low], [exponent]), dtype)[0])


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_error_is_in_units_of_the_truths_last_place(dtype):
    unit = 2.0 ** (1 - FORMATS[dtype].precision)
    assert one_error(1.0, 1.0, dtype=dtype) == 0
    assert one_error(1 + unit, 1.0, dtype=dtype) == 1
    assert one_error(1.0, 1.0, unit / 4, dtype=dtype) == 0.25
    assert one_error(2.0, 2.0, -unit / 2, dtype=dtype) == 0.5  # the truth lies below the power of 2
    assert one_error(-1.0, 1.0, dtype=dtype) == 2 / unit


@pytest.mark.parametrize("dtype", FORMATS)
def test_subnormal_truths_have_the_smallest_numbers_unit(dtype):
    kind = FORMATS[dtype]
    smallest = kind.smallest - kind.precision + 1
    value = math.ldexp(1.0, smallest)
    assert one_error(value, 1.0, exponent=smallest, dtype=dtype) == 0
    assert one_error(0.0, 1.0, exponent=smallest, dtype=dtype) == 1
    assert one_error(0.0, 1.0, exponent=smallest - 3, dtype=dtype) == 0.125
    assert one_error(3 * value, 0.0, dtype=dtype) == 3
    assert one_error(0.0, 0.0, dtype=dtype) == one_error(-0.0, 0.0, dtype=dtype) == 0


def test_infinities_and_nan():
    inf, nan = math.inf, math.nan
    assert one_error(nan, nan) == 0
    assert one_error(nan, 1.0) == one_error(1.0, nan) == math.inf
    assert one_error(inf, inf) == one_error(-inf, -inf) == 0
    assert one_error(inf, -inf) == one_error(1.0, inf) == one_error(inf, 1.0) == math.inf
    assert one_error(inf, 1.0, exponent=128) == 0  # above the largest float32
    assert one_error(-inf, -1.0, exponent=128) == 0
    assert one_error(-inf, 1.0, exponent=128) == math.inf
    assert one_error(inf, 2 - 2.0**-23, exponent=127) == math.inf  # the largest float32 itself


def test_rounding_is_to_nearest_and_decided_by_the_low_part():
    half = 1 + 2.0**-24
    exact = Exact.of([half, half, half, 1.5], [0.0, 2.0**-70, -(2.0**-70), 0.0])
    np.testing.assert_array_equal(rounded(exact, "float32"), [1, 1 + 2.0**-23, 1, 1.5])
    tie = Exact.of([1 + 3 * 2.0**-24])
    assert rounded(tie, "float32")[0] == 1 + 2.0**-22  # to even
    huge = Exact.of([1.0, 1.0], [0.0, 0.0], [200, -200])
    np.testing.assert_array_equal(rounded(huge, "float32"), [np.inf, 0])


@pytest.mark.parametrize("dtype", FORMATS)
def test_rounding_agrees_with_numpys_casts(dtype):
    values = np.random.default_rng(8).standard_normal(2000) * 10.0 ** np.arange(-40, 40, 0.04)
    with np.errstate(over="ignore"):
        cast = values.astype(dtype_of(dtype)).astype(np.float64)
    np.testing.assert_array_equal(rounded(Exact.of(values), dtype), cast)


def test_allowances_for_cancellation_and_for_the_ordinary_formula():
    logs = np.log([[0.3, 0.7]])
    found = references.truth(logs)
    condition = references.cancellation("logsumexp", found)[0]
    assert 1e15 < condition < 1e18
    assert references.cancellation("entropy", found).tolist() == [1]
    found = references.truth([[0.0, -40.0], [5.0, 4.0]])
    assert references.cancellation("logsumexp", found).tolist() == [1, 1]
    kind = FORMATS["float32"]
    bound = references.ordinary_ulps(
        "softmax", references.truth([[0.0, -80.0]]), kind.unit, kind.smallest
    )
    assert 80 < bound[0, 1] < 100 < 4 * bound[0, 0] + 100  # its distance, 80, counts in full


def test_cases_are_the_same_for_the_same_seed():
    from verification.cases import all_cases

    for suite in ("extremes", "random", "hard"):
        for first, second in zip(all_cases(suite), all_cases(suite), strict=True):
            if "million" not in first.name and "float32" in first.dtypes:
                a, b = first.values("float32", 3), second.values("float32", 3)
                assert a.tobytes() == b.tobytes()
    assert fixed([[1.0, 2.0]])(np.dtype("float32"), None).dtype == np.float32
