"""What lives in a worker's store, through handles; and what an import object shares."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from tests.api.hosts import guest, host
from tests.loops import Run
from tests.wat import wat
from wasmedge_async import (
    V128,
    VM,
    ErrCode,
    ExternRef,
    FunctionType,
    Global,
    GlobalType,
    ImportObject,
    InstantiationError,
    Limit,
    Memory,
    MemoryType,
    RefType,
    Table,
    TableType,
    Trap,
    ValMut,
    ValType,
    WasmEdgeError,
)
from wasmedge_pool.actor import Actor

I32 = ValType.I32


# --- Looking up ---------------------------------------------------------------------------------


def test_the_store_lists_exports_and_modules(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            store = await vm.get_store()
            assert "identity" in await store.list_function()
            assert await store.list_memory() == ["memory"]
            assert sorted(await store.list_table()) == ["functions", "objects"]
            assert sorted(await store.list_global()) == ["count", "kept_global"]
            assert await store.list_module() == ["env"]
            assert "number" in await store.list_function_registered("env")
            assert await store.list_memory_registered("env") == []
            assert await store.list_table_registered("env") == []
            assert await store.list_global_registered("env") == []
            assert await store.list_function_registered("absent") == []

    run(main())


def test_what_is_not_there_is_none(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            store = await vm.get_store()
            for kind in ("function", "table", "memory", "global"):
                assert await getattr(store, f"find_{kind}")("absent") is None
                assert await getattr(store, f"find_{kind}_registered")("env", "absent") is None
                assert await getattr(store, f"find_{kind}_registered")("absent", "x") is None
            assert await store.find_memory("identity") is None  # of another kind

    run(main())


def test_a_function_is_called_by_its_handle(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            store = await vm.get_store()
            function = await store.find_function("identity")
            registered = await store.find_function_registered("env", "number")
            assert function is not None
            assert registered is not None
            assert function.function_type == FunctionType([I32], [I32])
            assert await function(7) == [7]
            assert await registered(8) == [8]
            with pytest.raises(WasmEdgeError) as caught:
                await function()
            assert caught.value.code is ErrCode.FuncSigMismatch
            spin = await store.find_function("spin")
            assert spin is not None
            with pytest.raises(TimeoutError):
                await spin(timeout=0.01)

    run(main())


def test_memory_through_a_handle(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            memory = await (await vm.get_store()).find_memory("memory")
            assert memory is not None
            assert memory.memory_type == MemoryType(Limit(32))
            assert await memory.get_data(16, 5) == b"hello"
            large = bytes(range(256)) * 6000
            await memory.set_data(large, 77)
            assert await memory.get_data(77, len(large)) == large
            await memory.set_data(memoryview(b"abcdef"), 0, 3)
            assert await memory.get_data(0, 4) == b"abc\0"
            assert await memory.get_data(5, 0) == b""
            assert await memory.get_page_size() == 32
            await memory.grow_page(1)
            assert await memory.get_page_size() == 33
            for access in (
                memory.get_data(33 * 65536, 1),
                memory.get_data(1 << 40, 1),
                memory.set_data(b"ab", 33 * 65536 - 1),
                memory.grow_page(1 << 20),
            ):
                with pytest.raises(WasmEdgeError) as caught:
                    await access
                assert caught.value.code is ErrCode.MemoryOutOfBounds
            with pytest.raises(ValueError, match="only 2 bytes"):
                await memory.set_data(b"ab", 0, 3)
            with pytest.raises(TypeError):
                await memory.get_data(0.5, 1)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="0 or more"):
                await memory.get_data(-1, 1)

    run(main())


def test_tables_and_globals_through_handles(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            store = await vm.get_store()
            table = await store.find_table("objects")
            count = await store.find_global("count")
            assert table is not None
            assert count is not None
            assert table.table_type == TableType(RefType.EXTERNREF, Limit(4))
            assert await table.get_size() == 4
            await table.grow(2)
            assert await table.get_size() == 6
            assert await table.get_data(5) is None
            for access in (table.get_data(6), table.set_data(None, 6), table.grow(1 << 40)):
                with pytest.raises(WasmEdgeError) as caught:
                    await access
                assert caught.value.code is ErrCode.TableOutOfBounds
            await vm.execute("add_one", 5)
            assert await count.get_value() == 5
            await count.set_value(0xFFFF_FFFF)
            assert await count.get_value() == -1
            with pytest.raises(TypeError, match="i32 needs an int"):
                await count.set_value(2.5)
            with pytest.raises(OverflowError):
                await count.set_value(1 << 32)

    run(main())


def test_requests_of_many_tasks_keep_their_order(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            count = await (await vm.get_store()).find_global("count")
            assert count is not None
            asked: list[Any] = []
            for value in range(50):
                asked.append(vm.execute("add_one", 1))
                asked.append(count.get_value())
                asked.append(count.set_value(value * 10))
            got = await asyncio.gather(*asked)
            for value in range(50):
                expected = 1 if value == 0 else (value - 1) * 10 + 1
                assert got[3 * value] == [expected]
                assert got[3 * value + 1] == expected

    run(main())


def test_a_handle_stays_with_its_instance(run: Run[None]) -> None:
    module = wat('(module (global (export "g") (mut i32) (i32.const 1)))')

    async def main() -> None:
        async with VM() as vm:
            await vm.load_wasm_buffer(module)
            await vm.validate()
            await vm.instantiate()
            store = await vm.get_store()
            old = await store.find_global("g")
            assert old is not None
            await old.set_value(5)
            await vm.instantiate()
            new = await store.find_global("g")
            assert new is not None
            assert (await old.get_value(), await new.get_value()) == (5, 1)

    run(main())


def test_forgotten_and_closed_handles_are_released_in_the_worker(run: Run[None]) -> None:
    released: list[int] = []

    async def main() -> None:
        async with guest() as vm:
            assert isinstance(vm._actor, Actor)
            mailbox = vm._actor._mailbox
            assert mailbox is not None
            release = mailbox.release

            def noted(vm: int, handle: int) -> None:
                released.append(handle)
                release(vm, handle)

            mailbox.release = noted  # type: ignore[method-assign]
            store = await vm.get_store()
            handles: list[Any] = [await store.find_memory("memory") for _ in range(3)]
            places = [handle.place.handle for handle in handles]
            pending = asyncio.create_task(handles[0].get_data(0, 1))
            await asyncio.sleep(0)
            handles[0].close()
            handles[0].close()
            await asyncio.gather(pending, return_exceptions=True)
            with pytest.raises(WasmEdgeError, match="closed"):
                await handles[0].get_data(0, 1)
            handles.clear()
            gc.collect()
            assert sorted(released) == places
            assert await vm.execute("identity", 1) == [1]

    run(main())


def test_a_handle_that_is_closed_while_its_use_waits(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            memory = await (await vm.get_store()).find_memory("memory")
            assert memory is not None
            busy = [asyncio.create_task(vm.execute("spin", timeout=0.05)) for _ in range(2)]
            waiting = asyncio.create_task(memory.get_data(0, 1))
            await asyncio.sleep(0.01)
            memory.close()
            await asyncio.gather(*busy, waiting, return_exceptions=True)
            assert await vm.execute("identity", 1) == [1]

    run(main())


# --- What an import object shares ---------------------------------------------------------------


def shared() -> tuple[ImportObject, Table, Memory, Global]:
    table = Table(TableType(RefType.EXTERNREF, Limit(2, 4)))
    memory = Memory(MemoryType(Limit(1, 3)))
    variable = Global(GlobalType(I32, ValMut.VAR), 41)
    imports = ImportObject("shared")
    imports.add_table("table", table)
    imports.add_memory("memory", memory)
    imports.add_global("variable", variable)
    imports.add_global("vector", Global(GlobalType(ValType.V128, ValMut.CONST), V128(1, 2)))
    return imports, table, memory, variable


SHARING = """
(module
  (import "shared" "table" (table 2 4 externref))
  (import "shared" "memory" (memory 1 3))
  (import "shared" "variable" (global $variable (mut i32)))
  (import "shared" "vector" (global $vector v128))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "variable") (result i32) (global.get $variable))
  (func (export "vector") (result v128) (global.get $vector))
  (func (export "set") (param i32) (global.set $variable (local.get 0)))
  (func (export "element") (param i32) (result externref) (table.get 0 (local.get 0))))
