"""Exponentials, their sums and logarithms: constants derived again, bounds measured, sums exact."""

import functools
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from units import compiled, unit_with

from fastsoftmax.cpu import arithmetic, lanes, memory
from fastsoftmax.cpu.sizes import BLOCK, COLUMN

mpmath.mp.prec = 160
LOG2 = mpmath.log(2)
ELEMENTS = {"float32": np.float32, "float64": np.float64}
SCALES = {"float32": arithmetic.SCALE_SINGLE, "float64": arithmetic.SCALE}
# What |z| may be, and how far below its row's power a term counts.
FAR = {"float32": 2.0**15, "float64": 2.0**20}
REACH = {"float32": 105.0, "float64": 750.0}
# The steps of the grids, with the scale on.
GRIDS = {
    "float32": tuple(2.0 ** (60 + n) for n in (-19, -39, -59)),
    "float64": tuple(2.0 ** (128 + n) for n in (-50, -100, -100)),
}


def exactly(x):
    return mpmath.mpf(float(x))


# --- constants ------------------------------------------------------------------------------------


@functools.cache
def constants(element):
    @compiled
    def tables(x):
        return arithmetic.constants_for(x), arithmetic.steps_of(x)

    return tables(np.zeros(1, element))


def nearest(element, x):
    return float(ELEMENTS[element](float(x)))


def test_steps_of_the_power_are_in_two_parts():
    for j in range(8):
        exact = mpmath.mpf(2) ** (mpmath.mpf(j) / 8)
        assert arithmetic._STEPS[j] == float(exact)
        assert arithmetic._STEPS_SINGLE[j] == nearest("float32", exact)
        rest = exact - exactly(arithmetic._STEPS[j])
        single_rest = exact - exactly(arithmetic._STEPS_SINGLE[j])
        if j:
            assert arithmetic._STEPS_REST[j] == float(rest)
            assert arithmetic._STEPS_SINGLE_REST[j] == nearest("float32", single_rest)
        else:  # a normal number too small to count, in the place of 0
            assert arithmetic._STEPS_REST[j] == 2.0**-60
            assert arithmetic._STEPS_SINGLE_REST[j] == 2.0**-32


@pytest.mark.parametrize("element", ELEMENTS)
def test_constants_are_those_of_the_formulas(element):
    numbers, steps = constants(element)
    a = arithmetic
    assert numbers[a.TO_STEPS] == nearest(element, 8 / LOG2)
    assert numbers[a.TO_POWER] == nearest(element, 1 / LOG2)
    assert numbers[a.STEP] == nearest(element, LOG2 / 8)
    rest = LOG2 / 8 - exactly(numbers[a.STEP])
    assert abs(exactly(numbers[a.STEP_REST]) / rest - 1) < 2.0 ** -(np.finfo(element).nmant + 1)
    single = element == "float32"
    for place, n in zip(range(a.C2, a.C8 + 1), range(2, 9), strict=True):
        factor = nearest(element, 1 / mpmath.factorial(n))
        assert numbers[place] == (0 if single and n > 4 else factor)
    assert numbers[a.UNSCALE] == 2.0 ** -SCALES[element]
    assert (numbers[a.FAR], numbers[a.REACH]) == (FAR[element], REACH[element])
    # Adding one rounds to its last place, on either side of it.
    bits = np.finfo(element).nmant
    assert numbers[a.TO_INTEGER] == 1.5 * 2.0**bits
    for place, step in zip((a.M1, a.M2, a.M3), GRIDS[element], strict=True):
        assert numbers[place] == 1.5 * 2.0**bits * step
    first, second, third = (step * numbers[a.UNSCALE] for step in GRIDS[element])
    whole = (first, second, third, 0.0)
    halves = (first * 2.0**32, first, second * 2.0**32, second)
    assert steps == (whole if single else halves)


def test_the_logarithm_of_2_is_in_two_parts_and_products_of_the_first_are_exact():
    assert Fraction(arithmetic.LN2_HIGH) * 2**42 % 1 == 0
    rest = LOG2 - exactly(arithmetic.LN2_HIGH)
    assert abs(rest) < mpmath.mpf(2) ** -43
    assert float(rest) == arithmetic.LN2_LOW


