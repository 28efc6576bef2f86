"""What ModuleInstance.reset does with references: which it lets go, and which it keeps."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from tests.runtime.engine import EXTERNREF, FUNCREF, I32, Engine
from wasmedge_runtime import Function, FunctionType, Global, GlobalType, ImportObject, ValMut


def test_references_that_were_overwritten_are_dropped() -> None:
    engine = Engine()
    instance: Any = engine.instantiate(
        """(module (table (export "t") 2 2 funcref) (global (export "g") (mut funcref)
          (ref.null func)))"""
    )

    def held() -> list[weakref.ref[Any]]:
        function = Function(FunctionType([], []), lambda data, memory: None)
        other = Function(FunctionType([], []), lambda data, memory: None)
        instance.exports["t"].set_data(function, 0)
        instance.exports["g"].value = other
        return [weakref.ref(function), weakref.ref(other)]

    references = held()
    assert all(reference() is not None for reference in references)
    instance.reset()
    assert [reference() for reference in references] == [None, None]


def test_references_that_got_elsewhere_are_kept() -> None:
    """The importing module holds a reference that it took out of the table."""
    engine = Engine()
    owner: Any = engine.register("owner", '(module (table (export "t") 1 1 funcref))')
    user: Any = engine.instantiate(
        """(module (import "owner" "t" (table 1 1 funcref)) (type $kind (func (result i32)))
          (table $mine 1 funcref)
          (func (export "take") (table.set $mine (i32.const 0) (table.get 0 (i32.const 0))))
          (func (export "call") (result i32)
            (call_indirect $mine (type $kind) (i32.const 0))))"""
    )

    def fill() -> None:
        lent = Engine(store=engine.store).instantiate(
            '(module (func (export "f") (result i32) (i32.const 33)))'
        )
        owner.exports["t"].set_data(lent.exports["f"], 0)

    fill()
    user.exports["take"]()
    owner.reset()
    engine.instantiate("(module)")
    gc.collect()
    assert user.exports["call"]() == [33]


def test_functions_that_can_carry_references_keep_them() -> None:
    engine = Engine()
    user: Any = engine.register(
        "user",
        """(module (table $mine 1 funcref) (type $kind (func (result i32)))
          (func (export "take") (param funcref) (table.set $mine (i32.const 0) (local.get 0)))
          (func (export "call") (result i32)
            (call_indirect $mine (type $kind) (i32.const 0))))""",
    )
    owner: Any = engine.register(
        "owner",
        """(module (import "user" "take" (func $take (param funcref)))
          (table (export "t") 1 1 funcref)
          (func (export "give") (call $take (table.get 0 (i32.const 0)))))""",
    )

    def fill() -> None:
        function = Function(FunctionType([], [I32]), lambda data, memory: 44)
        owner.exports["t"].set_data(function, 0)

    fill()
    owner.exports["give"]()
    owner.reset()
    gc.collect()
    assert user.exports["call"]() == [44]


def test_finalizers_of_what_is_dropped_may_use_the_instance() -> None:
    engine = Engine()
    instance: Any = engine.instantiate(
        """(module (memory (export "memory") 1) (table (export "t") 1 1 funcref)
          (func (export "get") (result i32) (i32.load8_u (i32.const 0))))"""
    )
    seen: list[int] = []

    function = Function(FunctionType([], []), lambda data, memory: None)
    weakref.finalize(function, lambda: seen.extend(instance.exports["get"]()))
    instance.exports["memory"].set_data(b"\5", 0)
    instance.exports["t"].set_data(function, 0)
    del function
    instance.reset()
    assert seen == [0]


def test_external_references_in_tables_and_globals_are_gone() -> None:
    engine = Engine()
    instance: Any = engine.instantiate(
        """(module (table (export "t") 1 externref)
          (global $g (export "g") (mut externref) (ref.null extern))
          (func (export "keep") (param externref)
            (table.set 0 (i32.const 0) (local.get 0)) (global.set $g (local.get 0)))
          (func (export "nothing") (param externref)))"""
    )

    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing)
    instance.exports["keep"](thing)
    del thing
    assert reference() is not None
    instance.reset()
    assert instance.exports["t"].get_data(0) is None
    assert instance.exports["g"].value is None
    instance.exports["nothing"](Thing())  # the next call finds that nobody has it
    assert reference() is None


def test_references_of_element_segments_live_through_resets() -> None:
    engine = Engine()
    engine.host(hello=([], [I32], lambda data, memory: 5))
    imports = ImportObject("values")
    function = Function(FunctionType([], [I32]), lambda data, memory: 6)
    imports.add_global("f", Global(GlobalType(FUNCREF, ValMut.CONST), function))
    imports.add_global("e", Global(GlobalType(EXTERNREF, ValMut.CONST), "thing"))
    engine.executor.register_import(engine.store, imports)
    del imports, function
    instance: Any = engine.instantiate(
        """(module (import "host" "hello" (func $hello (result i32)))
          (import "values" "f" (global $f funcref)) (import "values" "e" (global $e externref))
          (type $kind (func (result i32)))
          (table $t (export "t") 4 4 funcref) (table $x (export "x") 1 1 externref)
          (global (export "g") (mut funcref) (global.get $f))
          (elem (table $t) (i32.const 0) funcref
            (ref.func $hello) (global.get $f) (ref.null func) (ref.func $own))
          (elem (table $x) (i32.const 0) externref (global.get $e))
          (func $own (result i32) (i32.const 7))
          (func (export "call") (param i32) (result i32)
            (call_indirect $t (type $kind) (local.get 0))))"""
    )
    for _ in range(3):
        gc.collect()
        assert [instance.exports["call"](n) for n in (0, 1, 3)] == [[5], [6], [7]]
        assert instance.exports["t"].get_data(2) is None
        assert instance.exports["x"].get_data(0).value == "thing"
        assert instance.exports["g"].value.function() == [6]
        instance.exports["g"].value = None
        for index in range(4):
            instance.exports["t"].set_data(None, index)
        instance.reset()
