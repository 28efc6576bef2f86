"""The exceptions of the engine.

::

    Exception
    +-- WasmEdgeError(code, message)
    |   +-- LoadError              the bytes are not a module (.offset)
    |   +-- ValidationError        the module is not valid (.offset)
    |   +-- InstantiationError     imports do not fit
    |   +-- Trap                   the guest did what it must not, or was stopped (.kind, .frames)
    |   +-- HostFunctionError      a host function raised (the exception is `__cause__`)
    +-- Terminate                  raised by a host function: end the call, successfully
    +-- Fail                       raised by a host function: end the call as failed

A message starts with the words of the specification's test suite (`MESSAGES`); details follow.
Wrong arguments of Python calls raise Python's own `TypeError`, `ValueError`, `OverflowError`.
"""

from __future__ import annotations

from enum import Enum, IntEnum

__all__ = [
    "MESSAGES",
    "ErrCode",
    "Fail",
    "HostFunctionError",
    "InstantiationError",
    "LoadError",
    "Terminate",
    "Trap",
    "ValidationError",
    "WasmEdgeError",
    "closed_error",
]


class ErrCode(IntEnum):
    """What went wrong, with WasmEdge's numbers: below 0x20 what belongs to no phase, then
    0x20 loading, 0x40 validation, 0x60 instantiation, 0x80 execution."""

    Success = 0x00
    Terminated = 0x01
    RuntimeError = 0x02
    CostLimitExceeded = 0x03
    WrongVMWorkflow = 0x04
    FuncNotFound = 0x05
    AOTDisabled = 0x06
    Interrupted = 0x07

    IllegalPath = 0x20
    ReadError = 0x21
    UnexpectedEnd = 0x22
    MalformedMagic = 0x23
    MalformedVersion = 0x24
    MalformedSection = 0x25
    SectionSizeMismatch = 0x26
    NameSizeOutOfBounds = 0x27
    JunkSection = 0x28
    IncompatibleFuncCode = 0x29
    IncompatibleDataCount = 0x2A
    DataCountRequired = 0x2B
    MalformedImportKind = 0x2C
    MalformedExportKind = 0x2D
    ExpectedZeroByte = 0x2E
    InvalidMut = 0x2F
    TooManyLocals = 0x30
    MalformedValType = 0x31
    MalformedElemType = 0x32
    MalformedRefType = 0x33
    MalformedUTF8 = 0x34
    IntegerTooLarge = 0x35
    IntegerTooLong = 0x36
    IllegalOpCode = 0x37
    IllegalGrammar = 0x38

    InvalidAlignment = 0x40
    TypeCheckFailed = 0x41
    InvalidLabelIdx = 0x42
    InvalidLocalIdx = 0x43
    InvalidFuncTypeIdx = 0x44
    InvalidFuncIdx = 0x45
    InvalidTableIdx = 0x46
    InvalidMemoryIdx = 0x47
    InvalidGlobalIdx = 0x48
    InvalidElemIdx = 0x49
    InvalidDataIdx = 0x4A
    InvalidRefIdx = 0x4B
    ConstExprRequired = 0x4C
    DupExportName = 0x4D
    ImmutableGlobal = 0x4E
    InvalidResultArity = 0x4F
    MultiTables = 0x50
    MultiMemories = 0x51
    InvalidLimit = 0x52
    InvalidMemPages = 0x53
    InvalidStartFunc = 0x54
    InvalidLaneIdx = 0x55

    ModuleNameConflict = 0x60
    IncompatibleImportType = 0x61
    UnknownImport = 0x62
    DataSegDoesNotFit = 0x63
    ElemSegDoesNotFit = 0x64

    WrongInstanceAddress = 0x80
    WrongInstanceIndex = 0x81
    InstrTypeMismatch = 0x82
    FuncSigMismatch = 0x83
    DivideByZero = 0x84
    IntegerOverflow = 0x85
    InvalidConvToInt = 0x86
    TableOutOfBounds = 0x87
    MemoryOutOfBounds = 0x88
    Unreachable = 0x89
    UninitializedElement = 0x8A
    UndefinedElement = 0x8B
    IndirectCallTypeMismatch = 0x8C
    ExecutionFailed = 0x8D
    RefTypeMismatch = 0x8E

    # IntEnum shows a bare number, which says nothing in a message.
    __str__ = Enum.__str__


