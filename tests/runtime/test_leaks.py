"""Whatever is done a thousand times leaves resident memory as it was, and what else there is."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.runtime.engine import EXTERNREF, I32, Engine, wait_until
from tests.runtime.helpers import module_of
from tests.wat import wat
from wasmedge_runtime import (
    VM,
    CompilationMode,
    Configure,
    ExternRef,
    HostFunctionError,
    Limit,
    Memory,
    MemoryType,
    Trap,
)
from wasmedge_runtime.native.code import CodeRegion
from wasmedge_runtime.tiers import optimizer
from wasmedge_runtime.tiers.plan import Tier

ROUNDS = 1000
WARM_UP = 300
TOLERANCE = 1 << 20
"""Bytes by which the resident memory may differ: 1 KB a round is a leak."""

MODULE = """(module (import "host" "echo" (func $echo (param externref i32) (result i32)))
  (memory (export "memory") 1 4) (data (i32.const 0) "data")
  (table (export "table") 10 funcref) (elem (i32.const 0) $add $f)
  (global (export "global") (mut i32) (i32.const 1))
  (func $add (export "add") (param i32 i32) (result i32)
    (i32.store (i32.const 8) (local.get 0))
    (i32.add (i32.load (i32.const 8)) (local.get 1)))
  (func $f (export "f") (param externref) (result i32)
    (call $echo (local.get 0) (i32.const 7)))
  (func (export "trap") (drop (i32.load (i32.const -1))))
  (func $deep (export "deep") (call $deep) (call $deep))
  (func (export "grow") (drop (memory.grow (i32.const 1)))))"""


def resident() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def stays_flat(work: Callable[[int], object], rounds: int = ROUNDS) -> None:
    for n in range(WARM_UP):
        work(n)
    before = resident()
    for n in range(rounds):
        work(n)
    assert resident() - before < TOLERANCE


class Held(NamedTuple):
    """What this process holds beside memory, when no helper is at work."""

    descriptors: int
    threads: int
    free: list[list[tuple[int, int]]]
    """Of the region for code, the parts that are free."""


def helpers() -> list[str]:
    """The helper processes of this one; other tests in it may have left other children."""
    found = []
    for thread in os.listdir("/proc/self/task"):
        for child in Path(f"/proc/self/task/{thread}/children").read_text().split():
            with contextlib.suppress(OSError):
                if b"tiers.helper" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
    return found


def held() -> Held:
    wait_until(lambda: not any("wasmedge-opt" in t.name for t in threading.enumerate()))
    wait_until(lambda: not helpers())
    gc.collect()
    region = CodeRegion.get()
    with region._lock:
        region._collect()
        free = [list(area._free) for area in (region.guest, region.support, region.data)]
    return Held(
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        free,
    )


def mappings() -> int:
    """Python's own memory changes it a little."""
    return len(Path("/proc/self/maps").read_text().splitlines())


def in_mode(mode: CompilationMode) -> Configure:
    configuration = Configure()
    configuration.compilation_mode = mode
    return configuration


def engine_with_host(mode: CompilationMode = CompilationMode.TIERED) -> Engine:
    engine = Engine(in_mode(mode))
    engine.host(echo=([EXTERNREF, I32], [I32], lambda data, memory, reference, n: n))
    return engine


def test_loading_instantiating_calling_and_closing() -> None:
    wat(MODULE)

    def work(n: int) -> None:
        engine = engine_with_host()
        exports = engine.exports(MODULE)
        assert exports["add"](n, 1) == [n + 1]
        assert engine.call("f", object()) == [7]
        exports["grow"]()
        assert exports["table"].get_data(0) is not None
        engine.store.close()

    stays_flat(work)


