"""The suite ``scipy``: SciPy's own test file, with a subject in the place of SciPy's functions.

pytest collects the file that SciPy ships, in a process of its own, with this module as a plugin:
once a test module is imported, the subject's functions take the places of SciPy's in it. Every
call is counted, and a test counts where it called the subject. A test that asks for what is not
in a subject's signature (``b=``, say) is not applicable; so is one that asks for several axes
where a subject takes one, and complex numbers for a logsumexp that does not have SciPy's whole
signature. An axis that a test leaves out is SciPy's, None, whatever the subject's own default is.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from verification.calls import refused_axis
from verification.checks import Check, Task
from verification.names import USUAL
from verification.results import FAILED, HELD, SKIPPED, Finding, Result
from verification.shown import repeat_line
from verification.subjects import Subject, load

_REQUEST = "VERIFICATION_SCIPY_SUITE"
_LIMIT = 240
_SIGNATURE = {"axis", "b", "keepdims", "return_sign"}
# logsumexp had a file of its own until SciPy 1.16.
_FILES = ("test_logsumexp.py", "test_log_softmax.py")


def scipy_checks() -> Iterator[Check]:
    """The one check of the suite."""
    yield Check("scipy", "scipys_own_tests", "", run_suite)


def run_suite(subject: Subject, task: Task) -> list[Result]:
    """A result for each function: how many of SciPy's tests that call it pass."""
    wanted = [f for f in USUAL if f in task.functions and f in subject.functions]
    about: dict[str, Any] = {"suite": "scipy", "case": "scipys_own_tests", "dtype": ""}
    if not subject.takes_arrays:
        why = f"{subject.name} takes no Python numbers, lists and integers, which these tests pass"
        return [Result(**about, function=f, status=SKIPPED, note=why) for f in wanted]
    try:
        import pytest  # noqa: F401  # the plugin's host
        import scipy
    except ImportError as error:
        why = f"needs {error.name}"
        return [Result(**about, function=f, status=SKIPPED, note=why) for f in wanted]

    tests = Path(scipy.__file__).parent / "special" / "tests"
    files = [str(tests / name) for name in _FILES if (tests / name).exists()]
    if not files:
        why = f"SciPy {scipy.__version__} was installed without its tests"
        return [Result(**about, function=f, status=SKIPPED, note=why) for f in wanted]
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        request = {
            "subjects": {f: subject.again(f) for f in wanted},
            "answer": str(answer),
        }
        finding = _run_pytest(files, tests.parent.parent, folder, request)
        if finding is not None:
            return [Result(**about, function=f, status=FAILED, finding=finding) for f in wanted]
        found = json.loads(answer.read_text())
    return [_result(subject, task, about, f, found[f], scipy.__version__) for f in wanted]


def _run_pytest(
    files: list[str], root: Path, folder: str, request: dict[str, Any]
) -> Finding | None:
    """pytest with this plugin, in a folder of its own: why it left no answer; None where it did."""
    try:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "verification.scipy_suite"),
                *("-c", os.devnull, "--rootdir", str(root)),
                *("-p", "no:cacheprovider", *files),
            ],
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                _REQUEST: json.dumps(request),
            },
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding("timed out", f"SciPy's tests did not end within {_LIMIT:g} s")
    if Path(request["answer"]).exists():
        return None
    last = (run.stdout + run.stderr).strip().splitlines()[-1:]
    return Finding("crashed", f"SciPy's tests did not run: {' '.join(last)}")


def _result(
    subject: Subject,
    task: Task,
    about: dict[str, Any],
    function: str,
    found: dict[str, list[str]],
    version: str,
) -> Result:
    passed, failed = len(found["passed"]), found["failed"]
    note = f"{passed} of {passed + len(failed)} tests of SciPy {version} that call it pass"
    if found["not applicable"]:
        note += f"; {len(found['not applicable'])} ask for what it does not have"
    common: dict[str, Any] = {**about, "function": function, "note": note}
    common["elements"] = passed + len(failed)
    if not common["elements"]:
        return Result(**common, status=SKIPPED)
    if not failed:
        return Result(**common, status=HELD)
    shown = ", ".join(failed[:4]) + (f" and {len(failed) - 4} more" if len(failed) > 4 else "")
    finding = Finding(
        "test",
        f"{note}; not {shown}",
        python=repeat_line(subject, about | {"function": function}, task.seed),
    )
    return Result(**common, status=FAILED, finding=finding)


# --- the plugin ------------------------------------------------------------------------------


class _Plugin:
    """Inside pytest: puts the subject's functions into the test modules, and counts calls."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.answer = Path(request["answer"])
        self.called: set[str] = set()
        self.found: dict[str, dict[str, list[str]]] = {
            f: {"passed": [], "failed": [], "not applicable": []} for f in request["subjects"]
        }
        self.functions = {
            f: self._counted(f, load(*again)) for f, again in request["subjects"].items()
        }

    def _counted(self, name: str, subject: Subject) -> Any:
        import pytest

        call = subject.plain(name)
        try:
            parameters: Mapping[str, Any] = inspect.signature(call).parameters
        except (TypeError, ValueError):
            parameters = dict.fromkeys(_SIGNATURE)
        whole = set(parameters) >= _SIGNATURE or name != "logsumexp"
        # SciPy's default, which only a subject of its own signature has to have.
        default = getattr(parameters.get("axis"), "default", None)

        @functools.wraps(call)
        def counted(x: Any, *args: Any, **kwargs: Any) -> Any:
            lacking = set(kwargs) - set(parameters)
            axis = args[0] if args else kwargs.get("axis")
            why = refused_axis(subject, name, axis)
            if why and np.ndim(x) == 1:
                axis, why = -1, ""  # all axes are this one
            if lacking or (not whole and np.iscomplexobj(x)):
                why = f"{name} has no {', '.join(sorted(lacking)) or 'complex numbers'}"
            if why:
                self.found[name]["not applicable"].append("")
                pytest.skip(why)
            self.called.add(name)
            if args:
                args = (axis, *args[1:])
            elif axis is not default:
                kwargs["axis"] = axis
            return call(x, *args, **kwargs)

        return counted

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for module in {item.module for item in items}:
            vars(module).update(self.functions)
            if hasattr(module, "sc"):  # scipy.special, as SciPy 1.15 tests log_softmax
                module.sc = types.SimpleNamespace(**vars(module.sc) | self.functions)

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.rpartition("::")[2]
        if report.when == "call" and not report.skipped:
            for function in sorted(self.called):
                self.found[function][report.outcome].append(name)
        if report.when == "teardown":
            self.called.clear()

    def pytest_sessionfinish(self) -> None:
        self.answer.write_text(json.dumps(self.found))


def pytest_configure(config: Any) -> None:
    """pytest's hook: the plugin is registered where a request waits for it."""
    if _REQUEST in os.environ:
        config.pluginmanager.register(_Plugin(json.loads(os.environ[_REQUEST])))
