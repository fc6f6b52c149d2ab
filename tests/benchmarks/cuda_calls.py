"""Who computes a case on a GPU, how long that takes, and whether it is right.

A call takes (x, out). Only `cuda.py` imports this, where there is a GPU.
"""

import contextlib
import itertools
import math
import statistics
import time

import numpy as np
import torch
import torch._dynamo

import fastsoftmax
from benchmarks.cuda_cases import Case

PAIRS = 3  # of arrays, that take turns
ROUNDS = 21


class Arrays:
    """Device memory for every case: pairs of logits and results, which take turns."""

    def __init__(self, nbytes):
        self.nbytes = nbytes
        self._memory = [
            [torch.empty(nbytes, dtype=torch.uint8, device="cuda") for _ in range(2)]
            for _ in range(PAIRS)
        ]
        self._filled = None

    def of(self, case):
        """The pairs (logits, result) of a case."""
        dtype = getattr(torch, case.dtype)
        if self._filled != case.dtype:
            torch.manual_seed(0)
            for x, _ in self._memory:
                x.view(dtype).normal_(0, 3)
            self._filled = case.dtype
        size, results = math.prod(case.shape), math.prod(case.result_shape)
        return [
            (
                x.view(dtype)[:size].view(case.shape),
                out.view(dtype)[:results].view(case.result_shape),
            )
            for x, out in self._memory
        ]


# --- time ------------------------------------------------------------------------------------


def medians(calls, pairs, rounds=ROUNDS):
    """The median time of each call in ms; the calls take turns, and so do the arrays."""
    turn = itertools.cycle(pairs)
    events = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            x, out = next(turn)
            start.record()
            call(x, out)
            end.record()
            events[name].append((start, end))
    torch.cuda.synchronize()
    # The first round finds the device idle, which waits for its launches.
    return {
        name: statistics.median(start.elapsed_time(end) for start, end in each[1:])
        for name, each in events.items()
    }


def fastest(calls, pairs, rounds=ROUNDS):
    """The name of the fastest call, once each has been tried."""
    for call in calls.values():
        call(*pairs[0])
    times = medians(calls, pairs, rounds)
    return min(times, key=times.__getitem__)


def host_microseconds(call, calls=200, rounds=15):
    """What a call takes of the caller's time, without waiting for the device."""
    found = []
    for _ in range(1 + rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - start) / calls * 1e6)
    torch.cuda.synchronize()
    return statistics.median(found[1:])


def host_times():
    """Of small calls, for which the device has less to do than the caller."""
    found = []
    for shape, dtype in (((1, 10), "float32"), ((64, 1000), "float32"), ((64, 1000), "bfloat16")):
        x = torch.randn(*shape, device="cuda").to(getattr(torch, dtype))
        out = torch.empty_like(x)
        calls = {
            "fastsoftmax": lambda x=x: fastsoftmax.softmax(x, axis=-1),
            "fastsoftmax, out=": lambda x=x, out=out: fastsoftmax.softmax(x, axis=-1, out=out),
            "torch": lambda x=x: torch.softmax(x, -1),
            "torch, out=": lambda x=x, out=out: torch.softmax(x, -1, out=out),
        }
        times = {name: host_microseconds(call) for name, call in calls.items()}
        found.append({"shape": f"{shape[0]} x {shape[1]}", "dtype": dtype, "us": times})
    return found


# --- yardsticks ------------------------------------------------------------------------------


def copying(x, out):
    """As many bytes read and written."""
    out.copy_(x)


def _words(x, dtype):
    """A contiguous tensor as a vector of four bytes an element, all but its last few bytes."""
    return x.view(-1)[: x.numel() // 4 * 4].view(dtype)


def fastest_reading(arrays):
    """What only reads a tensor in as little time as can be had here: its name, and a call."""
    calls = {
        "torch.sum": lambda x, out: torch.sum(_words(x, torch.float32)),
        "torch.amax": lambda x, out: torch.amax(_words(x, torch.int32)),
    }
    with contextlib.suppress(ModuleNotFoundError):  # no Triton
        from benchmarks import rows_triton

        calls["Triton"] = lambda x, out: rows_triton.read(_words(x, torch.int32))
    best = fastest(calls, arrays.of(Case("logsumexp", "float32", (arrays.nbytes // 4096, 1024))))
    return best, calls[best]


# --- who computes ----------------------------------------------------------------------------


def ours(case):
    """fastsoftmax."""
    function = getattr(fastsoftmax, case.function)
    if case.function == "entropy":  # it has no out=
        return lambda x, out: function(x, axis=case.axis)
    return lambda x, out: function(x, axis=case.axis, out=out)


def eager(case):
    """The function that torch has; None where it has none."""
    function = getattr(torch, case.function, None)
    return function and (lambda x, out: function(x, case.axis, out=out))


def compiled(case, pairs):
    """torch.softmax through torch.compile, for this shape alone."""
    torch._dynamo.reset()  # what it knows of other shapes makes it compile for any
    softmax = torch.compile(lambda x: torch.softmax(x, case.axis), dynamic=False)
    return lambda x, out: softmax(x)


def triton(case, pairs):
    """The Triton kernel in the fastest of its ways to run; None where it has none here."""
    from benchmarks import rows_triton

    if case.axis == 0:
        return None
    calls = {}
    for config in rows_triton.configs(*case.shape):
        # More registers or shared memory than there are: another way has to do.
        with contextlib.suppress(rows_triton.TooLarge):
            config.run(*pairs[0])
            calls[config] = config.run
    if not calls:
        return None
    best = fastest(calls, pairs, rounds=5)
    x, out = pairs[0]
    best.run(x, out.fill_(math.nan))
    wanted = torch.softmax(x[-8:].double(), -1)
    if not torch.allclose(out[-8:].double(), wanted, rtol=0.02, atol=1e-6):
        raise ValueError(f"{best} is no softmax")
    return best.run


# --- the bits --------------------------------------------------------------------------------


def compared(case, x, out):
    """Whether our result has the CPU's bits in a sample of rows, in words; it is computed here."""
    out.fill_(math.nan)
    result = ours(case)(x, out)
    if result.isnan().any():
        return "wrong: results are NaN, or were not written"
    logits = x.movedim(case.axis, -1)
    results = result.movedim(case.axis, -1) if case.mapped else result
    count = max(1, min(64, len(logits), (1 << 22) // case.length))
    numbers = torch.linspace(0, len(logits) - 1, count, dtype=torch.float64).long().to(x.device)
    try:
        rows, found = _host(logits[numbers]), _host(results[numbers])
    except ModuleNotFoundError as error:
        return f"not compared: needs {error.name}"
    right = getattr(fastsoftmax, case.function)(rows, axis=-1)
    bits = f"u{right.itemsize}"
    different = int(np.count_nonzero(found.view(bits) != right.view(bits)))
    if different:
        return f"wrong: {different:,} of {right.size:,} results have other bits than the CPU's"
    return f"the CPU's bits in {count} row{'s' * (count > 1)}"


def _host(tensor):
    """A tensor's values as a NumPy array."""
    tensor = tensor.contiguous().cpu()
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    import ml_dtypes

    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
