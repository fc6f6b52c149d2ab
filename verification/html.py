"""The report as one HTML page that loads nothing: no script, no font, no picture from outside."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from verification import alternatives, figures
from verification import report as reports
from verification.figures import Drawing
from verification.names import MEASURED, SUITES
from verification.report import grouped, of_suite, ulps, verdict
from verification.results import FAILED, HELD, KINDS, SKIPPED, Report, Result, SubjectReport, worst

_CSS = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1f24; --soft: #59636e;
  --line: #d5dade; --panel: #f4f6f8; --held: #1a7f4b; --failed: #b3261e; --failed-page: #fdeceb; }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --ink: #e4e8ec; --soft: #a0a9b2;
  --line: #3a4149; --panel: #1e2328; --held: #5ccb8f; --failed: #ff8f86; --failed-page: #3a1d1c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
p, .reasons { max-width: 75ch; }
a { color: inherit; }
code, pre { font: .875em/1.45 ui-monospace, monospace; }
pre { background: var(--panel); padding: .5rem .75rem; overflow-x: auto; margin: .25rem 0;
  white-space: pre-wrap; }
summary { cursor: pointer; }
small, figcaption, .soft { color: var(--soft); font-size: .875rem; }
.verdicts { list-style: none; padding: 0; font-size: 1.1rem; line-height: 1.35; }
.verdicts li { margin: .4rem 0; }
.held-mark { color: var(--held); } .failed-mark { color: var(--failed); font-weight: 600; }
.scroll { overflow-x: auto; max-width: 100%; }
table { margin: .5rem 0; border-collapse: collapse; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: .4rem .75rem; border: 1px solid var(--line); text-align: left;
  vertical-align: top; }
td small, td .held-mark, td .failed-mark { display: block; font-size: .8125rem;
  white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; }
td.failed { background: var(--failed-page); border-left: 4px double var(--failed); }
.summary th { max-width: 14rem; overflow-wrap: break-word; }
.summary th:first-child { position: sticky; left: 0; background: var(--page); }
@media (max-width: 40rem) { th, td { padding: .3rem .4rem; }
  table { font-size: .875rem; } .summary th { max-width: 9rem; } }
.facts { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .5rem 0; }
.facts dt { display: inline; color: var(--soft); }
.facts dd { display: inline; margin: 0; }
.kinds div { margin: .25rem 0; } .kinds dt { display: inline; font-weight: 600; }
.kinds dd { display: inline; margin: 0; } .kinds dd::before { content: ": "; }
.figures { display: grid; gap: 1.25rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.figures + details { margin-top: 1rem; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto;
  font-family: "DejaVu Sans", Verdana, sans-serif; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
.findings { display: grid; gap: .75rem 1.5rem; align-items: start; margin: .5rem 0 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
.finding { border-left: 3px solid var(--failed); padding: .1rem 0 .1rem .75rem; min-width: 0; }
.finding p { margin: 0; } .finding dl { margin: .25rem 0; }
.finding dt { color: var(--soft); font-size: .875rem; } .finding dd { margin: 0 0 .25rem; }
.kind { border: 1px solid var(--failed); color: var(--failed); border-radius: .25rem;
  padding: 0 .35rem; font-size: .8125rem; white-space: nowrap; }
"""

_ABOUT = """
<p>An error is the distance of a result from the exact one in ULP of the exact one, the distance
between neighbouring numbers of the type around it. A correctly rounded result is off by half an
ULP at most. The exact results have 70 bits or more (<code>verification/references.py</code>).</p>
<p><b>Sampled</b> errors, those of every suite but <code>exhaustive</code>, are lower bounds on the
largest error: what was tried is off by that much, and something else may be off by more.
<b>Exhaustive</b> errors are upper bounds: every input was tried.</p>
<p>B is a subject's bound: what its own documentation says, or 2 ULP.</p>
"""


