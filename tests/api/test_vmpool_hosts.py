"""Host functions of a pool's module, and calls that they make of their own pool."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api import modules
from tests.loops import Run
from wasmedge_async import (
    CallTimeout,
    Function,
    FunctionType,
    HostFunctionError,
    ImportObject,
    PoolClosed,
    ValType,
    VMLost,
    VMPool,
    WouldDeadlock,
)


def host(body: Any) -> ImportObject:
    imports = ImportObject("host")
    kind = FunctionType([ValType.I32], [ValType.I32])
    imports.add_function("visit", Function(kind, body))
    return imports


def test_many_calls_wait_in_host_functions_at_once(run: Run[None]) -> None:
    async def main() -> None:
        inside = 0
        most = 0

        async def visit(data: object, memory: object, n: int) -> int:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.02)
            inside -= 1
            return 2 * n

        async with VMPool(modules.visitor(), workers=3, imports=[host(visit)]) as pool:
            results = await asyncio.gather(*[pool.execute("visit", n) for n in range(30)])
            assert results == [[2 * n] for n in range(30)]
            assert most == 3
            # An actor and an acquired VM have the imports, too.
            assert await pool.actor("a").execute("visit", 4) == [8]
            async with pool.acquire() as vm:
                assert await vm.execute("visit", 5) == [10]

    run(main())


def test_calls_do_not_stay_behind_one_that_waits_for_the_host(run: Run[None]) -> None:
    async def main() -> None:
        hold = asyncio.Event()

        async def visit(data: object, memory: object, n: int) -> int:
            await hold.wait()
            return n

        async with VMPool(modules.visitor(), workers=2, imports=[host(visit)]) as pool:
            while len(pool.stats().workers) < 2:
                await asyncio.sleep(0.005)
            waiting = asyncio.ensure_future(pool.execute("visit", 1))
            calls = asyncio.gather(*[pool.execute("get") for _ in range(200)])
            assert await asyncio.wait_for(calls, 10) == [[0]] * 200
            hold.set()
            assert await waiting == [1]

    run(main())


def test_a_host_function_may_call_its_pool_while_a_worker_is_free(run: Run[None]) -> None:
    async def main() -> None:
        async def visit(data: object, memory: object, n: int) -> int:
            [got] = await pool.execute("get")
            return n + int(got)

        async with VMPool(modules.visitor(), workers=2, imports=[host(visit)]) as pool:
            await pool.broadcast("set", 5)
            for n in range(50):
                assert await pool.execute("visit", n) == [n + 5]

    run(main())


def test_a_host_function_that_calls_its_pool_of_one_worker_would_deadlock(run: Run[None]) -> None:
    async def main() -> None:
        async def visit(data: object, memory: object, n: int) -> int:
            if n == 0:
                await pool.execute("get")
            elif n == 1:
                await pool.execute_many("get", [()])
            elif n == 2:
                async with pool.acquire():
                    pass
            elif n == 3:
                async for _ in pool.map("get", [()]):
                    pass
            return n

        async with VMPool(modules.visitor(), workers=1, imports=[host(visit)]) as pool:
            for n in range(4):
                with pytest.raises(HostFunctionError) as caught:
                    await asyncio.wait_for(pool.execute("visit", n), 5)
                assert isinstance(caught.value.__cause__, WouldDeadlock)
            assert await pool.execute("get") == [0]

    run(main())


def test_the_last_of_several_that_would_wait_for_each_other_is_told(run: Run[None]) -> None:
    """Two workers: each of both calls waits for another call. One fails, the other goes on."""

    async def main() -> None:
        both = asyncio.Barrier(2)

        async def visit(data: object, memory: object, n: int) -> int:
            await both.wait()
            [got] = await pool.execute("get")
            return n + int(got)

        async with VMPool(modules.visitor(), workers=2, imports=[host(visit)]) as pool:
            while len(pool.stats().workers) < 2:
                await asyncio.sleep(0.005)
            calls = [pool.execute("visit", n) for n in range(2)]
            gathered = asyncio.gather(*calls, return_exceptions=True)
            results = await asyncio.wait_for(gathered, 10)
            failed = [result for result in results if isinstance(result, HostFunctionError)]
            assert [type(one.__cause__) for one in failed] == [WouldDeadlock]
            assert len([result for result in results if isinstance(result, list)]) == 1

    run(main())


def test_a_chain_of_calls_takes_as_many_workers_as_there_are(run: Run[None]) -> None:
    async def main() -> None:
        async def visit(data: object, memory: object, n: int) -> int:
            if not n:
                return 0
            [depth] = await pool.execute("visit", n - 1)
            return int(depth) + 1

        async with VMPool(
            modules.visitor(), min_workers=1, max_workers=3, imports=[host(visit)]
        ) as pool:
            assert await asyncio.wait_for(pool.execute("visit", 2), 10) == [2]
            with pytest.raises(HostFunctionError) as caught:
                await asyncio.wait_for(pool.execute("visit", 3), 10)
            error: BaseException = caught.value
            while error.__cause__ is not None:
                error = error.__cause__
            assert isinstance(error, WouldDeadlock)

    run(main())


@pytest.mark.parametrize("warm", [False, True])
def test_a_host_function_may_use_actors_of_its_pool(run: Run[None], warm: bool) -> None:
    """Also in the one worker, which waits for the host function meanwhile."""

    async def main() -> None:
        async def visit(data: object, memory: object, n: int) -> int:
            actor = pool.actor("other")
            if n:
                return int((await actor.execute("visit", 0))[0])
            return 5

        async with VMPool(modules.visitor(), workers=1, imports=[host(visit)]) as pool:
            actor = pool.actor("other")
            if warm:
                await actor.execute("visit", 0)
            assert await asyncio.wait_for(pool.execute("visit", 1), 5) == [5]
            assert await actor.execute("visit", 0) == [5]

    run(main())


def test_a_host_function_may_close_and_restart_actors_of_its_pool(run: Run[None]) -> None:
    async def main() -> None:
        async def visit(data: object, memory: object, n: int) -> int:
            if n == 1:
                await pool.actor("other").restart()
            if n == 2:
                await pool.actor("other").close()
            return n

        async with VMPool(modules.visitor(), workers=1, imports=[host(visit)]) as pool:
            await pool.actor("other").execute("visit", 0)
            assert await asyncio.wait_for(pool.execute("visit", 1), 5) == [1]
            assert pool.stats().actors == 1
            assert await asyncio.wait_for(pool.execute("visit", 2), 5) == [2]
            assert pool.stats().actors == 0

    run(main())


def test_a_host_function_may_close_and_restart_its_own_actor(run: Run[None]) -> None:
    async def main() -> None:
        went_on: list[int] = []

        async def visit(data: object, memory: object, n: int) -> int:
            await (actor.restart() if n == 1 else actor.close())
            went_on.append(n)
            return n

        async with VMPool(modules.visitor(), workers=1, imports=[host(visit)]) as pool:
            actor = pool.actor("own")
            with pytest.raises(VMLost):
                await asyncio.wait_for(actor.execute("visit", 1), 5)
            with pytest.raises(PoolClosed):
                await asyncio.wait_for(actor.execute("visit", 2), 5)
            assert went_on == [1, 2]
            assert [worker.tenants for worker in pool.stats().workers] == [0]
            assert pool.stats().restarts == {}

    run(main())


def test_a_broadcast_in_a_host_function_would_deadlock(run: Run[None]) -> None:
    async def main() -> None:
        async def visit(data: object, memory: object, n: int) -> int:
            await pool.broadcast("visit", 0)
            return n

        async with VMPool(modules.visitor(), workers=2, imports=[host(visit)]) as pool:
            with pytest.raises(HostFunctionError) as caught:
                await asyncio.wait_for(pool.execute("visit", 1), 5)
            assert isinstance(caught.value.__cause__, WouldDeadlock)

    run(main())


def test_one_of_many_calls_may_time_out_in_a_host_function(run: Run[None]) -> None:
    async def main() -> None:
        async def visit(data: object, memory: object, n: int) -> int:
            await asyncio.sleep(5 if n == 1 else 0)
            return n

        async with VMPool(modules.visitor(), workers=1, imports=[host(visit)]) as pool:
            rows = [(0,), (1,), (0,), (1,), (0,)]
            # Less than what a worker runs of many calls before it says how far it has come.
            found = await pool.execute_many("visit", rows, timeout=0.002, return_errors=True)
            assert all(isinstance(found[at], CallTimeout) for at in (1, 3))
            assert pool.stats().restarts == {}

    run(main())


def test_a_pool_cannot_be_closed_in_its_own_host_function(run: Run[None]) -> None:
    async def main() -> None:
        async def visit(data: object, memory: object, n: int) -> int:
            await pool.close()
            return n

        async with VMPool(modules.visitor(), workers=1, imports=[host(visit)]) as pool:
            with pytest.raises(HostFunctionError) as caught:
                await asyncio.wait_for(pool.execute("visit", 1), 5)
            assert isinstance(caught.value.__cause__, WouldDeadlock)
            assert "pool.kill()" in str(caught.value.__cause__)

    run(main())


@pytest.mark.parametrize("turns", range(12))
def test_a_cancelled_close_raises_whenever_it_is_cancelled(run: Run[None], turns: int) -> None:
    async def main() -> None:
        pool = VMPool(modules.calls(), workers=1)
        await pool.execute("empty")
        went_on = False

        async def close() -> None:
            nonlocal went_on
            await pool.close()
            await asyncio.sleep(0)
            went_on = True

        closing = asyncio.ensure_future(close())
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = closing.cancel()
        await asyncio.wait([closing])
        assert not (cancelled and went_on)
        await pool.close()

    run(main())
