"""The twin of target.py where there is no GPU: what kernels write is carried out, here and now.

Numba's simulator runs the blocks of a launch, each as one of its threads; all threads of the block
are lanes of NumPy arrays in here, which go through the kernel together. So a missing barrier is
found: what one thread wrote to shared memory no other may read before one. Addresses are the
host's, and have to be aligned as a GPU wants them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numba
import numpy as np
from llvmlite import ir
from numba import cuda

from fastsoftmax.arithmetic import generated
from fastsoftmax.arithmetic.lanes import DOUBLE, FLOAT, INT64, REAL, Value, fma, loop, number
from fastsoftmax.cpu import memory  # noqa: F401  knows arrays
from fastsoftmax.cpu.target import CPU
from fastsoftmax.cuda.batch import Kind
from fastsoftmax.cuda.device import Device, Index, Shared, Tables
from fastsoftmax.cuda.kernels import written
from fastsoftmax.cuda.shape import Shape

Array = np.ndarray[Any, Any]

_TYPES = {FLOAT: np.float32, DOUBLE: np.float64, ir.IntType(1): np.bool_}
_TYPES |= {ir.IntType(bits): np.dtype(f"int{bits}").type for bits in (8, 16, 32, 64)}


class Lanes(NamedTuple):
    """A number of each thread of a block, or one for all: what stands where LLVM has a value."""

    type: ir.Type
    array: Any


def _lanes(value: Any) -> Any:
    """The numbers of a value or of a constant of LLVM's."""
    if isinstance(value, Lanes):
        return value.array
    kind, given = _TYPES[value.type], value.constant
    if isinstance(given, int) and given >= 1 << 31 and kind is not np.float64:
        given -= (given >> value.type.width - 1) << value.type.width  # bits of a negative one
    return kind(given)


def _operation(apply: Callable[..., Any]) -> Callable[..., Lanes]:
    def instruction(self: Any, *values: Any) -> Lanes:
        return Lanes(values[0].type, apply(*map(_lanes, values)))

    return instruction


def _comparison(unordered: bool) -> Callable[..., Lanes]:
    relations = {"<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal}
    relations |= {"==": np.equal, "!=": np.not_equal}

    def instruction(self: Any, sign: str, a: Any, b: Any) -> Lanes:
        a, b = _lanes(a), _lanes(b)
        assert unordered or sign != "!=" or a.dtype.kind != "f"
        return Lanes(ir.IntType(1), relations[sign](a, b))

    return instruction


def _conversion(apply: Callable[[Any, type], Any]) -> Callable[..., Lanes]:
    def instruction(self: Any, value: Any, kind: ir.Type) -> Lanes:
        return Lanes(kind, apply(np.asarray(_lanes(value)), _TYPES[kind]))

    return instruction


def _unsigned(x: Array, kind: type) -> Array:
    """Without their sign, in more bits."""
    return x.view(f"u{x.dtype.name}").astype(kind) if x.dtype.kind == "i" else x.astype(kind)


class _Instructions:
    """What a builder would write, of numbers."""

    fadd = add = _operation(np.add)
    fsub = sub = _operation(np.subtract)
    fmul = mul = _operation(np.multiply)
    fdiv = _operation(np.divide)
    sdiv = _operation(lambda a, b: _quotient(a, b))
    srem = _operation(lambda a, b: a - _quotient(a, b) * b)
    shl = _operation(np.left_shift)
    ashr = _operation(np.right_shift)
    and_ = _operation(np.bitwise_and)
    or_ = _operation(np.bitwise_or)
    fneg = neg = _operation(np.negative)
    fcmp_ordered, fcmp_unordered = _comparison(False), _comparison(True)
    icmp_signed = _comparison(False)
    bitcast = _conversion(lambda x, kind: x.view(kind))
    trunc = fptrunc = fpext = sext = sitofp = _conversion(lambda x, kind: x.astype(kind))
    fptosi = _conversion(lambda x, kind: np.trunc(x).astype(kind))
    zext = _conversion(_unsigned)

    def select(self, condition: Any, a: Any, b: Any) -> Lanes:
        return Lanes(a.type, np.where(_lanes(condition), _lanes(a), _lanes(b)))

    def load(self, place: _Place) -> Lanes:
        return Lanes(place.type, place.array)

    def store(self, value: Any, place: _Place) -> None:
        place.array = place.target.chosen(_lanes(value), place.array)


def _quotient(a: Any, b: Any) -> Any:
    """Integers divided, rounded towards 0."""
    result = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -result, result)


class _Place:
    """A variable of each thread."""

    def __init__(self, target: Simulated, kind: ir.Type) -> None:
        self.target, self.type = target, kind
        self.array: Array = np.zeros(target.threads, _TYPES[kind])


def _write_fused(a: Any, b: Any, c: Any, out: Any) -> None:
    for i in loop(0, out.shape[0]):
        out.store((i,), fma(*(x.load((i,), None) for x in (a, b, c))))


