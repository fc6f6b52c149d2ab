"""The machine code of the kernels: loops of packed instructions of the CPU's width, and no call."""

import os
import platform
import re
import subprocess
import sys

import pytest

# Those that compute exponentials, and whether they map logits or exponentials to results, too.
EXPONENTIALS = {
    "softmax_short": True,
    "softmax_rows": True,
    "softmax_packed_3": False,  # in one loop with all else, in float64, too
    "softmax_long": True,
    "softmax_columns": True,
    "softmax_long_columns": False,  # in one loop
    "softmax_counts": False,
    "softmax_cuts": False,  # in one loop, too
    "log_softmax_rows": False,
    "logsumexp_short": False,
    "weighted": False,
}
KERNELS = [*EXPONENTIALS, "softmax_maxima"]
# What threads with small stacks must have; scratch memory beyond it is not on the stack.
FRAME = 48 << 10
AVX2 = "+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+lzcnt"
CPUS = {
    "zmm": ("skylake-avx512", AVX2 + ",+avx512f,+avx512vl,+avx512bw,+avx512dq,+avx512cd"),
    "ymm": ("haswell", AVX2),
}
PROGRAM = """
import sys
from fastsoftmax.cpu import plan
for name, kinds in plan.all_variants():
    (dtype, _), *others = kinds
    plain = name == "weighted" or None in kinds[1:2] or kinds[2:4] == (None, None)
    # one with a mask, a temperature and float16
    all_there = name == "softmax_rows" and dtype == "H" and None not in kinds
    if name in {kernels!r} and (dtype in "fd" and plain or all_there):
        print("KERNEL", name, dtype)
        sys.stdout.flush()
        plan._variant(name, kinds, True)
        sys.stdout.flush()
"""
# Arithmetic, packed or not, and conversions; moves and shuffles may be named for either element.
ARITHMETIC = r"^v(?:add|sub|mul|div|sqrt|min|max|cmp\w*|u?comi|fn?m(?:add|sub)\w*)"


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
    return max(map(int, re.findall(r"subq\s+\$(\d+), %rsp", assembly)), default=0)


def lines_of(loop, pattern):
    return re.findall(pattern + ".*", loop, re.MULTILINE)


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
    seen = set()
    for name, dtype, dump in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        seen.add((name, dtype))
        code = re.split(r"ASSEMBLY compiled\.\S*body", dump)[1]
        single = dtype != "d" and name != "weighted"
        own, other = ("ps", "pd") if single else ("pd", "ps")
        assert frame(code) <= FRAME, (name, dtype)
        inner = [loop.replace("\t", " ") for loop in loops(code)]
        # What divides is done once a row, in float64.
        in_one = "packed" in name
        inner = [loop for loop in inner if in_one or not lines_of(loop, "^vdiv")]
        fused = [len(lines_of(loop, rf"^vfn?m\w+{own} ")) for loop in inner]
        # the loops that compute exponentials: polynomials, and integers added to powers
        adds = [bool(lines_of(loop, "^vpadd[dq] ")) for loop in inner]
        found = list(zip(inner, fused, adds, strict=True))
        hot = [loop for loop, count, counting in found if count >= 6 and counting]
        assert bool(hot) == (name in EXPONENTIALS), (name, dtype)
        if name == "softmax_maxima":
            hot = [
                loop for loop in inner if len(lines_of(loop, rf"^vmax{own} |^vcmp\w*{own} ")) > 1
            ]
            assert hot, (name, dtype)
        if EXPONENTIALS.get(name):
            mapping = [
                loop
                for loop, count, counting in found
                if count and not counting and not lines_of(loop, r"^vcvt\w*[ps]d")
            ]
            assert mapping, (name, dtype)
            hot += mapping
        for loop in hot:
            where = name, dtype, loop
            assert not lines_of(loop, r"^call"), where
            packed = lines_of(loop, rf"{ARITHMETIC}{own} ")
            assert packed, where
            assert all(register in line for line in packed), where
            assert not lines_of(loop, rf"{ARITHMETIC}s[sd] "), where
            if in_one:
                continue
            assert not lines_of(loop, rf"{ARITHMETIC}{other} "), where
            assert not (single and lines_of(loop, r"^vcvt\w*[ps]d")), where
            # The table of steps is in a register, but of float64 where AVX2 has no such thing.
            if single or register == "zmm":
                assert not lines_of(loop, r"^(vpextr|vinsertps|vpinsr|vgather)"), where
    expected = {(name, dtype) for name in KERNELS for dtype in "fd"}
    assert seen == expected | {("softmax_rows", "H")}


def test_frames_are_read_from_the_code():
    assert frame("pushq %rbx\n\tsubq\t$21504, %rsp\n\tsubq $8, %rsp") == 21504
    assert frame("pushq %rbx") == 0
