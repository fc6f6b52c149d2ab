"""The threads that share a kernel's work: Python's own, which run compiled code without its lock.

Numba's threading layers are not used. Of these, workqueue aborts the process where two threads
call it at once or a parallel function calls back, OpenMP kills a forked child that uses it, and
TBB is a wheel of its own. With ours, any thread may call, at any time, and a child starts afresh.
A call never waits for a thread that has not begun: whoever is there takes the next chunk.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numba
import numpy as np

from fastsoftmax.cpu.launch import Entry, watcher

# Chunks for each thread: a thread that is late, or slowed by another process, leaves some to
# others.
_CHUNKS = 4

# How often a thread looks for what it waits for, some 200 us, before it sleeps: to be woken takes
# 20 us here. So calls that follow each other find the helpers awake.
_PATIENCE = 10_000

Array = np.ndarray[Any, Any]
_Task = Callable[[], None]
_tasks: SimpleQueue[_Task] = SimpleQueue()
_helpers = 0
_lock = threading.Lock()
# Counts the calls: rung when Python's lock is free, so that helpers need not wait for it.
_bell = np.zeros(1, np.int64)


def _forget() -> None:
    """Start afresh in a forked child, which has none of its parent's threads."""
    global _tasks, _helpers, _lock
    _tasks, _helpers, _lock = SimpleQueue(), 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _help(tasks: SimpleQueue[_Task]) -> None:
    watch, address = watcher(), _bell.ctypes.data
    while True:
        before = int(_bell[0])
        if tasks.empty():
            watch(address, before, _PATIENCE)
        tasks.get()()


def _have(helpers: int) -> None:
    """Start threads until there are so many, or the system allows no more."""
    global _helpers
    # Whoever holds the lock starts them: perhaps this very thread, whose signal's handler we are.
    if _helpers >= helpers or not _lock.acquire(blocking=False):
        return
    try:
        while _helpers < helpers:
            name = f"fastsoftmax-{_helpers}"
            thread = threading.Thread(target=_help, args=(_tasks,), name=name, daemon=True)
            thread.start()
            _helpers += 1
    except RuntimeError:
        pass  # this call does without
    finally:
        _lock.release()


def run(
    call: Entry, arguments: tuple[Any, ...], address: int, first: int, last: int, threads: int
) -> None:
    """Have a kernel do its items ``first`` to ``last`` on so many threads; see launch.py.

    Whatever is raised, by Ctrl-C or in a helper, is raised when nobody computes any more.
    """
    chunks = 1 if threads == 1 else min(last - first, _CHUNKS * threads)
    counters = np.zeros(16, np.int64)  # two, on cache lines of their own
    taken = counters.ctypes.data
    done = taken + counters.nbytes // 2
    finished: SimpleQueue[BaseException | None] = SimpleQueue()

    def work(patience: int, last: int = last) -> bool:
        bell = _bell.ctypes.data
        return bool(call(arguments, address, first, last, chunks, taken, done, bell, patience))

    def settle() -> None:
        """Take what is left, as chunks of no items, and wait for those that have begun."""
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # one is on its way already
                if work(1, first):
                    return
                time.sleep(1e-4)

    def help_out(_counters: Array = counters) -> None:  # which live until all helpers have looked
        try:
            if work(0):
                finished.put(None)
        except BaseException as error:
            finished.put(error)

    try:
        if threads > 1:
            _have(threads - 1)
            for _ in range(min(threads - 1, _helpers)):
                _tasks.put(help_out)
        if not work(_PATIENCE):
            error = finished.get()
            if error is not None:
                raise error
    except BaseException:
        settle()
        raise


def number() -> int:
    """How many threads a call may use.

    What numba.set_num_threads or NUMBA_NUM_THREADS says; else as many as this process may run on:
    the CPUs of its affinity, or the share of them that its cgroup has.
    """
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
