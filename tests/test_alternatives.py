"""The alternatives to the exponential: to their bounds, with their gradients, in any order."""

import functools
import hashlib
import itertools
import json
import os
import platform
import subprocess
import sys

import exact
import ml_dtypes
import mpmath
import numba
import numpy as np
import pandas
import pytest
import xarray
from placed import How, in_a_process, placed
from thorough import beyond_first

import fastsoftmax
import verification
from fastsoftmax.alternatives import (
    entmax,
    entmax15,
    entmax15_vjp,
    entmax_vjp,
    sparsemax,
    sparsemax_vjp,
    spherical_softmax,
    spherical_softmax_vjp,
    standard_normalize,
    standard_normalize_vjp,
    taylor_softmax,
    taylor_softmax_vjp,
)
from fastsoftmax.command import comparing, main
from fastsoftmax.cpu import plan
from verification import alternatives as truth

INF, NAN = np.inf, np.nan
BOUND = 0.51  # ULP, as the docstrings say


def of_order(function, order):
    return functools.partial(function, order=order)


def of_alpha(function, alpha):
    return functools.partial(function, alpha=alpha)


# By name: the function, its gradient, whether that takes results, and the definition.
QUOTIENTS = {
    "standard": (standard_normalize, standard_normalize_vjp, False, truth.standard_normalize),
    "spherical": (spherical_softmax, spherical_softmax_vjp, False, truth.spherical_softmax),
    **{
        f"taylor {order}": (
            of_order(taylor_softmax, order), of_order(taylor_softmax_vjp, order), False,
            of_order(truth.taylor_softmax, order),
        )
        for order in (2, 8, 40)
    },
}  # fmt: skip
THRESHOLDS = {
    "sparsemax": (sparsemax, sparsemax_vjp, True, of_alpha(truth.entmax, 2)),
    "entmax15": (entmax15, entmax15_vjp, True, of_alpha(truth.entmax, 1.5)),
    **{
        f"entmax {alpha}": (
            of_alpha(entmax, alpha), of_alpha(entmax_vjp, alpha), True,
            of_alpha(truth.entmax, alpha),
        )
        for alpha in (1.1, 1.25, 1.75, 3.0)
    },
}  # fmt: skip
EVERY = QUOTIENTS | THRESHOLDS
# Those that are more of the same are run with -m thorough.
MORE = ("taylor 2", "taylor 40", "entmax 1.1", "entmax 1.75")
NAMES = [pytest.param(name, marks=pytest.mark.thorough) if name in MORE else name for name in EVERY]
# One of each kernel.
FEW = ["standard", "taylor 8", "sparsemax", "entmax 1.25"]


def rows_of(name):
    """Rows that tell a right function from a wrong one."""
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal(n) * s for n in (2, 3, 9) for s in (0.01, 0.3, 1, 5)]
    rows += [[1.0, 2.0], [10.0, 20.0], [0.5], [0.25] * 5, [3.0, 3.0, 1.0, 2.5, 2.5, 3.0]]
    if name in THRESHOLDS:
        # All but on the threshold, on either side: what p is when little is left for it.
        rows += [[1.0, 2.0**-k] for k in (1, 10, 40)] + [[0.75, 0.25, 2.0**-30], [0.75, 0.25, 0.0]]
        rows += [[1e10, 1e10 - 0.5, 0.0], [-1e5, -1e5 - 0.25, -1e5 - 0.5], [0.0, -1e300, 1e-300]]
    else:
        rows += [[1e-200, 3e-200], [1e150, -3e149, 7e20], [1e-30, 1.0, 1e30], [-5.0, 7.0, -1.0]]
    return rows


def narrow_rows_of(name, dtype):
    """The same rows, but for those that the type cannot hold, or that cancel to nothing in it."""
    with np.errstate(over="ignore", under="ignore"):
        rows = [np.array(row, dtype) for row in rows_of(name)]
    rows = [row for row in rows if np.isfinite(row.astype(float)).all()]
    if name == "spherical":
        rows = [row for row in rows if row.any()]
    return [row for row in rows if name != "standard" or sum(map(mpmath.mpf, map(float, row))) != 0]


