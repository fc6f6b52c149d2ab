"""Normalizer: the bits of logsumexp in one go, whatever the chunks, their order and the tree."""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading

import exact
import ml_dtypes
import mpmath
import numpy as np
import pandas
import pytest
import xarray
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastsoftmax import Normalizer, logsumexp

INF, NAN = np.inf, np.nan
AVX2 = (
    "+avx2,+fma,+avx,+sse4.2,+f16c,+bmi,+bmi2,+popcnt,+64bit,+cx16,+sse,+sse2,+sse3,+ssse3,+sse4.1,"
    "+fxsr,+xsave"
)


def of(*chunks, **how):
    """A normalizer of these chunks."""
    made = Normalizer()
    for chunk in chunks:
        made.update(chunk, **how)
    return made


def bits(number):
    return np.float64(number).tobytes()


def merged(parts, rng):
    """All normalizers in one, by a tree of merges in which some were pickled or copied."""
    parts = list(parts)
    while len(parts) > 1:
        a, b = (parts.pop(int(rng.integers(len(parts)))) for _ in range(2))
        a = (pickle.loads(pickle.dumps(a)), copy.copy(a), copy.deepcopy(a))[int(rng.integers(3))]
        assert a.merge(b) is a
        parts.append(a)
    return parts[0]


# Spread and offset: what cancels next to 0, what is ordinary, what is beyond exp's range, and
# where logits have steps of more than 2**-32, 2**-12 and 1.
SCALES = [1e-12, 0.01, 1.0, 30.0, 700.0, 1e5]
OFFSETS = [0.0, 1.0, -50.0, 745.0, 2.0**19.99, -(2.0**30), 2.0**40, -(2.0**40), 2.0**57, 1e300]


