"""The commands, their options and their help: what can be said before the library is imported.

rich-click draws them: click, with help in columns and colours. It adds 20 ms to the start of a
program that imports rich (click alone 8, typer 29, cyclopts 43); `--help` takes 0.15 s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click
from click import Choice, Context, Parameter
from click.shell_completion import get_completion_class

from fastsoftmax import __version__
from fastsoftmax.command.refused import Refused, did_you_mean

#: The environment variable by which a shell asks for completions.
COMPLETE = "_FASTSOFTMAX_COMPLETE"
#: The library's functions of rows: tests hold that these are those in formulas.py.
FUNCTIONS = ("softmax", "log_softmax", "logsumexp", "entropy")


_Called = TypeVar("_Called", bound=Callable[..., Any])


class _Command(click.RichCommand):
    """A command, of whose help no line ends with blanks, as a table's do."""

    def get_help(self, ctx: Any) -> str:
        return _trimmed(super().get_help(ctx))


class _Commands(click.RichGroup):
    """The commands by their names; a wrong one is answered with the nearest."""

    command_class = _Command

    def get_help(self, ctx: Any) -> str:
        return _trimmed(super().get_help(ctx))

    def list_commands(self, ctx: Context) -> list[str]:
        return list(self.commands)  # as they are needed, not by the alphabet

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands:
            known = ", ".join(self.commands)
            raise Refused(f"no command {name!r}: {known}.{did_you_mean(name, self.commands)}")
        return super().resolve_command(ctx, args)


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())


class _Name(Choice):  # type: ignore[type-arg]  # it is generic from click 8.2 on
    """One of some names, in which `-` is as good as `_`; a wrong one is answered with the nearest.

    A shell that completes it offers the names.
    """

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> str:
        name = str(value).replace("-", "_")
        if name not in self.choices:
            known = ", ".join(self.choices)
            meant = did_you_mean(name, self.choices)
            self.fail(f"{value!r} is not one of {known}.{meant}", param, ctx)
        return name


_quiet = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print warnings and errors only: no report (but --json's), no progress.",
)


def _json(module: str) -> Callable[[_Called], _Called]:
    told = f"python -m pydoc fastsoftmax.command.{module}"
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help=f"Print one JSON object in place of the report. (`{told}` tells its fields.)",
    )


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="fastsoftmax COMMAND --help tells all of a command.",
)
@click.version_option(__version__, message="fastsoftmax %(version)s", help="Show the version.")
@click.rich_config({"theme": "cargo-slim", "default_string": "\\[default: {}]"})
@click.pass_context
def program(context: Context) -> None:
    """softmax, log_softmax, logsumexp and entropy over millions of rows of logits."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)  # no command is a wrong call: a script's variable may have been empty


@program.command()
@click.argument("source", metavar="[INPUT]", required=False, type=click.Path())
@click.option(
    "-o",
    "--out",
    "--output",
    "out",
    metavar="OUT",
    type=click.Path(),
    help="Write the results: to a .npy file; for a folder of inputs, to a folder, each by the name "
    "of its input; - is stdout. A file appears when it is whole, or not at all.  "
    "[default: nothing is written]",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@click.option(
    "--function",
    metavar="NAME",
    type=_Name(FUNCTIONS),
    default="softmax",
    show_default=True,
    help="What is computed of each row: softmax, log_softmax, logsumexp or entropy.",
)
@click.option(
    "--axis",
    metavar="N",
    type=int,
    default=-1,
    show_default=True,
    help="The axis of the classes; -1 is the last one.",
)
@click.option(
    "--temperature",
    metavar="T",
    type=float,
    default=1.0,
    show_default=True,
    help="Divides the logits; 0 and inf are the limits. (logsumexp has none.)",
)
@click.option(
    "--dtype",
    metavar="NAME",
    type=_Name(("float16", "float32", "float64")),
    help="The results' type: float16, float32 or float64.  [default: the logits'; float64 for "
    "integers]",
)
@click.option(
    "--target",
    metavar="NAME",
    type=_Name(("cpu", "cuda")),
    default="cpu",
    show_default=True,
    help="Who computes: cpu, or cuda, an NVIDIA GPU; to the same bits.",
)
@click.option(
    "--top",
    metavar="K",
    type=int,
    default=3,
    show_default=True,
    help="How many classes are shown of each of the first rows.",
)
@_json("report")
@_quiet
def score(**options: Any) -> None:
    """Turn logits into probabilities.

    INPUT is a .npy file of any size, which is read and scored in blocks; a folder, of which every
    .npy file is scored; or - for .npy on stdin. Without one, the logits that ship with the package
    are scored and checked against 40 exact digits: a classifier's, for 1,797 handwritten digits.

    What is wrong with any input, or in the way of any output, is said before anything is computed.
    """
    if options["top"] < 1:
        raise Refused(f"--top must be at least 1, got {options['top']}")
    if not options["temperature"] >= 0:
        raise Refused(f"--temperature must not be negative or NaN, got {options['temperature']}")
    if options["function"] == "logsumexp" and options["temperature"] != 1.0:
        raise Refused(f"--temperature {options['temperature']}: logsumexp has none")
    from fastsoftmax.command import report, scoring

    scoring.score(report.Request(**options))


class _Logits(click.ParamType):  # type: ignore[type-arg]  # as above
    """Numbers with commas between them: one row."""

    name = "logits"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> list[float]:
        try:
            return [float(number) for number in str(value).split(",")]
        except ValueError:
            if str(value).startswith("-") and "," not in str(value):
                raise click.NoSuchOption(str(value), ctx=ctx) from None
            self.fail(f"{value!r} is no row of logits: numbers with commas between them, as 1,2")


# Numbers such as -2,-1 are no options.
@program.command(context_settings={"ignore_unknown_options": True})
@click.argument("rows", metavar="[LOGITS]...", nargs=-1, type=_Logits())
@_json("comparing")
def compare(rows: tuple[list[float], ...], as_json: bool) -> None:
    """Show softmax and its alternatives side by side.

    LOGITS are numbers with commas between them, a row for each argument. Without any, they are the
    blurry 1,2 and the crisp 10,20: the same to who divides by the sum, and not to softmax.
    """
    from fastsoftmax.command import comparing

    comparing.compare(rows or ([1.0, 2.0], [10.0, 20.0]), as_json)


@program.command()
@_json("machine")
def info(as_json: bool) -> None:
    """Show versions, the CPU, threads, the cache of compiled code, and GPUs."""
    from fastsoftmax.command import machine

    machine.info(as_json)


@program.command()
@_json("machine")
@_quiet
def warmup(as_json: bool, quiet: bool) -> None:
    """Compile what common calls need, and keep it for later processes.

    It takes 10 to 30 seconds, one where all is kept already. Without it, the first call with a
    new type and shape of rows compiles what it needs, in half a second.
    """
    from fastsoftmax.command import machine

    machine.warmup(as_json, quiet)


@program.command()
@click.argument("shell", metavar="bash|zsh|fish", type=_Name(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print a script that lets a shell complete commands, options and their values.

    bash, in ~/.bashrc: `eval "$(fastsoftmax completion bash)"`

    zsh, in ~/.zshrc: `eval "$(fastsoftmax completion zsh)"`

    fish, in ~/.config/fish/config.fish: `fastsoftmax completion fish | source`
    """
    complete = get_completion_class(shell)
    assert complete is not None  # click has each of these
    click.echo(complete(program, {}, "fastsoftmax", COMPLETE).source())
