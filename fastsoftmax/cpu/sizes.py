"""Sizes that the plan and the kernels share, without a kernel being loaded."""

from __future__ import annotations

from typing import Any

from fastsoftmax.cpu import compiler

# Bytes of a vector of lanes, on every CPU.
VECTOR = 64

# The longest rows whose lanes lie across rows, by the size of the type that is computed in.
SHORT = {4: 60, 8: 60}
# Lengths that have a kernel of their own.
PACKED = (2, 3, 4, 5)

# Logits in a block: 16 KiB of float32, which stays in the first cache for its second reading.
BLOCK = 4096
# Logits that are counted at one go: as many as the integers of eight lanes can take.
CHUNK = 16384
# The longest panel of several vectors, 512 KiB; a longer one, up to a block, is a vector wide.
PANEL_LINES = 2048

# Cuts of a row that threads share, at most: each begins with a look at what is noted of all.
MOST_CUTS = 64


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
