"""The README's comparisons of speed, from the JSON of a run of the benchmarks.

python -m pytest tests/benchmarks --benchmark-enable --benchmark-json run.json
python -m verification.speed run.json    # README.md, and tests/benchmarks/{speed,scoring}.json
python -m verification.pictures          # what is drawn from that
python tests/benchmarks/memory_map.py run.json
python -m verification.speed run.json    # README.md, and tests/benchmarks/memory_map.json

A run may hold any of these tables; the others stay as they are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verification import fused, mapped
from verification.markers import replaced
from verification.measured import FOLDER, Run, Table, lines_of, number, provenance

OURS = "fastsoftmax"
Measured = dict[str, Any]
# (function, dtype, shape) -> library -> what was measured
Groups = dict[tuple[str, str, str], dict[str, Measured]]

_KEPT_OF_EACH = (
    "library", "function", "dtype", "shape", "length", "pace_ms", "gigabytes_per_second",
)  # fmt: skip


def groups_of(run: Mapping[str, Any]) -> Groups:
    """What was measured, by case and library; times in milliseconds.

    Raises
    ------
    ValueError
        Where the file holds no benchmark of this project.
    """
    groups: Groups = {}
    for benchmark in run.get("benchmarks", []):
        info = benchmark["extra_info"]
        if "pace_ms" in info:
            key = info["function"], info["dtype"], info["shape"]
            measured = info | {"ms": benchmark["stats"]["min"] * 1e3}
            groups.setdefault(key, {})[info["library"]] = measured
    if not any(OURS in group for group in groups.values()):
        raise ValueError("no benchmark of fastsoftmax in the file")
    return groups


def relative_to_ours(group: dict[str, Measured], library: str) -> float | None:
    """A library's time over ours."""
    if library not in group or OURS not in group:
        return None
    return float(group[library]["ms"] / group[OURS]["ms"])


def of_a_copy(group: dict[str, Measured]) -> float:
    """Our time over that of the yardstick, which ran in turns with each library: their median."""
    return float(group[OURS]["ms"] / statistics.median(each["pace_ms"] for each in group.values()))


def table_of(run: Run) -> str:
    """Markdown: float32 softmax beside every library, then the other functions and float64."""
    groups = groups_of(run)
    libraries = [name for name in run["machine_info"]["versions"] if name != OURS]
    shown = [name for name in libraries if any(name in group for group in groups.values())]
    lines = [
        "| softmax, float32 | ms | of a copy | " + " | ".join(shown) + " |",
        "|---|" + "---|" * (len(shown) + 2),
    ]
    for (function, dtype, shape), group in groups.items():
        if (function, dtype) == ("softmax", "float32") and OURS in group:
            ours = group[OURS]
            cells = [number(relative_to_ours(group, name)) for name in shown]
            head = f"| {shape} | {ours['ms']:.2f} | {of_a_copy(group):.2f} | "
            lines.append(head + " | ".join(cells) + " |")
    others = {key: group for key, group in groups.items() if key[:2] != ("softmax", "float32")}
    kinds = list(dict.fromkeys(key[:2] for key in others))
    if kinds:
        lines += ["", "<details><summary>log_softmax, logsumexp and float64</summary>", ""]
        lines += ["| of a copy (logsumexp: of reading); the best other's time over ours |"]
        lines[-1] += "".join(f" {function}, {dtype} |" for function, dtype in kinds)
        lines.append("|---|" + "---|" * len(kinds))
        for shape in dict.fromkeys(key[2] for key in others):
            cells = []
            for function, dtype in kinds:
                group = others.get((function, dtype, shape), {})
                if OURS not in group:
                    cells.append("-")
                    continue
                rest = [relative_to_ours(group, name) for name in group if name != OURS]
                best = min((value for value in rest if value is not None), default=None)
                cells.append(f"{of_a_copy(group):.2f}; {number(best)}")
            lines.append(f"| {shape} | " + " | ".join(cells) + " |")
        lines += ["", "</details>"]
    return "\n".join([*lines, "", provenance(run), ""])


def to_json(run: Run) -> str:
    """Of a run what tables and pictures are made of: a twentieth, a line for each measurement."""
    measured = [
        {
            "extra_info": {key: each["extra_info"][key] for key in _KEPT_OF_EACH},
            "stats": {"min": each["stats"]["min"]},
        }
        for each in run["benchmarks"]
        if "pace_ms" in each["extra_info"]
    ]
    return lines_of(run, measured)


TABLE = Table("speed", "pace_ms", table_of, to_json)
TABLES = (TABLE, fused.TABLE, mapped.TABLE)


def tables_in(path: Path) -> dict[Table, dict[str, Any]]:
    """The tables that are made of a file, with the run that it holds.

    Raises
    ------
    ValueError
        Where there are none, or where the file lacks some of what one of them shows.
    """
    run = json.loads(path.read_text(encoding="utf-8"))
    found = [table for table in TABLES if isinstance(run, dict) and table.is_in(run)]
    if not found:
        raise ValueError("it holds no run of the benchmarks")
    return {table: table.read(path) for table in found}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.speed", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("run", type=Path, help="what --benchmark-json or memory_map.py wrote")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    options = parser.parse_args(arguments)
    try:
        runs = tables_in(options.run)
        text = options.readme.read_text(encoding="utf-8")
        for table, run in runs.items():
            text = replaced(text, table.marker, table.text(run))
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {options.run}: {error}", file=sys.stderr)
        return 2
    for table, run in runs.items():
        path = options.readme.parent / FOLDER / table.kept
        path.write_text(table.to_json(run), encoding="utf-8")
    options.readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
