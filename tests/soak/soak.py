"""Mixed calls from several threads for minutes on end: no wrong bit, no growing memory.

python tests/soak/soak.py [--minutes 10] [--threads 4]
"""

import argparse
import os
import random
import sys
import threading
import time

import ml_dtypes
import numpy as np

import fastsoftmax

SHAPES = [
    (10,),
    (32, 10),
    (8, 128),
    (400, 33),
    (2000, 300),
    (3, 300_000),
    (700, 40, 20),
    (5000, 64),
]
TYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]


def cases():
    """Each call, without arguments, that is made again and again."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        for dtype in TYPES:
            x = (rng.standard_normal(shape) * 5).astype(dtype)
            mask = rng.random(shape) < 0.8
            for name in ("softmax", "log_softmax", "logsumexp"):
                function = getattr(fastsoftmax, name)
                for axis in (0, -1):
                    yield lambda f=function, x=x, a=axis: f(x, axis=a)
                yield lambda f=function, x=x, m=mask: f(x, axis=-1, where=m)
            yield lambda x=x: fastsoftmax.softmax(x, axis=-1, temperature=0.7, out=np.empty_like(x))


def resident():
    """Memory that this process holds, in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main():
    """Run, report, and end with 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    # glibc gives each thread a heap of its own, whose holes grow by 5 % in seven minutes; what is
    # in use does not, and one heap shows that.
    if "MALLOC_ARENA_MAX" not in os.environ:
        os.environ["MALLOC_ARENA_MAX"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    calls = list(cases())
    right = [call().tobytes() for call in calls]
    counts, wrong = [0] * options.threads, []
    end = time.monotonic() + options.minutes * 60

    def serve(number):
        chosen = random.Random(number)
        while time.monotonic() < end:
            index = chosen.randrange(len(calls))
            if calls[index]().tobytes() != right[index]:
                wrong.append(index)
            counts[number] += 1

    servers = [threading.Thread(target=serve, args=(i,)) for i in range(options.threads)]
    for thread in servers:
        thread.start()
    held = []
    while any(thread.is_alive() for thread in servers):
        time.sleep(0.2)
        held.append(resident())
    # the least in the second and in the last tenth: results come and go
    tenth = len(held) // 10
    first, last = min(held[tenth : 2 * tenth]), min(held[-tenth:])
    print(
        f"{len(calls)} different calls, {sum(counts)} made by {options.threads} threads in "
        f"{options.minutes:g} minutes: {len(wrong)} wrong; memory at least {first:.1f} MiB in "
        f"the second tenth of the time and {last:.1f} in the last, {max(held):.1f} at most"
    )
    return 1 if wrong or last > first * 1.01 else 0


if __name__ == "__main__":
    sys.exit(main())
