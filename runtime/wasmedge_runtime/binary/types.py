"""Reading types: core specification 5.3."""

from __future__ import annotations

from collections.abc import Mapping

from wasmedge_runtime import limits
from wasmedge_runtime.binary.reader import Reader, load_error
from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.errors import ErrCode, LoadError
from wasmedge_runtime.features import needs, remedy
from wasmedge_runtime.module import AST
from wasmedge_runtime.types import (
    FunctionType,
    GlobalType,
    Limit,
    MemoryType,
    RefType,
    TableType,
    ValMut,
    ValType,
)

FUNCTION_TYPE = 0x60

_VAL_TYPES = {int(t): t for t in ValType}
_REF_TYPES = {int(t): t for t in RefType}

VAL_TYPE_PROPOSALS = {
    ValType.V128: Proposal.SIMD,
    ValType.FUNCREF: Proposal.REFERENCE_TYPES,
    ValType.EXTERNREF: Proposal.REFERENCE_TYPES,
}
"""The proposal that makes a type one of values."""

# Codes of types that are not supported yet. For messages only.
LATER_TYPES = {
    0x69: Proposal.EXCEPTION_HANDLING,
    0x74: Proposal.EXCEPTION_HANDLING,
    0x63: Proposal.FUNCTION_REFERENCES,
    0x64: Proposal.FUNCTION_REFERENCES,
} | dict.fromkeys((0x6A, 0x6B, 0x6C, 0x6D, 0x6E, 0x71, 0x72, 0x73, 0x77, 0x78), Proposal.GC)
# Where a reference type stands, 0x40 announces a table with an initializer.
_LATER_REF_TYPES = LATER_TYPES | {0x40: Proposal.FUNCTION_REFERENCES}
_LATER_COMPOSITE_TYPES = dict.fromkeys((0x4E, 0x4F, 0x50, 0x5E, 0x5F), Proposal.GC)


class TypeReader:
    """Reads types at the position of a Reader, and notes in the AST which proposals they need."""

    def __init__(self, reader: Reader, ast: AST) -> None:
        self.reader = reader
        self.ast = ast
        # Toolchains repeat types, and fuzzers repeat them a million times: equal ones share one.
        self._function_types: dict[tuple[bytes, bytes], FunctionType] = {}

    def need(self, proposal: Proposal, what: str, code: ErrCode, offset: int) -> None:
        """Refuse `what`, found at `offset`, unless its proposal is on."""
        if proposal not in self.ast.proposals:
            raise LoadError(code, needs(code, what, proposal), offset)
        self.ast.uses.setdefault(proposal, (code, what, offset))

    def val_type(self) -> ValType:
        """A value type (5.3.4): MalformedValType."""
        offset = self.reader.pos
        return self._val_type(self.reader.byte(), offset)

    def _val_type(self, byte: int, offset: int) -> ValType:
        val_type = _VAL_TYPES.get(byte)
        if val_type is None:
            raise _unknown_type(ErrCode.MalformedValType, byte, offset)
        proposal = VAL_TYPE_PROPOSALS.get(val_type)
        if proposal is not None:
            self.need(proposal, f"the type {val_type}", ErrCode.MalformedValType, offset)
        return val_type

    def ref_type(self) -> RefType:
        """A reference type (5.3.3): MalformedRefType."""
        offset = self.reader.pos
        byte = self.reader.byte()
        ref_type = _REF_TYPES.get(byte)
        if ref_type is None:
            raise _unknown_type(ErrCode.MalformedRefType, byte, offset, _LATER_REF_TYPES)
        if ref_type is RefType.EXTERNREF:
            what = "the type externref"
            self.need(Proposal.REFERENCE_TYPES, what, ErrCode.MalformedRefType, offset)
        return ref_type

    def function_type(self) -> FunctionType:
        """A function type (5.3.6)."""
        offset = self.reader.pos
        form = self.reader.byte()
        if form >= 0x80:  # the specification takes it for a number of 7 bits
            raise load_error(ErrCode.IntegerTooLong, offset, "one byte says the kind of a type")
        if form != FUNCTION_TYPE:
            details = f"{form:#04x} begins no function type"
            if form in _LATER_COMPOSITE_TYPES:
                details += f"; it needs the proposal {remedy(_LATER_COMPOSITE_TYPES[form])}"
            raise load_error(ErrCode.IllegalGrammar, offset, details)
        params, at_params = self._result_type("parameters", limits.MAX_PARAMS)
        results, at_results = self._result_type("results", limits.MAX_RESULTS)
        function_type = self._function_types.get((params, results))
        if function_type is None:
            function_type = FunctionType(
                [self._val_type(byte, at_params + i) for i, byte in enumerate(params)],
                [self._val_type(byte, at_results + i) for i, byte in enumerate(results)],
            )
            self._function_types[params, results] = function_type
        return function_type

    def _result_type(self, what: str, limit: int) -> tuple[bytes, int]:
        count = self.reader.count(what, limit)
        offset = self.reader.pos
        return self.reader.take(count), offset

    def limit(self, what: str) -> Limit:
        """The size range of a table or memory (5.3.7): IllegalGrammar for unknown flags.

        Bounds are read as 64 bits, as later versions do; what is too large the validator says.
        """
        offset = self.reader.pos
        flags = self.reader.byte()
        if flags > 1:
            message = "malformed limits flags"
            if flags in (2, 3):
                message += f": a shared {what} needs the proposal {remedy(Proposal.THREADS)}"
            elif flags in (4, 5, 6, 7):
                message += f": a 64-bit {what} needs the proposal {remedy(Proposal.MEMORY64)}"
            raise LoadError(ErrCode.IllegalGrammar, message, offset)
        low = self.reader.u64()
        return Limit(low, self.reader.u64() if flags else None)

    def table_type(self) -> TableType:
        """A table type (5.3.9)."""
        ref_type = self.ref_type()
        return TableType(ref_type, self.limit("table"))

    def memory_type(self) -> MemoryType:
        """A memory type (5.3.8)."""
        return MemoryType(self.limit("memory"))

    def global_type(self) -> GlobalType:
        """A global type (5.3.10): InvalidMut."""
        val_type = self.val_type()
        offset = self.reader.pos
        mutability = self.reader.byte()
        if mutability > 1:
            raise load_error(ErrCode.InvalidMut, offset, f"{mutability:#04x}")
        return GlobalType(val_type, ValMut(mutability))


def _unknown_type(
    code: ErrCode, byte: int, offset: int, later: Mapping[int, Proposal] = LATER_TYPES
) -> LoadError:
    details = f"{byte:#04x}"
    if byte in later:
        details += f" needs the proposal {remedy(later[byte])}"
    return load_error(code, offset, details)
