"""How a command begins and ends: its exit status, signals, and errors as one line on stderr."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import click
from click import shell_completion

from fastsoftmax.command.options import COMPLETE, program
from fastsoftmax.command.refused import Refused, did_you_mean


class _Ended(KeyboardInterrupt):
    """A signal to end: as Ctrl-C, for all that is under way."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise where a signal would end the process at once and leave what it has begun.

    Only once: what further ones would interrupt is the removal of that.
    """
    ended = False

    def end(number: int, frame: object) -> None:
        nonlocal ended
        if not ended:
            ended = True
            raise _Ended(number)

    caught = {}
    if threading.current_thread() is threading.main_thread():
        present = [n for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
        handlers = {getattr(signal, n): signal.getsignal(getattr(signal, n)) for n in present}
        # One that is ignored (nohup), or somebody else's, is left alone.
        ours = (signal.SIG_DFL, signal.default_int_handler)
        caught = {n: handler for n, handler in handlers.items() if handler in ours}
    try:
        for number in caught:
            signal.signal(number, end)
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0 when it is done, 2 for a wrong call, for none, or for a failure.

    Ended by Ctrl-C, SIGTERM or SIGHUP: 128 and the signal's number, as a shell has it; so, too,
    without a word, where the reader of stdout has gone (`fastsoftmax score | head -1`): 141.
    """
    try:
        with _ended_by_signals():
            status = _run(list(sys.argv[1:] if arguments is None else arguments))
            sys.stdout.flush()
            return status
    except (Refused, click.ClickException) as refusal:
        _say(_in_words(refusal))
        return 2
    except MemoryError as error:
        _say(f"out of memory: {error}")
        return 2
    except OSError as error:  # a full disk or a closed pipe under stdout
        # What is still to be printed has nowhere to go, and would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 141  # 128 + SIGPIPE, which Python ignores
        _say(f"cannot print: {error.strerror}")
        return 2
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, _Ended) else signal.SIGINT
        name = signal.Signals(number).name
        _say(f"interrupted by {name}; a result is written whole or not at all")
        return 128 + number


def _run(arguments: list[str]) -> int:
    """The status of a command, or of what a shell asks in order to complete one."""
    instruction = os.environ.get(COMPLETE)
    if instruction:
        return shell_completion.shell_complete(program, {}, "fastsoftmax", COMPLETE, instruction)
    # Not by click's own ``main``, which ends with 1 where a pipe is closed, and aborts at Ctrl-C.
    try:
        with (
            warnings.catch_warnings(),
            program.make_context("fastsoftmax", arguments) as context,
        ):
            warnings.showwarning = _show_warning
            program.invoke(context)
    except click.exceptions.Exit as end:  # of --help and --version
        return end.exit_code
    return 0


def _in_words(refusal: Refused | click.ClickException) -> str:
    if isinstance(refusal, Refused):
        return str(refusal)
    if isinstance(refusal, click.NoSuchOption) and refusal.ctx is not None:
        known = [name for each in refusal.ctx.command.params for name in each.opts]
        meant = did_you_mean(refusal.option_name, known)
        return f"no option {refusal.option_name!r}.{meant}"
    text = " ".join(refusal.format_message().split())
    return text[:1].lower() + text[1:]


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """Print a warning as one line, without the line of code that it comes from."""
    _say(f"warning: {' '.join(str(message).split())}")


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be what has gone
        print(f"fastsoftmax: {message}", file=sys.stderr)