"""


def test_guests_share_what_an_import_object_has(run: Run[None]) -> None:
    imports, table, memory, variable = shared()
    thing = object()

    async def main() -> None:
        await memory.set_data(b"written before", 10)
        await table.set_data(thing, 1)
        variable.value = 42
        async with VM() as vm:
            await vm.register_import(imports)
            await vm.load_wasm_buffer(wat(SHARING))
            await vm.validate()
            await vm.instantiate()
            assert await vm.execute("load", 10) == [ord("w")]
            assert await vm.execute("variable") == [42]
            assert await vm.execute("vector") == [V128(1, 2)]
            assert (await vm.execute("element", 1))[0].value is thing
            await memory.set_data(b"X", 10)
            assert await vm.execute("load", 10) == [ord("X")]
            await vm.execute("store", 20, ord("Y"))
            assert await memory.get_data(20, 1) == b"Y"
            await vm.execute("set", 7)
            assert await variable.get_value() == 7
            await variable.set_value(8)
            assert await vm.execute("variable") == [8]
            await table.grow(1)
            assert await table.get_size() == 3
            await memory.grow_page(1)
            assert await memory.get_page_size() == 2
            with pytest.raises(WasmEdgeError) as caught:
                await memory.grow_page(2)
            assert caught.value.code is ErrCode.MemoryOutOfBounds

    run(main())


def test_before_it_is_registered_it_can_be_used_without_a_worker(run: Run[None]) -> None:
    _, table, memory, variable = shared()

    async def main() -> None:
        assert memory.page_size == await memory.get_page_size() == 1
        await memory.set_data(b"abc", 65530)
        assert await memory.get_data(65529, 5) == b"\0abc\0"
        with pytest.raises(WasmEdgeError) as caught:
            await memory.set_data(b"abc", 65534)
        assert caught.value.code is ErrCode.MemoryOutOfBounds
        with pytest.raises(WasmEdgeError, match="register it"):
            await memory.grow_page(1)
        assert table.size == await table.get_size() == 2
        with pytest.raises(WasmEdgeError) as caught:
            await table.get_data(2)
        assert caught.value.code is ErrCode.TableOutOfBounds
        variable.value = 0xFFFF_FFFF
        assert variable.value == await variable.get_value() == -1
        with pytest.raises(TypeError, match="i32 needs an int, not str"):
            variable.value = "text"
        constant = Global(GlobalType(ValType.F32, ValMut.CONST), 0.1)
        assert constant.value == 0.10000000149011612
        with pytest.raises(WasmEdgeError) as caught:
            constant.value = 1.0
        assert caught.value.code is ErrCode.ImmutableGlobal
        with pytest.raises(TypeError, match="a funcref is"):
            await Table(TableType(RefType.FUNCREF, Limit(1))).set_data("text", 0)
        with pytest.raises(OverflowError):
            Global(GlobalType(I32, ValMut.VAR), 1 << 40)

    run(main())


def test_afterwards_its_properties_name_the_awaited_method(run: Run[None]) -> None:
    imports, table, memory, variable = shared()

    async def main() -> None:
        async with VM() as vm:
            await vm.register_import(imports)
            with pytest.raises(WasmEdgeError, match=r"await .*get_page_size\(\)"):
                _ = memory.page_size
            with pytest.raises(WasmEdgeError, match=r"await .*get_size\(\)"):
                _ = table.size
            with pytest.raises(WasmEdgeError, match=r"await .*get_value\(\)"):
                _ = variable.value
            with pytest.raises(WasmEdgeError, match=r"await .*set_value\(value\)"):
                variable.value = 1
            with pytest.raises(WasmEdgeError, match="get_data and set_data"):
                memory.view()

    run(main())


def test_an_instance_object_belongs_to_one_vm(run: Run[None]) -> None:
    async def main() -> None:
        imports, _, memory, _ = shared()
        async with VM() as one, VM() as other:
            got = await asyncio.gather(
                one.register_import(imports),
                other.register_import(imports),
                return_exceptions=True,
            )
            assert got[0] is None
            assert isinstance(got[1], WasmEdgeError)
            assert "belongs to a VM already" in str(got[1])
            assert await memory.get_page_size() == 1
            again = ImportObject("again")
            again.add_memory("memory", memory)
            with pytest.raises(WasmEdgeError, match="create one Memory for each VM"):
                await one.register_import(again)

    run(main())


def test_what_could_not_be_registered_can_be_registered_elsewhere(run: Run[None]) -> None:
    async def main() -> None:
        imports, _, memory, _ = shared()
        async with VM() as one, VM() as other:
            await one.register_import(ImportObject("shared"))
            with pytest.raises(InstantiationError) as caught:
                await one.register_import(imports)
            assert caught.value.code is ErrCode.ModuleNameConflict
            assert memory.page_size == 1
            await other.register_import(imports)
            assert await memory.get_page_size() == 1

    run(main())


def test_it_is_out_of_reach_while_it_is_being_registered(run: Run[None]) -> None:
    async def main() -> None:
        imports, _, memory, _ = shared()
        async with VM() as vm:
            registering = asyncio.create_task(vm.register_import(imports))
            await asyncio.sleep(0)
            with pytest.raises(WasmEdgeError, match="await register_import first"):
                await memory.set_data(b"lost", 0)
            await registering
            await memory.set_data(b"kept", 0)

    run(main())


def test_registering_keeps_its_place_in_the_order(run: Run[None]) -> None:
    async def main() -> None:
        from tests.api.hosts import GUEST

        vm = VM()  # whose worker starts with the first of these
        try:
            await asyncio.gather(
                vm.register_import(host()),
                vm.load_wasm_buffer(wat(GUEST)),
                vm.validate(),
                vm.instantiate(),
            )
            assert await vm.execute("number", 3) == [3]
        finally:
            await vm.close()

    run(main())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Memory(MemoryType(Limit(2, 1))),
        lambda: Table(TableType(RefType.FUNCREF, Limit(2, 1))),
    ],
)
def test_a_minimum_above_the_maximum_is_refused(make: Any) -> None:
    with pytest.raises(WasmEdgeError) as caught:
        make()
    assert caught.value.code is ErrCode.InvalidLimit


def test_a_closed_import_object_is_an_error(run: Run[None]) -> None:
    async def main() -> None:
        imports = host()
        imports.close()
        with pytest.raises(WasmEdgeError, match="closed"):
            imports.add_memory("m", Memory(MemoryType(Limit(1))))
        async with VM() as vm:
            with pytest.raises(WasmEdgeError, match="closed"):
                await vm.register_import(imports)

    run(main())


def test_a_large_table_and_memory_are_registered(run: Run[None]) -> None:
    async def main() -> None:
        imports = ImportObject("shared")
        memory = Memory(MemoryType(Limit(64)))
        table = Table(TableType(RefType.EXTERNREF, Limit(5000)))
        content = bytes(range(256)) * 16_000
        await memory.set_data(content, 1)
        reference = ExternRef("one")
        for index in range(4000):
            await table.set_data(reference, index)
        imports.add_memory("memory", memory)
        imports.add_table("table", table)
        async with VM() as vm:
            await vm.register_import(imports)
            assert await memory.get_data(1, len(content)) == content
            assert await table.get_data(3999) is reference
            assert await table.get_data(4000) is None

    run(main())


def test_traps_leave_handles_usable(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            memory = await (await vm.get_store()).find_memory("memory")
            assert memory is not None
            with pytest.raises(Trap):
                await vm.execute("trap")
            assert await memory.get_data(16, 5) == b"hello"

    run(main())
