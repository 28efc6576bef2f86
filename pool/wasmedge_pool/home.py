"""Where a VM or a pool belongs: one process and one event loop, and what it does when these end.

Its futures, timers and sockets are those of the loop in which it was opened. Anything else would
wait for ever, or disturb the one that they belong to, so it is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["Home", "background", "forks", "running_loop"]

_T = TypeVar("_T")

_forks = 0


def forks() -> int:
    """Return how many forks lie between this process and the one that imported this module."""
    return _forks


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


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


def background(work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """Start a task that belongs to no task of the user.

    When the event loop is closed without a word, the owner is told to close what the task works
    for. Python would tell of the task besides, which the owner cannot know.
    """
    task: Any = asyncio.get_running_loop().create_task(work)
    task._log_destroy_pending = False
    return task  # type: ignore[no-any-return]


class Home:
    """The process and the event loop that something belongs to: those that run now.

    Args:
        what: "VM" or "pool", for messages.

    Raises:
        RuntimeError: no event loop is running that could drive workers.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._loop = running_loop()
        self._forks = _forks
        self._guard: AsyncGenerator[None, None] | None = None

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one it belongs to."""
        return self._forks != _forks

    @property
    def over(self) -> bool:
        """Whether the event loop has been closed."""
        return self._loop.is_closed()

    def check(self) -> None:
        """Refuse other processes and other event loops.

        Raises:
            RuntimeError: this is another.
        """
        if self._forks != _forks:
            raise RuntimeError(
                f"this {self._what} belongs to the process that this one was forked from: "
                "open another one here"
            )
        if running_loop() is self._loop:
            return
        if self._loop.is_closed():
            raise RuntimeError(
                f"this {self._what} belongs to an event loop that has been closed: "
                "open another one in this loop"
            )
        raise RuntimeError(
            f"this {self._what} belongs to another event loop: use it in the loop it was opened "
            "in (from other threads by asyncio.run_coroutine_threadsafe), or open another one here"
        )

    def run(self, function: Callable[[], None]) -> None:
        """Call a function, from any thread: in the event loop while that runs, else at once."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop and self._loop.is_running():
            with contextlib.suppress(RuntimeError):  # it has been closed in this moment
                self._loop.call_soon_threadsafe(function)
                return
        function()

    async def watch(self, end: Callable[[], Awaitable[None]]) -> None:
        """Have `end` awaited when the event loop is shut down before `leave`.

        `asyncio.run` closes the asynchronous generators that are still open before it closes
        the loop, and so does whatever else ends a loop properly: the last moment in which
        processes can be waited for, and sockets closed.
        """
        if self._guard is not None:
            return
        self._guard = self._until_shutdown(end)
        await anext(self._guard)

    async def _until_shutdown(
        self, end: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if self._guard is not None and not self.forked:
                self._guard = None
                await end()

    def leave(self) -> None:
        """Note that there is nothing left to end. Idempotent."""
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(StopIteration):
                guard.aclose().send(None)
