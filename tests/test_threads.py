"""Threads and interrupts: each in a process of its own, beside every layer of Numba."""

import contextlib
import importlib
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import time

import pytest
from thorough import beyond_first

from fastsoftmax.cpu import threads

# What is computed: small, shared among threads, and few long rows.
SETUP = """
import os, sys, threading, time
import numpy as np
import fastsoftmax
rng = np.random.default_rng(0)
shapes = [(3, 10), (20, 500), (1500, 200), (2, 300_000), (600_000,), (300, 40, 30)]
NAMES = ("softmax", "log_softmax", "logsumexp")
cases = [
    (getattr(fastsoftmax, name), rng.standard_normal(shape, dtype=np.float32), axis)
    for shape in shapes for name in NAMES for axis in (0, -1)
]
def compute():
    return [function(x, axis=axis).tobytes() for function, x, axis in cases]
"""


def folder_of_tbb():
    """Where pip put TBB's library, which is where the system does not look for it; or nothing."""
    try:
        files = importlib.metadata.files("tbb") or ()
    except importlib.metadata.PackageNotFoundError:
        return ""
    return "".join(str(file.locate().parent) for file in files if file.name == "libtbb.so.12")


TBB = folder_of_tbb()


def run(program, timeout=120, check=True, before="", **environment):
    env = os.environ | {"NUMBA_NUM_THREADS": "4"} | environment
    if environment.get("NUMBA_THREADING_LAYER") == "tbb":
        env["LD_LIBRARY_PATH"] = TBB
    command = [sys.executable, "-X", "faulthandler", "-c", before + SETUP + program]
    result = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check:
        assert result.returncode == 0, result.stderr[-3000:]
    return result


def layers():
    """The threading layers of Numba that are installed here."""
    found = ["workqueue"]
    with contextlib.suppress(ImportError):
        importlib.import_module("numba.np.ufunc.omppool")
        found.append("omp")
    return [*found, "tbb"] if TBB else found


@pytest.mark.parametrize("layer", beyond_first(layers()))
def test_threads_call_everything_while_others_use_numbas_layer(layer):
    """With workqueue, a second thread in one of Numba's own parallel functions would abort."""
    program = """
import numba
@numba.njit(parallel=True, nogil=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += x[i]
    return s
right = compute()
wrong, calls = [], [0] * 8
def serve(number):
    for _ in range(20):
        if compute() != right:
            wrong.append(number)
        calls[number] += len(cases)
stop = []
def numbas():
    while not stop:
        total(np.ones(100_000))
numbas_thread = threading.Thread(target=numbas)
numbas_thread.start()
servers = [threading.Thread(target=serve, args=(i,)) for i in range(8)]
for thread in servers: thread.start()
for thread in servers: thread.join()
stop.append(True)
numbas_thread.join()
assert not wrong
assert calls == [20 * len(cases)] * 8
print(numba.threading_layer(), sum(calls))
"""
    used, calls = run(program, NUMBA_THREADING_LAYER=layer).stdout.split()
    assert used == layer
    print(f"{calls} calls from 8 threads beside {layer}")  # shown by pytest -rP


@pytest.mark.parametrize("layer", beyond_first(layers()))
def test_called_back_from_a_parallel_function(layer):
    program = """
import numba
@numba.njit(parallel=True)
def parallel(n):
    good = np.zeros(n, np.int64)
    for i in numba.prange(n):
        with numba.objmode(same="int64"):
            same = int(compute() == right)
        good[i] = same
    return good
right = compute()
assert parallel(6).all()
"""
    run(program, NUMBA_THREADING_LAYER=layer)


@pytest.mark.alone
@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.parametrize("what", ["rows", "one_row", "columns"])
def test_an_interrupt_stops_a_long_call(what):
    """Some 10 billion logits, of which most are the same memory: half a minute at least."""
    program = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which nohup ignores
x = rng.standard_normal(1 << 20, dtype=np.float32)
arrays = {{
    "rows": (np.broadcast_to(x[:1000], (10_000_000, 1000)), -1),
    "one_row": (np.broadcast_to(x, (10_000, 1 << 20)), -1),
    "columns": (np.broadcast_to(x[:1024], (10_000, 1000, 1024)), 1),
}}
array, axis = arrays[{what!r}]
right = compute()
fastsoftmax.logsumexp(array[:3], axis=axis)  # compiled
print("ready", flush=True)
try:
    fastsoftmax.logsumexp(array, axis=axis)
except KeyboardInterrupt:
    print("stopped", flush=True)
assert compute() == right
print("usable", flush=True)
"""
    command = [sys.executable, "-c", SETUP + program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stopped\n"
        assert time.perf_counter() - start < 0.3
        assert process.stdout.readline() == "usable\n"
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_nothing_is_written_once_an_interrupt_was_raised():
    """Interrupts at every moment of a call: helpers may be at their chunks, or not yet begun."""
    program = """
