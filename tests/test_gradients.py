"""Gradients: to their bounds, the same bits anywhere, of every layout, type and container."""

import hashlib
import itertools
import os
import platform
import tracemalloc
from unittest import mock

import exact
import ml_dtypes
import mpmath
import numba
import numpy as np
import pytest
from placed import How, in_a_process, placed
from simulated_device import OnDevice
from test_same_bits import AVX2
from thorough import beyond_first

import fastsoftmax
from fastsoftmax import (
    log_softmax,
    log_softmax_vjp,
    logsumexp,
    logsumexp_vjp,
    softmax,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
)
from fastsoftmax.cpu import plan
from fastsoftmax.cpu.sizes import BLOCK, PANEL_LINES, SHORT

INF, NAN = np.inf, np.nan
FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
PRODUCTS = [softmax_vjp, log_softmax_vjp, logsumexp_vjp]
TINY = mpmath.mpf(2) ** -1074


def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def numbers(row):
    return [mpmath.mpf(float(value)) for value in row]


# --- exactness ------------------------------------------------------------------------------------


def rows_of(n, dtype, rng):
    """Logits and gradients, moderate and where nearly all cancels or hardly anything is left."""
    wide = rng.standard_normal(n) * 20
    for x in (rng.standard_normal(n), wide, np.r_[60.0, wide[1:] - 60]):
        for g in (
            rng.standard_normal(n),
            1 + rng.standard_normal(n) * 1e-3,
            np.r_[1.0, np.zeros(n - 1)],
            rng.standard_normal(n) * 10.0 ** rng.integers(-4, 4, n),
        ):
            yield x.astype(dtype), g.astype(dtype)


def within(got, true, allowed, ulp, row):
    """Whether results are within so many ULP and what else is allowed of exact numbers."""
    for value, right, more in zip(numbers(got), true, allowed, strict=True):
        bound = mpmath.mpf(ulp) * exact.unit(right, got.dtype) + more
        assert abs(value - right) <= bound, (row, value, right)


@pytest.mark.parametrize("dtype", beyond_first([np.float64, *FLOATS[:1], *FLOATS[2:]]))
def test_products_are_exact_to_their_bounds(dtype):
    rng = np.random.default_rng(0)
    ulp = 0.5001 if dtype is np.float64 or dtype is np.float32 else 0.51
    for n in (1, 2, 5, 80):
        for x, g in rows_of(n, dtype, rng):
            p, log_p = softmax(x), log_softmax(x)
            ps, gs = numbers(p), numbers(g)
            terms = [a * b for a, b in zip(ps, gs, strict=True)]
            mean = mpmath.fsum(terms)
            loose = n * (max(map(abs, terms)) * mpmath.mpf(2) ** -100 + TINY)
            right = [a * (b - mean) for a, b in zip(ps, gs, strict=True)]
            within(softmax_vjp(p, g), right, [a * loose for a in ps], ulp, (x, g))

            shares = [mpmath.exp(value) for value in numbers(log_p)]
            total = mpmath.fsum(gs)
            right = [b - a * total for a, b in zip(shares, gs, strict=True)]
            loose = mpmath.mpf(2) ** -55.8 * abs(total) + n * mpmath.mpf(2) ** -100 * max(
                map(abs, gs)
            )
            within(log_softmax_vjp(log_p, g), right, [a * loose for a in shares], ulp, (x, g))

            factor = float(g[-1])
            right = [mpmath.mpf(factor) * a for a in exact.softmax(x)]
            got = logsumexp_vjp(x, factor)
            assert got.dtype == dtype
            within(got, right, [0] * n, 0.8 if dtype is np.float64 else 0.51, (x, factor))


def test_what_cancels_keeps_its_digits():
    """In the arrays' own type nothing would be left of the first result."""
    p = np.float32([1, 2.0**-60, 2.0**-70])
    assert softmax_vjp(p, np.float32([0, 1, 0]))[0] == np.float32(-(2.0**-60))
    assert softmax_vjp(p.astype(np.float64), [0, 1, 0])[0] == -(2.0**-60)
    # not the sum of g, 1, but what is beside 2**60
    log_p = np.array([0.0, -INF, -INF])
    assert log_softmax_vjp(log_p, [2.0**60, 1.0, -(2.0**60)])[0] == 2.0**60 - 1


