"""How a kernel's threads are laid out, and on what: chosen by the plan, written for by kernels."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """How a kernel's threads are laid out."""

    name: str
    threads: int  # of a block
    size: int = 1  # of these, for each row
    pieces: int = 0  # that a thread holds
    items: int = 1  # rows side by side of a thread, where rows are columns
    clusters: int = 1  # blocks that share a row
    exact: bool = True  # whether rows begin and end where vectors do


class Hardware(NamedTuple):
    """What of a device decides about kernels."""

    multiprocessors: int
    capability: tuple[int, int]
