"""Threads that work on a row together, and how they put together what each of them found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from fastsoftmax.arithmetic.generated import builder
from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    State,
    Value,
    Variables,
    bits_of,
    from_bits,
    in_64_bits,
    loop,
    when,
)
from fastsoftmax.cuda.device import WARP, device

Merge = Callable[[State, State], State]


class Group(NamedTuple):
    """So many threads a row: of a warp, a block or, together, of the blocks of a cluster.

    ``across``: those of all warps with the same place in their warp, whose rows lie side by side.
    """

    threads: int  # of a block
    size: int  # of a block's threads, those of one row
    clusters: int = 1
    across: bool = False

    @property
    def rows(self) -> int:
        """How many rows a block has."""
        return self.threads // self.size

    def row(self) -> Value:
        """Which of them is this thread's."""
        thread = device().thread()
        return thread % WARP if self.across else thread // self.size

    def member(self) -> Value:
        """This thread's number among those of its row."""
        thread = device().thread()
        if self.across:
            return thread // WARP
        member = thread % self.size
        return member + device().rank() * self.size if self.clusters > 1 else member

    def together(self, name: str, state: State, merge: Merge) -> State:
        """What all of a row's threads found, merged in any order; all of them have it.

        By shared memory of this name, which blocks of a cluster may still read: they have done so
        once all have met under another name, or at `leave`.
        """
        if self.across:
            return self._of_warps(state, merge)
        state = _butterfly(state, merge, min(self.size, WARP))
        if self.size > WARP:
            state = self._of_block(state, merge)
        if self.clusters > 1:
            state = self._of_cluster(name, state, merge)
        return state

    def leave(self) -> None:
        """Wait until nobody reads this block's memory any more."""
        if self.clusters > 1:
            device().cluster_barrier()

    def _of_block(self, state: State, merge: Merge) -> State:
        warps, thread = self.size // WARP, device().thread()
        slots = _slots("warps", len(state), warps)
        for _ in when(thread % WARP == 0):
            for slot, value in zip(slots, state, strict=True):
                slot.store(thread // WARP, to_slot(value))
        device().barrier()
        found = [slot.load(thread % warps) for slot in slots]
        device().barrier()
        return _butterfly(from_slots(found, state), merge, warps)

    def _of_cluster(self, name: str, state: State, merge: Merge) -> State:
        thread = device().thread()
        slots = _slots(name, len(state), 1)
        for _ in when(thread == 0):
            for slot, value in zip(slots, state, strict=True):
                slot.store(0, to_slot(value))
        device().cluster_barrier()
        found = [slot.of(thread % self.clusters, 0) for slot in slots]
        return _butterfly(from_slots(found, state), merge, self.clusters)

    def _of_warps(self, state: State, merge: Merge) -> State:
        if self.size == 1:
            return state
        thread = device().thread()
        slots = _slots("across", len(state), self.threads)
        for slot, value in zip(slots, state, strict=True):
            slot.store(thread, to_slot(value))
        device().barrier()
        total = Variables(*from_slots([slot.load(thread % WARP) for slot in slots], state))
        for warp in loop(1, self.size):
            place = thread % WARP + warp * WARP
            other = from_slots([slot.load(place) for slot in slots], state)
            total.set(*merge(total.get(), other))
        device().barrier()
        return total.get()


def _butterfly(state: State, merge: Merge, size: int) -> State:
    distance = 1
    while distance < size:
        other = [device().exchanged(value, distance) for value in state]
        state = merge(state, other)
        distance *= 2
    return state


def _slots(name: str, values: int, count: int) -> list[Any]:
    """Shared memory for so many values of so many threads, of 64 bits each."""
    return [device().shared(f"{name}.{i}", INT64, count) for i in range(values)]


def to_slot(value: Value) -> Value:
    """A number's bits as an integer of 64 bits."""
    bits = bits_of(value) if value.element in (FLOAT, DOUBLE) else value
    return in_64_bits(bits, signed=False)


def from_slots(found: list[Value], like: State) -> State:
    """Numbers of these bits, each of a type that another one has."""
    return [_from_slot(bits, value.element) for bits, value in zip(found, like, strict=True)]


def _from_slot(bits: Value, element: ir.Type) -> Value:
    if element == INT64:
        return bits
    if element == DOUBLE:
        return from_bits(bits)
    bits = Value(builder().trunc(bits.ir, INT32))
    return from_bits(bits) if element == FLOAT else bits
