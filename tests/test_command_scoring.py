"""What `fastsoftmax score` makes instead of all probabilities: best classes, draws, a verdict."""

import io
import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from test_command import refused

import fastsoftmax
from fastsoftmax import sampling
from fastsoftmax.command import judged, main
from fastsoftmax.files import by_block


def draw(*shape, seed=0, dtype=np.float32):
    return (np.random.default_rng(seed).standard_normal(shape) * 5).astype(dtype)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def told(capsys, *arguments):
    """The JSON object of a call that succeeds."""
    assert main(["score", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A file that is scored in several blocks, and its logits, with ties among them."""
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 1000)
    x = draw(100, 7).round()
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy", x


# --- --top -----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("order", ["C", "F"])
def test_top_writes_probabilities_and_beside_them_which_classes(
    tmp_path, monkeypatch, capsys, axis, order
):
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 1000)
    x = np.asarray(draw(13, 8, 11).round(), order=order)
    np.save(tmp_path / "x.npy", x)
    out, more = tmp_path / "y.npy", ["--axis", axis, "--top", 2, "--temperature", 3]
    (file,) = told(capsys, tmp_path / "x.npy", "-o", out, *more)["files"]
    assert (file["output"], file["indices"]) == (str(out), str(tmp_path / "y.indices.npy"))
    assert names(tmp_path) == ["x.npy", "y.indices.npy", "y.npy"]
    probabilities, indices = fastsoftmax.top_k(x, 2, axis, temperature=3)
    np.testing.assert_array_equal(np.load(out), probabilities)
    np.testing.assert_array_equal(np.load(tmp_path / "y.indices.npy"), indices)
    assert np.load(out).dtype == np.float32
    whole = fastsoftmax.softmax(x, axis=axis, temperature=3)
    np.testing.assert_array_equal(probabilities, np.take_along_axis(whole, indices, axis))
    assert file["bytes"] == x.nbytes + probabilities.nbytes + indices.nbytes


def test_top_of_logarithms_and_of_another_type(source, tmp_path):
    path, x = source
    out = tmp_path / "y.npy"
    more = ["--function", "log-softmax", "--dtype", "float64", "--top", "3"]
    assert main(["score", str(path), "-o", str(out), *more]) == 0
    whole = fastsoftmax.log_softmax(x, axis=-1, dtype=np.float64)
    indices = np.load(tmp_path / "y.indices.npy")
    np.testing.assert_array_equal(np.load(out), np.take_along_axis(whole, indices, -1))
    np.testing.assert_array_equal(indices, np.argsort(-x, axis=-1, kind="stable")[:, :3])


def test_top_is_told_in_words_and_as_json(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.log([[0.5, 0.125, 0.375], [0.25, 0.5, 0.25]]))
    out = tmp_path / "y.npy"
    assert main(["score", str(tmp_path / "x.npy"), "--top", "2", "-o", str(out)]) == 0
    first, heading, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith(f"top 2 (softmax) of {tmp_path / 'x.npy'}: 2 rows x 3 classes, float64")
    assert first.endswith(f", written to {out} and {tmp_path / 'y.indices.npy'}")
    assert heading.split("  ") == ["row", "most likely classes (softmax)"]
    assert rows == ["0    0: 0.5   2: 0.375", "1    1: 0.5   0: 0.25"]
    fields = told(capsys, tmp_path / "x.npy", "--top", 2)
    assert (fields["top"], fields["sample"], fields["seed"]) == (2, None, None)
    file = fields["files"][0]
    assert (file["output"], file["indices"]) == (None, None)
    assert [[c for c, _ in row["classes"]] for row in file["first_rows"]] == [[0, 2], [1, 0]]


def test_top_of_rows_that_are_nan_is_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 100)
    x = draw(50, 6)
    x[3, 5], x[7, 2], x[9] = np.nan, np.inf, -np.inf
    np.save(tmp_path / "x.npy", x)
    for name in ("softmax", "log_softmax"):
        fields = told(capsys, tmp_path / "x.npy", "--top", 2, "--function", name)
        assert fields["files"][0]["nan_rows"] == 3


def test_top_of_a_single_row_and_of_none(tmp_path):
    for shape in [(5,), (0, 5), (3, 0, 5)]:
        np.save(tmp_path / "x.npy", np.zeros(shape))
        arguments = [tmp_path / "x.npy", "-o", tmp_path / "y.npy", "--overwrite", "--top", "2"]
        assert main(["score", *map(str, arguments)]) == 0
        assert np.load(tmp_path / "y.npy").shape == (*shape[:-1], 2)
        assert np.load(tmp_path / "y.indices.npy").dtype == np.int64


def test_two_results_on_stdout_follow_each_other(source):
    path, x = source
    command = [sys.executable, "-m", "fastsoftmax", "score", path, "--top", "3", "-q", "-o", "-"]
    stream = io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)
    probabilities, indices = fastsoftmax.top_k(x, 3)
    np.testing.assert_array_equal(np.load(stream), probabilities)
    np.testing.assert_array_equal(np.load(stream), indices)
    assert stream.read() == b""


def test_indices_are_not_written_over_what_is_there(source, tmp_path, capsys, monkeypatch):
    there = tmp_path / "y.indices.npy"
    there.write_bytes(b"another's")
    arguments = ["score", source[0], "--top", "3", "-o", tmp_path / "y.npy"]
    with monkeypatch.context() as patch:
        patch.setattr(by_block, "score", None)  # nothing is computed
        line = refused(capsys, *arguments)
    assert f"cannot write '{there}': it exists; --overwrite replaces it" in line
    assert names(tmp_path) == ["x.npy", "y.indices.npy"]
    # or that appears meanwhile: then neither is written
    there.unlink()
    monkeypatch.setattr(by_block, "release", lambda array: there.write_bytes(b"another's"))
    assert f"cannot write '{there}'" in refused(capsys, *arguments)
    assert names(tmp_path) == ["x.npy", "y.indices.npy"]
    assert there.read_bytes() == b"another's"


# --- --sample --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [300, 4000, 1 << 20])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
def test_draws_are_those_of_one_call_whatever_the_blocks(
    tmp_path, monkeypatch, capsys, block, axis, order
):
    monkeypatch.setattr(by_block, "BLOCK_BYTES", block)
    monkeypatch.setattr(by_block, "_PAGE", 64)
    x = np.asarray(draw(13, 17, 11), order=order)
    np.save(tmp_path / "x.npy", x)
    for count in (1, 5):
        out = tmp_path / f"{count}.npy"
        more = ["--axis", axis, "--sample", count, "--seed", 7, "--temperature", 2]
        fields = told(capsys, tmp_path / "x.npy", "-o", out, *more)
        right = fastsoftmax.sample(x, count, axis, rng=7, temperature=2)
        np.testing.assert_array_equal(np.load(out), right)
        assert fields["files"][0]["result_dtype"] == str(np.load(out).dtype) == "int64"


def test_draws_from_one_row_and_from_none(tmp_path):
    for shape in [(5,), (0, 5), (3, 0, 5)]:
        x = draw(*shape)
        np.save(tmp_path / "x.npy", x)
        arguments = [tmp_path / "x.npy", "-o", tmp_path / "y.npy", "--overwrite"]
        assert main(["score", *map(str, arguments), "--sample", "40", "--seed", "1"]) == 0
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), fastsoftmax.sample(x, 40, rng=1))


def test_many_draws_are_made_in_blocks_that_are_as_small(tmp_path, monkeypatch):
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr(by_block, "_PAGE", 64)
    sizes, sample = [], sampling.sample

    def seen(*given, **how):
        drawn = sample(*given, **how)
        sizes.append(drawn.nbytes)
        return drawn

    monkeypatch.setattr(sampling, "sample", seen)
    np.save(tmp_path / "x.npy", draw(1000, 3))
    assert main(["score", str(tmp_path / "x.npy"), "--sample", "500", "-q"]) == 0
    assert max(sizes) <= 100_000
    assert sum(sizes) >= 1000 * 500 * 8


def test_a_folder_is_drawn_from_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 1000)
    x = draw(100, 7)
    (tmp_path / "in").mkdir()
    for name, part in zip("abc", np.split(x, [30, 31]), strict=True):
        np.save(tmp_path / "in" / f"{name}.npy", part)
    arguments = ["score", tmp_path / "in", "-o", tmp_path / "out", "--sample", 3, "--seed", 0]
    assert main(list(map(str, arguments))) == 0
    drawn = np.concatenate([np.load(tmp_path / "out" / f"{name}.npy") for name in "abc"])
    np.testing.assert_array_equal(drawn, fastsoftmax.sample(x, 3, rng=0))


def test_a_seed_that_was_not_given_is_told(source, capsys):
    path, x = source
    first, second = (told(capsys, path, "--sample", 20) for _ in range(2))
    assert first["seed"] != second["seed"]
    assert 0 <= first["seed"] < 2**48
    right = fastsoftmax.sample(x, 20, rng=first["seed"])
    shown = first["files"][0]["first_rows"]
    assert [row["draws"] for row in shown] == right[:3, :10].tolist()
    assert main(["score", str(path), "--sample", "20", "--seed", "5"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"20 draws a row of {path}: ")
    assert printed[0].endswith(", seed 5")
    right = fastsoftmax.sample(x, 20, rng=5)
    assert printed[1].split() == ["row", "classes", "drawn"]
    assert printed[2].split() == ["0", *map(str, right[0, :10]), "..."]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [(np.nan, "it holds NaN"), (np.inf, "it holds inf"), (-np.inf, "none of its classes is")],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_row_from_which_nothing_can_be_drawn_is_named(
    tmp_path, monkeypatch, capsys, wrong, reason, order
):
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 300)
    monkeypatch.setattr(by_block, "_PAGE", 64)
    x = np.asarray(draw(9, 4, 6), order=order)
    x[7, :, 4] = wrong
    np.save(tmp_path / "x.npy", x)
    line = refused(
        capsys, "score", tmp_path / "x.npy", "--axis", 1, "--sample", 2, "-o", tmp_path / "y.npy"
    )
    assert f"nothing can be drawn from {tmp_path / 'x.npy'}[7, :, 4]: {reason}" in line
    assert names(tmp_path) == ["x.npy"]


# --- --labels --------------------------------------------------------------------------------


def judged_by_hand(x, labels, temperature=1.0):
    """Accuracy, mean log-loss and expected calibration error, by the definitions, exactly."""
    counted = labels != -100
    x, labels = x[counted].astype(np.float64), labels[counted]
    p = fastsoftmax.softmax(x, axis=-1, temperature=temperature)
    log_p = fastsoftmax.log_softmax(x, axis=-1, temperature=temperature)
    loss = math.fsum(-log_p[np.arange(len(x)), labels]) / len(x)
    right, sure = x.argmax(axis=-1) == labels, p.max(axis=-1)
    error = Fraction(0)
    for low in range(15):
        rows = (sure > low / 15) & (sure <= (low + 1) / 15)
        error += abs(int(right[rows].sum()) - sum(map(Fraction, sure[rows].tolist())))
    return right.mean(), loss, float(error / len(x))


def judgement_of(fields):
    labels = fields["labels"]
    return [labels[name] for name in ("accuracy", "mean_log_loss", "expected_calibration_error")]


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.dtype(">i4")])
def test_labels_judge_the_logits(tmp_path, monkeypatch, capsys, kind):
    x = draw(2000, 7, dtype=np.float64)
    labels = np.where(
        np.random.default_rng(1).random(2000) < 0.7,
        x.argmax(axis=-1), np.random.default_rng(2).integers(0, 7, 2000),
    ).astype(kind)  # fmt: skip
    if labels.dtype.kind == "i":
        labels[::10] = -100
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", labels)
    given = [tmp_path / "x.npy", "--labels", tmp_path / "y.npy", "--temperature", 2]
    whole = told(capsys, *given)
    assert judgement_of(whole) == list(judged_by_hand(x, labels, 2.0))
    assert whole["labels"]["mean_log_loss"] == fastsoftmax.cross_entropy(x, labels, temperature=2)
    assert whole["labels"]["ignored"] == (200 if labels.dtype.kind == "i" else 0)
    assert whole["labels"]["rows"] + whole["labels"]["ignored"] == 2000
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 1000)
    blocks = told(capsys, *given)
    assert blocks["labels"] == whole["labels"]
    assert blocks["files"][0]["labels"] == {"input": str(tmp_path / "y.npy")} | whole["labels"]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8])
def test_a_verdict_has_the_same_bits_in_any_order(tmp_path, monkeypatch, capsys, axis, dtype):
    x = draw(13, 8, 11).astype(dtype)
    right = np.random.default_rng(3).integers(0, x.shape[axis], np.delete(x.shape, axis))
    np.save(tmp_path / "y.npy", right)
    said = []
    for block, order in (1 << 20, "C"), (300, "C"), (300, "F"):
        monkeypatch.setattr(by_block, "BLOCK_BYTES", block)
        np.save(tmp_path / "x.npy", np.asarray(x, order=order))
        fields = told(capsys, tmp_path / "x.npy", "--axis", axis, "--labels", tmp_path / "y.npy")
        said.append(fields["labels"])
    assert said[0] == said[1] == said[2]
    rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    by_hand = judged_by_hand(rows, right.reshape(-1))
    assert judgement_of(fields) == pytest.approx(by_hand, rel=1e-6)  # float32's probabilities


def test_every_bin_and_where_they_end(tmp_path, capsys):
    # so many classes are as likely as each other: a 15th, a fifth, a third and 1 end bins
    count = np.arange(1, 31)
    x = np.where(np.arange(30) < count[:, None], 0.0, -np.inf)
    right = (count >= 15) | (count == 6)  # those of the first bin, and none of the second
    labels = np.where(right, 0, count - 1)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", labels)
    fields = told(capsys, tmp_path / "x.npy", "--labels", tmp_path / "y.npy")
    assert judgement_of(fields) == list(judged_by_hand(x, labels))
    assert fields["labels"]["accuracy"] == 18 / 30


def test_labels_go_with_results_of_every_kind(source, tmp_path, capsys):
    path, x = source
    np.save(tmp_path / "y.npy", np.arange(100) % 7)
    alone = told(capsys, path, "--labels", tmp_path / "y.npy")
    assert alone["top"] is None
    assert len(alone["files"][0]["first_rows"][0]["classes"]) == 3
    for more in (["--top", 2], ["--sample", 2], ["--function", "entropy"], []):
        out = tmp_path / "out.npy"
        fields = told(capsys, path, "--labels", tmp_path / "y.npy", "-o", out, "--overwrite", *more)
        assert fields["labels"] == alone["labels"]
    np.testing.assert_array_equal(np.load(out), fastsoftmax.softmax(x, axis=-1))


def test_the_verdict_in_words(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.log([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]]))
    np.save(tmp_path / "y.npy", [0, -100, 0])
    assert main(["score", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "y.npy")]) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "labels        2 count, 1 do not (-100)",
        "accuracy      0.5000",
        "mean log-loss 1.295134 nats",  # -(log 0.75 + log 0.1) / 2
        "expected calibration error 0.575000 (15 bins)",  # (|1 - 0.75| + |0 - 0.9|) / 2
    ]


def test_where_no_row_counts_or_one_is_nan(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.array([[np.nan, 0], [0, -np.inf], [0, 0]]))
    for labels, right in [
        ([-100, -100, -100], ["NaN", "NaN", "NaN"]),
        ([0, -100, 0], [0.5, "NaN", "NaN"]),  # what NaN is the most likely one is not
        ([-100, 1, 0], [0.5, "Infinity", 0.75]),
    ]:
        np.save(tmp_path / "y.npy", labels)
        fields = told(capsys, tmp_path / "x.npy", "--labels", tmp_path / "y.npy")
        assert judgement_of(fields) == right


def test_a_folder_has_a_folder_of_labels(tmp_path, monkeypatch, capsys):
    x, labels = draw(100, 7), np.arange(100) % 7
    for name in ("in", "right"):
        (tmp_path / name).mkdir()
    for name, part in ("a", slice(30)), ("b", slice(30, None)):
        np.save(tmp_path / "in" / f"{name}.npy", x[part])
        np.save(tmp_path / "right" / f"{name}.npy", labels[part])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", labels)
    whole = told(capsys, tmp_path / "x.npy", "--labels", tmp_path / "y.npy")
    fields = told(capsys, tmp_path / "in", "--labels", tmp_path / "right")
    assert fields["labels"] == whole["labels"]
    assert [file["labels"]["rows"] for file in fields["files"]] == [30, 70]
    assert main(["score", str(tmp_path / "in"), "--labels", str(tmp_path / "right")]) == 0
    assert "mean log-loss" in capsys.readouterr().out
    # all that is wrong is said before any is scored
    monkeypatch.setattr(by_block, "score", None)
    line = refused(capsys, "score", tmp_path / "in", "--labels", tmp_path / "y.npy")
    assert "INPUT is a folder, and so is FILE of --labels then" in line
    np.save(tmp_path / "right" / "b.npy", labels)
    line = refused(capsys, "score", tmp_path / "in", "--labels", tmp_path / "right")
    assert f"{tmp_path / 'right' / 'b.npy'} has shape (100,)" in line
    (tmp_path / "right" / "b.npy").unlink()
    line = refused(capsys, "score", tmp_path / "in", "--labels", tmp_path / "right")
    assert f"cannot read '{tmp_path / 'right' / 'b.npy'}'" in line


def test_one_row_has_one_label(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.log([0.25, 0.75]))
    np.save(tmp_path / "y.npy", [1])
    fields = told(capsys, tmp_path / "x.npy", "--labels", tmp_path / "y.npy")
    assert judgement_of(fields) == pytest.approx([1, -math.log(0.75), 0.25])


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (np.zeros(100), "holds float64, not integers"),
        (np.zeros(100, bool), "holds bool, not integers"),
        (np.zeros((100, 7), int), "has shape (100, 7), and one label for each row of"),
        (np.zeros(99, int), "has shape (99,), and one label for each row of"),
        (np.arange(100), "[7] is 7, and classes are from 0 to 6 (-100: not counted)"),
        (np.append([-100] * 99, -1), "[99] is -1, and classes are from 0 to 6"),
        (np.array([0] * 99 + [2**64 - 100], np.uint64), "[99] is 18446744073709551516"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value.dtype),
)
def test_wrong_labels_are_refused_before_anything_is_computed(
    source, tmp_path, monkeypatch, capsys, labels, line
):
    monkeypatch.setattr(by_block, "BLOCK_BYTES", 80)
    monkeypatch.setattr(by_block, "score", None)
    np.save(tmp_path / "y.npy", labels)
    said = refused(
        capsys, "score", source[0], "--labels", tmp_path / "y.npy", "-o", tmp_path / "z.npy"
    )
    assert said.startswith(f"fastsoftmax: --labels: {tmp_path / 'y.npy'}")
    assert line in said
    assert names(tmp_path) == ["x.npy", "y.npy"]


def test_labels_that_cannot_be_read(source, tmp_path, capsys):
    assert "No such file" in refused(capsys, "score", source[0], "--labels", tmp_path / "none.npy")
    assert "not the name of a file" in refused(capsys, "score", source[0], "--labels", "")
    assert "not a regular file" in refused(capsys, "score", source[0], "--labels", tmp_path)


@pytest.mark.parametrize("numbers", [1, 1000, 5000])
def test_sums_are_exact(numbers):
    rng = np.random.default_rng(0)
    x = np.ldexp(rng.random(numbers), rng.integers(-1074, 900, numbers))
    x[:1] = 2.0**-1074
    x[1:2] = np.finfo(float).max
    places = rng.integers(0, 4, numbers)
    sums = judged._steps(x, places, 4)
    for place in range(4):
        exact = sum(map(Fraction, x[places == place].tolist()), Fraction(0))
        assert Fraction(sums[place], judged._STEPS) == exact


# --- the digits, and what makes no sense -----------------------------------------------------


def test_the_shipped_digits_are_scored_in_each_way(tmp_path, capsys):
    from fastsoftmax import digits

    logits, labels = digits.load()
    alone = told(capsys)
    assert judgement_of(alone) == pytest.approx(judged_by_hand(logits, labels), rel=1e-6)
    out = tmp_path / "y.npy"
    fields = told(capsys, "--top", 2, "-o", out)
    assert fields["labels"] == alone["labels"]
    np.testing.assert_array_equal(np.load(out), fastsoftmax.top_k(logits, 2)[0])
    told(capsys, "--sample", 3, "--seed", 4, "-o", out, "--overwrite")
    np.testing.assert_array_equal(np.load(out), fastsoftmax.sample(logits, 3, rng=4))
    np.save(tmp_path / "wrong.npy", (labels + 1) % 10)
    fields = told(capsys, "--labels", tmp_path / "wrong.npy")
    assert fields["labels"]["accuracy"] < 0.04
    # along another axis, those labels are of no row
    assert told(capsys, "--axis", 0)["labels"] is None


@pytest.mark.parametrize("task", [["--top", "2"], ["--sample", "2"], ["--labels", "y.npy"]])
def test_stdin_is_scored_in_each_way(tmp_path, task):
    np.save(tmp_path / "y.npy", np.zeros(50, int))
    stream = io.BytesIO()
    np.save(stream, draw(50, 7))
    command = [sys.executable, "-m", "fastsoftmax", "score", "-", "-q", *task]
    done = subprocess.run(command, input=stream.getvalue(), capture_output=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--top", 0], "--top must be at least 1, got 0"),
        (["--top", 8], "--top 8: {} has 7 classes"),
        (["--sample", 0], "--sample must be at least 1, got 0"),
        (["--sample", 1, "--seed", -1], "--seed must be at least 0, got -1"),
        (["--seed", 3], "--seed 3 without --sample: nothing is drawn"),
        (["--top", 2, "--sample", 1], "--sample 1 and --top 2: results are one or the other"),
        (["--sample", 1, "--function", "entropy"], "--sample 1 and --function entropy: what is "),
        (["--sample", 1, "--dtype", "float64"], "--sample 1 and --dtype float64: what is drawn "),
        (["--top", 1, "--function", "entropy"], "--top 1 and --function entropy: it has one "),
        (["--top", 1, "--function", "logsumexp"], "--top 1 and --function logsumexp: it has one "),
        (["--top", 1, "--target", "cuda"], "--top 1 and --target cuda: that is for "),
        (["--sample", 1, "--target", "cuda"], "--sample 1 and --target cuda: that is for "),
        (["--labels", "y.npy", "--target", "cuda"], "--labels y.npy and --target cuda: that "),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_one_line(source, tmp_path, monkeypatch, capsys, given, line):
    monkeypatch.setattr(by_block, "score", None)
    said = refused(capsys, "score", source[0], "-o", tmp_path / "z.npy", *given)
    assert said.startswith(f"fastsoftmax: {line.format(source[0])}")
    assert names(tmp_path) == ["x.npy"]


@pytest.mark.parametrize("task", [["--top", "1"], ["--sample", "1"], ["--labels", "y.npy"]])
def test_rows_without_classes_have_no_best_one(tmp_path, monkeypatch, capsys, task):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((3, 0)))
    np.save("y.npy", np.full(3, -100))
    assert f"{' '.join(task[:1])}" in refused(capsys, "score", "x.npy", *task)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is float64 here")
def test_long_double_is_judged_and_not_drawn_from(tmp_path, capsys):
    x = draw(20, 5).astype(np.longdouble)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(20) % 5)
    fields = told(capsys, tmp_path / "x.npy", "--labels", tmp_path / "y.npy", "--top", 5)
    assert judgement_of(fields) == pytest.approx(judged_by_hand(x, np.arange(20) % 5))
    line = refused(capsys, "score", tmp_path / "x.npy", "--sample", 1)
    assert line.startswith("fastsoftmax: --sample: none are drawn by float")


def test_the_best_classes_of_a_folder_are_two_files_each(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    parts = {name: draw(20, 5, seed=seed) for seed, name in enumerate("ab")}
    for name, x in parts.items():
        np.save(tmp_path / "in" / f"{name}.npy", x)
    out = tmp_path / "out"
    for more in ([], ["--overwrite"]):
        arguments = ["score", str(tmp_path / "in"), "-o", str(out), "--top", "2", *more]
        assert main(arguments) == 0
        assert "top 2 (softmax) of 2 files: 40 rows, in " in capsys.readouterr().out
        assert names(out) == ["a.indices.npy", "a.npy", "b.indices.npy", "b.npy"]
    for name, x in parts.items():
        probabilities, indices = fastsoftmax.top_k(x, 2)
        np.testing.assert_array_equal(np.load(out / f"{name}.npy"), probabilities)
        np.testing.assert_array_equal(np.load(out / f"{name}.indices.npy"), indices)


def test_two_inputs_whose_results_have_one_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a.npy", "a.indices.npy"):
        np.save(tmp_path / "in" / name, draw(3, 4))
    monkeypatch.setattr(by_block, "score", None)
    line = refused(capsys, "score", tmp_path / "in", "-o", tmp_path / "out", "--top", 2)
    assert f"'{tmp_path / 'out' / 'a.indices.npy'}': results of two inputs have that name" in line
    assert names(tmp_path) == ["in"]


def test_no_probabilities_are_held(tmp_path, monkeypatch):
    """Nor computed: of the library's functions only those are called that are asked for."""
    from fastsoftmax import functions

    np.save(tmp_path / "x.npy", draw(100, 7))
    np.save(tmp_path / "y.npy", np.zeros(100, int))
    monkeypatch.setattr(functions, "softmax", None)
    for task in (["--top", 2], ["--sample", 2], ["--labels", tmp_path / "y.npy"]):
        assert main(["score", str(tmp_path / "x.npy"), *map(str, task)]) == 0