MESSAGES: dict[ErrCode, str] = {
    ErrCode.Success: "success",
    ErrCode.Terminated: "terminated",
    ErrCode.RuntimeError: "generic runtime error",
    ErrCode.CostLimitExceeded: "cost limit exceeded",
    ErrCode.WrongVMWorkflow: "wrong VM workflow",
    ErrCode.FuncNotFound: "wasm function not found",
    ErrCode.AOTDisabled: "AOT runtime is disabled",
    ErrCode.Interrupted: "execution interrupted",
    ErrCode.IllegalPath: "invalid path",
    ErrCode.ReadError: "read error",
    ErrCode.UnexpectedEnd: "unexpected end",
    ErrCode.MalformedMagic: "magic header not detected",
    ErrCode.MalformedVersion: "unknown binary version",
    ErrCode.MalformedSection: "malformed section id",
    ErrCode.SectionSizeMismatch: "section size mismatch",
    ErrCode.NameSizeOutOfBounds: "length out of bounds",
    ErrCode.JunkSection: "unexpected content after last section",
    ErrCode.IncompatibleFuncCode: "function and code section have inconsistent lengths",
    ErrCode.IncompatibleDataCount: "data count and data section have inconsistent lengths",
    ErrCode.DataCountRequired: "data count section required",
    ErrCode.MalformedImportKind: "malformed import kind",
    ErrCode.MalformedExportKind: "malformed export kind",
    ErrCode.ExpectedZeroByte: "zero byte expected",
    ErrCode.InvalidMut: "malformed mutability",
    ErrCode.TooManyLocals: "too many locals",
    ErrCode.MalformedValType: "malformed value type",
    ErrCode.MalformedElemType: "malformed element type",
    ErrCode.MalformedRefType: "malformed reference type",
    ErrCode.MalformedUTF8: "malformed UTF-8 encoding",
    ErrCode.IntegerTooLarge: "integer too large",
    ErrCode.IntegerTooLong: "integer representation too long",
    ErrCode.IllegalOpCode: "illegal opcode",
    ErrCode.IllegalGrammar: "invalid wasm grammar",
    ErrCode.InvalidAlignment: "alignment must not be larger than natural",
    ErrCode.TypeCheckFailed: "type mismatch",
    ErrCode.InvalidLabelIdx: "unknown label",
    ErrCode.InvalidLocalIdx: "unknown local",
    ErrCode.InvalidFuncTypeIdx: "unknown type",
    ErrCode.InvalidFuncIdx: "unknown function",
    ErrCode.InvalidTableIdx: "unknown table",
    ErrCode.InvalidMemoryIdx: "unknown memory",
    ErrCode.InvalidGlobalIdx: "unknown global",
    ErrCode.InvalidElemIdx: "unknown elem segment",
    ErrCode.InvalidDataIdx: "unknown data segment",
    ErrCode.InvalidRefIdx: "undeclared function reference",
    ErrCode.ConstExprRequired: "constant expression required",
    ErrCode.DupExportName: "duplicate export name",
    ErrCode.ImmutableGlobal: "immutable global",
    ErrCode.InvalidResultArity: "invalid result arity",
    ErrCode.MultiTables: "multiple tables",
    ErrCode.MultiMemories: "multiple memories",
    ErrCode.InvalidLimit: "size minimum must not be greater than maximum",
    ErrCode.InvalidMemPages: "memory size must be at most 65536 pages (4GiB)",
    ErrCode.InvalidStartFunc: "start function",
    ErrCode.InvalidLaneIdx: "invalid lane index",
    ErrCode.ModuleNameConflict: "module name conflict",
    ErrCode.IncompatibleImportType: "incompatible import type",
    ErrCode.UnknownImport: "unknown import",
    ErrCode.DataSegDoesNotFit: "data segment does not fit",
    ErrCode.ElemSegDoesNotFit: "elements segment does not fit",
    ErrCode.WrongInstanceAddress: "wrong instance address",
    ErrCode.WrongInstanceIndex: "wrong instance index",
    ErrCode.InstrTypeMismatch: "instruction type mismatch",
    ErrCode.FuncSigMismatch: "function signature mismatch",
    ErrCode.DivideByZero: "integer divide by zero",
    ErrCode.IntegerOverflow: "integer overflow",
    ErrCode.InvalidConvToInt: "invalid conversion to integer",
    ErrCode.TableOutOfBounds: "out of bounds table access",
    ErrCode.MemoryOutOfBounds: "out of bounds memory access",
    ErrCode.Unreachable: "unreachable",
    ErrCode.UninitializedElement: "uninitialized element",
    ErrCode.UndefinedElement: "undefined element",
    ErrCode.IndirectCallTypeMismatch: "indirect call type mismatch",
    ErrCode.ExecutionFailed: "host function failed",
    ErrCode.RefTypeMismatch: "reference type mismatch",
}