@st.composite
def many_logits(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.standard_normal(draw(st.integers(1, 60))) * draw(st.sampled_from(SCALES))
    return x + draw(st.sampled_from(OFFSETS)), rng


def cut(x, rng):
    places = np.sort(rng.integers(0, len(x) + 1, int(rng.integers(0, 6))))
    return np.split(x, places)


@settings(deadline=None)
@given(many_logits())
@example((np.array([1e-300, -690.0]), np.random.default_rng(0)))
@example((np.array([40.0, 0.0, -INF]), np.random.default_rng(0)))
@example((np.array([-1e-10]), np.random.default_rng(0)))
@example((np.array([-3e38] * 3), np.random.default_rng(0)))
def test_any_chunks_order_and_tree_have_the_bits_of_one_go(drawn):
    x, rng = drawn
    right = bits(logsumexp(x))
    for _ in range(3):
        shuffled = rng.permutation(x)
        assert bits(of(*cut(shuffled, rng)).logsumexp()) == right
        assert bits(merged(map(of, cut(shuffled, rng)), rng).logsumexp()) == right


@settings(deadline=None)
@given(many_logits(), st.booleans())
def test_any_chunks_of_weighted_sums(drawn, mixed):
    """Some without weights: among those that have some, they weigh 1."""
    x, rng = drawn
    x = np.clip(x, -(2.0**50), 2.0**49)
    b = rng.standard_normal(len(x)) * np.exp2(rng.integers(-900, 900) * rng.random(len(x)))
    b[rng.random(len(x)) < 0.1] = 0
    plain = mixed & (rng.random(len(x)) < 0.3)
    b[plain] = 1
    found = set()
    for _ in range(3):
        parts = []
        for place in cut(rng.permutation(len(x)), rng):
            weighted, unweighted = place[~plain[place]], place[plain[place]]
            parts += [of(x[weighted], b=b[weighted]), of(x[unweighted])]
        total = merged(parts, rng)
        value, sign = total.logsumexp(return_sign=True)
        assert np.isnan(total.logsumexp()) == (sign < 0)
        found.add((bits(value), float(sign)))
    assert len(found) == 1
    right, right_sign = logsumexp(x, b=b, return_sign=True)
    assert sign == right_sign
    if plain.any() and value > -INF:
        # exponentials without weights are rounded as in rows without: 2**-60 of each
        most = np.exp(min(logsumexp(x, b=abs(b)) - right, 600.0))
        assert abs(value - right) <= 2.0**-59 * most + np.spacing(abs(right))
    else:
        assert bits(value) == bits(right)


def test_the_grids_that_are_kept_move_with_the_largest_term():
    """One logit at a time, upwards and downwards, over many grids and beyond what they reach."""
    rng = np.random.default_rng(0)
    for step in (0.3, 7.0, 34.6, 35.0, 70.0, 500.0):
        x = np.arange(-20, 21) * step
        b = np.where(np.arange(41) % 2, -1e-200, 3e200)
        right = bits(logsumexp(x)), bits(logsumexp(x, b=b))
        for order in (np.arange(41), np.arange(41)[::-1], rng.permutation(41)):
            weighted = Normalizer()
            for place in order:
                weighted.update(x[place], b=b[place])
            assert (bits(of(*x[order]).logsumexp()), bits(weighted.logsumexp())) == right


def test_weights_of_both_signs_cancel_without_a_trace():
    total = of([30.0, -3.0, 0.5], b=[2.0, 1.0, 0.25])
    total.update([30.0, -3.0], b=[-2.0, -1.0])
    # 2**-97 e**30 is 2**-54, and 0.5 units of 2**-53 are those of the logarithm
    assert total.logsumexp() == pytest.approx(0.5 + np.log(0.25), abs=2.0**-52)
    nothing = of([1.0, 2.0], b=[1.0, -3.0]).merge(of([2.0, 1.0], b=[3.0, -1.0]))
    assert nothing.logsumexp(return_sign=True) == (-INF, 0)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_the_error_against_the_exact_logarithm(dtype):
    rng = np.random.default_rng(0)
    for scale in (0.01, 1, 20, 300):
        x = (rng.standard_normal(200) * scale).astype(dtype)
        got = of(x[:77], x[77:]).logsumexp()
        assert type(got) is np.float64
        assert exact.ulp_error([got], [exact.logsumexp(x)], np.float64) <= 1.1
    assert of([0.0], [-80.0]).logsumexp() == float(mpmath.log1p(mpmath.exp(-80)))
    assert of([-80.0], [1e-30]).logsumexp() == pytest.approx(1e-30 + np.exp(-80), rel=2.0**-52)


def test_far_beyond_the_range_of_exponentials():
    top = 2.0**41
    chunks = [top, top - 1.0], [top - 2.0**-11]
    true = top + float(mpmath.log(1 + mpmath.exp(-1) + mpmath.exp(-(2.0**-11))))
    assert of(*chunks).logsumexp() == of(*chunks[::-1]).logsumexp() == true
    assert of([2.0**41, 2.0**40], b=[0.5, 1]).logsumexp() == 2.0**41 + np.log(0.5)
    for x in (2.0**59, 1e18, 1e300, -1e18, -1.7e308):
        assert of([x], [x, x - 1], [-1e308]).logsumexp() == max(x, -1e308)
    assert of([-1e30] * 9, [-INF]).merge(of([3.0])).logsumexp() == 3


@pytest.mark.parametrize("weighted", [False, True])
def test_infinities_nan_and_nothing_are_what_they_are_in_one_go(weighted):
    numbers = [[1.0, -2.0], [-INF], [INF], [NAN], [INF, INF], [], [-INF, -INF], [-1e308]]
    weights = [2.0, -0.5, 0.0, INF, NAN] if weighted else [1.0]
    for first in numbers:
        for second in numbers[:5]:
            for weight in weights:
                b = [[1.0] * len(first), [weight] * len(second)]
                if weighted and first == [-1e308]:
                    continue  # below -2**59 nothing has a weight
                given = b if weighted else (None, None)
                total = Normalizer()
                total.update(first, b=given[0])
                total.update(second, b=given[1])
                whole = np.array([*first, *second])
                right = logsumexp(whole, b=[*b[0], *b[1]] if weighted else None, return_sign=True)
                np.testing.assert_array_equal(total.logsumexp(return_sign=True), right, str(whole))
    assert Normalizer().logsumexp() == -INF
    assert of([]).logsumexp(return_sign=True) == (-INF, 0)
    assert of(np.zeros((3, 0)), axis=1).logsumexp().tolist() == [-INF] * 3


def test_long_chunks_are_shared_by_threads_and_cut_at_will():
    x = np.random.default_rng(0).standard_normal((3, 400_001)) * 5
    right = logsumexp(x)
    for chunks in ([x], [x.T], list(x), [x[:, ::2], x[:, 1::2]], [x[:, :99], x[:, 99:]]):
        assert of(*chunks).logsumexp() == right
    rows = of(x[:, :200_000], x[:, 200_000:], axis=1)
    np.testing.assert_array_equal(rows.logsumexp(), logsumexp(x, axis=1))
    b = np.random.default_rng(1).standard_normal(x.shape)
    weighted = Normalizer()
    for part in (slice(0, 77_777), slice(77_777, None)):
        weighted.update(x[:, part], b=b[:, part])
    assert weighted.logsumexp(return_sign=True) == logsumexp(x, b=b, return_sign=True)


def test_axes_masks_and_counts():
    rng = np.random.default_rng(0)
    x, mask = rng.standard_normal((4, 5, 6)), rng.random((4, 5, 6)) < 0.5
    for axis in (0, 1, -1, (0, 2), (1, 2), (0, 1, 2), None):
        for seen in (x, np.asfortranarray(x), x.transpose(2, 0, 1).copy().transpose(1, 2, 0)):
            total = of(seen, seen, axis=axis, where=mask)
            right = logsumexp(np.stack([x, x]), axis=shifted(axis), where=np.stack([mask] * 2))
            np.testing.assert_array_equal(total.logsumexp(), right)
            assert total.shape == np.shape(right)
            np.testing.assert_array_equal(total.count, 2 * mask.sum(axis=axis))
    total = of(x, axis=1, b=[[2.0]] * 4 + [[0.0]])
    assert (total.count == 4).all()
    assert total.shape == (4, 6)
    total.count[:] = 0  # a copy
    assert (total.count == 4).all()
    assert of(x).count == 120


def shifted(axis):
    """Axes of an array as those of two side by side, and these, too."""
    axes = range(3) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return (0, *(each % 3 + 1 for each in axes))


def test_what_else_holds_logits():
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, NAN]})
    total = of(frame, axis="columns", where=~frame.isna())
    np.testing.assert_array_equal(total.logsumexp(), [logsumexp([1.0, 3.0]), 2.0])
    photos = xarray.DataArray(np.arange(6.0).reshape(2, 3), dims=["photo", "animal"])
    assert of(photos, dim="animal").shape == (2,)
    assert of(np.ma.masked_array([5.0, 1.0], [True, False])).logsumexp() == 1
    assert of([1, 2], 3).count == 3


