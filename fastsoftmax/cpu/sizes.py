"""Sizes and limits that the plan and the kernels share, without a kernel being loaded."""

from __future__ import annotations

from typing import Any

from fastsoftmax.cpu import compiler

# Bytes of a vector of lanes, on every CPU.
VECTOR = 64

# The longest rows whose lanes lie across rows. In cache, on one thread, in ns for eight logits,
# across rows and along them: float32 softmax in rows of 57 6.0, 6.3; 65: 6.5, 6.1; 81: 7.0, 5.7;
# log_softmax 57: 6.9, 8.0; 65: 7.4, 7.7; 81: 7.9, 6.9; float64 softmax 57: 10.7, 10.6; 65: 10.8,
# 9.7. (`python -m pytest tests/benchmarks/test_thresholds.py --benchmark-enable`)
SHORT = 60
# Lengths that have a kernel of their own. 10 million logits on two threads, by that and by the one
# for short rows, in ms: rows of 2 6.2, 8.4; 3: 5.9, 7.0; 4: 6.1, 5.0; 5: 4.9, 5.1.
PACKED = (2, 3)

# Logits in a block: 16 KiB of float32, which stays in the first cache for its second reading.
BLOCK = 4096
# Logits that are counted at one go: as many as the integers of eight lanes can take.
CHUNK = 16384
# The longest panel of several vectors, 512 KiB; a longer one, up to a block, is a vector wide.
PANEL_LINES = 2048

# The most labels that kernels choose for a row.
MOST_CHOSEN = 16
# Temperatures that kernels take: the reciprocals of colder ones leave the range of float64, and the
# rests of hotter ones' are subnormal.
COLDEST = 2.0**-1000
HOTTEST = 2.0**900
# Colder ones make infinities of all float32 differences but those below 2**-121.
COLDEST_SINGLE = 2.0**-249

# Cuts of a row that threads share, at most: each begins with a look at what is noted of all.
MOST_CUTS = 64

# Digits of 32 bits that hold any sum of 2**60 numbers of float64.
DIGITS = 68


def vectors() -> int:
    """Vectors that kernels work on side by side, so that none waits for the one before it.

    AVX2 has half as many registers, of half the size.
    """
    return 4 if "+avx512f" in compiler.features() else 2


def cut_length(length: Any) -> Any:
    """Logits in each cut but the last: of the longest rows a 64th, but a block at least."""
    return (length + (MOST_CUTS * BLOCK - 1)) // (MOST_CUTS * BLOCK) * BLOCK


def cuts_of(length: int) -> int:
    """Into how many cuts a row falls."""
    return int(-(-length // cut_length(length)))
