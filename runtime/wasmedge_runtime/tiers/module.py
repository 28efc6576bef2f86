"""The code of a module in this process: a function table, and what has been loaded for it.

A function without code has a stub in its place. The first call of it comes to `provide`, which
loads the unit that the function is part of: optimised when that exists, else baseline. Better code
is swapped in by writing its address into the function table and the function records of instances;
calls in progress go on in the code that they are in, which therefore stays loaded.
"""

from __future__ import annotations

import array
import ctypes
import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .. import cache
from ..codegen.context import ContextLayout, Variant
from ..configure import CompilationMode
from ..core import keep_failure, not_counted, type_number
from ..errors import ErrCode, WasmEdgeError
from ..module import AST
from ..native import elf
from ..native.code import CodeRegion, DataBlock, LoadedCode, LoadedImage
from ..native.layout import Activation, ContextHeader, FunctionRecord, ModuleHeader
from ..native.stubs import stub_addresses
from ..native.support import support
from .plan import Plan, Tier
from .status import CodeState, CodeStatus, Progress
from .unit import (
    TARGETS,
    UnitCode,
    announcement_name,
    compile_unit,
    given_up_name,
    journal_name,
    load_unit,
    pack,
    store_unit,
    unit_name,
    unpack,
)

if TYPE_CHECKING:
    from ..instance import ModuleInstance
    from ..precompiled import Precompiled

_log = logging.getLogger("wasmedge")

_ROOM_TO_COMPILE = 1 << 20
"""Bytes of stack that LLVM gets at least, beyond what host functions get anyway."""
_COMPILER_STACK_BYTES = 16 << 20

_RECORD_WORDS = ctypes.sizeof(FunctionRecord) // 8

_Provide = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_int64, ctypes.c_uint64)
"""The room on the stack is signed: guest code looks at the limit only when it has passed it."""

_stack_size_lock = threading.RLock()  # a signal handler may come here while its thread is here


class _LoadedUnit(NamedTuple):
    code: LoadedCode
    addresses: dict[int, int]
    """Of its functions, by their number among the module's own."""


