"""Calls on a GPU's arrays, in the host's memory: what is asked of a kernel, and what is refused.

`StandIn` computes in the kernels' place; test_device_kernels.py has the kernels' own results.
"""

import contextlib
import ctypes
import itertools
import sys
import types

import ml_dtypes
import numpy as np
import pytest
from simulated_device import OnDevice, Standard, StandIn, memory

from fastsoftmax import entropy, label_log_probabilities, log_softmax, logsumexp, softmax, top_k
from fastsoftmax.cuda import driver, libraries, plan
from fastsoftmax.cuda.driver import Simulated

FUNCTIONS = [softmax, log_softmax, logsumexp, entropy]
MAPS = [softmax, log_softmax]
TYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
X = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)


class Recording(Simulated):
    """A driver that takes notes; memory of device 1 is known by its address."""

    def __init__(self):
        super().__init__()
        self.notes, self.elsewhere = [], set()
        self.allocated = 0

    def device_of_memory(self, pointer):
        return int(pointer in self.elsewhere)

    def device_of_stream(self, stream):
        return {777: 1}.get(stream, 0)

    def current(self, device):
        self.notes.append(("current", device))
        return contextlib.nullcontext()

    def wait(self, stream, other):
        self.notes.append(("wait", stream, other))

    def allocate(self, size, stream):
        self.allocated += 1
        self.notes.append(("allocate", stream))
        return super().allocate(size, stream)

    def free(self, pointer, stream):
        self.allocated -= 1
        super().free(pointer, stream)


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    """A driver without a GPU, for all who ask for one."""
    recording = Recording()
    for name in ("cuda.driver", "cuda.libraries", "cuda.staged", "device", "plain"):
        module = __import__(f"fastsoftmax.{name}", fromlist=["driver"])
        monkeypatch.setattr(module, "driver", lambda: recording)
    return recording


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    """What computes in the kernels' place."""
    stand_in = StandIn()
    monkeypatch.setattr(plan, "compute", stand_in)
    return stand_in


def equal(got, wanted):
    """Compare, also bfloat16 with NaN, which NumPy compares in other types only."""
    np.testing.assert_array_equal(np.asarray(got, np.float64), np.asarray(wanted, np.float64))


def same(got, wanted):
    equal(got.array, wanted)
    assert (got.array.dtype, got.array.shape) == (wanted.dtype, np.shape(wanted))


# --- what comes out -----------------------------------------------------------------------------


def layouts(x):
    yield x
    yield np.asfortranarray(x)
    yield x[::2, :, ::-1]
    yield x.transpose(1, 2, 0)
    yield np.broadcast_to(x[:1], x.shape)
    yield x[:, :1]
    yield x[0, 0, 0]
    yield x[:, :, :0]
    yield x[:0]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_layout_and_axis_has_the_bits_of_the_cpu(function, dtype):
    for x in map(np.asarray, layouts(X.astype(dtype))):
        for axis in [None, (), *range(x.ndim), *itertools.combinations(range(x.ndim), 2)]:
            wanted = function(x, axis)
            for options in ({}, {"stream": 7}):  # decided by the layout alone, or not
                got = function(Standard(x), axis, **options)
                assert type(got) is Standard
                same(got, wanted)


def test_results_lie_in_memory_as_the_logits():
    for order in itertools.permutations(range(3)):
        x = X.transpose(order)
        assert softmax(Standard(x), 1).array.strides == x.strides
        kept = [axis for axis in range(3) if axis != 1]
        lead = np.argsort([-x.strides[axis] for axis in kept])
        assert list(np.argsort([-s for s in logsumexp(Standard(x), 1).array.strides])) == list(lead)


def test_nothing_is_copied_where_there_is_a_view(kernel, cuda):
    x = Standard(np.asfortranarray(X))
    softmax(x, 0)
    _, seen, *_ = kernel.calls[0]
    assert seen.pointer == x.array.ctypes.data
    assert seen.shape == (20, 3)
    assert cuda.allocated == 0
    assert not [note for note in cuda.notes if note[0] == "allocate"]


@pytest.mark.parametrize("keepdims", [False, True])
def test_keepdims(keepdims):
    for axis in (None, 1, (0, 2)):
        same(logsumexp(Standard(X), axis, keepdims=keepdims), logsumexp(X, axis, keepdims=keepdims))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_masks_that_broadcast(function):
    whole = np.random.default_rng(1).random(X.shape) < 0.5
    for mask in (
        whole,
        whole[0],
        whole[:, :1],
        whole[:, :1, :1],
        whole.transpose(2, 1, 0).copy().T,
    ):
        got = function(Standard(X), 1, where=Standard(mask))
        same(got, function(X, 1, where=mask))
    for number in (True, np.True_, False, np.False_):
        for axis in (1, (0, 2), None):
            same(function(Standard(X), axis, where=number), function(X, axis, where=number))
        for shape in ((3, 0), (0, 3)):
            x = np.zeros(shape, np.float32)
            same(function(Standard(x), 1, where=number), function(x, 1, where=number))


@pytest.mark.parametrize("function", [softmax, log_softmax, entropy])
@pytest.mark.parametrize("where", ["host", "device"])
def test_temperatures_on_either_side(function, where, cuda):
    rows = np.random.default_rng(2).random((3, 1, 5)) + 0.5
    for array in (rows, rows.astype(np.float32), rows[:1], rows[:, :, :1], np.array(2), rows[0, 0]):
        wanted = function(X, 1, temperature=array)
        given = Standard(array) if where == "device" else array
        same(function(Standard(X), 1, temperature=given), wanted)
    assert cuda.allocated == 0  # what was copied there is given back


@pytest.mark.parametrize("temperature", [0, 0.0, 0.7, np.inf, np.float32(3)])
def test_a_number_as_temperature_is_a_kernels_argument(temperature, kernel, cuda):
    softmax(Standard(X), 1, temperature=temperature)
    assert kernel.calls[0][3] == float(temperature)
    assert not [note for note in cuda.notes if note[0] == "allocate"]


@pytest.mark.parametrize("temperature", [1.0, 1, np.float32(1)])
def test_a_temperature_of_1_is_none(temperature, kernel):
    softmax(Standard(X), 1, temperature=temperature)
    assert kernel.calls[0][3] is None


