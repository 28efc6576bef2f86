"""ModuleInstance.checkpoint: the state that reset goes back to."""

from __future__ import annotations

import gc
import os
import resource
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.engine import I32, Engine, Running, wait_until
from wasmedge_runtime import (
    V128,
    ErrCode,
    ExternRef,
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
    Trap,
    ValMut,
    WasmEdgeError,
)
from wasmedge_runtime.native import image, libc

PAGE = 65536
LARGE = "x" * 100_000
"""Data that is worth an image."""


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def refuse(*args: object) -> None:
    raise OSError


@pytest.fixture(params=["mapped", "no descriptors", "no mappings"])
def checkpoint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """How a checkpoint is made: as everywhere, and where the system refuses what it is made of."""

    def make(instance: ModuleInstance) -> None:
        if request.param == "no descriptors":
            with no_descriptors():
                instance.checkpoint()
        elif request.param == "no mappings":
            with monkeypatch.context() as patch:
                patch.setattr(libc, "map_file", refuse)
                instance.checkpoint()
        else:
            instance.checkpoint()

    return make


@pytest.fixture(params=["small data", LARGE])
def memory_instance(request: pytest.FixtureRequest) -> ModuleInstance:
    """With a memory of three pages, which may grow to nine; the second one of its module, whose
    initial data, if there is much of it, is mapped."""
    engine = Engine()
    module = engine.load(
        f"""(module (memory (export "memory") 3 9) (data (i32.const 10) "{request.param}")
          (func (export "get") (param i32) (result i32) (i32.load8_u (local.get 0)))
          (func (export "set") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
          (func (export "size") (result i32) (memory.size)))"""
    )
    engine.executor.instantiate(engine.store, module)
    return engine.executor.instantiate(engine.store, module)


def content(instance: Any) -> bytes:
    memory = instance.exports["memory"]
    return bytes(memory.get_data(0, memory.page_size * PAGE))


def test_a_memory_has_the_content_of_the_checkpoint_again(
    memory_instance: Any, checkpoint: Any
) -> None:
    memory = memory_instance.exports["memory"]
    memory_instance.exports["set"](5, 5)
    memory.set_data(bytes(70_000), 15)  # zeros over initial data
    memory_instance.exports["set"](3 * PAGE - 1, 9)
    before = content(memory_instance)
    checkpoint(memory_instance)
    assert content(memory_instance) == before
    for _ in range(3):
        memory.set_data(b"\xff" * (3 * PAGE), 0)
        memory_instance.reset()
        assert content(memory_instance) == before
        memory_instance.exports["set"](20, 7)
        memory_instance.reset()
        assert content(memory_instance) == before


def test_a_memory_that_had_grown_goes_back_to_that_size(
    memory_instance: Any, checkpoint: Any
) -> None:
    exports = memory_instance.exports
    exports["grow"](2)
    exports["set"](4 * PAGE, 44)
    exports["set"](5 * PAGE - 1, 55)
    before = content(memory_instance)
    checkpoint(memory_instance)
    for _ in range(2):
        assert exports["grow"](3) == [5]
        exports["set"](8 * PAGE - 1, 1)
        exports["set"](4 * PAGE, 1)
        memory_instance.reset()
        assert exports["size"]() == [5]
        assert content(memory_instance) == before
        with pytest.raises(Trap) as caught:
            exports["get"](5 * PAGE)
        assert caught.value.code is ErrCode.MemoryOutOfBounds
        assert exports["grow"](4) == [5]
        assert exports["get"](8 * PAGE - 1) == [0]
        memory_instance.reset()


def test_a_second_checkpoint_takes_the_place_of_the_first(
    memory_instance: Any, checkpoint: Any
) -> None:
    exports = memory_instance.exports
    exports["set"](1, 1)
    exports["set"](2 * PAGE, 2)
    checkpoint(memory_instance)
    exports["grow"](1)
    exports["set"](1, 0)
    exports["set"](3 * PAGE, 3)
    exports["memory"].set_data(bytes(3 * PAGE - 9), 9)
    before = content(memory_instance)
    checkpoint(memory_instance)
    exports["memory"].set_data(b"\xff" * (4 * PAGE), 0)
    exports["grow"](1)
    memory_instance.reset()
    assert content(memory_instance) == before


