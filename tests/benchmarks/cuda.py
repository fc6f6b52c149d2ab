"""The CUDA target on a machine with a GPU: beside a copy, torch, torch.compile and Triton.

python tests/benchmarks/cuda.py                          # tables, in at most 5 minutes
python tests/benchmarks/cuda.py --only "softmax bfloat16"
python tests/benchmarks/cuda.py --json tests/benchmarks/gpu.json
python -m verification.gpu                               # the README's table, from that file

Needs torch with CUDA, whose tensors and events are used; Triton where it is there. First each
result's bits are compared with the CPU's in a sample of its rows. Then a call runs in turns with
the device's own copy of as many bytes (for what gives one number a row: with reading alone) and
with torch; every call takes the next of several arrays, so that none is still in a cache. Times
are medians, by CUDA events. What has to be compiled for its shape, torch.compile and Triton,
comes last, while there is time left. A case that fails is named, and the others go on.
"""

import argparse
import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    # In this folder, this file would be taken for NVIDIA's package of the same name.
    sys.path = [folder for folder in sys.path if Path(folder).resolve() != HERE]
    sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

from rich.console import Console
from rich.table import Table

import fastsoftmax
from benchmarks.cuda_cases import BYTES, beside_all_peers, cases
from verification import gpu

PACKAGES = ("numba", "numba-cuda", "torch", "triton")
# Of the time, for what is under way when it is up.
RESERVE = 20.0


class Unable(Exception):
    """Nothing can be measured here: one line for stderr, exit status 2."""


class Run:
    """A run of the benchmark: what was measured, and what could not be."""

    def __init__(self, torch, until, console):
        from benchmarks import cuda_calls

        self._torch, self._calls, self._until, self._console = torch, cuda_calls, until, console
        mebibytes = torch.cuda.mem_get_info()[0] // (4 * cuda_calls.PAIRS) >> 20
        self._arrays = cuda_calls.Arrays(min(BYTES, mebibytes << 20))
        self._reader, self._read = cuda_calls.fastest_reading(self._arrays)
        self._found, self._failed, self._left_out = {}, [], []

    def measured(self, only=""):
        """Cases with these words in their names, as the JSON file holds them."""
        about = machine(self._torch) | {"read_by": self._reader}
        small = None
        try:
            chosen = [case for case in cases(self._arrays.nbytes) if only in case.name]
            for case in chosen:
                result = self._attempt(case.name, self._first, case)
                if result:
                    self._found[case] = result
            small = self._attempt("the time of small calls", self._calls.host_times)
            for case in beside_all_peers(self._found) if version("triton") else ():
                self._beside("torch.compile", self._calls.compiled, case)
                self._beside("Triton", self._calls.triton, case)
        except RuntimeError as error:  # the device has stopped answering
            self._fail("all further cases", one_line(error))
        return {
            **about,
            "host": small or [],
            "cases": list(self._found.values()),
            "failed": self._failed,
            "left_out": self._left_out,
        }

    def _attempt(self, name, measure, *arguments):
        """What is measured; None where it fails, or no time is left."""
        if time.monotonic() > self._until:
            self._left_out.append(name)
            return None
        try:
            with self._console.status(name):
                return measure(*arguments)
        except Exception as error:
            self._fail(name, one_line(error))
            self._torch.cuda.synchronize()  # raises where it is not the case's error alone
            return None

    def _fail(self, name, why):
        self._failed.append({"case": name, "why": why})
        self._console.print(f"{name}: {why}", style="red", markup=False, soft_wrap=True)

    def _first(self, case):
        """Our time, torch's, and the yardstick's."""
        pairs = self._arrays.of(case)
        bits = self._calls.compared(case, *pairs[0])
        if bits.startswith("wrong"):
            self._fail(case.name, bits)
        calls = {
            "yardstick": self._calls.copying if case.mapped else self._read,
            "fastsoftmax": self._calls.ours(case),
            "torch": self._calls.eager(case),
        }
        calls = {name: call for name, call in calls.items() if call}
        for call in calls.values():
            call(*pairs[0])
        ms = self._calls.medians(calls, pairs)
        moved = pairs[0][0].nbytes * (2 if case.mapped else 1)
        return {
            "function": case.function,
            "dtype": case.dtype,
            "mapped": case.mapped,
            "rows": case.rows,
            "shape": case.array,
            "ms": ms["fastsoftmax"],
            "yardstick_ms": ms["yardstick"],
            "gigabytes_per_second": moved / ms["fastsoftmax"] / 1e6,
            "wanted": case.wanted,
            "bits": bits,
            "peers": {"torch": peer(ms["torch"], ms["fastsoftmax"])} if "torch" in ms else {},
        }

    def _beside(self, name, make, case):
        """Our time beside that of what is compiled for a case, in turns."""

        def measured():
            pairs = self._arrays.of(case)
            call = make(case, pairs)
            if call is None:
                return None
            call(*pairs[0])
            ms = self._calls.medians({"ours": self._calls.ours(case), name: call}, pairs)
            return peer(ms[name], ms["ours"])

        found = self._attempt(f"{name}, {case.name}", measured)
        if found:
            self._found[case]["peers"][name] = found


