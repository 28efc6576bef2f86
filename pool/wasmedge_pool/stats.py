"""What a pool has done: counts, times, workers; and the record of each call, for a hook."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "BOUNDS",
    "CallRecord",
    "Durations",
    "Histogram",
    "Outcome",
    "PoolStats",
    "WorkerStats",
    "resident_bytes",
]

Outcome: TypeAlias = Literal["completed", "failed", "cancelled", "timed_out"]

# Upper bounds of the buckets in seconds: from a microsecond to more than a day, four to each
# doubling. So a percentile is at most 19 % above what a sorted list of all durations would give.
BOUNDS: tuple[float, ...] = tuple(1e-6 * 2 ** (step / 4) for step in range(150))


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long something took: what a Prometheus or OpenTelemetry histogram is made of.

    Attributes:
        count: how many durations.
        sum: of all of them, in seconds.
        max: the longest, in seconds; 0 without any.
        bounds: upper bounds of the buckets, in seconds, ascending; the last bucket has none.
        cumulative: how many durations were at most each bound, and in the last place all.
    """

    count: int
    sum: float
    max: float
    bounds: tuple[float, ...]
    cumulative: tuple[int, ...]

    def percentile(self, percent: float) -> float:
        """Return the duration in seconds that `percent` of all were no longer than.

        It is a bound of a bucket, at most 19 % too long for a duration of a microsecond or more,
        and never longer than `max`; 0 when there are no durations.

        Raises:
            ValueError: `percent` is not between 0 and 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile is between 0 and 100, not {percent!r}")
        if not self.count:
            return 0.0
        # Counted in whole durations: the one at this place of the sorted list, at least the first.
        bucket = bisect_left(self.cumulative, max(self.count * percent / 100, 1))
        return min(self.bounds[bucket], self.max) if bucket < len(self.bounds) else self.max

    @property
    def p50(self) -> float:
        """The median, in seconds."""
        return self.percentile(50)

    @property
    def p90(self) -> float:
        """What nine in ten were no longer than, in seconds."""
        return self.percentile(90)

    @property
    def p99(self) -> float:
        """What 99 in 100 were no longer than, in seconds."""
        return self.percentile(99)


class Durations:
    """Collects durations in seconds for a `Histogram`."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        self._max = 0.0

    def add(self, durations: list[float]) -> None:
        """Add some; a thousand at a time cost a tenth of what they cost one by one."""
        if not durations:
            return
        durations = sorted(durations)
        self._sum += sum(durations)
        self._max = max(self._max, durations[-1])
        start = 0
        while start < len(durations):
            bucket = bisect_left(BOUNDS, durations[start])
            bound = BOUNDS[bucket] if bucket < len(BOUNDS) else durations[-1]
            end = bisect_right(durations, bound, start)
            self._counts[bucket] += end - start
            start = end

    def add_many(self, seconds: float, count: int) -> None:
        """Add the same one `count` times."""
        self._counts[bisect_left(BOUNDS, seconds)] += count
        self._sum += seconds * count
        self._max = max(self._max, seconds)

    def snapshot(self) -> Histogram:
        """Return what has been collected."""
        cumulative = tuple(accumulate(self._counts))
        return Histogram(cumulative[-1], self._sum, self._max, BOUNDS, cumulative)


class CallRecord(NamedTuple):
    """One call of a pool that has ended, for `VMPool(on_call=...)`.

    Attributes:
        function: its name.
        outcome: "completed", "failed", "cancelled" or "timed_out".
        calls: 1; for a part of an `execute_many` how many calls it was, all with this outcome.
        queue_seconds: from the call to its beginning in a worker, the way there included; for a
            part of an `execute_many`, of each of its calls.
        run_seconds: how long it ran, 0 when it did not begin; for a part, the average.
        pid: the worker that ran it, 0 when it did not begin.
    """

    function: str
    outcome: Outcome
    calls: int
    queue_seconds: float
    run_seconds: float
    pid: int


class WorkerStats(NamedTuple):
    """One worker of a pool.

    Attributes:
        pid: its process.
        calls: how many calls it has answered.
        resident_bytes: how much memory it holds; None where the system does not tell.
        started: when it was started, as `time.time()`.
        tenants: how many virtual machines with state live in it: actors, borrowed ones.
        busy: whether it runs something.
    """

    pid: int
    calls: int
    resident_bytes: int | None
    started: float
    tenants: int
    busy: bool


class PoolStats(NamedTuple):
    """A pool at one moment. Calls of actors and of acquired or borrowed VMs are not in its counts.

    ``calls == completed + failed + cancelled + timed_out + running + queued`` at every moment.

    Attributes:
        calls: how many were made and accepted.
        running: how many are in workers that run them.
        queued: how many wait for their beginning.
        completed: how many returned.
        failed: how many raised, `CallTimeout` excepted.
        cancelled: how many were cancelled.
        timed_out: how many raised `CallTimeout`.
        refused: how many raised `PoolFull`; they are not in `calls`.
        queue_time: how long ended calls waited for their beginning.
        run_time: how long they ran.
        workers: the workers that can take calls.
        starting: how many more are being started.
        restarts: how many workers were replaced, by cause: "died", "max_calls", "max_rss",
            "broadcast".
        actors: how many keyed actors there are.
    """

    calls: int
    running: int
    queued: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int
    refused: int
    queue_time: Histogram
    run_time: Histogram
    workers: tuple[WorkerStats, ...]
    starting: int
    restarts: Mapping[str, int]
    actors: int


def frozen(counts: dict[str, int]) -> Mapping[str, int]:
    """Return a copy that cannot be changed."""
    return MappingProxyType(dict(counts))


def resident_bytes(pid: int) -> int | None:
    """How much memory a process holds; None when the system does not tell, or it has ended."""
    try:
        # Reading this waits for nothing: the kernel formats counters that it has.
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
