"""The README's comparison of speed, and its figure, from the JSON of a run of the benchmarks.

python -m pytest tests/benchmarks --benchmark-enable --benchmark-json speed.json
python -m verification.speed speed.json    # README.md and tests/benchmarks/bandwidth.svg
"""

from __future__ import annotations

import argparse
import io
import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from verification.markers import replaced

OURS = "fastsoftmax"
FIGURE = Path("tests/benchmarks/bandwidth.svg")
Measured = dict[str, Any]
# (function, dtype, shape) -> library -> what was measured
Groups = dict[tuple[str, str, str], dict[str, Measured]]

_COLOURS = ("#2f7fd0", "#d2631c", "#25935f", "#a565d6", "#d8466a", "#17909e", "#a37a2c")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def groups_of(run: dict[str, Any]) -> Groups:
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
        lines += ["", "| of a copy (logsumexp: of reading); the best other's time over ours |"]
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


def figure_of(run: dict[str, Any]) -> str:
    """SVG: bandwidth against the length of contiguous rows, float32 softmax, and the copy's."""
    groups = groups_of(run)
    rows = {
        key[2]: group
        for key, group in groups.items()
        if key[:2] == ("softmax", "float32") and key[2].endswith("axis -1")
    }
    with style.context({"svg.fonttype": "none", "svg.hashsalt": "speed", "font.size": 10}):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for index, library in enumerate(run["machine_info"]["versions"]):
            points = sorted(
                (group[library]["length"], group[library]["gigabytes_per_second"])
                for group in rows.values()
                if library in group
            )
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    label=library,
                    color=_COLOURS[index % len(_COLOURS)],
                    marker=_MARKERS[index % len(_MARKERS)],
                    linewidth=2.5 if library == OURS else 1.2,
                    markersize=5,
                )
        ceiling = sorted(
            (
                group[OURS]["length"],
                group[OURS]["gigabytes_per_second"] * of_a_copy(group),
            )
            for group in rows.values()
            if OURS in group
        )
        axes.plot(*zip(*ceiling, strict=True), label="copy", color="#808080", linestyle="--")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("logits in a row")
        axes.set_ylabel("GB/s read and written")
        axes.set_title(f"softmax, float32, {run['machine_info']['threads']} threads")
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right center", frameon=False)
        memory = io.StringIO()
        figure.savefig(memory, format="svg", metadata={"Date": None})
    return re.sub(r"[ \t]+$", "", memory.getvalue(), flags=re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m verification.speed", description=__doc__)
    parser.add_argument("run", type=Path, help="what --benchmark-json wrote")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args(arguments)
    try:
        run = json.loads(options.run.read_text(encoding="utf-8"))
        table, figure = table_of(run), figure_of(run)
        text = replaced(options.readme.read_text(encoding="utf-8"), "speed", table)
    except (OSError, ValueError, KeyError) as error:
        print(f"{parser.prog}: {options.run}: {error}", file=sys.stderr)
        return 2
    options.readme.write_text(text, encoding="utf-8")
    options.figure.write_text(figure, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
