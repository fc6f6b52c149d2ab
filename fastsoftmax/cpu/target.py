"""What the CPU has of its own: numbers from memory, and tables in registers."""

from __future__ import annotations

from llvmlite import ir

from fastsoftmax.arithmetic.generated import Target, builder
from fastsoftmax.arithmetic.lanes import (
    FLOAT,
    INT32,
    REAL,
    Value,
    call,
    joined,
    lane,
    part,
    shuffled,
)
from fastsoftmax.cpu import compiler


class _CPU(Target):
    def table(self, element: ir.Type, numbers: tuple[float, ...]) -> list[ir.Value]:
        """Numbers that LLVM does not know.

        It would load each constant again wherever it is used, 15 cycles instead of 11.6 for eight
        exponentials. Read once before a loop, they stay in registers.
        """
        b, kind = builder(), ir.ArrayType(element, len(numbers))
        name = f"fastsoftmax.{element}.{hash(numbers)}"
        memory = b.module.globals.get(name)
        if memory is None:
            memory = ir.GlobalVariable(b.module, kind, name)
            memory.linkage = "linkonce_odr"  # not constant: anyone might write to it
            memory.initializer = ir.Constant(kind, list(numbers))
        return [b.load(b.gep(memory, [INT32(0), INT32(i)])) for i in range(len(numbers))]

    def lookup(self, index: Value, tables: tuple[tuple[float, ...], ...]) -> list[Value]:
        """From a register where the CPU can.

        AVX-512 permutes lanes by lanes, AVX2 eight of 32 bits.
        """
        return [_looked_up(index, table) for table in tables]


CPU = _CPU()


def _looked_up(index: Value, numbers: tuple[float, ...]) -> Value:
    element, width = REAL[index.element], index.width or 1
    enabled = compiler.features()
    size, name = 0, ""
    if "+avx512f" in enabled:
        size = 16 if element == FLOAT else 8
        name = f"llvm.x86.avx512.permvar.{'sf' if element == FLOAT else 'df'}.512"
    elif "+avx2" in enabled and element == FLOAT:
        size, name = 8, "llvm.x86.avx2.permps"
    if not size:
        return _gathered(index, numbers)
    held = ir.Constant(ir.VectorType(element, size), list(numbers) * (size // 8))
    if width < size:
        index = shuffled(index, index, [i % width for i in range(size)])
    pieces = [part(index, k, size) for k in range(0, max(width, size), size)]
    return part(joined([call(name, held.type, held, piece) for piece in pieces]), 0, width)


def compressed(value: Value, condition: Value) -> Value | None:
    """The lanes of 64 bytes for which a condition holds first; None where no CPU does that."""
    if "+avx512f" not in compiler.features():
        return None
    kind = value.ir.type
    return call("llvm.x86.avx512.mask.compress.{}", kind, value, ir.Constant(kind, None), condition)


def _gathered(index: Value, numbers: tuple[float, ...]) -> Value:
    b, kind = builder(), ir.ArrayType(REAL[index.element], 8)
    held = ir.GlobalVariable(b.module, kind, b.module.get_unique_name("fastsoftmax.steps"))
    held.linkage, held.global_constant = "private", True
    held.initializer = ir.Constant(kind, list(numbers))
    masked = index & 7
    result = ir.Constant(ir.VectorType(kind.element, index.width), ir.Undefined)
    for k in range(index.width or 1):
        place = b.gep(held, [INT32(0), lane(masked, k).ir])
        result = b.insert_element(result, b.load(place), INT32(k))
    return Value(result)
