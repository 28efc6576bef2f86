"""Rules of the instructions that the loop in `function` does not treat itself.

Core specification 3.3. A rule is called with the position behind the opcode and returns the one
behind the immediates; all operands are on `vals`. Regular instructions have a rule for their
immediates only (`immediates`) and take their types from the table; irregular ones have one of
their own (`IRREGULAR`), named after the instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

from wasmedge_runtime import limits
from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.errors import ErrCode, LoadError
from wasmedge_runtime.features import illegal_opcode, needs
from wasmedge_runtime.opcodes import INSTRUCTIONS
from wasmedge_runtime.types import ValType
from wasmedge_runtime.validate.dispatch import (
    PREFIX_FC,
    PREFIX_FD,
    REFUSED,
    ROWS,
    SIZE,
    index_of,
    kinds,
)
from wasmedge_runtime.validate.immediates import IMMEDIATES, BodyReader, ImmediateRule
from wasmedge_runtime.validate.stack import UNKNOWN

I32 = int(ValType.I32)
FUNCREF = int(ValType.FUNCREF)
EXTERNREF = int(ValType.EXTERNREF)
REFERENCES = (FUNCREF, EXTERNREF)

LOOP, IF, ELSE = 0x03, 0x04, 0x05


class Rules(BodyReader):
    """The rules, applied to the body that is being validated."""

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
        if found != UNKNOWN and found not in REFERENCES:
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


Rule: TypeAlias = Callable[[Rules, int, int], int]

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

_REGULAR: dict[int, tuple[ImmediateRule, list[int], list[int]]] = {
    index_of(row.opcode): (IMMEDIATES[row.immediates], list(row.params), list(row.results))
    for row in INSTRUCTIONS
    if row.params is not None and row.results is not None
}


@lru_cache(maxsize=64)
def rules(proposals: frozenset[Proposal], has_memory: bool) -> list[Rule]:
    """The rule of each index of `dispatch`, for a module of the same `kinds`."""
    allowed = kinds(proposals, has_memory)
    result: list[Rule] = [Rules.refused] * SIZE
    for row in INSTRUCTIONS:
        index = index_of(row.opcode)
        if allowed[index] != REFUSED:
            result[index] = Rules.regular if index in _REGULAR else IRREGULAR[row.opcode]
    return result
