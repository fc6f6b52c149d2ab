"""Every kernel around every edge: right, and the same bits whichever computes a row."""

import functools
import inspect
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from exact import wide_log_softmax, wide_softmax, wide_ulp_error
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import (
    BRIEF,
    FORMULA,
    LONG,
    STORED,
    Rows,
    bits,
    computed,
    computed_weighted,
    planned,
    takes,
)
from thorough import beyond_first

import fastsoftmax
from fastsoftmax import ERROR_BOUNDS
from fastsoftmax.arithmetic import bins, lanes, normalizer, pairs
from fastsoftmax.cpu import (
    across,
    along,
    cuts,
    divergence,
    elementwise,
    memory,
    streamed,
    weighted,
)
from fastsoftmax.cpu.sizes import BLOCK, CHUNK, MOST_CUTS, PACKED, PANEL_LINES, SHORT, vectors


def widths(name):
    """Lanes of one vector, and of several side by side."""
    each = 64 // max(STORED[name][0].itemsize, 4)
    return each, each * vectors()


def edges(name, longest):
    """Lengths next to every edge that a kernel's loops have."""
    each, several = widths(name)
    ends = [each, 2 * each, several, several + each, 2 * several, SHORT, PANEL_LINES, BLOCK]
    ends += [CHUNK, 2 * CHUNK + several, MOST_CUTS * BLOCK]
    near = {end + step for end in ends for step in (-1, 0, 1)}
    return [n for n in sorted({1, 2, 3, 4, 5, 6, *near}) if n <= longest]


def drawn(name, count, length, extras=False, seed=0, spread=6.0):
    """Rows of normal logits; with extras masked, and divided by temperatures."""
    rng = np.random.default_rng([seed, count, length])
    x = (rng.standard_normal((count, length)) * spread).astype(STORED[name][0])
    if not extras:
        return Rows(x)
    mask = rng.random(x.shape) < 0.7
    mask[count // 2] = False
    temperature = rng.uniform(0.3, 3, count)
    temperature[-1] = 1.0
    return Rows(x, temperature, mask)


def same(got, expected, *said):
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan, str(said))
    np.testing.assert_array_equal(bits(got)[~nan], bits(expected)[~nan], str(said))


def agreed(name, rows, kinds):
    """What all kernels that can compute the rows make of them, the same bits."""
    results = {kind: computed(kind, name, rows) for kind in kinds if takes(kind, rows)}
    first, *others = results
    for kind in others:
        same(results[kind], results[first], name, first, kind, rows.x.shape)
    return results[first]


def wide_logsumexp(x):
    top = x.max(axis=1).astype(np.longdouble)
    largest = np.take_along_axis(wide_log_softmax(x), x.argmax(axis=1)[:, None], 1)[:, 0]
    return top - largest


def wide_entropy(x):
    p, below = wide_softmax(x), x.max(axis=1, keepdims=True).astype(np.longdouble) - x
    largest = np.take_along_axis(wide_log_softmax(x), x.argmax(axis=1)[:, None], 1)[:, 0]
    return np.where(p == 0, 0, p * below).sum(axis=1) - largest


WIDE = {
    "softmax": wide_softmax,
    "log_softmax": wide_log_softmax,
    "logsumexp": wide_logsumexp,
    "entropy": wide_entropy,
}


def check_bound(name, got, x):
    if x.shape[1] > 1:
        found = wide_ulp_error(got, WIDE[name](x))
        assert found <= ERROR_BOUNDS[name][x.dtype.name], (name, x.shape, found)


