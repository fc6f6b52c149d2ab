"""Calls drawn at random: valid ones are right to 2 ULP in any layout, wrong ones are refused."""

import functools
from collections import Counter

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from placed import How, in_a_process, memory_of, placed, plain

from fastsoftmax import log_softmax, logsumexp, softmax

FUNCTIONS = {"softmax": softmax, "log_softmax": log_softmax, "logsumexp": logsumexp}
FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTEGERS = ["int8", "uint64", "bool"]
SMALL = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17]
LARGE = [56, 57, 4095, 4096, 4097, 9000]
NUMBERS = [0.0, -0.0, 1.0, -1.0, 88.0, -104.0, 710.0, -746.0, 3e38, -3e38, np.inf, -np.inf, np.nan]
TEMPERATURES = [1.0, 0.5, 3.0, 1e-310, 1e300, 0.0, np.inf]

# --- what is drawn ------------------------------------------------------------------------------


def narrower(rng, shape):
    """A shape that broadcasts to this one."""
    form = tuple(n if rng.random() < 0.6 else 1 for n in shape)
    return form[rng.integers(len(shape) + 1) if rng.random() < 0.3 else 0 :]


def lying(rng, values, written=False):
    """These values in any layout and place; where they are not ``written``, also read-only."""
    values = np.asarray(values)
    steps = [1, 1, 1, -1, 2] if written else [1, 1, 1, -1, 2, 0]
    return placed(
        values,
        How(
            order=tuple(map(int, rng.permutation(values.ndim))),
            steps=tuple(map(int, rng.choice(steps, values.ndim))),
            # Rarely, as these are copied first, and then it does not matter how they lay.
            swapped=values.dtype.name != "bfloat16" and rng.random() < 0.2,
            misaligned=rng.random() < 0.3,
            read_only=not written and rng.random() < 0.5,
            edge=rng.choice([None, "start", "end"]),
        ),
    )


def some_shape(rng):
    """Up to three small sizes; in one of four shapes one of them is large or 0."""
    ndim = rng.choice([0, 1, 2, 2, 3, 3, 3])
    shape = rng.choice(SMALL, ndim)
    if ndim and rng.random() < 0.25:
        shape[rng.integers(ndim)] = rng.choice([*LARGE, 0])
    return tuple(map(int, shape))


@st.composite
def calls(draw, function, dtypes):
    """The arguments of a valid call of a function, of which the logits are called x here."""
    # Sizes and layouts are drawn evenly; Hypothesis's own draws are mostly the simplest ones.
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = some_shape(rng)
    dtype = draw(st.sampled_from(dtypes))
    whole = narrower(rng, shape) if function == "logsumexp" and draw(st.booleans()) else shape
    x = rng.standard_normal(whole) * draw(st.sampled_from([0.0, 1.0, 30.0, 1e4]))
    if draw(st.booleans()):
        special = np.array(draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3)))
        x = np.where(rng.random(whole) < 0.1, rng.choice(special, whole), x)
    with np.errstate(all="ignore"):
        x = np.asarray(x).astype(dtype)
    arguments = {}
    if whole != shape or (function == "logsumexp" and draw(st.booleans())):
        # With x, weights make the whole shape.
        form = shape if whole != shape else narrower(rng, shape)
        b = rng.standard_normal(form) * draw(st.sampled_from([1.0, 100.0]))
        b = np.asarray(np.abs(b) if draw(st.booleans()) else b)
        kind = draw(st.sampled_from([dtype, "float64"])) if dtype in FLOATS else "float64"
        arguments["b"] = lying(rng, b.astype(kind))
    if draw(st.booleans()):
        likely = draw(st.sampled_from([0.1, 0.9, 1.0]))
        arguments["where"] = lying(rng, rng.random(narrower(rng, shape)) < likely)
    ndim = len(shape)
    axes = [None, (), tuple(range(ndim))[:2], *range(-ndim, ndim), *range(-ndim, ndim)]
    axis = arguments["axis"] = axes[rng.integers(len(axes))]
    if function == "logsumexp":
        arguments["keepdims"] = draw(st.booleans())
        arguments["return_sign"] = draw(st.booleans())
        result = np.sum(np.zeros(shape), axis=axis, keepdims=arguments["keepdims"]).shape
    else:
        result = shape
        kept = np.sum(np.zeros(shape), axis=axis, keepdims=True).shape
        form = narrower(rng, kept)
        temperature = np.asarray(rng.uniform(0.3, 3, form))
        if draw(st.booleans()):
            temperature = np.asarray(rng.choice(np.array(TEMPERATURES), form))
        with np.errstate(over="ignore", under="ignore"):
            temperature = temperature.astype(draw(st.sampled_from([*["float64"] * 4, *FLOATS])))
        if draw(st.sampled_from([True, True, False])):
            arguments["temperature"] = lying(rng, temperature)
    out = draw(st.sampled_from(["none", "dtype", "like x", "another type", "x itself"]))
    in_place = out == "x itself" and result == whole == shape and dtype in FLOATS
    arguments = {"x": lying(rng, x, written=in_place), **arguments}
    if in_place:
        arguments["out"] = arguments["x"]
    elif out == "dtype":
        arguments["dtype"] = draw(st.sampled_from(FLOATS))
    elif out != "none":
        other = out == "another type" or dtype not in FLOATS
        kind = draw(st.sampled_from(FLOATS)) if other else dtype
        arguments["out"] = lying(rng, np.zeros(result, kind), written=True)
    return arguments