def worst_error(function, definition, rows):
    """The largest error in ULP; infinite where one is 0 and the other is not."""
    worst = 0.0
    for row in rows:
        got, true = function(row), truth.exactly(definition, row)
        assert got.dtype == row.dtype
        limit = np.finfo(np.float64 if row.dtype == np.float64 else np.float32)
        for value, number in zip(got, true, strict=True):
            if number > limit.max or 0 < abs(number) < limit.tiny:
                continue
            if (float(value) == 0) != (number == 0) and row.dtype in (np.float32, np.float64):
                return INF
            worst = max(worst, exact.ulp_error([value], [number], row.dtype))
    return worst


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_results_are_exact_to_their_bound(name, dtype):
    function, _, _, definition = EVERY[name]
    assert worst_error(function, definition, narrow_rows_of(name, dtype)) <= BOUND


@pytest.mark.parametrize("dtype", beyond_first([np.float16, ml_dtypes.bfloat16]))
@pytest.mark.parametrize("name", FEW)
def test_results_of_16_bits_are_exact_to_their_bound(name, dtype):
    function, _, _, definition = EVERY[name]
    rng = np.random.default_rng(1)
    rows = [(rng.standard_normal(n) * s).astype(dtype) for n in (2, 9, 70) for s in (0.3, 1)]
    assert worst_error(function, definition, rows) <= BOUND


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_many_rows_are_exact_to_their_bound(name):
    function, _, _, definition = EVERY[name]
    rng = np.random.default_rng(2)
    for dtype in (np.float64, np.float32):
        rows = [
            (rng.standard_normal(rng.integers(2, 12)) * np.exp(rng.uniform(-6, 3))).astype(dtype)
            for _ in range(60)
        ]
        assert worst_error(function, definition, rows) <= BOUND


# --- planted faults --------------------------------------------------------------------------


def sorted_sparsemax(row, shift=0.0, more=0):
    """sparsemax as NumPy does it, with a threshold that is off, or a support that is."""
    x = np.asarray(row, np.float64)
    ordered = np.sort(x)[::-1]
    sums = np.cumsum(ordered) - 1
    count = np.count_nonzero(ordered * np.arange(1, len(x) + 1) > sums) + more
    count = min(max(count, 1), len(x))
    return np.maximum(x - (sums[count - 1] / count + shift), 0).astype(row.dtype)


PLANTED = {
    "a threshold that is off": lambda row: sorted_sparsemax(row, shift=1e-14),
    "one too many in the support": lambda row: sorted_sparsemax(row, more=1),
    "one too few in the support": lambda row: sorted_sparsemax(row, more=-1),
    "sums in float64": sorted_sparsemax,
    "another alpha": entmax15,
    "all but the last one": lambda row: np.append(sparsemax(row[:-1]), 0) if row.size > 1 else row,
}


@pytest.mark.parametrize("fault", PLANTED)
def test_the_check_finds_a_planted_fault(fault):
    rows = narrow_rows_of("sparsemax", np.float64)
    assert worst_error(PLANTED[fault], of_alpha(truth.entmax, 2), rows) > BOUND


# --- gradients -------------------------------------------------------------------------------


def worst_gradient(function, definition, rows, gradient, of_results):
    """The largest error of gradients, in halves of an ULP of a row's largest one."""
    rng, worst = np.random.default_rng(3), 0.0
    for row in rows:
        g = rng.standard_normal(len(row))
        got = gradient(function(row) if of_results else row, g)
        true = truth.vjp(definition, row, g)
        scale = max(map(abs, true)) or 1
        for value, number in zip(got, true, strict=True):
            worst = max(worst, float(abs(mpmath.mpf(float(value)) - number) / scale) * 2**53)
    return worst


def smooth_rows(name):
    """Rows of which no element is on the threshold."""
    rng = np.random.default_rng(4)
    rows = [rng.standard_normal(n) * s for n in (2, 5) for s in (0.3, 1.0)]
    return [*rows, np.array([1.0, 2.5, 1.75, -3.0]), np.array([0.1, 0.1, 0.3])]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_definition(name):
    function, gradient, of_results, definition = EVERY[name]
    bound = 8 if of_results else 1  # results are rounded
    got = worst_gradient(function, definition, smooth_rows(name), gradient, of_results)
    assert got <= bound


