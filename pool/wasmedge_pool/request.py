"""A request: what one call is for the parent, from the task that makes it to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from wasmedge_pool.home import running_loop
from wasmedge_pool.messages import BatchError, BatchResults, HostCall, Message, ProtocolError
from wasmedge_pool.protocol import encode

if TYPE_CHECKING:
    from wasmedge_pool.backend import Death
    from wasmedge_pool.hosting import HostCallScope, HostFunctions
    from wasmedge_pool.mailbox import Mailbox
    from wasmedge_runtime.values import ExternRef

__all__ = ["Descriptors", "Patient", "Placeholder", "Request", "Target", "answered"]

# Copying more pieces than these would hold the event loop up for more than a millisecond.
_FEW_PIECES = 8


class Target(Protocol):
    """The parent's picture of one VM in a worker."""

    state: int
    """The VM's state at its last answer."""


class Descriptors(Protocol):
    """Descriptors that go to the worker with a request."""

    child: list[int]
    """The descriptors, of this process."""

    def close_child(self) -> None:
        """Close them; called when they have been sent, or never will be. Idempotent."""


class Patient(asyncio.Future[None]):
    """A future that cancelling does not end: whoever waits for it raises by itself afterwards."""

    def cancel(self, msg: Any | None = None) -> bool:
        # True tells the task that the cancellation is taken care of.
        return not self.done()


async def answered(request: Request) -> None:
    """Wait for an answer that others need too: when this is cancelled, the request is not."""
    await asyncio.wait([request.future])
    request.future.result()


class Request:
    """One request, from the task that made it to its answer.

    Args:
        message: the message, with the id 0. It is encoded here, in the task that makes it.
        bulk: bytes that travel before it.
        timeout: seconds of running time after which the worker ends it, None for no limit.
        vm: the VM that it is for; None when any worker of a pool may have it.
        hosts: the host functions that it may call.
        references: the objects among its arguments.
        descriptors: travel with it.

    Raises:
        ValueError: the message is too long.
        RuntimeError: no event loop is running that could drive workers.
    """

    # What most requests never have is set in the class: a request costs the event loop's thread
    # about a microsecond.
    bulk: bytes | None = None
    timeout: float | None = None
    vm: Target | None = None
    hosts: HostFunctions | None = None
    references: Sequence[ExternRef] = ()
    descriptors: Descriptors | None = None
    number = 0
    """Set when it is sent."""
    open = False
    """Sent and not answered."""
    begun = False
    """Its guest has called a host function, whatever the worker says of how far it came."""
    called_back = False
    """The worker was asked to skip it if it has not begun."""
    owner: Mailbox | None = None
    """Where it was submitted last."""
    verdict: Exception | None = None
    """What it fails with when its worker dies, if not with that."""
    ended: Patient | None = None
    """Somebody waits for the guest to have stopped."""
    spent = 0
    """Nanoseconds that it ran, once it is answered."""
    items: list[tuple[str, bytes, bytes]] | None = None
    """What its answer consists of, if it is to have items."""
    pieces: list[bytes] | None = None
    """What its answer consists of, if it is to have data."""
    room = 0
    """How many bytes of data more it may have."""
    exact = False
    """Whether it is to have all of them."""
    parse: Callable[[list[Any]], list[Any]] | None = None
    """Checks and changes the values of its answer; whatever it raises, the worker is wrong."""
    within = 0
    """The number of the host call that it is made inside of."""
    host_call: HostCall | None = None
    """The host function that its guest waits for, until the task that awaits it takes it up."""
    scope: HostCallScope | None = None
    """That host function, while it runs."""
    host_error: Exception | None = None
    """What the host function raised."""

    def __init__(
        self,
        message: Message,
        bulk: bytes | None = None,
        timeout: float | None = None,
        *,
        vm: Target | None = None,
        hosts: HostFunctions | None = None,
        references: Sequence[ExternRef] = (),
        descriptors: Descriptors | None = None,
    ) -> None:
        self.frame = encode(message)
        self.future: asyncio.Future[list[Any]] = running_loop().create_future()
        self.hosts = hosts
        if bulk is not None:
            self.bulk = bulk
        if timeout is not None:
            self.timeout = timeout
        if vm is not None:
            self.vm = vm
        if references:
            self.references = references
        if descriptors is not None:
            self.descriptors = descriptors

    def want(self, length: int, *, exact: bool = True) -> None:
        """Have it answered with so many bytes of data, or with up to as many."""
        self.pieces = []
        self.room = length
        self.exact = exact

    async def content(self) -> bytes:
        """The data of its answer, in one piece."""
        pieces = self.pieces or []
        if len(pieces) <= _FEW_PIECES:
            return b"".join(pieces)
        # The interpreter lets others run while it copies.
        return await asyncio.to_thread(b"".join, pieces)

    def finish(self, values: list[Any]) -> None:
        """End it with an answer."""
        self._end()
        if not self.future.done():
            self.future.set_result(values)

    def fail(self, error: Exception) -> None:
        """End it with an error."""
        self._end()
        if not self.future.done():
            self.future.set_exception(error)

    def lost(self, death: Death) -> None:
        """End it, because its worker ended while it ran."""
        self.fail(self.verdict or death.error())

    def take_batch(self, part: BatchResults | BatchError) -> None:
        """Take a part of the answer to a `Batch`.

        Raises:
            ProtocolError: it makes no sense.
        """
        raise ProtocolError(f"{type(part).__name__} that nobody asked for")

    def _end(self) -> None:
        self.open = False
        if self.descriptors is not None:
            self.descriptors.close_child()
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)
        if self.scope is not None:
            self.scope.abandon()

    @property
    def in_host_call(self) -> bool:
        """Whether its guest waits for a host function."""
        return self.host_call is not None or self.scope is not None

    def call_host(self, call: HostCall) -> None:
        """Wake the task that awaits it, to run a host function."""
        waiting, self.future = self.future, self.future.get_loop().create_future()
        self.host_call = call
        waiting.set_result([])


class Placeholder(Request):
    """Stands in the order for a request that the worker will answer without running it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def finish(self, values: list[Any]) -> None:
        """Nobody waits for it."""

    def fail(self, error: Exception) -> None:
        """Nobody waits for it."""


def seen(future: asyncio.Future[Any]) -> None:
    """Take the exception of a future that others may not wait for."""
    if future.done() and not future.cancelled():
        future.exception()
