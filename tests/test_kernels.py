"""The kernels through the plan: every block edge, layout and element type."""

import ml_dtypes
import numba
import numpy as np
import pytest
from exact import wide_log_softmax, wide_softmax, wide_ulp_error

from fastsoftmax.cpu import plan
from fastsoftmax.cpu.sizes import BLOCK, MOST_CUTS, PACKED, PANEL_LINES, cut_length

TYPES = {
    "float64": (np.dtype(np.float64), np.float64),
    "float32": (np.dtype(np.float32), np.float32),
    "float16": (np.dtype(np.float16), np.uint16),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.int16),
}
BOUNDS = {  # the docstrings' bounds, with their arithmetic
    "softmax": {"float64": 1.6, "float32": 1.75, "float16": 0.51, "bfloat16": 0.51},
    "log_softmax": {"float64": 1.1, "float32": 1.1, "float16": 0.51, "bfloat16": 0.51},
}
LENGTHS = [
    *range(1, 41),
    *range(62, 67),
    *range(127, 131),
    1000,
    *range(BLOCK - 9, BLOCK + 10),
    2 * BLOCK - 1,
    2 * BLOCK,
    2 * BLOCK + 1,
    3 * BLOCK + 5,
]


def logits(rng, rows, length, dtype, spread=6.0):
    return (rng.standard_normal((rows, length)) * spread).astype(dtype)


def by_rows(function, x, stored, temperature=None, mask=None):
    out = np.empty_like(x)
    plan.compute(function, x.view(stored), out.view(stored), temperature, mask)
    return out


def by_columns(function, x, stored, temperature=None, mask=None):
    """The same rows, laid out as columns of a (1, length, rows) array."""
    columns = np.ascontiguousarray(x.T)[None]
    out = np.empty_like(columns)
    temperature = None if temperature is None else temperature[None]
    mask = None if mask is None else np.ascontiguousarray(mask.T)[None]
    plan.compute(function, columns.view(stored), out.view(stored), temperature, mask)
    return np.ascontiguousarray(out[0].T)


def bits(array):
    return array.view(f"u{array.itemsize}")


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_every_length_is_right_and_the_same_in_rows_and_columns(function, name):
    dtype, stored = TYPES[name]
    rng = np.random.default_rng(1)
    wide = wide_softmax if function == "softmax" else wide_log_softmax
    for length in LENGTHS:
        x = logits(rng, 3, length, dtype)
        got = by_rows(function, x, stored)
        if length > 1:
            assert wide_ulp_error(got, wide(x)) <= BOUNDS[function][name], length
        np.testing.assert_array_equal(bits(got), bits(by_columns(function, x, stored)), str(length))


@pytest.mark.parametrize("name", TYPES)
def test_every_number_of_rows_and_columns(name):
    dtype, stored = TYPES[name]
    rng = np.random.default_rng(2)
    for length, counts in (
        (11, [*range(1, 20), *range(30, 35), *range(62, 67), 96, 127, 129, 199]),
        (PANEL_LINES + 2, [1, 15, 16, 17, 31, 33, 63, 64, 65]),
    ):
        for count in counts:
            x = logits(rng, count, length, dtype)
            for function in ("softmax", "log_softmax"):
                rows, columns = by_rows(function, x, stored), by_columns(function, x, stored)
                np.testing.assert_array_equal(bits(rows), bits(columns), str((length, count)))
                alone = by_rows(function, x[-1:], stored)
                np.testing.assert_array_equal(bits(rows[-1:]), bits(alone), str((length, count)))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("length", PACKED)
