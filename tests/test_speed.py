"""The README's comparison of speed: what is made of a run of the benchmarks."""

import json

import pytest

from verification import pictures, speed, spreads

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
    kept = speed.kept(file)
    assert speed.table_of(kept) == speed.table_of(run)
    assert pictures.bandwidth(kept) == pictures.bandwidth(run)
    assert speed.to_json(kept) == speed.to_json(run)


def test_the_command_writes_both_or_nothing(run, tmp_path, capsys):
    readme, file = tmp_path / "README.md", tmp_path / "run.json"
    kept = tmp_path / speed.FOLDER / speed.KEPT
    kept.parent.mkdir(parents=True)
    readme.write_text("before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n")
    file.write_text(json.dumps(run))
    arguments = [str(file), "--readme", str(readme)]
    assert speed.main(arguments) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- speed -->\n| softmax")
    assert text.endswith("after\n")
    assert "old" not in text
    assert speed.kept(kept)["datetime"] == run["datetime"]

    kept.unlink()
    for content in ("{}", "[]", "not JSON", json.dumps({"benchmarks": [{"extra_info": {}}]})):
        file.write_text(content)
        assert speed.main(arguments) == 2
        assert str(file) in capsys.readouterr().err
    assert speed.main([str(tmp_path / "absent.json"), *arguments[1:]]) == 2
    assert readme.read_text() == text
    assert not kept.exists()


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
