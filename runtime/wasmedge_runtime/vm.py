"""VM: load, validate, instantiate and execute in order, in one store."""

from __future__ import annotations

import copy
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from wasmedge_runtime import bindgen
from wasmedge_runtime.bindgen import BindgenReturn, BindgenValue
from wasmedge_runtime.closable import Closable
from wasmedge_runtime.configure import Configure, HostRegistration
from wasmedge_runtime.errors import ErrCode, WasmEdgeError
from wasmedge_runtime.executor import Executor
from wasmedge_runtime.import_object import ImportObject
from wasmedge_runtime.loader import Loader
from wasmedge_runtime.module import AST
from wasmedge_runtime.state import VMState
from wasmedge_runtime.statistics import Statistics
from wasmedge_runtime.store import Store
from wasmedge_runtime.tiers.status import CodeStatus, Progress
from wasmedge_runtime.types import FunctionType
from wasmedge_runtime.validator import Validator

if TYPE_CHECKING:
    from wasmedge_runtime.process import WasmEdgeProcessImportObject
    from wasmedge_runtime.wasi import WasiImportObject

__all__ = ["VM", "VMState"]

_HostModule: TypeAlias = "WasiImportObject | WasmEdgeProcessImportObject"
_Int: TypeAlias = Literal[BindgenReturn.I32, BindgenReturn.I64]

_LOAD = "load_wasm_file, load_wasm_buffer or load_wasm_ast"

# What is missing before a step that needs a state: (needed state, current state) -> what to call.
_FIRST: dict[tuple[VMState, VMState], str] = {
    (VMState.LOADED, VMState.INITED): _LOAD,
    (VMState.VALIDATED, VMState.INITED): f"{_LOAD}, then validate",
    (VMState.VALIDATED, VMState.LOADED): "validate",
    (VMState.INSTANTIATED, VMState.INITED): f"{_LOAD}, then validate and instantiate",
    (VMState.INSTANTIATED, VMState.LOADED): "validate and instantiate",
    (VMState.INSTANTIATED, VMState.VALIDATED): "instantiate",
}


