"""What a caller can pass: layouts, out, types, and every way to get it wrong."""

import itertools
import math
import tempfile
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from placed import How, placed

from fastsoftmax import call, log_softmax, logsumexp, softmax
from fastsoftmax.arithmetic.formulas import LOGSUMEXP
from fastsoftmax.cpu import plan

FUNCTIONS = [softmax, log_softmax, logsumexp]
MAPS = [softmax, log_softmax]


def reference(function, x, axis):
    """The textbook formula in float64."""
    x = np.asarray(x).astype(np.float64)
    top = x.max(axis=axis, keepdims=True)
    total = np.exp(x - top).sum(axis=axis, keepdims=True)
    if function is softmax:
        return np.exp(x - top) / total
    if function is log_softmax:
        return x - top - np.log(total)
    return (np.log(total) + top).reshape(np.exp(x).sum(axis=axis).shape)


class Subclass(np.ndarray):
    """As a user's own, which changes nothing."""


def layouts(x):
    """The same values in every layout; along a stride of zero, the first of them."""
    yield "C", np.ascontiguousarray(x)
    yield "Fortran", np.asfortranarray(x)
    if x.dtype != ml_dtypes.bfloat16:
        yield "byte-swapped", x.astype(x.dtype.newbyteorder())
    memory = np.zeros(x.nbytes + 1, np.uint8)
    misaligned = memory[1:].view(x.dtype).reshape(x.shape)
    misaligned[...] = x
    yield "misaligned", misaligned
    read_only = np.array(x)
    read_only.flags.writeable = False
    yield "read-only", read_only
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, x.dtype, "w+", shape=x.shape)
    mapped[...] = x
    yield "memory-mapped", mapped
    yield "masked", np.ma.array(x)
    yield "subclass", x.view(Subclass)
    if x.ndim:
        for axis in range(x.ndim):
            yield f"zero stride {axis}", np.broadcast_to(x.take([0], axis), x.shape)
        yield "strided", np.repeat(x, 3, axis=-1)[..., 1::3]
        yield "negative", x[::-1].copy()[::-1]
        yield "both negative", x[::-1, ..., ::-1].copy()[::-1, ..., ::-1] if x.ndim > 1 else x
        yield "broadcast", np.broadcast_to(x, (3, *x.shape))[1]
        yield "transposed", np.ascontiguousarray(x.transpose()).transpose()
    if x.ndim > 2:
        order = (1, 2, 0, *range(3, x.ndim))
        back = np.argsort(order)
        yield "permuted", np.ascontiguousarray(x.transpose(order)).transpose(back)


@pytest.mark.parametrize(
    "shape", [(), (9,), (3, 17), (17, 3), (2, 3, 9), (2, 9, 1, 3), (2, 3, 2, 3, 2)]
)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_every_layout_axis_and_dimension(shape, dtype):
    x = (np.random.default_rng(0).standard_normal(shape) * 4).astype(dtype)
    axes = [None, (), *range(-1, x.ndim), *itertools.combinations(range(x.ndim), 2)]
    tolerance = 4 * float(ml_dtypes.finfo(dtype).eps)
    for (name, seen), axis, function in itertools.product(layouts(x), axes, FUNCTIONS):
        before = seen.tobytes()
        got = function(seen, axis=axis)
        right = reference(function, seen, axis)
        np.testing.assert_allclose(
            np.asarray(got).astype(np.float64),
            right,
            rtol=tolerance,
            atol=tolerance,
            err_msg=f"{name} {axis} {function}",
        )
        assert got.dtype == dtype
        assert seen.tobytes() == before
        if function is not logsumexp and x.ndim:
            for out in (np.empty(shape, dtype), np.empty(shape, dtype, order="F")):
                assert function(seen, axis=axis, out=out) is out
                np.testing.assert_array_equal(out, got)
            if name != "masked" and seen.flags.writeable and seen.dtype.isnative:
                held = seen.copy(order="K")
                assert function(held, axis=axis, out=held) is held
                np.testing.assert_array_equal(held, got)


