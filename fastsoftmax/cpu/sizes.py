"""Sizes that the plan and the kernels share, without a kernel being loaded."""

from __future__ import annotations

# Elements of a vector, on every CPU.
WIDTH = 8

# The longest rows that are taken eight at a time, side by side (short.py). 10 million float32 in
# rows of 33, on 2 threads: 4.3 ms, and 5.7 by rows.py; of 50: 4.4 and 4.5; of 64: 4.9 and 3.6.
SHORT = 48
# Lengths that have a kernel of their own.
PACKED = (2, 3, 4)

# Logits in a block: 16 KiB of float32, which stays in the first cache for its second reading.
BLOCK = 4096
# Logits in a cut of a longer row: 1 MiB of float32, which the second cache holds for its second
# reading.
CUT = 64 * BLOCK

# Columns in the widest panel: four cache lines of float32 at each step.
WIDEST = 64
# Elements of a panel in scratch memory: 512 KiB of float64, half of a second cache.
_PANEL = 16 * BLOCK


def panel_width(length: int) -> int:
    """Columns in a panel: as many as fit, and 16 at least, a cache line of float32."""
    width = WIDEST
    while width > 16 and width * length > _PANEL and length <= BLOCK:
        width //= 2
    return width
