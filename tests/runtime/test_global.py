"""Global instances made by the host and by modules."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.runtime.engine import F32, F64, FUNCREF, I32, I64, Engine
from tests.runtime.engine import V128 as V128_TYPE
from wasmedge_runtime import (
    V128,
    ErrCode,
    ExternRef,
    FuncRef,
    Function,
    FunctionType,
    Global,
    GlobalType,
    ImportObject,
    ValMut,
    ValType,
    WasmEdgeError,
)


@pytest.mark.parametrize(
    ("kind", "given", "seen"),
    [
        (I32, 5, 5),
        (I32, 0xFFFFFFFF, -1),
        (I64, 1 << 63, -(1 << 63)),
        (F32, 0.1, 0.10000000149011612),
        (F64, 0.1, 0.1),
        (F64, 3, 3.0),
        (V128_TYPE, V128(1, 2), V128(1, 2)),
        (ValType.EXTERNREF, None, None),
        (FUNCREF, None, None),
    ],
)
def test_values_of_each_type(kind: ValType, given: Any, seen: Any) -> None:
    for mutability in ValMut:
        made = Global(GlobalType(kind, mutability), given)
        assert made.value == seen
        assert made.global_type == GlobalType(kind, mutability)
    made = Global(GlobalType(kind, ValMut.VAR), given)
    made.value = given
    assert made.value == seen


def test_nans_keep_their_bits() -> None:
    made = Global(GlobalType(F32, ValMut.VAR), math.nan)
    made.value = -math.nan
    assert math.copysign(1, made.value) == -1


def test_a_constant_cannot_be_set() -> None:
    made = Global(GlobalType(I32, ValMut.CONST), 1)
    with pytest.raises(WasmEdgeError) as caught:
        made.value = 2
    assert caught.value.code is ErrCode.ImmutableGlobal
    assert made.value == 1


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [
        (I32, 1 << 32, OverflowError),
        (I32, 1.5, TypeError),
        (I64, "1", TypeError),
        (F64, None, TypeError),
        (V128_TYPE, 5, TypeError),
        (FUNCREF, 5, TypeError),
    ],
)
def test_a_wrong_value_is_refused_and_changes_nothing(
    kind: ValType, value: Any, error: type[Exception]
) -> None:
    first: Any = V128(0, 9) if kind == V128_TYPE else None if kind == FUNCREF else 9
    made = Global(GlobalType(kind, ValMut.VAR), first)
    with pytest.raises(error):
        made.value = value
    assert made.value == first
    with pytest.raises(error):
        Global(GlobalType(kind, ValMut.VAR), value)


MODULE = """(module (import "host" "number" (global $n (mut i64)))
  (import "host" "thing" (global $x (mut externref)))
  (import "host" "function" (global $f (mut funcref)))
  (import "host" "constant" (global $c f64))
  (global $own (export "own") (mut v128) (v128.const i64x2 3 4))
  (global (export "copy") f64 (global.get $c))
  (table 1 funcref) (type $t (func (result i32)))
  (func (export "next") (result i64)
    (global.set $n (i64.add (global.get $n) (i64.const 1))) (global.get $n))
  (func (export "thing") (result externref) (global.get $x))
  (func (export "call") (result i32) (table.set (i32.const 0) (global.get $f))
    (call_indirect (type $t) (i32.const 0)))
  (func (export "constant") (result f64) (global.get $c))
  (func (export "low") (result i64) (i64x2.extract_lane 0 (global.get $own))))"""


def test_host_and_guest_see_the_same_globals() -> None:
    engine = Engine()
    thing = object()
    globals_ = {
        "number": Global(GlobalType(I64, ValMut.VAR), 40),
        "thing": Global(GlobalType(ValType.EXTERNREF, ValMut.VAR), thing),
        "function": Global(
            GlobalType(FUNCREF, ValMut.VAR),
            Function(FunctionType([], [I32]), lambda data, memory: 6),
        ),
        "constant": Global(GlobalType(F64, ValMut.CONST), 2.5),
    }
    imports = ImportObject("host")
    for name, made in globals_.items():
        imports.add_global(name, made)
    engine.executor.register_import(engine.store, imports)
    exports = engine.exports(MODULE)
    assert engine.call("next") == [41]
    assert globals_["number"].value == 41
    globals_["number"].value = -5
    assert engine.call("next") == [-4]
    [reference] = engine.call("thing")
    assert reference.value is thing
    kept = ExternRef(5)
    globals_["thing"].value = kept
    assert engine.call("thing") == [kept]
    assert engine.call("call") == [6]
    assert isinstance(globals_["function"].value, FuncRef)
    assert engine.call("constant") == [2.5]
    assert exports["copy"].value == 2.5
    exports["own"].value = V128(8, 7)
    assert engine.call("low") == [7]
    with pytest.raises(WasmEdgeError):
        exports["copy"].value = 1.0


def test_a_global_belongs_to_one_store() -> None:
    made = Global(GlobalType(I32, ValMut.VAR), 1)
    for n in range(2):
        engine = Engine()
        imports = ImportObject("host")
        imports.add_global("g", made)
        if n == 0:
            engine.executor.register_import(engine.store, imports)
            continue
        with pytest.raises(WasmEdgeError, match="belongs to another Store"):
            engine.executor.register_import(engine.store, imports)