@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_keeps_dimensions_and_order(keepdims):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    for axis in [None, (), 0, 1, 3, (0, 2), (1, 3), (2, 1), (0, 1, 2, 3)]:
        got = logsumexp(x.transpose(3, 1, 0, 2), axis=axis, keepdims=keepdims)
        right = np.log(np.exp(x.transpose(3, 1, 0, 2)).sum(axis=axis, keepdims=keepdims))
        np.testing.assert_allclose(got, right)
        out = np.empty_like(right)
        assert logsumexp(x.transpose(3, 1, 0, 2), axis, keepdims=keepdims, out=out) is out
        np.testing.assert_array_equal(out, got)


def test_contiguous_input_is_not_copied():
    x = np.random.default_rng(0).standard_normal((1000, 1000)).astype(np.float32)
    out = np.empty_like(x)
    mask = np.ones_like(x, bool)
    for index, axis in [(np.s_[:], 1), (np.s_[:], 0), (None, 1), (np.s_[::2], 1)]:
        # None: transposed
        seen, result, where = (a.T if index is None else a[index] for a in (x, out, mask))
        softmax(seen, axis=axis, out=result)
        softmax(seen, axis=axis, out=result, where=where)
        tracemalloc.start()
        softmax(seen, axis=axis, out=result)
        softmax(seen, axis=axis, out=result, where=where)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < x.nbytes // 2  # scratch memory of two threads, 1 MB for columns
    for index in (np.s_[:, None], np.s_[..., None], np.s_[None]):
        softmax(x[index], axis=1, out=out[index])
        tracemalloc.start()
        softmax(x[index], axis=1, out=out[index])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < x.nbytes // 2


# --- out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", MAPS)
def test_out_that_overlaps_the_input_otherwise(function):
    memory = np.random.default_rng(0).standard_normal(2000)
    for where_in, where_out in [
        (slice(0, 1000), slice(1, 1001)),
        (slice(10, 1010), slice(0, 1000)),
        (slice(0, 1000), slice(999, 1999)),
    ]:
        for shape, axis in [((1000,), 0), ((20, 50), 1), ((20, 50), 0)]:
            held = memory.copy()
            x, out = held[where_in].reshape(shape), held[where_out].reshape(shape)
            right = function(x.copy(), axis=axis)
            assert function(x, axis=axis, out=out) is out
            np.testing.assert_array_equal(out, right)
    square = memory[:400].reshape(20, 20).copy()
    right = function(square, axis=1)
    function(square, axis=1, out=square.T)
    np.testing.assert_array_equal(square.T, right)
    reverse = memory[:100].copy()
    right = function(reverse)
    function(reverse, out=reverse[::-1])
    np.testing.assert_array_equal(reverse[::-1], right)


def test_out_that_overlaps_a_mask_or_is_where_the_sum_comes_from():
    x = np.random.default_rng(0).standard_normal((8, 16))
    out = np.zeros((8, 16))
    mask = out.view(bool)[:, ::8]
    mask[:, ::2] = True
    right = softmax(x, axis=1, where=mask.copy())
    np.testing.assert_array_equal(softmax(x, axis=1, where=mask, out=out), right)
    a = np.random.default_rng(0).standard_normal(5)
    np.testing.assert_array_equal(logsumexp(a, axis=(), out=a), a.copy())


@pytest.mark.parametrize("function", MAPS)
@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
def test_out_that_overlaps_the_temperatures(function, axis):
    lines = {0: np.s_[-1:], 1: np.s_[:, :1], (0, 1): np.s_[:1, -1:]}[axis]
    for shape, flip in itertools.product([(20, 3), (3, 20), (9, 70)], [1, -1]):
        values = np.random.default_rng(0).uniform(0.5, 2, shape)
        for at in (lines, np.s_[1, 1, ...]):  # a number that is still a view
            held = values.copy()
            temperature = held[::flip, ::flip][at]
            right = function(values, axis=axis, temperature=temperature.copy())
            got = function(held, axis=axis, temperature=temperature, out=held)
            np.testing.assert_array_equal(got, right)
            held[...] = values
            function(values, axis=axis, temperature=temperature, out=held)
            np.testing.assert_array_equal(held, right)


