"""The command line: `fastsoftmax score`, `info` and `warmup`."""

from __future__ import annotations

import argparse
import contextlib
import decimal
import functools
import importlib.resources
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fastsoftmax import __version__, arrays, files, functions

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it is done, 2 for a wrong call or a failure, 130 for Ctrl-C."""
    try:
        options = _parser().parse_args(arguments)
        options.command(options)
        sys.stdout.flush()
    except _Refused as refusal:
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
    except KeyboardInterrupt:
        print("fastsoftmax: interrupted; a result is written whole or not at all", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastsoftmax", description="softmax over millions of rows of logits")
    parser.add_argument("--version", action="version", version=f"fastsoftmax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="score | info | warmup")

    score = commands.add_parser("score", help="score a .npy file of logits, or the ones shipped")
    score.set_defaults(command=_score)
    score.add_argument("file", nargs="?", type=Path, metavar="FILE.npy")
    score.add_argument("-o", dest="out", type=Path, metavar="OUT.npy", help="write the result")
    score.add_argument("--function", choices=list(_FUNCTIONS), default="softmax")
    score.add_argument("--axis", type=int, default=-1, help="the axis of the classes")
    score.add_argument("--temperature", type=float, default=1.0, help="divides the logits")
    score.add_argument("--dtype", choices=["float16", "float32", "float64"], help="of the result")
    score.add_argument("--top", type=int, default=3, metavar="K", help="classes to show a row")

    info = commands.add_parser("info", help="versions, CPU, threads, cache")
    info.set_defaults(command=_info)

    warmup = commands.add_parser("warmup", help="compile what common calls need into the cache")
    warmup.set_defaults(command=_warmup)
    return parser


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
    if options.file is None:
        name, (logits, labels) = "the shipped digits", _digits()
    else:
        name, labels = str(options.file), None
        logits = _readable(options.file)
    if not -logits.ndim <= options.axis < logits.ndim:
        raise _Refused(f"--axis {options.axis} is out of bounds for {name} of shape {logits.shape}")
    axis = options.axis % logits.ndim

    reduces = options.function == "logsumexp"
    computed = arrays.floating(options.function, logits)
    dtype = arrays.result_type(options.function, computed, options.dtype)
    shape = tuple(n for i, n in enumerate(logits.shape) if not (reduces and i == axis))
    function = _FUNCTIONS[options.function]
    if not reduces:
        function = functools.partial(function, temperature=options.temperature)

    with _progress("scoring", max(1, logits.nbytes)) as advance:
        start = time.perf_counter()
        first = logits[next(files.blocks(logits, axis))]
        if first.nbytes <= 2 * files.BLOCK_BYTES:  # not a row so long that it is a block
            function(first, axis=axis, dtype=dtype)  # compiles what the blocks need
        prepared = time.perf_counter() - start
        start = time.perf_counter()
        if options.out is None:
            files.score(logits, axis, reduces, function, None, dtype, advance)
        else:
            try:
                with files.new_array(options.out, shape, dtype) as out:
                    files.score(logits, axis, reduces, function, out, dtype, advance)
            except OSError as error:
                raise _Refused(f"cannot write {str(options.out)!r}: {error.strerror}") from None
        seconds = time.perf_counter() - start

    console = Console(highlight=False, markup=False, emoji=False)
    classes = logits.shape[axis]
    rows = logits.size // classes if classes else 0
    moved = logits.nbytes + np.prod(shape, dtype=np.int64) * dtype.itemsize
    console.print(
        f"{options.function} of {name}: {rows:,} rows x {classes:,} classes, {logits.dtype}, in "
        f"{seconds:.3f} s, {moved / seconds / 1e9:.2f} GB/s (after {prepared:.1f} s of preparation)"
        + (f", written to {options.out}" if options.out else ""),
        soft_wrap=True,
    )
    if rows:
        _show_rows(console, logits, axis, options)
    if labels is not None:
        _report_digits(console, logits, labels, options.temperature)


def _readable(path: Path) -> Array:
    try:
        logits = files.read_logits(path)
    except OSError as error:
        raise _Refused(f"cannot read {str(path)!r}: {error.strerror}") from None
    except ValueError as error:
        raise _Refused(f"cannot read {str(path)!r}: {error}") from None
    if logits.ndim == 0:
        raise _Refused(f"cannot read {str(path)!r}: holds a single number, not rows of logits")
    return logits


def _show_rows(console: Console, logits: Array, axis: int, options: argparse.Namespace) -> None:
    """A table of the first rows: their most likely classes, or their logsumexp."""
    others = logits.shape[:axis] + logits.shape[axis + 1 :]
    reduces = options.function == "logsumexp"
    table = Table("row", "logsumexp" if reduces else f"most likely classes ({options.function})")
    for number in range(min(_SHOWN_ROWS, math.prod(others))):
        index = tuple(int(i) for i in np.unravel_index(number, others)) if others else ()
        row = np.moveaxis(logits, axis, -1)[index]
        if reduces:
            shown = f"{functions.logsumexp(row):.6g}"
        else:
            result = _FUNCTIONS[options.function](row, temperature=options.temperature)
            best = np.argsort(-result, kind="stable")[: options.top]
            shown = "   ".join(f"{place}: {result[place]:.6g}" for place in best)
        table.add_row(", ".join(map(str, index)) or "0", shown)
    console.print(table)


def _digits() -> tuple[Array, Array]:
    """Logits of 1,797 handwritten digits from a logistic regression, and their labels."""
    shipped = importlib.resources.files("fastsoftmax") / "data" / "digits.npz"
    with shipped.open("rb") as file, np.load(file) as data:
        return data["logits"], data["labels"]


def _report_digits(console: Console, logits: Array, labels: Array, temperature: float) -> None:
    """What the logits are worth, and how exact every probability is."""
    probabilities = functions.softmax(logits, axis=-1, temperature=temperature)
    logs = functions.log_softmax(logits, axis=-1, temperature=temperature)
    everyone = np.arange(len(labels))
    chosen = probabilities.argmax(axis=-1)
    certainty = probabilities.max(axis=-1)
    console.print(f"accuracy      {np.mean(chosen == labels):.4f}")
    console.print(f"mean log-loss {-np.mean(logs[everyone, labels], dtype=np.float64):.6f} nats")
    for word, row in ("most certain ", certainty.argmax()), ("least certain", certainty.argmin()):
        console.print(
            f"{word} row {row}: class {chosen[row]} at {certainty[row]:.7g}, label {labels[row]}"
        )
    if not 0 < temperature < float("inf"):
        console.print(f"high-precision check: none at the limit {temperature}")
        return
    errors = _ulp_errors(probabilities, logits, temperature)
    within = int(np.sum(errors <= 2))
    console.print(
        f"high-precision check: {within:,} of {errors.size:,} probabilities within 2 ULP "
        f"(largest error {errors.max():.3f} ULP)"
    )
    if within != errors.size:
        raise _Refused("the probabilities disagree with the high-precision check")


def _ulp_errors(probabilities: Array, logits: Array, temperature: float) -> Array:
    """Each probability's distance from 40 exact digits, in units of its last place."""
    errors = np.empty(probabilities.shape)
    with decimal.localcontext() as context:
        context.prec = 40
        divisor = decimal.Decimal(temperature)
        for row in range(len(logits)):
            top = decimal.Decimal(float(logits[row].max()))
            shifted = [(decimal.Decimal(float(x)) - top) / divisor for x in logits[row]]
            terms = [x.exp() for x in shifted]
            total = sum(terms)
            for column, term in enumerate(terms):
                true = term / total
                unit = decimal.Decimal(float(np.spacing(np.float32(true))))
                got = decimal.Decimal(float(probabilities[row, column]))
                errors[row, column] = abs(got - true) / unit
    return errors


