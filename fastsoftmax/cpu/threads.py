"""The threads that share a kernel's work: Python's own, which run compiled code without its lock.

Numba's threading layers are not used. Of these, workqueue aborts the process where two threads
call it at once or a parallel function calls back, OpenMP kills a forked child that uses it, and
TBB is a wheel of its own. With ours, any thread may call, at any time, and a child starts afresh.
A call never waits for a thread that has not begun: whoever is there takes the next chunk.
"""

from __future__ import annotations

import _queue
import _thread
import contextlib
import functools
import math
import os
import sys
from itertools import repeat
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import numba
import numpy as np
from numba.core.compiler_lock import global_compiler_lock

from fastsoftmax.cpu.launch import SHARED, Entry, helper, watcher

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


def _forget() -> None:
    """Start afresh in a forked child, which has none of its parent's threads."""
    global _tasks, _helpers
    _tasks, _helpers = _queue.SimpleQueue(), []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
    # Nobody else compiles or loads code at a fork: a child would wait for that thread for ever.
    _compiling = getattr(global_compiler_lock, "_lock", None) or _thread.RLock()
    os.register_at_fork(
        before=_compiling.acquire,
        after_in_parent=_compiling.release,
        after_in_child=_compiling.release,
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
    if threads > 1:
        _have(threads - 1)
        for _ in range(min(threads - 1, len(_helpers))):
            _tasks.put(shared)
    call(arguments, address, first, last, chunks, shared, _bell)


def number() -> int:
    """How many threads a call may use.

    What numba.set_num_threads or NUMBA_NUM_THREADS says; else as many as this process may run on:
    the CPUs of its affinity, or the share of them that its cgroup has. One where threads
    are green.
    """
    if _green:
        return 1
    # Asking Numba would start its threads, unless they are there. As the interpreter ends, not
    # even the module is.
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    if parallel is not None and parallel._is_initialized:
        return int(numba.get_num_threads())
    if os.environ.get("NUMBA_NUM_THREADS"):
        return int(numba.config.NUMBA_NUM_THREADS)
    return min(_affinity(), _quota())


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
