"""The command line: `fastsoftmax score`, `info` and `warmup`."""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import os
import platform
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fastsoftmax import __version__, checks, digits, files, functions
from fastsoftmax.cpu import plan, threads
from fastsoftmax.cuda import inventory
from fastsoftmax.cuda.driver import driver

Array = np.ndarray[Any, Any]

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "softmax": functions.softmax,
    "log-softmax": functions.log_softmax,
    "logsumexp": functions.logsumexp,
}
_SHOWN_ROWS = 3


class _Refused(Exception):
    """A wrong call: one line for stderr, exit status 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Refused(message)


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
    """Run one command; 0 when it is done, 2 for a wrong call or a failure.

    Ended by Ctrl-C, SIGTERM or SIGHUP: 128 and the signal's number, as a shell has it.
    """
    try:
        with _ended_by_signals():
            options = _parser().parse_args(arguments)
            try:
                threads.chosen()
            except ValueError as error:  # of an environment variable
                raise _Refused(error) from None
            options.command(options)
            sys.stdout.flush()
    except (_Refused, files.Unreadable, plan.Unavailable) as refusal:
        print(f"fastsoftmax: {refusal}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"fastsoftmax: out of memory: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk or a closed pipe under stdout
        # What is still to be printed has nowhere to go, and would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"fastsoftmax: cannot print: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, _Ended) else signal.SIGINT
        name = signal.Signals(number).name
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            message = f"interrupted by {name}; a result is written whole or not at all"
            print(f"fastsoftmax: {message}", file=sys.stderr)
        return 128 + number
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastsoftmax", description="softmax over millions of rows of logits")
    parser.add_argument("--version", action="version", version=f"fastsoftmax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="score | info | warmup")

    score = commands.add_parser("score", help="score a .npy file of logits, or the ones shipped")
    score.set_defaults(command=_score)
    score.add_argument("file", nargs="?", type=Path, metavar="FILE.npy")
    score.add_argument("-o", dest="out", type=_file, metavar="OUT.npy", help="write the result")
    score.add_argument("--overwrite", action="store_true", help="replace OUT.npy if it is there")
    score.add_argument("--function", choices=list(_FUNCTIONS), default="softmax")
    score.add_argument("--axis", type=int, default=-1, help="the axis of the classes")
    score.add_argument("--temperature", type=float, default=1.0, help="divides the logits")
    score.add_argument("--target", choices=["cpu", "cuda"], default="cpu", help="where")
    score.add_argument("--dtype", choices=["float16", "float32", "float64"], help="of the result")
    score.add_argument("--top", type=int, default=3, metavar="K", help="classes to show a row")

    info = commands.add_parser("info", help="versions, CPU, threads, cache, GPUs")
    info.set_defaults(command=_info)

    warmup = commands.add_parser("warmup", help="compile what common calls need into the cache")
    warmup.set_defaults(command=_warmup)
    return parser


def _file(name: str) -> Path:
    if os.path.basename(name) in ("", os.curdir, os.pardir):  # a path's end that Path would drop
        raise _Refused(f"cannot write {name!r}: not the name of a file")
    return Path(name)


@contextlib.contextmanager
def _progress(description: str, total: float) -> Iterator[Callable[[float], None]]:
    """A progress bar on a terminal, to be advanced by what is yielded; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda amount: None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda amount: progress.advance(task, amount)


# --- score ---------------------------------------------------------------------------------


def _score(options: argparse.Namespace) -> None:
    if options.top < 1:
        raise _Refused(f"--top must be at least 1, got {options.top}")
    if not options.temperature >= 0:
        raise _Refused(f"--temperature must not be negative or NaN, got {options.temperature}")
    if options.function == "logsumexp" and options.temperature != 1.0:
        raise _Refused(f"--temperature {options.temperature}: logsumexp has none")
    with _errors_of(options.target):
        if options.file is None:
            logits, labels = digits.load()
            _score_array(options, "the shipped digits", logits)
            both = _function(options, "softmax"), _function(options, "log-softmax")
            if not digits.report(_console(), *both, logits, labels, options.temperature):
                raise _Refused("the probabilities disagree with the high-precision check")
        else:
            with contextlib.closing(files.LogitsFile(options.file)) as file:
                _score_array(options, str(options.file), file)


@contextlib.contextmanager
def _errors_of(target: str) -> Iterator[None]:
    """What a GPU says, or that there is none, as one line."""
    try:
        if target == "cuda":
            driver()  # before a file is made
        yield
    except RuntimeError as error:
        if target == "cpu":
            raise
        raise _Refused(f"--target {target}: {' '.join(str(error).split())}") from None


def _function(options: argparse.Namespace, name: str = "") -> Callable[..., Any]:
    """The function that is asked for, or another, where it is to be computed."""
    return functools.partial(_FUNCTIONS[name or options.function], target=options.target)