def chebyshev(function, degree, low, high):
    """The polynomial that interpolates ``function`` in the Chebyshev nodes, lowest power first."""
    middle, half = (low + high) / 2, (high - low) / 2
    count = degree + 1
    nodes = [
        middle + half * mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * count)) for k in range(count)
    ]
    powers = mpmath.matrix(count, count)
    for i, node in enumerate(nodes):
        for j in range(count):
            powers[i, j] = node**j
    return list(mpmath.lu_solve(powers, mpmath.matrix([function(node) for node in nodes])))


def test_coefficients_of_the_logarithm_are_those_of_the_interpolation():
    def series(w):
        return mpmath.fsum(mpmath.mpf(2) / (2 * k + 3) * w**k for k in range(70))

    degree = len(arithmetic.LOG_COEFFICIENTS) - 1
    with mpmath.workprec(300):
        derived = chebyshev(series, degree, mpmath.mpf(0), mpmath.mpf("0.0295"))
    assert tuple(map(float, derived)) == arithmetic.LOG_COEFFICIENTS


@pytest.mark.parametrize(("last", "bits"), [(4, 29), (8, 59)])
def test_the_series_of_exp_is_long_enough(last, bits):
    for r in (-LOG2 / 16, LOG2 / 16):
        series = mpmath.fsum(r**n / mpmath.factorial(n) for n in range(last + 1))
        assert abs(series / mpmath.exp(r) - 1) < mpmath.mpf(2) ** -bits


# --- exponentials ---------------------------------------------------------------------------------


@functools.cache
def exponentials(with_rest, own):
    """exp of arrays as (e, h, lo), each to its own power or to that of 1; and the power's bits."""

    @compiled
    def run(x, rests, out, powers):
        c = arithmetic.constants_for(x)
        unit = memory.unit_of(x, None, 1)
        width = memory.width_of(unit)
        for i in range(0, x.size, width):
            z = memory.load(x, (i,), None, 0, unit)
            power = arithmetic.power_of(z if own else z * 0.0, c)
            if with_rest:
                rest = memory.load(rests, (i,), None, 0, unit)
                e, h, lo = arithmetic.exponential(z, rest, power, c)
            else:
                e, h, lo = arithmetic.exponential(z, None, power, c)
            memory.store(out, (0, i), None, e)
            memory.store(out, (1, i), None, h)
            memory.store(out, (2, i), None, lo)
            memory.store(powers, (i,), None, power)

    return run


