"""A report on the terminal and as Markdown; html.py and results.py have the other formats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verification.references import FUNCTIONS
from verification.results import FAILED, HELD, SKIPPED, Report, Result, SubjectReport, worst

# Suites whose results are errors of single results; the others count.
MEASURED = ("extremes", "edges", "random", "hard", "exhaustive")
# An error that rounding explains, and a property that holds but for more than 2 ULP.
_NOT_WRONG = ("rounding", "property")
_SHOWN_FINDINGS = 12


def ulps(value: float | None) -> str:
    """An error in ULP for a table: 1.46, 1.1e+06, wrong where it is infinite."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "wrong"
    return f"{value:.2f}" if value < 100 else f"{value:.2g}" if value >= 1e4 else f"{value:.0f}"


def of_suite(subject: SubjectReport, suite: str) -> list[Result]:
    """A subject's results in one suite."""
    return [r for r in subject.results if r.suite == suite]


def counted(results: Sequence[Result]) -> str:
    """How many checks held: "312 of 312", with those that rounding does not explain."""
    held = sum(r.status == HELD for r in results)
    failures = [r for r in results if r.status == FAILED]
    wrong = sum(r.finding is None or r.finding.kind not in _NOT_WRONG for r in failures)
    total = held + len(failures)
    if not total:
        return "-"
    return f"{held:,} of {total:,}" + (f", {wrong:,} wrong" if wrong else "")


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
    if not total:
        return f"{name}: nothing was checked"
    if subject.holds:
        return f"{name}: all {total:,} checks hold"
    return f"{name}: {len(subject.failures):,} of {total:,} checks fail"


def to_terminal(report: Report, console: Console) -> None:
    """The table, the verdicts, and each kind of failure with its shortest reproduction."""
    machine = ", ".join(f"{key} {value}" for key, value in report.machine.items())
    console.print(f"[dim]{escape(machine)}, seed {report.seed}[/dim]")
    table = Table("subject", *report.suites, caption="the worst error in ULP; checks that hold")
    for subject in report.subjects:
        table.add_row(
            escape(f"{subject.name} {subject.version}".strip()),
            *(_terminal_cell(suite, of_suite(subject, suite)) for suite in report.suites),
        )
    console.print(table)
    for subject in report.subjects:
        _print_skipped(subject, console)
    for subject in report.subjects:
        _print_findings(subject, console)
    _print_scipy(report, console)
    for subject in report.subjects:
        style = "green" if subject.holds else "red"
        console.print(f"[{style}]{escape(verdict(subject))}[/{style}]")


def _terminal_cell(suite: str, results: Sequence[Result]) -> str:
    if suite == "scipy":
        text = tests(results)
    elif suite in MEASURED:
        text = f"{ulps(worst(results))}\n{counted(results)}" if results else "-"
    else:
        text = counted(results)
    failed = any(r.status == FAILED for r in results)
    return f"[red]{escape(text)}[/red]" if failed else escape(text)


def _print_skipped(subject: SubjectReport, console: Console) -> None:
    reasons: dict[str, int] = {}
    for result in subject.results:
        if result.status == SKIPPED:
            reasons[result.note] = reasons.get(result.note, 0) + 1
    if reasons:
        said = "; ".join(f"{count} {reason}" for reason, count in reasons.items())
        console.print(
            f"[dim]{escape(subject.name)}: not applicable: {escape(said)}[/dim]", soft_wrap=True
        )


def _print_findings(subject: SubjectReport, console: Console) -> None:
    groups = list(grouped(subject))
    for result, others in groups[:_SHOWN_FINDINGS]:
        finding = result.finding
        assert finding is not None  # a failure has one
        where = " ".join(part for part in (result.function, result.dtype) if part)
        more = f" (and {len(others):,} more like it)" if others else ""
        console.print(
            f"\n[bold]{escape(subject.name)}[/bold] {result.suite}: {escape(result.case)} "
            f"{where}: [red]{finding.kind}[/red]: {escape(finding.message)}{more}",
            soft_wrap=True,
        )
        lines = {
            "values": " ".join(finding.values),
            "call": finding.call,
            "got": finding.got,
            "expected": finding.expected,
            "bound": f"{result.bound:g} ULP, from {result.source}" if result.bound else "",
            "repeat": finding.python,
        }
        for key, text in lines.items():
            if text:
                console.print(f"  {key:9}{escape(text)}", soft_wrap=True)
    if len(groups) > _SHOWN_FINDINGS:
        console.print(
            f"\nand {len(groups) - _SHOWN_FINDINGS} more kinds of failure of "
            f"{escape(subject.name)}: --format html or json has them all"
        )


def scipy_disagreements(report: Report) -> dict[tuple[str, str], tuple[int, int, float, float]]:
    """SciPy on the first subject's inputs, by function and dtype.

    How many inputs, on how many it is off by more than 2 ULP (in float64, rounded, where it does
    not take the type), its worst ULP in the same type and in float64, NaN where there is none.
    """
    found: dict[tuple[str, str], tuple[int, int, float, float]] = {}
    for result in report.subjects[0].results if report.subjects else ():
        if result.scipy:
            same = result.scipy.get("same type", math.nan)
            wide = result.scipy.get("float64", math.nan)
            count, off, worst_same, worst_wide = found.get(
                (result.function, result.dtype), (0, 0, math.nan, math.nan)
            )
            judged = same if not math.isnan(same) else wide
            found[result.function, result.dtype] = (
                count + 1,
                off + (judged > 2),
                float(np.fmax(worst_same, same)),
                float(np.fmax(worst_wide, wide)),
            )
    return found


def _print_scipy(report: Report, console: Console) -> None:
    found = scipy_disagreements(report)
    if not found:
        return
    table = Table(
        *("SciPy on the same inputs", "inputs", "off by more than 2 ULP"),
        *("worst ULP, same type", "worst ULP, in float64"),
    )
    for (function, dtype), (count, off, same, wide) in found.items():
        table.add_row(f"{function} {dtype}", f"{count:,}", f"{off:,}", ulps(same), ulps(wide))
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
    for suite in report.suites:
        count = tests if suite == "scipy" else counted
        label = "SciPy's tests that pass" if suite == "scipy" else f"`{suite}`: checks that hold"
        yield label, [count(of_suite(subject, suite)) for subject in report.subjects]
