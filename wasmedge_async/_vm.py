"""The asynchronous VM: the engine's VM, in a worker process, awaited."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, overload

from wasmedge_async._bindgen import BindgenCalls
from wasmedge_async._commands import WasmEdgeProcess, WasmEdgeProcessImportObject
from wasmedge_async._process import Process, start
from wasmedge_async._program import (
    Environment,
    Preopens,
    Program,
    arguments,
    environment,
    folders,
    program_of,
)
from wasmedge_async._statistics import Statistics
from wasmedge_async._stdio import PIPE, Stdio, Stream
from wasmedge_async._store import Store, function_types, items
from wasmedge_async._wasi import Wasi, WasiImportObject
from wasmedge_pool.actor import Actor
from wasmedge_pool.code_status import status_from_wire
from wasmedge_pool.imports import ImportObject
from wasmedge_pool.messages import (
    Call,
    Cleanup,
    GetCodeStatus,
    GetFunctionList,
    GetFunctionType,
    HasHost,
    Instantiate,
    Load,
    Message,
    Register,
    Run,
    Spawn,
    Validate,
)
from wasmedge_pool.process import WorkerProcess
from wasmedge_pool.registering import describe
from wasmedge_pool.request import Request, answered
from wasmedge_pool.values import microseconds
from wasmedge_runtime.configure import Configure, HostRegistration
from wasmedge_runtime.state import VMState
from wasmedge_runtime.tiers.status import CodeStatus
from wasmedge_runtime.types import FunctionType
from wasmedge_runtime.values import ExternRef

if TYPE_CHECKING:
    from wasmedge_async._pool import VMPool
    from wasmedge_pool.tenant import Tenant

__all__ = ["VM", "Path"]

Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def _absolute(path: Path) -> bytes:
    """Fix what a path means now: the worker opens it, later, and has another working directory."""
    return os.path.abspath(os.fsencode(path))


class VM(BindgenCalls):
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

    Every method raises what the engine's `VM` raises, and what stands here.

    Raises:
        WorkerDied: the worker ended while it ran the call, or could not be started.
        VMLost: the worker has ended before.
        PoolClosed: the VM was closed.
        RuntimeError: no asyncio or uvloop event loop is running.

    Args:
        config: options; copied.
        pool: where it lives, beside others in a worker of this pool. Without one it has a process
            of its own.
    """

    def __init__(self, config: Configure | None = None, pool: VMPool | None = None) -> None:
        self._actor: Actor | Tenant
        if pool is None:
            self._actor = Actor(config, WorkerProcess)
        else:
            self._actor = pool._pool.tenant(config)

    async def __aenter__(self) -> Self:
        try:
            await self.started()
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

    async def started(self) -> None:
        """Start the worker, if it has not been started, and wait until it can take requests."""
        if not self._actor.open:
            await answered(self._actor.begin())

    async def restart(self) -> None:
        """Begin anew with another worker, after `VMLost` or in the middle of something: back to
        INITED, with nothing loaded or registered. Calls that wait or run raise `VMLost`."""
        await self._actor.restart()

    async def close(self) -> None:
        """End the worker. Calls that wait or run raise `PoolClosed`. Idempotent, from any task."""
        await self._actor.close()

    def __del__(self) -> None:
        actor = getattr(self, "_actor", None)  # absent when the constructor raised
        if actor is None:
            return
        was_open = actor.open
        message = f"unclosed {self!r}: use `async with` or `await vm.close()`"
        actor.forget()  # first: a warning may be an error
        if was_open:
            warnings.warn(message, ResourceWarning, source=self, stacklevel=1)

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
        await self._ask(Load(0, self._actor.number, _absolute(path)))

    async def load_wasm_buffer(self, data: bytes | bytearray | memoryview) -> None:
        """Load a module from memory, as `load_wasm_file`."""
        await self._ask(Load(0, self._actor.number, None), bytes(data))

    async def validate(self) -> None:
        """Validate the loaded module: LOADED to VALIDATED (specification chapter 3).

        Raises:
            ValidationError: the module breaks a rule (with the byte's offset).
            WasmEdgeError: nothing is loaded (`WrongVMWorkflow`).
        """
        await self._ask(Validate(0, self._actor.number))

    async def instantiate(self) -> None:
        """Instantiate the validated module: VALIDATED to INSTANTIATED (specification 4.5.4).

        Raises:
            InstantiationError: the imports do not fit.
            Trap: the start function, or a segment that does not fit.
            WasmEdgeError: nothing is validated (`WrongVMWorkflow`).
        """
        await self._ask(Instantiate(0, self._actor.number))

    async def register_wasm_file(self, name: str, path: Path) -> None:
        """Instantiate a module from a file under a name, for others to import from.

        An INSTANTIATED VM goes back to VALIDATED.

        Raises:
            InstantiationError: the name is taken (`ModuleNameConflict`), or the imports do not fit.
            LoadError, ValidationError: it is no valid module.
        """
        await self._ask(Register(0, self._actor.number, name, _absolute(path)))

    async def register_wasm_buffer(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Instantiate a module from memory under a name, as `register_wasm_file`."""
        await self._ask(Register(0, self._actor.number, name, None), bytes(data))

    async def register_import(
        self, import_object: ImportObject | WasiImportObject | WasmEdgeProcessImportObject
    ) -> None:
        """Make functions, tables, memories and globals importable, under their module's name.

        Its tables, memories and globals live in this VM from then on, and their methods are
        awaited. An INSTANTIATED VM goes back to VALIDATED.

        Raises:
            InstantiationError: the name is taken (`ModuleNameConflict`), or the worker cannot
                import a function that is to run there (`UnknownImport`).
            WasmEdgeError: one of its tables, memories or globals belongs to another VM.
            TypeError, OverflowError: a value does not fit its type.
        """
        actor = self._actor
        if not actor.open:
            actor.begin()  # the numbers of its functions belong to one life of the VM
        if isinstance(import_object, WasiImportObject | WasmEdgeProcessImportObject):
            await actor.ask(await import_object.registration(actor.number))
        else:
            await describe(import_object, actor.hosts).register(actor)

    async def cleanup(self) -> None:
        """Drop all modules: back to INITED. What the configuration registered stays."""
        await self._ask(Cleanup(0, self._actor.number))

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
        return await self._call(None, func, args, timeout)

    async def execute_registered(
        self, module: str, func: str, *args: Any, timeout: float | None = None
    ) -> list[Any]:
        """Call a function of a registered module, as `execute`; works in every state."""
        return await self._call(module, func, args, timeout)

    async def run_wasm_file(
        self, path: Path, func: str, *args: Any, timeout: float | None = None
    ) -> list[Any]:
        """Load, validate and instantiate a module from a file, and call a function of it."""
        return await self._run(_absolute(path), None, func, args, timeout)

    async def run_wasm_buffer(
        self,
        data: bytes | bytearray | memoryview,
        func: str,
        *args: Any,
        timeout: float | None = None,
    ) -> list[Any]:
        """Load, validate and instantiate a module from memory, and call a function of it."""
        return await self._run(None, bytes(data), func, args, timeout)

    async def _call(
        self, module: str | None, func: str, args: tuple[Any, ...], timeout: float | None
    ) -> list[Any]:
        actor = self._actor
        wire, references = actor.hosts.to_wire(args)
        message = Call(0, actor.number, module, func, wire, microseconds(timeout))
        return await self._ask(message, None, timeout, references)

    async def _run(
        self,
        path: bytes | None,
        data: bytes | None,
        func: str,
        args: tuple[Any, ...],
        timeout: float | None,
    ) -> list[Any]:
        actor = self._actor
        wire, references = actor.hosts.to_wire(args)
        message = Run(0, actor.number, path, func, wire, microseconds(timeout))
        return await self._ask(message, data, timeout, references)

    async def _ask(
        self,
        message: Message,
        bulk: bytes | None = None,
        timeout: float | None = None,
        references: Sequence[ExternRef] = (),
    ) -> list[Any]:
        actor = self._actor
        # No name for the request: it has the exception whose traceback will have this frame.
        return await actor.ask(
            Request(message, bulk, timeout, vm=actor, hosts=actor.hosts, references=references)
        )

    # --- Programs ---------------------------------------------------------------------------------

    async def spawn(
        self,
        program: Program,
        args: Iterable[str] | None = None,
        env: Environment = (),
        preopens: Preopens = (),
        stdin: Stream = PIPE,
        stdout: Stream = PIPE,
        stderr: Stream = PIPE,
        *,
        allow_sockets: Iterable[str] = (),
    ) -> Process:
        r"""Start a WASI program, to talk to it while it runs.

        ::

            process = await vm.spawn("program.wasm", args=["program", "x"], preopens={".": "data"})
            await process.stdin.send(b"5\n")
            async for line in process.stdout.lines():
                print(line)
            code = await process.wait()

        It begins when the calls that were made before are done, runs in this VM (it replaces the
        instantiated module, and imports what is registered), and other calls wait until it ends.

        Args:
            program: a file, or the module's bytes.
            args: the program's arguments, with its name in front; the file's name when None.
            env: environment variables, as a mapping or as `"NAME=value"`; none when not given.
            preopens: folders that it may use, as for `WasiImportObject`; none when not given.
            stdin, stdout, stderr: `PIPE`, or as for `WasiImportObject`; for stderr also `STDOUT`.
            allow_sockets: as for `WasiImportObject`.

        Raises:
            TypeError, ValueError, OSError: an argument is not what it must be, or a stream cannot
                be opened. What the program fails with is raised by `Process.wait`.
        """
        path, data, name = program_of(program)
        given = (
            arguments([name] if args is None else args),
            environment(env),
            folders(preopens),
            arguments(allow_sockets),
        )
        await self.started()
        actor = self._actor
        stdio = await Stdio.open(stdin, stdout, stderr)
        try:
            message = Spawn(0, actor.number, path, *given)
            request = Request(message, data, hosts=actor.hosts, descriptors=stdio)
            return start(actor.ask(request), stdio, actor.end_worker)
        except BaseException:
            stdio.close()
            raise

    # --- Questions --------------------------------------------------------------------------------

    async def get_function_list(self) -> dict[str, FunctionType]:
        """Return the exported functions of the instantiated module."""
        return await self._functions(GetFunctionList(0, self._actor.number))

    async def get_function_type(self, name: str) -> FunctionType | None:
        """Return the type of an exported function, None when there is none of that name."""
        message = GetFunctionType(0, self._actor.number, None, name)
        return (await self._functions(message)).get(name)

    async def get_function_type_registered(self, module: str, name: str) -> FunctionType | None:
        """Return the type of a registered module's function, None when there is none."""
        message = GetFunctionType(0, self._actor.number, module, name)
        return (await self._functions(message)).get(name)

    async def get_store(self) -> Store:
        """Return the VM's store: its functions, tables, memories and globals, by name."""
        await self.started()
        return Store(self._actor)

    @overload
    async def get_import_object(
        self, registration: Literal[HostRegistration.WASI]
    ) -> Wasi | None: ...

    @overload
    async def get_import_object(
        self, registration: Literal[HostRegistration.WASMEDGE_PROCESS]
    ) -> WasmEdgeProcess | None: ...

    @overload
    async def get_import_object(
        self, registration: HostRegistration
    ) -> Wasi | WasmEdgeProcess | None: ...

    async def get_import_object(
        self, registration: HostRegistration
    ) -> Wasi | WasmEdgeProcess | None:
        """Return the host module that the configuration registered, None when it registered none.

        `HostRegistration.WASI` gives a `Wasi`, `WASMEDGE_PROCESS` a `WasmEdgeProcess`.
        """
        if not isinstance(registration, HostRegistration):
            raise TypeError(f"expected a HostRegistration, not {registration!r}")
        (there,) = await self._ask(HasHost(0, self._actor.number, registration.value))
        if not there:
            return None
        if registration is HostRegistration.WASI:
            return Wasi(self._actor)
        return WasmEdgeProcess(self._actor)

    async def get_statistics(self) -> Statistics:
        """Return what the calls of this VM have cost so far, as far as its configuration asks."""
        return await Statistics.of(self._actor)

    async def get_code_status(self) -> CodeStatus | None:
        """Return how the code of the instantiated module stands: in which tier, and how much of it
        is done; None when nothing is instantiated."""
        return status_from_wire(await self._ask(GetCodeStatus(0, self._actor.number)))

    async def _functions(self, message: Message) -> dict[str, FunctionType]:
        return function_types(await items(self._actor, message))
