"""Module instances (specification 4.2.5): a vmctx, and what its imports and exports are."""

from __future__ import annotations

import array
import ctypes
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, overload

from .checkpoint import Checkpoint
from .core import StoreCore
from .errors import ErrCode, WasmEdgeError
from .function import Function
from .global_ import Global
from .initial import initial_state
from .marshal import Caller, make_caller
from .memory import Memory
from .module import AST, Import
from .native.layout import ContextHeader, FunctionRecord
from .table import Table
from .tiers.module import CompiledModule
from .tiers.status import CodeStatus
from .types import ExternType

if TYPE_CHECKING:
    from .statistics import Statistics

Extern = Function | Table | Memory | Global
_Own = TypeVar("_Own", Table, Global)

_RECORD_BYTES = ctypes.sizeof(FunctionRecord)
_ACTIVATION = ContextHeader.offset("activation") >> 3
_COSTS = ContextHeader.offset("costs") >> 3


class LinkedFunctions(NamedTuple):
    """The functions that a module imports, found in one Store: the same for each instance, until
    what is registered there changes."""

    records: array.array[int]
    """Addresses of their records."""
    keepers: list[Any]
    """What keeps the records alive."""
    objects: list[Function]
    carriers: list[Function]
    """Those whose arguments can be references to functions of the importing module."""
    others: list[Import]
    """Imports of other kinds, which are looked up each time: their sizes change."""


class Imports:
    """The resolved imports of a module, by kind, in the order of the index spaces."""

    def __init__(self, linked: LinkedFunctions) -> None:
        self._linked = linked
        self.records = linked.records
        self.function_objects = linked.objects
        self.tables: list[Table] = []
        self.memories: list[Memory] = []
        self.globals: list[Global] = []

    def keep(self, instance: ModuleInstance) -> None:
        """Let what can hold references to functions of the importing module keep it alive."""
        for function in self._linked.carriers:
            function.imported_by(instance)
        for table in self.tables:
            table.imported_by(instance)
        for cell in self.globals:
            cell.imported_by(instance)


class Exports(Mapping[str, Extern]):
    """What a module exports, by name: Function, Table, Memory and Global objects."""

    def __init__(self, instance: ModuleInstance) -> None:
        self._instance = instance
        self._made: dict[str, Extern] = {}

    def __getitem__(self, name: str) -> Extern:
        found = self._made.get(name)
        if found is None:
            kind, index = self._instance.export_entries[name]
            found = self._made[name] = self._instance.extern(kind, index)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._instance.export_entries)

    def __len__(self) -> int:
        return len(self._instance.export_entries)

    def __repr__(self) -> str:
        return f"Exports({', '.join(self)})"


