"""The suites of inputs: extremes, edges, random and hard. Each case says why it is there.

A case is made for a dtype and a seed, always the same for the same two. Its values are small
where that is enough; a case of ten million logits is made when it is run.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verification.errors import FORMATS
from verification.exact import Array
from verification.names import DTYPES, FUNCTIONS, MAPPED

Axis = int | tuple[int, ...] | None
Random = np.random.Generator
Values = Callable[[np.dtype[Any], Random], Array]

INF, NAN = math.inf, math.nan


@dataclass(frozen=True, eq=False)
class Case:
    """One input of a suite, for each dtype and function that it names."""

    suite: str
    name: str
    reason: str
    make: Values
    axis: Axis = -1
    functions: tuple[str, ...] = FUNCTIONS
    dtypes: tuple[str, ...] = DTYPES
    source: str = ""  # where the case broke a library before
    temperature: Callable[[Array], Array | float] | None = None
    where: Callable[[Array], Array] | None = None
    out: str = ""  # "fresh", "in place" or "overlapping"
    layout: bool = False  # about how the array lies in memory
    integers: bool = False  # the result is float64
    may_raise: bool = False  # a ValueError is as right as a result
    place: dict[str, float] = field(default_factory=dict)  # where it stands in a figure

    def values(self, dtype: str, seed: int) -> Array:
        """The array, the same for the same dtype and seed."""
        return self.make(dtype_of(dtype), self.random(dtype, seed))

    def random(self, dtype: str, seed: int) -> Random:
        """The case's own random numbers."""
        return np.random.default_rng([seed, zlib.crc32(f"{self.suite} {self.name}".encode())])


def dtype_of(name: str) -> np.dtype[Any]:
    """The NumPy dtype; bfloat16 is ml_dtypes'."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)  # type: ignore[no-any-return]
    return np.dtype(name)


def largest(dtype: np.dtype[Any]) -> float:
    """The largest finite number of a type."""
    kind = FORMATS[dtype.name]
    return math.ldexp(2 - 2.0 ** (1 - kind.precision), kind.largest)


def tiniest(dtype: np.dtype[Any]) -> float:
    """The smallest subnormal number of a type."""
    kind = FORMATS[dtype.name]
    return math.ldexp(1, kind.smallest - kind.precision + 1)


def steps(x: Array, count: int) -> Array:
    """The numbers ``count`` places further from zero."""
    bits = x.view(np.dtype(f"i{x.itemsize}"))
    return np.asarray((bits + bits.dtype.type(count)).view(x.dtype))


def fixed(*values: Any) -> Values:
    """The same values in every type."""
    return lambda dtype, random: np.array(
        values[0] if len(values) == 1 else values, np.float64
    ).astype(dtype)


def all_cases(suite: str) -> Iterator[Case]:
    """The cases of one suite, in their order."""
    return {"extremes": extremes, "edges": edges, "random": random_draws, "hard": hard}[suite]()


# --- extremes --------------------------------------------------------------------------------


def _around(value: Callable[[np.dtype[Any]], float]) -> Values:
    """Rows of a number, its neighbours and their negatives, beside 0, 1 and one another."""

    def make(dtype: np.dtype[Any], random: Random) -> Array:
        middle = np.array([value(dtype)]).astype(dtype)
        near = np.concatenate([steps(middle, k) for k in (-1, 0, 1)])
        near = np.concatenate([near, -near]).astype(dtype)
        beside = [np.zeros_like(near), np.ones_like(near), near, -near, near[::-1]]
        return np.concatenate([np.stack([near, other], axis=-1) for other in beside])

    return make


def _offsets(offset: float) -> Values:
    def make(dtype: np.dtype[Any], random: Random) -> Array:
        top = np.array([offset]).astype(dtype)
        rows = np.stack([steps(top, -k) for k in (0, 1, 2, 3, 7, 20)], axis=-1)
        return np.concatenate([rows, -rows]).astype(dtype)

    return make


def _extremes_of(integers: str) -> Values:
    """Rows of an integer type's ends (not of neighbours: in float64 they are one number)."""
    low, high = int(np.iinfo(integers).min), int(np.iinfo(integers).max)
    rows = [[low, high], [high, high], [low, low], [0, high], [high, 100]]
    return lambda dtype, random: np.array(rows, integers)


