"""A pytest plugin: SciPy's own tests call our functions, and each call is counted.

SciPy's test file imports the functions by name, and its table of capabilities is keyed by
SciPy's own; so ours take their places once the file is imported.
"""

import functools
import json
import os

import fastsoftmax

NAMES = ("softmax", "log_softmax", "logsumexp")
calls = dict.fromkeys(NAMES, 0)
report = {"passed": 0, "other": [], "without a call": []}


def _counted(name):
    function = getattr(fastsoftmax, name)

    @functools.wraps(function)
    def counted(*args, **kwargs):
        calls[name] += 1
        return function(*args, **kwargs)

    return counted


def pytest_collection_modifyitems(items):
    for module in {item.module for item in items}:
        for name in NAMES:
            setattr(module, name, _counted(name))


def pytest_runtest_logreport(report: object) -> None:
    _note(report)


def _note(outcome):
    if outcome.when == "call" and outcome.passed:
        report["passed"] += 1
        if sum(calls.values()) == _note.before:
            report["without a call"].append(outcome.nodeid.rpartition("::")[2])
    elif not outcome.passed:
        report["other"].append(f"{outcome.nodeid}: {outcome.outcome}")
    _note.before = sum(calls.values())


_note.before = 0


def pytest_sessionfinish():
    with open(os.environ["SCIPY_REPORT"], "w") as file:
        json.dump(report | {"calls": calls}, file)
