"""How things are said: on a terminal with colours, tables and bars; elsewhere as plain lines."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

Advance = Callable[[float], None]


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # where rich would end the process with 1


def console(stderr: bool = False) -> Console:
    """What prints text as it is: names of files may look like markup."""
    made = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = 10_000  # what reads a pipe wants no line broken
    return made


def print_table(target: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: a rule below its headings on a terminal, columns of plain text elsewhere."""
    if target.is_terminal:
        table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*row)
        target.print(table)
        return
    lines = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        target.print("  ".join(cells).rstrip(), soft_wrap=True)


def warn(message: str) -> None:
    """Say on stderr what is no failure."""
    print(f"fastsoftmax: warning: {message}", file=sys.stderr)


def print_json(fields: dict[str, Any]) -> None:
    """Print one JSON object; of what JSON has no number for, the strings that float() reads."""
    print(json.dumps(_strict(fields), allow_nan=False))


def _strict(value: Any) -> Any:
    """The same, with "NaN", "Infinity" and "-Infinity", as in Protocol Buffers' JSON."""
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


@contextlib.contextmanager
def progress(description: str, total: float, quiet: bool = False) -> Iterator[Advance]:
    """A bar on a terminal, to be advanced by what is yielded; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda amount: None
        return
    short = Column(max_width=40, no_wrap=True)
    name = TextColumn("{task.description}", markup=False, table_column=short)
    columns = name, BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    # stdout is not taken over: it may be a pipe, in which nothing but results belong.
    with Progress(
        *columns, console=Console(stderr=True), transient=True,
        redirect_stdout=False, redirect_stderr=False,
    ) as bar:  # fmt: skip
        task = bar.add_task(description, total=total)
        yield lambda amount: bar.advance(task, amount)


def duration(seconds: float) -> str:
    """A time in two digits or so: "0.42 ms", "12 ms", "1.2 s", "2 min 5 s"."""
    for limit, unit, in_seconds in (0.9995, "ms", 1e-3), (59.5, "s", 1.0):
        if seconds < limit:
            return f"{two_digits(seconds / in_seconds)} {unit}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def two_digits(value: float) -> str:
    """A positive number in two significant digits, or all of those before its point."""
    return f"{value:.2g}" if value < 99.5 else f"{value:,.0f}"


def number(value: Any) -> str:
    """A result in the fewest digits that tell it from others of its type, at most six or so."""
    return min(str(value), f"{float(value):.6g}", key=len)
