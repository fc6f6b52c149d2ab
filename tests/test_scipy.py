"""SciPy's own test file, shipped in its wheel, against our functions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import scipy.special

import fastsoftmax


def test_scipys_own_tests_pass_and_reach_our_functions(tmp_path):
    package = Path(scipy.__file__).parent
    tests = package / "special" / "tests"
    # log_softmax had a file of its own until SciPy 1.16.
    names = ("test_logsumexp.py", "test_log_softmax.py")
    chosen = [str(tests / name) for name in names if (tests / name).exists()]
    report = tmp_path / "report.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "scipy_plugin"),
            *("-c", os.devnull, "--rootdir", str(package), "-p", "no:cacheprovider"),
            *chosen,
        ],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), str(Path(fastsoftmax.__file__).parent.parent)]
            ),
            "SCIPY_REPORT": str(report),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    outcome = json.loads(report.read_text())
    assert outcome["other"] == []  # nothing failed, nothing was skipped
    # Every test but the one of a private helper of SciPy's called one of our functions.
    assert set(outcome["without a call"]) <= {"test_wrap_radians", "test_wrap_radians[numpy]"}
    # 61 tests in SciPy 1.15, 407 in 1.17
    assert outcome["passed"] >= 61, outcome
    assert outcome["calls"]["logsumexp"] >= 60
    assert outcome["calls"]["softmax"] >= 11
    assert outcome["calls"]["log_softmax"] >= 8