def _score_array(options: argparse.Namespace, name: str, logits: Array | files.LogitsFile) -> None:
    if not -logits.ndim <= options.axis < logits.ndim:
        raise _Refused(f"--axis {options.axis} is out of bounds for {name} of shape {logits.shape}")
    axis = options.axis % logits.ndim

    reduces = options.function == "logsumexp"
    computed = checks.floating(options.function, np.empty(0, logits.dtype))
    dtype = checks.result_type(options.function, computed, options.dtype)
    shape = tuple(n for i, n in enumerate(logits.shape) if not (reduces and i == axis))
    function = _function(options)
    if not reduces:
        function = functools.partial(function, temperature=options.temperature)

    shown = _first_rows(logits.shape, axis)
    start = time.perf_counter()
    with (
        _progress("scoring", max(1, logits.nbytes)) as advance,
        _output(options, shape, dtype) as out,
    ):
        first = next(files.blocks(logits, axis))
        if files.nbytes(logits, first) <= 2 * files.BLOCK_BYTES:  # not a row that is a block
            function(logits[first], axis=axis, dtype=dtype)  # compiles what the blocks need
        prepared = time.perf_counter()

        def scored(cut: tuple[slice, ...], block: Array) -> None:
            _keep_rows(shown, logits.shape, axis, cut, block)
            advance(block.nbytes)

        files.score(logits, axis, reduces, function, out, dtype, scored)
    seconds = time.perf_counter() - prepared

    console = _console()
    classes = logits.shape[axis]
    rows = logits.size // classes if classes else 0
    moved = logits.nbytes + math.prod(shape) * dtype.itemsize
    console.print(
        f"{options.function} of {name}: {rows:,} rows x {classes:,} classes, {logits.dtype}, in "
        f"{seconds:.3f} s, {moved / seconds / 1e9:.2f} GB/s "
        f"(after {prepared - start:.1f} s of preparation)"
        + (f", written to {options.out}" if options.out else ""),
        soft_wrap=True,
    )
    if rows:
        _show_rows(console, shown, options)


@contextlib.contextmanager
def _output(
    options: argparse.Namespace, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Iterator[Array | None]:
    """The array that becomes OUT.npy, None where none is wanted."""
    if options.out is None:
        yield None
        return
    name = repr(str(options.out))
    try:
        with files.new_array(options.out, shape, dtype, options.overwrite) as out:
            yield out
    except FileExistsError:
        raise _Refused(f"cannot write {name}: it exists; --overwrite replaces it") from None
    except OSError as error:
        raise _Refused(f"cannot write {name}: {error.strerror}") from None


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _first_rows(shape: tuple[int, ...], axis: int) -> dict[tuple[int, ...], Array]:
    """The indices of the first rows, with nothing in them yet."""
    others = shape[:axis] + shape[axis + 1 :]
    numbers = range(min(_SHOWN_ROWS, math.prod(others)))
    indices = (np.unravel_index(number, others) if others else () for number in numbers)
    return {tuple(int(i) for i in index): np.empty(0) for index in indices}


def _keep_rows(
    rows: dict[tuple[int, ...], Array],
    shape: tuple[int, ...],
    axis: int,
    cut: tuple[slice, ...],
    block: Array,
) -> None:
    """Copy those of the rows that are in a block of an array."""
    others = [range(n)[part] for n, part in zip(shape, cut, strict=True)]
    del others[axis]
    for index in rows:
        if all(i in part for i, part in zip(index, others, strict=True)):
            place = tuple(part.index(i) for i, part in zip(index, others, strict=True))
            rows[index] = np.moveaxis(block, axis, -1)[place].copy()


def _show_rows(
    console: Console, rows: dict[tuple[int, ...], Array], options: argparse.Namespace
) -> None:
    """A table of rows: their most likely classes, or their logsumexp."""
    reduces = options.function == "logsumexp"
    table = Table("row", "logsumexp" if reduces else f"most likely classes ({options.function})")
    for index, row in rows.items():
        if reduces:
            shown = f"{float(_function(options)(row)):.6g}"
        else:
            result = _function(options)(row, temperature=options.temperature)
            best = np.argsort(-result, kind="stable")[: options.top]
            shown = "   ".join(f"{place}: {result[place]:.6g}" for place in best)
        table.add_row(", ".join(map(str, index)) or "0", shown)
    console.print(table)


# --- info and warmup --------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> None:
    import llvmlite
    import numba

    from fastsoftmax.cpu import cache

    name, width = plan.cpu()
    try:
        directory = cache.cache_directory()
        kept = f"{directory} ({len(list(directory.glob('*.bin')))} files; "
    except FileNotFoundError as error:
        kept = f"none: {error.strerror} ("
    lines = {
        "fastsoftmax": __version__,
        "Python": f"{platform.python_version()} ({platform.machine()}, {platform.system()})",
        "NumPy": np.__version__,
        "Numba": f"{numba.__version__} (llvmlite {llvmlite.__version__})",
        "CPU": f"{name}, vectors of {width} bits",
        "threads": threads.description(),
        "cache": f"{kept}{len(plan.all_variants())} kernels are possible)",
        **_gpus(),
    }
    for key, value in lines.items():
        print(f"{key:12}{value}")


def _gpus() -> dict[str, str]:
    """The GPUs there are, or what is missing."""
    try:
        return inventory.description()
    except (RuntimeError, ImportError, OSError) as error:
        return {"CUDA": f"no: {' '.join(str(error).split())}"}


def _warmup(options: argparse.Namespace) -> None:
    from fastsoftmax.cpu import cache

    variants = plan.common_variants()
    start = time.perf_counter()
    with _progress("compiling", len(variants)) as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what is refused here
        threads.prepare()
        for variant in variants:
            plan.compile_variant(variant)
            if cache.failure is not None:
                raise _Refused(f"no code can be kept: {cache.failure}")
            advance(1)
    seconds = time.perf_counter() - start
    print(f"{len(variants)} kernels ready in {seconds:.1f} s, kept in {cache.cache_directory()}")