def test_refused_and_nothing_added():
    total = of([[1.0, 2.0]], axis=1)
    before = pickle.dumps(total)
    for wrong, error, words in (
        ({"x": [1j]}, TypeError, "x must hold real numbers for Normalizer"),
        ({"x": [1.0], "b": [1j]}, TypeError, "b must hold real numbers"),
        ({"x": [1.0], "b": ["a"]}, TypeError, "b must hold real or complex numbers"),
        ({"x": np.longdouble([1])}, TypeError, "x and b must be of float64 or narrower"),
        ({"x": ["a"]}, TypeError, "x must hold"),
        ({"x": [1.0, 2.0]}, ValueError, r"x makes sums of shape \(\), and there are \(1,\)"),
        ({"x": [[1.0], [2.0]], "axis": 1}, ValueError, r"x makes sums of shape \(2,\)"),
        ({"x": [1.0], "axis": 3}, ValueError, "axis 3 is out of bounds"),
        ({"x": [1.0], "where": [1]}, TypeError, "where must be boolean"),
        ({"x": [1.0], "b": [1.0, 2.0, 3.0], "where": [True] * 2}, ValueError, "where of shape"),
        ({"x": [[1.0, 2.0]], "b": [1.0] * 3}, ValueError, r"b of shape \(3,\) does not"),
        (
            {"x": [[2.0**51]], "b": 1, "axis": 1},
            ValueError,
            "50, x has 2251799813685248",
        ),
        ({"x": xarray.Dataset({"a": ("t", [1.0])})}, TypeError, "x must be one array, got"),
    ):
        with pytest.raises(error, match=words):
            total.update(**wrong)
        assert pickle.dumps(total) == before
    with pytest.raises(TypeError, match="other must be a Normalizer, got"):
        total.merge([1.0])
    with pytest.raises(ValueError, match=r"other makes sums of shape \(\), and there are"):
        total.merge(of([1.0]))
    high = of([[1e30]], axis=1)
    with pytest.raises(ValueError, match="up to 2\\*\\*50, the normalizer has 1e"):
        high.update([[1.0]], axis=1, b=2)
    assert high.logsumexp() == 1e30
    assert total.merge(Normalizer()).logsumexp() == logsumexp([1.0, 2.0])


