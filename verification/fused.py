"""The README's table of what is made of a softmax, from a run of the benchmarks.

Kept is what `tests/benchmarks/test_scoring_speed.py` measured; `verification.speed` writes both.
"""

from __future__ import annotations

from typing import Any

from verification.measured import Run, Table, lines_of, number, provenance

LIBRARIES = ("fastsoftmax", "scipy", "numpy", "torch")

_KEPT_OF_EACH = (
    "question", "beside", "dtype", "shape", "beside_ms", "wanted", "peers_ms", "wanted_of_peers",
)  # fmt: skip


def measurements(run: Run) -> list[dict[str, Any]]:
    """Of each function and shape what was measured, our milliseconds among it.

    Raises
    ------
    ValueError
        Where the run has nothing of these.
    """
    found = [
        each["extra_info"] | {"ms": each["stats"]["min"] * 1e3}
        for each in run.get("benchmarks", [])
        if "question" in each["extra_info"]
    ]
    if not found:
        raise ValueError("no benchmark of what is made of a softmax in the file")
    return found


def table_of(run: Run) -> str:
    """Markdown: a row for each function, two numbers for each shape; then how often they hold."""
    found = measurements(run)
    shapes = list(dict.fromkeys(each["shape"] for each in found))
    cells = {(each["question"], each["shape"]): _cell(each) for each in found}
    lines = [
        "| float32: our time over that of; the best other's over ours | wanted | "
        + " | ".join(shapes)
        + " |",
        "|---|---|" + "---|" * len(shapes),
    ]
    for name in dict.fromkeys(each["question"] for each in found):
        of_it = [each for each in found if each["question"] == name]
        row = " | ".join(cells.get((name, shape), "-") for shape in shapes)
        lines.append(f"| {name}, over {of_it[0]['beside']} | {_wanted(of_it)} | {row} |")
    bounds = [ratio <= each["wanted"] for each in found if each["wanted"] for ratio in [_of(each)]]
    peers = [best >= each["wanted_of_peers"] for each in found for best in [_best(each)] if best]
    summary = (
        f"In bold is what is not as wanted: {sum(bounds)} of {len(bounds)} bounds hold, and "
        f"{sum(peers)} of {len(peers)} times no other library is faster than wanted."
    )
    return "\n".join([*lines, "", summary, "", provenance(run, LIBRARIES), ""])


def _of(each: dict[str, Any]) -> float:
    """Our time over that of what it is held to."""
    return float(each["ms"] / each["beside_ms"])


def _best(each: dict[str, Any]) -> float | None:
    """The fastest other library's time over ours; None where none was there."""
    return min((float(ms / each["ms"]) for ms in each["peers_ms"].values()), default=None)


def _wanted(measured: list[dict[str, Any]]) -> str:
    """At most this; at least that, where others have to be slower by more than nothing."""
    bounds = {each["wanted"] for each in measured} - {None}
    least = measured[0]["wanted_of_peers"]
    first = f"{bounds.pop():g}" if bounds else "-"
    return f"{first}; {least:g}"


def _cell(each: dict[str, Any]) -> str:
    """Both ratios, in bold where they are not as wanted."""
    ratio, best = _of(each), _best(each)
    missed = each["wanted"] is not None and ratio > each["wanted"]
    slower = best is not None and best < each["wanted_of_peers"]
    return f"{_bold(ratio, missed)}; {_bold(best, slower)}"


def _bold(value: float | None, missed: bool) -> str:
    return f"**{number(value)}**" if missed else number(value)


def to_json(run: Run) -> str:
    """Of a run what the table is made of, a line for each measurement."""
    kept = [
        {
            "extra_info": {key: each[key] for key in _KEPT_OF_EACH},
            "stats": {"min": each["ms"] / 1e3},
        }
        for each in measurements(run)
    ]
    return lines_of(run, kept)


TABLE = Table("scoring", table_of, to_json)
