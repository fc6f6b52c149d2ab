"""SciPy's own test file, shipped in its wheel, against our functions."""

import pytest

from verification import scipy_suite
from verification.checks import Task
from verification.names import USUAL
from verification.report import verdict
from verification.results import SubjectReport
from verification.subjects import load


def test_scipys_own_tests_pass_and_reach_our_functions():
    results = scipy_suite.run_suite(load("fastsoftmax"), Task(USUAL))
    assert [r.status for r in results] == ["held"] * 3, [r.finding for r in results]
    assert [r.function for r in results] == list(USUAL)
    assert not any("does not have" in r.note for r in results)  # nothing was left out
    # 70 calls in SciPy 1.15, 406 in 1.17
    assert [r.elements >= least for r, least in zip(results, (2, 10, 50), strict=True)] == [
        True
    ] * 3
    assert sum(r.elements for r in results) >= 60


@pytest.mark.parametrize("name", ["planted:no_shift", "planted:rows_of_minus_infinity_are_zeros"])
def test_scipys_own_tests_can_fail(name):
    (result,) = scipy_suite.run_suite(load(name), Task(("softmax",)))
    assert result.status == "failed"
    assert "test_" in result.finding.message


@pytest.mark.parametrize(
    ("broken", "kind", "said"),
    [
        ({"_FILES": ("test_logsumexp.py",), "_REQUEST": "ANOTHER"}, "crashed", "did not run: "),
        ({"_LIMIT": 0.01}, "timed out", "did not end within 0.01 s"),
    ],
)
def test_where_scipys_own_tests_do_not_run_that_is_the_finding(broken, kind, said, monkeypatch):
    for name, value in broken.items():
        monkeypatch.setattr(scipy_suite, name, value)
    (result,) = scipy_suite.run_suite(load("scipy"), Task(("softmax",)))
    assert (result.status, result.finding.kind) == ("failed", kind)
    assert said in result.finding.message
    report = SubjectReport("scipy", "1", (), (), (result,))
    assert verdict(report) == f"scipy 1: 1 of 1 checks fail: 1 {kind}"


@pytest.mark.parametrize("name", ["planted:one_axis", "planted:correct_softmax"])
def test_who_takes_one_axis_is_excused_from_several_here_too(name):
    (result,) = scipy_suite.run_suite(load(name), Task(("softmax",)))
    assert result.status == "held", result.finding
    assert ("ask for what it does not have" in result.note) == (name == "planted:one_axis")
