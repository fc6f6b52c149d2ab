"""top_k, cross_entropy and sample inside compiled code: the bits of calls from Python, or an error.

The compiled functions are few, as each takes a second or two.
"""

import inspect
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from numba import njit, prange
from numba.core.errors import TypingError
from thorough import beyond_first

import fastsoftmax
from fastsoftmax import cross_entropy, nopython_scoring, sample, top_k
from fastsoftmax.cpu import inside_scoring, totals
from fastsoftmax.cpu.sizes import BLOCK, MOST_CHOSEN, SHORT

ROOT = Path(fastsoftmax.__file__).parent.parent


@njit
def best(x, k):
    return top_k(x, k)


@njit
def loss(x, target):
    return cross_entropy(x, target), cross_entropy(x, target, reduction="none")


@njit
def drawn(x, size, rng):
    return sample(x, size, rng=rng)


@njit
def summed(x):
    return inside_scoring.total(x)


def logits(dtype, *shape):
    return (np.random.default_rng(shape).standard_normal(shape) * 8).astype(dtype)


def check(got, wanted):
    """The same arrays, or tuples of such; numbers are Python's there, whatever their type."""
    if isinstance(wanted, tuple):
        for one, other in zip(got, wanted, strict=True):
            check(one, other)
    else:
        got = np.asarray(got, np.asarray(wanted).dtype) if np.ndim(wanted) == 0 else got
        np.testing.assert_array_equal(got, np.asarray(wanted), strict=True)


def check_draws(compiled, *arguments):
    """The same draws as from Python, and the generator taken as far."""
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    check(compiled(*arguments, ours), compiled.py_func(*arguments, theirs))
    assert ours.bit_generator.state == theirs.bit_generator.state


