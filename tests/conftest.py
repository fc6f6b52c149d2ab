"""Every run compiles afresh: a cache left by an earlier one could hide a stale kernel."""

import atexit
import collections
import os
import shutil
import tempfile

import pytest

try:
    import fcntl
except ImportError:  # Windows: there, times are held beside other tests
    fcntl = None

if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache = tempfile.mkdtemp(prefix="fastsoftmax-tests-")
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    # For this process and all that it starts: pytest's workers, and what tests run.
    os.environ["NUMBA_CACHE_DIR"] = _cache

# What is run in processes of its own, by test_examples.py and, in Numba's simulator, test_cuda.py.
collect_ignore = ["examples"]
if "NUMBA_ENABLE_CUDASIM" not in os.environ:
    collect_ignore += ["simulated_cases.py", "simulated_kernels.py"]

_LOCK = os.path.join(os.environ["NUMBA_CACHE_DIR"], "tests.lock")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test that holds a time has the machine to itself: all workers' other tests wait."""
    if fcntl is None:
        return (yield)
    with open(_LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Benchmarks have the machine to themselves."""
    if config.getoption("benchmark_enable") and hasattr(config.option, "numprocesses"):
        config.option.numprocesses = 0


def pytest_terminal_summary(terminalreporter):
    """Why tests that need a GPU were skipped, in one line."""
    reports = terminalreporter.stats.get("skipped", [])  # a file's, too, which has no keywords
    skipped = [r for r in reports if "gpu" in getattr(r, "keywords", ())]
    reasons = collections.Counter(r.longrepr[2].removeprefix("Skipped: ") for r in skipped)
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} tests marked gpu skipped: {reason}")
