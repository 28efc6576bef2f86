"""Carries out a plan with this engine, through its public API."""

from __future__ import annotations

from enum import Enum
from unittest import mock

from tests.differential.smith import FUEL, Outcome, Plan
from tests.differential.values import Host, describe, describe_memory
from wasmedge_runtime import (
    CompilationMode,
    Configure,
    ErrCode,
    Executor,
    Function,
    FunctionType,
    Global,
    GlobalType,
    ImportObject,
    InstantiationError,
    Limit,
    Loader,
    Memory,
    MemoryType,
    RefType,
    Statistics,
    Store,
    Table,
    TableType,
    Trap,
    Validator,
    ValMut,
    ValType,
)
from wasmedge_runtime.tiers.plan import Tier

I32, I64, F32, F64 = ValType.I32, ValType.I64, ValType.F32, ValType.F64

SIGNATURES = {
    "i": FunctionType([I32], [I32]),
    "l": FunctionType([I64, F64], [I64]),
    "f": FunctionType([F32], [F32]),
    "v": FunctionType([I32, I64], []),
    "m": FunctionType([I32], [I32, I64]),
}


def _trap(error: Trap | InstantiationError) -> str:
    code = error.code
    if code in (ErrCode.UndefinedElement, ErrCode.ElemSegDoesNotFit):
        code = ErrCode.TableOutOfBounds  # wasmtime has one code for these
    elif code is ErrCode.DataSegDoesNotFit:
        code = ErrCode.MemoryOutOfBounds
    return f"trap {code.name}"


class Variant(Enum):
    """Which code is generated; what it computes must not depend on that."""

    PLAIN = "plain"
    COUNTING = "counting"
    GAS = "gas"
    CHECKED = "checked"  # each memory access compared with the size


class Tiers(Enum):
    """In which tiers the functions run."""

    BASELINE = "baseline"
    OPTIMIZED = "optimized"
    SWAPPED = "swapped"  # another tier for each call


def run(
    plan: Plan,
    variant: Variant = Variant.PLAIN,
    tiers: Tiers = Tiers.OPTIMIZED,
    statistics: Statistics | None = None,
) -> Outcome:
    """What this engine does with a plan, and what `statistics` count of it."""
    statistics = statistics or Statistics()
    configuration = Configure()
    configuration.compilation_mode = (
        CompilationMode.OPTIMIZED if tiers is Tiers.OPTIMIZED else CompilationMode.BASELINE
    )
    configuration.statistics_instruction_counting = variant is Variant.COUNTING
    configuration.statistics_cost_measuring = variant is Variant.GAS
    if variant is Variant.CHECKED:
        # More than there is: what happens where address space is short.
        with mock.patch("wasmedge_runtime.memory.GUARDED_BYTES", 1 << 62):
            return _run(plan, configuration, tiers, statistics)
    return _run(plan, configuration, tiers, statistics)


def _run(plan: Plan, configuration: Configure, tiers: Tiers, statistics: Statistics) -> Outcome:
    outcome = Outcome()
    imports = ImportObject("host")
    for name, body in Host(outcome.host_calls).functions().items():
        imports.add_function(
            name,
            Function(SIGNATURES[name], lambda data, memory, *args: data(*args), data=body),
        )
    memory = Memory(MemoryType(Limit(1, 4)))
    imports.add_memory("memory", memory)
    imports.add_table("table", Table(TableType(RefType.FUNCREF, Limit(4, 8))))
    imports.add_global("g", Global(GlobalType(I32, ValMut.CONST), 7))
    imports.add_global("h", Global(GlobalType(I64, ValMut.VAR), -7))
    executor = Executor(configuration, statistics)
    with Store() as store:
        executor.register_import(store, imports)
        module = Loader().load_buffer(plan.module)
        Validator().validate(module)
        try:
            instance = executor.instantiate(store, module)
        except (Trap, InstantiationError) as error:
            outcome.instantiation = _trap(error)
            outcome.memory = _describe(memory)
            return outcome
        exports = instance.exports
        fuel = [
            item
            for item in exports.values()
            if isinstance(item, Global)
            and item.global_type == GlobalType(I32, ValMut.VAR)
            and item.value == FUEL
        ]
        for number, call in enumerate(plan.calls):
            if tiers is Tiers.SWAPPED:
                instance.loaded.use((Tier.OPTIMIZED, Tier.BASELINE)[number % 2])
            for counter in fuel:
                counter.value = FUEL
            function = exports[call.name]
            assert isinstance(function, Function)
            try:
                results = function(*call.arguments)
            except Trap as error:
                outcome.calls.append((call.name, _trap(error)))
                continue
            outcome.calls.append((call.name, ", ".join(map(describe, call.results, results))))
        for name, exported in exports.items():
            if isinstance(exported, Memory):
                memory = exported
            elif isinstance(exported, Table):
                outcome.tables[name] = exported.size
            elif isinstance(exported, Global) and name in plan.globals:
                outcome.globals[name] = describe(plan.globals[name], exported.value)
        outcome.memory = _describe(memory)
    return outcome


def _describe(memory: Memory) -> str:
    return describe_memory(memory.page_size, memory.get_data(0, memory.page_size << 16))
