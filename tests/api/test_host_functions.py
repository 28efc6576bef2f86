"""Host functions of the asynchronous VM: where they run, what they see, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import signal
import threading
import time
import traceback
from typing import Any

import anyio
import pytest

from tests.api.hosts import I32, guest, host, set_up
from tests.loops import Run
from tests.wat import wat
from wasmedge_async import (
    VM,
    CallTimeout,
    Configure,
    ErrCode,
    Fail,
    Function,
    FunctionType,
    HostFunctionError,
    ImportObject,
    InstantiationError,
    PoolClosed,
    Terminate,
    Trap,
    VMLost,
    WasmEdgeError,
    WorkerDied,
)

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


async def forever(*_: Any) -> None:
    await asyncio.sleep(3600)


# --- Where they run -----------------------------------------------------------------------------


def test_a_coroutine_function_runs_in_the_awaiting_task(run: Run[None]) -> None:
    seen: list[Any] = []

    async def number(data: Any, memory: Any, value: int) -> int:
        seen.extend([asyncio.current_task(), variable.get()])
        await asyncio.sleep(0)
        return value + 1

    async def main() -> None:
        async with guest(number=number) as vm:
            variable.set("of the task")
            assert await vm.execute("number", 1) == [2]
            assert seen == [asyncio.current_task(), "of the task"]

    run(main())


def test_each_caller_has_its_own_context(run: Run[None]) -> None:
    async def number(data: Any, memory: Any, value: int) -> int:
        await asyncio.sleep(0)
        return int(variable.get()) + value

    async def one(vm: VM, value: int) -> list[Any]:
        variable.set(str(value * 100))
        return await vm.execute("number", value)

    async def main() -> None:
        async with guest(number=number) as vm:
            got = await asyncio.gather(*(one(vm, value) for value in range(20)))
        assert got == [[value * 101] for value in range(20)]

    run(main())


def test_a_plain_function_runs_in_the_event_loop(run: Run[None]) -> None:
    seen: list[Any] = []

    def number(data: Any, memory: Any, value: int) -> int:
        seen.extend([asyncio.current_task(), threading.current_thread(), os.getpid()])
        return -value

    async def main() -> None:
        async with guest(number=number) as vm:
            assert await vm.execute("number", 7) == [-7]
            assert seen == [asyncio.current_task(), threading.current_thread(), os.getpid()]

    run(main())


def test_a_named_function_runs_in_the_worker(run: Run[None]) -> None:
    async def main() -> None:
        async with guest(number="tests.api.in_worker:pid") as vm:
            [pid] = await vm.execute("number", 1)
            assert pid == vm._actor.pid

    run(main())


def test_a_named_function_has_the_memory_of_the_caller(run: Run[None]) -> None:
    async def main() -> None:
        async with guest(number="tests.api.in_worker:first_byte_at") as vm:
            assert await vm.execute("number", 16) == [ord("h")]

    run(main())


@pytest.mark.parametrize("place", ["no.such.module:f", "tests.api.in_worker:absent"])
def test_a_named_function_that_is_not_there_is_an_error(run: Run[None], place: str) -> None:
    async def main() -> None:
        async with VM() as vm:
            with pytest.raises(InstantiationError, match=place) as caught:
                await vm.register_import(host(number=place))
            assert caught.value.code is ErrCode.UnknownImport

    run(main())


@pytest.mark.parametrize("place", ["module", "a:b:c", ":f", "a b:c", ""])
def test_a_place_must_be_a_module_and_a_function(place: str) -> None:
    with pytest.raises(ValueError, match=r"package\.module:function"):
        Function(FunctionType([], []), place)


def test_a_partial_and_an_object_can_be_coroutine_functions(run: Run[None]) -> None:
    async def scaled(factor: int, data: Any, memory: Any, value: int) -> int:
        return len(await memory.get_data(0, value)) * factor

    class Body:
        async def __call__(self, data: Any, memory: Any, value: int) -> int:
            return len(await memory.get_data(0, value))

    async def main() -> None:
        async with guest(number=functools.partial(scaled, 3)) as vm:
            assert await vm.execute("number", 5) == [15]
        async with guest(number=Body()) as vm:
            assert await vm.execute("number", 5) == [5]

    run(main())


def test_data_is_the_parents_object(run: Run[None]) -> None:
    data = object()
    seen: list[Any] = []
    imports = host()
    imports.add_function(
        "nothing", Function(FunctionType([], []), lambda data, memory: seen.append(data), data)
    )

    async def main() -> None:
        async with VM() as vm:
            await set_up(vm, imports)
            await vm.execute("nothing")
        assert seen[0] is data

    run(main())


def test_a_decorator_exports_a_function(run: Run[None]) -> None:
    imports = host()

    @imports.function("number", params=[I32], results=[I32])
    async def number(data: Any, memory: Any, value: int) -> int:
        return value * 10

    async def main() -> None:
        async with VM() as vm:
            await set_up(vm, imports)
            assert await vm.execute("number", 4) == [40]
            assert await vm.execute_registered("env", "number", 5) == [50]

    run(main())


# --- What they return ---------------------------------------------------------------------------


@pytest.mark.parametrize("result", [(1, 2.5), [1, 2.5]])
def test_several_results_are_a_sequence(run: Run[None], result: Any) -> None:
    async def main() -> None:
        async with guest(pair=lambda data, memory: result) as vm:
            assert await vm.execute("pair") == [1, 2.5]

    run(main())


def test_an_integer_of_the_unsigned_range_is_accepted(run: Run[None]) -> None:
    async def main() -> None:
        async with guest(number=lambda data, memory, value: 0xFFFF_FFFF) as vm:
            assert await vm.execute("number", 0) == [-1]

    run(main())


@pytest.mark.parametrize(
    ("name", "result", "message"),
    [
        ("pair", 1, "a sequence of 2 values, not 1"),
        ("pair", (1, 2.0, 3), "2 values, not 3"),
        ("pair", (1, "x"), "result 2 of the host function: f64 needs a float or an int, not str"),
        ("number", None, "result 1 of the host function: i32 needs an int, not NoneType"),
        ("number", "x", "i32 needs an int, not str: 'x'"),
        ("number", 1 << 32, "outside the range of i32"),
        ("nothing", 5, "without results must return None, not 5"),
        ("function", 5, "a funcref is a Function, a FuncRef or None, not int"),
    ],
)
def test_a_result_that_does_not_fit_is_told(
    run: Run[None], name: str, result: Any, message: str
) -> None:
    arguments = {"number": (1,), "function": (None,)}.get(name, ())

    async def main() -> None:
        async with VM() as vm:
            await set_up(vm, host(**{name: lambda *_: result}))
            with pytest.raises(HostFunctionError) as caught:
                await vm.execute(name, *arguments)
            assert message in str(caught.value)
            assert isinstance(caught.value.__cause__, TypeError | OverflowError)
            assert await vm.execute("identity", 1) == [1]

    run(main())


# --- How they end otherwise ---------------------------------------------------------------------


async def raise_later(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize("awaited", [False, True])
def test_an_exception_is_the_cause_of_what_the_caller_sees(run: Run[None], awaited: bool) -> None:
    error = KeyError("in the host function")

    def plain(*_: Any) -> int:
        raise error

    async def coroutine(*_: Any) -> int:
        raise error

    async def main() -> None:
        async with guest(number=coroutine if awaited else plain) as vm:
            with pytest.raises(HostFunctionError, match="KeyError: 'in the host") as caught:
                await vm.execute("number", 1)
            assert caught.value.code is ErrCode.ExecutionFailed
            assert caught.value.__cause__ is error
            text = "".join(traceback.format_exception(caught.value))
            assert "in coroutine" in text if awaited else "in plain" in text
            assert await vm.execute("identity", 3) == [3]

    run(main())


def test_an_exception_in_the_worker_arrives_as_text(run: Run[None]) -> None:
    async def main() -> None:
        async with guest(number="tests.api.in_worker:fails") as vm:
            with pytest.raises(HostFunctionError, match="LookupError: not here") as caught:
                await vm.execute("number", 1)
            notes = "\n".join(caught.value.__notes__)
            assert "in_worker.py" in notes
            assert "LookupError: not here" in notes
            assert await vm.execute("identity", 3) == [3]

    run(main())


@pytest.mark.parametrize("number", ["tests.api.in_worker:terminates", None])
def test_terminate_ends_the_call_without_results(run: Run[None], number: str | None) -> None:
    async def terminates(*_: Any) -> int:
        raise Terminate

    async def main() -> None:
        async with guest(number=number or terminates) as vm:
            assert await vm.execute("twice", 1) == []
            assert await vm.execute("identity", 3) == [3]

    run(main())


def test_fail_is_a_host_function_error(run: Run[None]) -> None:
    def fails(*_: Any) -> int:
        raise Fail("on purpose")

    async def main() -> None:
        async with guest(number=fails) as vm:
            with pytest.raises(HostFunctionError, match="on purpose") as caught:
                await vm.execute("number", 1)
            assert isinstance(caught.value.__cause__, Fail)

    run(main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_not_wrapped(run: Run[None], error: type[BaseException]) -> None:
    ended = []

    async def main() -> None:
        async with guest(number=lambda *_: raise_now(error())) as vm:
            try:
                await vm.execute("number", 1)
            finally:
                ended.append(await vm.execute("identity", 5))

    with pytest.raises(error):
        run(main())
    assert ended == [[5]]


def raise_now(error: BaseException) -> None:
    raise error


def test_a_closed_function_is_an_error(run: Run[None]) -> None:
    function = Function(FunctionType([], []), lambda *_: None)
    imports = host()
    imports.add_function("nothing", function)
    function.close()  # it belongs to the import object: nothing happens

    async def main() -> None:
        async with VM() as vm:
            await set_up(vm, imports)
            assert await vm.execute("nothing") == []

    run(main())


def test_a_start_function_may_call_host_functions(run: Run[None]) -> None:
    seen: list[int] = []
    imports = ImportObject("env")

    @imports.function("note", params=[I32])
    async def note(data: Any, memory: Any, value: int) -> None:
        await asyncio.sleep(0)
        seen.append(value)

    module = wat(
        '(module (import "env" "note" (func $note (param i32)))'
        " (func $start (call $note (i32.const 9))) (start $start))"
    )

    async def main() -> None:
        async with VM() as vm:
            await vm.register_import(imports)
            await vm.load_wasm_buffer(module)
            await vm.validate()
            await vm.instantiate()
            await vm.register_wasm_buffer("again", module)
        assert seen == [9, 9]

    run(main())


# --- The caller's memory ------------------------------------------------------------------------


def test_a_coroutine_function_reads_and_writes_memory(run: Run[None]) -> None:
    async def number(data: Any, memory: Any, value: int) -> int:
        assert await memory.get_data(16, 5) == b"hello"
        await memory.set_data(b"HELLO!", 16, 5)
        large = bytes(range(256)) * 5000
        await memory.set_data(large, 100_000)
        assert await memory.get_data(100_000, len(large)) == large
        before = await memory.get_page_size()
        await memory.grow_page(2)
        return int(await memory.get_page_size() - before)

    async def main() -> None:
        async with guest(number=number) as vm:
            assert await vm.execute("number", 0) == [2]
            memory = await (await vm.get_store()).find_memory("memory")
            assert memory is not None
            assert await memory.get_data(16, 6) == b"HELLO\0"

    run(main())


def test_a_plain_function_reads_and_writes_memory_at_once(run: Run[None]) -> None:
    def number(data: Any, memory: Any, value: int) -> int:
        assert memory.get_data(16, 5) == b"hello"
        assert memory.get_data(0, 0) == b""
        memory.set_data(b"HELLO!", 16, 5)
        for size in (65535, 65536, 65537, 1_300_000):
            large = (bytes(range(256)) * 6000)[:size]
            memory.set_data(large, 100_001)
            assert memory.get_data(100_001, size) == large
        before = memory.page_size
        memory.grow_page(2)
        return int(memory.page_size - before)

    async def main() -> None:
        async with guest(number=number) as vm:
            assert await vm.execute("number", 0) == [2]
            memory = await (await vm.get_store()).find_memory("memory")
            assert memory is not None
            assert await memory.get_data(16, 6) == b"HELLO\0"

    run(main())


SIZE = 32 * 65536


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize(
    ("offset", "length"), [(SIZE, 1), (SIZE - 1, 2), (SIZE - 70_000, 70_001), (1 << 62, 1 << 62)]
)
def test_memory_out_of_bounds_is_an_error(
    run: Run[None], awaited: bool, offset: int, length: int
) -> None:
    errors: list[WasmEdgeError] = []

    def plain(data: Any, memory: Any, value: int) -> int:
        with pytest.raises(WasmEdgeError) as caught:
            memory.get_data(offset, length)
        errors.append(caught.value)
        if length < 1 << 20:
            with pytest.raises(WasmEdgeError) as caught:
                memory.set_data(bytes(length), offset)
            errors.append(caught.value)
        return 0

    async def coroutine(data: Any, memory: Any, value: int) -> int:
        with pytest.raises(WasmEdgeError) as caught:
            await memory.get_data(offset, length)
        errors.append(caught.value)
        return 0

    async def main() -> None:
        async with guest(number=coroutine if awaited else plain) as vm:
            await vm.execute("number", 0)
        for error in errors:
            assert error.code is ErrCode.MemoryOutOfBounds
            assert f"{length} bytes at {offset}" in str(error)

    run(main())


@pytest.mark.parametrize("awaited", [False, True])
def test_memory_cannot_grow_past_its_limit(run: Run[None], awaited: bool) -> None:
    def plain(data: Any, memory: Any, value: int) -> int:
        memory.grow_page(65536)
        return 0

    async def coroutine(data: Any, memory: Any, value: int) -> int:
        await memory.grow_page(65536)
        return 0

    async def main() -> None:
        async with guest(number=coroutine if awaited else plain) as vm:
            with pytest.raises(HostFunctionError) as caught:
                await vm.execute("number", 0)
            cause = caught.value.__cause__
            assert isinstance(cause, WasmEdgeError)
            assert cause.code is ErrCode.MemoryOutOfBounds

    run(main())


def test_memory_cannot_be_used_after_the_call(run: Run[None]) -> None:
    kept: list[Any] = []

    async def number(data: Any, memory: Any, value: int) -> int:
        kept.append(memory)
        return 0

    def pair(data: Any, memory: Any) -> tuple[int, float]:
        kept.append(memory)
        return 0, 0.0

    async def main() -> None:
        async with guest(number=number, pair=pair) as vm:
            await vm.execute("number", 0)
            await vm.execute("pair")
            with pytest.raises(WasmEdgeError, match="during its call only"):
                await kept[0].get_data(0, 1)
            with pytest.raises(WasmEdgeError, match="during its call only"):
                kept[1].get_data(0, 1)

    run(main())


def test_a_caller_without_memory_has_none(run: Run[None]) -> None:
    seen: list[Any] = []
    imports = ImportObject("env")
    imports.add_function(
        "f", Function(FunctionType([], []), lambda data, memory: seen.append(memory))
    )
    module = wat('(module (import "env" "f" (func $f)) (func (export "go") (call $f)))')

    async def main() -> None:
        async with VM() as vm:
            await vm.register_import(imports)
            await vm.run_wasm_buffer(module, "go")
            await vm.execute_registered("env", "f")
        assert seen == [None, None]

    run(main())


def test_a_coroutine_has_the_memory_of_the_module_that_calls(run: Run[None]) -> None:
    imports = ImportObject("env")

    @imports.function("peek", results=[I32])
    async def peek(data: Any, memory: Any) -> int:
        return int((await memory.get_data(0, 1))[0])

    def module(letter: str) -> bytes:
        return wat(
            '(module (import "env" "peek" (func $peek (result i32))) (memory 1)'
            f' (data (i32.const 0) "{letter}") (func (export "go") (result i32) (call $peek)))'
        )

    async def main() -> None:
        async with VM() as vm:
            await vm.register_import(imports)
            await vm.register_wasm_buffer("a", module("a"))
            await vm.register_wasm_buffer("b", module("b"))
            assert await vm.execute_registered("a", "go") == [ord("a")]
            assert await vm.execute_registered("b", "go") == [ord("b")]

    run(main())


def test_the_view_of_a_memory_in_a_worker_is_refused(run: Run[None]) -> None:
    async def main() -> None:
        async with guest(number=lambda data, memory, value: len(memory.view())) as vm:
            with pytest.raises(HostFunctionError, match="get_data and set_data"):
                await vm.execute("number", 0)

    run(main())


# --- Cancellation and time ----------------------------------------------------------------------


def test_a_timeout_ends_a_wait_in_a_coroutine(run: Run[None]) -> None:
    async def main() -> None:
        async with guest(number=forever) as vm:
            other = asyncio.create_task(vm.execute("number", 1, timeout=0.05))
            behind = asyncio.create_task(vm.execute("identity", 2))
            with pytest.raises(CallTimeout):
                await other
            assert await behind == [2]
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    run(main())


def test_cancelling_ends_a_wait_in_a_coroutine(run: Run[None]) -> None:
    entered = asyncio.Event()
    left = []

    async def number(*_: Any) -> None:
        entered.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            left.append("cancelled")
            raise

    async def main() -> None:
        async with guest(number=number) as vm:
            task = asyncio.create_task(vm.execute("number", 1))
            await entered.wait()
            behind = asyncio.create_task(vm.execute("identity", 2))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert left == ["cancelled"]
            assert await behind == [2]

    run(main())


def test_scopes_around_a_call_and_inside_of_a_host_function(run: Run[None]) -> None:
    async def number(data: Any, memory: Any, value: int) -> int:
        if value == 1:
            await asyncio.sleep(3600)
        if value == 2:
            with anyio.move_on_after(0.02):
                await asyncio.sleep(3600)
        if value == 3:
            try:
                async with asyncio.timeout(0.02):
                    await asyncio.sleep(3600)
            except TimeoutError:
                pass
        return value

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        async with guest(number=number) as vm:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await vm.execute("number", 1)
            with pytest.raises(TimeoutError), anyio.fail_after(0.02):
                await vm.execute("number", 1)
            with anyio.move_on_after(0.02) as scope:
                await vm.execute("number", 1)
            assert scope.cancelled_caught
            assert await vm.execute("number", 2) == [2]
            assert await vm.execute("number", 3) == [3]
            assert task.cancelling() == 0

    run(main())


def test_a_coroutine_that_suppresses_its_cancellation(run: Run[None]) -> None:
    entered = asyncio.Event()

    async def number(data: Any, memory: Any, value: int) -> int:
        entered.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return value

    async def main() -> None:
        async with guest(number=number) as vm:
            # Cancelled by the user: the guest goes on with what the coroutine returned.
            task = asyncio.create_task(vm.execute("number", 5))
            await entered.wait()
            task.cancel()
            assert await task == [5]
            # By the timeout: its guest has ended.
            with pytest.raises(CallTimeout):
                await vm.execute("number", 6, timeout=0.02)
            current = asyncio.current_task()
            assert current is not None
            assert current.cancelling() == 0
            async with asyncio.timeout(10):
                assert await vm.execute("identity", 7) == [7]

    run(main())


def test_a_coroutine_that_raises_when_it_is_cancelled(run: Run[None]) -> None:
    entered = asyncio.Event()

    async def number(*_: Any) -> int:
        entered.set()
        try:
            await asyncio.sleep(3600)
        finally:
            raise ValueError("instead")
        return 0

    async def main() -> None:
        async with guest(number=number) as vm:
            task = asyncio.create_task(vm.execute("number", 5))
            await entered.wait()
            task.cancel()
            with pytest.raises(HostFunctionError, match="instead"):
                await task
            with pytest.raises(CallTimeout):
                await vm.execute("number", 6, timeout=0.02)
            assert await vm.execute("identity", 7) == [7]

    run(main())


def test_a_coroutine_that_cleans_up_with_its_vm(run: Run[None]) -> None:
    found = []

    async def number(data: Any, memory: Any, value: int) -> int:
        try:
            await asyncio.sleep(3600)
        finally:
            found.append(await vms[0].execute("identity", 4))
        return 0

    vms: list[VM] = []

    async def main() -> None:
        async with guest(number=number) as vm:
            vms.append(vm)
            with pytest.raises(CallTimeout):
                await vm.execute("number", 6, timeout=0.02)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await vm.execute("number", 6)
            assert found == [[4], [4]]

    run(main())


def test_memory_is_out_of_reach_when_the_guest_was_stopped(run: Run[None]) -> None:
    errors = []

    async def number(data: Any, memory: Any, value: int) -> int:
        try:
            await asyncio.sleep(3600)
        finally:
            try:
                await memory.get_data(0, 1)
            except WasmEdgeError as error:
                errors.append(error)
        return 0

    async def main() -> None:
        async with guest(number=number) as vm:
            with pytest.raises(CallTimeout):
                await vm.execute("number", 6, timeout=0.02)
            assert len(errors) == 1

    run(main())


def test_a_timeout_while_a_plain_function_runs(run: Run[None]) -> None:
    def number(data: Any, memory: Any, value: int) -> int:
        time.sleep(value / 1000)
        return value

    async def main() -> None:
        async with guest(number=number) as vm:
            with pytest.raises(CallTimeout):
                await vm.execute("number", 100, timeout=0.02)
            # Longer than the worker is given to stop; it has stopped in time.
            with pytest.raises(CallTimeout):
                await vm.execute("number", 1300, timeout=0.02)
            assert await vm.execute("identity", 7) == [7]

    run(main())


def test_storms_of_cancellations_harm_no_other_call(run: Run[None]) -> None:
    async def number(data: Any, memory: Any, value: int) -> int:
        await asyncio.sleep(value % 3 * 0.001)
        if value % 2:
            [value] = await vms[0].execute("identity", value)
        if value % 5 == 0:
            assert await memory.get_data(16, 5) == b"hello"
        return value + 1

    vms: list[VM] = []

    async def one(vm: VM, value: int) -> int:
        try:
            if value % 4 == 0:
                async with asyncio.timeout(value % 11 * 0.0005):
                    assert await vm.execute("number", value) == [value + 1]
            elif value % 4 == 1:
                with anyio.fail_after(value % 7 * 0.001):
                    assert await vm.execute("number", value) == [value + 1]
            elif value % 4 == 2:
                assert await vm.execute("number", value, timeout=0.0012) == [value + 1]
            else:
                assert await vm.execute("number", value) == [value + 1]
        except TimeoutError:
            return 0
        return 1

    async def main() -> None:
        async with guest(number=number) as vm:
            vms.append(vm)
            pid = vm._actor.pid
            done = await asyncio.gather(*(one(vm, value) for value in range(400)))
            assert sum(done[3::4]) == 100
            assert await vm.execute("number", 1) == [2]
            assert vm._actor.pid == pid

    run(main())


# --- Nested calls -------------------------------------------------------------------------------


def test_a_call_into_the_same_vm_runs_at_once(run: Run[None]) -> None:
    order = []

    async def number(data: Any, memory: Any, value: int) -> int:
        await asyncio.sleep(0.01)
        [inner] = await vms[0].execute("identity", value + 1)
        order.append("nested")
        return int(inner)

    async def behind(vm: VM) -> None:
        await vm.execute("identity", 9)
        order.append("behind")

    vms: list[VM] = []

    async def main() -> None:
        async with guest(number=number) as vm:
            vms.append(vm)
            got, _ = await asyncio.gather(vm.execute("number", 1), behind(vm))
            assert got == [2]
            assert order == ["nested", "behind"]

    run(main())


def test_host_functions_and_guests_call_each_other_deeply(run: Run[None]) -> None:
    async def number(data: Any, memory: Any, value: int) -> int:
        return int((await vms[0].execute("number", value - 1))[0] + 1) if value else 100

    vms: list[VM] = []

    async def main() -> None:
        async with guest(number=number) as vm:
            vms.append(vm)
            assert await vm.execute("number", 50) == [150]
            with pytest.raises(HostFunctionError) as caught:
                await vm.execute("number", 5000)
            cause: BaseException | None = caught.value
            while isinstance(cause, HostFunctionError):
                cause = cause.__cause__
            assert isinstance(cause, RecursionError)
            assert await vm.execute("number", 20) == [120]

    run(main())


def test_calls_through_another_vm(run: Run[None]) -> None:
    async def through_b(data: Any, memory: Any, value: int) -> int:
        return int((await vms[1].execute("number", value))[0])

    async def through_a(data: Any, memory: Any, value: int) -> int:
        if value == 0:
            return 7
        return int((await vms[0].execute("number", value - 1))[0])

    vms: list[VM] = []

    async def main() -> None:
        async with guest(number=through_b) as a, guest(number=through_a) as b:
            vms.extend([a, b])
            async with asyncio.timeout(20):
                assert await a.execute("number", 5) == [7]

    run(main())


def test_several_nested_calls_run_in_order_one_at_a_time(run: Run[None]) -> None:
    running = []
    most = []

    async def number(data: Any, memory: Any, value: int) -> int:
        if value == 0:
            got = await asyncio.gather(*(vms[0].execute("number", n) for n in range(1, 8)))
            return sum(one for [one] in got)
        running.append(value)
        most.append(len(running))
        await asyncio.sleep(0.001)
        order.append(value)
        running.remove(value)
        return value

    order: list[int] = []
    vms: list[VM] = []

    async def main() -> None:
        async with guest(number=number) as vm:
            vms.append(vm)
            assert await vm.execute("number", 0) == [28]
            assert order == list(range(1, 8))
            assert max(most) == 1

    run(main())


def test_cancelling_one_of_several_nested_calls(run: Run[None]) -> None:
    async def number(data: Any, memory: Any, value: int) -> int:
        if value:
            await asyncio.sleep(value / 1000)
            return value
        tasks = [asyncio.create_task(vms[0].execute("number", n)) for n in (50, 30, 1, 2)]
        await asyncio.sleep(0.005)
        tasks[2].cancel()  # waits
        got = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(got[2], asyncio.CancelledError)
        tasks = [asyncio.create_task(vms[0].execute("number", n)) for n in (3_600_000, 2, 3)]
        await asyncio.sleep(0.005)
        tasks[0].cancel()  # runs
        more = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(more[0], asyncio.CancelledError)
        return sum(one[0] for one in (*got, *more) if isinstance(one, list))

    vms: list[VM] = []

    async def main() -> None:
        async with guest(number=number) as vm:
            vms.append(vm)
            assert await vm.execute("number", 0) == [50 + 30 + 2 + 2 + 3]
            assert await vm.execute("identity", 5) == [5]

    run(main())


@pytest.mark.parametrize("how", ["trap", "timeout", "cancelled"])
def test_the_end_of_a_nested_call_is_not_that_of_the_outer_one(run: Run[None], how: str) -> None:
    async def number(data: Any, memory: Any, value: int) -> int:
        if how == "trap":
            with pytest.raises(Trap):
                await vms[0].execute("trap")
        elif how == "timeout":
            with pytest.raises(CallTimeout):
                await vms[0].execute("spin", timeout=0.02)
        else:
            with anyio.move_on_after(0.02):
                await vms[0].execute("spin")
        return value

    vms: list[VM] = []

    async def main() -> None:
        async with guest(number=number) as vm:
            vms.append(vm)
            assert await vm.execute("twice", 6) == [6]

    run(main())


def test_interrupted_memory_access_does_not_end_the_call(run: Run[None]) -> None:
    async def number(data: Any, memory: Any, value: int) -> int:
        for attempt in range(100):
            with anyio.move_on_after(attempt * 0.00001):
                await memory.get_data(0, 1_000_000)
        return value

    async def main() -> None:
        async with guest(number=number) as vm:
            assert await vm.execute("number", 6) == [6]

    run(main())


def test_a_nested_timeout_does_not_count_waiting_for_other_nested_calls(run: Run[None]) -> None:
    async def number(data: Any, memory: Any, value: int) -> int:
        if value:
            await asyncio.sleep(value / 1000)
            return value
        long = vms[0].execute("number", 1500)
        short = vms[0].execute("identity", 1, timeout=0.2)
        return sum(one for [one] in await asyncio.gather(long, short))

    vms: list[VM] = []

    async def main() -> None:
        async with guest(number=number) as vm:
            vms.append(vm)
            assert await vm.execute("number", 0) == [1501]

    run(main())


def test_a_nested_call_of_a_task_that_outlives_its_host_function(run: Run[None]) -> None:
    tasks = []

    async def later() -> list[Any]:
        await asyncio.sleep(0.02)
        return await vms[0].execute("identity", 8)

    async def number(data: Any, memory: Any, value: int) -> int:
        tasks.append(asyncio.create_task(later()))
        tasks.append(asyncio.create_task(vms[0].execute("identity", 9)))
        await asyncio.sleep(0)
        return value

    vms: list[VM] = []

    async def main() -> None:
        async with guest(number=number) as vm:
            vms.append(vm)
            assert await vm.execute("number", 3) == [3]
            assert await asyncio.gather(*tasks) == [[8], [9]]

    run(main())


def test_many_vms_wait_in_host_functions_at_once(run: Run[None]) -> None:
    async def main() -> None:
        barrier = asyncio.Barrier(4)

        async def number(data: Any, memory: Any, value: int) -> int:
            await barrier.wait()
            return value

        async with (
            guest(number=number) as a,
            guest(number=number) as b,
            guest(number=number) as c,
            guest(number=number) as d,
        ):
            async with asyncio.timeout(20):
                got = await asyncio.gather(*(vm.execute("number", 1) for vm in (a, b, c, d)))
            assert got == [[1]] * 4

    run(main())


# --- The end of the worker ----------------------------------------------------------------------


def test_a_worker_that_dies_during_a_host_function(run: Run[None]) -> None:
    left = []

    async def number(data: Any, memory: Any, value: int) -> int:
        if value:
            return int((await vms[0].execute("number", value - 1))[0])
        os.kill(vms[0]._actor.pid, signal.SIGKILL)
        try:
            await asyncio.sleep(3600)
        finally:
            left.append("left")
        return 0

    vms: list[VM] = []

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        for depth in (0, 3):
            async with guest(number=number) as vm:
                vms[:] = [vm]
                async with asyncio.timeout(30):
                    with anyio.fail_after(30), pytest.raises(WorkerDied) as caught:
                        await vm.execute("number", depth)
                assert caught.value.signal == signal.SIGKILL
                assert task.cancelling() == 0
                with pytest.raises(VMLost):
                    await vm.execute("identity", 1)
        assert left == ["left", "left"]

    run(main())


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("how", ["close", "restart"])
def test_the_end_of_the_vm_from_inside(run: Run[None], how: str, depth: int) -> None:
    after = []

    async def number(data: Any, memory: Any, value: int) -> int:
        if value:
            return int((await vms[0].execute("number", value - 1))[0])
        await (vms[0].close() if how == "close" else vms[0].restart())
        after.append(how)
        return 0

    vms: list[VM] = []

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        async with guest(number=number) as vm:
            vms[:] = [vm]
            async with asyncio.timeout(30):
                with pytest.raises(PoolClosed if how == "close" else VMLost):
                    await vm.execute("number", depth)
            assert task.cancelling() == 0
            assert after == [how]
            if how == "restart":
                await set_up(vm, host())
                assert await vm.execute("number", 4) == [4]

    run(main())


@pytest.mark.parametrize("how", ["close", "restart"])
def test_the_end_of_the_vm_from_another_task(run: Run[None], how: str) -> None:
    entered = asyncio.Event()

    async def number(*_: Any) -> int:
        entered.set()
        await asyncio.sleep(3600)
        return 0

    async def main() -> None:
        async with guest(number=number) as vm:
            call = asyncio.create_task(vm.execute("number", 1))
            await entered.wait()
            await (vm.close() if how == "close" else vm.restart())
            with pytest.raises(PoolClosed if how == "close" else VMLost):
                await call
            assert call.cancelling() == 0

    run(main())


def test_the_engines_own_objects_are_refused(run: Run[None]) -> None:
    from wasmedge_runtime.function import Function as EngineFunction
    from wasmedge_runtime.import_object import ImportObject as EngineImports

    async def main() -> None:
        with pytest.raises(TypeError, match="import Function from wasmedge_async"):
            ImportObject("x").add_function("f", EngineFunction(FunctionType([], []), print))  # type: ignore[arg-type]
        async with VM() as vm:
            with pytest.raises(TypeError, match="import ImportObject from wasmedge_async"):
                await vm.register_import(EngineImports("x"))  # type: ignore[arg-type]

    run(main())


# --- What they cost -----------------------------------------------------------------------------


def test_the_gas_of_host_functions(run: Run[None]) -> None:
    config = Configure()
    config.statistics_cost_measuring = True
    imports = host()
    imports.add_function("nothing", Function(FunctionType([], []), lambda *_: None, cost=1000))

    async def main() -> None:
        async with VM(config) as vm:
            await set_up(vm, imports)
            await vm.execute("nothing")
            statistics = await vm.get_statistics()
            assert 1000 < statistics.total_cost < 1010
            await statistics.set_cost_limit(1500)
            with pytest.raises(WasmEdgeError) as caught:
                await vm.execute("nothing")
            assert caught.value.code is ErrCode.CostLimitExceeded

    run(main())


def test_the_time_in_host_functions(run: Run[None]) -> None:
    config = Configure()
    config.statistics_time_measuring = True

    async def number(data: Any, memory: Any, value: int) -> int:
        await asyncio.sleep(0.05)
        return value

    async def main() -> None:
        async with guest(config, number=number) as vm:
            await vm.execute("number", 1)
            statistics = await vm.get_statistics()
            assert 45_000_000 < statistics.host_time_ns <= statistics.total_time_ns
            await statistics.clear()
            assert (await vm.get_statistics()).total_time_ns == 0

    run(main())
