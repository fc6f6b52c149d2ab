"""The verification as people run it: exit statuses, findings, formats, isolation."""

import dataclasses
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax
import verification
from verification import checks, exhaustive, markers, readme, runs, search, subjects
from verification.__main__ import main
from verification.calls import refused_axis
from verification.checks import Task
from verification.isolation import Runner
from verification.names import FUNCTIONS, OPTIONS, REDUCED, SCORING, SUITES
from verification.results import SCHEMA

TESTS = Path(__file__).parent
QUICK = ["--suite", "hard", "--dtype", "float64", "--function", "softmax"]


def of(*names, **options):
    """A small report."""
    options = {"suite": ["extremes"], "dtype": ["float64"], "function": ["softmax"]} | options
    return verification.verify(names, **options)


@pytest.fixture(scope="module")
def report():
    return of("fastsoftmax", "numpy_naive", suite=["random", "extremes"])


# --- wrong calls -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nosuch"], "'nosuch'; there is: fastsoftmax, scipy"),
        (["--suite", "edge"], "'edge' (did you mean 'edges'?); there is: extremes, edges"),
        (["--suite", "hard,edge"], "'edge'"),
        (["scpy"], "did you mean 'scipy'"),
        (["--suite", "hard", "edges"], "have commas between them"),
        # no silent abbreviation
        (["--suit", "hard"], "no such option '--suit' (did you mean '--suite'?)"),
        (["--function", "perplexity"], "'perplexity'; there is: softmax"),
        (["--dtype", "float8"], "'float8' (did you mean 'float64'?); there is: float16"),
        (["--target", "tpu"], "'tpu' (did you mean 'cpu'?); there is: cpu"),
        (["scipy", "--target", "cuda"], "scipy has no target cuda; there is: cpu"),
        (["cupy"], "cupy has no target cpu; there is: cuda"),
        (["--format", "pdf"], "'pdf'; there is: terminal"),
        (["--axis", "middle"], "'middle'; there is: axis"),
        (["--seed", "-1"], "--seed must not be negative, got -1"),
        (["--seed", "x"], "'x' is not a valid integer"),
        (["--time-limit", "0"], "--time-limit must be positive, got 0"),
        (["-o", "no/such/folder/file.json"], "cannot write 'no/such/folder/file.json'"),
        (["-o", ".", "--format", "json"], "cannot write '.'"),
        (["-o", os.devnull, "--format", "json"], f"cannot write {os.devnull!r}"),
        (["-o", "a.pdf"], "the format of 'a.pdf'"),
        (["-o", "a"], "end it with one of .txt, .json, .md, .html"),
        (["-o", "n" * 300 + ".txt"], "n.txt': File name too long"),
        (["--bogus"], "no such option '--bogus'\n"),  # no other is near
        (["planted:no_shift", "--function", "softmax,logsumexp"], "no_shift is one function"),
        (["--axis", "last"], "--axis last is for a module:callable; fastsoftmax knows its axis"),
        (["planted:correct", "--axis", "last"], "planted:correct is a Subject"),
        (["not a:name"], "'not a:name'"),
        (["nomodule:softmax"], "nomodule cannot be imported: ModuleNotFoundError"),
        (["planted:nosuch"], "planted has no function 'nosuch'"),
    ],
)
def test_a_wrong_call_is_one_line_that_says_what_there_is(arguments, named, monkeypatch, capsys):
    monkeypatch.setattr("verification.command.verify", refused_run)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastsoftmax-verify: ")
    assert named in err
    assert len(err.splitlines()) == 1


def refused_run(*given, **options):
    raise AssertionError("it was run")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that none may write")