def test_results_that_a_probability_alone_could_not_give():
    """exp(-760) is no float64, and 2**1000 times it is."""
    right = float(mpmath.exp(-760) * mpmath.mpf(2) ** 1000)
    for x in ([0.0, -760.0], [0.0, -760.0] * 40):
        repeats = len(x) // 2
        got = logsumexp_vjp(x, 2.0**1000)
        assert got[1] == pytest.approx(right / repeats, rel=2**-52)
    assert log_softmax_vjp([0.0, -760.0], [2.0**1000, 0.0])[1] == pytest.approx(-right, rel=2**-52)


def test_the_smallest_and_the_largest_numbers():
    tiny, huge = 2.0**-1074, 2.0**1023
    p = np.array([0.5, 0.25, 0.25])
    assert softmax_vjp(p, [8 * tiny, 0, 0]).tolist() == [2 * tiny, -tiny, -tiny]
    assert softmax_vjp(p, [huge, 0, 0]).tolist() == [huge / 4, -huge / 8, -huge / 8]
    assert softmax_vjp([tiny, 1.0], [huge, 0.0])[0] == tiny * huge
    got = softmax_vjp([0.75, 0.25], [-1.9 * huge, 1.9 * huge])  # 1.9 + 0.95 is beyond
    assert got[1] == INF
    assert got[0] == pytest.approx(-0.7125 * huge)
    log_p = np.log([0.5, 0.5])
    assert log_softmax_vjp(log_p, [4 * tiny, 0]).tolist() == [2 * tiny, -2 * tiny]
    assert log_softmax_vjp(log_p, [huge, 0]) == pytest.approx([huge / 2, -huge / 2])
    assert logsumexp_vjp([0.0, 0.0], 2 * tiny).tolist() == [tiny, tiny]
    assert logsumexp_vjp([1e308, 1e308], huge).tolist() == [huge / 2, huge / 2]


@pytest.mark.parametrize("length", [2048 * 8, 2048 * 9 + 1])
def test_as_many_of_the_largest_terms_as_are_counted_at_one_go(length):
    """Just below a power of two each, in every lane, of one sign: nothing wraps around."""
    most = np.nextafter(2.0, 0)
    for size in (most, -most):
        g = np.full((2, length), size)
        right = float(mpmath.mpf(size) - length * mpmath.mpf(size))
        for got in (
            softmax_vjp(np.ones_like(g), g),
            softmax_vjp(np.ones((length, 2)), np.ascontiguousarray(g.T), axis=0),
            log_softmax_vjp(np.zeros_like(g), g),
        ):
            assert (got == right).all()


def test_the_example_of_the_tutorial():
    """The gradient of p[0] there, of probabilities that are printed to four digits."""
    p = [0.2732, 0.3780, 0.3489]
    expected = pytest.approx([0.1985, -0.1033, -0.0953], abs=1e-4)
    assert softmax_vjp(p, [1.0, 0.0, 0.0]) == expected
    assert softmax_jvp(p, [1.0, 0.0, 0.0]) == expected
    assert softmax_jacobian(np.log(p))[0] == expected