_fused_code = generated.generated(_write_fused, ("a", "b", "c", "out"), CPU)


@numba.njit
def _fuse(a: Any, b: Any, c: Any, out: Any) -> None:
    _fused_code(a, b, c, out)


def _fused(*values: Any) -> Any:
    """a * b + c, rounded once, by the CPU's own instruction."""
    arrays = [np.atleast_1d(np.ascontiguousarray(x)) for x in np.broadcast_arrays(*values)]
    out = np.empty_like(arrays[0])
    _fuse(*arrays, out)
    return out.reshape(np.shape(values[0])) if out.size == 1 else out


class Simulated(Device):
    """Carries out what a block's threads do, or a cluster's as if they were one block's."""

    def __init__(self, threads: int, clusters: int, block: int, blocks: int) -> None:
        self.threads, self._each = threads * clusters, threads
        self._block, self._blocks = block, blocks
        self._active = np.ones(self.threads, bool)
        self._shared: dict[str, _Shared] = {}
        self.instructions_done = _Instructions()

    def instructions(self, builder: Any) -> Any:
        return self.instructions_done

    def call(self, name: str, result: ir.Type, values: list[Any]) -> Any:
        assert name.startswith("llvm.fma."), name
        return Lanes(result, _fused(*map(_lanes, values)))

    # --- what kernels write as the code's own ---------------------------------------------------

    def variable(self, kind: ir.Type) -> Any:
        return _Place(self, kind)

    def chosen(self, new: Any, old: Array) -> Array:
        """The new numbers of threads that are here, the old ones of the others."""
        return np.where(self._active, new, old)

    def loop(self, start: Any, stop: Any, step: Any) -> Iterator[Any]:
        index, stop, step = (_lanes(n) for n in (start, stop, step))
        index = np.broadcast_to(index, self.threads).copy()
        outside = self._active
        while (turn := outside & (index < stop)).any():
            self._active = turn
            yield Lanes(INT64, index)
            index = index + step
        self._active = outside

    def when(self, condition: Any) -> Iterator[None]:
        outside = self._active
        self._active = outside & _lanes(condition)
        if self._active.any():
            yield
        self._active = outside

    # --- constants and tables ---------------------------------------------------------------

    def table(self, element: ir.Type, numbers: tuple[float, ...]) -> list[Any]:
        return [ir.Constant(element, n) for n in numbers]

    def prepare(self, tables: Tables, element: ir.Type) -> None:
        self.barrier()

    def lookup(self, index: Value, tables: Tables) -> list[Value]:
        kind, places = REAL[index.element], _lanes(index.ir) & 7
        return [Value(Lanes(kind, np.array(table, _TYPES[kind])[places])) for table in tables]

    def again(self, x: Value) -> Value:
        return x

    # --- threads ----------------------------------------------------------------------------

    def thread(self) -> Value:
        return Value(Lanes(INT64, np.arange(self.threads) % self._each))

    def block(self) -> Value:
        return self.rank() + self._block

    def blocks(self) -> Value:
        return number(self._blocks, INT64)

    def rank(self) -> Value:
        return Value(Lanes(INT64, np.arange(self.threads) // self._each))

    def barrier(self) -> None:
        self._met(cluster=False)

    def cluster_barrier(self) -> None:
        self._met(cluster=True)

    def _met(self, cluster: bool) -> None:
        assert self._active.all(), "a barrier that not all threads of the block reach"
        for shared in self._shared.values():
            shared.forget(cluster)

    def exchanged(self, x: Value, distance: int) -> Value:
        warps = self._active.reshape(-1, min(32, self.threads))
        assert (warps.all(1) == warps.any(1)).all(), "an exchange that not all of a warp reach"
        array = np.broadcast_to(_lanes(x.ir), self.threads)
        return Value(Lanes(x.element, array[np.arange(self.threads) ^ distance]))

    # --- memory -----------------------------------------------------------------------------

    def load(self, address: Value, storage: str, count: int = 1) -> list[Value]:
        kind = _stored(storage)
        numbers = np.zeros((self.threads, count), kind)
        held, places = self._places(address, kind.itemsize, count)
        if len(places):
            numbers[self._active] = held.view(kind)[places]
        if kind.itemsize == 2:
            numbers = numbers.astype(np.float32)
        element = {"f": FLOAT, "d": DOUBLE, "b": ir.IntType(8), "l": INT64}[numbers.dtype.char]
        return [Value(Lanes(element, column)) for column in numbers.T]

    def store(self, address: Value, storage: str, values: list[Value]) -> None:
        kind = _stored(storage)
        held, places = self._places(address, kind.itemsize, len(values))
        numbers = [
            np.broadcast_to(_lanes(v.ir), self.threads)[self._active].astype(kind) for v in values
        ]
        if len(places):
            held.view(kind)[places] = np.stack(numbers, 1)

    def _places(self, address: Value, itemsize: int, count: int) -> tuple[Array, Array]:
        """The host's memory that threads reach, and where in it each one's numbers are."""
        starts = np.broadcast_to(_lanes(address.ir), self.threads)[self._active]
        if not len(starts):
            return np.empty(0, np.uint8), starts
        assert not (starts % (itemsize * count)).any(), "an access that is not aligned"
        first = int(starts.min())
        size = int(starts.max()) - first + itemsize * count
        held: Array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(first))
        return held, (starts[:, None] - first) // itemsize + np.arange(count)

    def shared(self, name: str, element: ir.Type, count: int) -> Shared:
        if name not in self._shared:
            self._shared[name] = _Shared(self, element, count)
        return self._shared[name]


def _stored(storage: str) -> np.dtype[Any]:
    names: dict[str, Any] = {"bfloat16": ml_dtypes.bfloat16, "bool": np.int8}
    found: np.dtype[Any] = np.dtype(names.get(storage, storage))
    return found


class _Shared(Shared):
    """Memory that threads share, and who wrote and read what of it since the last barrier.

    A block's own threads are ordered by its barriers; what another block of the cluster wrote or
    read, by those of the cluster alone.
    """

    def __init__(self, target: Simulated, element: ir.Type, count: int) -> None:
        self._target, self._element, ranks = target, element, target.threads // target._each
        self._numbers: Array = np.zeros((ranks, count), _TYPES[element])
        # The thread that did it; -1 for none, -2 for several.
        self._wrote, self._read = (np.full((ranks, count), -1) for _ in range(2))
        self._wrote_before, self._read_afar = (np.zeros((ranks, count), bool) for _ in range(2))

    def forget(self, cluster: bool) -> None:
        """What was done before a barrier is seen by all after it."""
        self._wrote[:], self._read[:] = -1, -1
        if cluster:
            self._wrote_before[:], self._read_afar[:] = False, False

    def _place(self, index: Index, rank: Value | None) -> tuple[Any, Any, Any]:
        """The number of each thread that is here, its rank or another, and its index."""
        target = self._target
        given = index if isinstance(index, Value) else number(index, INT64)
        of = target.rank() if rank is None else rank
        everyone = np.arange(target.threads), _lanes(of.ir), _lanes(given.ir)
        here = [np.broadcast_to(n, target.threads)[target._active] for n in everyone]
        return here[0], here[1], here[2]

    def load(self, index: Index) -> Value:
        return self._loaded(*self._place(index, None))

    def of(self, rank: Value, index: Index) -> Value:
        return self._loaded(*self._place(index, rank))

    def _loaded(self, thread: Any, *place: Any) -> Value:
        near = thread // self._target._each == place[0]
        writer = self._wrote[place]
        seen = np.where(near, (writer == -1) | (writer == thread), ~self._wrote_before[place])
        assert seen.all(), "what another thread wrote is read without a barrier"
        self._read_afar[tuple(axis[~near] for axis in place)] = True
        own = tuple(axis[near] for axis in place)
        before, reader = self._read[own], thread[near]
        self._read[own] = np.where((before == -1) | (before == reader), reader, -2)
        self._read[tuple(axis[self._read[own] != reader] for axis in own)] = -2
        array = np.zeros(self._target.threads, self._numbers.dtype)
        array[self._target._active] = self._numbers[place]
        return Value(Lanes(self._element, array))

    def store(self, index: Index, value: Value) -> None:
        thread, *axes = self._place(index, None)
        place = tuple(axes)
        for touched in (self._wrote[place], self._read[place]):
            assert ((touched == -1) | (touched == thread)).all(), "written without a barrier"
        assert not self._read_afar[place].any(), "written without a barrier of the cluster"
        numbers = np.broadcast_to(_lanes(value.ir), self._target.threads)
        self._numbers[place] = numbers[self._target._active]
        self._wrote[place], self._wrote_before[place] = thread, True
        assert (self._wrote[place] == thread).all(), "two threads write to one place"


@cuda.jit
def _grid(blocks: list[int]) -> None:
    blocks.append(cuda.blockIdx.x)


def launch(kind: Kind, shape: Shape, blocks: int, arguments: tuple[Any, ...]) -> None:
    """Carry out a kernel: all that Numba's simulator says are its blocks, or clusters.

    Their work is done here, and not in threads of the simulator's, which asks again and again
    whether these have ended, and takes half the time for that.
    """
    write, numbers = written(kind, shape), list[int]()
    _grid[blocks, 1](numbers)
    *integers, temperature = arguments
    for block in numbers:
        first, count = block * shape.clusters, blocks * shape.clusters
        target = Simulated(shape.threads, shape.clusters, first, count)
        with generated.writing(target, None, None), np.errstate(all="ignore"):
            write(*(number(int(n), INT64) for n in integers), number(float(temperature), DOUBLE))