@pytest.mark.parametrize("name", ["a", "b", "where"])
@pytest.mark.parametrize("axis", [0, 1, (), None])
def test_out_that_overlaps_what_is_summed(name, axis):
    memory = np.zeros((6, 6))
    values = np.random.default_rng(0).uniform(-2, 2, (6, 6))
    inputs = {"a": values.copy(), "b": values[::-1].copy(), "where": values < 1}
    shared = memory if name != "where" else memory.view(bool)[:, ::8]
    shared[...] = inputs[name]
    right, signs = logsumexp(axis=axis, return_sign=True, **inputs)
    out = memory.ravel()[-right.size :].reshape(right.shape)
    _, sign = logsumexp(axis=axis, return_sign=True, out=out, **{**inputs, name: shared})
    np.testing.assert_array_equal(out, right)
    np.testing.assert_array_equal(sign, signs)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_out_that_is_a_subclass():
    x = np.random.default_rng(0).standard_normal((20, 30))
    for axis in (0, 1):
        out = np.asmatrix(np.zeros((20, 30)))
        assert softmax(x, axis=axis, out=out) is out
        np.testing.assert_array_equal(np.asarray(out), softmax(x, axis=axis))


def test_out_of_another_type():
    x = np.float32([1.0, 2.0, 300.0])
    wide = np.empty(3, np.float64)
    np.testing.assert_array_equal(softmax(x, out=wide), softmax(x).astype(np.float64))
    narrow = np.empty(3, np.float16)
    np.testing.assert_array_equal(softmax(x, out=narrow), softmax(x).astype(np.float16))
    swapped = np.empty(3, np.dtype(np.float32).newbyteorder())
    np.testing.assert_array_equal(softmax(x, out=swapped), softmax(x))
    brain = np.empty(3, ml_dtypes.bfloat16)
    np.testing.assert_array_equal(softmax(x, out=brain), softmax(x).astype(ml_dtypes.bfloat16))
    half = np.empty(2, np.float16)
    np.testing.assert_array_equal(log_softmax([-1e6, 0.0], out=half), [-np.inf, 0])
    assert logsumexp(x, out=np.empty((), np.float64)) == logsumexp(x)


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (np.empty((3, 2)), ValueError, r"out must have shape \(2, 3\), got \(3, 2\)"),
        (np.empty(6), ValueError, "out must have shape"),
        (np.empty((2, 3), int), TypeError, "out of dtype.'int64'. cannot hold"),
        (np.empty((2, 3), bool), TypeError, "cannot hold"),
        (np.zeros((2, 3), object), TypeError, "cannot hold"),
        ([[0.0] * 3] * 2, TypeError, "out must be a plain NumPy array, got list"),
        (np.ma.zeros((2, 3)), TypeError, "got MaskedArray"),
        (np.broadcast_to(np.zeros(3), (2, 3)), ValueError, "out is read-only"),
    ],
)
@pytest.mark.parametrize("function", MAPS)
def test_out_that_cannot_be_written(function, out, error, words):
    before = np.array(out)
    with pytest.raises(error, match=words):
        function([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], axis=1, out=out)
    np.testing.assert_array_equal(np.asarray(out).astype(float), before.astype(float))


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((2, 3), (0, 8)),
        ((2, 3), (8, 8)),  # a sliding window
        ((2, 3), (12, 8)),  # elements that share four bytes
        ((3, 2), (-8, 8)),
    ],
)
@pytest.mark.parametrize("function", MAPS)
def test_out_that_overlaps_itself(function, shape, strides):
    memory = np.zeros(20)
    out = as_strided(memory[5:], shape, strides, writeable=True)
    with pytest.raises(ValueError, match=r"out must not overlap itself, got strides \("):
        function(np.ones(shape), axis=1, out=out)
    assert not memory.any()


def test_out_whose_elements_interleave():
    out = as_strided(np.zeros(20), (2, 3), (40, 24), writeable=True)
    x = np.random.default_rng(0).standard_normal((2, 3))
    np.testing.assert_array_equal(softmax(x, axis=1, out=out), softmax(x, axis=1))


def test_logsumexp_out_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"out must have shape \(2,\), got \(2, 1\)"):
        logsumexp(np.zeros((2, 3)), axis=1, out=np.empty((2, 1)))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_small_plain_calls_are_checked_and_laid_out_once(monkeypatch, function, dtype):
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(dtype)
    forms = [{"axis": axis} for axis in (None, 0, -1)]
    if function is logsumexp:
        forms += [{"axis": axis, "keepdims": True} for axis in (None, 0, -1)]
    right = [np.asarray(function(x, where=np.ones(4, bool), **form)) for form in forms]
    outs = [np.empty_like(each) for each in right]
    monkeypatch.delattr(call, "Call")  # the long way
    for form, each, out in zip(forms, right, outs, strict=True):
        got = function(x, **form)
        assert type(got) is (np.ndarray if each.ndim else each.dtype.type)
        assert function(x, **form, out=out) is out
        np.testing.assert_array_equal(got, each)
        np.testing.assert_array_equal(out, each)


