"""The README's pictures, drawn from what was measured and kept: light or dark, as the page is.

python -m verification.pictures    # from tests/benchmarks/*.json
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from verification import speed, spreads
from verification.speed import OURS, Measured
from verification.spreads import Errors

FOLDER = Path("tests/benchmarks")
OVERVIEW, BANDWIDTH = "overview.svg", "bandwidth.svg"
# Beside us in the overview, where more would hide each other.
BESIDE = ("scipy", "torch", "onnxruntime")

_LOOKS = {
    OURS: ("#2f7fd0", "o"),
    "scipy": ("#d2631c", "s"),
    "torch": ("#25935f", "^"),
    "onnxruntime": ("#a565d6", "D"),
    "jax": ("#d8466a", "v"),
    "scikit-learn": ("#17909e", "P"),
    "numpy": ("#a37a2c", "X"),
}
# Drawn in these, which the SVG's own style sheet then names for light and for dark.
_INK, _GRID = "#010203", "#040506"
_COLOURS = (
    "<style>:root{--ink:#1b1f24;--grid:#d5dade}@media (prefers-color-scheme:dark)"
    "{:root{--ink:#e4e8ec;--grid:#3a4149}}</style>"
)
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "softmax",  # the same picture has the same bytes
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _GRID,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
}


def overview(errors: Sequence[Errors], run: Mapping[str, Any]) -> str:
    """SVG: how far off softmax is by the logits' spread, and its time by the rows' length."""
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name in (OURS, *BESIDE):
            worst = {
                e.spread: e.worst for e in errors if (e.library, e.function) == (name, "softmax")
            }
            _line(left, name, worst)
        left.axhline(2, color=_INK, linestyle=":", linewidth=1.2)
        _axes(
            left,
            "softmax, float32: the worst error of a million",
            "deviation of ten normal logits",
            "ULP",
        )
        for name in (OURS, *BESIDE):
            _line(right, name, _times(run, name))
        threads = run["machine_info"]["threads"]
        _axes(
            right,
            f"softmax, float32: time over ours, {threads} threads",
            "logits in a row",
            "times ours",
        )
        handles, names = right.get_legend_handles_labels()
        handles.append(Line2D([], [], color=_INK, linestyle=":", linewidth=1.2))
        figure.legend(handles, [*names, "2 ULP"], loc="outside lower center", ncols=5)
        return _svg(figure)


def _of_rows(run: Mapping[str, Any]) -> list[dict[str, Measured]]:
    """What was measured of float32 softmax along contiguous rows, for each shape by library."""
    return [
        group
        for (function, dtype, shape), group in speed.groups_of(run).items()
        if (function, dtype) == ("softmax", "float32") and shape.endswith("axis -1")
    ]


def _times(run: Mapping[str, Any], library: str) -> dict[float, float]:
    """A library's time over ours by the length of rows."""
    found: dict[float, float] = {}
    for group in _of_rows(run):
        ratio = speed.relative_to_ours(group, library)
        if ratio is not None:
            # Of two shapes with rows of one length, the one where we are the less fast.
            length = float(group[library]["length"])
            found[length] = min(ratio, found.get(length, ratio))
    return found


def bandwidth(run: Mapping[str, Any]) -> str:
    """SVG: bandwidth against the length of contiguous rows, float32 softmax, and the copy's."""
    rows = _of_rows(run)
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for name in run["machine_info"]["versions"]:
            there = [group[name] for group in rows if name in group]
            _line(axes, name, {each["length"]: each["gigabytes_per_second"] for each in there})
        copies = {
            group[OURS]["length"]: group[OURS]["gigabytes_per_second"] * speed.of_a_copy(group)
            for group in rows
            if OURS in group
        }
        axes.plot(*zip(*sorted(copies.items()), strict=True), label="copy", color=_INK, ls="--")
        title = f"softmax, float32, {run['machine_info']['threads']} threads"
        _axes(axes, title, "logits in a row", "GB/s read and written")
        figure.legend(loc="outside right center")
        return _svg(figure)


def _line(axes: Axes, name: str, points: Mapping[float, float]) -> None:
    """A library's line, which looks the same in every picture."""
    if points:
        colour, marker = _LOOKS[name]
        width = 2.5 if name == OURS else 1.3
        x, y = zip(*sorted(points.items()), strict=True)
        axes.plot(x, y, label=name, color=colour, marker=marker, linewidth=width, markersize=5)


def _axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Titles, and ticks where one looks for them: 1, 2, 5, 10, or decades where these are many."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        steps = (1, 2, 5) if high / low < 1000 else (1,)
        axis.set_major_locator(LogLocator(subs=steps, numticks=99))
        axis.set_major_formatter(_short)
    axes.minorticks_off()


def _short(value: float, position: float) -> str:
    """A tick's number, as short as one reads it at once: 0.5, 20, 10k, 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _svg(figure: Figure) -> str:
    memory = io.StringIO()
    figure.savefig(memory, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"[ \t]+$", "", memory.getvalue(), flags=re.MULTILINE)
    text = text.replace(_INK, "var(--ink)").replace(_GRID, "var(--grid)")
    return text.replace("<defs>", f"{_COLOURS}\n<defs>", 1)


def write(folder: Path) -> None:
    """Draw both from what a folder keeps.

    Raises
    ------
    OSError, ValueError
        Where something is not there, or is not what was measured; nothing is written then.
    """
    run, errors = speed.TABLE.read(folder / speed.TABLE.kept), spreads.kept(folder / spreads.KEPT)
    drawn = {OVERVIEW: overview(errors, run), BANDWIDTH: bandwidth(run)}
    for name, text in drawn.items():
        (folder / name).write_text(text, encoding="utf-8")


def main() -> int:
    """The command line; see the top of this file."""
    try:
        write(FOLDER)
    except (OSError, ValueError) as error:
        print(f"python -m verification.pictures: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