@pytest.mark.parametrize("mode", list(CompilationMode))
def test_code_of_every_mode_goes_with_its_module(mode: CompilationMode) -> None:
    wat(MODULE)

    def work(n: int) -> None:
        engine = engine_with_host(mode)
        code = engine.instantiate(MODULE).loaded
        assert engine.call("add", n, 1) == [n + 1]
        assert engine.call("f", object()) == [7]
        if n % 10 == 0:
            for tier in Tier:
                code.use(tier)
                assert engine.call("add", n, 1) == [n + 1]

    work(0)
    before, mapped = held(), mappings()
    stays_flat(work, 300)
    assert held() == before
    assert mappings() < mapped + 20


def test_helpers_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(optimizer, "_IDLE_SECONDS", 0.05)

    def work(mode: CompilationMode, seed: int) -> None:
        engine = Engine(in_mode(mode))
        instance = engine.instantiate(module_of(2, seed))
        assert engine.call("f0", 1) == [seed + 1]
        wait_until(lambda: not instance.loaded.optimizing)
        assert instance.code_status.optimized == 2

    for seed, mode in enumerate([CompilationMode.TIERED, CompilationMode.OPTIMIZED]):
        work(mode, seed)
    before = held()
    for seed, mode in enumerate([CompilationMode.TIERED, CompilationMode.OPTIMIZED] * 2, 2):
        work(mode, seed)
    assert held() == before


def test_running_different_modules_in_one_vm() -> None:
    modules = [
        wat(f'(module (memory 1) (func (export "f") (result i32) (i32.const {n})))')
        for n in range(10)
    ]
    with VM() as vm:

        def work(n: int) -> None:
            assert vm.run_wasm_buffer(modules[n % 10], "f") == [n % 10]

        stays_flat(work)


def test_registering_and_cleaning_up_in_one_vm() -> None:
    module = wat(
        '(module (table (export "t") 3 funcref) (func (export "f") (result i32) (i32.const 1)))'
    )
    with VM() as vm:

        def work(n: int) -> None:
            vm.register_wasm_buffer("m", module)
            assert vm.execute_registered("m", "f") == [1]
            vm.cleanup()

        stays_flat(work)


@pytest.mark.parametrize("name", ["trap", "deep"])
def test_traps(name: str) -> None:
    engine = engine_with_host()
    function = engine.exports(MODULE)[name]

    def work(n: int) -> None:
        with pytest.raises(Trap):
            function()

    stays_flat(work)


def test_host_functions_and_references() -> None:
    engine = engine_with_host()
    function = engine.exports(MODULE)["f"]

    def work(n: int) -> None:
        for _ in range(10):
            assert function(bytearray(100)) == [7]
        with ExternRef(bytearray(1000)) as reference:
            assert function(reference) == [7]

    stays_flat(work)


def test_host_functions_that_fail() -> None:
    engine = Engine()

    def fail(data: object, memory: object) -> None:
        raise ValueError(bytearray(10000))

    engine.host(fail=([], [], fail))
    engine.instantiate(
        '(module (import "host" "fail" (func $fail)) (func (export "f") (call $fail)))'
    )

    def work(n: int) -> None:
        with pytest.raises(HostFunctionError):
            engine.call("f")

    stays_flat(work)


def test_host_modules_in_new_stores() -> None:
    def work(n: int) -> None:
        engine_with_host().instantiate(MODULE)

    stays_flat(work)


def test_modules_that_cannot_be_instantiated() -> None:
    engine = engine_with_host()
    broken = '(module (memory 1) (data (i32.const 65536) "x") (func (export "f")))'

    def work(n: int) -> None:
        with pytest.raises(Trap):
            engine.instantiate(broken)

    stays_flat(work)


def test_address_space_is_given_back() -> None:
    """More memories in turn than fit into the address space at once, which is about 16,000."""
    for _ in range(17_000):
        assert Memory(MemoryType(Limit(1))).guarded
    engine = Engine()
    for _ in range(300):
        engine.instantiate("(module (memory 1))")
    assert len(engine.store.core._memories) < 300
