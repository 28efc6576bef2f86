"""Executor: instantiates modules in a Store and invokes their functions (specification 4.5)."""

from __future__ import annotations

import array
import logging
import time
from typing import Any

from .closable import Closable
from .codegen.context import Variant
from .compiled import compiled_module
from .configure import Configure
from .core import StoreCore
from .errors import MESSAGES, ErrCode, InstantiationError, WasmEdgeError
from .function import Function
from .global_ import Global
from .import_object import ImportObject
from .instance import Extern, Imports, LinkedFunctions, ModuleInstance
from .log import log_execution, log_stage
from .memory import Memory
from .module import AST, Import
from .native.type_stubs import prepare
from .statistics import Statistics
from .store import Store
from .table import Table
from .tiers.status import Progress
from .types import FunctionType, GlobalType, Limit, MemoryType, TableType

_log = logging.getLogger("wasmedge")


class Executor(Closable):
    """Instantiates and invokes, under one configuration.

    Args:
        config: limits and statistics; copied. The defaults when None.
        statistics: what calls add to, as far as `config` switches it on.
        progress: called with a `CodeStatus` now and then while instantiation waits for optimised
            code (`CompilationMode.OPTIMIZED`); what it raises ends the waiting.
    """

    def __init__(
        self,
        config: Configure | None = None,
        statistics: Statistics | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress
        self._config = Configure() if config is None else config.copy()
        self._statistics = statistics

    def instantiate(self, store: Store, ast: AST) -> ModuleInstance:
        """Make an instance the anonymous module of a Store, in place of the one before.

        Raises:
            WasmEdgeError: the module was not validated.
            InstantiationError: UnknownImport or IncompatibleImportType.
            Trap: a segment does not fit, or the start function trapped.
            HostFunctionError: a host function that the start function called raised.
        """
        instance = self._instantiate(store, ast, "")
        store.set_anonymous(instance)
        return instance

    def register_module(self, store: Store, ast: AST, name: str) -> ModuleInstance:
        """Make an instance that other modules can import from, under a name.

        Raises:
            InstantiationError: ModuleNameConflict when the name is taken; and as `instantiate`.
        """
        self._check_name(store, name)
        instance = self._instantiate(store, ast, name)
        store.register(name, instance.exports)
        return instance

    def register_import(self, store: Store, import_object: ImportObject) -> None:
        """Make a host module importable, under its own name.

        Raises:
            InstantiationError: ModuleNameConflict when the name is taken.
            WasmEdgeError: WrongInstanceAddress when a part of it belongs to another Store.
        """
        self._check_name(store, import_object.name)
        externs = dict(import_object.externs)
        core = store.core
        with core.lock:
            parts = [part for part in externs.values() if not isinstance(part, Function)]
            for part in parts:
                core.check_free(part)  # all of them before any is changed
            for part in parts:
                part.bind(core)
            for extern in externs.values():
                if isinstance(extern, Memory):
                    extern.restrict(self._config.max_memory_page)
        store.register(import_object.name, externs)

    def register_instance(self, store: Store, instance: ModuleInstance, name: str) -> None:
        """Make an existing instance importable under a name, which may be a further one.

        Raises:
            InstantiationError: ModuleNameConflict when the name is taken.
            WasmEdgeError: WrongInstanceAddress when it belongs to another Store.
        """
        self._check_name(store, name)
        if instance.core is not store.core:
            raise WasmEdgeError(
                ErrCode.WrongInstanceAddress,
                "wrong instance address: this instance belongs to another Store",
            )
        store.register(name, instance.exports)

    def invoke(self, store: Store, name: str, *args: Any) -> list[Any]:
        """Call a function that the anonymous module exports.

        Raises:
            WasmEdgeError: FuncNotFound; and as `Function.__call__`.
        """
        self._check_open()
        anonymous = store.anonymous
        run = None if anonymous is None else anonymous.exported_caller(name)
        if run is not None:
            results = run(*args)
            if _log.isEnabledFor(logging.DEBUG):
                log_execution(self._statistics)
            return results
        store._check_open()
        raise WasmEdgeError(
            ErrCode.FuncNotFound,
            f"{MESSAGES[ErrCode.FuncNotFound]}: {name!r}; "
            + (
                "no module is instantiated in this Store"
                if anonymous is None
                else f"the module exports {', '.join(store.list_function()) or 'no functions'}"
            ),
        )

    def invoke_registered(self, store: Store, module: str, name: str, *args: Any) -> list[Any]:
        """Call a function of a registered module, host functions included.

        Raises:
            WasmEdgeError: FuncNotFound; and as `Function.__call__`.
        """
        self._check_open()
        function = store.find_function_registered(module, name)
        if function is None:
            known = store.list_module()
            raise WasmEdgeError(
                ErrCode.FuncNotFound,
                f"{MESSAGES[ErrCode.FuncNotFound]}: {name!r} in module {module!r}; "
                + (
                    f"it exports {', '.join(store.list_function_registered(module)) or 'none'}"
                    if module in known
                    else f"registered modules are {', '.join(known) or 'none'}"
                ),
            )
        results = function(*args)
        if _log.isEnabledFor(logging.DEBUG):
            log_execution(self._statistics)
        return results

    # Instantiation, in the order of the specification (4.5.4).

    def _check_name(self, store: Store, name: str) -> None:
        self._check_open()
        if store.exports_of(name) is not None:
            raise InstantiationError(
                ErrCode.ModuleNameConflict,
                f"module name conflict: {name!r} is already registered in this Store",
            )

    def _instantiate(self, store: Store, ast: AST, name: str) -> ModuleInstance:
        self._check_open()
        ast._check_open()
        if not ast.validated:
            raise WasmEdgeError(
                ErrCode.WrongVMWorkflow,
                "wrong VM workflow: the module was not validated; call Validator.validate first",
            )
        started = time.perf_counter()
        core = store.core
        core.support.check_handlers()
        with core.lock:
            imports = _resolve_imports(store, core, ast)
            memories = [self._make_memory(core, kind) for kind in ast.memories]
            guarded = all(memory.guarded for memory in imports.memories + memories)
            config = self._config
            counted = self._statistics is not None
            variant = Variant(
                guarded,
                counted and config.statistics_instruction_counting,
                counted and config.statistics_cost_measuring,
            )
            measured = counted and (
                config.statistics_instruction_counting
                or config.statistics_cost_measuring
                or config.statistics_time_measuring
            )
            instance = ModuleInstance(
                core,
                ast,
                name,
                compiled_module(ast, variant, config.compilation_mode, self._progress),
                imports,
                memories,
                self._statistics if measured else None,
                config.statistics_time_measuring,
            )
            imports.keep(instance)
            instance.initialise()
        log_stage("instantiated", started)
        return instance

    def _make_memory(self, core: StoreCore, kind: MemoryType) -> Memory:
        limit = self._config.max_memory_page
        if kind.limit.min > limit:
            raise InstantiationError(
                ErrCode.InvalidMemPages,
                f"memory size must be at most {limit} pages (Configure.max_memory_page), "
                f"the module asks for {kind.limit.min}",
            )
        memory = Memory(kind)
        memory.lend()
        memory.restrict(limit)
        memory.bind(core)
        return memory


def _resolve_imports(store: Store, core: StoreCore, ast: AST) -> Imports:
    links = store.linked
    linked = links.get(ast)
    if linked is None:
        prepare(wanted.type for wanted in ast.imports if isinstance(wanted.type, FunctionType))
        # In the order of the file: the first one that is not there is the error.
        linked = LinkedFunctions(array.array("Q"), [], [], [], [])
        for wanted in ast.imports:
            extern = _find(store, wanted)
            if not isinstance(extern, Function):
                linked.others.append(wanted)
                continue
            record, keeper = extern.record_in(core)
            linked.records.append(record)
            linked.keepers.append(keeper)
            linked.objects.append(extern)
            if extern.carries_references:
                linked.carriers.append(extern)
        links[ast] = linked
    imports = Imports(linked)
    for wanted in linked.others:
        extern = _find(store, wanted)
        if isinstance(extern, Table):
            imports.tables.append(extern)
        elif isinstance(extern, Memory):
            imports.memories.append(extern)
        elif isinstance(extern, Global):
            imports.globals.append(extern)
    return imports


def _find(store: Store, wanted: Import) -> Extern:
    """What is registered for an import, if its type fits."""
    exports = store.exports_of(wanted.module)
    if exports is None:
        known = ", ".join(store.list_module()) or "none"
        raise InstantiationError(
            ErrCode.UnknownImport,
            f"unknown import: {wanted.module!r} {wanted.name!r}: "
            f"no module of that name is registered; registered are: {known}",
        )
    extern = exports.get(wanted.name)
    if extern is None:
        raise InstantiationError(
            ErrCode.UnknownImport,
            f"unknown import: module {wanted.module!r} does not export {wanted.name!r}",
        )
    if isinstance(extern, Function):
        extern = extern.for_type(wanted.type)
    _check_type(wanted, extern)
    return extern


def _check_type(wanted: Import, extern: Extern) -> None:
    """Import matching (specification 4.5.1, 3.4.8)."""
    actual: FunctionType | TableType | MemoryType | GlobalType
    if isinstance(extern, Function):
        actual = extern.function_type
    elif isinstance(extern, Table):
        actual = extern.table_type
    elif isinstance(extern, Memory):
        actual = extern.memory_type
    else:
        actual = extern.global_type
    expected = wanted.type
    if isinstance(expected, TableType) and isinstance(actual, TableType):
        fits = expected.ref_type == actual.ref_type and _limits_match(actual.limit, expected.limit)
    elif isinstance(expected, MemoryType) and isinstance(actual, MemoryType):
        fits = _limits_match(actual.limit, expected.limit)
    else:
        fits = expected == actual
    if not fits:
        raise InstantiationError(
            ErrCode.IncompatibleImportType,
            f"incompatible import type: {wanted.module!r} {wanted.name!r} is {actual}, "
            f"the module needs {expected}",
        )


def _limits_match(actual: Limit, expected: Limit) -> bool:
    if actual.min < expected.min:
        return False
    if expected.max is None:
        return True
    return actual.max is not None and actual.max <= expected.max
