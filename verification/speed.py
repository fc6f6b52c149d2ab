"""The README's comparison of speed, from the JSON of a run of the benchmarks.

python -m pytest tests/benchmarks --benchmark-enable --benchmark-json run.json
python -m verification.speed run.json    # README.md, and tests/benchmarks/speed.json
python -m verification.pictures          # what is drawn from that
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verification.markers import replaced

OURS = "fastsoftmax"
FOLDER, KEPT = Path("tests/benchmarks"), "speed.json"
MARKER = "speed"
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


def table_of(run: dict[str, Any]) -> str:
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
            cells = [_number(relative_to_ours(group, name)) for name in shown]
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
                cells.append(f"{of_a_copy(group):.2f}; {_number(best)}")
            lines.append(f"| {shape} | " + " | ".join(cells) + " |")
        lines += ["", "</details>"]
    return "\n".join([*lines, "", provenance(run), ""])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def provenance(run: dict[str, Any]) -> str:
    """Machine, versions and date of a run."""
    machine = run["machine_info"]
    versions = [f"{name} {v}" for name, v in machine["versions"].items() if v]
    absent = [f"{name} ({reason})" for name, reason in machine["missing"].items()]
    text = (
        f"Measured {run['datetime'][:10]}: {machine['cpu_model']}, code for {machine['code_for']}, "
        f"{machine['threads']} threads; {', '.join(versions)}, Numba {machine['numba']}, "
        f"Python {machine['python_version']}."
    )
    return text + (f" Not compared: {', '.join(absent)}." if absent else "")


def kept(path: Path) -> dict[str, Any]:
    """A run that was kept, or any other that the benchmarks wrote.

    Raises
    ------
    ValueError
        Where the file holds no run of the benchmarks.
    """
    run = json.loads(path.read_text(encoding="utf-8"))
    try:
        table_of(run)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no run of the benchmarks: {error!r}") from None
    return dict(run)


def to_json(run: dict[str, Any]) -> str:
    """Of a run what tables and pictures are made of: a twentieth, a line for each measurement."""
    shown = ("cpu_model", "code_for", "threads", "versions", "numba", "python_version", "missing")
    machine = {key: run["machine_info"][key] for key in shown}
    lines = []
    for benchmark in run["benchmarks"]:
        if "pace_ms" in benchmark["extra_info"]:
            info = {key: benchmark["extra_info"][key] for key in _KEPT_OF_EACH}
            lines.append(
                json.dumps({"extra_info": info, "stats": {"min": benchmark["stats"]["min"]}})
            )
    head = json.dumps({"datetime": run["datetime"], "machine_info": machine})[1:-1]
    return "{" + head + ', "benchmarks": [\n' + ",\n".join(lines) + "\n]}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m verification.speed", description=__doc__)
    parser.add_argument("run", type=Path, help="what --benchmark-json wrote")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    options = parser.parse_args(arguments)
    try:
        run = kept(options.run)
        text = replaced(options.readme.read_text(encoding="utf-8"), MARKER, table_of(run))
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {options.run}: {error}", file=sys.stderr)
        return 2
    (options.readme.parent / FOLDER / KEPT).write_text(to_json(run), encoding="utf-8")
    options.readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
