"""The threads that share a kernel's work: Python's own, which run compiled code without its lock.

Numba's threading layers are used where they are asked for only. Of these, workqueue aborts the
process where two threads call it at once or a parallel function calls back, OpenMP kills a forked
child that uses it, and TBB is a wheel of its own. With ours, any thread may call, at any time, and
a child starts afresh. A call never waits for a thread that has not begun: whoever is there takes
the next chunk.
"""

from __future__ import annotations

import _queue
import _thread
import contextlib
import functools
import math
import os
import sys
import threading
from itertools import repeat
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import numba
import numpy as np

from fastsoftmax.cpu.compiler import lock
from fastsoftmax.cpu.launch import SHARED, Entry, helper, refused, team, watcher

# Chunks for each thread: a thread that is late, or slowed by another process, leaves some to
# others.
_CHUNKS = 4

Array = np.ndarray[Any, Any]
_Tasks = _queue.SimpleQueue[Array]

# Real threads and a real queue, whatever gevent or eventlet makes of threading and queue later.
# What they made before are green threads, which would take turns on the calling thread.
_start = _thread.start_new_thread
_green = not isinstance(_start, BuiltinFunctionType)
_tasks: _Tasks = _queue.SimpleQueue()
_helpers: list[int] = []
# Counts the calls: rung when Python's lock is free, so that helpers need not wait for it.
_bell = np.zeros(1, np.int64)

# The gate of Numba's threads on a layer that only one thread may use at a time.
_gate = np.zeros(1, np.int64)
# The system's number of the thread that a forked child began as, which Python does not update.
_forked_thread = 0
# Whether this process is a child of one in which Numba had started OpenMP.
_forked_after_openmp = False


def _checked(choice: object, name: str) -> str:
    if choice not in ("own", "numba"):
        raise ValueError(f"{name} must be 'own' or 'numba', not {choice!r}")
    return str(choice)


# What the environment says is checked when it first counts: an import should not fail for it.
_choice = os.environ.get("FASTSOFTMAX_THREADING") or "own"


def chosen() -> str:
    """Whose threads share large calls, "own" or "numba"; ValueError for what is neither."""
    return _checked(_choice, "FASTSOFTMAX_THREADING")


def set_threading(threads: str) -> None:
    """Choose the threads that share large calls: fastsoftmax's "own" (the default) or "numba"'s.

    Numba's are for programs that have them already and want no second set. Results have the same
    bits on either. The environment variable ``FASTSOFTMAX_THREADING`` chooses for a process from
    its start; where it is neither, large calls are a ValueError. Calls of less than 131,072 logits
    stay on the calling thread with either.

    Parameters
    ----------
    threads : str
        "own" or "numba", for all calls of this process that begin from now on.

    Raises
    ------
    ValueError
        For any other value.

    Notes
    -----
    Numba's threads are run by one of its layers, which ``NUMBA_THREADING_LAYER`` chooses and
    `numba.threading_layer` tells. Their number is `numba.get_num_threads`'s. With them, calls lose
    what our own threads give on every layer:

    - workqueue aborts the process where two threads use it at once. A call while another one is
      under way is a RuntimeError instead, and so is one from a thread that Python's `threading`
      did not start, as one of Numba's parallel functions makes when it calls back. The abort is
      left where one thread calls and *another* runs a parallel function of the program itself,
      which cannot be seen.
    - GNU OpenMP kills a forked child. A call in a child that was forked after Numba had started it
      is a RuntimeError instead, if fastsoftmax's functions were imported before the fork.
    - TBB has neither limit, but for forks while one of its loops runs.

    After such an error ``out`` may hold a part of the result. "own" works in all these places.
    """
    global _choice
    _choice = _checked(threads, "threads")


def _layer() -> str | None:
    """The threading layer that Numba has started, if it has."""
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


def _forget() -> None:
    """Start afresh in a forked child, which has none of its parent's threads."""
    global _tasks, _helpers, _gate, _forked_thread, _forked_after_openmp
    _tasks, _helpers, _gate = _queue.SimpleQueue(), [], np.zeros(1, np.int64)
    _forked_thread = threading.get_native_id()
    _forked_after_openmp = _layer() == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
    # Nobody else compiles or loads code at a fork: a child would wait for that thread for ever.
    os.register_at_fork(
        before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
    )


