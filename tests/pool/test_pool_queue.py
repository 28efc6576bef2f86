"""The queue of a pool: its bound, and how long calls may wait in it."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.loops import Run
from tests.pool.pools import call, make, opened, start, until
from wasmedge_pool.calls import Expiries, PoolCall
from wasmedge_pool.errors import CallTimeout, PoolFull
from wasmedge_pool.messages import Call
from wasmedge_pool.sizing import Limits


def test_a_full_pool_refuses_the_next_call(run: Run[None]) -> None:
    async def main() -> None:
        async with opened(2, max_queue=3) as pool:
            calls = [start(pool, "sleep", 100) for _ in range(5)]
            await asyncio.sleep(0)
            with pytest.raises(PoolFull, match=r"max_queue=3 .* call again later"):
                await call(pool, "echo")
            await asyncio.gather(*calls)
            assert await call(pool, "echo", 1) == [1]
            assert pool.stats().refused == 1
            assert pool.stats().calls == 6

    run(main())


def test_without_a_queue_a_call_runs_at_once_or_is_refused(run: Run[None]) -> None:
    async def main() -> None:
        async with opened(1, max_queue=0) as pool:
            running = start(pool, "sleep", 50)
            await asyncio.sleep(0)
            with pytest.raises(PoolFull):
                await call(pool, "echo")
            await running
            assert await call(pool, "echo", 1) == [1]

    run(main())


def test_refusing_makes_a_pool_grow(run: Run[None]) -> None:
    async def main() -> None:
        async with opened(Limits(1, 2), max_queue=0) as pool:
            running = start(pool, "sleep", 1000)
            await asyncio.sleep(0)
            with pytest.raises(PoolFull):
                await call(pool, "echo")
            await until(lambda: len(pool.pids) == 2)
            assert await call(pool, "echo", 1) == [1]
            await running

    run(main())


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="max_queue must be 0 or more"):
        make(1, max_queue=-1)


def test_a_call_that_does_not_begin_in_time_fails_and_never_runs(run: Run[None]) -> None:
    """Sent ahead or not: a hundred do not all fit at the worker."""

    async def main() -> None:
        async with opened(1) as pool:
            assert await call(pool, "calls") == [1]
            running = start(pool, "sleep", 400)
            await asyncio.sleep(0)

            async def late(n: int) -> None:
                with pytest.raises(CallTimeout, match=r"'echo' had not begun .* of 0.1 s"):
                    await call(pool, "echo", n, queue_timeout=0.1)

            began = time.monotonic()
            await asyncio.gather(*[late(n) for n in range(100)])
            assert time.monotonic() - began < 0.35
            assert not running.done()
            await running
            assert await call(pool, "calls") == [3]
            assert pool.stats().timed_out == 100

    run(main())


def test_a_call_that_has_begun_is_not_ended_by_its_queue_timeout(run: Run[None]) -> None:
    async def main() -> None:
        async with opened(1) as pool:
            assert await call(pool, "pid_after", 150, queue_timeout=0.02) == pool.pids

    run(main())


def test_a_queue_timeout_holds_before_a_worker_is_ready(run: Run[None]) -> None:
    async def main() -> None:
        pool = make(1)
        with pytest.raises(CallTimeout):
            await call(pool, "echo", queue_timeout=0.0)
        assert await call(pool, "echo", 1, queue_timeout=60) == [1]
        await pool.close()

    run(main())


def test_calls_that_are_done_do_not_stay_in_the_heap(run: Run[None]) -> None:
    async def main() -> None:
        expiries = Expiries(lambda call: None)
        for _ in range(1000):
            done = PoolCall(Call(0, 1, None, "f", (), None), "f", None, 3600)
            expiries.add(done)
            done.finish([])
        assert len(expiries._heap) < 200
        expiries.stop()

    run(main())
