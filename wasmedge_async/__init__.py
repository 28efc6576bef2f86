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
    from wasmedge_async._pool import VMPool
    from wasmedge_async._vm import VM
    from wasmedge_pool.errors import CallTimeout, PoolClosed, VMLost, WorkerDied
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
        HostFunctionError,
        InstantiationError,
        LoadError,
        Trap,
        ValidationError,
        WasmEdgeError,
    )
    from wasmedge_runtime.log import set_log_debug_level, set_log_error_level
    from wasmedge_runtime.state import VMState
    from wasmedge_runtime.tiers.status import CodeState, CodeStatus
    from wasmedge_runtime.types import FunctionType, ValType
    from wasmedge_runtime.values import I32, I64, V128
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
    "CallTimeout",
    "CodeState",
    "CodeStatus",
    "CompilationMode",
    "CompilerOptimizationLevel",
    "CompilerOutputFormat",
    "Configure",
    "ErrCode",
    "FunctionType",
    "HostFunctionError",
    "HostRegistration",
    "InstantiationError",
    "LoadError",
    "PoolClosed",
    "Proposal",
    "Trap",
    "VMLost",
    "VMPool",
    "VMState",
    "ValType",
    "ValidationError",
    "WasmEdgeError",
    "WorkerDied",
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
    "CallTimeout": "wasmedge_pool.errors",
    "CodeState": "wasmedge_runtime.tiers.status",
    "CodeStatus": "wasmedge_runtime.tiers.status",
    "CompilationMode": "wasmedge_runtime.configure",
    "CompilerOptimizationLevel": "wasmedge_runtime.configure",
    "CompilerOutputFormat": "wasmedge_runtime.configure",
    "Configure": "wasmedge_runtime.configure",
    "ErrCode": "wasmedge_runtime.errors",
    "FunctionType": "wasmedge_runtime.types",
    "HostFunctionError": "wasmedge_runtime.errors",
    "HostRegistration": "wasmedge_runtime.configure",
    "I32": "wasmedge_runtime.values",
    "I64": "wasmedge_runtime.values",
    "InstantiationError": "wasmedge_runtime.errors",
    "LoadError": "wasmedge_runtime.errors",
    "PoolClosed": "wasmedge_pool.errors",
    "Proposal": "wasmedge_runtime.configure",
    "Trap": "wasmedge_runtime.errors",
    "V128": "wasmedge_runtime.values",
    "VM": "wasmedge_async._vm",
    "VMLost": "wasmedge_pool.errors",
    "VMPool": "wasmedge_async._pool",
    "VMState": "wasmedge_runtime.state",
    "ValType": "wasmedge_runtime.types",
    "ValidationError": "wasmedge_runtime.errors",
    "WasmEdgeError": "wasmedge_runtime.errors",
    "WorkerDied": "wasmedge_pool.errors",
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