def to_html(report: Report) -> str:
    """The report as one HTML file, the same bytes for the same report.

    Examples
    --------
    >>> import verification
    >>> report = verification.verify(["numpy_stable"], suite=["hard"], dtype=["float64"])
    >>> page = to_html(report)
    >>> page.startswith("<!DOCTYPE html>")
    True
    """
    parts = [
        _head(report),
        _summary(report),
        "<h2>What softmax looks like</h2>",
        _figures(figures.curves()),
        _alternatives(),
        _errors(report),
        "<h2>Findings</h2>" if report.subjects else "",
        _kinds(report),
        *(_findings(subject, number) for number, subject in enumerate(report.subjects)),
        _inapplicable(report),
        _scipy(report),
        _bounds(report),
    ]
    failed = sum(len(subject.failures) for subject in report.subjects)
    title = f"{failed:,} checks failed" if failed else "every check held"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Softmax verification: {title}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


# --- the start -------------------------------------------------------------------------------


def _head(report: Report) -> str:
    """The title, a verdict for each subject, and what was run where."""
    lines = []
    for number, subject in enumerate(report.subjects):
        text = verdict(subject)
        line = _marked(subject.holds, text) if subject.checked else _broken(text)
        link = "" if subject.holds else f' <a href="#subject-{number}"><small>which?</small></a>'
        lines.append(f"<li>{line}{link}</li>")
    facts = {
        "date": report.date,
        "seed": str(report.seed),
        "target": report.target,
        "suites": ", ".join(report.suites),
        **report.machine,
    }
    listed = "".join(
        f"<div><dt>{escape(key.replace('_', ' '))}</dt> <dd>{escape(value)}</dd></div>"
        for key, value in facts.items()
    )
    return (
        "<h1>Softmax verification</h1>\n"
        f'<ul class="verdicts">{"".join(lines) or "<li>No subject was checked.</li>"}</ul>\n'
        f'<dl class="facts soft">{listed}</dl>'
    )


def _marked(held: bool, text: str) -> str:
    """Words with a mark and a colour, either of which is enough."""
    name, mark = ("held", "✓") if held else ("failed", "✗")
    return f'<span class="{name}-mark">{mark} {_broken(text)}</span>'


def _summary(report: Report) -> str:
    """The table of suites by subjects."""
    suites = reports.rows(report)
    if not suites or not report.subjects:
        return ""
    heads = [f"{_broken(s.name)}<br><small>{escape(s.version)}</small>" for s in report.subjects]
    rows = [
        f'<tr><th scope="row">{escape(suite)}</th>'
        + "".join(_cell(suite, of_suite(s, suite)) for s in report.subjects)
        + "</tr>"
        for suite in suites
    ]
    meanings = [f"<b>{escape(s)}</b>: {escape(SUITES[s])}" for s in suites if s in SUITES]
    return (
        "<h2>Suites by subjects</h2>\n"
        "<p>The worst error in ULP that was found, and how many checks held; of SciPy's tests, how "
        "many pass.</p>\n"
        + _table(["", *heads], rows, "summary")
        + f'<p class="soft">{". ".join(meanings)}.</p>'
    )


def _broken(name: str) -> str:
    """A name that may go on in a new line between its words."""
    return re.sub(r"([_.:])(?=[a-zA-Z])", r"\1<wbr>", escape(name))


def _cell(suite: str, results: Sequence[Result]) -> str:
    """One subject in one suite."""
    count = Counter(r.status for r in results)
    total = count[HELD] + count[FAILED]
    figure = reports.tests(results) if suite == "scipy" else ulps(worst(results))
    # Properties and their like are counted: what they are off by is not an error of one result.
    lines = [f"<b>{figure}</b>"] if total and (suite in MEASURED or suite == "scipy") else []
    if total:
        text = f"{count[FAILED]:,} of {total:,} failed" if count[FAILED] else f"{total:,} held"
        lines.append(_marked(not count[FAILED], text))
        # What a property or a test is that fails, the suite's name says.
        kinds = reports.kinds(results).items()
        lines += [f"<small>{n:,} {k}</small>" for k, n in kinds if k not in ("property", "test")]
    if other := reports.other_types(results):
        lines.append(f"<small>{escape(other)}</small>")
    if count[SKIPPED]:
        lines.append(f"<small>{count[SKIPPED]:,} not applicable</small>")
    return f"<td{' class=failed' if count[FAILED] else ''}>{' '.join(lines) or '-'}</td>"


