"""The verifier verified: each planted fault fails where it should, a correct softmax nowhere."""

import functools

import pytest
from thorough import beyond_first

from verification import calls, runs, suites
from verification.checks import Task
from verification.names import DEFAULT, FUNCTIONS
from verification.subjects import load


@functools.cache
def failures(name, suite, dtype, function="softmax", start=""):
    """The failed cases of a planted softmax, and the kind of each finding.

    Only the cases whose names start so are tried.
    """
    subject = load(f"planted:{name}", function=function)
    task = Task(functions=(function,))
    found = {}
    for check in suites.checks_of(suite, (dtype,)):
        for result in check.run(subject, task) if check.name.startswith(start) else ():
            if result.status == "failed":
                found[result.case] = result.finding.kind
    return found


# The fault, the suite that names it, the type, the function, and cases that must be among those
# that fail, with the kinds of their findings.
PLANTED = [
    ("no_shift", "extremes", "float64", "softmax", {"offset_1e4": "infinite"}),
    ("shift_of_the_whole_array", "extremes", "float64", "softmax", {"offset_1e4": "infinite"}),
    ("maximum_that_ignores_nan", "edges", "float64", "softmax", {"nan_last": "infinite"}),
    ("maximum_that_spreads_nan", "edges", "float64", "softmax", {"nan_first": "infinite"}),
    ("float32_running_sum", "random", "float32", "softmax", {"length_2^17": "rounding"}),
    ("float32_running_sum", "hard", "float64", "softmax", {"million_tiny_terms": "rounding"}),
    (
        "reciprocal_of_a_rounded_total",
        "hard",
        "float64",
        "softmax",
        {"search_of_9_logits": "rounding"},
    ),
    ("wrong_axis", "edges", "float64", "softmax", {"axis_0_of_2d": "unexplained"}),
    (
        "last_partial_vector_dropped",
        "edges",
        "float64",
        "softmax",
        {"length_9": "unexplained", "length_4097": "unexplained"},
    ),
    ("first_element_counted_twice", "edges", "float64", "softmax", {"length_101": "unexplained"}),
    ("log_of_softmax", "hard", "float64", "log_softmax", {"log_softmax_20_0": "rounding"}),
    (
        "rows_of_minus_infinity_are_zeros",
        "edges",
        "float64",
        "softmax",
        {"minus_infinity_all": "infinite"},
    ),
    ("input_overwritten", "edges", "float64", "softmax", {"two_elements": "broken"}),
    ("mask_ignored", "edges", "float64", "softmax", {"mask_some": "unexplained"}),
    ("temperature_multiplied", "edges", "float64", "softmax", {"temperature_0.25": "unexplained"}),
    ("flushed_to_zero", "extremes", "float32", "softmax", {"subnormal_results": "flushed"}),
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
    ("out_ignored", "edges", "float64", "softmax", {"out_fresh_axis_-1": "broken"}),
    (
        "out_that_writes_beside_itself",
        "edges",
        "float64",
        "softmax",
        {"out_fresh_axis_-1": "broken"},
    ),
    ("integers_for_results", "extremes", "float32", "softmax", {"near_one": "broken"}),
    ("wrong_shape", "properties", "float32", "softmax", {"same_bits_on_any_threads": "broken"}),
    (
        "integers_subtracted_as_they_are",
        "hard",
        "float64",
        "softmax",
        {"unsigned_subtraction": "unexplained"},
    ),
    ("strides_ignored", "edges", "float64", "softmax", {"fortran_axis_-1": "unexplained"}),
    ("log_of_a_sum_near_one", "hard", "float64", "logsumexp", {"logsumexp_0_-40": "rounding"}),
    (
        "entropy_of_rounded_probabilities",
        *("extremes", "float64", "entropy"),
        {"near_zero_logs": "rounding", "nearly_sure": "rounding"},
    ),
    (
        "entropy_where_0_log_0_is_nan",
        *("hard", "float16", "entropy"),
        {"entropy_0_0_-inf": "infinite", "entropy_65504_-65504": "infinite"},
    ),
    ("entropy_as_a_difference", "extremes", "float64", "entropy", {"offset_1e10": "unexplained"}),
    (
        "entropy_in_bits",
        "edges",
        "float64",
        "entropy",
        {"ties_2": "unexplained", "ties_9": "unexplained"},
    ),
    (
        "entropy_at_temperature_1",
        "edges",
        "float64",
        "entropy",
        {"temperature_0.25": "unexplained"},
    ),
    ("entropy_below_0", "properties", "float64", "entropy", {"0_to_log_n": "property"}),
    ("entropy_above_log_n", "properties", "float64", "entropy", {"0_to_log_n": "property"}),
    ("raises_for_columns", "edges", "float64", "softmax", {"long_columns": "broken"}),
    ("wrong_shape", "extremes", "float64", "softmax", {"near_one": "broken"}),
]


