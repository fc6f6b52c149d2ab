"""sigmoid and log_sigmoid: the bits of softmax([x, 0])[0], exact in both tails, on any layout."""

import os
import subprocess
import sys

import exact
import ml_dtypes
import mpmath
import numpy as np
import pandas
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fastsoftmax import ERROR_BOUNDS, log_sigmoid, log_softmax, sigmoid, softmax

INF, NAN = np.inf, np.nan
FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
PAIRS = [(sigmoid, softmax), (log_sigmoid, log_softmax)]
AVX2 = (
    "+avx2,+fma,+avx,+sse4.2,+f16c,+bmi,+bmi2,+popcnt,+64bit,+cx16,+sse,+sse2,+sse3,+ssse3,+sse4.1,"
    "+fxsr,+xsave"
)


def many(dtype):
    """Finite logits: all there are of 16 bits, else many of each magnitude, and what is next to
    where results become subnormal."""
    if np.dtype(dtype).itemsize == 2:
        bits = np.arange(2**16, dtype=np.uint16)
        exponent = 0x7C00 if dtype is np.float16 else 0x7F80
        return bits[bits & exponent != exponent].view(dtype)
    rng = np.random.default_rng(0)
    small = rng.standard_normal(60_001) * np.exp2(rng.integers(-60, 11, 60_001))
    limit = float(np.finfo(dtype).max)
    return np.concatenate([small, [0.0, -0.0, limit, -limit], -np.arange(80, 800, 0.37)]).astype(
        dtype
    )


def beside_zero(function, x, **how):
    return function(np.stack([x, np.zeros_like(x)], axis=-1), axis=-1, **how)[..., 0]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("function", "of_rows"), PAIRS)
def test_the_bits_of_a_row_of_two(function, of_rows, dtype):
    x = many(dtype)
    assert function(x).tobytes() == beside_zero(of_rows, x).tobytes()
    temperature = np.random.default_rng(1).uniform(0.01, 9, x.shape)
    tempered = function(x, temperature=temperature)
    right = beside_zero(of_rows, x, temperature=temperature[:, None])
    assert tempered.tobytes() == right.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_results_are_exact_to_the_bounds_of_softmax(dtype):
    x = np.array([-720.5, -88.7, -17.3, -9.5, -1e-3, 0.3, 2.0, 8.8, 18, 40, 90, 700], dtype)
    true = [mpmath.mpf(float(v)) for v in x]
    name = np.dtype(dtype).name
    right = [1 / (1 + mpmath.exp(-v)) for v in true]
    assert exact.ulp_error(sigmoid(x), right, dtype) <= ERROR_BOUNDS["softmax"][name]
    right = [-mpmath.log1p(mpmath.exp(-v)) for v in true]
    assert exact.ulp_error(log_sigmoid(x), right, dtype) <= ERROR_BOUNDS["log_softmax"][name]


def test_both_tails():
    assert log_sigmoid(-1000.0) == -1000
    assert log_sigmoid(40.0) == pytest.approx(-4.248354255291589e-18, rel=1e-15)
    assert sigmoid(-744.0) == 1e-323
    assert sigmoid(np.float32(-103)) == np.float32(1e-45)
    assert sigmoid(100.0) == 1
    assert log_sigmoid(0.0) == -np.log(2)


@pytest.mark.parametrize("dtype", [*FLOATS, np.longdouble])
def test_infinities_have_their_limits_and_nan_alone_is_nan(dtype):
    x = np.array([INF, -INF, NAN], dtype)
    for temperature in (1.0, 0.3, 0, 1e-300, 1e300, INF, [2.0, 3.0, 4.0]):
        np.testing.assert_array_equal(
            sigmoid(x, temperature=temperature).astype(float), [1, 0, NAN]
        )
        log = log_sigmoid(x, temperature=temperature).astype(float)
        np.testing.assert_array_equal(log, [0, -INF, NAN])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_temperatures_at_their_limits(dtype):
    x = np.array([-3, 0, 5], dtype)
    np.testing.assert_array_equal(sigmoid(x, temperature=0), [0, 0.5, 1])
    np.testing.assert_array_equal(log_sigmoid(x, temperature=0), [-INF, -np.log(dtype(2)), 0])
    np.testing.assert_array_equal(sigmoid(x, temperature=INF), [0.5] * 3)
    np.testing.assert_array_equal(
        sigmoid(x, temperature=[0, INF, 2.5]), [0, 0.5, sigmoid(x[2:], temperature=2.5)[0]]
    )
    if dtype != np.float32:
        cold = dtype([-3, 4]) * dtype(2) ** -1010
        np.testing.assert_array_equal(
            sigmoid(cold, temperature=2.0**-1010), sigmoid(dtype([-3, 4]))
        )


def test_long_double():
    x = np.longdouble([-40, -1, 0.5, 50])
    right = [1 / (1 + mpmath.exp(-mpmath.mpf(float(v)))) for v in x]
    for value, true in zip(sigmoid(x), right, strict=True):
        assert value.dtype == np.longdouble
        assert abs(mpmath.mpf(np.format_float_positional(value, 40)) / true - 1) < 2.0**-61
    assert log_sigmoid(np.longdouble(-1000), where=False) == -INF
    assert sigmoid(x, where=[True, False, True, True])[1] == 0


