"""What the README says, run."""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.special

import fastsoftmax

ROOT = Path(__file__).parent.parent
README = ROOT.joinpath("README.md").read_text()


@pytest.mark.parametrize("number", range(8))
def test_the_examples_run(number):
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 8
    names = {}
    if "cupy" in examples[number]:
        compile(examples[number], "README.md", "exec")
        return
    exec(examples[number], names)
    if number == 0:
        np.testing.assert_array_equal(names["p"].shape, (100_000, 1000))
    if number == 1:
        np.testing.assert_array_equal(names["p"].loc["second"], [1, 0])
        assert names["z"].index.tolist() == ["first", "second"]
        assert names["q"].dims == ("photo", "animal")
    if number == 2:
        assert names["sign"] == -1


def test_the_alternatives_side_by_side():
    rows = dict(re.findall(r"^\| (\w+) \| ([-\d.e |]+) \|$", README, re.MULTILINE))
    assert {"softmax", "standard_normalize", "sparsemax"} <= set(rows)
    for name in ("softmax", *fastsoftmax.alternatives.__all__):
        if name.endswith("_vjp") or name == "entmax":
            continue
        function = getattr(fastsoftmax.alternatives, name, None) or fastsoftmax.softmax
        values = [*function(np.array([1.0, 2.0])), *function(np.array([10.0, 20.0]))]
        assert rows[name] == " | ".join(f"{value:.6g}" for value in values)


def test_no_blank_was_left_to_be_filled_in():
    assert not re.findall(r"TODO|TIME\d|XXX", README)


@pytest.mark.parametrize("page", ["README.md", "fastsoftmax/README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, target


@pytest.mark.parametrize("ours", [True, False])
def test_the_differences_from_scipy(ours):
    library = fastsoftmax if ours else scipy.special
    extremes = np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max])
    with np.errstate(all="ignore"):
        got = [
            library.softmax(np.uint8([1, 2])),
            library.softmax(extremes),
            library.log_softmax(np.float32([20, 0]))[:1],
            library.softmax(np.zeros(100_000, np.float16))[:1],
        ]
    expected = (
        [[0.269, 0.731], [0, 1], [-2.06e-09], [1e-05]]
        if ours
        else [[np.nan, 0], [0.731, 0.269], [0], [0]]
    )
    for value, printed in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.asarray(value, float), printed, rtol=2e-3)
    assert np.shape(library.logsumexp(3.0, keepdims=True)) == (() if ours else (1,))


@pytest.mark.parametrize("package", ["fastsoftmax", "verification"])
def test_how_it_is_built_names_every_module(package):
    text = (ROOT / package / "README.md").read_text()
    for path in (ROOT / package).rglob("*.py"):
        name = path.relative_to(ROOT / package).as_posix()
        assert name.startswith(("data/", "_")) or path.stem[0] == "_" or f"`{name}`" in text, name