def extremes() -> Iterator[Case]:
    """Overflow and underflow, and results next to 0 and 1."""

    def case(name: str, reason: str, make: Values, **more: Any) -> Case:
        return Case("extremes", name, reason, make, **more)

    def log_of(exponent: Callable[[str], float]) -> Callable[[np.dtype[Any]], float]:
        return lambda dtype: exponent(dtype.name) * math.log(2)

    edges_of_exp = {
        "log_of_largest": lambda name: FORMATS[name].largest + 1.0,
        "log_of_smallest_normal": lambda name: float(FORMATS[name].smallest),
        "log_of_smallest_subnormal": lambda name: (
            FORMATS[name].smallest - FORMATS[name].precision + 1.0
        ),
        "log_of_half_the_smallest": lambda name: float(
            FORMATS[name].smallest - FORMATS[name].precision
        ),
    }
    for name, exponent in edges_of_exp.items():
        yield case(
            name,
            "exp overflows, or turns subnormal, or 0, a step further",
            _around(log_of(exponent)),
        )
    yield case(
        "largest",
        "their difference overflows",
        _around(lambda d: largest(d) * (1 - 2.0 ** (2 - FORMATS[d.name].precision))),
    )
    yield case(
        "smallest_subnormal", "subnormal logits are not 0", _around(lambda d: 3 * tiniest(d))
    )
    yield case(
        "smallest_normal",
        "logits around the smallest normal",
        _around(lambda d: 2.0 ** FORMATS[d.name].smallest),
    )
    for power in (4, 5, 6, 8, 10, 15, 20, 30, 38, 100, 200, 300):
        fits = tuple(n for n in DTYPES if FORMATS[n].largest * math.log10(2) > power)
        yield case(
            f"offset_1e{power}",
            "neighbouring numbers far from 0: only the shift keeps their differences",
            _offsets(10.0**power),
            dtypes=fits,
        )
    for share in (1.0, 0.5, 0.25, 1e-3):

        def spread(dtype: np.dtype[Any], random: Random, share: float = share) -> Array:
            top = largest(dtype) * share
            return np.array([[-top, top], [top, top], [-top, -top], [0, top], [0, -top]]).astype(
                dtype
            )

        yield case(f"spread_{share:g}_of_the_largest", "x - max(x) may overflow to -inf", spread)

    def subnormal_results(dtype: np.dtype[Any], random: Random) -> Array:
        kind = FORMATS[dtype.name]
        low = (kind.smallest - kind.precision - 1) * math.log(2)
        high = (kind.smallest + 3) * math.log(2)
        below = np.linspace(low, high, 400)
        return np.stack([np.zeros(400), below], axis=-1).astype(dtype)

    yield case(
        "subnormal_results", "probabilities below the smallest normal number", subnormal_results
    )
    yield case(
        "rows_of_subnormal_results",
        "a whole vector of them, beside one that is near 1",
        lambda dtype, random: np.concatenate(
            [np.zeros((1, 1)), subnormal_results(dtype, random)[:, 1:].T.astype(float)], axis=1
        ).astype(dtype),
    )

    def near_one(dtype: np.dtype[Any], random: Random) -> Array:
        kind = FORMATS[dtype.name]
        distance = np.linspace(0, (kind.precision + 8) * math.log(2), 300)
        return np.stack([distance, np.zeros(300)], axis=-1).astype(dtype)

    yield case("near_one", "1 - p is lost next to 1, and log p must not be", near_one)
    yield case(
        "near_zero_logs",
        "log-probabilities down to the subnormal ones",
        lambda dtype, random: np.stack(
            [np.linspace(0, -math.log(tiniest(dtype)) + 1, 300), np.zeros(300)], axis=-1
        ).astype(dtype),
    )

    def nearly_sure(dtype: np.dtype[Any], random: Random) -> Array:
        lowest = -math.log(tiniest(dtype))
        distance = np.linspace(lowest / 2, lowest + 20, 300)[:, None]
        return np.concatenate([np.zeros((300, 1)), -np.repeat(distance, 40, axis=1)], 1).astype(
            dtype
        )

    yield case(
        "nearly_sure",
        "the entropy of probabilities that are subnormal, or 0: each times its logarithm is not",
        nearly_sure,
        functions=("entropy",),
    )
    yield case(
        "overflowing_sum",
        "a thousand terms that each fit, and a sum of exponentials that does not",
        lambda dtype, random: np.full((2, 1000), math.log(largest(dtype)) - 2).astype(dtype),
    )
    yield case(
        "far_below",
        "all logits so low that every exponential without a shift is 0",
        lambda dtype, random: (
            -0.9 * largest(dtype) ** 0.9 + np.arange(6) * largest(dtype) ** 0.9 / 100
        ).astype(dtype)[None],
    )
    for kind in ("int64", "uint64", "int8", "uint8"):
        yield case(
            f"{kind}_extremes",
            "differences of integers wrap around",
            _extremes_of(kind),
            integers=True,
            dtypes=("float64",),
        )
    yield case(
        "booleans",
        "True and False count as 1 and 0",
        lambda dtype, random: np.array([[True, False], [True, True]]),
        integers=True,
        dtypes=("float64",),
    )