def test_what_a_device_has_as_temperatures_is_not_read(monkeypatch):
    seen = []
    monkeypatch.setattr(plan, "compute", lambda *arguments: seen.append(memory(arguments[3])))
    softmax(Standard(X), 1, temperature=Standard(np.full((3, 1, 5), -1.0)))
    assert (seen[0] == -1).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.bool_])
def test_integers_and_booleans_are_computed_as_float64(dtype):
    x = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    same(softmax(Standard(x), 1), softmax(x, 1))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("result", [*TYPES, "float16", "bfloat16"])
def test_dtype_is_the_results_and_the_wider_one_is_computed_in(dtype, result, kernel):
    x = X.astype(dtype)
    same(softmax(Standard(x), 1, dtype=result), softmax(x, 1, dtype=result))
    sizes = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
    name = np.dtype(result).name
    wider = "float32" if {name, x.dtype.name} == {"float16", "bfloat16"} else None
    assert kernel.calls[0][1].dtype == wider or max(x.dtype.name, name, key=sizes.get)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_rows_of_nothing(function):
    for shape in ((0,), (3, 0), (0, 3), (2, 0, 3)):
        for dtype in TYPES:
            x = np.zeros(shape, dtype)
            for axis in (None, 0, -1):
                same(function(Standard(x), axis), function(x, axis))


# --- out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OnDevice, Standard])
def test_out_is_written_and_returned(kind, kernel):
    x, out = OnDevice(X), kind(np.zeros_like(X))
    assert softmax(x, 1, out=out) is out
    same(out, softmax(X, 1))
    assert kernel.calls[0][2].pointer == out.array.ctypes.data
    total = kind(np.zeros((3, 5), np.float32))
    assert logsumexp(x, 1, out=total) is total
    same(total, logsumexp(X, 1))
    kept = kind(np.zeros((3, 1, 5), np.float32))
    assert logsumexp(x, 1, keepdims=True, out=kept) is kept
    same(kept, logsumexp(X, 1, keepdims=True))


@pytest.mark.parametrize("options", [{}, {"stream": 7}])
def test_in_place(options, kernel):
    for given in (X.copy(), np.asfortranarray(X), X.copy()[:, ::-1], X.copy()[:, :2]):
        x = OnDevice(given)
        wanted = log_softmax(given, 1)
        assert log_softmax(x, 1, out=x, **options) is x
        same(x, wanted)
        assert kernel.calls[-1][1].pointer == kernel.calls[-1][2].pointer


def test_an_out_of_another_layout_is_written_in_its_own():
    for order in itertools.permutations(range(3)):
        out = OnDevice(np.zeros_like(X.transpose(order).copy()).transpose(np.argsort(order)))
        assert softmax(OnDevice(X), 1, out=out) is out
        same(out, softmax(X, 1))


def test_in_place_where_rows_are_seen_in_a_copy_only():
    apart = Standard(np.repeat(X, 2, 0)[::2, :, ::-1])  # rows of axes 0 and 2 are seen in a copy
    wanted = softmax(apart.array, (0, 2))
    assert softmax(apart, (0, 2), out=apart) is apart
    same(apart, wanted)


def test_parts_of_one_array_that_share_nothing():
    whole = np.zeros((4, 10), np.float32)
    whole[:, :5] = X[0]
    softmax(OnDevice(whole[:, :5]), 1, out=OnDevice(whole[:, 5:]))
    np.testing.assert_array_equal(whole[:, 5:], softmax(X[0], 1))


@pytest.mark.parametrize("dtype", TYPES)
def test_out_of_another_type_or_layout_is_converted_by_its_library(dtype):
    out = Standard(np.zeros(X.shape, dtype))
    assert softmax(OnDevice(X), 1, out=out) is out
    same(out, softmax(X, 1, out=np.zeros(X.shape, dtype)))
    apart = Standard(np.zeros((3, 6, 5), dtype)[:, :4])
    assert softmax(OnDevice(X), None, out=apart) is apart
    same(apart, softmax(X, None, out=np.zeros(X.shape, dtype)))


def refused(error, words, function=softmax, x=None, **arguments):
    x = OnDevice(X.copy()) if x is None else x
    with pytest.raises(error, match=words):
        function(x, 1, **arguments)


def test_an_out_that_does_not_fit_is_refused(kernel):
    refused(ValueError, r"out must have shape \(3, 4, 5\), got \(3, 4\)", out=OnDevice(X[:, :, 0]))
    refused(TypeError, "out of int32 cannot hold a result of", out=OnDevice(X.astype(np.int32)))
    refused(ValueError, "out is read-only", out=OnDevice(X.copy(), read_only=True))
    both = {"out": OnDevice(X.copy()), "dtype": np.float64}
    refused(TypeError, "out is of float32 and dtype says float64: give one of them", **both)
    spread = np.lib.stride_tricks.as_strided(X.copy(), X.shape, (0, 20, 4))
    refused(
        ValueError, r"out must not overlap itself, got strides \(0, 20, 4\)", out=OnDevice(spread)
    )
    assert not kernel.calls


def test_an_out_that_overlaps_what_is_read_is_refused(kernel):
    base = np.zeros((4, 4, 5), np.float32)
    x, words = OnDevice(base[:3]), r"out must not overlap x, but may be it: at 0x\w+ with strides"
    refused(ValueError, words, x=x, out=OnDevice(base[1:]))
    refused(ValueError, words, x=x, out=OnDevice(base[2::-1]))
    words = (
        r"out must not overlap a: at 0x\w+ with strides \(80, 4\), a at 0x\w+ with \(80, 20, 4\)"
    )
    refused(ValueError, words, logsumexp, x=x, out=OnDevice(base[:3, 0]))
    mask = np.zeros(X.nbytes, bool)
    out = OnDevice(mask.view(np.float32).reshape(X.shape))
    where = OnDevice(mask[: X.size].reshape(X.shape))
    refused(ValueError, "out must not overlap where: at", out=out, where=where)
    heat = np.ones(X.size, np.float64)
    out = OnDevice(heat.view(np.float32)[: X.size].reshape(X.shape))
    refused(
        ValueError, "out must not overlap temperature: at", out=out, temperature=OnDevice(heat[:1])
    )
    assert not kernel.calls