class CompiledModule:
    """The code of one module in one variant; instances share it and keep it alive."""

    def __init__(
        self,
        ast: AST,
        variant: Variant,
        mode: CompilationMode,
        precompiled: Precompiled | None = None,
    ) -> None:
        self.variant = variant
        self.target = TARGETS[Tier.OPTIMIZED]
        self.mode = mode
        self.layout = ContextLayout(ast)
        self.plan = Plan(ast)
        self.digest = ast.digest
        self.runs: dict[int, list[array.array[int]]] = {}
        """Opcodes of the runs of instructions of each own function that has code, when gas is
        measured."""
        self.optimizing = False
        """Whether helpers have work to do for it."""
        self._submitted = self._completed = False
        self.provider: int | None = None
        """The thread that gives a function code, while it does."""
        self.calls = [0] * len(self.plan.optimized)
        """Per optimised unit, how many of its functions have been called in the baseline tier."""
        self.needed: list[int] = []
        """The functions that this process has made code for while it follows, in order; who tells
        others about them takes them from here."""
        self.last_needed = 0.0
        """When a function got baseline code (`time.perf_counter`)."""
        self._first = ast.imported_functions
        self._count = len(ast.bodies)
        self._sources = [weakref.ref(ast)]
        self._lock = threading.RLock()  # a signal handler may come here while its thread is here
        self._units: dict[tuple[Tier, int], _LoadedUnit] = {}
        self._compiled = False
        self._instances: weakref.WeakSet[ModuleInstance] = weakref.WeakSet()

        header = ctypes.sizeof(ModuleHeader)
        self._image = None if precompiled is None else precompiled.load()
        self._block: DataBlock | LoadedImage
        self._block = self._image or CodeRegion.get().allocate(header + 8 * self._count)
        table = (ctypes.c_uint64 * self._count).from_address(self._block.address + header)
        self._table = memoryview(table).cast("B").cast("Q")
        self._stubs = stub_addresses(self._count)
        self._table[:] = self._stubs if self._image is None else self._image.functions()
        self._provide = _Provide(_provider(weakref.ref(self)))
        provide = ctypes.cast(self._provide, ctypes.c_void_p).value or 0
        ModuleHeader.from_address(self._block.address).provide = provide
        self._record_of = {
            index - self._first: (self.layout.records >> 3) + number * _RECORD_WORDS
            for number, index in enumerate(self.layout.referenced)
        }
        self._type_numbers = [type_number(kind) for kind in ast.types]  # held while in use
        self._template = self._make_template(ast)
        self._words = ctypes.c_uint64 * len(self._template)
        self._stored = {
            number
            for number in range(len(self.calls))
            if mode != CompilationMode.BASELINE and cache.contains(self.name(number))
        }
        """Optimised units that are in the cache, so that they need not be made."""
        if precompiled is not None:
            self._stored = set(range(len(self.calls)))
            self.runs = precompiled.runs()
        self._given_up: set[int] = set()
        """Optimised units that a helper failed to make."""

    def _make_template(self, ast: AST) -> array.array[int]:
        """The words of a vmctx that are the same in all instances."""
        template = array.array("Q", bytes(self.layout.size))
        template[ContextHeader.offset("helpers") >> 3] = support().helpers
        template[ContextHeader.offset("module") >> 3] = self._block.address
        for number, type_ in enumerate(self._type_numbers):
            template[self.layout.type_number(number) >> 3] = type_.number
        for own, record in self._record_of.items():
            template[record] = self._table[own]
            index = ast.function_type_indices[self._first + own]
            template[record + 2] = self._type_numbers[index].number
        return template

    # For instances.

    def adopt(self, ast: AST) -> None:
        """Note a module with the same bytes, which can be translated when others are gone."""
        self._sources = [known for known in self._sources if known() is not None]
        self._sources.append(weakref.ref(ast))

    def fill(self, instance: ModuleInstance, context: int) -> memoryview:
        """Write what is the same in all instances into a vmctx, and the owner of each function
        record; tell the instance from now on which functions get code. Gives a view of the
        words."""
        with self._lock:
            ctypes.memmove(context, self._template.buffer_info()[0], self.layout.size)
            self._instances.add(instance)
        words = memoryview(self._words.from_address(context)).cast("B").cast("Q")
        if self._record_of:
            owners = words[(self.layout.records >> 3) + 1 :: _RECORD_WORDS]
            owners[:] = array.array("Q", [context]) * len(self._record_of)
        return words

    def symbol_at(self, address: int) -> str | None:
        """Name of the function whose code contains an address, or None."""
        if self._image is not None:
            own = self._image.function_at(address)
            if own is not None:
                return f"f{self._first + own}"
        for unit in list(self._units.values()):
            symbol = unit.code.symbol_at(address)
            if symbol is not None:
                return symbol
        return None

    @property
    def status(self) -> CodeStatus:
        """How the code stands at this moment."""
        units = self.plan.optimized
        with self._lock:
            ready = self._stored | {n for tier, n in self._units if tier == Tier.OPTIMIZED}
            optimized = sum(len(units[number]) for number in ready)
            waiting = {
                own
                for number, unit in enumerate(units)
                if number not in ready
                for own in range(unit.start - self._first, unit.stop - self._first)
            }
            baseline = sum(self._table[own] != self._stubs[own] for own in waiting)
            from_cache = not self._compiled and bool(self._stored or self._units)
        state = CodeState.OPTIMIZING if self.optimizing else CodeState.BASELINE
        if not waiting:
            state = CodeState.OPTIMIZED
        if self._image is not None:
            state = CodeState.PRECOMPILED
        return CodeStatus(state, self._count, baseline, optimized, from_cache)

    # Providing code.

    def provide(self, own: int) -> None:
        """Give a function code; called when it has none, and is called."""
        with self._lock:
            outer, self.provider = self.provider, threading.get_ident()
            try:
                is_baseline = self._provide_code(own)
            finally:
                self.provider = outer
        if self._submitted:
            return
        # Imported here: most programs end with everything in the cache.
        if self.needed:
            self._submitted = True
            from . import follower

            follower.follow(self)
        elif is_baseline and self.mode == CompilationMode.TIERED:
            self._submitted = True
            from . import optimizer

            optimizer.submit(self)

    def _provide_code(self, own: int) -> bool:
        """The same, under the lock; gives whether it is baseline code now."""
        function = self._first + own
        if self._has_code(function):
            self._mend_records(own)
            return False
        number = self.plan.unit_of(function)
        if number in self._stored:
            if self._load(Tier.OPTIMIZED, number):
                return False
            self._stored.discard(number)
            self._submitted = False  # helpers have to make it after all
        if self.mode != CompilationMode.BASELINE and number not in self._given_up:
            if self.plan.is_small or (
                self.mode == CompilationMode.OPTIMIZED and not cache.follows()
            ):
                self._have(Tier.OPTIMIZED, number)
                self._note(function)
                return False
            self.calls[number] += 1
        self._have(Tier.BASELINE, function)
        self._note(function)
        return True

    def _note(self, function: int) -> None:
        """Remember that a function needed code."""
        self.last_needed = time.perf_counter()
        if cache.follows() and self.mode != CompilationMode.BASELINE:
            self.needed.append(function)

    def want(self, function: int) -> None:
        """Take notice that other processes run a function's baseline code: have that in the cache
        as well, and its optimised code soon."""
        with self._lock:
            if function in range(self._first, self._first + self._count):
                number = self.plan.unit_of(function)
                self.calls[number] += 1
                if number not in self._stored and not self._has_code(function):
                    self._have(Tier.BASELINE, function)

    def complete(self, progress: Progress | None) -> None:
        """Have all functions optimised before any is called; later, that costs nothing.

        What helpers cannot make runs in the baseline tier. A process that follows waits for as long
        as another one says that it makes the units, and runs what is missing then in the baseline
        tier until it comes.
        """
        if self._completed:
            return
        missing = self.missing()
        if cache.follows():
            if missing and not self.plan.is_small:
                from . import follower

                follower.wait(self, progress)
        elif len(missing) > 1:
            from . import optimizer

            optimizer.finish(self, progress)
        elif missing:
            with self._lock:
                self._have(Tier.OPTIMIZED, missing[0])
        self._completed = True

    def install(self, number: int, unit: UnitCode) -> None:
        """Swap in the optimised unit that a helper made.

        Raises:
            ObjectError: it is not acceptable.
        """
        loaded = self._link(Tier.OPTIMIZED, number, unit)
        with self._lock:
            self._compiled = True
            instances = self._swap_in(Tier.OPTIMIZED, number, loaded)
        del instances  # not under the lock: it may be the last that holds one

    def refresh(self) -> bool:
        """Use the optimised units that other processes have put into the cache meanwhile; whether
        none is missing now."""
        for number in self.missing():
            name = self.name(number)
            if not cache.contains(name):
                continue
            with self._lock:
                own = self.plan.optimized[number]
                if not any(map(self._has_code, own)):
                    self._stored.add(number)  # loaded by the first call
                    continue
            unit = load_unit(name)
            try:
                if unit is None:
                    raise elf.ObjectError("it is damaged")
                self.install(number, unit)
            except elf.ObjectError as error:
                _log.warning("optimized unit %d in the cache is not usable: %s", number, error)
                self.give_up(number)
        return not self.missing()

    def use(self, tier: Tier) -> None:
        """Run all functions in one tier from now on, compiling what is not there. For tests: code
        is swapped at their will."""
        with self._lock:
            if tier == Tier.OPTIMIZED:
                for number in range(len(self.plan.optimized)):
                    if (tier, number) not in self._units:
                        self._have(tier, number)
            else:
                self._table[:] = self._stubs
                for function in range(self._first, self._first + self._count):
                    if not self._has_code(function) and (tier, function) not in self._units:
                        self._have(tier, function)
            for (kind, number), unit in list(self._units.items()):
                if kind == tier:
                    self._swap_in(tier, number, unit)

    def give_up(self, number: int) -> None:
        """Leave the functions of an optimised unit in the baseline tier."""
        self._given_up.add(number)

    def missing(self) -> list[int]:
        """The optimised units that are neither loaded nor in the cache, and may be made."""
        with self._lock:
            there = self._stored | {n for tier, n in self._units if tier == Tier.OPTIMIZED}
            missing = set(range(len(self.calls))) - there - self._given_up
            # What ended a helper would end this process as well.
            self._given_up |= {
                number for number in missing if cache.contains(given_up_name(self.name(number)))
            }
            return sorted(missing - self._given_up)

    def check_stored(self) -> None:
        """Look at the optimised units in the cache: those that are damaged are to be made again."""
        if self._image is not None:
            return  # it has all code, and none of it is in the cache
        damaged = {number for number in self._stored if load_unit(self.name(number)) is None}
        with self._lock:
            self._stored -= damaged

    def source(self) -> AST:
        """A module that is alive: every instance holds one."""
        for reference in self._sources:
            ast = reference()
            if ast is not None:
                return ast
        raise WasmEdgeError(ErrCode.RuntimeError, "the module of this code is gone")

    def name(self, number: int) -> str:
        """The name of an optimised unit's entry in the cache."""
        return unit_name(self.digest, self.variant, number)

    @functools.cached_property
    def announcement(self) -> str:
        """The name under which a process announces that it makes the units."""
        return announcement_name(self.digest, self.variant)

    @functools.cached_property
    def _journal(self) -> cache.Journal:
        """The baseline units, each by the function that it was made for."""
        return cache.Journal(journal_name(self.digest, self.variant))

    def _has_code(self, function: int) -> bool:
        own = function - self._first
        return self._table[own] != self._stubs[own]

    def _load(self, tier: Tier, number: int) -> bool:
        """Load a unit from the cache; whether it is there."""
        if tier == Tier.OPTIMIZED:
            unit = load_unit(self.name(number))
        else:
            piece = self._journal.get(number)
            unit = None if piece is None else unpack(piece)
        if unit is None:
            return False
        try:
            loaded = self._link(tier, number, unit)
        except elf.ObjectError as error:
            _log.warning("%s unit %d in the cache is not usable: %s", tier.name, number, error)
            return False
        self._swap_in(tier, number, loaded)
        return True

    def _have(self, tier: Tier, number: int) -> None:
        """Load a unit: from the cache, or compiled now."""
        if self._load(tier, number):
            return
        if tier == Tier.OPTIMIZED:
            unit = self._compile(tier, self.plan.optimized[number])
            store_unit(self.name(number), unit)
        else:
            with self._journal.claim(number) as write:
                if self._load(tier, number):
                    return  # another process has just made it
                admit = self.plan.admission(number, self._has_code)
                unit = self._compile(tier, range(number, number + 1), admit)
                write(pack(unit))
        self._swap_in(tier, number, self._link(tier, number, unit))

    def _compile(
        self, tier: Tier, functions: range, admit: Callable[[int], bool] | None = None
    ) -> UnitCode:
        self._compiled = True
        target = TARGETS[tier]
        return compile_unit(self.source(), self.variant, self.layout, target, functions, admit)

    def _link(self, tier: Tier, number: int, unit: UnitCode) -> _LoadedUnit:
        own = range(self._first, self._first + self._count)
        if tier == Tier.OPTIMIZED:
            fits = unit.functions == list(self.plan.optimized[number])
        else:
            fits = unit.functions[:1] == [number] and all(i in own for i in unit.functions)
        if not fits:
            raise elf.ObjectError("it has other functions")
        if self.variant.gas:
            if len(unit.runs) != len(unit.functions):
                raise elf.ObjectError("the runs of instructions are not those of the functions")
            for index, runs in zip(unit.functions, unit.runs, strict=True):
                self.runs[index - self._first] = [array.array("H", run) for run in runs]
        table = self._block.address + ctypes.sizeof(ModuleHeader)
        code = CodeRegion.get().load(unit.data, {"functions": table})
        try:
            addresses = {i - self._first: code.address(f"f{i}") for i in unit.functions}
        except KeyError as error:
            raise elf.ObjectError(f"it lacks function {error}") from None
        return _LoadedUnit(code, addresses)

    def _swap_in(self, tier: Tier, number: int, unit: _LoadedUnit) -> list[ModuleInstance]:
        """Make the functions of a unit run its code; those of a baseline unit only if they have
        none."""
        # A unit is never replaced, there may be calls in it: two threads may have had it made, or a
        # signal handler while its thread compiled it.
        unit = self._units.setdefault((tier, number), unit)
        addresses = unit.addresses
        if tier == Tier.BASELINE:
            addresses = {
                own: address
                for own, address in addresses.items()
                if self._table[own] == self._stubs[own]
            }
        instances = list(self._instances)
        if self.variant.gas:
            for instance in instances:
                instance.add_costs(addresses)  # before any of the functions can run
        records = {}
        for own, address in addresses.items():
            self._table[own] = address
            record = self._record_of.get(own)
            if record is not None:
                records[record] = self._template[record] = address
        for instance in instances:
            words = self._words.from_address(instance.context)
            for record, address in records.items():
                words[record] = address
        return instances

    def _mend_records(self, own: int) -> None:
        """Write the code of a function into the records of instances that were made while it was
        swapped in, by a signal handler."""
        record = self._record_of.get(own)
        if record is not None:
            for instance in list(self._instances):
                self._words.from_address(instance.context)[record] = self._table[own]


def _provider(reference: weakref.ref[CompiledModule]) -> Callable[[int, int, int], None]:
    """What the stubs call: with the function, the free bytes of stack, and the activation."""

    def provide(own: int, room: int, activation: int) -> None:
        try:
            with not_counted(activation):
                module = reference()
                if module is None:
                    raise WasmEdgeError(ErrCode.RuntimeError, "the module of this function is gone")
                if room >= _ROOM_TO_COMPILE:
                    module.provide(own)
                else:
                    _on_a_fresh_stack(module, own)
            Activation.from_address(activation).provided = 0
        except BaseException as error:
            keep_failure(activation, error)

    return provide


def _on_a_fresh_stack(module: CompiledModule, own: int) -> None:
    """`provide` in a thread, for guests that have used up the stack of theirs."""
    if module.provider == threading.get_ident():
        # In a signal handler that interrupted this thread's own compiling: it holds the lock.
        raise WasmEdgeError(ErrCode.RuntimeError, "call stack exhausted: no room to compile")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            module.provide(own)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="wasmedge-compiler")
    with _stack_size_lock:  # the size is that of all threads that begin meanwhile
        before = threading.stack_size(_COMPILER_STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if failures:
        raise failures[0]
