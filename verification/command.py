"""What the command line asks for, done: a list, or a run and its report."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from verification import report as reports
from verification import subjects, suites
from verification.isolation import Runner
from verification.names import DEFAULT, DTYPES, SUITES, unknown
from verification.results import Report, to_json
from verification.runs import Progress as Advance
from verification.runs import verify

_LONG = 10.0  # seconds from which on a run says how long it will take


@dataclass(frozen=True)
class Asked:
    """The options of the command line, each of them known by itself."""

    subjects: tuple[str, ...]
    suite: tuple[str, ...]
    function: tuple[str, ...]
    dtype: tuple[str, ...]
    axis: str
    target: str
    seed: int
    time_limit: float
    form: str
    out: Path | None
    quiet: bool
    listed: bool

    @property
    def suites(self) -> list[str]:
        """The suites in their own order."""
        return [name for name in SUITES if name in (self.suite or DEFAULT)]

    @property
    def dtypes(self) -> list[str]:
        """The types in their own order; none for all of them."""
        return [name for name in DTYPES if name in self.dtype]

    @property
    def names(self) -> list[str]:
        """The subjects, each of them once."""
        return list(dict.fromkeys(self.subjects)) or ["fastsoftmax"]


def run(asked: Asked) -> int:
    """Do it; 0 where every check holds, 1 where one does not.

    Raises
    ------
    click.ClickException
        For what cannot be carried out, and after a run that checked nothing of a subject.
    """
    if asked.listed:
        _print(_list)
        return 0
    _check(asked)
    report = _verified(asked)
    _write(report, asked)
    if unchecked := [subject.name for subject in report.subjects if not subject.checked]:
        raise click.ClickException(
            f"nothing was checked of {', '.join(unchecked)}: no check that was asked for applies"
        )
    return 0 if report.holds else 1


# --- what is refused before anything runs ----------------------------------------------------


def _check(asked: Asked) -> None:
    for name in asked.names:
        if not subjects.is_known(name):
            known = tuple(subjects.known())
            refusal = f"{unknown('subject', name, known)}, or module:callable"
            if name in (*SUITES, *DTYPES):
                refusal += "; several suites or types have commas between them"
            raise click.ClickException(refusal)
    if asked.axis and not any(":" in name for name in asked.names):
        raise click.ClickException(
            f"--axis {asked.axis} is for a module:callable; {asked.names[0]} knows its axis"
        )
    for word, needed in (("html", "matplotlib"), ("bfloat16", "ml_dtypes")):
        if word in (asked.form, *asked.dtype) and not importlib.util.find_spec(needed):
            install = "python -m pip install 'fastsoftmax[verify]'"
            raise click.ClickException(f"{word} needs {needed}: {install}")
    if asked.out is not None:
        _check_out(asked.out)
    for name in asked.names:
        if missing := _missing(name, asked):
            raise click.ClickException(missing)


def _check_out(out: Path) -> None:
    """That a report can be written there: it would be late to find out after the run."""
    with _refusing(out):
        if not out.parent.is_dir() or (out.exists() and not out.is_file()):
            why = "not a file in a folder that exists"
            raise click.ClickException(f"cannot write {str(out)!r}: {why}")
        _partial(out).touch()
        _partial(out).unlink()


def _missing(name: str, asked: Asked) -> str:
    """Why a subject cannot be verified as is asked, '' where it can."""
    if ":" in name:  # a stranger's code runs in a process of its own
        start = (name, asked.axis, next(iter(asked.function), ""), asked.target)
        with Runner(start, asked.time_limit) as runner:
            described = runner.describe()
        if "missing" in described:
            return str(described["missing"])
        if described["convention"] and len(asked.function) > 1:
            return f"{name} is one function: name one --function"
        if asked.axis and not described["convention"]:
            return f"--axis {asked.axis} is for a callable; {name} is a Subject: it knows its axis"
        return ""
    there = subjects.targets(name)
    if asked.target not in there:
        return f"{name} has no target {asked.target}; there is: {', '.join(there)}"
    if lacking := subjects.known()[name][1]:
        return f"{name} cannot be verified: {lacking} is not installed"
    if asked.target != "cpu":
        try:
            subjects.load(name, target=asked.target)
        except subjects.Missing as missing:
            return f"--target {asked.target}: {missing}"
    return ""


# --- a run -----------------------------------------------------------------------------------


def _verified(asked: Asked) -> Report:
    with _progress(asked) as advance:
        return verify(
            asked.names,
            suite=asked.suites,
            function=asked.function,
            dtype=asked.dtypes,
            convention=asked.axis,
            target=asked.target,
            seed=asked.seed,
            time_limit=asked.time_limit,
            progress=advance,
        )


@contextlib.contextmanager
def _progress(asked: Asked) -> Iterator[Advance]:
    """About how long it will take, where that is long; and a bar where there is a terminal."""
    if asked.quiet:
        yield lambda description, share: None
        return
    terminal = sys.stderr.isatty()
    about = len(asked.names) * suites.seconds(asked.suites, asked.dtypes or DTYPES)
    if about >= _LONG:
        count = f"{len(asked.names)} subjects" if len(asked.names) > 1 else asked.names[0]
        print(f"verifying {count}: about {duration(about)}", file=sys.stderr, flush=True)
    if not terminal:
        yield lambda description, share: None
        return
    console = Console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(
        *columns, TextColumn("{task.description}"), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda description, share: bar.update(task, description=description, completed=share)


def duration(seconds: float) -> str:
    """A time that is about right: 20 seconds, 4 minutes."""
    if seconds < 90:
        return f"{10 * max(1, round(seconds / 10))} seconds"
    return f"{round(seconds / 60)} minutes"


# --- what is printed and written -------------------------------------------------------------


def _print(show: Callable[[Console], None]) -> None:
    """Print as one text: a reader that has gone is an OSError, and not the end of the process."""
    console = Console(highlight=False, emoji=False)
    with console.capture() as captured:
        show(console)
    sys.stdout.write(captured.get())
    sys.stdout.flush()


def _write(report: Report, asked: Asked) -> None:
    if asked.out is None and asked.form == "terminal":
        _print(lambda console: reports.to_terminal(report, console, reports.SHOWN_FINDINGS))
        return
    if asked.form == "terminal":
        written = io.StringIO()
        console = Console(highlight=False, emoji=False, file=written, width=100)
        reports.to_terminal(report, console)
        text = written.getvalue()
    elif asked.form == "json":
        text = to_json(report)
    elif asked.form == "markdown":
        text = reports.to_markdown(report)
    else:
        from verification.html import to_html  # imports matplotlib: 0.5 s

        text = to_html(report)
    if asked.out is None:
        sys.stdout.write(text)
        return
    write_whole(asked.out, text)
    for subject in report.subjects:
        print(reports.verdict(subject))
    print(f"written to {asked.out}")


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there when it is whole, or not at all."""
    partial = _partial(path)
    with _refusing(path):
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """Where a file is while it is not whole."""
    return path.with_name(f".{path.name}.{os.getpid()}")


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Where the file cannot be written, one line that names it."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"cannot write {str(path)!r}: {error.strerror}") from None


def _list(console: Console) -> None:
    """The subjects and the suites."""
    table = Table("subject", "what it is", "targets", "here")
    for name, (description, missing) in subjects.known().items():
        here = f"no: needs {missing}" if missing else "yes"
        table.add_row(name, description, ", ".join(subjects.targets(name)), here)
    table.add_row("module:callable", "anything that can be imported", "cpu", "")
    table.columns[0].no_wrap = True
    table.columns[1].overflow = "fold"
    console.print(table, markup=False)
    table = Table("suite", "what it holds")
    table.columns[0].no_wrap = True
    for name, description in SUITES.items():
        table.add_row(name, description)
    console.print(table)
