"""Which worker gets which call, and when.

Calls go to the worker with the least to do, and some ahead of time, because a worker that waits
for its next call is idle. When a call turns out to be long, what was sent behind it is called
back and goes to others: the worker's watchdog says for each whether it had begun.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence

from wasmedge_pool.calls import Expiries, PoolCall
from wasmedge_pool.errors import WorkerDied, WouldDeadlock
from wasmedge_pool.hosting import calling_mailbox
from wasmedge_pool.mailbox import Mailbox
from wasmedge_pool.request import Request
from wasmedge_pool.sizing import Crew, PoolWorker

__all__ = ["Claim", "Schedule"]

# How many calls a worker has at a time, the running one included: enough to keep it busy with
# empty calls while the event loop is elsewhere for half a millisecond.
_DEPTH = 64
# A call that runs longer than this or twice this is long.
_LONG_SECONDS = 0.005


class Claim(PoolCall):
    """Waits in the queue for a worker of its own; it is done when it has one."""


class Schedule:
    """The queue of a pool.

    Args:
        crew: the workers.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._queue: deque[PoolCall] = deque()
        self._returned: deque[PoolCall] = deque()  # called back; they go before the queue
        self._expiries = Expiries(_expired)
        # Kept: while a loop runs on in a forked process, it is not what asyncio calls running.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        # How many calls each worker waits for, in a host function.
        self._waited_for: Counter[Mailbox] = Counter()

    @property
    def empty(self) -> bool:
        """Whether no call waits here."""
        return not self._queue and not self._returned

    # --- The queue --------------------------------------------------------------------------------

    def line_up(self, call: PoolCall) -> None:
        """Put a call at the end of the queue. Never waits.

        Raises:
            WouldDeadlock: it could never begin.
        """
        holder = calling_mailbox(self._mailboxes)
        if holder is not None:
            self._enter(call, holder)
        crew = self._crew
        crowded = not self.empty
        self._queue.append(call)
        if call.expires is not None:
            self._expiries.add(call)
        if len(crew.places) < crew.limits.minimum:
            crew.fill()
        if not crowded:  # otherwise there was no room, and whoever makes some dispatches
            self.dispatch()

    def take_back(self, requests: Sequence[Request]) -> None:
        """Put calls that did not begin before all others."""
        for request in requests:
            if not isinstance(request, PoolCall):
                # Of one worker alone: a broadcast, or a tenant's, which knows already.
                request.fail(WorkerDied(0, None, None, "it ended before it came to this"))
            elif request.late:
                request.expire()
            else:
                self._returned.append(request)

    def fail_all(self, error: Exception) -> None:
        """Fail what waits."""
        for call in (*self._returned, *self._queue):
            call.fail(error)
        self._returned.clear()
        self._queue.clear()

    def stop(self) -> None:
        """Stop the timers."""
        self._expiries.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- Handing out ------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Hand out what waits; called whenever there may be room."""
        returned, queue = self._returned, self._queue
        look = False
        while returned or queue:
            source = returned or queue
            call = source[0]
            if call.future.done():
                source.popleft()  # cancelled while it waited
                continue
            if type(call) is Claim:
                if not self._serve(call):
                    look = look or self._crew.may_grow
                    break
                source.popleft()
                continue
            best: PoolWorker | None = None
            least = _DEPTH
            for worker in self._crew.ready:
                mailbox = worker.mailbox
                load = mailbox.load
                if (
                    load < least
                    and not worker.exclusive
                    # Nothing is sent behind a call that is long, or that waits for the host.
                    and not (
                        load
                        and ((worker.long and worker.long == mailbox.head) or mailbox.in_host_call)
                    )
                ):
                    best = worker
                    least = load
            if best is None:
                look = look or self._crew.may_grow
                break
            source.popleft()
            call.worker = best
            best.mailbox.submit(call)
            look = look or least > 0
        if look and self._timer is None:
            self._look_later()

    def _serve(self, claim: Claim) -> bool:
        """Give a claim an idle worker, rather one without tenants; False when there is none."""
        idle = [
            worker
            for worker in self._crew.ready
            if not (worker.exclusive or worker.mailbox.load or worker.successor)
        ]
        if not idle:
            return False
        claim.worker = min(idle, key=lambda worker: len(worker.tenants))
        claim.worker.exclusive = True
        claim.finish([])
        return True

    def _look_later(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_LONG_SECONDS, self._look)

    def _look(self) -> None:
        """Call back what waits behind a long call, or in front of one worker beside an idle one;
        and have more workers if there may be more."""
        self._timer = None
        waiting = len(self._returned) + len(self._queue)
        ready = list(self._crew.ready)
        loads = [worker.mailbox.load for worker in ready if not worker.exclusive]
        idle = not waiting and 0 in loads
        for worker in ready:
            mailbox = worker.mailbox
            head = mailbox.head
            if mailbox.load > 1 and (idle or head == worker.long or mailbox.in_host_call):
                mailbox.call_back()
                for request in mailbox.withdraw():
                    if isinstance(request, PoolCall):
                        self._returned.append(request)
                    else:
                        mailbox.submit(request)
            worker.long = head
        ahead = sum(load - 1 for load in loads if load > 1)
        if waiting + ahead and not idle:
            self._crew.grow(waiting + ahead)
        if ahead or (waiting and self._crew.may_grow):
            self._look_later()
        self.dispatch()

    # --- Calls that host functions of this pool make: their workers wait for them meanwhile -------

    def _mailboxes(self) -> set[Mailbox]:
        return {worker.mailbox for worker in self._crew.working}

    def _enter(self, call: PoolCall, holder: Mailbox) -> None:
        """Note a call that a worker waits for, unless all of them would be waiting then.

        A worker that waits for such a call is free again only when that has run, in a worker that
        does not wait. When each of them waits for one, none of these calls can end.
        """
        ready = self._crew.ready
        if len(ready) >= self._crew.limits.maximum and all(
            worker.mailbox is holder
            or (worker.mailbox.in_host_call and self._waited_for[worker.mailbox])
            for worker in ready
        ):
            raise WouldDeadlock(
                f"a host function called {call.function!r} in its own pool, where it could never "
                f"begin: all workers, {len(ready)} of them, wait for such calls; give the pool "
                "more workers, or let the host function use another pool"
            )
        call.holder = holder
        self._waited_for[holder] += 1

    def leave(self, call: PoolCall) -> None:
        """Note that a call has ended that a worker may have waited for."""
        if call.holder is not None:
            self._waited_for[call.holder] -= 1
            if not self._waited_for[call.holder]:
                del self._waited_for[call.holder]
            call.holder = None


def _expired(call: PoolCall) -> None:
    if not call.open:
        call.expire()
    elif call.owner is not None:
        # Sent ahead. It fails when it comes back; if it has begun, it goes on.
        call.late = True
        call.owner.call_back()
