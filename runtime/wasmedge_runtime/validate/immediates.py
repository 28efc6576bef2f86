"""Reading and checking what follows an opcode: core specification 5.4, and the rules of 3.3 on
indices, alignments and lanes.

A rule is called with the position of the immediates and the index of the instruction (`dispatch`),
and returns the position behind them. Running past the end of the body is an IndexError, which
`function` turns into the error it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from wasmedge_runtime.binary.reader import signed, unsigned
from wasmedge_runtime.binary.types import LATER_TYPES, VAL_TYPE_PROPOSALS
from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.errors import MESSAGES, ErrCode, LoadError, ValidationError
from wasmedge_runtime.features import illegal_opcode, needs, remedy
from wasmedge_runtime.module import AST, Body
from wasmedge_runtime.types import RefType, ValType
from wasmedge_runtime.validate.context import Context
from wasmedge_runtime.validate.dispatch import (
    ALIGNMENT,
    FIRST_FC,
    FIRST_FD,
    LANES,
    PREFIX_FC,
    PREFIX_FD,
)
from wasmedge_runtime.validate.stack import OperandStack

EMPTY_BLOCK_TYPE: Final = 0x40

_MULTI_VALUE = Proposal.MULTI_VALUE
_NO_TYPES: list[int] = []


class BodyReader(OperandStack):
    """The body being validated, and the rules of immediates."""

    def __init__(self, ast: AST, context: Context) -> None:
        super().__init__()
        self.ast = ast
        self.context = context
        self.code: list[int] = []
        """The bytes of the body's instructions, as a list: subscripts of lists are faster."""
        self.base = 0
        """Where `code[0]` stands in the file."""
        self.body = Body(0, 0, 0, ())
        self.locals: list[int] = []
        self.select_types: dict[int, int] = {}
        self._val_types = {
            int(t)
            for t in ValType
            if t not in VAL_TYPE_PROPOSALS or VAL_TYPE_PROPOSALS[t] in context.proposals
        }
        self._block_types: dict[int, tuple[list[int], list[int]]] = {
            t: (_NO_TYPES, [t]) for t in self._val_types
        } | {EMPTY_BLOCK_TYPE: (_NO_TYPES, _NO_TYPES)}

    def malformed(self, code: ErrCode, details: str = "", pos: int | None = None) -> LoadError:
        """A LoadError at the current instruction, or at a position in the body."""
        at = self.at if pos is None else self.base + pos
        return LoadError(code, MESSAGES[code] + details, at)

    def u32(self, pos: int) -> tuple[int, int]:
        """The unsigned number at `pos`, and the position behind it."""
        byte = self.code[pos]
        if byte < 0x80:
            return byte, pos + 1
        return unsigned(self.code, pos, 32, self.base)

    def prefixed(self, prefix: int, pos: int) -> tuple[int, int]:
        """The index of the instruction behind a prefix, and the position behind its number."""
        if prefix > PREFIX_FD:
            return prefix, pos
        number, pos = self.u32(pos)
        if number > 0xFF:
            raise LoadError(ErrCode.IllegalOpCode, illegal_opcode(number, prefix), self.at)
        return number + (FIRST_FC if prefix == PREFIX_FC else FIRST_FD), pos

    def unexpected_end(self) -> LoadError:
        """The error for a body that ends before its last `end`."""
        last = self.body.end == self.ast.bodies[-1].end
        words = "unexpected end of section or function" if last else "END opcode expected"
        return LoadError(ErrCode.UnexpectedEnd, words, self.body.end)

    def no_immediate(self, pos: int, index: int) -> int:
        return pos

    def memarg(self, pos: int, index: int) -> int:
        """Alignment and offset (5.4.6). The flags' bit 6 announces a memory index, bits above it
        mean nothing yet; an offset is read as 64 bits and must fit the memory's 32."""
        flags, pos = self.u32(pos)
        if flags >= 0x80:
            message = f"malformed memop flags {flags:#x}"
            raise LoadError(ErrCode.IllegalGrammar, message, self.at)
        if flags >= 0x40:
            needed = f": a memory index needs the proposal {remedy(Proposal.MULTI_MEMORIES)}"
            raise self.error(ErrCode.MultiMemories, needed)
        if flags > ALIGNMENT[index]:
            raise self.error(
                ErrCode.InvalidAlignment, f": 2**{flags}, natural is 2**{ALIGNMENT[index]}"
            )
        return self.offset(pos)

    def offset(self, pos: int) -> int:
        """A memory access's offset."""
        offset, pos = unsigned(self.code, pos, 64, self.base)
        if offset > 0xFFFF_FFFF:
            raise ValidationError(
                ErrCode.IntegerTooLarge, f"offset out of range: {offset:#x}", self.at
            )
        return pos

    def memarg_lane(self, pos: int, index: int) -> int:
        return self.lane(self.memarg(pos, index), index)

    def lane(self, pos: int, index: int) -> int:
        lane = self.code[pos]
        if lane >= LANES[index]:
            raise self.error(ErrCode.InvalidLaneIdx, f": {lane} of {LANES[index]}")
        return pos + 1

    def shuffle(self, pos: int, index: int) -> int:
        for lane in range(16):
            chosen = self.code[pos + lane]
            if chosen >= 32:
                raise self.error(ErrCode.InvalidLaneIdx, f": {chosen} of 32")
        return pos + 16

    def i32(self, pos: int, index: int) -> int:
        return signed(self.code, pos, 32, self.base)[1]

    def i64(self, pos: int, index: int) -> int:
        return signed(self.code, pos, 64, self.base)[1]

    def f32(self, pos: int, index: int) -> int:
        return pos + 4

    def f64(self, pos: int, index: int) -> int:
        return pos + 8

    def v128(self, pos: int, index: int) -> int:
        return pos + 16

    def memory(self, pos: int, index: int) -> int:
        """A memory index, which is one zero byte as long as there is one memory."""
        if self.code[pos] != 0:
            needed = f": a memory index needs the proposal {remedy(Proposal.MULTI_MEMORIES)}"
            raise self.malformed(ErrCode.ExpectedZeroByte, needed, pos)
        return pos + 1

    def memory_memory(self, pos: int, index: int) -> int:
        return self.memory(self.memory(pos, index), index)

    def data(self, pos: int, index: int) -> int:
        segment, pos = self.u32(pos)
        count = self.context.data_count
        if count is None:
            raise self.malformed(ErrCode.DataCountRequired)
        if segment >= count:
            raise self.error(ErrCode.InvalidDataIdx, f" {segment}")
        return pos

    def data_memory(self, pos: int, index: int) -> int:
        return self.memory(self.data(pos, index), index)

    def elem(self, pos: int, index: int) -> int:
        return self.segment(pos)[1]

    def segment(self, pos: int) -> tuple[int, int]:
        """The type of the element segment at `pos`, and the position behind it."""
        segment, pos = self.u32(pos)
        if segment >= len(self.context.elements):
            raise self.error(ErrCode.InvalidElemIdx, f" {segment}")
        return self.context.elements[segment], pos

    def table_at(self, pos: int) -> tuple[int, int]:
        """The element type of the table at `pos`, and the position behind it."""
        table, pos = self.u32(pos)
        if table >= len(self.context.tables):
            raise self.error(ErrCode.InvalidTableIdx, f" {table}")
        return self.context.tables[table], pos

    def table(self, pos: int, index: int) -> int:
        return self.table_at(pos)[1]

    def elem_table(self, pos: int, index: int) -> int:
        element_type, pos = self.segment(pos)
        table_type, pos = self.table_at(pos)
        self.check_same(table_type, element_type)
        return pos

    def table_table(self, pos: int, index: int) -> int:
        target, pos = self.table_at(pos)
        source, pos = self.table_at(pos)
        self.check_same(target, source)
        return pos

    def check_same(self, expected: int, found: int) -> None:
        """Refuse references of one type where the other is expected."""
        if expected != found:
            raise self.mismatch(f"expected {RefType(expected)}, found {RefType(found)}")

    def func(self, pos: int, index: int) -> int:
        """A function that `ref.func` may name: one that occurs outside of bodies (3.4.10)."""
        function, pos = self.u32(pos)
        if function >= len(self.context.functions):
            raise self.error(ErrCode.InvalidFuncIdx, f" {function}")
        if function not in self.context.references:
            raise self.error(ErrCode.InvalidRefIdx, f": function {function}")
        return pos

    def val_type(self, pos: int) -> int:
        """The value type at `pos`."""
        code = self.code[pos]
        if code not in self._val_types:
            if code in VAL_TYPE_PROPOSALS:
                what = f"the type {ValType(code)}"
                message = needs(ErrCode.MalformedValType, what, VAL_TYPE_PROPOSALS[ValType(code)])
                raise LoadError(ErrCode.MalformedValType, message, self.base + pos)
            later = LATER_TYPES.get(code)
            details = f" needs the proposal {remedy(later)}" if later is not None else ""
            raise self.malformed(ErrCode.MalformedValType, f": {code:#04x}{details}", pos)
        return code

    def block_type(self, pos: int) -> tuple[list[int], list[int], int]:
        """Parameters and results of the block type at `pos` (5.4.1), and the position behind it."""
        byte = self.code[pos]
        types = self._block_types.get(byte)
        if types is not None:
            return *types, pos + 1
        if byte & 0xC0 == 0x40:
            self.val_type(pos)  # one byte and negative: a value type, and not one that is allowed
        start = pos
        type_index, pos = signed(self.code, pos, 33, self.base)
        if Proposal.MULTI_VALUE not in self.context.proposals:
            message = needs(ErrCode.IllegalGrammar, "a function type as block type", _MULTI_VALUE)
            raise LoadError(ErrCode.IllegalGrammar, message, self.base + start)
        if not 0 <= type_index < len(self.context.types):
            raise self.error(ErrCode.InvalidFuncTypeIdx, f" {type_index}")
        return *self.context.types[type_index], pos


ImmediateRule: TypeAlias = Callable[[BodyReader, int, int], int]

IMMEDIATES: dict[str, ImmediateRule] = {
    "": BodyReader.no_immediate,
    "memarg": BodyReader.memarg,
    "memarg_lane": BodyReader.memarg_lane,
    "lane": BodyReader.lane,
    "shuffle": BodyReader.shuffle,
    "i32": BodyReader.i32,
    "i64": BodyReader.i64,
    "f32": BodyReader.f32,
    "f64": BodyReader.f64,
    "v128": BodyReader.v128,
    "memory": BodyReader.memory,
    "memory_memory": BodyReader.memory_memory,
    "data": BodyReader.data,
    "data_memory": BodyReader.data_memory,
    "elem": BodyReader.elem,
    "elem_table": BodyReader.elem_table,
    "table": BodyReader.table,
    "table_table": BodyReader.table_table,
    "func": BodyReader.func,
}
"""By the table's name of the layout, for regular instructions."""
