"""The worker's program: takes requests from the data socket and runs them on the engine, in order.

Blocking reads, no event loop. Each answer leaves before the next request begins, so that a crash
loses no answer but the one of the request that was running. Whatever the parent sends that is
not understood ends the process.
"""

from __future__ import annotations

import logging
import mmap
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from wasmedge_pool.errors import CallTimeout, error_to_wire
from wasmedge_pool.protocol import (
    VERSION,
    Call,
    Chunk,
    Cleanup,
    CreateVM,
    Decoder,
    Failure,
    GetCodeStatus,
    GetFunctionList,
    GetFunctionType,
    Hello,
    Instantiate,
    Items,
    Load,
    Log,
    Message,
    ProtocolError,
    Ready,
    Register,
    Result,
    Run,
    Skipped,
    Validate,
    encode,
)
from wasmedge_pool.settings import config_from_wire
from wasmedge_pool.values import from_wire, to_wire
from wasmedge_pool.watchdog import Watchdog
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.errors import ErrCode, Trap, WasmEdgeError
from wasmedge_runtime.loader import Loader
from wasmedge_runtime.tiers.status import CodeState
from wasmedge_runtime.types import FunctionType, ValMut
from wasmedge_runtime.vm import VM

__all__ = ["Worker", "main"]

# The most functions in one `Items` message, and the most bytes of names.
_ITEMS = 1024
_ITEM_BYTES = 256 * 1024

_TIMED = frozenset({Call, Run})


def main(data: int, control: socket.socket, page: int | None) -> None:
    """Run a worker on the engine; returns when the parent wants it to end.

    Args:
        data: the descriptor of the data socket.
        control: the control socket.
        page: the descriptor of the shared page, None on platforms without one.
    """
    wire = socket.socket(fileno=data)
    try:
        Worker(wire, control, page, _make_vm).serve()
    except OSError:
        # The wire broke in the middle: the parent has ended.
        os._exit(0)
    # Not through interpreter shutdown, which would wait for threads and native code.
    os._exit(0)


class _FreshVM(VM):
    """A VM that runs every call on an instance that is as no call had used it."""

    def __init__(self, config: Configure) -> None:
        super().__init__(config)
        self._fresh_loader = Loader(config)
        self._keeps_state = True
        self._used = False

    def load_wasm_buffer(self, data: bytes | bytearray | memoryview) -> None:
        ast = self._fresh_loader.load_buffer(data)
        # What a call could leave behind for the next. Segments that were dropped show in memories
        # and tables only.
        self._keeps_state = bool(
            ast.memory_types
            or ast.table_types
            or any(global_type.mutability is ValMut.VAR for global_type in ast.global_types)
        )
        self.load_wasm_ast(ast)

    def instantiate(self) -> None:
        super().instantiate()
        self._used = False

    def execute(self, function: str, *args: Any) -> list[Any]:
        instance = self.store.anonymous
        if self._used and self._keeps_state and instance is not None:
            instance.reset()
        self._used = True
        return super().execute(function, *args)


def _make_vm(config: Configure, fresh: bool) -> VM:
    return _FreshVM(config) if fresh else VM(config)


