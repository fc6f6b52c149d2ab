"""The five best classes of each row of a file that no memory has to hold.

Rows of 1000 logits, 20,000 of them or as many as the first argument says: of 1,000,000 they are
4 GB. Only what is asked for is made: no row's probabilities, nor those of a block. With an argument
the memory that NumPy took and the time are printed, too.

Prints:
    top 5 of 20,000 x 1,000 float32: (20,000, 5) probabilities and indices
    memory beside these results: less than 16 MiB
    as softmax has them: True
"""

import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from fastsoftmax import softmax, top_k

ROWS, CLASSES, K, STEP = int((sys.argv[1:] or ["20000"])[0]), 1000, 5, 10_000

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "logits.npy"
    written = np.lib.format.open_memmap(path, "w+", np.float32, (ROWS, CLASSES))
    random = np.random.default_rng(0)
    for start in range(0, ROWS, STEP):
        block = written[start : start + STEP]
        random.standard_normal(dtype=np.float32, out=block)
        block *= 3
    del written, block

    logits = np.load(path, mmap_mode="r")
    top_k(logits[:STEP], K)  # compiles what it needs
    tracemalloc.start()
    begun = time.perf_counter()
    probabilities, indices = top_k(logits, K)
    took = time.perf_counter() - begun
    beside = tracemalloc.get_traced_memory()[1] - probabilities.nbytes - indices.nbytes
    tracemalloc.stop()

    shape = f"({ROWS:,}, {K}) probabilities and indices"
    print(f"top {K} of {ROWS:,} x {CLASSES:,} {logits.dtype}: {shape}")
    print(f"memory beside these results: {'less' if beside < 1 << 24 else 'more'} than 16 MiB")
    whole = softmax(logits[-100:], axis=-1)
    best = np.argsort(-whole, axis=-1, kind="stable")[:, :K]
    same = np.array_equal(best, indices[-100:])
    right = np.array_equal(np.take_along_axis(whole, best, -1), probabilities[-100:])
    print("as softmax has them:", same and right)
    if sys.argv[1:]:
        print(f"{logits.nbytes / 1e9:.2f} GB in {took:.2f} s, beside results {beside / 1e6:.2f} MB")
    del logits  # some systems remove no file that is mapped
