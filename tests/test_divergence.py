"""kl_divergence: to its bounds at any closeness, never negative, and the same bits everywhere."""

import hashlib
import math
import os
import platform
import subprocess
import sys

import exact
import ml_dtypes
import numba
import numpy as np
import pandas as pd
import pytest
from test_same_bits import AVX2
from thorough import beyond_first

from fastsoftmax import entropy, kl_divergence, log_softmax, softmax
from fastsoftmax.cpu import plan
from fastsoftmax.cpu.sizes import CHUNK

INF, NAN = np.inf, np.nan
BOUND = {"float64": 1.3, "float32": 0.51, "float16": 0.51, "bfloat16": 0.51}


def error(p, q, temperature=1.0, counts=None):
    """The error in ULP for rows of which each class is there so many times."""
    dtype = np.asarray(p).dtype
    true = exact.kl_divergence(p, q, temperature, counts)
    if counts is not None:
        p, q = np.repeat(p, counts), np.repeat(q, counts)
    got = kl_divergence(p, q, temperature=temperature)
    assert got.dtype == dtype
    return exact.ulp_error([got], [true], dtype)


def drawn(dtype):
    """Rows of logits that are near to each other, and far, and what makes their divergence hard."""
    rng = np.random.default_rng(0)
    for n, spread in ((1, 1.0), (2, 1e-3), (3, 1.0), (8, 20.0), (20, 200.0)):
        x = (rng.standard_normal(n) * spread).astype(dtype)
        yield x, rng.standard_normal(n) * spread
        yield x, rng.permutation(x)
        yield x, np.nextafter(x, np.where(rng.random(n) < 0.5, INF, -INF).astype(dtype))
        yield x, x + dtype(3.0) * spread  # by a constant, but for rounding
        yield x, x + rng.standard_normal(n) * spread * 1e-5
        # one class has nearly all of one, of the other, or of both
        leading = np.where(np.arange(n) == n // 2, 30.0, 0.0)
        yield x + leading, x
        yield x, x + leading
        yield x + leading, rng.standard_normal(n) * spread + leading


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_divergences_are_exact_to_their_bound_at_any_closeness(dtype):
    for place, (p, q) in enumerate(drawn(dtype)):
        p, q = p.astype(dtype), q.astype(dtype)
        temperature = (1.0, 0.3, 7.0)[place % 3]
        assert error(p, q, temperature) <= BOUND[p.dtype.name], (p, q, temperature)


@pytest.mark.parametrize("dtype", beyond_first([ml_dtypes.bfloat16, np.float16]))
def test_divergences_of_16_bits_are_rounded_once_more(dtype):
    rng = np.random.default_rng(1)
    for spread in (0.1, 1.0, 10.0):
        p, q = (rng.standard_normal((2, 9)) * spread).astype(dtype)
        assert error(p, q) <= BOUND[p.dtype.name], (p, q)


def test_where_phi_changes_from_a_polynomial_to_exponentials():
    rng = np.random.default_rng(2)
    p = np.stack([np.zeros(150), rng.uniform(-40, 1, 150)], axis=1)
    # t of the rare class is about -2 or 1
    apart = np.where(rng.random(150) < 0.5, -2, 1) * (1 + np.exp(p[:, 1]))
    q = p.copy()
    q[:, 1] -= apart * rng.uniform(0.95, 1.05, 150)
    assert max(error(*rows) for rows in zip(p, q, strict=True)) <= 1.3


@pytest.mark.parametrize("size", [1e-160, 1e-158, 1e-156, 1e-154, 1e-152])
def test_subnormal_results(size):
    x = np.array([0.0, 0.0, 1e-170])
    y = x + size * np.array([0.3, -1.1, 0.7])
    assert kl_divergence(x, y) < 1e-303
    assert error(x, y) <= 1.3


def test_divergences_too_large_to_be_exponents():
    for q in ([0, 490.0], [0, 510.0], [0, 1e5], [0, -1e5], [0, 1e300], [-1e307, 1e307]):
        assert error(np.array([0.3, 0.1]), np.array(q)) <= 1.3
        assert error(np.array([0.3, -700.0]), np.array(q)) <= 1.3
    # what is taken of each other is beyond float64, the result is not
    assert error(np.zeros(2), np.array([0, 1.5e308]), temperature=0.5) <= 1.3
    assert kl_divergence([0.0, 0.0], [0, 1.5e308], temperature=0.25) == INF
    assert error(np.full(2, 1.7e308), np.array([-1.7e308, 1.7e308])) <= 1.3
    assert kl_divergence([1.7e308, -1.7e308], [-1.7e308, 1.7e308]) == INF
    assert kl_divergence(np.zeros(2, np.float16), np.array([6e4, -6e4], np.float16)) == 59999


def test_one_rare_class_that_counts():
    # of p, it has a part in a million, and is what all others are compared with
    for apart in (1e-9, 0.5, 100.0, 1e5):
        for sign in (1, -1):
            rows = np.array([0.0, 0.0]), np.array([sign * apart, 0.0])
            assert error(*rows, counts=[1, 1 << 20]) <= 1.3
    # of p as good as nothing, of q something, or all
    for rows in (([0, -800.0], [0, 0.0]), ([0, -90.0], [0, 60.0]), ([0, -800.0], [0, 800.0])):
        assert error(*map(np.array, rows)) <= 1.3
    # p hardly has it, and q far less
    assert error(np.array([0.0, -200.0]), np.array([0.0, -1e30])) <= 1.3


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_of_a_million(dtype):
    rng = np.random.default_rng(3)
    p, q = (rng.standard_normal((2, 6)) * [[5.0], [4.0]]).astype(dtype)
    counts = [3, 20_000, 200_000, CHUNK, 1, 763_000]
    for other in (q, p + q * dtype(2**-20)):
        assert error(p, other, counts=counts) <= BOUND[p.dtype.name]


def test_equal_distributions_have_no_divergence():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((50, 9)) * 10.0 ** rng.uniform(-5, 300, (50, 1))
    assert not kl_divergence(x, x).any()
    # multiples of 2**-20, so that a constant is added exactly
    x = np.round(rng.standard_normal((50, 9)) * 2**20) / 2**20
    for temperature in (1.0, 0.7):
        assert not kl_divergence(x, x - 1234.5, temperature=temperature).any()
    assert not kl_divergence([1.0, -INF, 2.0], [2.0, -INF, 3.0]).any()
    assert kl_divergence(7.0, -3.0) == 0  # one class alone


def test_divergences_are_never_negative():
    rng = np.random.default_rng(5)
    for apart in (0.0, 1e-16, 1e-12, 1e-8, 1e-4):
        x = rng.standard_normal((300, 30)) * 5
        got = kl_divergence(x, x + rng.standard_normal(x.shape) * apart)
        assert (got >= 0).all()
        assert apart < 1e-12 or (got > 0).all()


def test_classes_that_are_not_possible():
    p = [[-INF, 1], [0, 1], [-INF, 1], [0, -1e308], [0, -1e308]]
    q = [[2, 1], [-INF, 1], [-INF, 5], [0, -INF], [0, 0]]
    log_2 = math.log(2)
    expected = [math.log1p(math.e), INF, 0, INF, log_2]
    for got in (kl_divergence(p, q), kl_divergence(np.transpose(p), np.transpose(q), axis=0)):
        np.testing.assert_allclose(got, expected, 1e-15)
    nothing = [[NAN, 1], [INF, 1], [-INF, -INF]]
    for row in nothing:
        assert np.isnan(kl_divergence(row, [0.0, 0.0]))
        assert np.isnan(kl_divergence([0.0, 0.0], row))
        assert np.isnan(kl_divergence(row, row))
    assert np.isnan(kl_divergence([0, NAN], [-INF, 0]))
    assert np.isnan(kl_divergence(np.zeros((2, 0)), np.zeros((2, 0)))).all()


def test_masks_leave_classes_out_of_both():
    rng = np.random.default_rng(6)
    p, q = rng.standard_normal((2, 4, 7))
    kept = np.array([True, False, True, True, False, False, True])
    expected = kl_divergence(p[:, kept], q[:, kept])
    np.testing.assert_array_equal(kl_divergence(p, q, where=kept), expected)
    p[:, ~kept], q[:, ~kept] = NAN, -INF
    np.testing.assert_array_equal(kl_divergence(p, q, where=kept), expected)
    masked = kl_divergence(np.ma.MaskedArray(p, np.broadcast_to(~kept, p.shape)), q)
    np.testing.assert_array_equal(masked.data, expected)
    assert np.isnan(kl_divergence(p, q, where=False)).all()


def test_temperatures_and_their_limits():
    p = np.array([[0, 1.0], [0, 1], [1, 1], [0, 1]])
    q = np.array([[0, 2.0], [1, 0], [1, 0], [1, 1]])
    for cold, apart in ((0.0, INF), (1e-310, INF), (1e-300, 1e300)):
        got = kl_divergence(p, q, temperature=cold)
        np.testing.assert_allclose(got, [0, apart, apart / 2, math.log(2)], 1e-15)
    assert not kl_divergence(p, q, temperature=INF).any()
    each = np.array([[0.5], [1.0], [3.0], [1e150]])
    got = kl_divergence(p, q, temperature=each)
    for row, x, y, temperature in zip(got, p, q, each[:, 0], strict=True):
        assert exact.ulp_error([row], [exact.kl_divergence(x, y, temperature)]) <= 1.3
    tiny = np.array([2.0, 7.0, 1.0]) * 5e-324, np.array([9.0, 3.0, 4.0]) * 5e-324
    assert error(*tiny, temperature=2.0**-990) <= 1.3


def test_axes_and_references_that_are_broadcast():
    rng = np.random.default_rng(7)
    p, q = rng.standard_normal((2, 3, 4, 5))
    for axis in (0, 1, (0, 2), None):
        chances = softmax(p, axis)
        apart = log_softmax(p, axis) - log_softmax(q, axis)
        np.testing.assert_allclose(
            kl_divergence(p, q, axis), (chances * apart).sum(axis=axis), 1e-12
        )
    for few in (q[0, 0], q[:, :1], q[0], q[..., :1]):
        whole = np.broadcast_to(few, p.shape).copy()
        np.testing.assert_array_equal(kl_divergence(p, few), kl_divergence(p, whole))
    # from the uniform distribution: what entropy leaves of log n
    np.testing.assert_allclose(kl_divergence(p, 0), math.log(5) - entropy(p), 1e-12)


def test_results_have_the_wider_type_and_the_labels_of_p():
    p, q = np.float32([[0.1, 0.2], [0.3, 0.1]]), np.array([[0.3, 0.2], [0.1, 0.5]])
    assert kl_divergence(p, q).dtype == kl_divergence(q, p).dtype == np.float64
    np.testing.assert_array_equal(
        kl_divergence(p, q, dtype=np.float32), kl_divergence(p, q).astype(np.float32)
    )
    mixed = kl_divergence(p.astype(np.float16), q.astype(ml_dtypes.bfloat16))
    assert mixed.dtype == np.float32
    assert kl_divergence([0, 1], [1, 0]).dtype == np.float64
    frame = pd.DataFrame(q, index=["r", "s"], columns=["a", "b"])
    got = kl_divergence(frame, frame[["b", "a"]] + p[:, ::-1], axis="columns")
    np.testing.assert_array_equal(got, kl_divergence(q, q + p))
    assert list(got.index) == ["r", "s"]


def test_wrong_arguments_are_refused_by_name_and_value():
    wrong = [
        ([1.0, 2], [1.0, 2, 3], {}, ValueError, r"q_logits of shape \(3,\) does not broadcast"),
        ([1.0, 2], [[1.0, 2]], {}, ValueError, r"q_logits of shape \(1, 2\) does not broadcast"),
        ([1j, 2], [1.0, 2], {}, TypeError, "p_logits must hold real numbers for kl_divergence"),
        ([1.0, 2], [1j, 2], {}, TypeError, "q_logits must hold real numbers for kl_divergence"),
        ([1.0, 2], ["a", "b"], {}, TypeError, "q_logits must hold .* numbers, got .*U1"),
        ([1.0, 2], None, {}, TypeError, "q_logits must hold .* numbers, got"),
        ([1.0], [1.0], {"dtype": complex}, TypeError, "dtype must be real for kl_divergence"),
        ([1.0], [1.0], {"temperature": -2}, ValueError, "temperature must not be .* got -2"),
        ([1.0], [1.0], {"where": [1]}, TypeError, "where must be boolean"),
        ([1.0], np.ma.masked_array([1.0]), {}, TypeError, "q_logits must not be a masked array"),
    ]
    for p, q, given, kind, message in wrong:
        with pytest.raises(kind, match=message):
            kl_divergence(p, q, **given)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is float64")
def test_long_double_is_refused():
    wide = np.longdouble([1, 2])
    for p, q, dtype, name in (
        (wide, [1.0, 2], None, "p_logits"),
        ([1.0, 2], wide, None, "q_logits"),
        ([1.0, 2], [1.0, 2], np.longdouble, "dtype"),
    ):
        with pytest.raises(TypeError, match=f"{name} must be float64 or narrower for"):
            kl_divergence(p, q, dtype=dtype)


# --- bits -----------------------------------------------------------------------------------------


def pair(dtype, rows, length):
    rng = np.random.default_rng([rows, length])
    x = rng.standard_normal((rows, length)) * 8
    y = x + rng.standard_normal((rows, 1)) * rng.standard_normal(length)
    return x.astype(dtype), y.astype(dtype)


def digest():
    """Of divergences near and far, in all ways of computing them, of both widths."""
    results = []
    for length in (1, 7, 8, 100, 1000, CHUNK + 3):
        x, y = pair(np.float64, 9, length)
        results += [kl_divergence(x, y), kl_divergence(x, x + (y - x) * 1e-9, temperature=0.3)]
        results += [kl_divergence(x * 40, y * 90)]
        x, y = pair(np.float32, 9, length)
        results += [kl_divergence(x, y, where=x < 9)]
    return hashlib.sha256(b"".join(each.tobytes() for each in results)).hexdigest()


def test_a_row_has_its_bits_in_any_order_batch_and_layout():
    rng = np.random.default_rng(8)
    for length in (2, 9, 1000, CHUNK + 5):
        x, y = pair(np.float64, 20, length)
        x[:, -1], x[:, 0] = x.max(axis=1), x.max(axis=1)  # two likeliest classes
        whole = kl_divergence(x, y)
        order = rng.permutation(length)
        for got in (
            kl_divergence(x[:, order], y[:, order]),
            kl_divergence(np.asfortranarray(x), np.repeat(y, 2, axis=0)[::2]),
            kl_divergence(x.T.copy(), y.T.copy(), axis=0),
            np.array([kl_divergence(*each) for each in zip(x, y, strict=True)]),
            kl_divergence(x, y, temperature=1),
            kl_divergence(x, y, where=np.ones(length, bool)),
        ):
            np.testing.assert_array_equal(got, whole)


def test_any_number_of_threads_gives_the_same_bits():
    x, y = pair(np.float64, 300, 1000)
    assert x.size >= plan.PARALLEL_FROM
    whole, before = kl_divergence(x, y), numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        np.testing.assert_array_equal(kl_divergence(x, y), whole)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(
        [kl_divergence(x[i], y[i]) for i in (0, 150, 299)], whole[[0, 150, 299]]
    )


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 code is compared")
def test_code_for_avx2_gives_the_same_bits():
    host = numba.core.codegen.get_host_cpu_features().split(",")
    if not set(AVX2.split(",")) <= set(host):
        pytest.skip("this CPU cannot run code for haswell")
    other = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2}
    run = subprocess.run(
        [sys.executable, "-c", "import test_divergence as t; print(t.digest())"],
        env=os.environ | {"PYTHONPATH": path_of_tests()} | other,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == digest()


def path_of_tests():
    given = os.environ.get("PYTHONPATH")
    here = os.path.dirname(__file__)
    return here if not given else here + os.pathsep + given