# --- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, Standard])
def test_labels_on_either_side_in_every_layout(kind, cuda):
    random = np.random.default_rng(4)
    for x in (np.asarray(each) for each in layouts(X)):
        for axis in (axis for axis in range(x.ndim) if x.shape[axis]):
            wide = *x.shape[:axis], 3, *x.shape[axis + 1 :]
            labels = random.integers(0, x.shape[axis], wide)
            several = labels, labels.T.copy().T, labels[..., ::-1], labels.take([], axis)
            for given in (*several, labels.take(0, axis)):
                for options in ({}, {"stream": 7}, {"dtype": "float64"}):
                    wanted = label_log_probabilities(x, given, axis, dtype=options.get("dtype"))
                    same(label_log_probabilities(Standard(x), kind(given), axis, **options), wanted)
    assert cuda.allocated == 0  # what was copied there is given back


def test_labels_that_broadcast_or_are_of_another_type():
    labels = np.random.default_rng(5).integers(0, 4, (3, 2, 5))
    for given in (labels[:1], labels[:, :, :1], labels[0, 0], labels[:, 0, :1], labels[0, 0, 0]):
        wanted = label_log_probabilities(X, given, 1)
        for dtype in (np.int64, np.uint8, np.int32, np.uint64):
            array = np.asarray(given).astype(dtype)
            for there in (array, Standard(array)):
                same(label_log_probabilities(Standard(X), there, 1), wanted)
    same(label_log_probabilities(Standard(X), 2, 1), label_log_probabilities(X, 2, 1))


def test_labels_with_all_that_a_call_takes():
    labels, mask = np.random.default_rng(6).integers(0, 4, (3, 2, 5)), X > -0.3
    options = {"where": mask, "temperature": np.full((3, 1, 1), 0.5)}
    wanted = label_log_probabilities(X, labels, 1, **options)
    there = {name: Standard(array) for name, array in options.items()}
    same(label_log_probabilities(Standard(X), labels, 1, **there), wanted)
    for out in (np.zeros((3, 2, 5), np.float32), np.zeros((3, 5, 2)).swapaxes(1, 2)):
        place = Standard(out)
        assert label_log_probabilities(OnDevice(X), OnDevice(labels), 1, out=place) is place
        expected = label_log_probabilities(X, labels, 1, out=np.zeros(out.shape, out.dtype))
        same(place, expected)


def test_neither_labels_nor_logits_are_copied_where_there_is_a_view(kernel, cuda, monkeypatch):
    seen = []
    monkeypatch.setattr(plan, "compute", lambda *arguments: seen.append(arguments))
    labels = Standard(np.zeros((3, 5), np.int64))
    label_log_probabilities(Standard(X), labels, 1)
    assert seen[0][1].pointer == X.ctypes.data
    assert seen[0][6].pointer == labels.array.ctypes.data
    assert seen[0][6].shape == (3, 1, 5)
    assert not [note for note in cuda.notes if note[0] == "allocate"]


def test_labels_that_do_not_fit_are_refused(kernel, cuda):
    def refuses(error, words, labels, x=X, axis=1, **options):
        with pytest.raises(error, match=words):
            label_log_probabilities(OnDevice(x), labels, axis, **options)

    name = "a simulated_device.OnDevice, which fastsoftmax can neither make anew nor convert"
    right = np.zeros((3, 5), np.int64)
    wrong = right.copy()
    wrong[2, 1] = 4
    refuses(ValueError, r"labels\[2, 1\] is 4, and classes are from 0 to 3", wrong)
    for there in (np.asarray, OnDevice):
        refuses(TypeError, "labels must be integers, got an array of", there(X[:, 0]))
        refuses(TypeError, "labels must be integers, got an array of", there(right == 0))
        words = r"labels of shape \(2,\) does not broadcast to shape \(3, 5\)"
        refuses(ValueError, words, there(right[0, :2]))
        refuses(ValueError, "axis must be one axis for label_log_pr", there(right), axis=(0, 1))
        refuses(ValueError, "labels", there(right), x=X[:, :0])
    refuses(ValueError, "labels are of no class: logits has none", OnDevice(right), x=X[:, :0])
    refuses(TypeError, f"labels is {name}: pass an array of int64", OnDevice(right.astype("i4")))
    refuses(TypeError, f"logits is {name}: pass out=", OnDevice(right))
    out = OnDevice(np.zeros((3, 1, 5), np.float32))
    refuses(ValueError, r"out must have shape \(3, 5\), got \(3, 1, 5\)", right, out=out)
    shared = right.view(np.float32)[:, :5]
    refuses(ValueError, "out must not overlap labels: at", OnDevice(right), out=OnDevice(shared))
    elsewhere = right.copy()
    cuda.elsewhere = {elsewhere.ctypes.data}
    refuses(ValueError, "labels is on cuda:1, and logits on cuda:0", OnDevice(elsewhere))
    with pytest.raises(TypeError, match="labels is a simulated_device"):
        label_log_probabilities(X, OnDevice(right), 1)
    with pytest.raises(ValueError, match="stream is for arrays on a GPU, and logits is on the"):
        label_log_probabilities(X, right, 1, stream=7)
    with pytest.raises(ValueError, match="logits is on a GPU and target s"):
        label_log_probabilities(OnDevice(X), right, 1, target="cpu")
    assert not kernel.calls


# --- the largest --------------------------------------------------------------------------------


def test_the_largest_in_every_layout(cuda):
    for x in (np.asarray(each) for each in layouts(X)):
        for axis in (axis for axis in range(x.ndim) if x.shape[axis]):
            for k in {1, min(2, x.shape[axis]), x.shape[axis]}:
                for options in ({}, {"stream": 7}, {"dtype": "float64"}):
                    wanted = top_k(x, k, axis, dtype=options.get("dtype"))
                    found = top_k(Standard(x), k, axis, **options)
                    assert type(found) is tuple
                    for got, right in zip(found, wanted, strict=True):
                        same(got, right)
    assert cuda.allocated == 0


def test_the_largest_with_all_that_a_call_takes():
    options = {"where": X > -0.3, "temperature": np.full((3, 1, 1), 0.5)}
    there = {name: Standard(array) for name, array in options.items()}
    wanted = top_k(X, 3, 1, **options)
    for got, right in zip(top_k(Standard(X), 3, 1, **there), wanted, strict=True):
        same(got, right)


