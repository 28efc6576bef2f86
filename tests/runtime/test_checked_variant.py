"""The variant that compares instead of faulting: where 8 GiB of address space are not to be had."""

from __future__ import annotations

import signal

import pytest

from tests.runtime.engine import Engine, Running, output_of, wait_until
from tests.spec import suite
from tests.spec.runner import run_file
from wasmedge_runtime import ErrCode, Limit, Memory, MemoryType, Trap
from wasmedge_runtime.native import support

ACCESSES = """(module (memory (export "memory") 1 3)
  (data $d "abcdef")
  (func (export "load8") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "load64") (param i32) (result i64) (i64.load offset=8 (local.get 0)))
  (func (export "load128") (param i32) (result i64)
    (i64x2.extract_lane 1 (v128.load offset=0xfffffff0 (local.get 0))))
  (func (export "store32") (param i32) (i32.store (local.get 0) (i32.const -1)))
  (func (export "constant") (result i32) (i32.load (i32.const 65533)))
  (func (export "fill") (param i32 i32) (memory.fill (local.get 0) (i32.const 5) (local.get 1)))
  (func (export "copy") (param i32 i32 i32)
    (memory.copy (local.get 0) (local.get 1) (local.get 2)))
  (func (export "init") (param i32 i32 i32)
    (memory.init $d (local.get 0) (local.get 1) (local.get 2)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "size") (result i32) (memory.size))
  (func (export "spin") (loop (br 0)))
  (func $recurse (export "recurse") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 1))
      (else (i32.add (call $recurse (i32.sub (local.get 0) (i32.const 1)))
                     (call $recurse (i32.sub (local.get 0) (i32.const 1)))))))
  (func (export "recurse_60") (drop (call $recurse (i32.const 60))))
  (func (export "nest") (loop (loop (br_if 0 (i32.load8_u (i32.const 0)))) (br 0))))"""

PAGE = 65536

OUTSIDE = [
    ("load8", PAGE),
    ("load8", -1),
    ("load64", PAGE - 15),
    ("load64", -1),
    ("load128", 0),
    ("load128", -1),
    ("store32", PAGE - 3),
    ("constant",),
    ("fill", PAGE, 1),
    ("fill", 1, -1),
    ("copy", PAGE - 3, 0, 4),
    ("copy", 0, PAGE - 3, 4),
    ("init", 0, 4, 3),
    ("init", PAGE - 2, 0, 3),
]
INSIDE = [
    ("load8", PAGE - 1),
    ("load64", PAGE - 16),
    ("store32", PAGE - 4),
    ("fill", PAGE, 0),
    ("copy", PAGE - 4, 0, 4),
    ("init", 0, 6, 0),
]


def check_bounds(engine: Engine) -> None:
    exports = engine.exports(ACCESSES)
    memory = exports["memory"]
    for name, *arguments in INSIDE:
        exports[name](*arguments)
    for name, *arguments in OUTSIDE:
        before = memory.get_data(0, PAGE)
        with pytest.raises(Trap) as caught:
            exports[name](*arguments)
        assert caught.value.code is ErrCode.MemoryOutOfBounds, name
        assert memory.get_data(0, PAGE) == before, name
    assert exports["grow"](2) == [1]
    assert exports["size"]() == [3]
    assert exports["load8"](3 * PAGE - 1) == [0]
    assert exports["grow"](1) == [-1]
    with pytest.raises(Trap):
        exports["load8"](3 * PAGE)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address space for reservations that need no checks."""
    monkeypatch.setattr("wasmedge_runtime.memory.GUARDED_BYTES", 1 << 62)
    assert not Memory(MemoryType(Limit(1))).guarded


def test_bounds_in_the_guarded_variant() -> None:
    assert Memory(MemoryType(Limit(1))).guarded
    check_bounds(Engine())


@pytest.mark.usefixtures("checked")
def test_bounds_in_the_checked_variant() -> None:
    engine = Engine()
    check_bounds(engine)
    anonymous = engine.store._anonymous
    assert anonymous is not None
    assert not anonymous.loaded.variant.guarded


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("name", ["spin", "nest", "recurse_60"])
def test_loops_and_functions_look_for_an_interruption(name: str) -> None:
    """With the signal blocked, only the loop itself can notice the request."""
    engine = Engine()
    exports = engine.exports(ACCESSES)
    exports["store32"](0)

    def spin() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {support.INTERRUPT_SIGNAL})
        exports[name]()

    running = Running(spin)
    wait_until(lambda: engine.running)
    engine.store.interrupt()
    assert running.trap().code is ErrCode.Interrupted
    assert exports["load8"](4) == [0]


def test_memories_of_both_kinds_in_one_store() -> None:
    """A module that imports a memory without a guard is compiled with checks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wasmedge_runtime.memory.GUARDED_BYTES", 1 << 62)
        small = Engine()
        instance = small.register("small", '(module (memory (export "memory") 1 2))')
        assert not instance.memories[0].guarded
    instance = small.instantiate(
        """(module (import "small" "memory" (memory 1))
          (func (export "f") (param i32) (result i32) (i32.load (local.get 0)))
          (func (export "grow") (result i32) (memory.grow (i32.const 1))))"""
    )
    assert not instance.loaded.variant.guarded
    assert small.call("f", PAGE - 4) == [0]
    with pytest.raises(Trap):
        small.call("f", PAGE - 3)
    assert small.call("grow") == [1]
    assert small.call("f", PAGE - 3) == [0]
    guarded = small.instantiate('(module (memory 1) (func (export "f") (result i32) memory.size))')
    assert guarded.loaded.variant.guarded
    assert small.call("f") == [1]


def test_a_process_with_little_address_space() -> None:
    output = output_of(
        """
        import resource
        from tests.runtime import test_checked_variant as tests
        from tests.runtime.engine import Engine, Running, wait_until
        from wasmedge_runtime import Limit, Memory, MemoryType

        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        assert not Memory(MemoryType(Limit(1))).guarded
        tests.check_bounds(Engine())
        for _ in range(50):  # each takes address space, and gives it back
            engine = Engine()
            engine.instantiate(tests.ACCESSES)
        running = Running(engine.call, "spin")
        wait_until(lambda: engine.running)
        engine.store.interrupt()
        print(running.trap().code.name)
        """
    )
    assert output == "Interrupted"


def test_a_memory_that_does_not_fit_into_the_address_space_is_refused() -> None:
    output = output_of(
        """
        import resource
        from tests.runtime.engine import Engine
        from wasmedge_runtime import WasmEdgeError

        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        engine = Engine()
        try:
            engine.instantiate("(module (memory 60000))")
        except WasmEdgeError as error:
            print(error.code.name, error.message)
        engine.instantiate('(module (memory 1) (func (export "f") (result i32) memory.size))')
        print(engine.call("f"))
        """
    )
    first, second = output.splitlines()
    assert first.startswith("RuntimeError no room for a memory of 60000 pages")
    assert second == "[1]"


SPECIFICATION = [
    "address", "align", "endianness", "float_memory", "load",
    "memory_copy", "memory_fill", "memory_init", "memory_redundancy",
    "memory_trap", "simd_address", "simd_load", "simd_store", "store", "traps",
]  # fmt: skip


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("name", SPECIFICATION)
def test_the_official_files_about_memory_pass_with_checks(name: str) -> None:
    directory = suite.find_suite()
    if directory is None:
        pytest.skip(suite.NOT_FOUND)
    report = run_file(directory, name)
    assert report.failures == []
    assert report.passed