def test_keepdims_that_is_no_bool():
    x = np.zeros((2, 3))
    for keepdims in (1, np.True_, [0]):
        assert logsumexp(x, axis=1, keepdims=keepdims).shape == (2, 1)
    for keepdims in (0, np.False_, None, []):
        assert logsumexp(x, axis=1, keepdims=keepdims).shape == (2,)


# --- types ---------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (np.float16, np.float16),
        (ml_dtypes.bfloat16, ml_dtypes.bfloat16),
        (np.float32, np.float32),
        (">f4", np.float32),
        (np.float64, np.float64),
        (">f8", np.float64),
        (">f2", np.float16),
        (np.longdouble, np.longdouble),
        (np.complex64, np.complex64),
        (np.complex128, np.complex128),
        *((kind, np.float64) for kind in "?bBhHiIlLqQ"),
    ],
)
def test_the_results_type(function, dtype, result):
    assert function(np.array([0, 1, 1], dtype)).dtype == np.dtype(result)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_dtype_sets_the_results_type(function):
    x = np.float32([1.1, 2.2, -3.3])
    assert function(x, dtype=np.float64) == pytest.approx(function(x.astype(np.float64)), rel=1e-15)
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64, "f4", np.longdouble):
        assert function(x, dtype=dtype).dtype == np.dtype(dtype)
        assert function([1, 2], dtype=dtype).dtype == np.dtype(dtype)
    brain = x.astype(ml_dtypes.bfloat16)
    assert function(brain, dtype=np.float16) == pytest.approx(
        function(brain.astype(np.float32)).astype(np.float16)
    )
    for dtype in (int, bool, object, "S3", "M8[s]"):
        with pytest.raises(TypeError, match="dtype must be a floating-point type"):
            function(x, dtype=dtype)
    with pytest.raises(TypeError, match="dtype must be complex"):
        function(x.astype(complex), dtype=float)
    shape = x.shape if function is not logsumexp else ()
    with pytest.raises(TypeError, match="give one of them"):
        function(x, dtype=np.float64, out=np.empty(shape, np.float32))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "x",
    [
        np.array([1, "a", None], object),
        np.array(["1", "2"]),
        np.array([b"1"]),
        np.array(["2026-01-01"], "M8[D]"),
        np.array([1], "m8[s]"),
        np.array([(1, 2.0)], "i4,f8"),
        [None, 1.0],
        "text",
        {"a": 1},
        np.zeros(3, ml_dtypes.float8_e5m2),
    ],
)
def test_what_holds_no_numbers_is_refused(function, x):
    with pytest.raises(TypeError, match=r"^[xa] must hold real or complex numbers, got"):
        function(x)


