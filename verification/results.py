"""What a run finds: one result for each check, a finding for each that fails, and the report."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

HELD, FAILED, SKIPPED = "held", "failed", "not applicable"


@dataclass(frozen=True)
class Finding:
    """A check that failed: what happened, and how to see it again.

    kind: "rounding" for an error beyond the bound that rounding explains in the ordinary formula,
    "wrong" for one that it does not, "property" and "test" for those of the suites of that name;
    or what is wrong with the call: "raises", "shape", "type", "changed input", "out", "time
    limit", "crash", "import", "lacks function".
    """

    kind: str
    message: str  # one line
    values: tuple[str, ...] = ()  # the logits, in hexadecimal
    call: str = ""
    got: str = ""
    expected: str = ""
    python: str = ""  # a line that repeats it


@dataclass(frozen=True)
class Result:
    """One check of one function of one subject."""

    suite: str
    case: str
    function: str
    dtype: str
    status: str
    ulp: float | None = None  # the worst error, over the allowance for cancellation
    bound: float | None = None
    source: str = ""  # where the bound comes from
    evidence: str = "sampled: a lower bound on the largest error"
    elements: int = 0
    note: str = ""  # what was measured, or why it was not
    place: dict[str, float] = field(default_factory=dict)
    histogram: dict[str, int] = field(default_factory=dict)  # elements by ULP, up to the key
    scipy: dict[str, float] = field(default_factory=dict)  # SciPy's worst ULP on the same input
    finding: Finding | None = None


@dataclass(frozen=True)
class SubjectReport:
    """All results of one subject."""

    name: str
    version: str
    functions: tuple[str, ...]
    dtypes: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def holds(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> list[Result]:
        """The results that failed."""
        return [r for r in self.results if r.status == FAILED]


@dataclass(frozen=True)
class Report:
    """A whole run."""

    subjects: tuple[SubjectReport, ...]
    suites: tuple[str, ...]
    seed: int
    target: str
    machine: dict[str, str]
    date: str

    @property
    def holds(self) -> bool:
        """Whether every check of every subject held."""
        return all(subject.holds for subject in self.subjects)


SCHEMA = """The JSON report, schema 1.

schema: 1. date: ISO 8601. machine: cpu, vector_bits, threads, platform, python and the versions
of numpy, numba, scipy and mpmath; for the target cuda, gpu and numba-cuda. seed, suites, target:
as asked for. holds: whether every check of every subject held. subjects: a list of
  name, version, functions, dtypes, holds,
  results: a list of
    suite, case, function, dtype;
    status: "held", "failed" or "not applicable" (note says why);
    ulp: the worst error in ULP, bound: what it may be, source: where the bound comes from;
    evidence: whether ulp is a lower bound on the largest error (sampled) or an upper one
      (exhaustive); elements: how many results were compared;
    place: the spread, offset or length of the case, for figures;
    histogram: counts of elements by error in ULP, each key the upper edge of its bin;
    scipy: SciPy's worst error in ULP on the same input, in the same type and in float64;
    finding, where the check failed: kind (see Finding), message, values (hexadecimal), call, got,
      expected, and python, a line that repeats it.
Numbers that are not finite are the strings "inf" and "nan". Empty fields are left out."""


def to_json(report: Report) -> str:
    """The report as JSON text (see ``SCHEMA``); the same but for its date from run to run."""
    document = {
        "schema": 1,
        "date": report.date,
        "machine": report.machine,
        "seed": report.seed,
        "suites": list(report.suites),
        "target": report.target,
        "holds": report.holds,
        "subjects": [
            {
                "name": s.name,
                "version": s.version,
                "functions": list(s.functions),
                "dtypes": list(s.dtypes),
                "holds": s.holds,
                "results": [_entry(r) for r in s.results],
            }
            for s in report.subjects
        ],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _entry(result: Result) -> dict[str, Any]:
    entry = dataclasses.asdict(result)
    named = {k: entry.pop(k) for k in ("suite", "case", "function", "dtype", "status")}
    return named | dict(_plain(entry))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if v not in ("", None, {}, (), [])}
        return {k: _plain(v) for k, v in kept.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def from_json(text: str) -> Report:
    """The report back from its JSON.

    Raises
    ------
    ValueError
        Where the text is not such a report.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("schema") != 1:
        raise ValueError("not a report of schema 1")

    def result(entry: dict[str, Any]) -> Result:
        finding = entry.pop("finding", None)
        if finding:
            finding = Finding(**finding | {"values": tuple(finding.get("values", ()))})
        for name in ("ulp", "bound"):
            if name in entry:
                entry[name] = float(entry[name])
        entry["scipy"] = {k: float(v) for k, v in entry.get("scipy", {}).items()}
        return Result(**entry, finding=finding)

    return Report(
        subjects=tuple(
            SubjectReport(
                name=s["name"],
                version=s["version"],
                functions=tuple(s["functions"]),
                dtypes=tuple(s["dtypes"]),
                results=tuple(result(r) for r in s["results"]),
            )
            for s in document["subjects"]
        ),
        suites=tuple(document["suites"]),
        seed=document["seed"],
        target=document["target"],
        machine=document["machine"],
        date=document["date"],
    )


def worst(results: Sequence[Result]) -> float | None:
    """The largest error among results, None if none was measured."""
    measured = [r.ulp for r in results if r.ulp is not None]
    return max(measured) if measured else None