@pytest.mark.parametrize(("function", "of_rows"), PAIRS)
def test_any_layout_place_and_mask(function, of_rows):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((60, 70, 40)) * 9).astype(np.float32)  # enough for all threads
    right, mask = function(x), rng.random(x.shape) < 0.6
    assert right.tobytes() == beside_zero(of_rows, x).tobytes()
    for seen in (
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=2)[..., ::2],
        lambda a: a[::-1].copy()[::-1],
        lambda a: a.transpose(1, 0, 2).copy().transpose(1, 0, 2),
        lambda a: a.astype(a.dtype.newbyteorder()),
    ):
        np.testing.assert_array_equal(function(seen(x)), right)
        left_out = function(seen(x), where=seen(mask))
        np.testing.assert_array_equal(left_out, np.where(mask, right, function(0.0, where=False)))
        out = seen(np.zeros_like(x))
        assert function(x, out=out) is out
        np.testing.assert_array_equal(out, right)
    strided = np.zeros((60, 70, 80), np.float32)
    function(x, out=strided[..., ::2])
    np.testing.assert_array_equal(strided[..., ::2], right)
    assert not strided[..., 1::2].any()
    np.testing.assert_array_equal(function(x[:1], where=mask[0, :, :1])[mask[:1, :, 0]],
                                  right[:1][mask[:1, :, 0]])  # fmt: skip
    assert function(x, out=x) is x
    np.testing.assert_array_equal(x, right)


@given(
    arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0),
                  elements=st.floats(width=32)),
    st.sampled_from(PAIRS),
)  # fmt: skip
def test_any_shape_and_number(x, pair):
    function, of_rows = pair
    got = function(x)
    assert np.shape(got) == x.shape
    finite = np.isfinite(x)
    np.testing.assert_array_equal(got[finite], beside_zero(of_rows, x)[finite])


def test_containers_come_back_as_what_they_were():
    frame = pandas.DataFrame({"a": [1.0, -2.0], "b": [0.5, np.nan]}, index=["x", "y"])
    got = sigmoid(frame)
    pandas.testing.assert_frame_equal(
        got, pandas.DataFrame(sigmoid(frame.to_numpy()), frame.index, frame.columns)
    )
    by_row = pandas.Series([2.0, 4.0], index=["y", "x"])
    tempered = sigmoid(frame["a"], temperature=by_row)
    assert tempered["y"] == sigmoid(-1.0)
    masked = np.ma.masked_array([1.0, 2.0], [True, False])
    assert sigmoid(masked)[1] == sigmoid(2.0)
    assert sigmoid(masked).mask.tolist() == [True, False]
    data = xarray.Dataset({"a": ("t", [1.0, 2.0]), "b": (("t", "u"), [[3.0], [4.0]])})
    assert sigmoid(data)["b"].dims == ("t", "u")
    assert float(log_sigmoid(data)["a"][1]) == log_sigmoid(2.0)
    assert sigmoid([1, 2]).dtype == np.float64
    assert type(sigmoid(1.0)) is np.float64
    assert sigmoid(np.float32([1, 2]), dtype=np.float64)[0] == sigmoid(1.0)


def test_two_classes_and_independent_scores():
    logits = np.array([[2.0, 0.5], [-30.0, 6.0]])
    two = softmax(logits, axis=-1)
    np.testing.assert_allclose(sigmoid(logits[:, 0] - logits[:, 1]), two[:, 0], rtol=1e-15)
    np.testing.assert_allclose(sigmoid(logits[:, 1] - logits[:, 0]), two[:, 1], rtol=1e-15)
    assert sigmoid([5.0, 5.0]).sum() > 1.9  # both may be there; of a softmax one is


@pytest.mark.parametrize("function", [sigmoid, log_sigmoid])
def test_what_is_refused(function):
    for wrong in ([1j], ["a"], np.array([None])):
        with pytest.raises(TypeError, match="x must hold"):
            function(wrong)
    with pytest.raises(TypeError, match="where must be boolean"):
        function([1.0], where=[1])
    with pytest.raises(ValueError, match="temperature must not be negative or NaN, got -1"):
        function([1.0], temperature=-1)
    with pytest.raises(ValueError, match=r"temperature of shape \(2,\) does not broadcast"):
        function([1.0, 2.0, 3.0], temperature=[1.0, 2.0])
    out = np.zeros(2)
    with pytest.raises(ValueError, match=r"out must have shape \(3,\), got \(2,\)"):
        function([1.0, 2.0, 3.0], out=out)
    with pytest.raises(TypeError, match="dtype must be a floating-point type"):
        function([1.0], dtype=int)
    assert not out.any()


def test_the_same_bits_for_another_cpu():
    program = (
        "import hashlib, numpy as np; from fastsoftmax import *;"
        "x = np.random.default_rng(0).standard_normal(150_003) * 30; digest = hashlib.sha256();"
        "[digest.update(f(x.astype(t), temperature=s).tobytes()) for f in (sigmoid, log_sigmoid)"
        " for t, s in (('f', 1.0), ('d', 0.7))]; print(digest.hexdigest())"
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


def test_torchs_tensors_come_back():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([0.5, -3.0], dtype=torch.bfloat16)
    assert sigmoid(tensor).dtype == torch.bfloat16