CASES = [(name, dtype) for name in FORMULA for dtype in STORED]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_rows_up_to_a_block_have_the_same_bits_from_every_kernel(name, dtype):
    each, several = widths(dtype)
    counts = [1, 3, each, each + 1, several, 2 * several + 5]
    for place, length in enumerate(edges(dtype, BLOCK)):
        rows = drawn(dtype, counts[place % 6] if length < 300 else 1 + place % 3, length)
        got = agreed(name, rows, BRIEF)
        same(planned(name, rows), got, "planned", length)
        check_bound(name, got, rows.x)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_long_rows_have_the_same_bits_from_every_kernel(name, dtype):
    for place, length in enumerate(edges(dtype, 2 * CHUNK + 300)):
        rows = drawn(dtype, 1 + place % 3, length)
        got = agreed(name, rows, LONG)
        if length > BLOCK:
            same(planned(name, rows), got, "planned", length)
        if dtype == "float64" and length <= BLOCK:
            same(planned(name, rows), got, "planned", length)
        check_bound(name, got, rows.x)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_longest_cuts_have_the_same_bits_from_every_kernel(name, dtype):
    for length in (MOST_CUTS * BLOCK, MOST_CUTS * BLOCK + 1):
        rows = drawn(dtype, 2, length)
        rows.x[0, BLOCK:] -= 30  # cuts that hardly count, and two of the same maximum
        rows.x[1, [7, -7]] = 40
        check_bound(name, agreed(name, rows, LONG), rows.x)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_any_number_of_rows_beside_has_the_same_bits(name, dtype):
    each, several = widths(dtype)
    near = {n + step for n in (each, several, 2 * several, 4 * several) for step in (-1, 0, 1)}
    for length in (3, 11):
        whole = drawn(dtype, 4 * several + 1, length)
        expected = computed("rows", name, whole)
        for count in sorted({1, 2, 3, 7, *near}):
            some = whole.taken(np.arange(count), 0)
            same(agreed(name, some, BRIEF), expected[:count], length, count)
    whole = drawn(dtype, 2 * several + 1, BLOCK + 3)
    expected = computed("long", name, whole)
    for count in (1, each - 1, each, each + 1, several, several + 1, 2 * several + 1):
        some = whole.taken(np.arange(count), 0)
        same(computed("long_columns", name, some), expected[:count], count)


TEMPERED = [name for name in FORMULA if FORMULA[name].tempered]


@pytest.mark.parametrize("dtype", beyond_first(["float32", "float64", "float16"]))
@pytest.mark.parametrize("name", TEMPERED)
def test_masks_and_temperatures_have_the_same_bits_from_every_kernel(name, dtype):
    each, several = widths(dtype)
    absent = FORMULA[name].absent
    for place, length in enumerate([1, 2, 5, each + 1, several + 3, 56, 57, BLOCK]):
        rows = drawn(dtype, [1, 5, several + 1][place % 3], length, extras=True)
        got = agreed(name, rows, BRIEF)
        if FORMULA[name].mapped:
            assert (got[~rows.mask].astype(np.float64) == absent).all()
        same(planned(name, rows), got, length)
    for length in (3, several + 1, BLOCK + 1, CHUNK + 7, 3 * CHUNK):
        rows = drawn(dtype, 3, length, extras=True)
        got = agreed(name, rows, LONG)
        if FORMULA[name].mapped:
            assert (got[~rows.mask].astype(np.float64) == absent).all()
        # a masked row is the row with -inf, and a temperature of 1 is none
        removed = np.where(rows.mask, rows.x, -np.inf).astype(rows.x.dtype)
        plain = computed("long", name, Rows(removed[-1:]))
        counted = rows.mask[-1] if FORMULA[name].mapped else ...
        same(got[-1:][0, ...][counted], plain[0, ...][counted], length)


# --- any order -----------------------------------------------------------------------------------


