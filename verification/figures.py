"""The report's figures, as SVG that takes its ink from the page: light or dark."""

from __future__ import annotations

import functools
import io
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verification import alternatives as definitions
from verification import references
from verification.exact import Array
from verification.names import FUNCTIONS
from verification.report import ulps
from verification.results import FAILED, Report, Result

PROMISE = 2.0  # ULP
PLACES = ("spread", "offset", "length")
_ORDER = ("float32", "float64", "float16", "bfloat16")

# Drawn in these and then replaced, so that text, axes and grid follow the page's colours.
_INK, _GRID = "#010203", "#040506"
# At least 3.7:1 against white and against the dark page; markers and dashes tell apart too.
_COLOURS = ("#2f7fd0", "#d2631c", "#25935f", "#a565d6", "#d8466a", "#17909e", "#a37a2c")
_MARKERS = ("o", "s", "^", "D", "v")
_DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "softmax",  # the same figure has the same bytes
    "text.parse_math": False,  # a subject's name may have a dollar in it
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GRID,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.columnspacing": 1.2,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("xtick.minor.size", "ytick.minor.size"), 0),
}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Drawing:
    """A figure, and what is seen in it."""

    svg: str
    caption: str
    dtype: str = ""


# --- the function itself ---------------------------------------------------------------------


@style.context(["default", _STYLE])
def curves() -> list[Drawing]:
    """The pictures of softmax that people ask about, drawn from the high-precision truth."""
    x = np.linspace(-3, 3, 61)
    pair = _softmax(np.stack([x, -x], axis=-1))
    logits = np.linspace(-3, 3, 100)
    many = _softmax(logits[None])[0]
    temperature = np.geomspace(0.1, 10, 61)  # 1 is in the middle
    family = _softmax(np.tile([3.0, 1.0, 0.2], (61, 1)), temperature[:, None])
    return [
        _curve(
            *("softmax([x, -x])", "x", x, {"first": pair[:, 0], "second": pair[:, 1]}),
            "Both outputs of softmax([x, -x]): one half each where x is 0, and 1 together "
            "everywhere. The first is the sigmoid of 2x.",
        ),
        _curve(
            *("softmax of 100 points from -3 to 3", "logit", logits, {"": many}),
            "softmax of 100 points from -3 to 3: an exponential, scaled to the sum 1. The largest "
            f"output, {many[-1]:.3f}, is exp(6) = {many[-1] / many[0]:.0f} times the smallest.",
        ),
        _curve(
            *("softmax([3, 1, 0.2] / temperature)", "temperature", temperature),
            dict(zip(("of 3", "of 1", "of 0.2"), family.T, strict=True)),
            "softmax([3, 1, 0.2]) by temperature: at 1 it is "
            + ", ".join(f"{p:.3f}" for p in family[30])
            + ". A low temperature gives all to the largest logit, a high one the same to each.",
        ),
    ]


@functools.cache
@style.context(["default", _STYLE])
def alternatives() -> tuple[Drawing, ...]:
    """softmax and its alternatives side by side, drawn from their definitions."""
    factors, x = np.geomspace(1, 10, 31), np.linspace(-3, 3, 61)
    second = {
        name: _exactly(name, [[c, 2 * c] for c in factors])[:, 1] for name in definitions.COMPARED
    }
    first = {
        name: _exactly(name, [[v, 0.0] for v in x])[:, 0]
        for name in ("softmax", "taylor_softmax", "entmax15", "sparsemax")
    }
    return (
        _curve(
            *("from [1, 2] to [10, 20]", "c", factors, second),
            "The larger result of c [1, 2], from the blurry [1, 2] to the crisp [10, 20]: the "
            f"same to who divides by the sum, and not to softmax, from {second['softmax'][0]:.3f} "
            f"to {second['softmax'][-1]:.5f}.",
        ),
        _curve(
            *("the first of [x, 0]", "x", x, first),
            "The first result of [x, 0]: never 0 or 1 of softmax, both of sparsemax and entmax15, "
            "and growing on either side of taylor_softmax. (Divided by the sum, or squared, it is "
            "1 for every x but 0.)",
        ),
    )


def _exactly(name: str, rows: Sequence[Sequence[float]]) -> Array:
    """What one of them is for some rows, rounded to float64."""
    function = definitions.COMPARED[name]
    return np.array([[float(p) for p in definitions.exactly(function, row)] for row in rows])


def _softmax(rows: Array, temperature: Any = 1.0) -> Array:
    """The truth, rounded to float64."""
    exact = references.truth(rows, temperature).of("softmax")
    return np.asarray(np.ldexp(exact.high, np.maximum(exact.exponent, -1100).astype(np.int32)))


