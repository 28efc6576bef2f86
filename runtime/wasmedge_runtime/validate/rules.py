"""Rules of the instructions that the loop in `function` does not treat itself.

Core specification 3.3. A rule is called with the position behind the opcode and returns the one
behind the immediates; all operands are on `vals`. Regular instructions have a rule for their
immediates only (`IMMEDIATES`) and take their types from the table; irregular ones have one of
their own (`IRREGULAR`), named after the instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from wasmedge_runtime import limits
from wasmedge_runtime.binary.reader import signed, unsigned
from wasmedge_runtime.binary.types import LATER_TYPES, VAL_TYPE_PROPOSALS
from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.errors import MESSAGES, ErrCode, LoadError, ValidationError
from wasmedge_runtime.features import illegal_opcode, needs, remedy
from wasmedge_runtime.module import AST, Body
from wasmedge_runtime.opcodes import INSTRUCTIONS
from wasmedge_runtime.types import RefType, ValType
from wasmedge_runtime.validate.context import Context
from wasmedge_runtime.validate.dispatch import (
    ALIGNMENT,
    FIRST_FC,
    FIRST_FD,
    LANES,
    PREFIX_FC,
    PREFIX_FD,
    REFUSED,
    ROWS,
    SIZE,
    index_of,
)
from wasmedge_runtime.validate.stack import UNKNOWN, OperandStack

I32 = int(ValType.I32)
V128 = int(ValType.V128)
FUNCREF = int(ValType.FUNCREF)
EXTERNREF = int(ValType.EXTERNREF)
REFERENCES = (FUNCREF, EXTERNREF)

BLOCK, LOOP, IF, ELSE = 0x02, 0x03, 0x04, 0x05
EMPTY_BLOCK_TYPE = 0x40

_MULTI_VALUE = Proposal.MULTI_VALUE
_NO_TYPES: list[int] = []


class Rules(OperandStack):
    """The rules, and the body they are applied to."""

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

    # Immediates.

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

    # Regular instructions.

    def regular(self, pos: int, index: int) -> int:
        """An instruction whose types are in the table."""
        immediates, params, results = _REGULAR[index]
        pos = immediates(self, pos, index)
        self.pop_vals(params)
        self.vals += results
        return pos

    # Control instructions (3.3.8).

    def unreachable_(self, pos: int, index: int) -> int:
        self.unreachable()
        return pos

    def block(self, pos: int, index: int) -> int:
        start_types, end_types, pos = self.block_type(pos)
        self.pop_vals(start_types)
        self.push_ctrl(index, start_types, end_types, loop=index == LOOP)
        return pos

    def if_(self, pos: int, index: int) -> int:
        self.pop_val(I32)
        return self.block(pos, index)

    def else_(self, pos: int, index: int) -> int:
        if self.ctrls[-1].opcode != IF:
            raise self.malformed(ErrCode.IllegalGrammar, ": else without if")
        frame = self.pop_ctrl()
        self.push_ctrl(ELSE, frame.start_types, frame.end_types)
        return pos

    def end(self, pos: int, index: int) -> int:
        frame = self.pop_ctrl()
        if frame.opcode == IF and frame.start_types != frame.end_types:
            raise self.mismatch("an if without else cannot change the types on the stack")
        self.push_vals(frame.end_types)
        return pos

    def br(self, pos: int, index: int) -> int:
        depth, pos = self.u32(pos)
        self.pop_vals(self.label_types(depth))
        self.unreachable()
        return pos

    def br_if(self, pos: int, index: int) -> int:
        depth, pos = self.u32(pos)
        self.pop_val(I32)
        types = self.label_types(depth)
        self.pop_vals(types)
        self.push_vals(types)
        return pos

    def br_table(self, pos: int, index: int) -> int:
        count, pos = self.u32(pos)
        if count >= len(self.code) - pos:
            raise self.unexpected_end()
        if count > limits.MAX_LABELS:
            raise self.malformed(
                ErrCode.IllegalGrammar, f": {count} labels, and the limit is {limits.MAX_LABELS}"
            )
        depths = set()
        for _ in range(count):
            depth, pos = self.u32(pos)
            depths.add(depth)
        default, pos = self.u32(pos)
        self.pop_val(I32)
        arity = len(self.label_types(default))
        # In order, so that the same module always gives the same message.
        for depth in sorted(depths):
            types = self.label_types(depth)
            if len(types) != arity:
                raise self.mismatch(f"label {depth} takes {len(types)} values, others {arity}")
            self.push_vals(self.pop_vals(types))
        self.pop_vals(self.label_types(default))
        self.unreachable()
        return pos

    def return_(self, pos: int, index: int) -> int:
        self.pop_vals(self.ctrls[0].end_types)
        self.unreachable()
        return pos

    def call(self, pos: int, index: int) -> int:
        function, pos = self.u32(pos)
        if function >= len(self.context.functions):
            raise self.error(ErrCode.InvalidFuncIdx, f" {function}")
        params, results = self.context.functions[function]
        self.pop_vals(params)
        self.push_vals(results)
        return pos

    def call_indirect(self, pos: int, index: int) -> int:
        type_index, pos = self.u32(pos)
        if Proposal.REFERENCE_TYPES not in self.context.proposals and self.code[pos] != 0:
            what = "a table index"
            message = needs(ErrCode.ExpectedZeroByte, what, Proposal.REFERENCE_TYPES)
            raise LoadError(ErrCode.ExpectedZeroByte, message, self.base + pos)
        table_type, pos = self.table_at(pos)
        self.check_same(FUNCREF, table_type)
        if type_index >= len(self.context.types):
            raise self.error(ErrCode.InvalidFuncTypeIdx, f" {type_index}")
        params, results = self.context.types[type_index]
        self.pop_val(I32)
        self.pop_vals(params)
        self.push_vals(results)
        return pos

    # Parametric instructions (3.3.4).

    def drop(self, pos: int, index: int) -> int:
        self.pop_val()
        return pos

    def select(self, pos: int, index: int) -> int:
        self.pop_val(I32)
        second, first = self.pop_val(), self.pop_val()
        chosen = second if first == UNKNOWN else first
        if chosen in REFERENCES:
            raise self.mismatch("select of references must name their type")
        if first != second and UNKNOWN not in (first, second):
            raise self.mismatch("select between operands of two types")
        if chosen != UNKNOWN:
            self.select_types[self.at] = chosen
        self.push_val(chosen)
        return pos

    def select_typed(self, pos: int, index: int) -> int:
        count, pos = self.u32(pos)
        if count != 1:
            raise self.error(ErrCode.InvalidResultArity, f": select of {count} types")
        chosen = self.val_type(pos)
        self.pop_vals([chosen, chosen, I32])
        self.push_val(chosen)
        return pos + 1

    # Variable instructions (3.3.5).

    def local_at(self, pos: int) -> tuple[int, int]:
        """The type of the local at `pos`, and the position behind it."""
        local, pos = self.u32(pos)
        if local >= len(self.locals):
            raise self.error(ErrCode.InvalidLocalIdx, f" {local}")
        return self.locals[local], pos

    def local_get(self, pos: int, index: int) -> int:
        local_type, pos = self.local_at(pos)
        self.push_val(local_type)
        return pos

    def local_set(self, pos: int, index: int) -> int:
        local_type, pos = self.local_at(pos)
        self.pop_val(local_type)
        return pos

    def local_tee(self, pos: int, index: int) -> int:
        local_type, pos = self.local_at(pos)
        self.pop_val(local_type)
        self.push_val(local_type)
        return pos

    def global_at(self, pos: int) -> tuple[int, bool, int]:
        """Type and mutability of the global at `pos`, and the position behind it."""
        index, pos = self.u32(pos)
        if index >= len(self.context.globals):
            raise self.error(ErrCode.InvalidGlobalIdx, f" {index}")
        return *self.context.globals[index], pos

    def global_get(self, pos: int, index: int) -> int:
        global_type, _, pos = self.global_at(pos)
        self.push_val(global_type)
        return pos

    def global_set(self, pos: int, index: int) -> int:
        global_type, mutable, pos = self.global_at(pos)
        if not mutable:
            raise self.error(ErrCode.ImmutableGlobal)
        self.pop_val(global_type)
        return pos

    # Table instructions (3.3.6) and reference instructions (3.3.3).

    def table_get(self, pos: int, index: int) -> int:
        element_type, pos = self.table_at(pos)
        self.pop_val(I32)
        self.push_val(element_type)
        return pos

    def table_set(self, pos: int, index: int) -> int:
        element_type, pos = self.table_at(pos)
        self.pop_vals([I32, element_type])
        return pos

    def table_grow(self, pos: int, index: int) -> int:
        element_type, pos = self.table_at(pos)
        self.pop_vals([element_type, I32])
        self.push_val(I32)
        return pos

    def table_fill(self, pos: int, index: int) -> int:
        element_type, pos = self.table_at(pos)
        self.pop_vals([I32, element_type, I32])
        return pos

    def ref_null(self, pos: int, index: int) -> int:
        code = self.code[pos]
        if code not in REFERENCES:
            raise self.malformed(ErrCode.MalformedRefType, f": {code:#04x}", pos)
        self.push_val(code)
        return pos + 1

    def ref_is_null(self, pos: int, index: int) -> int:
        found = self.pop_val()
        if found not in (*REFERENCES, UNKNOWN):
            raise self.mismatch(f"expected a reference, found {ValType(found)}")
        self.push_val(I32)
        return pos

    def refused(self, pos: int, index: int) -> int:
        """An opcode that this module cannot use."""
        row = ROWS[index]
        if row is None:
            prefix = index // 256
            message = illegal_opcode(index % 256, (0, PREFIX_FC, PREFIX_FD)[prefix])
            raise LoadError(ErrCode.IllegalOpCode, message, self.at)
        if row.proposal is not None and row.proposal not in self.context.proposals:
            message = needs(ErrCode.IllegalOpCode, row.name, row.proposal)
            raise LoadError(ErrCode.IllegalOpCode, message, self.at)
        # What is left lacks a memory (`dispatch.kinds`).
        raise self.error(ErrCode.InvalidMemoryIdx, " 0")

    def unexpected_end(self) -> LoadError:
        """The error for a body that ends before its last `end`."""
        last = self.body.end == self.ast.bodies[-1].end
        words = "unexpected end of section or function" if last else "END opcode expected"
        return LoadError(ErrCode.UnexpectedEnd, words, self.body.end)


Rule: TypeAlias = Callable[[Rules, int, int], int]

IMMEDIATES: dict[str, Rule] = {
    "": Rules.no_immediate,
    "memarg": Rules.memarg,
    "memarg_lane": Rules.memarg_lane,
    "lane": Rules.lane,
    "shuffle": Rules.shuffle,
    "i32": Rules.i32,
    "i64": Rules.i64,
    "f32": Rules.f32,
    "f64": Rules.f64,
    "v128": Rules.v128,
    "memory": Rules.memory,
    "memory_memory": Rules.memory_memory,
    "data": Rules.data,
    "data_memory": Rules.data_memory,
    "elem": Rules.elem,
    "elem_table": Rules.elem_table,
    "table": Rules.table,
    "table_table": Rules.table_table,
    "func": Rules.func,
}
"""By the table's name of the layout, for regular instructions."""

