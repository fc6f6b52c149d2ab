"""The measurements behind the thresholds in plan.py and sizes.py: both sides of each.

python -m pytest tests/benchmarks/test_thresholds.py --benchmark-enable
"""

import numpy as np
import pytest

from fastsoftmax.arithmetic.formulas import SOFTMAX
from fastsoftmax.cpu import plan

NEVER = 1 << 60


def measure(benchmark, shape, **thresholds):
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    out = np.empty_like(x)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in thresholds.items():
            patch.setattr(plan, name, value)
        plan.compute(SOFTMAX, x, out, None, None)
        rounds = 2000 if x.size < 1e6 else 30
        benchmark.pedantic(
            plan.compute,
            (SOFTMAX, x, out, None, None),
            rounds=rounds,
            warmup_rounds=rounds // 10,
        )


@pytest.mark.benchmark(group="PARALLEL_FROM: rows of 128, logits")
@pytest.mark.parametrize("how", ["serial", "parallel"])
@pytest.mark.parametrize("size", [1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18])
def test_from_where_threads_pay(benchmark, size, how):
    measure(benchmark, (size // 128, 128), PARALLEL_FROM=NEVER if how == "serial" else 0)


@pytest.mark.benchmark(group="SHORT: 10 million logits in rows of")
@pytest.mark.parametrize("kernel", ["short", "rows"])
@pytest.mark.parametrize("length", [9, 16, 25, 33, 41, 50, 60])
def test_up_to_where_rows_side_by_side_pay(benchmark, length, kernel):
    measure(benchmark, (10_000_000 // length, length), SHORT=60 if kernel == "short" else 0)


@pytest.mark.benchmark(group="PACKED: 10 million logits in rows of")
@pytest.mark.parametrize("kernel", ["packed", "short"])
@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_what_a_kernel_of_its_own_gains(benchmark, length, kernel):
    measure(
        benchmark,
        (10_000_000 // length, length),
        PACKED_FROM=0 if kernel == "packed" else NEVER,
    )