def called(function, arguments):
    """The result and, of a sum, its sign, or None."""
    others = {name: value for name, value in arguments.items() if name != "x"}
    got = FUNCTIONS[function](arguments["x"], **others)
    return got if isinstance(got, tuple) else (got, None)


def plain_copies(arguments):
    return {k: plain(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}


# --- what is right ------------------------------------------------------------------------------

# The reference has 64 bits of precision on x86-64. Where long double is no more than double, its
# own error, which `check` allows for, leaves less to be seen.
ROUNDING = float(np.finfo(np.longdouble).eps)


def reference(function, x, axis=None, where=True, temperature=1.0, b=None, **_):
    """The result, its sign, what its error is relative to, and a sum's condition number."""
    shape = x.shape if b is None else np.broadcast_shapes(x.shape, b.shape)
    weight = np.longdouble(1) if b is None else b.astype(np.float64).astype(np.longdouble)
    present = np.broadcast_to(where, shape) & (weight != 0)
    x = np.where(present, x.astype(np.float64).astype(np.longdouble), -np.inf)
    T = np.asarray(temperature).astype(np.float64).astype(np.longdouble)
    summed = functools.partial(np.sum, axis=axis, keepdims=True)
    with np.errstate(all="ignore"):
        top = x.max(axis=axis, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(top), top, 0)
        ties = np.where(np.isfinite(x), np.where(x == top, 0, -np.inf), x)
        level = np.where(np.isfinite(x), 0, x)
        t = np.where(T == 0, ties, np.where(np.isinf(T), level, (x - shift) / T))
        t = np.where((top == np.inf) & (x < np.inf), -np.inf, t)
        terms = np.where(present, np.exp(t) * weight, 0)
        one = present & (t == 0)
        ones, rest = summed(np.where(one, weight, 0)), summed(np.where(one, 0, terms))
        total, size = ones + rest, summed(np.abs(terms))
        # The logarithm of 1 + tiny is tiny.
        small = (ones == 1) & (np.abs(rest) < 0.5)
        log_total = np.where(small, np.log1p(rest), np.log(np.abs(total)))
        if function == "softmax":
            right = np.where((total > 0) & (total < np.inf), terms / total, np.nan)
            right = np.where(present, right, 0)
            return right, None, np.abs(right), 1
        if function == "log_softmax":
            right = np.where(present, t - log_total, -np.inf)
            return right, None, np.abs(right), 1
        right = np.where(total == 0, -np.inf, shift + log_total)
        condition = np.where(size == 0, 1, size / np.abs(total))
        return right, np.sign(total), np.maximum(np.abs(right), np.abs(shift)), condition


def bits(result):
    """The bytes of a result, of NaN always the same."""
    if result is None:
        return None
    result = np.asarray(result)
    return np.where(np.isnan(result), np.array(np.nan, result.dtype), result).tobytes()


def compare(function, values, got, sign):
    """Fail where a result is neither within 2 ULP nor what its condition number allows."""
    right, right_sign, scale, condition = reference(function, **values)
    # It is computed in the widest of these types, and rounded to its own.
    names = [values[name].dtype.name for name in ("x", "b") if name in values]
    names = [
        name if name in FLOATS else "float64" for name in [*names, values.get("dtype", names[0])]
    ]
    types = [ml_dtypes.finfo(name) for name in names]
    own = ml_dtypes.finfo(got.dtype)
    eps = max(float(own.eps), min(float(each.eps) for each in types))
    tiny = max(float(own.smallest_subnormal), min(float(t.smallest_subnormal) for t in types))
    largest = min(float(own.max), max(float(each.max) for each in types))
    right, scale = np.reshape(right, got.shape), np.reshape(scale, got.shape)
    wide = got.astype(np.float64)
    known = np.full(got.shape, True)
    with np.errstate(all="ignore"):
        # The reference rounds its differences, which an exponential multiplies, and each addition.
        rounding = ROUNDING * (10 + values["x"].size + np.size(values.get("b")))
        logarithm = np.abs(np.log(np.maximum(np.abs(right), 1e-300)))
        allowed = 2 * eps * scale + tiny + rounding * scale * (1 + logarithm)
        if function == "logsumexp":
            allowed = allowed + rounding
            right_sign = np.reshape(right_sign, got.shape)
        if "b" in values:  # terms cancel: what is left has their error
            lost = np.reshape((2.0**-50 if "float64" in names else 2.0**-26) * condition, got.shape)
            known = ~(lost > 0.25)
            allowed = allowed + 2 * np.where(known, lost, 0)
            if sign is None:
                right = np.where(right_sign < 0, np.nan, right)
        if sign is not None:
            sign = np.asarray(sign).astype(np.float64)
            np.testing.assert_array_equal(sign[known], right_sign.astype(np.float64)[known])
        finite = np.isfinite(right)
        fine = np.where(np.isnan(right), np.isnan(wide), wide == right)
        fine |= finite & (np.abs(wide - right) <= allowed)
        # What is next to the type's largest number, or beyond, may be infinite.
        fine |= finite & (np.abs(right) >= largest * (1 - 2 * eps)) & np.isinf(wide)
    wrong = known & ~fine
    assert not wrong.any(), f"{wide[wrong][:5]}, not {right[wrong][:5]}"


def check(function, arguments):
    """Compare a call with the reference, and with the same call on plain copies, bit by bit."""
    values = plain_copies(arguments)
    out = arguments.get("out")
    around = None if out is None else memory_of(out).copy()
    got, sign = called(function, arguments)
    for name, value in arguments.items():
        if isinstance(value, np.ndarray) and value is not out:
            assert plain(value).tobytes() == values[name].tobytes(), f"{name} was written to"
    if out is not None:
        assert got is out
        got = plain(out)
        out[...] = values["out"]
        assert memory_of(out).tobytes() == around.tobytes(), "written beside out"
    compare(function, values, np.asarray(got), sign)
    # Several axes at once are added in the order of memory.
    if type(arguments["axis"]) is int:
        same, same_sign = called(function, values)
        assert bits(got) == bits(same), "other bits than of plain arrays"
        assert bits(sign) == bits(same_sign)


# --- valid calls --------------------------------------------------------------------------------

SETTINGS = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
KINDS = {**{name: [name] for name in FLOATS}, "integers": INTEGERS}
FEW, MANY = 40, 4000  # calls of each of three functions on each of five kinds of logits


def for_each(strategy, act, examples):
    """Draw so many and act on each: the same ones in every run."""

    @settings(SETTINGS, max_examples=examples)
    @given(strategy)
    def run(drawn):
        act(drawn)

    run()


def run_valid_calls(kind, examples):
    """Draw and check calls of each function; print how many were compared."""
    compared = Counter()

    def compared_call(call):
        check(*call)
        compared[call[0]] += 1
        compared["with out"] += "out" in call[1]

    for function in FUNCTIONS:
        drawn = st.tuples(st.just(function), calls(function, KINDS[kind]))
        for_each(drawn, compared_call, examples)
    print(dict(compared))
    assert all(compared[function] == examples for function in FUNCTIONS), compared
    assert compared["with out"] > examples


def run_in_a_process(kind, examples):
    # There a crash, as where a kernel reads beyond an array, is seen as what it is.
    print(in_a_process(f"import test_fuzz; test_fuzz.run_valid_calls({kind!r}, {examples})"))


@pytest.mark.parametrize("kind", KINDS)
def test_valid_calls_are_right_and_have_the_bits_of_plain_arrays(kind):
    run_in_a_process(kind, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_very_many_valid_calls_are_right_and_have_the_bits_of_plain_arrays(kind):
    run_in_a_process(kind, MANY)


# --- an out that shares memory with another argument --------------------------------------------


@st.composite
def overlapping_calls(draw):
    """A function and the arguments of a valid call, one of which lies in the memory of ``out``."""
    function = draw(st.sampled_from(list(FUNCTIONS)))
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 5, 9, 17]), min_size=1, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axis = draw(st.integers(0, len(shape) - 1))
    x = rng.standard_normal(shape).astype(draw(st.sampled_from(FLOATS)))
    kept = np.sum(x, axis=axis, keepdims=True).shape
    others = {"x": x, "where": rng.random(narrower(rng, shape)) < 0.7}
    if function == "logsumexp":
        others["b"] = rng.standard_normal(narrower(rng, shape)).astype(x.dtype)
        result = np.sum(x, axis=axis).shape
    else:
        others["temperature"] = rng.uniform(0.5, 2, narrower(rng, kept))
        result = shape
    name = draw(st.sampled_from(list(others)))
    value = np.asarray(others[name])
    out = np.zeros(result, x.dtype)
    memory = np.zeros(value.nbytes + out.nbytes, np.uint8)
    first = draw(st.integers(0, out.nbytes))
    arguments = {"x": x, "axis": axis, name: None}
    arguments["out"] = np.ndarray(out.shape, out.dtype, memory, value.nbytes if first == 0 else 0)
    arguments[name] = np.ndarray(value.shape, value.dtype, memory, 0 if first == 0 else first)
    arguments[name][...] = value
    return function, arguments


