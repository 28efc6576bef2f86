"""References between the parent and guests: the same objects, and none that leak."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import weakref
from typing import Any

import pytest

from tests.api.hosts import FUNCREF, I32, guest, host, set_up
from tests.loops import Run
from wasmedge_async import (
    VM,
    CallTimeout,
    ErrCode,
    ExternRef,
    FuncRef,
    Function,
    FunctionType,
    Global,
    GlobalType,
    HostFunctionError,
    ImportObject,
    Limit,
    RefType,
    Table,
    TableType,
    Trap,
    ValMut,
    ValType,
    WasmEdgeError,
    WorkerDied,
)


class Thing:
    """Something that can be watched."""


def held(vm: VM) -> int:
    """How many objects the VM's worker may hold."""
    return len(vm._actor._mailbox.references)  # type: ignore[union-attr]


async def settle(vm: VM) -> None:
    """Wait for what the worker says about references after its answers."""
    gc.collect()
    for _ in range(3):
        await vm.execute("identity", 0)


# --- The same object ----------------------------------------------------------------------------


def test_an_object_comes_back_as_itself(run: Run[None]) -> None:
    thing = Thing()
    reference = ExternRef(thing)

    async def main() -> None:
        async with guest() as vm:
            [found] = await vm.execute("same", thing)
            assert found.value is thing
            [found] = await vm.execute("same", reference)
            assert found is reference
            [found] = await vm.execute("object", "text")
            assert found.value == "text"
            first, second = await vm.execute("swap", 5, thing)
            assert (first.value, second.value) == (thing, 5)
            assert await vm.execute("same", None) == [None]

    run(main())


def test_a_host_function_gets_and_gives_objects(run: Run[None]) -> None:
    seen: list[Any] = []
    answer = Thing()

    async def take(data: Any, memory: Any, value: Any) -> Any:
        seen.append(value)
        return answer

    thing = Thing()

    async def main() -> None:
        async with guest(object=take) as vm:
            [found] = await vm.execute("object", thing)
            assert seen[0].value is thing
            assert found.value is answer

    run(main())


def test_a_table_and_a_global_keep_objects(run: Run[None]) -> None:
    thing, other = Thing(), Thing()

    async def main() -> None:
        async with guest() as vm:
            store = await vm.get_store()
            table = await store.find_table("objects")
            kept = await store.find_global("kept_global")
            assert table is not None
            assert kept is not None
            await vm.execute("put", 1, thing)
            element = await table.get_data(1)
            assert isinstance(element, ExternRef)
            assert element.value is thing
            await table.set_data(other, 1)
            assert (await vm.execute("get", 1))[0].value is other
            await kept.set_value(thing)
            assert (await vm.execute("kept"))[0].value is thing

    run(main())


