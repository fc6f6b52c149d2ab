"""Every kernel on arrays that begin or end where memory does: nothing beyond them is touched."""

import itertools
import os
from unittest import mock

import ml_dtypes  # noqa: F401, so that NumPy knows bfloat16
import numpy as np
import pytest
from placed import How, edges_of, in_a_process, placed

from fastsoftmax import (
    Normalizer,
    entropy,
    kl_divergence,
    log_sigmoid,
    log_softmax,
    logsumexp,
    sample,
    sigmoid,
    softmax,
)
from fastsoftmax.arithmetic.formulas import FORMULAS, SIGMOIDS
from fastsoftmax.cpu import plan, streams
from fastsoftmax.cpu.sizes import BLOCK, PACKED

# For each kind of kernel a shape, reduced along axis 1, most with a last vector that is not full.
SHAPES = [
    (9, 7),  # short
    (9, 131),  # rows
    (9, BLOCK + 13),  # long, as each thread has more than four
    (3, 2 * BLOCK + 13),  # cuts, as these are few
    (2, 9, 11),  # columns
    (2, BLOCK + 3, 11),  # long columns
    *((70, length) for length in PACKED),
]
# Kernels that draw: among their arguments, a caller passes logits and a mask of as many dimensions.
DRAWS = {"sample": (0, 3), "class_counts": (0, 3), "picked": ()}
# Where what knows no columns nor kinds of rows is called, too: all its other calls are the same.
ONE_KIND = (9, 131)
STORED = {"float64": "d", "float32": "f", "float16": "H", "bfloat16": "h"}


def drawn(x, axis, **beside):
    return sample(x, 3, axis, rng=0, **beside)


def drawn_of_some(x, axis, **beside):
    return sample(x, 3, axis, rng=0, top_p=0.9, **beside)


def forms(shape):
    """Every shape of as many dimensions that broadcasts to this one."""
    return itertools.product(*[sorted({1, size}) for size in shape])


def calls_at_an_edge(shape, dtype, edge, everything):
    """Functions, their logits, and other arguments, each at this edge of memory of its own.

    Temperatures without a mask, and the reverse, where ``everything`` is asked for.
    """
    rng = np.random.default_rng(0)
    inputs = How(edge=edge, read_only=True)
    kept = (shape[0], 1, *shape[2:])

    def at_edge(values, **how):
        return placed(values, inputs._replace(**how))

    x = at_edge((rng.standard_normal(shape) * 3).astype(dtype))
    masks = [at_edge(rng.random(form) < 0.7) for form in forms(shape)]
    weights = [at_edge(rng.standard_normal(form).astype(dtype)) for form in forms(shape)]
    temperatures = [1.0] + [
        at_edge(rng.uniform(0.5, 2, form), steps=(step,) * len(shape))
        for form in forms(kept)
        for step in (1, -1)
    ]
    both = list(itertools.product(temperatures[1:], masks))
    if everything:
        both += [(1.0, mask) for mask in masks] + [(each, None) for each in temperatures[1:]]
    maps = [softmax, log_softmax, *((sigmoids, log_sigmoids) if shape == ONE_KIND else ())]
    for temperature, mask in [(1.0, None), *both]:
        for function in maps:
            out = placed(np.zeros(shape, dtype), How(edge=edge))
            yield function, x, {"temperature": temperature, "where": mask, "out": out}
        can_be_drawn = mask is None or np.broadcast_to(mask, shape).any(axis=1).all()
        for function in (entropy, drawn, drawn_of_some) if can_be_drawn else (entropy,):
            yield function, x, {"temperature": temperature, "where": mask}
    for mask in (None, *masks):
        yield logsumexp, x, {"where": mask}
    for other, mask in itertools.product(weights, (None, masks[-1])):
        arguments = {"q_logits": other, "temperature": temperatures[-1], "where": mask}
        yield kl_divergence, x, arguments
        if shape == ONE_KIND:
            yield streamed, x, {"where": mask}
    for weight in weights:
        yield logsumexp, x, {"b": weight, "return_sign": True}
        if shape == ONE_KIND:
            yield streamed, x, {"b": weight}


def sigmoids(x, axis, **arguments):
    return sigmoid(x, **arguments)


def log_sigmoids(x, axis, **arguments):
    return log_sigmoid(x, **arguments)


def streamed(x, axis, **arguments):
    total = Normalizer()
    total.update(x, axis, **arguments)
    found = total._state.sums
    sums, more = (streams.Sums.empty(found.floats.shape[1]) for _ in range(2))
    for made in (sums, more):
        made.floats[...], made.integers[...] = found
    streams.add(sums, more)
    return np.stack([*streams.logarithms(sums, True), streams.logarithms(sums, False)[0]])


