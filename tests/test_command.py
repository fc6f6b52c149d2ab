"""The command line: what it prints, what it writes, and what it refuses."""

import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax
from fastsoftmax.command import main
from fastsoftmax.cpu import plan
from fastsoftmax.files import by_block


def refused(capsys, *arguments):
    """The one line that a wrong call prints, after checking that it is one, and the status."""
    assert main([str(a) for a in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fastsoftmax: ")
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.fixture
def logits(tmp_path):
    x = (np.random.default_rng(0).standard_normal((100, 7)) * 5).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy", x


def test_without_a_file_it_scores_the_shipped_digits(capsys):
    assert main(["score"]) == 0
    printed = capsys.readouterr().out
    assert "1,797 rows x 10 classes" in printed
    assert "accuracy      0.96" in printed
    assert "mean log-loss 0.15" in printed
    assert "most certain" in printed
    assert "least certain" in printed
    assert "17,970 of 17,970 within 2 ULP" in " ".join(printed.split())


def test_the_shipped_logits_are_what_their_script_makes():
    from fastsoftmax import digits
    from fastsoftmax.data.make_digits import make

    made, labels = make()
    shipped, shipped_labels = digits.load()
    np.testing.assert_array_equal(labels, shipped_labels)
    np.testing.assert_allclose(made, shipped, atol=0.05)  # the solver stops at a tolerance
    assert (made.argmax(axis=1) == shipped.argmax(axis=1)).mean() > 0.99


@pytest.mark.parametrize("name", ["softmax", "log-softmax", "logsumexp"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_a_file_is_scored_into_a_file(logits, tmp_path, capsys, name, axis):
    path, x = logits
    out = tmp_path / "out.npy"
    assert main(["score", str(path), "-o", str(out), "--function", name, "--axis", str(axis)]) == 0
    function = getattr(fastsoftmax, name.replace("-", "_"))
    np.testing.assert_array_equal(np.load(out), function(x, axis=axis))
    assert np.load(out).dtype == np.float32
    printed = capsys.readouterr()
    rows, classes = (100, 7) if axis == -1 else (7, 100)
    assert f"{rows} rows x {classes} classes" in printed.out
    assert "GB/s" not in printed.out  # which would say nothing of 3 kB
    assert printed.err == ""


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_blocks_give_what_the_whole_gives(tmp_path, monkeypatch, order, axis):
    x = np.asarray(np.random.default_rng(0).standard_normal((13, 17, 11)), order=order)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 2000)
    for name in ("softmax", "logsumexp"):
        out = tmp_path / "out.npy"
        arguments = ["score", tmp_path / "x.npy", "-o", out, "--function", name, "--axis", axis]
        assert main([*map(str, arguments), "--overwrite"]) == 0
        np.testing.assert_array_equal(np.load(out), getattr(fastsoftmax, name)(x, axis=axis))


def test_type_and_temperature(tmp_path, capsys):
    x = np.array([[1, 5, 3, 2], [4, 0, 0, 1]])
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "out.npy"
    arguments = ["score", tmp_path / "x.npy", "-o", out, "--temperature", "2"]
    assert main([*map(str, arguments), "--dtype", "float16"]) == 0
    right = fastsoftmax.softmax(x, axis=-1, temperature=2, dtype=np.float16)
    np.testing.assert_array_equal(np.load(out), right)
    # what the file holds, in the fewest digits of its type
    assert "1: 0.579   2: 0.2131   3: 0.1293\n" in capsys.readouterr().out


def test_a_wider_type_is_computed_in_it(logits, tmp_path):
    path, x = logits
    out = tmp_path / "out.npy"
    assert main(["score", str(path), "-o", str(out), "--dtype", "float64"]) == 0
    np.testing.assert_array_equal(np.load(out), fastsoftmax.softmax(x.astype(float), axis=-1))


def test_a_name_is_printed_as_it_is(logits, tmp_path, capsys):
    path, _ = logits
    odd = path.rename(tmp_path / "logits[bold]:smile:.npy")
    assert main(["score", str(odd)]) == 0
    assert str(odd) in capsys.readouterr().out


@pytest.mark.parametrize("temperature", ["1e-6", "0", "inf", "1e300"])
def test_the_shipped_digits_at_extreme_temperatures(capsys, temperature):
    assert main(["score", "--temperature", temperature]) == 0
    assert "high-precision check" in capsys.readouterr().out


def test_blocks_are_small_whatever_the_shape(monkeypatch):
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 1 << 16)
    for shape, axis in [((2, 5000, 10), 2), ((5000, 1000), 0), ((3, 4, 5, 600), 1), ((7,), 0)]:
        x = np.zeros(shape, np.float32)
        seen = np.zeros(shape, int)
        for cut in by_block.blocks(x, axis):
            seen[cut] += 1
            assert x[cut].shape[axis] == shape[axis]
            # of a column, a page is read at once
            assert x[cut].nbytes <= max(1 << 16, shape[axis] * 4096)
        assert (seen == 1).all()


def test_an_empty_file_and_one_row(tmp_path, capsys):
    for shape in [(0, 5), (5, 0), (5,), (1,)]:
        np.save(tmp_path / "x.npy", np.zeros(shape))
        out = tmp_path / "out.npy"
        assert main(["score", str(tmp_path / "x.npy"), "-o", str(out), "--overwrite"]) == 0
        np.testing.assert_array_equal(np.load(out), fastsoftmax.softmax(np.zeros(shape), axis=-1))


def test_what_cannot_be_read(tmp_path, capsys):
    out = tmp_path / "out.npy"
    out.write_bytes(b"the old one")

    def bad(path):
        line = refused(capsys, "score", path, "-o", out, "--overwrite")
        assert str(path) in line
        return line

    assert "No such file" in bad(tmp_path / "missing.npy")
    (tmp_path / "folder").mkdir()
    assert "no .npy file in it" in refused(capsys, "score", tmp_path / "folder")
    assert "not the name of a file" in refused(capsys, "score", "")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in bad(tmp_path / "pipe")
    assert "not a regular file" in bad(Path("/dev/zero"))
    (tmp_path / "two\nlines.npy").write_text("hello")
    assert r"two\nlines.npy': not a .npy file" in refused(
        capsys, "score", tmp_path / "two\nlines.npy"
    )
    (tmp_path / "text.npy").write_text("hello")
    assert "not a .npy file" in bad(tmp_path / "text.npy")
    (tmp_path / "empty.npy").write_bytes(b"")
    assert "not a .npy file" in bad(tmp_path / "empty.npy")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert "symbolic links" in bad(tmp_path / "circle")
    np.save(tmp_path / "new.npy", np.zeros(3))
    new = (tmp_path / "new.npy").read_bytes()
    (tmp_path / "new.npy").write_bytes(new.replace(b"NUMPY\x01", b"NUMPY\x04"))
    assert "version 4.0 of .npy is unknown" in bad(tmp_path / "new.npy")
    np.savez(tmp_path / "archive.npz", x=np.zeros(3))
    assert "not a .npy file" in bad(tmp_path / "archive.npz")
    np.save(tmp_path / "objects.npy", np.array([{}, "a"], object), allow_pickle=True)
    assert "never unpickled" in bad(tmp_path / "objects.npy")
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    assert "not real numbers" in bad(tmp_path / "words.npy")
    np.save(tmp_path / "complex.npy", np.array([1j]))
    assert "not real numbers" in bad(tmp_path / "complex.npy")
    np.save(tmp_path / "scalar.npy", np.float32(3))
    assert "a single number" in bad(tmp_path / "scalar.npy")
    assert out.read_bytes() == b"the old one"
    assert sorted(p.name for p in tmp_path.iterdir() if "part" in p.name) == []


def test_a_file_cut_at_every_byte(tmp_path, capsys):
    whole = io.BytesIO()
    np.save(whole, np.zeros((3, 4), np.float32))
    path = tmp_path / "cut.npy"
    for length in range(len(whole.getvalue())):
        path.write_bytes(whole.getvalue()[:length])
        refused(capsys, "score", path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, -4), }",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 3, }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2), }",
        "__import__('os').system('touch pwned')",
        "\x00\xff",
    ],
)
def test_a_header_that_lies(tmp_path, capsys, monkeypatch, header):
    monkeypatch.chdir(tmp_path)
    text = header.encode("latin1").ljust(117) + b"\n"
    path = tmp_path / "lies.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(48))
    refused(capsys, "score", path)
    assert not (tmp_path / "pwned").exists()