def test_as_autograd_has_it():
    torch = pytest.importorskip("torch", reason="compares with torch.autograd")
    rng = np.random.default_rng(1)
    x = torch.tensor(rng.standard_normal((3, 5, 4)), requires_grad=True)
    g = torch.tensor(rng.standard_normal((3, 5, 4)))
    reduced = torch.tensor(rng.standard_normal((3, 4)))
    plain = x.detach()
    for forward, ours in (
        (lambda: x.softmax(1), lambda: softmax_vjp(softmax(plain, 1), g, dim=1)),
        (lambda: x.log_softmax(1), lambda: log_softmax_vjp(log_softmax(plain, 1), g, dim=1)),
    ):
        (theirs,) = torch.autograd.grad(forward(), x, g)
        got = ours()
        assert isinstance(got, torch.Tensor)
        assert got.numpy() == pytest.approx(theirs.numpy(), rel=1e-12, abs=1e-15)
    (theirs,) = torch.autograd.grad(x.logsumexp(1), x, reduced)
    assert logsumexp_vjp(plain, reduced, dim=1).numpy() == pytest.approx(theirs.numpy(), rel=1e-13)
    row = plain[0, :, 0].numpy()
    theirs = torch.autograd.functional.jacobian(lambda v: v.softmax(0), torch.tensor(row))
    assert softmax_jacobian(row) == pytest.approx(theirs.numpy(), rel=1e-12)
    with pytest.raises(TypeError, match="gradient"):
        softmax_vjp(x, g)


def test_a_jvp_is_the_change_along_a_direction():
    rng = np.random.default_rng(2)
    x, v = rng.standard_normal((2, 7))
    step = 1e-6
    change = (softmax(x + step * v) - softmax(x - step * v)) / (2 * step)
    assert softmax_jvp(softmax(x), v) == pytest.approx(change, abs=1e-9)


def test_a_temperature_divides_the_gradient():
    rng = np.random.default_rng(3)
    x, g = rng.standard_normal((2, 6))
    step, temperature = 1e-6, 2.5
    along = [
        (softmax(x + e, temperature=temperature) - softmax(x - e, temperature=temperature)) @ g
        for e in np.eye(6) * step
    ]
    got = softmax_vjp(softmax(x, temperature=temperature), g / temperature)
    assert got == pytest.approx(np.array(along) / (2 * step), abs=1e-9)


# --- the same bits ----------------------------------------------------------------------------


def operands(function, x, g, axis=-1):
    """What a product is called with for logits and gradients, without a kernel being compiled."""
    if function is logsumexp_vjp:
        return x, g.sum(axis=axis, dtype=np.float32).astype(g.dtype)
    with np.errstate(invalid="ignore"):
        terms = np.exp(x - x.max(axis=axis, keepdims=True))
        p = terms / terms.sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        return (np.log(p) if function is log_softmax_vjp else p).astype(x.dtype), g


def batch(dtype, rows, length):
    rng = np.random.default_rng([rows, length])
    return ((rng.standard_normal((rows, length)) * 4).astype(dtype) for _ in range(2))


EDGES = [1, 3, 8, 9, 33, SHORT, SHORT + 1, 127, BLOCK + 1, 16384 + 5]


def everything():
    """Results of every kind of kernel, which all gradients share, and of every gradient."""
    for length, axis in (7, 1), (133, 1), (2 * BLOCK + 3, 1), (70, 0):
        x, g = batch(np.float32, 20, length)
        yield softmax_vjp(*operands(softmax_vjp, x, g), axis=axis)
    x, g = batch(np.float32, 4, 9 * BLOCK + 3)  # enough for all threads
    assert x.size >= plan.PARALLEL_FROM
    yield softmax_vjp(*operands(softmax_vjp, x, g))
    x, g = batch(np.float32, 300, 500)
    for function in PRODUCTS:
        yield function(*operands(function, x, g), axis=1)


@pytest.mark.parametrize("dtype", beyond_first(FLOATS))
@pytest.mark.parametrize("function", PRODUCTS)
def test_a_row_has_its_bits_in_any_order_batch_layout_and_cut(function, dtype):
    rng = np.random.default_rng(4)
    for length in EDGES:
        x, g = operands(function, *batch(dtype, 41, length))
        whole = function(x, g, axis=-1)
        order = rng.permutation(length)
        mapped = g.ndim == 2
        shuffled = g[:, order] if mapped else g
        assert digest(function(x[:, order], shuffled, axis=-1)) == digest(whole[:, order])
        for rows in (slice(0, 1), slice(3, 20)):
            assert digest(function(x[rows], g[rows], axis=-1)) == digest(whole[rows])
        turned = np.ascontiguousarray(g.T)
        down = function(np.ascontiguousarray(x.T), turned, axis=0)
        assert digest(down.T) == digest(whole)
        # which no thread has to itself
        with mock.patch.object(plan, "PARALLEL_FROM", 1):
            assert digest(function(x[:2], g[:2], axis=-1)) == digest(whole[:2])
            assert digest(function(x, g, axis=-1)) == digest(whole)