WRONG_GRADIENTS = {
    "another sign": ("sparsemax", lambda p, g: -sparsemax_vjp(p, g)),
    "the mean of all": ("sparsemax", lambda p, g: np.where(p > 0, g - g.mean(), 0)),
    "not 0 outside the support": ("sparsemax", lambda p, g: g - g[p > 0].mean()),
    "another alpha": ("entmax15", sparsemax_vjp),
    "softmax's": ("entmax15", lambda p, g: p * (g - (p * g).sum())),
    "no factor 2": ("spherical", lambda x, g: spherical_softmax_vjp(x, g) / 2),
    "another order": ("taylor 8", taylor_softmax_vjp),
}


@pytest.mark.parametrize("fault", WRONG_GRADIENTS)
def test_the_check_finds_a_wrong_gradient(fault):
    name, gradient = WRONG_GRADIENTS[fault]
    function, _, of_results, definition = EVERY[name]
    assert worst_gradient(function, definition, smooth_rows(name), gradient, of_results) > 1e6


def test_a_gradient_is_orthogonal_to_what_changes_nothing():
    x = np.random.default_rng(5).standard_normal((20, 9))
    g = np.random.default_rng(6).standard_normal((20, 9))
    for gradient in (sparsemax_vjp, entmax15_vjp):  # shifts
        p = (sparsemax if gradient is sparsemax_vjp else entmax15)(x)
        np.testing.assert_allclose(gradient(p, g).sum(axis=-1), 0, atol=1e-14)
    for gradient in (standard_normalize_vjp, spherical_softmax_vjp):  # factors
        np.testing.assert_allclose((gradient(x, g) * x).sum(axis=-1), 0, atol=1e-12)


def test_entmax_of_order_1_is_softmax_and_its_gradient():
    x = np.random.default_rng(0).standard_normal((4, 7))
    p = fastsoftmax.softmax(x, axis=-1)
    assert entmax(x, 1).tobytes() == p.tobytes()
    g = x[::-1].copy()
    np.testing.assert_allclose(
        entmax_vjp(p, g, 1), p * (g - (p * g).sum(-1, keepdims=True)), atol=1e-15
    )
    assert entmax(x, 2).tobytes() == sparsemax(x).tobytes()
    assert entmax(x, 1.5).tobytes() == entmax15(x).tobytes()
    assert entmax_vjp(entmax15(x), g, 1.5).tobytes() == entmax15_vjp(entmax15(x), g).tobytes()


# --- peers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [2.0, 1.5, 1.25])
def test_results_and_gradients_are_near_those_of_the_entmax_package(alpha):
    torch = pytest.importorskip("torch", reason="the package entmax needs torch")
    peer = pytest.importorskip("entmax", reason="the package entmax is not installed")
    theirs = {2.0: peer.sparsemax, 1.5: peer.entmax15}.get(
        alpha, lambda t, dim: peer.entmax_bisect(t, alpha, dim=dim, n_iter=60)
    )
    rng = np.random.default_rng(7)
    x, g = rng.standard_normal((2, 30, 64)) * 2
    tensor = torch.from_numpy(x).requires_grad_()
    p = theirs(tensor, dim=-1)
    p.backward(torch.from_numpy(g))
    ours = entmax(x, alpha)
    np.testing.assert_allclose(ours, p.detach().numpy(), atol=1e-13)
    np.testing.assert_allclose(entmax_vjp(ours, g, alpha), tensor.grad.numpy(), atol=1e-6)


# --- the same bits ---------------------------------------------------------------------------


def everything():
    """Results of each function and gradient."""
    rng = np.random.default_rng(8)
    for name, dtype in itertools.product(FEW, (np.float64, np.float32)):
        function, gradient, of_results, _ = EVERY[name]
        for length in (1, 5, 70, 1003):
            x = (rng.standard_normal((7, length)) * 2).astype(dtype)
            p = function(x)
            yield p
            yield function(x.T.copy(), axis=0).T
            yield gradient(p if of_results else x, x[::-1].copy())
    x = rng.standard_normal((300, 777)).astype(np.float32)  # enough for all threads
    assert x.size >= plan.PARALLEL_FROM
    yield sparsemax(x)
    yield standard_normalize(x)


def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def in_another_process(**environment):
    program = "import test_alternatives as t; print(t.digest(t.everything()))"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


AVX2 = "+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+lzcnt"


