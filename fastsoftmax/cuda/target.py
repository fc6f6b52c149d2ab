"""The code of a GPU's threads, which Numba compiles: LLVM's, as NVVM takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from fastsoftmax.arithmetic import generated
from fastsoftmax.arithmetic.generated import builder
from fastsoftmax.arithmetic.lanes import (
    DOUBLE,
    FLOAT,
    HALF,
    INT16,
    INT32,
    INT64,
    REAL,
    Value,
    bits_of,
    from_bits,
    number,
    when,
)
from fastsoftmax.cuda.device import STORAGE, WARP, Device, Shared, Tables

_GLOBAL, _SHARED, _CONSTANT = 1, 3, 4  # address spaces


class _Instructions:
    """A builder whose products are not contracted with a sum, which the CPU's are not."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self._builder = builder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._builder, name)

    def fmul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        # The one way that both compilers, NVVM and that of the driver, leave alone.
        name = f"llvm.nvvm.mul.rn.{'f' if a.type == FLOAT else 'd'}"
        return generated.target().call(name, a.type, [a, b])

    def fneg(self, value: ir.Value) -> ir.Value:
        return self._builder.fsub(ir.Constant(value.type, -0.0), value)  # NVVM knows no fneg


class Threads(Device):
    """Writes what a thread does."""

    @property
    def intrinsic(self) -> Callable[..., Any]:  # type: ignore[override]
        """What makes an intrinsic: numba-cuda's, which need not be there for all else."""
        from numba.cuda.extending import intrinsic

        made: Callable[..., Any] = intrinsic
        return made

    def instructions(self, builder: ir.IRBuilder) -> Any:
        """What writes single instructions."""
        return _Instructions(builder)

    # --- constants and tables ---------------------------------------------------------------

    def table(self, element: ir.Type, numbers: tuple[float, ...]) -> list[ir.Value]:
        """Instructions have room for constants."""
        return [ir.Constant(element, n) for n in numbers]

    def prepare(self, tables: Tables, element: ir.Type) -> None:
        kind, count = ir.VectorType(element, len(tables)), len(tables[0])
        entries = [ir.Constant(kind, list(entry)) for entry in zip(*tables, strict=True)]
        source = self._memory("fastsoftmax.steps.constant", ir.ArrayType(kind, count), _CONSTANT)
        source.global_constant = True
        source.initializer = ir.Constant(source.value_type, entries)
        for _ in when(self.thread() < count):
            place = [INT64(0), self.thread().ir]
            b = builder()
            b.store(b.load(b.gep(source, place)), b.gep(self._steps(kind), place))
        self.barrier()

    def lookup(self, index: Value, tables: Tables) -> list[Value]:
        """One access to shared memory for all tables; eight entries lie in as many banks."""
        b, kind = builder(), ir.VectorType(REAL[index.element], len(tables))
        found = b.load(b.gep(self._steps(kind), [INT32(0), b.trunc((index & 7).ir, INT32)]))
        return [Value(b.extract_element(found, INT32(i))) for i in range(len(tables))]

    def _steps(self, kind: ir.Type) -> ir.GlobalVariable:
        return self._memory("fastsoftmax.steps", ir.ArrayType(kind, 8), _SHARED)

    def again(self, x: Value) -> Value:
        return Value(_assembled("mov.u64 $0, $1;", "=l,l", INT64, x.ir))

    # --- threads ----------------------------------------------------------------------------

    def thread(self) -> Value:
        return self._special("tid.x")

    def block(self) -> Value:
        return self._special("ctaid.x")

    def blocks(self) -> Value:
        return self._special("nctaid.x")

    def rank(self) -> Value:
        value = _assembled("mov.u32 $0, %cluster_ctarank;", "=r", INT32)
        return Value(builder().zext(value, INT64))

    def _special(self, name: str) -> Value:
        value = self.call(f"llvm.nvvm.read.ptx.sreg.{name}", INT32, [])
        return Value(builder().zext(value, INT64))

    def barrier(self) -> None:
        self.call("llvm.nvvm.barrier0", ir.VoidType(), [])

    def cluster_barrier(self) -> None:
        for text in ("barrier.cluster.arrive.aligned;", "barrier.cluster.wait.aligned;"):
            _assembled(text, "~{memory}", ir.VoidType())

    def exchanged(self, x: Value, distance: int) -> Value:
        b = builder()
        if x.element in (FLOAT, DOUBLE):
            return from_bits(self.exchanged(bits_of(x), distance))
        if x.element == INT64:
            halves = [b.trunc(x.ir, INT32), b.trunc(b.lshr(x.ir, INT64(32)), INT32)]
            low, high = (b.zext(self._exchanged(half, distance), INT64) for half in halves)
            return Value(b.or_(low, b.shl(high, INT64(32))))
        return Value(self._exchanged(x.ir, distance))

    def _exchanged(self, x: ir.Value, distance: int) -> ir.Value:
        arguments = [INT32(-1), x, INT32(distance), INT32(WARP - 1)]
        return self.call("llvm.nvvm.shfl.sync.bfly.i32", INT32, arguments)

    # --- memory -----------------------------------------------------------------------------

    def load(self, address: Value, storage: str, count: int = 1) -> list[Value]:
        itemsize, element = STORAGE[storage]
        if itemsize == 2:
            return [_widened(bits, storage) for bits in _halves(address, count)]
        return [Value(part) for part in _read(address, element, count)]

    def store(self, address: Value, storage: str, values: list[Value]) -> None:
        parts = [value.ir for value in values]
        _write(address, _packed(parts, storage) if STORAGE[storage].itemsize == 2 else parts)

    def shared(self, name: str, element: ir.Type, count: int) -> Shared:
        return _Shared(self._memory(f"fastsoftmax.{name}", ir.ArrayType(element, count), _SHARED))

    def _memory(self, name: str, kind: ir.Type, space: int) -> ir.GlobalVariable:
        module = builder().module
        memory = module.globals.get(name)
        if memory is None:
            memory = ir.GlobalVariable(module, kind, name, addrspace=space)
            memory.linkage, memory.align = "internal", 16
            memory.initializer = ir.Constant(kind, ir.Undefined)
        return memory


