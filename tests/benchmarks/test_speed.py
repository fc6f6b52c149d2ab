"""Every library on every shape, in turns with the copy (for logsumexp: with reading alone).

python -m pip install '.[test,peers]' && python -m pytest tests/benchmarks --benchmark-enable

The least of 20 rounds, each preceded by a round of the yardstick, so that a busy moment hits
both; calls of more than 60 ms have 5. Nothing else should run. `--benchmark-json FILE` keeps the
figures, of which `python -m verification.speed FILE` makes the README's table and its figure.
"""

import functools
import time

import numpy as np
import pytest

from benchmarks import peers, yardstick
from benchmarks.regimes import SHAPES

FUNCTIONS = ["softmax", "log_softmax", "logsumexp"]
# float64 beside the two peers that come closest
CASES = [
    (function, dtype, shape, library)
    for dtype in ("float32", "float64")
    for shape in SHAPES
    for function in (FUNCTIONS if dtype == "float32" else ["softmax"])
    for library in (peers.LIBRARIES if dtype == "float32" else ["fastsoftmax", "torch"])
]


@functools.lru_cache(maxsize=1)
def logits(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape, dtype=dtype)
    x *= 3
    return x


@functools.lru_cache(maxsize=1)
def result_like(shape, dtype):
    return np.zeros(shape, dtype)


def case_name(value):
    return value.name.replace(" ", "") if hasattr(value, "name") else value


@pytest.mark.parametrize(("function", "dtype", "shape", "library"), CASES, ids=case_name)
def test_speed(benchmark, request, function, dtype, shape, library):
    quick = request.config.getoption("--quick")
    if quick and not (shape.quick and dtype == "float32"):
        pytest.skip("not in the quick run")
    if peers.version(library) is None:
        pytest.skip(peers.missing()[library])
    x = logits(shape.shape, dtype)
    reduced = tuple(n for i, n in enumerate(shape.shape) if i != shape.axis % len(shape.shape))
    out = result_like(reduced if function == "logsumexp" else shape.shape, dtype)
    call = peers.LIBRARIES[library](function, x, shape.axis, out)
    if call is None:
        pytest.skip(f"{library} has no such function")
    measure = yardstick.reading if function == "logsumexp" else yardstick.copying
    pace = measure(x)
    call(), pace()
    start = time.perf_counter()
    call()
    slow = time.perf_counter() - start > 0.06
    rounds = 5 if slow or quick else 20
    paces = []

    def setup():
        before = time.perf_counter()
        pace()
        paces.append(time.perf_counter() - before)

    benchmark.group = f"{function} {dtype} {shape.name}"
    benchmark.pedantic(call, setup=setup, rounds=rounds, warmup_rounds=1)
    least = benchmark.stats.stats.min
    moved = x.nbytes if function == "logsumexp" else 2 * x.nbytes
    benchmark.extra_info.update(
        library=library,
        function=function,
        dtype=dtype,
        regime=shape.regime,
        shape=shape.name,
        length=shape.shape[shape.axis],
        rounds=rounds,
        wanted_of_pace=shape.copy,
        wanted_of_peer=shape.peer,
        pace_ms=min(paces) * 1e3,
        ratio=least / min(paces),
        gigabytes_per_second=moved / least / 1e9,
    )
