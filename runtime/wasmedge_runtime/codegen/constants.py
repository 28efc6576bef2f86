"""Floating-point and vector constants, and global variables (specification 4.4.1, 4.4.3, 4.4.5)."""

from __future__ import annotations

from typing import cast

from . import immediates
from .context import constant_global
from .function import FunctionTranslator
from .numeric import float_literal, is_identity, opaque_constant
from .rules import IR_TYPE, emits

# f32 and f64 add, sub, mul, div: one more operand, which is not a constant, makes a literal as the
# second operand safe (see `numeric.opaque_constant`).
_TAKES_LITERAL = {
    "float": frozenset(range(0x92, 0x96)),
    "double": frozenset(range(0xA0, 0xA4)),
}


def _float_constant(t: FunctionTranslator, ir_type: str, bits: int, pos: int) -> str:
    follower = t.ast.data[pos]
    if (
        follower in _TAKES_LITERAL[ir_type]
        and not is_identity(ir_type, bits)
        and t.stack[-1].startswith("%")
    ):
        return float_literal(ir_type, bits)
    return t.value(opaque_constant(ir_type, bits))


@emits("f32.const")
def f32_const(t: FunctionTranslator, code: int, pos: int) -> int:
    bits = int.from_bytes(t.ast.data[pos : pos + 4], "little")
    pos += 4
    t.stack.append(_float_constant(t, "float", bits, pos))
    return pos


@emits("f64.const")
def f64_const(t: FunctionTranslator, code: int, pos: int) -> int:
    bits = int.from_bytes(t.ast.data[pos : pos + 8], "little")
    pos += 8
    t.stack.append(_float_constant(t, "double", bits, pos))
    return pos


def vector_literal(data: bytes) -> str:
    """The constant <2 x i64> of 16 bytes."""
    low, high = (int.from_bytes(data[i : i + 8], "little") for i in (0, 8))
    return f"<i64 {low}, i64 {high}>"


@emits("v128.const")
def v128_const(t: FunctionTranslator, code: int, pos: int) -> int:
    t.stack.append(vector_literal(t.ast.data[pos : pos + 16]))
    return pos + 16


def _global_address(t: FunctionTranslator, index: int) -> str:
    if index < t.ast.imported_globals:
        return t.context_pointer(t.layout.imported_global(index))
    return t.context_address(t.layout.global_cell(index))


@emits("global.get")
def global_get(t: FunctionTranslator, code: int, pos: int) -> int:
    index, pos = immediates.unsigned(t.ast.data, pos)
    kind = t.ast.global_types[index]
    ir_type = IR_TYPE[kind.val_type]
    constant = constant_global(t.ast, index)
    if constant is not None:
        opcode, value = constant
        if opcode in (0x43, 0x44):
            operand = t.value(opaque_constant(ir_type, cast(int, value)))
        else:
            operand = str(value) if isinstance(value, int) else vector_literal(cast(bytes, value))
    else:
        volatile = "volatile " if kind.mutability else ""
        address = _global_address(t, index)
        operand = t.value(f"load {volatile}{ir_type}, ptr {address}, align 8")
    t.stack.append(operand)
    return pos


@emits("global.set")
def global_set(t: FunctionTranslator, code: int, pos: int) -> int:
    index, pos = immediates.unsigned(t.ast.data, pos)
    if t.metering:
        t.account()
    ir_type = IR_TYPE[t.ast.global_types[index].val_type]
    address = _global_address(t, index)
    t.out.append(f"store volatile {ir_type} {t.stack.pop()}, ptr {address}, align 8")
    return pos
