"""WebAssembly in Python, compiled through LLVM: the synchronous engine of wasmedge-async.

::

    bytes -> Loader -> AST -> Validator -> LLVM IR -> native object (cached)
          -> Executor.instantiate -> ModuleInstance -> call

`VM` does these steps in order; the classes can be used one by one as well. Public names are
loaded when first used: the parent process of a pool needs types and errors only, and must not pay
for LLVM.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasmedge_runtime.bindgen import BindgenReturn
    from wasmedge_runtime.compiler import Compiler
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
    from wasmedge_runtime.executor import Executor
    from wasmedge_runtime.function import Function
    from wasmedge_runtime.global_ import Global
    from wasmedge_runtime.import_object import ImportObject
    from wasmedge_runtime.instance import ModuleInstance
    from wasmedge_runtime.loader import Loader
    from wasmedge_runtime.log import set_log_debug_level, set_log_error_level
    from wasmedge_runtime.memory import Memory
    from wasmedge_runtime.module import AST
    from wasmedge_runtime.process import WasmEdgeProcessImportObject
    from wasmedge_runtime.state import VMState
    from wasmedge_runtime.statistics import Statistics
    from wasmedge_runtime.store import Store
    from wasmedge_runtime.table import Table
    from wasmedge_runtime.tiers.status import CodeState, CodeStatus
    from wasmedge_runtime.types import (
        ExportType,
        ExternType,
        FunctionType,
        GlobalType,
        ImportType,
        Limit,
        MemoryType,
        RefType,
        TableType,
        ValMut,
        ValType,
    )
    from wasmedge_runtime.validator import Validator
    from wasmedge_runtime.values import I32, I64, V128, ExternRef, FuncRef
    from wasmedge_runtime.version import (
        __version__,
        get_version,
        get_version_major,
        get_version_minor,
        get_version_patch,
    )
    from wasmedge_runtime.vm import VM
    from wasmedge_runtime.wasi import DEVNULL, WasiImportObject

__all__ = [
    "AST",
    "DEVNULL",
    "I32",
    "I64",
    "V128",
    "VM",
    "BindgenReturn",
    "CodeState",
    "CodeStatus",
    "CompilationMode",
    "Compiler",
    "CompilerOptimizationLevel",
    "CompilerOutputFormat",
    "Configure",
    "ErrCode",
    "Executor",
    "ExportType",
    "ExternRef",
    "ExternType",
    "Fail",
    "FuncRef",
    "Function",
    "FunctionType",
    "Global",
    "GlobalType",
    "HostFunctionError",
    "HostRegistration",
    "ImportObject",
    "ImportType",
    "InstantiationError",
    "Limit",
    "LoadError",
    "Loader",
    "Memory",
    "MemoryType",
    "ModuleInstance",
    "Proposal",
    "RefType",
    "Statistics",
    "Store",
    "Table",
    "TableType",
    "Terminate",
    "Trap",
    "VMState",
    "ValMut",
    "ValType",
    "ValidationError",
    "Validator",
    "WasiImportObject",
    "WasmEdgeError",
    "WasmEdgeProcessImportObject",
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
    "AST": "module",
    "BindgenReturn": "bindgen",
    "CodeState": "tiers.status",
    "CodeStatus": "tiers.status",
    "CompilationMode": "configure",
    "Compiler": "compiler",
    "DEVNULL": "wasi",
    "CompilerOptimizationLevel": "configure",
    "CompilerOutputFormat": "configure",
    "Configure": "configure",
    "ErrCode": "errors",
    "Executor": "executor",
    "ExportType": "types",
    "ExternRef": "values",
    "ExternType": "types",
    "Fail": "errors",
    "FuncRef": "values",
    "Function": "function",
    "FunctionType": "types",
    "Global": "global_",
    "GlobalType": "types",
    "HostFunctionError": "errors",
    "HostRegistration": "configure",
    "I32": "values",
    "I64": "values",
    "ImportObject": "import_object",
    "ImportType": "types",
    "InstantiationError": "errors",
    "Limit": "types",
    "LoadError": "errors",
    "Loader": "loader",
    "Memory": "memory",
    "MemoryType": "types",
    "ModuleInstance": "instance",
    "Proposal": "configure",
    "RefType": "types",
    "Statistics": "statistics",
    "Store": "store",
    "Table": "table",
    "TableType": "types",
    "Terminate": "errors",
    "Trap": "errors",
    "V128": "values",
    "VM": "vm",
    "VMState": "state",
    "ValMut": "types",
    "ValType": "types",
    "ValidationError": "errors",
    "Validator": "validator",
    "WasiImportObject": "wasi",
    "WasmEdgeError": "errors",
    "WasmEdgeProcessImportObject": "process",
    "__version__": "version",
    "get_version": "version",
    "get_version_major": "version",
    "get_version_minor": "version",
    "get_version_patch": "version",
    "set_log_debug_level": "log",
    "set_log_error_level": "log",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _HOMES.keys())
