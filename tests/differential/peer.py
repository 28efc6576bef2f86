"""Carries out a plan with wasmtime."""

from __future__ import annotations

from functools import cache

import wasmtime

from tests.differential.smith import FUEL, Outcome, Plan
from tests.differential.values import Host, describe, describe_memory

# The names of `ErrCode`. A call through a table and an instruction on a table are told apart by
# this engine only.
TRAPS = {
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: "MemoryOutOfBounds",
    wasmtime.TrapCode.TABLE_OUT_OF_BOUNDS: "TableOutOfBounds",
    wasmtime.TrapCode.INDIRECT_CALL_TO_NULL: "UninitializedElement",
    wasmtime.TrapCode.BAD_SIGNATURE: "IndirectCallTypeMismatch",
    wasmtime.TrapCode.INTEGER_OVERFLOW: "IntegerOverflow",
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: "DivideByZero",
    wasmtime.TrapCode.BAD_CONVERSION_TO_INTEGER: "InvalidConvToInt",
    wasmtime.TrapCode.UNREACHABLE: "Unreachable",
}


@cache
def _engine() -> wasmtime.Engine:
    configuration = wasmtime.Config()
    configuration.max_wasm_stack = 1 << 20  # deep recursion ends by fuel, not by the stack
    return wasmtime.Engine(configuration)


def _trap(error: wasmtime.Trap) -> str:
    code = error.trap_code
    return "trap " + (TRAPS.get(code, str(code)) if code is not None else error.message)


def _plain(value: object) -> object:
    """The Python value; wasmtime-py hands out null references wrapped."""
    return value.value if isinstance(value, wasmtime.Val) else value


def run(plan: Plan) -> Outcome:
    """What wasmtime does with a plan."""
    outcome = Outcome()
    engine = _engine()
    store = wasmtime.Store(engine)
    linker = wasmtime.Linker(engine)
    i32, i64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()
    f32, f64 = wasmtime.ValType.f32(), wasmtime.ValType.f64()
    signatures = {
        "i": ([i32], [i32]),
        "l": ([i64, f64], [i64]),
        "f": ([f32], [f32]),
        "v": ([i32, i64], []),
        "m": ([i32], [i32, i64]),
    }
    for name, body in Host(outcome.host_calls).functions().items():
        linker.define_func("host", name, wasmtime.FuncType(*signatures[name]), body)
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, 4)))
    table_type = wasmtime.TableType(wasmtime.ValType.funcref(), wasmtime.Limits(4, 8))
    constant = wasmtime.Global(store, wasmtime.GlobalType(i32, False), wasmtime.Val.i32(7))
    mutable = wasmtime.Global(store, wasmtime.GlobalType(i64, True), wasmtime.Val.i64(-7))
    linker.define(store, "host", "memory", memory)
    linker.define(store, "host", "table", wasmtime.Table(store, table_type, None))
    linker.define(store, "host", "g", constant)
    linker.define(store, "host", "h", mutable)
    try:
        instance = linker.instantiate(store, wasmtime.Module(engine, plan.module))
    except wasmtime.Trap as trap:
        outcome.instantiation = _trap(trap)
        outcome.memory = describe_memory(memory.size(store), memory.read(store))
        return outcome
    exports = instance.exports(store)
    readable = {name: exports[name] for name in plan.globals}
    fuel = [
        item
        for name, item in readable.items()
        if isinstance(item, wasmtime.Global)
        and plan.globals[name] == "i32"
        and item.value(store) == FUEL
    ]
    for call in plan.calls:
        for counter in fuel:
            counter.set_value(store, FUEL)
        function = exports[call.name]
        assert isinstance(function, wasmtime.Func)
        try:
            result = function(store, *call.arguments)
        except wasmtime.Trap as trap:
            outcome.calls.append((call.name, _trap(trap)))
            continue
        values = result if len(call.results) > 1 else [result] * len(call.results)
        outcome.calls.append(
            (call.name, ", ".join(map(describe, call.results, map(_plain, values))))
        )
    for name, exported in exports.items():
        if isinstance(exported, wasmtime.Memory):
            memory = exported
        elif isinstance(exported, wasmtime.Table):
            outcome.tables[name] = exported.size(store)
        elif isinstance(exported, wasmtime.Global) and name in plan.globals:
            outcome.globals[name] = describe(plan.globals[name], _plain(exported.value(store)))
    outcome.memory = describe_memory(memory.size(store), memory.read(store))
    return outcome
