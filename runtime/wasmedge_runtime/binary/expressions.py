"""Constant expressions: core specification 5.4.9, the instructions of 3.3.13 only."""

from __future__ import annotations

from wasmedge_runtime import limits
from wasmedge_runtime.binary.reader import Reader, load_error, over
from wasmedge_runtime.binary.types import TypeReader
from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.errors import MESSAGES, ErrCode, LoadError, ValidationError
from wasmedge_runtime.features import illegal_opcode, remedy
from wasmedge_runtime.module import ConstExpr, Immediate
from wasmedge_runtime.opcodes import (
    BY_OPCODE,
    F32_CONST,
    F64_CONST,
    GLOBAL_GET,
    I32_CONST,
    I64_CONST,
    REF_FUNC,
    REF_NULL,
    V128_CONST,
)

END = 0x0B
CONSTANT_OPCODES = frozenset(
    {I32_CONST, I64_CONST, F32_CONST, F64_CONST, V128_CONST, GLOBAL_GET, REF_NULL, REF_FUNC}
)

EXTENDED_OPCODES = frozenset({0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E})
"""add, sub and mul, which a later proposal makes constant. For messages only."""

PREFIXES = (0xFC, 0xFD)


def const_expr(reader: Reader, types: TypeReader) -> ConstExpr:
    """Read an expression up to and including its `end`.

    Raises:
        LoadError: it is malformed.
        ValidationError: ConstExprRequired. Only constant instructions have a place in the AST, so
            that this rule is checked here, ahead of all others.
    """
    expr: list[tuple[int, Immediate]] = []
    while True:
        offset = reader.pos
        opcode = reader.byte()
        if opcode == END:
            return tuple(expr)
        if len(expr) == limits.MAX_INITIALIZER:
            cap = over("instructions in an initializer", len(expr) + 1, limits.MAX_INITIALIZER)
            raise load_error(ErrCode.IllegalGrammar, offset, cap)
        prefix, number = (opcode, reader.u32()) if opcode in PREFIXES else (0, opcode)
        row = BY_OPCODE.get(prefix << 8 | number) if number <= 0xFF else None
        if row is None:
            raise LoadError(ErrCode.IllegalOpCode, illegal_opcode(number, prefix), offset)
        if row.proposal is not None:
            types.need(row.proposal, row.name, ErrCode.IllegalOpCode, offset)
        if row.opcode not in CONSTANT_OPCODES:
            message = f"{MESSAGES[ErrCode.ConstExprRequired]}, not {row.name}"
            if row.opcode in EXTENDED_OPCODES:
                message += f"; it needs the proposal {remedy(Proposal.EXTENDED_CONST)}"
            raise ValidationError(ErrCode.ConstExprRequired, message, offset)
        expr.append((row.opcode, _immediate(reader, types, row.immediates)))


def _immediate(reader: Reader, types: TypeReader, layout: str) -> Immediate:
    match layout:
        case "i32":
            return reader.s32()
        case "i64":
            return reader.s64()
        case "f32":
            return int.from_bytes(reader.take(4), "little")
        case "f64":
            return int.from_bytes(reader.take(8), "little")
        case "v128":
            return reader.take(16)
        case "ref_type":
            return int(types.ref_type())
        case _:  # an index: global, func
            return reader.u32()
