"""The CUDA kernels without a GPU, in Numba's simulator: in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def simulated(*command):
    environment = dict(os.environ, NUMBA_ENABLE_CUDASIM="1", PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=HERE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_every_kernel_has_the_bits_of_the_cpu():
    plain = "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"
    said = simulated("-m", "pytest", "-q", *plain, str(HERE / "simulated_kernels.py"))
    assert " passed" in said


@pytest.mark.thorough
def test_cases_of_the_verification_have_the_bits_of_the_cpu():
    assert "results are the CPU's to the bit" in simulated(str(HERE / "simulated_cases.py"), "1")


@pytest.mark.slow
def test_cases_of_the_verification_in_every_type():
    simulated(str(HERE / "simulated_cases.py"), "4", "large")
