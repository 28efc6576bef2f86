"""wasmedge_process in a worker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from wasmedge_pool.messages import HasHost, InitCommands
from wasmedge_runtime.configure import HostRegistration
from wasmedge_runtime.errors import ErrCode, InstantiationError, WasmEdgeError

if TYPE_CHECKING:
    from wasmedge_pool.worker.vm import WorkerVM

__all__ = ["has_host", "init_commands"]


def init_commands(vm: WorkerVM, request: InitCommands) -> tuple[Any, ...]:
    process = vm.vm.get_import_object(HostRegistration.WASMEDGE_PROCESS)
    if process is None and not request.register:
        raise WasmEdgeError(
            ErrCode.WrongVMWorkflow,
            "wrong VM workflow: this VM has no wasmedge_process; make it with "
            "Configure(HostRegistration.WASMEDGE_PROCESS), or register a "
            "WasmEdgeProcessImportObject",
        )
    if process is not None and request.register:
        raise InstantiationError(
            ErrCode.ModuleNameConflict,
            "module name conflict: this VM has wasmedge_process already; use "
            "`init_wasmedge_process` of what "
            "`get_import_object(HostRegistration.WASMEDGE_PROCESS)` gives",
        )
    if process is None:
        process = vm.vm.add_host_module(HostRegistration.WASMEDGE_PROCESS)
    process.init_wasmedge_process(
        request.allowed, bool(request.allow_all), folder=os.fsdecode(request.folder)
    )
    return ()


def has_host(vm: WorkerVM, request: HasHost) -> tuple[Any, ...]:
    return (int(vm.vm.get_import_object(HostRegistration(request.host)) is not None),)