# Of rows across lanes and along them; longer ones than a block have kernels of their own.
LENGTHS = beyond_first([(1, 2, 17, SHORT), (SHORT + 1, BLOCK), (BLOCK + 1, 40_000)])


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", beyond_first([np.float64, np.float32, np.int16]))
def test_rows_have_the_same_bits(dtype, lengths):
    for length in lengths:
        x = logits(dtype, 4, length)
        for k in {1, min(3, length), min(MOST_CHOSEN, length)}:
            check(best(x, k), top_k(x, k))
        target = np.array([0, -100, length - 1, length // 2])
        check(loss(x, target), loss.py_func(x, target))
        check_draws(drawn, x, 5)


def test_ties_nan_and_infinities():
    x = np.zeros((5, SHORT))
    x[0, [3, 40]], x[1, 5], x[2, 6], x[3] = 1, np.nan, np.inf, -np.inf
    check(best(x, 16), top_k(x, 16))
    target = np.array([40, 5, 7, 0, 59])
    check(loss(x, target)[1], cross_entropy(x, target, reduction="none"))
    assert math.isnan(loss(x, target)[0])
    x[2, 6] = -np.inf
    target[1:4] = -100, 6, -100
    check(loss(x, target)[1], cross_entropy(x, target, reduction="none"))
    assert loss(x, target)[0] == cross_entropy(x, target) == math.inf


ALONG = beyond_first([((3, 4, 5), 1), ((5,), 0), ((3, 4, 5), -1), ((9, 4), 0)])
LAYOUTS = beyond_first([np.asfortranarray, np.ascontiguousarray, lambda x: x[::-1]])


@pytest.mark.parametrize("along", ALONG)
@pytest.mark.parametrize("lay", LAYOUTS)
def test_along_any_axis_in_any_layout(along, lay):
    shape, axis = along
    x = lay(logits(np.float64, *shape))

    @njit
    def scored(x, target, rng):
        return (
            top_k(x, 2, axis=axis),
            cross_entropy(x, target, axis, reduction="none"),
            sample(x, 6, axis=axis, rng=rng),
        )

    check_draws(scored, x, np.argmin(x, axis=axis))


@pytest.mark.thorough
@pytest.mark.parametrize("along", ALONG)
@pytest.mark.parametrize("lay", LAYOUTS)
def test_one_result_a_row_or_one_of_all_in_any_layout(along, lay):
    shape, axis = along
    x = lay(logits(np.float32, *shape))

    @njit
    def scored(x, target, rng):
        total = cross_entropy(x, target, axis, reduction="sum")
        return total, cross_entropy(x, target, axis=axis), sample(x, axis=axis, rng=rng)

    check_draws(scored, x, np.argmin(x, axis=axis))


def test_draws_along_several_axes_count_in_c_order():
    @njit
    def draws(x, rng):
        return sample(x, 4, axis=(0, 2), rng=rng)

    check_draws(draws, np.asfortranarray(logits(np.float64, 3, 4, 5)))


@pytest.mark.thorough
def test_one_draw_of_all():
    check_draws(njit(lambda x, rng: sample(x, None, None, rng=rng)), logits(np.float64, 3, 4, 5))


SCORES = {
    "top_k": lambda x, temperature, rng: top_k(x, 2, temperature=temperature),
    "cross_entropy": lambda x, temperature, rng: cross_entropy(
        x, np.array([1, 2, 0]), reduction="none", temperature=temperature
    ),
    "sample": lambda x, temperature, rng: sample(x, rng=rng, temperature=temperature),
}


@pytest.mark.thorough
@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_temperatures(dtype, function):
    x, compiled = logits(dtype, 3, 4), njit(SCORES[function])
    for temperature in (0.37, 0.0, 1e-310, 1e290, np.inf):
        check_draws(compiled, x, temperature)
    for wrong in (-1.0, np.nan):
        with pytest.raises(ValueError, match="temperature must not be negative or NaN"):
            compiled(x, wrong, np.random.default_rng(0))


def test_nothing():
    x, target = np.empty((0, 3)), np.empty(0, np.int64)
    check(best(x, 2), top_k(x, 2))
    check(loss(x, target), loss.py_func(x, target))
    check_draws(drawn, x, 5)
    check_draws(drawn, np.ones((2, 3)), 0)


def test_all_rows_ignored():
    x, ignored = np.full((2, 3), np.nan), np.full(2, -100)
    mean, losses = loss(x, ignored)
    assert math.isnan(mean)
    assert not losses.any()


def test_lists_and_targets_of_other_types():
    @njit
    def scored(row, x, target):
        return top_k(row, 2), cross_entropy(x, target, ignore_index=255, reduction="sum")

    row, x = (1.0, 3.0, 2.0), logits(np.float64, 3, 4)
    target = np.array([0, 255, 3], np.uint8)
    check(scored(row, x, target), scored.py_func(row, x, target))


# --- the sum of losses ---------------------------------------------------------------------------

SUMMED = {
    "one": [3.7],
    "more than counts of one piece": np.random.default_rng(0).exponential(size=50_001),
    "of all sizes": np.exp(np.random.default_rng(1).uniform(-80, 80, 1000)),
    "of both signs": np.random.default_rng(2).standard_normal(1000) * 1e-5,
    "a tie, and what decides it": [1.0, 2.0**-53, 2.0**-120],
    "nothing left": [1.5, -1.5],
    "zeros": [0.0, -0.0],
    "next to nothing": np.exp(np.random.default_rng(3).uniform(-745, -630, 1000)),
    "subnormal": [5e-324] * 3,
    "large": [1e308, 5e307, -1e308],
    "infinity": [1.0, np.inf],
    "NaN": [np.inf, np.nan],
    "none": [],
}


@pytest.mark.parametrize("name", SUMMED)
def test_sums_are_those_of_calls_from_python_in_any_order(name):
    x = np.asarray(SUMMED[name], np.float64)
    wanted = totals.total(x)
    for seen in (x, x[::-1], np.random.default_rng(4).permutation(x)):
        got = summed(np.ascontiguousarray(seen).reshape(1, -1, 1))
        np.testing.assert_array_equal(got, wanted)
    if 0 < wanted < 2.0**-900:
        assert wanted == math.fsum(x)


# --- threads, and code that is kept --------------------------------------------------------------


def test_in_a_loop_of_threads_with_a_generator_for_each():
    @njit(parallel=True, fastmath=True)
    def scored(x, target, generators):
        count = len(x)
        places, losses = np.empty((count, 3), np.int64), np.empty(count)
        draws = np.empty((count, 2), np.int64)
        for part in prange(len(generators)):
            for i in range(part, count, len(generators)):
                places[i] = top_k(x[i], 3)[1]
                losses[i] = cross_entropy(x[i], target[i])
                draws[i] = sample(x[i], 2, rng=generators[part])
        return places, losses, draws

    x = logits(np.float64, 40, 20)
    target = np.argmax(-x, axis=1)

    def generators():
        return tuple(np.random.default_rng(7).spawn(2))

    of_rows = np.empty((len(x), 2), np.int64)
    for part, generator in enumerate(generators()):
        of_rows[part::2] = sample(x[part::2], 2, rng=generator)
    wanted = top_k(x, 3)[1], cross_entropy(x, target, reduction="none"), of_rows
    check(scored(x, target, generators()), wanted)


@pytest.mark.thorough
def test_a_users_code_is_kept_for_other_processes_and_gives_memory_back(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import numba, numpy as np
        from numba.core.runtime import rtsys
        from fastsoftmax import cross_entropy, sample, top_k

        @numba.njit(cache=True)
        def scored(x, target, rng):
            places = top_k(x.T, 2, axis=0)[1]
            return places, cross_entropy(x, target), sample(x, 3, axis=0, rng=rng)

        def held():
            statistics = rtsys.get_allocation_stats()
            return statistics.alloc - statistics.free

        x, rng = np.random.default_rng(0).normal(size=(10, 70)), np.random.default_rng(1)
        target = np.arange(10)
        same = np.array_equal(scored(x, target, rng)[0], top_k(x, 2)[1].T)
        before = held()
        for _ in range(9):
            scored(x, target, rng)
        print(same, sum(scored.stats.cache_hits.values()), held() - before)
        """)
    )
    for hits in (0, 1):
        done = subprocess.run(
            [sys.executable, "-W", "error", program], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NRT_STATS": "1"},
        )  # fmt: skip
        assert done.stdout == f"True {hits} 0\n"


# --- errors ------------------------------------------------------------------------------------


def test_what_is_wrong_is_refused_before_anything_is_computed():
    x = logits(np.float64, 3, 20)
    for k, message in (
        (0, "k must be from 1 to the number of classes"),
        (21, "k must be from 1 to the number of classes"),
        (17, "k must be at most 16 in compiled code"),
    ):
        with pytest.raises(ValueError, match=message):
            best(x, k)
    for target in ([0, 20, 1], [-1, 2, 3]):
        with pytest.raises(ValueError, match="target must be classes, from 0 to one below their"):
            loss(x, np.array(target))
    with pytest.raises(ValueError, match="target must have the shape of the logits without axis"):
        loss(x, np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="target must be classes"):
        loss(np.empty((2, 0)), np.zeros(2, np.int64))
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="size must not be negative"):
        drawn(x, -1, rng)
    with pytest.raises(ValueError, match="there are no classes to draw from"):
        drawn(x[:, :0], 2, rng)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state
    for wrong in (np.nan, np.inf, -np.inf):
        x[1] = wrong
        with pytest.raises(ValueError, match="nothing can be drawn from a row that holds NaN or"):
            drawn(x, 2, rng)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y, g: top_k(x, 1.0), "top_k: k must be an integer, got float64"),
        (lambda x, y, g: top_k(x, 1, axis=2), "top_k: axis 2 is out of bounds"),
        (lambda x, y, g: top_k(x, 1, axis=(0, 1)), "top_k"),
        (lambda x, y, g: top_k(x, 1, axis=len(x)), "top_k: axis must be a constant"),
        (lambda x, y, g: top_k(x, 1, where=x > 0), "top_k: where= is not for compiled code"),
        (lambda x, y, g: top_k(x + 1j, 1), "top_k: logits must hold float32, float64, integers"),
        (lambda x, y, g: cross_entropy(x, y, weight=x[0]), "cross_entropy: weight= is not for"),
        (
            lambda x, y, g: cross_entropy(x, y, label_smoothing=0.1),
            "cross_entropy: label_smoothing= is not for compiled code",
        ),
        (lambda x, y, g: cross_entropy(x, x), "target must be class indices, of int64 or smaller"),
        (lambda x, y, g: cross_entropy(x, y.astype(np.uint64)), "class indices, of int64 or small"),
        (lambda x, y, g: cross_entropy(x, 1), "target must be an array of 1 dimensions, one ind"),
        (lambda x, y, g: cross_entropy(x[0], y), "target must be one integer, one index a row"),
        (lambda x, y, g: cross_entropy(x, y, ignore_index=0.5), "ignore_index must be an integer"),
        (
            lambda x, y, g: cross_entropy(x, y, reduction="avg"),
            "cross_entropy: reduction must be 'mean', 'sum' or 'none', got 'avg'",
        ),
        (lambda x, y, g: sample(x), "rng must be a numpy.random.Generator in compiled code, got N"),
        (lambda x, y, g: sample(x, rng=0), r"got Literal\[int\]\(0\): pass numpy.random.default_r"),
        (lambda x, y, g: sample(x, (2, 3), rng=g), "size must be an integer or None in compiled"),
        (lambda x, y, g: sample(x, rng=g, top_k=3), "sample: top_k= is not for compiled code"),
        (lambda x, y, g: sample(x, rng=g, top_p=0.5), "sample: top_p= is not for compiled code"),
        (lambda x, y, g: sample(x, rng=g, temperature=x), "sample: temperature must be one number"),
    ],
)  # fmt: skip
def test_what_is_not_for_compiled_code_is_refused(call, message):
    with pytest.raises(TypingError, match=message):
        njit(call)(logits(np.float64, 2, 3), np.zeros(2, np.int64), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("ours", "public"),
    [
        (nopython_scoring._top_k, fastsoftmax.top_k),
        (nopython_scoring._cross_entropy, fastsoftmax.cross_entropy),
        (nopython_scoring._sample, fastsoftmax.sample),
    ],
)
def test_arguments_are_those_of_calls_from_python(ours, public):
    found, expected = (inspect.signature(each).parameters for each in (ours, public))
    assert list(found) == list(expected)
    assert [p.default for p in found.values()] == [p.default for p in expected.values()]
