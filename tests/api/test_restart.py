"""`VMLost`, and beginning anew."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.api import modules
from tests.api.hosts import guest, host, set_up
from tests.loops import Run
from wasmedge_async import VM, PoolClosed, VMLost, VMState, WasmEdgeError, WorkerDied


async def lose(vm: VM) -> None:
    """Have its worker die."""
    running = asyncio.create_task(vm.run_wasm_buffer(modules.calls(), "spin"))
    await asyncio.sleep(0.05)
    os.kill(vm._actor.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        await running


def test_a_lost_vm_says_so_until_it_is_restarted(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            await lose(vm)
            assert vm.state is VMState.INITED
            asked: list[Any] = [
                vm.execute("identity", 1),
                vm.validate(),
                vm.register_import(host()),
                vm.get_function_list(),
                vm.get_statistics(),
            ]
            for one in asked:
                with pytest.raises(VMLost, match="restart"):
                    await one
            await vm.restart()
            assert vm.state is VMState.INITED
            await set_up(vm, host())
            assert await vm.execute("number", 6) == [6]

    run(main())


def test_a_living_vm_can_be_restarted(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            first = vm._actor.pid
            running = asyncio.create_task(vm.execute("spin"))
            waiting = asyncio.create_task(vm.execute("identity", 1))
            await asyncio.sleep(0.02)
            await vm.restart()
            for task in (running, waiting):
                with pytest.raises(VMLost, match="restarted"):
                    await task
            assert not Path(f"/proc/{first}").exists()
            with pytest.raises(WasmEdgeError):
                await vm.execute("identity", 1)  # nothing is loaded
            assert vm._actor.pid != first

    run(main())


def test_a_vm_that_has_not_begun_can_be_restarted(run: Run[None]) -> None:
    async def main() -> None:
        vm = VM()
        await vm.restart()
        assert await vm.run_wasm_buffer(modules.fibonacci(), "fib", 5) == [8]
        await vm.close()
        with pytest.raises(PoolClosed):
            await vm.restart()

    run(main())


def test_restarts_of_several_tasks_are_one(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            await asyncio.gather(*(vm.restart() for _ in range(5)))
            workers = [
                pid
                for task in Path("/proc/self/task").iterdir()
                for pid in (task / "children").read_text().split()
            ]
            assert workers.count(str(vm._actor.pid)) == 1
            assert await vm.run_wasm_buffer(modules.fibonacci(), "fib", 5) == [8]

    run(main())


def test_handles_of_an_earlier_life_are_lost(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            store = await vm.get_store()
            memory = await store.find_memory("memory")
            function = await store.find_function("identity")
            count = await store.find_global("count")
            assert memory is not None
            assert function is not None
            assert count is not None
            await vm.restart()
            for use in (memory.get_data(0, 1), function(1), count.get_value()):
                with pytest.raises(VMLost, match="look it up again"):
                    await use
            memory.close()
            del function, count
            await set_up(vm, host())
            new = await store.find_memory("memory")
            assert new is not None
            assert await new.get_data(16, 5) == b"hello"
            await lose(vm)
            with pytest.raises(VMLost, match="restart"):
                await new.get_data(16, 5)

    run(main())


def test_a_cancelled_start_leaves_a_vm_that_works(run: Run[None]) -> None:
    async def main() -> None:
        vm = VM()
        task = asyncio.create_task(vm.started())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert await vm.run_wasm_buffer(modules.fibonacci(), "fib", 5) == [8]
        await vm.close()

    run(main())


def test_cancelling_a_close_takes_effect_when_the_worker_has_ended(run: Run[None]) -> None:
    async def main() -> None:
        async with guest() as vm:
            pid = vm._actor.pid
            closing = asyncio.create_task(vm.close())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert not Path(f"/proc/{pid}").exists()

    run(main())
