"""What the README says, run."""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.special

import fastsoftmax

README = Path(__file__).parent.parent.joinpath("README.md").read_text()


def test_the_example_runs():
    example, on_a_gpu = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    compile(on_a_gpu, "README.md", "exec")
    names = {}
    exec(example, names)
    np.testing.assert_array_equal(names["p"].shape, (100_000, 1000))
    assert names["sign"] == -1


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


def test_how_it_is_built_names_every_module():
    package = Path(fastsoftmax.__file__).parent
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        assert name.startswith(("data/", "_")) or path.stem[0] == "_" or f"`{name}`" in README, name
