"""The verifier verified: each planted fault fails where it should, a correct softmax nowhere."""

import functools

import pytest

from verification import suites
from verification.checks import Task
from verification.references import FUNCTIONS
from verification.subjects import load


@functools.cache
def failures(name, suite, dtype, function="softmax"):
    """The failed cases of a planted softmax, and the kind of each finding."""
    subject = load(f"planted:{name}", function=function)
    task = Task(functions=(function,))
    found = {}
    for check in suites.checks_of(suite, (dtype,)):
        for result in check.run(subject, task):
            if result.status == "failed":
                found[result.case] = result.finding.kind
    return found


# The fault, the suite that names it, the type, the function, and cases that must be among those
# that fail, with the kinds of their findings.
PLANTED = [
    ("no_shift", "extremes", "float64", "softmax", {"offset_1e4": "wrong"}),
    ("shift_of_the_whole_array", "extremes", "float64", "softmax", {"offset_1e4": "wrong"}),
    ("maximum_that_ignores_nan", "edges", "float64", "softmax", {"nan_last": "wrong"}),
    ("maximum_that_spreads_nan", "edges", "float64", "softmax", {"nan_first": "wrong"}),
    ("float32_running_sum", "random", "float32", "softmax", {"length_2^17": "rounding"}),
    ("float32_running_sum", "hard", "float64", "softmax", {"million_tiny_terms": "rounding"}),
    (
        "reciprocal_of_a_rounded_total",
        "hard",
        "float64",
        "softmax",
        {"search_of_9_logits": "rounding"},
    ),
    ("wrong_axis", "edges", "float64", "softmax", {"axis_0_of_2d": "wrong"}),
    (
        "last_partial_vector_dropped",
        "edges",
        "float64",
        "softmax",
        {"length_9": "wrong", "length_4097": "wrong"},
    ),
    ("first_element_counted_twice", "edges", "float64", "softmax", {"length_101": "wrong"}),
    ("log_of_softmax", "hard", "float64", "log_softmax", {"log_softmax_20_0": "rounding"}),
    (
        "rows_of_minus_infinity_are_zeros",
        "edges",
        "float64",
        "softmax",
        {"minus_infinity_all": "wrong"},
    ),
    ("input_overwritten", "edges", "float64", "softmax", {"two_elements": "changed input"}),
    ("mask_ignored", "edges", "float64", "softmax", {"mask_some": "wrong"}),
    ("temperature_multiplied", "edges", "float64", "softmax", {"temperature_0.25": "wrong"}),
    ("flushed_to_zero", "extremes", "float32", "softmax", {"subnormal_results": "wrong"}),
    (
        "threads_that_disagree",
        "properties",
        "float32",
        "softmax",
        {"same_bits_on_any_threads": "property"},
    ),
    (
        "bits_that_depend_on_the_batch",
        "properties",
        "float32",
        "softmax",
        {"same_bits_in_any_batch": "property"},
    ),
    ("sums_to_less_than_one", "properties", "float32", "softmax", {"sums_to_one": "property"}),
    ("wrong_gradient", "properties", "float64", "softmax", {"gradient": "property"}),
    ("out_ignored", "edges", "float64", "softmax", {"out_fresh_axis_-1": "out"}),
    ("out_that_writes_beside_itself", "edges", "float64", "softmax", {"out_fresh_axis_-1": "out"}),
    ("everything_in_float64", "extremes", "float32", "softmax", {"near_one": "type"}),
    (
        "integers_subtracted_as_they_are",
        "hard",
        "float64",
        "softmax",
        {"unsigned_subtraction": "wrong"},
    ),
    ("strides_ignored", "edges", "float64", "softmax", {"fortran_axis_-1": "wrong"}),
    ("log_of_a_sum_near_one", "hard", "float64", "logsumexp", {"logsumexp_0_-40": "rounding"}),
    (
        "entropy_of_rounded_probabilities",
        *("extremes", "float64", "entropy"),
        {"near_zero_logs": "rounding", "nearly_sure": "rounding"},
    ),
    (
        "entropy_where_0_log_0_is_nan",
        *("hard", "float16", "entropy"),
        {"entropy_0_0_-inf": "wrong", "entropy_65504_-65504": "wrong"},
    ),
    ("entropy_as_a_difference", "extremes", "float64", "entropy", {"offset_1e10": "wrong"}),
    ("entropy_in_bits", "edges", "float64", "entropy", {"ties_2": "wrong", "ties_9": "wrong"}),
    ("entropy_at_temperature_1", "edges", "float64", "entropy", {"temperature_0.25": "wrong"}),
    ("entropy_below_0", "properties", "float64", "entropy", {"0_to_log_n": "property"}),
    ("entropy_above_log_n", "properties", "float64", "entropy", {"0_to_log_n": "property"}),
    ("raises_for_columns", "edges", "float64", "softmax", {"long_columns": "raises"}),
    ("wrong_shape", "extremes", "float64", "softmax", {"near_one": "shape"}),
]


@pytest.mark.parametrize(
    ("name", "suite", "dtype", "function", "expected"), PLANTED, ids=lambda value: str(value)[:40]
)
def test_a_planted_fault_fails_in_the_suite_that_names_it(name, suite, dtype, function, expected):
    found = failures(name, suite, dtype, function)
    assert expected.items() <= found.items(), found


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("suite", suites.DEFAULT)
def test_a_correct_softmax_passes_everything(suite, dtype):
    if suite == "scipy" and dtype != "float64":
        return  # the suite is the same for each type
    subject = load("planted:correct")
    results = [
        result
        for check in suites.checks_of(suite, (dtype,))
        if "10000000" not in check.name and "ten_million" not in check.name  # of fastsoftmax
        for result in check.run(subject, Task(functions=FUNCTIONS))
    ]
    assert [r for r in results if r.status == "failed"] == []
    assert len({r.case for r in results if r.status == "held"}) >= {"scipy": 1, "hard": 10}.get(
        suite, 10
    )