def test_how_it_is_shown():
    assert repr(Normalizer()) == "Normalizer(logsumexp=-inf, count=0)"
    assert repr(of([2.5])) == "Normalizer(logsumexp=2.5, count=1)"
    assert repr(of(np.zeros((3, 4)), axis=1)) == "Normalizer(shape=(3,), count=12)"
    assert repr(of([2.5], [2.5], b=-0.5)) == "Normalizer(logsumexp=nan, count=2)"


def test_threads_update_and_merge_one_normalizer_at_once():
    x = np.random.default_rng(0).standard_normal((4, 100, 50)) * 20
    one, other = Normalizer(), Normalizer()
    start = threading.Barrier(4)

    def work(chunks, mine, theirs):
        start.wait()
        for chunk in chunks:
            mine.update(chunk)
            theirs.merge(of(chunk))
            copy.copy(mine).merge(theirs).logsumexp()

    pairs = (one, other), (other, one), (one, other), (other, one)
    threads = [
        threading.Thread(target=work, args=(chunks, *pair), daemon=True)
        for chunks, pair in zip(x, pairs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert one.count == other.count == x.size
    assert one.logsumexp() == other.logsumexp() == logsumexp(x)


def test_two_normalizers_may_be_merged_into_each_other_at_once():
    one, other = of([1.0]), of([2.0])
    threads = [
        threading.Thread(target=lambda a=a, b=b: [a.merge(b) for _ in range(100)], daemon=True)
        for a, b in ((one, other), (other, one))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    doubled = of([1.0, 2.0])
    assert doubled.merge(doubled).count == 4
    assert doubled.logsumexp() == logsumexp([1.0, 2.0, 1.0, 2.0])


def test_parts_from_other_processes():
    x = np.random.default_rng(0).standard_normal((8, 30_000)) * 30
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.map(of, x)
    for seed in range(3):
        total = merged(map(copy.deepcopy, parts), np.random.default_rng(seed))
        assert total.logsumexp() == logsumexp(x)
        assert total.count == x.size


def test_the_same_bits_for_another_cpu():
    program = (
        "import hashlib, numpy as np; from fastsoftmax import Normalizer;"
        "rng = np.random.default_rng(0); digest = hashlib.sha256()\n"
        "for scale in (0.1, 30.0, 2.0**42):\n"
        "    x, b = rng.standard_normal((2, 3, 20_011)); x = x * scale\n"
        "    for axis in (None, 1, 0):\n"
        "        for how in ({}, {'b': b}):\n"
        "            total = Normalizer(); total.update(x, axis, **how)\n"
        "            total.update(x / 3, axis)\n"
        "            digest.update(np.asarray(total.logsumexp()).tobytes())\n"
        "print(digest.hexdigest())"
    )
    other = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2}
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | settings, capture_output=True,
            text=True, check=True,
        ).stdout
        for settings in ({}, other)
    }  # fmt: skip
    assert len(digests) == 1


def test_torchs_tensors_are_added():
    torch = pytest.importorskip("torch")
    assert of(torch.tensor([2.0, 2.0], dtype=torch.bfloat16)).logsumexp() == 2 + np.log(2)


def test_chunks_of_no_rows_or_no_logits():
    assert of(np.empty((0, 5)), axis=-1).logsumexp().shape == (0,)
    np.testing.assert_array_equal(of(np.empty((2, 0)), axis=-1).logsumexp(), [-np.inf] * 2)
    assert of(np.empty(0)).logsumexp() == -np.inf
