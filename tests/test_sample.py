"""sample: the law of each class to the last integer, and the same draws however a call is made."""

import math
import platform
import tracemalloc
from fractions import Fraction

import ml_dtypes
import numba
import numpy as np
import pandas
import polars
import pytest
import scipy.stats
import xarray
from kernels import stored
from placed import in_a_process
from test_same_bits import AVX2, digest
from thorough import beyond_first

import fastsoftmax
from fastsoftmax import sample, softmax
from fastsoftmax.cpu import calls
from fastsoftmax.sampling import _Sampling

INF, NAN = np.inf, np.nan
FLOATS = beyond_first([np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
UNIFORMS = 2**53


class Given(np.random.Generator):
    """A generator whose numbers are these, of so many 2**-53, and then no more."""

    def __init__(self, numbers):
        super().__init__(np.random.PCG64(0))
        self.left = list(numbers)

    def random(self, shape):
        count = math.prod(shape)
        taken, self.left = self.left[:count], self.left[count:]
        assert len(taken) == count
        return np.array(taken, float).reshape(shape) / UNIFORMS


def drawn_by(x, numbers, **beside):
    """What given numbers draw of a row."""
    return sample(x, len(numbers), rng=Given(numbers), **beside)


def boundaries(x, classes, **beside):
    """For each class in turn the first number that draws it, or a later one; found by halving."""
    found = []
    for index in classes:
        low, high = 0, UNIFORMS  # the first one is in this range, or there is none
        while low < high:
            middle = (low + high) // 2
            if drawn_by(x, [middle], **beside)[0] >= index:
                high = middle
            else:
                low = middle + 1
        found.append(low)
    return found


@pytest.fixture(params=[False, True], ids=["row by row", "by sums"])
def each_way(request, monkeypatch):
    """Draws that look at the row again, and those that look at sums of what its classes count."""
    monkeypatch.setattr(_Sampling, "_counted", lambda self, draws: request.param)


def counts_of(x, mask=None, temperature=None):
    """What each class of rows counts."""
    counts = np.empty(x.shape, np.int64)
    calls.class_counts(stored(x), counts, temperature, mask)
    return counts


# --- the law ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("dtype", FLOATS)
def test_of_two_and_three_classes_each_has_its_probability_exactly(dtype):
    bound = 2.0**-25.9 if dtype != np.float64 else 2.0**-51.8
    step = 2.0**-39 if dtype != np.float64 else 2.0**-50
    rows = [[0, 0], [0, 1.5], [3, -2.25], [-1, 2, 0.5], [0, -20, -3], [5, 5, 5], [-7, 0, -INF]]
    for row in rows:
        x = np.array(row, dtype)
        n = len(row)
        (counts,) = counts_of(x[None]).tolist()
        starts = boundaries(x, range(1, n))
        # the first u with floor(u C) at least all counts before, as integers
        total = sum(counts)
        assert starts == [-(-sum(counts[:k]) * UNIFORMS // total) for k in range(1, n)]
        law = np.diff([0, *starts, UNIFORMS])
        exponentials = [math.exp(float(value) - float(x.max())) for value in x]
        for numbers, exponential in zip(law.tolist(), exponentials, strict=True):
            p = exponential / math.fsum(exponentials)
            largest = 1 / math.fsum(exponentials)
            error = abs(float(Fraction(numbers, UNIFORMS)) - p)
            assert error <= bound * p + (1 + n * p) * step * largest + 2.0**-53, row
            assert (numbers == 0) == (p < step / 4)
        # around every boundary, one by one
        near = sorted({u for s in starts for u in range(s - 3, s + 4) if 0 <= u < UNIFORMS})
        near += [0, UNIFORMS - 1]
        want = [sum(u >= s for s in starts) for u in near]
        assert drawn_by(x, near).tolist() == want


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("dtype", FLOATS)
def test_each_number_draws_the_class_whose_steps_hold_its_own(dtype):
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 16, 17, 127, 129, 1000, 4100, 140_000):
        x = (rng.standard_normal((2, n)) * 4).astype(dtype)
        mask = rng.random(x.shape) < 0.7
        mask[:, -1] = True
        temperature = np.array([0.5, 3.0])
        counts = counts_of(x, mask, temperature)
        assert (counts >= 0).all()
        assert not counts[~mask].any()
        numbers = rng.integers(UNIFORMS, size=(2, 50)).tolist()
        for row in range(2):
            numbers[row][:2] = 0, UNIFORMS - 1
        got = sample(
            x, 50, rng=Given(numbers[0] + numbers[1]), where=mask, temperature=temperature[:, None]
        )
        for row in range(2):
            sums = np.cumsum(counts[row])
            steps = [u * int(sums[-1]) // UNIFORMS for u in numbers[row]]
            np.testing.assert_array_equal(got[row], np.searchsorted(sums, steps, side="right"))


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("dtype", FLOATS)
def test_impossible_classes_at_the_edges_of_vectors_and_pieces(dtype):
    x = np.zeros(1000, dtype)
    places = np.arange(1000)
    x[(places % 16 == 0) | (places % 128 < 20) | (places > 950)] = -INF
    kept = np.flatnonzero(x == 0).tolist()
    first = [-(-k * UNIFORMS // len(kept)) for k in range(len(kept))]
    assert drawn_by(x, first).tolist() == kept
    assert drawn_by(x, [u - 1 for u in first[1:]] + [UNIFORMS - 1]).tolist() == kept


@pytest.mark.parametrize("dtype", FLOATS)
def test_counts_are_probabilities_to_their_bound(dtype):
    single = dtype != np.float64
    rng = np.random.default_rng(1)
    for n, spread in ((3, 1), (300, 6), (5000, 3), (9000, 0.1)):
        x = (rng.standard_normal((1, n)) * spread).astype(dtype)
        counts = counts_of(x)[0]
        got = counts.astype(float) / float(sum(counts.tolist()))
        p = softmax(x.astype(float))[0]
        step = 2.0**-39 if single else 2.0 ** -(50 - max(0, n.bit_length() - 12))
        bound = (2.0**-25.9 if single else 2.0**-51.8) * p + (1 + n * p) * step * p.max()
        # of `softmax` itself, and of two roundings here
        assert (np.abs(got - p) <= bound + 3 * 2.0**-52 * p).all()


def test_a_million_draws_have_the_law():
    rng = np.random.default_rng(20)
    x = rng.standard_normal(37).astype(np.float32) * 2
    drawn = sample(x, 1_000_000, rng=1, where=x < 3, temperature=1.5)
    seen = np.bincount(drawn, minlength=37)
    p = softmax(x.astype(float), where=x < 3, temperature=1.5)
    assert not seen[p == 0].any()
    assert scipy.stats.chisquare(seen[p > 0], p[p > 0] * len(drawn)).pvalue > 0.01
    # one draw a row, of a million rows
    rows = np.broadcast_to(x[:5], (1_000_000, 5))
    seen = np.bincount(sample(rows, rng=2), minlength=5)
    p = softmax(x[:5].astype(float))
    assert scipy.stats.chisquare(seen, p * len(rows)).pvalue > 0.01


@pytest.mark.usefixtures("each_way")
def test_what_is_impossible_is_never_drawn():
    edges = [0, 1, UNIFORMS // 2, UNIFORMS - 2, UNIFORMS - 1]
    for dtype, nothing in ((np.float32, 2.0**-41), (np.float64, 2.0**-52)):
        far = math.log(nothing) - 1e-3
        x = np.array([-INF, far, 0, far, -INF, 0, far, -INF], dtype)
        assert set(drawn_by(x, edges).tolist()) == {2, 5}
        x = np.array([far + 1.5, 0, far + 1.5], dtype)
        assert set(drawn_by(x, edges).tolist()) == {0, 1, 2}
    x = np.array([0.0, 5.0, 0.0, 9.0, 0.0])
    kept = np.array([False, True, False, False, True])
    assert set(drawn_by(x, edges, where=kept).tolist()) == {1, 4}
    assert set(drawn_by(x, edges, temperature=0).tolist()) == {3}
    assert (boundaries(x, [1, 2, 3, 4], temperature=INF)) == [
        -(-k * UNIFORMS // 5) for k in range(1, 5)
    ]
    assert set(drawn_by([1e308, -1e308, 1e308], edges).tolist()) == {0, 2}
    assert drawn_by([-1e300], edges).tolist() == [0] * 5


def test_the_order_of_classes_permutes_what_each_has():
    rng = np.random.default_rng(3)
    for n in (3, 40):
        x = rng.standard_normal(n).astype(np.float32) * 3
        order = rng.permutation(n)
        counts, permuted = counts_of(x[None])[0], counts_of(x[order][None])[0]
        np.testing.assert_array_equal(permuted, counts[order])
        starts = boundaries(x[order], range(1, n))
        total = int(counts.sum())
        before = np.cumsum(counts[order]).tolist()[:-1]
        assert starts == [-(-each * UNIFORMS // total) for each in before]


@pytest.mark.usefixtures("each_way")
def test_rows_so_long_that_all_their_equal_classes_just_fit():
    for dtype, n in ((np.float64, 4095), (np.float64, 8191), (np.float64, 300_000)):
        x = np.full(n, 0.34, dtype)  # 2**0.49 over its power, all but the most that there is
        counts = counts_of(x[None])[0]
        assert set(counts.tolist()) == {int(counts[0])}
        assert 2**61 < n * int(counts[0]) < 2**63
        numbers = [0, UNIFORMS // 3, UNIFORMS - 1]
        assert drawn_by(x, numbers).tolist() == [u * n // UNIFORMS for u in numbers]


@pytest.mark.thorough
def test_rows_of_float32_so_long_that_their_steps_are_larger():
    for n in (2**23 - 1, 2**24 - 1, 3 * 2**23):
        x = np.full(n, 0.34, np.float32)
        x[7] = -3
        counts = counts_of(x[None])[0, 6:8]
        assert n * int(counts[0]) < 2**63
        assert counts[1] / counts[0] == pytest.approx(math.exp(-3 - float(x[0])), rel=2.0**-25)
        x[7] = 0.34
        x[[5, n // 2]] = -INF
        numbers = [0, UNIFORMS // 3, UNIFORMS // 2, UNIFORMS - 1]
        kept = np.delete(np.arange(n), [5, n // 2])
        want = [kept[u * (n - 2) // UNIFORMS] for u in numbers]
        assert drawn_by(x, numbers).tolist() == want


# --- the most probable alone ------------------------------------------------------------------


def test_top_k_leaves_the_largest_and_of_ties_the_first():
    x = np.array([1.0, 3.0, 2.0, 3.0, 2.0, -INF])
    for k, kept in ((1, {1}), (2, {1, 3}), (3, {1, 2, 3}), (4, {1, 2, 3, 4}), (6, {0, 1, 2, 3, 4})):
        drawn = sample(x, 20_000, rng=0, top_k=k)
        assert set(drawn.tolist()) == kept
        np.testing.assert_array_equal(
            drawn, sample(x, 20_000, rng=0, where=np.isin(np.arange(6), list(kept)))
        )
    assert set(sample(np.arange(1000) % 3, 1000, rng=0, top_k=4).tolist()) == {2, 5, 8, 11}
    masked = sample(x, 1000, rng=0, top_k=2, where=x != 3)
    assert set(masked.tolist()) == {2, 4}


def test_top_p_leaves_the_fewest_that_have_enough():
    x = np.log([0.1, 0.4, 0.2, 0.2, 0.1])
    (counts,) = counts_of(x[None]).tolist()
    whole = sum(counts)
    # the largest of these is reached by the first alone, exactly; what is above it is not
    alone = counts[1] / whole
    while Fraction(alone) * whole > counts[1]:
        alone = math.nextafter(alone, 0)
    above = math.nextafter(alone, 1)
    cases = [
        (1e-300, {1}), (alone, {1}), (above, {1, 2}), (0.5, {1, 2}), (0.7, {1, 2, 3}),
        (0.85, {0, 1, 2, 3}), (1, {0, 1, 2, 3, 4}), (1.0, {0, 1, 2, 3, 4}),
    ]  # fmt: skip
    for p, kept in cases:
        assert set(sample(x, 5000, rng=0, top_p=p).tolist()) == kept, p
    # of what top_k leaves: 0.4 and 0.2 of 0.6
    assert set(sample(x, 5000, rng=0, top_k=2, top_p=0.65).tolist()) == {1}
    assert set(sample(x, 5000, rng=0, top_k=2, top_p=0.67).tolist()) == {1, 2}
    # at a temperature, by which the probabilities are others
    assert set(sample(x, 5000, rng=0, top_p=0.5, temperature=0.2).tolist()) == {1}
    rows = np.stack([x, x[::-1], np.array([0.0, -INF, -INF, -INF, -INF])])
    drawn = sample(rows, 5000, rng=0, top_p=0.5)
    assert [set(row.tolist()) for row in drawn] == [{1, 2}, {1, 3}, {0}]


@pytest.mark.parametrize("dtype", FLOATS)
def test_some_rows_at_a_time(dtype, monkeypatch):
    x = (np.random.default_rng(0).standard_normal((60, 40)) * 3).astype(dtype)
    ways = [{}, {"top_k": 7}, {"top_p": 0.8}, {"top_k": 9, "top_p": 0.9, "where": x < 4}]
    whole = [sample(x, 5, rng=4, temperature=0.8, **way) for way in ways]
    kept = np.argsort(-x.astype(float), axis=1, kind="stable")[:, :7]
    assert all(set(row) <= set(few) for row, few in zip(whole[1], kept, strict=True))
    for at_once in (1, 3, 100):
        monkeypatch.setattr("fastsoftmax.sampling._AT_ONCE", at_once)
        for way, want in zip(ways, whole, strict=True):
            got = sample(x, 5, rng=4, temperature=0.8, **way)
            np.testing.assert_array_equal(got, want)


# --- the same draws -----------------------------------------------------------------------------


def test_one_generator_for_batches_draws_what_one_call_does():
    x = np.random.default_rng(0).standard_normal((10, 33)).astype(np.float32)
    for size in (None, 1, 4, (2, 3)):
        whole = sample(x, size, rng=8)
        rng = np.random.default_rng(8)
        got = [sample(x[start:stop], size, rng=rng) for start, stop in ((0, 1), (1, 7), (7, 10))]
        np.testing.assert_array_equal(np.concatenate(got), whole)
        draws = math.prod(size if isinstance(size, tuple) else [size or 1])
        there = np.random.Generator(np.random.PCG64(8).advance(7 * draws))
        np.testing.assert_array_equal(sample(x[7:], size, rng=there), whole[7:])
    # also where few draws are made in another way than many
    row = np.random.default_rng(9)
    got = [sample(x[0], size, rng=row) for size in (2, 3, 90)]
    np.testing.assert_array_equal(np.concatenate(got), sample(x[0], 95, rng=9))


def test_no_probabilities_are_ever_there():
    x = np.random.default_rng(0).standard_normal((2000, 1000)).astype(np.float32)
    for beside in ({}, {"temperature": 2.0}, {"size": 3}):
        sample(x, rng=0, **beside)
        tracemalloc.start()
        drawn = sample(x, rng=0, **beside)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2 * drawn.nbytes + 50_000 < x.nbytes / 10


def test_every_way_to_name_a_seed():
    x = np.zeros(1000)
    want = sample(x, 9, rng=5)
    for rng in (
        np.random.default_rng(5), np.random.PCG64(5), np.random.SeedSequence(5), [5], np.int64(5)
    ):  # fmt: skip
        np.testing.assert_array_equal(sample(x, 9, rng=rng), want)
    assert len({tuple(sample(x, 9)) for _ in range(3)}) == 3
    for kind in (np.random.Philox, np.random.MT19937, np.random.SFC64):
        numbers = np.random.Generator(kind(1)).random(9)
        np.testing.assert_array_equal(sample(x, 9, rng=kind(1)), (numbers * 1000).astype(int))


@pytest.mark.parametrize("dtype", FLOATS)
def test_any_layout_and_axes(dtype):
    x = (np.random.default_rng(0).standard_normal((4, 5, 6)) * 3).astype(dtype)
    mask = x < 3
    temperature = np.linspace(0.5, 2, 20).reshape(4, 5, 1)
    beside = {"where": mask, "temperature": temperature}
    for size in (None, 3):
        want = sample(x, size, rng=1, **beside)
        for seen in (
            np.asfortranarray(x),
            np.repeat(x, 2, axis=2)[:, :, ::2],
            x[::-1].copy()[::-1],
        ):
            np.testing.assert_array_equal(sample(seen, size, rng=1, **beside), want)
        down = sample(
            np.moveaxis(x, 2, 0), size, 0, rng=1, where=np.moveaxis(mask, 2, 0),
            temperature=np.moveaxis(temperature, 2, 0),
        )  # fmt: skip
        np.testing.assert_array_equal(down if size is None else np.moveaxis(down, 0, -1), want)
    # several axes are one, in C order, whatever that in memory
    flat = sample(x.transpose(1, 0, 2).reshape(5, 24), 3, rng=2)
    for seen in (x, np.asfortranarray(x), x.transpose(2, 1, 0).copy().transpose(2, 1, 0)):
        np.testing.assert_array_equal(sample(seen, 3, (0, 2), rng=2), flat)
        np.testing.assert_array_equal(sample(seen, 3, (-1, 0), rng=2), flat)
        got = sample(seen, axis=None, rng=3)
        assert got == sample(x.ravel(), rng=3)
        assert type(got) is np.int64
    # what is drawn is found by its index
    drawn = sample(x, 7, axis=1, rng=0)
    assert drawn.shape == (4, 7, 6)
    assert drawn.dtype == np.int64
    assert np.take_along_axis(x, drawn, axis=1).shape == (4, 7, 6)
    assert sample(x, (7, 2), axis=1, rng=0).shape == (4, 7, 2, 6)
    assert sample(x, (), axis=1, rng=0).shape == (4, 6)
    assert sample(2.0, rng=0) == 0
    assert sample(2.0, 3, rng=0).tolist() == [0, 0, 0]
    for shape, size, drawn in (((0, 3), None, (0,)), ((0, 3), 2, (0, 2)), ((2, 3), 0, (2, 0))):
        assert sample(np.zeros(shape), size, rng=0).shape == drawn


def everything():
    """Draws of rows of every kind, and what their classes count."""
    for dtype in (np.float32, np.float64):
        for n in (2, 7, 100, 1003, 9001):
            x = (np.random.default_rng(n).standard_normal((9, n)) * 5).astype(dtype)
            kept = x < 4 + x.min(axis=1, keepdims=True)
            yield sample(x, 30, rng=1, where=kept, temperature=0.7)
            yield counts_of(x)
    x = np.random.default_rng(0).standard_normal((300, 777)).astype(np.float32)
    yield sample(x, rng=5)  # enough for all threads, and so many draws, too
    yield sample(x[0], 200_000, rng=6)


def elsewhere(**environment):
    """The digest of ``everything``, and the vector width of the code, in another process."""
    program = (
        "import test_sample as t; from fastsoftmax.cpu import plan;"
        "print(t.digest(t.everything()), plan.cpu()[1])"
    )
    return in_a_process(program, **environment).split()


@pytest.mark.parametrize("count", beyond_first([1, 3]))
def test_any_number_of_threads(count):
    assert elsewhere(NUMBA_NUM_THREADS=str(count))[0] == digest(everything())


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 code is compared")
def test_code_for_avx2():
    host = numba.core.codegen.get_host_cpu_features().split(",")
    if not set(AVX2.split(",")) <= set(host):
        pytest.skip("this CPU cannot run code for AVX2")
    result, width = elsewhere(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=AVX2)
    assert (result, width) == (digest(everything()), "256")


# --- containers --------------------------------------------------------------------------------


def test_draws_have_the_labels_of_their_rows():
    values = np.random.default_rng(0).standard_normal((4, 6))
    want, several = sample(values, rng=1), sample(values, 3, rng=1)
    frame = pandas.DataFrame(values, list("abcd"), list("uvwxyz"))
    got = sample(frame, axis=1, rng=1)
    pandas.testing.assert_series_equal(got, pandas.Series(want, list("abcd")))
    array = xarray.DataArray(values, {"row": list("abcd")}, ["row", "class"], "x")
    got = sample(array, dim="class", rng=1)
    xarray.testing.assert_identical(
        got, xarray.DataArray(want, {"row": list("abcd")}, ["row"], "x")
    )
    assert sample(polars.DataFrame(values), axis=1, rng=1).to_list() == want.tolist()
    assert sample(frame.loc["a"], rng=1) == want[0]
    for labelled in (frame, array, polars.DataFrame(values), np.ma.array(values)):
        got = sample(labelled, 3, axis=1, rng=1)
        np.testing.assert_array_equal(got, several)
        assert isinstance(got, np.ndarray)
    mask = pandas.DataFrame(values < 0.5, list("abcd"), list("uvwxyz")).loc[list("dcba")]
    np.testing.assert_array_equal(
        sample(frame, 9, axis=1, rng=1, where=mask), sample(values, 9, rng=1, where=values < 0.5)
    )
    masked = np.ma.array(values, mask=values >= 0.5)
    got = sample(masked, rng=1)
    assert isinstance(got, np.ma.MaskedArray)
    np.testing.assert_array_equal(got, sample(values, rng=1, where=values < 0.5))


def test_variables_of_a_dataset_have_numbers_of_their_own():
    values = np.zeros((20, 1000))
    both = xarray.Dataset({"a": (("row", "class"), values), "b": (("row", "class"), values)})
    got = sample(both, dim="class", rng=1)
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(got["a"], sample(values, rng=rng))
    np.testing.assert_array_equal(got["b"], sample(values, rng=rng))
    assert (got["a"] != got["b"]).any()
    with pytest.raises(TypeError, match="size must not be given where logits is several arrays"):
        sample(both, 3, dim="class")


def test_tensors():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    for size in (None, 3):
        got = sample(torch.from_numpy(values), size, rng=1)
        assert got.dtype == torch.int64
        np.testing.assert_array_equal(got.numpy(), sample(values, size, rng=1))
    narrow = torch.from_numpy(values).to(torch.bfloat16)
    got = sample(narrow, 3, dim=1, rng=1)
    want = sample(values.astype(ml_dtypes.bfloat16), 3, rng=1)
    np.testing.assert_array_equal(got.numpy(), want)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_that_have_no_law_are_refused_by_their_place(dtype):
    x = np.zeros((3, 2, 200), dtype)
    for value, reason in ((NAN, "it holds NaN"), (INF, "it holds inf")):
        for place in (0, 77, 199):
            bad = x.copy()
            bad[1, 1, place] = bad[2, 0, 0] = value
            for beside in ({}, {"top_k": 1}, {"top_p": 0.1}, {"temperature": 0.0}, {"size": 3}):
                with pytest.raises(
                    ValueError, match=rf"^nothing can be drawn from logits\[1, 1, :\]: {reason}$"
                ):
                    sample(bad, rng=0, **beside)
            kept = np.isfinite(bad.astype(float))
            assert sample(bad, rng=0, where=kept).shape == (3, 2)
    none = x.copy()
    none[2, 0] = -INF
    kept = np.ones(200, bool)
    for bad, axis, where, place in (
        (none, -1, None, "[2, 0, :]"),
        (none, (0, 2), np.arange(2)[:, None] == 1, "[:, 0, :]"),
        (x, None, False, ""),
        (np.zeros((2, 0), dtype), 1, kept[:0], "[0, :]"),
        (np.full(5, -INF, dtype), -1, None, ""),
    ):
        with pytest.raises(ValueError, match="none of its classes is possible") as refused:
            sample(bad, axis=axis, rng=0, where=where)
        assert f"from logits{place}: " in str(refused.value)
    both = np.array([NAN, -INF, INF], dtype)
    with pytest.raises(ValueError, match="nothing can be drawn from logits: it holds NaN"):
        sample(both, rng=0)


@pytest.mark.parametrize(
    ("beside", "error", "message"),
    [
        ({"size": -1}, ValueError, "size must not be negative, got -1"),
        ({"size": (2, -3)}, ValueError, r"size must not be negative, got \(2, -3\)"),
        ({"size": 2.0}, TypeError, "size must be an int, a tuple of ints or None, got 2.0"),
        ({"top_k": 0}, ValueError, "top_k must be from 1 to the number of classes, 3, got 0"),
        ({"top_k": 4}, ValueError, "top_k must be from 1 to the number of classes, 3, got 4"),
        ({"top_k": 1.5}, TypeError, "top_k must be an int or None, got 1.5"),
        ({"top_p": 0}, ValueError, "top_p must be above 0 and at most 1, got 0"),
        ({"top_p": 1.01}, ValueError, "top_p must be above 0 and at most 1, got 1.01"),
        ({"top_p": NAN}, ValueError, "top_p must be above 0 and at most 1, got nan"),
        ({"top_p": "x"}, TypeError, "top_p must be a number or None, got 'x'"),
        ({"temperature": -1.0}, ValueError, "temperature must not be negative or NaN, got -1.0"),
        ({"where": [1, 0, 1]}, TypeError, "where must be boolean"),
        ({"axis": 2}, ValueError, "axis 2 is out of bounds"),
        ({"dim": "class"}, TypeError, "dim is for what has named dimensions"),
        ({"logits": [1j, 0]}, TypeError, "logits must hold real numbers for sample"),
        ({"logits": np.zeros(3, np.longdouble)}, TypeError, "logits must be float64 or narrower"),
        ({"logits": ["a"]}, TypeError, "logits must hold real or complex numbers"),
    ],
)
def test_wrong_arguments_are_refused_before_a_number_is_taken(beside, error, message):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    with pytest.raises(error, match=message):
        sample(**({"logits": [1.0, 2.0, 3.0], "rng": rng} | beside))
    assert rng.bit_generator.state == before


def test_arrays_on_a_gpu_are_refused():
    seen = {"shape": (3,), "typestr": "<f4", "data": (1, True), "version": 3}
    there = type("Somewhere", (), {"__cuda_array_interface__": seen})()
    with pytest.raises(ValueError, match="sample is computed on the CPU: copy logits to the host"):
        sample(there, rng=0)


def test_wrong_generators_are_refused():
    for rng, error, message in (
        (np.random.RandomState(0), TypeError, "got a RandomState: pass numpy.random.default_rng"),
        (-1, ValueError, "rng must be a seed or a numpy.random.Generator, got -1: expected non-"),
        (1.5, TypeError, "rng must be a seed or a numpy.random.Generator, got 1.5: "),
        ("x", TypeError, "rng must be a seed or a numpy.random.Generator, got 'x': "),
    ):
        with pytest.raises(error, match=message):
            sample([1.0, 2.0], rng=rng)


def test_the_command_line_finds_it_when_it_asks():
    program = """
import sys
sys.argv = ["fastsoftmax"]
import fastsoftmax
print("numpy" in sys.modules, *[name for name in fastsoftmax.__all__ if getattr(fastsoftmax, name)])
"""
    assert in_a_process(program).split() == ["False", *fastsoftmax.__all__]
