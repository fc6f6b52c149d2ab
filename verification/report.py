"""A report on the terminal and as Markdown; html.py and results.py have the other formats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from verification.errors import PROMISE
from verification.names import FUNCTIONS, MEASURED
from verification.results import (
    FAILED,
    HELD,
    KINDS,
    SKIPPED,
    Report,
    Result,
    SubjectReport,
    largest,
    worst,
)

# What counts of checks leave unsaid: what rounding explains, and the suites of these names.
_UNSAID = ("rounding", "property", "test")
# What is wrong with a subject as a whole: that it is not there, or the type of its results.
WHOLE = "subject"
# Kinds of failure that are shown of a subject on a terminal; a file has them all.
SHOWN_FINDINGS = 12


def ulps(value: float | None) -> str:
    """An error in ULP for a table: 1.46, 1.1e+06, infinite."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "infinite"
    return f"{value:.2f}" if value < 100 else f"{value:.2g}" if value >= 1e4 else f"{value:.0f}"


def kinds(results: Sequence[Result]) -> dict[str, int]:
    """How many failures there are of each kind, the gravest first."""
    count = Counter(r.finding.kind for r in results if r.status == FAILED and r.finding)
    return {kind: count[kind] for kind in KINDS if count[kind]}


def said(count: Mapping[str, int]) -> str:
    """Kinds and their numbers in words: "3 infinite, 14 unexplained"."""
    return ", ".join(f"{n:,} {kind}" for kind, n in count.items())


def of_suite(subject: SubjectReport, suite: str) -> list[Result]:
    """A subject's results in one suite."""
    return [r for r in subject.results if r.suite == suite]


def _graver(count: Mapping[str, int]) -> dict[str, int]:
    """The kinds that a count names."""
    return {kind: n for kind, n in count.items() if kind not in _UNSAID}


def other_types(results: Sequence[Result]) -> str:
    """In whose ULP errors are, where it is not the type of the logits: "float32 in float64"."""
    pairs = dict.fromkeys((r.dtype, r.returned) for r in results if r.returned)
    return ", ".join(f"{dtype} in {returned}" for dtype, returned in pairs)


def counted(results: Sequence[Result]) -> str:
    """How many checks held, and what the others are: "312 of 315; 3 unexplained"."""
    held = sum(r.status == HELD for r in results)
    failed = sum(r.status == FAILED for r in results)
    if not held + failed:
        return "-"
    graver = said(_graver(kinds(results)))
    return f"{held:,} of {held + failed:,}" + (f"; {graver}" if graver else "")


def tests(results: Sequence[Result]) -> str:
    """Of SciPy's tests: those that pass, of those that call the subject."""
    notes = [r.note for r in results if r.status != SKIPPED and r.elements]
    if not notes:
        return "-"
    passed = sum(int(note.split()[0]) for note in notes)
    return f"{passed} of {sum(r.elements for r in results)}"