def test_a_checkpoint_of_what_a_reset_left_is_that(memory_instance: Any) -> None:
    before = content(memory_instance)
    memory_instance.reset()
    memory_instance.checkpoint()
    memory_instance.exports["set"](30, 1)
    memory_instance.reset()
    assert content(memory_instance) == before


def test_a_memory_of_no_pages_has_checkpoints_too() -> None:
    instance: Any = Engine().instantiate(
        """(module (memory (export "memory") 0)
          (func (export "grow") (result i32) (memory.grow (i32.const 1))))"""
    )
    instance.checkpoint()
    instance.exports["grow"]()
    instance.reset()
    assert instance.exports["memory"].page_size == 0
    instance.exports["grow"]()
    instance.checkpoint()
    instance.exports["memory"].set_data(b"x", 0)
    instance.reset()
    assert content(instance) == bytes(PAGE)


def test_views_of_the_size_of_the_checkpoint_do_not_prevent_a_reset(memory_instance: Any) -> None:
    exports = memory_instance.exports
    exports["grow"](2)
    view = exports["memory"].view()
    with pytest.raises(WasmEdgeError, match="while there is a view"):
        memory_instance.reset()
    memory_instance.checkpoint()
    exports["set"](4 * PAGE, 1)
    memory_instance.reset()
    assert view[4 * PAGE] == 0
    exports["grow"](1)
    longer = exports["memory"].view()
    longer[0] = 77
    with pytest.raises(WasmEdgeError, match=f"to {5 * PAGE} bytes while there is a view"):
        memory_instance.reset()
    assert longer[0] == 77
    longer.release()
    memory_instance.reset()
    assert view[0] == 0


SPARSE = """(module (memory (export "memory") 16384)
  (func (export "touch") (param $count i32) (param $step i32) (local $at i32)
    (loop $next
      (i32.store (local.get $at) (i32.const 0x01010101))
      (local.set $at (i32.add (local.get $at) (local.get $step)))
      (br_if $next (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))))"""


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * libc.PAGE_BYTES


def mappings() -> int:
    with open("/proc/self/maps") as file:
        return sum(1 for _ in file)


def test_a_large_memory_that_is_mostly_zero_costs_what_is_in_it() -> None:
    instance: Any = Engine().instantiate(SPARSE)  # 1 GiB
    instance.exports["touch"](3, 300_000_000)
    before = resident()
    instance.checkpoint()
    memory = instance.exports["memory"]
    for _ in range(2):
        memory.set_data(b"\xff" * 4, 600_000_000)
        memory.set_data(b"\xff" * 4, 600_004_096)
        instance.reset()
        assert memory.get_data(600_000_000, 4) == b"\1\1\1\1"
        assert memory.get_data(600_004_096, 4) == bytes(4)
    assert resident() - before < 20 << 20


def test_scattered_content_takes_few_mappings() -> None:
    instance: Any = Engine().instantiate(SPARSE)
    instance.exports["touch"](3000, 300_000)
    before = mappings()
    instance.checkpoint()
    assert mappings() - before < 600
    memory = instance.exports["memory"]
    for at in range(0, 3000 * 300_000, 300_000):
        memory.set_data(b"\2\2\2\2", at)
        memory.set_data(b"\2\2\2\2", at + 10_000)
    instance.reset()
    for at in range(0, 3000 * 300_000, 300_000):
        assert memory.get_data(at, 4) == b"\1\1\1\1"
        assert memory.get_data(at + 10_000, 4) == bytes(4)
    before = resident()
    instance.checkpoint()
    instance.reset()
    assert memory.get_data(2999 * 300_000, 5) == b"\1\1\1\1\0"
    assert resident() - before < 100 << 20  # of 900 MB


def test_a_checkpoint_keeps_no_descriptor(memory_instance: Any) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        memory_instance.checkpoint()
        memory_instance.reset()
    assert len(os.listdir("/proc/self/fd")) == before