# --- info and warmup --------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> None:
    import llvmlite
    import numba

    from fastsoftmax.cpu import cache, plan, threads

    name, width = plan.cpu()
    directory = cache.cache_directory()
    kept = len(list(directory.glob("*.bin"))) if directory.is_dir() else 0
    lines = {
        "fastsoftmax": __version__,
        "Python": f"{platform.python_version()} ({platform.machine()}, {platform.system()})",
        "NumPy": np.__version__,
        "Numba": f"{numba.__version__} (llvmlite {llvmlite.__version__})",
        "CPU": f"{name}, vectors of {width} bits",
        "threads": f"{threads.number()}, of our own: no threading layer of Numba's is started",
        "cache": f"{directory} ({kept} files; {len(plan.all_variants())} kernels are possible)",
        "CUDA": "no: this version has no CUDA target",
    }
    for key, value in lines.items():
        print(f"{key:12}{value}")


def _warmup(options: argparse.Namespace) -> None:
    from fastsoftmax.cpu import cache, plan, threads

    variants = plan.common_variants()
    start = time.perf_counter()
    with _progress("compiling", len(variants)) as advance:
        for variant in variants:
            plan.compile_variant(variant)
            advance(1)
    threads.helpers_code()
    seconds = time.perf_counter() - start
    print(f"{len(variants)} kernels ready in {seconds:.1f} s, kept in {cache.cache_directory()}")