@pytest.mark.parametrize("function", PRODUCTS)
def test_columns_of_any_number_and_length(function):
    for length, count in [(5, 1), (7, 65), (300, 200), (PANEL_LINES + 1, 70), (BLOCK + 3, 19)]:
        x, g = operands(function, *batch(np.float32, count, length))
        whole = function(x, g, axis=-1)
        down = function(np.ascontiguousarray(x.T), np.ascontiguousarray(g.T), axis=0)
        assert digest(down.T) == digest(whole)


EVERYTHING = """
import test_gradients
from fastsoftmax.cpu import plan
print(test_gradients.digest(*test_gradients.everything()), plan.cpu()[1])
"""


@pytest.mark.parametrize("count", beyond_first(["3", "1"]))
def test_any_number_of_threads(count):
    said = in_a_process(EVERYTHING, NUMBA_NUM_THREADS=count)
    assert said.split()[0] == digest(*everything())


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 code is compared")
def test_code_for_avx2():
    if not set(AVX2.split(",")) <= set(numba.core.codegen.get_host_cpu_features().split(",")):
        pytest.skip("this CPU cannot run code for AVX2")
    said = in_a_process(EVERYTHING, NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=AVX2)
    assert said.split() == [digest(*everything()), "256"]


# --- layouts, types, containers -------------------------------------------------------------------


@pytest.mark.parametrize("function", PRODUCTS)
def test_any_layout_and_axes(function):
    rng = np.random.default_rng(5)
    x, g = rng.standard_normal((2, 4, 6, 5)).astype(np.float32)
    for axis in (0, 1, -1, (0, 2), (2, 1), None):
        first, second = operands(function, x, g, axis)
        axes = range(3) if axis is None else np.atleast_1d(axis) % 3
        kept = [each for each in range(3) if each not in axes]
        order = [*kept, *sorted(axes)]
        shape = [x.shape[each] for each in order]
        rows = first.transpose(order).reshape(*shape[: len(kept)], -1)
        beside = (
            second if function is logsumexp_vjp else second.transpose(order).reshape(rows.shape)
        )
        right = function(rows, beside, axis=-1).reshape(shape).transpose(np.argsort(order))
        for lies in (
            np.asarray,
            np.asfortranarray,
            lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
            lambda a: a[::-1].copy()[::-1] if a.ndim else a,
            lambda a: a.astype(a.dtype.newbyteorder()),
        ):
            got = function(lies(first), lies(np.asarray(second)), axis=axis)
            assert got.dtype == np.float32
            assert digest(got) == digest(right), axis


def test_a_gradient_for_each_row_with_or_without_its_axis():
    x = np.arange(24.0).reshape(2, 3, 4)
    g = np.arange(1.0, 9).reshape(2, 4)
    right = softmax(x, axis=1) * g[:, None]
    for given in (g, g[:, None], g.tolist()):
        assert logsumexp_vjp(x, given, axis=1) == pytest.approx(right, rel=1e-14)
    assert logsumexp_vjp(x, 2.0) == pytest.approx(2 * softmax(x), rel=1e-14)
    assert (softmax_vjp(0.5, 1.0), logsumexp_vjp(3.0, 2.0)) == (0.25, 2.0)
    assert digest(logsumexp_vjp(x, [[[1.0] * 4]], axis=1)) == digest(logsumexp_vjp(x, 1, axis=1))


def test_the_result_has_the_wider_type():
    p = np.float32([0.5, 0.5])
    assert softmax_vjp(p, np.float32([1, 2])).dtype == np.float32
    assert softmax_vjp(p, [1.0, 2.0]).dtype == np.float64
    assert softmax_vjp(p, 1.0).dtype == np.float32
    assert softmax_vjp(p, np.float16([1, 2])).dtype == np.float32
    assert softmax_vjp(p, [1.0, 2.0], dtype=np.float16).dtype == np.float16
    assert softmax_vjp([1, 0], [1, 2]).dtype == np.float64
    assert logsumexp_vjp(p, np.float64(1)).dtype == np.float64
    assert logsumexp_vjp(p, 1).dtype == np.float32


