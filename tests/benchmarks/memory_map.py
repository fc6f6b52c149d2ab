"""Logits in a file, larger than one wants in memory, scored to the best classes of each row.

python tests/benchmarks/memory_map.py run.json    # a file of 4 GB in the temporary directory
python -m verification.speed run.json             # the README's table

The file is mapped with `numpy.memmap` and goes through `top_k` in blocks, in a process of its own:
once the system has it in its cache, and once from the disk. Beside it stands reading the file into
a buffer, block by block. Mapped pages count as resident, although the system takes them back
whenever it needs them: what the process has of its own is anonymous memory, which a thread looks up
every 2 ms.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

import numpy as np

import fastsoftmax

BLOCK_BYTES = 1 << 25
EVERY = 0.002


def written(path, rows, classes):
    """A file of normal logits of a deviation of 3, on the disk when this returns."""
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for part in blocks(rows, classes):
            shape = part.stop - part.start, classes
            file.write(memoryview(rng.standard_normal(shape, np.float32) * np.float32(3)))
        file.flush()
        os.fsync(file.fileno())


def blocks(rows, classes):
    """Slices of rows."""
    step = max(1, BLOCK_BYTES // (4 * classes))
    return [slice(start, min(rows, start + step)) for start in range(0, rows, step)]


def read(path):
    """Seconds that reading takes; then the file is in the system's cache."""
    buffer = bytearray(BLOCK_BYTES)
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - start


def forgotten(path):
    """The system drops what it has of a file in its cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# --- in a process of its own -----------------------------------------------------------------


def anonymous():
    """Bytes of memory that are no file's."""
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


class Watched(threading.Thread):
    """The most anonymous memory there is while something runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(EVERY):
            self.peak = max(self.peak, anonymous())

    def __enter__(self):
        self.before = self.peak = anonymous()
        self.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        self.join()
        self.peak = max(self.peak, anonymous())


def scoring(path, rows, classes, k):
    """Time and memory of the whole job, results included; their last rows are checked."""
    with Watched() as memory:
        start = time.perf_counter()
        logits = np.memmap(path, np.float32, "r", shape=(rows, classes))
        probabilities = np.empty((rows, k), np.float32)
        best = np.empty((rows, k), np.int64)
        for part in blocks(rows, classes):
            probabilities[part], best[part] = fastsoftmax.top_k(logits[part], k)
        seconds = time.perf_counter() - start
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    last = slice(-100, None)
    whole = fastsoftmax.softmax(logits[last], axis=-1)
    np.testing.assert_array_equal(np.take_along_axis(whole, best[last], -1), probabilities[last])
    np.testing.assert_array_equal(-np.sort(-whole, axis=-1)[:, :k], probabilities[last])
    return {
        "seconds": seconds,
        "anonymous_before": memory.before,
        "anonymous_peak": memory.peak,
        "resident_peak": resident,
    }


def alone(*arguments):
    """What `scoring` measures in a process that does nothing else."""
    command = [sys.executable, __file__, "--alone", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


# --- the command -----------------------------------------------------------------------------


def measured(folder, rows, classes, k):
    """A run, as `verification.speed` takes it."""
    from benchmarks import peers

    path = os.path.join(folder, "logits")
    block = blocks(rows, classes)[0].stop
    written(path, block, classes)
    alone(path, block, classes, k)  # compiles, and keeps that on the disk
    written(path, rows, classes)
    found = {}
    for name, prepare in {"the system's cache": read, "the disk": forgotten}.items():
        prepare(path)
        seconds = read(path)
        prepare(path)
        found[name] = {"reading_seconds": seconds, **alone(path, rows, classes, k)}
    return {
        "datetime": datetime.datetime.now(datetime.UTC).isoformat(),
        "machine_info": peers.machine() | {"python_version": platform.python_version()},
        "memory_map": {"shape": [rows, classes], "k": k, "answer": 12 * rows * k, "from": found},
    }


def main(arguments=None):
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="memory_map.py", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the JSON file to write")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--top", type=int, default=5, metavar="K")
    options = parser.parse_args(arguments)
    if not hasattr(os, "posix_fadvise") or not os.path.exists("/proc/self/status"):
        print("memory_map.py: needs Linux, whose /proc tells memory", file=sys.stderr)
        return 2
    if not 1 <= options.top <= options.classes or options.rows < 1:
        parser.error("needs a row, and 1 to CLASSES classes to choose")
    if not options.run.parent.is_dir():
        parser.error(f"cannot write {str(options.run)!r}: no such folder")
    with tempfile.TemporaryDirectory() as folder:
        run = measured(folder, options.rows, options.classes, options.top)
    options.run.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        path, *numbers = sys.argv[2:]
        print(json.dumps(scoring(path, *map(int, numbers))))
    else:
        sys.exit(main())
