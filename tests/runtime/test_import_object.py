"""ImportObject: modules of the host."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.engine import I32, Engine
from wasmedge_runtime import (
    ErrCode,
    Executor,
    Function,
    FunctionType,
    Global,
    GlobalType,
    ImportObject,
    Limit,
    Memory,
    MemoryType,
    RefType,
    Store,
    Table,
    TableType,
    ValMut,
    WasmEdgeError,
)


def test_functions_are_added_by_a_decorator() -> None:
    imports = ImportObject("math")

    @imports.function("add", params=[I32, I32], results=[I32])
    def add(data: object, memory: object, a: int, b: int) -> int:
        return a + b

    @imports.function("scaled", params=[I32], results=[I32], data=10)
    def scaled(data: int, memory: object, a: int) -> int:
        return data * a

    assert add(None, None, 1, 2) == 3  # the function itself, as it was
    engine = Engine()
    engine.executor.register_import(engine.store, imports)
    engine.instantiate(
        """(module (import "math" "add" (func $add (param i32 i32) (result i32)))
          (import "math" "scaled" (func $scaled (param i32) (result i32)))
          (func (export "f") (result i32)
            (call $add (i32.const 2) (call $scaled (i32.const 4)))))"""
    )
    assert engine.call("f") == [42]


def test_what_was_added_is_found_in_the_store() -> None:
    imports = ImportObject("host")
    externs: dict[str, Any] = {
        "f": Function(FunctionType([], []), lambda data, memory: None),
        "t": Table(TableType(RefType.FUNCREF, Limit(1))),
        "m": Memory(MemoryType(Limit(1))),
        "g": Global(GlobalType(I32, ValMut.CONST), 1),
    }
    imports.add_function("f", externs["f"])
    imports.add_table("t", externs["t"])
    imports.add_memory("m", externs["m"])
    imports.add_global("g", externs["g"])
    engine = Engine()
    engine.executor.register_import(engine.store, imports)
    store = engine.store
    assert store.find_function_registered("host", "f") is externs["f"]
    assert store.find_table_registered("host", "t") is externs["t"]
    assert store.find_memory_registered("host", "m") is externs["m"]
    assert store.find_global_registered("host", "g") is externs["g"]
    imports.close()
    assert store.find_memory_registered("host", "m") is externs["m"]


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("add_function", Memory(MemoryType(Limit(1)))),
        ("add_table", None),
        ("add_memory", 5),
        ("add_global", Memory(MemoryType(Limit(1)))),
    ],
)
def test_wrong_kinds_are_refused(method: str, wrong: object) -> None:
    with pytest.raises(TypeError):
        getattr(ImportObject("m"), method)("name", wrong)


def test_names_are_strings() -> None:
    with pytest.raises(TypeError):
        ImportObject(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ImportObject("m").add_memory(5, Memory(MemoryType(Limit(1))))  # type: ignore[arg-type]


def test_the_functions_of_a_module_are_not_added() -> None:
    function = Engine().exports('(module (func (export "f")))')["f"]
    with pytest.raises(WasmEdgeError, match="register_instance") as caught:
        ImportObject("m").add_function("f", function)
    assert caught.value.code is ErrCode.WrongInstanceAddress


def test_host_functions_serve_many_stores() -> None:
    imports = ImportObject("host")
    calls = []
    imports.add_function(
        "f", Function(FunctionType([I32], []), lambda data, memory, n: calls.append(n))
    )
    for n in range(3):
        engine = Engine()
        engine.executor.register_import(engine.store, imports)
        engine.instantiate(
            """(module (import "host" "f" (func $f (param i32)))
              (func (export "f") (param i32) (call $f (local.get 0))))"""
        )
        engine.call("f", n)
    assert calls == [0, 1, 2]


def test_names_may_be_any_text() -> None:
    name = "ö $ \u2603 \0 end"
    imports = ImportObject(name)
    imports.add_global(name, Global(GlobalType(I32, ValMut.CONST), 8))
    engine = Engine()
    engine.executor.register_import(engine.store, imports)
    escaped = "".join(f"\\{byte:02x}" for byte in name.encode())
    cell = engine.exports(
        f'(module (import "{escaped}" "{escaped}" (global i32)) (export "g" (global 0)))'
    )["g"]
    assert cell.value == 8


def test_an_import_object_that_does_not_fit_leaves_its_other_parts_free() -> None:
    taken, free = Memory(MemoryType(Limit(1))), Table(TableType(RefType.FUNCREF, Limit(1)))
    imports = ImportObject("first")
    imports.add_memory("memory", taken)
    Executor().register_import(Store(), imports)
    both = ImportObject("both")
    both.add_table("table", free)
    both.add_memory("memory", taken)
    with pytest.raises(WasmEdgeError, match="belongs to another Store"):
        Executor().register_import(Store(), both)
    alone = ImportObject("alone")
    alone.add_table("table", free)
    store = Store()
    Executor().register_import(store, alone)
    assert store.list_table_registered("alone") == ["table"]
