"""The suite ``scoring``: each planted fault fails where it should, correct functions nowhere."""

import re

import numpy as np
import pytest
from thorough import beyond_first

import verification
from verification import draws, errors, runs, suites
from verification.__main__ import main
from verification.checks import Task
from verification.definitions import DEFINITIONS, defined
from verification.errors import Bound, rounded, ulp_errors
from verification.exact import Exact
from verification.names import FUNCTIONS, SCORING
from verification.subjects import Subject, load


def results(name, function, dtype, start=""):
    """The results of one function of a module of subjects, of the cases whose names start so."""
    subject = load(name, function=function)
    task = Task(functions=(function,))
    return [
        result
        for check in suites.checks_of("scoring", (dtype,))
        if check.functions == (function,) and check.name.startswith(f"{function}_{start}")
        for result in check.run(subject, task)
    ]


# The fault, the function that has it, the type, and cases that must be among those that fail, with
# the kinds of their findings.
PLANTED = [
    ("ties_by_higher_index", "top_k", "float32", {"ties": "wrong", "long_ties": "wrong"}),
    ("probabilities_of_the_k_alone", "top_k", "float32", {"ordinary": "unexplained"}),
    ("ascending", "top_k", "float64", {"ordinary": "wrong", "nearly_sure": "wrong"}),
    ("k_that_is_cut", "top_k", "float64", {"k_too_large": "wrong"}),
    ("largest_of_all_in_spite_of_a_mask", "top_k", "float64", {"masked": "wrong"}),
    ("top_k_at_temperature_1", "top_k", "float64", {"temperature_0.25": "unexplained"}),
    (
        "label_off_by_one",
        *("label_log_probabilities", "float32"),
        {"ordinary": "unexplained", "impossible": "infinite"},
    ),
    (
        "labels_that_are_cut",
        *("label_log_probabilities", "float32"),
        {"label_5": "wrong", "label_-6": "wrong"},
    ),
    ("log_of_the_probability", "label_log_probabilities", "float64", {"sure": "rounding"}),
    ("ignored_rows_in_the_mean", "cross_entropy", "float64", {"ignored_mean": "unexplained"}),
    (
        "weights_not_in_the_denominator",
        "cross_entropy",
        "float64",
        {"weighted_mean": "unexplained"},
    ),
    (
        "smoothing_over_the_other_classes",
        *("cross_entropy", "float64"),
        {"smoothed_none": "unexplained", "smoothed_mean": "unexplained"},
    ),
    (
        "smoothing_that_weighs_all_classes_alike",
        *("cross_entropy", "float64"),
        {"smoothed_weighted_none": "unexplained"},
    ),
    ("ignored_class_not_ignored", "cross_entropy", "float64", {"ignored_class": "unexplained"}),
    (
        "nothing_for_the_mean_of_no_row",
        *("cross_entropy", "float64"),
        {"all_ignored_mean": "infinite"},
    ),
    ("losses_in_half_precision", "cross_entropy", "float32", {"many": "unexplained"}),
    ("gradient_not_scaled", "cross_entropy_and_gradient", "float64", {"mean": "unexplained"}),
    ("gradient_that_cancels", "cross_entropy_and_gradient", "float64", {"sure": "rounding"}),
    (
        "gradient_by_the_divided_logits",
        *("cross_entropy_and_gradient", "float64"),
        {"temperature_4": "unexplained"},
    ),
    (
        "gradient_of_ignored_rows",
        *("cross_entropy_and_gradient", "float64"),
        {"ignored_mean": "unexplained"},
    ),
    ("draws_masked_classes", "sample", "float32", {"masked": "wrong"}),
    ("draws_at_temperature_1", "sample", "float32", {"temperature_2": "law"}),
    ("draws_of_all_classes", "sample", "float32", {"top_3": "wrong", "top_p": "wrong"}),
    ("top_p_without_the_class_that_reaches_it", "sample", "float32", {"top_p": "law"}),
    ("uniforms_of_24_bits", "sample", "float32", {"equal_classes": "law"}),
    (
        "rest_on_the_last_class",
        *("sample", "float32"),
        {"impossible": "wrong", "law_of_3": "law", "law_of_1000": "law"},
    ),
    ("draws_in_pairs", "sample", "float32", {"law_of_2": "law", "law_of_10": "law"}),
    ("seed_ignored", "sample", "float32", {"same_seed": "property"}),
    ("one_seed_for_all", "sample", "float32", {"same_seed": "property"}),
    ("column_by_column", "sample", "float32", {"same_in_any_batch": "property"}),
    ("draws_of_nan", "sample", "float32", {"of_nan": "wrong", "of_nothing": "wrong"}),
    ("divergence_the_other_way", "kl_divergence", "float64", {"ordinary": "unexplained"}),
    ("divergence_of_logarithms", "kl_divergence", "float64", {"last_bits": "rounding"}),
    ("divergence_where_0_log_0_is_nan", "kl_divergence", "float64", {"impossible": "infinite"}),
    ("product_of_the_other_sign", "softmax_vjp", "float64", {"first": "unexplained"}),
    ("product_without_the_sum", "softmax_vjp", "float64", {"ordinary": "unexplained"}),
    ("product_along_rows", "softmax_jvp", "float64", {"columns": "unexplained"}),
    ("product_of_probabilities", "log_softmax_vjp", "float64", {"label": "unexplained"}),
    ("product_without_the_gradient", "logsumexp_vjp", "float64", {"ordinary": "unexplained"}),
    ("jacobian_that_cancels", "softmax_jacobian", "float64", {"nearly_sure": "rounding"}),
    ("jacobian_without_the_diagonal", "softmax_jacobian", "float64", {"of_3": "unexplained"}),
    ("sigmoid_that_overflows", "sigmoid", "float32", {"tails": "infinite"}),
    ("sigmoid_that_flushes", "sigmoid", "float32", {"tails": "flushed"}),
    ("sigmoid_by_tanh", "sigmoid", "float64", {"tails": "unexplained"}),
    ("log_of_the_sigmoid", "log_sigmoid", "float32", {"tails": "infinite", "ordinary": "rounding"}),
    ("log_sigmoid_by_log", "log_sigmoid", "float64", {"tails": "rounding"}),
]


