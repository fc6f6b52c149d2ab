"""Every case of the verification on a simulated GPU: the bits of the CPU's results.

test_cuda.py runs this in a process of its own, with the number of types that each case is tried in.
"""

import sys
import warnings
import zlib

import numpy as np
from numba import config
from simulated_device import Standard

import fastsoftmax
from verification import cases
from verification.checks import CASE_SUITES

assert config.ENABLE_CUDASIM, "run by test_cuda.py"

# Logits that take a simulated GPU a second.
LARGE = 150_000


def tried(several):
    """Cases and types: each case in so many of its types, another one first for each."""
    for suite in CASE_SUITES:
        for case in cases.all_cases(suite):
            first = zlib.crc32(case.name.encode()) % len(case.dtypes)
            for k in range(min(several, len(case.dtypes))):
                yield case, case.dtypes[(first + k) % len(case.dtypes)]


def result(function, x, case, options):
    """What a function gives, or the kind of its error."""
    try:
        given = function(x, case.axis, **options)
    except (TypeError, ValueError) as error:
        return type(error)
    return np.asarray(getattr(given, "array", given))


def same(a, b):
    """Whether two results are alike to the bit; one NaN is as good as another."""
    if isinstance(a, type) or isinstance(b, type):
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    bits = f"u{a.itemsize}"
    equal = np.ascontiguousarray(a).view(bits) == np.ascontiguousarray(b).view(bits)
    return bool((equal | ((a != a) & (b != b))).all())


def main(several, large):
    """Print how many results are alike, and which are not."""
    count, other, left = 0, [], []
    for case, dtype in tried(several):
        x = np.asarray(case.values(dtype, 0))
        if not x.dtype.isnative:  # no array on a GPU is swapped
            continue
        if x.size > LARGE and not large:
            left.append(f"{case.name} {dtype}")
            continue
        host, there = {}, {}
        if case.temperature:
            host["temperature"] = there["temperature"] = case.temperature(x)
        if case.where:
            host["where"] = case.where(x)
            there["where"] = Standard(np.ascontiguousarray(host["where"]))
        for name in case.functions:
            if name == "logsumexp" and "temperature" in host:
                continue
            function = getattr(fastsoftmax, name)
            on_gpu = result(function, Standard(x.copy()), case, there)
            count += 1
            if not same(on_gpu, result(function, x, case, host)):
                other.append(f"{case.suite} {case.name} {dtype} {name}")
    print(f"{count - len(other)} of {count} results are the CPU's to the bit", *other, sep="\n")
    if left:
        print(f"{len(left)} cases of more than {LARGE} logits are left out:", *left)
    return bool(other) or not count


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(int(sys.argv[1]), "large" in sys.argv))
