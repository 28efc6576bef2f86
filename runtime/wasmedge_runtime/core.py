"""What a Store's native code shares: the activation, references, and who owns which vmctx.

`StoreCore` never holds a module instance, so that instances go when their last user does; instances
hold the core.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING, Any

from .errors import (
    ErrCode,
    HostFunctionError,
    Terminate,
    Trap,
    WasmEdgeError,
)
from .limits import MAX_RESULTS
from .native import layout
from .native.code import CodeRegion
from .native.layout import (
    SLOT_BYTES,
    Activation,
    CallDescriptor,
    FunctionRecord,
    MemoryRange,
)
from .native.support import support
from .types import FunctionType, ValType
from .values import ExternRef, FuncRef
from .waiting import wake

if TYPE_CHECKING:
    from .function import Function, HostLink
    from .global_ import Global
    from .instance import ModuleInstance
    from .memory import Memory
    from .statistics import Statistics
    from .table import Table

_FUNCREF = int(ValType.FUNCREF)
_SWEEP_AT = 64
_PURGE_AT = 1024
_SIGNALS_TO_HOST = 10
_MOST_STORES = 64  # as in `@stop_requested`, which says why
_NO_LIMIT = (1 << 64) - 1


class _TypeNumber:
    """The canonical number of a function type while somebody needs it."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int) -> None:
        self.number = number


_type_numbers: weakref.WeakValueDictionary[FunctionType, _TypeNumber] = (
    weakref.WeakValueDictionary()
)
_type_lock = threading.RLock()  # a signal handler may come here while its thread is here
_next_type_number = itertools.count(1)


def type_number(kind: FunctionType) -> _TypeNumber:
    """The number by which `call_indirect` compares a type, the same in the whole process.

    Keep the object as long as the number is in use.
    """
    with _type_lock:
        found = _type_numbers.get(kind)
        if found is None:
            found = _type_numbers.setdefault(kind, _TypeNumber(next(_next_type_number)))
        return found


_cores: weakref.WeakValueDictionary[int, StoreCore] = weakref.WeakValueDictionary()
"""By the address of the activation."""


def keep_failure(activation: int, error: BaseException) -> None:
    """Note why a function has no code; the call of it ends by raising the error."""
    core = _cores.get(activation)
    if core is not None:
        core.pending = error


@contextlib.contextmanager
def not_counted(activation: int) -> Iterator[None]:
    """What is done here in the middle of a call is not part of the time that its code takes."""
    core = _cores.get(activation)
    started = perf_counter_ns()
    try:
        yield
    finally:
        if core is not None and not core._in_host:
            core._uncounted_ns += perf_counter_ns() - started


