"""Errors of the asynchronous side, and the table by which errors cross the process border.

::

    WasmEdgeError
    +-- WorkerDied     the worker ended while it ran this call (.pid, .exit_code, .signal)
    +-- VMLost         the VM's worker ended earlier, and the VM's state with it
    +-- CallTimeout    the call ran longer than its `timeout` (a TimeoutError too)
    +-- PoolClosed     the VM or the pool was closed
    +-- PoolFull       as many calls wait as the pool's `max_queue` allows
    +-- WouldDeadlock  a host function called its own pool, and no worker could ever run that
"""

from __future__ import annotations

import signal as signals
import traceback
from collections.abc import Callable
from typing import Any

from wasmedge_pool.messages import ProtocolError
from wasmedge_runtime.errors import (
    ErrCode,
    HostFunctionError,
    InstantiationError,
    LoadError,
    Trap,
    ValidationError,
    WasmEdgeError,
)

__all__ = [
    "PARENT_ONLY",
    "CallTimeout",
    "PoolClosed",
    "PoolFull",
    "VMLost",
    "WorkerDied",
    "WouldDeadlock",
    "error_from_wire",
    "error_to_wire",
]


class WorkerDied(WasmEdgeError):
    """The worker process ended while it ran this call, or could not be started.

    The call may have had effects, so it is not repeated.

    Attributes:
        pid: the process.
        exit_code: its exit code, None when a signal ended it.
        signal: the number of the signal that ended it, None when it exited.
    """

    def __init__(
        self, pid: int, exit_code: int | None, signal: int | None, reason: str | None = None
    ) -> None:
        message = f"worker process {pid} "
        if signal is None:
            message += f"exited with code {exit_code}"
        else:
            message += f"was ended by signal {signal} ({_signal_name(signal)})"
        if reason is not None:
            message += f": {reason}"
        super().__init__(ErrCode.RuntimeError, message)
        self.args = (pid, exit_code, signal, reason)
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return "a real-time signal"


class VMLost(WasmEdgeError):
    """The VM's worker process has ended, and its modules and memories with it."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrCode.RuntimeError, message)
        self.args = (message,)


class CallTimeout(WasmEdgeError, TimeoutError):
    """The call ran longer than its `timeout` and was stopped, or waited longer than its
    `queue_timeout` and did not begin. The VM is usable, memory as left."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(ErrCode.Interrupted, message or "execution interrupted: timeout")
        self.args = (message,)


class PoolClosed(WasmEdgeError):
    """The VM or the pool was closed before the call began, or while it waited or ran."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrCode.RuntimeError, message)
        self.args = (message,)


class PoolFull(WasmEdgeError):
    """As many calls wait for a worker as `max_queue` allows. The call has not begun."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrCode.RuntimeError, message)
        self.args = (message,)


class WouldDeadlock(WasmEdgeError):
    """Every worker of the pool waits for a call that none of them could run. It has not begun."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrCode.RuntimeError, message)
        self.args = (message,)


# Raised in the parent by what it sees itself; a worker has no business to send these.
PARENT_ONLY = frozenset({WorkerDied, VMLost, PoolClosed, PoolFull, WouldDeadlock})

# --- The table. A row: the class and how it is made from (code, text, offset, frames). ----------

_Make = Callable[[ErrCode, str | None, int | None, tuple[str, ...]], Exception]

_TABLE: dict[str, tuple[type[Exception], _Make]] = {
    "load": (LoadError, lambda code, text, offset, frames: LoadError(code, text, offset)),
    "validation": (
        ValidationError,
        lambda code, text, offset, frames: ValidationError(code, text, offset),
    ),
    "instantiation": (
        InstantiationError,
        lambda code, text, offset, frames: InstantiationError(code, text),
    ),
    "trap": (Trap, lambda code, text, offset, frames: Trap(code, text, frames)),
    "host": (HostFunctionError, lambda code, text, offset, frames: HostFunctionError(code, text)),
    "timeout": (CallTimeout, lambda code, text, offset, frames: CallTimeout(text)),
    "wasmedge": (WasmEdgeError, lambda code, text, offset, frames: WasmEdgeError(code, text)),
    "type": (TypeError, lambda code, text, offset, frames: TypeError(text)),
    "overflow": (OverflowError, lambda code, text, offset, frames: OverflowError(text)),
    "value": (ValueError, lambda code, text, offset, frames: ValueError(text)),
    "memory": (MemoryError, lambda code, text, offset, frames: MemoryError(text)),
    "os": (OSError, lambda code, text, offset, frames: OSError(text)),
}
_KINDS: dict[type[Exception], str] = {row[0]: kind for kind, row in _TABLE.items()}

# Texts and frames beyond these are cut: an error must always fit into a message.
_MAX_TEXT = 16 * 1024
_MAX_FRAMES = 64


def error_to_wire(error: Exception) -> tuple[Any, ...]:
    """Turn an exception into data: (kind, code, text, offset, frames, notes)."""
    # The nearest class in the table: a subclass arrives as its base.
    kind = next((_KINDS[c] for c in type(error).__mro__ if c in _KINDS), None)
    notes = tuple(getattr(error, "__notes__", ()))
    offset = getattr(error, "offset", None)
    frames = tuple(frame[: _MAX_TEXT // _MAX_FRAMES] for frame in getattr(error, "frames", ()))
    if error.__cause__ is not None:
        notes += ("".join(traceback.format_exception(error.__cause__)),)
    if isinstance(error, WasmEdgeError):
        code = error.code
        # The constructor appends the offset to the text, so the text goes without it.
        text = error.args[1] if isinstance(error, LoadError | ValidationError) else error.message
    elif kind is not None:
        code, text = ErrCode.RuntimeError, str(error)
    else:
        # Nothing the engine means to raise: a defect, worth its traceback.
        kind, code = "wasmedge", ErrCode.RuntimeError
        text = f"unexpected {type(error).__name__} in the worker: {error}"
        notes += ("".join(traceback.format_exception(error)),)
    return (
        kind,
        int(code),
        None if text is None else _sendable(text)[:_MAX_TEXT],
        offset,
        tuple(map(_sendable, frames[:_MAX_FRAMES])),
        tuple(_sendable(note)[-_MAX_TEXT:] for note in notes[:4]),
    )


def _sendable(text: str) -> str:
    """Replace lone surrogates, which have no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def error_from_wire(wire: tuple[Any, ...]) -> Exception:
    """Turn data from `error_to_wire` into an exception of the same class.

    Raises:
        ProtocolError: the data is no error.
    """
    if len(wire) != 6:
        raise ProtocolError(f"an error of {len(wire)} fields")
    kind, number, text, offset, frames, notes = wire
    if (
        type(kind) is not str
        or kind not in _TABLE
        or type(number) is not int
        or not (text is None or type(text) is str)
        or not (offset is None or type(offset) is int)
        or type(frames) is not tuple
        or type(notes) is not tuple
        or not all(type(line) is str for line in (*frames, *notes))
    ):
        raise ProtocolError("an error with fields of wrong types")
    try:
        code = ErrCode(number)
    except ValueError as error:
        raise ProtocolError(f"an error with the unknown code {number}") from error
    exception = _TABLE[kind][1](code, text, offset, frames)
    for note in notes:
        exception.add_note(note)
    return exception
