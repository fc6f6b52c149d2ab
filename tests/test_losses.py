"""cross_entropy and its gradient: against exact numbers and torch, in any order, and refusals."""

import functools
import itertools
import math

import mpmath
import numpy as np
import pytest
from exact import ulp_error, unit

from fastsoftmax import (
    ERROR_BOUNDS,
    cross_entropy,
    cross_entropy_and_gradient,
    label_log_probabilities,
    log_softmax,
    softmax,
)
from fastsoftmax.cpu import totals
from fastsoftmax.cpu.sizes import BLOCK

NAN = np.nan
GRADIENT = ERROR_BOUNDS["cross_entropy_and_gradient"]


def exact_losses(x, target, weight=None, smoothing=0.0):
    """The loss of each row and its gradient, as mpmath numbers; targets are for each class."""
    losses, gradients = [], []
    with mpmath.workprec(300):
        for row, wanted in zip(x, target, strict=True):
            terms = [mpmath.exp(mpmath.mpf(float(v)) - mpmath.mpf(float(max(row)))) for v in row]
            total = mpmath.fsum(terms)
            q = [
                (1 - mpmath.mpf(smoothing)) * mpmath.mpf(float(t))
                + mpmath.mpf(smoothing) / len(row)
                for t in wanted
            ]
            if weight is not None:
                q = [mpmath.mpf(float(w)) * each for w, each in zip(weight, q, strict=True)]
            losses.append(-mpmath.fsum(
                each * mpmath.log(t / total) for each, t in zip(q, terms, strict=True) if each
            ))  # fmt: skip
            whole = mpmath.fsum(q)
            gradients += [t / total * whole - each for t, each in zip(terms, q, strict=True)]
    return losses, gradients


def one_hot(target, classes):
    return np.eye(classes)[target]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [0.1, 5, 60])
def test_indices_are_exact_in_loss_and_gradient_however_sure(dtype, spread):
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((12, 9)) * spread).astype(dtype)
    target = np.where(rng.random(12) < 0.5, x.argmax(axis=1), rng.integers(0, 9, 12))
    losses, gradient = cross_entropy_and_gradient(x, target, reduction="none")
    exact, exact_gradient = exact_losses(x, one_hot(target, 9))
    assert ulp_error(losses, exact) <= 1.1
    assert (
        ulp_error(gradient, exact_gradient) <= ERROR_BOUNDS["cross_entropy_and_gradient"]["float32"]
    )
    np.testing.assert_array_equal(losses, -label_log_probabilities(x, target))
    np.testing.assert_array_equal(cross_entropy(x, target, reduction="none"), losses)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("smoothing", "weighted"), [(0.0, False), (0.1, True)])
def test_probabilities_and_smoothing_are_exact(dtype, smoothing, weighted):
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((10, 7)) * 4).astype(dtype)
    target = softmax(rng.standard_normal((10, 7)), axis=-1).astype(dtype)
    target[0] = one_hot(3, 7)
    weight = rng.random(7) if weighted else None
    options = {"weight": weight, "label_smoothing": smoothing, "reduction": "none"}
    losses, gradient = cross_entropy_and_gradient(x, target, **options)
    exact, exact_gradient = exact_losses(x, target, weight, smoothing)
    assert ulp_error(losses, exact) <= 2.1
    q = (1 - smoothing) * target.astype(np.float64) + smoothing / 7
    q = q if weight is None else q * weight
    larger = np.maximum(softmax(x.astype(np.float64), axis=-1) * q.sum(axis=1, keepdims=True), q)
    both = zip(gradient.ravel(), exact_gradient, strict=True)
    off = np.array([abs(mpmath.mpf(float(g)) - e) for g, e in both], np.float64)
    allowed = (
        4 * np.spacing(larger) if dtype is np.float64 else 0.01 * np.spacing(larger.astype(dtype))
    )
    half = np.array([unit(each, dtype) for each in exact_gradient], np.float64) / 2
    assert (off <= allowed.astype(np.float64).ravel() + half).all()


CASES = list(itertools.product(
    [((40, 10), -1), ((30, 100), 1), ((4, 9, 5), 1), ((10, 30), 0)],
    (0.0, 0.1), (False, True), ("mean", "sum", "none"), (False, True), (1.0, 2.5),
))  # fmt: skip