def test_wrong_calls(logits, tmp_path, capsys):
    path, _ = logits
    assert "--axis 2 is out of bounds" in refused(capsys, "score", path, "--axis", "2")
    assert "--axis" in refused(capsys, "score", path, "--axis", "rows")
    assert "--temperature must not be negative" in refused(
        capsys, "score", path, "--temperature", "-1"
    )
    assert "nan" in refused(capsys, "score", path, "--temperature", "nan")
    assert "--top must be at least 1" in refused(capsys, "score", path, "--top", "0")
    assert "--dtype': 'int8' is not one of" in refused(capsys, "score", path, "--dtype", "int8")
    assert "is not one of" in refused(capsys, "score", path, "--function", "hardmax")
    assert "is not one of" in refused(capsys, "score", path, "--target", "tpu")
    assert "no command 'bake'" in refused(capsys, "bake")
    assert "extra argument" in refused(capsys, "score", path, path)
    line = refused(capsys, "score", path, "--function", "logsumexp", "--temperature", "2")
    assert "logsumexp has none" in line


def test_what_cannot_be_written(logits, tmp_path, capsys):
    path, _ = logits
    line = refused(capsys, "score", path, "-o", tmp_path / "no" / "out.npy")
    assert f"cannot write '{tmp_path / 'no' / 'out.npy'}'" in line
    there = ["circle.npy", "directory.npy", "pipe.npy", "x.npy"]
    circle, directory, pipe, _ = (tmp_path / name for name in there)
    directory.mkdir()
    assert "not a regular file" in refused(capsys, "score", path, "-o", directory)
    os.mkfifo(pipe)
    assert "not a regular file" in refused(capsys, "score", path, "-o", pipe)
    circle.symlink_to(circle)
    assert "symbolic links" in refused(capsys, "score", path, "-o", circle)
    assert sorted(p.name for p in tmp_path.iterdir()) == there


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk to write to")
@pytest.mark.parametrize("name", ["score", "info"])
def test_what_cannot_be_printed(name):
    main([name])  # so that the child finds compiled code
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "fastsoftmax", name],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == "fastsoftmax: cannot print: No space left on device\n"


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize("closed", ["1", "2", "1 2", "0 1 2"])
@pytest.mark.parametrize("arguments", ["info", "score --top 0"])
def test_streams_that_are_closed(closed, arguments):
    shell = f"exec {sys.executable} -m fastsoftmax {arguments}"
    shell += "".join(f" {stream}>&-" for stream in closed.split())
    result = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert result.returncode == (0 if arguments == "info" else 2)
    assert "Traceback" not in result.stderr
    assert bool(result.stdout) == (arguments == "info" and "1" not in closed)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_names_that_stdout_cannot_encode(logits, tmp_path, encoding):
    path, _ = logits
    odd = path.rename(tmp_path / os.fsdecode("数字\N{SNOWMAN}".encode() + b"\xff.npy"))
    result = subprocess.run(
        [sys.executable, "-m", "fastsoftmax", "score", odd, "-o", tmp_path / "out.npy"],
        capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"\\udcff.npy" in result.stdout
    assert (tmp_path / "out.npy").exists()


@pytest.mark.parametrize("name", ["new/", "new/.", "new/..", "", "."])
def test_what_is_no_name_of_a_file(logits, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "score", logits[0], "-o", name)
    assert line == f"fastsoftmax: cannot write {name!r}: not the name of a file\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_what_does_not_fit_into_memory(logits, monkeypatch, capsys):
    def allocate(*args):
        raise MemoryError("unable to allocate 8 GiB")

    monkeypatch.setattr(by_block, "score", allocate)
    assert "out of memory: unable to allocate 8 GiB" in refused(capsys, "score", logits[0])


def test_a_file_that_python_2_wrote(logits, tmp_path, capsys):
    path, _ = logits
    old = tmp_path / "old.npy"
    old.write_bytes(path.read_bytes().replace(b"(100, 7), }  ", b"(100L, 7L), }"))
    assert old.read_bytes() != path.read_bytes()
    assert main(["score", str(old)]) == 0
    assert capsys.readouterr().err == ""


def test_a_link_is_followed(logits, tmp_path):
    path, x = logits
    (tmp_path / "old.npy").write_bytes(b"the old one")
    (tmp_path / "link.npy").symlink_to(tmp_path / "old.npy")
    assert main(["score", str(path), "-o", str(tmp_path / "link.npy"), "--overwrite"]) == 0
    assert (tmp_path / "link.npy").is_symlink()
    np.testing.assert_array_equal(np.load(tmp_path / "old.npy"), fastsoftmax.softmax(x, axis=-1))


def test_a_single_row_is_reduced_to_one_number(tmp_path):
    np.save(tmp_path / "x.npy", np.array([1.0, 2.0]))
    out = tmp_path / "out.npy"
    arguments = ["score", str(tmp_path / "x.npy"), "-o", str(out), "--function", "logsumexp"]
    assert main(arguments) == 0
    assert np.load(out) == fastsoftmax.logsumexp([1.0, 2.0])


def command(*arguments, **options):
    program = [sys.executable, "-m", "fastsoftmax", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False, **options)


def test_a_full_disk_leaves_the_old_file(logits, tmp_path):
    path, _ = logits
    out = tmp_path / "out.npy"
    out.write_bytes(b"the old one")

    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    main(["score", str(path)])  # so that the child finds compiled code
    result = command("score", path, "-o", out, "--overwrite", preexec_fn=no_large_files)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "cannot write" in result.stderr
    assert out.read_bytes() == b"the old one"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.npy", "x.npy"]


def test_an_interruption_leaves_the_old_file(logits, tmp_path, monkeypatch, capsys):
    path, _ = logits
    out = tmp_path / "out.npy"
    out.write_bytes(b"the old one")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(by_block, "release", interrupt)
    assert main(["score", str(path), "-o", str(out), "--overwrite"]) == 130
    assert out.read_bytes() == b"the old one"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.npy", "x.npy"]


def test_memory_is_bounded_by_the_block_and_not_by_the_file(tmp_path):
    header = {"descr": "<f4", "fortran_order": False}
    program = (
        "import sys; from fastsoftmax.command import main; main(sys.argv[1:]);"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    peaks = []
    for blocks in (2, 20):
        with (tmp_path / "x.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header | {"shape": (blocks * 10_000, 1000)})
            for _ in range(blocks):
                file.write(np.arange(10_000_000, dtype=np.float32).data)
        out = tmp_path / "out.npy"
        arguments = ["score", str(tmp_path / "x.npy"), "-o", str(out), "--overwrite"]
        run = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
        )
        peaks.append(int(run.stdout.split()[-2]))
    # 80 MB and 800 MB, in kB
    assert peaks[1] < peaks[0] + 100_000


def test_info_names_what_matters():
    result = command("info")
    assert result.returncode == 0
    for word in ("fastsoftmax", "NumPy", "Numba", "vectors of", "of our own", "cache", "CUDA"):
        assert word in result.stdout
    assert os.environ["NUMBA_CACHE_DIR"] in result.stdout


def on_a_gpu(simulated, *arguments):
    """A command, in Numba's simulator of a GPU or where there is none."""
    environment = {name: v for name, v in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    # A driver finds none of the GPUs that are here.
    environment |= {"NUMBA_ENABLE_CUDASIM": "1"} if simulated else {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "-m", "fastsoftmax", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_gpu_its_target_is_one_line_and_no_file(logits, tmp_path):
    path, _ = logits
    done = on_a_gpu(False, "score", path, "-o", tmp_path / "out.npy", "--target", "cuda")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("fastsoftmax: --target cuda: calls on a GPU need ")
    assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    shown = on_a_gpu(False, "info")
    assert shown.returncode == 0
    assert "\nCUDA        no: calls on a GPU need " in shown.stdout


@pytest.mark.parametrize("name", ["log-softmax", "logsumexp"])
def test_a_file_is_scored_on_a_simulated_gpu(logits, tmp_path, name):
    pytest.importorskip("numba_cuda")
    path, x = logits
    out = tmp_path / "out.npy"
    arguments = ["score", path, "-o", out, "--function", name, "--axis", "0", "--target", "cuda"]
    done = on_a_gpu(True, *arguments)
    assert done.returncode == 0, done.stderr
    function = getattr(fastsoftmax, name.replace("-", "_"))
    np.testing.assert_array_equal(np.load(out), function(x, axis=0))
    assert "7 rows x 100 classes" in done.stdout
    assert "CUDA        Numba's simulator" in on_a_gpu(True, "info").stdout


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is float64 here")
def test_what_no_gpu_computes_is_refused_before_any_other_file_is_scored(tmp_path):
    pytest.importorskip("numba_cuda")
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    np.save(tmp_path / "b.npy", np.zeros((2, 3), np.longdouble))
    done = on_a_gpu(True, "score", tmp_path, "-o", tmp_path / "out", "--target", "cuda")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a GPU computes no float" in done.stderr
    assert "b.npy" in done.stderr
    assert not (tmp_path / "out").exists()


def test_warmup_compiles_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    common = plan.common_variants()
    # 4 functions, float32 and float64; rows that are short, within a block, and longer, and columns
    # within a block and longer
    assert len(set(common)) == len(common) == 40
    assert set(common) < set(plan.all_variants())
    program = (
        "from fastsoftmax.cpu import plan; common = plan.common_variants();"
        "plan.common_variants = lambda: common[:1];"
        "from fastsoftmax.command import main; main(['warmup'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "1 kernels ready in" in run.stdout
    assert len(list(Path(tmp_path).rglob("*.bin"))) == 5  # the kernel, what calls it, and helpers


def test_warmup_says_where_nothing_can_be_kept(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way of a directory")
    program = (
        "import sys; from fastsoftmax.cpu import plan; plan.compile_variant = lambda variant: None;"
        "from fastsoftmax.command import main; sys.exit(main(['warmup']))"
    )
    env = os.environ | {"NUMBA_CACHE_DIR": str(file)}
    run = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"fastsoftmax: no code can be kept: {file}")
    assert run.stderr.count("\n") == 1


def test_the_version_and_the_module(capsys):
    result = command("--version")
    assert result.stdout == f"fastsoftmax {fastsoftmax.__version__}\n"