@pytest.mark.parametrize(
    ("name", "function", "dtype", "expected"), PLANTED, ids=lambda value: str(value)[:50]
)
def test_a_planted_fault_fails_in_the_cases_that_it_concerns(name, function, dtype, expected):
    found = {
        result.case.removeprefix(f"{function}_"): result.finding.kind
        for case in expected
        for result in results(f"planted_scoring:{name}", function, dtype, case)
        if result.status == "failed"
    }
    assert expected.items() <= found.items(), found


@pytest.mark.parametrize("dtype", beyond_first(["float32", "float64", "float16", "bfloat16"]))
@pytest.mark.parametrize("function", SCORING)
def test_a_correct_function_holds_in_every_case(function, dtype):
    found = results(f"correct_scoring:{function}", function, dtype)
    assert {r.case: r.finding for r in found if r.status == "failed"} == {}
    assert {r.status for r in found} == {"held"}
    assert len(found) >= 4


@pytest.mark.parametrize(
    ("case", "function"),
    [
        ("same_bits_in_any_batch", "sigmoid"),
        pytest.param("same_bits_on_any_threads", "log_sigmoid", marks=pytest.mark.thorough),
    ],
)
def test_bits_that_depend_on_more_than_a_row_are_found(case, function):
    (check,) = (c for c in suites.checks_of("scoring", ("float32",)) if c.name == case)
    task = Task(SCORING)
    failed = [r for r in check.run(load("planted_scoring:other_bits"), task) if r.finding]
    assert [(r.function, r.finding.kind) for r in failed] == [(function, "property")]
    held = check.run(load("planted_scoring:correct"), task)
    assert {r.status for r in held} == {"held"}
    assert {r.function for r in held} == set(check.functions)


# --- the definitions -------------------------------------------------------------------------


_WEIGHT = np.array([1, 0.5, 0, 2, 1.0])


def test_every_function_has_a_definition_or_a_law():
    assert {*DEFINITIONS, "sample"} == set(SCORING)


@pytest.mark.parametrize("target", ["labels", "probabilities"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight": _WEIGHT},
        {"label_smoothing": 0.1},
        {"weight": _WEIGHT, "label_smoothing": 0.125},
    ],
)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_losses_and_gradients_are_those_of_pytorch(target, options, reduction):
    torch = pytest.importorskip("torch", reason="PyTorch defines these")
    random = np.random.default_rng(1)
    x = random.standard_normal((6, 5)) * 3
    labels = np.array([0, 4, 2, -100, 1, 3])
    given = labels if target == "labels" else random.dirichlet(np.ones(5), 6)
    loss, gradient = defined(
        "cross_entropy_and_gradient", (x, given), options | {"reduction": reduction}
    )
    leaf = torch.tensor(x, requires_grad=True)
    tensors = {k: torch.tensor(v) if k == "weight" else v for k, v in options.items()}
    theirs = torch.nn.functional.cross_entropy(
        leaf, torch.tensor(given), reduction=reduction, **tensors
    )
    theirs.sum().backward()
    np.testing.assert_allclose(rounded(loss.exact, "float64"), theirs.detach(), rtol=1e-13)
    ours = rounded(gradient.exact, "float64")
    np.testing.assert_allclose(ours, leaf.grad, rtol=1e-12, atol=1e-16)


