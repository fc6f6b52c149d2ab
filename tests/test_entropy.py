"""entropy: to its bounds, next to 0 as anywhere, and NaN where there is no distribution."""

import itertools
import math

import exact
import ml_dtypes
import numpy as np
import pytest

from fastsoftmax import ERROR_BOUNDS, entropy, softmax

INF, NAN = np.inf, np.nan
FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", FLOATS)
def test_entropy_is_exact_to_its_bounds(dtype):
    rng = np.random.default_rng(0)
    bound = ERROR_BOUNDS["entropy"][np.dtype(dtype).name]
    rows = [rng.standard_normal(n) * s for n in (2, 3, 10, 70) for s in (0.01, 1, 20, 80)]
    rows += [[0.0, -d, -d - 1] for d in (1e-3, 5.0, 11.0, 40.0, 85.0)]
    for row, temperature in itertools.product(rows, (1.0, 2.5)):
        row = np.array(row, dtype)
        got = entropy(row, temperature=temperature)
        assert got.dtype == dtype
        true = exact.entropy(row, temperature)
        assert exact.ulp_error([got], [true], dtype) <= bound, (row, temperature)


def test_entropy_of_equal_and_of_certain_classes():
    for n in (1, 2, 7, 100, 5000):
        assert entropy(np.full(n, 3.5)) == pytest.approx(math.log(n), rel=2**-53)
    assert entropy([0.0, -744.0]) == pytest.approx(745 * math.exp(-744), rel=1e-3)
    assert entropy(np.float32([5, -INF, -INF])) == 0
    assert entropy([1e308, -1e308]) == 0


def test_entropy_where_there_is_no_distribution():
    rows = np.array([[NAN, 1], [-INF, -INF], [INF, 0], [INF, INF], [0, 0]])
    for got in (entropy(rows), entropy(rows.T.copy(), axis=0), entropy(rows.astype(np.longdouble))):
        np.testing.assert_array_equal(got[:4], NAN)
        assert got[4] == pytest.approx(math.log(2))
    assert np.isnan(entropy(np.zeros((2, 0)))).all()
    assert np.isnan(entropy([1.0, 2.0], where=[False, False]))
    for x in ([1j, 2.0], np.zeros((3, 0), complex)):
        with pytest.raises(
            TypeError, match="x must hold real numbers for entropy, got an array of"
        ):
            entropy(x)
    with pytest.raises(TypeError, match="dtype must be real for entropy, got"):
        entropy([1.0, 2.0], dtype=complex)


def test_entropy_reduces_its_axes_and_honours_masks():
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    p = softmax(x, axis=(0, 2))
    np.testing.assert_allclose(entropy(x, axis=(0, 2)), -(p * np.log(p)).sum(axis=(0, 2)), 1e-13)
    kept = np.array([True, False, True, True, False])
    np.testing.assert_array_equal(entropy(x, where=kept), entropy(x[..., kept]))
