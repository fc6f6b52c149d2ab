"""The suite ``scoring``, continued: draws from a softmax, held to its law.

A sampler is asked for a million draws with a fixed seed. How often each class came is compared
with its exact probability: by the binomial law itself for two and three classes, by chi-squared
for more, classes that are expected less than five times taken together. A p-value below `P_VALUE`
fails: one seed in a million would for a right sampler, and as the seed is fixed, a run that holds
goes on to hold. What never may be drawn at all is looked for apart.

Source: K. Pearson, On the criterion that a given system of deviations from the probable in the case
of a correlated system of variables is such that it can be reasonably supposed to have arisen from
random sampling, Philosophical Magazine 50 (1900), doi:10.1080/14786440009463897.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np

from verification.calls import CallFailed, broken, of_shape
from verification.cases import INF, NAN, dtype_of
from verification.checks import Check, Task
from verification.definitions import Row
from verification.exact import Array
from verification.results import FAILED, HELD, SKIPPED, Finding, Result
from verification.scoring import SUITE, asked, inapplicable, placed
from verification.scoring_cases import Draw
from verification.shown import repeat_line
from verification.subjects import Subject

P_VALUE = 1e-6
DRAWS = 1_000_000
# Expected less often in a run than this, a class is not drawn by chance.
_NEVER = 1e-9
# Of the 2**24 float32 uniforms, 40 % of so many classes would get three, the others two: 4 % more
# pairs of draws are alike then than of classes that are equal, eleven standard deviations.
_EQUAL = 7_000_000


@dataclass(frozen=True)
class Found:
    """What a check of draws found, in words, and what is wrong with it."""

    elements: int
    note: str
    finding: Finding | None = None


@dataclass(frozen=True)
class Context:
    """Whom a check asks, and with what."""

    subject: Subject
    draw: Draw
    seed: int

    def __call__(
        self, x: Array, size: int | None, *, axis: int = -1, rng: Any = None, **options: Any
    ) -> Array:
        """The draws of rows, by rows: classes that exist."""
        seed = self.seed if rng is None else rng
        answer = asked(self.subject, "sample", (x, size), {**options, "rng": seed}, axis)
        shape = x.shape[:1] if size is None else (len(x), size)
        result = of_shape(answer, placed(np.empty(shape), axis).shape)
        if result.dtype.kind not in "iu":
            raise broken(f"returns indices of type {result.dtype.name}")
        rows = np.moveaxis(result, axis, -1) if size is not None else result
        outside = rows[(rows < 0) | (rows >= x.shape[1])]
        if outside.size:
            raise CallFailed(Finding("wrong", f"draws class {outside[0]} of {x.shape[1]} classes"))
        return rows.astype(np.int64)


Measure = Callable[[Context], Found]


@dataclass(frozen=True)
class DrawCheck:
    """A check of draws, and the options that a subject must have for it."""

    name: str
    reason: str
    measure: Measure
    options: Mapping[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ()  # all by default
    refused: bool = False


# --- laws ------------------------------------------------------------------------------------


def tail(least: int, count: int, p: float, other: float) -> float:
    """The probability of at least so many of ``count`` draws of a class: ``other`` is 1 - p."""
    if least <= 0:
        return 1.0
    if least < count * p:
        return 1.0 - tail(count - least + 1, count, other, p)
    if least > count or p == 0:
        return 0.0
    log = math.lgamma(count + 1) - math.lgamma(least + 1) - math.lgamma(count - least + 1)
    log += least * math.log(p) + (count - least) * math.log(other) if other else 0.0
    # each term by the one before; they fall faster than those of a geometric series
    k = np.arange(least, min(count, least + 100_000))
    ratios = (count - k) / (k + 1) * (p / other) if other else np.zeros(0)
    return min(1.0, math.exp(log) * (1 + float(np.cumprod(ratios).sum())))


def binomial(drawn: int, count: int, p: float, other: float) -> float:
    """The two-sided p-value of a class that was drawn so often."""
    least, most = tail(drawn, count, p, other), tail(count - drawn, count, other, p)
    return min(1.0, 2 * min(least, most))


def chi_squared(drawn: Array, expected: Array) -> float:
    """The p-value of counts; the rarest cells are taken together, until five are expected."""
    order = np.argsort(expected, kind="stable")
    drawn, expected = drawn[order].astype(np.float64), expected[order]
    enough = int(np.searchsorted(np.cumsum(expected), 5)) + 1
    together = max(enough, int(np.searchsorted(expected, 5)))
    if together > 1:
        starts = np.append(0, np.arange(together, len(expected)))
        drawn, expected = (np.add.reduceat(cells, starts) for cells in (drawn, expected))
    statistic = float(((drawn - expected) ** 2 / expected).sum())
    freedom = len(expected) - 1
    if not freedom:
        return 1.0
    half = mpmath.mpf(freedom) / 2
    return float(mpmath.gammainc(half, statistic / 2, mpmath.inf, regularized=True))


def law_of(row: Array, present: Array, temperature: float, top_k: Any, top_p: Any) -> Array:
    """The probabilities of a row's classes, of which the most probable ones alone may be kept.

    The k of ``top_k`` first, of equal ones those before; of these, as they are then, the fewest
    whose probabilities are at least ``top_p``.
    """
    exact = Row(row, temperature, present)
    p = np.array([float(v) for v in exact.p])
    order = sorted(range(len(p)), key=exact.x.__getitem__, reverse=True)
    order = order[:top_k]
    if top_p is not None:
        total = np.cumsum(p[order]) / p[order].sum()
        order = order[: int(np.argmax(total >= top_p)) + 1]
    kept = np.zeros(len(p), bool)
    kept[order] = True
    return np.asarray(np.where(kept, p, 0.0) / p[kept].sum())


def judged(drawn: Array, p: Array) -> Found:
    """Draws of one row, against its law."""
    count, n = drawn.size, len(p)
    counts = np.bincount(drawn, minlength=n)
    never = np.flatnonzero((counts > 0) & (p * count < _NEVER))
    if len(never):
        at = int(never[0])
        what = f"class {at} was drawn {counts[at]:,} times: its probability is {p[at]:.3g}"
        return Found(count, "", Finding("wrong", what))
    if n <= 3:
        others = [math.fsum(np.delete(p, i)) for i in range(n)]
        values = [binomial(int(counts[i]), count, p[i], others[i]) for i in range(n)]
        how = "the binomial law of each class"
    else:
        values = [chi_squared(counts, p * count)]
        how = "chi-squared"
    if n <= 10:
        # that a draw does not depend on the one before
        first, second = drawn[: count // 2 * 2].reshape(-1, 2).T
        pairs = np.bincount(first * n + second, minlength=n * n)
        values.append(chi_squared(pairs, np.outer(p, p).ravel() * (count // 2)))
        how += ", and chi-squared of pairs"
    return of_value(min(values), count, f"by {how}")


def of_value(value: float, count: int, how: str) -> Found:
    """What is found of a p-value."""
    note = f"the p-value is {value:.2g}, and must be at least {P_VALUE:g}; {count:,} draws, {how}"
    return Found(count, note, Finding("law", note) if not value >= P_VALUE else None)


def worst(found: Sequence[Found]) -> Found:
    """The first that is wrong, or the first of all, with all draws counted."""
    first = next((f for f in found if f.finding), found[0])
    return Found(sum(f.elements for f in found), first.note, first.finding)


def law(
    make: Callable[[Draw], Array], *, axis: int = -1, where: Array | None = None, **options: Any
) -> Measure:
    """A million draws, as many of each row, against the rows' laws."""

    def measure(context: Context) -> Found:
        x = make(context.draw)
        masked = {} if where is None else {"where": np.broadcast_to(where, x.shape).copy()}
        drawn = context(x, DRAWS // len(x), axis=axis, **masked, **options)
        present = np.broadcast_to(True if where is None else where, x.shape)
        temperature = options.get("temperature", 1.0)
        kept = options.get("top_k"), options.get("top_p")
        return worst(
            [
                judged(draws, law_of(row, there, temperature, *kept))
                for draws, row, there in zip(drawn, x, present, strict=True)
            ]
        )

    return measure


def one_a_row(context: Context) -> Found:
    """Rows that are all alike, with one draw of each."""
    row = context.draw.of([[0.5, -1, 1]])
    drawn = context(np.repeat(row, 50_000, axis=0), None)
    return judged(drawn, law_of(row[0], np.ones(3, bool), 1.0, None, None))


def equal_classes(context: Context) -> Found:
    """As many draws are alike as chance has it, of more classes than a coarse uniform can reach.

    Of N draws from C equal classes, each of the N (N - 1) / 2 pairs is alike with the probability
    1 / C, and no two pairs depend on each other: mean and variance are exact.
    """
    drawn = context(np.zeros((1, _EQUAL), context.draw.dtype), DRAWS)
    _, counts = np.unique(drawn, return_counts=True)
    alike = float((counts * (counts - 1) // 2).sum())
    mean = DRAWS * (DRAWS - 1) / 2 / _EQUAL
    away = (alike - mean) / math.sqrt(mean * (1 - 1 / _EQUAL))
    return of_value(math.erfc(abs(away) / math.sqrt(2)), DRAWS, "by the pairs that are alike")


# --- the same draws again --------------------------------------------------------------------


def _same(first: Array, second: Array, what: str) -> Found:
    off = int(np.sum(first != second))
    finding = Finding("property", f"{what}: {off:,} of {first.size:,} draws differ")
    return Found(first.size, what, finding if off else None)


def same_seed(context: Context) -> Found:
    """The same seed, the same draws; another one, others."""
    x = context.draw.normal(200, 50)
    first, second = context(x, 20), context(x, 20)
    if np.array_equal(first, context(x, 20, rng=context.seed + 1)):
        return Found(first.size, "", Finding("property", "another seed gives the same draws"))
    return _same(first, second, "The same seed gives the same draws")


def batch_splits(context: Context) -> Found:
    """One generator for the parts of a batch, one after the other, draws what one does for all."""
    x = context.draw.normal(200, 50)
    whole = context(x, 3, rng=np.random.default_rng(5))
    rng = np.random.default_rng(5)
    parts = [context(part, 3, rng=rng) for part in np.split(x, [1, 70, 150])]
    return _same(whole, np.concatenate(parts), "A batch in parts gives the draws of the whole")


def any_layout(context: Context) -> Found:
    """Rows and columns give the same draws."""
    x = context.draw.normal(60, 50)
    return _same(context(x, 4), context(x, 4, axis=0), "Rows and columns give the same draws")


def _refuses(rows: Any, **options: Any) -> Measure:
    def measure(context: Context) -> Found:
        drawn = context(context.draw.of(rows), 2, **options)
        what = f"answers where there is no answer: {drawn.ravel()[:4]}"
        return Found(drawn.size, "", Finding("wrong", what))

    return measure


# --- the checks ------------------------------------------------------------------------------


def _far(d: Draw) -> Array:
    return d.of([[0, 0], [0, -2.25], [-7, 0], [0, -11.5]])


def _draw_checks() -> Iterator[DrawCheck]:
    yield DrawCheck("law_of_2", "two classes", law(_far))
    three = [[0, 0, 0], [0, -1, -9], [-11, 0, -0.5], [1, 1, -3]]
    yield DrawCheck("law_of_3", "three classes", law(lambda d: d.of(three)))
    yield DrawCheck("law_of_10", "ten classes", law(lambda d: d.normal(1, 10, spread=1.5)))
    yield DrawCheck(
        "law_of_1000", "a row of several blocks", law(lambda d: d.normal(1, 1000, spread=2.0))
    )
    yield DrawCheck("one_a_row", "a draw a row, of rows that are alike", one_a_row)
    yield DrawCheck(
        "impossible",
        "classes of the probability 0, at both ends, too",
        law(lambda d: d.of([[-INF, 0, -INF, 1, -INF], [-INF, -INF, 3, -INF, -INF]])),
    )
    yield DrawCheck(
        "improbable", "classes of less than 1e-30", law(lambda d: d.of([[-80, 0, -75, 1, -90]]))
    )
    yield DrawCheck(
        "equal_classes", "uniforms of 24 bits are too coarse", equal_classes, dtypes=("float32",)
    )
    mask = np.array([False, True, True, False, True, False])
    six = [[5, 0, 1, 4, -1, 6]]
    for name, reason, options in (
        ("masked", "left out, though they are the largest", {"where": mask}),
        ("temperature_2", "nearer to even", {"temperature": 2.0}),
        ("top_3", "the three most probable", {"top_k": 3}),
        ("top_p", "the fewest that have 0.8 of all", {"top_p": 0.8}),
        ("top_4_p", "the fewest that have 0.9 of the four", {"top_k": 4, "top_p": 0.9}),
    ):
        measure = law(lambda d: d.of(six), **options)
        yield DrawCheck(name, reason, measure, options)
    ties = law(lambda d: d.of([[1, 2, 1, 2, 1]]), top_k=3)
    yield DrawCheck("top_3_of_ties", "of equal classes those before", ties, {"top_k": 3})
    yield DrawCheck("columns", "along the first axis", law(_far, axis=0))
    yield DrawCheck("same_seed", "reproducible", same_seed)
    yield DrawCheck("same_in_any_batch", "reproducible", batch_splits, {"rng": None})
    yield DrawCheck("same_along_any_axis", "reproducible", any_layout, {"rng": None})
    for name, rows, options in (
        ("nan", [[0, NAN, 1]], {}),
        ("nothing", [[-INF, -INF]], {}),
        ("top_0", [[0, 1]], {"top_k": 0}),
        ("top_p_0", [[0, 1]], {"top_p": 0.0}),
        ("top_p_2", [[0, 1]], {"top_p": 2.0}),
    ):
        reason = "of which no class can be drawn"
        yield DrawCheck(f"of_{name}", reason, _refuses(rows, **options), options, refused=True)


def draw_checks(dtypes: Sequence[str]) -> Iterator[Check]:
    """The checks of draws."""
    for item in _draw_checks():
        for dtype in dtypes:
            if dtype in (item.dtypes or dtypes):
                run = functools.partial(check_draws, item, dtype)
                yield Check(SUITE, f"sample_{item.name}", dtype, run, ("sample",))


def check_draws(item: DrawCheck, dtype: str, subject: Subject, task: Task) -> list[Result]:
    """One check of draws in one dtype."""
    if "sample" not in task.functions or "sample" not in subject.functions:
        return []
    name = f"sample_{item.name}"
    about: dict[str, Any] = {"suite": SUITE, "case": name, "function": "sample", "dtype": dtype}
    if why := inapplicable(subject, "sample", item.options):
        return [Result(**about, status=SKIPPED, note=why)]
    seed = zlib.crc32(f"{task.seed} {name}".encode())
    draw = Draw(dtype_of(dtype), np.random.default_rng(seed))
    try:
        found = item.measure(Context(subject, draw, seed))
    except CallFailed as failure:
        if item.refused and failure.finding.message.startswith("raises "):
            return [Result(**about, status=HELD, note=f"{failure.finding.message}, as it must")]
        found = Found(0, "", failure.finding)
    common: dict[str, Any] = {**about, "elements": found.elements, "note": found.note}
    if found.finding is None:
        return [Result(**common, status=HELD)]
    finding = Finding(
        kind=found.finding.kind,
        message=f"{found.finding.message} ({item.reason})",
        call=f"sample(<{dtype} array>, ..., rng={seed})",
        python=repeat_line(subject, about, task.seed),
    )
    return [Result(**common, status=FAILED, finding=finding)]
