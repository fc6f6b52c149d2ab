"""What is made of a softmax, in turns with what its time is held to and with other libraries.

python -m pytest tests/benchmarks/test_scoring_speed.py --benchmark-enable --benchmark-json run.json
python -m verification.speed run.json    # the README's table

The least of 20 rounds; calls of more than 60 ms have 5. Before each timed call the others' threads
are given 4 ms to fall asleep, and one call that is not timed wakes its own and fills the caches as
they are in use.
"""

import functools
import time

import numpy as np
import pytest

from benchmarks import peers, scoring

PAUSE, SLOW = 0.004, 0.06
CASES = [
    (question, shape)
    for shape in scoring.SHAPES
    for question in scoring.QUESTIONS
    if shape.shape in question.shapes
]


@functools.lru_cache(maxsize=1)
def given(shape):
    return scoring.Given(shape)


def case_name(value):
    return value.name.replace(" ", "")


def rested(call):
    """Sleep, and a call that is not timed."""
    time.sleep(PAUSE)
    call()


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def assert_same(ours, theirs):
    """What two libraries made of the same; of classes only how many, as ties and draws differ."""
    pairs = zip(ours, theirs, strict=True) if isinstance(ours, tuple) else [(ours, theirs)]
    for a, b in pairs:
        a, b = np.asarray(a), np.asarray(b.detach() if hasattr(b, "detach") else b)
        assert a.shape == b.shape
        if a.dtype.kind == "f":
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize(("question", "shape"), CASES, ids=case_name)
def test_scoring_speed(benchmark, request, question, shape):
    quick = request.config.getoption("--quick")
    if quick and not shape.quick:
        pytest.skip("not in the quick run")
    calls = {
        name: call
        for name, call in question.calls(given(shape.shape)).items()
        if name == scoring.BESIDE or peers.version(name)
    }
    ours = calls.pop(scoring.OURS)
    result = ours()
    for name in calls.keys() - {scoring.BESIDE}:  # which may write where our result is
        assert_same(result, calls[name]())
    rounds = {name: 5 if quick or seconds(call) > SLOW else 20 for name, call in calls.items()}
    times = {name: [] for name in calls}

    def others():
        for name, call in calls.items():
            if len(times[name]) < rounds[name]:
                rested(call)
                times[name].append(seconds(call))
        rested(ours)

    benchmark.group = f"{question.name} {shape.name}"
    benchmark.pedantic(ours, setup=others, rounds=5 if quick or seconds(ours) > SLOW else 20)
    milliseconds = {name: min(found) * 1e3 for name, found in times.items()}
    beside = milliseconds.pop(scoring.BESIDE)
    least = benchmark.stats.stats.min * 1e3
    benchmark.extra_info.update(
        question=question.name,
        beside=question.beside,
        dtype="float32",
        shape=" x ".join(map(str, shape.shape)),
        beside_ms=beside,
        ratio=least / beside,
        wanted=question.wanted if shape.shape[-1] >= question.wanted_from else None,
        peers_ms=milliseconds,
        wanted_of_peers=question.wanted_of_peers,
    )