def test_a_closed_reference_is_an_error(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            reference = ExternRef("text")
            await vm.execute("keep", reference)
            reference.close()
            with pytest.raises(WasmEdgeError, match="no longer alive"):
                await vm.execute("kept")
            with pytest.raises(WasmEdgeError, match="closed"):
                await vm.execute("keep", reference)
            assert await vm.execute("identity", 1) == [1]

    run(main())


def test_a_host_function_that_is_given_a_closed_reference(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            reference = ExternRef("text")
            await vm.execute("put", 0, reference)
            store = await vm.get_store()
            function = await store.find_function("object")
            table = await store.find_table("objects")
            assert function is not None
            assert table is not None
            reference.close()
            with pytest.raises(WasmEdgeError, match="no longer alive"):
                await table.get_data(0)

    run(main())


@pytest.mark.parametrize("value", ["text", b"bytes", [1], 2.5, Thing()])
def test_an_object_is_no_number(run: Run[None], value: Any) -> None:
    async def main() -> None:
        async with guest() as vm:
            with pytest.raises(TypeError, match="i32 needs an int"):
                await vm.execute("identity", value)
            await settle(vm)
            assert held(vm) == 0

    run(main())


# --- Functions ----------------------------------------------------------------------------------


def test_a_function_reference_goes_out_and_back_in(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            [reference] = await vm.execute("identity_reference")
            assert isinstance(reference, FuncRef)
            await vm.execute("put_function", 2, reference)
            assert await vm.execute("call_indirect", 2, 41) == [41]
            assert await vm.execute("function", reference) == [reference]
            assert await vm.execute("function", None) == [None]

    run(main())


def test_a_handle_is_a_function_reference(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            store = await vm.get_store()
            function = await store.find_function("add_one")
            table = await store.find_table("functions")
            assert function is not None
            assert table is not None
            await vm.execute("put_function", 0, function)
            assert await vm.execute("call_indirect", 0, 5) == [5]
            await table.set_data(function, 3)
            assert await vm.execute("call_indirect", 3, 2) == [7]
            element = await table.get_data(3)
            assert isinstance(element, FuncRef)
            assert element.index == function.index

    run(main())


def test_a_host_function_is_a_function_reference(run: Run[None]) -> None:
    tripled = Function(FunctionType([I32], [I32]), lambda data, memory, value: 3 * value)
    imports = host()
    imports.add_function("tripled", tripled)

    async def main() -> None:
        async with VM() as vm:
            await set_up(vm, imports)
            await vm.execute("put_function", 1, tripled)
            assert await vm.execute("call_indirect", 1, 7) == [21]
            [reference] = await vm.execute("function", tripled)
            await vm.execute("put_function", 2, reference)
            assert await vm.execute("call_indirect", 2, 8) == [24]

    run(main())


def test_a_host_function_that_is_not_registered_is_refused(run: Run[None]) -> None:
    stranger = Function(FunctionType([I32], [I32]), lambda data, memory, value: value)

    async def main() -> None:
        async with guest(function=lambda *_: stranger) as vm:
            with pytest.raises(WasmEdgeError, match="register_import") as caught:
                await vm.execute("put_function", 1, stranger)
            assert caught.value.code is ErrCode.WrongInstanceAddress
            with pytest.raises(HostFunctionError, match="register_import"):
                await vm.execute("function", None)

    run(main())


def test_a_host_function_in_a_table_of_an_import_object(run: Run[None]) -> None:
    doubled = Function(FunctionType([I32], [I32]), lambda data, memory, value: 2 * value)
    imports = ImportObject("shared")
    table = Table(TableType(RefType.FUNCREF, Limit(3)))
    imports.add_table("table", table)
    imports.add_global("global", Global(GlobalType(FUNCREF, ValMut.VAR), doubled))

    from tests.wat import wat

    module = wat(
        '(module (import "shared" "table" (table 3 funcref))'
        ' (import "shared" "global" (global (mut funcref)))'
        ' (func (export "first") (param i32) (result i32)'
        "  (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0)))"
        ' (func (export "second") (param i32) (result i32)'
        "  (table.set (i32.const 1) (global.get 0))"
        "  (call_indirect (param i32) (result i32) (local.get 0) (i32.const 1))))"
    )

    async def main() -> None:
        await table.set_data(doubled, 0)
        async with VM() as vm:
            await vm.register_import(imports)
            await vm.load_wasm_buffer(module)
            await vm.validate()
            await vm.instantiate()
            assert await vm.execute("first", 4) == [8]
            assert await vm.execute("second", 5) == [10]

    run(main())


# --- None leak ----------------------------------------------------------------------------------


def test_an_argument_is_let_go_after_its_call(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            thing = Thing()
            gone = weakref.ref(thing)
            await vm.execute("same", thing)
            del thing
            await settle(vm)
            assert gone() is None
            assert held(vm) == 0

    run(main())


def test_an_object_in_a_table_or_global_stays_until_it_is_overwritten(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            first, second = Thing(), Thing()
            gone = weakref.ref(first), weakref.ref(second)
            await vm.execute("put", 0, first)
            await vm.execute("keep", second)
            del first, second
            await settle(vm)
            assert all(one() is not None for one in gone)
            await vm.execute("put", 0, None)
            await vm.execute("keep", "other")
            await settle(vm)
            assert [one() for one in gone] == [None, None]
            assert held(vm) == 1

    run(main())


def test_what_a_host_function_gets_and_gives_is_let_go(run: Run[None]) -> None:
    gone: list[weakref.ref[Thing]] = []

    async def replace(data: Any, memory: Any, value: Any) -> Any:
        await asyncio.sleep(0)
        given = Thing()
        gone.append(weakref.ref(given))
        return given

    async def main() -> None:
        async with guest(object=replace) as vm:
            for _ in range(5):
                thing = Thing()
                gone.append(weakref.ref(thing))
                await vm.execute("object", thing)
                del thing
            await settle(vm)
            assert {one() for one in gone} == {None}
            assert held(vm) == 0

    run(main())


def test_failed_calls_let_their_arguments_go(run: Run[None]) -> None:
    async def fails(data: Any, memory: Any, value: Any) -> Any:
        raise ValueError("no")

    async def main() -> None:
        async with guest(object=fails) as vm:
            thing = Thing()
            gone = weakref.ref(thing)
            with pytest.raises(HostFunctionError):
                await vm.execute("object", thing)
            with pytest.raises(Trap):
                await vm.execute("put", 99, thing)
            with pytest.raises(WasmEdgeError):
                await vm.execute("absent", thing)
            with pytest.raises(WasmEdgeError):
                await vm.execute("same", thing, thing)
            with pytest.raises(TypeError):
                await vm.execute("put", thing, thing)
            del thing
            await settle(vm)
            assert gone() is None
            assert held(vm) == 0

    run(main())


def test_cancelled_calls_let_their_arguments_go(run: Run[None]) -> None:
    async def slow(data: Any, memory: Any, value: Any) -> Any:
        await asyncio.sleep(3600)

    async def main() -> None:
        async with guest(object=slow) as vm:
            things = [Thing() for _ in range(6)]
            gone = [weakref.ref(thing) for thing in things]
            running = asyncio.create_task(vm.execute("object", things[0]))
            behind = [asyncio.create_task(vm.execute("same", thing)) for thing in things[1:4]]
            await asyncio.sleep(0.02)
            for task in (*behind[:2], running):
                task.cancel()
            await asyncio.gather(running, *behind, return_exceptions=True)
            with pytest.raises(CallTimeout):
                await vm.execute("object", things[4], timeout=0.01)
            waiting = asyncio.create_task(vm.execute("same", things[5]))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            del things, running, behind, waiting, task
            await settle(vm)
            assert [one() for one in gone] == [None] * 6
            assert held(vm) == 0

    run(main())


def test_a_reply_that_comes_too_late_lets_its_objects_go(run: Run[None]) -> None:
    gone: list[weakref.ref[Thing]] = []

    def blocking(data: Any, memory: Any, value: Any) -> Any:
        import time

        time.sleep(0.05)
        thing = Thing()
        gone.append(weakref.ref(thing))
        return thing

    async def main() -> None:
        async with guest(object=blocking) as vm:
            with pytest.raises(CallTimeout):
                await vm.execute("object", None, timeout=0.01)
            await settle(vm)
            assert gone[0]() is None
            assert held(vm) == 0

    run(main())


def test_a_worker_that_dies_lets_everything_go(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            thing = Thing()
            gone = weakref.ref(thing)
            await vm.execute("keep", thing)
            del thing
            running = asyncio.create_task(vm.execute("spin"))
            await asyncio.sleep(0.02)
            os.kill(vm._actor.pid, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await running
            gc.collect()
            assert gone() is None

    run(main())


@pytest.mark.parametrize("how", ["close", "restart", "cleanup"])
def test_the_end_of_modules_lets_everything_go(run: Run[None], how: str) -> None:
    async def main() -> None:
        async with guest() as vm:
            thing = Thing()
            gone = weakref.ref(thing)
            await vm.execute("keep", thing)
            await vm.execute("put", 2, thing)
            del thing
            await getattr(vm, how)()
            if how == "cleanup":
                await vm.cleanup()
                await vm.cleanup()
            gc.collect()
            assert gone() is None

    run(main())


def test_an_object_that_is_sent_again_while_it_is_dropped(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            reference = ExternRef(Thing())
            got = await asyncio.gather(*(vm.execute("same", reference) for _ in range(500)))
            assert all(found is reference for [found] in got)
            await settle(vm)
            assert held(vm) == 0

    run(main())


def test_objects_in_an_import_object_go_with_its_worker(run: Run[None]) -> None:
    async def main() -> None:
        thing, other = Thing(), Thing()
        gone = weakref.ref(thing)
        imports = ImportObject("shared")
        table = Table(TableType(RefType.EXTERNREF, Limit(2)))
        await table.set_data(thing, 1)
        value = Global(GlobalType(ValType.EXTERNREF, ValMut.VAR), other)
        imports.add_table("table", table)
        imports.add_global("global", value)
        async with VM() as vm:
            await vm.register_import(imports)
            element = await table.get_data(1)
            assert isinstance(element, ExternRef)
            assert element.value is thing
            del element
            assert (await value.get_value()).value is other
            await vm.restart()
            del thing
            gc.collect()
            assert gone() is None

    run(main())