def test_a_number_of_the_largest_that_does_not_fit_is_refused(kernel):
    for k in (0, 5, -1):
        words = f"k must be from 1 to the 4 classes that there are, got {k}"
        with pytest.raises(ValueError, match=words):
            top_k(Standard(X), k, 1)
    with pytest.raises(TypeError, match=r"k must be an integer, got 1\.5"):
        top_k(Standard(X), 1.5, 1)
    with pytest.raises(ValueError, match="axis must be one axis for top_k"):
        top_k(Standard(X), 1, None)
    with pytest.raises(TypeError, match="convert: pass an array of torch, CuPy or Numba"):
        top_k(OnDevice(X), 1, 1)
    assert not kernel.calls


# --- what is refused ------------------------------------------------------------------------------


def test_arguments_on_the_host_beside_a_device_are_refused_by_name(kernel):
    words = "{} is on the host, and x on cuda:0: copy it there first"
    refused(TypeError, words.format("out"), out=X.copy())
    words_of_out = "out is a {} on the host, and x on cuda:0: pass an array there"
    refused(TypeError, words_of_out.format("list"), out=[1])
    refused(TypeError, words_of_out.format("int"), out=1)
    refused(TypeError, words.format("where"), where=X > 0)
    refused(TypeError, words.format("where"), where=[True] * 5)
    assert not kernel.calls


def test_arguments_on_a_device_beside_the_host_are_refused_by_name():
    words = "{} is a simulated_device.OnDevice on a GPU, and {} on the host: copy {} to the host"
    for name, given in (("out", X), ("where", X > 0), ("temperature", X)):
        wanted = words.format(name, "x", name)
        refused(TypeError, wanted, x=X, **{name: OnDevice(given)})
    refused(TypeError, words.format("b", "a", "b"), logsumexp, x=X, b=OnDevice(X))


def test_arguments_on_another_device_are_refused_by_name(cuda, kernel):
    for name, given in (("out", X.copy()), ("where", X > 0), ("temperature", np.ones((3, 1, 5)))):
        cuda.elsewhere = {given.ctypes.data}
        words = f"{name} is on cuda:1, and x on cuda:0"
        refused(ValueError, words, **{name: OnDevice(given)})
    assert not kernel.calls


def test_shapes_and_types_that_do_not_fit_are_refused_by_name(kernel):
    refused(TypeError, "where must be boolean, got an array of float32", where=OnDevice(X))
    words = r"where of shape \(2,\) does not broadcast to shape \(3, 4, 5\)"
    refused(ValueError, words, where=OnDevice(np.ones(2, bool)))
    words = r"temperature of shape \(2,\) does not broadcast to shape \(3, 1, 5\)"
    refused(ValueError, words, temperature=OnDevice(np.ones(2)))
    refused(ValueError, words, temperature=np.ones(2))
    words = r"for one a row, pass temperature\[:, None, :\], of shape \(3, 1, 5\)"
    refused(ValueError, words, temperature=OnDevice(np.ones((3, 5))))
    refused(ValueError, words, temperature=np.ones((3, 5)))
    words = "temperature must be real, got an array of complex128"
    refused(TypeError, words, temperature=OnDevice(np.ones(1, complex)))
    masked = np.ma.array([2.0], mask=[True])
    refused(TypeError, "temperature must not be a masked array: fill it", temperature=masked)
    for wrong in (-1, -1.0, np.nan, [1.0, 1.0, 1.0, 1.0, -2.0]):
        refused(ValueError, "temperature must not be negative or NaN", temperature=wrong)
    words = "x must hold float16, bfloat16, float32, float64 or integers on a GPU, got"
    refused(TypeError, words, x=OnDevice(X.astype(complex)))
    refused(TypeError, words, x=OnDevice(np.array(["a"])))
    apart = np.zeros(X.nbytes + 2, np.uint8)[2:].view(np.float32).reshape(X.shape)
    refused(ValueError, "x must lie at multiples of its elements' 4 bytes", x=OnDevice(apart))
    refused(ValueError, "out must lie at multiples of its elements' 4 b", out=OnDevice(apart))
    refused(TypeError, "x must have this machine's order of bytes", x=OnDevice(X.astype(">f4")))
    for wrong in (np.int32, complex, "float8", np.longdouble):
        refused(TypeError, "dtype must be float16, bfloat16, float32, float64 or No", dtype=wrong)
    with pytest.raises(np.exceptions.AxisError):
        softmax(OnDevice(X), 3)
    assert not kernel.calls


def test_what_no_library_can_make_is_refused_with_what_to_do(kernel):
    name = "a simulated_device.OnDevice, which fastsoftmax can neither make anew nor convert"
    out = OnDevice(np.zeros(X.shape))
    refused(TypeError, f"x is {name}: pass out=")
    integers = OnDevice(X.astype(np.int32))
    refused(TypeError, f"x is {name}: pass an array of float64", x=integers, out=out)
    refused(TypeError, f"out is {name}: pass an out of float32$", out=out)
    narrow = {"x": OnDevice(X.astype(float)), "dtype": "f4", "out": OnDevice(X.copy())}
    words = f"out is {name}: pass an out of float64, without dtype="
    refused(TypeError, words, **narrow)
    heat = OnDevice(np.ones(1, np.float32))
    words = f"temperature is {name}: pass an array of float64"
    refused(TypeError, words, x=Standard(X), temperature=heat)
    apart = OnDevice(np.zeros((3, 6, 5), np.float32)[:, :4])
    with pytest.raises(TypeError, match=f"x is {name}: pass an array in C order"):
        softmax(apart, None, out=OnDevice(X.copy()))
    words = f"x is {name}: pass an array in C order, whose rows lie along its last axes"
    for given in (apart, OnDevice(X)):  # also where out has no such view either
        with pytest.raises(TypeError, match=words):
            softmax(given, (0, 2), out=OnDevice(given.array.copy()))
    with pytest.raises(TypeError, match=f"out is {name}: pass one that lies in memory as x"):
        softmax(OnDevice(X), None, out=apart)
    with pytest.raises(TypeError, match=f"where is {name}: pass an array in C order"):
        softmax(Standard(X), None, where=OnDevice((X > 0)[:, :, ::-1]))
    assert not kernel.calls


