"""The README's figure of a memory map, from what `tests/benchmarks/memory_map.py` wrote."""

from __future__ import annotations

import json

from verification.measured import Run, Table, head, provenance

_MIB = 1 << 20
LIBRARIES = ("fastsoftmax", "numpy")


def table_of(run: Run) -> str:
    """Markdown: time and memory, where the file is in the system's cache and where it is not."""
    measured = run["memory_map"]
    rows, classes = measured["shape"]
    nbytes = 4 * rows * classes
    lines = [
        f"| {rows:,} x {classes:,} float32, {_size(nbytes)}, to the top {measured['k']} | s "
        "| reading alone, s | memory of its own | the most resident at once |",
        "|---|---|---|---|---|",
    ]
    for name, each in measured["from"].items():
        lines.append(
            f"| from {name} | {each['seconds']:.2f} | {each['reading_seconds']:.2f} | "
            f"{_size(each['anonymous_peak'] - each['anonymous_before'])} | "
            f"{_size(each['resident_peak'])} |"
        )
    lines += [
        "",
        f"Of that memory {_size(measured['answer'])} are the answer; the probabilities would be "
        f"{_size(nbytes)}. Python with the libraries loaded has {_size(_before(run))} before it "
        "begins. What is resident also counts pages of the file that the system takes back "
        "whenever it needs them.",
        "",
        provenance(run, LIBRARIES),
        "",
    ]
    return "\n".join(lines)


def _before(run: Run) -> float:
    return max(float(each["anonymous_before"]) for each in run["memory_map"]["from"].values())


def _size(nbytes: float) -> str:
    """Bytes in MiB or GB, as one speaks of memory and of files."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{nbytes / _MIB:.0f} MiB"


def to_json(run: Run) -> str:
    """What is kept of it: all."""
    return json.dumps(head(run) | {"memory_map": run["memory_map"]}, indent=1) + "\n"


TABLE = Table("memory_map", "memory_map", table_of, to_json)
