"""What the verification's manual says, run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import verification
from verification import __main__ as command_line
from verification import command
from verification.names import SUITES
from verification.results import KINDS, SCHEMA

FOLDER = Path(verification.__file__).parent
MANUAL = FOLDER.joinpath("README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for line in re.findall(r"^    (fastsoftmax-verify.*)$", MANUAL, re.MULTILINE)
]
SUBJECT, FROM_PYTHON = re.findall(r"```python\n(.*?)```", MANUAL, re.DOTALL)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The folder of someone who has the modules that the manual speaks of."""
    package = tmp_path / "mypackage"
    package.mkdir()
    package.joinpath("mymodule.py").write_text(
        "from verification.implementations import numpy_stable as my_softmax\n"
        "my_log_softmax = lambda x: x\n"
    )
    tmp_path.joinpath("mymodule.py").write_text(SUBJECT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_each_command_is_one_that_can_be_carried_out(arguments, mine, monkeypatch, capsys):
    empty = verification.Report((), (), 0, "cpu", {}, "2026-01-01")
    ran = []
    monkeypatch.setattr(command, "verify", lambda *given, **options: ran.append(given) or empty)
    if "cuda" in arguments:  # may be missing here
        monkeypatch.setattr(command, "_missing", lambda name, asked: "")
    assert command_line.main(arguments) == 0, capsys.readouterr().err
    assert len(ran) == ("--list" not in arguments)


def test_a_subject_as_it_is_described_is_verified(mine, capfd):
    arguments = next(a for a in COMMANDS if "mymodule:mine" in a)
    assert command_line.main([*arguments, "--dtype", "float32"]) == 1
    out = capfd.readouterr().out
    assert out.startswith("mymodule:mine 1.0: ")
    # softmax holds to what it promises itself, logsumexp does not to 2 ULP
    assert "mymodule:mine random: " in out
    assert "logsumexp float32" in out
    assert " softmax float32" not in out


def test_the_lines_of_python_run():
    names = {}
    exec(FROM_PYTHON, names)
    assert names["report"].subjects[0].failures
    (line,) = re.findall(r"^    (python -c .*)$", MANUAL, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, *shlex.split(line)[1:]], capture_output=True, text=True, check=False
    )
    assert re.search(r"off by [\d.]+ ULP", done.stdout), done.stderr


def test_words_suites_and_fields_are_those_of_the_code():
    said = dict(re.findall(r"^\| `([a-z ]+)` \| (.*?) \|", MANUAL, re.MULTILINE))
    assert KINDS.items() <= said.items()
    assert set(SUITES) <= set(said)
    block = "".join(f"    {line}".rstrip() + "\n" for line in SCHEMA.splitlines())
    assert block in MANUAL


def test_every_file_is_named():
    for path in FOLDER.glob("*.py"):
        assert path.name.startswith("__init__") or f"`{path.name}`" in MANUAL, path.name