def test_the_example_of_pytorchs_gradient():
    (product,) = defined("softmax_vjp", (np.array([[0.2732, 0.3780, 0.3489]]), np.eye(3)[:1]), {})
    found = rounded(product.exact, "float64")
    np.testing.assert_allclose(found, [[0.1985, -0.1033, -0.0953]], atol=1e-4)


def test_a_divergence_keeps_its_bits_however_near_the_two_are():
    step = 1e-300
    (found,) = defined("kl_divergence", (np.array([[0.0, step]]), np.zeros((1, 2))), {})
    # d**2 / 8 of two logits that are d apart
    assert rounded(found.exact, "float64") == 0
    assert found.exact.exponent[0] == np.floor(2 * np.log2(step) - 3)
    (found,) = defined("kl_divergence", (np.array([[0.0, 1e-9]]), np.zeros((1, 2))), {})
    np.testing.assert_allclose(rounded(found.exact, "float64"), [1.25e-19], rtol=1e-8)


def test_errors_are_in_ulp_of_the_numbers_that_cancel():
    exact = Exact.of(np.array([1e-40, 1e-40, 0.0]))
    got = np.array([2.0**-52, 2.0**-52, 1.0])
    assert ulp_errors(got, exact, "float64", np.array([1.0, 1.9, 0.5])) == pytest.approx(
        [1, 1, 2.0**53]
    )
    assert ulp_errors(got, exact, "float64", 0.0)[0] > 1e15
    assert errors.ulp_errors(got[:1], exact[:1], "float64") > 1e15


# --- laws ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "count", "p"),
    [
        (5, 10, 0.5),
        (130, 1000, 0.1),
        (70, 1000, 0.1),
        (0, 9, 1e-9),
        (1000, 1000, 0.99),
        (20, 250_000, 1e-5),
    ],
)
def test_the_tail_of_a_binomial_law(least, count, p):
    from scipy.stats import binom

    true = binom.sf(least - 1, count, p)
    assert draws.tail(least, count, p, 1 - p) == pytest.approx(true, rel=1e-8)


def test_chi_squared_takes_rare_cells_together():
    from scipy.stats import chisquare

    drawn, p = np.array([480, 320, 200]), np.array([0.5, 0.3, 0.2])
    true = chisquare(drawn, p * 1000).pvalue
    assert draws.chi_squared(drawn, p * 1000) == pytest.approx(true, rel=1e-9)
    # one of a cell of which a thousandth was expected is no proof
    assert draws.chi_squared(np.array([500, 499, 1]), np.array([500, 499.999, 0.001])) > 0.5


def test_a_law_is_that_of_the_classes_that_are_kept():
    row, there = np.log([0.1, 0.4, 0.1, 0.4]), np.ones(4, bool)
    law = draws.law_of(row, there, 1.0, 3, None)
    np.testing.assert_allclose(law, [1 / 9, 4 / 9, 0, 4 / 9])
    np.testing.assert_allclose(draws.law_of(row, there, 1.0, 3, 0.8), [0, 0.5, 0, 0.5])
    np.testing.assert_allclose(draws.law_of(row, there, 0.5, None, 0.4), [0, 1, 0, 0])
    there[1] = False
    np.testing.assert_allclose(draws.law_of(row, there, 1.0, 1, None), [0, 0, 0, 1])


# --- runs ------------------------------------------------------------------------------------


def of(*names, **options):
    options = {"suite": ["scoring"], "dtype": ["float32"]} | options
    return verification.verify(names, **options)


def test_who_lacks_functions_is_not_asked_for_them():
    (subject,) = of("scipy").subjects
    notes = {r.note for r in subject.results if r.status == "not applicable"}
    has = {"kl_divergence", "sigmoid", "log_sigmoid"}
    assert {f"scipy has no {f}" for f in SCORING if f not in has} <= notes
    assert not any(f"scipy has no {f}" in notes for f in (*has, *FUNCTIONS))
    assert "kl_divergence has no where=" in notes
    assert {r.function for r in subject.results if r.status != "not applicable"} == has
    assert set(subject.functions) >= has


def test_a_failure_is_repeated_by_its_line(capsys):
    (subject,) = of("scipy", function=["kl_divergence"]).subjects
    (failed,) = (r for r in subject.failures if r.case == "kl_divergence_one_bit")
    assert "float32 array of shape" in failed.finding.call
    assert len(failed.finding.values) == len(failed.finding.decimals) == 7
    exec(failed.finding.python)
    assert (
        f"kl_divergence_one_bit kl_divergence float32: {failed.status}" in capsys.readouterr().out
    )