def test_a_type_that_numba_does_not_convert_is_refused_in_time(kernel, monkeypatch):
    class Numbas(OnDevice):
        pass

    module = types.ModuleType("numba.cuda.cudadrv.devicearray")
    module.DeviceNDArrayBase = Numbas
    monkeypatch.setitem(sys.modules, module.__name__, module)
    words = "x is a .*Numbas, which fastsoftmax can neither make anew nor convert: leave out dtype="
    refused(TypeError, words, x=Numbas(X.astype(float)), dtype="f4")
    assert not kernel.calls


@pytest.mark.parametrize(
    "broken",
    [{}, {"typestr": "<f4"}, {"typestr": "number", "data": (0, 0), "shape": (1,)},
     {"typestr": "<f4", "data": 5, "shape": (1,)}, {"typestr": "<f4", "data": (0, 0), "shape": 1}],
)  # fmt: skip
def test_what_exports_nothing_that_can_be_read_is_refused_by_name(broken, kernel):
    class Broken:
        __cuda_array_interface__ = broken

    words = "{} is a .*Broken whose __cuda_array_interface__ cannot be read: "
    for name in ("x", "where", "temperature", "out"):
        refused(TypeError, words.format(name), **{name: Broken()})
    assert not kernel.calls


def test_what_dlpack_does_not_export_is_refused_by_name():
    pytest.importorskip("cuda.core.utils", reason="cuda-core is not installed")

    class Broken(ByDLPack):
        def __dlpack__(self, **options):
            raise BufferError("gone\nsince long")

    words = "x is a .*Broken that cannot be read by DLPack: BufferError: gone since long"
    refused(TypeError, words, x=Broken(X))


def test_an_address_that_is_no_memory_of_a_device_is_refused_by_name(cuda, monkeypatch):
    def unknown(pointer):
        raise RuntimeError("cuPointerGetAttribute: CUDA_ERROR_INVALID_VALUE: invalid argument")

    monkeypatch.setattr(cuda, "device_of_memory", unknown)
    refused(ValueError, "x is at 0x.*, which is not in a GPU's memory: cuPointerGetAttribute")


def test_an_array_with_a_mask_of_its_own_is_refused():
    class Masked:
        __cuda_array_interface__ = dict(  # noqa: RUF012
            OnDevice(X).__cuda_array_interface__, mask=OnDevice(X > 0)
        )

    refused(TypeError, "x must not have a mask of its own: pass it as where=", x=Masked())


def test_weighted_sums_are_computed_on_the_cpu():
    words = "b= and return_sign= are computed on the CPU: pass an array on the host"
    refused(ValueError, words, logsumexp, b=2.0)
    refused(ValueError, words, logsumexp, return_sign=True)
    words = "b= and return_sign= are computed on the CPU: leave out target='cuda'"
    refused(ValueError, words, logsumexp, x=X, b=2.0, target="cuda")
    refused(ValueError, words, logsumexp, x=X, return_sign=True, target="cuda")


def test_targets_and_streams_that_do_not_fit_are_refused():
    for function in FUNCTIONS:
        name = "a" if function is logsumexp else "x"
        words = "target must be None, 'cpu' or 'cuda', got 'gpu'"
        refused(ValueError, words, function, target="gpu")
        refused(ValueError, words, function, x=X, target="gpu")
        words = "target must be None, 'cpu' or 'cuda', got "
        for wrong in (np.array(["cpu", "cuda"]), np.array("cpu"), 0, ["cpu"]):
            refused(ValueError, words, function, x=X, target=wrong)
        words = f"{name} is on a GPU and target says 'cpu': copy it to the host first"
        refused(ValueError, words, function, target="cpu")
        words = f"stream is for arrays on a GPU, and {name} is on the host"
        refused(ValueError, words, function, x=X, stream=5)
        refused(ValueError, words, function, x=X, stream=5, target="cuda")
    np.testing.assert_array_equal(softmax(X, 1, target="cpu"), softmax(X, 1))
    same(softmax(Standard(X), 1, target="cuda"), softmax(X, 1))


# --- streams --------------------------------------------------------------------------------------


class TorchStream:
    cuda_stream = 11


class CuPyStream:
    ptr = 12


class CoreStream:
    def __cuda_stream__(self):
        return 0, 13


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (0, 0),
        (10, 10),
        (np.int64(10), 10),
        (TorchStream(), 11),
        (CuPyStream(), 12),
        (CoreStream(), 13),
    ],
)
def test_a_stream_is_a_handle_or_an_object_with_one(stream, handle, kernel):
    softmax(Standard(X), 1, stream=stream)
    assert kernel.calls[0][5] == handle


def test_a_stream_of_the_simulator_is_the_only_one(kernel, monkeypatch):
    module = types.ModuleType("numba.cuda.simulator.api")
    module.stream = type("stream", (), {})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    softmax(Standard(X), 1, stream=module.stream())
    assert kernel.calls[0][5] == 0


@pytest.mark.parametrize("stream", [-1, 1.5, "s", True, np.True_, np.int64(-1)])
def test_what_is_no_stream_is_refused(stream):
    refused(TypeError, "stream must be a CUDA stream or its handle, got", stream=stream)


def test_a_stream_of_another_device_is_refused(kernel):
    refused(ValueError, "stream is of cuda:1, and x on cuda:0", stream=777)
    assert not kernel.calls


def test_the_stream_that_an_array_names_is_the_calls(kernel, cuda):
    softmax(Standard(X), 1)
    softmax(Standard(X, stream=21), 1)
    assert [call[5] for call in kernel.calls] == [0, 21]
    assert not [note for note in cuda.notes if note[0] == "wait"]


def test_streams_that_other_arrays_name_are_waited_for_and_wait(cuda):
    x, where, out = OnDevice(X, stream=21), OnDevice(X > 0, stream=22), OnDevice(X.copy())
    softmax(x, 1, where=where, out=out)
    waits = [note for note in cuda.notes if note[0] == "wait"]
    assert waits == [("wait", 21, 22), ("wait", 22, 21)]
    cuda.notes.clear()
    softmax(x, 1, out=out, stream=30)
    assert [note for note in cuda.notes if note[0] == "wait"] == [
        ("wait", 30, 21),
        ("wait", 21, 30),
    ]


