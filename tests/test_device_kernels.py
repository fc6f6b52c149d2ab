"""Calls on a GPU's arrays, with the kernels, in Numba's simulator: processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = """
import itertools, sys
import ml_dtypes
import numpy as np
from simulated_device import OnDevice, Standard
from fastsoftmax import (
    entropy, label_log_probabilities, log_softmax, logsumexp, softmax, top_k,
)
from fastsoftmax.cuda import staged

FUNCTIONS = softmax, log_softmax, logsumexp, entropy
rng = np.random.default_rng(0)
X = rng.standard_normal((2, 5, 3)) * 8
X[0, 1, 2], X[1, 0, 0] = -np.inf, np.nan

def same(got, wanted):
    got = np.asarray(getattr(got, "array", got))
    assert got.dtype == wanted.dtype and got.shape == np.shape(wanted), (got, wanted)
    assert got.tobytes() == np.asarray(wanted).tobytes() or np.array_equal(
        got.astype(np.float64), np.asarray(wanted, np.float64), equal_nan=True
    ), (got, wanted)
"""

ON_A_DEVICE = """
for dtype, function in itertools.product((np.float32, ml_dtypes.bfloat16), FUNCTIONS):
    x = X.astype(dtype)
    for axis in (-1, (0, 2)):
        same(function(Standard(x.T), axis), function(x.T, axis))
    options = {"where": rng.random(x.shape) < 0.7}
    if function is not logsumexp:
        options["temperature"] = np.array([0.0, 0.5, np.inf])
    there = {name: Standard(value) for name, value in options.items()}
    same(function(Standard(x), 1, **there), function(x, 1, **options))
    nothing = np.zeros((2, 0), dtype)
    same(function(Standard(nothing), -1), function(nothing, -1))
for x in (X, X.astype(ml_dtypes.bfloat16).T):
    for axis in range(3):
        labels = rng.integers(0, x.shape[axis], x.shape)
        for given in (labels, labels.take(1, axis)):
            wanted = label_log_probabilities(x, given, axis)
            for there in (given, Standard(given), Standard(given.astype(np.int8))):
                same(label_log_probabilities(Standard(x), there, axis), wanted)
        for got, wanted in zip(top_k(Standard(x), 2, axis), top_k(x, 2, axis)):
            same(got, wanted)
# Columns that are read four at a time: all four have as many lines.
x, mask = (rng.standard_normal((20, 256)) * 4).astype(np.float32), rng.random((20, 256)) > 0.4
same(softmax(Standard(x), 0, where=Standard(mask)), softmax(x, 0, where=mask))
x = OnDevice(X.copy())
assert softmax(x, 1, out=x) is x
same(x, softmax(X, 1))
# What a device has is not read beforehand: rows of such temperatures are NaN, the others right.
heat = np.array([-1.0, np.nan, 2.0])
got = softmax(Standard(np.ones((2, 3))), 0, temperature=Standard(heat)).array
assert np.isnan(got[:, :2]).all() and (got[:, 2] == 0.5).all(), got
"""

FROM_THE_HOST = """
staged.PIECE = 512
x = rng.standard_normal((4, 12, 5)).astype(np.float32)
for function, given in itertools.product((softmax, logsumexp), (x, x.T, x[:, :, 0])):
    same(function(given, 1, target="cuda"), function(given, 1))
labels = rng.integers(0, 12, (4, 2, 5))
for given, at in ((x, labels), (x, labels[:, 0]), (x[:, :, 0], labels[:, :, 0])):
    wanted = label_log_probabilities(given, at, 1)
    same(label_log_probabilities(given, at, 1, target="cuda"), wanted)
for given in (x, x[:, :, 0], x.T):
    for got, wanted in zip(top_k(given, 4, 1, target="cuda"), top_k(given, 4, 1)):
        same(got, wanted)
masked = np.ma.MaskedArray(x[0], x[0] > 0.5)
same(softmax(masked, 1, target="cuda").data, softmax(masked, 1).data)
heat = rng.random((4, 1, 5))
mask = rng.random(x.shape) < 0.5
options = {"where": mask, "temperature": heat}
same(softmax(x, 1, target="cuda", **options), softmax(x, 1, **options))
for heat in (0.0, np.inf, [[0.0], [np.inf], [1e-300], [1e300]]):
    got = softmax(x[:, :, 0], 1, target="cuda", temperature=heat)
    same(got, softmax(x[:, :, 0], 1, temperature=heat))
"""

NUMBAS = """
from numba import cuda
x = cuda.to_device(X)
for function in FUNCTIONS:
    got = function(x, 1)
    assert type(got) is type(x)
    same(got.copy_to_host(), function(X, 1))
out = cuda.device_array(X.shape, np.float64)
assert softmax(x, -1, out=out, where=cuda.to_device(X > 0)) is out
same(out.copy_to_host(), softmax(X, -1, where=X > 0))
"""


@pytest.mark.parametrize("program", [ON_A_DEVICE, FROM_THE_HOST, NUMBAS])
def test_in_the_simulator(program):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    environment = dict(os.environ, NUMBA_ENABLE_CUDASIM="1", PYTHONPATH=os.pathsep.join(paths))
    command = [sys.executable, "-W", "error", "-c", SETUP + program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
