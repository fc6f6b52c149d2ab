"""The command lines before they have begun: interrupted imports, and settings that forbid code."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def run(directory, *arguments, before=None, **environment):
    path = os.pathsep.join([str(directory), str(ROOT)])
    env = os.environ | {"PYTHONPATH": path} | environment
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=env, cwd=directory, capture_output=True, text=True, preexec_fn=before
    )


def script(directory, name):
    module, _, function = SCRIPTS[name].partition(":")
    directory.mkdir()
    program = f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
    (directory / name).write_text(program)
    return str(directory / name)


# Ctrl-C as it is by default: whoever started the tests may ignore it, as nohup does.
INTERRUPTED = """import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.raise_signal(signal.SIGINT)
"""


def ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fastsoftmax", ["info"]),
        ("fastsoftmax", ["-m", "fastsoftmax", "info"]),
        ("fastsoftmax", ["-Wignore", "-mfastsoftmax", "info"]),
        ("fastsoftmax-verify", []),
        ("fastsoftmax-verify", ["-m", "verification"]),
    ],
)
@pytest.mark.parametrize("module", ["numpy", "rich"])
def test_an_interrupt_while_a_command_is_imported_is_one_line(tmp_path, name, arguments, module):
    (tmp_path / f"{module}.py").write_text(INTERRUPTED)
    if arguments[:1] in ([], ["info"]):
        arguments = [script(tmp_path / "bin", name), *arguments]
    result = run(tmp_path, *arguments, before=ignored)
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr.startswith(f"{name}: interrupted")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["-c", "import fastsoftmax"], ["-m", "other", "info"]])
def test_an_interrupt_while_another_program_imports_the_library_is_its_own(tmp_path, arguments):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "__init__.py").write_text("import fastsoftmax")
    (tmp_path / "numpy.py").write_text(INTERRUPTED)
    result = run(tmp_path, *arguments, before=ignored)
    assert result.returncode != 130
    assert result.stderr.endswith("KeyboardInterrupt\n")


def test_the_import_has_loaded_all_that_a_first_call_of_two_threads_would(tmp_path):
    program = "import sys, fastsoftmax; print('fastsoftmax.cpu.plan' in sys.modules)"
    result = run(tmp_path, "-c", program)
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_where_numba_may_not_compile_calls_say_so(tmp_path):
    result = run(tmp_path, "-m", "fastsoftmax", "score", NUMBA_DISABLE_JIT="1")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("fastsoftmax: NUMBA_DISABLE_JIT is set")
    assert result.stderr.count("\n") == 1
    program = "import fastsoftmax; fastsoftmax.softmax([1.0, 2.0])"
    result = run(tmp_path, "-c", program, NUMBA_DISABLE_JIT="1")
    assert "NUMBA_DISABLE_JIT is set" in result.stderr.splitlines()[-1]
