"""What a call allocates: with ``out=`` hardly anything, without it exactly the result."""

import os
import subprocess
import sys

import pytest

from fastsoftmax.cpu import plan

PROGRAM = """
import os
import numpy as np
import fastsoftmax
function, shape, axis, given = getattr(fastsoftmax, {function!r}), {shape!r}, {axis!r}, {given!r}
x = np.ones(shape, np.float32)
arguments = dict(axis=axis)
if given and function is fastsoftmax.logsumexp:
    arguments |= dict(out=np.zeros(shape[0], np.float32), b=np.ones(shape[1], np.float32))
elif given:
    arguments |= dict(out=np.zeros_like(x))
# Enough for two threads: loads the code.
several = -(-{parallel_from} // shape[axis])
function(x[:, :several] if axis == 0 else x[:several], **dict(arguments, out=None))

def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = peak()
result = function(x, **arguments)
print(peak() - before - (0 if given else result.nbytes))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    ("function", "shape", "axis", "given"),
    [
        ("softmax", (20_000, 1000), -1, True),
        ("softmax", (2_000_000, 7), -1, True),
        ("softmax", (3, 6_000_000), -1, True),
        ("softmax", (1000, 20_000), 0, True),
        ("log_softmax", (40_000, 400), 0, True),
        ("logsumexp", (20_000, 1000), -1, True),
        ("softmax", (20_000, 1000), -1, False),
        ("logsumexp", (20_000, 1000), -1, False),
    ],
)
def test_no_more_than_a_mebibyte_for_each_thread(function, shape, axis, given):
    program = PROGRAM.format(
        function=function, shape=shape, axis=axis, given=given, parallel_from=plan.PARALLEL_FROM
    )
    for _ in range(2):  # the first may have to compile
        run = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"NUMBA_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
            check=True,
        )
    # Half a mebibyte of each thread's start and stack, and what the kernel's code takes.
    assert int(run.stdout) <= 2 * (1 << 20) + (1 << 20)
