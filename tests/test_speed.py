"""The README's comparison of speed: what is made of a run of the benchmarks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from verification import fused, mapped, pictures, readme, speed, spreads
from verification.markers import between, replaced

ROOT = Path(__file__).parent.parent

ERRORS = [
    spreads.Errors(library, "1", "softmax", spread, worst, worst / 3, 0.0)
    for library, spread, worst in [
        ("fastsoftmax", 1.0, 1.4), ("fastsoftmax", 10.0, 1.5), ("scipy", 1.0, 7.0),
        ("scipy", 10.0, 50.0),
    ]
]  # fmt: skip


def measured(library, function="softmax", dtype="float32", shape="16384 x 1000, axis -1", ms=4.0):
    info = {
        "library": library,
        "function": function,
        "dtype": dtype,
        "regime": "rows",
        "shape": shape,
        "length": int(shape.split(",")[0].split(" x ")[-1]),
        "pace_ms": 2.0,
        "ratio": ms / 2,
        "gigabytes_per_second": 131.072 / ms,
    }
    return {"extra_info": info, "stats": {"min": ms / 1e3}}


def asked(question, shape, ms, wanted, peers_ms, wanted_of_peers=1.0):
    info = {
        "question": question,
        "beside": "logsumexp",
        "dtype": "float32",
        "shape": shape,
        "beside_ms": 2.0,
        "ratio": ms / 2,
        "wanted": wanted,
        "peers_ms": peers_ms,
        "wanted_of_peers": wanted_of_peers,
    }
    return {"extra_info": info, "stats": {"min": ms / 1e3}}


@pytest.fixture
def scoring(run):
    found = [
        asked("top_k, k = 5", "9 x 10", 2.2, 1.3, {"torch": 22.0, "scipy": 4.4}),
        asked("sample", "9 x 10", 7.0, None, {"torch": 6.3}),
        asked("top_k, k = 5", "9 x 99", 2.8, 1.3, {}),
        asked("sample", "9 x 99", 5.0, 3, {"torch": 25.0}),
        asked("sparsemax", "9 x 99", 4.0, None, {"numpy": 36.0}, 10),
    ]
    return run | {"benchmarks": found}


@pytest.fixture
def memory_map(run):
    each = {"anonymous_before": 50 << 20, "anonymous_peak": 120 << 20, "resident_peak": 42e8}
    slow, quick = {"seconds": 3.0, "reading_seconds": 2.0}, {"seconds": 2.5, "reading_seconds": 1.0}
    measured = {
        "shape": [1_000_000, 1000],
        "k": 5,
        "answer": 60 << 20,
        "from": {"the system's cache": each | quick, "the disk": each | slow},
    }
    return {key: run[key] for key in ("datetime", "machine_info")} | {"memory_map": measured}


@pytest.fixture
def run():
    return {
        "datetime": "2026-01-02T03:04:05",
        "machine_info": {
            "cpu_model": "A Processor",
            "code_for": "znver4, 512 bits",
            "threads": 2,
            "versions": {"fastsoftmax": "0.1", "scipy": "1.17", "torch": "2.13", "jax": None},
            "numba": "0.68",
            "python_version": "3.11",
            "missing": {"jax": "not installed"},
        },
        "benchmarks": [
            {"extra_info": {"ratio": 1.0}, "stats": {"min": 1.0}},  # not of a library
            measured("fastsoftmax"),
            measured("scipy", ms=50.0),
            measured("torch", ms=5.0),
            measured("fastsoftmax", shape="100 x 50, axis -1", ms=1.0),
            measured("fastsoftmax", function="logsumexp", ms=3.0),
            measured("scipy", function="logsumexp", ms=30.0),
            measured("torch", function="logsumexp", ms=24.0),
        ],
    }


def test_the_table_holds_our_times_and_everyones_relative_to_them(run):
    lines = speed.table_of(run).split("\n")
    assert lines[0] == "| softmax, float32 | ms | of a copy | scipy | torch |"
    assert lines[2] == "| 16384 x 1000, axis -1 | 4.00 | 2.00 | 12 | 1.25 |"
    assert lines[3] == "| 100 x 50, axis -1 | 1.00 | 0.50 | - | - |"
    assert "| 16384 x 1000, axis -1 | 1.50; 8.00 |" in lines
    assert "2026-01-02" in lines[-2]
    assert "A Processor" in lines[-2]
    assert "Not compared: jax (not installed)." in lines[-2]


def test_the_pictures_show_every_library(run):
    bandwidth = pictures.bandwidth(run)
    for name in ("fastsoftmax", "scipy", "torch", "copy"):
        assert f">{name}<" in bandwidth
    assert ">jax<" not in bandwidth
    assert bandwidth == pictures.bandwidth(run)
    overview = pictures.overview(ERRORS, run)
    assert [f">{name}<" in overview for name in ("scipy", "torch", "onnxruntime")] == [
        True,
        True,
        False,
    ]
    for text in (bandwidth, overview):
        assert "prefers-color-scheme" in text
        assert "#010203" not in text


def test_a_kept_run_makes_the_same_table_and_pictures(run, tmp_path):
    file = tmp_path / "speed.json"
    file.write_text(speed.to_json(run))
    kept = speed.TABLE.read(file)
    assert speed.table_of(kept) == speed.table_of(run)
    assert pictures.bandwidth(kept) == pictures.bandwidth(run)
    assert speed.to_json(kept) == speed.to_json(run)


def test_the_command_writes_both_or_nothing(run, tmp_path, capsys):
    readme, file = tmp_path / "README.md", tmp_path / "run.json"
    kept = tmp_path / speed.FOLDER / speed.TABLE.kept
    kept.parent.mkdir(parents=True)
    readme.write_text("before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n")
    file.write_text(json.dumps(run))
    arguments = [str(file), "--readme", str(readme)]
    assert speed.main(arguments) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- speed -->\n| softmax")
    assert text.endswith("after\n")
    assert "old" not in text
    assert speed.TABLE.read(kept)["datetime"] == run["datetime"]

    kept.unlink()
    partly = {"benchmarks": [measured("fastsoftmax"), {"extra_info": {"question": "of no shape"}}]}
    for content in (
        "{}",
        "[]",
        "not JSON",
        '{"benchmarks": [{"extra_info": {}}]}',
        json.dumps(partly),
    ):
        file.write_text(content)
        assert speed.main(arguments) == 2
        assert str(file) in capsys.readouterr().err
    assert speed.main([str(tmp_path / "absent.json"), *arguments[1:]]) == 2
    assert readme.read_text() == text
    assert not kept.exists()


def test_what_is_made_of_a_softmax_has_a_table_of_its_own(scoring):
    lines = fused.table_of(scoring).split("\n")
    assert lines[0].endswith("| at most; at least | 9 x 10 | 9 x 99 |")
    assert lines[2:5] == [
        "| top_k, k = 5, over logsumexp | 1.3; 1 | 1.10; 2.00 | **1.40**; - |",
        "| sample, over logsumexp | 3; 1 | 3.50; **0.90** | 2.50; 5.00 |",
        "| sparsemax, over logsumexp | -; 10 | - | 2.00; **9.00** |",
    ]
    assert "2 of 3 ratios to what a function is held to, and 2 of 4 to the best" in lines[6]
    assert "scipy 1.17, torch 2.13" in lines[-2]
    assert "jax" not in lines[-2]


def test_a_memory_map_is_told_by_time_and_memory(memory_map):
    lines = mapped.table_of(memory_map).split("\n")
    assert lines[0].startswith("| 1,000,000 x 1,000 float32, 4.0 GB, to the top 5 |")
    assert lines[2] == "| from the system's cache | 2.50 | 1.00 | 70 MiB | 4.2 GB |"
    assert lines[3] == "| from the disk | 3.00 | 2.00 | 70 MiB | 4.2 GB |"
    assert "60 MiB are the answer; the probabilities would be 4.0 GB" in lines[5]
    assert "has 50 MiB before it begins" in lines[5]


def test_a_run_writes_all_tables_that_it_holds_and_no_others(run, scoring, memory_map, tmp_path):
    readme, file = tmp_path / "README.md", tmp_path / "run.json"
    folder = tmp_path / speed.FOLDER
    folder.mkdir(parents=True)
    markers = [table.marker for table in speed.TABLES]
    empty = "".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in markers)
    both = run | {"benchmarks": run["benchmarks"] + scoring["benchmarks"]}
    for given, named in [
        (run, ["speed"]), (scoring, ["scoring"]), (both, ["speed", "scoring"]),
        (memory_map, ["memory_map"]),
    ]:  # fmt: skip
        readme.write_text(empty)
        file.write_text(json.dumps(given))
        assert speed.main([str(file), "--readme", str(readme)]) == 0
        assert {path.stem for path in folder.iterdir()} == set(named)
        for table in speed.TABLES:
            shown = table.section(folder)
            assert (shown in readme.read_text()) == (table.marker in named)
            assert (shown == table.not_yet) == (table.marker not in named)
            (folder / table.kept).unlink(missing_ok=True)


def test_the_readme_shows_the_runs_that_are_kept():
    text = (ROOT / "README.md").read_text()
    for table in speed.TABLES:
        section = table.section(ROOT / speed.FOLDER)
        assert f"<!-- {table.marker} -->\n{section}<!-- /{table.marker} -->" in text, table.marker


def test_the_check_of_the_readme_finds_what_is_not_kept(tmp_path, monkeypatch, scoring, capsys):
    text = (ROOT / "README.md").read_text()
    for name in ("verify", "to_markdown"):  # what these measure is checked elsewhere
        monkeypatch.setattr(readme, name, lambda given: between(text, "verification"))
    monkeypatch.setattr(spreads, "measured", lambda libraries: [])
    monkeypatch.setattr(spreads, "table_of", lambda errors: between(text, spreads.MARKER))
    folder = tmp_path / speed.FOLDER
    shutil.copytree(ROOT / speed.FOLDER, folder)
    file = tmp_path / "README.md"
    file.write_text(text)
    assert readme.main(["--check", str(file)]) == 0
    capsys.readouterr()
    (folder / fused.TABLE.kept).write_text(fused.to_json(scoring))
    assert readme.main(["--check", str(file)]) == 1
    assert "the table of scoring is not what is kept" in capsys.readouterr().out
    file.write_text(replaced(text, "scoring", fused.table_of(scoring)))
    assert readme.main(["--check", str(file)]) == 0
    (folder / fused.TABLE.kept).write_text("{}")
    assert readme.main(["--check", str(file)]) == 2


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="reads Linux's /proc")
def test_a_small_memory_map_is_scored_with_little_memory(tmp_path):
    file = tmp_path / "run.json"
    command = [sys.executable, str(ROOT / "tests/benchmarks/memory_map.py"), str(file)]
    rows, classes = 3000, 6000  # 72 MB, in three blocks
    sizes = ["--rows", str(rows), "--classes", str(classes), "--top", "3"]
    subprocess.run([*command, *sizes], check=True)
    run = json.loads(file.read_text())
    assert "from the disk" in mapped.table_of(run)
    for each in run["memory_map"]["from"].values():
        own = each["anonymous_peak"] - each["anonymous_before"]
        assert 0 < own < 4 * rows * classes / 2  # the probabilities would be twice this
        assert each["resident_peak"] >= each["anonymous_peak"]
    refused = subprocess.run([*command, "--top", "0"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "1 to CLASSES" in refused.stderr


def test_errors_by_spread_are_measured_kept_and_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(spreads, "ROWS", 1000)
    monkeypatch.setattr(spreads, "SPREADS", (1.0, 10.0))
    found = list(spreads.measured(["fastsoftmax", "scipy"]))
    by = {(each.function, each.spread, each.library): each for each in found}
    for (function, spread, library), each in by.items():
        assert 0 < each.mean <= each.worst
        if library == "fastsoftmax":
            assert each.worst <= 2
            assert each.beyond_two == 0
        elif spread == 10:
            assert each.worst > 20, function
            assert each.beyond_two > 0.05
    file = tmp_path / "errors.json"
    file.write_text(spreads.to_json(found))
    assert spreads.kept(file) == found
    lines = spreads.table_of(found).splitlines()
    assert len(lines) == 2 + 4
    assert lines[2].startswith("| softmax, deviation 1 | 1.")
    file.write_text('[{"library": "scipy"}]')
    with pytest.raises(ValueError, match="holds no errors by spread"):
        spreads.kept(file)


def test_the_pictures_command_writes_nothing_where_something_is_missing(
    run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(pictures, "FOLDER", tmp_path)
    (tmp_path / "speed.json").write_text(speed.to_json(run))
    assert pictures.main() == 2
    assert "errors.json" in capsys.readouterr().err
    assert list(tmp_path.glob("*.svg")) == []
    (tmp_path / "errors.json").write_text(spreads.to_json(ERRORS))
    assert pictures.main() == 0
    assert sorted(file.name for file in tmp_path.glob("*.svg")) == ["bandwidth.svg", "overview.svg"]
