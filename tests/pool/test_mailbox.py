"""Order, cancellation and deadlines of one worker's calls."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from functools import partial

import anyio
import pytest

from tests.loops import Run
from tests.pool.fake_worker import FAKE
from tests.pool.test_process import actor, call, gone
from wasmedge_pool import mailbox
from wasmedge_pool.actor import VM_NAME, Actor
from wasmedge_pool.errors import CallTimeout, PoolClosed, VMLost
from wasmedge_pool.messages import Call, GetFunctionList, Load
from wasmedge_pool.process import WorkerProcess
from wasmedge_pool.request import Request
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.errors import ErrCode, Trap, WasmEdgeError


def test_calls_run_in_the_order_in_which_they_were_made(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        tasks = [asyncio.ensure_future(call(vm, "calls")) for _ in range(3000)]
        assert await asyncio.gather(*tasks) == [[n + 1] for n in range(3000)]
        await vm.close()

    run(main())


def test_errors_arrive_as_they_were_raised(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        with pytest.raises(Trap) as trap:
            await call(vm, "trap")
        assert trap.value.kind is ErrCode.Unreachable
        assert trap.value.frames == ("inner", "outer")
        with pytest.raises(WasmEdgeError) as unknown:
            await call(vm, "unknown")
        assert unknown.value.code is ErrCode.FuncNotFound
        with pytest.raises(
            WasmEdgeError, match="has returned, but a reference to an object of the worker"
        ):
            await call(vm, "reference")
        assert await call(vm, "echo", 1) == [1]
        await vm.close()

    run(main())


def test_a_cancelled_call_raises_when_the_guest_has_stopped(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call(vm, "spin")
        assert await call(vm, "echo", 1) == [1]
        await vm.close()

    run(main())


def test_anyio_scopes_cancel_calls(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        with anyio.move_on_after(0.05) as scope:
            await call(vm, "spin")
        assert scope.cancelled_caught
        with anyio.move_on_after(0.05) as scope:
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(call, vm, "spin")
        assert scope.cancelled_caught
        assert await call(vm, "echo", 1) == [1]
        await vm.close()

    run(main())


def test_a_second_cancellation_changes_nothing(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "GRACE_SECONDS", 10.0)

    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        task = asyncio.ensure_future(call(vm, "sleep", 800))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        for _ in range(5):
            task.cancel()
            await asyncio.sleep(0.02)
            assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began > 0.5  # the guest could not be interrupted
        assert await call(vm, "echo", 1) == [1]
        await vm.close()

    run(main())


def test_an_anyio_cancellation_does_not_spin_while_the_guest_stops(run: Run[None]) -> None:
    """anyio cancels again in every turn of the loop, unless it is told to wait."""

    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        turns = 0
        done = False

        def count() -> None:
            nonlocal turns
            turns += 1
            if not done:
                loop.call_later(0.005, count)

        loop = asyncio.get_running_loop()
        cpu = time.process_time()
        count()
        with anyio.move_on_after(0.05):
            await call(vm, "sleep", 600)
        done = True
        assert turns > 20
        assert time.process_time() - cpu < 0.4
        await vm.close()

    run(main())


def test_a_queued_call_leaves_at_once_and_never_runs(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "calls")
        running_call = asyncio.ensure_future(call(vm, "sleep", 1500))
        # Some are sent behind it, the others wait in the parent.
        queued = [asyncio.ensure_future(call(vm, "calls")) for _ in range(2000)]
        await asyncio.sleep(0.1)
        for task in queued:
            task.cancel()
        results = await asyncio.gather(*queued, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        assert not running_call.done()
        assert await call(vm, "calls") == [3]  # the first, the sleeper, and this one
        await vm.close()

    run(main())


def test_a_timeout_counts_running_time_only(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        message = Call(0, VM_NAME, None, "echo", (1,), 100_000)
        sleeper = asyncio.ensure_future(call(vm, "sleep", 300))
        await asyncio.sleep(0)
        # It waits for three times its timeout.
        assert await vm.ask(Request(message, None, 0.1)) == [1]
        await sleeper
        began = time.monotonic()
        with pytest.raises(CallTimeout):
            await vm.ask(Request(Call(0, VM_NAME, None, "spin", (), 100_000), None, 0.1))
        assert time.monotonic() - began > 0.09
        assert await call(vm, "echo", 1) == [1]
        await vm.close()

    run(main())


def test_each_call_has_its_own_deadline(run: Run[None]) -> None:
    """Later and earlier than the one the watchdog waits for; none hits another call."""

    async def main() -> None:
        vm = actor()
        for timeout in (10.0, 0.1, 5.0, 0.05, 0.2):
            message = Call(0, VM_NAME, None, "echo", (1,), int(timeout * 1e6))
            assert await vm.ask(Request(message, None, timeout)) == [1]
        for timeout in (0.1, 0.05, 0.0):
            message = Call(0, VM_NAME, None, "spin", (), int(timeout * 1e6))
            with pytest.raises(CallTimeout):
                await vm.ask(Request(message, None, timeout))
        await asyncio.sleep(0.1)
        assert await call(vm, "sleep", 200) == []
        await vm.close()

    run(main())


def test_a_deadline_holds_while_the_event_loop_is_busy(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        spinning = asyncio.ensure_future(
            vm.ask(Request(Call(0, VM_NAME, None, "spin", (), 50_000), None, 0.05))
        )
        behind = asyncio.ensure_future(call(vm, "calls"))
        await asyncio.sleep(0.01)
        assert vm._mailbox is not None
        number = vm._mailbox.head
        began = time.monotonic()
        while vm._mailbox._backend.running() == number and time.monotonic() - began < 10:
            time.sleep(0.01)  # the event loop does nothing
        assert vm._mailbox._backend.running() == number + 1
        with pytest.raises(CallTimeout):
            await spinning
        assert await behind == [3]
        await vm.close()

    run(main())


def test_a_storm_of_cancellations_harms_no_other_call(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()

        async def cancelled(n: int) -> None:
            with anyio.move_on_after(0.001 * (n % 7)):
                await call(vm, "spin" if n % 3 == 0 else "echo", n)

        async def kept(n: int) -> None:
            assert await call(vm, "echo", n) == [n]

        async with asyncio.TaskGroup() as tasks:
            for n in range(400):
                tasks.create_task(cancelled(n))
                tasks.create_task(kept(n))
                if n % 10 == 0:
                    await asyncio.sleep(0.001)
        assert await call(vm, "echo", 1) == [1]
        await vm.close()

    run(main())


def test_a_large_module_travels_and_the_loop_stays_responsive(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        longest = 0.0
        done = False

        async def watch() -> None:
            nonlocal longest
            while not done:
                before = time.monotonic()
                await asyncio.sleep(0)
                longest = max(longest, time.monotonic() - before)

        watching = asyncio.ensure_future(watch())
        module = bytes(50_000_000)
        await vm.ask(Request(Load(0, VM_NAME, None), module))
        done = True
        await watching
        assert await call(vm, "module_size") == [len(module)]
        assert longest < 0.5
        await vm.close()

    run(main())


def test_a_load_that_is_cancelled_halfway_leaves_nothing_behind(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "sleep", 1)
        sleeper = asyncio.ensure_future(call(vm, "sleep", 100))
        await asyncio.sleep(0.01)
        loading = asyncio.ensure_future(vm.ask(Request(Load(0, VM_NAME, None), bytes(5_000_000))))
        await asyncio.sleep(0.01)  # the socket is full, the rest waits
        loading.cancel()
        await asyncio.wait([loading])
        assert loading.cancelled()
        await sleeper
        await vm.ask(Request(Load(0, VM_NAME, None), b"the module"))
        assert await call(vm, "module_size") == [10]
        await vm.close()

    run(main())


def test_a_long_list_comes_in_parts(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        request = Request(GetFunctionList(0, VM_NAME))
        request.items = []
        await vm.ask(request)
        assert [item[0] for item in request.items] == [f"f{n}" for n in range(3000)]
        await vm.close()

    run(main())


def test_the_configuration_reaches_the_engine(run: Run[None]) -> None:
    async def main() -> None:
        config = Configure()
        config.max_memory_page = 77
        vm = Actor(config, partial(WorkerProcess, FAKE))
        config.max_memory_page = 5
        assert await call(vm, "max_memory_page") == [77]
        await vm.close()

    run(main())


def test_the_workers_records_reach_the_parents_logger(
    run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "log")
        await vm.close()

    with caplog.at_level(logging.INFO, logger="wasmedge"):
        run(main())
    assert ("wasmedge", logging.WARNING, "from the worker") in caplog.record_tuples
    caplog.clear()
    with caplog.at_level(logging.ERROR, logger="wasmedge"):
        run(main())
    assert not caplog.records


def test_closing_ends_what_waits_and_what_runs(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        tasks = [asyncio.ensure_future(call(vm, "spin")) for _ in range(1500)]
        await asyncio.sleep(0.05)
        pid = vm.pid
        await asyncio.gather(vm.close(), vm.close())
        assert gone(pid)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {PoolClosed}
        with pytest.raises(PoolClosed):
            await call(vm, "echo")
        await vm.close()

    run(main())


def test_closing_works_inside_a_cancelled_scope(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await vm.close()
        assert gone(vm.pid)

    run(main())


def test_an_idle_worker_that_is_killed_is_noticed(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        os.kill(vm.pid, signal.SIGKILL)
        while not gone(vm.pid):
            await asyncio.sleep(0.01)
        with pytest.raises(VMLost, match="signal 9"):
            await call(vm, "echo")
        await vm.close()

    run(main())


def test_without_an_event_loop_there_is_one_clear_error() -> None:
    """As under trio, whose coroutines run without an asyncio loop."""
    vm = actor()
    step = call(vm, "echo")
    with pytest.raises(RuntimeError, match="trio is not supported"):
        step.send(None)