def _help(tasks: _Tasks, watch: Entry, help_out: Entry) -> None:
    while True:
        before = int(_bell[0])
        if tasks.empty():
            watch(_bell, before)
        help_out(tasks.get())


def helpers_code() -> tuple[Entry, Entry]:
    """The compiled code that helpers run."""
    return watcher(), helper()


def prepare() -> None:
    """Have the code ready that threads run, in this process and for later ones."""
    if chosen() == "numba":
        team()
    else:
        helpers_code()


def _have(helpers: int) -> None:
    """Start threads until there are so many, or the system allows no more."""
    missing = helpers - len(_helpers)
    if missing <= 0:
        return
    arguments = _tasks, *helpers_code()
    # In one step, which no signal's handler interrupts: whoever was started is counted.
    with contextlib.suppress(RuntimeError):  # no more are allowed: this call does without
        _helpers.extend(map(_start, repeat(_help, missing), repeat(arguments)))


def run(
    call: Entry, arguments: tuple[Any, ...], address: int, first: int, last: int, threads: int
) -> None:
    """Have a kernel do its items ``first`` to ``last`` on so many threads; see launch.py.

    Whatever is raised, by Ctrl-C or another signal's handler, is raised before anybody computes or
    when all is done; and then nobody has a reference to the arguments.
    """
    chunks = 1 if threads == 1 else min(last - first, _CHUNKS * threads)
    shared = np.zeros(SHARED, np.int64)
    if threads > 1 and chosen() == "numba":
        _run_team(call, (arguments, address, first, last, chunks, shared), threads)
        return
    if threads > 1:
        _have(threads - 1)
        for _ in range(min(threads - 1, len(_helpers))):
            _tasks.put(shared)
    call(arguments, address, first, last, chunks, shared, _bell, 0, 0)


def _run_team(call: Entry, work: tuple[Any, ...], threads: int) -> None:
    """Have Numba's threads do it, or a RuntimeError where that would end the process."""
    code, layer, gate = team(), _layer(), np.zeros(1, np.int64)
    if layer == "omp" and _forked_after_openmp:
        raise RuntimeError(
            "Numba's OpenMP threads cannot be used in a child that was forked after they were "
            f"started. {_INSTEAD}"
        )
    if layer == "workqueue":
        if not _is_pythons():
            raise RuntimeError(
                "Numba's workqueue threads cannot be used from within a parallel function, nor "
                f"from a thread that Python's threading did not start. {_INSTEAD}"
            )
        gate = _gate
    call(*work, gate, code, threads)
    if refused(work[-1]):
        raise RuntimeError(
            "Numba's workqueue threads cannot be used by two threads at once, and another call "
            f"is under way. {_INSTEAD}"
        )


_INSTEAD = 'Call fastsoftmax.set_threading("own"), or have NUMBA_THREADING_LAYER=tbb.'


def _is_pythons() -> bool:
    """Whether Python started this thread, which it has not done with workqueue's.

    By the system's number of the thread: Python's identities of green threads are made up.
    """
    own = threading.get_native_id()
    dummy = threading._DummyThread
    known = {t.native_id for t in threading.enumerate() if not isinstance(t, dummy)}
    return own in known or own == _forked_thread


def number() -> int:
    """How many threads a call may use.

    As many as Numba says, where its threads are chosen. Else what numba.set_num_threads or
    NUMBA_NUM_THREADS says; else as many as this process may run on: the CPUs of its affinity, or
    the share of them that its cgroup has. One where threads are green.
    """
    if chosen() == "own":
        if _green:
            return 1
        # Asking Numba would start its threads, unless they are there.
        if _layer() is None:
            if os.environ.get("NUMBA_NUM_THREADS"):
                return int(numba.config.NUMBA_NUM_THREADS)
            return min(_affinity(), _quota())
    return int(numba.get_num_threads())


def description() -> str:
    """How many threads a call may use, and whose."""
    several = number()
    return f"{several}, Numba's ({_layer()})" if chosen() == "numba" else f"{several}, of our own"


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _quota(file: str = "/sys/fs/cgroup/cpu.max") -> int:
    """The CPUs' time that a container may use, in CPUs, rounded up."""
    try:
        quota, period = Path(file).read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return sys.maxsize
