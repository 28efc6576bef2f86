"""Calls in the convention of wasm-bindgen: strings and bytes in and out of a module's memory.

Modules that `wasm-bindgen` has prepared (with rustwasmc, or Rust up to 1.50) take and give numbers
only; what is more than a number lies in their memory:

- text and bytes are copied to where `__wbindgen_malloc(size)` says, and are passed as pointer and
  length; the function owns them from then on;
- an array that is the result is somewhere in memory too: its pointer and length are written to an
  address that is passed as the first argument, and `__wbindgen_free(pointer, length)` takes it back
  when it has been copied;
- an i64 is passed as two i32, the low half first; as a result it is written to the address that is
  passed as the first argument.

No LLVM here: the asynchronous side checks arguments with the same functions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from wasmedge_runtime.errors import MESSAGES, ErrCode, WasmEdgeError
from wasmedge_runtime.types import FunctionType, ValType
from wasmedge_runtime.values import I32, I64

if TYPE_CHECKING:
    from wasmedge_runtime.function import Function
    from wasmedge_runtime.memory import Memory

__all__ = ["Argument", "BindgenReturn", "BindgenValue", "check_kind", "prepare", "run"]


class BindgenReturn(IntEnum):
    """What a function gives that wasm-bindgen has prepared."""

    VOID = 0
    """Nothing: None."""
    I32 = 1
    """A number of up to 32 bits, signed, also a bool or a char: an int."""
    I64 = 2
    """A number of 64 bits, signed: an int."""
    ARRAY = 3
    """Text or bytes: `bytes`."""


BindgenValue: TypeAlias = int | bytes | None
"""What a call gives."""

Argument: TypeAlias = I32 | I64 | bytes
"""An argument after `prepare`."""

FindFunction: TypeAlias = "Callable[[str], Function | None]"
FindMemory: TypeAlias = "Callable[[str], Memory | None]"

_ARRAY_AT = 8
_I64_AT = 0
_NOTHING = 0xFFFFFFFF
_MALLOC, _FREE, _MEMORY = "__wbindgen_malloc", "__wbindgen_free", "memory"
_MALLOC_TYPE = FunctionType([ValType.I32], [ValType.I32])
_FREE_TYPE = FunctionType([ValType.I32, ValType.I32], [])
_PAIR = struct.Struct("<II")
_I64 = struct.Struct("<q")


def check_kind(kind: object) -> BindgenReturn:
    """The kind of result that is asked for.

    Raises:
        TypeError: it is none.
    """
    if isinstance(kind, BindgenReturn):
        return kind
    raise TypeError(
        f"the kind of result must be BindgenReturn.{', '.join(BindgenReturn.__members__)}, "
        f"not {kind!r}; it stands behind the function's name"
    )


def prepare(args: Sequence[Any]) -> list[Argument]:
    """Arguments as they are passed: numbers by their width, text as UTF-8.

    Raises:
        TypeError: one is neither a number nor text nor bytes.
        OverflowError: a number does not fit.
    """
    prepared: list[Argument] = []
    for position, value in enumerate(args, 1):
        if isinstance(value, (I32, I64, bytes)):
            prepared.append(value)
        elif isinstance(value, str):
            prepared.append(value.encode())
        elif isinstance(value, (bytearray, memoryview)):
            prepared.append(bytes(value))
        elif hasattr(value, "__index__"):
            try:
                prepared.append(I32(value))
            except OverflowError as error:
                raise OverflowError(
                    f"argument {position}: {error}; pass I64({value}) where the function wants 64 "
                    "bits"
                ) from None
        else:
            raise TypeError(
                f"argument {position} must be an int (i32), I64, str or bytes, "
                f"not {type(value).__name__}"
            )
    return prepared


def run(
    name: str,
    kind: BindgenReturn,
    args: Sequence[Any],
    find_function: FindFunction,
    find_memory: FindMemory,
) -> BindgenValue:
    """Make a call.

    Args:
        name: the function's name.
        kind: what it gives.
        args: as `prepare` takes them.
        find_function, find_memory: find what the module exports; None for what it does not.

    Raises:
        TypeError, OverflowError: as `check_kind` and `prepare`.
        WasmEdgeError: FuncNotFound for the function or the allocator, FuncSigMismatch when kind and
            arguments do not fit the function, WrongInstanceIndex when the module has no memory; all
            before anything is called. MemoryOutOfBounds when what the module says about its memory
            is wrong. RuntimeError when it has ended itself (`proc_exit`) instead of giving a
            result.
        Trap, HostFunctionError: the function, or the allocator, failed.
    """
    kind = check_kind(kind)
    arguments = prepare(args)
    function = find_function(name)
    if function is None:
        raise WasmEdgeError(
            ErrCode.FuncNotFound,
            f"{MESSAGES[ErrCode.FuncNotFound]}: {name!r} is no exported function of the module",
        )
    places = {BindgenReturn.ARRAY: [_ARRAY_AT], BindgenReturn.I64: [_I64_AT]}.get(kind, [])
    _check_type(name, function.function_type, kind, len(places), arguments)
    texts = any(isinstance(argument, bytes) for argument in arguments)
    malloc = _allocator(find_function, _MALLOC, _MALLOC_TYPE) if texts else None
    free = _allocator(find_function, _FREE, _FREE_TYPE) if kind is BindgenReturn.ARRAY else None
    memory = _memory(find_memory) if texts or places else None

    numbers = list(places)
    for position, argument in enumerate(arguments, 1):
        if not isinstance(argument, bytes):
            bits = int(argument) & 0xFFFFFFFFFFFFFFFF
            numbers.append(bits & 0xFFFFFFFF)
            if isinstance(argument, I64):
                numbers.append(bits >> 32)
        elif malloc is not None and memory is not None:
            pointer = _only(malloc(len(argument)), _MALLOC) & 0xFFFFFFFF
            who = f"{_MALLOC} gave, for argument {position},"
            _check_bounds(memory, who, pointer, len(argument))
            memory.set_data(argument, pointer)
            numbers += [pointer, len(argument)]

    if kind is BindgenReturn.VOID:
        function(*numbers)
        return None
    if kind is BindgenReturn.I32 or memory is None:
        return _only(function(*numbers), name)
    if kind is BindgenReturn.I64:
        function(*numbers)
        (number,) = _I64.unpack(memory.get_data(_I64_AT, _I64.size))
        return int(number)
    # No array is there: what an earlier call left must not be taken for this one's, and freed
    # again, when the program ends itself.
    memory.set_data(_PAIR.pack(_NOTHING, _NOTHING), _ARRAY_AT)
    function(*numbers)
    pointer, length = _PAIR.unpack(memory.get_data(_ARRAY_AT, _PAIR.size))
    if pointer == length == _NOTHING:
        raise _no_result(name)
    _check_bounds(memory, f"{name!r} gave as its result", pointer, length)
    content = memory.get_data(pointer, length)
    if free is not None:
        free(pointer, length)
    return content


def _only(results: Sequence[Any], name: str) -> int:
    """The result of a function that has one."""
    if not results:
        raise _no_result(name)
    return int(results[0])


def _no_result(name: str) -> WasmEdgeError:
    return WasmEdgeError(
        ErrCode.RuntimeError,
        f"{name!r} gave no result: it ended the program, as proc_exit does; instantiate again",
    )


def _check_type(
    name: str,
    kind: FunctionType,
    wanted: BindgenReturn,
    places: int,
    arguments: Sequence[Argument],
) -> None:
    """Raise unless the function takes what the call passes, and gives what is asked for."""
    passed = places + sum(1 if isinstance(argument, I32) else 2 for argument in arguments)
    given = [ValType.I32] if wanted is BindgenReturn.I32 else []
    expected = FunctionType([ValType.I32] * passed, given)
    if kind != expected:
        raise WasmEdgeError(
            ErrCode.FuncSigMismatch,
            f"{MESSAGES[ErrCode.FuncSigMismatch]}: {name!r} is {kind}; with "
            f"BindgenReturn.{wanted.name} and {len(arguments)} arguments it would have to be "
            f"{expected} (text and bytes are a pointer and a length, I64 is two halves, ARRAY and "
            "I64 results have an address in front). Check the kind of result and the arguments; "
            "a function that wasm-bindgen did not prepare is called with `execute`",
        )


def _allocator(find: FindFunction, name: str, wanted: FunctionType) -> Function:
    function = find(name)
    if function is None:
        raise WasmEdgeError(
            ErrCode.FuncNotFound,
            f"{MESSAGES[ErrCode.FuncNotFound]}: the module does not export {name!r}, which text, "
            "bytes and arrays need; build it with wasm-bindgen (rustwasmc), or copy them yourself "
            "and call `execute`",
        )
    if function.function_type != wanted:
        raise WasmEdgeError(
            ErrCode.FuncSigMismatch,
            f"{MESSAGES[ErrCode.FuncSigMismatch]}: {name!r} is {function.function_type}, this "
            f"calling convention has {wanted}; build the module with the wasm-bindgen of rustwasmc "
            "(Rust up to 1.50)",
        )
    return function


def _memory(find: FindMemory) -> Memory:
    memory = find(_MEMORY)
    if memory is None:
        raise WasmEdgeError(
            ErrCode.WrongInstanceIndex,
            f"{MESSAGES[ErrCode.WrongInstanceIndex]}: the module does not export its memory as "
            f"{_MEMORY!r}, through which text, bytes, arrays and I64 results go; build it with "
            "wasm-bindgen (rustwasmc)",
        )
    return memory


def _check_bounds(memory: Memory, who: str, pointer: int, length: int) -> None:
    if pointer + length > memory.byte_size:
        raise WasmEdgeError(
            ErrCode.MemoryOutOfBounds,
            f"{MESSAGES[ErrCode.MemoryOutOfBounds]}: {who} {length} bytes at {pointer}, the "
            f"memory has {memory.byte_size}: the module's functions do not follow the convention "
            "of wasm-bindgen, or it is broken",
        )