class _Forward(logging.Handler):
    """Sends the engine's log records to the parent."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)[:65536].encode("utf-8", "replace").decode()
        self._send(encode(Log(record.name, record.levelno, text)))


def _never() -> None:
    """Interrupt a request that cannot be interrupted."""


class Worker:
    """Runs requests until the data socket ends.

    Args:
        wire: the data socket.
        control: the control socket.
        page: the descriptor of the page where the number of the request that runs is noted.
        make_vm: the engine: makes a synchronous VM from a `Configure`; with True, one that runs
            every call on a fresh instance.
    """

    def __init__(
        self,
        wire: socket.socket,
        control: socket.socket,
        page: int | None,
        make_vm: Callable[..., Any],
    ) -> None:
        for descriptor in (wire, control):
            descriptor.set_inheritable(False)
        self._wire = wire
        self._sending = threading.Lock()
        self._decoder = Decoder(from_worker=False)
        self._watchdog = Watchdog(control)
        # One write of a machine word, which the parent never sees half done.
        self._page = memoryview(
            bytearray(8) if page is None else mmap.mmap(page, mmap.PAGESIZE)
        ).cast("Q")
        if page is not None:
            os.close(page)
        self._make_vm = make_vm
        self._vms: dict[int, Any] = {}
        self._bulk: list[bytes] = []
        self._handlers: dict[type[Message], Callable[[Any, Any], tuple[Any, ...]]] = {
            Call: self._call,
            Run: self._run,
            Load: self._load,
            Register: self._register,
            Validate: lambda vm, request: vm.validate() or (),
            Instantiate: lambda vm, request: vm.instantiate() or (),
            Cleanup: lambda vm, request: vm.cleanup() or (),
            GetFunctionList: self._function_list,
            GetFunctionType: self._function_type,
            GetCodeStatus: self._code_status,
        }

    def serve(self) -> None:
        """Take and run requests until the parent closes its side.

        Raises:
            ProtocolError: the parent sent something it must not.
            OSError: the wire broke.
        """
        receive = self._wire.recv
        while data := receive(256 * 1024):
            for message in self._decoder.feed(data):
                self._take(message)

    def _take(self, message: Message) -> None:
        handler = self._handlers.get(type(message))
        if handler is not None:
            request: Any = message
            vm = self._vms.get(request.vm)
            if vm is None:
                raise ProtocolError(f"there is no VM {request.vm}")
            timeout = request.timeout if type(message) in _TIMED else None
            self._answer(request, handler, vm, timeout)
        elif isinstance(message, Chunk):
            if not message.offset:
                self._bulk.clear()  # what came before belonged to a request that was cancelled
            self._bulk.append(message.data)
        elif isinstance(message, Hello):
            if message.version != VERSION:
                raise ProtocolError(f"this worker speaks version {VERSION}, not {message.version}")
            logger = logging.getLogger("wasmedge")
            logger.setLevel(message.log_level)
            logger.propagate = False
            logger.addHandler(_Forward(self._send))
            self._send(encode(Ready(VERSION, os.getpid())))
        elif isinstance(message, CreateVM):
            self._answer(message, self._create, None, None)
        else:
            raise ProtocolError(f"a {type(message).__name__}, which has no handler")

    def _answer(
        self,
        request: Any,
        handler: Callable[[Any, Any], tuple[Any, ...]],
        vm: Any,
        timeout: int | None,
    ) -> None:
        number = request.id
        values: tuple[Any, ...] = ()
        error: Exception | None = None
        if not self._watchdog.begin(number, _never if vm is None else vm.interrupt, timeout):
            self._send(encode(Skipped(number)))
            return
        self._page[0] = number
        try:
            values = handler(vm, request)
        except Exception as raised:
            error = raised
        timed_out = self._watchdog.end(number)
        if error is None:
            state = 0 if vm is None else int(vm.state)
            reply = encode(Result(number, state, values))
        else:
            if timed_out and isinstance(error, Trap) and error.code is ErrCode.Interrupted:
                error = CallTimeout()
            state = 0 if vm is None else int(vm.state)
            reply = encode(Failure(number, state, error_to_wire(error)))
        self._send(reply)

    def _send(self, frame: bytes) -> None:
        with self._sending:
            self._wire.sendall(frame)

    def _take_bulk(self) -> bytes:
        data = b"".join(self._bulk)
        self._bulk.clear()
        return data

    # --- Requests ---------------------------------------------------------------------------------

    def _create(self, vm: None, request: CreateVM) -> tuple[Any, ...]:
        self._vms[request.vm] = self._make_vm(config_from_wire(request.config), bool(request.fresh))
        return ()

    def _call(self, vm: Any, request: Call) -> tuple[Any, ...]:
        arguments = from_wire(request.arguments)
        if request.module is None:
            results = vm.execute(request.function, *arguments)
        else:
            results = vm.execute_registered(request.module, request.function, *arguments)
        return _results(request.function, results)

    def _run(self, vm: Any, request: Run) -> tuple[Any, ...]:
        arguments = from_wire(request.arguments)
        if request.path is None:
            results = vm.run_wasm_buffer(self._take_bulk(), request.function, *arguments)
        else:
            results = vm.run_wasm_file(os.fsdecode(request.path), request.function, *arguments)
        return _results(request.function, results)

    def _load(self, vm: Any, request: Load) -> tuple[Any, ...]:
        if request.path is None:
            vm.load_wasm_buffer(self._take_bulk())
        else:
            vm.load_wasm_file(os.fsdecode(request.path))
        return ()

    def _register(self, vm: Any, request: Register) -> tuple[Any, ...]:
        if request.path is None:
            vm.register_wasm_buffer(request.name, self._take_bulk())
        else:
            vm.register_wasm_file(request.name, os.fsdecode(request.path))
        return ()

    def _function_list(self, vm: Any, request: GetFunctionList) -> tuple[Any, ...]:
        items: list[tuple[str, bytes, bytes]] = []
        size = 0
        for name, function_type in vm.get_function_list().items():
            items.append(_item(name, function_type))
            size += 4 * len(name) + sum(map(len, items[-1][1:]))
            if len(items) == _ITEMS or size >= _ITEM_BYTES:
                self._send(encode(Items(request.id, tuple(items))))
                items.clear()
                size = 0
        self._send(encode(Items(request.id, tuple(items))))
        return ()

    def _function_type(self, vm: Any, request: GetFunctionType) -> tuple[Any, ...]:
        if request.module is None:
            function_type = vm.get_function_type(request.function)
        else:
            function_type = vm.get_function_type_registered(request.module, request.function)
        if function_type is not None:
            self._send(encode(Items(request.id, (_item(request.function, function_type),))))
        return ()

    def _code_status(self, vm: Any, request: GetCodeStatus) -> tuple[Any, ...]:
        status = vm.get_code_status()
        if status is None:
            return ()
        return (list(CodeState).index(status.state), *map(int, status[1:]))


def _item(name: str, function_type: FunctionType) -> tuple[str, bytes, bytes]:
    return name, bytes(function_type.parameters), bytes(function_type.returns)


def _results(function: str, results: list[Any]) -> tuple[Any, ...]:
    try:
        return to_wire(results)
    except TypeError as error:
        # The call is over, only its results cannot be told.
        raise WasmEdgeError(
            ErrCode.RefTypeMismatch,
            f"reference type mismatch: {function!r} has returned, but {error}",
        ) from None
