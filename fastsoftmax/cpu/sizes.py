"""Sizes that the plan and the kernels share, without a kernel being loaded."""

from __future__ import annotations

# Vectors of 64 bytes that kernels work on side by side, so that none waits for the one before it.
VECTORS = 4
# Bytes of them: as many rows or columns of a panel.
PANEL_BYTES = 64 * VECTORS

# The longest rows whose lanes lie across rows, by the size of the type that is computed in.
SHORT = {4: 56, 8: 56}
# Lines of their panel.
SHORT_LINES = 64
# Lengths that have a kernel of their own.
PACKED = (2, 3, 4, 5)

# Logits in a block: 16 KiB of float32, which stays in the first cache for its second reading.
BLOCK = 4096
# The longest panel of that width, 512 KiB; a longer one, up to a block, is a vector wide.
PANEL_LINES = 2048

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