def sums_at(edge):
    """Sums at this edge of memory, made as `streams.Sums.empty` does."""
    how = How(edge=edge)
    return lambda several: streams.Sums(
        placed(np.zeros((3, several)), how), placed(np.zeros((7, several), np.int64), how)
    )


def run_at_both_edges(dtype, everything):
    """Make those calls; return the kernels' arguments that lay at an edge, with the edge."""
    seen = set()
    run = plan.run

    def recorded(name, arguments, count):
        for place, array in enumerate(arguments):
            if isinstance(array, np.ndarray):
                at = edges_of(array)
                seen.update((name, plan._kinds_of(arguments), place, edge) for edge in at)
        run(name, arguments, count)

    for shape, edge in itertools.product(SHAPES, ("start", "end")):
        kept = (shape[0], 1, *shape[2:])
        for function, x, arguments in calls_at_an_edge(shape, dtype, edge, everything):
            arrays = {name: value for name, value in arguments.items() if np.ndim(value)}
            what = function.__name__, x.shape, {name: a.shape for name, a in arrays.items()}, edge
            print(*what, flush=True)  # what a crash leaves to read
            # Elsewhere, with a temperature for each row and a weight for each logit.
            whole = {
                name: np.broadcast_to(array, kept if name == "temperature" else shape).copy()
                for name, array in arrays.items()
            }
            with mock.patch.multiple(plan, PARALLEL_FROM=1, PACKED_FROM=1):
                right = function(x.copy(), axis=1, **arguments | whole)
                with (
                    mock.patch.object(plan, "run", recorded),
                    mock.patch.object(streams.Sums, "empty", sums_at(edge)),
                ):
                    got = function(x, axis=1, **arguments)
            assert np.asarray(got).tobytes() == np.asarray(right).tobytes(), what
    return seen


def without_scratch(variant):
    """A kernel and its arguments, but for the scratch memory that `_run` adds for columns."""
    name, kinds = variant
    return (name, kinds[:-1]) if ("B", 2) in kinds else variant


def callers_places(name, kinds):
    """The places among a kernel's arguments of what a caller passes; others are allocated."""
    (stored, ndim), places = kinds[0], range(len(kinds))
    if name in ("added_sums", "log_sums", "signed_log_sums"):
        return [0, 1]  # not the caller's, but they can be placed as if they were
    whole = [
        place for place in places if isinstance(kinds[place], tuple) and kinds[place][1] == ndim
    ]
    if name.endswith(("_maxima", "_counts", "_cuts")):
        del whole[-2:]  # what is noted of each cut
    if name in DRAWS:
        return [place for place in whole if place in DRAWS[name]]
    if stored != "d":  # weights of another type are converted
        whole = [place for place in whole if kinds[place] != ("d", ndim)]
    return whole


def one_without_the_other(name, kinds):
    """Whether a kernel takes a temperature or a mask where others of its formula take both."""
    formula = next((each for each in FORMULAS if name.startswith(f"{each.name}_")), None)
    others = {"sample", "class_counts", *(each.name for each in SIGMOIDS)}
    tempered = formula.tempered if formula else name in others
    return tempered and (kinds[2] is None) != (kinds[3] is None)


def check_every_kernel(dtype, everything):
    """Fail where a kernel crashes, differs, or was not run at both edges."""
    seen = run_at_both_edges(dtype, everything)
    wanted = {
        (name, kinds, place, edge)
        for name, kinds in map(without_scratch, plan.all_variants())
        if kinds[0][0] == STORED[dtype] and (everything or not one_without_the_other(name, kinds))
        for place in callers_places(name, kinds)
        for edge in ("start", "end")
    }
    assert not wanted - seen, wanted - seen
    print(len(wanted))


# How a temperature and a mask are read is the same code for all types: each alone is compiled for
# one of them, as compiling is what takes the time, 10 s for a type.
@pytest.mark.skipif(os.name != "posix", reason="pages are unmapped by POSIX's mprotect")
@pytest.mark.parametrize(
    ("dtype", "everything"),
    [
        ("float32", True),
        *(
            pytest.param(dtype, everything, marks=mark)
            for dtype in ("float64", "float16", "bfloat16")
            for everything, mark in ((False, pytest.mark.thorough), (True, pytest.mark.slow))
        ),
    ],
)
def test_every_kernel_keeps_to_its_arguments_at_both_edges_of_memory(dtype, everything):
    program = f"import test_layouts; test_layouts.check_every_kernel({dtype!r}, {everything})"
    in_a_process(program, NUMBA_NUM_THREADS="2")  # one alone has no cuts
