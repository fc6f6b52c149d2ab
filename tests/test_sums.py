"""Sums of exponentials as integers on fixed grids: exact, in any order, as many as there may be."""

import functools
from fractions import Fraction

import numpy as np
import pytest
from generated import generated
from test_arithmetic import ELEMENTS, GRIDS, REACH, SCALES, exponential

from fastsoftmax.arithmetic import lanes, pairs
from fastsoftmax.arithmetic.lanes import Variables, loop, number, select
from fastsoftmax.arithmetic.pairs import CAPACITY, Constants, Sums, Term
from fastsoftmax.cpu.sizes import BLOCK, CHUNK, VECTOR

CASES = [(element, grids) for element in ELEMENTS for grids in (2, 3)]


@functools.cache
def _adding(grids, width, narrow):
    """What lanes count of terms that lie in lines of lanes; whether one met infinity or NaN."""

    @generated
    def run(e, h, lo, counts, flags):
        c = Constants(e.element)
        none = Sums.none(e.element, width, (grids,))
        state = Variables(*none.counts, Sums.none(e.element, narrow, ()).seen)
        for i in loop(0, e.shape[0], width):
            *now, seen = state.get()
            term = Term(*(array.load((i,), width) for array in (e, h, lo)))
            sums = pairs.add_terms(Sums(now, seen, (grids,)), [term], c)
            state.set(*sums.counts, sums.seen)
        *now, seen = state.get()
        for line, count in enumerate(
            pairs.counts_of(Sums(now, seen, (grids,)), e.shape[0] // width, c)
        ):
            counts.store((line, 0), count)
        met = pairs.not_finite(seen, c)
        flags.store((0,), select(met, number(1.0, lanes.FLOAT), 0.0))

    return run


def counted(terms, grids, width=16, narrow=None):
    """Counts by lanes, as many lines of int64 as there are, and which lanes met infinity or NaN."""
    terms = list(map(np.ascontiguousarray, terms))
    single = terms[0].dtype == np.float32
    counts = np.empty(({2: 1, 3: 3}[grids] if single else 2 * grids, width), np.int64)
    flags = np.empty(narrow or width, np.float32)
    _adding(grids, width, narrow or width)(*terms, counts, flags)
    return counts, flags.astype(bool)


def expected_counts(terms, grids):
    """Steps of the grids, of each term: what is nearest, of two the even one."""
    e, h, lo = terms
    first, *others = (e.dtype.type(step) for step in GRIDS[e.dtype.name][:grids])
    steps = [np.rint(e / first)]
    left = (h - steps[0] * first) + lo
    for step in others:
        steps.append(np.rint(left / step))
        left = left - steps[-1] * step
    return [v.astype(np.int64) for v in steps]


def in_steps(counts, element):
    """Sums of counts as whole numbers of steps of the grids."""
    sums = [int(v) for v in counts.astype(object).sum(1)]
    if element == "float64":
        return [(high << 32) + low for high, low in zip(sums[::2], sums[1::2], strict=True)]
    return sums if len(sums) == 3 else list(divmod(sums[0], 1 << 20))


@functools.cache
def _totals(count):
    @generated
    def run(counts, like, out):
        lines = [counts.load((line, 0), 8) for line in range(count)]
        grids = {1: 2, 3: 3, 4: 2, 6: 3}[count]
        (pair,) = pairs.totals_of(lines, (grids,), Constants(like.element))
        for line, value in enumerate(pair):
            out.store((line, 0), value)

    return run


def total_of(counts, element):
    """The pair that is made of the sums of all lanes."""
    out = np.empty((2, 8))
    sums = np.repeat(counts.sum(1)[:, None], 8, axis=1)
    _totals(len(counts))(sums, np.zeros(1, element), out)
    assert (out == out[:, :1]).all()
    return float(out[0, 0]), float(out[1, 0])


def worth(steps, element):
    """What whole numbers of steps are worth, exactly."""
    each = [Fraction(step) / 2 ** SCALES[element] for step in GRIDS[element]]
    return sum(n * step for n, step in zip(steps, each, strict=False))


def check_sum(terms, grids, width=16):
    """The counts are the terms', and the pair is what they are worth; both."""
    element = terms[0].dtype.name
    counts, met = counted(terms, grids, width)
    assert not met.any()
    lines = [v.reshape(-1, width).astype(object).sum(0) for v in expected_counts(terms, grids)]
    if element == "float64":
        expected = [half for v in lines for half in (v >> 32, v & 0xFFFFFFFF)]
    else:
        expected = lines if grids == 3 else [(lines[0] << 20) + lines[1]]
    np.testing.assert_array_equal(counts, np.array(expected, np.int64))
    # what lanes hold before they are emptied fits in their integers
    limit = 2 ** (8 * terms[0].itemsize)
    least = -limit // 2 if element == "float64" else 0
    assert all(least <= v < limit + least for v in lines[0])
    assert all(-limit // 2 <= v < limit // 2 for line in lines[1:] for v in line)

    high, low = total_of(counts, element)
    assert high == high + low
    total = worth([sum(line) for line in lines], element)
    assert total == worth(in_steps(counts, element), element)
    error = abs(Fraction(high) + Fraction(low) - total)
    one = (element, grids) == ("float32", 2)  # integer, exact up to 4096 terms
    assert error <= (abs(total) / 2**53 * (abs(total) > 4096) if one else abs(total) / 2**100)
    return high, low, total


def drawn(element, count, spread):
    """Exponentials of logits that lie below the largest, whose own is the largest there is."""
    rng = np.random.default_rng(3)
    z = np.log(2) / 2 * (1 - 2.0**-20) - rng.exponential(spread, count)
    z[rng.integers(0, count, count // 10)] = np.log(2) / 2 * (1 - 2.0**-20)
    return exponential(np.maximum(z, -REACH[element]).astype(element))[0]


@pytest.mark.parametrize("spread", [0.1, 3.0, 40.0])
@pytest.mark.parametrize(("element", "grids"), CASES)
def test_sums_are_exactly_those_of_the_terms_rounded_to_the_grids(element, grids, spread):
    terms = drawn(element, 64 * 256, spread)
    _, _, total = check_sum(terms, grids)
    exact = sum(Fraction(v) for part in terms[1:] for v in part.tolist()) / 2 ** SCALES[element]
    # each term is rounded to a grid's step, and once before
    first, *_, last = GRIDS[element][:grids]
    each = Fraction(last) / 2 + Fraction(first) * Fraction(float(np.finfo(element).epsneg))
    assert abs(total - exact) <= terms.shape[1] * each / 2 ** SCALES[element]


@pytest.mark.parametrize(("element", "grids"), CASES)
def test_sums_have_no_order(element, grids):
    terms = drawn(element, 64 * 256, 3.0)
    once = check_sum(terms, grids)
    by_lane, _ = counted(terms, grids)
    rng = np.random.default_rng(4)
    for _ in range(5):
        # within lanes the same counts, across lanes and in other widths the same sums
        lines = terms.reshape(3, -1, 16)[:, rng.permutation(terms.shape[1] // 16)]
        np.testing.assert_array_equal(counted(lines.reshape(3, -1), grids)[0], by_lane)
        mixed = terms[:, rng.permutation(terms.shape[1])]
        for width in (8, 16, 32, 64):
            counts, _ = counted(mixed, grids, width)
            assert in_steps(counts, element) == in_steps(by_lane, element)
            assert total_of(counts, element) == once[:2]


@pytest.mark.parametrize(("element", "grids"), CASES)
def test_counts_of_several_vectors_are_folded_into_those_of_one(element, grids):
    narrow = VECTOR // np.dtype(element).itemsize
    wide = 4 * narrow

    @generated
    def run(e, h, lo, counts):
        c = Constants(e.element)
        state = Variables(*Sums.none(e.element, wide, (grids,)).counts)
        seen = Sums.none(e.element, narrow, ()).seen
        for i in loop(0, e.shape[0], wide):
            term = Term(*(array.load((i,), wide) for array in (e, h, lo)))
            state.set(*pairs.add_terms(Sums(state.get(), seen, (grids,)), [term], c).counts)
        both = lanes.folded([*state.get(), lanes.like(0, state.get()[0])], pairs.added, narrow)
        sums = Sums(both[:-1], seen, (grids,))
        for line, count in enumerate(pairs.counts_of(sums, e.shape[0] // narrow, c)):
            counts.store((line, 0), count)

    # as many as lanes of one vector may add
    terms = drawn(element, CAPACITY * narrow, 0.01)
    expected, _ = counted(terms, grids, narrow)
    counts = np.empty_like(expected)
    run(*terms, counts)
    np.testing.assert_array_equal(counts, expected)


def test_kernels_add_no_more_terms_than_lanes_can():
    lanes_of = {"float32": 16, "float64": 8}
    assert min(lanes_of.values()) * CAPACITY >= CHUNK
    # that of a block's two grids in float32, which is added in one go, is exact in float64
    assert BLOCK * 2**0.5 * 2**39 < 2**53


def worst_terms(element):
    """Terms as large as any, whose remainders are about half a step of the grids."""
    first, second, last = GRIDS[element]
    unit = 2.0 ** (SCALES[element] - np.finfo(element).nmant)
    # 2 ** 0.5, and a little for a power that was rounded the other way
    base = np.floor(2.0**0.5 * 1.001 * 2.0 ** SCALES[element] / (2 * first)) * 2 * first
    found = []
    for steps in (0, 1):  # an even number of steps and an odd one: ties go either way
        for away in (-unit, 0.0, unit):
            e = base + steps * first + first / 2 + away
            # what e = h + lo leaves out is up to half its last place, more or less a step
            rest = unit / 2
            for lo in (0.0, rest, -rest, rest - second / 2, second / 2 - rest):
                for least in (-last, 0.0, last):
                    found.append((e, lo + least if abs(lo) < rest else lo))
    h, lo = np.array(found).T.astype(element)
    return np.stack([h + lo, h, lo])


@pytest.mark.parametrize(("element", "grids"), CASES)
def test_as_many_equal_terms_as_fit_of_the_largest_size(element, grids):
    halves = set()
    for term in worst_terms(element).T:
        check_sum(np.repeat(term[:, None], CAPACITY * 8, axis=1), grids, 8)
        halves.add(int(expected_counts(term[:, None], grids)[1][0]))
    # remainders on both sides, as large as the capacity is reckoned with
    first, second, _ = GRIDS[element]
    half = int(first / second) // 2
    extra = 2**15 if element == "float32" else 2**47
    assert (max(halves), min(halves)) == (half + extra, -half - extra)


@pytest.mark.parametrize(("element", "grids"), CASES)
def test_as_many_mixed_terms_as_fit_of_the_largest_size(element, grids):
    candidates = worst_terms(element)
    rng = np.random.default_rng(5)
    for width in (16, 64):
        row = candidates[:, rng.integers(0, candidates.shape[1], CAPACITY * width)]
        check_sum(row, grids, width)
        check_sum(drawn(element, CAPACITY * width, 1e-3), grids, width)


@pytest.mark.parametrize("grids", [2, 3])
def test_terms_of_either_sign_are_added_in_float64(grids):
    terms = drawn("float64", 16 * CAPACITY, 1.0)
    signs = np.random.default_rng(6).choice([-1.0, 1.0], terms.shape[1])
    check_sum(terms * signs, grids)
    check_sum(-terms, grids)
    for term in worst_terms("float64").T:
        check_sum(np.repeat(-term[:, None], 8 * CAPACITY, axis=1), grids, 8)


@pytest.mark.parametrize("narrow", [16, 8, 4])
@pytest.mark.parametrize(("element", "grids"), CASES)
def test_infinity_and_nan_are_noticed_in_their_lane_alone(element, grids, narrow):
    terms = drawn(element, 16 * 40, 3.0)
    for special in (np.inf, -np.inf, np.nan, -np.nan):
        for place in (0, 1, 15, 16 * 20 + 7, terms.shape[1] - 1):
            e, h, lo = terms.copy()
            e[place] = h[place] = special
            _, met = counted((e, h, lo), grids, 16, narrow)
            np.testing.assert_array_equal(met, np.arange(narrow) == place % narrow)
    # what an exponential makes of them
    for special in (np.nan, np.inf):
        found, _ = exponential(np.full(16, special, element))
        assert counted(found, grids)[1].all()


@pytest.mark.parametrize("width", [8, 64])
@pytest.mark.parametrize("element", ELEMENTS)
def test_two_sum_leaves_nothing_out(element, width):
    @generated
    def run(x, y, out):
        for i in loop(0, x.shape[0], width):
            pair = pairs.two_sum(x.load((i,), width), y.load((i,), width))
            for line, value in enumerate(pair):
                out.store((line, i), value)

    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((2, 1024)) * 2.0 ** rng.integers(-40, 40, (2, 1024))).astype(
        element
    )
    out = np.empty((2, x.size), element)
    run(x, y, out)
    np.testing.assert_array_equal(out[0], x + y)
    for a, b, total, rest in zip(x, y, *out, strict=True):
        exact = Fraction(float(a)) + Fraction(float(b))
        assert exact == Fraction(float(total)) + Fraction(float(rest))
