"""What all tables of a run of the benchmarks have in common: where it was made, and ratios."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path("tests/benchmarks")
Run = Mapping[str, Any]

_MACHINE = ("cpu_model", "code_for", "threads", "versions", "numba", "python_version", "missing")


class Table(NamedTuple):
    """What the README shows of a run between two markers, and what is kept to make it again."""

    marker: str
    key: str  # what a run has, or one of its benchmarks, that holds such measurements
    text: Callable[[Run], str]
    to_json: Callable[[Run], str]

    @property
    def kept(self) -> str:
        """The file in `FOLDER`."""
        return f"{self.marker}.json"

    @property
    def not_yet(self) -> str:
        """What stands there until something is kept."""
        return f"Not yet measured: no run is kept in `{FOLDER / self.kept}`.\n"

    def is_in(self, run: Run) -> bool:
        """Whether this is what was measured, or among it."""
        return self.key in run or any(
            self.key in each.get("extra_info", {}) for each in run.get("benchmarks", [])
        )

    def read(self, path: Path) -> dict[str, Any]:
        """A run that was kept, or any other that the benchmarks wrote.

        Raises
        ------
        ValueError
            Where the file holds no such run.
        """
        run = json.loads(path.read_text(encoding="utf-8"))
        try:
            self.text(run)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds no run of the benchmarks: {error!r}") from None
        return dict(run)

    def section(self, folder: Path) -> str:
        """What belongs between the markers by what a folder keeps.

        Raises
        ------
        ValueError
            Where the file holds no such run.
        """
        path = folder / self.kept
        return self.text(self.read(path)) if path.exists() else self.not_yet


def head(run: Run) -> dict[str, Any]:
    """Of a run's date and machine what `provenance` tells."""
    machine = {key: run["machine_info"][key] for key in _MACHINE}
    return {"datetime": run["datetime"], "machine_info": machine}


def lines_of(run: Run, measurements: list[dict[str, Any]]) -> str:
    """JSON of what is kept of a run of pytest-benchmark: a line for each measurement."""
    lines = ",\n".join(json.dumps(each) for each in measurements)
    return json.dumps(head(run))[:-1] + ', "benchmarks": [\n' + lines + "\n]}\n"


def number(value: float | None) -> str:
    """A ratio for a table."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def provenance(run: Run, libraries: Collection[str] | None = None) -> str:
    """Machine, versions and date of a run; of all libraries, or of those that were asked for."""
    machine = run["machine_info"]
    shown = [name for name in machine["versions"] if libraries is None or name in libraries]
    versions = [
        f"{name} {machine['versions'][name]}" for name in shown if machine["versions"][name]
    ]
    absent = [
        f"{name} ({machine['missing'][name]})" for name in shown if name in machine["missing"]
    ]
    text = (
        f"Measured {run['datetime'][:10]}: {machine['cpu_model']}, code for {machine['code_for']}, "
        f"{machine['threads']} threads; {', '.join(versions)}, Numba {machine['numba']}, "
        f"Python {machine['python_version']}."
    )
    return text + (f" Not compared: {', '.join(absent)}." if absent else "")