def grouped(subject: SubjectReport) -> Iterator[tuple[Result, list[Result]]]:
    """Failures by suite, function, dtype and kind: the worst of each, and the others."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in subject.failures:
        kind = result.finding.kind if result.finding else ""
        groups.setdefault((result.suite, result.function, result.dtype, kind), []).append(result)
    for results in groups.values():
        # One that is written out in full before one of the same error that is not.
        first = max(
            results,
            key=lambda r: (
                math.inf if r.ulp is None else r.ulp,
                bool(r.finding and "measure(" in r.finding.python),
            ),
        )
        yield first, [r for r in results if r is not first]


def verdict(subject: SubjectReport) -> str:
    """One line about a subject."""
    total = sum(r.status != SKIPPED for r in subject.results)
    name = f"{subject.name} {subject.version}".strip()
    if not subject.checked:
        return f"{name}: nothing was checked"
    if subject.holds:
        return f"{name}: all {total:,} checks hold"
    failures = subject.failures
    found = kinds(failures)
    if graver := _graver(found):
        found = graver | {"other": len(failures) - sum(graver.values())}
    why = said({kind: n for kind, n in found.items() if n})
    return f"{name}: {len(failures):,} of {total:,} checks fail: {why}"


def rows(report: Report) -> list[str]:
    """The suites that a report has results of; what is wrong with whole subjects comes first."""
    whole = any(r.suite == WHOLE for subject in report.subjects for r in subject.failures)
    return [*([WHOLE] if whole else []), *report.suites]


# --- SciPy on the same inputs ----------------------------------------------------------------

SCIPY_TITLE = "SciPy on the same inputs"
SCIPY_ABOUT = (
    "its worst error in ULP and the inputs beyond 2 ULP, in the same type, and in float64 with the "
    "result rounded to the type; a dash where SciPy does not take the type"
)
SCIPY_COLUMNS = ("same type", "> 2 ULP", "in float64", "> 2 ULP")


@dataclass(frozen=True)
class Beside:
    """SciPy on the inputs of one function and type: texts for `SCIPY_COLUMNS`."""

    function: str
    dtype: str
    cells: tuple[str, ...]


def scipy_beside(report: Report) -> list[Beside]:
    """SciPy on the inputs of the subject that it was measured beside, by function and type.

    There is nothing to show beside another library that holds: nobody asked how SciPy does.
    """
    if report.holds and all(subject.name != "fastsoftmax" for subject in report.subjects):
        return []
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    for result in (r for s in report.subjects for r in s.results if r.scipy):
        measured.setdefault((result.function, result.dtype), []).append(result.scipy)
    found = []
    for about, every in measured.items():
        cells: list[str] = []
        for key in ("same type", "float64"):
            errors = [errors[key] for errors in every if key in errors]
            # Not <=, so that what is not a number is among them.
            off = sum(not error <= PROMISE.ulp for error in errors)
            cells += [ulps(largest(errors)), f"{off:,} of {len(errors):,}" if errors else "-"]
        found.append(Beside(*about, tuple(cells)))
    return found


# --- the terminal ----------------------------------------------------------------------------


def to_terminal(report: Report, console: Console, most: int | None = None) -> None:
    """The verdicts, the table, and each kind of failure with its shortest reproduction.

    Of a subject the first ``most`` kinds of failure are shown, all of them by default.
    """
    for subject in report.subjects:
        style = ("green" if subject.holds else "red") if subject.checked else "yellow"
        console.print(f"[{style}]{escape(verdict(subject))}[/{style}]")
    machine = ", ".join(f"{key} {value}" for key, value in report.machine.items())
    console.print(f"[dim]{escape(machine)}, seed {report.seed}[/dim]")
    for table in _tables(report, console.width):
        console.print(table)
    console.print("[dim]the worst error in ULP; how many checks hold; what the others are[/dim]")
    found = kinds([r for subject in report.subjects for r in subject.results])
    for kind in found:
        console.print(f"[dim]{kind}: {escape(KINDS[kind])}[/dim]")
    for subject in report.subjects:
        _print_skipped(subject, console)
    for subject in report.subjects:
        _print_findings(subject, console, most)
    _print_scipy(report, console)


def _tables(report: Report, width: int) -> Iterator[Table]:
    """Suites by subjects: as many side by side as there is room for, and the others below."""
    names = rows(report)
    first = max(map(len, [*names, ""])) + 4  # with its lines
    waiting = [
        (subject, [_lines(name, of_suite(subject, name)) for name in names])
        for subject in report.subjects
    ]
    while waiting and names:
        table = Table(Column("", no_wrap=True))
        room = width - first
        shown: list[list[str]] = []
        for subject, cells in waiting:
            least = max(
                min(20, len(subject.name)), *(len(line) for lines in cells for line in lines)
            )
            if shown and room < least + 3:
                break
            room -= least + 3
            head = escape(f"{subject.name}\n{subject.version}".strip())
            table.add_column(head, overflow="fold", min_width=least)
            failed = {r.suite for r in subject.failures}
            texts = zip(names, (escape("\n".join(lines)) for lines in cells), strict=True)
            shown.append([f"[red]{text}[/red]" if s in failed else text for s, text in texts])
        for name, *row in zip(names, *shown, strict=True):
            table.add_row(name, *row)
        yield table
        waiting = waiting[len(shown) :]


def _lines(suite: str, results: Sequence[Result]) -> list[str]:
    """One subject in one suite, by lines."""
    if suite == "scipy":
        return [tests(results)]
    count, _, graver = counted(results).partition("; ")
    lines = [count, *graver.split(", ")] if graver else [count]
    if suite in MEASURED and results:
        lines = [ulps(worst(results)), *lines]
    return [*lines, *filter(None, other_types(results).split(", "))]


def _print_skipped(subject: SubjectReport, console: Console) -> None:
    reasons = Counter(r.note for r in subject.results if r.status == SKIPPED)
    if reasons:
        start = f"{subject.name} "
        listed = "; ".join(f"{why.removeprefix(start)} ({n})" for why, n in reasons.items())
        console.print(f"[dim]{escape(subject.name)}: not applicable: {escape(listed)}[/dim]")


def _print_findings(subject: SubjectReport, console: Console, most: int | None) -> None:
    groups = list(grouped(subject))
    for result, others in groups[:most]:
        finding = result.finding
        assert finding is not None  # a failure has one
        place = f"{result.suite}: {result.case}" if result.suite != WHOLE else ""
        where = " ".join(part for part in (place, result.function, result.dtype) if part)
        more = f" (and {len(others):,} more like it)" if others else ""
        console.print(
            f"\n[bold]{escape(subject.name)}[/bold] {escape(where)}: "
            f"[red]{finding.kind}[/red]: {escape(finding.message)}{more}"
        )
        lines = {
            "logits": " ".join(finding.decimals),
            "in hex": " ".join(finding.values),
            "call": finding.call,
            "got": finding.got,
            "expected": finding.expected,
            "bound": f"{result.bound:g} ULP, from {result.source}" if result.bound else "",
        }
        grid = Table.grid(padding=(0, 0, 0, 2), pad_edge=True)
        for key, text in lines.items():
            if text:
                grid.add_row(f"{key:8}", escape(text))
        if grid.rows:
            console.print(grid)
        if finding.python:  # in one line, to be copied
            console.print(f"  repeat    {escape(finding.python)}", soft_wrap=True)
    if left := len(groups[len(groups) if most is None else most :]):
        console.print(
            f"\nand {left} more kinds of failure of {escape(subject.name)}: "
            "a file has them all (-o report.html, .json or .txt)"
        )


def _print_scipy(report: Report, console: Console) -> None:
    found = scipy_beside(report)
    if not found:
        return
    console.print(f"\n{SCIPY_TITLE}: {SCIPY_ABOUT}")
    table = Table("function", "type", *SCIPY_COLUMNS)
    for line in found:
        table.add_row(line.function, line.dtype, *line.cells)
    console.print(table)


def to_markdown(report: Report) -> str:
    """A table for a README: ordinary errors by function and type, then checks by suite."""
    names = [f"{s.name} {s.version}".strip() for s in report.subjects]
    lines = [
        "| | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    lines += [f"| {label} | " + " | ".join(cells) + " |" for label, cells in _rows(report)]
    facts = report.machine
    machine = (
        f"CPU {facts.get('cpu')}, vectors of {facts.get('vector_bits', '?')} bits, "
        f"{facts.get('threads')} threads, "
        f"Python {facts.get('python')}, NumPy {facts.get('numpy')}, seed {report.seed}"
    )
    return "\n".join(lines) + f"\n\nMeasured {report.date[:10]}: {machine}.\n"


def _rows(report: Report) -> Iterator[tuple[str, list[str]]]:
    for function in FUNCTIONS:
        for dtype in ("float32", "float64"):
            cells = [
                ulps(
                    worst(
                        [
                            r
                            for r in of_suite(subject, "random")
                            if (r.function, r.dtype) == (function, dtype)
                        ]
                    )
                )
                for subject in report.subjects
            ]
            if any(cell != "-" for cell in cells):
                yield f"{function} {dtype}: worst ULP of `random`", cells
    for suite in rows(report):
        count = tests if suite == "scipy" else counted
        names = {"scipy": "SciPy's tests that pass", WHOLE: "the whole library: checks that hold"}
        label = names.get(suite, f"`{suite}`: checks that hold")
        yield label, [count(of_suite(subject, suite)) for subject in report.subjects]
