"""A softmax of one's own, held against the exact one: what it gets wrong, and how to see it again.

Prints:
    every check holds: False
    logits around 10,000: got nan, where 0.167... is right
"""

import sys
from pathlib import Path

import numpy as np

import verification


def my_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """The formula as it stands, which overflows."""
    powers = np.exp(x)
    return powers / powers.sum(axis=axis, keepdims=True)


if __name__ == "__main__":  # it is imported again, in a process of its own
    sys.path.insert(0, str(Path(__file__).parent))
    report = verification.verify(
        ["verify_your_own:my_softmax"], suite=["extremes"], function=["softmax"], dtype=["float32"]
    )
    print("every check holds:", report.holds)
    failed = {result.case: result.finding for result in report.subjects[0].failures}
    finding = failed["offset_1e4"]
    print(f"logits around 10,000: got {finding.got}, where {finding.expected[:5]}... is right")