# --- edges -----------------------------------------------------------------------------------

LENGTHS = (
    *range(1, 131),
    *(255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049),
    *(4095, 4096, 4097, 8191, 8192, 8193, 12289, 16385, 65537),
)


def _normal(*shape: int, spread: float = 3.0) -> Values:
    return lambda dtype, random: (random.standard_normal(shape) * spread).astype(dtype)


def _equal(count: int, value: float) -> Values:
    return lambda dtype, random: np.full((1, count), value, dtype)


def _laid_out(change: Callable[[Array], Array]) -> Values:
    return lambda dtype, random: change((random.standard_normal((13, 41)) * 3).astype(dtype))


def _misaligned(x: Array) -> Array:
    memory = np.zeros(x.nbytes + 1, np.uint8)
    result = memory[1:].view(x.dtype).reshape(x.shape)
    result[...] = x
    return result


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "fortran": ("rows are not contiguous", np.asfortranarray),
    "every_second_column": ("a stride within rows", lambda x: np.repeat(x, 2, axis=1)[:, ::2]),
    "every_third_row": ("a stride between rows", lambda x: np.repeat(x, 3, axis=0)[::3]),
    "reversed": ("negative strides", lambda x: x[::-1, ::-1].copy()[::-1, ::-1]),
    "part_of_wider_rows": (
        "rows that end before their memory does",
        lambda x: np.concatenate([x, x + x.dtype.type(1)], axis=1)[:, : x.shape[1]],
    ),
    "broadcast_rows": ("a stride of 0", lambda x: np.broadcast_to(x[0], x.shape)),
    "broadcast_columns": (
        "a stride of 0 within rows",
        lambda x: np.broadcast_to(x[:, :1], x.shape),
    ),
    "read_only": ("nothing may be written", _read_only),
    "byte_swapped": ("the other byte order", lambda x: x.astype(x.dtype.newbyteorder())),
    "misaligned": ("an odd address", _misaligned),
}


