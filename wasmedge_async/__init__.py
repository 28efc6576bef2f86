"""WebAssembly that is awaited: virtual machines in worker processes, driven from asyncio.

::

    async with VM() as vm:
        [n] = await vm.run_wasm_file("fibonacci.wasm", "fib", 21)

Light to import: the engine, and LLVM with it, is loaded in the worker processes only. The engine
itself, synchronous, is `wasmedge_runtime`.
"""

from __future__ import annotations

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