def test_ctrl_c_in_the_middle_of_a_checkpoint_leaves_one_or_the_other(
    memory_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = memory_instance.exports["memory"]
    memory_instance.exports["set"](5, 5)
    memory_instance.exports["set"](3 * PAGE - 1, 9)
    before = content(memory_instance)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(libc, "map_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            memory_instance.checkpoint()
    memory.set_data(b"\xff" * (3 * PAGE), 0)
    memory_instance.reset()
    assert content(memory_instance) == before
    memory.set_data(b"\xff" * (3 * PAGE), 0)
    with monkeypatch.context() as patch:
        patch.setattr(image, "_create", interrupted)
        with pytest.raises(KeyboardInterrupt):
            memory_instance.checkpoint()
    memory_instance.reset()
    assert content(memory_instance) == before


def test_dropped_segments_stay_dropped_and_others_are_there_again() -> None:
    instance: Any = Engine().instantiate(
        """(module (memory (export "memory") 1) (table (export "table") 1 funcref)
          (data $first "first") (data $second "second") (elem $e func $f) (func $f)
          (func (export "first")
            (memory.init $first (i32.const 0) (i32.const 0) (i32.const 5)) (data.drop $first))
          (func (export "second")
            (memory.init $second (i32.const 0) (i32.const 0) (i32.const 6)) (data.drop $second))
          (func (export "elements")
            (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e)))"""
    )
    instance.exports["first"]()
    instance.checkpoint()
    for _ in range(2):
        instance.exports["second"]()
        instance.exports["elements"]()
        with pytest.raises(Trap):
            instance.exports["second"]()
        instance.reset()
        with pytest.raises(Trap):
            instance.exports["first"]()
        assert instance.exports["memory"].get_data(0, 6) == b"first\0"


def test_the_start_function_does_not_run_again() -> None:
    engine = Engine()
    calls: list[None] = []
    engine.host(note=([], [], lambda data, memory: calls.append(None)))
    instance: Any = engine.instantiate(
        """(module (import "host" "note" (func $note)) (global (export "g") (mut i32) (i32.const 1))
          (func $start (call $note) (global.set 0 (i32.const 2))) (start $start))"""
    )
    instance.checkpoint()
    instance.exports["g"].value = 3
    instance.reset()
    assert instance.exports["g"].value == 2
    assert len(calls) == 1


def test_globals_have_their_values_again() -> None:
    instance: Any = Engine().instantiate(
        """(module (global (export "i") (mut i32) (i32.const 1))
          (global (export "l") (mut i64) (i64.const 1))
          (global (export "f") (mut f32) (f32.const 1))
          (global (export "d") (mut f64) (f64.const 1))
          (global (export "v") (mut v128) (v128.const i64x2 1 1)))"""
    )
    values = {"i": -5, "l": -(1 << 40), "f": 2.5, "d": 1e300, "v": V128(7, 3)}
    for name, value in values.items():
        instance.exports[name].value = value
    instance.checkpoint()
    for name in values:
        instance.exports[name].value = V128(0, 0) if name == "v" else 0
    instance.reset()
    assert {name: instance.exports[name].value for name in values} == values


@pytest.mark.parametrize("size", [4, 100_000])
def test_tables_have_their_size_and_elements_again(size: int) -> None:
    instance: Any = Engine().instantiate(
        f"""(module (table (export "t") {size} 300000 funcref) (elem declare func $f)
          (func $f (export "f") (result i32) (i32.const 6)) (func (export "g"))
          (func (export "set") (param i32) (table.set 0 (local.get 0) (ref.func $f))))"""
    )
    table = instance.exports["t"]
    table.grow(3)
    instance.exports["set"](0)
    instance.exports["set"](size + 1)
    instance.checkpoint()
    for _ in range(2):
        table.grow(2)
        table.set_data(None, 0)
        table.set_data(instance.exports["g"], 1)
        table.set_data(instance.exports["g"], size + 4)
        instance.reset()
        assert table.size == size + 3
        held = [index for index in range(size + 3) if table.get_data(index) is not None]
        assert held == [0, size + 1]
        assert table.get_data(0).function() == [6]
        table.grow(2)
        assert table.get_data(size + 4) is None
        instance.reset()


def test_functions_in_tables_and_globals_live_as_long_as_the_checkpoint() -> None:
    instance: Any = Engine().instantiate(
        """(module (type $kind (func (result i32))) (table (export "t") 2 2 funcref)
          (global (export "g") (mut funcref) (ref.null func))
          (func (export "call") (result i32) (call_indirect (type $kind) (i32.const 0)))
          (func (export "move")
            (table.set 0 (i32.const 1) (table.get 0 (i32.const 0)))
            (table.set 0 (i32.const 0) (global.get 0))
            (global.set 0 (table.get 0 (i32.const 1)))))"""
    )

    def fill() -> list[weakref.ref[Any]]:
        kind = FunctionType([], [I32])
        one, two = Function(kind, lambda data, memory: 1), Function(kind, lambda data, memory: 2)
        instance.exports["t"].set_data(one, 0)
        instance.exports["g"].value = two
        return [weakref.ref(one), weakref.ref(two)]

    held = fill()
    instance.exports["move"]()
    instance.checkpoint()
    for _ in range(2):
        later = fill()
        instance.exports["t"].set_data(None, 0)
        instance.exports["t"].set_data(None, 1)
        instance.exports["g"].value = None
        instance.reset()
        gc.collect()
        assert instance.exports["call"]() == [2]
        instance.exports["move"]()
        assert instance.exports["call"]() == [1]
        assert [reference() for reference in later] == [None, None]
    assert all(reference() is not None for reference in held)


def test_objects_in_tables_and_globals_live_as_long_as_the_checkpoint() -> None:
    instance: Any = Engine().instantiate(
        """(module (table (export "t") 1 externref)
          (global $g (export "g") (mut externref) (ref.null extern))
          (func (export "keep") (param externref externref)
            (table.set 0 (i32.const 0) (local.get 0)) (global.set $g (local.get 1)))
          (func (export "nothing") (param externref)))"""
    )

    class Thing:
        pass

    things = [Thing(), Thing()]
    references = [weakref.ref(thing) for thing in things]
    instance.exports["keep"](*things)
    things.clear()
    instance.checkpoint()
    for _ in range(2):
        instance.exports["keep"](None, None)
        instance.exports["nothing"](Thing())  # a call that looks for what nobody has
        instance.reset()
        assert instance.exports["t"].get_data(0).value is references[0]()
        assert instance.exports["g"].value.value is references[1]()
    instance.exports["keep"](None, None)
    instance.checkpoint()
    instance.exports["nothing"](Thing())
    assert [reference() for reference in references] == [None, None]


def test_a_reference_that_the_user_closes_is_closed_after_the_reset_too() -> None:
    instance: Any = Engine().instantiate('(module (table (export "t") 1 externref))')
    reference = ExternRef("thing")
    instance.exports["t"].set_data(reference, 0)
    instance.checkpoint()
    reference.close()
    instance.reset()
    with pytest.raises(WasmEdgeError, match="no longer alive"):
        instance.exports["t"].get_data(0)


def test_an_instance_with_a_checkpoint_goes_with_its_last_holder() -> None:
    engine = Engine()
    instance = engine.instantiate(
        f"""(module (memory 2) (data (i32.const 0) "{LARGE}") (table (export "t") 1 externref)
          (global (export "g") (mut i32) (i32.const 0)))"""
    )
    instance.checkpoint()
    reference = weakref.ref(instance)
    engine.store.close()
    gc.disable()
    try:
        del instance
        assert reference() is None
    finally:
        gc.enable()


def test_what_is_imported_is_left_alone() -> None:
    engine = Engine()
    imports = ImportObject("host")
    memory = Memory(MemoryType(Limit(1, 3)))
    cell = Global(GlobalType(I32, ValMut.VAR), 1)
    imports.add_memory("memory", memory)
    imports.add_global("cell", cell)
    engine.executor.register_import(engine.store, imports)
    instance = engine.instantiate(
        """(module (import "host" "memory" (memory 1 3)) (import "host" "cell" (global (mut i32)))
          (data (i32.const 0) "data"))"""
    )
    instance.checkpoint()
    memory.set_data(b"DA", 0)
    memory.grow_page(1)
    cell.value = 2
    instance.reset()
    assert memory.get_data(0, 4) == b"DAta"
    assert memory.page_size == 2
    assert cell.value == 2


def test_a_call_in_progress_refuses_the_checkpoint() -> None:
    engine = Engine()
    engine.host(keep=([], [], lambda data, memory: instance.checkpoint()))
    instance: Any = engine.instantiate(
        """(module (import "host" "keep" (func $keep)) (global (export "g") (mut i32) (i32.const 0))
          (func (export "f") (global.set 0 (i32.const 1)) (call $keep))
          (func (export "spin") (loop (br 0))))"""
    )
    with pytest.raises(HostFunctionError) as caught:
        engine.call("f")
    assert isinstance(caught.value.__cause__, WasmEdgeError)
    assert caught.value.__cause__.code is ErrCode.WrongVMWorkflow
    running = Running(engine.call, "spin")
    wait_until(lambda: engine.running)
    with pytest.raises(WasmEdgeError, match="cannot keep its state while its Store runs a call"):
        instance.checkpoint()
    engine.store.interrupt()
    running.trap()
    instance.reset()
    assert instance.exports["g"].value == 0


MIXED = f"""(module (memory (export "memory") 2 6) (data (i32.const 0) "{LARGE}")
  (table (export "t") 2 40 externref) (table (export "u") 2 40 funcref)
  (global (export "g") (mut i64) (i64.const 1)) (func (export "f")))"""

CHANGES = st.lists(
    st.one_of(
        st.tuples(
            st.just("write"),
            st.integers(0, 6 * PAGE - 1),
            st.integers(1, 40_000),
            st.sampled_from([0, 0, 1, 255]),
        ),
        st.tuples(st.just("grow"), st.integers(0, 2)),
        st.tuples(st.just("put"), st.sampled_from("tu"), st.integers(0, 39), st.booleans()),
        st.tuples(st.just("grow_table"), st.sampled_from("tu"), st.integers(0, 9)),
        st.tuples(st.just("set"), st.integers(-(1 << 63), (1 << 63) - 1)),
    ),
    max_size=8,
)


def change(instance: Any, changes: list[tuple[Any, ...]]) -> None:
    """Do what the list says, as far as there is room for it."""
    exports = instance.exports
    memory = exports["memory"]
    for kind, *what in changes:
        if kind == "write":
            at, length, value = what
            length = max(min(length, memory.page_size * PAGE - at), 0)
            memory.set_data(bytes([value]) * length, at if length else 0)
        elif kind == "grow" and memory.page_size + what[0] <= 6:
            memory.grow_page(what[0])
        elif kind == "put" and what[1] < exports[what[0]].size:
            value = {"t": "thing", "u": exports["f"]}[what[0]] if what[2] else None
            exports[what[0]].set_data(value, what[1])
        elif kind == "grow_table" and exports[what[0]].size + what[1] <= 40:
            exports[what[0]].grow(what[1])
        elif kind == "set":
            exports["g"].value = what[0]


def state(instance: Any) -> tuple[Any, ...]:
    exports = instance.exports
    tables = [[exports[t].get_data(n) for n in range(exports[t].size)] for t in "tu"]
    return content(instance), tables, exports["g"].value


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(CHANGES, CHANGES), min_size=1, max_size=3), st.booleans())
def test_after_any_changes_a_reset_gives_the_checkpoint(
    rounds: list[tuple[Any, Any]], twice: bool
) -> None:
    engine = Engine()
    module = engine.load(MIXED)
    instance = engine.executor.instantiate(engine.store, module)
    for before, after in rounds:
        change(instance, before)
        instance.checkpoint()
        expected = state(instance)
        change(instance, after)
        instance.reset()
        assert state(instance) == expected
        if twice:
            change(instance, before)
            instance.reset()
            assert state(instance) == expected