def edges() -> Iterator[Case]:
    """Ties, infinities, NaN, lengths, axes, layouts and results in place."""

    def case(name: str, reason: str, make: Values, **more: Any) -> Case:
        return Case("edges", name, reason, make, **more)

    for count in (2, 3, 7, 8, 9, 100, 1000, 65_536, 1_000_000, 10_000_000):
        yield case(
            f"ties_{count}",
            "equal logits share equally; a running sum must not drift",
            _equal(count, 1.5),
            dtypes=("float32",) if count > 10**6 else DTYPES,
        )
    yield case(
        "ties_beside_smaller", "half of a row ties", fixed([[2.0] * 20 + [1.0] * 20, [-1.0] * 40])
    )
    patterns = {
        "minus_infinity_alone": ([[-INF]], "-inf - -inf is NaN; logsumexp is -inf"),
        "minus_infinity_some": (
            [[-INF, 0, 1, -INF], [0, -INF, -INF, -INF], [1, 2, 3, -INF]],
            "exp(-inf) is 0",
        ),
        "minus_infinity_all": ([[-INF] * 5, [0, 1, 2, 3, 4], [-INF] * 5], "one row, not its batch"),
        "minus_infinity_long": ([[-INF] * 20 + [1.0] + [-INF] * 20], "a block without a maximum"),
        "infinity_once": ([[INF, 0, 1], [0, INF, -INF], [0, 1, 2]], "no number is right beside it"),
        "infinity_several": ([[INF, INF, 0], [INF, -INF, INF], [0, 1, 2]], "inf - inf is NaN"),
        "infinity_alone": ([[INF]], "inf - inf is NaN"),
        "nan_first": ([[NAN, 0, 1, 2], [0, 1, 2, 3]], "NaN spreads over its row, and no further"),
        "nan_last": ([[0, 1, 2, NAN], [0, 1, 2, 3]], "a maximum that ignores NaN loses it"),
        "nan_all": ([[NAN] * 3, [0, 1, 2]], "NaN spreads over its row, and no further"),
        "nan_beside_infinity": ([[NAN, INF, 0], [-INF, NAN, 0], [-INF, -INF, NAN]], "NaN wins"),
        "minus_zero": ([[-0.0, 0.0, 1.0], [-0.0, -0.0, -0.0]], "-0.0 and 0.0 are equal"),
        "one_element": ([[5.0], [-700.0], [0.0]], "a row of one: 1, 0, and itself"),
        "two_elements": ([[0.0, 1.0], [1.0, 0.0], [-3.0, -3.0]], "the smallest sum"),
    }
    for name, (values, reason) in patterns.items():
        yield case(name, reason, fixed(values))
    for position in ("first", "middle", "last"):

        def nan_in_long_row(
            dtype: np.dtype[Any], random: Random, position: str = position
        ) -> Array:
            x = random.standard_normal((3, 1003)).astype(dtype)
            x[1, {"first": 0, "middle": 500, "last": 1002}[position]] = NAN
            return x

        yield case(
            f"nan_{position}_in_a_long_row", "in a vector's lanes, and in its rest", nan_in_long_row
        )
    yield case("no_rows", "zero rows", fixed(np.zeros((0, 5))))
    for name, shape in {"no_columns": (5, 0), "nothing": (0,), "nothing_3d": (3, 0, 4)}.items():
        yield case(
            name,
            "rows of no elements: an empty result, -inf, or NaN",
            fixed(np.zeros(shape)),
            axis=1 if name == "nothing_3d" else -1,
            may_raise=True,
        )
    for length in LENGTHS:
        yield case(f"length_{length}", "around a vector's and a block's edge", _normal(2, length))
    for shape in ((17,), (5, 11), (3, 4, 6), (2, 3, 4, 5), (2, 3, 2, 4, 3)):
        for axis in range(-len(shape), len(shape)):
            yield case(f"axis_{axis}_of_{len(shape)}d", "every axis", _normal(*shape), axis=axis)
        yield case(f"axis_none_of_{len(shape)}d", "the whole array", _normal(*shape), axis=None)
    for axes in ((0, 1), (2, 0), (-1, 1), (0, 1, 2)):
        yield case(f"axes_{axes}_of_3d", "several axes at once", _normal(4, 5, 6), axis=axes)
    yield case("long_columns", "axis=0 of a C array", _normal(1100, 37), axis=0)
    yield case("wide_middle", "an axis in the middle", _normal(5, 70, 33), axis=1)
    for name, (reason, change) in LAYOUTS.items():
        for axis in (-1, 0):
            yield case(
                f"{name}_axis_{axis}",
                reason,
                _laid_out(change),
                axis=axis,
                layout=True,
            )
    for out in ("fresh", "in place", "overlapping"):
        for axis in (-1, 0):
            yield case(
                f"out_{out.replace(' ', '_')}_axis_{axis}",
                "the result is in out, and nothing beside it is touched",
                _normal(13, 41),
                axis=axis,
                out=out,
                functions=FUNCTIONS if out == "fresh" else MAPPED,
            )
    masks = {
        "some": lambda x: np.arange(x.size).reshape(x.shape) % 3 != 0,
        "largest_left_out": lambda x: x < np.max(np.abs(x), axis=-1, keepdims=True) * 0.5,
        "whole_row": lambda x: np.arange(len(x))[:, None] != 2,
        "one_row_for_all": lambda x: np.arange(x.shape[1]) % 2 == 0,
    }
    for name, mask in masks.items():
        yield case(f"mask_{name}", "what is left out counts as absent", _normal(9, 37), where=mask)
    for temperature in (0.25, 0.75, 3.0, 96.0):
        yield case(
            f"temperature_{temperature:g}",
            "the logits are divided by it",
            _normal(9, 37),
            temperature=lambda x, t=temperature: t,
        )
    yield case(
        "temperature_of_each_row",
        "one for each row",
        _normal(9, 37),
        temperature=lambda x: np.array([0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6.0])[:, None],
    )


