"""`fastsoftmax info` and `warmup`: the machine, and its compiled code."""

from __future__ import annotations

import platform
import time
import warnings
from typing import Any

import llvmlite
import numba
import numpy as np
from rich.text import Text

from fastsoftmax import __version__
from fastsoftmax.command import printing
from fastsoftmax.command.library import refusals
from fastsoftmax.command.refused import Refused
from fastsoftmax.cpu import cache, plan, threads
from fastsoftmax.cuda import inventory


def info(as_json: bool) -> None:
    """Print versions, the CPU, threads, the cache and GPUs.

    As JSON: "fastsoftmax", "python", "numpy", "numba", "llvmlite" (versions), "machine", "system",
    "cpu", "vector_bits", "threads" (how many a call may use), "threading" (whose: "own" or
    "numba"), "cache" (the directory of compiled code, null where there is none), "cached" (its
    files), "kernels" (how many are possible), "gpus" (what describes each by a name, of which
    "CUDA" is the driver or what is missing).
    """
    with refusals():
        name, width = plan.cpu()
        several, whose = threads.number(), threads.chosen()
        described = threads.description()
    try:
        directory = cache.cache_directory()
        there = len(list(directory.glob("*.bin")))
        kept = f"{directory} ({there} files; "
    except FileNotFoundError as error:
        directory, there = None, 0
        kept = f"none: {error.strerror} ("
    possible = len(plan.all_variants())
    gpus = _gpus()
    if as_json:
        fields: dict[str, Any] = {
            "fastsoftmax": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "llvmlite": llvmlite.__version__,
            "machine": platform.machine(),
            "system": platform.system(),
            "cpu": name,
            "vector_bits": width,
            "threads": several,
            "threading": whose,
            "cache": None if directory is None else str(directory),
            "cached": there,
            "kernels": possible,
            "gpus": gpus,
        }
        printing.print_json(fields)
        return
    lines = {
        "fastsoftmax": __version__,
        "Python": f"{platform.python_version()} ({platform.machine()}, {platform.system()})",
        "NumPy": np.__version__,
        "Numba": f"{numba.__version__} (llvmlite {llvmlite.__version__})",
        "CPU": f"{name}, vectors of {width} bits",
        "threads": described,
        "cache": f"{kept}{possible} kernels are possible)",
        **gpus,
    }
    console = printing.console()
    for key, value in lines.items():
        console.print(Text(f"{key:12}", "bold"), value, sep="", soft_wrap=True)


def _gpus() -> dict[str, str]:
    """The GPUs there are, or what is missing."""
    try:
        return inventory.description()
    except (RuntimeError, ImportError, OSError) as error:
        return {"CUDA": f"no: {' '.join(str(error).split())}"}


def warmup(as_json: bool, quiet: bool) -> None:
    """Compile what common calls need.

    As JSON: "kernels" (how many are ready), "seconds", "cache" (the directory that keeps them).
    """
    variants = plan.common_variants()
    start = time.perf_counter()
    bar = printing.progress("compiling", len(variants), quiet)
    with refusals(), bar as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what is refused here
        threads.prepare()
        for variant in variants:
            plan.compile_variant(variant)
            if cache.failure is not None:
                raise Refused(f"no code can be kept: {cache.failure}")
            advance(1)
    seconds = time.perf_counter() - start
    directory = str(cache.cache_directory())
    if as_json:
        printing.print_json({"kernels": len(variants), "seconds": seconds, "cache": directory})
    elif not quiet:
        took = printing.duration(seconds)
        line = f"{len(variants)} kernels ready in {took}, kept in {directory}"
        printing.console().print(line, soft_wrap=True)
