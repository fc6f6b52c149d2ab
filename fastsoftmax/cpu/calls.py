"""Calls of the kernels that are of no formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastsoftmax.cpu import plan
from fastsoftmax.cpu.sizes import BLOCK, DIGITS, SHORT, cuts_of

Array = np.ndarray[Any, Any]


def weighted(x: Array, out: Array, sign: Array, weight: Array) -> None:
    """log|sum(weight * exp(x))| of rows of x into out, and the sum's sign."""
    plan.run("weighted", (x, out, sign, weight), len(x))


def largest_products(x: Array, weight: Array | None) -> Array:
    """The size of each row's largest product with its weights; NaN where one is not finite."""
    out = np.empty(len(x))
    plan.run("largest_products", (x, weight, out), len(x))
    return out


def counted_products(x: Array, weight: Array | None, scale: Array) -> Array:
    """What products times a row's scale count; see sums.py."""
    out = np.empty((len(x), 2), np.int64)
    plan.run("counted_products", (x, weight, scale, out), len(x))
    return out


def sample(
    x: Array, out: Array, temperature: Array | None, mask: Array | None, uniforms: Array
) -> None:
    """The classes of rows of x that uniform numbers (rows, draws) draw, into out; -1 for none."""
    plan.run("sample", (x, out, temperature, mask, uniforms), len(x))


def class_counts(x: Array, out: Array, temperature: Array | None, mask: Array | None) -> None:
    """The integers that the classes of rows of x are drawn by, into out."""
    plan.run("class_counts", (x, out, temperature, mask), len(x))


def picked(uniforms: Array, sums: Array, out: Array) -> None:
    """As `sample`, of sums of what classes count, up to each."""
    plan.run("picked", (uniforms, sums, out), out.size)


def divergence(p: Array, q: Array, out: Array, temperature: Array, mask: Array | None) -> None:
    """The Kullback-Leibler divergence of q's rows from p's, both of logits, into out."""
    plan.run("divergence", (p, q, out, temperature, mask), len(p))


def product(name: str, a: Array, b: Array, out: Array, mask: Array | None) -> None:
    """A gradient of rows of a, and of b, into out; see products.py for the arguments."""
    arguments = a, b, out, mask
    if plan.shared(a):
        cuts = len(a) * cuts_of(a.shape[1])
        noted = np.empty(cuts), np.empty((5, cuts), np.int64)  # see product_cuts.py
        for kind in ("maxima", "counts", "cuts"):
            plan.run(f"{name}_{kind}", (*arguments, *noted), cuts)
        return
    kind = "rows" if a.ndim == 2 and a.shape[1] > SHORT else plan.kind_of_rows(a)
    plan.run(f"{name}_{kind}", arguments, plan.items_of(a), panels=2)


def in_lines(
    name: str, x: Array, out: Array, mask: Array | None, others: tuple[Array, ...], lines: int,
    exact: bool,
) -> None:  # fmt: skip
    """What a kernel makes of rows of x into out that has so many lines of float64 for a row.

    ``exact``: it adds up exactly; see lines.py and exactly.py.
    """
    several = plan.threads_for(x.size, len(x))
    digits = (np.empty((several, DIGITS), np.int64),) if exact else ()
    memory = np.empty((several, lines, x.shape[1] + 4))
    plan.run(name, (x, out, mask, *others, *digits, memory), len(x), most=several)


def elementwise(
    name: str, x: Array, out: Array, temperature: Array | None, mask: Array | None
) -> None:
    """What a function of single logits makes of one contiguous row of them."""
    plan.run(name, (x, out, temperature, mask), -(-x.shape[1] // BLOCK))
