"""Initial memory that instances of a module share, mapped copy-on-write."""

from __future__ import annotations

import gc
import os
import resource
from typing import Any

import pytest

from tests.runtime.engine import I32, Engine, Running, output_of
from wasmedge_runtime import (
    AST,
    ErrCode,
    Global,
    GlobalType,
    ImportObject,
    Limit,
    Memory,
    MemoryType,
    Trap,
    ValMut,
)
from wasmedge_runtime.native.image import Image

PAGE = 65536
LARGE = "x" * 100_000


def instances(engine: Engine, module: AST, count: int = 3) -> list[Any]:
    return [engine.executor.instantiate(engine.store, module) for _ in range(count)]


def content(instance: Any) -> bytes:
    memory = instance.exports["memory"]
    return bytes(memory.get_data(0, memory.page_size * PAGE))


def mapped(instance: Any) -> bool:
    return bool(instance.memories[0].mapped)


def test_later_instances_map_what_the_first_one_copied() -> None:
    engine = Engine()
    module = engine.load(f'(module (memory (export "memory") 3) (data (i32.const 5) "{LARGE}"))')
    made = instances(engine, module)
    assert [mapped(instance) for instance in made] == [False, True, True]
    expected = (bytes(5) + LARGE.encode()).ljust(3 * PAGE, b"\0")
    assert [content(instance) for instance in made] == [expected] * 3


def test_what_one_instance_writes_no_other_one_sees() -> None:
    engine = Engine()
    module = engine.load(f'(module (memory (export "memory") 2) (data (i32.const 0) "{LARGE}"))')
    made = instances(engine, module)
    expected = content(made[0])
    for n, instance in enumerate(made):
        instance.exports["memory"].set_data(bytes([n]) * (2 * PAGE), 0)
    for n, instance in enumerate(made):
        assert content(instance) == bytes([n]) * (2 * PAGE)
    assert content(engine.executor.instantiate(engine.store, module)) == expected
    del made
    gc.collect()
    assert content(engine.executor.instantiate(engine.store, module)) == expected


def test_instances_in_many_threads() -> None:
    engine = Engine()
    module = engine.load(
        f"""(module (memory (export "memory") 2) (data (i32.const 0) "{LARGE}")
          (func (export "f") (param i32) (result i32)
            (i32.store8 (i32.const 9000) (local.get 0))
            (i32.add (i32.load8_u (i32.const 9000)) (i32.load8_u (i32.const 20000)))))"""
    )

    def work(first: int) -> None:
        own = Engine()
        for n in range(100):
            instance: Any = own.executor.instantiate(own.store, module)
            number = (first + n) % 100
            assert instance.exports["f"](number) == [number + ord("x")]
            instance.reset()
            assert instance.exports["memory"].get_data(9000, 1) == b"x"

    for running in [Running(work, n) for n in range(4)]:
        running.result()


def test_later_segments_win_over_earlier_ones() -> None:
    engine = Engine()
    module = engine.load(
        f"""(module (memory (export "memory") 2) (data (i32.const 10) "{LARGE}")
          (data (i32.const 5) "aaaaaaaaaa") (data (i32.const 50000) "b")
          (data (i32.const 0) "") (data (i32.const 131072) "") (data (i32.const 131070) "zz"))"""
    )
    expected = bytearray(2 * PAGE)
    for offset, data in ((10, LARGE.encode()), (5, b"a" * 10), (50000, b"b"), (131070, b"zz")):
        expected[offset : offset + len(data)] = data
    made = instances(engine, module)
    assert mapped(made[1])
    assert [content(instance) for instance in made] == [bytes(expected)] * 3


def test_many_small_segments_make_an_image_too() -> None:
    engine = Engine()
    segments = "".join(f'(data (i32.const {n * 512}) "{n:04}")' for n in range(100))
    made = instances(engine, engine.load(f'(module (memory (export "memory") 1) {segments})'))
    assert [mapped(instance) for instance in made] == [False, True, True]
    assert content(made[0]) == content(made[1])
    assert made[1].exports["memory"].get_data(99 * 512, 5) == b"0099\0"


