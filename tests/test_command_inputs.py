"""What `fastsoftmax score` reads and writes beside files: pipes, folders, other kinds."""

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import threading

import numpy as np
import pytest
from test_command import refused

import fastsoftmax
from fastsoftmax.arithmetic.formulas import FORMULAS
from fastsoftmax.command import main, options
from fastsoftmax.files import by_block, reading, writing


def draw(*shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 5).astype(np.float32)


def bytes_of(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def command(*arguments, **streams):
    program = [sys.executable, "-m", "fastsoftmax", *map(str, arguments)]
    return subprocess.run(program, capture_output="stdout" not in streams, check=False, **streams)


# --- functions -----------------------------------------------------------------------------


def test_the_functions_are_those_of_the_library():
    assert tuple(formula.name for formula in FORMULAS) == options.FUNCTIONS


@pytest.mark.parametrize("name", ["log_softmax", "log-softmax", "entropy"])
def test_every_function_has_its_name_and_its_temperature(tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 1000)
    np.save(tmp_path / "x.npy", draw(100, 7))
    out = tmp_path / "out.npy"
    arguments = ["score", str(tmp_path / "x.npy"), "--function", name, "--temperature", "2"]
    assert main([*arguments, "--output", str(out)]) == 0
    function = getattr(fastsoftmax, name.replace("-", "_"))
    np.testing.assert_array_equal(np.load(out), function(draw(100, 7), axis=-1, temperature=2))
    assert capsys.readouterr().out.startswith(name.replace("-", "_"))


# --- stdin and stdout ------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("by", ["pipe", "file"])
def test_stdin_is_scored(tmp_path, order, by):
    x = np.asarray(draw(100_000, 7), order=order)  # several pieces of a pipe
    out = tmp_path / "out.npy"
    if by == "pipe":
        done = command("score", "-", "-o", out, input=bytes_of(x))
    else:  # from where it stands
        (tmp_path / "x").write_bytes(b"before" + bytes_of(x))
        with (tmp_path / "x").open("rb") as file:
            os.lseek(file.fileno(), 6, os.SEEK_SET)
            done = command("score", "-", "-o", out, stdin=file)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"softmax of stdin: 100,000 rows x 7 classes" in done.stdout
    np.testing.assert_array_equal(np.load(out), fastsoftmax.softmax(x, axis=-1))


def test_a_pipe_is_read_with_progress_and_no_further_than_its_array(monkeypatch):
    x = draw(100_000, 7)
    told = []

    @contextlib.contextmanager
    def progress(total):
        told.append(total)
        yield told.append

    read, write = os.pipe()
    sender = threading.Thread(target=os.write, args=(write, bytes_of(x) + b"more"))
    sender.start()
    with open(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with contextlib.closing(reading.LogitsFile.of_stdin(progress)) as file:
            np.testing.assert_array_equal(file[:, :], x)
            sender.join()
            assert os.read(read, 100) == b"more"
    os.close(write)
    assert told[0] == sum(told[1:]) == x.nbytes
    assert len(told) > 3


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (b"", "not a .npy file"),
        (b"1,2\n3,4\n", "not a .npy file"),
        (
            bytes_of(np.zeros((3, 4)))[:-1],
            "truncated: (3, 4) of float64 are 96 bytes, 95 are there",
        ),
        (bytes_of(np.zeros(3, complex)), "holds complex128, not real numbers"),
    ],
)
def test_what_stdin_may_not_be(tmp_path, given, line):
    done = command("score", "-", "-o", tmp_path / "out.npy", input=given)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == f"fastsoftmax: cannot read stdin: {line}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_output_is_refused_before_a_pipe_is_read(tmp_path):
    read, write = os.pipe()  # nothing comes, and it is not closed
    try:
        done = command("score", "-", "-o", tmp_path / "out.csv", stdin=read, timeout=60)
    finally:
        os.close(read)
        os.close(write)
    assert done.returncode == 2
    assert done.stderr.endswith(b"out.csv': OUT is .npy, or - for stdout\n")


