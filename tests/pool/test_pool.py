"""The pool: who gets which call, and what happens when a worker ends."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial

import anyio
import pytest

from tests.loops import Run
from tests.pool.fake_worker import FAKE
from tests.pool.pools import call, make, opened, start
from tests.pool.test_process import gone, running
from wasmedge_pool import sizing
from wasmedge_pool.errors import PoolClosed, WorkerDied
from wasmedge_pool.pool import WorkerPool
from wasmedge_pool.process import WorkerProcess
from wasmedge_pool.sizing import Limits


def test_a_thousand_calls_at_once_come_back_right(run: Run[None]) -> None:
    async def main() -> None:
        async with opened() as pool:
            results = await asyncio.gather(*[start(pool, "echo", n) for n in range(1000)])
            assert results == [[n] for n in range(1000)]

    run(main())


def test_all_workers_work(run: Run[None]) -> None:
    async def main() -> None:
        async with opened() as pool:
            pids = await asyncio.gather(*[start(pool, "pid_after", 30) for _ in range(10)])
            assert {pid for [pid] in pids} == set(pool.pids)

    run(main())


def test_quick_calls_do_not_wait_behind_a_long_one(run: Run[None]) -> None:
    async def main() -> None:
        async with opened() as pool:
            long = start(pool, "sleep", 1000)
            quick = [start(pool, "echo", n) for n in range(300)]
            assert await asyncio.gather(*quick) == [[n] for n in range(300)]
            assert not long.done()
            quick = [start(pool, "echo", n) for n in range(300)]
            assert await asyncio.gather(*quick) == [[n] for n in range(300)]
            assert not long.done()
            await long

    run(main())


def test_calling_back_loses_nothing(run: Run[None]) -> None:
    """Calls of every length side by side, so that calls are called back all the time."""

    async def main() -> None:
        async with opened() as pool:

            async def work(n: int) -> None:
                for k in range(10):
                    if n % 20 == 0:
                        assert await call(pool, "sleep", 8) == []
                    assert await call(pool, "echo", n, k) == [n, k]

            await asyncio.gather(*[work(n) for n in range(300)])

    run(main())


def test_a_worker_that_is_killed_fails_its_call_and_is_replaced(run: Run[None]) -> None:
    async def main() -> None:
        async with opened() as pool:
            calls = [start(pool, "sleep", 100) for _ in range(6)]
            await asyncio.sleep(0.05)
            victim = pool.pids[0]
            os.kill(victim, signal.SIGKILL)
            results = await asyncio.gather(*calls, return_exceptions=True)
            died = [result for result in results if result != []]
            assert len(died) == 1
            assert isinstance(died[0], WorkerDied)
            assert (died[0].pid, died[0].signal) == (victim, signal.SIGKILL)
            while len(pool.pids) < 2:
                await asyncio.sleep(0.005)
            assert victim not in pool.pids
            assert gone(victim)

    run(main())


def test_under_steady_killing_every_call_returns_or_was_running(run: Run[None]) -> None:
    async def main() -> None:
        async with opened() as pool:
            kills = 0
            died = 0
            done = 0
            finished = False

            async def kill() -> None:
                nonlocal kills
                while not finished:
                    await asyncio.sleep(0.15)
                    if pool.pids and not finished:
                        os.kill(pool.pids[kills % len(pool.pids)], signal.SIGKILL)
                        kills += 1

            async def work() -> None:
                nonlocal died, done
                for n in range(40):
                    try:
                        assert await call(pool, "echo", n) == [n]
                        assert await call(pool, "sleep", 1) == []
                        done += 1
                    except WorkerDied:
                        died += 1

            killing = asyncio.ensure_future(kill())
            await asyncio.gather(*[work() for _ in range(20)])
            finished = True
            await killing
            assert done + died == 20 * 40
            assert kills >= 3
            assert died <= kills

    run(main())


def test_cancelled_calls_stop_and_their_workers_go_on(run: Run[None]) -> None:
    async def main() -> None:
        async with opened() as pool:
            pids = pool.pids
            spinning = [start(pool, "spin") for _ in range(200)]
            await asyncio.sleep(0.05)
            for task in spinning:
                task.cancel()
            results = await asyncio.gather(*spinning, return_exceptions=True)
            assert {type(result) for result in results} == {asyncio.CancelledError}
            assert await call(pool, "echo", 1) == [1]
            assert pool.pids == pids

    run(main())


def test_closing_finishes_what_was_accepted(run: Run[None]) -> None:
    async def main() -> None:
        pool = make()
        calls = [start(pool, "sleep", 20) for _ in range(10)]
        await asyncio.sleep(0)
        await asyncio.gather(pool.close(), pool.close())
        assert [task.result() for task in calls] == [[]] * 10
        with pytest.raises(PoolClosed):
            await call(pool, "echo")

    run(main())


def test_killing_ends_everything_at_once(run: Run[None]) -> None:
    async def main() -> None:
        pool = make()
        calls = [start(pool, "spin") for _ in range(300)]
        while len(pool.pids) < 2:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        pids = pool.pids
        pool.kill()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {PoolClosed}
        await pool.close()
        assert all(map(gone, pids))

    run(main())


def test_closing_that_is_cancelled_kills(run: Run[None]) -> None:
    async def main() -> None:
        pool = make()
        spinning = start(pool, "spin")
        while len(pool.pids) < 2:
            await asyncio.sleep(0.005)
        pids = pool.pids
        with anyio.move_on_after(0.05) as scope:
            await pool.close()
        assert scope.cancelled_caught
        assert all(map(gone, pids))
        with pytest.raises(PoolClosed):
            await spinning

    run(main())


def test_closing_a_pool_that_is_starting_leaves_no_process(run: Run[None]) -> None:
    async def main() -> None:
        pool = make(3)
        pool.begin()
        await asyncio.sleep(0.02)
        pids = [worker.mailbox.pid for worker in pool._crew.places]
        assert all(map(running, pids))
        await pool.close()
        assert all(map(gone, pids))

    run(main())


def test_workers_that_cannot_start_fail_the_calls_and_are_tried_again(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "_RETRY_SECONDS", 0.0)

    async def main() -> None:
        targets = ["tests.pool.hostile_worker:fails_to_start"] * 2
        pool = WorkerPool(
            lambda: b"module",
            Limits(2, 2),
            None,
            lambda: WorkerProcess(targets.pop() if targets else FAKE),
        )
        with pytest.raises(WorkerDied, match="no engine here"):
            await call(pool, "echo")
        assert await call(pool, "echo", 1) == [1]
        await pool.close()

    run(main())


def test_a_module_that_cannot_be_read_fails_the_calls(run: Run[None]) -> None:
    def read() -> bytes:
        raise OSError("no such module")

    async def main() -> None:
        pool = WorkerPool(read, Limits(2, 2), None, partial(WorkerProcess, FAKE))
        with pytest.raises(OSError, match="no such module"):
            await call(pool, "echo")
        await pool.close()

    run(main())


def test_a_pool_needs_a_worker() -> None:
    with pytest.raises(ValueError, match="at least 1 worker"):
        make(0)
