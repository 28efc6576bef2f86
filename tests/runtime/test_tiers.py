"""Both tiers are the same translation: traps, gas and counts are equal, also if code is swapped."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.engine import I32, Engine
from tests.runtime.helpers import engine
from wasmedge_runtime import (
    CodeState,
    CompilationMode,
    Configure,
    Statistics,
    Trap,
)
from wasmedge_runtime.codegen.context import Variant
from wasmedge_runtime.tiers.module import CompiledModule
from wasmedge_runtime.tiers.plan import Tier
from wasmedge_runtime.tiers.unit import compile_unit

BASELINE, OPTIMIZED = CompilationMode.BASELINE, CompilationMode.OPTIMIZED
MODES = list(CompilationMode)

Raised = tuple[type[BaseException], Any, str, tuple[str, ...]]


def raised(function: Callable[[], object]) -> Raised:
    with pytest.raises(Trap) as caught:
        function()
    return type(caught.value), caught.value.code, caught.value.message, caught.value.frames


# Each with what it says; in a function `bad`, which `middle` calls, which `top` calls. They do so
# through the table: LLVM inlines no such call, which would take names out of a trap's frames.
TRAPS = {
    "unreachable": "(unreachable)",
    "integer divide by zero": "(drop (i32.div_s (i32.const 1) (local.get 0)))",
    "integer overflow": "(drop (i64.div_s (i64.const 0x8000000000000000) (i64.const -1)))",
    "invalid conversion to integer": "(drop (i32.trunc_f64_s (f64.const nan)))",
    "out of bounds memory access": "(drop (i64.load offset=65530 (local.get 0)))",
    "out of bounds table access": "(drop (table.get 0 (i32.const 10)))",
    "undefined element": "(call_indirect (type $t) (i32.const 0) (i32.const 10))",
    "uninitialized element": "(call_indirect (type $t) (i32.const 0) (local.get 0))",
    "indirect call type mismatch": "(call_indirect (type $t) (i32.const 0) (i32.const 1))",
}


def trapping(instruction: str) -> str:
    return f"""(module (memory 1 1) (table 4 funcref) (type $t (func (param i32)))
      (elem (i32.const 1) func $other $bad $middle) (func $other)
      (func $bad (type $t) {instruction})
      (func $middle (type $t) (call_indirect (type $t) (local.get 0) (i32.const 2)))
      (func (export "top") (type $t) (call_indirect (type $t) (local.get 0) (i32.const 3))))"""


@pytest.mark.parametrize("message", TRAPS)
@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "checked"])
def test_traps_and_their_frames_are_the_same_in_both_tiers(
    message: str, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guarded:
        monkeypatch.setattr("wasmedge_runtime.memory.GUARDED_BYTES", 1 << 62)
    found = []
    for mode in (BASELINE, OPTIMIZED):
        store = engine(mode)
        instance = store.instantiate(trapping(TRAPS[message]))
        assert instance.loaded.variant == Variant(guarded, counting=False, gas=False)
        found.append(raised(lambda store=store: store.call("top", 0)))  # type: ignore[misc]
    assert found[0] == found[1]
    assert found[0][2].startswith(message)
    assert found[0][3] == ("bad", "middle", "top")


# Metering.

FIB = """(module (func $fib (export "fib") (param i32) (result i32)
  (if (i32.lt_s (local.get 0) (i32.const 2)) (then (return (i32.const 1))))
  (return (i32.add (call $fib (i32.sub (local.get 0) (i32.const 2)))
    (call $fib (i32.sub (local.get 0) (i32.const 1)))))))"""


def metered(mode: CompilationMode) -> tuple[Engine, Statistics]:
    configuration = Configure()
    configuration.compilation_mode = mode
    configuration.statistics_instruction_counting = True
    configuration.statistics_cost_measuring = True
    statistics = Statistics()
    return Engine(configuration, statistics), statistics


@pytest.mark.parametrize("mode", MODES)
def test_fib_30_counts_the_same_in_every_mode(mode: CompilationMode) -> None:
    store, statistics = metered(mode)
    store.instantiate(FIB)
    assert store.call("fib", 30) == [1346269]
    assert statistics.instr_count == statistics.total_cost == 28271634


def test_counts_are_the_same_when_code_is_swapped_between_calls() -> None:
    store, statistics = metered(BASELINE)
    code = store.instantiate(FIB).loaded
    counts = []
    for tier in (None, Tier.OPTIMIZED, Tier.BASELINE, Tier.OPTIMIZED):
        if tier is not None:
            code.use(tier)
        statistics.clear()
        store.call("fib", 15)
        counts.append((statistics.instr_count, statistics.total_cost))
    assert len(set(counts)) == 1
    assert counts[0][0] > 10000


@pytest.mark.parametrize("mode", [BASELINE, OPTIMIZED])
def test_gas_ends_at_the_same_place_in_both_tiers(mode: CompilationMode) -> None:
    store, statistics = metered(mode)
    store.instantiate(FIB)
    statistics.set_cost_limit(1234)
    with pytest.raises(Trap):
        store.call("fib", 30)
    assert (statistics.instr_count, statistics.total_cost) == (1234, 1234)


def test_functions_that_are_loaded_after_the_cost_table_has_changed() -> None:
    store, statistics = metered(BASELINE)
    code = store.instantiate(
        """(module (type $t (func)) (table funcref (elem $late)) (func $late (type $t) (nop))
          (func (export "early") (drop (i32.const 1)))
          (func (export "later") (drop (i32.const 1)))
          (func (export "indirect") (call_indirect (type $t) (i32.const 0))))"""
    ).loaded

    def cost(name: str) -> int:
        statistics.clear()
        store.call(name)
        return statistics.total_cost

    assert cost("early") == 3
    statistics.set_cost_table([7] * 65536)
    assert [cost("early"), cost("later"), cost("indirect")] == [21, 21, 5 * 7]
    code.use(Tier.OPTIMIZED)
    assert [cost("early"), cost("later"), cost("indirect")] == [21, 21, 5 * 7]
    statistics.set_cost_table([2] * 65536)
    assert [cost("early"), cost("later"), cost("indirect")] == [6, 6, 10]


def test_a_running_function_keeps_the_gas_of_its_instructions_when_it_is_swapped() -> None:
    """It has the array with it at hand: that must not be freed."""
    store, statistics = metered(BASELINE)
    codes: list[CompiledModule] = []
    garbage: list[Any] = []

    def swap(data: object, memory: object) -> None:
        for code in codes:
            functions = code.plan.optimized[0]
            source, variant, layout = code.source(), code.variant, code.layout
            code.install(0, compile_unit(source, variant, layout, code.target, functions))
        garbage.extend((ctypes.c_uint64 * 41)(*[1 << 40] * 41) for _ in range(1000))

    store.host(swap=([], [], swap))
    adds = "(local.set 0 (i32.div_u (local.get 0) (i32.const 1)))" * 39
    instance = store.instantiate(
        f"""(module (import "host" "swap" (func $swap))
          (func (export "f") (param i32) (result i32) (call $swap) {adds} (local.get 0)))"""
    )
    assert store.call("f", 5) == [5]
    expected = statistics.total_cost
    statistics.clear()
    codes.append(instance.loaded)
    assert store.call("f", 5) == [5]
    assert statistics.total_cost == expected


# Swapping.

EXPORTER = """(module (type $t (func (param i32) (result i32)))
  (table (export "table") 2 funcref) (elem (i32.const 0) $add $mul)
  (global (export "ref") funcref (ref.func $add)) (global $n (mut i32) (i32.const 10))
  (func $add (export "add") (type $t) (i32.add (local.get 0) (call $base)))
  (func $mul (type $t) (i32.mul (local.get 0) (call $base)))
  (func $base (result i32) (global.get $n))
  (func (export "set") (param i32) (global.set $n (local.get 0))))"""

IMPORTER = """(module (type $t (func (param i32) (result i32)))
  (import "exporter" "add" (func $add (type $t)))
  (import "exporter" "table" (table 2 funcref))
  (func (export "direct") (type $t) (call $add (local.get 0)))
  (func (export "indirect") (param i32 i32) (result i32)
    (call_indirect (type $t) (local.get 0) (local.get 1))))"""


def test_calls_between_modules_whose_code_is_swapped() -> None:
    store = engine(BASELINE)
    exporter = store.register("exporter", EXPORTER)
    first = store.instantiate(IMPORTER)

    def check() -> None:
        assert store.call("direct", 5) == [15]
        assert [store.call("indirect", 5, n) for n in (0, 1)] == [[15], [50]]
        assert store.executor.invoke_registered(store.store, "exporter", "add", 1) == [11]
        reference = store.store.find_global_registered("exporter", "ref")
        assert reference is not None
        assert reference.value.function(2) == [12]

    check()
    for tiers in [(t, u) for t in Tier for u in Tier]:
        exporter.loaded.use(tiers[0])
        first.loaded.use(tiers[1])
        check()
        second = store.instantiate(IMPORTER)
        assert second.loaded is first.loaded
        check()


def test_instances_made_before_and_after_a_swap() -> None:
    """Each with its own globals; in all, functions run the code of the moment."""
    stores = [engine(BASELINE) for _ in range(3)]
    exports: list[Any] = []
    instances = []
    for number, store in enumerate(stores):
        instances.append(store.instantiate(EXPORTER))
        exports.append(instances[-1].exports)
        exports[number]["set"](100 * number)
        instances[0].loaded.use(list(Tier)[number % 2])
        assert [e["add"](1) for e in exports] == [[100 * n + 1] for n in range(number + 1)]
        assert [e["table"].get_data(1).function(2) for e in exports] == [
            [200 * n] for n in range(number + 1)
        ]
    assert len({id(instance.loaded) for instance in instances}) == 1


def test_all_functions_run_in_the_tier_that_is_asked_for() -> None:
    store = engine(BASELINE)
    instance = store.instantiate(EXPORTER)
    code = instance.loaded
    for tier in (Tier.OPTIMIZED, Tier.BASELINE, Tier.OPTIMIZED):
        code.use(tier)
        assert store.call("add", 1) == [11]
        ours = {
            address
            for (kind, _), unit in code._units.items()
            if kind == tier
            for address in unit.addresses.values()
        }
        assert set(code._table) <= ours
        assert set(code._table[own] for own in code._record_of) == {
            instance_word(instance.context + 8 * record) for record in code._record_of.values()
        }


def instance_word(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


def test_reset_of_an_instance_whose_code_was_swapped() -> None:
    store = engine(BASELINE)
    instance = store.instantiate(EXPORTER)
    exports: Any = instance.exports
    for tier in Tier:
        exports["set"](3)
        instance.loaded.use(tier)
        assert exports["add"](1) == [4]
        instance.reset()
        assert exports["add"](1) == [11]
        assert exports["table"].get_data(1).function(2) == [20]


def test_code_that_is_running_goes_on_when_it_is_swapped() -> None:
    """In the code that it is in: what it calls from then on is the new one."""
    store = engine(BASELINE)
    codes: list[CompiledModule] = []
    tiers = iter([Tier.OPTIMIZED, Tier.BASELINE] * 20)

    def swap(data: object, memory: object, n: int) -> int:
        codes[0].use(next(tiers))
        return n + 1

    store.host(swap=([I32], [I32], swap))
    codes.append(
        store.instantiate(
            """(module (import "host" "swap" (func $swap (param i32) (result i32)))
              (func $f (export "f") (param i32) (result i32) (local i64 f64)
                (local.set 1 (i64.extend_i32_s (local.get 0)))
                (local.set 2 (f64.convert_i32_s (local.get 0)))
                (if (i32.eqz (local.get 0)) (then (return (call $swap (i32.const 0)))))
                (drop (call $f (i32.sub (call $swap (local.get 0)) (i32.const 2))))
                (i32.add (i32.wrap_i64 (local.get 1)) (i32.trunc_f64_s (local.get 2)))))"""
        ).loaded
    )
    assert store.call("f", 30) == [60]


def test_the_mode_decides_which_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(tmp_path / "cache"))
    text = EXPORTER.replace("i32.const 10", "i32.const 11")
    states = {}
    for mode in MODES:
        store = engine(mode)
        instance = store.instantiate(text)
        before = instance.code_status.state
        store.call("add", 1)
        states[mode] = before, instance.code_status.state, {t for t, _ in instance.loaded._units}
    assert states == {
        BASELINE: (CodeState.BASELINE, CodeState.BASELINE, {Tier.BASELINE}),
        CompilationMode.TIERED: (CodeState.BASELINE, CodeState.OPTIMIZED, {Tier.OPTIMIZED}),
        OPTIMIZED: (CodeState.OPTIMIZED, CodeState.OPTIMIZED, {Tier.OPTIMIZED}),
    }
