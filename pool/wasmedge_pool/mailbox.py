"""A mailbox: the requests of one worker, in order, with their cancellation and deadlines.

A request is *queued* here, then *sent*, then *ended* by its answer, by `skipped`, or by the
worker's death. Sending ahead is what makes thousands of calls in flight quick; that the worker
runs them in order, one at a time, and notes which one it has begun is what keeps it exact: after
a crash, the call that was running fails with `WorkerDied`, and those behind it never ran.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import anyio

from wasmedge_pool.backend import Backend, Death
from wasmedge_pool.errors import CallTimeout, PoolClosed, WorkerDied, error_from_wire
from wasmedge_pool.protocol import (
    Failure,
    Items,
    Log,
    Message,
    ProtocolError,
    Result,
    Skipped,
    address,
    chunks,
    encode,
)
from wasmedge_pool.values import from_wire
from wasmedge_runtime.state import VMState

__all__ = ["GRACE_SECONDS", "Mailbox", "Patient", "Request", "answer", "running_loop"]

# An interrupted guest ends within milliseconds. What has not ended after this is stuck in native
# code, and its worker is killed.
GRACE_SECONDS = 1.0

# The most requests that are sent and not answered. More would only lie in the socket's buffer.
WINDOW = 1024

_ANSWERS = (Result, Failure, Items, Skipped)
_LAST_STATE = max(VMState)

# What one answer may consist of, so that an endless one does not fill the parent's memory.
_MAX_ITEMS = 1_000_000


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        RuntimeError: there is none that can drive workers.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "wasmedge_async needs a running asyncio or uvloop event loop; trio is not supported. "
            'Start with asyncio.run(main()) or anyio.run(main, backend="asyncio").'
        ) from None


class Patient(asyncio.Future[None]):
    """A future that cancelling does not end: whoever waits for it raises by itself afterwards."""

    def cancel(self, msg: Any | None = None) -> bool:
        # True tells the task that the cancellation is taken care of.
        return not self.done()


class Request:
    """One request, from the task that made it to its answer.

    Args:
        message: the message, with the id 0. It is encoded here, in the task that makes it.
        bulk: bytes that travel before it.
        timeout: seconds of running time after which the worker ends it, None for no limit.

    Raises:
        ValueError: the message is too long.
        RuntimeError: no event loop is running that could drive workers.
    """

    __slots__ = (
        "bulk",
        "ended",
        "frame",
        "future",
        "items",
        "number",
        "open",
        "owner",
        "timeout",
        "verdict",
    )

    def __init__(
        self, message: Message, bulk: bytes | None = None, timeout: float | None = None
    ) -> None:
        self.frame = encode(message)
        self.bulk = bulk
        self.timeout = timeout
        self.number = 0  # set when it is sent
        self.open = False  # sent and not answered
        self.owner: Mailbox | None = None  # where it was submitted last
        self.verdict: Exception | None = None  # what it fails with if its worker dies, if not that
        self.future: asyncio.Future[list[Any]] = running_loop().create_future()
        self.ended: Patient | None = None  # somebody waits for the guest to have stopped
        self.items: list[tuple[str, bytes, bytes]] | None = None

    def finish(self, values: list[Any]) -> None:
        """End it with an answer."""
        self.open = False
        if not self.future.done():
            self.future.set_result(values)
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)

    def fail(self, error: Exception) -> None:
        """End it with an error."""
        self.open = False
        if not self.future.done():
            self.future.set_exception(error)
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)


class _Placeholder(Request):
    """Stands in the order for a request that the worker will answer without running it."""

    __slots__ = ()

    def __init__(self, number: int) -> None:
        self.number = number
        self.open = False
        self.timeout = self.verdict = self.items = self.ended = None

    def finish(self, values: list[Any]) -> None:
        """Nobody waits for it."""

    def fail(self, error: Exception) -> None:
        """Nobody waits for it."""


async def answer(request: Request) -> list[Any]:
    """Wait for a submitted request's answer.

    When the task is cancelled, the request leaves the queue or is interrupted, and the
    cancellation goes on when the guest has stopped; further ones change nothing.
    """
    try:
        return await request.future
    except asyncio.CancelledError:
        if not request.future.cancelled():
            request.future.exception()  # the answer came in the same moment: nobody needs it
        elif request.owner is not None:
            await request.owner.stopped(request)
        raise


class Mailbox:
    """The requests of one worker.

    Args:
        backend: the worker, not yet started.
        on_lost: called once when the worker has ended, with the requests that it did not begin.
        on_progress: called after answers have arrived.
        on_returned: called with a request that `call_back` has brought back.
    """

    def __init__(
        self,
        backend: Backend,
        on_lost: Callable[[Death, list[Request]], None],
        on_progress: Callable[[], None] | None = None,
        on_returned: Callable[[Request], None] | None = None,
    ) -> None:
        self._backend = backend
        self._on_lost = on_lost
        self._on_progress = on_progress
        self._on_returned = on_returned
        self._queue: deque[Request] = deque()
        self._sent: deque[Request] = deque()
        self._number = 0
        self._called_back = 0  # up to which number
        self._bulk: Iterator[bytes] | None = None  # of the first request in the queue
        self._ready = False
        self._killed: str | None = None
        self._gone = False
        self._flush_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._head_since = 0.0  # when the first sent request became the first
        self.state = 0
        """The state of the VM at the last answer; a mailbox with many VMs has no use for it."""

    async def start(self) -> None:
        """Start the worker. Requests may be submitted before.

        Raises:
            WorkerDied: it could not be started; so end the requests that were waiting.
        """
        self._loop = asyncio.get_running_loop()
        try:
            if self._killed is not None:
                raise PoolClosed(self._killed)
            await self._backend.start(self)
        except BaseException as error:
            self._gone = True
            reason = error if isinstance(error, Exception) else PoolClosed("start was cancelled")
            for request in self._queue:
                request.fail(reason)
            self._queue.clear()
            raise
        self._ready = True
        self._flush()

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._backend.pid

    @property
    def gone(self) -> bool:
        """Whether the worker has ended, or could not be started."""
        return self._gone

    @property
    def load(self) -> int:
        """The number of requests that are not answered."""
        return len(self._queue) + len(self._sent)

    # --- Making requests --------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Put a request at the end of the queue. Never waits."""
        request.owner = self
        self._queue.append(request)
        if not self._ready or self._flush_scheduled:
            return
        if self._sent:
            # Once per turn of the event loop: a thousand calls leave with one write.
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
        else:
            self._flush()  # the worker has nothing to do

    async def stopped(self, request: Request) -> None:
        """Interrupt a request whose future is done, and wait until it cannot run any more."""
        if not request.open:
            return  # in the queue, where `_flush` drops it
        request.ended = Patient()
        self._backend.interrupt(request.number)
        timer = self._loop.call_later(GRACE_SECONDS, self._insist, request)
        # The scope keeps anyio from cancelling again in every turn of the event loop.
        with anyio.CancelScope(shield=True):
            await request.ended
        timer.cancel()

    def _insist(self, request: Request) -> None:
        """Kill the worker if the interrupted request is what it is running."""
        if request.ended is None or request.ended.done() or self._gone:
            return
        if self._sent and self._sent[0] is request:
            self._backend.kill(
                f"the call did not stop within {GRACE_SECONDS} s of being interrupted"
            )
        else:
            self._loop.call_later(GRACE_SECONDS, self._insist, request)

    def finish(self) -> None:
        """Let the worker end when it has answered what was sent."""
        self._backend.finish()

    def kill(self, reason: str, verdict: Exception | None = None) -> None:
        """End the worker now.

        Args:
            reason: goes into `WorkerDied`.
            verdict: what the request that is running fails with instead.
        """
        for request in self._sent:
            request.verdict = request.verdict or verdict
        self._killed = reason
        self._backend.kill(reason)

    def call_back(self) -> None:
        """Ask for what has been sent behind the request that is running: see `on_returned`."""
        for position, request in enumerate(self._sent):
            if position and request.open and request.number > self._called_back:
                self._called_back = request.number
                self._backend.withdraw(request.number)

    @property
    def head(self) -> int:
        """The number of the request that is running, or the next to run; 0 when there is none."""
        return self._sent[0].number if self._sent else 0

    def withdraw(self) -> list[Request]:
        """Take back what has not been sent."""
        requests = [request for request in self._queue if not request.future.done()]
        self._queue.clear()
        self._bulk = None
        return requests

    # --- Sending ----------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_scheduled = False
        if not self._ready or self._gone:
            return
        queue, sent, backend = self._queue, self._sent, self._backend
        frames: list[bytes] = []
        while queue and len(sent) < WINDOW and not backend.congested:
            request = queue[0]
            if request.future.done():
                queue.popleft()  # cancelled while it waited, or while its bulk was sent
                self._bulk = None
                continue
            if request.bulk is not None:
                # Written piece by piece: each write may tell that the worker is behind.
                if self._bulk is None:
                    self._bulk = chunks(request.bulk)
                piece = next(self._bulk, None)
                if piece is not None:
                    frames.append(piece)
                    backend.send(b"".join(frames))
                    frames.clear()
                    continue
                self._bulk = None
            queue.popleft()
            self._number += 1
            request.number = self._number
            request.open = True
            frames.append(address(request.frame, self._number))
            if not sent:
                self._head_since = self._loop.time()
            sent.append(request)
            if request.timeout is not None and self._timer is None:
                self._arm(request.timeout)
        if frames:
            backend.send(b"".join(frames))

    def writable(self) -> None:
        """Go on sending; see `Receiver`."""
        self._flush()

    # --- Deadlines: the worker has its own timer, this one is for a worker that does not react ----

    def _arm(self, delay: float) -> None:
        self._timer = self._loop.call_later(max(delay, 0) + GRACE_SECONDS, self._check_deadline)

    def _check_deadline(self) -> None:
        self._timer = None
        if self._gone:
            return
        timeouts = [r.timeout for r in self._sent if r.timeout is not None]
        if not timeouts:
            return
        head = self._sent[0]
        if head.timeout is None:
            self._arm(min(timeouts))
            return
        left = self._head_since + head.timeout - self._loop.time()
        if left + GRACE_SECONDS > 0:
            self._arm(left)
            return
        head.verdict = CallTimeout()
        self._backend.kill("a call did not stop after its timeout")

    # --- Answers ----------------------------------------------------------------------------------

    def received(self, messages: list[Message]) -> None:
        """Take the worker's messages; see `Receiver`."""
        sent = self._sent
        for message in messages:
            if isinstance(message, Log):
                _log(message)
                continue
            if not isinstance(message, _ANSWERS):
                raise ProtocolError(f"a {type(message).__name__} out of order")
            if not sent or sent[0].number != message.id:
                raise ProtocolError(f"an answer to request {message.id}, which it was not running")
            if isinstance(message, Result):
                self._take_state(message.state)
                sent.popleft().finish(from_wire(message.values))
            elif isinstance(message, Failure):
                error = error_from_wire(message.error)
                self._take_state(message.state)
                sent.popleft().fail(error)
            elif isinstance(message, Items):
                self._take_items(sent[0], message)
            else:
                self.skipped(message.id)
                sent.popleft()
        self._head_since = self._loop.time()
        if self._queue:
            self._flush()
        if self._on_progress is not None:
            self._on_progress()

    def _take_state(self, state: int) -> None:
        if state > _LAST_STATE:
            raise ProtocolError(f"a VM in the state {state}")
        self.state = state

    def _take_items(self, request: Request, message: Items) -> None:
        if request.items is None:
            raise ProtocolError("Items that nobody asked for")
        request.items += message.items
        if len(request.items) > _MAX_ITEMS:
            raise ProtocolError(f"an answer of more than {_MAX_ITEMS} items")

    def skipped(self, number: int) -> None:
        """Note that a request has not begun and will not; see `Receiver`."""
        # Numbers are consecutive.
        if number > self._number:
            raise ProtocolError(f"request {number} skipped, which it did not have")
        position = number - (self.head or self._number + 1)
        if position < 0:
            return  # read from the data socket already
        request = self._sent[position]
        if isinstance(request, _Placeholder):
            return  # read from the other socket already, or interrupted after it was called back
        if request.ended is None and number > self._called_back:
            raise ProtocolError(f"request {number} skipped, which nobody asked for")
        # Its place in the order stays: the worker answers when it comes to it.
        self._sent[position] = _Placeholder(number)
        request.open = False
        request.number = 0
        if request.future.done():
            if request.ended is not None and not request.ended.done():
                request.ended.set_result(None)
        elif self._on_returned is not None:
            self._on_returned(request)

    def lost(self, death: Death) -> None:
        """Fail what was running, hand back what was not; see `Receiver`."""
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        waiting: list[Request] = []
        for position, request in enumerate(self._sent):
            if isinstance(request, _Placeholder):
                continue
            # Where the worker leaves no note, the first one counts as begun.
            begun = request.number <= death.running if death.running is not None else position == 0
            if begun or request.future.done():
                died = WorkerDied(death.pid, death.exit_code, death.signal, death.reason)
                request.fail(request.verdict or died)
            else:
                request.open = False
                request.number = 0
                waiting.append(request)
        self._sent.clear()
        waiting += self.withdraw()
        self._on_lost(death, waiting)


def _log(message: Log) -> None:
    # Only the engine's own loggers: a worker cannot write into others.
    name = message.logger
    if name != "wasmedge" and not name.startswith("wasmedge."):
        raise ProtocolError(f"a record for the logger {name!r}")
    logging.getLogger(name).log(message.level, "%s", message.text)
