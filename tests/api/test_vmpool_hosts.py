"""Host functions of a pool's module, and calls that they make of their own pool."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api import modules
from tests.loops import Run
from wasmedge_async import (
    Function,
    FunctionType,
    HostFunctionError,
    ImportObject,
    ValType,
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
