"""The asynchronous VM: the engine's VM, in a worker process, awaited."""

from __future__ import annotations

import os
import warnings
from types import TracebackType
from typing import Any, Self, TypeAlias

from wasmedge_pool.actor import VM_NAME, Actor
from wasmedge_pool.mailbox import Request, answer
from wasmedge_pool.process import WorkerProcess
from wasmedge_pool.protocol import (
    Call,
    Cleanup,
    GetCodeStatus,
    GetFunctionList,
    GetFunctionType,
    Instantiate,
    Load,
    Register,
    Run,
    Validate,
)
from wasmedge_pool.values import microseconds, to_wire
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.state import VMState
from wasmedge_runtime.tiers.status import CodeState, CodeStatus
from wasmedge_runtime.types import FunctionType, ValType

__all__ = ["VM", "Path"]

Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def _absolute(path: Path) -> bytes:
    """Fix what a path means now: the worker opens it, later, and has another working directory."""
    return os.path.abspath(os.fsencode(path))


class VM:
    """A WebAssembly virtual machine that lives in a worker process of its own.

    ::

        async with VM() as vm:
            [n] = await vm.run_wasm_file("fibonacci.wasm", "fib", 21)

    Calls run one at a time, in the order in which they were made; many tasks may call at once.
    Cancelling a task, or a timeout, stops the guest: the call raises when it has stopped, and the
    VM stays usable, memory as left. What the guest does to its process, it does to the worker:
    then the call that was running raises `WorkerDied`, and later ones `VMLost`.

    Files are opened by the worker when the request's turn comes; a relative path is resolved
    when the method is called.

    Every method raises what the engine's `VM` raises, and besides:
        WorkerDied: the worker ended while it ran the call, or could not be started.
        VMLost: the worker has ended before.
        PoolClosed: the VM was closed.
        RuntimeError: no asyncio or uvloop event loop is running.

    Args:
        config: options; copied.
    """

    def __init__(self, config: Configure | None = None) -> None:
        self._actor = Actor(config, WorkerProcess)

    async def __aenter__(self) -> Self:
        if not self._actor.open:
            request = self._actor.begin()
            try:
                await answer(request)
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the worker. Calls that wait or run raise `PoolClosed`. Idempotent, from any task."""
        await self._actor.close()

    def __del__(self) -> None:
        actor = getattr(self, "_actor", None)  # absent when the constructor raised
        if actor is not None and actor.open:
            warnings.warn(
                f"unclosed {self!r}: use `async with` or `await vm.close()`",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )
            actor.kill()

    def __repr__(self) -> str:
        return f"<wasmedge_async.VM pid={self._actor.pid} state={self.state.name}>"

    @property
    def state(self) -> VMState:
        """How far the VM had come at its last answer; INITED before the first."""
        return VMState(self._actor.state)

    # --- Modules ----------------------------------------------------------------------------------

    async def load_wasm_file(self, path: Path) -> None:
        """Load a module from a file: INITED or later to LOADED (specification chapter 5).

        Raises:
            LoadError: it cannot be read, or is no module (with the byte's offset).
        """
        await self._actor.ask(Request(Load(0, VM_NAME, _absolute(path))))

    async def load_wasm_buffer(self, data: bytes | bytearray | memoryview) -> None:
        """Load a module from memory, as `load_wasm_file`."""
        await self._actor.ask(Request(Load(0, VM_NAME, None), bytes(data)))

    async def validate(self) -> None:
        """Validate the loaded module: LOADED to VALIDATED (specification chapter 3).

        Raises:
            ValidationError: the module breaks a rule (with the byte's offset).
            WasmEdgeError: nothing is loaded (`WrongVMWorkflow`).
        """
        await self._actor.ask(Request(Validate(0, VM_NAME)))

    async def instantiate(self) -> None:
        """Instantiate the validated module: VALIDATED to INSTANTIATED (specification 4.5.4).

        Raises:
            InstantiationError: the imports do not fit.
            Trap: the start function, or a segment that does not fit.
            WasmEdgeError: nothing is validated (`WrongVMWorkflow`).
        """
        await self._actor.ask(Request(Instantiate(0, VM_NAME)))

    async def register_wasm_file(self, name: str, path: Path) -> None:
        """Instantiate a module from a file under a name, for others to import from.

        An INSTANTIATED VM goes back to VALIDATED.

        Raises:
            InstantiationError: the name is taken (`ModuleNameConflict`), or the imports do not fit.
            LoadError, ValidationError: it is no valid module.
        """
        await self._actor.ask(Request(Register(0, VM_NAME, name, _absolute(path))))

    async def register_wasm_buffer(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Instantiate a module from memory under a name, as `register_wasm_file`."""
        await self._actor.ask(Request(Register(0, VM_NAME, name, None), bytes(data)))

    async def cleanup(self) -> None:
        """Drop all modules: back to INITED."""
        await self._actor.ask(Request(Cleanup(0, VM_NAME)))

    # --- Calls ------------------------------------------------------------------------------------

    async def execute(self, func: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Call an exported function of the instantiated module.

        Args:
            func: the export's name.
            args: int, float, `V128` or None (the null reference), by the function's type.
            timeout: seconds of running time, 0 or more; waiting for earlier calls does not count.

        Returns:
            The results, one entry for each; integers are signed.

        Raises:
            Trap: the guest trapped (`.kind` says how).
            CallTimeout: it ran longer than `timeout`, and was stopped.
            WasmEdgeError: there is no such function, or the number of arguments is wrong.
            TypeError, OverflowError: an argument does not fit the function's type.
        """
        message = Call(0, VM_NAME, None, func, to_wire(args), microseconds(timeout))
        return await self._actor.ask(Request(message, None, timeout))

    async def execute_registered(
        self, module: str, func: str, *args: Any, timeout: float | None = None
    ) -> list[Any]:
        """Call a function of a registered module, as `execute`; works in every state."""
        message = Call(0, VM_NAME, module, func, to_wire(args), microseconds(timeout))
        return await self._actor.ask(Request(message, None, timeout))

    async def run_wasm_file(
        self, path: Path, func: str, *args: Any, timeout: float | None = None
    ) -> list[Any]:
        """Load, validate and instantiate a module from a file, and call a function of it."""
        wire = to_wire(args)
        message = Run(0, VM_NAME, _absolute(path), func, wire, microseconds(timeout))
        return await self._actor.ask(Request(message, None, timeout))

    async def run_wasm_buffer(
        self,
        data: bytes | bytearray | memoryview,
        func: str,
        *args: Any,
        timeout: float | None = None,
    ) -> list[Any]:
        """Load, validate and instantiate a module from memory, and call a function of it."""
        message = Run(0, VM_NAME, None, func, to_wire(args), microseconds(timeout))
        return await self._actor.ask(Request(message, bytes(data), timeout))

    # --- Questions --------------------------------------------------------------------------------

    async def get_function_list(self) -> dict[str, FunctionType]:
        """Return the exported functions of the instantiated module."""
        request = Request(GetFunctionList(0, VM_NAME))
        return await self._functions(request)

    async def get_function_type(self, name: str) -> FunctionType | None:
        """Return the type of an exported function, None when there is none of that name."""
        request = Request(GetFunctionType(0, VM_NAME, None, name))
        return (await self._functions(request)).get(name)

    async def get_function_type_registered(self, module: str, name: str) -> FunctionType | None:
        """Return the type of a registered module's function, None when there is none."""
        request = Request(GetFunctionType(0, VM_NAME, module, name))
        return (await self._functions(request)).get(name)

    async def get_code_status(self) -> CodeStatus | None:
        """Return how the code of the instantiated module stands: in which tier, and how much of it
        is done; None when nothing is instantiated."""
        values = await self._actor.ask(Request(GetCodeStatus(0, VM_NAME)))
        if not values:
            return None
        state, functions, baseline, optimized, from_cache = values
        states = list(CodeState)
        return CodeStatus(states[state], functions, baseline, optimized, bool(from_cache))

    async def _functions(self, request: Request) -> dict[str, FunctionType]:
        items = request.items = []
        await self._actor.ask(request)
        return {
            name: FunctionType(map(ValType, parameters), map(ValType, returns))
            for name, parameters, returns in items
        }
