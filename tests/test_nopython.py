"""Inside code that a user has Numba compile: the bits of calls from Python, or a clear error."""

import functools
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from numba import njit, prange
from numba.core.errors import TypingError
from thorough import beyond_first

import fastsoftmax
from fastsoftmax import entropy, log_softmax, logsumexp, softmax
from fastsoftmax.cpu.sizes import BLOCK, PANEL_LINES, SHORT

ROOT = Path(fastsoftmax.__file__).parent.parent


@functools.cache
def compiled(function, axis, keepdims=False):
    if keepdims:
        return njit(lambda x: function(x, axis=axis, keepdims=True))
    return njit(lambda x: function(x, axis=axis))


@functools.cache
def divided(function, axis):
    return njit(lambda x, temperature: function(x, axis=axis, temperature=temperature))


def check(got, wanted):
    np.testing.assert_array_equal(got, wanted, strict=True)


def logits(dtype, *shape):
    return (np.random.default_rng(shape).standard_normal(shape) * 8).astype(dtype)


VARIANTS = beyond_first(
    [
        (function, dtype)
        for dtype in (np.float64, np.float32)
        for function in (softmax, log_softmax, logsumexp, entropy)
    ]
)
EDGES = [1, 2, 3, 17, SHORT, SHORT + 1, BLOCK, BLOCK + 1, 40_000]


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_have_the_same_bits(variant):
    function, dtype = variant
    for length in EDGES:
        x = logits(dtype, 3, length)
        check(compiled(function, -1)(x), function(x, axis=-1))
    row = compiled(function, -1)(x[1])  # one number is Python's float there, whatever its type
    check(np.asarray(row, dtype)[()], function(x[1], axis=-1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_columns_have_the_same_bits(variant):
    function, dtype = variant
    for length in (1, 5, PANEL_LINES, PANEL_LINES + 1, BLOCK + 1):
        for columns in (1, 15, 16, 65):
            x = logits(dtype, length, columns)
            check(compiled(function, 0)(x), function(x, axis=0))


@pytest.mark.parametrize("axis", beyond_first([(0, 2), None, 1, (2, -3, 1), ()]))
def test_along_any_axes(axis):
    x = logits(np.float64, 3, 4, 5)
    check(compiled(softmax, axis)(x), softmax(x, axis=axis))
    check(compiled(logsumexp, axis)(x), logsumexp(x, axis=axis))
    keepdims = compiled(logsumexp, axis, keepdims=True)
    check(keepdims(x), logsumexp(x, axis=axis, keepdims=True))


LAYOUTS = beyond_first([
    lambda x: x[:, 1:4], lambda x: x[::-1, ::2], np.asfortranarray, lambda x: x[:, 0],
    lambda x: np.broadcast_to(x[0], x.shape), lambda x: x.astype(np.int16)
])  # fmt: skip


@pytest.mark.parametrize("lay", LAYOUTS)
def test_in_any_layout(lay):
    x = lay(logits(np.float64, 4, 6))
    for axis in (-1, 0):
        check(compiled(softmax, axis)(x), softmax(x, axis=axis))


@pytest.mark.thorough
@pytest.mark.parametrize("lay", LAYOUTS)
def test_one_result_a_row_in_any_layout(lay):
    x = lay(logits(np.float64, 4, 6))
    for axis in (-1, 0, None):
        check(compiled(logsumexp, axis)(x), logsumexp(x, axis=axis))


def test_what_may_not_be_written_to_is_read_where_it_is():
    x = logits(np.float64, 3, 5)
    x.flags.writeable = False
    check(compiled(softmax, -1)(x), softmax(x, axis=-1))


def test_lists_and_tuples():
    check(njit(lambda: softmax([1.0, 2.0]))(), softmax([1.0, 2.0]))
    check(compiled(logsumexp, -1)((1, 2, 4)), logsumexp([1, 2, 4]))


@pytest.mark.parametrize("shape", beyond_first([(3, 0), (0,), (0, 3)]))
def test_nothing(shape):
    x = np.empty(shape)
    for function in (softmax, logsumexp, entropy):
        check(compiled(function, -1)(x), function(x, axis=-1))


def test_nan_and_infinities():
    x = logits(np.float64, 5, 3)
    x[0, 0], x[1, 1], x[2, 2], x[3] = np.nan, np.inf, -np.inf, -np.inf
    for function in (softmax, logsumexp):
        check(compiled(function, -1)(x), function(x, axis=-1))


@pytest.mark.parametrize("dtype", beyond_first([np.float64, np.float32]))
def test_temperatures(dtype):
    x = logits(dtype, 4, 3) * dtype(1e30)
    x[1], x[2, 0], x[3, 0] = [3, 3, 1], np.inf, -np.inf
    at = divided(softmax, -1)
    for temperature in (2.0, 1.0, 0.37, 0.0, np.inf, 1e-80, 1e-310, 1e-301, 1e290):
        check(at(x, temperature), softmax(x, axis=-1, temperature=temperature))
    for wrong in (-1.0, np.nan):
        with pytest.raises(ValueError, match="temperature must not be negative or NaN"):
            at(x, wrong)


def test_in_a_loop_of_threads_under_other_rules_of_arithmetic():
    @njit(parallel=True, fastmath=True, error_model="numpy", boundscheck=True)
    def rows(x):
        result = np.empty_like(x)
        for i in prange(len(x)):
            result[i] = softmax(x[i], temperature=3)
        return result

    x = logits(np.float64, 100, 70)
    x[3, 5] = np.nan
    check(rows(x), softmax(x, axis=-1, temperature=3))


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: softmax(x, axis=2), "softmax: axis 2 is out of bounds for array of dimension 2"),
        (lambda x: logsumexp(x, (0, 3)), "logsumexp: axis 3 is out of bounds for array of dimens"),
        (
            lambda x: softmax(x, axis=(1, -1)),
            r"axis must not name a dimension twice, got \(1, -1\)",
        ),
        (lambda x: softmax(x, axis=len(x)), "softmax: axis must be a constant in compiled code"),
        (lambda x: logsumexp(x, keepdims=len(x) > 1), "keepdims must be a constant"),
        (lambda x: softmax(x, where=x > 0), "softmax: where= is not for compiled code"),
        (lambda x: log_softmax(x, 0, x), "log_softmax: out= is not for compiled code"),
        (lambda x: logsumexp(x, b=x), "logsumexp: b= is not for compiled code"),
        (lambda x: entropy(x, dim="x"), "entropy: dim= is not for compiled code"),
        (lambda x: entropy(x, temperature=x), "entropy: temperature must be one number, got array"),
        (lambda x: logsumexp(x + 1j), "logsumexp: a must hold float32, float64, integers or bool"),
        (lambda x: logsumexp((x, x)), "logsumexp: a must hold float32, float64, integers or bool"),
        (lambda x: softmax(x[0, 0]), "softmax: x must be an array, a list or a tuple, got float64"),
    ],
)
def test_what_is_not_for_compiled_code_is_refused(call, message):
    with pytest.raises(TypingError, match=message):
        njit(call)(logits(np.float64, 2, 3))


