"""Softmax of contiguous rows in Triton, as one tunes it by hand: what the CUDA target runs against.

Also reading alone, at full speed. Only `cuda_calls.py` imports this, where Triton is installed.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from triton.runtime.errors import OutOfResources as TooLarge

__all__ = ["Config", "TooLarge", "configs", "read"]


@triton.jit
def _tiles(x, out, rows, LENGTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Whole rows in a program's registers, several where they are short: read once."""
    row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (row < rows) & (column < LENGTH)
    at = row * LENGTH + column
    values = tl.load(x + at, mask=inside, other=-float("inf")).to(tl.float32)
    terms = tl.exp(values - tl.max(values, 1)[:, None])
    results = terms / tl.sum(terms, 1)[:, None]
    tl.store(out + at, results.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _blocks(x, out, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    """A row in blocks: one sweep for maximum and sum together, one for the results."""
    start = tl.program_id(0).to(tl.int64) * LENGTH
    column = tl.arange(0, BLOCK)
    top = tl.full([], -float("inf"), tl.float32)
    total = tl.full([], 0.0, tl.float32)
    for first in range(0, LENGTH, BLOCK):
        inside = first + column < LENGTH
        values = tl.load(x + start + first + column, mask=inside, other=-float("inf"))
        values = values.to(tl.float32)
        larger = tl.maximum(top, tl.max(values, 0))
        total = total * tl.exp(top - larger) + tl.sum(tl.exp(values - larger), 0)
        top = larger
    scale = 1.0 / total
    for first in range(0, LENGTH, BLOCK):
        inside = first + column < LENGTH
        values = tl.load(x + start + first + column, mask=inside, other=-float("inf"))
        results = tl.exp(values.to(tl.float32) - top) * scale
        tl.store(out + start + first + column, results.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _largest(words, found, BLOCK: tl.constexpr, BLOCKS: tl.constexpr):
    """The largest of a program's integers: reading, and next to nothing else."""
    at = tl.program_id(0).to(tl.int64) * (BLOCK * BLOCKS) + tl.arange(0, BLOCK)
    largest = tl.load(words + at)
    for block in tl.static_range(1, BLOCKS):
        largest = tl.maximum(largest, tl.load(words + at + block * BLOCK))
    tl.store(found + tl.program_id(0), tl.max(largest, 0))


@dataclass(frozen=True)
class Config:
    """One way to run: so many whole rows a program, or a row in blocks of so many logits."""

    warps: int
    rows: int = 0
    block: int = 0

    def run(self, x, out):
        """Softmax of a contiguous matrix's rows, float32 or narrower."""
        rows, length = x.shape
        if self.block:
            _blocks[rows,](x, out, length, self.block, num_warps=self.warps)
        else:
            columns = triton.next_power_of_2(length)
            programs = triton.cdiv(rows, self.rows)
            _tiles[programs,](x, out, rows, length, self.rows, columns, num_warps=self.warps)


# (logits of a block, warps) for long rows.
_LONG = ((4096, 8), (8192, 16), (16384, 32), (32768, 32))


def configs(rows, length):
    """What is tried for a shape: nothing where there are too few rows for a program each."""
    if rows < 64:
        return []
    columns = triton.next_power_of_2(length)
    found = []
    if columns <= 65536:
        for logits in (1024, 4096, 8192):
            together = max(1, logits // columns)
            for each in (8, 32):  # logits of a thread
                warps = max(1, min(32, together * columns // (32 * each)))
                found.append(Config(warps, rows=together))
    if columns >= 16384:
        found += [Config(warps, block=block) for block, warps in _LONG]
    return list(dict.fromkeys(found))


def read(words):
    """Read a vector of int32, to a multiple of 256 KiB, and do nothing more."""
    block, blocks = 8192, 8
    programs = words.numel() // (block * blocks)
    found = torch.empty(programs, dtype=torch.int32, device=words.device)
    _largest[programs,](words, found, block, blocks, num_warps=8)