@pytest.mark.parametrize(
    ("name", "suite", "dtype", "function", "expected"), PLANTED, ids=lambda value: str(value)[:40]
)
def test_a_planted_fault_fails_in_the_suite_that_names_it(name, suite, dtype, function, expected):
    found = failures(name, suite, dtype, function)
    assert expected.items() <= found.items(), found


@pytest.mark.parametrize(
    ("name", "suite", "start"),
    [
        *(("everything_in_float64", s, "") for s in ("extremes", "random", "properties", "scipy")),
        ("bytes_as_they_came", "edges", "byte_swapped"),
    ],
)
def test_what_is_right_in_another_type_or_byte_order_fails_nowhere(name, suite, start):
    # each was wrong in all that it did, once
    assert failures(name, suite, "float32", start=start) == {}


def test_errors_are_measured_in_the_type_that_is_returned():
    subject = load("planted:everything_in_float64")
    task = Task(functions=("softmax",))
    checks = suites.checks_of("extremes", ("float32",))
    results = [result for check in checks for result in check.run(subject, task)]
    assert {r.returned for r in results} == {"float64"}
    assert all("float64" in r.note for r in results)
    # half an ULP of float64 is a billionth of one of float32
    assert 0.1 < max(r.ulp for r in results) < 2
    (found,) = runs.types_returned(results)
    assert (found.function, found.finding.kind) == ("softmax", "broken")
    said = f"returns float64 for float32 in {len(results)} of {len(results)} checks"
    assert found.finding.message.startswith(said)


def test_a_rounded_float64_is_found_in_its_own_type():
    # right to half an ULP of float32, of which nothing would be seen there
    found = failures("float32_in_float64", "random", "float32")
    assert found["gaussian_1"] == "unexplained"


@pytest.mark.parametrize(
    ("name", "several", "all_of_them"),
    [
        ("correct_softmax", "", ""),
        ("one_axis", "takes one axis", "takes one axis"),
        ("no_none", "", "takes no axis=None"),
        ("no_several", "takes one axis", ""),
    ],
)
def test_who_takes_which_axes_is_found_by_trying(name, several, all_of_them):
    subject = load(f"planted:{name}")
    assert calls.refused_axis(subject, "softmax", 0) == ""
    for axis, why in (((0, 2), several), (None, all_of_them)):
        said = calls.refused_axis(subject, "softmax", axis)
        assert said == (f"planted:{name} {why}" if why else "")


def test_several_axes_are_checked_of_who_takes_them_and_excused_elsewhere():
    of = {}
    for name in ("everything_in_float64", "one_axis"):
        checks = suites.checks_of("edges", ("float64",))
        (check,) = (c for c in checks if c.name == "axes_(0, 1)_of_3d")
        (of[name],) = check.run(load(f"planted:{name}"), Task(("softmax",)))
    assert [r.status for r in of.values()] == ["held", "not applicable"]
    assert of["one_axis"].note == "planted:one_axis takes one axis"


@pytest.mark.parametrize("dtype", beyond_first(["float32", "float64", "float16", "bfloat16"]))
@pytest.mark.parametrize("suite", [name for name in DEFAULT if name != "scoring"])
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