@functools.cache
def lengths_of(kind, name):
    longest = SHORT if kind == "short" else BLOCK
    if kind == "packed":
        return st.sampled_from(PACKED)
    if kind in LONG:
        return st.sampled_from(edges(name, 2 * CHUNK + 300)) | st.integers(1, 3 * CHUNK)
    return st.sampled_from(edges(name, longest)) | st.integers(1, longest)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_permuted_logits_have_permuted_results_bit_for_bit(data):
    kind = data.draw(st.sampled_from(BRIEF + LONG))
    dtype = data.draw(st.sampled_from(sorted(STORED)))
    name = data.draw(st.sampled_from(sorted(FORMULA)))
    length = data.draw(lengths_of(kind, dtype))
    extras = name in TEMPERED and kind != "packed" and dtype in ("float32", "float64")
    extras = extras and data.draw(st.booleans())
    count = widths(dtype)[1] + 1 if kind == "packed" else data.draw(st.integers(1, 20))
    spread = data.draw(st.sampled_from([0.1, 6.0, 40.0]))
    seed = data.draw(st.integers(0, 1 << 30))
    rows = drawn(dtype, min(count, 4) if length > 300 else count, length, extras, seed, spread)
    rng = np.random.default_rng(seed)
    order, places = rng.permutation(length), rng.permutation(len(rows.x))
    expected = computed(kind, name, rows)[places]
    got = computed(kind, name, rows.taken(order, 1).taken(places, 0))
    same(got, expected if got.ndim == 1 else expected[:, order], kind)


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("name", FORMULA)
def test_equal_logits_have_equal_results_wherever_they_are(name, dtype):
    for length in (3, 100, BLOCK, 3 * BLOCK):
        x = np.zeros((3, length), STORED[dtype][0])
        x[:, length // 2] = 0.7
        for kind in (*BRIEF, *LONG):
            if takes(kind, Rows(x)):
                got = computed(kind, name, Rows(x)).astype(np.float64)
                assert len(np.unique(got)) == 1 if got.ndim == 1 else len(np.unique(got)) == 2


# --- what is not a number ------------------------------------------------------------------------

SPECIAL = [[], [np.nan], [np.inf], [np.inf, np.nan], [np.nan, -np.inf], [np.inf, -np.inf]]
SPECIAL += [[-np.inf], [np.inf, np.inf]]


def limits(name, x):
    """What the formulas' limits are, but for finite results: those are 0."""
    with np.errstate(invalid="ignore"):
        total = x.sum(axis=1, where=x == x.max(axis=1, keepdims=True))
        total = np.where(np.isnan(x).any(axis=1), np.nan, total)
        if name == "logsumexp":
            found = total
        elif name == "log_softmax":
            found = x - total[:, None]
        elif name == "entropy":
            found = total - total
        else:
            found = np.exp(x) * (total - total)[:, None]
    return np.where(np.isfinite(found), 0.0, found)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_nan_and_infinity_anywhere_have_the_formulas_limits(name, dtype):
    each, several = widths(dtype)
    rng = np.random.default_rng(0)
    for length in (2, 5, each + 3, several + 1, 57, 300, BLOCK + 9, CHUNK + 2):
        count = max(3 * len(SPECIAL), several + 1) if length < 100 else 2 * len(SPECIAL)
        x = np.zeros((count, length), STORED[dtype][0])
        for row in range(count):
            values = SPECIAL[row % len(SPECIAL)]
            x[row, rng.permutation(length)[: len(values)]] = values
        x[-1] = -np.inf
        got = agreed(name, Rows(x), LONG if length > BLOCK else BRIEF).astype(np.float64)
        found = np.where(np.isfinite(got), 0.0, got)
        np.testing.assert_array_equal(found, limits(name, x.astype(np.float64)), str(length))


# --- many terms, and weights ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["long", "cuts"])
def test_ten_million_terms(kind, dtype):
    x = drawn(dtype, 1, 10_000_000, spread=1.0).x
    check_bound("softmax", computed(kind, "softmax", Rows(x)), x)
    # equal terms, whose rounding errors all point the same way in a plain sum
    x[:] = -1.2345
    x[0, 77] = 0.0
    got = computed(kind, "log_softmax", Rows(x))
    exact = np.log1p((x.size - 1) * np.exp(x[0, 0].astype(np.longdouble)))
    assert (
        wide_ulp_error(got, x.astype(np.longdouble) - exact) <= ERROR_BOUNDS["log_softmax"][dtype]
    )


@pytest.mark.parametrize("dtype", STORED)
def test_weighted_sums_are_right_in_any_order(dtype):
    rng = np.random.default_rng(9)
    half = CHUNK // 2
    for length in (*range(1, 10), 100, half - 1, half, half + 1, CHUNK + 3):
        x = drawn(dtype, 3, length).x
        weight = rng.standard_normal(x.shape) * np.array([[1e-300], [1.0], [1e300]])
        value, sign = computed_weighted(x, weight)
        order = rng.permutation(length)
        again = computed_weighted(x[:, order].copy(), weight[:, order].copy())
        np.testing.assert_array_equal([value, sign], again)
        terms = np.exp(x.astype(np.longdouble)) * weight
        exact, size = terms.sum(axis=1), np.abs(terms).sum(axis=1)
        np.testing.assert_array_equal(sign, np.sign(exact))
        true = np.log(np.abs(exact))
        allowed = 0.51 * float(ml_dtypes.finfo(dtype).eps) * np.maximum(np.abs(true), 2.0**-14)
        allowed += size / np.abs(exact) * 2.0**-55
        assert (np.abs(value.astype(np.longdouble) - true) <= allowed).all(), length


# --- the code itself -----------------------------------------------------------------------------


MODULES = [
    across, along, bins, cuts, divergence, elementwise, lanes, memory, normalizer, pairs, streamed,
    weighted,
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_no_function_of_kernels_has_more_than_eight_arguments(module):
    members = [*vars(module).values()]
    members += [m for c in members if inspect.isclass(c) for m in vars(c).values()]
    functions = [f for f in members if inspect.isfunction(f) and f.__module__ == module.__name__]
    assert functions
    assert [f.__name__ for f in functions if len(inspect.signature(f).parameters) > 8] == []


def test_no_file_has_more_than_400_lines():
    files = Path(fastsoftmax.__file__).parent.rglob("*.py")
    assert [f.name for f in files if len(f.read_text().splitlines()) > 400] == []