class VM(Closable):
    """The steps from bytes to results, with a store for the instances.

    ::

        with VM() as vm:
            [number] = vm.run_wasm_file("fibonacci.wasm", "fib", 21)

    or step by step: `load_wasm_file`, `validate`, `instantiate`, then `execute` as often as needed.
    Each step moves `state` on; a step out of order is `WrongVMWorkflow`. Loading another module
    starts again; registering one returns from INSTANTIATED to VALIDATED, because what was
    instantiated does not see it. A step that fails leaves the state as it was.

    Args:
        config: proposals, limits and statistics; copied. The defaults when None.
        store: where instances live. The VM makes its own when None, and closes it at the end; one
            that is given is the caller's. Several VMs in one store replace each other's anonymous
            module and can conflict in names.
        progress: called with a `CodeStatus` now and then while a step waits for optimised code
            (`CompilationMode.OPTIMIZED`); what it raises ends the waiting.
    """

    def __init__(
        self,
        config: Configure | None = None,
        store: Store | None = None,
        progress: Progress | None = None,
    ) -> None:
        config = Configure() if config is None else config.copy()
        self._statistics = Statistics()
        self._statistics._borrowed = True
        self._loader = Loader(config)
        self._validator = Validator(config)
        self._executor = Executor(config, self._statistics, progress)
        self._owns_store = store is None
        if store is None:
            store = Store()
            store._borrowed = True
        self._store = store
        self._hosts = _host_modules(config)
        for host in self._hosts.values():
            self._executor.register_import(store, host)
        self._module: AST | None = None
        self._state = VMState.INITED

    # Registering: what other modules import, and `execute_registered` calls.

    def register_wasm_file(self, name: str, path: str | os.PathLike[str]) -> None:
        """Load, validate and instantiate the module in a file, under a name.

        Raises:
            LoadError, ValidationError: the module is refused.
            InstantiationError: ModuleNameConflict when the name is taken, or imports do not fit.
            Trap: a segment does not fit, or the start function trapped.
        """
        self._check_open()
        self._register(name, self._loader.load_file(path))

    def register_wasm_buffer(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Load, validate and instantiate the module in a buffer, under a name.

        Raises as `register_wasm_file`.
        """
        self._check_open()
        self._register(name, self._loader.load_buffer(data))

    def register_ast(self, name: str, ast: AST) -> None:
        """Validate and instantiate a loaded module, under a name.

        Raises as `register_wasm_file`.
        """
        self._check_open()
        self._register(name, ast)

    def register_import(self, import_object: ImportObject) -> None:
        """Make the host's functions, tables, memories and globals importable, under their
        module's name.

        Raises:
            InstantiationError: ModuleNameConflict when the name is taken.
        """
        self._check_open()
        self._executor.register_import(self._store, import_object)
        self._instantiated_is_stale()

    def _register(self, name: str, ast: AST) -> None:
        self._validator.validate(ast)
        self._executor.register_module(self._store, ast, name)
        self._instantiated_is_stale()

    # Running: all steps at once, for a module that is not kept.

    def run_wasm_file(self, path: str | os.PathLike[str], function: str, *args: Any) -> list[Any]:
        """Load, validate and instantiate the module in a file, and call one of its functions.

        It replaces the store's anonymous module, and leaves the module that was loaded before for
        `instantiate`.

        Raises:
            LoadError, ValidationError, InstantiationError: the module is refused.
            WasmEdgeError: FuncNotFound, or FuncSigMismatch when the number of arguments is wrong.
            TypeError, OverflowError: an argument does not fit its type.
            Trap, HostFunctionError: the call failed.
        """
        self._check_open()
        return self._run(self._loader.load_file(path), function, args)

    def run_wasm_buffer(
        self, data: bytes | bytearray | memoryview, function: str, *args: Any
    ) -> list[Any]:
        """Load, validate and instantiate the module in a buffer, and call one of its functions.

        As `run_wasm_file`.
        """
        self._check_open()
        return self._run(self._loader.load_buffer(data), function, args)

    def run_wasm_ast(self, ast: AST, function: str, *args: Any) -> list[Any]:
        """Validate and instantiate a loaded module, and call one of its functions.

        As `run_wasm_file`.
        """
        self._check_open()
        return self._run(ast, function, args)

    def _run(self, ast: AST, function: str, args: tuple[Any, ...]) -> list[Any]:
        self._validator.validate(ast)
        self._begin(function)
        self._executor.instantiate(self._store, ast)
        self._instantiated_is_stale()
        wasi = self.get_import_object(HostRegistration.WASI)
        if function == "_start" and wasi is not None and wasi.exited:
            return []  # in the start function
        return self._executor.invoke(self._store, function, *args)

    # Step by step.

    def load_wasm_file(self, path: str | os.PathLike[str]) -> None:
        """Load the module in a file; from every state, to LOADED.

        Raises:
            LoadError: there is no such file, it cannot be read, or it is not a module.
        """
        self._check_open()
        self._load(self._loader.load_file(path))

    def load_wasm_buffer(self, data: bytes | bytearray | memoryview) -> None:
        """Load the module in a buffer; from every state, to LOADED.

        Raises:
            LoadError: it is not a module.
        """
        self._check_open()
        self._load(self._loader.load_buffer(data))

    def load_wasm_ast(self, ast: AST) -> None:
        """Take a module that a `Loader` has loaded; from every state, to LOADED.

        The VM keeps a copy: `ast` may be closed.

        Raises:
            WasmEdgeError: `ast` is closed.
        """
        self._check_open()
        ast._check_open()
        self._load(copy.copy(ast))

    def _load(self, ast: AST) -> None:
        self._module = ast
        self._state = VMState.LOADED

    def validate(self) -> None:
        """Validate the loaded module, to VALIDATED.

        Raises:
            WasmEdgeError: WrongVMWorkflow, nothing is loaded.
            ValidationError: the module is not valid.
        """
        self._validator.validate(self._needs(VMState.LOADED, "validate"))
        self._state = VMState.VALIDATED

    def instantiate(self) -> None:
        """Instantiate the validated module as the store's anonymous module, to INSTANTIATED.

        Doing it again gives fresh memories, tables and globals.

        Raises:
            WasmEdgeError: WrongVMWorkflow, the loaded module is not validated.
            InstantiationError: imports do not fit.
            Trap: a segment does not fit, or the start function trapped.
        """
        self._executor.instantiate(self._store, self._needs(VMState.VALIDATED, "instantiate"))
        self._state = VMState.INSTANTIATED

    def execute(self, function: str, *args: Any) -> list[Any]:
        """Call an exported function of the instantiated module; a list with its results.

        Raises:
            WasmEdgeError: WrongVMWorkflow before `instantiate`; FuncNotFound; FuncSigMismatch when
                the number of arguments is wrong.
            TypeError, OverflowError: an argument does not fit its type.
            Trap: the guest trapped, was interrupted, or reached the cost limit.
            HostFunctionError: a host function raised.
        """
        self._needs(VMState.INSTANTIATED, "execute")
        self._begin(function)
        return self._executor.invoke(self._store, function, *args)

    def execute_registered(self, module: str, function: str, *args: Any) -> list[Any]:
        """Call an exported function of a registered module, or a host function; in every state.

        Raises as `execute`, except WrongVMWorkflow.
        """
        self._check_open()
        return self._executor.invoke_registered(self._store, module, function, *args)

    @overload
    def execute_bindgen(
        self, function: str, kind: Literal[BindgenReturn.VOID], *args: Any
    ) -> None: ...

    @overload
    def execute_bindgen(self, function: str, kind: _Int, *args: Any) -> int: ...

    @overload
    def execute_bindgen(
        self, function: str, kind: Literal[BindgenReturn.ARRAY], *args: Any
    ) -> bytes: ...

    @overload
    def execute_bindgen(self, function: str, kind: BindgenReturn, *args: Any) -> BindgenValue: ...

    def execute_bindgen(self, function: str, kind: BindgenReturn, *args: Any) -> BindgenValue:
        """Call a function that wasm-bindgen has prepared; None, a signed int or bytes, by `kind`.

        ::

            digest = vm.execute_bindgen("sha3_digest", BindgenReturn.ARRAY, b"a message")

        Args:
            function: the export's name.
            kind: what it gives; wasm-bindgen functions have one result at most.
            args: int for up to 32 bits, `I64` for 64 bits, and str (as UTF-8) or bytes, which are
                copied into the module's memory.

        Raises:
            TypeError: `kind` is no `BindgenReturn`, or an argument is none of these.
            OverflowError: a number does not fit.
            WasmEdgeError: WrongVMWorkflow before `instantiate`; FuncNotFound, also for a module
                without allocator; FuncSigMismatch when kind and arguments do not fit the function;
                WrongInstanceIndex for a module without memory; MemoryOutOfBounds when pointers
                that it gives are wrong.
            Trap, HostFunctionError: the call failed.
        """
        self._needs(VMState.INSTANTIATED, "execute")
        store = self._store
        return bindgen.run(function, kind, args, store.find_function, store.find_memory)

    @overload
    def execute_bindgen_registered(
        self, module: str, function: str, kind: Literal[BindgenReturn.VOID], *args: Any
    ) -> None: ...

    @overload
    def execute_bindgen_registered(
        self, module: str, function: str, kind: _Int, *args: Any
    ) -> int: ...

    @overload
    def execute_bindgen_registered(
        self, module: str, function: str, kind: Literal[BindgenReturn.ARRAY], *args: Any
    ) -> bytes: ...

    @overload
    def execute_bindgen_registered(
        self, module: str, function: str, kind: BindgenReturn, *args: Any
    ) -> BindgenValue: ...

    def execute_bindgen_registered(
        self, module: str, function: str, kind: BindgenReturn, *args: Any
    ) -> BindgenValue:
        """Call a function of a registered module that wasm-bindgen has prepared; in every state.

        Raises as `execute_bindgen`, except WrongVMWorkflow.
        """
        self._check_open()
        return bindgen.run(
            function,
            kind,
            args,
            partial(self._store.find_function_registered, module),
            partial(self._store.find_memory_registered, module),
        )

    def _begin(self, function: str) -> None:
        """A program that starts again has no exit code yet; one that returns keeps 0."""
        if function == "_start":
            wasi = self.get_import_object(HostRegistration.WASI)
            if wasi is not None:
                wasi.begin()

    def interrupt(self) -> None:
        """Stop the call that runs in this VM, from another thread.

        The call raises `Trap` with `ErrCode.Interrupted`; memory stays as the guest left it, and
        the VM can be used again. Without a running call, nothing happens.

        With calls inside host functions of other calls, the outermost one ends, and so all: the
        innermost one at once, each other when its host function returns, even if that catches the
        `Trap`. What a host function calls in this VM meanwhile raises `Trap`, too.
        """
        self._check_open()
        self._store.interrupt()

    # Looking at what is there.

    @property
    def state(self) -> VMState:
        """How far the VM has come."""
        self._check_open()
        return self._state

    @property
    def store(self) -> Store:
        """The store that was given, or the VM's own."""
        self._check_open()
        return self._store

    def get_store(self) -> Store:
        """Return `store`."""
        return self.store

    def get_function_list(self) -> dict[str, FunctionType]:
        """Return name and type of each function the anonymous module exports; {} without one."""
        return {
            name: function.function_type
            for name in self.store.list_function()
            if (function := self._store.find_function(name)) is not None
        }

    def get_function_type(self, function: str) -> FunctionType | None:
        """Return the type of an exported function of the anonymous module, None when absent."""
        found = self.store.find_function(function)
        return None if found is None else found.function_type

    def get_function_type_registered(self, module: str, function: str) -> FunctionType | None:
        """Return the type of an exported function of a registered module, None when absent."""
        found = self.store.find_function_registered(module, function)
        return None if found is None else found.function_type

    @overload
    def get_import_object(
        self, registration: Literal[HostRegistration.WASI]
    ) -> WasiImportObject | None: ...

    @overload
    def get_import_object(
        self, registration: Literal[HostRegistration.WASMEDGE_PROCESS]
    ) -> WasmEdgeProcessImportObject | None: ...

    @overload
    def get_import_object(self, registration: HostRegistration) -> ImportObject | None: ...

    def get_import_object(self, registration: HostRegistration) -> Any:
        """Return the host module that the configuration registered, None when it registered none.

        `HostRegistration.WASI` gives a `WasiImportObject`, which sees nothing but the standard
        streams until its `init_wasi` is called; `WASMEDGE_PROCESS` a `WasmEdgeProcessImportObject`,
        which allows nothing until its `init_wasmedge_process` is called.
        """
        self._check_open()
        if not isinstance(registration, HostRegistration):
            raise TypeError(f"expected a HostRegistration, not {registration!r}")
        return self._hosts.get(registration)

    @overload
    def add_host_module(self, registration: Literal[HostRegistration.WASI]) -> WasiImportObject: ...

    @overload
    def add_host_module(
        self, registration: Literal[HostRegistration.WASMEDGE_PROCESS]
    ) -> WasmEdgeProcessImportObject: ...

    def add_host_module(self, registration: HostRegistration) -> Any:
        """Register a host module that the configuration did not ask for, and return it.

        Raises:
            InstantiationError: ModuleNameConflict when another module has its name.
        """
        self._check_open()
        host = _host_module(registration)
        self._executor.register_import(self._store, host)
        self._hosts[registration] = host
        self._instantiated_is_stale()
        return host

    def get_statistics(self) -> Statistics:
        """Return the statistics of all calls in this VM, as far as the configuration asks."""
        self._check_open()
        return self._statistics

    def get_code_status(self) -> CodeStatus | None:
        """Return how the code of the instantiated module stands; None when there is none."""
        self._check_open()
        instance = self._store.anonymous
        return None if instance is None else instance.code_status

    # Ending.

    def cleanup(self) -> None:
        """Go back to INITED: the loaded module, all instances of the store, registered names, and
        the counters of the statistics are gone. Host modules of the configuration, the cost table
        and the cost limit stay."""
        self._check_open()
        self._store.clear_anonymous()
        hosts = {host.name for host in self._hosts.values()}
        for name in self._store.list_module():
            if name not in hosts:
                self._store.unregister(name)
        self._module = None
        self._statistics.clear()
        self._state = VMState.INITED

    def _release(self) -> None:
        self._module = None
        for host in self._hosts.values():
            self._store.unregister(host.name)
            host._borrowed = False
            host.close()
        if self._owns_store:
            self._store._borrowed = False
            self._store.close()

    def _needs(self, state: VMState, step: str) -> AST:
        """The loaded module, when the VM has come as far as `state`."""
        self._check_open()
        if self._state < state or self._module is None:
            raise WasmEdgeError(
                ErrCode.WrongVMWorkflow,
                f"wrong VM workflow: cannot {step} while the VM is {self._state.name}; "
                f"call {_FIRST[state, self._state]} first",
            )
        return self._module

    def _instantiated_is_stale(self) -> None:
        """The module must be instantiated again: its instance was replaced, or names are new."""
        if self._state is VMState.INSTANTIATED:
            self._state = VMState.VALIDATED


def _host_modules(config: Configure) -> dict[HostRegistration, _HostModule]:
    """The host modules that a configuration asks for."""
    return {registration: _host_module(registration) for registration in config.host_registrations}


def _host_module(registration: HostRegistration) -> _HostModule:
    host: _HostModule
    if registration is HostRegistration.WASI:
        from wasmedge_runtime.wasi import WasiImportObject

        host = WasiImportObject()
    else:
        from wasmedge_runtime.process import WasmEdgeProcessImportObject

        host = WasmEdgeProcessImportObject()
    host.lend()
    return host
