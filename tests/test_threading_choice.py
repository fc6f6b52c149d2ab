"""Numba's threads in the place of our own, where they are asked for: on every layer of Numba."""

import os
import platform
import re
import subprocess
import sys

import pytest
from test_cache import entries
from test_threads import AT_EACH_INSTRUCTION, MODES, layers, run
from thorough import beyond_first

import fastsoftmax

NUMBAS = {"FASTSOFTMAX_THREADING": "numba"}

# Of the program's own, as in a program that has Numba's threads already.
PARALLEL = """
import numba
@numba.njit(parallel=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += x[i]
    return s
"""


def run_on(layer, program, **options):
    return run(program, NUMBA_THREADING_LAYER=layer, **options)


@pytest.mark.parametrize("layer", beyond_first(layers()))
def test_the_same_bits_without_threads_of_our_own(layer):
    program = """
from fastsoftmax.cpu import threads
import numba
fastsoftmax.set_threading("numba")
numbas = compute()
assert numba.threading_layer() == sys.argv[0]
assert not threads._helpers
fastsoftmax.set_threading("own")
assert compute() == numbas
assert len(threads._helpers) == 3
""".replace("sys.argv[0]", repr(layer))
    run_on(layer, program)


def test_numbas_threads_compute():
    """On workqueue, the calling thread waits while others compute."""
    program = """
x = np.ones((5000, 1000), np.float32)
fastsoftmax.softmax(x, axis=-1, out=x)  # compiled
own, everyones = time.thread_time(), time.process_time()
for _ in range(5):
    fastsoftmax.softmax(x, axis=-1, out=x)
assert time.thread_time() - own < 0.3 * (time.process_time() - everyones)
"""
    run_on("workqueue", program, **NUMBAS)


def test_the_number_of_threads_is_numbas():
    program = """
import numba
from fastsoftmax.cpu import threads
numba.set_num_threads(3)
print(threads.number(), threads.description())
numba.set_num_threads(1)
fastsoftmax.softmax(np.zeros((1500, 200)), axis=-1)
print(threads.number())
fastsoftmax.set_threading("own")
print(threads.description())
"""
    expected = "3 3, Numba's (workqueue)\n1\n1, of our own\n"
    assert run_on("workqueue", program, **NUMBAS).stdout == expected


@pytest.mark.parametrize("value", ["tbb", "Numba", "", None, ["numba"]])
def test_any_other_choice_is_an_error_that_names_it(value):
    with pytest.raises(
        ValueError, match=re.escape(f"threads must be 'own' or 'numba', not {value!r}")
    ):
        fastsoftmax.set_threading(value)


def test_the_environment_chooses():
    program = "from fastsoftmax.cpu import threads; print(threads.chosen())"
    for value, choice in (("numba", "numba"), ("own", "own"), ("", "own")):
        assert run(program, FASTSOFTMAX_THREADING=value).stdout == f"{choice}\n"
    result = run(program, FASTSOFTMAX_THREADING="omp", check=False)
    error = "FASTSOFTMAX_THREADING must be 'own' or 'numba', not 'omp'"
    assert result.stderr.endswith(f"ValueError: {error}\n")
    command = [sys.executable, "-m", "fastsoftmax", "info"]
    for value, status, said in (("omp", 2, f"fastsoftmax: {error}\n"), ("numba", 0, "")):
        env = os.environ | {"FASTSOFTMAX_THREADING": value, "NUMBA_THREADING_LAYER": "workqueue"}
        result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (status, said)
    assert re.search(r"threads     \d+, Numba's \(workqueue\)\n", result.stdout)


@pytest.mark.parametrize("layer", beyond_first(layers()))
def test_two_threads_that_call_at_once(layer):
    """An error on workqueue, which would abort the process; right elsewhere."""
    program = f"""
right = compute()
x = np.broadcast_to(np.float32(0), (100_000, 1000))
fastsoftmax.logsumexp(x, axis=-1)  # compiled
errors, calls = [], []
def serve():
    end = time.monotonic() + 60
    while not errors and len(calls) < {10**6 if layer == "workqueue" else 10}:
        assert time.monotonic() < end
        try:
            fastsoftmax.logsumexp(x, axis=-1)
            calls.append(1)
        except RuntimeError as error:
            errors.append(str(error))
servers = [threading.Thread(target=serve) for _ in range(3)]
for thread in servers: thread.start()
for thread in servers: thread.join()
assert compute() == right
print(*errors[:1])
"""
    said = run_on(layer, program, **NUMBAS).stdout
    assert ("another call is under way" in said) == (layer == "workqueue")


