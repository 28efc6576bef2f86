"""A mailbox: the requests of one worker, in order, with their cancellation and deadlines.

A request is *queued* here, then *sent*, then *ended* by its answer, by `skipped`, or by the
worker's death. Sending ahead is what makes thousands of calls in flight quick; that the worker
runs them in order, one at a time, and notes which one it has begun is what keeps it exact: after
a crash, the call that was running fails with `WorkerDied`, and those behind it never ran.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import anyio

from wasmedge_pool.backend import Backend, Death
from wasmedge_pool.errors import CallTimeout, PoolClosed, WorkerDied, error_from_wire
from wasmedge_pool.home import forks
from wasmedge_pool.hosting import HostCallScope, host_error
from wasmedge_pool.messages import (
    MAX_ARRAY,
    NESTED,
    BatchError,
    BatchResults,
    Data,
    Failure,
    HostCall,
    HostReply,
    Items,
    Log,
    Message,
    ProtocolError,
    Release,
    Result,
    Skipped,
    Unreferenced,
)
from wasmedge_pool.protocol import address, chunks, encode
from wasmedge_pool.references import References
from wasmedge_pool.request import Patient, Placeholder, Request
from wasmedge_pool.values import from_wire
from wasmedge_runtime.errors import ErrCode, HostFunctionError, WasmEdgeError
from wasmedge_runtime.state import VMState
from wasmedge_runtime.values import ExternRef

__all__ = ["GRACE_SECONDS", "Mailbox"]

# An interrupted guest ends within milliseconds. What has not ended after this is stuck in native
# code, and its worker is killed.
GRACE_SECONDS = 1.0

# A timer that is late, because the event loop was busy, may come before what has arrived meanwhile
# is read. So nothing is killed by the first timer, but this long after it.
_READ_SECONDS = 0.05

# How long to wait when the control socket is full.
_FULL_SECONDS = 0.01

# The most requests that are sent and not answered. More would only lie in the socket's buffer.
WINDOW = 1024

_ANSWERS = (Result, Failure, Items, Data, BatchResults, BatchError, HostCall, Skipped)
_LAST_STATE = max(VMState)

# What one answer may consist of, so that an endless one does not fill the parent's memory.
_MAX_ITEMS = 1_000_000


class Mailbox:
    """The requests of one worker.

    Args:
        backend: the worker, not yet started.
        on_lost: called once when the worker has ended, with the requests that it did not begin.
        on_progress: called after answers have arrived.
        on_returned: called with a request that `call_back` has brought back.
        on_answered: called with each request that the worker has answered, before its future is
            done.
    """

    def __init__(
        self,
        backend: Backend,
        on_lost: Callable[[Death, list[Request]], None],
        on_progress: Callable[[], None] | None = None,
        on_returned: Callable[[Request], None] | None = None,
        on_answered: Callable[[Request], None] | None = None,
    ) -> None:
        self._backend = backend
        self._on_lost = on_lost
        self._on_progress = on_progress
        self._on_returned = on_returned
        self._on_answered = on_answered
        self._queue: deque[Request] = deque()
        self._sent: deque[Request] = deque()
        self._nested: dict[int, Request] = {}  # requests of host functions, by number
        self._number = 0
        self._nested_number = NESTED
        self._host_call = 0  # the number of the last one
        self._bulk: Iterator[bytes] | None = None  # of the first request in the queue
        self._ready = False
        self._forks = forks()
        self._killed: str | None = None
        self._gone = False
        self._flush_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._head_since = 0.0  # when the first sent request became the first
        self._released: dict[int, list[int]] = {}  # handles that nobody has any more, by VM
        self.references = References()
        """The objects that the worker may hold."""

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

    def submit(self, request: Request, within: HostCallScope | None = None) -> None:
        """Put a request at the end of the queue, or have it run at once, inside of a host function
        that waits for it. Never waits."""
        request.owner = self
        if self._gone:  # since whoever chose it looked
            request.fail(WorkerDied(self.pid, None, None, "it ended before it came to this"))
            return
        if within is not None:
            self._send_within(within, request)
            return
        self._queue.append(request)
        if not self._ready or self._flush_scheduled:
            return
        if self._sent:
            # Once per turn of the event loop: a thousand calls leave with one write.
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
        else:
            self._flush()  # the worker has nothing to do

    def reply(self, reply: HostReply, objects: Sequence[ExternRef]) -> None:
        """Let a guest go on that waits for a host function."""
        self.references.sent(objects)
        self._backend.send(encode(reply))

    def interrupt(self, request: Request) -> None:
        """Ask for the end of a request, without waiting for it."""
        if request.open:
            self._backend.interrupt(request.number)

    def ask_now(self, datagram: bytes) -> bytes:
        """Have the worker's watchdog answer, and block until it has; for plain host functions.

        Raises:
            WasmEdgeError: it does not; it is then killed.
        """
        return self._backend.ask_now(datagram)

    def release(self, vm: int, handle: int) -> None:
        """Let the worker forget a handle. From any thread: the garbage collector calls it."""
        if not self._gone and self._forks == forks():
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._release, vm, handle)

    def _release(self, vm: int, handle: int) -> None:
        if not self._released:
            self._loop.call_soon(self._send_released)
        self._released.setdefault(vm, []).append(handle)

    def _send_released(self) -> None:
        released, self._released = self._released, {}
        if self._ready and not self._gone:
            for vm, handles in released.items():
                for start in range(0, len(handles), MAX_ARRAY):
                    part = tuple(handles[start : start + MAX_ARRAY])
                    self._backend.send(encode(Release(vm, part)))

    async def stopped(self, request: Request) -> None:
        """Interrupt a request whose future is done, and wait until it cannot run any more."""
        if not request.open:
            if request.descriptors is not None:
                request.descriptors.close_child()
            return  # in the queue, where `_flush` drops it
        if self._forks != forks():
            return  # a fork of the parent, to which nobody answers
        if request.ended is not None:
            with anyio.CancelScope(shield=True):
                await request.ended  # somebody has interrupted it
            return
        request.ended = Patient()
        self._backend.interrupt(request.number)
        timer = self._loop.call_later(GRACE_SECONDS, self._insist, request)
        # The scope keeps anyio from cancelling again in every turn of the event loop.
        with anyio.CancelScope(shield=True):
            await request.ended
        timer.cancel()

    def _insist(self, request: Request, again: bool = False) -> None:
        """Kill the worker if the interrupted request is what it is running, when asked again."""
        if request.ended is None or request.ended.done() or self._gone:
            return
        if request.number < NESTED and not (self._sent and self._sent[0] is request):
            self._loop.call_later(GRACE_SECONDS, self._insist, request)
        elif not again:
            self._loop.call_later(_READ_SECONDS, self._insist, request, True)
        else:
            self._backend.kill(
                f"the call did not stop within {GRACE_SECONDS} s of being interrupted"
            )

    def finish(self) -> None:
        """Let the worker end when it has answered what was sent."""
        self._backend.finish()

    def kill(self, reason: str, verdict: Exception | None = None) -> None:
        """End the worker now.

        Args:
            reason: goes into `WorkerDied`.
            verdict: what the request that is running fails with instead.
        """
        for request in (*self._sent, *self._nested.values()):
            request.verdict = request.verdict or verdict
        self._killed = reason
        self._backend.kill(reason)

    def call_back(self) -> None:
        """Ask for what has been sent behind the request that is running: see `on_returned`."""
        for position, request in enumerate(self._sent):
            if position and request.open and request.vm is None and not request.called_back:
                request.called_back = True
                self._backend.withdraw(request.number)

    @property
    def in_host_call(self) -> bool:
        """Whether the request that is running waits for a host function."""
        return bool(self._sent) and self._sent[0].in_host_call

    @property
    def current(self) -> Request | None:
        """The request that is running, or the next to run; None when there is none."""
        return self._sent[0] if self._sent else None

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
            if request.descriptors is not None and not backend.send_descriptors(
                self._number + 1, request.descriptors.child
            ):
                self._loop.call_later(_FULL_SECONDS, self._flush)
                break
            queue.popleft()
            self._number += 1
            request.number = self._number
            self._leaves(request)
            frames.append(address(request.frame, self._number))
            if not sent:
                self._head_since = self._loop.time()
            sent.append(request)
            if request.timeout is not None and self._timer is None:
                self._arm(request.timeout)
        if frames:
            backend.send(b"".join(frames))

    def _leaves(self, request: Request) -> None:
        request.open = True
        request.called_back = False
        if request.references:
            self.references.sent(request.references)
        if request.descriptors is not None:
            request.descriptors.close_child()

    def _send_within(self, scope: HostCallScope, request: Request) -> None:
        """Send a request past the queue: the worker is waiting for this host function."""
        self._nested_number += 1
        number = request.number = self._nested_number
        descriptors = request.descriptors
        if descriptors is not None and not self._backend.send_descriptors(
            number, descriptors.child
        ):
            request.fail(WasmEdgeError(ErrCode.RuntimeError, "the worker takes no descriptors now"))
            return
        self._leaves(request)
        request.within = scope.number
        self._nested[number] = request
        bulk = () if request.bulk is None else chunks(request.bulk)
        self._backend.send(b"".join([scope.marker, *bulk, address(request.frame, number)]))
        if request.timeout is not None:
            delay = request.timeout + GRACE_SECONDS
            first = self._first_within(request)
            self._loop.call_later(delay, self._check_nested_deadline, request, first)

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
        self._loop.call_later(_READ_SECONDS, self._overdue, head)

    def _check_nested_deadline(self, request: Request, was_first: bool) -> None:
        """Check whether a request is overdue that was the first of its host call when its time was
        looked at before: then it has been running since."""
        if not request.open or self._gone or request.timeout is None:
            return
        if was_first:
            self._loop.call_later(_READ_SECONDS, self._overdue, request)
        else:
            delay = request.timeout + GRACE_SECONDS
            first = self._first_within(request)
            self._loop.call_later(delay, self._check_nested_deadline, request, first)

    def _first_within(self, request: Request) -> bool:
        """Whether a nested request is what its host call runs, or is to run next."""
        return all(
            other.within != request.within or other.number >= request.number
            for other in self._nested.values()
        )

    def _overdue(self, request: Request) -> None:
        if request.open and request.owner is self and not self._gone:
            request.verdict = CallTimeout()
            self._backend.kill("a call did not stop after its timeout")

    # --- Answers ----------------------------------------------------------------------------------

    def received(self, messages: list[Message]) -> None:
        """Take the worker's messages; see `Receiver`."""
        sent = self._sent
        head = self.head
        for message in messages:
            if type(message) is Result and sent and sent[0].number == message.id:
                # Nearly all of them: the checks below take a microsecond.
                self._take_answer(sent[0], message)
                continue
            if isinstance(message, Log):
                _log(message)
                continue
            if isinstance(message, Unreferenced):
                for number, count in message.objects:
                    self.references.dropped(number, count)
                continue
            if not isinstance(message, _ANSWERS):
                raise ProtocolError(f"a {type(message).__name__} out of order")
            if sent and sent[0].number == message.id:
                request = sent[0]
            elif message.id in self._nested:
                request = self._nested[message.id]
            else:
                raise ProtocolError(f"an answer to request {message.id}, which it was not running")
            if isinstance(message, Result | Failure):
                self._take_answer(request, message)
            elif isinstance(message, HostCall):
                self._take_host_call(request, message)
            elif isinstance(message, Skipped):
                self.skipped(message.id)
                self._remove(message.id)
            else:
                _take_part(request, message)
        if self.head != head:
            self._head_since = self._loop.time()
        if self._queue:
            self._flush()
        if self._on_progress is not None:
            self._on_progress()

    def _remove(self, number: int) -> None:
        if number >= NESTED:
            self._nested.pop(number, None)
        else:
            self._sent.popleft()

    def _take_answer(self, request: Request, message: Result | Failure) -> None:
        if message.state > _LAST_STATE:
            raise ProtocolError(f"a VM in the state {message.state}")
        values: list[Any] = []
        error: Exception | None = None
        if isinstance(message, Failure):
            error = error_from_wire(message.error)
            if isinstance(error, HostFunctionError) and request.host_error is not None:
                error = host_error(request.host_error)
                request.host_error = None
        else:
            try:
                values = from_wire(message.values, self.references.get)
            except WasmEdgeError as closed:
                error = closed
            if request.exact and request.room:
                raise ProtocolError(f"{request.room} bytes less than were asked for")
            if request.parse is not None:
                values = _parsed(request.parse, values)
        self._remove(message.id)
        if request.vm is not None:
            request.vm.state = message.state
        request.spent = message.spent
        if self._on_answered is not None:
            self._on_answered(request)
        if error is None:
            request.finish(values)
        else:
            request.fail(error)

    def _take_host_call(self, request: Request, message: HostCall) -> None:
        if request.hosts is None or request.in_host_call or message.call <= self._host_call:
            raise ProtocolError(f"host call {message.call} out of order")
        request.hosts.check(message)
        self._host_call = message.call
        request.begun = True
        # If nobody waits for it any more, it is being interrupted.
        if not request.future.done():
            request.call_host(message)

    def skipped(self, number: int) -> None:
        """Note that a request has not begun and will not; see `Receiver`."""
        if number >= NESTED:
            request = self._nested.get(number) or Placeholder(number)
        else:
            if number > self._number:
                raise ProtocolError(f"request {number} skipped, which it did not have")
            # Numbers are consecutive.
            position = number - (self.head or self._number + 1)
            if position < 0:
                return  # read from the data socket already
            request = self._sent[position]
        if isinstance(request, Placeholder):
            return  # read from the other socket already, or interrupted after it was called back
        if request.ended is None and not request.called_back:
            raise ProtocolError(f"request {number} skipped, which nobody asked for")
        # Its place in the order stays: the worker answers when it comes to it.
        if number >= NESTED:
            self._nested[number] = Placeholder(number)
        else:
            self._sent[position] = Placeholder(number)
        request.open = False
        request.number = 0
        if request.future.done():
            request.finish([])
        elif self._on_returned is not None:
            self._on_returned(request)

    def lost(self, death: Death) -> None:
        """Fail what was running, hand back what was not; see `Receiver`."""
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        waiting: list[Request] = []
        for request in self._nested.values():
            request.lost(death)
        self._nested.clear()
        for position, request in enumerate(self._sent):
            if isinstance(request, Placeholder):
                continue
            # Where the worker leaves no note, the first one counts as begun.
            begun = request.number <= death.running if death.running is not None else position == 0
            if begun or request.begun or request.future.done():
                request.lost(death)
            else:
                request.open = False
                request.number = 0
                waiting.append(request)
        self._sent.clear()
        self.references.clear()
        waiting += self.withdraw()
        self._on_lost(death, waiting)


def _parsed(parse: Callable[[list[Any]], list[Any]], values: list[Any]) -> list[Any]:
    try:
        return parse(values)
    except Exception as error:
        raise ProtocolError(f"an answer without sense: {error!r}") from error


def _take_part(request: Request, message: Items | Data | BatchResults | BatchError) -> None:
    if isinstance(message, BatchResults | BatchError):
        request.take_batch(message)
    elif isinstance(message, Items):
        if request.items is None:
            raise ProtocolError("Items that nobody asked for")
        request.items += message.items
        if len(request.items) > _MAX_ITEMS:
            raise ProtocolError(f"an answer of more than {_MAX_ITEMS} items")
    else:
        request.room -= len(message.data)
        if request.pieces is None or request.room < 0 or not message.data:
            raise ProtocolError("data that was not asked for")
        request.pieces.append(message.data)


def _log(message: Log) -> None:
    # Only the engine's own loggers: a worker cannot write into others.
    name = message.logger
    if name != "wasmedge" and not name.startswith("wasmedge."):
        raise ProtocolError(f"a record for the logger {name!r}")
    logging.getLogger(name).log(message.level, "%s", message.text)
