"""What a run finds: one result for each check, a finding for each that fails, and the report."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

HELD, FAILED, SKIPPED = "held", "failed", "not applicable"


# Every kind of finding, in the words of every report: the gravest first.
KINDS = {
    "missing": "the subject, a function or a type that was asked for is not there",
    "crashed": "the process ended",
    "timed out": "nothing came back within the time limit",
    "given up": "not run, after several crashes and hangs of the subject",
    "faulty": "the verification itself failed: a mistake of its own, not of the subject",
    "broken": "the call raised, returned another type or shape, wrote into its argument, or "
    "left out= without the result",
    "infinite": "NaN or infinity where a number should be, or a number for them",
    "wrong": "another class than the right one, or an answer where there is none",
    "law": "draws that do not follow the softmax",
    "unexplained": "an error beyond the bound that rounding does not explain",
    "flushed": "0 for a subnormal result: the smallest numbers of the type are not used",
    "rounding": "an error beyond the bound that rounding explains in the ordinary formula, "
    "exp(x - max) / sum",
    "property": "what must hold of any softmax, and does not",
    "test": "tests of SciPy that fail",
}


@dataclass(frozen=True)
class Finding:
    """A check that failed: what happened, and how to see it again.

    Raises
    ------
    ValueError
        Where kind is not one of `KINDS`: no report would have a word for it.
    """

    kind: str
    message: str  # one line
    values: tuple[str, ...] = ()  # the logits, in hexadecimal
    decimals: tuple[str, ...] = ()  # the same in decimal
    call: str = ""
    got: str = ""
    expected: str = ""
    python: str = ""  # a line that repeats it

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")


@dataclass(frozen=True)
class Result:
    """One check of one function of one subject."""

    suite: str
    case: str
    function: str
    dtype: str  # of the logits
    status: str
    returned: str = ""  # the type of the results, and of their ULP, where it is another
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
    def checked(self) -> bool:
        """Whether any check applied."""
        return any(r.status != SKIPPED for r in self.results)

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


_SCHEMA = 2
SCHEMA = """The JSON report, schema 2.

schema: 2. date: ISO 8601. machine: cpu, vector_bits, threads, platform, python and the versions
of numpy, numba, scipy and mpmath; for the target cuda, gpu and numba-cuda. seed, suites, target:
as asked for. holds: whether every check of every subject held. subjects: a list of
  name, version, functions, dtypes, holds,
  results: a list of
    suite, case, function, dtype;
    status: "held", "failed" or "not applicable" (note says why);
    returned: the type of the results where it is not dtype; errors are in ULP of that type;
    ulp: the worst error in ULP, bound: what it may be, source: where the bound comes from;
    evidence: whether ulp is a lower bound on the largest error (sampled) or an upper one
      (exhaustive); elements: how many results were compared;
    place: the spread, offset or length of the case, for figures;
    histogram: counts of elements by error in ULP, each key the upper edge of its bin;
    scipy: SciPy's worst error in ULP on the same input, in the same type and in float64;
    finding, where the check failed: kind (see KINDS), message, values (hexadecimal) and decimals
      (the logits), call, got, expected, and python, a line that repeats it.
Schema 1 had other words for kinds, and neither returned nor decimals.
Numbers that are not finite are the strings "inf" and "nan". Empty fields are left out."""


def to_json(report: Report) -> str:
    """The report as JSON text (see ``SCHEMA``).

    It is the same but for its date from run to run, unless a search was ended by time.
    """
    document = {
        "schema": _SCHEMA,
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
    if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
        given = document.get("schema") if isinstance(document, dict) else None
        has = f"it has schema {given}" if given else "it names no schema"
        raise ValueError(f"not a report of schema {_SCHEMA}: {has}")

    def result(entry: dict[str, Any]) -> Result:
        finding = entry.pop("finding", None)
        if finding:
            listed = {name: tuple(finding.get(name, ())) for name in ("values", "decimals")}
            finding = Finding(**finding | listed)
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


def worst(results: Iterable[Result]) -> float | None:
    """The largest error among results, None if none was measured."""
    return largest(r.ulp for r in results if r.ulp is not None)


def largest(errors: Iterable[float]) -> float | None:
    """The largest of some errors, None of none; what is not a number counts as infinite."""
    return max((math.inf if math.isnan(e) else e for e in errors), default=None)
