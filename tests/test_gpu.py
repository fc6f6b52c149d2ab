"""The CUDA target on a GPU: the CPU's bits, in every array library, in order, without waiting.

Skipped where no GPU is found. In Numba's simulator there are no libraries, streams or graphs.
"""

import os
import subprocess
import sys
import threading
import time

import ml_dtypes
import numpy as np
import pytest
import threads
from on_device import CuPy, Exported, Numba, Torch, same_bits

import fastsoftmax
import verification
from verification import cases
from verification.checks import CASE_SUITES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("default"),  # of libraries, which differ from machine to machine
]

FUNCTIONS = ("softmax", "log_softmax", "logsumexp", "entropy")
DTYPES = ("float16", "bfloat16", "float32", "float64")
# Around where one way of computing rows gives way to another.
LENGTHS = (
    *(1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 200, 255, 256),
    *(257, 500, 511, 512, 513, 1000, 1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096, 4097, 8191),
    *(8193, 16384, 16385, 32767, 32768, 32769, 50256, 50257, 65536, 65537, 131072, 131075),
    *(262144, 262147, 1_000_003),
)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4, -1e4, 6e4, 1e-7)


@pytest.fixture(scope="module", autouse=True)
def _device():
    """Skip where there is none, and say why."""
    from fastsoftmax.cuda.driver import Unavailable, driver

    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        pytest.skip("Numba's simulator is no GPU")
    try:
        driver()
    except Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(params=[Torch, CuPy, Numba], ids=["torch", "cupy", "numba"])
def library(request):
    return request.param()


@pytest.fixture
def torch():
    return Torch().torch


@pytest.fixture(scope="module")
def busy():
    """A call that keeps a stream of any library busy for some milliseconds."""
    from numba import cuda

    @cuda.jit
    def sleep(milliseconds):
        for _ in range(milliseconds):
            cuda.nanosleep(np.uint32(1_000_000))

    def run(handle, milliseconds):
        sleep[1, 1, cuda.external_stream(handle)](milliseconds)

    run(0, 1)  # compiles it
    cuda.synchronize()
    return run


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def drawn(shape, dtype, seed=0):
    """Random logits; in a matrix with many rows some have special values."""
    x = (np.random.default_rng(seed).standard_normal(shape) * 4).astype(np.float32)
    if x.ndim == 2 and len(x) > len(SPECIAL) + 3 and x.shape[1]:
        for row, value in enumerate(SPECIAL):
            x[row, row % x.shape[1]] = value
        x[len(SPECIAL)] = -np.inf
        x[len(SPECIAL) + 1] = 3.0
        x[len(SPECIAL) + 2] *= 30
    with np.errstate(over="ignore"):
        return x.astype(dtype_of(dtype))


# --- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_of_any_length_have_the_cpus_bits(name, dtype):
    library, function = Torch(), getattr(fastsoftmax, name)
    for length in LENGTHS:
        x = drawn((13 if length < 300_000 else 2, length), dtype, length)
        same_bits(library.get(function(library.put(x), axis=-1)), function(x, axis=-1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_number_of_rows_and_columns_have_the_cpus_bits(name, dtype):
    library, function = Torch(), getattr(fastsoftmax, name)
    for shape in ((100_003, 3), (40_001, 10), (3001, 130), (1, 50), (700, 1000), (3, 200_000)):
        x = drawn(shape, dtype)
        on_device = library.put(x)
        for axis in (0, 1):
            same_bits(library.get(function(on_device, axis=axis)), function(x, axis=axis))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_library_gets_its_own_arrays_back(library, name):
    function = getattr(fastsoftmax, name)
    for dtype in library.dtypes:
        x = drawn((40, 77), dtype)
        on_device = library.put(x)
        result = function(on_device, axis=-1)
        assert library.place(result) == library.place(on_device)
        same_bits(library.get(result), function(x, axis=-1))
        same_bits(library.get(on_device), x)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, (0, 1), (0, 2), (1, 2), (2, 0), None])
