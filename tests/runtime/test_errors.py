"""The exceptions of the engine."""

from __future__ import annotations

import copy
import pickle

import pytest

from wasmedge_runtime import (
    ErrCode,
    Fail,
    HostFunctionError,
    InstantiationError,
    LoadError,
    Terminate,
    Trap,
    ValidationError,
    WasmEdgeError,
)
from wasmedge_runtime.errors import MESSAGES, closed_error

EXAMPLES = [
    WasmEdgeError(ErrCode.FuncNotFound),
    LoadError(ErrCode.UnexpectedEnd, offset=26),
    ValidationError(ErrCode.TypeCheckFailed, "type mismatch: expected i32", 7),
    InstantiationError(ErrCode.UnknownImport, "unknown import: env.f"),
    Trap(ErrCode.DivideByZero, frames=("div", "main")),
    HostFunctionError(message="host function failed: f"),
]


def test_every_code_has_a_message() -> None:
    assert set(MESSAGES) == set(ErrCode)


def test_no_two_codes_share_a_message() -> None:
    assert len(set(MESSAGES.values())) == len(MESSAGES)


def test_codes_have_the_numbers_of_their_phase() -> None:
    ranges = {
        "Success": (0x00, 0x07),
        "IllegalPath": (0x20, 0x38),
        "InvalidAlignment": (0x40, 0x55),
        "ModuleNameConflict": (0x60, 0x64),
        "WrongInstanceAddress": (0x80, 0x8E),
    }
    expected = [code for first, last in ranges.values() for code in range(first, last + 1)]
    assert [int(code) for code in ErrCode] == expected
    assert all(ErrCode[name] == first for name, (first, _) in ranges.items())


def test_the_default_message_is_that_of_the_code() -> None:
    error = WasmEdgeError(ErrCode.FuncNotFound)
    assert error.code is ErrCode.FuncNotFound
    assert error.message == str(error) == "wasm function not found"


@pytest.mark.parametrize("error_class", [LoadError, ValidationError])
def test_load_and_validation_errors_end_with_their_offset(
    error_class: type[LoadError | ValidationError],
) -> None:
    error = error_class(ErrCode.IntegerTooLong, "integer representation too long: u32", 26)
    assert error.offset == 26
    assert error.message == str(error) == "integer representation too long: u32 (at offset 0x1a)"
    assert error_class(ErrCode.ReadError).offset is None
    assert str(error_class(ErrCode.ReadError)) == "read error"


def test_a_trap_has_a_kind_and_the_names_of_its_frames() -> None:
    trap = Trap(ErrCode.Unreachable, frames=("f", "main"))
    assert trap.kind is trap.code is ErrCode.Unreachable
    assert trap.frames == ("f", "main")
    assert str(trap) == "unreachable"
    assert Trap(ErrCode.RuntimeError, "call stack exhausted").frames == ()


def test_a_host_function_error_is_an_execution_failure() -> None:
    assert HostFunctionError().code is ErrCode.ExecutionFailed
    assert str(HostFunctionError()) == "host function failed"


def test_what_host_functions_raise_is_not_an_engine_error() -> None:
    assert not issubclass(Terminate, WasmEdgeError)
    assert not issubclass(Fail, WasmEdgeError)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_errors_survive_copying_and_pickling(error: WasmEdgeError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)


def test_the_error_of_a_closed_object_names_its_class() -> None:
    assert str(closed_error(Trap(ErrCode.Unreachable))).startswith("this Trap is closed")
