"""A call of a pool, the queue time of many, and the count of what became of them."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from wasmedge_pool.errors import CallTimeout
from wasmedge_pool.messages import Message
from wasmedge_pool.request import Request
from wasmedge_pool.stats import CallRecord, Durations, Histogram, Outcome

if TYPE_CHECKING:
    from wasmedge_pool.hosting import HostFunctions
    from wasmedge_pool.mailbox import Mailbox
    from wasmedge_pool.sizing import PoolWorker
    from wasmedge_runtime.values import ExternRef

__all__ = ["Expiries", "Ledger", "PoolCall"]

# How many durations are kept before they are sorted into buckets.
_BATCH = 1024

_log = logging.getLogger("wasmedge")


class PoolCall(Request):
    """A call that any worker of a pool may have, or what waits in the queue like one.

    Args:
        message: as in `Request`.
        function: what is called, for the record.
        timeout: seconds of running time, None for no limit.
        queue_timeout: seconds that it may wait for its beginning, None for no limit.
    """

    expires: float | None = None
    """When it is to have begun."""
    late = False
    """It is past its time, and fails if it is called back."""
    holder: Mailbox | None = None
    """The mailbox of the worker that waits for the host function that made it."""
    worker: PoolWorker | None = None
    """Where it was sent last."""

    bounded = True
    """Whether it counts for `max_queue`."""

    def __init__(
        self,
        message: Message,
        function: str,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        hosts: HostFunctions | None = None,
        references: Sequence[ExternRef] = (),
    ) -> None:
        Request.__init__(self, message, None, timeout, hosts=hosts, references=references)
        self.function = function
        self.made = monotonic()
        if queue_timeout is not None:
            self.expires = self.made + queue_timeout

    def expire(self) -> None:
        """Fail, because it has not begun in time."""
        if self.expires is not None:
            self.fail(
                CallTimeout(
                    f"the call of {self.function!r} had not begun after its queue_timeout of "
                    f"{self.expires - self.made:g} s: the workers of the pool are busy"
                )
            )


class Expiries:
    """Ends calls that wait too long: one heap, one timer.

    Args:
        expired: called with each call that is not done at its time.
    """

    def __init__(self, expired: Callable[[PoolCall], None]) -> None:
        self._expired = expired
        self._heap: list[tuple[float, int, PoolCall]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._crowded = 64

    def add(self, call: PoolCall) -> None:
        """Watch over a call that has a time."""
        assert call.expires is not None
        heap = self._heap
        self._number += 1
        heapq.heappush(heap, (call.expires, self._number, call))
        if len(heap) > self._crowded:
            # Most calls are done long before their time.
            heap[:] = [entry for entry in heap if not entry[2].future.done()]
            heapq.heapify(heap)
            self._crowded = 2 * len(heap) + 64
        if self._timer is None or heap[0][2] is call:
            self.stop()
            self._arm()

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        delay = max(self._heap[0][0] - monotonic(), 0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        heap = self._heap
        now = monotonic()
        while heap and (heap[0][0] <= now or heap[0][2].future.done()):
            call = heapq.heappop(heap)[2]
            if not call.future.done():
                self._expired(call)
        if heap:
            self._arm()


class Ledger:
    """What became of the calls of a pool. A call costs it less than half a microsecond.

    Args:
        on_call: called with each call that has ended; what it raises is logged.
    """

    def __init__(self, on_call: Callable[[CallRecord], object] | None) -> None:
        self.made = 0
        self.unbounded = 0
        """How many of the calls that have not ended are of a `map` or an `execute_many`."""
        self.refused = 0
        self._completed = 0
        self._others: dict[Outcome, int] = {"failed": 0, "cancelled": 0, "timed_out": 0}
        self._queue_time = Durations()
        self._run_time = Durations()
        # Of calls that completed: seconds altogether, and nanoseconds that the worker says.
        self._totals: list[float] = []
        self._spent: list[int] = []
        self._on_call = on_call

    @property
    def ended(self) -> dict[Outcome, int]:
        """How many calls have ended, by outcome."""
        return {"completed": self._completed, **self._others}

    @property
    def open(self) -> int:
        """How many calls have not ended."""
        return self.made - self._completed - sum(self._others.values())

    def times(self) -> tuple[Histogram, Histogram]:
        """How long ended calls waited, and how long they ran."""
        self._sort()
        return self._queue_time.snapshot(), self._run_time.snapshot()

    def complete(self, call: PoolCall) -> None:
        """Note that a call has returned."""
        self._completed += 1
        totals = self._totals
        totals.append(monotonic() - call.made)
        self._spent.append(call.spent)
        if call.worker is not None:
            call.worker.calls += 1
        if len(totals) >= _BATCH:
            self._sort()
        if self._on_call is not None:
            ran = min(call.spent * 1e-9, monotonic() - call.made)
            self._report(call, "completed", 1, monotonic() - call.made - ran, ran)

    def _sort(self) -> None:
        totals, self._totals = self._totals, []
        # No longer than the whole: the worker's clock may be its fancy.
        runs = [min(ns * 1e-9, total) for ns, total in zip(self._spent, totals, strict=True)]
        self._spent.clear()
        self._run_time.add(runs)
        self._queue_time.add([total - ran for ran, total in zip(runs, totals, strict=True)])

    def end(self, call: PoolCall, outcome: Outcome) -> None:
        """Note that a call has ended in another way."""
        self._others[outcome] += 1
        waited = monotonic() - call.made
        ran = 0.0
        if call.number:
            # A worker that ended could not say how long.
            ran = min(call.spent * 1e-9, waited)
            waited -= ran
            self._run_time.add([ran])
            if call.worker is not None:
                call.worker.calls += 1
        self._queue_time.add([waited])
        if self._on_call is not None:
            self._report(call, outcome, 1, waited, ran)

    def end_many(
        self, call: PoolCall, outcome: Outcome, count: int, waited: float, ran: float
    ) -> None:
        """Note that `count` calls have ended that were sent as one; `ran` is for each of them."""
        if not count:
            return
        if outcome == "completed":
            self._completed += count
        else:
            self._others[outcome] += count
        self._queue_time.add_many(waited, count)
        self._run_time.add_many(ran, count)
        if call.worker is not None:
            call.worker.calls += count
        if self._on_call is not None:
            self._report(call, outcome, count, waited, ran)

    def _report(
        self, call: PoolCall, outcome: Outcome, count: int, waited: float, ran: float
    ) -> None:
        pid = call.worker.mailbox.pid if call.number and call.worker is not None else 0
        record = CallRecord(call.function, outcome, count, waited, ran, pid)
        try:
            assert self._on_call is not None
            self._on_call(record)
        except Exception:
            _log.exception("the hook of a pool (on_call) raised; the call is not affected")