def peer(ms, ours_ms):
    """A peer's time, and ours measured in turns with it."""
    return {"ms": ms, "ours_ms": ours_ms}


def one_line(error):
    """An error by its type and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def machine(torch):
    """The device, its driver, and versions."""
    device = torch.cuda.get_device_properties(0)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": {
            "name": device.name,
            "capability": f"{device.major}.{device.minor}",
            "multiprocessors": device.multi_processor_count,
            "gigabytes": round(device.total_memory / 1e9),
            "driver": driver(),
            "runtime": torch.version.cuda,
        },
        "versions": {
            "fastsoftmax": fastsoftmax.__version__,  # which need not be installed
            "Python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
    }


def version(name):
    """The installed version of a package; "" where it is not there."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def driver():
    """The driver's version, as nvidia-smi has it; "" where there is none to ask."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.split()[0] if answer.stdout.split() else ""


# --- the command -----------------------------------------------------------------------------


def device_library():
    """torch, with a device on which fastsoftmax computes.

    Raises
    ------
    Unable
        Where one of them is missing.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise Unable("needs torch with CUDA: pip install torch") from None
    if not torch.cuda.is_available():
        raise Unable(f"no GPU that torch {torch.__version__} can use")
    try:
        fastsoftmax.softmax(torch.zeros(2, device="cuda"), axis=-1)
    except RuntimeError as error:
        raise Unable(one_line(error)) from None
    return torch


def show(run, console):
    """Tables on the terminal: a row for each case, then small calls, then what is missing."""
    peers = gpu.PEERS
    table = Table("case", "ms", "GB/s", "of a copy*", "wanted", *peers, "bits")
    for case in run["cases"]:
        fraction, wanted = gpu.fraction(case), case["wanted"]
        missed = wanted is not None and fraction < wanted
        table.add_row(
            f"{case['function']} {case['dtype']} {case['shape']}",
            f"{case['ms']:.3f}",
            f"{case['gigabytes_per_second']:,.0f}",
            f"[red]{fraction:.2f}[/red]" if missed else f"{fraction:.2f}",
            "" if wanted is None else f"{wanted:.2f}",
            *(gpu.number(gpu.relative_to_ours(case, name)) for name in peers),
            case["bits"],
        )
    console.print(table)
    console.print("* of a copy's bandwidth; where a row gives one number, of reading's.")
    console.print("torch, torch.compile, Triton: their time over ours.")
    console.print(gpu.summary(run), soft_wrap=True)
    for failure in run["failed"]:
        console.print(f"failed: {failure['case']}: {failure['why']}", style="red", soft_wrap=True)
    if run["left_out"]:
        console.print(f"no time was left for {len(run['left_out'])} of the comparisons")
    console.print(gpu.provenance(run), soft_wrap=True)


def main(arguments=None):
    """Measure and show: 0; 1 where something failed, 2 where nothing can be measured here."""
    parser = argparse.ArgumentParser(prog="cuda.py", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("--only", default="", metavar="WORDS", help="such as 'softmax float32'")
    parser.add_argument("--minutes", type=float, default=5.0, help="what it may take (5)")
    options = parser.parse_args(arguments)
    until = time.monotonic() + 60 * options.minutes - RESERVE
    console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)
    try:
        if options.json and not options.json.parent.is_dir():
            raise Unable(f"cannot write {str(options.json)!r}: no such folder")
        run = Run(device_library(), until, console).measured(options.only)
    except Unable as unable:
        print(f"cuda.py: {unable}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    show(run, console)
    return 1 if run["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
