"""Benchmarks run when asked for: `python -m pytest tests/benchmarks --benchmark-enable`."""


def pytest_ignore_collect(collection_path, config):
    return None if config.getoption("benchmark_enable") else True
