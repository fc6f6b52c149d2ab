"""The same bits alone and in any batch, on any number of threads, at any alignment, on any CPU."""

import hashlib
import os
import platform
import subprocess
import sys

import ml_dtypes
import numba
import numpy as np
import pytest

from fastsoftmax import entropy, log_softmax, logsumexp, softmax
from fastsoftmax.cpu import plan

FUNCTIONS = [softmax, log_softmax, logsumexp, entropy]
TYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
LENGTHS = [1, 2, 3, 7, 8, 9, 31, 100, 1000, 4097, 20000]


def batch(dtype, rows, length):
    rng = np.random.default_rng([rows, length])
    return (rng.standard_normal((rows, length)) * 8).astype(dtype)


def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def everything():
    """Results of every function in rows and columns, of other types, masks and temperatures."""
    for dtype in (np.float32, np.float64):
        for length in (1, 5, 8, 33, 1000, 9001):
            x = batch(dtype, 7, length)
            for function in FUNCTIONS:
                yield function(x, axis=1)
                yield function(x, axis=0)
            yield softmax(x, axis=1, temperature=0.37)
            yield softmax(x, axis=1, where=x < 3)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        yield softmax(batch(dtype, 7, 1003), axis=1)
        yield log_softmax(batch(dtype, 7, 1003), axis=0)
    yield logsumexp(batch(np.float64, 7, 9001), axis=1, b=np.cos(np.arange(9001)), return_sign=True)
    x = batch(np.float32, 300, 777)  # enough for all threads
    assert x.size >= plan.PARALLEL_FROM
    for function in FUNCTIONS:
        yield function(x, axis=1)
        yield function(x, axis=0)
    yield softmax(x, axis=0, where=x < 3)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_row_alone_and_in_batches_of_any_size(function, dtype):
    for length in LENGTHS:
        x = batch(dtype, 150, length)
        whole = function(x, axis=-1)
        for row in (0, 74, 149):
            assert digest([function(x[row])]) == digest([whole[row]])
        assert digest([function(x[3:77], axis=-1)]) == digest([whole[3:77]])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_rows_and_columns_and_strides(function, dtype):
    for length in LENGTHS[:-1]:
        x = batch(dtype, 40, length)
        whole = function(x, axis=-1)
        for seen in (
            np.asfortranarray(x),
            np.repeat(x, 2, axis=1)[:, ::2],
            np.repeat(x, 2, axis=0)[::2],
            x[:, ::-1].copy()[:, ::-1],
            np.concatenate([x, x], axis=1)[:, :length],
        ):
            assert digest([function(seen, axis=-1)]) == digest([whole])
        down = function(np.ascontiguousarray(x.T), axis=0)
        assert digest([down.T]) == digest([whole])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_any_alignment_of_input_and_output(function, dtype):
    x = batch(dtype, 5, 1003)
    whole = function(x, axis=-1)
    memory = np.zeros(x.nbytes + 64, np.uint8)
    target = np.zeros(whole.nbytes + 64, np.uint8)
    for shift in range(0, 64, 5):
        shifted = memory[shift : shift + x.nbytes].view(x.dtype).reshape(x.shape)
        shifted[:] = x
        out = target[63 - shift : 63 - shift + whole.nbytes].view(x.dtype).reshape(whole.shape)
        if function is entropy:  # has no out
            out = function(shifted, axis=-1)
        else:
            function(shifted, axis=-1, out=out)
        assert digest([out]) == digest([whole])


def in_a_process(**environment):
    """The digest of ``everything``, the vector width of the code and the threads, elsewhere."""
    program = (
        "import _thread, test_same_bits as t; from fastsoftmax.cpu import plan;"
        "print(t.digest(t.everything()), plan.cpu()[1], _thread._count() + 1)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.path.dirname(__file__)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    result, width, threads = run.stdout.split()
    return result, int(width), int(threads)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_threads(count):
    result, _, threads = in_a_process(NUMBA_NUM_THREADS=str(count))
    assert threads == count
    assert result == digest(everything())


AVX2 = "+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+lzcnt"
AVX512 = AVX2 + ",+avx512f,+avx512vl,+avx512bw,+avx512dq,+avx512cd"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 code is compared")
@pytest.mark.parametrize(
    ("name", "features", "width"),
    [
        ("haswell", AVX2, 256),
        # slow: where this can run, the host's own code has that width, too
        pytest.param("skylake-avx512", AVX512, 512, marks=pytest.mark.slow),
    ],
)
def test_code_for_avx2_and_for_avx512(name, features, width):
    host = numba.core.codegen.get_host_cpu_features().split(",")
    if not set(features.split(",")) <= set(host):
        pytest.skip(f"this CPU cannot run code for {name}")
    result, used, _ = in_a_process(NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features)
    assert used == width
    assert result == digest(everything())