def test_axes_and_layouts(library, axis):
    x = drawn((9, 6, 33), "float32")
    plain = library.put(x)
    if isinstance(library, Numba) and axis in ((0, 2), (2, 0)):
        with pytest.raises(TypeError, match="pass an array in C order"):
            fastsoftmax.softmax(plain, axis=axis)
        return
    views = [(plain, x), (plain[1:], x[1:])]
    if not isinstance(library, Numba):
        views += [
            (plain[:, :, 1:-1], x[:, :, 1:-1]),
            (plain[::2, :, ::3], x[::2, :, ::3]),
            (plain[:, 2:3], x[:, 2:3]),
            (plain.swapaxes(0, 2), x.swapaxes(0, 2)),
            (plain.swapaxes(1, 2), x.swapaxes(1, 2)),
        ]
    for seen, right in views:
        for name in ("softmax", "logsumexp"):
            function = getattr(fastsoftmax, name)
            same_bits(library.get(function(seen, axis=axis)), function(right, axis=axis))


def test_strides_of_nothing_and_backwards():
    library = Torch()
    x = drawn((1, 50), "float32")
    same_bits(
        library.get(fastsoftmax.softmax(library.put(x).expand(30, 50), axis=0)),
        fastsoftmax.softmax(np.broadcast_to(x, (30, 50)), axis=0),
    )
    library = CuPy()
    x = drawn((20, 50), "float64")
    same_bits(
        library.get(fastsoftmax.softmax(library.put(x)[::-1, ::-2], axis=1)),
        fastsoftmax.softmax(x[::-1, ::-2], axis=1),
    )