@pytest.mark.parametrize(("place", "smoothing", "weighted", "reduction", "soft", "t"), CASES)
def test_torch_defines_the_same(place, smoothing, weighted, reduction, soft, t):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    shape, axis = place
    x, classes = rng.standard_normal(shape) * 3, shape[axis]
    rows = [n for i, n in enumerate(shape) if i != axis % len(shape)]
    weight = rng.random(classes) if weighted else None
    if soft:
        target = rng.random(shape)
    else:
        target = rng.integers(0, classes, rows)
        target.flat[::7] = -100
    theirs = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        (theirs / t).movedim(axis, 1),
        torch.tensor(np.moveaxis(target, axis, 1) if soft else target),
        weight=None if weight is None else torch.tensor(weight),
        label_smoothing=smoothing,
        reduction=reduction,
    )
    expected.sum().backward()
    options = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
    loss = cross_entropy(x, target, axis, temperature=t, **options)
    again, gradient = cross_entropy_and_gradient(x, target, axis, temperature=t, **options)
    np.testing.assert_array_equal(loss, again)
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-9, atol=1e-14)


def test_losses_of_many_rows_are_summed_in_no_order():
    rng = np.random.default_rng(4)
    x = (rng.standard_normal((50_000, 5)) * 20).astype(np.float32)
    target, weight = rng.integers(0, 5, len(x)), rng.random(5)
    order = rng.permutation(len(x))
    for options in ({}, {"weight": weight}, {"label_smoothing": 0.1}, {"ignore_index": 2}):
        for reduction in ("mean", "sum"):
            wide = options | {"reduction": reduction, "dtype": np.float64}
            a, b = cross_entropy(x, target, **wide), cross_entropy(x[order], target[order], **wide)
            assert a == b
    each = cross_entropy(x, target, reduction="none")
    exact = math.fsum(each.tolist())
    assert float(cross_entropy(x, target, reduction="sum")) == np.float32(exact)
    assert float(cross_entropy(x, target)) == np.float32(exact / len(x))


