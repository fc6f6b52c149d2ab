"""The CUDA kernels' code without a device: PTX, and machine code for two generations of GPUs."""

import re
import subprocess

import pytest
import threads

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from cuda import pathfinder
from numba import config

from fastsoftmax.arithmetic.formulas import (
    ENTROPY,
    FORMULAS,
    LABEL_LOG_PROBABILITIES,
    LOG_SOFTMAX,
    LOGSUMEXP,
    SOFTMAX,
    TOP_K,
)
from fastsoftmax.cuda import launch, plan
from fastsoftmax.cuda.batch import Kind
from fastsoftmax.cuda.device import STORAGE
from fastsoftmax.cuda.device import VECTOR as VECTOR_BYTES
from fastsoftmax.cuda.shape import Hardware, Shape

assert not config.ENABLE_CUDASIM

STORAGES = "float32", "float64", "float16", "bfloat16"
AMPERE, HOPPER = (8, 0), (9, 0)
# How 16 bytes are read and written at once.
VECTOR = {"float32": "v4.f32", "float64": "v2.f64", "float16": "v4.u32", "bfloat16": "v4.u32"}


def layout(outer, length, inner=1, **changed):
    along = inner == 1
    exact = changed.get("exact", True)
    columns = {"columns": 1 if along else 4, "packed": changed.get("packed", True)}
    return plan.Layout(outer, length, inner, along, exact, **columns)


# For every kernel of the plan the layouts that ask most of it.
LAYOUTS = {
    "8": layout(10**6, 8),
    "128": layout(10**5, 128),
    "1000": layout(10**5, 1000),
    "1001": layout(10**5, 1001, exact=False),
    "33": layout(10**5, 33, exact=False),
    "33 apart": layout(10**5, 33, exact=False, packed=False),
    "8192": layout(10**4, 8192),
    "16384": layout(10**4, 16384),
    "50257": layout(10**4, 50257, exact=False),
    "131072": layout(10**4, 131072),
    "1M": layout(1000, 1 << 20),
    "2 x 10M": layout(2, 10**7),
    "columns of 8": layout(1, 8, 10**6),
    "columns of 50": layout(1, 50, 10**6),
    "columns of 700": layout(1, 700, 10**5),
    "columns of 5000": layout(1, 5000, 10**5),
}


