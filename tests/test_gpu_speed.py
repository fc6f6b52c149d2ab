"""The benchmark of the CUDA target: its cases, and what the README shows of a run."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import cuda, cuda_cases
from rich.console import Console

from verification import gpu

ROOT = Path(__file__).parent.parent


def measured(function="softmax", dtype="float32", rows="rows of 1,000", **more):
    case = {
        "function": function,
        "dtype": dtype,
        "mapped": "softmax" in function,
        "rows": rows,
        "shape": "268435 x 1000, axis -1",
        "ms": 0.5,
        "yardstick_ms": 0.45,
        "gigabytes_per_second": 4295.0,
        "wanted": 0.9,
        "bits": "the CPU's bits in 64 rows",
        "peers": {"torch": {"ms": 1.0, "ours_ms": 0.5}},
    }
    return case | more


@pytest.fixture
def run():
    both = {"torch": {"ms": 1.0, "ours_ms": 0.5}, "Triton": {"ms": 0.4, "ours_ms": 0.5}}
    return {
        "date": "2026-01-02",
        "device": {
            "name": "A GPU",
            "capability": "9.0",
            "multiprocessors": 132,
            "gigabytes": 141,
            "driver": "580.1",
            "runtime": "13.0",
        },
        "versions": {"fastsoftmax": "0.1", "torch": "2.11", "triton": ""},
        "read_by": "Triton",
        "host": [{"shape": "1 x 10", "dtype": "float32", "us": {"fastsoftmax": 9.04, "torch": 5}}],
        "cases": [
            measured(peers=both),
            measured(dtype="bfloat16", bits="wrong: 3 of 10 results have other bits"),
            measured(rows="1 long row", ms=0.6, peers={}),
            measured(rows="rows of 50,256", ms=0.5, peers={}),
            measured(rows="rows of 50,257", ms=0.75, peers={}),
            measured("logsumexp"),
            measured("entropy", wanted=None, peers={}),
        ],
        "failed": [{"case": "softmax float64 1 x 8, axis -1", "why": "ValueError: no"}],
        "left_out": ["Triton, softmax"],
    }


def test_the_tables_hold_fractions_and_everyones_times_relative_to_ours(run):
    lines = gpu.table_of(run).split("\n")
    assert lines[0].startswith("| softmax | float32, of a copy | torch | torch.compile | Triton |")
    assert lines[2] == "| rows of 1,000 | 0.90 | 2.00 | - | 0.80 | 0.90 | 2.00 | - | - |"
    assert lines[3] == "| 1 long row | 0.75 | - | - | - | - | - | - | - |"
    assert lines[7].endswith("torch's time over ours | logsumexp, float32 | entropy, float32 |")
    assert lines[9] == "| rows of 1,000 | 0.90; 2.00 | 0.90 |"
    text = "\n".join(lines)
    assert "Triton takes 0.80 times our time in the geometric mean of 1 case" in text
    assert "and less than ours in 1." in text
    assert "torch takes 2.00 times our time in the geometric mean of 3 cases" in text
    assert "1 x 10 float32: fastsoftmax 9.0, torch 5.0." in text
    assert "rows of 50,257 float32 has 0.67 of the bandwidth of 50,256." in text
    assert "copying at 4,772 GB/s, reading (by Triton) at 4,772 GB/s." in text
    assert "Of 7 cases, 6 have the CPU's bits." in text
    assert "Failed: softmax float64 1 x 8, axis -1." in text
    assert "A GPU (compute capability 9.0, 132 multiprocessors, 141 GB), driver 580.1" in text
    assert "triton" not in lines[-2]


def test_the_terminal_shows_the_same(run):
    written = io.StringIO()
    cuda.show(run, Console(file=written, width=200, highlight=False))
    shown = " ".join(written.getvalue().split())
    assert "wrong: 3 of 10 results have other bits" in shown
    assert "failed: softmax float64 1 x 8, axis -1: ValueError: no" in shown
    assert "no time was left for 1 of the comparisons" in shown
    assert gpu.provenance(run) in shown


def test_the_command_writes_what_was_measured_or_that_nothing_was(run, tmp_path, capsys):
    readme, file = tmp_path / "README.md", tmp_path / "run.json"
    readme.write_text("before\n<!-- gpu -->\nold\n<!-- /gpu -->\nafter\n")
    before = readme.read_text()
    arguments = [str(file), "--readme", str(readme)]
    assert gpu.main(arguments) == 2
    for content in ("{}", "not JSON", "[]"):
        file.write_text(content)
        assert gpu.main(arguments) == 2
        assert str(file) in capsys.readouterr().err
    assert readme.read_text() == before
    file.write_text(json.dumps(run))
    assert gpu.main(arguments) == 0
    assert readme.read_text() == f"before\n<!-- gpu -->\n{gpu.table_of(run)}<!-- /gpu -->\nafter\n"
    assert gpu.section(tmp_path / "none.json") == gpu.NOT_YET


def test_the_readme_shows_the_run_that_is_kept():
    text = (ROOT / "README.md").read_text()
    assert f"<!-- gpu -->\n{gpu.section(ROOT / gpu.RUN)}<!-- /gpu -->" in text


def test_cases_differ_and_fit():
    nbytes = 1 << 28
    found = list(cuda_cases.cases(nbytes))
    assert len(set(found)) == len({(c.function, c.dtype, c.rows) for c in found}) == len(found)
    for case in found:
        size = case.shape[0] * case.shape[1] * cuda_cases.ITEMSIZES[case.dtype]
        assert nbytes / 2 < size <= nbytes
        assert case.length == case.shape[case.axis]
    chosen = cuda_cases.beside_all_peers(found)
    assert sorted(map(repr, chosen)) == sorted(
        repr(c) for c in found if c.function == "softmax" and c.dtype in cuda_cases.FIRST
    )


@pytest.mark.parametrize("how", [["tests/benchmarks/cuda.py"], ["-m", "tests.benchmarks.cuda"]])
def test_without_a_gpu_the_benchmark_says_so_in_one_line(how):
    done = subprocess.run(
        [sys.executable, *how],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("cuda.py: ")
    assert len(done.stderr.splitlines()) == 1
