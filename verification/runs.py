"""A run: subjects x checks, in processes of their own, to a report."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import importlib.metadata
import importlib.util
import os
import platform
import queue
from collections.abc import Callable, Sequence
from typing import Any

from verification import suites
from verification.checks import CASE_SUITES
from verification.isolation import Runner
from verification.names import DEFAULT, FUNCTIONS, SCORING, TIME_LIMIT
from verification.results import FAILED, SKIPPED, Finding, Report, Result, SubjectReport

Progress = Callable[[str, float], None]
_CHECKING = 0.9  # of a subject's time; the rest is for shortening what failed


def verify(
    subjects: Sequence[str] = ("fastsoftmax",),
    *,
    suite: Sequence[str] = DEFAULT,
    function: Sequence[str] = (),
    dtype: Sequence[str] = (),
    convention: str = "",
    target: str = "cpu",
    seed: int = 0,
    time_limit: float = TIME_LIMIT,
    workers: int = 0,
    progress: Progress = lambda description, share: None,
) -> Report:
    """Check subjects against high precision and SciPy.

    Parameters
    ----------
    subjects : sequence of str
        Names of built-in subjects (see ``verification.subjects.known``) or ``module:callable``.
    suite : sequence of str
        Names of ``verification.names.SUITES``; all but ``exhaustive`` by default.
    function : sequence of str, optional
        Of softmax, log_softmax, logsumexp, entropy and ``verification.names.SCORING`` (and exp,
        for ``exhaustive``); all that a subject has by default. A ``module:callable`` is the first
        of them, softmax by default.
    dtype : sequence of str, optional
        Of float16, bfloat16, float32 and float64; all that a subject takes by default.
    convention : str, optional
        How a ``module:callable`` is told its axis: one of ``verification.names.CONVENTIONS``;
        from its signature by default.
    target : str
        Where subjects compute: cpu or cuda.
    seed : int
        Of every random draw.
    time_limit : float
        Seconds that a subject may go without a sign of life.
    workers : int
        Processes at a time; one for each core, at most 2, by default.
    progress : callable
        Called with a description and the share that is done.

    Returns
    -------
    Report
        With a result for each check. What a subject does wrong is in it, never raised.

    Examples
    --------
    >>> import verification
    >>> report = verification.verify(["numpy_stable"], suite=["hard"], dtype=["float64"])
    >>> report.holds
    False
    """
    report = Report(
        subjects=tuple(
            _verify_one(
                *(name, number == 0, suite, function, dtype, convention, target, seed),
                *(time_limit, workers or min(2, os.cpu_count() or 1)),
                _part(progress, number / len(subjects), 1 / len(subjects)),
            )
            for number, name in enumerate(subjects)
        ),
        suites=tuple(suite),
        seed=seed,
        target=target,
        machine=machine(target),
        date=datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat(),
    )
    return report


def _part(progress: Progress, start: float, size: float) -> Progress:
    """The progress of a part of something."""
    return lambda description, share: progress(description, start + size * share)


def _verify_one(
    name: str,
    first: bool,
    suite: Sequence[str],
    functions: Sequence[str],
    dtypes: Sequence[str],
    convention: str,
    target: str,
    seed: int,
    limit: float,
    workers: int,
    progress: Progress,
) -> SubjectReport:
    # The convention is for strangers; built-in subjects know theirs.
    start = (name, convention if ":" in name else "", next(iter(functions), ""), target)
    with contextlib.ExitStack() as stack:
        runners = [stack.enter_context(Runner(start, limit)) for _ in range(workers)]
        progress(f"{name}: starting", 0.0)
        described = runners[0].describe()
        wrong = _cannot_run(name, described, functions, dtypes)
        if "missing" in described:
            return SubjectReport(name, "", (), (), tuple(wrong))
        has = described["functions"]
        used = tuple(f for f in (functions or (*FUNCTIONS, *SCORING, "exp")) if f in has)
        asked = tuple(d for d in (dtypes or described["dtypes"]) if d in described["dtypes"])
        if "bfloat16" in asked and not importlib.util.find_spec("ml_dtypes"):
            asked = tuple(d for d in asked if d != "bfloat16")
            why = "needs ml_dtypes"
            wrong.append(Result("subject", "bfloat16", "", "bfloat16", SKIPPED, note=why))
        if not used or not asked:
            return SubjectReport(name, described["version"], used, asked, tuple(wrong))
        requests = [
            {
                "suite": s,
                "case": check.name,
                "dtype": check.dtype,
                "functions": about,
                "seed": seed,
                "beside": first,
            }
            for s in suite
            for check in suites.checks_of(s, asked)
            if (about := tuple(f for f in used if f in check.functions))
        ]
        results = _run_all(name, runners, requests, _part(progress, 0.0, _CHECKING))
        shortening = _part(progress, _CHECKING, 1 - _CHECKING)
        results = _shorten_the_worst(name, runners, requests, results, shortening)
        progress(f"{name}: done", 1.0)
        lacking = [] if functions else _lacking(name, has, suite)
        flat = [result for found in results for result in found]
        if ":" in name and described["convention"] and not dtypes:
            flat = without_refused_types(name, flat)
        return SubjectReport(
            name=name,
            version=described["version"],
            functions=tuple(f for f in used if f in (*FUNCTIONS, *SCORING)),
            dtypes=asked,
            results=(*wrong, *types_returned(flat), *lacking, *flat),
        )


def _cannot_run(
    name: str,
    described: dict[str, Any],
    functions: Sequence[str],
    dtypes: Sequence[str],
) -> list[Result]:
    """Findings about what was asked of a subject and it does not have."""

    def failed(message: str, function: str = "", dtype: str = "") -> Result:
        finding = Finding("missing", message)
        return Result("subject", "there", function, dtype, FAILED, finding=finding)

    if "missing" in described:
        return [failed(described["missing"])]
    found = [
        failed(f"{name} has no {function}", function=function)
        for function in functions
        if function not in described["functions"]
    ]
    found += [
        failed(f"{name} takes no {dtype}", dtype=dtype)
        for dtype in dtypes
        if dtype not in described["dtypes"]
    ]
    return found


def _lacking(name: str, has: Sequence[str], suite: Sequence[str]) -> list[Result]:
    """What a subject does not have and nobody asked for by name: said, and not held against it."""
    asked = set(suite) - {"exhaustive"}
    about = (*(FUNCTIONS if asked - {"scoring"} else ()), *(SCORING if "scoring" in asked else ()))
    return [
        Result("subject", "functions", f, "", SKIPPED, note=f"{name} has no {f}")
        for f in about
        if f not in has
    ]


def without_refused_types(name: str, results: list[Result]) -> list[Result]:
    """A plain callable's results without those of types of which every call raised the same error.

    Nobody has said which types it takes, neither its author nor who asks. One it must take, else it
    is broken.
    """
    words: dict[str, set[str]] = {}
    for result in results:
        if result.dtype and result.status != SKIPPED:
            finding = result.finding
            raised = finding and finding.kind == "broken" and finding.message.startswith("raises ")
            message = finding.message if finding and raised else ""
            words.setdefault(result.dtype, set()).add(message)
    refused = {d: said.pop() for d, said in words.items() if len(said) == 1 and "" not in said}
    if len(refused) == len(words):
        return results
    noted = [
        Result("subject", "type", "", dtype, SKIPPED, note=f"{name} takes no {dtype}: {message}")
        for dtype, message in refused.items()
    ]
    return noted + [result for result in results if result.dtype not in refused]


def types_returned(results: Sequence[Result]) -> list[Result]:
    """For each function, one finding about results of another type than the logits'."""
    found = []
    for function in dict.fromkeys(r.function for r in results if r.returned):
        # A check that does not apply because of the type has tried it all the same.
        tried = [
            r for r in results if r.function == function and (r.returned or r.status != SKIPPED)
        ]
        other = [r for r in tried if r.returned]
        pairs = dict.fromkeys(f"{r.returned} for {r.dtype}" for r in other)
        message = f"returns {', '.join(pairs)} in {len(other):,} of {len(tried):,} checks"
        if any(r.ulp is not None for r in other):
            message += "; errors are measured in the type that is returned"
        finding = Finding("broken", message)
        found.append(Result("subject", "type", function, "", FAILED, finding=finding))
    return found


