"""Units in the cache, of both tiers: found again, and made anew when they are not what they should
be."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.runtime.engine import Engine, wait_until
from tests.runtime.helpers import engine, module_of
from wasmedge_runtime import CodeState, CompilationMode, Configure, Statistics, cache
from wasmedge_runtime.codegen.llvm import compile_object
from wasmedge_runtime.tiers.module import CompiledModule
from wasmedge_runtime.tiers.plan import Tier
from wasmedge_runtime.tiers.unit import (
    TARGETS,
    UnitCode,
    compile_unit,
    journal_name,
    load_unit,
    pack,
    unpack,
)

MODES = {Tier.BASELINE: CompilationMode.BASELINE, Tier.OPTIMIZED: CompilationMode.OPTIMIZED}

TEXT = """(module (func $f (export "f") (param i32) (result i32) (i32.add (local.get 0) (call $g)))
  (func $g (export "g") (result i32) (i32.const 30)) (func (export "h") (result i32) (i32.const 7)))
"""
OTHER = """(module (func (export "f") (param i32) (result i32) (i32.const -1)))"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(place))
    return place


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tier, int]]:
    """What this process compiles: tier, and first function."""
    seen: list[tuple[Tier, int]] = []

    def note(*args: Any) -> UnitCode:
        [tier] = [tier for tier, target in TARGETS.items() if target == args[3]]
        seen.append((tier, args[4][0]))
        return compile_unit(*args)

    monkeypatch.setattr("wasmedge_runtime.tiers.module.compile_unit", note)
    return seen


def start(tier: Tier, gas: bool = False) -> tuple[Engine, CompiledModule]:
    """The module anew: nothing of it is loaded."""
    gc.collect()
    configuration = Configure()
    configuration.compilation_mode = MODES[tier]
    configuration.statistics_cost_measuring = gas
    store = Engine(configuration, Statistics())
    return store, store.instantiate(TEXT).loaded


def run(tier: Tier, gas: bool = False) -> tuple[list[int], ...]:
    store, _ = start(tier, gas)
    return store.call("f", 12), store.call("g"), store.call("h")


RIGHT = ([42], [30], [7])


def stored(code: CompiledModule, tier: Tier) -> UnitCode | None:
    """The unit of the first function, as the cache has it."""
    if tier == Tier.OPTIMIZED:
        return load_unit(code.name(0))
    piece = cache.Journal(journal_name(code.digest, code.variant)).get(0)
    return None if piece is None else unpack(piece)


def replace(code: CompiledModule, tier: Tier, content: bytes) -> None:
    """Put something else in its place."""
    if tier == Tier.OPTIMIZED:
        cache.store(code.name(0), content)
        return
    journal = cache.Journal(journal_name(code.digest, code.variant))
    with journal.claim(0) as write:
        write(content)


@pytest.mark.parametrize("tier", list(Tier))
def test_the_next_start_compiles_nothing(tier: Tier, compiled: list[tuple[Tier, int]]) -> None:
    assert run(tier) == RIGHT
    assert {kind for kind, _ in compiled} == {tier}
    compiled.clear()
    assert run(tier) == RIGHT
    assert compiled == []


def test_what_one_tier_has_left_the_other_does_not_take(compiled: list[tuple[Tier, int]]) -> None:
    run(Tier.OPTIMIZED)
    compiled.clear()
    run(Tier.BASELINE)
    assert {kind for kind, _ in compiled} == {Tier.BASELINE}


def test_the_default_mode_takes_what_was_optimised(compiled: list[tuple[Tier, int]]) -> None:
    text = module_of(2)
    first = engine(CompilationMode.OPTIMIZED)
    first.instantiate(text)
    del first
    store = engine(CompilationMode.TIERED)
    instance = store.instantiate(text)
    assert store.call("f1", 1) == [2]
    assert instance.code_status == (CodeState.OPTIMIZED, 2, 0, 2, True)
    assert compiled == []


def other_object(unit: UnitCode) -> bytes:
    store = engine(CompilationMode.OPTIMIZED)
    code = store.instantiate(OTHER).loaded
    other = load_unit(code.name(0))
    assert other is not None
    return other.data


