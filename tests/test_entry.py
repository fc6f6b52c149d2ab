"""The command lines before they have begun: interrupted imports, and settings that forbid code."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def run(directory, *arguments, **environment):
    path = os.pathsep.join([str(directory), str(ROOT)])
    env = os.environ | {"PYTHONPATH": path} | environment
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=env, cwd=directory, capture_output=True, text=True)


def of_script(name):
    module, _, function = SCRIPTS[name].partition(":")
    return ["-c", f"import sys; from {module} import {function}; sys.exit({function}())"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fastsoftmax", of_script("fastsoftmax")),
        ("fastsoftmax", ["-m", "fastsoftmax"]),
        ("fastsoftmax-verify", of_script("fastsoftmax-verify")),
        ("fastsoftmax-verify", ["-m", "verification"]),
    ],
)
def test_an_interrupt_while_numpy_is_imported_is_one_line(tmp_path, name, arguments):
    (tmp_path / "numpy.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    result = run(tmp_path, *arguments)
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == f"{name}: interrupted\n"


def test_where_numba_may_not_compile_calls_say_so(tmp_path):
    result = run(tmp_path, "-m", "fastsoftmax", "score", NUMBA_DISABLE_JIT="1")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("fastsoftmax: NUMBA_DISABLE_JIT is set")
    assert result.stderr.count("\n") == 1
    program = "import fastsoftmax; fastsoftmax.softmax([1.0, 2.0])"
    result = run(tmp_path, "-c", program, NUMBA_DISABLE_JIT="1")
    assert "NUMBA_DISABLE_JIT is set" in result.stderr.splitlines()[-1]
