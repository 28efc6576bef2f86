"""Store: finding and listing what modules export."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.engine import Engine
from wasmedge_runtime import Function, Global, Memory, Store, Table, WasmEdgeError

TEXT = """(module (func (export "b")) (func (export "a")) (memory (export "m") 1)
  (table (export "t") 1 funcref) (global (export "g") i32 (i32.const 1)))"""

KINDS: list[tuple[str, str, type[Any]]] = [
    ("function", "a", Function),
    ("table", "t", Table),
    ("memory", "m", Memory),
    ("global", "g", Global),
]
LISTED = {"function": ["a", "b"], "table": ["t"], "memory": ["m"], "global": ["g"]}


@pytest.mark.parametrize(("kind", "name", "cls"), KINDS)
def test_exports_are_found_and_listed(kind: str, name: str, cls: type[Any]) -> None:
    engine = Engine()
    store = engine.store
    find, list_ = getattr(store, f"find_{kind}"), getattr(store, f"list_{kind}")
    find_in = getattr(store, f"find_{kind}_registered")
    list_in = getattr(store, f"list_{kind}_registered")
    assert find(name) is None
    assert list_() == []
    assert find_in("lib", name) is None
    assert list_in("lib") == []
    engine.instantiate(TEXT)
    engine.register("lib", TEXT)
    assert isinstance(find(name), cls)
    assert isinstance(find_in("lib", name), cls)
    assert list_() == list_in("lib") == LISTED[kind]
    others = {"a", "t", "m", "g", "nothing"} - {name}
    assert all(find(other) is None and find_in("lib", other) is None for other in others)


def test_modules_are_listed_by_name() -> None:
    engine = Engine()
    assert engine.store.list_module() == []
    for name in ("z", "a", ""):
        engine.register(name, TEXT)
    engine.instantiate(TEXT)
    assert engine.store.list_module() == ["", "a", "z"]


def test_the_same_export_is_the_same_object_in_one_instance() -> None:
    engine = Engine()
    instance = engine.register("lib", TEXT)
    store = engine.store
    assert store.find_memory_registered("lib", "m") is instance.exports["m"]
    assert store.find_table_registered("lib", "t") is instance.exports["t"]
    assert store.find_function_registered("lib", "a") == instance.exports["a"]


def test_everything_is_refused_after_close() -> None:
    engine = Engine()
    engine.instantiate(TEXT)
    store = engine.store
    store.close()
    for kind, name, _ in KINDS:
        uses: list[Any] = [
            lambda k=kind, n=name: getattr(store, f"find_{k}")(n),
            lambda k=kind: getattr(store, f"list_{k}")(),
            lambda k=kind, n=name: getattr(store, f"find_{k}_registered")("lib", n),
            lambda k=kind: getattr(store, f"list_{k}_registered")("lib"),
        ]
        for use in uses:
            with pytest.raises(WasmEdgeError, match="this Store is closed"):
                use()


def test_stores_do_not_see_each_other() -> None:
    one, two = Engine(), Engine()
    one.register("lib", TEXT)
    assert two.store.find_function_registered("lib", "a") is None
    assert isinstance(two.store, Store)
