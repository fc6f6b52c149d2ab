"""Sizes that the plan and the kernels share, without a kernel being loaded."""

from __future__ import annotations

# Elements of a vector, on every CPU.
WIDTH = 8

# The longest rows that are taken eight at a time, side by side (short.py). 10 million float32 on
# 2 threads, in ms, by short.py and by rows.py: rows of 9 4.8, 11.7; 16: 3.8, 6.5; 33: 4.1, 5.2;
# 50: 4.1, 4.3; 56: 4.0, 3.8. Of those that fit the caches, 2 million on one thread, in ns for
# eight: 50: 6.2, 7.4; 56: 5.9, 6.6; 64: 6.1, 5.8.
# (`python -m pytest tests/benchmarks/test_thresholds.py --benchmark-enable`)
SHORT = 56
# The same of float64: 400,000 on one thread in rows of 36 18, 23; 48: 17, 18. Of 2 million, 36: 24,
# 23; 48: 26, 18.
SHORT_DOUBLE = 40
# Lengths that have a kernel of their own.
PACKED = (2, 3, 4)

# Logits in a block: 16 KiB of float32, which stays in the first cache for its second reading.
BLOCK = 4096
# Columns in the widest panel: four cache lines of float32 at each step, and more where columns
# are swept as they lie: steps that are a power of two apart share few places in the caches, so
# they are made longer. 50257 x 512 along axis 0: 38 ms by 64, 29 ms by 256.
PANEL = 64
WIDEST = 256
# Elements of a panel in scratch memory: 512 KiB of float64, half of a second cache.
_SCRATCH = 16 * BLOCK
# Lines of scratch memory for the sums of eight rows: ones, high and low of each class; and for
# those of all groups of eight columns of the widest panel.
SUMS = 3 * WIDTH
SUMS_OF_PANEL = SUMS * (WIDEST // WIDTH)
# Elements of a panel that is swept: one is done at a go, without a look at Ctrl-C.
_SWEEP = 1 << 25


def panel_width(length: int) -> int:
    """Columns in a panel: as many as fit, and 16 at least, a cache line of float32."""
    width, most = (PANEL, _SCRATCH) if length <= BLOCK else (WIDEST, _SWEEP)
    while width > 16 and width * length > most:
        width //= 2
    return width


def scratch_lines(length: int) -> int:
    """Lines of scratch memory that a thread wants for columns of this length."""
    if length <= BLOCK:
        return length * panel_width(length) // WIDTH
    return SUMS_OF_PANEL


# Cuts of a row that is longer than a block, at most: each begins with a look at what is noted of
# all of them.
MOST_CUTS = 64


def cut_length(length: int) -> int:
    """Logits in each cut but the last: a block, or more of them in rows beyond 262144."""
    cut = BLOCK
    while cut * MOST_CUTS < length:
        cut *= 2
    return cut


def cuts_of(length: int) -> int:
    """Into how many cuts a row falls."""
    return -(-length // cut_length(length))