def test_one_row_is_measured_of_functions_of_logits_alone():
    with pytest.raises(ValueError, match=r"must be one of softmax, .*, got 'top_k'"):
        verification.measure("scipy", "top_k", ["0x1p+0"], "float64")


@pytest.mark.parametrize(
    ("name", "function", "status", "said"),
    [
        ("correct_scoring:sigmoid", "sigmoid", 0, "all 10 checks hold"),
        (
            "planted_scoring:ties_by_higher_index",
            "top_k",
            1,
            "wrong: another class than the right one",
        ),
    ],
)
def test_a_function_of_ones_own_on_the_command_line(name, function, status, said, capsys):
    arguments = [name, "--function", function, "--suite", "scoring"]
    assert main([*arguments, "--dtype", "float32"]) == status
    assert said in re.sub(r"\s+", " ", capsys.readouterr().out)
    assert main([*arguments, "--axis", "last"]) == 2
    assert "told its axis by its keyword axis, not 'last'" in capsys.readouterr().err


def answers(function, answer, **options):
    """A subject of one function."""
    return Subject("it", "1", {function: answer}, {function: frozenset(options)})


@pytest.mark.parametrize(
    ("function", "answer", "said"),
    [
        ("top_k", lambda x, k, axis: x, "returns a ndarray, not 2 arrays"),
        ("top_k", lambda x, k, axis: (x[:, :k], x[:, :k]), "returns indices of type float32"),
        ("sigmoid", lambda x: x[:1], "returns the shape (1, 20), not (20, 20)"),
        ("sigmoid", lambda x: x.astype(int), "returns int64, not float32"),
        ("sigmoid", lambda x: np.multiply(x, 2, out=x), "writes into its argument"),
        ("sigmoid", lambda x: 1 / 0, "raises ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_answer_is_broken(function, answer, said):
    check = next(
        c for c in suites.checks_of("scoring", ("float32",)) if c.name == f"{function}_ordinary"
    )
    (result,) = check.run(answers(function, answer), Task((function,)))
    assert (result.status, result.finding.kind) == ("failed", "broken")
    assert result.finding.message == said
    (again,) = check.run(load(f"correct_scoring:{function}", function=function), Task((function,)))
    assert again.status == "held"  # with its operands as they were


def test_draws_of_no_class_are_wrong():
    subject = answers("sample", lambda x, size, axis, rng: np.full((len(x), size), x.shape[1]))
    check = next(
        c for c in suites.checks_of("scoring", ("float32",)) if c.name == "sample_law_of_2"
    )
    (result,) = check.run(subject, Task(("sample",)))
    assert (result.finding.kind, result.case) == ("wrong", "sample_law_of_2")
    assert result.finding.message.startswith("draws class 2 of 2 classes")


def test_who_promises_it_is_held_to_less_of_the_numbers_that_cancel():
    from planted_scoring import product_of_what_cancels

    (check,) = (
        c for c in suites.checks_of("scoring", ("float32",)) if c.name == "softmax_vjp_ordinary"
    )
    task = Task(("softmax_vjp",))
    found = {}
    for share in (1.0, 2.0**-30):
        bound = {("softmax_vjp", "float32"): Bound(2.0, "a promise", share=share)}
        subject = Subject("it", "1", {"softmax_vjp": product_of_what_cancels}, bounds=bound)
        (found[share],) = check.run(subject, task)
    loose, strict = found.values()
    assert (loose.status, strict.status) == ("held", "failed")
    assert "in ULP of the numbers that cancel" in loose.source
    assert strict.finding.kind == "rounding"
    ours = load("fastsoftmax")
    assert ours.bound("softmax_vjp", "float64").share == 2.0**-36
    assert ours.bound("log_softmax_vjp", "float64").share == 1


def test_a_wider_type_of_a_mean_is_no_finding_and_one_of_losses_is():
    from correct_scoring import cross_entropy

    def wider(x, target, axis, reduction):
        return cross_entropy(x.astype(np.float64), target, axis=axis, reduction=reduction)

    subject = answers("cross_entropy", wider, reduction="")
    found = [
        result
        for check in suites.checks_of("scoring", ("float32",))
        if check.name in ("cross_entropy_none", "cross_entropy_mean", "cross_entropy_sum")
        for result in check.run(subject, Task(("cross_entropy",)))
    ]
    assert [(r.status, r.returned) for r in found] == [
        ("held", "float64"),
        ("held", ""),
        ("held", ""),
    ]
    (finding,) = runs.types_returned(found)
    assert finding.finding.message.startswith("returns float64 for float32 in 1 of 3 checks")
