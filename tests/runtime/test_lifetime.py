"""Who keeps what alive: functions, memories, tables, globals, references beyond their makers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.runtime.engine import EXTERNREF, FUNCREF, I32, Engine
from tests.wat import wat
from wasmedge_runtime import (
    VM,
    Configure,
    ErrCode,
    Executor,
    ExternRef,
    FuncRef,
    Function,
    FunctionType,
    Global,
    GlobalType,
    ImportObject,
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
    WasmEdgeError,
)

MODULE = """(module
  (memory (export "memory") 1 4) (data (i32.const 0) "hello")
  (table (export "table") 4 funcref) (elem (i32.const 0) $answer $next)
  (global (export "number") (mut i32) (i32.const 7))
  (global (export "function") (mut funcref) (ref.null func))
  (func $answer (export "answer") (result i32) (i32.const 42))
  (func $next (export "next") (result i32)
    (global.set 0 (i32.add (global.get 0) (i32.const 1)))
    (i32.store (i32.const 100) (global.get 0)) (i32.load (i32.const 100)))
  (func (export "set") (global.set 1 (ref.func $answer)))
  (func (export "get") (result funcref) (ref.func $next)))"""


def collect() -> None:
    for _ in range(3):
        gc.collect()


def churn() -> None:
    """Take the place of what was freed."""
    for _ in range(5):
        Engine().instantiate(MODULE)
    _ = [bytearray(b"\xcc" * size) for size in (64, 128, 256, 512, 1024, 2048) for _ in range(200)]


def orphan(name: str) -> Any:
    """An export of a module whose Store, executor and instance are gone."""
    engine = Engine()
    exports = engine.exports(MODULE)
    exports["set"]()
    found = exports[name]
    engine.store.close()
    engine.executor.close()
    del engine, exports
    collect()
    churn()
    return found


def test_a_function_outlives_its_store() -> None:
    function = orphan("next")
    assert [function(), function()] == [[8], [9]]


def test_a_function_reference_outlives_its_store() -> None:
    [reference] = orphan("get")()
    collect()
    churn()
    assert isinstance(reference, FuncRef)
    assert reference.function is not None
    assert reference.function() == [8]


def test_a_memory_outlives_its_store() -> None:
    memory = orphan("memory")
    assert memory.get_data(0, 5) == b"hello"
    memory.grow_page(2)
    assert memory.page_size == 3


def test_a_view_outlives_the_store_and_the_memory() -> None:
    view = orphan("memory").view()
    collect()
    churn()
    assert bytes(view[:5]) == b"hello"
    view[:5] = b"HELLO"
    assert bytes(view[:5]) == b"HELLO"
    assert len(view) == 65536


def test_a_view_outlives_the_close_of_a_memory_of_the_host() -> None:
    memory = Memory(MemoryType(Limit(1)))
    view = memory.view()
    view[0] = 9
    memory.close()
    del memory
    collect()
    assert view[0] == 9


def test_a_view_outlives_the_close_of_a_vm() -> None:
    with VM() as vm:
        vm.load_wasm_buffer(wat(MODULE))
        vm.validate()
        vm.instantiate()
        memory = vm.store.find_memory("memory")
        assert memory is not None
        view = memory.view()
    del vm, memory
    collect()
    churn()
    assert bytes(view[:5]) == b"hello"


def test_a_table_outlives_its_store() -> None:
    table = orphan("table")
    assert table.get_data(0).function() == [42]
    assert table.get_data(1).function() == [8]
    assert table.get_data(2) is None


def test_globals_outlive_their_store() -> None:
    number = orphan("number")
    assert number.value == 7
    number.value = 9
    assert number.value == 9
    reference = orphan("function")
    assert reference.value.function() == [42]


def test_a_table_that_another_module_imports_keeps_the_functions_in_it() -> None:
    engine = Engine()
    engine.register("a", MODULE)
    engine.instantiate(
        """(module (import "a" "table" (table 4 funcref)) (type $t (func (result i32)))
          (func (export "f") (param i32) (result i32)
            (call_indirect (type $t) (local.get 0))))"""
    )
    engine.store.unregister("a")
    collect()
    churn()
    assert [engine.call("f", 0), engine.call("f", 1)] == [[42], [8]]


def test_a_global_that_another_module_imports_keeps_its_function() -> None:
    engine = Engine()
    exporter = engine.register("a", MODULE)
    exports: Any = exporter.exports
    exports["set"]()
    engine.instantiate(
        """(module (import "a" "function" (global (mut funcref))) (type $t (func (result i32)))
          (table 1 funcref) (func (export "f") (result i32)
            (table.set (i32.const 0) (global.get 0))
            (call_indirect (type $t) (i32.const 0))))"""
    )
    engine.store.unregister("a")
    del exporter, exports
    collect()
    churn()
    assert engine.call("f") == [42]


def test_functions_that_a_failed_instantiation_left_in_a_table_can_be_called() -> None:
    engine = Engine()
    table = Table(TableType(RefType.FUNCREF, Limit(4)))
    imports = ImportObject("host")
    imports.add_table("table", table)
    engine.executor.register_import(engine.store, imports)
    with pytest.raises(Trap) as caught:
        engine.instantiate(
            """(module (import "host" "table" (table 4 funcref)) (memory 1)
              (elem (i32.const 1) $f) (func $f (result i32)
                (i32.store (i32.const 0) (i32.const 5)) (i32.load (i32.const 0)))
              (data (i32.const 65535) "too long"))"""
        )
    assert caught.value.code is ErrCode.MemoryOutOfBounds
    collect()
    churn()
    engine.instantiate(
        """(module (import "host" "table" (table 4 funcref)) (type $t (func (result i32)))
          (func (export "f") (result i32) (call_indirect (type $t) (i32.const 1))))"""
    )
    assert engine.call("f") == [5]


def test_functions_in_a_table_outlive_the_module_that_put_them_there() -> None:
    engine = Engine()
    table = Table(TableType(RefType.FUNCREF, Limit(4)))
    imports = ImportObject("host")
    imports.add_table("table", table)
    engine.executor.register_import(engine.store, imports)
    engine.instantiate(
        """(module (import "host" "table" (table 4 funcref))
          (func $f (result i32) (i32.const 11)) (elem declare func $f)
          (func (export "put") (table.set (i32.const 2) (ref.func $f))))"""
    )
    engine.call("put")
    engine.instantiate("(module)")  # replaces it
    collect()
    churn()
    reference = table.get_data(2)
    assert isinstance(reference, FuncRef)
    assert reference.function is not None
    assert reference.function() == [11]


def test_a_module_that_is_replaced_during_its_own_call_goes_on() -> None:
    engine = Engine()

    def replace(data: object, memory: object) -> None:
        engine.instantiate("(module)")
        collect()
        churn()

    engine.host(replace=([], [], replace))
    engine.instantiate(
        """(module (import "host" "replace" (func $replace)) (memory 1)
          (func $after (param i32) (result i32) (i32.load (local.get 0)))
          (func (export "f") (result i32) (i32.store (i32.const 4) (i32.const 123))
            (call $replace) (call $after (i32.const 4))))"""
    )
    assert engine.call("f") == [123]


def test_a_bound_call_keeps_its_function() -> None:
    call = orphan("next").__call__
    collect()
    churn()
    assert call() == [8]


def test_an_instance_that_nobody_holds_is_freed() -> None:
    engine = Engine()
    reference = weakref.ref(engine.instantiate(MODULE))
    memory = engine.store.find_memory("memory")
    assert memory is not None
    reservation = weakref.ref(memory._reservation)
    del memory
    engine.instantiate("(module)")
    collect()
    assert reference() is None
    assert reservation() is None


def test_a_closed_store_frees_its_modules() -> None:
    engine = Engine()
    references = [
        weakref.ref(engine.instantiate(MODULE)),
        weakref.ref(engine.register("m", MODULE)),
    ]
    engine.store.close()
    collect()
    assert [reference() for reference in references] == [None, None]


# External references.


class Thing:
    pass


EXTERN = """(module (table (export "table") 4 externref)
  (global (export "global") (mut externref) (ref.null extern))
  (func (export "ignore") (param externref))
  (func (export "echo") (param externref) (result externref) (local.get 0))
  (func (export "store") (param i32 externref) (table.set (local.get 0) (local.get 1)))
  (func (export "load") (param i32) (result externref) (table.get (local.get 0)))
  (func (export "keep") (param externref) (global.set 0 (local.get 0)))
  (func (export "kept") (result externref) (global.get 0))
  (func (export "clear") (param i32) (table.set (local.get 0) (ref.null extern))))"""


@pytest.fixture
def extern() -> Engine:
    engine = Engine()
    engine.instantiate(EXTERN)
    return engine


def test_any_object_passes_through_the_guest(extern: Engine) -> None:
    thing = Thing()
    [reference] = extern.call("echo", thing)
    assert isinstance(reference, ExternRef)
    assert reference.value is thing
    assert extern.call("echo", None) == [None]


def test_an_object_is_wrapped_for_its_call_only(extern: Engine) -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    extern.call("ignore", thing)
    del thing
    collect()
    assert seen() is None


@pytest.mark.parametrize("end", ["overwritten", "closed"])
def test_an_object_that_the_guest_stored_in_a_table_lives_until_it_is_overwritten(
    extern: Engine, end: str
) -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    extern.call("store", 2, thing)
    del thing
    collect()
    [reference] = extern.call("load", 2)
    assert reference.value is seen()
    assert reference.value is not None
    del reference
    if end == "overwritten":
        extern.call("clear", 2)
        extern.call("ignore", None)
    else:
        extern.store.close()
        extern.store = Store()
    collect()
    assert seen() is None


def test_an_object_that_the_guest_stored_in_a_global_lives_until_it_is_overwritten(
    extern: Engine,
) -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    extern.call("keep", thing)
    del thing
    collect()
    [reference] = extern.call("kept")
    assert reference.value is seen()
    del reference
    extern.call("keep", None)
    collect()
    assert seen() is None


def test_an_explicit_reference_lives_until_it_is_closed(extern: Engine) -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    reference = ExternRef(thing)
    del thing
    extern.call("store", 0, reference)
    extern.call("clear", 0)
    collect()
    assert reference.value is seen()
    reference.close()
    collect()
    assert seen() is None


def test_an_explicit_reference_that_was_forgotten_lives_as_long_as_the_store(
    extern: Engine,
) -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    extern.call("store", 0, ExternRef(thing))
    del thing
    collect()
    assert seen() is not None
    extern.store.close()
    extern.store = Store()
    collect()
    assert seen() is None


def test_a_closed_reference_is_an_error_everywhere(extern: Engine) -> None:
    reference = ExternRef(Thing())
    extern.call("store", 0, reference)
    reference.close()
    reference.close()
    uses: list[Callable[[], object]] = [
        lambda: reference.value,
        lambda: extern.call("echo", reference),
        lambda: extern.call("load", 0),
        lambda: extern.call("store", 1, reference),
    ]
    for use in uses:
        with pytest.raises(WasmEdgeError):
            use()
    assert extern.call("load", 1) == [None]
    with pytest.raises(WasmEdgeError, match="reference type mismatch") as caught:
        extern.call("load", 0)
    assert caught.value.code is ErrCode.RefTypeMismatch


def test_identifiers_are_never_used_again() -> None:
    handles = set()
    for _ in range(1000):
        with ExternRef(Thing()) as reference:
            handles.add(reference._handle)
    assert len(handles) == 1000


def test_a_host_function_sees_the_object_and_may_give_one_back() -> None:
    engine = Engine()
    thing, other = Thing(), Thing()
    engine.host(
        swap=([EXTERNREF], [EXTERNREF], lambda data, memory, r: other if r.value is thing else None)
    )
    engine.instantiate(
        """(module (import "host" "swap" (func $swap (param externref) (result externref)))
          (func (export "f") (param externref) (result externref) (call $swap (local.get 0))))"""
    )
    [reference] = engine.call("f", thing)
    assert reference.value is other
    assert engine.call("f", 5) == [None]


def test_closed_references_do_not_pile_up(extern: Engine) -> None:
    for _ in range(5000):
        with ExternRef(Thing()) as reference:
            extern.call("ignore", reference)
    assert len(extern.store.core.externs) < 3000


# close().


def closables() -> list[Any]:
    kind = FunctionType([], [])
    return [
        Loader().load_buffer(wat("(module)")),
        Loader(),
        Validator(),
        Executor(),
        Store(),
        Statistics(),
        Configure(),
        ImportObject("m"),
        Function(kind, lambda data, memory: None),
        Memory(MemoryType(Limit(1))),
        Table(TableType(RefType.FUNCREF, Limit(1))),
        Global(GlobalType(ValType.I32, ValMut.VAR), 1),
        ExternRef(1),
        VM(),
    ]


@pytest.mark.parametrize("index", range(len(closables())))
def test_closing_twice_is_fine_and_every_class_is_a_context_manager(index: int) -> None:
    with closables()[index] as thing:
        thing.close()
    thing.close()


def test_using_what_is_closed_is_an_error() -> None:
    engine = Engine()
    ast = engine.load("(module)")
    things = closables()
    for thing in things:
        thing.close()
    (
        closed_ast, loader, validator, executor, store, statistics, configure, imports, function,
        memory, table, global_, reference, vm,
    ) = things  # fmt: skip
    uses: list[Callable[[], object]] = [
        closed_ast.list_imports,
        lambda: loader.load_buffer(wat("(module)")),
        lambda: validator.validate(ast),
        lambda: engine.executor.instantiate(engine.store, closed_ast),
        lambda: executor.instantiate(engine.store, ast),
        lambda: executor.invoke(engine.store, "f"),
        lambda: engine.executor.instantiate(store, ast),
        lambda: engine.executor.invoke(store, "f"),
        store.list_module,
        lambda: store.find_function("f"),
        lambda: statistics.instr_count,
        lambda: configure.max_memory_page,
        lambda: imports.add_function("f", function),
        lambda: engine.executor.register_import(engine.store, imports),
        function,
        lambda: memory.get_data(0, 1),
        lambda: memory.set_data(b"1", 0),
        memory.view,
        lambda: memory.grow_page(1),
        lambda: memory.page_size,
        lambda: table.get_data(0),
        lambda: table.set_data(None, 0),
        lambda: table.grow(1),
        lambda: global_.value,
        lambda: reference.value,
        lambda: vm.load_wasm_buffer(wat("(module)")),
        lambda: vm.state,
    ]
    for number, use in enumerate(uses):
        with pytest.raises(WasmEdgeError, match="is closed and cannot be used any more"):
            pytest.fail(f"use {number} gives {use()!r}")


def test_closing_what_is_borrowed_does_nothing() -> None:
    engine = Engine()
    exports = engine.exports(MODULE)
    for name in ("memory", "table", "number", "answer"):
        exports[name].close()
    assert exports["answer"]() == [42]
    assert exports["memory"].get_data(0, 5) == b"hello"
    assert exports["table"].size == 4
    assert exports["number"].value == 7
    function = Function(FunctionType([], [I32]), lambda data, memory: 3)
    imports = ImportObject("m")
    imports.add_function("f", function)
    function.close()
    engine.executor.register_import(engine.store, imports)
    assert engine.executor.invoke_registered(engine.store, "m", "f") == [3]


def test_what_a_host_function_returned_as_a_function_reference_stays_callable() -> None:
    engine = Engine()
    made: list[weakref.ref[Any]] = []

    def give(data: object, memory: object) -> Function:
        other = Engine(store=engine.store)
        other.executor = engine.executor
        instance = other.executor.register_module(engine.store, other.load(MODULE), f"m{len(made)}")
        made.append(weakref.ref(instance))
        engine.store.unregister(f"m{len(made) - 1}")
        function: Any = instance.exports["answer"]
        found: Function = function
        return found

    engine.host(give=([], [FUNCREF], give))
    engine.instantiate(
        """(module (import "host" "give" (func $give (result funcref))) (table 1 funcref)
          (type $t (func (result i32)))
          (func (export "f") (result i32) (table.set (i32.const 0) (call $give))
            (call_indirect (type $t) (i32.const 0)))
          (func (export "again") (result i32) (call_indirect (type $t) (i32.const 0))))"""
    )
    assert engine.call("f") == [42]
    collect()
    churn()
    assert engine.call("again") == [42]


def test_objects_from_host_functions_go_with_a_call_that_has_no_references_itself() -> None:
    engine = Engine()
    engine.host(make=([], [EXTERNREF], lambda data, memory: Thing()))
    engine.instantiate(
        '(module (import "host" "make" (func $make (result externref)))'
        '(func (export "f") (drop (call $make))))'
    )
    for _ in range(10):
        engine.call("f")
    assert not engine.store.core.externs