@pytest.mark.parametrize("function", PRODUCTS)
def test_out_may_be_an_operand_and_may_overlap_them(function):
    x, g = operands(function, *batch(np.float32, 50, 70))
    right = function(x, g, axis=-1)
    out = np.empty_like(right)
    assert function(x, g, axis=-1, out=out) is out
    assert digest(out) == digest(right)
    narrow = np.empty(x.shape, np.float16)
    function(x, g, axis=-1, out=narrow)
    assert digest(narrow) == digest(right.astype(np.float16))
    memory = np.empty(x.size + 1, np.float32)
    first, second = memory[1:].reshape(x.shape), memory[:-1].reshape(x.shape)
    first[...] = x
    assert digest(function(first, g, axis=-1, out=second)) == digest(right)
    in_place = x.copy()
    assert digest(function(in_place, g, axis=-1, out=in_place)) == digest(right)
    if function is not logsumexp_vjp:
        in_place = g.copy()
        assert digest(function(x, in_place, axis=-1, out=in_place)) == digest(right)
        down = np.ascontiguousarray(g.T)
        assert digest(function(np.ascontiguousarray(x.T), down, axis=0, out=down).T) == digest(
            right
        )


def test_in_place_hardly_anything_is_allocated():
    x, g = operands(softmax_vjp, *batch(np.float32, 300, 500))
    softmax_vjp(x, g, out=g)
    tracemalloc.start()
    for out in (x, g):
        softmax_vjp(x, g, out=out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < x.nbytes // 10


@pytest.mark.parametrize("function", PRODUCTS)
def test_what_is_masked_does_not_count_whatever_it_is(function):
    rng = np.random.default_rng(6)
    for shape in [(9, 7), (9, 100), (2, 40, 20)]:
        logits, gradients = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        where = rng.random(shape) < 0.7
        where[0] = False  # no class at all
        where[0, 0] = True
        x, g = operands(function, np.where(where, logits, -INF), gradients, 1)
        mapped = function is not logsumexp_vjp
        masked_x, masked_g = np.where(where, x, NAN), np.where(where, g, INF) if mapped else g
        got = function(masked_x, masked_g, axis=1, where=where)
        assert (got[~where] == 0).all()
        zeroed = np.where(where, g, 0) if mapped else g
        right = np.where(where, function(x, zeroed, axis=1), 0)
        assert digest(got) == digest(right)
        array = np.ma.MaskedArray(masked_x, ~where)
        result = function(array, masked_g, axis=1)
        assert isinstance(result, np.ma.MaskedArray)
        assert (result.mask == ~where).all()
        assert digest(result.data) == digest(got)
    assert softmax_vjp([0.5, 0.5], [1.0, 2.0], where=[False, False]).tolist() == [0, 0]
    assert logsumexp_vjp([0.5, 0.5], 1.0, where=[False, False]).tolist() == [0, 0]


def test_frames_and_named_arrays_are_matched_by_label():
    pd = pytest.importorskip("pandas")
    xr = pytest.importorskip("xarray")
    rng = np.random.default_rng(7)
    x, g = rng.standard_normal((2, 3, 4))
    frame = pd.DataFrame(x, index=list("abc"), columns=list("wxyz"))
    beside = pd.DataFrame(g, index=list("abc"), columns=list("wxyz"))
    p = softmax(frame, axis=1)
    right = softmax_vjp(softmax(x, axis=1), g)
    got = softmax_vjp(p, beside[list("zxyw")].loc[list("cab")], axis="columns")
    pd.testing.assert_frame_equal(got, pd.DataFrame(right, frame.index, frame.columns))
    of_rows = pd.Series(g[:, 0], index=list("abc"))[list("bca")]
    got = logsumexp_vjp(frame, of_rows, axis=1)
    assert digest(got.to_numpy()) == digest(logsumexp_vjp(x, g[:, 0], axis=1))
    array = xr.DataArray(x, dims=("row", "class"))
    got = logsumexp_vjp(array, xr.DataArray(g[:, 0], dims="row"), dim="class")
    assert got.dims == ("row", "class")
    assert digest(got.to_numpy()) == digest(logsumexp_vjp(x, g[:, 0], axis=1))
    data = xr.Dataset({"one": array, "two": -array})
    got = softmax_vjp(softmax(data, dim="class"), data, dim="class")
    assert digest(got["two"].to_numpy()) == digest(softmax_vjp(softmax(-x, axis=1), -x))
    with pytest.raises(ValueError, match="g lacks labels that p has"):
        softmax_vjp(p, beside.rename(columns={"z": "v"}))


def test_long_double_is_computed_in_long_double():
    x, g = np.random.default_rng(8).standard_normal((2, 3, 5)).astype(np.longdouble)
    p, log_p = softmax(x, axis=1), log_softmax(x, axis=1)
    got = softmax_vjp(p, g)
    assert got.dtype == np.longdouble
    assert abs(got.sum()) < 1e-18
    assert abs(log_softmax_vjp(log_p, g) - (g - p * g.sum(axis=1, keepdims=True))).max() < 1e-18
    row = g.sum(axis=1)
    assert abs(logsumexp_vjp(x, row, axis=1) - p * row[:, None]).max() < 1e-18
    where = np.arange(5) != 2
    held = np.where(where, p, np.longdouble(NAN))
    assert softmax_vjp(held, g, where=where)[:, 2].tolist() == [0, 0, 0]
    assert np.isfinite(softmax_vjp(held, g, where=where)).all()
    x[:, 2] = NAN
    assert np.isfinite(logsumexp_vjp(x, 1.0, axis=1, where=where)).all()


@pytest.mark.parametrize("function", [*PRODUCTS, softmax_jvp])
@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
def test_nothing_of_nothing(function, dtype):
    empty, row = np.empty((0, 4), dtype), np.empty((4, 0), dtype)
    for x in (empty, row):
        got = function(x, 1.0 if function is logsumexp_vjp else x, axis=1)
        assert (got.shape, got.dtype) == (x.shape, dtype)


# --- what is not finite ---------------------------------------------------------------------------


@pytest.mark.parametrize("length", [4, 100])
@pytest.mark.parametrize("dtype", beyond_first(FLOATS))
def test_what_is_not_finite_makes_its_row_nan(length, dtype):
    for place, bad in itertools.product((0, length - 1), (NAN, INF, -INF)):
        x, g = (a.astype(dtype) for a in np.random.default_rng(9).random((2, 3, length)))
        p, log_p = softmax(x, axis=1), log_softmax(x, axis=1)
        spoilt = g.copy()
        spoilt[1, place] = bad
        for got, right in (
            (softmax_vjp(p, spoilt), softmax_vjp(p, g)),
            (log_softmax_vjp(log_p, spoilt), log_softmax_vjp(log_p, g)),
            (logsumexp_vjp(x, spoilt[:, place], axis=1), logsumexp_vjp(x, g[:, place], axis=1)),
        ):
            assert np.isnan(got[1]).all()
            assert digest(got[::2]) == digest(right[::2])
        p[1, place] = log_p[1, place] = bad
        assert np.isnan(softmax_vjp(p, g)[1]).all()
        got = log_softmax_vjp(log_p, g)[1]
        if bad == -INF:  # no probability at all
            assert got[place] == g[1, place]
        else:
            assert not np.isfinite(got[place])
        assert np.isfinite(np.delete(got, place)).all()
        x[1, place] = bad
        got = logsumexp_vjp(x, g[:, 0], axis=1)[1]
        assert got[place] == 0 if bad == -INF else np.isnan(got).all()
    assert np.isnan(logsumexp_vjp([-INF, -INF], 1.0)).all()


# --- bad input ------------------------------------------------------------------------------------

TWICE = np.lib.stride_tricks.as_strided(np.zeros(1), (2,), (0,))


@pytest.mark.parametrize(
    ("function", "error", "said", "given", "others"),
    [
        (softmax_vjp, ValueError, r"g of shape \(3,\) does not", ([0.5, 0.5], [1, 2, 3]), {}),
        (softmax_jvp, ValueError, r"v of shape \(3,\) does not", ([0.5, 0.5], [1, 2, 3]), {}),
        (logsumexp_vjp, ValueError, r"g of shape \(2,\)", (np.zeros((3, 2)), [1, 2], 1), {}),
        (softmax_vjp, TypeError, "p must hold real numbers", ([0.5j, 0.5], [1, 2]), {}),
        (softmax_vjp, TypeError, "g must hold real numbers", ([0.5, 0.5], [1j, 2]), {}),
        (log_softmax_vjp, TypeError, "log_p must hold real", ([0.5j, 0.5], [1, 2]), {}),
        (logsumexp_vjp, TypeError, "dtype must be real", ([0.5, 0.5], 1.0), {"dtype": complex}),
        (softmax_vjp, TypeError, "dtype must be a floating", ([0.5, 0.5], [1, 2]), {"dtype": int}),
        (softmax_vjp, TypeError, "g must hold real or complex", ([0.5, 0.5], ["a", "b"]), {}),
        (softmax_vjp, TypeError, "g must not be a masked", ([0.5, 0.5], np.ma.ones(2)), {}),
        (softmax_vjp, ValueError, "axis 1 is out of bounds", ([0.5, 0.5], [1, 2], 1), {}),
        (softmax_vjp, ValueError, "give axis or dim", ([0.5, 0.5], [1, 2], 0), {"dim": 0}),
        (softmax_vjp, TypeError, "where must be boolean", ([0.5, 0.5], [1, 2]), {"where": [1, 0]}),
        (softmax_vjp, ValueError, "out must have", ([0.5, 0.5], [1, 2]), {"out": np.zeros(3)}),
        (softmax_vjp, TypeError, "cannot hold", ([0.5, 0.5], [1, 2]), {"out": np.zeros(2, int)}),
        (softmax_vjp, TypeError, "out is of", ([1, 0], [1, 2]), {"out": np.ones(2), "dtype": "f4"}),
        (softmax_vjp, ValueError, "out must not overlap", ([0.5, 0.5], [1, 2]), {"out": TWICE}),
        (softmax_jacobian, ValueError, r"x must be a vector.*\(1, 2\)", ([[0.5, 0.5]],), {}),
        (softmax_jacobian, ValueError, r"x must be a vector.*\(\)", (0.5,), {}),
        (softmax_jacobian, TypeError, "x must hold real numbers", ([0.5j],), {}),
        (softmax_jacobian, TypeError, "computes no", (np.zeros(2, np.longdouble),), {}),
        (softmax_jacobian, TypeError, "computes no", ([0.5],), {"dtype": np.longdouble}),
        (softmax_jacobian, TypeError, "x must not be a masked", (np.ma.ones(2),), {}),
    ],
)  # fmt: skip
def test_bad_input_is_refused(function, error, said, given, others):
    with pytest.raises(error, match=said):
        function(*given, **others)


def test_arrays_on_a_gpu_are_refused():
    x = np.ones(3)
    for function in (*PRODUCTS, softmax_jvp):
        with pytest.raises(ValueError, match=f"{function.__name__} is computed on the CPU: copy"):
            function(OnDevice(x), x)
        with pytest.raises(TypeError, match=r"OnDevice on a GPU, and .* on the host"):
            function(x, OnDevice(x))
    with pytest.raises(ValueError, match="softmax_jacobian is computed on the CPU: copy x"):
        softmax_jacobian(OnDevice(x))


def test_nothing_is_written_before_all_is_checked():
    out = np.full(2, 7.0)
    for given in (([0.5, 0.5], [1, 2, 3]), ([0.5, 0.5], [1j, 2])):
        with pytest.raises((TypeError, ValueError)):
            softmax_vjp(*given, out=out)
    assert out.tolist() == [7, 7]
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        softmax_vjp([0.5, 0.5], [1, 2], out=out)


EDGE_OF_MEMORY = """
from test_gradients import check_at_the_edge, logsumexp_vjp, softmax_vjp
for function in (softmax_vjp, logsumexp_vjp):  # how they read is how all do
    check_at_the_edge(function, {masked})
"""


def check_at_the_edge(function, masked):
    """Every kernel on arrays beside which no memory is mapped: what reads beyond them dies."""
    shapes = (5, 7), (5, 131), (2, 2 * BLOCK + 13), (2, 9, 11), (1, BLOCK + 3, 3)
    rng = np.random.default_rng(10)
    for shape, edge in itertools.product(shapes, ("start", "end")):
        logits, gradients = rng.standard_normal((2, *shape)).astype(np.float32)
        where = rng.random(shape) < 0.7 if masked else None
        x, g = operands(function, logits, gradients, 1)
        right = function(x, g, axis=1, where=where)
        how = How(edge=edge, read_only=True)
        held = [None if a is None else placed(a, how) for a in (x, g, where)]
        out = placed(np.zeros_like(right), How(edge=edge))
        with mock.patch.object(plan, "PARALLEL_FROM", 1):
            function(*held[:2], axis=1, where=held[2], out=out)
        assert digest(out) == digest(right), (function, shape, edge)


@pytest.mark.skipif(os.name != "posix", reason="pages are unmapped by POSIX's mprotect")
@pytest.mark.parametrize("masked", beyond_first([False, True]))
def test_no_kernel_reads_or_writes_beyond_its_arguments(masked):
    in_a_process(EDGE_OF_MEMORY.format(masked=masked), NUMBA_NUM_THREADS="2")


# --- the Jacobian ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_jacobian_is_exact_to_its_bounds(dtype):
    rng = np.random.default_rng(11)
    beside, diagonal = (2.6, 3.6) if dtype is np.float64 else (0.51, 0.51)
    rows = [rng.standard_normal(n) * s for n in (1, 2, 3, 9) for s in (0.01, 1, 20, 100)]
    for row in [*rows, [40.0, 0.0], [0.0, -700.0, -701.0], [0.0] * 4]:
        x = np.array(row, dtype)
        n = len(x)
        terms = exact.softmax(x)
        got = softmax_jacobian(x)
        assert (got.dtype, got.shape) == (dtype, (n, n))
        assert digest(got) == digest(got.T)
        off = ~np.eye(n, dtype=bool)
        true = [-terms[i] * terms[j] for i in range(n) for j in range(n) if i != j]
        assert exact.ulp_error(got[off], true, dtype) <= beside, x
        true = [terms[i] * mpmath.fsum(terms[j] for j in range(n) if j != i) for i in range(n)]
        assert exact.ulp_error(np.diag(got), true, dtype) <= diagonal, x


def test_the_jacobian_in_any_order_and_of_any_kind():
    rng = np.random.default_rng(12)
    x = rng.standard_normal(50) * 5
    order = rng.permutation(50)
    assert digest(softmax_jacobian(x[order])) == digest(softmax_jacobian(x)[np.ix_(order, order)])
    assert digest(softmax_jacobian(x.tolist())) == digest(softmax_jacobian(x))
    assert softmax_jacobian(x, dtype=np.float32).dtype == np.float32
    assert softmax_jacobian([]).shape == (0, 0)
    assert np.isnan(softmax_jacobian([0.0, NAN])).all()
    assert np.isnan(softmax_jacobian([0.0, INF])).all()
    assert softmax_jacobian([0.0, -INF]).tolist() == [[0, 0], [0, 0]]
    product = softmax_jacobian(x) @ np.arange(50.0)
    assert product == pytest.approx(softmax_vjp(softmax(x), np.arange(50.0)), abs=1e-12)


def test_all_of_them_are_public():
    names = {function.__name__ for function in [*PRODUCTS, softmax_jvp, softmax_jacobian]}
    assert names <= set(fastsoftmax.__all__)
    assert float(logsumexp([0.0, 0.0])) > 0