def test_sums_of_many_classes_are_exact_too():
    x, uniform = np.zeros((1, 300_001)), np.full((1, 300_001), 1 / 300_001)
    loss, gradient = cross_entropy_and_gradient(x, uniform)
    np.testing.assert_allclose(loss, math.log(300_001), rtol=4 * 2.0**-52)
    np.testing.assert_allclose(gradient, 0, atol=4 * 2.0**-52 / 300_001)
    smoothed = cross_entropy(x, [7], label_smoothing=0.1)
    np.testing.assert_allclose(smoothed, math.log(300_001), rtol=4 * 2.0**-52)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_totals_are_rounded_once_whatever_their_numbers(dtype):
    rng = np.random.default_rng(5)
    for count in (0, 1, 100, 40_000):
        x = (rng.standard_normal(count) * np.exp(rng.standard_normal(count) * 5)).astype(dtype)
        assert totals.total(x) == math.fsum(x.tolist()) == totals.total(rng.permutation(x))
    tiny = np.array([5e-324, 1e-310, 3e-320])
    assert totals.total(tiny) == math.fsum(tiny)
    assert totals.total(np.array([np.inf, 1.0])) == np.inf
    assert np.isnan(totals.total(np.array([np.inf, -np.inf, 1.0])))
    assert np.isnan(totals.total(np.array([NAN, np.inf])))
    rows, weight = rng.standard_normal((9, 3000)), rng.random((9, 3000))
    got = totals.products(rows, weight)
    expected = [math.fsum((a * b).tolist()) for a, b in zip(rows, weight, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=2.0**-52)


def test_ignored_rows_count_for_nothing():
    x = np.array([[1.0, 2.0], [NAN, 3.0], [0.5, 0.5]])
    target = np.array([0, -100, 1])
    kept = x[[0, 2]], target[[0, 2]]
    for options in ({}, {"label_smoothing": 0.2}, {"weight": [2.0, 3.0]}):
        assert cross_entropy(x, target, **options) == cross_entropy(*kept, **options)
        loss, gradient = cross_entropy_and_gradient(x, target, **options)
        expected = cross_entropy_and_gradient(*kept, **options)
        assert loss == expected[0]
        np.testing.assert_array_equal(gradient[[0, 2]], expected[1])
        np.testing.assert_array_equal(gradient[1], 0)
    nobody = [-100] * 3
    assert np.isnan(cross_entropy(x, nobody))
    assert cross_entropy(x, nobody, reduction="sum") == 0
    assert cross_entropy(x, [1, 7, 1], ignore_index=7) == cross_entropy(kept[0], [1, 1])


def test_masked_classes_have_no_part():
    x, where = np.array([[1.0, 50.0, 2.0]]), np.array([True, False, True])
    for options in ({}, {"label_smoothing": 0.3}):
        loss, gradient = cross_entropy_and_gradient(x, [0], where=where, **options)
        expected = cross_entropy_and_gradient(x[:, where], [0], **options)
        np.testing.assert_allclose(loss, expected[0], rtol=1e-15)
        np.testing.assert_allclose(gradient[:, where], expected[1], rtol=1e-15)
        assert gradient[0, 1] == 0
    assert cross_entropy(x, [1], where=where) == np.inf


@pytest.mark.parametrize("shape", [(70, 7), (9, 300), (3, BLOCK + 3), (1, 40 * BLOCK), (2, 9, 70)])
def test_gradients_of_rows_of_any_length_in_place_and_in_other_places(shape):
    rng = np.random.default_rng(6)
    x = rng.standard_normal(shape).astype(np.float32)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    loss, gradient = cross_entropy_and_gradient(x, target, 1)
    p, place = softmax(x.astype(np.float64), 1), np.expand_dims(target, 1)
    np.put_along_axis(p, place, np.take_along_axis(p, place, 1) - 1, 1)
    np.testing.assert_allclose(gradient, p / target.size, rtol=1e-6, atol=1e-12)
    turned = np.asfortranarray(x)
    again, same = cross_entropy_and_gradient(turned, target, 1, out=turned)
    assert same is turned
    assert again == loss
    np.testing.assert_array_equal(turned, gradient)


def test_containers_come_back():
    import pandas
    import xarray

    x = np.random.default_rng(7).standard_normal((3, 4)).astype(np.float32)
    frame = pandas.DataFrame(x, index=list("abc"), columns=list("wxyz"))
    target = pandas.Series([0, 1, 2], index=list("cba"))
    losses = cross_entropy(frame, target, reduction="none")
    assert list(losses.index) == list("abc")
    np.testing.assert_array_equal(losses, -log_softmax(x, -1)[[0, 1, 2], [2, 1, 0]])
    loss, gradient = cross_entropy_and_gradient(frame, target)
    assert type(loss) is np.float32
    data = xarray.Dataset({"a": (("row", "class"), x), "b": (("class",), x[0])})
    means = cross_entropy(data, 0, dim="class")
    assert means["a"].shape == means["b"].shape == ()
    assert float(means["b"]) == -log_softmax(x[0])[0]
    assert list(gradient.columns) == list("wxyz")


def wrong(*given, **options):
    return functools.partial(cross_entropy, *given, **options)


X = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (wrong(X, [0, 3]), ValueError, r"target\[1\] is 3, and classes are from 0 to 2"),
        (wrong(X, [0, -1]), ValueError, r"target\[1\] is -1"),
        (wrong(X, [-100, 5], label_smoothing=0.1), ValueError, r"target\[1\] is 5"),
        (wrong(X, [0, 1, 2]), ValueError, r"target of shape \(3,\)"),
        (wrong(X, [[0, 1], [1, 2]]), ValueError, r"must have shape \(2,\), got \(2, 2\)"),
        (wrong(X, [True, False]), TypeError, "target must be class indices or probabilities"),
        (wrong(X, X - 1), ValueError, r"target\[0, 0\] must be finite and not negative, got -1"),
        (wrong(X, X * NAN), ValueError, "got nan"),
        (wrong(X, np.zeros((2, 4))), ValueError, r"target of shape \(2, 4\)"),
        (wrong(X, X + 0j), TypeError, "target must be real"),
        (wrong(X, [0, 1], weight=[1, 2]), ValueError, r"weight must have shape \(3,\)"),
        (wrong(X, [0, 1], weight=[1, -2, 1]), ValueError, r"weight\[1\] must be finite"),
        (wrong(X, [0, 1], label_smoothing=1.5), ValueError, "label_smoothing must be from 0 to 1"),
        (wrong(X, [0, 1], label_smoothing="a"), TypeError, "label_smoothing must be a number"),
        (wrong(X, [0, 1], reduction="avg"), ValueError, "reduction must be 'mean', 'sum' or"),
        (wrong(X, [0, 1], ignore_index=0.5), TypeError, "ignore_index must be an integer"),
        (wrong(X, [0, 1], axis=None), ValueError, "axis must be one axis for cross_entropy"),
        (wrong(X + 0j, [0, 1]), TypeError, "logits must hold real numbers for cross_entropy"),
        (functools.partial(cross_entropy_and_gradient, X, [0, 1], temperature=0.0), ValueError,
         "temperature must be above 0 and finite for gradients, got 0.0"),
        (functools.partial(cross_entropy_and_gradient, X, [0, 1], out=np.zeros(3)), ValueError,
         "out must have shape"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_name_and_value(call, error, said):
    with pytest.raises(error, match=said):
        call()