# --- random ----------------------------------------------------------------------------------


def _heavy_tailed(dtype: np.dtype[Any], random: Random) -> Array:
    # a float16 of a Cauchy draw may be infinite
    limit = largest(dtype) / 4
    return np.clip(random.standard_t(1.5, (64, 500)) * 3, -limit, limit).astype(dtype)


def _dominant(dtype: np.dtype[Any], random: Random) -> Array:
    x = random.standard_normal((200, 50))
    x[np.arange(200), random.integers(0, 50, 200)] += random.uniform(5, 40, 200)
    return x.astype(dtype)


def _masked_vocabulary(absent: float) -> Values:
    def make(dtype: np.dtype[Any], random: Random) -> Array:
        x = random.standard_normal((8, 2000)) * 4
        value = max(absent, -largest(dtype)) if absent > -INF else -INF
        return np.where(random.random(x.shape) < 0.7, value, x).astype(dtype)

    return make


def _around_an_offset(offset: float) -> Values:
    return lambda dtype, random: (random.standard_normal((64, 200)) + offset).astype(dtype)


def _language_model(dtype: np.dtype[Any], random: Random) -> Array:
    x = random.standard_normal((4, 50_257)) * 2.5 - 5
    for row in x:
        row[random.integers(0, 50_257, 20)] += random.uniform(5, 18, 20)
    return x.astype(dtype)


