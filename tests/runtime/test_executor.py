"""Executor: instantiation, imports, invocation, and what calls cost."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.runtime.engine import F64, I32, I64, Engine
from tests.wat import wat
from wasmedge_runtime import (
    Configure,
    ErrCode,
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
    Table,
    TableType,
    Trap,
    ValMut,
    WasmEdgeError,
)


def test_a_module_that_was_not_validated_is_refused() -> None:
    engine = Engine()
    with pytest.raises(WasmEdgeError, match="not validated") as caught:
        engine.executor.instantiate(engine.store, Loader().load_buffer(wat("(module)")))
    assert caught.value.code is ErrCode.WrongVMWorkflow


def test_the_instance_has_a_name_and_its_exports() -> None:
    engine = Engine()
    text = """(module (func (export "f") (result i32) (i32.const 21)) (memory (export "m") 1)
      (table (export "t") 1 funcref) (global (export "g") i32 (i32.const 4)))"""
    instance = engine.register("lib", text)
    assert instance.name == "lib"
    assert list(instance.exports) == ["f", "m", "t", "g"]
    assert len(instance.exports) == 4
    kinds = [type(extern) for extern in instance.exports.values()]
    assert kinds == [Function, Memory, Table, Global]
    with pytest.raises(KeyError):
        instance.exports["nothing"]
    function: Any = instance.exports["f"]
    assert function() == [21]
    assert engine.instantiate(text).name == ""


def test_the_anonymous_module_is_replaced_and_registered_ones_stay() -> None:
    engine = Engine()
    engine.register("lib", '(module (func (export "f") (result i32) (i32.const 1)))')
    first = engine.instantiate('(module (func (export "f") (result i32) (i32.const 2)))')
    engine.instantiate('(module (func (export "g") (result i32) (i32.const 3)))')
    assert engine.call("g") == [3]
    with pytest.raises(WasmEdgeError) as caught:
        engine.call("f")
    assert caught.value.code is ErrCode.FuncNotFound
    held: Any = first.exports["f"]
    assert held() == [2]
    assert engine.executor.invoke_registered(engine.store, "lib", "f") == [1]


def test_a_failed_instantiation_leaves_the_anonymous_module() -> None:
    engine = Engine()
    engine.instantiate('(module (func (export "f") (result i32) (i32.const 2)))')
    with pytest.raises(Trap):
        engine.instantiate("(module (func $f unreachable) (start $f))")
    assert engine.call("f") == [2]
    with pytest.raises(Trap):
        engine.register("broken", "(module (func $f unreachable) (start $f))")
    assert engine.store.list_module() == []


@pytest.mark.parametrize("kind", ["module", "import", "instance"])
def test_a_name_is_registered_once(kind: str) -> None:
    engine = Engine()
    instance = engine.register("lib", "(module)")
    module = engine.load("(module)")
    register: Any = {
        "module": lambda: engine.executor.register_module(engine.store, module, "lib"),
        "import": lambda: engine.executor.register_import(engine.store, ImportObject("lib")),
        "instance": lambda: engine.executor.register_instance(engine.store, instance, "lib"),
    }[kind]
    with pytest.raises(WasmEdgeError, match="module name conflict") as caught:
        register()
    assert caught.value.code is ErrCode.ModuleNameConflict


def test_an_instance_is_registered_under_further_names() -> None:
    engine = Engine()
    instance = engine.instantiate(
        """(module (global $n (mut i32) (i32.const 0)) (func (export "next") (result i32)
          (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"""
    )
    for name in ("one", "two"):
        engine.executor.register_instance(engine.store, instance, name)
    engine.instantiate(
        """(module (import "one" "next" (func $one (result i32)))
          (import "two" "next" (func $two (result i32)))
          (func (export "f") (result i32 i32) (call $one) (call $two)))"""
    )
    assert engine.call("f") == [1, 2]
    with pytest.raises(WasmEdgeError) as caught:
        Engine().executor.register_instance(Engine().store, instance, "three")
    assert caught.value.code is ErrCode.WrongInstanceAddress


def test_segments_and_start_function_run_in_order() -> None:
    engine = Engine()
    instance = engine.instantiate(
        """(module (memory (export "m") 1) (data (i32.const 0) "\\01") (data (i32.const 0) "\\02")
          (global (export "g") (mut i32) (i32.const 0))
          (func $start (global.set 0 (i32.add (i32.load8_u (i32.const 0)) (i32.const 40))))
          (start $start))"""
    )
    cell: Any = instance.exports["g"]
    assert cell.value == 42


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('(module (memory 1) (data (i32.const 65535) "ab"))', ErrCode.MemoryOutOfBounds),
        ('(module (memory 1) (data (i32.const -1) ""))', ErrCode.MemoryOutOfBounds),
        ("(module (table 1 funcref) (func $f) (elem (i32.const 1) $f))", ErrCode.TableOutOfBounds),
        ("(module (func $f (drop (i32.div_s (i32.const 1) (i32.const 0)))) (start $f))",
         ErrCode.DivideByZero),
    ],
)  # fmt: skip
def test_an_instantiation_that_traps(text: str, code: ErrCode) -> None:
    with pytest.raises(Trap) as caught:
        Engine().instantiate(text)
    assert caught.value.code is code


def exporter() -> Engine:
    engine = Engine()
    imports = ImportObject("host")
    imports.add_function("f", Function(FunctionType([I32], [I64]), lambda d, m, n: n))
    imports.add_table("t", Table(TableType(RefType.FUNCREF, Limit(2, 5))))
    imports.add_memory("m", Memory(MemoryType(Limit(2, 5))))
    imports.add_memory("unbounded", Memory(MemoryType(Limit(2))))
    imports.add_global("g", Global(GlobalType(I32, ValMut.CONST), 1))
    imports.add_global("v", Global(GlobalType(F64, ValMut.VAR), 1))
    engine.executor.register_import(engine.store, imports)
    return engine


@pytest.mark.parametrize(
    "wanted",
    [
        '"f" (func (param i32) (result i64))', '"t" (table 2 funcref)', '"t" (table 0 5 funcref)',
        '"t" (table 2 9 funcref)', '"m" (memory 2)', '"m" (memory 0 65536)', '"m" (memory 2 5)',
        '"unbounded" (memory 1)', '"g" (global i32)', '"v" (global (mut f64))',
    ],
)  # fmt: skip
def test_imports_that_match(wanted: str) -> None:
    exporter().instantiate(f'(module (import "host" {wanted}))')


@pytest.mark.parametrize(
    "wanted",
    [
        '"f" (func)', '"f" (func (param i64) (result i64))', '"f" (func (param i32))',
        '"f" (global i32)', '"f" (memory 1)', '"t" (table 3 funcref)', '"t" (table 2 4 funcref)',
        '"t" (table 2 externref)', '"t" (func)', '"m" (memory 3)', '"m" (memory 2 4)',
        '"m" (table 1 funcref)', '"unbounded" (memory 1 65536)', '"g" (global i64)',
        '"g" (global (mut i32))', '"v" (global f64)', '"v" (func)',
    ],
)  # fmt: skip
def test_imports_that_do_not_match(wanted: str) -> None:
    with pytest.raises(InstantiationError, match="incompatible import type") as caught:
        exporter().instantiate(f'(module (import "host" {wanted}))')
    assert caught.value.code is ErrCode.IncompatibleImportType


@pytest.mark.parametrize("names", [("host", "nothing"), ("nowhere", "f"), ("", "")])
def test_imports_that_are_not_there(names: tuple[str, str]) -> None:
    with pytest.raises(InstantiationError, match="unknown import") as caught:
        exporter().instantiate(f'(module (import "{names[0]}" "{names[1]}" (func)))')
    assert caught.value.code is ErrCode.UnknownImport
    assert names[0] in caught.value.message


def test_the_current_size_decides_whether_an_import_matches() -> None:
    engine = exporter()
    memory = engine.store.find_memory_registered("host", "m")
    assert memory is not None
    memory.grow_page(1)
    engine.instantiate('(module (import "host" "m" (memory 3)))')


@pytest.mark.parametrize(
    ("module", "name", "mentioned"),
    [("host", "nothing", "it exports f"), ("nowhere", "f", "registered modules are host"),
     ("host", "m", "it exports f")],
)  # fmt: skip
def test_functions_that_are_not_there(module: str, name: str, mentioned: str) -> None:
    engine = exporter()
    with pytest.raises(WasmEdgeError, match=mentioned) as caught:
        engine.executor.invoke_registered(engine.store, module, name)
    assert caught.value.code is ErrCode.FuncNotFound


def test_invoking_without_a_module_or_what_is_no_function() -> None:
    engine = Engine()
    with pytest.raises(WasmEdgeError, match="no module is instantiated"):
        engine.call("f")
    engine.instantiate('(module (memory (export "m") 1) (func (export "f")))')
    with pytest.raises(WasmEdgeError, match="the module exports f") as caught:
        engine.call("m")
    assert caught.value.code is ErrCode.FuncNotFound


def test_host_functions_are_invoked_by_name() -> None:
    engine = exporter()
    assert engine.executor.invoke_registered(engine.store, "host", "f", 5) == [5]


# Statistics.


def measured(**options: bool) -> tuple[Engine, Statistics]:
    config = Configure()
    for name in options or ("instruction_counting",):
        setattr(config, f"statistics_{name}", True)
    statistics = Statistics()
    return Engine(config, statistics), statistics


COUNTED = [
    # What is counted is in each body; the last `end` of a function counts unless it is branched to.
    ("(nop)", 0, 2),
    ("(block)", 0, 3),
    ("(block (br 0))", 0, 3),  # block br | end
    ("(block (br_if 0 (local.get 0)) (nop))", 1, 4),  # block get br_if | end
    ("(block (br_if 0 (local.get 0)) (nop))", 0, 6),
    ("(if (local.get 0) (then (nop)))", 1, 5),  # get if nop end end
    ("(if (local.get 0) (then (nop)))", 0, 4),  # get if end end
    ("(if (local.get 0) (then (nop)) (else (nop) (nop)))", 1, 5),  # get if nop else | end
    ("(if (local.get 0) (then (nop)) (else (nop) (nop)))", 0, 7),
    ("(return)", 0, 1),
    ("(nop) (br 0)", 0, 2),
    ("(br_if 0 (local.get 0)) (nop)", 1, 2),
    ("(loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))", 3, 1 + 5 * 3 + 2),
    ("(block (block (br_table 0 1 (local.get 0))) (nop))", 0, 7),
    ("(block (block (br_table 0 1 (local.get 0))) (nop))", 5, 5),
    ("(call $empty)", 0, 3),
    ("(drop (select (i32.const 1) (i32.const 2) (local.get 0)))", 0, 6),
]


@pytest.mark.parametrize(("body", "argument", "count"), COUNTED)
def test_instructions_are_counted_like_the_reference(body: str, argument: int, count: int) -> None:
    engine, statistics = measured()
    engine.instantiate(f'(module (func $empty) (func (export "f") (param i32) {body}))')
    for n in (1, 2):
        engine.call("f", argument)
        assert statistics.instr_count == n * count


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("(nop) (unreachable) (nop)", 2),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0))) (nop)", 3),
        ("(drop (i32.load (i32.const -1))) (nop)", 2),
        ("(i32.store (i32.const 65536) (i32.const 1))", 3),
        ("(nop) (memory.fill (i32.const 0) (i32.const 1) (i32.const -1)) (nop)", 5),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", 2),
        ("(call $trap) (nop)", 3),
        ("(call_indirect (i32.const 0))", 2),
        ("(call_indirect (i32.const 9))", 2),
        ("(table.set (i32.const 9) (ref.null func))", 3),
        ("(loop (nop) (br_if 0 (i32.load (i32.const 0))) (unreachable))", 6),
        ("(drop (i64.load (i32.const 8))) (drop (i32.rem_s (i32.const 1) (i32.const 0)))", 6),
        ("(call $host) (unreachable)", 2),
    ],
)
def test_the_count_is_exact_at_a_trap(body: str, count: int) -> None:
    engine, statistics = measured()
    engine.host(nothing=([], [], lambda data, memory: None))
    engine.instantiate(
        f"""(module (import "host" "nothing" (func $host)) (memory 1) (table 2 funcref)
          (func $trap (nop) (unreachable)) (func (export "f") {body}))"""
    )
    with pytest.raises(Trap):
        engine.call("f")
    assert statistics.instr_count == count


def test_the_count_goes_on_through_host_functions_and_modules() -> None:
    engine, statistics = measured()
    counts = []

    def body(data: object, memory: object) -> None:
        engine.executor.invoke_registered(engine.store, "lib", "f")
        counts.append(statistics.instr_count)

    engine.host(body=([], [], body))
    engine.register("lib", '(module (func (export "f") (nop) (nop)))')
    engine.instantiate(
        """(module (import "host" "body" (func $body)) (import "lib" "f" (func $f))
          (func (export "f") (call $body) (call $f) (nop)))"""
    )
    engine.call("f")
    assert statistics.instr_count == 1 + 3 + 1 + 3 + 2
    statistics.clear()
    assert statistics.instr_count == 0


def test_initialisers_do_not_count_and_start_functions_do() -> None:
    engine, statistics = measured()
    engine.instantiate('(module (global i32 (i32.const 1)) (memory 1) (data (i32.const 0) "a"))')
    assert statistics.instr_count == 0
    engine.instantiate("(module (func $f (nop)) (start $f))")
    assert statistics.instr_count == 2


def test_without_configuration_nothing_is_counted() -> None:
    statistics = Statistics()
    engine = Engine(Configure(), statistics)
    engine.instantiate('(module (func (export "f") (nop)))')
    engine.call("f")
    assert (statistics.instr_count, statistics.total_cost, statistics.total_time_ns) == (0, 0, 0)


SUM = """(module (func (export "f") (param i32) (result i32) (local i32)
  (loop
    (local.set 1 (i32.add (local.get 1) (local.get 0)))
    (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
  (local.get 1)))"""
# 1 for the loop, 9 for each round, 3 behind: end, local.get, end


def cost_of(n: int) -> int:
    return 1 + 9 * n + 3


def test_gas_is_the_sum_of_the_costs() -> None:
    engine, statistics = measured(cost_measuring=True, instruction_counting=True)
    engine.instantiate(SUM)
    assert engine.call("f", 10) == [55]
    assert statistics.total_cost == statistics.instr_count == cost_of(10)
    table = [1] * 256
    table[0x6A] = 100  # i32.add
    statistics.set_cost_table(table)
    statistics.clear()
    engine.call("f", 10)
    assert statistics.total_cost == cost_of(10) + 10 * 99
    statistics.set_cost_table([])
    statistics.clear()
    engine.call("f", 10)
    assert statistics.total_cost == 0


def test_gas_stops_before_the_instruction_that_would_pass_the_limit() -> None:
    for limit in range(1, cost_of(3) + 2):
        engine, statistics = measured(cost_measuring=True, instruction_counting=True)
        engine.instantiate(SUM)
        statistics.set_cost_limit(limit)
        if limit >= cost_of(3):
            assert engine.call("f", 3) == [6]
            assert statistics.total_cost == statistics.instr_count == cost_of(3)
            continue
        with pytest.raises(Trap, match="cost limit exceeded") as caught:
            engine.call("f", 3)
        assert caught.value.code is ErrCode.CostLimitExceeded
        assert statistics.total_cost == limit
        assert statistics.instr_count == limit


def test_gas_adds_up_over_calls_until_the_limit() -> None:
    engine, statistics = measured(cost_measuring=True)
    engine.instantiate(SUM)
    statistics.set_cost_limit(3 * cost_of(5) - 1)
    assert engine.call("f", 5) == [15]
    assert engine.call("f", 5) == [15]
    with pytest.raises(Trap):
        engine.call("f", 5)
    with pytest.raises(Trap):
        engine.call("f", 1)
    assert statistics.total_cost == 3 * cost_of(5) - 1
    statistics.clear()
    assert engine.call("f", 5) == [15]


def test_an_instruction_that_costs_more_than_is_left_does_nothing() -> None:
    engine, statistics = measured(cost_measuring=True, instruction_counting=True)
    exports = engine.exports(
        """(module (memory (export "m") 1) (func (export "f")
          (i32.store8 (i32.const 0) (i32.const 1)) (i32.store8 (i32.const 1) (i32.const 1))))"""
    )
    table = [1] * 256
    table[0x3A] = 1000
    statistics.set_cost_table(table)
    statistics.set_cost_limit(1010)
    with pytest.raises(Trap):
        engine.call("f")
    assert exports["m"].get_data(0, 2) == b"\1\0"
    assert statistics.instr_count == 5
    assert statistics.total_cost == 1010


def test_calls_of_host_functions_cost_what_they_say() -> None:
    engine, statistics = measured(cost_measuring=True)
    imports = ImportObject("host")
    seen = []
    kind = FunctionType([], [])
    imports.add_function("f", Function(kind, lambda data, memory: seen.append(1), cost=50))
    engine.executor.register_import(engine.store, imports)
    engine.instantiate(
        '(module (import "host" "f" (func $f)) (func (export "f") (call $f) (call $f)))'
    )
    engine.call("f")
    assert statistics.total_cost == 3 + 100
    statistics.clear()
    statistics.set_cost_limit(90)
    seen.clear()
    with pytest.raises(Trap) as caught:
        engine.call("f")
    assert caught.value.code is ErrCode.CostLimitExceeded
    assert statistics.total_cost == 90
    assert seen == [1]


def test_endless_code_ends_by_gas() -> None:
    engine, statistics = measured(cost_measuring=True)
    engine.instantiate(
        """(module (func (export "loop") (loop (br 0)))
          (func $f (export "recursion") (call $f)))"""
    )
    statistics.set_cost_limit(1000)
    for name in ("loop", "recursion"):
        statistics.clear()
        with pytest.raises(Trap) as caught:
            engine.call(name)
        assert caught.value.code is ErrCode.CostLimitExceeded
        assert statistics.total_cost == 1000


def test_time_is_split_between_wasm_and_host() -> None:
    engine, statistics = measured(time_measuring=True)
    engine.host(sleep=([], [], lambda data, memory: time.sleep(0.05)))
    engine.instantiate(
        """(module (import "host" "sleep" (func $sleep)) (func (export "host") (call $sleep))
          (func (export "wasm") (param i32)
            (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""
    )
    engine.call("host")
    assert statistics.host_time_ns >= 50_000_000
    host = statistics.host_time_ns
    before = statistics.wasm_time_ns
    engine.call("wasm", 1000)
    assert statistics.host_time_ns == host
    assert statistics.wasm_time_ns > before
    assert statistics.total_time_ns == statistics.host_time_ns + statistics.wasm_time_ns


def test_instructions_per_second_follow_from_count_and_time() -> None:
    engine, statistics = measured(time_measuring=True, instruction_counting=True)
    engine.instantiate(SUM)
    assert statistics.instr_per_second == 0
    engine.call("f", 1000)
    rate = statistics.instr_count * 1e9 / statistics.wasm_time_ns
    assert statistics.instr_per_second == pytest.approx(rate)


def test_counts_survive_an_interruption_and_a_failing_host_function() -> None:
    engine, statistics = measured(cost_measuring=True, instruction_counting=True)

    def fail(data: object, memory: object) -> None:
        raise ValueError

    engine.host(fail=([], [], fail))
    engine.instantiate(
        '(module (import "host" "fail" (func $fail)) (func (export "f") (nop) (call $fail) (nop)))'
    )
    with pytest.raises(WasmEdgeError):
        engine.call("f")
    assert (statistics.instr_count, statistics.total_cost) == (2, 2)


def test_executors_with_other_statistics_work_in_one_store() -> None:
    engine, statistics = measured()
    engine.register("counted", '(module (func (export "f") (nop)))')
    plain = Engine(store=engine.store)
    exports = plain.exports(
        '(module (import "counted" "f" (func $f)) (func (export "f") (call $f)))'
    )
    exports["f"]()
    assert engine.executor.invoke_registered(engine.store, "counted", "f") == []
    assert statistics.instr_count == 2


def test_a_module_with_gas_may_be_called_by_one_without() -> None:
    engine, statistics = measured(cost_measuring=True)
    engine.register("sum", SUM)
    statistics.set_cost_limit(cost_of(3))
    plain = Engine(store=engine.store)
    call = plain.exports(
        '(module (import "sum" "f" (func $f (param i32) (result i32)))'
        '(func (export "f") (param i32) (result i32) (call $f (local.get 0))))'
    )["f"]
    for _ in range(3):
        assert call(10) == [55]  # nobody measures, so there is no limit
    assert statistics.total_cost == 0
    assert engine.executor.invoke_registered(engine.store, "sum", "f", 3) == [6]
    with pytest.raises(Trap, match="cost limit exceeded"):
        engine.executor.invoke_registered(engine.store, "sum", "f", 1)
    assert call(10) == [55]


def test_the_costs_of_a_call_are_those_of_the_statistics_it_began_with() -> None:
    engine, free = measured(cost_measuring=True)
    free.set_cost_table([])
    engine.register("inner", '(module (func (export "f") nop nop nop))')
    other, dear = measured(cost_measuring=True)
    other.store = engine.store
    other.instantiate(
        '(module (import "inner" "f" (func $f)) (func (export "f") (call $f) (call $f)))'
    )
    for rounds in (1, 2):
        other.call("f")
        assert dear.total_cost == rounds * (3 + 2 * 4)
        engine.executor.invoke_registered(engine.store, "inner", "f")
        assert free.total_cost == 0


MANY_VALUES = {
    "calls": "(block (call $f) (br 0)) " * 1001 + "unreachable",
    "branches": "(block (type $t) (call $f) " + "(br_if 0 (i32.const 1)) " * 1001 + ")",
    "returns": "(call $f) " + "(br_if 0 (i32.const 1)) " * 1001,
}


@pytest.mark.parametrize("body", MANY_VALUES.values(), ids=MANY_VALUES)
def test_a_small_file_that_expands_to_too_much_code_is_refused(body: str) -> None:
    """Two bytes can pass a thousand values, each of which is a line or more for LLVM."""
    results = " ".join(["i32"] * 1000)
    engine = Engine()
    ast = engine.load(
        f"(module (type $t (func (result {results})))"
        f'(func $f (type $t) unreachable) (func (export "much") (type $t) {body}))'
    )
    assert len(ast.data) < 20_000
    engine.executor.instantiate(engine.store, ast)
    with pytest.raises(WasmEdgeError, match="too much code"):
        engine.call("much")