def _curve(title: str, across: str, x: Array, lines: dict[str, Array], caption: str) -> Drawing:
    """Probabilities against what is changed."""
    figure, axes = _empty(title, across, "probability")
    for number, values in enumerate(lines.values()):
        axes.plot(x, values, **_series(number), markevery=10)
    axes.set_ylim(bottom=0)
    if across == "c":
        axes.set_xscale("log")
        axes.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    if across == "temperature":
        axes.set_xscale("log")
        axes.set_xticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
    return Drawing(_svg(figure, across, caption, [n for n in lines if n]), caption)


# --- errors ----------------------------------------------------------------------------------


@style.context(["default", _STYLE])
def histograms(report: Report) -> list[Drawing]:
    """The shares of results by their error in ULP: a figure for each type and function."""
    drawn = []
    for dtype, function in itertools.product(_ORDER, FUNCTIONS):
        counts: dict[int, Counter[float]] = {}
        for number, result in _of(report, function, dtype):
            # The exhaustive suite counts distances from the rounded result instead.
            if result.histogram and result.suite != "exhaustive":
                found = {float(edge): count for edge, count in result.histogram.items()}
                counts.setdefault(number, Counter()).update(found)
        if counts:
            figure = _histogram(f"{function}, {dtype}", counts)
            words = {
                number: _share(sum(n for edge, n in c.items() if edge <= PROMISE), c.total())
                for number, c in counts.items()
            }
            start = f"Results of {function} in {dtype} by their error. Below {PROMISE:g} ULP"
            drawn.append(_described(figure, report, words, start, ("errors", function, dtype)))
    return drawn


