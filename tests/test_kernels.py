"""rows.py and columns.py through the plan: every block edge, layout and element type."""

import ml_dtypes
import numba
import numpy as np
import pytest
from exact import wide_log_softmax, wide_softmax, wide_ulp_error

from fastsoftmax.cpu import plan
from fastsoftmax.cpu.sizes import BLOCK, MOST_CUTS, PANEL, WIDEST, cut_length

TYPES = {
    "float64": (np.dtype(np.float64), np.float64),
    "float32": (np.dtype(np.float32), np.float32),
    "float16": (np.dtype(np.float16), np.uint16),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.int16),
}
LONG = 1.7  # float32 softmax of rows longer than a block
BOUNDS = {  # the docstrings' bounds, with their arithmetic
    "softmax": {"float64": 1.95, "float32": 0.7, "float16": 0.51, "bfloat16": 0.51},
    "log_softmax": {"float64": 1.1, "float32": 0.6, "float16": 0.51, "bfloat16": 0.51},
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
    temperature = np.ones(len(x)) if temperature is None else temperature
    plan.normalized(function, x.view(stored), out.view(stored), temperature, mask)
    return out


def by_columns(function, x, stored, temperature=None, mask=None):
    """The same rows, laid out as columns of a (1, length, rows) array."""
    columns = np.ascontiguousarray(x.T)[None]
    out = np.empty_like(columns)
    temperature = (np.ones(len(x)) if temperature is None else temperature)[None]
    mask = None if mask is None else np.ascontiguousarray(mask.T)[None]
    plan.normalized(function, columns.view(stored), out.view(stored), temperature, mask)
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
            long = (function, name) == ("softmax", "float32") and length > BLOCK
            assert wide_ulp_error(got, wide(x)) <= (LONG if long else BOUNDS[function][name]), (
                length
            )
        np.testing.assert_array_equal(bits(got), bits(by_columns(function, x, stored)), str(length))


@pytest.mark.parametrize("name", TYPES)
def test_every_panel_width(name):
    dtype, stored = TYPES[name]
    rng = np.random.default_rng(2)
    for count in [*range(1, 20), PANEL - 1, PANEL, PANEL + 1, 2 * PANEL, 3 * PANEL + 7]:
        x = logits(rng, count, 11, dtype)
        for function in ("softmax", "log_softmax"):
            rows, columns = by_rows(function, x, stored), by_columns(function, x, stored)
            np.testing.assert_array_equal(bits(rows), bits(columns), str(count))
    for count in (WIDEST - 1, WIDEST, WIDEST + 9):
        x = logits(rng, count, BLOCK + 2, dtype)
        for function in ("softmax", "log_softmax"):
            rows, columns = by_rows(function, x, stored), by_columns(function, x, stored)
            np.testing.assert_array_equal(bits(rows), bits(columns), str(count))


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
    if columns:
        x = np.ascontiguousarray(x.T)[None]
        mask = None if mask is None else np.ascontiguousarray(mask.T)[None]
        weight = None if weight is None else np.ascontiguousarray(weight.T)[None]
    shape = x.shape[:1] + x.shape[2:]
    out = np.empty(shape, x.dtype)
    sign = None if weight is None else np.empty(shape)
    plan.logsumexp(x.view(stored), out.view(stored), sign, mask, weight)
    return out.ravel(), sign if sign is None else sign.ravel()


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("length", [BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 3, MOST_CUTS * BLOCK + 1])
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
        bound = LONG if (function, name) == ("softmax", "float32") else BOUNDS[function][name]
        assert wide_ulp_error(plain, wide(x)) <= bound
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
        plan.normalized(function, own.view(stored), own.view(stored), temperature, mask)
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
    assert wide_ulp_error(got, wide_softmax(x)) <= (LONG if name == "float32" else 1.95)
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
        assert wide_ulp_error(got, wide_softmax(x)) <= (LONG if name == "float32" else 1.95)
        np.testing.assert_array_equal(bits(got), bits(by_columns("softmax", x, stored)))
    x = np.zeros((3, length), dtype)
    x[0, BLOCK + 1], x[1, 5], x[1, -1], x[2, -2] = np.inf, np.inf, np.nan, np.nan
    for columns in (False, True):
        value, _ = sums(x, stored, columns=columns)
        np.testing.assert_array_equal(value, [np.inf, np.nan, np.nan])
        assert np.isnan((by_columns if columns else by_rows)("softmax", x, stored)).all()
