"""What is measured: shapes by regime, and how their time may compare to the copy's and a peer's."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """An array of logits and the axis that is reduced."""

    regime: str
    shape: tuple[int, ...]
    axis: int = -1
    copy: float = 1.05  # wanted: softmax's time over the copy's, float32
    peer: float = 0.9  # and over the best peer's
    quick: bool = False

    @property
    def name(self) -> str:
        """Such as 16384 x 1000, axis -1."""
        return f"{' x '.join(map(str, self.shape))}, axis {self.axis}"


SHAPES = [
    Shape("tiny rows", (5_000_000, 2), -1, 1.5, 0.3),
    Shape("tiny rows", (3_000_000, 3), -1, 1.5, 0.3, quick=True),
    Shape("tiny rows", (2_000_000, 5), -1, 1.5, 0.3),
    Shape("tiny rows", (1_000_000, 10), -1, 2.0, 0.4),
    Shape("tiny rows", (600_000, 16), -1, 2.0, 0.4),
    Shape("short rows", (500_000, 20), -1, 2.0, 0.65),
    Shape("short rows", (300_000, 33), -1, 1.4, 0.9),
    Shape("short rows", (200_000, 50), -1, 1.4, 0.9, quick=True),
    Shape("short rows", (100_000, 100), -1, 1.2, 0.85),
    Shape("short rows", (100_000, 128), -1, 1.2, 0.85),
    Shape("rows within L2", (16384, 1000), -1, 1.05, 0.9, quick=True),
    Shape("rows within L2", (8192, 4096), -1, 1.05, 0.9),
    Shape("rows within L2", (512, 50257), -1, 1.05, 0.9),
    Shape("rows beyond L2", (64, 256_000), -1, 1.3, 0.85),
    Shape("rows beyond L2", (16, 1_000_000), -1, 1.3, 0.85),
    Shape("huge rows", (1, 10_000_000), -1, 1.7, 0.6),
    Shape("huge rows", (2, 10_000_000), -1, 1.7, 0.6),
    Shape("columns", (10, 1_000_000), 0, 1.3, 0.3),
    Shape("columns", (1000, 16384), 0, 1.3, 0.3, quick=True),
    Shape("columns", (50257, 512), 0, 1.3, 0.3),
    Shape("middle axis", (64, 1000, 256), 1, 1.3, 0.5),
]