def test_the_default_stream_has_two_names(kernel, cuda):
    softmax(OnDevice(X), 1, out=OnDevice(X.copy(), stream=1), where=OnDevice(X > 0))
    assert kernel.calls[0][5] == 0
    assert not [note for note in cuda.notes if note[0] == "wait"]


def test_host_temperatures_are_copied_in_order_on_the_stream(cuda):
    softmax(Standard(X), 1, temperature=np.ones((3, 1, 5)) * 2, stream=30)
    assert ("allocate", 30) in cuda.notes


def test_host_temperatures_are_refused_where_a_graph_is_recorded(cuda, monkeypatch, kernel):
    monkeypatch.setattr(Recording, "is_recorded", lambda self, stream: True)
    refused(ValueError, "temperature is on the host, where a CUDA graph", x=Standard(X),
            temperature=np.ones((3, 1, 5)))  # fmt: skip
    refused(ValueError, "where is on the host, where a CUDA graph", x=Standard(X), where=False)
    softmax(Standard(X), 1, temperature=2.0)
    assert len(kernel.calls) == 1


def test_the_arrays_device_is_current(cuda):
    x = X.copy()
    cuda.elsewhere = {x.ctypes.data}
    out = OnDevice(X.copy())
    cuda.elsewhere.add(out.array.ctypes.data)
    softmax(OnDevice(x), 1, out=out)
    assert ("current", 1) in cuda.notes


def test_an_error_of_a_kernel_is_raised_and_memory_given_back(cuda, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")

    monkeypatch.setattr(plan, "compute", broken)
    refused(RuntimeError, "CUDA_ERROR_LAUNCH_FAILED", x=Standard(X), temperature=np.ones((3, 1, 5)))
    refused(RuntimeError, "CUDA_ERROR_LAUNCH_FAILED", x=X, target="cuda")
    assert cuda.allocated == 0


# --- libraries ------------------------------------------------------------------------------------


@pytest.fixture
def torch(monkeypatch):
    """torch, whose tensors say that they are on a GPU."""
    module = pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setattr(libraries.Torch, "on_gpu", lambda self, x: True)
    hold = libraries.Torch.hold
    monkeypatch.setattr(libraries.Torch, "hold", lambda *args: hold(*args)._replace(device=0))
    monkeypatch.setattr(libraries.Torch, "current_stream", lambda self, held: 40)
    monkeypatch.setattr(
        libraries.Torch, "on", lambda self, stream, device: contextlib.nullcontext()
    )
    return module


def bits(tensor):
    """A tensor as NumPy's array, of integers if need be."""
    try:
        return tensor.numpy()
    except TypeError:
        return tensor.view(sys.modules["torch"].int16).numpy().view(ml_dtypes.bfloat16)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "bool"])
def test_torch_tensors(function, dtype, torch, kernel):
    for x in (torch.tensor(X), torch.tensor(X).permute(2, 0, 1), torch.tensor(X)[:, ::2]):
        x = x.to(getattr(torch, dtype))
        mask, heat = torch.tensor(X[0, 0] > 0)[: x.shape[-1]], torch.tensor([2.0])
        for axis in (0, -1, (0, 2), None):
            options = {} if function is logsumexp else {"temperature": heat}
            got = function(x, axis, where=mask, **options)
            options = {} if function is logsumexp else {"temperature": 2.0}
            wanted = function(bits(x), axis, where=mask.numpy(), **options)
            assert isinstance(got, torch.Tensor)
            equal(bits(got), wanted)
            assert str(got.dtype) == f"torch.{wanted.dtype.name}"
    assert {call[5] for call in kernel.calls} == {40}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_axis_of_a_tensor_may_be_called_dim_as_torch_does(function, torch, kernel):
    x = torch.tensor(X)
    for options in ({}, {"where": torch.tensor(X > 0)}):
        beside = {name: value.numpy() for name, value in options.items()}
        for dim in (0, -1, (0, 2), ()):
            equal(bits(function(x, dim=dim, **options)), function(X, dim, **beside))
    count = len(kernel.calls)
    for dim, error, words in (
        ("c", TypeError, "^dim must be an int or several where {} is a tensor, got 'c'$"),
        (1.0, TypeError, "got 1.0$"),
        ((0, None), TypeError, r"got \(0, None\)$"),
        (3, np.exceptions.AxisError, "^dim: axis 3 is out of bounds for array of dimension 3$"),
        ((1, -2), ValueError, r"^dim must not name a dimension twice, got \(1, -2\)$"),
    ):
        with pytest.raises(error, match=words.format("a" if function is logsumexp else "x")):
            function(x, dim=dim)
    with pytest.raises(ValueError, match=r"^give axis or dim, not both: got axis=1 and dim=1$"):
        function(x, 1, dim=1)
    with pytest.raises(
        TypeError, match=r"^dim is for what has named dimensions, and .*OnDevice: pass axis$"
    ):
        function(OnDevice(X), dim=1)
    assert len(kernel.calls) == count


def test_torch_tensors_as_out(torch):
    x = torch.tensor(X)
    for out in (torch.zeros(X.shape), torch.zeros(X.shape, dtype=torch.bfloat16), x):
        wanted, before = softmax(X, 1, out=np.zeros(X.shape, bits(out).dtype)), out._version
        assert softmax(x, 1, out=out) is out
        np.testing.assert_array_equal(bits(out), wanted)
        assert out._version > before
    assert softmax(x, 1, dtype=torch.float64).dtype is torch.float64


def test_torch_tensors_that_cannot_be_read_are_refused(torch):
    x = torch.tensor(X)
    leaf = x.clone().requires_grad_()
    for name, given in (("x", {"x": leaf}), ("out", {"out": leaf})):
        words = f"{name} requires gradients, of which none come: pass {name}.detach\\(\\)"
        refused(TypeError, words, **{"x": x, **given})
    refused(TypeError, r"x is of layout torch.sparse_coo: pass x.to_dense\(\)", x=x.to_sparse())
    refused(TypeError, "dtype must be float16, bfloat16", x=x, dtype=torch.int32)
    negated = torch._neg_view(x)
    np.testing.assert_array_equal(softmax(negated, 1).numpy(), softmax(-X, 1))
    refused(ValueError, "out is negated or conjugated where it is read: make it anew",
            x=torch.tensor(X), out=negated)  # fmt: skip


