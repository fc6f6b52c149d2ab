"""Files that are read and written: what is there after a kill, a race or a shortened input."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastsoftmax
from fastsoftmax.command import main
from fastsoftmax.cpu import cache
from fastsoftmax.files import by_block, reading, writing

SHAPE = (100, 1000)


@pytest.fixture
def logits(tmp_path):
    x = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy", x


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def start(after_a_block, *arguments, first="", **options):
    """A process that scores, in blocks of ten rows, and does something first and after each."""
    program = f"""
import os, signal, sys
{first}
from fastsoftmax.files import by_block, reading
from fastsoftmax.command import main
by_block.BLOCK_BYTES = 40_000
def after_a_block(array):
    {after_a_block}
by_block.release = after_a_block
sys.exit(main(["score", *sys.argv[1:]]))
"""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def run(after_a_block, *arguments, **options):
    """What such a process prints on stderr, and its status."""
    process = start(after_a_block, *arguments, **options)
    _, line = process.communicate(timeout=120)
    return line, process.returncode


# --- what ends a process --------------------------------------------------------------------


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_to_end_leaves_nothing_behind(logits, tmp_path, name, status):
    number = int(signal.Signals[name])
    # Whoever started the tests may ignore it, as nohup does.
    by_default = "default_int_handler" if name == "SIGINT" else "SIG_DFL"
    line, ended = run(
        f"os.kill(os.getpid(), {number})", logits[0], "-o", tmp_path / "out.npy",
        first=f"signal.signal({number}, signal.{by_default})",
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )  # fmt: skip
    assert ended == status
    assert line == (
        f"fastsoftmax: interrupted by {name}; a result is written whole or not at all\n"
    )
    assert names(tmp_path) == ["x.npy"]


def test_a_hangup_that_is_ignored_stays_ignored(logits, tmp_path):
    line, ended = run(
        "os.kill(os.getpid(), 1)", logits[0], "-o", tmp_path / "out.npy",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert (line, ended) == ("", 0)
    assert names(tmp_path) == ["out.npy", "x.npy"]


def test_signals_are_as_before_when_a_command_has_ended(logits, capsys):
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = [signal.getsignal(number) for number in numbers]
    assert main(["info"]) == 0
    assert main(["bake"]) == 2
    assert [signal.getsignal(number) for number in numbers] == before


def test_what_a_killed_process_left_is_removed_by_the_next(logits, tmp_path, capsys):
    path, x = logits
    out = tmp_path / "out.npy"
    _, ended = run("os.kill(os.getpid(), 9)", path, "-o", out)
    assert ended == -9
    assert len(names(tmp_path)) == 2  # a part and the logits
    prefix = cache.prefix_of_parts(out)
    other = cache.prefix_of_parts(tmp_path / "other.npy")
    others = [f"{prefix}.mine.part", f"{other}.0123456789abcdef.part", f"{prefix}.part"]
    for other in others:
        (tmp_path / other).touch()
    assert main(["score", str(path), "-o", str(out)]) == 0
    assert names(tmp_path) == sorted([*others, "out.npy", "x.npy"])
    np.testing.assert_array_equal(np.load(out), fastsoftmax.softmax(x, axis=-1))


def test_a_name_as_long_as_names_can_be(logits, tmp_path, capsys):
    out = tmp_path / ("x" * 251 + ".npy")
    assert main(["score", str(logits[0]), "-o", str(out)]) == 0
    assert names(tmp_path) == ["x.npy", out.name]


def test_many_signals_at_once_leave_nothing_behind(logits, tmp_path):
    """Of which the later ones come while what the first has ended is removed."""
    again = "[signal.raise_signal(n) for n in (15, 1, 2) * 3]"
    first = f"""import signal
    from fastsoftmax.cpu import cache
    unlink = os.unlink
    def interrupted(path):
        {again}
        unlink(path)
    os.unlink = interrupted
    os.kill(os.getpid(), 15)"""
    line, ended = run(first, logits[0], "-o", tmp_path / "out.npy")
    assert (ended, line.count("\n")) == (143, 1)
    assert names(tmp_path) == ["x.npy"]


def test_of_two_at_once_the_first_to_end_keeps_its_result(logits, tmp_path, capsys):
    path, x = logits
    out = tmp_path / "out.npy"
    wait = "os.write(1, b'.'); os.read(0, 1)"
    slow = start(wait, path, "-o", out, "--temperature", "2")
    assert slow.stdout.read(1) == "."
    assert main(["score", str(path), "-o", str(out)]) == 0
    assert len(names(tmp_path)) == 3  # the other's part is in use
    _, line = slow.communicate(timeout=120)
    assert slow.returncode == 2
    assert line == f"fastsoftmax: cannot write '{out}': it exists; --overwrite replaces it\n"
    assert names(tmp_path) == ["out.npy", "x.npy"]
    np.testing.assert_array_equal(np.load(out), fastsoftmax.softmax(x, axis=-1))


def test_a_part_taken_for_stale_before_it_was_locked_is_made_again(
    logits, tmp_path, monkeypatch, capsys
):
    removed = []

    def remove_first(descriptor, wait):
        if not removed:
            removed.extend(tmp_path.glob(".*.part"))
            removed[0].unlink()

    monkeypatch.setattr(writing, "_lock", remove_first)
    assert main(["score", str(logits[0]), "-o", str(tmp_path / "out.npy")]) == 0
    assert len(removed) == 1
    assert names(tmp_path) == ["out.npy", "x.npy"]


# --- what is there already --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["the input", "a link to it", "a hard link to it", "another file"])
def test_what_exists_is_overwritten_on_request_only(logits, tmp_path, monkeypatch, capsys, kind):
    path, x = logits
    out = path if kind == "the input" else tmp_path / "out.npy"
    if kind == "a link to it":
        out.symlink_to(path)
    elif kind == "a hard link to it":
        out.hardlink_to(path)
    elif kind == "another file":
        out.write_bytes(b"the old one")
    before = names(tmp_path), path.read_bytes(), out.read_bytes()

    def work(*args):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(by_block, "blocks", work)
        assert main(["score", str(path), "-o", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.err == (
        f"fastsoftmax: cannot write '{out}': it exists; --overwrite replaces it\n"
    )
    assert printed.out == ""
    assert (names(tmp_path), path.read_bytes(), out.read_bytes()) == before

    monkeypatch.setattr(by_block, "BLOCK_BYTES", 40_000)
    assert main(["score", str(path), "-o", str(out), "--overwrite"]) == 0
    assert names(tmp_path) == before[0]
    np.testing.assert_array_equal(np.load(out), fastsoftmax.softmax(x, axis=-1))
    if kind in ("a hard link to it", "another file"):
        assert path.read_bytes() == before[1]


def test_a_link_to_nothing_is_written_through(logits, tmp_path, capsys):
    (tmp_path / "link.npy").symlink_to(tmp_path / "out.npy")
    assert main(["score", str(logits[0]), "-o", str(tmp_path / "link.npy")]) == 0
    assert (tmp_path / "link.npy").is_symlink()
    assert np.load(tmp_path / "out.npy").shape == SHAPE


def test_where_there_are_no_hard_links(logits, tmp_path, monkeypatch, capsys):
    path, x = logits
    out = tmp_path / "out.npy"

    def link(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert main(["score", str(path), "-o", str(out)]) == 0
    np.testing.assert_array_equal(np.load(out), fastsoftmax.softmax(x, axis=-1))
    out.unlink()
    monkeypatch.setattr(by_block, "release", lambda array: out.write_bytes(b"another's"))
    assert main(["score", str(path), "-o", str(out)]) == 2
    assert out.read_bytes() == b"another's"
    assert names(tmp_path) == ["out.npy", "x.npy"]


def test_what_is_overwritten_keeps_its_mode(logits, tmp_path, capsys):
    path, _ = logits
    out = tmp_path / "out.npy"
    mask = os.umask(0o027)
    try:
        assert main(["score", str(path), "-o", str(out)]) == 0
        assert out.stat().st_mode & 0o777 == 0o640
        for mode in (0o600, 0o664, 0o444):
            out.chmod(mode)
            assert main(["score", str(path), "-o", str(out), "--overwrite"]) == 0
            assert out.stat().st_mode & 0o777 == mode
    finally:
        os.umask(mask)


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("out", [[], ["-o", "out.npy", "--overwrite"]])
def test_a_file_that_is_cut_while_it_is_read(logits, tmp_path, out):
    path, _ = logits
    (tmp_path / "out.npy").write_bytes(b"the old one")
    change = "os.truncate(sys.argv[1], 200_000)"
    if not out:  # nothing is released then: as the second block is asked for
        change = f"pass\nfill = reading.LogitsFile.__getitem__\n" \
                 f"def cut_first(self, part): {change}; return fill(self, part)\n" \
                 f"reading.LogitsFile.__getitem__ = cut_first"  # fmt: skip
    line, ended = run(change, path, *out, cwd=tmp_path)
    assert ended == 2
    assert line == f"fastsoftmax: cannot read '{path}': truncated while it was read\n"
    assert (tmp_path / "out.npy").read_bytes() == b"the old one"
    assert names(tmp_path) == ["out.npy", "x.npy"]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kept", ["memory", "a file"])
def test_any_part_is_read(tmp_path, monkeypatch, order, kept):
    if kept == "a file":
        monkeypatch.setattr(reading, "_MEMORY_BYTES", 0)
    rng = np.random.default_rng(0)
    for shape in [(7,), (5, 6), (4, 3, 5), (2, 3, 4, 5), (0, 3), (3, 0, 2)]:
        for dtype in ("?", "<i2", ">f4", "<f8"):
            x = np.asarray(rng.integers(0, 100, shape).astype(dtype), order=order)
            np.save(tmp_path / "x.npy", x)
            file = reading.LogitsFile.at(tmp_path / "x.npy")
            assert (file.shape, file.dtype, file.nbytes) == (x.shape, x.dtype, x.nbytes)
            if x.size:
                assert file.strides == x.strides
            for _ in range(20):
                ends = [sorted(rng.integers(0, n + 1, 2).tolist()) for n in shape]
                cut = tuple(slice(*e) if rng.random() < 0.5 else slice(None) for e in ends)
                part = file[cut]
                np.testing.assert_array_equal(part, x[cut])
                assert part.dtype == x.dtype
                assert by_block.nbytes(file, cut) == part.nbytes
            file.close()


def test_a_huge_row_without_room_for_it(logits, monkeypatch, capsys):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reading, "_MEMORY_BYTES", 1000)
    monkeypatch.setattr(writing, "_reserve", full)
    assert main(["score", str(logits[0])]) == 2
    assert capsys.readouterr().err == (
        "fastsoftmax: out of memory: a temporary file of 400000 bytes (TMPDIR says where): "
        "No space left on device\n"
    )
