"""Memory instances made by the host and by modules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.engine import Engine, output_of
from wasmedge_runtime import (
    Configure,
    ErrCode,
    ImportObject,
    InstantiationError,
    Limit,
    Memory,
    MemoryType,
    WasmEdgeError,
)

PAGE = 65536


def memory(minimum: int, maximum: int | None = None) -> Memory:
    return Memory(MemoryType(Limit(minimum, maximum)))


def test_a_new_memory_is_zero_and_as_large_as_its_type_says() -> None:
    made = memory(2, 5)
    assert made.page_size == 2
    assert made.memory_type == MemoryType(Limit(2, 5))
    assert made.get_data(0, 2 * PAGE) == bytes(2 * PAGE)


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        (Limit(65537), ErrCode.InvalidMemPages),
        (Limit(1, 65537), ErrCode.InvalidMemPages),
        (Limit(3, 2), ErrCode.InvalidLimit),
    ],
)
def test_types_that_are_not_valid_are_refused(limit: Limit, code: ErrCode) -> None:
    with pytest.raises(WasmEdgeError) as caught:
        Memory(MemoryType(limit))
    assert caught.value.code is code


def test_the_largest_memory_can_be_made_and_reached_at_its_end() -> None:
    made = memory(65536)
    made.set_data(b"end", 65536 * PAGE - 3)
    assert made.get_data(65536 * PAGE - 3, 3) == b"end"


def test_data_is_written_and_read() -> None:
    made = memory(1)
    made.set_data(b"\1\2\3\4", 10)
    assert made.get_data(9, 6) == b"\0\1\2\3\4\0"
    made.set_data(bytearray(b"abcdef"), 0, 3)
    assert made.get_data(0, 4) == b"abc\0"
    made.set_data(memoryview(b"xyz")[1:], PAGE - 2)
    assert made.get_data(PAGE - 2, 2) == b"yz"
    made.set_data(b"", PAGE)
    assert made.get_data(PAGE, 0) == b""


@pytest.mark.parametrize(
    ("offset", "length"), [(PAGE, 1), (PAGE - 1, 2), (0, PAGE + 1), (1 << 40, 1), (PAGE + 1, 0)]
)
def test_what_is_out_of_bounds_is_an_error_and_writes_nothing(offset: int, length: int) -> None:
    made = memory(1)
    for use in (
        lambda: made.get_data(offset, length),
        lambda: made.set_data(b"\xff" * length, offset),
    ):
        with pytest.raises(WasmEdgeError, match="out of bounds memory access") as caught:
            use()
        assert caught.value.code is ErrCode.MemoryOutOfBounds
    assert made.get_data(0, PAGE) == bytes(PAGE)


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda m: m.get_data(-1, 1), ValueError),
        (lambda m: m.get_data(0, -1), ValueError),
        (lambda m: m.get_data("0", 1), TypeError),
        (lambda m: m.set_data("text", 0), TypeError),
        (lambda m: m.set_data(b"abc", 0, 4), ValueError),
        (lambda m: m.set_data(b"abc", -1), ValueError),
        (lambda m: m.grow_page(-1), ValueError),
        (lambda m: m.grow_page(1.5), TypeError),
    ],
)
def test_wrong_arguments(use: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        use(memory(1, 2))


def test_growing_keeps_the_content_and_adds_zeros() -> None:
    made = memory(1, 3)
    made.set_data(b"\1", PAGE - 1)
    made.grow_page(2)
    assert made.page_size == 3
    assert made.get_data(PAGE - 1, 2) == b"\1\0"
    made.grow_page(0)
    assert made.memory_type == MemoryType(Limit(3, 3))


@pytest.mark.parametrize(
    ("limit", "pages"), [(Limit(1, 3), 3), (Limit(1), 65536), (Limit(0), 1 << 70)]
)
def test_growing_past_the_limit_is_an_error_and_changes_nothing(limit: Limit, pages: int) -> None:
    made = Memory(MemoryType(limit))
    with pytest.raises(WasmEdgeError) as caught:
        made.grow_page(pages)
    assert caught.value.code is ErrCode.MemoryOutOfBounds
    assert made.page_size == limit.min


def test_a_view_is_the_memory_itself() -> None:
    made = memory(1, 2)
    view = made.view()
    view[5] = 200
    assert made.get_data(5, 1) == b"\xc8"
    made.set_data(b"\7", 6)
    assert view[6] == 7
    assert not view.readonly
    assert (view.format, view.itemsize, len(view)) == ("B", 1, PAGE)
    made.grow_page(1)
    assert len(view) == PAGE
    assert len(made.view()) == 2 * PAGE
    view[0] = 1
    assert made.get_data(0, 1) == b"\1"
    assert len(memory(0).view()) == 0


def test_host_and_guest_see_the_same_memory() -> None:
    engine = Engine()
    made = memory(1, 4)
    imports = ImportObject("host")
    imports.add_memory("memory", made)
    engine.executor.register_import(engine.store, imports)
    engine.instantiate(
        """(module (import "host" "memory" (memory 1 4)) (export "memory" (memory 0))
          (func (export "get") (param i32) (result i32) (i32.load8_u (local.get 0)))
          (func (export "set") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"""
    )
    made.set_data(b"\x2a", 100)
    assert engine.call("get", 100) == [42]
    engine.call("set", 7, 9)
    assert made.get_data(7, 1) == b"\x09"
    assert engine.call("grow", 1) == [1]
    assert made.page_size == 2
    made.grow_page(2)
    assert engine.call("get", 4 * PAGE - 1) == [0]
    assert engine.call("grow", 1) == [-1]
    assert engine.store.find_memory("memory") is made


def test_max_memory_page_limits_growth_and_creation() -> None:
    config = Configure()
    config.max_memory_page = 3
    engine = Engine(config)
    exports = engine.exports(
        """(module (memory (export "memory") 1)
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"""
    )
    assert exports["grow"](3) == [-1]
    assert exports["grow"](2) == [1]
    assert exports["grow"](1) == [-1]
    with pytest.raises(WasmEdgeError) as caught:
        exports["memory"].grow_page(1)
    assert caught.value.code is ErrCode.MemoryOutOfBounds
    with pytest.raises(InstantiationError, match="3 pages") as refused:
        engine.instantiate("(module (memory 4))")
    assert refused.value.code is ErrCode.InvalidMemPages


def test_max_memory_page_holds_for_a_memory_of_the_host() -> None:
    config = Configure()
    config.max_memory_page = 2
    engine = Engine(config)
    made = memory(1)
    imports = ImportObject("host")
    imports.add_memory("memory", made)
    engine.executor.register_import(engine.store, imports)
    made.grow_page(1)
    with pytest.raises(WasmEdgeError):
        made.grow_page(1)


def test_a_memory_belongs_to_one_store() -> None:
    made = memory(1)
    for n in range(2):
        engine = Engine()
        imports = ImportObject("host")
        imports.add_memory("memory", made)
        if n == 0:
            engine.executor.register_import(engine.store, imports)
            continue
        with pytest.raises(WasmEdgeError, match="belongs to another Store") as caught:
            engine.executor.register_import(engine.store, imports)
        assert caught.value.code is ErrCode.WrongInstanceAddress
        assert engine.store.list_module() == []


def test_types_are_copied() -> None:
    kind = MemoryType(Limit(1, 2))
    made = Memory(kind)
    kind.close()
    made.grow_page(1)
    assert made.memory_type == MemoryType(Limit(2, 2))


def test_all_of_the_largest_memory_can_be_asked_for() -> None:
    """4 GiB are more than a C int: they were 0 bytes. Without room for a copy, an error says so."""
    output = output_of(
        """
        import resource
        from wasmedge_runtime import Limit, Memory, MemoryType

        memory = Memory(MemoryType(Limit(65536)))
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
        try:
            print(len(memory.get_data(0, 1 << 32)))
        except MemoryError:
            print("MemoryError")
        """
    )
    assert output == "MemoryError"
