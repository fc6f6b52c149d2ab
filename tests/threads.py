"""What both twins of a GPU's thread must do: small kernels, and what they give.

test_cuda_code.py compiles them, test_gpu.py runs them on a device, simulated_kernels.py without.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    FLOAT,
    INT64,
    Value,
    Variables,
    bits_of,
    fma,
    in_64_bits,
    loop,
    narrowed,
    number,
    to_real,
    when,
)
from fastsoftmax.cuda.device import device

THREADS, BLOCKS = 64, 3
INPUTS = np.array([1.0, 1 + 2.0**-12, 3e38, 6e-8, 1e-45, 65520.0, -0.0, 1 / 3] * 8)


class Case(NamedTuple):
    """What each thread is to store, from where it reads, and what that is to be."""

    write: Callable[[Value], Value]
    expected: Callable[[Any, Any, Any], Any]
    clusters: int = 1
    storage: str = "int64"


CASES = {}


def case(expected, **options):
    def note(write):
        CASES[write.__name__] = Case(write, expected, **options)
        return write

    return note


def body(case):
    """The kernel of a case, with the parameters of all kernels: ``x`` and ``out`` are used."""

    def write(*values):
        x, out = values[0], values[4]
        d = device()
        place = d.thread() + d.block() * THREADS
        size = {"int64": 8, "float16": 2, "bfloat16": 2}[case.storage]
        d.store(out + place * size, case.storage, [case.write(x)])

    return write


def wanted(case):
    """What a case is to give, for all threads of all blocks."""
    thread = np.tile(np.arange(THREADS), BLOCKS * case.clusters)
    block = np.repeat(np.arange(BLOCKS * case.clusters), THREADS)
    return np.asarray(case.expected(thread, block, np.tile(INPUTS, BLOCKS * case.clusters)))


def bits(x):
    return x.view(f"i{x.itemsize}").astype(np.int64)


def logit(x, kind=FLOAT):
    """The input of this thread, in float32 or float64."""
    (value,) = device().load(x + device().thread() * 8, "float64")
    return value if kind == DOUBLE else narrowed(value, kind)


def as_bits(value):
    return in_64_bits(bits_of(value))


@case(lambda t, b, x: t + 1000 * b)
def places(x):
    return device().thread() + device().block() * 1000


@case(lambda t, b, x: 0 * t + BLOCKS)
def blocks(x):
    return device().blocks()


@case(lambda t, b, x: (t ^ 5) << 40)
def exchanged_integers(x):
    value = device().thread() << 40
    return device().exchanged(device().exchanged(value, 1), 4)


@case(lambda t, b, x: bits(x.astype(np.float32))[np.arange(len(t)) ^ 16])
def exchanged_numbers(x):
    return as_bits(device().exchanged(logit(x), 16))


@case(lambda t, b, x: bits(x)[np.arange(len(t)) ^ 2])
def exchanged_doubles(x):
    return as_bits(device().exchanged(logit(x, DOUBLE), 2))


@case(lambda t, b, x: 10 * ((t + 33) % THREADS))
def shared_by_a_block(x):
    memory, thread = device().shared("test", INT64, THREADS), device().thread()
    memory.store(thread, thread * 10)
    device().barrier()
    return memory.load((thread + 33) % THREADS)


@case(lambda t, b, x: 100 * ((b + 1) % 2) + b % 2, clusters=2)
def shared_by_a_cluster(x):
    memory, rank = device().shared("test", INT64, 1), device().rank()
    for _ in when(device().thread() == 0):
        memory.store(0, rank * 100)
    device().cluster_barrier()
    found = memory.of((rank + 1) % 2, 0)
    device().cluster_barrier()
    return found + rank


@case(lambda t, b, x: np.where(t % 3 == 0, t * (t - 1) // 2, -1))
def loops_and_conditions(x):
    total = Variables(number(-1, INT64))
    for _ in when(device().thread() % 3 == 0):
        total.set(number(0, INT64))
        for i in loop(0, device().thread()):
            total.set(total.get()[0] + i)
    return total.get()[0]


TABLES = tuple(tuple(2.0 ** (k + s) for k in range(8)) for s in (0, 20))


@case(lambda t, b, x: bits(np.float32(2.0 ** (t % 8) + 2.0 ** (t % 8 + 20))))
def tables(x):
    device().prepare(TABLES, FLOAT)
    index = bits_of(narrowed(to_real(device().thread()), FLOAT) + 1.5 * 2.0**23)
    low, high = device().lookup(index, TABLES)
    return as_bits(low + high)


def _fused(t, b, x):
    x = x.astype(np.float32)
    with np.errstate(over="ignore"):  # 64 bits hold a product of 24
        return bits((x.astype(np.longdouble) * x - 1).astype(np.float32))


@case(_fused)
def multiplications_with_additions_fused(x):
    return as_bits(fma(logit(x), logit(x), -1.0))


def _apart(t, b, x):
    with np.errstate(over="ignore"):
        return bits(x.astype(np.float32) * x.astype(np.float32) - np.float32(1))


@case(_apart)
def multiplications_with_additions_apart(x):
    return as_bits(logit(x) * logit(x) - 1.0)


@case(lambda t, b, x: bits(1 / (x + 3)))
def divisions(x):
    return as_bits(1.0 / (logit(x, DOUBLE) + 3.0))


def _rounded(dtype):
    def expected(t, b, x):
        with np.errstate(over="ignore"):
            return x.astype(np.float32).astype(dtype)

    return expected


@case(_rounded(np.float16), storage="float16")
def stored_as_float16(x):
    return logit(x)


@case(_rounded(ml_dtypes.bfloat16), storage="bfloat16")
def stored_as_bfloat16(x):
    return logit(x)


@case(lambda t, b, x: bits(x[t ^ 1]))
def two_at_once(x):
    d = device()
    pair = d.load(x + d.thread() // 2 * 16, "float64", 2)
    other = Variables(pair[1])
    for _ in when(d.thread() % 2 == 1):
        other.set(pair[0])
    return as_bits(other.get()[0])
