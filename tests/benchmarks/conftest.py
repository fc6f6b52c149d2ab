"""Benchmarks, run when asked for: `python -m pytest tests/benchmarks --benchmark-enable`."""

import os

# Everyone gets as many threads as Numba takes; to be set before any library is loaded.
# And none goes on spinning in wait for more to do while another is measured: on 2 cores that took
# a fifth of their time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("NUMBA_NUM_THREADS", str(os.cpu_count())))


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="few shapes and few rounds, in a minute")


def pytest_ignore_collect(collection_path, config):
    # Other modules need what may not be here, as a GPU; and have no tests.
    wanted = collection_path.is_dir() or collection_path.name.startswith("test_")
    return None if wanted and config.getoption("benchmark_enable") else True


def pytest_benchmark_update_machine_info(config, machine_info):
    from benchmarks import peers

    machine_info.update(peers.machine())


def pytest_terminal_summary(terminalreporter):
    from benchmarks import peers

    missing = peers.missing()
    if missing:
        terminalreporter.section("libraries that are not compared")
        for name, reason in missing.items():
            terminalreporter.write_line(f"{name}: {reason}")