def test_a_pipe_for_which_there_is_no_room(tmp_path, monkeypatch, capsys):
    def full(*args):
        raise OSError(28, "No space left on device")

    (tmp_path / "fifo").write_bytes(b"")
    read, write = os.pipe()
    os.write(write, bytes_of(np.zeros(100)))
    os.close(write)
    monkeypatch.setattr(writing, "_reserve", full)
    with open(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        line = refused(capsys, "score", "-")
    assert "out of memory: a temporary file of 800 bytes (TMPDIR says where)" in line


def test_a_terminal_and_a_closed_stdin_are_no_input(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert "cannot read stdin: it is closed" in refused(capsys, "score", "-")
    leader, follower = os.openpty()
    with open(follower) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert "cannot read stdin: it is a terminal" in refused(capsys, "score", "-")
    os.close(leader)


def test_results_go_to_stdout_and_the_report_to_stderr(tmp_path):
    x = draw(300, 7)
    np.save(tmp_path / "x.npy", x)
    done = command("score", tmp_path / "x.npy", "-o", "-")
    assert done.returncode == 0
    result = np.load(io.BytesIO(done.stdout))
    np.testing.assert_array_equal(result, fastsoftmax.softmax(x, axis=-1))
    assert b"300 rows x 7 classes" in done.stderr
    quiet = command("score", "-", "-o", "-", "-q", input=bytes_of(x))
    assert (quiet.stdout, quiet.stderr) == (done.stdout, b"")


def test_stdout_takes_one_thing(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "x.npy", draw(3, 4))
    assert "both are for stdout" in refused(
        capsys, "score", tmp_path / "x.npy", "--json", "-o", "-"
    )
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert "stdout is a terminal" in refused(capsys, "score", tmp_path / "x.npy", "-o", "-")


# --- folders -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "in"
    made.mkdir()
    for seed, name in enumerate(("b.npy", "a.NPY", "c.npy")):
        with (made / name).open("wb") as file:
            np.save(file, draw(20 + seed, 7, seed=seed))
    (made / ".hidden.npy").write_text("no array")
    (made / "notes.txt").write_text("no array")
    (made / "folder.npy").mkdir()
    return made


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_folder_is_scored_into_a_folder(folder, tmp_path, capsys):
    out = tmp_path / "out"
    for more in ([], ["--overwrite"]):
        assert main(["score", str(folder), "-o", str(out), *more]) == 0
        assert names(out) == ["a.NPY", "b.npy", "c.npy"]
        for path in out.iterdir():
            right = fastsoftmax.softmax(np.load(folder / path.name), axis=-1)
            np.testing.assert_array_equal(np.load(path), right)
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition(":")[0] for line in lines[:3]] == [
            str(folder / name) for name in names(out)
        ]
        assert lines[3].startswith("softmax of 3 files: 63 rows, in ")
        assert lines[3].endswith(f"written to {out}")
    assert main(["score", str(folder), "-o", str(folder), "--overwrite"]) == 0
    np.testing.assert_array_equal(np.load(folder / "b.npy"), np.load(out / "b.npy"))


def test_what_is_wrong_with_one_file_is_said_before_any_is_scored(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(by_block, "score", None)  # nothing is computed
    out = tmp_path / "out"

    def bad(*arguments):
        line = refused(capsys, "score", folder, "-o", out, *arguments)
        assert not out.is_dir() or names(out) == ["c.npy"]
        return line

    assert "--axis 2 is out of bounds for" in bad("--axis", "2")
    (folder / "bad.npy").write_text("hello")
    assert f"cannot read '{folder / 'bad.npy'}': not a .npy file" in bad()
    (folder / "bad.npy").unlink()
    out.mkdir()
    (out / "c.npy").write_bytes(b"the old one")
    assert f"cannot write '{out / 'c.npy'}': it exists; --overwrite replaces it" in bad()
    (out / "c.npy").unlink()
    (out / "c.npy").mkdir()
    assert f"cannot write '{out / 'c.npy'}': not a regular file" in bad("--overwrite")


@pytest.mark.parametrize("name", ["file", "new.npy", "-", "", "no/new"])
def test_what_is_no_folder_for_results(folder, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file")
    assert f"cannot write '{name}': " in refused(capsys, "score", folder, "-o", name)
    assert names(tmp_path) == ["file", "in"]


def test_a_folder_that_fails_on_the_way_keeps_what_is_whole(folder, tmp_path, monkeypatch, capsys):
    score = by_block.score

    def cut(x, *arguments):
        if x.shape[0] == 20:  # the second of them, b.npy
            raise reading.Unreadable("cannot read 'b.npy': truncated while it was read")
        score(x, *arguments)

    monkeypatch.setattr(by_block, "score", cut)
    out = tmp_path / "out"
    assert main(["score", str(folder), "-o", str(out)]) == 2
    assert capsys.readouterr().err == (
        "fastsoftmax: cannot read 'b.npy': truncated while it was read\n"
    )
    assert names(out) == ["a.NPY"]
    (out / "a.NPY").unlink()
    out.rmdir()
    monkeypatch.setattr(by_block, "score", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["score", str(folder), "-o", str(out)])
    assert not out.exists()


# --- kinds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.csv", "out.npz", "out", "out.npy.txt"])
def test_the_kind_of_an_output_follows_its_name_or_is_refused(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", draw(3, 4))
    for there in (["x.npy"], sorted([name, "x.npy"])):
        line = refused(capsys, "score", "x.npy", "-o", name)
        assert line == f"fastsoftmax: cannot write '{name}': OUT is .npy, or - for stdout\n"
        assert names(tmp_path) == there
        (tmp_path / name).touch()


@pytest.mark.parametrize("name", ['it\'s "x" é.csv', "x.tsv", "x.TXT", "x.npz"])
def test_an_input_of_another_kind_comes_with_the_line_that_converts_it(
    tmp_path, capsys, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    x = draw(3, 4).round(3)
    if name.endswith("npz"):
        np.savez(name, x=x)
    else:
        np.savetxt(name, x, delimiter="," if name.endswith("csv") else "\t")
    line = refused(capsys, "score", name)
    assert "not a .npy file; this makes one: python -c " in line
    program = shlex.split(line.partition("python -c ")[2])
    assert len(program) == 1
    subprocess.run([sys.executable, "-c", *program], check=True)
    np.testing.assert_array_equal(np.load(name.rpartition(".")[0] + ".npy"), x)


# --- NaN -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "entropy"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [None, "float16"])
def test_rows_that_come_out_nan_are_counted(tmp_path, capsys, monkeypatch, name, axis, dtype):
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 1000)
    x = draw(13, 8, 11)
    x[np.random.default_rng(1).random(x.shape) < 0.01] = np.nan
    x[2, 3, 4] = np.inf
    x[5, :, 6] = x[:, 7, 8] = x[9, 1, :] = -np.inf
    np.save(tmp_path / "x.npy", x)
    more = [] if dtype is None else ["--dtype", dtype]
    arguments = [str(tmp_path / "x.npy"), "--function", name, "--axis", str(axis), "-q", *more]
    assert main(["score", *arguments]) == 0
    result = getattr(fastsoftmax, name)(x, axis=axis, dtype=dtype)
    nan = np.isnan(result) if result.ndim == 2 else np.isnan(result).any(axis=axis)
    assert 0 < nan.sum() < nan.size
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(
        f"fastsoftmax: warning: {nan.sum()} of {nan.size} rows of the result are NaN"
    )
    assert printed.err.count("\n") == 1
    assert main(["score", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["nan_rows"] == nan.sum()
