"""The command line: ``python -m verification``, or ``fastsoftmax-verify``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

try:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from verification import report as reports
    from verification import subjects, suites
    from verification.errors import FORMATS
    from verification.isolation import TIME_LIMIT
    from verification.references import FUNCTIONS
    from verification.results import Report, to_json
    from verification.runs import Progress as Advance
    from verification.runs import verify
except ModuleNotFoundError as error:
    print(
        f"fastsoftmax-verify: needs {error.name}: python -m pip install '.[verify]'",
        file=sys.stderr,
    )
    sys.exit(2)
except KeyboardInterrupt:
    print("fastsoftmax-verify: interrupted", file=sys.stderr)
    sys.exit(130)

_FORMATS = ("terminal", "json", "markdown", "html")


class _Refused(Exception):
    """A wrong call: one line for stderr, exit status 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Refused(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every check of every subject holds, 1 where one does not, 2 for a wrong call."""
    try:
        options = _parser().parse_args(arguments)
        _check(options)
        if options.list:
            _list()
            return 0
        report = _run(options)
        _write(report, options)
    except _Refused as refusal:
        print(f"fastsoftmax-verify: {refusal}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, or a reader that has gone
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # what is left is not written at exit
        print(f"fastsoftmax-verify: cannot print: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastsoftmax-verify: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0 if report.holds else 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastsoftmax-verify",
        description="What any softmax gets right and wrong, against high precision and SciPy.",
    )
    parser.add_argument(
        "subjects",
        nargs="*",
        default=["fastsoftmax"],
        metavar="SUBJECT",
        help="a name from --list, or module:callable (default: fastsoftmax)",
    )
    parser.add_argument("--suite", nargs="+", default=list(suites.DEFAULT), metavar="NAME")
    parser.add_argument("--function", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--dtype", nargs="+", default=[], metavar="NAME")
    parser.add_argument(
        "--axis",
        default="",
        metavar="HOW",
        help="how a module:callable is told its axis: " + ", ".join(subjects.CONVENTIONS),
    )
    parser.add_argument(
        "--target", default="cpu", metavar="NAME", help="cpu, or cuda: an NVIDIA GPU"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--time-limit",
        type=float,
        default=TIME_LIMIT,
        metavar="SECONDS",
        help="without a sign of life (default: %(default)g)",
    )
    parser.add_argument("--format", default="terminal", metavar="NAME")
    parser.add_argument("-o", dest="out", type=Path, metavar="FILE", help="write the report")
    parser.add_argument(
        "--list", action="store_true", help="subjects and suites, and what is there"
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    """Refuse unknown names, before anything runs."""
    allowed = {
        "suite": tuple(suites.SUITES),
        "function": (*FUNCTIONS, "exp"),
        "dtype": tuple(FORMATS),
        "target": subjects.TARGETS,
        "format": _FORMATS,
        "axis": ("", *subjects.CONVENTIONS),
    }
    for name, there in allowed.items():
        given = getattr(options, name)
        for value in given if isinstance(given, list) else [given]:
            if value not in there:
                known = ", ".join(word for word in there if word)
                raise _Refused(f"unknown {name} {value!r}; there is: {known}")
    for name in options.subjects:
        if not subjects.is_known(name):
            known = ", ".join(subjects.known())
            raise _Refused(f"unknown subject {name!r}; there is: {known}, or module:callable")
    if options.seed < 0:
        raise _Refused(f"--seed must not be negative, got {options.seed}")
    if not options.time_limit > 0:
        raise _Refused(f"--time-limit must be positive, got {options.time_limit}")
    if any(":" in name for name in options.subjects) and len(options.function) > 1:
        raise _Refused("a module:callable is one function: name one --function")
    for asked, needed in (("html", "matplotlib"), ("bfloat16", "ml_dtypes")):
        if asked in (options.format, *options.dtype) and not importlib.util.find_spec(needed):
            raise _Refused(f"{asked} needs {needed}: python -m pip install '.[verify]'")
    out = options.out
    if out is not None and (not out.parent.is_dir() or (out.exists() and not out.is_file())):
        raise _Refused(f"cannot write {str(out)!r}: not a file in a folder that exists")
    for name in options.subjects:
        if ":" not in name:  # a stranger's code runs in a process of its own
            _check_target(name, options.target)


def _check_target(name: str, target: str) -> None:
    """Refuse a target that a subject has not, or not here: a GPU or a driver may be missing."""
    there = subjects.targets(name)
    if target not in there:
        raise _Refused(f"{name} has no target {target}; there is: {', '.join(there)}")
    if target != "cpu":
        try:
            subjects.load(name, target=target)
        except subjects.Missing as missing:
            raise _Refused(f"--target {target}: {missing}") from None


def _run(options: argparse.Namespace) -> Report:
    with _progress() as advance:
        return verify(
            list(dict.fromkeys(options.subjects)),
            suite=[name for name in suites.SUITES if name in options.suite],
            function=options.function,
            dtype=[name for name in FORMATS if name in options.dtype],
            convention=options.axis,
            target=options.target,
            seed=options.seed,
            time_limit=options.time_limit,
            progress=advance,
        )


@contextlib.contextmanager
def _progress() -> Iterator[Advance]:
    """A progress bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda description, share: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda description, share: bar.update(task, description=description, completed=share)


def _write(report: Report, options: argparse.Namespace) -> None:
    if options.format == "terminal":
        if options.out is None:
            reports.to_terminal(report, Console(highlight=False, emoji=False))
            return
        written = io.StringIO()
        reports.to_terminal(report, Console(highlight=False, emoji=False, file=written, width=100))
        text = written.getvalue()
    elif options.format == "json":
        text = to_json(report)
    elif options.format == "markdown":
        text = reports.to_markdown(report)
    else:
        from verification.html import to_html  # imports matplotlib: 0.5 s

        text = to_html(report)
    if options.out is None:
        print(text, end="")
        return
    write_whole(options.out, text)
    for subject in report.subjects:
        print(reports.verdict(subject))
    print(f"written to {options.out}")


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there when it is whole, or not at all."""
    try:
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _Refused(f"cannot write {str(path)!r}: {error.strerror}") from None


def _list() -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    table = Table("subject", "what it is", "targets", "here")
    for name, (description, missing) in subjects.known().items():
        here = f"no: needs {missing}" if missing else "yes"
        table.add_row(name, description, ", ".join(subjects.targets(name)), here)
    table.add_row("module:callable", "anything that can be imported", "cpu", "")
    console.print(table)
    table = Table("suite", "what it holds")
    for name, description in suites.SUITES.items():
        table.add_row(name, description)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
