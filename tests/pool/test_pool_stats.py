"""What a pool says about itself."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loops import Run
from tests.pool.pools import call, opened, start
from wasmedge_pool.errors import WorkerDied
from wasmedge_pool.stats import BOUNDS, CallRecord, Durations
from wasmedge_runtime.errors import Trap

seconds = st.floats(min_value=1e-6, max_value=1e4)


@given(st.lists(seconds, min_size=1), st.floats(min_value=0, max_value=100))
def test_a_percentile_is_right_to_the_width_of_a_bucket(
    durations: list[float], percent: float
) -> None:
    collected = Durations()
    half = len(durations) // 2
    collected.add(durations[:half])
    for duration in durations[half:]:
        collected.add_many(duration, 1)
    histogram = collected.snapshot()
    rank = max(math.ceil(len(durations) * percent / 100), 1)
    exact = sorted(durations)[rank - 1]
    assert exact <= histogram.percentile(percent) <= exact * 1.19
    assert histogram.max == max(durations)
    assert histogram.count == len(durations)
    assert math.isclose(histogram.sum, sum(durations))


@given(st.lists(seconds))
def test_buckets_are_what_prometheus_wants(durations: list[float]) -> None:
    collected = Durations()
    collected.add(durations)
    histogram = collected.snapshot()
    assert len(histogram.cumulative) == len(histogram.bounds) + 1
    for bound, count in zip(histogram.bounds, histogram.cumulative, strict=False):
        assert count == sum(duration <= bound for duration in durations)
    assert histogram.cumulative[-1] == len(durations)


def test_an_empty_histogram_has_percentiles_of_zero() -> None:
    histogram = Durations().snapshot()
    assert (histogram.p50, histogram.p90, histogram.p99, histogram.max) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="between 0 and 100"):
        histogram.percentile(101)


def test_a_duration_beyond_all_bounds_counts() -> None:
    collected = Durations()
    collected.add([BOUNDS[-1] * 2])
    assert collected.snapshot().p50 == BOUNDS[-1] * 2


def test_calls_are_counted_by_what_became_of_them(run: Run[None]) -> None:
    async def main() -> None:
        async with opened(2) as pool:
            await asyncio.gather(*[call(pool, "echo", n) for n in range(10)])
            with pytest.raises(Trap):
                await call(pool, "trap")
            cancelled = start(pool, "spin")
            await asyncio.sleep(0.05)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            running = [start(pool, "sleep", 100) for _ in range(6)]
            await asyncio.sleep(0.05)
            stats = pool.stats()
            assert (stats.calls, stats.running, stats.queued) == (18, 2, 4)
            assert (stats.completed, stats.failed, stats.cancelled) == (10, 1, 1)
            assert sum(worker.busy for worker in stats.workers) == 2
            await asyncio.gather(*running)
            stats = pool.stats()
            assert (stats.running, stats.queued, stats.completed) == (0, 0, 16)
            assert stats.run_time.count == stats.queue_time.count == 18
            assert 0.1 <= stats.run_time.p90 <= stats.run_time.max < 0.5
            assert stats.queue_time.max >= 0.15  # the last two waited for two others
            assert sum(worker.calls for worker in stats.workers) == 18
            assert {worker.pid for worker in stats.workers} == set(pool.pids)
            assert all((worker.resident_bytes or 0) > 2**20 for worker in stats.workers)

    run(main())


def test_workers_that_died_are_counted(run: Run[None]) -> None:
    async def main() -> None:
        async with opened(1) as pool:
            running = start(pool, "sleep", 5000)
            await asyncio.sleep(0.05)
            os.kill(pool.pids[0], signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await running
            stats = pool.stats()
            assert stats.restarts == {"died": 1}
            assert (stats.failed, stats.workers, stats.starting) == (1, (), 1)
            with pytest.raises(TypeError):
                stats.restarts["died"] = 2  # type: ignore[index]

    run(main())


def test_the_hook_gets_a_record_of_each_call(run: Run[None]) -> None:
    async def main() -> None:
        records: list[CallRecord] = []
        async with opened(1, on_call=records.append) as pool:
            await call(pool, "pid_after", 50)
            with pytest.raises(Trap):
                await call(pool, "trap")
            [pid] = pool.pids
            assert [record[:3] for record in records] == [
                ("pid_after", "completed", 1),
                ("trap", "failed", 1),
            ]
            assert all(record.pid == pid for record in records)
            assert 0.05 <= records[0].run_seconds < 0.5
            assert 0 <= records[0].queue_seconds < 0.5

    run(main())


def test_what_the_hook_raises_is_logged_and_no_call_hears_of_it(
    run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    def hook(record: CallRecord) -> Any:
        raise RuntimeError("the exporter is gone")

    async def main() -> None:
        async with opened(1, on_call=hook) as pool:
            assert await call(pool, "echo", 1) == [1]

    with caplog.at_level(logging.ERROR, logger="wasmedge"):
        run(main())
    assert "the exporter is gone" in caplog.text