@pytest.mark.parametrize(
    "data",
    [
        '(data (i32.const 0) "small")',
        '(data "passive")',
        f'(data (i32.const 0) "{LARGE}") (data (i32.const 4000000) "far away")',
        "",
    ],
)
def test_what_an_image_would_not_serve_is_copied(data: str) -> None:
    engine = Engine()
    made = instances(engine, engine.load(f'(module (memory (export "memory") 64) {data})'))
    assert not any(mapped(instance) for instance in made)
    made[0].reset()
    assert not mapped(made[0])
    expected = content(made[0])
    made[1].exports["memory"].set_data(b"other", 0)
    made[1].reset()
    assert content(made[1]) == content(made[2]) == expected


def test_ten_megabytes() -> None:
    engine = Engine()
    module = engine.load(
        '(module (memory (export "memory") 170 200) '
        f'(data (i32.const 100000) "{"0123456789" * (1 << 20)}"))'
    )
    made = instances(engine, module, 2)
    expected = (bytes(100000) + b"0123456789" * (1 << 20)).ljust(170 * PAGE, b"\0")
    memory = made[1].exports["memory"]
    assert content(made[1]) == expected
    memory.set_data(b"!" * (170 * PAGE), 0)
    memory.grow_page(30)
    memory.set_data(b"!", 200 * PAGE - 1)
    made[1].reset()
    assert content(made[1]) == expected
    memory.grow_page(30)
    assert memory.get_data(170 * PAGE, 30 * PAGE) == bytes(30 * PAGE)


def test_instances_share_the_memory_of_their_image() -> None:
    engine = Engine()
    module = engine.load(
        f'(module (memory (export "memory") 100) (data (i32.const 0) "{"y" * 5_000_000}"))'
    )
    made = instances(engine, module, 2)

    def own_bytes() -> int:
        with open("/proc/self/smaps_rollup") as file:
            fields = dict(line.split(":") for line in list(file)[1:])
        return int(fields["Anonymous"].split()[0]) * 1024

    before = own_bytes()
    made += instances(engine, module, 20)
    assert all(content(instance)[:5] == b"yyyyy" for instance in made)
    assert own_bytes() - before < 50_000_000, "copies would be 100 MB"


def test_an_image_in_a_memory_with_checks() -> None:
    """Little address space: the checked variant of the code, and smaller reservations."""
    output = output_of(
        f"""
        import resource
        from tests.runtime.engine import Engine, Trap

        engine = Engine()
        text = '''(module (memory (export "memory") 2 4) (data (i32.const 0) "{LARGE}")
          (func (export "get") (param i32) (result i32) (i32.load8_u (local.get 0)))
          (func (export "grow") (result i32) (memory.grow (i32.const 1))))'''
        module = engine.load(text)
        engine.executor.instantiate(engine.store, module)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
        for n in range(3):
            instance = engine.executor.instantiate(engine.store, module)
        memory = instance.exports["memory"]
        print(memory.guarded, bool(memory.mapped))
        for n in range(2):
            memory.set_data(b"ab", 0)
            print(instance.exports["grow"](), instance.exports["get"](3 * 65536 - 1))
            instance.reset()
            print(memory.get_data(0, 2), memory.page_size)
            try:
                instance.exports["get"](2 * 65536)
            except Trap as trap:
                print(trap.code.name)
        """
    )
    each = ["[2] [0]", "b'xx' 2", "MemoryOutOfBounds"]
    assert output.splitlines() == ["False True", *each, *each]


