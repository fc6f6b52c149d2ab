"""What the machine can do: a parallel copy with plain stores, and a parallel maximum.

On the same threads as everything else, in vectorised loops.
"""

import numba
import numpy as np
from numba import njit, prange


@njit(parallel=True)
def _copy(source, target, chunks):
    size = source.size
    for chunk in prange(chunks):
        x = source[size * chunk // chunks : size * (chunk + 1) // chunks]
        y = target[size * chunk // chunks : size * (chunk + 1) // chunks]
        for i in range(x.size):
            y[i] = x[i]


@njit(parallel=True, fastmath=True)
def _read(source, sums, chunks):
    # A maximum, of integers, as LLVM vectorises no maximum of floats.
    size = source.size
    for chunk in prange(chunks):
        x = source[size * chunk // chunks : size * (chunk + 1) // chunks]
        largest = x[0]
        for i in range(x.size):
            largest = max(largest, x[i])
        sums[chunk] = largest


def copying(x):
    """A call that copies the bytes of an array, into memory that is there already."""
    source = x.reshape(-1).view(np.int32)
    target = np.zeros_like(source)
    threads = numba.get_num_threads()
    return lambda: _copy(source, target, threads)


def reading(x):
    """A call that only reads them."""
    source = x.reshape(-1).view(np.int32)
    threads = numba.get_num_threads()
    sums = np.zeros(threads, source.dtype)
    return lambda: _read(source, sums, threads)