# --- SciPy's functions, and code that is kept ----------------------------------------------------


def test_scipys_functions():
    x = logits(np.float64, 3, 4)
    check(compiled(scipy.special.softmax, 1)(x), softmax(x, axis=1))
    check(compiled(scipy.special.log_softmax, None)(x), log_softmax(x))
    kept = compiled(scipy.special.logsumexp, 0, keepdims=True)(x)
    check(kept, logsumexp(x, axis=0, keepdims=True))
    np.testing.assert_allclose(kept, scipy.special.logsumexp(x, axis=0, keepdims=True), rtol=1e-15)
    with pytest.raises(TypingError, match="unexpected keyword argument 'temperature'"):
        njit(lambda x: scipy.special.softmax(x, temperature=2.0))(x)
    with pytest.raises(TypingError, match="logsumexp: return_sign= is not for compiled code"):
        njit(lambda x: scipy.special.logsumexp(x, return_sign=True))(x)


def run(directory, program, *paths):
    """What a process prints that runs a file ``program.py``."""
    file = directory / "program.py"
    if not file.exists():
        file.write_text(textwrap.dedent(program))
    paths = os.pathsep.join(map(str, [*paths, ROOT]))
    done = subprocess.run(
        [sys.executable, "-W", "error", file],
        env=os.environ | {"PYTHONPATH": paths, "NUMBA_NRT_STATS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def test_a_users_code_is_kept_for_other_processes_and_gives_memory_back(tmp_path):
    program = """
        import numba, numpy as np
        from numba.core.runtime import rtsys
        from fastsoftmax import softmax

        @numba.njit(cache=True)
        def halves(x):
            return softmax(x[:, ::2], axis=0), softmax(x, axis=-1)

        def held():
            statistics = rtsys.get_allocation_stats()
            return statistics.alloc - statistics.free

        x = np.random.default_rng(0).normal(size=(10, 70))
        same = np.array_equal(softmax(x, axis=-1), halves(x)[1])
        before = held()
        for _ in range(9):
            halves(x)
        print(same, sum(halves.stats.cache_hits.values()), held() - before)
    """
    assert run(tmp_path, program) == "True 0 0\n"
    assert run(tmp_path, program) == "True 1 0\n"
    # Another version of the package has other kernels: what calls them is compiled anew.
    other = tmp_path / "other"
    shutil.copytree(ROOT / "fastsoftmax", other / "fastsoftmax")
    with open(other / "fastsoftmax" / "cpu" / "sizes.py", "a") as file:
        file.write("# another version\n")
    assert run(tmp_path, program, other) == "True 0 0\n"
    assert run(tmp_path, program, other) == "True 1 0\n"


def test_numba_knows_scipys_functions_where_only_scipy_is_imported(tmp_path):
    entry = tmp_path / "fastsoftmax-0.dist-info"
    entry.mkdir()
    shutil.copy(
        ROOT / "fastsoftmax" / "data" / "numba_extension.py", tmp_path / "fastsoftmax_numba.py"
    )
    (entry / "METADATA").write_text("Metadata-Version: 2.1\nName: fastsoftmax\nVersion: 0\n")
    (entry / "entry_points.txt").write_text("[numba_extensions]\ninit = fastsoftmax_numba:init\n")
    program = """
        import sys, numba, numpy as np
        print(numba.njit(lambda x: x + 1)(1), {"fastsoftmax", "scipy.special"} & set(sys.modules))
        import scipy.special as special
        from scipy.special import softmax
        print(numba.njit(lambda x: softmax(x))(np.zeros(4)))
        print(numba.njit(lambda x: special.logsumexp(x))(np.zeros(1)))
    """
    assert run(tmp_path, program, tmp_path) == "2 set()\n[0.25 0.25 0.25 0.25]\n0.0\n"