@pytest.mark.parametrize("offset", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_begin_anywhere(dtype, offset):
    library = Torch()
    for length in (5, 64, 129, 1000, 5001, 40_000):
        flat = drawn(offset + 7 * length, dtype)
        x = flat[offset:].reshape(7, length)
        seen = library.put(flat)[offset:].view(7, length)
        same_bits(library.get(fastsoftmax.softmax(seen, axis=-1)), fastsoftmax.softmax(x, axis=-1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_masks(name, dtype):
    library, function = Torch(), getattr(fastsoftmax, name)
    for shape in ((40, 9), (30, 300), (20, 5000), (3, 90_000)):
        x = drawn(shape, dtype)
        mask = np.random.default_rng(1).random(shape) > 0.4
        mask[0] = False
        for where in (mask, mask[:1], mask[:, :1]):
            for axis in (0, 1):
                wanted = function(x, axis=axis, where=where)
                found = function(library.put(x), axis=axis, where=library.put(where))
                same_bits(library.get(found), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "entropy"])
def test_temperatures(name, dtype):
    library, function = Torch(), getattr(fastsoftmax, name)
    for shape in ((40, 9), (30, 300), (20, 5000), (3, 90_000)):
        x = drawn(shape, dtype)
        on_device = library.put(x)
        each = np.resize([0.5, 1, 3.7, 1e-3, 0, np.inf, 1e-300, 1e300], shape[0])[:, None]
        for temperature in (0.7, 3, 0, np.inf, 1e-290, 1e290, each):
            wanted = function(x, axis=-1, temperature=temperature)
            same_bits(library.get(function(on_device, axis=-1, temperature=temperature)), wanted)
        there = function(on_device, axis=-1, temperature=library.put(each))
        same_bits(library.get(there), wanted)


def test_temperatures_on_the_device_are_not_read_and_wrong_ones_give_nan():
    library = Torch()
    x, each = drawn((3, 10), "float32"), np.array([[1.0], [-1.0], [np.nan]])
    found = library.get(fastsoftmax.softmax(library.put(x), axis=-1, temperature=library.put(each)))
    same_bits(found[0], fastsoftmax.softmax(x[0]))
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels(library, dtype):
    if dtype not in library.dtypes:
        pytest.skip("a type that the library does not have")
    random = np.random.default_rng(7)
    for shape in ((3001, 7), (300, 1000), (40, 50_257), (2, 400_000), (20, 60, 33)):
        x = drawn(shape, dtype)
        for axis in range(x.ndim):
            several = random.integers(0, shape[axis], (*shape[:axis], 5, *shape[axis + 1 :]))
            for labels in (several, np.ascontiguousarray(several.take(0, axis))):
                wanted = fastsoftmax.label_log_probabilities(x, labels, axis)
                for given in (labels, library.put(labels)):
                    found = fastsoftmax.label_log_probabilities(library.put(x), given, axis)
                    same_bits(library.get(found), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest(library, dtype):
    if dtype not in library.dtypes:
        pytest.skip("a type that the library does not have")
    for shape in ((3001, 7), (300, 1000), (40, 50_257), (2, 400_000), (20, 60, 33)):
        x = drawn(shape, dtype)
        for axis in range(x.ndim):
            for k in {1, min(5, shape[axis])}:
                found = fastsoftmax.top_k(library.put(x), k, axis)
                for got, wanted in zip(found, fastsoftmax.top_k(x, k, axis), strict=True):
                    got = library.get(got)
                    if wanted.dtype == np.int64:
                        np.testing.assert_array_equal(got, wanted)
                    else:
                        same_bits(got, wanted)


def test_labels_on_the_device_are_not_read_and_wrong_ones_give_nan():
    library, x = Torch(), drawn((300, 100), "float32")
    labels = np.arange(300) % 100
    wanted = fastsoftmax.label_log_probabilities(x, labels)
    labels[::7], labels[3::7] = -1, 2**62
    found = library.get(fastsoftmax.label_log_probabilities(library.put(x), library.put(labels)))
    wrong = (labels < 0) | (labels >= 100)
    assert np.isnan(found[wrong]).all()
    same_bits(found[~wrong], wanted[~wrong])


def test_dtype_keepdims_and_integers(library):
    x = drawn((30, 40), "float32")
    on_device = library.put(x)
    found = fastsoftmax.logsumexp(on_device, axis=1, keepdims=True)
    same_bits(library.get(found), fastsoftmax.logsumexp(x, axis=1, keepdims=True))
    if isinstance(library, Numba):
        return  # whose arrays do not convert
    for dtype in ("float64", "float16"):
        found = fastsoftmax.softmax(on_device, axis=1, dtype=dtype)
        same_bits(library.get(found), fastsoftmax.softmax(x, axis=1, dtype=dtype))
    for kind in (np.int64, np.uint8, np.int8, bool):
        counts = np.random.default_rng(0).integers(0, 2, (7, 20)).astype(kind)
        found = fastsoftmax.softmax(library.put(counts), axis=1)
        same_bits(library.get(found), fastsoftmax.softmax(counts, axis=1))


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 2), (1,), (1, 1)])
def test_little_and_nothing(library, shape):
    x = np.zeros(shape, np.float32)
    for name in FUNCTIONS:
        function = getattr(fastsoftmax, name)
        for axis in (-1, 0):
            found = function(library.put(x), axis=axis)
            same_bits(library.get(found), np.asarray(function(x, axis=axis)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suite", CASE_SUITES)
def test_every_case_of_the_verification_has_the_cpus_bits(suite, dtype):
    for case in cases.all_cases(suite):
        if dtype not in case.dtypes or case.out:
            continue
        with np.errstate(all="ignore"):
            x = case.values(dtype, 0)
            options = {
                name: make(x)
                for name in ("where", "temperature")
                if (make := getattr(case, name)) is not None
            }
        for name in case.functions:
            function = getattr(fastsoftmax, name)
            try:
                wanted = function(x, axis=case.axis, **options)
            except (TypeError, ValueError) as error:
                with pytest.raises(type(error)):
                    function(x, axis=case.axis, target="cuda", **options)
                continue
            found = function(x, axis=case.axis, target="cuda", **options)
            assert type(found) is type(wanted), case.name
            same_bits(found, wanted)


def test_the_verification_holds_on_the_device():
    report = verification.verify(
        ["fastsoftmax"], suite=["hard", "properties"], dtype=["float32"], target="cuda"
    )
    assert report.holds, [str(result) for result in report.subjects[0].failures[:3]]


# --- out= and what is refused ----------------------------------------------------------------


def test_results_go_where_they_are_wanted(library):
    x = drawn((30, 50), "float32")
    wanted = fastsoftmax.softmax(x, axis=1)
    out = library.put(np.zeros_like(x))
    assert fastsoftmax.softmax(library.put(x), axis=1, out=out) is out
    same_bits(library.get(out), wanted)
    assert fastsoftmax.softmax(out, axis=1, out=out) is out  # in place
    same_bits(library.get(out), fastsoftmax.softmax(wanted, axis=1))
    short = library.put(np.zeros(30, np.float32))
    assert fastsoftmax.logsumexp(library.put(x), axis=1, out=short) is short
    same_bits(library.get(short), fastsoftmax.logsumexp(x, axis=1))


def test_results_go_into_any_layout_and_type():
    library = Torch()
    x = drawn((30, 50), "float32")
    wanted = fastsoftmax.softmax(x, axis=1)
    around = library.put(np.full((32, 104), 7, np.float32))
    fastsoftmax.softmax(library.put(x), axis=1, out=around[1:-1, 1:101:2])
    right = np.full((32, 104), 7, np.float32)
    right[1:-1, 1:101:2] = wanted
    same_bits(library.get(around), right)
    columns = library.put(np.zeros((50, 30), np.float32))
    fastsoftmax.softmax(library.put(x), axis=1, out=columns.T)
    same_bits(library.get(columns), np.ascontiguousarray(wanted.T))
    wide = library.put(np.zeros((30, 50), np.float64))
    fastsoftmax.softmax(library.put(x), axis=1, out=wide)
    right = np.zeros((30, 50))
    fastsoftmax.softmax(x, axis=1, out=right)
    same_bits(library.get(wide), right)


@pytest.mark.parametrize(
    "names", [("__cuda_array_interface__",), ("__dlpack__", "__dlpack_device__")]
)
def test_objects_that_only_export_their_memory(torch, names):
    x = drawn((30, 50), "float32")
    logits, memory = Torch().put(x), Torch().put(np.zeros_like(x))
    out = Exported(memory, *names)
    assert fastsoftmax.softmax(Exported(logits, *names), axis=1, out=out) is out
    same_bits(Torch().get(memory), fastsoftmax.softmax(x, axis=1))
    with pytest.raises(TypeError, match="out="):
        fastsoftmax.softmax(Exported(logits, *names), axis=1)


def test_what_is_on_the_host_is_refused_by_name(library):
    x = np.zeros((3, 4), np.float32)
    on_device = library.put(x)
    for arguments, name in (
        ((on_device, {"out": x}), "out"),
        ((on_device, {"where": x == 0}), "where"),
        ((x, {"out": on_device}), "out"),
        ((x, {"where": library.put(x == 0)}), "where"),
    ):
        logits, options = arguments
        with pytest.raises((TypeError, ValueError), match=name):
            fastsoftmax.softmax(logits, axis=-1, **options)
    same_bits(library.get(on_device), x)


def test_wrong_arguments_are_refused_before_anything_is_launched(torch):
    x = torch.zeros(3, 4, device="cuda")
    wrong = {
        "detach": {"x": torch.zeros(3, 4, device="cuda", requires_grad=True)},
        "out": {"out": torch.zeros(4, 3, device="cuda")},
        "overlap": {"x": torch.zeros(13, device="cuda")[1:].view(3, 4)},
        "boolean": {"where": torch.zeros(3, 4, device="cuda")},
        "temperature": {"temperature": -1.0},
        "axis": {"axis": 2},
        "complex": {"x": torch.zeros(3, 4, device="cuda", dtype=torch.complex64)},
        "target": {"target": "tpu"},
    }
    wrong["overlap"]["out"] = wrong["overlap"]["x"]._base[:-1].view(3, 4)
    for words, options in wrong.items():
        options = {"axis": -1} | options
        with pytest.raises((TypeError, ValueError), match=words):
            fastsoftmax.softmax(options.pop("x", x), **options)
    with pytest.raises((TypeError, ValueError), match="b"):
        fastsoftmax.logsumexp(x, axis=-1, b=2.0)


def test_an_error_of_the_device_is_raised_and_not_swallowed():
    program = """
import torch, fastsoftmax
x = torch.zeros(3, 4, device="cuda")
fastsoftmax.softmax(x, axis=-1)
try:
    torch.zeros(3, device="cuda")[torch.tensor([7], device="cuda")]
    torch.cuda.synchronize()
except Exception:
    pass
try:
    fastsoftmax.softmax(x, axis=-1)
    torch.cuda.synchronize()
except Exception as error:
    print("raised", error)
"""
    Torch()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("raised"), done.stderr
    assert "CUDA" in done.stdout


# --- streams ---------------------------------------------------------------------------------


def options_of(library, stream):
    """What a call is told of a stream that no library has for its current one."""
    return {"stream": stream} if isinstance(library, Numba) else {}


@pytest.mark.parametrize("shape", [(300, 1000), (40_000, 5), (2, 400_000), (50, 40_000)])
@pytest.mark.parametrize("name", ["softmax", "logsumexp"])
def test_a_call_is_in_order_with_what_is_queued_before_and_after(library, busy, name, shape):
    function = getattr(fastsoftmax, name)
    x = drawn(shape, "float32")
    stream, handle = library.stream()
    options = options_of(library, stream)
    values, others = library.put(x), library.put(np.full_like(x, 7))
    with library.current(stream):
        logits = library.put(np.zeros_like(x))
        for axis in (-1, 0):
            wanted = function(x, axis=axis)
            for milliseconds in (0, 20):  # the first time compiles
                library.get(logits)  # waits
                busy(handle, milliseconds)
                library.fill(logits, values, stream)
                found = function(logits, axis=axis, **options)
                library.fill(logits, others, stream)
                again = fastsoftmax.softmax(found, axis=0, **options)
            same_bits(library.get(found), wanted)
            same_bits(library.get(again), fastsoftmax.softmax(wanted, axis=0))


def test_a_stream_that_is_given_by_name(torch, busy):
    library = Torch()
    x = drawn((300, 1000), "float32")
    logits, values = library.put(np.zeros_like(x)), library.put(x)
    out, others = library.put(np.zeros_like(x)), library.put(np.full_like(x, 7))
    stream, handle = library.stream()
    fastsoftmax.softmax(logits, axis=-1, out=out)
    torch.cuda.synchronize()
    for given in (stream, handle):
        busy(handle, 20)
        library.fill(logits, values, stream)
        fastsoftmax.softmax(logits, axis=-1, out=out, stream=given)
        library.fill(logits, others, stream)
        same_bits(library.get(out), fastsoftmax.softmax(x, axis=-1))


@pytest.mark.parametrize("shape", [(1000, 100), (200, 3000), (30, 50_000), (1, 3_000_000)])
def test_a_call_does_not_wait_for_the_device(torch, busy, shape):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x = torch.randn(*shape, device="cuda")
        out, mask = torch.empty_like(x), x > 0
        temperature = torch.full((shape[0], 1), 0.5, device="cuda", dtype=torch.float64)
        calls = [
            lambda: fastsoftmax.softmax(x, axis=-1, out=out),
            lambda: fastsoftmax.softmax(x, axis=-1),
            lambda: fastsoftmax.softmax(x, axis=0, out=out),
            lambda: fastsoftmax.logsumexp(x, axis=-1),
            lambda: fastsoftmax.softmax(x, axis=-1, out=out, where=mask),
            lambda: fastsoftmax.softmax(x, axis=-1, out=out, temperature=temperature),
            lambda: fastsoftmax.softmax(x, axis=-1, out=out, temperature=0.5),
        ]
        for call in calls:
            call()
        for call in calls:
            torch.cuda.synchronize()
            before = torch.cuda.Event()
            busy(stream.cuda_stream, 300)
            before.record(stream)
            start = time.perf_counter()
            call()
            took = time.perf_counter() - start
            assert not before.query()  # what came before is not done yet
            assert took < 0.1
    torch.cuda.synchronize()


def test_threads_with_streams_of_their_own(torch):
    xs = [drawn((200 + 31 * i, 700 + 90 * i), "float32", i) for i in range(6)]
    wanted = [fastsoftmax.softmax(x, axis=-1) for x in xs]
    wrong = []

    def work(x, right):
        library = Torch()
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                on_device = library.put(x)
                for _ in range(40):
                    found = fastsoftmax.softmax(on_device, axis=-1)
                    torch.cuda.current_stream().synchronize()
                    same_bits(library.get(found), right)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(xs, wanted, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]


@pytest.mark.parametrize(
    ("shape", "axis"), [((300, 1000), -1), ((5000, 7), -1), ((1000, 60), 0), ((2, 700_000), -1)]
)
def test_a_call_is_captured_in_a_graph(torch, shape, axis):
    library = Torch()
    first, second = drawn(shape, "float32", 1), drawn(shape, "float32", 2)
    x = library.put(first)
    out = torch.empty_like(x)

    def calls():
        made = fastsoftmax.softmax(x, axis=axis)
        fastsoftmax.log_softmax(x, axis=axis, out=out, temperature=0.5)
        return made, fastsoftmax.logsumexp(x, axis=axis)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is compiled and loaded is not captured
        calls()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made, sums = calls()
    for values in (first, second, first):
        library.fill(x, library.put(values), torch.cuda.current_stream())
        graph.replay()
        same_bits(library.get(made), fastsoftmax.softmax(values, axis=axis))
        right = fastsoftmax.log_softmax(values, axis=axis, temperature=0.5)
        same_bits(library.get(out), right)
        same_bits(library.get(sums), fastsoftmax.logsumexp(values, axis=axis))


# --- several devices -------------------------------------------------------------------------


@pytest.fixture
def two(torch):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU is here, and two are needed")


@pytest.mark.usefixtures("two")
def test_the_device_is_the_arrays_and_not_the_current_one(torch):
    x = drawn((300, 1000), "float32")
    for current in (0, 1):
        with torch.cuda.device(current):
            for device in ("cuda:0", "cuda:1"):
                logits = torch.from_numpy(x).to(device)
                for shape in ((300, 1000), (1, 300_000)):
                    found = fastsoftmax.softmax(logits.view(shape), axis=-1)
                    assert found.device == logits.device
                    assert torch.cuda.current_device() == current
                    wanted = fastsoftmax.softmax(x.reshape(shape), axis=-1)
                    same_bits(found.cpu().numpy(), wanted)


@pytest.mark.usefixtures("two")
def test_what_is_on_another_device_is_refused_by_name(torch):
    x = torch.zeros(3, 4, device="cuda:0")
    other = torch.zeros(3, 4, device="cuda:1")
    for name, value in (
        ("out", other),
        ("where", other == 0),
        ("temperature", other[:, :1] + 1),
        ("stream", torch.cuda.Stream(device="cuda:1")),
    ):
        with pytest.raises((TypeError, ValueError), match=name):
            fastsoftmax.softmax(x, axis=-1, **{name: value})


# --- arrays of the host ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_the_host_go_there_and_back(dtype):
    # The second takes many chunks; the last is one row that is larger than any.
    for shape in ((30, 50), (2000, 50_257), (300_000, 33), (2, 30_000_000)):
        x = drawn(shape, dtype)
        for name in ("softmax", "logsumexp"):
            function = getattr(fastsoftmax, name)
            found = function(x, axis=-1, target="cuda")
            assert type(found) is np.ndarray
            same_bits(found, function(x, axis=-1))
        labels = np.arange(shape[0]) % shape[1]
        found = fastsoftmax.label_log_probabilities(x, labels, target="cuda")
        same_bits(found, fastsoftmax.label_log_probabilities(x, labels))
        probabilities, places = fastsoftmax.top_k(x, 3, target="cuda")
        wanted = fastsoftmax.top_k(x, 3)
        same_bits(probabilities, wanted[0])
        np.testing.assert_array_equal(places, wanted[1])


def test_arrays_of_the_host_with_all_that_a_call_takes():
    x = drawn((90, 70, 40), "float32")
    mask = np.random.default_rng(2).random(x.shape) > 0.3
    each = np.random.default_rng(3).random((90, 1, 40)) + 0.1
    for seen, axis in ((x, 1), (x[::2, ::-1, 3:], 1), (x.T, 1), (np.asfortranarray(x), 1)):
        options = {"where": None, "temperature": 1.0}
        if seen is x:
            options = {"where": mask, "temperature": each}
        wanted = fastsoftmax.softmax(seen, axis=axis, **options)
        out = np.zeros_like(wanted)
        assert fastsoftmax.softmax(seen, axis=axis, out=out, target="cuda", **options) is out
        same_bits(out, wanted)
    right = fastsoftmax.softmax(x, axis=None)
    same_bits(fastsoftmax.softmax(x, axis=None, target="cuda"), right)
    in_place = x.copy()
    assert fastsoftmax.softmax(in_place, axis=0, out=in_place, target="cuda") is in_place
    same_bits(in_place, fastsoftmax.softmax(x, axis=0))


def test_calls_leave_no_memory_behind(torch):
    x = torch.randn(50, 30_000, device="cuda")
    host = np.ones((500, 3000), np.float32)

    def calls():
        for _ in range(100):
            fastsoftmax.softmax(x, axis=-1)
            fastsoftmax.softmax(x, axis=0, temperature=np.full((1, 30_000), 2.0))
            fastsoftmax.logsumexp(x.view(1, -1), axis=-1)
        fastsoftmax.softmax(host, axis=-1, target="cuda")
        torch.cuda.synchronize()

    calls()
    before = torch.cuda.mem_get_info()[0]
    for _ in range(10):
        calls()
    assert before - torch.cuda.mem_get_info()[0] < 1 << 26


# --- the command line ------------------------------------------------------------------------


def test_the_command_line_on_the_device(tmp_path, capsys):
    from fastsoftmax.command import main

    x = drawn((400, 70), "float32")
    np.save(tmp_path / "x.npy", x)
    arguments = ["score", str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")]
    assert main([*arguments, "--target", "cuda"]) == 0
    same_bits(np.load(tmp_path / "y.npy"), fastsoftmax.softmax(x, axis=-1))
    assert main(["score", "--target", "cuda"]) == 0
    assert "17,970 of 17,970 within 2 ULP" in " ".join(capsys.readouterr().out.split())
    assert main(["info"]) == 0
    assert "compute capability" in capsys.readouterr().out


# --- what kernels are made of ------------------------------------------------------------------


@pytest.mark.parametrize("name", threads.CASES)
def test_what_a_thread_does(name):
    """The meaning that the simulator gives it."""
    from cuda import core

    from fastsoftmax.cuda import launch
    from fastsoftmax.cuda.batch import PARAMETERS

    case = threads.CASES[name]
    on = core.Device()
    on.set_current()
    capability = tuple(on.compute_capability)
    if case.clusters > 1 and capability < (9, 0):
        pytest.skip("there are no clusters before compute capability 9.0")
    code = launch.compiled(threads.body(case), (threads.THREADS, 1), capability)
    kernel = core.ObjectCode.from_cubin(code.machine).get_kernel(code.name)
    cluster = {"cluster": case.clusters} if case.clusters > 1 else {}
    layout = core.LaunchConfig(grid=threads.BLOCKS, block=threads.THREADS, **cluster)
    wanted = threads.wanted(case)
    library = Torch()
    x = library.put(threads.INPUTS)
    out = library.put(np.zeros(wanted.nbytes // 2, np.float16))
    arguments = [0] * (len(PARAMETERS) - 1) + [1.0]
    arguments[0], arguments[4] = x.data_ptr(), out.data_ptr()
    library.torch.cuda.synchronize()
    core.launch(core.Stream.from_handle(0), layout, kernel, *arguments)
    found = library.get(out).view(wanted.dtype)
    np.testing.assert_array_equal(threads.bits(found), threads.bits(wanted))
