"""Kernels for columns: temperatures of every stride, and scratch memory that is not there."""

import numpy as np
import pytest
from placed import in_a_process
from scipy.special import softmax as scipy_softmax

from fastsoftmax import softmax
from fastsoftmax.cpu.sizes import BLOCK


@pytest.mark.parametrize("length", [3, BLOCK + 1])
def test_temperatures_of_any_strides(length):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, length, 17))
    whole = rng.uniform(0.5, 2, (6, 1, 34))
    for temperature in (
        whole[:3, :, :17],
        whole[2::-1, :, 16::-1],  # neighbours that lie behind
        whole[::2, :, ::2],
        whole[:3, :, :1],  # one for all neighbours
        whole[:1, :, :17],
    ):
        got = softmax(x, axis=1, temperature=temperature)
        np.testing.assert_allclose(got, scipy_softmax(x / temperature, axis=1), rtol=1e-13)


def test_where_there_is_no_scratch_memory_nothing_is_written():
    pytest.importorskip("resource", reason="POSIX limits")
    program = """
import resource, numpy as np
from fastsoftmax import log_softmax, logsumexp, softmax
x = np.zeros((2000, 200))
out, total = np.full_like(x, 7), np.full(200, 7.0)
calls = [(softmax, out), (log_softmax, out), (logsumexp, total)]
for function, _ in calls:
    function(x, axis=0)  # compiles
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held, resource.RLIM_INFINITY))
hoard = []  # what is left in holes of the heap, but for a piece that is less than a call wants
try:
    while True:
        hoard.append(bytearray(1 << 17))
except MemoryError:
    del hoard[-1:]
for function, target in calls:
    try:
        function(x, axis=0, out=target)
    except MemoryError:
        print(target.min() == target.max() == 7)
"""
    printed = in_a_process(program, NUMBA_NUM_THREADS="1")
    assert printed.split() == ["True"] * 3