import signal
signal.signal(signal.SIGALRM, signal.default_int_handler)
x = np.zeros((60_000, 500), np.float32)
out = np.empty_like(x)
fastsoftmax.softmax(x, axis=-1, out=out)
interrupted = 0
for i in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + i % 50 * 2e-4)
        fastsoftmax.softmax(x, axis=-1, out=out)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
        out[...] = -1
        time.sleep(0.02)
        assert (out == -1).all(), i
fastsoftmax.softmax(x, axis=-1, out=out)
assert (out == np.float32(1 / 500)).all()
assert interrupted
"""
    run(program)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_nothing_is_written_once_one_of_many_interrupts_was_raised():
    """A handler that raises every 0.2 ms, as long as the call runs."""
    program = """
import signal
class Interrupt(BaseException): pass
def handle(number, frame):
    while frame:
        if frame.f_code is fastsoftmax.softmax.__code__:
            raise Interrupt
        frame = frame.f_back
signal.signal(signal.SIGALRM, handle)
x = np.zeros((60_000, 500), np.float32)
out = np.empty_like(x)
fastsoftmax.softmax(x, axis=-1, out=out)
interrupted = 0
for i in range(100):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + i % 50 * 2e-4, 2e-4)
        fastsoftmax.softmax(x, axis=-1, out=out)
    except Interrupt:
        interrupted += 1
        out[...] = -1
        time.sleep(0.02)
        assert (out == -1).all(), i
signal.setitimer(signal.ITIMER_REAL, 0)
assert interrupted
fastsoftmax.softmax(x, axis=-1, out=out)
assert (out == np.float32(1 / 500)).all()
"""
    run(program)


# An interrupt at each instruction of Python, more than ``least``, in functions of these ``codes``.
AT_EACH_INSTRUCTION = """
def raise_at(number):
    left = number
    def instruction(frame, event, arg):
        nonlocal left
        left -= event == "opcode"
        if left < 0:
            raise KeyboardInterrupt
        return instruction
    def call(frame, event, arg):
        if frame.f_code in codes:
            frame.f_trace_opcodes = True
            return instruction
    sys.settrace(call)
x = np.zeros((6000, 500), np.float32)
out = np.empty_like(x)
fastsoftmax.softmax(x, axis=-1, out=out)
for number in range(1000):
    try:
        raise_at(number)
        fastsoftmax.softmax(x, axis=-1, out=out)
        break
    except KeyboardInterrupt:
        out[...] = -1
        time.sleep(0.01)
        assert (out == -1).all(), number
sys.settrace(None)
assert least < number < 999
assert (out == np.float32(1 / 500)).all()
"""


def test_nothing_is_written_once_any_instruction_has_raised():
    """Of those between the start of helpers and the result."""
    codes = "from fastsoftmax.cpu import threads; codes, least = [threads.run.__code__], 20"
    run(codes + AT_EACH_INSTRUCTION)


def test_a_call_that_has_returned_holds_no_array():
    program = """
import mmap
x = np.zeros((1500, 200), np.float32)
for _ in range(300):
    out = np.empty_like(x)
    fastsoftmax.softmax(x, axis=-1, out=out)
    out.resize(x.size)
    mapped = mmap.mmap(-1, x.nbytes)
    out = np.frombuffer(mapped, np.float32).reshape(x.shape)
    fastsoftmax.softmax(x, axis=-1, out=out)
    del out
    mapped.close()
"""
    run(program)


GREEN = {
    "gevent": "from gevent import monkey, sleep, spawn\npatch = monkey.patch_all\n",
    "eventlet": "from eventlet import monkey_patch as patch, sleep, spawn\n",
}


@pytest.mark.parametrize("library", GREEN)
@pytest.mark.parametrize("moment", ["before_the_import", "before_large_calls", "when_warm"])
def test_green_threads(library, moment):
    """Each goes on whenever another sleeps, and gets what a process without them computes."""
    finish = """
import hashlib
def digest():
    return hashlib.sha256(b"".join(compute())).hexdigest()
"""
    plain = run(finish + "print(digest())").stdout
    before = GREEN[library] + "patch()\n" * (moment == "before_the_import")
    program = f"""
if {moment == "when_warm"}: compute()
if {moment != "before_the_import"}: patch()
from fastsoftmax.cpu import threads
digests, ticks = [], []
def serve():
    for _ in range(3):
        digests.append(digest())
        sleep(0)
def tick():
    while len(digests) < 9:
        ticks.append(len(digests))
        sleep(0)
for target in (serve, serve, serve, tick): spawn(target)
threading.Thread(target=serve).start()  # a green one
while len(digests) < 12: sleep(0.01)
assert len(set(ticks)) > 1
assert len(set(digests)) == 1
assert len(threads._helpers) == {0 if moment == "before_the_import" else 3}
print(digests[0])
"""
    assert run(finish + program, before=before, timeout=60).stdout == plain


def test_threads_with_small_stacks():
    """64 KiB more than Python itself needs for a thread, of which there are at least 32."""
    program = """
from fastsoftmax.cpu import threads
right = compute()
threads._forget()  # helpers with small stacks are started, too
def start(target, size):
    threading.stack_size(size << 10)
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
def serve():
    assert compute() == right
    print("served")
