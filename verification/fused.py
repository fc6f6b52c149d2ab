"""The README's table of what is made of a softmax, from a run of the benchmarks.

Kept is what `tests/benchmarks/test_scoring_speed.py` measured; `verification.speed` writes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from verification.measured import Run, Table, lines_of, number, provenance

LIBRARIES = ("fastsoftmax", "scipy", "numpy", "torch")

_KEPT_OF_EACH = (
    "question", "beside", "dtype", "shape", "beside_ms", "wanted", "peers_ms", "wanted_of_peers",
)  # fmt: skip


class Measurement(NamedTuple):
    """A function at one shape."""

    info: Mapping[str, Any]
    ms: float

    @property
    def ratio(self) -> float:
        """Our time over that of what it is held to."""
        return float(self.ms / self.info["beside_ms"])

    @property
    def best(self) -> float | None:
        """The fastest other library's time over ours; None where none was there."""
        return min((ms / self.ms for ms in self.info["peers_ms"].values()), default=None)

    @property
    def within(self) -> bool | None:
        """Whether the first is at most what is wanted; None where nothing is."""
        wanted = self.info["wanted"]
        return None if wanted is None else self.ratio <= wanted

    @property
    def ahead(self) -> bool | None:
        """Whether the second is at least what is wanted."""
        return None if self.best is None else self.best >= self.info["wanted_of_peers"]

    @property
    def cell(self) -> str:
        """Both, in bold where they are not as wanted."""
        both = [(self.ratio, self.within), (self.best, self.ahead)]
        shown = [f"**{number(x)}**" if held is False else number(x) for x, held in both]
        return "; ".join(shown)


def measurements(run: Run) -> list[Measurement]:
    """What was measured of each function at each shape.

    Raises
    ------
    ValueError
        Where the run has nothing of these.
    """
    found = [
        Measurement(each["extra_info"], each["stats"]["min"] * 1e3)
        for each in run.get("benchmarks", [])
        if TABLE.key in each["extra_info"]
    ]
    if not found:
        raise ValueError("no benchmark of what is made of a softmax in the file")
    return found


def table_of(run: Run) -> str:
    """Markdown: a row for each function, two ratios for each shape; then how many are as wanted."""
    found = measurements(run)
    shapes = list(dict.fromkeys(each.info["shape"] for each in found))
    lines = [
        "| float32: our time over that of; the best other's over ours | at most; at least | "
        + " | ".join(shapes)
        + " |",
        "|---|---|" + "---|" * len(shapes),
    ]
    for name in dict.fromkeys(each.info["question"] for each in found):
        of_it = {each.info["shape"]: each for each in found if each.info["question"] == name}
        first = next(iter(of_it.values())).info
        cells = [of_it[shape].cell if shape in of_it else "-" for shape in shapes]
        wanted = _wanted([each.info for each in of_it.values()])
        lines.append(f"| {name}, over {first['beside']} | {wanted} | {' | '.join(cells)} |")
    within = [each.within for each in found if each.within is not None]
    ahead = [each.ahead for each in found if each.ahead is not None]
    summary = (
        f"As wanted are {sum(within)} of {len(within)} ratios to what a function is held to, and "
        f"{sum(ahead)} of {len(ahead)} to the best other library; in bold are those that are not."
    )
    return "\n".join([*lines, "", summary, "", provenance(run, LIBRARIES), ""])


def _wanted(infos: list[Mapping[str, Any]]) -> str:
    """Of our time over another's at most this, of another's over ours at least that."""
    bounds = [info["wanted"] for info in infos if info["wanted"] is not None]
    most = f"{bounds[0]:g}" if bounds else "-"
    return f"{most}; {infos[0]['wanted_of_peers']:g}"


def to_json(run: Run) -> str:
    """Of a run what the table is made of, a line for each measurement."""
    kept = [
        {
            "extra_info": {key: each.info[key] for key in _KEPT_OF_EACH},
            "stats": {"min": each.ms / 1e3},
        }
        for each in measurements(run)
    ]
    return lines_of(run, kept)


TABLE = Table("scoring", "question", table_of, to_json)