def random_draws() -> Iterator[Case]:
    """Seeded draws; the sweeps of spread, offset and length make the report's figures."""

    def case(name: str, reason: str, make: Values, **more: Any) -> Case:
        return Case("random", name, reason, make, **more)

    for spread in (0.1, 1.0, 3.0, 10.0):
        yield case(f"gaussian_{spread:g}", "ordinary logits", _normal(100, 333, spread=spread))
    yield case("uniform", "from -30 to 30", lambda d, r: r.uniform(-30, 30, (100, 300)).astype(d))
    yield case("heavy_tailed", "Student's t with 1.5 degrees of freedom", _heavy_tailed)
    yield case("one_dominant_class", "a confident classifier", _dominant)
    yield case("masked_with_-1e9", "a large number for what is masked", _masked_vocabulary(-1e9))
    yield case("masked_with_-inf", "-inf for what is masked", _masked_vocabulary(-INF))
    yield case("language_model", "peaked rows of 50,257", _language_model)
    yield case("tiny_rows", "many rows of 3", _normal(5000, 3))
    yield case("columns", "axis=0 of a C array", _normal(257, 129), axis=0)
    yield case("batch_3d", "the middle axis", _normal(7, 61, 35), axis=1)
    yield case(
        "sorted",
        "ascending and descending rows",
        lambda d, r: np.concatenate(
            [np.sort(r.standard_normal((10, 500)) * 9), -np.sort(r.standard_normal((10, 500)) * 9)]
        ).astype(d),
    )
    yield case(
        "few_distinct_values",
        "quantised logits",
        lambda d, r: r.integers(-8, 9, (50, 300)).astype(d),
    )
    for power in range(-10, 11, 2):
        yield case(
            f"spread_2^{power}",
            "the worst error against the spread",
            _normal(64, 200, spread=2.0**power),
            place={"spread": 2.0**power},
        )
    for power in range(0, 15, 2):
        # Logits are drawn before they are shifted: what is added is lost from them, not from us.
        yield case(
            f"offset_2^{power}",
            "the worst error against the offset",
            _around_an_offset(2.0**power),
            place={"offset": 2.0**power},
        )
    for power in range(1, 18, 2):
        rows = max(1, 2**13 >> power)
        yield case(
            f"length_2^{power}",
            "the worst error against the length",
            _normal(rows, 2**power, spread=1.0),
            place={"length": 2.0**power},
        )


# --- hard ------------------------------------------------------------------------------------

_PAPER = "doi:10.1093/imanum/draa038"


