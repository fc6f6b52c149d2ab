"""Every CUDA kernel in Numba's simulator: the bits of the CPU's results.

test_cuda.py runs this in a process of its own, as Numba simulates in all of a process or nowhere.
"""

import ml_dtypes
import numpy as np
import pytest
import threads
from numba import config

import fastsoftmax
from fastsoftmax.arithmetic import generated
from fastsoftmax.arithmetic.formulas import FORMULAS, LABEL_LOG_PROBABILITIES, TOP_K
from fastsoftmax.arithmetic.lanes import INT64, number, when
from fastsoftmax.cuda import plan, simulated
from fastsoftmax.cuda.batch import PARAMETERS, Kind
from fastsoftmax.cuda.cuts import LINES
from fastsoftmax.cuda.device import device
from fastsoftmax.cuda.shape import Hardware, Shape
from fastsoftmax.cuda.view import View

assert config.ENABLE_CUDASIM, "run by test_cuda.py"

TYPES = {
    "float32": np.float32, "float64": np.float64, "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}  # fmt: skip
BYTES = {name: np.dtype(dtype).itemsize for name, dtype in TYPES.items()}
INF, NAN = np.inf, np.nan


def view(array):
    dtype = "bool" if array.dtype == bool else array.dtype.name
    return View(array.ctypes.data, dtype, array.shape, array.strides, array.itemsize)


def aligned(array, offset=0):
    """A copy whose first element lies so many elements behind an address that 16 divides."""
    memory = np.empty(array.nbytes + 32 + offset * array.itemsize, np.uint8)
    start = -memory.ctypes.data % 16 + offset * array.itemsize
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def logits(name, shape, seed=0):
    """Rows of all kinds: ordinary ones, wide and far ones, and all that is not ordinary."""
    random = np.random.default_rng([seed, *shape])
    with np.errstate(over="ignore"):
        x = (random.standard_normal(shape) * random.choice([0.01, 1, 10, 60], shape[0])[:, None]
             if len(shape) == 2 else random.standard_normal(shape) * 10)  # fmt: skip
        x = x.astype(TYPES[name])
        special = [
            [NAN], [INF], [-INF], [INF, NAN], [INF, INF], [0.0, -0.0], [3e38], [-3e38, -1e38],
            [40.0, 0.0], [1e-40, 1e-45], [700.0, -700.0], [60000.0, -60000.0], [-INF, NAN],
        ]  # fmt: skip
        rows = np.moveaxis(x, 1, -1).reshape(-1, shape[1])
        for k, values in enumerate(special):
            row = rows[(7 * k + 1) % len(rows)] if len(rows) > len(special) else None
            if row is None:
                continue
            if k % 3 == 2 or values == [-INF]:
                row[:] = -INF
            row[random.permutation(len(row))[: len(values)]] = np.array(values[: len(row)]).astype(
                x.dtype
            )
        rest = np.moveaxis(rows.reshape(np.moveaxis(x, 1, -1).shape), -1, 1)
    return np.ascontiguousarray(rest)


def same(a, b):
    """Bits, of what is not NaN."""
    bits = f"u{a.itemsize}"
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return (a.view(bits) == b.view(bits)) | ((a != a) & (b != b))


def expected(formula, x, temperature, mask):
    function = getattr(fastsoftmax, formula.name)
    options = {} if temperature is None else {"temperature": temperature}
    if formula.chooses:
        return function(x, several(formula, x), axis=1, where=mask, **options)[0]
    if formula.at_label:
        options["labels"] = labels_of(x)
    return function(x, axis=1, where=mask, **options)


def assert_same(formula, out, x, temperature=None, mask=None):
    want = expected(formula, x, temperature, mask)
    equal = same(out, want)
    where = np.argwhere(~equal)[:3].tolist()
    assert equal.all(), (where, out[~equal][:3], want[~equal][:3])


SEVERAL = 3


def several(formula, x):
    """How many labels there are of a row."""
    return min(SEVERAL, x.shape[1]) if formula.chooses else SEVERAL


def place_of_labels(formula, x):
    """Labels, or where kernels write those that they choose; None where there are none."""
    if formula.chooses:
        return np.full((x.shape[0], several(formula, x), *x.shape[2:]), -7)
    return labels_of(x) if formula.at_label else None


def check_chosen(formula, labels, x, temperature, mask):
    """That the labels are of the largest logits, in their order, if kernels choose them."""
    if formula.chooses:
        options = {} if temperature is None else {"temperature": temperature}
        wanted = fastsoftmax.top_k(x, labels.shape[1], axis=1, where=mask, **options)[1]
        np.testing.assert_array_equal(labels, wanted)


def labels_of(x):
    """Labels for rows: the first class, the last, and any."""
    outer, length, *inner = x.shape
    labels = np.random.default_rng([length, 9]).integers(0, length, (outer, SEVERAL, *inner))
    labels[::2, 0], labels[::3, 1] = 0, length - 1
    return labels


def outcome(formula, x):
    """An array for results, full of what no result is, with a guard on either side."""
    shape = x.shape if formula.mapped else (x.shape[0], *x.shape[2:])
    if formula.at_label:
        shape = (x.shape[0], several(formula, x), *x.shape[2:])
    return np.full(shape, 77, x.dtype)


# float16 and bfloat16 are float32 but for what is loaded and stored: each with two formulas.
KINDS = [
    *((formula, dtype) for formula in FORMULAS for dtype in ("float32", "float64")),
    (LABEL_LOG_PROBABILITIES, "float32"),
    (TOP_K, "float32"),
    *zip(FORMULAS, ("float16", "bfloat16", "bfloat16", "float16"), strict=True),
]
of_every_kind = pytest.mark.parametrize(
    ("formula", "dtype"), KINDS, ids=[f"{formula.name}-{dtype}" for formula, dtype in KINDS]
)
of_tempered_kinds = pytest.mark.parametrize(
    ("formula", "dtype"), [kind for kind in [*KINDS, (TOP_K, "float64")] if kind[0].tempered]
)


def run(formula, x, out, temperature=None, mask=None):
    """As a call does."""
    each = isinstance(temperature, np.ndarray)
    labels = place_of_labels(formula, x)
    plan.compute(
        formula, view(x), view(out), view(temperature) if each else temperature,
        None if mask is None else view(mask), 0, None if labels is None else view(labels),
    )  # fmt: skip
    check_chosen(formula, labels, x, np.expand_dims(temperature, 1) if each else temperature, mask)


# --- what kernels are made of ------------------------------------------------------------------


@pytest.mark.parametrize("name", threads.CASES)
def test_what_a_thread_does(name):
    case = threads.CASES[name]
    x = aligned(threads.INPUTS)
    out = aligned(np.zeros_like(threads.wanted(case)))
    for block in range(threads.BLOCKS):
        target = simulated.Simulated(
            threads.THREADS, case.clusters, block * case.clusters, threads.BLOCKS * case.clusters
        )
        with generated.writing(target, None, None), np.errstate(all="ignore"):
            values = [number(0, INT64)] * len(PARAMETERS)
            values[0], values[4] = (number(a.ctypes.data, INT64) for a in (x, out))
            threads.body(case)(*values)
    np.testing.assert_array_equal(threads.bits(out), threads.bits(threads.wanted(case)))


def test_what_no_barrier_orders_is_found():
    def missing_in_a_block(x):
        memory, thread = device().shared("test", INT64, 64), device().thread()
        memory.store(thread, thread)
        return memory.load((thread + 1) % 64)

    def missing_in_a_cluster(x):
        memory, rank = device().shared("test", INT64, 1), device().rank()
        for _ in when(device().thread() == 0):
            memory.store(0, rank)
        device().barrier()  # of the block alone
        return memory.of((rank + 1) % 2, 0)

    def one_too_early(x):
        for _ in when(device().thread() < 3):
            device().barrier()
        return device().thread()

    for write in (missing_in_a_block, missing_in_a_cluster, one_too_early):
        target = simulated.Simulated(64, 2, 0, 2)
        with generated.writing(target, None, None), pytest.raises(AssertionError, match="barrier"):
            write(None)


# --- every kernel, around every boundary -----------------------------------------------------


def kernels(width, exact):
    """Small ones of every kind, and lengths around what they hold or take."""
    edge = 0 if exact else 1
    for size, pieces in ((1, 1), (2, 2), (8, 3), (32, 1)):
        held = size * pieces * width
        for length in (width, held) if exact else (1, held - width + 1):
            yield Shape("rows", 128, size, pieces, exact=exact), max(1, length)
    yield Shape("rows", 64, 64, 2, exact=exact), 64 * width + edge
    yield Shape("rows", 64, 64, 1, clusters=2, exact=exact), 100 * width + edge
    yield Shape("long_rows", 64, 64, exact=exact), width + edge
    yield Shape("long_rows", 64, 64, exact=exact), 130 * width + edge
    if not exact:
        yield Shape("long_rows", 64, 64, exact=exact), 64 * width - 1
        for size in (1, 4):
            for length in (1, 3 * size + 1):
                yield Shape("short_rows", 128, size), length


def launch(kind, shape, x, out, cuts=1, **more):
    """One kernel, of a layout that it takes."""
    of = Hardware(1, (9, 0))
    offsets = view(x).pointer % 16, view(out).pointer % 16
    labels = place_of_labels(kind.formula, x)
    if labels is not None:
        more["labels"] = labels
    others = "mask", "each", "labels"
    strides = x.strides, out.strides, *(more.get(n, np.empty(())).strides for n in others)
    todo = plan.work(kind, x.shape, strides, offsets, of)
    places = [a.ctypes.data for a in (x, out)]
    places += [more[n].ctypes.data if n in more else 0 for n in others]
    flat = [n for place, step in zip(places, todo.steps, strict=True) for n in (place, *step)]
    notes = more.get("notes")
    arguments = (
        *flat, 0 if notes is None else notes.ctypes.data, *todo.sizes, cuts,
        several(kind.formula, x),
        more.get("number", 1.0),
    )  # fmt: skip
    simulated.launch(kind, shape, more.get("blocks", 2), arguments)
    check_chosen(kind.formula, labels, x, None, None)


@pytest.mark.parametrize("exact", [True, False])
@of_every_kind
def test_rows_around_what_kernels_hold(formula, dtype, exact):
    width = 16 // BYTES[dtype]
    for shape, length in kernels(width, exact):
        rows = 33 if length < 100 else 3
        x = aligned(logits(dtype, (rows, length)))
        out = aligned(outcome(formula, x))
        launch(Kind(formula, dtype), shape, x, out)
        assert_same(formula, out, x)


@pytest.mark.parametrize(("offset", "apart"), [(1, 0), (3, 2)])
@of_every_kind
def test_rows_that_begin_anywhere(formula, dtype, offset, apart):
    shape = Shape("rows", 32, 8, 3, exact=False)
    x = aligned(logits(dtype, (20, 40)), offset)
    out = aligned(outcome(formula, x), offset + apart)
    launch(Kind(formula, dtype), shape, x, out)
    assert_same(formula, out, x)


@pytest.mark.parametrize(
    ("shape", "length"),
    [
        (Shape("columns", 32, 1, 5), 5),
        (Shape("columns", 32, 1, 3, 2), 3),
        (Shape("columns", 64, 2, 4, 2), 7),
        (Shape("columns", 128, 4, 3), 12),
        (Shape("columns_long", 64, 2), 1),
        (Shape("columns_long", 128, 4), 50),
    ],
)
@pytest.mark.parametrize("inner", [1, 34])
@of_every_kind
def test_columns_around_what_kernels_hold(formula, dtype, shape, length, inner):
    x = aligned(logits(dtype, (2, length, inner)))
    out = aligned(outcome(formula, x))
    if inner % shape.items:
        return
    launch(Kind(formula, dtype), shape, x, out)
    assert_same(formula, out, x)


@pytest.mark.parametrize(("formula", "dtype"), [kind for kind in KINDS if not kind[0].chooses])
def test_rows_that_blocks_share(formula, dtype):
    width = 16 // BYTES[dtype]
    length, cuts = 130 * width + 1, 3
    x = aligned(logits(dtype, (14, length)))
    out = aligned(outcome(formula, x))
    notes = np.zeros(14 * cuts * LINES, np.int64)
    for name in ("maxima", "counts", "results"):
        shape = Shape(name, 64, 64, exact=False)
        launch(Kind(formula, dtype), shape, x, out, cuts=cuts, notes=notes)
    assert_same(formula, out, x)


# --- as calls do ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 5000), (2, 4097), (17, 33), (1, 1), (40, 17, 3), (2, 70, 5)])
@of_every_kind
def test_calls(formula, dtype, shape):
    x = aligned(logits(dtype, shape))
    out = aligned(outcome(formula, x))
    run(formula, x, out)
    assert_same(formula, out, x)


@pytest.mark.parametrize("shape", [(30, 40), (30, 37), (3, 300), (20, 10, 4)])
@of_every_kind
def test_masks(formula, dtype, shape):
    x = aligned(logits(dtype, shape))
    mask = np.random.default_rng(3).random(shape) < 0.7
    mask[::7] = False
    out = aligned(outcome(formula, x))
    run(formula, x, out, mask=mask)
    assert_same(formula, out, x, mask=mask)


TEMPERATURES = [0.5, 3.0, 0.0, INF, 1e-310, 2.0**-300, 2.0**-1001, 2.0**950, 1e-30, 1e30, 1.0]


@pytest.mark.parametrize("temperature", [0.5, 0.0, 2.0**-1001])
@pytest.mark.parametrize("shape", [(30, 40)])
@of_tempered_kinds
def test_temperatures(formula, dtype, temperature, shape):
    x = aligned(logits(dtype, shape))
    out = aligned(outcome(formula, x))
    run(formula, x, out, temperature)
    assert_same(formula, out, x, temperature)


@pytest.mark.parametrize("shape", [(33, 40), (11, 301), (3, 11, 9)])
@of_tempered_kinds
def test_a_temperature_for_each_row(formula, dtype, shape):
    x = aligned(logits(dtype, shape))
    out = aligned(outcome(formula, x))
    rows = (shape[0], *shape[2:])
    each = np.resize(np.array(TEMPERATURES), rows)
    run(formula, x, out, each)
    assert_same(formula, out, x, np.expand_dims(each, 1))


@pytest.mark.parametrize("formula", [formula for formula in FORMULAS if formula.tempered])
def test_no_temperature_that_is_none(formula):
    x = aligned(logits("float32", (4, 8), 1))
    out = aligned(outcome(formula, x))
    run(formula, x, out, np.array([1.0, -1.0, NAN, 2.0]))
    assert np.isnan(out[1:3]).all()
    assert_same(formula, out[[0, 3]], x[[0, 3]], np.array([[1.0], [2.0]]))


@of_every_kind
def test_strides_of_any_kind(formula, dtype):
    base = aligned(logits(dtype, (24, 60)))
    single = base.reshape(-1)[1:25].reshape(24, 1)
    for x in (
        base[:, ::2], base[::3, 1:38], base[::-1], base[:, ::-1], base.T, base[:, 5:6], single,
        base[:, :1],
    ):  # fmt: skip
        out = outcome(formula, x)
        run(formula, x, out)
        assert_same(formula, out, np.ascontiguousarray(x))


@pytest.mark.parametrize(("formula", "dtype"), [kind for kind in KINDS if not kind[0].at_label])
def test_rows_of_one_logit_anywhere(formula, dtype):
    x = aligned(logits(dtype, (30, 1)), 1)
    memory = np.full(100, 77, dtype=x.dtype)
    for step in (1, 2, 3):
        place = memory[4 : 4 + 30 * step : step]
        out = place.reshape(30, 1) if formula.mapped else place
        given = View(
            place.ctypes.data, x.dtype.name, out.shape,
            (step * x.itemsize, 0)[: out.ndim], x.itemsize,
        )  # fmt: skip
        # as views of arrays say it: an axis of one has no step
        plan.compute(formula, view(x)._replace(strides=(x.itemsize, 0)), given, None, None, 0)
        assert_same(formula, out, x)
        assert (np.delete(memory, np.arange(4, 4 + 30 * step, step)) == 77).all()
        memory[:] = 77


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(20, 37), (20, 40), (2, 5000), (3, 30, 8), (1, 20_000)])
def test_what_is_no_label_has_no_probability(dtype, shape):
    """As nobody reads labels that a device has; and no logit beyond the row's is read."""
    x = aligned(np.random.default_rng(6).standard_normal(shape).astype(TYPES[dtype]))
    labels, out = labels_of(x), outcome(LABEL_LOG_PROBABILITIES, x)
    wanted = expected(LABEL_LOG_PROBABILITIES, x, None, None)
    wrong = -1, shape[1], -(2**63), 2**63 - 1
    for place, label in enumerate(wrong):
        labels.reshape(-1)[place * 5 % labels.size] = label
    plan.compute(LABEL_LOG_PROBABILITIES, view(x), view(out), None, None, 0, view(labels))
    none = (labels < 0) | (labels >= shape[1])
    assert none.any()
    assert np.isnan(out[none]).all()
    assert same(out[~none], wanted[~none]).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_of_equal_logits_the_first_is_chosen_first(dtype):
    """Also zeros of either sign; NaN and infinity before all others; -inf where all else is."""
    for shape in ((9, 70), (9, 33), (2, 5000), (2, 20_000), (2, 40, 6)):
        random = np.random.default_rng(shape)
        x = aligned(random.choice([0.0, -0.0, 1.0, -INF], shape).astype(TYPES[dtype]))
        x[0, :: shape[1] // 3] = random.choice([NAN, INF], x[0, :: shape[1] // 3].shape)
        x[1, 1:] = -INF
        mask = random.random(shape) < 0.5
        for options in ({}, {"mask": mask}, {"temperature": 0.0}):
            out = outcome(TOP_K, x)
            run(TOP_K, x, out, **options)
            assert_same(TOP_K, out, x, **options)


@pytest.mark.parametrize("dtype", TYPES)
def test_results_in_place_of_the_logits(dtype):
    softmax = FORMULAS[0]
    for shape in ((33, 40), (33, 37), (2, 5000), (4, 30, 8)):
        x = aligned(logits(dtype, shape))
        given = x.copy()
        run(softmax, x, x)
        assert_same(softmax, x, given)


@of_every_kind
def test_nothing_else_is_written(formula, dtype):
    for shape in ((5, 37), (5, 40), (3, 11, 7)):
        x = logits(dtype, shape)
        out = outcome(formula, x)
        memory = np.full(out.size + 64, 55, x.dtype)
        place = memory[32 : 32 + out.size].reshape(out.shape)
        run(formula, x, place)
        assert_same(formula, place, x)
        assert (memory[:32] == 55).all()
        assert (memory[-32:] == 55).all()