def exponential(z, rest=None, own=False):
    """(e, h, lo) without a scale, and the power that was taken off."""
    size, bits = z.size, z.itemsize * 8
    z = np.resize(z, -(-size // 16) * 16)
    out, powers = np.empty((3, z.size), z.dtype), np.empty(z.size, f"int{bits}")
    function = exponentials(rest is not None, own)
    function(z, z if rest is None else np.resize(rest, z.size), out, powers)
    if not own:
        return out[:, :size], 0
    # The power's bits lie where an exponent's do: what is beyond a few hundred falls out.
    taken = np.rint(z[:size] / np.log(np.longdouble(2))).astype(np.int64)
    off = SCALES[z.dtype.name] - (powers[:size] >> np.finfo(z.dtype).nmant) - taken
    fits = 2 ** (bits - np.finfo(z.dtype).nmant)
    taken += (off + fits // 2) % fits - fits // 2
    return out[:, :size], taken


def below(element, count):
    """z of all sizes that a term can have which counts, relative to 1."""
    rng = np.random.default_rng(0)
    least = np.log(REACH[element])
    z = np.concatenate(
        [
            -rng.uniform(0, REACH[element], count),
            -rng.uniform(0, 1, count),
            -np.exp(rng.uniform(-80, least, count)),
            # where one step ends and the next begins
            -(rng.integers(0, int(REACH[element] * 11.5), count) + 0.5) * np.log(2) / 8,
            rng.uniform(0, np.log(2) / 2, count),
            [0.0, -0.0, -REACH[element]],
        ]
    )
    return z.astype(element)


def anywhere(element, count):
    """z of all sizes."""
    rng = np.random.default_rng(1)
    far = FAR[element]
    sizes = np.exp(rng.uniform(-80, np.log(far), count))
    z = [rng.uniform(-far, far, count), sizes, -sizes, [far, -far, 0.0]]
    return np.concatenate(z).astype(element)


def rests_of(z):
    """What rounding may have left out of a difference."""
    return (z * np.random.default_rng(2).uniform(-1, 1, z.size) * np.finfo(z.dtype).epsneg).astype(
        z.dtype
    )


def error_of_singles(z, rest, parts, powers):
    """The largest relative error of h + lo; z of float32, the truth in float64 and long double."""
    wide = z.astype(np.longdouble) + (0 if rest is None else rest.astype(np.longdouble))
    log2 = np.longdouble(float(LOG2)) + np.longdouble(float(LOG2 - float(LOG2)))
    exact = np.exp((wide - powers * log2).astype(np.float64))
    got = (parts[1].astype(np.float64) + parts[2]) * 2.0**-60
    return np.max(np.abs(got / exact - 1))


def error_of_doubles(z, rest, parts, powers):
    worst = mpmath.mpf(0)
    rest = np.zeros_like(z) if rest is None else rest
    scale = mpmath.mpf(2) ** -arithmetic.SCALE
    powers = np.broadcast_to(powers, z.shape)
    for a, b, h, lo, n in zip(z, rest, parts[1], parts[2], powers, strict=True):
        exact = mpmath.exp(exactly(a) + exactly(b) - int(n) * LOG2)
        worst = max(worst, abs((exactly(h) + exactly(lo)) * scale / exact - 1))
    return float(worst)


# Without a rest and with one, whose sum with the reduced logit is rounded again.
BOUNDS = {"float32": (2.0**-26.9, 2.0**-26.6), "float64": (2.0**-56, 2.0**-55.8)}


@pytest.mark.parametrize("own", [False, True], ids=["below 1", "anywhere"])
@pytest.mark.parametrize("with_rest", [False, True])
@pytest.mark.parametrize("element", ELEMENTS)
def test_the_parts_of_an_exponential_are_right_together(element, with_rest, own):
    count = 400_000 if element == "float32" else 1500
    z = anywhere(element, count) if own else below(element, count)
    rest = rests_of(z) if with_rest else None
    parts, powers = exponential(z, rest, own)
    measure = error_of_singles if element == "float32" else error_of_doubles
    worst = measure(z, rest, parts, powers)
    assert worst <= BOUNDS[element][with_rest]
    # what results are made of is their sum, rounded once
    np.testing.assert_array_equal(parts[0], parts[1] + parts[2])


@pytest.mark.parametrize("element", ELEMENTS)
def test_the_power_is_the_nearest_integer_and_leaves_about_1(element):
    z = anywhere(element, 100_000)
    (e, _, _), powers = exponential(z, None, True)
    exact = z.astype(np.longdouble) / np.longdouble(np.log(np.longdouble(2)))
    assert np.max(np.abs(exact - powers)) <= 0.5 + FAR[element] * np.finfo(element).eps
    size = e * 2.0 ** -SCALES[element]
    assert 0.5**0.5 * 0.99 < size.min() < size.max() < 2**0.5 * 1.01


@pytest.mark.parametrize("element", ELEMENTS)
def test_exp_of_0_is_1_and_of_nan_nan(element):
    z = np.array([0.0, -0.0, np.nan, -np.nan], element)
    (e, h, lo), _ = exponential(z)
    one = 2.0 ** SCALES[element]
    np.testing.assert_array_equal(e, [one, one, np.nan, np.nan])
    np.testing.assert_array_equal(h[:2], one)
    # what is in the place of 0 in a table
    assert (lo[:2] == one * (2.0**-32 if element == "float32" else 2.0**-60)).all()


@pytest.mark.parametrize("element", ELEMENTS)
def test_exponentials_never_fall_where_logits_rise(element):
    low = np.sort(below(element, 20_000))
    (e, _, _), _ = exponential(low)
    assert (np.diff(e) >= 0).all()
    # across the edge of a step, one number at a time
    for k in (-1, -7, -64, -800):
        edge = np.array((k + 0.5) * np.log(2) / 8, element)
        bits = edge.view(f"int{8 * edge.itemsize}")
        z = (bits + np.arange(-500, 500).astype(bits.dtype)).view(element)[::-1]
        (e, _, _), _ = exponential(np.ascontiguousarray(z))
        assert (np.diff(e) >= 0).all()


# --- sums -----------------------------------------------------------------------------------------


@functools.cache
def adding(third, width):
    """What each lane counts of terms that lie in lines of lanes; whether it met infinity or NaN."""

    @compiled
    def run(e, h, lo, counts, flags):
        c = arithmetic.constants_for(e)
        unit = unit_with(e, width)
        zero = lanes.bits_of(lanes.spread_like(0.0, unit))
        sums = zero, zero, zero, zero
        for i in range(0, e.size, width):
            sums = arithmetic.add_term(
                sums,
                memory.load(e, (i,), None, 0, unit),
                memory.load(h, (i,), None, 0, unit),
                memory.load(lo, (i,), None, 0, unit),
                third,
                c,
            )
        one, two, three, four = arithmetic.counts_of(sums, e.size // width, third, c)
        memory.store(counts, (0, 0), None, one)
        memory.store(counts, (1, 0), None, two)
        memory.store(counts, (2, 0), None, three)
        memory.store(counts, (3, 0), None, four)
        met = arithmetic.not_finite(sums[3])
        memory.store(flags, (0,), None, lanes.select(met, 1, zero))

    return run


def counted(e, h, lo, third, width=16):
    """Counts by lanes, as (4, width) of int64, and which lanes met infinity or NaN."""
    e, h, lo = map(np.ascontiguousarray, (e, h, lo))
    counts = np.empty((4, width), np.int64)
    flags = np.empty(width, f"int{8 * e.itemsize}")
    adding(third, width)(e, h, lo, counts, flags)
    return counts, flags.astype(bool)


def expected_counts(e, h, lo, third):
    """Steps of the three grids, of each term: what is nearest, of two the even one."""
    first, second, last = (e.dtype.type(step) for step in GRIDS[e.dtype.name])
    one = np.rint(e / first)
    left = (h - one * first) + lo
    two = np.rint(left / second)
    three = np.rint((left - two * second) / last) if third else np.zeros_like(two)
    return [v.astype(np.int64) for v in (one, two, three)]


def in_steps(counts, element):
    """Sums of counts as whole numbers of steps of the three grids."""
    a, b, c, d = (int(v) for v in counts.sum(1))
    if element == "float32":
        assert d == 0
        return a, b, c
    return (a << 32) + b, (c << 32) + d, 0


@functools.cache
def pairing(element):
    @compiled
    def run(counts, like, out):
        unit = unit_with(like, 8)
        pair = arithmetic.pair_of(
            (
                memory.load(counts, (0, 0), None, 0, unit),
                memory.load(counts, (1, 0), None, 0, unit),
                memory.load(counts, (2, 0), None, 0, unit),
                memory.load(counts, (3, 0), None, 0, unit),
            ),
            arithmetic.steps_of(like),
        )
        memory.store(out, (0, 0), None, pair[0])
        memory.store(out, (1, 0), None, pair[1])

    return run


def pair_of(counts, element):
    """The pair that is made of the sums of all lanes."""
    sums = np.repeat(counts.sum(1)[:, None], 8, axis=1)
    out = np.empty((2, 8))
    pairing(element)(sums, np.zeros(1, element), out)
    assert (out == out[:, :1]).all()
    return float(out[0, 0]), float(out[1, 0])


def check_sum(e, h, lo, third, width=16):
    """The counts are the terms', and the pair is what they are worth."""
    element = e.dtype.name
    counts, met = counted(e, h, lo, third, width)
    assert not met.any()
    one, two, three = expected_counts(e, h, lo, third)
    lines = [v.reshape(-1, width) for v in (one, two, three)]
    if element == "float32":
        expected = [v.sum(0) for v in lines] + [np.zeros(width)]
    else:
        wholes = [v.astype(object).sum(0) for v in lines[:2]]
        expected = [part for v in wholes for part in (v >> 32, v & 0xFFFFFFFF)]
    np.testing.assert_array_equal(counts, np.array(expected, np.int64))
    # what lanes hold as they are emptied fits in their integers
    limit = 2 ** (8 * e.itemsize)
    first, others = lines[0].astype(object).sum(0), [v.astype(object).sum(0) for v in lines[1:]]
    signed = element == "float64"
    assert all(-limit // 2 * signed <= v < limit // (1 + signed) for v in first)
    assert all(-limit // 2 <= v < limit // 2 for part in others for v in part)

    high, low = pair_of(counts, element)
    assert high == high + low
    steps = [Fraction(step) / 2 ** SCALES[element] for step in GRIDS[element]]
    total = sum(n * step for n, step in zip(in_steps(counts, element), steps, strict=True))
    assert abs(Fraction(high) + Fraction(low) - total) <= abs(total) / 2**104
    return high, low, total


def terms(element, count, spread):
    """Exponentials of logits that lie below the largest, whose own is the largest there is."""
    rng = np.random.default_rng(3)
    z = np.log(2) / 2 * (1 - 2.0**-20) - rng.exponential(spread, count)
    z[rng.integers(0, count, count // 10)] = np.log(2) / 2 * (1 - 2.0**-20)
    return exponential(np.maximum(z, -REACH[element]).astype(element))[0]


@pytest.mark.parametrize("spread", [0.1, 3.0, 40.0])
@pytest.mark.parametrize("third", [None, True])
@pytest.mark.parametrize("element", ELEMENTS)
def test_sums_are_exactly_those_of_the_terms_rounded_to_the_grids(element, third, spread):
    e, h, lo = terms(element, 64 * 256, spread)
    _, _, total = check_sum(e, h, lo, third)
    exact = sum(map(Fraction, h.tolist())) + sum(map(Fraction, lo.tolist()))
    exact /= 2 ** SCALES[element]
    # each term is rounded to a grid's step, and once before
    grids = GRIDS[element]
    last = grids[2] if third else grids[1]
    each = Fraction(last) / 2 + Fraction(grids[0]) * Fraction(float(np.finfo(element).epsneg))
    assert abs(total - exact) <= e.size * each / 2 ** SCALES[element]


@pytest.mark.parametrize("third", [None, True])
@pytest.mark.parametrize("element", ELEMENTS)
def test_sums_have_no_order(element, third):
    terms_of_row = terms(element, 64 * 256, 3.0)
    once = check_sum(*terms_of_row, third)
    by_lane, _ = counted(*terms_of_row, third)
    rng = np.random.default_rng(4)
    for _ in range(5):
        # within lanes the same counts, across lanes and in other widths the same sums
        order = rng.permutation(terms_of_row.shape[1] // 16)
        lines = terms_of_row.reshape(3, -1, 16)[:, order].reshape(3, -1)
        np.testing.assert_array_equal(counted(*lines, third)[0], by_lane)
        mixed = terms_of_row[:, rng.permutation(terms_of_row.shape[1])]
        for width in (8, 16, 32, 64):
            counts, _ = counted(*mixed, third, width)
            assert in_steps(counts, element) == in_steps(by_lane, element)
            assert pair_of(counts, element) == once[:2]


@pytest.mark.parametrize("third", [None, True])
@pytest.mark.parametrize("element", ELEMENTS)
def test_folded_counts_of_several_vectors_are_the_same(element, third):
    size = np.dtype(element).itemsize
    wide, narrow = 4 * 64 // size, 64 // size

    @compiled
    def run(e, h, lo, counts):
        c = arithmetic.constants_for(e)
        unit, several = memory.unit_of(e, None, 1), memory.unit_of(e, None, 4)
        zero = lanes.bits_of(lanes.spread_like(0.0, several))
        sums = zero, zero, zero, zero
        for i in range(0, e.size, wide):
            sums = arithmetic.add_term(
                sums,
                memory.load(e, (i,), None, 0, several),
                memory.load(h, (i,), None, 0, several),
                memory.load(lo, (i,), None, 0, several),
                third,
                c,
            )
        one, two, three, _ = sums
        sums = (
            lanes.folded(one, unit),
            lanes.folded(two, unit),
            lanes.folded(three, unit),
            lanes.bits_of(lanes.spread_like(0.0, unit)),
        )
        one, two, three, four = arithmetic.counts_of(sums, e.size // narrow, third, c)
        memory.store(counts, (0, 0), None, one)
        memory.store(counts, (1, 0), None, two)
        memory.store(counts, (2, 0), None, three)
        memory.store(counts, (3, 0), None, four)

    # as many as lanes of one vector may add
    row = terms(element, arithmetic.CAPACITY * narrow, 0.01)
    counts = np.empty((4, narrow), np.int64)
    run(*row, counts)
    expected, _ = counted(*row, third, narrow)
    np.testing.assert_array_equal(counts, expected)


def test_kernels_add_no_more_terms_than_lanes_can():
    assert COLUMN <= arithmetic.CAPACITY
    assert BLOCK // 8 <= arithmetic.CAPACITY


def largest(element):
    """The bits of numbers next to the largest exponential relative to its power."""
    unit = 2.0 ** (SCALES[element] - np.finfo(element).nmant)
    # 2 ** 0.5, and a little for a power that was rounded the other way
    return np.floor(2.0**0.5 * 2.0 ** SCALES[element] * (1 + 1e-3) / unit), unit


def worst_terms(element):
    """Terms as large as any, whose remainders are about half a step of either grid."""
    first, second, last = GRIDS[element]
    _, unit = largest(element)
    base = np.floor(2.0**0.5 * 1.001 * 2.0 ** SCALES[element] / (2 * first)) * 2 * first
    found = []
    for steps in (0, 1):  # an even number of steps and an odd one: ties go either way
        for away in (-unit, 0.0, unit):
            e = base + steps * first + first / 2 + away
            # what e = h + lo leaves out is up to half its last place, more or less a step
            rest = unit / 2
            for lo in (0.0, rest, -rest, rest - second / 2, second / 2 - rest):
                for least in (-last, 0.0, last):
                    found.append((e, lo + least if abs(lo) < rest else lo))
    h, lo = np.array(found).T.astype(element)
    e = h + lo
    return np.stack([e, h, lo])


@pytest.mark.parametrize("third", [None, True])
@pytest.mark.parametrize("element", ELEMENTS)
def test_as_many_equal_terms_as_fit_of_the_largest_size(element, third):
    candidates = worst_terms(element)
    halves = set()
    for term in candidates.T:
        row = np.repeat(term[:, None], arithmetic.CAPACITY * 8, axis=1)
        check_sum(*row, third, 8)
        halves.add(int(expected_counts(*term[:, None], third)[1][0]))
    # remainders on both sides, as large as the capacity is reckoned with
    first, second, _ = GRIDS[element]
    half = int(first / second) // 2
    extra = 2**15 if element == "float32" else 2**47
    assert (max(halves), min(halves)) == (half + extra, -half - extra)


@pytest.mark.parametrize("third", [None, True])
@pytest.mark.parametrize("element", ELEMENTS)
def test_as_many_mixed_terms_as_fit_of_the_largest_size(element, third):
    candidates = worst_terms(element)
    rng = np.random.default_rng(5)
    for width in (16, 64):
        row = candidates[:, rng.integers(0, candidates.shape[1], arithmetic.CAPACITY * width)]
        check_sum(*row, third, width)
        check_sum(*terms(element, arithmetic.CAPACITY * width, 1e-3), third, width)


def test_terms_of_either_sign_are_added_in_float64():
    e, h, lo = terms("float64", 16 * arithmetic.CAPACITY, 1.0)
    signs = np.random.default_rng(6).choice([-1.0, 1.0], e.size)
    check_sum(e * signs, h * signs, lo * signs, None)
    check_sum(-e, -h, -lo, None)
    candidates = worst_terms("float64")
    for term in candidates.T:
        check_sum(*np.repeat(-term[:, None], 8 * arithmetic.CAPACITY, axis=1), None, 8)


@pytest.mark.parametrize("third", [None, True])
@pytest.mark.parametrize("element", ELEMENTS)
def test_infinity_and_nan_are_noticed_in_their_lane_alone(element, third):
    row = terms(element, 16 * 40, 3.0)
    for number in (np.inf, -np.inf, np.nan, -np.nan):
        for place in (0, 1, 15, 16 * 20 + 7, row.shape[1] - 1):
            e, h, lo = row.copy()
            e[place] = h[place] = number
            _, met = counted(e, h, lo, third)
            np.testing.assert_array_equal(met, np.arange(16) == place % 16)
    # what only the parts show
    (e, h, lo), _ = exponential(np.full(16, np.nan, element))
    assert counted(e, h, lo, third)[1].all()


@pytest.mark.parametrize("width", [8, 64])
@pytest.mark.parametrize("element", ELEMENTS)
def test_two_sum_leaves_nothing_out(element, width):
    @compiled
    def run(x, y, out):
        unit = unit_with(x, width)
        for i in range(0, x.size, width):
            total, rest = arithmetic.two_sum(
                memory.load(x, (i,), None, 0, unit), memory.load(y, (i,), None, 0, unit)
            )
            memory.store(out, (0, i), None, total)
            memory.store(out, (1, i), None, rest)

    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((2, 1024)) * 2.0 ** rng.integers(-40, 40, (2, 1024))).astype(
        element
    )
    out = np.empty((2, x.size), element)
    run(x, y, out)
    np.testing.assert_array_equal(out[0], x + y)
    for a, b, total, rest in zip(x, y, *out, strict=True):
        exact = Fraction(float(a)) + Fraction(float(b))
        assert exact == Fraction(float(total)) + Fraction(float(rest))


# --- the logarithm --------------------------------------------------------------------------------


@compiled
def log_pair(high, low, out):
    unit = unit_with(high, 8)
    for i in range(0, high.size, 8):
        value, rest = arithmetic.logarithm(
            memory.load(high, (i,), None, 0, unit), memory.load(low, (i,), None, 0, unit)
        )
        memory.store(out, (0, i), None, value)
        memory.store(out, (1, i), None, rest)


def logarithm(high, low):
    high = np.array(high)
    size = high.size
    high, low = (np.resize(v, -(-size // 8) * 8) for v in (high, low))
    out = np.empty((2, high.size))
    log_pair(high, low, out)
    return out[:, :size]


def worst_of_log(high, low):
    """The largest relative error of what is made of pairs."""
    value, rest = logarithm(high, low)
    np.testing.assert_array_equal(value, value + rest)
    exact = [mpmath.log(exactly(a) + exactly(b)) for a, b in zip(high, low, strict=True)]
    got = [exactly(a) + exactly(b) for a, b in zip(value, rest, strict=True)]
    return float(max(abs(a / b - 1) for a, b in zip(got, exact, strict=True)))


def test_log_of_two_numbers_is_right_to_56_bits():
    rng = np.random.default_rng(0)
    high = np.concatenate(
        [
            rng.uniform(1, 3, 3000),
            1 + rng.choice([-1, 1], 2000) * 2.0 ** rng.uniform(-30, -1, 2000),
            2 ** rng.uniform(-0.51, 0.51, 2000),
            2 ** rng.uniform(-1021, 1023, 3000),
            np.nextafter(0.5**0.5, [0, 1]),
            np.nextafter(2**0.5, [0, 2]),
            [np.finfo(float).tiny, 1.7e308, 2.0, 0.5],
        ]
    )
    low = rng.uniform(-0.5, 0.5, high.size) * np.spacing(high)
    assert worst_of_log(high, low) < 2.0**-56


def test_log_next_to_one_keeps_what_is_left_of_one():
    low = np.array([1e-17, 1e-100, 1e-300, 5e-324, -1e-17, -1e-100, 0.0])
    value, _ = logarithm(np.ones(7), low)
    np.testing.assert_array_equal(value, low)


def test_log_of_pairs_next_to_one_is_right_to_an_ulp():
    # Half of what the first number is away from 1 may be taken back by the second.
    rng = np.random.default_rng(0)
    high = 1 + rng.choice([-1, 1], 3000) * 2.0 ** rng.uniform(-53, -30, 3000)
    high = high[high != 1]
    low = rng.uniform(-0.5, 0.5, high.size) * np.spacing(np.minimum(high, 1 - 2.0**-53))
    assert worst_of_log(high, low) < 2.0**-52


def test_log_at_its_ends():
    value, rest = logarithm([0.0, np.inf, np.nan], [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(value, [-np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(rest, 0)
