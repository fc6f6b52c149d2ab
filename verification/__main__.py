"""The command line: ``python -m verification``, or ``fastsoftmax-verify``.

Its help needs nothing that is not installed with fastsoftmax: what a run needs is imported by
`command`, once the options are read.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rich_click as click
from click.exceptions import Exit, NoSuchOption

from verification import names

Command = Callable[..., int]

_NAME = "fastsoftmax-verify"
_FORMATS = {"terminal": ".txt", "json": ".json", "markdown": ".md", "html": ".html"}
_PIPE = 141  # what a shell says of a process whose reader has gone: 128 and SIGPIPE's number


class _Words(click.ParamType[tuple[str, ...]]):
    """One of some words, or several with commas between them."""

    name = "name"

    def __init__(self, what: str, there: Sequence[str], several: bool = False) -> None:
        self.what = what
        self.there = there
        self.several = several

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """The words, each of them known."""
        given = value.split(",") if self.several else [value]
        for word in given:
            if word not in self.there:
                raise click.ClickException(names.unknown(self.what, word, self.there))
        return tuple(given)


def _positive(context: Any, parameter: Any, value: float) -> float:
    if not value > 0:
        raise click.ClickException(f"{parameter.opts[0]} must be positive, got {value:g}")
    return value


def _not_negative(context: Any, parameter: Any, value: int) -> int:
    if value < 0:
        raise click.ClickException(f"{parameter.opts[0]} must not be negative, got {value}")
    return value


def _several(what: str, there: Sequence[str], default: str) -> Callable[[Command], Command]:
    """An option that takes several words: with commas between them, or given again."""
    return click.option(
        f"--{what}",
        type=_Words(what, there, several=True),
        multiple=True,
        metavar="NAME,...",
        help=f"Of {', '.join(there)}. By default {default}.",
    )


def _form(out: Path | None) -> str:
    """The format that a file's name ends with; where there is no file, the terminal's."""
    if out is None:
        return "terminal"
    for name, end in _FORMATS.items():
        if out.suffix.lower() == end:
            return name
    ends = ", ".join(_FORMATS.values())
    raise click.ClickException(
        f"cannot tell the format of {str(out)!r}: name it with --format, or end it with one of "
        f"{ends}"
    )


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 where every check of every subject holds, 1 where one does not, 2 for a "
    "call that cannot be carried out.",
)
@click.argument("subjects", nargs=-1, metavar="[SUBJECT]...")
@_several("suite", tuple(names.SUITES), "all but exhaustive")
@_several(
    "function",
    (*names.FUNCTIONS, *names.SCORING, "exp"),
    "all that a subject has (exp: in exhaustive)",
)
@_several("dtype", names.DTYPES, "all that a subject takes")
@click.option(
    "--axis",
    type=_Words("axis", names.CONVENTIONS),
    metavar="HOW",
    help="How a module:callable is told its axis: " + ", ".join(names.CONVENTIONS) + ". From its "
    "signature by default.",
)
@click.option(
    "--target",
    type=_Words("target", names.TARGETS),
    default="cpu",
    show_default=True,
    metavar="NAME",
    help="Where subjects compute: cpu, or cuda, an NVIDIA GPU.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    callback=_not_negative,
    help="Of every random draw.",
)
@click.option(
    "--time-limit",
    type=float,
    default=names.TIME_LIMIT,
    show_default=True,
    metavar="SECONDS",
    callback=_positive,
    help="How long a subject may go without a sign of life.",
)
@click.option(
    "--format",
    "form",
    type=_Words("format", tuple(_FORMATS)),
    metavar="NAME",
    help="Of the report: "
    + ", ".join(_FORMATS)
    + ". By default as the name of --out ends ("
    + ", ".join(_FORMATS.values())
    + "), or for the terminal.",
)
@click.option(
    "-o",
    "--out",
    "--output",
    "out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the report into FILE, and its verdicts to the terminal. - is standard output.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of progress and time.")
@click.option("--list", "listed", is_flag=True, help="Show subjects and suites, and what is here.")
def _command(**options: Any) -> int:
    """What any softmax gets right and wrong, against high precision and beside SciPy.

    SUBJECT is a name from --list, or module:callable for one of your own; fastsoftmax by default.
    """
    try:
        from verification import command
    except ModuleNotFoundError as error:
        needed = f"needs {error.name}: python -m pip install 'fastsoftmax[verify]'"
        raise click.ClickException(needed) from None
    for name in ("suite", "function", "dtype"):
        options[name] = tuple(dict.fromkeys(word for words in options[name] for word in words))
    for name in ("axis", "target", "form"):
        options[name] = options[name][0] if options[name] else ""
    if options["out"] == Path("-"):  # as elsewhere, standard output
        options["out"] = None
    options["form"] = options["form"] or _form(options["out"])
    try:
        return command.run(command.Asked(**options))
    except KeyboardInterrupt:
        return _say("interrupted; nothing was written", 130)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every check of every subject holds, 1 where one does not, 2 for a wrong call."""
    # Python has none of those that were closed. What is opened first takes their places.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Not by click's own ``main``, which prints an empty line at Ctrl-C.
        with _command.make_context(_NAME, given) as context:
            status = _command.invoke(context)
        sys.stdout.flush()
        return int(status)
    except Exit as end:  # of --help
        return end.exit_code
    except KeyboardInterrupt:
        return _say("interrupted; nothing was written", 130)
    except NoSuchOption as refusal:  # click's own words name options that are not near
        there = [name for option in _command.params for name in option.opts] + ["--help"]
        near = names.meant(refusal.option_name, there)
        return _say(f"no such option {refusal.option_name!r}{near}", 2)
    except click.ClickException as refusal:
        return _say(" ".join(refusal.format_message().split()), 2)
    except OSError as error:  # a full disk, or a reader that has gone
        # What is still to be printed has nowhere to go, and would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE if error.errno == errno.EPIPE else _say(f"cannot print: {error.strerror}", 2)
    except SystemExit:  # how rich ends where its reader has gone
        return _PIPE


def _say(message: str, status: int) -> int:
    print(f"{_NAME}: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