class StoreCore:
    """The native side of one Store."""

    def __init__(self) -> None:
        self.support = support()
        self.lock = threading.RLock()
        """Held during a call: a Store runs one call at a time, from whichever thread."""
        self.activation = Activation(gas_limit=_NO_LIMIT)
        self.activation_address = ctypes.addressof(self.activation)
        _cores[self.activation_address] = self
        self._results = (ctypes.c_ubyte * ((MAX_RESULTS + 1) * SLOT_BYTES))()
        at = ctypes.addressof(self._results)
        self.activation.results = -(-at // SLOT_BYTES) * SLOT_BYTES
        self.pending: BaseException | None = None
        """What a host function raised, until the call that it was part of has ended."""
        self.metering = False
        """Whether the running call adds to statistics."""
        self.costs_of: tuple[Statistics, int] | None = None
        """Whose cost table all instances have, and which version of it."""
        self._host_ns = 0
        self._uncounted_ns = 0
        self._in_host = False
        self.contexts: dict[int, weakref.ref[ModuleInstance]] = {}
        """vmctx address -> its instance."""
        self.memory_of: dict[int, Memory | None] = {}
        """vmctx address -> the memory that host functions called from there get."""
        self.externs: dict[int, ExternRef] = {}
        """External references that the guest may hold, by handle."""
        self._purge_at = _PURGE_AT
        self.temporary: list[int] = []
        """Handles of objects that were wrapped for a call; always the same list."""
        self._sweep_at = _SWEEP_AT
        self.reference_calls = 0
        """Calls that pass references and have begun, in Python or beyond."""
        self.extern_holders: weakref.WeakSet[Any] = weakref.WeakSet()
        """Tables and globals that can hold external references; each has `handles()`."""
        self.links: weakref.WeakValueDictionary[int, HostLink] = weakref.WeakValueDictionary()
        """Record address -> host function in this Store."""
        self.link_of: weakref.WeakValueDictionary[int, HostLink] = weakref.WeakValueDictionary()
        """The same by the `id` of the function, which its link holds."""
        self._unresolved: dict[int, FunctionRecord] = {}
        """Records for references by an index that names no function of the Store: their type is
        that of no function, so that calling one traps. `context` holds the index."""
        self._next_index = 0
        self._instances_by_index: list[tuple[int, int, weakref.ref[Any]]] = []
        self._forget_at = _PURGE_AT
        self._memories: weakref.WeakSet[Memory] = weakref.WeakSet()
        self._ranges: ctypes.Array[MemoryRange] = (MemoryRange * 0)()
        self._range_count = 0

    # Memories, for the fault handler.

    def add_memory(self, memory: Memory) -> None:
        """Let faults in a memory's reservation be traps. Not while another thread runs guest code
        of this Store: callers hold the lock."""
        self._memories.add(memory)
        if self._range_count + 1 >= len(self._ranges):
            # What is left of memories that are gone is dropped here.
            memories = list(self._memories)
            self._range_count = len(memories)
            ranges = (MemoryRange * (2 * len(memories) + 8))()
            for place, known in zip(ranges, memories, strict=False):
                place.base, place.bytes = known.base, known.reserved_bytes
            self.activation.memory_ranges = ctypes.addressof(ranges)
            self._ranges = ranges
            return
        place = self._ranges[self._range_count]
        place.base, place.bytes = memory.base, memory.reserved_bytes
        self._range_count += 1

    def check_free(self, part: Table | Memory | Global) -> None:
        """Raise unless a table, memory or global is this Store's, or no Store's yet."""
        if part._core is not None and part._core is not self:
            kind = type(part).__name__
            raise WasmEdgeError(
                ErrCode.WrongInstanceAddress,
                f"wrong instance address: this {kind} belongs to another Store; "
                f"create one {kind} for each Store",
            )

    # Numbers of functions, as FuncRef.index shows them.

    def number_functions(self, owner: Any, count: int) -> int:
        """Give `count` consecutive function addresses (specification 4.2.4) to an owner."""
        first = self._next_index
        self._next_index += count
        if count:
            self._instances_by_index.append((first, count, weakref.ref(owner)))
            if len(self._instances_by_index) > self._forget_at:
                known = [e for e in self._instances_by_index if e[2]() is not None]
                self._instances_by_index = known
                self._forget_at = max(2 * len(known), _PURGE_AT)
        return first

    def _function_by_index(self, index: int) -> Function | None:
        for first, count, reference in self._instances_by_index:
            if first <= index < first + count:
                owner = reference()
                if owner is not None:
                    function: Function | None = owner.function_at(index - first)
                    return function
        return None

    # References.

    def to_handle(self, value: Any, code: int, keeper: Any = None) -> int:
        """The handle of a reference that goes to the guest.

        `keeper` is called with what has to stay alive for it.
        """
        if value is None:
            return 0
        if code == _FUNCREF:
            return self._function_handle(value, keeper)
        if not isinstance(value, ExternRef):
            value = ExternRef(value)
            self.temporary.append(value._handle)
        elif value._closed:
            value.value  # raises the error for a closed reference  # noqa: B018
        handle: int = value._handle
        self.externs[handle] = value
        if len(self.externs) > self._purge_at:
            # The guest gets the same error for a closed reference as for one that is not there.
            # A copy: the garbage collector can run finalizers here that use references.
            for dead in [h for h, r in list(self.externs.items()) if r._closed]:
                self.externs.pop(dead, None)
            self._purge_at = max(2 * len(self.externs), _PURGE_AT)
        return handle

    def _function_handle(self, value: Any, keeper: Any) -> int:
        from .function import Function

        if isinstance(value, FuncRef):
            function = value.function or self._function_by_index(value.index)
            if function is None:
                index = value.index
                unresolved = self._unresolved.setdefault(index, FunctionRecord(context=index))
                return ctypes.addressof(unresolved)
            value = function
        if not isinstance(value, Function):
            raise TypeError(
                f"a funcref is a Function, a FuncRef or None, not {type(value).__name__}"
            )
        record, owner = value.record_in(self)
        if keeper is not None:
            keeper(owner)
        return record

    def from_handle(self, handle: int, code: int) -> ExternRef | FuncRef | None:
        """The reference that the guest gave out."""
        if handle == 0:
            return None
        if code == _FUNCREF:
            return self._function_reference(handle)
        reference = self.externs.get(handle)
        if reference is None or reference._closed:
            raise WasmEdgeError(
                ErrCode.RefTypeMismatch,
                "reference type mismatch: the guest used an ExternRef that is no longer alive; "
                "keep the ExternRef open while the guest holds it",
            )
        return reference

    def _function_reference(self, handle: int) -> FuncRef:
        link = self.links.get(handle)
        if link is not None:
            return FuncRef(link.index, link.function)
        record = FunctionRecord.from_address(handle)
        if not record.code:
            return FuncRef(record.context)
        instance = self._instance(record.context)
        if instance is None:
            raise WasmEdgeError(
                ErrCode.WrongInstanceAddress, "wrong instance address: not a function of this Store"
            )
        function = instance.function_of_record(handle)
        return FuncRef(function.index, function)

    def sweep_externs(self) -> None:
        """After the outermost call: forget objects that were wrapped for it, unless the guest
        stored them in a table or a global."""
        temporary = self.temporary
        if not temporary or self.activation.depth or self.reference_calls:
            return
        holders = list(self.extern_holders)
        work = len(temporary) + sum(holder.handle_count() for holder in holders)
        if work > 16 * _SWEEP_AT and len(temporary) < self._sweep_at:
            return  # often enough, in proportion to what there is to look through
        held: set[int] = set()
        for holder in holders:
            held.update(holder.handles())
        # What goes may run finalizers, which may call functions that come here.
        handles = temporary.copy()
        temporary.clear()
        temporary += [handle for handle in handles if handle in held]
        self._sweep_at = max(2 * len(temporary), _SWEEP_AT)
        for handle in handles:
            if handle not in held:
                self.externs.pop(handle, None)

    # The end of a call.

    def run(self, descriptor: int) -> None:
        """Enter guest code by a call descriptor; raises what ended the call."""
        status = self.support.enter(descriptor)
        if status:
            self.settle(status, descriptor)

    def settle(self, status: int, descriptor: int) -> None:
        """Act on what the entry routine returned instead of 0."""
        if status == layout.STATUS_NEEDS_THREAD:
            self.support.prepare_thread()
            self.run(descriptor)
            return
        pending, self.pending = self.pending, None
        if status == layout.STATUS_HOST_RAISED and pending is not None:
            try:
                raise self._host_failure(pending)
            finally:
                del pending
        if status == layout.STATUS_NOT_PROVIDED and pending is not None:
            try:
                raise pending
            finally:
                del pending
        if status in (layout.STATUS_HOST_FAILED, layout.STATUS_NOT_PROVIDED):
            # A signal's exception came before the body, and was reported and dropped.
            check_signals()
            raise KeyboardInterrupt
        if status == ErrCode.Interrupted:
            # A SIGINT that stopped the call waits for Python to raise KeyboardInterrupt.
            check_signals()
        if status == layout.STATUS_STACK_OVERFLOW:
            raise Trap(ErrCode.RuntimeError, "call stack exhausted", self.frames(descriptor))
        if status == ErrCode.CostLimitExceeded:
            self._count_last_run()
        raise Trap(ErrCode(status), None, self.frames(descriptor))

    @staticmethod
    def _host_failure(pending: BaseException) -> BaseException:
        """What to raise for what a host function has raised. Not raised here: this frame, with the
        exception in it, would be part of the exception's own traceback."""
        if not isinstance(pending, Exception) or isinstance(pending, Terminate):
            return pending
        if isinstance(pending, HostFunctionError) or (
            isinstance(pending, Trap)
            and pending.code in (ErrCode.Interrupted, ErrCode.CostLimitExceeded)
        ):
            return pending
        from .function import host_failure

        failure = host_failure(pending)
        failure.__cause__ = pending
        return failure

    def frames(self, descriptor: int) -> tuple[str, ...]:
        """Names of the wasm functions that the last trap went through, innermost first."""
        record = FunctionRecord.from_address(CallDescriptor.from_address(descriptor).record)
        guest = CodeRegion.get().guest
        found = self._instance(record.context)
        names = []
        for address in self.activation.frames[: self.activation.frame_count]:
            if not guest.start < address <= guest.end:
                continue
            # Most frames belong to the same module as the one before.
            name = None if found is None else found.function_name_at(address - 1)
            if name is None:
                for context in list(self.contexts):
                    other = self._instance(context)
                    name = None if other is None else other.function_name_at(address - 1)
                    if name is not None:
                        found = other
                        break
            if name is not None:
                names.append(name)
        return tuple(names)

    def _instance(self, context: int) -> ModuleInstance | None:
        """The instance of a vmctx."""
        reference = self.contexts.get(context)
        return None if reference is None else reference()

    def _count_last_run(self) -> None:
        """Gas ended inside a run of instructions: count those that still fitted."""
        activation = self.activation
        instance = self._instance(activation.gas_context)
        if instance is None:
            return
        left = activation.gas_limit - activation.gas
        costs = instance.statistics_costs
        for opcode in instance.loaded.runs[activation.gas_function][activation.gas_run]:
            left -= costs[opcode]
            if left < 0:
                break
            activation.instructions += 1
        activation.gas = activation.gas_limit

    # Statistics.

    def metered(self, cost: int, body: Callable[..., Any], *args: Any) -> Any:
        """Run a host function while statistics are kept: its gas is charged, its time taken."""
        activation = self.activation
        if activation.gas + cost > activation.gas_limit:
            activation.gas = activation.gas_limit
            raise Trap(ErrCode.CostLimitExceeded)
        activation.gas += cost
        if self._in_host:
            return body(*args)
        started = perf_counter_ns()
        try:
            self._in_host = True
            return body(*args)
        finally:
            self._in_host = False
            self._host_ns += perf_counter_ns() - started

    def measured(self, descriptor: int, statistics: Statistics, timing: bool) -> None:
        """`run`, with the counters of the outermost call added to `statistics`."""
        activation = self.activation
        if activation.depth:
            self.run(descriptor)
            return
        costs = (statistics, statistics._cost_version)
        if self.costs_of != costs:
            for context in list(self.contexts):
                instance = self._instance(context)
                if instance is not None:
                    instance.update_costs(statistics)
            self.costs_of = costs
        activation.instructions = 0
        activation.gas = statistics._total_cost
        activation.gas_limit = statistics._cost_limit
        self._host_ns = self._uncounted_ns = 0
        started = perf_counter_ns()
        try:
            self.metering = True
            self.run(descriptor)
        finally:
            self.metering = False
            statistics._instr_count += activation.instructions
            statistics._total_cost = activation.gas
            activation.gas_limit = _NO_LIMIT
            if timing:
                statistics._host_ns += self._host_ns
                elapsed = perf_counter_ns() - started
                statistics._wasm_ns += elapsed - self._host_ns - self._uncounted_ns

    # Interruption.

    def interrupt(self) -> bool:
        """Ask the running call to stop, the outermost one and with it all that it has led to in
        this Store; False when none runs.

        Returns when the call has ended, or when it is in a host function, after which it stops.
        A host function that waits in `waiting.wait` stops waiting.
        """
        activation = self.activation
        call = activation.call_id
        if not call:
            return False
        wait = 0.0002
        in_host = 0
        while activation.call_id == call:
            # Each time: a second interrupter that is late may have put the id of an older call.
            activation.interrupt_request = call
            wake(activation.thread_id)
            # A host function is Python: its stub sees the request when it returns. Signals go on
            # for a while, because it may be running guest code of another Store.
            in_host = in_host + 1 if activation.in_host else 0
            if in_host > _SIGNALS_TO_HOST:
                break
            self.support.send_interrupt(activation.thread_id)
            sleep(wait)
            wait = min(wait * 2, 0.01)
        return True

    def go_on(self) -> None:
        """Let the running call go on after all, when what was to stop was a call inside of it, and
        has; for a host function, in the thread of the call."""
        self.activation.interrupt_request = 0

    @property
    def interrupted(self) -> bool:
        """Whether the running call, or one that it is part of, has been asked to stop.

        For host functions; for the thread of the call.
        """
        activation = self.activation
        for _ in range(_MOST_STORES):
            if activation.call_id and activation.interrupt_request == activation.call_id:
                return True
            if not activation.outer:
                break
            activation = Activation.from_address(activation.outer)
        return False


def check_signals() -> None:
    """Let Python run pending signal handlers now; what they raise comes out of here."""
    ctypes.pythonapi.PyErr_CheckSignals()
