"""What people do with a softmax, in examples/: the numbers that it comes to, against others'."""

import functools
import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.special

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import threadpoolctl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.multiclass import OneVsRestClassifier

from fastsoftmax import cross_entropy, log_sigmoid, log_softmax, sigmoid, softmax

EXAMPLES = Path(__file__).parent / "examples"


@functools.cache
def names_of(example):
    """What an example has named once it has run, its products on one thread: tests have others."""
    with threadpoolctl.threadpool_limits(1):
        return runpy.run_path(str(EXAMPLES / f"{example}.py"))


def test_softmax_regression_comes_to_scikit_learns():
    names = names_of("softmax_regression")
    weights, theirs = names["weights"], names["theirs"]
    np.testing.assert_allclose(weights[:-1].T, theirs.coef_, rtol=0, atol=1e-5)
    # the same more for each class is as good
    ours, others = (each - each.mean() for each in (weights[-1], theirs.intercept_))
    np.testing.assert_allclose(ours, others, rtol=0, atol=1e-5)

    loss = cross_entropy(names["logits"], names["digits"])
    their_loss = log_loss(names["digits"], theirs.predict_proba(names["pixels"]))
    np.testing.assert_allclose(loss, their_loss, rtol=0, atol=1e-9)
    of_ours = log_loss(names["digits"], softmax(names["logits"], axis=-1))
    np.testing.assert_allclose(loss, of_ours, rtol=1e-14)


def test_the_hessian_is_what_the_gradient_changes_by():
    names = names_of("softmax_regression")
    at, direction = np.random.default_rng(0).normal(size=(2, names["weights"].size))
    step = 1e-5 * direction
    (_, after), (_, before) = (names["loss_and_gradient"](at + way * step) for way in (1, -1))
    change = (after - before) / 2e-5
    # a step's square, 1e-10, times a third derivative of some ten thousand
    np.testing.assert_allclose(
        names["hessian_times"](at, direction), change, rtol=0, atol=1e-7 * np.abs(change).max()
    )


def expected_calibration_error(p, labels):
    """By its definition: bin by bin, how many times how far."""
    certainty, right = p.max(axis=-1), p.argmax(axis=-1) == labels
    error = 0.0
    for lower in range(15):
        there = (certainty >= lower / 15) & ((certainty < (lower + 1) / 15) | (lower == 14))
        if there.any():
            error += there.mean() * abs(right[there].mean() - certainty[there].mean())
    return error


def test_the_best_temperature_mends_what_the_loss_says():
    names = names_of("calibration")
    logits, labels, temperature = names["logits"], names["digits"], names["temperature"]
    held_out, tested = names["held_out"], names["tested"]
    # At the least loss the expected logit is the label's on average: d loss / d (1 / T) is 0.
    seen = logits[held_out]
    expected = (scipy.special.softmax(seen / temperature, axis=-1) * seen).sum(axis=-1)
    at_label = np.take_along_axis(seen, labels[held_out, None], axis=-1)
    np.testing.assert_allclose(expected.mean(), at_label.mean(), rtol=1e-6)

    mended = []
    for t, loss, error in zip((1, temperature), names["losses"], names["errors"], strict=True):
        p = scipy.special.softmax(logits[tested] / t, axis=-1)
        np.testing.assert_allclose(loss, log_loss(labels[tested], p), rtol=1e-12)
        ours = expected_calibration_error(p, labels[tested])
        np.testing.assert_allclose(error / 100, ours, rtol=1e-12)
        mended.append((loss, error))
    assert all(after < before for before, after in zip(*mended, strict=True))


def scikit_learns_logits(model, names):
    """Those of the same penalty, of the digits that are tested."""
    pixels, trained, tested = names["pixels"] / 16, names["trained"], names["tested"]
    return model.fit(pixels[trained], names["digits"][trained]).decision_function(pixels[tested])


def test_a_softmax_and_ten_sigmoids_come_to_scikit_learns():
    names = names_of("softmax_or_sigmoids")
    model = LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=1000)
    ten, logits_of = names["ten"], names["logits_of"]
    ours = logits_of(names["sigmoid_loss"], names["sigmoid_change"], ten)
    theirs = scikit_learns_logits(OneVsRestClassifier(model), names)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)

    ours = logits_of(names["softmax_loss"], names["softmax_change"], ten)
    theirs = scikit_learns_logits(model, names)
    ours, theirs = (each - each.mean(axis=-1, keepdims=True) for each in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_scores_of_a_softmax_share_one_and_those_of_sigmoids_tell_each_class():
    names = names_of("softmax_or_sigmoids")
    shares, answers, label = names["shares"], names["answers"], names["label"]
    right = names["so"][names["tested"]]
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-15)
    count = right.sum(axis=-1)
    by_count = [answers[count == number].sum(axis=-1).mean() for number in range(4)]
    np.testing.assert_allclose(by_count, range(4), atol=0.5)
    assert answers.mean() == pytest.approx(right.mean(), abs=0.02)
    of_one = shares[label == 7].max(axis=-1)  # none of the three is so of it
    assert (of_one > 1 / 3).all()
    assert ((answers > 0.5) == right).mean() > ((shares > names["best"]) == right).mean() + 0.1


def test_the_softmax_of_two_logits_is_the_sigmoid_of_their_difference():
    a, b = np.random.default_rng(1).normal(scale=10, size=(2, 10_000))
    pairs = np.stack([a, b], axis=-1)
    difference, ulp = a - b, np.finfo(np.float64).eps
    # Half an ULP of the difference moves a sigmoid by as much of itself, or less.
    rounding = np.abs(difference) * ulp / 2
    off = np.abs(softmax(pairs, axis=-1)[:, 0] / sigmoid(difference) - 1)
    assert (off <= 2 * 1.6 * ulp + rounding).all()
    logs = log_sigmoid(difference)
    off = np.abs(log_softmax(pairs, axis=-1)[:, 0] - logs)
    assert (off <= 2 * 1.1 * ulp * np.abs(logs) + rounding).all()