def test_a_segment_that_does_not_fit_traps_after_those_before_it() -> None:
    engine = Engine()
    imports = ImportObject("host")
    memory = Memory(MemoryType(Limit(1)))
    imports.add_memory("memory", memory)
    imports.add_global("at", Global(GlobalType(I32, ValMut.CONST), 100))
    engine.executor.register_import(engine.store, imports)
    module = engine.load(
        """(module (import "host" "memory" (memory 1)) (import "host" "at" (global $at i32))
          (data (i32.const 0) "first") (data (global.get $at) "second")
          (data (i32.const 65535) "third") (data (i32.const 200) "fourth"))"""
    )
    for _ in range(3):
        memory.set_data(bytes(PAGE), 0)
        with pytest.raises(Trap, match="data segment 2 does not fit: 5 bytes at 65535") as caught:
            engine.executor.instantiate(engine.store, module)
        assert caught.value.code is ErrCode.MemoryOutOfBounds
        assert memory.get_data(0, 5) == b"first"
        assert memory.get_data(100, 6) == b"second"
        assert memory.get_data(65535, 1) == b"\0"
        assert memory.get_data(200, 6) == bytes(6)


def test_a_large_segment_of_an_own_memory_that_does_not_fit() -> None:
    engine = Engine()
    module = engine.load(
        f'(module (memory 2) (data (i32.const 0) "{LARGE}") (data (i32.const 131070) "xyz"))'
    )
    for _ in range(3):
        with pytest.raises(Trap, match="data segment 1 does not fit"):
            engine.executor.instantiate(engine.store, module)


def test_element_segments_trap_before_any_data_is_written() -> None:
    """A function in an imported table lets others see the memory of the module that failed."""
    engine = Engine()
    table: Any = engine.register("table", '(module (table (export "t") 2 funcref))')
    module = engine.load(
        f"""(module (import "table" "t" (table 2 funcref)) (memory 2)
          (func $get (result i32) (i32.load8_u (i32.const 0)))
          (elem (i32.const 0) $get) (elem (i32.const 2) $get)
          (data (i32.const 0) "{LARGE}"))"""
    )
    for _ in range(3):
        with pytest.raises(Trap, match="an element segment does not fit"):
            engine.executor.instantiate(engine.store, module)
        assert table.exports["t"].get_data(0).function() == [0]


def test_without_descriptors_data_is_copied() -> None:
    engine = Engine()
    module = engine.load(f'(module (memory (export "memory") 2) (data (i32.const 0) "{LARGE}"))')
    first = engine.executor.instantiate(engine.store, module)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        made = instances(engine, module)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not any(mapped(instance) for instance in made)
    made[0].exports["memory"].set_data(b"other", 0)
    made[0].reset()
    assert content(made[0]) == content(first)


def test_nothing_can_change_an_image() -> None:
    image = Image([(0, PAGE)], [(5, memoryview(b"data"))])
    with pytest.raises(PermissionError):
        os.pwrite(image._descriptor, b"other", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(image._descriptor, 0)
    assert not os.get_inheritable(image._descriptor)


def test_a_memory_outlives_the_image_it_came_from() -> None:
    engine = Engine()
    text = f'(module (memory (export "memory") 2) (data (i32.const 0) "{LARGE}"))'
    view = instances(engine, engine.load(text))[1].exports["memory"].view()
    engine.store.close()
    del engine
    gc.collect()
    assert bytes(view[99_998:100_002]) == b"xx\0\0"


def counts() -> tuple[int, int]:
    """Descriptors and mappings of this process."""
    gc.collect()
    with open("/proc/self/maps") as file:
        return len(os.listdir("/proc/self/fd")), sum(1 for _ in file)


def test_descriptors_and_mappings_are_given_back() -> None:
    modules = [f'(module (memory 2) (data (i32.const {n}) "{LARGE}"))' for n in range(20)]

    def work() -> None:
        engine = Engine()
        for text in modules:
            for instance in instances(engine, engine.load(text)):
                instance.reset()

    work()
    descriptors, mappings = counts()
    for _ in range(5):
        work()
    after = counts()
    assert after[0] <= descriptors
    assert after[1] <= mappings + 10  # the interpreter's own memory comes and goes


def test_a_module_has_one_descriptor_for_all_its_instances() -> None:
    engine = Engine()
    module = engine.load(f'(module (memory (export "memory") 2) (data (i32.const 1) "{LARGE}"))')
    before = counts()[0]
    made = instances(engine, module, 100)
    assert counts()[0] == before + 1
    for instance in made:
        instance.reset()
    assert counts()[0] == before + 1