# --- axes, masks, temperatures -----------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("axis", "error", "words"),
    [
        (2, np.exceptions.AxisError, "axis 2 is out of bounds for array of dimension 2"),
        (-3, np.exceptions.AxisError, "axis -3 is out of bounds"),
        ((0, 5), np.exceptions.AxisError, "axis 5"),
        ((0, 0), ValueError, "must not name a dimension twice"),
        ((0, -2), ValueError, "twice"),
        (1.0, TypeError, "axis must be an int"),
        ("rows", TypeError, "got 'rows'"),
        ([0, 1], TypeError, "axis must be an int"),
    ],
)
def test_a_wrong_axis(function, axis, error, words):
    with pytest.raises(error, match=words):
        function(np.zeros((2, 3)), axis=axis)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_wrong_mask(function):
    x = np.zeros((2, 3))
    with pytest.raises(TypeError, match="where must be boolean"):
        function(x, where=[1, 0, 1])
    with pytest.raises(ValueError, match=r"where of shape \(2,\) does not broadcast to .*\(2, 3\)"):
        function(x, where=[True, False])
    with pytest.raises(ValueError, match="where of shape"):
        function(x, where=np.ones((4, 2, 3), bool))
    with pytest.raises(TypeError, match=r"where must be boolean, got an array of dtype\('int64'\)"):
        function(x, where=3)
    with pytest.raises(TypeError, match="where must not be a masked array"):
        function(x, where=np.ma.ones((2, 3), bool))
    with pytest.raises(ValueError, match="where must be an array or make one"):
        function(x, where=[[True], [True, False]])
    with pytest.raises(ValueError, match=r"(x|a) must be an array or make one"):
        function([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("function", MAPS)
@pytest.mark.parametrize(
    ("temperature", "error", "words"),
    [
        (-1, ValueError, "temperature must not be negative or NaN, got -1.0"),
        (-1e-300, ValueError, "negative or NaN"),
        (np.nan, ValueError, "got nan"),
        ([[1.0], [-2.0]], ValueError, "got -2.0"),
        ([1.0, 2.0], ValueError, r"temperature of shape \(2,\) does not broadcast to .*\(2, 1\)"),
        (np.ones((2, 3)), ValueError, "does not broadcast"),
        (1j, TypeError, "temperature must be real, got 1j"),
        ("hot", TypeError, "got 'hot'"),
        (None, TypeError, "got None"),
        (np.ma.ones(1), TypeError, "temperature must not be a masked array"),
        ([[1.0], [1.0, 2.0]], ValueError, "temperature must be an array or make one"),
        (10**400, ValueError, "temperature must be a float64, got an integer of 1329 bits"),
        (-(2**1000), ValueError, r"negative or NaN, got -1\.07"),
    ],
)
def test_a_wrong_temperature(function, temperature, error, words):
    with pytest.raises(error, match=words):
        function(np.zeros((2, 3)), axis=1, temperature=temperature)


@pytest.mark.parametrize("function", MAPS)
@pytest.mark.parametrize(
    ("shape", "axis", "given", "words"),
    [
        ((5, 3), 1, (5,), ": for one a row, pass temperature[:, None], of shape (5, 1)"),
        ((5, 5), -1, (5,), ": for one a row, pass temperature[:, None], of shape (5, 1)"),
        ((5, 3), 1, (3,), ""),
        ((5, 4, 6), 1, (5, 6), ": for one a row, pass temperature[:, None, :], of shape (5, 1, 6)"),
        (
            (5, 4, 6),
            (1, 2),
            (5,),
            ": for one a row, pass temperature[:, None, None], of shape (5, 1, 1)",
        ),
        ((5, 4, 6), -1, (4,), ""),
        ((5, 4, 6), None, (5, 4), ""),
    ],
)
def test_temperatures_without_the_reduced_axis_are_refused_with_the_shape_that_works(
    function, shape, axis, given, words
):
    x, temperature = np.zeros(shape), np.ones(given)
    kept = np.sum(x, axis, keepdims=True).shape
    with pytest.raises(ValueError, match=r"^temperature of shape") as raised:
        function(x, axis, temperature=temperature)
    refusal = f"temperature of shape {given} does not broadcast to shape {kept}"
    assert str(raised.value) == refusal + words
    if words:
        index = words[words.index("[") : words.index("]") + 1]
        function(x, axis, temperature=eval(f"temperature{index}", {"temperature": temperature}))


@pytest.mark.parametrize("function", MAPS)
@pytest.mark.parametrize(("shape", "axis"), [((20, 3), 0), ((20, 3), 1), ((4, 5, 6), 1)])
def test_temperatures_of_every_layout(function, shape, axis):
    x = np.random.default_rng(0).standard_normal(shape)
    kept = tuple(1 if i == axis else size for i, size in enumerate(shape))
    memory = np.random.default_rng(1).uniform(0.5, 2, [3 * size for size in kept])
    for step in (1, 2, -1, -2):
        spread = memory[(np.s_[::step],) * len(shape)][tuple(map(slice, kept))]
        for alike in itertools.product([False, True], repeat=len(shape)):
            one = spread[tuple(slice(1) if same else slice(None) for same in alike)]
            right = function(x, axis=axis, temperature=np.broadcast_to(one, kept).copy())
            for temperature in (one, np.broadcast_to(one, kept), np.asfortranarray(one)):
                got = function(x, axis=axis, temperature=temperature)
                np.testing.assert_array_equal(got, right)


@pytest.mark.parametrize("axis", [0, 1])
def test_misaligned_temperatures_are_aligned_before_a_kernel_reads_them(monkeypatch, axis):
    temperature = placed(np.ones(3), How(misaligned=True)).reshape((1, 3) if axis == 0 else (3, 1))
    seen = []
    monkeypatch.setattr(plan, "compute", lambda *arguments: seen.append(arguments[3]))
    softmax(np.zeros((3, 3)), axis=axis, temperature=temperature)
    assert seen[0].flags.aligned
    assert not temperature.flags.aligned


def test_wrong_weights():
    with pytest.raises(ValueError, match=r"b of shape \(4,\) does not broadcast with a of shape"):
        logsumexp(np.zeros((2, 3)), b=np.ones(4))
    with pytest.raises(TypeError, match="b must hold real or complex numbers, got"):
        logsumexp(np.zeros(2), b=["a", "b"])
    with pytest.raises(ValueError, match="b must be an array or make one"):
        logsumexp(np.zeros(2), b=[[1.0], [1.0, 2.0]])
    assert logsumexp(np.zeros(2), b=2**70) == 71 * math.log(2)
    with pytest.raises(TypeError, match="b must not be a masked array"):
        logsumexp(np.zeros(2), b=np.ma.ones(2))


def test_complex_numbers_have_no_limit():
    with pytest.raises(ValueError, match="temperature 0 and infinity have no limit"):
        softmax([1j, 2], temperature=0)


@pytest.mark.parametrize("dtype", [np.longdouble, complex])
def test_what_has_one_result_a_row_can_have_a_temperature(dtype):
    x = np.array([[1, 2, -3], [3, 700, 1]], dtype)
    got = call.rows(LOGSUMEXP, x, 1, temperature=[[0.5], [2.0]])
    np.testing.assert_allclose(got, logsumexp(x / [[0.5], [2.0]], axis=1), rtol=1e-15)


# --- memory and bits ------------------------------------------------------------------------


def test_memory_maps_and_subclasses(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).standard_normal((5, 7)))
    mapped = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(softmax(mapped, axis=1), softmax(np.array(mapped), axis=1))
    matrix = np.arange(6.0).reshape(2, 3).view(type("Mine", (np.ndarray,), {}))
    np.testing.assert_array_equal(softmax(matrix, axis=1), softmax(np.asarray(matrix), axis=1))


def test_a_misaligned_array_and_then_a_byte_swapped_one():
    memory = np.zeros(8 * 5 + 1, np.uint8)
    misaligned = memory[1:].view(np.float64)
    misaligned[:] = [1, 2, 3, 4, 5]
    right = softmax(np.array([1.0, 2, 3, 4, 5]))
    np.testing.assert_array_equal(softmax(misaligned), right)
    np.testing.assert_array_equal(softmax(misaligned.astype(">f8")), right)
    np.testing.assert_array_equal(softmax(misaligned), right)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("bits", [0x7F800001, 0x7FC00000, 0xFFC12345, 0xFFA00000])
def test_nans_of_every_kind(function, bits):
    """Signalling, quiet, negative and with a payload: NaN comes out, and no warning."""
    for length in (3, 60, 5000):
        x = np.zeros((2, length), np.float32)
        x.view(np.uint32)[0, length // 2] = bits
        with np.errstate(all="raise"):
            got = function(x, axis=-1)
        assert np.isnan(got[0]).all()
        assert np.isfinite(got[1]).all()


# --- larger than 32 bits count --------------------------------------------------------------


@pytest.mark.slow
def test_more_elements_than_32_bits_count():
    length = 2**31 + 11
    x = np.zeros((1, length), np.float16)
    x[0, -1] = 16
    total = length - 1 + math.exp(16)
    assert logsumexp(x, axis=-1).item() == np.float16(math.log(total))
    softmax(x, axis=-1, out=x)
    np.testing.assert_array_equal(
        x[0, [0, 2**31, -1]], np.float16([1 / total] * 2 + [math.exp(16) / total])
    )
    x = x.reshape(length, 1)
    x[:] = 0
    assert logsumexp(x, axis=0).item() == np.float16(math.log(length))
    many = x[: 2**31].reshape(2**30, 2)
    softmax(many, axis=-1, out=many)
    assert (many[:: 2**20] == 0.5).all()
    assert many[-1].tolist() == [0.5, 0.5]
    wide = many.reshape(2, 2**30)
    softmax(wide, axis=0, out=wide)
    assert wide[:, -1].tolist() == [0.5, 0.5]
