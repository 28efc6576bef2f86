"""One VM in a worker: what each request does with the engine."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wasmedge_pool import handles
from wasmedge_pool.bindgen import arguments_from_wire
from wasmedge_pool.caller_memory import CALLER
from wasmedge_pool.code_status import status_to_wire
from wasmedge_pool.messages import (
    CHUNK,
    FUNCTION,
    HOST_FUNCTION,
    OBJECT,
    REGISTERED_MODULES,
    SCALARS,
    Batch,
    Broadcast,
    Call,
    CallBindgen,
    CallHandle,
    Cleanup,
    Data,
    DropVM,
    Find,
    GetCodeStatus,
    GetExitCode,
    GetFunctionList,
    GetFunctionType,
    GetStatistics,
    HasHost,
    InitCommands,
    InitWasi,
    Instantiate,
    Items,
    List,
    Load,
    Message,
    Operate,
    ProtocolError,
    ReadMemory,
    Register,
    RegisterImport,
    Run,
    SetStatistics,
    Share,
    Spawn,
    Validate,
    WriteMemory,
)
from wasmedge_pool.protocol import encode
from wasmedge_pool.values import from_wire, to_wire
from wasmedge_pool.worker.batch import run_batch
from wasmedge_pool.worker.commands import has_host, init_commands
from wasmedge_pool.worker.fresh import broadcast, share
from wasmedge_pool.worker.imports import make_import_object
from wasmedge_runtime.bindgen import BindgenReturn
from wasmedge_runtime.configure import HostRegistration
from wasmedge_runtime.errors import ErrCode, InstantiationError, WasmEdgeError
from wasmedge_runtime.function import Function
from wasmedge_runtime.global_ import Global
from wasmedge_runtime.memory import Memory
from wasmedge_runtime.table import Table
from wasmedge_runtime.types import ExternType, FunctionType, Limit
from wasmedge_runtime.values import FuncRef

if TYPE_CHECKING:
    from wasmedge_pool.worker import Worker

__all__ = ["HANDLERS", "WorkerVM"]

# The most functions in one `Items` message, and the most bytes of names.
_ITEMS = 1024
_ITEM_BYTES = 256 * 1024


class WorkerVM:
    """A VM, what the parent has handles of, and the parent's host functions.

    Args:
        worker: the process that it is in.
        vm: the engine's VM.
    """

    def __init__(self, worker: Worker, vm: Any) -> None:
        self.worker = worker
        self.vm = vm
        self.interrupt: Callable[[], object] = vm.interrupt
        self.host_functions: dict[int, Function] = {}
        self._handles: dict[int, Any] = {}
        self._last_handle = 0

    @property
    def state(self) -> int:
        """How far the VM has come."""
        return int(self.vm.state)

    # --- Values -----------------------------------------------------------------------------------

    def from_wire(self, values: tuple[Any, ...]) -> list[Any]:
        """Values of the engine, from what came."""
        return from_wire(values, self._dereference)

    def to_wire(self, values: Any) -> tuple[Any, ...]:
        """What leaves, from values of the engine."""
        if SCALARS.issuperset(map(type, values)):
            return tuple(values)  # the engine's numbers are in range
        return to_wire(values, self.worker.objects.reference)

    def _dereference(self, kind: int, number: int) -> Any:
        if kind == OBJECT:
            return self.worker.objects.get(number)
        if kind == FUNCTION:
            return FuncRef(number)
        function = self.host_functions.get(number)
        if kind != HOST_FUNCTION or function is None:
            raise WasmEdgeError(
                ErrCode.WrongInstanceAddress,
                "wrong instance address: this host function is not registered with this VM",
            )
        return function

    def call_parent(
        self, function: int, memory: Any, arguments: tuple[Any, ...]
    ) -> tuple[int, list[Any]]:
        """Have the parent run a host function; gives how it ended, and its results.

        Raises:
            Trap: interrupted.
        """
        wire = self.to_wire(arguments)
        reply, _arrived = self.worker.call_parent(function, memory, wire)
        return reply.outcome, self.from_wire(reply.values)

    def go_on(self) -> None:
        """Let the call go on that a host function is part of, after one inside was to stop."""
        self.vm.store.core.go_on()

    # --- Calls ------------------------------------------------------------------------------------

    def _call(self, request: Call) -> tuple[Any, ...]:
        arguments = self.from_wire(request.arguments)
        if request.module is None:
            results = self.vm.execute(request.function, *arguments)
        else:
            results = self.vm.execute_registered(request.module, request.function, *arguments)
        return self._results(request, results)

    def _call_handle(self, request: CallHandle) -> tuple[Any, ...]:
        function = self._known(request.handle, Function)
        return self._results(request, function(*self.from_wire(request.arguments)))

    def _call_bindgen(self, request: CallBindgen) -> tuple[Any, ...]:
        arguments = arguments_from_wire(request.passed, self.worker.take_bulk)
        kind = BindgenReturn(request.kind)
        if request.module is None:
            result = self.vm.execute_bindgen(request.function, kind, *arguments)
        else:
            result = self.vm.execute_bindgen_registered(
                request.module, request.function, kind, *arguments
            )
        if not isinstance(result, bytes):
            return () if result is None else (result,)
        if len(result) > request.most:
            raise WasmEdgeError(
                ErrCode.RuntimeError,
                f"{request.function!r} has returned {len(result)} bytes, and at most "
                f"{request.most} leave the worker as the result of a wasm-bindgen call; let the "
                "function give where they are, and read parts with `get_data` of the memory",
            )
        self._send_data(request.id, result)
        return ()

    def _run(self, request: Run) -> tuple[Any, ...]:
        arguments = self.from_wire(request.arguments)
        return self._results(request, self._run_module(request.path, request.function, arguments))

    def _run_module(self, path: bytes | None, function: str, arguments: list[Any]) -> Any:
        if path is None:
            return self.vm.run_wasm_buffer(self.worker.take_bulk(), function, *arguments)
        return self.vm.run_wasm_file(os.fsdecode(path), function, *arguments)

    def _results(self, request: Call | CallHandle | Run, results: list[Any]) -> tuple[Any, ...]:
        try:
            return self.to_wire(results)
        except TypeError as error:
            # The call is over, only its results cannot be told.
            name = "the function" if isinstance(request, CallHandle) else repr(request.function)
            raise WasmEdgeError(
                ErrCode.RefTypeMismatch,
                f"reference type mismatch: {name} has returned, but {error}",
            ) from None

    # --- Modules ----------------------------------------------------------------------------------

    def _load(self, request: Load) -> tuple[Any, ...]:
        if request.path is None:
            self.vm.load_wasm_buffer(self.worker.take_bulk())
        else:
            self.vm.load_wasm_file(os.fsdecode(request.path))
        return ()

    def _register(self, request: Register) -> tuple[Any, ...]:
        if request.path is None:
            self.vm.register_wasm_buffer(request.name, self.worker.take_bulk())
        else:
            self.vm.register_wasm_file(request.name, os.fsdecode(request.path))
        return ()

    def _register_import(self, request: RegisterImport) -> tuple[Any, ...]:
        """Gives the handles of its tables, memories and globals, in their order."""
        imports, shared = make_import_object(self, request, self.worker.take_bulk())
        self.vm.register_import(imports)
        return tuple([self._handle(one) for one in shared])

    def _validate(self, request: Validate) -> tuple[Any, ...]:
        self.vm.validate()
        return ()

    def _instantiate(self, request: Instantiate) -> tuple[Any, ...]:
        self.vm.instantiate()
        return ()

    def _cleanup(self, request: Cleanup) -> tuple[Any, ...]:
        self.vm.cleanup()
        gc.collect()  # instances refer to themselves
        self.vm.store.core.sweep_externs()
        return ()

    def _drop(self, request: DropVM) -> tuple[Any, ...]:
        self._handles.clear()
        self.vm.close()
        return ()

    # --- Questions --------------------------------------------------------------------------------

    def _function_list(self, request: GetFunctionList) -> tuple[Any, ...]:
        self._send_items(
            request.id, [_item(name, kind) for name, kind in self.vm.get_function_list().items()]
        )
        return ()

    def _send_items(self, number: int, items: list[tuple[str, bytes, bytes]]) -> None:
        part: list[tuple[str, bytes, bytes]] = []
        size = 0
        for item in items:
            part.append(item)
            size += 4 * len(item[0]) + len(item[1]) + len(item[2])
            if len(part) == _ITEMS or size >= _ITEM_BYTES:
                self.worker.send(encode(Items(number, tuple(part))))
                part.clear()
                size = 0
        self.worker.send(encode(Items(number, tuple(part))))

    def _function_type(self, request: GetFunctionType) -> tuple[Any, ...]:
        if request.module is None:
            function_type = self.vm.get_function_type(request.function)
        else:
            function_type = self.vm.get_function_type_registered(request.module, request.function)
        if function_type is not None:
            self._send_items(request.id, [_item(request.function, function_type)])
        return ()

    def _code_status(self, request: GetCodeStatus) -> tuple[Any, ...]:
        return status_to_wire(self.vm.get_code_status())

    def _statistics(self, request: GetStatistics) -> tuple[Any, ...]:
        statistics = self.vm.get_statistics()
        return (
            statistics.instr_count,
            statistics.total_cost,
            statistics.wasm_time_ns,
            statistics.host_time_ns,
        )

    def _set_statistics(self, request: SetStatistics) -> tuple[Any, ...]:
        statistics = self.vm.get_statistics()
        if request.table:
            costs = self.worker.take_bulk()
            statistics.set_cost_table(
                [int.from_bytes(costs[at : at + 8], "big") for at in range(0, len(costs), 8)]
            )
        if request.limit is not None:
            statistics.set_cost_limit(request.limit)
        if request.clear:
            statistics.clear()
        return ()

    # --- The store --------------------------------------------------------------------------------

    def _handle(self, extern: Any) -> int:
        self._last_handle += 1
        self._handles[self._last_handle] = extern
        return self._last_handle

    def release(self, released: tuple[int, ...]) -> None:
        """Forget handles."""
        for handle in released:
            self._handles.pop(handle, None)

    def _known(self, handle: int, kind: type[Any]) -> Any:
        found = self.worker.caller_memory if handle == CALLER else self._handles.get(handle)
        if found is None:
            raise WasmEdgeError(
                ErrCode.RuntimeError,
                f"this {kind.__name__} was closed before the call that uses it began",
            )
        if not isinstance(found, kind):
            raise ProtocolError(f"handle {handle} is no {kind.__name__}")
        return found

    def _list(self, request: List) -> tuple[Any, ...]:
        store = self.vm.store
        if request.kind == REGISTERED_MODULES:
            names = store.list_module()
        elif request.module is None:
            lists = (store.list_function, store.list_table, store.list_memory, store.list_global)
            names = lists[request.kind]()
        else:
            names = (
                store.list_function_registered,
                store.list_table_registered,
                store.list_memory_registered,
                store.list_global_registered,
            )[request.kind](request.module)
        self._send_items(request.id, [(name, b"", b"") for name in names])
        return ()

    def _find(self, request: Find) -> tuple[Any, ...]:
        store = self.vm.store
        found: Any
        if request.module is None:
            finds = (store.find_function, store.find_table, store.find_memory, store.find_global)
            found = finds[request.kind](request.name)
        else:
            found = (
                store.find_function_registered,
                store.find_table_registered,
                store.find_memory_registered,
                store.find_global_registered,
            )[request.kind](request.module, request.name)
        if found is None:
            return ()
        handle = self._handle(found)
        if request.kind == ExternType.FUNCTION:
            self._send_items(request.id, [_item(request.name, found.function_type)])
            index = found.index if found.index >= 0 else found.link(store.core).index
            return handle, index
        if request.kind == ExternType.TABLE:
            kind = found.table_type
            return handle, int(kind.ref_type), *_limit(kind.limit)
        if request.kind == ExternType.MEMORY:
            return handle, *_limit(found.memory_type.limit)
        return handle, int(found.global_type.val_type), int(found.global_type.mutability)

    def _operate(self, request: Operate) -> tuple[Any, ...]:
        operation = request.operation
        arguments = self.from_wire(request.arguments)
        if operation <= handles.TABLE_GROW:
            table: Table = self._known(request.handle, Table)
            if operation == handles.TABLE_GET:
                return self.to_wire([table.get_data(*arguments)])
            if operation == handles.TABLE_SET:
                table.set_data(*arguments)
                self.vm.store.core.sweep_externs()
                return ()
            if operation == handles.TABLE_SIZE:
                return (table.size,)
            table.grow(*arguments)
            return ()
        if operation <= handles.MEMORY_GROW:
            memory: Memory = self._known(request.handle, Memory)
            if operation == handles.MEMORY_SIZE:
                return (memory.page_size,)
            memory.grow_page(*arguments)
            return ()
        global_: Global = self._known(request.handle, Global)
        if operation == handles.GLOBAL_GET:
            return self.to_wire([global_.value])
        (global_.value,) = arguments
        self.vm.store.core.sweep_externs()
        return ()

    def _read_memory(self, request: ReadMemory) -> tuple[Any, ...]:
        memory: Memory = self._known(request.handle, Memory)
        self._send_data(request.id, memory.get_data(request.offset, request.length))
        return ()

    def _send_data(self, number: int, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), CHUNK):
            self.worker.send(encode(Data(number, bytes(view[start : start + CHUNK]))))

    def _write_memory(self, request: WriteMemory) -> tuple[Any, ...]:
        data = self.worker.take_bulk()
        self._known(request.handle, Memory).set_data(data, request.offset)
        return ()

    # --- WASI -------------------------------------------------------------------------------------

    def _init_wasi(self, request: InitWasi) -> tuple[Any, ...]:
        wasi = self.vm.get_import_object(HostRegistration.WASI)
        if wasi is None and not request.register:
            raise WasmEdgeError(
                ErrCode.WrongVMWorkflow,
                "wrong VM workflow: this VM has no WASI; make it with "
                "Configure(HostRegistration.WASI), or register a WasiImportObject",
            )
        if wasi is not None and request.register:
            raise InstantiationError(
                ErrCode.ModuleNameConflict,
                "module name conflict: this VM has WASI already; use `init_wasi` of what "
                "`get_import_object(HostRegistration.WASI)` gives",
            )
        self._start_wasi(request, wasi)
        return ()

    def _start_wasi(self, request: InitWasi | Spawn, wasi: Any) -> Any:
        """Give its world to WASI, or to a new one."""
        descriptors = self.worker.watchdog.take_descriptors(request.id)
        try:
            if wasi is None:
                wasi = self.vm.add_host_module(HostRegistration.WASI)
            wasi.init_wasi(
                request.args,
                request.envs,
                request.preopens,
                *descriptors,
                allow_sockets=request.allow_sockets,
            )
            return wasi
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _exit_code(self, request: GetExitCode) -> tuple[Any, ...]:
        wasi = self.vm.get_import_object(HostRegistration.WASI)
        return () if wasi is None else (wasi.wasi_get_exit_code(),)

    def _spawn(self, request: Spawn) -> tuple[Any, ...]:
        wasi = self._start_wasi(request, self.vm.get_import_object(HostRegistration.WASI))
        try:
            self._run_module(request.path, "_start", [])
        finally:
            wasi.close_descriptors()  # who reads what it wrote sees the end
        return (wasi.wasi_get_exit_code(),)


def _item(name: str, function_type: FunctionType) -> tuple[str, bytes, bytes]:
    return name, bytes(function_type.parameters), bytes(function_type.returns)


def _limit(limit: Limit) -> tuple[int, int | None]:
    return limit.min, limit.max


HANDLERS: dict[type[Message], Callable[[Any, Any], tuple[Any, ...]]] = {
    Call: WorkerVM._call,
    CallHandle: WorkerVM._call_handle,
    CallBindgen: WorkerVM._call_bindgen,
    Run: WorkerVM._run,
    Load: WorkerVM._load,
    Register: WorkerVM._register,
    RegisterImport: WorkerVM._register_import,
    Validate: WorkerVM._validate,
    Instantiate: WorkerVM._instantiate,
    Cleanup: WorkerVM._cleanup,
    DropVM: WorkerVM._drop,
    GetFunctionList: WorkerVM._function_list,
    GetFunctionType: WorkerVM._function_type,
    GetCodeStatus: WorkerVM._code_status,
    GetStatistics: WorkerVM._statistics,
    SetStatistics: WorkerVM._set_statistics,
    List: WorkerVM._list,
    Find: WorkerVM._find,
    Operate: WorkerVM._operate,
    ReadMemory: WorkerVM._read_memory,
    WriteMemory: WorkerVM._write_memory,
    Share: share,
    Broadcast: broadcast,
    Batch: run_batch,
    InitWasi: WorkerVM._init_wasi,
    InitCommands: init_commands,
    HasHost: has_host,
    GetExitCode: WorkerVM._exit_code,
    Spawn: WorkerVM._spawn,
}
"""What each request does."""
