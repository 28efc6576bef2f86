"""How many workers a pool has, and how they are replaced."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.loops import Run
from tests.pool.pools import call, make, opened, start, until
from tests.pool.test_process import gone
from wasmedge_pool import stats
from wasmedge_pool.sizing import Limits


def test_a_pool_grows_while_calls_wait_and_shrinks_when_idle(run: Run[None]) -> None:
    async def main() -> None:
        async with opened(Limits(1, 3, idle=0.4)) as pool:
            assert len(pool.pids) == 1
            calls = [start(pool, "sleep", 300) for _ in range(6)]
            await until(lambda: len(pool.pids) == 3)
            pids = pool.pids
            await asyncio.gather(*calls)
            await until(lambda: len(pool.pids) == 1)
            await until(lambda: sum(map(gone, pids)) == 2)
            assert pool.stats().restarts == {}
            assert await call(pool, "echo", 1) == [1]

    run(main())


def test_quick_calls_do_not_make_a_pool_grow(run: Run[None]) -> None:
    async def main() -> None:
        async with opened(Limits(1, 4)) as pool:
            for n in range(200):
                assert await call(pool, "echo", n) == [n]
            assert len(pool._crew.places) == 1

    run(main())


def test_a_worker_is_replaced_after_max_calls_by_one_that_was_started_first(
    run: Run[None],
) -> None:
    async def main() -> None:
        async with opened(Limits(1, 1, max_calls=50)) as pool:
            [first] = pool.pids
            for n in range(40):
                assert await call(pool, "echo", n) == [n]
            assert pool.pids == [first]
            for n in range(20):
                assert await call(pool, "echo", n) == [n]
                assert pool.pids  # there is always one
            await until(lambda: pool.pids != [first])
            assert await call(pool, "calls") == [1]
            await until(lambda: gone(first))
            assert pool.stats().restarts == {"max_calls": 1}

    run(main())


def test_no_call_is_lost_while_workers_are_replaced(run: Run[None]) -> None:
    async def main() -> None:
        async with opened(Limits(2, 2, max_calls=100)) as pool:

            async def work() -> None:
                for n in range(100):
                    assert await call(pool, "echo", n) == [n]

            await asyncio.gather(*[work() for _ in range(50)])
            await until(lambda: pool.stats().restarts.get("max_calls", 0) >= 2)
            assert pool.stats().completed == 5000

    run(main())


def test_a_worker_that_has_grown_too_large_is_replaced(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[int, int] = {}
    monkeypatch.setattr("wasmedge_pool.sizing.resident_bytes", lambda pid: sizes.get(pid, 1))
    monkeypatch.setattr("wasmedge_pool.sizing._RSS_SECONDS", 0.0)

    async def main() -> None:
        async with opened(Limits(1, 1, max_rss=2**20)) as pool:
            [first] = pool.pids
            assert await call(pool, "echo", 1) == [1]
            sizes[first] = 2**20 + 1
            assert await call(pool, "echo", 1) == [1]
            await until(lambda: pool.pids != [first])
            assert pool.stats().restarts == {"max_rss": 1}

    run(main())


def test_the_resident_size_of_a_process_is_read() -> None:
    size = stats.resident_bytes(os.getpid())
    assert size is not None
    assert 2**20 < size < 2**36
    assert stats.resident_bytes(2**22 + 1) is None


def test_a_worker_that_dies_while_its_successor_starts_is_not_replaced_twice(
    run: Run[None],
) -> None:
    async def main() -> None:
        async with opened(Limits(1, 1, max_calls=1)) as pool:
            [first] = pool.pids
            for _ in range(2):
                await call(pool, "echo")
            await until(lambda: len(pool._crew.places) == 2)
            os.kill(first, signal.SIGKILL)
            await until(lambda: gone(first) and len(pool.pids) == 1)
            assert len(pool._crew.places) == 1

    run(main())


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(0, 1), "at least 1 worker"),
        (Limits(2, 1), "less than min_workers"),
        (Limits(1, 1, idle=-1), "idle must be"),
        (Limits(1, 1, max_calls=0), "max_calls must be"),
        (Limits(1, 1, max_rss=0), "max_rss must be"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: Limits, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(limits)