def _table(head: Iterable[str], rows: Iterable[str], name: str = "") -> str:
    """A table that scrolls by itself where it is wider than the page; its head is HTML."""
    cells = "".join(f'<th scope="col">{text}</th>' for text in head)
    return (
        f'<div class="scroll" tabindex="0"><table class="{name}"><thead><tr>{cells}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


# --- figures ---------------------------------------------------------------------------------


def _figures(drawings: Sequence[Drawing]) -> str:
    """Figures side by side, as many as there is room for."""
    shown = (
        f"<figure>{d.svg}<figcaption>{escape(d.caption)}</figcaption></figure>" for d in drawings
    )
    return f'<div class="figures">{"".join(shown)}</div>'


def _by_dtype(drawings: Sequence[Drawing]) -> str:
    """The figures of the first type, and the other types' to be opened."""
    dtypes = list(dict.fromkeys(d.dtype for d in drawings))
    parts = [_figures([d for d in drawings if d.dtype == dtype]) for dtype in dtypes]
    return parts[0] + "".join(
        f"<details><summary>The same in {escape(dtype)}</summary>{part}</details>"
        for dtype, part in zip(dtypes[1:], parts[1:], strict=True)
    )


def _alternatives() -> str:
    """softmax and its alternatives on a few rows, and as figures."""
    rows = [
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{_results(function, row)}</td>" for row in _ROWS)
        + "</tr>"
        for name, function in alternatives.COMPARED.items()
    ]
    heads = [escape(str([int(x) for x in row])) for row in _ROWS]
    return (
        "<h2>Why the exponential</h2>\n<p>softmax and its alternatives "
        "(<code>fastsoftmax.alternatives</code>), computed from their definitions: a blurry row, a "
        "crisp one, and one that sums to 0.</p>\n"
        + _table(["", *heads], rows)
        + _figures(figures.alternatives())
    )


_ROWS = ([1.0, 2.0], [10.0, 20.0], [-2.0, -1.0, 1.0, 2.0])


def _results(function: alternatives.Function, row: list[float]) -> str:
    """What a function makes of a row, in words."""
    try:
        return ", ".join(f"{float(p):.5g}" for p in alternatives.exactly(function, row))
    except ZeroDivisionError:
        return "none: they sum to 0"


def _errors(report: Report) -> str:
    """The figures of errors, and the counts over every input."""
    text = ""
    if drawn := figures.histograms(report):
        text += (
            "<h2>How large the errors are</h2>\n<p>All results of the suite <code>random</code>, "
            "by their error in ULP; each bin has its upper edge for a name.</p>\n"
        ) + _by_dtype(drawn)
    if drawn := figures.sweeps(report):
        text += (
            "<h2>Where the errors are</h2>\n<p>The worst error against one quantity: the spread of "
            "normal logits (their standard deviation), an offset added to all of them, and the "
            "length of a row. The dotted line is 2 ULP, this project's promise.</p>\n"
        ) + _by_dtype(drawn)
    rows = [
        f"<tr><td>{escape(s.name)}</td><td>{escape(r.case)}</td>"
        f'<td class="number">{ulps(r.ulp)}</td><td>{escape(r.note)}</td></tr>'
        for s in report.subjects
        for r in of_suite(s, "exhaustive")
        if r.status != SKIPPED
    ]
    if rows:
        text += "<h2>Every float32 input</h2>\n" + _table(
            ["subject", "case", "worst ULP", "results by their distance from the right one"], rows
        )
    return text


# --- findings --------------------------------------------------------------------------------


def _kinds(report: Report) -> str:
    """What the words for findings mean, those that occur."""
    found = reports.kinds([r for subject in report.subjects for r in subject.results])
    listed = "".join(f"<div><dt>{k}</dt><dd>{escape(KINDS[k])}</dd></div>" for k in found)
    return f'<dl class="kinds">{listed}</dl>' if listed else ""


def _findings(subject: SubjectReport, number: int) -> str:
    """What failed, by suite: the worst of each function, type and kind, and the others' names."""
    text = f'<h3 id="subject-{number}">{escape(verdict(subject))}</h3>\n'
    if subject.holds:
        return text + '<p class="soft">No findings.</p>'
    suites: dict[str, list[str]] = {}
    for result, others in grouped(subject):
        suites.setdefault(result.suite, []).append(_finding(result, others))
    for suite, blocks in suites.items():
        count = sum(r.status == FAILED for r in of_suite(subject, suite))
        text += (
            f"<details open><summary><b>{escape(suite)}</b>: {count:,} failed</summary>\n"
            f'<div class="findings">{"".join(blocks)}</div></details>\n'
        )
    return text


def _finding(result: Result, others: Sequence[Result]) -> str:
    """One failure, how to see it again, and those like it."""
    finding = result.finding
    if finding is None:
        return ""
    where = " ".join(f"<b>{escape(t)}</b>" for t in (result.function, result.dtype) if t)
    text = (
        f'<div class="finding"><p><span class="kind">{escape(finding.kind)}</span> {where} '
        f"<code>{escape(result.case)}</code></p><p>{escape(finding.message)}</p>"
    )
    details = {
        "call": finding.call,
        "logits": " ".join(finding.decimals),
        "in hexadecimal": " ".join(finding.values),
        "got": finding.got,
        "expected": finding.expected,
        "to see it again": finding.python,
    }
    listed = "".join(
        f"<dt>{key}</dt><dd><pre>{escape(value)}</pre></dd>"
        for key, value in details.items()
        if value
    )
    if listed:
        text += f"<details><summary>the input and the answer</summary><dl>{listed}</dl></details>"
    if others:
        cases = ", ".join(f"<code>{escape(r.case)}</code>" for r in others)
        text += f"<details><summary>and {len(others):,} more like it</summary>{cases}</details>"
    return text + "</div>"


# --- the rest --------------------------------------------------------------------------------


def _inapplicable(report: Report) -> str:
    """Why checks did not apply, by subject."""
    rows = []
    for subject in report.subjects:
        reasons = Counter(r.note for r in subject.results if r.status == SKIPPED)
        rows += [
            f'<tr><td>{escape(subject.name)}</td><td>{escape(why)}</td><td class="number">'
            f"{count:,}</td></tr>"
            for why, count in reasons.most_common()
        ]
    if not rows:
        return ""
    return "<h2>Not applicable</h2>\n" + _table(["subject", "why", "checks"], rows)


def _scipy(report: Report) -> str:
    """SciPy on the inputs of the subject that it was measured beside."""
    rows = [
        f"<tr><td>{escape(line.function)}</td><td>{escape(line.dtype)}</td>"
        + "".join(f'<td class="number">{cell}</td>' for cell in line.cells)
        + "</tr>"
        for line in reports.scipy_beside(report)
    ]
    if not rows:
        return ""
    return (
        f"<h2>{escape(reports.SCIPY_TITLE)}</h2>\n<p>Here is {escape(reports.SCIPY_ABOUT)}.</p>\n"
        + _table(["function", "type", *map(escape, reports.SCIPY_COLUMNS)], rows)
    )


def _bounds(report: Report) -> str:
    """What results were held to, and where that comes from."""
    bounds: dict[str, set[float]] = {}
    checks: Counter[str] = Counter()
    for result in (r for s in report.subjects for r in s.results if r.source):
        checks[result.source] += 1
        if result.bound is not None:
            bounds.setdefault(result.source, set()).add(result.bound)
    rows = [
        f"<tr><td>{escape(source)}</td>"
        f"<td class=number>{', '.join(f'{b:g}' for b in sorted(bounds.get(source, ())))}</td>"
        f'<td class="number">{count:,}</td></tr>'
        for source, count in checks.most_common()
    ]
    listed = _table(["where a bound comes from", "ULP", "checks"], rows) if rows else ""
    return f"<h2>Errors and bounds</h2>\n{_ABOUT}{listed}"