def test_rows_of_a_constant_length_have_the_bits_of_others(name, length):
    dtype, stored = TYPES[name]
    rng = np.random.default_rng(7)
    x = logits(rng, plan.PACKED_FROM // length + 5, length, dtype)
    for function in ("softmax", "log_softmax"):
        whole = by_rows(function, x, stored)
        parts = [by_rows(function, part, stored) for part in np.array_split(x, 9)]
        np.testing.assert_array_equal(bits(whole), bits(np.concatenate(parts)))
    whole, _ = sums(x, stored)
    parts = [sums(part, stored)[0] for part in np.array_split(x, 9)]
    np.testing.assert_array_equal(bits(whole), bits(np.concatenate(parts)))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("length", [2, 7, 33, 200, BLOCK - 1, 2 * BLOCK + 7, 70_000])
def test_permuted_logits_have_permuted_results(name, length):
    dtype, stored = TYPES[name]
    rng = np.random.default_rng(8)
    for spread in (0.1, 6.0, 40.0):
        x = logits(rng, 1, length, dtype, spread)
        for _ in range(4):
            order = rng.permutation(length)
            for function in ("softmax", "log_softmax"):
                for way in (by_rows, by_columns):
                    got = way(function, np.ascontiguousarray(x[:, order]), stored)
                    right = by_rows(function, x, stored)[:, order]
                    np.testing.assert_array_equal(bits(got), bits(right))
            permuted, _ = sums(np.ascontiguousarray(x[:, order]), stored)
            np.testing.assert_array_equal(bits(permuted), bits(sums(x, stored)[0]))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_masks_and_temperatures_are_the_same_in_rows_and_columns(function, name):
    dtype, stored = TYPES[name]
    rng = np.random.default_rng(3)
    for length in (1, 7, 8, 9, 100, BLOCK + 3):
        x = logits(rng, 5, length, dtype)
        mask = rng.random(x.shape) < 0.6
        mask[0] = False
        temperature = rng.uniform(0.3, 3, 5)
        rows = by_rows(function, x, stored, temperature, mask)
        columns = by_columns(function, x, stored, temperature, mask)
        np.testing.assert_array_equal(bits(rows), bits(columns))
        absent = 0 if function == "softmax" else -np.inf
        assert (rows[~mask].astype(np.float64) == absent).all()


@pytest.mark.parametrize("name", TYPES)
def test_a_masked_row_is_the_row_with_minus_infinity(name):
    dtype, stored = TYPES[name]
    rng = np.random.default_rng(4)
    x = logits(rng, 4, 3 * BLOCK + 5, dtype)
    mask = rng.random(x.shape) < 0.5
    removed = np.where(mask, x, np.array(-np.inf, dtype)).astype(dtype)
    for function in ("softmax", "log_softmax"):
        np.testing.assert_array_equal(
            bits(by_rows(function, x, stored, mask=mask)), bits(by_rows(function, removed, stored))
        )


def sums(x, stored, mask=None, weight=None, columns=False):
    if weight is not None:
        out, sign = np.empty(len(x), x.dtype), np.empty(len(x))
        plan.weighted(x.view(stored), out.view(stored), sign, weight)
        return out, sign
    if columns:
        x = np.ascontiguousarray(x.T)[None]
        mask = None if mask is None else np.ascontiguousarray(mask.T)[None]
    out = np.empty(x.shape[:1] + x.shape[2:], x.dtype)
    plan.compute("logsumexp", x.view(stored), out.view(stored), None, mask)
    return out.ravel(), None


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize(
    "length", [BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 3, MOST_CUTS * BLOCK, MOST_CUTS * BLOCK + 1]
)
def test_cuts_are_right_alone_shared_and_as_columns(name, length):
    dtype, stored = TYPES[name]
    rng = np.random.default_rng(6)
    cut = cut_length(length)
    x = logits(rng, 3, length, dtype)
    x[0, cut:] -= 30  # a cut that hardly counts, and two of the same maximum
    x[1, [7, -7]] = 40
    mask = rng.random(x.shape) < 0.9
    mask[2, cut:] = False  # a cut without a logit
    temperature = np.array([1.0, 0.7, 3.0])
    for function, wide in (("softmax", wide_softmax), ("log_softmax", wide_log_softmax)):
        plain = by_rows(function, x, stored)
        assert wide_ulp_error(plain, wide(x)) <= BOUNDS[function][name]
        np.testing.assert_array_equal(bits(plain), bits(by_columns(function, x, stored)))
        shared = by_rows(function, x, stored, temperature, mask)
        columns = by_columns(function, x, stored, temperature, mask)
        np.testing.assert_array_equal(bits(shared), bits(columns))
        threads = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            alone = by_rows(function, x, stored, temperature, mask)
        finally:
            numba.set_num_threads(threads)
        np.testing.assert_array_equal(bits(shared), bits(alone))
        own = x.copy()
        plan.compute(function, own.view(stored), own.view(stored), temperature, mask)
        np.testing.assert_array_equal(bits(own), bits(shared))
    for kind in ({}, {"mask": mask}, {"weight": rng.standard_normal(x.shape)}):
        value, sign = sums(x, stored, **kind)
        other, other_sign = sums(x, stored, **kind, columns=True)
        np.testing.assert_array_equal(bits(value), bits(other))
        np.testing.assert_array_equal(sign, other_sign)


@pytest.mark.parametrize("name", TYPES)
def test_equal_logits_have_equal_results_in_whichever_cut(name):
    dtype, stored = TYPES[name]
    for length in (3 * BLOCK, 2 * MOST_CUTS * BLOCK + 1):
        x = np.zeros((1, length), dtype)
        x[0, BLOCK + 5] = 0.7  # one cut has another maximum
        for rows in (1, 9):  # shared by all threads, and not
            for function in ("softmax", "log_softmax"):
                both = np.repeat(x, rows, axis=0)
                for got in (by_rows(function, both, stored), by_columns(function, both, stored)):
                    assert len(np.unique(got.astype(np.float64))) == 2


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", ["plain", "masked", "weighted"])
def test_logsumexp_of_every_length_is_the_same_in_rows_and_columns(kind, name):
    dtype, stored = TYPES[name]
    rng = np.random.default_rng(5)
    for length in (*range(1, 18), 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5):
        x = logits(rng, 3, length, dtype)
        mask = rng.random(x.shape) < 0.6 if kind == "masked" else None
        weight = rng.standard_normal(x.shape) if kind == "weighted" else None
        value, sign = sums(x, stored, mask, weight)
        other, other_sign = sums(x, stored, mask, weight, columns=True)
        np.testing.assert_array_equal(bits(value), bits(other))
        if kind == "weighted":
            np.testing.assert_array_equal(sign, other_sign)
        factor = 1 if weight is None else weight
        terms = (
            np.where(True if mask is None else mask, np.exp(x.astype(np.longdouble)), 0) * factor
        )
        with np.errstate(divide="ignore"):
            true = np.log(np.abs(terms.sum(axis=1)))
        # a weighted sum cancels: its condition number is sum|terms| / |sum|
        cancelled = np.abs(terms).sum(axis=1) / np.maximum(np.abs(terms.sum(axis=1)), 1e-300)
        eps = float(ml_dtypes.finfo(dtype).eps)
        allowed = eps * np.maximum(np.abs(true), 0.5) + 2.0**-27 * cancelled * (name != "float64")
        allowed += 2.0**-51 * cancelled
        finite = np.isfinite(true)
        error = np.abs(value[finite].astype(np.longdouble) - true[finite])
        assert (error <= allowed[finite]).all()
        assert (value[~finite].astype(np.float64) == -np.inf).all()


@pytest.mark.parametrize("name", ["float64", "float32"])
@pytest.mark.parametrize("columns", [False, True])
def test_ten_million_terms(name, columns):
    dtype, stored = TYPES[name]
    rng = np.random.default_rng(6)
    x = logits(rng, 1, 10_000_000, dtype, spread=1.0)
    got = (by_columns if columns else by_rows)("softmax", x, stored)
    assert wide_ulp_error(got, wide_softmax(x)) <= BOUNDS["softmax"][name]
    # equal terms, whose rounding errors all point the same way in a plain sum
    x = np.full((1, 10_000_000), -1.2345, dtype)
    x[0, 77] = 0.0
    got = (by_columns if columns else by_rows)("log_softmax", x, stored)
    exact = np.log1p((x.size - 1) * np.exp(x[0, 0].astype(np.longdouble)))
    true = x.astype(np.longdouble) - exact
    assert wide_ulp_error(got, true) <= BOUNDS["log_softmax"][name]


@pytest.mark.parametrize("name", ["float64", "float32"])
def test_blocks_with_different_maxima_and_infinities(name):
    dtype, stored = TYPES[name]
    length = 3 * BLOCK
    for first, second, third in [
        (0, -50, -300),
        (-300, 0, -50),
        (-np.inf, 5, -np.inf),
        (-np.inf, -np.inf, 3),
        (1e30, -1e30, 0),
    ]:
        x = np.empty((2, length), dtype)
        x[:, :BLOCK], x[:, BLOCK : 2 * BLOCK], x[:, 2 * BLOCK :] = first, second, third
        got = by_rows("softmax", x, stored)
        assert wide_ulp_error(got, wide_softmax(x)) <= BOUNDS["softmax"][name]
        np.testing.assert_array_equal(bits(got), bits(by_columns("softmax", x, stored)))
    x = np.zeros((3, length), dtype)
    x[0, BLOCK + 1], x[1, 5], x[1, -1], x[2, -2] = np.inf, np.inf, np.nan, np.nan
    for columns in (False, True):
        value, _ = sums(x, stored, columns=columns)
        np.testing.assert_array_equal(value, [np.inf, np.nan, np.nan])
        assert np.isnan((by_columns if columns else by_rows)("softmax", x, stored)).all()