@pytest.mark.thorough  # compiles all again
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 code is compared")
def test_code_for_avx2_on_one_thread_gives_the_same_bits():
    if not set(AVX2.split(",")) <= set(numba.core.codegen.get_host_cpu_features().split(",")):
        pytest.skip("this CPU cannot run code for AVX2")
    other = in_another_process(
        NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=AVX2, NUMBA_NUM_THREADS="1"
    )
    assert other == digest(everything())


@pytest.mark.parametrize("name", FEW)
def test_bits_depend_on_a_rows_values_alone(name):
    function, gradient, of_results, _ = EVERY[name]
    rng = np.random.default_rng(9)
    for length in (2, 9, 64, 65, 5000):
        x = rng.standard_normal((4, length)) * 3
        x[1, : length // 2] = x[1, -1]  # ties
        g = rng.standard_normal(x.shape)
        p = function(x)
        d = gradient(p if of_results else x, g)
        order = rng.permutation(length)
        assert function(x[:, order]).tobytes() == p[:, order].tobytes()
        again = gradient((p if of_results else x)[:, order], g[:, order])
        assert again.tobytes() == d[:, order].tobytes()
        assert function(x[2]).tobytes() == p[2].tobytes()
        assert function(np.asfortranarray(x)).tobytes() == p.tobytes()
        assert function(x[:, ::-1])[:, ::-1].tobytes() == p.tobytes()
        assert function(np.ascontiguousarray(x.T), axis=0).T.tobytes() == p.tobytes()
        out = x.copy()
        assert function(out, out=out) is out
        assert out.tobytes() == p.tobytes()


@pytest.mark.parametrize("alpha", [1 + 2.0**-52, 1 + 2.0**-40, 1 + 1e-9])
def test_entmax_tends_to_softmax(alpha):
    x = np.random.default_rng(15).standard_normal((3, 7))
    p = fastsoftmax.softmax(x, axis=-1)
    np.testing.assert_allclose(entmax(x, alpha), p, rtol=20 * (alpha - 1) + 1e-15)
    np.testing.assert_allclose(entmax(x, alpha).sum(axis=-1), 1, rtol=1e-15)


def test_ties_share_and_equal_elements_have_equal_results():
    for function in (sparsemax, entmax15, of_alpha(entmax, 1.1), of_alpha(entmax, 8)):
        for n in (1, 2, 3, 7, 1000):
            np.testing.assert_array_equal(function(np.full(n, 3.7)), np.full(n, 1 / n))
        p = function([2.0, 1.9, 2.0, 1.9, -5.0])
        assert p[0] == p[2] > p[1] == p[3] >= p[4]


def test_many_elements_are_above_the_threshold():
    x = np.random.default_rng(10).uniform(0, 1e-4, 5000)
    p = sparsemax(x)
    assert (p > 0).all()
    assert p.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(p, x - x.mean() + 1 / 5000, atol=1e-19)


# --- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FEW)
def test_axes_masks_types_and_out(name):
    function, gradient, of_results, _ = EVERY[name]
    rng = np.random.default_rng(11)
    x, g = rng.standard_normal((2, 3, 4, 5))
    both = function(x, axis=(0, 2))
    flat = x.transpose(1, 0, 2).reshape(4, 15)
    np.testing.assert_array_equal(both, function(flat).reshape(4, 3, 5).transpose(1, 0, 2))
    np.testing.assert_array_equal(function(x, axis=None).ravel(), function(x.ravel()))
    kept = np.array([True, False, True, True, False])
    masked = function(x, where=kept)
    np.testing.assert_array_equal(masked[..., kept], function(x[..., kept]))
    np.testing.assert_array_equal(masked[..., ~kept], 0)
    np.testing.assert_array_equal(function(x, where=np.zeros(5, bool)), 0)
    given = np.where(kept, NAN, x)
    np.testing.assert_array_equal(function(given, where=~kept), function(x, where=~kept))
    out = np.empty(x.shape, np.float32)
    assert function(x, out=out) is out
    np.testing.assert_array_equal(out, function(x, dtype=np.float32))
    np.testing.assert_array_equal(out, function(x).astype(np.float32))
    integers = np.arange(1, 13).reshape(3, 4)
    assert function(integers).dtype == np.float64
    assert function(np.zeros((2, 0))).shape == (2, 0)
    given = function(x) if of_results else x
    right = gradient(given, g)
    for out in (np.empty_like(x), given.copy(), g.copy()):
        along = out if out.tobytes() == g.tobytes() else g
        of = out if out.tobytes() == given.tobytes() else given
        assert gradient(of, along, out=out) is out
        np.testing.assert_array_equal(out, right)
    memory = np.empty(61)
    memory[1:] = g.ravel()
    shifted = memory[:60].reshape(g.shape)  # overlaps g, one element off
    np.testing.assert_array_equal(gradient(given, memory[1:].reshape(g.shape), out=shifted), right)
    if not of_results:
        np.testing.assert_array_equal(
            gradient(x, g, where=kept)[..., kept], gradient(x[..., kept], g[..., kept])
        )
    np.testing.assert_array_equal(gradient(given, 2.0), gradient(given, np.full(x.shape, 2.0)))


@pytest.mark.parametrize("name", FEW)
def test_what_goes_in_comes_out(name):
    function, gradient, of_results, _ = EVERY[name]
    values = np.random.default_rng(12).standard_normal((3, 4))
    right = function(values)
    frame = pandas.DataFrame(values, columns=list("abcd"))
    got = function(frame)
    assert list(got.columns) == list("abcd")
    np.testing.assert_array_equal(got, right)
    array = xarray.DataArray(values, dims=("row", "class"))
    assert function(array, dim="class").dims == ("row", "class")
    np.testing.assert_array_equal(function(array, dim="class"), right)
    of = got if of_results else frame
    shuffled = frame[list("dbca")]  # matched by label
    np.testing.assert_array_equal(
        gradient(of, shuffled, axis=1), gradient(np.asarray(of), values, axis=1)
    )
    masked = np.ma.MaskedArray(values, values > 1)
    np.testing.assert_array_equal(function(masked).filled(0), function(values, where=values <= 1))


def test_torch_tensors_come_back():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.tensor([[1.0, 2.0], [1.0, 1.5]])
    p = sparsemax(x, dim=1)
    assert isinstance(p, torch.Tensor)
    assert p.tolist() == [[0, 1], [0.25, 0.75]]
    with pytest.raises(TypeError, match="grad"):
        sparsemax(x.requires_grad_(), dim=1)


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_an_answer_are_nan_alone(name):
    function, gradient, of_results, _ = EVERY[name]
    x = np.array([[1.0, 2.0, 4.0], [NAN, 1, 2], [INF, 1, 2], [INF, -INF, 0], [-INF] * 3])
    got = function(x)
    np.testing.assert_array_equal(np.isnan(got).all(-1), [False, True, True, True, True])
    assert np.isfinite(got[0]).all()
    one = np.array([2.0, -INF, 1.75])
    if name in THRESHOLDS:
        np.testing.assert_array_equal(function(one)[[0, 2]], function(one[[0, 2]]))
        assert function(one)[1] == 0
    else:
        assert np.isnan(function(one)).all()
    g = np.array([[1.0, 2.0, NAN], [1.0, 2.0, 3.0]])
    given = (
        function(np.array([[1.0, 2.0, 2.5]] * 2)) if of_results else np.array([[1.0, 2, 2.5]] * 2)
    )
    got = gradient(given, g)
    assert np.isnan(got[0]).all()
    assert np.isfinite(got[1]).all()
    assert np.isnan(gradient(np.where(g == 1, NAN, given), np.ones(3))).all()


def test_a_gradient_does_not_look_at_g_where_p_is_0():
    np.testing.assert_array_equal(sparsemax_vjp([1.0, 0.0], [1.0, NAN]), [0, 0])


def test_a_sum_of_0_is_refused_by_its_row_before_anything_is_written():
    row = [-2.0, -1.0, 1.0, 2.0]
    with pytest.raises(
        ValueError, match=r"^standard_normalize divides by the sum, and x sums to 0"
    ):
        standard_normalize(row)
    x = np.array([[[1.0, 2, 3, 4], row], [row, [1.0, 0, 0, 0]]])
    out = np.full(x.shape, 7.0)
    with pytest.raises(ValueError, match=r"the row \(0, 1\) of x sums to 0, one of 2 such rows"):
        standard_normalize(x, out=out)
    assert (out == 7).all()
    assert standard_normalize(x, zero_sum="nan", out=out) is out
    np.testing.assert_array_equal(np.isnan(out).all(-1), [[False, True], [True, False]])
    # what all but cancels is no 0, and what is masked is not added
    np.testing.assert_array_equal(standard_normalize([1e30, -1e30, 2.0]), [5e29, -5e29, 1])
    np.testing.assert_array_equal(
        standard_normalize(row, where=[True, True, True, False]), [1, 0.5, -0.5, 0]
    )
    np.testing.assert_array_equal(standard_normalize([1e308] * 4), [0.25] * 4)
    assert np.isnan(standard_normalize([NAN, 0.0])).all()
    assert np.isnan(spherical_softmax([0.0, 0.0])).all()


def test_rows_of_any_magnitude_and_length():
    tiny = 2.0**-1074
    np.testing.assert_array_equal(spherical_softmax([tiny, 2 * tiny]), [0.2, 0.8])
    np.testing.assert_array_equal(standard_normalize([tiny, 3 * tiny]), [0.25, 0.75])
    np.testing.assert_array_equal(spherical_softmax([1e308, -1e308]), [0.5, 0.5])
    np.testing.assert_array_equal(taylor_softmax([1e308, -1e308, tiny], order=8), [0.5, 0.5, 0])
    np.testing.assert_array_equal(taylor_softmax([tiny, -tiny]), [0.5, 0.5])
    for length in (1 << 20, (1 << 20) + 8):  # sums are counted on grids up to the first
        x = np.full(length, 3.0)
        x[5] = -7.0
        p = standard_normalize(x)
        assert p[0] == 3 / (3 * length - 10)
        assert p[5] == -7 / (3 * length - 10)


def test_sums_that_cancel_are_exact():
    rng = np.random.default_rng(13)
    for _ in range(50):
        row = np.ldexp(rng.uniform(-1, 1, 6), rng.integers(-400, 400, 6))
        row = np.concatenate([row, -row, [np.ldexp(1.0, rng.integers(-300, 300))]])
        rng.shuffle(row)
        np.testing.assert_array_equal(standard_normalize(row), exact_quotients(row))


def exact_quotients(row):
    with mpmath.workprec(4000):
        total = mpmath.fsum(mpmath.mpf(float(x)) for x in row)
        return np.array([float(mpmath.mpf(float(x)) / total) for x in row])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: taylor_softmax([1.0], order=3), ValueError, "order must be even, got 3: odd"),
        (lambda: taylor_softmax([1.0], order=0), ValueError, "order must be from 2 to 40, got 0"),
        (lambda: taylor_softmax([1.0], order=42), ValueError, "order must be from 2 to 40, got 42"),
        (lambda: taylor_softmax([1.0], order=2.0), TypeError, "order must be an even integer"),
        (lambda: entmax([1.0], 0.5), ValueError, r"alpha must be from 1 to 16, got 0\.5"),
        (lambda: entmax([1.0], NAN), ValueError, "alpha must be from 1 to 16, got nan"),
        (lambda: entmax([1.0], INF), ValueError, "alpha must be from 1 to 16, got inf"),
        (lambda: entmax([1.0], None), TypeError, "alpha must be a number, got None"),
        (lambda: entmax_vjp([1.0], [1.0], 17), ValueError, "alpha must be from 1 to 16, got 17"),
        (lambda: standard_normalize([1.0], zero_sum="0"), ValueError, "zero_sum must be"),
        (lambda: sparsemax([1j]), TypeError, "x must hold real numbers for sparsemax, got"),
        (lambda: sparsemax_vjp([1j], [1.0]), TypeError, "p must hold real numbers"),
        (lambda: sparsemax_vjp([1.0], [1j]), TypeError, "g must hold real numbers"),
        (lambda: sparsemax_vjp([1.0], ["a"]), TypeError, "g must hold real or complex"),
        (lambda: sparsemax_vjp([1.0, 0], [1.0] * 3), ValueError, r"g of shape \(3,\) does not"),
        (lambda: sparsemax(np.longdouble([1])), TypeError, "sparsemax is computed in float64 at"),
        (lambda: sparsemax([1.0], dtype=np.longdouble), TypeError, "sparsemax is computed in"),
        (lambda: sparsemax([1.0], dtype=int), TypeError, "dtype must be a floating-point type"),
        (lambda: entmax15([[1.0]], axis=2), ValueError, "axis 2 is out of bounds"),
        (lambda: entmax15([1.0], where=[1]), TypeError, "where must be boolean"),
        (lambda: entmax15([1.0], out=np.zeros(2)), ValueError, "out must have shape"),
        (lambda: entmax15([1.0], axis=0, dim=0), ValueError, "give axis or dim, not both"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_arrays_on_a_gpu_are_refused(monkeypatch):
    monkeypatch.setattr(fastsoftmax.call.arguments, "library_of", lambda x: object())
    with pytest.raises(ValueError, match="sparsemax is computed on the CPU: copy x to the host"):
        sparsemax([1.0])


def test_the_import_of_the_package_does_not_load_them():
    program = (
        "import sys, fastsoftmax; print('fastsoftmax.alternatives' in sys.modules);"
        "print(fastsoftmax.alternatives.sparsemax([0.0, 0.0]))"
    )
    assert in_a_process(program).split() == ["False", "[0.5", "0.5]"]


# --- the command -----------------------------------------------------------------------------


def test_compare_shows_the_blurry_and_the_crisp(capsys):
    assert main(["compare"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["logits", "1", "2", "10", "20"]
    cells = {name: numbers for name, *numbers in map(str.split, lines)}
    assert cells["softmax"] == ["0.268941", "0.731059", "4.53979e-05", "0.999955"]
    assert cells["standard_normalize"] == ["0.333333", "0.666667"] * 2
    assert cells["sparsemax"] == ["0", "1"] * 2
    assert list(cells) == list(comparing.COMPARED)


def test_compare_as_json(capsys):
    assert main(["compare", "-2,-1,1,2", "nan,1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert all(f'"{field}"' in comparing.__doc__ for field in [*told, *told["rows"][0]])
    first, second = told["rows"]
    assert first["logits"] == [-2, -1, 1, 2]
    assert first["results"]["standard_normalize"] is None
    assert first["results"]["spherical_softmax"] == [0.4, 0.1, 0.1, 0.4]
    assert second["results"]["standard_normalize"] == ["NaN", "NaN"]
    assert main(["compare", "-2,-1,1,2"]) == 0
    assert "none: they sum to 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("1,a", "'1,a' is no row of logits: numbers with commas"),
        ("", "'' is no row of logits"),
        ("--jsn", "no option '--jsn'. Did you mean '--json'?"),
    ],
)
def test_compare_refuses_what_is_no_row_in_one_line(capsys, argument, words):
    assert main(["compare", argument]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert printed.err.count("\n") == 1


def test_the_verifications_page_draws_them_side_by_side():
    html = pytest.importorskip("verification.html", reason="the page needs matplotlib")
    page = html.to_html(verification.Report((), (), 0, "cpu", {}, "2026-01-01"))
    _, part = page.split("<h2>Why the exponential</h2>")
    for name in comparing.COMPARED:
        assert f'<th scope="row">{name}</th>' in part
    assert "<td>0.26894, 0.73106</td><td>4.5398e-05, 0.99995</td>" in part
    assert "<td>none: they sum to 0</td>" in part
    assert part.count("<svg") == 2
    assert list(truth.COMPARED) == list(comparing.COMPARED)


# --- memory ----------------------------------------------------------------------------------


def at_both_edges():
    """Every kernel on arguments that begin and end where memory does."""
    rng = np.random.default_rng(14)
    for edge, name, dtype, length in itertools.product(
        ("start", "end"), FEW, (np.float32, np.float16), (7, 64, 131)
    ):
        function, gradient, of_results, _ = EVERY[name]
        x, g = rng.standard_normal((2, 5, length)).astype(dtype)
        mask = rng.random((5, length)) < 0.7
        how = How(edge=edge, read_only=True)
        p = function(x, where=mask)
        for array, options in ((x, {"where": mask}), (x, {})):
            out = placed(np.zeros_like(x), How(edge=edge))
            given = {key: placed(value, how) for key, value in options.items()}
            function(placed(array, how), out=out, **given)
            assert out.tobytes() == function(array, **options).tobytes()
        out = placed(np.zeros_like(x), How(edge=edge))
        of = p if of_results else x
        gradient(placed(of, how), placed(g, how), out=out)
        assert out.tobytes() == gradient(of, g).tobytes()


@pytest.mark.thorough
@pytest.mark.skipif(os.name != "posix", reason="pages are unmapped by POSIX's mprotect")
def test_kernels_keep_to_their_arguments_at_both_edges_of_memory():
    in_a_process("import test_alternatives; test_alternatives.at_both_edges()")
