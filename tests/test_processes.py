"""Processes: forks at every moment, pools, workers, clusters, each as a program of its own."""

import multiprocessing
import os
import subprocess
import sys

import pytest
from test_threads import SETUP, layers, run
from thorough import beyond_first

from fastsoftmax.cpu import threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("layer", beyond_first(layers()))
def test_a_server_that_forks_its_workers_when_it_is_warm(layer):
    program = """
import numba
@numba.njit(parallel=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += x[i]
    return s
total(np.ones(1000))  # Numba's threads run in the parent, too
from fastsoftmax.cpu import threads
right = compute()
assert len(threads._helpers) == 3
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        none = not threads._helpers
        good = none and all(compute() == right for _ in range(3)) and len(threads._helpers) == 3
        os._exit(0 if good else 1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
assert compute() == right
"""
    run(program, NUMBA_THREADING_LAYER=layer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_other_threads_compute():
    program = """
right = compute()
stop = []
def busy():
    while not stop:
        compute()
background = [threading.Thread(target=busy) for _ in range(3)]
for thread in background: thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        os._exit(0 if compute() == right else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.append(True)
for thread in background: thread.join()
"""
    run(program)


# A child that is forked when another thread has begun to act: both compute.
FORKED_BESIDE = """
import signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks
thread = threading.Thread(target=act)
thread.start()
begun.wait()
child = os.fork()
signal.alarm(40)
if child == 0:
    os._exit(0 if fastsoftmax.softmax([0.0, 0.0])[0] == 0.5 else 1)
assert os.waitpid(child, 0)[1] == 0
thread.join()
assert fastsoftmax.logsumexp([0.0]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_another_thread_compiles(tmp_path):
    program = """
from numba.core.compiler_lock import global_compiler_lock
begun = threading.Event()
def act():
    with global_compiler_lock:
        begun.set()
        time.sleep(0.3)
"""
    run(program + FORKED_BESIDE, timeout=90, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_another_thread_imports_what_compiles(tmp_path):
    program = """
begun = threading.Event()
class Slowly:
    def find_spec(self, name, path=None, target=None):
        if name == "fastsoftmax.cpu.across" and not begun.is_set():
            begun.set()
            time.sleep(0.3)
sys.meta_path.insert(0, Slowly())
def act():
    fastsoftmax.softmax([0.0, 0.0])
"""
    run(program + FORKED_BESIDE, timeout=90, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pools_of_processes(method, tmp_path):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} here")
    script = tmp_path / "pooled.py"
    script.write_text(
        SETUP
        + f"""
import multiprocessing
def answer(_):
    return compute()
if __name__ == "__main__":
    right = compute()
    with multiprocessing.get_context({method!r}).Pool(3) as pool:
        assert all(given == right for given in pool.map(answer, range(9)))
"""
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=120)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_workers_that_load_data_while_their_parent_computes():
    """As PyTorch's DataLoader: forked when warm, fed by queues, results in shared memory."""
    program = """
import multiprocessing
right = compute()
fork = multiprocessing.get_context("fork")
asked, given = fork.Queue(), fork.Queue()
function, x, axis = cases[12]
shared = fork.RawArray("f", 4 * x.size)
slots = np.frombuffer(shared, np.float32).reshape(4, *x.shape)
def work():
    while (number := asked.get()) is not None:
        function(x + np.float32(number), axis=axis, out=slots[number % 4])
        given.put((number, compute() == right))
workers = [fork.Process(target=work, daemon=True) for _ in range(2)]
for worker in workers: worker.start()
for number in range(2): asked.put(number)
for number in range(20):
    done, same = given.get(timeout=60)
    assert same
    assert (slots[done % 4] == function(x + np.float32(done), axis=axis)).all()
    asked.put(number + 2 if number + 2 < 20 else None)
    assert compute() == right
for worker in workers: worker.join(60)
assert [worker.exitcode for worker in workers] == [0, 0]
"""
    run(program)


def test_joblib(tmp_path):
    script = tmp_path / "scored.py"
    script.write_text(
        SETUP
        + """
import joblib
from fastsoftmax.cpu import threads
def answer(_):
    return compute(), threads.number(), os.getpid()
if __name__ == "__main__":
    right = compute()
    for backend in ("loky", "threading"):
        several = joblib.Parallel(n_jobs=2, backend=backend)
        given = several(joblib.delayed(answer)(i) for i in range(6))
        assert all(bits == right for bits, _, _ in given)
        here = [pid == os.getpid() for _, _, pid in given]
        assert all(here) if backend == "threading" else not any(here)
        print(backend, max(number for _, number, _ in given))
"""
    )
    env = {k: v for k, v in os.environ.items() if k != "NUMBA_NUM_THREADS"}
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=env, timeout=120
    )
    assert result.returncode == 0, result.stderr[-2000:]
    loky, threading = result.stdout.split("\n")[:2]
    cpus = min(threads._affinity(), threads._quota())
    # loky leaves each of two processes its part of the CPUs; threads share our helpers
    assert loky == f"loky {max(1, cpus // 2)}"
    assert threading == f"threading {cpus}"


def test_a_cluster_of_dask(tmp_path):
    script = tmp_path / "clustered.py"
    script.write_text(
        SETUP
        + """
def answer(_):
    from fastsoftmax.cpu import threads
    return compute(), threads.number()
if __name__ == "__main__":
    from distributed import Client, LocalCluster
    right = compute()
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            given = client.gather(client.map(answer, range(8)))
    assert all(bits == right for bits, _ in given)
    print(max(number for _, number in given))
"""
    )
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout) <= min(threads._affinity(), threads._quota())