def kernels(kind, name, capability):
    """The kernels that the plan takes for a layout."""
    given = LAYOUTS[name]
    given = given._replace(columns=min(given.columns, VECTOR_BYTES // kind.itemsize))
    kind = kind._replace(long=given.length > plan.BLOCK)
    hardware, cut = Hardware(132, capability), not kind.formula.chooses
    shapes, _ = plan.shapes(kind.itemsize, kind.roomy, given, hardware, cut)
    return [(kind, shape) for shape in shapes]


def check(kind, shape, capability):
    """What must hold of any kernel's code."""
    code = launch.code(kind, shape, capability)
    for number, what in re.findall(r"(\d+) bytes (stack frame|spill \w+)", code.report):
        assert number == "0", (shape, what, number)
    registers = int(re.search(r"Used (\d+) registers", code.report)[1])
    assert registers <= (128 if kind.roomy or shape.threads >= 512 else 255), (shape, registers)
    ptx = code.ptx
    for never in (r"\.approx", r"\.ftz", r"(ld|st)\.local", r"\bmul\.f(32|64)", r"\bex2", r"\brcp"):
        found = re.search(never, ptx)
        assert not found or (found[0] == "rcp" and "rcp.rn.f64" in ptx), (shape, found)
    if shape.name == "rows" and shape.exact:
        vector = VECTOR[kind.storage]
        assert len(re.findall(rf"ld\.global\.{re.escape(vector)}", ptx)) == shape.pieces
        stored = len(re.findall(rf"st\.global\.{re.escape(vector)}", ptx))
        assert stored == (shape.pieces if kind.formula.mapped else 0), shape
    return code


COMMON = [
    (Kind(SOFTMAX, "float32"), HOPPER),
    (Kind(LOG_SOFTMAX, "bfloat16"), HOPPER),
    (Kind(LOGSUMEXP, "float64"), AMPERE),
    (Kind(LABEL_LOG_PROBABILITIES, "float32"), HOPPER),
    (Kind(TOP_K, "float32"), HOPPER),
]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(("kind", "capability"), COMMON)
def test_code_of_every_kernel(name, kind, capability):
    for kernel in kernels(kind, name, capability):
        check(*kernel, capability)


@pytest.mark.parametrize("name", ["128", "33", "8192", "columns of 50"])
def test_code_with_all_that_a_call_may_have(name):
    for formula in (ENTROPY, TOP_K):
        for kernel in kernels(Kind(formula, "float64", "each", masked=True), name, HOPPER):
            check(*kernel, HOPPER)


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_code_of_all_there_is(name, storage):
    for formula in (*FORMULAS, LABEL_LOG_PROBABILITIES, TOP_K):
        for temperature, masked in ((None, False), (None, True), ("one", False), ("each", True)):
            if formula.tempered or not temperature:
                for kernel in kernels(Kind(formula, storage, temperature, masked), name, HOPPER):
                    check(*kernel, HOPPER)


@pytest.mark.parametrize("formula", [SOFTMAX, LOG_SOFTMAX, ENTROPY], ids=lambda f: f.name)
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_logits_of_float32_take_no_instruction_of_float64(formula, storage):
    double = [
        len(re.findall(r"\.f64", launch.code(Kind(formula, storage), shape, HOPPER).ptx))
        for shape in (Shape("rows", 128, 32, 1), Shape("rows", 128, 32, 3))
    ]
    assert double[0] == double[1] > 0


@pytest.mark.parametrize("name", threads.CASES)
def test_code_of_what_a_thread_does(name):
    case = threads.CASES[name]
    for capability in (HOPPER,) if case.clusters > 1 else (AMPERE, HOPPER):
        bounds = threads.THREADS, 1
        assert launch.compiled(threads.body(case), bounds, capability).machine


def test_blocks_of_a_cluster_meet_as_often_as_is_written():
    """Twice for a row, and once before the end: the compiler copies none of these."""
    ptx = launch.code(Kind(SOFTMAX, "float32"), Shape("rows", 64, 64, 1, clusters=2), HOPPER).ptx
    assert len(re.findall(r"barrier\.cluster\.arrive", ptx)) == 3
    assert len(re.findall(r"barrier\.cluster\.wait", ptx)) == 3


def disassembled(code, tmp_path):
    tool = pathfinder.find_nvidia_binary_utility("nvdisasm")
    if tool is None:
        pytest.skip("nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
    file = tmp_path / "kernel.cubin"
    file.write_bytes(code.machine)
    said = subprocess.run([tool, "-c", str(file)], capture_output=True, text=True, check=True)
    return said.stdout


@pytest.mark.parametrize("capability", [AMPERE, HOPPER])
def test_machine_code(capability, tmp_path):
    shape = Shape("rows", 128, 32, 8)
    text = disassembled(launch.code(Kind(SOFTMAX, "float32"), shape, capability), tmp_path)
    assert len(re.findall(r"LDG\.E\.128", text)) == shape.pieces
    assert len(re.findall(r"STG\.E\.128", text)) == shape.pieces
    assert not re.search(r"\b(LDL|STL)\b", text)
    # The one reciprocal begins a division of float64, which is then made right.
    assert set(re.findall(r"MUFU\.(\w+)", text)) <= {"RCP64H"}


def test_types_of_elements_have_their_sizes():
    for name, (itemsize, _) in STORAGE.items():
        assert itemsize == {"bfloat16": 2, "bool": 1}.get(name) or name.endswith(str(8 * itemsize))