class Cupy:
    """An array with CuPy's names."""

    def __init__(self, array):
        self.array = array
        self.data = types.SimpleNamespace(ptr=array.ctypes.data)
        self.device = types.SimpleNamespace(id=0)
        self.dtype, self.shape, self.strides = array.dtype, array.shape, array.strides

    def astype(self, dtype):
        return Cupy(self.array.astype(dtype))

    def transpose(self, axes):
        return Cupy(self.array.transpose(axes))

    def reshape(self, shape):
        return Cupy(self.array.reshape(shape))


@pytest.fixture
def cupy(monkeypatch):
    """A module with what of CuPy's is used here."""
    streams = []

    @contextlib.contextmanager
    def external(stream, device):
        streams.append((stream, device))
        yield

    module = types.ModuleType("cupy")
    module.ndarray, module.streams = Cupy, streams
    module.empty = lambda shape, dtype: Cupy(np.empty(shape, dtype))
    module.broadcast_to = lambda x, shape: Cupy(np.broadcast_to(x.array, shape))
    module.copyto = lambda out, x, casting: np.copyto(out.array, x.array, casting=casting)
    current = types.SimpleNamespace(ptr=50)
    module.cuda = types.SimpleNamespace(
        get_current_stream=lambda device: current, ExternalStream=external
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32, np.int32])
def test_cupy_arrays(function, dtype, cupy, kernel):
    for x in (X, X.transpose(2, 0, 1), X[:, ::2]):
        x = x.astype(dtype)
        for axis in (0, -1, (0, 2), None):
            got = function(Cupy(x), axis, where=Cupy(x[:1] > 0))
            assert isinstance(got, Cupy)
            same(got, function(x, axis, where=x[:1] > 0))
    assert {call[5] for call in kernel.calls} == {50}


def test_cupy_arrays_as_out_and_on_a_stream(cupy, kernel):
    out = Cupy(np.zeros(X.shape, np.float64))
    assert softmax(Cupy(X), 1, out=out, stream=60) is out
    same(out, softmax(X, 1).astype(np.float64))
    assert kernel.calls[0][5] == 60
    assert cupy.streams == [(60, 0)]


def test_what_another_library_converts_is_in_order_on_the_calls_stream(cupy, torch, kernel):
    heat = Cupy(np.full((3, 1, 5), 2, np.float32))  # kernels take float64
    for options, stream in (({}, 40), ({"stream": 60}, 60)):
        cupy.streams.clear()
        got = softmax(torch.tensor(X), 1, temperature=heat, **options)
        np.testing.assert_array_equal(got.numpy(), softmax(X, 1, temperature=2.0))
        assert cupy.streams == [(stream, 0)]


def test_arrays_of_two_libraries_wait_for_each_other(cupy, torch, cuda, kernel):
    out = torch.zeros(X.shape)
    assert softmax(Cupy(X), 1, out=out) is out
    np.testing.assert_array_equal(out.numpy(), softmax(X, 1))
    assert kernel.calls[0][5] == 50
    waits = [note for note in cuda.notes if note[0] == "wait"]
    assert waits == [("wait", 50, 40), ("wait", 40, 50)]


class ByDLPack:
    """An array that is exported by DLPack alone; of its library nothing is known."""

    def __init__(self, array, device=0):
        self.array, self.on, self.streams = array, device, []

    def __dlpack_device__(self):
        return 2, self.on  # CUDA's

    def __dlpack__(self, *, stream=None, **options):
        self.streams.append(stream)
        capsule = self.array.__dlpack__()
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
        # A DLTensor begins with the address, the kind of device, and the device.
        place = get(capsule, b"dltensor") + ctypes.sizeof(ctypes.c_void_p)
        (ctypes.c_int32 * 2).from_address(place)[:] = 2, self.on
        return capsule


@pytest.mark.parametrize("layout", [X, np.asfortranarray(X), X[:, ::2]])
def test_arrays_that_are_known_by_dlpack_alone(layout, kernel):
    pytest.importorskip("cuda.core.utils", reason="cuda-core is not installed")
    x = ByDLPack(layout)
    out = ByDLPack(np.zeros(x.array.shape, np.float32))
    assert softmax(x, 1, out=out) is out
    np.testing.assert_array_equal(out.array, softmax(x.array, 1))
    assert set(x.streams) == {libraries.LEGACY}  # to which the exporter has it be ready
    x.streams.clear()
    softmax(x, 1, out=out, stream=30)
    assert x.streams == [30]
    assert kernel.calls[-1][5] == 30
    refused(TypeError, "x is a .*ByDLPack, which fastsoftmax can neither make", x=x)
    elsewhere = ByDLPack(out.array, 1)
    refused(ValueError, "out is on cuda:1, and x on cuda:0", x=x, out=elsewhere)


def test_jax_arrays_are_read_and_never_written(monkeypatch):
    pytest.importorskip("cuda.core.utils", reason="cuda-core is not installed")
    jax = types.ModuleType("jax")
    jax.Array = ByDLPack
    monkeypatch.setitem(sys.modules, "jax", jax)
    out = OnDevice(np.zeros_like(X))
    assert softmax(ByDLPack(X), 1, out=out) is out
    same(out, softmax(X, 1))
    refused(ValueError, "out is read-only", out=ByDLPack(X.copy()))


# --- arrays of the host ---------------------------------------------------------------------------


@pytest.fixture
def small_pieces(monkeypatch):
    """The module that computes piece by piece, with pieces of a few rows, and no slots yet."""
    from fastsoftmax.cuda import staged

    monkeypatch.setattr(staged, "PIECE", 1 << 10)
    monkeypatch.setattr(staged, "_idle", {})
    return staged


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32])
def test_the_hosts_arrays_are_computed_in_pieces(function, dtype, small_pieces, kernel, cuda):
    whole = (np.random.default_rng(3).standard_normal((12, 30, 20)) * 4).astype(dtype)
    for x in (whole[0], whole[0].T, whole[:, :, 0], whole, whole.transpose(2, 0, 1), whole[:1]):
        mask = np.random.default_rng(4).random(x.shape) < 0.7
        for axis in (0, 1, None):
            options = {"where": mask}
            if function is not logsumexp:
                shape = np.shape(logsumexp(x, axis, keepdims=True))
                options["temperature"] = np.random.default_rng(5).random(shape) + 0.5
            for given in ({}, options):
                got = function(x, axis, target="cuda", **given)
                equal(got, function(x, axis, **given))
                assert type(got) is type(function(x, axis, **given))
    assert len(kernel.calls) > 100
    assert len(small_pieces._idle[0]) == 3
    for slot in small_pieces._idle[0]:
        slot.free()
    assert cuda.allocated == 0


