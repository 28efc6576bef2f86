"""A worker with an engine that can do without wasm what guests do: for tests of the pool alone.

Its process, wires and messages are the real ones. `FAKE` names it for `WorkerProcess(target)`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import struct
import time
from typing import Any

from wasmedge_pool.worker import Worker
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.errors import ErrCode, Trap, WasmEdgeError
from wasmedge_runtime.state import VMState
from wasmedge_runtime.types import FunctionType, ValType
from wasmedge_runtime.values import ExternRef

FAKE = "tests.pool.fake_worker:main"

WIRES: list[socket.socket] = []
"""Data and control, for functions that misuse them."""


class FakeVM:
    """Answers to function names."""

    def __init__(self, config: Configure, fresh: bool) -> None:
        self.config = config
        self.state = VMState.INITED
        self.module = b""
        self.calls = 0
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True

    def load_wasm_buffer(self, data: bytes) -> None:
        self.module = data
        self.state = VMState.LOADED

    def validate(self) -> None:
        self.state = VMState.VALIDATED

    def instantiate(self) -> None:
        self.state = VMState.INSTANTIATED

    def get_function_list(self) -> dict[str, FunctionType]:
        return {f"f{n}": FunctionType([ValType.I32], [ValType.F64]) for n in range(3000)}

    def execute(self, function: str, *args: Any) -> list[Any]:
        self._interrupted = False
        self.calls += 1
        return getattr(self, f"do_{function}")(*args)  # type: ignore[no-any-return]

    def do_echo(self, *args: Any) -> list[Any]:
        return list(args)

    def do_bits(self, value: float) -> list[int]:
        return list(struct.unpack("<q", struct.pack("<d", value)))

    def do_calls(self) -> list[int]:
        return [self.calls]

    def do_module_size(self) -> list[int]:
        return [len(self.module)]

    def do_max_memory_page(self) -> list[int]:
        return [self.config.max_memory_page]

    def do_spin(self, *_: Any) -> list[Any]:
        """Run until interrupted."""
        while not self._interrupted:
            time.sleep(0.0005)
        raise Trap(ErrCode.Interrupted)

    def do_sleep(self, milliseconds: int) -> list[Any]:
        """Run for a time; interrupts are without effect."""
        time.sleep(milliseconds / 1000)
        return []

    def do_pid_after(self, milliseconds: int) -> list[Any]:
        time.sleep(milliseconds / 1000)
        return [os.getpid()]

    def do_trap(self) -> list[Any]:
        raise Trap(ErrCode.Unreachable, None, ("inner", "outer"))

    def do_unknown(self) -> list[Any]:
        raise WasmEdgeError(ErrCode.FuncNotFound)

    def do_defect(self) -> list[Any]:
        raise KeyError("a defect of the engine")

    def do_reference(self) -> list[Any]:
        return [ExternRef(object())]

    def do_log(self) -> list[Any]:
        logging.getLogger("wasmedge").warning("from %s", "the worker")
        return []

    def do_exit(self, code: int) -> list[Any]:
        os._exit(code)

    def do_raise_system_exit(self) -> list[Any]:
        raise SystemExit(3)

    def do_segfault(self) -> list[Any]:
        ctypes.string_at(0)
        return []

    def do_hang(self) -> list[Any]:
        """Stay in native code, with the interpreter's lock: not even the watchdog runs."""
        ctypes.PyDLL(None).sleep(600)
        return []

    def do_abort(self) -> list[Any]:
        os.abort()

    def do_eat(self, size: int) -> list[Any]:
        return [len(bytearray(size))]

    def do_nonsense(self) -> list[Any]:
        """Write to the data socket what is no message."""
        WIRES[0].sendall(b"\0\0\0\x05nonse")
        time.sleep(60)
        return []

    def do_nonsense_in_control(self) -> list[Any]:
        WIRES[1].send(b"nonsense")
        time.sleep(60)
        return []

    def do_stop(self) -> list[Any]:
        """Freeze the whole process, watchdog and all."""
        os.kill(os.getpid(), signal.SIGSTOP)
        return []


def main(data: int, control: socket.socket, page: int | None) -> None:
    wire = socket.socket(fileno=data)
    WIRES[:] = wire, control
    Worker(wire, control, page, FakeVM).serve()
    os._exit(0)