@settings(SETTINGS, max_examples=300)
@given(overlapping_calls())
def test_out_in_the_memory_of_another_argument(call):
    function, arguments = call
    right, _ = called(function, plain_copies(arguments))
    got, _ = called(function, arguments)
    assert bits(got) == bits(right)


# --- wrong calls --------------------------------------------------------------------------------


def wrong_arguments(function, arguments):
    """Names and wrong values, of which any one makes a valid call a wrong one."""
    x = arguments["x"]
    shape = np.broadcast_shapes(x.shape, np.shape(arguments.get("b", 0)))
    ndim = max(1, len(shape))
    yield from (("x", bad) for bad in (np.full(x.shape, "1"), np.full(x.shape, None), "text"))
    yield from (("axis", bad) for bad in (ndim, -ndim - 1, (0, 0), 0.0, "x", [0]))
    yield from (("dim", bad) for bad in (0, "class", (0,), ...))
    yield from (("where", bad) for bad in (3, "yes", np.ones(shape, int), [[True], [True, False]]))
    yield "where", np.ones((*shape, 2), bool)
    yield "where", np.ma.ones(shape, bool)
    if function == "logsumexp":
        yield from (("b", bad) for bad in ("1", [[1.0], [1.0, 2.0]], np.ma.ones(shape)))
        if max(x.shape, default=1) > 1:
            yield "b", np.ones([n + 2 if n > 1 else 1 for n in x.shape])
    else:
        for bad in (-1.0, np.nan, "hot", 1j, None, [1.0, -1e-300], 10**400, np.ma.ones(())):
            yield "temperature", bad
        yield "temperature", np.ones((*shape, 2))
    if "out" not in arguments:
        yield from (("dtype", bad) for bad in (int, object, "S3", "no type"))
    else:
        out = arguments["out"]
        read_only = out.view()
        read_only.flags.writeable = False
        yield from (("out", bad) for bad in (read_only, out.tolist(), np.ma.zeros(out.shape)))
        yield from (("out", np.zeros(out.shape, bad)) for bad in (int, bool, object, "S1"))
        yield "out", np.zeros((*out.shape, 2), out.dtype)
        if out.size > 1:
            yield "out", np.lib.stride_tricks.as_strided(np.zeros(1), out.shape, (0,) * out.ndim)
        yield "dtype", "float64" if out.dtype.name == "float32" else "float32"


@st.composite
def wrong_calls(draw):
    """A function, the arguments of a valid call but for one, and the name of that one."""
    function = draw(st.sampled_from(list(FUNCTIONS)))
    arguments = draw(calls(function, [*FLOATS, *INTEGERS]))
    wrong = list(wrong_arguments(function, arguments))
    name = draw(st.sampled_from(sorted({name for name, _ in wrong})))
    value = draw(st.sampled_from([value for other, value in wrong if other == name]))
    return function, arguments | {name: value}, name


def check_refused(call):
    function, arguments, _ = call
    arrays = [value for value in arguments.values() if isinstance(value, np.ndarray)]
    memories = [memory_of(array) for array in arrays if array.dtype != object]
    before = [memory.tobytes() for memory in memories]
    with pytest.raises((TypeError, ValueError)):
        called(function, arguments)
    assert [memory.tobytes() for memory in memories] == before


def test_a_wrong_argument_is_refused_before_anything_is_written():
    refused = Counter()

    def refuse(call):
        check_refused(call)
        refused[call[2]] += 1

    for_each(wrong_calls(), refuse, 300)
    print(dict(refused))
    assert refused.total() == 300
    assert set(refused) == {"x", "axis", "dim", "where", "temperature", "b", "out", "dtype"}
