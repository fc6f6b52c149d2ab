"""The README's comparison of speed: what is made of a run of the benchmarks."""

import json

import pytest

from verification import speed


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


def test_the_figure_shows_every_library_and_the_copy(run):
    figure = speed.figure_of(run)
    for name in ("fastsoftmax", "scipy", "torch", "copy"):
        assert f">{name}<" in figure
    assert ">jax<" not in figure
    assert figure == speed.figure_of(run)


def test_the_command_writes_both_or_nothing(run, tmp_path, capsys):
    readme, figure, file = tmp_path / "README.md", tmp_path / "b.svg", tmp_path / "run.json"
    readme.write_text("before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n")
    file.write_text(json.dumps(run))
    arguments = [str(file), "--readme", str(readme), "--figure", str(figure)]
    assert speed.main(arguments) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- speed -->\n| softmax")
    assert text.endswith("after\n")
    assert "old" not in text
    assert figure.read_text().startswith("<?xml")

    figure.unlink()
    for content in ("{}", "not JSON", json.dumps({"benchmarks": [{"extra_info": {}}]})):
        file.write_text(content)
        assert speed.main(arguments) == 2
        assert str(file) in capsys.readouterr().err
    assert speed.main([str(tmp_path / "absent.json"), *arguments[1:]]) == 2
    assert readme.read_text() == text
    assert not figure.exists()
