"""Calls drawn at random over the public functions: right to 3 ULP, or a documented error."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastsoftmax import log_softmax, logsumexp, softmax

TYPES = [
    "float16",
    ml_dtypes.bfloat16,
    "float32",
    "float64",
    ">f4",
    "int8",
    "uint64",
    "?",
    "U3",
    "O",
]
SIZES = st.integers(0, 6) | st.sampled_from([7, 8, 9, 16, 17, 56, 57, 4095, 4096, 4097, 9000])
NUMBERS = [0.0, -0.0, 1.0, -1.0, 88.0, -104.0, 710.0, -746.0, 3e38, -3e38, np.inf, -np.inf, np.nan]


@st.composite
def calls(draw):
    """A function, its logits and the other arguments, some of which are wrong."""
    function = draw(st.sampled_from([softmax, log_softmax, logsumexp]))
    shape = tuple(draw(st.lists(SIZES, max_size=3)))
    if np.prod(shape) > 60_000:
        shape = shape[:1]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal(shape) * draw(st.sampled_from([0.0, 1.0, 30.0, 1e4]))
    if draw(st.booleans()):
        special = np.array(draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3)))
        x = np.where(rng.random(shape) < 0.1, rng.choice(special, shape), x)
    with np.errstate(all="ignore"):
        x = np.asarray(x).astype(draw(st.sampled_from(TYPES)))
    x = x.transpose(rng.permutation(x.ndim))
    if x.ndim and draw(st.booleans()):
        x = x[tuple(slice(None, None, int(step)) for step in rng.choice([1, -1, 2], x.ndim))]
    arguments = {"axis": draw(st.none() | st.integers(-4, 3) | st.just((0, 1)) | st.just("x"))}
    if draw(st.booleans()):
        mask = st.sampled_from([True, False, 3, x.shape[-1:] == ()])
        arguments["where"] = draw(mask | hnp.arrays(bool, x.shape[-1:]))
    if function is not logsumexp and draw(st.booleans()):
        temperature = st.sampled_from([1.0, 0.5, 1e-310, 1e300, 0, np.inf, -1.0, np.nan, "hot", 1j])
        arguments["temperature"] = draw(temperature)
    out = draw(st.sampled_from(["none", "like", "itself", "shape", "type", "read-only"]))
    if function is not logsumexp and out != "none":
        target = {
            "like": lambda: np.zeros(x.shape, x.dtype if x.dtype.kind in "fV" else float),
            "itself": lambda: x,
            "shape": lambda: np.zeros((*x.shape, 2)),
            "type": lambda: np.zeros(x.shape, int),
            "read-only": lambda: np.broadcast_to(0.0, x.shape),
        }[out]()
        arguments["out"] = target
    return function, x, arguments


# The reference has 64 bits of precision on x86-64. Where long double is no more than double, its
# own error, which `check` allows for, leaves less to be seen.
ROUNDING = float(np.finfo(np.longdouble).eps)


def reference(function, x, axis, mask, temperature):
    x = x.astype(np.float64).astype(np.longdouble)
    if mask is not None:
        x = np.where(mask, x, -np.inf)
    if temperature == 0 or np.isinf(temperature):
        return None
    with np.errstate(all="ignore"):
        top = x.max(axis=axis, keepdims=True, initial=-np.inf)
        t = np.where(x == top, 0.0, (x - top) / temperature)
        bad = np.isnan(x).any(axis=axis, keepdims=True)
        total = np.exp(t).sum(axis=axis, keepdims=True)
        if function is softmax:
            right = np.where(bad | np.isinf(top), np.nan, np.exp(t) / total)
        elif function is log_softmax:
            right = np.where(bad | np.isinf(top), np.nan, t - np.log(total))
        else:
            right = np.where(bad, np.nan, np.where(np.isinf(top), top, top + np.log(total)))
            right = right.reshape(np.sum(x, axis=axis).shape)
    if function is not logsumexp and mask is not None:
        absent = 0.0 if function is softmax else -np.inf
        right = np.where(np.broadcast_to(mask, x.shape), right, absent)
    return right, top


def check(call):
    function, x, arguments = call
    values = x.copy()
    out = arguments.get("out")
    before = None if out is None else out.copy()
    try:
        got = function(x, **arguments)
    except (TypeError, ValueError):
        assert x.tobytes() == values.tobytes()
        assert out is None or out.tobytes() == before.tobytes()  # nothing was written
        return "refused"
    if out is not None:
        assert got is out
    mask = arguments.get("where")
    mask = None if mask is None or mask is True else mask
    known = reference(function, values, arguments["axis"], mask, arguments.get("temperature", 1.0))
    if known is None or got.size == 0:
        return "not compared"
    right, top = known
    eps = float(ml_dtypes.finfo(got.dtype).eps)
    tiny = float(ml_dtypes.finfo(got.dtype).smallest_subnormal)
    largest = float(ml_dtypes.finfo(got.dtype).max)
    finite = np.isfinite(right) & (np.abs(right) < largest)
    if function is not logsumexp:
        finite &= np.broadcast_to(np.isfinite(top), right.shape)
    scale = np.abs(right)
    if function is logsumexp:
        scale = np.maximum(scale, np.abs(top).reshape(right.shape))
    # The reference rounds its differences, which an exponential multiplies, and each addition.
    logarithm = np.abs(np.log(np.maximum(np.abs(right), 1e-300)))
    slack = ROUNDING * (10 + values.size) * scale * (1 + logarithm)
    if function is not softmax:
        slack = slack + ROUNDING * (10 + values.size)
    with np.errstate(all="ignore"):
        difference = np.abs(got.astype(np.float64) - right)
        wrong = difference > 3 * eps * scale + 2 * tiny + slack
    assert not (wrong & finite).any()
    nan = np.isnan(right) & ~np.isinf(
        np.broadcast_to(top, right.shape) if function is not logsumexp else 0
    )
    assert np.isnan(got.astype(np.float64))[nan].all()
    return "compared"


SETTINGS = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@settings(SETTINGS, max_examples=600)
@given(calls())
def test_any_call_is_right_or_refused(call):
    check(call)


@pytest.mark.slow
@settings(SETTINGS, max_examples=60_000)
@given(calls())
def test_very_many_calls_are_right_or_refused(call):
    check(call)
