"""The README's comparison on a GPU, from the JSON of a run of the benchmark there.

python tests/benchmarks/cuda.py --json tests/benchmarks/gpu.json    # on a machine with a GPU
python -m verification.gpu                                          # README.md, anywhere
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from verification.markers import replaced

RUN = Path("tests/benchmarks/gpu.json")
MARKER = "gpu"
PEERS = ("torch", "torch.compile", "Triton")
NOT_YET = "Not yet measured: no run of the benchmark is kept in `tests/benchmarks/gpu.json`.\n"
# The types whose softmax is shown beside every peer.
BESIDE_ALL = ("float32", "bfloat16")
ODD_AND_EVEN = ("50,257", "50,256")

Case = dict[str, Any]


def fraction(case: Case) -> float:
    """Our bandwidth over the yardstick's."""
    return float(case["yardstick_ms"] / case["ms"])


def relative_to_ours(case: Case | None, peer: str) -> float | None:
    """A peer's time over ours, where both ran in turns."""
    if case is None or peer not in case["peers"]:
        return None
    return float(case["peers"][peer]["ms"] / case["peers"][peer]["ours_ms"])


def number(value: float | None) -> str:
    """A ratio for a table."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def section(path: Path = RUN) -> str:
    """What belongs between the README's markers: tables, or that there are none yet.

    Raises
    ------
    ValueError
        Where the file holds no run of the benchmark.
    """
    if not path.exists():
        return NOT_YET
    run = json.loads(path.read_text(encoding="utf-8"))
    try:
        return table_of(run)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a run of the benchmark: {error!r}") from None


def table_of(run: dict[str, Any]) -> str:
    """Markdown: softmax beside every peer, the other functions, then what sums it up."""
    parts = [*_beside_all(run["cases"]), *_others(run["cases"]), "", summary(run)]
    if run["failed"]:
        names = "; ".join(failure["case"] for failure in run["failed"])
        parts += ["", f"Failed: {names}."]
    return "\n".join([*parts, "", provenance(run), ""])


def _beside_all(cases: Sequence[Case]) -> Iterator[str]:
    """softmax of the types that are compared with every peer: one row for each length."""
    found = {(case["dtype"], case["rows"]): case for case in cases if case["function"] == "softmax"}
    types = [dtype for dtype in BESIDE_ALL if any(key[0] == dtype for key in found)]
    heads = (f"{dtype}, of a copy | {' | '.join(PEERS)}" for dtype in types)
    yield f"| softmax | {' | '.join(heads)} |"
    yield "|---|" + "---|" * (len(types) * (1 + len(PEERS)))
    for rows in _shown(found, types):
        cells = []
        for dtype in types:
            case = found.get((dtype, rows))
            cells.append("-" if case is None else f"{fraction(case):.2f}")
            cells += [number(relative_to_ours(case, peer)) for peer in PEERS]
        yield f"| {rows} | {' | '.join(cells)} |"


def _others(cases: Sequence[Case]) -> Iterator[str]:
    """Everything else: the fraction, and torch's time over ours where it has the function."""
    found = {(f"{case['function']}, {case['dtype']}", case["rows"]): case for case in cases}
    kinds = list(dict.fromkeys(kind for kind, _ in found))
    kinds = [kind for kind in kinds if kind not in {f"softmax, {dtype}" for dtype in BESIDE_ALL}]
    if not kinds:
        return
    yield ""
    yield f"| of a copy or of reading; torch's time over ours | {' | '.join(kinds)} |"
    yield "|---|" + "---|" * len(kinds)
    for rows in _shown(found, kinds):
        cells = []
        for kind in kinds:
            case = found.get((kind, rows))
            beside = relative_to_ours(case, "torch")
            text = "-" if case is None else f"{fraction(case):.2f}"
            cells.append(text if beside is None else f"{text}; {number(beside)}")
        yield f"| {rows} | {' | '.join(cells)} |"


def _shown(found: dict[tuple[str, str], Case], kinds: Sequence[str]) -> list[str]:
    """The rows of a table in their order."""
    return list(dict.fromkeys(rows for kind, rows in found if kind in kinds))


def summary(run: dict[str, Any]) -> str:
    """The geometric mean of each peer's times over ours, a small call's time, and the bits."""
    sentences = []
    for peer in PEERS:
        ratios = [relative_to_ours(case, peer) for case in run["cases"]]
        logs = [math.log(ratio) for ratio in ratios if ratio is not None]
        if logs:
            behind = sum(value < 0 for value in logs)
            mean = math.exp(sum(logs) / len(logs))
            sentences.append(
                f"{peer} takes {mean:.2f} times our time in the geometric mean of "
                f"{len(logs)} case{'s' * (len(logs) > 1)}, and less than ours in {behind}."
            )
    for call in run["host"]:
        times = ", ".join(f"{name} {us:.1f}" for name, us in call["us"].items())
        sentences.append(
            f"The caller's microseconds for softmax of {call['shape']} {call['dtype']}: {times}."
        )
    sentences += _beside_even(run["cases"])
    same = sum(case["bits"].startswith("the CPU's bits") for case in run["cases"])
    sentences.append(f"Of {len(run['cases'])} cases, {same} have the CPU's bits.")
    return " ".join(sentences)


def _beside_even(cases: Sequence[Case]) -> Iterator[str]:
    """What rows cost that do not begin where vectors do."""
    found = {(case["dtype"], case["rows"]): case for case in cases if case["function"] == "softmax"}
    for dtype in BESIDE_ALL:
        odd, even = (found.get((dtype, f"rows of {length}")) for length in ODD_AND_EVEN)
        if odd and even:
            share = fraction(odd) / fraction(even)
            yield (
                f"softmax of rows of {ODD_AND_EVEN[0]} {dtype} has {share:.2f} of the bandwidth "
                f"of {ODD_AND_EVEN[1]}."
            )


def _yardsticks(run: dict[str, Any]) -> Iterator[str]:
    """The bandwidth of copying and of reading: the median over the cases beside which they ran."""
    for name, mapped in (("copying", True), (f"reading (by {run['read_by']})", False)):
        found = [
            case["gigabytes_per_second"] / fraction(case)
            for case in run["cases"]
            if case["mapped"] == mapped
        ]
        if found:
            yield f"{name} at {statistics.median(found):,.0f} GB/s"


def provenance(run: dict[str, Any]) -> str:
    """Device, driver, versions, yardsticks and date of a run."""
    device = run["device"]
    versions = ", ".join(f"{name} {v}" for name, v in run["versions"].items() if v)
    driver = f"driver {device['driver']}, " if device["driver"] else ""
    return (
        f"Measured {run['date']}: {device['name']} (compute capability {device['capability']}, "
        f"{device['multiprocessors']} multiprocessors, {device['gigabytes']} GB), {driver}"
        f"CUDA {device['runtime']}; {versions}; {', '.join(_yardsticks(run))}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m verification.gpu", description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", help=f"a run's JSON; {RUN} if it is there")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    options = parser.parse_args(arguments)
    try:
        if options.run:
            options.run.stat()  # one that is named must be there
        table = section(options.run or RUN)
        text = replaced(options.readme.read_text(encoding="utf-8"), MARKER, table)
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {options.run or RUN}: {error}", file=sys.stderr)
        return 2
    options.readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
