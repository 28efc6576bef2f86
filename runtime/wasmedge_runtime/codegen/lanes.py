"""Vector instructions with immediates: lanes, shuffles, and their loads and stores
(specification 4.4.3, 4.4.7)."""

from __future__ import annotations

from ..opcodes import BY_OPCODE, INSTRUCTIONS
from . import vector
from .function import FunctionTranslator
from .rules import emits


def _sequence(t: FunctionTranslator, template: str, *operands: str | int) -> str:
    """Emit a sequence; gives its result."""
    result = f"%{len(t.out)}"
    t.out.append(template.format(*operands, r=result, t=f"%t{len(t.out)}"))
    return result


def _pop(t: FunctionTranslator, count: int) -> list[str]:
    operands = t.stack[-count:]
    del t.stack[-count:]
    return operands


@emits(*(row.name for row in INSTRUCTIONS if row.immediates == "lane"))
def lane(t: FunctionTranslator, code: int, pos: int) -> int:
    row = BY_OPCODE[code]
    operands = _pop(t, len(row.params or ()))
    t.stack.append(_sequence(t, vector.SEQUENCES[row.name], *operands, t.ast.data[pos]))
    return pos + 1


@emits("i8x16.shuffle")
def shuffle(t: FunctionTranslator, code: int, pos: int) -> int:
    operands = _pop(t, 2)
    t.stack.append(_sequence(t, vector.shuffle(t.ast.data[pos : pos + 16]), *operands))
    return pos + 16


def _address(t: FunctionTranslator, code: int, pos: int, operand: str) -> tuple[int, str, str]:
    """Position behind the memory immediate, the pointer, and the type in memory."""
    pos, offset = t.memarg(t.ast.data, pos)
    if t.metering:
        t.checkpoint()
    kind = vector.access(BY_OPCODE[code].name)
    size = 16 if kind.startswith("<") else int(kind[1:]) // 8
    return pos, t.memory_address(operand, offset, size), kind


_LOADS = [
    row.name for row in INSTRUCTIONS if row.immediates == "memarg" and row.name in vector.SEQUENCES
]


@emits(*_LOADS)
def load(t: FunctionTranslator, code: int, pos: int) -> int:
    pos, pointer, kind = _address(t, code, pos, t.stack.pop())
    loaded = t.value(f"load volatile {kind}, ptr {pointer}, align 1")
    t.stack.append(_sequence(t, vector.SEQUENCES[BY_OPCODE[code].name], loaded))
    return pos


@emits(*(row.name for row in INSTRUCTIONS if row.immediates == "memarg_lane"))
def lane_access(t: FunctionTranslator, code: int, pos: int) -> int:
    name = BY_OPCODE[code].name
    operand, value = _pop(t, 2)
    pos, pointer, kind = _address(t, code, pos, operand)
    index = t.ast.data[pos]
    if name.startswith("v128.load"):
        loaded = t.value(f"load volatile {kind}, ptr {pointer}, align 1")
        t.stack.append(_sequence(t, vector.SEQUENCES[name], loaded, value, index))
    else:
        stored = _sequence(t, vector.SEQUENCES[name], value, index)
        t.out.append(f"store volatile {kind} {stored}, ptr {pointer}, align 1")
    return pos + 1
