"""The workers of a pool: how many there are, their start, their replacement, and their end.

A worker is *starting*, then *ready*, then perhaps *retiring*: it finishes what runs, takes nothing
new, and ends. What a worker is for is the owner's business, see `CrewOwner`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from wasmedge_pool.backend import Backend, Death
from wasmedge_pool.errors import PoolClosed
from wasmedge_pool.home import background
from wasmedge_pool.hosting import outlast
from wasmedge_pool.mailbox import Mailbox
from wasmedge_pool.request import Patient, Request
from wasmedge_pool.stats import resident_bytes

__all__ = ["Crew", "CrewOwner", "Limits", "PoolWorker"]

# A worker that could not be started is tried again after this, when there are calls.
_RETRY_SECONDS = 1.0
# How often the resident size of a worker is looked at.
_RSS_SECONDS = 0.1
# Idle workers are looked for so often in the time after which they end.
_SWEEPS = 4


class Limits(NamedTuple):
    """How many workers a pool has, and how long each of them lives.

    Attributes:
        minimum: it always has as many, 1 or more.
        maximum: never more, but for a successor beside the worker that it is to replace.
        idle: seconds after which a worker above the minimum that has nothing to do ends.
        max_calls: a worker that has answered as many is replaced; None for no limit.
        max_rss: a worker that holds more bytes of memory is replaced; None for no limit.
    """

    minimum: int
    maximum: int
    idle: float = 60.0
    max_calls: int | None = None
    max_rss: int | None = None

    def check(self) -> None:
        """Raise `ValueError` when the limits make no sense."""
        if self.minimum < 1:
            raise ValueError(f"a pool needs at least 1 worker, not {self.minimum}")
        if self.maximum < self.minimum:
            raise ValueError(
                f"max_workers is {self.maximum}, which is less than min_workers, {self.minimum}"
            )
        if not self.idle >= 0:
            raise ValueError(f"idle must be 0 or more seconds, not {self.idle!r}")
        if self.max_calls is not None and self.max_calls < 1:
            raise ValueError(f"max_calls must be 1 or more, not {self.max_calls}")
        if self.max_rss is not None:
            if self.max_rss < 1:
                raise ValueError(f"max_rss must be 1 byte or more, not {self.max_rss}")
            if not Path("/proc/self/statm").exists():
                raise ValueError("max_rss needs /proc, which this system does not have")


class PoolWorker:
    """One worker of a pool."""

    def __init__(self) -> None:
        self.mailbox: Mailbox
        self.ready = False
        self.long = 0
        """The number of the call that was running when the pool last looked."""
        self.calls = 0
        self.started = time.time()
        self.touched = time.monotonic()
        """When it last answered."""
        self.tenants: set[Any] = set()
        """The virtual machines with state that live in it; it is not replaced while it has any."""
        self.exclusive = False
        """It takes no calls but those of its tenant."""
        self.predecessor: PoolWorker | None = None
        self.successor: PoolWorker | None = None
        self.cause = ""
        """Why it is replaced."""
        self.setup: list[Any] = []
        """What has been done to it so that it is as the others."""
        self._weighed = 0.0

    def too_heavy(self, limit: int) -> bool:
        """Whether it holds more bytes of memory; looked at now and then only."""
        if self.touched - self._weighed < _RSS_SECONDS:
            return False
        self._weighed = self.touched
        size = resident_bytes(self.mailbox.pid)
        return size is not None and size > limit


class CrewOwner(Protocol):
    """Whom a crew works for. All calls come from the event loop."""

    async def before_start(self) -> None:
        """Do what must be done before a process is started."""

    async def set_up(self, worker: PoolWorker) -> None:
        """Give a worker that has just started what it needs before it takes calls."""

    def worker_ready(self, worker: PoolWorker) -> None:
        """Take notice that a worker can take calls."""

    def worker_progressed(self, worker: PoolWorker) -> None:
        """Take notice that a worker has answered."""

    def worker_failed(self, worker: PoolWorker, error: Exception) -> None:
        """Take notice that a worker could not be started or set up."""

    def worker_lost(self, worker: PoolWorker, death: Death, waiting: Sequence[Request]) -> None:
        """Take notice that a worker that could take calls has ended, and what did not begin."""

    def returned(self, requests: Sequence[Request]) -> None:
        """Take requests back that did not begin."""

    def all_gone(self) -> None:
        """Take notice that there is no process any more."""

    def all_failed(self, error: Exception) -> None:
        """Take notice that there is no worker, and none is being started."""


class Crew:
    """The workers of a pool.

    Args:
        owner: is told what happens.
        limits: checked.
        make_backend: makes a worker.
    """

    def __init__(
        self, owner: CrewOwner, limits: Limits, make_backend: Callable[[], Backend]
    ) -> None:
        limits.check()
        self.limits = limits
        self.restarts: Counter[str] = Counter()
        self.places: list[PoolWorker] = []
        """Workers that start or are ready."""
        self.ready: list[PoolWorker] = []
        """Workers that can take calls."""
        self._owner = owner
        self._make_backend = make_backend
        self._retiring: set[PoolWorker] = set()
        self._living: set[Mailbox] = set()  # whose processes have not ended
        self._tasks: set[asyncio.Task[None]] = set()
        self._retry_at = 0.0
        self._sweep: asyncio.TimerHandle | None = None
        self._all_gone: Patient | None = None
        self._ending = False

    # --- How many ---------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many workers there are or are being started; not those that have a successor."""
        return sum(worker.successor is None for worker in self.places)

    def fill(self) -> None:
        """Start what is missing to the minimum, unless that failed just now."""
        if self._ending or (self.places and time.monotonic() < self._retry_at):
            return
        for _ in range(self.limits.minimum - self.size):
            self._start()

    @property
    def may_grow(self) -> bool:
        """Whether there are fewer workers than there may be."""
        return self.size < self.limits.maximum

    def grow(self, waiting: int) -> None:
        """Start workers for calls that wait, as far as the maximum allows."""
        if self._ending or not self.may_grow or time.monotonic() < self._retry_at:
            return
        starting = sum(not worker.ready for worker in self.places)
        for _ in range(min(waiting - starting, self.limits.maximum - self.size)):
            self._start()

    def _start(self) -> PoolWorker:
        worker = PoolWorker()
        mailbox = worker.mailbox = Mailbox(
            self._make_backend(),
            lambda death, waiting: self._lost(worker, death, waiting),
            lambda: self._progressed(worker),
            lambda request: self._owner.returned([request]),
        )
        self.places.append(worker)
        self._living.add(mailbox)
        # A task of its own: it goes on when the task that happened to need it is cancelled.
        task = background(self._raise(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return worker

    async def _raise(self, worker: PoolWorker) -> None:
        """Start a worker and have it set up."""
        try:
            await self._owner.before_start()
            await worker.mailbox.start()
            await self._owner.set_up(worker)
        except BaseException as raised:
            # The event loop may cancel all tasks, as `asyncio.run` does at its end.
            if isinstance(raised, Exception):
                self._failed(worker, raised)
                return
            self._failed(worker, PoolClosed("starting a worker was cancelled"))
            raise
        worker.ready = True
        worker.touched = time.monotonic()
        self.ready.append(worker)
        predecessor, worker.predecessor = worker.predecessor, None
        if predecessor is not None and predecessor.ready:
            if predecessor.tenants:
                predecessor.successor = None  # somebody has moved in; idle ones end in time
            else:
                self.restarts[predecessor.cause] += 1
                self.retire(predecessor)
        self._sweep_later()
        self._owner.worker_ready(worker)
        for other in list(self.ready):
            self._check(other)

    def _failed(self, worker: PoolWorker, error: Exception) -> None:
        if worker.mailbox.gone:
            self._buried(worker)
        else:
            worker.mailbox.kill(f"the module could not be set up: {error}")
        self.places.remove(worker)
        if worker.predecessor is not None:
            worker.predecessor.successor = None
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        self._owner.worker_failed(worker, error)
        if not self.places:
            self._owner.all_failed(error)

    # --- Replacement ------------------------------------------------------------------------------

    def replace(self, worker: PoolWorker, cause: str) -> None:
        """Start a worker's successor; when that is ready, the worker retires.

        One at a time: a start takes a processor for a tenth of a second.
        """
        if (
            worker.successor is None
            and worker in self.ready
            and not any(place.predecessor is not None for place in self.places)
            and time.monotonic() >= self._retry_at
            and not self._ending
        ):
            worker.cause = cause
            worker.successor = self._start()
            worker.successor.predecessor = worker

    def retire(self, worker: PoolWorker) -> None:
        """Let a ready worker end when it has finished what it runs."""
        self._leave(worker)
        self._retiring.add(worker)
        worker.mailbox.call_back()
        self._owner.returned(worker.mailbox.withdraw())
        self._finish_retiring(worker)

    def _leave(self, worker: PoolWorker) -> None:
        worker.ready = False
        self.ready.remove(worker)
        self.places.remove(worker)

    def _finish_retiring(self, worker: PoolWorker) -> None:
        if not worker.mailbox.load:
            self._retiring.discard(worker)
            worker.mailbox.finish()

    def _progressed(self, worker: PoolWorker) -> None:
        worker.touched = time.monotonic()
        if worker in self._retiring:
            self._finish_retiring(worker)
        else:
            self._check(worker)
        self._owner.worker_progressed(worker)

    def _check(self, worker: PoolWorker) -> None:
        """Replace a worker that has done enough, unless something lives in it."""
        limits = self.limits
        if not worker.ready or worker.tenants:
            return
        if limits.max_calls is not None and worker.calls >= limits.max_calls:
            self.replace(worker, "max_calls")
        elif limits.max_rss is not None and worker.too_heavy(limits.max_rss):
            self.replace(worker, "max_rss")

    def _sweep_later(self) -> None:
        if self._sweep is None and not self._ending and len(self.ready) > self.limits.minimum:
            delay = max(self.limits.idle / _SWEEPS, 0.01)
            self._sweep = asyncio.get_running_loop().call_later(delay, self._end_idle)

    def _end_idle(self) -> None:
        self._sweep = None
        since = time.monotonic() - self.limits.idle
        for worker in list(self.ready):
            if self.size <= self.limits.minimum:
                break
            if worker.touched <= since and not (
                worker.mailbox.load or worker.tenants or worker.exclusive or worker.successor
            ):
                self.retire(worker)
        self._sweep_later()

    # --- The end ----------------------------------------------------------------------------------

    def _lost(self, worker: PoolWorker, death: Death, waiting: list[Request]) -> None:
        self._buried(worker)
        if worker in self._retiring:
            self._retiring.discard(worker)
            self._owner.worker_lost(worker, death, waiting)
        elif worker in self.ready:
            self._leave(worker)
            if not self._ending:
                self.restarts["died"] += 1
            if worker.successor is not None:
                worker.successor.predecessor = None  # it takes the place when it is ready
            self._owner.worker_lost(worker, death, waiting)
        else:
            # They set it up: `_raise` waits for them.
            for request in waiting:
                request.fail(death.error())

    def _buried(self, worker: PoolWorker) -> None:
        self._living.discard(worker.mailbox)
        if not self._living:
            self._owner.all_gone()
        if not self._living and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)

    @property
    def working(self) -> list[PoolWorker]:
        """The workers that are ready or retire."""
        return [*self.ready, *self._retiring]

    def end(self) -> None:
        """Start nothing more; let idle workers end and kill the others."""
        self.stop()
        for worker in list(self.places):
            if worker.ready and not worker.mailbox.load:
                self._leave(worker)
                self._retiring.add(worker)
                worker.mailbox.finish()
            else:
                worker.mailbox.kill("the pool was closed")

    def stop(self) -> None:
        """Start nothing more, and stop the timer."""
        self._ending = True
        if self._sweep is not None:
            self._sweep.cancel()

    def kill(self, reason: str, verdict: Exception | None) -> None:
        """End all workers at once; what runs fails with the verdict."""
        self._ending = True
        for mailbox in self._living:
            mailbox.kill(reason, verdict)

    async def gone(self) -> None:
        """Wait until all processes have ended; a cancellation goes on afterwards."""
        if self._living:
            self._all_gone = self._all_gone or Patient()
            await outlast(self._all_gone)
