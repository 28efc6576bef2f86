"""Errors cross the process border through one table, as the same class, with everything in it."""

from __future__ import annotations

import pytest

from wasmedge_pool.errors import (
    _TABLE,
    PARENT_ONLY,
    CallTimeout,
    VMLost,
    WorkerDied,
    error_from_wire,
    error_to_wire,
)
from wasmedge_pool.messages import Failure, ProtocolError
from wasmedge_pool.protocol import Decoder, encode
from wasmedge_runtime.errors import (
    ErrCode,
    HostFunctionError,
    LoadError,
    Trap,
    ValidationError,
    WasmEdgeError,
)


def _through(error: Exception) -> Exception:
    frame = encode(Failure(1, 0, 0, error_to_wire(error)))
    [message] = Decoder(from_worker=True).feed(frame)
    assert isinstance(message, Failure)
    return error_from_wire(message.error)


def _subclasses(base: type[Exception]) -> set[type[Exception]]:
    return {base}.union(*map(_subclasses, base.__subclasses__()))


def test_every_error_class_has_a_row_or_a_reason() -> None:
    own = {c for c in _subclasses(WasmEdgeError) if c.__module__.startswith("wasmedge_")}
    own = {c for c in own if not c.__name__.startswith("_")}
    assert own == {row[0] for row in _TABLE.values() if issubclass(row[0], WasmEdgeError)} | (
        PARENT_ONLY
    )


@pytest.mark.parametrize("kind", sorted(_TABLE))
@pytest.mark.parametrize("code", ErrCode, ids=lambda code: code.name)
def test_every_class_with_every_code_arrives_as_itself(kind: str, code: ErrCode) -> None:
    error_class, make = _TABLE[kind]
    error = make(code, "the words", None, ())
    arrived = _through(error)
    assert type(arrived) is error_class
    assert str(arrived) == str(error) == "the words"
    if isinstance(error, WasmEdgeError):
        assert isinstance(arrived, WasmEdgeError)
        assert arrived.code is error.code


def test_a_trap_keeps_its_kind_and_frames() -> None:
    arrived = _through(Trap(ErrCode.DivideByZero, None, ("inner", "outer")))
    assert isinstance(arrived, Trap)
    assert arrived.kind is ErrCode.DivideByZero
    assert arrived.frames == ("inner", "outer")
    assert str(arrived) == "integer divide by zero"


@pytest.mark.parametrize("error_class", [LoadError, ValidationError])
def test_an_offset_travels_and_is_told_once(error_class: type[LoadError]) -> None:
    for text in (None, "type mismatch: i32 expected"):
        error = error_class(ErrCode.TypeCheckFailed, text, 0x1A)
        arrived = _through(error)
        assert isinstance(arrived, error_class)
        assert arrived.offset == 0x1A
        assert str(arrived) == str(error)
        assert str(arrived).count("at offset") == 1


def test_a_timeout_is_a_python_timeout() -> None:
    arrived = _through(CallTimeout())
    assert isinstance(arrived, TimeoutError)
    assert isinstance(arrived, WasmEdgeError)
    assert str(arrived) == "execution interrupted: timeout"


class _Special(Trap):
    pass


def test_a_subclass_arrives_as_the_class_in_the_table() -> None:
    assert type(_through(_Special(ErrCode.Unreachable))) is Trap


def test_a_defect_arrives_with_its_traceback() -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        arrived = _through(error)
    assert type(arrived) is WasmEdgeError
    assert "unexpected KeyError" in str(arrived)
    assert "test_a_defect_arrives_with_its_traceback" in arrived.__notes__[0]


def test_a_cause_arrives_as_a_note() -> None:
    error = HostFunctionError()
    error.__cause__ = ZeroDivisionError("in the host function")
    assert "ZeroDivisionError: in the host function" in _through(error).__notes__[0]


def test_an_error_always_fits_into_a_message() -> None:
    long = Trap(ErrCode.Unreachable, "é\udc80" * 1_000_000, ("f" * 1_000_000,) * 10_000)
    long.add_note("n" * 10_000_000)
    arrived = _through(long)
    assert isinstance(arrived, Trap)
    assert len(str(arrived)) == 16 * 1024
    assert len(arrived.frames) == 64


@pytest.mark.parametrize(
    "wire",
    [
        (),
        ("trap",),
        ("nothing", 2, None, None, (), ()),
        (b"trap", 2, None, None, (), ()),
        ("trap", 0xFFFF, None, None, (), ()),
        ("trap", "2", None, None, (), ()),
        ("trap", True, None, None, (), ()),
        ("trap", 2, b"text", None, (), ()),
        ("load", 2, None, 1.5, (), ()),
        ("trap", 2, None, None, (5,), ()),
        ("trap", 2, None, None, None, ()),
        ("trap", 2, None, None, (), (b"note",)),
        ([], 2, None, None, (), ()),
    ],
)
def test_what_is_no_error_is_refused(wire: tuple[object, ...]) -> None:
    with pytest.raises(ProtocolError):
        error_from_wire(wire)


def test_worker_died_says_how() -> None:
    assert str(WorkerDied(7, 3, None)) == "worker process 7 exited with code 3"
    assert str(WorkerDied(7, None, 9)) == "worker process 7 was ended by signal 9 (SIGKILL)"
    assert str(WorkerDied(7, None, 40, "x")) == (
        "worker process 7 was ended by signal 40 (a real-time signal): x"
    )


def test_errors_of_the_parent_do_not_come_from_workers() -> None:
    assert type(_through(VMLost("gone"))) is WasmEdgeError
