"""wasm-bindgen calls in a worker: one request, atomic, and no larger than this process wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.loops import Run
from tests.runtime.test_bindgen import ARRAY, INT32, INT64, VOID
from tests.wat import wat
from wasmedge_async import (
    I64,
    VM,
    CallTimeout,
    ErrCode,
    Function,
    FunctionType,
    ImportObject,
    WasmEdgeError,
    _bindgen,
)

# `malloc` gives every argument the same place: another call in between would be seen.
MODULE = """
(module
  (import "host" "wait" (func $wait))
  (memory (export "memory") 64)
  (func (export "__wbindgen_malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "__wbindgen_free") (param i32 i32))
  (func (export "echo") (param i32 i32 i32)
    (i32.store (local.get 0) (local.get 1))
    (i32.store offset=4 (local.get 0) (local.get 2)))
  (func (export "echo_later") (param i32 i32 i32)
    (call $wait)
    (i32.store (local.get 0) (local.get 1))
    (i32.store offset=4 (local.get 0) (local.get 2)))
  (func (export "low") (param i32 i32) (result i32) (local.get 0))
  (func (export "big") (param i32) (i64.store (local.get 0) (i64.const -5)))
  (func (export "spin") (param i32 i32) (loop (br 0))))
"""


@asynccontextmanager
async def ready() -> AsyncIterator[VM]:
    """A VM with the module, whose `wait` lets other tasks run."""
    imports = ImportObject("host")

    async def wait(data: object, memory: object) -> None:
        await asyncio.sleep(0.01)

    imports.add_function("wait", Function(FunctionType([], []), wait))
    async with VM() as vm:
        await vm.register_import(imports)
        await vm.load_wasm_buffer(wat(MODULE))
        await vm.validate()
        await vm.instantiate()
        yield vm


def test_each_kind_of_argument_and_result(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as vm:
            assert await vm.execute_bindgen("echo", ARRAY, "caf\u00e9") == "caf\u00e9".encode()
            assert await vm.execute_bindgen("echo", ARRAY, b"") == b""
            assert await vm.execute_bindgen("low", INT32, -3, 0) == -3
            assert await vm.execute_bindgen("low", INT32, I64(-3)) == -3
            assert await vm.execute_bindgen("big", INT64) == -5
            await vm.register_wasm_buffer("library", wat(MODULE))
            assert await vm.execute_bindgen_registered("library", "echo", ARRAY, "x") == b"x"

    run(main())


def test_megabytes_both_ways(run: Run[None]) -> None:
    async def main() -> None:
        content = bytes(range(256)) * 12_000
        async with ready() as vm:
            assert await vm.execute_bindgen("echo", ARRAY, content) == content

    run(main())


def test_calls_of_many_tasks_do_not_mix(run: Run[None]) -> None:
    async def main() -> None:
        texts = [f"text {number}".encode() for number in range(40)]
        async with ready() as vm:
            calls = [
                vm.execute_bindgen(("echo", "echo_later")[number % 2], ARRAY, text)
                for number, text in enumerate(texts)
            ]
            assert await asyncio.gather(*calls) == texts

    run(main())


def test_a_host_function_may_make_one_inside_of_another_call(run: Run[None]) -> None:
    async def main() -> None:
        imports = ImportObject("host")
        inner = b"inner" * 99_999  # more than one message

        async def wait(data: object, memory: object) -> None:
            seen.append(await vm.execute_bindgen("echo", ARRAY, inner))

        seen: list[object] = []
        imports.add_function("wait", Function(FunctionType([], []), wait))
        async with VM() as vm:
            await vm.register_import(imports)
            await vm.load_wasm_buffer(wat(MODULE))
            await vm.validate()
            await vm.instantiate()
            result = await vm.execute_bindgen("echo_later", ARRAY, b"outer")
        assert seen == [inner]
        assert result == b"inner"  # this module's allocator gives everybody the same place

    run(main())


def test_a_deadline_and_a_cancellation_leave_the_vm_usable(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as vm:
            with pytest.raises(CallTimeout):
                await vm.execute_bindgen("spin", VOID, "text", timeout=0.05)
            task = asyncio.create_task(vm.execute_bindgen("spin", VOID, "text"))
            queued = asyncio.create_task(vm.execute_bindgen("echo", ARRAY, b"queued" * 99_999))
            await asyncio.sleep(0.05)
            for each in (queued, task):
                each.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await each
            assert await vm.execute_bindgen("low", INT32, 1, 2) == 1
            assert await vm.execute_bindgen("echo", ARRAY, "text") == b"text"

    run(main())


def test_a_result_may_be_as_long_as_this_process_allows(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bindgen, "_MOST_BYTES", 1000)

    async def main() -> None:
        async with ready() as vm:
            assert await vm.execute_bindgen("echo", ARRAY, bytes(1000)) == bytes(1000)
            with pytest.raises(WasmEdgeError, match=r"returned 1001 bytes, and at most 1000 "):
                await vm.execute_bindgen("echo", ARRAY, bytes(1001))
            assert await vm.execute_bindgen("echo", ARRAY, "text") == b"text"

    run(main())


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("low", 1, 2, 3), TypeError),
        (("low", INT32, 1.5, 2), TypeError),
        (("low", INT32, 1 << 33, 2), OverflowError),
        (("low", INT32, *[0] * 5000), WasmEdgeError),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    run: Run[None], call: Any, error: type[Exception]
) -> None:
    async def main() -> None:
        vm = VM()
        with pytest.raises(error):
            await vm.execute_bindgen(*call)
        assert "pid=0" in repr(vm)
        await vm.close()

    run(main())


def test_what_the_worker_refuses_is_raised_here(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as vm:
            for call, code in (
                (("echo", VOID, "text"), ErrCode.FuncSigMismatch),
                (("absent", VOID), ErrCode.FuncNotFound),
            ):
                with pytest.raises(WasmEdgeError, match=call[0]) as caught:
                    await vm.execute_bindgen(*call)
                assert caught.value.code is code
            await vm.cleanup()
            with pytest.raises(WasmEdgeError) as caught:
                await vm.execute_bindgen("echo", ARRAY, "text")
            assert caught.value.code is ErrCode.WrongVMWorkflow

    run(main())