def test_the_hosts_out_is_written_also_in_place(small_pieces):
    x = np.random.default_rng(3).standard_normal((100, 30))
    wanted = softmax(x, 1)
    out = np.zeros_like(x)
    assert softmax(x, 1, out=out, target="cuda") is out
    np.testing.assert_array_equal(out, wanted)
    assert softmax(x, 1, out=x, target="cuda") is x
    np.testing.assert_array_equal(x, wanted)
    lists = softmax([[1.0, 2.0]], 1, target="cuda", temperature=2.0)
    np.testing.assert_array_equal(lists, softmax([[1.0, 2.0]], 1, temperature=2.0))


def test_a_row_longer_than_a_piece_is_one(small_pieces, monkeypatch, cuda):
    monkeypatch.setattr(small_pieces, "KEPT", 1 << 13)
    x = np.random.default_rng(3).standard_normal((2, 1000))
    np.testing.assert_array_equal(softmax(x, 1, target="cuda"), softmax(x, 1))
    assert not small_pieces._idle.get(0)  # so much is not kept
    assert cuda.allocated == 0


def test_an_error_in_a_later_piece_is_raised_and_memory_given_back(small_pieces, monkeypatch, cuda):
    class Breaking(StandIn):
        def __call__(self, *arguments):
            super().__call__(*arguments)
            if len(self.calls) == 5:
                raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")

    monkeypatch.setattr(plan, "compute", Breaking())
    refused(RuntimeError, "CUDA_ERROR_LAUNCH_FAILED", x=np.ones((100, 30)), target="cuda")
    assert cuda.allocated == 0


def test_types_that_kernels_lack_are_refused_for_the_target():
    for dtype in (complex, np.longdouble):
        refused(TypeError, "a GPU computes no", logsumexp, x=X.astype(dtype), target="cuda")


# --- without one ----------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch):
    """What asks for a driver gets this machine's."""
    monkeypatch.setattr(driver.config, "ENABLE_CUDASIM", 0)
    for name in ("cuda.driver", "cuda.libraries", "cuda.staged", "device", "plain"):
        module = __import__(f"fastsoftmax.{name}", fromlist=["driver"])
        monkeypatch.setattr(module, "driver", DRIVER)
    DRIVER.cache_clear()
    yield
    DRIVER.cache_clear()


DRIVER = driver.driver


def missing(words):
    for x, options in ((OnDevice(X), {}), (X, {"target": "cuda"})):
        with pytest.raises(driver.Unavailable, match=words) as raised:
            softmax(x, 1, **options)
        assert "\n" not in str(raised.value)


def test_without_numba_cuda_a_call_says_how_to_install_it(bare, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing(r"need numba-cuda, which is missing: pip install 'fastsoftmax\[cuda13\]'")


def test_the_simulator_is_where_numba_says_so_and_numba_cuda_is(bare, monkeypatch):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")  # too late: Numba was imported without it
    monkeypatch.setattr(driver.config, "ENABLE_CUDASIM", 1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing("need numba-cuda, which is missing")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    assert isinstance(DRIVER(), Simulated)
    monkeypatch.setattr(driver.config, "ENABLE_CUDASIM", 0)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    DRIVER.cache_clear()
    missing("need cuda-bindings")


def test_without_a_driver_or_a_gpu_a_call_says_so(bare, monkeypatch):
    class Api:
        class CUresult:
            CUDA_SUCCESS = 0

        @staticmethod
        def cuInit(flags):
            return (types.SimpleNamespace(name="CUDA_ERROR_NO_DEVICE"),)

        @staticmethod
        def cuGetErrorString(error):
            return 0, b"no CUDA-capable device is detected"

    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    bindings = types.ModuleType("cuda.bindings")
    bindings.driver = Api
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    missing("need an NVIDIA driver and a GPU: cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable device")
    Api.cuInit = staticmethod(lambda flags: (0,))
    Api.cuDeviceGetCount = staticmethod(lambda: (0, 0))
    missing("need one, and the driver finds none")


def test_arrays_of_the_host_are_known_without_asking(monkeypatch):
    class Silent(list):
        def __getattr__(self, name):
            raise AssertionError(name)

    for x in (X, X[0, 0, 0], 1.0, 1, [1.0], (1.0,), Silent([1.0]), np.ma.array(X), None):
        assert libraries.library_of(x) is None


class Readable:
    """What NumPy reads, and no array otherwise."""

    def __array__(self, dtype=None, copy=None):
        return X


class AsksNobody(Readable):
    def __dlpack_device__(self):
        raise RuntimeError("deleted")


NUMPYS = ("__array_interface__", "__array_struct__")  # NumPy asks for these, and takes no error


class Raises(Readable):
    def __getattr__(self, name):
        raise (AttributeError if name in NUMPYS else RuntimeError)(name)


class Anything(Readable):
    """Has every attribute, and a device of every kind."""

    def __getattr__(self, name):
        if name.startswith("__array_"):
            raise AttributeError(name)
        return lambda *arguments: self

    def __getitem__(self, index):
        return 2


class Odd(Readable):
    __cuda_array_interface__ = None

    def __dlpack_device__(self):
        return "cuda"


@pytest.mark.parametrize("kind", [AsksNobody, Raises, Anything, Odd])
def test_what_cannot_be_asked_is_on_the_host(kind):
    assert libraries.library_of(kind()) is None
    np.testing.assert_array_equal(softmax(kind(), 1), softmax(X, 1))
    wanted = softmax(X, 1, temperature=2.0)
    np.testing.assert_array_equal(softmax(kind(), 1, temperature=np.float32(2)), wanted)


def test_a_deleted_array_is_refused_as_numpy_refuses_it():
    class Deleted(AsksNobody):
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("Array has been deleted.")

    words = "{} must be an array or make one, got .*Deleted: Array has been deleted"
    refused(TypeError, words.format("x"), x=Deleted())
    refused(TypeError, words.format("temperature"), x=X, temperature=Deleted())
