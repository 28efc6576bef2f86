"""The table of messages: the tag of each, and the check of each of its fields.

Types are compared exactly: bool is no int here. What a worker sends is believed field by field, no
further; what is only a tuple here is checked by whoever turns it into an object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from wasmedge_pool.messages import (
    FLOAT,
    OBJECT,
    SCALARS,
    Batch,
    BatchError,
    BatchResults,
    Broadcast,
    Call,
    CallBindgen,
    CallHandle,
    Chunk,
    Cleanup,
    Compile,
    CreateVM,
    Data,
    DropVM,
    Failure,
    Find,
    Follow,
    GetCodeStatus,
    GetExitCode,
    GetFunctionList,
    GetFunctionType,
    GetStatistics,
    HasHost,
    Hello,
    HostCall,
    HostReply,
    InitCommands,
    InitWasi,
    Instantiate,
    Items,
    List,
    Load,
    Log,
    Message,
    Operate,
    Progress,
    ReadMemory,
    Ready,
    Register,
    RegisterImport,
    Release,
    Result,
    Run,
    SetStatistics,
    Share,
    Skipped,
    Spawn,
    Unreferenced,
    Validate,
    Want,
    Wanted,
    Within,
    WriteMemory,
)
from wasmedge_runtime.types import ValType

__all__ = ["PARENT_MESSAGES", "TAGS", "WORKER_MESSAGES"]


def _number(field: object) -> bool:
    return type(field) is int and field >= 0


def _number_or_nil(field: object) -> bool:
    return field is None or (type(field) is int and field >= 0)


def _text(field: object) -> bool:
    return type(field) is str


def _text_or_nil(field: object) -> bool:
    return field is None or type(field) is str


def _bytes(field: object) -> bool:
    return type(field) is bytes


def _digest(field: object) -> bool:
    """Of a module: as long as a SHA-256, since thousands of them are kept."""
    return type(field) is bytes and len(field) == 32


def _bytes_or_nil(field: object) -> bool:
    return field is None or type(field) is bytes


def _tuple(field: object) -> bool:
    """A tuple that is checked in full by whoever turns it into an object."""
    return type(field) is tuple


def _values(field: object) -> bool:
    if type(field) is not tuple:
        return False
    return SCALARS.issuperset(map(type, field)) or all(map(_value, field))


def _value(value: object) -> bool:
    kind = type(value)
    if kind in SCALARS:
        return True
    if type(value) is tuple:
        return (
            len(value) == 2
            and type(value[0]) is int
            and OBJECT <= value[0] <= FLOAT
            and _number(value[1])
        )
    return type(value) is bytes and len(value) == 16


def _texts(field: object) -> bool:
    return type(field) is tuple and all(type(text) is str for text in field)


def _numbers(field: object) -> bool:
    return type(field) is tuple and all(map(_number, field))


def _counts(field: object) -> bool:
    """Pairs of numbers."""
    return type(field) is tuple and all(
        type(pair) is tuple and len(pair) == 2 and _numbers(pair) for pair in field
    )


_TYPE_CODES = frozenset(map(int, ValType))


def _items(field: object) -> bool:
    return type(field) is tuple and all(
        type(item) is tuple
        and len(item) == 3
        and type(item[0]) is str
        and type(item[1]) is bytes
        and type(item[2]) is bytes
        and _TYPE_CODES.issuperset(item[1])
        and _TYPE_CODES.issuperset(item[2])
        for item in field
    )


_Check: TypeAlias = Callable[[object], bool]

PARENT_MESSAGES: dict[int, tuple[type[Message], tuple[_Check, ...]]] = {
    1: (Hello, (_number, _number)),
    2: (Chunk, (_number, _bytes)),
    3: (CreateVM, (_number, _number, _tuple, _number)),
    4: (Load, (_number, _number, _bytes_or_nil)),
    5: (Register, (_number, _number, _text, _bytes_or_nil)),
    6: (Validate, (_number, _number)),
    7: (Instantiate, (_number, _number)),
    8: (Cleanup, (_number, _number)),
    9: (Call, (_number, _number, _text_or_nil, _text, _values, _number_or_nil)),
    10: (Run, (_number, _number, _bytes_or_nil, _text, _values, _number_or_nil)),
    11: (GetFunctionList, (_number, _number)),
    12: (GetFunctionType, (_number, _number, _text_or_nil, _text)),
    13: (GetCodeStatus, (_number, _number)),
    14: (RegisterImport, (_number, _number, _text, _tuple, _tuple)),
    15: (Find, (_number, _number, _number, _text_or_nil, _text)),
    16: (List, (_number, _number, _number, _text_or_nil)),
    17: (Operate, (_number, _number, _number, _number, _values)),
    18: (CallHandle, (_number, _number, _number, _values, _number_or_nil)),
    19: (ReadMemory, (_number, _number, _number, _number, _number)),
    20: (WriteMemory, (_number, _number, _number, _number)),
    21: (Release, (_number, _numbers)),
    22: (GetStatistics, (_number, _number)),
    23: (SetStatistics, (_number, _number, _number_or_nil, _number, _number)),
    24: (InitWasi, (_number, _number, _number, _texts, _texts, _texts, _texts)),
    25: (GetExitCode, (_number, _number)),
    26: (Spawn, (_number, _number, _bytes_or_nil, _texts, _texts, _texts, _texts)),
    27: (DropVM, (_number, _number)),
    28: (HostReply, (_number, _number, _values)),
    29: (Within, (_number,)),
    30: (Follow, (_bytes_or_nil,)),
    31: (Compile, (_number, _tuple, _bytes_or_nil, _number)),
    48: (Want, (_digest, _numbers)),
    56: (
        CallBindgen,
        (_number, _number, _text_or_nil, _text, _number, _counts, _number, _number_or_nil),
    ),
    57: (InitCommands, (_number, _number, _number, _texts, _number, _bytes)),
    58: (HasHost, (_number, _number, _text)),
    64: (Share, (_number, _number, _number)),
    65: (Broadcast, (_number, _number, _text, _values, _number_or_nil)),
    66: (Batch, (_number, _number, _text, _number, _values, _number, _number_or_nil)),
}
WORKER_MESSAGES: dict[int, tuple[type[Message], tuple[_Check, ...]]] = {
    32: (Ready, (_number, _number)),
    33: (Result, (_number, _number, _number, _values)),
    34: (Items, (_number, _items)),
    35: (Failure, (_number, _number, _number, _tuple)),
    36: (Log, (_text, _number, _text)),
    37: (Skipped, (_number,)),
    38: (Data, (_number, _bytes)),
    39: (HostCall, (_number, _number, _number, _number, _values)),
    40: (Unreferenced, (_counts,)),
    41: (Wanted, (_digest, _numbers)),
    42: (Progress, (_number, _number, _number, _number, _number, _number)),
    43: (BatchError, (_number, _number, _tuple)),
    44: (BatchResults, (_number, _number, _bytes, _bytes)),
}
TAGS: dict[type[Message], int] = {
    message: tag for tag, (message, _) in (PARENT_MESSAGES | WORKER_MESSAGES).items()
}