"""
    own = next(
        size
        for size in (32, 64, 128, 256)
        if run(program + f"start(int, {size})", check=False).returncode == 0
    )
    assert run(program + f"start(serve, {own + 64})").stdout == "served\n"


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there is no such signal here")
def test_a_signals_handler_computes_while_threads_are_started():
    program = """
import signal
from fastsoftmax.cpu import threads
handled = []
def handle(*_):
    handled.append(compute())
signal.signal(signal.SIGALRM, handle)
start = threads._start
def start_late(*args):
    threads._start = start
    signal.raise_signal(signal.SIGALRM)
    return start(*args)
threads._start = start_late
right = compute()
assert handled
assert all(each == right for each in handled)
"""
    run(program)


def test_where_no_thread_can_be_started():
    """Calls are right, and nothing is kept for helpers that do not come."""
    program = """
from fastsoftmax.cpu import threads
start, allowed = threads._start, 0
def refuse(*args):
    if len(threads._helpers) == allowed:
        raise RuntimeError("can't start new thread")
    return start(*args)
threads._start = refuse
alone = compute()
assert threads._tasks.empty()
for allowed in range(4):
    assert compute() == alone
    assert len(threads._helpers) == allowed
"""
    run(program)


def test_the_interpreter_ends_while_threads_compute():
    program = """
compute()
for _ in range(3):
    threading.Thread(target=lambda: [compute() for _ in range(10**6)], daemon=True).start()
time.sleep(0.3)
"""
    result = run(program)
    assert result.stderr == ""


def test_small_work_starts_no_thread():
    program = """
import _thread
for function, x, axis in cases[:12]:
    function(x, axis=axis)
assert _thread._count() == 0  # beside the main thread
"""
    run(program)


def test_the_number_of_threads():
    program = """
import numba
from fastsoftmax.cpu import threads
compute()
print(threads.number(), len(threads._helpers) + 1)
numba.set_num_threads(2)
print(threads.number())
"""
    assert run(program, NUMBA_NUM_THREADS="3").stdout.split() == ["3", "3", "2"]
    env = {"NUMBA_NUM_THREADS": ""}
    first = "from fastsoftmax.cpu import threads; print(threads.number())"
    cpus = min(threads._affinity(), threads._quota())
    assert run(first, **env).stdout.split() == [str(cpus)]
    if hasattr(os, "sched_setaffinity"):
        one = f"os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}); {first}"
        assert run(one, **env).stdout.split() == ["1"]


def test_the_quota_of_a_container(tmp_path):
    file = tmp_path / "cpu.max"
    for content, cpus in (("150000 100000", 2), ("50000 100000", 1), ("max 100000", sys.maxsize)):
        file.write_text(content)
        threads._quota.cache_clear()
        assert threads._quota(str(file)) == cpus
    threads._quota.cache_clear()
    assert threads._quota(str(tmp_path / "absent")) == sys.maxsize
    threads._quota.cache_clear()


def test_no_setting_of_numbas_is_changed():
    before = "import numba; print({k: v for k, v in vars(numba.config).items() if k.isupper()})"
    first = subprocess.run(
        [sys.executable, "-c", before], capture_output=True, text=True, check=True
    ).stdout
    after = "import fastsoftmax; fastsoftmax.softmax([1.0, 2.0]);" + before
    second = subprocess.run(
        [sys.executable, "-c", after], capture_output=True, text=True, check=True
    ).stdout
    assert first == second


MODES = """
from numba.core import cgutils
from numba.extending import intrinsic
from llvmlite import ir
import numba
@intrinsic
def put(typing, mode):
    def emit(context, builder, sig, args):
        memory = cgutils.alloca_once_value(builder, builder.trunc(args[0], ir.IntType(32)))
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr")
        builder.call(function, [builder.bitcast(memory, byte)])
        return args[0]
    return numba.int64(numba.int64), emit
@numba.njit
def set_mode(mode):
    return put(mode)
"""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="sets x86-64's control word"
)
@pytest.mark.parametrize("mode", ["0x9fc0", "0x7f80", "0x3f80"])
def test_the_mode_of_a_threads_arithmetic_changes_nothing(mode):
    """Subnormal numbers flushed, to zero rounded, downwards: in the calling thread alone."""
    program = (
        MODES
        + f"""
low = (rng.standard_normal((3000, 200)) * 30 - 60).astype(np.float32)
low[:, 0] = 0
tiny = np.float32(1e-40)
cases += [(fastsoftmax.softmax, low * 1.5, -1), (fastsoftmax.softmax, low[:5] * 1.5, -1)]
right = compute()
p = np.frombuffer(right[-1], np.float32)
assert ((p > 0) & (p < np.finfo(np.float32).tiny)).any()  # subnormal results
set_mode({mode})
changed = float(tiny * np.float32(1)), float(np.float32(1) + np.float32(2**-24) * np.float32(1.5))
same = compute() == right
after = float(tiny * np.float32(1)), float(np.float32(1) + np.float32(2**-24) * np.float32(1.5))
set_mode(0x1f80)
assert same
assert changed == after  # the thread's mode is as it was
"""
    )
    run(program)