IRREGULAR: dict[int, Rule] = {
    0x00: Rules.unreachable_,
    0x02: Rules.block,
    0x03: Rules.block,
    0x04: Rules.if_,
    0x05: Rules.else_,
    0x0B: Rules.end,
    0x0C: Rules.br,
    0x0D: Rules.br_if,
    0x0E: Rules.br_table,
    0x0F: Rules.return_,
    0x10: Rules.call,
    0x11: Rules.call_indirect,
    0x1A: Rules.drop,
    0x1B: Rules.select,
    0x1C: Rules.select_typed,
    0x20: Rules.local_get,
    0x21: Rules.local_set,
    0x22: Rules.local_tee,
    0x23: Rules.global_get,
    0x24: Rules.global_set,
    0x25: Rules.table_get,
    0x26: Rules.table_set,
    0xD0: Rules.ref_null,
    0xD1: Rules.ref_is_null,
    0xFC0F: Rules.table_grow,
    0xFC11: Rules.table_fill,
}
"""By opcode, for instructions without a signature in the table."""

_REGULAR: dict[int, tuple[Rule, list[int], list[int]]] = {
    index_of(row.opcode): (IMMEDIATES[row.immediates], list(row.params), list(row.results))
    for row in INSTRUCTIONS
    if row.params is not None and row.results is not None
}


def rules(kinds: list[int]) -> list[Rule]:
    """The rule of each index of `dispatch`, for a module with these kinds."""
    result: list[Rule] = [Rules.refused] * SIZE
    for row in INSTRUCTIONS:
        index = index_of(row.opcode)
        if kinds[index] != REFUSED:
            result[index] = Rules.regular if index in _REGULAR else IRREGULAR[row.opcode]
    return result
