"""Table instances made by the host and by modules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.engine import I32, Engine
from wasmedge_runtime import (
    ErrCode,
    ExternRef,
    FuncRef,
    Function,
    FunctionType,
    ImportObject,
    Limit,
    RefType,
    Table,
    TableType,
    Trap,
    WasmEdgeError,
)

USER = """(module (import "host" "table" (table 3 10 funcref)) (type $t (func (result i32)))
  (func $own (export "own") (result i32) (i32.const 5)) (elem declare func $own)
  (func (export "call") (param i32) (result i32) (call_indirect (type $t) (local.get 0)))
  (func (export "put") (param i32) (table.set (local.get 0) (ref.func $own)))
  (func (export "get") (param i32) (result funcref) (table.get (local.get 0)))
  (func (export "set") (param i32 funcref) (table.set (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))
  (func (export "size") (result i32) (table.size)))"""


def table(kind: RefType, minimum: int, maximum: int | None = None) -> Table:
    return Table(TableType(kind, Limit(minimum, maximum)))


def shared() -> tuple[Engine, Table]:
    engine = Engine()
    made = table(RefType.FUNCREF, 3, 10)
    imports = ImportObject("host")
    imports.add_table("table", made)
    engine.executor.register_import(engine.store, imports)
    engine.instantiate(USER)
    return engine, made


def test_a_new_table_has_null_references() -> None:
    made = table(RefType.EXTERNREF, 3, 8)
    assert made.size == 3
    assert [made.get_data(i) for i in range(3)] == [None] * 3
    assert made.table_type == TableType(RefType.EXTERNREF, Limit(3, 8))


def test_external_references_are_kept_before_and_after_a_store_has_the_table() -> None:
    made = table(RefType.EXTERNREF, 3)
    thing = object()
    reference = ExternRef(thing)
    made.set_data(reference, 0)
    made.set_data(thing, 1)
    assert made.get_data(0) is reference
    engine = Engine()
    imports = ImportObject("host")
    imports.add_table("table", made)
    engine.executor.register_import(engine.store, imports)
    found = made.get_data(1)
    assert made.get_data(0) is reference
    assert isinstance(found, ExternRef)
    assert found.value is thing
    made.set_data(None, 0)
    assert made.get_data(0) is None


@pytest.mark.parametrize("index", [3, 1 << 40, -1])
def test_an_index_outside_is_an_error(index: int) -> None:
    made = table(RefType.FUNCREF, 3)
    uses: list[Any] = [lambda: made.get_data(index), lambda: made.set_data(None, index)]
    for use in uses:
        with pytest.raises(WasmEdgeError) as caught:
            use()
        assert caught.value.code is ErrCode.TableOutOfBounds


def test_growing_adds_null_references_up_to_the_maximum() -> None:
    made = table(RefType.FUNCREF, 1, 20000)
    made.grow(19000)
    assert made.size == 19001
    assert made.get_data(19000) is None
    with pytest.raises(WasmEdgeError) as caught:
        made.grow(1000)
    assert caught.value.code is ErrCode.TableOutOfBounds
    assert made.size == 19001
    assert made.table_type == TableType(RefType.FUNCREF, Limit(19001, 20000))


@pytest.mark.parametrize(
    ("limit", "code"),
    [(Limit(2, 1), ErrCode.InvalidLimit), (Limit(10_000_001), ErrCode.TableOutOfBounds)],
)
def test_types_that_are_not_valid_are_refused(limit: Limit, code: ErrCode) -> None:
    with pytest.raises(WasmEdgeError) as caught:
        Table(TableType(RefType.FUNCREF, limit))
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda t: t.get_data("0"), TypeError),
        (lambda t: t.set_data(5, 0), TypeError),
        (lambda t: t.set_data(ExternRef(1), 0), TypeError),
        (lambda t: t.grow(-1), ValueError),
        (lambda t: t.grow("1"), TypeError),
    ],
)
def test_wrong_arguments(use: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        use(table(RefType.FUNCREF, 1))
    with pytest.raises(error):
        use(shared()[1])


def test_host_and_guest_see_the_same_table() -> None:
    engine, made = shared()
    engine.call("put", 1)
    reference = made.get_data(1)
    assert isinstance(reference, FuncRef)
    assert reference.function is not None
    assert reference.function() == [5]
    assert engine.call("grow", 4) == [3]
    assert made.size == 7
    made.grow(3)
    assert engine.call("size") == [10]
    assert engine.call("grow", 1) == [-1]


def test_host_functions_in_a_table_are_called_by_the_guest() -> None:
    engine, made = shared()
    function = Function(FunctionType([], [I32]), lambda data, memory: data, 77)
    made.set_data(function, 0)
    assert engine.call("call", 0) == [77]
    reference = made.get_data(0)
    assert isinstance(reference, FuncRef)
    assert reference.function is function
    made.set_data(reference, 2)
    assert engine.call("call", 2) == [77]


def test_functions_set_before_the_table_is_in_a_store_are_called_by_the_guest() -> None:
    engine = Engine()
    made = table(RefType.FUNCREF, 3, 10)
    made.set_data(Function(FunctionType([], [I32]), lambda data, memory: 78), 2)
    imports = ImportObject("host")
    imports.add_table("table", made)
    engine.executor.register_import(engine.store, imports)
    engine.instantiate(USER)
    assert engine.call("call", 2) == [78]


def test_functions_of_the_guest_are_put_into_a_table_by_the_host() -> None:
    engine, made = shared()
    own = engine.store.find_function("own")
    assert own is not None
    made.set_data(own, 0)
    assert engine.call("call", 0) == [5]
    [reference] = engine.call("get", 0)
    engine.call("set", 1, reference)
    assert engine.call("call", 1) == [5]
    engine.call("set", 1, None)
    with pytest.raises(Trap) as caught:
        engine.call("call", 1)
    assert caught.value.code is ErrCode.UninitializedElement


def test_a_function_of_another_type_in_a_table_traps() -> None:
    engine, made = shared()
    made.set_data(Function(FunctionType([I32], [I32]), lambda data, memory, n: n), 0)
    with pytest.raises(Trap, match="indirect call type mismatch") as caught:
        engine.call("call", 0)
    assert caught.value.code is ErrCode.IndirectCallTypeMismatch


def test_a_reference_by_an_index_that_names_nothing_traps_when_called() -> None:
    engine, made = shared()
    made.set_data(FuncRef(123456), 0)
    assert made.get_data(0) == FuncRef(123456)
    with pytest.raises(Trap):
        engine.call("call", 0)


def test_a_reference_by_index_names_a_function_of_the_store() -> None:
    engine, made = shared()
    own = engine.store.find_function("own")
    assert own is not None
    made.set_data(FuncRef(own.index), 0)
    assert engine.call("call", 0) == [5]


def test_a_function_of_another_store_is_refused() -> None:
    _, made = shared()
    other = Engine()
    function = other.exports('(module (func (export "f")))')["f"]
    with pytest.raises(WasmEdgeError, match="another Store") as caught:
        made.set_data(function, 0)
    assert caught.value.code is ErrCode.WrongInstanceAddress


def test_a_table_belongs_to_one_store() -> None:
    _, made = shared()
    other = Engine()
    imports = ImportObject("host")
    imports.add_table("table", made)
    with pytest.raises(WasmEdgeError, match="belongs to another Store"):
        other.executor.register_import(other.store, imports)