class WasmEdgeError(Exception):
    """Anything the engine refuses or gives up on.

    Using an object after its `close()` is one too, with `ErrCode.RuntimeError`.

    Args:
        code: what went wrong.
        message: the whole text; `MESSAGES[code]` when None.
    """

    def __init__(self, code: ErrCode, message: str | None = None) -> None:
        # `args` are the constructor's arguments, so that copying and pickling work.
        super().__init__(code, message)
        self.code = ErrCode(code)
        self.message = MESSAGES[self.code] if message is None else message

    def __str__(self) -> str:
        return self.message


class _OffsetError(WasmEdgeError):
    """An error that has a place in the module's bytes; the message ends with it."""

    def __init__(
        self, code: ErrCode, message: str | None = None, offset: int | None = None
    ) -> None:
        super().__init__(code, message)
        self.args = (code, message, offset)
        self.offset = offset
        if offset is not None:
            self.message += f" (at offset {offset:#x})"


class LoadError(_OffsetError):
    """The bytes are not a module, or use a proposal that is off (specification chapter 5).

    `offset` is the byte in the file where reading stopped, None when the file could not be read.
    """


class ValidationError(_OffsetError):
    """The module breaks a rule of validation (specification chapter 3).

    `offset` is the byte of the offending instruction or item, None when there is no single one.
    """


class InstantiationError(WasmEdgeError):
    """The imports do not fit, or a name is already taken (specification 4.5.4)."""


class Trap(WasmEdgeError):
    """A call was ended by a trap, by the cost limit, or by an interruption (specification 4.4).

    `frames` names the wasm functions that were running, innermost first, where known.
    """

    def __init__(
        self, code: ErrCode, message: str | None = None, frames: tuple[str, ...] = ()
    ) -> None:
        super().__init__(code, message)
        self.args = (code, message, frames)
        self.frames = tuple(frames)

    @property
    def kind(self) -> ErrCode:
        """The reason, the same as `code`."""
        return self.code


class HostFunctionError(WasmEdgeError):
    """A host function raised `Fail` or any other exception, which is the `__cause__`."""

    def __init__(self, code: ErrCode = ErrCode.ExecutionFailed, message: str | None = None) -> None:
        super().__init__(code, message)


class Terminate(Exception):
    """Raise it in a host function to end the whole call successfully: the call returns `[]`."""


class Fail(Exception):
    """Raise it in a host function to end the whole call as failed (`HostFunctionError`)."""


def closed_error(owner: object) -> WasmEdgeError:
    """Return the error for using `owner` after its `close()`."""
    return WasmEdgeError(
        ErrCode.RuntimeError, f"this {type(owner).__name__} is closed and cannot be used any more"
    )