class _Shared(Shared):
    def __init__(self, memory: ir.GlobalVariable) -> None:
        self._memory = memory

    def _place(self, index: Any) -> ir.Value:
        return builder().gep(self._memory, [INT64(0), number(index, INT64).ir])

    def load(self, index: Any) -> Value:
        return Value(builder().load(self._place(index)))

    def store(self, index: Any, value: Value) -> None:
        builder().store(value.ir, self._place(index))

    def of(self, rank: Value, index: Any) -> Value:
        b, element = builder(), self._memory.value_type.element
        wide = {FLOAT: INT32, DOUBLE: INT64}.get(element, element)
        text = (
            "{ .reg .u32 place; mapa.shared::cluster.u32 place, $1, $2; "
            f"ld.shared::cluster.u{wide.width} $0, [place]; }}"
        )
        place = b.ptrtoint(self._place(index), INT32)
        letter = "r" if wide == INT32 else "l"
        found = _assembled(text, f"={letter},r,r", wide, place, b.trunc(rank.ir, INT32))
        return Value(b.bitcast(found, element))


def _assembled(text: str, constraints: str, result: ir.Type, *values: ir.Value) -> ir.Value:
    """Instructions that LLVM has no names for; it neither moves nor copies them, into branches."""
    kind = ir.FunctionType(result, [value.type for value in values])
    asm = ir.InlineAsm(kind, text, constraints, True)
    return builder().call(asm, list(values), attrs=("convergent",))


# --- numbers in memory ------------------------------------------------------------------------


def _size(kind: ir.Type) -> int:
    return {FLOAT: 4, DOUBLE: 8}.get(kind) or int(kind.width) // 8


def _read(address: Value, kind: ir.Type, count: int) -> list[ir.Value]:
    b, whole = builder(), kind if count == 1 else ir.VectorType(kind, count)
    pointer = b.inttoptr(address.ir, whole.as_pointer(_GLOBAL))
    value = b.load(pointer, align=_size(kind) * count)
    return [value] if count == 1 else [b.extract_element(value, INT32(i)) for i in range(count)]


def _write(address: Value, parts: list[ir.Value]) -> None:
    b, whole = builder(), parts[0]
    if len(parts) > 1:
        whole = ir.Constant(ir.VectorType(whole.type, len(parts)), ir.Undefined)
        for i, part in enumerate(parts):
            whole = b.insert_element(whole, part, INT32(i))
    pointer = b.inttoptr(address.ir, whole.type.as_pointer(_GLOBAL))
    b.store(whole, pointer, align=_size(parts[0].type) * len(parts))


def _halves(address: Value, count: int) -> list[ir.Value]:
    """Elements of 16 bits, as bits; more than one by words, which NVVM reads side by side."""
    if count == 1:
        return _read(address, INT16, 1)
    b, halves = builder(), []
    for word in _read(address, INT32, count // 2):
        halves += [b.trunc(word, INT16), b.trunc(b.lshr(word, INT32(16)), INT16)]
    return halves


def _widened(bits: ir.Value, storage: str) -> Value:
    b = builder()
    if storage == "float16":
        return Value(b.fpext(b.bitcast(bits, HALF), FLOAT))
    return Value(b.bitcast(b.shl(b.zext(bits, INT32), INT32(16)), FLOAT))


def _packed(parts: list[ir.Value], storage: str) -> list[ir.Value]:
    """float32 rounded to nearest, ties to even: two in a word, or one alone."""
    text = f"cvt.rn.{'f16' if storage == 'float16' else 'bf16'}x2.f32 $0, $2, $1;"
    pairs = zip(parts[::2], parts[1::2] or parts, strict=True)
    words = [_assembled(text, "=r,f,f", INT32, *pair) for pair in pairs]
    return words if len(parts) > 1 else [builder().trunc(words[0], INT16)]
