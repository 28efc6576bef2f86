"""The seam between a mailbox and wherever its worker runs: start, send, receive, stop.

`process.WorkerProcess` is the one there is. Another could reach a worker on another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from wasmedge_pool.errors import WorkerDied
from wasmedge_pool.messages import Message

__all__ = ["Backend", "Death", "Receiver"]


class Death(NamedTuple):
    """How a worker ended.

    `exit_code` or `signal` is None; `running` is the number of the last request it began, or None
    where that cannot be known; `reason` is what the parent or the worker itself had to say; `page`
    is a copy of what it noted, see `wasmedge_pool.page`, or None.
    """

    pid: int
    exit_code: int | None
    signal: int | None
    running: int | None
    reason: str | None
    page: bytes | None = None

    @property
    def cause(self) -> str:
        """The same in words."""
        ended = f"exit code {self.exit_code}" if self.signal is None else f"signal {self.signal}"
        return ended if self.reason is None else f"{ended}: {self.reason}"

    def error(self) -> WorkerDied:
        """What a call raises that was running; a new one for each."""
        return WorkerDied(self.pid, self.exit_code, self.signal, self.reason)


class Receiver(Protocol):
    """What a backend reports to. All calls come from the event loop."""

    def received(self, messages: list[Message]) -> None:
        """Take messages, checked field by field, in the order in which they were sent.

        Raises `ProtocolError` when they make no sense; the backend then ends the worker.
        """

    def skipped(self, number: int) -> None:
        """Take notice that an interrupted or withdrawn request had not begun and will not.

        Raises `ProtocolError` as `received`.
        """

    def writable(self) -> None:
        """Take notice that `Backend.congested` has become False."""

    def lost(self, death: Death) -> None:
        """Take notice that the worker has ended. The last call, made exactly once."""


class Backend(Protocol):
    """One worker."""

    @property
    def pid(self) -> int:
        """The worker's process, 0 before it has one."""

    @property
    def congested(self) -> bool:
        """Whether the worker is behind with reading, so that sending should pause."""

    async def start(self, receiver: Receiver) -> None:
        """Start the worker and return when it is ready.

        Raises `WorkerDied` when it ends, or is not ready in time; `lost` is not called then.
        """

    def send(self, frames: bytes) -> None:
        """Send whole frames. Never blocks; nothing happens when the worker has ended."""

    def interrupt(self, number: int) -> None:
        """Ask the worker to end the request: it is answered or `skipped`."""

    def withdraw(self, number: int) -> None:
        """Ask the worker to skip the request if it has not begun: then it is `skipped`."""

    def send_descriptors(self, number: int, descriptors: Sequence[int]) -> bool:
        """Send descriptors for a request that is about to be sent; False when there is no room for
        them just now."""

    def ask_now(self, datagram: bytes) -> bytes:
        """Send a question about the memory of the host call that is open, and block until it is
        answered, for a second at most.

        Raises `WasmEdgeError` when it is not; the worker is then killed.
        """

    def running(self) -> int | None:
        """Return the number of the last request the worker began, None when unknown."""

    def finish(self) -> None:
        """Ask the worker to end when it has done what was sent. `lost` follows."""

    def kill(self, reason: str) -> None:
        """End the worker now. `lost` follows."""