def test_a_folder_that_cannot_be_written_is_found_before_the_run(monkeypatch, capsys):
    monkeypatch.setattr("verification.command.verify", refused_run)
    assert main(["-o", "/proc/self/report.json"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "cannot write '/proc/self/report.json': " in err


def test_what_is_tried_before_the_run_leaves_nothing_behind(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "verification.command.verify",
        lambda *given, **options: (
            seen.append(list(tmp_path.iterdir()))
            or verification.Report((), (), 0, "cpu", {}, "2026-01-01")
        ),
    )
    assert main(["-o", str(tmp_path / "a.json")]) == 0
    assert seen == [[]]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(("more", "start"), [([], "fastsoftmax "), (["--format", "json"], "{")])
def test_a_minus_is_standard_output(more, start, tmp_path, monkeypatch, capsys, report):
    monkeypatch.setattr("verification.command.verify", lambda *given, **options: report)
    monkeypatch.chdir(tmp_path)
    assert main(["-o", "-", *more]) == 1
    assert capsys.readouterr().out.startswith(start)
    assert list(tmp_path.iterdir()) == []


def test_several_functions_of_a_described_subject_are_verified(capsys):
    arguments = ["planted:correct", "--function", "softmax,log_softmax", "--dtype", "float64"]
    assert main([*arguments, "--suite", "extremes", "--format", "json"]) == 0
    (subject,) = json.loads(capsys.readouterr().out)["subjects"]
    assert subject["functions"] == ["softmax", "log_softmax"]


@pytest.mark.parametrize(
    ("subject", "more"),
    [
        ("scipy", ["--function", "exp", "--suite", "extremes"]),
        ("onnxruntime", ["--suite", "scipy"]),
    ],
)
@pytest.mark.parametrize("form", ["terminal", "html"])
def test_a_run_that_checked_nothing_does_not_pass(subject, more, form, capsys):
    if subjects.known()[subject][1]:
        pytest.skip(f"{subject} is not installed")
    assert main([subject, *more, "--format", form]) == 2
    out, err = capsys.readouterr()
    assert "nothing was checked" in out
    assert err.startswith(f"fastsoftmax-verify: nothing was checked of {subject}")
    assert err.count("\n") == 1


def test_list_shows_subjects_and_suites(capsys):
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    for name in (*subjects.known(), *SUITES):
        assert name in out


# --- runs ------------------------------------------------------------------------------------


def test_fastsoftmax_holds_and_others_do_not(tmp_path, capsys):
    assert main(["fastsoftmax", *QUICK, "-o", str(tmp_path / "a.txt")]) == 0
    assert main(["numpy_stable", *QUICK]) == 1
    out = capsys.readouterr().out
    assert "verification.measure('numpy_stable', 'softmax'" in out
    assert "checks hold" in (tmp_path / "a.txt").read_text()


def test_a_reproduction_repeats_the_failure(capsys):
    (subject,) = of("numpy_stable", suite=["hard"]).subjects
    lines = [r.finding.python for r in subject.failures if "measure(" in r.finding.python]
    assert lines
    for line in lines:
        names = {}
        exec(line.replace("; ", "; error = ", 1), names)
        assert names["error"] > 2
    (again,) = (r for r in subject.failures if r.case == "search_of_9_logits")
    repeated = verification.repeat(
        "numpy_stable",
        suite="hard",
        case="search_of_9_logits",
        function="softmax",
        dtype="float64",
    )
    assert repeated.ulp == again.ulp


def test_what_a_stranger_does_wrong_is_a_finding_and_the_run_goes_on():
    report = of(
        *("nomodule:softmax", "planted:nosuch", "planted:aborts", "planted:no_shift"),
        suite=["edges"],
    )
    missing, lacking, aborting, plain = report.subjects
    assert [r.finding.kind for r in missing.failures] == ["missing"]
    assert [r.finding.kind for r in lacking.failures] == ["missing"]
    crashes = {r.case: r.finding.message for r in aborting.failures}
    assert set(crashes) == {"ties_7", "length_7"}
    assert all("signal 6" in message for message in crashes.values())
    assert len(aborting.results) > 150
    assert not plain.holds


@pytest.mark.parametrize("function", REDUCED)
@pytest.mark.parametrize(("convention", "axis"), [("first", 0), ("rows", -1), ("last", -1)])
def test_one_result_a_row_comes_back_however_the_axis_is_passed(convention, axis, function):
    x = np.arange(60.0).reshape(3, 4, 5)
    call = subjects.by_convention(lambda x: x.max(axis=axis), convention, function)
    for where in (0, 1, -1, (0, 2), None):
        assert np.array_equal(call(x, where), x.max(axis=where))


def test_every_function_of_fastsoftmax_that_has_a_bound_is_verified():
    subject = subjects.load("fastsoftmax")
    assert set(fastsoftmax.ERROR_BOUNDS) <= set(subject.functions)
    assert set(FUNCTIONS) <= set(subject.functions) <= {*FUNCTIONS, *SCORING}
    assert subject.options["softmax"] == set(OPTIONS)
    assert "temperature" not in subject.options["logsumexp"]


def test_a_hang_ends_at_the_time_limit():
    (subject,) = of("planted:hangs", suite=["edges"], time_limit=5).subjects
    hangs = {r.case: r.finding for r in subject.failures}
    assert set(hangs) == {"ties_7", "length_7"}
    assert {f.kind for f in hangs.values()} == {"timed out"}


def test_a_function_that_was_asked_for_and_is_not_there():
    (subject,) = of("sklearn", function=["logsumexp"]).subjects
    assert [r.finding.message for r in subject.failures] == ["sklearn has no logsumexp"]
    (subject,) = of("sklearn", function=[], dtype=["float32"]).subjects
    notes = {r.note for r in subject.results if r.status == "not applicable"}
    assert "sklearn has no log_softmax" in notes


@pytest.mark.parametrize("convention", ["", "axis", "last"])
def test_a_callable_from_the_folder_people_are_in(convention, tmp_path):
    signature = "x" if convention == "last" else "x, axis=-1"
    axis = "-1" if convention == "last" else "axis"
    tmp_path.joinpath("mine.py").write_text(
        "import numpy as np\n"
        f"def soft({signature}):\n"
        "    x = x.astype(np.longdouble)\n"
        f"    e = np.exp(x - x.max(axis={axis}, keepdims=True))\n"
        f"    return (e / e.sum(axis={axis}, keepdims=True)).astype(np.float32)\n"
    )
    run = subprocess.run(
        [
            *(sys.executable, "-m", "verification", "mine:soft", "--suite", "random"),
            *("--dtype", "float32", *(["--axis", convention] if convention else [])),
        ],
        env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "mine:soft: all" in run.stdout


def test_without_mpmath_one_line_says_what_to_install(tmp_path):
    tmp_path.joinpath("mpmath.py").write_text("raise ModuleNotFoundError('no', name='mpmath')")
    run = subprocess.run(
        [sys.executable, "-m", "verification", "--list"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(TESTS.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "mpmath" in run.stderr


def command(*arguments, **options):
    """The command in a process of its own."""
    path = os.pathsep.join([*options.pop("path", ()), str(TESTS.parent)])
    return subprocess.run(
        [sys.executable, "-m", "verification", *arguments],
        **{
            "env": os.environ | {"PYTHONPATH": path, "COLUMNS": "80"},
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "check": False,
            **options,
        },
    )


def test_the_help_needs_nothing_of_the_extra(tmp_path):
    for name in ("mpmath", "scipy", "matplotlib", "ml_dtypes", "pytest"):
        tmp_path.joinpath(f"{name}.py").write_text(
            f"raise ModuleNotFoundError('no', name='{name}')"
        )
    done = command("--help", path=[str(tmp_path)])
    assert done.returncode == 0, done.stderr
    for option in ("--suite", "-o", "--out", "--output", "[default: 0]"):
        assert option in done.stdout
    done = command("--list", path=[str(tmp_path)])
    assert (done.returncode, done.stdout) == (2, "")
    # outside of a checkout there is no '.' to install from
    suggested = "fastsoftmax-verify: needs mpmath: python -m pip install 'fastsoftmax[verify]'\n"
    assert done.stderr == suggested


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [QUICK, ["--list"], ["--help"]])
def test_a_full_disk_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = command(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "fastsoftmax-verify: cannot print: No space left on device\n"


@pytest.mark.parametrize("arguments", [["--list"], ["--help"], [*QUICK, "--format", "json"]])
def test_a_closed_pipe_is_quiet(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = command(*arguments, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_long_run_says_how_long_it_will_take(monkeypatch, capsys):
    empty = verification.Report((), (), 0, "cpu", {}, "2026-01-01")
    monkeypatch.setattr("verification.command.verify", lambda *args, **options: empty)
    assert main(["numpy_naive", "numpy_stable"]) == 0
    said = capsys.readouterr().err
    assert re.fullmatch(r"verifying 2 subjects: about \d+ (seconds|minutes)\n", said)
    for arguments in (["--quiet"], QUICK):
        assert main(arguments) == 0
        assert capsys.readouterr().err == ""


def test_progress_goes_forward_over_all_subjects_and_to_the_end():
    shares = []
    options = {"suite": ["extremes"], "dtype": ["float64"], "workers": 1}
    verification.verify(
        ["numpy_naive", "numpy_stable"],
        **options,
        progress=lambda description, share: shares.append(share),
    )
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1


@pytest.mark.parametrize(
    ("seconds", "said"), [(12, "10 seconds"), (47, "50 seconds"), (100, "2 minutes")]
)
def test_times_in_words(seconds, said):
    from verification.command import duration

    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("name", "start"),
    [("a.json", "{"), ("a.html", "<!DOCTYPE"), ("a.md", "| |"), ("a.txt", "fastsoftmax ")],
)
@pytest.mark.parametrize("option", ["-o", "--out", "--output"])
def test_a_file_is_written_as_its_name_ends(name, start, option, tmp_path, monkeypatch, report):
    monkeypatch.setattr("verification.command.verify", lambda *args, **options: report)
    assert main([option, str(tmp_path / name)]) == 1
    assert tmp_path.joinpath(name).read_text().startswith(start)
    assert main([option, str(tmp_path / name), "--format", "json"]) == 1
    assert tmp_path.joinpath(name).read_text().startswith("{")


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("verification.command.verify", interrupted)
    assert main(["--quiet"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def on_a_gpu(simulated, *arguments):
    """The command, in Numba's simulator of a GPU or where there is none."""
    environment = {name: v for name, v in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    environment |= {"NUMBA_ENABLE_CUDASIM": "1"} if simulated else {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "-m", "verification", "--target", "cuda", *arguments],
        env=environment | {"PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("subject", "named"), [("fastsoftmax", "a GPU"), ("torch", "torch"), ("jax", "jax")]
)
def test_without_a_gpu_its_target_is_one_line(subject, named):
    if subjects.known()[subject][1]:
        pytest.skip(f"{subject} is not installed")
    done = on_a_gpu(False, subject)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("fastsoftmax-verify: --target cuda: ")
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_verification_on_a_simulated_gpu():
    pytest.importorskip("numba_cuda")
    done = on_a_gpu(
        *(True, "--suite", "extremes", "--dtype", "float32"),
        *("--function", "log_softmax", "--format", "json"),
    )
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert report["target"] == "cuda"
    assert "simulator" in report["machine"]["gpu"]
    assert len(report["subjects"][0]["results"]) > 20


def test_a_failure_on_another_target_is_repeated_there():
    subject = dataclasses.replace(subjects.load("numpy_stable"), target="cuda")
    line = checks.repeat_line(subject, {"suite": "hard", "case": "a"}, 0)
    assert "target='cuda'" in line
    assert subject.again("softmax") == ("numpy_stable", "", "softmax", "cuda")


def test_a_subject_that_crashes_again_and_again_is_given_up(monkeypatch):
    monkeypatch.setattr("verification.isolation.PATIENCE", 1)
    (subject,) = of("planted:aborts", suite=["edges"], workers=1).subjects
    kinds = [r.finding.kind for r in subject.failures]
    assert kinds[0] == "crashed"
    assert set(kinds[1:]) == {"given up"}


def test_a_finding_has_a_kind_that_reports_have_a_word_for():
    with pytest.raises(ValueError, match=r"kind must be one of missing, crashed, .*, got 'crash'"):
        verification.Finding("crash", "")


def test_a_fault_of_the_verification_is_called_one():
    with Runner(("numpy_stable", "", "softmax", "cpu")) as runner:
        runner.describe()
        request = {"suite": "hard", "case": "nosuch", "dtype": "float64", "functions": ["softmax"]}
        (result,) = runner.run(request, lambda share: None)
    assert result.finding.kind == "faulty"
    assert "the verification itself failed: KeyError" in result.finding.message


def test_a_search_that_is_ended_by_time_says_how_much_it_measured(monkeypatch):
    def elements():
        task = Task(("softmax", "logsumexp"))
        results = search.search(3, "float64", subjects.load("scipy"), task)
        return [r.elements for r in results], [r.note for r in results]

    assert elements()[0] == [3 * 5000, 5000]
    monkeypatch.setattr(search, "LIMIT", -1.0)
    counts, notes = elements()
    assert counts == [3 * 400, 400]
    assert all("ended by time after 1 of 24" in note for note in notes)


# --- formats ---------------------------------------------------------------------------------


def test_json_is_the_same_but_for_its_date_and_comes_back(report):
    text = verification.to_json(report)
    assert verification.from_json(text) == report
    again = of("fastsoftmax", "numpy_naive", suite=["random", "extremes"])
    without_date = [re.sub('"date": ".*"', "", t) for t in (text, verification.to_json(again))]
    assert without_date[0] == without_date[1]
    document = json.loads(text)
    for key in (*document, *document["subjects"][0], *document["subjects"][1]["results"][3]):
        assert re.search(rf"\b{key}\b", SCHEMA), key
    with pytest.raises(ValueError, match="schema 2: it names no schema"):
        verification.from_json("[]")
    with pytest.raises(ValueError, match="it has schema 1"):
        verification.from_json('{"schema": 1}')


def test_results_say_where_their_bounds_come_from_and_what_they_are(report):
    measured = [r for r in report.subjects[0].results if r.ulp is not None]
    assert measured
    assert {r.source for r in measured} == {"the docstring of fastsoftmax.softmax"}
    assert {r.bound for r in measured} == {fastsoftmax.ERROR_BOUNDS["softmax"]["float64"]}
    assert all("lower bound" in r.evidence for r in measured)
    assert "2 ULP" in report.subjects[1].failures[0].source
    beside = [r.scipy for r in report.subjects[0].results if r.scipy]
    assert max(entry["float64"] for entry in beside) > 2  # SciPy and the truth disagree


def test_markdown_and_terminal(report, capsys):
    from rich.console import Console

    from verification.report import to_markdown, to_terminal

    table = to_markdown(report)
    columns = readme.columns(table)
    assert columns["fastsoftmax"]["`extremes`: checks that hold"].split(" of ")[0] != "0"
    assert "infinite" in columns["numpy_naive"]["`extremes`: checks that hold"]
    to_terminal(report, Console(width=100))
    out = capsys.readouterr().out
    for word in (
        "infinite: NaN or infinity",  # the word, and what it means
        "in hex",
        "fastsoftmax 0",
        "numpy_naive",
        "repeat",
        "logits",
        "expected",
        "bound",
        "same type",
    ):
        assert word in out


def made_up(name, *results):
    return verification.SubjectReport(name, "1.2.3", ("softmax",), ("float32",), results)


def reported(*subjects):
    """A report of subjects that were made up."""
    suites = ("extremes", "properties")
    return verification.Report(subjects, suites, 0, "cpu", {"cpu": "c"}, "2026-01-01")


def printed(width, *subjects):
    """What a report prints on a terminal of that width."""
    from rich.console import Console

    from verification.report import to_terminal

    file = io.StringIO()
    to_terminal(reported(*subjects), Console(width=width, file=file, highlight=False, emoji=False))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_nothing_is_cut_and_the_verdict_comes_first(width):
    name = "a_package.with_long_names.of_modules:and_a_softmax_with_a_name_of_its_own_too"
    finding = verification.Finding("unexplained", "5 ULP", ("0x1p+0",), ("1.0",))
    about = ("extremes", "near_one", "softmax", "float32")
    failed = verification.Result(*about, "failed", ulp=5.0, finding=finding)
    held = verification.Result(*about, "held", ulp=1.0)
    others = [made_up(f"fastsoftmax_{n}", *[failed] * 1234, *[held] * 1234) for n in range(6)]
    lines = printed(width, made_up(name, failed), *others)
    text = "\n".join(lines)
    for n in range(6):
        assert f"fastsoftmax_{n} 1.2.3: 1,234 of 2,468 checks fail: 1,234 unexplained" in text
        assert re.search(rf"┃ fastsoftmax_{n} +┃", text)
    assert name in "".join(lines[:2])
    assert re.search("│ 1,234 of 2,468 +│", text)
    assert "…" not in text
    assert max(map(len, lines)) <= width


def test_another_library_that_holds_is_not_shown_scipys_errors():
    from verification.html import to_html

    about = ("extremes", "near_one", "softmax", "float32")
    beside = {"scipy": {"same type": 5.0}}
    held = verification.Result(*about, "held", ulp=1.0, **beside)
    failed = verification.Result(
        *about, "failed", ulp=9.0, finding=verification.Finding("rounding", "9 ULP"), **beside
    )
    for name, result, shown in (
        ("mine:softmax", held, False),
        ("mine:softmax", failed, True),
        ("fastsoftmax", held, True),
    ):
        assert any("SciPy on the same" in s for s in printed(80, made_up(name, result))) == shown
        assert ("SciPy on the same" in to_html(reported(made_up(name, result)))) == shown


def test_what_is_not_a_number_is_the_worst_and_beyond_every_bound():
    from verification.report import scipy_beside
    from verification.results import worst

    about = ("extremes", "near_one", "softmax", "float32", "held")
    errors = (1.0, math.nan, 3.0)
    results = [verification.Result(*about, ulp=e, scipy={"same type": e}) for e in errors]
    assert worst(results) == math.inf
    assert worst(results[::2]) == 3
    assert worst([]) is None
    (beside,) = scipy_beside(reported(made_up("fastsoftmax", *results)))
    assert beside.cells == ("infinite", "2 of 3", "-", "-")


def test_a_file_has_every_kind_of_failure_and_a_terminal_the_first(tmp_path, monkeypatch, capsys):
    finding = verification.Finding("rounding", "9 ULP")
    failed = [
        verification.Result("extremes", "a", f"f{n}", "float32", "failed", ulp=9.0, finding=finding)
        for n in range(15)
    ]
    monkeypatch.setattr(
        "verification.command.verify", lambda *args, **options: reported(made_up("mine", *failed))
    )
    assert main([]) == 1
    out = capsys.readouterr().out
    assert out.count("9 ULP") == 12
    assert "and 3 more kinds of failure" in " ".join(out.split())
    assert main(["-o", str(tmp_path / "a.txt")]) == 1
    text = tmp_path.joinpath("a.txt").read_text()
    assert text.count("9 ULP") == 15
    assert "more kinds" not in text


def test_html_is_one_file_that_needs_nothing_else(report, tmp_path):
    from verification.html import to_html

    text = to_html(report)
    assert text == to_html(report)
    assert text.count("<svg") >= 5
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", text)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "prefers-color-scheme" in text
    assert "numpy_naive" in text
    assert 'name="viewport"' in text
    assert text.count("<dt>in hexadecimal</dt>") == text.count("<dt>logits</dt>") > 0
    for kind in ("infinite", "unexplained"):
        assert f'<span class="kind">{kind}</span>' in text
        assert f"<dt>{kind}</dt>" in text  # what the word means


def test_reports_escape_what_subjects_say():
    from verification.html import to_html

    finding = verification.Finding("infinite", "<script>alert(1)</script> [red]", got="<b>")
    result = verification.Result("hard", "<i>", "softmax", "float32", "failed", finding=finding)
    subject = verification.SubjectReport("a:<b>", "<1>", ("softmax",), ("float32",), (result,))
    report = verification.Report((subject,), ("hard",), 0, "cpu", {"cpu": "<c>"}, "2026-01-01")
    text = to_html(report)
    assert "<script>alert" not in text
    assert "a:<b>" not in text


# --- the README's tables ---------------------------------------------------------------------

TABLE = "| | fastsoftmax 1 | scipy 2 | torch 3 |\n|---|---|---|---|\n| a | {} | {} | 7.00 |\n"


@pytest.mark.parametrize(
    ("ours", "scipys", "cells"),
    [
        ("1.46", "43", 0),
        ("1.46", "60", 0),  # other vectors than ours
        ("1.46", "99", 1),
        ("1.47", "43", 1),  # our bits are the same everywhere
        ("infinite", "infinite", 2),
    ],
)
def test_a_stale_column_is_found(ours, scipys, cells):
    assert len(readme.stale(TABLE.format(ours, scipys), TABLE.format("1.46", "43"))) == cells


def test_counts_may_differ_a_little_in_scipys_column_alone():
    assert readme.same("250 of 297; 3 infinite", "252 of 297; 1 infinite", exactly=False)
    assert not readme.same("250 of 297; 3 infinite", "252 of 297; 3 infinite", exactly=True)
    assert not readme.same("250 of 297", "150 of 297", exactly=False)
    assert not readme.same("250 of 297", "250 of 300", exactly=False)
    assert not readme.same("250 of 297", "250 of 297; 40 unexplained", exactly=False)


def test_a_table_goes_between_its_markers():
    text = "before\n<!-- verification -->\nold\n<!-- /verification -->\nafter\n"
    new = markers.replaced(text, "verification", "new\n")
    assert new == "before\n<!-- verification -->\nnew\n<!-- /verification -->\nafter\n"
    with pytest.raises(ValueError, match="questions"):
        markers.between(text, "questions")


# --- every float32, in part ------------------------------------------------------------------


def test_pieces_of_the_exhaustive_suite():
    subject = subjects.load("fastsoftmax")
    bits = [0x3F80_0000, 0xC18A_0000, 0xC2A0_0000, 0x7F80_0000, 0x0000_0000]
    total = {}
    for first in bits:
        exhaustive._merge(total, exhaustive._two_class_piece(subject, first // exhaustive.PIECE))
    assert set(total) == {"first", "second", "exp alone"}
    assert sum(sum(c.counts) for c in total.values()) == 2 * len(bits) * exhaustive.PIECE
    assert all(c.counts[2:] == [0, 0] and c.worst < 1.7 for c in total.values())


def test_the_exhaustive_count_sees_each_kind_of_error():
    x = exhaustive.inputs(0x3F80_0000 // exhaustive.PIECE)[:5].copy()
    true = np.exp(x.astype(np.float64))
    right = true.astype(np.float32)
    right[1] = np.nextafter(right[1], np.float32(9))
    right[2] += 2 * np.spacing(right[2])
    right[3] = np.nan
    found = exhaustive.count(right, true, "exp", x)
    assert found.counts == [2, 1, 1, 1]
    assert found.worst == np.inf
    assert found.at == x[3].view(np.uint32)


def test_mpmath_decides_where_float64_leaves_the_rounding_open():
    # exp(x) is 2**-24.4 ULP from the middle here; the truth is passed with the error it may have
    x = np.array([1.0], np.float32)
    middle = np.float64(np.float32(np.e)) + np.float64(np.spacing(np.float32(np.e))) / 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exhaustive, "_exact", lambda decide, x: middle - 1e-9)
        below = exhaustive.count(np.array([np.e], np.float32), np.array([middle]), "exp", x)
        patch.setattr(exhaustive, "_exact", lambda decide, x: middle + 1e-9)
        above = exhaustive.count(np.array([np.e], np.float32), np.array([middle]), "exp", x)
    assert below.counts == [1, 0, 0, 0]
    assert above.counts == [0, 1, 0, 0]


def test_the_kernels_exponential_is_within_an_ulp_wherever_float32_has_one():
    # In part; `PYTHONPATH=tests python -m verification kernel_exponential:exp --function exp
    # --suite exhaustive` is the whole of it, in two minutes.
    subject = subjects.load("kernel_exponential:exp", function="exp")
    total = {}
    for first in (0xBF80_0000, 0xC2A0_0000, 0xC2CF_0000, 0xFF80_0000, 0x3F80_0000, 0x42B1_0000):
        exhaustive._merge(total, exhaustive._exp_piece(subject, first // exhaustive.PIECE))
    assert total["exp"].counts[2:] == [0, 0]
    assert total["exp"].worst < 0.6  # half an ULP, and 2**-26.9 of the value


def test_exp_is_not_asked_of_a_subject_without_one():
    (result,) = exhaustive.exponential(subjects.load("fastsoftmax"), Task(("softmax",)))
    assert result.status == "not applicable"
    assert "no public exponential" in result.note


def test_every_float32_is_not_counted_of_a_function_that_returns_none():
    subject = subjects.load("planted:everything_in_float64")
    (result,) = exhaustive.two_class(subject, Task(("softmax",)))
    assert (result.status, result.returned) == ("not applicable", "float64")
    assert "returns float64" in result.note
    (found,) = runs.types_returned([result])
    assert found.finding.message == "returns float64 for float32 in 1 of 1 checks"


@pytest.mark.parametrize(
    ("name", "x", "worst", "kind"),
    [
        ("flushed_to_zero", -87.5, 7e6, "flushed"),
        ("no_shift", 89.0, np.inf, "infinite"),
        ("sums_to_less_than_one", 1.0, 1e4, "unexplained"),
    ],
)
def test_the_worst_of_every_float32_has_its_kind(name, x, worst, kind):
    subject = subjects.load(f"planted:{name}")
    counts = exhaustive.Counts([1, 0, 0, 1], worst, int(np.float32(x).view(np.uint32)))
    common = verification.Result("exhaustive", "two", "softmax", "float32", "failed")
    bound = subject.bound("softmax", "float32")
    result = exhaustive._result(common, "first", counts, subject, bound)
    assert (result.finding.kind, result.case) == (kind, "two: first")


def test_types_that_a_stranger_refuses_are_not_held_against_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("narrow.py").write_text(
        """
import numpy as np
from fastsoftmax import softmax
def only32(x, axis):
    if x.dtype != np.float32:
        raise TypeError("float32 only")
    return softmax(x, axis=axis)
def none(x, axis):
    raise TypeError("never")
from verification.subjects import Subject
described = Subject("d", "1", {"softmax": only32}, dtypes=("float32", "float64"))
"""
    )
    report = runs.verify(["narrow:only32"], suite=["hard"])
    assert report.holds
    (refused,) = [r for r in report.subjects[0].results if r.case == "type"]
    assert (refused.status, refused.dtype) == ("not applicable", "float64")
    assert refused.note == "narrow:only32 takes no float64: raises TypeError: float32 only"
    asked = runs.verify(["narrow:only32"], suite=["hard"], dtype=["float64"])
    assert {r.finding.kind for r in asked.subjects[0].failures} == {"broken"}
    # Its author has said that it takes both.
    (described,) = runs.verify(["narrow:described"], suite=["hard"]).subjects
    assert {(r.dtype, r.finding.kind) for r in described.failures} == {("float64", "broken")}
    never = runs.verify(["narrow:none"], suite=["hard"])
    assert {r.dtype for r in never.subjects[0].failures} == {"float32", "float64"}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_case_is_excused_for_an_axis_that_fastsoftmax_refuses(function):
    ours = subjects.load("fastsoftmax")
    assert [refused_axis(ours, function, axis) for axis in (0, None, (0, 1))] == ["", "", ""]
