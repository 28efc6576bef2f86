"""ModuleInstance.reset: an instance becomes what it was right after its instantiation."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest

from tests.runtime.engine import I32, Engine, Running, wait_until
from wasmedge_runtime import (
    ErrCode,
    Function,
    FunctionType,
    Global,
    GlobalType,
    HostFunctionError,
    ImportObject,
    Limit,
    Memory,
    MemoryType,
    ModuleInstance,
    RefType,
    Table,
    TableType,
    Trap,
    ValMut,
    WasmEdgeError,
)

PAGE = 65536
LARGE = "x" * 100_000
"""Data that is worth an image."""


@pytest.fixture(params=["copied", "first", "second"])
def memory_instance(request: pytest.FixtureRequest) -> ModuleInstance:
    """With a memory of three pages, which may grow to six: data that is copied, and data that is
    mapped, in the first instance from the first reset on, in the second one from the beginning."""
    engine = Engine()
    data = "small data" if request.param == "copied" else LARGE
    module = engine.load(
        f"""(module (memory (export "memory") 3 6) (data (i32.const 10) "{data}")
          (func (export "get") (param i32) (result i32) (i32.load8_u (local.get 0)))
          (func (export "set") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
          (func (export "size") (result i32) (memory.size)))"""
    )
    instance = engine.executor.instantiate(engine.store, module)
    if request.param == "second":
        instance = engine.executor.instantiate(engine.store, module)
    return instance


def content(instance: Any) -> bytes:
    memory = instance.exports["memory"]
    return bytes(memory.get_data(0, memory.page_size * PAGE))


def test_a_memory_has_its_initial_content_again(memory_instance: Any) -> None:
    before = content(memory_instance)
    for _ in range(3):
        memory_instance.exports["memory"].set_data(b"\xff" * (3 * PAGE), 0)
        memory_instance.reset()
        assert content(memory_instance) == before
        memory_instance.exports["set"](3 * PAGE - 1, 7)  # beyond the image
        memory_instance.exports["set"](11, 7)
        memory_instance.reset()
        assert content(memory_instance) == before


def test_a_memory_has_its_initial_size_again(memory_instance: Any) -> None:
    exports = memory_instance.exports
    for _ in range(3):
        assert exports["grow"](2) == [3]
        exports["set"](5 * PAGE - 1, 9)
        memory_instance.reset()
        assert exports["size"]() == [3]
        assert exports["memory"].page_size == 3
        with pytest.raises(Trap) as caught:
            exports["get"](3 * PAGE)
        assert caught.value.code is ErrCode.MemoryOutOfBounds
        assert exports["grow"](3) == [3]
        assert exports["get"](5 * PAGE - 1) == [0]
        assert exports["grow"](1) == [-1]
        memory_instance.reset()


def test_a_memory_of_no_pages_can_be_reset() -> None:
    engine = Engine()
    instance: Any = engine.instantiate(
        """(module (memory (export "memory") 0)
          (func (export "grow") (result i32) (memory.grow (i32.const 1))))"""
    )
    for _ in range(2):
        assert instance.exports["grow"]() == [0]
        instance.reset()
        assert instance.exports["memory"].page_size == 0


def test_a_view_shows_the_content_after_a_reset(memory_instance: Any) -> None:
    memory = memory_instance.exports["memory"]
    view = memory.view()
    before = bytes(view)
    view[5] = view[20] = 200
    memory_instance.reset()
    assert bytes(view) == before
    view[5] = 1
    assert memory_instance.exports["get"](5) == [1]


def test_a_view_of_what_a_memory_has_grown_by_refuses_the_reset(memory_instance: Any) -> None:
    exports = memory_instance.exports
    exports["grow"](1)
    exports["set"](5, 77)
    view = exports["memory"].view()
    part = view[4 * PAGE - 1 :]
    del view
    with pytest.raises(WasmEdgeError, match=r"release\(\) the view") as caught:
        memory_instance.reset()
    assert caught.value.code is ErrCode.RuntimeError
    assert exports["size"]() == [4]
    assert exports["get"](5) == [77]
    part[0] = 1
    assert exports["get"](4 * PAGE - 1) == [1]
    part.release()
    del part
    memory_instance.reset()
    assert exports["size"]() == [3]
    assert exports["get"](5) == [0]


def test_reset_after_a_trap(memory_instance: Any) -> None:
    exports = memory_instance.exports
    before = content(memory_instance)
    exports["set"](0, 1)
    with pytest.raises(Trap):
        exports["get"](-1)
    memory_instance.reset()
    assert content(memory_instance) == before
    with pytest.raises(Trap) as caught:
        exports["set"](3 * PAGE, 1)
    assert caught.value.code is ErrCode.MemoryOutOfBounds


def test_globals_have_their_initial_values_again() -> None:
    engine = Engine()
    imports = ImportObject("host")
    imports.add_global("seven", Global(GlobalType(I32, ValMut.CONST), 7))
    engine.executor.register_import(engine.store, imports)
    instance: Any = engine.instantiate(
        """(module (import "host" "seven" (global $seven i32))
          (global (export "a") (mut i32) (i32.const -1))
          (global (export "b") (mut i64) (i64.const -9223372036854775808))
          (global (export "c") (mut f64) (f64.const -0.5))
          (global (export "d") (mut f32) (f32.const 1.25))
          (global (export "e") (mut v128) (v128.const i64x2 1 -1))
          (global (export "f") (mut i32) (global.get $seven))
          (global (export "g") (mut funcref) (ref.func $f))
          (global (export "h") (mut externref) (ref.null extern))
          (global $hidden (mut i32) (i32.const 3))
          (func $f (export "count") (result i32)
            (global.set $hidden (i32.add (global.get $hidden) (i32.const 1)))
            (global.get $hidden)))"""
    )
    cells = {name: instance.exports[name] for name in "abcdef"}
    before = {name: cell.value for name, cell in cells.items()}
    assert list(before.values()) == [-1, -(1 << 63), -0.5, 1.25, before["e"], 7]
    others = [8, 8, 8.0, 8.0, type(before["e"]).from_bytes(bytes(16)), 8]
    for cell, value in zip(cells.values(), others, strict=True):
        cell.value = value
    instance.exports["g"].value = None
    instance.exports["h"].value = object()
    assert instance.exports["count"]() == [4]
    instance.reset()
    assert {name: cell.value for name, cell in cells.items()} == before
    assert instance.exports["g"].value.function == instance.exports["count"]
    assert instance.exports["h"].value is None
    assert instance.exports["count"]() == [4]


@pytest.mark.parametrize("limits", ["4 8", "4", "4 20000"])
def test_tables_have_their_initial_size_and_elements_again(limits: str) -> None:
    engine = Engine()
    engine.host(hello=([], [I32], lambda data, memory: 5))
    instance: Any = engine.instantiate(
        f"""(module (import "host" "hello" (func $hello (result i32)))
          (type $kind (func (result i32)))
          (table $t (export "t") {limits} funcref)
          (elem (i32.const 1) func $one $hello)
          (func $one (result i32) (i32.const 1))
          (func (export "call") (param i32) (result i32)
            (call_indirect (type $kind) (local.get 0)))
          (func (export "grow") (param i32) (result i32)
            (table.grow $t (ref.func $one) (local.get 0))))"""
    )
    exports = instance.exports
    table = exports["t"]
    for _ in range(2):
        assert exports["grow"](4) == [4]
        assert exports["call"](7) == [1]
        table.set_data(Function(FunctionType([], [I32]), lambda data, memory: 9), 1)
        table.set_data(None, 2)
        table.set_data(exports["call"], 3)
        assert exports["call"](1) == [9]
        instance.reset()
        assert table.size == 4
        assert [table.get_data(i) is None for i in range(4)] == [True, False, False, True]
        assert exports["call"](1) == [1]
        assert exports["call"](2) == [5]
        with pytest.raises(Trap) as caught:
            exports["call"](4)
        assert caught.value.code is ErrCode.UndefinedElement
        assert exports["grow"](1) == [4]
        table.set_data(None, 4)
        instance.reset()


def test_a_large_table_is_null_again_where_it_was_written_to() -> None:
    engine = Engine()
    instance: Any = engine.instantiate(
        """(module (table (export "t") 100000 200000 funcref) (elem (i32.const 99999) func $f)
          (func $f (export "f"))
          (func (export "fill") (drop (table.grow 0 (ref.func $f) (i32.const 50000)))
            (table.fill 0 (i32.const 0) (ref.func $f) (i32.const 150000)))
          (func (export "grow") (result i32)
            (table.grow 0 (ref.null func) (i32.const 50000))))"""
    )
    table = instance.exports["t"]
    instance.exports["fill"]()
    instance.reset()
    assert table.size == 100000
    assert sum(1 for handle in table.handles() if handle) == 1
    assert table.get_data(99999) is not None
    assert instance.exports["grow"]() == [100000]
    assert sum(1 for handle in table.handles() if handle) == 1


def test_dropped_segments_are_there_again() -> None:
    engine = Engine()
    instance: Any = engine.instantiate(
        """(module (memory (export "memory") 1) (data $d "data")
          (table (export "table") 2 2 funcref) (elem $e func $f $f)
          (func $f (export "use")
            (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4))
            (table.init $e (i32.const 0) (i32.const 0) (i32.const 2))
            (data.drop $d) (elem.drop $e)))"""
    )
    for _ in range(3):
        instance.exports["use"]()
        assert instance.exports["memory"].get_data(0, 4) == b"data"
        assert instance.exports["table"].get_data(1) is not None
        with pytest.raises(Trap):
            instance.exports["use"]()
        instance.reset()
        assert instance.exports["memory"].get_data(0, 4) == bytes(4)
        assert instance.exports["table"].get_data(1) is None


def test_the_start_function_runs_again() -> None:
    engine = Engine()
    calls: list[int] = []
    engine.host(note=([I32], [], lambda data, memory, n: calls.append(n)))
    instance: Any = engine.instantiate(
        """(module (import "host" "note" (func $note (param i32)))
          (memory (export "memory") 1) (global $g (mut i32) (i32.const 5))
          (func $start
            (call $note (i32.add (global.get $g) (i32.load (i32.const 0))))
            (global.set $g (i32.const 100)) (i32.store (i32.const 0) (i32.const 42)))
          (start $start))"""
    )
    instance.exports["memory"].set_data(b"\x09", 0)
    instance.reset()
    assert calls == [5, 5]
    assert instance.exports["memory"].get_data(0, 1) == b"\x2a"


def test_a_start_function_that_fails_ends_the_reset() -> None:
    engine = Engine()
    fail = False

    def body(data: object, memory: object) -> None:
        if fail:
            raise ValueError("not again")

    engine.host(check=([], [], body))
    instance: Any = engine.instantiate(
        """(module (import "host" "check" (func $check)) (memory (export "memory") 1)
          (func (export "get") (result i32) (i32.load (i32.const 0))) (start $check))"""
    )
    instance.exports["memory"].set_data(b"\1", 0)
    fail = True
    with pytest.raises(HostFunctionError, match="not again"):
        instance.reset()
    assert instance.exports["get"]() == [0]


def test_exports_stay_the_same_objects(memory_instance: Any) -> None:
    held = dict(memory_instance.exports)
    memory_instance.reset()
    for name, extern in memory_instance.exports.items():
        assert extern == held[name]
    assert memory_instance.exports["memory"] is held["memory"]


def test_what_is_imported_is_left_alone() -> None:
    engine = Engine()
    imports = ImportObject("host")
    memory, table = Memory(MemoryType(Limit(1, 3))), Table(TableType(RefType.FUNCREF, Limit(3)))
    cell = Global(GlobalType(I32, ValMut.VAR), 1)
    imports.add_memory("memory", memory)
    imports.add_table("table", table)
    imports.add_global("cell", cell)
    engine.executor.register_import(engine.store, imports)
    instance: Any = engine.instantiate(
        """(module (import "host" "memory" (memory 1 3)) (import "host" "table" (table 3 funcref))
          (import "host" "cell" (global (mut i32)))
          (table $own (export "own") 3 3 funcref)
          (data (i32.const 0) "data") (elem (i32.const 0) func $f)
          (elem (table $own) (i32.const 0) func $f)
          (func $f (export "f")))"""
    )
    memory.set_data(b"DA", 0)
    memory.grow_page(1)
    table.set_data(None, 0)
    table.set_data(instance.exports["f"], 2)
    table.grow(1)
    cell.value = 2
    instance.exports["own"].set_data(None, 0)
    instance.reset()
    assert memory.get_data(0, 4) == b"DAta"
    assert memory.page_size == 2
    assert [table.get_data(i) is None for i in range(4)] == [True, True, False, True]
    assert cell.value == 2
    assert instance.exports["own"].get_data(0) is not None


def test_what_others_import_is_reset_for_them_too() -> None:
    engine = Engine()
    owner = engine.register(
        "owner", f'(module (memory (export "memory") 2) (data (i32.const 0) "{LARGE}"))'
    )
    engine.instantiate(
        """(module (import "owner" "memory" (memory 2))
          (func (export "get") (param i32) (result i32) (i32.load8_u (local.get 0)))
          (func (export "set") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
          (func (export "grow") (result i32) (memory.grow (i32.const 1))))"""
    )
    for _ in range(2):
        engine.call("set", 1, 1)
        assert engine.call("grow") == [2]
        owner.reset()
        assert engine.call("get", 1) == [ord("x")]
        with pytest.raises(Trap):
            engine.call("get", 2 * PAGE)


def test_segments_whose_offset_is_imported_are_written_again() -> None:
    engine = Engine()
    imports = ImportObject("host")
    imports.add_global("at", Global(GlobalType(I32, ValMut.CONST), 1))
    engine.executor.register_import(engine.store, imports)
    instance: Any = engine.instantiate(
        f"""(module (import "host" "at" (global $at i32))
          (memory (export "memory") 2) (data (global.get $at) "{LARGE}")
          (table (export "table") 3 3 funcref) (elem (global.get $at) func $f) (func $f))"""
    )
    for _ in range(2):
        instance.exports["memory"].set_data(b"abc", 0)
        instance.exports["table"].set_data(None, 1)
        instance.reset()
        assert instance.exports["memory"].get_data(0, 3) == b"\0xx"
        assert instance.exports["memory"].get_data(100_000, 2) == b"x\0"
        assert instance.exports["table"].get_data(1) is not None


def test_a_call_in_progress_refuses_the_reset() -> None:
    engine = Engine()
    instances: list[Any] = []

    def body(data: object, memory: object) -> None:
        instances[0].reset()

    engine.host(reset=([], [], body))
    instances.append(
        engine.instantiate(
            """(module (import "host" "reset" (func $reset)) (memory (export "memory") 1)
              (func (export "f") (i32.store (i32.const 0) (i32.const 1)) (call $reset)))"""
        )
    )
    with pytest.raises(HostFunctionError) as caught:
        engine.call("f")
    assert isinstance(caught.value.__cause__, WasmEdgeError)
    assert caught.value.__cause__.code is ErrCode.WrongVMWorkflow
    assert instances[0].exports["memory"].get_data(0, 1) == b"\1"


def test_a_call_in_another_thread_refuses_the_reset() -> None:
    engine = Engine()
    instance = engine.instantiate(
        '(module (memory 1) (func (export "spin") (loop $l (br $l))) (func (export "f")))'
    )
    other = Engine().instantiate("(module (memory 1))")
    running = Running(engine.call, "spin")
    wait_until(lambda: engine.running)
    with pytest.raises(WasmEdgeError, match="runs a call") as caught:
        instance.reset()
    assert caught.value.code is ErrCode.WrongVMWorkflow
    other.reset()  # of another Store
    engine.store.interrupt()
    assert running.trap().code is ErrCode.Interrupted
    instance.reset()


def test_resets_beside_readers_in_other_threads(memory_instance: Any) -> None:
    """What they see is the memory before, or after; a view that is too long is refused or waits."""
    memory = memory_instance.exports["memory"]
    before = content(memory_instance)
    stop = threading.Event()

    def read() -> int:
        rounds = 0
        while not stop.is_set():
            with memory.view() as view:
                assert len(view) in (3 * PAGE, 4 * PAGE, 5 * PAGE, 6 * PAGE)
                assert view[0] in (0, 9)
                assert view[len(view) - 1] in (0, 9)
            rounds += 1
        return rounds

    readers = [Running(read) for _ in range(2)]
    done = 0
    while done < 20:
        memory_instance.exports["grow"](1)
        memory_instance.exports["set"](0, 9)
        memory_instance.exports["set"](4 * PAGE - 1, 9)
        try:
            memory_instance.reset()
        except WasmEdgeError:
            continue  # a reader has a view
        assert ctypes.string_at(memory.base, 3 * PAGE) == before
        done += 1
    stop.set()
    assert all(reader.result() for reader in readers)