def _histogram(title: str, counts: dict[int, Counter[float]]) -> Figure:
    """The shares of results by the upper edge of their bin, by subject."""
    figure, axes = _empty(title, "error in ULP, up to", "share of results")
    edges = sorted({0.5, 1.0, 1.5, PROMISE}.union(*counts.values()))
    smallest = 1.0
    for number, found in counts.items():
        shares = [found[edge] / found.total() or math.nan for edge in edges]
        smallest = min(smallest, float(np.nanmin(shares)))
        axes.plot(range(len(edges)), shares, **_series(number))
    _promise(axes.axvline, edges.index(PROMISE) + 0.5)
    # Where there is no room for all labels: one half, 1 and 2, and every second from the end.
    last = len(edges) - 1
    labelled = [
        i
        for i, edge in enumerate(edges)
        if last < 11 or edge in (0.5, 1, 2) or (edge > 2 and (last - i) % 2 == 0)
    ]
    axes.set_xticks(labelled, [_edge(edges[i]) for i in labelled])
    lowest = min(-1, math.floor(math.log10(smallest)))
    ticks = [10.0**power for power in range(0, lowest - 1, -max(1, -lowest // 4))]
    axes.set_yscale("log")
    axes.set_yticks(ticks, [f"{100 * t:.9f}".rstrip("0").rstrip(".") + "%" for t in ticks])
    axes.set_ylim(10.0**lowest, 1.6)
    return figure


@style.context(["default", _STYLE])
def sweeps(report: Report) -> list[Drawing]:
    """The worst error against spread, offset and length, in float32 and float64."""
    drawn = []
    for dtype, place, function in itertools.product(_ORDER[:2], PLACES, FUNCTIONS):
        errors: dict[int, dict[float, float]] = {}
        for number, result in _of(report, function, dtype):
            value = result.place.get(place, 0.0)
            # A call that failed has no number, and that is as bad as an infinite error.
            failed = math.inf if result.status == FAILED else None
            ulp = result.ulp if result.ulp is not None else failed
            if value > 0 and ulp is not None:
                known = errors.setdefault(number, {})
                known[value] = max(known.get(value, 0.0), ulp)
        if errors:
            figure = _sweep(f"{function}, {dtype}", place, errors)
            words = {number: _worst(known) for number, known in errors.items()}
            start = f"{function} in {dtype} by {place}. The worst"
            drawn.append(_described(figure, report, words, start, (place, function, dtype)))
    return drawn


def _sweep(title: str, place: str, errors: dict[int, dict[float, float]]) -> Figure:
    """Errors against their place, by subject; infinite ones on a line of their own."""
    figure, axes = _empty(title, place, "worst error in ULP")
    everything = [ulp for known in errors.values() for ulp in known.values()]
    finite = [ulp for ulp in everything if math.isfinite(ulp)]
    top = math.ceil(math.log10(max([10.0, *finite])))
    heights = {10.0**power: _decade(power) for power in range(-1, top + 1, 1 + top // 6)}
    infinite = 10.0 ** (top + max(1.0, top / 8))
    if len(finite) < len(everything):
        heights[infinite] = "infinite"
    for number, known in errors.items():
        values = sorted(known)
        axes.plot(values, [min(max(known[v], 0.1), infinite) for v in values], **_series(number))
    _promise(axes.axhline, PROMISE)
    values = sorted(set().union(*errors.values()))
    ticks = values[:: math.ceil(len(values) / 6)]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [_power_of_two(value) for value in ticks])
    axes.set_yscale("log")
    axes.set_yticks(list(heights), list(heights.values()))
    axes.set_ylim(0.1, max(10.0**top, *heights) * 2)
    return figure


def _of(report: Report, function: str, dtype: str) -> Iterator[tuple[int, Result]]:
    """The results of a function in a type, each with the number of its subject."""
    for number, subject in enumerate(report.subjects):
        for result in subject.results:
            if (result.function, result.dtype) == (function, dtype):
                yield number, result


def _described(
    figure: Figure, report: Report, words: dict[int, str], start: str, name: Sequence[str]
) -> Drawing:
    """A figure of subjects with its legend, and a caption that says something of each."""
    names = [report.subjects[number].name for number in words]
    said = "; ".join(f"{n} {word}" for n, word in zip(names, words.values(), strict=True))
    caption = f"{start}: {said}."
    svg = _svg(figure, "-".join(name), caption, [*names, f"{PROMISE:g} ULP"])
    return Drawing(svg, caption, dtype=name[-1])


# --- words -----------------------------------------------------------------------------------


def _decade(power: int) -> str:
    """A power of ten: 0.1, 1, 10, 100, and from 10³ with its exponent."""
    return f"{10.0**power:g}" if power < 3 else "10" + str(power).translate(_SUPERSCRIPTS)


def _power_of_two(value: float) -> str:
    """A number as a power of two where it is one."""
    power = round(math.log2(value))
    # An edge was written with six digits.
    if math.isclose(value, 2.0**power, rel_tol=1e-4):
        return "2" + str(power).translate(_SUPERSCRIPTS)
    return f"{value:g}"


def _edge(edge: float) -> str:
    """The upper edge of a bin, as short as it gets: seventeen stand side by side."""
    if math.isinf(edge):
        return "∞"
    halves = {0.5: "½", 1.5: "1½"}
    return halves.get(edge, f"{edge:g}" if edge < 100 else _power_of_two(edge))


def _share(count: int, total: int) -> str:
    """A share in words: never all or none where it is almost that."""
    if count in (0, total):
        return "all" if count else "none"
    return f"{min(max(100 * count / total, 0.01), 99.99):.2f}%"


def _worst(errors: dict[float, float]) -> str:
    """The worst error, and where it is."""
    value = max(errors, key=errors.__getitem__)
    unit = " ULP" if math.isfinite(errors[value]) else ""
    return f"{ulps(errors[value])}{unit} at {_power_of_two(value)}"


# --- drawing ---------------------------------------------------------------------------------


def _series(number: int) -> dict[str, Any]:
    """How one subject's line looks, in every figure."""
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _DASHES[number % len(_DASHES)],
    }


def _promise(line: Any, position: float) -> None:
    """The line at 2 ULP."""
    line(position, color=_INK, linestyle=":", linewidth=1.3)


def _empty(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """A figure to draw into, small enough that its text is legible on a phone."""
    figure = Figure(figsize=(4.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _svg(figure: Figure, name: str, label: str, lines: Sequence[str]) -> str:
    """A figure as an element of a page, with the names of its first lines below it."""
    if lines:
        # The end of module:function tells more than its start, and a leading _ means no name.
        names = [" " + (n if len(n) < 45 else "…" + n[-43:]) for n in lines]
        columns = max(1, 300 // (44 + 6 * max(map(len, names))))  # points
        figure.set_figheight(2.8 + 0.2 * math.ceil(len(names) / columns))
        drawn = figure.axes[0].get_lines()[: len(names)]
        figure.legend(drawn, names, loc="outside lower left", ncols=columns)
    figure.axes[0].minorticks_off()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    # Its style sheet would be the whole page's; the page has those two rules for figures.
    svg = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->",
        "",
        buffer.getvalue(),
        flags=re.DOTALL,
    )
    svg = re.sub(r"\s+", " ", svg)
    used = set(re.findall(r'<[^>]*(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r"<[^>]*>", lambda tag: _tag(tag[0], name, used), svg)
    _, size, drawing = re.split(r'<svg [^>]*(viewBox="[^"]*")[^>]*>', svg)
    return f'<svg {size} role="img" aria-label="{escape(label)}">{drawing}'


def _tag(text: str, name: str, used: set[str]) -> str:
    """A tag with the page's colours and font, hundredths of a point, and ids of its own."""
    # Ids are the whole page's: those that something refers to get the figure's name.
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text).replace("xlink:", "")
    text = re.sub(r"(\.\d\d)\d+", r"\1", text)
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)
    return text.replace(_INK, "currentColor").replace(_GRID, "var(--line)")
