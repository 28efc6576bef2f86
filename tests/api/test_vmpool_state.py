"""VMs with state in a pool: acquired, of a key, borrowed; and what all workers have run."""

from __future__ import annotations

import asyncio
import gc
import os
import signal

import pytest

from tests.api import modules
from tests.loops import Run
from wasmedge_async import (
    VM,
    Function,
    FunctionType,
    ImportObject,
    PoolClosed,
    Trap,
    ValType,
    VMLost,
    VMPool,
    VMState,
    WorkerDied,
)


async def ready(pool: VMPool, workers: int) -> None:
    while len(pool.stats().workers) < workers:
        await asyncio.sleep(0.005)


def tenants(pool: VMPool) -> int:
    return sum(worker.tenants for worker in pool.stats().workers)


# --- acquire --------------------------------------------------------------------------------------


def test_an_acquired_vm_keeps_its_state_until_the_block_ends(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            for _ in range(2):
                async with pool.acquire() as vm:
                    assert vm.state is VMState.INSTANTIATED
                    assert [await vm.execute("count") for _ in range(3)] == [[1], [2], [3]]
                with pytest.raises(PoolClosed):
                    await vm.execute("count")
            assert tenants(pool) == 0
            assert await pool.execute("count") == [1]
            assert pool.stats().restarts == {}

    run(main())


def test_an_acquired_worker_takes_no_other_calls(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            await ready(pool, 2)
            async with pool.acquire() as vm:
                mine = next(w for w in pool.stats().workers if w.tenants)
                await asyncio.gather(*[pool.execute("add", n, 1) for n in range(100)])
                spinning = asyncio.ensure_future(pool.execute("spin"))
                waiting = asyncio.ensure_future(pool.execute("add", 1, 2))
                assert await vm.execute("count") == [1]
                await asyncio.sleep(0.03)
                assert not waiting.done()
                assert [w.calls for w in pool.stats().workers if w.pid == mine.pid] == [mine.calls]
            assert await waiting == [3]
            assert not spinning.done()
            spinning.cancel()
            await asyncio.wait([spinning])

    run(main())


def test_acquiring_waits_for_its_turn(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            order: list[str] = []

            async def call(name: str) -> None:
                await pool.execute("busy", 1_000_000)
                order.append(name)

            async def acquire() -> None:
                async with pool.acquire() as vm:
                    await vm.execute("busy", 1_000_000)
                    order.append("acquired")

            await asyncio.gather(call("a"), call("b"), acquire(), call("c"))
            assert order == ["a", "b", "acquired", "c"]

    run(main())


def test_a_worker_that_dies_in_the_block_is_replaced(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            async with pool.acquire() as vm:
                spinning = asyncio.ensure_future(vm.execute("spin"))
                await asyncio.sleep(0.05)
                os.kill(pool.stats().workers[0].pid, signal.SIGKILL)
                with pytest.raises(WorkerDied):
                    await spinning
                with pytest.raises(VMLost):
                    await vm.execute("count")
            assert await pool.execute("add", 1, 2) == [3]

    run(main())


def test_leaving_the_block_stops_what_still_runs_in_it(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            async with pool.acquire() as vm:
                spinning = asyncio.ensure_future(vm.execute("spin"))
                await asyncio.sleep(0.05)
            with pytest.raises(PoolClosed):
                await spinning
            assert await pool.execute("add", 1, 2) == [3]
            assert pool.stats().restarts == {}

    run(main())


def test_a_cancelled_acquire_leaves_the_queue(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            async with pool.acquire():

                async def acquire() -> None:
                    async with pool.acquire():
                        pass

                waiting = asyncio.ensure_future(acquire())
                await asyncio.sleep(0.01)
                waiting.cancel()
                await asyncio.wait([waiting])
            assert await pool.execute("add", 1, 2) == [3]

    run(main())


# --- actors ---------------------------------------------------------------------------------------


def test_a_key_reaches_the_same_vm(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            counts = await asyncio.gather(*[pool.actor("a").execute("count") for _ in range(20)])
            assert sorted(counts) == [[n] for n in range(1, 21)]
            assert await pool.actor("b").execute("count") == [1]
            assert await pool.actor(None).execute("count") == [1]
            assert await pool.execute("count") == [1]
            assert pool.stats().actors == tenants(pool) == 3
            await pool.actor("a").close()
            assert await pool.actor("a").execute("count") == [1]

    run(main())


def test_actors_are_spread_over_the_workers(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            await ready(pool, 2)
            for key in range(10):
                await pool.actor(key).execute("count")
            assert [worker.tenants for worker in pool.stats().workers] == [5, 5]

    run(main())


def test_an_actor_may_be_used_before_the_pool_is_ready(run: Run[None]) -> None:
    async def main() -> None:
        pool = VMPool(modules.calls(), workers=1)
        assert await pool.actor("a").execute("count") == [1]
        await pool.close()
        with pytest.raises(PoolClosed):
            await pool.actor("a").execute("count")
        with pytest.raises(PoolClosed):
            await pool.actor("b").execute("count")

    run(main())


def test_an_idle_actor_rests_and_begins_anew(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2, actor_idle=0.1) as pool:
            await ready(pool, 2)
            held = pool.actor("held")
            assert await held.execute("count") == [1]
            # In the other worker: what rests must not wait for it.
            busy = asyncio.ensure_future(pool.actor("busy").execute("spin"))
            while tenants(pool) < 2:
                await asyncio.sleep(0.005)
            await pool.actor("forgotten").execute("count")
            while pool.stats().actors > 1:
                await asyncio.sleep(0.01)
            assert not busy.done()
            busy.cancel()
            await asyncio.wait([busy])
            while pool.stats().actors:
                await asyncio.sleep(0.01)
            assert tenants(pool) == 0
            assert await held.execute("count") == [1]
            assert await pool.actor("held").execute("count") == [2]

    run(main())


def test_an_actor_whose_worker_died_is_lost_until_it_is_restarted(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            for key in "ab":
                assert await pool.actor(key).execute("count") == [1]
            running = asyncio.ensure_future(pool.actor("a").execute("spin"))
            queued = asyncio.ensure_future(pool.actor("b").execute("count"))
            call = asyncio.ensure_future(pool.execute("add", 1, 2))
            await asyncio.sleep(0.05)
            os.kill(pool.stats().workers[0].pid, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await running
            with pytest.raises(VMLost, match="signal 9"):
                await queued
            assert await call == [3]
            gc.collect()
            with pytest.raises(VMLost, match="restart"):
                await pool.actor("a").execute("count")
            await pool.actor("a").restart()
            assert await pool.actor("a").execute("count") == [1]
            with pytest.raises(VMLost):
                await pool.actor("b").execute("count")

    run(main())


def test_an_actor_with_a_long_call_does_not_hold_up_the_pools(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            await ready(pool, 2)
            spinning = asyncio.ensure_future(pool.actor("a").execute("spin"))
            await asyncio.sleep(0.02)
            calls = asyncio.gather(*[pool.execute("add", n, 1) for n in range(200)])
            assert await asyncio.wait_for(calls, 5) == [[n + 1] for n in range(200)]
            spinning.cancel()
            await asyncio.wait([spinning])

    run(main())


def test_a_worker_with_an_actor_is_not_replaced(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1, max_calls=10) as pool:
            assert await pool.actor("a").execute("count") == [1]
            for n in range(30):
                await pool.execute("add", n, 1)
            await asyncio.sleep(0.2)
            assert await pool.actor("a").execute("count") == [2]
            assert pool.stats().restarts == {}
            await pool.actor("a").close()
            while not pool.stats().restarts:
                await pool.execute("add", 1, 1)
            assert pool.stats().restarts == {"max_calls": 1}

    run(main())


# --- VM(pool=) ------------------------------------------------------------------------------------


def test_a_vm_may_live_in_a_pool(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            async with VM(pool=pool) as one, VM(pool=pool) as two:
                assert one.state is VMState.INITED
                assert await one.run_wasm_buffer(modules.fibonacci(), "fib", 10) == [89]
                await two.load_wasm_buffer(modules.calls())
                await two.validate()
                await two.instantiate()
                assert [await two.execute("count") for _ in range(2)] == [[1], [2]]
                assert await pool.execute("count") == [1]
                await two.restart()
                assert two.state is VMState.INITED
            assert tenants(pool) == 0

    run(main())


def test_a_forgotten_vm_of_a_pool_is_reported(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            vm = VM(pool=pool)
            await vm.run_wasm_buffer(modules.fibonacci(), "fib", 1)
            forgotten = [vm]
            del vm
            with pytest.warns(ResourceWarning, match="unclosed <wasmedge_async.VM"):
                forgotten.clear()
            while tenants(pool):
                await asyncio.sleep(0.005)

    run(main())


# --- broadcast ------------------------------------------------------------------------------------


def test_a_broadcast_holds_for_all_later_calls_in_all_workers(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            assert await pool.broadcast("count") == [[1], [1]]
            await pool.broadcast("store", 8, 77)
            results = await asyncio.gather(*[pool.execute("count") for _ in range(50)])
            assert results == [[2]] * 50
            await pool.execute("store", 8, 5)
            assert await pool.execute("load", 8) == [77]
            assert await pool.execute_many("count", [()] * 100) == [[2]] * 100

    run(main())


def test_a_broadcast_holds_in_workers_that_start_later(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            await pool.broadcast("store", 8, 77)
            await pool.broadcast("count")
            [worker] = pool.stats().workers
            os.kill(worker.pid, signal.SIGKILL)
            while pool.stats().restarts != {"died": 1}:
                await asyncio.sleep(0.005)
            assert await pool.execute("load", 8) == [77]
            assert await pool.execute("count") == [2]

    run(main())


def test_a_broadcast_that_fails_in_one_worker_holds_in_none(run: Run[None]) -> None:
    async def main() -> None:
        failing = True

        def visit(data: object, memory: object, n: int) -> int:
            nonlocal failing
            if failing:
                failing = False
                raise ValueError("only the first time")
            return n

        imports = ImportObject("host")
        kind = FunctionType([ValType.I32], [ValType.I32])
        imports.add_function("visit", Function(kind, visit))
        async with VMPool(modules.visitor(), workers=2, imports=[imports]) as pool:
            await ready(pool, 2)
            await pool.broadcast("set", 7)
            with pytest.raises(Exception, match="only the first time"):
                await pool.broadcast("visit_and_set", 8)
            assert [await pool.execute("get") for _ in range(20)] == [[7]] * 20
            assert await pool.broadcast("visit_and_set", 9) == [[9], [9]]
            assert [await pool.execute("get") for _ in range(20)] == [[9]] * 20
            assert pool.stats().restarts == {}

    run(main())


def test_a_broadcast_that_traps_while_workers_start_spoils_nothing(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=3) as pool:
            with pytest.raises(Trap):
                await pool.broadcast("unreachable")
            await ready(pool, 3)
            assert await pool.execute("count") == [1]
            assert await pool.broadcast("count") == [[1]] * 3

    run(main())


def test_a_cancelled_close_of_an_actor_leaves_nothing_in_the_worker(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            for turns in range(1, 6):
                actor = pool.actor(turns)
                await actor.execute("count")
                closing = asyncio.ensure_future(actor.close())
                for _ in range(turns):
                    await asyncio.sleep(0)
                closing.cancel()
                await asyncio.wait([closing])
                assert tenants(pool) == 0
                assert pool.stats().actors == 0

    run(main())


def test_a_block_that_is_cancelled_twice_gives_its_worker_back(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:

            async def block() -> None:
                async with pool.acquire() as vm:
                    await vm.execute("spin")

            task = asyncio.ensure_future(block())
            while not tenants(pool):
                await asyncio.sleep(0.005)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([task])
            assert task.cancelled()
            assert tenants(pool) == 0
            assert await asyncio.wait_for(pool.execute("count"), 5) == [1]

    run(main())


def test_restarts_of_an_actor_at_once_are_in_order(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            actor = pool.actor("a")
            await actor.execute("count")
            await asyncio.gather(*[actor.restart() for _ in range(3)])
            assert await actor.execute("count") == [1]
            assert tenants(pool) == 1
            assert pool.stats().restarts == {}

    run(main())


def test_while_the_pool_closes_its_vms_say_so(run: Run[None]) -> None:
    async def main() -> None:
        pool = VMPool(modules.calls(), workers=1)
        async with pool, pool.acquire() as vm:
            closing = asyncio.ensure_future(pool.close())
            await asyncio.sleep(0)
            with pytest.raises(PoolClosed):
                await vm.execute("count")
            await closing

    run(main())


def test_an_actor_is_refused_in_another_event_loop(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            actor = pool.actor("a")
            await actor.execute("count")

            def elsewhere() -> None:
                with pytest.raises(RuntimeError, match="belongs to another event loop"):
                    asyncio.run(actor.execute("count"))

            await asyncio.to_thread(elsewhere)
            assert await actor.execute("count") == [2]

    run(main())
