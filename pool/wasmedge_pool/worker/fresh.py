"""The VM of a pool: each call finds an instance as no call had used it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from wasmedge_pool.messages import Broadcast, ProtocolError, Share
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.errors import ErrCode, WasmEdgeError
from wasmedge_runtime.loader import Loader
from wasmedge_runtime.module import AST
from wasmedge_runtime.types import FunctionType, ValMut
from wasmedge_runtime.vm import VM

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmedge_pool.worker.vm import WorkerVM

_log = logging.getLogger("wasmedge")

__all__ = ["FreshVM", "broadcast", "make_vm", "share"]


class FreshVM(VM):
    """A VM that runs every call on an instance that is as no call had used it."""

    def __init__(self, config: Configure) -> None:
        super().__init__(config)
        self._fresh_loader = Loader(config)
        self._keeps_state = True
        self._used = False
        self._restarts: list[Callable[[], None]] = []
        self._callers: dict[str, Callable[..., list[Any]]] = {}
        self.ast: AST | None = None
        """The module that it has loaded."""

    def load_wasm_buffer(self, data: bytes | bytearray | memoryview) -> None:
        """Load a module, and see whether a call of it could leave something behind."""
        ast = self.ast = self._fresh_loader.load_content(bytes(data), "the pool's module")
        # What a call could leave behind for the next. Segments that were dropped show in memories
        # and tables only.
        self._keeps_state = bool(
            ast.memory_types
            or ast.table_types
            or any(global_type.mutability is ValMut.VAR for global_type in ast.global_types)
        )
        self.load_wasm_ast(ast)

    def instantiate(self) -> None:
        """Instantiate; what was kept by `broadcast` is forgotten."""
        super().instantiate()
        self._used = False
        self._callers.clear()
        self._restarts = [host.restart for host in self._hosts.values()]

    def _refresh(self) -> None:
        if self._keeps_state and self.store.anonymous is not None:
            self.store.anonymous.reset()
        for restart in self._restarts:
            restart()

    def execute(self, function: str, *args: Any) -> list[Any]:
        """Call a function on a fresh instance."""
        if self._used:
            self._refresh()
        else:
            for restart in self._restarts:
                restart()
        self._used = True
        call = self._callers.get(function)
        if call is not None:
            return call(*args)
        results = super().execute(function, *args)
        self._remember(function)
        return results

    def _remember(self, function: str) -> None:
        """Call a function straight from now on, which costs half, unless there is more to do."""
        instance = self.store.anonymous
        if instance is None or function == "_start" or _log.isEnabledFor(logging.DEBUG):
            return
        call = instance.exported_caller(function)
        if call is not None:
            self._callers[function] = call

    def broadcast(self, function: str, *args: Any) -> list[Any]:
        """Call a function, and let later calls find the instance as it leaves it."""
        results = self.execute(function, *args)
        if self._keeps_state and self.store.anonymous is not None:
            self.store.anonymous.checkpoint()
        self._used = False
        return results

    def caller(
        self, function: str
    ) -> tuple[Callable[..., list[Any]], FunctionType, Callable[[], None] | None]:
        """What calls a function, its type, and what makes the instance fresh before each call;
        None for a module that keeps nothing.

        Raises:
            WasmEdgeError: there is no such function.
        """
        instance = self.store.anonymous
        call = None if instance is None else instance.exported_caller(function)
        kind = self.get_function_type(function)
        if call is None or kind is None:
            super().execute(function)  # raises what it raises for one call
            raise WasmEdgeError(ErrCode.FuncNotFound)
        self._used = True
        return call, kind, self._refresh if self._keeps_state or self._restarts else None


def make_vm(config: Configure, fresh: bool) -> VM:
    """Make the engine's VM, or one that runs every call on a fresh instance."""
    return FreshVM(config) if fresh else VM(config)


def share(vm: WorkerVM, request: Share) -> tuple[Any, ...]:
    """Instantiate the module of the pool's VM in another VM: it is not sent or read again."""
    source = vm.worker.vms.get(request.source)
    ast = None if source is None else source.vm.ast
    if ast is None:
        raise ProtocolError(f"VM {request.source} has no module to share")
    vm.vm.load_wasm_ast(ast)
    vm.vm.validate()
    vm.vm.instantiate()
    return ()


def broadcast(vm: WorkerVM, request: Broadcast) -> tuple[Any, ...]:
    """Run what all later calls are to see."""
    return vm.to_wire(vm.vm.broadcast(request.function, *vm.from_wire(request.arguments)))
