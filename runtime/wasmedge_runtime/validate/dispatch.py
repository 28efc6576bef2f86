"""How the loop over a body treats each opcode: lists made from the table of instructions.

The loop knows instructions by an index: plain opcodes as they are, those behind 0xFC from 256 on,
those behind 0xFD from 512 on. `KIND[index]` chooses the branch; what that branch needs to know of
the instruction is in the other lists.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.opcodes import INSTRUCTIONS, Instruction, access_size, lane_count

PREFIX_FC: Final = 0xFC
PREFIX_FD: Final = 0xFD
FIRST_FC: Final = 256
FIRST_FD: Final = 512
SIZE: Final = 768

# The branches of the loop, in the order in which it tries them: frequent ones first.
LOCAL_GET: Final = 0
BINARY: Final = 1
I32_CONST: Final = 2
LOAD: Final = 3
LOCAL_SET: Final = 4
LOCAL_TEE: Final = 5
STORE: Final = 6
BR_IF: Final = 7
END: Final = 8
BLOCK: Final = 9
UNARY: Final = 10
BR: Final = 11
GLOBAL_GET: Final = 12
I64_CONST: Final = 13
FLOAT_CONST: Final = 14
RULE: Final = 15
REFUSED: Final = 16

_BY_NAME = {
    "local.get": LOCAL_GET,
    "local.set": LOCAL_SET,
    "local.tee": LOCAL_TEE,
    "i32.const": I32_CONST,
    "i64.const": I64_CONST,
    "f32.const": FLOAT_CONST,
    "f64.const": FLOAT_CONST,
    "br_if": BR_IF,
    "br": BR,
    "end": END,
    "block": BLOCK,
    "loop": BLOCK,
    "global.get": GLOBAL_GET,
}

MEMORY_LAYOUTS = frozenset({"memarg", "memarg_lane", "memory", "memory_memory", "data_memory"})
"""Layouts of immediates of instructions that need a memory."""


def index_of(opcode: int) -> int:
    """The index of an instruction of the table."""
    prefix, number = divmod(opcode, 256)
    return {0: 0, PREFIX_FC: FIRST_FC, PREFIX_FD: FIRST_FD}[prefix] + number


def _kind(row: Instruction) -> int:
    if row.name in _BY_NAME:
        return _BY_NAME[row.name]
    match row.immediates, row.params, row.results:
        case "", (_,), (_,):
            return UNARY
        case "", (first, second), (_,) if first == second:
            return BINARY
        case "memarg", (_,), (_,):
            return LOAD
        case "memarg", (_, _), ():
            return STORE
    return RULE


ROWS: list[Instruction | None] = [None] * SIZE
OPERAND: Final = [0] * SIZE
"""Type of the (last) operand, of kinds UNARY, BINARY and STORE."""
RESULT: Final = [0] * SIZE
"""Type of the result, of kinds UNARY, BINARY, LOAD and FLOAT_CONST."""
ALIGNMENT: Final = [0] * SIZE
"""The largest alignment allowed, as its power of two."""
LANES: Final = [0] * SIZE
"""How many lanes a lane index chooses from."""
IMMEDIATE_SIZE: Final = [0] * SIZE
"""Bytes of the immediate, of kind FLOAT_CONST."""

for _row in INSTRUCTIONS:
    _index = index_of(_row.opcode)
    ROWS[_index] = _row
    if _row.params:
        OPERAND[_index] = _row.params[-1]
    if _row.results:
        RESULT[_index] = _row.results[0]
    if _row.immediates in ("memarg", "memarg_lane"):
        ALIGNMENT[_index] = access_size(_row).bit_length() - 1
    if _row.immediates in ("lane", "memarg_lane"):
        LANES[_index] = lane_count(_row)
    IMMEDIATE_SIZE[_index] = {"f32": 4, "f64": 8}.get(_row.immediates, 0)


@lru_cache(maxsize=64)
def kinds(proposals: frozenset[Proposal], has_memory: bool) -> list[int]:
    """`KIND` for a module: what is off, unknown, or needs a memory that is not there is REFUSED.

    RULE and REFUSED are no branches: they fall through to the instruction's rule.
    """
    result = [REFUSED] * SIZE
    for row in INSTRUCTIONS:
        allowed = row.proposal is None or row.proposal in proposals
        if allowed and (has_memory or row.immediates not in MEMORY_LAYOUTS):
            result[index_of(row.opcode)] = _kind(row)
    return result
