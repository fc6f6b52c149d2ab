"""The machine code of the kernels: loops of packed instructions of the CPU's width, and no call."""

import os
import platform
import re
import subprocess
import sys

import pytest

KERNELS = [
    "softmax_rows",
    "log_softmax_rows",
    "softmax_short",
    "softmax_packed_3",
    "softmax_long",
    "softmax_columns",
    "softmax_long_columns",
]
# What threads with small stacks must have; scratch memory beyond it is not on the stack.
FRAME = 48 << 10
CPUS = {
    "zmm": ("skylake-avx512", ""),
    "ymm": ("haswell", "+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+lzcnt"),
}
PROGRAM = """
import sys
from fastsoftmax.cpu import plan
for name, kinds in plan.all_variants():
    (dtype, _), *_, mask = kinds[:4]
    if name in {kernels!r} and dtype in "fd" and mask is None:
        print("KERNEL", name, dtype)
        sys.stdout.flush()
        plan.compile_variant((name, kinds))
        sys.stdout.flush()
"""


def loops(assembly):
    """The innermost loops: the lines from a label to the last jump back to it."""
    lines = [line.strip() for line in assembly.split("\n")]
    labels = {m[1]: i for i, line in enumerate(lines) if (m := re.match(r"(\.L\w+):", line))}
    spans = []
    for end, line in enumerate(lines):
        jump = re.match(r"j\w+\s+(\.L\w+)", line)
        if jump and labels.get(jump[1], end) < end:
            spans.append((labels[jump[1]], end))
    inner = [
        (start, end)
        for start, end in spans
        if not any(start <= a and b <= end and (a, b) != (start, end) for a, b in spans)
    ]
    return ["\n".join(lines[start : end + 1]) for start, end in inner]


def frame(assembly):
    """Bytes of the stack that a function takes for itself."""
    return max(int(size) for size in re.findall(r"subq\s+\$(\d+), %rsp", assembly))


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="reads x86-64's instructions"
)
@pytest.mark.parametrize("register", CPUS)
def test_hot_loops_are_packed_and_call_nothing_and_frames_are_small(register, tmp_path):
    cpu, features = CPUS[register]
    env = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_DUMP_ASSEMBLY": "1",
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": features,
    }
    command = [sys.executable, "-c", PROGRAM.format(kernels=KERNELS)]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    parts = re.split(r"^KERNEL (\w+) (\w)$", result.stdout, flags=re.MULTILINE)[1:]
    for name, dtype, dump in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        code = re.split(r"ASSEMBLY compiled\.\S*body", dump)[1]
        assert frame(code) <= FRAME, (name, dtype)
        fused = re.compile(r"vf\w+pd .*")  # multiplications and additions in one, packed
        # the loops that compute exponentials: polynomials of 6 (or, float64, 10) steps
        hot = [loop for loop in loops(code) if len(fused.findall(loop.replace("\t", " "))) >= 6]
        assert hot, (name, dtype)
        for loop in hot:
            loop = loop.replace("\t", " ")
            assert all(register in line for line in fused.findall(loop)), (name, dtype, loop)
            assert not re.search(r"^call|vf\w+sd ", loop, re.MULTILINE), (name, dtype, loop)
