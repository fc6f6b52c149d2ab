"""Every script in examples/ runs, and prints what its docstring says."""

import ast
import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "examples"
# Other tests have the other cores: NumPy's products and scikit-learn's loops would wait for them.
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_it_prints_what_it_says(script, tmp_path):
    if "sklearn" in script.read_text():
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    said = ast.get_docstring(ast.parse(script.read_text())).split("Prints:\n")[1]
    expected = textwrap.dedent(said).splitlines()
    if not importlib.util.find_spec("torch"):
        expected = ["torch: not installed" if "torch:" in line else line for line in expected]
    run = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert [line.rstrip() for line in run.stdout.splitlines()] == expected
    assert run.stderr == ""


def test_there_are_examples():
    assert len(list(FOLDER.glob("*.py"))) >= 11
