"""What the CUDA target is measured on: functions, types and shapes, and what is aimed at."""

from dataclasses import dataclass

MAPPED = ("softmax", "log_softmax")
BYTES = 1 << 30  # of a case's logits, many times any cache
ITEMSIZES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
# The types whose softmax is compared with every peer, and whose other functions are measured.
FIRST = ("float32", "bfloat16")
LENGTHS = (
    *(8, 10, 16, 32, 64, 100, 128, 256, 512, 1000, 1024, 2048, 4096, 8192, 16384, 32768),
    *(50256, 50257, 65536, 131072, 262144),
)
SOME = (10, 32, 128, 1000, 4096, 32768, 50257, 262144)  # for the other functions
FEW_ROWS = (1, 4, 16)
COLUMNS = (10, 1000, 50257)  # along axis 0


@dataclass(frozen=True)
class Case:
    """A function of a matrix of logits, reduced along an axis."""

    function: str
    dtype: str
    shape: tuple[int, int]
    axis: int = -1

    @property
    def length(self):
        """Logits in a row."""
        return self.shape[self.axis]

    @property
    def mapped(self):
        """Whether there is a result for each logit."""
        return self.function in MAPPED

    @property
    def result_shape(self):
        """The shape of the result."""
        return self.shape if self.mapped else (self.shape[1 + self.axis],)

    @property
    def rows(self):
        """Such as "rows of 1,000": the same for every type, while the number of rows is not."""
        if self.axis == 0:
            return f"columns of {self.length:,}"
        if self.shape[0] in FEW_ROWS:
            return f"{self.shape[0]} long row{'s' * (self.shape[0] > 1)}"
        return f"rows of {self.length:,}"

    @property
    def array(self):
        """Such as 16384 x 1000, axis -1."""
        return f"{self.shape[0]} x {self.shape[1]}, axis {self.axis}"

    @property
    def name(self):
        """All of it."""
        return f"{self.function} {self.dtype} {self.array}"

    @property
    def wanted(self):
        """The fraction of a copy's (or of reading's) bandwidth that is aimed at, if any."""
        if self.function not in ("softmax", "logsumexp") or self.dtype not in FIRST:
            return None
        if self.function == "logsumexp":
            return 0.90
        if self.axis == 0 or not 128 <= self.length <= 32768:
            return 0.85
        return 0.90 if self.dtype == "float32" else 0.85


def cases(nbytes=BYTES):
    """What is measured, by dtype, of at most so many bytes of logits each."""
    for dtype, itemsize in ITEMSIZES.items():
        size = nbytes // itemsize
        for length in LENGTHS:
            yield Case("softmax", dtype, (size // length, length))
        for rows in FEW_ROWS:
            yield Case("softmax", dtype, (rows, size // rows))
        for length in COLUMNS:
            yield Case("softmax", dtype, (length, size // length), 0)
        for function in ("log_softmax", "logsumexp", "entropy") if dtype in FIRST else ():
            for length in SOME:
                yield Case(function, dtype, (size // length, length))
            yield Case(function, dtype, (1, size))
            yield Case(function, dtype, (1000, size // 1000), 0)


def beside_all_peers(found):
    """Those of the cases that are, in an order of which any beginning is spread over them."""
    chosen = [case for case in found if case.function == "softmax" and case.dtype in FIRST]
    return [case for start in (0, 4, 2, 6, 1, 5, 3, 7) for case in chosen[start::8]]
