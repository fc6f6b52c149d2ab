"""What the command line says: help, suggestions, JSON, colours, and to whom."""

import errno
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys

import numpy as np
import pytest

import fastsoftmax
from fastsoftmax.command import main, printing, report
from fastsoftmax.cpu import plan
from fastsoftmax.files import by_block

COMMANDS = ["score", "compare", "info", "warmup", "completion"]


def run(*arguments, **options):
    program = [sys.executable, "-m", "fastsoftmax", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False, **options)


def on_a_terminal(*arguments, columns=80, **environment):
    """What a program prints on a terminal of its own, and its status."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update({"COLUMNS": str(columns), "TERM": "xterm-256color"} | environment)
        os.execv(sys.executable, [sys.executable, "-m", "fastsoftmax", *map(str, arguments)])
    printed = b""
    while select.select([terminal], [], [], 120)[0]:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError as error:
            if error.errno == errno.EIO:  # the other end is closed
                break
            raise
        if not piece:
            break
        printed += piece
    os.close(terminal)
    return printed.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# --- help ----------------------------------------------------------------------------------


def test_without_a_command_there_is_help_and_status_2():
    done = run()
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith("Usage: fastsoftmax ")
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    assert run("--help").stdout == run("-h").stdout == done.stdout
    assert run("--help").returncode == 0


def test_every_option_has_help_with_its_default():
    text = " ".join(run("score", "--help").stdout.split())
    for option in (
        "-o --out, --output", "--overwrite", "--function", "--axis", "--temperature", "--dtype",
        "--target", "--top", "--json", "-q --quiet",
    ):  # fmt: skip
        assert option in text
    for default in ("softmax", "-1", "1.0", "the logits'", "cpu", "3", "nothing is written"):
        assert f"[default: {default}" in text
    assert "10 to 30 seconds" in run("warmup", "--help").stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["score", "--over"], ["scor"]])
def test_what_needs_no_library_comes_without_it(arguments):
    program = (
        "import sys; sys.argv = ['fastsoftmax', *sys.argv[1:]];"
        "from fastsoftmax.__main__ import main; main();"
        "print(sorted({'numpy', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_library_is_whole_for_a_program_that_has_the_name_of_the_command(tmp_path):
    (tmp_path / "fastsoftmax").write_text(
        "import sys, fastsoftmax\n"
        "assert 'numba' not in sys.modules\n"
        "for name in fastsoftmax.__all__: getattr(fastsoftmax, name)\n"
        "from fastsoftmax import softmax\n"
        "try: fastsoftmax.hardmax\n"
        "except AttributeError as error: print(softmax([0.0, 0.0]), error)\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "fastsoftmax"],
        env=os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(fastsoftmax.__file__))},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == "[0.5 0.5] module 'fastsoftmax' has no attribute 'hardmax'\n"


# --- suggestions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["scor"], "score"),
        (["warm-up"], "warmup"),
        (["score", "--over"], "--overwrite"),  # and not taken for it
        (["score", "--temprature", "2"], "--temperature"),
        (["score", "--function", "sofmax"], "softmax"),
        (["score", "--function", "log-sofmax"], "log_softmax"),
        (["score", "--dtype", "float46"], "float64"),
        (["score", "--target", "cud"], "cuda"),
        (["completion", "bsh"], "bash"),
    ],
)
def test_what_is_misspelt_is_answered_with_what_may_be_meant(capsys, arguments, meant):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fastsoftmax: ")
    assert printed.err.endswith(f" Did you mean {meant!r}?\n")
    assert printed.err.count("\n") == 1


def test_what_is_near_nothing_is_answered_with_no_suggestion(capsys):
    for arguments in (["--json"], ["score", "-x"], ["hardmax"]):
        assert main(arguments) == 2
        assert "Did you mean" not in capsys.readouterr().err


def test_options_are_not_abbreviated(tmp_path, capsys):
    for option in ("--overw", "--func=softmax", "--js", "--quie"):
        assert main(["score", option]) == 2
        assert "no option" in capsys.readouterr().err


# --- JSON ----------------------------------------------------------------------------------


def strict(text):
    """A JSON text, in which NaN and infinities, which JSON has not, are an error."""

    def fail(token):
        raise AssertionError(token)

    return json.loads(text, parse_constant=fail)


def test_score_as_json(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.array([[0.0, np.log(3), -np.inf], [np.nan, 0, 0]]))
    out = tmp_path / "y.npy"
    options = ["--json", "--function", "log-softmax", "--top", "3", "-o", str(out)]
    assert main(["score", str(tmp_path / "x.npy"), *options]) == 0
    told = strict(capsys.readouterr().out)
    (file,) = told.pop("files")
    assert told == {"function": "log_softmax", "axis": -1, "temperature": 1.0, "target": "cpu"}
    rows = file.pop("first_rows")
    assert min(file.pop("seconds"), file.pop("preparation_seconds")) > 0
    assert file == {
        "input": str(tmp_path / "x.npy"), "output": str(out), "shape": [2, 3], "dtype": "float64",
        "result_dtype": "float64", "rows": 2, "classes": 3, "nan_rows": 1, "bytes": 96,
    }  # fmt: skip
    result = np.load(out)
    assert rows[0] == {
        "row": [0],
        "classes": [[1, result[0, 1]], [0, result[0, 0]], [2, "-Infinity"]],
    }
    assert [value for _, value in rows[1]["classes"]] == ["NaN"] * 3
    fields = [*told, "files", *file, "seconds", "preparation_seconds", "first_rows"]
    assert all(f'"{field}"' in report.__doc__ for field in fields)


def test_the_shipped_digits_as_json(capsys):
    assert main(["score", "--json", "--temperature", "inf", "--function", "entropy"]) == 0
    told = strict(capsys.readouterr().out)
    assert told["temperature"] == "Infinity"
    assert told["files"][0]["input"] == "the shipped digits"
    assert [row["value"] for row in told["files"][0]["first_rows"]] == pytest.approx(
        [np.log(10)] * 3
    )
    assert told["digits"]["checked"] == 0
    assert main(["score", "--json"]) == 0
    digits = strict(capsys.readouterr().out)["digits"]
    assert digits["checked"] == digits["within_2_ulp"] == 17_970
    assert 0.5 < digits["largest_ulp"] < 2
    assert digits["accuracy"] > 0.96
    assert digits["most_certain"]["class"] == digits["most_certain"]["label"]
    assert all(f'"{field}"' in report.__doc__ for field in digits)


def test_info_as_json(capsys):
    assert main(["info", "--json"]) == 0
    told = strict(capsys.readouterr().out)
    assert told["fastsoftmax"] == fastsoftmax.__version__
    assert told["numpy"] == np.__version__
    assert told["cache"].startswith(os.environ["NUMBA_CACHE_DIR"])
    assert told["vector_bits"] in (128, 256, 512)
    assert told["kernels"] == len(plan.all_variants())
    assert "CUDA" in told["gpus"]


def test_warmup_as_json_and_quiet(monkeypatch, capsys):
    monkeypatch.setattr(plan, "common_variants", plan.common_variants()[:1].copy)
    assert main(["warmup", "--json"]) == 0
    told = strict(capsys.readouterr().out)
    assert sorted(told) == ["cache", "kernels", "seconds"]
    assert told["kernels"] == 1
    assert main(["warmup", "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_failure_under_json_is_one_line_on_stderr(capsys):
    assert main(["score", "missing.npy", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1


# --- words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (4e-7, "0.0004 ms"), (0.000042, "0.042 ms"), (0.0004, "0.4 ms"), (0.00312, "3.1 ms"),
        (0.0123, "12 ms"), (0.35, "350 ms"), (0.9996, "1 s"), (1.23, "1.2 s"), (12.3, "12 s"),
        (59.6, "1 min 0 s"), (125, "2 min 5 s"), (7322, "2 h 2 min"),
    ],
)  # fmt: skip
def test_times_in_words(seconds, words):
    assert printing.duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float16(0.1), "0.1"), (np.float16(0.5791), "0.579"), (np.float16(1e-5), "1e-05"),
        (np.float32(0.123456789), "0.123457"), (np.float64(1 / 3), "0.333333"),
        (np.float32(np.nan), "nan"), (np.float64(-np.inf), "-inf"), (np.float32(0.5), "0.5"),
    ],
)  # fmt: skip
def test_numbers_in_words(value, text):
    assert printing.number(value) == text


def test_a_warning_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way of a directory")
    done = run("score", env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "file")})
    assert done.returncode == 0
    assert done.stderr.startswith("fastsoftmax: warning: fastsoftmax keeps its compiled code in ")
    assert done.stderr.count("\n") == 1


def test_quiet_is_quiet(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((3, 4)))
    for source in (tmp_path / "x.npy", tmp_path):
        assert main(["score", str(source), "--quiet"]) == 0
        assert capsys.readouterr() == ("", "")


# --- to a terminal, and elsewhere ------------------------------------------------------------


def test_elsewhere_everything_is_plain(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 4)))
    for arguments in (["score"], ["score", tmp_path], ["info"], ["--help"], ["score", "--help"]):
        done = run(*arguments, env=os.environ | {"COLUMNS": "40", "TERM": "xterm-256color"})
        assert done.stderr == ""
        assert done.stdout.isascii()
        assert "\x1b" not in done.stdout
        assert not re.search(" $", done.stdout, re.MULTILINE)
    assert "softmax of the shipped digits: 1,797 rows x 10 classes, float32" in run("score").stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_has_colours_and_a_bar(tmp_path, columns):
    path = tmp_path / "[red]x[b].npy"  # as it is
    np.save(path, np.zeros((by_block.BLOCK_BYTES // 4000 + 1, 1000), np.float32))
    printed, status = on_a_terminal("score", path, columns=columns)
    assert status == 0
    assert "\x1b[1m" in printed  # bold
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed)
    assert "scoring [red]x[b].npy" in text
    assert "100%" in text
    assert "8,389 rows x 1,000 classes" in text
    helped, status = on_a_terminal("score", "--help", columns=columns)
    assert status == 0
    assert "\x1b[1;36m--axis" in helped
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", helped).splitlines()
    assert max(map(len, lines)) <= columns
    quiet, status = on_a_terminal("score", path, "-q", columns=columns)
    assert (quiet, status) == ("", 0)


@pytest.mark.parametrize("arguments", [["score"], ["info"], ["--help"]])
def test_no_color_is_honoured(arguments):
    printed, _ = on_a_terminal(*arguments, NO_COLOR="1")
    # Bold is no colour.
    assert not re.search(r"\x1b\[[0-9;]*\b(3[0-9]|4[0-9]|9[0-9])\b[0-9;]*m", printed)


@pytest.mark.skipif(os.name == "nt", reason="a pipe of POSIX")
@pytest.mark.parametrize(
    "arguments",
    [["score"], ["info"], ["info", "--json"], ["--help"], [], ["completion", "zsh"],
     ["score", "-o", "-"]],
)  # fmt: skip
def test_a_reader_that_has_gone_is_no_error(arguments):
    main(["score", "-q"])  # so that the child finds compiled code
    read, write = os.pipe()
    os.close(read)
    program = [sys.executable, "-m", "fastsoftmax", *arguments]
    done = subprocess.run(program, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 141
    assert "fastsoftmax: " not in done.stderr
    assert "Error" not in done.stderr


# --- completion ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sc"], ["score"]),
        ([""], COMMANDS),
        (["score", "--ov"], ["--overwrite"]),
        (["score", "--function", "log"], ["log_softmax", "logsumexp"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
)
def test_bash_completes(tmp_path, words, offered):
    """The script that is printed, in bash, with the command as it is installed."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    command = tmp_path / "fastsoftmax"
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m fastsoftmax \"$@\"\n")
    command.chmod(0o755)
    listed = " ".join(f"'{word}'" for word in ["fastsoftmax", *words])
    script = (
        'eval "$(fastsoftmax completion bash)"; '
        f"COMP_WORDS=({listed}); COMP_CWORD={len(words)}; "
        "_fastsoftmax_completion fastsoftmax; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_their_scripts(capsys, shell):
    assert main(["completion", shell]) == 0
    assert f"_FASTSOFTMAX_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_a_rate_is_told_of_what_is_large_enough_to_have_one(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((2000, 1000), np.float32))
    assert main(["score", str(tmp_path / "x.npy")]) == 0
    assert " GB/s (after" in capsys.readouterr().out


def test_what_is_not_near_is_not_suggested(capsys):
    assert main(["score", "--target", "gpu"]) == 2
    assert "mean" not in capsys.readouterr().err
    assert main(["score", "--over"]) == 2
    assert "Did you mean '--overwrite'?" in capsys.readouterr().err