def hard() -> Iterator[Case]:
    """Inputs that once broke a well-known library."""

    def case(name: str, reason: str, make: Values, source: str, **more: Any) -> Case:
        return Case("hard", name, reason, make, source=source, **more)

    wide = ("float32", "float64")
    yield case(
        "logsumexp_0_-40",
        "log(1 + 4e-18) came out as 0",
        fixed([[0.0, -40.0], [-40.0, 0.0]]),
        "https://github.com/scipy/scipy/issues/18295",
    )
    yield case(
        "logs_of_0.3_and_0.7",
        "shift and log(total) cancel: only their exact sum is near the truth",
        lambda dtype, random: np.log([[0.3, 0.7], [0.1, 0.9], [0.25, 0.75]]).astype(dtype),
        _PAPER,
        functions=("logsumexp",),
    )
    yield case(
        "log_softmax_20_0",
        "the log-probability of a sure class came out as 0",
        fixed([[20.0, 0.0], [17.0, 0.0], [40.0, 0.0], [90.0, 0.0]]),
        "https://github.com/scipy/scipy/issues/19521",
    )
    yield case(
        "entropy_0_0_-inf",
        "p log p of a probability of 0 is 0, and came out as NaN",
        fixed([[0.0, 0.0, -INF], [-INF, 3.0, -INF]]),
        "https://github.com/pytorch/pytorch/issues/40553",
        functions=("entropy",),
    )
    yield case(
        "entropy_65504_-65504",
        "the same of finite logits, where the log-probability overflows",
        lambda dtype, random: np.array([[largest(dtype), -largest(dtype)]]).astype(dtype),
        "https://github.com/huggingface/trl/issues/7221",
        functions=("entropy",),
    )
    yield case(
        "small_log_probabilities",
        "the same in PyTorch: they can be as small as the smallest subnormal number",
        lambda dtype, random: np.stack(
            [1 - np.log(2.0 ** -np.linspace(4, -FORMATS[dtype.name].smallest, 100)), np.zeros(100)],
            axis=-1,
        ).astype(dtype),
        "https://github.com/pytorch/pytorch/issues/113708",
    )
    yield case(
        "equal_and_large",
        "two logits of 1e8 gave a loss of 0 instead of log(2)",
        fixed([[1e8, 1e8], [1e4, 1e4], [-1e8, -1e8]]),
        "https://github.com/pytorch/pytorch/issues/11752",
        dtypes=("bfloat16", *wide),
    )
    yield case(
        "equal_and_huge",
        "from 1e4 to 1e20 the normalizer was rounded away",
        fixed([[10.0**k] * 2 for k in (0, 4, 8, 20, 36)]),
        "https://github.com/ml-explore/mlx/pull/4169",
        dtypes=("bfloat16", *wide),
    )
    yield case(
        "one_logit_88.72284",
        "a single logit whose exponential overflows gave -inf",
        fixed([[88.72284], [88.72283], [709.79], [11.1]]),
        "https://github.com/cornell-brg/hb-pytorch/issues/61",
    )
    yield case(
        "pairs_of_infinity",
        "every pair of 1, inf and -inf gave NaN",
        fixed([[a, b] for a in (1.0, INF, -INF) for b in (1.0, INF, -INF)]),
        "https://github.com/ekzhang/jax-js/issues/223",
    )
    yield case(
        "rows_of_minus_infinity",
        "logsumexp of a row of -inf gave NaN, in one row of a matrix",
        fixed([[-15, -10, -INF], [-INF] * 3, [-INF] * 3]),
        "https://github.com/JuliaStats/StatsFuns.jl/issues/100",
    )
    yield case(
        "infinity_beside_numbers",
        "what SciPy answers, and its users ask about",
        fixed([[1.0, 1.0, INF], [1.0, 1.0, 1e38]]),
        "https://github.com/scipy/scipy/issues/23225",
        dtypes=("bfloat16", *wide),
    )
    for count, source in (
        (4096, "https://github.com/huggingface/candle/issues/3727"),
        (100_000, "https://github.com/sonos/tract/pull/2586"),
    ):
        yield case(
            f"float16_ties_{count}",
            "a sum in float16 stalls at 2048, and one of 65,520 is infinite",
            _equal(count, 0.0),
            source,
            dtypes=("float16", "bfloat16"),
        )
    yield case(
        "bfloat16_ties_512",
        "a sum in bfloat16 stalls at 256",
        fixed([[1.0] * 512]),
        "https://github.com/pytorch/executorch/pull/20090",
        dtypes=("bfloat16",),
    )
    yield case(
        "unsigned_subtraction",
        "x - max(x) of unsigned integers wraps",
        lambda dtype, random: np.array([[1, 2, 250], [0, 255, 3], [7, 7, 7]], np.uint8),
        "https://github.com/cupy/cupy/pull/6823",
        integers=True,
        dtypes=("float64",),
    )
    yield case(
        "ten_million_tiny_terms",
        "each is below half an ULP of the sum, and together they are not",
        lambda dtype, random: np.concatenate(
            [np.zeros(1), np.full(10_000_000, -17.5)], dtype=np.float64
        ).astype(dtype)[None],
        _PAPER,
        dtypes=("float32",),
    )
    yield case(
        "million_tiny_terms",
        "the same in float64",
        lambda dtype, random: np.concatenate([np.zeros(1), np.full(1_000_000, -37.5)])[None],
        _PAPER,
        dtypes=("float64",),
    )
    yield case(
        "posted_examples",
        "vectors and a matrix by rows, as people compare them",
        lambda dtype, random: np.array([[3.0, 2.0, 4.0], [4.0, 5.0, 6.0], [3.0, 1.0, 0.2]]).astype(
            dtype
        ),
        "https://stackoverflow.com/questions/34968722",
    )