@pytest.mark.parametrize("layer", beyond_first(layers()))
def test_called_back_from_a_parallel_function_of_numbas(layer):
    """An error on workqueue, which would abort the process; right elsewhere."""
    program = """
import numba
errors = []
def called_back():
    for _ in range(3):
        fastsoftmax.softmax(np.zeros((3, 10)), axis=-1)  # small work is nobody else's
    try:
        return compute() == right
    except RuntimeError as error:
        errors.append(str(error))
        return False
@numba.njit(parallel=True)
def parallel(n):
    good = np.zeros(n, np.int64)
    for i in numba.prange(n):
        with numba.objmode(same="int64"):
            same = int(called_back())
        good[i] = same
    return good
fastsoftmax.set_threading("own")
right = compute()
fastsoftmax.set_threading("numba")
print(parallel(4).all(), *errors[:1])
assert compute() == right
"""
    said = run_on(layer, program).stdout
    if layer == "workqueue":
        assert "from within a parallel function" in said
    else:
        assert said == "True\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("started_by", ["fastsoftmax", "the program"])
@pytest.mark.parametrize("layer", beyond_first(layers()))
def test_a_child_that_is_forked_after_numbas_threads_were_started(layer, started_by):
    """An error with OpenMP, which would kill it, and not from our threads; right elsewhere."""
    program = f"""
right = compute()
if {started_by == "fastsoftmax"}:
    fastsoftmax.set_threading("numba")
    assert compute() == right
else:
    total(np.ones(1000))
    fastsoftmax.set_threading("numba")
child = os.fork()
if child == 0:
    try:
        status = int(compute() != right)
    except RuntimeError as error:
        fastsoftmax.set_threading("own")
        status = 2 if "forked" in str(error) and compute() == right else 1
    os._exit(status)
assert compute() == right
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    expected = 2 if layer == "omp" and sys.platform == "linux" else 0
    assert run_on(layer, PARALLEL + program).stdout == f"{expected}\n"


@pytest.mark.alone
@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.parametrize("layer", beyond_first(layers()))
def test_an_interrupt_stops_a_long_call(layer):
    """Some 10 billion logits, of which most are the same memory: half a minute at least."""
    program = """
import signal
fastsoftmax.set_threading("numba")
signal.signal(signal.SIGINT, signal.default_int_handler)
x = np.broadcast_to(rng.standard_normal(1000, dtype=np.float32), (10_000_000, 1000))
fastsoftmax.logsumexp(x[:1000], axis=-1)  # compiled
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
start = time.perf_counter()
try:
    fastsoftmax.logsumexp(x, axis=-1)
except KeyboardInterrupt:
    print(time.perf_counter() - start)
compute()
"""
    assert float(run_on(layer, program).stdout) < 0.5 + 0.3


@pytest.mark.parametrize("layer", beyond_first(layers()))
def test_nothing_is_written_once_any_instruction_has_raised(layer):
    """Nor is workqueue's gate left shut."""
    codes = """
from fastsoftmax.cpu import threads
codes, least = [threads.run.__code__, threads._run_team.__code__], 50
"""
    run_on(layer, codes + AT_EACH_INSTRUCTION, **NUMBAS)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="sets x86-64's control word"
)
@pytest.mark.parametrize("layer", beyond_first(layers()))
def test_the_mode_of_numbas_threads_changes_nothing(layer):
    """Subnormal numbers flushed and another rounding, in the calling thread and all of Numba's."""
    program = """
@numba.njit(parallel=True)
def set_modes(mode):
    for _ in numba.prange(1000):
        put(mode)
low = (rng.standard_normal((3000, 200)) * 45 - 90).astype(np.float32)
low[:, 0] = 0
cases += [(fastsoftmax.softmax, low, -1)]
right = compute()
p = np.frombuffer(right[-1], np.float32)
assert ((p > 0) & (p < np.finfo(np.float32).tiny)).any()  # subnormal results
fastsoftmax.set_threading("numba")
set_modes(0xffc0)
set_mode(0xffc0)
same = compute() == right
set_mode(0x1f80)
assert same
"""
    run_on(layer, MODES + program)


def test_what_runs_on_numbas_threads_is_kept(tmp_path):
    """Compiled beside one layer, and run by each."""
    program = """
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    fastsoftmax.softmax(np.zeros((1500, 200)), axis=-1)
    print(len(recorder.buffer))
"""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert int(run_on("workqueue", program, **NUMBAS, **cache).stdout) > 0
    assert "team" in [entry.name.split(".")[0] for entry in entries(tmp_path)]
    for layer in layers():
        assert run_on(layer, program, **NUMBAS, **cache).stdout == "0\n"