def _run_all(
    name: str, runners: list[Runner], requests: list[dict[str, Any]], progress: Progress
) -> list[list[Result]]:
    """The results of requests in their order; each runner takes the next when it is free."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(requests)):
        waiting.put(index)
    results: list[list[Result]] = [[] for _ in requests]
    shares = [0.0] * len(requests)

    def work(runner: Runner) -> None:
        while True:
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            request = requests[index]
            what = f"{name}: {request['suite']}"

            def advance(share: float, index: int = index, what: str = what) -> None:
                shares[index] = share
                progress(what, sum(shares) / len(shares))

            results[index] = runner.run(request, advance)
            advance(1.0)

    with concurrent.futures.ThreadPoolExecutor(len(runners)) as pool:
        try:
            for future in [pool.submit(work, runner) for runner in runners]:
                future.result()
        except BaseException:
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
            for runner in runners:
                runner.close()
            raise
    return results


def _shorten_the_worst(
    name: str,
    runners: list[Runner],
    requests: list[dict[str, Any]],
    results: list[list[Result]],
    progress: Progress,
) -> list[list[Result]]:
    """The worst failure of each suite, function, dtype and kind again, as short as it gets."""
    worst: dict[tuple[str, ...], tuple[float, int]] = {}
    for index, found in enumerate(results):
        for result in found:
            if result.suite not in CASE_SUITES or result.finding is None or result.ulp is None:
                continue
            key = (result.suite, result.function, result.dtype, result.finding.kind)
            if key not in worst or result.ulp > worst[key][0]:
                worst[key] = result.ulp, index
    again = sorted({index for _, index in worst.values()})
    if not again:
        return results
    chosen = [requests[i] | {"shorten": True} for i in again]
    found_again = _run_all(f"{name}: shortening", runners, chosen, progress)
    replaced = list(results)
    for index, found in zip(again, found_again, strict=True):
        # A crash on the way does not take the first answer away.
        if len(found) == len(results[index]):
            replaced[index] = found
    return replaced


def machine(target: str = "cpu") -> dict[str, str]:
    """The CPU, the vector width and threads of compiled code, the GPU, and versions."""
    facts = {
        "cpu": platform.machine(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    try:
        import llvmlite.binding as llvm
        import numba

        # What Numba generates code for, and from: NUMBA_CPU_NAME where it is set.
        facts["cpu"] = numba.config.CPU_NAME or llvm.get_host_cpu_name()
        features = numba.config.CPU_FEATURES or llvm.get_host_cpu_features().flatten()
        widths = {"+avx512f": "512", "+avx": "256"}
        enabled = set(features.split(","))
        facts["vector_bits"] = next((w for f, w in widths.items() if f in enabled), "128")
        facts["threads"] = str(numba.config.NUMBA_NUM_THREADS)
    except ImportError:
        facts["threads"] = str(os.cpu_count() or 1)
    packages = ["numpy", "numba", "scipy", "mpmath"]
    if target == "cuda":
        facts["gpu"] = _gpu()
        packages.insert(2, "numba-cuda")
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[package] = importlib.metadata.version(package)
    return facts


def _gpu() -> str:
    """The GPU that subjects compute on, as Numba sees it."""
    try:
        from numba import cuda

        device = cuda.get_current_device()
    except Exception:  # one that another library sees has been found already
        return "unknown to Numba"
    major, minor = device.compute_capability
    name = getattr(device, "name", "Numba's simulator")
    return f"{name}, compute capability {major}.{minor}"


def repeat(
    subject: str,
    *,
    suite: str,
    case: str,
    function: str,
    dtype: str,
    seed: int = 0,
    convention: str = "",
    target: str = "cpu",
) -> Result:
    """Run one check again, in this process, and print what it finds.

    Raises
    ------
    KeyError
        Where there is no such check, or the subject lacks the function.
    """
    from verification.subjects import load

    request = {
        "suite": suite,
        "case": case,
        "dtype": dtype,
        "functions": (function,),
        "seed": seed,
        "shorten": True,
    }
    found = suites.run(load(subject, convention, function, target), request, lambda share: None)
    if not found:
        raise KeyError(f"{subject} has no {function} in this check")
    (result,) = found
    print(f"{subject} {suite} {case} {function} {dtype}: {result.status}")
    details = dataclasses.asdict(result.finding) if result.finding else {}
    about = {"returned": result.returned, "ulp": result.ulp, "bound": result.bound}
    for key, value in (about | details).items():
        if value not in (None, "", ()):
            print(f"  {key:9}{value}")
    return result


def measure(
    subject: str,
    function: str,
    values: Sequence[str],
    dtype: str,
    *,
    convention: str = "",
    target: str = "cpu",
) -> float:
    """The error in ULP of a subject on one row of logits, given in hexadecimal; printed too.

    Raises
    ------
    ValueError
        For a function that is not one of a row of logits alone: `repeat` runs its checks.

    Examples
    --------
    >>> import verification
    >>> verification.measure("fastsoftmax", "softmax", ["0x1p+1", "0x1p+1"], "float64")
    got      [[0.5 0.5]]
    expected [[0.5 0.5]]
    off by 0 ULP
    0.0
    """
    import numpy as np

    from verification.cases import dtype_of
    from verification.errors import rounded
    from verification.judged import row_error
    from verification.subjects import load

    if function not in FUNCTIONS:
        raise ValueError(f"function must be one of {', '.join(FUNCTIONS)}, got {function!r}")
    row = np.array([float.fromhex(v) for v in values]).astype(dtype_of(dtype))
    loaded = load(subject, convention, function, target)
    found = row_error(loaded, function, row)
    with np.printoptions(precision=20):
        print(f"got      {found.result}")
        print(f"expected {rounded(found.exact, found.result.dtype.name)}")
    print(f"off by {found.ulp:.6g} ULP")
    return found.ulp
