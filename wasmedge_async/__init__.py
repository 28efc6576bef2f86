"""WebAssembly that is awaited: virtual machines in worker processes, driven from asyncio.

::

    async with VM() as vm:
        [n] = await vm.run_wasm_file("fibonacci.wasm", "fib", 21)

Light to import: the engine, and LLVM with it, is loaded in the worker processes only, and each
public name when it is first used, so that the command line does not wait for what drives workers.
The engine itself, synchronous, is `wasmedge_runtime`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasmedge_async._commands import WasmEdgeProcess, WasmEdgeProcessImportObject
    from wasmedge_async._pool import VMPool
    from wasmedge_async._process import Process
    from wasmedge_async._statistics import Statistics
    from wasmedge_async._store import Store
    from wasmedge_async._streams import LineTooLong, ReceiveStream, SendStream
    from wasmedge_async._vm import VM
    from wasmedge_async._wasi import Wasi, WasiImportObject
    from wasmedge_pool.caller_memory import AwaitedCallerMemory, CallerMemory
    from wasmedge_pool.errors import (
        CallTimeout,
        PoolClosed,
        PoolFull,
        VMLost,
        WorkerDied,
        WouldDeadlock,
    )
    from wasmedge_pool.handles import FunctionHandle, Global, Memory, Table
    from wasmedge_pool.imports import Function, ImportObject
    from wasmedge_pool.stats import CallRecord, Histogram, PoolStats, WorkerStats
    from wasmedge_runtime.bindgen import BindgenReturn
    from wasmedge_runtime.configure import (
        CompilationMode,
        CompilerOptimizationLevel,
        CompilerOutputFormat,
        Configure,
        HostRegistration,
        Proposal,
    )
    from wasmedge_runtime.errors import (
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
    from wasmedge_runtime.log import set_log_debug_level, set_log_error_level
    from wasmedge_runtime.state import VMState
    from wasmedge_runtime.tiers.status import CodeState, CodeStatus
    from wasmedge_runtime.types import (
        ExternType,
        FunctionType,
        GlobalType,
        Limit,
        MemoryType,
        RefType,
        TableType,
        ValMut,
        ValType,
    )
    from wasmedge_runtime.values import I32, I64, V128, ExternRef, FuncRef
    from wasmedge_runtime.version import (
        __version__,
        get_version,
        get_version_major,
        get_version_minor,
        get_version_patch,
    )

__all__ = [
    "I32",
    "I64",
    "V128",
    "VM",
    "AwaitedCallerMemory",
    "BindgenReturn",
    "CallRecord",
    "CallTimeout",
    "CallerMemory",
    "CodeState",
    "CodeStatus",
    "CompilationMode",
    "CompilerOptimizationLevel",
    "CompilerOutputFormat",
    "Configure",
    "ErrCode",
    "ExternRef",
    "ExternType",
    "Fail",
    "FuncRef",
    "Function",
    "FunctionHandle",
    "FunctionType",
    "Global",
    "GlobalType",
    "Histogram",
    "HostFunctionError",
    "HostRegistration",
    "ImportObject",
    "InstantiationError",
    "Limit",
    "LineTooLong",
    "LoadError",
    "Memory",
    "MemoryType",
    "PoolClosed",
    "PoolFull",
    "PoolStats",
    "Process",
    "Proposal",
    "ReceiveStream",
    "RefType",
    "SendStream",
    "Statistics",
    "Store",
    "Table",
    "TableType",
    "Terminate",
    "Trap",
    "VMLost",
    "VMPool",
    "VMState",
    "ValMut",
    "ValType",
    "ValidationError",
    "Wasi",
    "WasiImportObject",
    "WasmEdgeError",
    "WasmEdgeProcess",
    "WasmEdgeProcessImportObject",
    "WorkerDied",
    "WorkerStats",
    "WouldDeadlock",
    "__version__",
    "get_version",
    "get_version_major",
    "get_version_minor",
    "get_version_patch",
    "set_log_debug_level",
    "set_log_error_level",
]

# Where each public name lives.
_HOMES = {
    "LineTooLong": "wasmedge_async._streams",
    "Process": "wasmedge_async._process",
    "ReceiveStream": "wasmedge_async._streams",
    "SendStream": "wasmedge_async._streams",
    "WasiImportObject": "wasmedge_async._wasi",
    "AwaitedCallerMemory": "wasmedge_pool.caller_memory",
    "BindgenReturn": "wasmedge_runtime.bindgen",
    "CallRecord": "wasmedge_pool.stats",
    "CallTimeout": "wasmedge_pool.errors",
    "CallerMemory": "wasmedge_pool.caller_memory",
    "CodeState": "wasmedge_runtime.tiers.status",
    "CodeStatus": "wasmedge_runtime.tiers.status",
    "CompilationMode": "wasmedge_runtime.configure",
    "CompilerOptimizationLevel": "wasmedge_runtime.configure",
    "CompilerOutputFormat": "wasmedge_runtime.configure",
    "Configure": "wasmedge_runtime.configure",
    "ErrCode": "wasmedge_runtime.errors",
    "ExternRef": "wasmedge_runtime.values",
    "ExternType": "wasmedge_runtime.types",
    "Fail": "wasmedge_runtime.errors",
    "FuncRef": "wasmedge_runtime.values",
    "Function": "wasmedge_pool.imports",
    "FunctionHandle": "wasmedge_pool.handles",
    "FunctionType": "wasmedge_runtime.types",
    "Global": "wasmedge_pool.handles",
    "GlobalType": "wasmedge_runtime.types",
    "Histogram": "wasmedge_pool.stats",
    "HostFunctionError": "wasmedge_runtime.errors",
    "HostRegistration": "wasmedge_runtime.configure",
    "I32": "wasmedge_runtime.values",
    "I64": "wasmedge_runtime.values",
    "ImportObject": "wasmedge_pool.imports",
    "InstantiationError": "wasmedge_runtime.errors",
    "Limit": "wasmedge_runtime.types",
    "LoadError": "wasmedge_runtime.errors",
    "Memory": "wasmedge_pool.handles",
    "MemoryType": "wasmedge_runtime.types",
    "PoolClosed": "wasmedge_pool.errors",
    "PoolFull": "wasmedge_pool.errors",
    "PoolStats": "wasmedge_pool.stats",
    "Proposal": "wasmedge_runtime.configure",
    "RefType": "wasmedge_runtime.types",
    "Statistics": "wasmedge_async._statistics",
    "Store": "wasmedge_async._store",
    "Table": "wasmedge_pool.handles",
    "TableType": "wasmedge_runtime.types",
    "Terminate": "wasmedge_runtime.errors",
    "Trap": "wasmedge_runtime.errors",
    "V128": "wasmedge_runtime.values",
    "VM": "wasmedge_async._vm",
    "VMLost": "wasmedge_pool.errors",
    "VMPool": "wasmedge_async._pool",
    "VMState": "wasmedge_runtime.state",
    "ValMut": "wasmedge_runtime.types",
    "ValType": "wasmedge_runtime.types",
    "ValidationError": "wasmedge_runtime.errors",
    "Wasi": "wasmedge_async._wasi",
    "WasmEdgeError": "wasmedge_runtime.errors",
    "WasmEdgeProcess": "wasmedge_async._commands",
    "WasmEdgeProcessImportObject": "wasmedge_async._commands",
    "WorkerDied": "wasmedge_pool.errors",
    "WorkerStats": "wasmedge_pool.stats",
    "WouldDeadlock": "wasmedge_pool.errors",
    "__version__": "wasmedge_runtime.version",
    "get_version": "wasmedge_runtime.version",
    "get_version_major": "wasmedge_runtime.version",
    "get_version_minor": "wasmedge_runtime.version",
    "get_version_patch": "wasmedge_runtime.version",
    "set_log_debug_level": "wasmedge_runtime.log",
    "set_log_error_level": "wasmedge_runtime.log",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _HOMES.keys())