def foreign_object(symbol: str) -> bytes:
    return compile_object(
        f"""declare i32 @{symbol}(i32)
        define i32 @f0(ptr %c, i32 %a) {{ %r = call i32 @{symbol}(i32 %a)  ret i32 %r }}
        define i32 @f1(ptr %c) {{ ret i32 0 }} define i32 @f2(ptr %c) {{ ret i32 0 }}""",
        2,
    )


DAMAGES: dict[str, Callable[[UnitCode], UnitCode | bytes]] = {
    "nothing": lambda unit: b"",
    "no message": lambda unit: b"\xc1",
    "part of it": lambda unit: pack(unit)[:-20],
    "fewer fields": lambda unit: bytes(msgpack.packb(list(unit)[:2])),
    "other kinds": lambda unit: bytes(msgpack.packb([unit.functions, unit.data, unit.runs])),
    "half an object": lambda unit: unit._replace(data=unit.data[: len(unit.data) // 2]),
    "no object": lambda unit: unit._replace(data=b"\x7fELF" + bytes(500)),
    "the object of another module": lambda unit: unit._replace(data=other_object(unit)),
    "an object that calls the system": lambda unit: unit._replace(data=foreign_object("system")),
    "an object with unknown symbols": lambda unit: unit._replace(data=foreign_object("nothing")),
    "other functions": lambda unit: unit._replace(functions=[2]),
    "functions in another order": lambda unit: unit._replace(functions=[1, 0, 2]),
    "functions that are not there": lambda unit: unit._replace(functions=[0, 1, 2, 3]),
    "a negative function": lambda unit: unit._replace(functions=[0, -1]),
    "no functions": lambda unit: unit._replace(functions=[]),
}


@pytest.mark.parametrize("tier", list(Tier))
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_unit_that_is_not_what_it_should_be_is_made_anew(
    tier: Tier, damage: str, compiled: list[tuple[Tier, int]]
) -> None:
    assert run(tier) == RIGHT
    _, code = start(tier)
    unit = stored(code, tier)
    assert unit is not None
    broken = DAMAGES[damage](unit)
    replace(code, tier, pack(broken) if isinstance(broken, UnitCode) else broken)
    del code, _
    compiled.clear()
    assert run(tier) == RIGHT
    assert compiled == [(tier, 0)]
    assert stored(start(tier)[1], tier) == unit


@pytest.mark.parametrize("tier", list(Tier))
@pytest.mark.parametrize(
    "runs", [[], [[b"\x6a"]] * 2, [[b"\x6a"]] * 3, [["\x6a\0"]] * 3, [b"\x6a\0"] * 3]
)
def test_gas_of_a_unit_that_is_not_what_it_should_be(tier: Tier, runs: list[Any]) -> None:
    assert run(tier, gas=True) == RIGHT
    _, code = start(tier, gas=True)
    unit = stored(code, tier)
    assert unit is not None
    replace(code, tier, pack(unit._replace(runs=runs)))
    del code, _
    assert run(tier, gas=True) == RIGHT
    assert stored(start(tier, gas=True)[1], tier) == unit


def test_damaged_units_among_many_are_optimised_again() -> None:
    """Each turns out when its function is called, when helpers have done the others already."""
    text = module_of(3, 300)
    first = engine(CompilationMode.OPTIMIZED)
    code = first.instantiate(text).loaded
    names = [code.name(number) for number in range(3)]
    for name in names[:2]:
        cache.store(name, b"damaged")
    del first, code
    store = engine(CompilationMode.TIERED)
    instance = store.instantiate(text)
    for number in range(3):
        assert store.call(f"f{number}", 0) == [300 + number]
        wait_until(lambda: not instance.loaded.optimizing)
    assert instance.code_status == (CodeState.OPTIMIZED, 3, 0, 3, False)
    assert all(load_unit(name) is not None for name in names)


@pytest.mark.parametrize("tier", list(Tier))
def test_the_status_says_when_nothing_was_compiled(tier: Tier) -> None:
    store, code = start(tier)
    assert store.call("f", 5) == [35]
    assert not code.status.from_cache
    del store, code
    store, code = start(tier)
    assert store.call("f", 5) == [35]
    assert code.status.from_cache