class ModuleInstance:
    """An instance of a module in a Store. `Executor.instantiate` and `register_module` make them.

    It works as long as somebody holds it, also after the Store has replaced it.
    """

    def __init__(
        self,
        core: StoreCore,
        ast: AST,
        name: str,
        compiled: CompiledModule,
        imports: Imports,
        memories: list[Memory],
        statistics: Statistics | None,
        timing: bool,
    ) -> None:
        self.core = core
        self.ast_function_types = ast.function_types
        self.loaded = compiled
        self.name = name
        """The name under which it is registered; empty for the anonymous module."""
        self._ast = ast
        self._imports = imports
        self._statistics = statistics
        self._timing = timing
        self._keepers: set[Any] = set()
        self._callers: dict[int, Caller] = {}
        self._exported_callers: dict[str, Callable[..., list[Any]]] = {}
        self._exported: weakref.WeakValueDictionary[tuple[ExternType, int], Table | Global] = (
            weakref.WeakValueDictionary()
        )
        self.export_entries = MappingProxyType({e.name: (e.kind, e.index) for e in ast.exports})
        self.memories = imports.memories + memories
        self.tables = imports.tables + [Table(kind) for kind in ast.tables]
        for table in self.tables[ast.imported_tables :]:
            table.lend()
            table.bind(core)
        self._initial = initial_state(compiled, ast)
        self._costs: dict[int, ctypes.Array[ctypes.c_uint64]] = {}
        self._cost_table: ctypes.Array[ctypes.c_uint64] | None = None
        self._costs_of: tuple[Statistics, int] | None = None
        self.statistics_costs: list[int] = []
        layout = compiled.layout
        self.first_function_number = core.number_functions(self, len(layout.referenced))
        self._memory_block = (ctypes.c_uint64 * (layout.size // 8 + 2))()
        start = ctypes.addressof(self._memory_block)
        self.context = -(-start // 16) * 16
        if compiled.variant.gas and statistics is not None:
            self._cost_table = (ctypes.c_uint64 * max(len(ast.bodies), 1))()
            self.statistics_costs = statistics._cost_table
        self._fill_context()
        if statistics is not None:
            self.update_costs(statistics)  # also calls that nobody measures may come through here
            core.costs_of = None
        core.contexts[self.context] = weakref.ref(self)
        core.memory_of[self.context] = self.memories[0] if self.memories else None
        self._element_arrays: list[bytearray] = []
        self._globals: dict[int, Global] = dict(enumerate(imports.globals))
        self._initial_words = b""
        self._checkpoint: Checkpoint | None = None

    def _fill_context(self) -> None:
        layout, core = self.loaded.layout, self.core
        words = self.loaded.fill(self, self.context)
        words[_ACTIVATION] = core.activation_address
        if self._cost_table is not None:
            words[_COSTS] = ctypes.addressof(self._cost_table)
        for i, memory in enumerate(self.memories):
            words[layout.memory_record(i) >> 3] = memory.record_address
            words[layout.memory_base(i) >> 3] = memory.base
        for i, table in enumerate(self.tables):
            words[layout.table_record(i) >> 3] = table.record_address
            words[layout.table_base(i) >> 3] = table.base
        at = layout.imported_function(0) >> 3
        words[at : at + len(self._imports.records)] = self._imports.records
        for i, cell in enumerate(self._imports.globals):
            words[layout.imported_global(i) >> 3] = cell.address

    def _put(self, offset: int, value: int) -> None:
        ctypes.c_uint64.from_address(self.context + offset).value = value

    # Initial values, which `initial.InitialState` puts in place.

    def initialise(self) -> None:
        """Globals, element segments, data segments, start function (specification 4.5.4).

        Raises:
            Trap: a segment does not fit, or the start function trapped.
            HostFunctionError: a host function that the start function called raised.
        """
        self._initial_words = self._initial.apply(self)
        self._run_start()

    def _run_start(self) -> None:
        if self._ast.start is not None:
            self.function(self._ast.start)()

    def reset(self) -> None:
        """Bring the instance back to what it was at its last `checkpoint`, or else when
        `Executor.instantiate` returned it.

        Its own memories have their size and content of then again, its tables and globals their
        sizes and values, dropped segments are there again. Without a checkpoint, the start function
        has run once more; with one, what it had done is part of the state. What the instance
        imports is left alone: memories, tables and globals of others stay as they are, also where
        its segments had written into them. Functions, memories, tables and globals that were taken
        from its exports stay valid; so do views of a memory, which show its new content.

        It takes microseconds, and time for the pages that were written to.

        Raises:
            WasmEdgeError: WrongVMWorkflow while the Store runs a call, also from a host function
                of that call. RuntimeError while there is a view of a memory that is longer than the
                memory was then; nothing is changed in either case.
            Trap, HostFunctionError: the start function failed, as it may in `instantiate`.
        """
        core = self.core
        _refuse_in_call(core, "be reset")
        with core.lock:
            _refuse_in_call(core, "be reset")
            # What it kept alive goes last: that may run finalizers, which may use the instance.
            if self._checkpoint is not None:
                dropped = self._checkpoint.restore(self)
            else:
                dropped = self._initial.reset(self, self._initial_words)
                self._run_start()
        del dropped

    def checkpoint(self) -> None:
        """Make the present state the one that `reset` goes back to, in the place of any earlier.

        It is what `reset` restores: the content and the sizes of the instance's own memories and
        tables, its own globals, and which segments have been dropped. What the references in it
        refer to lives as long as it is the one to go back to; a reference that the user closes is
        closed all the same.

        It takes as long as copying what is not zero in the memories, and no memory for the rest.
        Afterwards the memories share that copy, page by page, until they are written to. Nothing
        else may write to them, or to the tables, meanwhile.

        Raises:
            WasmEdgeError: WrongVMWorkflow while the Store runs a call, as in `reset`.
            MemoryError: there is no room; the state to go back to is as before.
        """
        core = self.core
        _refuse_in_call(core, "keep its state")
        with core.lock:
            _refuse_in_call(core, "keep its state")
            made = Checkpoint(self, self._initial)
            earlier, self._checkpoint = self._checkpoint, made
            made.settle()
        del earlier  # last, as in `reset`

    def global_address(self, index: int) -> int:
        """Address of the cell of a global, by its index in the index space."""
        if index < self._ast.imported_globals:
            return self._imports.globals[index].address
        return self.context + self.loaded.layout.global_cell(index)

    def global_at(self, index: int) -> Global:
        """A global by its index in the index space; an own one is made when somebody asks."""
        cell = self._globals.get(index)
        if cell is None:
            cell = Global._of_instance(
                self._ast.global_types[index],
                self.global_address(index),
                self._memory_block,
                self.core,
            )
            cell = self._globals.setdefault(index, cell)
        return cell

    def own_globals(self) -> list[Global]:
        """The own globals that somebody asked for."""
        first = self._ast.imported_globals
        return [cell for index, cell in list(self._globals.items()) if index >= first]

    def set_data_segment(self, index: int, address: int, length: int) -> None:
        """Let `memory.init` find the bytes of a passive segment, in the module's file."""
        offset = self.loaded.layout.data_segment(index)
        self._put(offset, address)
        self._put(offset + 8, length)

    def add_element_segment(self, index: int, count: int) -> int:
        """Room for the references of a passive segment, where `table.init` finds them: its
        address."""
        elements = bytearray(count * 8)
        self._element_arrays.append(elements)
        address = ctypes.addressof(ctypes.c_char.from_buffer(elements)) if count else 0
        offset = self.loaded.layout.element_segment(index)
        self._put(offset, address)
        self._put(offset + 8, count)
        return address

    def keep(self, owner: Any) -> None:
        """Keep alive what a reference in this instance refers to."""
        if owner is not self:
            self._keepers.add(owner)

    # Functions.

    def record_address(self, index: int) -> int:
        """Address of the record of a function, by its index in the index space."""
        if index < self._ast.imported_functions:
            return self._imports.records[index]
        return self.context + self.loaded.layout.function_record(index)

    def record_number(self, index: int) -> int:
        """The position of an own function among those that have a record."""
        offset = self.loaded.layout.function_record(index) - self.loaded.layout.records
        return offset // _RECORD_BYTES

    def function_at(self, number: int) -> Function:
        """The function with the given number among those that have a record."""
        return self.function(self.loaded.layout.referenced[number])

    def function_of_record(self, address: int) -> Function:
        """The own function whose record is at an address."""
        return self.function_at(
            (address - self.context - self.loaded.layout.records) // _RECORD_BYTES
        )

    def function(self, index: int) -> Function:
        """A function by its index in the index space."""
        if index < self._ast.imported_functions:
            return self._imports.function_objects[index]
        return Function._of_instance(self, index, self.caller(index))

    def caller(self, index: int) -> Caller:
        """What calls an own function from Python; made once."""
        caller = self._callers.get(index)
        if caller is None:
            caller = self._callers[index] = make_caller(
                self.core,
                self.record_address(index),
                self.ast_function_types[index],
                self._statistics,
                self._timing,
                functools.partial(_keep, weakref.ref(self)),
            )
        return caller

    def exported_caller(self, name: str) -> Callable[..., list[Any]] | None:
        """What calls an exported function; None when there is none of that name."""
        run = self._exported_callers.get(name)
        if run is None:
            kind, index = self.export_entries.get(name, (None, 0))
            if kind != ExternType.FUNCTION:
                return None
            own = index >= self._ast.imported_functions
            run = self.caller(index) if own else self._imports.function_objects[index]
            self._exported_callers[name] = run
        return run

    def function_name_at(self, address: int) -> str | None:
        """Name of the function whose code contains an address: from the name section if it has
        one, else from the exports, else its number."""
        symbol = self.loaded.symbol_at(address)
        if symbol is None or not symbol.startswith("f") or not symbol[1:].isdecimal():
            return None
        index = int(symbol[1:])
        name = self._ast.function_names.get(index)
        if name is None:
            name = self._exported_names.get(index)
        return name if name is not None else f"func[{index}]"

    @functools.cached_property
    def _exported_names(self) -> dict[int, str]:
        exports = reversed(self._ast.exports)  # of several names, the first
        return {e.index: e.name for e in exports if e.kind == ExternType.FUNCTION}

    # Exports.

    @overload
    def extern(self, kind: Literal[ExternType.FUNCTION], index: int) -> Function: ...
    @overload
    def extern(self, kind: ExternType, index: int) -> Extern: ...
    def extern(self, kind: ExternType, index: int) -> Extern:
        """The entry of an index space."""
        if kind == ExternType.FUNCTION:
            return self.function(index)
        if kind == ExternType.TABLE:
            table = self.tables[index]
            return table if index < self._ast.imported_tables else self._held(kind, index, table)
        if kind == ExternType.MEMORY:
            return self.memories[index]
        cell = self.global_at(index)
        return cell if index < self._ast.imported_globals else self._held(kind, index, cell)

    def _held(self, kind: ExternType, index: int, own: _Own) -> _Own:
        """An own table or global as an object for others, the same as long as somebody has it."""
        held = self._exported.get((kind, index))
        if not isinstance(held, type(own)):
            held = self._exported[kind, index] = own.held_by(self)
        return held

    @property
    def exports(self) -> Exports:
        """What the module exports, by name."""
        return Exports(self)

    @property
    def code_status(self) -> CodeStatus:
        """How the code of the module stands: in which tier, and how much of it is done."""
        return self.loaded.status

    def update_costs(self, statistics: Statistics) -> None:
        """Bring the gas of each run of instructions up to date with the cost table."""
        version = (statistics, statistics._cost_version)
        if self._cost_table is None or self._costs_of == version:
            return
        self._costs_of, self.statistics_costs = version, statistics._cost_table
        self._set_costs(list(self.loaded.runs))

    def add_costs(self, functions: Iterable[int]) -> None:
        """Set the gas of the runs of instructions of own functions that get code.

        Those that had code before keep theirs: they may be running, with the array at hand.
        """
        self._set_costs(own for own in functions if own not in self._costs)

    def _set_costs(self, functions: Iterable[int]) -> None:
        if self._cost_table is None:
            return
        table = self.statistics_costs
        limit = (1 << 64) - 1
        for own in functions:
            runs = self.loaded.runs[own]
            costs = (ctypes.c_uint64 * max(len(runs), 1))(
                *(min(sum(table[op] for op in run), limit) for run in runs)
            )
            self._costs[own] = costs
            self._cost_table[own] = ctypes.addressof(costs)

    def close(self) -> None:
        """Do nothing: the Store, and whoever holds the instance, decide how long it lives."""

    def __repr__(self) -> str:
        return f"<ModuleInstance {self.name or '(anonymous)'}: {', '.join(self.export_entries)}>"

    def __del__(self) -> None:
        # Its address will belong to something else.
        context = getattr(self, "context", None)
        if context is not None:
            self.core.contexts.pop(context, None)
            self.core.memory_of.pop(context, None)


def _keep(instance: weakref.ref[ModuleInstance], owner: Any) -> None:
    """Tell an instance, if it still is, without making its callers hold it."""
    found = instance()
    if found is not None:
        found.keep(owner)


def _refuse_in_call(core: StoreCore, step: str) -> None:
    if core.activation.depth:
        raise WasmEdgeError(
            ErrCode.WrongVMWorkflow,
            f"wrong VM workflow: an instance cannot {step} while its Store runs a call; "
            "do it when the call has ended",
        )
