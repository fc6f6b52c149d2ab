"""A file of logits, scored by the command and read back through a memory map.

Prints:
    200,000 x 100 float32 probabilities
    the same bits as from Python: True
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fastsoftmax import softmax

logits = np.random.default_rng(0).normal(size=(200_000, 100)).astype(np.float32)

with tempfile.TemporaryDirectory() as folder:
    source, target = Path(folder) / "logits.npy", Path(folder) / "probabilities.npy"
    np.save(source, logits)
    command = ["score", source, "-o", target, "--temperature", "0.5", "--quiet"]
    subprocess.run([sys.executable, "-m", "fastsoftmax", *command], check=True)

    probabilities = np.load(target, mmap_mode="r")
    rows, classes = probabilities.shape
    print(f"{rows:,} x {classes} {probabilities.dtype} probabilities")
    first = softmax(logits[:1000], axis=-1, temperature=0.5)
    print("the same bits as from Python:", np.array_equal(first, probabilities[:1000]))
    del probabilities  # some systems remove no file that is mapped
